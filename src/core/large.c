/* large.c -- placing, caching, resizing and moving runs of slots; see large.h. */
#include "core/large.h"

#include <string.h>

#include "base/require.h"
#include "core/huge.h"
#include "core/options.h"
#include "core/prefault.h"
#include "core/superslab.h"

#define CACHE_ENTRIES 64u
/* A block that moves is copied up to here, and up to the second if the place it moves to was in use
 * before: moving pages leaves a hole behind that costs a fault a page when it is used again, four
 * times as much as the copy. */
#define COPY_BYTES MIB(1)
#define COPY_BYTES_WARM MIB(4)

/* slot number << 32 | slots in the run; 0: empty. */
static struct {
    ATOMIC(uint64_t) run;
    ATOMIC(uint32_t) since_ms;
} cache[CACHE_ENTRIES];
static ATOMIC(size_t) cached_bytes;
static ATOMIC(size_t) live_blocks;
static ATOMIC(size_t) live_bytes;

/* Runs that a call which failed has left unmapped, and CACHED: 0 or the first slot. What does not
 * find a place here is lost. */
#define HOLES 16u
static ATOMIC(uint32_t) holes[HOLES];
static ATOMIC(uint32_t) given_up; /* those, and the lost ones */

size_t large_blocks(void) { return atomic_get(&live_blocks, relaxed); }
size_t large_bytes(void) { return atomic_get(&live_bytes, relaxed); }
size_t large_cached_bytes(void) { return atomic_get(&cached_bytes, relaxed); }

static void set_entries(uint32_t first, size_t count, unsigned class) {
    for (size_t i = first; i < first + count; i++)
        atomic_put(arena_class_entry((uint32_t)i), CLASS_ENTRY(0u, class), relaxed);
}

static size_t slots_for(size_t bytes) { return (bytes + SLOT_BYTES - 1) >> SLOT_SHIFT; }

uint32_t large_run_of(const void *p) {
    uint32_t slot = arena_slot_of(p);
    while (slot > 0 && arena_class_of_slot(slot) == CLASS_LARGE_TAIL)
        slot--;
    return slot;
}

/* ---- the big cache ---- */

static void release(uint32_t first, size_t count, uint32_t since_ms) {
    set_entries(first, count, 0);
    superslab_release(first, count, since_ms);
}

static void keep_hole(uint32_t slot) {
    uint32_t none = 0;
    for (unsigned i = 0; i < HOLES && !atomic_cas(&holes[i], &none, slot, release, relaxed); i++)
        none = 0;
}

/* A CACHED run that is unmapped waits in `holes`. */
static HKM_COLD void give_up(uint32_t slot) {
    atomic_add(&given_up, 1, relaxed);
    keep_hole(slot);
}

/* Of a CACHED run whose pages came by os_move, and that is released for good: a new mapping, so
 * that the range does not stay one of its own for ever. False when there is none at all, not even
 * the old one: before 6.12 the kernel unmaps that, and then finds that there is no memory. */
static HKM_COLD bool renew(uint32_t slot, size_t count) {
    char *start = arena_slot_start(slot);
    slot_head(slot)->moved = 0;
    if (os_renew(start, count * SLOT_BYTES) == 0) {
        superslab_wash(slot, count, true);
        return true;
    }
    if (os_commit(start, count * SLOT_BYTES) == 0)
        return true;
    give_up(slot);
    return false;
}

static void retire(uint32_t slot, uint32_t since_ms) {
    struct slot_head *head = slot_head(slot);
    size_t count = head->run_slots;
    if (head->moved != 0 && !renew(slot, count))
        return;
    hkm_require(slot_change(slot, SLOT_CACHED, SLOT_UNUSED), "L3 a cached run is CACHED", head);
    release(slot, count, since_ms);
}

