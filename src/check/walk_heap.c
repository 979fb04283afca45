/* walk_heap.c -- heaps: magazines, bins, packets; see walk.h. */
#include "base/bitset.h"
#include "check/walk.h"

/* One address that a magazine or a packet of a class holds. */
static void walk_cached(struct walk *w, unsigned class, const void *block) {
    must_hold(H7, arena_contains(block) && arena_class_of_slot(arena_slot_of(block)) == class,
              "in a run of its class", "elsewhere", block);
    const struct slot *slot = slot_of_block(class, block);
    size_t offset = (size_t)((const char *)block - slot->start);
    size_t bytes = sizeclass_bytes(class);
    must_hold(H8,
              (const char *)block >= slot->start && offset % bytes == 0 &&
                  offset / bytes < slot->capacity,
              "a block's start", "another address", block);
    must_hold(F1, live_get(arena_live_byte(class, block)) == 0, "dead", "live", block);
    if (w->cached == NULL)
        return;
    size_t at = (size_t)slot_number(slot) * SLOT_BLOCKS_MAX + offset / bytes;
    must_hold(H9, (w->cached[at >> 6] & bitset_bit(at)) == 0, "once", "twice", block);
    w->cached[at >> 6] |= bitset_bit(at);
}

/* The least length that an array of the class comes to on its way up and that `room` fits in. */
static uint32_t grown_room(unsigned class, uint32_t room) {
    uint32_t most = heap_cap_max(class);
    uint32_t length = heap_first_cap(class);
    while (length < room && length < most)
        length = length * 4 < most ? length * 4 : most;
    return length;
}

static bool is_array_of(const struct heap *heap, const struct magazine *m) {
    if (m->room <= INLINE_ROOM)
        return (const char *)m->base > (const char *)(heap + 1) &&
               m->base + m->room <= heap->next_array;
    size_t used = atomic_get(arena_innards().metadata_used, relaxed);
    uintptr_t at = (uintptr_t)(m->base - 1) - (uintptr_t)arena.metadata;
    return at < used && used - at >= (m->room + 1) * sizeof(void *) && at % 64 == 0;
}

/* `still`: no other thread moves it. */
static void walk_magazine(struct walk *w, const struct heap *heap, unsigned class, bool still) {
    const struct magazine *m = &heap->magazines[class];
    void **top = atomic_get(&m->top, acquire);
    must_hold(H5, m->cap > 0 && m->cap <= m->cap_max && m->cap <= m->room, "0 < cap <= cap_max",
              "not", m);
    uint32_t most = heap_cap_max(class); /* less where it was flooded */
    must_hold(H5, m->cap_max <= most && (m->cap_max == most || m->cap_max >= FLOODED_CAP),
              "the class's cap_max", "another", m);
    must_equal(H5, grown_room(class, m->room), m->room, m);
    must_hold(H10, is_array_of(heap, m), "behind the heap's record, or a long one", "elsewhere", m);
    must_hold(H1, top >= m->base && top <= m->base + m->cap, "base <= top <= base + cap", "not", m);
    must_equal(H6, arena.live[sizeclass_table[class].live_shift], m->live, m);
    must_equal(H6, heap_away_offset(class), m->away, m);
    if (!still)
        return;
    must_hold(H4, m->floor == m->base || m->floor == (void **)UINTPTR_MAX, "base", "another", m);
    must_hold(H4, m->limit == m->base + m->cap || m->limit == NULL, "base + cap", "another", m);
    if (top == m->base)
        return;
    void *hot = atomic_get(&m->hot, relaxed);
    must_hold(F2, hot != NULL, "a block", "NULL", m);
    walk_cached(w, class, hot);
    for (void **at = m->base; at < top - 1; at++)
        walk_cached(w, class, *at);
}

static void walk_packet_place(const struct packet *packet) {
    size_t used = atomic_get(arena_innards().metadata_used, relaxed);
    uintptr_t at = (uintptr_t)packet - (uintptr_t)arena.metadata;
    must_hold(H18, at < used && used - at >= sizeof *packet && at % 64 == 0, "in the metadata",
              "elsewhere", packet);
}

/* A block that a packet of a group holds. */
static void walk_grouped(struct walk *w, unsigned group, const void *block) {
    must_hold(H7, arena_contains(block), "in a run of its class", "elsewhere", block);
    unsigned class = packet_class_of(group, block);
    must_equal(H16, group, packet_group(class), block);
    walk_cached(w, class, block);
}

