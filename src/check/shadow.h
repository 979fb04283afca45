/* shadow.h -- what the checked build keeps beside the data: a record for each block, and the last
 * transitions of each slot.
 * Purpose     lies in a mapping of its own, so that arena and blocks are laid out as in the release
 *             build. Committed at once if the system agrees (only what is touched costs memory),
 *             else for 4 MiB of slots at a time, when the first of them is carved;
 *             where memory for it is out when a run is carved, its blocks have no record (NULL)
 *             and are checked by core alone.
 *
 *     A block's record is at  blocks + number of the run's first slot * SHADOW_SLOT_RECORDS +
 *     index. No block of the checked build is smaller than 32 bytes (it has a redzone), so that
 *     a slot's records suffice. A large block's stands with its first slot's transitions: it is
 *     one page less.
 *
 *     NEVER --born--> LIVE --free--> QUARANTINED --evicted--> FREE --born--> LIVE
 *                       |                                      ^
 *                       +----- resized away, or too large -----+
 *
 *     CHANGING stands between, while redzone and poison are being written: then a walk does not
 *     look at them, nor does a child that was forked in the midst of it.
 *
 *     A record counts only while its generation is the slot's, which each carving raises: else the
 *     block was NEVER allocated from this run.
 *
 *     A walk beside running threads holds a record by WORD_LOOKED_AT while it looks at it, the
 *     redzone and the poison; whoever wants to change the word waits (shadow_replace), but not for
 *     ever: in a forked child the walker may be gone.
 *
 * Ownership   a record's fields but `word` are written by whoever made it leave or enter LIVE.
 * Ordering    release of `word` pairs with acquire wherever it is read.
 */
#ifndef HKM_CHECK_SHADOW_H
#define HKM_CHECK_SHADOW_H

#include "core/slot.h"

#define SHADOW_SLOT_RECORDS (SLOT_BYTES / 32)
#define SHADOW_MOVES 8u

enum block_state {
    BLOCK_NEVER,
    BLOCK_LIVE,
    BLOCK_QUARANTINED,
    BLOCK_FREE,
    BLOCK_CHANGING,
    BLOCK_STATES
};
extern const char *const block_state_name[BLOCK_STATES];

/* block.word: state, log2 of the alignment asked for, flags, generation */
#define WORD_STATE 7u
#define WORD_ALIGN_SHIFT 3
#define WORD_ALIGN (63u << WORD_ALIGN_SHIFT)
#define WORD_GUARDED (1u << 9)   /* NEVER: its last bytes were made a redzone for its successor */
#define WORD_POISONED (1u << 10) /* FREE: its contents are poison */
#define WORD_LOOKED_AT (1u << 11) /* by a walk beside running threads: nobody else changes it */
#define WORD_GENERATION_SHIFT 12

struct block {
    ATOMIC(uint32_t) word;
    uint32_t sequence; /* number of the call that made it LIVE */
    ATOMIC(size_t) requested;
    uint32_t alloc_stack, free_stack; /* depot.h */
    uint32_t alloc_thread, free_thread;
};
_Static_assert(sizeof(struct block) == 32, "two records a cache line");

struct slot_move {
    uint32_t thread, sequence, ms;
    uint8_t from, to;
};
struct slot_shadow {
    ATOMIC(uint32_t) generation;
    ATOMIC(uint32_t) moves; /* ever; the last SHADOW_MOVES are kept */
    struct slot_move last[SHADOW_MOVES];
    struct block large; /* of the large block that starts in the slot */
};

/* Where a block is, and its record. */
struct place {
    struct block *record; /* NULL: there is none */
    char *start;          /* the block */
    size_t bytes;         /* of it, for core */
    uint32_t slot;        /* the run's first */
    unsigned class;       /* or CLASS_LARGE_HEAD */
    unsigned index;
    uint32_t generation; /* of the run, where a word has it */
};
_Static_assert(sizeof(struct place) == 40, "no padding, which MemorySanitizer takes for unwritten");

void shadow_start(void);
extern uint32_t shadow_slots; /* those that have a shadow */
/* False when there is no memory for a shadow at all. */
HKM_INLINE bool shadow_is_on(void) { return shadow_slots > 0; }
/* The block that an address of the arena lies in, live or not; false when it lies in none. */
bool shadow_find(const void *pointer, struct place *place);
/* A slot's shadow; NULL when there is none. */
struct slot_shadow *shadow_of_slot(uint32_t slot);
/* Notes a transition. Faults S16. */
void shadow_move(uint32_t slot, unsigned from, unsigned to);
/* The record's word, or that of a block that was never allocated from the slot's present run. */
HKM_INLINE uint32_t shadow_word(const struct place *place) {
    uint32_t word = atomic_get(&place->record->word, acquire);
    return (word ^ place->generation) >> WORD_GENERATION_SHIFT == 0
               ? word
               : place->generation | BLOCK_NEVER;
}
/* Of the block right before one that is not the first of its run. */
HKM_INLINE uint32_t shadow_word_before(const struct place *place) {
    uint32_t word = atomic_get(&(place->record - 1)->word, acquire);
    return (word ^ place->generation) >> WORD_GENERATION_SHIFT == 0
               ? word
               : place->generation | BLOCK_NEVER;
}
/* The word of a state in the slot's present generation. */
HKM_INLINE uint32_t shadow_make_word(const struct place *place, enum block_state state,
                                     uint32_t flags) {
    return place->generation | flags | state;
}
bool shadow_replace_later(const struct place *place, uint32_t from, uint32_t to);
/* Replaces the word `from` by `to`; false when it is another by now. Waits for a walk. */
HKM_INLINE bool shadow_replace(const struct place *place, uint32_t from, uint32_t to) {
    from &= ~WORD_LOOKED_AT;
    uint32_t word = from;
    return likely(atomic_cas(&place->record->word, &word, to, acq_rel, relaxed)) ||
           (word == (from | WORD_LOOKED_AT) && shadow_replace_later(place, from, to));
}
/* Replaces whatever word there is. */
void shadow_take(const struct place *place, uint32_t to);
/* For a walk: the word, held until shadow_let_go if *held. */
uint32_t shadow_hold(const struct place *place, bool *held);
void shadow_let_go(const struct place *place);
HKM_INLINE enum block_state shadow_state(const struct place *place) {
    return (enum block_state)(shadow_word(place) & WORD_STATE);
}
/* The first block of a run of a class, or a large block, by its first slot. */
struct place shadow_first(uint32_t slot, unsigned class);
/* Gives back the pages of records of slots that nobody holds. */
void shadow_purge(uint32_t first, size_t count);
/* Another block of the same run. */
HKM_INLINE struct place shadow_neighbour(const struct place *place, unsigned index) {
    struct place other = *place;
    ptrdiff_t away = (ptrdiff_t)index - (ptrdiff_t)place->index;
    other.index = index;
    other.start = place->start + away * (ptrdiff_t)place->bytes;
    other.record = place->record == NULL ? NULL : place->record + away;
    return other;
}

/* A small number for the calling thread, and the next number of a call. */
extern __thread uint32_t shadow_thread_number;
HKM_COLD uint32_t shadow_number_thread(void);
HKM_INLINE uint32_t shadow_thread(void) {
    return likely(shadow_thread_number != 0) ? shadow_thread_number : shadow_number_thread();
}
uint32_t shadow_sequence(void);

#endif
