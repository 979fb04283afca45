/* sizeclass.c -- the table of size classes.
 * Purpose     the table is written by the preprocessor from three formulas: the size of a class,
 *             the run it is carved from, and the granule of its live map.
 * Invariants  C1..C4 in sizeclass.h; sanity/unit/test_sizeclass.c goes through every size.
 */
#include "core/sizeclass.h"

/* Size of class c; d is the doubling above 128 bytes that c lies in. */
#define D(c) ((c) < 9 ? 0 : ((c)-9) / 8)
#define BYTES(c) ((c) < 9 ? 16u * (c) : (128u << D(c)) + (((c)-9) % 8 + 1) * (16u << D(c)))

/* A run is the shortest power of two of slots that holds at least 8 blocks (4 above 32 KiB) and
 * leaves at most an eighth of itself over. What is left over is address space, not memory. */
#define FITS(c, k)                                             \
    ((k)*65536u / BYTES(c) >= (BYTES(c) > 32768u ? 4u : 8u) && \
     (k)*65536u % BYTES(c) <= (k)*65536u / 8)
#define RUN(c)           \
    (FITS(c, 1)    ? 1u  \
     : FITS(c, 2)  ? 2u  \
     : FITS(c, 4)  ? 4u  \
     : FITS(c, 8)  ? 8u  \
     : FITS(c, 16) ? 16u \
                   : 32u)

/* Three granules are in use, each with a live map of its own (arena.h). */
#define GRANULE(c) ((c) == 1 ? 4u : (c) < 8 ? 5u : 7u)

#define ROW(c)                                                       \
    [c] = {BYTES(c), RUN(c), RUN(c) * 65536u / BYTES(c), GRANULE(c), \
           ((UINT64_C(1) << 42) + BYTES(c) - 1) / BYTES(c)},
#define ROWS8(c) ROW(c) ROW(c + 1) ROW(c + 2) ROW(c + 3) ROW(c + 4) ROW(c + 5) ROW(c + 6) ROW(c + 7)

const struct sizeclass sizeclass_table[CLASS_COUNT] = {ROWS8(1) ROWS8(9) ROWS8(17) ROWS8(25) ROWS8(
    33) ROWS8(41) ROWS8(49) ROWS8(57) ROWS8(65) ROWS8(73) ROWS8(81) ROWS8(89)};

_Static_assert(BYTES(8) == 128 && BYTES(9) == 144 && BYTES(16) == 256, "the steps join at 128");
_Static_assert(BYTES(CLASS_COUNT - 1) == SMALL_BYTES_MAX, "the last class is the largest");
_Static_assert(SLOT_BYTES / BYTES(1) == SLOT_BLOCKS_MAX, "class 1 has the most blocks in a slot");

/* Class by 16-byte steps, as the offset of its magazine. */
#define OF(i)                           \
    ((i) <= 8    ? ((i) == 0 ? 1 : (i)) \
     : (i) <= 16 ? 9 + ((i)-9)          \
     : (i) <= 32 ? 17 + ((i)-17) / 2    \
     : (i) <= 64 ? 25 + ((i)-33) / 4    \
                 : 33 + ((i)-65) / 8)
#define E(i) (uint16_t)(OF(i) << MAGAZINE_SHIFT),
#define E8(i) E(i) E(i + 1) E(i + 2) E(i + 3) E(i + 4) E(i + 5) E(i + 6) E(i + 7)
#define E64(i) E8(i) E8(i + 8) E8(i + 16) E8(i + 24) E8(i + 32) E8(i + 40) E8(i + 48) E8(i + 56)

const uint16_t sizeclass_fast[FAST_BYTES_MAX / 16 + 1] = {E64(0) E64(64) E(128)};

unsigned sizeclass_of_aligned(size_t bytes, size_t alignment) {
    if (bytes < alignment)
        bytes = alignment;
    if (bytes > SMALL_BYTES_MAX || alignment > SLOT_BYTES)
        return 0;
    unsigned class = sizeclass_of(bytes);
    while (class < CLASS_COUNT && (sizeclass_table[class].bytes & (alignment - 1)) != 0)
        class ++;
    return class < CLASS_COUNT ? class : 0;
}

size_t sizeclass_colour(unsigned class, size_t run_number) {
    const struct sizeclass *sc = &sizeclass_table[class];
    /* Natural alignment is kept: the step is the largest power of two in the size. */
    size_t step = (size_t)1 << bits_lowest(sc->bytes);
    if (step < 64)
        step = 64;
    size_t room = sc->run_slots * SLOT_BYTES - (size_t)sc->capacity * sc->bytes;
    if (room < SLOT_BYTES / 64 && sc->bytes <= SLOT_BYTES / 64)
        room = SLOT_BYTES / 64; /* gives up a block or a few: 1.6 % of address space */
    size_t colours = room / step + 1;
    if (colours > 64)
        colours = 64;
    return step * ((run_number * 7) % colours);
}
