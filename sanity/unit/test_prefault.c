/* test_prefault.c -- the price of a fault, and which pages are resident ahead of their first touch. */
#include "unit/heap.inc"
#include "unit/kernel.inc"

#include <errno.h>
#include <sys/mman.h>

#include "core/large.h"
#include "core/prefault.h"
#include "core/superslab.h"

static size_t page(void) { return os_page_bytes(); }

static struct slot *run_of(unsigned class, const void *block) {
    return slot_of_block(class, block);
}
static size_t run_bytes(unsigned class) { return sizeclass_table[class].run_slots * SLOT_BYTES; }
static size_t resident_in(const struct slot *run) {
    return os_resident(arena_slot_start(slot_number(run)), run_bytes(run->class));
}

static struct heap *start(uint64_t prefault) {
    options.prefault = prefault;
    start_arena(MIB(64));
    return new_heap();
}

Test(prefault, the_shortest_of_four_faults_is_the_price) {
    for (int i = 0; i < 4; i++) {
        check(!prefault_pays(), "after %d", i);
        prefault_timed(9000 + (uint64_t)i);
    }
    check(prefault_pays());
    prefault_timed(UINT64_MAX);
    check(prefault_pays());
    prefault_timed(4000);
    check(prefault_pays());
    prefault_timed(3999);
    check(!prefault_pays());
    prefault_timed(9000);
    check(!prefault_pays());
}

Test(prefault, the_option_overrules_the_price) {
    options.prefault = PREFAULT_ON;
    prefault_timed(10);
    check(prefault_pays());
    options.prefault = PREFAULT_OFF;
    for (int i = 0; i < 4; i++)
        prefault_timed(9000);
    check(!prefault_pays());
}

/* Where a fault is dear on this machine this tells nothing. */
static void check_four_were_timed(void) {
    bool dear = prefault_pays();
    for (int i = 0; i < 4; i++)
        prefault_timed(9000);
    check(prefault_pays() == dear, "four samples were there");
}

Test(prefault, the_first_runs_of_a_process_tell_the_price) {
    struct heap *heap = start(PREFAULT_AUTO);
    for (unsigned class = 1; class <= 4; class ++)
        (void)fill(heap, class);
    check_four_were_timed();
}

Test(prefault, the_first_large_blocks_tell_it_likewise) {
    options.large_pages = LARGE_PAGES_OFF;
    (void)start(PREFAULT_AUTO);
    for (unsigned i = 0; i < 4; i++) {
        bool clean, cached;
        check(large_alloc(MIB(1), SLOT_BYTES, &clean, &cached) != NULL && clean);
    }
    check_four_were_timed();
}

/* A huge page takes 100 us on any machine, and what came along with one nothing. */
Test(prefault, huge_pages_tell_no_price) {
    options.large_pages = LARGE_PAGES_ON;
    struct heap *heap = start(PREFAULT_AUTO);
    int error;
    uint32_t superslab = superslab_take(1, SUPERSLAB_BYTES, &error);
    check(superslab_make_huge(superslab, 1) == 1);
    for (uint32_t i = 0; i < 8; i++)
        prefault_time(superslab * SUPERSLAB_SLOTS + i);
    for (int i = 0; i < 4; i++) {
        check(!prefault_pays(), "after %d", i);
        prefault_timed(9000);
    }
    check(prefault_pays());
    (void)heap;
}

Test(prefault, nothing_is_asked_for_where_it_does_not_pay) {
    struct heap *heap = start(PREFAULT_OFF);
    unsigned class = sizeclass_of(256);
    for (unsigned i = 0; i < 3 * sizeclass_table[class].capacity; i++)
        check(resident_in(run_of(class, fill(heap, class))) == 0);
}

/* Two runs of a class of small blocks, none of which is touched. */
Test(prefault, small_blocks_are_resident_from_the_middle_of_the_first_run_on) {
    struct heap *heap = start(PREFAULT_ON);
    unsigned class = sizeclass_of(256);
    size_t bytes = sizeclass_bytes(class);
    size_t middle = run_bytes(class) / 2;
    const size_t batch = 16384; /* more bytes do not go out at once, nor are they asked for */
    struct slot *first = NULL;
    size_t ahead = 0;
    for (unsigned i = 0; i < 2 * sizeclass_table[class].capacity - 40; i++) {
        char *block = fill(heap, class);
        struct slot *run = run_of(class, block);
        char *at = arena_slot_start(slot_number(run));
        if (first == NULL)
            first = run;
        size_t end = (size_t)(block + bytes - at);
        size_t there = resident_in(run);
        size_t from = run == first ? middle : 0;
        if (end + batch <= from)
            check(there <= page(), "%zu at %zu: the fault that was timed", there, end);
        if (end <= from)
            continue;
        check(os_resident((void *)round_down((uintptr_t)block, page()), page()) == page(),
              "block at %zu of its run", end);
        check(from + there <= end + 2 * batch + 2 * page(), "%zu at %zu", there, end);
        ahead += from + there > end + page();
    }
    check(ahead > 10, "some were there before their blocks went out");
}

