/* check.h -- the checked build's entry points: what api calls instead of core where HKM_CHECK_LEVEL
 * is 1 or more.
 * Purpose     core and its fast paths are the release library's; around them each block gets a
 *             record (shadow.h), a redzone (guard.h), stacks (depot.h) and, when it dies, poison
 *             and a time in the quarantine. Core is asked for REDZONE_BYTES more than the program
 *             asked for.
 *
 *     `frame` is the frame address of the exported function, where the block's stack begins.
 *
 *     A block of 0 bytes is one of 1 byte.
 *
 * Found at the call: double frees, frees of anything but a live block's start, sizes and alignments
 *             other than those asked for, calls with a dead block, bytes written right behind or
 *             right before the block. Found later, when the block leaves the quarantine, is handed
 *             out again, or by the walk: bytes written into a dead block.
 * Not found   writes before the first block of a run without colour, and before a large block; far
 *             writes that hit another live block; writes into a dead block beyond its first
 *             POISON_MOST bytes.
 * Signals, fork  nothing is locked. A call inside another of the same thread (a signal handler)
 *             starts no walk.
 */
#ifndef HKM_CHECK_CHECK_H
#define HKM_CHECK_CHECK_H

#include "base/config.h"

void *check_malloc(size_t bytes, const void *frame);
void *check_calloc(size_t bytes, const void *frame);
void *check_aligned(size_t alignment, size_t bytes, const void *frame);
/* For a block that is not NULL and bytes > 0. */
void *check_realloc(void *block, size_t bytes, const void *frame);
bool check_expand(void *block, size_t bytes, const void *frame);

/* With what the caller knows about the block; 0 and NULL: nothing. */
void check_free(const char *call, void *block, size_t alignment, const size_t *bytes,
                const void *frame);

size_t check_usable(const char *call, const void *block);
bool check_owns(const void *pointer);
size_t check_good_size(size_t bytes);
/* Gives what the quarantine holds back to core, and idle memory to the system: how many bytes. */
size_t check_purge(void);
/* The quarantine alone. */
void check_flush(void);

/* Walks the whole heap (walk.h), in every build; the number of live blocks. */
size_t check_heap(void);

/* What live blocks have beyond the bytes that were asked for. */
size_t check_overhead(bool large);

/* For core: verifies a block that is about to be cleared for the program. */
void check_cleared(const void *block);

/* For the quarantine: verifies a dead block and frees it; what it was for core. */
void check_evict(void *block, size_t *bytes, bool *large);

#endif
