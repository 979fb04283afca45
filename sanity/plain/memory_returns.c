/* memory_returns.c -- what memory the process holds: freed memory goes back to the OS after the
 * purge delay or at malloc_trim, blocks that are not touched cost nothing, growing by realloc needs
 * no second copy. Each measurement has a process of its own; the purge delay is the default, one
 * second.
 */
#include "check.inc"

enum { SLACK_MIB = 10 };

static size_t volume; /* bytes that are allocated and freed */

static void allocate_touched(void **blocks, size_t count, size_t bytes) {
    for (size_t i = 0; i < count; i++) {
        blocks[i] = malloc(bytes);
        REQUIRE(blocks[i] != NULL, "malloc(%zu)", bytes);
        memset(blocks[i], 1, bytes);
    }
}

static void idle_and_call(void) {
    sleep_ms(1500);
    for (size_t i = 0; i < 300; i++) {
        free(malloc(i * 50));
        free(malloc(400000));
    }
}

static void expect_rss_near(size_t before, size_t slack_mib, const char *when, size_t bytes) {
    size_t rss = rss_bytes();
    EXPECT(rss <= before + slack_mib * MIB,
           "%s, blocks of %zu: expected RSS within %zu MiB of %.1f MiB, "
           "found %.1f MiB",
           when, bytes, slack_mib, to_mib(before), to_mib(rss));
}

static size_t block_bytes; /* the size under test, for the functions that run in a child */

static void free_all_and_idle(void) {
    size_t count = volume / block_bytes;
    void **blocks = malloc(count * sizeof *blocks);
    REQUIRE(blocks != NULL, "malloc of the table");
    memset(blocks, 0, count * sizeof *blocks);
    size_t before = rss_bytes();
    allocate_touched(blocks, count, block_bytes);
    size_t full = rss_bytes();
    EXPECT(full >= before + volume / 10 * 9, "expected RSS to grow by %.0f MiB, found %.1f MiB",
           to_mib(volume), to_mib(full - before));
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
    idle_and_call();
    expect_rss_near(before, SLACK_MIB, "freed and idle", block_bytes);
}

struct handover {
    void **blocks;
    size_t count;
};

static void *only_free(void *argument) {
    struct handover *work = argument;
    for (size_t i = 0; i < work->count; i++)
        free(work->blocks[i]);
    sleep_ms(1500);
    for (size_t i = 0; i < 300; i++) /* it goes on freeing, and only that */
        free(work->blocks[work->count + i]);
    return NULL;
}

static void free_by_a_thread_that_only_frees(void) {
    pthread_t thread;
    size_t count = volume / block_bytes;
    struct handover work = {malloc((count + 300) * sizeof(void *)), count};
    REQUIRE(work.blocks != NULL, "malloc of the table");
    memset(work.blocks, 0, (count + 300) * sizeof(void *));
    size_t before = rss_bytes();
    allocate_touched(work.blocks, count, block_bytes);
    allocate_touched(work.blocks + count, 300, 100);
    REQUIRE(pthread_create(&thread, NULL, only_free, &work) == 0, "pthread_create");
    pthread_join(thread, NULL);
    expect_rss_near(before, SLACK_MIB, "freed by another thread", block_bytes);
}

static void free_all_and_trim(void) {
    size_t count = volume / block_bytes;
    void **blocks = malloc(count * sizeof *blocks);
    REQUIRE(blocks != NULL, "malloc of the table");
    memset(blocks, 0, count * sizeof *blocks);
    size_t before = rss_bytes();
    allocate_touched(blocks, count, block_bytes);
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
    int returned = malloc_trim(0);
    expect_rss_near(before, SLACK_MIB, "freed and trimmed", block_bytes);
    size_t rss = rss_bytes();
    EXPECT(returned == 1 || rss <= before + 2 * MIB, "malloc_trim: expected 1, found %d", returned);
}

static void for_each_size(void (*run)(void)) {
    static const size_t sizes[] = {4096, 200, 262144, 20000, 1000000};
    volume = scaled(256) * MIB;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        block_bytes = sizes[i];
        in_child(run, 90);
    }
}

static void freed_memory_goes_back_after_the_purge_delay(void) { for_each_size(free_all_and_idle); }

static void memory_freed_by_a_thread_that_only_frees_goes_back(void) {
    for_each_size(free_by_a_thread_that_only_frees);
}

static void malloc_trim_returns_all_free_memory_at_once(void) { for_each_size(free_all_and_trim); }

