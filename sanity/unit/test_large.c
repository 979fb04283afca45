/* test_large.c -- L1..L3: the big cache, resizing in place both ways, moving, alignment, threads. */
#include "unit/kernel.inc"

#include "core/large.h"
#include "core/options.h"

static void start_arena(size_t bytes) {
    options.prefault = PREFAULT_OFF; /* the same on every machine */
    check(arena_init(bytes) == 0);
}

static bool last_clean, last_cached;

static void *try_alloc(size_t bytes, size_t alignment) {
    return large_alloc(bytes, alignment, &last_clean, &last_cached);
}

/* L1 and L2. */
static void check_run(const void *block, size_t bytes) {
    uint32_t first = arena_slot_of(block);
    size_t count = slot_head(first)->run_slots;
    check(arena_slot_start(first) == block && slot_state(first) == SLOT_LARGE);
    check(large_bytes_of(first) >= bytes && large_bytes_of(first) % os_page_bytes() == 0, "L2");
    check(large_bytes_of(first) <= count * SLOT_BYTES, "L2");
    for (uint32_t s = first; s < first + count; s++) {
        check(arena_class_of_slot(s) == (s == first ? CLASS_LARGE_HEAD : CLASS_LARGE_TAIL), "L1");
        check((atomic_get(&superslab_at(s / 32)->unused, relaxed) >> s % 32 & 1) == 0);
        check(!bitset_test(superslab_avail, s / 32));
    }
}

static uint32_t alloc(size_t bytes) {
    void *block = try_alloc(bytes, SLOT_BYTES);
    check(block != NULL, "%zu bytes", bytes);
    check_run(block, bytes);
    return arena_slot_of(block);
}
static bool is_unused(uint32_t s) {
    return bitset_test(superslab_avail, s / 32) ||
           (atomic_get(&superslab_at(s / 32)->unused, relaxed) >> s % 32 & 1) != 0;
}
/* The slots are free, forgotten, and if they claim to be clean they are (U2). */
static size_t check_free(uint32_t first, size_t count) {
    size_t clean = 0;
    for (uint32_t s = first; s < first + count; s++) {
        check(is_unused(s) && arena_class_of_slot(s) == 0, "slot %u", s);
        if ((atomic_get(&superslab_at(s / 32)->dirty, relaxed) >> s % 32 & 1) != 0)
            continue;
        clean++;
        for (size_t at = 0; at < SLOT_BYTES; at += 256)
            check(arena_slot_start(s)[at] == 0, "U2 slot %u", s);
    }
    return clean;
}
static void stamp(uint32_t slot, size_t bytes, unsigned char value) {
    memset(arena_slot_start(slot), value, bytes);
}
static bool has_stamp(uint32_t slot, size_t bytes, unsigned char value) {
    const unsigned char *p = (unsigned char *)arena_slot_start(slot);
    for (size_t i = 0; i < bytes; i += i + 64 < bytes ? 61 : 1)
        if (p[i] != value)
            return false;
    return true;
}

Test(large, a_new_block_reads_as_zeros_when_it_says_so) {
    start_arena(MIB(256));
    for (size_t bytes = 1; bytes < MIB(20); bytes = bytes * 2 + 12345) {
        uint32_t slot = alloc(bytes);
        check(last_clean && !last_cached && has_stamp(slot, bytes, 0));
        stamp(slot, bytes, 0x31);
        check(large_free(slot));
        large_decay(os_clock_ms(), 0);
        check(check_free(slot, (bytes + SLOT_BYTES - 1) / SLOT_BYTES) == 0);
        slot = alloc(bytes);
        check(!last_clean || has_stamp(slot, bytes, 0), "%zu", bytes);
        check(large_free(slot));
        large_decay(os_clock_ms(), 0);
        (void)superslab_purge(os_clock_ms(), 0);
    }
}

Test(large, blocks_are_counted_and_a_second_free_is_refused) {
    start_arena(MIB(256));
    check(large_blocks() == 0 && large_bytes() == 0);
    uint32_t a = alloc(300000);
    uint32_t b = alloc(MIB(5));
    check(large_blocks() == 2 && large_bytes() == large_bytes_of(a) + MIB(5));
    check(large_free(a) && !large_free(a));
    check(large_blocks() == 1 && large_bytes() == MIB(5));
    large_decay(os_clock_ms(), 0);
    check(!large_free(a) && large_blocks() == 1, "UNUSED by now");
    check(large_free(b) && large_blocks() == 0 && large_bytes() == 0);
    check(!large_free(b));
}

