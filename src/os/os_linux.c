/* os_linux.c -- the contract of os.h, for Linux.
 * Purpose     thin wrappers; each call that maps memory is counted, and in a checked build a test
 *             is asked first whether it shall fail (`begin`).
 * Ownership   the counters are shared and only ever added to; os_test is the test's.
 */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#endif
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "os/vdso.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static ATOMIC(uint64_t) calls[OS_CALLS];

#if HKM_OS_TEST
struct os_test os_test;
#endif

/* Counts a call that is about to be made; the error that a test wants instead of it, or 0. */
HKM_INLINE int begin(enum os_call call, const char *site, size_t bytes) {
    atomic_add(&calls[call], 1, relaxed);
    int error = 0;
#if HKM_OS_TEST
    os_fail *fail = atomic_get(&os_test.fail, acquire); /* with the test's release of its state */
    if (unlikely(fail != NULL)) {
        int saved = errno;
        error = fail(call, site, bytes);
        errno = saved;
    }
#else
    (void)site;
    (void)bytes;
#endif
    return error;
}

uint64_t os_call_count(enum os_call call) { return atomic_get(&calls[call], relaxed); }

size_t os_page_bytes(void) {
    static ATOMIC(size_t) page;
    size_t bytes = atomic_get(&page, relaxed);
    if (unlikely(bytes == 0)) {
        bytes = (size_t)getauxval(AT_PAGESZ);
        if (bytes == 0)
            bytes = 4096;
        atomic_put(&page, bytes, relaxed);
    }
    return bytes;
}

/* A filter of system calls: of its own making, or that the process was started under. Such a one,
 * a service's or a container's, allows files and prctl, but seldom mincore or process_vm_readv
 * (systemd's @system-service). It is asked for when one of these is wanted for the first time. */
static ATOMIC(uint32_t) filter;
enum { NOT_ASKED, NO_FILTER, INHERITED, OWN };

static bool confined(void) { return atomic_get(&filter, relaxed) == OWN; }

/* The largest reservation, the arena: core dumps leave out what of it is not committed. */
static void *undumped;
static size_t undumped_bytes;

/* Not by madvise, which somebody may replace by one that allocates: there may be no heap yet. */
static HKM_NOINLINE void tell_dumps(void *start, size_t bytes, int advice) {
    int saved = errno;
    if (!confined())
        (void)syscall(SYS_madvise, start, bytes, advice);
    errno = saved;
}

void os_undump(void *start, size_t bytes) { tell_dumps(start, bytes, MADV_DONTDUMP); }

/* What is committed later can not be marked any more, so that all is in core dumps from now on. */
HKM_COLD void os_confine(void) {
    tell_dumps(undumped, undumped_bytes, MADV_DODUMP);
    atomic_put(&filter, OWN, relaxed);
}

/* Reads a file of /proc/self; may change errno. No cancellation point. */
static HKM_COLD bool read_own(const char *path, uint64_t at, void *to, size_t bytes) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    ssize_t got = syscall(SYS_pread64, fd, to, bytes, at);
    (void)syscall(SYS_close, fd);
    return got == (ssize_t)bytes;
}

/* The filter there is; may change errno. */
static HKM_COLD uint32_t filter_now(void) {
    uint32_t found = atomic_get(&filter, relaxed);
    if (found == NOT_ASKED) {
        uint32_t now = syscall(SYS_prctl, PR_GET_SECCOMP) > 0 ? INHERITED : NO_FILTER;
        if (atomic_cas(&filter, &found, now, relaxed, relaxed)) /* else it was just confined */
            found = now;
    }
    return found;
}

/* Turns a call's result into 0 or an errno value, restoring errno. */
static int outcome(bool failed, int saved) {
    int error = failed ? errno : 0;
    errno = saved;
    return error;
}

void *os_reserve(size_t bytes) {
    if (unlikely(begin(OS_MMAP, __func__, bytes) != 0))
        return NULL;
    int saved = errno;
    void *start = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    errno = saved;
    if (start == MAP_FAILED)
        return NULL;
    (void)os_small(start, bytes);
    tell_dumps(start, bytes, MADV_DONTDUMP);
    if (bytes >= undumped_bytes) {
        undumped = start;
        undumped_bytes = bytes;
    }
    return start;
}

void os_unlock(void *start, size_t bytes) {
    int saved = errno;
    if (!confined())
        (void)munlock(start, bytes);
    errno = saved;
}

int os_unreserve(void *start, size_t bytes) {
    int error = begin(OS_MUNMAP, __func__, bytes);
    if (unlikely(error != 0))
        return error;
    int saved = errno;
    return outcome(munmap(start, bytes) != 0, saved);
}

int os_commit(void *start, size_t bytes) {
    int error = begin(OS_MPROTECT, __func__, bytes);
    if (unlikely(error != 0))
        return error;
    tell_dumps(start, bytes, MADV_DODUMP); /* first, so that it merges with what is writable */
    int saved = errno;
    return outcome(mprotect(start, bytes, PROT_READ | PROT_WRITE) != 0, saved);
}

