/* harness.h -- plays a byte string on the hkm_ interface and holds every answer against the model.
 * Purpose     the one interpreter and oracle behind all engines. What it finds wrong it prints in
 *             words and ends the process with SIGABRT, as the allocator's own reports do.
 */
#ifndef FUZZ_HARNESS_H
#define FUZZ_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Starts the allocator, if that has not been done. The options of an OP_START record at the head
 * of the input are set before, unless size is 0. */
void harness_start(const uint8_t *data, size_t size);
/* Plays one input. Everything it allocated is freed and every thread it started has ended when it
 * returns; the heap stays as the input left it. */
void harness_run(const uint8_t *data, size_t size);

/* Prints each operation before it is done. */
extern bool harness_verbose;
/* Appends every input to this file before it is played (FUZZ_SESSION): whatever kills the process,
 * what led to it is there. NULL ends it. */
void harness_record_to(const char *path);

struct harness_counts {
    uint64_t runs, operations, blocks, nulls, faults, switches, skipped;
};
extern struct harness_counts harness_counts;

#endif
