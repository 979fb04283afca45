/* check.c -- the life of a block with its record, redzone and poison; see check.h. */
#include "check/check.h"

#include <errno.h>
#include <string.h>

#include "check/depot.h"
#include "check/fault.h"
#include "check/guard.h"
#include "check/quarantine.h"
#include "check/shadow.h"
#include "check/walk.h"
#include "core/alloc.h"
#include "core/decay.h"
#include "core/front.h"
#include "core/life.h"
#include "core/options.h"
#include "core/report.h"

#define AMORTIZE_FROM 10000u /* see count_call */
#define FORGET_MOST 1024     /* entries of a magazine: what a flush or two leave */
#define TICK_CALLS 64u       /* frees that end in the quarantine take no slow path of core's */

static __thread uint8_t depth;      /* calls of this thread under way: 2 in a signal handler */
static __thread uint32_t next_walk; /* 0: not known yet */
/* The calls before the next one at which count_call has something to do: their number, and how many
 * of them are to come. */
static __thread uint32_t calls, to_come;
static __thread uint32_t slow_paths;      /* of the thread's heap, when it was last looked at */
static __thread struct heap *interrupted; /* while depth > 1: the heap that the thread stood at */

/* What live blocks have beyond the bytes asked for; [0] small ones, [1] large ones. */
static ATOMIC(size_t) overhead[2];

size_t check_overhead(bool large) { return atomic_get(&overhead[large], relaxed); }

static void add_overhead(const struct place *place, size_t requested) {
    atomic_add(&overhead[place->class >= CLASS_COUNT], place->bytes - requested, relaxed);
}
static void sub_overhead(const struct place *place, size_t requested) {
    atomic_sub(&overhead[place->class >= CLASS_COUNT], place->bytes - requested, relaxed);
}

/* ---- around each call ---- */

/* Level 3 every `check_every` calls of a thread. From AMORTIZE_FROM on that is a least: a walk also
 * waits for a quarter as many calls as the last one looked at blocks, so that a program with a
 * large heap stays usable. */
static uint32_t walk_if_due(uint32_t call) {
    size_t wait = (size_t)options.check_every;
    if (next_walk == 0)
        next_walk = call - 1 + (uint32_t)wait;
    if (call == next_walk) {
        size_t looked_at;
        (void)walk_all(&looked_at);
        if (wait >= AMORTIZE_FROM && looked_at / 4 > wait)
            wait = looked_at / 4 < UINT32_MAX ? looked_at / 4 : UINT32_MAX;
        next_walk = call + (uint32_t)wait;
    }
    return next_walk - call;
}

static HKM_NOINLINE void event(uint32_t call) {
    if (call % TICK_CALLS == 0)
        decay_tick(life_heap_if_any());
    uint32_t next = TICK_CALLS - call % TICK_CALLS;
    uint32_t walk = options.check_every == 0 ? next : walk_if_due(call);
    next = walk < next ? walk : next;
    to_come = next - 1;
    calls = call + to_come;
}

HKM_INLINE void count_call(void) {
    if (unlikely(to_come == 0))
        event(calls + 1);
    else
        to_come--;
}

static ATOMIC(bool) arena_is_ready; /* life_ready said so, and will always */

static HKM_COLD bool make_ready(void) {
    bool ready = life_ready();
    if (ready)
        atomic_put(&arena_is_ready, true, release);
    return ready;
}

/* False when there is no arena. Then nothing may be had from core either, which would try once more
 * to get one: its block would have no redzone, and those behind it would take it for free. */
HKM_INLINE bool begin(void) {
    if (unlikely(++depth == 2)) { /* a handler must not touch the magazine in the making */
        interrupted = heap_mine;
        heap_mine = &heap_gone;
    }
    return likely(atomic_get(&arena_is_ready, acquire)) || make_ready();
}

