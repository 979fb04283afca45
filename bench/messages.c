/* messages.c -- threads in a circle send each other messages: each allocates and frees alike.
 * Pattern     actors, or the workers of a server that pass requests on: every thread allocates what it
 *             sends and frees what it gets, so that memory flows in a circle and each free is remote.
 *             In prodcons it flows one way. Two threads send to each other.
 * Arguments   threads, messages a thread, min and max size in bytes, ring length (a power of two),
 *             seed
 * An op       is one message: malloc and a word at either end in the sender, free in the receiver.
 *             Between two neighbours is a single-producer single-consumer ring, as in prodcons. A
 *             thread sends up to 32 messages, then takes up to 32; when neither is possible it spins
 *             a little, then yields. Thread i is pinned to CPU i.
 * Checksum    the sum of the messages' words as the receivers read them.
 */
#include "common.h"

#define SPINS_BEFORE_YIELD 64u
#define BATCH 32u

/* What thread i sends, thread i + 1 takes. */
struct worker {
    /* the sender's: put by release, for the receiver's acquire */
    _Alignas(BENCH_LINE_BYTES) uint64_t put;
    /* the receiver's, likewise */
    _Alignas(BENCH_LINE_BYTES) uint64_t taken;
    /* immutable */
    _Alignas(BENCH_LINE_BYTES) struct message *ring;
    struct worker *from; /* whose ring this thread empties */
    uint64_t ring_count;
    uint64_t messages;
    size_t min;
    size_t span;
    struct bench_rng rng;
    pthread_barrier_t *barrier;
    pthread_t thread;
    /* results */
    struct bench_span span_taken;
    uint64_t checksum;
};

struct message {
    char *bytes;
    size_t count;
};

/* Sends up to BATCH messages while there is room in the ring; returns how many are sent by now. */
static uint64_t send_some(struct worker *self, struct bench_rng *rng, uint64_t sent)
{
    uint64_t end = sent + BATCH < self->messages ? sent + BATCH : self->messages;
    uint64_t room = __atomic_load_n(&self->taken, __ATOMIC_ACQUIRE) + self->ring_count;
    if (end > room) end = room;
    if (end == sent) return sent;
    for (; sent < end; sent++) {
        size_t count = self->min + bench_pick(bench_rng_next(rng), self->span);
        char *bytes = bench_need(malloc(count));
        bench_put(bytes, 0, sent);
        bench_put(bytes, count - 8, sent + count);
        self->ring[sent & (self->ring_count - 1)] = (struct message){ bytes, count };
    }
    __atomic_store_n(&self->put, sent, __ATOMIC_RELEASE);
    return sent;
}

/* Takes and frees up to BATCH messages; returns how many are taken by now. */
static uint64_t take_some(struct worker *self, uint64_t taken)
{
    struct worker *from = self->from;
    uint64_t end = __atomic_load_n(&from->put, __ATOMIC_ACQUIRE);
    if (end > taken + BATCH) end = taken + BATCH;
    if (end == taken) return taken;
    for (; taken < end; taken++) {
        struct message message = from->ring[taken & (from->ring_count - 1)];
        self->checksum += bench_get(message.bytes, 0) + bench_get(message.bytes, message.count - 8);
        free(message.bytes);
    }
    __atomic_store_n(&from->taken, taken, __ATOMIC_RELEASE);
    return taken;
}

static void *worker_main(void *argument)
{
    struct worker *self = argument;
    struct bench_rng rng = self->rng;
    uint64_t sent = 0;
    uint64_t taken = 0;
    unsigned spins = 0;
    pthread_barrier_wait(self->barrier);
    self->span_taken.begin = bench_now();
    while (sent < self->messages || taken < self->messages) {
        uint64_t before = sent + taken;
        sent = send_some(self, &rng, sent);
        taken = take_some(self, taken);
        if (sent + taken > before) {
            spins = 0;
        } else if (++spins >= SPINS_BEFORE_YIELD) {
            sched_yield();
            spins = 0;
        }
    }
    self->span_taken.end = bench_now();
    return NULL;
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("messages", argc, argv);
    size_t thread_count = bench_arg(&args, "threads", 2, 1, BENCH_THREADS_MAX);
    uint64_t messages = bench_arg(&args, "messages", 1000000, 1, UINT64_C(1) << 40);
    size_t min = bench_arg(&args, "min", 1024, 8, 1u << 30);
    size_t max = bench_arg(&args, "max", 16384, min, 1u << 30);
    uint64_t ring_count = bench_arg(&args, "ring", 512, BATCH, 1u << 24);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    bench_args_end(&args);
    if ((ring_count & (ring_count - 1)) != 0) bench_die(2, "ring must be a power of two");

    struct worker *workers = bench_map(thread_count * sizeof *workers);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)thread_count);
    for (size_t t = 0; t < thread_count; t++) {
        workers[t].ring = bench_map(ring_count * sizeof *workers[t].ring);
        workers[t].from = &workers[(t + thread_count - 1) % thread_count];
        workers[t].ring_count = ring_count;
        workers[t].messages = messages;
        workers[t].min = min;
        workers[t].span = max - min + 1;
        workers[t].rng = bench_rng_seed(seed, t);
        workers[t].barrier = &barrier;
    }
    for (size_t t = 0; t < thread_count; t++) {
        bench_thread_start(&workers[t].thread, worker_main, &workers[t]);
        bench_thread_pin(workers[t].thread, t);
    }
    struct bench_span whole = { 0.0, 0.0 };
    uint64_t checksum = 0;
    for (size_t t = 0; t < thread_count; t++) {
        pthread_join(workers[t].thread, NULL);
        checksum += workers[t].checksum;
        bench_span_join(&whole, workers[t].span_taken);
    }
    bench_report("messages", thread_count * messages, whole.end - whole.begin, checksum, "");
    return 0;
}
