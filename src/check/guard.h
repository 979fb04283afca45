/* guard.h -- redzones and poison: what is written where the program must not write, and looked at.
 * Purpose     a live block's redzone goes from the size asked for to the block's end; of more than
 *             REDZONE_MOST bytes only the first ones and the last REDZONE_BYTES. The last
 *             REDZONE_BYTES of a block are redzone in every state once it or the block behind it
 *             was allocated: so they guard the start of the next block as well. A dead block is
 *             poison up to there, of more than POISON_MOST bytes only the first ones.
 *             Under Valgrind or AddressSanitizer the same bytes are marked as not accessible. The
 *             checker's own looks open them for Valgrind meanwhile; AddressSanitizer does not see
 *             them, because marks that one thread opens another may close.
 * Ordering    the last REDZONE_BYTES are looked at by whoever has the next block, while the
 *             block's holder writes the same there again: relaxed atomics. The rest is its
 *             holder's.
 */
#ifndef HKM_CHECK_GUARD_H
#define HKM_CHECK_GUARD_H

#include "base/config.h"

#define REDZONE_BYTES ((size_t)16)
#define REDZONE_MOST KIB(4)
#define POISON_MOST KIB(4)
#define REDZONE_BYTE 0xb5
#define POISON_BYTE 0xd7

void guard_start(void);
/* Whether the process runs under Valgrind, which has a cost for each byte that is committed. */
bool guard_on_valgrind(void);

/* The redzone of a block of `bytes` of which `requested` are the program's. */
void guard_fill(char *block, size_t requested, size_t bytes);
/* The first byte that is no longer as guard_fill left it; NULL when all are. */
const char *guard_check(const char *block, size_t requested, size_t bytes);
/* The last bytes of a block. */
void guard_fill_end(char *block, size_t bytes);
const char *guard_check_end(const char *block, size_t bytes);
/* A dead block; its last bytes are left alone. */
void guard_poison(char *block, size_t bytes);
const char *guard_check_poison(const char *block, size_t bytes);

/* What Valgrind and AddressSanitizer are told. */
void guard_born(const char *block, size_t requested, size_t bytes, bool zeroed);
void guard_resized(const char *block, size_t old, size_t requested, size_t bytes);
void guard_died(const char *block, size_t bytes);
/* Core is about to touch a range. */
void guard_touch(const void *from, size_t bytes);
/* The program may access a range, about which nothing is known. */
void guard_open(const void *from, size_t bytes);
/* What a magazine has above its top is no pointer: else no leak is ever found. */
void guard_forget(const void *from, const void *to);

#endif
