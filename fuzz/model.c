/* model.c -- the shadow of the heap; see model.h. */
#include "model.h"

#include <string.h>

#define UNCHECKED /* no instrumentation: these run over every byte of every block */
#if defined(__clang__)
#undef UNCHECKED
#define UNCHECKED __attribute__((no_sanitize("address", "undefined", "coverage")))
#endif

#define NONE UINT16_MAX
_Static_assert(FUZZ_SLOTS < NONE, "slots are 16-bit links");

struct node {
    uint16_t left, right;
    uint32_t priority;
};

struct block model_blocks[FUZZ_SLOTS];
uint64_t model_touched;
static struct node nodes[FUZZ_SLOTS];
static uint64_t live[FUZZ_SLOTS / 64];
static uint16_t root = NONE;
static unsigned count;
static uint64_t usable_bytes;
static uint64_t next_id;
static uint64_t chance;

void model_clear(void) {
    memset(live, 0, sizeof live);
    root = NONE;
    count = 0;
    usable_bytes = 0;
    next_id = 1;
    chance = 88172645463325252u;
}

unsigned model_count(void) { return count; }
uint64_t model_usable_bytes(void) { return usable_bytes; }
bool model_is_live(uint32_t slot) { return (live[slot / 64] >> slot % 64 & 1) != 0; }

/* The next slot whose bit, with `flip` inverted, is set. */
static uint32_t next_bit(uint32_t slot, uint64_t flip) {
    uint64_t word = (live[slot / 64] ^ flip) & (UINT64_MAX << slot % 64);
    uint32_t at = slot / 64;
    for (uint32_t i = 0; i <= FUZZ_SLOTS / 64; i++) {
        if (word != 0)
            return at * 64 + (uint32_t)__builtin_ctzll(word);
        at = (at + 1) % (FUZZ_SLOTS / 64);
        word = live[at] ^ flip;
    }
    return NO_BLOCK;
}

uint32_t model_next_live(uint32_t slot) { return next_bit(slot, 0); }
uint32_t model_next_empty(uint32_t slot) { return next_bit(slot, UINT64_MAX); }

uint32_t model_previous_live(uint32_t slot) {
    uint64_t word = live[slot / 64] & (UINT64_MAX >> (63 - slot % 64));
    uint32_t at = slot / 64;
    for (uint32_t i = 0; i <= FUZZ_SLOTS / 64; i++) {
        if (word != 0)
            return at * 64 + 63 - (uint32_t)__builtin_clzll(word);
        at = (at + FUZZ_SLOTS / 64 - 1) % (FUZZ_SLOTS / 64);
        word = live[at];
    }
    return NO_BLOCK;
}

/* ---- the treap ---- */

static uintptr_t start_of(uint16_t node) { return (uintptr_t)model_blocks[node].start; }

/* Splits into those below the address and the others. */
static void split(uint16_t from, uintptr_t address, uint16_t *low, uint16_t *high) {
    while (from != NONE) {
        if (start_of(from) < address) {
            *low = from;
            low = &nodes[from].right;
            from = *low;
        } else {
            *high = from;
            high = &nodes[from].left;
            from = *high;
        }
    }
    *low = *high = NONE;
}

static uint16_t merge(uint16_t low, uint16_t high) {
    uint16_t top = NONE;
    uint16_t *link = &top;
    while (low != NONE && high != NONE) {
        if (nodes[low].priority > nodes[high].priority) {
            *link = low;
            link = &nodes[low].right;
            low = *link;
        } else {
            *link = high;
            link = &nodes[high].left;
            high = *link;
        }
    }
    *link = low != NONE ? low : high;
    return top;
}

uint32_t model_at_or_below(const void *address) {
    uint32_t best = NO_BLOCK;
    for (uint16_t at = root; at != NONE;) {
        if (start_of(at) <= (uintptr_t)address) {
            best = at;
            at = nodes[at].right;
        } else {
            at = nodes[at].left;
        }
    }
    return best;
}

uint32_t model_above(const void *address) {
    uint32_t best = NO_BLOCK;
    for (uint16_t at = root; at != NONE;) {
        if (start_of(at) > (uintptr_t)address) {
            best = at;
            at = nodes[at].left;
        } else {
            at = nodes[at].right;
        }
    }
    return best;
}

uint32_t model_add(uint32_t slot, const struct block *block) {
    uint32_t below = model_at_or_below(block->start);
    if (below != NO_BLOCK &&
        (size_t)(block->start - model_blocks[below].start) < model_blocks[below].usable)
        return below;
    uint32_t above = model_above(block->start);
    if (above != NO_BLOCK && (size_t)(model_blocks[above].start - block->start) < block->usable)
        return above;
    model_blocks[slot] = *block;
    nodes[slot] = (struct node){NONE, NONE, (uint32_t)(grammar_random(&chance) >> 32)};
    uint16_t low, high;
    split(root, (uintptr_t)block->start, &low, &high);
    root = merge(merge(low, (uint16_t)slot), high);
    live[slot / 64] |= UINT64_C(1) << slot % 64;
    count++;
    usable_bytes += block->usable;
    return NO_BLOCK;
}

