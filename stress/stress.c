/* stress.c -- see stress.h. */
#include "stress.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>

#define TAG_SHIFT 48
#define ADDRESS_MASK ((UINT64_C(1) << TAG_SHIFT) - 1)
#define GRACE_SECONDS 240u /* the machine may be busy */

struct stress stress;
struct stress_thread stress_threads[STRESS_THREADS_MAX];

static _Atomic(bool) stopped;
static double began;
static size_t rss_start;
static _Atomic(int64_t) live_sum;
static _Atomic(int64_t) live_peak; /* right to LIVE_STEP a thread */
#define LIVE_STEP ((int64_t)KIB(64))
static char repeat_line[1536];
static size_t repeat_length;
static unsigned spawned;
static bool pinned;
static bool quiet;
static bool rss_reports;

/* ---- failing ---- */

static void put_text(const char *text, size_t length) {
    while (length > 0) {
        ssize_t done = write(2, text, length);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return;
        text += done;
        length -= (size_t)done;
    }
}

static void say_repeat(void) { put_text(repeat_line, repeat_length); }

void stress_fail(const char *format, ...) {
    char line[512];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    size_t used = length < 0 ? 0 : (size_t)length;
    if (used > sizeof line - 2)
        used = sizeof line - 2;
    line[used++] = '\n';
    put_text("stress: FAILED: ", 16);
    put_text(line, used);
    if (stress.child) {
        say_repeat();
        _exit(66);
    }
    abort();
}

void stress_skip(const char *why) {
    printf("%s: skipped: %s\n", stress.name, why);
    exit(77);
}

static void on_death(int signal_number) {
    static const char hung[] = "stress: FAILED: does not come to an end (hung?)\n";
    if (signal_number == SIGALRM)
        put_text(hung, sizeof hung - 1);
    say_repeat();
    (void)signal(SIGABRT, SIG_DFL);
    (void)signal(signal_number, SIG_DFL);
    (void)raise(signal_number == SIGALRM ? SIGABRT : signal_number);
}

#if STRESS_SANITIZED
void __sanitizer_set_death_callback(void (*callback)(void));
#endif
#if STRESS_TSAN
/* The first report ends the program. Children of a process that has threads go on, unobserved. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "halt_on_error=1:die_after_fork=0"; }
#endif

static void install_handlers(void) {
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    (void)sigaltstack(&alternate, NULL);
    struct sigaction action = {.sa_handler = on_death, .sa_flags = SA_ONSTACK};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGABRT, &action, NULL);
    (void)sigaction(SIGALRM, &action, NULL);
#if STRESS_SANITIZED
    __sanitizer_set_death_callback(say_repeat);
#else
    (void)sigaction(SIGSEGV, &action, NULL);
    (void)sigaction(SIGBUS, &action, NULL);
    (void)sigaction(SIGILL, &action, NULL);
    (void)sigaction(SIGTRAP, &action, NULL);
#endif
}

/* ---- arguments ---- */

static double now_seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double stress_elapsed(void) { return now_seconds() - began; }

static double number_from(const char *name, const char *text, double least, double most) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || value < least || value > most) {
        fprintf(stderr, "%s: bad value \"%s\" for %s\n", stress.name, text, name);
        exit(2);
    }
    return value;
}

static double from_environment(const char *name, double otherwise, double least, double most) {
    const char *text = getenv(name);
    return text == NULL || *text == '\0' ? otherwise : number_from(name, text, least, most);
}

static size_t field_of(const char *path, const char *name) {
    char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        (void)close(fd);
    if (length <= 0)
        return 0;
    text[length] = '\0';
    const char *at = strstr(text, name);
    return at == NULL ? 0 : (size_t)strtoull(at + strlen(name), NULL, 10);
}

static size_t rss_peak_bytes(void) { return field_of("/proc/self/status", "VmHWM:") << 10; }
static size_t rss_bytes(void) { return field_of("/proc/self/status", "VmRSS:") << 10; }

