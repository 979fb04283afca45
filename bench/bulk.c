/* bulk.c -- builds N blocks of one size, then tears them all down; again and again.
 * Pattern     a data structure is built, used and dropped.  Caches per thread overflow on the way
 *             down and run dry on the way up, so that this measures spilling and filling, not hits.
 *             The order of the frees decides how well free blocks cluster: in order of allocation,
 *             reversed, or shuffled.  Known from compilers, caches, and list and tree benchmarks.
 * Arguments   count of blocks, size in bytes, order (order, reverse, shuffle), total blocks over
 *             all repetitions, seed (for shuffle)
 * An op       is one block built and freed.
 * Checksum    the sum of the first words read as the blocks are freed.
 */
#include "common.h"

static void fill_order(uint32_t *order, size_t count, unsigned kind, uint64_t seed)
{
    struct bench_rng rng = bench_rng_seed(seed, 0);
    for (size_t i = 0; i < count; i++) order[i] = (uint32_t)(kind == 1 ? count - 1 - i : i);
    if (kind != 2) return;
    for (size_t i = count - 1; i > 0; i--) {
        size_t j = bench_pick(bench_rng_next(&rng), i + 1);
        uint32_t swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("bulk", argc, argv);
    size_t count = bench_arg(&args, "count", 100000, 1, 1u << 28);
    size_t size = bench_arg(&args, "size", 64, 8, 1u << 24);
    unsigned kind = bench_arg_word(&args, "order", "order|reverse|shuffle");
    uint64_t total = bench_arg(&args, "total", 20000000, 1, UINT64_C(1) << 40);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    bench_args_end(&args);

    void **blocks = bench_map(count * sizeof *blocks);
    uint32_t *order = bench_map(count * sizeof *order);
    memset(blocks, 0xff, count * sizeof *blocks);
    fill_order(order, count, kind, seed);
    uint64_t repetitions = total / count != 0 ? total / count : 1;

    uint64_t checksum = 0;
    double start = bench_now();
    for (uint64_t repetition = 0; repetition < repetitions; repetition++) {
        for (size_t i = 0; i < count; i++) {
            blocks[i] = bench_need(malloc(size));
            bench_put(blocks[i], 0, i + repetition);
        }
        for (size_t i = 0; i < count; i++) {
            void *block = blocks[order[i]];
            checksum += bench_get(block, 0);
            free(block);
        }
    }
    double seconds = bench_now() - start;
    bench_report("bulk", repetitions * count, seconds, checksum, "");
    return 0;
}
