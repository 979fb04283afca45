/* quarantine.c -- a ring of addresses; see quarantine.h. */
#include "check/quarantine.h"

#include "check/check.h"
#include "check/fault.h"
#include "check/shadow.h"
#include "core/options.h"
#include "hakmem/hakmem.h"

#define ENTRIES 65536u

typedef ATOMIC(void *) entry;
static ATOMIC(entry *) ring; /* NULL at first: another thread may flush before the start ends */
static ATOMIC(uint64_t) head; /* the oldest */
static ATOMIC(uint64_t) tail; /* where the next goes */
/* [0] small blocks, [1] large ones */
static ATOMIC(size_t) held_bytes[2];
static ATOMIC(size_t) held_blocks[2];

void quarantine_start(void) {
    size_t bytes = ENTRIES * sizeof(entry);
    void *start = options.quarantine_kib == 0 ? NULL : os_reserve(bytes);
    if (start == NULL)
        return;
    if (os_commit(start, bytes) == 0)
        atomic_put(&ring, start, release);
    else
        os_unreserve(start, bytes);
}

size_t quarantine_bytes(void) {
    return atomic_get(&held_bytes[0], relaxed) + atomic_get(&held_bytes[1], relaxed);
}
size_t quarantine_blocks(void) {
    return atomic_get(&held_blocks[0], relaxed) + atomic_get(&held_blocks[1], relaxed);
}

static void evict(void *block) {
    size_t bytes;
    bool large;
    check_evict(block, &bytes, &large);
    atomic_sub(&held_bytes[large], bytes, relaxed);
    atomic_sub(&held_blocks[large], 1, relaxed);
}

/* Evicts the oldest; false when there is none. */
static bool pop(entry *entries) {
    uint64_t at = atomic_get(&head, relaxed);
    do {
        if (at == atomic_get(&tail, relaxed))
            return false;
    } while (!atomic_cas_weak(&head, &at, at + 1, relaxed, relaxed));
    void *block = atomic_swap(&entries[at % ENTRIES], NULL, acquire); /* pairs with put's release */
    if (block != NULL)
        evict(block);
    return true;
}

bool quarantine_put(void *block, size_t bytes, bool large) {
    size_t limit = (size_t)options.quarantine_kib << 10;
    entry *entries = atomic_get(&ring, acquire);
    if (entries == NULL || bytes > limit / 4)
        return false;
    atomic_add(&held_bytes[large], bytes, relaxed);
    atomic_add(&held_blocks[large], 1, relaxed);
    uint64_t at = atomic_add(&tail, 1, relaxed);
    void *oldest = atomic_swap(&entries[at % ENTRIES], block, acq_rel);
    if (oldest != NULL)
        evict(oldest); /* the ring is full, or its evictor was slower than a whole turn */
    while (quarantine_bytes() > limit && pop(entries)) {
    }
    return true;
}

void quarantine_flush(void) {
    entry *entries = atomic_get(&ring, acquire);
    while (entries != NULL && pop(entries)) {
    }
}

static uint64_t less(uint64_t n, uint64_t by) { return n > by ? n - by : 0; }

void quarantine_stats(struct hkm_stats *stats) {
    size_t dead = atomic_get(&held_bytes[0], relaxed) + check_overhead(false);
    stats->small_blocks_live = less(stats->small_blocks_live, atomic_get(&held_blocks[0], relaxed));
    stats->small_bytes_live = less(stats->small_bytes_live, dead);
    stats->bytes_cached += dead;
    dead = atomic_get(&held_bytes[1], relaxed) + check_overhead(true);
    stats->large_blocks_live = less(stats->large_blocks_live, atomic_get(&held_blocks[1], relaxed));
    stats->large_bytes_live = less(stats->large_bytes_live, dead);
    stats->bytes_large_cached += dead;
}

void quarantine_walk(void) {
    size_t bytes = 0;
    size_t blocks = 0;
    entry *entries = atomic_get(&ring, acquire);
    for (size_t i = 0; entries != NULL && i < ENTRIES; i++) {
        void *block = atomic_get(&entries[i], relaxed);
        struct place place;
        if (block == NULL)
            continue;
        must_hold(B14, arena_contains(block) && shadow_find(block, &place) && place.record != NULL,
                  "a block", "no block", block);
        must_hold(B14, shadow_state(&place) == BLOCK_QUARANTINED, "quarantined",
                  block_state_name[shadow_state(&place)], block);
        bytes += place.bytes;
        blocks++;
    }
    must_equal(B15, bytes, quarantine_bytes(), held_bytes);
    must_equal(B16, blocks, quarantine_blocks(), held_blocks);
}

struct quarantine_innards quarantine_innards(void) {
    return (struct quarantine_innards){&held_bytes[0], &held_blocks[0]};
}
