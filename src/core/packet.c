/* packet.c -- the free list of packets: a stack whose head is a tag and a packet's number. */
#include "core/packet.h"

#define STOCK_MOST 8u /* packets that a heap keeps */

uint32_t packet_units(const struct packet *packet) {
    if (!group_is_mixed(packet->group))
        return (uint32_t)(packet->count * sizeclass_bytes(packet->group) / 16);
    size_t bytes = 0;
    for (uint32_t i = 0; i < packet->count; i++)
        bytes += sizeclass_bytes(packet_class_of(packet->group, packet->blocks[i]));
    return (uint32_t)(bytes / 16);
}

static ATOMIC(uint64_t) head; /* tag << 32 | number + 1; 0 below the tag: empty */

#define NUMBER(packet) ((uint64_t)((char *)(packet)-arena.metadata) / 64 + 1)

static struct packet *at(uint64_t word) {
    uint64_t number = word & UINT32_MAX;
    return number == 0 ? NULL : (struct packet *)(void *)(arena.metadata + (number - 1) * 64);
}

struct packet *packet_take(void) {
    uint64_t word = atomic_get(&head, acquire); /* pairs with the release in packet_give */
    struct packet *packet;
    while ((packet = at(word)) != NULL) {
        struct packet *below = atomic_get(&packet->next, relaxed);
        uint64_t next = ((word >> 32) + 1) << 32 | (below == NULL ? 0 : NUMBER(below));
        if (atomic_cas_weak(&head, &word, next, acquire, acquire))
            break;
    }
    if (packet == NULL)
        packet = arena_take_metadata(sizeof *packet);
    if (packet != NULL)
        packet->count = 0;
    return packet;
}

void packet_give(struct packet *packet) {
    uint64_t word = atomic_get(&head, relaxed);
    uint64_t next;
    do {
        atomic_put(&packet->next, at(word), relaxed);
        next = ((word >> 32) + 1) << 32 | NUMBER(packet);
    } while (!atomic_cas_weak(&head, &word, next, release, relaxed));
}

struct packet *packet_take_from(struct packet_stock *stock) {
    struct packet *packet = stock->first;
    if (packet == NULL)
        return packet_take();
    stock->first = atomic_get(&packet->next, relaxed);
    stock->count--;
    packet->count = 0;
    return packet;
}

void packet_give_to(struct packet_stock *stock, struct packet *packet) {
    if (stock->count >= STOCK_MOST) {
        packet_give(packet);
        return;
    }
    atomic_put(&packet->next, stock->first, relaxed);
    stock->first = packet;
    stock->count++;
}
