/* watch.h -- what core tells the checked build.
 * Purpose     calls that core makes where HKM_CHECK_LEVEL >= 1 and nowhere else, so that what the
 *             checker keeps beside the data (src/check, which defines them) follows it. They must
 *             work in any state, and before watch_start they do nothing.
 */
#ifndef HKM_CORE_WATCH_H
#define HKM_CORE_WATCH_H

#include "base/config.h"

struct hkm_stats;

/* The arena and the options are there. */
void watch_start(void);
/* A slot's state was changed; enum slot_state. */
void watch_slot(uint32_t number, unsigned from, unsigned to);
/* A large block that was in use before is about to be cleared. */
void watch_clear(const void *block);
/* Pages of slots that nobody holds went back to the OS. */
void watch_purge(uint32_t first_slot, size_t count);
/* The details of a report; `invariant` ("S1 ...") may be NULL. */
void watch_report(const char *invariant, const void *about);
/* Blocks that the program has freed and the quarantine holds are not live. */
void watch_stats(struct hkm_stats *stats);

#endif
