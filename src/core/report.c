/* report.c -- putting the sentence together; see report.h. */
#include "core/report.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "core/backtrace.h"
#include "core/large.h"
#include "core/superslab.h"
#include "core/watch.h"

#define GATE_TRIES 10000u /* of os_backoff, a second in all */

/* os_thread_token of the thread that reports. It is not let go of: the process ends. */
static ATOMIC(uintptr_t) reporter;
/* Static, because a signal handler's stack may be small. */
static HKM_SPARSE struct text line, pointee;

/* Who reports may hang, or be a thread that a forked child does not have: then the one that waited
 * takes its place. */
struct text *report_begin(void) {
    uintptr_t me = os_thread_token(), found = 0, before = 0;
    unsigned attempt = 0;
    while (!atomic_cas(&reporter, &found, me, relaxed, relaxed) && found != me) {
        if (found != before)
            attempt = 0;
        before = found;
        if (attempt < GATE_TRIES) {
            os_backoff(attempt++);
            found = 0;
        }
    }
    line.used = 0;
    return &line;
}

static void set_action(int number, void (*handler)(int)) {
    const struct sigaction action = {.sa_handler = handler};
    (void)sigaction(number, &action, NULL);
}

/* The process ends by what is reported, and not by SIGPIPE because nobody reads it. */
static void say(void) {
    text_add(&line, "\n");
    set_action(SIGPIPE, SIG_IGN);
    os_write(2, line.chars, line.used);
    line.used = 0;
}

void report_end(const char *invariant, const void *about) {
    say();
    if (HKM_CHECK_LEVEL >= 1)
        watch_report(invariant, about);
    backtrace_print();
    abort();
}

/* ---- the line that names an invariant ---- */

uint32_t report_slot(const void *about) {
    const struct slot *slot = about;
    const char *head = about;
    const char *heads = (const char *)arena.superslabs;
    size_t heads_bytes = (size_t)arena.superslab_count * sizeof(struct superslab);
    if (arena_bytes() == 0)
        return UINT32_MAX;
    if (arena_contains(about))
        return arena_slot_of(about);
    if (slot < arena.slots && slot >= arena.slots - arena.slot_count)
        return slot_number(slot);
    if (head < heads && head >= heads - heads_bytes) {
        size_t superslab = (size_t)(heads - head - 1) / sizeof(struct superslab);
        const struct superslab *ss = superslab_at(superslab);
        size_t at = head < (const char *)ss->heads
                        ? 0
                        : (size_t)(head - (const char *)ss->heads) / sizeof ss->heads[0];
        return (uint32_t)(superslab * SUPERSLAB_SLOTS + at);
    }
    return UINT32_MAX;
}

static void add_field(const char *name, bool known, uint64_t value) {
    text_add(&line, name);
    if (known)
        text_dec(&line, value);
    else
        text_add(&line, "-");
}

void report_check_line(const char *invariant, const char *keyword, const char *expected,
                       const char *found, const void *about) {
    (void)report_begin();
    text_add(&line, "hakmem: CHECK ");
    text_add(&line, invariant);
    text_add(&line, " ");
    text_add(&line, keyword);
    text_add(&line, ": expected ");
    text_add(&line, expected);
    text_add(&line, " found ");
    text_add(&line, found);
    uint32_t slot = report_slot(about);
    unsigned class = slot == UINT32_MAX ? 0 : arena_class_of_slot(slot);
    add_field(" superslab=", slot != UINT32_MAX, slot / SUPERSLAB_SLOTS);
    add_field(" slot=", slot != UINT32_MAX, slot % SUPERSLAB_SLOTS);
    if (class >= CLASS_COUNT)
        text_add(&line, " class=large");
    else
        add_field(" class=", class != 0, class == 0 ? 0 : sizeclass_bytes(class));
    text_add(&line, " ptr=");
    text_pointer(&line, about);
    say();
}

/* Misuse stands in the registry too; in the release build its sentence alone is the report. */
static void misuse_line(const char *invariant, const char *keyword, const char *expected,
                        const char *found, const void *about) {
    if (HKM_CHECK_LEVEL >= 1)
        report_check_line(invariant, keyword, expected, found, about);
}