/* The last slots of a block whose pages came by os_move, which it leaves behind, as a run. */
static HKM_COLD void retire_tail(uint32_t slot, size_t count) {
    slot_head(slot)->run_slots = (uint32_t)count;
    slot_head(slot)->moved = 1;
    set_entries(slot, 1, CLASS_LARGE_HEAD);
    if (slot_change(slot, SLOT_UNUSED, SLOT_LARGE) && slot_change(slot, SLOT_LARGE, SLOT_CACHED))
        retire(slot, os_clock_ms());
}

/* Takes an entry out; true when this call did it. */
static bool cache_claim(unsigned i, uint64_t run) {
    if (run == 0 || !atomic_cas(&cache[i].run, &run, 0, acquire, relaxed))
        return false;
    atomic_sub(&cached_bytes, (size_t)(run & UINT32_MAX) * SLOT_BYTES, relaxed);
    return true;
}

static void cache_evict(unsigned i, uint64_t run) {
    uint32_t since = atomic_get(&cache[i].since_ms, relaxed);
    if (cache_claim(i, run))
        retire((uint32_t)(run >> 32), since);
}

static void cache_evict_oldest(uint32_t now_ms) {
    int oldest = -1;
    uint32_t most = 0;
    for (unsigned i = 0; i < CACHE_ENTRIES; i++) {
        uint32_t age = os_elapsed_ms(now_ms, atomic_get(&cache[i].since_ms, relaxed));
        if (atomic_get(&cache[i].run, relaxed) != 0 && (oldest < 0 || age > most)) {
            oldest = (int)i;
            most = age;
        }
    }
    if (oldest >= 0)
        cache_evict((unsigned)oldest, atomic_get(&cache[oldest].run, acquire));
}

/* The system may have memory for mappings again. */
static HKM_COLD void mend_holes(uint32_t now_ms) {
    for (unsigned i = 0; i < HOLES; i++) {
        uint32_t slot = atomic_swap(&holes[i], 0, acquire);
        if (slot != 0) {
            slot_head(slot)->moved = 1;
            retire(slot, now_ms);
            atomic_sub(&given_up, 1, relaxed);
        }
    }
}

/* `left`, the bytes that are yet to be found in the cache, less a run's. Entries behind the last
 * that holds some need not be looked at; one that another thread fills meanwhile may be missed. */
static size_t found(size_t left, uint64_t run) {
    size_t bytes = (size_t)(run & UINT32_MAX) * SLOT_BYTES;
    return bytes < left ? left - bytes : 0;
}

void large_decay(uint32_t now_ms, uint32_t age_ms) {
    if (unlikely(atomic_get(&given_up, relaxed) != 0))
        mend_holes(now_ms);
    size_t left = large_cached_bytes();
    for (unsigned i = 0; i < CACHE_ENTRIES && left > 0; i++) {
        uint64_t run = atomic_get(&cache[i].run, acquire);
        left = found(left, run);
        uint32_t age = os_elapsed_ms(now_ms, atomic_get(&cache[i].since_ms, relaxed));
        if (run != 0 && age >= age_ms)
            cache_evict(i, run);
    }
}

/* The smallest cached run that fits and wastes at most a quarter; 0 if there is none. */
static uint32_t cache_take(size_t slots, size_t alignment) {
    size_t left = large_cached_bytes();
    uint64_t best = 0;
    unsigned at = 0;
    for (unsigned i = 0; i < CACHE_ENTRIES && left > 0; i++) {
        uint64_t run = atomic_get(&cache[i].run, acquire);
        left = found(left, run);
        size_t count = run & UINT32_MAX;
        if (run != 0 && count >= slots && count <= slots + slots / 4 &&
            (best == 0 || count < (best & UINT32_MAX)) &&
            ((uintptr_t)arena_slot_start((uint32_t)(run >> 32)) & (alignment - 1)) == 0) {
            best = run;
            at = i;
        }
    }
    if (best == 0 || !cache_claim(at, best))
        return 0;
    return (uint32_t)(best >> 32);
}

