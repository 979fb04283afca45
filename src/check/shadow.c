/* shadow.c -- see shadow.h. */
#include "check/shadow.h"

#include <string.h>

#include "base/bitset.h"
#include "base/text.h"
#include "check/fault.h"
#include "check/guard.h"
#include "core/large.h"
#include "core/superslab.h"

const char *const block_state_name[BLOCK_STATES] = {
    [BLOCK_NEVER] = "never-allocated",   [BLOCK_LIVE] = "live",
    [BLOCK_QUARANTINED] = "quarantined", [BLOCK_FREE] = "free",
    [BLOCK_CHANGING] = "in-change",
};

/* What is committed at once where the system counts what could be touched (RLIMIT_DATA, strict
 * overcommit): as many slots' as come to 4 MiB. */
#define CHUNK_SLOTS 64u

static struct block *blocks;
static struct slot_shadow *slots;
uint32_t shadow_slots;
static bool all_committed; /* at once, since the system counts only what is touched */
static ATOMIC(uint64_t) chunks[ARENA_BYTES_MAX / SLOT_BYTES / CHUNK_SLOTS / 64];
/* Slots of the chunk were carved while there was no memory for their shadow. */
static ATOMIC(uint64_t) missed[ARENA_BYTES_MAX / SLOT_BYTES / CHUNK_SLOTS / 64];
static ATOMIC(uint32_t) sequence;
static ATOMIC(uint32_t) threads;
__thread uint32_t shadow_thread_number;

#define SLOT_SHADOW_BYTES (SHADOW_SLOT_RECORDS * sizeof(struct block))

void shadow_start(void) {
    uint32_t count = arena.slot_count;
    for (; count >= CHUNK_SLOTS || count == arena.slot_count; count /= 2) {
        size_t bytes = count * (SLOT_SHADOW_BYTES + sizeof(struct slot_shadow));
        char *start = os_reserve(round_up(bytes, SLOT_BYTES));
        if (start != NULL) {
            blocks = (struct block *)(void *)start;
            slots = (struct slot_shadow *)(void *)(start + count * SLOT_SHADOW_BYTES);
            shadow_slots = count;
            os_unlock(start, round_up(bytes, SLOT_BYTES));
            all_committed =
                !guard_on_valgrind() && os_commit(start, round_up(bytes, SLOT_BYTES)) == 0;
            os_undump(start, round_up(bytes, SLOT_BYTES));
            break;
        }
    }
    if (shadow_slots < arena.slot_count) {
        struct text line = {0};
        text_add(&line, "hakmem: no address space for a record of each block: ");
        text_bytes(&line, (uint64_t)shadow_slots * SLOT_BYTES);
        text_add(&line, " of ");
        text_bytes(&line, arena.bytes);
        text_add(&line, " have one, the rest is checked as in the release library\n");
        os_write(2, line.chars, line.used);
    }
}

static int commit(char *from, char *to) {
    size_t page = os_page_bytes();
    uintptr_t start = round_down((uintptr_t)from, page);
    uintptr_t end = round_up((uintptr_t)to, page);
    return os_commit((void *)start, end - start);
}

/* Whether a slot's shadow can be used; makes it so if need be. */
static bool cover(uint32_t slot) {
    if (slot >= shadow_slots || all_committed)
        return slot < shadow_slots;
    uint32_t chunk = slot / CHUNK_SLOTS;
    if ((atomic_get(&chunks[chunk >> 6], acquire) & bitset_bit(chunk)) != 0)
        return true;
    size_t first = (size_t)chunk * CHUNK_SLOTS;
    size_t end = first + CHUNK_SLOTS < shadow_slots ? first + CHUNK_SLOTS : shadow_slots;
    if (commit((char *)(blocks + first * SHADOW_SLOT_RECORDS),
               (char *)(blocks + end * SHADOW_SLOT_RECORDS)) != 0 ||
        commit((char *)(slots + first), (char *)(slots + end)) != 0)
        return false;
    bitset_give(chunks, chunk);
    return true;
}

void shadow_purge(uint32_t first, size_t count) {
    size_t end = first + count < shadow_slots ? first + count : shadow_slots;
    for (size_t chunk = first / CHUNK_SLOTS; first < end; chunk++) {
        size_t stop = (chunk + 1) * CHUNK_SLOTS < end ? (chunk + 1) * CHUNK_SLOTS : end;
        if (all_committed || (atomic_get(&chunks[chunk >> 6], acquire) & bitset_bit(chunk)) != 0)
            (void)os_purge(blocks + (size_t)first * SHADOW_SLOT_RECORDS,
                           (stop - first) * SLOT_SHADOW_BYTES);
        first = (uint32_t)stop;
    }
}

HKM_INLINE bool is_covered(uint32_t slot) {
    if (all_committed)
        return slot < shadow_slots;
    uint32_t chunk = slot / CHUNK_SLOTS;
    return slot < shadow_slots &&
           (atomic_get(&chunks[chunk >> 6], acquire) & bitset_bit(chunk)) != 0;
}

struct slot_shadow *shadow_of_slot(uint32_t slot) {
    return is_covered(slot) ? &slots[slot] : NULL;
}

/* The records of a slot and the generation of its run; NULL with generation 0, which also means
 * that the run was carved before its slot had a shadow. */
