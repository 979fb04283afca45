/* aligned.c -- aligned buffers come and go.
 * Pattern     random replacement with aligned_alloc: vector units, direct I/O and page-sized tables
 *             ask for alignments from a cache line to a few pages, mostly of small buffers.
 * Arguments   steps, working set (slots), max alignment in bytes (a power of two; min is 32), max
 *             size in bytes, seed
 * An op       is a step: one free and one aligned_alloc.
 * Checksum    the sum of the surviving blocks' first words.  Exit status 1 on a misaligned block.
 */
#include "common.h"

#define ALIGNMENT_MIN 32u

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("aligned", argc, argv);
    uint64_t steps = bench_arg(&args, "steps", 3000000, 1, UINT64_C(1) << 40);
    size_t slot_count = bench_arg(&args, "working_set", 2048, 1, 1u << 24);
    size_t alignment_max = bench_arg(&args, "alignment_max", 4096, ALIGNMENT_MIN, 1u << 24);
    size_t max = bench_arg(&args, "max", 4096, 32, 1u << 30);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    bench_args_end(&args);

    size_t doublings = 1;
    while ((size_t)ALIGNMENT_MIN << doublings <= alignment_max) doublings++;
    struct bench_rng rng = bench_rng_seed(seed, 0);
    void **slots = bench_map(slot_count * sizeof *slots);
    uintptr_t astray = 0;

    double start = bench_now();
    for (uint64_t step = 0; step < steps; step++) {
        uint64_t random = bench_rng_next(&rng);
        void **slot = &slots[bench_pick(random, slot_count)];
        size_t alignment = (size_t)ALIGNMENT_MIN << (random & 0xffu) * doublings / 256;
        size_t size = 32 + (bench_pick_low(random, max - 31) & ~(size_t)31);
        size = (size + alignment - 1) & ~(alignment - 1); /* a multiple, as C11 asked for */
        free(*slot);
        *slot = bench_need(aligned_alloc(alignment, size));
        astray |= (uintptr_t)*slot & (alignment - 1);
        bench_put(*slot, 0, step);
    }
    double seconds = bench_now() - start;

    uint64_t checksum = 0;
    for (size_t i = 0; i < slot_count; i++) {
        if (slots[i] == NULL) continue;
        checksum += bench_get(slots[i], 0);
        free(slots[i]);
    }
    if (astray != 0) bench_die(1, "aligned: a block was not aligned");
    bench_report("aligned", steps, seconds, checksum, "");
    return 0;
}
