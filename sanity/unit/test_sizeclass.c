/* test_sizeclass.c -- C1..C4 for every size, every offset of every run, every alignment. */
#include "unit/unit.inc"

#include "core/alloc.h"
#include "core/sizeclass.h"
#include "hakmem/hakmem.h"
#include "os/os.h"

Test(sizeclass, every_size_gets_the_smallest_class_that_fits) {
    for (size_t n = 0; n <= SMALL_BYTES_MAX; n++) {
        unsigned class = sizeclass_of(n);
        check(class >= 1 && class < CLASS_COUNT, "%zu", n);
        check(sizeclass_bytes(class) >= n, "%zu", n);
        check(class == 1 || sizeclass_bytes(class - 1) < n, "%zu", n);
    }
}

Test(sizeclass, no_block_above_128_bytes_wastes_more_than_an_eighth_or_above_32_KiB_a_quarter) {
    for (size_t n = 0; n <= SMALL_BYTES_MAX; n++) {
        size_t waste = sizeclass_bytes(sizeclass_of(n)) - n;
        size_t parts = n <= KIB(32) ? 8 : 4;
        check(n <= 128 ? waste < 16 + (n == 0) : waste * parts <= n, "%zu wastes %zu", n, waste);
    }
}

Test(sizeclass, the_medium_formula_holds_from_129_bytes) {
    for (size_t n = 129; n <= SMALL_BYTES_MAX; n++)
        check(sizeclass_of_medium(n) == sizeclass_of(n), "%zu", n);
}

Test(sizeclass, the_fast_table_names_the_same_magazine_for_every_size_it_covers) {
    for (size_t n = 0; n <= FAST_BYTES_MAX; n++)
        check(sizeclass_fast[(n + 15) / 16] == sizeclass_of(n) << MAGAZINE_SHIFT, "%zu", n);
}

Test(sizeclass, good_size_is_the_least_usable_size_for_every_request_to_2_MiB) {
    size_t page = os_page_bytes();
    for (size_t n = 0; n <= MIB(2); n++) {
        size_t good = hkm_good_size(n);
        size_t expected = n <= SMALL_BYTES_MAX ? sizeclass_bytes(sizeclass_of(n))
                                               : (n + page - 1) / page * page;
        if (HKM_CHECK_LEVEL >= 1) /* behind it is redzone */
            expected = n > 0 ? n : 1;
        check(good == expected && good >= n, "%zu: %zu", n, good);
    }
    check(hkm_good_size(PTRDIFF_MAX) >= PTRDIFF_MAX);
    check(hkm_good_size((size_t)PTRDIFF_MAX + 1) == 0 && hkm_good_size(SIZE_MAX) == 0);
}

Test(sizeclass, sizes_ascend_in_multiples_of_16) {
    check(sizeclass_bytes(1) == 16 && sizeclass_bytes(CLASS_COUNT - 1) == SMALL_BYTES_MAX);
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        check(sizeclass_bytes(class) % 16 == 0, "class %u", class);
        check(class == 1 || sizeclass_bytes(class) > sizeclass_bytes(class - 1), "class %u", class);
    }
}

Test(sizeclass, runs_are_powers_of_two_that_hold_enough_blocks) {
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        const struct sizeclass *sc = &sizeclass_table[class];
        size_t run = sc->run_slots * SLOT_BYTES;
        check(is_power_of_two(sc->run_slots) && sc->run_slots <= SUPERSLAB_SLOTS, "%u", class);
        check(sc->capacity == run / sc->bytes, "class %u", class);
        check(sc->capacity >= (sc->bytes > KIB(32) ? 4u : 8u), "class %u", class);
        check(sc->capacity <= SLOT_BLOCKS_MAX && sc->capacity <= UINT16_MAX, "class %u", class);
        check(run - (size_t)sc->capacity * sc->bytes <= run / 8, "class %u leaves much", class);
    }
}

Test(sizeclass, a_granule_of_the_live_map_is_no_longer_than_a_block) {
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        uint32_t shift = sizeclass_table[class].live_shift;
        check(shift == 4 || shift == 5 || shift == 7, "class %u", class);
        check((size_t)1 << shift <= sizeclass_bytes(class), "C4 class %u", class);
    }
}

Test(sizeclass, the_index_is_exact_for_every_offset_of_every_run) {
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        size_t bytes = sizeclass_bytes(class);
        size_t run = sizeclass_table[class].run_slots * SLOT_BYTES;
        size_t step = unit_is_slow() ? 509 : 1;
        size_t index = 0;
        size_t start = 0;
        for (size_t offset = 0; offset < run; offset += step) {
            while (offset >= start + bytes) {
                start += bytes;
                index++;
                check(sizeclass_index(class, start) == index &&
                          sizeclass_index(class, start - 1) == index - 1,
                      "C3 class %u boundary %zu", class, start);
            }
            check(sizeclass_index(class, offset) == index, "C3 class %u offset %zu", class, offset);
        }
    }
}

static unsigned naive_aligned(size_t bytes, size_t alignment) {
    if (alignment > SLOT_BYTES)
        return 0;
    for (unsigned class = 1; class < CLASS_COUNT; class++)
        if (sizeclass_bytes(class) >= bytes && sizeclass_bytes(class) >= alignment &&
            sizeclass_bytes(class) % alignment == 0)
            return class;
    return 0;
}

Test(sizeclass, of_aligned_is_the_smallest_naturally_aligned_class_for_every_power_of_two) {
    for (unsigned shift = 0; shift < 64; shift++) {
        size_t alignment = (size_t)1 << shift;
        for (unsigned class = 1; class < CLASS_COUNT; class++)
            for (size_t n = sizeclass_bytes(class) - 1; n <= sizeclass_bytes(class) + 1; n++)
                check(sizeclass_of_aligned(n, alignment) == naive_aligned(n, alignment),
                      "%zu aligned to 2^%u", n, shift);
        for (unsigned k = 0; k < 64; k++)
            for (int more = -1; more <= 1; more++) {
                size_t n = ((size_t)1 << k) + (size_t)more;
                check(sizeclass_of_aligned(n, alignment) == naive_aligned(n, alignment),
                      "%zu aligned to 2^%u", n, shift);
            }
        check(sizeclass_of_aligned(0, alignment) == naive_aligned(0, alignment));
        check(sizeclass_of_aligned(SIZE_MAX, alignment) == 0);
    }
}

Test(sizeclass, a_colour_keeps_natural_alignment_and_gives_up_few_blocks) {
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        const struct sizeclass *sc = &sizeclass_table[class];
        size_t natural = (size_t)1 << bits_lowest(sc->bytes);
        size_t run = sc->run_slots * SLOT_BYTES;
        for (size_t number = 0; number < 300; number++) {
            size_t colour = sizeclass_colour(class, number);
            check(colour % natural == 0, "class %u run %zu", class, number);
            check(colour < run, "class %u run %zu", class, number);
            size_t fit = (run - colour) / sc->bytes;
            check(fit >= 1 && fit <= sc->capacity, "class %u run %zu", class, number);
            check((sc->capacity - fit) * sc->bytes < SLOT_BYTES / 64 + sc->bytes,
                  "class %u gives up %zu of %u", class, sc->capacity - fit, sc->capacity);
        }
    }
}

Test(sizeclass, neighbouring_runs_of_small_classes_start_in_different_cache_sets) {
    for (unsigned class = 1; sizeclass_bytes(class) <= 512; class++)
        for (size_t number = 0; number < 100; number++)
            check(sizeclass_colour(class, number) != sizeclass_colour(class, number + 1),
                  "class %u run %zu", class, number);
}
