/* options.c -- the table of options and its reader. README.md and docs/hakmem.3 have the same rows;
 * ci/tidy compares them. */
#include "core/options.h"

#include <string.h>

#include "base/text.h"
#include "os/os.h"

#define PREFIX "HAKMEM_" /* of environment variables */

#define DEFAULTS_                                                                       \
    .fast_cap = MAGAZINE_ENTRIES_MAX, .fill_batch = 256, .drain_interval = 250,         \
    .purge_delay_ms = 1000, .lru_superslabs = 1024, .big_cache_mib = 256, .prewarm = 0, \
    .arena_mib = 1048576, .large_pages = LARGE_PAGES_AUTO, .prefault = PREFAULT_AUTO,   \
    .stats = STATS_OFF, .crash_report = 0, .acquire_trace = 0, .check_every = 100000,   \
    .check_quiet = 0, .quarantine_kib = 4096, .stack_depth = 16

struct options options = {DEFAULTS_};
static const struct options defaults = {DEFAULTS_};

#define TABLE(X)                                                                              \
    X(fast_cap, 2, MAGAZINE_ENTRIES_MAX, "blocks", "",                                        \
      "most blocks of a class in a thread's front cache")                                     \
    X(fill_batch, 1, 1024, "blocks", "", "most blocks moved to a front cache at once")        \
    X(drain_interval, 0, 3600000, "ms", "", "how often idle front caches are emptied")        \
    X(purge_delay_ms, 0, 3600000, "ms", "",                                                   \
      "how long free memory is kept before the OS gets it; an eighth, where the heap grows")  \
    X(lru_superslabs, 0, 524288, "2 MiB", "", "most empty SuperSlabs kept with their pages")  \
    X(big_cache_mib, 0, 1048576, "MiB", "", "most memory in freed large blocks kept whole")   \
    X(prewarm, 0, 4096, "2 MiB", "", "SuperSlabs made ready at start")                        \
    X(arena_mib, 8, 1048576, "MiB", "", "address space to reserve at most")                   \
    X(large_pages, 0, 2, "", "off|on|auto", "huge pages (auto: where memory is filled)")      \
    X(prefault, 0, 2, "", "off|on|auto",                                                      \
      "pages made resident ahead of use, huge pages later (auto: where faults are dear)")     \
    X(stats, 0, 1, "", "off|exit", "print statistics at exit")                                \
    X(crash_report, 0, 1, "", "off|on", "report on SIGSEGV, SIGBUS and SIGABRT too")          \
    X(acquire_trace, 0, 1, "", "off|on", "debug build: a line for each slot acquired")        \
    X(check_every, 0, 1000000000, "calls", "",                                                \
      "debug build: calls between two walks of the whole heap; 0: none")                      \
    X(check_quiet, 0, 1, "", "off|on", "no other thread allocates during a walk of the heap") \
    X(quarantine_kib, 0, 1048576, "KiB", "", "debug build: freed blocks kept from reuse")     \
    X(stack_depth, 0, 32, "frames", "", "debug build: return addresses kept of a stack")

/* Four strings a row, one behind the other: pointers to them would be relocations, for which each
 * process that loads the library pays in time and memory. */
#define STRINGS(name, unit, words, help) #name "\0" unit "\0" words "\0" help
#define MEMBER(name, min, max, unit, words, help) \
    char name[sizeof STRINGS(name, unit, words, help)];
#define ROW(name, min, max, unit, words, help) STRINGS(name, unit, words, help),
static const struct { TABLE(MEMBER) } strings = {TABLE(ROW)};

#define RANGE(name, min, max, unit, words, help) {min, max},
static const struct { uint32_t min, max; } ranges[] = {TABLE(RANGE)};

#define NUMBER(name, min, max, unit, words, help) NUMBER_##name,
enum { TABLE(NUMBER) OPTION_COUNT };
_Static_assert(OPTION_COUNT * sizeof(uint64_t) == sizeof(struct options), "one row an option");
#define IN_ORDER(name, min, max, unit, words, help)                                    \
    _Static_assert(offsetof(struct options, name) == NUMBER_##name * sizeof(uint64_t), \
                   "rows are in the struct's order");
TABLE(IN_ORDER)

struct entry {
    unsigned number;
    uint32_t min, max;
    const char *name, *unit, *words, *help; /* no words: a number */
};

/* The row behind `e`; at first, all of `e` is 0. */
static bool next_entry(struct entry *e) {
    e->number = e->name == NULL ? 0 : e->number + 1;
    if (e->number == OPTION_COUNT)
        return false;
    e->name = e->name == NULL ? (const char *)&strings : text_behind(e->help);
    e->unit = text_behind(e->name);
    e->words = text_behind(e->unit);
    e->help = text_behind(e->words);
    e->min = ranges[e->number].min;
    e->max = ranges[e->number].max;
    return true;
}

static uint64_t *value_of(struct options *from, const struct entry *e) {
    return (uint64_t *)(void *)from + e->number;
}

static void say(const struct text *line) { os_write(2, line->chars, line->used); }

