/* test_exchange.c -- blocks between heaps: packets, inboxes, shared runs, work for oneself. */
#include <signal.h>

#include "unit/heap.inc"

/* ---- two heaps ---- */

Test(exchange, packets_that_were_handed_out_are_used_again) {
    start_arena(MIB(256));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    enum { CLASS = 3, COUNT = 4 * PACKET_BLOCKS };
    size_t used = 0;
    for (unsigned round = 0; round < 500; round++) {
        check(heap_enter(home));
        for (unsigned i = 0; i < COUNT; i++)
            blocks[i] = heap_take_one(home, CLASS);
        heap_leave(home);
        send_home(away, CLASS, blocks, COUNT);
        size_t now = atomic_get(arena_innards().metadata_used, relaxed);
        check(round < 3 || now == used, "round %u: %zu bytes of metadata, %zu before", round, now,
              used);
        used = now;
    }
}

Test(exchange, remote_frees_arrive_as_packets_and_are_handed_out_again) {
    start_arena(MIB(256));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    for (unsigned class = 1; class < CLASS_COUNT; class += 19) {
        unsigned count = 3 * PACKET_BLOCKS + 5;
        check(heap_enter(home));
        for (unsigned i = 0; i < count; i++)
            blocks[i] = heap_take_one(home, class);
        heap_leave(home);
        bool helped = count * sizeclass_bytes(class) > KIB(256);
        atomic_put(&home->work_seen, (uint32_t)atomic_get(&home->stats.fills, relaxed), relaxed);
        uint64_t frees = atomic_get(&away->stats.remote_frees, relaxed);
        uint64_t packets = atomic_get(&away->stats.remote_packets, relaxed);
        send_home(away, class, blocks, count);
        check(atomic_get(&away->stats.remote_frees, relaxed) == frees + count);
        check(atomic_get(&away->stats.remote_packets, relaxed) == packets + 4);
        check(live_blocks(class) == 0, "class %u", class);
        size_t waiting = inbox_holds(home, class);
        check(atomic_get(&home->inbox_bytes, relaxed) == waiting * sizeclass_bytes(class));
        check(helped ? waiting < count : waiting == count, "class %u: %zu", class, waiting);
        if (!helped) {
            uint64_t runs = stage(home, 0) + stage(home, 1) + stage(home, 2) + stage(home, 3);
            check(fill(home, class) != NULL && live_blocks(class) == 1);
            check(stage(home, 0) + stage(home, 1) + stage(home, 2) + stage(home, 3) == runs);
            check(inbox(home, class) == NULL, "into the stash");
            check(atomic_get(&home->inbox_bytes, relaxed) == 0);
        }
        drain(home, true);
        check(live_blocks(class) == (helped ? 0u : 1u) && heap_enter(home));
        check(home->bins[packet_group(class)].stash == NULL);
        heap_leave(home);
    }
}

Test(exchange, an_idle_owner_is_helped_and_one_at_work_when_it_is_much) {
    start_arena(MIB(256));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    unsigned class = sizeclass_of(KIB(8));
    check(heap_enter(home));
    for (unsigned i = 0; i < 700; i++)
        blocks[i] = heap_take_one(home, class);
    heap_leave(home);
    (void)fill(home, 9);
    static const struct {
        unsigned blocks; /* that come one at a time */
        bool fill;       /* before them */
        bool helped;     /* and nothing waits */
        const char *why;
    } steps[] = {
        {32, true, false, "at 256 KiB it had had a fill"},
        {31, false, false, "no look until 512"},
        {1, false, true, "idle since the last look"},
        {31, false, false, "no look until 256"},
        {1, false, true, "still idle"},
        {511, true, false, "at work"},
        {1, true, true, "4 MiB"},
    };
    void **next = blocks;
    unsigned waiting = 0;
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
        for (unsigned i = 0; i < steps[s].blocks; i++, waiting++) {
            counter_add(&home->stats.fills, steps[s].fill);
            send_home(away, class, next++, 1);
        }
        waiting = steps[s].helped ? 0 : waiting;
        check(atomic_get(&home->inbox_bytes, relaxed) == waiting * KIB(8), "%s", steps[s].why);
    }
}