static void make_repeat_line(const char *program) {
    const char *options = getenv("HAKMEM_OPTIONS");
    int length = snprintf(repeat_line, sizeof repeat_line,
                          "stress: repeat with: %s%s%sSTRESS_SECONDS=%g THREADS=%u SEED=%llu%s "
                          "%s%s%s\n",
                          options != NULL ? "HAKMEM_OPTIONS=" : "", options != NULL ? options : "",
                          options != NULL ? " " : "", stress.seconds, stress.threads,
                          (unsigned long long)stress.seed, pinned ? " PIN=1" : "", program,
                          *stress.mode != '\0' ? " " : "", stress.mode);
    repeat_length = length < 0 ? 0 : (size_t)length;
    if (repeat_length >= sizeof repeat_line)
        repeat_length = sizeof repeat_line - 1;
}

/* The number behind `name=` in the options; -1 when it is not among them. */
static long option_value(const char *options, const char *name) {
    const char *at = strstr(options, name);
    return at == NULL || at[strlen(name)] != '=' ? -1 : strtol(at + strlen(name) + 1, NULL, 10);
}

static void read_options(const char *options) {
    if (options == NULL)
        return;
    stress.tiny_arena = strstr(options, "arena_mib") != NULL;
    stress.keeps_more = option_value(options, "purge_delay_ms") > 1000 ||
                        option_value(options, "drain_interval") > 250 ||
                        option_value(options, "prewarm") > 0 ||
                        option_value(options, "quarantine_kib") > 4096 ||
                        strstr(options, "large_pages=on") != NULL;
}

static void start_alarm(void) { (void)alarm((unsigned)(stress.seconds * 3) + GRACE_SECONDS); }

/* The next program of a soak: arguments, handlers and records are there. */
static void begin_again(const char *name, unsigned threads) {
    stress.name = name;
    stress.mode = "";
    stress.threads = threads;
    stress.at_once = spawned = 0;
    start_alarm();
}

void stress_begin(const char *name, int argc, char **argv, const char *modes) {
    static unsigned threads;
    if (stress.soak) {
        begin_again(name, threads);
        return;
    }
    struct timespec clock;
    (void)clock_gettime(CLOCK_REALTIME, &clock);
    stress.name = name;
    stress.mode = "";
    stress.seconds = from_environment("STRESS_SECONDS", 5, 0.01, 1e6);
    stress.threads = (unsigned)from_environment("THREADS", 8, 1, STRESS_THREADS_MAX / 2);
    stress.seed = (uint64_t)from_environment("SEED", 0, 0, 9e15);
    pinned = from_environment("PIN", 0, 0, 1) > 0;
    quiet = getenv("STRESS_QUIET") != NULL;
    const char *rss = getenv("STRESS_RSS");
    rss_reports = rss != NULL && strcmp(rss, "report") == 0;
    for (int option; (option = getopt(argc, argv, "d:t:s:pqh")) != -1;) {
        switch (option) {
        case 'd': stress.seconds = number_from("-d", optarg, 0.01, 1e6); break;
        case 't':
            stress.threads = (unsigned)number_from("-t", optarg, 1, STRESS_THREADS_MAX / 2);
            break;
        case 's': stress.seed = (uint64_t)number_from("-s", optarg, 0, 9e15); break;
        case 'p': pinned = true; break;
        case 'q': quiet = true; break;
        default:
            printf("usage: %s [-d SECONDS] [-t THREADS] [-s SEED] [-p (pin)] [-q] %s\n", name,
                   modes);
            exit(option == 'h' ? 0 : 2);
        }
    }
    if (optind < argc)
        stress.mode = argv[optind];
    if (stress.seed == 0)
        stress.seed = ((uint64_t)clock.tv_sec * 1000000 + (uint64_t)clock.tv_nsec / 1000) %
                          UINT64_C(1000000000) + 1;
    read_options(getenv("HAKMEM_OPTIONS"));
    make_repeat_line(argv[0]);
    install_handlers();
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    began = now_seconds();
    rss_start = rss_bytes();
#if defined(HKM_NOISE) && HKM_NOISE
    stress_noise_seed(stress.seed);
#endif
    threads = stress.threads;
    start_alarm();
    for (unsigned i = 0; i < STRESS_THREADS_MAX; i++)
        stress_thread_init(&stress_threads[i], i);
    printf("%s: threads=%u seed=%llu seconds=%g mode=%s\n", name, stress.threads,
           (unsigned long long)stress.seed, stress.seconds,
           *stress.mode != '\0' ? stress.mode : "(all)");
}

