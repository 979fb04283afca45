/* hakmem.h -- the public interface of HAKMEM under the prefix hkm_.
 *
 * Every function here may be called from any thread at any time, also before
 * main() and from thread-exit destructors, unless its comment says otherwise.
 * None is async-signal-safe.  "May enter the OS" means that a call can make
 * system calls that map, commit or return memory.  All functions that allocate,
 * resize or free may; of the others, those without the remark never do.
 *
 * Sizes and alignments are in bytes.  A block returned by any allocation
 * function here may be given to any function that takes a block.  Giving a
 * pointer that is not a live block to such a function is a program error: the
 * library writes a report to stderr and aborts.
 */
#ifndef HAKMEM_HAKMEM_H
#define HAKMEM_HAKMEM_H

#include <stddef.h>
#include <stdint.h>

#define HKM_VERSION_MAJOR 0
#define HKM_VERSION_MINOR 1
#define HKM_VERSION_PATCH 0

#if defined(__GNUC__) || defined(__clang__)
#define HKM_ATTR_(...) __attribute__((__VA_ARGS__))
#else
#define HKM_ATTR_(...)
#endif

/* gcc warns about a block given to the wrong deallocator; clang has no such attribute. */
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#define HKM_ATTR_DEALLOC_ HKM_ATTR_(malloc, malloc(hkm_free, 1))
#else
#define HKM_ATTR_DEALLOC_ HKM_ATTR_(malloc)
#endif

