/* packet.h -- batches of block addresses on their way to another heap.
 * Purpose     blocks of one class, freed by a thread that does not own their runs, travel home 62
 *             at a time: one atomic operation a packet, and the receiver can hand them out again
 *             without looking at a run at all.
 * Ownership   a packet belongs to whoever took it, then to the inbox it was pushed to, then to
 *             whoever emptied that inbox. Blocks in a packet are cached: neither live nor in a
 *             bitmap (S5), so their runs can not be retired meanwhile.
 * Ordering    packets are never unmapped, so a stale `next` may be read harmlessly; the tag in the
 *             free list's head keeps such a read from being used (no ABA).
 */
#ifndef HKM_CORE_PACKET_H
#define HKM_CORE_PACKET_H

#include "core/arena.h"

struct packet {
    ATOMIC(struct packet *) next;
    uint32_t count;
    uint32_t class;
    void *blocks[PACKET_BLOCKS];
};
_Static_assert(sizeof(struct packet) == 512, "eight cache lines");

/* An empty packet; NULL when there is no memory for one. */
struct packet *packet_take(void);
/* Gives a packet back, whatever it holds. */
void packet_give(struct packet *packet);

#endif