/* Stows a CACHED run, or retires it if it is too large for the cache. */
static void cache_put(uint32_t slot) {
    size_t limit = (size_t)options.big_cache_mib << 20;
    size_t bytes = slot_head(slot)->run_slots * SLOT_BYTES;
    uint32_t now = os_clock_ms();
    if (bytes > limit / 4) {
        retire(slot, now);
        return;
    }
    for (int tries = 0; tries < 64 && large_cached_bytes() + bytes > limit; tries++)
        cache_evict_oldest(now);
    uint64_t run = (uint64_t)slot << 32 | slot_head(slot)->run_slots;
    for (int tries = 0; tries < 2; tries++) {
        for (unsigned i = 0; i < CACHE_ENTRIES; i++) {
            uint64_t empty = 0;
            if (atomic_get(&cache[i].run, relaxed) != 0)
                continue;
            atomic_put(&cache[i].since_ms, now, relaxed);
            atomic_add(&cached_bytes, bytes, relaxed); /* before it can be taken out again */
            if (atomic_cas(&cache[i].run, &empty, run, release, relaxed))
                return;
            atomic_sub(&cached_bytes, bytes, relaxed);
        }
        cache_evict_oldest(now);
    }
    retire(slot, now);
}

/* ---- huge pages ----
 *
 * A block may be touched here and there only, so new SuperSlabs get huge pages on credit: when the
 * next ones are taken, the part of a block that got small pages last tells by what is resident of
 * it whether the program fills what it gets, and so does the end of a block that is freed. A block
 * that was filled earns credit for 16 times as much, one that was not ends it. So a sparse program
 * stays with small pages, and one that becomes sparse wastes a few times what it had filled, at
 * most CREDIT_SLOTS_MAX or what is held; less where its blocks end within a SuperSlab, because some
 * of these pieces always have small pages.
 *
 * Of the first blocks of a program, while nothing is known of it, the first SuperSlab has small
 * pages and tells, and those behind it are huge, TRIAL of them in all: where only the beginning of
 * a block is touched, they are not. */

#define CREDIT_EACH 16u
#define CREDIT_SLOTS_MAX (uint32_t)(MIB(256) >> SLOT_SHIFT)
#define PIECE_SLOTS_MIN 8u  /* of a SuperSlab, that tell, or that a huge page pays for */
#define LOOK_EACH 4u        /* of so many last pieces one keeps small pages, ... */
#define LOOK_EACH_DEAR 16u  /* ... where a fault is dear */
#define SPARSE_SKIP_MAX 63u /* blocks without a look, where the program is sparse */
#define TRIAL 8u            /* SuperSlabs with huge pages before anything is known */

/* First slot of a block's part that has small pages << WATCH_SHIFT, slots to look at << 32, and how
 * many slots of the block that tells of. */
#define WATCH_SHIFT 38u
static ATOMIC(uint64_t) watched;
static ATOMIC(uint32_t) credit;  /* slots */
static ATOMIC(uint32_t) pieces, tried;
static struct superslab_looks looks; /* those that find sparse use are in vain */

/* How many of `slots` slots from here on lie in the same SuperSlab. */
static size_t here(uint32_t slot, size_t slots) {
    size_t most = SUPERSLAB_SLOTS - slot % SUPERSLAB_SLOTS;
    return most < slots ? most : slots;
}

/* Has the next placement look at `slots` slots of a block, or as many of them as lie in one
 * SuperSlab, which tell of `whole` slots. Not at so few that the unused rest of the last slot would
 * decide. */
static void watch(uint32_t first_slot, size_t slots, size_t whole) {
    uint64_t look = (uint64_t)first_slot << WATCH_SHIFT | here(first_slot, slots) << 32;
    if (slots >= PIECE_SLOTS_MIN)
        atomic_put(&watched, look | whole, relaxed);
}

