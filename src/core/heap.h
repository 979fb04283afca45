/* heap.h -- a heap: the front caches and the runs of one thread.
 * Purpose     one magazine of block addresses a class, popped and pushed without locks or atomic
 *             read-modify-writes (front.h); behind it fill, flush and drain.
 *
 *     magazine  base [ p p p . | . . . . ) base + cap        hot: the last of them, p
 *                              top
 *               A stack whose last address is kept in `hot`, in the magazine itself: a pop hands it
 *               out after one load, and the loads and stores of the array are off its way. The
 *               array's place for it, top[-1], is stale; base[-1] is there for an empty stack.
 *               A pop needs top > floor, a push needs top < limit; else the slow path is taken.
 *               Normally floor == base and limit == base + cap. Setting floor to the highest
 *               address makes the next pop take the slow path, limit NULL the next push: so a heap
 *               that has not been seen for a while notices the passing of time (heap_arm). A heap
 *               of zeros, as `heap_none`, takes the slow path always.
 *
 *     A block travels  bitmap -> magazine -> program -> magazine -> bitmap    of an own run, or
 *                      ... -> program -> packet -> the owner's inbox -> its magazine or bitmap
 *     A thread does not hand out what another's run holds (but for the few that were on their way
 *     when a run changed its owner): two threads whose blocks lie side by side would write to the
 *     same lines of the program's data and of the live map for ever.
 *
 * Invariants  H1. base <= top <= base + cap, for classes that exist
 *             H2. only the heap that owns a run touches its bitmap, counts and links
 *             H3. at most one EMPTY run a class is kept (stage 0)
 *
 *             Every address below top is a cached block of the class; hot stands for the one at
 *             top[-1] (H7 to H9, F1; docs/INVARIANTS.md). The arrays lie densely behind the heap's
 *             record, in the order of need: a small program touches few pages of them.
 * Ownership   magazines: the heap's thread alone (of an orphan: whoever holds its lock). Bins,
 *             stash, and the bitmaps of its runs: whoever holds the lock. Inboxes: anyone pushes,
 *             the lock's holder takes all.
 * Locking     `lock` is taken by the owner on every slow path, and contended only when another
 *             thread tidies up for an idle owner. Nobody waits for one while holding another. A
 *             holder makes no system call, except to commit metadata for a packet or an array, and
 *             where page faults are dear (prefault.h).
 * Ordering    release of the lock pairs with acquire of the next holder; release of an inbox push
 *             pairs with acquire of the exchange that empties it.
 */
#ifndef HKM_CORE_HEAP_H
#define HKM_CORE_HEAP_H

#include "core/packet.h"
#include "core/slot.h"

struct magazine {
    _Alignas(64) ATOMIC(void *) hot;
    ATOMIC(void **) top; /* atomic, because statistics look at it */
    void **floor;
    void **limit;
    uintptr_t live; /* live byte of p: live + (p >> (live & 63)) */
    void **base;
    uint32_t cap;
    uint32_t cap_max;
    uint32_t room;  /* entries of the array: cap may grow as far in place */
    uint16_t trips; /* 0: no slow path since the last drain; else 2, or 3 when it was a spill */
    uint16_t away;  /* where its group's `struct away` is, in bytes from the heap's record on */
};
_Static_assert(sizeof(struct magazine) == 64, "a magazine is one cache line");
_Static_assert(sizeof(struct magazine) == 1 << MAGAZINE_SHIFT, "the class map holds its offset");

struct bin {
    uint32_t head, tail;  /* partial runs, oldest first, by slot number */
    uint32_t empty;       /* the EMPTY run that is kept */
    uint16_t runs;        /* needed since the last drain by the clock, at most 65,535 */
    uint16_t packets;     /* of a group: begun, and inboxes emptied, since then; likewise */
    struct packet *stash; /* a group's packets, taken from its inbox */
};

/* Where blocks of others' runs are gathered, a packet a group, until they are sent home. */
struct away {
    struct packet *packet;
    ATOMIC(uint32_t) count;
    uint32_t room; /* a push needs count < room; 0: take the slow path */
};

