/* sweep.c -- fails every call of the OS that the allocator makes, and looks whether it comes through.
 * Purpose     a site is an os_ function with the two functions above it. For each site that the
 *             workload reaches, at each of its first hits, once, from then on and every third time,
 *             a child runs the workload, with each errno of the call's manual page from the first
 *             hit on, with one in turn else (the allocator looks at none): every
 *             allocation gives a block or NULL with ENOMEM, no block loses its contents, and once
 *             calls succeed again, everything is as if nothing had been: as many blocks to be had,
 *             nothing live, nothing left to purge, as much address space as before. Sites that only
 *             an error leads to are swept with that error on.
 *                 sweep                     the whole sweep, a table of sites
 *                 sweep -l                  the sites and how often the workload comes there
 *                 sweep SITE HIT MODE ERRNO [UNDER]   one case, in this process (for a debugger)
 * Environment FAULT_HITS (2; `make faults`: 8), FAULT_ERRNOS=all (`make faults`: each errno in each
 *             case), JOBS (2)
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hakmem/hakmem.h"
#include "os/os.h"

enum { SITES_MAX = 64, NAME_BYTES = 120, SYMBOLS_MAX = 4096, BLOCKS_MAX = 20000 };
enum mode { ONCE, FROM_THEN_ON, EVERY_THIRD, MODES };
static const char *const mode_name[MODES] = {"once", "from-then-on", "every-third"};

/* ---- which function an address lies in ---- */

static struct symbol {
    uintptr_t start;
    char name[48];
} symbols[SYMBOLS_MAX];
static size_t symbol_count;

int main(int argc, char **argv);

static void read_symbols(void) {
    char line[400], command[64];
    (void)snprintf(command, sizeof command, "nm -n --defined-only /proc/%d/exe", (int)getpid());
    FILE *nm = popen(command, "r");
    uintptr_t main_at = 0;
    while (nm != NULL && fgets(line, sizeof line, nm) != NULL) {
        unsigned long at;
        char kind, name[200];
        if (sscanf(line, "%lx %c %199s", &at, &kind, name) != 3 || (kind != 't' && kind != 'T') ||
            symbol_count == SYMBOLS_MAX)
            continue;
        char *dot = strchr(name, '.'); /* the compiler's copies: commit.part.0 */
        if (dot != NULL && dot != name)
            *dot = '\0';
        struct symbol *s = &symbols[symbol_count++];
        s->start = at;
        (void)snprintf(s->name, sizeof s->name, "%.47s", name);
        if (strcmp(name, "main") == 0)
            main_at = at;
    }
    if (nm != NULL)
        (void)pclose(nm);
    if (main_at == 0) {
        (void)fprintf(stderr, "sweep: no symbol table to be read with nm\n");
        exit(2);
    }
    for (size_t i = 0; i < symbol_count; i++)
        symbols[i].start += (uintptr_t)&main - main_at;
}

static const char *function_of(uintptr_t address) {
    size_t low = 0, high = symbol_count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (symbols[middle].start <= address)
            low = middle;
        else
            high = middle;
    }
    return symbols[low].name;
}

/* ---- sites, and the plan of what fails ---- */

struct site {
    char name[NAME_BYTES];
    char under[NAME_BYTES]; /* the site whose failure leads here, or "" */
    enum os_call call;
    unsigned hits;
};
/* Shared with the children. */
static struct shared {
    unsigned count;
    struct site sites[SITES_MAX];
    unsigned failed; /* calls that were made to fail */
    char message[300];
    size_t lost, address_space, metadata; /* of the run without a fault */
} *shared;

static struct plan {
    const char *site, *under; /* `under` fails always */
    unsigned hit;
    enum mode mode;
    int error;
} plan;
static unsigned plan_hits;
static const char *discover_under;

static void frames_above(char *name, const char *function) {
    uintptr_t *frame = __builtin_frame_address(0); /* of this; then the hook, then os_ */
    frame = (uintptr_t *)*frame;
    frame = (uintptr_t *)*frame;
    const char *first = function_of(frame[1]);
    frame = (uintptr_t *)*frame;
    (void)snprintf(name, NAME_BYTES, "%s<%s<%s", function, first, function_of(frame[1]));
}

