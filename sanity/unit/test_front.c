/* test_front.c -- F1: what front_pop gives is live, what front_free takes must be. */
#include <signal.h>

#include "unit/unit.inc"

#include "core/front.h"
#include "core/large.h"

static struct heap *start_heap(void) {
    check(arena_init(MIB(64)) == 0);
    heap_mine = heap_acquire();
    check(heap_mine != NULL);
    return heap_mine;
}

/* A block past the fast path, as alloc.c makes one. */
static void *fill(struct heap *heap, unsigned class) {
    check(heap_enter(heap));
    void *block = heap_fill(heap, class);
    heap_leave(heap);
    check(block != NULL);
    *arena_live_byte(class, block) = arena_live_mark(block);
    return block;
}

/* The fast path of malloc; NULL where it leaves for the slow one. */
static void *pop(struct magazine *m) { FRONT_POP_OR(m, return NULL); }

/* The fast path of free; false where it leaves for a slow one. */
static bool push(void *block) {
    struct magazine *m = front_own(block);
    return m != NULL && front_push_to(m, block);
}

static size_t held(const struct magazine *m) {
    return (size_t)(atomic_get(&m->top, relaxed) - m->base);
}

Test(front, without_a_heap_every_pop_and_push_takes_the_slow_path) {
    int local;
    for (size_t class = 0; class < CLASS_MAP_VALUES; class++)
        check(pop(front_magazine(class << MAGAZINE_SHIFT)) == NULL);
    check(!push(NULL) && !push(&local));
    check(arena_init(MIB(64)) == 0);
    for (size_t at = 0; at < arena.bytes; at += SLOT_BYTES)
        check(!push((char *)arena.base + at));
}

Test(front, pops_of_every_class_are_live_distinct_and_ascend) {
    struct heap *heap = start_heap();
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        struct magazine *m = front_magazine((size_t)class << MAGAZINE_SHIFT);
        check(m == &heap->magazines[class]);
        char *before = fill(heap, class);
        size_t count = held(m);
        for (char *block; (block = pop(m)) != NULL; before = block, count--) {
            check(block == before + sizeclass_bytes(class), "class %u", class);
            check(*arena_live_byte(class, block) == arena_live_mark(block), "F1 class %u", class);
            memset(block, 0x11, sizeclass_bytes(class));
        }
        check(count == 0 && held(m) == 0, "class %u", class);
    }
}

Test(front, a_push_is_popped_next_and_its_live_byte_is_clear_meanwhile) {
    struct heap *heap = start_heap();
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        struct magazine *m = &heap->magazines[class];
        void *blocks[3] = {fill(heap, class), fill(heap, class), fill(heap, class)};
        size_t before = held(m);
        for (size_t i = 0; i < 3 && m->base + before + i < m->limit; i++) {
            check(push(blocks[i]), "class %u", class);
            check(*arena_live_byte(class, blocks[i]) == 0 && held(m) == before + i + 1);
        }
        for (size_t i = held(m) - before; i-- > 0;)
            check(pop(m) == blocks[i], "class %u, last in first out", class);
    }
}

Test(front, a_second_push_of_a_block_is_refused_and_changes_nothing) {
    struct heap *heap = start_heap();
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        struct magazine *m = &heap->magazines[class];
        void *block = fill(heap, class);
        check(push(block), "class %u", class);
        size_t before = held(m);
        check(!push(block) && held(m) == before, "class %u", class);
        check(pop(m) == block && held(m) == before - 1);
    }
}

Test(front, a_push_of_any_address_near_a_live_block_is_refused) {
    struct heap *heap = start_heap();
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        struct magazine *m = &heap->magazines[class];
        char *block = fill(heap, class);
        long reach = (long)sizeclass_bytes(class) + 130;
        long step = unit_is_slow() ? 41 : 1;
        size_t before = held(m);
        for (long d = reach > 700 ? -700 : -reach; d < reach; d += d > 700 ? 127 * step : step)
            check(d == 0 || !push(block + d), "class %u %+ld", class, d);
        check(held(m) == before && *arena_live_byte(class, block) == arena_live_mark(block));
    }
}

