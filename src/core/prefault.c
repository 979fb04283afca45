/* prefault.c -- the price of a fault, and what is asked for where it is high; see prefault.h. */
#include "core/prefault.h"

#include "core/options.h"
#include "core/superslab.h"

#define SAMPLES 4u          /* faults that are timed; the shortest counts */
#define DEAR_NS 4000u       /* from here on a fault is dear */
#define PIECE_BYTES KIB(16) /* of small blocks, at once; more would save little */
#define SPARSE_LOOK 4u      /* of so many blocks one is looked at where none is filled */
#define SMALL_BYTES KIB(5)  /* blocks up to here touch at least four of five pages */

static ATOMIC(uint32_t) samples;
static ATOMIC(uint32_t) least_ns = UINT32_MAX;
static ATOMIC(bool) refused;            /* by a kernel before 5.14, or a filter of system calls */
static ATOMIC(bool) fills[CLASS_COUNT]; /* the witness that was looked at last was resident */

bool prefault_pays(void) {
    if (atomic_get(&refused, relaxed))
        return false;
    if (options.prefault != PREFAULT_AUTO)
        return options.prefault == PREFAULT_ON;
    return atomic_get(&samples, relaxed) >= SAMPLES && atomic_get(&least_ns, relaxed) >= DEAR_NS;
}

void prefault_timed(uint64_t ns) {
    uint32_t least = atomic_get(&least_ns, relaxed);
    while (ns < least && !atomic_cas_weak(&least_ns, &least, (uint32_t)ns, relaxed, relaxed))
        continue;
    atomic_add(&samples, 1, relaxed);
}

static char *page_of(const char *p) { return (char *)round_down((uintptr_t)p, os_page_bytes()); }
static char *page_end(const char *p) { return (char *)round_up((uintptr_t)p, os_page_bytes()); }

static void populate(char *from, char *to) {
    if (from < to && os_populate(from, (size_t)(to - from)) != 0)
        atomic_put(&refused, true, relaxed);
}

void prefault_maps(uint32_t first, unsigned count, unsigned class) {
    char *start = arena_slot_start(first);
    char *live = (char *)arena_live_byte(class, start);
    char *live_end = (char *)arena_live_byte(class, start + count * SLOT_BYTES);
    populate(page_of(live), page_end(live_end));
    if (sizeclass_table[class].capacity > SLOT_INLINE_WORDS * 64) {
        const size_t words = SLOT_BLOCKS_MAX / 64;
        uint64_t *bits = arena.bitmaps - (first + count) * words;
        populate(page_of((char *)bits), page_end((char *)(bits + count * words)));
    }
}

static bool is_huge(uint32_t slot) {
    return atomic_get(&superslab_at(slot / SUPERSLAB_SLOTS)->pages, relaxed) == PAGES_HUGE;
}

void prefault_time(uint32_t slot) {
    if (options.prefault != PREFAULT_AUTO || atomic_get(&samples, relaxed) >= SAMPLES ||
        is_huge(slot))
        return;
    uint64_t start = os_clock_ns();
    *(volatile char *)arena_slot_start(slot) = 0; /* it is 0 */
    prefault_timed(os_clock_ns() - start);
}

void prefault_begin(struct slot *slot, bool proven) {
    uint32_t number = slot_number(slot);
    char *run = arena_slot_start(number);
    slot->ahead = AHEAD_NEVER;
    prefault_time(number);
    if (is_huge(number) || !prefault_pays())
        return;
    size_t middle = sizeclass_table[slot->class].run_slots * SLOT_BYTES / 2;
    bool at_once = proven || sizeclass_bytes(slot->class) > SMALL_BYTES;
    slot->ahead = at_once ? 0 : (uint32_t)(middle - (size_t)(slot->start - run));
}

static void small_blocks(struct slot *slot, char *from, char *to) {
    uint32_t run_slots = sizeclass_table[slot->class].run_slots;
    char *end = arena_slot_start(slot_number(slot)) + run_slots * SLOT_BYTES;
    if (to - from < (ptrdiff_t)PIECE_BYTES)
        to = from + PIECE_BYTES;
    if (to > end)
        to = end;
    slot->ahead = (uint32_t)(to - slot->start);
    populate(from, to);
}

/* Not a block's first page, which any use touches; nor the last of many, which is the next's. */
static char *witness(char *block, size_t bytes) {
    char *page = page_of(block + bytes / 8 * 5);
    return page > block ? page : page_end(block + 1);
}

static void large_blocks(struct slot *slot, char *first, char *last, size_t bytes) {
    ATOMIC(bool) *filled = &fills[slot->class];
    unsigned index = sizeclass_index(slot->class, slot->ahead);
    if (index > 0 && (atomic_get(filled, relaxed) || index % SPARSE_LOOK == 0)) {
        char *page = witness(first - bytes, bytes);
        atomic_put(filled, os_resident(page, os_page_bytes()) > 0, relaxed);
    }
    slot->ahead = (uint32_t)(last + bytes - slot->start);
    if (!atomic_get(filled, relaxed))
        return;
    char *left = witness(last, bytes);
    populate(page_of(first), left);
    populate(left + os_page_bytes(), page_end(last + bytes));
}

void prefault_blocks(struct slot *slot, char *last) {
    size_t bytes = sizeclass_bytes(slot->class);
    char *first = slot->start + slot->ahead;
    if (!prefault_pays())
        slot->ahead = AHEAD_NEVER;
    else if (bytes > SMALL_BYTES)
        large_blocks(slot, first, last, bytes);
    else
        small_blocks(slot, page_of(first), page_end(last + bytes));
}
