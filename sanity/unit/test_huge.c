/* test_huge.c -- which SuperSlabs of runs have huge pages: from their start, or later. */
#include "unit/kernel.inc"

#include <unistd.h>

#include "core/huge.h"
#include "core/options.h"
#include "core/pool.h"
#include "core/prefault.h"

static void start_arena(uint64_t prefault) {
    options.prefault = prefault;
    check(arena_init(MIB(128)) == 0);
}

/* As a heap does: stages 1 and 2, then 3. */
static struct slot *take(unsigned class) {
    uint32_t home = 0;
    unsigned stage;
    struct slot *slot = pool_take(class, 5, &home, false, &stage);
    if (slot == NULL)
        slot = pool_take_new(class, 5, &home);
    check(slot != NULL);
    return slot;
}

static uint32_t superslab_of(const struct slot *slot) {
    return slot_number(slot) / SUPERSLAB_SLOTS;
}
static bool is_huge(uint32_t superslab) {
    return atomic_get(&superslab_at(superslab)->pages, relaxed) == PAGES_HUGE;
}

/* Takes `count` blocks, which may go out in portions: to out[], the last ones first. */
static void *out[SLOT_BLOCKS_MAX];
static void take_out(struct slot *slot, unsigned count) {
    for (unsigned got = 0; got < count;) {
        unsigned more = slot_take(slot, out + count - got, count - got);
        check(more > 0);
        got += more;
    }
}

/* ---- from the start ---- */

Test(huge, huge_pages_are_asked_for_while_a_heap_of_some_size_fills_what_it_takes) {
    start_arena(PREFAULT_OFF);
    for (uint32_t superslabs = 0; superslab_held() < 24;) { /* blocks of 1 KiB, all handed out */
        struct slot *slot = take(32);
        if (superslab_held() != superslabs) {
            superslabs = superslab_held();
            uint32_t number = slot_number(slot) / SUPERSLAB_SLOTS;
            check((superslab_at(number)->pages == PAGES_HUGE) == (superslabs >= 6), "%u held", superslabs);
        }
        take_out(slot, slot->capacity);
        memset(arena_slot_start(slot_number(slot)), 1, SLOT_BYTES);
    }
    for (uint32_t superslabs = superslab_held(); superslabs < 32;) { /* nothing handed out */
        struct slot *slot = take(32);
        if (superslab_held() == superslabs)
            continue;
        uint32_t number = slot_number(slot) / SUPERSLAB_SLOTS;
        check(superslabs <= 25 || superslab_at(number)->pages == PAGES_SMALL, "%u held", superslabs);
        superslabs = superslab_held();
    }
}

/* Takes SuperSlabs, of which each sparse_each-th has a quarter of its blocks out, the others all;
 * returns how many got huge pages. */
static unsigned huge_among(unsigned sparse_each) {
    unsigned huge = 0;
    for (uint32_t superslabs = superslab_held(); superslabs < 24;) {
        struct slot *slot = take(32);
        if (superslab_held() != superslabs) {
            superslabs = superslab_held();
            huge += superslab_at(slot_number(slot) / SUPERSLAB_SLOTS)->pages == PAGES_HUGE;
        }
        unsigned want = superslabs % sparse_each == 0 ? slot->capacity / 4 : slot->capacity;
        take_out(slot, want);
        memset(arena_slot_start(slot_number(slot)), 1, want * KIB(1));
    }
    return huge;
}

/* Of a heap with many classes most runs of the last SuperSlab are still being filled. */
Test(huge, huge_pages_are_asked_for_though_one_of_four_superslabs_is_sparse) {
    start_arena(PREFAULT_OFF);
    check(huge_among(4) == 24 - 5);
}

Test(huge, a_filled_superslab_between_sparse_ones_earns_no_huge_pages) {
    start_arena(PREFAULT_OFF);
    check(huge_among(2) == 0);
}

