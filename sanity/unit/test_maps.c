/* test_maps.c -- reading /proc/self/maps: every mapping, in order, with its bounds and its rights. */
#include "unit/unit.inc"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "core/maps.h"
#include "os/os.h"

struct found {
    uintptr_t pointer; /* looked for */
    uintptr_t last_end;
    size_t count, limit;
    bool there;
    struct maps_region region;
    char name[300];
};

static bool look(const struct maps_region *region, void *arg) {
    struct found *found = arg;
    check(region->start >= found->last_end && region->end > region->start, "ascending");
    check(region->file_start <= region->start);
    found->last_end = region->end;
    found->count++;
    if (found->pointer >= region->start && found->pointer < region->end) {
        found->there = true;
        found->region = *region;
        (void)snprintf(found->name, sizeof found->name, "%s", region->name);
    }
    return found->limit == 0 || found->count < found->limit;
}

static struct found find(const void *pointer) {
    char buffer[1024];
    struct found found = {.pointer = (uintptr_t)pointer};
    check(maps_each(buffer, sizeof buffer, look, &found) && found.count > 5);
    return found;
}

static const char constant[] = "constant";
static int variable = 5;

Test(maps, the_stack_code_constants_and_variables_are_found_with_their_rights) {
    int local = 0;
    struct found stack = find(&local);
    check(stack.there && stack.region.readable && stack.region.writable);
    struct found code = find((void *)(uintptr_t)&find);
    check(code.there && code.region.executable && !code.region.writable && code.name[0] == '/');
    struct found text = find(constant);
    check(text.there && text.region.readable && !text.region.writable && text.name[0] == '/');
    struct found data = find(&variable);
    check(data.there && data.region.writable && !data.region.executable);
    check(strcmp(code.name, text.name) == 0 && code.region.file_start == text.region.file_start);
    check(memcmp((void *)code.region.file_start, "\177ELF", 4) == 0, "the file's first mapping");
}

Test(maps, a_mapping_is_given_with_exact_bounds_and_its_protection) {
    size_t page = os_page_bytes();
    const int rights[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC};
    char *start = mmap(NULL, 10 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(start != MAP_FAILED);
    for (size_t i = 0; i < 4; i++) {
        char *part = start + (2 * i + 1) * page;
        check(mprotect(start, 10 * page, PROT_NONE) == 0 && mprotect(part, page, rights[i]) == 0);
        struct found found = find(part + page - 1);
        check(found.there && found.region.readable == ((rights[i] & PROT_READ) != 0));
        check(found.region.writable == ((rights[i] & PROT_WRITE) != 0));
        check(found.region.executable == ((rights[i] & PROT_EXEC) != 0) && found.name[0] == '\0');
        if (rights[i] != PROT_NONE)
            check(found.region.start == (uintptr_t)part && found.region.end == (uintptr_t)part + page);
    }
    check(munmap(start, 10 * page) == 0 && !find(start).there);
}

Test(maps, a_name_with_blanks_is_whole) {
    char path[] = "/tmp/hkm unit  maps XXXXXX";
    int fd = mkstemp(path);
    check(fd >= 0 && ftruncate(fd, 4096) == 0);
    void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    struct found found = find(p);
    (void)unlink(path);
    check(found.there && strcmp(found.name, path) == 0, "\"%s\"", found.name);
}

Test(maps, a_mapping_whose_path_is_longer_than_the_buffer_has_its_bounds_and_rights) {
    enum { DEPTH = 8, LENGTH = 200 };
    char top[] = "/tmp/hkm-maps-XXXXXX";
    char folder[LENGTH + 1] = "";
    memset(folder, 'd', LENGTH);
    int home = open(".", O_RDONLY | O_DIRECTORY);
    check(home >= 0 && mkdtemp(top) != NULL && chdir(top) == 0);
    for (int i = 0; i < DEPTH; i++)
        check(mkdir(folder, 0700) == 0 && chdir(folder) == 0);
    int fd = open("file", O_RDWR | O_CREAT, 0600);
    size_t page = os_page_bytes();
    check(fd >= 0 && ftruncate(fd, (off_t)(2 * page)) == 0 && unlink("file") == 0);
    char *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    check(p != MAP_FAILED && mprotect(p + page, page, PROT_READ) == 0);
    struct found low = find(p), high = find(p + page);
    for (int i = 0; i < DEPTH; i++)
        check(chdir("..") == 0 && rmdir(folder) == 0);
    check(fchdir(home) == 0 && rmdir(top) == 0);
    check(low.there && low.region.start == (uintptr_t)p && low.region.writable);
    check(high.there && high.region.start == (uintptr_t)p + page && !high.region.writable);
    check(high.region.file_start == (uintptr_t)p && strncmp(high.name, top, strlen(top)) == 0);
}

Test(maps, the_walk_ends_when_it_is_told_to) {
    char buffer[1024];
    struct found found = {.limit = 3};
    check(maps_each(buffer, sizeof buffer, look, &found) && found.count == 3);
}

Test(maps, every_mapping_is_seen_once_among_a_thousand) {
    size_t page = os_page_bytes();
    size_t pieces = unit_repeats(1000, 100);
    char *start = mmap(NULL, pieces * 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(start != MAP_FAILED);
    size_t before = find(start).count;
    for (size_t i = 0; i < pieces; i++)
        check(mprotect(start + 2 * i * page, page, PROT_READ | PROT_WRITE) == 0);
    size_t after = find(start).count;
    check(after >= before + 2 * pieces - 3 && after <= before + 2 * pieces + 3, "%zu", after - before);
    for (size_t i = 0; i < pieces; i += 37) {
        struct found found = find(start + 2 * i * page);
        check(found.there && found.region.writable &&
                  found.region.end == (uintptr_t)start + (2 * i + 1) * page, "piece %zu", i);
    }
}
