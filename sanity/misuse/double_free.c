/* double_free.c -- a block that is freed twice is caught at the second free: at once, later, by
 * another thread, after its neighbours were used again, whatever its size, alignment or origin.
 */
#include "misuse.inc"

static void at_once(void) {
    void *block = take(100);
    free(block);
    free(culprit(block));
}

/* Frees every size of block twice would be many cases; these stand for the kinds. */
static void free_twice(void *block) {
    free(hide(block));
    free(culprit(block));
}

static void smallest(void) { free_twice(take(1)); }
static void zero_size(void) { free_twice(hide(malloc((size_t)(uintptr_t)hide(NULL)))); }
static void of_1000_bytes(void) { free_twice(take(1000)); }
static void of_a_page(void) { free_twice(take(4096)); }
static void of_20_kib(void) { free_twice(take(20 * 1024)); }
static void of_100_kib(void) { free_twice(take(100 * 1024)); }
static void of_256_kib(void) { free_twice(take(256 * 1024)); }
static void of_1_mib(void) { free_twice(take(1 << 20)); }
static void of_30_mib(void) { free_twice(take(30 << 20)); }
static void of_1_gib(void) { free_twice(hide(malloc((size_t)1 << 30))); }
static void of_calloc(void) { free_twice(hide(calloc(10, 50))); }
static void of_strdup(void) { free_twice(hide(strdup("some text"))); }
static void of_aligned_64(void) { free_twice(hide(aligned_alloc(64, 200))); }
static void of_aligned_4096(void) { free_twice(hide(aligned_alloc(4096, 200))); }
static void of_aligned_1_mib(void) { free_twice(hide(aligned_alloc(1 << 20, 100))); }

static void of_posix_memalign(void) {
    void *block = NULL;
    if (posix_memalign(&block, 256, 1000) != 0)
        give_up("posix_memalign");
    free_twice(block);
}

static int still_dead(void *const *held, size_t count, const void *dead) {
    for (size_t i = 0; i < count; i++)
        if (held[i] == dead)
            return 0;
    return 1;
}

/* A thousand other calls; none of their blocks is live in the end. */
static void delayed(void) {
    static void *held[50];
    void *block = take(100);
    free(block);
    for (size_t i = 0; i < 1000; i++) {
        free(held[i % 50]);
        held[i % 50] = take(500 + i % 7 * 300);
    }
    if (!still_dead(held, 50, block))
        give_up("the address was used again");
    free(culprit(block));
}

static void delayed_past_the_caches(void) {
    static void *held[20000];
    void *block;
    for (size_t i = 0; i < 20000; i++)
        held[i] = take(100);
    block = held[777];
    for (size_t i = 0; i < 20000; i++)
        free(held[i]);
    free(culprit(block));
}

static void after_trim(void) {
    static void *held[20000];
    for (size_t i = 0; i < 20000; i++)
        held[i] = take(100);
    for (size_t i = 0; i < 20000; i++)
        free(held[i]);
    malloc_trim(0);
    free(culprit(held[7777]));
}

static void of_large_block_after_trim(void) {
    void *block = take(8 << 20);
    free(block);
    malloc_trim(0);
    free(culprit(block));
}

static void *free_in_thread(void *block) {
    free(block);
    return NULL;
}

static void *free_culprit_in_thread(void *block) {
    free(culprit(block));
    return NULL;
}

static void second_by_another_thread(void) {
    void *block = take(100);
    free(block);
    in_thread(free_culprit_in_thread, block);
}

static void first_by_another_thread(void) {
    void *block = take(100);
    in_thread(free_in_thread, block);
    free(culprit(block));
}

static void both_by_other_threads(void) {
    void *block = take(100);
    in_thread(free_in_thread, block);
    in_thread(free_culprit_in_thread, block);
}

static void of_large_block_by_another_thread(void) {
    void *block = take(3 << 20);
    in_thread(free_in_thread, block);
    free(culprit(block));
}

static void *make_in_thread(void *out) {
    *(void **)out = take(100);
    return NULL;
}

static void of_an_exited_threads_block(void) {
    void *block = NULL;
    in_thread(make_in_thread, &block);
    free(block);
    free(culprit(block));
}

static void *make_and_free_in_thread(void *out) {
    *(void **)out = take(100);
    free(*(void **)out);
    return NULL;
}

static void of_a_block_an_exited_thread_freed(void) {
    void *block = NULL;
    in_thread(make_and_free_in_thread, &block);
    free(culprit(block));
}

/* The neighbours of the dead block die and are born again; the block itself stays dead. */
static void after_reuse_of_neighbours(void) {
    void *blocks[64], *fresh[200];
    size_t count = 0;
    for (size_t i = 0; i < 64; i++)
        blocks[i] = take(112);
    void *dead = blocks[30];
    free(dead);
    for (size_t round = 0; round < 50; round++) {
        free(blocks[29]);
        free(blocks[31]);
        fresh[0] = take(112);
        fresh[1] = take(112);
        fresh[2] = take(112);
        count = 0;
        for (size_t i = 0; i < 3; i++) /* keep two that are not the dead one */
            if (fresh[i] == dead || count == 2)
                free(fresh[i]);
            else
                fresh[count++] = fresh[i];
        blocks[29] = fresh[0];
        blocks[31] = fresh[1];
    }
    free(culprit(dead));
}

static void after_realloc_moved_it(void) {
    void *block = take(100), *moved = realloc(block, 100000);
    if (moved == NULL || moved == hide(block))
        give_up("realloc did not move the block");
    free(culprit(block));
}

