/* override_cxx.c -- C++'s operator new and delete, by their mangled names (Itanium ABI).
 * Purpose     plain, array, nothrow, sized and aligned, in all combinations. When memory is out,
 *             the throwing forms call the new-handler until there is none, then throw
 *             std::bad_alloc by libstdc++'s own functions, which are there whenever C++ code can
 *             call these; the library itself does not need libstdc++. Compiled with -fexceptions,
 *             so that the exception passes through.
 * Replaced    a program may have some of them of its own, often new and delete alone. So the
 *             others are what the standard says of them ([new.delete]): an array's is the plain
 *             one, a sized delete the one without a size, nothrow the throwing one, as the program
 *             has these. All are weak: a program linked with libhakmem.a may do so, too.
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

HKM_INLINE void *plain(size_t bytes) {
    void *block = entry_malloc(bytes);
    return likely(block != NULL) ? block : new_throwing(BLOCK_ALIGN, bytes);
}
HKM_INLINE void *aligned(size_t bytes, size_t alignment) {
    void *block = entry_aligned(alignment, bytes);
    return likely(block != NULL) ? block : new_throwing(alignment, bytes);
}

/* Declares an operator by its mangled name: operator_NAME is what the program finds under it,
 * own_NAME what stands here. */
#define OPERATOR(type, name, parameters)                             \
    type operator##name parameters __asm__(#name);                   \
    extern __typeof__(operator##name) own##name __asm__("own" #name) \
        __attribute__((alias(#name), visibility("hidden")));         \
    HKM_PUBLIC __attribute__((weak)) type operator##name parameters

#define REPLACED(name) entry_is_other((uintptr_t)operator##name, (uintptr_t)own##name)

OPERATOR(void *, _Znwm, (size_t bytes)) { return plain(bytes); }
OPERATOR(void, _ZdlPv, (void *block)) { entry_free(block); }
OPERATOR(void *, _ZnwmSt11align_val_t, (size_t bytes, size_t alignment)) {
    return aligned(bytes, alignment);
}
OPERATOR(void, _ZdlPvSt11align_val_t, (void *block, size_t alignment)) {
    entry_free_aligned(block, alignment);
}

/* ---- arrays ---- */

OPERATOR(void *, _Znam, (size_t bytes)) { return operator_Znwm(bytes); }
OPERATOR(void, _ZdaPv, (void *block)) { operator_ZdlPv(block); }
OPERATOR(void *, _ZnamSt11align_val_t, (size_t bytes, size_t alignment)) {
    return operator_ZnwmSt11align_val_t(bytes, alignment);
}
OPERATOR(void, _ZdaPvSt11align_val_t, (void *block, size_t alignment)) {
    operator_ZdlPvSt11align_val_t(block, alignment);
}

/* ---- with a size ---- */

OPERATOR(void, _ZdlPvm, (void *block, size_t bytes)) {
    if (REPLACED(_ZdlPv))
        operator_ZdlPv(block);
    else
        entry_free_sized(block, bytes);
}
OPERATOR(void, _ZdaPvm, (void *block, size_t bytes)) {
    if (REPLACED(_ZdaPv))
        operator_ZdaPv(block);
    else
        own_ZdlPvm(block, bytes);
}
OPERATOR(void, _ZdlPvmSt11align_val_t, (void *block, size_t bytes, size_t alignment)) {
    if (REPLACED(_ZdlPvSt11align_val_t))
        operator_ZdlPvSt11align_val_t(block, alignment);
    else
        entry_free_aligned_sized(block, alignment, bytes);
}
OPERATOR(void, _ZdaPvmSt11align_val_t, (void *block, size_t bytes, size_t alignment)) {
    if (REPLACED(_ZdaPvSt11align_val_t))
        operator_ZdaPvSt11align_val_t(block, alignment);
    else
        own_ZdlPvmSt11align_val_t(block, bytes, alignment);
}

/* ---- nothrow ---- */

/* delete and delete[] differ in name only. */
#define DELETE_NOTHROW(name)                                               \
    OPERATOR(void, name##RKSt9nothrow_t, (void *block, const void *tag)) { \
        (void)tag;                                                         \
        operator##name(block);                                             \
    }                                                                      \
    OPERATOR(void, name##St11align_val_tRKSt9nothrow_t,                    \
             (void *block, size_t alignment, const void *tag)) {           \
        (void)tag;                                                         \
        operator##name##St11align_val_t(block, alignment);                 \
    }

DELETE_NOTHROW(_ZdlPv)
DELETE_NOTHROW(_ZdaPv)

/* What throws is a new-handler, or a new of the program's own, and only C++ can catch: libstdc++'s
 * nothrow forms do, around a call of the throwing form. A static program has none behind this one:
 * there `own`, what the program has itself, is called as it is, and a new-handler not at all. */
static HKM_COLD void *next_nothrow(const char *name, size_t bytes, const void *tag,
                                   void *(*own)(size_t)) {
    void *(*next)(size_t, const void *) =
        (void *(*)(size_t, const void *))dlsym(RTLD_NEXT, name);
    if (next != NULL)
        return next(bytes, tag);
    return own != NULL ? own(bytes) : NULL;
}
static HKM_COLD void *next_aligned_nothrow(const char *name, size_t bytes, size_t alignment,
                                           const void *tag, void *(*own)(size_t, size_t)) {
    void *(*next)(size_t, size_t, const void *) =
        (void *(*)(size_t, size_t, const void *))dlsym(RTLD_NEXT, name);
    if (next != NULL)
        return next(bytes, alignment, tag);
    return own != NULL ? own(bytes, alignment) : NULL;
}

/* When a block could not be had. */
static HKM_COLD bool has_handler(void) {
    return get_new_handler != NULL && get_new_handler() != NULL;
}

OPERATOR(void *, _ZnwmRKSt9nothrow_t, (size_t bytes, const void *tag)) {
    if (REPLACED(_Znwm))
        return next_nothrow("_ZnwmRKSt9nothrow_t", bytes, tag, operator_Znwm);
    void *block = entry_malloc(bytes);
    if (likely(block != NULL) || !has_handler())
        return block;
    return next_nothrow("_ZnwmRKSt9nothrow_t", bytes, tag, NULL);
}
OPERATOR(void *, _ZnwmSt11align_val_tRKSt9nothrow_t,
         (size_t bytes, size_t alignment, const void *tag)) {
    if (REPLACED(_ZnwmSt11align_val_t))
        return next_aligned_nothrow("_ZnwmSt11align_val_tRKSt9nothrow_t", bytes, alignment, tag,
                                    operator_ZnwmSt11align_val_t);
    void *block = entry_aligned(alignment, bytes);
    if (likely(block != NULL) || !has_handler())
        return block;
    return next_aligned_nothrow("_ZnwmSt11align_val_tRKSt9nothrow_t", bytes, alignment, tag, NULL);
}
OPERATOR(void *, _ZnamRKSt9nothrow_t, (size_t bytes, const void *tag)) {
    if (REPLACED(_Znam) || REPLACED(_Znwm))
        return next_nothrow("_ZnamRKSt9nothrow_t", bytes, tag, operator_Znam);
    return own_ZnwmRKSt9nothrow_t(bytes, tag);
}
OPERATOR(void *, _ZnamSt11align_val_tRKSt9nothrow_t,
         (size_t bytes, size_t alignment, const void *tag)) {
    if (REPLACED(_ZnamSt11align_val_t) || REPLACED(_ZnwmSt11align_val_t))
        return next_aligned_nothrow("_ZnamSt11align_val_tRKSt9nothrow_t", bytes, alignment, tag,
                                    operator_ZnamSt11align_val_t);
    return own_ZnwmSt11align_val_tRKSt9nothrow_t(bytes, alignment, tag);
}
