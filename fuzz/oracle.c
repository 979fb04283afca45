/* oracle.c -- operations on blocks, each held against the model; see oracle.h. */
#include "oracle.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <hakmem/hakmem.h>

#include "base/config.h"
#include "harness.h"

#define RESIZED_MAX \
    ((size_t)64 << 20) /* while calls fail: a block above it could be copied whole */
#define CLEARED_MAX ((size_t)32 << 20) /* calloc writes all of it */

void oracle_print_record(void) {
    fprintf(stderr, "  #%zu ", play.at / RECORD_BYTES - 1);
    grammar_print(stderr, &play.record);
    fprintf(stderr, "  [t%u, %u live]\n", play.thread, model_count());
}

_Noreturn void oracle_fail(const char *format, ...) {
    va_list args;
    fprintf(stderr, "fuzz: ORACLE: ");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nfuzz: in operation");
    oracle_print_record();
    abort();
}

/* ---- what may be so ---- */

/* Whether there may be no memory for a block, given what was made to fail since `faults`. */
static bool may_be_out(size_t bytes, size_t alignment, uint64_t faults) {
    if (oracle_faults != faults || oracle_reserved < (uint64_t)1 << 32)
        return true;
    /* A place of that alignment is taken by whatever lies at its start, be it a byte; a few are
     * by what is cached, or at the ends. (4,096 blocks of 57 bytes, each aligned to 1 GiB.) */
    if (alignment > SUPERSLAB_BYTES &&
        model_count() + model_usable_bytes() / alignment + 16 >= oracle_reserved / alignment)
        return true;
    return bytes > oracle_reserved / 4 || alignment > oracle_reserved / 8 ||
           model_usable_bytes() + bytes > oracle_reserved / 4;
}

/* NULL: was that right, and errno too? */
static void refused(size_t bytes, size_t alignment, uint64_t faults) {
    harness_counts.nulls++;
    expect(errno == ENOMEM, "NULL for %zu bytes with errno %d, not ENOMEM", bytes, errno);
    expect(may_be_out(bytes, alignment, faults),
           "NULL for %zu bytes, aligned to %zu: no call failed", bytes, alignment);
}

static void same_errno(const char *what) {
    expect(errno == CANARY_ERRNO, "%s changed errno to %d", what, errno);
}

static bool has_budget(size_t bytes) {
    bool fits = play.blocks_left > 0 &&
                (bytes <= MODEL_WHOLE_BYTES || model_touched < play.touched_end) &&
                (bytes > PTRDIFF_MAX || model_usable_bytes() + bytes <= play.live_max);
    if (fits)
        play.blocks_left--;
    else
        harness_counts.skipped++;
    return fits;
}

/* ---- blocks come and go ---- */

/* Enters a block that was just handed out. */
static void adopt(uint32_t slot, void *start, size_t bytes, size_t alignment, enum origin origin) {
    struct block block = {.start = start, .bytes = bytes, .origin = origin, .alignment = alignment};
    size_t aligned = alignment > 16 ? alignment : 16;
    expect(((uintptr_t)start & (aligned - 1)) == 0, "%p is not aligned to %zu", start, aligned);
    block.usable = hkm_malloc_usable_size(start);
    expect(block.usable >= bytes, "%p of %zu bytes: usable size %zu", start, bytes, block.usable);
    block.filled = (play.record.flags & FLAG_WHOLE) != 0 ? block.usable : bytes;
    uint32_t other = model_add(slot, &block);
    expect(other == NO_BLOCK, "%p of %zu bytes overlaps %p of %zu (slot %u)", start, block.usable,
           (void *)model_blocks[other].start, model_blocks[other].usable, other);
    model_fill(&model_blocks[slot]);
    harness_counts.blocks++;
}

static void same_contents(const void *start, const struct block *as, size_t bytes,
                          const char *when) {
    size_t at = model_differs(start, as, bytes);
    expect(at == SIZE_MAX, "%p of %zu bytes: byte %zu differs %s", start, as->bytes, at, when);
}

void oracle_verify(uint32_t slot) {
    const struct block *block = &model_blocks[slot];
    same_contents(block->start, block, block->filled, "from what was written");
    size_t usable = hkm_malloc_usable_size(block->start);
    expect(usable == block->usable, "%p: usable size %zu was %zu", (void *)block->start, usable,
           block->usable);
    expect(hkm_owns(block->start) == 1 && hkm_owns(block->start + usable - 1) == 1,
           "%p of %zu bytes is not owned throughout", (void *)block->start, usable);
}