static __attribute__((noinline)) int decide(enum os_call call, const char *function, size_t bytes) {
    (void)bytes;
    char name[NAME_BYTES];
    frames_above(name, function);
    if (discover_under != NULL) {
        unsigned i = 0;
        while (i < shared->count && strcmp(shared->sites[i].name, name) != 0)
            i++;
        if (i == shared->count && i < SITES_MAX) {
            struct site *s = &shared->sites[i];
            (void)snprintf(s->name, sizeof s->name, "%s", name);
            (void)snprintf(s->under, sizeof s->under, "%s", discover_under);
            s->call = call;
            shared->count++;
        }
        if (i < SITES_MAX && strcmp(shared->sites[i].under, discover_under) == 0)
            shared->sites[i].hits++;
    }
    bool fails = plan.under != NULL && strcmp(plan.under, name) == 0;
    if (plan.site != NULL && strcmp(plan.site, name) == 0) {
        unsigned hit = ++plan_hits;
        fails |= plan.mode == ONCE ? hit == plan.hit
                                   : hit >= plan.hit && (plan.mode == FROM_THEN_ON ||
                                                         (hit - plan.hit) % 3 == 0);
    }
    shared->failed += fails;
    return fails ? plan.error : 0;
}

/* ---- the workload and its oracle ---- */

static struct block {
    unsigned char *at;
    size_t bytes;
    unsigned seed;
} blocks[BLOCKS_MAX];
static size_t block_count;
static bool faults_on;
static unsigned next_seed;

__attribute__((format(printf, 1, 2))) static void wrong(const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(shared->message, sizeof shared->message, format, args);
    va_end(args);
    _exit(1);
}

/* Where a block is marked: its ends, and up to 16 bytes between, each 16 up to a page. */
static size_t mark_step(size_t bytes) { return bytes <= 4096 ? 16 : bytes / 16 / 16 * 16 + 16; }

static void fill(const struct block *b) {
    for (size_t i = 0; i < b->bytes; i += mark_step(b->bytes))
        b->at[i] = (unsigned char)(b->seed + i / 16);
    b->at[b->bytes - 1] = (unsigned char)(b->seed + 77);
}

/* The first `bytes` bytes of what fill wrote into a block that was `was` bytes long. */
static void expect(const struct block *b, size_t bytes, size_t was, const char *when) {
    for (size_t i = 0; i < bytes && i < was - 1; i += mark_step(was))
        if (b->at[i] != (unsigned char)(b->seed + i / 16))
            wrong("%s: byte %zu of a block of %zu lost its contents", when, i, was);
    if (bytes >= was && b->at[was - 1] != (unsigned char)(b->seed + 77))
        wrong("%s: the last byte of a block of %zu lost its contents", when, was);
}

static void expect_all(const char *when) {
    for (size_t i = 0; i < block_count; i++)
        expect(&blocks[i], blocks[i].bytes, blocks[i].bytes, when);
}

/* What an allocation returned: a block or NULL with ENOMEM. */
static void got(void *at, size_t bytes, size_t alignment, bool zeroed) {
    int error = errno;
    if (at == NULL) {
        if (error != ENOMEM)
            wrong("NULL for %zu bytes with errno %d", bytes, error);
        if (!faults_on)
            wrong("NULL for %zu bytes after the faults were over", bytes);
        return;
    }
    if (error != 1234)
        wrong("a block of %zu bytes with errno changed to %d", bytes, error);
    if (((uintptr_t)at & (alignment - 1)) != 0)
        wrong("a block of %zu bytes not aligned to %zu", bytes, alignment);
    if (zeroed)
        for (size_t i = 0, step = bytes > 2500000 ? bytes / 24 : bytes > 65536 ? bytes / 256 : 1;
             i < bytes; i += step)
            if (((unsigned char *)at)[i] != 0)
                wrong("calloc of %zu: byte %zu is not zero", bytes, i);
    if (block_count == BLOCKS_MAX)
        wrong("the workload needs more than %d blocks", BLOCKS_MAX);
    blocks[block_count] = (struct block){at, bytes, next_seed++ * 37};
    fill(&blocks[block_count++]);
}

static void allocate(size_t bytes) {
    errno = 1234;
    got(hkm_malloc(bytes), bytes, 16, false);
}
static void allocate_zeroed(size_t bytes) {
    errno = 1234;
    got(hkm_calloc(1, bytes), bytes, 16, true);
}
static void allocate_aligned(size_t alignment, size_t bytes) {
    void *at = NULL;
    errno = 1234;
    int error = hkm_posix_memalign(&at, alignment, bytes);
    if (errno != 1234)
        wrong("posix_memalign changed errno to %d", errno);
    if (error != 0)
        errno = error;
    got(at, bytes, alignment, false);
}

