/* fork_handlers.c -- a child of fork waits for nobody who is not there: whether its first malloc is
 * interrupted by a handler that allocates, or made in a handler of pthread_atfork that is older
 * than the allocator's own, or goes on where a handler that forked had interrupted it.
 */
#include "check.inc"
#include "rounds.inc"

#include <sched.h>
#include <sys/time.h>

enum { CHILD_SECONDS = 10, CHECK_SECONDS = 100, LOOP_SECONDS = 1 };

static struct rounds short_rounds(size_t full) {
    struct rounds rounds = rounds_of(scaled(full));
    rounds.until = rounds_clock() + LOOP_SECONDS; /* a bug shows in the first few */
    return rounds;
}

/* One shot: what goes on by itself would leave a slow machine no time between the handlers. */
static void arm_timer(suseconds_t us) {
    struct itimerval shot = {{0, 0}, {0, us}};
    setitimer(ITIMER_REAL, &shot, NULL);
}

/* Blocks of many classes; 1 when there is none to be had. */
static int allocate_and_free(void) {
    for (size_t bytes = 2000; bytes < 30000; bytes += 1500) {
        void *block = malloc(bytes);
        if (block == NULL)
            return 1;
        memset(block, 1, bytes);
        free(block);
    }
    return 0;
}

/* ---- a handler that interrupts the child's first malloc ---- */

enum { SLEEPERS = 200 };

static pthread_barrier_t all_sleep;

/* A heap for the child to look at. */
static void *sleep_with_a_heap(void *argument) {
    void *blocks[64];
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        blocks[i] = malloc(16 + i * 40);
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        free(blocks[i]);
    pthread_barrier_wait(&all_sleep);
    for (;;)
        pause();
    return argument;
}

static void start_sleepers(void) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 * KIB);
    pthread_barrier_init(&all_sleep, NULL, SLEEPERS + 1);
    for (size_t i = 0; i < SLEEPERS; i++) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, &attributes, sleep_with_a_heap, NULL) == 0,
                "pthread_create");
    }
    pthread_barrier_wait(&all_sleep);
}

static volatile sig_atomic_t interrupts, faults;
static suseconds_t interval_us;

static void allocate_in_handler(int signal_number) {
    int saved = errno;
    (void)signal_number;
    void *block = malloc(MIB);
    if (block == NULL)
        faults++;
    free(block);
    if (++interrupts < 20)
        arm_timer(interval_us);
    errno = saved;
}

static void interrupt_first_mallocs(void) {
    start_sleepers();
    signal(SIGALRM, allocate_in_handler);
    struct rounds rounds = short_rounds(12);
    while (check_failures == 0 && another(&rounds)) {
        interval_us = 50 + (suseconds_t)(rounds.done % 8) * 50;
        pid_t child = fork();
        REQUIRE(child >= 0, "fork: %s", strerror(errno));
        if (child == 0) {
            arm_timer(interval_us);
            void *block = malloc(MIB);
            faults += block == NULL;
            free(block);
            _exit(allocate_and_free() != 0 || faults > 0);
        }
        EXPECT_CHILD(child, 0, CHILD_SECONDS, "a child whose first malloc was interrupted");
    }
}

static void a_handler_amid_the_first_malloc_of_a_child_allocates(void) {
    in_child(interrupt_first_mallocs, CHECK_SECONDS);
}

/* ---- a handler of pthread_atfork ---- */

enum { FREED = 50000 };

static int atfork_allocates, freeing, stop;
static void *offered[FREED];

static void allocate_at_fork(void) {
    if (atfork_allocates && allocate_and_free() != 0)
        _exit(1);
}

/* Sends another thread's blocks home, for which it takes that heap's lock. */
static void *free_offered(void *argument) {
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        if (!__atomic_load_n(&freeing, __ATOMIC_ACQUIRE)) {
            sched_yield();
            continue;
        }
        for (size_t i = 0; i < FREED; i++)
            free(offered[i]);
        __atomic_store_n(&freeing, 0, __ATOMIC_RELEASE);
    }
    return argument;
}

