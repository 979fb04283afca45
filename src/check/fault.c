/* fault.c -- see fault.h. */
#include "check/fault.h"

#include "base/require.h"
#include "core/report.h"

/* Of the thread that report_begin lets in. */
static HKM_SPARSE struct text note, words, left, right;

void fault_note(const char *what, const void *address, ptrdiff_t offset) {
    (void)report_begin();
    note.used = 0;
    text_add(&note, "\n  ");
    text_add(&note, what);
    text_pointer(&note, address);
    text_add(&note, offset < 0 ? ", offset -" : ", offset ");
    text_dec(&note, (uint64_t)(offset < 0 ? -offset : offset));
}

/* Redzones, poison and memory of no block are damaged by the program, the allocator's own records
 * need not be. */
static const char *damaged(enum invariant invariant) {
    if (HKM_CHECK_LEVEL >= 1 && invariant >= INV_B8 && invariant <= INV_B11)
        return "block";
    return HKM_CHECK_LEVEL >= 1 && invariant == INV_U2 ? "free memory" : "metadata";
}

/* The lines behind the first one; `citation` is what the code that found it says. */
static _Noreturn void finish(enum invariant invariant, const char *citation, const void *about) {
    struct text *line = report_begin();
    text_add(line, "hakmem: corrupted ");
    text_add(line, damaged(invariant));
    text_add(line, ": invariant ");
    text_add(line, citation);
    text_add(line, " is broken at ");
    text_pointer(line, about);
    if (arena_bytes() != 0 && arena_contains(about))
        report_place(about);
    if (invariant < INVARIANT_COUNT) {
        struct invariant_row row = invariant_row(invariant);
        text_add(line, "\n  ");
        text_add(line, row.number);
        text_add(line, ". ");
        text_add(line, row.text);
    }
    text_add(line, note.chars);
    report_end(citation, about);
}

static _Noreturn void fault(enum invariant invariant, const char *expected, const char *found,
                            const void *about) {
    struct invariant_row row = invariant_row(invariant);
    report_check_line(row.number, row.keyword, expected, found, about);
    words.used = 0;
    text_add(&words, row.number);
    text_add(&words, " ");
    text_add(&words, row.keyword);
    finish(invariant, words.chars, about);
}

void fault_words(enum invariant invariant, const char *expected, const char *found,
                 const void *about) {
    fault(invariant, expected, found, about);
}

static void number(struct text *text, uint64_t n) {
    text->used = 0;
    if (n > UINT32_MAX)
        text_pointer(text, (const void *)(uintptr_t)n);
    else
        text_dec(text, n);
}

void fault_numbers(enum invariant invariant, uint64_t expected, uint64_t found, const void *about) {
    (void)report_begin();
    number(&left, expected);
    number(&right, found);
    fault(invariant, left.chars, right.chars, about);
}

/* Where hkm_require or hkm_assert cites a number: only that it does not hold is known. */
void hkm_broken(const char *citation, const void *about) {
    enum invariant invariant = invariant_cited(citation);
    if (invariant < INVARIANT_COUNT) {
        struct invariant_row row = invariant_row(invariant);
        report_check_line(row.number, row.keyword, "true", "false", about);
    }
    finish(invariant, citation, about);
}
