/* heap.c -- magazines, fill, flush, drain, and the way of blocks between heaps; see heap.h. */
#include "core/heap.h"

#include <string.h>

#include "base/require.h"
#include "base/text.h"
#include "core/options.h"
#include "core/pool.h"
#include "core/prefault.h"
#include "core/superslab.h"

#define CACHE_BYTES_SMALL MIB(1)    /* a magazine's share, up to 1 KiB blocks */
#define CACHE_BYTES_MEDIUM KIB(512) /* and above */
#define CACHE_BYTES_TOTAL MIB(64)   /* all heaps', when their magazines grow */
#define FIRST_CAP_BYTES KIB(2)
#define FLUSH_MOST 512u           /* blocks; as many newer ones stay */
#define MADE_DO_MOST 8u           /* times without a new SuperSlab, or a drain by the clock */
#define DEEP_SUPERSLABS 3u        /* held by all heaps; beyond it a magazine is of FLOODED_CAP */
#define ALONE_MOST 16             /* blocks that go home without a look at their neighbours */
#define END_BYTES KIB(1)          /* blocks up to here stay when a thread ends: heap_first_cap */
#define ONE_WAY_BYTES KIB(16)     /* a magazine's, unless its blocks stay in one thread */
#define AWAY_BYTES KIB(16)        /* what is gathered of a class before it is sent home, ... */
#define AWAY_BYTES_MANY KIB(4)    /* ... where there were more than SHARE_THREADS at once */
#define AWAY_LEAST 8u             /* blocks, if these are not more than AWAY_BYTES */
#define AWAY_MEDIUM 32u           /* blocks that are gathered of the medium group, ... */
#define AWAY_MEDIUM_MANY 16u      /* ... among many threads, ... */
#define AWAY_LARGE 4u             /* ... and of the large one */
#define SHARE_THREADS 4u          /* among more than so many, runs of blocks ... */
#define SHARE_BYTES 256u          /* ... from here on go from thread to thread */
#define SHARE_TRIES 8u            /* heaps that are asked for one */
#define APART_RUNS 4u             /* for each packet: works_apart */
#define APART_BYTES KIB(16)       /* larger blocks may be out and hardly touched: pool_give */
#define INBOX_HELP_BYTES KIB(256) /* what may wait for an idle owner, ... */
#define INBOX_MOST_BYTES MIB(4)   /* ... and for one that is not */
#define RELEASED_ALARM 4u         /* slots; who released so many must not miss the purge delay */

static struct heap *owner_of(struct slot *slot) {
    return heap_by_number(atomic_get(&slot->owner, relaxed) - 1);
}

static HKM_NOINLINE unsigned class_in_mixed(unsigned group, const void *block) {
    unsigned class = packet_class_of(group, block);
    hkm_require(packet_group(class) == group, "H16 a packet's blocks are of its group", block);
    return class;
}

HKM_INLINE unsigned class_in(unsigned group, const void *block) {
    return group_is_mixed(group) ? class_in_mixed(group, block) : group;
}

/* What the run's record says, too, but while another thread is changing both (S23). */
static uint32_t owner_id(const void *block) { return arena_owner_of_slot(arena_slot_of(block)); }

/* ---- magazines ---- */

uint32_t heap_cap_max(unsigned class) {
    size_t bytes = sizeclass_bytes(class);
    size_t cap = CACHE_BYTES_SMALL / bytes;
    if (bytes > KIB(1)) {
        size_t more = CACHE_BYTES_MEDIUM / bytes;
        cap = more < 32 ? more : 32;
    }
    if (cap > MAGAZINE_ENTRIES_MAX)
        cap = MAGAZINE_ENTRIES_MAX;
    if (cap > options.fast_cap)
        cap = options.fast_cap;
    return cap < 2 ? 2 : (uint32_t)cap;
}

/* What every heap may hold from the start; few of the blocks that are mid-large. */
uint32_t heap_first_cap(unsigned class) {
    size_t bytes = sizeclass_bytes(class);
    size_t cap = FIRST_CAP_BYTES / bytes;
    size_t least = bytes <= KIB(8) ? 4 : bytes <= KIB(32) ? 2 : 1;
    if (cap < least)
        cap = least;
    uint32_t most = heap_cap_max(class);
    return cap < most ? (uint32_t)cap : most;
}

