/* orphans.c -- blocks that outlive their threads, freed by the last one alive.
 * Purpose     wave after wave of threads allocates and ends, one after the other; the survivors free
 *             what the ended ones left while more are ending, and the last frees all the rest.
 * Oracle      every block's contents; counts; RSS bounded over all waves.
 */
#include "stress.h"

#define SHARE 4096u

static stress_cell cells[STRESS_THREADS_MAX / 2][SHARE];
static _Atomic(unsigned) ended;

static void wave_member(struct stress_thread *t) {
    size_t most = stress_one_in(t, 2) ? 512 : 8192;
    size_t count = SHARE * 8 / stress.threads;
    if (count > SHARE)
        count = SHARE;
    for (size_t i = 0; i < count; i++) {
        uint64_t word = stress_make(t, stress_size(t, stress_one_in(t, 1024) ? MIB(1) : most));
        if (word != 0 && !stress_put(&cells[t->index][i], word))
            stress_drop(t, word);
        stress_noise(t);
    }
    /* Thread i waits for i others to end, freeing what they left: the last one finds it all. */
    for (;;) {
        unsigned gone = atomic_load_explicit(&ended, memory_order_relaxed);
        size_t from = stress_pick(t, SHARE);
        for (unsigned i = 0; i < gone && i < t->index; i++)
            stress_drop_all(t, &cells[i][from], from + 64 < SHARE ? 64 : SHARE - from);
        if (gone >= t->index)
            break;
        stress_nap_us(200);
    }
    if (t->index + 1 == stress.threads)
        for (unsigned i = 0; i < stress.threads; i++)
            stress_drop_all(t, cells[i], SHARE);
    atomic_fetch_add_explicit(&ended, 1, memory_order_relaxed);
}

static void *member(void *argument) {
    struct stress_thread *t = argument;
    wave_member(t);
    return NULL;
}

static void waves(struct stress_thread *t) {
    unsigned count = 0;
    for (; !stress_stopped(); count++) {
        atomic_store_explicit(&ended, 0, memory_order_relaxed);
        for (unsigned i = 0; i < stress.threads; i++) {
            struct stress_thread *m = &stress_threads[i];
            int error = pthread_create((pthread_t *)&m->argument, NULL, member, m);
            STRESS_REQUIRE(error == 0, "pthread_create: %s", strerror(error));
        }
        for (unsigned i = 0; i < stress.threads; i++)
            (void)pthread_join((pthread_t)stress_threads[i].argument, NULL);
    }
    (void)t;
    printf("orphans: %u waves of %u threads\n", count, stress.threads);
}

int main(int argc, char **argv) {
    stress_begin("orphans", argc, argv, "");
    stress.at_once = stress.threads;
    stress_run(1.0, 1, waves);
    return stress_end();
}
