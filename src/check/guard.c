/* guard.c -- see guard.h. */
#include "check/guard.h"

#include <string.h>

#include "base/atomic.h"
#include "base/bits.h"

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define VALGRIND_IS_HERE 1
#else
#define VALGRIND_IS_HERE 0
#define RUNNING_ON_VALGRIND 0
#define VALGRIND_MALLOCLIKE_BLOCK(block, bytes, redzone, zeroed) ((void)(zeroed))
#define VALGRIND_RESIZEINPLACE_BLOCK(block, old, bytes, redzone) ((void)(old))
#define VALGRIND_FREELIKE_BLOCK(block, redzone) ((void)(block))
#define VALGRIND_MAKE_MEM_NOACCESS(from, bytes) ((void)(from))
#define VALGRIND_MAKE_MEM_UNDEFINED(from, bytes) ((void)(from))
#define VALGRIND_MAKE_MEM_DEFINED(from, bytes) ((void)(from))
#endif

/* AddressSanitizer's, when the program is built with it. */
extern void asan_poison(const volatile void *from,
                        size_t bytes) __asm__("__asan_poison_memory_region") __attribute__((weak));
extern void asan_unpoison(const volatile void *from,
                          size_t bytes) __asm__("__asan_unpoison_memory_region")
    __attribute__((weak));

static bool on_valgrind;
static bool on_asan;

void guard_start(void) {
    on_valgrind = VALGRIND_IS_HERE && RUNNING_ON_VALGRIND > 0;
    on_asan = asan_poison != NULL && asan_unpoison != NULL;
}

bool guard_on_valgrind(void) { return on_valgrind; }

/* ---- marks ---- */

static void let_in(const void *from, size_t bytes) {
    if (unlikely(on_valgrind))
        VALGRIND_MAKE_MEM_DEFINED(from, bytes);
    if (unlikely(on_asan))
        asan_unpoison(from, bytes);
}

static void keep_out(const void *from, size_t bytes) {
    if (unlikely(on_valgrind))
        VALGRIND_MAKE_MEM_NOACCESS(from, bytes);
    if (unlikely(on_asan))
        asan_poison(from, bytes);
}

void guard_touch(const void *from, size_t bytes) { let_in(from, bytes); }

void guard_open(const void *from, size_t bytes) {
    if (unlikely(on_valgrind))
        VALGRIND_MAKE_MEM_UNDEFINED(from, bytes);
    if (unlikely(on_asan))
        asan_unpoison(from, bytes);
}

void guard_born(const char *block, size_t requested, size_t bytes, bool zeroed) {
    if (unlikely(on_valgrind))
        VALGRIND_MALLOCLIKE_BLOCK(block, requested, REDZONE_BYTES, zeroed);
    if (unlikely(on_asan))
        asan_unpoison(block, requested);
    keep_out(block + requested, bytes - requested);
}

void guard_resized(const char *block, size_t old, size_t requested, size_t bytes) {
    if (unlikely(on_valgrind)) {
        VALGRIND_RESIZEINPLACE_BLOCK(block, old, requested, REDZONE_BYTES);
    }
    if (unlikely(on_asan))
        asan_unpoison(block, requested);
    keep_out(block + requested, bytes - requested);
}

void guard_died(const char *block, size_t bytes) {
    if (unlikely(on_valgrind))
        VALGRIND_FREELIKE_BLOCK(block, REDZONE_BYTES);
    keep_out(block, bytes);
}

void guard_forget(const void *from, const void *to) {
    if (unlikely(on_valgrind) && from < to)
        VALGRIND_MAKE_MEM_UNDEFINED(from, (size_t)((const char *)to - (const char *)from));
}

/* ---- patterns ---- */

/* What is marked as not accessible AddressSanitizer must not see the checker touch. */
#define UNSEEN __attribute__((no_sanitize_address))

static void mark_open(const void *from, size_t bytes) {
    if (unlikely(on_valgrind))
        VALGRIND_MAKE_MEM_DEFINED(from, bytes);
}

