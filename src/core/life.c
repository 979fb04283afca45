/* life.c -- start, threads, fork, end; see life.h. */
#include "core/life.h"

#include <pthread.h>

#include "core/options.h"
#include "core/pool.h"
#include "core/report.h"
#include "core/stats.h"
#include "core/superslab.h"
#include "core/watch.h"

enum { BEFORE, STARTING, READY };
static ATOMIC(uint32_t) phase;
static ATOMIC(uintptr_t) starter;
static pthread_key_t thread_end;
static bool thread_end_known;
static int exit_fd = -1; /* where statistics go when the process ends; -1: nowhere */

/* ---- fork ---- */

static bool is_heap(const struct heap *heap) { return heap != &heap_none && heap != &heap_gone; }

/* Set in a child by the thread that forked; cleared by whichever thread of it comes first to a slow
 * path, while others wait. */
enum { FORK_NONE, FORK_CHILD, FORK_CHECKING };
static ATOMIC(uint32_t) fork_word;
static ATOMIC(uintptr_t) forker;
static bool lost_threads;

bool life_lost_threads(void) { return lost_threads; }

static HKM_COLD void after_fork(void) {
    uint32_t state = FORK_CHILD;
    struct os_signals saved; /* a handler that came in between would wait for its own thread */
    os_signals_block(&saved);
    if (atomic_cas(&fork_word, &state, FORK_CHECKING, acquire, acquire)) {
        heap_after_fork(atomic_get(&forker, relaxed));
        heap_set_only_thread(0);
        heap_step_back(heap_step_aside()); /* where fork_child's look came too early */
        atomic_put(&fork_word, FORK_NONE, release);
    }
    for (unsigned attempt = 0; atomic_get(&fork_word, acquire) == FORK_CHECKING; attempt++)
        os_backoff(attempt);
    os_signals_restore(&saved);
}

/* Runs in the child's one thread. Touches nothing else: most children call exec at once. When its
 * own heap is lost, the next slow path gets it another. */
static void fork_child(void) {
    lost_threads = lost_threads || heap_count() - heap_orphans() > 1;
    heap_set_forking(false);
    heap_set_only_thread(os_thread_token());
    if (is_heap(heap_mine)) {
        (void)heap_lose_if_held(heap_mine, os_thread_token());
        if (atomic_get(&heap_mine->state, relaxed) == HEAP_LOST)
            heap_mine = &heap_none;
    }
    atomic_put(&forker, os_thread_token(), relaxed);
    atomic_put(&fork_word, FORK_CHILD, release);
}

/* Handlers that were registered before these run in the child before fork_child. */
static void fork_prepare(void) { heap_set_forking(true); }
static void fork_parent(void) { heap_set_forking(false); }

/* Not by the first allocation, which may be pthread_atfork's own: it holds glibc's lock of these
 * handlers then, and waits for it here. A fork before all constructors is that of one thread. */
__attribute__((constructor(101))) static void hear_of_forks(void) {
    (void)pthread_atfork(fork_prepare, fork_parent, fork_child);
}

static void check_fork(void) {
    if (unlikely(atomic_get(&fork_word, acquire) != FORK_NONE))
        after_fork();
}

/* ---- threads ---- */

#define LONE_FREES 16u

static __thread struct {
    uint8_t frees : 5; /* without a heap, up to LONE_FREES */
    bool attaching : 1;
    bool ending : 1; /* on_thread_end was called once */
} this_thread;

static HKM_COLD struct heap *attach(void) {
    if (!life_ready())
        return NULL;
    check_fork();
    if (this_thread.attaching)
        return NULL; /* a handler in between, which borrows: of two heaps one would be forgotten */
    this_thread.attaching = true;
    signal_fence();
    /* a handler may have come before */
    struct heap *heap = is_heap(heap_mine)  ? heap_mine
                        : heap_count() > 0 ? heap_left_behind()
                                           : NULL;
    if (heap == NULL)
        heap = heap_acquire();
    if (heap != NULL)
        heap_mine = heap;
    signal_fence();
    this_thread.attaching = false;
    if (heap == NULL)
        return NULL;
    if (thread_end_known)
        (void)pthread_setspecific(thread_end, heap); /* may allocate: from the heap just set */
    return heap;
}

