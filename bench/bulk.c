/* bulk.c -- builds N blocks of one size, then tears them all down; again and again.
 * Pattern     a data structure is built, used and dropped.  Caches per thread overflow on the way
 *             down and run dry on the way up, so that this measures spilling and filling, not hits.
 *             The order of the frees decides how well free blocks cluster: in order of allocation,
 *             reversed, or shuffled.  Known from compilers, caches, and list and tree benchmarks.
 *             With several threads, each with blocks of its own, it shows whether the places that
 *             they spill to and fill from are in each other's way.
 * Arguments   count of blocks, size in bytes, order (order, reverse, shuffle), total blocks over
 *             all repetitions, seed (for shuffle), threads; count and total of each thread
 * An op       is one block built and freed.
 * Checksum    the sum of the first words read as the blocks are freed.
 */
#include "common.h"

struct worker {
    _Alignas(BENCH_LINE_BYTES) pthread_t thread;
    size_t count, size;
    uint64_t repetitions;
    void **blocks;
    uint32_t *order;
    pthread_barrier_t *barrier; /* NULL for one thread: it would make a call */
    struct bench_span taken;
    uint64_t checksum;
};

static void fill_order(uint32_t *order, size_t count, unsigned kind, uint64_t seed, size_t stream)
{
    struct bench_rng rng = bench_rng_seed(seed, stream);
    for (size_t i = 0; i < count; i++) order[i] = (uint32_t)(kind == 1 ? count - 1 - i : i);
    if (kind != 2) return;
    for (size_t i = count - 1; i > 0; i--) {
        size_t j = bench_pick(bench_rng_next(&rng), i + 1);
        uint32_t swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    void **blocks = worker->blocks;
    const uint32_t *order = worker->order;
    size_t count = worker->count;
    size_t size = worker->size;
    uint64_t sum = 0;
    if (worker->barrier != NULL) pthread_barrier_wait(worker->barrier);
    worker->taken.begin = bench_now();
    for (uint64_t repetition = 0; repetition < worker->repetitions; repetition++) {
        for (size_t i = 0; i < count; i++) {
            blocks[i] = bench_need(malloc(size));
            bench_put(blocks[i], 0, i + repetition);
        }
        for (size_t i = 0; i < count; i++) {
            void *block = blocks[order[i]];
            sum += bench_get(block, 0);
            free(block);
        }
    }
    worker->taken.end = bench_now();
    worker->checksum = sum;
    return NULL;
}

static void worker_prepare(struct worker *worker, unsigned kind, uint64_t seed, size_t stream)
{
    worker->blocks = bench_map(worker->count * sizeof *worker->blocks);
    worker->order = bench_map(worker->count * sizeof *worker->order);
    memset(worker->blocks, 0xff, worker->count * sizeof *worker->blocks);
    fill_order(worker->order, worker->count, kind, seed, stream);
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("bulk", argc, argv);
    size_t count = bench_arg(&args, "count", 100000, 1, 1u << 28);
    size_t size = bench_arg(&args, "size", 64, 8, 1u << 24);
    unsigned kind = bench_arg_word(&args, "order", "order|reverse|shuffle");
    uint64_t total = bench_arg(&args, "total", 20000000, 1, UINT64_C(1) << 40);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    size_t thread_count = bench_arg(&args, "threads", 1, 1, BENCH_THREADS_MAX);
    bench_args_end(&args);

    uint64_t repetitions = total / count != 0 ? total / count : 1;
    struct worker *workers = bench_map(thread_count * sizeof *workers);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)thread_count);
    for (size_t t = 0; t < thread_count; t++) {
        workers[t].count = count;
        workers[t].size = size;
        workers[t].repetitions = repetitions;
        if (thread_count > 1) workers[t].barrier = &barrier;
        worker_prepare(&workers[t], kind, seed, t);
    }
    for (size_t t = 1; t < thread_count; t++)
        bench_thread_start(&workers[t].thread, worker_main, &workers[t]);
    worker_main(&workers[0]); /* of one, the process has no other */

    struct bench_span whole = workers[0].taken;
    uint64_t checksum = workers[0].checksum;
    for (size_t t = 1; t < thread_count; t++) {
        pthread_join(workers[t].thread, NULL);
        checksum += workers[t].checksum;
        bench_span_join(&whole, workers[t].taken);
    }
    double seconds = whole.end - whole.begin;
    bench_report("bulk", thread_count * repetitions * count, seconds, checksum, "");
    return 0;
}