Test(prefault, a_piece_ends_with_the_run) {
    struct heap *heap = start(PREFAULT_ON);
    unsigned class = sizeclass_of(256);
    struct slot *run = run_of(class, fill(heap, class));
    size_t colour = (size_t)(run->start - arena_slot_start(slot_number(run)));
    run->ahead = (uint32_t)(run_bytes(class) - page() - colour);
    prefault_blocks(run, run->start + (run->capacity - 1u) * sizeclass_bytes(class));
    check(os_resident(arena_slot_start(slot_number(run) + 1) - page(), page()) == page());
    check(os_resident(arena_slot_start(slot_number(run) + 1), SLOT_BYTES) == 0);
}

/* Blocks of 20 KiB of which a program touches the beginning, all, and the beginning again. */
Test(prefault, large_blocks_are_resident_but_for_one_page_where_the_one_before_was_filled) {
    struct heap *heap = start(PREFAULT_ON);
    unsigned class = sizeclass_of(20000);
    size_t bytes = sizeclass_bytes(class);
    enum { EACH = 12 };
    for (unsigned i = 0; i < 3 * EACH; i++) {
        char *block = fill(heap, class);
        bool sparse = i / EACH != 1;
        char *inside = (char *)round_up((uintptr_t)block, page()) + page();
        size_t all = bytes / page() * page() - 2 * page();
        size_t middle = os_resident(inside, all);
        bool last_of_fill = held(&heap->magazines[class]) == 0;
        if (i % EACH > 4) { /* noticed by then */
            if (sparse)
                check(middle == 0, "block %u", i);
            else
                check(middle == all - (last_of_fill ? page() : 0), "block %u: %zu", i, middle);
        }
        memset(block, 1, sparse ? 1 : bytes);
    }
}

Test(prefault, blocks_of_two_pages_have_a_witness_behind_their_first) {
    struct heap *heap = start(PREFAULT_ON);
    unsigned class = sizeclass_of(6144);
    for (unsigned i = 0; i < sizeclass_table[class].capacity / 2; i++) {
        char *block = fill(heap, class);
        *block = 1;
        struct slot *run = run_of(class, block);
        size_t end = (size_t)(block - arena_slot_start(slot_number(run)));
        check(resident_in(run) <= end + 2 * page(), "no block's second page, and none ahead");
    }
}

Test(prefault, a_run_that_is_resident_already_or_has_huge_pages_is_left_alone) {
    struct heap *heap = start(PREFAULT_ON);
    unsigned class = sizeclass_of(1024);
    uint32_t home = 0;
    unsigned stage;
    struct slot *run = pool_take(class, heap->id, &home, false, &stage);
    check(stage == 2 && run->ahead == 0, "nothing of it was in use");
    check(slot_change(slot_number(run), SLOT_ACTIVE, SLOT_EMPTY));
    run->filled = true;
    pool_give(run, false);
    struct slot *again = pool_take(class, heap->id, &home, false, &stage);
    check(again == run && stage == 2 && run->ahead == AHEAD_NEVER);
    options.large_pages = LARGE_PAGES_ON;
    struct slot *huge = pool_take_new(class, heap->id, &home);
    check(huge->ahead == 0);
    prefault_begin(huge, true);
    check(huge->ahead == AHEAD_NEVER);
}

Test(prefault, a_system_that_can_not_ends_it) {
    struct heap *heap = start(PREFAULT_ON);
    unsigned class = sizeclass_of(256);
    struct slot *run = run_of(class, fill(heap, class));
    check(mprotect(arena_slot_start(slot_number(run) + 1) - page(), page(), PROT_READ) == 0);
    errno = 77;
    prefault_blocks(run, run->start + (run->capacity - 1u) * sizeclass_bytes(class));
    check(!prefault_pays() && errno == 77);
    prefault_blocks(run, run->start);
    check(run->ahead == AHEAD_NEVER);
}

#if HKM_OS_TEST
Test(prefault, a_kernel_that_refuses_is_asked_once) {
    refuse_at("os_populate");
    struct heap *heap = start(PREFAULT_ON);
    for (unsigned class = 1; class < 60; class ++)
        for (unsigned i = 0; i < sizeclass_table[class].capacity; i++)
            (void)fill(heap, class);
    check(times_refused == 1 && !prefault_pays(), "%u", times_refused);
}
#endif
