/* guard.c -- see guard.h. */
#include "check/guard.h"

#include <string.h>

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define VALGRIND_IS_HERE 1
#else
#define VALGRIND_IS_HERE 0
#define VALGRIND_MALLOCLIKE_BLOCK(block, bytes, redzone, zeroed) ((void)(zeroed))
#define VALGRIND_RESIZEINPLACE_BLOCK(block, old, bytes, redzone) ((void)(old))
#define VALGRIND_FREELIKE_BLOCK(block, redzone) ((void)(block))
#define VALGRIND_MAKE_MEM_NOACCESS(from, bytes) ((void)(from))
#define VALGRIND_MAKE_MEM_UNDEFINED(from, bytes) ((void)(from))
#define VALGRIND_MAKE_MEM_DEFINED(from, bytes) ((void)(from), 0)
#endif

/* AddressSanitizer's, when the program is built with it. */
extern void asan_poison(const volatile void *from,
                        size_t bytes) __asm__("__asan_poison_memory_region") __attribute__((weak));
extern void asan_unpoison(const volatile void *from,
                          size_t bytes) __asm__("__asan_unpoison_memory_region")
    __attribute__((weak));

static bool on_valgrind;
static bool on_asan;
bool guard_marks;

void guard_start(void) {
    static char probe; /* of Valgrind's tools only memcheck answers, with -1 */
    on_valgrind = VALGRIND_IS_HERE && VALGRIND_MAKE_MEM_DEFINED(&probe, 1) != 0;
    on_asan = asan_poison != NULL && asan_unpoison != NULL;
    guard_marks = on_valgrind || on_asan;
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

void guard_mark_born(const char *block, size_t requested, size_t bytes, bool zeroed) {
    if (unlikely(on_valgrind))
        VALGRIND_MALLOCLIKE_BLOCK(block, requested, REDZONE_BYTES, zeroed);
    if (unlikely(on_asan))
        asan_unpoison(block, requested);
    keep_out(block + requested, bytes - requested);
}

void guard_mark_resized(const char *block, size_t old, size_t requested, size_t bytes) {
    if (unlikely(on_valgrind)) {
        VALGRIND_RESIZEINPLACE_BLOCK(block, old, requested, REDZONE_BYTES);
    }
    if (unlikely(on_asan))
        asan_unpoison(block, requested);
    keep_out(block + requested, bytes - requested);
}

void guard_mark_died(const char *block, size_t bytes) {
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

/* A sanitizer's memset would look at the marks. */
UNSEEN static void fill_unseen(volatile char *from, size_t bytes, unsigned char byte) {
    for (size_t i = 0; i < bytes; i++)
        from[i] = (char)byte;
}

void guard_write(char *from, size_t bytes, unsigned char byte) {
    if (unlikely(on_asan)) {
        fill_unseen(from, bytes, byte);
    } else {
        mark_open(from, bytes);
        memset(from, byte, bytes);
    }
    if (unlikely(guard_marks))
        keep_out(from, bytes);
}

UNSEEN static const char *first_other(const char *at, const char *to, unsigned char byte) {
    const uint64_t eight = UINT64_C(0x0101010101010101) * byte;
    while (at < to && (uintptr_t)at % sizeof eight != 0 && *(const unsigned char *)at == byte)
        at++;
    if ((uintptr_t)at % sizeof eight == 0) {
        while (at + sizeof eight <= to && *(const volatile uint64_t *)(const void *)at == eight)
            at += sizeof eight;
    }
    while (at < to && *(const unsigned char *)at == byte)
        at++;
    return at < to ? at : NULL;
}

/* The first byte that differs. The range becomes inaccessible to the program. */
const char *guard_read(const char *from, size_t bytes, unsigned char byte) {
    if (likely(!guard_marks)) /* each byte is its neighbour's equal */
        return bytes == 0 || (*(const unsigned char *)from == byte &&
                              memcmp(from, from + 1, bytes - 1) == 0)
                   ? NULL
                   : first_other(from, from + bytes, byte);
    mark_open(from, bytes);
    const char *wrong = first_other(from, from + bytes, byte);
    keep_out(from, bytes);
    return wrong;
}

UNSEEN void guard_mark_write_end(char *block, size_t bytes) {
    mark_open(block + bytes - REDZONE_BYTES, REDZONE_BYTES);
    guard_write_end(block, bytes);
    keep_out(block + bytes - REDZONE_BYTES, REDZONE_BYTES);
}

UNSEEN const char *guard_mark_read_end(const char *block, size_t bytes) {
    mark_open(block + bytes - REDZONE_BYTES, REDZONE_BYTES);
    const char *wrong = guard_read_end(block, bytes);
    keep_out(block + bytes - REDZONE_BYTES, REDZONE_BYTES);
    return wrong;
}
