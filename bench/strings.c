/* strings.c -- append, copy and free of many short strings.
 * Pattern     text processing: strings are appended to (growing by realloc to the exact length, or
 *             by half when they have become long), copied (strdup) and dropped.  Lengths are mostly
 *             below 100 bytes, as in scripts, configuration, and log lines.
 * Arguments   steps, strings (slots), seed
 * An op       is a step: half of them append a word, a quarter copy one string over another, a
 *             quarter drop one.
 * Checksum    a hash of all strings that live at the end.
 */
#include "common.h"

#define WORD_MAX 24u
#define LENGTH_MAX 2000u

struct string {
    char *text;
    size_t length;
    size_t capacity; /* bytes allocated, length + 1 at the least */
};

static void string_drop(struct string *string)
{
    free(string->text);
    *string = (struct string){ NULL, 0, 0 };
}

static void string_append(struct string *string, const char *word, size_t word_length)
{
    size_t need = string->length + word_length + 1;
    if (need > string->capacity) {
        string->capacity = need < 128 ? need : need + need / 2;
        string->text = bench_need(realloc(string->text, string->capacity));
    }
    memcpy(string->text + string->length, word, word_length);
    string->length += word_length;
    string->text[string->length] = '\0';
}

static void string_copy(struct string *to, const struct string *from)
{
    if (to == from || from->text == NULL) return;
    size_t bytes = strlen(from->text) + 1;
    char *text = bench_need(malloc(bytes));
    memcpy(text, from->text, bytes);
    free(to->text);
    *to = (struct string){ text, bytes - 1, bytes };
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("strings", argc, argv);
    uint64_t steps = bench_arg(&args, "steps", 15000000, 1, UINT64_C(1) << 40);
    size_t string_count = bench_arg(&args, "strings", 4096, 1, 1u << 24);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    bench_args_end(&args);

    static const char letters[] = "the quick brown fox jumps over the lazy dog 0123456789 abcdefgh";
    struct bench_rng rng = bench_rng_seed(seed, 0);
    struct string *strings = bench_map(string_count * sizeof *strings);

    double start = bench_now();
    for (uint64_t step = 0; step < steps; step++) {
        uint64_t random = bench_rng_next(&rng);
        struct string *string = &strings[bench_pick(random, string_count)];
        unsigned what = (unsigned)random & 3u;
        if (what == 3 || string->length > LENGTH_MAX) {
            string_drop(string);
        } else if (what == 2) {
            string_copy(string, &strings[bench_pick_low(random, string_count)]);
        } else {
            string_append(string, letters + ((random >> 8) & 31u), 1 + (random >> 16) % WORD_MAX);
        }
    }
    double seconds = bench_now() - start;

    uint64_t checksum = 0;
    for (size_t i = 0; i < string_count; i++) {
        for (size_t j = 0; j < strings[i].length; j++) {
            checksum = checksum * 31 + (unsigned char)strings[i].text[j];
        }
        string_drop(&strings[i]);
    }
    bench_report("strings", steps, seconds, checksum, "");
    return 0;
}
