/* huge.c -- huge pages for the classes' runs, from the start or later; see huge.h. */
#include "core/huge.h"

#include <string.h>

#include "core/options.h"
#include "core/prefault.h"

#define HELD_MIN 6u   /* SuperSlabs, for huge pages from the start */
#define LOOK_AT 4u    /* of them, for how full they are, ... */
#define LOOK_BACK 32u /* ... of so many below a new one, ... */
#define LOOKS 2u      /* ... and of the full ones for what is resident */
#define HEAPS_SEEN 8u /* in the wide look: for more heaps than that it looks back no further */

#define LEFT_PART 5u  /* what may be left of a huge one, of what is held */
#define LEFT_MIN 4u   /* slots, else it saves too little */
#define HEAPS_MOST 4u /* with more threads a page that is moved costs all of them */

#define SKIP_MOST 7u      /* a look costs 5 us, and one that was left out may cost 400 faults */
#define WIDE_SKIP_MOST 1u /* 10 us */
#define SETTING "/sys/kernel/mm/transparent_hugepage/enabled"

ATOMIC(uint32_t) huge_heaps;
static ATOMIC(uint32_t) allowed; /* enum: it is read once, early: a program may lock itself up */
enum { NOT_READ, ALLOWED, FORBIDDEN };
static struct superslab_looks looks;      /* in vain: little is resident, or the kernel refused */
static struct superslab_looks wide_looks; /* in vain: at many heaps' SuperSlabs */

/* What of a SuperSlab is carved, and how much of that is blocks that are out. */
struct carved {
    size_t bytes, out;
};

static struct carved carved_of(uint32_t superslab) {
    struct carved sum = {0, 0};
    for (uint32_t s = 0; s < SUPERSLAB_SLOTS;) {
        uint32_t number = superslab * SUPERSLAB_SLOTS + s;
        unsigned class = arena_class_of_slot(number);
        uint32_t step = 1;
        if (class != 0 && class < CLASS_COUNT) {
            const struct sizeclass *sc = &sizeclass_table[class];
            unsigned free = slot_free(slot_at(number));
            step = sc->run_slots;
            sum.bytes += step * SLOT_BYTES;
            sum.out += free < sc->capacity ? (size_t)(sc->capacity - free) * sc->bytes : 0;
        }
        s += step;
    }
    return sum;
}

/* Whether of `most` SuperSlabs below this one that are carved, each `step`th of the last, so many
 * eighths are out, and one was filled. One alone tells little: with many classes most runs of the
 * newest are still being filled, and a program of sparse ones fills one now and then, too. Enters
 * the OS where all else says yes. */
static bool lately_filled(uint32_t superslab, uint32_t most, uint32_t step, uint32_t eighths) {
    struct carved sum = {0, 0};
    uint32_t full[LOOKS];
    unsigned seen = 0, fulls = 0, passed = 0;
    uint32_t back = LOOK_BACK * most * step / LOOK_AT;
    uint32_t end = superslab > back ? superslab - back : 1;
    for (uint32_t i = superslab - 1; i >= end && seen < most; i--) {
        if (!superslab_in_use(i) || passed++ % step != 0)
            continue;
        struct carved carved = carved_of(i);
        seen += carved.bytes > 0;
        sum.bytes += carved.bytes;
        sum.out += carved.out;
        if (carved.out >= SUPERSLAB_BYTES / 8 * 7 && fulls < LOOKS)
            full[fulls++] = i;
    }
    bool filled = false;
    for (unsigned f = 0; f < fulls && !filled && sum.out >= sum.bytes / 8 * eighths; f++)
        filled = superslab_use(full[f] * SUPERSLAB_SLOTS, SUPERSLAB_SLOTS) != USE_SPARSE;
    return filled;
}

/* Each heap is filling runs of its own: with many heaps the newest SuperSlabs are never full. So
 * this looks back over LOOK_AT SuperSlabs for each heap, but only at 2 * LOOK_AT of these, because
 * their records are on other CPUs' lines. If that leaves some out, five eighths will do: a sample
 * of what is three quarters out may well show less than three quarters. */
