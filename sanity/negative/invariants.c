/* invariants.c -- each invariant of the registry, broken on purpose. */
#include "negative.inc"

/* ---- arena, size classes ---- */

static void a1(void) { *arena_innards().chunks_committed &= ~UINT64_C(1); }
static void a2(void) { set_entry(unused_slot(true), 5); }
static void a3(void) { *live_of(wide[3] + 4096) = 0x80; }
static void a4(void) {
    REQUIRE(mprotect(arena_slot_start(available() * 32), 4096, PROT_NONE) == 0);
}
static void a5(void) { *live_of(small[7]) ^= 1; }
static void a6(void) { *arena_live_byte(20, arena_slot_start(unused_slot(true))) = 1; }
static void a7(void) { arena.last++; }
static void a8(void) { arena.slot_count++; }
static void a9(void) { arena.superslab_count++; }
static void a10(void) { arena.live[5] ^= 1; }
static void a11(void) { *arena_innards().metadata_used = arena_innards().metadata_bytes + 64; }
static void a12(void) { set_entry(0, 1); }
static void a12_unused(void) { superslab_at(0)->unused |= 1; }
static void a13(void) { *arena_class_entry(slot_number(full_run())) |= 1; }
static void a14(void) { *arena_live_byte(20, large + 4096) = 0x80; }
static struct sizeclass *row(unsigned class) { return writable(&sizeclass_table[class]); }
static void c1(void) { row(20)->bytes = sizeclass_table[21].bytes; }
static void c2(void) { row(20)->bytes += 8; }
static void c3(void) { row(20)->inverse -= row(20)->inverse / 8; }
static void c4(void) { row(20)->live_shift = 12; }
static void c5(void) { ((uint16_t *)writable(sizeclass_fast))[5] += 1 << MAGAZINE_SHIFT; }
static void c6(void) { row(20)->run_slots = 3; }
static void c6_capacity(void) { row(20)->capacity++; }

/* ---- SuperSlabs ---- */

static void u1(void) { superslab_at(available())->unused |= 4; }
static void u2(void) { arena_slot_start(unused_slot(false))[5000] = 1; }
static void u3(void) { slot_head(unused_slot(true))->state = SLOT_ACTIVE; }
static void u3_released_twice(void) { superslab_release(unused_slot(true), 1, 0); }
static void u4(void) { ADD(&superslab_innards().idle_dirty[1].slots, 1); }
static void u5(void) { bitset_give(superslab_warm, slot_number(full_run()) / 32); }
static void u6(void) {
    (void)hkm_purge();
    superslab_at(available())->dirty |= 1;
}
static void u7(void) { (void)bitset_claim(superslab_open, unused_slot(true) / 32); }
static void u8(void) { bitset_give(superslab_open, available()); }
static void u9(void) { (void)bitset_claim(superslab_avail, superslab_top() + 3); }
static void u10(void) { *superslab_innards().top = *superslab_innards().known + 1; }
static void u11(void) { *superslab_innards().first_avail = superslab_top() + 5; }
static void u12(void) { superslab_of(slot_number(full_run()))->dirty &= ~slot_bit(slot_number(full_run())); }
static void u13(void) { (void)bitset_claim(superslab_innards().committed, slot_number(full_run()) / 32); }
static void u14(void) { set_entry(available() * 32 + 7, 5); }
static void u15(void) { set_entry(large_slot(), 0); }

/* ---- runs ---- */

