/* entry_points.c -- every entry point of glibc's malloc, one by one: what it returns, how the block
 * is aligned, and how impossible sizes and alignments are refused with errno as the standard says.
 */
#include "check.inc"

static int block_is_live(const void *block) {
    int (*owns)(const void *);
    void *entry = dlsym(RTLD_DEFAULT, "hkm_owns");
    if (entry == NULL)
        return -1;
    memcpy(&owns, &entry, sizeof owns);
    return owns(block);
}

/* Checks one fresh block, frees it. */
static void expect_block(const char *call, void *block, size_t bytes, size_t alignment) {
    EXPECT(block != NULL, "%s of %zu: expected a block, found NULL (errno %d)", call, bytes, errno);
    if (block == NULL)
        return;
    EXPECT((uintptr_t)block % alignment == 0, "%s of %zu: expected %zu-aligned, found %p", call,
           bytes, alignment, block);
    size_t usable = malloc_usable_size(block);
    EXPECT(usable >= bytes, "%s of %zu: expected usable size of at least that, found %zu", call,
           bytes, usable);
    memset(block, 0xa5, usable);
    free(block);
}

#define EXPECT_REFUSED(call, wanted)                                                               \
    do {                                                                                           \
        errno = 0;                                                                                 \
        void *block_ = hide(call);                                                                 \
        EXPECT(block_ == NULL, "%s: expected NULL, found %p", #call, block_);                      \
        EXPECT(errno == (wanted), "%s: expected errno %d, found %d", #call, wanted, errno);        \
    } while (0)

static void blocks_of_all_sizes_are_aligned_distinct_and_writable_in_full(void) {
    enum { WINDOW = 64 };
    static struct {
        void *block;
        size_t usable;
    } live[WINDOW];
    size_t turn = 0;
    for (size_t bytes = 0; bytes < 8 * MIB; turn++) {
        size_t at = turn % WINDOW;
        if (live[at].block != NULL) {
            EXPECT(pattern_intact(live[at].block, live[at].usable, turn - WINDOW),
                   "block %p of usable size %zu changed while others were written", live[at].block,
                   live[at].usable);
            free(live[at].block);
        }
        void *block = malloc(bytes);
        REQUIRE(block != NULL, "malloc(%zu): expected a block, found NULL", bytes);
        EXPECT((uintptr_t)block % 16 == 0, "malloc(%zu): expected 16-aligned, found %p", bytes,
               block);
        size_t usable = malloc_usable_size(block);
        EXPECT(usable >= bytes, "malloc(%zu): found usable size %zu", bytes, usable);
        pattern_fill(block, usable, turn);
        live[at].block = block;
        live[at].usable = usable;
        bytes += bytes < 4096 ? 1 : bytes < 300000 ? 97 : 65537;
    }
    for (size_t i = 0; i < WINDOW; i++) {
        free(live[i].block);
        live[i].block = NULL;
    }
}

static void zero_size_blocks_are_distinct_and_freeable(void) {
    enum { BLOCKS = 200 };
    void *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = i % 3 == 0   ? malloc(hide_size(0))
                    : i % 3 == 1 ? calloc(hide_size(0), 8)
                                 : realloc(NULL, hide_size(0));
        EXPECT(blocks[i] != NULL, "zero-size block %zu: expected non-NULL", i);
        for (size_t j = 0; j < i; j++)
            EXPECT(blocks[i] != blocks[j], "zero-size blocks %zu and %zu are both %p", i, j,
                   blocks[i]);
    }
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

static void impossible_sizes_give_null_and_enomem(void) {
    const size_t impossible[] = {SIZE_MAX,
                                 SIZE_MAX - 1,
                                 SIZE_MAX - 15,
                                 SIZE_MAX - 16,
                                 SIZE_MAX - 4095,
                                 SIZE_MAX - 65536,
                                 (size_t)PTRDIFF_MAX + 1,
                                 (size_t)PTRDIFF_MAX + 4097,
                                 SIZE_MAX / 2 + 65536};
    void *kept = malloc(100);
    REQUIRE(kept != NULL, "malloc(100): expected a block");
    pattern_fill(kept, 100, 7);
    for (size_t i = 0; i < COUNT_OF(impossible); i++) {
        size_t bytes = hide_size(impossible[i]);
        void *out = &out;
        EXPECT_REFUSED(malloc(bytes), ENOMEM);
        EXPECT_REFUSED(calloc(bytes, 1), ENOMEM);
        EXPECT_REFUSED(calloc(1, bytes), ENOMEM);
        EXPECT_REFUSED(realloc(NULL, bytes), ENOMEM);
        EXPECT_REFUSED(realloc(hide(kept), bytes), ENOMEM);
        EXPECT_REFUSED(reallocarray(hide(kept), 1, bytes), ENOMEM);
        EXPECT_REFUSED(reallocarray(NULL, 1, bytes), ENOMEM);
        EXPECT_REFUSED(memalign(64, bytes), ENOMEM);
        EXPECT_REFUSED(aligned_alloc(4096, bytes), ENOMEM);
        EXPECT_REFUSED(valloc(bytes), ENOMEM);
        EXPECT_REFUSED(pvalloc(bytes), ENOMEM);
        int result = posix_memalign(&out, 64, bytes);
        EXPECT(result == ENOMEM, "posix_memalign(64, %zu): expected ENOMEM, found %d", bytes,
               result);
        EXPECT(out == (void *)&out, "posix_memalign(64, %zu): expected *out untouched, found %p",
               bytes, out);
        EXPECT(pattern_intact(kept, 100, 7), "a failed realloc to %zu changed the block", bytes);
    }
    free(kept);
}

static void products_that_overflow_give_null_and_enomem(void) {
    const size_t factors[][2] = {{SIZE_MAX, 2},         {2, SIZE_MAX},
                                 {SIZE_MAX / 2 + 1, 2}, {(size_t)1 << 32, (size_t)1 << 32},
                                 {SIZE_MAX, SIZE_MAX},  {((size_t)1 << 33) + 1, (size_t)1 << 31}};
    void *kept = malloc(64);
    REQUIRE(kept != NULL, "malloc(64): expected a block");
    pattern_fill(kept, 64, 9);
    for (size_t i = 0; i < COUNT_OF(factors); i++) {
        size_t count = hide_size(factors[i][0]), bytes = hide_size(factors[i][1]);
        EXPECT_REFUSED(calloc(count, bytes), ENOMEM);
        EXPECT_REFUSED(reallocarray(hide(kept), count, bytes), ENOMEM);
        EXPECT_REFUSED(reallocarray(NULL, count, bytes), ENOMEM);
        EXPECT(pattern_intact(kept, 64, 9), "a failed reallocarray changed the block");
    }
    free(kept);
}

static void huge_alignments_are_refused_without_a_crash(void) {
    void *out = &out;
    size_t alignment = hide_size((size_t)1 << 62);
    int result = posix_memalign(&out, alignment, 16);
    EXPECT(result == ENOMEM, "posix_memalign(2^62): expected ENOMEM, found %d", result);
    EXPECT(out == (void *)&out, "posix_memalign(2^62): expected *out untouched, found %p", out);
    EXPECT(memalign(alignment, 16) == NULL, "memalign(2^62): expected NULL");
    EXPECT(memalign(hide_size(SIZE_MAX), 16) == NULL, "memalign(SIZE_MAX): expected NULL");
    EXPECT(memalign(hide_size(SIZE_MAX / 2 + 2), 16) == NULL, "memalign(2^63+1): expected NULL");
    EXPECT(aligned_alloc(alignment, hide_size(SIZE_MAX / 2)) == NULL,
           "aligned_alloc(2^62): expected NULL");
}

static void posix_memalign_refuses_bad_alignments_and_leaves_out_and_errno(void) {
    const size_t bad[] = {0, 1, 2, 3, 4, 7, 12, 24, 48, 100, 4095, 4097, SIZE_MAX};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        void *out = &out;
        errno = 1234;
        int result = posix_memalign(&out, hide_size(bad[i]), 100);
        EXPECT(result == EINVAL, "posix_memalign(%zu): expected EINVAL, found %d", bad[i], result);
        EXPECT(out == (void *)&out, "posix_memalign(%zu): expected *out untouched, found %p",
               bad[i], out);
        EXPECT(errno == 1234, "posix_memalign(%zu): expected errno kept, found %d", bad[i], errno);
    }
}

static void posix_memalign_out_of_memory_leaves_errno(void) {
    void *out = &out;
    errno = 1234;
    int result = posix_memalign(&out, 64, hide_size(SIZE_MAX - 100));
    EXPECT(result == ENOMEM, "expected ENOMEM, found %d", result);
    EXPECT(errno == 1234, "expected errno kept at 1234, found %d", errno);
}

static void aligned_alloc_refuses_bad_alignments_with_einval(void) {
    const size_t bad[] = {0, 3, 5, 24, 48, 100, 4097};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        EXPECT_REFUSED(aligned_alloc(hide_size(bad[i]), 96), EINVAL);
}

static void aligned_blocks_of_all_alignments_to_64_mib(void) {
    const size_t sizes[] = {0, 1, 15, 16, 100, 1000, 4096, 5000, 70000, 300000, 1100000};
    for (size_t alignment = 1; alignment <= 64 * MIB; alignment *= 2)
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            size_t wanted = alignment > 16 ? alignment : 16, bytes = sizes[i];
            expect_block("memalign", memalign(hide_size(alignment), bytes), bytes, wanted);
            expect_block("aligned_alloc", aligned_alloc(hide_size(alignment), bytes), bytes,
                         wanted);
            if (alignment >= sizeof(void *)) {
                void *out = NULL;
                errno = 1234;
                int result = posix_memalign(&out, alignment, bytes);
                EXPECT(result == 0, "posix_memalign(%zu, %zu): expected 0, found %d", alignment,
                       bytes, result);
                EXPECT(errno == 1234, "posix_memalign(%zu): expected errno kept, found %d",
                       alignment, errno);
                expect_block("posix_memalign", out, bytes, wanted);
            }
        }
    for (size_t alignment = 3; alignment < 5000; alignment = alignment * 2 + 1) {
        size_t rounded = 16;
        while (rounded < alignment)
            rounded *= 2;
        expect_block("memalign(odd)", memalign(hide_size(alignment), 100), 100, rounded);
    }
}

