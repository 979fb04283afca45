/* walk_run.c -- a run's record, its blocks, its live map; large runs; see walk.h. */
#include "base/bitset.h"
#include "check/walk.h"
#include "core/large.h"
#include "core/options.h"

#define LEVEL_2_BLOCKS 64u

static const char *state_name(unsigned state) {
    return state < SLOT_STATES ? slot_state_name[state] : "no-known-state";
}

static bool is_heap(uint32_t id) {
    return id > 0 && id <= heap_count() && heap_by_number(id - 1) != NULL;
}

/* The slots that a run covers, beyond the first one's record. */
static void walk_extent(uint32_t number, unsigned class) {
    uint32_t count = sizeclass_table[class].run_slots;
    struct superslab *ss = superslab_at(number / SUPERSLAB_SLOTS);
    uint32_t mask = bits_below32(count) << number % SUPERSLAB_SLOTS;
    const struct slot *slot = slot_at(number);
    for (uint32_t i = 0; i < count; i++) {
        must_equal(S13, class, arena_class_of_slot(number + i), slot);
        must_equal(S23, atomic_get(&slot->owner, relaxed), arena_owner_of_slot(number + i), slot);
        uint32_t entry = atomic_get(arena_class_entry(number + i), relaxed);
        must_equal(A13, 0, entry % (1u << MAGAZINE_SHIFT), slot);
        must_hold(S15, i == 0 || slot_state(number + i) == SLOT_UNUSED, "UNUSED",
                  state_name(slot_state(number + i)), slot_head(number + i));
    }
    must_equal(S14, 0, atomic_get(&ss->unused, relaxed) & mask, slot);
    must_equal(U12, mask, atomic_get(&ss->dirty, relaxed) & mask, slot);
}

/* What is constant in a run's life. */
static void walk_layout(uint32_t number, unsigned class) {
    const struct sizeclass *sc = &sizeclass_table[class];
    const struct slot *slot = slot_at(number);
    size_t colour = sizeclass_colour(class, number / sc->run_slots);
    must_equal(S6, class, slot->class, slot);
    must_equal(S11, sc->run_slots, slot_head(number)->run_slots, slot);
    must_equal(S9, (uintptr_t)arena_slot_start(number) + colour, (uintptr_t)slot->start, slot);
    must_equal(S8, (sc->run_slots * SLOT_BYTES - colour) / sc->bytes, slot->capacity, slot);
    const uint64_t *bits = slot->capacity <= SLOT_INLINE_WORDS * 64
                               ? slot->inline_bits
                               : arena.bitmaps - (size_t)(number + 1) * (SLOT_BLOCKS_MAX / 64);
    must_equal(S10, (uintptr_t)bits, (uintptr_t)slot->bits, slot);
}

static unsigned count_bits(const struct slot *slot) {
    unsigned words = slot_words(slot);
    unsigned count = 0;
    for (unsigned w = 0; w < words; w++)
        count += bits_count(slot->bits[w]);
    if ((slot->capacity & 63) != 0)
        must_equal(S4, 0, slot->bits[words - 1] & ~bits_below(slot->capacity & 63), slot);
    for (unsigned w = 0; w < slot->first && w < words; w++)
        must_equal(S4, 0, slot->bits[w], slot);
    return count;
}

/* Each block is free, cached or live; `w` knows which are cached. */
static void walk_blocks(struct walk *w, uint32_t number, unsigned class) {
    const struct slot *slot = slot_at(number);
    if (w == NULL && slot->capacity > LEVEL_2_BLOCKS)
        return; /* too many for every call */
    size_t bytes = sizeclass_bytes(class);
    char *block = slot->start;
    size_t live = 0;
    size_t cached = 0;
    for (unsigned i = 0; i < slot->capacity; i++, block += bytes) {
        uint8_t mark = live_get(arena_live_byte(class, block));
        bool is_free = (slot->bits[i >> 6] & bitset_bit(i)) != 0;
        must_hold(A5, mark == 0 || mark == arena_live_mark(block), "0 or the mark", "another",
                  block);
        must_hold(S5, !is_free || mark == 0, "dead", "live", block);
        live += mark != 0;
        if (w == NULL || w->cached == NULL)
            continue;
        size_t at = (size_t)number * SLOT_BLOCKS_MAX + i;
        if ((w->cached[at >> 6] & bitset_bit(at)) != 0) {
            must_hold(S5, !is_free, "cached", "free and cached", block);
            cached++;
        }
    }
    if (w == NULL)
        return;
    w->live_blocks += live;
    w->looked_at += slot->capacity;
    if (w->cached != NULL)
        must_equal(N9, slot->capacity, slot_free(slot) + cached + live, slot);
}