static void s1(void) { counter_add(&run_of(small[5])->free_count, 1); }
static void s2(void) {
    struct bin *bin = &mine->bins[class_of(small[5])];
    REQUIRE(bin->head != 0 && bin->head == bin->tail);
    bin->head = bin->tail = 0;
}
static void s3(void) {
    stacked()->bits[0] &= ~UINT64_C(2);
    counter_add(&stacked()->free_count, (uint16_t)-1);
}
static void s4(void) { run_of(small[5])->bits[slot_words(run_of(small[5])) - 1] |= UINT64_C(1) << 63; }
static void s4_first(void) { run_of(small[5])->first = (uint16_t)slot_words(run_of(small[5])); }
static char *free_block(void) {
    struct slot *slot = run_of(small[5]);
    for (unsigned i = 0; i < slot->capacity; i++) {
        if ((slot->bits[i / 64] >> i % 64 & 1) != 0)
            return slot->start + i * sizeclass_bytes(slot->class);
    }
    REQUIRE(!"a free block");
    return NULL;
}
static void s5_live(void) { *live_of(free_block()) = arena_live_mark(free_block()); }
static void s5_cached(void) {
    struct slot *slot = run_of(small[5]);
    unsigned i = sizeclass_index(slot->class, (size_t)(small[2] - slot->start));
    slot->bits[i / 64] |= bitset_bit(i);
    slot->first = 0;
    counter_add(&slot->free_count, 1);
}
static void s6(void) { full_run()->class++; }
static void s7(void) { slot_head(slot_number(full_run()))->state = SLOT_LARGE; }
static void s8(void) { full_run()->capacity--; }
static void s9(void) { full_run()->start += 16; }
static void s10(void) { full_run()->bits++; }
static void s11(void) { slot_head(slot_number(full_run()))->run_slots++; }
static void s12(void) { slot_own(full_run(), 77); }
static void s13(void) { set_entry(slot_number(full_run()) + 1, 5); }
static void take_hold(uint32_t slot) {
    superslab_of(slot)->dirty &= ~slot_bit(slot);
    superslab_of(slot)->unused |= slot_bit(slot);
    bitset_give(superslab_open, slot / 32);
}
static void s14(void) { take_hold(slot_number(full_run()) + 1); }
static void s15(void) { slot_head(slot_number(full_run()) + 1)->state = SLOT_ACTIVE; }
static void s16(void) {
    slot_head(large_slot())->state = SLOT_CACHED;
    (void)slot_change(large_slot(), SLOT_CACHED, SLOT_UNUSED);
}
static void s17(void) { run_of(small[5])->prev = slot_number(run_of(small[5])); }
static void s17_tail(void) { mine->bins[class_of(small[5])].tail = 0; }
static void s18(void) { slot_own(run_of(small[5]), 77); }
static void s19(void) { slot_head(slot_number(run_of(small[5])))->state = SLOT_EMPTY; }
static void s20(void) { run_of(small[5])->class++; }
static void s21(void) { atomic_put(&run_of(small[5])->free_count, 0, relaxed); }
static void s22(void) {
    struct slot *slot = full_run();
    set_entry(slot_number(slot), CLASS_COUNT - 1); /* 256 KiB: the longest runs */
    REQUIRE(slot_number(slot) % sizeclass_table[CLASS_COUNT - 1].run_slots != 0);
}
static void s23(void) { *arena_class_entry(slot_number(full_run())) += 1u << CLASS_ENTRY_OWNER_SHIFT; }
static void s24(void) {
    struct slot_shadow *shadow = shadow_of_slot(slot_number(full_run()));
    shadow->last[(shadow->moves - 1) % SHADOW_MOVES].to = SLOT_EMPTY;
}

/* ---- stage 1 ---- */

static void p1(void) { slot_own(stacked(), mine->id); }
static void p2(void) { *pool_innards(stacked_class()).count = 1000; }
static void p3(void) { ADD(pool_innards(stacked_class()).count, 1); }
static void p4(void) { stacked()->stack_next = 0x7ffffffe; }
static void p5(void) {
    unsigned class = stacked_class();
    *pool_innards(class).head = 0;
    *pool_innards(class).count = 0;
}

/* ---- heaps ---- */

static void h1(void) {
    struct magazine *m = magazine_of(small[5]);
    atomic_put(&m->top, atomic_get(&m->top, relaxed) + m->cap, relaxed);
}
static void h2(void) {
    struct magazine *m = magazine_of(small[5]);
    unsigned class = class_of(small[5]);
    slot_own(run_of(small[5]), 77);
    atomic_put(&m->top, m->base, relaxed);
    REQUIRE(heap_enter_own(mine));
    (void)heap_fill(mine, class);
    heap_leave_own(mine);
}
static void h3(void) {
    struct bin *bin = &mine->bins[class_of(small[5])];
    bin->empty = bin->head;
}
static void h4(void) { magazine_of(small[5])->floor = magazine_of(small[5])->base + 1; }
static void h4_limit(void) { magazine_of(small[5])->limit = magazine_of(small[5])->base; }
static void h5(void) { magazine_of(small[5])->cap = 0; }
static void h6(void) { magazine_of(small[5])->live = arena.live[4]; }
static void h7(void) { magazine_of(small[5])->hot = wide[5]; }
static void h8(void) { magazine_of(small[5])->hot = small[0] + 16; }
static void h9(void) {
    struct magazine *m = magazine_of(small[5]);
    REQUIRE(m->top - m->base >= 2);
    m->base[0] = m->hot;
}
static void h10(void) { magazine_of(small[5])->room = 1u << 30; }
static void h11(void) { mine->arena_bytes--; }
static void h12(void) { mine->number++; }
static void h13(void) { mine->state = 9; }
static void h14(void) { bitset_give(heap_innards().orphans, mine->number); }
static void h15(void) { heap_none.magazines[3].limit = (void **)8; }
static void h16(void) { packet_waiting()->group++; }
static void h17(void) { packet_waiting()->count = 0; }
static void h18(void) { packet_waiting()->next = (struct packet *)8; }
static void h19(void) {
    struct packet *packet = packet_waiting();
    packet->next = packet;
}
static void h20(void) { mine->away[packet_group(class_of(small[5]))].count = 63; }
static void h21(void) { mine->stock.count++; }
static void f1(void) { *live_of(magazine_of(small[5])->hot) = arena_live_mark(magazine_of(small[5])->hot); }
static void f2(void) { magazine_of(small[5])->hot = NULL; }

