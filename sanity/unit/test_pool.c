/* test_pool.c -- the stages in their order, the bound of the EMPTY stacks, decay, and no ABA. */
#include "unit/unit.inc"

#include "core/heap.h"
#include "core/options.h"
#include "core/pool.h"

static uint32_t home;

/* As a heap does: stages 1 and 2, then 3. */
static struct slot *take_any(unsigned class, uint32_t owner, unsigned *stage) {
    struct slot *slot = pool_take(class, owner, &home, false, stage);
    if (slot == NULL) {
        *stage = 3;
        slot = pool_take_new(class, owner, &home);
    }
    return slot;
}

static const uint32_t me = 5;

static void start_arena(size_t bytes) { check(arena_init(bytes) == 0); }

static struct slot *take(unsigned class, unsigned expected_stage) {
    unsigned stage = 9;
    struct slot *slot = take_any(class, me, &stage);
    check(slot != NULL && stage == expected_stage, "class %u from stage %u", class, stage);
    check(slot->class == class && slot_state(slot_number(slot)) == SLOT_ACTIVE);
    check(slot_free(slot) == slot->capacity && atomic_get(&slot->owner, relaxed) == me);
    check(slot_number(slot) % sizeclass_table[class].run_slots == 0, "runs are aligned");
    return slot;
}

static void give(struct slot *slot, uint32_t empty_ms) {
    slot->empty_ms = empty_ms;
    check(slot_change(slot_number(slot), SLOT_ACTIVE, SLOT_EMPTY));
    pool_give(slot, false);
}

static bool is_unused(uint32_t number) {
    uint32_t i = number / SUPERSLAB_SLOTS;
    return bitset_test(superslab_avail, i) ||
           (atomic_get(&superslab_at(i)->unused, relaxed) >> (number % SUPERSLAB_SLOTS) & 1) != 0;
}

Test(pool, stages_are_gone_through_in_order) {
    start_arena(MIB(64));
    /* SuperSlab 0 is open from the start: 31 slots beside the guard. */
    for (int i = 0; i < 31; i++)
        (void)take(5, 2);
    struct slot *first = take(5, 3);
    check(slot_number(first) % SUPERSLAB_SLOTS == 0, "a new SuperSlab starts with the run");
    for (int i = 0; i < 31; i++)
        (void)take(6, 2);
    (void)take(6, 3);
    give(first, 0);
    check(take(5, 1) == first, "the EMPTY run of the class");
    (void)take(5, 2);
}

/* Gives a run's slots back, as ones whose pages stay, or as ones that have none. */
static void release(struct slot *slot, bool resident) {
    uint32_t number = slot_number(slot);
    check(slot_change(number, SLOT_ACTIVE, SLOT_EMPTY));
    slot_retire(slot);
    if (!resident)
        superslab_wash(number, sizeclass_table[slot->class].run_slots, false);
    superslab_release(number, sizeclass_table[slot->class].run_slots, 0);
}

static unsigned class_of_run(unsigned slots) {
    unsigned class = 1;
    while (sizeclass_table[class].run_slots != slots)
        class++;
    return class;
}

Test(pool, slots_that_are_resident_are_claimed_first) {
    start_arena(MIB(64));
    struct slot *runs[32];
    for (unsigned i = 1; i < 32; i++)
        runs[i] = take(5, 2);
    unsigned two = class_of_run(2);
    release(runs[3], false);
    release(runs[8], false);
    release(runs[9], false);
    release(runs[20], true);
    release(runs[23], true);
    check(slot_number(take(two, 2)) == 8, "the resident ones do not make a run");
    check(slot_number(take(5, 2)) == 20 && slot_number(take(6, 2)) == 23);
    check(superslab_idle_dirty() == 0 && slot_number(take(5, 2)) == 3);
}

