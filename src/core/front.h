/* front.h -- the fast paths: popping and pushing a magazine. One screen, a straight line.
 * Invariants  F1. a block leaves a magazine with its live byte set to its mark, and enters it, or a
 *                 packet, with the byte 0
 *
 *             So a push of anything but a live block's start fails.
 * Ordering    each path's last store is a release, so that in a child forked at any moment every
 *             address below top is a cached block, and none stands there twice: at worst one is
 *             missing (heap_after_fork).
 */
#ifndef HKM_CORE_FRONT_H
#define HKM_CORE_FRONT_H

#include "core/alloc.h"
#include "core/heap.h"

HKM_INLINE struct magazine *front_magazine(size_t offset) {
    return (struct magazine *)(void *)((char *)heap_mine + offset);
}

/* `live` has the granule's shift in its low six bits, which is what a shift instruction looks
 * at. */
HKM_INLINE live_byte *front_live_byte(const struct magazine *m, const void *block) {
    uintptr_t live = m->live;
    return (live_byte *)(live + ((uintptr_t)block >> (live & 63)));
}

/* A block that is live was to be handed out: reports. Whatever damaged the metadata, the program
 * never gets one block twice in silence. */
_Noreturn void front_broken(const void *block);

/* Returns a block, now live, from the function it stands in, or does `otherwise`: takes the slow
 * path. A macro, because the caller of a function that may return NULL has to ask a second time. */
#define FRONT_POP_OR(m, otherwise)               \
    void **top = atomic_get(&(m)->top, relaxed); \
    if (unlikely(top <= (m)->floor))             \
        otherwise;                               \
    return front_pop_at((m), top)

HKM_INLINE void *front_pop_at(struct magazine *m, void **top) {
    void *block = atomic_get(&m->hot, relaxed);
    void *next = top[-2];
    cpu_fetch_to_write(next); /* a deep magazine's blocks lie anywhere */
    atomic_put(&m->top, top - 1, relaxed);
    atomic_put(&m->hot, next, release);
    live_byte *live = front_live_byte(m, block);
    if (unlikely(live_get(live) != 0))
        front_broken(block);
    live_set(live, arena_live_mark(block));
    return block;
}

/* What the class map has for a pointer into the arena, less what says that a run is the heap's own:
 * then the offset of its magazine. Any other's is beyond all magazines. */
HKM_INLINE uint32_t front_offset(const struct heap *heap, uintptr_t back) {
    return atomic_get(&heap->class_map[back >> SLOT_SHIFT], relaxed) ^ heap->own;
}

HKM_INLINE bool front_is_own(uint32_t offset) { return offset < 1u << CLASS_ENTRY_OWNER_SHIFT; }

/* The magazine of an own run's block; NULL for any other pointer. */
HKM_INLINE struct magazine *front_own(const void *block) {
    struct heap *heap = heap_mine;
    uintptr_t back = heap->arena_last - (uintptr_t)block;
    if (unlikely(back >= heap->arena_bytes))
        return NULL;
    uint32_t offset = front_offset(heap, back);
    if (unlikely(!front_is_own(offset)))
        return NULL;
    return (struct magazine *)(void *)((char *)heap + offset);
}

/* Takes a live block of an own run back; false when the slow path must be taken (which also finds
 * out what else the pointer can be). */
HKM_INLINE bool front_push_to(struct magazine *m, void *block) {
    void **top = atomic_get(&m->top, relaxed);
    if (unlikely(top >= m->limit))
        return false;
    live_byte *live = front_live_byte(m, block);
    if (unlikely(live_get(live) != arena_live_mark(block)))
        return false;
    live_set(live, 0);
    top[-1] = atomic_get(&m->hot, relaxed);
    atomic_put(&m->hot, block, relaxed);
    atomic_put(&m->top, top + 1, release);
    return true;
}

/* Takes a live block of another heap's run, to be sent home with others; false likewise. A signal
 * handler may allocate and free in the midst of it: the handler sees no heap of its own
 * meanwhile. */
HKM_INLINE bool front_push_away(void *block, uint32_t offset) {
    struct heap *heap = heap_mine;
    const struct magazine *m = front_magazine((uint16_t)offset);
    struct away *away = (struct away *)(void *)((char *)heap + m->away);
    live_byte *live = front_live_byte(m, block);
    heap_mine = &heap_gone;
    signal_fence();
    uint32_t count = atomic_get(&away->count, relaxed);
    bool done = count < away->room && live_get(live) == arena_live_mark(block);
    if (done) {
        live_set(live, 0);
        away->packet->blocks[count] = block;
        atomic_put(&away->count, count + 1, release);
    }
    signal_fence();
    heap_mine = heap;
    return done;
}

/* All of `free`; `call` is the word for a report. */
HKM_INLINE void front_free(const char *call, void *block) {
    struct heap *heap = heap_mine;
    uintptr_t back = heap->arena_last - (uintptr_t)block;
    uint32_t offset;
    if (unlikely(back >= heap->arena_bytes))
        alloc_free_slow(call, block);
    else if (unlikely(!front_is_own(offset = front_offset(heap, back))))
        alloc_free_away(call, block, offset);
    else if (unlikely(!front_push_to(front_magazine(offset), block)))
        alloc_free_slow(call, block);
}

#endif
