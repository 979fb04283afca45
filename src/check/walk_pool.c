/* walk_pool.c -- what all heaps share: stage 1, the big cache, the counters; see walk.h. */
#include "base/bitset.h"
#include "check/walk.h"
#include "core/large.h"
#include "core/pool.h"

static void walk_stack(struct walk *w, unsigned class) {
    struct pool_innards in = pool_innards(class);
    uint32_t number = (uint32_t)atomic_get(in.head, acquire);
    uint32_t length = 0;
    while (number != 0) {
        must_hold(P4, number < w->slots && number % sizeclass_table[class].run_slots == 0,
                  "a run's number", "another", in.head);
        must_hold(P3, length++ <= w->slots, "an end", "a ring", in.head);
        struct slot *slot = slot_at(number);
        must_hold(P1, slot_state(number) == SLOT_EMPTY, "EMPTY", "another state", slot);
        must_hold(P1, atomic_get(&slot->owner, relaxed) == 0, "no owner", "an owner", slot);
        must_equal(P1, class, slot->class, slot);
        number = atomic_get(&slot->stack_next, relaxed);
    }
    uint32_t count = atomic_get(in.count, relaxed);
    must_hold(P2, count <= in.count_max + heap_count(), "at most 1 MiB", "more", in.count);
    must_equal(P3, length, count, in.count);
    must_equal(P5, length, w->ownerless[class], in.head);
}

void walk_pool(struct walk *w) {
    for (unsigned class = 1; class < CLASS_COUNT; class ++)
        walk_stack(w, class);
}

void walk_cache(struct walk *w) {
    struct large_innards in;
    size_t bytes = 0;
    uint32_t runs = 0;
    for (unsigned i = 0; (in = large_innards(i)).run != NULL; i++) {
        uint64_t run = atomic_get(in.run, acquire);
        if (run == 0)
            continue;
        uint32_t slot = (uint32_t)(run >> 32);
        must_hold(L8,
                  slot < w->slots && arena_class_of_slot(slot) == CLASS_LARGE_HEAD &&
                      slot_state(slot) == SLOT_CACHED,
                  "CACHED", "another state", in.run);
        must_equal(L9, slot_head(slot)->run_slots, run & UINT32_MAX, slot_head(slot));
        for (unsigned k = 0; k < i; k++)
            must_hold(L10, atomic_get(large_innards(k).run, relaxed) != run, "once", "twice",
                      slot_head(slot));
        bytes += (size_t)(run & UINT32_MAX) * SLOT_BYTES;
        runs++;
    }
    must_equal(L3, w->cached_runs, runs + in.given_up, in.cached_bytes);
    must_equal(N8, bytes, atomic_get(in.cached_bytes, relaxed), in.cached_bytes);
}

static size_t count_set(bitset_word *set, size_t end) {
    size_t count = 0;
    for (size_t i = bitset_next_set(set, 0, end); i < end; i = bitset_next_set(set, i + 1, end))
        count++;
    return count;
}

void walk_counters(struct walk *w) {
    struct superslab_innards ss = superslab_innards();
    struct heap_innards heaps = heap_innards();
    struct large_innards large = large_innards(0);
    size_t ahead = superslab_top() + (MIB(64) >> SUPERSLAB_SHIFT);
    size_t end = ahead < arena.superslab_count ? ahead : arena.superslab_count;
    must_equal(N1, count_set(ss.committed, end) << SUPERSLAB_SHIFT,
               atomic_get(ss.committed_bytes, relaxed), ss.committed_bytes);
    must_equal(N2, count_set(superslab_warm, end), atomic_get(ss.warm_count, relaxed),
               ss.warm_count);
    must_equal(N3, count_set(heaps.orphans, heap_count()), atomic_get(heaps.orphan_count, relaxed),
               heaps.orphan_count);
    must_equal(N6, w->large_blocks, atomic_get(large.live_blocks, relaxed), large.live_blocks);
    must_equal(N7, w->large_bytes, atomic_get(large.live_bytes, relaxed), large.live_bytes);
}
