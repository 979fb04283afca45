/* quarantine.h -- blocks that the program has freed, kept from reuse for a while.
 * Purpose     first in, first out, bounded by option quarantine_kib and by entries; core holds the
 *             blocks for live meanwhile. Whoever puts one in evicts as many as are too many.
 * Locking     lock-free: entries are taken by exchange, so that each is evicted once.
 */
#ifndef HKM_CHECK_QUARANTINE_H
#define HKM_CHECK_QUARANTINE_H

#include "base/atomic.h"
#include "base/config.h"

struct hkm_stats;

void quarantine_start(void);
/* Puts a dead block in that core holds for one of `bytes`; false when it is too large for it. */
bool quarantine_put(void *block, size_t bytes, bool large);
/* Evicts everything. */
void quarantine_flush(void);
/* What is in it. */
size_t quarantine_bytes(void);
size_t quarantine_blocks(void);
/* Takes it, and the redzones of live blocks, out of what core counts as live. */
void quarantine_stats(struct hkm_stats *stats);
/* Each block in it is in state QUARANTINED; quiet only. */
void quarantine_walk(void);

/* The counters of small blocks, for the negative tests alone. */
struct quarantine_innards {
    ATOMIC(size_t) * bytes, *blocks;
};
struct quarantine_innards quarantine_innards(void);

#endif
