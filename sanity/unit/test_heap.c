/* test_heap.c -- fill, flush and drain of one heap; what must not pass. */
#include <signal.h>

#include "unit/heap.inc"
#include "unit/said.inc"

#include "core/superslab.h"

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

static void get_a_run(void *heap) {
    options.acquire_trace = 1;
    (void)fill(heap, sizeclass_of(100));
}

Test(heap, the_debug_build_says_where_a_run_comes_from_when_it_is_asked_to) {
    start_arena(MIB(64));
    (void)new_heap();
    struct heap *heap = new_heap();
    for (unsigned i = 1; i < SUPERSLAB_SLOTS + 8; i++) /* each a run of one slot */
        (void)fill(heap, sizeclass_of(128) + i);
    check(status_of(get_a_run, heap) == 0);
    uint32_t slot = arena_slot_of(fill(heap, sizeclass_of(100)));
    check(slot > SUPERSLAB_SLOTS && slot % SUPERSLAB_SLOTS != 0, "slot %u", slot);
    char line[200] = "";
    if (HKM_CHECK_LEVEL >= 1)
        (void)snprintf(line, sizeof line,
                       "hakmem: acquire stage=2 heap=1 superslab=%u slot=%u class=112\n",
                       slot / SUPERSLAB_SLOTS, slot % SUPERSLAB_SLOTS);
    check(strcmp(said, line) == 0, "%s instead of %s", said, line);
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

/* Only because the heap's share is used up: it does not hold too much. */
Test(heap, a_deep_magazine_that_could_be_deeper_stays_deep_when_it_overflows) {
    enum { CLASS = 4, CAP = 2048, COUNT = CAP + 1 };
    start_arena(MIB(256));
    struct heap *heap = new_heap();
    struct magazine *m = &heap->magazines[CLASS];
    static void *many[COUNT];
    take_past_magazines(heap, CLASS, many, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        m->trips = 2; /* as if it had run dry last */
        if (m->cap == CAP)
            heap->cap_bytes = SIZE_MAX / 2;
        flush(heap, CLASS, many[i]);
    }
    check(m->cap == CAP && held(m) < CAP && m->cap_max > CAP, "%u", m->cap);
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

/* Two classes in turn need the one slot that the other's idle magazine pins. Returns how often one
 * of them got it, before there was another SuperSlab, but at most `most` times. */
static unsigned take_turns(struct heap *heap, unsigned most) {
    static const unsigned classes[] = {2, 20};
    static unsigned turn;
    uint64_t new = stage(heap, 3);
    for (unsigned times = 0; times < most; times++, turn++) {
        heap->magazines[classes[(turn + 1) % 2]].trips = 0;
        void *block = fill(heap, classes[turn % 2]);
        check(block != NULL);
        slot_of_block(classes[turn % 2], block)->filled = true; /* resident: another class's, too */
        flush(heap, classes[turn % 2], block);
        if (stage(heap, 3) != new)
            return times;
    }
    return most;
}

Test(heap, idle_magazines_are_let_go_for_a_superslab_eight_times_but_not_for_ever) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    unsigned class = sizeclass_of(KIB(4));
    check(sizeclass_table[class].run_slots == 1);
    while (stage(heap, 3) == 0)
        check(fill(heap, class) != NULL);
    uint32_t newest = superslab_top() - 1;
    while (bits_count(atomic_get(&superslab_at(newest)->unused, relaxed)) > 1)
        check(fill(heap, class) != NULL);
    heap->magazines[class].trips = 2; /* not idle */
    check(take_turns(heap, 1) == 1, "the last slot");
    unsigned times = take_turns(heap, 5);
    check(times == 5, "%u", times);
    drain(heap, false); /* the clock's */
    times = take_turns(heap, 20);
    check(times == 8, "%u", times);
}

Test(heap, a_fill_takes_one_block_whose_neighbours_were_never_out_and_more_once_they_were) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    static const size_t sizes[] = {4096, 5000, 8192, 12000, 20000, 32768};
    for (unsigned s = 0; s < 6; s++) {
        unsigned class = sizeclass_of(sizes[s]);
        void *first = fill(heap, class);
        check(held(&heap->magazines[class]) == 0, "%zu bytes", sizes[s]);
        struct slot *run = slot_of_block(class, first);
        for (unsigned i = 1; i < run->capacity; i++)
            blocks[i] = fill(heap, class);
        flush(heap, class, first);
        for (unsigned i = 1; i < run->capacity; i++)
            flush(heap, class, blocks[i]);
        drain(heap, true);
        (void)fill(heap, class);
        check(held(&heap->magazines[class]) == 1, "%zu bytes again", sizes[s]);
    }
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

Test(heap, a_block_that_comes_home_again_in_the_middle_of_a_stretch_is_reported,
     .signal = SIGABRT) {
    send_home_twice(20, 4, 3);
}

#if HKM_OS_TEST
static struct heap *left; /* by its thread, which asks the system for memory */
static void *coming_home;

static int come_home(enum os_call call, const char *site, size_t bytes) {
    (void)call;
    (void)site;
    (void)bytes;
    void *block = coming_home;
    if (block == NULL || !heap_try_enter(left))
        return 0;
    coming_home = NULL;
    (void)heap_send_home(left, CLASS_COUNT - 1, &block, 1);
    heap_leave(left);
    return 0;
}

Test(heap, a_run_that_a_block_which_came_home_meanwhile_makes_needless_is_given_back) {
    start_arena(MIB(64));
    left = new_heap();
    unsigned count = 0;
    blocks[count++] = take_one(left, CLASS_COUNT - 1);
    coming_home = blocks[0];
    os_test.fail = come_home;
    while (coming_home != NULL)
        blocks[count++] = take_one(left, CLASS_COUNT - 1);
    os_test.fail = NULL;
    check(blocks[count - 1] == blocks[0] && left->bins[CLASS_COUNT - 1].head == 0, "%u", count);
    check(live_blocks(CLASS_COUNT - 1) == count - 1);
}
#endif
