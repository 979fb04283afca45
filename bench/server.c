/* server.c -- sessions, requests and a shared cache, served by threads that end and are replaced.
 * Pattern     each worker serves requests on the sessions of one shard: a request allocates a few
 *             small strings and a body buffer and frees them when it is done; some requests open or
 *             close a session (context, table, name), and some put an entry into a cache that all
 *             workers share, which evicts an entry that some other thread may have made.  A
 *             generation of workers ends with its blocks still live; the next one gets other shards
 *             than before, so that sessions are closed by threads that did not open them.  Bodies
 *             are small in even generations and large in odd ones (phases).
 * Arguments   threads (at a time), generations, requests a worker, sessions a shard, cache entries,
 *             seed
 * An op       is one request.
 * Checksum    the sum of the words in all blocks as they are freed, whoever frees them.
 */
#include "common.h"

#define REQUEST_STRINGS 6u
#define LOCKS 64u

struct session {
    void *context;
    void *table;
    void *name;
};

struct shard {
    _Alignas(BENCH_LINE_BYTES) struct session *sessions;
    struct bench_rng rng;
    uint64_t checksum;
};

static struct {
    size_t session_count;
    size_t cache_count;
    uint64_t requests;
    void **cache; /* entry i under locks[i % LOCKS] */
    pthread_mutex_t locks[LOCKS];
} server;

struct worker {
    pthread_t thread;
    struct shard *shard;
    int large_bodies;
};

static void *block_new(size_t bytes, uint64_t tag)
{
    void *block = bench_need(malloc(bytes));
    bench_put(block, 0, tag);
    return block;
}

static uint64_t block_drop(void *block)
{
    if (block == NULL) return 0;
    uint64_t tag = bench_get(block, 0);
    free(block);
    return tag;
}

static uint64_t session_close(struct session *session)
{
    uint64_t sum = block_drop(session->context) + block_drop(session->table);
    sum += block_drop(session->name);
    *session = (struct session){ NULL, NULL, NULL };
    return sum;
}

static void session_open(struct session *session, uint64_t random)
{
    session->context = block_new(600 + (random & 511u), random);
    session->table = block_new(((size_t)1 << (8 + (random >> 61))) + 64, random >> 1);
    session->name = block_new(16 + (random >> 58), random >> 2);
}

static uint64_t cache_replace(uint64_t random)
{
    size_t index = bench_pick(random, server.cache_count);
    void *fresh = block_new(64 + bench_pick_low(random, 4000), random);
    pthread_mutex_lock(&server.locks[index % LOCKS]);
    void *stale = server.cache[index];
    server.cache[index] = fresh;
    pthread_mutex_unlock(&server.locks[index % LOCKS]);
    return block_drop(stale);
}

static uint64_t request_serve(struct shard *shard, int large_bodies)
{
    void *strings[REQUEST_STRINGS];
    uint64_t sum = 0;
    uint64_t random = bench_rng_next(&shard->rng);
    size_t body_bytes = large_bodies ? 4096 + bench_pick_low(random, 60u << 10)
                                     : 128 + bench_pick_low(random, 2048);
    void *body = block_new(body_bytes, random);
    for (unsigned i = 0; i < REQUEST_STRINGS; i++) {
        strings[i] = block_new(16 + ((random >> (i * 8)) & 127u), i);
    }
    struct session *session = &shard->sessions[bench_pick(random, server.session_count)];
    if (session->context == NULL) {
        session_open(session, random);
    } else if ((random & 7u) == 0) {
        sum += session_close(session);
    }
    if ((random & 15u) == 1) sum += cache_replace(bench_rng_next(&shard->rng));
    for (unsigned i = 0; i < REQUEST_STRINGS; i++) sum += block_drop(strings[i]);
    return sum + block_drop(body);
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < server.requests; i++) {
        sum += request_serve(worker->shard, worker->large_bodies);
    }
    worker->shard->checksum += sum;
    return NULL;
}

static uint64_t server_tear_down(struct shard *shards, size_t shard_count)
{
    uint64_t sum = 0;
    for (size_t t = 0; t < shard_count; t++) {
        sum += shards[t].checksum;
        for (size_t i = 0; i < server.session_count; i++) {
            sum += session_close(&shards[t].sessions[i]);
        }
    }
    for (size_t i = 0; i < server.cache_count; i++) sum += block_drop(server.cache[i]);
    return sum;
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("server", argc, argv);
    size_t thread_count = bench_arg(&args, "threads", 4, 1, BENCH_THREADS_MAX);
    uint64_t generations = bench_arg(&args, "generations", 20, 1, 1u << 20);
    server.requests = bench_arg(&args, "requests", 30000, 1, UINT64_C(1) << 32);
    server.session_count = bench_arg(&args, "sessions", 2000, 1, 1u << 24);
    server.cache_count = bench_arg(&args, "cache", 5000, 1, 1u << 24);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    bench_args_end(&args);

    struct shard *shards = bench_map(thread_count * sizeof *shards);
    struct worker *workers = bench_map(thread_count * sizeof *workers);
    server.cache = bench_map(server.cache_count * sizeof *server.cache);
    for (size_t i = 0; i < LOCKS; i++) pthread_mutex_init(&server.locks[i], NULL);
    for (size_t t = 0; t < thread_count; t++) {
        shards[t].sessions = bench_map(server.session_count * sizeof *shards[t].sessions);
        shards[t].rng = bench_rng_seed(seed, t);
    }
    double start = bench_now();
    for (uint64_t generation = 0; generation < generations; generation++) {
        for (size_t t = 0; t < thread_count; t++) {
            workers[t].shard = &shards[(t + generation) % thread_count];
            workers[t].large_bodies = (generation & 1u) != 0;
            bench_thread_start(&workers[t].thread, worker_main, &workers[t]);
        }
        for (size_t t = 0; t < thread_count; t++) pthread_join(workers[t].thread, NULL);
    }
    double seconds = bench_now() - start;
    uint64_t checksum = server_tear_down(shards, thread_count);
    bench_report("server", thread_count * generations * server.requests, seconds, checksum, "");
    return 0;
}
