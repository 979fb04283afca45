/* replay.c -- plays a program's recorded allocations against the allocator that is loaded.
 * Pattern     whatever the trace holds: hakmem-run --trace=FILE PROGRAM records thread,
 *             operation, size and lifetime of each block (trace/format.h).  Time and resident
 *             memory are those of the allocator and of touching the blocks, not of the program
 *             that was recorded.
 * Arguments   FILE, repetitions, touch (per cent of a new block's pages that are written: 100)
 *             or `--info FILE`: what the trace holds, on one line, without playing it
 * Order       each recorded thread has a thread here (those whose lives do not overlap share
 *             one), and plays its events in order; a block's free waits until the block has been
 *             made, and all threads meet after each WINDOW events, so that the blocks that live
 *             together are about those of the recording.
 * An op       is one event.  Blocks that the recording leaves live are freed untimed.
 * Output      seconds are CPU time of the playing threads, wall_s as a clock sees it; rss_mib is
 *             the peak of resident memory above that before the first event, live_mib the peak of
 *             the live bytes as asked for.
 * Checksum    the sum over freed blocks of what their first words hold: the number of their event.
 */
#include "common.h"

#include <sys/stat.h>

#include "trace/format.h"

#define WINDOW 65536u
#define SPINS_BEFORE_YIELD 64u
#define YIELDS_BEFORE_SLEEP 8u
#define PAGE 4096u

struct event {
    uint64_t stamp;
    uint64_t bytes;
    uint32_t slot;
    uint32_t turn; /* of the slot, when the event finds it */
    uint8_t op;
    uint8_t log2;
    uint16_t worker;
};

struct worker {
    _Alignas(BENCH_LINE_BYTES) struct event *events;
    uint64_t count;
    uint64_t checksum;
    double cpu_seconds;
    pthread_t thread;
    struct bench_span taken;
};

static struct {
    /* the file, and where reading stands */
    const unsigned char *at, *end;
    /* all events by stamp; how many; blocks: the table's size */
    struct event *events;
    uint64_t count;
    uint64_t last_stamp;
    uint32_t slot_count;
    uint64_t live_peak, live_end, blocks_peak;
    uint64_t counts[TRACE_OPS];
    uint64_t ages[64]; /* frees by the log2 of the age */
    uint64_t thread_count;
} trace;

static struct worker *workers;
static size_t worker_count;
/* A slot of the table holds one block after the other, in the recording's order, whoever plays
 * first: its turn is even while it waits for a block and odd while it holds one. */
static uint32_t *slot_turns; /* release in turn_over pairs with acquire in turn_await */
static void **slots;
static uint64_t *slot_sizes; /* of the blocks in them */
static size_t touch;
static pthread_barrier_t barrier;

/* ---- reading ---- */

static uint64_t number(void)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && trace.at < trace.end; shift += 7) {
        unsigned char byte = *trace.at++;
        value |= (uint64_t)(byte & 0x7fu) << shift;
        if ((byte & 0x80u) == 0) return value;
    }
    bench_die(2, "replay: the trace is cut or damaged");
}

static void open_trace(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (file < 0 || fstat(file, &about) != 0) bench_die(2, "replay: cannot read the trace");
    size_t bytes = (size_t)about.st_size;
    char *data = bench_map(bytes);
    for (size_t done = 0; done < bytes;) {
        ssize_t got = read(file, data + done, bytes - done);
        if (got <= 0) bench_die(2, "replay: cannot read the trace");
        done += (size_t)got;
    }
    close(file);
    if (bytes < TRACE_MAGIC_BYTES || memcmp(data, TRACE_MAGIC, TRACE_MAGIC_BYTES) != 0) {
        bench_die(2, "replay: not a trace of hakmem-run --trace (decompress it first?)");
    }
    trace.at = (const unsigned char *)data + TRACE_MAGIC_BYTES;
    trace.end = (const unsigned char *)data + bytes;
}

