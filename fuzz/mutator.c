/* mutator.c -- a custom mutator for libFuzzer that knows the grammar.
 * Purpose     whole records are inserted, left out, moved, repeated; a free gets another target, a
 *             size the neighbouring class. FUZZ_MUTATOR in the environment: 1, the default, for
 *             three mutations in four; 2 for all; 0 leaves all to libFuzzer. README.md has what it
 *             was measured to do.
 */
#include <stdlib.h>
#include <string.h>

#include "grammar.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size,
                                 uint8_t *out, size_t out_max, unsigned seed);

static int mode(void) {
    static int known = -1;
    if (known < 0) {
        const char *text = getenv("FUZZ_MUTATOR");
        known = text == NULL ? 1 : atoi(text);
    }
    return known;
}

static uint64_t state_from(unsigned seed) {
    uint64_t state = (seed + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15);
    for (int i = 0; i < 3; i++)
        (void)grammar_random(&state);
    return state;
}

static size_t insert_records(uint64_t *random, uint8_t *data, size_t size, size_t size_max) {
    size_t records = size / RECORD_BYTES;
    size_t count = 1 + grammar_below(random, 8);
    struct mix mix;
    grammar_make_mix(random, &mix);
    if (size + count * RECORD_BYTES > size_max)
        return size;
    size_t at = grammar_below(random, (unsigned)records + 1) * (size_t)RECORD_BYTES;
    memmove(data + at + count * RECORD_BYTES, data + at, size - at);
    for (size_t i = 0; i < count; i++)
        grammar_make_mixed(random, &mix, data + at + i * RECORD_BYTES);
    return size + count * RECORD_BYTES;
}

/* Copies a stretch of records behind another place. */
static size_t repeat_records(uint64_t *random, uint8_t *data, size_t size, size_t size_max) {
    unsigned records = (unsigned)(size / RECORD_BYTES);
    unsigned from = grammar_below(random, records);
    unsigned count = 1 + grammar_below(random, records - from < 16 ? records - from : 16);
    unsigned to = grammar_below(random, records + 1);
    uint8_t piece[16 * RECORD_BYTES];
    size_t bytes = count * (size_t)RECORD_BYTES;
    if (size + bytes > size_max)
        return size;
    memcpy(piece, data + from * RECORD_BYTES, bytes);
    memmove(data + to * RECORD_BYTES + bytes, data + to * RECORD_BYTES, size - to * RECORD_BYTES);
    memcpy(data + to * RECORD_BYTES, piece, bytes);
    return size + bytes;
}

static size_t remove_records(uint64_t *random, uint8_t *data, size_t size) {
    unsigned records = (unsigned)(size / RECORD_BYTES);
    unsigned from = grammar_below(random, records);
    unsigned count = 1 + grammar_below(random, records - from < 8 ? records - from : 8);
    size_t end = (from + count) * (size_t)RECORD_BYTES;
    memmove(data + from * RECORD_BYTES, data + end, size - end);
    return size - count * (size_t)RECORD_BYTES;
}

/* Changes one field of one record to something near or useful. */
static void change_record(uint64_t *random, uint8_t *record) {
    struct record r;
    uint8_t other[RECORD_BYTES];
    grammar_decode(record, &r);
    grammar_make(random, r.op, other);
    switch (grammar_below(random, 8)) {
    case 0:
        record[2] = other[2], record[3] = other[3];
        break; /* another target */
    case 1:
        record[2] = (uint8_t)(record[2] + 1 - 2 * grammar_below(random, 2));
        break;
    case 2: /* the neighbouring class, or one byte more or less */
        if (r.kind == SIZE_CLASS && grammar_below(random, 2) == 0)
            record[5] = (uint8_t)(record[5] + 1 - 2 * grammar_below(random, 2));
        else
            record[4] = (uint8_t)((record[4] & 0x1f) | (other[4] & 0xe0));
        break;
    case 3:
        memcpy(record + 4, other + 4, 3);
        break; /* another size, or argument */
    case 4:
        record[7] = (uint8_t)((record[7] & 0xf0) | (other[7] & 0x0f));
        break;
    case 5:
        record[7] = (uint8_t)((record[7] & 0x0f) | (other[7] & 0xf0));
        break;
    case 6:
        record[1] = (uint8_t)((record[1] & 0xf8) | (grammar_random(random) >> 40 & 7));
        break;
    default:
        record[1] = (uint8_t)((record[1] & 7) | (other[1] & 0xf8));
        break;
    }
}

static void swap_records(uint64_t *random, uint8_t *data, unsigned records) {
    uint8_t *a = data + grammar_below(random, records) * RECORD_BYTES;
    uint8_t *b = data + grammar_below(random, records) * RECORD_BYTES;
    for (unsigned i = 0; i < RECORD_BYTES; i++) {
        uint8_t byte = a[i];
        a[i] = b[i];
        b[i] = byte;
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed) {
    uint64_t random = state_from(seed);
    if (mode() == 0 || (mode() == 1 && grammar_below(&random, 4) == 0))
        return LLVMFuzzerMutate(data, size, size_max);
    size -= size % RECORD_BYTES;
    for (unsigned times = 1 + grammar_below(&random, 4); times > 0; times--) {
        unsigned records = (unsigned)(size / RECORD_BYTES);
        unsigned kind = records == 0 ? 0 : grammar_below(&random, 16);
        if (kind < 4)
            size = insert_records(&random, data, size, size_max);
        else if (kind < 6)
            size = repeat_records(&random, data, size, size_max);
        else if (kind < 8)
            size = remove_records(&random, data, size);
        else if (kind < 9)
            swap_records(&random, data, records);
        else
            change_record(&random, data + grammar_below(&random, records) * RECORD_BYTES);
    }
    return size;
}

/* A beginning of one, an end of the other. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size,
                                 uint8_t *out, size_t out_max, unsigned seed) {
    uint64_t random = state_from(seed);
    size_t head =
        grammar_below(&random, (unsigned)(a_size / RECORD_BYTES) + 1) * (size_t)RECORD_BYTES;
    size_t from =
        grammar_below(&random, (unsigned)(b_size / RECORD_BYTES) + 1) * (size_t)RECORD_BYTES;
    if (head > out_max)
        head = out_max - out_max % RECORD_BYTES;
    size_t tail = b_size - from;
    if (tail > out_max - head)
        tail = out_max - head;
    memcpy(out, a, head);
    memcpy(out + head, b + from, tail);
    return head + tail;
}
