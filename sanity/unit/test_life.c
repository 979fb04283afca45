/* test_life.c -- the process's start, the ends of threads, and fork. */
#include "unit/unit.inc"

#include <sys/wait.h>

#include "core/life.h"
#include "core/options.h"
#include "hakmem/hakmem.h"

static void *mine(size_t bytes) {
    void *block = hkm_malloc(bytes);
    check(block != NULL);
    return block;
}

Test(life, the_first_slow_path_makes_the_process_ready_and_the_thread_a_heap) {
    check(heap_mine == &heap_none && life_heap_if_any() == NULL && arena.bytes == 0);
    void *block = mine(100);
    check(arena.bytes > 0 && heap_mine != &heap_none && life_heap() == heap_mine);
    check(life_heap_if_any() == heap_mine && heap_count() == 1);
    hkm_free(block);
    check(life_ready() && heap_count() == 1);
}

Test(life, the_arena_has_the_length_that_the_option_asks_for) {
    check(setenv("HAKMEM_ARENA_MIB", "64", 1) == 0);
    check(life_ready() && arena.bytes == MIB(64));
}

Test(life, prewarmed_superslabs_are_warm_from_the_start) {
    check(setenv("HAKMEM_PREWARM", "5", 1) == 0 && life_ready());
    check(superslab_warm_count() == 5 && superslab_idle_dirty() == 5 * SUPERSLAB_BYTES);
}

Test(life, more_prewarmed_superslabs_than_one_batch_are_all_warm) {
    check(setenv("HAKMEM_PREWARM", unit_is_slow() ? "70" : "150", 1) == 0 && life_ready());
    check(superslab_warm_count() == options.prewarm, "%u", superslab_warm_count());
}

static size_t be_first(unsigned number, void *shared) {
    (void)number;
    (void)shared;
    void *block = hkm_malloc(64);
    bool wrong = block == NULL || !life_ready();
    hkm_free(block);
    return wrong;
}

Test(life, eight_threads_that_start_at_once_make_one_arena) {
    check(setenv("HAKMEM_ARENA_MIB", "64", 1) == 0); /* no halving */
    check(unit_run_threads(8, be_first, NULL) == 0);
    /* the checked build keeps a record of each block beside it */
    check(os_call_count(OS_MMAP) == (HKM_CHECK_LEVEL >= 1 ? 2 : 1), "%llu mmap calls",
          (unsigned long long)os_call_count(OS_MMAP));
    check(heap_count() >= 1 && heap_count() <= 8 && heap_orphans() == heap_count());
}

/* ---- threads ---- */

struct seen {
    struct heap *heap;
    void *block;
};

static void *use_a_heap(void *arg) {
    struct seen *seen = arg;
    seen->block = hkm_malloc(500);
    seen->heap = heap_mine;
    return NULL;
}
static struct seen run_thread(void) {
    struct seen seen = {NULL, NULL};
    pthread_t thread;
    check(pthread_create(&thread, NULL, use_a_heap, &seen) == 0 && pthread_join(thread, NULL) == 0);
    check(seen.block != NULL && seen.heap != &heap_none);
    return seen;
}

Test(life, a_threads_end_leaves_an_orphan_that_the_next_thread_adopts) {
    hkm_free(mine(10));
    struct seen first = run_thread();
    check(first.heap != heap_mine && heap_orphans() == 1);
    check(atomic_get(&first.heap->state, relaxed) == HEAP_ORPHAN);
    for (int i = 0; i < 20; i++) {
        struct seen next = run_thread();
        check(next.heap == first.heap && heap_orphans() == 1 && heap_count() == 2, "%d", i);
        hkm_free(next.block);
    }
    check(atomic_get(&first.heap->stats.adoptions, relaxed) == 20);
    hkm_free(first.block);
}

static pthread_key_t late_key;
static ATOMIC(size_t) late_rounds, late_wrong;

static void late(void *arg) {
    if (heap_mine != &heap_gone) { /* wait for the allocator's own destructor */
        (void)pthread_setspecific(late_key, arg);
        return;
    }
    char *block = hkm_malloc(300);
    atomic_add(&late_wrong, block == NULL || life_heap() != NULL, relaxed);
    memset(block, 1, 300);
    hkm_free(block);
    hkm_free(arg);
    char *large = hkm_malloc(MIB(1));
    large = hkm_realloc(large, MIB(2));
    hkm_free(large);
    atomic_add(&late_wrong, heap_mine != &heap_gone, relaxed);
    atomic_add(&late_rounds, 1, relaxed);
}
static size_t end_late(unsigned number, void *shared) {
    (void)shared;
    return pthread_setspecific(late_key, hkm_malloc(100 + number)) != 0;
}

