/* debug_build.c -- correct programs that the checked library once took for wrong ones, or harmed:
 * blocks without a record in little address space, stacks that have gone, runs that were carved a
 * million times. For the release library they are programs like any other.
 */
#include "check.inc"

#include <sys/mman.h>
#include <ucontext.h>

enum { BLOCKS = 600, HALF = 256 << 10, LARGE = 300000, MOVED = 3 };

static char text[4096];

static void expect_ok(const char *mode, const char *options) {
    int status = run_self(mode, options, text, sizeof text);
    if (WIFEXITED(status) && WEXITSTATUS(status) == MOVED && !under_debug_hakmem())
        return; /* the blocks lie elsewhere: nothing to be seen here */
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0,
           "%s: expected exit status 0, found wait status %#x, stderr: %.500s", mode, status, text);
}

/* Where there is no address space for a record of each block, the last ones have none. */
static int start_in_little_space(void) {
    char self[] = "/proc/self/exe", mode[] = "--huge";
    char *arguments[] = {self, mode, NULL};
    struct rlimit limit = {128 * MIB, 128 * MIB};
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        return 98;
    execv(self, arguments);
    return 99;
}

static void expect_refusal(void *block, size_t bytes) {
    static const size_t below[] = {6, 17, 30};
    memset(block, 1, 16);
    for (size_t i = 0; i < COUNT_OF(below); i++) {
        errno = 0;
        void *found = realloc(hide(block), hide_size(SIZE_MAX - below[i] + 1));
        REQUIRE(found == NULL && errno == ENOMEM,
                "realloc of %zu bytes to SIZE_MAX - %zu: expected NULL and ENOMEM, found %p, "
                "errno %d",
                bytes, below[i] - 1, found, errno);
    }
    EXPECT(*(unsigned char *)block == 1, "a failed realloc changed the block");
}

static int ask_for_huge_ones(void) {
    static const size_t sizes[] = {LARGE, 4000};
    for (size_t s = 0; s < COUNT_OF(sizes); s++) {
        size_t most = 256 * MIB / sizes[s];
        for (size_t i = 0; i < most; i++) {
            void *block = malloc(sizes[s]); /* stays: memory is to be used up */
            if (block == NULL)
                break;
            expect_refusal(block, sizes[s]);
        }
    }
    return check_failures > 0;
}

static void realloc_of_a_block_without_a_record_refuses_huge_sizes(void) {
    expect_ok("--little-space", NULL);
}

/* A record of a block that was free when its run was given up last must not be taken for one of a
 * run of a million later. */
static int carve_a_million_times(void) {
    static void *blocks[BLOCKS];
    void *at = NULL;
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = malloc(1000);
    for (size_t i = 0; i < BLOCKS; i++)
        free(hide(blocks[i]));
    void *none = malloc(hide_size((size_t)1 << 45)); /* in vain, and empty runs go back for it */
    if (none != NULL)
        return MOVED;
    for (size_t i = 0; i < ((size_t)1 << 20) - 1; i++) {
        char *block = malloc(LARGE);
        REQUIRE(block != NULL, "malloc(%d)", LARGE);
        if (i == 0) {
            at = block;
            memset(block, 1, LARGE);
        }
        if ((void *)block != at)
            return MOVED;
        free(hide(block));
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(1000);
        memset(hide(blocks[i]), 2, 1000);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        free(hide(blocks[i]));
    return 0;
}

static void a_run_that_was_carved_a_million_times_has_no_old_records(void) {
    expect_ok("--carve", "quarantine_kib=0,big_cache_mib=0,check_every=0");
}

#if defined(__x86_64__)

/* malloc(bytes), called by code without frame pointers that has something of its own in rbp. */
void *malloc_with_rbp(size_t bytes, void *rbp);
__asm__(".text\n"
        ".type malloc_with_rbp, @function\n"
        "malloc_with_rbp:\n"
        "    push %rbp\n"
        "    mov %rsi, %rbp\n"
        "    call malloc@plt\n"
        "    pop %rbp\n"
        "    ret\n"
        ".size malloc_with_rbp, . - malloc_with_rbp\n");

static ucontext_t back, coroutine;
static char *stacks;

/* Runs on the lower of two stacks side by side, which look like one: the upper ends meanwhile. */
static void run_on_lower_stack(void) {
    free(hide(malloc(10)));
    void *before = malloc(20);
    munmap(stacks + HALF, HALF);
    void *block = malloc_with_rbp(100, stacks + HALF + 64);
    EXPECT(block != NULL, "malloc(100): expected a block");
    free(hide(block));
    free(hide(before));
}

static void allocate_beside_a_stack_that_has_gone(void) {
    stacks = mmap(NULL, 2 * HALF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(stacks != MAP_FAILED, "mmap: %s", strerror(errno));
    REQUIRE(getcontext(&coroutine) == 0, "getcontext: %s", strerror(errno));
    coroutine.uc_stack.ss_sp = stacks;
    coroutine.uc_stack.ss_size = HALF;
    coroutine.uc_link = &back;
    makecontext(&coroutine, run_on_lower_stack, 0);
    swapcontext(&back, &coroutine);
}

#else

static void allocate_beside_a_stack_that_has_gone(void) { say(" (only for x86-64)"); }

#endif

static void an_address_on_a_stack_that_has_gone_is_no_frame(void) {
    in_child(allocate_beside_a_stack_that_has_gone, 5);
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(realloc_of_a_block_without_a_record_refuses_huge_sizes, 0),
    CHECK(an_address_on_a_stack_that_has_gone_is_no_frame, 0),
    CHECK(a_run_that_was_carved_a_million_times_has_no_old_records, 0),
};

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (strncmp(mode, "--", 2) == 0)
        check_name = mode;
    if (strcmp(mode, "--little-space") == 0)
        return start_in_little_space();
    if (strcmp(mode, "--huge") == 0)
        return ask_for_huge_ones();
    if (strcmp(mode, "--carve") == 0)
        return carve_a_million_times();
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
