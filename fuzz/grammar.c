/* grammar.c -- reading, printing and making records; see grammar.h. */
#include "grammar.h"

#include <string.h>

static const uint8_t OP_ALIAS[32 - OPS] = {OP_MALLOC, OP_FREE, OP_REALLOC, OP_FREE, OP_MALLOC};

static const char *const OP_NAMES[OPS] = {"malloc",
                                          "calloc",
                                          "realloc",
                                          "reallocarray",
                                          "aligned_alloc",
                                          "posix_memalign",
                                          "memalign",
                                          "valloc",
                                          "free",
                                          "free_sized",
                                          "free_aligned_sized",
                                          "expand",
                                          "ask",
                                          "good_size",
                                          "purge",
                                          "trim",
                                          "option",
                                          "thread_start",
                                          "thread_end",
                                          "fault",
                                          "clock",
                                          "stats",
                                          "verify",
                                          "print_stats",
                                          "fork",
                                          "end_run",
                                          "start"};

static const char *const KIND_NAMES[SIZE_KINDS] = {
    [SIZE_CLASS] = "class",      [SIZE_SMALL] = "small",   [SIZE_RAW] = "raw",
    [SIZE_PAGES] = "pages",      [SIZE_SLOTS] = "slots",   [SIZE_SUPERSLABS] = "superslabs",
    [SIZE_HUGE] = "huge",        [SIZE_ABSURD] = "absurd", [SIZE_ZERO] = "zero",
    [SIZE_SAME] = "same",        [SIZE_USABLE] = "usable", [SIZE_HALF] = "half",
    [SIZE_DOUBLE] = "double",    [SIZE_MORE] = "more",     [SIZE_LESS] = "less",
    [SIZE_FRACTION] = "fraction"};

static const unsigned REPEATS[16] = {1, 1, 1, 1, 1, 1, 2, 3, 4, 8, 16, 32, 64, 256, 1024, 4096};

/* Good ones and bad ones: no powers of two, too large. */
static const size_t ALIGNMENTS[32] = {16,
                                      32,
                                      64,
                                      128,
                                      256,
                                      512,
                                      1024,
                                      4096,
                                      8192,
                                      16384,
                                      65536,
                                      8,
                                      4,
                                      1,
                                      2048,
                                      32768,
                                      131072,
                                      262144,
                                      1 << 20,
                                      1 << 21,
                                      1 << 22,
                                      1 << 24,
                                      (size_t)1 << 30,
                                      (size_t)1 << 41,
                                      (size_t)1 << 63,
                                      0,
                                      2,
                                      3,
                                      24,
                                      4097,
                                      SIZE_MAX,
                                      ((size_t)1 << 63) + 1};

size_t grammar_class_bytes(unsigned number) {
    if (number < 8)
        return 16 * (size_t)(number + 1);
    unsigned doubling = (number - 8) / 8;
    return ((size_t)128 << doubling) + ((number - 8) % 8 + 1) * ((size_t)16 << doubling);
}

static enum size_kind plain_kind(unsigned raw) {
    if (raw < SIZE_SMALL)
        return SIZE_CLASS;
    if (raw < SIZE_RAW)
        return SIZE_SMALL;
    if (raw == SIZE_PAGES + 1)
        return SIZE_PAGES;
    return raw == SIZE_SLOTS + 1 ? SIZE_SLOTS : (enum size_kind)raw;
}

void grammar_decode(const uint8_t *bytes, struct record *record) {
    unsigned op = bytes[0] & 31;
    record->op = op < OPS ? (enum op)op : (enum op)OP_ALIAS[op - OPS];
    record->thread = bytes[1] % FUZZ_THREADS;
    record->flags = bytes[1] >> 3;
    record->slot = (bytes[2] | (unsigned)bytes[3] << 8) % FUZZ_SLOTS;
    record->kind = plain_kind(bytes[4] & 31);
    unsigned delta = bytes[4] >> 5 & 3;
    record->delta = delta == 0 ? -1 : delta == 1 ? 1 : 0;
    record->detail = bytes[5] | (unsigned)bytes[6] << 8;
    record->repeats = REPEATS[bytes[7] & 15];
    record->alignment = ALIGNMENTS[bytes[7] >> 4 | (record->flags & FLAG_ALIGN)];
}

