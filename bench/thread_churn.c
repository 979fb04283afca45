/* thread_churn.c -- threads start, allocate a little, and end.
 * Pattern     a thread for each task: `at_once` threads run side by side, each allocates and frees
 *             a few blocks of mixed size, keeps one that the next wave's thread frees, and ends.
 *             The cost of an allocator's per-thread set-up, tear-down and adoption stands out.
 * Arguments   threads in all, threads at once, blocks a thread, seed
 * An op       is one thread's life.
 * Checksum    the sum of the first words of all blocks as they are freed.
 */
#include "common.h"

#define BLOCKS_MAX 4096u

struct seat {
    _Alignas(BENCH_LINE_BYTES) pthread_t thread;
    struct bench_rng rng;
    size_t block_count;
    void *legacy; /* what the last thread in this seat left behind */
    uint64_t checksum;
};

static uint64_t drop(void *block)
{
    if (block == NULL) return 0;
    uint64_t tag = bench_get(block, 0);
    free(block);
    return tag;
}

static void *seat_main(void *argument)
{
    struct seat *seat = argument;
    void *blocks[BLOCKS_MAX];
    uint64_t sum = drop(seat->legacy);
    for (size_t i = 0; i < seat->block_count; i++) {
        uint64_t random = bench_rng_next(&seat->rng);
        blocks[i] = bench_need(malloc(16 + bench_pick(random, 1024)));
        bench_put(blocks[i], 0, random);
    }
    for (size_t i = 1; i < seat->block_count; i++) sum += drop(blocks[i]);
    seat->legacy = blocks[0];
    seat->checksum += sum;
    return NULL;
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("thread_churn", argc, argv);
    uint64_t total = bench_arg(&args, "threads", 8000, 1, UINT64_C(1) << 32);
    size_t seat_count = bench_arg(&args, "at_once", 4, 1, BENCH_THREADS_MAX);
    size_t block_count = bench_arg(&args, "blocks", 100, 1, BLOCKS_MAX);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    bench_args_end(&args);

    struct seat *seats = bench_map(seat_count * sizeof *seats);
    for (size_t t = 0; t < seat_count; t++) {
        seats[t].rng = bench_rng_seed(seed, t);
        seats[t].block_count = block_count;
    }
    uint64_t lives = 0;
    double start = bench_now();
    while (lives < total) {
        for (size_t t = 0; t < seat_count; t++) {
            bench_thread_start(&seats[t].thread, seat_main, &seats[t]);
        }
        for (size_t t = 0; t < seat_count; t++) pthread_join(seats[t].thread, NULL);
        lives += seat_count;
    }
    double seconds = bench_now() - start;

    uint64_t checksum = 0;
    for (size_t t = 0; t < seat_count; t++) checksum += seats[t].checksum + drop(seats[t].legacy);
    bench_report("thread_churn", lives, seconds, checksum, "");
    return 0;
}