/* What core is asked for when the program asks for `bytes`: without records there is no redzone. */
HKM_INLINE size_t with_redzone(size_t bytes) {
    return bytes > PTRDIFF_MAX || !shadow_is_on() ? bytes : bytes + REDZONE_BYTES;
}

/* How many slow paths the thread's heap has taken: fast paths touch no run. */
HKM_INLINE uint32_t slow_paths_of(const struct heap *heap) {
    return (uint32_t)(atomic_get(&heap->stats.fills, relaxed) +
                      atomic_get(&heap->stats.flushes, relaxed) +
                      atomic_get(&heap->stats.drains, relaxed));
}

/* Level 2 for the run of the call's block, where its heap is the caller's own. */
static HKM_NOINLINE void check_run(struct heap *mine, const struct place *place) {
    if (mine->id == 0 || place == NULL || place->class >= CLASS_COUNT ||
        atomic_get(&slot_at(place->slot)->owner, relaxed) != mine->id || !heap_enter_own(mine))
        return;
    if (arena_class_of_slot(place->slot) == place->class &&
        atomic_get(&slot_at(place->slot)->owner, relaxed) == mine->id)
        walk_run(NULL, place->slot, place->class);
    heap_leave_own(mine);
}

HKM_INLINE void end(const struct place *place) {
    if (likely(depth == 1)) {
        struct heap *mine = heap_mine;
        uint32_t now = slow_paths_of(mine);
        if (unlikely(now != slow_paths)) {
            slow_paths = now;
            check_run(mine, place);
        }
        count_call();
    } else if (depth == 2) {
        heap_mine = interrupted;
    }
    depth--;
}

/* ---- redzones ---- */

static const char *wrong_byte(const struct place *place) {
    return guard_check(place->start, atomic_get(&place->record->requested, relaxed), place->bytes);
}

/* The bytes right before a block: its predecessor's last ones, or the gap at the run's start. */
HKM_INLINE bool has_guard_before(const struct place *place) {
    if (place->class >= CLASS_COUNT)
        return false;
    if (place->index == 0)
        return (size_t)(place->start - arena_slot_start(place->slot)) >= REDZONE_BYTES;
    uint32_t word = shadow_word_before(place);
    unsigned state = word & WORD_STATE;
    return state != BLOCK_CHANGING && (state != BLOCK_NEVER || (word & WORD_GUARDED) != 0);
}

static void guard_before(const struct place *place) {
    bool has = has_guard_before(place);
    if (place->index == 0) {
        if (has)
            guard_fill_end(place->start - REDZONE_BYTES, REDZONE_BYTES);
        return;
    }
    if (has)
        return;
    /* A predecessor that was never allocated, or is being so now: then the same bytes are
     * written. */
    struct place before = shadow_neighbour(place, place->index - 1);
    uint32_t raw = atomic_get(&before.record->word, relaxed);
    uint32_t word = shadow_word(&before);
    guard_fill_end(before.start, before.bytes);
    if ((word & WORD_STATE) == BLOCK_NEVER)
        (void)atomic_cas(&before.record->word, &raw,
                         shadow_make_word(&before, BLOCK_NEVER, WORD_GUARDED), release, relaxed);
}

static void note_byte(const struct place *place, const char *wrong) {
    guard_touch(wrong, 1);
    fault_note("first wrong byte at ", wrong, wrong - place->start);
}

static void check_redzones(const struct place *place) {
    const char *wrong = wrong_byte(place);
    if (unlikely(wrong != NULL)) {
        note_byte(place, wrong);
        fault_numbers(INV_B8, REDZONE_BYTE, *(const unsigned char *)wrong, place->start);
    }
    wrong = has_guard_before(place) ? guard_check_end(place->start - REDZONE_BYTES, REDZONE_BYTES)
                                    : NULL;
    if (unlikely(wrong != NULL)) {
        note_byte(place, wrong);
        fault_numbers(INV_B9, REDZONE_BYTE, *(const unsigned char *)wrong, place->start);
    }
}

