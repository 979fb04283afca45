/* fault.h -- reporting a broken invariant of the registry.
 * Purpose     the first line names the invariant, what was expected and what was found, and where;
 *             details follow (core/report.h). Allocates nothing; ends the process by SIGABRT.
 */
#ifndef HKM_CHECK_FAULT_H
#define HKM_CHECK_FAULT_H

#include "check/invariants.h"

_Noreturn HKM_COLD void fault_words(enum invariant invariant, const char *expected,
                                    const char *found, const void *about);
_Noreturn HKM_COLD void fault_numbers(enum invariant invariant, uint64_t expected, uint64_t found,
                                      const void *about);

/* A line to go with the fault that follows: an address, and its offset in the block. */
HKM_COLD void fault_note(const char *what, const void *address, ptrdiff_t offset);

/* Two numbers or addresses that must be the same; `about` is the block or the record. */
#define must_equal(number, expected, found, about)                   \
    do {                                                             \
        uint64_t expected_ = (uint64_t)(expected);                   \
        uint64_t found_ = (uint64_t)(found);                         \
        if (unlikely(expected_ != found_))                           \
            fault_numbers(INV_##number, expected_, found_, (about)); \
    } while (0)

#define must_hold(number, condition, expected, found, about)         \
    do {                                                             \
        if (unlikely(!(condition)))                                  \
            fault_words(INV_##number, (expected), (found), (about)); \
    } while (0)

#endif
