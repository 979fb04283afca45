/* stats.c -- see stats.h. */
#include "core/stats.h"

#include <string.h>

#include "base/text.h"
#include "core/heap.h"
#include "core/large.h"
#include "core/superslab.h"
#include "core/watch.h"

/* A heap's counts stand in the order in which the public structure begins with their sums. */
#define FIELD(field) offsetof(struct hkm_stats, field) / sizeof(uint64_t)
#define COUNTS (sizeof(struct heap_stats) / sizeof(uint64_t))
#define SUMMED(field) \
    (offsetof(struct heap_stats, field) / sizeof(uint64_t) == FIELD(field) - FIELD(slots_stage))
_Static_assert(SUMMED(slots_stage) && SUMMED(fills) && SUMMED(flushes) && SUMMED(drains) &&
                   SUMMED(remote_frees) && SUMMED(remote_packets) && SUMMED(large_allocs) &&
                   SUMMED(large_hits) && SUMMED(adoptions),
               "counts and sums are in one order");
_Static_assert(FIELD(calls_mremap) - FIELD(calls_mmap) == OS_MREMAP - OS_MMAP, "as enum os_call");

static void count_blocks(size_t *cached, unsigned group, void *const *blocks, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        unsigned class = packet_class_of(group, blocks[i]);
        if (class < CLASS_COUNT) /* else the metadata are damaged */
            cached[class]++;
    }
}

static void count_packets(size_t *cached, const struct packet *packet) {
    for (; packet != NULL; packet = atomic_get(&packet->next, relaxed))
        count_blocks(cached, packet->group, packet->blocks, packet->count);
}

/* What is in a heap's magazines and packets, by class. */
static void collect_heap(struct hkm_stats *stats, struct heap *heap, size_t *cached) {
    const ATOMIC(uint64_t) *counts = heap->stats.slots_stage;
    uint64_t *sums = (uint64_t *)(void *)stats + FIELD(slots_stage);
    for (size_t i = 0; i < COUNTS; i++)
        sums[i] += atomic_get(&counts[i], relaxed);
    if (!heap_try_enter(heap)) { /* busy: then the counts are not exact in any case */
        stats->bytes_cached += atomic_get(&heap->inbox_bytes, relaxed);
        return;
    }
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        struct magazine *m = &heap->magazines[class];
        cached[class] += (size_t)(atomic_get(&m->top, relaxed) - m->base);
        const struct away *away = &heap->away[class];
        if (away->packet != NULL)
            count_blocks(cached, class, away->packet->blocks, atomic_get(&away->count, acquire));
        count_packets(cached, heap->bins[class].stash);
        /* Only the lock's holder takes packets out: they stay while we look. */
        count_packets(cached, atomic_get(&heap->inbox[class], acquire));
    }
    heap_leave(heap);
}

static void collect_superslab(struct hkm_stats *stats, uint32_t number, size_t *in_use) {
    uint32_t unused = atomic_get(&superslab_at(number)->unused, relaxed);
    bool live = false;
    for (uint32_t s = 0; s < SUPERSLAB_SLOTS;) {
        uint32_t slot_no = number * SUPERSLAB_SLOTS + s;
        unsigned class = arena_class_of_slot(slot_no);
        uint32_t step = 1;
        if ((unused >> s & 1) == 0 && class != 0) {
            live = true;
            const struct slot *slot = slot_at(slot_no);
            enum slot_state state = slot_state(slot_no);
            if (class < CLASS_COUNT) {
                step = sizeclass_table[class].run_slots;
                unsigned capacity = slot_capacity(class, slot_no);
                unsigned free_blocks = slot_free(slot);
                if (free_blocks > capacity) /* it is of another class by now */
                    free_blocks = capacity;
                stats->slots_active += state == SLOT_ACTIVE;
                stats->slots_empty += state == SLOT_EMPTY;
                stats->bytes_free += free_blocks * sizeclass_bytes(class);
                in_use[class] += capacity - free_blocks;
            }
        }
        s += step;
    }
    stats->superslabs_live += live;
}

