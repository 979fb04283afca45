/* limits.c -- under limits of address space, of data, and with all memory locked, the program
 * starts, gets NULL and ENOMEM when memory is used up, keeps every block intact, can make blocks
 * smaller, can start threads, and can allocate again afterwards.
 */
#include "check.inc"

#include <sys/mman.h>

enum { BLOCKS_MAX = 400000 };

/* Allocates blocks of `bytes` until NULL or `most` blocks, linked through their first words. */
static size_t allocate_until_null(size_t bytes, size_t most, void **head) {
    size_t count = 0;
    *head = NULL;
    while (count < most) {
        errno = 0;
        void **block = malloc(bytes);
        if (block == NULL) {
            EXPECT(errno == ENOMEM, "malloc(%zu): expected errno ENOMEM, found %d", bytes, errno);
            break;
        }
        pattern_fill(block, bytes, bytes);
        block[0] = *head;
        *head = block;
        count++;
    }
    return count;
}

static void expect_intact_and_free(void *head, size_t bytes, size_t count) {
    size_t found = 0, damaged = 0;
    while (head != NULL) {
        void *next;
        memcpy(&next, head, sizeof next);
        uint64_t first = pattern_word(bytes, 0);
        memcpy(head, &first, sizeof first);
        damaged += !pattern_intact(head, bytes, bytes);
        free(head);
        head = next;
        found++;
    }
    EXPECT(found == count && damaged == 0, "%zu blocks of %zu: found %zu, %zu of them damaged",
           count, bytes, found, damaged);
}

/* In a process that started with a limit of argv[2] bytes: uses memory up with each size in turn.
 */
static int limited_child(size_t limit) {
    static const size_t sizes[] = {4096, 100, 262144, 1 << 20, 40000, 16};
    size_t first_count = 0;
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        void *head, *kept = malloc(5000);
        REQUIRE(kept != NULL, "malloc(5000) before the %zu-byte blocks", sizes[i]);
        pattern_fill(kept, 5000, 1);
        size_t most = limit / sizes[i] + 1;
        size_t count = allocate_until_null(sizes[i], most, &head);
        EXPECT(count < most, "expected NULL before %zu blocks of %zu bytes", most, sizes[i]);
        size_t least = limit / (under_debug_hakmem() ? 8 : 4);
        /* a quarter of the limit must be to be had for blocks of any size but the smallest */
        if (sizes[i] > 64)
            EXPECT(count * sizes[i] >= least,
                   "blocks of %zu: expected %zu bytes in all, found %zu", sizes[i], least,
                   count * sizes[i]);
        void *moved = realloc(kept, 2 * limit);
        EXPECT(moved == NULL && errno == ENOMEM, "realloc to twice the limit: found %p, errno %d",
               moved, errno);
        EXPECT(pattern_intact(kept, 5000, 1), "a failed realloc changed the block");
        if (i == 0)
            first_count = count;
        expect_intact_and_free(head, sizes[i], count);
        free(hide(kept));
    }
    void *head;
    size_t again = allocate_until_null(4096, limit / 4096 + 1, &head);
    EXPECT(again * 10 >= first_count * 9,
           "after all that: expected about %zu blocks of 4096, found %zu", first_count, again);
    expect_intact_and_free(head, 4096, again);
    return check_failures > 0;
}

/* Starts this program again under a limit. */
static void run_limited(int resource, size_t limit, const char *mode) {
    char self[] = "/proc/self/exe", text[30], word[20];
    char *arguments[] = {self, word, text, NULL};
    snprintf(text, sizeof text, "%zu", limit);
    snprintf(word, sizeof word, "%s", mode);
    pid_t child = fork();
    REQUIRE(child >= 0, "fork");
    if (child == 0) {
        struct rlimit both = {limit, limit};
        if (resource >= 0 && setrlimit((__rlimit_resource_t)resource, &both) != 0)
            _exit(98);
        execv(self, arguments);
        _exit(99);
    }
    EXPECT_CHILD(child, 0, 60, "the program under a limit");
}

/* The checked library keeps a shadow beside the blocks, so it gets twice as much. */
static size_t room(size_t bytes) { return under_debug_hakmem() ? 2 * bytes : bytes; }

static void runs_in_64_mib_of_address_space(void) {
    run_limited(RLIMIT_AS, room(64 * MIB), "--limited");
}

