/* oracle.c -- random calls of the whole interface against a model of what is live: contents, sizes,
 * overlap by address, ownership and the live counts.  Once in one thread, then in several that hand
 * blocks to each other. SANITY_SEED replays a run.
 */
#include "api.inc"

enum { SLOTS = 512, THREADS = 4, SHARED = 256 };

struct entry {
    unsigned char *block;
    size_t bytes;     /* as asked for, and filled */
    size_t alignment; /* 0: not from an aligned call */
    uint64_t seed;
};

struct model {
    struct entry entries[SLOTS];
    uint64_t random;
    size_t id;
};

#define PLAIN_FREE SIZE_MAX /* in place of an alignment: sized frees do not apply */

static uint64_t base_seed;

static void check_entry(const struct entry *entry) {
    size_t at = pattern_differs(entry->block, entry->bytes, entry->seed);
    EXPECT(at == entry->bytes, "block %p of %zu bytes: byte %zu differs (SANITY_SEED=%llu)",
           (void *)entry->block, entry->bytes, at, (unsigned long long)base_seed);
    EXPECT(hkm_malloc_usable_size(entry->block) >= entry->bytes,
           "block %p of %zu bytes: usable size %zu", (void *)entry->block, entry->bytes,
           hkm_malloc_usable_size(entry->block));
    EXPECT(hkm_owns(entry->block) == 1 && hkm_owns(entry->block + entry->bytes / 2) == 1,
           "block %p of %zu bytes: expected owned", (void *)entry->block, entry->bytes);
}

static void allocate_entry(struct model *model, struct entry *entry) {
    uint64_t random = random_next(&model->random);
    size_t bytes = random_size(&model->random), count = 1 + random % 9;
    void *out = NULL;
    *entry = (struct entry){NULL, bytes, 0, random};
    switch (random >> 32 & 7) {
    case 0:
        entry->bytes = count * (bytes / count + 1);
        entry->block = hkm_calloc(count, bytes / count + 1);
        for (size_t i = 0; entry->block != NULL && i < entry->bytes; i++)
            EXPECT(entry->block[i] == 0, "hkm_calloc: byte %zu of %zu is not zero", i,
                   entry->bytes);
        break;
    case 1:
        entry->alignment = (size_t)1 << (random >> 40) % 15;
        entry->block = hkm_aligned_alloc(entry->alignment, bytes);
        break;
    case 2:
        entry->alignment = (size_t)8 << (random >> 40) % 12;
        if (hkm_posix_memalign(&out, entry->alignment, bytes) == 0)
            entry->block = out;
        break;
    case 3:
        entry->block = hkm_realloc(NULL, bytes);
        break;
    default:
        entry->block = hkm_malloc(bytes);
        break;
    }
    REQUIRE(entry->block != NULL, "an allocation of %zu bytes failed", entry->bytes);
    size_t alignment = entry->alignment > 16 ? entry->alignment : 16;
    EXPECT((uintptr_t)entry->block % alignment == 0, "%p is not %zu-aligned", (void *)entry->block,
           alignment);
    pattern_fill(entry->block, 0, entry->bytes, entry->seed);
}

static void free_entry(struct model *model, struct entry *entry) {
    uint64_t random = random_next(&model->random);
    check_entry(entry);
    if (entry->alignment != 0 && entry->alignment != PLAIN_FREE && random % 2 == 0)
        hkm_free_aligned_sized(entry->block, entry->alignment, entry->bytes);
    else if (entry->alignment == 0 && random % 4 == 0)
        hkm_free_sized(entry->block, entry->bytes);
    else
        hkm_free(entry->block);
    entry->block = NULL;
}

static void resize_entry(struct model *model, struct entry *entry) {
    uint64_t random = random_next(&model->random);
    size_t bytes = random_size(&model->random);
    check_entry(entry);
    if (random % 4 == 0) {
        if (hkm_expand(entry->block, bytes) == NULL || bytes < entry->bytes)
            return;
        pattern_fill(entry->block, entry->bytes, bytes, entry->seed);
        entry->bytes = bytes;
        entry->alignment = PLAIN_FREE; /* its size is no longer the one it was made with */
        return;
    }
    unsigned char *moved = random % 4 == 1 ? hkm_reallocarray(entry->block, 1, bytes)
                                           : hkm_realloc(entry->block, bytes);
    REQUIRE(moved != NULL, "a resize to %zu bytes failed", bytes);
    size_t common = bytes < entry->bytes ? bytes : entry->bytes;
    size_t at = pattern_differs(moved, common, entry->seed);
    EXPECT(at == common, "resize %zu -> %zu: byte %zu differs (SANITY_SEED=%llu)", entry->bytes,
           bytes, at, (unsigned long long)base_seed);
    pattern_fill(moved, common, bytes, entry->seed);
    entry->block = moved;
    entry->bytes = bytes;
    entry->alignment = 0;
}

