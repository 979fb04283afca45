/* heap_life.c -- heaps as such: birth, adoption, loss, and the lock; see heap.h.
 * Locking     lock-free: a heap's number is claimed in `heaps_used`, an orphan by its bit.
 * Ordering    the release that publishes a record pairs with the acquire in heap_by_number.
 */
#include "base/bitset.h"
#include "core/heap.h"
#include "core/huge.h"
#include "core/options.h"

HKM_SPARSE struct heap heap_none;
HKM_SPARSE struct heap heap_gone;
__thread struct heap *heap_mine __attribute__((tls_model("initial-exec"))) = &heap_none;

static HKM_SPARSE ATOMIC(struct heap *) heaps[HEAPS_MAX];
static ATOMIC(uint32_t) heaps_used;
static bitset_word orphans[HEAPS_MAX / 64];
static ATOMIC(uint32_t) orphan_count;
static HKM_SPARSE ATOMIC(uintptr_t) owners[HEAPS_MAX]; /* hint: each heap's owner, densely */

uint32_t heap_count(void) { return atomic_get(&heaps_used, relaxed); }
uint32_t heap_orphans(void) { return atomic_get(&orphan_count, relaxed); }
static inline bool is_lost(const struct heap *heap) {
    return atomic_get(&heap->state, relaxed) == HEAP_LOST;
}
struct heap *heap_by_number(uint32_t number) {
    return atomic_get(&heaps[number], acquire);
}

uint32_t heap_next_orphan(uint32_t from, uint32_t end) {
    return (uint32_t)bitset_next_set(orphans, from, end);
}

/* ---- birth, adoption, abandonment ---- */

static void set_owner(struct heap *heap, uintptr_t token) {
    atomic_put(&heap->owner, token, relaxed);
    atomic_put(&owners[heap->number], token, relaxed);
}

/* An orphan whose bit is not set. */
static struct heap *create(void) {
    uint32_t number = atomic_get(&heaps_used, relaxed);
    if (number >= HEAPS_MAX)
        return NULL;
    struct heap *heap = heap_make();
    if (heap == NULL)
        return NULL;
    do {
        if (number >= HEAPS_MAX)
            return NULL;
    } while (!atomic_cas(&heaps_used, &number, number + 1, relaxed, relaxed));
    atomic_put(&huge_heaps, number + 1, relaxed);
    heap->number = number;
    heap->id = number + 1;
    heap->own = heap->id << CLASS_ENTRY_OWNER_SHIFT;
    atomic_put(&heap->state, HEAP_ORPHAN, relaxed);
    atomic_put(&heaps[number], heap, release); /* pairs with heap_by_number */
    return heap;
}

static struct heap *claim_orphan(void) {
    uint32_t end = heap_orphans() > 0 ? heap_count() : 0;
    for (size_t i = bitset_next_set(orphans, 0, end); i < end;
         i = bitset_next_set(orphans, i + 1, end)) {
        if (bitset_claim(orphans, i)) {
            struct heap *heap = heap_by_number((uint32_t)i);
            atomic_sub(&orphan_count, 1, relaxed);
            counter_add(&heap->stats.adoptions, 1);
            return heap;
        }
    }
    return NULL;
}

struct heap *heap_acquire(void) {
    struct heap *heap = claim_orphan();
    if (heap == NULL)
        heap = create();
    if (heap != NULL) {
        set_owner(heap, os_thread_token());
        atomic_put(&heap->state, HEAP_OWNED, relaxed);
    }
    return heap;
}

/* Not a heap that its thread was inside of when it ended: its lock is not free. */
HKM_COLD struct heap *heap_left_behind(void) {
    uintptr_t token = os_thread_token();
    for (uint32_t i = 0; heap_orphans() == 0 && i < heap_count(); i++) {
        if (likely(atomic_get(&owners[i], relaxed) != token))
            continue;
        struct heap *heap = heap_by_number(i);
        if (heap != NULL && atomic_get(&heap->state, relaxed) == HEAP_OWNED &&
            heap_try_enter(heap)) {
            heap_leave(heap);
            counter_add(&heap->stats.adoptions, 1);
            return heap;
        }
    }
    return NULL;
}

/* Not one that this forked child has lost while a handler had it: its lock is never let go. */
static HKM_NOINLINE void make_orphan(struct heap *heap) {
    if (is_lost(heap))
        return;
    set_owner(heap, 0);
    atomic_put(&heap->state, HEAP_ORPHAN, relaxed);
    atomic_add(&orphan_count, 1, relaxed);
    bitset_give(orphans, heap->number);
}

/* What many short threads need again and again stays where it is, for the one that adopts it. */
void heap_abandon(struct heap *heap) {
    if (heap_enter(heap)) {
        heap_drain(heap, options.drain_interval == 0 ? DRAIN_ALL : DRAIN_END);
        heap_leave(heap);
    }
    make_orphan(heap);
}

/* Claims the orphan as a thread would that adopts it: the magazines are then the caller's. */
HKM_SELDOM void heap_drain_orphan(struct heap *heap) {
    if (atomic_get(&heap->state, relaxed) != HEAP_ORPHAN || !bitset_claim(orphans, heap->number))
        return;
    atomic_sub(&orphan_count, 1, relaxed);
    if (heap_try_enter(heap)) {
        heap_drain(heap, DRAIN_ALL);
        heap_leave(heap);
    }
    make_orphan(heap);
}

/* Any heap whose lock is free. *others: some are held by other threads, *mine: one is held by this
 * one, of which this is then a signal handler. */
