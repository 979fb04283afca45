/* test_heap.c -- fill, flush and drain; blocks between heaps; orphans, adoption, lost heaps. */
#include <signal.h>

#include "unit/unit.inc"

#include "core/heap.h"
#include "core/options.h"
#include "core/pool.h"

static void *blocks[40000];

static void start_arena(size_t bytes) { check(arena_init(bytes) == 0); }

static struct heap *new_heap(void) {
    struct heap *heap = heap_acquire();
    check(heap != NULL && heap_by_number(heap->number) == heap);
    return heap;
}
static void *fill(struct heap *heap, unsigned class) {
    check(heap_enter(heap));
    void *block = heap_fill(heap, class);
    heap_leave(heap);
    return block;
}
static void flush(struct heap *heap, unsigned class, void *block) {
    check(heap_enter(heap));
    heap_flush(heap, class, block);
    heap_leave(heap);
}
static void send_home(struct heap *heap, unsigned class, void **out, unsigned count) {
    check(heap_enter(heap));
    check(heap_send_home(heap, class, out, count) == 0);
    heap_leave(heap);
}
static void drain(struct heap *heap, bool all) {
    check(heap_enter(heap));
    heap_drain(heap, all ? DRAIN_ALL : DRAIN_AGED);
    heap_leave(heap);
}
static uint64_t stage(struct heap *heap, unsigned i) {
    return atomic_get(&heap->stats.slots_stage[i], relaxed);
}
static size_t held(const struct magazine *m) {
    return (size_t)(atomic_get(&m->top, relaxed) - m->base);
}
/* How many blocks of the class packets hold. */
static size_t packets_hold(unsigned class, struct packet *packet) {
    size_t count = 0;
    for (; packet != NULL; packet = atomic_get(&packet->next, relaxed)) {
        check(packet->group == packet_group(class));
        for (unsigned i = 0; i < packet->count; i++)
            count += packet_class_of(packet->group, packet->blocks[i]) == class;
    }
    return count;
}
static struct packet *inbox(struct heap *heap, unsigned class) {
    return atomic_get(&heap->inbox[packet_group(class)], acquire);
}
static size_t inbox_holds(struct heap *heap, unsigned class) {
    return packets_hold(class, inbox(heap, class));
}
static size_t gathered(const struct heap *heap, unsigned class) {
    return atomic_get(&heap->away[packet_group(class)].count, relaxed);
}
static void send_later(struct heap *heap, unsigned class, void *block) {
    check(heap_enter(heap));
    heap_flush_away(heap, class, block);
    heap_leave(heap);
}
static void *take_one(struct heap *heap, unsigned class) {
    check(heap_enter(heap));
    void *block = heap_take_one(heap, class);
    heap_leave(heap);
    return block;
}

/* H1..H3 and S1..S4 of one class of a heap; blocks that are cached or waiting there. */
static size_t check_heap_class(struct heap *heap, unsigned class) {
    const struct magazine *m = &heap->magazines[class];
    const struct bin *bin = &heap->bins[class];
    check(held(m) <= m->cap && m->cap <= m->cap_max, "H1 class %u", class);
    uint32_t prev = 0;
    for (uint32_t s = bin->head; s != 0; prev = s, s = slot_at(s)->next) {
        check(slot_state(s) == SLOT_ACTIVE && slot_at(s)->class == class, "S2 class %u", class);
        check(atomic_get(&slot_at(s)->owner, relaxed) == heap->id && slot_at(s)->prev == prev,
              "H2");
        check(slot_free(slot_at(s)) > 0 && slot_free(slot_at(s)) < slot_at(s)->capacity + 1u, "S2");
    }
    check(bin->tail == prev, "the list's end");
    if (bin->empty != 0)
        check(slot_state(bin->empty) == SLOT_EMPTY &&
                  slot_free(slot_at(bin->empty)) == slot_at(bin->empty)->capacity,
              "H3 S3");
    return held(m) + packets_hold(class, heap->bins[packet_group(class)].stash) +
           inbox_holds(heap, class);
}

/* Every block of the class is in a bitmap, in a cache or with the program: the last is returned. */
static size_t live_blocks(unsigned class) {
    size_t out = 0;
    size_t cached = 0;
    for (uint32_t s = 1; s < superslab_top() * SUPERSLAB_SLOTS;) {
        uint32_t step = 1;
        if (arena_class_of_slot(s) == class) {
            const struct slot *slot = slot_at(s);
            unsigned bits = 0;
            for (unsigned w = 0; w < slot_words(slot); w++)
                bits += bits_count(slot->bits[w]);
            check(bits == slot_free(slot), "S1 slot %u", s);
            out += slot->capacity - bits;
            step = sizeclass_table[class].run_slots;
        }
        s += step;
    }
    for (uint32_t i = 0; i < heap_count(); i++)
        cached += check_heap_class(heap_by_number(i), class);
    check(out >= cached, "class %u: %zu out of bitmaps, %zu cached", class, out, cached);
    return out - cached;
}

/* ---- one heap ---- */