void oracle_verify_all(void) {
    uint32_t slot = model_next_live(0);
    for (unsigned i = model_count(); i > 0 && model_touched < play.touched_end; i--) {
        oracle_verify(slot);
        slot = model_next_live((slot + 1) % FUZZ_SLOTS);
    }
}

void oracle_free(uint32_t slot, enum op how) {
    struct block block = model_blocks[slot];
    oracle_verify(slot);
    model_remove(slot);
    errno = CANARY_ERRNO;
    if (how == OP_FREE_SIZED && block.origin == ORIGIN_PLAIN)
        hkm_free_sized(block.start, block.bytes);
    else if (how == OP_FREE_ALIGNED_SIZED && block.origin == ORIGIN_ALIGNED)
        hkm_free_aligned_sized(block.start, block.alignment, block.bytes);
    else
        hkm_free(block.start);
    same_errno("free");
}

bool oracle_malloc(uint32_t slot, size_t bytes) {
    uint64_t faults = oracle_faults;
    errno = CANARY_ERRNO;
    void *start = hkm_malloc(bytes);
    if (start == NULL) {
        refused(bytes, 1, faults);
        return false;
    }
    same_errno("malloc");
    adopt(slot, start, bytes, 1, ORIGIN_PLAIN);
    expect(model_blocks[slot].usable == hkm_good_size(bytes),
           "malloc(%zu): usable size %zu, good size %zu", bytes, model_blocks[slot].usable,
           hkm_good_size(bytes));
    return true;
}

/* ---- allocating ---- */

/* A count for calloc and reallocarray, and the bytes for each, near `total`. */
static size_t count_for(const struct record *r, size_t total, size_t *each) {
    static const size_t COUNTS[16] = {1, 1, 2, 3, 4, 7, 8, 16, 24, 100, 255, 256, 1000, 4096, 0, 1};
    size_t count = COUNTS[r->detail >> 12];
    if ((r->flags & FLAG_OVERFLOW) != 0) {
        *each = 2 + total % 4096;
        return SIZE_MAX / *each + 1 + r->detail % 3;
    }
    if (r->detail % 3 == 0 && count > 0) { /* the other way around */
        *each = count;
        return total / count;
    }
    *each = count == 0 ? total : total / count;
    return count;
}

static void do_calloc(const struct record *r, uint32_t slot, size_t total) {
    uint64_t faults = oracle_faults;
    size_t each;
    size_t count = count_for(r, total, &each);
    size_t bytes;
    bool overflow = __builtin_mul_overflow(count, each, &bytes);
    if (!overflow && bytes > CLEARED_MAX && bytes < PTRDIFF_MAX)
        return;
    errno = CANARY_ERRNO;
    unsigned char *start = hkm_calloc(count, each);
    if (start == NULL) {
        refused(overflow ? SIZE_MAX : bytes, 1, faults);
        return;
    }
    expect(!overflow, "calloc(%zu, %zu) gave %p", count, each, (void *)start);
    same_errno("calloc");
    size_t at = model_not_zero(start, bytes);
    expect(at == SIZE_MAX, "calloc(%zu, %zu): byte %zu is not zero", count, each, at);
    model_touched += bytes;
    adopt(slot, start, bytes, 1, ORIGIN_PLAIN);
}

