/* heap.c -- magazines: how large they are, fill, flush and drain; see heap.h. */
#include <string.h>

#include "core/heap_inside.h"
#include "core/options.h"
#include "core/superslab.h"

#define CACHE_BYTES_SMALL MIB(1)    /* a magazine's share, up to 1 KiB blocks */
#define CACHE_BYTES_MEDIUM KIB(512) /* and above */
#define CACHE_BYTES_TOTAL MIB(64)   /* all heaps', when their magazines grow */
#define FIRST_CAP_BYTES KIB(2)
#define FLUSH_MOST 512u        /* blocks; as many newer ones stay */
#define DEEP_SUPERSLABS 3u     /* held by all heaps; beyond it a magazine is of FLOODED_CAP */
#define END_BYTES KIB(1)       /* blocks up to here stay when a thread ends: heap_first_cap */
#define ONE_WAY_BYTES KIB(16)  /* a magazine's, unless its blocks stay in one thread */
#define RELEASED_ALARM 4u      /* slots; who released so many must not miss the purge delay */

/* ---- how large they are ---- */

uint32_t heap_cap_max(unsigned class) {
    size_t bytes = sizeclass_bytes(class);
    size_t cap = CACHE_BYTES_SMALL / bytes;
    if (bytes > KIB(1)) {
        size_t more = CACHE_BYTES_MEDIUM / bytes;
        cap = more < 32 ? more : 32;
    }
    if (cap > MAGAZINE_ENTRIES_MAX)
        cap = MAGAZINE_ENTRIES_MAX;
    if (cap > options.fast_cap)
        cap = options.fast_cap;
    return cap < 2 ? 2 : (uint32_t)cap;
}

/* FIRST_CAP_BYTES of blocks, but at least 4, of large ones 2 or 1. */
uint32_t heap_first_cap(unsigned class) {
    size_t bytes = sizeclass_bytes(class);
    size_t cap = FIRST_CAP_BYTES / bytes;
    size_t least = bytes <= KIB(8) ? 4 : bytes <= KIB(32) ? 2 : 1;
    if (cap < least)
        cap = least;
    uint32_t most = heap_cap_max(class);
    return cap < most ? (uint32_t)cap : most;
}

/* By how much a heap's magazines may grow: a share of what all may, so that many threads do not
 * hold many times as much. */
static size_t growth_share(void) {
    size_t threads = heap_count() - heap_orphans();
    return CACHE_BYTES_TOTAL / (threads < 8 ? 8 : threads);
}

static void set_cap(struct heap *heap, struct magazine *m, unsigned class, uint32_t cap) {
    heap->cap_bytes += ((size_t)cap - m->cap) * sizeclass_bytes(class);
    m->cap = cap;
}

static void restore(struct magazine *m) {
    m->floor = m->base;
    m->limit = m->base + m->cap;
}

/* An array with room for `room` blocks and, below them, for base[-1]; NULL when there is no memory
 * for a long one. */
static void **cut_array(struct heap *heap, uint32_t room) {
    if (room > INLINE_ROOM) {
        void **array = arena_take_spare_metadata((room + 1) * sizeof(void *));
        return array == NULL ? NULL : array + 1;
    }
    void **base = heap->next_array + 1;
    heap->next_array = base + room;
    heap->cut += room + 1;
    return base;
}

/* Room for all short arrays that a heap may cut: each magazine's at every size on its way up. */
static size_t arrays_bytes(void) {
    size_t entries = 0;
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        uint32_t most = heap_cap_max(class);
        entries += (most < INLINE_ROOM ? most : INLINE_ROOM) * 2 + 8;
    }
    return entries * sizeof(void *);
}

struct heap *heap_make(void) {
    struct heap *heap = arena_take_metadata(sizeof *heap + arrays_bytes());
    if (heap == NULL)
        return NULL;
    heap->next_array = (void **)(void *)(heap + 1);
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        struct magazine *m = &heap->magazines[class];
        m->live = arena.live[sizeclass_table[class].live_shift];
        m->away = (uint16_t)heap_away_offset(class);
        m->cap_max = heap_cap_max(class);
        m->cap = m->room = heap_first_cap(class);
        m->base = cut_array(heap, m->room);
        atomic_put(&m->top, m->base, relaxed);
        restore(m);
    }
    heap->arena_last = arena.last;
    heap->arena_bytes = arena_bytes();
    heap->class_map = arena.class_map;
    heap->drain_ms = heap->armed_ms = os_clock_ms();
    return heap;
}

