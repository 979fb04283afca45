/* sizeclass.c -- the table of size classes.
 * Purpose     the table is written by the preprocessor from three formulas: the size of a class,
 *             the run it is carved from, and the granule of its live map.
 * Invariants  C1..C4 in sizeclass.h; sanity/unit/test_sizeclass.c goes through every size.
 */
#include "core/sizeclass.h"

/* Size of class c; D is the doubling above 128 bytes that c lies in, W that above 32 KiB. */
#define D(c) ((c) < 9u || (c) > 72u ? 0u : ((c)-9u) / 8u)
#define W(c) ((c) < 73u ? 0u : ((c)-73u) / 4u)
#define BYTES(c)                                                         \
    ((c) < 9u    ? 16u * (c)                                             \
     : (c) < 73u ? (128u << D(c)) + (((c)-9u) % 8u + 1u) * (16u << D(c)) \
                 : (32768u << W(c)) + (((c)-73u) % 4u + 1u) * (8192u << W(c)))

/* A run is the shortest power of two of slots that holds at least 8 blocks (4 above 32 KiB) and
 * leaves at most an eighth of itself over. What is left over is address space, not memory. */
#define FITS(bytes, k) \
    ((k)*65536u / (bytes) >= ((bytes) > 32768 ? 4u : 8u) && (k)*65536u % (bytes) <= (k)*65536u / 8)
#define RUN(bytes)           \
    (FITS(bytes, 1)    ? 1u  \
     : FITS(bytes, 2)  ? 2u  \
     : FITS(bytes, 4)  ? 4u  \
     : FITS(bytes, 8)  ? 8u  \
     : FITS(bytes, 16) ? 16u \
                       : 32u)

/* Three granules are in use, each with a live map of its own (arena.h). */
#define GRANULE(c) ((c) == 1 ? 4u : (c) < 8 ? 5u : 7u)

/* clang-format off */
#define TEN(X, t)                                                                              \
    X(t##0) X(t##1) X(t##2) X(t##3) X(t##4) X(t##5) X(t##6) X(t##7) X(t##8) X(t##9)
#define EACH_CLASS(X)                                                                          \
    X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) TEN(X, 1) TEN(X, 2) TEN(X, 3) TEN(X, 4)       \
    TEN(X, 5) TEN(X, 6) TEN(X, 7) X(80) X(81) X(82) X(83) X(84)
/* clang-format on */

/* Each size and each run once, by name. (Written out wherever they are used the table is 1.2 MB,
 * and clang-tidy takes 35 s of CPU for it.) */
#define SIZE(c) BYTES_##c = BYTES(c##u),
#define SLOTS(c) RUN_##c = RUN(BYTES_##c),
#define ROW(c)                                                           \
    [c] = {BYTES_##c, RUN_##c, RUN_##c * 65536u / BYTES_##c, GRANULE(c), \
           ((UINT64_C(1) << 42) + BYTES_##c - 1) / BYTES_##c},

/* clang-format off */
enum { EACH_CLASS(SIZE) };
enum { EACH_CLASS(SLOTS) };
const struct sizeclass sizeclass_table[CLASS_COUNT] = {EACH_CLASS(ROW)};
/* clang-format on */

_Static_assert(BYTES_8 == 128 && BYTES_9 == 144 && BYTES_16 == 256, "the steps join at 128");
_Static_assert(BYTES_72 == KIB(32) && BYTES_73 == KIB(40), "and at 32 KiB");
_Static_assert(BYTES_32 == KIB(1) && BYTES_64 == KIB(16), "packet groups");
_Static_assert(BYTES(CLASS_COUNT - 1) == SMALL_BYTES_MAX, "the last class is the largest");
_Static_assert(SLOT_BYTES / BYTES_1 == SLOT_BLOCKS_MAX, "class 1 has the most blocks in a slot");

/* Class by 16-byte steps, as the offset of its magazine. */
#define OF(i)                              \
    ((i) <= 8u    ? ((i) == 0u ? 1u : (i)) \
     : (i) <= 16u ? (i)                    \
     : (i) <= 32u ? 17u + ((i)-17u) / 2u   \
     : (i) <= 64u ? 25u + ((i)-33u) / 4u   \
                  : 33u + ((i)-65u) / 8u)
#define E(i) (uint16_t)(OF(i) << MAGAZINE_SHIFT),
#define E8(i) E(i) E(i + 1u) E(i + 2u) E(i + 3u) E(i + 4u) E(i + 5u) E(i + 6u) E(i + 7u)
#define E64(i) \
    E8(i) E8(i + 8u) E8(i + 16u) E8(i + 24u) E8(i + 32u) E8(i + 40u) E8(i + 48u) E8(i + 56u)

const uint16_t sizeclass_fast[FAST_BYTES_MAX / 16 + 1] = {E64(0u) E64(64u) E(128u)};

unsigned sizeclass_of_aligned(size_t bytes, size_t alignment) {
    if (bytes < alignment)
        bytes = alignment;
    if (bytes > SMALL_BYTES_MAX || alignment > SLOT_BYTES)
        return 0;
    unsigned class = sizeclass_of(bytes);
    while (class < CLASS_COUNT && (sizeclass_table[class].bytes & (alignment - 1)) != 0)
        class++;
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
