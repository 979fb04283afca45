/* pool.c -- stages 1 to 3; see pool.h. */
#include "core/pool.h"

#include "base/require.h"
#include "core/huge.h"
#include "core/prefault.h"
#include "core/superslab.h"

/* One cache line a class: threads that work in different classes do not meet. */
static struct {
    _Alignas(64) ATOMIC(uint64_t) head;
    ATOMIC(uint32_t) count;
} stacks[CLASS_COUNT];

static uint32_t empty_max(unsigned class) { return 16 / sizeclass_table[class].run_slots + 1; }

static struct slot *pop(unsigned class) {
    uint64_t word = atomic_get(&stacks[class].head, acquire);
    while ((word & UINT32_MAX) != 0) {
        struct slot *slot = slot_at((uint32_t)word);
        uint32_t below = atomic_get(&slot->stack_next, relaxed);
        uint64_t next = ((word >> 32) + 1) << 32 | below;
        if (atomic_cas_weak(&stacks[class].head, &word, next, acquire, acquire)) {
            atomic_sub(&stacks[class].count, 1, relaxed);
            return slot;
        }
    }
    return NULL;
}

static void push(unsigned class, struct slot *slot) {
    uint64_t word = atomic_get(&stacks[class].head, relaxed);
    uint64_t next;
    do {
        atomic_put(&slot->stack_next, (uint32_t)word, relaxed);
        next = ((word >> 32) + 1) << 32 | slot_number(slot);
    } while (!atomic_cas_weak(&stacks[class].head, &word, next, release, relaxed));
    atomic_add(&stacks[class].count, 1, relaxed);
}

#define SEARCH_FIRST 256u
#define SEARCH_RESIDENT 32u /* fewer: where there are many open ones it is one more search */

static struct superslab_search search; /* of stage 2 */

/* Stage 3. */
static uint32_t claim_new(unsigned run, uint32_t owner, uint32_t *home) {
    int error;
    uint32_t superslab = superslab_take_back(owner);
    if (superslab == 0)
        superslab = superslab_take(1, SUPERSLAB_BYTES, &error);
    if (superslab == 0)
        return superslab_claim_any(run, true);
    atomic_put(&superslab_at(superslab)->tenant, owner, relaxed);
    *home = superslab;
    uint32_t first = superslab * SUPERSLAB_SLOTS;
    if (atomic_get(&superslab_at(superslab)->dirty, relaxed) == 0)
        huge_from_start(superslab);
    atomic_put(&search.newest, superslab, relaxed);
    if (run < SUPERSLAB_SLOTS)
        superslab_release(first + run, SUPERSLAB_SLOTS - run, os_clock_ms());
    return first;
}

static struct slot *carve(uint32_t first, unsigned class, uint32_t owner) {
    struct slot *slot = slot_at(first);
    bool clean = superslab_soil(first, sizeclass_table[class].run_slots);
    if (clean) {
        slot->filled = false;
        if (first >= SUPERSLAB_SLOTS && prefault_pays()) /* a small program does not run that */
            huge_later_run(first, class);
    }
    slot->ahead = clean ? 0 : AHEAD_NEVER;
    slot_carve(slot, class, owner);
    slot->fresh = clean ? slot->capacity : 0;
    return slot;
}

/* Stage 2. Slots that are resident first: none of those that are not, while stage 3 has a whole
 * SuperSlab whose pages are there. A program that tears down and builds up again would else fault
 * in what its last SuperSlab has left over, and leave those that became empty to the LRU. Who works
 * apart rather takes such a SuperSlab than room in another's, who would miss it soon. */
static uint32_t claim_unused(unsigned run, uint32_t owner, uint32_t *home, bool apart) {
    if (superslab_idle_dirty() > 0) {
        bool warm = superslab_warm_count() > 0;
        uint32_t first = 0;
        if (!apart)
            first = superslab_claim_resident(run, SEARCH_RESIDENT);
        else if (!warm)
            first = superslab_move_in(home, owner, run);
        if (first != 0 || warm)
            return first;
    }
    return superslab_claim_open(&search, run, true, SEARCH_FIRST);
}

struct slot *pool_take(unsigned class, uint32_t owner, uint32_t *home, bool apart,
                       unsigned *stage) {
    unsigned run = sizeclass_table[class].run_slots;
    *stage = 2;
    uint32_t first = apart ? superslab_claim_at_home(home, owner, run) : 0;
    if (first != 0)
        return carve(first, class, owner);
    struct slot *slot = pop(class);
    if (slot != NULL) {
        *stage = 1;
        slot_own(slot, owner); /* first: who sees it ACTIVE sees whose it is */
        hkm_require(slot->class == class && slot_change(slot_number(slot), SLOT_EMPTY, SLOT_ACTIVE),
                    "P1 stage 1 holds EMPTY runs of its class", slot);
        return slot;
    }
    first = claim_unused(run, owner, home, apart);
    return first == 0 ? NULL : carve(first, class, owner);
}

struct slot *pool_take_new(unsigned class, uint32_t owner, uint32_t *home) {
    uint32_t first = claim_new(sizeclass_table[class].run_slots, owner, home);
    return first == 0 ? NULL : carve(first, class, owner);
}

static void retire(struct slot *slot) {
    uint32_t first = slot_number(slot);
    uint32_t run = sizeclass_table[slot->class].run_slots;
    uint32_t since = slot->empty_ms;
    slot_retire(slot);
    superslab_release(first, run, since);
}

static bool is_resident(const struct slot *slot) {
    const struct superslab *ss = superslab_at(slot_number(slot) / SUPERSLAB_SLOTS);
    return slot->filled || atomic_get(&ss->pages, relaxed) == PAGES_HUGE;
}

/* What may not be resident stays with its class, which will touch the same few pages of it again,
 * unless its heap works apart, and will find it in its own SuperSlab. Any other is for whatever
 * class needs it. */
void pool_give(struct slot *slot, bool apart) {
    unsigned class = slot->class;
    slot_own(slot, 0);
    if (!apart && !is_resident(slot) &&
        atomic_get(&stacks[class].count, relaxed) < empty_max(class))
        push(class, slot);
    else
        retire(slot);
}

void pool_decay(uint32_t now_ms, uint32_t age_ms) {
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        uint32_t left = atomic_get(&stacks[class].count, relaxed);
        uint32_t young = 0; /* a chain through `next`, by slot number */
        struct slot *slot;
        for (; left > 0 && (slot = pop(class)) != NULL; left--) {
            if (os_elapsed_ms(now_ms, slot->empty_ms) >= age_ms) {
                retire(slot);
            } else {
                slot->next = young;
                young = slot_number(slot);
            }
        }
        while (young != 0) {
            slot = slot_at(young);
            young = slot->next;
            push(class, slot);
        }
    }
}

struct pool_innards pool_innards(unsigned class) {
    return (struct pool_innards){&stacks[class].head, &stacks[class].count, empty_max(class)};
}
