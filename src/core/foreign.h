/* foreign.h -- pointers that are not of the arena.
 * Purpose     a block of glibc's own malloc (from a library that dlmopen bound deep, or from
 *             before the preload took effect) is handed to glibc; anything else is misuse, and is
 *             named. The list of mappings tells what a pointer is, before anything is read there.
 */
#ifndef HKM_CORE_FOREIGN_H
#define HKM_CORE_FOREIGN_H

#include "base/config.h"

/* The calls for a pointer outside the arena, not NULL. They report and abort when it is no block of
 * glibc's. */
void foreign_free(const char *call, void *block);
void *foreign_realloc(void *block, size_t bytes);
size_t foreign_usable_size(const void *block);

#endif