static void resize(size_t i, size_t bytes) {
    struct block *b = &blocks[i];
    errno = 1234;
    unsigned char *at = hkm_realloc(b->at, bytes);
    if (at == NULL) {
        if (errno != ENOMEM || !faults_on)
            wrong("realloc of %zu to %zu: NULL with errno %d", b->bytes, bytes, errno);
        expect(b, b->bytes, b->bytes, "after a realloc that failed");
        return;
    }
    size_t was = b->bytes;
    b->at = at;
    expect(b, bytes < was ? bytes : was, was, "after a realloc");
    b->bytes = bytes;
    fill(b);
}

static void release_from(size_t first) {
    while (block_count > first) {
        block_count--;
        struct block *b = &blocks[block_count];
        expect(b, b->bytes, b->bytes, "at its free");
        errno = 1234;
        hkm_free(b->at);
        if (errno != 1234)
            wrong("free of %zu bytes changed errno to %d", b->bytes, errno);
    }
}

static void later(unsigned ms) { atomic_add(&os_test.clock_ms, ms, relaxed); }

static void *in_a_thread(void *arg) {
    size_t first = block_count;
    for (size_t i = 0; i < 200; i++)
        allocate(16 + i * 40);
    allocate(400000);
    if (arg != NULL) { /* its blocks live on, half of them; the creator frees them */
        for (size_t i = first; i + 1 < block_count; i++) {
            struct block last = blocks[block_count - 1];
            hkm_free(blocks[i].at);
            blocks[i] = last;
            block_count--;
        }
    } else {
        release_from(first);
    }
    return NULL;
}

/* Threads that live at once, so that each needs a heap of its own, but work in turn. */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t all_worked;
static void *one_of_many(void *arg) {
    (void)pthread_mutex_lock(&turn);
    (void)in_a_thread(arg);
    (void)pthread_mutex_unlock(&turn);
    (void)pthread_barrier_wait(&all_worked);
    return NULL;
}

static void threads(bool leave) {
    enum { AT_ONCE = 4 };
    pthread_t ids[AT_ONCE];
    (void)pthread_barrier_init(&all_worked, NULL, AT_ONCE);
    for (int i = 0; i < AT_ONCE; i++)
        if (pthread_create(&ids[i], NULL, one_of_many, leave ? &turn : NULL) != 0)
            wrong("no thread to be had");
    for (int i = 0; i < AT_ONCE; i++)
        (void)pthread_join(ids[i], NULL);
    (void)pthread_barrier_destroy(&all_worked);
}

static void workload(int rounds) {
    for (int round = 0; round < rounds; round++) {
        size_t start = block_count;
        for (size_t i = 0; i < 1500; i++)
            allocate(i % 3 == 0 ? 24 : 16 + i % 200 * 24);
        for (size_t i = 0; i < 24; i++)
            allocate_zeroed(5000 + i * 9000);
        for (size_t i = 0; i < 6; i++)
            allocate_aligned((size_t)4096 << i * 2, 100000);
        threads(round == 1);
        size_t large = block_count;
        allocate(300000); /* grows: in place, by a move, beyond a SuperSlab */
        if (block_count > large)
            for (size_t bytes = 600000; bytes < 10000000; bytes = bytes * 3 / 2)
                resize(large, bytes);
        allocate(400000);
        if (block_count > large)
            resize(large, 1200000);
        for (size_t i = 0; i < 30; i++) /* past the first 64 MiB, whose maps come with the arena */
            allocate_zeroed(3 << 20);
        expect_all("at the top");
        if (block_count > large + 1) { /* shrinks, and moves again */
            resize(large, 700000);
            resize(large, 5000000);
        }
        release_from(large);
        later(2000);
        allocate(100); /* a slow path that looks at the clock */
        for (size_t i = 0; i < 600; i++)
            allocate(3000);
        release_from(start + (block_count - start) / 2);
        later(2000);
        (void)hkm_purge();
        allocate_zeroed(2000000);
        allocate_zeroed(40000);
        expect_all("after a purge");
        release_from(round == 0 ? start + 40 : start);
        later(2000);
        (void)hkm_malloc_trim(0);
    }
}

