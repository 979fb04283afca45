/* core_dumps.c -- a core dump, of the kernel's or a debugger's making, has every block of the program
 * in it, and is not larger than what the program uses: address space that is only reserved a debugger
 * writes as zeros, and of what could be written to the kernel looks at each page.
 */
#include <stdbool.h>
#include <sys/prctl.h>

#include "check.inc"

enum { SMALL = 20000, LARGE = 40 };

static char *blocks[SMALL + LARGE];
static bool dumped[SMALL + LARGE];
static size_t bytes_dumped;

/* A mapping's line, which is the first of several in smaps. */
static bool read_range(const char *line, uintptr_t *start, uintptr_t *end) {
    char *rest;
    uintptr_t from = strtoul(line, &rest, 16);
    if (rest == line || *rest != '-')
        return false;
    *start = from;
    *end = strtoul(rest + 1, NULL, 16);
    return true;
}

/* Looks which blocks lie in mappings that are not left out ("dd"), and sums these. */
static void read_smaps(void) {
    char line[4096];
    uintptr_t start = 0, end = 0;
    memset(dumped, 0, sizeof dumped);
    bytes_dumped = 0;
    FILE *file = fopen("/proc/self/smaps", "r");
    REQUIRE(file != NULL, "smaps: %s", strerror(errno));
    while (fgets(line, sizeof line, file) != NULL) {
        if (read_range(line, &start, &end) || strncmp(line, "VmFlags:", 8) != 0 ||
            strstr(line, " dd") != NULL)
            continue;
        bytes_dumped += end - start;
        for (size_t i = 0; i < COUNT_OF(blocks); i++)
            dumped[i] = dumped[i] || ((uintptr_t)blocks[i] >= start && (uintptr_t)blocks[i] < end);
    }
    fclose(file);
}

static void expect_blocks_dumped(const char *when) {
    size_t missing = 0;
    read_smaps();
    EXPECT(bytes_dumped > 0, "%s: expected the flags of mappings in smaps", when);
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        missing += blocks[i] != NULL && !dumped[i];
    EXPECT(missing == 0, "%s: expected all blocks in a dump, found %zu left out", when, missing);
}

static void use_memory(size_t from, size_t end) {
    for (size_t i = from; i < end; i++) {
        size_t bytes = i < SMALL ? 100 + i % 4000 : (i - SMALL) * 100000;
        blocks[i] = malloc(bytes);
        REQUIRE(blocks[i] != NULL, "malloc(%zu)", bytes);
        if (i >= SMALL && i % 2 == 0) /* some that move */
            blocks[i] = realloc(blocks[i], bytes * 3 + 1);
        REQUIRE(blocks[i] != NULL, "realloc of %zu bytes", bytes);
    }
}

static void a_dump_has_every_block_and_little_else(void) {
    use_memory(0, COUNT_OF(blocks));
    expect_blocks_dumped("after growth");
    EXPECT(bytes_dumped < (size_t)2 << 30, "expected less than 2 GiB in a dump, found %zu MiB",
           bytes_dumped >> 20);
}

/* A filter may forbid to mark what is committed later. */
static void confined(void) {
    use_memory(0, SMALL / 2);
    REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "prctl: %s", strerror(errno));
    use_memory(SMALL / 2, COUNT_OF(blocks));
    expect_blocks_dumped("confined");
}

static void a_dump_of_a_confined_process_has_every_block(void) { in_child(confined, 60); }

static const struct check checks[] = {
    {"a_dump_of_a_confined_process_has_every_block", a_dump_of_a_confined_process_has_every_block,
     0},
    {"a_dump_has_every_block_and_little_else", a_dump_has_every_block_and_little_else, 0},
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
