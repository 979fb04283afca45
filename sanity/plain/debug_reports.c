/* debug_reports.c -- what the checked library says of a block whose bytes the program damaged: that
 * the block is corrupted, not the allocator's metadata; and who frees it, not who freed its
 * predecessor at that address; and where it was allocated, however deep and however many the
 * stacks of the program are. The release library notices nothing.
 * test-flags: -fno-omit-frame-pointer
 */
#include "check.inc"

#define STACKS_LOG2 18 /* more than the library keeps */
#define STEP_BYTES 65536
#define STEPS 24

static char text[4096];

__attribute__((noinline)) static void free_first(char *block) {
    free(hide(block));
    __asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) static void free_second(char *block) {
    free(hide(block));
    __asm__ volatile("" ::: "memory");
}

static int overflow_a_block_used_before(void) {
    fprintf(stderr, "free_second is at %p\n", (void *)(uintptr_t)free_second);
    char *first = malloc(100);
    free_first(first);
    for (int i = 0; i < 100000; i++) {
        char *block = malloc(100);
        if (block != first)
            continue; /* stays */
        *(volatile char *)(block + 100) = 1;
        free_second(block);
        return 0;
    }
    return 1;
}

/* /proc/self/maps can not be opened then. */
static int overflow_without_descriptors(void) {
    struct rlimit none = {0, 0};
    fprintf(stderr, "free_second is at %p\n", (void *)(uintptr_t)free_second);
    char *block = malloc(100);
    *(volatile char *)(block + 100) = 1;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0, "expected a limit");
    free_second(block);
    return 0;
}

static int write_to_a_dead_block(void) {
    char *block = malloc(100);
    free(hide(block));
    *(volatile char *)(block + 50) = 1;
    for (int i = 0; i < 100000; i++)
        free(hide(malloc(100)));
    return 0;
}

__attribute__((noinline)) static void allocate_and_overflow(void) {
    fprintf(stderr, "allocate_and_overflow is at %p\n", (void *)(uintptr_t)allocate_and_overflow);
    char *block = malloc(100);
    *(volatile char *)(block + 100) = 1;
    free(hide(block));
}

/* Each way is a stack of its own. */
__attribute__((noinline)) static void go(unsigned way, int left) {
    if (left == 0)
        free(hide(malloc(100)));
    else if (way & 1) {
        go(way >> 1, left - 1);
        __asm__ volatile("# odd" ::: "memory");
    } else {
        go(way >> 1, left - 1);
        __asm__ volatile("# even" ::: "memory");
    }
}

__attribute__((noinline)) static void descend(int left) {
    volatile char frame[STEP_BYTES];
    frame[0] = 1;
    free(hide(malloc(100)));
    if (left == 0)
        allocate_and_overflow();
    else
        descend(left - 1);
    frame[1] = frame[0];
}

/* Past the redzone and into memory that no block was in yet. */
static int write_behind_the_last_block(void) {
    size_t (*check_heap)(void);
    void *entry = dlsym(RTLD_DEFAULT, "hkm_heap_check");
    if (entry == NULL) /* without the library */
        return 0;
    memcpy(&check_heap, &entry, sizeof check_heap);
    char *block = hide(malloc(3 * MIB));
    fprintf(stderr, "the byte is at %p\nthe block is at %p\n", (void *)(block + 3 * MIB + 100000),
            (void *)block);
    block[3 * MIB + 100000] = 1;
    if (under_debug_hakmem())
        check_heap();
    return 0;
}

/* ---- dead large blocks, whose runs are gone where nothing keeps them ---- */

#define LARGE_BYTES (3 * MIB)

static char *large_block(void) { return hide(malloc(LARGE_BYTES)); }

static int free_a_large_block_twice(const char *mode) {
    char *block = large_block();
    fprintf(stderr, "free_first is at %p\nthe block is at %p\n", (void *)(uintptr_t)free_first,
            (void *)block);
    if (strcmp(mode, "--large-moved") == 0) {
        char *behind = large_block(); /* so that it can not grow where it is */
        REQUIRE(behind != NULL && realloc(block, 4 * LARGE_BYTES) != block, "expected another");
    } else {
        free_first(block);
    }
    free_second(strcmp(mode, "--large-interior") == 0 ? block + 2 * MIB + 16 : block);
    return 0;
}

