/* reports_survive.c -- what the library writes does no harm of its own: a report ends in the signal
 * that it reports whatever lies on the stack, and however small that is; threads that report at the
 * same time do not spoil each other's report; and statistics at exit do not land in a file of the
 * program's that has the number of the library's stderr by now.
 */
#include "check.inc"

#include <sys/auxv.h>
#include <sys/mman.h>

enum { FRAME_WORDS = 64, FILE_FD = 150, FDS_MAX = 1024, REGION_BYTES = 65536 };
enum { THREADS = 8, TOGETHER_RUNS = 20, STACK_BYTES = 8192, STACK_LEFT = 5200 };

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

/* ---- threads that report at the same time ---- */

static pthread_barrier_t together;

static void *free_twice(void *arg) {
    void *block = malloc(100);
    free(hide(block));
    if (arg != NULL)
        pthread_barrier_wait(&together);
    free(hide(block));
    return NULL;
}

static int report_together(void) {
    pthread_t threads[THREADS];
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&threads[i], NULL, free_twice, &together) == 0, "a thread");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return 7;
}

static int times(const char *words) {
    int count = 0;
    for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
        count++;
    return count;
}

/* Among the outermost addresses on the stack is the C library's, which started the thread. */
static void threads_that_report_at_the_same_time_write_one_whole_report(void) {
    size_t runs = scaled(TOGETHER_RUNS);
    for (size_t run = 0; run < runs; run++) {
        int status = run_self("--together", NULL, text, sizeof text);
        EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "wait status %#x", status);
        EXPECT(times("hakmem: double free") == 1 && times("return addresses") == 1,
               "expected one report, found: %.500s", text);
        EXPECT(times("hakmem: CHECK") == under_debug_hakmem(), "found: %.500s", text);
        EXPECT(times(" libc.so") > 0 && text[strlen(text) - 1] == '\n',
               "expected the outermost address, found: %.500s", text);
    }
}

/* A thread hangs in the write of its report when the process is forked: of its first line, or of a
 * later one, for which `room` bytes in the pipe are not enough. */
static int fork_in_a_report(size_t room) {
    int ends[2], status = 0;
    int said = dup(2);
    pthread_t thread;
    char why[80];
    REQUIRE(pipe(ends) == 0, "a pipe");
    for (size_t left = (size_t)fcntl(ends[1], F_GETPIPE_SZ) - room; left > 0;) {
        ssize_t written = write(ends[1], text, left < sizeof text ? left : sizeof text);
        REQUIRE(written > 0, "a full pipe");
        left -= (size_t)written;
    }
    REQUIRE(dup2(ends[1], 2) == 2, "a descriptor");
    REQUIRE(pthread_create(&thread, NULL, free_twice, NULL) == 0, "a thread");
    sleep_ms(200);
    pid_t child = fork();
    if (child == 0) {
        dup2(said, 2);
        free_twice(NULL);
        _exit(6);
    }
    dup2(said, 2);
    status = child_fails(child, 0, 60, why, sizeof why);
    if (status == 0 || strcmp(why, "it died of signal 6") != 0)
        fprintf(stderr, "the child: %s\n", why);
    _exit(8);
}

static void a_child_that_was_forked_in_the_midst_of_a_report_can_report(void) {
    static const char *modes[] = {"--fork-in-report", "--fork-in-backtrace"};
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        int status = run_self(modes[i], NULL, text, sizeof text);
        EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 8, "%s: wait status %#x: %.300s",
               modes[i], status, text);
        EXPECT(times("hakmem: double free") == 1 && times("return addresses") == 1 &&
                   times("the child: ") == 0, "%s: found: %.500s", modes[i], text);
    }
}

/* The abort of a report is itself reported, by the same thread, which does not wait for itself. */
static void a_report_within_a_report_does_not_wait(void) {
    struct rusage before, after;
    getrusage(RUSAGE_CHILDREN, &before);
    int status = run_self("--double-free", "crash_report=on", text, sizeof text);
    getrusage(RUSAGE_CHILDREN, &after);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "wait status %#x", status);
    EXPECT(times("hakmem: double free") == 1 && times("(SIGABRT)") == 1, "found: %.500s", text);
    EXPECT(after.ru_nvcsw - before.ru_nvcsw < 3000, "it waited %ld times",
           after.ru_nvcsw - before.ru_nvcsw);
}

/* ---- a small stack ---- */

static char *victim;
static int overflows;

static void on_small_stack(int signal_number) {
    (void)signal_number;
    if (overflows)
        victim[100] = 1;
    free(hide(victim));
}

static int report_on_a_small_stack(const char *mode) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = getauxval(AT_MINSIGSTKSZ) + STACK_LEFT; /* what the kernel writes, and that */
    bytes = bytes < STACK_BYTES ? STACK_BYTES : (bytes + 15) / 16 * 16;
    size_t whole = (bytes + page - 1) / page * page;
    char *low = mmap(NULL, page + whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(low != MAP_FAILED && mprotect(low + page, whole, PROT_READ | PROT_WRITE) == 0, "a map");
    stack_t stack = {.ss_sp = low + page, .ss_size = bytes};
    struct sigaction action = {.sa_handler = on_small_stack, .sa_flags = SA_ONSTACK};
    REQUIRE(sigaltstack(&stack, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0, "a stack");
    overflows = strcmp(mode, "--small-overflow") == 0;
    victim = malloc(100);
    free(hide(malloc(100))); /* which the loader looks up meanwhile */
    if (!overflows)
        free(hide(victim));
    raise(SIGUSR1);
    return 7;
}

static void a_report_fits_on_an_alternate_stack_of_8_kib(void) {
    expect_report("--small-double-free", NULL, SIGABRT);
    EXPECT(times("hakmem: double free") == 1, "found: %.500s", text);
    if (!under_debug_hakmem())
        return;
    expect_report("--small-overflow", NULL, SIGABRT);
    EXPECT(times("hakmem: corrupted block: invariant B8") == 1, "found: %.500s", text);
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(a_report_ends_in_sigabrt_whatever_lies_on_the_stack, 1),
    CHECK(a_crash_is_reported_in_full_whatever_lies_on_the_stack, 1),
    CHECK(a_report_that_nobody_reads_ends_as_one_that_is_read, 1),
    CHECK(threads_that_report_at_the_same_time_write_one_whole_report, 1),
    CHECK(a_child_that_was_forked_in_the_midst_of_a_report_can_report, 1),
    CHECK(a_report_within_a_report_does_not_wait, 1),
    CHECK(a_report_fits_on_an_alternate_stack_of_8_kib, 1),
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
    if (strcmp(mode, "--together") == 0)
        return report_together();
    if (strcmp(mode, "--fork-in-report") == 0)
        return fork_in_a_report(0);
    if (strcmp(mode, "--fork-in-backtrace") == 0)
        return fork_in_a_report(300);
    if (strncmp(mode, "--small", 7) == 0)
        return report_on_a_small_stack(mode);
    if (strncmp(mode, "--", 2) == 0)
        return die(mode);
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
