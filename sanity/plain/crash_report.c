/* crash_report.c -- what happens at SIGSEGV, SIGBUS and SIGABRT: a report when the option asks for
 * it and silence otherwise, the signal's own effect in any case, and a program's handlers never
 * displaced.
 */
#include "check.inc"

#include <sys/mman.h>

static char text[65536];

static void own_handler(int signal_number) {
    (void)signal_number;
    _exit(55);
}

static void own_handler_with_info(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number;
    (void)context;
    _exit(info->si_addr == (void *)0x1230 ? 56 : 57);
}

static void dereference(size_t address) {
    volatile char *wild = hide((void *)hide_size(address));
    *wild = 1;
}

static void install(int signal_number, void (*with_info)(int, siginfo_t *, void *)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    if (with_info != NULL) {
        action.sa_sigaction = with_info;
        action.sa_flags = SA_SIGINFO;
    } else {
        action.sa_handler = own_handler;
    }
    sigaction(signal_number, &action, NULL);
}

static void read_past_the_end_of_a_file(void) {
    FILE *file = tmpfile();
    char *map =
        file == NULL ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_SHARED, fileno(file), 0);
    if (map != MAP_FAILED)
        text[0] = *(volatile char *)map;
}

/* The ways to die. */
static int die(const char *mode) {
    void *block = malloc(100);
    memset(block, 1, 100);
    if (strcmp(mode, "--segv") == 0)
        dereference(0x1230);
    if (strcmp(mode, "--bus") == 0)
        read_past_the_end_of_a_file();
    if (strcmp(mode, "--abort") == 0)
        abort();
    if (strcmp(mode, "--segv-own") == 0) {
        install(SIGSEGV, NULL);
        dereference(0x1230);
    }
    if (strcmp(mode, "--segv-info") == 0) {
        install(SIGSEGV, own_handler_with_info);
        dereference(0x1230);
    }
    if (strcmp(mode, "--abort-own") == 0) {
        install(SIGABRT, NULL);
        abort();
    }
    if (strcmp(mode, "--misuse-own") == 0) {
        install(SIGABRT, NULL);
        free(hide(block));
        free(hide(block));
    }
    if (strcmp(mode, "--ignored") == 0) {
        signal(SIGABRT, SIG_IGN); /* abort still has to end the process */
        free(hide(block));
        free(hide(block));
    }
    if (strcmp(mode, "--actions") == 0) {
        const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGPROF, SIGALRM};
        for (size_t i = 0; i < COUNT_OF(signals); i++) {
            struct sigaction action;
            sigaction(signals[i], NULL, &action);
            if (action.sa_handler != SIG_DFL)
                return 9;
        }
        return 8;
    }
    return 7;
}

static void expect_death(const char *mode, const char *options, int signal_number, int reported) {
    int status = run_self(mode, options, text, sizeof text);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == signal_number,
           "%s with options %s: expected death by signal %d, found wait status %#x", mode,
           options == NULL ? "none" : options, signal_number, status);
    if (reported)
        EXPECT(strstr(text, "hakmem") != NULL && strstr(text, "0x") != NULL,
               "%s: expected a report, found: %.300s", mode, text);
    else
        EXPECT(text[0] == '\0', "%s: expected nothing on stderr, found: %.300s", mode, text);
}

static void expect_exit(const char *mode, const char *options, int code) {
    int status = run_self(mode, options, text, sizeof text);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == code,
           "%s with options %s: expected exit status %d, found wait status %#x, stderr: %.200s",
           mode, options == NULL ? "none" : options, code, status, text);
}

static void nothing_is_reported_without_the_option(void) {
    expect_death("--segv", NULL, SIGSEGV, 0);
    expect_death("--bus", NULL, SIGBUS, 0);
    expect_death("--abort", NULL, SIGABRT, 0);
    expect_death("--segv", "crash_report=0", SIGSEGV, 0);
}

static void signals_are_reported_with_the_option_and_keep_their_effect(void) {
    expect_death("--segv", "crash_report=1", SIGSEGV, 1);
    EXPECT(strstr(text, "SIGSEGV") != NULL, "expected the signal's name, found: %.300s", text);
    EXPECT(strstr(text, " at 0x1230\n") != NULL, "expected the address 0x1230, found: %.300s", text);
    expect_death("--bus", "crash_report=1", SIGBUS, 1);
    EXPECT(strstr(text, "SIGBUS") != NULL, "expected the signal's name, found: %.300s", text);
    expect_death("--abort", "crash_report=1", SIGABRT, 1);
    EXPECT(strstr(text, "SIGABRT") != NULL, "expected the signal's name, found: %.300s", text);
}

static void a_programs_own_handlers_are_not_displaced(void) {
    const char *options[] = {NULL, "crash_report=1"};
    for (size_t i = 0; i < COUNT_OF(options); i++) {
        expect_exit("--segv-own", options[i], 55);
        EXPECT(text[0] == '\0', "expected nothing but the program's handler, found: %.200s", text);
        expect_exit("--segv-info", options[i], 56);
        expect_exit("--abort-own", options[i], 55);
    }
}

static void no_handler_is_installed_without_the_option(void) { expect_exit("--actions", NULL, 8); }

static void misuse_raises_sigabrt_for_the_programs_handler(void) {
    expect_exit("--misuse-own", NULL, 55);
    EXPECT(strstr(text, "double free") != NULL, "expected the report first, found: %.200s", text);
    expect_exit("--misuse-own", "crash_report=1", 55);
}

static void misuse_ends_a_program_that_ignores_sigabrt(void) {
    expect_death("--ignored", NULL, SIGABRT, 1);
    EXPECT(strstr(text, "double free") != NULL, "expected the report, found: %.200s", text);
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(nothing_is_reported_without_the_option, 0),
    CHECK(signals_are_reported_with_the_option_and_keep_their_effect, 1),
    CHECK(a_programs_own_handlers_are_not_displaced, 0),
    CHECK(no_handler_is_installed_without_the_option, 0),
    CHECK(misuse_raises_sigabrt_for_the_programs_handler, 0),
    CHECK(misuse_ends_a_program_that_ignores_sigabrt, 1),
};

int main(int argc, char **argv) {
    if (argc > 1 && strncmp(argv[1], "--", 2) == 0)
        return die(argv[1]);
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
