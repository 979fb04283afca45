/* trim_against.c -- purge, trim, statistics and questions against allocation.
 * Purpose     most threads allocate and free in bursts, so that SuperSlabs become empty and full
 *             again; others purge, trim, collect statistics and ask about blocks all the time.
 * Oracle      every block's contents (a page purged too early reads as zeros); calloc's zeros; a
 *             thread's own live block is owned and usable; counts.
 */
#include "stress.h"

#define CELLS 2048u
#define BURST 512u

static stress_cell cells[CELLS];

static void burst(struct stress_thread *t, uint64_t *held) {
    size_t most = stress_one_in(t, 8) ? KIB(512) : stress_one_in(t, 2) ? 16384 : 256;
    size_t count = most > 16384 ? 16 : BURST;
    for (size_t i = 0; i < count; i++) {
        held[i] = stress_make(t, stress_size(t, most));
        stress_noise(t);
    }
    for (size_t i = 0; i < count; i++) {
        if (held[i] == 0)
            continue;
        const char *block = stress_block(held[i]);
        if (stress_one_in(t, 16)) {
            size_t bytes = stress_bytes(held[i]);
            STRESS_REQUIRE(hkm_owns(block) && hkm_owns(block + bytes - 1), "%p is not owned", block);
            STRESS_REQUIRE(hkm_malloc_usable_size(block) >= bytes, "%p: usable size", block);
        }
        if (stress_one_in(t, 4))
            stress_replace(t, &cells[stress_pick(t, CELLS)], held[i]);
        else
            stress_drop(t, held[i]);
    }
}

static void meddle(struct stress_thread *t) {
    struct hkm_stats s = {.struct_bytes = sizeof s};
    switch (stress_pick(t, 4)) {
    case 0: (void)hkm_purge(); break;
    case 1: (void)hkm_malloc_trim(stress_pick(t, MIB(4))); break;
    case 2: STRESS_REQUIRE(hkm_stats_get(&s) == 0, "hkm_stats_get failed"); break;
    default: STRESS_REQUIRE(hkm_owns(&s) == 0, "an address on the stack is owned"); break;
    }
    uint64_t word = stress_take(&cells[stress_pick(t, CELLS)]);
    if (word != 0)
        stress_drop(t, word);
    stress_op(t);
    stress_nap_us((unsigned)stress_pick(t, 500));
}

static void body(struct stress_thread *t) {
    uint64_t held[BURST];
    while (!stress_stopped()) {
        if (t->index % 4 == 0)
            meddle(t);
        else
            burst(t, held);
    }
}

int main(int argc, char **argv) {
    stress_begin("trim_against", argc, argv, "");
    stress_run(1.0, stress.threads < 2 ? 2 : stress.threads, body);
    stress_drop_all(&stress_threads[0], cells, CELLS);
    (void)hkm_purge();
    return stress_end();
}
