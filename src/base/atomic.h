/* atomic.h -- the one door to atomic operations.
 * Purpose     every atomic access in the tree is one of these words with its order spelled out,
 *             so that the same source can run under a schedule explorer. Nothing else includes
 *             <stdatomic.h>.
 * Ordering    no fences between threads (ThreadSanitizer can not see them), and no seq_cst: each
 *             release names its acquire where it stands.
 */
#ifndef HKM_BASE_ATOMIC_H
#define HKM_BASE_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* In the noise builds of stress/ a step that others can see may be delayed before it is taken:
 * every read-modify-write and every release store. Elsewhere it costs nothing. */
#if defined(HKM_NOISE) && HKM_NOISE
void hkm_noise(void);
#define NOISE hkm_noise()
#else
#define NOISE ((void)0)
#endif
#define NOISE_relaxed ((void)0)
#define NOISE_release NOISE

#define ATOMIC(T) _Atomic(T)
#define atomic_get(p, order) atomic_load_explicit((p), memory_order_##order)
#define atomic_put(p, v, order) \
    (NOISE_##order, atomic_store_explicit((p), (v), memory_order_##order))
#define atomic_swap(p, v, order) (NOISE, atomic_exchange_explicit((p), (v), memory_order_##order))
#define atomic_add(p, v, order) (NOISE, atomic_fetch_add_explicit((p), (v), memory_order_##order))
#define atomic_sub(p, v, order) (NOISE, atomic_fetch_sub_explicit((p), (v), memory_order_##order))
#define atomic_or(p, v, order) (NOISE, atomic_fetch_or_explicit((p), (v), memory_order_##order))
#define atomic_and(p, v, order) (NOISE, atomic_fetch_and_explicit((p), (v), memory_order_##order))

/* Compare and swap; on failure *expected holds what was found. May not fail spuriously. */
#define atomic_cas(p, expected, desired, success, failure)            \
    (NOISE, atomic_compare_exchange_strong_explicit(                  \
                (p), (expected), (desired), memory_order_##success, memory_order_##failure))
#define atomic_cas_weak(p, expected, desired, success, failure)       \
    (NOISE, atomic_compare_exchange_weak_explicit(                    \
                (p), (expected), (desired), memory_order_##success, memory_order_##failure))

/* A counter with one writer at a time: readers may look at any moment, nobody pays for a
 * read-modify-write. */
#define counter_add(p, n) atomic_put((p), atomic_get((p), relaxed) + (n), relaxed)

/* Keeps what stands before it before what stands behind it, for a signal handler of the same
 * thread. No instruction. */
#define signal_fence() atomic_signal_fence(memory_order_seq_cst)

/* cpu_fetch_to_write: soon the line at p will be written to. For x86-64 compilers have a read here
 * unless told that there is prefetchw: a line that another CPU wrote to would come twice. Every
 * such processor knows the instruction, or takes it for none. */
#if defined(__x86_64__)
#define cpu_pause() __builtin_ia32_pause()
#define cpu_fetch_to_write(p) __asm__ volatile("prefetchw %0" : : "m"(*(const char *)(p)))
#elif defined(__aarch64__)
#define cpu_pause() __asm__ volatile("yield")
#define cpu_fetch_to_write(p) __builtin_prefetch((p), 1)
#else
#define cpu_pause() ((void)0)
#define cpu_fetch_to_write(p) __builtin_prefetch((p), 1)
#endif

#endif
