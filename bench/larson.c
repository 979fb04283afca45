/* larson.c -- a server whose threads hand their blocks on to their successors.
 * Pattern     from P. Larson and M. Krishnan, "Memory Allocation for Long-Running Server
 *             Applications" (ISMM 1998): each thread replaces random chunks of its array by chunks
 *             of random size; after `rounds` replacements it starts a successor, which inherits the
 *             array and goes on, and ends.  So a block is mostly freed by another thread than the
 *             one that allocated it, and threads come and go while their blocks live on.
 * Arguments   threads (at a time), seconds, min and max size in bytes, chunks a thread, rounds
 *             (replacements in a thread's life), seed, lives (0: bounded by time). `larson 1 5 1
 *             1000 100 10000 42`: 1 thread for 5 s, 1-1000 bytes, 100 chunks, 10,000 rounds, seed
 *             42.
 * An op       is a replacement: one free and one malloc.  Bounded by time, ops and checksum differ
 *             from run to run; bounded by lives (of each line), they do not.
 */
#include "common.h"

/* One line of threads, each the successor of the one before. */
struct lineage {
    _Alignas(BENCH_LINE_BYTES) struct bench_rng rng;
    uint64_t ops;
    uint64_t lives;
    unsigned char **chunks;
    size_t chunk_count;
    size_t min;
    size_t span;
    uint64_t rounds;
    uint64_t lives_max; /* 0: until yard.stop */
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t all_ended;
    size_t running;
    int stop; /* atomic, relaxed: only a wish to end */
} yard = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 };

static void *lineage_live(void *argument);

static void lineage_succeed(struct lineage *line)
{
    pthread_attr_t detached;
    pthread_t thread;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &detached, lineage_live, line) != 0) {
        bench_die(3, "pthread_create failed");
    }
    pthread_attr_destroy(&detached);
}

static void lineage_end(void)
{
    pthread_mutex_lock(&yard.lock);
    if (--yard.running == 0) pthread_cond_signal(&yard.all_ended);
    pthread_mutex_unlock(&yard.lock);
}

static unsigned char *chunk_new(uint64_t random, const struct lineage *line)
{
    size_t size = line->min + bench_pick_low(random, line->span);
    unsigned char *chunk = bench_need(malloc(size));
    chunk[0] = (unsigned char)size;
    chunk[size - 1] = (unsigned char)random;
    bench_keep(chunk);
    return chunk;
}

static void *lineage_live(void *argument)
{
    struct lineage *line = argument;
    struct bench_rng rng = line->rng;
    uint64_t done = 0;
    while (done < line->rounds && __atomic_load_n(&yard.stop, __ATOMIC_RELAXED) == 0) {
        uint64_t random = bench_rng_next(&rng);
        unsigned char **chunk = &line->chunks[bench_pick(random, line->chunk_count)];
        free(*chunk);
        *chunk = chunk_new(random, line);
        done++;
    }
    line->rng = rng;
    line->ops += done;
    line->lives++;
    if (done == line->rounds && line->lives != line->lives_max) {
        lineage_succeed(line);
    } else {
        lineage_end();
    }
    return NULL;
}

static void lineage_prepare(struct lineage *line, size_t index, uint64_t seed)
{
    line->rng = bench_rng_seed(seed, index);
    line->chunks = bench_need(malloc(line->chunk_count * sizeof *line->chunks));
    for (size_t i = 0; i < line->chunk_count; i++) {
        line->chunks[i] = chunk_new(bench_rng_next(&line->rng), line);
    }
}

static uint64_t lineage_bury(struct lineage *line)
{
    uint64_t checksum = 0;
    for (size_t i = 0; i < line->chunk_count; i++) {
        checksum += line->chunks[i][0];
        free(line->chunks[i]);
    }
    free(line->chunks);
    return checksum;
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("larson", argc, argv);
    size_t thread_count = bench_arg(&args, "threads", 2, 1, BENCH_THREADS_MAX);
    uint64_t duration = bench_arg(&args, "seconds", 1, 1, 3600);
    size_t min = bench_arg(&args, "min", 8, 1, 1u << 30);
    size_t max = bench_arg(&args, "max", 1000, min, 1u << 30);
    size_t chunk_count = bench_arg(&args, "chunks", 1000, 1, 1u << 24);
    uint64_t rounds = bench_arg(&args, "rounds", 10000, 1, UINT64_C(1) << 40);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    uint64_t lives_max = bench_arg(&args, "lives", 0, 0, UINT64_C(1) << 40);
    bench_args_end(&args);

    struct lineage *lines = bench_map(thread_count * sizeof *lines);
    for (size_t t = 0; t < thread_count; t++) {
        lines[t].chunk_count = chunk_count;
        lines[t].min = min;
        lines[t].span = max - min + 1;
        lines[t].rounds = rounds;
        lines[t].lives_max = lives_max;
        lineage_prepare(&lines[t], t, seed);
    }

    yard.running = thread_count;
    double start = bench_now();
    for (size_t t = 0; t < thread_count; t++) lineage_succeed(&lines[t]);
    if (lives_max == 0) bench_sleep_ms(duration * 1000);
    if (lives_max == 0) __atomic_store_n(&yard.stop, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&yard.lock);
    while (yard.running > 0) pthread_cond_wait(&yard.all_ended, &yard.lock);
    pthread_mutex_unlock(&yard.lock);
    double seconds = bench_now() - start;

    uint64_t ops = 0;
    uint64_t lives = 0;
    uint64_t checksum = 0;
    for (size_t t = 0; t < thread_count; t++) {
        ops += lines[t].ops;
        lives += lines[t].lives;
        checksum += lineage_bury(&lines[t]);
    }
    char extra[64];
    snprintf(extra, sizeof extra, " lives=%" PRIu64, lives);
    bench_report("larson", ops, seconds, checksum, extra);
    return 0;
}
