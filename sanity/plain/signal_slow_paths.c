/* signal_slow_paths.c -- a signal handler that allocates and frees while its thread is inside a
 * fill, a flush or a drain: the handler is served from another heap, contents stay whole. The
 * allocator's own start keeps handlers away until it is ready.
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

static void allocate_one(int signal_number) {
    void *block = malloc(100);
    (void)signal_number;
    if (block == NULL)
        wrong++;
    free(block);
    served++;
}

/* The process's first malloc, in a child: the parent has not allocated anything. */
static void allocate_first(useconds_t signal_us) {
    struct itimerval once = {{0, 0}, {0, signal_us}};
    struct mallinfo2 before = mallinfo2();
    REQUIRE(before.arena == 0, "nothing is allocated yet, found %zu bytes", before.arena);
    signal(SIGALRM, allocate_one);
    setitimer(ITIMER_REAL, &once, NULL);
    free(malloc(16));
    while (served == 0)
        sleep_ms(1);
    EXPECT(wrong == 0, "a handler after %u us got no block", (unsigned)signal_us);
    _exit(check_failures > 0 ? 1 : 0);
}

static void a_handler_amid_the_first_malloc_gets_a_block(void) {
    for (useconds_t us = 1; us < 400 && check_failures == 0; us++) {
        pid_t child = fork();
        REQUIRE(child >= 0, "fork: %s", strerror(errno));
        if (child == 0)
            allocate_first(us);
        EXPECT_CHILD(child, 0, 20, "a child whose first malloc was interrupted");
    }
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(a_handler_amid_the_first_malloc_gets_a_block, 1),
    CHECK(handlers_inside_slow_paths_allocate_and_free, 1),
    CHECK(handlers_inside_slow_paths_amid_threads_allocate_and_free, 1),
    CHECK(handlers_inside_trims_allocate_and_free, 1),
};

int main(int argc, char **argv) {
    entries[0] = (uintptr_t)dlsym(RTLD_DEFAULT, "malloc");
    entries[1] = (uintptr_t)dlsym(RTLD_DEFAULT, "free");
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
