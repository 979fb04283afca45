/* report.c -- putting the sentence together; see report.h. */
#include "core/report.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/require.h"
#include "base/text.h"
#include "core/backtrace.h"
#include "core/large.h"
#include "core/superslab.h"

static void say(const struct text *line) { os_write(2, line->chars, line->used); }

_Noreturn static void end(struct text *line) {
    text_add(line, "\n");
    say(line);
    backtrace_print();
    abort();
}

/* "; class 64, SuperSlab 3, slot 5 ACTIVE" */
static void add_place(struct text *line, const void *pointer) {
    uint32_t number = arena_slot_of(pointer);
    unsigned class = arena_class_of_slot(number);
    text_add(line, "; SuperSlab ");
    text_dec(line, number / SUPERSLAB_SLOTS);
    text_add(line, ", slot ");
    text_dec(line, number % SUPERSLAB_SLOTS);
    if (class != 0)
        number = class < CLASS_COUNT ? slot_number(slot_of_block(class, pointer))
                                     : large_run_of(pointer);
    unsigned state = class == 0 ? SLOT_UNUSED : slot_state(number);
    text_add(line, " ");
    text_add(line, state < SLOT_STATES ? slot_state_name[state] : "in no known state");
    if (class != 0 && class < CLASS_COUNT) {
        text_add(line, ", class ");
        text_dec(line, sizeclass_bytes(class));
    }
}

static void add_block(struct text *line, const char *block, size_t bytes, const char *pointer) {
    text_add(line, "a block of ");
    text_dec(line, bytes);
    text_add(line, " bytes at ");
    text_pointer(line, block);
    text_add(line, " (byte ");
    text_dec(line, (uint64_t)(pointer - block));
    text_add(line, ")");
}

static void describe_small(struct text *line, unsigned class, const char *pointer, bool *dead) {
    const struct slot *slot = slot_of_block(class, pointer);
    size_t bytes = sizeclass_bytes(class);
    size_t index = (size_t)(pointer - slot->start) / bytes;
    if (pointer < slot->start || index >= slot->capacity) {
        text_add(line, "never allocated: in the unused part of a run");
        return;
    }
    const char *block = slot->start + index * bytes;
    bool live = *arena_live_byte(class, block) == arena_live_mark(block);
    *dead = pointer == block && !live;
    if (*dead) {
        text_add(line, "the block of ");
        text_dec(line, bytes);
        text_add(line, " bytes is free");
    } else {
        text_add(line, live ? "interior of the live block: " : "interior of a free block: ");
        add_block(line, block, bytes, pointer);
    }
}

static void describe_large(struct text *line, const char *pointer, bool *dead) {
    uint32_t slot = large_run_of(pointer);
    const char *start = arena_slot_start(slot);
    bool live = slot_state(slot) == SLOT_LARGE;
    *dead = pointer == start && !live;
    if (*dead) {
        text_add(line, "the large block is free");
    } else {
        text_add(line, live ? "interior of the live block: " : "interior of a free block: ");
        add_block(line, start, large_bytes_of(slot), pointer);
    }
}

/* The kinds of first line: "double free of", "invalid free of", "invalid realloc of", ... */
static void add_kind(struct text *line, const char *call, const void *pointer, bool dead_free) {
    text_add(line, "hakmem: ");
    text_add(line, dead_free ? "double " : "invalid ");
    text_add(line, call);
    text_add(line, " of ");
    text_pointer(line, pointer);
    text_add(line, ": ");
}

void report_misuse(const char *call, const void *pointer) {
    struct text what = {0};
    bool dead = false;
    unsigned class = arena_class_of_slot(arena_slot_of(pointer));
    uint32_t superslab = arena_slot_of(pointer) / SUPERSLAB_SLOTS;
    if (class == 0 && superslab >= superslab_top())
        text_add(&what, "never allocated: in a part of the arena that was never in use");
    else if (class == 0)
        text_add(&what, "in no run: its slot was returned to the pool, or never in use");
    else if (class < CLASS_COUNT)
        describe_small(&what, class, pointer, &dead);
    else
        describe_large(&what, pointer, &dead);
    struct text line = {0};
    bool in_no_run =
        class == 0 && superslab < superslab_top() && ((uintptr_t)pointer & (BLOCK_ALIGN - 1)) == 0;
    add_kind(&line, call, pointer, (dead || in_no_run) && strncmp(call, "free", 4) == 0);
    text_add(&line, what.chars);
    add_place(&line, pointer);
    end(&line);
}

void report_foreign(const char *call, const void *pointer, const char *what) {
    struct text line = {0};
    add_kind(&line, call, pointer, false);
    text_add(&line, what);
    end(&line);
}

void report_size(const char *call, const void *block, size_t has, size_t claimed) {
    struct text line = {0};
    text_add(&line, "hakmem: size mismatch in ");
    text_add(&line, call);
    text_add(&line, " of ");
    text_pointer(&line, block);
    text_add(&line, ": a block of ");
    text_dec(&line, has);
    text_add(&line, " bytes freed as one of ");
    text_dec(&line, claimed);
    add_place(&line, block);
    end(&line);
}

void hkm_broken(const char *invariant, const void *about) {
    struct text line = {0};
    text_add(&line, "hakmem: corrupted metadata: invariant ");
    text_add(&line, invariant);
    text_add(&line, " is broken at ");
    text_pointer(&line, about);
    const struct slot *slot = about;
    if (slot < arena.slots && slot >= arena.slots - arena.slot_count) {
        text_add(&line, " (record of SuperSlab ");
        text_dec(&line, slot_number(slot) / SUPERSLAB_SLOTS);
        text_add(&line, ", slot ");
        text_dec(&line, slot_number(slot) % SUPERSLAB_SLOTS);
        text_add(&line, ")");
    } else if (arena_contains(about)) {
        add_place(&line, about);
    }
    end(&line);
}

/* ---- signals ---- */

static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT};

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)context;
    struct text line = {0};
    text_add(&line, "hakmem: signal ");
    text_dec(&line, (uint64_t)number);
    text_add(&line, number == SIGSEGV  ? " (SIGSEGV)"
                    : number == SIGBUS ? " (SIGBUS)"
                                       : " (SIGABRT)");
    if (number != SIGABRT) {
        text_add(&line, " at ");
        text_pointer(&line, info->si_addr);
        if (arena_contains(info->si_addr))
            add_place(&line, info->si_addr);
    }
    text_add(&line, "\n");
    say(&line);
    backtrace_print();
    struct sigaction original = {.sa_handler = SIG_DFL};
    (void)sigaction(number, &original, NULL);
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
