/* depot.c -- a table of hashes over a region that only grows; see depot.h. */
#include "check/depot.h"

#include <string.h>
#include <sys/auxv.h>

#include "core/backtrace.h"
#include "core/maps.h"
#include "core/options.h"
#include "os/os.h"

#define TABLE_ENTRIES 262144u
#define WORDS (MIB(16) / sizeof(uintptr_t))
#define PROBES 64u
/* From so many on callers alone are kept: a program has few of these. */
#define STACKS_MOST (TABLE_ENTRIES / 4 * 3)
#define WORDS_MOST (WORDS / 8 * 7)
#define FRAME_BYTES_MAX MIB(1)
#define CALLER_MIN KIB(4) /* no code lies below */
#define BOUNDS_TRIES 4u /* for a thread that changes stacks */

/* What a frame begins with is written by no instruction that MemorySanitizer sees. */
#if defined(__clang__)
#define UNSEEN __attribute__((no_sanitize("memory")))
#else
#define UNSEEN
#endif

/* A stack is its depth, then its addresses; its number is where it starts in `words`. An entry of
 * the table is the number, and above it 32 bits of the hash. */
static uintptr_t *words;
static ATOMIC(uint64_t) *table;
static ATOMIC(uint32_t) used = 1, stacks;

static __thread uintptr_t stack_low, stack_high;
/* What stack_low has in its low bits: how often the bounds were looked for, and whether the stack
 * is the one that the thread was started on, no part of which can go while it runs there. */
#define STARTED_ON KIB(2)
HKM_INLINE uintptr_t tries_of(uintptr_t low) { return low % STARTED_ON; }
HKM_INLINE uintptr_t start_of(uintptr_t low) { return low - low % (2 * STARTED_ON); }

/* The stack that was last taken at a caller: most are the same again. */
#define RECENT 512u
static ATOMIC(uint32_t) recent[RECENT];

void depot_start(void) {
    size_t bytes = WORDS * sizeof *words + TABLE_ENTRIES * sizeof *table;
    char *start = os_reserve(bytes);
    if (start == NULL)
        return;
    if (os_commit(start, bytes) != 0) {
        os_unreserve(start, bytes);
        return;
    }
    table = (ATOMIC(uint64_t) *)(void *)(start + WORDS * sizeof *words);
    words = (uintptr_t *)(void *)start;
}

static bool find_stack(const struct maps_region *region, void *arg) {
    uintptr_t here = *(uintptr_t *)arg;
    if (here >= region->end)
        return true;
    if (here < region->start)
        return false;
    stack_low = region->start + tries_of(stack_low);
    stack_high = region->end;
    /* Above the frames of a thread's own stack is its static TLS, above main's what exec left. */
    uintptr_t above[] = {(uintptr_t)&stack_low, getauxval(AT_RANDOM)};
    for (unsigned i = 0; i < sizeof above / sizeof *above; i++)
        if (here < above[i] && above[i] < region->end) {
            stack_low |= STARTED_ON;
            stack_high = above[i] / BLOCK_ALIGN * BLOCK_ALIGN;
        }
    return false;
}

static HKM_COLD bool find_bounds(uintptr_t here) {
    if (tries_of(stack_low) >= BOUNDS_TRIES)
        return false;
    struct os_signals saved; /* a handler on another stack would leave half of its bounds */
    os_signals_block(&saved);
    uintptr_t low = stack_low, high = stack_high;
    stack_low++;
    char buffer[1024];
    (void)maps_each(buffer, sizeof buffer, find_stack, &here);
    if (stack_high == high && start_of(stack_low) < start_of(low)) /* main's stack has grown */
        stack_low--;
    os_signals_restore(&saved);
    return here >= start_of(stack_low) && here < stack_high;
}

/* Up to where a frame may lie; 0: nowhere. */
HKM_INLINE uintptr_t last_frame(uintptr_t here) {
    bool known = likely(here >= start_of(stack_low) && here < stack_high) || find_bounds(here);
    return known ? stack_high - 2 * sizeof here : 0;
}

/* Code without frame pointers leaves anything in the register, perhaps the address of a stack that
 * has been unmapped since. */
static HKM_NOINLINE bool is_there(uintptr_t frame) {
    uintptr_t pair[2];
    return os_peek((const void *)frame, pair, sizeof pair);
}

