/* watch.c -- what core tells the checked build (core/watch.h), and the details of its reports. */
#include "core/watch.h"

#include <string.h>

#include "check/check.h"
#include "check/depot.h"
#include "check/fault.h"
#include "check/guard.h"
#include "check/quarantine.h"
#include "check/shadow.h"
#include "core/large.h"
#include "core/report.h"
#include "core/superslab.h"

void watch_start(void) {
    guard_start();
    shadow_start();
    if (arena.bytes < GIB(1)) /* a process with little address space: the records need it more */
        return;
    depot_start();
    quarantine_start();
}

void watch_slot(uint32_t number, unsigned from, unsigned to) {
    if (!shadow_is_on())
        return;
    shadow_move(number, from, to);
    if (from == SLOT_UNUSED || to == SLOT_LARGE) /* core may write zeros, or copy into it */
        guard_open(arena_slot_start(number), slot_head(number)->run_slots * SLOT_BYTES);
}

void watch_purge(uint32_t first_slot, size_t count) {
    if (shadow_is_on())
        shadow_purge(first_slot, count);
}

void watch_clear(const void *block) {
    if (shadow_is_on())
        check_cleared(block);
}

void watch_stats(struct hkm_stats *stats) { quarantine_stats(stats); }

/* ---- details of a report ---- */

static HKM_SPARSE struct text line; /* of the thread that report_begin lets in */

static void say(void) {
    text_add(&line, "\n");
    os_write(2, line.chars, line.used);
    line.used = 0;
}

static void print_stack(const char *what, uint32_t thread, uint32_t stack) {
    text_add(&line, what);
    text_add(&line, " by thread ");
    text_dec(&line, thread);
    text_add(&line, " at");
    say();
    depot_print(stack);
}

static void print_block(const char *what, const struct place *place) {
    const struct block *record = place->record;
    unsigned state = shadow_state(place);
    text_add(&line, what);
    text_pointer(&line, place->start);
    text_add(&line, ": ");
    text_add(&line, state < BLOCK_STATES ? block_state_name[state] : "in no known state");
    if (state != BLOCK_NEVER) {
        text_add(&line, ", ");
        text_dec(&line, atomic_get(&record->requested, relaxed));
        text_add(&line, " bytes asked for, allocated as number ");
        text_dec(&line, record->sequence);
    }
    say();
    if (state == BLOCK_NEVER)
        return;
    print_stack("  allocated", record->alloc_thread, record->alloc_stack);
    if (state != BLOCK_LIVE)
        print_stack("  freed", record->free_thread, record->free_stack);
}

static void print_moves(uint32_t slot) {
    const struct slot_shadow *shadow = shadow_of_slot(slot);
    uint32_t moves = shadow == NULL ? 0 : atomic_get(&shadow->moves, acquire);
    if (moves == 0)
        return;
    text_add(&line, "  transitions of SuperSlab ");
    text_dec(&line, slot / SUPERSLAB_SLOTS);
    text_add(&line, ", slot ");
    text_dec(&line, slot % SUPERSLAB_SLOTS);
    text_add(&line, " (the last of ");
    text_dec(&line, moves);
    text_add(&line, ", the newest first):");
    say();
    for (uint32_t i = 1; i <= SHADOW_MOVES && i <= moves; i++) {
        const struct slot_move *move = &shadow->last[(moves - i) % SHADOW_MOVES];
        text_add(&line, "    ");
        text_add(&line, slot_state_name[move->from % SLOT_STATES]);
        text_add(&line, " -> ");
        text_add(&line, slot_state_name[move->to % SLOT_STATES]);
        text_add(&line, " by thread ");
        text_dec(&line, move->thread);
        text_add(&line, " as number ");
        text_dec(&line, move->sequence);
        text_add(&line, " at ");
        text_dec(&line, move->ms);
        text_add(&line, " ms");
        say();
    }
}

/* ---- runs that are gone ---- */

#define LOOK_BACK 16384u /* slots in which a block is looked for that an address may belong to */

/* The last block that an address was in, as slots' records say, and its run's last transition. */
struct gone {
    struct place place;
    uint32_t sequence;
    bool found;
};