Test(exchange, blocks_of_several_owners_are_sent_to_each_of_them) {
    start_arena(MIB(256));
    struct heap *heaps[4];
    for (int h = 0; h < 4; h++)
        heaps[h] = new_heap();
    for (unsigned i = 0; i < 400; i++) {
        struct heap *heap = heaps[i * 7 % 4];
        check(heap_enter(heap));
        blocks[i] = heap_take_one(heap, 9);
        heap_leave(heap);
    }
    send_home(heaps[0], 9, blocks, 400);
    check(live_blocks(9) == 0);
    check(atomic_get(&heaps[0]->stats.remote_frees, relaxed) == 300);
    for (int h = 1; h < 4; h++)
        check(inbox_holds(heaps[h], 9) == 100);
    for (int h = 0; h < 4; h++)
        drain(heaps[h], true);
    check(live_blocks(9) == 0);
    for (int h = 0; h < 4; h++)
        check(heaps[h]->bins[9].head == 0, "every run is EMPTY");
}

Test(exchange, an_inbox_is_emptied_by_the_sender_only_when_its_owner_is_not_inside) {
    start_arena(MIB(256));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    unsigned count = (unsigned)(2 * KIB(256) / KIB(16)); /* twice what an inbox may hold */
    unsigned class = sizeclass_of(KIB(16));
    check(heap_enter(home));
    for (unsigned i = 0; i < count; i++)
        blocks[i] = heap_take_one(home, class);
    send_home(away, class, blocks, count - 1);
    check(inbox_holds(home, class) == count - 1, "it was inside");
    heap_leave(home);
    send_home(away, class, blocks + count - 1, 1);
    check(inbox_holds(home, class) == 0);
    check(live_blocks(class) == 0);
}

/* So many bytes in blocks of `bytes` may wait for an idle heap. */
static void check_help(size_t bytes, size_t may_wait) {
    start_arena(MIB(256));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    unsigned class = sizeclass_of(bytes);
    unsigned count = (unsigned)(may_wait / bytes);
    for (unsigned i = 0; i < count; i++)
        blocks[i] = take_one(home, class);
    for (unsigned i = 0; i < count; i++) {
        check(inbox_holds(home, class) == i);
        send_home(away, class, blocks + i, 1);
    }
    check(inbox_holds(home, class) == 0 && live_blocks(class) == 0);
}

Test(exchange, an_owner_that_sends_packets_is_at_work) {
    start_arena(MIB(256));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    unsigned class = sizeclass_of(KIB(16));
    unsigned count = (unsigned)(MIB(4) / KIB(16));
    for (unsigned i = 0; i < count; i++)
        blocks[i] = take_one(home, class);
    for (unsigned i = 0; i < count; i++) {
        check(inbox_holds(home, class) == i);
        if (i % 8 == 0)
            send_home(home, 9, (void *[]){take_one(away, 9)}, 1);
        send_home(away, class, blocks + i, 1);
    }
    check(inbox_holds(home, class) == 0 && live_blocks(class) == 0, "4 MiB");
}

Test(exchange, for_an_idle_owner_256_KiB_may_wait) { check_help(KIB(16), KIB(256)); }
Test(exchange, or_512_in_blocks_above_16_KiB) { check_help(KIB(64), KIB(512)); }

/* Two heaps, a hundred blocks of the first, and no memory for a packet. */
static void use_metadata_up(struct heap *home, unsigned class) {
    check(heap_enter(home));
    for (unsigned i = 0; i < 100; i++)
        blocks[i] = heap_take_one(home, class);
    heap_leave(home);
    while (arena_take_metadata(64) != NULL) {
    }
}

Test(exchange, without_a_packet_the_blocks_that_could_not_be_sent_are_returned) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    use_metadata_up(home, 9);
    check(heap_enter(away));
    blocks[100] = heap_take_one(away, 9);
    check(heap_send_home(away, 9, blocks, 101) == 100, "all but its own");
    heap_leave(away);
    check(live_blocks(9) == 100 && inbox(home, 9) == NULL);
    for (unsigned i = 0; i < 100; i++) {
        check(slot_of_block(9, blocks[i]) != slot_of_block(9, blocks[100]));
        for (unsigned k = 0; k < i; k++)
            check(blocks[k] != blocks[i]);
    }
}

