/* superslab.c -- claiming, releasing and purging; see superslab.h for the sets and their rules. */
#include "core/superslab.h"

#include <errno.h>
#include <string.h>

#include "base/require.h"
#include "core/options.h"
#include "core/watch.h"

HKM_SPARSE bitset_word superslab_avail[ARENA_SUPERSLABS_MAX / 64];
HKM_SPARSE bitset_word superslab_open[ARENA_SUPERSLABS_MAX / 64];
HKM_SPARSE bitset_word superslab_warm[ARENA_SUPERSLABS_MAX / 64];
static HKM_SPARSE bitset_word committed[ARENA_SUPERSLABS_MAX / 64];
ATOMIC(uint32_t) superslab_fresh;

#define PURGE_AT_ONCE 64u  /* SuperSlabs */
#define MAPS_PURGE_MIN 8u  /* SuperSlabs side by side for which purging their maps pays its calls */

#define KNOWN_STEP 1024u
#define SEARCH_HOMES 32u /* open SuperSlabs, for one that is the heap's own, or could be */
#define SEARCH_MORE 16u /* open SuperSlabs that superslab_claim_open looks at beyond the first */

static ATOMIC(uint32_t) known = 1; /* the bits of `avail` are set as far as this: a small program
                                      does not touch the whole set */
static ATOMIC(uint32_t) given = 1; /* so many of them have been set; behind `known` for moments */
static ATOMIC(uint32_t) top = 1;
static ATOMIC(uint32_t) first_avail = 1; /* hint: nothing below it is available */
static ATOMIC(uint32_t) held_count = 1;
static ATOMIC(uint32_t) warm_count;
static ATOMIC(size_t) committed_bytes;
static ATOMIC(uint64_t) returned_bytes;
static ATOMIC(uint32_t) maps_left; /* SuperSlabs that came to be so since superslab_purge_maps */

/* By the SuperSlab's tenant, a cache line each, so that heaps that work apart do not meet in one.
 * Since tenants change, a part may be below zero for good; the sum wraps below it for moments. */
static struct superslab_part idle_dirty[SUPERSLAB_IDLE_PARTS];

static void count_idle_dirty(size_t superslab, uint32_t slots) {
    uint32_t tenant = atomic_get(&superslab_at(superslab)->tenant, relaxed);
    atomic_add(&idle_dirty[tenant % SUPERSLAB_IDLE_PARTS].slots, slots, relaxed);
}

uint32_t superslab_top(void) { return atomic_get(&top, relaxed); }
size_t superslab_idle_dirty(void) {
    uint32_t sum = 0;
    for (unsigned i = 0; i < SUPERSLAB_IDLE_PARTS; i++)
        sum += atomic_get(&idle_dirty[i].slots, relaxed);
    int32_t slots = (int32_t)sum;
    return slots <= 0 ? 0 : (size_t)slots * SLOT_BYTES;
}
uint32_t superslab_held(void) {
    int32_t count = (int32_t)atomic_get(&held_count, relaxed);
    return count <= 0 ? 0 : (uint32_t)count;
}
uint32_t superslab_warm_count(void) {
    int32_t count = (int32_t)atomic_get(&warm_count, relaxed);
    return count <= 0 ? 0 : (uint32_t)count;
}
bool superslab_is_committed(uint32_t superslab) {
    uint64_t word =
        atomic_get(&committed[superslab >> 6], acquire); /* pairs with commit's release */
    return (word & bitset_bit(superslab)) != 0;
}
bool superslab_in_use(uint32_t superslab) {
    return superslab_is_committed(superslab) && !bitset_test(superslab_avail, superslab);
}
size_t superslab_committed_bytes(void) { return atomic_get(&committed_bytes, relaxed); }
uint64_t superslab_returned_bytes(void) { return atomic_get(&returned_bytes, relaxed); }

static void raise_top(uint32_t to) {
    uint32_t have = atomic_get(&top, relaxed);
    while (have < to && !atomic_cas_weak(&top, &have, to, relaxed, relaxed)) {
    }
}

static void lower_first_avail(uint32_t to) {
    uint32_t have = atomic_get(&first_avail, relaxed);
    while (have > to && !atomic_cas_weak(&first_avail, &have, to, relaxed, relaxed)) {
    }
}

