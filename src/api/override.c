/* override.c -- malloc and its family, in place of the C library's.
 * Purpose     the public functions of glibc's malloc, with glibc's semantics where standards leave
 *             a choice, and C23's sized frees; libhkm.a is built without this file.
 */
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/entry.h"
#include "core/stats.h"

void free_sized(void *block, size_t bytes);
void free_aligned_sized(void *block, size_t alignment, size_t bytes);
void cfree(void *block);

/* A program may have malloc, free and realloc of its own, as browsers do, but not all that glibc
 * builds on these: that then goes to the program's. */
#define OWN(name) __attribute__((alias(#name), visibility("hidden"), leaf, nothrow))
extern __typeof__(free) own_free OWN(free);
extern __typeof__(realloc) own_realloc OWN(realloc);
#define REPLACED(name) entry_is_other((uintptr_t)name, (uintptr_t)own_##name)

HKM_PUBLIC void *malloc(size_t bytes) { return entry_malloc(bytes); }
HKM_PUBLIC void free(void *block) { entry_free(block); }
HKM_PUBLIC void cfree(void *block) { entry_free_seldom(block); }
HKM_PUBLIC void *calloc(size_t count, size_t bytes) { return entry_calloc(count, bytes); }
HKM_PUBLIC void *realloc(void *block, size_t bytes) { return entry_realloc(block, bytes); }
HKM_PUBLIC void *reallocarray(void *block, size_t count, size_t bytes) {
    size_t total;
    if (REPLACED(realloc) && !__builtin_mul_overflow(count, bytes, &total))
        return realloc(block, total);
    return entry_reallocarray(block, count, bytes);
}
HKM_PUBLIC void *aligned_alloc(size_t alignment, size_t bytes) {
    return entry_aligned_alloc(alignment, bytes);
}
HKM_PUBLIC int posix_memalign(void **out, size_t alignment, size_t bytes) {
    return entry_posix_memalign(out, alignment, bytes);
}
HKM_PUBLIC void *memalign(size_t alignment, size_t bytes) {
    return entry_memalign(alignment, bytes);
}
HKM_PUBLIC void *valloc(size_t bytes) { return entry_aligned(os_page_bytes(), bytes); }
HKM_PUBLIC void *pvalloc(size_t bytes) { return entry_pvalloc(bytes); }
HKM_PUBLIC void free_sized(void *block, size_t bytes) {
    if (REPLACED(free))
        free(block);
    else
        entry_free_sized(block, bytes);
}
HKM_PUBLIC void free_aligned_sized(void *block, size_t alignment, size_t bytes) {
    if (REPLACED(free))
        free(block);
    else
        entry_free_aligned_sized(block, alignment, bytes);
}
HKM_PUBLIC size_t malloc_usable_size(void *block) { return entry_usable_size(block); }
HKM_PUBLIC int malloc_trim(size_t pad) { return hkm_malloc_trim(pad); }
HKM_PUBLIC void malloc_stats(void) { stats_print(2); }

/* glibc's parameters tune glibc's structures: the known ones are accepted and change nothing. */
HKM_PUBLIC int mallopt(int parameter, int value) {
    (void)value;
    return parameter == M_MXFAST || (parameter <= M_TRIM_THRESHOLD && parameter >= M_ARENA_MAX);
}

/* glibc's words: "arena" is what is not large blocks, hblkhd the large blocks' bytes; uordblks is
 * in use and fordblks free within the arena, and keepcost what malloc_trim would return. */
HKM_PUBLIC struct mallinfo2 mallinfo2(void) {
    struct hkm_stats s;
    memset(&s, 0, sizeof s);
    stats_collect(&s);
    struct mallinfo2 info;
    memset(&info, 0, sizeof info);
    info.uordblks = s.small_bytes_live;
    info.fordblks = s.bytes_cached + s.bytes_free;
    info.arena = info.uordblks + info.fordblks;
    info.ordblks = s.slots_active + s.slots_empty;
    info.hblks = s.large_blocks_live;
    info.hblkhd = s.large_bytes_live;
    info.fsmblks = s.bytes_cached;
    info.keepcost = s.bytes_large_cached + s.bytes_free;
    return info;
}

static int clamp(size_t n) { return n > INT_MAX ? INT_MAX : (int)n; }

HKM_PUBLIC struct mallinfo mallinfo(void) {
    struct mallinfo2 wide = mallinfo2();
    struct mallinfo info;
    memset(&info, 0, sizeof info);
    info.arena = clamp(wide.arena);
    info.ordblks = clamp(wide.ordblks);
    info.hblks = clamp(wide.hblks);
    info.hblkhd = clamp(wide.hblkhd);
    info.fsmblks = clamp(wide.fsmblks);
    info.uordblks = clamp(wide.uordblks);
    info.fordblks = clamp(wide.fordblks);
    info.keepcost = clamp(wide.keepcost);
    return info;
}

/* The elements that readers of glibc's malloc_info look for, with this allocator's figures. */
HKM_PUBLIC int malloc_info(int flags, FILE *stream) {
    if (flags != 0) {
        errno = EINVAL;
        return -1;
    }
    struct hkm_stats s;
    memset(&s, 0, sizeof s);
    stats_collect(&s);
    int n = fprintf(stream,
                    "<malloc version=\"1\">\n"
                    "<heap nr=\"0\">\n"
                    "<total type=\"small\" count=\"%" PRIu64 "\" size=\"%" PRIu64 "\"/>\n"
                    "<total type=\"cached\" size=\"%" PRIu64 "\"/>\n"
                    "<total type=\"rest\" count=\"%" PRIu64 "\" size=\"%" PRIu64 "\"/>\n"
                    "<system type=\"current\" size=\"%" PRIu64 "\"/>\n"
                    "</heap>\n"
                    "<total type=\"mmap\" count=\"%" PRIu64 "\" size=\"%" PRIu64 "\"/>\n"
                    "<system type=\"current\" size=\"%" PRIu64 "\"/>\n"
                    "</malloc>\n",
                    s.small_blocks_live, s.small_bytes_live, s.bytes_cached,
                    s.slots_active + s.slots_empty, s.bytes_free, s.bytes_committed,
                    s.large_blocks_live, s.large_bytes_live, s.bytes_committed);
    return n < 0 ? -1 : 0;
}