/* ---- large blocks ---- */

static void l1(void) { set_entry(large_slot() + 3, 0); }
static void l1_tail(void) { set_entry(large_slot(), CLASS_LARGE_TAIL); }
static void l2(void) { slot_head(large_slot())->large_bytes++; }
static void l3(void) {
    uint64_t run = *cache_entry();
    *cache_entry() = 0;
    (void)atomic_sub(large_innards(0).cached_bytes, (run & UINT32_MAX) * SLOT_BYTES, relaxed);
}
static void l4(void) { slot_head(large_slot())->state = SLOT_ACTIVE; }
static void l5(void) { slot_head(large_slot())->run_slots = 0; }
static void l6(void) { take_hold(large_slot() + 2); }
static void l7(void) { superslab_of(large_slot() + 2)->dirty &= ~slot_bit(large_slot() + 2); }
static void l8(void) { *cache_entry() = (uint64_t)large_slot() << 32 | 49; }
static void l9(void) { *cache_entry() += 1; }
static void l10(void) {
    for (unsigned i = 0; large_innards(i).run != NULL; i++) {
        if (atomic_get(large_innards(i).run, relaxed) == 0) {
            atomic_put(large_innards(i).run, atomic_get(cache_entry(), relaxed), relaxed);
            return;
        }
    }
}

/* ---- counters ---- */

static void n1(void) { ADD(superslab_innards().committed_bytes, 4096); }
static void n2(void) { ADD(superslab_innards().warm_count, 1); }
static void n3(void) { ADD(heap_innards().orphan_count, 1); }
static void n4(void) { ADD(heap_innards().heaps_used, 1); }
static void n5(void) { ADD(&mine->inbox_bytes, 16); }
static void n6(void) { ADD(large_innards(0).live_blocks, 1); }
static void n7(void) { ADD(large_innards(0).live_bytes, 4096); }
static void n8(void) { ADD(large_innards(0).cached_bytes, 4096); }
static void n9(void) {
    struct magazine *m = magazine_of(small[5]);
    REQUIRE(m->top - m->base >= 2);
    m->hot = m->top[-2];
    m->top--;
}
static void n10(void) { ADD(&mine->stats.remote_packets, 5); }

/* ---- blocks ---- */

static void b1(void) {
    hkm_free(small[5]);
    hkm_free(hide(small[5]));
}
static void b2(void) { hkm_free(hide(small[5] + 16)); }
static void b3(void) { hkm_free(hide(arena_slot_start(unused_slot(true)))); }
static void b4(void) { hkm_free(hide(&options)); }
static void b5(void) { hkm_free_sized(small[5], SMALL_BYTES - 1); }
static void b6(void) { hkm_free_aligned_sized(hkm_aligned_alloc(256, 100), 64, 100); }
static void b7(void) {
    hkm_free(small[5]);
    small[6] = hkm_realloc(hide(small[5]), 50);
}
static void b7_usable(void) {
    hkm_free(small[5]);
    (void)hkm_malloc_usable_size(hide(small[5]));
}
static void b8(void) { small[5][SMALL_BYTES] = 0; }
static void b8_at_free(void) {
    small[5][SMALL_BYTES] = 0;
    hkm_free(small[5]);
}
static void b8_large(void) {
    large[MIB(3)] = 0;
    hkm_free(large);
}
/* A block whose predecessor was never allocated, or dead: else it is the predecessor's redzone. */
static void b9(void) {
    char *at = run_of(wide[0])->start;
    REQUIRE((uintptr_t)at % SLOT_BYTES >= 16 || arena_slot_of(at) > 0);
    small[5][-1] = 0;
    hkm_free(small[5]);
}
static void b10(void) {
    hkm_free(small[5]);
    small[5][40] = 0;
    check_flush();
}
static void b10_walk(void) {
    hkm_free(small[5]);
    small[5][40] = 0;
}
static void b11(void) { small[2][10] = 0; }
static void b11_reuse(void) {
    small[0][10] = small[2][10] = small[4][10] = 0;
    small[0] = hkm_malloc(SMALL_BYTES);
}
static void b11_zeroed(void) {
    large_freed[10] = 0;
    large_freed = hkm_calloc(1, MIB(5) / 2);
}
static void b12(void) {
    REQUIRE(front_push_to(front_own(small[5]), small[5])); /* core takes it back, past the checks */
    small[6] = hkm_malloc(SMALL_BYTES);
}
static void b13(void) { set_state(small[5], BLOCK_FREE); }
static void b14(void) {
    hkm_free(small[5]);
    set_state(small[5], BLOCK_CHANGING);
}
static void b15(void) { ADD(quarantine_innards().bytes, 16); }
static void b16(void) { ADD(quarantine_innards().blocks, 1); }
static void b17(void) { place_of(small[5]).record->requested = 128; }
static void b18(void) {
    struct place place = place_of(small[5]);
    place.record->word |= 20u << WORD_ALIGN_SHIFT;
}
static void b19(void) { place_of(small[5]).record->alloc_stack = 0x7fffffff; }
static void b20(void) { set_state(small[5], 7); }