Test(large, the_big_cache_returns_the_run_with_its_contents) {
    start_arena(MIB(256));
    uint32_t slot = alloc(MIB(1));
    stamp(slot, MIB(1), 0x42);
    check(large_free(slot) && large_cached_bytes() == MIB(1));
    check(slot_state(slot) == SLOT_CACHED && arena_class_of_slot(slot) == CLASS_LARGE_HEAD);
    check(alloc(MIB(1) - 5000) == slot && last_cached && !last_clean);
    check(has_stamp(slot, MIB(1) - 8192, 0x42) && large_cached_bytes() == 0);
    check(large_bytes_of(slot) == MIB(1) - 4096 || os_page_bytes() != 4096);
}

Test(large, a_cached_run_serves_only_what_wastes_at_most_a_quarter_and_fits) {
    start_arena(MIB(256));
    for (size_t want = 5; want <= 24; want++) {
        large_decay(os_clock_ms(), 0);
        uint32_t slot = alloc(20 * SLOT_BYTES);
        check(large_free(slot));
        bool fits = want <= 20 && want + want / 4 >= 20;
        uint32_t other = alloc(want * SLOT_BYTES);
        check(last_cached == fits, "%zu slots of 20", want);
        check(large_cached_bytes() == 0, "what did not fit serves in pieces");
        check(large_free(other));
    }
}

Test(large, the_smallest_cached_run_that_fits_is_taken) {
    start_arena(MIB(256));
    uint32_t slots[4];
    const size_t counts[] = {24, 21, 20, 22};
    for (int i = 0; i < 4; i++)
        slots[i] = alloc(counts[i] * SLOT_BYTES);
    for (int i = 0; i < 4; i++)
        check(large_free(slots[i]));
    check(alloc(20 * SLOT_BYTES) == slots[2] && last_cached);
    check(alloc(20 * SLOT_BYTES) == slots[1] && last_cached);
    check(alloc(20 * SLOT_BYTES) == slots[3] && last_cached);
    check(alloc(20 * SLOT_BYTES) == slots[0] && last_cached);
}

Test(large, a_cached_run_of_too_weak_an_alignment_is_not_taken) {
    start_arena(MIB(256));
    uint32_t slot = alloc(8 * SLOT_BYTES);
    while ((uintptr_t)arena_slot_start(slot) % MIB(1) == 0)
        slot = alloc(8 * SLOT_BYTES);
    check(large_free(slot));
    void *block = try_alloc(8 * SLOT_BYTES, MIB(1));
    check(block != NULL && !last_cached && (uintptr_t)block % MIB(1) == 0);
}

Test(large, the_cache_is_bounded_in_bytes_and_in_entries) {
    static uint32_t slots[100];
    options.big_cache_mib = 8;
    start_arena(GIB(1));
    for (int i = 0; i < 20; i++)
        slots[i] = alloc(MIB(1));
    for (int i = 0; i < 20; i++) {
        check(large_free(slots[i]));
        check(large_cached_bytes() <= MIB(8) && large_cached_bytes() >= MIB(i < 8 ? (size_t)i : 7));
    }
    check(slot_state(slots[19]) == SLOT_CACHED, "the last one stays");
    uint32_t huge = alloc(MIB(3));
    check(large_free(huge) && slot_state(huge) == SLOT_UNUSED, "more than a quarter of the cache");
    options.big_cache_mib = 256;
    large_decay(os_clock_ms(), 0);
    for (int i = 0; i < 100; i++)
        slots[i] = alloc(5 * SLOT_BYTES);
    for (int i = 0; i < 100; i++)
        check(large_free(slots[i]));
    size_t cached = 0;
    for (int i = 0; i < 100; i++) {
        cached += slot_state(slots[i]) == SLOT_CACHED;
        check(slot_state(slots[i]) == SLOT_CACHED || check_free(slots[i], 5) == 0);
    }
    check(cached == 64 && large_cached_bytes() == 64 * 5 * SLOT_BYTES, "%zu", cached);
}

Test(large, a_full_cache_lets_go_of_the_oldest_run) {
    uint32_t slots[5];
    options.big_cache_mib = 8;
    start_arena(MIB(256));
    for (int i = 0; i < 5; i++)
        slots[i] = alloc(MIB(2));
    for (int i = 0; i < 4; i++) {
        check(large_free(slots[i]));
        usleep(12000); /* the clock's steps are 4 ms */
    }
    check(alloc(MIB(2)) == slots[0] && large_free(slots[0]), "the first entry is the newest");
    usleep(12000);
    check(large_free(slots[4]) && slot_state(slots[1]) == SLOT_UNUSED);
    for (int i = 0; i < 5; i++)
        check(i == 1 || slot_state(slots[i]) == SLOT_CACHED, "%d", i);
}