/* By how much a heap's magazines may grow: a share of what all may, so that many threads do not
 * hold many times as much. */
static size_t growth_share(void) {
    size_t threads = heap_count() - heap_orphans();
    return CACHE_BYTES_TOTAL / (threads < 8 ? 8 : threads);
}

static void set_cap(struct heap *heap, struct magazine *m, unsigned class, uint32_t cap) {
    heap->cap_bytes += ((size_t)cap - m->cap) * sizeclass_bytes(class);
    m->cap = cap;
}

static void restore(struct magazine *m) {
    m->floor = m->base;
    m->limit = m->base + m->cap;
}

/* Slow paths work on the whole array: settle puts `hot` into its place, lift takes it out again. */
static void settle(struct magazine *m) {
    void **top = atomic_get(&m->top, relaxed);
    if (top > m->base)
        top[-1] = atomic_get(&m->hot, relaxed);
}

static void lift(struct magazine *m, void **top) {
    if (top > m->base)
        atomic_put(&m->hot, top[-1], relaxed);
    atomic_put(&m->top, top, release);
}

static uint32_t held(const struct magazine *m) {
    return (uint32_t)(atomic_get(&m->top, relaxed) - m->base);
}

/* An array with room for `room` blocks and, below them, for base[-1]; NULL when there is no memory
 * for a long one. */
static void **cut_array(struct heap *heap, uint32_t room) {
    if (room > INLINE_ROOM) {
        void **array = arena_take_spare_metadata((room + 1) * sizeof(void *));
        return array == NULL ? NULL : array + 1;
    }
    void **base = heap->next_array + 1;
    heap->next_array = base + room;
    heap->cut += room + 1;
    return base;
}

/* What the short arrays of a heap can come to: each at every size on its way up, growing fourfold.
 */
static size_t arrays_bytes(void) {
    size_t entries = 0;
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        uint32_t most = heap_cap_max(class);
        entries += (most < INLINE_ROOM ? most : INLINE_ROOM) * 2 + 8;
    }
    return entries * sizeof(void *);
}

struct heap *heap_make(void) {
    struct heap *heap = arena_take_metadata(sizeof *heap + arrays_bytes());
    if (heap == NULL)
        return NULL;
    heap->next_array = (void **)(void *)(heap + 1);
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        struct magazine *m = &heap->magazines[class];
        m->live = arena.live[sizeclass_table[class].live_shift];
        m->away = (uint16_t)heap_away_offset(class);
        m->cap_max = heap_cap_max(class);
        m->cap = m->room = heap_first_cap(class);
        m->base = cut_array(heap, m->room);
        atomic_put(&m->top, m->base, relaxed);
        restore(m);
    }
    heap->arena_last = arena.last;
    heap->arena_bytes = arena_bytes();
    heap->class_map = arena.class_map;
    heap->drain_ms = heap->armed_ms = os_clock_ms();
    return heap;
}

/* ---- runs ---- */

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

/* Puts blocks home one by one, up to `end` or the first that is of another heap's run; returns how
 * many they were. What does not change is in registers here. */
static HKM_NOINLINE unsigned put_alone(struct heap *heap, unsigned class, void *const *blocks,
                                       void *const *end) {
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

/* Moves up to `want` free blocks of own runs, kept EMPTY ones last (stage 0), to out[], the first
 * that is to be used last. */
static unsigned take_from_runs(struct heap *heap, unsigned class, void **out, unsigned want) {
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
            break; /* that were never out */
        unlink(bin, slot);
    }
    if (got < want)
        memmove(out, out + want - got, got * sizeof(void *));
    return got;
}

/* ---- packets ---- */

static void count_up(uint16_t *count) { *count = (uint16_t)(*count + (*count < UINT16_MAX)); }