static const struct negative cases[] = {
    {"A1", a1},   {"A2", a2},   {"A3", a3},   {"A4", a4},   {"A5", a5},   {"A6", a6},
    {"A7", a7},   {"A8", a8},   {"A9", a9},   {"A10", a10}, {"A11", a11}, {"A12", a12},
    {"A12", a12_unused},        {"A13", a13}, {"A14", a14}, {"C1", c1},   {"C2", c2},
    {"C3", c3},   {"C4", c4},   {"C5", c5},   {"C6", c6},   {"C6", c6_capacity},
    {"U1", u1},   {"U2", u2},   {"U3", u3},   {"U3", u3_released_twice},  {"U4", u4},
    {"U5", u5},   {"U6", u6},   {"U7", u7},   {"U8", u8},   {"U9", u9},   {"U10", u10},
    {"U11", u11}, {"U12", u12}, {"U13", u13}, {"U14", u14}, {"U15", u15}, {"S1", s1},
    {"S2", s2},   {"S3", s3},   {"S4", s4},   {"S4", s4_first},           {"S5", s5_live},
    {"S5", s5_cached},          {"S6", s6},   {"S7", s7},   {"S8", s8},   {"S9", s9},
    {"S10", s10}, {"S11", s11}, {"S12", s12}, {"S13", s13}, {"S14", s14}, {"S15", s15},
    {"S16", s16}, {"S17", s17}, {"S17", s17_tail},          {"S18", s18}, {"S19", s19},
    {"S20", s20}, {"S21", s21}, {"S22", s22}, {"S23", s23}, {"S24", s24}, {"P1", p1},   {"P2", p2},
    {"P3", p3},   {"P4", p4},   {"P5", p5},   {"H1", h1},   {"H2", h2},   {"H3", h3},
    {"H4", h4},   {"H4", h4_limit},           {"H5", h5},   {"H6", h6},   {"H7", h7},
    {"H8", h8},   {"H9", h9},   {"H10", h10}, {"H11", h11}, {"H12", h12}, {"H13", h13},
    {"H14", h14}, {"H15", h15}, {"H16", h16}, {"H17", h17}, {"H18", h18}, {"H19", h19}, {"H20", h20}, {"H21", h21},
    {"F1", f1},   {"F2", f2},   {"L1", l1},   {"L1", l1_tail},            {"L2", l2},
    {"L3", l3},   {"L4", l4},   {"L5", l5},   {"L6", l6},   {"L7", l7},   {"L8", l8},
    {"L9", l9},   {"L10", l10}, {"N1", n1},   {"N2", n2},   {"N3", n3},   {"N4", n4},
    {"N5", n5},   {"N6", n6},   {"N7", n7},   {"N8", n8},   {"N9", n9},   {"N10", n10},
    {"B1", b1},   {"B2", b2},   {"B3", b3},   {"B4", b4},   {"B5", b5},   {"B6", b6},
    {"B7", b7},   {"B7", b7_usable},          {"B8", b8},   {"B8", b8_at_free},
    {"B8", b8_large},           {"B9", b9},   {"B10", b10}, {"B10", b10_walk},
    {"B11", b11}, {"B11", b11_reuse},         {"B11", b11_zeroed}, {"B12", b12}, {"B13", b13},
    {"B14", b14},
    {"B15", b15}, {"B16", b16}, {"B17", b17}, {"B18", b18}, {"B19", b19}, {"B20", b20},
};

int main(int argc, char **argv) {
    return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv);
}
