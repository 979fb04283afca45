/* oom.c -- out of memory under load, in child processes that have little.
 * Purpose     three ways to have none, in turn or the one that is named: "space" (RLIMIT_AS: the
 *             reservation is small), "data" (RLIMIT_DATA: the reservation is large and commits
 *             fail), "arena" (the option arena_mib). Threads allocate until NULL, go on trying,
 *             free half, and so on.
 * Oracle      NULL comes with ENOMEM; what is held stays intact, through a realloc that fails too;
 *             when everything has been freed, a third of the limit can be had again at once, in
 *             small blocks and in large ones (an eighth of it where the options limit the arena,
 *             and in a checked build, whose redzones take as much as small blocks do). Under
 *             sanitizers, whose own memory would be limited too, only "arena". A run goes on until
 *             a block was refused, however slow the machine.
 * Order       the threads are there, with their stacks and tables, before anything is limited; the
 *             last of them to come limits, and only then the first block is allocated. So what is
 *             short is the allocator's memory alone.
 */
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "stress.h"

#define HELD 4096u
#define LIMIT MIB(96)

static stress_cell cells[512];
static uint64_t tables[STRESS_THREADS_MAX / 2][HELD];
static uint64_t recovered[LIMIT / 100 / 2];
static const char *mode;
static _Atomic(unsigned) ready;
static _Atomic(bool) go;
static _Atomic(bool) missed; /* some thread was refused a block: until then nothing was shown */

static size_t some_size(struct stress_thread *t) {
    switch (stress_pick(t, 8)) {
    case 0:
        return stress_size(t, MIB(4));
    case 1:
    case 2:
        return stress_size(t, KIB(256));
    default:
        return stress_size(t, 8192);
    }
}

/* A figure of /proc/self/statm: 0 is the address space, 5 data and stacks. */
static size_t memory_figure(unsigned index) {
    char text[160] = {0};
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    STRESS_REQUIRE(fd >= 0 && read(fd, text, sizeof text - 1) > 0, "no /proc/self/statm");
    (void)close(fd);
    char *at = text;
    size_t pages = 0;
    for (unsigned i = 0; i <= index; i++)
        pages = (size_t)strtoull(at, &at, 10);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void limit(__rlimit_resource_t resource, size_t bytes) {
    struct rlimit to = {.rlim_cur = bytes, .rlim_max = bytes};
    STRESS_REQUIRE(setrlimit(resource, &to) == 0, "setrlimit: %s", strerror(errno));
}

/* The arena takes at least half of what address space there is, and its maps. */
static void wait_for_limit(void) {
    if (atomic_fetch_add_explicit(&ready, 1, memory_order_acq_rel) + 1 == stress.threads) {
        if (strcmp(mode, "space") == 0)
            limit(RLIMIT_AS, memory_figure(0) + LIMIT * 2);
        else if (strcmp(mode, "data") == 0)
            limit(RLIMIT_DATA, memory_figure(5) + LIMIT);
        atomic_store_explicit(&go, true, memory_order_release);
    }
    while (!atomic_load_explicit(&go, memory_order_acquire))
        stress_nap_us(1000);
}

static void body(struct stress_thread *t) {
    uint64_t *held = tables[t->index];
    wait_for_limit();
    t->clears = true;
    size_t most = HELD / stress.threads;
    size_t count = 0;
    unsigned misses = 0;
    while (!stress_stopped() || !atomic_load_explicit(&missed, memory_order_relaxed)) {
        bool fill = misses < 40 && count < most;
        if (fill) {
            uint64_t word = stress_make(t, some_size(t));
            if (word != 0)
                held[count++] = word;
            else {
                misses++;
                atomic_store_explicit(&missed, true, memory_order_relaxed);
            }
        } else { /* drop about half, in no order, some through other threads */
            for (size_t i = 0; i < count;) {
                if (stress_one_in(t, 2)) {
                    if (stress_one_in(t, 4))
                        stress_replace(t, &cells[stress_pick(t, COUNT_OF(cells))], held[i]);
                    else
                        stress_drop(t, held[i]);
                    held[i] = held[--count];
                } else {
                    i++;
                }
            }
            misses = 0;
        }
        if (count > 0 && stress_one_in(t, 4)) {
            uint64_t *at = &held[stress_pick(t, count)];
            *at = stress_resize(t, *at, some_size(t));
        }
        stress_noise(t);
    }
    while (count > 0)
        stress_drop(t, held[--count]);
}

/* Everything was freed by threads that ended; `bytes` in blocks of one size must be there again. */
static void recover(struct stress_thread *t, size_t total, size_t bytes) {
    size_t count = total / bytes;
    STRESS_REQUIRE(count <= COUNT_OF(recovered), "too small a table");
    t->clears = true;
    for (size_t i = 0; i < count; i++) {
        recovered[i] = stress_make(t, bytes);
        if (recovered[i] != 0)
            continue;
        struct hkm_stats now = {.struct_bytes = sizeof now};
        (void)hkm_stats_get(&now);
        stress_fail("recovery: of %zu blocks of %zu bytes only %zu, and nothing else is live: "
                    "SuperSlabs %llu+%llu, slots ACTIVE %llu EMPTY %llu, cached %llu bytes, "
                    "big cache %llu, committed %llu",
                    count, bytes, i, (unsigned long long)now.superslabs_live,
                    (unsigned long long)now.superslabs_cached, (unsigned long long)now.slots_active,
                    (unsigned long long)now.slots_empty, (unsigned long long)now.bytes_cached,
                    (unsigned long long)now.bytes_large_cached,
                    (unsigned long long)now.bytes_committed);
    }
    for (size_t i = 0; i < count; i++)
        stress_drop(t, recovered[i]);
}

static _Noreturn void live_as_child(double share) {
    (void)alarm((unsigned)(stress.seconds * 3) + 120);
    if (strcmp(mode, "arena") == 0)
        (void)setenv("HAKMEM_ARENA_MIB", "96", 1);
    stress_run(share, stress.threads, body);
    struct stress_thread *t = &stress_threads[0];
    stress_drop_all(t, cells, COUNT_OF(cells));
    static const size_t sizes[] = {100, 3000, KIB(100), KIB(300), MIB(3)};
    for (unsigned i = 0; i < COUNT_OF(sizes); i++)
        recover(t, stress.tiny_arena || STRESS_CHECKED ? LIMIT / 8 : LIMIT / 3, sizes[i]);
    (void)stress_end();
    (void)fflush(stdout);
    _exit(0);
}

int main(int argc, char **argv) {
    static const char *const modes[] = {"arena", "space", "data"};
    stress_begin("oom", argc, argv, "[arena|space|data]");
    unsigned count = STRESS_SANITIZED ? 1 : COUNT_OF(modes);
    bool named = *stress.mode != '\0';
    for (unsigned i = 0; i < count; i++) {
        if (named && strcmp(stress.mode, modes[i]) != 0)
            continue;
        mode = modes[i];
        printf("oom: %s\n", mode);
        pid_t child = fork();
        STRESS_REQUIRE(child >= 0, "fork: %s", strerror(errno));
        if (child == 0)
            live_as_child(named ? 1.0 : 1.0 / count);
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        STRESS_REQUIRE(status == 0, "%s: the child ended with status %#x", modes[i],
                       (unsigned)status);
    }
    return 0;
}
