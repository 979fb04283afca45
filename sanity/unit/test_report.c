/* test_report.c -- the words and numbers of reports: what each field says of which pointer. */
#include "unit/heap.inc"
#include "unit/said.inc"

#include "core/large.h"
#include "core/report.h"

static void *small_block(void) {
    static struct heap *heap;
    if (heap == NULL)
        heap = new_heap();
    return fill(heap, sizeclass_of(100));
}

static void *large_block(void) {
    bool clean, cached;
    void *block = large_alloc(MIB(3), SLOT_BYTES, &clean, &cached);
    check(block != NULL);
    return block;
}

/* ---- the line that names an invariant ---- */

static void say_check_line(void *about) {
    report_check_line("X7", "keyword", "this", "that", about);
}

static void check_line(void *about, const char *place) {
    char line[300];
    (void)snprintf(line, sizeof line, "hakmem: CHECK X7 keyword: expected this found that %s ptr=0x%lx\n",
                   place, (unsigned long)(uintptr_t)about);
    check(status_of(say_check_line, about) == 0 && strcmp(said, line) == 0, "%s instead of %s",
          said, line);
}

static void check_place(const void *about, uint32_t slot, const char *class) {
    char place[100];
    (void)snprintf(place, sizeof place, "superslab=%u slot=%u class=%s", slot / SUPERSLAB_SLOTS,
                   slot % SUPERSLAB_SLOTS, class);
    check_line(about, place);
}

Test(report, of_a_block_the_line_has_its_superslab_slot_and_class) {
    start_arena(MIB(64));
    char *small = small_block();
    check_place(small, arena_slot_of(small), "112");
    check_place(small + 1, arena_slot_of(small), "112");
    char *large = large_block();
    check_place(large, arena_slot_of(large), "large");
    check_place(large + MIB(1), arena_slot_of(large) + MIB(1) / SLOT_BYTES, "large");
    uint32_t unused = superslab_top() * SUPERSLAB_SLOTS + 5;
    check_place(arena_slot_start(unused), unused, "-");
}

Test(report, of_a_record_the_line_has_the_slot_that_it_is_about) {
    start_arena(MIB(64));
    uint32_t slot = arena_slot_of(small_block());
    check_place(slot_at(slot), slot, "112");
    check_place(slot_head(slot), slot, "112");
    uint32_t superslab = slot / SUPERSLAB_SLOTS;
    unsigned class = arena_class_of_slot(superslab * SUPERSLAB_SLOTS);
    check_place(superslab_at(superslab), superslab * SUPERSLAB_SLOTS, class == 0 ? "-" : "112");
    uint32_t last = (uint32_t)arena.superslab_count - 1;
    check_place(superslab_at(last), last * SUPERSLAB_SLOTS, "-");
    check_place(&superslab_at(last)->heads[31], last * SUPERSLAB_SLOTS + 31, "-");
}

Test(report, of_any_other_pointer_the_line_has_no_place) {
    check_line(NULL, "superslab=- slot=- class=-");
    start_arena(MIB(64));
    check_line(NULL, "superslab=- slot=- class=-");
    check_line(said, "superslab=- slot=- class=-");
}

/* ---- sizes and alignments that do not match ---- */

static void say_alignment(void *about) { report_alignment("the_call", about, 64, 256); }
static void say_size(void *about) { report_size("the_call", about, 112, 300); }

static void check_mismatch(void (*say)(void *), void *block, const char *what, const char *numbers,
                           const char *is) {
    char line[300];
    (void)snprintf(line, sizeof line,
                   "hakmem: %s mismatch in the_call of 0x%lx: a block %s; SuperSlab %u, slot %u %s\n",
                   what, (unsigned long)(uintptr_t)block, numbers,
                   arena_slot_of(block) / SUPERSLAB_SLOTS, arena_slot_of(block) % SUPERSLAB_SLOTS,
                   is);
    int status = status_of(say, block);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %x", status);
    const char *found = strstr(said, line);
    check(found != NULL, "%.300s instead of %s", said, line);
    /* the invariant's line is before it in the debug build alone */
    check((found != said) == (HKM_CHECK_LEVEL >= 1), "%.300s", said);
}

#define SIZES "of 112 bytes freed as one of 300"

Test(report, an_alignment_that_does_not_match_is_told_with_both) {
    start_arena(MIB(64));
    check_mismatch(say_alignment, small_block(), "alignment",
                   "aligned to 64 freed as one aligned to 256", "ACTIVE, class 112");
}

Test(report, a_size_that_does_not_match_is_told_with_both) {
    start_arena(MIB(64));
    check_mismatch(say_size, small_block(), "size", SIZES, "ACTIVE, class 112");
}

Test(report, the_state_of_a_place_is_that_of_its_run_and_large_ones_have_no_class) {
    start_arena(MIB(64));
    char *large = large_block();
    check_mismatch(say_size, large, "size", SIZES, "LARGE");
    check_mismatch(say_size, large + MIB(1), "size", SIZES, "LARGE");
    uint32_t slot = arena_slot_of(large);
    check(large_free(slot));
    check_mismatch(say_size, large, "size", SIZES, "CACHED");
    check_mismatch(say_size, arena_slot_start(superslab_top() * SUPERSLAB_SLOTS - 1), "size", SIZES,
                   "UNUSED");
    char *run = fill(new_heap(), sizeclass_of(KIB(20))); /* of several slots */
    check(sizeclass_table[sizeclass_of(KIB(20))].run_slots > 1);
    check_mismatch(say_size, run + SLOT_BYTES, "size", SIZES, "ACTIVE, class 20480");
}
