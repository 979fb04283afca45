/* decay.c -- what is due when the clock says so; see decay.h. */
#include "core/decay.h"

#include "core/large.h"
#include "core/options.h"
#include "core/pool.h"
#include "core/superslab.h"

#define ALARM_BYTES KIB(256) /* idle dirty memory from which on a heap is armed */
#define ALARM_MS 16u         /* at most so often */

#define LEVEL_MS 8u          /* at least between two looks at whether the program has grown */
#define DELAY_PARTS 8u       /* one is from purge to purge, and what keep_level waits for */

static ATOMIC(uint32_t) last_ms;
static ATOMIC(bool) in_vain; /* more than the LRU may hold is warm, but the OS takes none of it:
                                it is locked */
static ATOMIC(uint32_t) fresh_seen;  /* superslab_fresh, when it was last noticed */
static ATOMIC(uint32_t) level_fresh; /* and at the last look, ... */
static ATOMIC(uint32_t) level_ms;    /* ... which was then */

/* Rounds that hold what is free, and nobody else finds, until they are done. */
static ATOMIC(uint32_t) rounds, rounds_done;

static void begin(void) { atomic_add(&rounds, 1, relaxed); }
static void end(void) { atomic_add(&rounds_done, 1, release); } /* pairs with wait_for_rounds */

/* Not for ever, and not twice: it may be one of a thread that this forked child does not have, or
 * that this signal handler interrupted. */
static HKM_COLD void wait_for_rounds(void) {
    static ATOMIC(bool) vain;
    for (unsigned attempt = 0; !atomic_get(&vain, relaxed); attempt++) {
        if (atomic_get(&rounds_done, acquire) == atomic_get(&rounds, relaxed))
            return;
        if (attempt == 2048) /* a fifth of a second */
            atomic_put(&vain, true, relaxed);
        os_backoff(attempt);
    }
}

/* What threads left in their magazines at their end. Some of it is of others' runs and goes to
 * their inboxes: to be done before these are emptied. */
static void drain_orphans(const struct heap *mine) {
    struct heap *aside = heap_step_aside();
    for (uint32_t i = 0; heap_orphans() > 0 && i < heap_count(); i++) {
        struct heap *heap = heap_by_number(i);
        if (heap != NULL && heap != mine)
            heap_drain_orphan(heap);
    }
    heap_step_back(aside);
}

/* Other heaps' inboxes and EMPTY runs, where their owners are not at it themselves. */
static void tidy_others(const struct heap *mine) {
    struct heap *aside = heap_step_aside();
    for (uint32_t i = 0; i < heap_count(); i++) {
        struct heap *heap = heap_by_number(i);
        if (heap == NULL || heap == mine || atomic_get(&heap->state, relaxed) == HEAP_LOST ||
            !heap_try_enter(heap))
            continue;
        heap_collect(heap);
        heap_leave(heap);
    }
    heap_step_back(aside);
}

static void drain(struct heap *heap, enum heap_drain how) {
    if (heap != NULL && heap_enter_own(heap)) {
        heap_drain(heap, how);
        heap_leave_own(heap);
    }
}

HKM_INLINE size_t run(const struct heap *heap, uint32_t now_ms, uint32_t age_ms) {
    begin();
    drain_orphans(heap);
    tidy_others(heap);
    large_decay(now_ms, age_ms);
    pool_decay(now_ms, age_ms);
    size_t bytes = superslab_purge(now_ms, age_ms);
    end();
    return bytes;
}

/* True for one caller when `step` ms have passed since it was last true. */
static bool is_due(uint32_t now_ms, uint32_t step) {
    uint32_t last = atomic_get(&last_ms, relaxed);
    return now_ms - last >= step && atomic_cas(&last_ms, &last, now_ms, relaxed, relaxed);
}

/* Where the program takes SuperSlabs that are not resident, as much goes of what has been idle for
 * a part of the delay: it lies in the wrong places, or is of the wrong size, and would stay beside
 * the new memory while that is filled. */
static HKM_NOINLINE void keep_level(uint32_t now_ms) {
    uint32_t before = atomic_get(&level_fresh, relaxed);
    uint32_t fresh = atomic_get(&superslab_fresh, relaxed);
    uint32_t grown = fresh - before;
    atomic_put(&fresh_seen, fresh, relaxed);
    if ((int32_t)grown <= 0 || /* another thread has seen more, and looked */
        now_ms - atomic_get(&level_ms, relaxed) < LEVEL_MS ||
        !atomic_cas(&level_fresh, &before, fresh, relaxed, relaxed))
        return;
    atomic_put(&level_ms, now_ms, relaxed);
    uint32_t age = (uint32_t)options.purge_delay_ms / DELAY_PARTS;
    begin();
    large_decay(now_ms, age);
    (void)superslab_purge_some(now_ms, age, (size_t)grown << SUPERSLAB_SHIFT);
    end();
}

void decay_tick(struct heap *heap) {
    uint32_t now = os_clock_ms();
    if (unlikely(atomic_get(&superslab_fresh, relaxed) != atomic_get(&fresh_seen, relaxed)))
        keep_level(now);
    if (heap != NULL && now - heap->drain_ms >= options.drain_interval) {
        heap->drain_ms = now;
        drain(heap, options.drain_interval == 0 ? DRAIN_ALL : DRAIN_AGED);
    }
    uint32_t delay = (uint32_t)options.purge_delay_ms;
    bool due = is_due(now, delay / DELAY_PARTS);
    bool over = superslab_warm_count() > options.lru_superslabs &&
                (due || !atomic_get(&in_vain, relaxed));
    if (over || due) {
        size_t bytes = run(heap, now, over ? 0 : delay);
        if (over)
            atomic_put(&in_vain, bytes == 0, relaxed);
    }
    if (heap != NULL && now - heap->armed_ms >= ALARM_MS &&
        superslab_idle_dirty() + large_cached_bytes() >= ALARM_BYTES)
        heap_arm(heap, now);
}

size_t decay_all(struct heap *heap) {
    if (arena_bytes() == 0)
        return 0; /* nothing was ever allocated */
    drain_orphans(heap);
    drain(heap, DRAIN_ALL);
    size_t bytes = run(heap, os_clock_ms(), 0);
    begin();
    superslab_purge_maps(1);
    end();
    return bytes;
}

bool decay_for_space(struct heap *heap, struct decay_space *space) {
    if (space->tries > 0 && (space->tries == 8 || atomic_get(&rounds, relaxed) == space->rounds))
        return false;
    space->tries++;
    begin();
    drain_orphans(heap);
    drain(heap, DRAIN_ALL);
    tidy_others(heap);
    large_decay(os_clock_ms(), 0);
    pool_decay(os_clock_ms(), 0);
    end();
    wait_for_rounds();
    space->rounds = atomic_get(&rounds, relaxed);
    return true;
}
