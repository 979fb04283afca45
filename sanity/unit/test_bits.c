/* test_bits.c -- base/bits.h against definitions that count one bit at a time. */
#include "unit/unit.inc"

#include "base/bits.h"

static int naive_run(uint32_t mask, unsigned count, bool aligned) {
    for (unsigned at = 0; at + count <= 32; at += aligned ? count : 1) {
        bool all = true;
        for (unsigned i = at; i < at + count; i++)
            all = all && (mask >> i & 1) != 0;
        if (all)
            return (int)at;
    }
    return -1;
}

static void compare(uint32_t mask) {
    for (unsigned count = 1; count <= 32; count++) {
        check(bits_find_run(mask, count, false) == naive_run(mask, count, false),
              "mask %08x count %u", mask, count);
        if (is_power_of_two(count))
            check(bits_find_run(mask, count, true) == naive_run(mask, count, true),
                  "mask %08x count %u aligned", mask, count);
    }
}

Test(bits, find_run_agrees_with_a_naive_search_for_every_single_run_of_ones) {
    compare(0);
    for (unsigned from = 0; from < 32; from++)
        for (unsigned count = 1; from + count <= 32; count++) {
            uint32_t run = bits_below32(count) << from;
            compare(run);
            compare(~run);
            for (unsigned hole = 0; hole < 32; hole++)
                compare(run ^ UINT32_C(1) << hole);
        }
}

Test(bits, find_run_agrees_with_a_naive_search_for_every_mask_of_16_bits) {
    uint32_t step = unit_is_slow() ? 389 : 1;
    for (uint32_t half = 0; half < 65536; half += step) {
        compare(half);
        compare(half << 16);
    }
}

Test(bits, find_run_agrees_with_a_naive_search_for_random_masks) {
    uint64_t state = unit_seed();
    for (size_t i = unit_repeats(30000, 1000); i > 0; i--) {
        uint32_t mask = (uint32_t)unit_random(&state);
        compare(mask);
        compare(mask | (uint32_t)unit_random(&state));
        compare(mask & (uint32_t)unit_random(&state));
        compare(mask | (uint32_t)unit_random(&state) | (uint32_t)unit_random(&state));
    }
}

Test(bits, lowest_highest_and_count_agree_with_counting) {
    uint64_t state = unit_seed();
    for (unsigned low = 0; low < 64; low++)
        for (unsigned high = low; high < 64; high++) {
            uint64_t ends = UINT64_C(1) << low | UINT64_C(1) << high;
            uint64_t between = bits_below(high) & ~bits_below(low) & unit_random(&state);
            uint64_t word = ends | between;
            unsigned count = 0;
            for (unsigned i = 0; i < 64; i++)
                count += (unsigned)(word >> i & 1);
            check(bits_lowest(word) == low && bits_highest(word) == high, "%u %u", low, high);
            check(bits_count(word) == count);
        }
    check(bits_count(0) == 0);
}

Test(bits, below_sets_exactly_the_lowest_bits) {
    for (unsigned count = 0; count <= 64; count++)
        for (unsigned i = 0; i < 64; i++)
            check((bits_below(count) >> i & 1) == (i < count), "count %u bit %u", count, i);
    for (unsigned count = 0; count <= 32; count++)
        check(bits_below32(count) == (uint32_t)((UINT64_C(1) << count) - 1));
}

Test(bits, is_power_of_two_holds_for_the_64_powers_and_no_neighbour) {
    check(!is_power_of_two(0));
    for (unsigned i = 0; i < 64; i++) {
        size_t n = (size_t)1 << i;
        check(is_power_of_two(n), "2^%u", i);
        check(is_power_of_two(n + 1) == (n == 1), "2^%u + 1", i);
        if (i > 1)
            check(!is_power_of_two(n - 1), "2^%u - 1", i);
        for (unsigned k = 0; k < i; k++)
            check(!is_power_of_two(n | (size_t)1 << k));
    }
}

Test(bits, rounding_gives_the_nearest_multiple_on_each_side) {
    for (size_t unit = 1; unit <= 65536; unit *= 2)
        for (size_t n = 0; n < 3 * unit && n < 5000; n++) {
            size_t up = round_up(n, unit);
            size_t down = round_down(n, unit);
            check(up % unit == 0 && up >= n && up - n < unit, "%zu to %zu", n, unit);
            check(down % unit == 0 && down <= n && n - down < unit, "%zu to %zu", n, unit);
        }
}