struct heap *life_heap_if_any(void) {
    check_fork();
    return is_heap(heap_mine) ? heap_mine : NULL;
}

struct heap *life_heap(void) {
    struct heap *heap = life_heap_if_any();
    return heap == NULL && heap_mine == &heap_none ? attach() : heap;
}

struct heap *life_heap_to_free(void) {
    struct heap *heap = life_heap_if_any();
    if (heap != NULL || heap_mine != &heap_none)
        return heap;
    if (this_thread.frees == LONE_FREES)
        return attach();
    this_thread.frees++;
    return NULL;
}

/* Does its work one round of destructors later: this key is mostly older than the program's keys,
 * whose destructors allocate, too. */
static void on_thread_end(void *arg) {
    struct heap *heap = life_heap_if_any();
    if (!this_thread.ending && heap != NULL) {
        this_thread.ending = true;
        if (pthread_setspecific(thread_end, arg) == 0)
            return;
    }
    heap_mine = &heap_gone;
    if (heap != NULL)
        heap_abandon(heap);
}

/* ---- the process ---- */

static void prewarm(void) {
    int error;
    size_t count = (size_t)options.prewarm;
    uint32_t first = 0;
    while (count > 0 && (first = superslab_take(count, 1, &error)) == 0)
        count /= 2;
    if (first == 0)
        return;
    volatile char *page = arena_slot_start(first * SUPERSLAB_SLOTS);
    for (size_t at = 0; at < count * SUPERSLAB_BYTES; at += os_page_bytes())
        page[at] = 0;
    (void)superslab_soil(first * SUPERSLAB_SLOTS, count * SUPERSLAB_SLOTS);
    superslab_release(first * SUPERSLAB_SLOTS, count * SUPERSLAB_SLOTS, os_clock_ms());
}

static bool start(void) {
    static bool loaded;
    if (!loaded) {
        options_load();
        loaded = true;
    }
    /* A child that was forked in the midst of this has the arena, perhaps, and what was claimed to
     * be warmed. */
    bool anew = arena_bytes() == 0;
    if (anew && arena_init((size_t)options.arena_mib << 20) != 0)
        return false;
    if (HKM_CHECK_LEVEL >= 1)
        watch_start();
    if (anew && options.prewarm > 0)
        prewarm();
    thread_end_known = pthread_key_create(&thread_end, on_thread_end) == 0;
    if (options.crash_report != 0)
        report_install();
    if (options.stats == STATS_EXIT)
        exit_fd = os_keep_stderr(); /* many programs close it before */
    return true;
}

/* The phase and, while STARTING, the process that is at it, in one word: a child forked meanwhile
 * by another thread starts anew instead of waiting for a thread that it does not have. */
static bool start_or_wait(void) {
    for (unsigned attempt = 0;; attempt++) {
        uint32_t now = atomic_get(&phase, acquire);
        if (now == READY)
            return true;
        uint32_t mine = os_process() << 2 | STARTING;
        if (now == mine && atomic_get(&starter, relaxed) == os_thread_token())
            return false;
        if (now != mine && atomic_cas(&phase, &now, mine, acquire, relaxed)) {
            atomic_put(&starter, os_thread_token(), relaxed);
            bool ok = start();
            atomic_put(&starter, 0, relaxed); /* whoever starts next has not said so yet */
            atomic_put(&phase, ok ? READY : BEFORE, release);
            return ok;
        }
        os_backoff(attempt);
    }
}

/* No handler runs meanwhile: it would find neither an arena nor, between the two stores, that it is
 * its own thread which it waits for. */
static HKM_COLD bool make_ready(void) {
    struct os_signals saved;
    os_signals_block(&saved);
    bool ready = start_or_wait();
    os_signals_restore(&saved);
    return ready;
}

bool life_ready(void) { return likely(atomic_get(&phase, acquire) == READY) || make_ready(); }

__attribute__((destructor)) static void at_exit(void) {
    if (unlikely(exit_fd >= 0 && os_kept_stderr(exit_fd)))
        stats_print(exit_fd);
}