/* What `count` slots tell of a block of `whole` slots; `untouched` is what it means if none of them
 * is resident. */
static void judge(uint32_t at, size_t count, size_t whole, enum superslab_use untouched) {
    if (!superslab_looks_due(&looks))
        return;
    enum superslab_use use = superslab_use(at, count);
    if (use == USE_UNKNOWN)
        use = untouched;
    if (use == USE_UNKNOWN)
        return;
    size_t sum = use == USE_SPARSE ? 0 : atomic_get(&credit, relaxed) + whole * CREDIT_EACH;
    size_t most = (size_t)superslab_held() * SUPERSLAB_SLOTS;
    most = most > CREDIT_SLOTS_MAX ? most : CREDIT_SLOTS_MAX;
    atomic_put(&credit, (uint32_t)(sum < most ? sum : most), relaxed);
    superslab_looks_done(&looks, use == USE_SPARSE, SPARSE_SKIP_MAX);
}

static void judge_watched(void) {
    uint64_t word = atomic_get(&watched, relaxed);
    if (word != 0 && atomic_cas(&watched, &word, 0, relaxed, relaxed))
        judge((uint32_t)(word >> WATCH_SHIFT), word >> 32 & (SUPERSLAB_SLOTS * 2 - 1),
              word & UINT32_MAX, USE_UNKNOWN); /* it may be touched yet */
}

/* By the last SuperSlab that holds more than a little of it; once, because what comes out of the
 * big cache is resident already. */
static void judge_freed(uint32_t slot) {
    struct slot_head *head = slot_head(slot);
    size_t slots = head->run_slots;
    if (head->fresh == 0 || slots < PIECE_SLOTS_MIN || options.large_pages != LARGE_PAGES_AUTO)
        return;
    head->fresh = 0;
    size_t from = (slots - PIECE_SLOTS_MIN) / SUPERSLAB_SLOTS * SUPERSLAB_SLOTS;
    uint32_t piece = slot + (uint32_t)from;
    if (atomic_get(&superslab_at(piece / SUPERSLAB_SLOTS)->pages, relaxed) == PAGES_SMALL)
        judge(piece, here(piece, slots - from), slots, USE_SPARSE);
}

/* How many of `count` SuperSlabs credit is there for; it is taken. */
static size_t spend(size_t count) {
    uint32_t have = atomic_get(&credit, relaxed);
    size_t take;
    do
        take = have / SUPERSLAB_SLOTS < count ? have / SUPERSLAB_SLOTS : count;
    while (!atomic_cas_weak(&credit, &have, have - (uint32_t)take * SUPERSLAB_SLOTS, relaxed,
                            relaxed));
    return take;
}

/* Chooses the pages of a block's SuperSlabs, of which the first `full` may be huge, while nothing
 * is known of the program; false otherwise, or when it has had its trial. */
static HKM_SELDOM bool try_out(uint32_t first, size_t count, size_t full) {
    uint32_t had = atomic_get(&tried, relaxed);
    if (had >= TRIAL || atomic_get(&credit, relaxed) > 0 || atomic_get(&looks.skip, relaxed) > 0)
        return false;
    size_t huge = full - 1 < TRIAL - had ? full - 1 : TRIAL - had;
    atomic_put(&tried, had + (uint32_t)huge, relaxed);
    superslab_make_small(first, 1);
    (void)superslab_make_huge(first + 1, huge);
    superslab_make_small(first + 1 + (uint32_t)huge, count - 1 - huge);
    watch(first * SUPERSLAB_SLOTS, SUPERSLAB_SLOTS, SUPERSLAB_SLOTS);
    return true;
}

