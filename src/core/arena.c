/* arena.c -- reserving and committing; see arena.h for the map of the range.
 * Locking     lock-free: a commit is idempotent, so that two threads may do the same one.
 * Ordering    release when a chunk's bit is set pairs with acquire when it is tested.
 */
#include "core/arena.h"

#include <errno.h>

#include "base/bitset.h"
#include "core/slot.h"
#include "core/superslab.h"

struct arena arena;

enum { PAIR_SUPERSLABS, PAIR_BITMAPS, PAIR_SLOTS, PAIR_CLASSES, PAIRS };

/* Bytes that each side of a pair holds for one slot. */
static const struct {
    size_t down, up;
} per_slot[PAIRS] = {
    [PAIR_SUPERSLABS] = {sizeof(struct superslab) / SUPERSLAB_SLOTS, SLOT_BYTES >> 4},
    [PAIR_BITMAPS] = {SLOT_BLOCKS_MAX / 8, SLOT_BYTES >> 5},
    [PAIR_SLOTS] = {sizeof(struct slot), SLOT_BYTES >> 7},
    [PAIR_CLASSES] = {sizeof(class_entry), 0}, /* its upper side is the SuperSlabs */
};

#define GUARD_BYTES KIB(64)
#define LIVE_SLACK 64u /* see live_map */
#define METADATA_STEP KIB(256)
#define SPARE_FROM MIB(64) /* bytes of blocks */

static char *origins[PAIRS];
static bitset_word chunks_committed[ARENA_BYTES_MAX / SLOT_BYTES / META_CHUNK_SLOTS / 64 + 1];
static ATOMIC(size_t) maps_bytes;

/* A range that the system would not take back after a start that failed: the next start uses it. */
static char *kept;
static size_t kept_bytes;

static size_t metadata_bytes;
static ATOMIC(size_t) metadata_used;
static ATOMIC(size_t) metadata_committed;

static size_t metadata_reserve(size_t data_bytes) {
    size_t bytes = data_bytes / 32;
    return bytes < MIB(4) ? MIB(4) : bytes;
}

/* Cuts a mapping of sufficient length; returns its length when start is NULL. */
static size_t lay_out(char *start, size_t data_bytes) {
    size_t slots = data_bytes >> SLOT_SHIFT;
    size_t at = 0;
    for (int i = 0; i < PAIRS; i++) {
        if (i == PAIR_CLASSES) {
            arena.metadata = start == NULL ? NULL : start + at;
            metadata_bytes = metadata_reserve(data_bytes);
            at += metadata_bytes + GUARD_BYTES;
        }
        at += round_up(slots * per_slot[i].down, GUARD_BYTES);
        if (i == PAIR_CLASSES) /* the data's base is aligned, whatever the mapping's is */
            at = start == NULL
                     ? at + SUPERSLAB_BYTES
                     : round_up((uintptr_t)start + at, SUPERSLAB_BYTES) - (uintptr_t)start;
        origins[i] = start == NULL ? NULL : start + at;
        at += i == PAIR_CLASSES ? data_bytes : slots * per_slot[i].up + LIVE_SLACK;
        at = round_up(at, GUARD_BYTES) + GUARD_BYTES;
    }
    return at;
}

static int commit(char *from, char *to) {
    size_t page = os_page_bytes();
    uintptr_t start = round_down((uintptr_t)from, page);
    uintptr_t end = round_up((uintptr_t)to, page);
    if (start == end)
        return 0;
    return os_commit((void *)start, end - start);
}

/* Commits one chunk of every map, and sets its bit; chunk 0 together with the first SuperSlab. */
static int commit_chunk(size_t chunk) {
    size_t first = chunk * META_CHUNK_SLOTS;
    size_t end = first + META_CHUNK_SLOTS;
    if (end > arena.slot_count)
        end = arena.slot_count;
    for (int i = 0; i < PAIRS; i++) {
        char *low = origins[i] - end * per_slot[i].down;
        char *high = origins[i] + end * per_slot[i].up + (per_slot[i].up != 0 ? LIVE_SLACK : 0);
        int error;
        if (chunk == 0) {
            error = commit(low, i == PAIR_CLASSES ? high + SUPERSLAB_BYTES : high);
        } else {
            error = commit(low, origins[i] - first * per_slot[i].down);
            if (error == 0 && per_slot[i].up != 0)
                error = commit(origins[i] + first * per_slot[i].up, high);
        }
        if (error != 0)
            return error;
    }
    uint64_t bit = bitset_bit(chunk); /* counted once, however often it was tried */
    if ((atomic_or(&chunks_committed[chunk >> 6], bit, release) & bit) == 0)
        for (int i = 0; i < PAIRS; i++)
            atomic_add(&maps_bytes, (end - first) * (per_slot[i].down + per_slot[i].up), relaxed);
    return 0;
}

/* Moves a live map up by less than 64 bytes, so that its base has the shift in its low bits. */
static uintptr_t live_map(const char *origin, unsigned granule) {
    uintptr_t live = (uintptr_t)origin - (arena.base >> granule);
    return live + ((granule - live) & 63);
}

/* Where not as much is to be had as was asked for, and it is not little, a quarter as much is left
 * to the program, for its threads' stacks and its files: of a limit nothing might remain. */
