/* claims.c -- what is claimed by one atomic step: SuperSlabs, slots, cached large runs, orphans,
 * states, inboxes. In no schedule have two threads the same thing, and nothing is lost. */
#include "steps/steps.inc"

enum { CLASS = 20, MIXED_CLASS = 45, ALL = SUPERSLAB_SLOTS, LARGE_BYTES = 10 * 65536 };

static uint32_t got[THREADS_MAX]; /* each thread writes its own */
static bool flags[THREADS_MAX];
static uint32_t base; /* what setup() prepared */
static uint32_t kept; /* SuperSlabs that it holds */

/* Started once for the cases that share a process. */
static void start(size_t bytes) {
    if (arena_bytes() == 0)
        expect(arena_init(bytes) == 0, "the arena");
    memset(got, 0, sizeof got);
    memset(flags, 0, sizeof flags);
    kept = 0;
}

static uint32_t take_superslab(void) {
    int error;
    return superslab_take(1, SUPERSLAB_BYTES, &error);
}

static void soil_and_release(uint32_t superslab) {
    (void)superslab_soil(superslab * ALL, ALL);
    superslab_release(superslab * ALL, ALL, 1);
}

/* ---- SuperSlabs ---- */

static void one_warm(void) {
    start(MIB(64));
    (void)superslab_purge(10, 0);
    base = take_superslab();
    soil_and_release(base);
    expect(superslab_warm_count() == 1, "no warm SuperSlab to be taken");
}
static void take_it(void) { got[mine] = take_superslab(); }
static void take_and_release(void) {
    uint32_t superslab = take_superslab();
    expect(superslab != 0, "no SuperSlab");
    soil_and_release(superslab);
}
static void purge_all(void) { (void)superslab_purge(10, 0); }

static size_t committed_count(void) {
    size_t count = 0;
    for (size_t i = 0; i < arena.superslab_count; i++)
        count += superslab_is_committed(i);
    return count;
}

/* Everything but what is in hand is available, and the counts say so. */
static void check_superslabs(void) {
    uint32_t held = 1 + kept; /* SuperSlab 0, for the guard */
    for (unsigned t = 0; t < THREADS_MAX; t++) {
        for (unsigned u = 0; u < t; u++)
            expect(got[t] == 0 || got[t] != got[u], "two threads took one SuperSlab");
        held += got[t] != 0;
        expect(got[t] == 0 || !bitset_test(superslab_avail, got[t]), "what was taken is available");
    }
    expect(superslab_held() == held, "another number of SuperSlabs is held than was taken");
    uint32_t warm = 0;
    for (uint32_t i = 0; i < superslab_top(); i++)
        warm += bitset_test(superslab_warm, i);
    expect(superslab_warm_count() == warm, "the count of warm SuperSlabs is wrong");
    expect(superslab_committed_bytes() == committed_count() * SUPERSLAB_BYTES,
           "the count of committed bytes is wrong");
    for (unsigned t = 0; t < THREADS_MAX; t++)
        if (got[t] != 0)
            superslab_release(got[t] * ALL, ALL, 1);
    expect(superslab_held() == 1 + kept, "a SuperSlab is lost");
}
static void check_both_took(void) {
    expect(got[0] != 0 && got[1] != 0, "NULL although there was room");
    check_superslabs();
}

/* Of the first two, one may be told that there is nothing: it waits for the other, that is stopped
 * in the midst of making the range available, but not for ever (wait_for_given). */
static void check_one_took(void) {
    expect(got[0] != 0 || got[1] != 0, "NULL although there was room");
    check_superslabs();
}

static void begin_small(void) { start(MIB(16)); }
static void begin_large(void) { /* large enough that a commit is for more than what is taken */
    int error;
    start(MIB(4096));
    kept = 64;
    expect(superslab_take(kept, SUPERSLAB_BYTES, &error) != 0, "no SuperSlabs");
}

/* ---- slots of one SuperSlab ---- */

/* Four slots are UNUSED, the others held by nobody in particular. */
static void four_open(void) {
    start(MIB(64));
    base = take_superslab();
    superslab_release(base * ALL, 4, 1);
}
static void claim_four(void) { got[mine] = superslab_claim(base, 4, true); }
static void claim_two(void) { got[mine] = superslab_claim(base, 2, true); }
static void claim_mask(void) { flags[mine] = superslab_claim_mask(base, 0xf); }
static void release_middle(void) {
    superslab_release(base * ALL + 4, 12, 1);
    flags[mine] = true;
}
static void release_upper(void) {
    superslab_release(base * ALL + 16, 16, 1);
    flags[mine] = true;
}
static void purge_slots(void) { (void)superslab_purge(10, 0); }

