/* test_options.c -- reading the environment: what is set, and the one line for what is not. */
#include "unit/unit.inc"

#include <errno.h>

#include "core/options.h"

static const struct {
    const char *name;
    const uint64_t *value;
    uint64_t min, max;
} table[] = {
    {"fast_cap", &options.fast_cap, 2, MAGAZINE_ENTRIES_MAX},
    {"fill_batch", &options.fill_batch, 1, 1024},
    {"drain_interval", &options.drain_interval, 0, 3600000},
    {"purge_delay_ms", &options.purge_delay_ms, 0, 3600000},
    {"lru_superslabs", &options.lru_superslabs, 0, 524288},
    {"big_cache_mib", &options.big_cache_mib, 0, 1048576},
    {"prewarm", &options.prewarm, 0, 4096},
    {"arena_mib", &options.arena_mib, 8, 1048576},
    {"large_pages", &options.large_pages, 0, 2},
    {"prefault", &options.prefault, 0, 2},
    {"stats", &options.stats, 0, 1},
    {"crash_report", &options.crash_report, 0, 1},
    {"acquire_trace", &options.acquire_trace, 0, 1},
    {"check_every", &options.check_every, 0, 1000000000},
    {"check_quiet", &options.check_quiet, 0, 1},
    {"quarantine_kib", &options.quarantine_kib, 0, 1048576},
    {"stack_depth", &options.stack_depth, 0, 32},
};
enum { COUNT = sizeof table / sizeof table[0] };
_Static_assert(COUNT * sizeof(uint64_t) == sizeof(struct options), "every option is tested");

static struct options initial;
static char said[8192];

/* Loads with HAKMEM_OPTIONS; what went to stderr stands in `said`. */
static void load(const char *all) {
    FILE *file = tmpfile();
    int saved = dup(2);
    check(file != NULL && saved >= 0 && dup2(fileno(file), 2) == 2);
    if (all != NULL)
        check(setenv("HAKMEM_OPTIONS", all, 1) == 0);
    initial = options;
    options_load();
    (void)dup2(saved, 2);
    (void)close(saved);
    rewind(file);
    said[fread(said, 1, sizeof said - 1, file)] = '\0';
    (void)fclose(file);
}
static unsigned lines(void) {
    unsigned count = 0;
    for (const char *s = said; *s != '\0'; s++)
        count += *s == '\n';
    return count;
}
static void check_all_as_before(void) {
    check(memcmp(&initial, &options, sizeof options) == 0, "after: %s", said);
}

Test(options, nothing_set_keeps_the_defaults_and_says_nothing) {
    load(NULL);
    check_all_as_before();
    check(said[0] == '\0' && options.purge_delay_ms == 1000 && options.stats == STATS_OFF);
    load("");
    load(",,,");
    check_all_as_before();
    check(said[0] == '\0', "%s", said);
}

Test(options, each_option_takes_its_least_and_its_largest_value) {
    for (int i = 0; i < COUNT; i++)
        for (int end = 0; end < 2; end++) {
            char text[100];
            uint64_t value = end == 0 ? table[i].min : table[i].max;
            (void)snprintf(text, sizeof text, "%s=%llu", table[i].name, (unsigned long long)value);
            load(text);
            check(*table[i].value == value && said[0] == '\0', "%s: %s", text, said);
        }
}

Test(options, a_value_out_of_range_is_named_with_the_range_and_ignored) {
    for (int i = 0; i < COUNT; i++)
        for (int end = 0; end < 2; end++) {
            char text[100];
            char range[100];
            uint64_t value = end == 0 ? table[i].min - 1 : table[i].max + 1;
            if (table[i].min == 0 && end == 0)
                continue;
            (void)snprintf(text, sizeof text, "%s=%llu", table[i].name, (unsigned long long)value);
            (void)snprintf(range, sizeof range, "(%llu to %llu)", (unsigned long long)table[i].min,
                           (unsigned long long)table[i].max);
            load(text);
            check_all_as_before();
            check(lines() == 1 && strncmp(said, "hakmem: ", 8) == 0, "%s", said);
            check(strstr(said, text) != NULL && strstr(said, range) != NULL, "%s", said);
        }
}