Test(pool, heaps_that_work_apart_have_superslabs_of_their_own) {
    start_arena(MIB(64));
    uint32_t homes[2] = {0, 0};
    struct slot *runs[2][2];
    unsigned stage;
    for (uint32_t id = 1; id <= 2; id++) {
        uint32_t *its = &homes[id - 1];
        for (int i = 0; i < 2; i++) {
            runs[id - 1][i] = pool_take_new(5, id, its);
            check(superslab_claim(*its, 1, true) != 0, "so that it stays open");
        }
        check(*its == slot_number(runs[id - 1][1]) / SUPERSLAB_SLOTS);
        check(*its == homes[0] + (id - 1) * 2, "each new one is home");
    }
    struct slot *kept = pool_take_new(6, 1, &homes[0]);
    homes[0]--;
    give(kept, 0); /* on the stack */
    for (uint32_t k = 0; k < 2; k++) {
        release(runs[0][k], true);
        release(runs[1][k], true);
    }
    for (int i = 1; i >= 0; i--) { /* at home first, then in the lower one */
        check(pool_take(6, 2, &homes[1], true, &stage) == runs[1][i] && stage == 2);
        check(atomic_get(&runs[1][i]->owner, relaxed) == 2 && runs[1][i]->class == 6);
    }
    check(pool_take(6, 2, &homes[1], true, &stage) == kept && stage == 1);
    check(pool_take(6, 2, &homes[1], true, &stage) == runs[0][1] && stage == 2);
    check(homes[1] == slot_number(runs[0][1]) / SUPERSLAB_SLOTS, "it moved in");
    check(pool_take(6, 1, &homes[0], false, &stage) == runs[0][0], "the lowest");
}

Test(pool, a_warm_superslab_is_taken_before_slots_that_are_not_resident) {
    start_arena(MIB(64));
    int error;
    uint32_t warm = superslab_take(1, SUPERSLAB_BYTES, &error);
    (void)superslab_soil(warm * SUPERSLAB_SLOTS, SUPERSLAB_SLOTS);
    superslab_release(warm * SUPERSLAB_SLOTS, SUPERSLAB_SLOTS, 0);
    check(superslab_warm_count() == 1 && superslab_at(0)->unused == ~1u);
    check(slot_number(take(5, 3)) == warm * SUPERSLAB_SLOTS && superslab_warm_count() == 0);
    for (unsigned i = 1; i < 32; i++)
        check(slot_number(take(5, 2)) == warm * SUPERSLAB_SLOTS + i, "what came with it");
    check(superslab_at(0)->unused == ~1u && slot_number(take(5, 2)) == 1);
}

/* SuperSlabs that were taken by heaps 1 to `heaps` are warm. */
static void make_warm(uint32_t heaps, uint32_t *superslabs) {
    struct slot *runs[4];
    for (uint32_t id = 1; id <= heaps; id++) {
        runs[id] = pool_take_new(5, id, &home);
        superslabs[id] = slot_number(runs[id]) / SUPERSLAB_SLOTS;
    }
    for (uint32_t id = 1; id <= heaps; id++)
        release(runs[id], true);
    check(superslab_warm_count() == heaps);
}

Test(pool, a_heap_takes_back_the_warm_superslab_that_was_its_own) {
    start_arena(MIB(64));
    uint32_t superslabs[4];
    make_warm(3, superslabs);
    for (uint32_t id = 3; id >= 1; id--) {
        struct slot *run = pool_take_new(6, id, &home);
        check(slot_number(run) / SUPERSLAB_SLOTS == superslabs[id], "heap %u", id);
    }
    check(superslab_warm_count() == 0);
}

Test(pool, a_heap_without_a_warm_superslab_takes_anybodys) {
    start_arena(MIB(64));
    uint32_t superslabs[3];
    make_warm(2, superslabs);
    struct slot *run = pool_take_new(6, 9, &home);
    check(slot_number(run) / SUPERSLAB_SLOTS == superslabs[1], "the lowest");
    check(atomic_get(&superslab_at(superslabs[1])->tenant, relaxed) == 9);
}