Test(heap, every_class_fills_flushes_and_drains_without_losing_a_block) {
    start_arena(GIB(1));
    struct heap *heap = new_heap();
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        unsigned count = 2 * sizeclass_table[class].capacity + 3;
        size_t bytes = sizeclass_bytes(class);
        count = unit_is_slow() && count > 300 ? 300 : count;
        for (unsigned i = 0; i < count; i++) {
            blocks[i] = fill(heap, class);
            check(blocks[i] != NULL && (uintptr_t)blocks[i] % 16 == 0);
            *(unsigned *)blocks[i] = i;
            memset((char *)blocks[i] + bytes - 8, (int)(i & 127), 8);
        }
        check(live_blocks(class) == count, "class %u", class);
        for (unsigned i = 0; i < count; i++)
            check(*(unsigned *)blocks[i] == i && ((char *)blocks[i])[bytes - 1] == (char)(i & 127),
                  "class %u: block %u overlaps another", class, i);
        for (unsigned i = 0; i < count; i++)
            flush(heap, class, blocks[i]);
        check(live_blocks(class) == 0, "class %u", class);
        drain(heap, true);
        check(held(&heap->magazines[class]) == 0 && heap->bins[class].head == 0);
        check(heap->bins[class].empty == 0, "collect gives the kept run away");
    }
    pool_decay(os_clock_ms(), 0);
    for (uint32_t s = 1; s < superslab_top() * SUPERSLAB_SLOTS; s++)
        check(arena_class_of_slot(s) == 0, "slot %u", s);
}

Test(heap, a_random_mix_of_fills_and_flushes_keeps_every_block_accounted_for) {
    start_arena(MIB(256));
    struct heap *heap = new_heap();
    uint64_t state = unit_seed();
    const unsigned classes[] = {1, 2, 17, 40, 70, CLASS_COUNT - 1};
    for (unsigned c = 0; c < 6; c++) {
        unsigned class = classes[c];
        size_t live = 0;
        size_t most = KIB(4096) / sizeclass_bytes(class) + 20;
        most = most > 3000 ? 3000 : most;
        for (size_t step = 0; step < unit_repeats(20000, 1500); step++) {
            bool up = unit_below(&state, 100) < (step / 2000 % 2 == 0 ? 60u : 40u);
            if (up && live < most) {
                blocks[live++] = fill(heap, class);
            } else if (live > 0) {
                size_t k = unit_below(&state, live);
                flush(heap, class, blocks[k]);
                blocks[k] = blocks[--live];
            }
            if (step % 1000 == 0) {
                check(live_blocks(class) == live, "class %u step %zu", class, step);
                drain(heap, step % 2000 == 0);
                check(live_blocks(class) == live, "class %u step %zu", class, step);
            }
        }
    }
}

Test(heap, a_kept_EMPTY_run_is_stage_0_and_the_second_goes_to_the_pool) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    unsigned class = CLASS_COUNT - 1; /* 4 blocks a run */
    unsigned run = sizeclass_table[class].capacity;
    check(heap_enter(heap));
    for (unsigned i = 0; i < 2 * run; i++)
        blocks[i] = heap_take_one(heap, class);
    uint64_t before = stage(heap, 1) + stage(heap, 2) + stage(heap, 3);
    check(heap_send_home(heap, class, blocks, 2 * run) == 0);
    uint32_t kept = heap->bins[class].empty;
    check(kept != 0 && slot_state(kept) == SLOT_EMPTY && heap->bins[class].head == 0);
    check(atomic_get(&slot_of_block(class, blocks[2 * run - 1])->owner, relaxed) == 0, "P1");
    check(heap_take_one(heap, class) != NULL && stage(heap, 0) == 1);
    check(heap->bins[class].empty == 0 && slot_state(kept) == SLOT_ACTIVE);
    check(stage(heap, 1) + stage(heap, 2) + stage(heap, 3) == before);
    for (unsigned i = 0; i < run; i++)
        check(heap_take_one(heap, class) != NULL);
    check(stage(heap, 1) == 1, "the second was in the pool");
    heap_leave(heap);
}

Test(heap, caps_grow_with_use_to_their_maximum_and_shrink_when_idle) {
    start_arena(GIB(8));
    struct heap *heap = new_heap();
    for (unsigned class = 1; class < CLASS_COUNT; class += 5) {
        struct magazine *m = &heap->magazines[class];
        uint32_t first = m->cap;
        check(first >= 1 && m->cap_max <= options.fast_cap && heap->cap_bytes == 0);
        for (unsigned i = 0; i < 12; i++) {
            uint32_t before = m->cap;
            m->trips |= m->trips > 0; /* as if it had spilled last */
            (void)fill(heap, class);
            check(m->cap >= before);
            atomic_put(&m->top, m->base, relaxed); /* as if the program had taken them */
        }
        check(m->cap == m->cap_max, "class %u: %u of %u", class, m->cap, m->cap_max);
        check(heap->cap_bytes == (m->cap - first) * sizeclass_bytes(class));
        m->trips = 1; /* the last fill may have drained the idle classes, for a new SuperSlab */
        drain(heap, false);
        check(m->cap == m->cap_max && m->trips == 0, "it was in use");
        drain(heap, false);
        check(m->cap == first && m->limit == m->base + m->cap && heap->cap_bytes == 0);
    }
}

Test(heap, a_long_array_is_refused_when_a_quarter_of_the_metadata_is_taken) {
    start_arena(MIB(256));
    struct heap *heap = new_heap();
    struct magazine *m = &heap->magazines[2];
    while (arena_take_spare_metadata(64) != NULL) {
    }
    check(arena_take_metadata(MIB(5)) != NULL, "three quarters are left");
    for (unsigned i = 0; i < 12; i++) {
        m->trips |= m->trips > 0;
        (void)fill(heap, 2);
        atomic_put(&m->top, m->base, relaxed);
    }
    check(m->cap <= INLINE_ROOM && m->cap * 4 > INLINE_ROOM && m->cap == m->room, "%u", m->cap);
}

