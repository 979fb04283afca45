/* stats_while_growing.c -- statistics can be asked for while other threads make the heap larger:
 * they read only records that are there.
 */
#include "check.inc"

enum { GROWERS = 2 };

static int filled, stop;

/* Large steps: each commits maps for longer, and it is then that nobody may look. Two at once: the
 * higher of two ranges may be there before the lower one. */
static void *grow(void *argument) {
    size_t count = scaled(150);
    void **blocks = malloc(count * sizeof *blocks);
    REQUIRE(blocks != NULL, "malloc");
    for (size_t i = 0; i < count; i++) {
        char *block = malloc(i % 2 == 0 ? 256 * MIB : 100000);
        REQUIRE(block != NULL, "malloc");
        block[0] = 1;
        blocks[i] = block;
    }
    __atomic_fetch_add(&filled, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
        sleep_ms(1);
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
    free(blocks);
    return argument;
}

static void ask_while_growing(void) {
    pthread_t threads[GROWERS];
    for (size_t i = 0; i < GROWERS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, grow, NULL) == 0, "pthread_create");
    while (__atomic_load_n(&filled, __ATOMIC_ACQUIRE) < GROWERS)
        (void)mallinfo2();
    struct mallinfo2 info = mallinfo2();
    EXPECT(info.hblkhd >= 256 * MIB, "expected large blocks of 256 MiB or more, found %zu bytes",
           info.hblkhd);
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    for (size_t i = 0; i < GROWERS; i++)
        pthread_join(threads[i], NULL);
}

static void statistics_can_be_taken_while_other_threads_grow_the_heap(void) {
    for (size_t round = 0; round < 10 && check_failures == 0; round++)
        in_child(ask_while_growing, 60); /* each grows from nothing */
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(statistics_can_be_taken_while_other_threads_grow_the_heap, 0),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