static int commit_range(size_t from, size_t end) {
    int error = arena_commit_maps(from * SUPERSLAB_SLOTS, (end - from) * SUPERSLAB_SLOTS);
    if (error != 0)
        return error;
    return os_commit(arena_slot_start((uint32_t)(from * SUPERSLAB_SLOTS)), (end - from)
                                                                               << SUPERSLAB_SHIFT);
}

/* Commits SuperSlabs that the caller has claimed, and a few more behind them, so that a growing
 * heap does not pay a system call for each: an eighth of what there is, at most 64 MiB. */
static int commit(size_t first, size_t count) {
    size_t from = bitset_next_clear(committed, first, first + count);
    if (from == first + count)
        return 0; /* A1: a SuperSlab's maps are committed before it is */
    size_t ahead = atomic_get(&committed_bytes, relaxed) >> (SUPERSLAB_SHIFT + 3);
    if (ahead > MIB(64) >> SUPERSLAB_SHIFT)
        ahead = MIB(64) >> SUPERSLAB_SHIFT;
    size_t end = first + count + ahead;
    if (end > arena.superslab_count)
        end = arena.superslab_count;
    end = bitset_next_set(committed, first + count, end); /* the program may have protected some */
    int error = commit_range(from, end);
    if (error != 0 && ahead > 0) {
        end = first + count;
        error = commit_range(from, end);
    }
    if (error != 0)
        return error;
    for (size_t i = from; i < end; i++) {
        if ((atomic_or(&committed[i >> 6], bitset_bit(i), release) & bitset_bit(i)) == 0)
            atomic_add(&committed_bytes, SUPERSLAB_BYTES, relaxed);
    }
    return 0;
}