/* Takes the whole inbox of a group into its stash. */
static void empty_inbox(struct heap *heap, unsigned group) {
    if (atomic_get(&heap->inbox[group], relaxed) == NULL)
        return;
    struct packet *packet = atomic_swap(&heap->inbox[group], NULL, acquire);
    struct bin *bin = &heap->bins[group];
    count_up(&bin->packets);
    size_t units = 0;
    while (packet != NULL) {
        struct packet *next = atomic_get(&packet->next, relaxed);
        units += packet->units;
        atomic_put(&packet->next, bin->stash, relaxed);
        bin->stash = packet;
        packet = next;
    }
    atomic_sub(&heap->inbox_bytes, units * 16, relaxed);
}

/* Whether what waits for a heap is too much for an owner that is idle, which is looked at where it
 * passes a multiple of what may wait: then there were no fills since the last look. Who is at work
 * empties an inbox when a magazine of the class runs dry, and all with the next drain; to be helped
 * would only stop him, and cost a look at all classes. */
static bool needs_help(struct heap *to, size_t before, size_t waiting) {
    if (before / INBOX_HELP_BYTES == waiting / INBOX_HELP_BYTES)
        return false;
    uint32_t fills = (uint32_t)atomic_get(&to->stats.fills, relaxed);
    return atomic_swap(&to->fills_seen, fills, relaxed) == fills || waiting >= INBOX_MOST_BYTES;
}

static void deliver(struct heap *from, struct heap *to, struct packet *packet) {
    unsigned group = packet->group;
    packet->units = packet_units(packet);
    size_t bytes = (size_t)packet->units * 16;
    counter_add(&from->stats.remote_frees, packet->count);
    counter_add(&from->stats.remote_packets, 1);
    size_t before = atomic_add(&to->inbox_bytes, bytes, relaxed);
    size_t waiting = before + bytes;
    struct packet *head = atomic_get(&to->inbox[group], relaxed);
    do
        atomic_put(&packet->next, head, relaxed);
    while (!atomic_cas_weak(&to->inbox[group], &head, packet, release, relaxed));
    if (needs_help(to, before, waiting) && atomic_get(&to->state, relaxed) != HEAP_LOST &&
        heap_try_enter(to)) {
        heap_collect(to);
        heap_leave(to);
    }
}

/* Without a packet to be had: waits for the owner's lock instead, leaving one's own meanwhile. */
static HKM_COLD void send_directly(struct heap *heap, unsigned group, void *block) {
    heap_leave(heap);
    unsigned class = class_in(group, block);
    struct slot *slot = slot_of_block(class, block);
    for (bool done = false; !done;) {
        struct heap *owner = owner_of(slot);
        if (!heap_enter(owner))
            break; /* lost */
        if (owner_of(slot) == owner) {
            (void)put_home(owner, slot, class, &block, 1);
            done = true;
        }
        heap_leave(owner);
    }
    (void)heap_enter(heap);
}

/* Sends blocks of other heaps' runs home, owner by owner; returns how many are left. */
static HKM_NOINLINE unsigned send_away(struct heap *heap, unsigned group, void **blocks,
                                       unsigned count) {
    while (count > 0) {
        uint32_t id = owner_id(blocks[0]);
        struct heap *owner = heap_by_number(id - 1);
        struct packet *packet = NULL;
        unsigned rest = 0;
        for (unsigned i = 0; i < count; i++) {
            bool theirs = owner_id(blocks[i]) == id;
            if (theirs && packet == NULL)
                packet = packet_take_from(&heap->stock);
            if (!theirs || packet == NULL) {
                blocks[rest++] = blocks[i];
                continue;
            }
            packet->group = (uint16_t)group;
            packet->blocks[packet->count++] = blocks[i];
            if (packet->count == PACKET_BLOCKS) {
                deliver(heap, owner, packet);
                packet = NULL;
            }
        }
        if (packet != NULL)
            deliver(heap, owner, packet);
        if (rest == count)
            break;
        count = rest;
    }
    return count;
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
        else /* what stands in no order does so for a while */
            at += put_alone(heap, class, at, end - at < ALONE_MOST ? end : at + ALONE_MOST);
    }
    if (away == blocks)
        return 0;
    return send_away(heap, packet_group(class), blocks, (unsigned)(away - blocks));
}