static void many_aligned_blocks_live_together_without_overlap(void) {
    enum { BLOCKS = 600 };
    static void *blocks[BLOCKS];
    uint64_t random = 4711;
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t alignment = (size_t)16 << (random_next(&random) % 13), bytes = 1 + i * 7;
        blocks[i] = memalign(alignment, bytes);
        REQUIRE(blocks[i] != NULL, "memalign(%zu, %zu): expected a block", alignment, bytes);
        EXPECT((uintptr_t)blocks[i] % alignment == 0, "memalign(%zu) gave %p", alignment,
               blocks[i]);
        pattern_fill(blocks[i], bytes, i);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        EXPECT(pattern_intact(blocks[i], 1 + i * 7, i), "aligned block %zu was overwritten", i);
        blocks[i] = realloc(blocks[i], 2 + i * 9);
        EXPECT(pattern_intact(blocks[i], 1 + i * 7, i), "realloc of aligned block %zu lost bytes",
               i);
        free(blocks[i]);
    }
}

static void valloc_and_pvalloc_give_whole_aligned_pages(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t bytes = 0; bytes < 40000; bytes += 111) {
        expect_block("valloc", valloc(bytes), bytes, page);
        expect_block("pvalloc", pvalloc(bytes), (bytes + page - 1) / page * page, page);
    }
}

