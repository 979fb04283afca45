/* fork_in_signal.c -- fork from inside a signal handler that interrupted malloc and free: the
 * child, which resumes nothing, can allocate; the parent goes on undisturbed.  glibc promises fork
 * itself; that the child may call malloc is HAKMEM's promise.
 */
#include "check.inc"

#include <sys/time.h>

static volatile sig_atomic_t forks, failures, first_failure;
static int timer_kind;
static void *held[256];

static int child_allocates(void) {
    static void *blocks[300];
    uint64_t random = 5;
    for (size_t i = 0; i < 3000; i++) {
        size_t at = i % COUNT_OF(blocks), bytes = random_size(&random);
        if (bytes > 100000)
            bytes = 100000;
        free(blocks[at]);
        blocks[at] = malloc(bytes);
        if (blocks[at] == NULL)
            return 1;
        pattern_fill(blocks[at], bytes < 256 ? bytes : 256, at);
    }
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        free(blocks[i]);
    return 0;
}

/* One shot: a timer that went on by itself would leave a slow machine no time between the handlers. */
static void arm_timer(void) {
    struct itimerval shot = {{0, 0}, {0, 2000}};
    setitimer(timer_kind, &shot, NULL);
}

/* The child is timed by alarm(); SIGALRM has its default action there, and kills a hanging child.
 */
static void fork_and_wait(int signal_number) {
    int saved = errno, status = 0;
    (void)signal_number;
    pid_t child = fork();
    if (child == 0) {
        struct itimerval none = {{0, 0}, {0, 0}};
        sigset_t mask;
        setitimer(ITIMER_PROF, &none, NULL);
        signal(SIGALRM, SIG_DFL);
        sigemptyset(&mask);
        sigaddset(&mask, SIGALRM);
        sigprocmask(SIG_UNBLOCK, &mask, NULL);
        alarm(10);
        _exit(child_allocates());
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    forks++;
    if (status != 0) {
        failures++;
        first_failure = status;
    }
    arm_timer();
    errno = saved;
}

static void churn_until(sig_atomic_t wanted, int seconds) {
    uint64_t random = 77;
    time_t end = time(NULL) + seconds;
    for (size_t i = 0; forks < wanted && failures < 3 && (i % 1024 != 0 || time(NULL) < end); i++) {
        size_t at = random_next(&random) % COUNT_OF(held);
        free(held[at]);
        held[at] = malloc(i % 64 == 0 ? 300000 : 1 + (size_t)(random % 3000));
        if (held[at] != NULL)
            memset(held[at], 1, 8 <= malloc_usable_size(held[at]) ? 8 : 1);
    }
}

static void fork_in_handlers(int timer, int signal_number, sig_atomic_t wanted) {
    struct sigaction action;
    struct itimerval none = {{0, 0}, {0, 0}};
    memset(&action, 0, sizeof action);
    action.sa_handler = fork_and_wait;
    action.sa_flags = SA_RESTART;
    forks = failures = 0;
    sigaction(signal_number, &action, NULL);
    timer_kind = timer == 0 ? ITIMER_PROF : ITIMER_REAL;
    arm_timer();
    churn_until(wanted, 150); /* where a fork is slow 40 s were not enough for 100 */
    setitimer(timer_kind, &none, NULL);
    signal(signal_number, SIG_IGN);
    EXPECT(forks >= wanted || failures > 0, "expected %d forks, found %d", (int)wanted, (int)forks);
    EXPECT(failures == 0,
           "expected children without failure, found %d of %d, the last with status %#x",
           (int)failures, (int)forks, (unsigned)first_failure);
}

static void children_forked_in_a_sigprof_handler_can_allocate(void) {
    fork_in_handlers(0, SIGPROF, (sig_atomic_t)scaled(100));
}

static int stop;

static void *churn_beside(void *argument) {
    uint64_t random = (uint64_t)(size_t)argument + 3;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
        free(malloc(random_size(&random)));
    return NULL;
}

static void children_forked_in_a_sigalrm_handler_amid_threads_can_allocate(void) {
    pthread_t threads[4];
    stop = 0;
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        REQUIRE(pthread_create(&threads[i], NULL, churn_beside, (void *)i) == 0, "pthread_create");
    fork_in_handlers(1, SIGALRM, (sig_atomic_t)scaled(100));
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
}

static void the_interrupted_heap_is_whole_afterwards(void) {
    int failed = child_allocates();
    EXPECT(failed == 0, "expected the heap to work, found %d", failed);
    for (size_t i = 0; i < COUNT_OF(held); i++) {
        free(held[i]);
        held[i] = NULL;
    }
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(children_forked_in_a_sigprof_handler_can_allocate, 1),
    CHECK(children_forked_in_a_sigalrm_handler_amid_threads_can_allocate, 1),
    CHECK(the_interrupted_heap_is_whole_afterwards, 1),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
