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
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#endif
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

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
    return start;
}

void os_unlock(void *start, size_t bytes) {
    int saved = errno;
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
    if (at != MAP_FAILED)
        (void)os_small(start, bytes);
    return outcome(at == MAP_FAILED, saved);
}

int os_move(void *from, void *to, size_t bytes) {
    int error = begin(OS_MREMAP, __func__, bytes);
    if (unlikely(error != 0))
        return error;
    int saved = errno;
    /* A move takes the lock (mlockall) off the whole mapping that `from` is in. Of what can be
     * moved, only locked memory refuses this advice (Linux 5.4), which does nothing much. */
    if (madvise(from, os_page_bytes(), MADV_COLD) != 0)
        return outcome(true, saved);
    void *at = mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to);
    return outcome(at == MAP_FAILED, saved);
}

int os_huge(void *start, size_t bytes) {
    int error = begin(OS_MADVISE, __func__, bytes);
    if (unlikely(error != 0))
        return error;
    int saved = errno;
    return outcome(madvise(start, bytes, MADV_HUGEPAGE) != 0, saved);
}

int os_small(void *start, size_t bytes) {
    int error = begin(OS_MADVISE, __func__, bytes);
    if (unlikely(error != 0))
        return error;
    int saved = errno;
    return outcome(madvise(start, bytes, MADV_NOHUGEPAGE) != 0, saved);
}

int os_populate(void *start, size_t bytes) {
    int error = begin(OS_MADVISE, __func__, bytes);
    if (unlikely(error != 0))
        return error;
    int saved = errno;
    return outcome(madvise(start, bytes, MADV_POPULATE_WRITE) != 0, saved);
}

#define COLLAPSE 25 /* MADV_COLLAPSE, Linux 6.1, which glibc 2.36 does not know */

int os_collapse(void *start, size_t bytes) {
    int error = begin(OS_MADVISE, __func__, bytes);
    if (unlikely(error != 0))
        return error;
    int saved = errno;
    return outcome(madvise(start, bytes, COLLAPSE) != 0, saved);
}

size_t os_resident(void *start, size_t bytes) {
    unsigned char pages[512] = {0};
    size_t page = os_page_bytes();
    size_t count = 0;
    int saved = errno;
    for (size_t at = 0; at < bytes; at += sizeof pages * page) {
        size_t piece = bytes - at < sizeof pages * page ? bytes - at : sizeof pages * page;
        if (mincore((char *)start + at, piece, pages) != 0)
            break;
        for (size_t i = 0; i * page < piece; i++)
            count += pages[i] & 1u;
    }
    errno = saved;
    return count * page;
}

uint32_t os_clock_ms(void) {
#if HKM_OS_TEST
    if (unlikely(atomic_get(&os_test.clock_is_virtual, relaxed) != 0))
        return atomic_get(&os_test.clock_ms, relaxed);
#endif
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
}

uint64_t os_clock_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
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

static __thread char thread_mark;

uintptr_t os_thread_token(void) { return (uintptr_t)&thread_mark; }

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

uint32_t os_process(void) { return (uint32_t)getpid(); }

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
    int fd = fcntl(2, F_DUPFD_CLOEXEC, 200); /* out of the way of programs that count on 3 */
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
    ssize_t done = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    errno = saved;
    return done == (ssize_t)bytes;
}

bool os_each_line(const char *path, char *buffer, size_t bytes,
                  bool (*each)(const char *line, void *arg), void *arg) {
    int saved = errno;
    int cancel = hold_cancel();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
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
        if (held == bytes - 1) { /* a line longer than the buffer: its pieces are no lines */
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
