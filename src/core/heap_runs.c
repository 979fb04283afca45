/* heap_runs.c -- a heap's runs: where blocks come from and go home to, and where runs come from.
 *
 *     take  heap_take_from_runs   bitmap -> magazine      the oldest partial run first
 *     put   heap_send_home        magazine -> bitmap      others' blocks go on to heap_remote.c
 *     get   heap_get_run          orphans' runs, another thread's, then the pool's (pool.h)
 *
 *     Of an own run:  ACTIVE, in the list  <-> ACTIVE, full, in no list
 *                     ACTIVE -> EMPTY, kept (one a class) -> ACTIVE, or -> the pool
 */
#include <string.h>

#include "base/require.h"
#include "base/text.h"
#include "core/heap_inside.h"
#include "core/options.h"
#include "core/prefault.h"
#include "core/superslab.h"

#define MADE_DO_MOST 8u     /* times without a new SuperSlab, or a drain by the clock */
#define ALONE_MOST 16       /* blocks that go home without a look at their neighbours */
#define SHARE_BYTES 256u    /* among many threads runs of blocks from here on are shared */
#define SHARE_TRIES 8u      /* heaps that are asked for one */
#define APART_RUNS 4u       /* for each packet: works_apart */
#define APART_BYTES KIB(16) /* larger blocks may be out and hardly touched: pool_give */

static void link_last(struct bin *bin, struct slot *slot) {
    uint32_t number = slot_number(slot);
    slot->next = 0;
    slot->prev = bin->tail;
    if (bin->tail != 0)
        slot_at(bin->tail)->next = number;
    else
        bin->head = number;
    bin->tail = number;
}

static void unlink(struct bin *bin, struct slot *slot) {
    if (slot->prev != 0)
        slot_at(slot->prev)->next = slot->next;
    else
        bin->head = slot->next;
    if (slot->next != 0)
        slot_at(slot->next)->prev = slot->prev;
    else
        bin->tail = slot->prev;
    slot->prev = slot->next = 0;
}

/* Counts a run by its stage, and in the debug build says so if asked. */
static void got_run(struct heap *heap, const struct slot *slot, unsigned stage) {
    counter_add(&heap->stats.slots_stage[stage], 1);
    hkm_assert(slot_free(slot) > 0 && slot_free(slot) <= slot->capacity, "S1 free count", slot);
    if (HKM_CHECK_LEVEL == 0 || options.acquire_trace == 0)
        return;
    struct text line = {0};
    uint32_t number = slot_number(slot);
    text_add(&line, "hakmem: acquire stage=");
    text_dec(&line, stage);
    text_add(&line, " heap=");
    text_dec(&line, heap->number);
    text_add(&line, " superslab=");
    text_dec(&line, number / SUPERSLAB_SLOTS);
    text_add(&line, " slot=");
    text_dec(&line, number % SUPERSLAB_SLOTS);
    text_add(&line, " class=");
    text_dec(&line, sizeclass_bytes(slot->class));
    text_add(&line, "\n");
    os_write(2, line.chars, line.used);
}

/* Whether the heap's thread is one of several and works for itself, as this class tells by how many
 * runs it needed for each packet. Such threads are best kept out of each other's way; where blocks
 * go from thread to thread the runs do, too, and lie densely. */
static bool works_apart(const struct heap *heap, unsigned class) {
    return heap_count() - heap_orphans() > 1 &&
           heap->bins[class].runs > APART_RUNS * heap->bins[packet_group(class)].packets;
}

/* The last block of a run came home. */
static HKM_NOINLINE void run_emptied(struct heap *heap, struct slot *slot) {
    struct bin *bin = &heap->bins[slot->class];
    hkm_require(slot_free(slot) == slot->capacity, "S1 free count within capacity", slot);
    unlink(bin, slot);
    slot->empty_ms = os_clock_ms();
    hkm_require(slot_change(slot_number(slot), SLOT_ACTIVE, SLOT_EMPTY),
                "S3 an owned run is ACTIVE", slot);
    if (bin->empty == 0) {
        bin->empty = slot_number(slot);
    } else {
        heap->released += sizeclass_table[slot->class].run_slots;
        bool dense = sizeclass_bytes(slot->class) <= APART_BYTES;
        pool_give(slot, dense && works_apart(heap, slot->class));
    }
}

