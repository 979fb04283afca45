/* invariants.h -- the registry: every invariant that a check can find broken, by its number.
 * Purpose     one table: number, keyword of the report's first line, level, the function that
 *             checks it, one line of text. `make invariants` prints it; docs/INVARIANTS.md is
 *             generated from it; ci/gate-invariants.sh holds it against the opening comments of
 *             the headers, the places that cite numbers, and sanity/negative.
 * Levels      1  O(1) at the operation: hkm_require (every build), hkm_assert and the block checks
 *                (debug build)
 *             2  walks the run that the operation touched (debug build)
 *             3  walks the whole heap: hkm_heap_check (every build), every `check_every` operations
 *                (debug build). What a lower level checks of a run or block, the walk checks too.
 * Numbers     A arena, C size classes, U SuperSlabs, S slots and runs, P pool, H heaps and packets,
 *             F front caches, L large blocks and the big cache, N counters, B blocks (debug build:
 *             the shadow beside the data).
 */
#ifndef HKM_CHECK_INVARIANTS_H
#define HKM_CHECK_INVARIANTS_H

#include "base/config.h"

/* X(number, keyword, level, function, text) */
/* clang-format off */
#define INVARIANTS_ARENA(X) \
    X(A1, "maps-committed", 3, walk_commits, \
      "a slot's records and maps are committed before its SuperSlab is taken") \
    X(A2, "unused-class", 3, walk_unused, "class_map[s] == 0 for every slot that is in no run") \
    X(A3, "live-elsewhere", 3, walk_live_map, \
      "the live byte of a granule is 0 wherever no live block starts") \
    X(A4, "committed", 3, walk_commits, "a committed range is never decommitted") \
    X(A5, "live-mark", 3, walk_blocks, "a block's live byte is 0 or its mark") \
    X(A6, "live-unused", 3, walk_unused, "no live byte is set in an UNUSED slot") \
    X(A7, "range-end", 3, walk_arena, \
      "the range is as long as it says, and starts at a multiple of a SuperSlab") \
    X(A8, "slot-count", 3, walk_arena, "slot_count is the range in slots") \
    X(A9, "superslab-count", 3, walk_arena, "superslab_count is the range in SuperSlabs") \
    X(A10, "live-shift", 3, walk_arena, "the low six bits of live[g] are g") \
    X(A11, "metadata-used", 3, walk_arena, "metadata: used <= committed <= reserved") \
    X(A12, "guard-slot", 3, walk_arena, "slot 0 is in no run and never free for the claiming") \
    X(A13, "class-entry", 3, walk_slots, \
      "a class map entry is the offset of a class's magazine") \
    X(A14, "live-large", 3, walk_large, "no live byte is set in the first slot of a large run") \
    X(C1, "class-smallest", 3, walk_classes, \
      "sizeclass_of(n) is the smallest class whose size is at least n") \
    X(C2, "class-multiple", 3, walk_classes, "every size is a multiple of 16") \
    X(C3, "class-index", 3, walk_classes, \
      "sizeclass_index is exact for every offset inside a run") \
    X(C4, "class-granule", 3, walk_classes, \
      "a block's first byte lies in a granule (of the live map) of its own: 1 << " \
      "live_shift <= size") \
    X(C5, "class-fast", 3, walk_classes, \
      "the table of small requests names the class that sizeclass_of does") \
    X(C6, "class-run", 3, walk_classes, \
      "a run is a power of two of slots, up to a SuperSlab, and holds its capacity")