Test(life, a_thread_past_its_end_still_allocates_and_frees_on_a_borrowed_heap) {
    check(pthread_key_create(&late_key, late) == 0);
    for (int round = 0; round < 5; round++)
        check(unit_run_threads(4, end_late, NULL) == 0);
    check(atomic_get(&late_wrong, relaxed) == 0);
    check(atomic_get(&late_rounds, relaxed) == 20, "%zu", (size_t)atomic_get(&late_rounds, relaxed));
    check(heap_orphans() == heap_count());
    struct hkm_stats stats = {.struct_bytes = sizeof stats};
    check(hkm_stats_get(&stats) == 0 && stats.small_blocks_live == 0 && stats.large_blocks_live == 0);
}

/* ---- fork ---- */

static pthread_barrier_t ready, over;
static void *of_thread[4];

static void *stay(void *arg) {
    size_t number = (size_t)(uintptr_t)arg;
    of_thread[number] = hkm_malloc(1000);
    hkm_free(hkm_malloc(50));
    (void)pthread_barrier_wait(&ready);
    (void)pthread_barrier_wait(&over);
    hkm_free(of_thread[number]);
    return NULL;
}

/* Runs in the child: which of its expectations fails first, or 0. */
static int child_of_four(void) {
    if (heap_orphans() != 0)
        return 1; /* nothing happens before the first slow path */
    struct heap *own = heap_mine;
    void *blocks[3000];
    for (int i = 0; i < 3000; i++)
        if ((blocks[i] = hkm_malloc(900)) == NULL)
            return 2;
    if (heap_orphans() != 4 || heap_mine != own)
        return 3;
    for (uint32_t i = 0; i < heap_count(); i++)
        if (atomic_get(&heap_by_number(i)->state, relaxed) !=
            (heap_by_number(i) == own ? HEAP_OWNED : HEAP_ORPHAN))
            return 4;
    for (int i = 0; i < 4; i++)
        hkm_free(of_thread[i]);
    for (int i = 0; i < 3000; i++)
        hkm_free(blocks[i]);
    struct hkm_stats stats = {.struct_bytes = sizeof stats};
    if (hkm_stats_get(&stats) != 0 || stats.small_blocks_live != 0)
        return 5;
    pid_t grandchild = fork();
    if (grandchild == 0) {
        hkm_free(hkm_malloc(5000));
        _exit(heap_orphans() == 4 ? 0 : 1);
    }
    int status;
    return waitpid(grandchild, &status, 0) == grandchild && status == 0 ? 0 : 6;
}

Test(life, a_forked_child_makes_orphans_of_the_heaps_of_the_four_threads_it_does_not_have) {
    pthread_t threads[4];
    hkm_free(mine(10));
    check(pthread_barrier_init(&ready, NULL, 5) == 0 && pthread_barrier_init(&over, NULL, 5) == 0);
    for (size_t i = 0; i < 4; i++)
        check(pthread_create(&threads[i], NULL, stay, (void *)(uintptr_t)i) == 0);
    (void)pthread_barrier_wait(&ready);
    check(heap_count() == 5 && heap_orphans() == 0);
    pid_t child = fork();
    if (child == 0)
        _exit(child_of_four());
    int status;
    check(waitpid(child, &status, 0) == child);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "step %d failed (status %x)",
          WEXITSTATUS(status), status);
    check(heap_orphans() == 0, "the parent's heaps are as they were");
    (void)pthread_barrier_wait(&over);
    for (int i = 0; i < 4; i++)
        check(pthread_join(threads[i], NULL) == 0);
    check(heap_orphans() == 4);
}

