/* test_alloc.c -- the slow paths of the entry points: what stays in place, and who looks at the clock. */
#include "unit/unit.inc"

#include "core/alloc.h"
#include "core/life.h"
#include "core/options.h"

Test(alloc, a_large_block_with_room_behind_it_is_resized_where_it_is) {
    const size_t sizes[] = {MIB(1) + KIB(320), KIB(512), MIB(2), MIB(5), MIB(1)};
    char *block = alloc_slow(MIB(1));
    check(block != NULL);
    *block = 0x55;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        check(alloc_resize(block, sizes[i]) == block, "%zu", sizes[i]);
        check(alloc_usable("usable_size", block) == sizes[i] && *block == 0x55);
        block[sizes[i] - 1] = 0x55;
    }
    alloc_free("free", block);
}

static struct heap *looking; /* each of its looks is a drain */
static uint64_t looked(void) { return atomic_get(&looking->stats.drains, relaxed); }

Test(alloc, each_slow_path_looks_at_the_clock) {
    options.drain_interval = 0;
    check(life_ready());
    looking = life_heap();
    uint64_t before = looked();
    void *large = alloc_slow(MIB(1));
    check(looked() > before, "malloc of a large block");
    before = looked();
    large = alloc_resize(large, MIB(2));
    check(looked() > before, "realloc of a large block");
    before = looked();
    alloc_free_slow("free", large);
    check(looked() > before, "free of a large block");
    before = looked();
    void *small = alloc_slow(100);
    check(looked() > before, "malloc of a small block");
    before = looked();
    alloc_free_slow("free", small);
    check(looked() > before, "free of a small block");
}