/* What is held is told apart by who claimed it: give all of that back, and all must be there. */
static void check_claims(void) {
    struct superslab *ss = superslab_at(base);
    uint32_t theirs = 0;
    for (unsigned t = 0; t < THREADS_MAX; t++) {
        uint32_t mask = flags[t] ? 0xf : got[t] == 0 ? 0 : bits_below32(running->thread[t] == claim_two ? 2 : 4)
                                                             << (got[t] % ALL);
        expect((theirs & mask) == 0, "two threads claimed one slot");
        theirs |= mask;
    }
    uint32_t unused = atomic_get(&ss->unused, relaxed);
    expect((unused & theirs) == 0 && (unused | theirs) == 0xf, "a slot is lost, or there twice");
    expect(unused == 0 || bitset_test(superslab_open, base), "UNUSED slots are in no open SuperSlab");
    for (unsigned i = 0; i < ALL; i++)
        if ((unused >> i & 1) == 0)
            superslab_release(base * ALL + i, 1, 1);
    expect(superslab_held() == 1, "the SuperSlab is not available again");
}

static void check_released(void) {
    struct superslab *ss = superslab_at(base);
    if (!bitset_test(superslab_avail, base)) {
        uint32_t unused = atomic_get(&ss->unused, relaxed);
        uint32_t mine_now = got[0] == 0 ? 0 : UINT32_C(0xf) << (got[0] % ALL);
        expect((unused ^ mine_now) == UINT32_MAX, "slots are lost");
        expect(bitset_test(superslab_open, base), "UNUSED slots are in no open SuperSlab");
        expect(got[0] != 0, "all slots are UNUSED, and the SuperSlab is not available");
        superslab_release(got[0], 4, 1);
    } else {
        expect(got[0] == 0, "an available SuperSlab's slots were claimed");
    }
    expect(superslab_held() == 1 && bitset_test(superslab_avail, base), "the SuperSlab is lost");
}

/* ---- large blocks ---- */

static void *blocks[THREADS_MAX];

static void one_cached(void) {
    start(MIB(64));
    bool clean, cached;
    void *block = large_alloc(LARGE_BYTES, SLOT_BYTES, &clean, &cached);
    expect(block != NULL && large_free(arena_slot_of(block)), "a large block");
    expect(large_cached_bytes() > 0, "no cached run to be taken");
}
static void large_one(void) {
    bool clean, cached;
    blocks[mine] = large_alloc(LARGE_BYTES, SLOT_BYTES, &clean, &cached);
    expect(blocks[mine] != NULL, "no large block");
    memset(blocks[mine], (int)mine + 1, 64);
}
static void large_and_back(void) {
    large_one();
    expect(large_free(arena_slot_of(blocks[mine])), "a block in hand is not live");
    blocks[mine] = NULL;
}
static void cache_decays(void) { large_decay(10, 0); }
static void check_large(void) {
    size_t count = 0;
    for (unsigned t = 0; t < THREADS_MAX; t++) {
        for (unsigned u = 0; u < t; u++)
            expect(blocks[t] == NULL || blocks[t] != blocks[u], "two threads have one large block");
        count += blocks[t] != NULL;
        expect(blocks[t] == NULL || *(unsigned char *)blocks[t] == t + 1, "contents");
    }
    expect(large_blocks() == count, "the count of large blocks is wrong");
    for (unsigned t = 0; t < THREADS_MAX; t++) {
        expect(blocks[t] == NULL || large_free(arena_slot_of(blocks[t])), "not live");
        blocks[t] = NULL;
    }
    large_decay(10, 0);
    expect(large_cached_bytes() == 0 && superslab_held() <= 2, "a large run is lost");
    uint32_t unused = atomic_get(&superslab_at(0)->unused, relaxed);
    expect(unused == ~UINT32_C(1), "slots of the first SuperSlab are lost");
}
static void one_live(void) {
    one_cached();
    bool clean, cached;
    base = arena_slot_of(large_alloc(LARGE_BYTES, SLOT_BYTES, &clean, &cached));
}
static void free_it(void) { flags[mine] = large_free(base); }
static void check_freed_once(void) {
    expect(flags[0] != flags[1], "two frees of one block both did it, or neither");
    check_large();
}

/* ---- heaps ---- */

static struct heap *heaps[THREADS_MAX];
static void *out[200];
static unsigned class = CLASS;

static void one_orphan(void) {
    start(MIB(64));
    heaps[2] = heap_acquire();
    expect(heaps[2] != NULL, "no heap");
    heap_abandon(heaps[2]);
    expect(heap_orphans() == 1, "no orphan to be adopted");
}
static void acquire(void) { heaps[mine] = heap_acquire(); }
static void check_heaps(void) {
    expect(heaps[0] != NULL && heaps[1] != NULL && heaps[0] != heaps[1], "two threads adopted one heap");
    expect(heap_orphans() == 0, "the orphan was not adopted");
    heap_abandon(heaps[0]);
    heap_abandon(heaps[1]);
    expect(heap_orphans() == heap_count(), "an orphan is lost");
    while (heap_orphans() > 0) /* leave only one */
        expect(heap_acquire() != NULL, "no heap");
}

