/* mappings_refused.c -- a kernel that unmaps what lies where a new mapping is to be, and then finds
 * that there is no memory for it, as Linux before 6.12 may where vm.overcommit_memory is 2: what
 * became a hole in the range is not handed out, and is mended when there is memory again.
 */
#include "check.inc"

#include <sys/mman.h>
#include <sys/syscall.h>

enum { CHILD_SECONDS = 60, BLOCKS = 64 };

static int refusing, refused;

void *mmap(void *start, size_t bytes, int protection, int flags, int file, off_t offset) {
    if (refusing && (flags & MAP_FIXED) != 0) {
        refused++;
        munmap(start, bytes);
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, start, bytes, protection, flags, file, offset);
}

/* A block of 24 MiB, whose pages came from elsewhere, if the kernel can do that. */
static char *make_moved(void) {
    char *block = malloc(8 * MIB);
    REQUIRE(block != NULL, "malloc");
    memset(block, 1, 8 * MIB);
    char *behind = malloc(8 * MIB);
    block = realloc(hide(block), 24 * MIB);
    REQUIRE(block != NULL && behind != NULL, "realloc");
    memset(block, 2, 24 * MIB);
    return block;
}

static void use_all(size_t bytes) {
    static char *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(bytes);
        REQUIRE(blocks[i] != NULL, "malloc");
        pattern_fill(blocks[i], bytes, i);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        EXPECT(pattern_intact(blocks[i], bytes, i), "block %zu: expected its contents", i);
        free(blocks[i]);
    }
}

static void refuse_during_free(void) {
    char *block = make_moved();
    refusing = 1;
    free(block);
    malloc_trim(0);
    use_all(300 * KIB);
    refusing = 0;
    EXPECT(refused > 0, "expected the library to ask for a new mapping");
    malloc_trim(0);
    use_all(900 * KIB);
}

static void refuse_during_realloc(void) {
    char *block = make_moved();
    refusing = 1;
    block = realloc(hide(block), 1 * MIB);
    REQUIRE(block != NULL && block[0] == 2 && block[MIB - 1] == 2, "a block that shrinks");
    malloc_trim(0);
    use_all(300 * KIB);
    block = realloc(hide(block), 16 * MIB);
    REQUIRE(block != NULL, "realloc");
    memset(block, 3, 16 * MIB);
    refusing = 0;
    EXPECT(refused > 0, "expected the library to ask for a new mapping");
    free(block);
    malloc_trim(0);
    use_all(900 * KIB);
}

static void a_block_that_dies_leaves_no_hole_that_is_handed_out(void) {
    in_child(refuse_during_free, CHILD_SECONDS);
}

static void a_block_that_shrinks_leaves_no_hole_that_is_handed_out(void) {
    in_child(refuse_during_realloc, CHILD_SECONDS);
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(a_block_that_dies_leaves_no_hole_that_is_handed_out, 1),
    CHECK(a_block_that_shrinks_leaves_no_hole_that_is_handed_out, 1),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
