/* prodcons.c -- all allocations in one thread, all frees in another.
 * Pattern     a pipeline: a producer allocates messages and puts them into a bounded queue, a
 *             consumer takes them out, reads and frees them.  Every free is remote.  Known from the
 *             producer-consumer test of the Hoard paper (Berger et al., ASPLOS 2000) and xmalloc.
 * Arguments   pairs of threads, messages a pair, min and max size in bytes, queue length (a power
 *             of two), seed
 * An op       is one message: malloc in the producer, free in the consumer.  The queue is a
 *             single-producer single-consumer ring whose ends are published once in 32 messages,
 *             and before waiting, so that the ring's own cache lines cost little; a side that has
 *             to wait spins a little, then yields.  The two sides of a pair are pinned to
 *             different CPUs: left alone, they are sometimes put on one, where a message costs a
 *             tenth.
 * Checksum    the sum of the messages' first words as the consumers read them. live_kib is what the
 *             fullest queues held, of messages of middle size: how full they get is chance.
 */
#include "common.h"

#define SPINS_BEFORE_YIELD 64u
#define BATCH 32u

struct pair {
    /* producer's own */
    _Alignas(BENCH_LINE_BYTES) uint64_t put; /* release in produce pairs with acquire in consume */
    uint64_t taken_seen;
    /* consumer's own */
    _Alignas(BENCH_LINE_BYTES) uint64_t taken; /* the same the other way round */
    uint64_t put_seen;
    uint64_t deepest; /* most messages that it saw waiting */
    uint64_t checksum;
    /* immutable */
    _Alignas(BENCH_LINE_BYTES) void **ring;
    uint64_t ring_count;
    uint64_t messages;
    size_t min;
    size_t span;
    struct bench_rng rng;
    pthread_barrier_t *barrier;
    struct bench_span time_taken; /* begun by the producer, ended by the consumer */
    pthread_t producer, consumer;
};

/* Waits until *other is above `value`, and returns it. */
static uint64_t await(const uint64_t *other, uint64_t value)
{
    unsigned spins = 0;
    for (;;) {
        uint64_t now = __atomic_load_n(other, __ATOMIC_ACQUIRE);
        if (now > value) return now;
        if (++spins >= SPINS_BEFORE_YIELD) {
            sched_yield();
            spins = 0;
        }
    }
}

static void *produce(void *argument)
{
    struct pair *pair = argument;
    struct bench_rng rng = pair->rng;
    pthread_barrier_wait(pair->barrier);
    pair->time_taken.begin = bench_now();
    for (uint64_t i = 0; i < pair->messages; i++) {
        void *block = bench_need(malloc(pair->min + bench_pick(bench_rng_next(&rng), pair->span)));
        bench_put(block, 0, i);
        if (i - pair->taken_seen >= pair->ring_count) {
            __atomic_store_n(&pair->put, i, __ATOMIC_RELEASE);
            pair->taken_seen = await(&pair->taken, i - pair->ring_count);
        }
        pair->ring[i & (pair->ring_count - 1)] = block;
        if ((i + 1) % BATCH == 0) __atomic_store_n(&pair->put, i + 1, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&pair->put, pair->messages, __ATOMIC_RELEASE);
    return NULL;
}

static void *consume(void *argument)
{
    struct pair *pair = argument;
    uint64_t checksum = 0;
    uint64_t deepest = 0;
    pthread_barrier_wait(pair->barrier);
    for (uint64_t i = 0; i < pair->messages; i++) {
        if (pair->put_seen <= i) {
            __atomic_store_n(&pair->taken, i, __ATOMIC_RELEASE);
            pair->put_seen = await(&pair->put, i);
            if (pair->put_seen - i > deepest) deepest = pair->put_seen - i;
        }
        void *block = pair->ring[i & (pair->ring_count - 1)];
        if ((i + 1) % BATCH == 0) __atomic_store_n(&pair->taken, i + 1, __ATOMIC_RELEASE);
        checksum += bench_get(block, 0);
        free(block);
    }
    pair->time_taken.end = bench_now();
    pair->deepest = deepest;
    pair->checksum = checksum;
    return NULL;
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("prodcons", argc, argv);
    size_t pair_count = bench_arg(&args, "pairs", 1, 1, BENCH_THREADS_MAX / 2);
    uint64_t messages = bench_arg(&args, "messages", 4000000, 1, UINT64_C(1) << 40);
    size_t min = bench_arg(&args, "min", 16, 8, 1u << 30);
    size_t max = bench_arg(&args, "max", 256, min, 1u << 30);
    uint64_t ring_count = bench_arg(&args, "queue", 1024, 2 * BATCH, 1u << 24);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    bench_args_end(&args);
    if ((ring_count & (ring_count - 1)) != 0) bench_die(2, "queue must be a power of two");

    struct pair *pairs = bench_map(pair_count * sizeof *pairs);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)pair_count * 2);
    for (size_t p = 0; p < pair_count; p++) {
        pairs[p].ring = bench_map(ring_count * sizeof *pairs[p].ring);
        pairs[p].ring_count = ring_count;
        pairs[p].messages = messages;
        pairs[p].min = min;
        pairs[p].span = max - min + 1;
        pairs[p].rng = bench_rng_seed(seed, p);
        pairs[p].barrier = &barrier;
        bench_thread_start(&pairs[p].producer, produce, &pairs[p]);
        bench_thread_start(&pairs[p].consumer, consume, &pairs[p]);
        bench_thread_pin(pairs[p].producer, 2 * p);
        bench_thread_pin(pairs[p].consumer, 2 * p + 1);
    }
    struct bench_span whole = { 0.0, 0.0 };
    uint64_t checksum = 0;
    uint64_t deepest = 0;
    for (size_t p = 0; p < pair_count; p++) {
        pthread_join(pairs[p].producer, NULL);
        pthread_join(pairs[p].consumer, NULL);
        checksum += pairs[p].checksum;
        deepest += pairs[p].deepest;
        bench_span_join(&whole, pairs[p].time_taken);
    }
    double seconds = whole.end - whole.begin;
    char extra[48]; /* the last message that was read is live, too */
    snprintf(extra, sizeof extra, " live_kib=%zu", (size_t)(deepest + pair_count) * (min + max) / 2048);
    bench_report("prodcons", pair_count * messages, seconds, checksum, extra);
    return 0;
}
