/* fork_first_thread.c -- a forked child whose first slow path is in a thread that the child started
 * itself: that thread must not be taken for the one that forked, whose heap lives on. Linked with
 * the prefix, so that pthread_create's own allocations do not come first.
 */
#include "api.inc"

#include <sys/wait.h>
#include <unistd.h>

/* ThreadSanitizer ends a child of a process with threads that starts a thread. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NO_THREADS_AFTER_FORK 1
#endif
#endif
#ifndef NO_THREADS_AFTER_FORK
#define NO_THREADS_AFTER_FORK 0
#endif

enum { HELD = 64, CHILD_SECONDS = 120, NEW_THREADS = 3 };

static int heap_is_there, stop;
static size_t turns;

static void *hold_a_heap(void *argument) {
    void *block = hkm_malloc(64);
    REQUIRE(block != NULL, "hkm_malloc");
    __atomic_store_n(&heap_is_there, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
        usleep(1000);
    hkm_free(block);
    return argument;
}

static size_t changed; /* blocks that held what another thread wrote */

/* Replaces blocks of one class by and by; each holds its thread's mark while it lives. */
static void *churn(void *argument) {
    uint64_t mark = (uint64_t)(uintptr_t)argument;
    uint64_t *held[HELD] = {NULL};
    size_t wrong = 0;
    for (size_t i = 0; i < turns; i++) {
        uint64_t **at = &held[i % HELD];
        if (*at != NULL)
            wrong += (*at)[0] != mark || (*at)[7] != ~mark;
        hkm_free(*at);
        *at = hkm_malloc(64);
        REQUIRE(*at != NULL, "hkm_malloc");
        (*at)[0] = mark;
        (*at)[7] = ~mark;
    }
    for (size_t i = 0; i < HELD; i++)
        hkm_free(held[i]);
    __atomic_fetch_add(&changed, wrong, __ATOMIC_RELAXED);
    return argument;
}

static pthread_barrier_t all_have_heaps;

static void *churn_at_once(void *mark) {
    hkm_free(hkm_malloc(64));
    pthread_barrier_wait(&all_have_heaps);
    return churn(mark);
}

/* The child: new threads allocate first, enough of them to adopt every orphan; then all do. */
static int child(void) {
    pthread_t threads[NEW_THREADS];
    char marks[NEW_THREADS + 1];
    alarm(CHILD_SECONDS);
    pthread_barrier_init(&all_have_heaps, NULL, NEW_THREADS + 1);
    for (size_t i = 0; i < NEW_THREADS; i++)
        if (pthread_create(&threads[i], NULL, churn_at_once, &marks[i]) != 0)
            return 3;
    pthread_barrier_wait(&all_have_heaps);
    churn(&marks[NEW_THREADS]);
    for (size_t i = 0; i < NEW_THREADS; i++)
        pthread_join(threads[i], NULL);
    return changed != 0 ? 4 : 0;
}

static void expect_children_keep_their_heaps(void) {
    for (size_t round = 0; round < scaled(5) && check_failures == 0; round++) {
        int status = 0;
        pid_t pid = fork();
        REQUIRE(pid >= 0, "fork: %s", strerror(errno));
        if (pid == 0)
            _exit(child());
        REQUIRE(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
        EXPECT(status == 0, "expected a child with status 0 (0x400: changed contents), found %#x",
               (unsigned)status);
    }
}

static void a_childs_first_slow_path_in_a_new_thread_leaves_the_forkers_heap_alone(void) {
    pthread_t thread;
    void *warm[HELD];
    for (size_t i = 0; i < HELD; i++) /* blocks in the forker's magazine: no slow path at once */
        warm[i] = hkm_malloc(64);
    for (size_t i = 0; i < HELD; i++)
        hkm_free(warm[i]);
    REQUIRE(pthread_create(&thread, NULL, hold_a_heap, NULL) == 0, "pthread_create");
    while (!__atomic_load_n(&heap_is_there, __ATOMIC_ACQUIRE))
        usleep(100);
    turns = scaled(100000);
    expect_children_keep_their_heaps();
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
}

static void *leave_an_orphan(void *argument) {
    hkm_free(hkm_malloc(64));
    return argument;
}

static void *fork_from_here(void *argument) {
    hkm_free(hkm_malloc(64));
    turns = scaled(100000);
    expect_children_keep_their_heaps();
    return argument;
}

/* A heap that was another thread's before is its new thread's own, in a child too. */
static void a_forker_whose_heap_was_adopted_keeps_it_in_the_child(void) {
    pthread_t thread;
    struct hkm_stats stats = {.struct_bytes = sizeof stats};
    REQUIRE(pthread_create(&thread, NULL, leave_an_orphan, NULL) == 0, "pthread_create");
    pthread_join(thread, NULL);
    REQUIRE(hkm_stats_get(&stats) == 0, "hkm_stats_get");
    uint64_t adoptions = stats.adoptions;
    REQUIRE(pthread_create(&thread, NULL, fork_from_here, NULL) == 0, "pthread_create");
    pthread_join(thread, NULL);
    REQUIRE(hkm_stats_get(&stats) == 0, "hkm_stats_get");
    EXPECT(stats.adoptions > adoptions, "expected the forker to adopt a heap");
}

static const struct check checks[] = {
#define CHECK(name)                                                                                \
    { #name, name }
    CHECK(a_childs_first_slow_path_in_a_new_thread_leaves_the_forkers_heap_alone),
    CHECK(a_forker_whose_heap_was_adopted_keeps_it_in_the_child),
};

int main(int argc, char **argv) {
    if (NO_THREADS_AFTER_FORK) {
        puts("children of processes with threads can not start threads under this sanitizer");
        return 77;
    }
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
