/* idle_rss.c -- how much memory stays resident after a gibibyte has been freed.
 * Pattern     a program that has been through its peak and idles: allocate and touch `total` bytes
 *             in blocks of one size, free them all, sleep, make a few further calls (an allocator
 *             without a thread of its own can act only then), and look.
 * Arguments   total in bytes, size of a block in bytes, sleep in ms, calls (malloc/free pairs of 64
 *             bytes and of the block's size) after the sleep
 * Output      delta_mib is the resident memory at the end less that at the start; freed_mib the
 *             same straight after the frees, peak_mib before them.  The array of pointers is
 *             mapped, and unmapped before each look.  An op is one block.
 */
#include "common.h"

static double delta_mib(size_t now, size_t start)
{
    return now >= start ? bench_mib(now - start) : -bench_mib(start - now);
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("idle_rss", argc, argv);
    size_t total = bench_arg(&args, "total", UINT64_C(1) << 30, 1, UINT64_C(1) << 40);
    size_t size = bench_arg(&args, "size", 4096, 8, 1u << 30);
    uint64_t sleep_ms = bench_arg(&args, "sleep_ms", 1500, 0, 3600000);
    uint64_t calls = bench_arg(&args, "calls", 100, 0, 1u << 30);
    bench_args_end(&args);

    size_t count = total / size != 0 ? total / size : 1;
    size_t first = bench_rss_bytes(); /* faults in the helper's own code and stack */
    first = bench_rss_bytes();
    double start = bench_now();
    void **blocks = bench_map(count * sizeof *blocks);
    for (size_t i = 0; i < count; i++) {
        blocks[i] = bench_need(malloc(size));
        for (size_t at = 0; at + 8 <= size; at += 4096) bench_put(blocks[i], at, i);
        bench_put(blocks[i], size - 8, i);
    }
    size_t peak = bench_rss_bytes() - count * sizeof *blocks;
    uint64_t checksum = 0;
    for (size_t i = 0; i < count; i++) {
        checksum += bench_get(blocks[i], 0);
        free(blocks[i]);
    }
    munmap(blocks, count * sizeof *blocks);
    double seconds = bench_now() - start;
    size_t freed = bench_rss_bytes();
    bench_sleep_ms(sleep_ms);
    for (uint64_t i = 0; i < calls; i++) {
        void *small = bench_need(malloc(64));
        void *block = bench_need(malloc(size));
        bench_keep(small);
        bench_keep(block);
        free(small);
        free(block);
    }
    size_t last = bench_rss_bytes();
    char extra[160];
    snprintf(extra, sizeof extra, " delta_mib=%.1f freed_mib=%.1f peak_mib=%.1f",
             delta_mib(last, first), delta_mib(freed, first), delta_mib(peak, first));
    bench_report("idle_rss", count, seconds, checksum, extra);
    return 0;
}
