/* common.h -- what every benchmark shares: arguments, clock, random numbers, RSS, the report.
 * Purpose     a benchmark is one .c file that includes this header first and calls plain malloc and
 *             free, so that LD_PRELOAD (or the archive it is linked with) chooses the allocator.
 * Invariants  B1. nothing in here allocates from the allocator under test: arrays that a benchmark
 *                 needs for itself come from bench_map, and the report goes out by write(2).
 *             B2. same arguments, same operations: all chance comes from bench_rng and the seed.
 *             B3. the checksum depends on the operations and on what the blocks held, never on an
 *                 address: it is the same under every allocator (timed programs excepted).
 * Output      one line: NAME ops=N seconds=S mops=R checksum=X [further key=value fields]
 * Arguments   positional, all optional; K, M, G after a number multiply by 1024, 1024^2, 1024^3;
 *             "-h" lists them with defaults and ranges.  Exit: 0 done, 2 bad argument, 3 no memory.
 */
#ifndef HAKMEM_BENCH_COMMON_H
#define HAKMEM_BENCH_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define BENCH_LINE_BYTES 64u /* a cache line, to keep threads' own data apart */
#define BENCH_THREADS_MAX 256u

/* ---- output: formatted on the stack, written at once ---- */

__attribute__((format(printf, 2, 3))) static inline void
bench_print(int fd, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (length < 0) return;
    size_t left = (size_t)length < sizeof line ? (size_t)length : sizeof line - 1;
    const char *next = line;
    while (left > 0) {
        ssize_t done = write(fd, next, left);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return;
        next += done;
        left -= (size_t)done;
    }
}

_Noreturn static inline void bench_die(int status, const char *what)
{
    bench_print(2, "bench: %s\n", what);
    _exit(status);
}

/* ---- arguments ---- */

struct bench_args {
    const char *program;
    int argc;
    char **argv;
    int next;
    int help; /* only list the arguments */
};

static inline struct bench_args bench_args_begin(const char *program, int argc, char **argv)
{
    int help = argc > 1 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0);
    if (help) bench_print(1, "usage: %s", program);
    return (struct bench_args){ program, argc, argv, 1, help };
}

_Noreturn static inline void bench_bad_arg(const struct bench_args *args, const char *name,
                                           const char *text)
{
    bench_print(2, "%s: bad value '%s' for %s (%s -h lists the arguments)\n", args->program, text,
                name, args->program);
    _exit(2);
}

/* The next positional argument as a number in min..max, or its default when there is none. */
static inline uint64_t bench_arg(struct bench_args *args, const char *name, uint64_t otherwise,
                                 uint64_t min, uint64_t max)
{
    if (args->help) {
        bench_print(1, " [%s=%" PRIu64 " (%" PRIu64 "..%" PRIu64 ")]", name, otherwise, min, max);
        return otherwise;
    }
    if (args->next >= args->argc) return otherwise;
    const char *text = args->argv[args->next++];
    char *end = NULL;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    unsigned shift = 0;
    if (*end == 'K') shift = 10;
    if (*end == 'M') shift = 20;
    if (*end == 'G') shift = 30;
    if (shift != 0) end++;
    if (errno != 0 || end == text || *end != '\0' || *text == '-') bench_bad_arg(args, name, text);
    if (value > (UINT64_MAX >> shift)) bench_bad_arg(args, name, text);
    value <<= shift;
    if (value < min || value > max) bench_bad_arg(args, name, text);
    return value;
}

/* The next positional argument as one of the words in `words` (separated by '|'); its index.
 * The first word is the default. */
static inline unsigned bench_arg_word(struct bench_args *args, const char *name, const char *words)
{
    if (args->help) {
        bench_print(1, " [%s: %s]", name, words);
        return 0;
    }
    if (args->next >= args->argc) return 0;
    const char *text = args->argv[args->next++];
    size_t length = strlen(text);
    unsigned index = 0;
    for (const char *word = words; word != NULL && length > 0; index++) {
        const char *bar = strchr(word, '|');
        size_t word_length = bar != NULL ? (size_t)(bar - word) : strlen(word);
        if (word_length == length && memcmp(word, text, length) == 0) return index;
        word = bar != NULL ? bar + 1 : NULL;
    }
    bench_bad_arg(args, name, text);
}

static inline void bench_args_end(struct bench_args *args)
{
    if (args->help) {
        bench_print(1, "\n");
        _exit(0);
    }
    if (args->next < args->argc) {
        bench_print(2, "%s: too many arguments (%s -h lists them)\n", args->program, args->program);
        _exit(2);
    }
}

/* ---- chance: xorshift64*, a few cycles a number ---- */

struct bench_rng {
    uint64_t state;
};

