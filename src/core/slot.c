/* slot.c -- the life of a run of slots; states and invariants in slot.h.
 * Ordering    the release in slot_change pairs with the acquire in slot_state: whoever sees a
 *             state sees what was written about the run before it.
 */
#include "core/slot.h"

#include <string.h>

#include "base/require.h"
#include "core/prefault.h"
#include "core/watch.h"

const bool slot_legal[SLOT_STATES][SLOT_STATES] = {
    [SLOT_UNUSED] = {[SLOT_ACTIVE] = true, [SLOT_LARGE] = true},
    [SLOT_ACTIVE] = {[SLOT_EMPTY] = true},
    [SLOT_EMPTY] = {[SLOT_ACTIVE] = true, [SLOT_UNUSED] = true},
    [SLOT_LARGE] = {[SLOT_CACHED] = true},
    [SLOT_CACHED] = {[SLOT_LARGE] = true, [SLOT_UNUSED] = true},
};

const char slot_state_name[SLOT_STATES][7] = {
    [SLOT_UNUSED] = "UNUSED", [SLOT_ACTIVE] = "ACTIVE", [SLOT_EMPTY] = "EMPTY",
    [SLOT_LARGE] = "LARGE",   [SLOT_CACHED] = "CACHED",
};

bool slot_change(uint32_t number, enum slot_state from, enum slot_state to) {
    uint8_t expected = (uint8_t)from;
    if (!slot_legal[from][to] ||
        !atomic_cas(&slot_head(number)->state, &expected, (uint8_t)to, acq_rel, relaxed))
        return false;
    if (HKM_CHECK_LEVEL >= 1)
        watch_slot(number, from, to);
    return true;
}

static void set_entries(const struct slot *slot, uint32_t entry) {
    uint32_t first = slot_number(slot);
    for (uint32_t i = 0; i < sizeclass_table[slot->class].run_slots; i++)
        atomic_put(arena_class_entry(first + i), entry, relaxed);
}

void slot_own(struct slot *slot, uint32_t owner) {
    atomic_put(&slot->owner, owner, relaxed);
    set_entries(slot, CLASS_ENTRY(owner, (uint32_t)slot->class));
}

/* A write, although the byte is 0 (S5): malloc would read it first, which maps the page of zeros
 * where there is none yet, and its write would then fault again and interrupt every CPU. */
static void touch_live_byte(const struct slot *slot, const void *block) {
    live_set(arena_live_byte(slot->class, block), 0);
}

void slot_carve(struct slot *slot, unsigned class, uint32_t owner) {
    const struct sizeclass *sc = &sizeclass_table[class];
    uint32_t number = slot_number(slot);
    size_t colour = sizeclass_colour(class, number / sc->run_slots);
    slot->class = (uint8_t) class;
    slot_head(number)->run_slots = sc->run_slots;
    slot->start = arena_slot_start(number) + colour;
    slot->capacity = (uint16_t)sizeclass_capacity(class, colour);
    slot->bits = slot->capacity <= SLOT_INLINE_WORDS * 64
                     ? slot->inline_bits
                     : arena.bitmaps - (size_t)(number + 1) * (SLOT_BLOCKS_MAX / 64);
    unsigned words = slot_words(slot);
    memset(slot->bits, 0xff, words * sizeof(uint64_t));
    if ((slot->capacity & 63) != 0)
        slot->bits[words - 1] = bits_below(slot->capacity & 63);
    slot->first = 0;
    slot->prev = slot->next = 0;
    atomic_put(&slot->free_count, slot->capacity, relaxed);
    slot_own(slot, owner);
    touch_live_byte(slot, slot->start);
    hkm_require(slot_change(number, SLOT_UNUSED, SLOT_ACTIVE), "U3 a claimed slot is UNUSED", slot);
}

void slot_retire(struct slot *slot) {
    set_entries(slot, 0);
    atomic_put(&slot->owner, 0, relaxed);
    hkm_require(slot_change(slot_number(slot), SLOT_EMPTY, SLOT_UNUSED),
                "P1 a run in the pool is EMPTY", slot);
}