#define INVARIANTS_SUPERSLAB(X) \
    X(U1, "avail-unused", 3, walk_sets, \
      "avail => unused == 0 (its slots are claimed through avail only)") \
    X(U2, "clean-zero", 3, walk_unused, "a slot that is not dirty reads as zeros") \
    X(U3, "unused-state", 1, walk_unused, \
      "unused & class map: a slot whose bit is set has class 0 and state UNUSED") \
    X(U4, "idle-dirty", 3, walk_sets, \
      "the sum of dirty slots that nobody holds == superslab_idle_dirty()") \
    X(U5, "warm-avail", 3, walk_sets, "warm => avail") \
    X(U6, "warm-dirty", 3, walk_sets, "avail => (warm <=> dirty != 0)") \
    X(U7, "open-missing", 3, walk_sets, "not avail and unused != 0 => open") \
    X(U8, "open-stale", 3, walk_sets, "open => not avail and unused != 0") \
    X(U9, "top", 3, walk_sets, "nothing at or above superslab_top() is held") \
    X(U10, "known", 3, walk_sets, \
      "top <= known <= superslab_count, and no bit is set at or above known") \
    X(U11, "first-avail", 3, walk_sets, \
      "nothing below first_avail is available, in a process that never had two threads") \
    X(U12, "run-dirty", 2, walk_run, "every slot of a run is dirty") \
    X(U13, "held-committed", 3, walk_sets, "what is held is committed, and warm is") \
    X(U14, "avail-empty", 3, walk_sets, "an available SuperSlab has no run in it") \
    X(U15, "held-slot", 3, walk_slots, \
      "a slot whose bit is clear, in a SuperSlab that is held, belongs to a run")

#define INVARIANTS_SLOT(X) \
    X(S1, "free-count", 2, walk_run, \
      "free_count == bits set in the bitmap <= capacity") \
    X(S2, "partial-list", 3, walk_run, \
      "ACTIVE with free_count > 0 <=> in its owner's list of partial runs") \
    X(S3, "empty-full", 2, walk_run, "EMPTY => free_count == capacity") \
    X(S4, "stray-bits", 2, walk_run, \
      "no bit at or above capacity is set, none below word `first`") \
    X(S5, "one-place", 1, walk_blocks, \
      "a block's bit is set => its live byte is 0, and it is in no magazine or packet") \
    X(S6, "run-class", 2, walk_run, "a run's record and the class map name the same class") \
    X(S7, "slot-state", 2, walk_run, "a run of a class is ACTIVE or EMPTY") \
    X(S8, "capacity", 2, walk_run, \
      "capacity is what the run's length, colour and class make it") \
    X(S9, "start", 2, walk_run, "the first block lies at the run's colour") \
    X(S10, "bits-place", 2, walk_run, \
      "the bitmap is the record's own up to 512 blocks, else the slot's of the arena") \
    X(S11, "run-length", 2, walk_run, "a run of a class has that class's length") \
    X(S12, "owner", 2, walk_run, "an ACTIVE run is owned by a heap that exists") \
    X(S13, "run-entries", 2, walk_run, "every slot of a run has the run's class") \
    X(S14, "run-held", 2, walk_run, "no slot of a run is free for the claiming") \
    X(S15, "tail-state", 2, walk_run, "only a run's first slot has a state") \
    X(S16, "history", 1, watch_slot, \
      "each transition of a slot's state starts where the last one ended") \
    X(S24, "history-state", 3, walk_records, \
      "a slot's state is where its last transition ended") \
    X(S17, "list-links", 3, walk_bins, \
      "prev and next of a list of partial runs agree, and head and tail end it") \
    X(S18, "listed-owner", 3, walk_bins, "a run in a heap's list is owned by that heap") \
    X(S19, "listed-state", 3, walk_bins, "a run in a list of partial runs is ACTIVE") \
    X(S20, "listed-class", 3, walk_bins, "a run in a class's list is of that class") \
    X(S21, "listed-free", 3, walk_bins, "a run in a list of partial runs has a free block") \
    X(S22, "run-aligned", 3, walk_slots, "a run of a class starts at a multiple of its length") \
    X(S23, "run-owner", 3, walk_extent, \
      "the class map names the run's owner at each of its slots")

#define INVARIANTS_POOL(X) \
    X(P1, "pool-run", 1, walk_pool, \
      "a run on a stage 1 stack is EMPTY, has no owner and has the stack's class") \
    X(P2, "pool-bound", 3, walk_pool, \
      "a stack holds at most 1 MiB of runs, one more, and one a thread") \
    X(P3, "pool-count", 3, walk_pool, "a stack's count is its length") \
    X(P4, "pool-number", 3, walk_pool, "a stack names slots of the arena") \
    X(P5, "pool-lost", 3, walk_pool, "an EMPTY run without an owner is on a stack")