static char *reserve(size_t total, size_t bytes, bool limited) {
    size_t left = limited && bytes >= SPARE_FROM ? bytes / 4 : 0;
    char *start = os_reserve(total + left);
    if (start != NULL && left > 0)
        (void)os_unreserve(start + total, left);
    return start;
}

int arena_init(size_t bytes_max) {
    size_t bytes = bytes_max > ARENA_BYTES_MAX ? ARENA_BYTES_MAX : bytes_max;
    bytes = round_down(bytes, SUPERSLAB_BYTES);
    char *start = kept;
    if (start != NULL)
        bytes = kept_bytes;
    size_t total = lay_out(NULL, bytes);
    bool limited = false;
    while (start == NULL && bytes >= ARENA_BYTES_MIN) {
        total = lay_out(NULL, bytes);
        start = reserve(total, bytes, limited);
        limited = true;
        if (start == NULL)
            bytes = round_down(bytes / 2, SUPERSLAB_BYTES);
    }
    if (start == NULL)
        return ENOMEM;
    (void)lay_out(start, bytes);
    arena.base = (uintptr_t)origins[PAIR_CLASSES];
    arena.last = arena.base + bytes - 1;
    arena.slot_count = (uint32_t)(bytes >> SLOT_SHIFT);
    arena.superslab_count = (uint32_t)(bytes >> SUPERSLAB_SHIFT);
    arena.slots = (struct slot *)(void *)origins[PAIR_SLOTS];
    arena.superslabs = (struct superslab *)(void *)origins[PAIR_SUPERSLABS];
    arena.bitmaps = (uint64_t *)(void *)origins[PAIR_BITMAPS];
    arena.class_map = (class_entry *)(void *)origins[PAIR_CLASSES] - arena.slot_count;
    arena.live[4] = live_map(origins[PAIR_SUPERSLABS], 4);
    arena.live[5] = live_map(origins[PAIR_BITMAPS], 5);
    arena.live[7] = live_map(origins[PAIR_SLOTS], 7);
    /* Readable throughout: a wild pointer into the range has a class too, 0. */
    size_t map_bytes = round_up(arena.slot_count * sizeof(class_entry), GUARD_BYTES);
    int error = os_readable(origins[PAIR_CLASSES] - map_bytes, map_bytes);
    if (error == 0)
        error = commit_chunk(0);
    if (error != 0) {
        kept = os_unreserve(start, total) == 0 ? NULL : start;
        kept_bytes = bytes;
        return error;
    }
    superslab_init();
    atomic_put(&arena.bytes, bytes, release);
    return 0;
}

int arena_commit_maps(size_t first, size_t count) {
    size_t end = (first + count + META_CHUNK_SLOTS - 1) / META_CHUNK_SLOTS;
    for (size_t chunk = first / META_CHUNK_SLOTS; chunk < end; chunk++) {
        if ((atomic_get(&chunks_committed[chunk >> 6], acquire) & bitset_bit(chunk)) != 0)
            continue;
        int error = commit_chunk(chunk);
        if (error != 0)
            return error;
    }
    return 0;
}

/* Whole pages within [from, to) only. */
static void purge_inside(char *from, char *to) {
    size_t page = os_page_bytes();
    uintptr_t start = round_up((uintptr_t)from, page);
    uintptr_t end = round_down((uintptr_t)to, page);
    if (start < end)
        (void)os_purge((void *)start, end - start);
}

void arena_purge_maps(size_t first, size_t count) {
    size_t end = first + count;
    for (int i = 0; i < PAIRS; i++) {
        if (i == PAIR_BITMAPS || i == PAIR_SLOTS)
            purge_inside(origins[i] - end * per_slot[i].down,
                         origins[i] - first * per_slot[i].down);
        if (per_slot[i].up != 0)
            purge_inside(origins[i] + first * per_slot[i].up + LIVE_SLACK,
                         origins[i] + end * per_slot[i].up);
    }
}

void *arena_take_metadata(size_t bytes) {
    bytes = round_up(bytes, 64);
    size_t at = atomic_get(&metadata_used, relaxed);
    do {
        if (bytes > metadata_bytes || at > metadata_bytes - bytes)
            return NULL;
        size_t have = atomic_get(&metadata_committed, acquire);
        while (have < at + bytes) {
            size_t want = round_up(at + bytes, METADATA_STEP);
            if (want > metadata_bytes)
                want = metadata_bytes;
            if (commit(arena.metadata + have, arena.metadata + want) != 0)
                return NULL;
            if (atomic_cas(&metadata_committed, &have, want, release, acquire))
                have = want;
        }
    } while (!atomic_cas_weak(&metadata_used, &at, at + bytes, relaxed, relaxed));
    return arena.metadata + at;
}

void *arena_take_spare_metadata(size_t bytes) {
    size_t spare = metadata_bytes / 4;
    size_t used = atomic_get(&metadata_used, relaxed);
    return used >= spare || bytes > spare - used ? NULL : arena_take_metadata(bytes);
}

size_t arena_metadata_bytes(void) {
    return atomic_get(&maps_bytes, relaxed) + atomic_get(&metadata_committed, relaxed);
}

struct arena_innards arena_innards(void) {
    return (struct arena_innards){chunks_committed, &metadata_used, &metadata_committed,
                                  metadata_bytes};
}