static void touch_a_page_of_many_large_blocks(void) {
    enum { BLOCKS = 40000 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE), touched = BLOCKS * page;
    void **blocks = malloc(BLOCKS * sizeof *blocks);
    REQUIRE(blocks != NULL, "malloc of the table");
    memset(blocks, 0, BLOCKS * sizeof *blocks);
    size_t before = rss_bytes();
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(MIB + page + i % 1000);
        REQUIRE(blocks[i] != NULL, "block %zu", i);
        *(size_t *)blocks[i] = i;
    }
    size_t grown = rss_bytes() - before;
    if (under_debug_hakmem()) /* redzone and record are a page each */
        touched *= 3;
    EXPECT(grown <= touched + touched / 4 + 20 * MIB,
           "40000 blocks with a page touched in each: expected at most %.0f MiB, found %.1f MiB",
           to_mib(touched + touched / 4 + 20 * MIB), to_mib(grown));
    for (size_t i = 0; i < BLOCKS; i++) {
        EXPECT(*(size_t *)blocks[i] == i, "block %zu changed", i);
        free(blocks[i]);
    }
}

static void untouched_parts_of_large_blocks_cost_nothing(void) {
    in_child(touch_a_page_of_many_large_blocks, 60);
}

/* Most of each SuperSlab is never used; the debug build looks at all of the heap meanwhile. */
static void touch_few_bytes_every_mib(void) {
    enum { BLOCKS = 1000, CALLS = 120000 };
    static void *blocks[BLOCKS];
    size_t before = rss_bytes();
    for (size_t i = 0; i < BLOCKS; i++) {
        REQUIRE(posix_memalign(&blocks[i], MIB, 24) == 0, "block %zu", i);
        *(size_t *)blocks[i] = i;
    }
    for (size_t i = 0; i < CALLS; i++)
        free(malloc(i % 100));
    size_t grown = rss_bytes() - before;
    EXPECT(grown <= 50 * MIB,
           "1000 blocks of 24 bytes, aligned to 1 MiB: expected at most 50 MiB, found %.1f MiB",
           to_mib(grown));
    for (size_t i = 0; i < BLOCKS; i++) {
        EXPECT(*(size_t *)blocks[i] == i, "block %zu changed", i);
        free(blocks[i]);
    }
}

static void unused_parts_of_superslabs_cost_nothing(void) {
    in_child(touch_few_bytes_every_mib, 60);
}

static size_t peak_bytes(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (size_t)usage.ru_maxrss * KIB;
}

/* Grows by halves; new parts are filled as they come, all of it is checked at the end. */
static void grow_by_halves(void) {
    const size_t final = scaled(256) * MIB;
    size_t bytes = KIB, before = peak_bytes();
    unsigned char *block = malloc(bytes);
    REQUIRE(block != NULL, "malloc");
    memset(block, 0, bytes);
    for (size_t i = 0; i < bytes; i += 8)
        memcpy(block + i, &i, 8);
    while (bytes < final) {
        size_t larger = (bytes + bytes / 2) / 8 * 8;
        if (larger > final)
            larger = final;
        block = realloc(block, larger);
        REQUIRE(block != NULL, "realloc(%zu)", larger);
        for (size_t i = bytes; i < larger; i += 8)
            memcpy(block + i, &i, 8);
        bytes = larger;
    }
    size_t peak = peak_bytes() - before, wrong = 0;
    for (size_t i = 0; i < bytes; i += 8) {
        size_t found;
        memcpy(&found, block + i, 8);
        wrong += found != i;
    }
    EXPECT(wrong == 0, "expected all words in place, found %zu wrong ones", wrong);
    EXPECT(peak <= final + final / 10 + 8 * MIB,
           "grown to %.0f MiB: expected a peak of at most %.1f MiB, "
           "found %.1f MiB",
           to_mib(final), to_mib(final + final / 10 + 8 * MIB), to_mib(peak));
    free(block);
}

static void growing_by_realloc_needs_no_second_copy(void) { in_child(grow_by_halves, 60); }

static void hold_large_then_shrink(void) {
    size_t before = rss_bytes();
    unsigned char *block = malloc(100 * MIB);
    REQUIRE(block != NULL, "malloc");
    memset(block, 7, 100 * MIB);
    block = realloc(block, 10 * MIB);
    REQUIRE(block != NULL, "realloc");
    malloc_trim(0);
    expect_rss_near(before + 10 * MIB, SLACK_MIB, "shrunk to 10 MiB", 100 * MIB);
    EXPECT(block[10 * MIB - 1] == 7, "the last byte changed");
    free(block);
}

static void shrinking_by_realloc_gives_memory_back(void) { in_child(hold_large_then_shrink, 60); }

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(freed_memory_goes_back_after_the_purge_delay, 1),
    CHECK(memory_freed_by_a_thread_that_only_frees_goes_back, 1),
    CHECK(malloc_trim_returns_all_free_memory_at_once, 1),
    CHECK(untouched_parts_of_large_blocks_cost_nothing, 0),
    CHECK(unused_parts_of_superslabs_cost_nothing, 1),
    CHECK(growing_by_realloc_needs_no_second_copy, 1),
    CHECK(shrinking_by_realloc_gives_memory_back, 0),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
