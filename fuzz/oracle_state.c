/* oracle_state.c -- operations on the process: options, faults, the clock, statistics, fork.
 * Purpose     see oracle.h. Faults and the clock need a checked build (os/os.h); in a release build
 *             these operations do nothing, and the clock is the system's.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hakmem/hakmem.h>

#include "core/options.h"
#include "harness.h"
#include "oracle.h"
#include "os/os.h"

uint64_t oracle_faults;
uint64_t oracle_reserved;

static struct options options_at_start;
static struct hkm_stats last_stats;
static pthread_key_t late_key;

/* ---- options that may change at any time ---- */

void oracle_option(const struct record *r) {
    static const struct {
        size_t offset;
        uint64_t values[8];
    } CHOICES[8] = {
        {offsetof(struct options, big_cache_mib), {0, 1, 2, 3, 8, 256, 32, 0}},
        {offsetof(struct options, fill_batch), {1, 2, 7, 32, 256, 1024, 256, 64}},
        {offsetof(struct options, drain_interval), {0, 1, 250, 3600000, 10, 250, 60000, 0}},
        {offsetof(struct options, purge_delay_ms), {0, 1, 8, 1000, 3600000, 100, 7, 0}},
        {offsetof(struct options, lru_superslabs), {0, 1, 2, 1024, 524288, 0, 4, 1024}},
        {offsetof(struct options, big_cache_mib), {0, 1, 256, 1048576, 4, 16, 64, 2}},
        {offsetof(struct options, lru_superslabs), {0, 1, 2, 3, 0, 16, 4, 1024}},
        {offsetof(struct options, drain_interval), {0, 1, 250, 3600000, 10, 250, 60000, 0}},
    };
    unsigned i = r->detail % 8;
    uint64_t *option = (uint64_t *)(void *)((char *)&options + CHOICES[i].offset);
    *option = CHOICES[i].values[r->detail / 8 % 8];
}

void oracle_restore_options(void) { options = options_at_start; }

/* ---- faults ---- */

#if HKM_OS_TEST
static struct {
    bool armed;
    int call;             /* or -1: any */
    const char *site;     /* or NULL: any */
    unsigned wait, every; /* 0: once */
    int error;
} fault;

static int fail(enum os_call call, const char *site, size_t bytes) {
    (void)bytes;
    if (!fault.armed || (fault.call >= 0 && fault.call != (int)call) ||
        (fault.site != NULL && strcmp(fault.site, site) != 0))
        return 0;
    if (fault.wait > 0) {
        fault.wait--;
        return 0;
    }
    if (fault.every == 0)
        fault.armed = false;
    else
        fault.wait = fault.every - 1;
    oracle_faults++;
    harness_counts.faults++;
    return fault.error;
}

void oracle_fault(const struct record *r) {
    static const int ERRORS[8] = {ENOMEM, EAGAIN, EINVAL, EACCES, EPERM, EFAULT, ENOSYS, EBUSY};
    static const char *const SITES[8] = {NULL,      "os_commit", "os_purge", "os_renew",
                                         "os_move", "os_huge",   NULL,       "os_commit"};
    static const uint8_t WAITS[16] = {0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 8, 13, 30};
    unsigned detail = r->detail;
    fault.armed = (r->flags & FLAG_OFF) == 0;
    fault.site = SITES[detail % 8];
    fault.call = detail % 8 == 6 ? (int)(detail / 8 % OS_CALLS) : -1;
    fault.error = ERRORS[detail / 64 % 8];
    fault.wait = WAITS[detail / 512 % 16];
    fault.every = (r->flags & FLAG_EACH) != 0 ? 1 : (r->flags & FLAG_THIRD) != 0 ? 3 : 0;
    atomic_put(&os_test.fail, fail, release);
}

bool oracle_fault_is_armed(void) { return fault.armed; }
void oracle_faults_off(void) { fault.armed = false; }

void oracle_advance_clock(uint32_t ms) {
    atomic_put(&os_test.clock_ms, atomic_get(&os_test.clock_ms, relaxed) + ms, relaxed);
}

static void start_clock(void) {
    atomic_put(&os_test.clock_ms, 4290000000u, relaxed); /* it will wrap around some day */
    atomic_put(&os_test.clock_is_virtual, 1, relaxed);
}
#else
void oracle_fault(const struct record *r) { (void)r; }
bool oracle_fault_is_armed(void) { return false; }
void oracle_faults_off(void) {}
void oracle_advance_clock(uint32_t ms) { (void)ms; }
static void start_clock(void) {}
#endif