static void runs_in_128_mib_of_address_space(void) {
    run_limited(RLIMIT_AS, 128 * MIB, "--limited");
}

static void runs_in_1_gib_of_address_space(void) {
    run_limited(RLIMIT_AS, 1024 * MIB, "--limited");
}

static void *allocate_a_little(void *argument) {
    free(hide(malloc(1000)));
    return argument;
}

static int threaded_child(size_t limit) {
    enum { THREADS = 3 };
    pthread_t threads[THREADS];
    REQUIRE(malloc(1000) != NULL, "malloc");
    for (size_t i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, allocate_a_little, NULL) == 0,
                "with %zu KiB of address space: pthread_create", limit / KIB);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return check_failures > 0;
}

/* The debug library fills what is left with records. */
static void any_limit_of_address_space_leaves_room_for_threads(void) {
    for (size_t limit = 256 * MIB; limit < 2600 * MIB && !under_debug_hakmem(); limit += limit / 40)
        run_limited(RLIMIT_AS, limit, "--threads-start");
}

static void runs_in_64_mib_of_data(void) { run_limited(RLIMIT_DATA, room(64 * MIB), "--limited"); }

static void runs_with_small_and_with_unlimited_stack(void) {
    run_limited(RLIMIT_STACK, 256 * KIB, "--works");
    run_limited(RLIMIT_STACK, RLIM_INFINITY, "--works");
}

static void runs_with_few_file_descriptors(void) { run_limited(RLIMIT_NOFILE, 4, "--works"); }

static int working_child(void) {
    void *head;
    size_t count = allocate_until_null(3000, 5000, &head);
    EXPECT(count == 5000, "expected 5000 blocks, found %zu", count);
    expect_intact_and_free(head, 3000, count);
    return check_failures > 0;
}

static void lock_everything_and_allocate(void) {
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        say(" (mlockall is not allowed here)");
        return;
    }
    void *head;
    size_t count = allocate_until_null(2000, 10000, &head);
    EXPECT(count == 10000, "with memory locked: expected 10000 blocks, found %zu", count);
    void *large = malloc(10 * MIB);
    EXPECT(large != NULL, "with memory locked: expected a block of 10 MiB");
    size_t rss = rss_bytes();
    EXPECT(rss < 200 * MIB, "with memory locked: expected RSS below 200 MiB, found %.1f",
           to_mib(rss));
    free(large);
    expect_intact_and_free(head, 2000, count);
}

static void locked_memory_does_not_fill_the_reserve(void) {
    in_child(lock_everything_and_allocate, 30);
    run_limited(-1, 0, "--locked-from-start");
}

/* Each to less than half of what it was, when nothing of any size is to be had. */
static int shrinking_child(size_t limit) {
    static const size_t from[] = {100, 1000, 3000, 50000, 100000, 600 * KIB, MIB, 3 * MIB};
    static const size_t to[] = {1, 33, 1000, 20, 300, 100, 5000, 150000};
    void *blocks[COUNT_OF(from)], *heads[20];
    size_t counts[20], sizes = 0;
    void (*sized)(void *, size_t);
    void *entry = dlsym(RTLD_DEFAULT, "free_sized");
    memcpy(&sized, &entry, sizeof sized);
    for (size_t i = 0; i < COUNT_OF(from); i++) {
        blocks[i] = malloc(from[i]);
        REQUIRE(blocks[i] != NULL, "malloc(%zu)", from[i]);
        pattern_fill(blocks[i], from[i], i);
    }
    for (size_t bytes = 4 * MIB; bytes >= 16; bytes /= 2, sizes++)
        counts[sizes] = allocate_until_null(bytes, limit / bytes + 1, &heads[sizes]);
    for (size_t i = 0; i < COUNT_OF(from); i++) {
        errno = 0;
        void *less = realloc(blocks[i], to[i]);
        REQUIRE(less != NULL, "realloc from %zu to %zu: expected a block", from[i], to[i]);
        EXPECT(errno == 0, "realloc from %zu to %zu: errno became %d", from[i], to[i], errno);
        EXPECT(malloc_usable_size(less) >= to[i], "realloc from %zu to %zu: usable size %zu",
               from[i], to[i], malloc_usable_size(less));
        EXPECT(pattern_intact(less, to[i] & ~(size_t)7, i), "realloc from %zu to %zu: damaged",
               from[i], to[i]);
        blocks[i] = less;
    }
    for (size_t i = 0; i < COUNT_OF(from); i++) {
        if (sized != NULL && i % 2 == 0)
            sized(blocks[i], to[i]);
        else
            free(blocks[i]);
    }
    for (size_t i = 0, bytes = 4 * MIB; i < sizes; i++, bytes /= 2)
        expect_intact_and_free(heads[i], bytes, counts[i]);
    return check_failures > 0;
}

