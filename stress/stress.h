/* stress.h -- what the stress programs share: arguments, threads, blocks with an oracle, the report.
 * Purpose     a stress program is one .c file with a plain main, linked with libhkm of any build,
 *             that drives hkm_* with many threads for STRESS_SECONDS and then answers for every
 *             block.
 *
 *     int main(int argc, char **argv) {
 *         stress_begin("name", argc, argv, "");    arguments, handlers, seed
 *         stress_run(1.0, stress.threads, body);   body(thread) until stress_stopped()
 *         ... drop what is left in shared tables ...
 *         stress_end();                            counts, RSS bound, the closing line
 *     }
 *
 * Invariants  T1. a block travels as one word, its address and a 16-bit tag; length and contents
 *                 follow from the block's first word and the tag, so that whoever takes the word
 *                 can check all of it, and two holders of one block do not agree on it
 *             T2. made == dropped at the end, and hkm_stats_get says that nothing is live
 *             T3. peak RSS - RSS at the start <= 2 * peak live bytes + 4 MiB for each thread that
 *                 is alive at once + 8 MiB (STRESS_RSS_*; in a checked build 4 times, 4 MiB and
 *                 32 MiB). A run and a magazine of each of the 84 classes are 16 MiB: 4 MiB says
 *                 that a thread keeps a quarter of that, `rss_thread` that a program needs more.
 *                 Not under a sanitizer, whose shadow it would count, and not under options that
 *                 are there to keep more.
 *             T4. nothing here allocates from hkm_* but stress_make and stress_resize
 * Ordering    words pass between threads by a release that puts and an acquire that takes, and by
 *             nothing else while the threads run: a cell that was emptied is seen so by a relaxed
 *             load. What orders a free before the next use of the block is the allocator's own, or
 *             TSan says so. No fences, no locks, no seq_cst.
 * Noise       the builds named *-noise have scheduling noise at the allocator's own steps (noise.c).
 * Environment STRESS_SECONDS (5), THREADS (8), SEED (from the clock), PIN (0; 1 pins thread i to
 *             processor i), STRESS_QUIET (no progress); options -d, -t, -s, -p, -q likewise.
 *             STRESS_RSS=report makes T3 a line in the report instead of a failure.
 */
#ifndef HAKMEM_STRESS_H
#define HAKMEM_STRESS_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hakmem/hakmem.h"

#if defined(__SANITIZE_THREAD__)
#define STRESS_TSAN 1
#define STRESS_SANITIZED 1
#elif defined(__SANITIZE_ADDRESS__)
#define STRESS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STRESS_TSAN 1
#define STRESS_SANITIZED 1
#elif __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define STRESS_SANITIZED 1
#endif
#endif
#ifndef STRESS_TSAN
#define STRESS_TSAN 0
#endif
#ifndef STRESS_SANITIZED
#define STRESS_SANITIZED 0
#endif

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define STRESS_THREADS_MAX 1024u
/* The checked library keeps a record and redzones for each block, and a quarantine. */
#define STRESS_CHECKED (HKM_CHECK > 0)
#define STRESS_RSS_MULTIPLE (STRESS_CHECKED ? 4.0 : 2.0)
#define STRESS_RSS_THREAD MIB(4)
#define STRESS_RSS_FIXED MIB(STRESS_CHECKED ? 32 : 8)

typedef _Atomic(uint64_t) stress_cell; /* 0, or a block's word */

struct stress_thread {
    _Alignas(64) uint64_t random;
    unsigned index;
    unsigned turns; /* of stress_noise */
    int64_t unsaid; /* bytes by which the sum of all does not know of this thread's yet */
    bool clears;    /* NULL is an answer: out of memory is what is being tested */
    void (*body)(struct stress_thread *);
    void *argument;
    pthread_t id;
    /* one writer, read by the monitor */
    _Atomic(uint64_t) ops, made, dropped, nulls;
    _Atomic(int64_t) live_bytes;
};

