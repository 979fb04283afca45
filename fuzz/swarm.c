/* swarm.c -- random mixes of operations, many seeds a second.
 *
 *     swarm [-t SECONDS] [-s SEED] [-n BATCHES] [-o FOLDER] [-q] [-p]
 *       -t  how long (10), -s the first seed (the clock), -n at most so many batches
 *       -o  where a failure is written to (out/fuzz)
 *       -q  a failure is not repeated and shrunk, only told
 *       -p  writes the runs of the batches into FOLDER instead of playing them: seeds for a corpus
 *
 * A seed chooses which operations there are at all, with which weights, sizes, slots and threads
 * (grammar_make_mix): a run that never frees, or hardly does anything but realloc, reaches states
 * that an even mixture never does. The runs of a batch share a process and so a heap. A run that
 * fails is repeated alone, else with the runs of the batch before it; the shorter that fails is
 * shrunk, written to a file for every engine, and printed in words.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "grammar.h"
#include "harness.h"
#include "player.h"

#define RUNS 24u
#define RECORDS_MAX 1500u
#define BATCH_SECONDS 120u
#define SHRINK_SECONDS 60u

/* Shared with the child. */
struct progress {
    unsigned run;
    struct harness_counts counts;
};
static struct progress *progress;
static uint8_t *input;

static double now(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t state_of(uint64_t seed, unsigned run) {
    uint64_t state = (seed * RUNS + run + 1) * UINT64_C(0x9e3779b97f4a7c15);
    state ^= state >> 29;
    for (int i = 0; i < 4; i++)
        (void)grammar_random(&state);
    return state == 0 ? 1 : state;
}

/* The bytes of one run of a batch; start options are a batch's, and stand before its first run. */
static size_t make_run(uint64_t seed, unsigned run, uint8_t *to) {
    uint64_t state = state_of(seed, run);
    struct mix mix;
    size_t size = 0;
    if (run == 0 && grammar_below(&state, 2) == 0) {
        grammar_make(&state, OP_START, to);
        size = RECORD_BYTES;
    }
    grammar_make_mix(&state, &mix);
    unsigned records =
        10 + grammar_below(&state, grammar_below(&state, 4) == 0 ? RECORDS_MAX : 200);
    for (unsigned i = 0; i < records; i++, size += RECORD_BYTES)
        grammar_make_mixed(&state, &mix, to + size);
    return size;
}

static void play_batch(uint64_t seed) {
    (void)alarm(BATCH_SECONDS);
    for (unsigned run = 0; run < RUNS; run++) {
        progress->run = run;
        size_t size = make_run(seed, run, input);
        harness_run(input, size);
        progress->counts = harness_counts;
    }
    exit(0);
}

/* The runs from..to of a batch in one input. */
static size_t make_runs(uint64_t seed, unsigned from, unsigned to) {
    size_t size = 0;
    if (from > 0) { /* the batch's start options alone */
        struct record r;
        (void)make_run(seed, 0, input);
        grammar_decode(input, &r);
        size = r.op == OP_START ? RECORD_BYTES : 0;
    }
    for (unsigned run = from; run <= to; run++) {
        size += make_run(seed, run, input + size);
        memset(input + size, 0, RECORD_BYTES);
        input[size] = OP_END_RUN;
        size += RECORD_BYTES;
    }
    return size;
}

static void explain(uint64_t seed, unsigned run, const char *folder) {
    char path[4096];
    size_t size = make_runs(seed, run, run);
    if (player_play(input, size, PLAY_QUIET) == 0)
        size = make_runs(seed, 0, run);
    (void)snprintf(path, sizeof path, "%s/swarm-%" PRIu64 "-%u.ops", folder, seed, run);
    if (player_play(input, size, PLAY_QUIET) == 0) {
        printf("swarm: the failure does not repeat itself; the batch is in %s\n", path);
        (void)player_write(path, input, size);
        return;
    }
    printf("swarm: shrinking %zu operations\n", size / RECORD_BYTES);
    (void)fflush(stdout);
    size = player_shrink(input, size, 0, SHRINK_SECONDS);
    printf("swarm: %zu operations are left:\n", size / RECORD_BYTES);
    player_print(input, size);
    (void)fflush(stdout);
    (void)player_play(input, size, PLAY_WORDS);
    if (!player_write(path, input, size))
        perror(path);
    printf("swarm: written to %s (make fuzz-replay FILE=%s)\n", path, path);
}

static void add(struct harness_counts *to, const struct harness_counts *more) {
    to->runs += more->runs;
    to->operations += more->operations;
    to->blocks += more->blocks;
    to->nulls += more->nulls;
    to->faults += more->faults;
    to->switches += more->switches;
    to->skipped += more->skipped;
}

static void print_batch(uint64_t seed, const char *folder) {
    for (unsigned run = 0; run < RUNS; run++) {
        char path[4096];
        size_t size = make_run(seed, run, input);
        (void)snprintf(path, sizeof path, "%s/swarm-%" PRIu64 "-%u", folder, seed, run);
        if (!player_write(path, input, size))
            perror(path);
    }
}

int main(int argc, char **argv) {
    double seconds = 10;
    uint64_t seed = (uint64_t)time(NULL) % 1000000000u;
    uint64_t batches = UINT64_MAX;
    const char *folder = "out/fuzz";
    bool print = false;
    bool quiet = false;
    for (int option; (option = getopt(argc, argv, "t:s:n:o:pq")) != -1;) {
        switch (option) {
        case 't':
            seconds = strtod(optarg, NULL);
            break;
        case 's':
            seed = strtoull(optarg, NULL, 0);
            break;
        case 'n':
            batches = strtoull(optarg, NULL, 0);
            break;
        case 'o':
            folder = optarg;
            break;
        case 'p':
            print = true;
            break;
        case 'q':
            quiet = true;
            break;
        default:
            fprintf(stderr, "usage: see the head of fuzz/swarm.c\n");
            return 2;
        }
    }
    input = malloc(INPUT_BYTES_MAX);
    progress =
        mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (input == NULL || progress == MAP_FAILED)
        return 2;
    struct harness_counts total = {0};
    double start = now(), told = start;
    uint64_t done = 0;
    printf("swarm: SEED=%" PRIu64 ", %u runs to a seed\n", seed, RUNS);
    for (; done < batches && now() - start < seconds; done++, seed++) {
        if (print) {
            print_batch(seed, folder);
            continue;
        }
        memset(progress, 0, sizeof *progress);
        (void)fflush(NULL);
        pid_t child = fork();
        if (child == 0)
            play_batch(seed);
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child)
            return 2;
        add(&total, &progress->counts);
        if (status != 0) {
            printf("swarm: SEED=%" PRIu64 " fails in run %u: %s\n", seed, progress->run,
                   player_status(status));
            if (!quiet)
                explain(seed, progress->run, folder);
            return 1;
        }
        if (now() - told >= 5) {
            told = now();
            printf("swarm: %.0f s, SEED=%" PRIu64 ", %" PRIu64 " runs, %.0f a second\n",
                   told - start, seed, total.runs, (double)total.runs / (told - start));
            (void)fflush(stdout);
        }
    }
    double took = now() - start;
    printf("swarm: %" PRIu64 " runs (%.0f a second), %" PRIu64 " operations, %" PRIu64
           " blocks, %" PRIu64 " NULLs, %" PRIu64 " faults, %" PRIu64 " thread switches, %" PRIu64
           " skipped\n",
           total.runs, (double)total.runs / took, total.operations, total.blocks, total.nulls,
           total.faults, total.switches, total.skipped);
    return 0;
}