/* ORPHAN: its thread ended, any other may adopt it. LOST: in a forked child, its thread was in the
 * middle of something when the process forked; its blocks live on, its free ones are given up. */
enum heap_state { HEAP_OWNED, HEAP_ORPHAN, HEAP_LOST };

struct heap_stats {
    ATOMIC(uint64_t) slots_stage[4];
    ATOMIC(uint64_t) fills, flushes, drains;
    ATOMIC(uint64_t) remote_frees, remote_packets;
    ATOMIC(uint64_t) large_allocs, large_hits;
    ATOMIC(uint64_t) adoptions;
};

struct heap {
    struct magazine magazines[CLASS_MAP_VALUES]; /* at offset 0: the class map holds offsets */

    /* Copies of the arena's, on a line that the fast path has anyway; 0 in heap_none. */
    uintptr_t arena_last;
    size_t arena_bytes;
    class_entry *class_map;
    uint32_t own; /* what an own run's class map entry has above the class; 0 in heap_none */

    struct away away[CLASS_MAP_VALUES];

    _Alignas(64) ATOMIC(uintptr_t) lock; /* 0, or the holder's thread token */
    ATOMIC(uintptr_t) owner;             /* thread token of its thread, while it has one */
    ATOMIC(uint8_t) state;
    uint32_t number;
    uint32_t id;               /* number + 1: what its runs have for an owner */
    uint32_t drain_ms;         /* owner: last drain */
    uint32_t armed_ms;         /* owner: last heap_arm */
    uint16_t made_do;          /* owner: times in a row it emptied idle magazines for a run */
    size_t cap_bytes;          /* owner: bytes by which magazines have grown */
    uint32_t asked;            /* lock: the last heap that was asked for a run */
    uint32_t home;             /* lock: SuperSlab where room was found the last time */
    uint32_t released;         /* lock: slots given to the pool since it was last seen to */
    uint32_t cut;              /* lock: entries of the arrays behind this record */
    void **next_array;         /* where the next of them will be cut; long ones lie elsewhere */
    struct packet_stock stock; /* lock */
    struct heap_stats stats;
    struct bin bins[CLASS_COUNT];

    _Alignas(64) ATOMIC(size_t) inbox_bytes;
    ATOMIC(uint32_t) work_seen; /* by who looked last whether it needs help */
    ATOMIC(struct packet *) inbox[CLASS_COUNT];
};

HKM_INLINE size_t heap_away_offset(unsigned class) {
    return offsetof(struct heap, away) + packet_group(class) * sizeof(struct away);
}
_Static_assert(offsetof(struct heap, away[CLASS_MAP_VALUES]) <= UINT16_MAX, "fits magazine.away");

extern struct heap heap_none; /* before a thread has a heap */
extern struct heap heap_gone; /* after its end, and inside its slow paths */
extern __thread struct heap *heap_mine __attribute__((tls_model("initial-exec")));

/* Every heap record there is, by number; records are never freed. */
uint32_t heap_count(void);
struct heap *heap_by_number(uint32_t number);
uint32_t heap_orphans(void);
/* The number of the first orphan in [from, end), or end. */
uint32_t heap_next_orphan(uint32_t from, uint32_t end);

/* A record with empty magazines, which nobody knows yet; NULL when there is no memory. */
struct heap *heap_make(void);
/* How many blocks a magazine of a class may hold at most, and from the start. */
uint32_t heap_cap_max(unsigned class);
uint32_t heap_first_cap(unsigned class);

/* A heap for the calling thread: an orphan, or a new one; NULL when there is no memory. */
struct heap *heap_acquire(void);
/* Where there is no orphan: a heap whose owner has the token of the calling thread, which has no
 * heap. So it is an earlier thread's, which has ended and could not leave the heap: its first
 * malloc came in the last round of key destructors, or it ended by a system call. NULL when there
 * is none. */
struct heap *heap_left_behind(void);
/* Empties the magazines but for a few small blocks, gives every EMPTY run away, and leaves the heap
 * to be adopted. */
void heap_abandon(struct heap *heap);
/* Empties the magazines of a heap that is an orphan. */
void heap_drain_orphan(struct heap *heap);
/* Any heap but a lost one, with its lock taken, for a thread that has none of its own or is inside
 * it already (a signal handler). Waits for one when all are busy and there is no memory for
 * another; NULL when there is none to wait for, or in a handler. */