/* Whether the piece of a block that lies in its last SuperSlab may have a huge page. */
static HKM_SELDOM bool last_may_be_huge(size_t piece) {
    if (options.large_pages == LARGE_PAGES_ON)
        return piece >= PIECE_SLOTS_MIN;
    bool dear = prefault_pays();
    bool pays = dear && piece > 0 && huge_affords(SUPERSLAB_SLOTS - piece);
    return (pays || piece >= PIECE_SLOTS_MIN) &&
           atomic_add(&pieces, 1, relaxed) % (dear ? LOOK_EACH_DEAR : LOOK_EACH) != 0;
}

/* Chooses the pages of SuperSlabs that were just taken for `slots` slots. */
static HKM_COLD void choose_pages(uint32_t first, size_t count, size_t slots) {
    judge_watched();
    bool always = options.large_pages == LARGE_PAGES_ON;
    size_t full = last_may_be_huge(slots % SUPERSLAB_SLOTS) ? count : slots / SUPERSLAB_SLOTS;
    size_t huge = 0;
    if (full >= 2 && options.large_pages == LARGE_PAGES_AUTO && try_out(first, count, full))
        return;
    if (always) {
        huge = full;
        (void)superslab_make_huge(first, huge);
    } else if (options.large_pages == LARGE_PAGES_AUTO) {
        huge = spend(full);
        size_t made = superslab_make_huge(first, huge);
        atomic_add(&credit, (uint32_t)(huge - made) * SUPERSLAB_SLOTS, relaxed);
    }
    superslab_make_small(first + (uint32_t)huge, count - huge);
    if (huge < count && atomic_get(&superslab_at(first + huge)->dirty, relaxed) == 0)
        watch((first + (uint32_t)huge) * SUPERSLAB_SLOTS, slots - huge * SUPERSLAB_SLOTS, slots);
}

/* Whether the last block that was looked at was touched here and there only. */
static bool is_sparse(void) {
    return atomic_get(&credit, relaxed) == 0 && atomic_get(&looks.skip, relaxed) != 0;
}

/* ---- placing ---- */

#define STEP_SLOTS_MAX (MIB(32) >> SLOT_SHIFT)

/* Of a block that is touched here and there, that is mostly the beginning. A sparse program's
 * blocks start at multiples of their length, rounded up to a power of two: the pages that a new one
 * touches are those of one that started there before. */
static size_t slots_between_starts(size_t slots) {
    if (!is_sparse())
        return 1;
    size_t step = 1;
    while (step < slots && step < STEP_SLOTS_MAX)
        step *= 2;
    return step;
}

/* Claims a run; 0 when there is none. */
static uint32_t claim(size_t slots, size_t alignment) {
    static struct superslab_search search;
    bool fits = slots <= SUPERSLAB_SLOTS && alignment <= SLOT_BYTES;
    size_t step = slots_between_starts(slots);
    size_t over = step > slots ? step - slots : 0;
    uint32_t first = 0;
    if (fits)
        first = superslab_claim_open(&search, (unsigned)(slots + over), step > 1, 64);
    if (first == 0) {
        size_t count = (slots + SUPERSLAB_SLOTS - 1) / SUPERSLAB_SLOTS;
        size_t at = step * SLOT_BYTES;
        int error;
        first = superslab_take(count, at > alignment ? at : alignment, &error) * SUPERSLAB_SLOTS;
        if (first == 0 && at > alignment)
            first = superslab_take(count, alignment, &error) * SUPERSLAB_SLOTS;
        if (first == 0)
            return fits ? superslab_claim_any((unsigned)slots, false) : 0;
        choose_pages(first / SUPERSLAB_SLOTS, count, slots);
        over = count * SUPERSLAB_SLOTS - slots;
        if (over > 0)
            atomic_put(&search.newest, first / SUPERSLAB_SLOTS + (uint32_t)count - 1, relaxed);
    }
    if (over > 0)
        superslab_release(first + (uint32_t)slots, over, os_clock_ms());
    return first;
}