/* Appends the word for a value of a choice, or the number. */
static void add_value(struct text *line, const struct entry *e, uint64_t value) {
    const char *word = e->words;
    if (*word == '\0') {
        text_dec(line, value);
        return;
    }
    for (; value > 0; value--)
        word = strchr(word, '|') + 1;
    struct text copy = {0};
    text_add(&copy, word);
    char *end = strchr(copy.chars, '|');
    if (end != NULL)
        *end = '\0';
    text_add(line, copy.chars);
}

static void complain(const char *text, size_t length, const char *why) {
    struct text line = {0};
    text_add(&line, "hakmem: option \"");
    for (size_t i = 0; i < length && i < 100; i++) {
        char c[2] = {text[i], '\0'};
        text_add(&line, c);
    }
    text_add(&line, "\" ");
    text_add(&line, why);
    text_add(&line, "; ignored\n");
    say(&line);
}

static bool parse_word(const struct entry *e, const char *text, size_t length, uint64_t *value) {
    uint64_t n = 0;
    for (const char *word = *e->words == '\0' ? NULL : e->words; word != NULL; n++) {
        const char *end = strchr(word, '|');
        size_t size = end == NULL ? strlen(word) : (size_t)(end - word);
        if (size == length && memcmp(word, text, size) == 0) {
            *value = n;
            return true;
        }
        word = end == NULL ? NULL : end + 1;
    }
    return false;
}

static bool parse_number(const char *text, size_t length, uint64_t *value) {
    uint64_t n = 0;
    if (length == 0 || length > 15)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        n = n * 10 + (uint64_t)(text[i] - '0');
    }
    *value = n;
    return true;
}

static void set(const struct entry *e, const char *text, size_t length, const char *whole,
                size_t whole_length) {
    uint64_t value;
    if (!parse_word(e, text, length, &value) && !parse_number(text, length, &value)) {
        complain(whole, whole_length, "has a value that is not understood");
    } else if (value < e->min || value > e->max) {
        struct text why = {0};
        text_add(&why, "is out of range (");
        text_dec(&why, e->min);
        text_add(&why, " to ");
        text_dec(&why, e->max);
        text_add(&why, ")");
        complain(whole, whole_length, why.chars);
    } else {
        *value_of(&options, e) = value;
    }
}

/* One "name=value"; `help` asks for the table. */
static void read_pair(const char *pair, size_t length, bool *help) {
    const char *equals = memchr(pair, '=', length);
    size_t name = equals == NULL ? length : (size_t)(equals - pair);
    if (length == 4 && memcmp(pair, "help", 4) == 0) {
        *help = true;
        return;
    }
    for (struct entry e = {0}; next_entry(&e);) {
        if (strlen(e.name) == name && memcmp(e.name, pair, name) == 0) {
            if (equals == NULL)
                complain(pair, length, "has no value");
            else
                set(&e, equals + 1, length - name - 1, pair, length);
            return;
        }
    }
    complain(pair, length, "is unknown");
}

static int upper(int c) { return c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c; }

/* HAKMEM_NAME=value, from NAME on. */
static void read_variable(const char *rest) {
    for (struct entry e = {0}; next_entry(&e);) {
        size_t length = 0;
        while (e.name[length] != '\0' && rest[length] == upper(e.name[length]))
            length++;
        if (e.name[length] == '\0' && rest[length] == '=') {
            const char *whole = rest - (sizeof PREFIX - 1);
            set(&e, rest + length + 1, strlen(rest + length + 1), whole, strlen(whole));
            return;
        }
    }
}

/* HAKMEM_OPTIONS="name=value,..." */
static void read_list(const char *all, bool *help) {
    while (*all != '\0') {
        size_t length = strcspn(all, ",");
        if (length > 0)
            read_pair(all, length, help);
        all += length + (all[length] == ',' ? 1 : 0);
    }
}

static HKM_COLD void print_help(void) {
    static const char head[] =
        "hakmem options (HAKMEM_OPTIONS=\"name=value,...\" or HAKMEM_NAME=value)\n"
        "name            value     default   range          unit    meaning\n";
    os_write(2, head, sizeof head - 1);
    for (struct entry e = {0}; next_entry(&e);) {
        struct options initial = defaults;
        struct text line = {0};
        text_add(&line, e.name);
        text_column(&line, 16);
        add_value(&line, &e, *value_of(&options, &e));
        text_column(&line, 26);
        add_value(&line, &e, *value_of(&initial, &e));
        text_column(&line, 36);
        if (*e.words != '\0') {
            text_add(&line, e.words);
        } else {
            text_dec(&line, e.min);
            text_add(&line, "..");
            text_dec(&line, e.max);
        }
        text_column(&line, 51);
        text_add(&line, e.unit);
        text_column(&line, 59);
        text_add(&line, e.help);
        text_add(&line, "\n");
        say(&line);
    }
}

void options_load(void) {
    bool help = false;
    const char *rest;
    for (size_t at = 0; (rest = os_next_variable(PREFIX "OPTIONS=", &at)) != NULL;)
        read_list(rest, &help);
    for (size_t at = 0; (rest = os_next_variable(PREFIX, &at)) != NULL;)
        read_variable(rest);
    if (help)
        print_help();
}
