/* test_arena.c -- A1..A4: addresses, the layout of the maps, the live mark, commit on demand. */
#include "unit/unit.inc"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/slot.h"
#include "core/superslab.h"

static void start_arena(size_t bytes) {
    check(arena_init(bytes) == 0);
    check(arena.bytes == bytes && arena.slot_count == bytes / SLOT_BYTES);
}

static bool readable(const void *p) {
    char byte;
    return os_peek(p, &byte, 1);
}

Test(arena, every_address_of_a_slot_maps_to_that_slot) {
    start_arena(MIB(512));
    const uint32_t slots[] = {0, 1, 31, 32, 33, 1023, 1024, 4095, 8190, 8191};
    size_t step = unit_is_slow() ? 61 : 1;
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        char *start = arena_slot_start(slots[i]);
        check((uintptr_t)start == arena.base + slots[i] * SLOT_BYTES);
        for (size_t at = 0; at < SLOT_BYTES; at += step) {
            check(arena_contains(start + at) && arena_slot_of(start + at) == slots[i],
                  "slot %u + %zu", slots[i], at);
            uintptr_t back = arena.last - (uintptr_t)(start + at);
            check(&arena.class_map[back >> SLOT_SHIFT] == arena_class_entry(slots[i]),
                  "the free path's entry of slot %u + %zu", slots[i], at);
        }
    }
}

Test(arena, contains_nothing_outside_the_range) {
    int local;
    check(!arena_contains(NULL) && !arena_contains(&local), "before arena_init");
    start_arena(MIB(64));
    check(arena.base % SUPERSLAB_BYTES == 0 && arena.last == arena.base + arena.bytes - 1);
    check(arena_contains((void *)arena.base) && arena_contains((void *)arena.last));
    check(!arena_contains((void *)(arena.base - 1)) && !arena_contains((void *)(arena.last + 1)));
    check(!arena_contains(NULL) && !arena_contains((void *)UINTPTR_MAX) && !arena_contains(&local));
    for (unsigned shift = 0; shift < 64; shift++) {
        uintptr_t p = arena.base ^ (uintptr_t)1 << shift;
        check(arena_contains((void *)p) == (p >= arena.base && p <= arena.last), "bit %u", shift);
    }
}

struct span {
    uintptr_t from, end;
    const char *name;
};

/* Between two maps there are 64 KiB at least that nobody commits. (Below the first of spans all
 * the reservation begins, and what is there may be anybody's.) */
static void check_guards(const struct span *spans, size_t down, size_t up) {
    for (size_t i = 1; i < down; i++)
        check(!readable((void *)(spans[i].from - KIB(64))), "below the %s", spans[i].name);
    for (size_t i = down; i < down + up; i++)
        check(!readable((void *)(spans[i].end + KIB(64))), "above the %s", spans[i].name);
}

