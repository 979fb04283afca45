/* atfork_many.c -- the first malloc of a process is made by pthread_atfork: glibc has room for 48
 * handlers, and allocates for more with the lock held that pthread_atfork takes. Registered in main,
 * and before any library's constructor.
 */
#include "check.inc"

#include <pthread.h>

enum { HANDLERS = 120, SECONDS = 20 };

static int ran;

static void count(void) { ran++; }

static void register_many(void) {
    for (size_t i = 0; i < HANDLERS; i++)
        if (pthread_atfork(NULL, NULL, count) != 0)
            _exit(97);
}

static int is_mode(int argc, char **argv, const char *mode) {
    return argc == 2 && strcmp(argv[1], mode) == 0;
}

static void in_preinit(int argc, char **argv, char **environment) {
    (void)environment;
    if (is_mode(argc, argv, "--preinit"))
        register_many();
}

__attribute__((section(".preinit_array"),
               used)) static void (*const preinit_entry)(int, char **, char **) = in_preinit;

static int allocates(void) {
    void *block = malloc(1000);
    free(block);
    return block != NULL;
}

/* Every handler runs in the child, and both processes allocate. */
static int fork_once(void) {
    char why[80];
    pid_t child = fork();
    if (child == 0)
        _exit(ran == HANDLERS && allocates() ? 0 : 1);
    return child < 0 || child_fails(child, 0, SECONDS, why, sizeof why) || !allocates();
}

/* This program again, in which nothing was allocated yet; in_child kills it if it waits for itself. */
static void run_main(void) {
    execl("/proc/self/exe", "self", "--main", (char *)NULL);
    _exit(99);
}
static void run_preinit(void) {
    execl("/proc/self/exe", "self", "--preinit", (char *)NULL);
    _exit(99);
}

static void the_first_malloc_of_a_program_is_pthread_atforks(void) { in_child(run_main, SECONDS); }
static void the_first_malloc_before_all_constructors_is_pthread_atforks(void) {
    in_child(run_preinit, SECONDS);
}

static const struct check checks[] = {
#define CHECK(name)                                                                                \
    { #name, name, 0 }
    CHECK(the_first_malloc_of_a_program_is_pthread_atforks),
    CHECK(the_first_malloc_before_all_constructors_is_pthread_atforks),
};

int main(int argc, char **argv) {
    if (is_mode(argc, argv, "--main"))
        register_many();
    if (is_mode(argc, argv, "--main") || is_mode(argc, argv, "--preinit"))
        return fork_once();
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
