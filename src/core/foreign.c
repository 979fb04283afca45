/* foreign.c -- telling glibc's blocks from everything else; see foreign.h.
 * Purpose     glibc's chunk has two words before the block: the size of the chunk before, and its
 *             own size with three flags in the low bits (1: the one before is in use, 2: it has a
 *             mapping of its own, 4: it is of an arena other than the first). A pointer is taken
 *             for a block only if these words agree with the mapping it lies in.
 */
#include "core/foreign.h"

#include <string.h>

#include "core/maps.h"
#include "core/report.h"

/* Weak: a statically linked program has no second allocator in it. */
extern void libc_free(void *block) __asm__("__libc_free") __attribute__((weak));
extern void *libc_realloc(void *block, size_t bytes) __asm__("__libc_realloc")
    __attribute__((weak));

#define CHUNK_HEAD (2 * sizeof(size_t))
#define CHUNK_MAPPED 2u
#define CHUNK_NOT_MAIN 4u
#define GLIBC_HEAP_BYTES MIB(64)

struct search {
    uintptr_t pointer;
    uintptr_t stack;    /* an address on the caller's stack */
    uintptr_t thread;   /* of a variable of the thread: glibc keeps them on top of its stack */
    uintptr_t file_end; /* end of the last mapping of a file: .bss joins it */
    const char *what;
    bool glibc;
};

static size_t word_at(uintptr_t address) {
    size_t word;
    memcpy(&word, (const void *)address, sizeof word);
    return word;
}

static bool is_chunk(const struct maps_region *region, uintptr_t pointer) {
    if ((pointer & (CHUNK_HEAD - 1)) != 0 || pointer < region->start + CHUNK_HEAD)
        return false;
    uintptr_t chunk = pointer - CHUNK_HEAD;
    size_t before = word_at(chunk);
    size_t field = word_at(chunk + sizeof(size_t));
    size_t bytes = field & ~(size_t)7;
    size_t page = os_page_bytes();
    if (bytes < 2 * CHUNK_HEAD || bytes > region->end - chunk)
        return false;
    if ((field & CHUNK_MAPPED) != 0)
        return (field & CHUNK_NOT_MAIN) == 0 && before <= chunk - region->start &&
               ((chunk - before) & (page - 1)) == 0 && ((before + bytes) & (page - 1)) == 0;
    if ((bytes & (CHUNK_HEAD - 1)) != 0 || bytes > region->end - chunk - CHUNK_HEAD)
        return false;
    bool next_knows = (word_at(chunk + bytes + sizeof(size_t)) & 1) != 0;
    if ((field & CHUNK_NOT_MAIN) == 0)
        return next_knows && strcmp(region->name, "[heap]") == 0;
    /* Its heap starts at a multiple of 64 MiB with the address of its arena, which lies likewise
     * near the start of a heap. */
    uintptr_t heap = pointer & ~(GLIBC_HEAP_BYTES - 1);
    if (!next_knows || heap < region->start)
        return false;
    uintptr_t owner = word_at(heap);
    return owner % CHUNK_HEAD == 0 && (owner & (GLIBC_HEAP_BYTES - 1)) < 256;
}

/* Whether a pointer into the mapping of the caller's stack may be of that stack. The kernel lists
 * as one mapping a stack and what glibc has mapped right beside it. */
static bool is_in_use(const struct search *search, const struct maps_region *region) {
    bool has_top = search->thread > search->stack && search->thread < region->end;
    return !has_top || (search->pointer >= search->stack && search->pointer < search->thread);
}

static bool look(const struct maps_region *region, void *arg) {
    struct search *search = arg;
    if (search->pointer < region->start)
        return false;
    bool file = region->name[0] == '/';
    bool behind_file = region->name[0] == '\0' && region->start == search->file_end;
    if (file)
        search->file_end = region->end;
    if (search->pointer >= region->end)
        return true;
    bool own_stack = search->stack >= region->start && search->stack < region->end;
    bool first_stack = strcmp(region->name, "[stack]") == 0;
    if (own_stack || first_stack)
        search->what = "an address on the stack";
    else if (file)
        search->what = "static data or code, or a mapped file";
    else if (behind_file) /* .bss, or what happens to lie there, or has joined it */
        search->what = "static data or code, or mapped, but not by malloc";
    else
        search->what = "mapped, but not by malloc";
    /* An arena of glibc's may lie right behind a mapped file, as .bss does: the chunk decides. */
    bool in_use = first_stack || (own_stack && is_in_use(search, region));
    if (!in_use && !file && region->readable && region->writable)
        search->glibc = is_chunk(region, search->pointer);
    return false;
}

static void classify(const void *pointer, struct search *search) {
    char buffer[1024];
    *search = (struct search){.pointer = (uintptr_t)pointer,
                              .stack = (uintptr_t)buffer,
                              .thread = os_thread_token(),
                              .what = "unmapped: a wild pointer"};
    if (!maps_each(buffer, sizeof buffer, look, search))
        search->what = "not of this allocator";
}

static void must_be_glibc(const char *call, const void *block) {
    struct search search;
    classify(block, &search);
    if (!search.glibc || libc_free == NULL || libc_realloc == NULL)
        report_foreign(call, block, search.what);
}

void foreign_free(const char *call, void *block) {
    must_be_glibc(call, block);
    libc_free(block);
}

void *foreign_realloc(void *block, size_t bytes) {
    must_be_glibc("realloc", block);
    return libc_realloc(block, bytes);
}

size_t foreign_usable_size(const void *block) {
    must_be_glibc("usable_size", block);
    size_t field = word_at((uintptr_t)block - sizeof(size_t));
    size_t bytes = field & ~(size_t)7;
    return bytes - ((field & CHUNK_MAPPED) != 0 ? CHUNK_HEAD : sizeof(size_t));
}
