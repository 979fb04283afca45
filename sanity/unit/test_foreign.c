/* test_foreign.c -- pointers outside the arena: glibc's blocks are served, all others are named. */
#include "unit/said.inc"

#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>

#include "core/alloc.h"
#include "core/arena.h"
#include "core/foreign.h"

/* Elsewhere malloc is the sanitizer's or valgrind's. */
static bool malloc_is_glibcs(void) {
    const char *build = getenv("HAKMEM_TEST_BUILD");
    return build == NULL || strcmp(build, "release") == 0 || strcmp(build, "debug") == 0;
}

static void free_it(void *pointer) { foreign_free("free", pointer); }

/* Must end in a report with this word, in a child; nothing is said before that. */
static void check_refused(void *pointer, const char *word) {
    int status = status_of(free_it, pointer);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%s: status %x, said: %s", word,
          status, said);
    char address[40];
    (void)snprintf(address, sizeof address, "%p", pointer);
    check(strncmp(said, "hakmem: ", 8) == 0 && strstr(said, word) != NULL, "%s: %s", word, said);
    check(strstr(said, address) != NULL, "%s: %s", address, said);
}

static char writable[400] = "data";
static const char constant[400] = "constant";
static char zeros[100000];

Test(foreign, an_address_on_the_stack_is_refused) {
    char local[500] __attribute__((aligned(16)));
    memset(local, 0x41, sizeof local);
    check_refused(local, "on the stack");
    check_refused(local + 16, "on the stack");
    size_t chunk[8] __attribute__((aligned(16))) = {0, 33, 1, 2, 0, 33, 0, 33};
    check_refused(chunk + 2, "on the stack"); /* looks like a chunk, and is none */
}

Test(foreign, static_data_and_code_are_refused) {
    check_refused(writable, "static");
    check_refused(writable + 7, "static");
    check_refused((void *)(uintptr_t)constant, "static");
    check_refused((void *)(uintptr_t)&check_refused, "static");
    check_refused(zeros + 50000, "static");
}

Test(foreign, unmapped_and_wild_pointers_are_refused) {
    char *p = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(p != MAP_FAILED && munmap(p, 8192) == 0);
    check_refused(p, "unmapped");
    check_refused((void *)16, "unmapped");
    check_refused((void *)UINTPTR_MAX, "unmapped");
    check_refused((void *)0x4141414141414140, "unmapped");
}

