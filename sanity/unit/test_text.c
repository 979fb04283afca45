/* test_text.c -- base/text.h: numbers, sizes, columns, and what does not fit. */
#include "unit/unit.inc"

#include <inttypes.h>

#include "base/text.h"

static const char *bytes_of(uint64_t bytes) {
    static struct text t;
    t = (struct text){0};
    text_bytes(&t, bytes);
    return t.chars;
}

Test(text, numbers_read_as_printf_writes_them) {
    uint64_t state = unit_seed();
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t n = i < 300 ? i : unit_random(&state) >> unit_below(&state, 64);
        n = i == 300 ? UINT64_MAX : n;
        char expected[64];
        struct text t = {0};
        text_dec(&t, n);
        (void)snprintf(expected, sizeof expected, "%" PRIu64, n);
        check(strcmp(t.chars, expected) == 0 && t.used == strlen(expected), "%s", expected);
        t = (struct text){0};
        text_pointer(&t, (void *)(uintptr_t)n);
        (void)snprintf(expected, sizeof expected, "0x%" PRIx64, n);
        check(strcmp(t.chars, expected) == 0, "%s is not %s", t.chars, expected);
    }
}

Test(text, adding_appends_and_keeps_the_end) {
    struct text t = {0};
    char expected[200] = "";
    for (int i = 0; i < 20; i++) {
        text_add(&t, "ab ");
        text_dec(&t, (uint64_t)i);
        (void)snprintf(expected + strlen(expected), 10, "ab %d", i);
        check(strcmp(t.chars, expected) == 0 && t.used == strlen(expected));
    }
}

Test(text, what_does_not_fit_is_cut_off_and_the_end_stays) {
    struct text guarded[2];
    memset(guarded, 0x5a, sizeof guarded);
    guarded[0] = (struct text){0};
    for (int i = 0; i < 400; i++)
        text_add(&guarded[0], "0123456789");
    text_dec(&guarded[0], 42);
    text_pointer(&guarded[0], &guarded);
    check(guarded[0].used == sizeof guarded[0].chars - 1);
    check(strlen(guarded[0].chars) == guarded[0].used);
    for (size_t i = 0; i < guarded[0].used; i++)
        check(guarded[0].chars[i] == (char)('0' + i % 10), "at %zu", i);
    check(((unsigned char *)&guarded[1])[0] == 0x5a, "written past the end");
}

Test(text, a_column_is_reached_with_blanks_or_already_passed) {
    for (size_t column = 0; column < 80; column++)
        for (size_t used = 0; used < 40; used++) {
            struct text t = {0};
            for (size_t i = 0; i < used; i++)
                text_add(&t, "x");
            text_column(&t, column);
            check(t.used == (column > used ? column : used));
            check(strspn(t.chars, "x") == used && strspn(t.chars + used, " ") == t.used - used);
        }
}

Test(text, sizes_are_rounded_to_a_tenth_of_the_largest_unit_that_fits) {
    static const struct {
        uint64_t bytes;
        const char *text;
    } known[] = {{0, "0 B"},
                 {1, "1 B"},
                 {1023, "1023 B"},
                 {1024, "1.0 KiB"},
                 {1536, "1.5 KiB"},
                 {MIB(1) - 1, "1.0 MiB"},
                 {MIB(1), "1.0 MiB"},
                 {MIB(3) + MIB(1) / 2, "3.5 MiB"},
                 {GIB(1), "1.0 GiB"},
                 {GIB(1) * 2048, "2.0 TiB"},
                 {GIB(1) * 1024 * 5000, "5000.0 TiB"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        check(strcmp(bytes_of(known[i].bytes), known[i].text) == 0, "%s, not %s",
              bytes_of(known[i].bytes), known[i].text);
}

Test(text, sizes_are_within_a_twentieth_of_the_unit_for_random_values) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    uint64_t state = unit_seed();
    for (int i = 0; i < 20000; i++) {
        uint64_t bytes = unit_random(&state) >> (8 + unit_below(&state, 56));
        double value = 0;
        char unit[8] = "";
        check(sscanf(bytes_of(bytes), "%lf %7s", &value, unit) == 2);
        double scale = 1;
        unsigned u = 0;
        for (; u < 5 && strcmp(unit, units[u]) != 0; u++)
            scale *= 1024;
        check(u < 5, "%s", bytes_of(bytes));
        double error = value * scale - (double)bytes;
        error = error < 0 ? -error : error;
        check(error <= scale * 0.0505 * (u == 0 ? 0.01 : 1), "%" PRIu64 " as %s", bytes,
              bytes_of(bytes));
        check(u == 4 || value < 1024, "%s", bytes_of(bytes));
    }
}

Test(text, the_largest_size_is_not_printed_as_a_small_one) {
    check(strstr(bytes_of(UINT64_MAX / 10), "TiB") != NULL, "%s", bytes_of(UINT64_MAX / 10));
    check(strstr(bytes_of(UINT64_MAX), "TiB") != NULL, "%s", bytes_of(UINT64_MAX));
}
