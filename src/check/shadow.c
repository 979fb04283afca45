/* shadow.c -- see shadow.h. */
#include "check/shadow.h"

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

static struct block *blocks;
static struct slot_shadow *slots;
static uint32_t slots_covered; /* slots that have a shadow */
static bool all_committed;     /* at once, since the system counts only what is touched */
static ATOMIC(uint64_t) chunks[ARENA_BYTES_MAX / SLOT_BYTES / META_CHUNK_SLOTS / 64];
/* Slots of the chunk were carved while there was no memory for their shadow. */
static ATOMIC(uint64_t) missed[ARENA_BYTES_MAX / SLOT_BYTES / META_CHUNK_SLOTS / 64];
static ATOMIC(uint32_t) sequence;
static ATOMIC(uint32_t) threads;
static __thread uint32_t thread_number;

#define SLOT_SHADOW_BYTES (SHADOW_SLOT_RECORDS * sizeof(struct block))

void shadow_start(void) {
    uint32_t count = arena.slot_count;
    for (; count >= META_CHUNK_SLOTS || count == arena.slot_count; count /= 2) {
        size_t bytes = count * (SLOT_SHADOW_BYTES + sizeof(struct slot_shadow));
        char *start = os_reserve(round_up(bytes, SLOT_BYTES));
        if (start != NULL) {
            blocks = (struct block *)(void *)start;
            slots = (struct slot_shadow *)(void *)(start + count * SLOT_SHADOW_BYTES);
            slots_covered = count;
            os_unlock(start, round_up(bytes, SLOT_BYTES));
            all_committed =
                !guard_on_valgrind() && os_commit(start, round_up(bytes, SLOT_BYTES)) == 0;
            break;
        }
    }
    if (slots_covered < arena.slot_count) {
        struct text line = {0};
        text_add(&line, "hakmem: no address space for a record of each block: ");
        text_bytes(&line, (uint64_t)slots_covered * SLOT_BYTES);
        text_add(&line, " of ");
        text_bytes(&line, arena.bytes);
        text_add(&line, " have one, the rest is checked as in the release library\n");
        os_write(2, line.chars, line.used);
    }
}

bool shadow_is_on(void) { return slots_covered > 0; }

static int commit(char *from, char *to) {
    size_t page = os_page_bytes();
    uintptr_t start = round_down((uintptr_t)from, page);
    uintptr_t end = round_up((uintptr_t)to, page);
    return os_commit((void *)start, end - start);
}

/* Whether a slot's shadow can be used; makes it so if need be. */
static bool cover(uint32_t slot) {
    if (slot >= slots_covered || all_committed)
        return slot < slots_covered;
    uint32_t chunk = slot / META_CHUNK_SLOTS;
    if ((atomic_get(&chunks[chunk >> 6], acquire) & bitset_bit(chunk)) != 0)
        return true;
    size_t first = (size_t)chunk * META_CHUNK_SLOTS;
    size_t end =
        first + META_CHUNK_SLOTS < slots_covered ? first + META_CHUNK_SLOTS : slots_covered;
    if (commit((char *)(blocks + first * SHADOW_SLOT_RECORDS),
               (char *)(blocks + end * SHADOW_SLOT_RECORDS)) != 0 ||
        commit((char *)(slots + first), (char *)(slots + end)) != 0)
        return false;
    bitset_give(chunks, chunk);
    return true;
}

void shadow_purge(uint32_t first, size_t count) {
    size_t end = first + count < slots_covered ? first + count : slots_covered;
    for (size_t chunk = first / META_CHUNK_SLOTS; first < end; chunk++) {
        size_t stop = (chunk + 1) * META_CHUNK_SLOTS < end ? (chunk + 1) * META_CHUNK_SLOTS : end;
        if (all_committed || (atomic_get(&chunks[chunk >> 6], acquire) & bitset_bit(chunk)) != 0)
            (void)os_purge(blocks + (size_t)first * SHADOW_SLOT_RECORDS,
                           (stop - first) * SLOT_SHADOW_BYTES);
        first = (uint32_t)stop;
    }
}

static bool is_covered(uint32_t slot) {
    if (all_committed)
        return slot < slots_covered;
    uint32_t chunk = slot / META_CHUNK_SLOTS;
    return slot < slots_covered &&
           (atomic_get(&chunks[chunk >> 6], acquire) & bitset_bit(chunk)) != 0;
}

struct slot_shadow *shadow_of_slot(uint32_t slot) {
    return is_covered(slot) ? &slots[slot] : NULL;
}

/* Generation 0: the run was carved before its slot had a shadow. */
static bool has_records(uint32_t slot) {
    return is_covered(slot) && atomic_get(&slots[slot].generation, acquire) != 0;
}

struct block *shadow_record(uint32_t slot, unsigned index) {
    return has_records(slot) ? &blocks[slot * SHADOW_SLOT_RECORDS + index] : NULL;
}

struct block *shadow_large_record(uint32_t slot) {
    return has_records(slot) ? &slots[slot].large : NULL;
}

bool shadow_find(const void *pointer, struct place *place) {
    uint32_t slot = arena_slot_of(pointer);
    unsigned class = arena_class_of_slot(slot);
    if (class == 0)
        return false;
    if (class >= CLASS_LARGE_HEAD) {
        slot = large_run_of(pointer);
        *place = (struct place){shadow_large_record(slot), arena_slot_start(slot),
                                large_bytes_of(slot),      slot,
                                CLASS_LARGE_HEAD,          0};
        return true;
    }
    const struct slot *run = slot_of_block(class, pointer);
    size_t offset = (size_t)((const char *)pointer - run->start);
    unsigned index = sizeclass_index(class, offset);
    if ((const char *)pointer < run->start || index >= run->capacity)
        return false;
    slot = slot_number(run);
    size_t bytes = sizeclass_bytes(class);
    *place = (struct place){bytes < 32 ? NULL : shadow_record(slot, index),
                            run->start + index * bytes,
                            bytes,
                            slot,
                            class,
                            index};
    return true;
}

struct place shadow_neighbour(const struct place *place, unsigned index) {
    struct place other = *place;
    other.index = index;
    other.start = slot_at(place->slot)->start + index * place->bytes;
    other.record = place->record == NULL ? NULL : place->record - place->index + index;
    return other;
}

static uint32_t generation_of(uint32_t slot) {
    return atomic_get(&slots[slot].generation, acquire) << WORD_GENERATION_SHIFT;
}

uint32_t shadow_word(const struct place *place) {
    uint32_t word = atomic_get(&place->record->word, acquire);
    uint32_t generation = generation_of(place->slot);
    return (word ^ generation) >> WORD_GENERATION_SHIFT == 0 ? word : generation | BLOCK_NEVER;
}

uint32_t shadow_make_word(const struct place *place, enum block_state state, uint32_t flags) {
    return generation_of(place->slot) | flags | state;
}

void shadow_move(uint32_t slot, unsigned from, unsigned to) {
    uint32_t chunk = slot / META_CHUNK_SLOTS;
    if (!cover(slot)) {
        if (slot < slots_covered)
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
    if (from == SLOT_UNUSED)
        atomic_add(&shadow->generation, 1, release);
}

uint32_t shadow_thread(void) {
    if (unlikely(thread_number == 0))
        thread_number = atomic_add(&threads, 1, relaxed) + 1;
    return thread_number;
}

uint32_t shadow_sequence(void) { return atomic_add(&sequence, 1, relaxed) + 1; }
