/* alloc.c -- the slow paths of the entry points; see alloc.h.
 * Invariants  F1 (front.h): every way out of here with a small block sets its live byte, every way
 *             in clears it.
 */
#include "core/alloc.h"

#include <errno.h>
#include <string.h>

#include "base/require.h"
#include "core/decay.h"
#include "core/foreign.h"
#include "core/front.h"
#include "core/large.h"
#include "core/life.h"
#include "core/report.h"
#include "core/watch.h"

#define KEEP_LARGE_BYTES \
    (SMALL_BYTES_MAX / 2) /* a large block that shrinks stays one down to here */
#define COPY_SHORT 128u

HKM_COLD void front_broken(const void *block) {
    hkm_broken("F1 a block that is handed out is not live", block);
}

void *alloc_out_of_memory(void) {
    errno = ENOMEM;
    return NULL;
}

/* ---- allocate ---- */

static void *take(unsigned class, struct heap *heap) {
    void *block;
    if (heap != NULL && heap_enter_own(heap)) {
        block = heap_fill(heap, class);
        heap_leave_own(heap);
        return block;
    }
    struct heap *aside = heap_step_aside();
    block = NULL;
    heap = heap_borrow();
    if (heap != NULL) {
        block = heap_take_one(heap, class);
        heap_leave(heap);
    }
    heap_step_back(aside);
    return block;
}

static void *alloc_class(unsigned class) {
    if (!life_ready())
        return alloc_out_of_memory();
    struct heap *heap = life_heap();
    void *block = take(class, heap);
    struct decay_space space = {0};
    while (unlikely(block == NULL)) {
        if (!decay_for_space(heap, &space))
            return alloc_out_of_memory();
        block = take(class, heap);
    }
    live_byte *live = arena_live_byte(class, block);
    if (unlikely(live_get(live) != 0))
        front_broken(block);
    live_set(live, arena_live_mark(block));
    decay_tick(heap);
    return block;
}

static void *alloc_large(size_t bytes, size_t alignment, bool *clean) {
    if (bytes > PTRDIFF_MAX || !life_ready())
        return alloc_out_of_memory();
    struct heap *heap = life_heap();
    bool cached;
    void *block = large_alloc(bytes, alignment, clean, &cached);
    struct decay_space space = {0};
    while (unlikely(block == NULL)) {
        if (!decay_for_space(heap, &space))
            return alloc_out_of_memory();
        block = large_alloc(bytes, alignment, clean, &cached);
    }
    if (heap != NULL) {
        counter_add(&heap->stats.large_allocs, 1);
        counter_add(&heap->stats.large_hits, cached);
    }
    decay_tick(heap);
    return block;
}

HKM_NOINLINE void *alloc_slow(size_t bytes) {
    bool clean;
    if (bytes <= SMALL_BYTES_MAX)
        return alloc_class(sizeclass_of(bytes));
    return alloc_large(bytes, SLOT_BYTES, &clean);
}

static void *alloc_any(size_t bytes) {
    if (bytes > SMALL_BYTES_MAX)
        return alloc_slow(bytes);
    struct magazine *m = front_magazine((size_t)sizeclass_of(bytes) << MAGAZINE_SHIFT);
    FRONT_POP_OR(m, return alloc_slow(bytes));
}

static HKM_NOINLINE void *alloc_zeroed_slow(size_t bytes) {
    bool clean = false;
    bool small = bytes <= SMALL_BYTES_MAX;
    void *block = small ? alloc_any(bytes) : alloc_large(bytes, SLOT_BYTES, &clean);
    if (block == NULL || clean)
        return block;
    if (small)
        return memset(block, 0, bytes);
    if (HKM_CHECK_LEVEL >= 1)
        watch_clear(block);
    large_clear(arena_slot_of(block), bytes);
    return block;
}

void *alloc_zeroed(size_t bytes) {
    if (unlikely(bytes > FAST_BYTES_MAX))
        return alloc_zeroed_slow(bytes);
    struct magazine *m = front_magazine(sizeclass_fast[(bytes + 15) >> 4]);
    void **top = atomic_get(&m->top, relaxed);
    if (unlikely(top <= m->floor))
        return alloc_zeroed_slow(bytes);
    return memset(front_pop_at(m, top), 0, bytes);
}

