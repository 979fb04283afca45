/* report.h -- what the library says before it ends the process.
 * Purpose     one line that can be parsed ("hakmem: double free of 0x..: ..."), then details: the
 *             run, its state, a backtrace. In the checked build a line that names the broken
 *             invariant ("hakmem: CHECK B1 double-free: ...") comes before it. Allocates
 *             nothing, async-signal-safe, with little on the stack.
 * Locking     one thread reports: others wait for it to end the process, a second at most.
 */
#ifndef HKM_CORE_REPORT_H
#define HKM_CORE_REPORT_H

#include "base/text.h"
#include "core/slot.h"

/* Misuse of `call` ("free", "realloc", ...) with a pointer of the arena that is no live block. */
_Noreturn void report_misuse(const char *call, const void *pointer);
/* Likewise with a pointer outside the arena; `what` says what it points to. */
_Noreturn void report_foreign(const char *call, const void *pointer, const char *what);
/* A block was freed with a size or an alignment that it does not have. */
_Noreturn void report_size(const char *call, const void *block, size_t has, size_t claimed);
_Noreturn void report_alignment(const char *call, const void *block, size_t has, size_t claimed);

/* Like report_misuse, for the start of a block that core holds for live and the checked build knows
 * to be dead. */
_Noreturn void report_dead(const char *call, const void *block);

/* ---- what other reports are put together from ---- */

/* Keeps other threads from reporting until the process ends, or for a second where that hangs. The
 * same thread may report in the midst of its report. The result is the report's line, empty. */
HKM_COLD struct text *report_begin(void);
/* "hakmem: CHECK S7 slot-state: expected ACTIVE found UNUSED superslab=.. slot=.. class=.. ptr=.."
 * to stderr; `about` is a block or a record, from which the last four are derived. */
void report_check_line(const char *invariant, const char *keyword, const char *expected,
                       const char *found, const void *about);
/* Appends "; SuperSlab 3, slot 5 ACTIVE, class 64" to the line. */
void report_place(const void *pointer);
/* Writes the line, the details and a backtrace, and aborts. `invariant` may be NULL. */
_Noreturn void report_end(const char *invariant, const void *about);

/* The slot that an address is about: a block's, or a record's; UINT32_MAX when it is neither. */
uint32_t report_slot(const void *about);

/* Installs handlers that report SIGSEGV, SIGBUS and SIGABRT where the program has none, and then
 * let the signal have its effect. */
void report_install(void);

#endif