/* heap_send_home for blocks of a group. */
static HKM_NOINLINE unsigned send_group_home(struct heap *heap, unsigned group, void **blocks,
                                             unsigned count) {
    if (!group_is_mixed(group))
        return heap_send_home(heap, group, blocks, count);
    unsigned away = 0;
    for (unsigned i = 0; i < count; i++) {
        if (put_alone(heap, class_in_mixed(group, blocks[i]), blocks + i, blocks + i + 1) == 0)
            blocks[away++] = blocks[i];
    }
    return away == 0 ? 0 : send_away(heap, group, blocks, away);
}

/* Moves blocks of the stash to out[]; they may be of anybody's runs, which a magazine may hold. */
static unsigned take_from_stash(struct heap *heap, unsigned class, void **out, unsigned want) {
    struct bin *bin = &heap->bins[class];
    if (bin->stash == NULL)
        empty_inbox(heap, class);
    unsigned got = 0;
    while (got < want && bin->stash != NULL) {
        struct packet *packet = bin->stash;
        unsigned n = want - got < packet->count ? want - got : packet->count;
        packet->count = (uint16_t)(packet->count - n);
        memcpy(out + got, packet->blocks + packet->count, n * sizeof(void *));
        got += n;
        if (packet->count == 0) {
            bin->stash = atomic_get(&packet->next, relaxed);
            packet_give_to(&heap->stock, packet);
        }
    }
    return got;
}

static bool has_packets(const struct heap *heap, unsigned group) {
    return heap->bins[group].stash != NULL || atomic_get(&heap->inbox[group], relaxed) != NULL;
}

/* take_from_stash for a class of a mixed group: opens packets until the class's magazine, which is
 * empty, holds something. What has no room in its own magazine goes home. Under the heap's own
 * thread only. */
static HKM_NOINLINE void open_packets(struct heap *heap, unsigned class) {
    unsigned group = packet_group(class);
    struct bin *bin = &heap->bins[group];
    if (bin->stash == NULL)
        empty_inbox(heap, group);
    while (bin->stash != NULL && held(&heap->magazines[class]) == 0) {
        struct packet *packet = bin->stash;
        unsigned left = 0;
        for (unsigned i = 0; i < packet->count; i++) {
            void *block = packet->blocks[i];
            struct magazine *m = &heap->magazines[class_in_mixed(group, block)];
            void **top = atomic_get(&m->top, relaxed);
            if (top < m->base + m->cap) {
                settle(m);
                *top = block;
                lift(m, top + 1);
            } else {
                packet->blocks[left++] = block;
            }
        }
        packet->count = (uint16_t)send_group_home(heap, group, packet->blocks, left);
        if (packet->count > 0)
            return; /* as in collect_group */
        bin->stash = atomic_get(&packet->next, relaxed);
        packet_give_to(&heap->stock, packet);
    }
}

static HKM_NOINLINE void collect_group(struct heap *heap, unsigned group) {
    struct bin *bin = &heap->bins[group];
    empty_inbox(heap, group);
    while (bin->stash != NULL) {
        struct packet *packet = bin->stash;
        packet->count = (uint16_t)send_group_home(heap, group, packet->blocks, packet->count);
        if (packet->count > 0)
            return; /* no memory for packets now: they wait here */
        bin->stash = atomic_get(&packet->next, relaxed);
        packet_give_to(&heap->stock, packet);
    }
}

/* The EMPTY run that a bin keeps, to the pool. */
static void give_kept(struct bin *bin) {
    if (bin->empty != 0) {
        struct slot *slot = slot_at(bin->empty);
        bin->empty = 0;
        pool_give(slot, false);
    }
}

void heap_collect(struct heap *heap) {
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        if (has_packets(heap, class))
            collect_group(heap, class);
        give_kept(&heap->bins[class]);
    }
}

/* ---- fill and flush ---- */

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
        collect_group(orphan, packet_group(class));
        while (theirs->head != 0)
            move_run(theirs, slot_at(theirs->head), heap, class);
        heap_leave(orphan);
    }
    return bin->head != 0;
}

/* Where each of many threads would hold a run of every class that it ever used, the runs go to who
 * needs them: one of which half is free, from another thread's heap; and what that keeps EMPTY
 * goes to the pool. Not small blocks: neighbours in a cache line should stay with one thread. */