/* Puts a block home, and as many of those behind it as go with it; returns how many they were. */
HKM_INLINE unsigned put_home(struct heap *heap, struct slot *slot, unsigned class,
                             void *const *blocks, unsigned count) {
    unsigned before = slot_free(slot);
    hkm_assert(live_get(arena_live_byte(class, *blocks)) == 0, "S5 a block that comes home is dead",
               *blocks);
    unsigned put = slot_put(slot, class, blocks, count);
    hkm_require(put > 0, "S5 a cached block is of its run, not in the bitmap, nor twice in a batch",
                *blocks);
    hkm_assert(before + put <= slot->capacity, "S1 free count within capacity", slot);
    if (unlikely(before == 0))
        link_last(&heap->bins[class], slot);
    if (unlikely(before + put >= slot->capacity))
        run_emptied(heap, slot);
    return put;
}

/* What does not change is in registers in this loop. */
unsigned heap_put_alone(struct heap *heap, unsigned class, void *const *blocks, void *const *end) {
    const struct slot_finder finder = slot_finder(class);
    const uint32_t id = heap->id;
    void *const *at = blocks;
    for (; at < end; at++) {
        struct slot *slot = slot_find(&finder, *at);
        if (unlikely(atomic_get(&slot->owner, relaxed) != id))
            break;
        hkm_assert(live_get(arena_live_byte(class, *at)) == 0,
                   "S5 a block that comes home is dead", *at);
        unsigned capacity = slot->capacity;
        unsigned free = slot_put_one(slot, &finder, capacity, *at);
        hkm_require(free != 0, "S5 a cached block is of its run, and not in the bitmap", *at);
        if (likely(free - 2 < capacity - 2)) /* not the first, nor the last */
            continue;
        if (free == 1)
            link_last(&heap->bins[class], slot);
        if (free >= capacity)
            run_emptied(heap, slot);
    }
    return (unsigned)(at - blocks);
}

/* Whether the second block is the first one's neighbour. */
static bool are_neighbours(void *const *blocks, ptrdiff_t bytes) {
    ptrdiff_t step = (char *)blocks[1] - (char *)blocks[0];
    return step == bytes || step == -bytes;
}

unsigned heap_send_home(struct heap *heap, unsigned class, void **blocks, unsigned count) {
    ptrdiff_t bytes = (ptrdiff_t)sizeclass_bytes(class);
    void **away = blocks;
    void **end = blocks + count;
    for (void **at = blocks; at < end;) {
        struct slot *slot = slot_of_block(class, *at);
        if (unlikely(atomic_get(&slot->owner, relaxed) != heap->id))
            *away++ = *at++;
        else if (end - at > 1 && are_neighbours(at, bytes))
            at += put_home(heap, slot, class, at, (unsigned)(end - at));
        else /* blocks in no order: so will the next ones be */
            at += heap_put_alone(heap, class, at, end - at < ALONE_MOST ? end : at + ALONE_MOST);
    }
    if (away == blocks)
        return 0;
    return heap_send_away(heap, packet_group(class), blocks, (unsigned)(away - blocks));
}

unsigned heap_take_from_runs(struct heap *heap, unsigned class, void **out, unsigned want) {
    struct bin *bin = &heap->bins[class];
    unsigned got = 0;
    while (got < want) {
        if (bin->head == 0) {
            if (bin->empty == 0 || got > 0)
                break;
            struct slot *slot = slot_at(bin->empty);
            bin->empty = 0;
            hkm_require(slot_change(slot_number(slot), SLOT_EMPTY, SLOT_ACTIVE),
                        "H3 the kept run is EMPTY", slot);
            got_run(heap, slot, 0);
            link_last(bin, slot);
        }
        struct slot *slot = slot_at(bin->head);
        hkm_require(slot->class == class && atomic_get(&slot->owner, relaxed) == heap->id,
                    "H2 a listed run is the heap's own, and of the list's class", slot);
        got += slot_take(slot, out + want - got, want - got);
        if (slot_free(slot) > 0)
            break; /* never out: see few_fresh in slot.c */
        unlink(bin, slot);
    }
    if (got < want)
        memmove(out, out + want - got, got * sizeof(void *));
    return got;
}

static void move_run(struct bin *from, struct slot *slot, struct heap *to, unsigned class) {
    unlink(from, slot);
    slot_own(slot, to->id);
    link_last(&to->bins[class], slot);
}