Test(large, without_a_cache_a_free_returns_the_slots_at_once) {
    options.big_cache_mib = 0;
    start_arena(MIB(64));
    uint32_t slot = alloc(MIB(1));
    check(large_free(slot) && large_cached_bytes() == 0);
    (void)check_free(slot, 16);
}

Test(large, decay_retires_what_is_old_enough) {
    start_arena(MIB(64));
    uint32_t slot = alloc(MIB(1));
    uint32_t now = os_clock_ms();
    check(large_free(slot));
    large_decay(now + 900, 1000);
    check(slot_state(slot) == SLOT_CACHED);
    large_decay(now + 2000, 1000);
    check(slot_state(slot) == SLOT_UNUSED && large_cached_bytes() == 0);
    (void)check_free(slot, 16);
}

Test(large, blocks_are_aligned_up_to_64_MiB) {
    start_arena(GIB(1));
    for (size_t alignment = SLOT_BYTES; alignment <= MIB(64); alignment *= 2)
        for (size_t bytes = 1; bytes <= MIB(8); bytes = bytes * 16 + 7) {
            char *block = try_alloc(bytes, alignment);
            check(block != NULL && (uintptr_t)block % alignment == 0, "%zu", alignment);
            check_run(block, bytes);
            block[0] = block[bytes - 1] = 1;
            check(large_free(arena_slot_of(block)));
        }
}

Test(large, what_can_never_fit_gives_NULL_and_loses_nothing) {
    start_arena(MIB(64));
    check(try_alloc(MIB(64), SLOT_BYTES) == NULL && try_alloc(PTRDIFF_MAX, SLOT_BYTES) == NULL);
    check(try_alloc(1, MIB(128)) == NULL && try_alloc(1, (size_t)1 << 62) == NULL);
    check(large_blocks() == 0 && large_bytes() == 0);
    uint32_t slot = alloc(MIB(62));
    check(try_alloc(MIB(2), SLOT_BYTES) == NULL && large_blocks() == 1);
    check(!large_resize(slot, MIB(64)) && large_move(slot, MIB(63)) == NULL);
    check(!large_resize(slot, PTRDIFF_MAX) && large_move(slot, PTRDIFF_MAX) == NULL);
    check_run(arena_slot_start(slot), MIB(62));
    check(large_bytes() == MIB(62) && large_free(slot));
    large_decay(os_clock_ms(), 0);
    check(alloc(MIB(62)) == slot);
}

/* Each SuperSlab ends in a gap of 2 slots: more of them than a search looks at from below. */
Test(large, runs_fill_superslabs_behind_many_whose_gaps_are_too_small) {
    start_arena(MIB(512));
    size_t count = 0;
    for (void *block; (block = try_alloc(5 * SLOT_BYTES, SLOT_BYTES)) != NULL; count++) {
        size_t taken = superslab_top();
        check(count + 6 >= taken * 6 - 6, "run %zu in SuperSlab %zu", count, taken - 1);
    }
    check(count >= 255 * 6, "%zu runs of 5 slots in 256 SuperSlabs", count);
}
Test(large, a_gap_anywhere_is_found_when_there_is_no_new_superslab) {
    start_arena(MIB(512));
    static uint32_t runs[256 * 6];
    size_t count = 0;
    for (void *block; (block = try_alloc(5 * SLOT_BYTES, SLOT_BYTES)) != NULL; count++)
        runs[count] = arena_slot_of(block);
    for (size_t i = count / 2; i < count; i += 100) {
        check(large_free(runs[i]));
        large_decay(os_clock_ms(), 0);
        check(alloc(5 * SLOT_BYTES) == runs[i]);
    }
}

Test(large, a_run_is_found_from_any_address_in_it) {
    start_arena(MIB(64));
    (void)alloc(MIB(1));
    uint32_t slot = alloc(MIB(7));
    (void)alloc(MIB(1));
    for (size_t at = 0; at < MIB(7); at += 4095)
        check(large_run_of(arena_slot_start(slot) + at) == slot, "at %zu", at);
}

/* ---- resize ---- */

Test(large, a_block_grows_in_place_over_any_number_of_slots_and_shrinks_again) {
    start_arena(MIB(256));
    const size_t sizes[] = {KIB(300), KIB(310), MIB(1), MIB(2), MIB(2) + 1, MIB(9), MIB(31),
                            KIB(64),  MIB(40),  MIB(3), KIB(1), MIB(2)};
    uint32_t slot = alloc(KIB(300));
    while (slot < SUPERSLAB_SLOTS) /* SuperSlab 0 has a guard */
        slot = alloc(KIB(300));
    size_t others = large_bytes() - large_bytes_of(slot);
    stamp(slot, 1000, 0x77);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t had = slot_head(slot)->run_slots;
        check(large_resize(slot, sizes[i]), "to %zu", sizes[i]);
        check_run(arena_slot_start(slot), sizes[i]);
        size_t has = slot_head(slot)->run_slots;
        check(has == (sizes[i] + SLOT_BYTES - 1) / SLOT_BYTES && has_stamp(slot, 1000, 0x77));
        arena_slot_start(slot)[sizes[i] - 1] = 0x77;
        if (has < had)
            (void)check_free(slot + (uint32_t)has, had - has);
        check(large_bytes() == others + large_bytes_of(slot));
    }
    check(large_free(slot));
}

