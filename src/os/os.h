/* os.h -- the contract with the operating system: everything the allocator asks of it.
 * Purpose     reserve, commit and purge address space; time; waiting; writing a report. One
 *             file per system implements it (os_linux.c); the rest of the tree makes no system
 *             call, except signals' in report.c and prctl's in override_prctl.c. A simulation
 *             replaces this file. Checked builds let a test make calls fail and set the clock
 *             (struct os_test); a release build has nothing of that.
 * Errors      functions that can fail return 0 or an errno value, and leave errno as it was.
 * Locking     none is needed. Callers hold no lock across a call that maps memory, except that a
 *             heap's may be held while metadata is committed, and for os_populate.
 */
#ifndef HKM_OS_OS_H
#define HKM_OS_OS_H

#include "base/atomic.h"
#include "base/config.h"

enum os_call { OS_MMAP, OS_MUNMAP, OS_MPROTECT, OS_MADVISE, OS_MREMAP, OS_CALLS };

/* The page size in bytes: 4, 16 or 64 KiB. No system call. */
size_t os_page_bytes(void);

/* Reserves `bytes` of inaccessible address space, for small pages; NULL when there is none. Core
 * dumps, of the kernel's or a debugger's making, leave out what is not committed. */
void *os_reserve(size_t bytes);
/* Lets the pages of a range of a reservation be absent in a process that has all its memory locked
 * (mlockall), where else a commit makes all of them resident. */
void os_unlock(void *start, size_t bytes);
/* Leaves a committed range out of core dumps, for which each page of it would be looked at. */
void os_undump(void *start, size_t bytes);
/* Gives a reservation back, or the end of one; when that fails all of it stays. */
int os_unreserve(void *start, size_t bytes);
/* Makes a range of a reservation readable and writable; new pages read as zeros. */
int os_commit(void *start, size_t bytes);
/* Makes a range of a reservation readable: it reads as zeros and costs no memory. */
int os_readable(void *start, size_t bytes);
/* Gives the pages of a committed range back; it stays committed and reads as zeros. */
int os_purge(void *start, size_t bytes);
/* Like os_purge, but with a new mapping of small pages, which merges with its neighbours. When it
 * fails, the range may be inaccessible, and os_commit may help; nobody else's mapping comes there.
 */
int os_renew(void *start, size_t bytes);
/* Moves the pages of one committed range to another without copying; the old range stays
 * committed and reads as zeros. ENOSYS where the kernel can not. When it fails, the target may be
 * unmapped. */
int os_move(void *from, void *to, size_t bytes);
/* Asks for huge pages in a range of whole SuperSlabs. */
int os_huge(void *start, size_t bytes);
/* Keeps huge pages away that are not there yet, also where the system gives them unasked. */
int os_small(void *start, size_t bytes);
/* Makes the pages of a committed range resident, as a write to each would. It stands for faults,
 * and may be called where these may happen, under a lock too. */
int os_populate(void *start, size_t bytes);
/* Has one huge page take the place of the pages of a SuperSlab, some of which are resident. Moves
 * them: 250 to 700 us where a fault takes 20. EINVAL where the kernel can not
 * (before 6.1), ENOMEM or EAGAIN where it has no such page now. */
int os_collapse(void *start, size_t bytes);
/* How many bytes of a committed range are in resident pages; 0 also when that can not be told. */
HKM_COLD size_t os_resident(void *start, size_t bytes);

/* The process is about to confine itself: a seccomp filter may kill it for a call of the system
 * that few programs make. From then on nothing is advised but os_purge, what is resident
 * or readable can not be told, no file is read, and a large block is copied, not moved. */
void os_confine(void);

/* Milliseconds of a coarse monotonic clock. No system call. */
uint32_t os_clock_ms(void);
/* Milliseconds from `since` to `now`; 0 when `since` is the later of the two, as it can be when
 * another thread read the clock. Right for spans of up to 49 days less an hour. */
HKM_INLINE uint32_t os_elapsed_ms(uint32_t now, uint32_t since) {
    return since - now <= 3600000u ? 0 : now - since;
}
/* Nanoseconds of a monotonic clock. No system call. */
uint64_t os_clock_ns(void);
/* Waits a little, longer the more often the caller has waited in vain. */
void os_backoff(unsigned attempt);
/* Of os_thread_token alone. */
extern __thread char os_thread_mark __attribute__((tls_model("initial-exec")));
/* A number, not 0, that differs between all threads alive. */
HKM_INLINE uintptr_t os_thread_token(void) { return (uintptr_t)&os_thread_mark; }

/* True when the process has certainly no second thread. No system call. */
bool os_single_threaded(void);

/* Keeps signal handlers of the calling thread away, and lets them come again. Enters the OS. */
struct os_signals {
    uint64_t words[16];
};
void os_signals_block(struct os_signals *saved);
void os_signals_restore(const struct os_signals *saved);

/* The process's number. Enters the OS. */
uint32_t os_process(void);

/* Writes to a descriptor, as far as that goes. Async-signal-safe. */
void os_write(int fd, const char *text, size_t bytes);
/* A descriptor for stderr that stays when the program closes its own; 2 when there is none to be
 * had. */
int os_keep_stderr(void);
/* Whether that descriptor is still what it was: the program may have closed it and have another
 * file there. */
bool os_kept_stderr(int fd);
/* Copies memory that may not be there; false when any of it is not. Async-signal-safe. */
bool os_peek(const void *from, void *to, size_t bytes);
/* Reads a file piece by piece into `buffer`; calls `each` with every line (without its end), of one
 * longer than the buffer with its beginning, until that returns false. False when the file can not
 * be opened. Async-signal-safe. */
HKM_COLD bool os_each_line(const char *path, char *buffer, size_t bytes,
                           bool (*each)(const char *line, void *arg), void *arg);
/* The next environment variable whose name begins with `prefix`, behind that, as "REST=value"; NULL
 * when there is none, and in set-uid programs. *at is 0 at first. */
const char *os_next_variable(const char *prefix, size_t *at);

/* How often a call of this kind was made, the failed ones too. */
uint64_t os_call_count(enum os_call call);

/* ---- for tests: faults and a clock of their own; checked builds only ----
 *
 * `fail`, when set, is asked before each system call that maps memory, with the os_ function's
 * name as `site`; what it returns other than 0 is the error that the call fails with, without
 * having been made. It may be asked by several threads at once, and must not allocate. While
 * `clock_is_virtual` is set the clock reads `clock_ms` instead of the system's. All are 0 at
 * first. */
#if HKM_OS_TEST
typedef int os_fail(enum os_call call, const char *site, size_t bytes);
struct os_test {
    ATOMIC(os_fail *) fail;
    ATOMIC(uint32_t) clock_is_virtual, clock_ms;
};
extern struct os_test os_test;
#endif

#endif