static void check_direct(unsigned class) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    use_metadata_up(home, class);
    for (unsigned i = 0; i < 99; i++)
        flush(away, class, blocks[i]);
    drain(away, true);
    check(live_blocks(class) == 1 && inbox(home, class) == NULL);
    const struct slot *slot = slot_of_block(class, blocks[99]);
    check(slot_free(slot) == slot->capacity - 1u);
    heap_free_borrowed(class, blocks[99]);
    check(live_blocks(class) == 0 && home->bins[class].empty != 0);
}

Test(exchange, without_a_packet_a_remote_free_goes_straight_into_the_bitmap) { check_direct(9); }
Test(exchange, so_does_one_of_a_group_of_classes) { check_direct(sizeclass_of(KIB(4))); }
Test(exchange, and_one_of_the_large_group) { check_direct(sizeclass_of(KIB(160))); }

struct meeting {
    pthread_barrier_t inside;
    struct heap *home, *away;
};

static void *hold_home(void *arg) {
    struct meeting *meeting = arg;
    bool was_free = false;
    bool entered = heap_enter(meeting->home);
    (void)pthread_barrier_wait(&meeting->inside);
    usleep(20000); /* the other one waits by now */
    for (int i = 0; i < 5000 && !was_free; i++, usleep(1000)) {
        was_free = heap_try_enter(meeting->away);
        if (was_free)
            heap_leave(meeting->away);
    }
    heap_leave(meeting->home);
    return entered && was_free ? meeting : NULL;
}

/* Else two threads that each wait for the other's heap would do so for ever. */
Test(exchange, who_waits_for_an_owner_is_outside_its_own_heap) {
    struct meeting meeting;
    pthread_t thread;
    void *done;
    start_arena(MIB(64));
    meeting.home = new_heap();
    meeting.away = new_heap();
    use_metadata_up(meeting.home, 9);
    check(pthread_barrier_init(&meeting.inside, NULL, 2) == 0);
    check(pthread_create(&thread, NULL, hold_home, &meeting) == 0);
    (void)pthread_barrier_wait(&meeting.inside);
    send_later(meeting.away, 9, blocks[0]);
    check(pthread_join(thread, &done) == 0 && done == &meeting);
    check(live_blocks(9) == 99 && heap_try_enter(meeting.away));
}

Test(exchange, what_is_gathered_of_two_owners_goes_to_each) {
    start_arena(MIB(64));
    struct heap *first = new_heap();
    struct heap *second = new_heap();
    struct heap *away = new_heap();
    void *of_first = fill(first, 9);
    void *of_second = fill(second, 9);
    send_later(away, 9, of_first);
    send_later(away, 9, of_second);
    check(gathered(away, 9) == 2);
    drain(away, true);
    check(inbox_holds(first, 9) == 1 && inbox(first, 9)->blocks[0] == of_first);
    check(inbox_holds(second, 9) == 1 && inbox(second, 9)->blocks[0] == of_second);
}

static struct heap *heaps_with_a_run_to_spare(unsigned class, unsigned count, unsigned taken) {
    start_arena(MIB(64));
    struct heap *spare = new_heap();
    while (heap_count() < count)
        (void)new_heap();
    unsigned run = sizeclass_table[class].capacity;
    check(heap_enter(spare));
    for (unsigned i = 0; i < run; i++)
        blocks[i] = heap_take_one(spare, class);
    check(heap_send_home(spare, class, blocks + taken, run - taken) == 0);
    heap_leave(spare);
    return spare;
}

/* Whether another of `count` heaps gets the run of which a first one has `taken` blocks out. */
static bool run_is_shared(size_t bytes, unsigned count, unsigned taken) {
    unsigned class = sizeclass_of(bytes);
    struct heap *spare = heaps_with_a_run_to_spare(class, count, taken);
    struct heap *other = heap_by_number(count - 1);
    struct slot *slot = slot_of_block(class, blocks[0]);
    check(heap_enter(other));
    void *block = heap_take_one(other, class);
    heap_leave(other);
    bool shared = slot_of_block(class, block) == slot;
    check(atomic_get(&slot->owner, relaxed) == (shared ? other : spare)->id);
    check(arena_owner_of_slot(slot_number(slot)) == (shared ? other : spare)->id);
    check((spare->bins[class].head == 0) == shared);
    if (shared) { /* what is live of it comes home to the new owner */
        flush(spare, class, blocks[0]);
        drain(spare, true);
        check(live_blocks(class) == taken && inbox_holds(other, class) == 1);
    }
    return shared;
}

