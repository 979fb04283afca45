/* heaps_of_threads.c -- which threads have a heap, counted: those that never allocate have none,
 * though glibc frees something in their last moments; those whose first malloc a handler interrupts
 * have one; a key's destructor that runs late still has the heap that its thread had; and what a
 * thread can not leave at its end the next one with its stack takes over.
 */
#include "check.inc"

#include <limits.h>
#include <sched.h>
#include <sys/syscall.h>

enum { CHILD_SECONDS = 60 };

static uint64_t heaps_with_a_thread(void) {
    struct hkm_stats now = library_stats();
    return now.heaps - now.heaps_orphan;
}

/* Until this thread is the only one: a detached thread frees after all that it can tell of. */
static void wait_for_all_threads(void) {
    char text[4096];
    for (long waited = 0; waited < 20000; waited++) {
        file_read("/proc/self/status", text, sizeof text);
        if (strstr(text, "\nThreads:\t1\n") != NULL)
            return;
        sleep_ms(1);
    }
    REQUIRE(0, "the threads did not end");
}

/* ---- threads that do not allocate ---- */

static void *do_nothing(void *argument) { return argument; }

static void start_idle_threads(void) {
    enum { ROUNDS = 10, AT_ONCE = 40 };
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < AT_ONCE; i++) {
            pthread_t thread;
            REQUIRE(pthread_create(&thread, &attributes, do_nothing, NULL) == 0,
                    "pthread_create");
        }
        wait_for_all_threads();
    }
    uint64_t heaps = library_stats().heaps;
    EXPECT(heaps <= 2, "after %d threads that do nothing: expected 2 heaps at most, found %lu",
           ROUNDS * AT_ONCE, (unsigned long)heaps);
    EXPECT(heaps_with_a_thread() <= 1, "expected 1 heap with a thread at most, found %lu",
           (unsigned long)heaps_with_a_thread());
}

static void detached_threads_that_never_allocate_get_no_heap(void) {
    in_child(start_idle_threads, CHILD_SECONDS);
}

/* ---- threads whose first malloc is interrupted ---- */

static int begun, finished, all_done;

static void allocate_in_handler(int signal_number) {
    int saved = errno;
    (void)signal_number;
    free(hide(malloc(100)));
    errno = saved;
}

static void spin(size_t turns) {
    for (size_t i = 0; i < turns; i++)
        __asm__ volatile("" : : : "memory");
}

static void *allocate_first(void *argument) {
    __atomic_store_n(&begun, 1, __ATOMIC_RELEASE);
    spin(2000);
    free(hide(malloc(50)));
    __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
    while (!__atomic_load_n(&all_done, __ATOMIC_ACQUIRE))
        sleep_ms(10); /* so that the next has to make a heap */
    return argument;
}

static void interrupt_first_mallocs(void) {
    static pthread_t threads[400];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 * KIB);
    signal(SIGUSR1, allocate_in_handler);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        begun = finished = 0;
        REQUIRE(pthread_create(&threads[i], &attributes, allocate_first, NULL) == 0,
                "pthread_create");
        while (!__atomic_load_n(&begun, __ATOMIC_ACQUIRE))
            sched_yield();
        spin(i * 7 % 2500); /* at another place each time */
        pthread_kill(threads[i], SIGUSR1);
        while (!__atomic_load_n(&finished, __ATOMIC_ACQUIRE))
            sched_yield();
    }
    __atomic_store_n(&all_done, 1, __ATOMIC_RELEASE);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    EXPECT(heaps_with_a_thread() <= 1, "expected 1 heap with a thread at most, found %lu",
           (unsigned long)heaps_with_a_thread());
}

static void a_handler_amid_a_threads_first_malloc_leaves_it_one_heap(void) {
    in_child(interrupt_first_mallocs, CHILD_SECONDS);
}

/* ---- key destructors that run late ---- */

enum { LATE = 100000 };

static pthread_key_t late_key;
static struct hkm_stats before_late, after_late;

