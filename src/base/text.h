/* text.h -- lines of text put together without allocating, for reports written in any state.
 * Purpose     a buffer of the caller's; what does not fit is cut off. Async-signal-safe.
 */
#ifndef HKM_BASE_TEXT_H
#define HKM_BASE_TEXT_H

#include <string.h>

#include "base/config.h"

struct text {
    size_t used;
    char chars[1000];
};

static inline void text_add(struct text *t, const char *s) {
    while (*s != '\0' && t->used < sizeof t->chars - 1)
        t->chars[t->used++] = *s++;
    t->chars[t->used] = '\0';
}

static inline void text_number(struct text *t, uint64_t n, unsigned radix) {
    char digits[24];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    do {
        digits[--at] = "0123456789abcdef"[n % radix];
        n /= radix;
    } while (n != 0);
    text_add(t, digits + at);
}

static inline void text_dec(struct text *t, uint64_t n) { text_number(t, n, 10); }

static inline void text_pointer(struct text *t, const void *p) {
    text_add(t, "0x");
    text_number(t, (uintptr_t)p, 16);
}

/* Fills up with blanks to a column. */
static inline void text_column(struct text *t, size_t column) {
    while (t->used < column && t->used < sizeof t->chars - 1)
        text_add(t, " ");
}

/* "1.5 MiB" */
static inline void text_bytes(struct text *t, uint64_t bytes) {
    static const char units[][5] = {" B", " KiB", " MiB", " GiB", " TiB"};
    unsigned u = 0;
    uint64_t tenths = bytes > UINT64_MAX / 16 ? UINT64_MAX / 16 * 10 : bytes * 10;
    while (tenths >= 10240 && u < 4) {
        tenths = (tenths + 512) / 1024;
        u++;
    }
    text_dec(t, tenths / 10);
    if (u > 0) {
        text_add(t, ".");
        text_dec(t, tenths % 10);
    }
    text_add(t, units[u]);
}

/* For strings that stand one behind the other: the next one. */
static inline const char *text_behind(const char *string) { return string + strlen(string) + 1; }

#endif