Test(foreign, mapped_memory_of_any_protection_is_refused_without_reading_what_can_not_be_read) {
    const int rights[] = {PROT_NONE, PROT_READ, PROT_WRITE, PROT_READ | PROT_WRITE};
    for (int i = 0; i < 4; i++) {
        char *p = mmap(NULL, MIB(1), rights[i], MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        check(p != MAP_FAILED);
        check_refused(p, "not by malloc");
        check_refused(p + 16, "not by malloc");
        check_refused(p + MIB(1) - 16, "not by malloc");
        check_refused(p + 4097, "not by malloc");
    }
}

Test(foreign, memory_filled_with_any_byte_is_not_taken_for_a_block) {
    /* In the middle of a reserve: right behind a mapped file it would be taken for its .bss. */
    char *reserve = mmap(NULL, MIB(3), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(reserve != MAP_FAILED);
    char *p = reserve + MIB(1);
    check(mprotect(p, MIB(1), PROT_READ | PROT_WRITE) == 0);
    for (int value = 1; value < 256; value = value * 2 + (value & 1)) {
        memset(p, value, MIB(1));
        check_refused(p + KIB(512), "not by malloc");
    }
}

Test(foreign, what_looks_like_a_chunk_with_a_mapping_of_its_own_but_for_its_length_is_refused) {
    char *reserve = mmap(NULL, MIB(3), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(reserve != MAP_FAILED);
    char *p = reserve + MIB(1);
    check(mprotect(p, MIB(1), PROT_READ | PROT_WRITE) == 0);
    size_t *words = (size_t *)(void *)p;
    words[1] = 0 | 2;
    check_refused(&words[2], "not by malloc");
    words = (size_t *)(void *)(p + os_page_bytes() - 16);
    words[0] = os_page_bytes() - 16;
    words[1] = 16 | 2;
    check_refused(&words[2], "not by malloc");
}

Test(foreign, blocks_of_glibc_of_every_size_are_told_their_size_and_freed) {
    if (!malloc_is_glibcs())
        return;
    for (size_t bytes = 1; bytes < MIB(64); bytes += bytes / 3 + 1) {
        char *block = malloc(bytes);
        char *aligned = aligned_alloc(256, round_up(bytes, 256));
        check(foreign_usable_size(block) == malloc_usable_size(block), "%zu", bytes);
        check(foreign_usable_size(aligned) == malloc_usable_size(aligned), "%zu aligned", bytes);
        foreign_free("free", block);
        foreign_free("free", aligned);
    }
}

Test(foreign, the_size_that_a_glibc_block_is_freed_with_is_taken_as_it_is) {
    if (malloc_is_glibcs())
        alloc_free_sized("free_sized", malloc(1), 1); /* of 24, where ours would have 16 */
}

Test(foreign, realloc_of_a_glibc_block_keeps_its_contents) {
    if (!malloc_is_glibcs())
        return;
    char *block = malloc(100);
    (void)strcpy(block, "kept");
    for (size_t bytes = 200; bytes < MIB(8); bytes *= 4) {
        block = foreign_realloc(block, bytes);
        check(block != NULL && strcmp(block, "kept") == 0 && malloc_usable_size(block) >= bytes);
    }
    foreign_free("free", block);
}

static size_t free_in_thread(unsigned number, void *shared) {
    char **blocks = shared;
    size_t wrong = 0;
    for (size_t bytes = 24; bytes < KIB(100); bytes += bytes / 2) {
        char *block = malloc(bytes);
        wrong += foreign_usable_size(block) != malloc_usable_size(block);
        foreign_free("free", block);
    }
    blocks[number] = malloc(1000);
    return wrong;
}

Test(foreign, blocks_of_a_threads_glibc_arena_are_known_also_by_others) {
    if (!malloc_is_glibcs())
        return;
    char *blocks[4] = {NULL};
    check(unit_run_threads(4, free_in_thread, blocks) == 0);
    for (int i = 0; i < 4; i++) {
        check(foreign_usable_size(blocks[i]) == malloc_usable_size(blocks[i]));
        foreign_free("free", blocks[i]);
    }
}

Test(foreign, the_inside_of_a_glibc_block_is_refused) {
    if (!malloc_is_glibcs())
        return;
    const size_t sizes[] = {500, KIB(8), MIB(1)};
    for (int i = 0; i < 3; i++) {
        char *block = calloc(1, sizes[i]);
        check_refused(block + 8, "not by malloc");
        check_refused(block + 1, "not by malloc");
        check_refused(block + 64, "not by malloc");
        free(block);
    }
}

/* The words that glibc keeps at the start of such an arena and before a block, laid right behind a
 * mapped file, where .bss would lie too. */
Test(foreign, a_block_of_an_arena_right_behind_a_mapped_file_is_known) {
    enum { WORDS = 512, BLOCK = 256 }; /* the block's place, in words */
    size_t arena_bytes = (size_t)64 << 20;
    int fd = open("/proc/self/exe", O_RDONLY);
    char *range = mmap(NULL, 3 * arena_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(fd >= 0 && range != MAP_FAILED);
    char *heap = (char *)(((uintptr_t)range + 2 * arena_bytes - 1) & ~(uintptr_t)(arena_bytes - 1));
    char *file = mmap(heap - 65536, 65536, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);
    size_t *words = mmap(heap, 65536, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    check(file != MAP_FAILED && words != MAP_FAILED);
    words[0] = (size_t)heap + 48;    /* the arena, in its first heap */
    words[BLOCK - 1] = 64 | 4 | 1;   /* a chunk of 64 bytes, not of the main arena */
    words[BLOCK - 1 + 8] = 1024 | 1; /* the next one knows that it is in use */
    check(foreign_usable_size(&words[BLOCK]) == 56);
    words[BLOCK - 1 + 8] = 1024;
    check_refused(&words[BLOCK], "static data");
    (void)close(fd);
    _Static_assert(BLOCK + 8 < WORDS, "within the page");
}