#define INVARIANTS_HEAP(X) \
    X(H1, "magazine-top", 1, walk_magazine, "base <= top <= base + cap, for classes that exist") \
    X(H2, "run-owner", 1, heap_take_from_runs, \
      "only the heap that owns a run touches its bitmap, counts and links") \
    X(H3, "kept-empty", 1, walk_bins, "at most one EMPTY run a class is kept (stage 0)") \
    X(H4, "floor-limit", 3, walk_magazine, \
      "floor is base and limit base + cap, or they are armed") \
    X(H5, "magazine-cap", 3, walk_magazine, \
      "0 < cap <= cap_max, cap <= room, which is a length that arrays grow to") \
    X(H6, "magazine-live", 3, walk_magazine, "a magazine's live map and away are its class's") \
    X(H7, "cached-class", 3, walk_cached, \
      "a cached block lies in a run of the class that it is cached for") \
    X(H8, "cached-start", 3, walk_cached, \
      "a cached block's address is where a block of its run starts") \
    X(H9, "cached-once", 3, walk_cached, \
      "a block is in one magazine or packet at most, and there once") \
    X(H10, "array-place", 3, walk_magazine, \
      "a magazine's array lies behind its heap's record, below next_array, or is a long one") \
    X(H11, "heap-copies", 3, walk_heap, "a heap's copies of the arena's fields are the arena's") \
    X(H12, "heap-number", 3, walk_heap, "heaps[n] has the number n") \
    X(H13, "heap-state", 3, walk_heap, \
      "a heap is OWNED, ORPHAN or LOST, and only an OWNED one has a thread") \
    X(H14, "orphan-bit", 3, walk_heap, "a heap's bit in `orphans` is set <=> it is an ORPHAN") \
    X(H15, "heap-none", 3, walk_heaps, \
      "heap_none and heap_gone are all zeros where the fast paths look") \
    X(H16, "packet-group", 3, walk_grouped, \
      "a packet in a group's inbox or stash is of that group, and so is each of its blocks") \
    X(H17, "packet-count", 3, walk_packet, \
      "a packet in an inbox or stash holds 1 to 62 blocks") \
    X(H18, "packet-place", 3, walk_packet_place, "a packet lies in the arena's metadata") \
    X(H19, "packet-ring", 3, walk_packet_list, "a list of packets ends") \
    X(H20, "away", 3, walk_away, \
      "what is gathered for others is in a packet, at most 62 blocks") \
    X(H21, "packet-stock", 3, walk_heap, "a heap keeps as many packets as it says") \
    X(F1, "live-byte", 1, walk_cached, \
      "a block leaves a magazine with its live byte set to its mark, and enters it, or a " \
      "packet, with the byte 0") \
    X(F2, "hot", 3, walk_magazine, "a magazine that is not empty has its last block in `hot`")

#define INVARIANTS_LARGE(X) \
    X(L1, "large-head", 1, walk_large, \
      "the class map has LARGE_HEAD at a large run's first slot and LARGE_TAIL at its others") \
    X(L2, "large-bytes", 3, walk_large, \
      "large_bytes <= run_slots * SLOT_BYTES, a multiple of the page size") \
    X(L3, "cached-entry", 1, walk_cache, \
      "a CACHED run is in exactly one entry of the big cache, or in somebody's hands") \
    X(L4, "large-state", 3, walk_large, "a large run is LARGE or CACHED") \
    X(L5, "large-length", 3, walk_large, \
      "a large run has at least one slot, and ends inside the range") \
    X(L6, "large-held", 3, walk_large, "no slot of a large run is free for the claiming") \
    X(L7, "large-dirty", 3, walk_large, "every slot of a LARGE run is dirty") \
    X(L8, "cache-run", 3, walk_cache, "an entry of the big cache names a CACHED run") \
    X(L9, "cache-length", 3, walk_cache, "an entry of the big cache knows the run's length") \
    X(L10, "cache-twice", 3, walk_cache, "no run is in two entries of the big cache")