void model_remove(uint32_t slot) {
    uint16_t low, here, high;
    split(root, start_of((uint16_t)slot), &low, &here);
    split(here, start_of((uint16_t)slot) + 1, &here, &high);
    root = merge(low, high);
    live[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    count--;
    usable_bytes -= model_blocks[slot].usable;
}

/* ---- contents ---- */

static inline uint64_t word_at(uint64_t id, size_t index) {
    return (id * UINT64_C(0xd6e8feb86659fd93)) ^ ((index + id) * UINT64_C(0x9e3779b97f4a7c15));
}

/* What a range costs: a window costs the page that it lies in. */
static uint64_t cost(size_t from, size_t to) {
    return from >= 4096 && to - from < 4096 ? 4096 : to - from;
}

/* Fills [from, to) as the contents of `id`; from is a multiple of 8. */
UNCHECKED static void fill_range(unsigned char *start, uint64_t id, size_t from, size_t to) {
    size_t at = from;
    for (; at + 8 <= to; at += 8) {
        uint64_t word = word_at(id, at / 8);
        memcpy(start + at, &word, 8);
    }
    uint64_t word = word_at(id, at / 8);
    for (unsigned i = 0; at < to; at++, i += 8)
        start[at] = (unsigned char)(word >> i);
    model_touched += cost(from, to);
}

/* Compares [from, to) with the contents of `id`, or with zeros (id 0); the place or SIZE_MAX. */
UNCHECKED static size_t compare_range(const unsigned char *start, uint64_t id, size_t from,
                                      size_t to) {
    size_t at = from;
    model_touched += cost(from, to);
    for (; at + 8 <= to; at += 8) {
        uint64_t word;
        memcpy(&word, start + at, 8);
        if (word != (id == 0 ? 0 : word_at(id, at / 8)))
            break;
    }
    for (; at < to; at++) {
        uint64_t word = id == 0 ? 0 : word_at(id, at / 8);
        if (start[at] != (unsigned char)(word >> at % 8 * 8))
            return at;
    }
    return SIZE_MAX;
}

/* The windows of a large block: their places hang on the offset alone, so that they stay when it
 * is resized. */
static size_t next_window(size_t at) {
    size_t step = at < ((size_t)1 << 20)    ? (size_t)4 << 10
                  : at < ((size_t)4 << 20)  ? (size_t)64 << 10
                  : at < ((size_t)64 << 20) ? (size_t)1 << 20
                                            : (size_t)16 << 20;
    return (at / step + 1) * step;
}
#define WINDOW_BYTES 64u
#define FIRST_WINDOW_BYTES 4096u

/* Start of a large block's last window. */
static size_t tail_of(size_t bytes) { return (bytes - WINDOW_BYTES) & ~(size_t)7; }

void model_fill(struct block *block) {
    block->id = next_id++;
    if (block->filled <= MODEL_WHOLE_BYTES) {
        fill_range(block->start, block->id, 0, block->filled);
        return;
    }
    fill_range(block->start, block->id, 0, FIRST_WINDOW_BYTES);
    for (size_t at = next_window(0); at + WINDOW_BYTES <= block->filled; at = next_window(at))
        fill_range(block->start, block->id, at, at + WINDOW_BYTES);
    fill_range(block->start, block->id, tail_of(block->filled), block->filled);
}

size_t model_differs(const unsigned char *start, const struct block *as, size_t bytes) {
    if (as->filled <= MODEL_WHOLE_BYTES)
        return compare_range(start, as->id, 0, bytes);
    size_t first = bytes < FIRST_WINDOW_BYTES ? bytes : FIRST_WINDOW_BYTES;
    size_t found = compare_range(start, as->id, 0, first);
    for (size_t at = next_window(0); found == SIZE_MAX && at + WINDOW_BYTES <= bytes;
         at = next_window(at))
        found = compare_range(start, as->id, at, at + WINDOW_BYTES);
    if (found == SIZE_MAX && bytes == as->filled)
        found = compare_range(start, as->id, tail_of(bytes), bytes);
    return found;
}

size_t model_not_zero(const unsigned char *start, size_t bytes) {
    if (bytes <= MODEL_WHOLE_BYTES)
        return compare_range(start, 0, 0, bytes);
    size_t found = compare_range(start, 0, 0, FIRST_WINDOW_BYTES);
    /* every page up to 1 MiB, then the windows */
    for (size_t at = 4096; found == SIZE_MAX && at + WINDOW_BYTES <= bytes;
         at = at < ((size_t)1 << 20) ? at + 4096 : next_window(at))
        found = compare_range(start, 0, at, at + WINDOW_BYTES);
    return found != SIZE_MAX ? found : compare_range(start, 0, tail_of(bytes), bytes);
}
