/* plugin.c -- what stress/dlopen_storm loads and unloads; see there.
 * It is given the allocator's functions at each call, but for its constructor and destructor, which
 * find them in the program. These two run under the dynamic linker's lock, which ThreadSanitizer
 * can not see: they say so with dlopen_storm_lock.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hakmem/hakmem.h"

#define KEPT 64u

struct plugin_calls {
    void *(*allocate)(size_t);
    void (*free)(void *);
};

extern _Atomic(unsigned) dlopen_storm_lock; /* the program's */

static __thread unsigned char *of_thread[8]; /* its pages are the dynamic linker's own malloc's */
static unsigned char *kept[KEPT];

static size_t size_of(size_t i) { return 16 + i * i * 24; }

__attribute__((constructor)) static void loaded(void) {
    atomic_fetch_add_explicit(&dlopen_storm_lock, 1, memory_order_acquire);
    for (size_t i = 0; i < KEPT; i++) {
        kept[i] = hkm_malloc(size_of(i));
        if (kept[i] != NULL)
            memset(kept[i], (int)(i + 1), size_of(i));
    }
    atomic_fetch_add_explicit(&dlopen_storm_lock, 1, memory_order_release);
}

__attribute__((destructor)) static void unloaded(void) {
    atomic_fetch_add_explicit(&dlopen_storm_lock, 1, memory_order_acquire);
    for (size_t i = 0; i < KEPT; i++) {
        for (size_t k = 0; kept[i] != NULL && k < size_of(i); k++)
            if (kept[i][k] != i + 1)
                abort();
        hkm_free(kept[i]);
    }
    atomic_fetch_add_explicit(&dlopen_storm_lock, 1, memory_order_release);
}

uint64_t plugin_enter(const struct plugin_calls *calls, uint64_t value);

/* value + 1; 0 without memory. */
uint64_t plugin_enter(const struct plugin_calls *calls, uint64_t value) {
    uint64_t result = 0;
    for (size_t i = 0; i < 8; i++) {
        of_thread[i] = calls->allocate(64 + (value >> (8 * i) & 255) * 16);
        if (of_thread[i] != NULL)
            memcpy(of_thread[i], &value, sizeof value);
    }
    for (size_t i = 0; i < 8; i++) {
        if (of_thread[i] == NULL)
            continue;
        memcpy(&result, of_thread[i], sizeof result);
        calls->free(of_thread[i]);
        of_thread[i] = NULL;
        if (result != value)
            abort();
        result++;
    }
    return result;
}
