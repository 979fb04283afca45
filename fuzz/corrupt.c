/* corrupt.c -- the corruption fuzzer: flips single bits of the allocator's metadata during a run.
 * Purpose     a process with one thread brings the allocator into a state that has everything in it
 *             (runs partial, full, EMPTY, in the pool; large blocks live and cached; packets in an
 *             inbox; an orphan). Then, for every flip, a forked child flips one bit and goes on
 *             with the workload, whose oracle knows every live block. In the checked build the walk
 *             runs after the flip and at the end. Fields are sampled; each has a row of the table:
 *               reported   the allocator said what is broken, and ended the process
 *               crashed    a fault or a hang: loud, but without a word
 *               dead       silent, and the bit is of a field that is listed as dead, with a reason
 *               harmless   silent, and everything that the program sees was right
 *               bad        silent to the end, and two live blocks overlapped, or one lost its
 *                          contents
 *               late       (release build) likewise, but then the allocator saw it and ended the
 *                          process: the workload goes on after what its oracle saw, without the
 *                          block that was handed out twice
 * Checks      checked build: reported and dead are at least 99.9 % of the flips, none is bad.
 *             Crashes count as reported: crash_report=on makes one of them.
 *             Release build: no overlap in silence (-g: exit code 1 when there is one).
 * Arguments   corrupt [-n FLIPS a field (200)] [-s SEED] [-j JOBS (2)] [-v] [-g]
 *             corrupt FIELD NUMBER   one flip, in this process, and what overlaps: FIELD as in
 *                                    the table
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/heap.h"
#include "core/large.h"
#include "hakmem/hakmem.h"

/* ---- the workload and its oracle ---- */

enum {
    LIVE_MAX = 6000,
    HANG_SECONDS = 20,
    EXIT_OVERLAP = 10,
    EXIT_DAMAGED = 11,
    EXIT_REFUSED = 12
};

static struct live {
    unsigned char *at;
    size_t bytes;
    unsigned char seed;
} live[LIVE_MAX];
static size_t live_count;
static uint64_t random_state = 1;
static bool after_flip;
static void *twice[64]; /* blocks that overlapped others: freed at the end */
static size_t twice_count;
static bool explains; /* one flip, in this process */
static int *found; /* what the oracle saw first after the flip; shared with the parent */
static const bool checked = HKM_CHECK_LEVEL > 0;

static uint64_t next_random(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * UINT64_C(2685821657736338717);
}
static size_t below(size_t n) { return (size_t)(next_random() >> 20) % n; }

static void silent(int code) {
    if (!after_flip) {
        (void)fprintf(stderr, "corrupt: the workload fails without a flip (%d)\n", code);
        code = 99;
    }
    if (checked || !after_flip)
        _exit(code);
    if (*found == 0)
        *found = code;
}

/* All of a small block, the ends and some bytes between of a large one. */
static size_t mark_step(size_t bytes) { return bytes <= 4096 ? 1 : bytes / 512; }

static void fill(const struct live *b) {
    for (size_t i = 0; i < b->bytes; i += mark_step(b->bytes))
        b->at[i] = (unsigned char)(b->seed + i);
    if (b->bytes > 0)
        b->at[b->bytes - 1] = b->seed;
}

static void expect(const struct live *b) {
    for (size_t i = 0; i + 1 < b->bytes; i += mark_step(b->bytes))
        if (b->at[i] != (unsigned char)(b->seed + i))
            silent(EXIT_DAMAGED);
    if (b->bytes > 0 && b->at[b->bytes - 1] != b->seed)
        silent(EXIT_DAMAGED);
}

