/* invalid_resize.c -- realloc, malloc_usable_size, free_sized and operator delete of what is no
 * live block, or with a size that can not be, are caught at that call.
 */
#include "misuse.inc"

static char static_data[256] = "static data";

static void *offset(void *block, ptrdiff_t by) { return (char *)block + by; }

static void resize(void *pointer, size_t bytes) {
    void *result = hide(realloc(culprit(pointer), bytes));
    (void)result;
}

static void *dead(size_t bytes) {
    void *block = take(bytes);
    free(block);
    return hide(block);
}

static void realloc_dead(void) { resize(dead(100), 200); }
static void realloc_dead_same_size(void) { resize(dead(100), 100); }
static void realloc_dead_to_zero(void) { resize(dead(100), (size_t)(uintptr_t)hide(NULL)); }
static void realloc_dead_large(void) { resize(dead(2 << 20), 4 << 20); }
static void realloc_dead_100_kib(void) { resize(dead(100 * 1024), 200 * 1024); }
static void realloc_interior(void) { resize(offset(take(200), 16), 400); }
static void realloc_interior_by_8(void) { resize(offset(take(200), 8), 100); }
static void realloc_interior_of_large(void) { resize(offset(take(2 << 20), 4096), 8 << 20); }
static void realloc_static(void) { resize(static_data + 32, 100); }
static void realloc_wild(void) { resize((void *)(uintptr_t)0xdeadbeef000, 100); }
static void realloc_not_canonical(void) { resize((void *)(uintptr_t)0x8000000000001230, 100); }
static void realloc_small_number(void) { resize((void *)(uintptr_t)0x10, 100); }
static void realloc_argument(void) { resize(program_arguments[0], 100); }

static void realloc_stack(void) {
    char local[200];
    memset(local, 1, sizeof local);
    resize((void *)(((uintptr_t)local + 15) & ~(uintptr_t)15), 100);
}

static void realloc_mapped(void) {
    char *mapped = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        give_up("mmap");
    resize(mapped + 65536, 100);
}

static void reallocarray_dead(void) {
    void *result = hide(reallocarray(culprit(dead(100)), 10, 20));
    (void)result;
}

static void *realloc_in_thread(void *block) {
    resize(block, 300);
    return NULL;
}

static void realloc_dead_by_another_thread(void) { in_thread(realloc_in_thread, dead(100)); }

static void measure(void *pointer) {
    volatile size_t bytes = malloc_usable_size(culprit(pointer));
    (void)bytes;
}

static void size_of_dead(void) { measure(dead(100)); }
static void size_of_interior(void) { measure(offset(take(200), 16)); }
static void size_of_static(void) { measure(static_data + 32); }
static void size_of_wild(void) { measure((void *)(uintptr_t)0xdeadbeef000); }
static void size_of_not_canonical(void) { measure((void *)(uintptr_t)0x8000000000001230); }

static void size_of_stack(void) {
    char local[200];
    memset(local, 1, sizeof local);
    measure((void *)(((uintptr_t)local + 15) & ~(uintptr_t)15));
}

static void free_sized_of(void *block, size_t bytes) {
    void (*function)(void *, size_t) = NULL;
    void *entry = dlsym(RTLD_DEFAULT, "free_sized");
    if (entry == NULL)
        give_up("no free_sized");
    memcpy(&function, &entry, sizeof function);
    function(culprit(block), bytes);
}

static void free_aligned_sized_of(void *block, size_t alignment, size_t bytes) {
    void (*function)(void *, size_t, size_t) = NULL;
    void *entry = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    if (entry == NULL)
        give_up("no free_aligned_sized");
    memcpy(&function, &entry, sizeof function);
    function(culprit(block), alignment, bytes);
}

static void sized_too_large(void) { free_sized_of(take(100), 5000); }
static void sized_too_small(void) { free_sized_of(take(5000), 20); }
static void sized_huge(void) { free_sized_of(take(100), SIZE_MAX); }
static void sized_of_large(void) { free_sized_of(take(2 << 20), 100); }
static void sized_of_interior(void) { free_sized_of(offset(take(200), 16), 184); }
static void sized_of_wild(void) { free_sized_of((void *)(uintptr_t)0xdeadbeef000, 100); }
static void aligned_sized_wrong(void) {
    free_aligned_sized_of(hide(aligned_alloc(64, 100)), 64, 9000);
}

