/* life_threads.c -- threads come and go: key destructors that allocate after the allocator's own,
 * thousands of short threads, detached, cancelled, with tiny stacks; what they leave behind is
 * freed by others and memory stays bounded.
 */
#include "check.inc"

static const size_t rss_limit = 200 * MIB;

static void expect_bounded(const char *when) {
    size_t rss = rss_bytes();
    EXPECT(rss < rss_limit, "%s: expected RSS below %.0f MiB, found %.1f MiB", when,
           to_mib(rss_limit), to_mib(rss));
}

enum { KEYS = 6, ROUNDS = 4 };

static pthread_key_t keys[KEYS];
static size_t destructor_calls, destructor_faults;

struct key_value {
    size_t key, round;
    unsigned char *block;
};

static void key_destructor(void *argument) {
    struct key_value *value = argument;
    __atomic_fetch_add(&destructor_calls, 1, __ATOMIC_RELAXED);
    if (!pattern_intact(value->block, 100 * (value->key + 1), value->round))
        __atomic_fetch_add(&destructor_faults, 1, __ATOMIC_RELAXED);
    free(value->block);
    for (size_t i = 0; i < 50; i++)
        free(malloc(i * 777));
    value->round++;
    if (value->round == ROUNDS) {
        free(value);
        return;
    }
    value->block = malloc(100 * (value->key + 1));
    if (value->block == NULL)
        return;
    pattern_fill(value->block, 100 * (value->key + 1), value->round);
    pthread_setspecific(keys[value->key], value);
}

static void *use_keys(void *argument) {
    for (size_t key = 0; key < KEYS; key++) {
        struct key_value *value = malloc(sizeof *value);
        REQUIRE(value != NULL, "malloc");
        value->key = key;
        value->round = 0;
        value->block = malloc(100 * (key + 1));
        pattern_fill(value->block, 100 * (key + 1), 0);
        pthread_setspecific(keys[key], value);
    }
    return argument;
}

static void key_destructors_allocate_in_all_their_rounds(void) {
    size_t threads = scaled(400);
    for (size_t key = 0; key < KEYS; key++)
        REQUIRE(pthread_key_create(&keys[key], key_destructor) == 0, "pthread_key_create");
    destructor_calls = destructor_faults = 0;
    for (size_t i = 0; i < threads; i++) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, use_keys, NULL) == 0, "pthread_create");
        pthread_join(thread, NULL);
    }
    EXPECT(destructor_calls == threads * KEYS * ROUNDS, "expected %zu destructor calls, found %zu",
           threads * KEYS * ROUNDS, destructor_calls);
    EXPECT(destructor_faults == 0, "expected intact blocks, found %zu others", destructor_faults);
    for (size_t key = 0; key < KEYS; key++)
        pthread_key_delete(keys[key]);
    expect_bounded("after the keys");
}

static void *inherited[64]; /* left behind by threads, freed by later ones */

static void *short_life(void *argument) {
    size_t me = (size_t)argument;
    unsigned char *old = __atomic_exchange_n(&inherited[me % 64], NULL, __ATOMIC_ACQ_REL);
    void *mine[40];
    for (size_t i = 0; i < 40; i++) {
        mine[i] = malloc(20 + i * (me % 60));
        REQUIRE(mine[i] != NULL, "malloc");
        memset(mine[i], 1, 20);
    }
    if (old != NULL) {
        if (!pattern_intact(old, 3000, me % 64))
            check_failed(__LINE__, "thread %zu: an inherited block changed", me);
        free(old);
    }
    for (size_t i = 0; i < 40; i++)
        free(mine[i]);
    void *heritage = malloc(3000);
    REQUIRE(heritage != NULL, "malloc");
    pattern_fill(heritage, 3000, me % 64);
    free(__atomic_exchange_n(&inherited[me % 64], heritage, __ATOMIC_ACQ_REL));
    return NULL;
}

static void free_inherited(void) {
    for (size_t i = 0; i < COUNT_OF(inherited); i++)
        free(__atomic_exchange_n(&inherited[i], NULL, __ATOMIC_ACQ_REL));
}

static void thousands_of_short_threads_leave_memory_bounded(void) {
    enum { AT_ONCE = 10 };
    pthread_t threads[AT_ONCE];
    size_t rounds = scaled(under_debug_hakmem() ? 150 : 500);
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < AT_ONCE; i++)
            REQUIRE(pthread_create(&threads[i], NULL, short_life, (void *)(round * AT_ONCE + i)) ==
                        0,
                    "pthread_create");
        for (size_t i = 0; i < AT_ONCE; i++)
            pthread_join(threads[i], NULL);
    }
    free_inherited();
    expect_bounded("after the short threads");
}

static size_t detached_done;