/* What is gathered of a group of classes to be sent home. */
static void walk_away(struct walk *w, const struct heap *heap, unsigned class, bool still) {
    const struct away *away = &heap->away[class];
    uint32_t count = atomic_get(&away->count, relaxed);
    uint32_t room = still ? away->room : 0; /* its thread sets it without the lock */
    must_hold(H20,
              count <= PACKET_BLOCKS && room <= PACKET_BLOCKS &&
                  (away->packet != NULL || (count == 0 && room == 0)),
              "a packet for what is gathered", "none, or too much", away);
    if (away->packet != NULL)
        walk_packet_place(away->packet);
    for (uint32_t i = 0; still && i < count; i++)
        walk_grouped(w, class, away->packet->blocks[i]);
}

/* ---- packets ---- */

/* A list of packets is one, in the metadata, and ends: its length. */
static size_t walk_packet_list(const struct packet *packet) {
    size_t used = atomic_get(arena_innards().metadata_used, relaxed);
    size_t steps = 0;
    for (; packet != NULL; packet = atomic_get(&packet->next, relaxed)) {
        walk_packet_place(packet);
        must_hold(H19, steps++ <= used / sizeof *packet, "an end", "a ring", packet);
    }
    return steps;
}

static void walk_packet(struct walk *w, const struct packet *packet) {
    must_hold(H17, packet->count > 0 && packet->count <= PACKET_BLOCKS, "1 to 62 blocks",
              "another count", packet);
    for (uint32_t i = 0; i < packet->count; i++)
        walk_grouped(w, packet->group, packet->blocks[i]);
}

static void walk_stash(struct walk *w, unsigned group, const struct packet *packet) {
    (void)walk_packet_list(packet);
    for (; packet != NULL; packet = atomic_get(&packet->next, relaxed)) {
        must_equal(H16, group, packet->group, packet);
        walk_packet(w, packet);
    }
}

/* What waits in an inbox, in bytes. */
static size_t walk_inbox(struct walk *w, unsigned group, const struct packet *packet) {
    size_t units = 0;
    walk_stash(w, group, packet);
    for (; packet != NULL; packet = atomic_get(&packet->next, relaxed)) {
        must_equal(N5, packet_units(packet), packet->units, packet);
        units += packet->units;
    }
    return units * 16;
}

/* ---- bins ---- */

static void walk_listed(struct walk *w, struct heap *heap, unsigned class, uint32_t number) {
    struct slot *slot = slot_at(number);
    must_equal(S20, class, slot->class, slot);
    must_hold(S18, atomic_get(&slot->owner, relaxed) == heap->id, "the heap", "another", slot);
    must_hold(S19, slot_state(number) == SLOT_ACTIVE, "ACTIVE", "another state", slot);
    must_hold(S21, slot_free(slot) > 0, "a free block", "none", slot);
    if (w->listed != NULL)
        w->listed[number >> 6] |= bitset_bit(number);
    if (!w->quiet && heap != w->mine)
        walk_run(w, number, class);
}

static bool is_run(uint32_t number, unsigned class) {
    return number / SUPERSLAB_SLOTS < superslab_top() &&
           superslab_in_use(number / SUPERSLAB_SLOTS) &&
           number % sizeclass_table[class].run_slots == 0;
}

static void walk_bins(struct walk *w, struct heap *heap, unsigned class) {
    const struct bin *bin = &heap->bins[class];
    uint32_t before = 0;
    uint32_t limit = superslab_top() * SUPERSLAB_SLOTS;
    uint32_t steps = 0;
    for (uint32_t number = bin->head; number != 0; number = slot_at(number)->next) {
        must_hold(S17, is_run(number, class), "a run", "another number", bin);
        must_equal(S17, before, slot_at(number)->prev, slot_at(number));
        must_hold(S17, steps++ < limit, "an end", "a ring", bin);
        walk_listed(w, heap, class, number);
        before = number;
    }
    must_equal(S17, before, bin->tail, bin);
    if (bin->empty == 0)
        return;
    must_hold(H3, is_run(bin->empty, class), "a run", "another number", bin);
    struct slot *slot = slot_at(bin->empty);
    must_hold(H3, slot_state(bin->empty) == SLOT_EMPTY && slot->class == class, "EMPTY",
              "another state or class", slot);
    must_hold(H3, atomic_get(&slot->owner, relaxed) == heap->id, "the heap's own", "another's",
              slot);
}

/* ---- heaps ---- */