/* As if nothing had been. */
static void recovered(bool reference) {
    faults_on = false;
    atomic_put(&os_test.fail, (os_fail *)NULL, release);
    expect_all("after the faults");
    release_from(0);
    workload(1); /* now everything must be to be had */
    release_from(0);
    (void)hkm_purge();
    (void)hkm_purge();
    struct hkm_stats s = {.struct_bytes = sizeof s};
    if (hkm_stats_get(&s) != 0)
        wrong("no statistics");
    if (s.small_blocks_live != 0 || s.large_blocks_live != 0 || s.large_bytes_live != 0)
        wrong("live after everything was freed: %lu small, %lu large blocks",
              (unsigned long)s.small_blocks_live, (unsigned long)s.large_blocks_live);
    if (hkm_purge() != 0)
        wrong("there is still something to purge");
    /* As many blocks of 1 MiB as fit: a slot that was lost makes them fewer. */
    size_t count = 0;
    static void *all[1024];
    while (count < 1024 && (all[count] = hkm_malloc(1 << 20)) != NULL)
        count++;
    while (count > 0 && all[count - 1] == NULL)
        count--;
    size_t capacity = count;
    while (count > 0)
        hkm_free(all[--count]);
    (void)hkm_purge();
    if (hkm_stats_get(&s) != 0 || s.superslabs_cached != 0 || s.bytes_large_cached != 0)
        wrong("empty SuperSlabs or large blocks are kept after a purge");
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm == NULL || fscanf(statm, "%lu", &pages) != 1)
        wrong("can not read /proc/self/statm");
    (void)fclose(statm);
    size_t space = (size_t)pages * os_page_bytes() - s.bytes_reserved;
    size_t lost = s.bytes_reserved / (1 << 20) - capacity;
    if (reference) {
        shared->lost = lost;
        shared->address_space = space;
        shared->metadata = s.bytes_metadata;
    }
    if (lost > shared->lost)
        wrong("%zu MiB of the arena are lost, without a fault %zu", lost, shared->lost);
    if (s.bytes_metadata > shared->metadata + (1 << 20))
        wrong("%lu KiB of metadata, without a fault %zu", (unsigned long)s.bytes_metadata >> 10,
              shared->metadata >> 10);
    if (space > shared->address_space + (8 << 20)) /* stacks, libc's own blocks */
        wrong("%zu MiB more address space than without a fault",
              (space - shared->address_space) >> 20);
}

static int child(bool reference) {
    alarm(60);
    atomic_put(&os_test.clock_ms, 1000, relaxed);
    atomic_put(&os_test.clock_is_virtual, 1, relaxed);
    faults_on = plan.site != NULL || plan.under != NULL;
    atomic_put(&os_test.fail, (os_fail *)decide, release);
    workload(2);
    if (plan.site != NULL && shared->failed == 0)
        return 77;
    recovered(reference);
    return 0;
}

/* ---- the sweep ---- */

static const struct errors {
    const int *list;
    unsigned count;
} errors_of[OS_CALLS] = {
#define ERRORS(...) {(const int[]){__VA_ARGS__}, sizeof((int[]){__VA_ARGS__}) / sizeof(int)}
    [OS_MMAP] = ERRORS(ENOMEM, EAGAIN, EINVAL, EPERM, EACCES, EEXIST, ENFILE, ENODEV, EOVERFLOW),
    [OS_MUNMAP] = ERRORS(EINVAL, ENOMEM),
    [OS_MPROTECT] = ERRORS(ENOMEM, EACCES, EINVAL),
    [OS_MADVISE] = ERRORS(ENOMEM, EAGAIN, EINVAL, EPERM, EACCES, EBADF, EIO),
    [OS_MREMAP] = ERRORS(ENOMEM, EAGAIN, EINVAL, EFAULT, ENOSYS),
};

static const char *error_name(int error) {
    const char *name = strerrorname_np(error);
    return name != NULL ? name : "?";
}

/* Runs a child with the plan; its wait status, the message in *shared. */
static int in_a_child(bool reference) {
    shared->failed = 0;
    shared->message[0] = '\0';
    pid_t pid = fork();
    if (pid == 0)
        _exit(child(reference));
    int status = -1;
    if (pid > 0)
        (void)waitpid(pid, &status, 0);
    return status;
}

static unsigned hits_max = 2;
static bool each_errno; /* in each case */

/* All cases of one site that are this worker's; returns how many failed. */
static unsigned sweep_site(const struct site *s, unsigned *tried, unsigned worker,
                           unsigned workers) {
    unsigned failures = 0, number = 0;
    unsigned hits = s->hits < hits_max ? s->hits : hits_max;
    const struct errors *errors = &errors_of[s->call];
    for (unsigned hit = 1; hit <= hits; hit++)
        for (unsigned mode = 0; mode < MODES; mode++) {
            bool all = each_errno || (hit == 1 && mode == FROM_THEN_ON);
            for (unsigned e = 0; e < (all ? errors->count : 1); e++) {
                if (number++ % workers != worker)
                    continue;
                int error = errors->list[all ? e : (hit + mode) % errors->count];
                plan = (struct plan){s->name, s->under[0] != '\0' ? s->under : NULL, hit,
                                     (enum mode)mode, error};
                int status = in_a_child(false);
                ++*tried;
                if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                    continue;
                failures++;
                const char *what = WIFSIGNALED(status)         ? strsignal(WTERMSIG(status))
                                   : WEXITSTATUS(status) == 77 ? "the site was not reached"
                                                               : shared->message;
                if (failures <= 3)
                    (void)printf("FAIL %s\n     repeat with: %s '%s' %u %s %s %s%s%s\n", what,
                                 program_invocation_name, s->name, hit, mode_name[mode],
                                 error_name(error), s->under[0] != '\0' ? "'" : "", s->under,
                                 s->under[0] != '\0' ? "'" : "");
                (void)fflush(stdout);
            }
        }
    return failures;
}

