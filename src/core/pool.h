/* pool.h -- the shared pool: where heaps get runs of slots, and give them back to.
 * Purpose     a heap that needs a run goes through the stages in order:
 *               0  its own EMPTY run of that class              (heap_runs.c; no shared memory)
 *               1  a stack of EMPTY runs of the class           lock-free
 *               2  a claim of UNUSED slots in an open SuperSlab lock-free; resident ones first
 *               3  a new SuperSlab: a warm one, else from the arena; may enter the OS
 *             One that works apart looks for resident slots of its own SuperSlabs before stage 1.
 * Invariants  P1. a run on a stage 1 stack is EMPTY, has no owner and has the stack's class
 *             P2. a stack holds at most 1 MiB of runs, one more, and one a thread
 * Ordering    stage 1 stack: head = tag << 32 | slot number. Slot records are never unmapped, so a
 *             stale stack_next may be read harmlessly; the tag keeps it from being used (no ABA).
 *             Release of a push pairs with acquire of the pop.
 * Locking     pool_take, pool_take_new and pool_decay are called without a lock: stages 2 and 3 can
 *             enter the OS. pool_give does not, and may be called with a heap's lock held.
 */
#ifndef HKM_CORE_POOL_H
#define HKM_CORE_POOL_H

#include "core/slot.h"

/* A run of a class, ACTIVE, every block free, owned by the heap of id `owner`, from stage 1 or 2;
 * NULL when they have none. *stage says which it was. `apart`: before all else from resident slots
 * of a SuperSlab of the heap's own, and then as far from others as can be; *home is the SuperSlab
 * where the heap found room so the last time, 0 at first. */
struct slot *pool_take(unsigned class, uint32_t owner, uint32_t *home, bool apart,
                       unsigned *stage);
/* Likewise from stage 3; NULL when there is no memory. */
struct slot *pool_take_new(unsigned class, uint32_t owner, uint32_t *home);
/* Takes an EMPTY run over: to stage 1's stack, or to UNUSED when that is full, or the run was, or
 * its heap works `apart` and will look for it in its SuperSlab. */
void pool_give(struct slot *slot, bool apart);
/* EMPTY runs that have been so for at least age_ms become UNUSED. */
HKM_COLD void pool_decay(uint32_t now_ms, uint32_t age_ms);

/* A class's stage 1 stack, for the checker alone. */
struct pool_innards {
    ATOMIC(uint64_t) * head;
    ATOMIC(uint32_t) * count;
    uint32_t count_max;
};
struct pool_innards pool_innards(unsigned class);

#endif
