/* test_slot.c -- the state machine's every pair, and every block of every class. */
#include <signal.h>

#include "unit/unit.inc"

#include "core/heap.h"
#include "core/slot.h"

#define HELD 4u /* the SuperSlab that the tests carve in: they hold all of it */

static const uint32_t owner = 77;
static void *blocks[SLOT_BLOCKS_MAX + 1];

static void start_arena(void) {
    check(arena_init(MIB(64)) == 0);
    check(superslab_take_at(HELD, 1) == 0);
}

/* ---- states ---- */

/* The diagram in slot.h, arrow by arrow. */
static const enum slot_state arrows[][2] = {
    {SLOT_UNUSED, SLOT_ACTIVE}, {SLOT_ACTIVE, SLOT_EMPTY},  {SLOT_EMPTY, SLOT_ACTIVE},
    {SLOT_EMPTY, SLOT_UNUSED},  {SLOT_UNUSED, SLOT_LARGE},  {SLOT_LARGE, SLOT_CACHED},
    {SLOT_CACHED, SLOT_LARGE},  {SLOT_CACHED, SLOT_UNUSED},
};

static bool put_one(struct slot *slot, void *block) {
    struct slot_finder finder = slot_finder(slot->class);
    check(slot_find(&finder, block) == slot);
    unsigned before = slot_free(slot);
    unsigned free = slot_put_one(slot, &finder, slot->capacity, block);
    check(free == 0 ? slot_free(slot) == before : free == before + 1 && slot_free(slot) == free);
    return free != 0;
}

/* slot_take to out[], ascending: it hands out from the end of the array down. */
static unsigned take(struct slot *slot, void **out, unsigned count) {
    static void *down[SLOT_BLOCKS_MAX];
    unsigned got = slot_take(slot, down + count, count);
    for (unsigned i = 0; i < got; i++)
        out[i] = down[count - 1 - i];
    return got;
}

/* slot_put until one is refused; how many were put. */
static unsigned put(struct slot *slot, void *const *some, unsigned count) {
    unsigned done = 0;
    while (done < count) {
        unsigned more = slot_put(slot, slot->class, some + done, count - done);
        check(more <= count - done);
        if (more == 0)
            break;
        done += more;
    }
    return done;
}

Test(slot, the_table_of_transitions_is_the_diagram) {
    bool drawn[SLOT_STATES][SLOT_STATES] = {{false}};
    for (size_t i = 0; i < sizeof arrows / sizeof arrows[0]; i++)
        drawn[arrows[i][0]][arrows[i][1]] = true;
    for (int from = 0; from < SLOT_STATES; from++)
        for (int to = 0; to < SLOT_STATES; to++)
            check(slot_legal[from][to] == drawn[from][to], "%s -> %s", slot_state_name[from],
                  slot_state_name[to]);
}

Test(slot, change_follows_the_table_for_every_pair_in_every_state) {
    start_arena();
    const uint32_t number = HELD * SUPERSLAB_SLOTS + 5;
    for (int is = 0; is < SLOT_STATES; is++)
        for (int from = 0; from < SLOT_STATES; from++)
            for (int to = 0; to < SLOT_STATES; to++) {
                struct superslab before;
                atomic_put(&slot_head(number)->state, (uint8_t)is, relaxed);
                memcpy(&before, superslab_at(HELD), sizeof before);
                bool expected = is == from && slot_legal[from][to];
                bool changed = slot_change(number, (enum slot_state)from, (enum slot_state)to);
                check(changed == expected, "in %s: %s -> %s", slot_state_name[is],
                      slot_state_name[from], slot_state_name[to]);
                check((int)slot_state(number) == (changed ? to : is));
                atomic_put(&slot_head(number)->state, (uint8_t)is, relaxed);
                check(memcmp(&before, superslab_at(HELD), sizeof before) == 0, "something else");
            }
}