static size_t huge(unsigned detail) {
    size_t bytes = (size_t)1 << (20 + detail % 11);
    return detail / 11 % 4 == 0 ? bytes + bytes / 2 : bytes;
}

static size_t absurd(unsigned detail) {
    static const size_t NEAR[8] = {PTRDIFF_MAX,     SIZE_MAX,           (size_t)1 << 40,
                                   (size_t)3 << 62, PTRDIFF_MAX - 4095, (size_t)PTRDIFF_MAX + 1,
                                   (size_t)1 << 47, SIZE_MAX - 65535};
    return NEAR[detail % 8] - detail / 8 % 16;
}

size_t grammar_size(const struct record *record, size_t bytes, size_t usable) {
    unsigned detail = record->detail;
    size_t delta = (size_t)(ptrdiff_t)record->delta; /* wraps, as it shall */
    size_t half;
    switch (record->kind) {
    case SIZE_CLASS:
        return grammar_class_bytes(detail % CLASSES) + delta;
    case SIZE_SMALL:
        return detail % 1024;
    case SIZE_PAGES:
        return ((size_t)1 + detail % 256) * 4096 + delta;
    case SIZE_SLOTS:
        return ((size_t)1 + detail % 64) * 65536 + delta;
    case SIZE_SUPERSLABS:
        return ((size_t)1 + detail % 24) * (2u << 20) + delta;
    case SIZE_HUGE:
        return huge(detail) + delta;
    case SIZE_ABSURD:
        return absurd(detail);
    case SIZE_ZERO:
        return 0;
    case SIZE_SAME:
        return bytes;
    case SIZE_USABLE:
        return usable + (usable > 0 || record->delta >= 0 ? delta : 0);
    case SIZE_HALF:
        half = usable / 2;
        return half + (half > 0 || record->delta >= 0 ? delta : 0);
    case SIZE_DOUBLE:
        return usable * 2 + (usable > 0 || record->delta >= 0 ? delta : 0);
    case SIZE_MORE:
        return bytes + detail % 4096;
    case SIZE_LESS:
        return bytes - (bytes < detail % 4096 ? bytes : detail % 4096);
    case SIZE_FRACTION:
        return bytes / 512 * (detail % 1024) + bytes % 512;
    default:
        return detail;
    }
}

/* ---- words ---- */

const char *grammar_op_name(enum op op) { return OP_NAMES[op]; }

static void print_size(FILE *to, const struct record *record) {
    if (record->kind >= SIZE_SAME)
        fprintf(to, " size=%s%+d,%u", KIND_NAMES[record->kind], record->delta, record->detail);
    else
        fprintf(to, " size=%zu (%s)", grammar_size(record, 0, 0), KIND_NAMES[record->kind]);
}

void grammar_print(FILE *to, const struct record *record) {
    enum op op = record->op;
    fprintf(to, "t%u %s", record->thread, OP_NAMES[op]);
    if (op <= OP_ASK)
        fprintf(to, " slot=%u", record->slot);
    if (op <= OP_VALLOC || op == OP_EXPAND || op == OP_GOOD_SIZE || op == OP_TRIM)
        print_size(to, record);
    if ((op >= OP_ALIGNED_ALLOC && op <= OP_MEMALIGN))
        fprintf(to, " alignment=%zu", record->alignment);
    if (op == OP_THREAD_START || op == OP_THREAD_END)
        fprintf(to, " t%u", 1 + record->slot % (FUZZ_THREADS - 1));
    if (op >= OP_OPTION && op != OP_STATS && op != OP_VERIFY)
        fprintf(to, " %u", record->detail);
    if (record->repeats > 1 && op <= OP_GOOD_SIZE)
        fprintf(to, " x%u", record->repeats);
    if (record->flags != 0)
        fprintf(to, " flags=%u", record->flags);
}

/* ---- making ---- */

uint64_t grammar_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static unsigned some_kind(uint64_t *state) {
    unsigned r = grammar_below(state, 64);
    if (r < 26)
        return SIZE_CLASS;
    if (r < 36)
        return SIZE_SMALL;
    if (r < 40)
        return SIZE_RAW;
    if (r < 43)
        return SIZE_PAGES;
    if (r < 47)
        return SIZE_SLOTS;
    return r < 48   ? SIZE_SUPERSLABS
           : r < 49 ? SIZE_HUGE
           : r < 50 ? SIZE_ABSURD
           : r < 51 ? SIZE_ZERO
                    : SIZE_SAME + (r - 51) % 7;
}