static void delete_by_name(const char *name, void *pointer) {
    void (*function)(void *) = NULL;
    void *entry = dlsym(RTLD_DEFAULT, name);
    if (entry == NULL)
        give_up("no operator delete");
    memcpy(&function, &entry, sizeof function);
    function(culprit(pointer));
}

static void delete_interior(void) { delete_by_name("_ZdlPv", offset(take(200), 16)); }
static void delete_array_interior(void) { delete_by_name("_ZdaPv", offset(take(200), 8)); }
static void delete_static(void) { delete_by_name("_ZdlPv", static_data + 32); }
static void delete_after_free(void) { delete_by_name("_ZdaPv", dead(64)); }

static const struct misuse cases[] = {
    {"realloc_of_dead_block", realloc_dead, INVALID_REALLOC},
    {"realloc_of_dead_block_to_its_own_size", realloc_dead_same_size, INVALID_REALLOC},
    {"realloc_of_dead_block_to_zero", realloc_dead_to_zero, INVALID_REALLOC},
    {"realloc_of_dead_large_block", realloc_dead_large, INVALID_REALLOC},
    {"realloc_of_dead_block_of_100_kib", realloc_dead_100_kib, INVALID_REALLOC},
    {"realloc_of_dead_block_by_another_thread", realloc_dead_by_another_thread, INVALID_REALLOC},
    {"realloc_of_interior", realloc_interior, INVALID_REALLOC ".*interior"},
    {"realloc_of_interior_by_8", realloc_interior_by_8, INVALID_REALLOC ".*interior"},
    {"realloc_of_interior_of_large", realloc_interior_of_large, INVALID_REALLOC ".*interior"},
    {"realloc_of_stack", realloc_stack, INVALID_REALLOC ".*stack"},
    {"realloc_of_static_data", realloc_static, INVALID_REALLOC ".*static"},
    {"realloc_of_mapped", realloc_mapped, INVALID_REALLOC ".*mapped"},
    {"realloc_of_wild", realloc_wild, INVALID_REALLOC ".+"},
    {"realloc_of_not_canonical", realloc_not_canonical, INVALID_REALLOC ".+"},
    {"realloc_of_0x10", realloc_small_number, INVALID_REALLOC ".+"},
    {"realloc_of_argument_string", realloc_argument, INVALID_REALLOC ".+"},
    {"reallocarray_of_dead_block", reallocarray_dead, INVALID_REALLOC},
    {"usable_size_of_dead_block", size_of_dead, INVALID_SIZE_OF},
    {"usable_size_of_interior", size_of_interior, INVALID_SIZE_OF},
    {"usable_size_of_stack", size_of_stack, INVALID_SIZE_OF ".*stack"},
    {"usable_size_of_static_data", size_of_static, INVALID_SIZE_OF ".*static"},
    {"usable_size_of_wild", size_of_wild, INVALID_SIZE_OF},
    {"usable_size_of_not_canonical", size_of_not_canonical, INVALID_SIZE_OF},
    {"free_sized_with_a_size_too_large", sized_too_large, MISMATCH},
    {"free_sized_with_a_size_too_small", sized_too_small, MISMATCH},
    {"free_sized_with_an_impossible_size", sized_huge, MISMATCH},
    {"free_sized_of_large_block_as_small", sized_of_large, MISMATCH},
    {"free_sized_of_interior", sized_of_interior, INTERIOR},
    {"free_sized_of_wild", sized_of_wild, INVALID_UNMAPPED},
    {"free_aligned_sized_with_a_wrong_size", aligned_sized_wrong, MISMATCH},
    {"operator_delete_of_interior", delete_interior, INTERIOR},
    {"operator_delete_array_of_interior", delete_array_interior, INTERIOR},
    {"operator_delete_of_static_data", delete_static, INVALID_STATIC},
    {"operator_delete_after_free", delete_after_free, DOUBLE_FREE},
};

int main(int argc, char **argv) {
    return misuse_main(cases, sizeof cases / sizeof cases[0], argc, argv);
}
