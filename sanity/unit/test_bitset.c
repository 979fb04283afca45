/* test_bitset.c -- base/bitset.h: searches against a model of bools, claims by threads. */
#include "unit/unit.inc"

#include "base/bitset.h"

#define BITS 320u

static bitset_word set[BITS / 64];
static bool model[BITS];

static void fill(uint64_t *state, unsigned kind) {
    for (size_t i = 0; i < BITS / 64; i++)
        atomic_put(&set[i], 0, relaxed);
    for (size_t i = 0; i < BITS; i++) {
        model[i] = kind == 0   ? false
                   : kind == 1 ? true
                   : kind == 2 ? unit_below(state, 40) == 0
                   : kind == 3 ? unit_below(state, 40) != 0
                               : unit_below(state, 2) == 0;
        if (model[i])
            bitset_give(set, i);
    }
}

static void agrees_with_model(void) {
    for (size_t i = 0; i < BITS; i++)
        check(bitset_test(set, i) == model[i], "bit %zu", i);
}

Test(bitset, next_set_and_next_clear_agree_with_a_walk_from_every_start_to_every_end) {
    uint64_t state = unit_seed();
    for (unsigned round = 0; round < unit_repeats(20, 5); round++) {
        fill(&state, round % 5);
        for (size_t end = 0; end <= BITS; end += round < 5 ? 7 : 1) {
            size_t next[2] = {end, end}; /* of a clear, of a set bit */
            for (size_t from = end + 1; from-- > 0;) {
                if (from < end)
                    next[model[from]] = from;
                check(bitset_next_set(set, from, end) == next[1], "%zu to %zu", from, end);
                check(bitset_next_clear(set, from, end) == next[0], "%zu to %zu", from, end);
            }
        }
    }
}

Test(bitset, a_claim_wins_a_set_bit_once) {
    uint64_t state = unit_seed();
    fill(&state, 4);
    for (size_t i = 0; i < BITS; i++) {
        check(bitset_claim(set, i) == model[i], "bit %zu", i);
        check(!bitset_claim(set, i), "bit %zu", i);
        model[i] = false;
        if (i % 64 == 63)
            agrees_with_model();
    }
}

Test(bitset, give_run_sets_exactly_the_run) {
    for (size_t first = 0; first < BITS; first += 3)
        for (size_t count = 0; first + count <= BITS; count += 1 + count / 8) {
            memset(model, 0, sizeof model);
            for (size_t i = 0; i < BITS / 64; i++)
                atomic_put(&set[i], 0, relaxed);
            for (size_t i = first; i < first + count; i++)
                model[i] = true;
            bitset_give_run(set, first, count);
            agrees_with_model();
        }
}

Test(bitset, claim_run_takes_all_of_the_run_and_nothing_else) {
    uint64_t state = unit_seed();
    for (size_t first = 0; first < BITS; first += 3)
        for (size_t count = 1; first + count <= BITS; count += 1 + count / 8) {
            fill(&state, 4);
            bitset_give_run(set, first, count);
            for (size_t i = first; i < first + count; i++)
                model[i] = false;
            check(bitset_claim_run(set, first, count), "%zu %zu", first, count);
            agrees_with_model();
        }
}

Test(bitset, claim_run_rolls_back_when_any_bit_is_missing) {
    uint64_t state = unit_seed();
    for (size_t first = 0; first < BITS; first += 17)
        for (size_t count = 1; first + count <= BITS; count += 13)
            for (size_t hole = first; hole < first + count; hole += 1 + count / 6) {
                fill(&state, 4);
                for (size_t i = first; i < first + count; i++)
                    model[i] = i != hole;
                bitset_give_run(set, first, count);
                check(bitset_claim(set, hole));
                check(!bitset_claim_run(set, first, count), "%zu %zu", first, count);
                agrees_with_model();
            }
}

/* ---- threads ---- */

#define MANY 65536u

struct race {
    bitset_word bits[MANY / 64];
    ATOMIC(uint32_t) holders[MANY];
    ATOMIC(size_t) won;
};

static size_t claim_every_bit(unsigned number, void *shared) {
    struct race *race = shared;
    size_t won = 0;
    size_t start = number % 2 == 0 ? 0 : MANY / 2;
    for (size_t k = 0; k < MANY; k++) {
        size_t i = (start + k) % MANY;
        if (bitset_claim(race->bits, i)) {
            won++;
            atomic_add(&race->holders[i], 1, relaxed);
        }
    }
    atomic_add(&race->won, won, relaxed);
    return 0;
}

Test(bitset, each_bit_is_won_by_exactly_one_of_four_threads) {
    struct race *race = calloc(1, sizeof *race);
    for (unsigned round = 0; round < unit_repeats(20, 1); round++) {
        memset(race, 0, sizeof *race);
        bitset_give_run(race->bits, 0, MANY);
        check(unit_run_threads(4, claim_every_bit, race) == 0);
        check(atomic_get(&race->won, relaxed) == MANY);
        for (size_t i = 0; i < MANY; i++)
            check(atomic_get(&race->holders[i], relaxed) == 1, "bit %zu", i);
    }
    free(race);
}

static size_t claim_and_give_runs(unsigned number, void *shared) {
    struct race *race = shared;
    uint64_t state = unit_seed() + number;
    size_t wrong = 0;
    for (size_t step = unit_repeats(60000, 3000); step > 0; step--) {
        size_t count = 1 + unit_below(&state, 150);
        size_t first = unit_below(&state, 512 - count);
        bool single = step % 4 == 0;
        if (single ? !bitset_claim(race->bits, first) : !bitset_claim_run(race->bits, first, count))
            continue;
        size_t end = single ? first + 1 : first + count;
        for (size_t i = first; i < end; i++)
            wrong += atomic_add(&race->holders[i], 1, relaxed) != 0;
        for (size_t i = first; i < end; i++)
            wrong += atomic_sub(&race->holders[i], 1, relaxed) != 1;
        bitset_give_run(race->bits, first, end - first);
        atomic_add(&race->won, 1, relaxed);
    }
    return wrong;
}

Test(bitset, overlapping_runs_claimed_by_four_threads_are_never_held_twice) {
    struct race *race = calloc(1, sizeof *race);
    bitset_give_run(race->bits, 0, 512);
    check(unit_run_threads(4, claim_and_give_runs, race) == 0);
    check(atomic_get(&race->won, relaxed) > 1000, "hardly anything was claimed");
    check(bitset_next_clear(race->bits, 0, 512) == 512, "a failed claim kept a bit");
    free(race);
}