void *alloc_aligned(size_t alignment, size_t bytes) {
    if (alignment <= BLOCK_ALIGN)
        return alloc_any(bytes);
    unsigned class = sizeclass_of_aligned(bytes, alignment);
    if (class != 0) {
        struct magazine *m = front_magazine((size_t) class << MAGAZINE_SHIFT);
        FRONT_POP_OR(m, return alloc_class(class));
    }
    bool clean;
    return alloc_large(bytes, alignment < SLOT_BYTES ? SLOT_BYTES : alignment, &clean);
}

size_t alloc_good_size(size_t bytes) {
    if (bytes > PTRDIFF_MAX)
        return 0;
    return bytes <= SMALL_BYTES_MAX ? sizeclass_bytes(sizeclass_of(bytes))
                                    : round_up(bytes, os_page_bytes());
}

/* ---- what a pointer is ---- */

/* The class of a live block, CLASS_LARGE_HEAD for a large one, 0 for any other pointer. */
static unsigned live_class(const void *pointer) {
    unsigned class = arena_class_of_slot(arena_slot_of(pointer));
    if (class == 0)
        return 0;
    if (class < CLASS_COUNT) {
        return live_get(arena_live_byte(class, pointer)) == arena_live_mark(pointer) ? class : 0;
    }
    uint32_t slot = arena_slot_of(pointer);
    return class == CLASS_LARGE_HEAD && arena_slot_start(slot) == pointer &&
                   slot_state(slot) == SLOT_LARGE
               ? CLASS_LARGE_HEAD
               : 0;
}

static size_t bytes_of(unsigned class, const void *block) {
    return class < CLASS_COUNT ? sizeclass_bytes(class) : large_bytes_of(arena_slot_of(block));
}

size_t alloc_usable(const char *call, const void *block) {
    if (!arena_contains(block))
        return foreign_usable_size(block);
    unsigned class = live_class(block);
    if (class == 0)
        report_misuse(call, block);
    return bytes_of(class, block);
}

bool alloc_owns(const void *pointer) {
    if (!arena_contains(pointer))
        return false;
    unsigned class = arena_class_of_slot(arena_slot_of(pointer));
    const char *p = pointer;
    if (class == 0)
        return false;
    if (class >= CLASS_LARGE_HEAD) {
        uint32_t slot = large_run_of(pointer);
        return slot_state(slot) == SLOT_LARGE &&
               (size_t)(p - arena_slot_start(slot)) < large_bytes_of(slot);
    }
    const struct slot *slot = slot_of_block(class, pointer);
    if (p < slot->start)
        return false;
    size_t index = (size_t)(p - slot->start) / sizeclass_bytes(class);
    return index < slot->capacity &&
           live_class(slot->start + index * sizeclass_bytes(class)) == class;
}

/* ---- free ---- */

static void free_small(unsigned class, void *block) {
    live_set(arena_live_byte(class, block), 0);
    struct heap *heap = life_heap_to_free();
    if (heap != NULL && heap_enter_own(heap)) {
        if (arena_owner_of_slot(arena_slot_of(block)) == heap->id)
            heap_flush(heap, class, block);
        else
            heap_flush_away(heap, class, block);
        heap_leave_own(heap);
    } else {
        heap_free_borrowed(class, block);
    }
    decay_tick(heap);
}

HKM_NOINLINE void alloc_free_slow(const char *call, void *block) {
    if (!arena_contains(block)) {
        if (block != NULL)
            foreign_free(call, block);
        return;
    }
    unsigned class = live_class(block);
    if (class == 0)
        report_misuse(call, block);
    if (class < CLASS_COUNT) {
        free_small(class, block);
        return;
    }
    if (!large_free(arena_slot_of(block)))
        report_misuse(call, block);
    decay_tick(life_heap_if_any());
}

HKM_NOINLINE void alloc_free_away(const char *call, void *block, uint32_t offset) {
    if (!front_push_away(block, offset))
        alloc_free_slow(call, block);
}

HKM_NOINLINE void alloc_free(const char *call, void *block) { front_free(call, block); }

static ATOMIC(bool) stays_long; /* a block that was to shrink by more than half stayed as it was */

void alloc_check_size(const char *call, const void *block, size_t bytes) {
    if (block == NULL || !arena_contains(block))
        return;
    size_t has = alloc_usable(call, block);
    /* realloc leaves a block that shrinks by less than half where it is */
    bool long_for = bytes < has / 2 && alloc_good_size(bytes) != has;
    if (bytes > has || (long_for && !atomic_get(&stays_long, relaxed)))
        report_size(call, block, has, bytes);
}