Test(options, several_are_read_in_order_and_the_last_wins) {
    load(",fast_cap=16,,fill_batch=8,fast_cap=32,");
    check(options.fast_cap == 32 && options.fill_batch == 8 && said[0] == '\0', "%s", said);
}

Test(options, choices_are_set_by_word_or_number) {
    load("large_pages=on,stats=exit,crash_report=on");
    check(options.large_pages == LARGE_PAGES_ON && options.stats == STATS_EXIT);
    check(options.crash_report == 1 && said[0] == '\0');
    load("large_pages=off,stats=off,crash_report=0");
    check(options.large_pages == LARGE_PAGES_OFF && options.stats == STATS_OFF);
    check(options.crash_report == 0 && said[0] == '\0');
}

Test(options, an_unknown_name_is_named_in_one_line_and_the_rest_still_holds) {
    const char *const names[] = {"fast_caps=3", "fast_ca=3", "FAST_CAP=3", " fast_cap=3", "=3",
                                 "x",           "helper",    "fast_cap =3"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char text[100];
        (void)snprintf(text, sizeof text, "%s,fill_batch=%zu", names[i], i + 1);
        load(text);
        check(lines() == 1 && strstr(said, names[i]) != NULL, "%s", said);
        check(strstr(said, "unknown") != NULL, "%s", said);
        check(options.fill_batch == i + 1 && options.fast_cap == initial.fast_cap);
    }
}

Test(options, a_value_that_is_no_number_is_named_and_ignored) {
    const char *const values[] = {"fast_cap=",   "fast_cap=x",   "fast_cap=12x", "fast_cap=-5",
                                  "fast_cap=+5", "fast_cap=0x8", "fast_cap= 8",  "fast_cap=8 ",
                                  "fast_cap=99999999999999999999999999", "stats=exi", "stats=exit2",
                                  "stats=off|exit", "fast_cap"};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        load(values[i]);
        check_all_as_before();
        check(lines() == 1 && strstr(said, values[i]) != NULL, "%s", said);
    }
}

Test(options, a_variable_of_its_own_wins_over_the_list) {
    check(setenv("HAKMEM_FAST_CAP", "64", 1) == 0 && setenv("HAKMEM_STATS", "exit", 1) == 0);
    load("fast_cap=16,stats=off,fill_batch=9");
    check(options.fast_cap == 64 && options.stats == STATS_EXIT && options.fill_batch == 9);
    check(said[0] == '\0', "%s", said);
    options.stats = STATS_OFF;
}

Test(options, a_bad_variable_is_named_and_leaves_the_lists_value) {
    check(setenv("HAKMEM_FAST_CAP", "1", 1) == 0 && setenv("HAKMEM_PREWARM", "many", 1) == 0);
    load("fast_cap=16");
    check(options.fast_cap == 16 && options.prewarm == initial.prewarm && lines() == 2, "%s", said);
    check(strstr(said, "HAKMEM_FAST_CAP=1") != NULL && strstr(said, "HAKMEM_PREWARM=many") != NULL);
}

Test(options, a_very_long_value_is_cut_off_in_the_report) {
    static char text[60000];
    memset(text, 'z', sizeof text - 1);
    load(text);
    check(lines() == 1 && strlen(said) < 400 && strstr(said, "unknown") != NULL);
    check(setenv("HAKMEM_FAST_CAP", text, 1) == 0);
    load("");
    check(lines() == 1 && strlen(said) < 400 && options.fast_cap == initial.fast_cap);
}

Test(options, help_prints_every_option_with_its_effective_and_default_value) {
    load("fast_cap=77,help,large_pages=on");
    for (int i = 0; i < COUNT; i++) {
        char start[40];
        (void)snprintf(start, sizeof start, "\n%s ", table[i].name);
        check(strstr(said, start) != NULL, "%s", table[i].name);
    }
    static const char number[] = "\nfast_cap        77        16384     2..16384       blocks  most ";
    static const char word[] = "\nlarge_pages     on        auto      off|on|auto            huge ";
    check(strstr(said, number) != NULL && strstr(said, word) != NULL, "%s", said);
    check(lines() == COUNT + 2, "%s", said);
}

Test(options, loading_leaves_errno_alone) {
    errno = 77;
    load("nonsense,help");
    errno = 77;
    options_load();
    check(errno == 77);
}