static bool filled_by_many(uint32_t superslab) {
    uint32_t heaps = atomic_get(&huge_heaps, relaxed);
    if (heaps <= 1 || !superslab_looks_due(&wide_looks))
        return false;
    uint32_t step = (heaps < HEAPS_SEEN ? heaps : HEAPS_SEEN) / 2;
    bool filled = lately_filled(superslab, 2 * LOOK_AT, step, step == 1 ? 6 : 5);
    superslab_looks_done(&wide_looks, !filled, WIDE_SKIP_MOST);
    return filled;
}

/* Whether a new SuperSlab will be full soon, so that one fault for all of it costs a fraction of
 * 512, and no more memory: the heap is of some size, and fills what it takes. Many threads or
 * classes that each need a little do not. */
static bool wants_huge(uint32_t superslab) {
    if (options.large_pages != LARGE_PAGES_AUTO)
        return options.large_pages == LARGE_PAGES_ON;
    return superslab_held() >= HELD_MIN &&
           (lately_filled(superslab, LOOK_AT, 1, 6) || filled_by_many(superslab));
}

void huge_from_start(uint32_t superslab) {
    if (wants_huge(superslab))
        (void)superslab_make_huge(superslab, 1);
    else
        superslab_make_small(superslab, 1);
}

bool huge_affords(size_t left) {
    return left <= superslab_held() * SUPERSLAB_SLOTS / LEFT_PART;
}

static bool look_for_never(const char *line, void *found) {
    *(bool *)found = strstr(line, "[never]") != NULL;
    return false; /* there is one line */
}

bool huge_never(const char *path) {
    char buffer[128];
    bool found = false;
    return os_each_line(path, buffer, sizeof buffer, look_for_never, &found) && found;
}

static bool is_allowed(void) {
    if (atomic_get(&allowed, relaxed) == NOT_READ)
        atomic_put(&allowed, huge_never(SETTING) ? FORBIDDEN : ALLOWED, relaxed);
    return atomic_get(&allowed, relaxed) == ALLOWED;
}

/* How many slots of this SuperSlab were in use before these; 0 where it is not to be made huge. */
static unsigned used_before(uint32_t superslab, unsigned count) {
    const struct superslab *ss = superslab_at(superslab);
    if (options.large_pages != LARGE_PAGES_AUTO || atomic_get(&huge_heaps, relaxed) > HEAPS_MOST ||
        atomic_get(&ss->pages, relaxed) == PAGES_HUGE)
        return 0;
    unsigned used = bits_count(atomic_get(&ss->dirty, relaxed)) - count;
    unsigned left = SUPERSLAB_SLOTS - used;
    return huge_affords(left) && left >= LEFT_MIN ? used : 0;
}

bool huge_later(uint32_t first, unsigned count) {
    uint32_t superslab = first / SUPERSLAB_SLOTS;
    if (!is_allowed())
        return false;
    size_t used = used_before(superslab, count) * SLOT_BYTES;
    if (used == 0)
        return false;
    struct carved carved = carved_of(superslab);
    if (carved.out < carved.bytes / 8 * 5 || !superslab_looks_due(&looks))
        return false;
    size_t resident = os_resident(arena_slot_start(superslab * SUPERSLAB_SLOTS), SUPERSLAB_BYTES);
    bool made = resident >= used / 8 * 5 && superslab_collapse(superslab);
    superslab_looks_done(&looks, !made, SKIP_MOST);
    return made;
}

void huge_later_run(uint32_t first, unsigned class) {
    unsigned at = first % SUPERSLAB_SLOTS;
    const struct superslab *ss = superslab_at(first / SUPERSLAB_SLOTS);
    bool is_new = at == 0 && atomic_get(&ss->pages, relaxed) == PAGES_HUGE;
    if (is_new || huge_later(first, sizeclass_table[class].run_slots))
        prefault_maps(first, SUPERSLAB_SLOTS - at, class);
}
