/* large_across.c -- large blocks made, resized and freed by different threads.
 * Purpose     256 KiB to 8 MiB: the big cache, claims of slots and of whole SuperSlabs, growth in
 *             place against neighbours' claims, moves by mremap.
 * Oracle      a word in each page; counts; the library's own counts of large blocks.
 */
#include "stress.h"

#define CELLS 48u

static stress_cell cells[CELLS];

static size_t large_size(struct stress_thread *t) {
    size_t most = stress_one_in(t, 12) ? MIB(8) : MIB(1);
    size_t bytes = KIB(256) - 8 + stress_pick(t, most - KIB(256));
    return stress_one_in(t, 3) ? bytes & ~(size_t)65535 : bytes;
}

static void body(struct stress_thread *t) {
    while (!stress_stopped()) {
        uint64_t word = stress_take(&cells[stress_pick(t, CELLS)]);
        if (word == 0 || stress_one_in(t, 3)) {
            if (word != 0)
                stress_drop(t, word);
            word = stress_make(t, large_size(t));
        } else {
            size_t bytes = stress_bytes(word);
            bytes = stress_one_in(t, 2) ? bytes + bytes / 16 + stress_pick(t, KIB(192))
                                        : large_size(t);
            word = stress_resize(t, word, bytes > MIB(8) ? MIB(8) : bytes);
        }
        if (word != 0)
            stress_replace(t, &cells[stress_pick(t, CELLS)], word);
        stress_noise(t);
    }
}

int main(int argc, char **argv) {
    stress_begin("large_across", argc, argv, "");
    stress_run(1.0, stress.threads, body);
    stress_drop_all(&stress_threads[0], cells, CELLS);
    return stress_end();
}
