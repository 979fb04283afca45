/* override_dlopen.c -- dlopen without RTLD_DEEPBIND, and a use of it, in the shared libraries.
 * Purpose     a library that is bound deep looks a name up among its own dependencies first: its
 *             malloc and free are glibc's, whatever was preloaded. What it frees of ours glibc then
 *             takes for its own and the program crashes, as php did, which loads every extension
 *             so. (The other way about is core/foreign.c's.) AddressSanitizer refuses the flag for
 *             the same reason; here it is left out.
 */
#include <dlfcn.h>

#include "base/atomic.h"
#include "base/config.h"

typedef void *dlopen_function(const char *file, int mode);
static ATOMIC(dlopen_function *) next_dlopen;

static HKM_COLD dlopen_function *find_next(void) {
    void *entry = dlsym(RTLD_NEXT, "dlopen");
    dlopen_function *next;
    __builtin_memcpy(&next, &entry, sizeof next);
    atomic_put(&next_dlopen, next, relaxed);
    return next;
}

/* glibc searches the RUNPATH of the library that its caller's return address lies in, so this has
 * to be a jump, which leaves that address where it is; gate/binary looks. */
HKM_PUBLIC HKM_COLD void *dlopen(const char *file, int mode) {
    dlopen_function *next = atomic_get(&next_dlopen, relaxed);
    if (next == NULL)
        next = find_next();
    return next(file, mode & ~RTLD_DEEPBIND);
}

/* What `name` is to the library that `caller` lies in and to those that it needs, if not the very
 * function that calls. (The library is in use, so that it stays when the handle is closed.) */
void *dlopen_seen_by(void *caller, const char *name);
HKM_COLD void *dlopen_seen_by(void *caller, const char *name) {
    Dl_info info;
    void *library = NULL;
    if (dladdr(caller, &info) != 0)
        library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (library == NULL)
        return NULL;
    void *found = dlsym(library, name);
    (void)dlclose(library);
    return found != info.dli_saddr ? found : NULL;
}
