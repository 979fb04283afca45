/* noise.c -- scheduling noise at the allocator's own steps.
 * Purpose     in the builds named *-noise every atomic read-modify-write and every release store of
 *             the allocator calls hkm_noise first (base/atomic.h), which now and then gives the
 *             processor away, sleeps or spins: so two processors show orders of steps that
 *             otherwise need sixty-four.
 * Ordering    adds none. What a thread does depends on its own variables and on two words that are
 *             read and counted up with relaxed atomics, so that ThreadSanitizer sees exactly the
 *             synchronisation that the allocator has without noise.
 * Signals     may interrupt a step and take steps themselves: at worst a number repeats.
 */
#include <sched.h>

#include "stress.h"

void hkm_noise(void);

#if defined(HKM_NOISE) && HKM_NOISE

static _Atomic(uint64_t) seed;
static _Atomic(uint64_t) threads;
static __thread uint64_t state;
static __thread uint32_t left; /* steps until the next noise */

void stress_noise_seed(uint64_t s) { atomic_store_explicit(&seed, s, memory_order_relaxed); }

static uint64_t next_random(void) {
    uint64_t x = state;
    if (x == 0) {
        uint64_t number = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed);
        x = (atomic_load_explicit(&seed, memory_order_relaxed) + number) *
                UINT64_C(0x9E3779B97F4A7C15) |
            1;
    }
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    state = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

static void make_noise(void) {
    int saved = errno;
    uint64_t random = next_random();
    /* Bursts of a few neighbouring steps, then peace for some dozens. */
    left = (random & 3) == 0 ? 1 + (uint32_t)(random >> 8 & 3) : 16 + (uint32_t)(random >> 8 & 255);
    switch (random >> 32 & 15) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4: (void)sched_yield(); break;
    case 5: stress_nap_us((unsigned)(random >> 40 & 127)); break;
    case 6:
        if ((random >> 50 & 15) == 0)
            stress_nap_us(1000);
        break;
    default:
        for (volatile unsigned spins = random >> 40 & 511; spins > 0; spins--) {
        }
    }
    errno = saved;
}

void hkm_noise(void) {
    if (left > 0)
        left--;
    else
        make_noise();
}

#else

void hkm_noise(void) {}

#endif
