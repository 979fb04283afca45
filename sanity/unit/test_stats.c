/* test_stats.c -- what is counted against a model that knows every live block. */
#include "unit/unit.inc"

#include "core/options.h"

#include <errno.h>

#include "core/heap.h"
#include "core/stats.h"

static struct hkm_stats stats;

static void collect(void) {
    memset(&stats, 0xee, sizeof stats);
    stats.struct_bytes = sizeof stats;
    check(hkm_stats_get(&stats) == 0 && stats.struct_bytes == sizeof stats);
}

#define SLOTS 600u

struct model {
    void *blocks[SLOTS];
    size_t small, small_bytes, large, large_bytes;
};
static struct model model;

/* A large block that shrinks may stay one below SMALL_BYTES_MAX: ask the class map. */
static void count(const void *block, bool up) {
    size_t one = up ? 1 : SIZE_MAX;
    size_t usable = hkm_malloc_usable_size(block);
    if (arena_class_of_slot(arena_slot_of(block)) < CLASS_COUNT) {
        model.small += one;
        model.small_bytes += one * usable;
    } else {
        model.large += one;
        model.large_bytes += one * usable;
    }
}

static void check_live(void) {
    collect();
    check(stats.small_blocks_live == model.small, "%llu of %zu",
          (unsigned long long)stats.small_blocks_live, model.small);
    check(stats.small_bytes_live == model.small_bytes);
    check(stats.large_blocks_live == model.large && stats.large_bytes_live == model.large_bytes);
}

static void step(uint64_t *state) {
    size_t k = unit_below(state, SLOTS);
    size_t bytes = unit_below(state, (size_t)1 << (4 + unit_below(state, 17)));
    if (model.blocks[k] == NULL) {
        model.blocks[k] = hkm_malloc(bytes);
        check(model.blocks[k] != NULL);
    } else if (unit_below(state, 3) == 0) {
        count(model.blocks[k], false);
        model.blocks[k] = hkm_realloc(model.blocks[k], bytes + 1);
        check(model.blocks[k] != NULL);
    } else {
        count(model.blocks[k], false);
        hkm_free(model.blocks[k]);
        model.blocks[k] = NULL;
        return;
    }
    count(model.blocks[k], true);
}

Test(stats, before_the_first_block_everything_is_zero) {
    collect();
    check(stats.small_blocks_live == 0 && stats.heaps == 0 && stats.bytes_reserved == 0);
    check(stats.bytes_committed == 0 && stats.calls_mmap == 0);
}

Test(stats, live_blocks_and_bytes_are_exact_through_a_random_mix) {
    check(setenv("HAKMEM_ARENA_MIB", "4096", 1) == 0);
    uint64_t state = unit_seed();
    for (size_t i = 0; i < unit_repeats(60000, 3000); i++) {
        step(&state);
        if (i % 200 == 0)
            check_live();
    }
    check(model.small > 0 && model.large > 0, "the mix had both kinds");
    for (size_t k = 0; k < SLOTS; k++)
        hkm_free(model.blocks[k]);
    collect();
    check(stats.small_blocks_live == 0 && stats.small_bytes_live == 0);
    check(stats.large_blocks_live == 0 && stats.large_bytes_live == 0);
    (void)hkm_purge();
    collect();
    check(stats.bytes_cached == 0 && stats.bytes_free == 0 && stats.bytes_large_cached == 0);
    check(stats.slots_active == 0 && stats.slots_empty == 0 && stats.superslabs_live == 0);
    check(stats.superslabs_cached == 0 && stats.bytes_returned > 0 && stats.bytes_reserved > 0);
}

static size_t free_of_others(unsigned number, void *shared) {
    (void)shared;
    /* A thread without a heap would borrow one for its first frees. Not a small block: the next
     * thread could find it in the magazine, and its run with a heap that has inherited that. */
    hkm_free(hkm_malloc(MIB(1)));
    for (size_t k = number; k < SLOTS; k += 8)
        hkm_free(model.blocks[k]);
    return 0;
}

Test(stats, live_blocks_are_exact_with_packets_under_way) {
    options.quarantine_kib = 0; /* in the checked build dead blocks would not be sent home at once */
    for (size_t k = 0; k < SLOTS; k++) {
        model.blocks[k] = hkm_malloc(100 + k);
        count(model.blocks[k], true);
    }
    check_live();
    for (size_t k = 0; k < SLOTS; k++)
        if (k % 8 < 4)
            count(model.blocks[k], false);
    check(unit_run_threads(4, free_of_others, NULL) == 0);
    check_live(); /* the threads' ends sent them home: they wait in the inbox */
    check(stats.remote_frees == SLOTS / 2 && stats.remote_packets > 0 && stats.bytes_cached > 0);
    check(stats.heaps >= 2 && stats.heaps_orphan == stats.heaps - 1);
    (void)hkm_purge();
    check_live();
}

