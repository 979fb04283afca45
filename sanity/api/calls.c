/* calls.c -- each function of hakmem.h that allocates, resizes or frees: results, alignment,
 * contents, errno, and what happens with sizes and alignments that can not be.
 */
#include "api.inc"

static void expect_block(const char *call, void *block, size_t bytes, size_t alignment) {
    EXPECT(block != NULL, "%s of %zu: expected a block", call, bytes);
    if (block == NULL)
        return;
    size_t usable = hkm_malloc_usable_size(block);
    EXPECT((uintptr_t)block % alignment == 0, "%s of %zu: %p is not %zu-aligned", call, bytes,
           block, alignment);
    EXPECT(usable >= bytes, "%s of %zu: usable size %zu", call, bytes, usable);
    memset(block, 0xa5, usable < 70000 ? usable : 70000);
    ((char *)block)[usable - 1] = 1;
    hkm_free(block);
}

static void every_size_gives_an_aligned_block(void) {
    for (size_t bytes = 0; bytes < 40000; bytes += step())
        expect_block("hkm_malloc", hkm_malloc(bytes), bytes, 16);
    for (size_t bytes = 40000; bytes < 4 * MIB; bytes += 10007 * step())
        expect_block("hkm_malloc", hkm_malloc(bytes), bytes, 16);
}

static void calloc_gives_zeros_after_dirty_reuse(void) {
    for (size_t bytes = 1; bytes < 2 * MIB; bytes += bytes < 2000 ? step() : bytes / 3) {
        unsigned char *block = hkm_malloc(bytes);
        REQUIRE(block != NULL, "hkm_malloc(%zu)", bytes);
        memset(block, 0xdd, bytes);
        hkm_free(block);
        block = hkm_calloc(1, bytes);
        REQUIRE(block != NULL, "hkm_calloc(%zu)", bytes);
        size_t at = 0;
        while (at < bytes && block[at] == 0)
            at++;
        EXPECT(at == bytes, "hkm_calloc of %zu: byte %zu is not zero", bytes, at);
        hkm_free(block);
    }
}

static void realloc_keeps_contents_between_sizes(void) {
    static const size_t sizes[] = {1,     16,     17,     100,    128,    129,
                                   1000,  4096,   4097,   9000,   32768,  65536,
                                   65537, 131073, 262144, 262145, 600000, 1048577};
    size_t stride = step() > 3 ? 3 : 1;
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        for (size_t j = 0; j < COUNT_OF(sizes); j += stride) {
            void *block = hkm_malloc(sizes[i]);
            REQUIRE(block != NULL, "hkm_malloc(%zu)", sizes[i]);
            pattern_fill(block, 0, sizes[i], i);
            size_t common = sizes[i] < sizes[j] ? sizes[i] : sizes[j];
            block = hkm_realloc(block, sizes[j]);
            REQUIRE(block != NULL, "hkm_realloc(%zu)", sizes[j]);
            size_t at = pattern_differs(block, common, i);
            EXPECT(at == common, "%zu -> %zu: byte %zu differs", sizes[i], sizes[j], at);
            pattern_fill(block, 0, sizes[j], j);
            hkm_free(block);
        }
}

static void realloc_of_null_allocates_and_to_zero_frees(void) {
    for (size_t bytes = 1; bytes < 2 * MIB; bytes = bytes * 3 + 1) {
        void *block = hkm_realloc(NULL, bytes);
        REQUIRE(block != NULL, "hkm_realloc(NULL, %zu)", bytes);
        void *old = hide(block);
        EXPECT(hkm_owns(old) == 1, "expected the block of %zu bytes owned", bytes);
        void *result = hkm_realloc(block, hide_size(0));
        EXPECT(result == NULL, "hkm_realloc(p, 0): expected NULL, found %p", result);
        EXPECT(hkm_owns(old) == 0, "hkm_realloc(p, 0) left the block of %zu bytes live", bytes);
    }
}