/* Calls `each` for every event in the file's order; `name` is the block's for those with an age. */
static void for_events(void (*each)(uint64_t thread, struct event event, uint64_t name))
{
    while (trace.at < trace.end) {
        uint64_t thread = number();
        uint64_t stamp = number();
        uint64_t bytes = number();
        if (bytes > (uint64_t)(trace.end - trace.at)) bench_die(2, "replay: the trace is cut");
        const unsigned char *chunk_end = trace.at + bytes;
        while (trace.at < chunk_end) {
            unsigned head = *trace.at++;
            struct event event = { .op = (uint8_t)(head & ((1u << TRACE_OP_BITS) - 1)) };
            uint64_t step = head >> TRACE_OP_BITS;
            uint64_t name = 0;
            stamp += step == TRACE_STEP_FAR ? number() : step;
            event.stamp = stamp;
            switch (event.op) {
            case TRACE_MALLOC:
            case TRACE_CALLOC: event.bytes = number(); break;
            case TRACE_FREE: name = stamp - number(); break;
            case TRACE_REALLOC:
                name = stamp - number();
                event.bytes = number();
                break;
            case TRACE_ALIGNED:
                event.log2 = (uint8_t)(number() & 63u);
                event.bytes = number();
                break;
            case TRACE_END: break;
            default: bench_die(2, "replay: an unknown event");
            }
            each(thread, event, name);
        }
    }
}

static void count_event(uint64_t thread, struct event event, uint64_t name)
{
    (void)name;
    trace.counts[event.op]++;
    if (event.stamp > trace.last_stamp) trace.last_stamp = event.stamp;
    if (thread > trace.thread_count) trace.thread_count = thread;
}

/* By stamp: who played it, and for those with an age the block's name, until slots are given. */
static uint64_t *event_names;
static uint32_t *event_threads;

static void place_event(uint64_t thread, struct event event, uint64_t name)
{
    trace.events[event.stamp] = event;
    event_names[event.stamp] = name;
    event_threads[event.stamp] = (uint32_t)thread;
}

static void live_add(uint64_t bytes, uint64_t *live, uint64_t *blocks)
{
    *live += bytes;
    ++*blocks;
    if (*live > trace.live_peak) trace.live_peak = *live;
    if (*blocks > trace.blocks_peak) trace.blocks_peak = *blocks;
}

/* Gives each block a slot of the table, that freed last first, so that the table stays small. */
static void give_slots(void)
{
    uint64_t stamps = trace.last_stamp + 1;
    uint32_t *slot_of = bench_map(stamps * sizeof *slot_of);
    uint64_t *bytes_of = bench_map(stamps * sizeof *bytes_of);
    uint32_t *spare = bench_map(stamps * sizeof *spare);
    uint32_t *turns = bench_map(stamps * sizeof *turns);
    uint64_t spares = 0;
    uint64_t live = 0, blocks = 0;
    for (uint64_t stamp = 1; stamp < stamps; stamp++) {
        struct event *event = &trace.events[stamp];
        uint64_t name = event_names[stamp];
        if (event_threads[stamp] == 0 || event->op == TRACE_END) continue;
        if (event->op == TRACE_FREE || event->op == TRACE_REALLOC) {
            if (name == 0 || name >= stamp || slot_of[name] == 0) {
                event_threads[stamp] = 0; /* its block is in a part that was not written */
                continue;
            }
            trace.ages[63 - __builtin_clzll(stamp - name)]++;
            live -= bytes_of[name];
            blocks--;
            event->slot = slot_of[name] - 1;
            slot_of[name] = 0;
            if (event->op == TRACE_FREE) spare[spares++] = event->slot;
        } else {
            event->slot = spares > 0 ? spare[--spares] : trace.slot_count++;
        }
        event->turn = turns[event->slot];
        turns[event->slot] += event->op == TRACE_REALLOC ? 2 : 1;
        if (event->op != TRACE_FREE) {
            slot_of[stamp] = event->slot + 1;
            bytes_of[stamp] = event->bytes;
            live_add(event->bytes, &live, &blocks);
        }
    }
    trace.live_end = live;
    munmap(slot_of, stamps * sizeof *slot_of);
    munmap(bytes_of, stamps * sizeof *bytes_of);
    munmap(spare, stamps * sizeof *spare);
    munmap(turns, stamps * sizeof *turns);
}