/* ---- fill and flush ---- */

/* Blocks out of a deep magazine lie anywhere, those out of bitmaps side by side. The former take
 * less work, which counts while the program's memory fits into the processor's caches; beyond that
 * the neighbours count for more, and the runs that the magazine's blocks would pin. */
static bool may_be_deep(void) { return superslab_held() <= DEEP_SUPERSLABS; }

/* A magazine that overflows or runs dry again gets more room, while its heap's share lasts. Beyond
 * ONE_WAY_BYTES only one that does both in turn, and whose heap gathers no other heaps' blocks of
 * the class: where blocks come from another thread, go to one, or are exchanged, a large magazine
 * would only hold them up. */
static void grow(struct heap *heap, struct magazine *m, unsigned class, bool spilled) {
    bool first = m->trips == 0;
    bool turned = !first && (m->trips & 1) != spilled;
    m->trips = 2 | spilled;
    uint32_t cap = m->cap * 4 < m->cap_max ? m->cap * 4 : m->cap_max;
    bool one_way = cap * sizeclass_bytes(class) <= ONE_WAY_BYTES; /* room enough for that */
    if (first || cap <= m->cap || !(one_way || turned) || heap->cap_bytes >= growth_share() ||
        (!one_way && heap_gathers(heap, class)) || (cap > FLOODED_CAP && !may_be_deep()))
        return;
    if (cap > m->room) {
        uint32_t count = magazine_held(m);
        uint32_t most = heap_cap_max(class);
        uint32_t room = m->room * 4 < most ? m->room * 4 : most;
        void **base = cut_array(heap, room);
        if (base == NULL)
            return;
        magazine_settle(m);
        memcpy(base, m->base, count * sizeof(void *));
        m->base = base;
        m->room = room;
        magazine_lift(m, base + count);
        if (cap > room)
            cap = room;
    }
    set_cap(heap, m, class, cap);
    restore(m);
}

/* A program that frees more than the largest magazine holds will allocate as much again, and is
 * better served from the bitmaps, where neighbours come out together, than from a deep stack in the
 * order of the frees. So from its first overflow to the next drain such a magazine shrinks, as does
 * one that was deep before the program grew: not at once, but with each flush, which sends home
 * twice as much as comes in until the next. */
static void shrink_flooded(struct heap *heap, struct magazine *m, unsigned class) {
    uint32_t cap = magazine_held(m) + FLUSH_MOST / 2;
    m->cap_max = cap > FLOODED_CAP ? cap : FLOODED_CAP;
    set_cap(heap, m, class, m->cap_max);
    restore(m);
}

void *heap_fill(struct heap *heap, unsigned class) {
    struct magazine *m = &heap->magazines[class];
    void **top = atomic_get(&m->top, relaxed);
    if (unlikely(m->cap > FLOODED_CAP) && top == m->base && !may_be_deep())
        set_cap(heap, m, class, FLOODED_CAP);
    restore(m);
    if (top == m->base) {
        grow(heap, m, class, false);
        top = m->base;
        counter_add(&heap->stats.fills, 1);
        unsigned want = m->cap <= 2 ? m->cap : (m->cap + 1) / 2;
        if (want > options.fill_batch)
            want = (unsigned)options.fill_batch;
        unsigned got = 0;
        if (!group_is_mixed(packet_group(class))) {
            got = heap_take_from_stash(heap, class, top, want);
        } else if (heap_has_packets(heap, packet_group(class))) {
            heap_open_packets(heap, class);
            top = atomic_get(&m->top, relaxed);
        }
        if (got == 0 && top == m->base) {
            got = heap_take_from_runs(heap, class, top, want);
            while (got == 0 && heap_get_run(heap, class, true)) {
                top = atomic_get(&m->top, relaxed);
                if (top != m->base) { /* a signal handler filled it while the lock was free */
                    heap_drop_unused(heap, class);
                    break;
                }
                got = heap_take_from_runs(heap, class, top, want);
            }
        }
        top += got;
        if (top == m->base)
            return NULL;
        if (got > 0)
            magazine_lift(m, top);
    }
    magazine_settle(m);
    void *block = top[-1];
    magazine_lift(m, top - 1);
    return block;
}