static inline uint64_t bench_rng_next(struct bench_rng *rng)
{
    uint64_t x = rng->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    rng->state = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

/* A generator for stream number `stream` of a seed (splitmix64, so that near seeds differ). */
static inline struct bench_rng bench_rng_seed(uint64_t seed, uint64_t stream)
{
    uint64_t x = seed + (stream + 1) * UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    x ^= x >> 31;
    return (struct bench_rng){ x != 0 ? x : 1 };
}

/* Uniform in 0..count-1 without a division; count below 2^32. */
static inline size_t bench_pick(uint64_t random, size_t count)
{
    return (size_t)(((random >> 32) * (uint64_t)count) >> 32);
}

/* As bench_pick, from the low half: two picks from one random number. */
static inline size_t bench_pick_low(uint64_t random, size_t count)
{
    return (size_t)(((random & UINT32_MAX) * (uint64_t)count) >> 32);
}

/* ---- clock ---- */

static inline double bench_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline void bench_sleep_ms(uint64_t ms)
{
    struct timespec left = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000L };
    while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

/* ---- memory ---- */

/* Zeroed pages straight from the OS, for arrays that must not disturb the allocator. */
static inline void *bench_map(size_t bytes)
{
    void *pages = mmap(NULL, bytes != 0 ? bytes : 1, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) bench_die(3, "mmap failed");
    return pages;
}

static inline void *bench_need(void *block)
{
    if (__builtin_expect(block == NULL, 0)) bench_die(3, "allocation failed");
    return block;
}

/* Keeps the compiler from dropping stores into a block, or a malloc/free pair as a whole. */
static inline void bench_keep(const void *block)
{
    __asm__ volatile("" : : "r"(block) : "memory");
}

static inline void bench_put(void *block, size_t offset, uint64_t word)
{
    memcpy((char *)block + offset, &word, sizeof word);
}

static inline uint64_t bench_get(const void *block, size_t offset)
{
    uint64_t word;
    memcpy(&word, (const char *)block + offset, sizeof word);
    return word;
}

/* Resident bytes of this process; the second field of /proc/self/statm, in pages. */
static inline size_t bench_rss_bytes(void)
{
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0) bench_die(3, "no /proc/self/statm");
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0) bench_die(3, "no /proc/self/statm");
    text[length] = '\0';
    const char *space = strchr(text, ' ');
    if (space == NULL) bench_die(3, "odd /proc/self/statm");
    return (size_t)strtoull(space, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

static inline size_t bench_rss_peak_bytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (size_t)usage.ru_maxrss * 1024u;
}

static inline double bench_mib(size_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0);
}

/* ---- threads ---- */

/* When one thread began and ended.  Each thread takes its own: the main thread, with every CPU
 * busy, wakes from a barrier when the work is well under way. */
struct bench_span {
    double begin;
    double end;
};

/* Widens *whole (zeroed at first) so that it covers `part`. */
static inline void bench_span_join(struct bench_span *whole, struct bench_span part)
{
    if (whole->end <= 0.0 || part.begin < whole->begin) whole->begin = part.begin;
    if (part.end > whole->end) whole->end = part.end;
}

static inline void bench_thread_start(pthread_t *thread, void *(*body)(void *), void *argument)
{
    if (pthread_create(thread, NULL, body, argument) != 0) bench_die(3, "pthread_create failed");
}

/* Pins a thread to the index-th CPU (modulo their number) of those that this process may use. */
static inline void bench_thread_pin(pthread_t thread, size_t index)
{
    cpu_set_t allowed;
    cpu_set_t one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2) return;
    index %= (size_t)CPU_COUNT(&allowed);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || index-- > 0) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        pthread_setaffinity_np(thread, sizeof one, &one);
        return;
    }
}

/* ---- report ---- */

/* Sleeps, then makes a few calls (an allocator without a thread of its own can act only then), and
 * returns what is resident. */
static inline size_t bench_idle_rss_bytes(uint64_t sleep_ms)
{
    bench_sleep_ms(sleep_ms);
    for (unsigned i = 0; i < 100; i++) {
        void *block = bench_need(malloc(64 + i));
        bench_keep(block);
        free(block);
    }
    return bench_rss_bytes();
}

/* The one line; `extra` is "" or further " key=value" fields.  With BENCH_IDLE_MS in the
 * environment also rss_idle, the resident KiB after that time: all programs have freed everything
 * by now. */
static inline void bench_report(const char *name, uint64_t ops, double seconds, uint64_t checksum,
                                const char *extra)
{
    double mops = seconds > 0.0 ? (double)ops / seconds * 1e-6 : 0.0;
    char idle[48] = "";
    const char *idle_ms = getenv("BENCH_IDLE_MS");
    if (idle_ms != NULL) {
        size_t rss = bench_idle_rss_bytes(strtoull(idle_ms, NULL, 10));
        snprintf(idle, sizeof idle, " rss_idle=%zu", rss >> 10);
    }
    bench_print(1, "%s ops=%" PRIu64 " seconds=%.6f mops=%.6g checksum=%016" PRIx64 "%s%s\n", name,
                ops, seconds, mops, checksum, extra, idle);
}

#endif