/* More comes home than the owner's next fill wants: what is over stays in its stash. */
Test(stats, live_blocks_are_exact_with_packets_in_a_stash) {
    options.quarantine_kib = 0;
    options.fill_batch = 4;
    options.drain_interval = options.purge_delay_ms = 3600000; /* nothing else opens packets */
    for (size_t k = 0; k < SLOTS; k++) {
        model.blocks[k] = hkm_malloc(200);
        count(model.blocks[k], true);
    }
    for (size_t k = 0; k < SLOTS; k++)
        if (k % 8 < 4)
            count(model.blocks[k], false);
    check(unit_run_threads(4, free_of_others, NULL) == 0);
    unsigned class = arena_class_of_slot(arena_slot_of(model.blocks[7]));
    size_t k = 0;
    for (; heap_mine->bins[class].stash == NULL && k < SLOTS; k += 8) {
        model.blocks[k] = hkm_malloc(200); /* what the magazine had, then a fill */
        count(model.blocks[k], true);
    }
    check(heap_mine->bins[class].stash != NULL, "the fill took no packets");
    check_live();
}

Test(stats, free_and_cached_bytes_and_live_ones_are_all_of_a_classs_runs) {
    size_t live = 0;
    for (int i = 0; i < 1000; i++) {
        void *block = hkm_malloc(200);
        live += hkm_malloc_usable_size(block);
        if (i % 3 == 0) {
            live -= hkm_malloc_usable_size(block);
            hkm_free(block);
        }
    }
    collect();
    size_t all = stats.bytes_free + stats.bytes_cached + stats.small_bytes_live;
    check(stats.small_bytes_live == live && stats.slots_active >= 1);
    check(all <= (stats.slots_active + stats.slots_empty) * SLOT_BYTES);
    check(all * 10 >= (stats.slots_active + stats.slots_empty) * SLOT_BYTES * 9, "%zu", all);
}

Test(stats, every_slot_is_counted_at_the_stage_it_came_from) {
    void *blocks[400];
    for (int i = 0; i < 400; i++)
        blocks[i] = hkm_malloc(KIB(64));
    collect();
    uint64_t sum = stats.slots_stage[1] + stats.slots_stage[2] + stats.slots_stage[3];
    check(sum == stats.slots_active && stats.slots_stage[0] == 0);
    check(stats.slots_stage[3] >= 10 && stats.slots_stage[3] <= stats.superslabs_live);
    check(stats.fills > 0 && stats.flushes == 0);
    for (int i = 0; i < 400; i++)
        hkm_free(blocks[i]);
    collect();
    check(stats.flushes > 0);
}

Test(stats, large_blocks_from_the_cache_are_counted_as_hits) {
    for (int i = 0; i < 10; i++)
        hkm_free(hkm_malloc(MIB(3)));
    collect();
    check(stats.large_allocs == 10 && stats.large_hits == 9);
    size_t redzone = HKM_CHECK_LEVEL >= 1 ? 1 : 0;
    check(stats.bytes_large_cached == round_up(MIB(3) + redzone, SLOT_BYTES));
    check(stats.large_blocks_live == 0);
}

Test(stats, a_short_structure_is_filled_as_far_as_it_goes) {
    unsigned char small[sizeof stats];
    hkm_free(hkm_malloc(10));
    for (size_t bytes = 0; bytes <= sizeof stats; bytes++) {
        struct hkm_stats *short_one = (struct hkm_stats *)(void *)&stats;
        memset(&stats, 0xee, sizeof stats);
        short_one->struct_bytes = bytes;
        int error = hkm_stats_get(short_one);
        check(error == (bytes < sizeof stats.struct_bytes ? EINVAL : 0), "%zu", bytes);
        memcpy(small, &stats, sizeof stats);
        for (size_t i = bytes < 8 ? 8 : bytes; i < sizeof stats; i++)
            check(small[i] == 0xee, "%zu bytes: byte %zu was written", bytes, i);
        check(error != 0 || short_one->struct_bytes == bytes);
    }
}

Test(stats, printing_names_every_row_once_and_allocates_nothing) {
    hkm_free(hkm_malloc(10));
    FILE *file = tmpfile();
    collect();
    uint64_t live = stats.small_blocks_live;
    stats_print(fileno(file));
    collect();
    check(stats.small_blocks_live == live);
    rewind(file);
    char line[200];
    int rows = 0;
    for (; fgets(line, sizeof line, file) != NULL; rows++)
        check(rows == 0 || (strncmp(line, "  ", 2) == 0 && line[strlen(line) - 1] == '\n'));
    check(rows == 34, "%d rows", rows);
    (void)fclose(file);
}