Test(pool, a_heap_that_works_apart_moves_in_only_where_no_superslab_is_warm) {
    start_arena(MIB(64));
    uint32_t superslabs[3];
    struct slot *others = pool_take_new(5, 8, &home);
    check(superslab_claim(home, 1, true) != 0, "so that it stays open");
    release(others, true);
    make_warm(2, superslabs);
    unsigned stage;
    check(pool_take(6, 2, &home, true, &stage) == NULL, "there is a warm one");
    check(slot_number(pool_take_new(6, 2, &home)) / SUPERSLAB_SLOTS == superslabs[2]);
    check(pool_take(6, 2, &home, true, &stage) == NULL && superslab_warm_count() == 1);
    check(slot_number(pool_take_new(6, 2, &home)) / SUPERSLAB_SLOTS == superslabs[1]);
    check(pool_take(6, 2, &home, true, &stage) == others && stage == 2, "it moves in");
}

Test(pool, what_a_heap_that_works_apart_gives_is_for_any_class_and_stays_its_own) {
    start_arena(MIB(64));
    struct slot *run = pool_take_new(5, 1, &home);
    uint32_t number = slot_number(run);
    check(superslab_claim(home, 1, true) != 0, "so that it stays open");
    check(slot_change(number, SLOT_ACTIVE, SLOT_EMPTY));
    pool_give(run, true);
    check(is_unused(number) && atomic_get(pool_innards(5).count, relaxed) == 0);
    unsigned stage;
    check(pool_take(6, 1, &home, true, &stage) == run && stage == 2);
}

Test(pool, a_run_of_a_huge_page_is_resident_and_for_any_class) {
    start_arena(MIB(64));
    options.large_pages = LARGE_PAGES_ON;
    struct slot *run = pool_take_new(5, 1, &home);
    check(superslab_claim(home, 1, true) != 0, "so that it stays open");
    give(run, 0);
    check(is_unused(slot_number(run)) && atomic_get(pool_innards(5).count, relaxed) == 0);
    check(take(6, 2) == run);
}

Test(pool, runs_fill_a_new_superslab_behind_many_whose_gaps_are_too_small) {
    start_arena(MIB(1024));
    int error;
    uint32_t last = 0;
    for (int i = 0; i < 400; i++) { /* as large runs of 30 slots leave them */
        last = superslab_take(1, SUPERSLAB_BYTES, &error);
        check(last != 0);
        superslab_release(last * SUPERSLAB_SLOTS + 30, 2, 0);
    }
    unsigned class = 1;
    while (sizeclass_table[class].run_slots != 4)
        class ++;
    unsigned stage;
    for (int i = 0; i < 7; i++) /* SuperSlab 0 */
        check(take_any(class, me, &stage) != NULL && stage == 2);
    for (unsigned i = 0; i < 80; i++) {
        struct slot *slot = take_any(class, me, &stage);
        check(slot != NULL && stage == (i % 8 == 0 ? 3 : 2), "run %u from stage %u", i, stage);
        check(slot_number(slot) / SUPERSLAB_SLOTS == last + 1 + i / 8, "run %u", i);
    }
    while (take_any(class, me, &stage) != NULL) {
    }
    superslab_release((last - 30) * SUPERSLAB_SLOTS + 4, 4, 0);
    struct slot *slot = take_any(class, me, &stage);
    check(slot != NULL && slot_number(slot) == (last - 30) * SUPERSLAB_SLOTS + 4, "any gap");
}

Test(pool, an_empty_run_serves_its_own_class_only) {
    start_arena(MIB(64));
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        unsigned stage;
        struct slot *slot = take_any(class, me, &stage);
        check(slot != NULL && stage >= 2, "class %u from stage %u", class, stage);
        give(slot, 0);
    }
    for (unsigned class = CLASS_COUNT; class-- > 1;)
        (void)take(class, 1);
}