typedef ATOMIC(uint64_t) pattern_word;

static uint64_t pattern(unsigned char byte) { return UINT64_C(0x0101010101010101) * byte; }

/* A sanitizer's memset would look at the marks. */
UNSEEN static void fill_unseen(volatile char *from, size_t bytes, unsigned char byte) {
    for (size_t i = 0; i < bytes; i++)
        from[i] = (char)byte;
}

static void fill(char *from, char *to, unsigned char byte) {
    mark_open(from, (size_t)(to - from));
    if (unlikely(on_asan))
        fill_unseen(from, (size_t)(to - from), byte);
    else
        memset(from, byte, (size_t)(to - from));
    keep_out(from, (size_t)(to - from));
}

UNSEEN static const char *first_other(const char *at, const char *to, unsigned char byte) {
    const uint64_t eight = pattern(byte);
    while (at < to && (uintptr_t)at % sizeof eight != 0 && *(const unsigned char *)at == byte)
        at++;
    if ((uintptr_t)at % sizeof eight == 0) {
        for (; at + sizeof eight <= to; at += sizeof eight) {
            if (*(const volatile uint64_t *)(const void *)at != eight)
                break;
        }
    }
    while (at < to && *(const unsigned char *)at == byte)
        at++;
    return at < to ? at : NULL;
}

/* The first byte in [from, to) that differs. The range becomes inaccessible to the program. */
static const char *differs(const char *from, const char *to, unsigned char byte) {
    mark_open(from, (size_t)(to - from));
    const char *wrong = first_other(from, to, byte);
    keep_out(from, (size_t)(to - from));
    return wrong;
}

/* Where the part of a redzone ends that lies before the last bytes. */
static size_t redzone_end(size_t requested, size_t bytes) {
    size_t most = requested + REDZONE_MOST - REDZONE_BYTES;
    return bytes - REDZONE_BYTES < most ? bytes - REDZONE_BYTES : most;
}

void guard_fill(char *block, size_t requested, size_t bytes) {
    fill(block + requested, block + redzone_end(requested, bytes), REDZONE_BYTE);
    guard_fill_end(block, bytes);
}

const char *guard_check(const char *block, size_t requested, size_t bytes) {
    const char *wrong =
        differs(block + requested, block + redzone_end(requested, bytes), REDZONE_BYTE);
    return wrong != NULL ? wrong : guard_check_end(block, bytes);
}

UNSEEN void guard_fill_end(char *block, size_t bytes) {
    char *end = block + bytes - REDZONE_BYTES;
    mark_open(end, REDZONE_BYTES);
    for (size_t i = 0; i < REDZONE_BYTES / sizeof(uint64_t); i++)
        atomic_put((pattern_word *)(void *)end + i, pattern(REDZONE_BYTE), relaxed);
    keep_out(end, REDZONE_BYTES);
}

UNSEEN const char *guard_check_end(const char *block, size_t bytes) {
    const char *end = block + bytes - REDZONE_BYTES;
    const char *wrong = NULL;
    mark_open(end, REDZONE_BYTES);
    for (size_t i = 0; wrong == NULL && i < REDZONE_BYTES / sizeof(uint64_t); i++) {
        uint64_t other = atomic_get((const pattern_word *)(const void *)end + i, relaxed) ^
                         pattern(REDZONE_BYTE);
        if (unlikely(other != 0))
            wrong = end + i * sizeof other + bits_lowest(other) / 8;
    }
    keep_out(end, REDZONE_BYTES);
    return wrong;
}

static size_t poison_bytes(size_t bytes) {
    size_t most = bytes - REDZONE_BYTES;
    return most < POISON_MOST ? most : POISON_MOST;
}

void guard_poison(char *block, size_t bytes) {
    fill(block, block + poison_bytes(bytes), POISON_BYTE);
}

const char *guard_check_poison(const char *block, size_t bytes) {
    return differs(block, block + poison_bytes(bytes), POISON_BYTE);
}
