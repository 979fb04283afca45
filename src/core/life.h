/* life.h -- the life of the process and of its threads, as the allocator sees it.
 * Purpose     the first slow path of the process reserves the arena; the first of a thread gets it
 *             a heap; the end of a thread leaves the heap for adoption; a forked child makes
 *             orphans of the heaps whose threads it does not have.
 *
 *     heap_mine: &heap_none  --first slow path-->  a heap  --thread's end-->  &heap_gone
 *                                                 (&heap_gone inside each slow path, too;
 *                                                  &heap_none in a child that lost the heap)
 *
 *     After its end a thread (other key destructors, libc's own clean-up) borrows a heap for each
 *     operation. So does a signal handler that interrupts its own thread inside a slow path.
 *
 * Fork        nothing is locked before a fork, so there is no order of locks to get wrong. The
 *             handler in the child notes which thread forked; the child's first slow path does the
 *             rest. The snapshot that fork takes is one moment for all threads, so a heap whose
 *             lock is free is whole; one whose lock another thread held is given up (HEAP_LOST),
 *             and the thread that forked gets another, should it be its own. Everything shared is
 *             lock-free.
 */
#ifndef HKM_CORE_LIFE_H
#define HKM_CORE_LIFE_H

#include "core/heap.h"

/* Makes the process ready; false when there is no memory for the arena (it is tried again). */
bool life_ready(void);
/* The calling thread's heap, made if need be; NULL when it must borrow one. */
struct heap *life_heap(void);
/* life_heap for a free: a thread that has none borrows for its first few. In the last moments of
 * a detached thread, after all key destructors, glibc frees what other threads had for TLS: a heap
 * made then would never be left. */
struct heap *life_heap_to_free(void);
/* Whether this is a forked child without the other threads of its parent: what these were in the
 * middle of is lost. */
bool life_lost_threads(void);
/* Like life_heap, but never makes one. */
struct heap *life_heap_if_any(void);

#endif