Test(pool, a_full_arena_gives_NULL_and_serves_again_after_a_give) {
    start_arena(ARENA_BYTES_MIN);
    unsigned stage;
    struct slot *slot = NULL;
    unsigned count = 0;
    for (struct slot *next; (next = take_any(1, me, &stage)) != NULL; count++)
        slot = next;
    check(count == 4 * SUPERSLAB_SLOTS - 1, "%u runs", count);
    check(take_any(CLASS_COUNT - 1, me, &stage) == NULL && stage == 3);
    give(slot, 0);
    check(take(1, 1) == slot);
}

Test(pool, a_stack_holds_a_bounded_number_and_the_rest_become_UNUSED) {
    start_arena(MIB(512));
    static struct slot *slots[64];
    for (unsigned class = 1; class < CLASS_COUNT; class += 7) {
        unsigned run = sizeclass_table[class].run_slots;
        unsigned bound = 16 / run + 1;
        unsigned stage;
        for (unsigned i = 0; i < bound + 5; i++)
            slots[i] = take_any(class, me, &stage);
        for (unsigned i = 0; i < bound + 5; i++)
            give(slots[i], 0);
        for (unsigned i = 0; i < bound + 5; i++) {
            uint32_t number = slot_number(slots[i]);
            check(slot_state(number) == (i < bound ? SLOT_EMPTY : SLOT_UNUSED), "P2 %u", i);
            check(is_unused(number) == (i >= bound));
            check(atomic_get(&slots[i]->owner, relaxed) == 0, "P1");
            check(arena_class_of_slot(number) == (i < bound ? class : 0), "A2");
        }
        for (unsigned i = 0; i < bound; i++)
            check(take(class, 1) == slots[bound - 1 - i], "last in, first out");
        struct slot *more = take_any(class, me, &stage);
        check(more != NULL && stage > 1);
    }
}

/* Hands `count` blocks of a run out and takes them back. */
static void use(struct slot *slot, unsigned count) {
    static void *out[SLOT_BLOCKS_MAX];
    for (unsigned got = 0; got < count;) {
        unsigned more = slot_take(slot, out + SLOT_BLOCKS_MAX - got, count - got);
        check(more > 0);
        got += more;
    }
    for (unsigned i = 1; i <= count; i++)
        check(slot_put(slot, slot->class, out + SLOT_BLOCKS_MAX - i, 1) == 1);
    check(slot_free(slot) == slot->capacity);
}

Test(pool, a_run_that_was_full_goes_to_any_class_and_another_stays_with_its_own) {
    start_arena(MIB(64));
    struct slot *sparse = take(5, 2);
    use(sparse, sparse->capacity - 1u);
    give(sparse, 0);
    check(slot_state(slot_number(sparse)) == SLOT_EMPTY && take(5, 1) == sparse);
    use(sparse, sparse->capacity);
    give(sparse, 0);
    check(slot_state(slot_number(sparse)) == SLOT_UNUSED && take(6, 2) == sparse);
    give(sparse, 0);
    check(slot_state(slot_number(sparse)) == SLOT_UNUSED, "its pages are still resident");
    check(superslab_purge(os_clock_ms(), 0) > 0 && take(6, 2) == sparse);
    give(sparse, 0);
    check(slot_state(slot_number(sparse)) == SLOT_EMPTY, "they are not any more");
    struct slot *mid = take(sizeclass_of(KIB(8)), 2);
    use(mid, mid->capacity);
    give(mid, 0);
    check(slot_state(slot_number(mid)) == SLOT_EMPTY, "its pages may never have been touched");
}

Test(pool, blocks_of_a_run_that_was_in_use_before_count_as_out_before) {
    start_arena(MIB(64));
    struct slot *slot = take(8, 2);
    check(slot->fresh == slot->capacity);
    slot->filled = true;
    give(slot, 0);
    check(take(9, 2) == slot && slot->fresh == 0);
}