static void check_poison(enum invariant invariant, const struct place *place) {
    const char *wrong = guard_check_poison(place->start, place->bytes);
    if (unlikely(wrong != NULL)) {
        note_byte(place, wrong);
        fault_numbers(invariant, POISON_BYTE, *(const unsigned char *)wrong, place->start);
    }
}

/* A block that core has taken out of what is free. */
static void check_reused(const struct place *place, uint32_t word) {
    if ((word & WORD_STATE) == BLOCK_FREE && (word & WORD_POISONED) != 0)
        check_poison(INV_B11, place);
}

void check_cleared(const void *block) {
    struct place place;
    if (!shadow_find(block, &place) || place.record == NULL)
        return;
    check_reused(&place, shadow_word(&place));
    guard_open(place.start, place.bytes);
}

/* ---- birth ---- */

static void set_requested(const struct place *place, size_t requested, const void *frame) {
    struct block *record = place->record;
    record->alloc_thread = shadow_thread();
    record->alloc_stack = depot_take(frame);
    record->sequence = shadow_sequence();
    atomic_put(&record->requested, requested, relaxed);
}

static uint32_t align_flags(size_t alignment) { return bits_lowest(alignment) << WORD_ALIGN_SHIFT; }

/* The words of a block that core has just handed out. `clean`: it reads as zeros, and has to. */
static void *born(void *block, size_t requested, size_t alignment, bool clean, const void *frame) {
    struct place place;
    if (!shadow_find(block, &place) || place.record == NULL) {
        end(NULL);
        return block;
    }
    uint32_t word = shadow_word(&place);
    unsigned state = word & WORD_STATE;
    must_hold(B12, state == BLOCK_NEVER || state == BLOCK_FREE, "free", block_state_name[state],
              block);
    if (!clean)
        check_reused(&place, word);
    shadow_take(&place, shadow_make_word(&place, BLOCK_CHANGING, 0));
    guard_before(&place);
    add_overhead(&place, requested);
    set_requested(&place, requested, frame);
    guard_fill(place.start, requested, place.bytes);
    guard_born(place.start, requested, place.bytes, clean);
    atomic_put(&place.record->word, shadow_make_word(&place, BLOCK_LIVE, align_flags(alignment)),
               release);
    if (unlikely(guard_marks && heap_mine->arena_bytes != 0 && place.class < CLASS_COUNT)) {
        struct magazine *m = &heap_mine->magazines[place.class];
        void **top = atomic_get(&m->top, relaxed);
        void **end = m->base + m->room;
        guard_forget(top - 1, end - top > FORGET_MOST ? top + FORGET_MOST : end);
    }
    end(&place);
    return block;
}

/* Without memory: what the quarantine holds may serve. Leaves errno as it was if so. */
static bool another_try(int saved, size_t bytes) {
    if (bytes > PTRDIFF_MAX || quarantine_blocks() == 0)
        return false;
    quarantine_flush();
    errno = saved;
    return true;
}

void *check_aligned(size_t alignment, size_t bytes, const void *frame) {
    int saved = errno;
    if (unlikely(!begin())) {
        end(NULL);
        return alloc_out_of_memory();
    }
    bytes += bytes == 0;
    size_t want = with_redzone(bytes);
    void *block = alloc_aligned(alignment, want);
    if (unlikely(block == NULL) && another_try(saved, bytes))
        block = alloc_aligned(alignment, want);
    if (unlikely(block == NULL)) {
        end(NULL);
        return NULL;
    }
    return born(block, bytes, alignment, false, frame);
}

void *check_malloc(size_t bytes, const void *frame) {
    return check_aligned(BLOCK_ALIGN, bytes, frame);
}

