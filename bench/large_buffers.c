/* large_buffers.c -- buffers of 64 KiB to 32 MiB come and go.
 * Pattern     random replacement in a small working set of large buffers with log-uniform sizes, as
 *             images, file and network buffers and matrices are.  Here the cost is that of pages:
 *             an allocator that maps and unmaps each buffer faults every page in anew; one that
 *             keeps too much has a high peak.
 * Arguments   steps, working set (slots), min and max size in bytes, touch (per cent of each
 *             buffer's pages that are written), seed
 * An op       is a step: one free and one malloc, with one word a page written.
 * Checksum    the sum of the surviving buffers' words.
 */
#include "common.h"

#define STRIDE 4096u

struct buffer {
    char *bytes;
    size_t touched; /* bytes from the start whose pages were written */
};

static uint64_t buffer_sum(const struct buffer *buffer)
{
    uint64_t sum = 0;
    for (size_t at = 0; at + 8 <= buffer->touched; at += STRIDE) {
        sum += bench_get(buffer->bytes, at);
    }
    return sum;
}

/* min * 2^u for u uniform in 0..log2(max/min), linear within a doubling. */
static size_t log_uniform(struct bench_rng *rng, size_t min, size_t max)
{
    size_t doublings = 0;
    while (doublings < 40 && (min << doublings) < max) doublings++;
    size_t base = min << bench_pick(bench_rng_next(rng), doublings != 0 ? doublings : 1);
    uint64_t part = bench_rng_next(rng) >> 44;
    size_t size = base + (size_t)(((uint64_t)base * part) >> 20);
    return size < max ? size : max;
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("large_buffers", argc, argv);
    uint64_t steps = bench_arg(&args, "steps", 600, 1, UINT64_C(1) << 40);
    size_t slot_count = bench_arg(&args, "working_set", 16, 1, 1u << 20);
    size_t min = bench_arg(&args, "min", 64u << 10, 8, UINT64_C(1) << 36);
    size_t max = bench_arg(&args, "max", 32u << 20, min, UINT64_C(1) << 36);
    size_t touch = bench_arg(&args, "touch", 100, 0, 100);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    bench_args_end(&args);

    struct bench_rng rng = bench_rng_seed(seed, 0);
    struct buffer *buffers = bench_map(slot_count * sizeof *buffers);
    double start = bench_now();
    for (uint64_t step = 0; step < steps; step++) {
        struct buffer *buffer = &buffers[bench_pick(bench_rng_next(&rng), slot_count)];
        size_t size = log_uniform(&rng, min, max);
        free(buffer->bytes);
        buffer->bytes = bench_need(malloc(size));
        buffer->touched = size / 100 * touch;
        for (size_t at = 0; at + 8 <= buffer->touched; at += STRIDE) {
            bench_put(buffer->bytes, at, step + at);
        }
        bench_keep(buffer->bytes);
    }
    double seconds = bench_now() - start;

    uint64_t checksum = 0;
    for (size_t i = 0; i < slot_count; i++) {
        if (buffers[i].bytes == NULL) continue;
        checksum += buffer_sum(&buffers[i]);
        free(buffers[i].bytes);
    }
    bench_report("large_buffers", steps, seconds, checksum, "");
    return 0;
}