/* Small classes more often than large ones, and one in four any. */
static unsigned some_detail(uint64_t *state) {
    unsigned r = (unsigned)grammar_random(state);
    return r & 0x10000 ? r & 0xffff : r & 0x20000 ? r % 24 : r % 72;
}

static uint8_t op_byte(uint64_t *state, enum op op) {
    (void)state;
    return (uint8_t)op;
}

void grammar_make(uint64_t *state, enum op op, uint8_t *bytes) {
    uint64_t r = grammar_random(state);
    unsigned slot = grammar_below(state, 256);
    unsigned detail = some_detail(state);
    unsigned flags = (r & 7) == 0 ? r >> 3 & 31 : (r & 7) == 1 ? FLAG_WALK : 0;
    unsigned repeat = r >> 16 & 15;
    if (op == OP_OPTION || op == OP_FAULT || op == OP_CLOCK || op == OP_ASK)
        flags = r >> 3 & 31;
    bytes[0] = op_byte(state, op);
    bytes[1] = (uint8_t)((r >> 24 & 3 ? 0 : r >> 26 & 7) | flags << 3);
    bytes[2] = (uint8_t)slot;
    bytes[3] = (uint8_t)(slot >> 8);
    bytes[4] = (uint8_t)(some_kind(state) | (r >> 40 & 3) << 5);
    bytes[5] = (uint8_t)detail;
    bytes[6] = (uint8_t)(detail >> 8);
    bytes[7] = (uint8_t)(repeat | (r >> 48 & 15) << 4);
}

/* How likely an operation is in a mix at all, and its usual weight. */
static const struct {
    uint8_t in_16, weight;
} HABITS[OPS] = {
    [OP_MALLOC] = {15, 60},
    [OP_CALLOC] = {10, 20},
    [OP_REALLOC] = {11, 40},
    [OP_REALLOCARRAY] = {4, 8},
    [OP_ALIGNED_ALLOC] = {7, 15},
    [OP_POSIX_MEMALIGN] = {4, 8},
    [OP_MEMALIGN] = {3, 6},
    [OP_VALLOC] = {3, 6},
    [OP_FREE] = {16, 100},
    [OP_FREE_SIZED] = {6, 30},
    [OP_FREE_ALIGNED_SIZED] = {4, 20},
    [OP_EXPAND] = {6, 15},
    [OP_ASK] = {5, 6},
    [OP_GOOD_SIZE] = {2, 3},
    [OP_PURGE] = {5, 3},
    [OP_TRIM] = {4, 3},
    [OP_OPTION] = {7, 4},
    [OP_THREAD_START] = {9, 8},
    [OP_THREAD_END] = {8, 5},
    [OP_FAULT] = {6, 8},
    [OP_CLOCK] = {8, 10},
    [OP_STATS] = {4, 3},
    [OP_VERIFY] = {4, 2},
    [OP_PRINT_STATS] = {1, 1},
    [OP_FORK] = {1, 1},
    [OP_END_RUN] = {1, 1},
    [OP_START] = {0, 0},
};

/* Everything somewhat. */
static void mix_of_all(uint64_t *state, struct mix *mix) {
    for (unsigned i = 0; i < OPS; i++) {
        if (grammar_below(state, 16) < HABITS[i].in_16)
            mix->weight[i] = HABITS[i].weight * (1 + grammar_below(state, 16)) / 4;
    }
    for (unsigned i = 0; i < 4; i++) {
        mix->kinds[i] = some_kind(state);
        mix->details[i] = some_detail(state);
    }
    mix->bias = grammar_below(state, 16);
    static const unsigned REPEAT_MAX[4] = {6, 10, 13, 16};
    mix->repeat_max = REPEAT_MAX[grammar_below(state, 4)];
}

