/* wild_pointers.c -- freeing an address anywhere in the allocator's range, also where nothing was
 * ever in use, ends in a report and SIGABRT, not in a fault; in small ranges and in the full one.
 */
#include "check.inc"

/* Frees one address in a child that says nothing; the child's wait status. */
static int status_of_free(char *pointer) {
    int status = 0;
    pid_t child = fork();
    REQUIRE(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        close(2);
        free(hide(pointer));
        _exit(0);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

/* Walks up from the first block's SuperSlab and beyond the end of the range; exit status 1 names
 * the first address that did not end in SIGABRT. */
static int probe(size_t range_mib, size_t step_bytes) {
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    char *block = malloc(100);
    char *start = (char *)((uintptr_t)block & ~(2 * MIB - 1));
    for (size_t at = step_bytes; at < range_mib * MIB + 3 * step_bytes; at += step_bytes) {
        char *pointer = start + at;
        int status = status_of_free(pointer);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
            continue;
        fprintf(stderr, "free of the SuperSlab's start + %zu MiB: status %#x", at / MIB,
                (unsigned)status);
        return 1;
    }
    return 0;
}

static void expect_aborts(const char *mode, const char *options) {
    char text[500];
    int status = run_self(mode, options, text, sizeof text);
    EXPECT(status == 0, "%s: expected SIGABRT at every address, found: %s (status %#x)", options,
           text, (unsigned)status);
}

static void frees_high_in_a_range_of_512_mib_are_reported(void) {
    expect_aborts("--512", "arena_mib=512");
}

static void frees_in_a_range_of_8_mib_are_reported(void) { expect_aborts("--8", "arena_mib=8"); }

static void frees_anywhere_in_the_whole_range_are_reported(void) {
    expect_aborts("--all", "arena_mib=1048576");
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(frees_high_in_a_range_of_512_mib_are_reported, 1),
    CHECK(frees_in_a_range_of_8_mib_are_reported, 1),
    CHECK(frees_anywhere_in_the_whole_range_are_reported, 1),
};

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--512") == 0)
        return probe(512, 4 * MIB);
    if (argc > 1 && strcmp(argv[1], "--8") == 0)
        return probe(8, MIB / 2);
    if (argc > 1 && strcmp(argv[1], "--all") == 0)
        return probe((size_t)1048576, (size_t)10007 * MIB);
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
