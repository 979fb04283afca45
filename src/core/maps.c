/* maps.c -- one line of /proc/self/maps after the other; see maps.h. */
#include "core/maps.h"

#include <string.h>

#include "os/os.h"

struct walk {
    bool (*each)(const struct maps_region *, void *);
    void *arg;
    uintptr_t file_start;
    uint32_t name_hash;
};

static const char *hex(const char *s, uintptr_t *value) {
    uintptr_t n = 0;
    for (;; s++) {
        if (*s >= '0' && *s <= '9')
            n = n << 4 | (uintptr_t)(*s - '0');
        else if (*s >= 'a' && *s <= 'f')
            n = n << 4 | (uintptr_t)(*s - 'a' + 10);
        else
            break;
    }
    *value = n;
    return s;
}

static uint32_t hash(const char *s) {
    uint32_t h = 2166136261u;
    for (; *s != '\0'; s++)
        h = (h ^ (unsigned char)*s) * 16777619u;
    return h;
}

/* "start-end perms offset device inode   name" */
static bool line(const char *s, void *arg) {
    struct walk *walk = arg;
    struct maps_region region = {0};
    s = hex(s, &region.start);
    if (*s != '-')
        return true;
    s = hex(s + 1, &region.end);
    if (strlen(s) < 5)
        return true;
    region.readable = s[1] == 'r';
    region.writable = s[2] == 'w';
    region.executable = s[3] == 'x';
    for (int field = 0; field < 4; field++) {
        s += strspn(s, " ");
        s += strcspn(s, " ");
    }
    region.name = s + strspn(s, " ");
    uint32_t h = hash(region.name);
    if (h != walk->name_hash || region.name[0] == '\0') {
        walk->name_hash = h;
        walk->file_start = region.start;
    }
    region.file_start = walk->file_start;
    return walk->each(&region, walk->arg);
}

bool maps_each(char *buffer, size_t bytes, bool (*each)(const struct maps_region *, void *arg),
               void *arg) {
    struct walk walk = {.each = each, .arg = arg};
    return os_each_line("/proc/self/maps", buffer, bytes, line, &walk);
}