/* Takes over the partial runs of a class that orphans hold. The lock is held; others' are tried. */
static HKM_SELDOM bool inherit(struct heap *heap, unsigned class) {
    struct bin *bin = &heap->bins[class];
    uint32_t end = heap_count();
    unsigned tries = 0;
    for (uint32_t i = heap_next_orphan(0, end); i < end && tries < 16 && bin->head == 0;
         i = heap_next_orphan(i + 1, end), tries++) {
        struct heap *orphan = heap_by_number(i);
        struct bin *theirs = &orphan->bins[class];
        if (orphan == heap || !heap_try_enter(orphan))
            continue;
        heap_collect_group(orphan, packet_group(class));
        while (theirs->head != 0)
            move_run(theirs, slot_at(theirs->head), heap, class);
        heap_leave(orphan);
    }
    return bin->head != 0;
}

/* Many threads would each hold a run of every class that they ever used. So a heap takes over a run
 * of which at least half is free from another thread's heap; and what that keeps EMPTY goes to the
 * pool. Not of small blocks: neighbours in a cache line should stay with one thread. */
static HKM_SELDOM bool share(struct heap *heap, unsigned class) {
    struct bin *bin = &heap->bins[class];
    uint32_t end = heap_count();
    for (unsigned tries = 0; tries < SHARE_TRIES && tries < end && bin->head == 0; tries++) {
        heap->asked = heap->asked + 1 < end ? heap->asked + 1 : 0;
        struct heap *other = heap_by_number(heap->asked);
        if (other == NULL || other == heap || atomic_get(&other->state, relaxed) != HEAP_OWNED ||
            !heap_try_enter(other))
            continue;
        heap_collect_group(other, packet_group(class));
        struct bin *theirs = &other->bins[class];
        heap_give_kept(theirs);
        struct slot *last = theirs->tail == 0 ? NULL : slot_at(theirs->tail);
        if (last != NULL && slot_free(last) * 2 >= last->capacity)
            move_run(theirs, last, heap, class);
        heap_leave(other);
    }
    return bin->head != 0;
}

static bool is_shared(unsigned class) {
    return heap_count() - heap_orphans() > SHARE_THREADS && sizeclass_bytes(class) >= SHARE_BYTES;
}

void heap_drop_unused(struct heap *heap, unsigned class) {
    uint32_t tail = heap->bins[class].tail;
    if (tail != 0 && slot_free(slot_at(tail)) == slot_at(tail)->capacity)
        run_emptied(heap, slot_at(tail));
}

/* Leaves the lock for the pool, which can enter the OS. Before stage 3 the heap's own thread drains
 * what it has not used lately: a few blocks in idle magazines can pin many runs, which other
 * classes could have instead of a SuperSlab that is not warm. Not again and again: then what is
 * idle is needed soon. If blocks of the class came home while the lock was free, these will do, and
 * the run is given back. */
bool heap_get_run(struct heap *heap, unsigned class, bool own) {
    if (heap_orphans() > 0 && inherit(heap, class))
        return true;
    bool apart = works_apart(heap, class);
    count_up(&heap->bins[class].runs);
    if (!apart && is_shared(class) && share(heap, class))
        return true;
    unsigned stage;
    uint32_t home = heap->home;
    heap_leave(heap);
    struct slot *slot = pool_take(class, heap->id, &home, apart, &stage);
    if (slot == NULL && own && superslab_warm_count() == 0 && heap->made_do < MADE_DO_MOST &&
        heap_enter(heap)) {
        heap->made_do++;
        heap_drain(heap, DRAIN_IDLE);
        heap_leave(heap);
        slot = pool_take(class, heap->id, &home, apart, &stage);
    }
    if (slot == NULL) {
        if (own)
            heap->made_do = 0;
        stage = 3;
        slot = pool_take_new(class, heap->id, &home);
    }
    if (!heap_enter(heap))
        return false; /* lost, in a child that a signal handler forked meanwhile */
    heap->home = home;
    bool others = heap->bins[class].head != 0;
    if (slot == NULL)
        return others;
    got_run(heap, slot, stage);
    if (stage >= 2 && slot->ahead == 0)
        prefault_begin(slot, heap->bins[class].runs > 1);
    link_last(&heap->bins[class], slot);
    if (others)
        heap_drop_unused(heap, class);
    return true;
}
