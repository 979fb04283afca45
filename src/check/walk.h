/* walk.h -- the heap walk: levels 2 and 3 of the registry (invariants.h).
 * Purpose     goes through every structure of core and holds it against the invariants; the first
 *             that is broken is reported (fault.h), and the process ends.
 *
 *     What is checked depends on who else may be at it meanwhile:
 *       quiet    nobody: the process has one thread, or option check_quiet promises that no other
 *                allocates during a walk; and it is no forked child that lost other threads in the
 *                middle of something. Everything is checked.
 *       shared   threads run: checked is what a lock keeps still. The caller's own heap whole, with
 *                every run that it owns; of other heaps whose lock can be had the bins, stashes,
 *                inboxes and listed runs (their magazines only as far as H1, H5, H6, H10 go, since
 *                their threads move them without the lock); the fixed parts of the arena, the size
 *                classes. Skipped are the sets of SuperSlabs, UNUSED slots, runs that are full,
 *                stage 1, large runs, the big cache, all sums.
 *
 * Locking     takes one heap's lock at a time, and the own one as heap_enter_own does. Signals are
 *             blocked meanwhile. Enters the OS: scratch memory for one bit a block. Without it,
 *             and when it is not quiet, H9, N9, S2 and the second half of S5 are not checked.
 */
#ifndef HKM_CHECK_WALK_H
#define HKM_CHECK_WALK_H

#include "check/fault.h"
#include "core/heap.h"

struct walk {
    bool quiet;
    bool told_resident; /* the system tells which pages are resident */
    struct heap *mine;  /* the caller's, locked; or NULL */
    uint64_t *cached;   /* scratch: bit slot * SLOT_BLOCKS_MAX + index, block is cached */
    uint64_t *listed;   /* scratch: bit slot, run is in a list of partial runs */
    uint32_t slots;     /* slots below superslab_top() */
    size_t live_blocks; /* small and large ones found */
    size_t looked_at;   /* blocks of any state */
    /* sums of the walk through the slots */
    size_t idle_dirty; /* U4, in slots */
    size_t large_blocks, large_bytes, cached_runs;
    uint32_t ownerless[CLASS_COUNT];
};

/* The whole heap; the number of live blocks, exact when quiet. *looked_at, if not NULL, becomes the
 * number of blocks of any state. */
size_t walk_all(size_t *looked_at);

/* ---- parts ---- */

/* The record of a run of a class and its blocks. Its owner's lock is held, or the walk is quiet.
 * `w` may be NULL (level 2). */
void walk_run(struct walk *w, uint32_t number, unsigned class);
/* The records of a run's blocks, what lies between and in them; the debug build. */
void walk_records(const struct walk *w, uint32_t number, unsigned class);
/* A LARGE or CACHED run; the number of its slots. Quiet. */
uint32_t walk_large(struct walk *w, uint32_t number);
/* Heaps with all that they hold. */
void walk_heaps(struct walk *w);
/* Stage 1, the big cache, the counters; after the slots. Quiet. */
void walk_pool(struct walk *w);
void walk_cache(struct walk *w);
void walk_counters(struct walk *w);

#endif
