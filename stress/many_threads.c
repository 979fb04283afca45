/* many_threads.c -- 64 threads or more on few processors, most of them asleep at any time.
 * Purpose     a thread works for a while, then sleeps with full magazines and a heap that others
 *             send blocks home to: inboxes that nobody empties, helpers, decay on behalf of idle
 *             owners, preemption in the middle of everything.
 * Oracle      every block's contents; counts; RSS.
 */
#include <sched.h>

#include "stress.h"

#define CELLS 16384u

static stress_cell cells[CELLS];

static void body(struct stress_thread *t) {
    while (!stress_stopped()) {
        size_t turns = 200 + stress_pick(t, 2000);
        bool giver = stress_one_in(t, 2);
        size_t most = stress_one_in(t, 4) ? 16384 : 1024;
        for (size_t i = 0; i < turns && !stress_stopped(); i++) {
            stress_cell *cell = &cells[stress_pick(t, CELLS)];
            uint64_t word = 0;
            if (giver || stress_one_in(t, 4))
                word = stress_make(t, stress_size(t, stress_one_in(t, 400) ? KIB(400) : most));
            if (word != 0)
                stress_replace(t, cell, word);
            else if ((word = stress_take(cell)) != 0)
                stress_drop(t, word);
            stress_noise(t);
        }
        if (stress_one_in(t, 2))
            stress_nap_us((unsigned)stress_pick(t, 50000));
        else
            (void)sched_yield();
    }
}

int main(int argc, char **argv) {
    stress_begin("many_threads", argc, argv, "");
    if (stress.threads < 64)
        stress.threads = 64;
    stress_run(1.0, stress.threads, body);
    stress_drop_all(&stress_threads[0], cells, CELLS);
    return stress_end();
}