static void check_maps(size_t bytes) {
    start_arena(bytes);
    uint32_t last = arena.slot_count - 1;
    uint32_t last_ss = arena.superslab_count - 1;
    uintptr_t end = arena.last + 1;
    struct span spans[] = {
        {(uintptr_t)superslab_at(last_ss), (uintptr_t)(superslab_at(0) + 1), "SuperSlab records"},
        {(uintptr_t)slot_at(last), (uintptr_t)(slot_at(0) + 1), "slot records"},
        {(uintptr_t)(arena.bitmaps - (size_t)(last + 1) * 64), (uintptr_t)arena.bitmaps, "bitmaps"},
        {(uintptr_t)arena_class_entry(last), (uintptr_t)(arena_class_entry(0) + 1), "class map"},
        {(uintptr_t)arena_live_byte(1, (void *)arena.base),
         (uintptr_t)arena_live_byte(1, (void *)arena.last) + 1, "live map of 16"},
        {(uintptr_t)arena_live_byte(2, (void *)arena.base),
         (uintptr_t)arena_live_byte(2, (void *)arena.last) + 1, "live map of 32"},
        {(uintptr_t)arena_live_byte(8, (void *)arena.base),
         (uintptr_t)arena_live_byte(8, (void *)arena.last) + 1, "live map of 128"},
        {(uintptr_t)arena.metadata, (uintptr_t)arena.metadata + MIB(4), "metadata"},
        {arena.base, end, "data"},
    };
    const size_t count = sizeof spans / sizeof spans[0];
    for (size_t i = 0; i < count; i++) {
        check(spans[i].from < spans[i].end, "%s", spans[i].name);
        for (size_t k = 0; k < i; k++)
            check(spans[i].end <= spans[k].from || spans[k].end <= spans[i].from, "%s and %s",
                  spans[i].name, spans[k].name);
        if (i + 1 < count) /* all of them below the data, and none right before it */
            check(spans[i].end <= arena.base, "%s", spans[i].name);
    }
    check(arena_commit_maps(0, arena.slot_count) == 0);
    for (size_t i = 0; i + 2 < count; i++)
        for (uintptr_t p = spans[i].from; p < spans[i].end; p += os_page_bytes())
            check(readable((void *)p), "%s at %zu", spans[i].name, (size_t)(p - spans[i].from));
    check_guards(spans, 4, 3);
}

Test(arena, the_maps_and_the_data_are_disjoint_and_reach_every_slot) { check_maps(MIB(256)); }
Test(arena, likewise_where_the_last_chunk_of_maps_is_not_whole) { check_maps(MIB(80)); }
Test(arena, likewise_where_the_first_one_is_not) { check_maps(MIB(16)); }

Test(arena, each_granule_has_a_live_byte_of_its_own) {
    start_arena(MIB(8));
    const unsigned class_of[] = {1, 2, 8};
    for (int i = 0; i < 3; i++) {
        size_t granule = (size_t)1 << sizeclass_table[class_of[i]].live_shift;
        live_byte *first = arena_live_byte(class_of[i], (void *)arena.base);
        size_t step = unit_is_slow() ? granule * 7 - 1 : 1;
        for (size_t at = 0; at < MIB(1); at += step)
            check(arena_live_byte(class_of[i], (void *)(arena.base + at)) == first + at / granule);
    }
}

/* F1 and C4 together: one comparison tells a live block's start from every address near it. */
Test(arena, no_two_addresses_around_a_block_have_the_same_live_byte_and_mark) {
    start_arena(MIB(8));
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        const struct sizeclass *sc = &sizeclass_table[class];
        size_t skip = unit_is_slow() ? 1 + sc->capacity / 8 : 1;
        for (size_t run = 1; run < 4; run++) {
            char *start = (char *)arena.base + MIB(2) + sizeclass_colour(class, run);
            live_byte *before = NULL;
            for (size_t i = 0; i + 1 < sc->capacity; i += skip) {
                char *p = start + i * sc->bytes;
                live_byte *live = arena_live_byte(class, p);
                uint8_t mark = arena_live_mark(p);
                check(mark != 0 && live != before, "class %u block %zu", class, i);
                before = live;
                for (int d = -127; d <= 127; d++)
                    check(d == 0 || arena_live_byte(class, p + d) != live ||
                              arena_live_mark(p + d) != mark,
                          "class %u block %zu %+d", class, i, d);
            }
        }
    }
}