static size_t race_for_the_state(unsigned number, void *shared) {
    (void)number;
    ATOMIC(size_t) *won = shared;
    for (int i = 0; i < 2000; i++) {
        if (slot_change(HELD * 32, SLOT_UNUSED, SLOT_LARGE)) {
            atomic_add(won, 1, relaxed);
            if (!slot_change(HELD * 32, SLOT_LARGE, SLOT_CACHED) ||
                !slot_change(HELD * 32, SLOT_CACHED, SLOT_UNUSED))
                return 1;
        }
    }
    return 0;
}

Test(slot, only_one_of_four_threads_makes_a_change) {
    start_arena();
    ATOMIC(size_t) won = 0;
    check(unit_run_threads(4, race_for_the_state, &won) == 0, "another thread's state was changed");
    check(atomic_get(&won, relaxed) > 0 && slot_state(HELD * 32) == SLOT_UNUSED);
}

Test(slot, numbers_and_records_are_inverse) {
    start_arena();
    for (uint32_t number = 0; number < arena.slot_count; number++) {
        check(slot_number(slot_at(number)) == number);
        check(slot_head(number) == &superslab_at(number / 32)->heads[number % 32]);
    }
}

/* ---- carved runs ---- */

static unsigned bits_set(const struct slot *slot) {
    unsigned count = 0;
    for (unsigned w = 0; w < slot_words(slot); w++)
        count += bits_count(slot->bits[w]);
    return count;
}

/* S1, S3 and S4. */
static void check_run(const struct slot *slot) {
    check(bits_set(slot) == slot_free(slot) && slot_free(slot) <= slot->capacity, "S1");
    for (unsigned w = 0; w < slot->first && w < slot_words(slot); w++)
        check(slot->bits[w] == 0, "S4 word %u below first %u", w, slot->first);
    if (slot->capacity % 64 != 0)
        check(slot->bits[slot_words(slot) - 1] >> (slot->capacity % 64) == 0, "S4 above capacity");
}

static struct slot *carve(unsigned class, unsigned at) {
    struct slot *slot = slot_at(HELD * SUPERSLAB_SLOTS + at);
    memset(slot->inline_bits, 0xab, sizeof slot->inline_bits);
    slot_carve(slot, class, owner);
    return slot;
}

static void retire(struct slot *slot) {
    uint32_t number = slot_number(slot);
    check(slot_change(number, SLOT_ACTIVE, SLOT_EMPTY));
    slot_retire(slot);
    check(slot_state(number) == SLOT_UNUSED && atomic_get(&slot->owner, relaxed) == 0);
    for (uint32_t i = 0; i < SUPERSLAB_SLOTS; i++)
        check(arena_class_of_slot(HELD * SUPERSLAB_SLOTS + i) == 0, "A2 slot %u", i);
}

Test(slot, carving_lays_out_every_class_at_every_place) {
    start_arena();
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        const struct sizeclass *sc = &sizeclass_table[class];
        for (unsigned at = 0; at < SUPERSLAB_SLOTS; at += sc->run_slots) {
            struct slot *slot = carve(class, at);
            uint32_t number = slot_number(slot);
            char *run = arena_slot_start(number);
            size_t colour = (size_t)(slot->start - run);
            check(slot->class == class && slot_head(number)->run_slots == sc->run_slots);
            check(slot_state(number) == SLOT_ACTIVE && atomic_get(&slot->owner, relaxed) == owner);
            check(slot->capacity == (sc->run_slots * SLOT_BYTES - colour) / sc->bytes);
            check((uintptr_t)slot->start % ((size_t)1 << bits_lowest(sc->bytes)) == 0);
            check(slot_free(slot) == slot->capacity && slot->first == 0);
            check_run(slot);
            for (uint32_t i = 0; i < SUPERSLAB_SLOTS; i++) {
                bool in = i >= at && i < at + sc->run_slots;
                check(arena_class_of_slot(HELD * 32 + i) == (in ? class : 0), "class %u", class);
            }
            retire(slot);
        }
    }
}

