/* vdso.h -- functions that the kernel maps into each process.
 * Purpose     the clock is asked without the C library, whose clock_gettime a library such as
 *             libfaketime replaces: that one allocates, and takes itself for broken when the
 *             allocator asks it meanwhile. Nor is its time ours.
 * Source      vdso(7)
 */
#ifndef HKM_OS_VDSO_H
#define HKM_OS_VDSO_H

#include "base/config.h"

/* The address of a function by its name, such as "__vdso_clock_gettime"; 0 where there is none. */
uintptr_t vdso_find(const char *name);

#endif
