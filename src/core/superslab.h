/* superslab.h -- SuperSlabs: 2 MiB pieces of the arena, cut into 32 slots for all classes at once.
 * Purpose     who has which slot, which SuperSlabs are empty, which pages are dirty.
 *
 *     Four sets of bits, one bit a SuperSlab, and two masks of 32 bits in each SuperSlab's record
 *     say everything; a bit that is set is there for the claiming (bitset.h), and nothing is
 *     linked.
 *
 *       avail      nobody holds any part of it. Whoever clears the bit has the whole SuperSlab.
 *       warm       hint: avail, and some of its pages are still resident: the LRU of empty
 *                  SuperSlabs, ordered by idle_ms
 *       open       hint: not avail, and some slot is UNUSED
 *       committed  readable and writable
 *       unused     mask in the record: slot is UNUSED and may be claimed
 *       dirty      mask in the record: the slot's pages may be resident and not zero
 *
 *       avail --take--> held, unused == 0 --release some--> open --release the last--> avail
 *
 * Invariants  U1. avail => unused == 0 (its slots are claimed through avail only)
 *             U2. a slot that is not dirty reads as zeros
 *             U3. unused & class map: a slot whose bit is set has class 0 and state UNUSED
 *             U4. the sum of dirty slots that nobody holds == superslab_idle_dirty()
 * Ordering    the release of a bit of `unused` or `avail` pairs with the acquire of its claim.
 * Locking     lock-free. A thread that stops at any point holds at most the bits it has claimed.
 */
#ifndef HKM_CORE_SUPERSLAB_H
#define HKM_CORE_SUPERSLAB_H

#include "base/bitset.h"
#include "core/arena.h"

/* What is said of every run, at its first slot: dense, so that a sparse heap of large blocks does
 * not touch a page of slot records for each. */
struct slot_head {
    ATOMIC(uint8_t) state; /* enum slot_state */
    uint8_t moved;         /* LARGE, CACHED: its pages came by os_move */
    uint8_t fresh;         /* LARGE: none of its pages was resident when it was placed */
    uint32_t run_slots;
    size_t large_bytes; /* LARGE: usable size */
};

/* SMALL as the mapping is by itself; HUGE was asked for. */
enum superslab_pages { PAGES_SMALL, PAGES_HUGE };

struct superslab {
    ATOMIC(uint32_t) unused;
    ATOMIC(uint32_t) dirty;
    ATOMIC(uint32_t) idle_ms; /* when a slot last became UNUSED */
    ATOMIC(uint32_t) pages;   /* enum superslab_pages; hint: CONCURRENCY.md */
    ATOMIC(uint32_t) along;   /* slots that may be resident though nobody touched them: a huge page
                                 came along with a neighbour's */
    ATOMIC(uint32_t) maps_left; /* avail, not warm: its maps were not given back with its pages */
    uint32_t spare[2];
    struct slot_head heads[SUPERSLAB_SLOTS];
    ATOMIC(uint32_t) tenant; /* hint: id of the heap that looks here first; 0: none. Not on the line
                                of the masks, because other heaps read it */
    uint32_t fill[7];
};
_Static_assert(sizeof(struct superslab) % SUPERSLAB_SLOTS == 0, "whole bytes a slot: arena.c");

extern bitset_word superslab_avail[ARENA_SUPERSLABS_MAX / 64];
extern bitset_word superslab_open[ARENA_SUPERSLABS_MAX / 64];
extern bitset_word superslab_warm[ARENA_SUPERSLABS_MAX / 64];

HKM_INLINE struct superslab *superslab_at(size_t i) { return &arena.superslabs[-1 - (ptrdiff_t)i]; }

/* Makes all but the guard slot available; called by arena_init. */
void superslab_init(void);

/* Takes `count` SuperSlabs side by side, the first aligned to `alignment` bytes, with unused == 0.
 * Returns the number of the first, or 0 with *error set. Commits; may enter the OS. */
uint32_t superslab_take(size_t count, size_t alignment, int *error);
/* Takes a warm SuperSlab that was `tenant`'s the last time; 0 when there is none. */
uint32_t superslab_take_back(uint32_t tenant);
/* Takes exactly [first, first + count) if they are all available. Returns 0 or an errno value. */
int superslab_take_at(uint32_t first, size_t count);

/* Claims `count` (1..32) neighbouring UNUSED slots of a SuperSlab, aligned to their count if asked.
 * Returns the first one's number, or 0. */
uint32_t superslab_claim(uint32_t superslab, unsigned count, bool aligned);
/* Claims slots likewise in an open SuperSlab: the lowest of the first `tries` of them that has
 * room, so that the higher ones can become empty. Then `newest`, the last one that was taken for
 * such a run, and some that follow the place where the search ended the last time: those in front
 * may be full of gaps too small for this run. Returns the first slot's number, or 0. */
struct superslab_search {
    ATOMIC(uint32_t) newest, next;
};
uint32_t superslab_claim_open(struct superslab_search *search, unsigned count, bool aligned,
                              unsigned tries);
/* Claims slots likewise, aligned to their count, all of which may be resident already, in the
 * lowest of the first `tries` open SuperSlabs. */
