/* realloc_across.c -- blocks resized by threads that did not make them.
 * Purpose     a thread takes a block from a shared table, grows or shrinks it, across the border
 *             between classes and large blocks too, and puts it back for others. Each thread
 *             uses every class, and a block seldom stays where it was made: the worst there is for
 *             memory that threads keep apart.
 * Oracle      contents before, what realloc must keep, contents after; counts.
 */
#include "stress.h"

#define CELLS 512u

static stress_cell cells[CELLS];

static size_t new_size(struct stress_thread *t, size_t old) {
    size_t most = MIB(2);
    size_t bytes;
    switch (stress_pick(t, 6)) {
    case 0: bytes = old + 1 + stress_pick(t, old); break;
    case 1: bytes = old - stress_pick(t, old / 2 + 1); break;
    case 2: bytes = old + old / 8; break;
    case 3: bytes = KIB(256) - 64 + stress_pick(t, 128); break;
    default: bytes = stress_size(t, stress_one_in(t, 8) ? most : KIB(16)); break;
    }
    return bytes > most ? most : bytes;
}

static void body(struct stress_thread *t) {
    while (!stress_stopped()) {
        uint64_t word = stress_take(&cells[stress_pick(t, CELLS)]);
        if (word == 0)
            word = stress_make(t, stress_size(t, stress_one_in(t, 16) ? MIB(1) : KIB(8)));
        else if (stress_one_in(t, 16)) {
            stress_drop(t, word);
            word = 0;
        } else {
            word = stress_resize(t, word, new_size(t, stress_bytes(word)));
        }
        if (word != 0)
            stress_replace(t, &cells[stress_pick(t, CELLS)], word);
        stress_noise(t);
    }
}

int main(int argc, char **argv) {
    stress_begin("realloc_across", argc, argv, "");
    stress.rss_thread = MIB(8);
    stress_run(1.0, stress.threads, body);
    stress_drop_all(&stress_threads[0], cells, CELLS);
    return stress_end();
}
