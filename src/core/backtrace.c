/* backtrace.c -- scanning the stack for return addresses; see backtrace.h. */
#include "core/backtrace.h"

#include <string.h>

#include "base/text.h"
#include "core/maps.h"
#include "os/os.h"

#define FRAMES_MAX 24u
#define WORDS_MAX 2048u
#define RANGES_MAX 256u

/* Static, because a thread's stack may be tiny. report_begin lets one thread in, and `inside` not
 * again for a fault in the midst of it: the thread's token, as a forked child may not have it. */
static ATOMIC(uintptr_t) inside;
static HKM_SPARSE struct text line;
static HKM_SPARSE struct { uintptr_t start, end; } ranges[RANGES_MAX];
static unsigned range_count;
static uintptr_t stack_here, stack_end;
static HKM_SPARSE uintptr_t frames[FRAMES_MAX];
static HKM_SPARSE char buffer[4096];

static bool collect(const struct maps_region *region, void *arg) {
    (void)arg;
    if (region->executable && region->readable && range_count < RANGES_MAX) {
        ranges[range_count].start = region->start;
        ranges[range_count++].end = region->end;
    }
    if (stack_here >= region->start && stack_here < region->end)
        stack_end = region->end;
    return true;
}

static bool is_code(uintptr_t address) {
    for (unsigned i = 0; i < range_count; i++) {
        if (address >= ranges[i].start + 8 && address < ranges[i].end)
            return true;
    }
    return false;
}

/* Whether the bytes before a return address are a call. */
static bool follows_call(uintptr_t address) {
#if defined(__aarch64__)
    uint32_t insn;
    if ((address & 3) != 0)
        return false;
    memcpy(&insn, (const char *)address - 4, sizeof insn);
    return (insn >> 26) == 0x25 || (insn & 0xfffffc1fu) == 0xd63f0000u; /* BL, BLR */
#else
    const unsigned char *p = (const unsigned char *)address;
    if (p[-5] == 0xe8) /* CALL rel32 */
        return true;
    for (int back = 2; back <= 7; back++) { /* CALL r/m64: FF /2 */
        if (p[-back] == 0xff && (p[1 - back] & 0x38) == 0x10)
            return true;
    }
    return false;
#endif
}

/* A return address without the signature that code for pointer authentication gives it on its way
 * through the stack; any other word is some word. */
static uintptr_t without_signature(uintptr_t word) {
#if defined(__aarch64__)
    register uintptr_t lr __asm__("x30") = word;
    __asm__("hint #7" : "+r"(lr)); /* XPACLRI, which older processors take for none */
    return lr;
#else
    return word;
#endif
}

/* Behind an address in `line`: what it lies in. */
static bool name(const struct maps_region *region, void *arg) {
    uintptr_t address = *(uintptr_t *)arg;
    if (address < region->start || address >= region->end)
        return true;
    text_add(&line, "  ");
    const char *slash = strrchr(region->name, '/');
    text_add(&line, slash != NULL ? slash + 1 : region->name);
    text_add(&line, "+0x");
    text_number(&line, address - region->file_start, 16);
    return false;
}

static void print(uintptr_t address) {
    line.used = 0;
    text_add(&line, "    ");
    text_pointer(&line, (void *)address);
    maps_each(buffer, sizeof buffer, name, &address);
    text_add(&line, "\n");
    os_write(2, line.chars, line.used);
}

static bool enter(void) {
    uintptr_t me = os_thread_token();
    if (atomic_get(&inside, relaxed) == me)
        return false;
    atomic_put(&inside, me, relaxed);
    return true;
}

void backtrace_print(void) {
    if (!enter())
        return;
    uintptr_t *word = (uintptr_t *)__builtin_frame_address(0);
    stack_here = (uintptr_t)word;
    stack_end = 0;
    range_count = 0;
    maps_each(buffer, sizeof buffer, collect, NULL);
    unsigned count = 0;
    for (unsigned i = 0; i < WORDS_MAX && count < FRAMES_MAX; i++) {
        if ((uintptr_t)(word + i + 1) > stack_end)
            break;
        uintptr_t value = 0;
        memcpy(&value, word + i, sizeof value);
        value = without_signature(value);
        if (is_code(value) && follows_call(value))
            frames[count++] = value;
    }
    static const char head[] =
        "  return addresses on the stack (the nearest first; some may be old):\n";
    if (count > 0)
        os_write(2, head, sizeof head - 1);
    for (unsigned i = 0; i < count; i++)
        print(frames[i]);
    atomic_put(&inside, 0, relaxed);
}

void backtrace_name(uintptr_t address) {
    if (!enter())
        return;
    print(without_signature(address));
    atomic_put(&inside, 0, relaxed);
}