#define FILLED_BYTES_MAX KIB(4) /* of larger blocks that are out some pages may be untouched */

/* Hands out the blocks whose bits are set in `word`, the lowest at at[-1]; returns how far down it
 * went. */
static void **hand_out(void **at, char *first, size_t bytes, uint64_t word) {
    if (word == ~UINT64_C(0)) { /* no bit tests */
        for (unsigned i = 1; i <= 64; i++, first += bytes)
            *(at - i) = first;
        return at - 64;
    }
    for (; word != 0; word &= word - 1)
        *--at = first + bits_lowest(word) * bytes;
    return at;
}

/* `word` but for its lowest `count` bits that are set, of which there are more. */
static uint64_t skip_lowest(uint64_t word, unsigned count) {
    for (; count > 0; count--)
        word &= word - 1;
    return word;
}

/* Counts `taken` blocks that go out, the last of them `last`, where `free` were free. */
HKM_INLINE void count_taken(struct slot *slot, char *last, unsigned taken, unsigned free,
                            size_t bytes) {
    counter_add(&slot->free_count, (uint16_t)-taken);
    if (!slot->filled && bytes <= FILLED_BYTES_MAX) {
        touch_live_byte(slot, last); /* the first one's page: by the take before, or slot_carve */
        slot->filled = taken == free;
    }
    if (unlikely((size_t)(last - slot->start) >= slot->ahead))
        prefault_blocks(slot, last);
}

/* slot_take for one block: a fill takes no more of the largest classes, nor, at first, of blocks
 * above 2 KiB from a new run. */
static unsigned take_one(struct slot *slot, void **end, unsigned free, size_t bytes) {
    unsigned w = slot->first;
    unsigned words = slot_words(slot);
    while (w < words && slot->bits[w] == 0)
        w++;
    hkm_require(w < words, "S1 free count is the number of bits", slot);
    uint64_t word = slot->bits[w];
    char *block = slot->start + ((size_t)w * 64 + bits_lowest(word)) * bytes;
    slot->bits[w] = word & (word - 1);
    slot->first = (uint16_t)w;
    end[-1] = block;
    count_taken(slot, block, 1, free, bytes);
    return 1;
}

#define FRESH_BYTES KIB(2) /* smaller ones share pages with others that are out */

/* How many of `count` blocks to take. Those that were out before go first, by themselves. Then, of
 * those that never were, half as many as have been out, and one more. (malloc prefetches the block
 * that the next call will get. If the program needs one at a time, and never touches that next one,
 * each such prefetch walks the page tables for a page that is not there.) */
static unsigned few_fresh(struct slot *slot, unsigned count, unsigned free) {
    unsigned others = free - slot->fresh;
    if (others > 0)
        return count < others ? count : others;
    unsigned most = (slot->capacity - slot->fresh) / 2 + 1;
    unsigned taken = count < most ? count : most;
    slot->fresh -= taken;
    return taken;
}

unsigned slot_take(struct slot *slot, void **end, unsigned count) {
    size_t bytes = sizeclass_bytes(slot->class);
    unsigned free = slot_free(slot);
    unsigned taken = count < free ? count : free;
    if (slot->fresh > 0 && bytes > FRESH_BYTES)
        taken = few_fresh(slot, taken, free);
    void **stop = end - taken;
    unsigned w = slot->first;
    if (taken == 1)
        return take_one(slot, end, free, bytes);
    for (void **at = end; at > stop; w++) {
        hkm_require(w < slot_words(slot), "S1 free count is the number of bits", slot);
        uint64_t word = slot->bits[w];
        uint64_t rest = 0;
        if ((size_t)(at - stop) < 64 && bits_count(word) > (size_t)(at - stop))
            rest = skip_lowest(word, (unsigned)(at - stop));
        at = hand_out(at, slot->start + (size_t)w * 64 * bytes, bytes, word & ~rest);
        slot->bits[w] = rest;
        if (rest != 0)
            break;
    }
    slot->first = (uint16_t)w;
    if (taken > 0)
        count_taken(slot, *stop, taken, free, bytes);
    return taken;
}
