/* test_os.c -- the contract of os/os.h, as far as a program can see it kept. */
#include "unit/kernel.inc"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>

#include "os/os.h"

static size_t page(void) { return os_page_bytes(); }

Test(os, the_page_size_is_the_systems) {
    check((long)page() == sysconf(_SC_PAGESIZE) && page() >= 4096 && page() <= 65536);
}

Test(os, the_clock_never_goes_back_and_keeps_time) {
    uint32_t start = os_clock_ms();
    uint32_t before = start;
    for (int i = 0; i < 100000; i++) {
        uint32_t now = os_clock_ms();
        check((int32_t)(now - before) >= 0 && now - before < 60000);
        before = now;
    }
    struct timespec t0, t1;
    (void)clock_gettime(CLOCK_MONOTONIC, &t0);
    start = os_clock_ms();
    (void)usleep(100000);
    uint32_t passed = os_clock_ms() - start;
    (void)clock_gettime(CLOCK_MONOTONIC, &t1);
    long real = (t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000;
    check(passed >= 80 && (long)passed <= real + 20, "%u ms of %ld", passed, real);
}

Test(os, a_reservation_is_inaccessible_until_committed_and_then_zero) {
    char *start = os_reserve(64 * page());
    char byte;
    check(start != NULL && !os_peek(start, &byte, 1) && !os_peek(start + 10 * page(), &byte, 1));
    check(os_commit(start + 8 * page(), 8 * page()) == 0);
    for (size_t i = 8 * page(); i < 16 * page(); i++)
        check(start[i] == 0);
    check(!os_peek(start + 8 * page() - 1, &byte, 1) && !os_peek(start + 16 * page(), &byte, 1));
    os_unreserve(start, 64 * page());
    check(!os_peek(start + 8 * page(), &byte, 1));
}

Test(os, a_reservation_that_can_not_be_gives_NULL_and_keeps_errno) {
    errno = 77;
    check(os_reserve((size_t)1 << 62) == NULL && errno == 77);
}

Test(os, commit_of_an_unmapped_range_returns_the_error_and_keeps_errno) {
    char *start = os_reserve(4 * page());
    os_unreserve(start, 4 * page());
    errno = 77;
    check(os_commit(start, page()) == ENOMEM && errno == 77);
    check(os_purge((char *)1, page()) == EINVAL && errno == 77);
}

Test(os, a_superslab_of_which_some_is_resident_becomes_one_page_and_keeps_what_is_in_it) {
    char *all = os_reserve(MIB(4));
    char *start = all + (MIB(2) - (uintptr_t)all % MIB(2));
    check(os_commit(start, MIB(2)) == 0);
    memset(start + 3 * page(), 7, 5 * page());
    errno = 77;
    check(os_collapse(start, MIB(2)) == EINVAL && errno == 77, "small pages were asked for");
    if (kernel_can_collapse()) {
        check(os_huge(start, MIB(2)) == 0 && os_collapse(start, MIB(2)) == 0);
        check(os_resident(start, MIB(2)) == MIB(2));
    }
    for (size_t i = 0; i < MIB(2); i++)
        check(start[i] == (i / page() >= 3 && i / page() < 8 ? 7 : 0));
    check(errno == 77);
    os_unreserve(all, MIB(4));
}

Test(os, populated_pages_are_resident_and_zero_and_errno_is_kept) {
    char *start = os_reserve(16 * page());
    check(os_commit(start, 8 * page()) == 0);
    start[page()] = 7;
    errno = 77;
    check(os_populate(start, 4 * page()) == 0 && errno == 77);
    check(os_resident(start, 8 * page()) == 4 * page());
    for (size_t i = 0; i < 4 * page(); i++)
        check(start[i] == (i == page() ? 7 : 0));
    check(os_populate(start + 8 * page(), page()) != 0 && errno == 77, "not committed");
    check(os_unreserve(start, 16 * page()) == 0);
}

Test(os, the_clock_of_nanoseconds_never_goes_back) {
    uint64_t first = os_clock_ns();
    uint64_t before = first;
    for (int i = 0; i < 100000; i++) {
        uint64_t now = os_clock_ns();
        check(now >= before);
        before = now;
    }
    check(before > first);
}

Test(os, a_readable_range_reads_as_zeros_and_its_neighbours_stay_inaccessible) {
    char *start = os_reserve(16 * page());
    char byte;
    check(os_readable(start + 4 * page(), 4 * page()) == 0);
    for (size_t i = 0; i < 16; i++)
        check(os_peek(start + i * page(), &byte, 1) == (i >= 4 && i < 8), "page %zu", i);
    check(start[4 * page()] == 0 && start[8 * page() - 1] == 0);
    check(os_commit(start + 5 * page(), page()) == 0);
    start[5 * page()] = 1;
}

Test(os, purged_and_renewed_pages_read_as_zeros_and_stay_committed) {
    char *start = os_reserve(16 * page());
    check(os_commit(start, 16 * page()) == 0);
    memset(start, 0x55, 16 * page());
    check(os_purge(start + 4 * page(), 2 * page()) == 0);
    check(os_renew(start + 8 * page(), 2 * page()) == 0);
    for (size_t i = 0; i < 16 * page(); i++) {
        size_t p = i / page();
        check(start[i] == (p == 4 || p == 5 || p == 8 || p == 9 ? 0 : 0x55), "page %zu", p);
    }
    memset(start, 0x66, 16 * page());
    os_unreserve(start, 16 * page());
}

Test(os, a_move_takes_the_contents_along_and_leaves_zeros) {
    char *start = os_reserve(32 * page());
    check(os_commit(start, 32 * page()) == 0);
    memset(start, 0x21, 8 * page());
    memset(start + 16 * page(), 0x43, 8 * page());
    errno = 77;
    int error = os_move(start, start + 16 * page(), 4 * page());
    check(errno == 77);
    if (error != 0)
        return; /* the kernel, or valgrind, can not: the caller copies */
    for (size_t i = 0; i < 8 * page(); i++) {
        check(start[i] == (i < 4 * page() ? 0 : 0x21), "old page %zu", i / page());
        check(start[16 * page() + i] == (i < 4 * page() ? 0x21 : 0x43), "new %zu", i / page());
    }
    start[0] = 1; /* still committed */
}

Test(os, resident_pages_are_those_that_were_touched) {
    char *start = os_reserve(MIB(4));
    check(os_commit(start, MIB(4)) == 0 && os_resident(start, MIB(4)) == 0);
    for (size_t i = 0; i < 5; i++)
        start[MIB(1) * i - (i == 4 ? 1 : 0)] = 1;
    check(os_resident(start, MIB(4)) == 5 * page() && os_resident(start, MIB(1)) == page());
    check(os_resident(start, 1) == page() && os_resident(start + page(), 1) == 0);
    errno = 77;
    os_unreserve(start, MIB(4));
    check(os_resident(start, MIB(4)) == 0 && errno == 77, "0 where nothing is mapped");
}

Test(os, peek_copies_what_is_there_and_refuses_what_is_not) {
    char *start = os_reserve(4 * page());
    char copy[64] = "before";
    int local = 1234;
    int seen = 0;
    check(os_peek(&local, &seen, sizeof seen) && seen == 1234);
    check(os_commit(start, 2 * page()) == 0);
    memset(start, 0x3c, 2 * page());
    check(os_peek(start + page() - 32, copy, 64) && copy[0] == 0x3c && copy[63] == 0x3c);
    errno = 77;
    check(!os_peek(start + 2 * page(), copy, 1), "no access");
    check(!os_peek(start + 2 * page() - 32, copy, 64), "half of it is there");
    check(!os_peek(NULL, copy, 1) && !os_peek((void *)UINTPTR_MAX, copy, 1));
    check(!os_peek((void *)(UINTPTR_MAX / 2 + 5), copy, 8), "no address at all");
    os_unreserve(start, 4 * page());
    check(!os_peek(start, copy, 1) && errno == 77);
}

/* ---- lines ---- */

static char path[] = "/tmp/hkm-unit-lines-XXXXXX";
static char lines[64][600];
static size_t line_count, line_limit;
static bool path_made;

static bool keep_line(const char *line, void *arg) {
    check(arg == lines && line_count < 64);
    (void)snprintf(lines[line_count++], sizeof lines[0], "%s", line);
    return line_count < line_limit;
}
static void write_file(const char *text) {
    /* A flag, not the name's last letter: one name in 62 that mkstemp makes ends in an X too. */
    int fd = path_made ? open(path, O_WRONLY | O_TRUNC) : mkstemp(path);
    path_made = true;
    check(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    (void)close(fd);
}
static void read_lines(size_t buffer_bytes, size_t limit) {
    char buffer[4096];
    line_count = 0;
    line_limit = limit;
    memset(buffer, 'Q', sizeof buffer);
    check(os_each_line(path, buffer, buffer_bytes, keep_line, lines));
    for (size_t i = buffer_bytes; i < sizeof buffer; i++)
        check(buffer[i] == 'Q', "written past the buffer");
}

Test(os, each_line_gives_every_line_once_with_any_buffer_that_holds_it) {
    write_file("first\n\nthird line\na\n\n\nlast\n");
    const char *const expected[] = {"first", "", "third line", "a", "", "", "last"};
    for (size_t bytes = 12; bytes < 60; bytes++) {
        read_lines(bytes, 64);
        check(line_count == 7, "buffer %zu: %zu lines", bytes, line_count);
        for (size_t i = 0; i < 7; i++)
            check(strcmp(lines[i], expected[i]) == 0, "buffer %zu: %s", bytes, lines[i]);
    }
    (void)unlink(path);
}

Test(os, each_line_stops_when_it_is_told_to) {
    write_file("one\ntwo\nthree\n");
    for (size_t limit = 1; limit <= 3; limit++) {
        read_lines(4096, limit);
        check(line_count == limit);
    }
    (void)unlink(path);
}

Test(os, of_a_line_longer_than_the_buffer_its_beginning_is_given_once) {
    char text[1200];
    for (size_t length = 90; length < 500; length++) {
        (void)strcpy(text, "short\n");
        memset(text + 6, 'z', length);
        text[6] = 'a';
        (void)strcpy(text + 6 + length, "\nafter\nend\n");
        write_file(text);
        read_lines(101, 64);
        check(line_count == 4, "%zu: %zu lines", length, line_count);
        size_t given = strlen(lines[1]);
        check(given == (length < 100 ? length : 100), "of %zu characters %zu", length, given);
        check(memcmp(lines[1], text + 6, given) == 0 && strcmp(lines[0], "short") == 0);
        check(strcmp(lines[2], "after") == 0 && strcmp(lines[3], "end") == 0);
    }
    (void)unlink(path);
}

Test(os, each_line_of_a_missing_file_is_false_and_keeps_errno) {
    char buffer[100];
    errno = 77;
    check(!os_each_line("/nonexistent/file", buffer, sizeof buffer, keep_line, lines) && errno == 77);
}

/* ---- the rest ---- */

Test(os, calls_are_counted_by_kind) {
    uint64_t before[OS_CALLS];
    for (int i = 0; i < OS_CALLS; i++)
        before[i] = os_call_count((enum os_call)i);
    char *start = os_reserve(MIB(4));
    (void)os_commit(start, MIB(4));
    (void)os_purge(start, page());
    (void)os_huge(start, MIB(2));
    (void)os_populate(start, page());
    (void)os_collapse(start, MIB(2));
    (void)os_renew(start, page());
    (void)os_move(start, start + MIB(2), page());
    os_unreserve(start, MIB(4));
    const uint64_t made[OS_CALLS] = {[OS_MMAP] = 2,    [OS_MUNMAP] = 1, [OS_MPROTECT] = 1,
                                     [OS_MADVISE] = 6, [OS_MREMAP] = 1};
    for (int i = 0; i < OS_CALLS; i++)
        check(os_call_count((enum os_call)i) == before[i] + made[i], "kind %d", i);
}

/* ---- faults and time by command ---- */

#if HKM_OS_TEST
static struct {
    enum os_call call;
    const char *site;
    size_t bytes;
} asked[16];
static size_t times_asked;
static int answer;

static int note_and_answer(enum os_call call, const char *site, size_t bytes) {
    size_t i = times_asked++ % (sizeof asked / sizeof asked[0]);
    asked[i].call = call;
    asked[i].site = site;
    asked[i].bytes = bytes;
    errno = 99;
    return answer;
}
static bool asked_for(size_t i, enum os_call call, const char *site, size_t bytes) {
    return asked[i].call == call && strcmp(asked[i].site, site) == 0 && asked[i].bytes == bytes;
}
/* Whether the last call asked just once, for `site` as a call of this kind with these bytes. */
static bool was_asked(enum os_call call, const char *site, size_t bytes) {
    bool right = times_asked == 1 && asked_for(0, call, site, bytes);
    times_asked = 0;
    return right;
}
/* Likewise of a new mapping, which then is to have small pages. */
static bool was_asked_and_small(enum os_call call, const char *site, size_t bytes) {
    bool right = times_asked == 2 && asked_for(0, call, site, bytes) &&
                 asked_for(1, OS_MADVISE, "os_small", bytes);
    times_asked = 0;
    return right;
}

Test(os, a_test_is_asked_before_every_call_that_maps_memory_and_0_lets_it_pass) {
    os_test.fail = note_and_answer;
    errno = 77;
    char *start = os_reserve(MIB(4));
    check(start != NULL && was_asked_and_small(OS_MMAP, "os_reserve", MIB(4)));
    check(os_commit(start, MIB(4)) == 0 && was_asked(OS_MPROTECT, "os_commit", MIB(4)));
    memset(start, 7, 8 * page());
    check(os_purge(start, page()) == 0 && was_asked(OS_MADVISE, "os_purge", page()));
    check(os_renew(start + page(), page()) == 0 &&
          was_asked_and_small(OS_MMAP, "os_renew", page()));
    check(start[0] == 0 && start[page()] == 0 && start[2 * page()] == 7);
    (void)os_move(start, start + MIB(2), page());
    check(was_asked(OS_MREMAP, "os_move", page()));
    (void)os_huge(start, MIB(2));
    check(was_asked(OS_MADVISE, "os_huge", MIB(2)));
    (void)os_populate(start, 2 * page());
    check(was_asked(OS_MADVISE, "os_populate", 2 * page()));
    (void)os_collapse(start, MIB(2));
    check(was_asked(OS_MADVISE, "os_collapse", MIB(2)));
    check(os_readable(start, page()) == 0 && was_asked(OS_MPROTECT, "os_readable", page()));
    os_unreserve(start, MIB(4));
    char byte;
    check(was_asked(OS_MUNMAP, "os_unreserve", MIB(4)) && !os_peek(start, &byte, 1));
    check(errno == 77, "what the test does to errno is undone");
}

Test(os, a_call_that_shall_fail_is_counted_and_not_made) {
    char *start = os_reserve(MIB(4));
    check(os_commit(start, MIB(2)) == 0);
    memset(start, 7, MIB(2));
    uint64_t before = os_call_count(OS_MADVISE);
    answer = EAGAIN;
    os_test.fail = note_and_answer;
    errno = 77;
    check(os_reserve(page()) == NULL);
    char byte;
    check(os_commit(start + MIB(2), page()) == EAGAIN && !os_peek(start + MIB(2), &byte, 1));
    check(os_readable(start + MIB(2), page()) == EAGAIN && !os_peek(start + MIB(2), &byte, 1));
    check(os_purge(start, page()) == EAGAIN && os_huge(start, MIB(2)) == EAGAIN);
    check(os_populate(start, page()) == EAGAIN && os_collapse(start, MIB(2)) == EAGAIN);
    check(os_renew(start, page()) == EAGAIN);
    check(os_move(start, start + page(), page()) == EAGAIN);
    for (size_t i = 0; i < MIB(2); i++)
        check(start[i] == 7);
    os_unreserve(start, MIB(4));
    check(os_peek(start, &byte, 1) && errno == 77);
    check(times_asked == 10 && os_call_count(OS_MADVISE) == before + 4);
    os_test.fail = NULL;
    os_unreserve(start, MIB(4));
    check(times_asked == 10 && !os_peek(start, &byte, 1));
}

Test(os, a_virtual_clock_reads_what_it_was_set_to_and_the_systems_clock_comes_back) {
    uint32_t real = os_clock_ms();
    os_test.clock_ms = 123456;
    check(os_elapsed_ms(os_clock_ms(), real) < 60000, "set, but not in use");
    os_test.clock_is_virtual = 1;
    check(os_clock_ms() == 123456);
    os_test.clock_ms += 86400000;
    check(os_clock_ms() == 86523456);
    os_test.clock_is_virtual = 0;
    check(os_elapsed_ms(os_clock_ms(), real) < 60000);
}
#endif

static uintptr_t tokens[8];
static pthread_barrier_t all_there;

static size_t note_token(unsigned number, void *shared) {
    (void)shared;
    tokens[number] = os_thread_token();
    (void)pthread_barrier_wait(&all_there);
    return os_thread_token() != tokens[number];
}

Test(os, threads_alive_have_different_tokens) {
    check(pthread_barrier_init(&all_there, NULL, 8) == 0);
    check(unit_run_threads(8, note_token, NULL) == 0);
    for (int i = 0; i < 8; i++) {
        check(tokens[i] != 0 && tokens[i] != os_thread_token());
        for (int k = 0; k < i; k++)
            check(tokens[i] != tokens[k]);
    }
}

Test(os, backing_off_and_writing_keep_errno) {
    errno = 77;
    for (unsigned attempt = 0; attempt < 140; attempt++)
        os_backoff(attempt);
    os_write(-1, "x", 1);
    check(errno == 77);
}

Test(os, write_writes_everything_through_a_full_pipe) {
    int ends[2];
    check(pipe(ends) == 0);
    static char text[200000];
    memset(text, 'w', sizeof text);
    pid_t child = fork();
    if (child == 0) {
        os_write(ends[1], text, sizeof text);
        _exit(0);
    }
    (void)close(ends[1]);
    size_t total = 0;
    static char buffer[1000];
    for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;)
        total += (size_t)got;
    check(total == sizeof text && waitpid(child, NULL, 0) == child);
}

Test(os, the_kept_stderr_outlives_the_programs) {
    FILE *file = tmpfile();
    int saved = dup(2);
    check(file != NULL && dup2(fileno(file), 2) == 2);
    int kept = os_keep_stderr();
    (void)close(2);
    os_write(kept, "said", 4);
    (void)dup2(saved, 2);
    char text[8] = "";
    rewind(file);
    check(fread(text, 1, 7, file) == 4 && strcmp(text, "said") == 0);
}

Test(os, variables_are_found_by_the_beginning_of_their_names) {
    check(clearenv() == 0);
    size_t at = 0;
    check(os_next_variable("HKM_", &at) == NULL, "no environment");
    char *variables[] = {"HKM_A=1", "OTHER=HKM_X=2", "HKM_=", "HKM", "HKM_B=", NULL};
    environ = variables;
    check(strcmp(os_next_variable("HKM_", &at), "A=1") == 0);
    check(strcmp(os_next_variable("HKM_", &at), "=") == 0);
    check(strcmp(os_next_variable("HKM_", &at), "B=") == 0);
    check(os_next_variable("HKM_", &at) == NULL && os_next_variable("HKM_", &at) == NULL);
    at = 0;
    check(os_next_variable("NONE", &at) == NULL);
}
