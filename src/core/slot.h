/* slot.h -- slots: 64 KiB pieces of a SuperSlab, alone or in runs, and their states.
 * Purpose     the record of a run, its state machine, and its bitmap of free blocks.
 *
 *     A run is 1..32 slots of one SuperSlab carved into blocks of one class, or any number of
 *     slots that hold one large block. What is recorded at its first slot speaks for the run; the
 *     others' records are not consulted. State and length stand in the SuperSlab's record (struct
 *     slot_head), what belongs to a carved run only in struct slot.
 *
 *                    carve                  last block comes home
 *        +--------+ -------> +--------+ ------------------------> +-------+
 *        | UNUSED |          | ACTIVE |                           | EMPTY |
 *        +--------+ <----+   +--------+ <------------------------ +-------+
 *         |      ^     |                 first block goes out       |
 *         |      |     +----------------------------------------------+
 *   place |      | release                     retire
 *         v      +----------+
 *        +-------+   stow   +--------+
 *        | LARGE | -------> | CACHED |
 *        |       | <------- |        |
 *        +-------+   reuse  +--------+
 *
 *     UNUSED  the slot's bit in its SuperSlab's mask `unused` is set, or somebody has just claimed
 *             the bit and will carve, place or purge
 *     ACTIVE  owned by a heap, at least one block is live or cached
 *     EMPTY   carved, and every block is in the bitmap; kept by its owner (stage 0) or, without an
 *             owner, on the class's list in the pool (stage 1)
 *     LARGE   holds a live large block
 *     CACHED  held a large block; in the big cache, contents and pages kept
 *
 * Invariants  S1. free_count == bits set in the bitmap <= capacity
 *             S2. ACTIVE with free_count > 0 <=> in its owner's list of partial runs
 *             S3. EMPTY => free_count == capacity
 *             S4. no bit at or above capacity is set, none below word `first`
 *             S5. a block's bit is set => its live byte is 0, and it is in no magazine or packet
 * Ownership   bitmap, counts and links: the owning heap, under its lock. state, owner and
 *             stack_next: shared. class, capacity, start, bits: constant in a carved run's life.
 */
#ifndef HKM_CORE_SLOT_H
#define HKM_CORE_SLOT_H

#include "core/superslab.h"

enum slot_state { SLOT_UNUSED, SLOT_ACTIVE, SLOT_EMPTY, SLOT_LARGE, SLOT_CACHED, SLOT_STATES };

/* slot_legal[from][to]: the one table of transitions that code, checker and tests read. */
extern const bool slot_legal[SLOT_STATES][SLOT_STATES];
extern const char slot_state_name[SLOT_STATES][7];

#define SLOT_INLINE_WORDS 8u
#define AHEAD_NEVER UINT32_MAX

struct slot {
    uint8_t class;
    uint8_t filled; /* hint: it is resident, because all its blocks were out at once */
    uint16_t capacity;
    ATOMIC(uint16_t) free_count; /* written by the owner; statistics read it */
    uint16_t first;              /* no bit is set in the words below this one */
    ATOMIC(uint32_t) stack_next; /* stage 1 list: slot below, 0 for none */
    uint32_t empty_ms;           /* when it became EMPTY */
    ATOMIC(uint32_t) owner;      /* its heap's id; 0: nobody */
    char *start;                 /* first block */
    uint64_t *bits;              /* one bit a block: free and in the run */
    uint32_t prev, next;         /* owner's list of partial runs, by slot number; 0 ends it */
    uint32_t ahead;              /* prefault looks at blocks from so many bytes on; or NEVER */
    uint32_t fresh;              /* hint, above 2 KiB: so many of the free ones were never out */
    uint32_t spare[2];
    uint64_t inline_bits[SLOT_INLINE_WORDS]; /* the bitmap of a run of at most 512 blocks */
};
_Static_assert(sizeof(struct slot) == 128, "a slot record is two cache lines");

HKM_INLINE struct slot *slot_at(uint32_t number) { return &arena.slots[-1 - (ptrdiff_t)number]; }
HKM_INLINE uint32_t slot_number(const struct slot *slot) {
    return (uint32_t)(arena.slots - slot) - 1;
}
HKM_INLINE struct slot_head *slot_head(uint32_t number) {
    return &superslab_at(number / SUPERSLAB_SLOTS)->heads[number % SUPERSLAB_SLOTS];
}
HKM_INLINE enum slot_state slot_state(uint32_t number) {
    return (enum slot_state)atomic_get(&slot_head(number)->state, acquire);
}
/* The run that a block of a class belongs to. */
HKM_INLINE struct slot *slot_of_block(unsigned class, const void *block) {
    return slot_at(arena_slot_of(block) & ~(sizeclass_table[class].run_slots - 1));
}
/* What it takes to put many blocks of a class home, each into its own run. */
struct slot_finder {
    uintptr_t arena_base;
    char *last;    /* record of slot 0, behind all others */
    uint64_t mask; /* of a run's offset from it */
    uint64_t inverse;
};
HKM_INLINE struct slot_finder slot_finder(unsigned class) {
    const struct sizeclass *sc = &sizeclass_table[class];
    return (struct slot_finder){arena.base, (char *)slot_at(0),
                                sizeof(struct slot) * ~(uint64_t)(sc->run_slots - 1), sc->inverse};
}
/* slot_of_block; `last` minus the number times a record's length. */
HKM_INLINE struct slot *slot_find(const struct slot_finder *finder, const void *block) {
    uint64_t offset = ((uintptr_t)block - finder->arena_base) / (SLOT_BYTES / sizeof(struct slot));
    return (struct slot *)(void *)(finder->last - (offset & finder->mask));
}
HKM_INLINE unsigned slot_free(const struct slot *slot) {
    return atomic_get(&slot->free_count, relaxed);
}

