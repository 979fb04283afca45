/* trim_after_pieces.c -- 1 GiB that was allocated in pieces and freed goes back at malloc_trim, and
 * what described the pieces goes with it. Each size has a process of its own.
 */
#include "check.inc"

enum { SLACK_MIB = 4 };

static size_t piece_bytes;

/* The pieces are linked through themselves: no table of them is in the way. */
static void take_and_return_a_gib(void) {
    size_t volume = scaled(1024) * MIB;
    void **last = NULL;
    free(malloc(piece_bytes));
    malloc_trim(0);
    size_t before = rss_bytes();
    for (size_t taken = 0; taken < volume; taken += piece_bytes) {
        void **piece = malloc(piece_bytes);
        REQUIRE(piece != NULL, "malloc(%zu)", piece_bytes);
        *piece = last;
        for (size_t at = 4096; at + 8 <= piece_bytes; at += 4096)
            ((char *)piece)[at] = 1;
        last = piece;
    }
    size_t full = rss_bytes();
    EXPECT(full - before >= volume / 10 * 9, "expected %.0f MiB resident, found %.1f MiB",
           to_mib(volume), to_mib(full - before));
    while (last != NULL) {
        void **below = *last;
        free(last);
        last = below;
    }
    size_t slack = under_debug_hakmem() ? 4 * SLACK_MIB : SLACK_MIB; /* records of the blocks */
    int returned = malloc_trim(0);
    size_t after = rss_bytes();
    EXPECT(returned == 1 || after <= before + MIB, "malloc_trim: expected 1, found %d", returned);
    EXPECT(after <= before + slack * MIB,
           "pieces of %zu: expected RSS within %d MiB of %.1f MiB, found %.1f MiB", piece_bytes,
           (int)slack, to_mib(before), to_mib(after));
    free(malloc(piece_bytes)); /* the range is in order afterwards */
    void *zeros = calloc(1, MIB);
    REQUIRE(zeros != NULL, "calloc");
    for (size_t i = 0; i < MIB; i += 4096)
        EXPECT(((char *)zeros)[i] == 0, "calloc after the trim: byte %zu is not zero", i);
    free(zeros);
}

static void a_gib_freed_in_pieces_goes_back_at_malloc_trim(void) {
    static const size_t sizes[] = {64, 1024, 4096, 100000, 262144, MIB};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        piece_bytes = sizes[i];
        in_child(take_and_return_a_gib, 90);
    }
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(a_gib_freed_in_pieces_goes_back_at_malloc_trim, 1),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
