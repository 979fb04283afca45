/* entry.h -- the entry points' common bodies, inlined into both sets of names (hkm.c, override.c).
 * Purpose     a fast path that either ends in a magazine or falls into one cold call. In the
 *             checked build src/check takes each call instead, and core lies behind it.
 */
#ifndef HKM_API_ENTRY_H
#define HKM_API_ENTRY_H

#include <errno.h>

#include "check/check.h"
#include "core/alloc.h"
#include "core/front.h"
#include "hakmem/hakmem.h"

/* Whether src/check takes the calls; the frame of the exported function that this is inlined
 * into. */
#define CHECKED (HKM_CHECK_LEVEL >= 1)
#define ENTRY_FRAME __builtin_frame_address(0)

/* Whether the program has a function of its own, `found`, where the library's is `own`. (To
 * a compiler both may be the same.) */
HKM_INLINE bool entry_is_other(uintptr_t found, uintptr_t own) {
    __asm__("" : "+r"(found));
    return unlikely(found != own);
}

HKM_INLINE void *entry_malloc(size_t bytes) {
    if (CHECKED)
        return check_malloc(bytes, ENTRY_FRAME);
    struct magazine *m;
    if (likely(bytes <= FAST_BYTES_MAX))
        m = front_magazine(sizeclass_fast[(bytes + 15) >> 4]);
    else if (bytes <= SMALL_BYTES_MAX)
        m = front_magazine((size_t)sizeclass_of_medium(bytes) << MAGAZINE_SHIFT);
    else
        return alloc_slow(bytes);
    FRONT_POP_OR(m, return alloc_slow(bytes));
}

HKM_INLINE void entry_free(void *block) {
    if (CHECKED) {
        check_free("free", block, 0, NULL, ENTRY_FRAME);
        return;
    }
    front_free("free", block);
}

/* Where it is rare: not the fast path once more. */
HKM_INLINE void entry_free_seldom(void *block) {
    if (CHECKED)
        check_free("free", block, 0, NULL, ENTRY_FRAME);
    else
        alloc_free("free", block);
}

HKM_INLINE void entry_free_sized(void *block, size_t bytes) {
    if (CHECKED) {
        check_free("free_sized", block, 0, &bytes, ENTRY_FRAME);
        return;
    }
    const struct heap *heap = heap_mine;
    uintptr_t back = heap->arena_last - (uintptr_t)block;
    bool fits = bytes <= FAST_BYTES_MAX && back < heap->arena_bytes &&
                (uint16_t)atomic_get(&heap->class_map[back >> SLOT_SHIFT], relaxed) ==
                    sizeclass_fast[(bytes + 15) >> 4];
    if (likely(fits))
        front_free("free_sized", block);
    else
        alloc_free_sized("free_sized", block, bytes);
}

HKM_INLINE void *entry_calloc(size_t count, size_t bytes) {
    size_t total;
    if (unlikely(__builtin_mul_overflow(count, bytes, &total)))
        return alloc_out_of_memory();
    if (CHECKED)
        return check_calloc(total, ENTRY_FRAME);
    return alloc_zeroed(total);
}

HKM_INLINE void *entry_realloc(void *block, size_t bytes) {
    if (block == NULL)
        return entry_malloc(bytes);
    if (unlikely(bytes == 0)) {
        entry_free_seldom(block);
        return NULL;
    }
    if (CHECKED)
        return check_realloc(block, bytes, ENTRY_FRAME);
    return alloc_resize(block, bytes);
}

HKM_INLINE void *entry_reallocarray(void *block, size_t count, size_t bytes) {
    size_t total;
    if (unlikely(__builtin_mul_overflow(count, bytes, &total)))
        return alloc_out_of_memory();
    if (!CHECKED && block == NULL) /* rare, too */
        return alloc_aligned(BLOCK_ALIGN, total);
    return entry_realloc(block, total);
}

/* `alignment` is a power of two. */
HKM_INLINE void *entry_aligned(size_t alignment, size_t bytes) {
    if (CHECKED)
        return check_aligned(alignment, bytes, ENTRY_FRAME);
    return alloc_aligned(alignment, bytes);
}

HKM_INLINE void *entry_aligned_alloc(size_t alignment, size_t bytes) {
    if (unlikely(!is_power_of_two(alignment))) {
        errno = EINVAL;
        return NULL;
    }
    return entry_aligned(alignment, bytes);
}

HKM_INLINE void *entry_memalign(size_t alignment, size_t bytes) {
    size_t power = BLOCK_ALIGN;
    while (power < alignment) {
        power <<= 1;
        if (power == 0) {
            errno = EINVAL;
            return NULL;
        }
    }
    return entry_aligned(power, bytes);
}

HKM_INLINE int entry_posix_memalign(void **out, size_t alignment, size_t bytes) {
    if (!is_power_of_two(alignment) || alignment % sizeof(void *) != 0)
        return EINVAL;
    int saved = errno;
    void *block = entry_aligned(alignment, bytes);
    errno = saved;
    if (block == NULL)
        return ENOMEM;
    *out = block;
    return 0;
}

HKM_INLINE void *entry_pvalloc(size_t bytes) {
    size_t page = os_page_bytes();
    if (bytes > PTRDIFF_MAX)
        return alloc_out_of_memory();
    return entry_aligned(page, bytes == 0 ? page : round_up(bytes, page));
}

HKM_INLINE void entry_free_aligned_sized(void *block, size_t alignment, size_t bytes) {
    if (CHECKED) {
        check_free("free_aligned_sized", block, alignment, &bytes, ENTRY_FRAME);
        return;
    }
    if (block != NULL && arena_contains(block) && bytes > alloc_usable("free_aligned_sized", block))
        alloc_free_sized("free_aligned_sized", block, bytes);
    else
        alloc_free("free_aligned_sized", block);
}

/* C++'s delete of an aligned type, which need not know the size. */
HKM_INLINE void entry_free_aligned(void *block, size_t alignment) {
    if (CHECKED)
        check_free("free", block, alignment, NULL, ENTRY_FRAME);
    else
        entry_free(block);
}

HKM_INLINE bool entry_expand(void *block, size_t bytes) {
    return CHECKED ? check_expand(block, bytes, ENTRY_FRAME) : alloc_expand(block, bytes);
}

HKM_INLINE size_t entry_usable_size(const void *block) {
    if (CHECKED)
        return block == NULL ? 0 : check_usable("usable_size", block);
    return block == NULL ? 0 : alloc_usable("usable_size", block);
}

#endif
