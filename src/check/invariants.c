/* invariants.c -- the registry as a table; see invariants.h.
 * Purpose     three strings a row, one behind the other. A table of pointers would be 500
 *             relocations, for which each process that loads the library pays in time and memory.
 */
#include "check/invariants.h"

#include <string.h>

#include "base/text.h"

#define STRINGS(number, keyword, text) #number "\0" keyword "\0" text
#define MEMBER(number, keyword, level, function, text) \
    char number[sizeof STRINGS(number, keyword, text)];
#define ROW(number, keyword, level, function, text) STRINGS(number, keyword, text),
static const struct { INVARIANTS_EVERY_BUILD(MEMBER) } strings = {INVARIANTS_EVERY_BUILD(ROW)};
static const struct { INVARIANTS_SHADOW(MEMBER) } shadow_strings = {INVARIANTS_SHADOW(ROW)};

#define ONE(number, keyword, level, function, text) +1
enum { EVERY_BUILD_COUNT = 0 INVARIANTS_EVERY_BUILD(ONE) };
#define SHADOW (HKM_CHECK_LEVEL >= 1) /* nothing else finds these broken */
#define KNOWN (SHADOW ? (unsigned)INVARIANT_COUNT : (unsigned)EVERY_BUILD_COUNT)

struct invariant_row invariant_row(enum invariant which) {
    const char *number = (const char *)&strings;
    unsigned left = which;
    if (SHADOW && left >= EVERY_BUILD_COUNT) {
        number = (const char *)&shadow_strings;
        left -= EVERY_BUILD_COUNT;
    }
    for (; left > 0; left--)
        number = text_behind(text_behind(text_behind(number)));
    const char *keyword = text_behind(number);
    return (struct invariant_row){number, keyword, text_behind(keyword)};
}

enum invariant invariant_cited(const char *citation) {
    size_t length = strcspn(citation, " ");
    for (unsigned i = 0; i < KNOWN; i++) {
        const char *number = invariant_row((enum invariant)i).number;
        if (strlen(number) == length && memcmp(number, citation, length) == 0)
            return (enum invariant)i;
    }
    return INVARIANT_COUNT;
}