static void after_realloc_to_zero(void) {
    void *block = take(100);
    if (realloc(block, (size_t)(uintptr_t)hide(NULL)) != NULL)
        give_up("realloc to zero gave a block");
    free(culprit(block));
}

static void after_realloc_of_a_large_block_moved_it(void) {
    void *block = take(1 << 20), *moved = block;
    void *wall[64];
    for (size_t i = 0; i < 64; i++)
        wall[i] = take(1 << 20);
    for (size_t bytes = 2 << 20; moved == block && bytes < (size_t)1 << 32; bytes *= 2)
        moved = hide(realloc(moved, bytes));
    if (moved == NULL || moved == block || wall[0] == NULL)
        give_up("realloc did not move the block");
    free(culprit(block));
}

static void of_the_parents_dead_block_in_a_forked_child(void) {
    int status = 0;
    void *block = take(100);
    free(block);
    pid_t child = fork();
    if (child == 0) {
        free(culprit(block));
        shared->returned = 1;
        _exit(3);
    }
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
        abort();
}

static void by_operator_delete(void) {
    void *(*create)(size_t) = NULL;
    void (*destroy)(void *) = NULL;
    void *create_entry = dlsym(RTLD_DEFAULT, "_Znwm"),
         *destroy_entry = dlsym(RTLD_DEFAULT, "_ZdlPv");
    if (create_entry == NULL || destroy_entry == NULL)
        give_up("no operator new and delete");
    memcpy(&create, &create_entry, sizeof create);
    memcpy(&destroy, &destroy_entry, sizeof destroy);
    void *block = create(100);
    destroy(block);
    destroy(culprit(block));
}

static void by_free_sized(void) {
    void (*free_with_size)(void *, size_t) = NULL;
    void *entry = dlsym(RTLD_DEFAULT, "free_sized");
    if (entry == NULL)
        give_up("no free_sized");
    memcpy(&free_with_size, &entry, sizeof free_with_size);
    void *block = take(100);
    free_with_size(block, 100);
    free_with_size(culprit(block), 100);
}

static void in_a_key_destructor(void) {
    pthread_key_t key;
    void *block = take(200);
    free(block);
    pthread_key_create(&key, free);
    pthread_setspecific(key, culprit(block));
    pthread_exit(NULL);
}

static const struct misuse cases[] = {
    {"double_free_at_once", at_once, DOUBLE_FREE},
    {"double_free_of_smallest_block", smallest, DOUBLE_FREE},
    {"double_free_of_zero_size_block", zero_size, DOUBLE_FREE},
    {"double_free_of_1000_bytes", of_1000_bytes, DOUBLE_FREE},
    {"double_free_of_a_page", of_a_page, DOUBLE_FREE},
    {"double_free_of_20_kib", of_20_kib, DOUBLE_FREE},
    {"double_free_of_100_kib", of_100_kib, DOUBLE_FREE},
    {"double_free_of_256_kib", of_256_kib, DOUBLE_FREE},
    {"double_free_of_1_mib", of_1_mib, DEAD},
    {"double_free_of_30_mib", of_30_mib, DEAD},
    {"double_free_of_1_gib", of_1_gib, DEAD},
    {"double_free_of_calloc_block", of_calloc, DOUBLE_FREE},
    {"double_free_of_strdup_block", of_strdup, DOUBLE_FREE},
    {"double_free_of_block_aligned_to_64", of_aligned_64, DOUBLE_FREE},
    {"double_free_of_block_aligned_to_4096", of_aligned_4096, DOUBLE_FREE},
    {"double_free_of_block_aligned_to_1_mib", of_aligned_1_mib, DEAD},
    {"double_free_of_posix_memalign_block", of_posix_memalign, DOUBLE_FREE},
    {"double_free_after_a_thousand_calls", delayed, DEAD},
    {"double_free_past_the_caches", delayed_past_the_caches, DEAD},
    {"double_free_after_trim", after_trim, DEAD},
    {"double_free_of_large_block_after_trim", of_large_block_after_trim, DEAD},
    {"double_free_second_by_another_thread", second_by_another_thread, DOUBLE_FREE},
    {"double_free_first_by_another_thread", first_by_another_thread, DOUBLE_FREE},
    {"double_free_both_by_other_threads", both_by_other_threads, DOUBLE_FREE},
    {"double_free_of_large_block_by_another_thread", of_large_block_by_another_thread, DEAD},
    {"double_free_of_an_exited_threads_block", of_an_exited_threads_block, DEAD},
    {"double_free_of_a_block_an_exited_thread_freed", of_a_block_an_exited_thread_freed, DEAD},
    {"double_free_after_reuse_of_neighbours", after_reuse_of_neighbours, DOUBLE_FREE},
    {"double_free_after_realloc_moved_it", after_realloc_moved_it, DOUBLE_FREE},
    {"double_free_after_realloc_to_zero", after_realloc_to_zero, DOUBLE_FREE},
    {"double_free_after_realloc_of_a_large_block", after_realloc_of_a_large_block_moved_it, DEAD},
    {"double_free_of_the_parents_block_in_a_child", of_the_parents_dead_block_in_a_forked_child,
     DOUBLE_FREE},
    {"double_free_by_operator_delete", by_operator_delete, DOUBLE_FREE},
    {"double_free_by_free_sized", by_free_sized, DOUBLE_FREE},
    {"double_free_in_a_key_destructor", in_a_key_destructor, DOUBLE_FREE},
};

int main(int argc, char **argv) {
    return misuse_main(cases, sizeof cases / sizeof cases[0], argc, argv);
}