static void free_late(void *argument) {
    void **blocks = argument;
    before_late = library_stats();
    for (size_t i = 0; i < LATE; i++)
        free(blocks[i]);
    after_late = library_stats();
}

static void *allocate_for_later(void *argument) {
    void **blocks = argument;
    for (size_t i = 0; i < LATE; i++) {
        blocks[i] = malloc(16);
        REQUIRE(blocks[i] != NULL, "malloc");
    }
    pthread_setspecific(late_key, blocks);
    return NULL;
}

static void free_in_a_late_destructor(void) {
    static void *blocks[LATE];
    pthread_t thread;
    free(hide(malloc(1))); /* so that the destructor of the allocator's key comes first */
    REQUIRE(pthread_key_create(&late_key, free_late) == 0, "pthread_key_create");
    REQUIRE(pthread_create(&thread, NULL, allocate_for_later, blocks) == 0, "pthread_create");
    pthread_join(thread, NULL);
    uint64_t packets = after_late.remote_packets - before_late.remote_packets;
    uint64_t grown = after_late.bytes_metadata - before_late.bytes_metadata;
    EXPECT(after_late.struct_bytes > 0, "expected the destructor to run");
    EXPECT(packets < LATE / 10, "%d frees: expected few blocks sent home alone, found %lu packets",
           LATE, (unsigned long)packets);
    EXPECT(grown < 2 * MIB, "%d frees: expected metadata for fewer than 2 MiB more, found %.1f MiB",
           LATE, to_mib(grown));
    EXPECT(heaps_with_a_thread() <= 1, "expected 1 heap with a thread at most, found %lu",
           (unsigned long)heaps_with_a_thread());
}

static void a_late_key_destructor_frees_into_the_heap_of_its_thread(void) {
    in_child(free_in_a_late_destructor, CHILD_SECONDS);
}

/* ---- threads that can not leave their heap ---- */

enum { ENDS = 60 };

static int last_round;
static __thread int destructor_round;

static void allocate_in_the_last_rounds(void *argument) {
    if (++destructor_round < last_round)
        pthread_setspecific(late_key, argument);
    else
        free(hide(malloc(100)));
}

static void *allocate_in_a_destructor_only(void *argument) {
    pthread_setspecific(late_key, &late_key);
    return argument;
}

static void *end_by_a_system_call(void *argument) {
    free(hide(malloc(100)));
    syscall(SYS_exit, 0);
    return argument;
}

static void count_heaps_of(void *(*thread_body)(void *), const char *which) {
    uint64_t before = library_stats().heaps;
    for (size_t i = 0; i < ENDS; i++) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, thread_body, NULL) == 0, "pthread_create");
        pthread_join(thread, NULL);
    }
    uint64_t made = library_stats().heaps - before;
    EXPECT(made <= ENDS / 10, "%s: %d threads one after the other: expected few new heaps, found "
           "%lu", which, ENDS, (unsigned long)made);
}

static void end_without_leaving_the_heap(void) {
    free(hide(malloc(1)));
    REQUIRE(pthread_key_create(&late_key, allocate_in_the_last_rounds) == 0, "pthread_key_create");
    for (last_round = 1; last_round <= PTHREAD_DESTRUCTOR_ITERATIONS; last_round++)
        count_heaps_of(allocate_in_a_destructor_only, "first malloc in a key's destructor");
    count_heaps_of(end_by_a_system_call, "ended by exit(2)");
}

static void threads_that_can_not_leave_their_heap_do_not_add_up(void) {
    in_child(end_without_leaving_the_heap, CHILD_SECONDS);
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(detached_threads_that_never_allocate_get_no_heap, 1),
    CHECK(a_handler_amid_a_threads_first_malloc_leaves_it_one_heap, 1),
    CHECK(a_late_key_destructor_frees_into_the_heap_of_its_thread, 1),
    CHECK(threads_that_can_not_leave_their_heap_do_not_add_up, 1),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