/* "; SuperSlab 3, slot 5 ACTIVE, class 64" */
void report_place(const void *pointer) {
    uint32_t number = arena_slot_of(pointer);
    unsigned class = arena_class_of_slot(number);
    text_add(&line, "; SuperSlab ");
    text_dec(&line, number / SUPERSLAB_SLOTS);
    text_add(&line, ", slot ");
    text_dec(&line, number % SUPERSLAB_SLOTS);
    if (class != 0)
        number = class < CLASS_COUNT ? slot_number(slot_of_block(class, pointer))
                                     : large_run_of(pointer);
    unsigned state = class == 0 ? SLOT_UNUSED : slot_state(number);
    text_add(&line, " ");
    text_add(&line, state < SLOT_STATES ? slot_state_name[state] : "in no known state");
    if (class != 0 && class < CLASS_COUNT) {
        text_add(&line, ", class ");
        text_dec(&line, sizeclass_bytes(class));
    }
}

/* Likewise in `pointee`, for the functions below. */
static void add_block(const char *block, size_t bytes, const char *pointer) {
    text_add(&pointee, "a block of ");
    text_dec(&pointee, bytes);
    text_add(&pointee, " bytes at ");
    text_pointer(&pointee, block);
    text_add(&pointee, " (byte ");
    text_dec(&pointee, (uint64_t)(pointer - block));
    text_add(&pointee, ")");
}

/* True for an interior; *dead, if it is true already, is known from elsewhere. */
static bool describe_small(unsigned class, const char *pointer, bool *dead) {
    const struct slot *slot = slot_of_block(class, pointer);
    size_t bytes = sizeclass_bytes(class);
    size_t index = (size_t)(pointer - slot->start) / bytes;
    if (pointer < slot->start || index >= slot->capacity) {
        text_add(&pointee, "never allocated: in the unused part of a run");
        return false;
    }
    const char *block = slot->start + index * bytes;
    bool live = !*dead && live_get(arena_live_byte(class, block)) == arena_live_mark(block);
    *dead = pointer == block && !live;
    if (*dead) {
        text_add(&pointee, "the block of ");
        text_dec(&pointee, bytes);
        text_add(&pointee, " bytes is free");
    } else {
        text_add(&pointee, live ? "interior of the live block: " : "interior of a free block: ");
        add_block(block, bytes, pointer);
    }
    return pointer != block;
}

static bool describe_large(const char *pointer, bool *dead) {
    uint32_t slot = large_run_of(pointer);
    const char *start = arena_slot_start(slot);
    bool live = !*dead && slot_state(slot) == SLOT_LARGE;
    *dead = pointer == start && !live;
    if (*dead) {
        text_add(&pointee, "the large block is free");
    } else {
        text_add(&pointee, live ? "interior of the live block: " : "interior of a free block: ");
        add_block(start, large_bytes_of(slot), pointer);
    }
    return pointer != start;
}

/* The kinds of first line: "double free of", "invalid free of", "invalid realloc of", ... */
static void add_kind(const char *call, const void *pointer, bool dead_free) {
    text_add(&line, "hakmem: ");
    text_add(&line, dead_free ? "double " : "invalid ");
    text_add(&line, call);
    text_add(&line, " of ");
    text_pointer(&line, pointer);
    text_add(&line, ": ");
}

/* What a pointer into the arena, which is no live block, is. */
enum kind { KIND_NEVER, KIND_NO_RUN, KIND_DEAD, KIND_INTERIOR };

static void kind_line(enum kind kind, const char *call, const void *pointer) {
    bool frees = strncmp(call, "free", 4) == 0;
    if (kind == KIND_DEAD && frees)
        misuse_line("B1", "double-free", "live", "free", pointer);
    else if (kind == KIND_DEAD)
        misuse_line("B7", "dead-block", "live", "free", pointer);
    else if (kind == KIND_INTERIOR)
        misuse_line("B2", "interior", "block-start", "interior", pointer);
    else
        misuse_line("B3", "no-block", "live",
                    kind == KIND_NO_RUN ? "in-no-run" : "never-allocated", pointer);
}