static void fork_beside_a_freer(void) {
    pthread_t freer;
    REQUIRE(pthread_create(&freer, NULL, free_offered, NULL) == 0, "pthread_create");
    atfork_allocates = 1;
    struct rounds rounds = short_rounds(40);
    while (check_failures == 0 && another(&rounds)) {
        if (!__atomic_load_n(&freeing, __ATOMIC_ACQUIRE)) {
            for (size_t i = 0; i < FREED; i++)
                offered[i] = malloc(64);
            __atomic_store_n(&freeing, 1, __ATOMIC_RELEASE);
        }
        pid_t child = fork();
        REQUIRE(child >= 0, "fork: %s", strerror(errno));
        if (child == 0)
            _exit(0);
        EXPECT_CHILD(child, 0, CHILD_SECONDS, "a child whose atfork handler allocates");
    }
    atfork_allocates = 0;
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    pthread_join(freer, NULL);
}

static void an_atfork_handler_older_than_the_allocators_allocates_in_the_child(void) {
    in_child(fork_beside_a_freer, CHECK_SECONDS);
}

/* ---- a handler that forks ---- */

static volatile sig_atomic_t forks, hung, is_child;

static void fork_in_handler(int signal_number) {
    int saved = errno;
    char why[80];
    (void)signal_number;
    pid_t child = fork();
    if (child == 0) {
        is_child = 1;
        return; /* into the middle of what it interrupted */
    }
    forks++;
    hung += child_fails(child, 0, CHILD_SECONDS, why, sizeof why);
    arm_timer(1000);
    errno = saved;
}

/* malloc_trim takes every heap's lock, and holds it for as long as there is something to drain. */
static void *trim(void *argument) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
        malloc_trim(0);
    return argument;
}

/* Needs new runs again and again: meanwhile a heap's own thread leaves it to others. */
static void churn_until(sig_atomic_t wanted) {
    static void *blocks[500];
    time_t end = rounds_clock() + 2 * LOOP_SECONDS;
    for (size_t i = 0; hung == 0 && forks < wanted && !is_child; i++) {
        size_t at = i % COUNT_OF(blocks);
        if (at == 0 && rounds_clock() >= end)
            break;
        if (at == 0)
            for (size_t b = 0; b < COUNT_OF(blocks); b++) {
                free(blocks[b]);
                blocks[b] = NULL;
            }
        blocks[at] = malloc(4000 + i % 16 * 1024);
        REQUIRE(blocks[at] != NULL, "malloc");
    }
    if (is_child)
        _exit(allocate_and_free());
    for (size_t b = 0; b < COUNT_OF(blocks); b++)
        free(blocks[b]);
}

static void fork_beside_a_trimmer(void) {
    pthread_t trimmer;
    REQUIRE(pthread_create(&trimmer, NULL, trim, NULL) == 0, "pthread_create");
    signal(SIGALRM, fork_in_handler);
    arm_timer(1000);
    churn_until((sig_atomic_t)scaled(100));
    signal(SIGALRM, SIG_IGN);
    EXPECT(forks > 0, "expected handlers that fork");
    EXPECT(hung == 0, "expected children that end, found 1 of %d that does not", (int)forks);
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    pthread_join(trimmer, NULL);
}

static void a_child_of_a_handler_goes_on_with_the_malloc_that_it_interrupted(void) {
    in_child(fork_beside_a_trimmer, CHECK_SECONDS);
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(a_handler_amid_the_first_malloc_of_a_child_allocates, 1),
    CHECK(an_atfork_handler_older_than_the_allocators_allocates_in_the_child, 1),
    CHECK(a_child_of_a_handler_goes_on_with_the_malloc_that_it_interrupted, 1),
};

static void in_preinit(int argc, char **argv, char **environment) {
    (void)argc;
    (void)argv;
    (void)environment;
    if (pthread_atfork(NULL, NULL, allocate_at_fork) != 0) /* before the allocator's constructor */
        _exit(1);
}

__attribute__((section(".preinit_array"),
               used)) static void (*const preinit_entry)(int, char **, char **) = in_preinit;

int main(int argc, char **argv) {
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
