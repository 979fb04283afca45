/* depot.c -- a table of hashes over a region that only grows; see depot.h. */
#include "check/depot.h"

#include <string.h>

#include "core/backtrace.h"
#include "core/maps.h"
#include "core/options.h"
#include "os/os.h"

#define TABLE_ENTRIES 65536u
#define WORDS (MIB(8) / sizeof(uintptr_t))
#define PROBES 64u
#define FRAME_BYTES_MAX MIB(1)
#define BOUNDS_TRIES 4u /* for a thread that changes stacks */

/* A stack is its depth, then its addresses; its number is where it starts in `words`. */
static uintptr_t *words;
typedef ATOMIC(uint32_t) table_entry;
static table_entry *table;
static ATOMIC(uint32_t) used = 1;

static __thread uintptr_t stack_low, stack_high;
static __thread uint8_t bounds_tries;

void depot_start(void) {
    size_t bytes = WORDS * sizeof *words + TABLE_ENTRIES * sizeof *table;
    char *start = os_reserve(bytes);
    if (start == NULL)
        return;
    if (os_commit(start, bytes) != 0) {
        os_unreserve(start, bytes);
        return;
    }
    table = (table_entry *)(void *)(start + WORDS * sizeof *words);
    words = (uintptr_t *)(void *)start;
}

static bool find_stack(const struct maps_region *region, void *arg) {
    uintptr_t here = *(uintptr_t *)arg;
    if (here >= region->end)
        return true;
    if (here >= region->start) {
        stack_low = region->start;
        stack_high = region->end;
    }
    return false;
}

static bool knows_bounds(uintptr_t here) {
    if (likely(here >= stack_low && here < stack_high))
        return true;
    if (bounds_tries >= BOUNDS_TRIES)
        return false;
    bounds_tries++;
    char buffer[1024];
    (void)maps_each(buffer, sizeof buffer, find_stack, &here);
    return here >= stack_low && here < stack_high;
}

/* What a frame begins with is written by no instruction that MemorySanitizer sees. */
#if defined(__clang__)
__attribute__((no_sanitize("memory")))
#endif
static unsigned unwind(uintptr_t frame, uintptr_t *out, unsigned most) {
    bool bounds = knows_bounds(frame);
    unsigned count = 0;
    while (count < most) {
        const volatile uintptr_t *at = (const volatile uintptr_t *)frame;
        uintptr_t pair[2] = {at[0], at[1]};
        if (pair[1] < KIB(4))
            break;
        out[count++] = pair[1];
        if (!bounds || pair[0] <= frame || pair[0] - frame > FRAME_BYTES_MAX ||
            pair[0] % sizeof pair[0] != 0 || pair[0] > stack_high - sizeof pair)
            break;
        frame = pair[0];
    }
    return count;
}

static bool is_same(uint32_t stack, const uintptr_t *frames, unsigned count) {
    return words[stack] == count && memcmp(words + stack + 1, frames, count * sizeof *frames) == 0;
}

static uint32_t keep(const uintptr_t *frames, unsigned count) {
    uint32_t at = atomic_get(&used, relaxed);
    do {
        if (at + count + 1 > WORDS)
            return 0;
    } while (!atomic_cas_weak(&used, &at, at + count + 1, relaxed, relaxed));
    words[at] = count;
    memcpy(words + at + 1, frames, count * sizeof *frames);
    return at;
}

uint32_t depot_take(const void *frame) {
    uintptr_t frames[DEPOT_DEPTH_MAX];
    if (words == NULL || options.stack_depth == 0)
        return 0;
    unsigned count = unwind((uintptr_t)frame, frames, (unsigned)options.stack_depth);
    if (count == 0)
        return 0;
    uint64_t hash = count;
    for (unsigned i = 0; i < count; i++)
        hash = (hash ^ frames[i]) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t mine = 0;
    for (unsigned probe = 0; probe < PROBES; probe++) {
        table_entry *entry = &table[((hash >> 40) + probe) % TABLE_ENTRIES];
        uint32_t stack = atomic_get(entry, acquire);
        if (stack == 0) {
            if (mine == 0)
                mine = keep(frames, count);
            if (mine == 0 || atomic_cas(entry, &stack, mine, release, acquire))
                return mine;
        }
        if (is_same(stack, frames, count))
            return stack;
    }
    return mine;
}

bool depot_knows(uint32_t stack) {
    uint32_t end = atomic_get(&used, relaxed);
    return stack == 0 || (words != NULL && stack < end && words[stack] > 0 &&
                          words[stack] <= DEPOT_DEPTH_MAX && stack + words[stack] < end);
}

void depot_print(uint32_t stack) {
    if (stack == 0 || !depot_knows(stack)) {
        static const char none[] = "    (no stack)\n";
        os_write(2, none, sizeof none - 1);
        return;
    }
    for (uintptr_t i = 1; i <= words[stack]; i++)
        backtrace_name(words[stack + i]);
}