Test(heap, a_full_long_magazine_sends_home_what_lies_below_its_newest_blocks) {
    enum { CLASS = 4, CAP = 2048, SENT = 512 };
    start_arena(MIB(256));
    struct heap *heap = new_heap();
    struct magazine *m = &heap->magazines[CLASS];
    check(heap_enter(heap));
    for (unsigned i = 0; i <= CAP; i++)
        blocks[i] = heap_take_one(heap, CLASS);
    heap_leave(heap);
    m->cap_max = CAP;
    for (unsigned i = 0; i <= CAP; i++) {
        m->trips = 2; /* as if it had run dry last */
        flush(heap, CLASS, blocks[i]);
        check(i == CAP || held(m) == i + 1);
    }
    check(m->room == CAP && held(m) == CAP - SENT + 1);
    check(m->cap == CAP - SENT / 2 && m->cap_max == m->cap, "it shrinks, twice as slowly");
    check(atomic_get(&heap->stats.flushes, relaxed) == 1);
    for (unsigned i = 0; i < held(m) - 1; i++)
        check(m->base[i] == blocks[i < CAP - 2 * SENT ? i : i + SENT], "%u", i);
    check(atomic_get(&m->hot, relaxed) == blocks[CAP]);
    check(live_blocks(CLASS) == 0, "%zu", live_blocks(CLASS));
}

static void take_past_magazines(struct heap *heap, unsigned class, void **out, unsigned count) {
    check(heap_enter(heap));
    for (unsigned i = 0; i < count; i++)
        out[i] = heap_take_one(heap, class);
    heap_leave(heap);
}

/* Blocks that its largest size has no room for: it is a small one until the next drain. */
Test(heap, a_flooded_magazine_shrinks_and_its_blocks_go_home) {
    enum { CLASS = 4, CAP = 4096, COUNT = 4 * CAP };
    start_arena(MIB(256));
    struct heap *heap = new_heap();
    struct magazine *m = &heap->magazines[CLASS];
    static void *many[COUNT];
    take_past_magazines(heap, CLASS, many, COUNT);
    uint32_t most = m->cap_max;
    m->cap_max = CAP;
    for (unsigned i = 0; i < COUNT; i++) {
        m->trips = 2; /* as if it had run dry last */
        flush(heap, CLASS, many[i]);
        check(held(m) <= m->cap && (i < CAP || m->cap < CAP), "%u", i);
    }
    check(m->cap == FLOODED_CAP && m->cap_max == FLOODED_CAP && held(m) <= FLOODED_CAP);
    check(atomic_get(&m->hot, relaxed) == many[COUNT - 1], "the newest stay");
    check(check_heap_class(heap, CLASS) == held(m));
    drain(heap, false);
    check(m->cap_max == most, "%u", m->cap_max);
    drain(heap, true);
    check(held(m) == 0 && live_blocks(CLASS) == 0, "%zu", live_blocks(CLASS));
}

/* Where more than three SuperSlabs are held. */
Test(heap, magazines_are_not_deep_in_a_program_of_some_size) {
    enum { CLASS = 4, COUNT = 4000 };
    start_arena(MIB(256));
    struct heap *heap = new_heap();
    struct magazine *m = &heap->magazines[CLASS];
    static void *many[COUNT];
    take_past_magazines(heap, CLASS, many, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        m->trips = 2; /* as if it had run dry last */
        flush(heap, CLASS, many[i]);
    }
    check(m->cap == 8192 && held(m) == COUNT, "a small program's are: %u", m->cap);
    int error;
    check(superslab_take(4 - superslab_held(), SUPERSLAB_BYTES, &error) != 0);
    for (unsigned i = 0; i < COUNT; i++)
        many[i] = fill(heap, CLASS);
    check(m->cap == 8192 && held(m) == 0, "what it holds is handed out first");
    many[0] = fill(heap, CLASS);
    check(m->cap == FLOODED_CAP && m->limit == m->base + FLOODED_CAP);
    drain(heap, true);
    heap->cap_bytes += (2048 - m->cap) * sizeclass_bytes(CLASS);
    m->cap = 2048; /* as if the program had been a small one when it overflowed */
    for (unsigned i = 0; i <= 2048; i++) {
        m->trips = 2;
        flush(heap, CLASS, many[i]);
    }
    check(held(m) == 2048 - 512 + 1 && m->cap == 2048 - 256 && m->cap_max == m->cap);
    drain(heap, true);
    drain(heap, true);
    check(held(m) == 0 && m->cap == heap_first_cap(CLASS));
    for (unsigned i = 0; i < 20; i++) {
        m->trips |= m->trips > 0;
        (void)fill(heap, CLASS);
        atomic_put(&m->top, m->base, relaxed);
    }
    check(m->cap == 512, "nor do they grow so far again: %u", m->cap);
}