void oracle_clock(const struct record *r) {
    static const uint32_t STEPS[16] = {1,   4,    15,   16,    125,   250,     251,     1000,
                                       999, 1001, 2000, 10000, 60000, 3600000, 7200000, 86400000};
    oracle_advance_clock(STEPS[r->detail % 16]);
}

/* ---- statistics ---- */

static struct hkm_stats take_stats(void) {
    struct hkm_stats s;
    memset(&s, 0, sizeof s);
    s.struct_bytes = sizeof s;
    expect(hkm_stats_get(&s) == 0 && s.struct_bytes == sizeof s, "hkm_stats_get failed");
    return s;
}

static void only_grows(const char *name, uint64_t was, uint64_t now) {
    expect(now >= was, "%s went from %llu to %llu", name, (unsigned long long)was,
           (unsigned long long)now);
}

static struct hkm_stats check_stats(void) {
    struct hkm_stats s = take_stats();
    uint64_t blocks = s.small_blocks_live + s.large_blocks_live;
    uint64_t bytes = s.small_bytes_live + s.large_bytes_live;
    expect(blocks == model_count(), "%llu blocks are live, statistics say %llu small, %llu large",
           (unsigned long long)model_count(), (unsigned long long)s.small_blocks_live,
           (unsigned long long)s.large_blocks_live);
    expect(bytes == model_usable_bytes(), "%llu bytes are live, statistics say %llu",
           (unsigned long long)model_usable_bytes(), (unsigned long long)bytes);
#define GROWS(field) only_grows(#field, last_stats.field, s.field)
    GROWS(slots_stage[0]);
    GROWS(slots_stage[1]);
    GROWS(slots_stage[2]);
    GROWS(slots_stage[3]);
    GROWS(fills);
    GROWS(flushes);
    GROWS(drains);
    GROWS(remote_frees);
    GROWS(remote_packets);
    GROWS(large_allocs);
    GROWS(large_hits);
    GROWS(adoptions);
    GROWS(bytes_returned);
    GROWS(heaps);
    GROWS(bytes_committed);
    GROWS(bytes_metadata);
    GROWS(calls_mmap);
    GROWS(calls_munmap);
    GROWS(calls_mprotect);
    GROWS(calls_madvise);
    GROWS(calls_mremap);
    expect(s.bytes_reserved == oracle_reserved, "bytes_reserved changed");
    expect(s.heaps_orphan <= s.heaps && s.large_hits <= s.large_allocs &&
               s.remote_packets <= s.remote_frees && s.bytes_committed <= s.bytes_reserved,
           "statistics contradict each other");
    last_stats = s;
    return s;
}

void oracle_stats(void) {
    (void)check_stats();
    struct hkm_stats part;
    memset(&part, 0x5a, sizeof part);
    part.struct_bytes = 48; /* an older program's */
    expect(hkm_stats_get(&part) == 0 && part.struct_bytes == 48 &&
               part.drains == UINT64_C(0x5a5a5a5a5a5a5a5a),
           "hkm_stats_get wrote more than 48 bytes");
    part.struct_bytes = 7;
    expect(hkm_stats_get(&part) == EINVAL, "hkm_stats_get took 7 bytes");
}

/* mallinfo2 (override.c's, see fuzz.mk) against the model and the statistics. */
void oracle_mallinfo(void) {
    struct hkm_stats s = check_stats();
    struct mallinfo2 info = mallinfo2();
    expect(info.uordblks + info.hblkhd == model_usable_bytes(),
           "%llu bytes are live, mallinfo2 says %zu small, %zu large",
           (unsigned long long)model_usable_bytes(), info.uordblks, info.hblkhd);
    expect(info.uordblks == s.small_bytes_live && info.hblks == s.large_blocks_live &&
               info.fordblks == s.bytes_cached + s.bytes_free && info.fsmblks == s.bytes_cached &&
               info.ordblks == s.slots_active + s.slots_empty &&
               info.keepcost == s.bytes_large_cached + s.bytes_free &&
               info.arena == info.uordblks + info.fordblks && info.usmblks == 0 &&
               info.smblks == 0,
           "mallinfo2 and the statistics contradict each other");
}

void oracle_print_stats(void) {
    int saved = dup(2);
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (saved >= 0 && nowhere >= 0 && dup2(nowhere, 2) == 2) {
        hkm_malloc_stats();
        (void)dup2(saved, 2);
    }
    if (saved >= 0)
        (void)close(saved);
    if (nowhere >= 0)
        (void)close(nowhere);
}

