/* soak.c -- the stress programs in turn, for hours, in one process; then nothing may be left.
 * Purpose     whatever a program leaves behind adds up. After each program, when its threads have
 *             ended and every block was dropped, the library is told to purge, and must have as
 *             many slots in use as after the first turn: one block that is lost pins a slot, so
 *             that a leak of one slot an hour fails the first time that it happens.
 * Oracle      T1 and T2 of stress.h for each program; slots ACTIVE or EMPTY, large blocks and
 *             SuperSlabs in use at each rest; heaps, metadata and resident memory at rest no higher
 *             in the last half of the turns than they were in the first half, give or take
 *             SLACK_MIB.
 * Output      $SOAK_FOLDER/samples.tsv (each second) and rests.tsv (each rest), for soak.gp.
 * Environment SOAK_HOURS (0.1), SOAK_FOLDER (out/soak), STRESS_SECONDS (3) for each program,
 *             SOAK_LEAK (0): loses a block after so many seconds, to see that this is seen.
 */
#include <sys/stat.h>

#include "soak/soak.h"
#include "stress.h"

#define SLACK_MIB 4.0
#define TURNS_MAX 100000u
#define RESTS_AT_MOST 200 /* tries of 10 ms until threads that are ending have ended */

static const struct program {
    const char *name;
    int (*main)(int argc, char **argv);
} programs[] = {
#define SOAK_ENTRY(name) {#name, name##_main},
    SOAK_PROGRAMS(SOAK_ENTRY)};

struct rest {
    uint64_t slots, superslabs, large, heaps, metadata;
    double rss_mib;
};

static FILE *samples, *rests;
static struct rest peaks[2]; /* of the turns of the first half, of the second */

static struct hkm_stats stats_now(void) {
    struct hkm_stats s = {.struct_bytes = sizeof s};
    STRESS_REQUIRE(hkm_stats_get(&s) == 0, "hkm_stats_get failed");
    return s;
}

static double rss_mib_now(void) {
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    STRESS_REQUIRE(file != NULL && fscanf(file, "%*u %llu", &pages) == 1, "no /proc/self/statm");
    (void)fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static void sample(double live_mib, double rss_mib) {
    struct hkm_stats s = stats_now();
    fprintf(samples, "%.1f\t%.3f\t%.3f\t%llu\t%llu\t%llu\t%s\n", stress_elapsed(), live_mib, rss_mib,
            (unsigned long long)(s.slots_active + s.slots_empty),
            (unsigned long long)s.superslabs_live, (unsigned long long)s.superslabs_cached,
            stress.name);
    (void)fflush(samples);
}

/* What is in use when nothing is: blocks on their way home may need several rounds. */
static struct rest rest(const char *after) {
    struct hkm_stats s = stats_now();
    for (int tries = 0; tries < RESTS_AT_MOST; tries++) {
        (void)hkm_purge();
        s = stats_now();
        if (s.slots_active + s.slots_empty + s.superslabs_live == 0)
            break;
        stress_nap_us(10000);
    }
    struct rest now = {.slots = s.slots_active + s.slots_empty,
                       .superslabs = s.superslabs_live,
                       .large = s.large_blocks_live,
                       .heaps = s.heaps,
                       .metadata = s.bytes_metadata,
                       .rss_mib = rss_mib_now()};
    fprintf(rests, "%.1f\t%llu\t%llu\t%llu\t%llu\t%.2f\t%.2f\t%s\n", stress_elapsed(),
            (unsigned long long)now.slots, (unsigned long long)now.superslabs,
            (unsigned long long)now.large, (unsigned long long)now.heaps,
            (double)now.metadata / (1 << 20), now.rss_mib, after);
    (void)fflush(rests);
    return now;
}

static uint64_t more(uint64_t a, uint64_t b) { return a > b ? a : b; }

static void note_peak(struct rest *peak, const struct rest *now) {
    peak->heaps = more(peak->heaps, now->heaps);
    peak->metadata = more(peak->metadata, now->metadata);
    if (now->rss_mib > peak->rss_mib)
        peak->rss_mib = now->rss_mib;
}

static void lose_a_block(double after) {
    static bool lost;
    if (after > 0 && !lost && stress_elapsed() > after) {
        void *block = hkm_malloc(100);
        lost = block != NULL;
        __asm__ volatile("" : : "r"(block));
    }
}

static double setting(const char *name, double otherwise) {
    const char *text = getenv(name);
    return text == NULL || *text == '\0' ? otherwise : strtod(text, NULL);
}

static FILE *table(const char *folder, const char *name, const char *head) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    STRESS_REQUIRE(file != NULL, "%s: %s", path, strerror(errno));
    fprintf(file, "%s\n", head);
    return file;
}

