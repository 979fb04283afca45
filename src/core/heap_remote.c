/* heap_remote.c -- blocks on their way between heaps: gathered, sent, received; see packet.h.
 *
 *     heap_flush_away -> `away`, a packet a group -> heap_send_gathered -> deliver -> the owner's
 *     inbox -> (empty_inbox) its stash -> its magazines (heap_take_from_stash, heap_open_packets),
 *     or home (heap_collect_group)
 *
 *     No block waits for memory: without a packet it goes home under its owner's lock
 *     (heap_send_directly).
 */
#include <string.h>

#include "base/require.h"
#include "core/heap_inside.h"

#define AWAY_BYTES KIB(16)        /* what is gathered of a class before it is sent home, ... */
#define AWAY_BYTES_MANY KIB(4)    /* ... where there were more than SHARE_THREADS at once */
#define AWAY_LEAST 8u             /* blocks, if these are not more than AWAY_BYTES */
#define AWAY_MEDIUM 32u           /* blocks that are gathered of the medium group, ... */
#define AWAY_MEDIUM_MANY 16u      /* ... among many threads, ... */
#define AWAY_LARGE 8u             /* ... and of the large one, ... */
#define AWAY_LARGE_BYTES KIB(256) /* ... if as many of the first one's size are not more */
#define INBOX_HELP_BYTES KIB(256) /* what may wait for an idle owner, ... */
#define INBOX_HELP_LARGE KIB(512) /* ... and if what comes is of the large group, ... */
#define INBOX_MOST_BYTES MIB(4)   /* ... and for one that is not */
#define OWNER_TRIES 1000u         /* 0.1 s, by os_backoff */

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

/* As the run's record says, too, except while another thread is changing both (S23). */
static uint32_t owner_id(const void *block) { return arena_owner_of_slot(arena_slot_of(block)); }

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

/* Whether to empty a heap's inboxes in its owner's place. Looks each time that the bytes that wait
 * pass a multiple of INBOX_HELP_BYTES; one packet of the large group may have as many, so then of
 * INBOX_HELP_LARGE. Yes if the owner neither filled a magazine nor sent a packet since the last
 * time, or if very much waits. An owner at work empties an inbox when a magazine of the class runs
 * dry, and all with the next drain: help would only keep it from its lock, and cost a look at all
 * classes. */
static bool needs_help(struct heap *to, unsigned group, size_t before, size_t waiting) {
    size_t step = group == GROUP_LARGE ? INBOX_HELP_LARGE : INBOX_HELP_BYTES;
    if (before / step == waiting / step)
        return false;
    uint32_t work = (uint32_t)(atomic_get(&to->stats.fills, relaxed) +
                               atomic_get(&to->stats.remote_packets, relaxed));
    return atomic_swap(&to->work_seen, work, relaxed) == work || waiting >= INBOX_MOST_BYTES;
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
    if (needs_help(to, group, before, waiting) && atomic_get(&to->state, relaxed) != HEAP_LOST &&
        heap_try_enter(to)) {
        heap_collect(to);
        heap_leave(to);
    }
}

/* Past all packets; false when the owner is lost, the thread interrupted it, or it is busy. */
static HKM_COLD bool give_to_owner(unsigned class, void *block, unsigned tries) {
    struct slot *slot = slot_of_block(class, block);
    for (bool done = false; !done;) {
        struct heap *owner = owner_of(slot);
        if (!heap_enter_within(owner, tries))
            return false;
        done = heap_put_alone(owner, class, &block, &block + 1) == 1; /* else it has another */
        heap_leave(owner);
    }
    return true;
}

void heap_send_directly(struct heap *heap, unsigned group, void *block) {
    heap_leave(heap);
    (void)give_to_owner(class_in(group, block), block, 0); /* false: it is lost, in a child */
    (void)heap_enter(heap);
}