Test(slot, bitmaps_of_different_slots_do_not_overlap) {
    start_arena();
    struct slot *slots[4];
    for (unsigned i = 0; i < 4; i++)
        slots[i] = carve(1, i);
    for (unsigned i = 0; i < 4; i++) {
        check(take(slots[i], blocks, SLOT_BLOCKS_MAX) == slots[i]->capacity);
        for (unsigned k = 0; k < 4; k++)
            check(bits_set(slots[k]) == (k <= i ? 0u : slots[k]->capacity), "%u and %u", i, k);
    }
}

Test(slot, taking_every_block_gives_each_address_once_ascending_and_empties_the_bitmap) {
    start_arena();
    uint64_t state = unit_seed();
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        size_t bytes = sizeclass_bytes(class);
        for (unsigned most = 1; most <= 4096; most *= 8) {
            struct slot *slot = carve(class, 0);
            char *end = arena_slot_start(slot_number(slot)) +
                        sizeclass_table[class].run_slots * SLOT_BYTES;
            unsigned taken = 0;
            while (slot_free(slot) > 0) {
                unsigned want = 1 + (unsigned)unit_below(&state, most);
                unsigned had = slot_free(slot);
                unsigned got = take(slot, blocks, want);
                check(got == (want < had ? want : had), "class %u", class);
                for (unsigned i = 0; i < got; i++, taken++)
                    check((char *)blocks[i] == slot->start + taken * bytes &&
                              (char *)blocks[i] + bytes <= end &&
                              slot_of_block(class, blocks[i]) == slot &&
                              slot_of_block(class, (char *)blocks[i] + bytes - 1) == slot,
                          "class %u block %u", class, taken);
                if (unit_below(&state, 16) == 0)
                    check_run(slot);
            }
            check(taken == slot->capacity && bits_set(slot) == 0, "class %u", class);
            check(take(slot, blocks, 1) == 0);
            for (unsigned i = 0; i < taken; i++)
                check(put_one(slot, slot->start + i * bytes));
            check_run(slot);
            check(slot_free(slot) == slot->capacity, "S3");
            retire(slot);
        }
    }
}

static char *live_page(unsigned class, const void *block) {
    return (char *)round_down((uintptr_t)arena_live_byte(class, block), os_page_bytes());
}

/* Half as many as were out before, and one more; what came back goes out first, and alone. */
Test(slot, of_blocks_that_were_never_out_few_are_taken_at_once) {
    start_arena();
    struct slot *slot = slot_at(HELD * SUPERSLAB_SLOTS);
    slot_carve(slot, sizeclass_of(4096), owner);
    check(slot->capacity == 16);
    slot->fresh = 16;
    const unsigned expected[] = {1, 1, 2, 3};
    unsigned all = 0;
    for (unsigned i = 0; i < 4; i++) {
        check(take(slot, blocks + all, 16) == expected[i]);
        all += expected[i];
    }
    check(take(slot, blocks + all++, 1) == 1 && slot->fresh == 8);
    check(put_one(slot, blocks[3]) && put_one(slot, blocks[5]));
    void *again[16];
    check(take(slot, again, 1) == 1 && again[0] == blocks[3] && slot->fresh == 8);
    check(take(slot, again, 16) == 1 && again[0] == blocks[5] && slot->fresh == 8);
    check(take(slot, again, 16) == 5 && take(slot, again, 16) == 3 && slot->fresh == 0);
    check(put_one(slot, again[0]) && put_one(slot, blocks[7]) && take(slot, again, 16) == 2);
}

Test(slot, of_small_blocks_all_are_taken_at_once) {
    start_arena();
    struct slot *slot = slot_at(HELD * SUPERSLAB_SLOTS);
    slot_carve(slot, sizeclass_of(2048), owner);
    slot->fresh = slot->capacity;
    check(take(slot, blocks, slot->capacity) == slot->capacity);
}