void *check_calloc(size_t bytes, const void *frame) {
    if (bytes <= SMALL_BYTES_MAX - REDZONE_BYTES) {
        void *block = check_malloc(bytes, frame);
        if (block != NULL)
            memset(block, 0, bytes);
        return block;
    }
    int saved = errno;
    if (unlikely(!begin())) {
        end(NULL);
        return alloc_out_of_memory();
    }
    void *block = alloc_zeroed(with_redzone(bytes));
    if (unlikely(block == NULL) && another_try(saved, bytes))
        block = alloc_zeroed(with_redzone(bytes));
    if (unlikely(block == NULL)) {
        end(NULL);
        return NULL;
    }
    return born(block, bytes, BLOCK_ALIGN, true, frame);
}

/* ---- death ---- */

/* A record that says LIVE, for the start of a block; else reports. False: there is no record, and
 * core decides. */
static bool find_live(const char *call, const void *block, struct place *place) {
    if (!arena_contains(block) || !shadow_find(block, place) || place->record == NULL)
        return false;
    unsigned state = shadow_state(place);
    if (state == BLOCK_LIVE && place->start == block)
        return true;
    if (state != BLOCK_LIVE && state != BLOCK_NEVER)
        report_dead(call, block);
    if (place->start != block)
        report_misuse(call, block);
    return false;
}

static bool become(const struct place *place, enum block_state from, enum block_state to,
                   uint32_t flags) {
    uint32_t word = shadow_word(place);
    return (word & WORD_STATE) == from &&
           shadow_replace(place, word, shadow_make_word(place, to, flags | (word & WORD_ALIGN)));
}

static void free_in_core(void *block) { front_free("free", block); }

void check_evict(void *block, size_t *bytes, bool *large) {
    struct place place;
    bool found = shadow_find(block, &place) && place.record != NULL;
    must_hold(B14, found, "a block", "no block", block);
    check_poison(INV_B10, &place);
    must_hold(B14, become(&place, BLOCK_QUARANTINED, BLOCK_FREE, WORD_POISONED), "quarantined",
              block_state_name[shadow_state(&place)], block);
    *bytes = place.bytes;
    *large = place.class >= CLASS_COUNT;
    free_in_core(block);
}

static void must_fit(const char *call, const struct place *place, size_t alignment,
                     const size_t *bytes) {
    size_t has = atomic_get(&place->record->requested, relaxed);
    if (bytes != NULL && *bytes != has && (*bytes > 0 || has > 1))
        report_size(call, place->start, has, *bytes);
    uint32_t word = shadow_word(place);
    size_t aligned = (size_t)1 << ((word & WORD_ALIGN) >> WORD_ALIGN_SHIFT);
    if (alignment != 0 && alignment != aligned &&
        (alignment > BLOCK_ALIGN || aligned > BLOCK_ALIGN))
        report_alignment(call, place->start, aligned, alignment);
}

static void die(const char *call, struct place *place, const void *frame) {
    if (!become(place, BLOCK_LIVE, BLOCK_CHANGING, 0))
        report_dead(call, place->start);
    place->record->free_thread = shadow_thread(); /* a report names this free, not an older one */
    place->record->free_stack = depot_take(frame);
    check_redzones(place);
    sub_overhead(place, atomic_get(&place->record->requested, relaxed));
    guard_poison(place->start, place->bytes);
    guard_died(place->start, place->bytes);
    bool large = place->class >= CLASS_COUNT;
    (void)become(place, BLOCK_CHANGING, BLOCK_QUARANTINED, 0);
    if (quarantine_put(place->start, place->bytes, large))
        return;
    (void)become(place, BLOCK_QUARANTINED, BLOCK_FREE, WORD_POISONED);
    free_in_core(place->start);
}

void check_free(const char *call, void *block, size_t alignment, const size_t *bytes,
                const void *frame) {
    struct place place;
    if (block == NULL)
        return;
    (void)begin();
    if (find_live(call, block, &place)) {
        must_fit(call, &place, alignment, bytes);
        die(call, &place, frame);
        end(&place);
        return;
    }
    if (bytes != NULL)
        alloc_check_size(call, block, with_redzone(*bytes));
    front_free(call, block);
    end(NULL);
}

