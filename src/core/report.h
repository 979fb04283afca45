/* report.h -- what the library says before it ends the process.
 * Purpose     one line that can be parsed ("hakmem: double free of 0x..: ..."), then details: the
 *             run, its state, a backtrace. Allocates nothing, takes no lock, async-signal-safe.
 */
#ifndef HKM_CORE_REPORT_H
#define HKM_CORE_REPORT_H

#include "core/slot.h"

/* Misuse of `call` ("free", "realloc", ...) with a pointer of the arena that is no live block. */
_Noreturn void report_misuse(const char *call, const void *pointer);
/* Likewise with a pointer outside the arena; `what` says what it points to. */
_Noreturn void report_foreign(const char *call, const void *pointer, const char *what);
/* A block was freed with a size or an alignment that it does not have. */
_Noreturn void report_size(const char *call, const void *block, size_t has, size_t claimed);

/* Installs handlers that report SIGSEGV, SIGBUS and SIGABRT where the program has none, and then
 * let the signal have its effect. */
void report_install(void);

#endif
