/* stats.c -- see stats.h. */
#include "core/stats.h"

#include <string.h>

#include "base/text.h"
#include "core/heap.h"
#include "core/large.h"
#include "core/superslab.h"
#include "core/watch.h"

#define SUM(field) stats->field += atomic_get(&heap->stats.field, relaxed)

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
    for (int i = 0; i < 4; i++)
        SUM(slots_stage[i]);
    SUM(fills);
    SUM(flushes);
    SUM(drains);
    SUM(remote_frees);
    SUM(remote_packets);
    SUM(large_allocs);
    SUM(large_hits);
    SUM(adoptions);
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
    stats->calls_mmap = os_call_count(OS_MMAP);
    stats->calls_munmap = os_call_count(OS_MUNMAP);
    stats->calls_mprotect = os_call_count(OS_MPROTECT);
    stats->calls_madvise = os_call_count(OS_MADVISE);
    stats->calls_mremap = os_call_count(OS_MREMAP);
}

/* ---- printing ---- */

#define ROW(field) offsetof(struct hkm_stats, field) / sizeof(uint64_t)
#define BYTES 128u /* the row is a number of bytes */

static const struct {
    char name[32];
    uint8_t field;
} rows[] = {
    {"live small blocks", ROW(small_blocks_live)},
    {"live small bytes", ROW(small_bytes_live) | BYTES},
    {"live large blocks", ROW(large_blocks_live)},
    {"live large bytes", ROW(large_bytes_live) | BYTES},
    {"cached in magazines and packets", ROW(bytes_cached) | BYTES},
    {"free in slots", ROW(bytes_free) | BYTES},
    {"big cache", ROW(bytes_large_cached) | BYTES},
    {"returned to the OS", ROW(bytes_returned) | BYTES},
    {"committed", ROW(bytes_committed) | BYTES},
    {"metadata committed", ROW(bytes_metadata) | BYTES},
    {"SuperSlabs live", ROW(superslabs_live)},
    {"SuperSlabs cached (LRU)", ROW(superslabs_cached)},
    {"slot runs active", ROW(slots_active)},
    {"slot runs empty", ROW(slots_empty)},
    {"slots from stage 0 (own EMPTY)", ROW(slots_stage[0])},
    {"slots from stage 1 (EMPTY list)", ROW(slots_stage[1])},
    {"slots from stage 2 (UNUSED)", ROW(slots_stage[2])},
    {"slots from stage 3 (SuperSlab)", ROW(slots_stage[3])},
    {"fills", ROW(fills)},
    {"flushes", ROW(flushes)},
    {"drains", ROW(drains)},
    {"blocks freed remotely", ROW(remote_frees)},
    {"packets that carried them", ROW(remote_packets)},
    {"large blocks allocated", ROW(large_allocs)},
    {"of these from the big cache", ROW(large_hits)},
    {"heaps", ROW(heaps)},
    {"heaps without a thread", ROW(heaps_orphan)},
    {"heaps adopted", ROW(adoptions)},
    {"mmap calls", ROW(calls_mmap)},
    {"munmap calls", ROW(calls_munmap)},
    {"mprotect calls", ROW(calls_mprotect)},
    {"madvise calls", ROW(calls_madvise)},
    {"mremap calls", ROW(calls_mremap)},
};
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
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct text line = {0};
        text_add(&line, "  ");
        text_add(&line, rows[i].name);
        text_column(&line, 34);
        uint64_t value = all.fields[rows[i].field & ~BYTES];
        if (rows[i].field & BYTES)
            text_bytes(&line, value);
        else
            text_dec(&line, value);
        text_add(&line, "\n");
        os_write(fd, line.chars, line.used);
    }
}