uint32_t superslab_claim_resident(unsigned count, unsigned tries);
/* Where several heaps are at work, each has SuperSlabs of its own, as far as there are enough:
 * so they do not write to the same masks and records, and a run's blocks and live bytes stay with
 * one CPU. Claims slots likewise in one whose tenant is `tenant`: in *home, else the lowest, which
 * then is *home. */
uint32_t superslab_claim_at_home(uint32_t *home, uint32_t tenant, unsigned count);
/* Claims slots likewise in anybody's, the highest of some, because its tenant begins with the
 * lowest; it is `tenant`'s from then on, and *home. */
HKM_COLD uint32_t superslab_move_in(uint32_t *home, uint32_t tenant, unsigned count);
/* Claims slots likewise in any open SuperSlab: where there is no memory for another. */
HKM_COLD uint32_t superslab_claim_any(unsigned count, bool aligned);
/* Claims exactly these slots; false when any of them is not UNUSED. */
bool superslab_claim_mask(uint32_t superslab, uint32_t mask);
/* Marks slots dirty, because somebody is about to hand them out; true when none of them was. */
bool superslab_soil(uint32_t first_slot, size_t count);

/* Marks slots that the caller holds as not dirty: their pages are gone; with `renewed` the mapping
 * is another one. */
void superslab_wash(uint32_t first_slot, size_t count, bool renewed);

/* Makes the pages of SuperSlabs that the caller took huge, or small, where none is resident yet.
 * Enters the OS where that changes something. make_huge returns how many SuperSlabs it changed. */
size_t superslab_make_huge(uint32_t first, size_t count);
void superslab_make_small(uint32_t first, size_t count);
/* Makes a SuperSlab with small pages huge, some of which are resident; the caller holds slots of
 * it. False when the kernel did not, or another thread is at it. */
HKM_SELDOM bool superslab_collapse(uint32_t superslab);
/* Whether the program fills what it gets, as far as slots of one SuperSlab with small pages show it
 * by how much of them is resident. Enters the OS. */
enum superslab_use { USE_UNKNOWN, USE_SPARSE, USE_FILLED };
enum superslab_use superslab_use(uint32_t first_slot, size_t count);

/* When to look at something, or try it, at a cost. After a look in vain the next `skip` ones are
 * left out; with each in a row `skip` becomes twice that and one, at most `most`. After any other
 * look it is 0. */
struct superslab_looks {
    ATOMIC(uint32_t) skip, skipped;
};
HKM_SELDOM bool superslab_looks_due(struct superslab_looks *looks);
HKM_SELDOM void superslab_looks_done(struct superslab_looks *looks, bool in_vain, uint32_t most);

/* Gives slots [first, first + count) back as UNUSED, at any length; whole SuperSlabs among them
 * become available. */
void superslab_release(uint32_t first_slot, size_t count, uint32_t now_ms);

/* Gives dirty pages of slots that nobody holds back to the OS, if they have been idle for at least
 * `age_ms`. Returns the number of bytes. Enters the OS. */
size_t superslab_purge(uint32_t now_ms, uint32_t age_ms);
/* The same, until it has returned `most` bytes, or one SuperSlab's more. */
size_t superslab_purge_some(uint32_t now_ms, uint32_t age_ms, size_t most);
/* Gives back what describes purged SuperSlabs, where at least so many of them lie side by side.
 * Purges do so themselves, but for SuperSlabs that became empty a few at a time. */
void superslab_purge_maps(size_t least);

/* Whether it is readable, and its record and its slots' are: it was in use once, or may be next. */
bool superslab_is_committed(uint32_t superslab);
/* Whether a SuperSlab holds anything for the program. One that is just being committed does not
 * yet. */
bool superslab_in_use(uint32_t superslab);
/* One more than the highest SuperSlab that was ever taken; some below may never have been, where
 * one was taken at an aligned place. */
uint32_t superslab_top(void);
/* Number of SuperSlabs that are held. */
uint32_t superslab_held(void);
/* Bytes of dirty slots that nobody holds; approximate while threads run. */
size_t superslab_idle_dirty(void);
/* Number of SuperSlabs that were taken so far and had nothing resident; wraps. */
extern ATOMIC(uint32_t) superslab_fresh;
/* Number of warm SuperSlabs; approximate while threads run. */
uint32_t superslab_warm_count(void);
/* Bytes of SuperSlabs that are committed. */
size_t superslab_committed_bytes(void);
/* Bytes that superslab_purge has returned since the start. */
uint64_t superslab_returned_bytes(void);

/* A part of superslab_idle_dirty, of what had the same tenant % SUPERSLAB_IDLE_PARTS when it was
 * counted: only the sum says something. */
#define SUPERSLAB_IDLE_PARTS 4u
struct superslab_part {
    _Alignas(64) ATOMIC(uint32_t) slots;
};

/* The module's variables, for the checker alone. */
struct superslab_innards {
    bitset_word *committed;
    ATOMIC(uint32_t) * known, *top, *first_avail, *warm_count;
    struct superslab_part *idle_dirty;
    ATOMIC(size_t) * committed_bytes;
};
struct superslab_innards superslab_innards(void);

#endif