/* One thread adopts the orphan, or makes a heap; another empties it meanwhile. */
static void stocked_orphan(void) {
    one_orphan();
    heaps[2] = heap_acquire();
    expect(heap_enter(heaps[2]) && heap_fill(heaps[2], class) != NULL, "no block");
    heap_leave(heaps[2]);
    heap_abandon(heaps[2]);
    heaps[1] = NULL;
}
static void drain_it(void) { heap_drain_orphan(heaps[2]); }
static void check_adopted(void) {
    expect(heaps[0] != NULL && heap_orphans() == (heaps[0] != heaps[2]), "an orphan is lost, or adopted twice");
    expect(atomic_get(&heaps[2]->state, relaxed) == (heaps[0] == heaps[2] ? HEAP_OWNED : HEAP_ORPHAN), "state");
    while (heap_orphans() > 0)
        expect(heap_acquire() != NULL, "no heap");
}

static void *fill(struct heap *heap) {
    expect(heap_enter(heap), "the lock");
    void *block = heap_fill(heap, class);
    heap_leave(heap);
    expect(block != NULL, "no block");
    return block;
}
static void send_home(struct heap *heap, void **from, unsigned count) {
    expect(heap_enter(heap), "the lock");
    expect(heap_send_home(heap, class, from, count) == 0, "no packet");
    heap_leave(heap);
}

/* The first heap's blocks are out; the other two send some of them home while it fills. */
static void three_heaps(void) {
    start(MIB(64));
    for (unsigned t = 0; t < THREADS_MAX; t++)
        heaps[t] = heap_acquire();
    struct magazine *m = &heaps[0]->magazines[class];
    base = 0;
    for (unsigned i = 0; i < 40; i++)
        out[i] = fill(heaps[0]);
    while (atomic_get(&m->top, relaxed) != m->base)
        out[40 + base++] = fill(heaps[0]);
}
/* What is sent is of a class that others travel with, and is opened into a magazine. */
static void three_heaps_mixed(void) {
    class = MIXED_CLASS;
    three_heaps();
}
static void owner_fills(void) {
    out[100] = fill(heaps[0]);
    out[101] = fill(heaps[0]);
}
static void first_sends(void) { send_home(heaps[1], out, 10); }
static void second_sends(void) { send_home(heaps[2], out + 10, 10); }
static void owner_collects(void) {
    expect(heap_enter(heaps[0]), "the lock");
    heap_collect(heaps[0]);
    heap_leave(heaps[0]);
}
static void check_blocks(void) {
    unsigned sent = running->thread[2] != NULL ? 20 : running->thread[1] == first_sends ? 10 : 0;
    size_t live = 40 + base - sent + (out[100] != NULL ? 2 : 0);
    struct hkm_stats stats = {.struct_bytes = sizeof stats};
    expect(hkm_stats_get(&stats) == 0 && stats.small_blocks_live == live, "a block of a packet is lost");
    expect(out[100] == NULL || out[100] != out[101], "a block is there twice");
    for (unsigned i = sent; i < 102; i++)
        for (unsigned k = sent; k < i; k++)
            expect(out[i] == NULL || out[i] != out[k], "a block that is out was handed out");
}

/* ---- handlers ---- */

/* Two threads, each with a heap that the other looks into, allocate in signal handlers amid that. */
static void two_owners(void) {
    options.purge_delay_ms = 0;
    if (heaps[0] != NULL)
        return;
    start(MIB(64));
    hkm_free(hkm_malloc(1)); /* the allocator is ready, and this thread has a heap, too */
    for (unsigned t = 0; t < 2; t++)
        expect((heaps[t] = heap_acquire()) != NULL, "no heap");
}
static void tidy(void) {
    heap_mine = heaps[mine];
    heap_mine->drain_ms = os_clock_ms(); /* only a round, which is always due */
    decay_tick(heap_mine);
    expect(heap_mine == heaps[mine], "the heap is lost");
    heap_mine = &heap_gone;
}
static void look(void) {
    struct hkm_stats stats = {.struct_bytes = sizeof stats};
    heap_mine = heaps[mine];
    expect(hkm_stats_get(&stats) == 0, "no statistics");
    expect(heap_mine == heaps[mine], "the heap is lost");
    heap_mine = &heap_gone;
}
/* Of another class each time: its magazine is empty. */
static void allocates(void) {
    static _Atomic(unsigned) times;
    SET(times, GET(times) + 1);
    void *block = hkm_malloc(sizeclass_bytes(1 + GET(times) % (CLASS_COUNT - 1)));
    expect(block != NULL, "no block in a handler");
    hkm_free(block);
}
/* Each frees what is the other's, while there is no memory for a packet: the owner has to let go. */
static void two_owners_in_need(void) {
    two_owners();
    for (unsigned t = 0; t < 2; t++) {
        heap_mine = heaps[t];
        out[t] = hkm_malloc(sizeclass_bytes(CLASS));
        out[2 + t] = hkm_malloc(sizeclass_bytes(CLASS));
        expect(out[t] != NULL && out[2 + t] != NULL, "a block");
    }
    heap_mine = &heap_gone;
    while (packet_take() != NULL)
        continue;
}
static void slow_path(void) { /* of any kind */
    struct heap *heap = heap_mine = heaps[mine];
    expect(heap_enter_own(heap), "its own lock");
    heap_leave_own(heap);
    expect(heap_mine == heap, "the heap is lost");
    heap_mine = &heap_gone;
}
static void frees_the_others(void) { hkm_free(out[mine == 0 ? 1 : 0]); }
/* Who waits for what the other's handler interrupted gives its block up, as does one whose own
 * thread has the lock; what nobody freed stays. */
