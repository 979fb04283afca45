/* invariants.c -- the registry as a table; see invariants.h. */
#include "check/invariants.h"

#include <string.h>

#define ROW(number, keyword, level, function, text) {#number, keyword, #function, text, level},
const struct invariant_row invariant_table[INVARIANT_COUNT] = {INVARIANTS(ROW)};

const struct invariant_row *invariant_cited(const char *citation) {
    size_t length = strcspn(citation, " ");
    for (size_t i = 0; i < INVARIANT_COUNT; i++) {
        const char *number = invariant_table[i].number;
        if (strlen(number) == length && memcmp(number, citation, length) == 0)
            return &invariant_table[i];
    }
    return NULL;
}
