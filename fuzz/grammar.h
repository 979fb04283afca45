/* grammar.h -- what a byte string means: records of 8 bytes, each one operation.
 * Purpose     one grammar for every engine (libFuzzer, AFL++, swarm, replay). README.md writes it
 *             down; this file and grammar.c are its only implementation. Nothing here calls the
 *             allocator, so that a broken one does not change what an input means.
 *
 *     byte 0   operation: the low 5 bits, OPS of them; the rest are common ones once more
 *     byte 1   bits 0-2 the thread that does it, bits 3-7 flags, whose meaning is the operation's
 *     byte 2,3 the slot (little endian, modulo SLOTS): which block
 *     byte 4   bits 0-4 kind of size, bits 5-6 one below, at, or one above it
 *     byte 5,6 detail of the size, or the operation's argument
 *     byte 7   bits 0-3 how often (REPEATS), bits 4-7 alignment (with flag 16: 16 more of them)
 */
#ifndef FUZZ_GRAMMAR_H
#define FUZZ_GRAMMAR_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define RECORD_BYTES 8u
#define FUZZ_SLOTS 8192u
#define FUZZ_THREADS 8u

enum op {
    OP_MALLOC,
    OP_CALLOC,
    OP_REALLOC,
    OP_REALLOCARRAY,
    OP_ALIGNED_ALLOC,
    OP_POSIX_MEMALIGN,
    OP_MEMALIGN,
    OP_VALLOC,
    OP_FREE,
    OP_FREE_SIZED,
    OP_FREE_ALIGNED_SIZED,
    OP_EXPAND,
    OP_ASK,
    OP_GOOD_SIZE,
    OP_PURGE,
    OP_TRIM,
    OP_OPTION,
    OP_THREAD_START,
    OP_THREAD_END,
    OP_FAULT,
    OP_CLOCK,
    OP_STATS,
    OP_VERIFY,
    OP_PRINT_STATS,
    OP_FORK,
    OP_END_RUN, /* as the end of the input does: everything is freed, the next records begin anew */
    OP_START,   /* start options; only as the first record, before the allocator has started */
    OPS
};

/* Flags. What is not listed has no meaning for the operation. */
enum {
    FLAG_WHOLE = 1,    /* allocations: what is usable is used, not only what was asked for */
    FLAG_WALK = 2,     /* repeated allocations: each a class above the one before */
    FLAG_NULL = 4,     /* realloc, free, ask, expand: of NULL */
    FLAG_OVERFLOW = 8, /* calloc, reallocarray: a count whose product overflows */
    FLAG_ALIGN = 16,   /* the second half of the alignments */
    /* frees in a row: 1 + stride; the stride to the next block */
    FLAG_STRIDE_2 = 1,
    FLAG_STRIDE_7 = 2,
    FLAG_BACK = 8,
    FLAG_PAGES = 1, /* valloc: pvalloc */
    FLAG_LATE = 1,  /* thread end: allocates and frees in a key's destructor, too */
    FLAG_OFF = 1,   /* fault: none from here on */
    FLAG_EACH = 2,  /* fault: from then on; else once */
    FLAG_THIRD = 4  /* fault: every third */
};

enum size_kind {
    SIZE_CLASS,           /* kinds 0 to 11: a class boundary; detail modulo the number of classes */
    SIZE_SMALL = 12,      /* 12 to 15: detail modulo 1,024 */
    SIZE_RAW = 16,        /* detail, 0 to 65,535 */
    SIZE_PAGES = 17,      /* 17, 18: whole pages, 1 to 256 */
    SIZE_SLOTS = 19,      /* 19, 20: 64 KiB times 1 to 64 */
    SIZE_SUPERSLABS = 21, /* 2 MiB times 1 to 24 */
    SIZE_HUGE = 22,       /* 1 MiB to 1 GiB, a power of two, or one and a half times it */
    SIZE_ABSURD,          /* near PTRDIFF_MAX, SIZE_MAX, the arena's size */
    SIZE_ZERO,            /* 0 */
    SIZE_SAME,            /* of the block: its size */
    SIZE_USABLE,          /* its usable size */
    SIZE_HALF,
    SIZE_DOUBLE,
    SIZE_MORE,     /* size + detail % 4,096 */
    SIZE_LESS,     /* size - detail % 4,096 */
    SIZE_FRACTION, /* size * (detail % 1,024) / 512 */
    SIZE_KINDS
};
_Static_assert(SIZE_KINDS == 32, "5 bits");

struct record {
    enum op op;
    unsigned thread, flags, slot;
    enum size_kind kind;
    int delta; /* -1, 0 or 1 */
    unsigned detail;
    unsigned repeats;
    size_t alignment;
};

#define CLASSES 96u
/* Size of the class with this number, from 0. */
size_t grammar_class_bytes(unsigned number);

void grammar_decode(const uint8_t *bytes, struct record *record);
/* The size a record asks for; `bytes` and `usable` are those of the block that it is about. */
size_t grammar_size(const struct record *record, size_t bytes, size_t usable);

const char *grammar_op_name(enum op op);
/* The record in words, without an end of line; the size as far as it does not hang on a block. */
void grammar_print(FILE *to, const struct record *record);

/* ---- making records: the swarm's and the mutator's ---- */

/* xorshift64*; *state must not be 0. */
uint64_t grammar_random(uint64_t *state);
static inline unsigned grammar_below(uint64_t *state, unsigned n) {
    return (unsigned)((grammar_random(state) >> 32) % n);
}
/* A random record of this operation: sizes, repeats, threads as they are useful. */
void grammar_make(uint64_t *state, enum op op, uint8_t *bytes);
/* A mix of operations and habits; what a swarm run is made of. */
struct mix {
    unsigned weight[OPS], total;
    unsigned slots;      /* window of slots in use */
    unsigned threads;    /* 1 to FUZZ_THREADS */
    unsigned kinds[4];   /* favourite size kinds */
    unsigned details[4]; /* and details */
    unsigned bias;       /* of 16: how often a favourite is taken */
    unsigned repeat_max; /* index into the repeats */
};
void grammar_make_mix(uint64_t *state, struct mix *mix);
void grammar_make_mixed(uint64_t *state, const struct mix *mix, uint8_t *bytes);

#endif
