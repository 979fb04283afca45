/* questions.c -- what hkm_good_size, hkm_expand, hkm_owns, hkm_purge, hkm_version and hkm_stats_get
 * answer is true: for every size to 2 MiB, for live, dead and foreign pointers, and against an
 * exact model.
 */
#include "api.inc"

static void good_size_is_the_usable_size_of_every_size(void) {
    for (size_t bytes = 0; bytes <= 2 * MIB; bytes += step()) {
        size_t good = hkm_good_size(bytes);
        void *block = hkm_malloc(bytes);
        REQUIRE(block != NULL, "hkm_malloc(%zu)", bytes);
        size_t usable = hkm_malloc_usable_size(block);
        EXPECT(good == usable, "%zu bytes: hkm_good_size says %zu, the block has %zu", bytes, good,
               usable);
        hkm_free(block);
        if (check_failures > 5)
            return;
    }
}

static void good_size_is_monotonic_tight_and_its_own_good_size(void) {
    size_t last = 0;
    for (size_t bytes = 0; bytes <= 4 * MIB; bytes += step()) {
        size_t good = hkm_good_size(bytes);
        EXPECT(good >= bytes && good >= last, "%zu bytes: found %zu after %zu", bytes, good, last);
        EXPECT(hkm_good_size(good) == good, "%zu: expected %zu its own good size, found %zu", bytes,
               good, hkm_good_size(good));
        if (bytes > 128 && bytes <= 256 * KIB)
            EXPECT((double)(good - bytes) <= (bytes <= 32 * KIB ? 0.125 : 0.2) * (double)good,
                   "%zu bytes: expected at most 12.5 %% waste (from 32 KiB 20 %%), found %zu",
                   bytes, good);
        last = good;
        if (check_failures > 5)
            return;
    }
    EXPECT(hkm_good_size(SIZE_MAX) == 0, "SIZE_MAX: expected 0, found %zu",
           hkm_good_size(SIZE_MAX));
    EXPECT(hkm_good_size((size_t)PTRDIFF_MAX + 1) == 0, "2^63: expected 0");
}

static void expand_never_moves_and_extends_or_leaves_the_block(void) {
    static const size_t sizes[] = {1,      16,     100,    1000,    5000,   40000,
                                   100000, 262144, 300000, 1000000, 5000000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (size_t to = 1; to < 20 * MIB; to = to * 2 + 1) {
            void *block = hkm_malloc(sizes[i]);
            REQUIRE(block != NULL, "hkm_malloc(%zu)", sizes[i]);
            size_t usable = hkm_malloc_usable_size(block),
                   checked = sizes[i] < 5000 ? sizes[i] : 5000;
            pattern_fill(block, 0, checked, to);
            errno = 1234;
            void *result = hkm_expand(block, to);
            size_t after = hkm_malloc_usable_size(block);
            EXPECT(errno == 1234, "expected errno kept, found %d", errno);
            EXPECT(result == NULL || result == block, "%zu to %zu: expected %p or NULL, found %p",
                   sizes[i], to, block, result);
            EXPECT(to > usable || result == block, "%zu to %zu: it fits in %zu, found NULL",
                   sizes[i], to, usable);
            if (result == NULL)
                EXPECT(after == usable, "failed: expected usable size %zu kept, found %zu", usable,
                       after);
            else
                EXPECT(after >= to && after >= usable, "expanded to %zu: found %zu", to, after);
            if (result != NULL && to > sizes[i])
                memset((char *)block + checked, 0x77, to - checked);
            EXPECT(pattern_differs(block, checked, to) == checked,
                   "%zu to %zu changed the contents", sizes[i], to);
            hkm_free(block);
        }
    void *block = hkm_malloc(100);
    EXPECT(hkm_expand(block, hide_size(SIZE_MAX)) == NULL, "to SIZE_MAX: expected NULL");
    EXPECT(hkm_expand(block, hide_size((size_t)PTRDIFF_MAX)) == NULL,
           "to PTRDIFF_MAX: expected NULL");
    hkm_free(block);
}

static char static_data[100];

static void owns_tells_live_blocks_from_everything_else(void) {
    char local[64];
    static const size_t sizes[] = {1,     16,    48,     200,    1000,   4096,
                                   20000, 70000, 262144, 300000, 3000000};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        char *block = hkm_malloc(sizes[i]);
        REQUIRE(block != NULL, "hkm_malloc(%zu)", sizes[i]);
        for (size_t at = 0; at < sizes[i]; at += 1 + sizes[i] / 50)
            EXPECT(hkm_owns(block + at) == 1, "byte %zu of %zu: expected owned", at, sizes[i]);
        EXPECT(hkm_owns(block + sizes[i] - 1) == 1, "the last byte of %zu: expected owned",
               sizes[i]);
        char *dead = hide(block);
        hkm_free(block);
        for (size_t at = 0; at < sizes[i]; at += 1 + sizes[i] / 50)
            EXPECT(hkm_owns(dead + at) == 0, "byte %zu of a dead block of %zu: expected not owned",
                   at, sizes[i]);
    }
    EXPECT(hkm_owns(NULL) == 0, "NULL: expected not owned");
    EXPECT(hkm_owns(hide(local)) == 0, "stack: expected not owned");
    EXPECT(hkm_owns(hide(static_data)) == 0, "static data: expected not owned");
    EXPECT(hkm_owns(hide((void *)(uintptr_t)0x8000000000001230)) == 0, "wild: expected not owned");
    EXPECT(hkm_owns(hide((void *)UINTPTR_MAX)) == 0, "all ones: expected not owned");
    for (unsigned bit = 0; bit < 64; bit++)
        EXPECT(hkm_owns(hide((void *)((uintptr_t)1 << bit))) == 0, "1 << %u: expected not owned",
               bit);
}