static void one_step(struct model *model) {
    struct entry *entry = &model->entries[random_next(&model->random) % SLOTS];
    if (entry->block == NULL)
        allocate_entry(model, entry);
    else if (model->random >> 33 & 1)
        free_entry(model, entry);
    else
        resize_entry(model, entry);
}

static void expect_disjoint(const struct model *model) {
    for (size_t i = 0; i < SLOTS; i++)
        for (size_t j = 0; j < i; j++) {
            const struct entry *a = &model->entries[i], *b = &model->entries[j];
            if (a->block != NULL && b->block != NULL)
                EXPECT(a->block + a->bytes <= b->block || b->block + b->bytes <= a->block,
                       "blocks %p of %zu and %p of %zu bytes overlap", (void *)a->block, a->bytes,
                       (void *)b->block, b->bytes);
        }
}

static void random_calls_agree_with_the_model(void) {
    static struct model model;
    size_t steps = scaled(20000);
    struct hkm_stats before = stats_now();
    model.random = base_seed;
    for (size_t i = 0; i < steps && check_failures == 0; i++) {
        one_step(&model);
        if (i % 4000 == 3999) {
            expect_disjoint(&model);
            hkm_purge();
        }
    }
    uint64_t live = 0;
    struct hkm_stats now = stats_now();
    for (size_t i = 0; i < SLOTS; i++)
        live += model.entries[i].block != NULL;
    uint64_t found = now.small_blocks_live + now.large_blocks_live - before.small_blocks_live -
                     before.large_blocks_live;
    EXPECT(found == live, "expected %llu blocks live, found %llu", (unsigned long long)live,
           (unsigned long long)found);
    for (size_t i = 0; i < SLOTS; i++)
        if (model.entries[i].block != NULL)
            free_entry(&model, &model.entries[i]);
}

static struct entry *shared_entries[SHARED];

static void *one_thread(void *argument) {
    struct model *model = argument;
    size_t steps = scaled(6000);
    for (size_t i = 0; i < steps; i++) {
        one_step(model);
        if (i % 4 != 0)
            continue;
        /* hands a block on through the shared table, and frees what it finds there */
        struct entry *own = &model->entries[i % SLOTS];
        if (own->block == NULL || own->bytes > 100000)
            continue;
        struct entry *gift = hkm_malloc(sizeof *gift);
        REQUIRE(gift != NULL, "hkm_malloc");
        *gift = *own;
        own->block = NULL;
        struct entry *found = __atomic_exchange_n(
            &shared_entries[random_next(&model->random) % SHARED], gift, __ATOMIC_ACQ_REL);
        if (found != NULL) {
            free_entry(model, found);
            hkm_free(found);
        }
    }
    for (size_t i = 0; i < SLOTS; i++)
        if (model->entries[i].block != NULL && i % 8 != model->id)
            free_entry(model, &model->entries[i]);
    return NULL;
}

static void random_calls_of_several_threads_agree_with_the_models(void) {
    static struct model models[THREADS];
    pthread_t threads[THREADS];
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < THREADS; i++) {
            models[i].random = base_seed * (i + 3) + round;
            models[i].id = i;
            REQUIRE(pthread_create(&threads[i], NULL, one_thread, &models[i]) == 0,
                    "pthread_create");
        }
        for (size_t i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
    }
    for (size_t i = 0; i < THREADS; i++)
        for (size_t j = 0; j < SLOTS; j++)
            if (models[i].entries[j].block != NULL)
                free_entry(&models[i], &models[i].entries[j]);
    for (size_t i = 0; i < SHARED; i++)
        if (shared_entries[i] != NULL) {
            free_entry(&models[0], shared_entries[i]);
            hkm_free(shared_entries[i]);
        }
    struct hkm_stats now = stats_now();
    EXPECT(now.small_blocks_live + now.large_blocks_live == 0,
           "all threads gone, all freed: expected 0 live, found %llu and %llu",
           (unsigned long long)now.small_blocks_live, (unsigned long long)now.large_blocks_live);
}

static const struct check checks[] = {
#define CHECK(name)                                                                                \
    { #name, name }
    CHECK(random_calls_agree_with_the_model),
    CHECK(random_calls_of_several_threads_agree_with_the_models),
};

int main(int argc, char **argv) {
    const char *seed = getenv("SANITY_SEED");
    base_seed = seed != NULL ? strtoull(seed, NULL, 10)
                             : 0x2545f4914f6cdd1du + (uint64_t)(uintptr_t)&base_seed;
    printf("SANITY_SEED=%llu\n", (unsigned long long)base_seed);
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