static struct heap *enter_any(bool *others, bool *mine) {
    for (uint32_t i = 0; i < heap_count(); i++) {
        struct heap *heap = heap_by_number(i);
        if (heap == NULL || is_lost(heap))
            continue;
        if (heap_try_enter(heap))
            return heap;
        *(atomic_get(&heap->lock, relaxed) == os_thread_token() ? mine : others) = true;
    }
    return NULL;
}

struct heap *heap_borrow(void) {
    for (unsigned attempt = 0;; attempt++) {
        bool others = false;
        bool mine = false;
        struct heap *heap = enter_any(&others, &mine);
        if (heap != NULL)
            return heap;
        heap = create();
        if (heap != NULL) {
            bool entered = heap_try_enter(heap);
            make_orphan(heap);
            if (entered)
                return heap;
        } else if (!others || mine) {
            return NULL; /* a handler does not wait: what it waits for may wait for it */
        }
        os_backoff(attempt);
    }
}

bool heap_lose_if_held(struct heap *heap, uintptr_t forker) {
    uintptr_t holder = atomic_get(&heap->lock, relaxed);
    if (holder == 0 || holder == forker || is_lost(heap))
        return false;
    if (atomic_get(&heap->state, relaxed) == HEAP_ORPHAN && bitset_claim(orphans, heap->number))
        atomic_sub(&orphan_count, 1, relaxed);
    atomic_put(&heap->state, HEAP_LOST, release);
    return true;
}

static ATOMIC(uintptr_t) only_thread;
static __thread bool forking;
static ATOMIC(uint32_t) forking_process; /* in a child its parent, until it forks itself */

void heap_set_only_thread(uintptr_t token) { atomic_put(&only_thread, token, relaxed); }

void heap_set_forking(bool now) {
    if (now)
        atomic_put(&forking_process, os_process(), relaxed);
    forking = now;
}

/* Whether the calling thread is the only one of a child that fork has just made. */
static bool is_alone(uintptr_t token) {
    return atomic_get(&only_thread, relaxed) == token ||
           (forking && atomic_get(&forking_process, relaxed) != os_process());
}

/* First all that are lost are marked so: what the others send home must not wait for them. */
HKM_SELDOM void heap_after_fork(uintptr_t forker) {
    for (uint32_t i = 0; i < heap_count(); i++) {
        struct heap *heap = heap_by_number(i);
        if (heap != NULL)
            (void)heap_lose_if_held(heap, forker);
    }
    for (uint32_t i = 0; i < heap_count(); i++) {
        struct heap *heap = heap_by_number(i);
        if (heap == NULL || atomic_get(&heap->state, relaxed) != HEAP_OWNED ||
            atomic_get(&heap->owner, relaxed) == forker)
            continue;
        if (heap_try_enter(heap)) { /* whole: its thread was outside every slow path */
            heap_drain(heap, DRAIN_ALL);
            heap_leave(heap);
            make_orphan(heap);
        }
    }
}

/* ---- the lock ---- */

bool heap_try_enter(struct heap *heap) {
    uintptr_t holder = 0;
    return atomic_get(&heap->lock, relaxed) == 0 &&
           atomic_cas(&heap->lock, &holder, os_thread_token(), acquire, relaxed);
}

/* After a try that found `holder`. */
static HKM_NOINLINE bool wait_for(struct heap *heap, uintptr_t token, uintptr_t holder,
                                  unsigned most) {
    for (unsigned attempt = 0;; attempt++) {
        if (holder == token || is_lost(heap))
            return false;
        if (attempt >= 64 && is_alone(token)) {
            (void)heap_lose_if_held(heap, token);
            return false;
        }
        if (most != 0 && attempt + 1 == most)
            return false;
        os_backoff(attempt);
        holder = 0;
        if (likely(atomic_cas(&heap->lock, &holder, token, acquire, relaxed)))
            return true;
    }
}

/* `most` tries, or 0 for as many as it takes. */
HKM_INLINE bool enter(struct heap *heap, unsigned most) {
    uintptr_t token = os_thread_token();
    uintptr_t holder = 0;
    return likely(atomic_cas(&heap->lock, &holder, token, acquire, relaxed)) ||
           wait_for(heap, token, holder, most);
}

bool heap_enter_within(struct heap *heap, unsigned tries) { return enter(heap, tries); }
bool heap_enter(struct heap *heap) { return enter(heap, 0); }

bool heap_enter_own(struct heap *heap) {
    if (!enter(heap, 0))
        return false;
    heap_mine = &heap_gone;
    signal_fence();
    return true;
}

/* The lock of a lost heap stays with the thread that is not there. */
static inline bool leave(struct heap *heap) {
    if (unlikely(is_lost(heap)))
        return false;
    atomic_put(&heap->lock, 0, release);
    return true;
}

void heap_leave_own(struct heap *heap) {
    bool mine = leave(heap);
    signal_fence();
    heap_mine = likely(mine) ? heap : &heap_none;
}

void heap_leave(struct heap *heap) { (void)leave(heap); }

struct heap *heap_step_aside(void) {
    struct heap *mine = heap_mine;
    heap_mine = &heap_gone;
    signal_fence();
    return mine;
}

void heap_step_back(struct heap *mine) {
    signal_fence();
    heap_mine = is_lost(mine) ? &heap_none : mine;
}

struct heap_innards heap_innards(void) {
    return (struct heap_innards){heaps, &heaps_used, orphans, &orphan_count};
}