/* ---- resizing ---- */

/* The block stays, and is now of another size. */
static void resized(struct place *place, size_t old, size_t bytes, const void *frame) {
    set_requested(place, bytes, frame);
    guard_fill(place->start, bytes, place->bytes);
    guard_resized(place->start, old, bytes, place->bytes);
}

/* A large block that stays large: core may move its pages. */
static void *resize_large(struct place *place, size_t old, size_t bytes, const void *frame) {
    char *block = place->start;
    int saved = errno;
    place->record->free_thread = shadow_thread();
    place->record->free_stack = depot_take(frame);
    if (!become(place, BLOCK_LIVE, BLOCK_CHANGING, 0))
        report_dead("realloc", block);
    guard_touch(block + old, place->bytes - old);
    char *to = alloc_resize(block, bytes + REDZONE_BYTES);
    if (to == NULL && another_try(saved, bytes))
        to = alloc_resize(block, bytes + REDZONE_BYTES);
    if (to == NULL || to == block) {
        if (to != NULL) {
            sub_overhead(place, old);
            (void)shadow_find(block, place);
            add_overhead(place, bytes);
            resized(place, old, bytes, frame);
        } else {
            guard_fill(block, old, place->bytes);
        }
        (void)become(place, BLOCK_CHANGING, BLOCK_LIVE, 0);
        end(place);
        return to;
    }
    sub_overhead(place, old);
    (void)become(place, BLOCK_CHANGING, BLOCK_FREE, 0); /* unless its slot has a new run by now */
    guard_died(block, 0);
    (void)born(to, bytes, BLOCK_ALIGN, true, frame);
    if (bytes > old)
        guard_open(to + old, bytes - old);
    return to;
}

/* A block that is long enough stays as it is. */
static void *stay(struct place *place, size_t old, size_t bytes, const void *frame) {
    atomic_add(&overhead[place->class >= CLASS_COUNT], old - bytes, relaxed);
    if (!become(place, BLOCK_LIVE, BLOCK_CHANGING, 0))
        report_dead("realloc", place->start);
    resized(place, old, bytes, frame);
    (void)become(place, BLOCK_CHANGING, BLOCK_LIVE, 0);
    end(place);
    return place->start;
}

static void *resize_by_copy(struct place *place, size_t old, size_t bytes, const void *frame) {
    int saved = errno;
    void *to = check_malloc(bytes, frame);
    if (to == NULL && bytes <= old) { /* as core does */
        errno = saved;
        (void)begin();
        return stay(place, old, bytes, frame);
    }
    if (to == NULL)
        return NULL;
    memcpy(to, place->start, old < bytes ? old : bytes);
    check_free("realloc", place->start, 0, NULL, frame);
    return to;
}

/* A block without a record, or a foreign one. Core alone does not copy it into a small block: whose
 * record would say for so long that it is free, and its neighbours' redzones be written over. */
static void *resize_unrecorded(void *block, size_t bytes, const void *frame) {
    size_t has = arena_contains(block) && shadow_is_on() ? alloc_usable("realloc", block) : 0;
    size_t want = has > 0 && bytes <= PTRDIFF_MAX ? bytes + REDZONE_BYTES : bytes;
    bool stays =
        has > SMALL_BYTES_MAX ? want > SMALL_BYTES_MAX / 2 : want <= has && want >= has / 2;
    if (has == 0 || stays || bytes > PTRDIFF_MAX) {
        void *to = alloc_resize(block, want);
        if (has > 0 && to != NULL && to != block)
            return born(to, bytes, BLOCK_ALIGN, true, frame);
        end(NULL);
        return to;
    }
    end(NULL); /* what follows are calls of their own */
    int saved = errno;
    void *to = check_malloc(bytes, frame);
    if (to == NULL && bytes <= has - REDZONE_BYTES) {
        errno = saved;
        return block;
    }
    if (to == NULL)
        return NULL;
    memcpy(to, block, has - REDZONE_BYTES < bytes ? has - REDZONE_BYTES : bytes);
    check_free("realloc", block, 0, NULL, frame);
    return to;
}

