/* walk.c -- the walk's order: fixed parts, sets, heaps, slots, what hangs on them; see walk.h. */
#include "check/walk.h"

#include <string.h>

#include "check/quarantine.h"
#include "core/large.h"
#include "core/life.h"
#include "core/options.h"

/* ---- fixed parts ---- */

static void walk_arena(void) {
    must_equal(A7, arena.base + arena_bytes() - 1, arena.last, &arena.last);
    must_equal(A7, 0, arena.base % SUPERSLAB_BYTES, &arena.base);
    must_equal(A8, arena_bytes() >> SLOT_SHIFT, arena.slot_count, &arena.slot_count);
    must_equal(A9, arena_bytes() >> SUPERSLAB_SHIFT, arena.superslab_count, &arena.superslab_count);
    static const unsigned granules[] = {4, 5, 7};
    for (unsigned i = 0; i < 3; i++)
        must_equal(A10, granules[i], arena.live[granules[i]] & 63, &arena.live[granules[i]]);
    struct arena_innards in = arena_innards();
    size_t used = atomic_get(in.metadata_used, relaxed);
    size_t committed = atomic_get(in.metadata_committed, acquire);
    must_hold(A11, used <= committed && committed <= in.metadata_bytes, "used <= committed", "not",
              arena.metadata);
    /* Where lay_out (arena.c) puts it. */
    size_t live = round_up(arena.slot_count * (SLOT_BYTES >> 7) + 64, KIB(64));
    must_equal(A11, (uintptr_t)arena.slots + live + KIB(64), (uintptr_t)arena.metadata,
               &arena.metadata);
    struct superslab *first = superslab_at(0);
    must_equal(A12, 0, atomic_get(arena_class_entry(0), relaxed), arena_slot_start(0));
    must_equal(A12, 0, atomic_get(&first->unused, relaxed) & 1, first);
    must_equal(A12, SLOT_UNUSED, atomic_get(&first->heads[0].state, relaxed), &first->heads[0]);
}

static void walk_class(unsigned class) {
    const struct sizeclass *sc = &sizeclass_table[class];
    size_t below = class == 1 ? 0 : sizeclass_table[class - 1].bytes;
    must_equal(C2, 0, sc->bytes % BLOCK_ALIGN, sc);
    must_hold(C1, below < sc->bytes && sc->bytes <= SMALL_BYTES_MAX, "sizes that ascend", "not",
              sc);
    must_equal(C1, class, sizeclass_of(sc->bytes), sc);
    must_equal(C1, class, sizeclass_of(below + 1), sc);
    must_hold(C4, sc->live_shift < 16 && (size_t)1 << sc->live_shift <= sc->bytes,
              "granule <= block", "granule > block", sc);
    must_hold(C6, is_power_of_two(sc->run_slots) && sc->run_slots <= SUPERSLAB_SLOTS,
              "a power of two", "not", sc);
    must_equal(C6, sc->run_slots * SLOT_BYTES / sc->bytes, sc->capacity, sc);
    for (unsigned index = 0; index < sc->capacity; index++) {
        size_t offset = (size_t)index * sc->bytes;
        must_equal(C3, index, sizeclass_index(class, offset), sc);
        must_equal(C3, index, sizeclass_index(class, offset + sc->bytes - 1), sc);
    }
}

static void walk_classes(void) {
    for (unsigned class = 1; class < CLASS_COUNT; class ++)
        walk_class(class);
    for (size_t i = 0; i <= FAST_BYTES_MAX / 16; i++)
        must_equal(C5, sizeclass_of(i * 16), sizeclass_fast[i] >> MAGAZINE_SHIFT,
                   &sizeclass_fast[i]);
}

/* ---- SuperSlabs ---- */

/* os_peek asks the system, which a sandbox may forbid: then nothing can be said. Nor is it asked of
 * what is not in use: there are kernels without a page of zeros, where a look makes memory that was
 * given back resident again, and all of a huge page. */
static bool can_peek(void) {
    char from = 1;
    char to = 0;
    return os_peek(&from, &to, 1);
}

/* A run that a call without success left unmapped (large.c). */
static bool is_given_up(const char *start) {
    return large_innards(0).given_up > 0 &&
           arena_class_of_slot(arena_slot_of(start)) >= CLASS_LARGE_HEAD &&
           slot_state(large_run_of(start)) == SLOT_CACHED;
}