/* Runs in the child, whose thread's heap another thread was inside. */
static int child_without_its_heap(struct heap *lost, char *block) {
    if (atomic_get(&lost->state, relaxed) != HEAP_LOST || heap_mine != &heap_none)
        return 1;
    char *large = hkm_malloc(MIB(1));
    if (large == NULL || heap_mine == lost || life_heap() != heap_mine || heap_mine == &heap_none)
        return 2;
    if (atomic_get(&heap_mine->state, relaxed) != HEAP_OWNED)
        return 3;
    for (int i = 0; i < 100; i++)
        if (block[i] != 7)
            return 4;
    hkm_free(block);
    hkm_free(large);
    return 0;
}

Test(life, a_child_whose_heap_another_thread_was_inside_gets_another) {
    char *block = mine(100);
    memset(block, 7, 100);
    struct heap *own = heap_mine;
    atomic_put(&own->lock, os_thread_token() + 1, relaxed); /* as if it were */
    pid_t child = fork();
    if (child == 0)
        _exit(child_without_its_heap(own, block));
    int status;
    check(waitpid(child, &status, 0) == child && status == 0, "status %x", status);
    atomic_put(&own->lock, 0, relaxed);
    check(heap_mine == own && atomic_get(&own->state, relaxed) == HEAP_OWNED);
    hkm_free(block);
}

static void *hold_a_while(void *arg) {
    struct heap *heap = arg;
    bool entered = heap_try_enter(heap);
    (void)pthread_barrier_wait(&ready);
    usleep(100000); /* many more looks at the lock than a child makes that has one thread */
    heap_leave(heap);
    return entered ? heap : NULL;
}

/* Runs in the child, in which another thread of its own is inside a heap. */
static int child_with_a_thread(void) {
    pthread_t thread;
    void *entered;
    hkm_free(hkm_malloc(MIB(1))); /* a slow path: other threads may be from here on */
    struct heap *heap = heap_acquire();
    if (heap == NULL || pthread_barrier_init(&ready, NULL, 2) != 0 ||
        pthread_create(&thread, NULL, hold_a_while, heap) != 0)
        return 1;
    (void)pthread_barrier_wait(&ready);
    if (!heap_enter(heap) || atomic_get(&heap->state, relaxed) != HEAP_OWNED)
        return 2;
    heap_leave(heap);
    return pthread_join(thread, &entered) == 0 && entered == heap ? 0 : 3;
}

Test(life, a_childs_first_thread_waits_for_its_next_one) {
    hkm_free(mine(10));
    pid_t child = fork();
    if (child == 0)
        _exit(child_with_a_thread());
    int status;
    check(waitpid(child, &status, 0) == child && status == 0, "status %x", status);
}

static ATOMIC(bool) stop;

static void *be_busy(void *arg) {
    void *blocks[64] = {NULL};
    uint64_t state = unit_seed() + (uint64_t)(uintptr_t)arg;
    while (!atomic_get(&stop, relaxed)) {
        size_t k = unit_below(&state, 64);
        hkm_free(blocks[k]);
        blocks[k] = hkm_malloc(unit_below(&state, KIB(40)));
    }
    for (int k = 0; k < 64; k++)
        hkm_free(blocks[k]);
    return NULL;
}

Test(life, children_forked_from_a_busy_process_allocate_and_find_each_heap_orphan_or_lost) {
    pthread_t threads[4];
    hkm_free(mine(10));
    for (size_t i = 0; i < 4; i++)
        check(pthread_create(&threads[i], NULL, be_busy, (void *)(uintptr_t)i) == 0);
    while (heap_count() < 5)
        (void)usleep(1000);
    for (size_t round = unit_repeats(60, 5); round > 0; round--) {
        pid_t child = fork();
        if (child == 0) {
            (void)alarm(60);
            bool wrong = false;
            for (size_t bytes = 1; bytes < MIB(1); bytes = bytes * 3 / 2 + 1) {
                char *block = hkm_malloc(bytes);
                wrong = wrong || block == NULL;
                memset(block, 5, bytes);
                hkm_free(block);
            }
            for (uint32_t i = 0; i < heap_count(); i++) {
                struct heap *heap = heap_by_number(i);
                bool owned = atomic_get(&heap->state, relaxed) == HEAP_OWNED;
                wrong = wrong || owned != (heap == heap_mine);
            }
            _exit(wrong);
        }
        int status;
        check(waitpid(child, &status, 0) == child && status == 0, "status %x", status);
    }
    atomic_put(&stop, true, relaxed);
    for (int i = 0; i < 4; i++)
        check(pthread_join(threads[i], NULL) == 0);
}
