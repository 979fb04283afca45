/* life_process.c -- the allocator serves a process from before its first constructor to after its
 * last exit handler: .preinit_array, constructors, destructors, atexit, and a main thread that
 * leaves early.
 */
#include "check.inc"

static void *early[3][50]; /* allocated in .preinit_array, in a first and in a late constructor */

static void allocate_row(size_t row) {
    for (size_t i = 0; i < 50; i++) {
        size_t bytes = i * 97 + (i == 49 ? 2 * MIB : 1);
        early[row][i] = row == 1 ? calloc(1, bytes) : malloc(bytes);
        if (early[row][i] != NULL)
            pattern_fill(early[row][i], bytes, row);
    }
}

static void in_preinit(int argc, char **argv, char **environment) {
    (void)argc;
    (void)argv;
    (void)environment;
    allocate_row(0);
}

__attribute__((section(".preinit_array"),
               used)) static void (*const preinit_entry)(int, char **, char **) = in_preinit;

__attribute__((constructor(101))) static void first_constructor(void) { allocate_row(1); }
__attribute__((constructor(65535))) static void late_constructor(void) { allocate_row(2); }

static void free_row(size_t row, const char *when) {
    for (size_t i = 0; i < 50; i++) {
        size_t bytes = i * 97 + (i == 49 ? 2 * MIB : 1);
        if (early[row][i] == NULL || !pattern_intact(early[row][i], bytes, row)) {
            check_failed(__LINE__, "%s: block %zu of row %zu is lost", when, i, row);
            _exit(41);
        }
        early[row][i] = realloc(early[row][i], bytes + 1000);
        free(early[row][i]);
    }
}

/* Runs after every atexit handler and after all later destructors. */
__attribute__((destructor(101))) static void last_destructor(void) {
    if (early[0][0] != NULL)
        free_row(0, "the last destructor");
    for (size_t i = 0; i < 1000; i++)
        free(malloc(i * 10));
}

static void at_exit_free(void) {
    free_row(1, "atexit");
    free(strdup("still here"));
}

static void blocks_from_before_main_live_until_after_the_last_destructor(void) {
    for (size_t row = 0; row < 3; row++)
        for (size_t i = 0; i < 50; i++)
            EXPECT(early[row][i] != NULL, "row %zu block %zu: expected a block", row, i);
    pid_t child = fork();
    if (child == 0) {
        atexit(at_exit_free);
        exit(0);
    }
    EXPECT_CHILD(child, 0, 20, "the exit of the process");
    free_row(2, "main");
}

static int exit_pipe[2];

static void *outlive_main(void *argument) {
    pthread_join(*(pthread_t *)argument, NULL);
    for (size_t i = 0; i < 20000; i++) {
        void *block = malloc(i % 5000);
        if (block == NULL)
            _exit(42);
        free(block);
    }
    free(argument);
    if (write(exit_pipe[1], "x", 1) != 1)
        _exit(43);
    return NULL;
}

static void threads_live_on_after_main_has_left(void) {
    char got = 0;
    REQUIRE(pipe(exit_pipe) == 0, "pipe");
    pid_t child = fork();
    if (child == 0) {
        pthread_t threads[4];
        for (size_t i = 0; i < COUNT_OF(threads); i++) {
            pthread_t *self = malloc(sizeof *self);
            *self = i == 0 ? pthread_self() : threads[i - 1];
            pthread_create(&threads[i], NULL, outlive_main, self);
        }
        memset(early, 0, sizeof early);
        pthread_exit(NULL);
    }
    EXPECT_CHILD(child, 0, 20, "a process whose main thread left");
    close(exit_pipe[1]);
    for (size_t i = 0; i < 4; i++)
        EXPECT(read(exit_pipe[0], &got, 1) == 1, "expected four threads to finish, found %zu", i);
    close(exit_pipe[0]);
}

static int stop_now;

static void *allocate_for_ever(void *argument) {
    uint64_t random = (uint64_t)(size_t)argument + 9;
    while (!__atomic_load_n(&stop_now, __ATOMIC_RELAXED))
        free(malloc(random_size(&random)));
    return NULL;
}

static void exit_while_threads_allocate_is_quiet(void) {
    for (size_t round = 0; round < scaled(30) && check_failures == 0; round++) {
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            for (size_t i = 0; i < 4; i++)
                pthread_create(&thread, NULL, allocate_for_ever, (void *)i);
            atexit(at_exit_free);
            memset(early[0], 0, sizeof early[0]);
            for (size_t i = 0; i < 50; i++) {
                size_t bytes = i * 97 + (i == 49 ? 2 * MIB : 1);
                early[1][i] = malloc(bytes);
                pattern_fill(early[1][i], bytes, 1);
            }
            exit(0);
        }
        EXPECT_CHILD(child, 0, 20, "exit amid allocating threads");
    }
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(blocks_from_before_main_live_until_after_the_last_destructor, 0),
    CHECK(threads_live_on_after_main_has_left, 0),
    CHECK(exit_while_threads_allocate_is_quiet, 0),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