Test(pool, decay_retires_the_old_runs_and_keeps_the_young_ones) {
    start_arena(MIB(64));
    struct slot *slots[10];
    for (unsigned i = 0; i < 10; i++)
        slots[i] = take(3, 2);
    for (unsigned i = 0; i < 10; i++)
        give(slots[i], 1000 + 100 * i);
    pool_decay(2450, 1000);
    for (unsigned i = 0; i < 10; i++)
        check(is_unused(slot_number(slots[i])) == (i < 5), "run %u", i);
    for (unsigned i = 5; i < 10; i++)
        (void)take(3, 1);
    (void)take(3, 2);
    pool_decay(9000, 0);
}

Test(pool, decay_works_across_the_wrap_of_the_clock) {
    start_arena(MIB(64));
    struct slot *slot = take(3, 2);
    give(slot, UINT32_MAX - 100);
    pool_decay(800, 1000);
    check(slot_state(slot_number(slot)) == SLOT_EMPTY);
    pool_decay(900, 1000);
    check(slot_state(slot_number(slot)) == SLOT_UNUSED);
}

/* ---- threads ---- */

static ATOMIC(uint32_t) holder[MIB(64) / SLOT_BYTES];
static ATOMIC(size_t) from_stage[4];

static size_t take_and_give(unsigned number, void *shared) {
    (void)shared;
    struct slot *held[4] = {NULL};
    uint64_t state = unit_seed() + number;
    size_t wrong = 0;
    for (size_t step = unit_repeats(150000, 4000); step > 0; step--) {
        size_t h = unit_below(&state, 4);
        if (held[h] != NULL) {
            uint32_t slot = slot_number(held[h]);
            wrong += atomic_swap(&holder[slot], 0, relaxed) != number + 1;
            wrong += !slot_change(slot, SLOT_ACTIVE, SLOT_EMPTY);
            held[h]->empty_ms = 0;
            pool_give(held[h], false);
            held[h] = NULL;
        } else {
            unsigned stage;
            held[h] = take_any(1 + (step & 1), me, &stage);
            wrong += held[h] == NULL;
            if (held[h] != NULL) {
                wrong += held[h]->class != 1 + (step & 1);
                wrong += atomic_swap(&holder[slot_number(held[h])], number + 1, relaxed) != 0;
                atomic_add(&from_stage[stage], 1, relaxed);
            }
        }
        if (step % 5000 == 0)
            pool_decay(1, 0);
    }
    for (size_t h = 0; h < 4; h++)
        if (held[h] != NULL) {
            atomic_put(&holder[slot_number(held[h])], 0, relaxed);
            wrong += !slot_change(slot_number(held[h]), SLOT_ACTIVE, SLOT_EMPTY);
            pool_give(held[h], false);
        }
    return wrong;
}

Test(pool, four_threads_popping_and_pushing_never_get_a_run_twice_and_lose_none) {
    start_arena(MIB(64));
    check(unit_run_threads(4, take_and_give, NULL) == 0, "a run was taken twice, or was lost");
    check(atomic_get(&from_stage[1], relaxed) > 100, "the stacks were hardly used");
    pool_decay(1, 0);
    for (uint32_t s = 1; s < superslab_top() * SUPERSLAB_SLOTS; s++)
        check(is_unused(s) && slot_state(s) == SLOT_UNUSED, "slot %u is lost", s);
}

Test(pool, a_large_block_gets_small_pages_where_huge_ones_were_asked_for) {
    check(arena_init(MIB(64)) == 0);
    int error;
    uint32_t superslab = superslab_take(1, SUPERSLAB_BYTES, &error);
    check(superslab_make_huge(superslab, 1) == 1 && superslab_make_huge(superslab, 1) == 0);
    check(superslab != 0 && superslab_at(superslab)->pages == PAGES_HUGE);
    superslab_release(superslab * SUPERSLAB_SLOTS, SUPERSLAB_SLOTS, os_clock_ms());
    check(superslab_take_at(superslab, 1) == 0);
    superslab_make_small(superslab, 1);
    check(superslab_at(superslab)->pages == PAGES_SMALL);
}
