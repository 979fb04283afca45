/* slot.c -- the life of a run of slots; states and invariants in slot.h.
 * Ordering    the release in slot_change pairs with the acquire in slot_state: whoever sees a
 *             state sees what was written about the run before it.
 */
#include "core/slot.h"

#include <string.h>

#include "base/require.h"

const bool slot_legal[SLOT_STATES][SLOT_STATES] = {
    [SLOT_UNUSED] = {[SLOT_ACTIVE] = true, [SLOT_LARGE] = true},
    [SLOT_ACTIVE] = {[SLOT_EMPTY] = true},
    [SLOT_EMPTY] = {[SLOT_ACTIVE] = true, [SLOT_UNUSED] = true},
    [SLOT_LARGE] = {[SLOT_CACHED] = true},
    [SLOT_CACHED] = {[SLOT_LARGE] = true, [SLOT_UNUSED] = true},
};

const char *const slot_state_name[SLOT_STATES] = {
    [SLOT_UNUSED] = "UNUSED", [SLOT_ACTIVE] = "ACTIVE", [SLOT_EMPTY] = "EMPTY",
    [SLOT_LARGE] = "LARGE",   [SLOT_CACHED] = "CACHED",
};

bool slot_change(uint32_t number, enum slot_state from, enum slot_state to) {
    uint8_t expected = (uint8_t)from;
    return slot_legal[from][to] &&
           atomic_cas(&slot_head(number)->state, &expected, (uint8_t)to, acq_rel, relaxed);
}

static void set_class(uint32_t number, uint32_t slots, unsigned class) {
    for (uint32_t i = 0; i < slots; i++)
        atomic_put(arena_class_entry(number + i), (uint16_t)(class << MAGAZINE_SHIFT), relaxed);
}

void slot_carve(struct slot *slot, unsigned class, struct heap *owner) {
    const struct sizeclass *sc = &sizeclass_table[class];
    uint32_t number = slot_number(slot);
    size_t colour = sizeclass_colour(class, number / sc->run_slots);
    slot->class = (uint8_t) class;
    slot_head(number)->run_slots = sc->run_slots;
    slot->start = arena_slot_start(number) + colour;
    slot->capacity = (uint16_t)((sc->run_slots * SLOT_BYTES - colour) / sc->bytes);
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
    atomic_put(&slot->owner, owner, relaxed);
    set_class(number, sc->run_slots, class);
    hkm_require(slot_change(number, SLOT_UNUSED, SLOT_ACTIVE), "U3 a claimed slot is UNUSED", slot);
}

void slot_retire(struct slot *slot) {
    uint32_t number = slot_number(slot);
    set_class(number, sizeclass_table[slot->class].run_slots, 0);
    atomic_put(&slot->owner, NULL, relaxed);
    hkm_require(slot_change(number, SLOT_EMPTY, SLOT_UNUSED), "P1 a run in the pool is EMPTY",
                slot);
}

unsigned slot_take(struct slot *slot, void **out, unsigned count) {
    size_t bytes = sizeclass_bytes(slot->class);
    unsigned words = slot_words(slot);
    unsigned taken = 0;
    unsigned w = slot->first;
    for (; w < words && taken < count; w++) {
        uint64_t word = slot->bits[w];
        char *block = slot->start + (size_t)w * 64 * bytes;
        if (word == ~UINT64_C(0) && count - taken >= 64) { /* a run of free blocks: no bit tests */
            for (unsigned i = 0; i < 64; i++, block += bytes)
                out[taken + i] = block;
            taken += 64;
            word = 0;
        }
        while (word != 0 && taken < count) {
            out[taken++] = block + bits_lowest(word) * bytes;
            word &= word - 1;
        }
        slot->bits[w] = word;
        if (word != 0)
            break;
    }
    slot->first = (uint16_t)w;
    hkm_assert(taken <= slot_free(slot), "S1 free count covers the bits taken", slot);
    counter_add(&slot->free_count, (uint16_t)-taken);
    return taken;
}

/* Adds blocks that share a word. */
static void put_word(struct slot *slot, unsigned w, uint64_t mask, unsigned count) {
    hkm_require((slot->bits[w] & mask) == 0 && bits_count(mask) == count,
                "S5 a cached block is not in the bitmap, nor twice in a batch", slot);
    slot->bits[w] |= mask;
    if (w < slot->first)
        slot->first = (uint16_t)w;
}

unsigned slot_put(struct slot *slot, void *const *blocks, unsigned count) {
    const char *start = slot->start;
    uint64_t inverse = sizeclass_table[slot->class].inverse;
    size_t length = (size_t)slot->capacity * sizeclass_bytes(slot->class);
    unsigned put = 0;
    while (put < count) { /* a word at a time: neighbours were often freed together */
        unsigned w = UINT32_MAX;
        uint64_t mask = 0;
        unsigned in_word = 0;
        for (; put + in_word < count; in_word++) {
            size_t offset = (size_t)((const char *)blocks[put + in_word] - start);
            unsigned index = (unsigned)((offset * inverse) >> 42);
            if (offset >= length || (in_word > 0 && index >> 6 != w))
                break;
            w = index >> 6;
            mask |= UINT64_C(1) << (index & 63);
        }
        if (in_word == 0)
            break;
        put_word(slot, w, mask, in_word);
        put += in_word;
    }
    counter_add(&slot->free_count, (uint16_t)put);
    return put;
}