void *check_realloc(void *block, size_t bytes, const void *frame) {
    struct place place;
    (void)begin();
    if (!find_live("realloc", block, &place))
        return resize_unrecorded(block, bytes, frame);
    check_redzones(&place);
    size_t old = atomic_get(&place.record->requested, relaxed);
    size_t want = bytes + REDZONE_BYTES;
    if (bytes > PTRDIFF_MAX) {
        end(NULL);
        return alloc_out_of_memory();
    }
    if (place.class >= CLASS_COUNT && want > SMALL_BYTES_MAX / 2)
        return resize_large(&place, old, bytes, frame);
    if (place.class < CLASS_COUNT && want <= place.bytes && want >= place.bytes / 2)
        return stay(&place, old, bytes, frame);
    end(NULL); /* what follows are calls of their own */
    return resize_by_copy(&place, old, bytes, frame);
}

bool check_expand(void *block, size_t bytes, const void *frame) {
    struct place place;
    (void)begin();
    bool done;
    if (!find_live("expand", block, &place)) {
        done = alloc_expand(block, arena_contains(block) ? with_redzone(bytes) : bytes);
    } else {
        size_t old = atomic_get(&place.record->requested, relaxed);
        check_redzones(&place);
        done = bytes <= old;
        if (!done && bytes <= PTRDIFF_MAX) {
            if (!become(&place, BLOCK_LIVE, BLOCK_CHANGING, 0))
                report_dead("expand", block);
            guard_touch(place.start + old, place.bytes - old);
            done = alloc_expand(block, bytes + REDZONE_BYTES);
            sub_overhead(&place, old);
            (void)shadow_find(block, &place);
            bytes = done ? bytes : old;
            add_overhead(&place, bytes);
            resized(&place, old, bytes, frame);
            (void)become(&place, BLOCK_CHANGING, BLOCK_LIVE, 0);
        }
    }
    end(NULL);
    return done;
}

/* ---- questions ---- */

size_t check_usable(const char *call, const void *block) {
    struct place place;
    if (find_live(call, block, &place))
        return atomic_get(&place.record->requested, relaxed);
    size_t bytes = alloc_usable(call, block);
    /* Without a record, but with room for a redzone: the block behind it may make it one. */
    return arena_contains(block) && shadow_is_on() ? bytes - REDZONE_BYTES : bytes;
}

bool check_owns(const void *pointer) {
    struct place place;
    if (!alloc_owns(pointer))
        return false;
    if (!shadow_find(pointer, &place) || place.record == NULL)
        return true;
    size_t offset = (size_t)((const char *)pointer - place.start);
    size_t bytes = atomic_get(&place.record->requested, relaxed);
    return shadow_state(&place) == BLOCK_LIVE && (offset < bytes || offset == 0);
}

size_t check_good_size(size_t bytes) {
    return alloc_good_size(bytes) != 0 ? bytes + (bytes == 0) : 0;
}

void check_flush(void) {
    if (begin())
        quarantine_flush();
    end(NULL);
}

/* A call like any other: a signal handler in the midst of it must not touch the magazines, nor walk
 * through slots that are claimed while they are purged. */
size_t check_purge(void) {
    size_t bytes = 0;
    if (begin()) {
        quarantine_flush();
        bytes = decay_all(life_heap_if_any());
    }
    end(NULL);
    return bytes;
}

size_t check_heap(void) {
    size_t live = walk_all(NULL);
    size_t dead = HKM_CHECK_LEVEL >= 1 ? quarantine_blocks() : 0;
    return live > dead ? live - dead : 0;
}
