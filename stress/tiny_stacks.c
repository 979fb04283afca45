/* tiny_stacks.c -- threads with the smallest stacks that there are.
 * Purpose     PTHREAD_STACK_MIN and a little for this program's own frames: first allocation, every
 *             slow path, the end of the thread. An overflow meets the guard page.
 * Oracle      no SIGSEGV; every block's contents; counts. Sanitizers need larger stacks themselves.
 */
#include <limits.h>

#include "stress.h"

#define CELLS 4096u

static stress_cell cells[CELLS];

static void *small_thread(void *argument) {
    struct stress_thread *t = argument;
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t word = stress_take(&cells[stress_pick(t, CELLS)]);
        if (word != 0 && stress_one_in(t, 2)) {
            stress_drop(t, word);
            word = 0;
        } else if (word != 0) {
            word = stress_resize(t, word, stress_size(t, stress_one_in(t, 64) ? KIB(512) : 8192));
        } else {
            word = stress_make(t, stress_size(t, stress_one_in(t, 64) ? KIB(512) : 4096));
        }
        if (word != 0)
            stress_replace(t, &cells[stress_pick(t, CELLS)], word);
        if (stress_one_in(t, 1000))
            (void)hkm_purge();
        stress_noise(t);
    }
    return NULL;
}

static void drive(struct stress_thread *t) {
    pthread_attr_t small;
    (void)pthread_attr_init(&small);
    size_t bytes = (size_t)PTHREAD_STACK_MIN + (STRESS_SANITIZED ? KIB(240) : 0);
    STRESS_REQUIRE(pthread_attr_setstacksize(&small, bytes) == 0, "a stack of %zu bytes", bytes);
    while (!stress_stopped()) {
        pthread_t id;
        int error = pthread_create(&id, &small, small_thread, t);
        STRESS_REQUIRE(error == 0, "pthread_create: %s", strerror(error));
        (void)pthread_join(id, NULL);
    }
    (void)pthread_attr_destroy(&small);
}

int main(int argc, char **argv) {
    stress_begin("tiny_stacks", argc, argv, "");
    stress_run(1.0, stress.threads, drive);
    stress_drop_all(&stress_threads[0], cells, CELLS);
    return stress_end();
}
