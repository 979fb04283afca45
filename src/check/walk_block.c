/* walk_block.c -- records of blocks, their redzones and poison; see walk.h.
 * Ordering    other threads may allocate, free and resize the blocks meanwhile: a walk beside them
 *             holds the record (shadow_hold) while it looks. They wait for that, but not for ever:
 *             what looks wrong counts only when the record is then still as it was, since they
 *             change it before they touch what is looked at (check.c).
 */
#include "check/depot.h"
#include "check/guard.h"
#include "check/shadow.h"
#include "check/walk.h"

struct sight {
    uint32_t word, sequence;
    size_t requested;
};

static struct sight look(const struct place *place) {
    struct sight sight = {shadow_word(place), place->record->sequence,
                          atomic_get(&place->record->requested, acquire)};
    return sight;
}

static bool is_still(const struct place *place, const struct sight *before) {
    struct sight now = look(place);
    return now.word == before->word && now.sequence == before->sequence &&
           now.requested == before->requested;
}

static _Noreturn HKM_COLD void wrong_byte(enum invariant invariant, const struct place *place,
                                          const char *wrong, unsigned expected) {
    guard_touch(wrong, 1);
    fault_note("first wrong byte at ", wrong, wrong - place->start);
    fault_numbers(invariant, expected, *(const unsigned char *)wrong, place->start);
}

static void walk_live(const struct place *place, const struct sight *sight) {
    size_t alignment = (size_t)1 << ((sight->word & WORD_ALIGN) >> WORD_ALIGN_SHIFT);
    bool fits = sight->requested <= place->bytes - REDZONE_BYTES;
    must_hold(B17, fits || !is_still(place, sight), "room for a redzone", "none", place->start);
    must_hold(B18, ((uintptr_t)place->start & (alignment - 1)) == 0, "aligned", "not aligned",
              place->start);
    must_hold(B19, depot_knows(place->record->alloc_stack), "a stack", "none", place->start);
    if (!fits)
        return;
    const char *wrong = guard_check(place->start, sight->requested, place->bytes);
    if (unlikely(wrong != NULL) && is_still(place, sight))
        wrong_byte(INV_B8, place, wrong, REDZONE_BYTE);
}

/* Core has it for a thread that has not made it LIVE yet, and may clear it or copy into it. */
static bool is_taken(const struct place *place) {
    return place->class >= CLASS_COUNT && slot_state(place->slot) == SLOT_LARGE;
}

static void walk_dead(const struct place *place, const struct sight *sight) {
    bool quarantined = (sight->word & WORD_STATE) == BLOCK_QUARANTINED;
    if (!quarantined && (sight->word & WORD_POISONED) == 0)
        return;
    const char *wrong = guard_check_poison(place->start, place->bytes);
    if (unlikely(wrong != NULL) && is_still(place, sight) && (quarantined || !is_taken(place)))
        wrong_byte(quarantined ? INV_B10 : INV_B11, place, wrong, POISON_BYTE);
}

/* The bytes before a block that no other block's redzone is. */
static void walk_before(const struct place *place) {
    if (place->class >= CLASS_COUNT)
        return;
    if (place->index == 0) {
        if ((size_t)(place->start - arena_slot_start(place->slot)) < REDZONE_BYTES)
            return;
    } else {
        struct place before = shadow_neighbour(place, place->index - 1);
        uint32_t word = shadow_word(&before);
        if ((word & WORD_STATE) != BLOCK_NEVER || (word & WORD_GUARDED) == 0)
            return;
    }
    const char *wrong = guard_check_end(place->start - REDZONE_BYTES, REDZONE_BYTES);
    if (unlikely(wrong != NULL))
        wrong_byte(INV_B9, place, wrong, REDZONE_BYTE);
}

static void look_at(const struct walk *w, const struct place *place, bool core_live) {
    struct sight sight = look(place);
    unsigned state = sight.word & WORD_STATE;
    must_hold(B20, state < BLOCK_STATES, "a state", "none", place->start);
    bool held = state == BLOCK_LIVE || state == BLOCK_QUARANTINED;
    if (w->quiet && state != BLOCK_CHANGING)
        must_hold(B13, held == core_live, core_live ? "live" : "dead", block_state_name[state],
                  place->start);
    if (state == BLOCK_LIVE) {
        walk_live(place, &sight);
        walk_before(place);
    } else if (state == BLOCK_QUARANTINED || state == BLOCK_FREE) {
        walk_dead(place, &sight);
    }
}

static void walk_record(const struct walk *w, const struct place *place, bool core_live) {
    bool held;
    if (w->quiet) {
        look_at(w, place, core_live);
        return;
    }
    uint32_t word = shadow_hold(place, &held);
    must_hold(B20, (word & WORD_STATE) < BLOCK_STATES, "a state", "none", place->start);
    if (held) {
        look_at(w, place, core_live);
        shadow_let_go(place);
    }
}

void walk_records(const struct walk *w, uint32_t number, unsigned class) {
    const struct slot_shadow *shadow = shadow_of_slot(number);
    if (shadow == NULL)
        return;
    uint32_t moves = atomic_get(&shadow->moves, acquire);
    if (w->quiet && moves > 0) {
        unsigned last = shadow->last[(moves - 1) % SHADOW_MOVES].to;
        must_hold(S24, last == slot_state(number),
                  last < SLOT_STATES ? slot_state_name[last] : "no-known-state",
                  slot_state_name[slot_state(number)], arena_slot_start(number));
    }
    if (class >= CLASS_COUNT) {
        struct place place = shadow_first(number, CLASS_LARGE_HEAD);
        if (place.record != NULL)
            walk_record(w, &place, slot_state(number) == SLOT_LARGE);
        return;
    }
    const struct slot *slot = slot_at(number);
    struct place first = shadow_first(number, class);
    for (unsigned i = 0; first.record != NULL && i < slot->capacity; i++) {
        struct place place = shadow_neighbour(&first, i);
        walk_record(w, &place, live_get(arena_live_byte(class, place.start)) != 0);
    }
}
