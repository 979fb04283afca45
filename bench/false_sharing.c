/* false_sharing.c -- do small blocks of different threads share a cache line?
 * Pattern     active: each thread allocates a small block, writes to it many times, frees it, and
 *             again; an allocator that serves neighbours in one line to different threads slows all
 *             of them down.  passive: the blocks are first allocated by one thread, side by side,
 *             and handed out; each thread frees its one and then goes on as above, and an allocator
 *             that reuses a block for whoever freed it keeps the sharing alive.  After the two
 *             probes of the Hoard paper (Berger et al., ASPLOS 2000).
 * Arguments   mode (active, passive), threads, iterations a thread, writes an iteration, size in
 *             bytes
 * An op       is one write.
 * Checksum    the sum of the counters that each block ends with.
 */
#include "common.h"

struct worker {
    _Alignas(BENCH_LINE_BYTES) pthread_t thread;
    void *gift; /* passive: the block that the main thread allocated */
    uint64_t iterations;
    uint64_t writes;
    size_t size;
    pthread_barrier_t *barrier;
    struct bench_span taken;
    uint64_t checksum;
};

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    uint64_t sum = 0;
    pthread_barrier_wait(worker->barrier);
    worker->taken.begin = bench_now();
    free(worker->gift);
    for (uint64_t i = 0; i < worker->iterations; i++) {
        volatile uint64_t *block = bench_need(malloc(worker->size));
        *block = i;
        for (uint64_t k = 0; k < worker->writes; k++) *block = *block + 1;
        sum += *block;
        free((void *)(uintptr_t)block);
    }
    worker->taken.end = bench_now();
    worker->checksum = sum;
    return NULL;
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("false_sharing", argc, argv);
    unsigned passive = bench_arg_word(&args, "mode", "active|passive");
    size_t thread_count = bench_arg(&args, "threads", 2, 1, BENCH_THREADS_MAX);
    uint64_t iterations = bench_arg(&args, "iterations", 100000, 1, UINT64_C(1) << 40);
    uint64_t writes = bench_arg(&args, "writes", 1000, 1, UINT64_C(1) << 32);
    size_t size = bench_arg(&args, "size", 8, 8, 1u << 20);
    bench_args_end(&args);

    struct worker *workers = bench_map(thread_count * sizeof *workers);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)thread_count);
    for (size_t t = 0; t < thread_count; t++) {
        if (passive) workers[t].gift = bench_need(malloc(size));
        workers[t].iterations = iterations;
        workers[t].writes = writes;
        workers[t].size = size;
        workers[t].barrier = &barrier;
    }
    for (size_t t = 0; t < thread_count; t++) {
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
    bench_report(passive ? "false_sharing_passive" : "false_sharing_active",
                 thread_count * iterations * writes, seconds, checksum, "");
    return 0;
}
