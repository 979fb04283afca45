/* pool.c -- stages 1 to 3; see pool.h. */
#include "core/pool.h"

#include "base/require.h"
#include "core/options.h"
#include "core/superslab.h"

#define HUGE_FROM 6u  /* SuperSlabs held */
#define LOOK_AT 4u    /* of them, for how full they are, ... */
#define LOOK_BACK 32u /* ... of so many below a new one, ... */
#define LOOKS 2u      /* ... and of the full ones for what is resident */

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

/* What of a SuperSlab is carved, and how much of that is blocks that are out. */
struct carved {
    size_t bytes, out;
};

static struct carved carved_of(uint32_t superslab) {
    struct carved sum = {0, 0};
    for (uint32_t s = 0; s < SUPERSLAB_SLOTS;) {
        uint32_t number = superslab * SUPERSLAB_SLOTS + s;
        unsigned class = arena_class_of_slot(number);
        uint32_t step = 1;
        if (class != 0 && class < CLASS_COUNT) {
            const struct sizeclass *sc = &sizeclass_table[class];
            unsigned free = slot_free(slot_at(number));
            step = sc->run_slots;
            sum.bytes += step * SLOT_BYTES;
            sum.out += free < sc->capacity ? (size_t)(sc->capacity - free) * sc->bytes : 0;
        }
        s += step;
    }
    return sum;
}

/* Whether of the last SuperSlabs below this one that are carved three quarters are out, and one
 * was filled. One alone tells little: with many classes most runs of the newest are still being
 * filled, and a program of sparse ones fills one now and then, too. Enters the OS where all else
 * says yes. */
static bool lately_filled(uint32_t superslab) {
    struct carved sum = {0, 0};
    uint32_t full[LOOKS];
    unsigned seen = 0, fulls = 0;
    uint32_t end = superslab > LOOK_BACK ? superslab - LOOK_BACK : 1;
    for (uint32_t i = superslab - 1; i >= end && seen < LOOK_AT; i--) {
        if (!superslab_in_use(i))
            continue;
        struct carved carved = carved_of(i);
        seen += carved.bytes > 0;
        sum.bytes += carved.bytes;
        sum.out += carved.out;
        if (carved.out >= SUPERSLAB_BYTES / 8 * 7 && fulls < LOOKS)
            full[fulls++] = i;
    }
    bool filled = false;
    for (unsigned f = 0; f < fulls && !filled && sum.out >= sum.bytes / 4 * 3; f++)
        filled = superslab_use(full[f] * SUPERSLAB_SLOTS, SUPERSLAB_SLOTS) != USE_SPARSE;
    return filled;
}

/* Whether a new SuperSlab will be full soon, so that one fault for all of it costs a fraction of
 * 512, and no more memory: the heap is of some size, and fills what it takes. Many threads or
 * classes that each need a little do not. */
static bool wants_huge(uint32_t superslab) {
    if (options.large_pages != LARGE_PAGES_AUTO)
        return options.large_pages == LARGE_PAGES_ON;
    return superslab_held() >= HUGE_FROM && lately_filled(superslab);
}

static void choose_pages(uint32_t superslab) {
    if (wants_huge(superslab))
        (void)superslab_make_huge(superslab, 1);
    else
        superslab_make_small(superslab, 1);
}

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
        choose_pages(superslab);
    atomic_put(&search.newest, superslab, relaxed);
    if (run < SUPERSLAB_SLOTS)
        superslab_release(first + run, SUPERSLAB_SLOTS - run, os_clock_ms());
    return first;
}

static struct slot *carve(uint32_t first, unsigned class, uint32_t owner) {
    struct slot *slot = slot_at(first);
    bool clean = superslab_soil(first, sizeclass_table[class].run_slots);
    if (clean)
        slot->filled = false;
    slot->ahead = clean ? 0 : AHEAD_NEVER;
    slot_carve(slot, class, owner);
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
        hkm_require(slot->class == class && slot_change(slot_number(slot), SLOT_EMPTY, SLOT_ACTIVE),
                    "P1 stage 1 holds EMPTY runs of its class", slot);
        slot_own(slot, owner);
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
