/* mappings_refused.c -- a kernel that unmaps what lies where a new mapping is to be, and then finds
 * that there is no memory for it, as Linux before 6.12 may where vm.overcommit_memory is 2: what
 * became a hole in the range is not handed out, nor does a mapping of the program's come there, and
 * it is mended when there is memory again. While a failed move has left its target so, the debug
 * build's walk beside other threads does not take that for damage.
 */
#include "check.inc"

#include <sys/mman.h>
#include <sys/syscall.h>

enum { CHILD_SECONDS = 60, BLOCKS = 64 };

/* volatile: libc says of its functions that they call none of this file. */
static volatile int refusing, refused, moves_refused;

void *mmap(void *start, size_t bytes, int protection, int flags, int file, off_t offset) {
    if (refusing && (flags & MAP_FIXED) != 0) {
        refused++;
        munmap(start, bytes);
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, start, bytes, protection, flags, file, offset);
}

void *mremap(void *from, size_t bytes, size_t new_bytes, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    void *to = (flags & MREMAP_FIXED) != 0 ? va_arg(rest, void *) : NULL;
    va_end(rest);
    if (moves_refused == 0 || to == NULL)
        return (void *)syscall(SYS_mremap, from, bytes, new_bytes, flags, to);
    moves_refused++;
    munmap(to, new_bytes);
    sleep_ms(1);
    errno = ENOMEM;
    return MAP_FAILED;
}

/* A block of 24 MiB, whose pages came from elsewhere, if the kernel can do that. */
static char *make_moved(void) {
    char *block = malloc(8 * MIB);
    REQUIRE(block != NULL, "malloc");
    memset(block, 1, 8 * MIB);
    char *behind = malloc(8 * MIB); /* stays */
    block = realloc(hide(block), 24 * MIB);
    REQUIRE(block != NULL && behind != NULL, "no memory");
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

/* What the program maps meanwhile does not come to lie in the hole, to be replaced when that is
 * mended. */
static void map_beside_a_hole(void) {
    enum { MINE = 4 * MIB };
    char *block = make_moved();
    refusing = 1;
    free(block);
    malloc_trim(0);
    refusing = 0;
    EXPECT(refused > 0, "expected the library to ask for a new mapping");
    char *mine = mmap(NULL, MINE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(mine != MAP_FAILED, "mmap");
    pattern_fill(mine, MINE, 7);
    malloc_trim(0);
    use_all(900 * KIB);
    EXPECT(pattern_intact(mine, MINE, 7), "the program's mapping was replaced");
}

static void a_mapping_of_the_programs_is_not_replaced_by_what_mends_a_hole(void) {
    in_child(map_beside_a_hole, CHILD_SECONDS);
}

static int walkers_are_done;

static void *have_walks(void *argument) {
    while (!__atomic_load_n(&walkers_are_done, __ATOMIC_ACQUIRE))
        free(hide(malloc(20)));
    return argument;
}

static int move_in_vain(void) {
    enum { MOVES = 6 };
    pthread_t thread;
    moves_refused = 1;
    REQUIRE(pthread_create(&thread, NULL, have_walks, NULL) == 0, "pthread_create");
    for (size_t i = 0; i < MOVES; i++)
        free(make_moved());
    __atomic_store_n(&walkers_are_done, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    EXPECT(moves_refused > MOVES / 2, "expected moves by mremap, found %d", moves_refused - 1);
    return check_failures > 0;
}

static void a_walk_beside_a_failed_move_finds_no_damage(void) {
    static char text[4096];
    int status = run_self("move_in_vain", "check_every=50", text, sizeof text);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "expected exit status 0, found wait "
           "status %d: %.300s", status, text);
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(a_block_that_dies_leaves_no_hole_that_is_handed_out, 1),
    CHECK(a_block_that_shrinks_leaves_no_hole_that_is_handed_out, 1),
    CHECK(a_mapping_of_the_programs_is_not_replaced_by_what_mends_a_hole, 1),
    CHECK(a_walk_beside_a_failed_move_finds_no_damage, 1),
};

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "move_in_vain") == 0)
        return move_in_vain();
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
