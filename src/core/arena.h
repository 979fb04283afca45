/* arena.h -- the one reserved range of addresses, and the maps that describe it.
 * Purpose     reserves the range, commits it piece by piece, and says in O(1) what an address is:
 *             class_map[slot] -> class, live map -> is this the start of a live block, slot record,
 *             SuperSlab record. Hands out memory for heaps and packets. Nothing else in core
 *             reserves memory, and nothing but this and superslab.c commits any for the first time.
 *
 *     Everything lies in one mapping. Each of the four pairs grows from its origin both ways, so
 *     that the first piece of both is committed by a single call; no map is inside user data.
 *
 *       [ SuperSlab records <-|-> live map, 16-byte granules  ]
 *       [ block bitmaps     <-|-> live map, 32-byte granules  ]
 *       [ slot records      <-|-> live map, 128-byte granules ]
 *       [ metadata (heaps, packets) ->                        ]
 *       [ class map         <-|-> SuperSlabs                  ]
 *
 *     The class map is looked up from the end of the range: entry (arena.last - p) >> 16. Slot 0 is
 *     never used: it keeps user data 64 KiB away from the class map, and lets 0 mean "none".
 *
 * Live map    one byte a granule. 0: no live block starts in it. Otherwise it is
 *             0x80 | (address & 0x7f) of the one block that does (C4 in sizeclass.h), so that one
 *             comparison tells a live block's start from any other address, misaligned ones too.
 * Invariants  A1. a slot's records and maps are committed before its SuperSlab is taken
 *             A2. class_map[s] == 0 for every slot that is in no run
 *             A3. the live byte of a granule is 0 wherever no live block starts
 *             A4. a committed range is never decommitted
 * Ownership   struct arena never changes after arena_init. Class map and live bytes are written by
 *             whoever holds the slot or the block, and read by anyone.
 * Ordering    a block's class and live byte reach another thread by the same way as its address.
 *             The release of `bytes` at the end of arena_init pairs with the acquire in
 *             arena_bytes, for threads that ask about a pointer before they ever allocated.
 */
#ifndef HKM_CORE_ARENA_H
#define HKM_CORE_ARENA_H

#include "core/sizeclass.h"
#include "os/os.h"

struct slot;
struct superslab;

/* Plain bytes: only the holder of a block touches its byte, in a program without errors, and what
 * hands the block to another thread hands the byte over too. */
typedef uint8_t live_byte;

/* Of every slot in a run: who owns the run (0: nobody) and its class, which is the offset of the
 * class's magazine in the owner's heap. The owner is a hint for frees: a thread that sees its own
 * number there pushes the block to its magazine, any other sends it home; what may have changed
 * meanwhile is found out when the block is put into a bitmap (slot->owner). */
typedef ATOMIC(uint32_t) class_entry;
#define CLASS_ENTRY_OWNER_SHIFT 16
#define CLASS_ENTRY(owner, class) ((owner) << CLASS_ENTRY_OWNER_SHIFT | (class) << MAGAZINE_SHIFT)
_Static_assert(CLASS_MAP_VALUES << MAGAZINE_SHIFT < 1 << CLASS_ENTRY_OWNER_SHIFT, "both fit");
_Static_assert(HEAPS_MAX < 1 << 16, "so does the owner");

struct arena {
    uintptr_t last;               /* address of the last byte of the range */
    ATOMIC(size_t) bytes;         /* length of the range; 0 before arena_init has set the rest */
    class_entry *class_map;       /* entry of the last slot */
    uintptr_t base;               /* first byte, aligned to SUPERSLAB_BYTES */
    struct slot *slots;           /* record of slot s is slots[-1 - s] */
    struct superslab *superslabs; /* record of SuperSlab i is superslabs[-1 - i] */
    uint64_t *bitmaps;            /* bitmap of slot s ends at bitmaps - 64 * s */
    char *metadata;               /* start of the heaps and packets */
    uintptr_t live[8]; /* live byte of p with granule 1 << g: live[g] + (p >> g); the low six
                               bits of live[g] are g, so that one load gives both */
    uint32_t slot_count;
    uint32_t superslab_count;
};

extern struct arena arena;

/* Reserves the range: at most `bytes_max`, or by halves as much as the limits allow. Returns 0 or
 * an errno value; not to be called twice at once, nor again after it returned 0. */
int arena_init(size_t bytes_max);

/* Commits what describes slots [first, first + count). Returns 0 or an errno value. */
int arena_commit_maps(size_t first, size_t count);

/* Gives the pages back that describe slots [first, first + count), which nobody holds: every byte
 * of their records and live maps may read as 0 from then on. */
HKM_COLD void arena_purge_maps(size_t first, size_t count);

/* Memory for metadata: zeroed, aligned to 64 bytes, never given back. NULL when there is none. */
void *arena_take_metadata(size_t bytes);
/* Likewise, for what one can do without: NULL when less than three quarters would be left. */
void *arena_take_spare_metadata(size_t bytes);
/* Bytes of maps, records and metadata that are committed. */
size_t arena_metadata_bytes(void);

/* The module's variables, for the checker alone. */
struct arena_innards {
    ATOMIC(uint64_t) * chunks_committed; /* a bit for META_CHUNK_SLOTS slots */
    ATOMIC(size_t) * metadata_used, *metadata_committed;
    size_t metadata_bytes;
};
struct arena_innards arena_innards(void);

/* 0 before there is one; else everything in `arena` may be read. */
HKM_INLINE size_t arena_bytes(void) { return atomic_get(&arena.bytes, acquire); }
HKM_INLINE bool arena_contains(const void *p) {
    size_t bytes = arena_bytes();
    return bytes != 0 && arena.last - (uintptr_t)p < bytes;
}
/* Number of the slot that an address of the range lies in. */
HKM_INLINE uint32_t arena_slot_of(const void *p) {
    return (uint32_t)(((uintptr_t)p - arena.base) >> SLOT_SHIFT);
}
HKM_INLINE char *arena_slot_start(uint32_t slot) {
    return (char *)(arena.base + ((uintptr_t)slot << SLOT_SHIFT));
}
HKM_INLINE class_entry *arena_class_entry(uint32_t slot) {
    return &arena.class_map[arena.slot_count - 1 - slot];
}
HKM_INLINE unsigned arena_class_of_slot(uint32_t slot) {
    return (uint16_t)atomic_get(arena_class_entry(slot), relaxed) >> MAGAZINE_SHIFT;
}
HKM_INLINE uint32_t arena_owner_of_slot(uint32_t slot) {
    return atomic_get(arena_class_entry(slot), relaxed) >> CLASS_ENTRY_OWNER_SHIFT;
}
HKM_INLINE live_byte *arena_live_byte(unsigned class, const void *p) {
    unsigned granule = sizeclass_table[class].live_shift;
    return (live_byte *)(arena.live[granule] + ((uintptr_t)p >> granule));
}
/* The walk of the checked build reads bytes that other threads write; nothing else does. */
HKM_INLINE uint8_t live_get(const live_byte *live) {
    if (HKM_CHECK_LEVEL >= 1)
        return atomic_get((const ATOMIC(uint8_t) *)live, relaxed);
    return *live;
}
HKM_INLINE void live_set(live_byte *live, uint8_t mark) {
    if (HKM_CHECK_LEVEL >= 1)
        atomic_put((ATOMIC(uint8_t) *)live, mark, relaxed);
    else
        *live = mark;
}
/* What the live byte of a live block's start holds. */
HKM_INLINE uint8_t arena_live_mark(const void *p) { return (uint8_t)((uintptr_t)p | 0x80); }

#endif
