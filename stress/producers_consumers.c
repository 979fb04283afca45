/* producers_consumers.c -- blocks made by some threads and freed by others.
 * Purpose     three shapes in turn, or the one that is named: "pairs" (1:1), "mixed" (n producers,
 *             m consumers), "all-to-one". Every free is remote; each ring of cells is fed by a
 *             release and emptied by an acquire, and nothing flows back but through the allocator.
 * Oracle      every block's contents; as many blocks consumed as produced.
 */
#include "stress.h"

#define RING 1024u
#define RINGS_MAX (STRESS_THREADS_MAX / 2)

static stress_cell rings[RINGS_MAX][RING];
static unsigned ring_count;
static unsigned producers;
static size_t block_most;

static void produce(struct stress_thread *t) {
    unsigned at = t->index * 37;
    while (!stress_stopped()) {
        stress_cell *ring = rings[ring_count == 1 ? 0 : t->index % ring_count];
        uint64_t word = stress_make(t, stress_size(t, stress_one_in(t, 64) ? block_most : 2048));
        while (word != 0 && !stress_put(&ring[at % RING], word)) {
            if (++at % RING == 0)
                stress_nap_us(20);
            if (stress_stopped()) {
                stress_drop(t, word);
                word = 0;
            }
        }
        at++;
        stress_noise(t);
    }
}

static void consume(struct stress_thread *t) {
    unsigned first = t->index - producers;
    unsigned empty = 0;
    for (unsigned at = 0; !stress_stopped(); at++) {
        unsigned ring = ring_count == 1 ? 0 : (first + (at / RING)) % ring_count;
        if (ring_count == producers) /* pairs */
            ring = first % ring_count;
        uint64_t word = stress_take(&rings[ring][at % RING]);
        if (word != 0) {
            stress_drop(t, word);
            empty = 0;
        } else if (++empty % RING == 0) {
            stress_nap_us(20);
        }
        stress_noise(t);
    }
}

static void either(struct stress_thread *t) {
    if (t->index < producers)
        produce(t);
    else
        consume(t);
}

static void shape(const char *name, unsigned threads, unsigned from, unsigned through) {
    if (*stress.mode != '\0' && strcmp(stress.mode, name) != 0)
        return;
    producers = from;
    ring_count = through;
    stress_run(*stress.mode != '\0' ? 1.0 : 1.0 / 3, threads, either);
    for (unsigned i = 0; i < ring_count; i++)
        stress_drop_all(&stress_threads[0], rings[i], RING);
}

int main(int argc, char **argv) {
    stress_begin("producers_consumers", argc, argv, "[pairs|mixed|all-to-one]");
    unsigned threads = stress.threads < 2 ? 2 : stress.threads;
    unsigned half = threads / 2;
    block_most = KIB(64);
    shape("pairs", half * 2, half, half);
    unsigned third = threads / 3 == 0 ? 1 : threads / 3;
    shape("mixed", threads, third, third == 1 ? 1 : third - 1);
    shape("all-to-one", threads, threads - 1, 1);
    return stress_end();
}