Test(front, a_block_that_was_never_handed_out_is_refused) {
    struct heap *heap = start_heap();
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        char *block = fill(heap, class);
        struct slot *slot = slot_of_block(class, block);
        for (unsigned i = 1; i < slot->capacity; i++)
            check(!push(slot->start + i * sizeclass_bytes(class)), "class %u", class);
    }
}

Test(front, a_large_block_takes_the_slow_path) {
    (void)start_heap();
    bool clean, cached;
    char *block = large_alloc(MIB(1), SLOT_BYTES, &clean, &cached);
    check(block != NULL);
    for (size_t at = 0; at < MIB(1); at += 4096)
        check(!push(block + at));
    check(slot_state(arena_slot_of(block)) == SLOT_LARGE);
}

Test(front, a_full_magazine_refuses_the_push_and_an_empty_one_the_pop) {
    struct heap *heap = start_heap();
    for (unsigned class = 1; class < CLASS_COUNT; class += 3) {
        struct magazine *m = &heap->magazines[class];
        static void *blocks[MAGAZINE_ENTRIES_MAX + 1];
        unsigned cap = m->cap;
        for (unsigned i = 0; i <= cap; i++)
            blocks[i] = fill(heap, class);
        while (pop(m) != NULL) {
        }
        cap = m->cap < cap ? m->cap : cap;
        unsigned pushed = 0;
        while (pushed <= cap && push(blocks[pushed]))
            pushed++;
        check(pushed == (m->cap < cap + 1 ? m->cap : cap + 1), "class %u", class);
        if (pushed <= cap)
            check(*arena_live_byte(class, blocks[pushed]) == arena_live_mark(blocks[pushed]));
        for (unsigned i = pushed; i-- > 0;)
            check(pop(m) == blocks[i]);
        check(pop(m) == NULL && held(m) == 0);
    }
}

/* The array's place for the hot block is stale: the slow path must not believe it. */
Test(front, an_armed_heap_goes_on_with_the_block_that_was_pushed_last) {
    struct heap *heap = start_heap();
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        struct magazine *m = &heap->magazines[class];
        if (m->cap < 2)
            continue;
        void *a = fill(heap, class);
        void *b = fill(heap, class);
        while (pop(m) != NULL) {
        }
        check(push(a) && push(b) && pop(m) == b && push(b));
        heap_arm(heap, 1);
        check(fill(heap, class) == b && fill(heap, class) == a && held(m) == 0, "class %u", class);
        check(push(b) && push(a) && pop(m) == a);
        heap_arm(heap, 2);
        check(heap_enter(heap));
        *arena_live_byte(class, a) = 0; /* as free does */
        heap_flush(heap, class, a);
        heap_leave(heap);
        check(pop(m) == a && pop(m) == b && held(m) == 0, "class %u", class);
    }
}

Test(front, an_armed_heap_refuses_everything_until_the_next_slow_path) {
    struct heap *heap = start_heap();
    void *block = fill(heap, 4);
    check(held(&heap->magazines[4]) > 0);
    heap_arm(heap, 77);
    check(heap->armed_ms == 77);
    check(pop(&heap->magazines[4]) == NULL && !push(block));
    check(*arena_live_byte(4, block) == arena_live_mark(block));
    (void)fill(heap, 4);
    check(push(block) && pop(&heap->magazines[4]) == block);
    check(heap->magazines[5].limit == NULL, "the other classes stay armed");
}

Test(front, a_block_that_is_live_is_never_handed_out, .signal = SIGABRT) {
    struct heap *heap = start_heap();
    void *block = fill(heap, 4);
    check(push(block));
    *arena_live_byte(4, block) = arena_live_mark(block); /* as if the metadata were damaged */
    (void)pop(&heap->magazines[4]);
}