/* Where a magazine was cut to less than its array, the array's length counts. */
Test(heap, arrays_grow_fourfold_whatever_a_magazine_was_cut_to) {
    enum { CLASS = 4 };
    start_arena(MIB(256));
    struct heap *heap = new_heap();
    struct magazine *m = &heap->magazines[CLASS];
    int error;
    for (unsigned i = 0; m->cap < 2048; i++) {
        m->trips |= m->trips > 0;
        (void)fill(heap, CLASS);
        atomic_put(&m->top, m->base, relaxed);
    }
    uint32_t others = 4 - superslab_held();
    uint32_t first = superslab_take(others, SUPERSLAB_BYTES, &error);
    (void)fill(heap, CLASS);
    check(first != 0 && m->cap == FLOODED_CAP && m->room == 2048);
    superslab_release(first * SUPERSLAB_SLOTS, others * SUPERSLAB_SLOTS, os_clock_ms());
    for (unsigned i = 0; i < 10 && m->cap == FLOODED_CAP; i++) {
        m->trips |= m->trips > 0;
        atomic_put(&m->top, m->base, relaxed);
        (void)fill(heap, CLASS);
    }
    check(m->cap == 4 * FLOODED_CAP && m->room == 8192, "%u of %u", m->cap, m->room);
}

Test(heap, a_magazine_that_only_runs_dry_or_only_spills_stays_small) {
    start_arena(MIB(256));
    struct heap *heap = new_heap();
    for (unsigned class = 1; class < CLASS_COUNT; class += 5) {
        struct magazine *m = &heap->magazines[class];
        uint32_t first = m->cap;
        unsigned count = 0;
        for (unsigned i = 0; i < 3000 && count < KIB(512) / sizeclass_bytes(class); i++)
            blocks[count++] = fill(heap, class);
        check(m->cap == first || m->cap * sizeclass_bytes(class) <= KIB(16), "class %u", class);
        drain(heap, true);
        drain(heap, true);
        check(m->cap == first && m->trips == 0);
        while (count > 0)
            flush(heap, class, blocks[--count]);
        check(m->cap == first || m->cap * sizeclass_bytes(class) <= KIB(16), "class %u", class);
        drain(heap, true);
    }
}

static void run_dry_and_spill(struct heap *heap, unsigned class, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        blocks[i] = fill(heap, class);
    for (unsigned i = 0; i < count; i++)
        flush(heap, class, blocks[i]);
}

/* Idle memory would else stay for as long as the program does not leave its magazines. */
Test(heap, after_a_flush_that_gave_runs_to_the_pool_malloc_looks_at_the_clock) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    unsigned class = sizeclass_of(KIB(4));
    struct magazine *m = &heap->magazines[class];
    unsigned run = sizeclass_table[class].capacity, count = 12 * run, alarms = 0, given = 0;
    check(heap_enter(heap) && sizeclass_table[class].run_slots == 1);
    for (unsigned i = 0; i < count; i++)
        blocks[i] = heap_take_one(heap, class);
    heap_leave(heap);
    for (unsigned i = 0; i < count; i++) {
        uint32_t before = heap->released;
        flush(heap, class, blocks[i]);
        bool alarmed = m->floor == (void **)UINTPTR_MAX;
        check(alarmed == (before > heap->released) && heap->released < 4);
        given += alarmed ? 4 : 0; /* a flush of 16 blocks empties at most two runs */
        alarms += alarmed;
    }
    given += heap->released;
    check(alarms == 2 && given >= 8 && given <= 10, "%u alarms, %u runs", alarms, given);
}

Test(heap, a_magazine_of_blocks_that_threads_exchange_stays_small) {
    start_arena(MIB(256));
    struct heap *heap = new_heap();
    struct heap *other = new_heap();
    unsigned class = sizeclass_of(128);
    struct magazine *m = &heap->magazines[class];
    void *foreign = fill(other, class);
    send_later(heap, class, foreign);
    check(gathered(heap, class) == 1);
    for (unsigned i = 0; i < 4; i++)
        run_dry_and_spill(heap, class, 1000);
    check(m->cap > heap_first_cap(class) && m->cap * sizeclass_bytes(class) <= KIB(16), "%u",
          m->cap);
    drain(heap, false);
    check(gathered(heap, class) == 0 && live_blocks(class) == 0);
    for (unsigned i = 0; i < 4; i++)
        run_dry_and_spill(heap, class, 1000);
    check(m->cap * sizeclass_bytes(class) > KIB(16), "%u", m->cap);
}

Test(heap, an_idle_magazine_loses_half_at_each_drain) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    struct magazine *m = &heap->magazines[2];
    (void)fill(heap, 2);
    m->trips = 0;
    for (size_t have = held(m); have > 0; have = held(m)) {
        drain(heap, false);
        check(held(m) == have - (have + 1) / 2, "of %zu", have);
    }
    check(live_blocks(2) == 1);
}

Test(heap, idle_magazines_are_let_go_before_a_superslab_that_is_not_warm) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    struct magazine *m = &heap->magazines[2];
    int error;
    uint32_t warm = superslab_take(1, SUPERSLAB_BYTES, &error);
    (void)fill(heap, 2);
    (void)superslab_soil(warm * SUPERSLAB_SLOTS, SUPERSLAB_SLOTS);
    superslab_release(warm * SUPERSLAB_SLOTS, SUPERSLAB_SLOTS, os_clock_ms());
    m->trips = 0;
    size_t have = held(m);
    check(have > 0 && superslab_warm_count() == 1 && stage(heap, 3) == 0);
    while (stage(heap, 3) == 0)
        check(fill(heap, CLASS_COUNT - 1) != NULL);
    check(superslab_warm_count() == 0 && held(m) == have, "%zu of %zu left", held(m), have);
    while (stage(heap, 3) == 1)
        check(fill(heap, CLASS_COUNT - 1) != NULL);
    check(held(m) == 0, "%zu of %zu left", held(m), have);
}