Test(large, a_block_grows_into_superslabs_whose_records_were_never_committed) {
    start_arena(MIB(256));
    const size_t bytes = 2 * META_CHUNK_SLOTS * SLOT_BYTES; /* the records end with a page, too */
    uint32_t slot = alloc(bytes - SUPERSLAB_BYTES);
    uint32_t next = slot + slot_head(slot)->run_slots;
    check(next == 2 * META_CHUNK_SLOTS && !superslab_is_committed(next / SUPERSLAB_SLOTS));
    check(large_resize(slot, bytes));
    check_run(arena_slot_start(slot), bytes);
}

Test(large, a_block_does_not_grow_into_what_is_taken) {
    start_arena(MIB(64));
    uint32_t a = alloc(MIB(1));
    uint32_t b = alloc(MIB(1));
    while (b != a + 16) {
        a = b;
        b = alloc(MIB(1));
    }
    size_t bytes = large_bytes();
    for (size_t more = 1; more < MIB(8); more = more * 2 + 4096)
        check(!large_resize(a, MIB(1) + more));
    check_run(arena_slot_start(a), MIB(1));
    check(slot_head(a)->run_slots == 16 && large_bytes() == bytes);
    check(large_free(b));
    large_decay(os_clock_ms(), 0);
    check(large_resize(a, MIB(2)));
    check_run(arena_slot_start(a), MIB(2));
}

Test(large, growth_that_fails_at_the_next_superslab_gives_the_slots_before_it_back) {
    start_arena(MIB(64));
    uint32_t a = alloc(MIB(2) - SLOT_BYTES * 4); /* 28 slots of one SuperSlab */
    while (a % 32 != 0)
        a = alloc(MIB(2) - SLOT_BYTES * 4);
    check(superslab_take_at(a / 32 + 1, 1) == 0);
    check(!large_resize(a, MIB(3)));
    check(slot_head(a)->run_slots == 28);
    (void)check_free(a + 28, 4);
    check(large_resize(a, MIB(2)));
}

Test(large, a_move_keeps_the_contents_and_frees_the_old_slots) {
    start_arena(GIB(1));
    for (size_t size = KIB(300), n = 0; size < MIB(40); n++, size = size * 3 / 2 + 54321) {
        size_t bytes = n % 2 == 0 ? size : round_up(size, SLOT_BYTES); /* whole slots, too */
        uint32_t slot = alloc(bytes);
        size_t usable = large_bytes_of(slot);
        size_t count = slot_head(slot)->run_slots;
        stamp(slot, usable, 0x19);
        uint64_t calls = os_call_count(OS_MREMAP);
        void *block = large_move(slot, bytes * 2);
        check(block != NULL);
        uint32_t to = arena_slot_of(block);
        bool moved = slot_head(to)->moved != 0;
        bool tried = os_call_count(OS_MREMAP) != calls; /* valgrind refuses */
        check(os_call_count(OS_MREMAP) == calls + tried && tried >= moved);
        check(tried ? usable > MIB(1) : usable <= MIB(4), "small ones are copied");
        check_run(block, bytes * 2);
        check(to != slot && has_stamp(to, usable, 0x19) && slot_state(slot) == SLOT_UNUSED);
        size_t clean = check_free(slot, count);
        check(!slot_head(to)->moved || usable != count * SLOT_BYTES || clean == count,
              "moved pages are gone");
        check(large_blocks() == 1 && large_bytes() == large_bytes_of(to));
        stamp(to, bytes * 2, 0x20);
        block = large_move(to, bytes * 3);
        check(block != NULL && has_stamp(arena_slot_of(block), bytes * 2, 0x20), "again");
        (void)check_free(to, (bytes * 2 + SLOT_BYTES - 1) / SLOT_BYTES);
        check(large_free(arena_slot_of(block)));
        large_decay(os_clock_ms(), 0);
        check(large_blocks() == 0);
    }
}

