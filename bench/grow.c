/* grow.c -- vectors that grow through realloc, or one block that grows very large.
 * Pattern     vectors: many vectors side by side take elements in turn and double when they are
 *             full, until they are dropped; as every dynamic array does. giant: one block from 1
 *             KiB to `bytes` by halves (size += size / 2), each new page touched once; as a log, an
 *             archive or a matrix that is read in.  The peak of the resident memory tells whether
 *             the allocator copies (2-3 times the final size) or moves pages.
 * Arguments   mode (vectors, giant), repetitions, vectors, elements (8 bytes each) a vector at the
 *             most, bytes (final size of the giant), seed
 * An op       is one element appended (vectors) or one page touched (giant).
 * Checksum    vectors: the sum of all elements at the end of each vector's life; giant: of the
 *             words.
 */
#include "common.h"

#define STRIDE 4096u

struct vector {
    uint64_t *items;
    size_t count;
    size_t capacity;
    size_t limit; /* dropped when it reaches this */
};

static uint64_t vector_drop(struct vector *vector)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < vector->count; i++) sum += vector->items[i];
    free(vector->items);
    *vector = (struct vector){ NULL, 0, 0, 0 };
    return sum;
}

/* Appends a run of 1..16 elements to a random vector, until each has been dropped about once. */
static uint64_t grow_vectors(struct vector *vectors, size_t vector_count, size_t elements,
                             struct bench_rng *rng, uint64_t *ops)
{
    uint64_t checksum = 0;
    uint64_t budget = (uint64_t)vector_count * elements / 2;
    for (uint64_t done = 0; done < budget;) {
        uint64_t random = bench_rng_next(rng);
        struct vector *vector = &vectors[bench_pick(random, vector_count)];
        size_t run = 1 + (random & 15u);
        if (vector->limit == 0) vector->limit = 1 + bench_pick_low(random, elements);
        for (size_t i = 0; i < run; i++) {
            if (vector->count == vector->capacity) {
                vector->capacity = vector->capacity != 0 ? vector->capacity * 2 : 4;
                vector->items = bench_need(
                    realloc(vector->items, vector->capacity * sizeof *vector->items));
            }
            vector->items[vector->count++] = done + i;
        }
        done += run;
        *ops += run;
        if (vector->count >= vector->limit) checksum += vector_drop(vector);
    }
    for (size_t i = 0; i < vector_count; i++) checksum += vector_drop(&vectors[i]);
    return checksum;
}

static uint64_t grow_giant(size_t bytes, uint64_t *ops)
{
    size_t size = 1024;
    size_t touched = 0; /* offset of the next page to touch */
    char *block = bench_need(malloc(size));
    for (;;) {
        for (; touched + 8 <= size; touched += STRIDE) {
            bench_put(block, touched, touched);
            ++*ops;
        }
        if (size >= bytes) break;
        size = size + size / 2 < bytes ? size + size / 2 : bytes;
        block = bench_need(realloc(block, size));
    }
    uint64_t checksum = 0;
    for (size_t offset = 0; offset < touched; offset += STRIDE) {
        checksum += bench_get(block, offset);
    }
    free(block);
    return checksum;
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("grow", argc, argv);
    unsigned giant = bench_arg_word(&args, "mode", "vectors|giant");
    uint64_t repetitions = bench_arg(&args, "repetitions", giant ? 1 : 40, 1, 1u << 30);
    size_t vector_count = bench_arg(&args, "vectors", 200, 1, 1u << 20);
    size_t elements = bench_arg(&args, "elements", 20000, 1, 1u << 28);
    size_t bytes = bench_arg(&args, "bytes", UINT64_C(1) << 30, 1024, UINT64_C(1) << 36);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    bench_args_end(&args);

    struct bench_rng rng = bench_rng_seed(seed, 0);
    struct vector *vectors = bench_map(vector_count * sizeof *vectors);
    uint64_t ops = 0;
    uint64_t checksum = 0;
    double start = bench_now();
    for (uint64_t i = 0; i < repetitions; i++) {
        checksum += giant ? grow_giant(bytes, &ops)
                          : grow_vectors(vectors, vector_count, elements, &rng, &ops);
    }
    double seconds = bench_now() - start;
    char extra[96];
    snprintf(extra, sizeof extra, " rss_peak_mib=%.1f", bench_mib(bench_rss_peak_bytes()));
    bench_report(giant ? "grow_giant" : "grow_vectors", ops, seconds, checksum, extra);
    return 0;
}
