/* interposed.cc -- every entry point that HAKMEM exports really is the one the program reaches,
 * from the program and from libc; memory that libc hands out is HAKMEM's and can be freed.
 */
#include "check.inc"

#include <netdb.h>
#include <new>
#include <wchar.h>

static void *entry_of(const char *name) { return dlsym(RTLD_DEFAULT, name); }

static void every_entry_point_is_the_librarys(void) {
    static const char *const names[] = {"malloc",
                                        "free",
                                        "calloc",
                                        "realloc",
                                        "reallocarray",
                                        "aligned_alloc",
                                        "posix_memalign",
                                        "memalign",
                                        "valloc",
                                        "pvalloc",
                                        "malloc_usable_size",
                                        "malloc_trim",
                                        "malloc_stats",
                                        "malloc_info",
                                        "mallinfo",
                                        "mallinfo2",
                                        "mallopt",
                                        "free_sized",
                                        "free_aligned_sized",
                                        "_Znwm",
                                        "_Znam",
                                        "_ZnwmRKSt9nothrow_t",
                                        "_ZnamRKSt9nothrow_t",
                                        "_ZnwmSt11align_val_t",
                                        "_ZnamSt11align_val_t",
                                        "_ZnwmSt11align_val_tRKSt9nothrow_t",
                                        "_ZnamSt11align_val_tRKSt9nothrow_t",
                                        "_ZdlPv",
                                        "_ZdaPv",
                                        "_ZdlPvm",
                                        "_ZdaPvm",
                                        "_ZdlPvRKSt9nothrow_t",
                                        "_ZdaPvRKSt9nothrow_t",
                                        "_ZdlPvSt11align_val_t",
                                        "_ZdaPvSt11align_val_t",
                                        "_ZdlPvmSt11align_val_t",
                                        "_ZdaPvmSt11align_val_t",
                                        "_ZdlPvSt11align_val_tRKSt9nothrow_t",
                                        "_ZdaPvSt11align_val_tRKSt9nothrow_t"};
    for (const char *name : names) {
        Dl_info info;
        memset(&info, 0, sizeof info);
        void *entry = entry_of(name);
        int found = entry != nullptr && dladdr(entry, &info) != 0;
        EXPECT(found && strstr(info.dli_fname, "hakmem") != nullptr,
               "%s: expected it in libhakmem, found %s", name,
               found ? info.dli_fname : "no such symbol");
    }
}

static void nothing_but_the_interface_is_exported(void) {
    static const char *const inside[] = {"pool_take",     "superslab_carve", "front_pop",
                                         "arena_reserve", "slot_publish",    "os_map",
                                         "options_read"};
    for (const char *name : inside)
        EXPECT(entry_of(name) == nullptr, "%s: expected it hidden, found it exported", name);
}

/* 1 when the block lies in HAKMEM's heap (always 1 on another malloc). */
static int is_ours(const void *block) {
    int (*owns)(const void *);
    void *entry = entry_of("hkm_owns");
    if (entry == nullptr)
        return !under_hakmem();
    memcpy(&owns, &entry, sizeof owns);
    return owns(block);
}

static void expect_freeable(const char *call, void *block) {
    EXPECT(block != nullptr, "%s: expected memory, found NULL", call);
    EXPECT(block == nullptr || is_ours(block), "%s: expected a block of this malloc, found %p",
           call, block);
    free(block);
}

static int compare_ints(const void *left, const void *right) {
    int a, b;
    memcpy(&a, left, sizeof a);
    memcpy(&b, right, sizeof b);
    return a < b ? -1 : a > b;
}

static void memory_from_libc_can_be_freed(void) {
    char *line = nullptr, *text = nullptr;
    size_t capacity = 0;
    expect_freeable("strdup", strdup("some text"));
    expect_freeable("strndup", strndup("some text", 4));
    expect_freeable("wcsdup", wcsdup(L"wide text"));
    EXPECT(asprintf(&text, "%d and %s", 42, "more") == 11, "asprintf: found %s", text);
    expect_freeable("asprintf", text);
    expect_freeable("realpath", realpath("/proc/../usr", nullptr));
    expect_freeable("getcwd", getcwd(nullptr, 0));
    FILE *file = fopen("/proc/self/status", "r");
    REQUIRE(file != nullptr, "fopen: %s", strerror(errno));
    EXPECT(is_ours(file), "fopen: expected the FILE in a block of this malloc, found %p",
           static_cast<void *>(file));
    for (int i = 0; i < 5; i++)
        EXPECT(getline(&line, &capacity, file) > 0, "getline: expected a line");
    line = static_cast<char *>(realloc(line, capacity + 50000));
    memset(line, 'x', capacity + 50000);
    expect_freeable("getline", line);
    fclose(file);
    char *stream_text = nullptr;
    size_t stream_bytes = 0;
    FILE *stream = open_memstream(&stream_text, &stream_bytes);
    REQUIRE(stream != nullptr, "open_memstream: %s", strerror(errno));
    for (int i = 0; i < 10000; i++)
        fprintf(stream, "%d,", i);
    fclose(stream);
    EXPECT(stream_bytes == 48890, "open_memstream: expected 48890 bytes, found %zu", stream_bytes);
    expect_freeable("open_memstream", stream_text);
}

static void qsort_and_getaddrinfo_work_on_this_heap(void) {
    enum { ITEMS = 100000 };
    int *items = static_cast<int *>(malloc(ITEMS * sizeof *items));
    REQUIRE(items != nullptr, "malloc");
    uint64_t random = 12345;
    for (int i = 0; i < ITEMS; i++)
        items[i] = static_cast<int>(random_next(&random) >> 40);
    qsort(items, ITEMS, sizeof *items, compare_ints);
    int disorder = 0;
    for (int i = 1; i < ITEMS; i++)
        disorder += items[i - 1] > items[i];
    EXPECT(disorder == 0, "qsort: expected order, found %d pairs out of it", disorder);
    free(items);
    struct addrinfo hints, *result = nullptr;
    memset(&hints, 0, sizeof hints);
    hints.ai_flags = AI_NUMERICHOST;
    int failed = getaddrinfo("127.0.0.1", "80", &hints, &result);
    EXPECT(failed == 0, "getaddrinfo: %s", gai_strerror(failed));
    EXPECT(failed != 0 || is_ours(result), "getaddrinfo: expected its memory from this malloc");
    if (failed == 0)
        freeaddrinfo(result);
}

static void putenv_setenv_and_environment_survive(void) {
    char name[32], value[300];
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "SANITY_VARIABLE_%d", i);
        EXPECT(setenv(name, value + i % 200, 1) == 0, "setenv: %s", strerror(errno));
    }
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof name, "SANITY_VARIABLE_%d", i);
        const char *found = getenv(name);
        EXPECT(found != nullptr && strcmp(found, value + i % 200) == 0, "getenv(%s) lost it", name);
        unsetenv(name);
    }
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(every_entry_point_is_the_librarys, 1),
    CHECK(nothing_but_the_interface_is_exported, 1),
    CHECK(memory_from_libc_can_be_freed, 0),
    CHECK(qsort_and_getaddrinfo_work_on_this_heap, 0),
    CHECK(putenv_setenv_and_environment_survive, 0),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
