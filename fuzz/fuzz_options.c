/* fuzz_options.c -- libFuzzer target for the reader of options and its text lines.
 * Purpose     the input is the environment: up to its first NUL HAKMEM_OPTIONS, then one variable
 *             after the other for the options in their order. Whatever is in it, every option is in
 *             its range afterwards; what is written says no more than it may; and reading the same
 *             again changes nothing.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/options.h"
#include "os/os.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the README promises of each option, once more, in the order of struct options. */
static const struct {
    const char *variable;
    uint64_t min, max;
} RANGES[] = {
    {"HAKMEM_FAST_CAP", 2, 16384},         {"HAKMEM_FILL_BATCH", 1, 1024},
    {"HAKMEM_DRAIN_INTERVAL", 0, 3600000}, {"HAKMEM_PURGE_DELAY_MS", 0, 3600000},
    {"HAKMEM_LRU_SUPERSLABS", 0, 524288},  {"HAKMEM_BIG_CACHE_MIB", 0, 1048576},
    {"HAKMEM_PREWARM", 0, 4096},           {"HAKMEM_ARENA_MIB", 8, 1048576},
    {"HAKMEM_LARGE_PAGES", 0, 2},          {"HAKMEM_PREFAULT", 0, 2},
    {"HAKMEM_STATS", 0, 1},                {"HAKMEM_CRASH_REPORT", 0, 1},
    {"HAKMEM_ACQUIRE_TRACE", 0, 1},        {"HAKMEM_CHECK_EVERY", 0, 1000000000},
    {"HAKMEM_CHECK_QUIET", 0, 1},          {"HAKMEM_QUARANTINE_KIB", 0, 1048576},
    {"HAKMEM_STACK_DEPTH", 0, 32},
};
#define RANGE_COUNT (sizeof RANGES / sizeof RANGES[0])
_Static_assert(RANGE_COUNT * sizeof(uint64_t) == sizeof(struct options), "every option is here");

static struct options defaults;
static int said; /* a pipe's reading end: what was written to descriptor 2 */

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    defaults = options;
    for (size_t i = 0; i < RANGE_COUNT; i++)
        (void)unsetenv(RANGES[i].variable);
    (void)unsetenv("HAKMEM_OPTIONS");
    return 0;
}

/* Sets the variables that the input holds; those it does not reach are not set. */
static void set_environment(const uint8_t *data, size_t size) {
    static char text[4096];
    size_t at = 0;
    (void)unsetenv("HAKMEM_OPTIONS");
    for (size_t i = 0; i < RANGE_COUNT; i++)
        (void)unsetenv(RANGES[i].variable);
    for (size_t i = 0; i <= RANGE_COUNT && at < size; i++) {
        const uint8_t *end = memchr(data + at, 0, size - at);
        size_t length = end == NULL ? size - at : (size_t)(end - (data + at));
        if (length >= sizeof text)
            length = sizeof text - 1;
        memcpy(text, data + at, length);
        text[length] = '\0';
        if (length > 0)
            (void)setenv(i == 0 ? "HAKMEM_OPTIONS" : RANGES[i - 1].variable, text, 1);
        at += length + 1;
    }
}

/* Reads the options with descriptor 2 going to a file; how much was written. */
static size_t load(char *text, size_t room) {
    int saved = dup(2);
    if (said == 0)
        said = fileno(tmpfile());
    (void)ftruncate(said, 0);
    (void)lseek(said, 0, SEEK_SET);
    (void)dup2(said, 2);
    options_load();
    (void)dup2(saved, 2);
    (void)close(saved);
    ssize_t got = pread(said, text, room, 0);
    return got < 0 ? 0 : (size_t)got;
}

static void must(bool right, const char *what) {
    if (!right) {
        fprintf(stderr, "fuzz: ORACLE: %s\n", what);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char text[1 << 20], again[1 << 20];
    set_environment(data, size);
    options = defaults;
    size_t length = load(text, sizeof text);
    const uint64_t *values = (const uint64_t *)&options;
    for (size_t i = 0; i < RANGE_COUNT; i++)
        must(values[i] >= RANGES[i].min && values[i] <= RANGES[i].max, RANGES[i].variable);
    must(length == 0 || (text[length - 1] == '\n' && memcmp(text, "hakmem", 6) == 0),
         "what is said is whole lines that begin with the library's name");
    struct options first = options;
    size_t second = load(again, sizeof again);
    must(memcmp(&first, &options, sizeof first) == 0, "read twice, the options differ");
    /* `help` shows the values as they were when it was read, so its text may differ */
    must(length == second || strstr(text, "meaning") != NULL, "read twice, what is said differs");
    return 0;
}