Test(exchange, among_five_threads_a_run_that_is_half_free_goes_to_who_needs_it) {
    check(run_is_shared(KIB(4), 5, 8));
}
Test(exchange, among_four_threads_runs_stay) { check(!run_is_shared(KIB(4), 4, 8)); }
Test(exchange, a_run_that_is_mostly_out_stays) { check(!run_is_shared(KIB(4), 5, 9)); }
Test(exchange, a_run_of_small_blocks_stays) { check(!run_is_shared(128, 5, 1)); }

Test(exchange, a_large_block_of_another_heap_is_not_kept_until_there_are_more) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    unsigned class = sizeclass_of(KIB(160));
    send_later(away, class, take_one(home, class));
    check(inbox_holds(home, class) == 1);
    check(gathered(away, class) == 0 && live_blocks(class) == 0);
}

/* ---- classes whose blocks travel together ---- */

/* Of `heaps` heaps one gathers the blocks of another, of all classes from one to another, and the
 * packet is sent when `room` of them are there and one more comes. */
static void check_gathering(unsigned heaps, unsigned from, unsigned to, unsigned room) {
    start_arena(MIB(256));
    struct heap *home = new_heap();
    while (heap_count() < heaps)
        (void)new_heap();
    struct heap *away = heap_by_number(heaps - 1);
    size_t bytes = 0;
    for (unsigned i = 0; i < room + 1; i++) {
        unsigned class = from + i % (to - from + 1);
        check(gathered(away, class) == i && inbox(home, class) == NULL, "%u blocks", i);
        bytes += i < room ? sizeclass_bytes(class) : 0;
        send_later(away, class, take_one(home, class));
    }
    struct packet *packet = inbox(home, to);
    check(packet != NULL && packet->count == room && gathered(away, to) == 1);
    check(packet->group == packet_group(from) && packet_units(packet) * 16 == bytes);
    check(atomic_get(&home->inbox_bytes, relaxed) == bytes);
    drain(away, false);
    drain(home, true);
    for (unsigned class = from; class <= to; class ++)
        check(live_blocks(class) == 0 && inbox(home, class) == NULL, "class %u", class);
    check(atomic_get(&home->inbox_bytes, relaxed) == 0);
}

Test(exchange, blocks_of_1_to_16_KiB_are_sent_home_32_at_a_time) {
    check_gathering(2, sizeclass_of(KIB(1) + 1), sizeclass_of(KIB(16)), 32);
}
Test(exchange, among_many_threads_they_are_sent_16_at_a_time) {
    check_gathering(5, sizeclass_of(KIB(1) + 1), sizeclass_of(KIB(16)), 16);
}
Test(exchange, blocks_of_16_to_32_KiB_are_sent_home_8_at_a_time) {
    check_gathering(5, sizeclass_of(KIB(16) + 1), sizeclass_of(KIB(32)), 8);
}
Test(exchange, blocks_of_64_KiB_when_256_KiB_are_there) {
    check_gathering(5, sizeclass_of(KIB(64)), sizeclass_of(KIB(64)), 4);
}
Test(exchange, and_those_of_128_KiB) {
    check_gathering(5, sizeclass_of(KIB(128)), sizeclass_of(KIB(128)), 2);
}

/* A packet of `count` blocks of each of two classes in the inbox of the heap that owns them. */
static void send_mixed(struct heap *home, struct heap *away, const unsigned *classes,
                       unsigned count) {
    for (unsigned i = 0; i < 2 * count; i++)
        blocks[i] = take_one(home, classes[i % 2]);
    for (unsigned i = 0; i < 2 * count; i++)
        send_later(away, classes[i % 2], blocks[i]);
    drain(away, false);
    check(inbox_holds(home, classes[0]) == count && inbox_holds(home, classes[1]) == count);
}

