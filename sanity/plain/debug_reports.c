/* debug_reports.c -- what the checked library says of a block whose bytes the program damaged: that
 * the block is corrupted, not the allocator's metadata; and who frees it, not who freed its
 * predecessor at that address. The release library notices nothing.
 */
#include "check.inc"

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

static int write_to_a_dead_block(void) {
    char *block = malloc(100);
    free(hide(block));
    *(volatile char *)(block + 50) = 1;
    for (int i = 0; i < 100000; i++)
        free(hide(malloc(100)));
    return 0;
}

static void expect_corrupted_block(const char *mode, const char *number) {
    char first[100];
    int status = run_self(mode, "quarantine_kib=0", text, sizeof text);
    if (!under_debug_hakmem()) {
        EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: wait status %#x, %.300s", mode,
               status, text);
        return;
    }
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s: wait status %#x", mode, status);
    snprintf(first, sizeof first, "hakmem: corrupted block: invariant %s ", number);
    EXPECT(strstr(text, first) != NULL, "%s: expected \"%s\", found: %.600s", mode, first, text);
}

static void an_overflow_is_told_with_the_free_that_found_it(void) {
    expect_corrupted_block("--overflow", "B8");
    if (!under_debug_hakmem())
        return;
    void *function = NULL, *frame = NULL;
    char *where = strstr(text, "free_second is at "), *by = strstr(text, "freed by thread ");
    REQUIRE(where != NULL && by != NULL && (by = strchr(by, '\n')) != NULL, "found: %.900s", text);
    REQUIRE(sscanf(where, "free_second is at %p", &function) == 1 && sscanf(by, "%p", &frame) == 1,
            "expected two addresses, found: %.900s", text);
    EXPECT((uintptr_t)frame - (uintptr_t)function < 64,
           "expected the free at %p and behind, found %p: %.900s", function, frame, text);
}

static void a_write_to_a_dead_block_is_the_programs(void) {
    expect_corrupted_block("--dead", "B11");
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(an_overflow_is_told_with_the_free_that_found_it, 1),
    CHECK(a_write_to_a_dead_block_is_the_programs, 1),
};

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--overflow") == 0)
        return overflow_a_block_used_before();
    if (argc > 1 && strcmp(argv[1], "--dead") == 0)
        return write_to_a_dead_block();
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
