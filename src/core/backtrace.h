/* backtrace.h -- return addresses of the running thread, from a process that may be damaged.
 * Purpose     frame pointers are seldom there, and the unwinder allocates and locks; so this reads
 *             the stack upwards and takes every word that points behind a call instruction in an
 *             executable mapping. Some of these are left over from earlier calls: the reader is
 *             told.
 */
#ifndef HKM_CORE_BACKTRACE_H
#define HKM_CORE_BACKTRACE_H

#include "base/config.h"

/* Writes lines "  0x... name+0x..." to stderr. Async-signal-safe, but only for the thread that
 * report_begin let in; a call that interrupts another one, after a fault in it, writes nothing. */
void backtrace_print(void);

/* Writes one such line; without a name where the mappings can not be read, or the code was
 * unloaded. Likewise. */
void backtrace_name(uintptr_t address);

#endif
