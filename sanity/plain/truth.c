/* truth.c -- mallinfo2, mallinfo, malloc_info and malloc_stats say what is there: known amounts of
 * small and of large blocks show up in them, and go away when they are freed.
 */
#include "check.inc"

static size_t bytes_in_use(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void expect_grows_and_shrinks(size_t count, size_t bytes) {
    void **blocks = malloc(count * sizeof *blocks);
    REQUIRE(blocks != NULL, "malloc of the table");
    size_t before = bytes_in_use(), wanted = count * bytes;
    for (size_t i = 0; i < count; i++) {
        blocks[i] = malloc(bytes);
        REQUIRE(blocks[i] != NULL, "malloc(%zu)", bytes);
    }
    size_t grown = bytes_in_use() - before;
    EXPECT(grown >= wanted && (double)grown <= 1.2 * (double)wanted + 4096,
           "%zu blocks of %zu bytes: expected uordblks+hblkhd to grow by %zu to %.0f, found %zd",
           count, bytes, wanted, 1.2 * (double)wanted, (ssize_t)grown);
    struct mallinfo2 info = mallinfo2();
    EXPECT(info.arena + info.hblkhd >= wanted, "expected arena + hblkhd of at least %zu, found %zu",
           wanted, info.arena + info.hblkhd);
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
    ssize_t left = (ssize_t)(bytes_in_use() - before);
    EXPECT(left <= 65536 && left >= -65536,
           "after the frees: expected about 0 more in use, found %zd", left);
    free(blocks);
}

static void mallinfo2_counts_small_blocks(void) {
    expect_grows_and_shrinks(20000, 400);
    expect_grows_and_shrinks(50000, 112);
}

static void mallinfo2_counts_middle_blocks(void) {
    expect_grows_and_shrinks(500, 40000);
    expect_grows_and_shrinks(300, 100000);
}

static void mallinfo2_counts_large_blocks(void) {
    expect_grows_and_shrinks(20, 3 * MIB);
    expect_grows_and_shrinks(3, 30 * MIB);
}

static void *allocate_in_a_thread(void *argument) {
    void **blocks = argument;
    for (size_t i = 0; i < 1000; i++)
        blocks[i] = malloc(1000);
    return NULL;
}

static void mallinfo2_counts_blocks_of_other_and_of_dead_threads(void) {
    static void *blocks[1000];
    pthread_t thread;
    size_t before = bytes_in_use();
    REQUIRE(pthread_create(&thread, NULL, allocate_in_a_thread, blocks) == 0, "pthread_create");
    pthread_join(thread, NULL);
    size_t grown = bytes_in_use() - before;
    EXPECT(grown >= 1000000 && grown <= 1200000 + 65536,
           "1000 blocks of 1000 bytes of a dead thread: expected about a million, found %zd",
           (ssize_t)grown);
    for (size_t i = 0; i < 1000; i++)
        free(blocks[i]);
    ssize_t left = (ssize_t)(bytes_in_use() - before);
    EXPECT(left <= 65536, "after the frees: expected about 0 more, found %zd", left);
}

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void mallinfo_agrees_with_mallinfo2(void) {
    void *block = malloc(5 * MIB);
    REQUIRE(block != NULL, "malloc(5 MiB)");
    struct mallinfo narrow = mallinfo();
    struct mallinfo2 wide = mallinfo2();
    EXPECT((size_t)(unsigned)narrow.uordblks + (size_t)(unsigned)narrow.hblkhd ==
               wide.uordblks + wide.hblkhd,
           "expected %zu, found %u + %u", wide.uordblks + wide.hblkhd, (unsigned)narrow.uordblks,
           (unsigned)narrow.hblkhd);
    EXPECT(wide.uordblks + wide.hblkhd >= 5 * MIB, "expected 5 MiB in use, found %zu",
           wide.uordblks + wide.hblkhd);
    free(block);
}

/* A small XML reader: elements nest, close in order, attributes are quoted. */
static const char *xml_fault(const char *text) {
    static char names[32][64];
    size_t depth = 0, elements = 0;
    for (const char *at = strchr(text, '<'); at != NULL; at = strchr(at, '<')) {
        const char *end = strchr(at, '>');
        if (end == NULL)
            return "a tag that does not end";
        size_t length = strcspn(at + 1, " \t\n/>");
        if (at[1] == '?' || at[1] == '!') {
            at = end;
            continue;
        }
        if (at[1] == '/') {
            size_t name = strcspn(at + 2, " >");
            if (depth == 0 || strlen(names[depth - 1]) != name ||
                strncmp(names[depth - 1], at + 2, name) != 0)
                return "a closing tag without its opening tag";
            depth--;
        } else {
            size_t quotes = 0;
            for (const char *c = at; c < end; c++)
                quotes += *c == '"';
            if (length == 0 || length > 60 || quotes % 2 != 0)
                return "an empty name or an open quote";
            elements++;
            if (depth == 0 && elements > 1)
                return "a second root element";
            if (end[-1] != '/') {
                if (depth == 32)
                    return "too deep";
                memcpy(names[depth], at + 1, length);
                names[depth++][length] = '\0';
            }
        }
        at = end;
    }
    return depth != 0 ? "an element that is never closed" : elements == 0 ? "no element" : NULL;
}

static void malloc_info_writes_well_formed_xml(void) {
    static char text[1 << 18];
    void *block = malloc(10 * MIB);
    FILE *file = tmpfile();
    REQUIRE(file != NULL && block != NULL, "tmpfile: %s", strerror(errno));
    int result = malloc_info(0, file);
    EXPECT(result == 0, "malloc_info(0): expected 0, found %d", result);
    rewind(file);
    size_t got = fread(text, 1, sizeof text - 1, file);
    text[got] = '\0';
    EXPECT(got > 20, "expected some text, found %zu bytes", got);
    const char *fault = xml_fault(text);
    EXPECT(fault == NULL, "malloc_info: %s in: %.300s", fault, text);
    EXPECT(strstr(text, "<malloc") != NULL, "expected a root element malloc, found: %.100s", text);
    errno = 0;
    result = malloc_info(1, file);
    EXPECT(result != 0, "malloc_info(1, ..): expected failure for unknown options, found 0");
    fclose(file);
    free(block);
}

static void malloc_stats_writes_to_stderr(void) {
    char text[4096] = "";
    int saved = dup(2);
    FILE *file = tmpfile();
    REQUIRE(file != NULL && saved >= 0, "tmpfile");
    fflush(stderr);
    dup2(fileno(file), 2);
    malloc_stats();
    fflush(stderr);
    dup2(saved, 2);
    close(saved);
    rewind(file);
    size_t got = fread(text, 1, sizeof text - 1, file);
    EXPECT(got > 20, "expected some lines on stderr, found %zu bytes", got);
    EXPECT(strpbrk(text, "0123456789") != NULL, "expected figures, found: %.100s", text);
    fclose(file);
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(mallinfo2_counts_small_blocks, 0),
    CHECK(mallinfo2_counts_middle_blocks, 0),
    CHECK(mallinfo2_counts_large_blocks, 0),
    CHECK(mallinfo2_counts_blocks_of_other_and_of_dead_threads, 1),
    CHECK(mallinfo_agrees_with_mallinfo2, 0),
    CHECK(malloc_info_writes_well_formed_xml, 0),
    CHECK(malloc_stats_writes_to_stderr, 0),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