static void realloc_of_null_allocates_and_to_zero_frees(void) {
    for (size_t bytes = 1; bytes < 3 * MIB; bytes = bytes * 3 + 1) {
        void *block = realloc(NULL, bytes);
        REQUIRE(block != NULL, "realloc(NULL, %zu): expected a block", bytes);
        memset(block, 1, bytes);
        void *old = hide(block);
        errno = 1234;
        void *result = realloc(block, hide_size(0));
        EXPECT(result == NULL, "realloc(p, 0): expected NULL, found %p", result);
        EXPECT(errno == 1234, "realloc(p, 0): expected errno kept, found %d", errno);
        EXPECT(block_is_live(old) != 1, "realloc(p, 0) of %zu bytes left the block live", bytes);
        block = malloc(bytes);
        REQUIRE(block != NULL, "malloc(%zu): expected a block", bytes);
        result = reallocarray(block, hide_size(0), 8);
        EXPECT(result == NULL, "reallocarray(p, 0, 8): expected NULL, found %p", result);
    }
    for (size_t count = 0; count < MIB; count = count * 5 / 4 + 1)
        expect_block("reallocarray of NULL", reallocarray(NULL, hide_size(count), 3), count * 3,
                     16);
}

/* glibc's headers no longer have it, its library does for old programs. */
static void cfree_frees(void) {
    void (*old_name)(void *);
    void *found = dlsym(RTLD_DEFAULT, "cfree");
    REQUIRE(found != NULL, "cfree: expected it exported");
    memcpy(&old_name, &found, sizeof found);
    for (size_t bytes = 1; bytes < 3 * MIB; bytes = bytes * 3 + 1) {
        void *block = malloc(bytes);
        REQUIRE(block != NULL, "malloc(%zu): expected a block", bytes);
        void *was = hide(block);
        errno = 1234;
        old_name(block);
        EXPECT(errno == 1234, "cfree: expected errno kept, found %d", errno);
        EXPECT(block_is_live(was) != 1, "cfree of %zu bytes left the block live", bytes);
    }
    old_name(hide(NULL));
}