Test(large, a_moved_block_that_shrinks_or_dies_leaves_slots_that_read_as_zeros) {
    start_arena(MIB(256));
    uint32_t slot = alloc(MIB(4));
    stamp(slot, MIB(4), 0x66);
    uint32_t to = arena_slot_of(large_move(slot, MIB(8)));
    bool moved = slot_head(to)->moved != 0;
    stamp(to, MIB(8), 0x67);
    check(large_resize(to, MIB(1)) && has_stamp(to, MIB(1), 0x67));
    size_t clean = check_free(to + 16, 112);
    check(!moved || clean == 112, "%zu", clean);
    check(large_free(to));
    large_decay(os_clock_ms(), 0);
    clean = check_free(to, 16);
    check(!moved || clean == 16, "%zu", clean);
}

Test(large, what_stays_behind_the_pages_that_move_is_not_clean) {
    const size_t less = 3 * os_page_bytes();
    if (less >= SLOT_BYTES)
        return; /* a page is all of a slot, which goes with it */
    start_arena(MIB(256));
    uint32_t slot = alloc(MIB(8));
    stamp(slot, MIB(8), 0x68);
    check(large_resize(slot, MIB(8) - less), "its slots stay, and what is in the last pages");
    check(slot_head(slot)->run_slots == 128);
    uint32_t to = arena_slot_of(large_move(slot, MIB(24)));
    check(has_stamp(to, MIB(8) - less, 0x68));
    check(check_free(slot, 128) == 0);
}

/* ---- huge pages ---- */

/* How many SuperSlabs of a block were given huge pages. */
static size_t huge_in(uint32_t slot) {
    size_t count = 0;
    for (uint32_t i = slot / 32; i <= (slot + slot_head(slot)->run_slots - 1) / 32; i++)
        count += atomic_get(&superslab_at(i)->pages, relaxed) == PAGES_HUGE;
    return count;
}

/* As in a program that has had its trial: nine SuperSlabs more are held. */
static void start_known(size_t bytes) {
    start_arena(bytes);
    check(huge_in(alloc(MIB(18))) == 8);
}

#if HKM_OS_TEST
static int no_mappings(enum os_call call, const char *site, size_t bytes) {
    (void)site;
    (void)bytes;
    return call == OS_MREMAP || call == OS_MMAP || call == OS_MPROTECT ? ENOMEM : 0;
}

Test(large, a_move_that_fails_leaves_the_block_and_its_target_is_mapped_again_later) {
    start_arena(MIB(64));
    uint32_t slot = alloc(MIB(6));
    stamp(slot, MIB(6), 0x71);
    check(large_free(alloc(MIB(8)))); /* all that is needed is committed */
    large_decay(os_clock_ms(), 0);
    os_test.fail = no_mappings;
    check(large_move(slot, MIB(7)) == NULL && large_innards(0).given_up == 1);
    check(has_stamp(slot, MIB(6), 0x71) && large_bytes_of(slot) == MIB(6));
    large_decay(os_clock_ms(), 0);
    check(large_innards(0).given_up == 1 && !is_unused(slot + 96), "it can not be mended yet");
    os_test.fail = NULL;
    large_decay(os_clock_ms(), 1000000);
    check(large_innards(0).given_up == 0 && large_blocks() == 1);
    check(check_free(slot + 96, 126) == 126, "112 slots and an eighth more");
}

static int no_new_mappings(enum os_call call, const char *site, size_t bytes) {
    (void)site;
    (void)bytes;
    return call == OS_MMAP ? ENOMEM : 0;
}

Test(large, where_there_is_no_new_mapping_the_old_one_serves) {
    start_arena(MIB(64));
    uint32_t slot = arena_slot_of(large_move(alloc(MIB(6)), MIB(7)));
    check(slot_head(slot)->moved == 1 && large_free(slot));
    os_test.fail = no_new_mappings;
    large_decay(os_clock_ms(), 0);
    os_test.fail = NULL;
    check(large_innards(0).given_up == 0 && check_free(slot, 112) < 112);
    stamp(slot, MIB(7), 1);
}
#endif

Test(large, without_large_pages_nothing_is_tried_out) {
    options.large_pages = LARGE_PAGES_OFF;
    start_arena(MIB(256));
    check(huge_in(alloc(MIB(18))) == 0);
}

Test(large, with_large_pages_all_but_a_small_piece_is_huge) {
    options.large_pages = LARGE_PAGES_ON;
    start_arena(MIB(256));
    check(huge_in(alloc(MIB(18))) == 9);
}

Test(large, huge_pages_come_after_a_block_was_filled_for_16_times_as_much) {
    start_known(MIB(512));
    uint32_t slot = alloc(MIB(4));
    check(huge_in(slot) == 0, "nothing is known of this program");
    stamp(slot, MIB(4), 1);
    slot = alloc(MIB(60));
    check(huge_in(slot) == 30);
    slot = alloc(MIB(10));
    check(huge_in(slot) == 2, "of 64 MiB");
    slot = alloc(MIB(4));
    check(huge_in(slot) == 0, "nothing was touched, nothing earned");
    stamp(slot, MIB(4), 1);
    check(huge_in(alloc(MIB(4) + KIB(448))) == 2, "not where most of it is for others");
    unsigned whole = 0;
    for (unsigned i = 0; i < 8; i++) {
        size_t huge = huge_in(alloc(MIB(5)));
        check(huge == 2 || huge == 3);
        whole += huge == 3;
    }
    check(whole == 6, "each fourth has a piece left to look at");
}

