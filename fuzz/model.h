/* model.h -- the shadow of the heap: every live block, what is in it and what may be done with it.
 * Purpose     tells whether two blocks overlap, whether contents have survived, and which address
 *             belongs to whom, without believing anything the allocator says.
 * Invariants  M1. `live` has a slot's bit exactly when the slot holds a block
 *             M2. the blocks are ordered by address in a treap, and do not overlap
 * Ownership   one thread at a time: whoever holds the harness's baton. No memory is allocated.
 */
#ifndef FUZZ_MODEL_H
#define FUZZ_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "grammar.h"

#define NO_BLOCK UINT32_MAX
#define MODEL_WHOLE_BYTES ((size_t)16 << 10) /* above it contents are checked in windows */

enum origin { ORIGIN_PLAIN, ORIGIN_ALIGNED, ORIGIN_RESIZED }; /* which sized free may have it */

struct block {
    unsigned char *start;
    size_t bytes;  /* asked for */
    size_t filled; /* bytes with contents, from the start: `bytes` or `usable` */
    size_t usable;
    size_t alignment;
    uint64_t id; /* its contents are derived from it */
    enum origin origin;
};

extern struct block model_blocks[FUZZ_SLOTS];

void model_clear(void);
unsigned model_count(void);
/* Sums over all live blocks. */
uint64_t model_usable_bytes(void);

bool model_is_live(uint32_t slot);
/* The first live (or empty) slot from this one on, around the end; NO_BLOCK when there is none. */
uint32_t model_next_live(uint32_t slot);
uint32_t model_previous_live(uint32_t slot);
uint32_t model_next_empty(uint32_t slot);

/* Enters a block; NO_BLOCK, or the slot of a live block that overlaps it (then nothing changed). */
uint32_t model_add(uint32_t slot, const struct block *block);
void model_remove(uint32_t slot);
/* The live block with the highest start at or below the address, NO_BLOCK if none. */
uint32_t model_at_or_below(const void *address);
/* The live block with the lowest start above the address. */
uint32_t model_above(const void *address);

/* Contents. How many bytes were looked at or written is counted in model_touched. */
extern uint64_t model_touched;
/* Fills block->filled bytes from a new id. */
void model_fill(struct block *block);
/* The offset of the first byte that differs, of the first `bytes`; SIZE_MAX if none does. */
size_t model_differs(const unsigned char *start, const struct block *as, size_t bytes);
/* The offset of a byte that is not zero; SIZE_MAX if none is found. */
size_t model_not_zero(const unsigned char *start, size_t bytes);

#endif
