/* test_superslab.c -- U1..U4: claims, releases, whole SuperSlabs, purge, threads. */
#include "unit/kernel.inc"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "core/superslab.h"

#define ALL UINT32_MAX

static void start_arena(size_t bytes) { check(arena_init(bytes) == 0); }

static uint32_t take_one(void) {
    int error;
    uint32_t i = superslab_take(1, 1, &error);
    check(i != 0 && error == 0);
    return i;
}
static void release_mask(uint32_t superslab, uint32_t mask, uint32_t now_ms) {
    for (uint32_t s = 0; s < 32; s++)
        if ((mask >> s & 1) != 0)
            superslab_release(superslab * 32 + s, 1, now_ms);
}
static uint32_t unused_of(uint32_t superslab) {
    return atomic_get(&superslab_at(superslab)->unused, relaxed);
}
static uint32_t dirty_of(uint32_t superslab) {
    return atomic_get(&superslab_at(superslab)->dirty, relaxed);
}
/* U4, counted one SuperSlab at a time. */
static size_t idle_dirty(void) {
    size_t slots = 0;
    for (uint32_t i = 0; i < superslab_top(); i++)
        slots += bits_count(dirty_of(i) & (bitset_test(superslab_avail, i) ? ALL : unused_of(i)));
    return slots * SLOT_BYTES;
}
/* U1, U4, and the hints while no thread is in the middle of anything. */
static void check_rules(void) {
    uint32_t warm = 0;
    for (uint32_t i = 0; i < superslab_top(); i++) {
        bool avail = bitset_test(superslab_avail, i);
        check(!avail || unused_of(i) == 0, "U1 SuperSlab %u", i);
        check(bitset_test(superslab_open, i) == (!avail && unused_of(i) != 0), "open %u", i);
        check(bitset_test(superslab_warm, i) == (avail && dirty_of(i) != 0), "warm %u", i);
        warm += bitset_test(superslab_warm, i);
    }
    check(superslab_warm_count() == warm);
    check(superslab_idle_dirty() == idle_dirty(), "U4 %zu, counted %zu", superslab_idle_dirty(),
          idle_dirty());
}

/* The set is 64 KiB, of which a search reads what may hold a bit. */
Test(superslab, of_the_set_of_available_ones_a_small_program_touches_one_page) {
    start_arena(ARENA_BYTES_MAX);
    for (unsigned i = 0; i < 40; i++)
        (void)take_one();
    size_t page = os_page_bytes();
    char *first = (char *)round_down((uintptr_t)superslab_avail, page);
    check(os_resident(first, page) == page);
    char *start = (char *)round_up((uintptr_t)superslab_avail + page, page);
    char *end = (char *)round_down((uintptr_t)(superslab_avail + ARENA_SUPERSLABS_MAX / 64), page);
    check(os_resident(start, (size_t)(end - start)) == 0);
}

/* Else who runs out of it beside the one thread that learns would find nothing. */
Test(superslab, all_of_a_small_arena_is_available_from_the_start) {
    start_arena(MIB(64));
    check(bitset_next_clear(superslab_avail, 1, 32) == 32);
    check(!bitset_test(superslab_avail, 0) && bitset_next_set(superslab_avail, 32, 1024) == 1024);
}

/* As if a thread had counted in what comes next when the program forked: the child waits once. */
Test(superslab, a_child_waits_once_for_a_lost_thread_to_make_more_available) {
    start_arena(MIB(4096));
    (void)take_one();
    struct superslab_innards in = superslab_innards();
    check(atomic_get(in.known, relaxed) == 1025);
    atomic_put(in.known, 2048, relaxed);
    struct rusage before, after; /* a wait sleeps 32 times */
    int error;
    for (int i = 0; i <= 100; i++) {
        if (i == 1)
            (void)getrusage(RUSAGE_THREAD, &before);
        check(superslab_take(1100, 1, &error) == 0 && error == ENOMEM);
    }
    (void)getrusage(RUSAGE_THREAD, &after);
    check(after.ru_nvcsw - before.ru_nvcsw < 320, "%ld", after.ru_nvcsw - before.ru_nvcsw);
    check(take_one() == 2);
}

