/* override_cxx.c -- C++'s operator new and delete, by their mangled names (Itanium ABI).
 * Purpose     plain, array, nothrow, sized and aligned, in all combinations. When memory is out,
 *             the throwing forms call the new-handler until there is none, then throw
 *             std::bad_alloc by libstdc++'s own functions, which are there whenever C++ code can
 *             call these; the library itself does not need libstdc++. Compiled with -fexceptions,
 *             so that the exception passes through.
 */
#include <dlfcn.h>
#include <stdlib.h>

#include "api/entry.h"

typedef void (*new_handler)(void);

/* std::get_new_handler() and std::__throw_bad_alloc() */
extern new_handler get_new_handler(void) __asm__("_ZSt15get_new_handlerv") __attribute__((weak));
extern void throw_bad_alloc(void) __asm__("_ZSt17__throw_bad_allocv") __attribute__((weak));

/* Past the first failure. */
static HKM_COLD void *new_throwing(size_t alignment, size_t bytes) {
    for (;;) {
        new_handler handler = get_new_handler != NULL ? get_new_handler() : (new_handler)NULL;
        if (handler == NULL) {
            if (throw_bad_alloc != NULL)
                throw_bad_alloc();
            abort();
        }
        handler();
        void *block = entry_aligned(alignment, bytes);
        if (block != NULL)
            return block;
    }
}

/* The new-handler may throw, and only C++ can catch: libstdc++'s own nothrow form does, around a
 * call of the throwing form, which is ours. */
static HKM_COLD void *new_nothrow(size_t alignment, size_t bytes, const void *tag) {
    if (get_new_handler == NULL || get_new_handler() == NULL)
        return NULL;
    if (alignment <= BLOCK_ALIGN) {
        void *(*next)(size_t, const void *) =
            (void *(*)(size_t, const void *))dlsym(RTLD_NEXT, "_ZnwmRKSt9nothrow_t");
        return next != NULL ? next(bytes, tag) : NULL;
    }
    void *(*next)(size_t, size_t, const void *) = (void *(*)(size_t, size_t, const void *))dlsym(
        RTLD_NEXT, "_ZnwmSt11align_val_tRKSt9nothrow_t");
    return next != NULL ? next(bytes, alignment, tag) : NULL;
}

HKM_INLINE void *plain(size_t bytes) {
    void *block = entry_malloc(bytes);
    return likely(block != NULL) ? block : new_throwing(BLOCK_ALIGN, bytes);
}
HKM_INLINE void *plain_nothrow(size_t bytes, const void *tag) {
    void *block = entry_malloc(bytes);
    return likely(block != NULL) ? block : new_nothrow(BLOCK_ALIGN, bytes, tag);
}
HKM_INLINE void *aligned(size_t bytes, size_t alignment) {
    void *block = entry_aligned(alignment, bytes);
    return likely(block != NULL) ? block : new_throwing(alignment, bytes);
}
HKM_INLINE void *aligned_nothrow(size_t bytes, size_t alignment, const void *tag) {
    void *block = entry_aligned(alignment, bytes);
    return likely(block != NULL) ? block : new_nothrow(alignment, bytes, tag);
}

/* Declares an operator by its mangled name, and defines it. */
#define OPERATOR(type, name, parameters, body)     \
    type operator##name parameters __asm__(#name); \
    HKM_PUBLIC type operator##name parameters { body; }

/* new and new[] differ in name only. */
#define NEW(suffix, parameters, body)                        \
    OPERATOR(void *, _Znwm##suffix, parameters, return body) \
    OPERATOR(void *, _Znam##suffix, parameters, return body)
#define DELETE(suffix, parameters, body)             \
    OPERATOR(void, _ZdlPv##suffix, parameters, body) \
    OPERATOR(void, _ZdaPv##suffix, parameters, body)

NEW(, (size_t bytes), plain(bytes))
NEW(RKSt9nothrow_t, (size_t bytes, const void *tag), plain_nothrow(bytes, tag))
NEW(St11align_val_t, (size_t bytes, size_t alignment), aligned(bytes, alignment))
NEW(St11align_val_tRKSt9nothrow_t, (size_t bytes, size_t alignment, const void *tag),
    aligned_nothrow(bytes, alignment, tag))

DELETE(, (void *block), entry_free(block))
DELETE(m, (void *block, size_t bytes), entry_free_sized(block, bytes))
DELETE(RKSt9nothrow_t, (void *block, const void *tag), (void)tag; entry_free(block))
DELETE(St11align_val_t, (void *block, size_t alignment), entry_free_aligned(block, alignment))
DELETE(mSt11align_val_t, (void *block, size_t bytes, size_t alignment),
       entry_free_aligned_sized(block, alignment, bytes))
DELETE(St11align_val_tRKSt9nothrow_t, (void *block, size_t alignment, const void *tag),
       (void)tag; entry_free_aligned(block, alignment))