Test(heap, fast_cap_and_fill_batch_bound_a_magazine) {
    options.fast_cap = 12;
    options.fill_batch = 3;
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        check(heap->magazines[class].cap_max <= 12 && heap->magazines[class].cap_max >= 2);
        check(fill(heap, class) != NULL && held(&heap->magazines[class]) <= 2, "class %u", class);
    }
}

/* ---- two heaps ---- */

Test(heap, packets_that_were_handed_out_are_used_again) {
    start_arena(MIB(256));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    enum { CLASS = 3, COUNT = 4 * PACKET_BLOCKS };
    size_t used = 0;
    for (unsigned round = 0; round < 500; round++) {
        check(heap_enter(home));
        for (unsigned i = 0; i < COUNT; i++)
            blocks[i] = heap_take_one(home, CLASS);
        heap_leave(home);
        send_home(away, CLASS, blocks, COUNT);
        size_t now = atomic_get(arena_innards().metadata_used, relaxed);
        check(round < 4 || now == used, "round %u: %zu bytes of metadata, %zu before", round, now,
              used);
        used = now;
    }
}

Test(heap, remote_frees_arrive_as_packets_and_are_handed_out_again) {
    start_arena(MIB(256));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    for (unsigned class = 1; class < CLASS_COUNT; class += 19) {
        unsigned count = 3 * PACKET_BLOCKS + 5;
        check(heap_enter(home));
        for (unsigned i = 0; i < count; i++)
            blocks[i] = heap_take_one(home, class);
        heap_leave(home);
        bool helped = count * sizeclass_bytes(class) > KIB(256);
        atomic_put(&home->fills_seen, (uint32_t)atomic_get(&home->stats.fills, relaxed), relaxed);
        uint64_t frees = atomic_get(&away->stats.remote_frees, relaxed);
        uint64_t packets = atomic_get(&away->stats.remote_packets, relaxed);
        send_home(away, class, blocks, count);
        check(atomic_get(&away->stats.remote_frees, relaxed) == frees + count);
        check(atomic_get(&away->stats.remote_packets, relaxed) == packets + 4);
        check(live_blocks(class) == 0, "class %u", class);
        size_t waiting = inbox_holds(home, class);
        check(atomic_get(&home->inbox_bytes, relaxed) == waiting * sizeclass_bytes(class));
        check(helped ? waiting < count : waiting == count, "class %u: %zu", class, waiting);
        if (!helped) {
            uint64_t runs = stage(home, 0) + stage(home, 1) + stage(home, 2) + stage(home, 3);
            check(fill(home, class) != NULL && live_blocks(class) == 1);
            check(stage(home, 0) + stage(home, 1) + stage(home, 2) + stage(home, 3) == runs);
            check(inbox(home, class) == NULL, "into the stash");
            check(atomic_get(&home->inbox_bytes, relaxed) == 0);
        }
        drain(home, true);
        check(live_blocks(class) == (helped ? 0u : 1u) && heap_enter(home));
        check(home->bins[packet_group(class)].stash == NULL);
        heap_leave(home);
    }
}

Test(heap, an_idle_owner_is_helped_and_one_at_work_when_it_is_much) {
    start_arena(MIB(256));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    unsigned class = sizeclass_of(KIB(8));
    check(heap_enter(home));
    for (unsigned i = 0; i < 700; i++)
        blocks[i] = heap_take_one(home, class);
    heap_leave(home);
    (void)fill(home, 9);
    static const struct {
        unsigned blocks; /* that come one at a time */
        bool fill;       /* before them */
        bool helped;     /* and nothing waits */
        const char *why;
    } steps[] = {
        {32, true, false, "at 256 KiB it had had a fill"},
        {31, false, false, "no look until 512"},
        {1, false, true, "idle since the last look"},
        {31, false, false, "no look until 256"},
        {1, false, true, "still idle"},
        {511, true, false, "at work"},
        {1, true, true, "4 MiB"},
    };
    void **next = blocks;
    unsigned waiting = 0;
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        for (unsigned i = 0; i < steps[s].blocks; i++, waiting++) {
            counter_add(&home->stats.fills, steps[s].fill);
            send_home(away, class, next++, 1);
        }
        waiting = steps[s].helped ? 0 : waiting;
        check(atomic_get(&home->inbox_bytes, relaxed) == waiting * KIB(8), "%s", steps[s].why);
    }
}

Test(heap, blocks_of_several_owners_are_sent_to_each_of_them) {
    start_arena(MIB(256));
    struct heap *heaps[4];
    for (int h = 0; h < 4; h++)
        heaps[h] = new_heap();
    for (unsigned i = 0; i < 400; i++) {
        struct heap *heap = heaps[i * 7 % 4];
        check(heap_enter(heap));
        blocks[i] = heap_take_one(heap, 9);
        heap_leave(heap);
    }
    send_home(heaps[0], 9, blocks, 400);
    check(live_blocks(9) == 0);
    check(atomic_get(&heaps[0]->stats.remote_frees, relaxed) == 300);
    for (int h = 1; h < 4; h++)
        check(inbox_holds(heaps[h], 9) == 100);
    for (int h = 0; h < 4; h++)
        drain(heaps[h], true);
    check(live_blocks(9) == 0);
    for (int h = 0; h < 4; h++)
        check(heaps[h]->bins[9].head == 0, "every run is EMPTY");
}