Test(slot, the_live_byte_of_what_is_handed_out_is_on_a_page_that_is_there) {
    start_arena();
    unsigned class = sizeclass_of(96);
    size_t page = os_page_bytes();
    unsigned crossing = 0;
    for (unsigned at = 0; at < SUPERSLAB_SLOTS; at++) {
        struct slot *slot = carve(class, at);
        check(os_resident(live_page(class, slot->start), page) == page);
        char *last = live_page(class, slot->start + (slot->capacity - 1u) * 96u);
        if (os_resident(last, page) != 0)
            continue;
        crossing++;
        unsigned before = take(slot, blocks, slot->capacity - 1u);
        check(before == slot->capacity - 1u && os_resident(last, page) == 0, "slot %u", at);
        check(take(slot, blocks, 1) == 1 && os_resident(last, page) == page, "slot %u", at);
    }
    check(crossing > 0 || page > 4096, "no run's live bytes end on another page");
}

Test(slot, put_takes_each_block_once_and_refuses_it_the_second_time) {
    start_arena();
    uint64_t state = unit_seed();
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        struct slot *slot = carve(class, 0);
        unsigned count = take(slot, blocks, SLOT_BLOCKS_MAX);
        check(count == slot->capacity && slot_free(slot) == 0);
        for (unsigned i = count; i > 1; i--) {
            size_t k = unit_below(&state, i);
            void *other = blocks[i - 1];
            blocks[i - 1] = blocks[k];
            blocks[k] = other;
        }
        for (unsigned i = 0; i < count; i++) {
            check(put_one(slot, blocks[i]), "class %u", class);
            if (i % 97 == 0)
                check_run(slot);
        }
        check_run(slot);
        retire(slot);
    }
}

Test(slot, a_block_that_is_in_the_bitmap_is_refused_and_so_is_a_stretch_that_holds_it) {
    start_arena();
    struct slot *slot = carve(20, 0);
    check(take(slot, blocks, 5) == 5);
    check(put_one(slot, blocks[2]) && !put_one(slot, blocks[2]));
    check(slot_put(slot, 20, blocks, 5) == 0 && slot_free(slot) == slot->capacity - 4u);
    check(slot_put(slot, 20, blocks + 2, 1) == 0 && slot_free(slot) == slot->capacity - 4u);
    check_run(slot);
    void *twice[2] = {blocks[1], blocks[1]};
    check(put(slot, twice, 2) == 1);
    check_run(slot);
}

/* A run of which all blocks are out, but one or two are said to be free; what lies behind its bitmap
 * looks like more of it. */
static void take_what_is_not_there(unsigned count) {
    start_arena();
    struct slot *slot = carve(20, 0);
    check(slot_words(slot) < SLOT_INLINE_WORDS);
    unsigned all = slot->capacity;
    check(take(slot, blocks, all) == all);
    atomic_put(&slot->free_count, (uint16_t)count, relaxed);
    (void)take(slot, blocks, count);
}

Test(slot, one_block_is_not_taken_from_behind_the_bitmap, .signal = SIGABRT) {
    take_what_is_not_there(1);
}
Test(slot, blocks_are_not_taken_from_behind_the_bitmap, .signal = SIGABRT) {
    take_what_is_not_there(2);
}

Test(slot, stretches_up_and_down_end_at_the_word_and_at_the_run) {
    start_arena();
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        struct slot *slot = carve(class, 0);
        unsigned count = take(slot, blocks, SLOT_BLOCKS_MAX);
        for (unsigned most = 1; most <= 200; most = most * 3 + 1) { /* blocks put at once */
            for (unsigned from = 0; from < count; from += most) {
                unsigned n = count - from < most ? count - from : most;
                check(put(slot, blocks + from, n) == n, "class %u", class);
                check_run(slot);
            }
            check(take(slot, blocks, count) == count);
            for (unsigned i = 0, k = count; i + 1 < k; i++) {
                void *block = blocks[i];
                blocks[i] = blocks[--k];
                blocks[k] = block;
            }
            check(put(slot, blocks, count) == count, "class %u down", class);
            check_run(slot);
            check(take(slot, blocks, count) == count);
        }
        check(put(slot, blocks, count) == count);
        retire(slot);
    }
}

