/* oom.c -- out of memory under load, in child processes that have little.
 * Purpose     three ways to have none, in turn or the one that is named: "space" (RLIMIT_AS: the
 *             reservation is small), "data" (RLIMIT_DATA: the reservation is large and commits
 *             fail), "arena" (the option arena_mib). Threads allocate until NULL, go on trying,
 *             free half, and so on.
 * Oracle      NULL comes with ENOMEM; what is held stays intact, through a realloc that fails too;
 *             when everything has been freed, half of the most that was ever live can be had again
 *             at once, in small blocks and in large ones. Under sanitizers, whose own memory would
 *             be limited too, only "arena".
 */
#include <sys/resource.h>
#include <sys/wait.h>

#include "stress.h"

#define HELD 4096u
#define LIMIT MIB(96)

static stress_cell cells[512];

static size_t some_size(struct stress_thread *t) {
    switch (stress_pick(t, 8)) {
    case 0: return stress_size(t, MIB(4));
    case 1:
    case 2: return stress_size(t, KIB(256));
    default: return stress_size(t, 8192);
    }
}

static void body(struct stress_thread *t) {
    uint64_t *held = calloc(HELD, sizeof *held);
    STRESS_REQUIRE(held != NULL, "no memory for the table");
    t->clears = true;
    size_t count = 0;
    unsigned misses = 0;
    while (!stress_stopped()) {
        bool fill = misses < 40 && count < HELD;
        if (fill) {
            uint64_t word = stress_make(t, some_size(t));
            if (word != 0)
                held[count++] = word;
            else
                misses++;
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
    free(held);
}

/* Everything was freed by threads that ended; `bytes` in blocks of one size must be there again. */
static void recover(struct stress_thread *t, size_t total, size_t bytes) {
    size_t count = total / bytes;
    uint64_t *held = calloc(count + 1, sizeof *held);
    STRESS_REQUIRE(held != NULL, "no memory for the table");
    t->clears = true;
    for (size_t i = 0; i < count; i++) {
        held[i] = stress_make(t, bytes);
        STRESS_REQUIRE(held[i] != 0,
                       "recovery: nothing is live, but of %zu blocks of %zu bytes only %zu", count,
                       bytes, i);
    }
    for (size_t i = 0; i < count; i++)
        stress_drop(t, held[i]);
    free(held);
}

static size_t address_space_bytes(void) {
    char text[128] = {0};
    FILE *file = fopen("/proc/self/statm", "r");
    STRESS_REQUIRE(file != NULL && fgets(text, sizeof text, file) != NULL, "no /proc/self/statm");
    (void)fclose(file);
    return (size_t)strtoull(text, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

static void limit(int resource, size_t bytes) {
    struct rlimit to = {.rlim_cur = bytes, .rlim_max = bytes};
    STRESS_REQUIRE(setrlimit(resource, &to) == 0, "setrlimit: %s", strerror(errno));
}

static _Noreturn void live_as_child(const char *mode, double share) {
    size_t stacks = (stress.threads + 1) * (MIB(8) + MIB(1));
    (void)alarm((unsigned)(stress.seconds * 3) + 120);
    if (strcmp(mode, "space") == 0)
        limit(RLIMIT_AS, address_space_bytes() + stacks + MIB(64) + LIMIT * 2);
    else if (strcmp(mode, "data") == 0)
        limit(RLIMIT_DATA, stacks + MIB(64) + LIMIT);
    else
        (void)setenv("HAKMEM_ARENA_MIB", "96", 1);
    stress_run(share, stress.threads, body);
    struct stress_thread *t = &stress_threads[0];
    stress_drop_all(t, cells, COUNT_OF(cells));
    uint64_t nulls = 0;
    for (unsigned i = 0; i < stress.threads; i++)
        nulls += stress_threads[i].nulls;
    STRESS_REQUIRE(nulls > 0 || stress.seconds < 2, "%s: never out of memory", mode);
    static const size_t sizes[] = {100, 3000, KIB(100), KIB(300), MIB(3)};
    for (unsigned i = 0; i < COUNT_OF(sizes); i++)
        recover(t, LIMIT / 3, sizes[i]);
    /* RSS is bounded by the limit. */
    (void)stress_end(1e3, 0);
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
        printf("oom: %s\n", modes[i]);
        pid_t child = fork();
        STRESS_REQUIRE(child >= 0, "fork: %s", strerror(errno));
        if (child == 0)
            live_as_child(modes[i], named ? 1.0 : 1.0 / count);
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        STRESS_REQUIRE(status == 0, "%s: the child ended with status %#x", modes[i],
                       (unsigned)status);
    }
    return 0;
}
