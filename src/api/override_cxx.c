/* override_cxx.c -- C++'s operator new and delete, by their mangled names (Itanium ABI).
 * Purpose     plain, array, nothrow, sized and aligned, in all combinations. When memory is out,
 *             the throwing forms call the new-handler until there is none, then throw
 *             std::bad_alloc by libstdc++'s own functions; the library itself does not need
 *             libstdc++. Compiled with -fexceptions, so that the exception passes through.
 * Loaded      a program in C that loads C++ code later, as interpreters do, has none of libstdc++
 *             when the weak references here are bound, and what dlopen brings in need not be in the
 *             global scope. Then libstdc++'s own form of the operator, as the caller's library sees
 *             it, takes over when memory is out.
 * Replaced    a program may have some of them of its own, often new and delete alone. So the
 *             others are what the standard says of them ([new.delete]): an array's is the plain
 *             one, a sized delete the one without a size, nothrow the throwing one, as the program
 *             has these. All are weak: a program linked with libhakmem.a may do so, too.
 */
#include <dlfcn.h>
#include <stdlib.h>

#include "api/entry.h"
#include "os/os.h"

typedef void (*new_handler)(void);

/* std::get_new_handler() and std::__throw_bad_alloc() */
extern new_handler get_new_handler(void) __asm__("_ZSt15get_new_handlerv") __attribute__((weak));
extern void throw_bad_alloc(void) __asm__("_ZSt17__throw_bad_allocv") __attribute__((weak));

extern void *dlopen_seen_by(void *caller, const char *name)
    __attribute__((weak, visibility("hidden")));

#define CALLER __builtin_return_address(0) /* of the operator */

/* Of this library, or of the program it is linked to. */
extern const char own_start[] __asm__("__ehdr_start") __attribute__((visibility("hidden")));
extern const char own_end[] __asm__("_end") __attribute__((visibility("hidden")));

/* The operator `name` that stands behind this library's. */
static HKM_COLD void *form_behind(const char *name, void *caller) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL && dlopen_seen_by != NULL)
        found = dlopen_seen_by(caller, name);
    size_t bytes = (uintptr_t)own_end - (uintptr_t)own_start;
    return (uintptr_t)found - (uintptr_t)own_start < bytes ? NULL : found;
}

static HKM_COLD void *new_slow(size_t bytes, size_t alignment, void *caller);

/* Declares an operator by its mangled name: operator_NAME is what the program finds under it,
 * own_NAME what stands here. */
#define OPERATOR(type, name, parameters)                             \
    type operator##name parameters __asm__(#name);                   \
    extern __typeof__(operator##name) own##name __asm__("own" #name) \
        __attribute__((alias(#name), visibility("hidden")));         \
    HKM_PUBLIC __attribute__((weak)) type operator##name parameters

#define REPLACED(name) entry_is_other((uintptr_t)operator##name, (uintptr_t)own##name)

OPERATOR(void *, _Znwm, (size_t bytes)) {
    void *block = entry_malloc(bytes);
    return likely(block != NULL) ? block : new_slow(bytes, BLOCK_ALIGN, CALLER);
}
OPERATOR(void, _ZdlPv, (void *block)) { entry_free(block); }
OPERATOR(void *, _ZnwmSt11align_val_t, (size_t bytes, size_t alignment)) {
    void *block = entry_aligned(alignment, bytes);
    return likely(block != NULL) ? block : new_slow(bytes, alignment, CALLER);
}

/* Past the first failure. */
static void *new_slow(size_t bytes, size_t alignment, void *caller) {
    static const char text[] = "hakmem: no std::bad_alloc to throw\n";
    if (throw_bad_alloc == NULL) { /* a plain operator has one argument, and leaves the other */
        const char *name = alignment <= BLOCK_ALIGN ? "_Znwm" : "_ZnwmSt11align_val_t";
        void *next = form_behind(name, caller);
        if (next != NULL)
            return ((void *(*)(size_t, size_t))next)(bytes, alignment);
        os_write(2, text, sizeof text - 1);
        abort();
    }
    for (;;) {
        new_handler handler = get_new_handler != NULL ? get_new_handler() : (new_handler)NULL;
        if (handler == NULL) {
            throw_bad_alloc();
            abort();
        }
        handler();
        void *block = entry_aligned(alignment, bytes);
        if (block != NULL)
            return block;
    }
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
static HKM_COLD void *next_nothrow(const char *name, void *caller, size_t bytes, size_t alignment,
                                   const void *tag, void *own) {
    void *next = form_behind(name, caller);
    if (next != NULL && alignment == 0)
        return ((void *(*)(size_t, const void *))next)(bytes, tag);
    if (next != NULL)
        return ((void *(*)(size_t, size_t, const void *))next)(bytes, alignment, tag);
    /* a plain operator has one argument, and leaves the other */
    return own != NULL ? ((void *(*)(size_t, size_t))own)(bytes, alignment) : NULL;
}

/* When a block could not be had. Where libstdc++ is not known, there may be a new-handler. */
static HKM_COLD void *nothrow_slow(size_t bytes, size_t alignment, const void *tag, void *caller) {
    if (get_new_handler != NULL && get_new_handler() == NULL)
        return NULL;
    return next_nothrow(alignment == 0 ? "_ZnwmRKSt9nothrow_t"
                                       : "_ZnwmSt11align_val_tRKSt9nothrow_t",
                        caller, bytes, alignment, tag, NULL);
}

OPERATOR(void *, _ZnwmRKSt9nothrow_t, (size_t bytes, const void *tag)) {
    if (REPLACED(_Znwm))
        return next_nothrow("_ZnwmRKSt9nothrow_t", CALLER, bytes, 0, tag, operator_Znwm);
    void *block = entry_malloc(bytes);
    return likely(block != NULL) ? block : nothrow_slow(bytes, 0, tag, CALLER);
}
OPERATOR(void *, _ZnwmSt11align_val_tRKSt9nothrow_t,
         (size_t bytes, size_t alignment, const void *tag)) {
    if (REPLACED(_ZnwmSt11align_val_t))
        return next_nothrow("_ZnwmSt11align_val_tRKSt9nothrow_t", CALLER, bytes, alignment, tag,
                            operator_ZnwmSt11align_val_t);
    void *block = entry_aligned(alignment, bytes);
    return likely(block != NULL) ? block : nothrow_slow(bytes, alignment, tag, CALLER);
}
OPERATOR(void *, _ZnamRKSt9nothrow_t, (size_t bytes, const void *tag)) {
    if (REPLACED(_Znam) || REPLACED(_Znwm))
        return next_nothrow("_ZnamRKSt9nothrow_t", CALLER, bytes, 0, tag, operator_Znam);
    return own_ZnwmRKSt9nothrow_t(bytes, tag);
}
OPERATOR(void *, _ZnamSt11align_val_tRKSt9nothrow_t,
         (size_t bytes, size_t alignment, const void *tag)) {
    if (REPLACED(_ZnamSt11align_val_t) || REPLACED(_ZnwmSt11align_val_t))
        return next_nothrow("_ZnamSt11align_val_tRKSt9nothrow_t", CALLER, bytes, alignment, tag,
                            operator_ZnamSt11align_val_t);
    return own_ZnwmSt11align_val_tRKSt9nothrow_t(bytes, alignment, tag);
}
