/* foreign_blocks.c -- blocks of glibc's own malloc that reach the program (from __libc_malloc, from
 * a library that is bound deep or has its own namespace) are freed, resized and measured without a
 * fault, as ours are that a library frees which was opened with RTLD_DEEPBIND; libraries come and
 * go while threads allocate.
 */
#include "check.inc"

#include <sys/mman.h>

typedef void *malloc_function(size_t);

static malloc_function *libc_malloc(void) {
    malloc_function *function = NULL;
    void *entry = dlsym(RTLD_DEFAULT, "__libc_malloc");
    if (entry != NULL)
        memcpy(&function, &entry, sizeof function);
    return function;
}

static void *fill_from_libc(void *argument) {
    void **blocks = argument;
    malloc_function *allocate = libc_malloc();
    for (size_t i = 0; i < 400; i++) {
        size_t bytes = i < 380 ? i * 37 + 1 : i * 2000;
        blocks[i] = allocate(bytes);
        REQUIRE(blocks[i] != NULL, "__libc_malloc(%zu)", bytes);
        pattern_fill(blocks[i], bytes, i);
    }
    return NULL;
}

static void release_foreign(void **blocks) {
    for (size_t i = 0; i < 400; i++) {
        size_t bytes = i < 380 ? i * 37 + 1 : i * 2000;
        size_t usable = malloc_usable_size(blocks[i]);
        EXPECT(usable >= bytes && usable < bytes + 70000,
               "usable size of glibc's block of %zu bytes: found %zu", bytes, usable);
        if (i % 3 == 0) {
            size_t common = bytes / 8 * 8;
            blocks[i] = realloc(blocks[i], bytes * 2);
            EXPECT(blocks[i] != NULL && pattern_intact(blocks[i], common, i),
                   "realloc of glibc's block of %zu bytes lost its contents", bytes);
        } else if (i % 3 == 1) {
            size_t common = (bytes / 2) / 8 * 8;
            blocks[i] = realloc(blocks[i], bytes / 2 + 1);
            EXPECT(blocks[i] != NULL && pattern_intact(blocks[i], common, i),
                   "realloc of glibc's block down from %zu bytes lost its contents", bytes);
        }
        errno = 1234;
        free(blocks[i]);
        EXPECT(errno == 1234, "free of glibc's block: expected errno kept, found %d", errno);
    }
}

static void blocks_of_libc_malloc_are_freed_resized_and_measured(void) {
    static void *blocks[400];
    if (libc_malloc() == NULL)
        return;
    fill_from_libc(blocks);
    release_foreign(blocks);
}

static void blocks_of_another_glibc_arena_are_freed_resized_and_measured(void) {
    static void *blocks[4][400];
    pthread_t threads[4];
    if (libc_malloc() == NULL)
        return;
    for (size_t i = 0; i < 4; i++)
        REQUIRE(pthread_create(&threads[i], NULL, fill_from_libc, blocks[i]) == 0,
                "pthread_create");
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < 4; i++)
        release_foreign(blocks[i]);
}

static void mapped_chunks_of_libc_malloc_are_freed_and_resized(void) {
    malloc_function *allocate = libc_malloc();
    if (allocate == NULL)
        return;
    for (size_t bytes = 200000; bytes < 40 * MIB; bytes = bytes * 2 + 1001) {
        void *block = allocate(bytes), *other = allocate(bytes);
        REQUIRE(block != NULL && other != NULL, "__libc_malloc(%zu)", bytes);
        pattern_fill(block, bytes, 3);
        EXPECT(malloc_usable_size(block) >= bytes, "usable size %zu", malloc_usable_size(block));
        block = realloc(block, bytes + 300000);
        EXPECT(block != NULL && pattern_intact(block, bytes / 8 * 8, 3),
               "realloc of glibc's mapped chunk of %zu bytes lost its contents", bytes);
        free(block);
        free(other);
    }
}

struct beside {
    void *block; /* glibc's, right above the stack or below */
    size_t bytes, usable;
    const char *maps; /* as the thread begins */
};

static void *free_beside_own_stack(void *argument) {
    static char maps[MIB];
    struct beside *it = argument;
    maps[0] = '\n';
    (void)file_read("/proc/self/maps", maps + 1, sizeof maps - 1);
    it->maps = maps;
    it->usable = malloc_usable_size(it->block);
    it->block = realloc(it->block, it->bytes + 4096);
    EXPECT(it->block != NULL && pattern_intact(it->block, MIB, 4), "realloc beside a stack");
    free(it->block);
    return NULL;
}

