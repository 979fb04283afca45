/* protected_pages.c -- pages of a block that the program has protected (guard pages) stay so,
 * whatever is allocated later.
 */
#include "check.inc"

#include <sys/mman.h>

enum { BLOCKS = 600 };

/* Whether the kernel may write there, without a signal. */
static int is_writable(void *page) {
    int file = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    ssize_t got = read(file, page, 1);
    close(file);
    return got == 1;
}

static void protect_and_allocate(void) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *far = NULL; /* an aligned block lies far behind what is in use */
    REQUIRE(posix_memalign(&far, 256 * MIB, 4 * MIB) == 0, "posix_memalign");
    char *guard = (char *)far + 1 * MIB;
    REQUIRE(mprotect(guard, 16 * page, PROT_NONE) == 0, "mprotect: %s", strerror(errno));
    for (size_t i = 0; i < BLOCKS && !is_writable(guard); i++)
        REQUIRE(hide(malloc(700 * KIB)) != NULL, "malloc");
    EXPECT(!is_writable(guard), "expected the page to be as it was left, found it writable");
    REQUIRE(mprotect(guard, 16 * page, PROT_READ | PROT_WRITE) == 0, "mprotect");
    free(far);
}

static void a_guard_page_in_a_block_survives_that_the_heap_grows(void) {
    in_child(protect_and_allocate, 60);
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(a_guard_page_in_a_block_survives_that_the_heap_grows, 0),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
