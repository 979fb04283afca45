/* larson.c -- a server in which each thread hands its blocks to its successor and ends.
 * Purpose     as in Larson and Krishnan's test: a thread replaces random blocks of its array, then
 *             starts its successor with the same array and ends without being waited for, so that
 *             the end of one and the adoption of its heap run beside the other's work.
 * Oracle      every block's contents; counts.
 */
#include <sched.h>

#include "stress.h"

#define BLOCKS 2048u
#define ROUND 4096u

struct chain {
    struct stress_thread *t; /* passed on by pthread_create */
    uint64_t blocks[BLOCKS];
};
static struct chain *chains;
static _Atomic(unsigned) running;

static void *generation(void *argument) {
    struct chain *chain = argument;
    struct stress_thread *t = chain->t;
    for (unsigned i = 0; i < ROUND; i++) {
        uint64_t *at = &chain->blocks[stress_pick(t, BLOCKS)];
        if (*at != 0)
            stress_drop(t, *at);
        *at = stress_make(t, stress_size(t, stress_one_in(t, 256) ? KIB(128) : 4096));
        stress_noise(t);
    }
    if (!stress_stopped()) {
        pthread_t next;
        pthread_attr_t detached;
        (void)pthread_attr_init(&detached);
        (void)pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        int error = pthread_create(&next, &detached, generation, chain);
        STRESS_REQUIRE(error == 0, "pthread_create: %s", strerror(error));
        (void)pthread_attr_destroy(&detached);
    } else {
        atomic_fetch_sub_explicit(&running, 1, memory_order_release);
    }
    return NULL;
}

/* Half of the chains are looked after at the end by a thread that never had anything to do with
 * them. */
static void first_generation(struct stress_thread *t) {
    struct chain *chain = &chains[t->index];
    chain->t = t;
    atomic_fetch_add_explicit(&running, 1, memory_order_relaxed);
    (void)generation(chain);
}

int main(int argc, char **argv) {
    stress_begin("larson", argc, argv, "");
    chains = calloc(stress.threads, sizeof *chains);
    STRESS_REQUIRE(chains != NULL, "no memory for %u chains", stress.threads);
    stress_run(1.0, stress.threads, first_generation);
    while (atomic_load_explicit(&running, memory_order_acquire) != 0)
        stress_nap_us(1000);
    for (unsigned i = 0; i < stress.threads; i++)
        for (unsigned k = 0; k < BLOCKS; k++)
            if (chains[i].blocks[k] != 0)
                stress_drop(&stress_threads[i], chains[i].blocks[k]);
    free(chains);
    return stress_end();
}