/* A magazine whose every operation takes the slow path. */
static void walk_no_magazine(const struct heap *heap, unsigned class) {
    const struct magazine *m = &heap->magazines[class];
    must_hold(H15,
              atomic_get(&m->top, relaxed) == NULL && m->limit == NULL && m->floor == NULL &&
                  atomic_get(&m->hot, relaxed) == NULL && heap->away[class].room == 0,
              "zeros", "something else", m);
}

static void walk_empty_heap(struct heap *heap) {
    must_hold(H15, heap->arena_bytes == 0, "zeros", "something else", heap);
    for (unsigned class = 0; class < CLASS_MAP_VALUES; class ++)
        walk_no_magazine(heap, class);
}

/* Arrays do not overlap, and the next will be cut where those that ever were end. Under the heap's
 * own thread only. */
static void walk_arrays(const struct heap *heap) {
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        const struct magazine *m = &heap->magazines[class];
        for (unsigned other = class + 1; other < CLASS_COUNT; other++) {
            const struct magazine *o = &heap->magazines[other];
            must_hold(H10, m->base + m->room < o->base || o->base + o->room < m->base,
                      "an array of its own", "one that overlaps another's", o);
        }
    }
    must_equal(H10, (uintptr_t)((void *const *)(const void *)(heap + 1) + heap->cut),
               (uintptr_t)heap->next_array, &heap->next_array);
}

static void walk_heap(struct walk *w, struct heap *heap, bool mine) {
    must_hold(H11,
              heap->arena_last == arena.last && heap->arena_bytes == arena_bytes() &&
                  heap->class_map == arena.class_map &&
                  heap->own == heap->id << CLASS_ENTRY_OWNER_SHIFT,
              "the arena's", "another value", heap);
    if (mine || w->quiet)
        walk_arrays(heap);
    walk_no_magazine(heap, 0); /* what the class map says of slots in no run, and of large blocks */
    walk_no_magazine(heap, CLASS_LARGE_HEAD);
    walk_no_magazine(heap, CLASS_LARGE_TAIL);
    size_t waiting = 0;
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        walk_magazine(w, heap, class, mine || w->quiet);
        walk_away(w, heap, class, mine || w->quiet);
        walk_bins(w, heap, class);
        walk_stash(w, class, heap->bins[class].stash);
        waiting += walk_inbox(w, class, atomic_get(&heap->inbox[class], acquire));
    }
    must_equal(H21, walk_packet_list(heap->stock.first), heap->stock.count, &heap->stock);
    if (!w->quiet)
        return;
    must_equal(N5, waiting, atomic_get(&heap->inbox_bytes, relaxed), &heap->inbox_bytes);
    uint64_t frees = atomic_get(&heap->stats.remote_frees, relaxed);
    uint64_t packets = atomic_get(&heap->stats.remote_packets, relaxed);
    must_hold(N10, packets <= frees && frees <= packets * PACKET_BLOCKS, "1 to 62 a packet",
              "another count", &heap->stats);
}

/* Who a heap says it is. */
static void walk_identity(uint32_t number, struct heap *heap) {
    struct heap_innards in = heap_innards();
    unsigned state = atomic_get(&heap->state, relaxed);
    bool orphan = bitset_test(in.orphans, number);
    bool threaded = atomic_get(&heap->owner, relaxed) != 0;
    must_equal(H12, number, heap->number, heap);
    must_equal(H12, number + 1, heap->id, heap);
    must_hold(H13,
              state < HEAP_LOST && (state != HEAP_OWNED || threaded) &&
                  (state != HEAP_ORPHAN || !threaded),
              "a state that fits the owner", "another", heap);
    must_equal(H14, state == HEAP_ORPHAN, orphan, heap);
}

void walk_heaps(struct walk *w) {
    walk_empty_heap(&heap_none);
    walk_empty_heap(&heap_gone);
    for (uint32_t i = 0; i < heap_count(); i++) {
        struct heap *heap = heap_by_number(i);
        if (heap == NULL) {
            must_hold(N4, !w->quiet, "a heap", "NULL", heap_innards().heaps + i);
            continue;
        }
        if (w->quiet)
            walk_identity(i, heap);
        if (heap == w->mine) {
            walk_heap(w, heap, true);
        } else if (atomic_get(&heap->state, relaxed) != HEAP_LOST && heap_try_enter(heap)) {
            walk_heap(w, heap, false);
            heap_leave(heap);
        } else {
            must_hold(H13, !w->quiet || atomic_get(&heap->state, relaxed) == HEAP_LOST, "no lock",
                      "a holder that is not there", heap);
        }
    }
}
