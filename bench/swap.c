/* swap.c -- threads exchange blocks through one table that all of them share.
 * Pattern     each thread allocates a block, swaps it with what lies in a random place of the table,
 *             and frees that: whoever allocated it, however long ago. Caches and connection pools
 *             do so; known from xmalloc and mstress of the literature. With `lives` above 1 each
 *             thread ends after its share of the steps, and another takes over, so that most of
 *             what the table holds was allocated by threads that are gone.
 * Arguments   threads, steps a thread (all its lives together), places, min and max size in bytes,
 *             lives, seed
 * An op       is one step: malloc, two words written, an atomic exchange, free. All powers of two
 *             between min and max are equally likely, and so are the sizes between two of them.
 * Checksum    the sum of the words that each block had when it came out of the table: each comes out
 *             once, whoever takes it, so the order does not matter.
 */
#include "common.h"

struct block {
    uint64_t bytes;
    uint64_t tag;
};

struct shared {
    struct block **places;
    size_t place_count;
    size_t min;
    size_t max;
    unsigned doublings;
};

struct worker {
    _Alignas(BENCH_LINE_BYTES) pthread_t thread;
    const struct shared *shared;
    uint64_t steps; /* of one life */
    struct bench_rng rng;
    struct bench_span taken;
    uint64_t checksum;
};

static size_t pick_bytes(const struct shared *shared, struct bench_rng *rng)
{
    uint64_t random = bench_rng_next(rng);
    size_t base = shared->min << bench_pick(random, shared->doublings);
    size_t bytes = base + bench_pick_low(random, base);
    return bytes < shared->max ? bytes : shared->max;
}

static uint64_t take_out(struct block *block)
{
    if (block == NULL) return 0;
    uint64_t sum = block->tag + bench_get(block, block->bytes - 8);
    free(block);
    return sum;
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    const struct shared *shared = worker->shared;
    struct bench_rng rng = worker->rng;
    struct bench_span span = { bench_now(), 0.0 };
    for (uint64_t step = 0; step < worker->steps; step++) {
        size_t bytes = pick_bytes(shared, &rng);
        struct block *block = bench_need(malloc(bytes));
        *block = (struct block){ bytes, step };
        bench_put(block, bytes - 8, step + bytes);
        struct block **place = &shared->places[bench_pick(bench_rng_next(&rng), shared->place_count)];
        worker->checksum += take_out(__atomic_exchange_n(place, block, __ATOMIC_ACQ_REL));
    }
    span.end = bench_now();
    bench_span_join(&worker->taken, span);
    worker->rng = rng;
    return NULL;
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("swap", argc, argv);
    size_t thread_count = bench_arg(&args, "threads", 2, 1, BENCH_THREADS_MAX);
    uint64_t steps = bench_arg(&args, "steps", 1000000, 1, UINT64_C(1) << 40);
    size_t place_count = bench_arg(&args, "places", 4096, 1, 1u << 28);
    size_t min = bench_arg(&args, "min", 16, sizeof(struct block), 1u << 30);
    size_t max = bench_arg(&args, "max", 8000, min, 1u << 30);
    uint64_t lives = bench_arg(&args, "lives", 1, 1, 1u << 20);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    bench_args_end(&args);

    struct shared shared = { bench_map(place_count * sizeof(void *)), place_count, min, max, 1 };
    while (min << shared.doublings < max) shared.doublings++;
    struct worker *workers = bench_map(thread_count * sizeof *workers);
    for (size_t t = 0; t < thread_count; t++) {
        workers[t].shared = &shared;
        workers[t].steps = (steps + lives - 1) / lives;
        workers[t].rng = bench_rng_seed(seed, t);
        bench_thread_start(&workers[t].thread, worker_main, &workers[t]);
    }
    struct bench_span whole = { 0.0, 0.0 };
    uint64_t checksum = 0;
    for (uint64_t life = 1; life <= lives; life++) {
        for (size_t t = 0; t < thread_count; t++) {
            pthread_join(workers[t].thread, NULL);
            if (life < lives) bench_thread_start(&workers[t].thread, worker_main, &workers[t]);
        }
    }
    for (size_t t = 0; t < thread_count; t++) {
        checksum += workers[t].checksum;
        bench_span_join(&whole, workers[t].taken);
    }
    for (size_t i = 0; i < place_count; i++) checksum += take_out(shared.places[i]);
    bench_report("swap", thread_count * lives * workers[0].steps, whole.end - whole.begin, checksum,
                 "");
    return 0;
}
