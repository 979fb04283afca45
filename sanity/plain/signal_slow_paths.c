/* signal_slow_paths.c -- a signal handler that allocates and frees while its thread is inside a
 * fill, a flush or a drain: the handler is served from another heap, contents stay whole.
 *
 * malloc is not async-signal-safe, and HAKMEM promises less for a handler that interrupts a fast
 * path between two of its instructions: when the handler then takes a slow path of the same class,
 * the interrupted one stores a stale `top`. So the handler looks where it interrupted: inside malloc
 * and free themselves, which are the fast paths, it does nothing.
 */
#include "check.inc"

#include <sys/time.h>
#include <ucontext.h>

enum { ENTRY_BYTES = 512, HANDLER_BLOCKS = 12 };

static uintptr_t entries[2]; /* where malloc and free begin */
static volatile sig_atomic_t served, passed, wrong;

static uintptr_t interrupted_at(const void *context) {
    const ucontext_t *user = context;
#if defined(__x86_64__)
    return (uintptr_t)user->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)user->uc_mcontext.pc;
#else
    (void)user;
    return 0;
#endif
}

static const size_t sizes[] = {16, 64, 100, 1000, 3000, 20000, 70000, 200000};

/* Blocks that other threads allocated, for this one and its handler to free. */
enum { OFFERED = 256 };
static void *offered[OFFERED];

static void free_offered(size_t from, size_t count) {
    for (size_t i = from; i < from + count; i++)
        free(__atomic_exchange_n(&offered[i % OFFERED], NULL, __ATOMIC_ACQ_REL));
}

static void allocate_here(int signal_number, siginfo_t *info, void *context) {
    static void *held[HANDLER_BLOCKS]; /* some live from one signal to the next */
    static size_t turn;
    int saved = errno;
    uintptr_t at = interrupted_at(context);
    (void)signal_number;
    (void)info;
    if (at - entries[0] < ENTRY_BYTES || at - entries[1] < ENTRY_BYTES) {
        passed++;
        return;
    }
    for (size_t i = 0; i < HANDLER_BLOCKS; i++) {
        size_t k = turn++ % HANDLER_BLOCKS, bytes = sizes[k % COUNT_OF(sizes)];
        if (held[k] != NULL && !pattern_intact(held[k], bytes, k))
            wrong++;
        free(held[k]);
        held[k] = malloc(bytes);
        if (held[k] == NULL)
            wrong++;
        else
            pattern_fill(held[k], bytes, k);
    }
    free_offered(turn, HANDLER_BLOCKS);
    served++;
    errno = saved;
}

static void *blocks[4000];

/* A burst of one size: as much as makes the magazine run dry, and overflow, again and again. */
static void burst(size_t bytes, uint64_t seed) {
    size_t count = 4 * MIB / bytes < COUNT_OF(blocks) ? 4 * MIB / bytes : COUNT_OF(blocks);
    size_t marked = bytes < 64 ? bytes : 64;
    for (size_t i = 0; i < count; i++) {
        blocks[i] = malloc(bytes);
        REQUIRE(blocks[i] != NULL, "malloc(%zu)", bytes);
        pattern_fill(blocks[i], marked, seed + i);
    }
    for (size_t i = 0; i < count; i++) {
        EXPECT(pattern_intact(blocks[i], marked, seed + i), "a block of %zu changed", bytes);
        free(blocks[i]);
        free_offered(i, 1);
    }
}

/* What a trim purges: slots are claimed for as long as the system takes them back. */
static void trim(uint64_t seed) {
    for (size_t i = 0; i < 64; i++) {
        blocks[i] = malloc(i % 2 == 0 ? 400000 : 30000);
        REQUIRE(blocks[i] != NULL, "malloc");
        memset(blocks[i], (int)seed, 30000);
    }
    for (size_t i = 0; i < 64; i++)
        free(blocks[i]);
    malloc_trim(0);
}

static void churn_under_signals(int trims) {
    struct sigaction action;
    struct itimerval every_ms = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};
    memset(&action, 0, sizeof action);
    action.sa_sigaction = allocate_here;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every_ms, NULL);
    time_t end = time(NULL) + (time_t)scaled(6);
    for (uint64_t n = 0; time(NULL) < end && wrong == 0 && check_failures == 0; n++) {
        if (trims)
            trim(n);
        else
            burst(sizes[n % COUNT_OF(sizes)], n * 7919);
        if (n % 64 == 0)
            malloc_trim(0);
    }
    setitimer(ITIMER_REAL, &none, NULL);
    signal(SIGALRM, SIG_IGN);
}

static void *churn_beside(void *argument) {
    uint64_t random = 99;
    for (size_t i = 0; !__atomic_load_n((int *)argument, __ATOMIC_RELAXED); i++) {
        free(malloc(random_size(&random)));
        void *block = malloc(sizes[i / OFFERED % COUNT_OF(sizes)]);
        free(__atomic_exchange_n(&offered[i % OFFERED], block, __ATOMIC_ACQ_REL));
    }
    return NULL;
}

static void expect_served(void) {
    char text[100];
    EXPECT(wrong == 0, "expected the handler's blocks whole, found %d wrong", (int)wrong);
    EXPECT(served > 50, "expected more than 50 handlers to allocate, found %d", (int)served);
    snprintf(text, sizeof text, " (%d served, %d in fast paths)", (int)served, (int)passed);
    say(text);
}

static void run_alone(void) {
    churn_under_signals(0);
    expect_served();
}

static void run_trims(void) {
    churn_under_signals(1);
    expect_served();
}

static void run_amid_threads(void) {
    static int stop;
    pthread_t threads[2];
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* theirs from the start: the handler is not for them */
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        REQUIRE(pthread_create(&threads[i], NULL, churn_beside, &stop) == 0, "pthread_create");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    churn_under_signals(0);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    expect_served();
}

static void handlers_inside_slow_paths_allocate_and_free(void) { in_child(run_alone, 60); }

static void handlers_inside_slow_paths_amid_threads_allocate_and_free(void) {
    in_child(run_amid_threads, 60);
}

/* The checker must not take a slot that a trim has claimed for one that belongs to nobody. */
static void handlers_inside_trims_allocate_and_free(void) { in_child(run_trims, 60); }

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(handlers_inside_slow_paths_allocate_and_free, 1),
    CHECK(handlers_inside_slow_paths_amid_threads_allocate_and_free, 1),
    CHECK(handlers_inside_trims_allocate_and_free, 1),
};

int main(int argc, char **argv) {
    entries[0] = (uintptr_t)dlsym(RTLD_DEFAULT, "malloc");
    entries[1] = (uintptr_t)dlsym(RTLD_DEFAULT, "free");
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