/* Which SuperSlabs of a block have huge pages, a bit each. */
static uint32_t huge_mask(uint32_t slot) {
    uint32_t first = slot / 32, mask = 0;
    for (uint32_t i = first; i <= (slot + slot_head(slot)->run_slots - 1) / 32; i++)
        mask |= (uint32_t)(atomic_get(&superslab_at(i)->pages, relaxed) == PAGES_HUGE) << (i - first);
    return mask;
}

Test(large, the_first_blocks_have_huge_pages_behind_their_first_superslab) {
    start_arena(MIB(512));
    check(huge_in(alloc(MIB(2))) == 0, "what has no second one tells nothing yet");
    check(huge_mask(alloc(MIB(6))) == 6);
    check(huge_mask(alloc(MIB(20))) == 0x7e, "eight of them in all");
    check(huge_in(alloc(MIB(20))) == 0);
}

Test(large, a_block_on_trial_that_was_filled_earns_credit) {
    start_arena(MIB(512));
    memset(arena_slot_start(alloc(MIB(6))), 1, MIB(2));
    uint32_t slot = alloc(MIB(60));
    check(huge_mask(slot) == 0xffff, "16 times what told");
    memset(arena_slot_start(slot + 16 * 32), 1, MIB(2));
    check(huge_in(alloc(MIB(60))) == 30);
}

Test(large, a_block_on_trial_that_is_sparse_ends_it) {
    start_arena(MIB(512));
    *arena_slot_start(alloc(MIB(6))) = 1;
    for (unsigned i = 0; i < 10; i++)
        check(huge_in(alloc(MIB(8))) == 0);
}

Test(large, where_a_fault_is_dear_more_last_pieces_are_huge) {
    start_known(MIB(512));
    options.prefault = PREFAULT_ON;
    stamp(alloc(MIB(20)), MIB(20), 1);
    unsigned pieces = 0;
    for (unsigned i = 0; i < 32; i++)
        pieces += huge_in(alloc(MIB(2) + KIB(512))) == 2;
    check(pieces == 30, "%u: all but each 16th", pieces);
    check(huge_in(alloc(MIB(2) + KIB(64))) == 1, "it tells");
    check(huge_in(alloc(MIB(2) + KIB(64))) == 2, "31 slots for others are little of what is held");
}

Test(large, the_small_pages_of_a_block_tell_of_all_of_it) {
    start_known(MIB(512));
    stamp(alloc(MIB(4)), MIB(4), 1);
    check(huge_in(alloc(MIB(60))) == 30);
    uint32_t slot = alloc(MIB(5));
    check(huge_in(slot) == 2, "what is left of 64 MiB");
    memset(arena_slot_start(slot + 64), 1, MIB(1));
    check(huge_in(alloc(MIB(100))) == 40);
}

Test(large, credit_reaches_as_far_as_what_is_held) {
    start_known(GIB(2));
    stamp(alloc(MIB(4)), MIB(4), 1);
    uint32_t slot = alloc(MIB(300));
    check(huge_in(slot) == 32);
    memset(arena_slot_start(slot + 32 * 32), 1, MIB(2));
    check(huge_in(alloc(MIB(320))) == 160, "all of it");
    slot = alloc(MIB(400));
    check(huge_in(slot) == (18 + 4 + 300 + 320 - 320) / 2 + 1, "642 MiB and the first SuperSlab less 320");
}

Test(large, a_block_tells_at_its_end_whether_it_was_filled) {
    start_known(MIB(512));
    uint32_t slot = alloc(MIB(4));
    uint32_t other = alloc(MIB(8));
    stamp(slot, MIB(4), 1);
    check(large_free(slot) && huge_in(alloc(MIB(6))) == 3, "filled after the next was placed");
    stamp(other, MIB(6), 1); /* not its last quarter */
    check(slot_head(other)->fresh == 1 && large_free(other));
    uint32_t again = alloc(MIB(8));
    check(again == other && slot_head(again)->fresh == 0, "it has told already");
    check(huge_in(alloc(MIB(20))) == 0);
}