static void a_block_can_be_made_smaller_without_memory(void) {
    run_limited(RLIMIT_AS, room(64 * MIB), "--shrink");
}

static void failure_leaves_blocks_of_other_threads_alone(void) {
    run_limited(RLIMIT_AS, room(256 * MIB), "--threads");
}

static void *exhaust(void *argument) {
    size_t bytes = (size_t)argument;
    for (size_t round = 0; round < 5; round++) {
        void *head;
        size_t count = allocate_until_null(bytes, 256 * MIB / bytes, &head);
        expect_intact_and_free(head, bytes, count);
    }
    return NULL;
}

static int exhausting_child(void) {
    static const size_t sizes[] = {500, 5000, 70000, 500000};
    pthread_t threads[COUNT_OF(sizes)];
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        REQUIRE(pthread_create(&threads[i], NULL, exhaust, (void *)sizes[i]) == 0,
                "pthread_create");
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        pthread_join(threads[i], NULL);
    return working_child();
}

/* 2 GiB of blocks of all sizes, a word touched in each. */
static void hold_two_gib(void) {
    static void *blocks[BLOCKS_MAX];
    static char maps[1 << 20];
    size_t total = 0, count = 0, lines = 0;
    uint64_t random = 2024;
    while (total < 2048 * MIB && count < BLOCKS_MAX) {
        size_t bytes = random_size(&random) * (count % 50 == 0 ? 8 : 1);
        if (bytes < 2000)
            bytes = bytes * 16;
        blocks[count] = malloc(bytes);
        REQUIRE(blocks[count] != NULL, "malloc(%zu) after %zu MiB", bytes, total / MIB);
        if (bytes >= sizeof count)
            memcpy(blocks[count], &count, sizeof count);
        total += bytes;
        count++;
        if (count % 7 == 0) { /* some holes */
            free(blocks[count - 3]);
            blocks[count - 3] = NULL;
        }
    }
    EXPECT(total >= 2048 * MIB, "expected 2 GiB, found %.0f MiB", to_mib(total));
    size_t length = file_read("/proc/self/maps", maps, sizeof maps);
    for (size_t i = 0; i < length; i++)
        lines += maps[i] == '\n';
    EXPECT(lines > 5 && lines < 1000, "2 GiB live: expected fewer than 1000 mappings, found %zu",
           lines);
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
}

static void two_gib_of_live_blocks_need_few_mappings(void) { in_child(hold_two_gib, 60); }

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(runs_in_64_mib_of_address_space, 0),
    CHECK(runs_in_128_mib_of_address_space, 0),
    CHECK(runs_in_1_gib_of_address_space, 0),
    CHECK(any_limit_of_address_space_leaves_room_for_threads, 0),
    CHECK(runs_in_64_mib_of_data, 0),
    CHECK(runs_with_small_and_with_unlimited_stack, 0),
    CHECK(runs_with_few_file_descriptors, 0),
    CHECK(locked_memory_does_not_fill_the_reserve, 0),
    CHECK(a_block_can_be_made_smaller_without_memory, 0),
    CHECK(failure_leaves_blocks_of_other_threads_alone, 0),
    CHECK(two_gib_of_live_blocks_need_few_mappings, 1),
};

int main(int argc, char **argv) {
    const char *mode = argc > 2 ? argv[1] : "";
    check_name = mode;
    if (strcmp(mode, "--limited") == 0)
        return limited_child(strtoul(argv[2], NULL, 10));
    if (strcmp(mode, "--works") == 0)
        return working_child();
    if (strcmp(mode, "--shrink") == 0)
        return shrinking_child(strtoul(argv[2], NULL, 10));
    if (strcmp(mode, "--threads-start") == 0)
        return threaded_child(strtoul(argv[2], NULL, 10));
    if (strcmp(mode, "--threads") == 0)
        return exhausting_child();
    if (strcmp(mode, "--locked-from-start") == 0) {
        lock_everything_and_allocate();
        return check_failures > 0;
    }
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