static char *map_stack(size_t bytes) {
    void *stack =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(stack != MAP_FAILED, "mmap of a stack: %s", strerror(errno));
    return stack;
}

static char *chunk_of(void *block) { return (char *)block - 2 * sizeof(size_t); }
static char *end_of(void *block) {
    return chunk_of(block) + (((size_t *)block)[-1] & ~(size_t)7);
}

/* What is mapped next goes right below what was mapped last, once smaller gaps are full. */
static void expect_freed_beside_own_stack(int stack_first) {
    enum { TRIES = 16, STACK_BYTES = 33 << 20 }; /* no smaller gap takes it */
    char *stacks[TRIES];
    void *blocks[TRIES];
    struct beside it = {.bytes = 33 * MIB}; /* always with a mapping of its own */
    size_t used = 0;
    while (libc_malloc() != NULL && used < TRIES && it.block == NULL) {
        char *stack = stack_first ? map_stack(STACK_BYTES) : NULL;
        void *block = libc_malloc()(it.bytes);
        REQUIRE(block != NULL, "__libc_malloc(%zu)", it.bytes);
        if (!stack_first)
            stack = map_stack(STACK_BYTES);
        if ((stack_first ? end_of(block) : chunk_of(block) - STACK_BYTES) == stack)
            it.block = block;
        stacks[used] = stack;
        blocks[used++] = block;
    }
    if (it.block != NULL) {
        char between[40]; /* the line of a mapping that begins where the other one ends */
        char *stack = stacks[used - 1];
        pthread_attr_t attributes;
        pthread_t thread;
        snprintf(between, sizeof between, "\n%lx-",
                 (unsigned long)(stack_first ? stack : chunk_of(it.block)));
        pattern_fill(it.block, MIB, 4);
        pthread_attr_init(&attributes);
        REQUIRE(pthread_attr_setstack(&attributes, stack, STACK_BYTES) == 0 &&
                    pthread_create(&thread, &attributes, free_beside_own_stack, &it) == 0,
                "a thread with a stack beside a chunk");
        pthread_join(thread, NULL);
        pthread_attr_destroy(&attributes);
        EXPECT(it.usable >= it.bytes, "usable size %zu", it.usable);
        if (strstr(it.maps, between) != NULL)
            say(" (not one mapping with this kernel)");
    } else {
        say(" (no chunk beside a stack)");
    }
    for (size_t i = 0; i < used; i++) {
        munmap(stacks[i], STACK_BYTES);
        if (it.block == NULL || i < used - 1)
            free(blocks[i]);
    }
}

static void a_mapped_chunk_right_above_the_own_stack_is_freed_and_resized(void) {
    expect_freed_beside_own_stack(0);
}

static void a_mapped_chunk_right_below_the_own_stack_is_freed_and_resized(void) {
    expect_freed_beside_own_stack(1);
}

/* strdup as a library finds it, and so the malloc behind it. */
typedef char *strdup_function(const char *);

static void expect_strdup_freeable(void *library, const char *how) {
    strdup_function *duplicate;
    void *entry = dlsym(library, "strdup");
    EXPECT(entry != NULL, "%s: expected strdup, found none", how);
    if (entry == NULL)
        return;
    memcpy(&duplicate, &entry, sizeof duplicate);
    for (size_t i = 0; i < 1000; i++) {
        char text[200];
        memset(text, 'a' + (int)(i % 26), sizeof text);
        text[i % 200] = '\0';
        char *copy = duplicate(text);
        REQUIRE(copy != NULL, "%s: strdup failed", how);
        EXPECT(malloc_usable_size(copy) > strlen(copy), "%s: usable size too small", how);
        if (i % 2 == 0)
            copy = realloc(copy, 5000);
        EXPECT(copy != NULL && strcmp(copy, text) == 0, "%s: block %zu changed", how, i);
        free(copy);
    }
}

static void blocks_of_a_libc_in_its_own_namespace_are_freed(void) {
    void *library = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        say(" (dlmopen is not to be had here)");
        return;
    }
    /* that libc's heap is not the main libc's: only what glibc itself could tell apart is promised,
     * so the blocks are given back where they came from; our heap must work beside it */
    strdup_function *duplicate;
    void (*release)(void *);
    void *entry = dlsym(library, "strdup"), *free_entry = dlsym(library, "free");
    REQUIRE(entry != NULL && free_entry != NULL, "strdup and free of the other libc");
    memcpy(&duplicate, &entry, sizeof duplicate);
    memcpy(&release, &free_entry, sizeof release);
    for (size_t i = 0; i < 1000; i++) {
        char *copy = duplicate("from another namespace"), *ours = strdup("ours");
        EXPECT(strcmp(copy, "from another namespace") == 0 && strcmp(ours, "ours") == 0, "text");
        release(copy);
        free(ours);
    }
    dlclose(library);
}