/* Large blocks that come, grow, move and go; calls that fail; calloc sees what was left behind. */
static void mix_of_large(uint64_t *state, struct mix *mix) {
    static const struct {
        uint8_t op, weight;
    } OFTEN[] = {{OP_MALLOC, 20},       {OP_CALLOC, 25}, {OP_REALLOC, 40}, {OP_EXPAND, 10},
                 {OP_FREE, 35},         {OP_PURGE, 3},   {OP_CLOCK, 4},    {OP_FAULT, 10},
                 {OP_ALIGNED_ALLOC, 4}, {OP_OPTION, 2},  {OP_VERIFY, 1},   {OP_TRIM, 1}};
    static const uint8_t KINDS[8] = {SIZE_SLOTS, SIZE_SLOTS,  SIZE_PAGES, SIZE_SUPERSLABS,
                                     SIZE_SLOTS, SIZE_DOUBLE, SIZE_CLASS, SIZE_FRACTION};
    for (unsigned i = 0; i < sizeof OFTEN / sizeof OFTEN[0]; i++)
        mix->weight[OFTEN[i].op] = OFTEN[i].weight * (1 + grammar_below(state, 8));
    for (unsigned i = 0; i < 4; i++) {
        mix->kinds[i] = KINDS[grammar_below(state, 8)];
        mix->details[i] =
            mix->kinds[i] == SIZE_CLASS ? 80 + grammar_below(state, 16) : grammar_below(state, 40);
    }
    mix->bias = 12 + grammar_below(state, 4);
    mix->repeat_max = 9;
}

/* One class in quantities: whole runs fill and empty. */
static void mix_of_one_class(uint64_t *state, struct mix *mix) {
    static const uint8_t OFTEN[] = {OP_MALLOC, OP_FREE,  OP_FREE,         OP_PURGE,      OP_CLOCK,
                                    OP_OPTION, OP_FAULT, OP_THREAD_START, OP_THREAD_END, OP_STATS};
    for (unsigned i = 0; i < sizeof OFTEN; i++)
        mix->weight[OFTEN[i]] += i < 3 ? 20 + grammar_below(state, 20) : grammar_below(state, 6);
    unsigned detail = grammar_below(state, grammar_below(state, 2) == 0 ? 8 : CLASSES);
    for (unsigned i = 0; i < 4; i++) {
        mix->kinds[i] = SIZE_CLASS;
        mix->details[i] = detail;
    }
    mix->bias = 16;
    mix->repeat_max = 16;
}

void grammar_make_mix(uint64_t *state, struct mix *mix) {
    static const unsigned WINDOWS[8] = {4, 16, 32, 64, 128, 512, 2048, FUZZ_SLOTS};
    memset(mix, 0, sizeof *mix);
    unsigned kind = grammar_below(state, 8);
    mix->slots = WINDOWS[grammar_below(state, 8)];
    mix->threads = grammar_below(state, 2) == 0 ? 1 : 2 + grammar_below(state, FUZZ_THREADS - 1);
    if (kind == 0)
        mix_of_one_class(state, mix);
    else if (kind <= 2)
        mix_of_large(state, mix);
    else
        mix_of_all(state, mix);
    if (kind == 0)
        mix->slots = FUZZ_SLOTS;
    if (mix->weight[OP_MALLOC] + mix->weight[OP_CALLOC] == 0)
        mix->weight[OP_MALLOC] = 60;
    for (unsigned i = 0; i < OPS; i++)
        mix->total += mix->weight[i];
}

void grammar_make_mixed(uint64_t *state, const struct mix *mix, uint8_t *bytes) {
    unsigned at = grammar_below(state, mix->total);
    unsigned op = 0;
    while (at >= mix->weight[op])
        at -= mix->weight[op++];
    grammar_make(state, (enum op)op, bytes);
    unsigned slot = grammar_below(state, mix->slots);
    bytes[1] = (uint8_t)((bytes[1] & 0xf8) | grammar_below(state, mix->threads));
    bytes[2] = (uint8_t)slot;
    bytes[3] = (uint8_t)(slot >> 8);
    if (grammar_below(state, 16) < mix->bias) {
        unsigned i = grammar_below(state, 4);
        bytes[4] = (uint8_t)((bytes[4] & 0xe0) | mix->kinds[i]);
        bytes[5] = (uint8_t)mix->details[i];
        bytes[6] = (uint8_t)(mix->details[i] >> 8);
    }
    bytes[7] = (uint8_t)((bytes[7] & 0xf0) | grammar_below(state, mix->repeat_max));
}