#ifdef __cplusplus
#define HKM_NOEXCEPT_ noexcept
extern "C" {
#else
#define HKM_NOEXCEPT_
#endif

/* ---- allocate, resize, free: the semantics of C23 and POSIX ---- */

/* Frees a block; NULL is allowed.  Leaves errno as it was.  May enter the OS (purge). */
void hkm_free(void *block) HKM_NOEXCEPT_;

/* A block of at least `bytes` (0 gives a distinct block of the smallest class), aligned to 16.
 * NULL with errno ENOMEM when there is no memory or `bytes` exceeds PTRDIFF_MAX.  May enter the
 * OS. */
void *hkm_malloc(size_t bytes) HKM_NOEXCEPT_ HKM_ATTR_DEALLOC_
    HKM_ATTR_(alloc_size(1), warn_unused_result);

/* hkm_malloc(count * bytes) filled with zeros; NULL with ENOMEM when the product overflows. */
void *hkm_calloc(size_t count, size_t bytes) HKM_NOEXCEPT_ HKM_ATTR_DEALLOC_
    HKM_ATTR_(alloc_size(1, 2), warn_unused_result);

/* Resizes a block, keeping the first min(old, new) bytes; the block may move.  NULL `block`
 * allocates; zero `bytes` frees the block and returns NULL, as glibc does.  On failure NULL with
 * errno ENOMEM, and the block is left as it was; to make a block smaller does not fail, at worst
 * it stays as long as it is.  Blocks of more than 4 MiB move by mremap, without copying, where the
 * kernel can. */
void *hkm_realloc(void *block, size_t bytes) HKM_NOEXCEPT_
    HKM_ATTR_(alloc_size(2), warn_unused_result);

/* hkm_realloc(block, count * bytes); NULL with ENOMEM when the product overflows. */
void *hkm_reallocarray(void *block, size_t count, size_t bytes) HKM_NOEXCEPT_
    HKM_ATTR_(alloc_size(2, 3), warn_unused_result);

/* A block aligned to `alignment`, a power of two; otherwise NULL with errno EINVAL.  `bytes` need
 * not be a multiple of the alignment. */
void *hkm_aligned_alloc(size_t alignment, size_t bytes) HKM_NOEXCEPT_ HKM_ATTR_DEALLOC_
    HKM_ATTR_(alloc_size(2), alloc_align(1), warn_unused_result);

/* Stores an aligned block in *out and returns 0; EINVAL when `alignment` is not a power of two
 * times sizeof(void *), ENOMEM when there is no memory; then *out is untouched.  Leaves errno as it
 * was. */
int hkm_posix_memalign(void **out, size_t alignment, size_t bytes) HKM_NOEXCEPT_
    HKM_ATTR_(nonnull(1), warn_unused_result);

/* As hkm_aligned_alloc, but an alignment that is no power of two is rounded up to the next one
 * (glibc's memalign). */
void *hkm_memalign(size_t alignment, size_t bytes) HKM_NOEXCEPT_ HKM_ATTR_DEALLOC_
    HKM_ATTR_(alloc_size(2), warn_unused_result);

/* A page-aligned block; pvalloc also rounds the size up to whole pages. */
void *hkm_valloc(size_t bytes) HKM_NOEXCEPT_ HKM_ATTR_DEALLOC_
    HKM_ATTR_(alloc_size(1), warn_unused_result);
void *hkm_pvalloc(size_t bytes) HKM_NOEXCEPT_ HKM_ATTR_DEALLOC_ HKM_ATTR_(warn_unused_result);

/* C23: frees a block whose requested size (and alignment) the caller still knows.  A size that the
 * block can not have been allocated with is reported as misuse. */
void hkm_free_sized(void *block, size_t bytes) HKM_NOEXCEPT_;
void hkm_free_aligned_sized(void *block, size_t alignment, size_t bytes) HKM_NOEXCEPT_;

/* ---- questions about blocks and sizes ---- */

/* How many bytes of the block may be used: at least what was asked for.  0 for NULL. */
size_t hkm_malloc_usable_size(const void *block) HKM_NOEXCEPT_;

/* The usable size that hkm_malloc(bytes) would give; 0 when `bytes` can never be allocated.
 * Pure arithmetic. */
size_t hkm_good_size(size_t bytes) HKM_NOEXCEPT_ HKM_ATTR_(warn_unused_result);

/* Makes the block at least `bytes` long without moving it, and returns it; NULL when that can not
 * be done, with the block and errno as they were.  May enter the OS (commit). */
void *hkm_expand(void *block, size_t bytes) HKM_NOEXCEPT_ HKM_ATTR_(warn_unused_result);

/* 1 when `pointer` lies inside a block that is live now (its start or its interior), else 0.  Any
 * pointer value is allowed.  The answer is only as lasting as the caller's hold on the block. */
int hkm_owns(const void *pointer) HKM_NOEXCEPT_ HKM_ATTR_(warn_unused_result);

/* ---- memory and the OS ---- */

/* Drains the calling thread's front caches and returns every page that holds no block to the OS, at
 * once.  The result is the number of bytes returned.  Enters the OS. */
size_t hkm_purge(void) HKM_NOEXCEPT_;

/* glibc's: hkm_purge, if `pad` is 0 or more than `pad` bytes of idle memory are there; 1 when
 * something was returned. */
int hkm_malloc_trim(size_t pad) HKM_NOEXCEPT_;

/* Walks the whole heap and holds it against the allocator's invariants (docs/INVARIANTS.md); one
 * that is broken is reported on stderr, and the process aborts.  The result is the number of live
 * blocks, exact when no other thread allocates meanwhile.  While other threads run, what only they
 * can look at is left out, and so is its share of the result.  Takes time in proportion to the
 * heap.  Enters the OS. */
size_t hkm_heap_check(void) HKM_NOEXCEPT_;

/* ---- statistics ---- */

struct hkm_stats {
    size_t struct_bytes; /* in: sizeof(struct hkm_stats); out: the bytes that were filled */

    /* Cumulative counts since the process started. */
    uint64_t slots_stage
        [4];        /* runs acquired from: own EMPTY, shared EMPTY, UNUSED slots, new SuperSlab */
    uint64_t fills; /* front-cache fills */
    uint64_t flushes;        /* front-cache flushes */
    uint64_t drains;         /* whole-heap drains */
    uint64_t remote_frees;   /* blocks sent home to another thread's heap */
    uint64_t remote_packets; /* packets that carried them: one atomic operation each */
    uint64_t large_allocs;   /* large blocks handed out */
    uint64_t large_hits;     /* of these, taken from the big cache */
    uint64_t adoptions;      /* orphaned heaps taken over by a new thread */
    uint64_t bytes_returned; /* bytes given back to the OS */

    /* The state at the call. */
    uint64_t heaps;              /* heap records in existence */
    uint64_t heaps_orphan;       /* of these, without a thread */
    uint64_t superslabs_live;    /* SuperSlabs with at least one slot in use */
    uint64_t superslabs_cached;  /* empty SuperSlabs whose pages are still held (the LRU) */
    uint64_t slots_active;       /* runs of slots carved into blocks, not all of which are free */
    uint64_t slots_empty;        /* runs of slots carved into blocks, all of which are free */
    uint64_t small_blocks_live;  /* blocks of the size classes held by the program */
    uint64_t small_bytes_live;   /* their usable bytes */
    uint64_t large_blocks_live;  /* large blocks held by the program */
    uint64_t large_bytes_live;   /* their usable bytes */
    uint64_t bytes_cached;       /* bytes of free blocks in front caches and packets */
    uint64_t bytes_free;         /* bytes of free blocks in slots */
    uint64_t bytes_large_cached; /* bytes in the big cache */
    uint64_t bytes_reserved;     /* address space reserved for blocks */
    uint64_t bytes_committed;    /* of that, readable and writable */
    uint64_t bytes_metadata;     /* committed bytes that describe blocks */

    /* System calls made, by kind. */
    uint64_t calls_mmap, calls_munmap, calls_mprotect, calls_madvise, calls_mremap;
};

/* Fills *stats up to stats->struct_bytes (which the caller sets first) and returns 0; EINVAL when
 * that is too small to hold struct_bytes itself.  Exact when no other thread is allocating. */
int hkm_stats_get(struct hkm_stats *stats) HKM_NOEXCEPT_ HKM_ATTR_(nonnull(1));

/* Writes the statistics to stderr. */
void hkm_malloc_stats(void) HKM_NOEXCEPT_;

/* "0.1.0"; the version of the library that runs, as HKM_VERSION_* is of this header. */
const char *hkm_version(void) HKM_NOEXCEPT_ HKM_ATTR_(returns_nonnull);

#ifdef __cplusplus
}
#endif

#endif