/* Of so many heaps each is filling runs of its own: takes SuperSlabs, of which the newest four have
 * half of their blocks out, and all others all; returns how many got huge pages. */
static unsigned huge_among_filling(uint32_t heaps) {
    enum { FILLING = 4 * 31, LAST = 23 * 32 };
    static struct slot *taken[LAST];
    unsigned huge = 0, count = 0;
    start_arena(PREFAULT_OFF);
    atomic_put(&huge_heaps, heaps, relaxed);
    for (uint32_t superslabs = superslab_held(); superslabs < 24; count++) {
        struct slot *slot = taken[count] = take(32);
        if (superslab_held() != superslabs) {
            superslabs = superslab_held();
            huge += is_huge(superslab_of(slot));
        }
        memset(arena_slot_start(slot_number(slot)), 1, SLOT_BYTES);
        take_out(slot, slot->capacity / 2);
        if (count >= FILLING) {
            slot = taken[count - FILLING];
            take_out(slot, slot->capacity - slot->capacity / 2);
        }
    }
    return huge;
}

/* Five eighths are out once seven are held below, by a look at every second of them. */
Test(huge, more_superslabs_are_looked_at_where_more_heaps_fill_them) {
    unsigned huge = huge_among_filling(4);
    check(huge == 24 - 7, "%u", huge);
}
Test(huge, superslabs_that_one_heap_leaves_half_empty_earn_no_huge_pages) {
    check(huge_among_filling(1) == 0);
}

Test(huge, blocks_of_which_little_is_touched_get_small_pages) {
    start_arena(PREFAULT_OFF);
    while (superslab_held() < 24) { /* of 16 KiB, all handed out, a page touched in each */
        struct slot *slot = take(sizeclass_of(KIB(16)));
        take_out(slot, slot->capacity);
        for (unsigned i = 0; i < slot->capacity; i++)
            *(char *)out[i] = 1;
        check(superslab_at(slot_number(slot) / SUPERSLAB_SLOTS)->pages == PAGES_SMALL);
    }
}

/* ---- later ---- */

/* Takes a run of blocks of 8 KiB, has a part of them out, and touches a part of each. */
static uint32_t use_run(unsigned out_of_8, unsigned touched_of_8) {
    struct slot *slot = take(sizeclass_of(KIB(8)));
    take_out(slot, slot->capacity * out_of_8 / 8);
    for (unsigned i = 0; i < slot->capacity; i++)
        memset(slot->start + i * KIB(8), (int)superslab_of(slot), KIB(1) * touched_of_8);
    return superslab_of(slot);
}

#define FIVE_SUPERSLABS (31u + 4 * 32) /* slots, without the guard */

/* How many SuperSlabs became huge of the first five. */
static unsigned huge_of_five(unsigned out_of_8, unsigned touched_of_8) {
    unsigned count = 0;
    for (unsigned i = 0; i < FIVE_SUPERSLABS; i++)
        (void)use_run(out_of_8, touched_of_8);
    check(superslab_held() == 5);
    for (uint32_t i = 0; i < superslab_top(); i++)
        count += is_huge(i) && superslab_in_use(i);
    return count;
}

Test(huge, a_superslab_becomes_huge_once_little_is_left_of_it_beside_what_is_held) {
    start_arena(PREFAULT_ON);
    if (!kernel_can_collapse())
        return;
    const unsigned used_first[6] = {0, 32, 20, 13, 7, 1};
    uint32_t now = UINT32_MAX;
    for (unsigned i = 0, used = 0; i < FIVE_SUPERSLABS; i++) {
        uint32_t at = use_run(8, 8);
        used = at == now ? used + 1 : 0;
        now = at;
        bool later = used >= used_first[superslab_held()];
        check(is_huge(at) == later, "slot %u, %u held", used, superslab_held());
    }
    for (uint32_t i = 1; i < superslab_top(); i++) {
        const char *start = arena_slot_start(i * SUPERSLAB_SLOTS);
        for (size_t b = 0; b < SUPERSLAB_BYTES && superslab_in_use(i); b++)
            check(start[b] == (char)i);
    }
}

