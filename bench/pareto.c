/* pareto.c -- blocks whose sizes and lifetimes both follow a Pareto distribution.
 * Pattern     most blocks are small and die young, a few are large, a few live very long, and size
 *             and lifetime are independent; as heap traces of servers and desktop programs show.
 *             The long-lived blocks end up scattered among the short-lived ones.
 * Arguments   steps, max size in bytes (min is 16), size and lifetime exponents in hundredths
 *             (lower is heavier), threads, seed
 * An op       is one block allocated, and freed when its time (counted in steps) has come.
 * Checksum    the sum of the first words read as the blocks are freed.
 */
#include "common.h"

#include <math.h>

#define QUANTILES 65536u
#define WHEEL (1u << 20) /* steps in the calendar; the longest lifetime is one less */
#define SIZE_MIN 16u

struct node {
    void *block;
    uint32_t next; /* node index + 1, 0 ends a list */
};

struct worker {
    _Alignas(BENCH_LINE_BYTES) pthread_t thread;
    struct bench_rng rng;
    uint64_t steps;
    uint64_t checksum;
    uint32_t *wheel;    /* for each step, its list of blocks that die then */
    struct node *nodes; /* WHEEL of them: a block each at the most */
    uint32_t spare;
    uint32_t fresh;
};

static uint32_t sizes[QUANTILES];     /* immutable once threads run */
static uint32_t lifetimes[QUANTILES]; /* the same */

static void fill_quantiles(uint32_t *table, double min, double max, double exponent)
{
    for (uint32_t i = 0; i < QUANTILES; i++) {
        double upper = ((double)i + 0.5) / (double)QUANTILES;
        double value = min * pow(upper, -1.0 / exponent);
        table[i] = (uint32_t)(value < max ? value : max);
    }
}

static void worker_bury(struct worker *worker, uint32_t *list)
{
    while (*list != 0) {
        uint32_t index = *list - 1;
        struct node *node = &worker->nodes[index];
        worker->checksum += bench_get(node->block, 0);
        free(node->block);
        *list = node->next;
        node->next = worker->spare;
        worker->spare = index + 1;
    }
}

static uint32_t worker_node(struct worker *worker)
{
    if (worker->spare == 0) return worker->fresh++;
    uint32_t index = worker->spare - 1;
    worker->spare = worker->nodes[index].next;
    return index;
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    for (uint64_t step = 0; step < worker->steps; step++) {
        worker_bury(worker, &worker->wheel[step % WHEEL]);
        uint64_t random = bench_rng_next(&worker->rng);
        void *block = bench_need(malloc(sizes[random >> 48]));
        bench_put(block, 0, step);
        uint32_t index = worker_node(worker);
        uint32_t *list = &worker->wheel[(step + lifetimes[(random >> 32) & 0xffffu]) % WHEEL];
        worker->nodes[index] = (struct node){ block, *list };
        *list = index + 1;
    }
    for (uint64_t i = 0; i < WHEEL; i++) worker_bury(worker, &worker->wheel[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("pareto", argc, argv);
    uint64_t steps = bench_arg(&args, "steps", 10000000, 1, UINT64_C(1) << 40);
    size_t max = bench_arg(&args, "max", 256u << 10, SIZE_MIN, 1u << 30);
    uint64_t size_exponent = bench_arg(&args, "size_exponent", 110, 10, 1000);
    uint64_t life_exponent = bench_arg(&args, "life_exponent", 60, 10, 1000);
    size_t thread_count = bench_arg(&args, "threads", 1, 1, BENCH_THREADS_MAX);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    bench_args_end(&args);

    fill_quantiles(sizes, SIZE_MIN, (double)max, (double)size_exponent / 100.0);
    fill_quantiles(lifetimes, 1.0, (double)(WHEEL - 1), (double)life_exponent / 100.0);
    struct worker *workers = bench_map(thread_count * sizeof *workers);
    double start = bench_now();
    for (size_t t = 0; t < thread_count; t++) {
        workers[t].rng = bench_rng_seed(seed, t);
        workers[t].steps = steps;
        workers[t].wheel = bench_map(WHEEL * sizeof *workers[t].wheel);
        workers[t].nodes = bench_map(WHEEL * sizeof *workers[t].nodes);
        bench_thread_start(&workers[t].thread, worker_main, &workers[t]);
    }
    uint64_t checksum = 0;
    for (size_t t = 0; t < thread_count; t++) {
        pthread_join(workers[t].thread, NULL);
        checksum += workers[t].checksum;
    }
    double seconds = bench_now() - start;
    bench_report("pareto", thread_count * steps, seconds, checksum, "");
    return 0;
}