/* Enters a block: it must not overlap any other. */
static void enter(void *at, size_t bytes) {
    uintptr_t start = (uintptr_t)at, end = start + (bytes > 0 ? bytes : 1);
    bool overlaps = false;
    for (size_t i = 0; i < live_count; i++)
        if (start < (uintptr_t)live[i].at + (live[i].bytes > 0 ? live[i].bytes : 1) &&
            (uintptr_t)live[i].at < end) {
            overlaps = true;
            if (explains)
                (void)printf("%zu bytes at %p, in a run of class %u, overlap %zu at %p\n", bytes, at,
                             arena_class_of_slot(arena_slot_of(at)), live[i].bytes,
                             (void *)live[i].at);
        }
    if (overlaps) {
        silent(EXIT_OVERLAP);
        if (twice_count < sizeof twice / sizeof twice[0])
            twice[twice_count++] = at;
        return;
    }
    live[live_count] = (struct live){at, bytes, (unsigned char)next_random()};
    fill(&live[live_count++]);
}

static void allocate(size_t bytes, bool zeroed) {
    if (live_count == LIVE_MAX)
        return;
    unsigned char *at = zeroed ? hkm_calloc(1, bytes) : hkm_malloc(bytes);
    if (at == NULL)
        return; /* memory that is lost is harmless; the end counts nothing */
    for (size_t i = 0; zeroed && i < bytes; i += mark_step(bytes))
        if (at[i] != 0)
            silent(EXIT_DAMAGED);
    enter(at, bytes);
}

static void release(size_t i) {
    struct live b = live[i];
    expect(&b);
    live[i] = live[--live_count];
    hkm_free(b.at);
}

static void resize(size_t i, size_t bytes) {
    struct live b = live[i];
    expect(&b);
    unsigned char *at = hkm_realloc(b.at, bytes);
    if (at == NULL)
        return;
    live[i] = live[--live_count];
    size_t kept = b.bytes < bytes ? b.bytes : bytes;
    for (size_t k = 0; k + 1 < kept; k += mark_step(b.bytes))
        if (at[k] != (unsigned char)(b.seed + k))
            silent(EXIT_DAMAGED);
    enter(at, bytes);
}

static size_t some_size(void) {
    static const size_t classes[] = {16, 24, 48, 64, 100, 200, 512, 640, 1000, 2000};
    size_t kind = below(100);
    if (kind < 70)
        return classes[below(sizeof classes / sizeof classes[0])];
    if (kind < 90)
        return 1 + below(3000);
    if (kind < 98)
        return 4096 + below(100000);
    return 270000 + below(1500000);
}

static void steps(size_t count) {
    for (size_t i = 0; i < count; i++) {
        size_t what = below(100);
        if (what < 45 || live_count == 0)
            allocate(some_size(), what < 5);
        else if (what < 92)
            release(below(live_count));
        else
            resize(below(live_count), some_size());
        if (i % 400 == 399)
            (void)hkm_malloc_trim(0);
    }
}

static void *leave_blocks(void *arg) {
    for (size_t i = 0; i < 500; i++)
        allocate(i % 5 == 0 ? 1000 : 48, false);
    return arg;
}

/* The state that is flipped in. */
static void prepare(void) {
    pthread_t thread;
    allocate(100, false); /* a heap of one's own, before the thread leaves an orphan */
    if (pthread_create(&thread, NULL, leave_blocks, NULL) != 0 || pthread_join(thread, NULL) != 0)
        exit(2);
    steps(3000);
    (void)hkm_purge();
    size_t start = live_count;
    for (size_t i = 0; i < 600; i++) /* EMPTY runs: kept, and on a stack of the pool */
        allocate(448, false);
    while (live_count > start)
        release(live_count - 1);
    steps(300);
    for (size_t i = 0; i < 6; i++) { /* the big cache */
        allocate(300000 + i * 200000, false);
        release(live_count - 1);
    }
    for (size_t i = 0; i < live_count; i++) /* packets for the thread that is gone */
        if (live[i].bytes == 48 && i % 3 != 0)
            release(i);
    steps(60);
}

/* What follows a flip. */
static void go_on(bool walk) {
    after_flip = true;
    if (walk)
        (void)hkm_heap_check();
    steps(1200);
    for (size_t i = 0; i < live_count; i++)
        expect(&live[i]);
    if (walk)
        (void)hkm_heap_check();
    while (live_count > 0)
        release(live_count - 1);
    while (twice_count > 0)
        hkm_free(twice[--twice_count]);
    (void)hkm_purge();
    if (walk)
        (void)hkm_heap_check();
}