#define INVARIANTS_COUNTERS(X) \
    X(N1, "committed-bytes", 3, walk_counters, \
      "committed bytes == SuperSlabs whose bit in `committed` is set") \
    X(N2, "warm-count", 3, walk_counters, "warm_count == bits set in `warm`") \
    X(N3, "orphan-count", 3, walk_counters, "orphan_count == bits set in `orphans`") \
    X(N4, "heap-count", 3, walk_counters, "every number below heaps_used is a heap's") \
    X(N5, "inbox-bytes", 3, walk_inbox, \
      "inbox_bytes == the blocks' bytes in a heap's inboxes, as each packet says") \
    X(N6, "large-blocks", 3, walk_counters, "large_blocks() == number of LARGE runs") \
    X(N7, "large-live-bytes", 3, walk_counters, \
      "large_bytes() == sum of large_bytes over LARGE runs") \
    X(N8, "cache-bytes", 3, walk_counters, \
      "large_cached_bytes() == bytes of the runs in the big cache") \
    X(N9, "run-blocks", 3, walk_run, "capacity == free + cached + live blocks of a run") \
    X(N10, "remote-counts", 3, walk_counters, \
      "a heap sends 1 to 62 blocks a packet: remote_packets <= remote_frees <= 62 * " \
      "remote_packets")
/* clang-format on */

#define INVARIANTS_BLOCKS(X)                                                                     \
    X(B1, "double-free", 1, check_free, "what is freed is live, and is freed once")              \
    X(B2, "interior", 1, check_free, "what is freed, resized or asked about is a block's start") \
    X(B3, "no-block", 1, check_free, "what is freed, resized or asked about was allocated")      \
    X(B4, "foreign", 1, foreign_free,                                                            \
      "an address outside the arena is freed only if glibc allocated it")                        \
    X(B5, "size", 1, check_free, "free_sized is told the size that was asked for")               \
    X(B6, "alignment", 1, check_free,                                                            \
      "free_aligned_sized is told the alignment that was asked for")                             \
    X(B7, "dead-block", 1, check_realloc, "what is resized or asked about is live")

/* Of the shadow beside the data. */
#define INVARIANTS_SHADOW(X)                                                                 \
    X(B8, "redzone-after", 1, check_redzones,                                                \
      "nobody writes behind the bytes that were asked for")                                  \
    X(B9, "redzone-before", 1, check_redzones, "nobody writes before a block's first byte")  \
    X(B10, "write-after-free", 1, check_evict, "nobody writes to a block in the quarantine") \
    X(B11, "write-before-reuse", 1, check_reused, "nobody writes to a block that is free")   \
    X(B12, "handed-out", 1, born,                                                            \
      "a block that core hands out is not live, nor in the quarantine")                      \
    X(B13, "record-live", 3, walk_records,                                                   \
      "a record is LIVE or QUARANTINED <=> core holds the block for live")                   \
    X(B14, "quarantined", 1, quarantine_walk,                                                \
      "a block in the quarantine has a record that says so")                                 \
    X(B15, "quarantine-bytes", 3, quarantine_walk,                                           \
      "the quarantine's bytes are the sum over its blocks")                                  \
    X(B16, "quarantine-count", 3, quarantine_walk,                                           \
      "the quarantine's count is the number of its blocks")                                  \
    X(B17, "record-size", 3, walk_records,                                                   \
      "a live block's size asked for leaves room for its redzone")                           \
    X(B18, "record-align", 3, walk_records, "a live block is aligned as was asked for")      \
    X(B19, "record-stack", 3, walk_records, "a record names stacks that are kept")           \
    X(B20, "record-state", 3, walk_records, "a record is in one of its states")

#define INVARIANTS_EVERY_BUILD(X) \
    INVARIANTS_ARENA(X)           \
    INVARIANTS_SUPERSLAB(X)       \
    INVARIANTS_SLOT(X)            \
    INVARIANTS_POOL(X)            \
    INVARIANTS_HEAP(X)            \
    INVARIANTS_LARGE(X)           \
    INVARIANTS_COUNTERS(X)        \
    INVARIANTS_BLOCKS(X)
#define INVARIANTS(X)         \
    INVARIANTS_EVERY_BUILD(X) \
    INVARIANTS_SHADOW(X)

#define INVARIANT_ENUM(number, keyword, level, function, text) INV_##number,
enum invariant { INVARIANTS(INVARIANT_ENUM) INVARIANT_COUNT };

struct invariant_row {
    const char *number, *keyword, *text;
};
struct invariant_row invariant_row(enum invariant which);

/* The one that a citation such as "S1 free count" names; INVARIANT_COUNT when there is none. */
enum invariant invariant_cited(const char *citation);

#endif