void alloc_free_sized(const char *call, void *block, size_t bytes) {
    alloc_check_size(call, block, bytes);
    alloc_free(call, block);
}

/* ---- resize ---- */

/* The block's contents at `to`. */
static void *replace(void *block, void *to, size_t bytes) {
    memcpy(to, block, bytes);
    alloc_free("realloc", block);
    return to;
}

/* What shrinks stays where it is when there is no memory: programs count on that. Of a large block
 * what it still needs. */
static HKM_COLD void *shrink_by_copy(void *block, size_t bytes) {
    int saved = errno;
    void *to = alloc_any(bytes);
    if (to != NULL)
        return replace(block, to, bytes);
    if (live_class(block) == CLASS_LARGE_HEAD)
        (void)large_resize(arena_slot_of(block), bytes);
    atomic_put(&stays_long, true, relaxed);
    errno = saved;
    return block;
}

static void *resize_by_copy(void *block, size_t old, size_t bytes) {
    if (bytes <= old)
        return shrink_by_copy(block, bytes);
    void *to = alloc_any(bytes);
    return to != NULL ? replace(block, to, old) : NULL;
}

static void *resize_large(void *block, size_t bytes) {
    uint32_t slot = arena_slot_of(block);
    if (bytes <= KEEP_LARGE_BYTES)
        return resize_by_copy(block, large_bytes_of(slot), bytes);
    if (bytes > PTRDIFF_MAX)
        return alloc_out_of_memory();
    if (large_resize(slot, bytes))
        return block;
    void *to = large_move(slot, bytes);
    struct decay_space space = {0};
    while (to == NULL && decay_for_space(life_heap_if_any(), &space))
        to = large_move(slot, bytes);
    return to != NULL ? to : alloc_out_of_memory();
}

static HKM_NOINLINE void *resize_any(void *block, size_t bytes) {
    if (!arena_contains(block))
        return foreign_realloc(block, bytes);
    unsigned class = live_class(block);
    if (class == 0)
        report_misuse("realloc", block);
    if (class == CLASS_LARGE_HEAD) {
        void *to = resize_large(block, bytes);
        decay_tick(life_heap_if_any());
        return to;
    }
    size_t old = sizeclass_bytes(class);
    if (bytes <= old && bytes >= old / 2)
        return block;
    return resize_by_copy(block, old, bytes);
}

static HKM_NOINLINE void copy_long(char *to, const char *from, size_t bytes) {
    memcpy(to, from, bytes);
}

/* Blocks have room for whole units, which a few of take less time than a call or `rep movs`. */
static void copy(char *to, const char *from, size_t bytes) {
    if (bytes > COPY_SHORT)
        copy_long(to, from, bytes);
    else
        for (size_t i = 0; i < bytes; i += BLOCK_ALIGN)
            memcpy(to + i, from + i, BLOCK_ALIGN);
}

/* A live block of an own run stays where it is, or is copied to one out of a magazine. */
void *alloc_resize(void *block, size_t bytes) {
    struct magazine *from = front_own(block);
    if (unlikely(from == NULL || live_get(front_live_byte(from, block)) != arena_live_mark(block)))
        return resize_any(block, bytes);
    size_t old = sizeclass_bytes((unsigned)(from - heap_mine->magazines));
    if (bytes <= old && bytes >= old / 2)
        return block;
    if (unlikely(bytes > FAST_BYTES_MAX))
        return resize_any(block, bytes);
    struct magazine *m = front_magazine(sizeclass_fast[(bytes + 15) >> 4]);
    void **top = atomic_get(&m->top, relaxed);
    if (unlikely(top <= m->floor))
        return resize_any(block, bytes);
    void *to = front_pop_at(m, top);
    copy(to, block, old < bytes ? old : bytes);
    if (unlikely(!front_push_to(from, block)))
        alloc_free_slow("realloc", block);
    return to;
}

bool alloc_expand(void *block, size_t bytes) {
    if (!arena_contains(block))
        return bytes <= foreign_usable_size(block);
    unsigned class = live_class(block);
    if (class == 0)
        report_misuse("expand", block);
    if (bytes <= bytes_of(class, block))
        return true;
    return class == CLASS_LARGE_HEAD && bytes <= PTRDIFF_MAX &&
           large_resize(arena_slot_of(block), bytes);
}
