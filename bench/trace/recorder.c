/* recorder.c -- libhakmem-trace.so: records a program's allocations (hakmem-run --trace=FILE).
 * Purpose     stands before the allocator in LD_PRELOAD, hands each call on to the next library
 *             that has it (RTLD_NEXT), and writes down thread, operation, size and the block's
 *             age: format.h. Without HAKMEM_TRACE in the environment it only hands on.
 * Invariants  R1. a block's name is in the map exactly while the program may free it: set before
 *                 the block is given out, taken before the call that frees it.
 *             R2. stamps rise within a buffer: taken under the buffer's lock.
 *             R3. nothing in here allocates from the allocator below: pages come from mmap.
 *             R4. `inside` is set while the library works for a thread: what the allocator below
 *                 calls by itself (operator new its malloc, say) is not recorded twice.
 * Ownership   a buffer belongs to one thread at a time; its lock is for the flush at exit.
 * Processes   the one that hakmem-run became writes FILE, others that it starts by exec
 *             FILE.<pid>; a forked child that does not exec is not recorded.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "format.h"

#define PUBLIC __attribute__((visibility("default")))
#define BUFFER_BYTES (64u << 10)
#define LEAF_BITS 16u /* a leaf is for 1 MiB of addresses in steps of 16 bytes */
#define BRANCH_BITS 14u
#define GRAIN_BITS 4u
#define BOOT_BYTES (64u << 10)

struct buffer {
    int lock;
    int free; /* no thread's */
    uint64_t thread;
    uint64_t stamp_before; /* of the first event */
    uint64_t stamp_last;
    size_t used;
    struct buffer *next; /* all buffers; never taken out */
    unsigned char events[BUFFER_BYTES];
};

static _Atomic(int) recording; /* 0 no, 1 yes */
static int trace_file = -1;
static int file_lock;
static uint64_t stamps;
static uint64_t threads;
static struct buffer *buffers;
static pthread_key_t end_key;
static int end_key_made;
static __thread struct buffer *mine;
static __thread int inside;

/* ---- the functions below ---- */

static struct {
    void *(*malloc)(size_t);
    void (*free)(void *);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*memalign)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
} below;
static int prepared; /* 0 no, 1 under way, 2 done */

/* What the loader asks for while the functions below are being looked up. Never given back. */
static _Alignas(64) char boot[BOOT_BYTES];
static size_t boot_used;

static void *boot_take(size_t bytes) {
    size_t need = (bytes + 15) & ~(size_t)15;
    size_t at = __atomic_fetch_add(&boot_used, need, __ATOMIC_RELAXED);
    return need >= bytes && at + need <= BOOT_BYTES ? boot + at : NULL;
}
static int boot_owns(const void *block) {
    return (uintptr_t)block - (uintptr_t)boot < BOOT_BYTES;
}

static void lock(int *word) {
    while (__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE) != 0)
        sched_yield();
}
static void unlock(int *word) { __atomic_store_n(word, 0, __ATOMIC_RELEASE); }

/* ---- the file ---- */

static void stop(const char *why) {
    recording = 0;
    (void)!write(2, "hakmem-trace: ", 14);
    (void)!write(2, why, strlen(why));
    (void)!write(2, "\n", 1);
}

static void write_all(const void *data, size_t bytes) {
    const char *from = data;
    while (bytes > 0) {
        ssize_t done = write(trace_file, from, bytes);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            stop("cannot write the trace any further");
            return;
        }
        from += done;
        bytes -= (size_t)done;
    }
}

static size_t put_number(unsigned char *to, uint64_t number) {
    size_t length = 0;
    while (number >= 0x80) {
        to[length++] = (unsigned char)(number | 0x80);
        number >>= 7;
    }
    to[length++] = (unsigned char)number;
    return length;
}

/* With the buffer's lock. */
static void flush(struct buffer *buffer) {
    if (buffer->used == 0)
        return;
    int error = errno;
    unsigned char head[30];
    size_t length = put_number(head, buffer->thread);
    length += put_number(head + length, buffer->stamp_before);
    length += put_number(head + length, buffer->used);
    lock(&file_lock);
    if (recording) {
        write_all(head, length);
        write_all(buffer->events, buffer->used);
    }
    unlock(&file_lock);
    buffer->used = 0;
    buffer->stamp_before = buffer->stamp_last;
    errno = error;
}