Test(arena, maps_of_high_slots_are_committed_on_demand_and_read_as_zeros) {
    start_arena(MIB(512));
    size_t before = arena_metadata_bytes();
    const uint32_t in = 5 * META_CHUNK_SLOTS + 7;
    const uint32_t out = 3 * META_CHUNK_SLOTS + 500;
    char *p = arena_slot_start(in);
    check(!readable(slot_at(in)) && !readable(slot_head(in)) && !readable(arena_live_byte(1, p)));
    check(arena_commit_maps(in, 1) == 0);
    check(arena_metadata_bytes() > before, "not counted");
    size_t after = arena_metadata_bytes();
    check(arena_commit_maps(in - 3, 9) == 0 && arena_metadata_bytes() == after, "counted twice");
    for (uint32_t s = in - 7; s < in - 7 + META_CHUNK_SLOTS; s += 31) {
        const char *record = (const char *)slot_at(s);
        for (size_t i = 0; i < sizeof(struct slot); i++)
            check(record[i] == 0, "slot %u", s);
        check(slot_state(s) == SLOT_UNUSED && arena_class_of_slot(s) == 0, "slot %u", s);
        for (unsigned class = 1; class < 9; class++)
            for (size_t at = 0; at < SLOT_BYTES; at += 4096)
                check(*arena_live_byte(class, arena_slot_start(s) + at) == 0, "A3 slot %u", s);
        check(arena.bitmaps[-(ptrdiff_t)s * 64 - 64] == 0, "slot %u", s);
    }
    check(!readable(slot_at(out)) && !readable(arena_live_byte(1, arena_slot_start(out))));
    check(!readable(p), "data is not committed with its maps");
}

/* A free of a wild pointer into the range looks its class up, whatever slot it is. */
static void check_class_map(size_t bytes) {
    start_arena(bytes);
    for (uint32_t s = 0; s < arena.slot_count; s += s + 64 < arena.slot_count ? 64 : 1) {
        check(readable(arena_class_entry(s)), "slot %u of %u", s, arena.slot_count);
        check(arena_class_of_slot(s) == 0, "A2 slot %u", s);
    }
}
Test(arena, the_class_map_is_readable_for_every_slot_of_the_smallest_range) {
    check_class_map(ARENA_BYTES_MIN);
}
Test(arena, the_class_map_is_readable_for_every_slot_of_512_MiB) { check_class_map(MIB(512)); }
Test(arena, the_class_map_is_readable_for_every_slot_of_5_GiB) { check_class_map(GIB(5)); }
Test(arena, the_class_map_is_readable_for_every_slot_of_8_GiB) { check_class_map(GIB(8)); }

Test(arena, a_range_across_chunks_commits_each_of_them) {
    start_arena(MIB(512));
    check(arena_commit_maps(META_CHUNK_SLOTS - 1, 2 * META_CHUNK_SLOTS + 2) == 0);
    for (uint32_t s = 0; s < 4 * META_CHUNK_SLOTS; s += 128)
        check(readable(slot_at(s)), "slot %u", s);
    check(!readable(slot_at(5 * META_CHUNK_SLOTS)));
}

static rlim_t address_space(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    check(file != NULL && fscanf(file, "%lu", &pages) == 1);
    (void)fclose(file);
    return (rlim_t)pages * os_page_bytes();
}

static bool has_small_pages_only(const void *p) {
    FILE *smaps = fopen("/proc/self/smaps", "r");
    check(smaps != NULL);
    char line[512];
    bool here = false, small = false;
    while (fgets(line, sizeof line, smaps) != NULL) {
        char *rest;
        uintptr_t from = strtoul(line, &rest, 16);
        if (*rest == '-' && rest > line)
            here = from <= (uintptr_t)p && (uintptr_t)p < strtoul(rest + 1, NULL, 16);
        else if (here && strncmp(line, "VmFlags:", 8) == 0)
            small = strstr(line, " nh") != NULL;
    }
    fclose(smaps);
    return small;
}

/* Also where the system gives huge pages unasked: a program of 1 MiB would be one of 6. */
#if HKM_OS_TEST
static unsigned until_failure;

static int fail_one(enum os_call call, const char *site, size_t bytes) {
    (void)call;
    (void)site;
    (void)bytes;
    return until_failure > 0 && --until_failure == 0 ? ENOMEM : 0;
}

