/* mid_large_mt.c -- threads replace random blocks of 8-32 KiB, each in a working set of its own.
 * Pattern     random replacement as in random_mixed, in the sizes between the small classes and the
 *             large blocks, where allocators that keep 8 KiB and more under a lock or in page runs
 *             slow down.  Known from servers that buffer network and disk blocks.
 * Arguments   threads, steps a thread, working set (slots) a thread, seed, min and max size in
 *             bytes
 * An op       is a step: one free and one malloc, with the first and the last word written. The
 *             working set is filled before the clock starts.
 * Checksum    the sum of the first and last words of the blocks that survive to the end.
 */
#include "common.h"

struct worker {
    _Alignas(BENCH_LINE_BYTES) pthread_t thread;
    uint64_t steps;
    size_t slot_count;
    size_t min;
    size_t span;
    struct bench_rng rng;
    void **slots;
    size_t *sizes;
    pthread_barrier_t *barrier;
    struct bench_span taken;
    uint64_t checksum;
};

static void *block_new(size_t size, uint64_t first, uint64_t last)
{
    void *block = bench_need(malloc(size));
    bench_put(block, 0, first);
    bench_put(block, size - 8, last);
    return block;
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct bench_rng rng = worker->rng;
    void **slots = worker->slots;
    size_t *sizes = worker->sizes;
    for (size_t i = 0; i < worker->slot_count; i++) {
        size_t size = worker->min + bench_pick_low(bench_rng_next(&rng), worker->span);
        slots[i] = block_new(size, i, size);
        sizes[i] = size;
    }
    pthread_barrier_wait(worker->barrier);
    worker->taken.begin = bench_now();
    for (uint64_t step = 0; step < worker->steps; step++) {
        uint64_t random = bench_rng_next(&rng);
        size_t index = bench_pick(random, worker->slot_count);
        size_t size = worker->min + bench_pick_low(random, worker->span);
        free(slots[index]);
        slots[index] = block_new(size, step, random);
        sizes[index] = size;
    }
    worker->taken.end = bench_now();
    pthread_barrier_wait(worker->barrier); /* no tear-down beside another one's work */
    for (size_t i = 0; i < worker->slot_count; i++) {
        worker->checksum += bench_get(slots[i], 0) + bench_get(slots[i], sizes[i] - 8);
        free(slots[i]);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("mid_large_mt", argc, argv);
    size_t thread_count = bench_arg(&args, "threads", 2, 1, BENCH_THREADS_MAX);
    uint64_t steps = bench_arg(&args, "steps", 5000000, 1, UINT64_C(1) << 40);
    size_t slot_count = bench_arg(&args, "working_set", 2048, 1, 1u << 24);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    size_t min = bench_arg(&args, "min", 8192, 16, 1u << 30);
    size_t max = bench_arg(&args, "max", 32768, min, 1u << 30);
    bench_args_end(&args);

    struct worker *workers = bench_map(thread_count * sizeof *workers);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)thread_count);
    for (size_t t = 0; t < thread_count; t++) {
        struct worker *worker = &workers[t];
        worker->steps = steps;
        worker->slot_count = slot_count;
        worker->min = min;
        worker->span = max - min + 1;
        worker->rng = bench_rng_seed(seed, t);
        worker->slots = bench_map(slot_count * sizeof *worker->slots);
        worker->sizes = bench_map(slot_count * sizeof *worker->sizes);
        worker->barrier = &barrier;
        bench_thread_start(&worker->thread, worker_main, worker);
    }
    struct bench_span whole = { 0.0, 0.0 };

    uint64_t checksum = 0;
    for (size_t t = 0; t < thread_count; t++) {
        pthread_join(workers[t].thread, NULL);
        checksum += workers[t].checksum;
        bench_span_join(&whole, workers[t].taken);
    }
    double seconds = whole.end - whole.begin;
    bench_report("mid_large_mt", thread_count * steps, seconds, checksum, "");
    return 0;
}
