/* maps.h -- the process's mappings, read from /proc/self/maps. Async-signal-safe. */
#ifndef HKM_CORE_MAPS_H
#define HKM_CORE_MAPS_H

#include "base/config.h"

struct maps_region {
    uintptr_t start, end;
    uintptr_t file_start; /* where the first mapping of the same file starts */
    bool readable, writable, executable;
    const char *name; /* path (its beginning, when `buffer` has no room for it), "[heap]", "[stack]"
                       * or "" */
};

/* Calls `each` for every mapping in ascending order until it returns false. False when the mappings
 * can not be read. `buffer` holds the text meanwhile. */
bool maps_each(char *buffer, size_t bytes, bool (*each)(const struct maps_region *, void *arg),
               void *arg);

#endif
