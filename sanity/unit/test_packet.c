/* test_packet.c -- the free list of packets: reuse, exhaustion, and no packet with two holders. */
#include "unit/unit.inc"

#include "core/packet.h"

static void start_arena(void) { check(arena_init(ARENA_BYTES_MIN) == 0); }

Test(packet, a_new_packet_is_empty_and_aligned_to_a_cache_line) {
    start_arena();
    struct packet *before = NULL;
    for (int i = 0; i < 100; i++) {
        struct packet *packet = packet_take();
        check(packet != NULL && packet != before && packet->count == 0);
        check((uintptr_t)packet % 64 == 0);
        memset(packet->blocks, 0xff, sizeof packet->blocks);
        before = packet;
    }
}

Test(packet, given_packets_come_back_last_first_and_empty) {
    start_arena();
    struct packet *packets[50];
    for (int i = 0; i < 50; i++)
        packets[i] = packet_take();
    size_t committed = arena_metadata_bytes();
    for (int i = 0; i < 50; i++) {
        packets[i]->count = 62;
        packet_give(packets[i]);
    }
    for (int i = 50; i-- > 0;) {
        struct packet *packet = packet_take();
        check(packet == packets[i] && packet->count == 0, "packet %d", i);
    }
    check(arena_metadata_bytes() == committed);
    for (int i = 0; i < 50; i++)
        check(packet_take() != packets[i], "the list was empty");
}

Test(packet, take_gives_NULL_without_memory_and_works_again_after_a_give) {
    start_arena();
    struct packet *last = NULL;
    size_t count = 0;
    for (struct packet *packet; (packet = packet_take()) != NULL; count++)
        last = packet;
    check(count == MIB(4) / sizeof(struct packet), "%zu packets", count);
    packet_give(last);
    check(packet_take() == last && packet_take() == NULL);
}

static ATOMIC(uint32_t) holder[MIB(4) / 64];
static ATOMIC(uint32_t) packets_made;

static size_t take_and_give(unsigned number, void *shared) {
    (void)shared;
    struct packet *held[3] = {NULL};
    uint64_t state = unit_seed() + number;
    size_t wrong = 0;
    for (size_t step = unit_repeats(300000, 10000); step > 0; step--) {
        size_t h = unit_below(&state, 3);
        struct packet *packet = held[h] != NULL ? held[h] : packet_take();
        size_t at = (size_t)((char *)packet - arena.metadata) / 64;
        if (held[h] == NULL) {
            wrong += atomic_swap(&holder[at], number + 1, relaxed) != 0 || packet->count != 0;
            packet->count = number;
            held[h] = packet;
        } else {
            wrong += atomic_swap(&holder[at], 0, relaxed) != number + 1 || packet->count != number;
            packet_give(packet);
            held[h] = NULL;
        }
    }
    for (size_t h = 0; h < 3; h++)
        if (held[h] != NULL) {
            atomic_put(&holder[((char *)held[h] - arena.metadata) / 64], 0, relaxed);
            packet_give(held[h]);
        }
    return wrong;
}

Test(packet, four_threads_popping_and_pushing_never_share_a_packet_and_lose_none) {
    start_arena();
    check(unit_run_threads(4, take_and_give, NULL) == 0, "a packet had two holders");
    for (struct packet *packet; (packet = packet_take()) != NULL;)
        atomic_add(&packets_made, 1, relaxed);
    check(atomic_get(&packets_made, relaxed) == MIB(4) / sizeof(struct packet),
          "%u are left, the rest was lost", atomic_get(&packets_made, relaxed));
}