static void consider(struct gone *gone, const struct place *place) {
    const struct slot_shadow *shadow = shadow_of_slot(place->slot);
    uint32_t moves = atomic_get(&shadow->moves, relaxed);
    uint32_t sequence = shadow->last[(moves - 1) % SHADOW_MOVES].sequence;
    if (gone->found && (int32_t)(sequence - gone->sequence) < 0)
        return;
    *gone = (struct gone){*place, sequence, true};
}

static bool has_moved(uint32_t slot) {
    const struct slot_shadow *shadow = shadow_of_slot(slot);
    return shadow != NULL && atomic_get(&shadow->moves, relaxed) != 0 &&
           superslab_is_committed(slot / SUPERSLAB_SLOTS);
}

static void look_for_small(struct gone *gone, const char *pointer, uint32_t slot) {
    for (uint32_t run = 1; run <= SUPERSLAB_SLOTS; run *= 2) {
        uint32_t first = slot & ~(run - 1);
        const struct slot *record = slot_at(first);
        unsigned class = record->class;
        if (class <= 1 || class >= CLASS_COUNT || sizeclass_table[class].run_slots != run ||
            !has_moved(first) || pointer < record->start)
            continue;
        unsigned index = sizeclass_index(class, (size_t)(pointer - record->start));
        struct place first_block = shadow_first(first, class);
        struct place place = shadow_neighbour(&first_block, index);
        if (index < record->capacity && place.record != NULL)
            consider(gone, &place);
    }
}

static void look_for_large(struct gone *gone, const char *pointer, uint32_t slot) {
    for (uint32_t back = 0; back <= slot && back < LOOK_BACK; back++) {
        if (!has_moved(slot - back))
            continue;
        struct place place = shadow_first(slot - back, CLASS_LARGE_HEAD);
        if (place.record != NULL && shadow_state(&place) != BLOCK_NEVER &&
            (size_t)(pointer - place.start) < atomic_get(&place.record->requested, relaxed))
            consider(gone, &place);
    }
}

/* False also when the last block there has no record any more: pages of records are purged. */
static bool find_gone(const void *pointer, struct place *place) {
    struct gone gone = {.found = false};
    uint32_t slot = arena_slot_of(pointer);
    look_for_small(&gone, pointer, slot);
    look_for_large(&gone, pointer, slot);
    *place = gone.place;
    return gone.found && shadow_state(place) != BLOCK_NEVER;
}

/* The last block below a free slot, past whose end somebody may have written. */
static bool find_below(uint32_t slot, struct place *place) {
    uint32_t end = slot > LOOK_BACK ? slot - LOOK_BACK : 0;
    unsigned class = 0;
    while (slot > end && class == 0)
        class = arena_class_of_slot(--slot);
    if (class == 0)
        return false;
    const char *there = arena_slot_start(slot);
    if (class < CLASS_COUNT) {
        const struct slot *run = slot_of_block(class, there);
        struct place first = shadow_first(slot_number(run), class);
        *place = shadow_neighbour(&first, run->capacity - 1u);
    } else {
        *place = shadow_first(large_run_of(there), CLASS_LARGE_HEAD);
    }
    return place->record != NULL;
}

void watch_report(const char *invariant, const void *about) {
    bool unused = invariant != NULL && strncmp(invariant, "U2 ", 3) == 0;
    if (!shadow_is_on())
        return;
    uint32_t slot = report_slot(about);
    if (slot == UINT32_MAX || !superslab_is_committed(slot / SUPERSLAB_SLOTS))
        return;
    if (arena_contains(about)) {
        struct place place;
        if (shadow_find(about, &place)) {
            slot = place.slot;
            if (place.record != NULL)
                print_block("  block ", &place);
            if (place.record != NULL && place.class < CLASS_COUNT && place.index > 0) {
                struct place before = shadow_neighbour(&place, place.index - 1);
                print_block("  the block before it ", &before);
            }
        } else if (arena_class_of_slot(slot) == 0 && find_gone(about, &place)) {
            slot = place.slot;
            print_block("  a block of a run that is gone, ", &place);
        }
    }
    struct place below;
    if (unused && find_below(report_slot(about), &below))
        print_block("  the block before it ", &below);
    print_moves(slot);
}