Test(huge, a_superslab_stays_small_where_a_fault_is_not_dear) {
    start_arena(PREFAULT_OFF);
    check(huge_of_five(8, 8) == 0);
}

Test(huge, a_superslab_stays_small_where_the_option_says_so) {
    start_arena(PREFAULT_ON);
    options.large_pages = LARGE_PAGES_OFF;
    check(huge_of_five(8, 8) == 0);
}

Test(huge, a_superslab_stays_small_whose_blocks_are_not_out) {
    start_arena(PREFAULT_ON);
    check(huge_of_five(4, 8) == 0);
}

Test(huge, a_superslab_stays_small_whose_blocks_are_not_touched) {
    start_arena(PREFAULT_ON);
    check(huge_of_five(8, 4) == 0);
}

Test(huge, a_superslab_stays_small_where_there_are_many_threads) {
    start_arena(PREFAULT_ON);
    atomic_put(&huge_heaps, 5, relaxed);
    check(huge_of_five(8, 8) == 0);
}

static bool never(const char *setting) {
    char path[] = "/tmp/test_huge.XXXXXX";
    int fd = mkstemp(path);
    check(fd >= 0 && write(fd, setting, strlen(setting)) == (ssize_t)strlen(setting));
    bool answer = huge_never(path);
    check(close(fd) == 0 && unlink(path) == 0);
    return answer;
}

Test(huge, the_systems_setting_is_respected) {
    check(never("always madvise [never]\n"));
    check(!never("always [madvise] never\n") && !never("[always] madvise never\n") && !never(""));
    check(!huge_never("/nonexistent"), "then the kernel decides");
}

/* ---- what describes it ---- */

static bool is_resident(const void *p) {
    char *page = (char *)round_down((uintptr_t)p, os_page_bytes());
    return os_resident(page, os_page_bytes()) > 0;
}

/* Whether the maps of the last slot of a SuperSlab are resident when its first run is carved. */
static bool maps_are_there(unsigned class) {
    for (unsigned i = 0; i < 31; i++) /* SuperSlab 0 has small pages */
        (void)take(sizeclass_of(2048));
    uint32_t number = slot_number(take(class));
    check(number % SUPERSLAB_SLOTS == 0 && is_huge(number / SUPERSLAB_SLOTS));
    uint32_t last = number + SUPERSLAB_SLOTS - 1;
    bool live = is_resident((void *)arena_live_byte(class, arena_slot_start(last)));
    bool bits = is_resident(arena.bitmaps - (size_t)(last + 1) * (SLOT_BLOCKS_MAX / 64));
    check(bits == (live && sizeclass_bytes(class) < 128), "where they are outside the record");
    return live;
}

Test(huge, the_maps_of_a_huge_superslab_are_asked_for_with_its_first_run) {
    start_arena(PREFAULT_ON);
    options.large_pages = LARGE_PAGES_ON;
    check(maps_are_there(sizeclass_of(64)));
}

Test(huge, bitmaps_in_the_records_are_not_asked_for) {
    start_arena(PREFAULT_ON);
    options.large_pages = LARGE_PAGES_ON;
    check(maps_are_there(sizeclass_of(512)));
}

Test(huge, maps_are_not_asked_for_where_a_fault_is_not_dear) {
    start_arena(PREFAULT_OFF);
    options.large_pages = LARGE_PAGES_ON;
    check(!maps_are_there(sizeclass_of(64)));
}

#if HKM_OS_TEST
Test(huge, a_kernel_that_can_not_is_asked_more_and_more_seldom) {
    refuse_at("os_collapse");
    start_arena(PREFAULT_ON);
    options.large_pages = LARGE_PAGES_AUTO;
    check(huge_of_five(8, 8) == 0);
    check(times_refused == 11, "%u of 83 times", times_refused);
}
#endif
