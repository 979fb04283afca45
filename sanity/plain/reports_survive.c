/* reports_survive.c -- what the library writes does no harm of its own: a report ends in the signal
 * that it reports whatever lies on the stack, and statistics at exit do not land in a file of the
 * program's that has the number of the library's stderr by now.
 */
#include "check.inc"

#include <sys/mman.h>

enum { FRAME_WORDS = 64, FILE_FD = 150, FDS_MAX = 1024, REGION_BYTES = 65536 };

static char text[65536];

/* Addresses in executable memory that may not be read: where the processor has protection keys, a
 * mapping for execution only is such; and the kernel's [vsyscall], which some systems have so. */
static size_t unreadable_code(uintptr_t *addresses) {
    static char maps[65536];
    size_t count = 0;
    void *mine = mmap(NULL, REGION_BYTES, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mine != MAP_FAILED)
        addresses[count++] = (uintptr_t)mine + 0x800;
    file_read("/proc/self/maps", maps, sizeof maps);
    char *line = strstr(maps, "[vsyscall]");
    while (line != NULL && line > maps && line[-1] != '\n')
        line--;
    if (line != NULL)
        addresses[count++] = strtoul(line, NULL, 16) + 0x800;
    return count;
}

/* Takes the words, so that the caller keeps them on its stack meanwhile. */
static __attribute__((noinline)) void culprit(const char *mode, void *block,
                                              const volatile uintptr_t *words) {
    if (strcmp(mode, "--double-free") == 0)
        free(hide(block));
    else
        *(volatile char *)hide((void *)hide_size(0x1230)) = 1;
    REQUIRE(words != NULL, "expected to be dead");
}

static int die(const char *mode) {
    uintptr_t addresses[2];
    volatile uintptr_t words[FRAME_WORDS];
    size_t count = unreadable_code(addresses);
    for (size_t i = 0; i < FRAME_WORDS; i++)
        words[i] = count > 0 ? addresses[i % count] : 0;
    void *block = malloc(100);
    memset(hide(block), 1, 100);
    free(hide(block));
    culprit(mode, block, words);
    return 7;
}

static void expect_report(const char *mode, const char *options, int signal_number) {
    int status = run_self(mode, options, text, sizeof text);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == signal_number,
           "%s: expected death by signal %d, found wait status %#x, stderr: %.300s", mode,
           signal_number, status, text);
    EXPECT(strstr(text, "return addresses") != NULL,
           "%s: expected a report with the addresses on the stack, found: %.400s", mode, text);
}

static void a_report_ends_in_sigabrt_whatever_lies_on_the_stack(void) {
    expect_report("--double-free", NULL, SIGABRT);
    EXPECT(strstr(text, "double free") != NULL, "expected a double free, found: %.300s", text);
}

static void a_crash_is_reported_in_full_whatever_lies_on_the_stack(void) {
    expect_report("--segv", "crash_report=1", SIGSEGV);
}

/* As daemons do: closes what it has not opened.  Where the library may have had a descriptor for
 * statistics, there is a file of the program's then. */
static int replace_descriptors(void) {
    static int was_open[FDS_MAX];
    static const char mine[] = "mine\n";
    free(hide(malloc(1)));
    for (int fd = 3; fd < FDS_MAX; fd++)
        was_open[fd] = fcntl(fd, F_GETFD) >= 0;
    REQUIRE(was_open[FILE_FD], "expected the file from the parent");
    for (int fd = 3; fd < FDS_MAX; fd++)
        if (fd != FILE_FD)
            close(fd);
    for (int fd = FILE_FD + 1; fd < FDS_MAX; fd++)
        if (was_open[fd] && dup2(FILE_FD, fd) < 0)
            return 6;
    return write(FILE_FD, mine, sizeof mine - 1) == (ssize_t)sizeof mine - 1 ? 5 : 6;
}

static void statistics_are_not_written_into_the_programs_own_file(void) {
    char found[1000] = "";
    FILE *file = tmpfile();
    REQUIRE(file != NULL && dup2(fileno(file), FILE_FD) == FILE_FD, "a file: %s", strerror(errno));
    int status = run_self("--daemon", "stats=exit", text, sizeof text);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 5,
           "expected exit status 5, found wait status %#x, stderr: %.300s", status, text);
    ssize_t got = pread(FILE_FD, found, sizeof found - 1, 0);
    EXPECT(got == 5 && strcmp(found, "mine\n") == 0,
           "expected the program's own 5 bytes in its file, found %zd: %.400s", got, found);
    close(FILE_FD);
    fclose(file);
}

/* Who reads stderr has gone: neither the report nor a crash ends by SIGPIPE. */
static int break_stderr(const char *mode, void *block) {
    int ends[2];
    REQUIRE(pipe(ends) == 0 && dup2(ends[1], 2) == 2, "a pipe: %s", strerror(errno));
    close(ends[0]);
    if (strcmp(mode, "--unread-crash") == 0)
        *(volatile char *)hide((void *)0x40) = 1;
    free(hide(block));
    free(hide(block));
    return 0;
}

static void a_report_that_nobody_reads_ends_as_one_that_is_read(void) {
    int status = run_self("--unread-report", NULL, text, sizeof text);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "wait status %#x", status);
    status = run_self("--unread-crash", "crash_report=on", text, sizeof text);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "wait status %#x", status);
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(a_report_ends_in_sigabrt_whatever_lies_on_the_stack, 1),
    CHECK(a_crash_is_reported_in_full_whatever_lies_on_the_stack, 1),
    CHECK(a_report_that_nobody_reads_ends_as_one_that_is_read, 1),
    CHECK(statistics_are_not_written_into_the_programs_own_file, 0),
};

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (strncmp(mode, "--", 2) == 0)
        check_name = mode;
    if (strncmp(mode, "--unread", 8) == 0)
        return break_stderr(mode, malloc(100));
    if (strcmp(mode, "--daemon") == 0)
        return replace_descriptors();
    if (strncmp(mode, "--", 2) == 0)
        return die(mode);
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