/* ---- threads ---- */

void stress_thread_init(struct stress_thread *t, unsigned index) {
    uint64_t x = stress.seed + (index + 1) * UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    x ^= x >> 31;
    t->random = x != 0 ? x : 1;
    t->index = index;
}

bool stress_stopped(void) { return atomic_load_explicit(&stopped, memory_order_relaxed); }

static void pin(unsigned index) {
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < 2)
        return;
    index %= (unsigned)CPU_COUNT(&allowed);
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || index-- > 0)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        (void)pthread_setaffinity_np(pthread_self(), sizeof one, &one);
        return;
    }
}

static void *run_body(void *argument) {
    struct stress_thread *t = argument;
    if (pinned)
        pin(t->index);
    t->body(t);
    return NULL;
}

struct totals {
    uint64_t ops, made, dropped, nulls;
    int64_t live_bytes;
};

static struct totals add_up(void) {
    struct totals sum = {0};
    for (unsigned i = 0; i < STRESS_THREADS_MAX; i++) {
        const struct stress_thread *t = &stress_threads[i];
        sum.ops += atomic_load_explicit(&t->ops, memory_order_relaxed);
        sum.made += atomic_load_explicit(&t->made, memory_order_relaxed);
        sum.dropped += atomic_load_explicit(&t->dropped, memory_order_relaxed);
        sum.nulls += atomic_load_explicit(&t->nulls, memory_order_relaxed);
        sum.live_bytes += atomic_load_explicit(&t->live_bytes, memory_order_relaxed);
    }
    return sum;
}

static double mib(double bytes) { return bytes / (1024.0 * 1024.0); }

static void monitor(double until) {
    double next = now_seconds() + 1;
    while (now_seconds() < until) {
        stress_nap_us(10000);
        struct totals sum = add_up();
        if (now_seconds() < next)
            continue;
        next += 1;
        if (stress.sample != NULL)
            stress.sample(mib((double)sum.live_bytes), mib((double)rss_bytes()));
        if (!quiet)
            printf("%s: %.0f s, %llu operations, live %.1f MiB, RSS %.1f MiB\n", stress.name,
                   stress_elapsed(), (unsigned long long)sum.ops, mib((double)sum.live_bytes),
                   mib((double)rss_bytes()));
    }
}

void stress_run(double share, unsigned count, void (*body)(struct stress_thread *)) {
    double until = now_seconds() + stress.seconds * share;
    atomic_store_explicit(&stopped, false, memory_order_relaxed);
    if (count > spawned)
        spawned = count;
    for (unsigned i = 0; i < count; i++) {
        struct stress_thread *t = &stress_threads[i];
        t->body = body;
        int error = pthread_create(&t->id, NULL, run_body, t);
        STRESS_REQUIRE(error == 0, "pthread_create: %s", strerror(error));
    }
    monitor(until);
    atomic_store_explicit(&stopped, true, memory_order_relaxed);
    for (unsigned i = 0; i < count; i++)
        (void)pthread_join(stress_threads[i].id, NULL);
    (void)add_up();
}

/* ---- chance ---- */

uint64_t stress_random(struct stress_thread *t) {
    uint64_t x = t->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    t->random = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

size_t stress_size(struct stress_thread *t, size_t most) {
    unsigned doublings = 0;
    while ((most >> 3) >> doublings > 1)
        doublings++;
    size_t base = (size_t)8 << stress_pick(t, doublings + 1);
    uint64_t random = stress_random(t);
    size_t bytes = base + base / 8 * (random & 7);
    switch (random >> 8 & 3) {
    case 0: bytes += 1; break;
    case 1: bytes -= 1; break;
    case 2: bytes += base / 8 * (random >> 16 & 0xff) / 256; break;
    default: break;
    }
    return bytes < 8 ? 8 : bytes > most ? most : bytes;
}

void stress_nap_us(unsigned us) {
    struct timespec nap = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};
    (void)nanosleep(&nap, NULL);
}

