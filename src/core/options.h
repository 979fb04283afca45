/* options.h -- what can be set from the environment, read once before the first block.
 * Purpose     one table (options.c): name, default, range, unit, help. HAKMEM_OPTIONS takes
 *             "name=value,..."; HAKMEM_NAME=value sets one; the second wins. A name that is not
 *             known or a value out of range is named in one line on stderr, and ignored.
 * Ownership   constant after options_load.
 */
#ifndef HKM_CORE_OPTIONS_H
#define HKM_CORE_OPTIONS_H

#include "base/config.h"

enum { STATS_OFF, STATS_EXIT };
enum { PREFAULT_OFF, PREFAULT_ON, PREFAULT_AUTO };
enum { LARGE_PAGES_OFF, LARGE_PAGES_ON, LARGE_PAGES_AUTO };

struct options {
    uint64_t fast_cap;
    uint64_t fill_batch;
    uint64_t drain_interval;
    uint64_t purge_delay_ms;
    uint64_t lru_superslabs;
    uint64_t big_cache_mib;
    uint64_t prewarm;
    uint64_t arena_mib;
    uint64_t large_pages;
    uint64_t prefault;
    uint64_t stats;
    uint64_t crash_report;
    uint64_t acquire_trace;
    uint64_t check_every;
    uint64_t check_quiet;
    uint64_t quarantine_kib;
    uint64_t stack_depth;
};

extern struct options options;

/* Reads the environment. To be called once, before anything reads `options`. */
void options_load(void);

#endif