static uint32_t place(size_t slots, size_t alignment, size_t bytes, bool *clean) {
    if (slots >= arena.slot_count)
        return 0;
    uint32_t slot = claim(slots, alignment);
    if (slot == 0)
        return 0;
    *clean = superslab_soil(slot, slots);
    if (*clean) {
        prefault_time(slot);
        if (slots < SUPERSLAB_SLOTS && slot >= SUPERSLAB_SLOTS && prefault_pays())
            (void)huge_later(slot, (unsigned)slots);
    }
    struct slot_head *head = slot_head(slot);
    head->fresh = *clean;
    head->run_slots = (uint32_t)slots;
    head->large_bytes = bytes;
    head->moved = 0;
    set_entries(slot, 1, CLASS_LARGE_HEAD);
    set_entries(slot + 1, slots - 1, CLASS_LARGE_TAIL);
    hkm_require(slot_change(slot, SLOT_UNUSED, SLOT_LARGE), "U3 a claimed slot is UNUSED", head);
    return slot;
}

void *large_alloc(size_t bytes, size_t alignment, bool *clean, bool *cached) {
    bytes = round_up(bytes == 0 ? 1 : bytes, os_page_bytes());
    size_t slots = slots_for(bytes);
    uint32_t slot = cache_take(slots, alignment);
    *cached = slot != 0;
    *clean = false;
    if (slot != 0) {
        struct slot_head *head = slot_head(slot);
        head->large_bytes = bytes;
        hkm_require(slot_change(slot, SLOT_CACHED, SLOT_LARGE), "L3 a cached run is CACHED", head);
    } else {
        if (large_cached_bytes() > 0)
            large_decay(os_clock_ms(), 0); /* what lies there can serve this size in pieces */
        slot = place(slots, alignment, bytes, clean);
        if (slot == 0)
            return NULL;
    }
    atomic_add(&live_blocks, 1, relaxed);
    atomic_add(&live_bytes, bytes, relaxed);
    return arena_slot_start(slot);
}

/* Whether all pages that the block has are small ones: a part of a huge one is not given back. */
static bool has_small_pages(uint32_t slot) {
    uint32_t last = (slot + slot_head(slot)->run_slots - 1) / SUPERSLAB_SLOTS;
    uint32_t at = slot / SUPERSLAB_SLOTS;
    while (at <= last && atomic_get(&superslab_at(at)->pages, relaxed) == PAGES_SMALL)
        at++;
    return at > last;
}

/* In a sparse program the pages go back to the OS, whose next ones are zero: to write the zeros
 * would make all of the block resident. It tells again by its next free. */
void large_clear(uint32_t slot, size_t bytes) {
    char *block = arena_slot_start(slot);
    if (is_sparse() && has_small_pages(slot) && os_purge(block, large_bytes_of(slot)) == 0)
        slot_head(slot)->fresh = 1;
    else
        memset(block, 0, bytes);
}

bool large_free(uint32_t slot) {
    size_t bytes = large_bytes_of(slot);
    if (!slot_change(slot, SLOT_LARGE, SLOT_CACHED))
        return false;
    atomic_sub(&live_blocks, 1, relaxed);
    atomic_sub(&live_bytes, bytes, relaxed);
    judge_freed(slot);
    cache_put(slot);
    return true;
}

/* ---- resizing ---- */