static void usable_size_and_free_of_null_are_harmless(void) {
    EXPECT(malloc_usable_size(NULL) == 0, "expected 0, found %zu", malloc_usable_size(NULL));
    errno = 1234;
    free(hide(NULL));
    EXPECT(errno == 1234, "free(NULL): expected errno kept, found %d", errno);
}

static void free_sized_and_free_aligned_sized_free(void) {
    void (*sized)(void *, size_t), (*aligned_sized)(void *, size_t, size_t);
    void *first = dlsym(RTLD_DEFAULT, "free_sized"),
         *second = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    EXPECT(first != NULL && second != NULL, "expected both exported, found %p and %p", first,
           second);
    if (first == NULL || second == NULL)
        return;
    memcpy(&sized, &first, sizeof sized);
    memcpy(&aligned_sized, &second, sizeof aligned_sized);
    sized(NULL, 10);
    aligned_sized(NULL, 16, 10);
    for (size_t bytes = 0; bytes < 3 * MIB; bytes = bytes < 5000 ? bytes + 1 : bytes * 2 + 13) {
        void *block = malloc(bytes), *zeroed = calloc(1, bytes),
             *moved = realloc(malloc(10), bytes + 1);
        void *aligned = aligned_alloc(128, bytes);
        REQUIRE(block != NULL && zeroed != NULL && aligned != NULL && moved != NULL,
                "out of memory");
        void *was = hide(block);
        errno = 1234;
        sized(block, bytes);
        EXPECT(errno == 1234, "free_sized: expected errno kept, found %d", errno);
        EXPECT(block_is_live(was) != 1, "free_sized(p, %zu) left the block live", bytes);
        sized(zeroed, bytes);
        sized(moved, bytes + 1);
        was = hide(aligned);
        aligned_sized(aligned, 128, bytes);
        EXPECT(block_is_live(was) != 1, "free_aligned_sized(p, 128, %zu) left it live", bytes);
    }
}

static void mallopt_and_trim_answer_and_leave_the_heap_working(void) {
    int result = mallopt(M_MMAP_THRESHOLD, 1 << 20), trim = malloc_trim(0);
    EXPECT(result == 0 || result == 1, "mallopt: expected 0 or 1, found %d", result);
    EXPECT(trim == 0 || trim == 1, "malloc_trim: expected 0 or 1, found %d", trim);
    expect_block("malloc after mallopt and trim", malloc(12345), 12345, 16);
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(blocks_of_all_sizes_are_aligned_distinct_and_writable_in_full, 0),
    CHECK(zero_size_blocks_are_distinct_and_freeable, 0),
    CHECK(impossible_sizes_give_null_and_enomem, 0),
    CHECK(products_that_overflow_give_null_and_enomem, 0),
    CHECK(huge_alignments_are_refused_without_a_crash, 0),
    CHECK(posix_memalign_refuses_bad_alignments_and_leaves_out_and_errno, 0),
    CHECK(posix_memalign_out_of_memory_leaves_errno, 1),
    CHECK(aligned_alloc_refuses_bad_alignments_with_einval, 1),
    CHECK(aligned_blocks_of_all_alignments_to_64_mib, 0),
    CHECK(many_aligned_blocks_live_together_without_overlap, 0),
    CHECK(valloc_and_pvalloc_give_whole_aligned_pages, 0),
    CHECK(realloc_of_null_allocates_and_to_zero_frees, 0),
    CHECK(cfree_frees, 1),
    CHECK(usable_size_and_free_of_null_are_harmless, 0),
    CHECK(free_sized_and_free_aligned_sized_free, 1),
    CHECK(mallopt_and_trim_answer_and_leave_the_heap_working, 0),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