#define EXPECT_REFUSED(call, wanted)                                                               \
    do {                                                                                           \
        errno = 0;                                                                                 \
        void *block_ = hide(call);                                                                 \
        EXPECT(block_ == NULL, "%s: expected NULL, found %p", #call, block_);                      \
        EXPECT(errno == (wanted), "%s: expected errno %d, found %d", #call, wanted, errno);        \
    } while (0)

static void impossible_sizes_give_null_and_enomem(void) {
    static const size_t impossible[] = {SIZE_MAX,
                                        SIZE_MAX - 15,
                                        SIZE_MAX - 4096,
                                        SIZE_MAX - (2 << 20),
                                        (size_t)PTRDIFF_MAX + 1,
                                        (size_t)PTRDIFF_MAX};
    void *kept = hkm_malloc(100);
    REQUIRE(kept != NULL, "hkm_malloc(100)");
    pattern_fill(kept, 0, 100, 1);
    for (size_t i = 0; i < COUNT_OF(impossible); i++) {
        size_t bytes = hide_size(impossible[i]);
        void *out = &out;
        EXPECT_REFUSED(hkm_malloc(bytes), ENOMEM);
        EXPECT_REFUSED(hkm_calloc(bytes, 1), ENOMEM);
        EXPECT_REFUSED(hkm_calloc(bytes, 3), ENOMEM);
        EXPECT_REFUSED(hkm_realloc(NULL, bytes), ENOMEM);
        EXPECT_REFUSED(hkm_realloc(hide(kept), bytes), ENOMEM);
        EXPECT_REFUSED(hkm_reallocarray(hide(kept), bytes, 2), ENOMEM);
        EXPECT_REFUSED(hkm_aligned_alloc(64, bytes), ENOMEM);
        EXPECT_REFUSED(hkm_memalign(4096, bytes), ENOMEM);
        EXPECT_REFUSED(hkm_valloc(bytes), ENOMEM);
        EXPECT_REFUSED(hkm_pvalloc(bytes), ENOMEM);
        errno = 1234;
        int result = hkm_posix_memalign(&out, 64, bytes);
        EXPECT(result == ENOMEM && out == (void *)&out && errno == 1234,
               "hkm_posix_memalign(64, %zu): found %d, *out %p, errno %d", bytes, result, out,
               errno);
        EXPECT(pattern_differs(kept, 100, 1) == 100, "a failed call changed the block");
    }
    hkm_free(kept);
}

static void bad_alignments_give_einval(void) {
    static const size_t bad[] = {0, 3, 5, 12, 24, 48, 100, 4095, 4097};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        void *out = &out;
        EXPECT_REFUSED(hkm_aligned_alloc(hide_size(bad[i]), 64), EINVAL);
        errno = 1234;
        int result = hkm_posix_memalign(&out, hide_size(bad[i]), 64);
        EXPECT(result == EINVAL && out == (void *)&out && errno == 1234,
               "hkm_posix_memalign(%zu): found %d, *out %p, errno %d", bad[i], result, out, errno);
    }
    for (size_t alignment = 1; alignment < sizeof(void *); alignment *= 2) {
        void *out = NULL;
        int result = hkm_posix_memalign(&out, alignment, 64);
        EXPECT(result == EINVAL, "hkm_posix_memalign(%zu): expected EINVAL, found %d", alignment,
               result);
    }
}

static void every_alignment_to_16_mib_is_kept(void) {
    static const size_t sizes[] = {0, 1, 24, 100, 4000, 4096, 70000, 300000, 1100000};
    for (size_t alignment = 1; alignment <= 16 * MIB; alignment *= 2)
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            size_t wanted = alignment < 16 ? 16 : alignment;
            void *out = NULL;
            expect_block("hkm_aligned_alloc", hkm_aligned_alloc(alignment, sizes[i]), sizes[i],
                         wanted);
            expect_block("hkm_memalign", hkm_memalign(alignment, sizes[i]), sizes[i], wanted);
            if (alignment < sizeof(void *))
                continue;
            EXPECT(hkm_posix_memalign(&out, alignment, sizes[i]) == 0,
                   "hkm_posix_memalign(%zu, %zu)", alignment, sizes[i]);
            expect_block("hkm_posix_memalign", out, sizes[i], wanted);
        }
    expect_block("hkm_memalign(24)", hkm_memalign(hide_size(24), 100), 100, 32);
    expect_block("hkm_memalign(3000)", hkm_memalign(hide_size(3000), 100), 100, 4096);
    expect_block("hkm_valloc", hkm_valloc(100), 100, 4096);
    expect_block("hkm_pvalloc", hkm_pvalloc(4097), 8192, 4096);
}

static void free_and_successful_calls_keep_errno(void) {
    for (size_t bytes = 1; bytes < 40 * MIB; bytes = bytes * 3 + 5) {
        errno = 1234;
        void *block = hkm_malloc(bytes), *other = hkm_calloc(2, bytes);
        REQUIRE(block != NULL && other != NULL, "out of memory at %zu", bytes);
        block = hkm_realloc(block, bytes * 2);
        REQUIRE(block != NULL, "hkm_realloc(%zu)", bytes * 2);
        hkm_free(block);
        hkm_free(other);
        hkm_free(NULL);
        EXPECT(errno == 1234, "calls with %zu bytes: expected errno kept, found %d", bytes, errno);
    }
}

static void sized_frees_free(void) {
    hkm_free_sized(NULL, 5);
    hkm_free_aligned_sized(NULL, 64, 5);
    for (size_t bytes = 0; bytes < 2 * MIB; bytes = bytes < 3000 ? bytes + step() : bytes * 2 + 1) {
        void *block = hkm_malloc(bytes), *aligned = hkm_aligned_alloc(256, bytes);
        REQUIRE(block != NULL && aligned != NULL, "out of memory at %zu", bytes);
        void *first = hide(block), *second = hide(aligned);
        hkm_free_sized(block, bytes);
        hkm_free_aligned_sized(aligned, 256, bytes);
        EXPECT(!hkm_owns(first) && !hkm_owns(second), "sized frees of %zu left a block live",
               bytes);
    }
}

static void zero_size_blocks_are_distinct(void) {
    void *blocks[100];
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        blocks[i] = hkm_malloc(hide_size(0));
        for (size_t j = 0; j < i; j++)
            EXPECT(blocks[i] != blocks[j] && blocks[i] != NULL, "blocks %zu and %zu", i, j);
    }
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        hkm_free(blocks[i]);
}

static const struct check checks[] = {
#define CHECK(name)                                                                                \
    { #name, name }
    CHECK(every_size_gives_an_aligned_block),
    CHECK(calloc_gives_zeros_after_dirty_reuse),
    CHECK(realloc_keeps_contents_between_sizes),
    CHECK(realloc_of_null_allocates_and_to_zero_frees),
    CHECK(impossible_sizes_give_null_and_enomem),
    CHECK(bad_alignments_give_einval),
    CHECK(every_alignment_to_16_mib_is_kept),
    CHECK(free_and_successful_calls_keep_errno),
    CHECK(sized_frees_free),
    CHECK(zero_size_blocks_are_distinct),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
