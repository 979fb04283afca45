/* realloc_contents.c -- realloc keeps every byte up to the smaller size on every path between sizes
 * of 1 byte and 8 MiB, calloc gives zeros after dirty reuse, and errno tells no tales.
 */
#include "check.inc"

static const size_t steps[] = {
    1,      2,      15,      16,      17,      31,      64,      100,     127,     128,    129,
    200,    500,    1000,    1024,    1025,    2000,    4095,    4096,    4097,    8000,   10000,
    16384,  32768,  40000,   65535,   65536,   65537,   90000,   131072,  200000,  262144, 262145,
    400000, 524289, 1048576, 1048577, 1500000, 2097152, 2097153, 3000000, 4194304, 8388608};

static void realloc_path_keeps_contents(size_t from, size_t to, uint64_t seed) {
    unsigned char *block = malloc(from);
    REQUIRE(block != NULL, "malloc(%zu): expected a block", from);
    pattern_fill(block, from, seed);
    unsigned char *moved = realloc(block, to);
    REQUIRE(moved != NULL, "realloc from %zu to %zu: expected a block", from, to);
    /* whole words only: the tail of a pattern depends on its length */
    size_t common = (from < to ? from : to) / 8 * 8, differs = pattern_differs(moved, common, seed);
    EXPECT(differs == common, "realloc %zu -> %zu: byte %zu differs", from, to, differs);
    EXPECT(malloc_usable_size(moved) >= to, "realloc %zu -> %zu: usable size %zu", from, to,
           malloc_usable_size(moved));
    EXPECT((uintptr_t)moved % 16 == 0, "realloc %zu -> %zu: %p is not 16-aligned", from, to,
           (void *)moved);
    memset(moved, 0xee, to);
    free(moved);
}

static void realloc_keeps_contents_between_all_pairs_of_sizes(void) {
    for (size_t i = 0; i < COUNT_OF(steps); i++)
        for (size_t j = 0; j < COUNT_OF(steps); j++)
            if (steps[i] < 600000 || steps[j] < 600000 || (i + j) % 3 == 0)
                realloc_path_keeps_contents(steps[i], steps[j], i * 64 + j);
}

static void realloc_keeps_every_byte_of_small_blocks(void) {
    for (size_t from = 1; from < 300; from++)
        for (size_t to = 1; to < 300; to += 3) {
            unsigned char *block = malloc(from);
            REQUIRE(block != NULL, "malloc(%zu)", from);
            for (size_t i = 0; i < from; i++)
                block[i] = (unsigned char)(i * 7 + from);
            block = realloc(block, to);
            REQUIRE(block != NULL, "realloc(%zu)", to);
            for (size_t i = 0; i < from && i < to; i++)
                EXPECT(block[i] == (unsigned char)(i * 7 + from), "%zu -> %zu lost byte %zu", from,
                       to, i);
            free(block);
        }
}

