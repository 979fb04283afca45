/* replaced_malloc.c -- a program with a malloc of its own, as browsers have one, that does not know of
 * all that builds on malloc: reallocarray and free_sized then go to its own.
 */
#include "check.inc"

enum { POOL_BYTES = 64 << 20, HEAD = 16 };

static char pool[POOL_BYTES] __attribute__((aligned(16)));
static size_t pool_used;
static unsigned frees;

static int in_pool(const void *block) {
    return (uintptr_t)block - (uintptr_t)pool < POOL_BYTES;
}

/* Blocks are never used again. */
void *malloc(size_t bytes) {
    size_t all = HEAD + ((bytes + 15) & ~(size_t)15);
    size_t at = __atomic_fetch_add(&pool_used, all, __ATOMIC_RELAXED);
    if (bytes > POOL_BYTES || at + all > POOL_BYTES)
        return NULL;
    *(size_t *)(void *)(pool + at) = bytes;
    return pool + at + HEAD;
}
void free(void *block) {
    if (block != NULL)
        __atomic_fetch_add(&frees, 1, __ATOMIC_RELAXED);
}
void *calloc(size_t count, size_t bytes) { return malloc(count * bytes); }
void *realloc(void *block, size_t bytes) {
    void *to = malloc(bytes);
    if (block == NULL || to == NULL)
        return to;
    size_t old = *(size_t *)(void *)((char *)block - HEAD);
    memcpy(to, block, old < bytes ? old : bytes);
    free(block);
    return to;
}
void *aligned_alloc(size_t alignment, size_t bytes) {
    return alignment <= 16 ? malloc(bytes) : NULL;
}

static void reallocarray_resizes_the_programs_blocks(void) {
    char *block = malloc(100);
    REQUIRE(in_pool(block), "malloc: expected a block of the program's, found %p", (void *)block);
    memset(block, 7, 100);
    char *more = reallocarray(block, 300, 10);
    EXPECT(in_pool(more) && more[99] == 7, "reallocarray: found %p", (void *)more);
    EXPECT(in_pool(reallocarray(NULL, 3, 10)), "reallocarray of NULL");
    errno = 0;
    EXPECT(reallocarray(more, SIZE_MAX / 2, 3) == NULL && errno == ENOMEM, "errno %d", errno);
}

static void expect_freed_by(const char *name) {
    void (*release)(void *, size_t);
    void *entry = dlsym(RTLD_DEFAULT, name);
    if (entry == NULL)
        return; /* this libc has none */
    memcpy(&release, &entry, sizeof release);
    unsigned before = frees;
    void *block = malloc(100);
    release(block, 100);
    EXPECT(frees == before + 1, "%s: expected one call of the program's free, found %u", name,
           frees - before);
}

static void sized_forms_free_the_programs_blocks(void) {
    expect_freed_by("free_sized");
    void (*release)(void *, size_t, size_t);
    void *entry = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    if (entry == NULL)
        return;
    memcpy(&release, &entry, sizeof release);
    unsigned before = frees;
    release(malloc(100), 16, 100);
    EXPECT(frees == before + 1, "expected one call of the program's free");
}

static const struct check checks[] = {
#define CHECK(name)                                                                                \
    { #name, name, 0 }
    CHECK(reallocarray_resizes_the_programs_blocks),
    CHECK(sized_forms_free_the_programs_blocks),
};

int main(int argc, char **argv) {
    REQUIRE(getenv("HAKMEM_LIB") == NULL || dlsym(RTLD_DEFAULT, "hkm_malloc") != NULL,
            "the library is not there");
    (void)unsetenv("HAKMEM_LIB"); /* malloc is not the library's, and must not be */
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