Test(arena, each_call_that_fails_while_a_chunk_is_committed_is_told) {
    start_arena(MIB(256));
    unsigned calls = 0;
    os_test.fail = fail_one;
    do
        until_failure = ++calls;
    while (arena_commit_maps(META_CHUNK_SLOTS, 1) == ENOMEM);
    os_test.fail = NULL;
    check(until_failure == 1 && calls > 5, "%u left of %u", until_failure, calls);
}
#endif

Test(arena, the_whole_range_has_small_pages_until_a_superslab_asks_for_huge_ones) {
    if (access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK) != 0)
        return; /* a kernel without huge pages */
    start_arena(MIB(512));
    check(arena_commit_maps(0, arena.slot_count) == 0);
    check(has_small_pages_only(arena_slot_start(0)) && has_small_pages_only(arena_slot_start(8191)));
    check(has_small_pages_only(slot_at(1)) && has_small_pages_only(arena_class_entry(1)));
    int error;
    uint32_t i = superslab_take(1, 1, &error);
    check(i != 0 && superslab_make_huge(i, 1) == 1);
    check(!has_small_pages_only(arena_slot_start(i * 32)));
    check(os_renew(arena_slot_start(i * 32), SUPERSLAB_BYTES) == 0);
    check(has_small_pages_only(arena_slot_start(i * 32)), "a new mapping is like the others");
}

