/* signed_returns.c -- a report names the callers of a program whose return addresses are signed on
 * the stack, as AArch64 code for pointer authentication does; elsewhere they are plain.
 */
#if defined(__aarch64__)
#pragma GCC target("branch-protection=standard")
#endif

#include "check.inc"

enum { CALLERS = 5 }; /* main, the check and the three below */

__attribute__((noinline)) static void free_it(void *block) {
    free(block);
    __asm__ volatile("" : : : "memory"); /* no jump in place of the call */
}

__attribute__((noinline)) static void free_it_twice(void *block) {
    free_it(block);
    free_it(block);
    __asm__ volatile("" : : : "memory");
}

__attribute__((noinline)) static void misuse(void) {
    free_it_twice(hide(malloc(50)));
    __asm__ volatile("" : : : "memory");
}

/* What a child that runs misuse() says. (Not by run_self: the emulator has no exec.) */
static void report_of_child(char *text, size_t text_bytes) {
    int ends[2], status;
    size_t used = 0;
    REQUIRE(pipe(ends) == 0, "pipe: %s", strerror(errno));
    pid_t child = fork();
    REQUIRE(child >= 0, "fork: %s", strerror(errno));
    if (child == 0) {
        struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        dup2(ends[1], 2);
        misuse();
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], text + used, text_bytes - used - 1)) > 0;)
        used += (size_t)got;
    text[used] = '\0';
    close(ends[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
}

static void a_report_names_each_caller(void) {
    static char text[16384];
    report_of_child(text, sizeof text);
    const char *at = strstr(text, "return addresses on the stack");
    REQUIRE(at != NULL, "expected a report, found: %.300s", text);
    unsigned found = 0;
    while ((at = strstr(at, "  signed_returns+0x")) != NULL) {
        found++;
        at++;
    }
    EXPECT(found >= CALLERS, "expected the %d functions of this program, found %u: %s", CALLERS,
           found, text);
}

static const struct check checks[] = {{"a_report_names_each_caller", a_report_names_each_caller, 1}};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
