/* fork_while_starting.c -- a child that is forked while another thread is in the middle of starting
 * the allocator starts it itself: it must not wait for a thread that it does not have (stress/
 * fork_storm found it; life_ready). A process starts the allocator once, so each round is a process
 * of its own. Linked with the prefix, so that pthread_create's own allocations do not come first.
 */
#include "api.inc"

#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rounds.inc"

/* ThreadSanitizer ends a child of a process with threads that starts a thread. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NO_THREADS_AFTER_FORK 1
#endif
#endif
#ifndef NO_THREADS_AFTER_FORK
#define NO_THREADS_AFTER_FORK 0
#endif

enum { LARGE_BLOCKS = 32, CHILD_SECONDS = 60, WAIT_NS_MAX = 120000, WARM_WAIT_NS = 1000000 };

static int go;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A block of each kind, written and freed, and some SuperSlabs; 0 when all is well. */
static int use_the_allocator(void) {
    char *small = hkm_malloc(100), *large = hkm_malloc(400000), *many[LARGE_BLOCKS];
    if (small == NULL || large == NULL)
        return 3;
    for (size_t i = 0; i < LARGE_BLOCKS; i++) {
        many[i] = hkm_malloc(1000000);
        if (many[i] == NULL)
            return 3;
        many[i][0] = 3;
    }
    for (size_t i = 0; i < LARGE_BLOCKS; i++)
        hkm_free(many[i]);
    memset(small, 1, 100);
    memset(large, 2, 400000);
    int wrong = small[99] != 1 || large[399999] != 2;
    hkm_free(small);
    hkm_free(large);
    return wrong ? 4 : 0;
}

static void *start_the_allocator(void *result) {
    while (!__atomic_load_n(&go, __ATOMIC_ACQUIRE))
        sched_yield(); /* valgrind runs one thread at a time */
    *(int *)result = use_the_allocator();
    return NULL;
}

/* One round: a thread starts the allocator, and this one forks `wait_ns` later. */
static int round_with(uint64_t wait_ns) {
    pthread_t thread;
    int result = -1, status = 0;
    alarm(CHILD_SECONDS);
    if (pthread_create(&thread, NULL, start_the_allocator, &result) != 0)
        return 5;
    __atomic_store_n(&go, 1, __ATOMIC_RELEASE);
    for (uint64_t start = now_ns(); now_ns() - start < wait_ns;) {
    }
    pid_t pid = fork();
    if (pid == 0) {
        alarm(CHILD_SECONDS / 6);
        _exit(use_the_allocator());
    }
    pthread_join(thread, NULL);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 6;
    if (WIFSIGNALED(status))
        return WTERMSIG(status) == SIGALRM ? 7 : 8;
    return result != 0 ? 9 : WEXITSTATUS(status);
}

static void a_child_forked_while_another_thread_starts_the_allocator_starts_it_itself(void) {
    const char *build = getenv("HAKMEM_TEST_BUILD");
    bool slow = build != NULL && strcmp(build, "valgrind") == 0; /* one thread at a time, too */
    uint64_t random = 1;
    struct rounds rounds = rounds_of(scaled(slow ? 50 : 1000));
    while (check_failures == 0 && another(&rounds)) {
        int status = 0;
        random = random * 6364136223846793005u + 1442695040888963407u;
        pid_t pid = fork();
        REQUIRE(pid >= 0, "fork: %s", strerror(errno));
        if (pid == 0)
            _exit(round_with((random >> 33) % WAIT_NS_MAX));
        REQUIRE(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
        EXPECT(status == 0, "round %zu: expected status 0 (0x700: the child hung), found %#x",
               rounds.done, (unsigned)status);
    }
}

/* What the start is longest at is touching pages; the arena is there by then. */
static void a_child_forked_while_another_thread_warms_superslabs_has_the_arena(void) {
    for (unsigned round = 1; check_failures == 0 && round <= 5; round++) {
        int status = 0;
        pid_t pid = fork();
        REQUIRE(pid >= 0, "fork: %s", strerror(errno));
        if (pid == 0)
            _exit(setenv("HAKMEM_PREWARM", "48", 1) != 0 ? 10 : round_with(round * WARM_WAIT_NS));
        REQUIRE(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
        EXPECT(status == 0, "round %u: expected status 0, found %#x", round, (unsigned)status);
    }
}

static const struct check checks[] = {
    {"a_child_forked_while_another_thread_starts_the_allocator_starts_it_itself",
     a_child_forked_while_another_thread_starts_the_allocator_starts_it_itself},
    {"a_child_forked_while_another_thread_warms_superslabs_has_the_arena",
     a_child_forked_while_another_thread_warms_superslabs_has_the_arena},
};

int main(int argc, char **argv) {
    if (NO_THREADS_AFTER_FORK) {
        puts("children of processes with threads can not start threads under this sanitizer");
        return 77;
    }
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