/* Whether the frame above can be followed. */
HKM_INLINE bool goes_on(uintptr_t frame, uintptr_t above, uintptr_t last) {
    return above - frame - 1 < FRAME_BYTES_MAX - 1 && above <= last && above % sizeof above == 0 &&
           (likely((stack_low & STARTED_ON) != 0 ||
                   (above + sizeof above) / KIB(4) == frame / KIB(4)) ||
            is_there(above));
}

/* Whether following the frames finds this stack. */
UNSEEN static bool is_here(uint32_t stack, uintptr_t frame, unsigned most) {
    const uintptr_t *kept = words + stack;
    uintptr_t last = last_frame(frame);
    unsigned count = (unsigned)kept[0];
    for (unsigned i = 1; i <= count; i++) {
        const volatile uintptr_t *pair = (const volatile uintptr_t *)frame;
        if (pair[1] != kept[i])
            return false;
        uintptr_t above = pair[0];
        if (!goes_on(frame, above, last))
            return i == count;
        frame = above;
    }
    return count == most || ((const volatile uintptr_t *)frame)[1] < CALLER_MIN;
}

UNSEEN static unsigned unwind(uintptr_t frame, uintptr_t *out, unsigned most) {
    uintptr_t last = last_frame(frame);
    unsigned count = 0;
    while (count < most) {
        const volatile uintptr_t *pair = (const volatile uintptr_t *)frame;
        uintptr_t above = pair[0];
        uintptr_t caller = pair[1];
        if (caller < CALLER_MIN)
            break;
        out[count++] = caller;
        if (!goes_on(frame, above, last))
            break;
        frame = above;
    }
    return count;
}

static uint64_t hash_of(const uintptr_t *frames, unsigned count) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum = (sum ^ frames[i]) * UINT64_C(0x9e3779b97f4a7c15);
    return sum + count;
}

HKM_INLINE bool is_same(uint32_t stack, const uintptr_t *frames, unsigned count) {
    const uintptr_t *kept = words + stack;
    if (kept[0] != count)
        return false;
    for (unsigned i = 0; i < count; i++)
        if (kept[i + 1] != frames[i])
            return false;
    return true;
}

static uint32_t keep(const uintptr_t *frames, unsigned count) {
    uint32_t at = atomic_get(&used, relaxed);
    if (count > 1 && (at >= WORDS_MOST || atomic_get(&stacks, relaxed) >= STACKS_MOST))
        return 0;
    do {
        if (at + count + 1 > WORDS)
            return 0;
    } while (!atomic_cas_weak(&used, &at, at + count + 1, relaxed, relaxed));
    atomic_add(&stacks, 1, relaxed);
    words[at] = count;
    memcpy(words + at + 1, frames, count * sizeof *frames);
    return at;
}

/* The number of a stack; 0 when it is new and there is no room. */
static uint32_t number_of(const uintptr_t *frames, unsigned count) {
    uint64_t hash = hash_of(frames, count);
    uint32_t mine = 0;
    for (unsigned probe = 0; probe < PROBES; probe++) {
        ATOMIC(uint64_t) *entry = &table[((hash >> 40) + probe) % TABLE_ENTRIES];
        uint64_t found = atomic_get(entry, acquire);
        if (found == 0) {
            if (mine == 0)
                mine = keep(frames, count);
            if (mine == 0 || atomic_cas(entry, &found, hash << 32 | mine, release, acquire))
                return mine;
        }
        if (found >> 32 == (uint32_t)hash && is_same((uint32_t)found, frames, count))
            return (uint32_t)found;
    }
    return mine;
}

static uint32_t find(uintptr_t frame, unsigned most) {
    uintptr_t frames[DEPOT_DEPTH_MAX];
    unsigned count = unwind(frame, frames, most);
    if (count == 0)
        return 0;
    uint32_t stack = number_of(frames, count);
    return stack != 0 || count == 1 ? stack : number_of(frames, 1);
}

UNSEEN uint32_t depot_take(const void *frame) {
    unsigned most = (unsigned)options.stack_depth;
    if (words == NULL || most == 0)
        return 0;
    uintptr_t caller = ((const volatile uintptr_t *)frame)[1];
    ATOMIC(uint32_t) *last = &recent[(caller ^ caller >> 9) % RECENT];
    uint32_t stack = atomic_get(last, acquire);
    if (unlikely(stack == 0 || !is_here(stack, (uintptr_t)frame, most))) {
        stack = find((uintptr_t)frame, most);
        atomic_put(last, stack, release);
    }
    return stack;
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