/* The pages of the first live map that lie in one SuperSlab's part alone. */
static char *map_of(uint32_t superslab) {
    uintptr_t start = (uintptr_t)arena_live_byte(1, arena_slot_start(superslab * 32));
    return (char *)round_up(start, os_page_bytes());
}
#define MAP_BYTES (SUPERSLAB_BYTES / 16 - 2 * os_page_bytes())

static void use_and_release(uint32_t superslab) {
    (void)superslab_soil(superslab * 32, 32);
    memset(map_of(superslab), 0, MAP_BYTES);
    static uint32_t now_ms;
    superslab_release(superslab * 32, 32, now_ms);
    now_ms += 100;
    check(superslab_purge(now_ms, 10) == SUPERSLAB_BYTES);
}

Test(superslab, maps_of_superslabs_that_are_purged_one_by_one_go_when_eight_lie_side_by_side) {
    start_arena(MIB(64));
    uint32_t first = take_one();
    for (uint32_t i = 1; i < 12; i++)
        check(take_one() == first + i);
    for (uint32_t i = 0; i < 8; i++) {
        use_and_release(first + i);
        for (uint32_t k = 0; k <= i; k++)
            check(os_resident(map_of(first + k), MAP_BYTES) == (i < 7 ? MAP_BYTES : 0), "%u %u", i, k);
    }
    use_and_release(first + 9);
    use_and_release(first + 10);
    check(take_one() == first && take_one() == first + 1);
    use_and_release(first + 1);
    check(os_resident(map_of(first + 1), MAP_BYTES) == MAP_BYTES);
    superslab_purge_maps(1);
    check(os_resident(map_of(first + 1), MAP_BYTES) == 0, "a trim gives all back");
    check(os_resident(map_of(first + 9), MAP_BYTES) == 0);
    check_rules();
}

Test(superslab, maps_of_superslabs_that_lie_apart_stay_until_a_trim) {
    start_arena(MIB(64));
    uint32_t first = take_one();
    for (uint32_t i = 1; i < 20; i++)
        check(take_one() == first + i);
    for (uint32_t i = 0; i < 20; i += 2)
        use_and_release(first + i);
    for (uint32_t i = 0; i < 20; i += 2)
        check(os_resident(map_of(first + i), MAP_BYTES) == MAP_BYTES, "%u", i);
    superslab_purge_maps(1);
    for (uint32_t i = 0; i < 20; i += 2)
        check(os_resident(map_of(first + i), MAP_BYTES) == 0, "%u", i);
    check_rules();
}

Test(superslab, a_claim_takes_the_lowest_run_that_fits_for_every_count_and_random_masks) {
    start_arena(MIB(64));
    uint32_t i = take_one();
    uint64_t state = unit_seed();
    for (size_t round = 0; round < unit_repeats(300, 20); round++)
        for (unsigned count = 1; count <= 32; count++)
            for (unsigned aligned = 0; aligned <= is_power_of_two(count); aligned++) {
                uint32_t mask = (uint32_t)(unit_random(&state) | unit_random(&state));
                mask |= count > 8 ? (uint32_t)(unit_random(&state) | unit_random(&state)) : 0;
                mask = round % 9 == 0 ? ~(UINT32_C(1) << unit_below(&state, 32)) : mask;
                mask &= ~(UINT32_C(1) << unit_below(&state, 32)); /* else it becomes avail */
                release_mask(i, mask, 0);
                check(unused_of(i) == mask);
                int at = bits_find_run(mask, count, aligned != 0);
                uint32_t got = superslab_claim(i, count, aligned != 0);
                check(got == (at < 0 ? 0 : i * 32 + (uint32_t)at), "%08x %u", mask, count);
                mask &= at < 0 ? ALL : ~(bits_below32(count) << at);
                check(unused_of(i) == mask, "%08x is not %08x", unused_of(i), mask);
                check(bitset_test(superslab_open, i) == (mask != 0));
                check(mask == 0 || superslab_claim_mask(i, mask));
                check(unused_of(i) == 0 && !bitset_test(superslab_open, i));
            }
}

