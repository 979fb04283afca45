/* packet.h -- batches of block addresses on their way to another heap.
 * Purpose     blocks of a group of classes, freed by a thread that does not own their runs, travel
 *             home up to 62 at a time: one atomic operation a packet, and the receiver can hand
 *             them out again without looking at a run at all.
 * Ownership   a packet belongs to whoever took it, then to the inbox it was pushed to, then to
 *             whoever emptied that inbox. Blocks in a packet are cached: neither live nor in a
 *             bitmap (S5), so their runs can not be retired meanwhile.
 * Ordering    packets are never unmapped, so a stale `next` may be read harmlessly; the tag in the
 *             free list's head keeps such a read from being used (no ABA).
 */
#ifndef HKM_CORE_PACKET_H
#define HKM_CORE_PACKET_H

#include "core/arena.h"
#include "core/sizeclass.h"

struct packet {
    ATOMIC(struct packet *) next;
    uint16_t count;
    uint16_t group;
    uint32_t units; /* packet_units, once it is sent */
    void *blocks[PACKET_BLOCKS];
};
_Static_assert(sizeof(struct packet) == 512, "eight cache lines");

/* Classes whose blocks travel together are a group, whose number is its first class. Those up to
 * 1 KiB, of which a packet is soon full, are each by themselves. */
#define GROUP_MEDIUM 33u /* 1 to 16 KiB */
#define GROUP_LARGE 65u  /* above */

HKM_INLINE unsigned packet_group(unsigned class) {
    return class < GROUP_MEDIUM ? class : class < GROUP_LARGE ? GROUP_MEDIUM : GROUP_LARGE;
}

/* False for the number of any other class, too. */
HKM_INLINE bool group_is_mixed(unsigned group) {
    return group == GROUP_MEDIUM || group == GROUP_LARGE;
}

/* The class of a block of a group; also of a class, whether its number is a group's or not. */
HKM_INLINE unsigned packet_class_of(unsigned group, const void *block) {
    return group_is_mixed(group) ? arena_class_of_slot(arena_slot_of(block)) : group;
}

/* Length of a packet's blocks / 16. */
uint32_t packet_units(const struct packet *packet);

/* An empty packet; NULL when there is no memory for one. */
struct packet *packet_take(void);
/* Gives a packet back, whatever it holds. */
void packet_give(struct packet *packet);

/* Empty packets that one heap keeps: those that it opened are those that it sends next, so that who
 * sends as many as arrive never meets others at the common list. The heap's lock is held. */
struct packet_stock {
    struct packet *first;
    uint32_t count;
};

struct packet *packet_take_from(struct packet_stock *stock);
void packet_give_to(struct packet_stock *stock, struct packet *packet);

#endif