void stress_noise(struct stress_thread *t) {
    if ((++t->turns & 63) != 0)
        return;
    uint64_t random = stress_random(t);
    if ((random >> 40 & 15) == 0)
        (void)sched_yield();
    else if ((random >> 40 & 1023) == 1)
        stress_nap_us((unsigned)(random >> 20 & 255));
}

/* ---- blocks ---- */

static uint64_t load(const void *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

void *stress_block(uint64_t word) { return (void *)(uintptr_t)(word & ADDRESS_MASK); }

/* The first word of a block: its length and the tag. */
static uint64_t head_of(uint64_t tag, size_t bytes) { return tag << TAG_SHIFT | bytes; }

size_t stress_bytes(uint64_t word) {
    uint64_t head = load(stress_block(word));
    STRESS_REQUIRE(head >> TAG_SHIFT == word >> TAG_SHIFT,
                   "contents: block %p: first word %016llx, want tag %04llx", stress_block(word),
                   (unsigned long long)head, (unsigned long long)(word >> TAG_SHIFT));
    return head & ADDRESS_MASK;
}

/* Where the words stand that are written and checked: everywhere at both ends, in every page
 * between. */
static size_t next_offset(size_t offset, size_t bytes) {
    if (bytes <= 512 || offset < 128)
        return offset + 8;
    size_t last = (bytes - 64) & ~(size_t)7;
    if (offset >= last)
        return offset + 8;
    return offset + 2040 < last ? offset + 2040 : last;
}

static uint64_t word_at(uint64_t head, size_t offset) {
    return (head + offset) * UINT64_C(0x9E3779B97F4A7C15);
}

static void fill(unsigned char *at, size_t bytes, uint64_t tag) {
    uint64_t head = head_of(tag, bytes);
    memcpy(at, &head, sizeof head);
    for (size_t i = 8; i + 8 <= bytes; i = next_offset(i, bytes)) {
        uint64_t word = word_at(head, i);
        memcpy(at + i, &word, sizeof word);
    }
    for (size_t i = bytes & ~(size_t)7; i < bytes; i++)
        at[i] = (unsigned char)word_at(head, i);
}

/* Of a block that was filled with `bytes`, what lies below `limit`. */
static void verify(const unsigned char *at, size_t bytes, size_t limit, uint64_t tag,
                   const char *when) {
    uint64_t head = head_of(tag, bytes);
    STRESS_REQUIRE(load(at) == head, "contents %s: block %p: first word %016llx, want %016llx", when,
                   (const void *)at, (unsigned long long)load(at), (unsigned long long)head);
    for (size_t i = 8; i + 8 <= limit && i + 8 <= bytes; i = next_offset(i, bytes))
        STRESS_REQUIRE(load(at + i) == word_at(head, i),
                       "contents %s: block %p of %zu bytes: at %zu %016llx, want %016llx", when,
                       (const void *)at, bytes, i, (unsigned long long)load(at + i),
                       (unsigned long long)word_at(head, i));
    for (size_t i = bytes & ~(size_t)7; i < bytes && i < limit; i++)
        STRESS_REQUIRE(at[i] == (unsigned char)word_at(head, i),
                       "contents %s: block %p of %zu bytes: at %zu %02x", when, (const void *)at,
                       bytes, i, at[i]);
}

static void account(struct stress_thread *t, int64_t bytes) {
    int64_t live = atomic_load_explicit(&t->live_bytes, memory_order_relaxed);
    atomic_store_explicit(&t->live_bytes, live + bytes, memory_order_relaxed);
    t->unsaid += bytes;
    if (t->unsaid < LIVE_STEP && t->unsaid > -LIVE_STEP)
        return;
    int64_t sum = atomic_fetch_add_explicit(&live_sum, t->unsaid, memory_order_relaxed) + t->unsaid;
    t->unsaid = 0;
    int64_t most = atomic_load_explicit(&live_peak, memory_order_relaxed);
    while (sum > most &&
           !atomic_compare_exchange_weak_explicit(&live_peak, &most, sum, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

static double peak_live(void) {
    return (double)atomic_load_explicit(&live_peak, memory_order_relaxed);
}

static void bump(_Atomic(uint64_t) *counter) {
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + 1, memory_order_relaxed);
}

static void check_zero(const unsigned char *at, size_t bytes) {
    for (size_t i = 0; i < bytes; i += bytes <= 4096 || i + 64 > bytes ? 1 : 61)
        STRESS_REQUIRE(at[i] == 0, "calloc: block %p of %zu bytes: %02x at %zu", (const void *)at,
                       bytes, at[i], i);
}

static void *allocate(struct stress_thread *t, size_t bytes) {
    uint64_t random = stress_random(t) >> 16;
    size_t alignment = (size_t)16 << (random >> 8 & 7);
    void *block = NULL;
    switch (random & 15) {
    case 0:
        block = hkm_aligned_alloc(alignment, bytes);
        break;
    case 1:
        errno = hkm_posix_memalign(&block, alignment, bytes);
        break;
    case 2:
    case 3:
        block = hkm_calloc(1, bytes);
        if (block != NULL)
            check_zero(block, bytes);
        return block;
    default: return hkm_malloc(bytes);
    }
    STRESS_REQUIRE(((uintptr_t)block & (alignment - 1)) == 0, "alignment: %p for %zu", block,
                   alignment);
    return block;
}

static uint64_t word_of(const void *block, uint64_t tag) {
    return (uint64_t)(uintptr_t)block | tag << TAG_SHIFT;
}

static void null_answer(struct stress_thread *t, const char *call, size_t bytes) {
    int error = errno;
    STRESS_REQUIRE(t->clears || stress.tiny_arena, "%s(%zu): NULL, %s", call, bytes,
                   strerror(error));
    STRESS_REQUIRE(error == ENOMEM, "%s(%zu): NULL with errno %d, want ENOMEM", call, bytes, error);
    bump(&t->nulls);
}

uint64_t stress_make(struct stress_thread *t, size_t bytes) {
    if (bytes < 8)
        bytes = 8;
    stress_op(t);
    errno = 0;
    void *block = allocate(t, bytes);
    if (block == NULL) {
        null_answer(t, "malloc", bytes);
        return 0;
    }
    STRESS_REQUIRE(((uintptr_t)block & 15) == 0 && (uintptr_t)block <= ADDRESS_MASK,
                   "alignment: %p", block);
    uint64_t tag = stress_random(t) >> TAG_SHIFT;
    fill(block, bytes, tag);
    bump(&t->made);
    account(t, (int64_t)bytes);
    return word_of(block, tag);
}

void stress_check(uint64_t word) {
    size_t bytes = stress_bytes(word);
    verify(stress_block(word), bytes, bytes, word >> TAG_SHIFT, "held");
}

void stress_drop(struct stress_thread *t, uint64_t word) {
    size_t bytes = stress_bytes(word);
    unsigned char *at = stress_block(word);
    verify(at, bytes, bytes, word >> TAG_SHIFT, "at free");
    stress_op(t);
    uint64_t gone = 0; /* no later reader may take it for a block */
    memcpy(at, &gone, sizeof gone);
    errno = 4711;
    hkm_free(at);
    STRESS_REQUIRE(errno == 4711, "free changed errno to %d", errno);
    bump(&t->dropped);
    account(t, -(int64_t)bytes);
}

uint64_t stress_resize(struct stress_thread *t, uint64_t word, size_t bytes) {
    if (bytes < 8)
        bytes = 8;
    uint64_t tag = word >> TAG_SHIFT;
    size_t old = stress_bytes(word);
    unsigned char *at = stress_block(word);
    verify(at, old, old, tag, "before realloc");
    stress_op(t);
    errno = 0;
    unsigned char *to = hkm_realloc(at, bytes);
    if (to == NULL) {
        null_answer(t, "realloc", bytes);
        verify(at, old, old, tag, "after a realloc that failed");
        return word;
    }
    verify(to, old, bytes < old ? bytes : old, tag, "after realloc");
    tag = stress_random(t) >> TAG_SHIFT;
    fill(to, bytes, tag);
    account(t, (int64_t)bytes - (int64_t)old);
    return word_of(to, tag);
}

void stress_drop_all(struct stress_thread *t, stress_cell *cells, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint64_t word = stress_take(&cells[i]);
        if (word != 0)
            stress_drop(t, word);
    }
}

/* ---- the end ---- */

static struct hkm_stats stats_now(void) {
    struct hkm_stats s = {.struct_bytes = sizeof s};
    STRESS_REQUIRE(hkm_stats_get(&s) == 0, "hkm_stats_get failed");
    return s;
}

/* T2; threads that were not joined may still be at their end. */
static void check_counts(const struct totals *sum) {
    STRESS_REQUIRE(sum->made == sum->dropped, "count: %llu made, %llu dropped",
                   (unsigned long long)sum->made, (unsigned long long)sum->dropped);
    STRESS_REQUIRE(sum->live_bytes == 0, "count: %lld bytes live", (long long)sum->live_bytes);
    struct hkm_stats s = stats_now();
    for (int tries = 0; tries < 500 && s.small_blocks_live + s.large_blocks_live != 0; tries++) {
        stress_nap_us(10000);
        s = stats_now();
    }
    STRESS_REQUIRE(s.small_blocks_live == 0 && s.large_blocks_live == 0 && s.large_bytes_live == 0,
                   "count: the library has %llu small and %llu large blocks live, want none",
                   (unsigned long long)s.small_blocks_live,
                   (unsigned long long)s.large_blocks_live);
}

/* ---- T3 ---- */

static size_t rss_bound(void) {
    unsigned threads = spawned > stress.at_once ? spawned : stress.at_once;
    size_t each = stress.rss_thread > 0 ? stress.rss_thread : STRESS_RSS_THREAD;
    return (size_t)(STRESS_RSS_MULTIPLE * peak_live()) + threads * each + STRESS_RSS_FIXED;
}

static void check_rss(size_t grown, size_t bound) {
    if (STRESS_SANITIZED || stress.keeps_more || grown <= bound)
        return;
    if (rss_reports) {
        printf("%s: RSS grew by %.1f MiB; the bound is %.1f MiB for %.1f MiB live\n", stress.name,
               mib((double)grown), mib((double)bound), mib(peak_live()));
        return;
    }
    stress_fail("RSS grew by %.1f MiB; the bound is %.1f MiB for %.1f MiB live", mib((double)grown),
                mib((double)bound), mib(peak_live()));
}

int stress_end(void) {
    struct totals sum = add_up();
    size_t peak = rss_peak_bytes();
    struct hkm_stats s = stats_now();
    check_counts(&sum);
    if (stress.soak)
        return 0;
    size_t grown = peak > rss_start ? peak - rss_start : 0;
    size_t bound = rss_bound();
    printf("%s: operations=%llu nulls=%llu remote_frees=%llu "
           "slots=own:%llu,shared:%llu,unused:%llu,superslab:%llu superslabs=%llu+%llu heaps=%llu "
           "adoptions=%llu live_peak=%.1fMiB rss_peak=%.1fMiB rss_bound=%.1fMiB seconds=%.1f\n",
           stress.name, (unsigned long long)sum.ops, (unsigned long long)sum.nulls,
           (unsigned long long)s.remote_frees, (unsigned long long)s.slots_stage[0],
           (unsigned long long)s.slots_stage[1], (unsigned long long)s.slots_stage[2],
           (unsigned long long)s.slots_stage[3], (unsigned long long)s.superslabs_live,
           (unsigned long long)s.superslabs_cached, (unsigned long long)s.heaps,
           (unsigned long long)s.adoptions, mib(peak_live()), mib((double)peak),
           mib((double)(bound + rss_start)), stress_elapsed());
    check_rss(grown, bound);
    printf("%s: ok\n", stress.name);
    return 0;
}