static void purge_returns_what_was_free(void) {
    enum { BLOCKS = 4000 };
    static void *blocks[BLOCKS];
    hkm_purge();
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = hkm_malloc(8000);
        REQUIRE(blocks[i] != NULL, "hkm_malloc");
        memset(blocks[i], 1, 8000);
    }
    struct hkm_stats full = stats_now();
    for (size_t i = 0; i < BLOCKS; i++)
        hkm_free(blocks[i]);
    size_t returned = hkm_purge();
    struct hkm_stats after = stats_now();
    EXPECT(returned >= (size_t)BLOCKS * 8000 / 10 * 9 ||
               full.bytes_committed - after.bytes_committed >= BLOCKS * 7200,
           "32 MB freed: expected about that returned, found %zu", returned);
    EXPECT(after.bytes_returned - full.bytes_returned >= returned,
           "statistics: found %llu returned",
           (unsigned long long)(after.bytes_returned - full.bytes_returned));
    EXPECT(after.bytes_cached == 0, "after a purge: expected empty caches, found %llu bytes",
           (unsigned long long)after.bytes_cached);
    int again = hkm_malloc_trim(0);
    EXPECT(again == 0, "a trim right after a purge: expected 0, found %d", again);
    void *block = hkm_malloc(8000);
    EXPECT(block != NULL, "expected a block after the purge");
    hkm_free(block);
}

/* What the big cache holds is idle, too. */
static void a_trim_with_a_pad_looks_at_the_big_cache(void) {
    void *block = hkm_malloc(20 * MIB);
    REQUIRE(block != NULL, "hkm_malloc");
    memset(block, 1, 20 * MIB);
    (void)hkm_purge();
    hkm_free(block);
    struct hkm_stats before = stats_now();
    EXPECT(before.bytes_large_cached >= 20 * MIB, "a freed block of 20 MiB is not cached");
    int large = hkm_malloc_trim(64 * MIB), small = hkm_malloc_trim(MIB);
    EXPECT(large == 0, "less is idle than the pad: expected 0, found %d", large);
    EXPECT(small == 1, "20 MiB are idle: expected 1, found %d", small);
    EXPECT(stats_now().bytes_large_cached == 0, "the cache is still there");
}

static void version_is_the_headers(void) {
    char text[40];
    snprintf(text, sizeof text, "%d.%d.%d", HKM_VERSION_MAJOR, HKM_VERSION_MINOR,
             HKM_VERSION_PATCH);
    EXPECT(strcmp(hkm_version(), text) == 0, "expected %s, found %s", text, hkm_version());
}