static void blocks_from_a_deepbind_library_are_freed(void) {
    static const char *const names[] = {"libz.so.1", "libzstd.so.1", "libm.so.6", "libstdc++.so.6"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        /* dlopen would leave the flag out */
        void *library = dlmopen(LM_ID_BASE, names[i], RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
        if (library == NULL)
            continue;
        expect_strdup_freeable(library, names[i]);
        if (i == 3) { /* libstdc++ bound deep: its operator new calls glibc's malloc */
            malloc_function *create;
            void *entry = dlsym(library, "_Znwm");
            REQUIRE(entry != NULL, "operator new in libstdc++");
            memcpy(&create, &entry, sizeof create);
            for (size_t bytes = 1; bytes < 3 * MIB; bytes = bytes * 2 + 7) {
                char *block = create(bytes), *second = create(bytes);
                memset(block, 1, bytes);
                EXPECT(malloc_usable_size(block) >= bytes, "usable size too small");
                free(block);
                second = realloc(second, bytes * 2);
                EXPECT(second != NULL, "realloc of a deepbind block of %zu bytes", bytes);
                free(second);
            }
        }
    }
}

/* As php opens its extensions; in a child, because a library is bound when it is first opened. */
static void blocks_are_freed_by_a_library_opened_deepbind(void) {
    pid_t child = fork();
    REQUIRE(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        void *library = dlopen("libstdc++.so.6", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
        void (*destroy)(void *) = NULL;
        void *entry = library == NULL ? NULL : dlsym(library, "_ZdlPv");
        memcpy(&destroy, &entry, sizeof destroy);
        for (size_t bytes = 1; entry != NULL && bytes < 3 * MIB; bytes = bytes * 2 + 7) {
            char *block = malloc(bytes);
            memset(block, 1, bytes);
            destroy(block);
        }
        _exit(entry == NULL);
    }
    int status;
    REQUIRE(waitpid(child, &status, 0) == child, "waitpid: %s", strerror(errno));
    EXPECT(status == 0, "the child ended with status %#x", (unsigned)status);
}

static int stop;

static void *churn(void *argument) {
    uint64_t random = (uint64_t)(size_t)argument + 17;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
        free(malloc(random_size(&random)));
    return NULL;
}

static void libraries_come_and_go_while_threads_allocate(void) {
    static const char *const names[] = {"libm.so.6",    "libz.so.1",   "libresolv.so.2",
                                        "libutil.so.1", "libanl.so.1", "libstdc++.so.6"};
    pthread_t threads[4];
    size_t opened = 0;
    stop = 0;
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        REQUIRE(pthread_create(&threads[i], NULL, churn, (void *)i) == 0, "pthread_create");
    for (size_t i = 0; i < scaled(200); i++) {
        void *library = dlopen(names[i % COUNT_OF(names)], RTLD_NOW | RTLD_LOCAL);
        opened += library != NULL;
        if (library != NULL)
            dlclose(library);
        EXPECT(dlopen("/nonexistent/libnothing.so", RTLD_NOW) == NULL, "expected no library");
        EXPECT(dlerror() != NULL, "expected a text from dlerror");
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    EXPECT(opened > 0, "expected some library to open, found none");
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(blocks_of_libc_malloc_are_freed_resized_and_measured, 0),
    CHECK(blocks_of_another_glibc_arena_are_freed_resized_and_measured, 0),
    CHECK(mapped_chunks_of_libc_malloc_are_freed_and_resized, 0),
    CHECK(a_mapped_chunk_right_above_the_own_stack_is_freed_and_resized, 0),
    CHECK(a_mapped_chunk_right_below_the_own_stack_is_freed_and_resized, 0),
    CHECK(blocks_of_a_libc_in_its_own_namespace_are_freed, 0),
    CHECK(blocks_are_freed_by_a_library_opened_deepbind, 0),
    CHECK(blocks_from_a_deepbind_library_are_freed, 0),
    CHECK(libraries_come_and_go_while_threads_allocate, 0),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