Test(slot, put_stops_at_the_first_block_of_another_run) {
    start_arena();
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        struct slot *slot = carve(class, 0);
        unsigned count = take(slot, blocks, 4);
        char *last = slot->start + (size_t)slot->capacity * sizeclass_bytes(class);
        for (unsigned k = 0; k < count; k++) { /* the k-th one is foreign, above or below */
            void *own = blocks[k];
            blocks[k] = k % 2 == 0 ? last : slot->start - sizeclass_bytes(class);
            check(put(slot, blocks, count) == k, "class %u, %u", class, k);
            blocks[k] = own;
            check(take(slot, blocks, k) == k, "class %u, %u", class, k);
        }
        check(put(slot, blocks, count) == count);
        check_run(slot);
        retire(slot);
    }
}

Test(slot, random_takes_and_puts_keep_a_model_of_the_run) {
    start_arena();
    static bool out[SLOT_BLOCKS_MAX];
    uint64_t state = unit_seed();
    for (unsigned class = 1; class < CLASS_COUNT; class += 5) {
        struct slot *slot = carve(class, 0);
        size_t bytes = sizeclass_bytes(class);
        memset(out, 0, sizeof out);
        unsigned away = 0;
        for (size_t step = unit_repeats(2000, 100); step > 0; step--) {
            if (unit_below(&state, 2) == 0) {
                unsigned got = take(slot, blocks, 1 + (unsigned)unit_below(&state, 100));
                unsigned expected = 0; /* lowest addresses first */
                for (unsigned i = 0; i < got; i++, away++) {
                    while (out[expected])
                        expected++;
                    check((char *)blocks[i] == slot->start + expected * bytes, "class %u", class);
                    out[expected] = true;
                }
            } else if (away > 0) {
                size_t i = unit_below(&state, slot->capacity);
                while (!out[i])
                    i = (i + 1) % slot->capacity;
                check(put_one(slot, slot->start + i * bytes));
                out[i] = false;
                away--;
            }
            check(slot_free(slot) + away == slot->capacity);
            check_run(slot);
        }
        for (unsigned i = 0; i < slot->capacity; i++)
            check((slot->bits[i / 64] >> (i % 64) & 1) != out[i], "block %u", i);
        while (away > 0 && take(slot, blocks, 1) == 1)
            away++;
        for (unsigned i = 0; i < slot->capacity; i++)
            check(put_one(slot, slot->start + i * bytes));
        retire(slot);
    }
}

Test(slot, what_lies_beyond_the_last_block_or_below_the_first_is_not_put_alone) {
    start_arena();
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        struct slot *slot = carve(class, 0);
        struct slot_finder finder = slot_finder(class);
        size_t bytes = sizeclass_bytes(class);
        char *beyond = slot->start + slot->capacity * bytes;
        check(take(slot, blocks, SLOT_BLOCKS_MAX) == slot->capacity);
        check(slot_put_one(slot, &finder, slot->capacity, beyond) == 0, "class %u", class);
        check(slot_put_one(slot, &finder, slot->capacity, slot->start - bytes) == 0);
        check(slot_put_one(slot, &finder, slot->capacity, beyond - bytes) == 1);
        check(put(slot, blocks, slot->capacity - 1) == slot->capacity - 1u);
        check_run(slot);
        retire(slot);
    }
}

/* Whatever stands in a magazine or packet that is not a block's start does not go home. */
Test(slot, only_the_start_of_a_block_is_put) {
    start_arena();
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        const struct sizeclass *sc = &sizeclass_table[class];
        check(sc->bytes % BLOCK_ALIGN == 0 && sc->inverse == ((UINT64_C(1) << 42) + sc->bytes - 1) / sc->bytes);
        size_t run = sc->run_slots * SLOT_BYTES;
        for (uint64_t offset = 0; offset < run; offset += class % 8 == 0 ? 1 : 8) {
            uint64_t index = slot_exact_index(sc->inverse, offset);
            if (offset % sc->bytes == 0)
                check(index == offset / sc->bytes, "class %u, offset %llu", class, (unsigned long long)offset);
            else
                check(index >= SLOT_BLOCKS_MAX, "class %u, offset %llu", class, (unsigned long long)offset);
        }
    }
}
