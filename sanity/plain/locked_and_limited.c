/* locked_and_limited.c -- realloc of large blocks where memory is locked (mlockall), and where the
 * program has lowered its own limit of address space: neither is a block's neighbours' business.
 */
#include "check.inc"

#include <sys/mman.h>

enum { OTHERS = 4 };

/* The blocks that are looked at, and which of them are in locked memory (smaps says "lo"). */
static void *others[OTHERS];
static const size_t other_bytes[OTHERS] = {100, 30000, 300000, 8 << 20};
static int locked[OTHERS];

/* One line of smaps: the head of a mapping or something about it. */
static void look_at_line(const char *line) {
    static unsigned long start, end;
    unsigned long from, to;
    if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
        start = from;
        end = to;
        return;
    }
    if (strncmp(line, "VmFlags:", 8) != 0)
        return;
    for (size_t i = 0; i < OTHERS; i++) {
        uintptr_t at = (uintptr_t)others[i];
        if (at >= start && at < end)
            locked[i] = strstr(line, " lo") != NULL;
    }
}

/* Fills locked[]: 1 or 0, and -1 where the system does not say. */
static void look(void) {
    static char text[1 << 20];
    file_read("/proc/self/smaps", text, sizeof text);
    for (size_t i = 0; i < OTHERS; i++)
        locked[i] = -1;
    for (char *line = text; line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n');
        if (end != NULL)
            *end = '\0';
        look_at_line(line);
        line = end == NULL ? NULL : end + 1;
    }
}

static int is_locked(size_t i) { return locked[i] == 1; }

static void *filled(size_t bytes, uint64_t seed) {
    void *block = malloc(bytes);
    REQUIRE(block != NULL, "malloc(%zu)", bytes);
    pattern_fill(block, bytes, seed);
    return block;
}

/* Grows and shrinks a large block, so that it moves: into fresh memory, and into used memory. */
static void move_a_large_block(size_t from) {
    static const size_t steps[] = {12 * MIB, 2 * MIB, 9 * MIB};
    size_t has = from;
    void *block = filled(from, 1), *behind = filled(2 * MIB, 2);
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        block = realloc(block, steps[i]);
        REQUIRE(block != NULL, "realloc(%zu)", steps[i]);
        size_t kept = has < steps[i] ? has : steps[i];
        EXPECT(pattern_intact(block, kept & ~(size_t)7, 1), "realloc from %zu to %zu: damaged", has,
               steps[i]);
        pattern_fill(block, steps[i], 1);
        has = steps[i];
    }
    free(behind);
    free(block);
}

/* What is mapped from now on gets locked; not what is, as that might be a lot. */
static int lock_what_comes(void) {
    size_t bytes = 1024 * MIB;
    if (mlockall(MCL_FUTURE) != 0)
        return 0;
    void *probe = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (probe == MAP_FAILED)
        return 0; /* RLIMIT_MEMLOCK */
    munmap(probe, bytes);
    return 1;
}

/* Nothing is allocated before. */
static int locking_child(void) {
    if (!lock_what_comes())
        return 77;
    void *first = filled(8 * MIB, 1);
    for (size_t i = 0; i < OTHERS; i++)
        others[i] = filled(other_bytes[i], i);
    look();
    int before[OTHERS];
    memcpy(before, locked, sizeof before);
    int any = 0;
    for (size_t i = 0; i < OTHERS; i++)
        any |= is_locked(i);
    if (!any)
        return 77; /* nothing is locked, or smaps does not say so (emulators) */
    first = realloc(first, 24 * MIB);
    REQUIRE(first != NULL, "realloc to 24 MiB");
    move_a_large_block(3 * MIB);
    look();
    for (size_t i = 0; i < OTHERS; i++)
        EXPECT(before[i] != 1 || is_locked(i),
               "the block of %zu bytes: expected it locked still, found that it is not",
               other_bytes[i]);
    for (size_t i = 0; i < OTHERS; i++) {
        EXPECT(pattern_intact(others[i], other_bytes[i], i), "the block of %zu bytes: damaged",
               other_bytes[i]);
        free(others[i]);
    }
    free(first);
    return check_failures > 0;
}

/* Runs this program again, since what is locked or limited once stays so. */
static int run_alone(const char *mode) {
    static char text[4096];
    int status = run_self(mode, getenv("HAKMEM_OPTIONS"), text, sizeof text);
    int skipped = WIFEXITED(status) && WEXITSTATUS(status) == 77;
    if (skipped)
        say(" (refused here)");
    else
        EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0,
               "expected exit status 0, found wait status %#x, stderr: %.400s", status, text);
    return skipped ? 77 : 0;
}

static int not_to_be_locked;

static void blocks_stay_locked_when_another_is_reallocated(void) {
    not_to_be_locked = run_alone("--locked") == 77;
}

/* What hkm_heap_check returns; -1 without it. */
static long blocks_that_check(void) {
    size_t (*heap_check)(void);
    void *entry = dlsym(RTLD_DEFAULT, "hkm_heap_check");
    if (entry == NULL)
        return -1;
    memcpy(&heap_check, &entry, sizeof entry);
    return (long)heap_check(); /* aborts when something is wrong */
}

/* Below what is reserved, so that no mapping may be added; what is mapped can be used. */
static int limited_child(void) {
    struct rlimit limit = {2048 * MIB, 2048 * MIB};
    void *block = filled(8 * MIB, 1), *kept = filled(8 * MIB, 2);
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        return 77;
    void *probe = malloc(16 * MIB);
    EXPECT(probe != NULL, "malloc of 16 MiB: expected a block");
    free(hide(probe));
    void *moved = realloc(block, 16 * MIB);
    EXPECT(moved != NULL, "realloc from 8 to 16 MiB: expected a block, errno %d", errno);
    if (moved != NULL)
        block = moved;
    EXPECT(pattern_intact(block, 8 * MIB, 1), "realloc from 8 to 16 MiB: damaged");
    blocks_that_check();
    moved = realloc(block, 40 * MIB);
    EXPECT(moved != NULL, "realloc from 16 to 40 MiB: expected a block, errno %d", errno);
    if (moved != NULL)
        block = moved;
    EXPECT(pattern_intact(block, 8 * MIB, 1), "realloc from 16 to 40 MiB: damaged");
    free(block);
    EXPECT(pattern_intact(kept, 8 * MIB, 2), "the other block: damaged");
    free(kept);
    for (size_t i = 0; i < 12; i++) {
        void *again = filled((i + 1) * MIB, i);
        EXPECT(pattern_intact(again, (i + 1) * MIB, i), "a block after it: damaged");
        free(again);
    }
    blocks_that_check();
    return check_failures > 0;
}

static void large_blocks_grow_under_a_limit_below_what_is_mapped(void) { run_alone("--limited"); }

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(blocks_stay_locked_when_another_is_reallocated, 0),
    CHECK(large_blocks_grow_under_a_limit_below_what_is_mapped, 0),
};

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (strncmp(mode, "--", 2) == 0)
        check_name = mode;
    if (strcmp(mode, "--locked") == 0)
        return locking_child();
    if (strcmp(mode, "--limited") == 0)
        return limited_child();
    int result = run_checks(checks, COUNT_OF(checks), argc, argv);
    int alone = argc > 1 && strcmp(argv[1], checks[0].name) == 0;
    return result == 0 && alone && not_to_be_locked ? 77 : result;
}
