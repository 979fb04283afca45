/* fork_busy.c -- a child that is forked from a busy process can allocate, free what other threads
 * had allocated, and start threads, whichever thread forked and whatever the others were doing. A
 * child that hangs is killed after some seconds and is a failure.
 */
#include "check.inc"

#include <spawn.h>

#include "rounds.inc"

extern char **environ;

enum { THREADS = 8, SLOTS = 64, CHILD_SECONDS = 20 };

static int stop;
static void *shared[THREADS][SLOTS]; /* what each thread holds; read only by forked children */

static void *churn(void *argument) {
    size_t me = (size_t)argument;
    uint64_t random = 0x1234567 + me * 7919;
    for (size_t turn = 1; !__atomic_load_n(&stop, __ATOMIC_RELAXED); turn++) {
        if (turn % 256 == 0)
            usleep(300); /* or the forks would have to wait for a processor */
        size_t at = random_next(&random) % SLOTS;
        void *old = __atomic_exchange_n(&shared[me][at], NULL, __ATOMIC_ACQ_REL);
        if (old != NULL && random % 3 == 0)
            old = realloc(old, random_size(&random));
        else {
            free(old);
            old = malloc(random_size(&random));
        }
        if (old != NULL)
            memset(old, (int)at, 8 < malloc_usable_size(old) ? 8 : 1);
        __atomic_store_n(&shared[me][at], old, __ATOMIC_RELEASE);
    }
    return NULL;
}

static pthread_t workers[THREADS];

static void start_workers(void *(*work)(void *)) {
    stop = 0;
    for (size_t i = 0; i < THREADS; i++)
        REQUIRE(pthread_create(&workers[i], NULL, work, (void *)i) == 0, "pthread_create");
}

static void stop_workers(void) {
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(workers[i], NULL);
    for (size_t i = 0; i < THREADS; i++)
        for (size_t j = 0; j < SLOTS; j++) {
            free(shared[i][j]);
            shared[i][j] = NULL;
        }
}

static void *allocate_in_thread(void *argument) {
    char *block = malloc(5000);
    if (block == NULL)
        return NULL;
    memset(block, 1, 5000);
    free(block);
    return argument;
}

/* What every child does; 0 when all went well. */
static int child_work(size_t allocations) {
    static void *held[500];
    static size_t sizes[500];
    uint64_t random = 42;
    for (size_t i = 0; i < THREADS; i++)
        for (size_t j = 0; j < SLOTS; j++)
            free(__atomic_exchange_n(&shared[i][j], NULL, __ATOMIC_ACQ_REL));
    for (size_t i = 0; i < allocations; i++) {
        size_t at = i % COUNT_OF(held);
        if (held[at] != NULL && !pattern_intact(held[at], sizes[at], at))
            return 10;
        free(held[at]);
        sizes[at] = random_size(&random);
        if (sizes[at] > 40000 && i % 16 != 0)
            sizes[at] = 40000;
        held[at] = malloc(sizes[at]);
        if (held[at] == NULL)
            return 11;
        pattern_fill(held[at], sizes[at], at);
    }
    pthread_t thread;
    void *result = NULL;
    if (pthread_create(&thread, NULL, allocate_in_thread, held) != 0 ||
        pthread_join(thread, &result) != 0 || result != held)
        return 12;
    for (size_t i = 0; i < COUNT_OF(held); i++)
        free(held[i]);
    return 0;
}

static void children_of_the_main_thread_of_a_busy_process_work(void) {
    start_workers(churn);
    struct rounds rounds = rounds_of(scaled(under_debug_hakmem() ? 60 : 200));
    while (check_failures == 0 && another(&rounds)) {
        pid_t child = fork();
        REQUIRE(child >= 0, "fork: %s", strerror(errno));
        if (child == 0)
            _exit(child_work(rounds.done % 20 == 1 ? 10000 : 500));
        EXPECT_CHILD(child, 0, CHILD_SECONDS, "a child of the main thread");
    }
    stop_workers();
}

static void *fork_from_here(void *argument) {
    struct rounds rounds = rounds_of((size_t)argument);
    void *mine = malloc(777);
    while (check_failures == 0 && another(&rounds)) {
        pid_t child = fork();
        REQUIRE(child >= 0, "fork: %s", strerror(errno));
        if (child == 0) {
            free(mine);
            _exit(child_work(1000));
        }
        EXPECT_CHILD(child, 0, CHILD_SECONDS, "a child of another thread");
    }
    free(mine);
    return NULL;
}

static void children_of_other_threads_work_even_when_several_fork_at_once(void) {
    pthread_t forkers[3];
    start_workers(churn);
    for (size_t i = 0; i < COUNT_OF(forkers); i++)
        REQUIRE(pthread_create(&forkers[i], NULL, fork_from_here, (void *)scaled(25)) == 0,
                "pthread_create");
    for (size_t i = 0; i < COUNT_OF(forkers); i++)
        pthread_join(forkers[i], NULL);
    stop_workers();
}

