/* alloc.h -- allocating and freeing blocks of any size: what the entry points share.
 * Purpose     everything behind the fast paths: the slow path of a class, large blocks, alignment,
 *             resizing, and telling a live block from every other pointer.
 * Errors      functions that return NULL have set errno; the others leave it alone.
 */
#ifndef HKM_CORE_ALLOC_H
#define HKM_CORE_ALLOC_H

#include "core/arena.h"

/* A block of at least `bytes`, past the fast path. */
void *alloc_slow(size_t bytes);
/* A zeroed block. */
void *alloc_zeroed(size_t bytes);
/* A block aligned to a power of two. */
void *alloc_aligned(size_t alignment, size_t bytes);
/* realloc for a block that is not NULL and bytes > 0. */
void *alloc_resize(void *block, size_t bytes);
/* In place or not at all; false leaves the block as it was. */
bool alloc_expand(void *block, size_t bytes);
/* free, not inlined; `call` is the word for a report. */
void alloc_free(const char *call, void *block);
/* free, past the fast path; `call` is the word for a report. */
void alloc_free_slow(const char *call, void *block);
/* free of a pointer into the arena, but not of an own run; `offset` is front_offset's. */
void alloc_free_away(const char *call, void *block, uint32_t offset);
/* Reports when a live block can not have been allocated with `bytes`. */
void alloc_check_size(const char *call, const void *block, size_t bytes);
/* alloc_free of what alloc_check_size finds in order. */
void alloc_free_sized(const char *call, void *block, size_t bytes);
/* Usable size of a live block; reports any other pointer as misuse of `call`. */
size_t alloc_usable(const char *call, const void *block);
/* Whether a pointer lies in a live block. */
bool alloc_owns(const void *pointer);
/* Usable size for a request; 0 when it can not be had. */
size_t alloc_good_size(size_t bytes);

/* Sets errno to ENOMEM and returns NULL. */
void *alloc_out_of_memory(void);

#endif