/* Recorded threads to workers: a worker takes the next thread when its last one's life is over. */
static void give_workers(void)
{
    uint64_t threads = trace.thread_count + 1;
    uint64_t *first = bench_map(threads * sizeof *first);
    uint64_t *last = bench_map(threads * sizeof *last);
    uint16_t *worker_of = bench_map(threads * sizeof *worker_of);
    static uint64_t busy_until[BENCH_THREADS_MAX];
    for (uint64_t stamp = 1; stamp <= trace.last_stamp; stamp++) {
        uint32_t thread = event_threads[stamp];
        if (thread == 0) continue;
        if (first[thread] == 0) first[thread] = stamp;
        last[thread] = stamp;
    }
    for (uint64_t stamp = 1; stamp <= trace.last_stamp; stamp++) {
        uint32_t thread = event_threads[stamp];
        if (thread == 0) continue;
        if (first[thread] == stamp) {
            size_t w = 0;
            while (w < worker_count && busy_until[w] > stamp) w++;
            if (w == worker_count) worker_count++;
            if (worker_count > BENCH_THREADS_MAX) bench_die(2, "replay: too many threads at once");
            busy_until[w] = last[thread];
            worker_of[thread] = (uint16_t)w;
        }
        trace.events[stamp].worker = worker_of[thread];
        trace.count++;
    }
    munmap(first, threads * sizeof *first);
    munmap(last, threads * sizeof *last);
    munmap(worker_of, threads * sizeof *worker_of);
}

static void load(const char *path)
{
    open_trace(path);
    const unsigned char *start = trace.at;
    for_events(count_event);
    trace.at = start;
    uint64_t stamps = trace.last_stamp + 1;
    trace.events = bench_map(stamps * sizeof *trace.events);
    event_names = bench_map(stamps * sizeof *event_names);
    event_threads = bench_map(stamps * sizeof *event_threads);
    for_events(place_event);
    give_slots();
    give_workers();
    workers = bench_map(worker_count * sizeof *workers);
    for (uint64_t stamp = 1; stamp < stamps; stamp++) {
        if (event_threads[stamp] != 0) workers[trace.events[stamp].worker].count++;
    }
    for (size_t w = 0; w < worker_count; w++) {
        workers[w].events = bench_map(workers[w].count * sizeof *workers[w].events);
        workers[w].count = 0;
    }
    for (uint64_t stamp = 1; stamp < stamps; stamp++) {
        struct worker *worker = &workers[trace.events[stamp].worker];
        if (event_threads[stamp] != 0) worker->events[worker->count++] = trace.events[stamp];
    }
    munmap(trace.events, stamps * sizeof *trace.events);
    munmap(event_names, stamps * sizeof *event_names);
    munmap(event_threads, stamps * sizeof *event_threads);
    slots = bench_map(trace.slot_count * sizeof *slots);
    slot_sizes = bench_map(trace.slot_count * sizeof *slot_sizes);
    slot_turns = bench_map(trace.slot_count * sizeof *slot_turns);
    memset(slot_turns, 0, trace.slot_count * sizeof *slot_turns);
    memset(slots, 0, trace.slot_count * sizeof *slots);
    memset(slot_sizes, 0, trace.slot_count * sizeof *slot_sizes);
}

/* ---- playing ---- */