Test(superslab, claim_mask_takes_exactly_the_mask_or_nothing) {
    start_arena(MIB(64));
    uint32_t i = take_one();
    uint64_t state = unit_seed();
    for (size_t round = 0; round < unit_repeats(20000, 500); round++) {
        uint32_t have = (uint32_t)unit_random(&state) & ~(UINT32_C(1) << round % 32);
        uint32_t want = (uint32_t)unit_random(&state);
        want = round % 2 == 0 ? want & have : want;
        release_mask(i, have, 0);
        bool fits = (want & ~have) == 0;
        check(superslab_claim_mask(i, want) == fits, "%08x of %08x", want, have);
        have = fits ? have & ~want : have;
        check(unused_of(i) == have);
        check(have == 0 || superslab_claim_mask(i, have));
    }
}

Test(superslab, the_guard_slot_is_never_handed_out) {
    start_arena(ARENA_BYTES_MIN);
    check(unused_of(0) == ~UINT32_C(1) && !bitset_test(superslab_avail, 0));
    for (uint32_t s = 1; s < 32; s++)
        check(superslab_claim(0, 1, false) == s);
    check(superslab_claim(0, 1, false) == 0 && !superslab_claim_mask(0, 1));
    superslab_release(1, 31, 0);
    check(!bitset_test(superslab_avail, 0) && bitset_test(superslab_open, 0));
}

Test(superslab, releasing_the_last_slot_makes_the_superslab_available) {
    start_arena(MIB(64));
    for (uint32_t last = 0; last < 32; last++) {
        uint32_t i = take_one();
        check(!bitset_test(superslab_avail, i) && unused_of(i) == 0);
        release_mask(i, ~(UINT32_C(1) << last), 0);
        check(!bitset_test(superslab_avail, i) && bitset_test(superslab_open, i));
        release_mask(i, UINT32_C(1) << last, 0);
        check(bitset_test(superslab_avail, i) && !bitset_test(superslab_open, i));
        check_rules();
    }
}

Test(superslab, a_release_of_any_length_splits_into_the_right_superslabs) {
    start_arena(MIB(256));
    for (uint32_t from = 0; from < 40; from += 3)
        for (uint32_t count = 1; from + count <= 5 * 32; count += 7) {
            int error;
            uint32_t first = superslab_take(5, 1, &error);
            check(first != 0);
            superslab_release(first * 32 + from, count, 0);
            for (uint32_t s = 0; s < 5 * 32; s++) {
                uint32_t i = first + s / 32;
                bool in = s >= from && s < from + count;
                bool is = bitset_test(superslab_avail, i) || (unused_of(i) >> (s % 32) & 1) != 0;
                check(is == in, "%u slots from %u: slot %u", count, from, s);
            }
            check_rules();
            if (from > 0)
                superslab_release(first * 32, from, 0);
            if (from + count < 160)
                superslab_release(first * 32 + from + count, 160 - from - count, 0);
            for (uint32_t i = first; i < first + 5; i++)
                check(bitset_test(superslab_avail, i));
        }
}

Test(superslab, take_gives_neighbours_aligned_committed_and_held) {
    start_arena(MIB(512));
    const size_t counts[] = {1, 2, 3, 5, 16, 33, 64, 100};
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
        for (size_t alignment = 1; alignment <= MIB(128); alignment *= alignment < KIB(64) ? 256 : 2) {
            int error;
            uint32_t first = superslab_take(counts[c], alignment, &error);
            check(first != 0 && error == 0, "%zu aligned to %zu", counts[c], alignment);
            char *start = arena_slot_start(first * 32);
            check((uintptr_t)start % alignment == 0, "%zu aligned to %zu", counts[c], alignment);
            for (size_t i = first; i < first + counts[c]; i++) {
                check(!bitset_test(superslab_avail, i) && unused_of((uint32_t)i) == 0);
                start[(i - first) * SUPERSLAB_BYTES] = 1;
                start[(i - first + 1) * SUPERSLAB_BYTES - 1] = 1;
            }
            check(superslab_top() >= first + counts[c]);
            superslab_release(first * 32, counts[c] * 32, 0);
            check_rules();
        }
}

