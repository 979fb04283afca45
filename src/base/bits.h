/* bits.h -- words of bits, alignment and rounding. Pure arithmetic, no state. */
#ifndef HKM_BASE_BITS_H
#define HKM_BASE_BITS_H

#include "base/config.h"

/* Position of the lowest and the highest set bit. The argument must not be 0. */
HKM_INLINE unsigned bits_lowest(uint64_t word) { return (unsigned)__builtin_ctzll(word); }
HKM_INLINE unsigned bits_highest(uint64_t word) { return 63u - (unsigned)__builtin_clzll(word); }
/* In registers: without -mpopcnt the compiler's builtin is a call of libgcc. */
HKM_INLINE unsigned bits_count(uint64_t word) {
    word -= (word >> 1) & UINT64_C(0x5555555555555555);
    word = (word & UINT64_C(0x3333333333333333)) + ((word >> 2) & UINT64_C(0x3333333333333333));
    word = (word + (word >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (unsigned)((word * UINT64_C(0x0101010101010101)) >> 56);
}

/* The lowest `count` bits set; count is 0..64. */
HKM_INLINE uint64_t bits_below(unsigned count) {
    return count >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << count) - 1;
}
HKM_INLINE uint32_t bits_below32(unsigned count) { return (uint32_t)bits_below(count); }

HKM_INLINE bool is_power_of_two(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

/* Rounds up to a multiple of `unit`, a power of two. Wraps to a small value when n is within
 * `unit` of SIZE_MAX: callers bound n first. */
HKM_INLINE size_t round_up(size_t n, size_t unit) { return (n + unit - 1) & ~(unit - 1); }
HKM_INLINE size_t round_down(size_t n, size_t unit) { return n & ~(unit - 1); }

/* Where a run of `count` (1..32) consecutive set bits starts in `mask`, or -1. With `aligned` the
 * start must be a multiple of count (then a power of two). */
static inline int bits_find_run(uint32_t mask, unsigned count, bool aligned) {
    uint64_t starts = mask; /* bit i: a run of `have` bits starts at i */
    unsigned have = 1;
    while (have < count && starts != 0) {
        unsigned step = have < count - have ? have : count - have;
        starts &= starts >> step;
        have += step;
    }
    if (aligned) {
        static const uint32_t every[6] = {0xffffffffu, 0x55555555u, 0x11111111u,
                                          0x01010101u, 0x00010001u, 0x00000001u};
        starts &= every[bits_lowest(count)];
    }
    return starts == 0 ? -1 : (int)bits_lowest(starts);
}

#endif