void oracle_nothing_is_live(void) {
    struct hkm_stats s = check_stats();
    expect(s.bytes_cached == 0 && s.bytes_large_cached == 0,
           "nothing is live, all is purged: %llu bytes are cached, %llu in the big cache",
           (unsigned long long)s.bytes_cached, (unsigned long long)s.bytes_large_cached);
    expect(s.slots_active == 0 && s.slots_empty == 0 && s.bytes_free == 0,
           "nothing is live, all is purged: %llu runs are active, %llu empty, %llu bytes free",
           (unsigned long long)s.slots_active, (unsigned long long)s.slots_empty,
           (unsigned long long)s.bytes_free);
}

/* A walk reads every page that was ever committed and is not in use. */
#define WALK_BYTES ((uint64_t)64 << 20)

void oracle_allow_walk(void) {
    /* Of a heap that has grown only now and then: it would be most of a fuzzer's time. */
    play.walk_left = harness_counts.runs % 32 == 31 ? UINT64_MAX : 2 * WALK_BYTES;
}

/* The walk over the whole heap; it reports what is broken itself. With check_quiet it looks at
 * everything although there are threads: none of them runs but this one. */
static bool in_forked_child;

void oracle_heap_check(void) {
    uint64_t committed = take_stats().bytes_committed;
    if (committed > play.walk_left)
        return;
    play.walk_left -= committed;
    size_t live = hkm_heap_check();
    bool right = in_forked_child ? live <= model_count() : live == model_count();
    expect(right, "%u blocks are live, hkm_heap_check says %zu", model_count(), live);
}

/* ---- the end of a thread, and of a process's threads ---- */

/* Runs when the heap of the thread is gone already: it borrows one. */
static void late_destructor(void *arg) {
    (void)arg;
    for (unsigned i = 0; i < 3; i++) {
        uint32_t slot = model_next_empty(0);
        if (slot != NO_BLOCK && model_touched < play.touched_end)
            (void)oracle_malloc(slot, (size_t)16 << play.record.detail % 16);
        slot = model_next_live(play.record.slot);
        if (slot != NO_BLOCK)
            oracle_free(slot, OP_FREE);
    }
}

void oracle_leave_for_destructor(unsigned thread) {
    (void)pthread_setspecific(late_key, (void *)(uintptr_t)(thread + 1));
}

/* The child has one thread, and every block. */
static void in_child(const struct record *r) {
    harness_only_this_thread();
    in_forked_child = true;
    play.touched_end = model_touched + ((uint64_t)32 << 20);
    oracle_verify_all();
    for (unsigned i = 0; i < 40; i++) {
        uint32_t slot = model_next_empty(i * 7);
        if (slot != NO_BLOCK)
            (void)oracle_malloc(slot, grammar_class_bytes((r->detail + i * 5) % CLASSES) - i % 3);
        slot = model_next_live((r->slot + i * 3) % FUZZ_SLOTS);
        if (slot != NO_BLOCK)
            oracle_free(slot, OP_FREE);
    }
    oracle_verify_all();
    oracle_stats();
    for (uint32_t slot; (slot = model_next_live(0)) != NO_BLOCK;)
        oracle_free(slot, OP_FREE);
    (void)hkm_purge();
    (void)check_stats();
    oracle_heap_check();
}

void oracle_fork(const struct record *r) {
    if (play.forks_left == 0 || (r->detail & 7) != 0) /* it costs as much as many runs */
        return;
    play.forks_left--;
    pid_t child = fork();
    if (child == 0) {
        in_child(r);
        _exit(0);
    }
    expect(child > 0, "no fork: error %d", errno);
    int status;
    while (waitpid(child, &status, 0) < 0) /* libFuzzer's timer sends signals */
        expect(errno == EINTR, "no child to wait for: error %d", errno);
    expect(status == 0, "the forked child ended with status %#x", (unsigned)status);
}

void oracle_start(void) {
    start_clock();
    void *first = hkm_malloc(1);
    expect(first != NULL, "no memory at the start");
    hkm_free(first);
    /* After the allocator's own key, so that its destructor has run when ours does. */
    (void)pthread_key_create(&late_key, late_destructor);
    options.check_quiet = 1;
    options_at_start = options;
    oracle_reserved = take_stats().bytes_reserved;
}