Test(superslab, take_fails_with_ENOMEM_when_it_can_not_fit_and_takes_the_last_one_before) {
    start_arena(MIB(64));
    int error = 0;
    check(superslab_take(32, 1, &error) == 0 && error == ENOMEM);
    check(superslab_take(SIZE_MAX / 2, 1, &error) == 0 && error == ENOMEM);
    check(superslab_take(1, MIB(128), &error) == 0 && error == ENOMEM);
    check(superslab_take(31, 1, &error) == 1 && error == 0);
    check(superslab_take(1, 1, &error) == 0 && error == ENOMEM);
    superslab_release(17 * 32, 2 * 32, 0);
    check(superslab_take(3, 1, &error) == 0);
    if ((uintptr_t)arena_slot_start(17 * 32) % MIB(4) != 0)
        check(superslab_take(2, MIB(4), &error) == 0 && error == ENOMEM);
    check(superslab_take(2, 1, &error) == 17);
    check(superslab_committed_bytes() == MIB(64));
}

Test(superslab, take_at_takes_exactly_these_or_none) {
    start_arena(MIB(128));
    check(superslab_take_at(20, 4) == 0 && superslab_take_at(22, 1) != 0);
    check(superslab_take_at(18, 4) != 0 && bitset_test(superslab_avail, 18));
    check(bitset_test(superslab_avail, 19), "a failed take kept a part");
    check(superslab_take_at(18, 2) == 0);
    check(superslab_take_at(63, 2) != 0 && superslab_take_at(64, 1) != 0);
    check(superslab_take_at(63, 1) == 0 && superslab_top() == 64);
    arena_slot_start(63 * 32)[SUPERSLAB_BYTES - 1] = 1;
    check_rules();
}

Test(superslab, a_warm_superslab_is_taken_before_one_that_was_never_used) {
    start_arena(MIB(64));
    uint32_t low = take_one();
    uint32_t high = take_one();
    (void)superslab_soil(high * 32, 3);
    superslab_release(low * 32, 32, 0);
    superslab_release(high * 32, 32, 0);
    check(superslab_warm_count() == 1 && superslab_idle_dirty() == 3 * SLOT_BYTES);
    check(take_one() == high && take_one() == low);
    check(superslab_idle_dirty() == 0 && superslab_warm_count() == 0);
}

Test(superslab, a_heap_takes_its_own_warm_one_back_from_behind_anothers) {
    start_arena(MIB(64));
    uint32_t superslabs[3];
    for (uint32_t i = 0; i < 3; i++) {
        superslabs[i] = take_one();
        atomic_put(&superslab_at(superslabs[i])->tenant, i < 2 ? 8 : 7, relaxed);
        (void)superslab_soil(superslabs[i] * 32, 32);
    }
    for (uint32_t i = 0; i < 3; i++)
        superslab_release(superslabs[i] * 32, 32, 0);
    check(superslab_take_back(7) == superslabs[2] && superslab_take_back(7) == 0);
    check(superslab_take_back(8) == superslabs[0] && superslab_take_back(8) == superslabs[1]);
    check(superslab_warm_count() == 0);
}

/* A SuperSlab of `tenant`, with these slots UNUSED. */
static uint32_t let_to(uint32_t tenant, uint32_t free, bool resident) {
    uint32_t i = take_one();
    atomic_put(&superslab_at(i)->tenant, tenant, relaxed);
    if (resident)
        (void)superslab_soil(i * 32, 32);
    release_mask(i, free, 0);
    return i;
}
static uint32_t tenant_of(uint32_t superslab) {
    return atomic_get(&superslab_at(superslab)->tenant, relaxed);
}