/* Beside other threads one may be about to map a run anew which a call has unmapped, and failed. */
static bool is_readable(const struct walk *w, const char *start) {
    char byte;
    for (unsigned attempt = 0; !os_peek(start, &byte, 1) && !is_given_up(start); attempt++) {
        if (w->quiet || attempt == 256)
            return false;
        os_backoff(attempt);
    }
    return true;
}

static void walk_commits(const struct walk *w) {
    struct arena_innards maps = arena_innards();
    bool peek = can_peek();
    for (uint32_t i = 0; i < superslab_top(); i++) {
        if (!superslab_is_committed(i))
            continue;
        size_t chunk = (size_t)i * SUPERSLAB_SLOTS / META_CHUNK_SLOTS;
        bool has_maps =
            (atomic_get(&maps.chunks_committed[chunk >> 6], acquire) & bitset_bit(chunk)) != 0;
        must_hold(A1, has_maps, "its maps committed", "not committed", superslab_at(i));
        char *start = arena_slot_start(i * SUPERSLAB_SLOTS);
        bool look = peek && (superslab_in_use(i) || os_resident(start, os_page_bytes()) != 0);
        must_hold(A4, !look || is_readable(w, start), "readable", "inaccessible", start);
    }
}

static void walk_known(void) {
    struct superslab_innards in = superslab_innards();
    uint32_t top = atomic_get(in.top, relaxed);
    uint32_t known = atomic_get(in.known, relaxed);
    must_hold(U10, top <= known && known <= arena.superslab_count, "top <= known <= count", "not",
              in.known);
    size_t end = arena.superslab_count;
    size_t beyond = bitset_next_set(superslab_avail, known, end);
    must_hold(U10, beyond == end, "unknown", "available", arena.superslabs - 1 - beyond);
    size_t held = bitset_next_clear(superslab_avail, top, known);
    must_hold(U9, held == known, "available", "held", arena.superslabs - 1 - held);
    uint32_t first = atomic_get(in.first_avail, relaxed);
    if (os_single_threaded() && !life_lost_threads())
        must_hold(U11, bitset_next_set(superslab_avail, 1, first) >= first || first > known,
                  "first_avail or later", "earlier", in.first_avail);
}

static void walk_set(struct walk *w, uint32_t i) {
    bool committed = superslab_is_committed(i);
    bool avail = bitset_test(superslab_avail, i);
    bool warm = bitset_test(superslab_warm, i);
    bool open = bitset_test(superslab_open, i);
    const void *about = superslab_at(i);
    must_hold(U13, committed || (avail && !warm), "committed", "not committed", about);
    must_hold(U5, avail || !warm, "held", "warm", about);
    if (!committed)
        return; /* its record may not exist */
    struct superslab *ss = superslab_at(i);
    uint32_t unused = atomic_get(&ss->unused, relaxed);
    uint32_t dirty = atomic_get(&ss->dirty, relaxed);
    if (avail) {
        must_equal(U1, 0, unused, about);
        must_equal(U6, dirty != 0, warm, about);
        w->idle_dirty += bits_count(dirty);
    } else {
        w->idle_dirty += bits_count(dirty & unused);
    }
    must_hold(U7, avail || unused == 0 || open, "open", "not open", about);
    must_hold(U8, !open || (!avail && unused != 0), "not open", "open", about);
}

static void walk_sets(struct walk *w) {
    walk_known();
    for (uint32_t i = 0; i < superslab_top(); i++)
        walk_set(w, i);
    must_equal(U4, w->idle_dirty * SLOT_BYTES, superslab_idle_dirty(),
               superslab_innards().idle_dirty);
}

/* ---- slots ---- */

/* Under AddressSanitizer what is left of a redzone may be poisoned still; it is not a program's
 * access. */
__attribute__((no_sanitize_address)) static bool all_zero(const char *from, size_t bytes) {
    const char *end = from + bytes;
    uint64_t any = 0;
    for (uint64_t word; from + sizeof word <= end; from += sizeof word) {
        memcpy(&word, from, sizeof word);
        any |= word;
    }
    for (; from < end; from++)
        any |= (unsigned char)*from;
    return any == 0;
}

