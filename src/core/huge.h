/* huge.h -- which SuperSlabs of the classes' runs have huge pages.
 * Purpose     one fault for 2 MiB costs a fraction of 512, and memory where the program does not
 *             come to use all of it. So a SuperSlab gets a huge page where experience says that it
 *             will be full:
 *
 *             from its start on, where the heap is of some size and the SuperSlabs before were
 *             filled (huge_from_start);
 *
 *             later, where a fault is dear (prefault.h): when the next slots of a SuperSlab with
 *             small pages are claimed, what was claimed of it before is out and resident, and what
 *             is left over of it is little beside what is held. Then the kernel moves what is
 *             there into a huge page (os_collapse), and no more fault follows. So of two SuperSlabs
 *             that are held the second becomes huge when 20 of its 32 slots are in use, of five
 *             the last with its second run.
 * Locking     none is held, and none needed: what is read of others' runs is a hint. Both enter the
 *             OS.
 * Source      of the kernel's part: madvise(2), MADV_COLLAPSE.
 */
#ifndef HKM_CORE_HUGE_H
#define HKM_CORE_HUGE_H

#include "core/slot.h"

/* Chooses the pages of a SuperSlab that the caller has just taken for runs of the classes. */
void huge_from_start(uint32_t superslab);

/* To be called where prefault_pays, when `count` slots from `first` on have been claimed that are
 * not resident, before they are carved or placed. Makes their SuperSlab huge if that pays by now.
 * Not for SuperSlab 0, which has a guard. */
bool huge_later(uint32_t first, unsigned count);
/* The same for a run of a class. What describes a SuperSlab whose pages are huge costs more faults
 * than it does, and will be in use soon: it is asked for with the first run. */
void huge_later_run(uint32_t first, unsigned class);

/* Whether a SuperSlab may have a huge page although `left` slots of it are in no use yet. */
bool huge_affords(size_t left);

/* Whether the system's setting, in the file `path`, forbids huge pages altogether: the kernel does
 * not heed it in MADV_COLLAPSE, so we have to. False where the file can not be read. */
bool huge_never(const char *path);

/* How many heaps there are, written by heap_life.c as it makes them. With more than a few threads
 * nothing is made huge later. (A variable, because a small program does not run huge.c's code.) */
extern ATOMIC(uint32_t) huge_heaps;

#endif