Test(exchange, what_travelled_together_goes_to_the_magazines_of_each_class_and_the_rest_home) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    const unsigned classes[2] = {sizeclass_of(KIB(2)), sizeclass_of(KIB(16))};
    struct magazine *small = &home->magazines[classes[0]];
    struct magazine *large = &home->magazines[classes[1]];
    send_mixed(home, new_heap(), classes, 6);
    uint64_t runs = stage(home, 0) + stage(home, 1) + stage(home, 2) + stage(home, 3);
    void *block = fill(home, classes[1]);
    bool sent = false;
    for (unsigned i = 0; i < 12; i++)
        sent = sent || blocks[i] == block;
    check(sent, "one that came home");
    check(held(small) == small->cap && held(large) == large->cap - 1, "%zu and %zu", held(small),
          held(large));
    check(live_blocks(classes[0]) == 0 && live_blocks(classes[1]) == 1);
    check(stage(home, 0) + stage(home, 1) + stage(home, 2) + stage(home, 3) == runs);
    check(home->bins[packet_group(classes[0])].stash == NULL && home->stock.count == 1);
    struct slot *run = slot_of_block(classes[0], blocks[0]);
    check(slot_free(run) == run->capacity - small->cap, "two of six are in the bitmap");
}

Test(exchange, a_packet_is_opened_only_when_those_before_it_held_nothing_of_the_class) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    const unsigned first = sizeclass_of(KIB(2));
    const unsigned later = sizeclass_of(KIB(3));
    for (unsigned i = 0; i < 6; i++)
        blocks[i] = take_one(home, i < 2 ? first : later);
    for (unsigned i = 0; i < 6; i += 2) {
        send_later(away, i < 2 ? first : later, blocks[i]);
        send_later(away, i < 2 ? first : later, blocks[i + 1]);
        drain(away, false);
    }
    check(fill(home, first) == blocks[1] && held(&home->magazines[first]) == 1);
    check(held(&home->magazines[later]) == 0, "the first that was sent was opened first");
    check(packets_hold(later, home->bins[packet_group(later)].stash) == 4);
    check(fill(home, sizeclass_of(KIB(8))) != NULL);
    check(home->bins[packet_group(later)].stash == NULL, "nothing of it in any of them");
    check(held(&home->magazines[later]) == 4 && live_blocks(later) == 0);
}

/* Who holds a heap's lock without being its thread leaves the magazines alone. */
Test(exchange, without_a_heap_of_ones_own_what_travelled_together_goes_home) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    const unsigned classes[2] = {sizeclass_of(KIB(2)), sizeclass_of(KIB(16))};
    send_mixed(home, new_heap(), classes, 3);
    void *block = take_one(home, classes[1]);
    check(block != NULL && inbox(home, classes[1]) == NULL);
    check(held(&home->magazines[classes[0]]) == 0 && held(&home->magazines[classes[1]]) == 0);
    check(live_blocks(classes[0]) == 0 && live_blocks(classes[1]) == 1);
}

Test(exchange, a_magazine_stays_small_for_gathered_blocks_of_its_own_class_only) {
    start_arena(MIB(256));
    struct heap *heap = new_heap();
    const unsigned gathers = sizeclass_of(KIB(2));
    const unsigned other = sizeclass_of(KIB(3));
    send_later(heap, gathers, take_one(new_heap(), gathers));
    for (unsigned i = 0; i < 4; i++) {
        run_dry_and_spill(heap, gathers, 200);
        run_dry_and_spill(heap, other, 200);
    }
    check(gathered(heap, other) == 1);
    check(heap->magazines[gathers].cap * KIB(2) <= KIB(16));
    check(heap->magazines[other].cap * KIB(3) > KIB(16));
}

Test(exchange, a_heap_keeps_8_packets_to_send_next) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    struct heap *away = new_heap();
    unsigned class = 9;
    for (unsigned i = 0; i < 10 * PACKET_BLOCKS; i++)
        blocks[i] = take_one(home, class);
    send_home(away, class, blocks, 10 * PACKET_BLOCKS);
    struct packet *first = inbox(home, class);
    drain(home, true);
    check(home->stock.count == 8 && packet_take() != NULL);
    size_t used = atomic_get(arena_innards().metadata_used, relaxed);
    for (unsigned i = 0; i < 8; i++)
        send_later(home, class + i, take_one(away, class + i));
    check(home->stock.count == 0 && home->stock.first == NULL);
    check(atomic_get(arena_innards().metadata_used, relaxed) == used, "none is a new one");
    check(first != NULL && first->group == class);
}

/* A pointer of another class in a packet: something wrote to the metadata. */
Test(exchange, a_packet_with_a_block_of_no_class_of_its_group_is_reported, .signal = SIGABRT) {
    start_arena(MIB(64));
    struct heap *home = new_heap();
    const unsigned classes[2] = {sizeclass_of(KIB(2)), sizeclass_of(KIB(16))};
    send_mixed(home, new_heap(), classes, 3);
    inbox(home, classes[0])->blocks[4] = take_one(home, sizeclass_of(64));
    (void)fill(home, classes[0]);
}

