/* sizeclass.h -- size classes: which block size serves a request, and how blocks lie in a run.
 * Purpose     classes 1..8 are 16..128 bytes in steps of 16; from there 8 classes to a doubling up
 *             to 32 KiB, so that a block is never more than 12.5 % larger than the request above
 *             128 bytes; then 4 to a doubling up to 256 KiB: what a block of many pages has over
 *             the request is address space, not memory, and fewer classes mean fewer cached blocks
 *             and fewer runs in part use. A class is carved from a run of 1..32 slots.
 * Invariants  C1. sizeclass_of(n) is the smallest class whose size is at least n
 *             C2. every size is a multiple of 16
 *             C3. sizeclass_index is exact for every offset inside a run
 *             C4. a block's first byte lies in a granule (of the live map) of its own:
 *                 1 << live_shift <= size
 * Ownership   all of it is constant.
 */
#ifndef HKM_CORE_SIZECLASS_H
#define HKM_CORE_SIZECLASS_H

#include "base/bits.h"

struct sizeclass {
    uint32_t bytes;      /* block size */
    uint32_t run_slots;  /* slots in a run: a power of two */
    uint32_t capacity;   /* blocks in a run when it is not coloured */
    uint32_t live_shift; /* log2 of the live map's granule */
    uint64_t inverse;    /* ceil(2^42 / bytes) */
};

extern const struct sizeclass sizeclass_table[CLASS_COUNT];

/* Byte offset of a class's magazine in a heap, for requests up to FAST_BYTES_MAX by (n + 15) /
 * 16. */
#define MAGAZINE_SHIFT 6
#define FAST_BYTES_MAX 2048u
extern const uint16_t sizeclass_fast[FAST_BYTES_MAX / 16 + 1];

/* Class for a request of 129..SMALL_BYTES_MAX bytes. */
HKM_INLINE unsigned sizeclass_of_medium(size_t bytes) {
    size_t n = bytes - 1;
    unsigned high = bits_highest(n);
    if (unlikely(high >= 15))
        return 73 + (high - 15) * 4 + (unsigned)((n >> (high - 2)) & 3);
    return 9 + (high - 7) * 8 + (unsigned)((n >> (high - 3)) & 7);
}

/* Class for a request of 0..SMALL_BYTES_MAX bytes. */
HKM_INLINE unsigned sizeclass_of(size_t bytes) {
    if (bytes <= 128)
        return bytes == 0 ? 1 : (unsigned)((bytes + 15) >> 4);
    return sizeclass_of_medium(bytes);
}

HKM_INLINE size_t sizeclass_bytes(unsigned class) { return sizeclass_table[class].bytes; }

/* Which block of a run the byte at `offset` from the first block lies in. */
HKM_INLINE unsigned sizeclass_index(unsigned class, size_t offset) {
    return (unsigned)((offset * sizeclass_table[class].inverse) >> 42);
}

/* Smallest class whose blocks are at least `bytes` long and naturally aligned to `alignment`
 * (at most SLOT_BYTES); 0 when there is none. */
unsigned sizeclass_of_aligned(size_t bytes, size_t alignment);

/* Where the first block of a run starts, in bytes: spread over cache sets by the run's number. */
size_t sizeclass_colour(unsigned class, size_t run_number);

/* How many blocks a run has whose first one starts there. */
HKM_INLINE unsigned sizeclass_capacity(unsigned class, size_t colour) {
    const struct sizeclass *sc = &sizeclass_table[class];
    return colour == 0 ? sc->capacity : sizeclass_index(class, sc->run_slots * SLOT_BYTES - colour);
}

#endif
