/* test_decay.c -- growth pushes out what is idle: how much, of what age, and what for. */
#include "unit/unit.inc"

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
    check(arena_init(MIB(512)) == 0);
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
