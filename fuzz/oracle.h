/* oracle.h -- what each operation does to the allocator, and what must be true afterwards.
 * Purpose     between the interpreter (harness.c) and the model: oracle.c does the operations on
 *             blocks, oracle_state.c those on the process: options, faults, the clock, statistics.
 * Ownership   everything here belongs to the holder of the baton.
 */
#ifndef FUZZ_ORACLE_H
#define FUZZ_ORACLE_H

#include <stdbool.h>

#include "grammar.h"
#include "model.h"

/* The input that is being played. */
struct play {
    const uint8_t *data;
    size_t size, at;
    struct record record;
    unsigned thread; /* who holds the baton */
    bool closing;    /* the run is over: a thread that gets the baton ends */
    bool late;       /* the ending thread allocates in a destructor */
    unsigned blocks_left, forks_left;
    uint64_t touched_end;
    uint64_t walk_left; /* bytes that walks of the heap may still look at in this run */
    uint64_t live_max;  /* bytes that may be live at a time */
};
extern struct play play;

void oracle_start(void);
void oracle_perform(const struct record *r);
void oracle_print_record(void);
/* Frees everything, purges, and holds the statistics against nothing being live. */
void oracle_end_run(void);
void oracle_faults_off(void);
/* Sets a key of the calling thread whose destructor allocates and frees after the heap is gone. */
void oracle_leave_for_destructor(unsigned thread);
void harness_only_this_thread(void);

/* Prints what is wrong with the operation under way, and aborts. */
_Noreturn void oracle_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define expect(condition, ...)        \
    do {                              \
        if (!(condition))             \
            oracle_fail(__VA_ARGS__); \
    } while (0)

/* ---- between oracle.c and oracle_state.c ---- */

#define CANARY_ERRNO 77

extern uint64_t oracle_faults; /* calls to the OS that were made to fail */
extern uint64_t oracle_reserved;

void oracle_option(const struct record *r);
void oracle_restore_options(void);
void oracle_fault(const struct record *r);
bool oracle_fault_is_armed(void);
void oracle_clock(const struct record *r);
void oracle_advance_clock(uint32_t ms);
void oracle_stats(void);
void oracle_mallinfo(void);
void oracle_print_stats(void);
void oracle_nothing_is_live(void);
void oracle_heap_check(void);
void oracle_allow_walk(void);
void oracle_fork(const struct record *r);

void oracle_verify(uint32_t slot);
void oracle_verify_all(void);
void oracle_free(uint32_t slot, enum op how);
/* A block of this many bytes into an empty slot, by malloc; false when there was none. */
bool oracle_malloc(uint32_t slot, size_t bytes);

#endif