unsigned heap_send_away(struct heap *heap, unsigned group, void **blocks, unsigned count) {
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

/* heap_send_home for blocks of a group. */
static HKM_NOINLINE unsigned send_group_home(struct heap *heap, unsigned group, void **blocks,
                                             unsigned count) {
    if (!group_is_mixed(group))
        return heap_send_home(heap, group, blocks, count);
    unsigned away = 0;
    for (unsigned i = 0; i < count; i++) {
        if (heap_put_alone(heap, class_in_mixed(group, blocks[i]), blocks + i, blocks + i + 1) == 0)
            blocks[away++] = blocks[i];
    }
    return away == 0 ? 0 : heap_send_away(heap, group, blocks, away);
}

unsigned heap_take_from_stash(struct heap *heap, unsigned class, void **out, unsigned want) {
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

/* What has no room in its class's magazine goes home. Who freed a block wrote its live byte last,
 * and had its first line: both are on their way here before the block is asked for. */
void heap_open_packets(struct heap *heap, unsigned class) {
    unsigned group = packet_group(class);
    struct bin *bin = &heap->bins[group];
    if (bin->stash == NULL)
        empty_inbox(heap, group);
    while (bin->stash != NULL && magazine_held(&heap->magazines[class]) == 0) {
        struct packet *packet = bin->stash;
        unsigned left = 0;
        for (unsigned i = 0; i < packet->count; i++) {
            void *block = packet->blocks[i];
            unsigned of = class_in_mixed(group, block);
            struct magazine *m = &heap->magazines[of];
            void **top = atomic_get(&m->top, relaxed);
            if (top < m->base + m->cap) {
                cpu_fetch_to_write((void *)(uintptr_t)arena_live_byte(of, block));
                cpu_fetch_to_write(block);
                magazine_settle(m);
                *top = block;
                magazine_lift(m, top + 1);
            } else {
                packet->blocks[left++] = block;
            }
        }
        packet->count = (uint16_t)send_group_home(heap, group, packet->blocks, left);
        if (packet->count > 0)
            return; /* as in heap_collect_group */
        bin->stash = atomic_get(&packet->next, relaxed);
        packet_give_to(&heap->stock, packet);
    }
}

void heap_collect_group(struct heap *heap, unsigned group) {
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

void heap_collect(struct heap *heap) {
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        if (heap_has_packets(heap, class))
            heap_collect_group(heap, class);
        heap_give_kept(&heap->bins[class]);
    }
}

bool heap_gathers(const struct heap *heap, unsigned class) {
    unsigned group = packet_group(class);
    const struct away *away = &heap->away[group];
    uint32_t count = atomic_get(&away->count, relaxed);
    if (!group_is_mixed(group))
        return count > 0;
    while (count > 0 && class_in_mixed(group, away->packet->blocks[count - 1]) != class)
        count--;
    return count > 0;
}

/* The packet goes as it is when one heap owns all of it. */
void heap_send_gathered(struct heap *heap, unsigned group) {
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
        heap_send_directly(heap, group, packet->blocks[left - 1]);
    packet_give_to(&heap->stock, packet);
}

static uint32_t away_room(unsigned class) {
    bool many = heap_count() > SHARE_THREADS;
    unsigned group = packet_group(class);
    if (group == GROUP_MEDIUM)
        return many ? AWAY_MEDIUM_MANY : AWAY_MEDIUM;
    if (group == GROUP_LARGE) {
        size_t most = AWAY_LARGE_BYTES / sizeclass_bytes(class);
        return most < AWAY_LARGE ? (uint32_t)most : AWAY_LARGE;
    }
    size_t room = AWAY_BYTES / sizeclass_bytes(group);
    size_t few = AWAY_BYTES_MANY / sizeclass_bytes(group);
    if (room > AWAY_LEAST && many)
        room = few > AWAY_LEAST ? few : AWAY_LEAST;
    return room > PACKET_BLOCKS ? PACKET_BLOCKS : room < 1 ? 1 : (uint32_t)room;
}

void heap_flush_away(struct heap *heap, unsigned class, void *block) {
    unsigned group = packet_group(class);
    uint32_t room = away_room(class);
    struct away *away = &heap->away[group];
    count_up(&heap->bins[group].packets);
    if (away->packet != NULL && atomic_get(&away->count, relaxed) >= room)
        heap_send_gathered(heap, group);
    if (away->packet == NULL)
        away->packet = packet_take_from(&heap->stock);
    if (away->packet == NULL) {
        heap_send_directly(heap, class, block);
        return;
    }
    uint32_t count = atomic_get(&away->count, relaxed);
    away->packet->blocks[count] = block;
    away->room = room;
    atomic_put(&away->count, count + 1, release);
    if (room == 1)
        heap_send_gathered(heap, group);
}

void heap_free_borrowed(unsigned class, void *block) {
    struct heap *aside = heap_step_aside();
    if (!give_to_owner(class, block, 1)) {
        struct heap *heap = heap_borrow();
        bool left = heap == NULL || heap_send_home(heap, class, &block, 1) > 0;
        if (heap != NULL)
            heap_leave(heap);
        if (left)
            (void)give_to_owner(class, block, OWNER_TRIES);
    }
    heap_step_back(aside);
}
