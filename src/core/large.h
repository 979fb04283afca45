/* large.h -- blocks above the size classes: runs of whole slots, and the big cache.
 * Purpose     a large block is a run of any number of slots, across SuperSlabs if need be; what its
 *             last SuperSlab has left over serves others. Freed runs are kept whole in the big
 *             cache for a while. A block grows in place when its neighbours are free, else by
 *             mremap.
 * Invariants  L1. the class map has LARGE_HEAD at a large run's first slot and LARGE_TAIL at its
 *                 others
 *             L2. large_bytes <= run_slots * SLOT_BYTES, a multiple of the page size
 *             L3. a CACHED run is in exactly one entry of the big cache, or in somebody's hands
 *
 *     A large block is named by the number of its first slot, where it starts.
 *
 * Locking     lock-free: an entry of the big cache is one word, swapped whole; the change of state
 *             LARGE -> CACHED decides which of two frees was the first.
 */
#ifndef HKM_CORE_LARGE_H
#define HKM_CORE_LARGE_H

#include "core/slot.h"

/* A block of at least `bytes`, aligned to `alignment` (a power of two); NULL when there is no
 * memory. *clean: it reads as zeros. *cached: it came from the big cache. May enter the OS. */
void *large_alloc(size_t bytes, size_t alignment, bool *clean, bool *cached);
/* Makes the first `bytes` of a block read as zeros. May enter the OS. */
void large_clear(uint32_t slot, size_t bytes);
/* Frees a block; false when it is not live. May enter the OS. */
bool large_free(uint32_t slot);
/* Makes the block at least `bytes` long, or shorter, where it is; false when that can not be. */
bool large_resize(uint32_t slot, size_t bytes);
/* Moves the block's pages to a larger run, without copying if the kernel can; the new address, or
 * NULL with the block untouched. */
HKM_COLD void *large_move(uint32_t slot, size_t bytes);
/* Entries of the big cache that are at least age_ms old become UNUSED slots; so do runs that a call
 * without success left unmapped, once the system maps them again. */
void large_decay(uint32_t now_ms, uint32_t age_ms);

/* First slot of the run that a pointer into a large block belongs to. */
uint32_t large_run_of(const void *p);
/* Usable bytes of a live large block. */
HKM_INLINE size_t large_bytes_of(uint32_t slot) { return slot_head(slot)->large_bytes; }

/* Live large blocks and their usable bytes; bytes in the big cache. */
size_t large_blocks(void);
size_t large_bytes(void);
size_t large_cached_bytes(void);

/* The module's variables, for the checker alone; `run` is NULL past the last entry. */
struct large_innards {
    ATOMIC(uint64_t) * run; /* slot number << 32 | slots in the run; 0: empty */
    ATOMIC(size_t) * cached_bytes, *live_blocks, *live_bytes;
    uint32_t given_up; /* CACHED runs that are in no entry: they are unmapped */
};
struct large_innards large_innards(unsigned entry);

#endif
