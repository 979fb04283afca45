/* config.h -- the constants that more than one module depends on, and the compiler's words.
 * Purpose     one place for the numbers; the relations between them are asserted here. What only
 *             one module decides by stands at the head of its .c file.
 *             HKM_CHECK (0 release, 1 and 2 debug) is read here and nowhere else: code says
 *             `if (HKM_CHECK_LEVEL >= 1)`, so that every build compiles every line.
 */
#ifndef HKM_BASE_CONFIG_H
#define HKM_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef HKM_CHECK
#define HKM_CHECK 0
#endif
enum { HKM_CHECK_LEVEL = HKM_CHECK };
#define HKM_OS_TEST (HKM_CHECK >= 1) /* os.h: tests may make calls fail and set the clock */

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define HKM_COLD __attribute__((noinline, cold))
#define HKM_NOINLINE __attribute__((noinline))
/* Code that few processes run, or that runs seldom, but has to be fast: apart from what every
 * process runs. */
#define HKM_SELDOM __attribute__((noinline, section(".text.seldom")))
/* A large array of zeros of which little is touched: placed behind the others, so that these share
 * pages. */
#define HKM_SPARSE __attribute__((section(".bss.sparse")))
#define HKM_INLINE static inline __attribute__((always_inline))
#define HKM_PUBLIC __attribute__((visibility("default")))

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)
#define GIB(n) ((size_t)(n) << 30)

/* ---- slots and SuperSlabs ---- */
#define SLOT_SHIFT 16
#define SLOT_BYTES ((size_t)1 << SLOT_SHIFT)
#define SUPERSLAB_SHIFT 21
#define SUPERSLAB_BYTES ((size_t)1 << SUPERSLAB_SHIFT)
#define SUPERSLAB_SLOTS 32u
_Static_assert(SUPERSLAB_BYTES == SUPERSLAB_SLOTS * SLOT_BYTES, "a SuperSlab is 32 slots");

/* ---- size classes: 1..8 in steps of 16 bytes, then 8 to a doubling up to 32 KiB, then 4 up to
 * 256 KiB ---- */
#define BLOCK_ALIGN ((size_t)16)
#define CLASS_COUNT 85u      /* classes 1..84; 0 stands for "no class" */
#define CLASS_LARGE_HEAD 85u /* class map only: first slot of a large block's run */
#define CLASS_LARGE_TAIL 86u /* class map only: any other slot of that run */
#define CLASS_MAP_VALUES 87u
#define SMALL_BYTES_MAX KIB(256)
#define SLOT_BLOCKS_MAX 4096u

/* ---- the arena ---- */
#define ARENA_BYTES_MAX GIB(1024)
#define ARENA_BYTES_MIN MIB(8)
#define ARENA_SUPERSLABS_MAX (ARENA_BYTES_MAX >> SUPERSLAB_SHIFT)
#define META_CHUNK_SLOTS 1024u /* metadata is committed for 64 MiB of data at a time */

/* ---- front caches ---- */
#define MAGAZINE_ENTRIES_MAX 16384u
/* Capacity of a magazine that overflowed at its largest size, or that was larger before the program
 * held more than DEEP_SUPERSLABS (heap.c). */
#define FLOODED_CAP 1024u
#define INLINE_ROOM 1024u /* entries of the magazines' arrays in a heap's own record */
#define PACKET_BLOCKS 62u
#define HEAPS_MAX 16384u

#endif
