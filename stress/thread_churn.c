/* thread_churn.c -- thousands of short threads, whose heaps are adopted by later ones.
 * Purpose     each driver starts threads that allocate a little, take blocks of others from a shared
 *             table, leave some of theirs there, and end; some are waited for, some are not, some
 *             never allocate, some free only. Key destructors allocate after the allocator's own.
 * Oracle      every block's contents; counts; heaps stay near the number of threads alive at once,
 *             and what is not a new heap was an adoption.
 */
#include "stress.h"

#define CELLS 4096u
#define LIVES_MAX (STRESS_THREADS_MAX / 2)

static stress_cell cells[CELLS];
static pthread_key_t late;
static _Atomic(unsigned) alive, most_alive;
static _Atomic(uint64_t) born;

struct life {
    struct stress_thread *t;
    _Atomic(bool) busy;
    unsigned rounds; /* of the destructor */
};
static struct life lives[LIVES_MAX];

/* Runs again until the allocator's destructor has certainly run. */
static void at_thread_end(void *argument) {
    struct life *life = argument;
    uint64_t word = stress_make(life->t, stress_size(life->t, 2048));
    stress_cell *cell = &cells[stress_pick(life->t, CELLS)];
    if (word != 0)
        stress_replace(life->t, cell, word);
    word = stress_take(&cells[stress_pick(life->t, CELLS)]);
    if (word != 0)
        stress_drop(life->t, word);
    if (life->rounds-- > 0) {
        (void)pthread_setspecific(late, life);
        return;
    }
    atomic_fetch_sub_explicit(&alive, 1, memory_order_relaxed);
    atomic_store_explicit(&life->busy, false, memory_order_release);
}

static void *short_life(void *argument) {
    struct life *life = argument;
    struct stress_thread *t = life->t;
    size_t kind = stress_pick(t, 8);
    size_t turns = kind == 0 ? 0 : stress_pick(t, 400);
    for (size_t i = 0; i < turns; i++) {
        stress_cell *cell = &cells[stress_pick(t, CELLS)];
        uint64_t word = kind == 1 || stress_one_in(t, 2)
                            ? 0
                            : stress_make(t, stress_size(t, stress_one_in(t, 64) ? KIB(64) : 2048));
        if (word != 0) {
            stress_replace(t, cell, word);
        } else if ((word = stress_take(cell)) != 0) {
            stress_drop(t, word);
        }
        stress_noise(t);
    }
    life->rounds = (unsigned)stress_pick(t, 3);
    (void)pthread_setspecific(late, life);
    return NULL;
}

static void note_alive(unsigned now) {
    unsigned most = atomic_load_explicit(&most_alive, memory_order_relaxed);
    while (most < now &&
           !atomic_compare_exchange_weak_explicit(&most_alive, &most, now, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

/* The lives of a driver share its random numbers and counters by turns: records of their own. */
static void drive(struct stress_thread *t) {
    unsigned mine = LIVES_MAX / stress.threads;
    if (mine > 8)
        mine = 8;
    pthread_attr_t detached;
    (void)pthread_attr_init(&detached);
    (void)pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (unsigned turn = 0; !stress_stopped(); turn++) {
        struct life *life = &lives[t->index * mine + turn % mine];
        if (atomic_load_explicit(&life->busy, memory_order_acquire)) {
            stress_nap_us(50);
            continue;
        }
        life->t = &stress_threads[STRESS_THREADS_MAX / 2 + (size_t)(life - lives)];
        atomic_store_explicit(&life->busy, true, memory_order_relaxed);
        note_alive(atomic_fetch_add_explicit(&alive, 1, memory_order_relaxed) + 1);
        atomic_fetch_add_explicit(&born, 1, memory_order_relaxed);
        pthread_t id;
        bool wait = stress_one_in(t, 3);
        int error = pthread_create(&id, wait ? NULL : &detached, short_life, life);
        STRESS_REQUIRE(error == 0, "pthread_create: %s", strerror(error));
        if (wait)
            (void)pthread_join(id, NULL);
    }
    (void)pthread_attr_destroy(&detached);
    for (unsigned i = 0; i < mine; i++)
        while (atomic_load_explicit(&lives[t->index * mine + i].busy, memory_order_acquire))
            stress_nap_us(100);
}

int main(int argc, char **argv) {
    stress_begin("thread_churn", argc, argv, "");
    static bool made;
    STRESS_REQUIRE(made || pthread_key_create(&late, at_thread_end) == 0, "pthread_key_create");
    made = true;
    stress_run(1.0, stress.threads, drive);
    stress_drop_all(&stress_threads[0], cells, CELLS);
    struct hkm_stats s = {.struct_bytes = sizeof s};
    (void)hkm_stats_get(&s);
    uint64_t threads = atomic_load_explicit(&born, memory_order_relaxed);
    printf("thread_churn: %llu threads, %llu heaps, %llu adoptions\n", (unsigned long long)threads,
           (unsigned long long)s.heaps, (unsigned long long)s.adoptions);
    /* Each life and each driver has one heap at most; a life that is over may not be gone yet. */
    unsigned most = 2 * (atomic_load_explicit(&most_alive, memory_order_relaxed) + stress.threads);
    STRESS_REQUIRE(stress.soak || s.heaps <= most, "%llu heaps for at most %u threads at a time",
                   (unsigned long long)s.heaps, most / 2);
    STRESS_REQUIRE(stress.soak || s.heaps + s.adoptions + threads / 4 >= threads / 2,
                   "%llu heaps and %llu adoptions for %llu threads", (unsigned long long)s.heaps,
                   (unsigned long long)s.adoptions, (unsigned long long)threads);
    stress.at_once = most / 2;
    return stress_end();
}