static void flush_everything(void) {
    if (!recording)
        return;
    for (struct buffer *b = __atomic_load_n(&buffers, __ATOMIC_ACQUIRE); b != NULL; b = b->next) {
        lock(&b->lock);
        flush(b);
        unlock(&b->lock);
    }
}

/* ---- names of blocks: two levels of pages that appear as they are needed ---- */

static uint64_t **map[1u << BRANCH_BITS];

static void *pages(size_t bytes) {
    void *got = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return got == MAP_FAILED ? NULL : got;
}

/* The place of a block's name; NULL when there is no memory for it. */
static uint64_t *map_place(const void *block) {
    uintptr_t grain = (uintptr_t)block >> GRAIN_BITS;
    size_t leaf_at = grain & ((1u << LEAF_BITS) - 1);
    size_t branch_at = (grain >> LEAF_BITS) & ((1u << BRANCH_BITS) - 1);
    size_t root_at = (grain >> (LEAF_BITS + BRANCH_BITS)) & ((1u << BRANCH_BITS) - 1);
    uint64_t **branch = __atomic_load_n(&map[root_at], __ATOMIC_ACQUIRE);
    if (branch == NULL) {
        uint64_t **fresh = pages(sizeof(void *) << BRANCH_BITS);
        if (fresh == NULL)
            return NULL;
        if (__atomic_compare_exchange_n(&map[root_at], &branch, fresh, 0,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            branch = fresh;
        else
            munmap(fresh, sizeof(void *) << BRANCH_BITS);
    }
    uint64_t *leaf = __atomic_load_n(&branch[branch_at], __ATOMIC_ACQUIRE);
    if (leaf == NULL) {
        uint64_t *fresh = pages(sizeof(uint64_t) << LEAF_BITS);
        if (fresh == NULL)
            return NULL;
        if (__atomic_compare_exchange_n(&branch[branch_at], &leaf, fresh, 0,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            leaf = fresh;
        else
            munmap(fresh, sizeof(uint64_t) << LEAF_BITS);
    }
    return &leaf[leaf_at];
}

static void map_set(const void *block, uint64_t name) {
    uint64_t *place = map_place(block);
    if (place != NULL)
        __atomic_store_n(place, name, __ATOMIC_RELAXED);
    else
        stop("no memory for the map of blocks");
}

/* The name, or 0 when the block is not known. */
static uint64_t map_take(const void *block) {
    uint64_t *place = map_place(block);
    return place != NULL ? __atomic_exchange_n(place, 0, __ATOMIC_RELAXED) : 0;
}

/* ---- events ---- */

static struct buffer *buffer_get(void) {
    struct buffer *buffer = __atomic_load_n(&buffers, __ATOMIC_ACQUIRE);
    for (; buffer != NULL; buffer = buffer->next) {
        if (__atomic_exchange_n(&buffer->free, 0, __ATOMIC_ACQUIRE) != 0)
            break;
    }
    if (buffer == NULL) {
        buffer = pages(sizeof *buffer);
        if (buffer == NULL) {
            stop("no memory for a buffer");
            return NULL;
        }
        buffer->next = __atomic_load_n(&buffers, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(&buffers, &buffer->next, buffer, 0, __ATOMIC_RELEASE,
                                            __ATOMIC_RELAXED))
            continue;
    }
    lock(&buffer->lock);
    buffer->thread = __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED);
    unlock(&buffer->lock);
    mine = buffer;
    if (end_key_made)
        pthread_setspecific(end_key, buffer);
    return buffer;
}

/* Writes one event down; for those with an age, `first` is the block's name. Its stamp, or 0. */
static uint64_t event(enum trace_op op, uint64_t first, uint64_t second) {
    struct buffer *buffer = mine != NULL ? mine : buffer_get();
    if (buffer == NULL)
        return 0;
    lock(&buffer->lock);
    if (buffer->used + TRACE_EVENT_BYTES_MAX > BUFFER_BYTES)
        flush(buffer);
    uint64_t stamp = __atomic_add_fetch(&stamps, 1, __ATOMIC_RELAXED);
    if (buffer->used == 0)
        buffer->stamp_before = buffer->stamp_last = stamp - 1;
    uint64_t step = stamp - buffer->stamp_last;
    unsigned char *to = buffer->events + buffer->used;
    size_t length = 1;
    to[0] = (unsigned char)((unsigned)op |
                            (unsigned)(step < TRACE_STEP_FAR ? step : TRACE_STEP_FAR)
                                << TRACE_OP_BITS);
    if (step >= TRACE_STEP_FAR)
        length += put_number(to + length, step);
    if (op == TRACE_FREE || op == TRACE_REALLOC)
        first = stamp - first;
    if (op != TRACE_END)
        length += put_number(to + length, first);
    if (op == TRACE_REALLOC || op == TRACE_ALIGNED)
        length += put_number(to + length, second);
    buffer->used += length;
    buffer->stamp_last = stamp;
    unlock(&buffer->lock);
    return stamp;
}

/* A thread's destructor; whatever it still frees afterwards is another thread's to the trace. */
static void thread_end(void *argument) {
    struct buffer *buffer = argument;
    if (recording)
        event(TRACE_END, 0, 0);
    mine = NULL;
    lock(&buffer->lock);
    flush(buffer);
    unlock(&buffer->lock);
    __atomic_store_n(&buffer->free, 1, __ATOMIC_RELEASE);
}

/* ---- start, fork, exit ---- */

static void in_child(void) { recording = 0; }

static void start_recording(void) {
    const char *name = getenv("HAKMEM_TRACE");
    if (name == NULL || *name == '\0')
        return;
    const char *first = getenv("HAKMEM_TRACE_PID");
    char path[PATH_MAX];
    int length = first != NULL && strtol(first, NULL, 10) == (long)getpid()
                     ? snprintf(path, sizeof path, "%s", name)
                     : snprintf(path, sizeof path, "%s.%ld", name, (long)getpid());
    if (length < 0 || (size_t)length >= sizeof path)
        return;
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    /* Out of the way of programs that count on their numbers. */
    trace_file = file < 0 ? -1 : fcntl(file, F_DUPFD_CLOEXEC, 400);
    if (trace_file < 0)
        trace_file = file;
    else
        close(file);
    if (trace_file < 0) {
        stop("cannot write the file that HAKMEM_TRACE names");
        return;
    }
    recording = 1;
    write_all(TRACE_MAGIC, TRACE_MAGIC_BYTES);
    end_key_made = pthread_key_create(&end_key, thread_end) == 0;
    pthread_atfork(NULL, NULL, in_child);
}

static void prepare(void) {
    int none = 0;
    if (!__atomic_compare_exchange_n(&prepared, &none, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE))
        return;
    inside++;
    *(void **)&below.free = dlsym(RTLD_NEXT, "free");
    *(void **)&below.calloc = dlsym(RTLD_NEXT, "calloc");
    *(void **)&below.realloc = dlsym(RTLD_NEXT, "realloc");
    *(void **)&below.memalign = dlsym(RTLD_NEXT, "memalign");
    *(void **)&below.posix_memalign = dlsym(RTLD_NEXT, "posix_memalign");
    *(void **)&below.aligned_alloc = dlsym(RTLD_NEXT, "aligned_alloc");
    *(void **)&below.malloc = dlsym(RTLD_NEXT, "malloc");
    if (below.malloc == NULL || below.free == NULL || below.calloc == NULL ||
        below.realloc == NULL || below.memalign == NULL || below.posix_memalign == NULL ||
        below.aligned_alloc == NULL) {
        stop("no allocator below");
        abort();
    }
    start_recording();
    __atomic_store_n(&prepared, 2, __ATOMIC_RELEASE);
    inside--;
}

/* True when the functions below can be called. */
static inline int ready(void) {
    if (__builtin_expect(__atomic_load_n(&prepared, __ATOMIC_ACQUIRE) != 2, 0)) {
        prepare();
        while (__atomic_load_n(&prepared, __ATOMIC_ACQUIRE) != 2) {
            if (inside)
                return 0; /* this very thread is looking them up */
            sched_yield();
        }
    }
    return 1;
}

__attribute__((constructor)) static void begin(void) { (void)ready(); }
__attribute__((destructor)) static void end(void) {
    flush_everything();
    recording = 0;
}
static _Noreturn void leave(int status) {
    flush_everything();
    for (;;)
        syscall(SYS_exit_group, status);
}
PUBLIC _Noreturn void _exit(int status) { leave(status); }
PUBLIC _Noreturn void _Exit(int status) { leave(status); }

/* ---- the calls ---- */

static inline int wanted(void) { return recording && !inside; }

/* Names the block that a call has made. */
static inline void *made(void *block, enum trace_op op, uint64_t first, uint64_t second) {
    if (block != NULL && wanted()) {
        inside++;
        uint64_t name = event(op, first, second);
        if (name != 0)
            map_set(block, name);
        inside--;
    }
    return block;
}

/* Before a call that frees the block. */
static inline void freed(const void *block) {
    if (block != NULL && wanted()) {
        inside++;
        uint64_t name = map_take(block);
        if (name != 0)
            event(TRACE_FREE, name, 0);
        inside--;
    }
}

PUBLIC void *malloc(size_t bytes) {
    if (!ready())
        return boot_take(bytes);
    return made(below.malloc(bytes), TRACE_MALLOC, bytes, 0);
}

PUBLIC void *calloc(size_t count, size_t bytes) {
    if (!ready())
        return boot_take(count * bytes); /* the loader's, never large */
    return made(below.calloc(count, bytes), TRACE_CALLOC, count * bytes, 0);
}

PUBLIC void free(void *block) {
    if (block == NULL || boot_owns(block) || !ready())
        return;
    freed(block);
    below.free(block);
}
PUBLIC void cfree(void *block);
PUBLIC void cfree(void *block) { free(block); }
PUBLIC void free_sized(void *block, size_t bytes);
PUBLIC void free_sized(void *block, size_t bytes) {
    (void)bytes;
    free(block);
}
PUBLIC void free_aligned_sized(void *block, size_t alignment, size_t bytes);
PUBLIC void free_aligned_sized(void *block, size_t alignment, size_t bytes) {
    (void)alignment;
    (void)bytes;
    free(block);
}

PUBLIC void *realloc(void *block, size_t bytes) {
    if (!ready() || boot_owns(block)) {
        void *fresh = malloc(bytes);
        size_t before = block != NULL ? (size_t)(boot + BOOT_BYTES - (char *)block) : 0;
        if (fresh != NULL && before != 0)
            memcpy(fresh, block, bytes < before ? bytes : before);
        return fresh;
    }
    if (block == NULL)
        return made(below.realloc(NULL, bytes), TRACE_MALLOC, bytes, 0);
    if (!wanted())
        return below.realloc(block, bytes);
    uint64_t name = map_take(block);
    void *fresh = below.realloc(block, bytes);
    inside++;
    if (fresh != NULL) {
        uint64_t renamed = name != 0 ? event(TRACE_REALLOC, name, bytes)
                                     : event(TRACE_MALLOC, bytes, 0);
        if (renamed != 0)
            map_set(fresh, renamed);
    } else if (bytes != 0) {
        map_set(block, name); /* it failed */
    } else if (name != 0) {
        event(TRACE_FREE, name, 0);
    }
    inside--;
    return fresh;
}
PUBLIC void *reallocarray(void *block, size_t count, size_t bytes) {
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, total);
}

static uint64_t log2_of(size_t alignment) {
    return alignment > 1 ? (uint64_t)(64 - __builtin_clzll(alignment - 1)) : 0;
}

PUBLIC void *memalign(size_t alignment, size_t bytes);
PUBLIC void *memalign(size_t alignment, size_t bytes) {
    if (!ready())
        return NULL;
    return made(below.memalign(alignment, bytes), TRACE_ALIGNED, log2_of(alignment), bytes);
}
PUBLIC void *aligned_alloc(size_t alignment, size_t bytes) {
    if (!ready())
        return NULL;
    return made(below.aligned_alloc(alignment, bytes), TRACE_ALIGNED, log2_of(alignment), bytes);
}
PUBLIC int posix_memalign(void **block, size_t alignment, size_t bytes) {
    if (!ready())
        return ENOMEM;
    int error = below.posix_memalign(block, alignment, bytes);
    if (error == 0)
        made(*block, TRACE_ALIGNED, log2_of(alignment), bytes);
    return error;
}
PUBLIC void *valloc(size_t bytes) { return memalign((size_t)sysconf(_SC_PAGESIZE), bytes); }
PUBLIC void *pvalloc(size_t bytes);
PUBLIC void *pvalloc(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t rounded = (bytes + page - 1) & ~(page - 1);
    return rounded >= bytes ? memalign(page, rounded) : NULL;
}

/* ---- C++'s operators: an allocator that has its own does not come by malloc ---- */

static void leave_inside(int *was) { inside = *was; }

/* Looks an operator up below; where there is none, malloc and free serve. */
static void *operator_below(void **known, const char *name) {
    void *found = __atomic_load_n(known, __ATOMIC_RELAXED);
    if (found == NULL) {
        int was __attribute__((cleanup(leave_inside))) = inside++;
        found = dlsym(RTLD_NEXT, name);
        __atomic_store_n(known, found, __ATOMIC_RELAXED);
    }
    return found;
}

/* `call` may throw: `inside` is put back on the way. */
#define OPERATOR_NEW(name, parameters, types, arguments, op, first, second, otherwise) \
    PUBLIC void *operator##name parameters __asm__(#name);                             \
    PUBLIC void *operator##name parameters {                                           \
        static void *known;                                                            \
        void *block;                                                                   \
        if (!ready())                                                                  \
            return NULL;                                                               \
        void *next = operator_below(&known, #name);                                    \
        {                                                                              \
            int was __attribute__((cleanup(leave_inside))) = inside++;                 \
            block = next != NULL ? ((void *(*)types)next)arguments : (otherwise);      \
        }                                                                              \
        return made(block, op, first, second);                                         \
    }
#define OPERATOR_DELETE(name, parameters, types, arguments)   \
    PUBLIC void operator##name parameters __asm__(#name);     \
    PUBLIC void operator##name parameters {                   \
        static void *known;                                   \
        if (block == NULL || boot_owns(block) || !ready())    \
            return;                                           \
        void *next = operator_below(&known, #name);           \
        freed(block);                                         \
        int was __attribute__((cleanup(leave_inside))) = inside++; \
        if (next != NULL)                                     \
            ((void (*)types)next)arguments;                   \
        else                                                  \
            below.free(block);                                \
    }
#define NEW(suffix, ...)                     \
    OPERATOR_NEW(_Znwm##suffix, __VA_ARGS__) \
    OPERATOR_NEW(_Znam##suffix, __VA_ARGS__)
#define DELETE(suffix, ...) \
    OPERATOR_DELETE(_ZdlPv##suffix, __VA_ARGS__) OPERATOR_DELETE(_ZdaPv##suffix, __VA_ARGS__)

NEW(, (size_t n), (size_t), (n), TRACE_MALLOC, n, 0, below.malloc(n))
NEW(RKSt9nothrow_t, (size_t n, const void *tag), (size_t, const void *), (n, tag), TRACE_MALLOC, n,
    0, below.malloc(n))
NEW(St11align_val_t, (size_t n, size_t a), (size_t, size_t), (n, a), TRACE_ALIGNED, log2_of(a), n,
    below.memalign(a, n))
NEW(St11align_val_tRKSt9nothrow_t, (size_t n, size_t a, const void *tag),
    (size_t, size_t, const void *), (n, a, tag), TRACE_ALIGNED, log2_of(a), n, below.memalign(a, n))
DELETE(, (void *block), (void *), (block))
DELETE(m, (void *block, size_t n), (void *, size_t), (block, n))
DELETE(RKSt9nothrow_t, (void *block, const void *tag), (void *, const void *), (block, tag))
DELETE(St11align_val_t, (void *block, size_t a), (void *, size_t), (block, a))
DELETE(mSt11align_val_t, (void *block, size_t n, size_t a), (void *, size_t, size_t), (block, n, a))
DELETE(St11align_val_tRKSt9nothrow_t, (void *block, size_t a, const void *tag),
       (void *, size_t, const void *), (block, a, tag))