Test(arena, init_halves_the_range_until_the_limit_on_address_space_allows_it) {
    const char *build = getenv("HAKMEM_TEST_BUILD");
    if (unit_is_slow() || (build != NULL && strncmp(build, "san", 3) == 0))
        return; /* these have mapped terabytes already */
    struct rlimit limit;
    check(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = address_space() + MIB(1);
    check(setrlimit(RLIMIT_AS, &limit) == 0);
    check(arena_init(GIB(64)) == ENOMEM && arena.bytes == 0);
    limit.rlim_cur = address_space() + GIB(1);
    check(setrlimit(RLIMIT_AS, &limit) == 0);
    check(arena_init(GIB(64)) == 0);
    check(arena.bytes == MIB(512), "%zu", arena.bytes);
    int error;
    check(superslab_take(200, 1, &error) != 0 && error == 0);
}

Test(arena, init_rounds_down_to_whole_superslabs_and_refuses_too_little) {
    check(arena_init(ARENA_BYTES_MIN - 1) == ENOMEM && arena.bytes == 0);
    check(arena_init(MIB(16) + SUPERSLAB_BYTES - 1) == 0);
    check(arena.bytes == MIB(16) && arena.superslab_count == 8);
}

Test(arena, metadata_ends_before_its_guard_also_where_it_is_no_whole_number_of_steps) {
    start_arena(MIB(130));
    size_t bytes = arena_innards().metadata_bytes;
    check(bytes % KIB(256) != 0);
    char *all = arena_take_metadata(bytes);
    check(all == arena.metadata && readable(all + bytes - 1) && !readable(all + bytes));
}

Test(arena, metadata_is_zeroed_aligned_and_used_up_without_a_gap) {
    start_arena(MIB(8));
    uint64_t state = unit_seed();
    char *end = arena.metadata;
    size_t total = 0;
    for (;;) {
        size_t bytes = 1 + unit_below(&state, 20000);
        char *p = arena_take_metadata(bytes);
        if (p == NULL) {
            check(total + round_up(bytes, 64) > MIB(4), "NULL with %zu left", MIB(4) - total);
            break;
        }
        check((uintptr_t)p % 64 == 0 && p == end, "at %zu", total);
        for (size_t i = 0; i < bytes; i++)
            check(p[i] == 0);
        memset(p, 0xee, bytes);
        end = p + round_up(bytes, 64);
        total += round_up(bytes, 64);
        check(total <= MIB(4));
    }
    check(arena_take_metadata(MIB(5)) == NULL && arena_take_metadata(PTRDIFF_MAX) == NULL);
    while (total < MIB(4)) {
        check(arena_take_metadata(64) != NULL, "%zu are left", MIB(4) - total);
        total += 64;
    }
    check(arena_take_metadata(1) == NULL);
}

static ATOMIC(uint32_t) piece_owner[MIB(4) / 64];

static size_t take_pieces(unsigned number, void *shared) {
    (void)shared;
    uint64_t state = unit_seed() + number;
    size_t wrong = 0;
    for (;;) {
        size_t pieces = 1 + unit_below(&state, 40);
        char *p = arena_take_metadata(pieces * 64);
        if (p == NULL)
            return wrong;
        size_t first = (size_t)(p - arena.metadata) / 64;
        for (size_t i = 0; i < pieces; i++) {
            wrong += p[i * 64] != 0;
            wrong += atomic_swap(&piece_owner[first + i], number + 1, relaxed) != 0;
            memset(p + i * 64, (int)number + 1, 64);
        }
    }
}

Test(arena, metadata_taken_by_four_threads_never_overlaps) {
    start_arena(MIB(8));
    check(unit_run_threads(4, take_pieces, NULL) == 0);
    size_t used = 0;
    for (size_t i = 0; i < MIB(4) / 64; i++)
        used += atomic_get(&piece_owner[i], relaxed) != 0;
    check(used > MIB(4) / 64 - 40, "%zu pieces were handed out", used);
}

static void write_maps(uint32_t from, uint32_t end) {
    for (uint32_t s = from; s < end; s++) {
        memset(slot_at(s), 0x77, sizeof(struct slot));
        memset(arena.bitmaps - (size_t)(s + 1) * 64, 0x77, 512);
        for (size_t at = 0; at < SLOT_BYTES; at += 16)
            for (unsigned class = 1; class < 9; class += class)
                *arena_live_byte(class, arena_slot_start(s) + at) = 0x77;
    }
}

/* How many of the bytes that describe a slot are neither 0x77 nor, where that is allowed, 0. */
static size_t wrong_bytes(uint32_t s, bool purged, size_t *zeros) {
    size_t wrong = 0;
    const unsigned char *record = (const unsigned char *)slot_at(s);
    const unsigned char *bits = (const unsigned char *)(arena.bitmaps - (size_t)(s + 1) * 64);
    for (size_t i = 0; i < 512; i++) {
        unsigned char byte = i < 128 ? record[i] : 0x77;
        wrong += bits[i] != 0x77 && !(purged && bits[i] == 0);
        wrong += byte != 0x77 && !(purged && byte == 0);
        *zeros += bits[i] == 0;
    }
    for (size_t at = 0; at < SLOT_BYTES; at += 16)
        for (unsigned class = 1; class < 9; class += class) {
            uint8_t byte = *arena_live_byte(class, arena_slot_start(s) + at);
            wrong += byte != 0x77 && !(purged && byte == 0);
            *zeros += byte == 0;
        }
    return wrong;
}

Test(arena, purging_maps_leaves_zeros_inside_and_nothing_changed_outside) {
    start_arena(MIB(64));
    const uint32_t from = 256, end = 768;
    write_maps(from - 32, end + 32);
    atomic_put(&superslab_at(from / 32)->dirty, 0x1234, relaxed);
    arena_purge_maps(from, end - from);
    size_t zeros = 0;
    for (uint32_t s = from; s < end; s++)
        check(wrong_bytes(s, true, &zeros) == 0, "slot %u", s);
    size_t looked_at = 4 * (SLOT_BYTES / 16) + 512; /* bytes a slot in wrong_bytes */
    check(zeros > (size_t)(end - from) * looked_at * 9 / 10, "only %zu bytes went", zeros);
    check(atomic_get(&superslab_at(from / 32)->dirty, relaxed) == 0x1234, "the record stays");
    zeros = 0;
    for (uint32_t s = from - 32; s < from; s++)
        check(wrong_bytes(s, false, &zeros) + wrong_bytes(end + s - from + 32, false, &zeros) == 0);
    check(zeros == 0);
    write_maps(from, end); /* A4: still committed */
}