HKM_INLINE struct block *records_of(uint32_t slot, uint32_t *generation) {
    uint32_t now = is_covered(slot) ? atomic_get(&slots[slot].generation, acquire) : 0;
    *generation = now << WORD_GENERATION_SHIFT;
    return now != 0 ? &blocks[slot * SHADOW_SLOT_RECORDS] : NULL;
}

static void place_large(uint32_t slot, struct place *place) {
    struct block *records = records_of(slot, &place->generation);
    place->record = records == NULL ? NULL : &slots[slot].large;
    place->start = arena_slot_start(slot);
    place->bytes = large_bytes_of(slot);
    place->slot = slot;
    place->class = CLASS_LARGE_HEAD;
    place->index = 0;
}

HKM_INLINE void place_small(const struct slot *run, unsigned class, unsigned index,
                            struct place *place) {
    uint32_t slot = slot_number(run);
    size_t bytes = sizeclass_bytes(class);
    struct block *records = records_of(slot, &place->generation);
    place->record = records == NULL || bytes < 32 ? NULL : records + index;
    place->start = run->start + index * bytes;
    place->bytes = bytes;
    place->slot = slot;
    place->class = class;
    place->index = index;
}

struct place shadow_first(uint32_t slot, unsigned class) {
    struct place place;
    if (class >= CLASS_LARGE_HEAD)
        place_large(slot, &place);
    else
        place_small(slot_at(slot), class, 0, &place);
    return place;
}

bool shadow_find(const void *pointer, struct place *place) {
    uint32_t slot = arena_slot_of(pointer);
    unsigned class = arena_class_of_slot(slot);
    if (unlikely(class - 1 >= CLASS_COUNT - 1)) {
        if (class == 0)
            return false;
        place_large(large_run_of(pointer), place);
        return true;
    }
    const struct slot *run = slot_of_block(class, pointer);
    unsigned index = sizeclass_index(class, (size_t)((const char *)pointer - run->start));
    if (unlikely((const char *)pointer < run->start || index >= run->capacity))
        return false;
    place_small(run, class, index, place);
    return true;
}

#define WALK_TRIES 160u

/* A walk looks at the record. */
HKM_COLD bool shadow_replace_later(const struct place *place, uint32_t from, uint32_t to) {
    for (unsigned attempt = 0;; attempt++) {
        uint32_t word = from;
        if (atomic_cas(&place->record->word, &word, to, acq_rel, relaxed))
            return true;
        if (word != (from | WORD_LOOKED_AT))
            return false;
        if (attempt >= WALK_TRIES)
            return atomic_cas(&place->record->word, &word, to, acq_rel, relaxed);
        os_backoff(attempt);
    }
}

void shadow_take(const struct place *place, uint32_t to) {
    while (!shadow_replace(place, atomic_get(&place->record->word, relaxed), to)) {
    }
}

uint32_t shadow_hold(const struct place *place, bool *held) {
    uint32_t word = shadow_word(place);
    unsigned state = word & WORD_STATE;
    *held = (state == BLOCK_LIVE || state == BLOCK_QUARANTINED || state == BLOCK_FREE) &&
            (word & WORD_LOOKED_AT) == 0 &&
            atomic_cas(&place->record->word, &word, word | WORD_LOOKED_AT, acquire, relaxed);
    return word;
}

void shadow_let_go(const struct place *place) {
    uint32_t word = atomic_get(&place->record->word, relaxed);
    while ((word & WORD_LOOKED_AT) != 0 &&
           !atomic_cas_weak(&place->record->word, &word, word & ~WORD_LOOKED_AT, release,
                            relaxed)) {
    }
}

void shadow_move(uint32_t slot, unsigned from, unsigned to) {
    uint32_t chunk = slot / CHUNK_SLOTS;
    if (!cover(slot)) {
        if (slot < shadow_slots)
            bitset_give(missed, chunk);
        return;
    }
    struct slot_shadow *shadow = &slots[slot];
    uint32_t moves = atomic_get(&shadow->moves, relaxed);
    if (moves == 0 && from != SLOT_UNUSED && bitset_test(missed, chunk))
        return; /* a run that was carved without a shadow has none until the next one is */
    unsigned before = moves == 0 ? SLOT_UNUSED : shadow->last[(moves - 1) % SHADOW_MOVES].to;
    must_hold(S16, before == from, before < SLOT_STATES ? slot_state_name[before] : "?",
              slot_state_name[from], arena_slot_start(slot));
    shadow->last[moves % SHADOW_MOVES] = (struct slot_move){
        shadow_thread(), shadow_sequence(), os_clock_ms(), (uint8_t)from, (uint8_t)to};
    atomic_put(&shadow->moves, moves + 1, release);
    if (from == SLOT_UNUSED) {
        uint32_t next = atomic_get(&shadow->generation, relaxed) + 1;
        if (next << WORD_GENERATION_SHIFT == 0) { /* a word has 20 bits of it: none is to be old */
            memset(blocks + (size_t)slot * SHADOW_SLOT_RECORDS, 0, SLOT_SHADOW_BYTES);
            memset(&shadow->large, 0, sizeof shadow->large);
        }
        atomic_put(&shadow->generation, next, release);
    }
}

uint32_t shadow_number_thread(void) {
    return shadow_thread_number = atomic_add(&threads, 1, relaxed) + 1;
}

uint32_t shadow_sequence(void) { return atomic_add(&sequence, 1, relaxed) + 1; }