static void blocks_that_walk_up_and_down_keep_their_contents_among_neighbours(void) {
    enum { BLOCKS = 8 };
    unsigned char *blocks[BLOCKS];
    size_t sizes[BLOCKS];
    uint64_t random = 99;
    for (size_t i = 0; i < BLOCKS; i++) {
        sizes[i] = 64;
        blocks[i] = malloc(64);
        REQUIRE(blocks[i] != NULL, "malloc(64)");
        pattern_fill(blocks[i], 64, i);
    }
    for (size_t turn = 0; turn < scaled(1500); turn++) {
        size_t i = turn % BLOCKS, to = steps[random_next(&random) % COUNT_OF(steps)] + turn % 5;
        unsigned char *moved = realloc(blocks[i], to);
        REQUIRE(moved != NULL, "realloc(%zu)", to);
        size_t common = (to < sizes[i] ? to : sizes[i]) / 8 * 8;
        EXPECT(pattern_intact(moved, common, i), "turn %zu: realloc %zu -> %zu lost contents", turn,
               sizes[i], to);
        pattern_fill(moved, to, i);
        blocks[i] = moved;
        sizes[i] = to;
    }
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

static void realloc_byte_by_byte_keeps_contents(void) {
    unsigned char *block = NULL;
    for (size_t bytes = 1; bytes <= 20000; bytes++) {
        block = realloc(block, bytes);
        REQUIRE(block != NULL, "realloc to %zu", bytes);
        block[bytes - 1] = (unsigned char)(bytes * 31);
    }
    for (size_t i = 0; i < 20000; i++)
        EXPECT(block[i] == (unsigned char)((i + 1) * 31), "byte %zu differs on the way up", i);
    for (size_t bytes = 20000; bytes > 1; bytes -= 13) {
        block = realloc(block, bytes);
        REQUIRE(block != NULL, "realloc down to %zu", bytes);
        EXPECT(block[bytes - 1] == (unsigned char)(bytes * 31), "byte %zu differs down", bytes - 1);
        if (bytes < 14)
            break;
    }
    free(block);
}

static void reallocarray_keeps_contents(void) {
    uint64_t *array = NULL;
    for (size_t count = 1; count < 300000; count = count * 3 / 2 + 1) {
        size_t had = count == 1 ? 0 : malloc_usable_size(array) / 8;
        array = reallocarray(array, count, sizeof *array);
        REQUIRE(array != NULL, "reallocarray(%zu, 8)", count);
        size_t common = had < count ? had : count;
        EXPECT(pattern_intact(array, common * 8, 5), "reallocarray to %zu items lost contents",
               count);
        pattern_fill(array, malloc_usable_size(array) / 8 * 8, 5);
    }
    free(array);
}

static size_t first_nonzero(const unsigned char *block, size_t bytes) {
    size_t at = 0;
    uint64_t word = 0;
    for (; at + 8 <= bytes; at += 8) {
        memcpy(&word, block + at, 8);
        if (word != 0)
            return at;
    }
    while (at < bytes && block[at] == 0)
        at++;
    return at;
}

static void calloc_is_zero_after_dirty_reuse_of_all_sizes(void) {
    enum { BATCH = 12 };
    unsigned char *blocks[BATCH];
    for (size_t bytes = 1; bytes <= 2 * MIB; bytes += bytes < 2100 ? 1 : bytes / 40) {
        size_t batch = bytes < 40000 ? BATCH : 3;
        for (size_t i = 0; i < batch; i++) {
            blocks[i] = malloc(bytes);
            REQUIRE(blocks[i] != NULL, "malloc(%zu)", bytes);
            memset(blocks[i], 0xdd, malloc_usable_size(blocks[i]));
        }
        for (size_t i = 0; i < batch; i++)
            free(blocks[i]);
        for (size_t i = 0; i < batch; i++) {
            blocks[i] = i % 2 == 0 ? calloc(1, bytes) : calloc(bytes, 1);
            REQUIRE(blocks[i] != NULL, "calloc(%zu)", bytes);
            size_t at = first_nonzero(blocks[i], bytes);
            EXPECT(at == bytes, "calloc of %zu bytes: byte %zu is not zero", bytes, at);
        }
        for (size_t i = 0; i < batch; i++) {
            memset(blocks[i], 0xcc, bytes);
            free(blocks[i]);
        }
    }
}

static void calloc_is_zero_after_realloc_down_and_trim(void) {
    for (size_t bytes = 5000; bytes < 6 * MIB; bytes = bytes * 5 / 3) {
        unsigned char *block = malloc(bytes);
        REQUIRE(block != NULL, "malloc(%zu)", bytes);
        memset(block, 0xbb, bytes);
        block = realloc(block, bytes / 3);
        REQUIRE(block != NULL, "realloc(%zu)", bytes / 3);
        free(block);
        if (bytes % 2 == 0)
            malloc_trim(0);
        block = calloc(bytes / 7, 7);
        REQUIRE(block != NULL, "calloc(%zu)", bytes);
        size_t at = first_nonzero(block, bytes / 7 * 7);
        EXPECT(at == bytes / 7 * 7, "calloc of %zu bytes: byte %zu is not zero", bytes, at);
        memset(block, 0x99, bytes / 7 * 7);
        free(block);
    }
}

static void free_keeps_errno_for_all_sizes(void) {
    for (size_t bytes = 1; bytes < 100 * MIB; bytes = bytes * 3 + 5) {
        void *block = malloc(bytes), *other = malloc(bytes);
        REQUIRE(block != NULL && other != NULL, "malloc(%zu)", bytes);
        errno = EXDEV;
        free(block);
        EXPECT(errno == EXDEV, "free of %zu bytes: expected errno %d, found %d", bytes, EXDEV,
               errno);
        errno = 0;
        free(other);
        EXPECT(errno == 0, "free of %zu bytes: expected errno 0, found %d", bytes, errno);
    }
    errno = EXDEV;
    malloc_trim(0);
    size_t usable = malloc_usable_size(NULL);
    EXPECT(usable == 0 && errno == EXDEV, "malloc_trim: expected errno kept, found %d", errno);
}

static void calls_that_succeed_keep_errno(void) {
    for (size_t bytes = 1; bytes < 64 * MIB; bytes = bytes * 3 + 5) {
        void *out = NULL;
        errno = EXDEV;
        void *block = malloc(bytes), *zeroed = calloc(1, bytes),
             *aligned = aligned_alloc(256, bytes);
        int result = posix_memalign(&out, 64, bytes);
        REQUIRE(block != NULL && zeroed != NULL && aligned != NULL && result == 0, "out of memory");
        block = realloc(block, bytes * 2);
        EXPECT(errno == EXDEV, "allocations of %zu bytes: expected errno kept, found %d", bytes,
               errno);
        free(block);
        free(zeroed);
        free(aligned);
        free(out);
    }
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(realloc_keeps_contents_between_all_pairs_of_sizes, 0),
    CHECK(realloc_keeps_every_byte_of_small_blocks, 0),
    CHECK(blocks_that_walk_up_and_down_keep_their_contents_among_neighbours, 0),
    CHECK(realloc_byte_by_byte_keeps_contents, 0),
    CHECK(reallocarray_keeps_contents, 0),
    CHECK(calloc_is_zero_after_dirty_reuse_of_all_sizes, 0),
    CHECK(calloc_is_zero_after_realloc_down_and_trim, 0),
    CHECK(free_keeps_errno_for_all_sizes, 0),
    CHECK(calls_that_succeed_keep_errno, 0),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