static void pause_for(unsigned *spins)
{
    if (++*spins % SPINS_BEFORE_YIELD != 0) return;
    if (*spins < SPINS_BEFORE_YIELD * YIELDS_BEFORE_SLEEP) {
        sched_yield(); /* alone it would let waiting threads use up their slices */
        return;
    }
    struct timespec moment = { 0, 20000 };
    nanosleep(&moment, NULL);
}

static void turn_await(uint32_t slot, uint32_t turn)
{
    unsigned spins = 0;
    while (__atomic_load_n(&slot_turns[slot], __ATOMIC_ACQUIRE) != turn) pause_for(&spins);
}

static void turn_over(uint32_t slot, uint32_t turn)
{
    __atomic_store_n(&slot_turns[slot], turn, __ATOMIC_RELEASE);
}

static void put_block(uint32_t slot, uint32_t turn, void *block, uint64_t bytes, uint64_t stamp)
{
    turn_await(slot, turn);
    if (bytes >= 8) bench_put(block, 0, stamp);
    slots[slot] = block;
    slot_sizes[slot] = bytes;
    turn_over(slot, turn + 1);
}

static void touch_pages(char *block, uint64_t from, uint64_t to)
{
    if (touch == 0) return;
    uint64_t step = (uint64_t)PAGE * 100 / touch;
    for (uint64_t at = from; at < to; at += step) ((volatile char *)block)[at] = 1;
}

static uint64_t play(struct event event)
{
    uint64_t sum = 0;
    void *block = NULL;
    switch (event.op) {
    case TRACE_MALLOC: block = bench_need(malloc(event.bytes)); break;
    case TRACE_CALLOC: block = bench_need(calloc(1, event.bytes)); break;
    case TRACE_ALIGNED: {
        size_t alignment = (size_t)1 << event.log2;
        if (alignment < sizeof(void *)) alignment = sizeof(void *);
        if (posix_memalign(&block, alignment, event.bytes) != 0) bench_die(3, "out of memory");
        break;
    }
    case TRACE_FREE:
    case TRACE_REALLOC: {
        turn_await(event.slot, event.turn);
        void *old = slots[event.slot];
        uint64_t before = slot_sizes[event.slot];
        if (before >= 8) sum = bench_get(old, 0);
        slots[event.slot] = NULL;
        turn_over(event.slot, event.turn + 1);
        if (event.op == TRACE_FREE) {
            free(old);
            return sum;
        }
        block = bench_need(realloc(old, event.bytes));
        if (event.bytes > before) touch_pages(block, before, event.bytes);
        put_block(event.slot, event.turn + 1, block, event.bytes, event.stamp);
        return sum;
    }
    default: return 0;
    }
    touch_pages(block, 0, event.op == TRACE_CALLOC ? 0 : event.bytes);
    put_block(event.slot, event.turn, block, event.bytes, event.stamp);
    return 0;
}

static double cpu_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void meet(void)
{
    if (worker_count > 1) pthread_barrier_wait(&barrier);
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    uint64_t checksum = 0;
    uint64_t i = 0;
    meet();
    worker->taken.begin = bench_now();
    double cpu_begin = cpu_now();
    for (uint64_t limit = WINDOW; limit < trace.last_stamp + WINDOW; limit += WINDOW) {
        for (; i < worker->count && worker->events[i].stamp <= limit; i++) {
            checksum += play(worker->events[i]);
        }
        meet();
    }
    worker->cpu_seconds = cpu_now() - cpu_begin;
    worker->taken.end = bench_now();
    worker->checksum += checksum;
    return NULL;
}

static uint64_t free_the_rest(void)
{
    uint64_t checksum = 0;
    for (uint32_t slot = 0; slot < trace.slot_count; slot++) {
        if (slots[slot] == NULL) continue;
        if (slot_sizes[slot] >= 8) checksum += bench_get(slots[slot], 0);
        free(slots[slot]);
        slots[slot] = NULL;
    }
    memset(slot_turns, 0, trace.slot_count * sizeof *slot_turns);
    return checksum;
}

