/* exchange.c -- blocks in a shared table that every thread puts into and takes from at random.
 * Purpose     any block may be freed by any thread; the table's hot part makes threads meet.
 * Oracle      every block's contents, by whoever takes it; counts.
 */
#include "stress.h"

#define CELLS 32768u
#define HOT 64u

static stress_cell cells[CELLS];

static void body(struct stress_thread *t) {
    while (!stress_stopped()) {
        stress_cell *cell = &cells[stress_pick(t, stress_one_in(t, 4) ? HOT : CELLS)];
        if (stress_one_in(t, 3)) {
            uint64_t word = stress_take(cell);
            if (word != 0)
                stress_drop(t, word);
        } else {
            uint64_t word = stress_make(t, stress_size(t, stress_one_in(t, 512) ? KIB(512) : 4096));
            if (word != 0)
                stress_replace(t, cell, word);
        }
        stress_noise(t);
    }
}

int main(int argc, char **argv) {
    stress_begin("exchange", argc, argv, "");
    stress_run(1.0, stress.threads, body);
    stress_drop_all(&stress_threads[0], cells, CELLS);
    return stress_end();
}