static void run_turn(int argc, char **argv, double leak, const struct rest *least,
                     struct rest *peak) {
    for (size_t i = 0; i < COUNT_OF(programs); i++) {
        (void)programs[i].main(argc, argv);
        lose_a_block(leak);
        struct rest now = rest(programs[i].name);
        if (least != NULL)
            STRESS_REQUIRE(now.slots <= least->slots && now.superslabs <= least->superslabs &&
                               now.large == 0,
                           "leak: after %s %llu slots, %llu SuperSlabs and %llu large blocks are in "
                           "use, after the first turn %llu slots and %llu SuperSlabs",
                           programs[i].name, (unsigned long long)now.slots,
                           (unsigned long long)now.superslabs, (unsigned long long)now.large,
                           (unsigned long long)least->slots, (unsigned long long)least->superslabs);
        note_peak(peak, &now);
    }
}

/* At rest the second half must not hold more than the first did. */
static void compare_halves(void) {
    double grown = peaks[1].rss_mib - peaks[0].rss_mib;
    printf("soak: at rest, first half and second: RSS %.2f, %.2f MiB; metadata %.2f, %.2f MiB; "
           "heaps %llu, %llu\n",
           peaks[0].rss_mib, peaks[1].rss_mib, (double)peaks[0].metadata / (1 << 20),
           (double)peaks[1].metadata / (1 << 20), (unsigned long long)peaks[0].heaps,
           (unsigned long long)peaks[1].heaps);
    STRESS_REQUIRE(grown <= SLACK_MIB, "leak: RSS at rest grew by %.2f MiB", grown);
    STRESS_REQUIRE(peaks[1].metadata <= peaks[0].metadata + (uint64_t)(SLACK_MIB * (1 << 20)),
                   "leak: metadata grew by %llu bytes",
                   (unsigned long long)(peaks[1].metadata - peaks[0].metadata));
}

int main(int argc, char **argv) {
    (void)setenv("STRESS_SECONDS", "3", 0);
    stress_begin("soak", argc, argv, "");
    double end = setting("SOAK_HOURS", 0.1) * 3600;
    double leak = setting("SOAK_LEAK", 0);
    const char *folder = getenv("SOAK_FOLDER");
    folder = folder == NULL ? "out/soak" : folder;
    (void)mkdir(folder, 0777);
    samples = table(folder, "samples.tsv",
                    "seconds\tlive_mib\trss_mib\tslots\tsuperslabs\tcached\tprogram");
    rests = table(folder, "rests.tsv",
                  "seconds\tslots\tsuperslabs\tlarge\theaps\tmetadata_mib\trss_mib\tprogram");
    stress.soak = true;
    stress.sample = sample;
    struct rest none = {0};
    run_turn(argc, argv, 0, NULL, &none);
    struct rest least = rest("first turn");
    unsigned turns = 1;
    for (; turns < TURNS_MAX && (turns < 2 || stress_elapsed() < end); turns++)
        run_turn(argc, argv, leak, &least, &peaks[stress_elapsed() < end / 2 ? 0 : 1]);
    uint64_t made = 0;
    for (unsigned i = 0; i < STRESS_THREADS_MAX; i++)
        made += stress_threads[i].made;
    printf("soak: %u turns of %zu programs, %.0f s, %llu blocks; in use at rest %llu slots, "
           "%llu SuperSlabs\n",
           turns, COUNT_OF(programs), stress_elapsed(), (unsigned long long)made,
           (unsigned long long)least.slots, (unsigned long long)least.superslabs);
    if (turns > 3)
        compare_halves();
    printf("soak: ok\n");
    return 0;
}