Test(heap, an_inbox_is_emptied_by_the_sender_only_when_its_owner_is_not_inside) {
    start_arena(MIB(256));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    unsigned count = (unsigned)(MIB(1) / KIB(64)) + 4; /* more than an inbox may hold */
    unsigned class = sizeclass_of(KIB(64));
    check(heap_enter(home));
    for (unsigned i = 0; i < count; i++)
        blocks[i] = heap_take_one(home, class);
    send_home(away, class, blocks, count - 1);
    check(inbox_holds(home, class) == count - 1, "it was inside");
    heap_leave(home);
    send_home(away, class, blocks + count - 1, 1);
    check(inbox_holds(home, class) == 0);
    check(live_blocks(class) == 0);
}

/* Two heaps, a hundred blocks of the first, and no memory for a packet. */
static void use_metadata_up(struct heap *home) {
    check(heap_enter(home));
    for (unsigned i = 0; i < 100; i++)
        blocks[i] = heap_take_one(home, 9);
    heap_leave(home);
    while (arena_take_metadata(64) != NULL) {
    }
}

Test(heap, without_a_packet_the_blocks_that_could_not_be_sent_are_returned) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    use_metadata_up(home);
    check(heap_enter(away));
    blocks[100] = heap_take_one(away, 9);
    check(heap_send_home(away, 9, blocks, 101) == 100, "all but its own");
    heap_leave(away);
    check(live_blocks(9) == 100 && inbox(home, 9) == NULL);
    for (unsigned i = 0; i < 100; i++) {
        check(slot_of_block(9, blocks[i]) != slot_of_block(9, blocks[100]));
        for (unsigned k = 0; k < i; k++)
            check(blocks[k] != blocks[i]);
    }
}

Test(heap, without_a_packet_a_remote_free_goes_straight_into_the_bitmap) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    use_metadata_up(home);
    for (unsigned i = 0; i < 99; i++)
        flush(away, 9, blocks[i]);
    drain(away, true);
    check(live_blocks(9) == 1 && inbox(home, 9) == NULL);
    check(slot_free(slot_of_block(9, blocks[0])) == slot_of_block(9, blocks[0])->capacity - 1u);
    heap_free_borrowed(9, blocks[99]);
    check(live_blocks(9) == 0 && home->bins[9].empty != 0);
}

static struct heap *heaps_with_a_run_to_spare(unsigned class, unsigned count, unsigned taken) {
    start_arena(MIB(64));
    struct heap *spare = new_heap();
    while (heap_count() < count)
        (void)new_heap();
    unsigned run = sizeclass_table[class].capacity;
    check(heap_enter(spare));
    for (unsigned i = 0; i < run; i++)
        blocks[i] = heap_take_one(spare, class);
    check(heap_send_home(spare, class, blocks + taken, run - taken) == 0);
    heap_leave(spare);
    return spare;
}

/* Whether another of `count` heaps gets the run of which a first one has `taken` blocks out. */
static bool run_is_shared(size_t bytes, unsigned count, unsigned taken) {
    unsigned class = sizeclass_of(bytes);
    struct heap *spare = heaps_with_a_run_to_spare(class, count, taken);
    struct heap *other = heap_by_number(count - 1);
    struct slot *slot = slot_of_block(class, blocks[0]);
    check(heap_enter(other));
    void *block = heap_take_one(other, class);
    heap_leave(other);
    bool shared = slot_of_block(class, block) == slot;
    check(atomic_get(&slot->owner, relaxed) == (shared ? other : spare)->id);
    check(arena_owner_of_slot(slot_number(slot)) == (shared ? other : spare)->id);
    check((spare->bins[class].head == 0) == shared);
    if (shared) { /* what is live of it comes home to the new owner */
        flush(spare, class, blocks[0]);
        drain(spare, true);
        check(live_blocks(class) == taken && inbox_holds(other, class) == 1);
    }
    return shared;
}

Test(heap, among_five_threads_a_run_that_is_half_free_goes_to_who_needs_it) {
    check(run_is_shared(KIB(4), 5, 8));
}
Test(heap, among_four_threads_runs_stay) { check(!run_is_shared(KIB(4), 4, 8)); }
Test(heap, a_run_that_is_mostly_out_stays) { check(!run_is_shared(KIB(4), 5, 9)); }
Test(heap, a_run_of_small_blocks_stays) { check(!run_is_shared(128, 5, 1)); }

Test(heap, a_large_block_of_another_heap_is_not_kept_until_there_are_more) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    unsigned class = sizeclass_of(KIB(96));
    send_later(away, class, take_one(home, class));
    check(inbox_holds(home, class) == 1);
    check(gathered(away, class) == 0 && live_blocks(class) == 0);
}

/* ---- classes whose blocks travel together ---- */

/* Of `heaps` heaps one gathers the blocks of another, of all classes from one to another, and the
 * packet is sent when `room` of them are there and one more comes. */
