/* guard.h -- redzones and poison: what is written where the program must not write, and looked at.
 * Purpose     a live block's redzone goes from the size asked for to the block's end; of more than
 *             REDZONE_MOST bytes only the first ones and the last REDZONE_BYTES. The last
 *             REDZONE_BYTES of a block are redzone in every state once it or the block behind it
 *             was allocated: so they guard the start of the next block as well. A dead block is
 *             poison up to there, of more than POISON_MOST bytes only the first ones.
 *             Under Valgrind or AddressSanitizer the same bytes are marked as not accessible. The
 *             checker's own looks open them for Valgrind meanwhile; AddressSanitizer does not see
 *             them, because marks that one thread opens another may close.
 * Ordering    the last REDZONE_BYTES are looked at by whoever has the next block, while the
 *             block's holder writes the same there again: relaxed atomics. The rest is its
 *             holder's.
 */
#ifndef HKM_CHECK_GUARD_H
#define HKM_CHECK_GUARD_H

#include "base/atomic.h"
#include "base/bits.h"
#include "base/config.h"

#define REDZONE_BYTES ((size_t)16)
#define REDZONE_MOST KIB(4)
/* The same for every large block: one that comes back from the big cache may be of another size. */
#define POISON_MOST (KIB(4) - REDZONE_BYTES)
#define REDZONE_BYTE 0xb5
#define POISON_BYTE 0xd7

void guard_start(void);
/* Whether the process runs under Valgrind, which has a cost for each byte that is committed. */
bool guard_on_valgrind(void);

/* Whether anybody is to be told what is accessible; what follows with `mark_` in its name is for
 * that case. */
extern bool guard_marks;

#define REDZONE_PATTERN (UINT64_C(0x0101010101010101) * REDZONE_BYTE)
typedef ATOMIC(uint64_t) guard_word;

/* The last bytes of a block. */
HKM_INLINE void guard_write_end(char *block, size_t bytes) {
    guard_word *end = (guard_word *)(void *)(block + bytes - REDZONE_BYTES);
    atomic_put(&end[0], REDZONE_PATTERN, relaxed);
    atomic_put(&end[1], REDZONE_PATTERN, relaxed);
}
HKM_INLINE const char *guard_read_end(const char *block, size_t bytes) {
    const char *end = block + bytes - REDZONE_BYTES;
    const guard_word *words = (const guard_word *)(const void *)end;
    uint64_t low = atomic_get(&words[0], relaxed) ^ REDZONE_PATTERN;
    uint64_t high = atomic_get(&words[1], relaxed) ^ REDZONE_PATTERN;
    if (likely((low | high) == 0))
        return NULL;
    return low != 0 ? end + bits_lowest(low) / 8 : end + 8 + bits_lowest(high) / 8;
}
void guard_mark_write_end(char *block, size_t bytes);
const char *guard_mark_read_end(const char *block, size_t bytes);

HKM_INLINE void guard_fill_end(char *block, size_t bytes) {
    if (unlikely(guard_marks))
        guard_mark_write_end(block, bytes);
    else
        guard_write_end(block, bytes);
}
/* The first byte that is no longer as guard_fill_end left it; NULL when all are. */
HKM_INLINE const char *guard_check_end(const char *block, size_t bytes) {
    return unlikely(guard_marks) ? guard_mark_read_end(block, bytes)
                                 : guard_read_end(block, bytes);
}

/* Writes a pattern, and looks for the first byte that differs from it. */
void guard_write(char *from, size_t bytes, unsigned char byte);
const char *guard_read(const char *from, size_t bytes, unsigned char byte);

/* Where the part of a redzone ends that lies before the last bytes. */
HKM_INLINE size_t guard_redzone_end(size_t requested, size_t bytes) {
    size_t most = requested + REDZONE_MOST - REDZONE_BYTES;
    return bytes - REDZONE_BYTES < most ? bytes - REDZONE_BYTES : most;
}

/* The redzone of a block of `bytes` of which `requested` are the program's. */
HKM_INLINE void guard_fill(char *block, size_t requested, size_t bytes) {
    size_t end = guard_redzone_end(requested, bytes);
    if (end > requested)
        guard_write(block + requested, end - requested, REDZONE_BYTE);
    guard_fill_end(block, bytes);
}
/* The first byte that is no longer as guard_fill left it; NULL when all are. */
HKM_INLINE const char *guard_check(const char *block, size_t requested, size_t bytes) {
    size_t end = guard_redzone_end(requested, bytes);
    const char *wrong =
        end > requested ? guard_read(block + requested, end - requested, REDZONE_BYTE) : NULL;
    return unlikely(wrong != NULL) ? wrong : guard_check_end(block, bytes);
}

HKM_INLINE size_t guard_poison_bytes(size_t bytes) {
    size_t most = bytes - REDZONE_BYTES;
    return most < POISON_MOST ? most : POISON_MOST;
}
#define POISON_PATTERN (UINT64_C(0x0101010101010101) * POISON_BYTE)
#define POISON_INLINE 128u /* blocks up to this size are dealt with here, by the word */
typedef uint64_t guard_two __attribute__((vector_size(16), may_alias));

/* A dead block; its last bytes are left alone. */
HKM_INLINE void guard_poison(char *block, size_t bytes) {
    if (bytes > POISON_INLINE || guard_marks) {
        guard_write(block, guard_poison_bytes(bytes), POISON_BYTE);
        return;
    }
    const char *end = block + bytes - REDZONE_BYTES;
    for (char *at = block; at < end; at += sizeof(guard_two))
        *(guard_two *)(void *)at = (guard_two){POISON_PATTERN, POISON_PATTERN};
}
HKM_INLINE const char *guard_check_poison(const char *block, size_t bytes) {
    if (likely(bytes <= POISON_INLINE && !guard_marks)) {
        const guard_two pattern = {POISON_PATTERN, POISON_PATTERN};
        const char *end = block + bytes - REDZONE_BYTES;
        guard_two other = {0, 0};
        for (const char *at = block; at < end; at += sizeof(guard_two))
            other |= *(const guard_two *)(const void *)at ^ pattern;
        if (likely((other[0] | other[1]) == 0))
            return NULL;
    }
    return guard_read(block, guard_poison_bytes(bytes), POISON_BYTE);
}

/* What Valgrind and AddressSanitizer are told. */
void guard_mark_born(const char *block, size_t requested, size_t bytes, bool zeroed);
HKM_INLINE void guard_born(const char *block, size_t requested, size_t bytes, bool zeroed) {
    if (unlikely(guard_marks))
        guard_mark_born(block, requested, bytes, zeroed);
}
void guard_mark_resized(const char *block, size_t old, size_t requested, size_t bytes);
HKM_INLINE void guard_resized(const char *block, size_t old, size_t requested, size_t bytes) {
    if (unlikely(guard_marks))
        guard_mark_resized(block, old, requested, bytes);
}
void guard_mark_died(const char *block, size_t bytes);
HKM_INLINE void guard_died(const char *block, size_t bytes) {
    if (unlikely(guard_marks))
        guard_mark_died(block, bytes);
}
/* Core is about to touch a range. */
void guard_touch(const void *from, size_t bytes);
/* The program may access a range, about which nothing is known. */
void guard_open(const void *from, size_t bytes);
/* What a magazine has above its top is no pointer: else no leak is ever found. */
void guard_forget(const void *from, const void *to);

#endif
