/* random_mixed.c -- one thread replaces random blocks of random size in a working set.
 * Pattern     each step picks a slot at random, frees what it holds and allocates anew, 16-1040
 *             bytes uniformly.  Known from most allocator papers as the random replacement test; it
 *             mixes many size classes with no order at all in the frees.
 * Arguments   steps, working set (slots), seed, min and max size in bytes
 * An op       is a step: one free and one malloc.  The last working set is torn down untimed.
 * Checksum    the sum of what the surviving blocks' first words hold at the end.
 */
#include "common.h"

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("random_mixed", argc, argv);
    uint64_t steps = bench_arg(&args, "steps", 10000000, 1, UINT64_C(1) << 40);
    size_t slot_count = bench_arg(&args, "working_set", 4096, 1, 1u << 28);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    size_t min = bench_arg(&args, "min", 16, 8, 1u << 30);
    size_t max = bench_arg(&args, "max", 1040, min, 1u << 30);
    bench_args_end(&args);

    struct bench_rng rng = bench_rng_seed(seed, 0);
    void **slots = bench_map(slot_count * sizeof *slots);
    size_t span = max - min + 1;

    double start = bench_now();
    for (uint64_t step = 0; step < steps; step++) {
        uint64_t random = bench_rng_next(&rng);
        void **slot = &slots[bench_pick(random, slot_count)];
        if (*slot != NULL) free(*slot);
        *slot = bench_need(malloc(min + bench_pick_low(random, span)));
        bench_put(*slot, 0, step);
    }
    double seconds = bench_now() - start;

    uint64_t checksum = 0;
    for (size_t i = 0; i < slot_count; i++) {
        if (slots[i] == NULL) continue;
        checksum += bench_get(slots[i], 0);
        free(slots[i]);
    }
    bench_report("random_mixed", steps, seconds, checksum, "");
    return 0;
}