/* The one function that changes a run's state. False, and no change, when the state is not `from`:
 * then somebody else was faster, or the caller is wrong, which it must report. */
bool slot_change(uint32_t number, enum slot_state from, enum slot_state to);

/* UNUSED -> ACTIVE: lays the run out for a class, every block free. The caller has claimed the
 * run's bits and becomes the owner. */
void slot_carve(struct slot *slot, unsigned class, uint32_t owner);
/* Hands the run over, in its record and in the class map. */
void slot_own(struct slot *slot, uint32_t owner);
/* EMPTY -> UNUSED: the class map forgets the run. The caller then gives the bits back. */
void slot_retire(struct slot *slot);

/* Moves up to `count` free blocks out of the bitmap to the places below `end`, the lowest address
 * to end[-1] and on downwards; returns how many there were. */
unsigned slot_take(struct slot *slot, void **end, unsigned count);
/* What `capacity` is, for those who must not read a record that another may be laying out. */
HKM_INLINE unsigned slot_capacity(unsigned class, uint32_t number) {
    uint32_t run_slots = sizeclass_table[class].run_slots;
    return sizeclass_capacity(class, sizeclass_colour(class, number / run_slots));
}
HKM_INLINE unsigned slot_words(const struct slot *slot) { return (slot->capacity + 63u) / 64u; }

/* How many of blocks[0..most) stand side by side, each `step` bytes from the one before. */
HKM_INLINE unsigned slot_stretch(void *const *blocks, unsigned most, ptrdiff_t step) {
    const char *next = (const char *)blocks[0] + step;
    unsigned length = 1;
    for (; length < most && blocks[length] == next; length++)
        next += step;
    return length;
}

/* The number of the block that starts `offset` bytes behind the first; 2^46 or more for any other
 * place of its run. The inverse is 2^42 / bytes, rounded up, so the number is the product >> 42.
 * The product's lower 42 bits are less than a run's length, 2^21, where a block starts, and at
 * least the inverse, 2^24 or more, elsewhere. So bits 24 to 41 are 0 exactly where a block starts;
 * they are rotated to the top, where they make any other number too large. */
HKM_INLINE uint64_t slot_exact_index(uint64_t inverse, uint64_t offset) {
    uint64_t product = offset * inverse >> 24;
    return product >> 18 | product << 46;
}
_Static_assert(SMALL_BYTES_MAX == (size_t)1 << 18, "an inverse is at least 2^24");

/* Puts blocks[0] back into the bitmap of a run of `class`, and as many of those after it as are its
 * neighbours, up or down, and share its word: so blocks that were freed in order go home by the
 * word. Returns how many they were; 0 when blocks[0] is no block of this run, or one of them was in
 * the bitmap already (S5), which the caller reports. */
HKM_INLINE unsigned slot_put(struct slot *slot, unsigned class, void *const *blocks,
                             unsigned count) {
    const struct sizeclass *sc = &sizeclass_table[class];
    uint64_t offset = (uint64_t)((const char *)blocks[0] - slot->start);
    uint64_t index = slot_exact_index(sc->inverse, offset);
    if (unlikely(offset >= SUPERSLAB_BYTES || index >= slot->capacity))
        return 0;
    unsigned shift = (unsigned)index & 63;
    unsigned length = 1;
    uint64_t mask = UINT64_C(1) << shift;
    if (count > 1) {
        ptrdiff_t step = (const char *)blocks[1] - (const char *)blocks[0];
        if (step == (ptrdiff_t)sc->bytes) {
            unsigned most = slot->capacity - (unsigned)index;
            most = most < 64 - shift ? most : 64 - shift;
            length = slot_stretch(blocks, most < count ? most : count, step);
            mask = bits_below(length) << shift;
        } else if (step == -(ptrdiff_t)sc->bytes) {
            length = slot_stretch(blocks, shift < count ? shift + 1 : count, step);
            mask = bits_below(length) << (shift + 1 - length);
        }
    }
    unsigned w = (unsigned)(index >> 6);
    uint64_t word = slot->bits[w];
    if (unlikely((word & mask) != 0))
        return 0;
    slot->bits[w] = word | mask;
    slot->first = 0; /* cheaper than to compare; slot_take goes through few words again */
    counter_add(&slot->free_count, (uint16_t)length);
    return length;
}

/* Puts one block back; returns the free count then, or 0 where slot_put does. */
HKM_INLINE unsigned slot_put_one(struct slot *slot, const struct slot_finder *finder,
                                 unsigned capacity, const void *block) {
    uint64_t offset = (uint64_t)((const char *)block - slot->start);
    uint64_t index = slot_exact_index(finder->inverse, offset);
    if (unlikely(index >= capacity))
        return 0;
    uint64_t *word = &slot->bits[index >> 6];
    uint64_t bit = UINT64_C(1) << (index & 63);
    if (unlikely((*word & bit) != 0))
        return 0;
    *word |= bit;
    slot->first = 0;
    unsigned free = slot_free(slot) + 1;
    atomic_put(&slot->free_count, (uint16_t)free, relaxed);
    return free;
}

#endif