static void *detached_life(void *argument) {
    short_life(argument);
    __atomic_fetch_add(&detached_done, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void detached_threads_clean_up_after_themselves(void) {
    pthread_attr_t attributes;
    size_t threads = scaled(1000);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    detached_done = 0;
    for (size_t i = 0; i < threads; i++) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, &attributes, detached_life, (void *)i) == 0,
                "pthread_create");
        while (i - __atomic_load_n(&detached_done, __ATOMIC_ACQUIRE) > 50 &&
               i > __atomic_load_n(&detached_done, __ATOMIC_ACQUIRE))
            sleep_ms(1);
    }
    for (int waited = 0; waited < 20000; waited++) {
        if (__atomic_load_n(&detached_done, __ATOMIC_ACQUIRE) == threads)
            break;
        sleep_ms(1);
    }
    EXPECT(detached_done == threads, "expected %zu threads done, found %zu", threads,
           detached_done);
    free_inherited();
    expect_bounded("after the detached threads");
}

static void free_at_cleanup(void *block) { free(block); }

static void *wait_to_be_cancelled(void *argument) {
    static uint64_t seeds[4];
    uint64_t *random = &seeds[(size_t)argument];
    *random = (uint64_t)(size_t)argument + 1;
    void *block = malloc(50000);
    pthread_cleanup_push(free_at_cleanup, block);
    for (;;) {
        for (size_t i = 0; i < 200; i++)
            free(malloc(random_size(random)));
        pthread_testcancel();
        FILE *file = fopen("/dev/null", "w"); /* has cancellation points inside */
        if (file != NULL)
            fclose(file);
    }
    pthread_cleanup_pop(1);
    return NULL;
}

static void cancelled_threads_leave_a_working_heap(void) {
    for (size_t round = 0; round < scaled(60); round++) {
        pthread_t threads[4];
        for (size_t i = 0; i < COUNT_OF(threads); i++)
            REQUIRE(pthread_create(&threads[i], NULL, wait_to_be_cancelled, (void *)i) == 0,
                    "pthread_create");
        sleep_ms(1);
        for (size_t i = 0; i < COUNT_OF(threads); i++)
            pthread_cancel(threads[i]);
        for (size_t i = 0; i < COUNT_OF(threads); i++) {
            void *result = NULL;
            pthread_join(threads[i], &result);
            EXPECT(result == PTHREAD_CANCELED, "expected a cancelled thread, found %p", result);
        }
    }
    short_life((void *)1);
    free_inherited();
    expect_bounded("after the cancelled threads");
}

static void *tiny_stack_life(void *argument) {
    void *blocks[20];
    for (size_t i = 0; i < 20; i++)
        blocks[i] = malloc((size_t)1 << i);
    for (size_t i = 0; i < 20; i++)
        blocks[i] = realloc(blocks[i], ((size_t)1 << i) * 3);
    for (size_t i = 0; i < 20; i++) {
        if (blocks[i] == NULL)
            return NULL;
        free(blocks[i]);
    }
    malloc_trim(0);
    return argument;
}

static void threads_with_the_smallest_stack_can_allocate(void) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    size_t smallest = (size_t)sysconf(_SC_THREAD_STACK_MIN);
    int failed = pthread_attr_setstacksize(&attributes, smallest);
    REQUIRE(failed == 0, "pthread_attr_setstacksize(%zu): %s", smallest, strerror(failed));
    for (size_t i = 0; i < 50; i++) {
        pthread_t thread;
        static int token;
        void *result = NULL;
        REQUIRE(pthread_create(&thread, &attributes, tiny_stack_life, &token) == 0,
                "pthread_create");
        pthread_join(thread, &result);
        EXPECT(result == &token, "expected every allocation to succeed on a stack of %zu",
               smallest);
    }
}

static void *make_orphans(void *argument) {
    void **blocks = argument;
    for (size_t i = 0; i < 20000; i++) {
        blocks[i] = malloc(1000);
        REQUIRE(blocks[i] != NULL, "malloc");
        memset(blocks[i], 3, 1000);
    }
    return NULL;
}

static void orphaned_blocks_freed_by_the_last_thread_are_used_again(void) {
    static void *blocks[20000];
    for (size_t round = 0; round < scaled(40); round++) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, make_orphans, blocks) == 0, "pthread_create");
        pthread_join(thread, NULL);
        for (size_t i = 0; i < 20000; i++)
            free(blocks[(i * 7919) % 20000]);
    }
    expect_bounded("40 times 20 MB of orphaned blocks");
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(key_destructors_allocate_in_all_their_rounds, 0),
    CHECK(thousands_of_short_threads_leave_memory_bounded, 0),
    CHECK(detached_threads_clean_up_after_themselves, 0),
    CHECK(cancelled_threads_leave_a_working_heap, 0),
    CHECK(threads_with_the_smallest_stack_can_allocate, 0),
    CHECK(orphaned_blocks_freed_by_the_last_thread_are_used_again, 0),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
