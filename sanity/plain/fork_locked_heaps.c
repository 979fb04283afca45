/* fork_locked_heaps.c -- heaps whose locks another thread held when the process forked: the forking
 * thread's own, and those that ended threads left for adoption. The child must not wait for a lock
 * whose holder it does not have.
 */
#include "check.inc"
#include "rounds.inc"

enum { CHILD_SECONDS = 20, THREADS = 8 };

static int stop;

/* malloc_trim takes every heap's lock, again and again. */
static void *trim(void *argument) {
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        free(malloc(300000));
        malloc_trim(0);
    }
    return argument;
}

static pthread_t start_trimming(void) {
    pthread_t thread;
    __atomic_store_n(&stop, 0, __ATOMIC_RELAXED);
    REQUIRE(pthread_create(&thread, NULL, trim, NULL) == 0, "pthread_create");
    sleep_ms(20);
    return thread;
}

static void stop_trimming(pthread_t thread) {
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
}

/* Slow paths of many classes. */
static void *allocate_and_free(void *argument) {
    void *blocks[400];
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT_OF(blocks); i++) {
            size_t bytes = 100 + i * 16;
            blocks[i] = malloc(bytes);
            REQUIRE(blocks[i] != NULL, "malloc");
            pattern_fill(blocks[i], bytes, i);
        }
        for (size_t i = 0; i < COUNT_OF(blocks); i++) {
            REQUIRE(pattern_intact(blocks[i], 100 + i * 16, i), "block %zu changed", i);
            free(blocks[i]);
        }
    }
    return argument;
}

static void a_child_does_not_wait_for_whoever_tidied_up_in_its_heap(void) {
    static void *blocks[2000];
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        blocks[i] = malloc(100 + i * 4);
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        free(blocks[i]);
    pthread_t trimmer = start_trimming();
    struct rounds rounds = rounds_of(scaled(1000));
    while (check_failures == 0 && another(&rounds)) {
        for (size_t i = 0; i < 200; i++)
            blocks[i] = malloc(4000 + i * 8);
        for (size_t i = 0; i < 200; i++)
            free(blocks[i]);
        pid_t child = fork();
        REQUIRE(child >= 0, "fork: %s", strerror(errno));
        if (child == 0) {
            allocate_and_free(NULL);
            _exit(0);
        }
        EXPECT_CHILD(child, 0, CHILD_SECONDS, "a child");
    }
    stop_trimming(trimmer);
}

static pthread_barrier_t all_hold;

/* Leaves a heap of its own with something in it. */
static void *live_once(void *argument) {
    void *blocks[3000];
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        blocks[i] = malloc(16 + i);
    pthread_barrier_wait(&all_hold);
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        free(blocks[i]);
    return argument;
}

static void run_threads(void *(*work)(void *)) {
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, work, NULL) == 0, "pthread_create");
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void threads_of_a_child_do_not_adopt_heaps_that_were_locked_at_the_fork(void) {
    pthread_barrier_init(&all_hold, NULL, THREADS);
    run_threads(live_once);
    pthread_barrier_destroy(&all_hold);
    pthread_t trimmer = start_trimming();
    struct rounds rounds = rounds_of(scaled(500));
    while (check_failures == 0 && another(&rounds)) {
        pid_t child = fork();
        REQUIRE(child >= 0, "fork: %s", strerror(errno));
        if (child == 0) {
            allocate_and_free(NULL);
            run_threads(allocate_and_free);
            _exit(0);
        }
        EXPECT_CHILD(child, 0, CHILD_SECONDS, "a child with threads");
    }
    stop_trimming(trimmer);
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(a_child_does_not_wait_for_whoever_tidied_up_in_its_heap, 0),
    CHECK(threads_of_a_child_do_not_adopt_heaps_that_were_locked_at_the_fork, 0),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