static HKM_SELDOM bool share(struct heap *heap, unsigned class) {
    struct bin *bin = &heap->bins[class];
    uint32_t end = heap_count();
    for (unsigned tries = 0; tries < SHARE_TRIES && tries < end && bin->head == 0; tries++) {
        heap->asked = heap->asked + 1 < end ? heap->asked + 1 : 0;
        struct heap *other = heap_by_number(heap->asked);
        if (other == NULL || other == heap || atomic_get(&other->state, relaxed) != HEAP_OWNED ||
            !heap_try_enter(other))
            continue;
        collect_group(other, packet_group(class));
        struct bin *theirs = &other->bins[class];
        give_kept(theirs);
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

/* The last run in the list, if nothing of it is out: it would stay ACTIVE for nobody. */
static void drop_unused(struct heap *heap, unsigned class) {
    uint32_t tail = heap->bins[class].tail;
    if (tail != 0 && slot_free(slot_at(tail)) == slot_at(tail)->capacity)
        run_emptied(heap, slot_at(tail));
}

/* A run from the pool, linked. Leaves the lock meanwhile: stage 3 can enter the OS. Before it does,
 * the heap's own thread lets go of what it has not used lately: a few blocks in idle magazines can
 * pin many runs, which other classes could have instead of a SuperSlab that is not warm. Not again
 * and again: then what is idle is needed soon, and the program is larger than its SuperSlabs. When
 * blocks of the class come home meanwhile, these will do, and the run is given back. */
static bool get_run(struct heap *heap, unsigned class, bool own) {
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
        drop_unused(heap, class);
    return true;
}

/* What comes out of a deep magazine lies wherever it was freed, where bitmaps give neighbours. It
 * is had for less work, which is worth more while the program's memory is in the processor's
 * caches; beyond that the neighbours are, and the runs that the magazine's blocks would pin. */
static bool may_be_deep(void) { return superslab_held() <= DEEP_SUPERSLABS; }

/* Whether others' blocks of the class wait to be sent home. */
static bool gathers(const struct heap *heap, unsigned class) {
    unsigned group = packet_group(class);
    const struct away *away = &heap->away[group];
    uint32_t count = atomic_get(&away->count, relaxed);
    if (!group_is_mixed(group))
        return count > 0;
    while (count > 0 && class_in_mixed(group, away->packet->blocks[count - 1]) != class)
        count--;
    return count > 0;
}

/* A magazine that overflows or runs dry again gets more room, while its heap's share lasts. Beyond
 * a little of it only one that does both in turn, while none of others' blocks are gathered: where
 * blocks come from another thread, go to one, or are exchanged, a large magazine would only keep
 * more of them from their way. */
static void grow(struct heap *heap, struct magazine *m, unsigned class, bool spilled) {
    bool first = m->trips == 0;
    bool turned = !first && (m->trips & 1) != spilled;
    m->trips = 2 | spilled;
    uint32_t cap = m->cap * 4 < m->cap_max ? m->cap * 4 : m->cap_max;
    bool one_way = cap * sizeclass_bytes(class) <= ONE_WAY_BYTES; /* room enough for that */
    if (first || cap <= m->cap || !(one_way || turned) || heap->cap_bytes >= growth_share() ||
        (!one_way && gathers(heap, class)) || (cap > FLOODED_CAP && !may_be_deep()))
        return;
    if (cap > m->room) {
        uint32_t count = held(m);
        uint32_t most = heap_cap_max(class);
        uint32_t room = m->room * 4 < most ? m->room * 4 : most;
        void **base = cut_array(heap, room);
        if (base == NULL)
            return;
        settle(m);
        memcpy(base, m->base, count * sizeof(void *));
        m->base = base;
        m->room = room;
        lift(m, base + count);
        if (cap > room)
            cap = room;
    }
    set_cap(heap, m, class, cap);
    restore(m);
}

/* A program that frees more than the largest magazine holds will allocate as much again, and is
 * better served from the bitmaps, where neighbours come out together, than from a deep stack in the
 * order of the frees. From the first overflow to the next drain such a magazine is a small one, as
 * is one that was deep before the program became larger: each flush sends home twice as much as
 * comes in until the next. */
static void shrink_flooded(struct heap *heap, struct magazine *m, unsigned class) {
    uint32_t cap = held(m) + FLUSH_MOST / 2;
    m->cap_max = cap > FLOODED_CAP ? cap : FLOODED_CAP;
    set_cap(heap, m, class, m->cap_max);
    restore(m);
}

void *heap_fill(struct heap *heap, unsigned class) {
    struct magazine *m = &heap->magazines[class];
    void **top = atomic_get(&m->top, relaxed);
    if (unlikely(m->cap > FLOODED_CAP) && top == m->base && !may_be_deep())
        set_cap(heap, m, class, FLOODED_CAP);
    restore(m);
    if (top == m->base) {
        grow(heap, m, class, false);
        top = m->base;
        counter_add(&heap->stats.fills, 1);
        unsigned want = m->cap <= 2 ? m->cap : (m->cap + 1) / 2;
        if (want > options.fill_batch)
            want = (unsigned)options.fill_batch;
        unsigned got = 0;
        if (!group_is_mixed(packet_group(class))) {
            got = take_from_stash(heap, class, top, want);
        } else if (has_packets(heap, packet_group(class))) {
            open_packets(heap, class);
            top = atomic_get(&m->top, relaxed);
        }
        if (got == 0 && top == m->base) {
            got = take_from_runs(heap, class, top, want);
            while (got == 0 && get_run(heap, class, true)) {
                top = atomic_get(&m->top, relaxed);
                if (top != m->base) { /* a signal handler filled it while the lock was free */
                    drop_unused(heap, class);
                    break;
                }
                got = take_from_runs(heap, class, top, want);
            }
        }
        top += got;
        if (top == m->base)
            return NULL;
        if (got > 0)
            lift(m, top);
    }
    settle(m);
    void *block = top[-1];
    lift(m, top - 1);
    return block;
}

/* Sends home `count` blocks of a magazine, but not the newest `stay`. What has to be sent directly
 * leaves the magazine before the lock is left: a fork meanwhile must not find it in both places. */
static void flush(struct heap *heap, struct magazine *m, unsigned class, unsigned count,
                  unsigned stay) {
    settle(m);
    void **from = m->base + (held(m) - stay - count);
    unsigned left = heap_send_home(heap, class, from, count);
    memmove(from + left, from + count, stay * sizeof(void *));
    lift(m, from + left + stay);
    for (; left > 0; left--) {
        void **top = atomic_get(&m->top, relaxed);
        void *block = from[0];
        from[0] = top[-1];
        lift(m, top - 1);
        send_directly(heap, class, block);
    }
}

void heap_flush(struct heap *heap, unsigned class, void *block) {
    struct magazine *m = &heap->magazines[class];
    restore(m);
    if (atomic_get(&m->top, relaxed) == m->limit)
        grow(heap, m, class, true);
    if (atomic_get(&m->top, relaxed) == m->limit) {
        counter_add(&heap->stats.flushes, 1);
        unsigned count = (m->cap + 1) / 2;
        if (count > FLUSH_MOST)
            count = FLUSH_MOST;
        unsigned rest = m->cap - count;
        flush(heap, m, class, count, rest < FLUSH_MOST ? rest : FLUSH_MOST);
        if (m->cap > FLOODED_CAP && (m->cap == m->cap_max || !may_be_deep()))
            shrink_flooded(heap, m, class);
        if (heap->released >= RELEASED_ALARM) { /* as many slots may be idle now, and dirty */
            heap->released = 0;
            m->floor = (void **)UINTPTR_MAX; /* the next malloc looks at the clock */
        }
    }
    settle(m);
    void **top = atomic_get(&m->top, relaxed);
    *top = block;
    lift(m, top + 1);
}

/* Sends home what is gathered of a group: the packet as it is when one heap owns all of it. */
static HKM_NOINLINE void send_gathered(struct heap *heap, unsigned group) {
    struct away *away = &heap->away[group];
    struct packet *packet = away->packet;
    uint32_t count = atomic_get(&away->count, relaxed);
    away->packet = NULL;
    away->room = 0;
    atomic_put(&away->count, 0, relaxed);
    uint32_t id = owner_id(packet->blocks[0]);
    uint32_t same = 1;
    while (same < count && owner_id(packet->blocks[same]) == id)
        same++;
    if (same == count && id != heap->id) {
        packet->group = (uint16_t)group;
        packet->count = (uint16_t)count;
        deliver(heap, heap_by_number(id - 1), packet);
        return;
    }
    for (unsigned left = send_group_home(heap, group, packet->blocks, count); left > 0; left--)
        send_directly(heap, group, packet->blocks[left - 1]);
    packet_give_to(&heap->stock, packet);
}

static uint32_t away_room(unsigned group) {
    bool many = heap_count() > SHARE_THREADS;
    if (group == GROUP_MEDIUM)
        return many ? AWAY_MEDIUM_MANY : AWAY_MEDIUM;
    if (group == GROUP_LARGE)
        return AWAY_LARGE;
    size_t room = AWAY_BYTES / sizeclass_bytes(group);
    size_t few = AWAY_BYTES_MANY / sizeclass_bytes(group);
    if (room > AWAY_LEAST && many)
        room = few > AWAY_LEAST ? few : AWAY_LEAST;
    return room > PACKET_BLOCKS ? PACKET_BLOCKS : room < 1 ? 1 : (uint32_t)room;
}

void heap_flush_away(struct heap *heap, unsigned class, void *block) {
    unsigned group = packet_group(class);
    uint32_t room = away_room(group);
    struct away *away = &heap->away[group];
    count_up(&heap->bins[group].packets);
    if (away->packet != NULL && atomic_get(&away->count, relaxed) >= room)
        send_gathered(heap, group);
    if (away->packet == NULL)
        away->packet = packet_take_from(&heap->stock);
    if (away->packet == NULL) {
        send_directly(heap, class, block);
        return;
    }
    uint32_t count = atomic_get(&away->count, relaxed);
    away->packet->blocks[count] = block;
    away->room = room;
    atomic_put(&away->count, count + 1, release);
    if (room == 1)
        send_gathered(heap, group);
}

void *heap_take_one(struct heap *heap, unsigned class) {
    void *block;
    unsigned group = packet_group(class);
    if (group_is_mixed(group))
        collect_group(heap, group);
    else if (take_from_stash(heap, class, &block, 1) == 1)
        return block;
    while (take_from_runs(heap, class, &block, 1) == 0) {
        if (!get_run(heap, class, false))
            return NULL;
    }
    return block;
}

void heap_free_borrowed(unsigned class, void *block) {
    struct heap *aside = heap_step_aside();
    struct heap *heap = heap_borrow();
    if (heap != NULL) { /* else a signal handler, all are busy, no memory for more: it is lost */
        if (heap_send_home(heap, class, &block, 1) > 0)
            send_directly(heap, class, block);
        heap_leave(heap);
    }
    heap_step_back(aside);
}

void heap_drain(struct heap *heap, enum heap_drain how) {
    counter_add(&heap->stats.drains, 1);
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        struct magazine *m = &heap->magazines[class];
        unsigned count = held(m);
        if (atomic_get(&heap->away[class].count, relaxed) > 0)
            send_gathered(heap, class);
        if (how >= DRAIN_ALL || m->trips == 0) {
            uint32_t cap = heap_first_cap(class);
            if (count > 0) {
                unsigned stay = how == DRAIN_AGED ? count / 2 : 0;
                if (how == DRAIN_END && sizeclass_bytes(class) <= END_BYTES)
                    stay = count < cap ? count : cap;
                flush(heap, m, class, count - stay, stay);
            }
            if (cap < m->cap && held(m) <= cap) {
                set_cap(heap, m, class, cap);
                restore(m);
            }
        }
        if (how != DRAIN_IDLE)
            heap->bins[class].runs = heap->bins[class].packets = heap->made_do = 0;
        m->trips = 0;
        m->cap_max = heap_cap_max(class);
    }
    heap_collect(heap);
}

void heap_arm(struct heap *heap, uint32_t now_ms) {
    heap->armed_ms = now_ms;
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        heap->magazines[class].floor = (void **)UINTPTR_MAX;
        heap->magazines[class].limit = NULL;
        heap->away[class].room = 0;
    }
}
