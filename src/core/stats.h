/* stats.h -- counting up what the heaps, the pool and the OS contract have noted.
 * Purpose     nothing here costs an allocation anything: counters are written by slow paths, and
 *             what is live is found by going through the slot records when somebody asks.
 */
#ifndef HKM_CORE_STATS_H
#define HKM_CORE_STATS_H

#include "hakmem/hakmem.h"

/* Exact when no other thread allocates meanwhile. */
void stats_collect(struct hkm_stats *stats);
/* Writes them to a descriptor. */
void stats_print(int fd);

#endif