/* The live bytes between those of the blocks. */
static void walk_live_map(uint32_t number, unsigned class) {
    const struct slot *slot = slot_at(number);
    unsigned granule = sizeclass_table[class].live_shift;
    size_t bytes = sizeclass_bytes(class);
    const char *at = arena_slot_start(number);
    const char *end = at + sizeclass_table[class].run_slots * SLOT_BYTES;
    const char *block = slot->start;
    const char *past = slot->start + slot->capacity * bytes;
    for (; at < end; at += (size_t)1 << granule) {
        while (block < past && (uintptr_t)block >> granule < (uintptr_t)at >> granule)
            block += bytes;
        if (block < past && (uintptr_t)block >> granule == (uintptr_t)at >> granule)
            continue;
        must_equal(A3, 0, live_get(arena_live_byte(class, at)), at);
    }
}

void walk_run(struct walk *w, uint32_t number, unsigned class) {
    struct slot *slot = slot_at(number);
    enum slot_state state = slot_state(number);
    must_hold(S7, state == SLOT_ACTIVE || state == SLOT_EMPTY, "ACTIVE or EMPTY", state_name(state),
              slot);
    walk_layout(number, class);
    walk_extent(number, class);
    must_equal(S1, count_bits(slot), slot_free(slot), slot);
    must_hold(S3, state != SLOT_EMPTY || slot_free(slot) == slot->capacity, "every block free",
              "one that is not", slot);
    uint32_t owner = atomic_get(&slot->owner, relaxed);
    if (state == SLOT_ACTIVE || owner != 0)
        must_hold(S12, is_heap(owner), "a heap", "no heap", slot);
    walk_blocks(w, number, class);
    if (w == NULL)
        return;
    walk_live_map(number, class);
    if (HKM_CHECK_LEVEL >= 1)
        walk_records(w, number, class);
    if (!w->quiet)
        return;
    w->ownerless[class] += owner == 0;
    if (w->listed != NULL) {
        bool listed = (w->listed[number >> 6] & bitset_bit(number)) != 0;
        must_equal(S2, state == SLOT_ACTIVE && slot_free(slot) > 0, listed, slot);
    }
}

/* ---- large runs ---- */

static void walk_large_slots(uint32_t number, uint32_t count, bool live) {
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = number + i;
        struct superslab *ss = superslab_at(slot / SUPERSLAB_SLOTS);
        uint32_t bit = UINT32_C(1) << slot % SUPERSLAB_SLOTS;
        unsigned class = i == 0 ? CLASS_LARGE_HEAD : CLASS_LARGE_TAIL;
        must_equal(L1, CLASS_ENTRY(0, class), atomic_get(arena_class_entry(slot), relaxed),
                   arena_slot_start(slot));
        must_hold(L6,
                  (atomic_get(&ss->unused, relaxed) & bit) == 0 &&
                      !bitset_test(superslab_avail, slot / SUPERSLAB_SLOTS),
                  "held", "free for the claiming", arena_slot_start(slot));
        must_hold(L7, !live || (atomic_get(&ss->dirty, relaxed) & bit) != 0, "dirty", "clean",
                  arena_slot_start(slot));
    }
}

uint32_t walk_large(struct walk *w, uint32_t number) {
    const struct slot_head *head = slot_head(number);
    unsigned state = slot_state(number);
    must_hold(L4, state == SLOT_LARGE || state == SLOT_CACHED, "LARGE or CACHED", state_name(state),
              head);
    must_hold(L5, head->run_slots > 0 && head->run_slots <= w->slots - number, "inside the range",
              "beyond", head);
    if (state == SLOT_LARGE) {
        must_hold(L2,
                  head->large_bytes > 0 && head->large_bytes <= head->run_slots * SLOT_BYTES &&
                      head->large_bytes % os_page_bytes() == 0,
                  "whole pages of the run", "another length", head);
        w->large_blocks++;
        w->large_bytes += head->large_bytes;
        w->live_blocks++;
    } else {
        w->cached_runs++;
    }
    w->looked_at++;
    walk_large_slots(number, head->run_slots, state == SLOT_LARGE);
    static const unsigned granules[] = {4, 5, 7};
    for (unsigned g = 0; g < 3; g++) {
        const live_byte *live =
            (const live_byte *)(arena.live[granules[g]] +
                                ((uintptr_t)arena_slot_start(number) >> granules[g]));
        for (size_t i = 0; i < SLOT_BYTES >> granules[g]; i++)
            must_equal(A14, 0, live_get(&live[i]), arena_slot_start(number));
    }
    bool unmapped = state == SLOT_CACHED && large_innards(0).given_up > 0; /* it may be */
    if (HKM_CHECK_LEVEL >= 1 && !unmapped)
        walk_records(w, number, CLASS_LARGE_HEAD);
    return head->run_slots;
}