static bool is_power(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

/* The four calls that take an alignment and return the block. */
static void do_aligned(const struct record *r, uint32_t slot, size_t bytes) {
    uint64_t faults = oracle_faults;
    size_t alignment = r->alignment;
    bool valid = true;
    void *start;
    errno = CANARY_ERRNO;
    if (r->op == OP_ALIGNED_ALLOC) {
        valid = is_power(alignment);
        start = hkm_aligned_alloc(alignment, bytes);
    } else if (r->op == OP_MEMALIGN) {
        start = hkm_memalign(alignment, bytes);
        valid = alignment <= (size_t)1 << 63;
        size_t power = 1;
        while (valid && power < alignment)
            power <<= 1;
        alignment = power;
    } else {
        alignment = 4096;
        if ((r->flags & FLAG_PAGES) != 0) {
            start = hkm_pvalloc(bytes);
            if (bytes <= PTRDIFF_MAX)
                bytes = bytes == 0 ? 4096 : (bytes + 4095) & ~(size_t)4095;
        } else {
            start = hkm_valloc(bytes);
        }
    }
    if (!valid) {
        expect(start == NULL && errno == EINVAL, "alignment %zu: %p, errno %d", r->alignment, start,
               errno);
        return;
    }
    if (start == NULL) {
        refused(bytes, alignment, faults);
        return;
    }
    same_errno(grammar_op_name(r->op));
    adopt(slot, start, bytes, alignment, ORIGIN_ALIGNED);
}

static void do_posix_memalign(const struct record *r, uint32_t slot, size_t bytes) {
    uint64_t faults = oracle_faults;
    void *const untouched = &play;
    void *start = untouched;
    errno = CANARY_ERRNO;
    int error = hkm_posix_memalign(&start, r->alignment, bytes);
    same_errno("posix_memalign");
    if (!is_power(r->alignment) || r->alignment % sizeof(void *) != 0) {
        expect(error == EINVAL && start == untouched, "posix_memalign(%zu): %d", r->alignment,
               error);
        return;
    }
    if (error != 0) {
        expect(start == untouched, "posix_memalign failed and wrote %p", start);
        errno = error;
        refused(bytes, r->alignment, faults);
        return;
    }
    adopt(slot, start, bytes, r->alignment, ORIGIN_ALIGNED);
}

static void allocate(const struct record *r) {
    uint32_t about = model_next_live(r->slot);
    const struct block *near = about == NO_BLOCK ? NULL : &model_blocks[about];
    struct record one = *r;
    uint32_t slot = r->slot;
    for (unsigned i = 0; i < r->repeats; i++) {
        size_t bytes = grammar_size(&one, near ? near->bytes : 0, near ? near->usable : 0);
        slot = model_next_empty(slot);
        if (slot == NO_BLOCK || !has_budget(bytes))
            return;
        if (r->op == OP_MALLOC)
            (void)oracle_malloc(slot, bytes);
        else if (r->op == OP_CALLOC)
            do_calloc(&one, slot, bytes);
        else if (r->op == OP_POSIX_MEMALIGN)
            do_posix_memalign(r, slot, bytes);
        else
            do_aligned(r, slot, bytes);
        if ((r->flags & FLAG_WALK) != 0)
            one.detail = (one.detail + 1) & 0xffff;
    }
}

/* ---- resizing ---- */

/* Puts a block whose contents were checked back under a new start or size. */
static void readopt(uint32_t slot, void *start, size_t bytes, const struct block *old) {
    size_t keep = old->filled < bytes ? old->filled : bytes;
    same_contents(start, old, keep, "after realloc");
    adopt(slot, start, bytes, 1, ORIGIN_PLAIN);
}

static void resize(const struct record *r, uint32_t slot) {
    struct block old = model_blocks[slot];
    uint64_t faults = oracle_faults;
    size_t bytes = grammar_size(r, old.bytes, old.usable);
    size_t each = bytes;
    size_t count = 1;
    if (!has_budget(bytes) || (oracle_fault_is_armed() && old.usable > RESIZED_MAX))
        return;
    if (r->op == OP_REALLOCARRAY)
        count = count_for(r, bytes, &each);
    bool overflow = __builtin_mul_overflow(count, each, &bytes);
    oracle_verify(slot);
    model_remove(slot);
    errno = CANARY_ERRNO;
    void *start = r->op == OP_REALLOCARRAY ? hkm_reallocarray(old.start, count, each)
                                           : hkm_realloc(old.start, bytes);
    if (start != NULL) {
        expect(!overflow && bytes != 0, "realloc(%zu * %zu) gave %p", count, each, start);
        same_errno("realloc");
        readopt(slot, start, bytes, &old);
    } else if (!overflow && bytes == 0) {
        same_errno("realloc to 0");
    } else {
        refused(overflow ? SIZE_MAX : bytes, 1, faults);
        uint32_t other = model_add(slot, &old); /* as it was */
        expect(other == NO_BLOCK, "a failed realloc: overlap with slot %u", other);
        oracle_verify(slot);
    }
}

static void do_realloc(const struct record *r) {
    uint32_t slot = model_next_live(r->slot);
    if ((r->flags & FLAG_NULL) != 0 || slot == NO_BLOCK) {
        size_t bytes = grammar_size(r, 0, 0);
        uint64_t faults = oracle_faults;
        slot = model_next_empty(r->slot);
        if (slot == NO_BLOCK || !has_budget(bytes))
            return;
        errno = CANARY_ERRNO;
        void *start = hkm_realloc(NULL, bytes);
        if (start == NULL) {
            refused(bytes, 1, faults);
            return;
        }
        same_errno("realloc(NULL)");
        adopt(slot, start, bytes, 1, ORIGIN_PLAIN);
        return;
    }
    for (unsigned i = 0; i < r->repeats && i < 256; i++) {
        if ((r->flags & FLAG_WALK) == 0 && i > 0)
            slot = model_next_live((slot + 1) % FUZZ_SLOTS);
        if (slot == NO_BLOCK || !model_is_live(slot))
            return;
        resize(r, slot);
    }
}

static void do_expand(const struct record *r) {
    uint32_t slot = model_next_live(r->slot);
    errno = CANARY_ERRNO;
    if ((r->flags & FLAG_NULL) != 0 || slot == NO_BLOCK) {
        expect(hkm_expand(NULL, r->detail) == NULL, "expand(NULL)");
        same_errno("expand(NULL)");
        return;
    }
    struct block old = model_blocks[slot];
    size_t bytes = grammar_size(r, old.bytes, old.usable);
    if (!has_budget(bytes))
        return;
    oracle_verify(slot);
    void *start = hkm_expand(old.start, bytes);
    same_errno("expand");
    expect(start == NULL || start == old.start, "expand of %p gave %p", (void *)old.start, start);
    expect(start != NULL || bytes > old.usable, "expand to %zu of %zu usable bytes refused", bytes,
           old.usable);
    if (start == NULL || bytes <= old.bytes) {
        oracle_verify(slot);
        return;
    }
    model_remove(slot);
    same_contents(start, &old, old.filled < bytes ? old.filled : bytes, "after expand");
    adopt(slot, start, bytes, old.alignment, ORIGIN_RESIZED);
}

/* ---- freeing ---- */

static void do_free(const struct record *r) {
    if ((r->flags & FLAG_NULL) != 0) {
        errno = CANARY_ERRNO;
        if (r->op == OP_FREE_SIZED)
            hkm_free_sized(NULL, r->detail);
        else if (r->op == OP_FREE_ALIGNED_SIZED)
            hkm_free_aligned_sized(NULL, 64, r->detail);
        else
            hkm_free(NULL);
        same_errno("free(NULL)");
        return;
    }
    uint32_t stride = (r->flags & FLAG_STRIDE_2) != 0 ? 2 : (r->flags & FLAG_STRIDE_7) != 0 ? 7 : 1;
    bool back = (r->flags & FLAG_BACK) != 0;
    uint32_t slot = r->slot;
    for (unsigned i = 0; i < r->repeats; i++) {
        slot = back ? model_previous_live(slot) : model_next_live(slot);
        if (slot == NO_BLOCK)
            return;
        oracle_free(slot, r->op);
        slot = (slot + (back ? FUZZ_SLOTS - stride : stride)) % FUZZ_SLOTS;
    }
}

/* ---- asking ---- */

/* Any address at all: hkm_owns must be right about it. */
static void ask_about(const unsigned char *address) {
    uint32_t slot = model_at_or_below(address);
    size_t into = slot == NO_BLOCK ? 0 : (size_t)(address - model_blocks[slot].start);
    bool inside = slot != NO_BLOCK && into < model_blocks[slot].usable;
    errno = CANARY_ERRNO;
    int owned = hkm_owns(address);
    same_errno("owns");
    expect(owned == (int)inside, "owns(%p) is %d; %zu bytes into a block of %zu at %p",
           (const void *)address, owned, into, slot == NO_BLOCK ? 0 : model_blocks[slot].usable,
           slot == NO_BLOCK ? NULL : (void *)model_blocks[slot].start);
}

static void do_ask(const struct record *r) {
    static const unsigned char elsewhere[64];
    uint32_t slot = model_next_live(r->slot);
    expect(hkm_malloc_usable_size(NULL) == 0, "usable_size(NULL)");
    ask_about(NULL);
    ask_about(elsewhere + r->detail % 64);
    ask_about((const unsigned char *)&slot);
    ask_about((const unsigned char *)(uintptr_t)(0x0123456789abcdefu * (r->detail + 1)));
    if (slot == NO_BLOCK)
        return;
    for (unsigned i = 0; i < r->repeats && i < 64; i++) {
        const struct block *block = &model_blocks[slot];
        oracle_verify(slot);
        ask_about(block->start);
        ask_about(block->start + block->usable - 1);
        ask_about(block->start + block->usable);
        ask_about(block->start - 1);
        ask_about(block->start + r->detail % block->usable);
        ask_about(block->start + ((size_t)r->detail << 8));
        ask_about(block->start - ((size_t)r->detail << 4));
        slot = model_next_live((slot + 1) % FUZZ_SLOTS);
    }
}

static void do_good_size(const struct record *r) {
    size_t bytes = grammar_size(r, 100, 112);
    size_t good = hkm_good_size(bytes);
    if (bytes > PTRDIFF_MAX) {
        expect(good == 0, "good_size(%zu) is %zu", bytes, good);
        return;
    }
    if (HKM_CHECK_LEVEL >= 1) { /* the checked build's blocks are as long as was asked for */
        expect(good == bytes + (bytes == 0), "good_size(%zu) is %zu", bytes, good);
        return;
    }
    expect(good >= bytes && good >= 16, "good_size(%zu) is %zu", bytes, good);
    size_t parts = bytes <= 32768 ? 7 : 4; /* classes to a doubling */
    expect(good - bytes <= 16 || good - bytes <= bytes / parts || good - bytes < 4096,
           "good_size(%zu) is %zu", bytes, good);
    expect(good > PTRDIFF_MAX || hkm_good_size(good) == good, "good_size(%zu) is not a good size",
           good);
    const char *version = hkm_version();
    expect(version[0] >= '0' && version[0] <= '9', "version %s", version);
}

/* ---- the threads' ends ---- */

static void do_purge(const struct record *r) {
    uint64_t faults = oracle_faults;
    if (r->op == OP_PURGE) {
        size_t bytes = hkm_purge();
        expect(bytes % 4096 == 0, "purge returned %zu", bytes);
        if (oracle_faults == faults)
            expect(hkm_purge() == 0 || oracle_faults != faults, "a second purge found something");
    } else {
        int some = hkm_malloc_trim(grammar_size(r, 0, 0));
        expect(some == 0 || some == 1, "trim returned %d", some);
    }
}

void oracle_perform(const struct record *r) {
    switch (r->op) {
    case OP_MALLOC:
    case OP_CALLOC:
    case OP_ALIGNED_ALLOC:
    case OP_POSIX_MEMALIGN:
    case OP_MEMALIGN:
    case OP_VALLOC:
        allocate(r);
        break;
    case OP_REALLOC:
    case OP_REALLOCARRAY:
        do_realloc(r);
        break;
    case OP_FREE:
    case OP_FREE_SIZED:
    case OP_FREE_ALIGNED_SIZED:
        do_free(r);
        break;
    case OP_EXPAND:
        do_expand(r);
        break;
    case OP_ASK:
        do_ask(r);
        break;
    case OP_GOOD_SIZE:
        do_good_size(r);
        break;
    case OP_PURGE:
    case OP_TRIM:
        do_purge(r);
        break;
    case OP_OPTION:
        oracle_option(r);
        break;
    case OP_FAULT:
        oracle_fault(r);
        break;
    case OP_CLOCK:
        oracle_clock(r);
        break;
    case OP_STATS:
        oracle_stats();
        break;
    case OP_VERIFY:
        oracle_verify_all();
        oracle_heap_check();
        break;
    case OP_PRINT_STATS:
        oracle_print_stats();
        break;
    case OP_FORK:
        oracle_fork(r);
        break;
    default:
        break; /* OP_START where it has no meaning */
    }
}

void oracle_end_run(void) {
    struct record end = {.op = OP_END_RUN, .repeats = 1};
    play.record = end;
    play.touched_end = UINT64_MAX;
    oracle_stats();
    oracle_mallinfo();
    uint32_t slot = model_next_live(0);
    for (; slot != NO_BLOCK; slot = model_next_live(slot))
        oracle_free(slot, OP_FREE);
    oracle_restore_options();
    oracle_advance_clock(10000);
    (void)hkm_purge();
    oracle_nothing_is_live();
    oracle_mallinfo();
    oracle_heap_check();
    model_clear();
    uint64_t faults = oracle_faults;
    void *start = hkm_malloc(100000); /* there is memory again */
    expect(start != NULL && oracle_faults == faults, "nothing is live, yet no 100,000 bytes");
    hkm_free(start);
    /* and address space side by side, which a small arena has little of */
    size_t side_by_side =
        oracle_reserved < (uint64_t)64 << 20 ? oracle_reserved / 2 : (size_t)32 << 20;
    start = hkm_malloc(side_by_side);
    expect(start != NULL, "nothing is live, yet no %zu bytes", side_by_side);
    hkm_free(start);
    (void)hkm_purge();
}