/* Sends home `count` blocks of a magazine, but not the newest `stay`. What has to be sent directly
 * leaves the magazine before the lock is left: a fork meanwhile must not find it in both places. */
static void flush(struct heap *heap, struct magazine *m, unsigned class, unsigned count,
                  unsigned stay) {
    magazine_settle(m);
    void **from = m->base + (magazine_held(m) - stay - count);
    unsigned left = heap_send_home(heap, class, from, count);
    memmove(from + left, from + count, stay * sizeof(void *));
    magazine_lift(m, from + left + stay);
    for (; left > 0; left--) {
        void **top = atomic_get(&m->top, relaxed);
        void *block = from[0];
        from[0] = top[-1];
        magazine_lift(m, top - 1);
        heap_send_directly(heap, class, block);
    }
}

void heap_flush(struct heap *heap, unsigned class, void *block) {
    struct magazine *m = &heap->magazines[class];
    restore(m);
    if (atomic_get(&m->top, relaxed) == m->limit)
        grow(heap, m, class, true);
    if (atomic_get(&m->top, relaxed) == m->limit) {
        counter_add(&heap->stats.flushes, 1);
        unsigned count = (m->cap + 1) / 2;
        if (count > FLUSH_MOST)
            count = FLUSH_MOST;
        unsigned rest = m->cap - count;
        flush(heap, m, class, count, rest < FLUSH_MOST ? rest : FLUSH_MOST);
        if (m->cap > FLOODED_CAP && (m->cap == m->cap_max || !may_be_deep()))
            shrink_flooded(heap, m, class);
        if (heap->released >= RELEASED_ALARM) { /* as many slots may be idle now, and dirty */
            heap->released = 0;
            m->floor = (void **)UINTPTR_MAX; /* the next malloc looks at the clock */
        }
    }
    magazine_settle(m);
    void **top = atomic_get(&m->top, relaxed);
    *top = block;
    magazine_lift(m, top + 1);
}

void *heap_take_one(struct heap *heap, unsigned class) {
    void *block;
    unsigned group = packet_group(class);
    if (group_is_mixed(group))
        heap_collect_group(heap, group);
    else if (heap_take_from_stash(heap, class, &block, 1) == 1)
        return block;
    while (heap_take_from_runs(heap, class, &block, 1) == 0) {
        if (!heap_get_run(heap, class, false))
            return NULL;
    }
    return block;
}

void heap_drain(struct heap *heap, enum heap_drain how) {
    counter_add(&heap->stats.drains, 1);
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        struct magazine *m = &heap->magazines[class];
        unsigned count = magazine_held(m);
        if (atomic_get(&heap->away[class].count, relaxed) > 0)
            heap_send_gathered(heap, class);
        if (how >= DRAIN_ALL || m->trips == 0) {
            uint32_t cap = heap_first_cap(class);
            if (count > 0) {
                unsigned stay = how == DRAIN_AGED ? count / 2 : 0;
                if (how == DRAIN_END && sizeclass_bytes(class) <= END_BYTES)
                    stay = count < cap ? count : cap;
                flush(heap, m, class, count - stay, stay);
            }
            if (cap < m->cap && magazine_held(m) <= cap) {
                set_cap(heap, m, class, cap);
                restore(m);
            }
        }
        if (how != DRAIN_IDLE)
            heap->bins[class].runs = heap->bins[class].packets = heap->made_do = 0;
        m->trips = 0;
        m->cap_max = heap_cap_max(class);
    }
    heap_collect(heap);
}

void heap_arm(struct heap *heap, uint32_t now_ms) {
    heap->armed_ms = now_ms;
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        heap->magazines[class].floor = (void **)UINTPTR_MAX;
        heap->magazines[class].limit = NULL;
        heap->away[class].room = 0;
    }
}