static void discover(void) {
    discover_under = "";
    if (in_a_child(true) != 0) {
        (void)printf("FAIL without a fault: %s\n", shared->message);
        exit(1);
    }
    unsigned first_level = shared->count;
    for (unsigned i = 0; i < first_level; i++) { /* what only an error leads to */
        discover_under = shared->sites[i].name;
        plan = (struct plan){NULL, discover_under, 0, ONCE, ENOMEM};
        (void)in_a_child(false);
    }
    discover_under = NULL;
}

static unsigned from_environment(const char *name, unsigned usual) {
    const char *text = getenv(name);
    return text != NULL && atoi(text) > 0 ? (unsigned)atoi(text) : usual;
}

static int one_case(char **argv) {
    plan = (struct plan){argv[1], argv[5], (unsigned)atoi(argv[2]), MODES, 0};
    for (int mode = 0; mode < MODES; mode++)
        if (strcmp(argv[3], mode_name[mode]) == 0)
            plan.mode = (enum mode)mode;
    for (int error = 1; error < 200; error++)
        if (strerrorname_np(error) != NULL && strcmp(argv[4], strerrorname_np(error)) == 0)
            plan.error = error;
    if (plan.mode == MODES || plan.error == 0)
        return 2;
    shared->address_space = shared->lost = shared->metadata = SIZE_MAX / 2;
    return child(false);
}

int main(int argc, char **argv) {
    (void)setenv("HAKMEM_OPTIONS", "arena_mib=320,large_pages=on,prefault=on,big_cache_mib=16", 1);
    read_symbols();
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 2;
    if (argc >= 5) {
        int status = one_case(argv);
        (void)printf("exit code %d %s\n", status, shared->message);
        return status;
    }
    hits_max = from_environment("FAULT_HITS", hits_max);
    const char *errnos = getenv("FAULT_ERRNOS");
    each_errno = errnos != NULL && strcmp(errnos, "all") == 0;
    unsigned workers = from_environment("JOBS", 2);
    discover();
    if (argc == 2 && strcmp(argv[1], "-l") == 0) {
        for (unsigned i = 0; i < shared->count; i++)
            (void)printf("%4u  %s  %s\n", shared->sites[i].hits, shared->sites[i].name,
                         shared->sites[i].under);
        return 0;
    }
    unsigned(*counts)[SITES_MAX][2] = mmap(NULL, workers * sizeof *counts, PROT_READ | PROT_WRITE,
                                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct shared known = *shared;
    (void)fflush(stdout);
    for (unsigned w = 0; w < workers; w++) {
        if (fork() != 0)
            continue;
        shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                      0);
        *shared = known;
        for (unsigned i = 0; i < shared->count; i++)
            counts[w][i][1] = sweep_site(&known.sites[i], &counts[w][i][0], w, workers);
        _exit(0);
    }
    bool died = false;
    for (int status; wait(&status) > 0;)
        died |= status != 0;
    unsigned tried = 0, failed = 0;
    (void)printf("%-64s %5s %6s %6s\n", "site (and the site whose failure leads there)", "hits",
                 "cases", "failed");
    for (unsigned i = 0; i < known.count; i++) {
        unsigned t = 0, f = 0;
        for (unsigned w = 0; w < workers; w++) {
            t += counts[w][i][0];
            f += counts[w][i][1];
        }
        char name[2 * NAME_BYTES + 8];
        (void)snprintf(name, sizeof name, "%s%s%s%s", known.sites[i].name,
                       known.sites[i].under[0] != '\0' ? " (" : "", known.sites[i].under,
                       known.sites[i].under[0] != '\0' ? ")" : "");
        (void)printf("%-64s %5u %6u %6u\n", name, known.sites[i].hits, t, f);
        tried += t;
        failed += f;
    }
    (void)printf("%u sites, %u cases, %u failed%s\n", known.count, tried, failed,
                 died ? "; a worker died" : "");
    return failed != 0 || died || tried == 0;
}