Test(superslab, a_heap_claims_resident_slots_in_its_own) {
    start_arena(MIB(64));
    uint32_t home = 0;
    check(superslab_claim_at_home(&home, 7, 1) == 0, "of nobody's");
    uint32_t low = let_to(7, 0x30, true), high = let_to(7, 0x3c, true);
    uint32_t other = let_to(8, 0xff, false);
    check(superslab_claim_at_home(&home, 7, 1) == low * 32 + 4 && home == low);
    check(superslab_claim_at_home(&home, 7, 4) == 0, "no four are aligned");
    check(superslab_claim_at_home(&home, 7, 2) == high * 32 + 2 && home == high);
    check(superslab_claim_at_home(&home, 7, 1) == high * 32 + 4, "at home, not the lowest");
    check(superslab_claim_at_home(&home, 7, 1) == high * 32 + 5);
    check(superslab_claim_at_home(&home, 7, 1) == low * 32 + 5 && home == low);
    check(superslab_claim_at_home(&home, 7, 1) == 0 && home == low, "none is left");
    check(superslab_claim_at_home(&home, 8, 1) == 0 && unused_of(other) == 0xff, "not resident");
    check_rules();
}

Test(superslab, a_heap_moves_in_where_its_own_have_nothing_resident) {
    start_arena(MIB(64));
    uint32_t home = 0;
    check(superslab_move_in(&home, 9, 1) == 0 && home == 0 && tenant_of(0) == 0);
    uint32_t low = let_to(7, 0xf0, true), high = let_to(7, 0x30, true);
    uint32_t last = let_to(8, 0xff, false);
    check(superslab_move_in(&home, 9, 2) == high * 32 + 4 && home == high);
    check(tenant_of(high) == 9 && tenant_of(low) == 7 && tenant_of(last) == 8);
    home = 0;
    check(superslab_move_in(&home, 9, 4) == low * 32 + 4 && home == low && tenant_of(low) == 9);
    check(superslab_move_in(&home, 9, 1) == 0 && home == low, "none is resident");
    check_rules();
}

Test(superslab, soil_says_whether_all_was_clean_and_wash_makes_it_so) {
    start_arena(MIB(64));
    int error;
    uint32_t first = superslab_take(3, 1, &error) * 32;
    check(superslab_soil(first + 30, 40));
    check(dirty_of(first / 32) == 3u << 30 && dirty_of(first / 32 + 1) == ALL);
    check(dirty_of(first / 32 + 2) == 0x3f);
    check(!superslab_soil(first + 30, 40) && !superslab_soil(first + 31, 1));
    check(!superslab_soil(first + 29, 2), "one of two was dirty");
    superslab_wash(first + 31, 39, false);
    check(dirty_of(first / 32) == 3u << 29 && dirty_of(first / 32 + 2) == 0);
    check(superslab_soil(first + 31, 39));
}

/* ---- purge ---- */

static void write_all(uint32_t first_slot, size_t count) {
    (void)superslab_soil(first_slot, count);
    memset(arena_slot_start(first_slot), 0x5c, count * SLOT_BYTES);
}
static void check_zero(uint32_t slot) {
    const char *p = arena_slot_start(slot);
    for (size_t i = 0; i < SLOT_BYTES; i += 512)
        check(p[i] == 0, "U2 slot %u at %zu", slot, i);
}

Test(superslab, purge_returns_idle_slots_makes_them_clean_and_spares_the_rest) {
    start_arena(MIB(64));
    uint32_t i = take_one();
    write_all(i * 32, 32);
    release_mask(i, 0x00ff00f0, 1000);
    check(superslab_idle_dirty() == 12 * SLOT_BYTES);
    check(superslab_purge(1500, 1000) == 0 && dirty_of(i) == ALL, "too early");
    check(superslab_purge(2000, 1000) == 12 * SLOT_BYTES);
    check(dirty_of(i) == ~UINT32_C(0x00ff00f0) && unused_of(i) == 0x00ff00f0);
    for (uint32_t s = 0; s < 32; s++) {
        if ((dirty_of(i) >> s & 1) == 0)
            check_zero(i * 32 + s);
        else
            check(*arena_slot_start(i * 32 + s) == 0x5c, "slot %u was not free", s);
    }
    check(superslab_returned_bytes() == 12 * SLOT_BYTES && superslab_purge(9000, 0) == 0);
    check_rules();
}