/* ---- threads that work for themselves ---- */

/* Whether one of two heaps, after some runs and `packets`, claims the next run in the SuperSlab
 * that it took, and not the lowest slot that is resident. */
static bool next_run_is_at_home(uint16_t packets) {
    start_arena(MIB(64));
    unsigned class = sizeclass_of(KIB(4));
    struct heap *heap = new_heap();
    (void)new_heap();
    check(heap_enter(heap));
    unsigned count = 0;
    while (heap->bins[class].runs < 40 || heap->bins[class].head != 0)
        check((blocks[count++] = heap_take_one(heap, class)) != NULL);
    uint32_t home = slot_number(slot_of_block(class, blocks[count - 1])) / SUPERSLAB_SLOTS;
    check(home != 0 && heap->home == home);
    heap->bins[packet_group(class)].packets = packets;
    struct slot *kept = slot_of_block(class, blocks[0]);
    struct slot *low = slot_of_block(class, blocks[kept->capacity]);
    struct slot *high = slot_of_block(class, blocks[count - 2 * kept->capacity]);
    check(slot_number(low) < SUPERSLAB_SLOTS && slot_number(high) / SUPERSLAB_SLOTS == home);
    for (unsigned i = 0; i < count; i++) {
        struct slot *slot = slot_of_block(class, blocks[i]);
        if (slot == kept || slot == low || slot == high)
            check(heap_send_home(heap, class, &blocks[i], 1) == 0);
    }
    for (unsigned i = 0; i < kept->capacity; i++)
        check(slot_of_block(class, heap_take_one(heap, class)) == kept);
    struct slot *next = slot_of_block(class, heap_take_one(heap, class));
    heap_leave(heap);
    check(next == low || next == high);
    return next == high;
}

Test(exchange, a_thread_that_works_apart_claims_runs_at_home) { check(next_run_is_at_home(0)); }
Test(exchange, now_and_then_a_packet_does_not_count) { check(next_run_is_at_home(9)); }
Test(exchange, where_blocks_are_exchanged_runs_lie_densely) { check(!next_run_is_at_home(10)); }

/* How many EMPTY runs wait for their class after a heap has filled and emptied some. */
static uint32_t runs_that_wait(size_t bytes, uint16_t packets) {
    start_arena(MIB(64));
    unsigned class = sizeclass_of(bytes);
    struct heap *heap = new_heap();
    (void)new_heap();
    check(heap_enter(heap));
    unsigned count = 0;
    while (heap->bins[class].runs < 8 || heap->bins[class].head != 0)
        check((blocks[count++] = heap_take_one(heap, class)) != NULL);
    heap->bins[packet_group(class)].packets = packets;
    check(heap_send_home(heap, class, blocks, count) == 0);
    heap_leave(heap);
    return atomic_get(pool_innards(class).count, relaxed);
}

Test(exchange, runs_of_a_thread_that_works_apart_are_for_any_class) {
    check(runs_that_wait(KIB(8), 0) == 0);
}
Test(exchange, runs_of_others_wait_for_their_class) { check(runs_that_wait(KIB(8), 2) == 7); }
Test(exchange, runs_of_blocks_that_may_be_hardly_touched_wait_for_their_class) {
    check(runs_that_wait(KIB(20), 0) > 0);
}

/* What a drain by age forgets: the runs and packets by which works_apart judges. */
Test(exchange, whether_a_thread_works_apart_is_judged_anew_after_a_drain) {
    start_arena(MIB(64));
    struct heap *heap = new_heap();
    struct bin *bin = &heap->bins[9];
    bin->runs = 7;
    bin->packets = UINT16_MAX;
    check(heap_enter(heap));
    heap_drain(heap, DRAIN_IDLE);
    check(bin->runs == 7 && bin->packets == UINT16_MAX);
    heap_leave(heap);
    void *block = fill(new_heap(), 9);
    check(heap_enter(heap));
    heap_flush_away(heap, 9, block);
    heap_leave(heap);
    check(bin->packets == UINT16_MAX, "no more than that");
    drain(heap, false);
    check(bin->runs == 0 && bin->packets == 0);
}