/* Of memory that is zero unless it was used, only what is resident is read, if the system tells:
 * where a kernel has no page of zeros, a look would make all of it resident. */
static bool is_clean(const struct walk *w, char *from, size_t bytes) {
    size_t page = os_page_bytes();
    char *end = from + bytes;
    char *first = (char *)round_down((uintptr_t)from, page);
    size_t span = round_up((size_t)(end - first), page);
    size_t resident = w->told_resident ? os_resident(first, span) : span;
    if (resident == 0 || resident == span)
        return resident == 0 || all_zero(from, bytes);
    for (char *at = from; at < end; first += page) {
        char *next = first + page < end ? first + page : end;
        if (os_resident(first, page) != 0 && !all_zero(at, (size_t)(next - at)))
            return false;
        at = next;
    }
    return true;
}

/* The live bytes of a slot in one of the three maps; granules start at multiples of 128 bytes. */
static bool no_live_byte(const struct walk *w, uint32_t slot, unsigned granule) {
    uintptr_t start = (uintptr_t)arena_slot_start(slot);
    return is_clean(w, (char *)(arena.live[granule] + (start >> granule)), SLOT_BYTES >> granule);
}

/* Of a slot that is not all zeros. */
static HKM_COLD void note_first_byte(const char *start) {
    const char *at = start;
    while (at < start + SLOT_BYTES - 1 && all_zero(at, 1))
        at++;
    fault_note("first wrong byte at ", at, at - start);
}

static void walk_unused(const struct walk *w, uint32_t slot, bool dirty) {
    char *start = arena_slot_start(slot);
    must_equal(A2, 0, atomic_get(arena_class_entry(slot), relaxed), start);
    unsigned state = atomic_get(&slot_head(slot)->state, relaxed);
    must_hold(U3, state == SLOT_UNUSED, "UNUSED",
              state < SLOT_STATES ? slot_state_name[state] : "no known state", start);
    bool dead = no_live_byte(w, slot, 4) && no_live_byte(w, slot, 5) && no_live_byte(w, slot, 7);
    must_hold(A6, dead, "0", "a live byte", start);
    bool clean = dirty || is_clean(w, start, SLOT_BYTES);
    if (HKM_CHECK_LEVEL >= 1 && unlikely(!clean))
        note_first_byte(start);
    must_hold(U2, clean, "zeros", "something else", start);
}

/* One slot that is held, or the run that starts there; the number of slots. */
static uint32_t walk_held(struct walk *w, uint32_t slot) {
    const char *start = arena_slot_start(slot);
    uint32_t entry = atomic_get(arena_class_entry(slot), relaxed);
    unsigned class = (uint16_t)entry >> MAGAZINE_SHIFT;
    must_hold(A13, (entry & ((1u << MAGAZINE_SHIFT) - 1)) == 0 && class < CLASS_MAP_VALUES,
              "the offset of a magazine", "another value", start);
    if (class >= CLASS_COUNT) {
        must_hold(L1, class == CLASS_LARGE_HEAD, "LARGE_HEAD", "LARGE_TAIL", start);
        return walk_large(w, slot);
    }
    must_hold(U15, class != 0, "in a run", "in no run", start);
    must_equal(S22, 0, slot % sizeclass_table[class].run_slots, start);
    walk_run(w, slot, class);
    return sizeclass_table[class].run_slots;
}

/* Everything, when nobody else is at it. */
static void walk_slots(struct walk *w) {
    for (uint32_t slot = 1; slot < w->slots;) {
        uint32_t superslab = slot / SUPERSLAB_SLOTS;
        if (!superslab_is_committed(superslab)) {
            slot = (superslab + 1) * SUPERSLAB_SLOTS;
            continue;
        }
        struct superslab *ss = superslab_at(superslab);
        uint32_t bit = UINT32_C(1) << slot % SUPERSLAB_SLOTS;
        if (bitset_test(superslab_avail, superslab)) {
            must_equal(U14, 0, atomic_get(arena_class_entry(slot), relaxed), ss);
            must_equal(U14, SLOT_UNUSED, atomic_get(&slot_head(slot)->state, relaxed), ss);
            slot++;
        } else if ((atomic_get(&ss->unused, relaxed) & bit) != 0) {
            walk_unused(w, slot, (atomic_get(&ss->dirty, relaxed) & bit) != 0);
            slot++;
        } else {
            slot += walk_held(w, slot);
        }
    }
}