/* Where a large block was before: of the runs that an address was in it is the last that counts. */
static int free_what_was_large_before(void) {
    enum { BLOCKS = 64 };
    char *large = large_block(), *blocks[BLOCKS], *found = NULL;
    free(large);
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = hide(malloc(200000));
        if ((size_t)(blocks[i] - large) < LARGE_BYTES)
            found = blocks[i];
    }
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    malloc_trim(0);
    REQUIRE(found != NULL, "expected a block where the large one was");
    free_second(found);
    return 0;
}

static int overflow_after_many_stacks(void) {
    for (unsigned way = 0; way < 1u << STACKS_LOG2; way++)
        go(way, STACKS_LOG2);
    descend(STEPS);
    return 0;
}

static int overflow_far_down(void) {
    fprintf(stderr, "descend is at %p\n", (void *)(uintptr_t)descend);
    descend(STEPS);
    return 0;
}

static void expect_corrupted_block(const char *mode, const char *number) {
    char first[100];
    int status = run_self(mode, "quarantine_kib=0,stack_depth=32", text, sizeof text);
    if (!under_debug_hakmem()) {
        EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: wait status %#x, %.300s", mode,
               status, text);
        return;
    }
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s: wait status %#x", mode, status);
    snprintf(first, sizeof first, "hakmem: corrupted block: invariant %s ", number);
    EXPECT(strstr(text, first) != NULL, "%s: expected \"%s\", found: %.600s", mode, first, text);
}

/* The address that `FUNCTION is at` says, which the program wrote. */
static uintptr_t address_of(const char *function) {
    char say[100];
    void *address = NULL;
    snprintf(say, sizeof say, "%s is at ", function);
    const char *where = strstr(text, say);
    REQUIRE(where != NULL && sscanf(where + strlen(say), "%p", &address) == 1,
            "expected \"%sADDRESS\", found: %.900s", say, text);
    return (uintptr_t)address;
}

static void expect_the_free_that_found_it(const char *mode) {
    expect_corrupted_block(mode, "B8");
    if (!under_debug_hakmem())
        return;
    void *frame = NULL;
    char *by = strstr(text, "freed by thread ");
    REQUIRE(by != NULL && (by = strchr(by, '\n')) != NULL && sscanf(by, "%p", &frame) == 1,
            "expected an address, found: %.900s", text);
    uintptr_t function = address_of("free_second");
    EXPECT((uintptr_t)frame - function < 64, "expected the free at %#lx and behind, found %p: %.900s",
           (unsigned long)function, frame, text);
}

static void an_overflow_is_told_with_the_free_that_found_it(void) {
    expect_the_free_that_found_it("--overflow");
}

static void stacks_are_told_where_nothing_can_be_named(void) {
    expect_the_free_that_found_it("--no-descriptors");
}

/* How many of the first lines of the stack `allocated by` are of a function of at most `bytes`. */
static int callers_in(uintptr_t function, uintptr_t bytes) {
    int count = 0;
    char *line = strstr(text, "allocated by thread ");
    REQUIRE(line != NULL && (line = strchr(line, '\n')) != NULL, "found: %.900s", text);
    void *frame = NULL;
    while (line != NULL && sscanf(line, "\n    0x%p", &frame) == 1) {
        count += (uintptr_t)frame - function < bytes;
        line = strchr(line + 1, '\n');
    }
    return count;
}

static void a_full_depot_still_names_the_caller(void) {
    expect_corrupted_block("--many-stacks", "B8");
    if (under_debug_hakmem())
        EXPECT(callers_in(address_of("allocate_and_overflow"), 128) == 1,
               "expected the caller, found: %.900s", text);
}