/* ---- fields ---- */

enum { FIELDS_MAX = 128, PIECES_MAX = 40000 };

static struct field {
    const char *name, *dead; /* the reason why its bits may be silent; NULL */
    size_t bits;
} fields[FIELDS_MAX];
static size_t field_count;

/* Where a field's bits are, in pieces. */
static struct piece {
    unsigned field;
    unsigned char *at;
    size_t bits, first; /* bits from bit `first` of *at on */
} pieces[PIECES_MAX];
static size_t piece_count;

static _Noreturn void give_up(const char *limit) {
    (void)fprintf(stderr, "corrupt: %s is too small\n", limit);
    exit(2);
}

static void add_bits(const char *name, const char *dead, const volatile void *at, size_t first,
                     size_t bits) {
    size_t f = 0;
    while (f < field_count && strcmp(fields[f].name, name) != 0)
        f++;
    if (f == field_count) {
        if (field_count == FIELDS_MAX)
            give_up("FIELDS_MAX");
        fields[field_count++] = (struct field){name, dead, 0};
    }
    if (piece_count == PIECES_MAX)
        give_up("PIECES_MAX");
    fields[f].bits += bits;
    pieces[piece_count++] =
        (struct piece){(unsigned)f, (unsigned char *)(uintptr_t)at, bits, first};
}
static void add(const char *name, const char *dead, const volatile void *at, size_t bytes) {
    add_bits(name, dead, at, 0, bytes * 8);
}
#define ADD(prefix, record, member, dead) \
    add(prefix "." #member, dead, &(record)->member, sizeof((record)->member))

static void add_superslab(uint32_t i) {
    struct superslab *ss = superslab_at(i);
    ADD("superslab", ss, unused, NULL);
    ADD("superslab", ss, dirty, NULL);
    ADD("superslab", ss, idle_ms, "only when a purge is due");
    ADD("superslab", ss, pages, "what pages it has: only whether the system is told");
    ADD("superslab", ss, maps_left, "a hint: whose maps are given back");
    ADD("superslab", ss, spare, "not used");
}

static void add_head(uint32_t number) {
    struct slot_head *head = slot_head(number);
    unsigned class = arena_class_of_slot(number);
    ADD("head", head, state, NULL);
    add("head.padding", "not used", (char *)head + 3, 1);
    if (class == CLASS_LARGE_HEAD) {
        ADD("head", head, moved, "only whether a release renews the mapping");
        ADD("head", head, fresh, "only whether huge pages are thought of");
        ADD("head", head, run_slots, NULL);
        if (slot_state(number) == SLOT_LARGE)
            ADD("head", head, large_bytes, NULL);
        else
            add("head.large_bytes, cached", "written when the run is taken", &head->large_bytes, 8);
    } else {
        add("head.moved of a small run", "for large runs only", &head->moved, 1);
        add("head.fresh of a small run", "for large runs only", &head->fresh, 1);
        add("head.run_slots of a small run", NULL, &head->run_slots, 4);
        add("head.large_bytes of a small run", "for large runs only", &head->large_bytes, 8);
    }
}

static void add_run(uint32_t number) {
    struct slot *slot = slot_at(number);
    bool empty = slot_state(number) == SLOT_EMPTY;
    ADD("slot", slot, class, NULL);
    ADD("slot", slot, filled, "only where the run waits when it is EMPTY");
    ADD("slot", slot, capacity, NULL);
    ADD("slot", slot, free_count, NULL);
    ADD("slot", slot, first, NULL);
    if (empty && atomic_get(&slot->owner, relaxed) == 0)
        add("slot.stack_next in the pool", NULL, &slot->stack_next, 4);
    else
        ADD("slot", slot, stack_next, "read in the pool only, written on the way in");
    ADD("slot", slot, empty_ms, "only when a run in the pool is old enough to be retired");
    ADD("slot", slot, owner, NULL);
    ADD("slot", slot, start, NULL);
    ADD("slot", slot, bits, NULL);
    if (!empty && slot_free(slot) > 0) {
        ADD("slot", slot, prev, NULL);
        ADD("slot", slot, next, NULL);
    } else {
        add("slot.prev and next, unlinked", "written when it is linked", &slot->prev, 8);
    }
    ADD("slot", slot, ahead, "only which pages are asked for ahead");
    ADD("slot", slot, fresh, "only how many blocks go out at once");
    ADD("slot", slot, spare, "not used");
    unsigned words = slot_words(slot);
    if (slot->bits == slot->inline_bits) {
        add("bitmap, in the record", NULL, slot->bits, words * 8);
        if (words < SLOT_INLINE_WORDS)
            add("bitmap, words not in use", "above the capacity: written before they are read",
                slot->inline_bits + words, (SLOT_INLINE_WORDS - words) * 8);
    } else {
        add("bitmap, outside", NULL, slot->bits, words * 8);
        add("bitmap, words not in use", "above the capacity: written before they are read",
            slot->inline_bits, sizeof slot->inline_bits);
    }
    size_t granule = (size_t)1 << sizeclass_table[slot->class].live_shift;
    size_t run = sizeclass_table[slot->class].run_slots;
    add("live map, of a run", NULL, arena_live_byte(slot->class, arena_slot_start(number)),
        run * SLOT_BYTES / granule);
}

static void add_heap(struct heap *heap) {
    bool orphan = atomic_get(&heap->state, relaxed) == HEAP_ORPHAN;
    for (unsigned class = 1; class < CLASS_COUNT; class ++) {
        struct magazine *m = &heap->magazines[class];
        size_t held = (size_t)(atomic_get(&m->top, relaxed) - m->base);
        if (held > 0)
            ADD("magazine", m, hot, NULL);
        else
            add("magazine.hot, empty", "read only while the magazine holds something", &m->hot, 8);
        ADD("magazine", m, top, NULL);
        ADD("magazine", m, floor, NULL);
        ADD("magazine", m, limit, NULL);
        ADD("magazine", m, live, NULL);
        ADD("magazine", m, base, NULL);
        ADD("magazine", m, cap, NULL);
        ADD("magazine", m, cap_max, NULL);
        ADD("magazine", m, room, "a smaller one: a new array is cut earlier");
        ADD("magazine", m, trips, "how busy it was lately: what a drain keeps");
        ADD("magazine", m, away, NULL);
        if (held > 1)
            add("magazine, array", NULL, m->base, (held - 1) * sizeof(void *));
        struct away *away = &heap->away[class];
        ADD("away", away, packet, NULL);
        ADD("away", away, count, NULL);
        ADD("away", away, room, NULL);
        if (away->packet != NULL) {
            unsigned gathered = atomic_get(&away->count, relaxed);
            add("away, header of its packet", "written when it is sent", away->packet,
                offsetof(struct packet, blocks));
            if (gathered > 0)
                add("away, blocks", NULL, away->packet->blocks, gathered * sizeof(void *));
        }
        ADD("bin", &heap->bins[class], head, NULL);
        ADD("bin", &heap->bins[class], tail, NULL);
        ADD("bin", &heap->bins[class], empty, NULL);
        ADD("bin", &heap->bins[class], stash, NULL);
        add("heap.inbox", NULL, &heap->inbox[class], sizeof(void *));
        for (struct packet *p = atomic_get(&heap->inbox[class], relaxed); p != NULL;
             p = atomic_get(&p->next, relaxed)) {
            ADD("packet", p, next, NULL);
            ADD("packet", p, count, NULL);
            ADD("packet", p, group, NULL);
            ADD("packet", p, units, "what waits, to be compared with a limit");
            add("packet.blocks", NULL, p->blocks, p->count * sizeof(void *));
            if (p->count < PACKET_BLOCKS)
                add("packet.blocks, not in use", "above count: written before they are read",
                    p->blocks + p->count, (PACKET_BLOCKS - p->count) * sizeof(void *));
        }
    }
    add("magazine of no class", NULL, &heap->magazines[0], sizeof(struct magazine) / 2);
    add("magazine of large blocks", NULL, &heap->magazines[CLASS_LARGE_HEAD],
        sizeof(struct magazine) / 2);
    ADD("heap", heap, arena_last, NULL);
    ADD("heap", heap, arena_bytes, NULL);
    ADD("heap", heap, class_map, NULL);
    ADD("heap", heap, own, NULL);
    ADD("heap", heap, id, NULL);
    ADD("heap", heap, lock, NULL);
    ADD("heap", heap, owner, orphan ? NULL : "read in a forked child only");
    ADD("heap", heap, state, NULL);
    ADD("heap", heap, number, NULL);
    ADD("heap", heap, drain_ms, "when the next drain is due");
    ADD("heap", heap, armed_ms, "when the heap may be armed again");
    ADD("heap", heap, cap_bytes, "how far magazines may still grow");
    ADD("heap", heap, cut, NULL);
    ADD("heap", heap, next_array, NULL);
    ADD("heap", heap, stats, "counters that are only reported");
    ADD("heap", heap, inbox_bytes, NULL);
    ADD("heap", heap, stock.first, NULL);
    ADD("heap", heap, stock.count, NULL);
}

static void add_arena(void) {
    ADD("arena", &arena, last, NULL);
    ADD("arena", &arena, bytes, NULL);
    ADD("arena", &arena, class_map, NULL);
    ADD("arena", &arena, base, NULL);
    ADD("arena", &arena, slots, NULL);
    ADD("arena", &arena, superslabs, NULL);
    ADD("arena", &arena, bitmaps, NULL);
    ADD("arena", &arena, metadata, NULL);
    add("arena.live", NULL, &arena.live[4], 2 * sizeof arena.live[0]);
    add("arena.live", NULL, &arena.live[7], sizeof arena.live[0]);
    ADD("arena", &arena, slot_count, NULL);
    ADD("arena", &arena, superslab_count, NULL);
}

static void add_fields(void) {
    add_arena();
    uint32_t end = superslab_top();
    add_bits("set avail", NULL, superslab_avail, 0, end);
    add_bits("set open", "a hint: whoever follows it tries the claim", superslab_open, 0, end);
    add_bits("set warm", NULL, superslab_warm, 0, end);
    for (uint32_t i = 0; i < heap_count(); i++)
        add_heap(heap_by_number(i));
    for (uint32_t i = 0; i < end; i++) {
        if (!superslab_in_use(i))
            continue;
        add_superslab(i);
        for (uint32_t number = i * SUPERSLAB_SLOTS; number < (i + 1) * SUPERSLAB_SLOTS; number++) {
            unsigned class = arena_class_of_slot(number);
            bool unused =
                (atomic_get(&superslab_at(i)->unused, relaxed) >> (number % SUPERSLAB_SLOTS) & 1) !=
                0;
            add(unused ? "class map, UNUSED slots" : "class map", NULL, arena_class_entry(number),
                sizeof(class_entry));
            bool head =
                class == CLASS_LARGE_HEAD || (class != 0 && class < CLASS_COUNT &&
                                              number % sizeclass_table[class].run_slots == 0);
            if (head)
                add_head(number);
            if (head && class < CLASS_COUNT)
                add_run(number);
            else if (unused)
                add("live map, UNUSED slots", NULL, arena_live_byte(1, arena_slot_start(number)),
                    SLOT_BYTES >> 4);
        }
    }
}

static const struct piece *piece_of(unsigned field, size_t *bit) {
    for (size_t i = 0; i < piece_count; i++) {
        if (pieces[i].field != field)
            continue;
        if (*bit < pieces[i].bits)
            return &pieces[i];
        *bit -= pieces[i].bits;
    }
    return NULL;
}

static void flip(unsigned field, size_t bit) {
    const struct piece *piece = piece_of(field, &bit);
    if (piece == NULL)
        exit(2);
    bit += piece->first;
    if (explains) {
        uint64_t word;
        memcpy(&word, piece->at + bit / 64 * 8, sizeof word);
        (void)printf("flips bit %zu of %016llx\n", bit % 64, (unsigned long long)word);
    }
    piece->at[bit / 8] ^= (unsigned char)(1u << (bit % 8));
}

/* ---- the run ---- */

enum outcome { REPORTED, CRASHED, HUNG, SILENT, LATE, OVERLAP, DAMAGED, OUTCOMES };
static struct tally { unsigned count[FIELDS_MAX][OUTCOMES]; } * tallies; /* one a worker, shared */
static bool talkative;
static sigset_t child_ends;

static enum outcome one_flip(unsigned field, size_t bit) {
    (void)fflush(stdout);
    *found = 0;
    pid_t pid = fork();
    if (pid == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(98);
        (void)hkm_heap_check(); /* all is well, and what there is to do after a fork is done */
        flip(field, bit);
        go_on(checked);
        _exit(*found);
    }
    /* The walk blocks signals: only SIGKILL ends a child that hangs in it. */
    int status = 0;
    if (pid < 0)
        exit(2);
    if (sigtimedwait(&child_ends, NULL, &(struct timespec){.tv_sec = HANG_SECONDS}) < 0)
        (void)kill(pid, SIGKILL);
    if (waitpid(pid, &status, 0) != pid)
        exit(2);
    while (sigtimedwait(&child_ends, NULL, &(struct timespec){0}) > 0) {
    }
    if (WIFSIGNALED(status)) {
        int number = WTERMSIG(status);
        if (*found != 0)
            return LATE;
        return number == SIGABRT ? REPORTED : number == SIGKILL ? HUNG : CRASHED;
    }
    return WEXITSTATUS(status) == EXIT_OVERLAP   ? OVERLAP
           : WEXITSTATUS(status) == EXIT_DAMAGED ? DAMAGED
           : WEXITSTATUS(status) == 0            ? SILENT
                                                 : CRASHED;
}

static void work(unsigned worker, unsigned workers, size_t flips, uint64_t seed) {
    for (unsigned f = 0; f < field_count; f++) {
        bool all = fields[f].bits <= flips;
        for (size_t k = 0; k < (all ? fields[f].bits : flips); k++) {
            random_state = (seed * 1000003 + f) * 1000003 + k + 1;
            (void)next_random();
            size_t bit = all ? k : below(fields[f].bits);
            if (k % workers != worker)
                continue;
            random_state = seed + 12345;
            enum outcome outcome = one_flip(f, bit);
            tallies[worker].count[f][outcome]++;
            bool wanted =
                outcome == OVERLAP || (outcome == DAMAGED && fields[f].dead != NULL) ||
                (checked && fields[f].dead == NULL && outcome != REPORTED && outcome != CRASHED);
            if (wanted && (talkative || tallies[worker].count[f][outcome] <= 2))
                (void)printf("%s: corrupt '%s' %zu\n",
                             (const char *[]){"", "crashed", "hung", "silent", "late",
                                              "OVERLAP", "DAMAGED"}[outcome],
                             fields[f].name, bit);
        }
    }
}

static bool table(unsigned workers) {
    unsigned sum[OUTCOMES] = {0}, dead_sum = 0, total = 0;
    (void)printf("\n%-32s %9s %6s %8s %7s %6s %8s %6s %7s %7s\n", "field", "bits", "flips",
                 "reported", "crashed", "dead", "harmless", "late", "overlap", "damaged");
    for (unsigned f = 0; f < field_count; f++) {
        unsigned c[OUTCOMES] = {0}, flips = 0;
        for (unsigned w = 0; w < workers; w++)
            for (int o = 0; o < OUTCOMES; o++)
                c[o] += tallies[w].count[f][o];
        for (int o = 0; o < OUTCOMES; o++) {
            flips += c[o];
            sum[o] += c[o];
        }
        unsigned dead = fields[f].dead != NULL ? c[SILENT] : 0;
        dead_sum += dead;
        total += flips;
        (void)printf("%-32s %9zu %6u %8u %7u %6u %8u %6u %7u %7u\n", fields[f].name, fields[f].bits,
                     flips, c[REPORTED], c[CRASHED] + c[HUNG], dead, c[SILENT] - dead, c[LATE],
                     c[OVERLAP], c[DAMAGED]);
    }
    (void)printf("%-32s %9s %6u %8u %7u %6u %8u %6u %7u %7u\n\n", "all", "", total, sum[REPORTED],
                 sum[CRASHED] + sum[HUNG], dead_sum, sum[SILENT] - dead_sum, sum[LATE],
                 sum[OVERLAP], sum[DAMAGED]);
    (void)printf("Dead, and why:\n");
    for (unsigned f = 0; f < field_count; f++)
        if (fields[f].dead != NULL)
            (void)printf("  %-32s %s\n", fields[f].name, fields[f].dead);
    /* A crash is loud too: option crash_report, on here in the checked build, makes a report of it. */
    double known = 100.0 * (sum[REPORTED] + sum[CRASHED] + dead_sum) / total;
    (void)printf("\n%s build: %.2f %% of %u flips were reported, crashed or are of dead bits; %u "
                 "overlaps, %u times lost contents, %u times nothing in silence\n",
                 checked ? "checked" : "release", known, total, sum[OVERLAP], sum[DAMAGED],
                 sum[SILENT] - dead_sum);
    return checked ? known >= 99.9 && sum[OVERLAP] + sum[DAMAGED] == 0 : sum[OVERLAP] == 0;
}

int main(int argc, char **argv) {
    size_t flips = 200;
    uint64_t seed = 1;
    unsigned workers = 2;
    bool gate = checked;
    for (int option; (option = getopt(argc, argv, "n:s:j:vg")) != -1;) {
        switch (option) {
        case 'n':
            flips = strtoull(optarg, NULL, 0);
            break;
        case 's':
            seed = strtoull(optarg, NULL, 0);
            break;
        case 'j':
            workers = (unsigned)atoi(optarg);
            break;
        case 'v':
            talkative = true;
            break;
        case 'g':
            gate = true;
            break;
        default:
            return 2;
        }
    }
    /* Nothing by the clock: a run is the same each time. */
    (void)setenv("HAKMEM_OPTIONS",
                 checked ? "arena_mib=256,drain_interval=3600000,purge_delay_ms=3600000,"
                           "check_quiet=on,crash_report=on"
                         : "arena_mib=256,drain_interval=3600000,purge_delay_ms=3600000",
                 1);
    found = mmap(NULL, sizeof *found, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED)
        return 2;
    random_state = seed * 77 + 1;
    prepare();
    add_fields();
    if (argc == optind + 2) {
        for (unsigned f = 0; f < field_count; f++)
            if (strcmp(fields[f].name, argv[optind]) == 0) {
                random_state = seed + 12345;
                explains = true;
                (void)setvbuf(stdout, NULL, _IOLBF, 0);
                flip(f, strtoull(argv[optind + 1], NULL, 0));
                go_on(checked);
                (void)printf("silent, and the oracle found %s\n",
                             *found == 0              ? "nothing"
                             : *found == EXIT_OVERLAP ? "an overlap"
                                                      : "lost contents");
                return *found;
            }
        return 2;
    }
    (void)sigemptyset(&child_ends);
    (void)sigaddset(&child_ends, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &child_ends, NULL);
    if (workers == 0 || argc != optind)
        return 2;
    if (one_flip(0, 0) == SILENT) /* the range's last bit: every build sees that */
        (void)printf("the first flip was silent\n");
    tallies = mmap(NULL, workers * sizeof *tallies, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tallies == MAP_FAILED)
        return 2;
    (void)fflush(stdout);
    for (unsigned w = 0; w < workers; w++)
        if (fork() == 0) {
            found = mmap(NULL, sizeof *found, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                         -1, 0);
            if (found == MAP_FAILED)
                _exit(2);
            work(w, workers, flips, seed);
            (void)fflush(stdout);
            _exit(0);
        }
    bool died = false;
    for (int status; wait(&status) > 0;)
        died |= status != 0;
    bool good = table(workers);
    return died || (gate && !good);
}