static void stats_fill_only_the_struct_bytes_given(void) {
    struct hkm_stats stats;
    memset(&stats, 0x5a, sizeof stats);
    stats.struct_bytes = 0;
    EXPECT(hkm_stats_get(&stats) == EINVAL, "struct_bytes 0: expected EINVAL");
    stats.struct_bytes = sizeof(size_t) - 1;
    EXPECT(hkm_stats_get(&stats) == EINVAL, "struct_bytes 7: expected EINVAL");
    for (size_t bytes = sizeof(size_t); bytes <= sizeof stats; bytes += 8) {
        memset(&stats, 0x5a, sizeof stats);
        stats.struct_bytes = bytes;
        EXPECT(hkm_stats_get(&stats) == 0, "struct_bytes %zu: expected 0", bytes);
        EXPECT(stats.struct_bytes == bytes, "struct_bytes %zu: found %zu filled", bytes,
               stats.struct_bytes);
        for (size_t at = bytes; at < sizeof stats; at++)
            EXPECT(((unsigned char *)&stats)[at] == 0x5a, "struct_bytes %zu: byte %zu was written",
                   bytes, at);
    }
    struct {
        struct hkm_stats stats;
        char later[64];
    } larger;
    memset(&larger, 0x5a, sizeof larger);
    larger.stats.struct_bytes = sizeof larger;
    EXPECT(hkm_stats_get(&larger.stats) == 0, "a larger struct: expected 0");
    EXPECT(larger.stats.struct_bytes == sizeof(struct hkm_stats),
           "a larger struct: found %zu filled", larger.stats.struct_bytes);
    EXPECT(larger.later[0] == 0x5a && larger.later[63] == 0x5a,
           "bytes past the known end were written");
}

static void live_counts_are_exact_in_one_thread(void) {
    enum { BLOCKS = 1000 };
    static void *blocks[BLOCKS];
    static size_t sizes[BLOCKS];
    uint64_t random = 321, count = 0, bytes = 0;
    struct hkm_stats before = stats_now();
    for (size_t i = 0; i < scaled(20000); i++) {
        size_t at = random_next(&random) % BLOCKS;
        if (blocks[at] != NULL) {
            hkm_free(blocks[at]);
            count--;
            bytes -= sizes[at];
            blocks[at] = NULL;
        } else {
            blocks[at] = hkm_malloc(random_size(&random));
            REQUIRE(blocks[at] != NULL, "hkm_malloc");
            sizes[at] = hkm_malloc_usable_size(blocks[at]);
            count++;
            bytes += sizes[at];
        }
        if (i % 100 != 0)
            continue;
        struct hkm_stats now = stats_now();
        uint64_t blocks_live = now.small_blocks_live + now.large_blocks_live -
                               before.small_blocks_live - before.large_blocks_live;
        uint64_t bytes_live = now.small_bytes_live + now.large_bytes_live -
                              before.small_bytes_live - before.large_bytes_live;
        EXPECT(blocks_live == count, "step %zu: expected %llu blocks live, found %llu", i,
               (unsigned long long)count, (unsigned long long)blocks_live);
        EXPECT(bytes_live == bytes, "step %zu: expected %llu bytes live, found %llu", i,
               (unsigned long long)bytes, (unsigned long long)bytes_live);
        if (check_failures > 5)
            break;
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        hkm_free(blocks[i]);
        blocks[i] = NULL;
    }
    struct hkm_stats after = stats_now();
    EXPECT(after.small_blocks_live == before.small_blocks_live &&
               after.large_blocks_live == before.large_blocks_live,
           "in the end: expected as many live blocks as before");
    EXPECT(after.bytes_committed <= after.bytes_reserved, "committed more than reserved");
}

static const struct check checks[] = {
#define CHECK(name)                                                                                \
    { #name, name }
    CHECK(good_size_is_the_usable_size_of_every_size),
    CHECK(good_size_is_monotonic_tight_and_its_own_good_size),
    CHECK(expand_never_moves_and_extends_or_leaves_the_block),
    CHECK(owns_tells_live_blocks_from_everything_else),
    CHECK(purge_returns_what_was_free),
    CHECK(a_trim_with_a_pad_looks_at_the_big_cache),
    CHECK(version_is_the_headers),
    CHECK(stats_fill_only_the_struct_bytes_given),
    CHECK(live_counts_are_exact_in_one_thread),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