static void a_stack_that_has_grown_is_followed(void) {
    expect_corrupted_block("--far-down", "B8");
    if (under_debug_hakmem())
        EXPECT(callers_in(address_of("descend"), 256) >= STEPS - 1,
               "expected %d callers, found: %.1900s", STEPS, text);
}

static void expect_a_dead_block(const char *mode) {
    int status = run_self(mode, "quarantine_kib=0,big_cache_mib=0,purge_delay_ms=0", text,
                          sizeof text);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s: wait status %#x, %.300s", mode,
           status, text);
}

static void expect_the_record_of_a_large_block(const char *mode) {
    char expected[100];
    expect_a_dead_block(mode);
    if (!under_debug_hakmem())
        return;
    snprintf(expected, sizeof expected, "a block of a run that is gone, %p: free, %zu bytes asked for",
             (void *)address_of("the block"), LARGE_BYTES);
    EXPECT(strstr(text, expected) != NULL, "%s: expected \"%s\", found: %.900s", mode, expected,
           text);
    EXPECT(strstr(text, "allocated by thread") != NULL && strstr(text, "freed by thread") != NULL,
           "%s: %.900s", mode, text);
}

static void a_dead_large_block_is_told_when_its_run_is_gone(void) {
    expect_the_record_of_a_large_block("--large");
    expect_the_record_of_a_large_block("--large-interior");
    expect_the_record_of_a_large_block("--large-moved");
    expect_a_dead_block("--large-before");
    EXPECT(strstr(text, "bytes asked for") == NULL && strstr(text, "never-allocated") == NULL,
           "expected no record, found: %.900s", text);
}

static void a_write_behind_the_last_block_is_told_with_that_block(void) {
    char expected[200];
    int status = run_self("--behind", NULL, text, sizeof text);
    if (!under_debug_hakmem()) {
        EXPECT(status == 0, "wait status %#x, %.300s", status, text);
        return;
    }
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "wait status %#x", status);
    EXPECT(strstr(text, "hakmem: corrupted free memory: invariant U2 ") != NULL, "%.600s", text);
    snprintf(expected, sizeof expected, "  first wrong byte at %p, offset ",
             (void *)address_of("the byte"));
    EXPECT(strstr(text, expected) != NULL, "expected \"%s\", found: %.900s", expected, text);
    snprintf(expected, sizeof expected, "  the block before it %p: live, %zu bytes asked for",
             (void *)address_of("the block"), 3 * MIB);
    EXPECT(strstr(text, expected) != NULL, "expected \"%s\", found: %.900s", expected, text);
}

static void a_write_to_a_dead_block_is_the_programs(void) {
    expect_corrupted_block("--dead", "B11");
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(an_overflow_is_told_with_the_free_that_found_it, 1),
    CHECK(stacks_are_told_where_nothing_can_be_named, 1),
    CHECK(a_write_to_a_dead_block_is_the_programs, 1),
    CHECK(a_write_behind_the_last_block_is_told_with_that_block, 1),
    CHECK(a_dead_large_block_is_told_when_its_run_is_gone, 1),
    CHECK(a_full_depot_still_names_the_caller, 1),
    CHECK(a_stack_that_has_grown_is_followed, 1),
};

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--overflow") == 0)
        return overflow_a_block_used_before();
    if (argc > 1 && strcmp(argv[1], "--no-descriptors") == 0)
        return overflow_without_descriptors();
    if (argc > 1 && strcmp(argv[1], "--dead") == 0)
        return write_to_a_dead_block();
    if (argc > 1 && strcmp(argv[1], "--behind") == 0)
        return write_behind_the_last_block();
    if (argc > 1 && strcmp(argv[1], "--large-before") == 0)
        return free_what_was_large_before();
    if (argc > 1 && strncmp(argv[1], "--large", 7) == 0)
        return free_a_large_block_twice(argv[1]);
    if (argc > 1 && strcmp(argv[1], "--many-stacks") == 0)
        return overflow_after_many_stacks();
    if (argc > 1 && strcmp(argv[1], "--far-down") == 0)
        return overflow_far_down();
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