Test(large, a_sparse_block_takes_all_credit_away) {
    start_known(MIB(512));
    stamp(alloc(MIB(4)), MIB(4), 1);
    uint32_t slot = alloc(MIB(3));
    check(huge_in(slot) == 1);
    *arena_slot_start(slot + 32) = 1; /* a page of what follows the huge one */
    check(huge_in(alloc(MIB(4))) == 0);
    for (unsigned i = 0; i < 100; i++) {
        slot = alloc(MIB(2));
        check(huge_in(slot) == 0);
        *arena_slot_start(slot) = 1;
    }
}

Test(large, a_block_that_was_filled_grows_into_huge_pages) {
    start_known(MIB(512));
    uint32_t slot = alloc(MIB(5));
    stamp(slot, MIB(5), 1);
    check(large_resize(slot, MIB(16)) && huge_in(slot) == 5);
}

Test(large, a_block_that_was_not_filled_grows_into_small_pages) {
    start_known(MIB(512));
    uint32_t slot = alloc(MIB(5));
    *arena_slot_start(slot) = 1;
    *arena_slot_start(slot + 40) = 1;
    check(large_resize(slot, MIB(16)) && huge_in(slot) == 0);
}

/* Places blocks of 7 slots, which tell nothing and get small pages; returns how often the SuperSlab
 * of one was huge then: of the second four when the last is placed, of the third the last two, of
 * the others all but the first. */
static unsigned placed_in_huge(bool filled) {
    unsigned count = 0;
    for (unsigned i = 0; i < 5 * 4; i++) {
        uint32_t slot = alloc(KIB(7 * 64));
        count += huge_in(slot);
        memset(arena_slot_start(slot), 1, filled ? KIB(7 * 64) : 1);
    }
    return count;
}

Test(large, a_superslab_becomes_huge_when_more_blocks_are_placed_in_what_was_filled) {
    start_arena(MIB(64));
    options.prefault = PREFAULT_ON;
    unsigned huge = placed_in_huge(true);
    check(huge == (kernel_can_collapse() ? 1 + 2 + 3 + 3 : 0), "%u", huge);
}

Test(large, a_superslab_stays_small_when_more_blocks_are_placed_in_what_was_not_filled) {
    start_arena(MIB(64));
    options.prefault = PREFAULT_ON;
    check(placed_in_huge(false) == 0);
}

/* ---- where the blocks of a sparse program start ---- */

/* Blocks that are touched in one place, until it is known that the program has such. */
static void be_sparse(void) {
    for (unsigned i = 0; i < 3; i++)
        *arena_slot_start(alloc(MIB(2))) = 1;
}

static bool starts_at_a_multiple_of(uint32_t slot, size_t bytes) {
    return ((uintptr_t)arena_slot_start(slot) & (bytes - 1)) == 0;
}

Test(large, blocks_of_a_sparse_program_start_at_multiples_of_their_length) {
    start_arena(MIB(512));
    be_sparse();
    for (unsigned i = 0; i < 10; i++) {
        uint32_t small = alloc(KIB(320));
        check(starts_at_a_multiple_of(small, KIB(512)));
        uint32_t unused = atomic_get(&superslab_at(small / SUPERSLAB_SLOTS)->unused, relaxed);
        check((unused >> small % SUPERSLAB_SLOTS & 0xff) == 0xe0, "what it does not need is free");
        check(starts_at_a_multiple_of(alloc(KIB(512)), KIB(512)));
        check(starts_at_a_multiple_of(alloc(MIB(5)), MIB(8)));
    }
    check(starts_at_a_multiple_of(alloc(MIB(40)), MIB(32)));
}

Test(large, blocks_of_a_program_that_fills_them_lie_densely) {
    start_arena(MIB(512));
    be_sparse();
    for (unsigned i = 0; i < 5; i++) /* not every one is looked at */
        stamp(alloc(MIB(4)), MIB(4), 1);
    uint32_t slot = alloc(MIB(6));
    check(alloc(MIB(6)) == slot + 3 * SUPERSLAB_SLOTS);
}

Test(large, where_there_is_no_such_place_blocks_of_a_sparse_program_start_anywhere) {
    start_arena(MIB(64));
    be_sparse();
    (void)alloc(MIB(52)); /* at most one of five places is at a multiple of 32 MiB */
}

/* ---- clearing ---- */

static bool is_zero(uint32_t slot, size_t bytes) {
    const char *at = arena_slot_start(slot);
    return at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0;
}

/* How much of a filled block is resident once it is cleared. */
static size_t resident_when_cleared(size_t bytes) {
    uint32_t slot = alloc(bytes);
    memset(arena_slot_start(slot), 7, bytes);
    large_clear(slot, bytes);
    size_t resident = os_resident(arena_slot_start(slot), bytes);
    check(is_zero(slot, bytes));
    return resident;
}