static void check_gathering(unsigned heaps, unsigned from, unsigned to, unsigned room) {
    start_arena(MIB(256));
    struct heap *home = new_heap();
    while (heap_count() < heaps)
        (void)new_heap();
    struct heap *away = heap_by_number(heaps - 1);
    size_t bytes = 0;
    for (unsigned i = 0; i < room + 1; i++) {
        unsigned class = from + i % (to - from + 1);
        check(gathered(away, class) == i && inbox(home, class) == NULL, "%u blocks", i);
        bytes += i < room ? sizeclass_bytes(class) : 0;
        send_later(away, class, take_one(home, class));
    }
    struct packet *packet = inbox(home, to);
    check(packet != NULL && packet->count == room && gathered(away, to) == 1);
    check(packet->group == from && packet_units(packet) * 16 == bytes);
    check(atomic_get(&home->inbox_bytes, relaxed) == bytes);
    drain(away, false);
    drain(home, true);
    for (unsigned class = from; class <= to; class ++)
        check(live_blocks(class) == 0 && inbox(home, class) == NULL, "class %u", class);
    check(atomic_get(&home->inbox_bytes, relaxed) == 0);
}

Test(heap, blocks_of_1_to_16_KiB_are_sent_home_32_at_a_time) {
    check_gathering(2, sizeclass_of(KIB(1) + 1), sizeclass_of(KIB(16)), 32);
}
Test(heap, among_many_threads_they_are_sent_16_at_a_time) {
    check_gathering(5, sizeclass_of(KIB(1) + 1), sizeclass_of(KIB(16)), 16);
}
Test(heap, blocks_of_16_to_64_KiB_are_sent_home_4_at_a_time) {
    check_gathering(5, sizeclass_of(KIB(16) + 1), sizeclass_of(KIB(64)), 4);
}

/* A packet of `count` blocks of each of two classes in the inbox of the heap that owns them. */
static void send_mixed(struct heap *home, struct heap *away, const unsigned *classes,
                       unsigned count) {
    for (unsigned i = 0; i < 2 * count; i++)
        blocks[i] = take_one(home, classes[i % 2]);
    for (unsigned i = 0; i < 2 * count; i++)
        send_later(away, classes[i % 2], blocks[i]);
    drain(away, false);
    check(inbox_holds(home, classes[0]) == count && inbox_holds(home, classes[1]) == count);
}

Test(heap, what_travelled_together_goes_to_the_magazines_of_each_class_and_the_rest_home) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    const unsigned classes[2] = {sizeclass_of(KIB(2)), sizeclass_of(KIB(16))};
    struct magazine *small = &home->magazines[classes[0]];
    struct magazine *large = &home->magazines[classes[1]];
    send_mixed(home, new_heap(), classes, 6);
    uint64_t runs = stage(home, 0) + stage(home, 1) + stage(home, 2) + stage(home, 3);
    void *block = fill(home, classes[1]);
    bool sent = false;
    for (unsigned i = 0; i < 12; i++)
        sent = sent || blocks[i] == block;
    check(sent, "one that came home");
    check(held(small) == small->cap && held(large) == large->cap - 1, "%zu and %zu", held(small),
          held(large));
    check(live_blocks(classes[0]) == 0 && live_blocks(classes[1]) == 1);
    check(stage(home, 0) + stage(home, 1) + stage(home, 2) + stage(home, 3) == runs);
    check(home->bins[packet_group(classes[0])].stash == NULL && home->stock.count == 1);
    struct slot *run = slot_of_block(classes[0], blocks[0]);
    check(slot_free(run) == run->capacity - small->cap, "two of six are in the bitmap");
}

Test(heap, a_packet_is_opened_only_when_those_before_it_held_nothing_of_the_class) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    const unsigned first = sizeclass_of(KIB(2));
    const unsigned later = sizeclass_of(KIB(3));
    for (unsigned i = 0; i < 6; i++)
        blocks[i] = take_one(home, i < 2 ? first : later);
    for (unsigned i = 0; i < 6; i += 2) {
        send_later(away, i < 2 ? first : later, blocks[i]);
        send_later(away, i < 2 ? first : later, blocks[i + 1]);
        drain(away, false);
    }
    check(fill(home, first) == blocks[1] && held(&home->magazines[first]) == 1);
    check(held(&home->magazines[later]) == 0, "the first that was sent was opened first");
    check(packets_hold(later, home->bins[packet_group(later)].stash) == 4);
    check(fill(home, sizeclass_of(KIB(8))) != NULL);
    check(home->bins[packet_group(later)].stash == NULL, "nothing of it in any of them");
    check(held(&home->magazines[later]) == 4 && live_blocks(later) == 0);
}

/* Who holds a heap's lock without being its thread leaves the magazines alone. */
Test(heap, without_a_heap_of_ones_own_what_travelled_together_goes_home) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    const unsigned classes[2] = {sizeclass_of(KIB(2)), sizeclass_of(KIB(16))};
    send_mixed(home, new_heap(), classes, 3);
    void *block = take_one(home, classes[1]);
    check(block != NULL && inbox(home, classes[1]) == NULL);
    check(held(&home->magazines[classes[0]]) == 0 && held(&home->magazines[classes[1]]) == 0);
    check(live_blocks(classes[0]) == 0 && live_blocks(classes[1]) == 1);
}

