/* threads_exchange.c -- blocks wander between threads: taken from a shared table, checked byte for
 * byte, resized and freed by whoever has them; producers and consumers; memory stays bounded.
 * SANITY_SEED replays a run.
 */
#include "check.inc"

enum { THREADS = 8, TABLE = 2048 };

/* Every block begins with its length and the seed of its contents. */
struct header {
    size_t bytes;
    uint64_t seed;
};

static struct header *table[TABLE];
static size_t turns, damaged, out_of_memory;
static uint64_t base_seed;

static struct header *make_block(uint64_t *random) {
    size_t bytes = sizeof(struct header) + random_size(random);
    struct header *block =
        *random % 5 == 0 ? aligned_alloc((size_t)16 << (*random >> 8) % 6, bytes) : malloc(bytes);
    if (block == NULL) {
        __atomic_fetch_add(&out_of_memory, 1, __ATOMIC_RELAXED);
        return NULL;
    }
    block->bytes = bytes;
    block->seed = *random;
    pattern_fill(block + 1, bytes - sizeof *block, block->seed);
    return block;
}

static void check_block(const struct header *block) {
    if (!pattern_intact(block + 1, block->bytes - sizeof *block, block->seed))
        __atomic_fetch_add(&damaged, 1, __ATOMIC_RELAXED);
}

static struct header *resize_block(struct header *block, uint64_t *random) {
    size_t bytes = sizeof(struct header) + random_size(random), old = block->bytes;
    struct header *moved = realloc(block, bytes);
    if (moved == NULL) {
        __atomic_fetch_add(&out_of_memory, 1, __ATOMIC_RELAXED);
        return block;
    }
    size_t common = ((old < bytes ? old : bytes) - sizeof *moved) / 8 * 8;
    if (!pattern_intact(moved + 1, common, moved->seed))
        __atomic_fetch_add(&damaged, 1, __ATOMIC_RELAXED);
    moved->bytes = bytes;
    pattern_fill(moved + 1, bytes - sizeof *moved, moved->seed);
    return moved;
}

static void *exchange(void *argument) {
    uint64_t random = base_seed + 977 * ((uint64_t)(size_t)argument + 1);
    for (size_t i = 0; i < turns; i++) {
        size_t at = random_next(&random) % TABLE;
        struct header *block = __atomic_exchange_n(&table[at], NULL, __ATOMIC_ACQ_REL);
        if (block == NULL) {
            block = make_block(&random);
        } else {
            check_block(block);
            if (random >> 62 == 0) {
                block = resize_block(block, &random);
            } else if (random >> 62 == 1) {
                free(block);
                block = NULL;
            } else {
                free(block);
                block = make_block(&random);
            }
        }
        if (block != NULL) {
            struct header *other = __atomic_exchange_n(&table[at], block, __ATOMIC_ACQ_REL);
            if (other != NULL)
                check_block(other);
            free(other);
        }
    }
    return NULL;
}

static void clear_table(void) {
    for (size_t i = 0; i < TABLE; i++) {
        if (table[i] != NULL)
            check_block(table[i]);
        free(table[i]);
        table[i] = NULL;
    }
}

static void start_and_join(void *(*work)(void *), size_t count) {
    pthread_t threads[THREADS];
    for (size_t i = 0; i < count; i++)
        REQUIRE(pthread_create(&threads[i], NULL, work, (void *)i) == 0, "pthread_create");
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

static void expect_no_damage(void) {
    EXPECT(damaged == 0, "expected every block intact, found %zu damaged (SANITY_SEED=%llu)",
           damaged, (unsigned long long)base_seed);
    EXPECT(out_of_memory == 0, "expected no failed call, found %zu", out_of_memory);
}

static void blocks_exchanged_at_random_keep_their_contents(void) {
    turns = scaled(under_debug_hakmem() ? 10000 : 60000);
    start_and_join(exchange, THREADS);
    expect_no_damage();
    clear_table();
    expect_no_damage();
}

static void blocks_exchanged_by_generations_of_threads_keep_their_contents(void) {
    turns = 500;
    for (size_t generation = 0; generation < scaled(60); generation++) {
        base_seed += generation;
        start_and_join(exchange, THREADS);
    }
    expect_no_damage();
    size_t rss = rss_bytes();
    EXPECT(rss < 400 * MIB, "expected RSS below 400 MiB, found %.1f MiB", to_mib(rss));
    clear_table();
    expect_no_damage();
}

enum { QUEUE = 1024 };

static struct {
    void *items[QUEUE];
    size_t head, tail;
} queues[THREADS / 2];

static void *produce(void *argument) {
    size_t me = (size_t)argument, count = turns;
    uint64_t random = base_seed + me;
    for (size_t i = 0; i < count; i++) {
        while (i - __atomic_load_n(&queues[me].head, __ATOMIC_ACQUIRE) >= QUEUE)
            sched_yield();
        queues[me].items[i % QUEUE] = make_block(&random);
        __atomic_store_n(&queues[me].tail, i + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void *consume(void *argument) {
    size_t me = (size_t)argument, count = turns;
    for (size_t i = 0; i < count; i++) {
        while (__atomic_load_n(&queues[me].tail, __ATOMIC_ACQUIRE) <= i)
            sched_yield();
        struct header *block = queues[me].items[i % QUEUE];
        if (block != NULL)
            check_block(block);
        free(block);
        __atomic_store_n(&queues[me].head, i + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void *produce_or_consume(void *argument) {
    size_t me = (size_t)argument;
    return me % 2 == 0 ? produce((void *)(me / 2)) : consume((void *)(me / 2));
}

static void producers_and_consumers_run_in_bounded_memory(void) {
    memset(queues, 0, sizeof queues);
    turns = scaled(under_debug_hakmem() ? 20000 : 100000);
    start_and_join(produce_or_consume, THREADS);
    expect_no_damage();
    size_t rss = rss_bytes();
    EXPECT(rss < 400 * MIB, "expected RSS below 400 MiB, found %.1f MiB", to_mib(rss));
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(blocks_exchanged_at_random_keep_their_contents, 0),
    CHECK(blocks_exchanged_by_generations_of_threads_keep_their_contents, 0),
    CHECK(producers_and_consumers_run_in_bounded_memory, 0),
};

int main(int argc, char **argv) {
    const char *seed = getenv("SANITY_SEED");
    base_seed = seed != NULL ? strtoull(seed, NULL, 10) : 88172645463325252u ^ (uint64_t)time(NULL);
    printf("SANITY_SEED=%llu\n", (unsigned long long)base_seed);
    fflush(stdout);
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
