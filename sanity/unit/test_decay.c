/* test_decay.c -- growth pushes out what is idle: how much, of what age, and what for. */
#include "unit/heap.inc"

#include "core/decay.h"
#include "core/large.h"
#include "core/options.h"
#include "core/superslab.h"

#define DELAY_MS 2400u

static void wait_ms(uint32_t ms) { usleep((ms + 10) * 1000); } /* the clock's steps are 4 ms */

/* Every second of 2 * count SuperSlabs is idle and resident: no room for two side by side. Returns
 * since when they are, or a little before. */
static uint32_t start(uint32_t count) {
    options.purge_delay_ms = DELAY_MS;
    start_arena(MIB(512));
    int error;
    uint32_t first = superslab_take(2 * count, 1, &error);
    check(first != 0 && superslab_soil(first * SUPERSLAB_SLOTS, 2 * count * SUPERSLAB_SLOTS));
    memset(arena_slot_start(first * SUPERSLAB_SLOTS), 1, 2 * count * SUPERSLAB_BYTES);
    decay_tick(NULL); /* all that was growth */
    uint32_t since = os_clock_ms();
    for (uint32_t i = 0; i < count; i++)
        superslab_release((first + 2 * i) * SUPERSLAB_SLOTS, SUPERSLAB_SLOTS, os_clock_ms());
    check(superslab_warm_count() == count);
    return since;
}

static void grow(uint32_t count) {
    int error;
    check(superslab_take(count, 1, &error) != 0);
}

Test(decay, growth_pushes_out_as_much_of_what_is_idle_for_an_eighth_of_the_delay) {
    (void)start(9);
    wait_ms(DELAY_MS / 8);
    decay_tick(NULL);
    check(superslab_warm_count() == 9, "nothing has grown, and the delay is not over");
    grow(3);
    decay_tick(NULL);
    check(superslab_warm_count() == 6);
    decay_tick(NULL);
    check(superslab_warm_count() == 6, "once for each growth");
    wait_ms(8);
    grow(2);
    decay_tick(NULL);
    check(superslab_warm_count() == 4);
}

Test(decay, growth_leaves_what_was_in_use_a_moment_ago) {
    uint32_t since = start(9);
    wait_ms(8);
    grow(3);
    decay_tick(NULL);
    if (os_clock_ms() - since < DELAY_MS / 8) /* on a machine that stood still it is older */
        check(superslab_warm_count() == 9);
}

Test(decay, growth_into_what_is_resident_pushes_nothing_out) {
    (void)start(9);
    wait_ms(DELAY_MS / 8);
    grow(1);
    grow(1);
    check(superslab_warm_count() == 7);
    decay_tick(NULL);
    check(superslab_warm_count() == 7);
}

Test(decay, growth_empties_the_big_cache) {
    (void)start(1);
    bool clean, cached;
    void *block = large_alloc(MIB(1), SLOT_BYTES, &clean, &cached);
    check(block != NULL && large_free(arena_slot_of(block)) && large_cached_bytes() == MIB(1));
    wait_ms(DELAY_MS / 8);
    decay_tick(NULL);
    check(large_cached_bytes() == MIB(1), "nothing has grown since");
    grow(2);
    decay_tick(NULL);
    check(large_cached_bytes() == 0);
}

/* ---- what threads left in their magazines ---- */

enum { CLASS = 9, LEFT = 3 };

static struct heap *orphan_with(void *const *left) {
    struct heap *orphan = new_heap();
    for (int i = 0; i < LEFT; i++)
        flush(orphan, CLASS, left[i]);
    heap_abandon(orphan);
    check(held(&orphan->magazines[CLASS]) == LEFT);
    return orphan;
}

/* A heap of the calling thread's, of whose only run an orphan has the last blocks; the run. */
static uint32_t own_run_held_by_an_orphan(void) {
    void *left[LEFT];
    start_arena(MIB(64));
    heap_mine = new_heap();
    for (int i = 0; i < LEFT; i++)
        left[i] = fill(heap_mine, CLASS);
    (void)orphan_with(left);
    uint32_t run = slot_number(slot_of_block(CLASS, left[0]));
    check(slot_state(run) == SLOT_ACTIVE);
    return run;
}