/* Claims exactly the slots [next, next + count), behind the run at `slot` that the caller holds. */
static bool claim_behind(uint32_t slot, uint32_t next, size_t count) {
    if (count > arena.slot_count - next)
        return false;
    unsigned at = next % SUPERSLAB_SLOTS;
    size_t here = at == 0 ? 0 : SUPERSLAB_SLOTS - at;
    if (here > count)
        here = count;
    if (here > 0 &&
        !superslab_claim_mask(next / SUPERSLAB_SLOTS, bits_below32((unsigned)here) << at))
        return false;
    size_t rest = count - here;
    if (rest == 0)
        return true;
    uint32_t from = (next + (uint32_t)here) / SUPERSLAB_SLOTS;
    size_t superslabs = (rest + SUPERSLAB_SLOTS - 1) / SUPERSLAB_SLOTS;
    if (superslab_take_at(from, superslabs) != 0) {
        if (here > 0)
            superslab_release(next, here, os_clock_ms());
        return false;
    }
    if (next - slot >= 2 * SUPERSLAB_SLOTS) /* the last SuperSlab that is all its own tells */
        watch((next / SUPERSLAB_SLOTS - 1) * SUPERSLAB_SLOTS, SUPERSLAB_SLOTS, next - slot);
    choose_pages(from, superslabs, rest);
    size_t over = superslabs * SUPERSLAB_SLOTS - rest;
    if (over > 0)
        superslab_release(next + (uint32_t)count, over, os_clock_ms());
    return true;
}

bool large_resize(uint32_t slot, size_t bytes) {
    bytes = round_up(bytes, os_page_bytes());
    struct slot_head *head = slot_head(slot);
    size_t slots = slots_for(bytes);
    size_t have = head->run_slots;
    if (slots > have) {
        uint32_t next = slot + (uint32_t)have;
        if (!claim_behind(slot, next, slots - have))
            return false;
        (void)superslab_soil(next, slots - have);
        set_entries(next, slots - have, CLASS_LARGE_TAIL);
        head->run_slots = (uint32_t)slots;
    } else if (slots < have) {
        head->run_slots = (uint32_t)slots;
        uint32_t tail = slot + (uint32_t)slots;
        if (head->moved == 0)
            release(tail, have - slots, os_clock_ms());
        else
            retire_tail(tail, have - slots);
    }
    atomic_add(&live_bytes, bytes - head->large_bytes, relaxed);
    head->large_bytes = bytes;
    return true;
}

void *large_move(uint32_t slot, size_t bytes) {
    bytes = round_up(bytes, os_page_bytes());
    size_t slots = slots_for(bytes);
    bool clean;
    uint32_t to = place(slots + slots / 8, SLOT_BYTES, bytes, &clean); /* room to grow into */
    if (to == 0)
        to = place(slots, SLOT_BYTES, bytes, &clean);
    if (to == 0)
        return NULL;
    struct slot_head *head = slot_head(slot);
    size_t old = head->large_bytes;
    /* not while a run is left unmapped: what kept it from being filled would do so again */
    bool by_pages = old > (clean ? COPY_BYTES : COPY_BYTES_WARM) &&
                    atomic_get(&given_up, relaxed) == 0;
    bool moved = by_pages && os_move(arena_slot_start(slot), arena_slot_start(to), old) == 0;
    if (by_pages && !moved && os_renew(arena_slot_start(to), slots * SLOT_BYTES) != 0 &&
        os_commit(arena_slot_start(to), slots * SLOT_BYTES) != 0) {
        /* a failed move may leave a hole at its target, which can not be filled now */
        (void)slot_change(to, SLOT_LARGE, SLOT_CACHED);
        give_up(to);
        return NULL;
    }
    if (!moved)
        memcpy(arena_slot_start(to), arena_slot_start(slot), old);
    slot_head(to)->moved = moved;
    hkm_require(slot_change(slot, SLOT_LARGE, SLOT_CACHED), "L4 a block that moves is LARGE", head);
    if (moved && head->moved == 0 && old == head->run_slots * SLOT_BYTES)
        superslab_wash(slot, head->run_slots, false); /* its pages are gone */
    retire(slot, os_clock_ms());
    atomic_add(&live_bytes, bytes - old, relaxed);
    return arena_slot_start(to);
}

struct large_innards large_innards(unsigned entry) {
    return (struct large_innards){entry < CACHE_ENTRIES ? &cache[entry].run : NULL, &cached_bytes,
                                  &live_blocks, &live_bytes, atomic_get(&given_up, relaxed)};
}