Test(superslab, purge_returns_empty_superslabs_alone_and_in_rows) {
    start_arena(MIB(512));
    for (size_t count = 1; count <= 130; count = count * 2 + 3) {
        int error;
        uint32_t first = superslab_take(count, 1, &error);
        check(first != 0);
        for (uint32_t k = 0; k < count; k++)
            write_all((first + k) * 32 + k % 32, 1);
        superslab_release(first * 32, count * 32, 1000);
        check(superslab_warm_count() == count && superslab_idle_dirty() == count * SLOT_BYTES);
        check(superslab_purge(1999, 1000) == 0 || superslab_returned_bytes() == 0, "too early");
        check(superslab_purge(20000, 0) == count * SLOT_BYTES, "%zu", count);
        for (uint32_t k = 0; k < count; k++) {
            check(dirty_of(first + k) == 0 && bitset_test(superslab_avail, first + k));
            check_zero((first + k) * 32 + k % 32);
        }
        check_rules();
    }
}

Test(superslab, some_of_the_idle_memory_is_purged_when_some_is_asked_for) {
    start_arena(MIB(512));
    int error;
    uint32_t first = superslab_take(100, 1, &error);
    write_all(first * 32, 100 * 32);
    superslab_release(first * 32, 90 * 32, 1000);
    for (uint32_t i = first + 90; i < first + 100; i++)
        release_mask(i, 0xff, 1000);
    check(superslab_purge_some(1500, 1000, MIB(1)) == 0, "too early");
    check(superslab_purge_some(2000, 1000, 0) == 0);
    check(superslab_purge_some(2000, 1000, 1) == MIB(2));
    check(superslab_purge_some(2000, 1000, MIB(2)) == MIB(2));
    check(superslab_purge_some(2000, 1000, MIB(2) + 1) == MIB(4));
    check(superslab_warm_count() == 86);
    check(superslab_purge_some(2000, 1000, MIB(170)) == MIB(170));
    check(superslab_purge_some(2000, 1000, MIB(2) + 1) == MIB(2) + 8 * SLOT_BYTES);
    check(superslab_idle_dirty() == 9 * 8 * SLOT_BYTES);
    check_rules();
}

Test(superslab, fresh_counts_what_was_taken_and_not_resident) {
    start_arena(MIB(64));
    int error;
    uint32_t before = superslab_fresh;
    uint32_t first = superslab_take(3, 1, &error);
    check(superslab_fresh - before == 3);
    write_all(first * 32 + 40, 1);
    superslab_release(first * 32, 96, 1000);
    check(superslab_take_at(first, 3) == 0 && superslab_fresh - before == 5, "one was warm");
    superslab_release(first * 32, 96, 1000);
    check(superslab_take(1, 1, &error) == first + 1 && superslab_fresh - before == 5);
    check(superslab_take(1000, 1, &error) == 0 && superslab_fresh - before == 5);
}

Test(superslab, slots_that_a_huge_page_made_resident_are_purged_with_or_without_use) {
    start_arena(MIB(64));
    uint32_t i = take_one();
    check(superslab_make_huge(i, 1) == 1);
    (void)superslab_soil(i * 32, 8);
    memset(arena_slot_start(i * 32), 1, 8 * SLOT_BYTES);
    superslab_release(i * 32 + 4, 28, 1000);
    check(superslab_idle_dirty() == 4 * SLOT_BYTES, "what came along is not dirty");
    check(superslab_purge(2000, 1000) == 28 * SLOT_BYTES && dirty_of(i) == 0xf);
    check(os_resident(arena_slot_start(i * 32), SUPERSLAB_BYTES) == 4 * SLOT_BYTES);
    check(superslab_at(i)->pages == PAGES_SMALL, "the kernel may make it whole again");
    check(superslab_purge(4000, 1000) == 0, "once is enough");
    superslab_release(i * 32, 4, 5000);
    check(superslab_purge(6000, 1000) == 4 * SLOT_BYTES && dirty_of(i) == 0);
    check_rules();
}

