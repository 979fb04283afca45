/* bitset.h -- arrays of bits that threads claim and give back without locks.
 * Purpose     a set bit is something free to be claimed; whoever turns it to 0 has it alone.
 * Ordering    acquire in bitset_claim pairs with release in bitset_give: what the giver wrote
 *             about the thing is seen by the next to claim it. A claim is a read-modify-write of
 *             a present state, not of a remembered one, so that there is no ABA.
 */
#ifndef HKM_BASE_BITSET_H
#define HKM_BASE_BITSET_H

#include "base/atomic.h"
#include "base/bits.h"

typedef ATOMIC(uint64_t) bitset_word;

HKM_INLINE uint64_t bitset_bit(size_t i) { return UINT64_C(1) << (i & 63); }

HKM_INLINE bool bitset_test(bitset_word *set, size_t i) {
    return (atomic_get(&set[i >> 6], relaxed) & bitset_bit(i)) != 0;
}

/* Sets a bit, publishing what was written before. */
HKM_INLINE void bitset_give(bitset_word *set, size_t i) {
    atomic_or(&set[i >> 6], bitset_bit(i), release);
}

/* Clears a bit; true when this call cleared it. */
HKM_INLINE bool bitset_claim(bitset_word *set, size_t i) {
    if (!bitset_test(set, i))
        return false;
    return (atomic_and(&set[i >> 6], ~bitset_bit(i), acquire) & bitset_bit(i)) != 0;
}

/* The first bit at or after `from` that is set (or, with flip all ones, clear); `end` if none. */
static inline size_t bitset_next(bitset_word *set, size_t from, size_t end, uint64_t flip) {
    while (from < end) {
        uint64_t word = (atomic_get(&set[from >> 6], relaxed) ^ flip) & ~bits_below(from & 63);
        if (word != 0) {
            size_t at = (from & ~(size_t)63) + bits_lowest(word);
            return at < end ? at : end;
        }
        from = (from & ~(size_t)63) + 64;
    }
    return end;
}

HKM_INLINE size_t bitset_next_set(bitset_word *set, size_t from, size_t end) {
    return bitset_next(set, from, end, 0);
}
HKM_INLINE size_t bitset_next_clear(bitset_word *set, size_t from, size_t end) {
    return bitset_next(set, from, end, ~UINT64_C(0));
}

/* Sets or claims `count` bits from `first` on; a claim that fails in the middle gives back what it
 * had and returns false. */
static inline void bitset_give_run(bitset_word *set, size_t first, size_t count) {
    while (count > 0) {
        unsigned shift = (unsigned)(first & 63);
        unsigned here = count < 64 - shift ? (unsigned)count : 64 - shift;
        atomic_or(&set[first >> 6], bits_below(here) << shift, release);
        first += here;
        count -= here;
    }
}

static inline bool bitset_claim_run(bitset_word *set, size_t first, size_t count) {
    size_t start = first;
    size_t left = count;
    while (left > 0) {
        unsigned shift = (unsigned)(first & 63);
        unsigned here = left < 64 - shift ? (unsigned)left : 64 - shift;
        uint64_t mask = bits_below(here) << shift;
        uint64_t word = atomic_get(&set[first >> 6], relaxed);
        do {
            if ((word & mask) != mask) {
                bitset_give_run(set, start, first - start);
                return false;
            }
        } while (!atomic_cas_weak(&set[first >> 6], &word, word & ~mask, acquire, relaxed));
        first += here;
        left -= here;
    }
    return true;
}

#endif