int os_readable(void *start, size_t bytes) {
    int error = begin(OS_MPROTECT, __func__, bytes);
    if (unlikely(error != 0))
        return error;
    int saved = errno;
    return outcome(mprotect(start, bytes, PROT_READ) != 0, saved);
}

int os_purge(void *start, size_t bytes) {
    int error = begin(OS_MADVISE, __func__, bytes);
    if (unlikely(error != 0))
        return error;
    int saved = errno;
    return outcome(madvise(start, bytes, MADV_DONTNEED) != 0, saved);
}

int os_renew(void *start, size_t bytes) {
    int error = begin(OS_MMAP, __func__, bytes);
    if (unlikely(error != 0))
        return error;
    int saved = errno;
    void *at = mmap(start, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    error = outcome(at == MAP_FAILED, saved);
    if (likely(error == 0)) {
        (void)os_small(start, bytes);
        return 0;
    }
    /* The old one may be gone, too (Linux before 6.12): no other may come there meanwhile. */
    at = mmap(start, bytes, PROT_NONE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (at != MAP_FAILED && at != start) /* before 4.17 only a hint */
        (void)munmap(at, bytes);
    errno = saved;
    return error;
}

int os_move(void *from, void *to, size_t bytes) {
    int error = begin(OS_MREMAP, __func__, bytes);
    if (unlikely(error != 0))
        return error;
    int saved = errno;
    /* A move takes the lock (mlockall) off the whole mapping that `from` is in. Of what can be
     * moved, only locked memory refuses this advice (Linux 5.4), which does nothing much. */
    if (confined() || madvise(from, os_page_bytes(), MADV_COLD) != 0)
        return outcome(true, saved);
    void *at = mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to);
    return outcome(at == MAP_FAILED, saved);
}

HKM_INLINE int advise(void *start, size_t bytes, int advice, const char *site) {
    int error = begin(OS_MADVISE, site, bytes);
    if (unlikely(error != 0))
        return error;
    int saved = errno;
    return outcome(confined() || madvise(start, bytes, advice) != 0, saved);
}

int os_huge(void *start, size_t bytes) {
    return advise(start, bytes, MADV_HUGEPAGE, __func__);
}

int os_small(void *start, size_t bytes) {
    return advise(start, bytes, MADV_NOHUGEPAGE, __func__);
}

int os_populate(void *start, size_t bytes) {
    return advise(start, bytes, MADV_POPULATE_WRITE, __func__);
}

#define COLLAPSE 25 /* MADV_COLLAPSE, Linux 6.1, which glibc 2.36 does not know */

int os_collapse(void *start, size_t bytes) {
    return advise(start, bytes, COLLAPSE, __func__);
}

size_t os_resident(void *start, size_t bytes) {
    enum { PIECE = 256 }; /* pages: a stack may be small */
    unsigned char low_bit[PIECE] = {0};
    uint64_t high_bit[PIECE] = {0};
    size_t page = os_page_bytes(), count = 0;
    int saved = errno;
    uint32_t found = filter_now();
    for (char *at = start, *end = at + bytes; at < end && found != OWN; at += PIECE * page) {
        size_t pages = ((size_t)(end - at) + page - 1) / page;
        if (pages > PIECE)
            pages = PIECE;
        if (found == NO_FILTER ? mincore(at, pages * page, low_bit) != 0
                               : !read_own("/proc/self/pagemap", (uintptr_t)at / page * 8,
                                           high_bit, pages * 8))
            break;
        for (size_t i = 0; i < pages; i++)
            count += (low_bit[i] & 1u) + (high_bit[i] >> 63);
    }
    errno = saved;
    return count * page;
}

typedef int clock_function(clockid_t clock, struct timespec *now);

static int by_call(clockid_t clock, struct timespec *now) {
    return (int)syscall(SYS_clock_gettime, clock, now);
}

static HKM_COLD clock_function *find_clock(void) {
#if defined(__aarch64__)
    uintptr_t at = vdso_find("__kernel_clock_gettime");
#else
    uintptr_t at = vdso_find("__vdso_clock_gettime");
#endif
    return at != 0 ? (clock_function *)at : by_call;
}

HKM_INLINE struct timespec time_of(clockid_t clock) {
    static ATOMIC(clock_function *) function;
    clock_function *ask = atomic_get(&function, relaxed);
    if (unlikely(ask == NULL)) {
        ask = find_clock();
        atomic_put(&function, ask, relaxed);
    }
    struct timespec now = {0};
    (void)ask(clock, &now);
    return now;
}

uint32_t os_clock_ms(void) {
#if HKM_OS_TEST
    if (unlikely(atomic_get(&os_test.clock_is_virtual, relaxed) != 0))
        return atomic_get(&os_test.clock_ms, relaxed);
#endif
    struct timespec now = time_of(CLOCK_MONOTONIC_COARSE);
    return (uint32_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
}

uint64_t os_clock_ns(void) {
    struct timespec now = time_of(CLOCK_MONOTONIC);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* malloc and its family are no cancellation points, as open, read, write, close and nanosleep are;
 * a thread that ended there would hold locks for ever. */
static int hold_cancel(void) {
    int state;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    return state;
}
static void allow_cancel(int state) { (void)pthread_setcancelstate(state, &state); }

void os_backoff(unsigned attempt) {
    if (attempt < 64) {
        for (unsigned i = 0; i <= attempt; i++)
            cpu_pause();
    } else if (attempt < 128) {
        sched_yield();
    } else {
        int saved = errno;
        struct timespec nap = {.tv_sec = 0, .tv_nsec = 50000};
        int cancel = hold_cancel();
        (void)nanosleep(&nap, NULL);
        allow_cancel(cancel);
        errno = saved;
    }
}

__thread char os_thread_mark;

bool os_single_threaded(void) {
#if __has_include(<sys/single_threaded.h>)
    return __libc_single_threaded != 0;
#else
    return false;
#endif
}

_Static_assert(sizeof(sigset_t) <= sizeof(struct os_signals), "a set of signals fits");

void os_signals_block(struct os_signals *saved) {
    sigset_t all;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, (sigset_t *)(void *)saved);
}

void os_signals_restore(const struct os_signals *saved) {
    (void)pthread_sigmask(SIG_SETMASK, (const sigset_t *)(const void *)saved, NULL);
}

/* Not by getpid, which libfaketime replaces by one that allocates: the start asks here. */
uint32_t os_process(void) { return (uint32_t)syscall(SYS_getpid); }

void os_write(int fd, const char *text, size_t bytes) {
    int saved = errno;
    int cancel = hold_cancel();
    while (bytes > 0) {
        ssize_t done = write(fd, text, bytes);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            break;
        text += done;
        bytes -= (size_t)done;
    }
    allow_cancel(cancel);
    errno = saved;
}

static dev_t kept_device;
static ino_t kept_file;

int os_keep_stderr(void) {
    int saved = errno;
    struct stat file;
    /* out of the way of programs that count on 3 */
    int fd = confined() ? -1 : fcntl(2, F_DUPFD_CLOEXEC, 200);
    if (fd >= 0 && fstat(fd, &file) == 0) {
        kept_device = file.st_dev;
        kept_file = file.st_ino;
    } else {
        fd = 2;
    }
    errno = saved;
    return fd;
}

bool os_kept_stderr(int fd) {
    struct stat now;
    int saved = errno;
    bool same = fd == 2 || (fstat(fd, &now) == 0 && now.st_dev == kept_device &&
                            now.st_ino == kept_file);
    errno = saved;
    return same;
}

bool os_peek(const void *from, void *to, size_t bytes) {
    int saved = errno;
    struct iovec local = {.iov_base = to, .iov_len = bytes};
    struct iovec remote = {.iov_base = (void *)(uintptr_t)from, .iov_len = bytes};
    uint32_t found = filter_now();
    bool done = false;
    if (found == NO_FILTER)
        done = process_vm_readv((pid_t)os_process(), &local, 1, &remote, 1, 0) == (ssize_t)bytes;
    else if (found == INHERITED)
        done = read_own("/proc/self/mem", (uintptr_t)from, to, bytes);
    errno = saved;
    return done;
}

bool os_each_line(const char *path, char *buffer, size_t bytes,
                  bool (*each)(const char *line, void *arg), void *arg) {
    int saved = errno;
    int cancel = hold_cancel();
    int fd = confined() ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        allow_cancel(cancel);
        errno = saved;
        return false;
    }
    size_t held = 0;
    bool wanted = true;
    bool cut = false;
    while (wanted) {
        ssize_t got = read(fd, buffer + held, bytes - 1 - held);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        held += (size_t)got;
        buffer[held] = '\0';
        char *line = buffer;
        char *end;
        while (wanted && (end = strchr(line, '\n')) != NULL) {
            *end = '\0';
            if (!cut)
                wanted = each(line, arg);
            cut = false;
            line = end + 1;
        }
        held = (size_t)(buffer + held - line);
        if (held == bytes - 1) { /* a line longer than the buffer: its other pieces are no lines */
            wanted = cut || each(line, arg);
            cut = true;
            held = 0;
        }
        memmove(buffer, line, held);
    }
    (void)close(fd);
    allow_cancel(cancel);
    errno = saved;
    return true;
}

const char *os_next_variable(const char *prefix, size_t *at) {
    if (environ == NULL || getauxval(AT_SECURE) != 0)
        return NULL;
    size_t length = strlen(prefix);
    for (char **variable = environ + *at; *variable != NULL; variable++) {
        if (strncmp(*variable, prefix, length) == 0) {
            *at = (size_t)(variable - environ) + 1;
            return *variable + length;
        }
    }
    return NULL;
}