Test(superslab, one_that_is_made_huge_later_keeps_what_is_in_it_and_is_purged_alike) {
    start_arena(MIB(64));
    uint32_t i = take_one();
    char *start = arena_slot_start(i * 32);
    (void)superslab_soil(i * 32, 8);
    memset(start, 7, 8 * SLOT_BYTES);
    superslab_release(i * 32 + 8, 24, 1000);
    if (!kernel_can_collapse())
        return;
    check(superslab_collapse(i) && superslab_at(i)->pages == PAGES_HUGE && !superslab_collapse(i), "it is so already");
    check(os_resident(start, SUPERSLAB_BYTES) == SUPERSLAB_BYTES);
    check(dirty_of(i) == 0xff && superslab_idle_dirty() == 0, "what came along is not dirty");
    check(superslab_purge(2000, 1000) == 24 * SLOT_BYTES);
    check(os_resident(start, SUPERSLAB_BYTES) == 8 * SLOT_BYTES);
    check(superslab_at(i)->pages == PAGES_SMALL);
    check(start[0] == 7 && memcmp(start, start + 1, 8 * SLOT_BYTES - 1) == 0);
    check_rules();
}

Test(superslab, one_is_small_as_before_where_the_process_may_not_have_huge_pages) {
    start_arena(MIB(64));
    uint32_t i = take_one();
    *arena_slot_start(i * 32) = 7;
    check(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
    check(!superslab_collapse(i));
    check(superslab_at(i)->pages == PAGES_SMALL && superslab_at(i)->along == 0);
}

#if HKM_OS_TEST
Test(superslab, one_that_the_kernel_does_not_make_huge_is_small_as_before) {
    start_arena(MIB(64));
    uint32_t i = take_one();
    *arena_slot_start(i * 32) = 7;
    refuse_at("os_collapse");
    check(!superslab_collapse(i) && times_refused == 1);
    check(superslab_at(i)->pages == PAGES_SMALL && superslab_at(i)->along == 0);
    os_test.fail = NULL;
    check(os_collapse(arena_slot_start(i * 32), SUPERSLAB_BYTES) != 0, "small ones were asked for");
}
#endif

Test(superslab, the_lowest_that_is_available_is_taken_also_after_it_was_given_back) {
    start_arena(MIB(64));
    uint32_t taken[4];
    for (unsigned i = 0; i < 4; i++)
        taken[i] = take_one();
    for (unsigned i = 4; i-- > 0;) { /* pages that nobody touched: no warm ones */
        superslab_release(taken[i] * 32, 32, 1000);
        check(take_one() == taken[i], "%u", i);
        superslab_release(taken[i] * 32, 32, 1000);
    }
}

Test(superslab, looks_in_vain_are_left_out_more_and_more) {
    struct superslab_looks looks = {0};
    for (unsigned skipped = 0, expected = 0; skipped < 200; expected = expected * 2 + 1) {
        unsigned most = expected < 63 ? expected : 63;
        for (unsigned i = 0; i < most; i++)
            check(!superslab_looks_due(&looks), "%u of %u", i, most);
        check(superslab_looks_due(&looks) && superslab_looks_due(&looks), "until it was done");
        superslab_looks_done(&looks, true, 63);
        skipped += most;
    }
    check(looks.skip == 63);
    superslab_looks_done(&looks, false, 63);
    check(looks.skip == 0 && superslab_looks_due(&looks));
}

Test(superslab, use_is_told_by_what_is_resident_under_small_pages) {
    start_arena(MIB(64));
    uint32_t i = take_one();
    check(superslab_use(i * 32, 32) == USE_UNKNOWN);
    *arena_slot_start(i * 32) = 1;
    check(superslab_use(i * 32, 32) == USE_SPARSE);
    memset(arena_slot_start(i * 32), 1, 24 * SLOT_BYTES);
    check(superslab_use(i * 32, 32) == USE_FILLED && superslab_use(i * 32 + 24, 8) == USE_UNKNOWN);
    check(superslab_make_huge(i, 1) == 1 && superslab_use(i * 32, 32) == USE_UNKNOWN);
    superslab_make_small(i, 1);
    (void)superslab_soil(i * 32, 1);
    check(superslab_make_huge(i, 1) == 0, "what is dirty keeps its pages");
}

Test(superslab, the_age_counts_from_the_latest_release) {
    start_arena(MIB(64));
    uint32_t i = take_one();
    write_all(i * 32, 32);
    release_mask(i, 1, 1000);
    release_mask(i, 2, 3000);
    release_mask(i, 4, 2000);
    check(superslab_purge(3999, 1000) == 0);
    check(superslab_purge(4000, 1000) == 3 * SLOT_BYTES);
}

/* os_clock_ms starts with the machine and wraps after 49 days. */
Test(superslab, memory_comes_back_at_every_time_of_the_clock) {
    start_arena(MIB(64));
    for (uint32_t quarter = 0; quarter < 4; quarter++) {
        uint32_t now = quarter << 30 | 12345;
        uint32_t i = take_one();
        write_all(i * 32, 32);
        superslab_release(i * 32, 32, now);
        check(superslab_purge(now + 999, 1000) == 0, "clock 0x%08x", now);
        check(superslab_purge(now + 1000, 1000) == SUPERSLAB_BYTES, "clock 0x%08x", now);
    }
}

Test(superslab, a_machine_up_for_30_days_returns_memory_too) {
    start_arena(MIB(64));
    uint32_t now = 30u * 86400u * 1000u;
    uint32_t i = take_one();
    write_all(i * 32, 32);
    release_mask(i, 1, now);
    check(superslab_purge(now + 1000, 1000) == SLOT_BYTES, "an open SuperSlab");
    release_mask(i, ~UINT32_C(1), now + 1000);
    check(superslab_purge(now + 2000, 1000) == 31 * SLOT_BYTES, "an empty SuperSlab");
}

/* ---- threads ---- */

static ATOMIC(uint32_t) holder[MIB(64) / SLOT_BYTES];

static size_t mark(uint32_t first, size_t count, uint32_t from, uint32_t to) {
    size_t wrong = 0;
    for (size_t s = first; s < first + count; s++)
        wrong += atomic_swap(&holder[s], to, relaxed) != from;
    return wrong;
}

static size_t claim_and_release(unsigned number, void *shared) {
    (void)shared;
    struct {
        uint32_t first, count;
    } held[8] = {{0, 0}};
    uint64_t state = unit_seed() + number;
    size_t wrong = 0;
    for (size_t step = unit_repeats(100000, 4000); step > 0; step--) {
        size_t h = unit_below(&state, 8);
        if (held[h].count != 0) {
            if (unit_below(&state, 2) == 0)
                (void)superslab_soil(held[h].first, held[h].count);
            wrong += mark(held[h].first, held[h].count, number + 1, 0);
            superslab_release(held[h].first, held[h].count, os_clock_ms());
            held[h].count = 0;
            continue;
        }
        int error;
        uint32_t count = 1 + (uint32_t)unit_below(&state, 12);
        uint32_t first = superslab_claim((uint32_t)unit_below(&state, superslab_top()), count, false);
        if (first == 0 && step % 4 == 0) {
            count = 32 * (1 + (uint32_t)unit_below(&state, 3));
            first = superslab_take(count / 32, 1, &error) * 32;
        }
        if (step % 1000 == 0)
            (void)superslab_purge(os_clock_ms(), 0);
        if (first != 0) {
            wrong += mark(first, count, 0, number + 1);
            held[h].first = first;
            held[h].count = count;
        }
    }
    for (size_t h = 0; h < 8; h++)
        if (held[h].count != 0) {
            wrong += mark(held[h].first, held[h].count, number + 1, 0);
            superslab_release(held[h].first, held[h].count, os_clock_ms());
        }
    return wrong;
}

Test(superslab, four_threads_never_hold_a_slot_twice_and_give_all_back) {
    start_arena(MIB(64));
    check(unit_run_threads(4, claim_and_release, NULL) == 0, "a slot was held twice");
    check(unused_of(0) == ~UINT32_C(1));
    for (uint32_t i = 1; i < superslab_top(); i++)
        check(bitset_test(superslab_avail, i), "SuperSlab %u", i);
    check_rules();
    int error;
    check(superslab_take(31, 1, &error) == 1, "the whole range is there again");
}
