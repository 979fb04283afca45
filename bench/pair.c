/* pair.c -- malloc and free of one size, over and over.
 * Pattern     the hot pair: the floor of an allocator's fast path, with everything in the
 *             first-level cache.  With several threads it shows whether independent work scales.
 * Arguments   pairs a thread, size in bytes, threads
 * An op       is a pair: one malloc and one free.
 * Checksum    the sum of the words that were written to the blocks.
 */
#include "common.h"

struct worker {
    _Alignas(BENCH_LINE_BYTES) pthread_t thread;
    uint64_t pairs;
    size_t size;
    pthread_barrier_t *barrier;
    struct bench_span taken;
    uint64_t checksum;
};

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    uint64_t sum = 0;
    size_t size = worker->size;
    pthread_barrier_wait(worker->barrier);
    worker->taken.begin = bench_now();
    for (uint64_t i = 0; i < worker->pairs; i++) {
        void *block = bench_need(malloc(size));
        bench_put(block, 0, i);
        bench_keep(block);
        sum += bench_get(block, 0);
        free(block);
    }
    worker->taken.end = bench_now();
    worker->checksum = sum;
    return NULL;
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("pair", argc, argv);
    uint64_t pairs = bench_arg(&args, "pairs", 50000000, 1, UINT64_C(1) << 40);
    size_t size = bench_arg(&args, "size", 32, 8, 1u << 30);
    size_t thread_count = bench_arg(&args, "threads", 1, 1, BENCH_THREADS_MAX);
    bench_args_end(&args);

    struct worker *workers = bench_map(thread_count * sizeof *workers);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)thread_count);
    for (size_t t = 0; t < thread_count; t++) {
        workers[t].pairs = pairs;
        workers[t].size = size;
        workers[t].barrier = &barrier;
        bench_thread_start(&workers[t].thread, worker_main, &workers[t]);
    }
    struct bench_span whole = { 0.0, 0.0 };
    uint64_t checksum = 0;
    for (size_t t = 0; t < thread_count; t++) {
        pthread_join(workers[t].thread, NULL);
        checksum += workers[t].checksum;
        bench_span_join(&whole, workers[t].taken);
    }
    double seconds = whole.end - whole.begin;
    bench_report("pair", thread_count * pairs, seconds, checksum, "");
    return 0;
}