void stats_collect(struct hkm_stats *stats) {
    size_t cached[CLASS_COUNT] = {0};
    size_t in_use[CLASS_COUNT] = {0};
    stats->heaps = heap_count();
    stats->heaps_orphan = heap_orphans();
    struct heap *aside = heap_step_aside();
    for (uint32_t i = 0; i < heap_count(); i++) {
        struct heap *heap = heap_by_number(i);
        if (heap != NULL)
            collect_heap(stats, heap, cached);
    }
    heap_step_back(aside);
    for (uint32_t i = 0; arena_bytes() != 0 && i < superslab_top(); i++) {
        if (superslab_in_use(i))
            collect_superslab(stats, i, in_use);
    }
    for (unsigned class = 1; class < CLASS_COUNT; class++) {
        size_t live = in_use[class] > cached[class] ? in_use[class] - cached[class] : 0;
        stats->small_blocks_live += live;
        stats->small_bytes_live += live * sizeclass_bytes(class);
        stats->bytes_cached += cached[class] * sizeclass_bytes(class);
    }
    stats->large_blocks_live = large_blocks();
    stats->large_bytes_live = large_bytes();
    stats->bytes_large_cached = large_cached_bytes();
    stats->superslabs_cached = superslab_warm_count();
    stats->bytes_returned = superslab_returned_bytes();
    stats->bytes_reserved = arena_bytes();
    stats->bytes_committed = superslab_committed_bytes();
    stats->bytes_metadata = arena_metadata_bytes();
    if (HKM_CHECK_LEVEL >= 1)
        watch_stats(stats);
    uint64_t *calls = (uint64_t *)(void *)stats + FIELD(calls_mmap);
    for (enum os_call call = 0; call < OS_CALLS; call++)
        calls[call] = os_call_count(call);
}

/* ---- printing ---- */

#define BYTES 128u /* the row is a number of bytes */

/* ROW(name, field, 0 or BYTES) */
#define ROWS(ROW) \
    ROW("live small blocks", small_blocks_live, 0)              \
    ROW("live small bytes", small_bytes_live, BYTES)            \
    ROW("live large blocks", large_blocks_live, 0)              \
    ROW("live large bytes", large_bytes_live, BYTES)            \
    ROW("cached in magazines and packets", bytes_cached, BYTES) \
    ROW("free in slots", bytes_free, BYTES)                     \
    ROW("big cache", bytes_large_cached, BYTES)                 \
    ROW("returned to the OS", bytes_returned, BYTES)            \
    ROW("committed", bytes_committed, BYTES)                    \
    ROW("metadata committed", bytes_metadata, BYTES)            \
    ROW("SuperSlabs live", superslabs_live, 0)                  \
    ROW("SuperSlabs cached (LRU)", superslabs_cached, 0)        \
    ROW("slot runs active", slots_active, 0)                    \
    ROW("slot runs empty", slots_empty, 0)                      \
    ROW("slots from stage 0 (own EMPTY)", slots_stage[0], 0)    \
    ROW("slots from stage 1 (EMPTY list)", slots_stage[1], 0)   \
    ROW("slots from stage 2 (UNUSED)", slots_stage[2], 0)       \
    ROW("slots from stage 3 (SuperSlab)", slots_stage[3], 0)    \
    ROW("fills", fills, 0)                                      \
    ROW("flushes", flushes, 0)                                  \
    ROW("drains", drains, 0)                                    \
    ROW("blocks freed remotely", remote_frees, 0)               \
    ROW("packets that carried them", remote_packets, 0)         \
    ROW("large blocks allocated", large_allocs, 0)              \
    ROW("of these from the big cache", large_hits, 0)           \
    ROW("heaps", heaps, 0)                                      \
    ROW("heaps without a thread", heaps_orphan, 0)              \
    ROW("heaps adopted", adoptions, 0)                          \
    ROW("mmap calls", calls_mmap, 0)                            \
    ROW("munmap calls", calls_munmap, 0)                        \
    ROW("mprotect calls", calls_mprotect, 0)                    \
    ROW("madvise calls", calls_madvise, 0)                      \
    ROW("mremap calls", calls_mremap, 0)

#define NAME(name, field, bytes) name "\0"
#define VALUE(name, field, bytes) FIELD(field) | (bytes),
static const char names[] = ROWS(NAME);
static const uint8_t values[] = {ROWS(VALUE)};
_Static_assert(sizeof(struct hkm_stats) / sizeof(uint64_t) <= BYTES, "a field's number fits");

void stats_print(int fd) {
    union {
        struct hkm_stats stats;
        uint64_t fields[sizeof(struct hkm_stats) / sizeof(uint64_t)];
    } all;
    memset(&all, 0, sizeof all);
    stats_collect(&all.stats);
    static const char head[] = "hakmem statistics\n";
    os_write(fd, head, sizeof head - 1);
    const char *name = names;
    for (size_t i = 0; i < sizeof values; i++, name += strlen(name) + 1) {
        struct text line = {0};
        text_add(&line, "  ");
        text_add(&line, name);
        text_column(&line, 34);
        uint64_t value = all.fields[values[i] & ~BYTES];
        if (values[i] & BYTES)
            text_bytes(&line, value);
        else
            text_dec(&line, value);
        text_add(&line, "\n");
        os_write(fd, line.chars, line.used);
    }
}
