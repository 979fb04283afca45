/* page_size.c -- a library that says that pages are of PAGE_BYTES, for tests on a system of 4 KiB.
 * Purpose     the allocator asks the system for the size of a page and must work with each. Preloaded
 *             before it, this answers in the system's place: mappings start at multiples of such a
 *             page, and of one either all is resident or nothing.
 * Limits      The C library still takes pages for small, so its own large blocks do not look as the
 *             allocator expects them; a part of a page that nobody touched is not resident.
 */
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <dlfcn.h>
#include <stdint.h>

enum { SMALL_BYTES = 4096 };

static uintptr_t rounded_up(uintptr_t n, uintptr_t to) { return (n + to - 1) / to * to; }

unsigned long getauxval(unsigned long type) {
    unsigned long (*real)(unsigned long);
    if (type == AT_PAGESZ)
        return PAGE_BYTES;
    *(void **)&real = dlsym(RTLD_NEXT, "getauxval");
    return real(type);
}

int mincore(void *start, size_t bytes, unsigned char *resident) {
    unsigned char small[PAGE_BYTES / SMALL_BYTES];
    for (size_t at = 0; at < bytes; at += PAGE_BYTES, resident++) {
        if (syscall(SYS_mincore, (char *)start + at, (size_t)PAGE_BYTES, small) != 0)
            return -1;
        *resident = 0;
        for (size_t i = 0; i < sizeof small; i++)
            *resident |= small[i] & 1;
    }
    return 0;
}

void *mmap(void *start, size_t bytes, int protection, int flags, int file, off_t offset) {
    if (start == NULL) {
        char *found = (char *)syscall(SYS_mmap, NULL, bytes + PAGE_BYTES, PROT_NONE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, (off_t)0);
        if (found == MAP_FAILED)
            return found;
        char *end = (char *)rounded_up((uintptr_t)found + bytes + PAGE_BYTES, SMALL_BYTES);
        start = (char *)rounded_up((uintptr_t)found, PAGE_BYTES);
        char *behind = (char *)rounded_up((uintptr_t)start + bytes, SMALL_BYTES);
        if ((char *)start > found)
            (void)munmap(found, (size_t)((char *)start - found));
        if (end > behind)
            (void)munmap(behind, (size_t)(end - behind));
        flags |= MAP_FIXED;
    }
    return (void *)syscall(SYS_mmap, start, bytes, protection, flags, file, offset);
}
