/* lists.c -- the lock-free stacks, the pool's EMPTY runs (P1) and the packets: in no schedule is
 * anything taken twice, lost, or seen before it was written. */
#include "steps/steps.inc"

enum { CLASS = 5, OTHER = 6, HELD_MAX = 8, OWNER = 7 };

/* What each thread has in its hands, by thread: no two write the same one. */
static struct hands {
    struct slot *runs[HELD_MAX];
    struct packet *packets[HELD_MAX];
    unsigned run_count, packet_count;
} hands[THREADS_MAX + 1];

static struct hands *my_hands(void) { return &hands[mine]; }

/* ---- runs ---- */

static void take_run(void) {
    static uint32_t homes[THREADS_MAX + 1];
    uint32_t *home = &homes[mine];
    unsigned stage;
    struct slot *slot = pool_take(CLASS, OWNER, home, false, &stage);
    if (slot == NULL)
        slot = pool_take_new(CLASS, OWNER, home);
    expect(slot != NULL && slot->class == CLASS, "no run");
    expect(slot_free(slot) == slot->capacity, "a run that was taken is not EMPTY");
    /* As its owner does: counts, links and bits are his alone. All blocks but one, because a run
     * that was full once does not go to the stack. */
    static void *out[THREADS_MAX + 1][SLOT_BLOCKS_MAX];
    unsigned want = slot->capacity - 1u;
    unsigned got = slot_take(slot, out[mine] + want, want);
    expect(got == want, "a run that was taken has other blocks than it says");
    for (unsigned i = 0; i < got;)
        i += slot_put(slot, CLASS, out[mine] + i, got - i);
    my_hands()->runs[my_hands()->run_count++] = slot;
}

static void give_run(void) { /* the one that was taken first */
    struct hands *h = my_hands();
    struct slot *slot = h->runs[0];
    h->run_count--;
    memmove(h->runs, h->runs + 1, h->run_count * sizeof h->runs[0]);
    slot->empty_ms = 0;
    expect(slot_change(slot_number(slot), SLOT_ACTIVE, SLOT_EMPTY), "a run in hand is not ACTIVE");
    pool_give(slot, false);
}

static void take_one(void) { take_run(); }
static void take_two_give_one(void) {
    take_run();
    take_run();
    give_run();
}
static void take_and_give(void) {
    take_run();
    give_run();
}
static void give_both(void) {
    give_run();
    give_run();
}
static void decay(void) { pool_decay(10, 5); }

static void three_in_the_pool(void) {
    for (int i = 0; i < 3; i++)
        take_run();
    for (int i = 0; i < 3; i++)
        give_run();
    expect(atomic_get(pool_innards(CLASS).count, relaxed) == 3, "runs do not go to the stack");
}
static void none_in_the_pool(void) { pool_decay(10, 0); }
static void two_in_each_hand(void) {
    none_in_the_pool();
    for (unsigned t = 0; t < 2; t++) {
        take_run();
        take_run();
        memcpy(hands[t].runs, my_hands()->runs, sizeof hands[t].runs);
        hands[t].run_count = my_hands()->run_count;
        my_hands()->run_count = 0;
    }
}

/* Everything in somebody's hands or in the pool, each once. */
static void check_runs(void) {
    struct pool_innards pool = pool_innards(CLASS);
    uint32_t count = atomic_get(pool.count, relaxed);
    uint32_t found = 0;
    static bool seen[1024];
    memset(seen, 0, sizeof seen);
    for (unsigned t = 0; t < THREADS_MAX + 1; t++)
        for (unsigned i = 0; i < hands[t].run_count; i++) {
            uint32_t number = slot_number(hands[t].runs[i]);
            expect(!seen[number] && slot_state(number) == SLOT_ACTIVE, "a run is in two hands");
            seen[number] = true;
        }
    uint32_t number = (uint32_t)atomic_get(pool.head, relaxed);
    for (; number != 0; number = atomic_get(&slot_at(number)->stack_next, relaxed), found++) {
        expect(!seen[number] && slot_state(number) == SLOT_EMPTY, "P1 a run that is not EMPTY is on the stack");
        seen[number] = true;
    }
    expect(found == count, "the stack holds another number of runs than its count says");
    for (uint32_t s = 1; s < superslab_top() * SUPERSLAB_SLOTS; s++)
        expect(seen[s] == (arena_class_of_slot(s) == CLASS), "a run is lost");
    for (unsigned t = 0; t < THREADS_MAX + 1; t++)
        for (; hands[t].run_count > 0; hands[t].run_count--) {
            struct slot *slot = hands[t].runs[hands[t].run_count - 1];
            expect(slot_change(slot_number(slot), SLOT_ACTIVE, SLOT_EMPTY), "a run in hand is ACTIVE");
            slot->empty_ms = 0;
            pool_give(slot, false);
        }
    pool_decay(10, 0);
    expect(atomic_get(pool.count, relaxed) == 0, "the pool is empty");
    (void)superslab_purge(10, 0);
}