static inline uint64_t word_at(const char *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* Whether the class map says of none of these slots that it is in a run. */
static bool in_no_run(uint32_t superslab, uint32_t mask) {
    uint32_t last = superslab * SUPERSLAB_SLOTS + SUPERSLAB_SLOTS - 1;
    if (mask == UINT32_MAX) { /* nobody else has any of them: all at once */
        const char *at = (const char *)(uintptr_t)arena_class_entry(last);
        uint64_t found = 0;
        for (unsigned i = 0; i < SUPERSLAB_SLOTS * sizeof(class_entry); i += 32, at += 32)
            found |= word_at(at) | word_at(at + 8) | word_at(at + 16) | word_at(at + 24);
        return found == 0;
    }
    uint32_t found = 0;
    class_entry *first = arena_class_entry(last) + SUPERSLAB_SLOTS - 1;
    for (; mask != 0; mask &= mask - 1)
        found |= atomic_get(first - bits_lowest(mask), relaxed);
    return found == 0;
}
_Static_assert(sizeof(class_entry) * SUPERSLAB_SLOTS % 32 == 0, "four words at a time");

/* Of slots that were just claimed. A bit that a stray write has set would hand out, or purge, what
 * somebody has; and this is not a path that counts. */
static void require_free(uint32_t superslab, uint32_t mask) {
    hkm_require(in_no_run(superslab, mask), "U3 a slot that is claimed is in no run",
                superslab_at(superslab));
}

/* What follows a claim in `avail`: the SuperSlabs are ours, and leave the LRU. */
static HKM_COLD int adopt(uint32_t first, size_t count) {
    for (size_t i = first; i < first + count; i++) {
        require_free((uint32_t)i, UINT32_MAX);
        if (bitset_claim(superslab_warm, i)) {
            atomic_sub(&warm_count, 1, relaxed);
            uint32_t dirty = atomic_get(&superslab_at(i)->dirty, relaxed);
            count_idle_dirty(i, -bits_count(dirty));
        }
    }
    int error = commit(first, count);
    atomic_add(&held_count, (uint32_t)count, relaxed);
    if (error == 0) {
        raise_top((uint32_t)(first + count)); /* now their records can be read */
        uint32_t fresh = 0;
        for (size_t i = first; i < first + count; i++)
            fresh += atomic_get(&superslab_at(i)->dirty, relaxed) == 0;
        atomic_add(&superslab_fresh, fresh, relaxed);
    } else {
        for (size_t i = first; i < first + count; i++) {
            if (bitset_test(committed, i)) /* the others never were: their records may not exist */
                superslab_release((uint32_t)(i * SUPERSLAB_SLOTS), SUPERSLAB_SLOTS, os_clock_ms());
            else {
                atomic_sub(&held_count, 1, relaxed);
                bitset_give(superslab_avail, i);
            }
        }
        lower_first_avail(first);
    }
    return error;
}

static uint32_t claim_warm(void) {
    uint32_t end = superslab_top();
    size_t i = bitset_next_set(superslab_warm, 0, end);
    for (; i < end; i = bitset_next_set(superslab_warm, i + 1, end)) {
        if (bitset_claim(superslab_avail, i))
            return (uint32_t)i;
    }
    return 0;
}

uint32_t superslab_take_back(uint32_t tenant) {
    uint32_t end = superslab_top();
    size_t i = bitset_next_set(superslab_warm, 0, end);
    for (unsigned tries = SEARCH_HOMES; i < end && tries > 0; tries--) {
        if (atomic_get(&superslab_at(i)->tenant, relaxed) == tenant &&
            bitset_claim(superslab_avail, i))
            return adopt((uint32_t)i, 1) == 0 ? (uint32_t)i : 0;
        i = bitset_next_set(superslab_warm, i + 1, end);
    }
    return 0;
}

static uint32_t claim_avail(size_t from, size_t count, size_t alignment) {
    size_t all = atomic_get(&known, relaxed); /* beyond are pages that nobody has touched */
    size_t i = from;
    while ((i = bitset_next_set(superslab_avail, i, all)) + count <= all) {
        uintptr_t start = arena.base + (i << SUPERSLAB_SHIFT);
        if ((start & (alignment - 1)) != 0) {
            i += (round_up(start, alignment) - start) >> SUPERSLAB_SHIFT;
            continue;
        }
        size_t end = bitset_next_clear(superslab_avail, i, i + count);
        if (end < i + count)
            i = end + 1;
        else if (bitset_claim_run(superslab_avail, i, count))
            return (uint32_t)i;
        else
            i++;
    }
    return 0;
}

/* For what others have counted in `known` to be given. Not for ever, and not twice: who was about
 * to may be a thread that this forked child does not have, or what a handler interrupted. */
static HKM_COLD void wait_for_given(uint32_t end) {
    static ATOMIC(bool) in_vain;
    for (unsigned attempt = 0; atomic_get(&given, acquire) < end; attempt++) {
        if (attempt == 160)
            atomic_put(&in_vain, true, relaxed);
        if (atomic_get(&in_vain, relaxed))
            return;
        os_backoff(attempt);
    }
}

/* Makes more of the range available, enough for `count` SuperSlabs; false at its end. */
static bool learn(size_t count) {
    uint32_t from = atomic_get(&known, relaxed);
    uint32_t end;
    do {
        if (from >= arena.superslab_count) {
            wait_for_given(from);
            return false;
        }
        size_t more = round_up(count, KNOWN_STEP);
        end = more < arena.superslab_count - from ? from + (uint32_t)more : arena.superslab_count;
    } while (!atomic_cas_weak(&known, &from, end, relaxed, relaxed));
    bitset_give_run(superslab_avail, from, end - from);
    atomic_add(&given, end - from, release); /* pairs with wait_for_given */
    return true;
}

/* All of a small arena is known from here on: who needs what another thread is about to give would
 * wait for it there, in a forked child in vain. */
void superslab_init(void) {
    bitset_give(committed, 0); /* by arena_init, with the first maps */
    atomic_put(&committed_bytes, SUPERSLAB_BYTES, relaxed);
    atomic_put(&superslab_at(0)->unused, ~UINT32_C(1), release); /* slot 0 is the guard */
    bitset_give(superslab_open, 0);
    if (arena.superslab_count <= KNOWN_STEP)
        (void)learn(1);
}

uint32_t superslab_take(size_t count, size_t alignment, int *error) {
    *error = ENOMEM;
    if (alignment < SUPERSLAB_BYTES)
        alignment = SUPERSLAB_BYTES;
    if (count >= arena.superslab_count || alignment > arena_bytes())
        return 0;
    uint32_t first = count == 1 && alignment == SUPERSLAB_BYTES ? claim_warm() : 0;
    if (first == 0) {
        uint32_t from = atomic_get(&first_avail, relaxed);
        first = claim_avail(from, count, alignment);
        if (first == from && count == 1)
            atomic_cas(&first_avail, &from, first + 1, relaxed, relaxed);
        while (first == 0) {
            bool more = learn(count + (alignment >> SUPERSLAB_SHIFT));
            first = claim_avail(1, count, alignment);
            if (!more)
                break;
        }
    }
    if (first == 0)
        return 0;
    *error = adopt(first, count);
    return *error == 0 ? first : 0;
}

int superslab_take_at(uint32_t first, size_t count) {
    if (count > arena.superslab_count - first)
        return ENOMEM;
    if (first + count > atomic_get(&known, relaxed))
        (void)learn(count);
    return bitset_claim_run(superslab_avail, first, count) ? adopt(first, count) : ENOMEM;
}

/* The hint must not stay clear when slots are there: look again after clearing it. */
static void close_if_full(uint32_t superslab) {
    struct superslab *ss = superslab_at(superslab);
    if (atomic_get(&ss->unused, relaxed) != 0)
        return;
    atomic_and(&superslab_open[superslab >> 6], ~bitset_bit(superslab), acq_rel);
    if (atomic_get(&ss->unused, acquire) != 0)
        bitset_give(superslab_open, superslab);
}

static uint32_t resident_mask(const struct superslab *ss) {
    return atomic_get(&ss->dirty, relaxed) | atomic_get(&ss->along, relaxed);
}

/* superslab_claim, of slots that are in `among`. */
static uint32_t claim_among(uint32_t superslab, uint32_t among, unsigned count, bool aligned) {
    struct superslab *ss = superslab_at(superslab);
    uint32_t unused = atomic_get(&ss->unused, relaxed);
    int at;
    while ((at = bits_find_run(unused & among, count, aligned)) >= 0) {
        uint32_t mask = bits_below32(count) << at;
        if (atomic_cas_weak(&ss->unused, &unused, unused & ~mask, acquire, relaxed)) {
            uint32_t was = atomic_get(&ss->dirty, relaxed) & mask;
            count_idle_dirty(superslab, -bits_count(was));
            if ((unused & ~mask) == 0)
                close_if_full(superslab);
            require_free(superslab, mask);
            return superslab * SUPERSLAB_SLOTS + (uint32_t)at;
        }
    }
    if (unused == 0 && bitset_test(superslab_open, superslab)) /* else no write is needed */
        close_if_full(superslab);
    return 0;
}

uint32_t superslab_claim(uint32_t superslab, unsigned count, bool aligned) {
    return claim_among(superslab, UINT32_MAX, count, aligned);
}

uint32_t superslab_claim_resident(unsigned count, unsigned tries) {
    uint32_t end = superslab_top();
    size_t i = bitset_next_set(superslab_open, 0, end);
    for (; i < end && tries > 0; i = bitset_next_set(superslab_open, i + 1, end), tries--) {
        uint32_t among = resident_mask(superslab_at(i));
        uint32_t first = claim_among((uint32_t)i, among, count, true);
        if (first != 0)
            return first;
    }
    return 0;
}

uint32_t superslab_claim_at_home(uint32_t *home, uint32_t tenant, unsigned count) {
    uint32_t end = superslab_top();
    size_t i = *home;
    for (unsigned tries = SEARCH_HOMES; i < end && tries > 0; tries--) {
        struct superslab *ss = superslab_at(i);
        if (atomic_get(&ss->tenant, relaxed) == tenant) {
            uint32_t first = claim_among((uint32_t)i, resident_mask(ss), count, true);
            if (first != 0) {
                *home = (uint32_t)i;
                return first;
            }
        }
        i = bitset_next_set(superslab_open, tries == SEARCH_HOMES ? 0 : i + 1, end);
    }
    return 0;
}

uint32_t superslab_move_in(uint32_t *home, uint32_t tenant, unsigned count) {
    uint32_t end = superslab_top();
    size_t i = bitset_next_set(superslab_open, 0, end);
    uint32_t last = 0;
    for (unsigned tries = SEARCH_HOMES; i < end && tries > 0; tries--) {
        struct superslab *ss = superslab_at(i);
        uint32_t there = atomic_get(&ss->unused, relaxed) & resident_mask(ss);
        if (bits_find_run(there, count, true) >= 0)
            last = (uint32_t)i;
        i = bitset_next_set(superslab_open, i + 1, end);
    }
    uint32_t first = claim_among(last, resident_mask(superslab_at(last)), count, true);
    if (first != 0) {
        atomic_put(&superslab_at(last)->tenant, tenant, relaxed);
        *home = last;
    }
    return first;
}

/* Claims in one of the next `tries` open SuperSlabs from *from on, which becomes where it ended. */
HKM_INLINE uint32_t claim_from(uint32_t *from, unsigned count, bool aligned, unsigned tries) {
    uint32_t end = superslab_top();
    size_t i = bitset_next_set(superslab_open, *from, end);
    for (; i < end && tries > 0; i = bitset_next_set(superslab_open, i + 1, end), tries--) {
        uint32_t first = superslab_claim((uint32_t)i, count, aligned);
        if (first != 0) {
            *from = (uint32_t)i;
            return first;
        }
    }
    *from = i < end ? (uint32_t)i : 0;
    return 0;
}

uint32_t superslab_claim_any(unsigned count, bool aligned) {
    uint32_t from = 0;
    return claim_from(&from, count, aligned, UINT32_MAX);
}

uint32_t superslab_claim_open(struct superslab_search *search, unsigned count, bool aligned,
                              unsigned tries) {
    uint32_t from = 0;
    uint32_t first = claim_from(&from, count, aligned, tries);
    if (first != 0 || from == 0)
        return first;
    first = superslab_claim(atomic_get(&search->newest, relaxed), count, aligned);
    if (first != 0)
        return first;
    uint32_t next = atomic_get(&search->next, relaxed);
    from = next > from ? next : from;
    first = claim_from(&from, count, aligned, SEARCH_MORE);
    atomic_put(&search->next, from, relaxed);
    return first;
}

bool superslab_claim_mask(uint32_t superslab, uint32_t mask) {
    struct superslab *ss = superslab_at(superslab);
    uint32_t unused = atomic_get(&ss->unused, relaxed);
    do {
        if ((unused & mask) != mask)
            return false;
    } while (!atomic_cas_weak(&ss->unused, &unused, unused & ~mask, acquire, relaxed));
    uint32_t was = atomic_get(&ss->dirty, relaxed) & mask;
    count_idle_dirty(superslab, -bits_count(was));
    if ((unused & ~mask) == 0)
        close_if_full(superslab);
    require_free(superslab, mask);
    return true;
}

/* Mask of the slots of [slot, end) that lie in slot's SuperSlab. */
static uint32_t mask_of(size_t slot, size_t end) {
    unsigned from = (unsigned)(slot % SUPERSLAB_SLOTS);
    size_t count = end - slot;
    if (count > SUPERSLAB_SLOTS - from)
        count = SUPERSLAB_SLOTS - from;
    return bits_below32((unsigned)count) << from;
}

bool superslab_soil(uint32_t first_slot, size_t count) {
    bool clean = true;
    size_t end = first_slot + count;
    for (size_t s = first_slot; s < end; s = (s / SUPERSLAB_SLOTS + 1) * SUPERSLAB_SLOTS) {
        struct superslab *ss = superslab_at(s / SUPERSLAB_SLOTS);
        uint32_t mask = mask_of(s, end);
        if ((atomic_get(&ss->dirty, relaxed) & mask) != mask)
            clean = (atomic_or(&ss->dirty, mask, relaxed) & mask) == 0 && clean;
        else
            clean = false;
    }
    return clean;
}

/* Whether the mapping is to be told about pages of this kind, which are noted. */
static bool must_advise(struct superslab *ss, uint32_t pages) {
    if (atomic_get(&ss->dirty, relaxed) != 0)
        return false; /* it keeps what is resident */
    bool was_huge = atomic_get(&ss->pages, relaxed) == PAGES_HUGE;
    atomic_put(&ss->pages, pages, relaxed);
    atomic_put(&ss->along, pages == PAGES_HUGE ? UINT32_MAX : 0, relaxed);
    return was_huge != (pages == PAGES_HUGE);
}

/* Changes what each of these SuperSlabs is, with one call for all that lie side by side. */
static HKM_COLD size_t make(uint32_t first, size_t count, uint32_t pages,
                            int (*advise)(void *, size_t)) {
    size_t made = 0;
    uint32_t from = first;
    for (uint32_t i = first; i <= first + count; i++) {
        if (i < first + count && must_advise(superslab_at(i), pages))
            continue;
        if (i > from)
            (void)advise(arena_slot_start(from * SUPERSLAB_SLOTS), (size_t)(i - from)
                                                                       << SUPERSLAB_SHIFT);
        made += i - from;
        from = i + 1;
    }
    return made;
}

size_t superslab_make_huge(uint32_t first, size_t count) {
    return make(first, count, PAGES_HUGE, os_huge);
}
void superslab_make_small(uint32_t first, size_t count) {
    (void)make(first, count, PAGES_SMALL, os_small);
}

bool superslab_collapse(uint32_t superslab) {
    struct superslab *ss = superslab_at(superslab);
    char *start = arena_slot_start(superslab * SUPERSLAB_SLOTS);
    uint32_t pages = PAGES_SMALL;
    if (!atomic_cas(&ss->pages, &pages, PAGES_HUGE, relaxed, relaxed))
        return false;
    if (os_huge(start, SUPERSLAB_BYTES) != 0 || os_collapse(start, SUPERSLAB_BYTES) != 0) {
        (void)os_small(start, SUPERSLAB_BYTES);
        atomic_put(&ss->pages, PAGES_SMALL, relaxed);
        return false;
    }
    atomic_put(&ss->pages, PAGES_HUGE, relaxed); /* again: a purge may have come in between */
    atomic_put(&ss->along, UINT32_MAX, relaxed);
    return true;
}

bool superslab_looks_due(struct superslab_looks *looks) {
    if (atomic_get(&looks->skipped, relaxed) >= atomic_get(&looks->skip, relaxed))
        return true;
    counter_add(&looks->skipped, 1);
    return false;
}

void superslab_looks_done(struct superslab_looks *looks, bool in_vain, uint32_t most) {
    uint32_t more = atomic_get(&looks->skip, relaxed) * 2 + 1;
    more = more < most ? more : most;
    atomic_put(&looks->skip, in_vain ? more : 0, relaxed);
    atomic_put(&looks->skipped, 0, relaxed);
}

enum superslab_use superslab_use(uint32_t first_slot, size_t count) {
    if (atomic_get(&superslab_at(first_slot / SUPERSLAB_SLOTS)->pages, relaxed) == PAGES_HUGE)
        return USE_UNKNOWN;
    size_t bytes = count * SLOT_BYTES;
    size_t resident = os_resident(arena_slot_start(first_slot), bytes);
    return resident == 0 ? USE_UNKNOWN : resident >= bytes / 4 * 3 ? USE_FILLED : USE_SPARSE;
}

void superslab_wash(uint32_t first_slot, size_t count, bool renewed) {
    size_t end = first_slot + count;
    for (size_t s = first_slot; s < end; s = (s / SUPERSLAB_SLOTS + 1) * SUPERSLAB_SLOTS) {
        struct superslab *ss = superslab_at(s / SUPERSLAB_SLOTS);
        uint32_t mask = mask_of(s, end);
        atomic_and(&ss->dirty, ~mask, relaxed);
        if (renewed && mask == UINT32_MAX) {
            atomic_put(&ss->pages, PAGES_SMALL, relaxed);
            atomic_put(&ss->along, 0, relaxed);
        }
    }
}

static void make_available(uint32_t superslab, struct superslab *ss) {
    if (atomic_get(&ss->dirty, relaxed) != 0) {
        bitset_give(superslab_warm, superslab);
        atomic_add(&warm_count, 1, relaxed);
    }
    bitset_give(superslab_avail, superslab);
    lower_first_avail(superslab);
}

static void release_in(uint32_t superslab, uint32_t mask, uint32_t now_ms) {
    struct superslab *ss = superslab_at(superslab);
    hkm_assert(in_no_run(superslab, mask), "U3 a slot that is released is in no run", ss);
    if (os_elapsed_ms(now_ms, atomic_get(&ss->idle_ms, relaxed)) > 0)
        atomic_put(&ss->idle_ms, now_ms, relaxed);
    count_idle_dirty(superslab, bits_count(atomic_get(&ss->dirty, relaxed) & mask));
    uint32_t before = atomic_or(&ss->unused, mask, acq_rel);
    hkm_require((before & mask) == 0, "U3 slot released twice", ss);
    uint32_t full = ~UINT32_C(0);
    if ((before | mask) == full && atomic_cas(&ss->unused, &full, 0, acq_rel, relaxed)) {
        (void)bitset_claim(superslab_open, superslab);
        atomic_sub(&held_count, 1, relaxed);
        make_available(superslab, ss);
    } else if (before == 0 || !bitset_test(superslab_open, superslab)) {
        /* Also when the bit is set: a thread that saw no slot may be about to clear it, and looks
         * again after that. Only a read-modify-write here makes sure that it then sees these slots.
         * Where others had been released before, their releaser did that, and that thread sees
         * them all. (CONCURRENCY.md, open.) */
        bitset_give(superslab_open, superslab);
        close_if_full(superslab); /* others may have claimed all of it meanwhile */
    }
}

void superslab_release(uint32_t first_slot, size_t count, uint32_t now_ms) {
    size_t end = first_slot + count;
    for (size_t s = first_slot; s < end; s = (s / SUPERSLAB_SLOTS + 1) * SUPERSLAB_SLOTS)
        release_in((uint32_t)(s / SUPERSLAB_SLOTS), mask_of(s, end), now_ms);
}

/* ---- purge ---- */

static bool is_idle(const struct superslab *ss, uint32_t now_ms, uint32_t age_ms) {
    uint32_t since = atomic_get(&ss->idle_ms, relaxed);
    return os_elapsed_ms(now_ms, since) >= age_ms;
}

/* Purges slots that the caller has claimed; their dirty bits go when the OS took the pages. */
static size_t purge_slots(uint32_t superslab, uint32_t mask) {
    struct superslab *ss = superslab_at(superslab);
    size_t bytes = 0;
    for (uint32_t left = mask; left != 0;) {
        unsigned at = bits_lowest(left);
        unsigned count = bits_lowest(~((uint64_t)left >> at));
        uint32_t run = bits_below32(count) << at;
        left &= ~run;
        if (os_purge(arena_slot_start(superslab * SUPERSLAB_SLOTS + at), count * SLOT_BYTES) == 0) {
            atomic_and(&ss->dirty, ~run, relaxed);
            if (run != UINT32_MAX)
                atomic_and(&ss->along, ~run, relaxed);
            bytes += count * SLOT_BYTES;
            if (HKM_CHECK_LEVEL >= 1)
                watch_purge(superslab * SUPERSLAB_SLOTS + at, count);
        }
    }
    return bytes;
}

/* Before a part of it is purged: the kernel makes what is left of a huge page whole again where it
 * may (khugepaged), and with that takes the memory back. */
static void end_huge(uint32_t superslab) {
    struct superslab *ss = superslab_at(superslab);
    if (atomic_get(&ss->pages, relaxed) == PAGES_HUGE &&
        os_small(arena_slot_start(superslab * SUPERSLAB_SLOTS), SUPERSLAB_BYTES) == 0)
        atomic_put(&ss->pages, PAGES_SMALL, relaxed);
}

/* Slots that are UNUSED in SuperSlabs where others are not. */
static size_t purge_open(uint32_t superslab, uint32_t now_ms, uint32_t age_ms) {
    struct superslab *ss = superslab_at(superslab);
    if (!is_idle(ss, now_ms, age_ms))
        return 0;
    uint32_t mask = atomic_get(&ss->unused, relaxed) & resident_mask(ss);
    if (mask == 0 || !superslab_claim_mask(superslab, mask))
        return 0;
    end_huge(superslab);
    size_t bytes = purge_slots(superslab, mask);
    release_in(superslab, mask, now_ms);
    return bytes;
}

static HKM_NOINLINE bool claim_empty(uint32_t superslab) {
    if (!bitset_claim(superslab_avail, superslab))
        return false;
    require_free(superslab, UINT32_MAX);
    return true;
}

/* Empty SuperSlabs, at most `most`: neighbours go in one call, because large pieces cost less a
 * page. */
static size_t purge_warm(uint32_t from, uint32_t most, uint32_t now_ms, uint32_t age_ms,
                         uint32_t *next) {
    uint32_t end = superslab_top();
    uint32_t i = from;
    while (i < end && i - from < most && bitset_test(superslab_warm, i) &&
           is_idle(superslab_at(i), now_ms, age_ms) && claim_empty(i)) {
        if (bitset_claim(superslab_warm, i)) {
            atomic_sub(&warm_count, 1, relaxed);
            uint32_t dirty = atomic_get(&superslab_at(i)->dirty, relaxed);
            count_idle_dirty(i, -bits_count(dirty));
        }
        i++;
    }
    *next = i == from ? i + 1 : i;
    size_t bytes = 0;
    bool whole = i - from > 1 && os_purge(arena_slot_start(from * SUPERSLAB_SLOTS),
                                          (size_t)(i - from) << SUPERSLAB_SHIFT) == 0;
    bool many = i - from >= MAPS_PURGE_MIN;
    if (many)
        arena_purge_maps((size_t)from * SUPERSLAB_SLOTS, (size_t)(i - from) * SUPERSLAB_SLOTS);
    else
        atomic_add(&maps_left, i - from, relaxed);
    if (HKM_CHECK_LEVEL >= 1 && whole)
        watch_purge(from * SUPERSLAB_SLOTS, (size_t)(i - from) * SUPERSLAB_SLOTS);
    for (uint32_t k = from; k < i; k++) {
        struct superslab *ss = superslab_at(k);
        uint32_t dirty = atomic_get(&ss->dirty, relaxed);
        if (whole) {
            atomic_put(&ss->dirty, 0, relaxed);
            bytes += bits_count(dirty) * SLOT_BYTES;
        } else {
            bytes += purge_slots(k, resident_mask(ss));
        }
        uint32_t stays = atomic_get(&ss->dirty, relaxed); /* locked memory can not be purged */
        count_idle_dirty(k, bits_count(stays));
        atomic_put(&ss->idle_ms, now_ms, relaxed);
        atomic_put(&ss->maps_left, !many, relaxed);
        make_available(k, ss);
    }
    return bytes;
}

static bool has_maps_left(size_t superslab) {
    return bitset_test(superslab_avail, superslab) && !bitset_test(superslab_warm, superslab) &&
           superslab_is_committed((uint32_t)superslab) &&
           atomic_get(&superslab_at(superslab)->maps_left, relaxed) != 0;
}

HKM_COLD void superslab_purge_maps(size_t least) {
    atomic_put(&maps_left, 0, relaxed);
    size_t end = superslab_top();
    for (size_t i = bitset_next_set(superslab_avail, 0, end); i < end;
         i = bitset_next_set(superslab_avail, i + 1, end)) {
        size_t from = i;
        while (i < end && has_maps_left(i))
            i++;
        if (i - from < least)
            continue;
        size_t claimed = from;
        while (claimed < i && claim_empty((uint32_t)claimed))
            claimed++;
        if (claimed > from)
            arena_purge_maps(from * SUPERSLAB_SLOTS, (claimed - from) * SUPERSLAB_SLOTS);
        for (size_t k = from; k < claimed; k++) { /* its being warm is left as it is */
            atomic_put(&superslab_at(k)->maps_left, 0, relaxed);
            bitset_give(superslab_avail, k);
        }
        lower_first_avail((uint32_t)from);
    }
}

HKM_COLD size_t superslab_purge_some(uint32_t now_ms, uint32_t age_ms, size_t most) {
    size_t bytes = 0;
    uint32_t end = superslab_top();
    for (size_t i = bitset_next_set(superslab_warm, 0, end); i < end && bytes < most;) {
        uint32_t next;
        size_t left = (most - bytes - 1) >> SUPERSLAB_SHIFT;
        uint32_t count = left < PURGE_AT_ONCE ? (uint32_t)left + 1 : PURGE_AT_ONCE;
        bytes += purge_warm((uint32_t)i, count, now_ms, age_ms, &next);
        i = bitset_next_set(superslab_warm, next, end);
    }
    for (size_t i = bitset_next_set(superslab_open, 0, end); i < end && bytes < most;
         i = bitset_next_set(superslab_open, i + 1, end))
        bytes += purge_open((uint32_t)i, now_ms, age_ms);
    if (atomic_get(&maps_left, relaxed) >= MAPS_PURGE_MIN)
        superslab_purge_maps(MAPS_PURGE_MIN);
    atomic_add(&returned_bytes, bytes, relaxed);
    return bytes;
}

size_t superslab_purge(uint32_t now_ms, uint32_t age_ms) {
    return superslab_purge_some(now_ms, age_ms, SIZE_MAX);
}

struct superslab_innards superslab_innards(void) {
    return (struct superslab_innards){
        committed, &known, &top, &first_avail, &warm_count, idle_dirty, &committed_bytes};
}
