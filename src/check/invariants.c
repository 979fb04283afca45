/* invariants.c -- the registry as a table; see invariants.h.
 * Purpose     three strings a row, one behind the other. A table of pointers would be 500
 *             relocations, for which each process that loads the library pays in time and memory.
 */
#include "check/invariants.h"

#include <string.h>

#define STRINGS(number, keyword, text) #number "\0" keyword "\0" text
#define MEMBER(number, keyword, level, function, text) \
    char number[sizeof STRINGS(number, keyword, text)];
#define ROW(number, keyword, level, function, text) STRINGS(number, keyword, text),
static const struct { INVARIANTS(MEMBER) } strings = {INVARIANTS(ROW)};

static const char *behind(const char *string) { return string + strlen(string) + 1; }

struct invariant_row invariant_row(enum invariant which) {
    const char *number = (const char *)&strings;
    for (unsigned left = which; left > 0; left--)
        number = behind(behind(behind(number)));
    const char *keyword = behind(number);
    return (struct invariant_row){number, keyword, behind(keyword)};
}

enum invariant invariant_cited(const char *citation) {
    size_t length = strcspn(citation, " ");
    for (unsigned i = 0; i < INVARIANT_COUNT; i++) {
        const char *number = invariant_row((enum invariant)i).number;
        if (strlen(number) == length && memcmp(number, citation, length) == 0)
            return (enum invariant)i;
    }
    return INVARIANT_COUNT;
}
