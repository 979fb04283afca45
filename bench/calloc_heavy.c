/* calloc_heavy.c -- zeroed blocks, most of them small, now and then a large one.
 * Pattern     random replacement with calloc: interpreters' tables, hash buckets, parsers' node
 *             arrays.  Measures how an allocator clears, and whether it knows when fresh pages are
 *             zero already.
 * Arguments   steps, working set (slots), min and max size in bytes, large_every (each how-manieth
 *             block is 64-512 KiB; 0 never), seed
 * An op       is a step: one free and one calloc. First, middle and last word of each block are
 *             tested for zero and then dirtied.
 * Checksum    the sum of the surviving blocks' first words.  Exit status 1 when a word was not
 *             zero.
 */
#include "common.h"

#define LARGE_MIN (64u * 1024u)
#define LARGE_SPAN (448u * 1024u)

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("calloc_heavy", argc, argv);
    uint64_t steps = bench_arg(&args, "steps", 3000000, 1, UINT64_C(1) << 40);
    size_t slot_count = bench_arg(&args, "working_set", 1024, 1, 1u << 24);
    size_t min = bench_arg(&args, "min", 16, 8, 1u << 30);
    size_t max = bench_arg(&args, "max", 2048, min, 1u << 30);
    uint64_t large_every = bench_arg(&args, "large_every", 1000, 0, UINT64_C(1) << 40);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    bench_args_end(&args);

    struct bench_rng rng = bench_rng_seed(seed, 0);
    void **slots = bench_map(slot_count * sizeof *slots);
    uint64_t dirty = 0;
    uint64_t until_large = large_every;

    double start = bench_now();
    for (uint64_t step = 0; step < steps; step++) {
        uint64_t random = bench_rng_next(&rng);
        void **slot = &slots[bench_pick(random, slot_count)];
        size_t size = min + bench_pick_low(random, max - min + 1);
        if (until_large != 0 && --until_large == 0) {
            size = LARGE_MIN + bench_pick_low(random, LARGE_SPAN);
            until_large = large_every;
        }
        free(*slot);
        void *block = bench_need(calloc(1, size));
        size_t middle = (size / 2) & ~(size_t)7;
        if (middle > size - 8) middle = 0;
        dirty |= bench_get(block, 0) | bench_get(block, middle) | bench_get(block, size - 8);
        bench_put(block, middle, UINT64_MAX);
        bench_put(block, size - 8, UINT64_MAX);
        bench_put(block, 0, step);
        *slot = block;
    }
    double seconds = bench_now() - start;

    uint64_t checksum = 0;
    for (size_t i = 0; i < slot_count; i++) {
        if (slots[i] == NULL) continue;
        checksum += bench_get(slots[i], 0);
        free(slots[i]);
    }
    if (dirty != 0) bench_die(1, "calloc_heavy: a block from calloc was not zero");
    bench_report("calloc_heavy", steps, seconds, checksum, "");
    return 0;
}