/* Whether it is the heap's, whose lock is held, and not just being carved or popped for it by a
 * thread that borrowed the heap, and left the lock for that. */
static bool is_own(const struct heap *mine, uint32_t slot, unsigned class) {
    return atomic_get(&slot_at(slot)->owner, acquire) == mine->id &&
           (slot_state(slot) == SLOT_ACTIVE || mine->bins[class].empty == slot) &&
           arena_class_of_slot(slot) == class;
}

/* The runs that the caller's own heap owns, when threads run. */
static void walk_own_runs(struct walk *w) {
    for (uint32_t slot = 1; w->mine != NULL && slot < w->slots;) {
        unsigned class = superslab_in_use(slot / SUPERSLAB_SLOTS) ? arena_class_of_slot(slot) : 0;
        uint32_t step = 1;
        if (class != 0 && class < CLASS_COUNT && slot % sizeclass_table[class].run_slots == 0 &&
            is_own(w->mine, slot, class)) {
            walk_run(w, slot, class);
            step = sizeclass_table[class].run_slots;
        }
        slot += step;
    }
}

/* ---- all of it ---- */

static size_t scratch_bytes(const struct walk *w) {
    return round_up((size_t)w->slots * (SLOT_BLOCKS_MAX / 8) + w->slots / 8 + 8, os_page_bytes());
}

static void take_scratch(struct walk *w) {
    size_t bytes = scratch_bytes(w);
    char *start = os_reserve(bytes);
    if (start == NULL)
        return;
    if (os_commit(start, bytes) != 0) {
        os_unreserve(start, bytes);
        return;
    }
    w->cached = (uint64_t *)(void *)start;
    w->listed = (uint64_t *)(void *)(start + (size_t)w->slots * (SLOT_BLOCKS_MAX / 8));
}

/* A sandbox may not say what is resident: the page that `here` lies in is. */
static bool tells_resident(void) {
    char here = 0;
    void *page = (void *)round_down((uintptr_t)&here, os_page_bytes());
    here = 1;
    return os_resident(page, os_page_bytes()) != 0;
}

static void walk_quiet(struct walk *w) {
    w->told_resident = tells_resident();
    walk_sets(w);
    walk_heaps(w);
    walk_slots(w);
    walk_pool(w);
    walk_cache(w);
    walk_counters(w);
    if (HKM_CHECK_LEVEL >= 1)
        quarantine_walk();
}

size_t walk_all(size_t *looked_at) {
    struct walk w = {0};
    if (arena_bytes() == 0)
        return 0;
    struct os_signals signals;
    os_signals_block(&signals);
    struct heap *mine = life_heap_if_any();
    bool alone = (os_single_threaded() || options.check_quiet != 0) && !life_lost_threads();
    if (mine != NULL && alone) { /* nobody would ever let go of it */
        uintptr_t holder = atomic_get(&mine->lock, relaxed);
        must_hold(H13, holder == 0 || holder == os_thread_token(), "no lock", "a holder", mine);
    }
    bool inside = mine == NULL && heap_mine != &heap_none && heap_mine != &heap_gone;
    if (mine != NULL && heap_enter_own(mine))
        w.mine = mine;
    else
        inside = inside || mine != NULL; /* a handler that interrupted its own slow path */
    w.quiet = alone && !inside;
    w.slots = superslab_top() * SUPERSLAB_SLOTS;
    if (w.quiet)
        take_scratch(&w);
    walk_arena();
    walk_classes();
    walk_commits(&w);
    if (w.quiet) {
        walk_quiet(&w);
    } else {
        walk_heaps(&w);
        walk_own_runs(&w);
    }
    if (w.cached != NULL)
        os_unreserve(w.cached, scratch_bytes(&w));
    if (w.mine != NULL)
        heap_leave_own(w.mine);
    os_signals_restore(&signals);
    if (looked_at != NULL)
        *looked_at = w.looked_at;
    return w.live_blocks;
}
