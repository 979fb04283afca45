/* require.h -- what must hold.
 * Purpose     hkm_require is always compiled in: it guards against what a caller, a stray write or
 *             a bug can break, and ends the process with a report. hkm_assert is for the checked
 *             builds and costs O(1). Both name the invariant they stand for ("S1 free count").
 */
#ifndef HKM_BASE_REQUIRE_H
#define HKM_BASE_REQUIRE_H

#include "base/config.h"

/* Reports a broken invariant of the allocator itself and aborts; defined in check/fault.c. */
_Noreturn HKM_COLD void hkm_broken(const char *invariant, const void *about);

#define hkm_require(condition, invariant, about) \
    do {                                         \
        if (unlikely(!(condition)))              \
            hkm_broken(invariant, about);        \
    } while (0)

#define hkm_assert(condition, invariant, about)             \
    do {                                                    \
        if (HKM_CHECK_LEVEL >= 1 && unlikely(!(condition))) \
            hkm_broken(invariant, about);                   \
    } while (0)

#endif