static _Noreturn void misuse(const char *call, const void *pointer, bool known_dead) {
    (void)report_begin();
    pointee.used = 0;
    bool dead = known_dead;
    bool interior = false;
    unsigned class = arena_class_of_slot(arena_slot_of(pointer));
    uint32_t superslab = arena_slot_of(pointer) / SUPERSLAB_SLOTS;
    bool in_no_run = false;
    if (class == 0) {
        bool used = superslab < superslab_top() && superslab_is_committed(superslab);
        text_add(&pointee, used ? "in no run: its slot was returned to the pool, or never in use"
                                : "never allocated: in a part of the arena that was never in use");
        in_no_run = used && ((uintptr_t)pointer & (BLOCK_ALIGN - 1)) == 0;
    } else if (class < CLASS_COUNT) {
        interior = describe_small(class, pointer, &dead);
    } else {
        interior = describe_large(pointer, &dead);
    }
    kind_line(dead        ? KIND_DEAD
              : interior  ? KIND_INTERIOR
              : in_no_run ? KIND_NO_RUN
                          : KIND_NEVER,
              call, pointer);
    add_kind(call, pointer, (dead || in_no_run) && strncmp(call, "free", 4) == 0);
    text_add(&line, pointee.chars);
    report_place(pointer);
    report_end(NULL, pointer);
}

void report_misuse(const char *call, const void *pointer) { misuse(call, pointer, false); }

void report_dead(const char *call, const void *block) { misuse(call, block, true); }

void report_foreign(const char *call, const void *pointer, const char *what) {
    (void)report_begin();
    misuse_line("B4", "foreign", "block", "foreign", pointer);
    add_kind(call, pointer, false);
    text_add(&line, what);
    report_end(NULL, pointer);
}

void report_alignment(const char *call, const void *block, size_t has, size_t claimed) {
    (void)report_begin();
    misuse_line("B6", "alignment", "the-alignment-asked-for", "another", block);
    text_add(&line, "hakmem: alignment mismatch in ");
    text_add(&line, call);
    text_add(&line, " of ");
    text_pointer(&line, block);
    text_add(&line, ": a block aligned to ");
    text_dec(&line, has);
    text_add(&line, " freed as one aligned to ");
    text_dec(&line, claimed);
    report_place(block);
    report_end(NULL, block);
}

void report_size(const char *call, const void *block, size_t has, size_t claimed) {
    (void)report_begin();
    misuse_line("B5", "size", "the-size-asked-for", "another", block);
    text_add(&line, "hakmem: size mismatch in ");
    text_add(&line, call);
    text_add(&line, " of ");
    text_pointer(&line, block);
    text_add(&line, ": a block of ");
    text_dec(&line, has);
    text_add(&line, " bytes freed as one of ");
    text_dec(&line, claimed);
    report_place(block);
    report_end(NULL, block);
}

/* ---- signals ---- */

static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT};

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)context;
    (void)report_begin();
    text_add(&line, "hakmem: signal ");
    text_dec(&line, (uint64_t)number);
    text_add(&line, number == SIGSEGV  ? " (SIGSEGV)"
                    : number == SIGBUS ? " (SIGBUS)"
                                       : " (SIGABRT)");
    if (number != SIGABRT) {
        text_add(&line, " at ");
        text_pointer(&line, info->si_addr);
        if (arena_contains(info->si_addr))
            report_place(info->si_addr);
    }
    say();
    backtrace_print();
    set_action(number, SIG_DFL);
    if (info->si_code <= 0) /* sent, not caused: it does not come again by itself */
        (void)raise(number);
}

void report_install(void) {
    int saved = errno;
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction now;
        if (sigaction(signals[i], NULL, &now) != 0 || (now.sa_flags & SA_SIGINFO) != 0 ||
            now.sa_handler != SIG_DFL)
            continue;
        struct sigaction ours = {.sa_sigaction = on_signal,
                                 .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
        (void)sigaction(signals[i], &ours, NULL);
    }
    errno = saved;
}
