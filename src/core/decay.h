/* decay.h -- giving memory back, by and by or at once, without a thread of its own.
 * Purpose     slow paths look at a coarse clock; when it is time, the heap drains what it has not
 *             used, idle heaps are tidied for their owners, and pages that nobody has needed for
 *             purge_delay_ms go back to the OS; sooner, where the program takes others instead.
 * Locking     called without any lock; enters the OS.
 */
#ifndef HKM_CORE_DECAY_H
#define HKM_CORE_DECAY_H

#include "core/heap.h"

/* At the end of a slow path of the calling thread; `heap` is its own, or NULL. */
void decay_tick(struct heap *heap);
/* Returns everything that holds no block; the result is the number of bytes. */
HKM_SELDOM size_t decay_all(struct heap *heap);
/* After a failed allocation: frees what can be reused by another class or size, without the OS, and
 * waits for what other threads are giving back; then the allocation is to be tried again. Does
 * nothing, and is false, after eight such attempts, or when nobody has begun to give memory back
 * since the last one. */
struct decay_space {
    uint32_t tries, rounds; /* 0 at first */
};
HKM_SELDOM bool decay_for_space(struct heap *heap, struct decay_space *space);

#endif
