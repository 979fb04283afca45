/* depot.h -- stacks of return addresses, each kept once, named by a number.
 * Purpose     frame pointers are followed from an entry point upwards, between the bounds of the
 *             thread's stack: whatever the program's code left in the register, nothing else is
 *             read. Code without frame pointers cuts the stack short; its first caller is there.
 * Locking     lock-free; what is kept is never given back. When the depot is full, a new stack is
 *             its first caller alone.
 */
#ifndef HKM_CHECK_DEPOT_H
#define HKM_CHECK_DEPOT_H

#include "base/config.h"

#define DEPOT_DEPTH_MAX 32u

void depot_start(void);
/* The stack of the caller whose frame this is; 0 for none. */
uint32_t depot_take(const void *frame);
/* Writes a stack to stderr, a line for each address. */
void depot_print(uint32_t stack);
/* Whether a number is 0 or that of a stack. */
bool depot_knows(uint32_t stack);

#endif
