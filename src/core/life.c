/* life.c -- start, threads, fork; see life.h. */
#include "core/life.h"

#include <pthread.h>

#include "core/options.h"
#include "core/pool.h"
#include "core/report.h"
#include "core/stats.h"
#include "core/superslab.h"

struct heap heap_gone;

enum { BEFORE, STARTING, READY };
static ATOMIC(uint32_t) phase;
static ATOMIC(uintptr_t) starter;
static pthread_key_t thread_end;
static bool thread_end_known;

/* ---- fork ---- */

enum { FORK_CHILD = 0, FORK_CHECKING, FORK_SEEN }; /* 0 is what the kernel leaves in the child */
static ATOMIC(uint32_t) *_Atomic fork_word;
static ATOMIC(uint32_t) fork_guarded;

static HKM_COLD void after_fork(ATOMIC(uint32_t) *word) {
    uint32_t state = FORK_CHILD;
    if (atomic_cas(word, &state, FORK_CHECKING, acquire, acquire)) {
        if (!heap_after_fork(heap_mine))
            heap_mine = &heap_none;
        atomic_put(word, FORK_SEEN, release);
        return;
    }
    for (unsigned attempt = 0; atomic_get(word, acquire) == FORK_CHECKING; attempt++)
        os_backoff(attempt);
}

static void fork_child(void) {
    ATOMIC(uint32_t) *word = atomic_get(&fork_word, acquire);
    if (word != NULL)
        atomic_put(word, FORK_CHILD, relaxed);
}

/* From the second heap on there is something to lose. */
static HKM_COLD void guard_fork(void) {
    if (atomic_swap(&fork_guarded, 1, relaxed) != 0)
        return;
    size_t page = os_page_bytes();
    char *memory = arena_take_metadata(2 * page);
    if (memory == NULL)
        return;
    memory = (char *)round_up((uintptr_t)memory, page);
    ATOMIC(uint32_t) *word = (ATOMIC(uint32_t) *)(void *)memory;
    if (os_wipe_on_fork(memory, page) != 0)
        (void)pthread_atfork(NULL, NULL, fork_child);
    atomic_put(word, FORK_SEEN, relaxed);
    atomic_put(&fork_word, word, release);
}

static void check_fork(void) {
    ATOMIC(uint32_t) *word = atomic_get(&fork_word, acquire);
    if (word != NULL && unlikely(atomic_get(word, acquire) != FORK_SEEN))
        after_fork(word);
}

/* ---- threads ---- */

static HKM_COLD struct heap *attach(void) {
    if (!life_ready())
        return NULL;
    check_fork();
    struct heap *heap = heap_acquire();
    if (heap == NULL)
        return NULL;
    heap_mine = heap;
    if (heap->number > 0)
        guard_fork();
    if (thread_end_known)
        (void)pthread_setspecific(thread_end, heap); /* may allocate: from the heap just set */
    return heap;
}

static bool is_heap(const struct heap *heap) { return heap != &heap_none && heap != &heap_gone; }

struct heap *life_heap_if_any(void) {
    check_fork(); /* may take heap_mine away */
    return is_heap(heap_mine) ? heap_mine : NULL;
}

struct heap *life_heap(void) {
    struct heap *heap = life_heap_if_any();
    return heap == NULL && heap_mine == &heap_none ? attach() : heap;
}

static void on_thread_end(void *arg) {
    (void)arg;
    struct heap *heap = life_heap_if_any();
    heap_mine = &heap_gone;
    if (heap != NULL)
        heap_abandon(heap);
}

/* ---- the process ---- */

static void prewarm(void) {
    uint32_t taken[64];
    for (uint64_t left = options.prewarm; left > 0;) {
        unsigned count = 0;
        int error;
        while (count < 64 && left > 0 && (taken[count] = superslab_take(1, 1, &error)) != 0) {
            volatile char *page = arena_slot_start(taken[count] * SUPERSLAB_SLOTS);
            for (size_t at = 0; at < SUPERSLAB_BYTES; at += os_page_bytes())
                page[at] = 0;
            (void)superslab_soil(taken[count++] * SUPERSLAB_SLOTS, SUPERSLAB_SLOTS);
            left--;
        }
        if (count == 0)
            return;
        for (unsigned i = 0; i < count; i++)
            superslab_release(taken[i] * SUPERSLAB_SLOTS, SUPERSLAB_SLOTS, os_clock_ms());
        if (count < 64)
            return;
    }
}

static bool start(void) {
    static bool loaded;
    if (!loaded) {
        options_load();
        loaded = true;
    }
    if (arena_init((size_t)options.arena_mib << 20) != 0)
        return false;
    if (options.prewarm > 0)
        prewarm();
    thread_end_known = pthread_key_create(&thread_end, on_thread_end) == 0;
    if (options.crash_report != 0)
        report_install();
    if (options.stats == STATS_EXIT)
        stats_prepare_exit();
    return true;
}

bool life_ready(void) {
    for (unsigned attempt = 0;; attempt++) {
        uint32_t now = atomic_get(&phase, acquire);
        if (likely(now == READY))
            return true;
        if (now == STARTING && atomic_get(&starter, relaxed) == os_thread_token())
            return false;
        if (now == BEFORE && atomic_cas(&phase, &now, STARTING, acquire, relaxed)) {
            atomic_put(&starter, os_thread_token(), relaxed);
            bool ok = start();
            atomic_put(&phase, ok ? READY : BEFORE, release);
            return ok;
        }
        os_backoff(attempt);
    }
}