/* ---- packets ---- */

static void take_packet(void) {
    struct packet *packet = packet_take();
    expect(packet != NULL && packet->count == 0, "no packet");
    packet->group = (uint16_t)(100 + mine);
    packet->blocks[PACKET_BLOCKS - 1] = packet;
    my_hands()->packets[my_hands()->packet_count++] = packet;
}

static void give_packet(void) {
    struct hands *h = my_hands();
    struct packet *packet = h->packets[0];
    h->packet_count--;
    memmove(h->packets, h->packets + 1, h->packet_count * sizeof h->packets[0]);
    expect(packet->group == 100 + mine && packet->count == 0, "somebody else wrote to a packet");
    packet_give(packet);
}

static void packet_one(void) { take_packet(); }
static void packets_two_give_one(void) {
    take_packet();
    take_packet();
    give_packet();
}
static void packet_and_back(void) {
    take_packet();
    give_packet();
}
static void three_packets(void) {
    for (int i = 0; i < 3; i++)
        take_packet();
    for (int i = 0; i < 3; i++)
        give_packet();
}

/* Takes all there are, and gives three of them to the list again by the next setup. */
static void check_packets(void) {
    struct packet *all[THREADS_MAX * HELD_MAX + 16];
    unsigned count = 0;
    for (unsigned t = 0; t < THREADS_MAX; t++) {
        for (unsigned i = 0; i < hands[t].packet_count; i++) {
            all[count++] = hands[t].packets[i];
            expect(hands[t].packets[i]->group == 100 + t, "a packet is in two hands");
        }
        hands[t].packet_count = 0;
    }
    size_t bytes = arena_metadata_bytes();
    for (int i = 0; i < 3; i++)
        all[count++] = packet_take();
    expect(arena_metadata_bytes() == bytes, "metadata");
    for (unsigned i = 0; i < count; i++)
        for (unsigned j = 0; j < i; j++)
            expect(all[i] != all[j], "a packet that is in somebody's hands is on the list");
    for (unsigned i = 0; i < count; i++)
        packet_give(all[i]);
}

static const struct steps_case cases[] = {
    {"take_against_take_take_give", 4, 2, three_in_the_pool, {take_one, take_two_give_one}, check_runs, false},
    {"take_and_give_twice", 4, 2, three_in_the_pool, {take_and_give, take_and_give}, check_runs, false},
    {"give_against_give", 4, 2, two_in_each_hand, {give_both, give_both}, check_runs, false},
    {"carve_and_give_against_take", 4, 2, none_in_the_pool, {take_and_give, take_one}, check_runs, false},
    {"decay_against_take_and_give", 3, 2, three_in_the_pool, {decay, take_two_give_one}, check_runs, false},
    {"three_that_take", 2, 3, three_in_the_pool, {take_one, take_and_give, take_one}, check_runs, false},
    {"packet_take_against_take_take_give", 4, 2, three_packets, {packet_one, packets_two_give_one}, check_packets, false},
    {"packets_taken_and_given", 4, 2, three_packets, {packet_and_back, packet_and_back}, check_packets, false},
};

int main(int argc, char **argv) {
    expect(arena_init(MIB(16)) == 0, "the arena");
    return steps_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
