/* options_read.c -- HAKMEM_OPTIONS and HAKMEM_NAME as a user meets them: the table of options,
 * complaints of one line that change nothing, statistics at exit, and silence otherwise.
 */
#include "check.inc"

enum { WORKED = 5 };

static char text[65536];

/* What the program does under the options. */
static int work(void) {
    for (size_t i = 0; i < 20000; i++) {
        void *block = malloc(i % 3000);
        if (block == NULL)
            return 6;
        free(block);
    }
    return WORKED;
}

static size_t lines_of(const char *from) {
    size_t lines = 0;
    for (; *from != '\0'; from++)
        lines += *from == '\n';
    return lines;
}

static void run_work(const char *options) {
    int status = run_self("--work", options, text, sizeof text);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == WORKED,
           "HAKMEM_OPTIONS=%s: expected the program to go on, found wait status %#x", options,
           status);
}

static void nothing_is_printed_without_options(void) {
    run_work(NULL);
    EXPECT(text[0] == '\0', "expected nothing on stderr, found: %.200s", text);
    run_work("");
    EXPECT(text[0] == '\0', "empty options: expected nothing on stderr, found: %.200s", text);
    run_work("fast_cap=64,purge_delay_ms=500");
    EXPECT(text[0] == '\0', "valid options: expected nothing on stderr, found: %.200s", text);
}

static void help_prints_the_table_and_the_program_goes_on(void) {
    static const char *const names[] = {"fast_cap", "fill_batch",     "drain_interval",
                                        "prewarm",  "purge_delay_ms", "large_pages",
                                        "stats",    "crash_report"};
    run_work("help");
    for (size_t i = 0; i < COUNT_OF(names); i++)
        EXPECT(strstr(text, names[i]) != NULL, "expected a line on %s, found: %.300s", names[i],
               text);
    EXPECT(lines_of(text) >= COUNT_OF(names), "expected a line for each option, found %zu lines",
           lines_of(text));
    run_work("fast_cap=77,help");
    char *line = strstr(text, "fast_cap");
    EXPECT(line != NULL && strstr(line, "77") != NULL && strstr(line, "77") < strchr(line, '\n'),
           "expected the effective value 77 in the line on fast_cap, found: %.300s", text);
}

static void expect_complaint(const char *options, const char *about) {
    run_work(options);
    EXPECT(lines_of(text) == 1, "HAKMEM_OPTIONS=%s: expected one line on stderr, found %zu: %.200s",
           options, lines_of(text), text);
    EXPECT(strncmp(text, "hakmem", 6) == 0 && strstr(text, about) != NULL,
           "HAKMEM_OPTIONS=%s: expected a line of hakmem's that names %s, found: %.200s", options,
           about, text);
}

static void unknown_names_are_named_and_ignored(void) {
    expect_complaint("no_such_option=1", "no_such_option");
    expect_complaint("no_such_option", "no_such_option");
    expect_complaint("fast_cap=64,fast_caps=3", "fast_caps");
    expect_complaint("FAST_CAP=64", "FAST_CAP");
    expect_complaint("=5", "=5");
}

static void values_out_of_range_are_named_and_ignored(void) {
    expect_complaint("fast_cap=99999999", "fast_cap");
    expect_complaint("fast_cap=-1", "fast_cap");
    expect_complaint("fast_cap=many", "fast_cap");
    expect_complaint("fast_cap=", "fast_cap");
    expect_complaint("fast_cap", "fast_cap");
    expect_complaint("purge_delay_ms=99999999999999999999999999", "purge_delay_ms");
    expect_complaint("fast_cap=64x", "fast_cap");
    run_work("fast_cap=99999999,help");
    EXPECT(strstr(text, "\nfast_cap") != NULL, "expected the table, found: %.200s", text);
    char *line = strstr(text, "\nfast_cap");
    EXPECT(line == NULL || strstr(line, "99999999") == NULL,
           "expected the value ignored, found: %.300s", line);
}

static void a_very_long_option_text_does_no_harm(void) {
    static char options[20000];
    memset(options, 'x', sizeof options - 1);
    run_work(options);
    EXPECT(lines_of(text) == 1, "expected one line, found %zu", lines_of(text));
    for (size_t i = 100; i < sizeof options - 1; i += 100)
        options[i] = ',';
    run_work(options);
    EXPECT(lines_of(text) > 0, "expected complaints, found none");
}

static void single_variables_set_single_options(void) {
    setenv("HAKMEM_FAST_CAP", "88", 1);
    run_work("help");
    char *line = strstr(text, "\nfast_cap");
    EXPECT(line != NULL && strstr(line, "88") != NULL &&
               strstr(line, "88") < strchr(line + 1, '\n'),
           "HAKMEM_FAST_CAP=88: expected 88 in its line, found: %.300s", text);
    setenv("HAKMEM_FAST_CAP", "banana", 1);
    run_work(NULL);
    EXPECT(lines_of(text) == 1 && strstr(text, "FAST_CAP") != NULL,
           "HAKMEM_FAST_CAP=banana: expected one line that names it, found: %.200s", text);
    unsetenv("HAKMEM_FAST_CAP");
}

static void statistics_are_printed_at_exit_when_asked_for(void) {
    run_work("stats=exit");
    EXPECT(lines_of(text) >= 3 && strstr(text, "hakmem") != NULL,
           "stats=exit: expected some lines that name hakmem, found: %.200s", text);
    EXPECT(strpbrk(text, "123456789") != NULL, "stats=exit: expected figures, found: %.200s", text);
    run_work("stats=off");
    EXPECT(text[0] == '\0', "stats=off: expected nothing, found: %.200s", text);
}

static void every_extreme_of_every_option_works(void) {
    static const char *const extremes[] = {"fast_cap=2",
                                           "fast_cap=1024",
                                           "fill_batch=1",
                                           "fill_batch=1024",
                                           "drain_interval=0",
                                           "purge_delay_ms=0",
                                           "purge_delay_ms=3600000",
                                           "prewarm=1",
                                           "large_pages=off",
                                           "large_pages=on",
                                           "prefault=off",
                                           "prefault=on",
                                           "fast_cap=2,fill_batch=1024",
                                           "crash_report=1",
                                           "purge_delay_ms=0,drain_interval=0,fast_cap=2"};
    for (size_t i = 0; i < COUNT_OF(extremes); i++) {
        run_work(extremes[i]);
        EXPECT(text[0] == '\0', "%s: expected nothing on stderr, found: %.200s", extremes[i], text);
    }
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(nothing_is_printed_without_options, 0),
    CHECK(help_prints_the_table_and_the_program_goes_on, 1),
    CHECK(unknown_names_are_named_and_ignored, 1),
    CHECK(values_out_of_range_are_named_and_ignored, 1),
    CHECK(a_very_long_option_text_does_no_harm, 1),
    CHECK(single_variables_set_single_options, 1),
    CHECK(statistics_are_printed_at_exit_when_asked_for, 1),
    CHECK(every_extreme_of_every_option_works, 0),
};

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--work") == 0)
        return work();
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
