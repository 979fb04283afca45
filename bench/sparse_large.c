/* sparse_large.c -- many large blocks of which hardly anything is touched.
 * Pattern     40,000 blocks of a little over 1 MiB with one page touched in each, as sparse tables
 *             and generous buffers are.  An allocator that writes into, or asks for huge pages for,
 *             what the program has not touched becomes resident with gigabytes.
 * Arguments   count, size in bytes
 * Output      rss_mib is the resident memory with all blocks live less that at the start,
 *             touched_mib what the program touched itself (its pages and the array).  An op is one
 *             block.
 */
#include "common.h"

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("sparse_large", argc, argv);
    size_t count = bench_arg(&args, "count", 40000, 1, 1u << 28);
    size_t size = bench_arg(&args, "size", (1u << 20) + 4096u, 8, UINT64_C(1) << 40);
    bench_args_end(&args);

    size_t first = bench_rss_bytes();
    first = bench_rss_bytes();
    void **blocks = bench_map(count * sizeof *blocks);
    double start = bench_now();
    for (size_t i = 0; i < count; i++) {
        blocks[i] = bench_need(malloc(size));
        bench_put(blocks[i], 0, i);
    }
    size_t last = bench_rss_bytes();
    uint64_t checksum = 0;
    for (size_t i = 0; i < count; i++) {
        checksum += bench_get(blocks[i], 0);
        free(blocks[i]);
    }
    double seconds = bench_now() - start;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t touched = count * page + count * sizeof *blocks;
    char extra[128];
    snprintf(extra, sizeof extra, " rss_mib=%.1f touched_mib=%.1f",
             bench_mib(last > first ? last - first : 0), bench_mib(touched));
    bench_report("sparse_large", count, seconds, checksum, extra);
    return 0;
}
