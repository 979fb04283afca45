/* heap_inside.h -- what heap.c, heap_runs.c and heap_remote.c share; nobody else includes it.
 * Locking     everything here is called with the heap's lock held, unless it says otherwise.
 */
#ifndef HKM_CORE_HEAP_INSIDE_H
#define HKM_CORE_HEAP_INSIDE_H

#include "core/heap.h"
#include "core/pool.h"

#define SHARE_THREADS 4u /* among more than so many, blocks and runs go from thread to thread */

HKM_INLINE void count_up(uint16_t *count) { *count = (uint16_t)(*count + (*count < UINT16_MAX)); }

/* ---- magazines, by the heap's own thread ---- */

/* Slow paths work on the whole array: settle puts `hot` into its place, lift takes it out again. */
HKM_INLINE void magazine_settle(struct magazine *m) {
    void **top = atomic_get(&m->top, relaxed);
    if (top > m->base)
        top[-1] = atomic_get(&m->hot, relaxed);
}

HKM_INLINE void magazine_lift(struct magazine *m, void **top) {
    if (top > m->base)
        atomic_put(&m->hot, top[-1], relaxed);
    atomic_put(&m->top, top, release);
}

HKM_INLINE uint32_t magazine_held(const struct magazine *m) {
    return (uint32_t)(atomic_get(&m->top, relaxed) - m->base);
}

/* ---- heap_runs.c ---- */

/* A run of the class, linked: of an orphan, another heap or the pool. False when there is none, or
 * the heap was lost. Leaves the lock meanwhile. `own`: for the heap's own thread, whose idle
 * magazines may be emptied. */
bool heap_get_run(struct heap *heap, unsigned class, bool own);
/* Moves up to `want` free blocks of own runs to out[], those of a kept EMPTY run only where there
 * are no others (stage 0). As in a magazine the last of out[] will be handed out first. */
unsigned heap_take_from_runs(struct heap *heap, unsigned class, void **out, unsigned want);
/* Puts blocks home one by one, up to `end` or the first that is of another heap's run; returns how
 * many they were. */
unsigned heap_put_alone(struct heap *heap, unsigned class, void *const *blocks, void *const *end);
/* Gives up the last run in the list if none of it is out: no block coming home would do so. */
void heap_drop_unused(struct heap *heap, unsigned class);
/* The EMPTY run that a bin keeps, to the pool. */
HKM_INLINE void heap_give_kept(struct bin *bin) {
    if (bin->empty != 0) {
        struct slot *slot = slot_at(bin->empty);
        bin->empty = 0;
        pool_give(slot, false);
    }
}

/* ---- heap_remote.c ---- */

/* Whether packets of a group have arrived. */
HKM_INLINE bool heap_has_packets(const struct heap *heap, unsigned group) {
    return heap->bins[group].stash != NULL || atomic_get(&heap->inbox[group], relaxed) != NULL;
}

/* Moves up to `want` blocks that arrived to out[], of a class that is a group by itself. They may
 * be of anybody's runs, which a magazine may hold. */
unsigned heap_take_from_stash(struct heap *heap, unsigned class, void **out, unsigned want);
/* Likewise for a class of a mixed group: opens packets until the class's magazine, which is empty,
 * holds something. By the heap's own thread. */
void heap_open_packets(struct heap *heap, unsigned class);
/* What arrived of a group goes home. */
void heap_collect_group(struct heap *heap, unsigned group);
/* Sends blocks of other heaps' runs home, owner by owner; returns how many are left, moved to the
 * front, because there is no memory for packets. */
unsigned heap_send_away(struct heap *heap, unsigned group, void **blocks, unsigned count);
/* One block without a packet: waits for the owner's lock, leaving this one meanwhile. */
HKM_COLD void heap_send_directly(struct heap *heap, unsigned group, void *block);
/* Sends home what is gathered of a group, which is something. */
void heap_send_gathered(struct heap *heap, unsigned group);
/* Whether others' blocks of the class are gathered, to be sent home. */
bool heap_gathers(const struct heap *heap, unsigned class);

#endif