/* ---- resident memory: the kernel's high-water mark, set back before the first event ---- */

static void rss_peak_reset(void)
{
    int file = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (file < 0) return;
    (void)!write(file, "5", 1);
    close(file);
}

static size_t rss_high_water(void)
{
    char text[4096];
    int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (file < 0) bench_die(3, "no /proc/self/status");
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length > 0 ? length : 0] = '\0';
    const char *line = strstr(text, "VmHWM:");
    if (line == NULL) bench_die(3, "no VmHWM in /proc/self/status");
    return (size_t)strtoull(line + 6, NULL, 10) << 10;
}

static int print_info(const char *path)
{
    load(path);
    uint64_t frees = trace.counts[TRACE_FREE] + trace.counts[TRACE_REALLOC];
    uint64_t passed = 0;
    unsigned median = 0;
    while (median < 63 && passed + trace.ages[median] < frees / 2) passed += trace.ages[median++];
    bench_print(1,
                "events=%" PRIu64 " threads=%" PRIu64 " at_once=%zu malloc=%" PRIu64
                " calloc=%" PRIu64 " free=%" PRIu64 " realloc=%" PRIu64 " aligned=%" PRIu64
                " live_peak_kib=%" PRIu64 " blocks_peak=%" PRIu64 " live_end_kib=%" PRIu64
                " median_age=%" PRIu64 "\n",
                trace.count, trace.thread_count, worker_count, trace.counts[TRACE_MALLOC],
                trace.counts[TRACE_CALLOC], trace.counts[TRACE_FREE], trace.counts[TRACE_REALLOC],
                trace.counts[TRACE_ALIGNED], trace.live_peak >> 10, trace.blocks_peak,
                trace.live_end >> 10, UINT64_C(1) << median);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "--info") == 0) return print_info(argv[2]);
    if (argc < 2 || strcmp(argv[1], "-h") == 0) {
        bench_print(1, "usage: replay [--info] FILE");
        argc = 1;
    }
    int skip = argc > 1 ? 1 : 0;
    struct bench_args args = bench_args_begin("replay", argc - skip, argv + skip);
    args.help = argc == 1;
    uint64_t repetitions = bench_arg(&args, "repetitions", 1, 1, 1u << 20);
    touch = bench_arg(&args, "touch", 100, 0, 100);
    bench_args_end(&args);

    load(argv[1]);
    if (worker_count == 0) bench_die(2, "replay: the trace holds no events");
    rss_peak_reset();
    size_t rss_before = bench_rss_bytes();
    uint64_t checksum = 0;
    double seconds = 0.0, wall = 0.0;
    for (uint64_t i = 0; i < repetitions; i++) {
        pthread_barrier_init(&barrier, NULL, (unsigned)worker_count);
        struct bench_span whole = { 0.0, 0.0 };
        for (size_t w = 1; w < worker_count; w++) {
            bench_thread_start(&workers[w].thread, worker_main, &workers[w]);
        }
        worker_main(&workers[0]);
        for (size_t w = 0; w < worker_count; w++) {
            if (w > 0) pthread_join(workers[w].thread, NULL);
            bench_span_join(&whole, workers[w].taken);
            seconds += workers[w].cpu_seconds;
        }
        wall += whole.end - whole.begin;
        checksum += free_the_rest();
        pthread_barrier_destroy(&barrier);
    }
    for (size_t w = 0; w < worker_count; w++) checksum += workers[w].checksum;
    char extra[128];
    snprintf(extra, sizeof extra, " wall_s=%.6f rss_mib=%.2f live_mib=%.2f", wall,
             bench_mib(rss_high_water() - rss_before), bench_mib(trace.live_peak));
    bench_report("replay", repetitions * trace.count, seconds, checksum, extra);
    return 0;
}