struct stress {
    const char *name;
    unsigned threads;
    double seconds;
    uint64_t seed;
    const char *mode;  /* the first word that is no option; "" if there is none */
    bool tiny_arena;   /* HAKMEM_OPTIONS limits the arena: NULL is an answer for everyone */
    bool keeps_more;   /* HAKMEM_OPTIONS asks for more memory to be kept */
    size_t rss_thread; /* what T3 allows a thread, if not STRESS_RSS_THREAD */
    unsigned at_once;  /* threads alive at once, if more than stress_run started (T3) */
    bool child;        /* in a forked child: failures end it with 66 */
    bool soak; /* one program of many in a process that goes on (soak.c): no T3 at its end */
    void (*sample)(double live_mib, double rss_mib); /* called once a second while threads run */
};
extern struct stress stress;
extern struct stress_thread stress_threads[STRESS_THREADS_MAX];

/* Reads options and environment; exits with 77 if the program can not run under this build. */
void stress_begin(const char *name, int argc, char **argv, const char *modes);
/* Runs `count` threads for a share of the time and joins them; the caller monitors meanwhile. */
void stress_run(double share, unsigned count, void (*body)(struct stress_thread *));
bool stress_stopped(void);
/* Seconds since the program began. */
double stress_elapsed(void);
/* Checks T2 and T3 and prints the closing line; returns main's result. */
int stress_end(void);
_Noreturn void stress_skip(const char *why);

__attribute__((format(printf, 1, 2))) _Noreturn void stress_fail(const char *format, ...);
#define STRESS_REQUIRE(condition, ...) \
    do {                               \
        if (!(condition))              \
            stress_fail(__VA_ARGS__);  \
    } while (0)

#if defined(HKM_NOISE) && HKM_NOISE
/* Scheduling noise in this build's allocator (noise.c) goes by this seed. */
void stress_noise_seed(uint64_t seed);
#endif

/* Initializes a record for a thread that stress_run does not make. */
void stress_thread_init(struct stress_thread *t, unsigned index);

/* ---- chance ---- */
uint64_t stress_random(struct stress_thread *t);
static inline size_t stress_pick(struct stress_thread *t, size_t count) {
    return (size_t)(((stress_random(t) >> 32) * (uint64_t)count) >> 32);
}
static inline bool stress_one_in(struct stress_thread *t, size_t count) {
    return stress_pick(t, count) == 0;
}
/* 8..most: each doubling as likely as the next, and often a class boundary or next to it. */
size_t stress_size(struct stress_thread *t, size_t most);
/* Now and then gives the processor away, or sleeps for some microseconds. */
void stress_noise(struct stress_thread *t);
void stress_nap_us(unsigned us);

/* ---- blocks (T1) ---- */

/* A block of at least 8 bytes from some entry point, its contents written; 0 when the answer was
 * NULL, which must be allowed. */
uint64_t stress_make(struct stress_thread *t, size_t bytes);
/* Verifies length, contents and alignment of a block. */
void stress_check(uint64_t word);
/* Verifies and frees. */
void stress_drop(struct stress_thread *t, uint64_t word);
/* Verifies, resizes, verifies what must have been kept, writes anew; the word itself, contents
 * untouched, when the answer was NULL. */
uint64_t stress_resize(struct stress_thread *t, uint64_t word, size_t bytes);
void *stress_block(uint64_t word);
size_t stress_bytes(uint64_t word);

/* ---- cells ---- */
static inline uint64_t stress_take(stress_cell *cell) {
    if (atomic_load_explicit(cell, memory_order_relaxed) == 0)
        return 0;
    return atomic_exchange_explicit(cell, 0, memory_order_acquire);
}
/* False when the cell is not empty. */
static inline bool stress_put(stress_cell *cell, uint64_t word) {
    uint64_t empty = 0;
    return atomic_load_explicit(cell, memory_order_relaxed) == 0 &&
           atomic_compare_exchange_strong_explicit(cell, &empty, word, memory_order_release,
                                                   memory_order_relaxed);
}
/* Puts into a random cell and drops what stood there. */
static inline void stress_replace(struct stress_thread *t, stress_cell *cell, uint64_t word) {
    uint64_t old = atomic_exchange_explicit(cell, word, memory_order_acq_rel);
    if (old != 0)
        stress_drop(t, old);
}
void stress_drop_all(struct stress_thread *t, stress_cell *cells, size_t count);

static inline void stress_op(struct stress_thread *t) {
    uint64_t ops = atomic_load_explicit(&t->ops, memory_order_relaxed);
    atomic_store_explicit(&t->ops, ops + 1, memory_order_relaxed);
}

#endif