HKM_COLD struct heap *heap_borrow(void);
/* Gives a block back that is dead, without a heap of one's own: straight to its owner, which is
 * idle as a rule, else by another heap's packet. In a signal handler with no memory for a packet
 * the block is lost if the owner does not let go of its lock for 0.1 s: what holds it may be
 * interrupted by a handler that waits for this thread likewise. */
HKM_COLD void heap_free_borrowed(unsigned class, void *block);
/* In a forked child: every heap but the one of the thread that forked has lost its thread. */
void heap_after_fork(uintptr_t forker);
/* Likewise, of one heap: true when it was lost, its lock held by a thread that is not there. */
bool heap_lose_if_held(struct heap *heap, uintptr_t forker);
/* From fork_child to heap_after_fork: the thread that forked, which may have resumed what a handler
 * interrupted; then no other can hold a lock. 0 else. */
void heap_set_only_thread(uintptr_t token);
/* What fork calls before it, with true, and after it in parent and child, with false. */
void heap_set_forking(bool forking);

/* Waits for the lock; false when the calling thread holds it already (a signal handler), or when
 * the heap is lost. */
bool heap_enter(struct heap *heap);
/* Likewise, but gives up after so many tries (os_backoff), at least one. */
bool heap_enter_within(struct heap *heap, unsigned tries);
bool heap_try_enter(struct heap *heap);
/* heap_enter for the calling thread's own heap. Until heap_leave_own a signal handler of the thread
 * sees no heap of its own, and does not touch magazines that are being worked on. */
bool heap_enter_own(struct heap *heap);
void heap_leave_own(struct heap *heap);
void heap_leave(struct heap *heap);
/* Around what takes others' locks outside of the own slow paths. A signal handler of the thread
 * then sees no heap of its own, and borrows one that is free: were it to wait for its own, which
 * another thread may hold whose handler waits for one that this thread holds, both would wait for
 * ever. heap_step_back takes what heap_step_aside returned. */
struct heap *heap_step_aside(void);
void heap_step_back(struct heap *mine);

/* ---- with the lock held ---- */

/* A cached block of the class, filling the magazine; NULL when there is no memory. Leaves the lock
 * while it gets a run from the pool. */
void *heap_fill(struct heap *heap, unsigned class);
/* Puts a block into the magazine, flushing it if it is full. */
void heap_flush(struct heap *heap, unsigned class, void *block);
/* Gathers a block of another heap's run, sending home what there is if that is enough. */
void heap_flush_away(struct heap *heap, unsigned class, void *block);
/* One block past the magazines, for a thread that has no heap of its own; NULL likewise. */
void *heap_take_one(struct heap *heap, unsigned class);
/* Puts cached blocks of a class where they belong: own runs' bitmaps, or the owners' inboxes.
 * Returns how many are left, moved to the front of blocks[], because there is no memory for
 * packets. */
unsigned heap_send_home(struct heap *heap, unsigned class, void **blocks, unsigned count);
/* Inboxes and stashes go to the bitmaps, kept EMPTY runs to the pool. */
void heap_collect(struct heap *heap);
/* heap_collect, after flushing from the magazines: half (AGED) or all (IDLE) of those that were
 * idle since the last drain; all of every one (ALL); or all but heap_first_cap of the small blocks,
 * left for the next thread (END). By the heap's own thread, or of a heap that has none. */
enum heap_drain { DRAIN_AGED, DRAIN_IDLE, DRAIN_ALL, DRAIN_END };
void heap_drain(struct heap *heap, enum heap_drain how);

/* ---- without ---- */

/* Makes every class's next operation take the slow path once. Owner only. */
void heap_arm(struct heap *heap, uint32_t now_ms);

/* The module's variables, for the checker alone. */
struct heap_innards {
    ATOMIC(struct heap *) * heaps;
    ATOMIC(uint32_t) * heaps_used;
    bitset_word *orphans;
    ATOMIC(uint32_t) * orphan_count;
};
struct heap_innards heap_innards(void);

#endif
