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

enum { HELD = 64, CHILD_SECONDS = 120 };

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

/* The child: a new thread allocates first; then both do. */
static int child(void) {
    pthread_t thread;
    char first, second;
    alarm(CHILD_SECONDS);
    if (pthread_create(&thread, NULL, churn, &first) != 0)
        return 3;
    churn(&second);
    pthread_join(thread, NULL);
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
    turns = scaled(300000);
    expect_children_keep_their_heaps();
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
}

static const struct check checks[] = {
#define CHECK(name)                                                                                \
    { #name, name }
    CHECK(a_childs_first_slow_path_in_a_new_thread_leaves_the_forkers_heap_alone),
};

int main(int argc, char **argv) {
    if (NO_THREADS_AFTER_FORK) {
        puts("children of processes with threads can not start threads under this sanitizer");
        return 77;
    }
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
