/* hkm.c -- the interface under the prefix hkm_; hakmem.h says what each function promises. */
#include <string.h>

#include "api/entry.h"
#include "check/check.h"
#include "core/decay.h"
#include "core/large.h"
#include "core/life.h"
#include "core/stats.h"
#include "core/superslab.h"

HKM_PUBLIC void *hkm_malloc(size_t bytes) { return entry_malloc(bytes); }
HKM_PUBLIC void hkm_free(void *block) { entry_free(block); }
HKM_PUBLIC void *hkm_calloc(size_t count, size_t bytes) { return entry_calloc(count, bytes); }
HKM_PUBLIC void *hkm_realloc(void *block, size_t bytes) { return entry_realloc(block, bytes); }
HKM_PUBLIC void *hkm_reallocarray(void *block, size_t count, size_t bytes) {
    return entry_reallocarray(block, count, bytes);
}
HKM_PUBLIC void *hkm_aligned_alloc(size_t alignment, size_t bytes) {
    return entry_aligned_alloc(alignment, bytes);
}
HKM_PUBLIC int hkm_posix_memalign(void **out, size_t alignment, size_t bytes) {
    return entry_posix_memalign(out, alignment, bytes);
}
HKM_PUBLIC void *hkm_memalign(size_t alignment, size_t bytes) {
    return entry_memalign(alignment, bytes);
}
HKM_PUBLIC void *hkm_valloc(size_t bytes) { return entry_aligned(os_page_bytes(), bytes); }
HKM_PUBLIC void *hkm_pvalloc(size_t bytes) { return entry_pvalloc(bytes); }
HKM_PUBLIC void hkm_free_sized(void *block, size_t bytes) { entry_free_sized(block, bytes); }
HKM_PUBLIC void hkm_free_aligned_sized(void *block, size_t alignment, size_t bytes) {
    entry_free_aligned_sized(block, alignment, bytes);
}
HKM_PUBLIC size_t hkm_malloc_usable_size(const void *block) { return entry_usable_size(block); }
HKM_PUBLIC size_t hkm_good_size(size_t bytes) {
    return CHECKED ? check_good_size(bytes) : alloc_good_size(bytes);
}
HKM_PUBLIC int hkm_owns(const void *pointer) {
    return CHECKED ? check_owns(pointer) : alloc_owns(pointer);
}

HKM_PUBLIC void *hkm_expand(void *block, size_t bytes) {
    return block != NULL && entry_expand(block, bytes) ? block : NULL;
}

HKM_PUBLIC size_t hkm_purge(void) {
    return CHECKED ? check_purge() : decay_all(life_heap_if_any());
}

HKM_PUBLIC int hkm_malloc_trim(size_t pad) {
    if (pad > 0 && superslab_idle_dirty() + large_cached_bytes() <= pad)
        return 0;
    return hkm_purge() > 0;
}

HKM_PUBLIC size_t hkm_heap_check(void) { return check_heap(); }

HKM_PUBLIC int hkm_stats_get(struct hkm_stats *stats) {
    size_t room = stats->struct_bytes;
    if (room < sizeof stats->struct_bytes)
        return EINVAL;
    struct hkm_stats all;
    memset(&all, 0, sizeof all);
    stats_collect(&all);
    size_t bytes = room < sizeof all ? room : sizeof all;
    all.struct_bytes = bytes;
    memcpy(stats, &all, bytes);
    return 0;
}

HKM_PUBLIC void hkm_malloc_stats(void) { stats_print(2); }

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
HKM_PUBLIC const char *hkm_version(void) {
    return TEXT(HKM_VERSION_MAJOR) "." TEXT(HKM_VERSION_MINOR) "." TEXT(HKM_VERSION_PATCH);
}