Test(heap, a_magazine_stays_small_for_gathered_blocks_of_its_own_class_only) {
    start_arena(MIB(256));
    struct heap *heap = new_heap();
    const unsigned gathers = sizeclass_of(KIB(2));
    const unsigned other = sizeclass_of(KIB(3));
    send_later(heap, gathers, take_one(new_heap(), gathers));
    for (unsigned i = 0; i < 4; i++) {
        run_dry_and_spill(heap, gathers, 200);
        run_dry_and_spill(heap, other, 200);
    }
    check(gathered(heap, other) == 1);
    check(heap->magazines[gathers].cap * KIB(2) <= KIB(16));
    check(heap->magazines[other].cap * KIB(3) > KIB(16));
}

Test(heap, a_heap_keeps_8_packets_to_send_next) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    unsigned class = 9;
    for (unsigned i = 0; i < 10 * PACKET_BLOCKS; i++)
        blocks[i] = take_one(home, class);
    send_home(away, class, blocks, 10 * PACKET_BLOCKS);
    struct packet *first = inbox(home, class);
    drain(home, true);
    check(home->stock.count == 8 && packet_take() != NULL);
    size_t used = atomic_get(arena_innards().metadata_used, relaxed);
    for (unsigned i = 0; i < 8; i++)
        send_later(home, class + i, take_one(away, class + i));
    check(home->stock.count == 0 && home->stock.first == NULL);
    check(atomic_get(arena_innards().metadata_used, relaxed) == used, "none is a new one");
    check(first != NULL && first->group == class);
}

/* ---- what must not pass ---- */

static void send_home_twice(unsigned class, unsigned first, unsigned second) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    void *blocks[8];
    for (unsigned i = 0; i < 8; i++)
        blocks[i] = fill(heap, class);
    send_home(heap, class, &blocks[first], 1);
    void *again[2] = {blocks[second], blocks[second + 1]};
    send_home(heap, class, again, 2);
}

Test(heap, a_block_that_comes_home_twice_is_reported, .signal = SIGABRT) {
    send_home_twice(20, 3, 3);
}

/* A pointer of another class in a packet: something wrote to the metadata. */
Test(heap, a_packet_with_a_block_of_no_class_of_its_group_is_reported, .signal = SIGABRT) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    const unsigned classes[2] = {sizeclass_of(KIB(2)), sizeclass_of(KIB(16))};
    send_mixed(home, new_heap(), classes, 3);
    inbox(home, classes[0])->blocks[4] = take_one(home, sizeclass_of(64));
    (void)fill(home, classes[0]);
}

Test(heap, a_block_that_comes_home_again_in_the_middle_of_a_stretch_is_reported,
     .signal = SIGABRT) {
    send_home_twice(20, 4, 3);
}

/* Whether one of two heaps, after some runs and `packets`, claims the next run in the SuperSlab that
 * it took, and not the lowest slot that is resident. */
static bool next_run_is_at_home(uint16_t packets) {
    start_arena(MIB(64));
    unsigned class = sizeclass_of(KIB(4));
    struct heap *heap = new_heap();
    (void)new_heap();
    check(heap_enter(heap));
    unsigned count = 0;
    while (heap->bins[class].runs < 40 || heap->bins[class].head != 0)
        check((blocks[count++] = heap_take_one(heap, class)) != NULL);
    uint32_t home = slot_number(slot_of_block(class, blocks[count - 1])) / SUPERSLAB_SLOTS;
    check(home != 0 && heap->home == home);
    heap->bins[packet_group(class)].packets = packets;
    struct slot *kept = slot_of_block(class, blocks[0]);
    struct slot *low = slot_of_block(class, blocks[kept->capacity]);
    struct slot *high = slot_of_block(class, blocks[count - 2 * kept->capacity]);
    check(slot_number(low) < SUPERSLAB_SLOTS && slot_number(high) / SUPERSLAB_SLOTS == home);
    for (unsigned i = 0; i < count; i++) {
        struct slot *slot = slot_of_block(class, blocks[i]);
        if (slot == kept || slot == low || slot == high)
            check(heap_send_home(heap, class, &blocks[i], 1) == 0);
    }
    for (unsigned i = 0; i < kept->capacity; i++)
        check(slot_of_block(class, heap_take_one(heap, class)) == kept);
    struct slot *next = slot_of_block(class, heap_take_one(heap, class));
    heap_leave(heap);
    check(next == low || next == high);
    return next == high;
}

Test(heap, a_thread_that_works_apart_claims_runs_at_home) { check(next_run_is_at_home(0)); }
Test(heap, now_and_then_a_packet_does_not_count) { check(next_run_is_at_home(9)); }
Test(heap, where_blocks_are_exchanged_runs_lie_densely) { check(!next_run_is_at_home(10)); }

/* What a drain by age forgets: the runs and packets by which works_apart judges. */
Test(heap, whether_a_thread_works_apart_is_judged_anew_after_a_drain) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    struct bin *bin = &heap->bins[9];
    bin->runs = 7;
    bin->packets = UINT16_MAX;
    check(heap_enter(heap));
    heap_drain(heap, DRAIN_IDLE);
    check(bin->runs == 7 && bin->packets == UINT16_MAX);
    heap_leave(heap);
    void *block = fill(new_heap(), 9);
    check(heap_enter(heap));
    heap_flush_away(heap, 9, block);
    heap_leave(heap);
    check(bin->packets == UINT16_MAX, "no more than that");
    drain(heap, false);
    check(bin->runs == 0 && bin->packets == 0);
}