Test(large, a_block_of_a_sparse_program_is_cleared_by_giving_its_pages_back) {
    start_arena(MIB(512));
    be_sparse();
    check(resident_when_cleared(MIB(3)) == 0);
    check(resident_when_cleared(KIB(300)) == 0);
}

Test(large, a_block_of_any_other_program_stays_resident_when_it_is_cleared) {
    start_arena(MIB(512));
    check(resident_when_cleared(MIB(3)) == MIB(3));
    check(resident_when_cleared(KIB(320)) == KIB(320));
}

Test(large, only_what_was_asked_for_is_cleared) {
    start_arena(MIB(512));
    uint32_t slot = alloc(MIB(1));
    memset(arena_slot_start(slot), 7, MIB(1));
    large_clear(slot, KIB(900) + 5);
    check(is_zero(slot, KIB(900) + 5) && arena_slot_start(slot)[KIB(900) + 5] == 7);
}

Test(large, a_huge_page_is_not_given_back_in_part) {
    start_known(MIB(512));
    stamp(alloc(MIB(4)), MIB(4), 1);
    uint32_t slot = alloc(MIB(4));
    check(huge_in(slot) == 2);
    memset(arena_slot_start(slot), 7, MIB(4));
    for (unsigned i = 0; i < 70; i++)
        *arena_slot_start(alloc(MIB(2))) = 1;
    check(resident_when_cleared(MIB(3)) == 0, "it is sparse now");
    large_clear(slot, MIB(4));
    check(huge_in(slot) == 2 && is_zero(slot, MIB(4)));
}

Test(large, a_block_that_was_cleared_tells_again_how_it_is_used) {
    start_arena(MIB(512));
    be_sparse();
    for (unsigned i = 0; i < 200; i++) { /* most are not looked at */
        uint32_t slot = alloc(MIB(3));
        large_clear(slot, MIB(3));
        memset(arena_slot_start(slot), 7, MIB(3));
        check(large_free(slot));
    }
    check(resident_when_cleared(MIB(3)) == MIB(3), "it fills them");
}

/* ---- threads ---- */

static size_t mix(unsigned number, void *shared) {
    (void)shared;
    struct {
        uint32_t slot;
        size_t bytes;
        unsigned char value;
    } held[6] = {{0, 0, 0}};
    uint64_t state = unit_seed() + number;
    size_t wrong = 0;
    for (size_t step = unit_repeats(1500, 100); step > 0; step--) {
        size_t h = unit_below(&state, 6);
        size_t bytes = KIB(200) + unit_below(&state, step % 8 == 0 ? MIB(5) : KIB(400));
        unsigned action = (unsigned)unit_below(&state, 3);
        if (held[h].slot != 0) {
            uint32_t slot = held[h].slot;
            size_t keep = bytes < held[h].bytes ? bytes : held[h].bytes;
            wrong += !has_stamp(slot, held[h].bytes, held[h].value);
            if (action > 0) {
                if (!large_resize(slot, bytes)) {
                    void *to = bytes > held[h].bytes && action == 2 ? large_move(slot, bytes) : NULL;
                    slot = to == NULL ? slot : arena_slot_of(to);
                    bytes = to == NULL ? held[h].bytes : bytes;
                }
                wrong += !has_stamp(slot, keep < bytes ? keep : bytes, held[h].value);
            } else {
                wrong += !large_free(slot);
                held[h].slot = 0;
                continue;
            }
            held[h].slot = slot;
        } else {
            bool clean, cached;
            void *block = large_alloc(bytes, SLOT_BYTES, &clean, &cached);
            if (block == NULL)
                continue;
            held[h].slot = arena_slot_of(block);
            wrong += clean && !has_stamp(held[h].slot, bytes, 0);
        }
        held[h].bytes = bytes;
        held[h].value = (unsigned char)(1 + number * 60 + step % 60);
        memset(arena_slot_start(held[h].slot), held[h].value, bytes);
        if (step % 100 == 0)
            (void)superslab_purge(os_clock_ms(), 0);
    }
    for (size_t h = 0; h < 6; h++)
        wrong += held[h].slot != 0 && !large_free(held[h].slot);
    return wrong;
}

Test(large, four_threads_never_see_each_others_bytes_and_lose_no_slot) {
    start_arena(MIB(512));
    check(unit_run_threads(4, mix, NULL) == 0);
    check(large_blocks() == 0 && large_bytes() == 0);
    large_decay(os_clock_ms(), 0);
    check(large_cached_bytes() == 0);
    (void)superslab_purge(os_clock_ms(), 0);
    for (uint32_t i = 1; i < superslab_top(); i++) {
        check(bitset_test(superslab_avail, i), "SuperSlab %u", i);
        if (superslab_is_committed(i)) /* blocks at aligned places leave some out */
            (void)check_free(i * 32, 32);
    }
}