static void check_in_need(void) {
    struct hkm_stats stats = {.struct_bytes = sizeof stats};
    for (unsigned t = 0; t < 2; t++)
        expect(heap_enter_within(heaps[t], 1), "a lock is held still");
    for (unsigned t = 0; t < 2; t++)
        heap_leave(heaps[t]);
    expect(hkm_stats_get(&stats) == 0 && stats.small_blocks_live >= 2 && stats.small_blocks_live <= 4,
           "a block that nobody freed is gone");
}
static void check_owners(void) {
    struct hkm_stats stats = {.struct_bytes = sizeof stats};
    for (unsigned t = 0; t < 2; t++) {
        expect(heap_enter(heaps[t]), "a lock is held still");
        heap_drain(heaps[t], DRAIN_ALL);
        heap_leave(heaps[t]);
    }
    expect(hkm_stats_get(&stats) == 0 && stats.small_blocks_live == 0, "a handler's block is lost");
}

static const struct steps_case cases[] = {
    {"two_take_the_first", 3, 2, begin_small, {take_it, take_it}, check_one_took, true},
    {"two_commit_ahead", 2, 2, begin_large, {take_it, take_it}, check_both_took, true},
    {"handlers_in_need", 2, 2, two_owners_in_need, {slow_path, slow_path}, check_in_need, true,
     frees_the_others},
    {"two_adopt_one_orphan", 3, 2, one_orphan, {acquire, acquire}, check_heaps, true},
    {"adopt_against_drain", 3, 2, stocked_orphan, {acquire, drain_it}, check_adopted, true},
    {"inbox_against_fill", 3, 2, three_heaps, {owner_fills, first_sends}, check_blocks, true},
    {"mixed_inbox_against_fill", 3, 2, three_heaps_mixed, {owner_fills, first_sends}, check_blocks, true},
    {"two_in_one_heap", 2, 2, three_heaps, {owner_fills, owner_collects}, check_blocks, true},
    {"inbox_against_collect", 2, 3, three_heaps, {owner_collects, first_sends, second_sends}, check_blocks, true},
    {"two_take_one_warm", 4, 2, one_warm, {take_it, take_it}, check_both_took, false},
    {"take_against_release", 4, 2, one_warm, {take_it, take_and_release}, check_superslabs, false},
    {"purge_against_take", 4, 2, one_warm, {purge_all, take_it}, check_superslabs, false},
    {"two_claim_four_slots", 4, 2, four_open, {claim_four, claim_two}, check_claims, false},
    {"claim_against_mask", 4, 2, four_open, {claim_two, claim_mask}, check_claims, false},
    {"purge_against_claim", 4, 2, four_open, {claim_two, purge_slots}, check_claims, false},
    {"three_claim_slots", 3, 3, four_open, {claim_two, claim_mask, claim_two}, check_claims, false},
    {"release_against_claim", 3, 3, four_open, {claim_four, release_middle, release_upper}, check_released, false},
    {"two_take_one_cached", 4, 2, one_cached, {large_one, large_one}, check_large, false},
    {"cached_taken_and_put", 3, 2, one_cached, {large_and_back, large_one}, check_large, false},
    {"cache_decays_against_take", 3, 2, one_cached, {cache_decays, large_and_back}, check_large, false},
    {"two_free_one_block", 4, 2, one_live, {free_it, free_it}, check_freed_once, false},
    {"handlers_amid_tidying", 2, 2, two_owners, {tidy, tidy}, check_owners, false, allocates},
    {"handlers_amid_statistics", 2, 2, two_owners, {look, look}, check_owners, false, allocates},
    {"handlers_amid_both", 2, 2, two_owners, {tidy, look}, check_owners, false, allocates},
};

int main(int argc, char **argv) {
    return steps_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