static void a_child_of_a_child_of_a_child_works(void) {
    start_workers(churn);
    struct rounds rounds = rounds_of(scaled(10));
    while (check_failures == 0 && another(&rounds)) {
        pid_t child = fork();
        if (child == 0) {
            start_workers(churn);
            child = fork();
            if (child == 0) {
                child = fork();
                if (child == 0)
                    _exit(child_work(2000));
                EXPECT_CHILD(child, 0, CHILD_SECONDS, "the third generation");
                _exit(check_failures ? 1 : child_work(2000));
            }
            EXPECT_CHILD(child, 0, CHILD_SECONDS, "the second generation");
            stop_workers();
            _exit(check_failures ? 1 : child_work(2000));
        }
        EXPECT_CHILD(child, 0, 2 * CHILD_SECONDS, "the first generation");
    }
    stop_workers();
}

static void *keep_stdio_busy(void *argument) {
    size_t me = (size_t)argument;
    FILE *out = fopen("/dev/null", "w"), *in = fopen("/proc/self/status", "r");
    char *line = NULL;
    size_t capacity = 0;
    REQUIRE(out != NULL && in != NULL, "fopen: %s", strerror(errno));
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        fprintf(out, "%zu %s\n", me, line != NULL ? line : "");
        fflush(me % 2 == 0 ? out : NULL);
        if (getline(&line, &capacity, in) < 0)
            rewind(in);
        if (me % 4 == 3) {
            FILE *more = fopen("/dev/null", "w");
            if (more != NULL)
                fclose(more);
        }
        free(malloc(me * 500 + 10));
        usleep(100); /* stdio's locks are unfair: fork would wait for ever */
    }
    free(line);
    fclose(in);
    fclose(out);
    return NULL;
}

static void children_work_while_others_hold_stdio_locks(void) {
    start_workers(keep_stdio_busy);
    struct rounds rounds = rounds_of(scaled(100));
    while (check_failures == 0 && another(&rounds)) {
        pid_t child = fork();
        if (child == 0) {
            char *text = NULL;
            FILE *file = fopen("/dev/null", "w");
            if (file == NULL || asprintf(&text, "%d", 12345) != 5)
                _exit(13);
            fprintf(file, "%s\n", text);
            fclose(file);
            free(text);
            _exit(child_work(500));
        }
        EXPECT_CHILD(child, 0, CHILD_SECONDS, "a child amid stdio");
    }
    stop_workers();
}

static void *exit_blocks[100];
static int exit_file = -1;

static void free_at_exit(void) {
    for (size_t i = 0; i < COUNT_OF(exit_blocks); i++)
        free(exit_blocks[i]);
    if (exit_file >= 0 && write(exit_file, "x", 1) != 1)
        _exit(14);
}

static void children_that_exit_run_their_handlers(void) {
    start_workers(churn);
    struct rounds rounds = rounds_of(scaled(20));
    while (check_failures == 0 && another(&rounds)) {
        int ends[2];
        char got = 0;
        REQUIRE(pipe(ends) == 0, "pipe");
        pid_t child = fork();
        if (child == 0) {
            for (size_t j = 0; j < COUNT_OF(exit_blocks); j++)
                exit_blocks[j] = malloc(j * 100);
            exit_file = ends[1];
            atexit(free_at_exit);
            exit(child_work(500));
        }
        EXPECT_CHILD(child, 0, CHILD_SECONDS, "a child that calls exit");
        close(ends[1]);
        EXPECT(read(ends[0], &got, 1) == 1 && got == 'x', "expected that the handler ran");
        close(ends[0]);
    }
    stop_workers();
}

static void vfork_and_posix_spawn_start_programs(void) {
    start_workers(churn);
    char name[] = "/bin/true";
    char *arguments[] = {name, NULL};
    struct rounds rounds = rounds_of(scaled(20));
    while (check_failures == 0 && another(&rounds)) {
        pid_t child = vfork();
        if (child == 0) {
            execv(name, arguments);
            _exit(99);
        }
        EXPECT_CHILD(child, 0, CHILD_SECONDS, "true by vfork");
        int failed = posix_spawn(&child, name, NULL, NULL, arguments, environ);
        EXPECT(failed == 0, "posix_spawn: %s", strerror(failed));
        if (failed == 0)
            EXPECT_CHILD(child, 0, CHILD_SECONDS, "true by posix_spawn");
        FILE *pipe_file = popen("echo hello", "r");
        char text[20] = "";
        EXPECT(pipe_file != NULL && fgets(text, sizeof text, pipe_file) != NULL &&
                   strcmp(text, "hello\n") == 0,
               "popen: expected hello, found \"%s\"", text);
        if (pipe_file != NULL)
            pclose(pipe_file);
    }
    stop_workers();
}

static void the_parent_is_unharmed_by_its_forks(void) {
    int failed = child_work(20000);
    EXPECT(failed == 0, "expected the parent's heap to work, found failure %d", failed);
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(children_of_the_main_thread_of_a_busy_process_work, 0),
    CHECK(children_of_other_threads_work_even_when_several_fork_at_once, 0),
    CHECK(a_child_of_a_child_of_a_child_works, 0),
    CHECK(children_work_while_others_hold_stdio_locks, 0),
    CHECK(children_that_exit_run_their_handlers, 0),
    CHECK(vfork_and_posix_spawn_start_programs, 0),
    CHECK(the_parent_is_unharmed_by_its_forks, 0),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
