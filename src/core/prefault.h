/* prefault.h -- pages made resident ahead of the program's first touch, where a page fault is dear.
 * Purpose     a fault takes about 0.5 us on most machines, but 10 to 20 on a virtual one without
 *             hardware paging, and there a page that the kernel makes resident when it is asked
 *             (os_populate) is half of that. The first faults are timed. Where they are dear, the
 *             pages of runs that were just carved are asked for as their blocks go out: none that
 *             would not be touched soon.
 *
 *     Blocks of about a page and less: whoever holds one touches its page, and the next blocks
 *     follow. So a piece at a time, from what goes out now on: at once in a class that filled a run
 *     before, else from the run's middle on, when it fills this one.
 *     Larger blocks: a program may touch but their beginning. So all pages of a block are asked for
 *     but one, its witness; and only if the witness of the block before turns out to be resident,
 *     which the program must have touched itself.
 * Locking     what concerns a run is under its owner's lock, as are the faults that this replaces.
 */
#ifndef HKM_CORE_PREFAULT_H
#define HKM_CORE_PREFAULT_H

#include "core/slot.h"

/* Whether it pays here to ask for pages, as far as is known yet. */
bool prefault_pays(void);

/* Makes what describes `count` slots of a SuperSlab resident, which will hold blocks of a class. */
HKM_SELDOM void prefault_maps(uint32_t first, unsigned count, unsigned class);

/* A fault took so long. */
void prefault_timed(uint64_t ns);
/* Times a slot's first fault, while few were; the slot is about to be used, and was not before. */
void prefault_time(uint32_t slot);

/* For a run none of whose pages is resident, before its first block goes out: times its first fault
 * while few were, and decides from which block on prefault_blocks is called. `proven`: the class
 * filled a run before. */
void prefault_begin(struct slot *slot, bool proven);

/* Blocks up to `last`, which lies at or behind slot->ahead, go out. */
HKM_SELDOM void prefault_blocks(struct slot *slot, char *last);

#endif
