/* purge_in_the_way.c -- what a purge has in its hands is not missing to who allocates meanwhile;
 * and memory that can not be purged, because it is locked, is not tried again at each slow path.
 */
#include "check.inc"

#include <sys/mman.h>

/* ---- a small range, of which a purge holds most ---- */

static int trimmer_is_done;

static void *trim(void *argument) {
    while (!__atomic_load_n(&trimmer_is_done, __ATOMIC_ACQUIRE))
        malloc_trim(0);
    return argument;
}

static int allocate_beside_trims(void) {
    enum { TIMES = 300 };
    pthread_t thread;
    size_t failed = 0;
    REQUIRE(pthread_create(&thread, NULL, trim, NULL) == 0, "pthread_create");
    for (size_t i = 0; i < TIMES; i++) {
        char *block = malloc(30 * MIB);
        failed += block == NULL;
        if (block != NULL)
            memset(block, 1, 30 * MIB);
        free(hide(block));
    }
    __atomic_store_n(&trimmer_is_done, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    EXPECT(failed == 0, "30 of 48 MiB, the only block there is: expected it each time, found NULL "
           "%zu of %d times", failed, TIMES);
    return check_failures > 0;
}

/* ---- locked memory above what the LRU may hold ---- */

static uint64_t madvise_calls(void) { return library_stats().calls_madvise; }

static int allocate_beside_locked(void) {
    enum { BLOCKS = 4000, TIMES = 1000, BYTES = 16000 };
    static void *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BYTES);
        REQUIRE(blocks[i] != NULL, "malloc");
        memset(blocks[i], 1, BYTES);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        if (mlock(blocks[i], BYTES) != 0)
            return 77;
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    uint64_t before = madvise_calls();
    for (size_t i = 0; i < TIMES; i++)
        free(hide(malloc(300 * KIB)));
    uint64_t calls = madvise_calls() - before;
    EXPECT(calls < TIMES, "%d blocks: expected few calls in vain, found %lu", TIMES,
           (unsigned long)calls);
    return check_failures > 0;
}

/* ---- each in a process of its own ---- */

static void run_alone(const char *mode, const char *options) {
    static char text[4096];
    int status = run_self(mode, options, text, sizeof text);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        say(" (refused here)");
    else
        EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0,
               "expected exit status 0, found wait status %#x, stderr: %.400s", status, text);
}

static void a_block_is_there_although_another_thread_purges_its_memory(void) {
    run_alone("--trims", "arena_mib=48");
}

static void locked_memory_is_not_purged_in_vain_at_each_slow_path(void) {
    run_alone("--locked", "lru_superslabs=4");
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(a_block_is_there_although_another_thread_purges_its_memory, 1),
    CHECK(locked_memory_is_not_purged_in_vain_at_each_slow_path, 1),
};

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "--trims") == 0)
        return allocate_beside_trims();
    if (strcmp(mode, "--locked") == 0)
        return allocate_beside_locked();
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