Test(decay, a_purge_finds_the_callers_blocks_that_an_orphan_holds) {
    uint32_t run = own_run_held_by_an_orphan();
    (void)decay_all(heap_mine);
    check(slot_state(run) == SLOT_UNUSED && superslab_warm_count() == 0);
}

Test(decay, for_space_the_callers_blocks_that_an_orphan_holds_are_found) {
    uint32_t run = own_run_held_by_an_orphan();
    struct decay_space space = {0};
    check(decay_for_space(heap_mine, &space) && slot_state(run) == SLOT_UNUSED);
}

Test(decay, a_tick_that_is_due_empties_an_orphans_magazines) {
    void *left[LEFT];
    options.purge_delay_ms = 0;
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    for (int i = 0; i < LEFT; i++)
        left[i] = fill(heap, CLASS);
    drain(heap, true);
    uint32_t run = slot_number(slot_of_block(CLASS, left[0]));
    struct heap *orphan = orphan_with(left);
    check(slot_state(run) == SLOT_ACTIVE);
    decay_tick(NULL);
    check(held(&orphan->magazines[CLASS]) == 0 && slot_state(run) == SLOT_UNUSED);
}

/* ---- what the calling thread itself holds ---- */

static struct heap *own_heap_with_a_cached_block(uint64_t drain_interval) {
    options.drain_interval = drain_interval;
    start_arena(MIB(64));
    struct heap *heap = heap_mine = new_heap();
    flush(heap, CLASS, fill(heap, CLASS));
    check(held(&heap->magazines[CLASS]) > 0);
    return heap;
}

Test(decay, a_tick_empties_the_callers_magazines_when_the_interval_is_over) {
    struct heap *heap = own_heap_with_a_cached_block(0);
    decay_tick(heap);
    check(held(&heap->magazines[CLASS]) == 0);
}

Test(decay, a_tick_within_the_interval_leaves_the_callers_magazines_alone) {
    struct heap *heap = own_heap_with_a_cached_block(3600000);
    heap->drain_ms = os_clock_ms();
    size_t before = held(&heap->magazines[CLASS]);
    for (int i = 0; i < 3; i++) /* the first would only find that it was in use lately */
        decay_tick(heap);
    check(held(&heap->magazines[CLASS]) == before);
}

Test(decay, for_space_the_big_cache_is_emptied) {
    start_arena(MIB(64));
    bool clean, cached;
    void *block = large_alloc(MIB(1), SLOT_BYTES, &clean, &cached);
    check(block != NULL && large_free(arena_slot_of(block)) && large_cached_bytes() == MIB(1));
    struct decay_space space = {0};
    check(decay_for_space(NULL, &space) && large_cached_bytes() == 0);
}

/* ---- rounds under way ---- */

#if HKM_OS_TEST
static uint64_t waited_ns[6];
static unsigned waits;

/* As a signal handler would, in the midst of a round of its own thread's. */
static int want_space(enum os_call call, const char *site, size_t bytes) {
    (void)site;
    (void)bytes;
    if (call != OS_MADVISE)
        return 0;
    os_test.fail = NULL;
    for (; waits < sizeof waited_ns / sizeof waited_ns[0]; waits++) {
        struct decay_space space = {0};
        uint64_t since = os_clock_ns();
        check(decay_for_space(NULL, &space));
        waited_ns[waits] = os_clock_ns() - since;
    }
    return 0;
}

Test(decay, for_space_a_round_that_is_under_way_is_waited_for_once_but_not_for_ever) {
    (void)start(2);
    os_test.fail = want_space;
    check(decay_all(NULL) > 0 && waits == 6);
    check(waited_ns[0] > 50000000, "%llu ns", (unsigned long long)waited_ns[0]);
    uint64_t least = UINT64_MAX;
    for (unsigned i = 1; i < waits; i++)
        least = waited_ns[i] < least ? waited_ns[i] : least;
    check(least < 50000000, "%llu ns", (unsigned long long)least);
}
#endif
