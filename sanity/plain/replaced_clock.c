/* replaced_clock.c -- a program, or a library like libfaketime, whose own clock and process id need
 * memory: the allocator asks for both, and must not go round in circles.
 */
#include <dlfcn.h>
#include <sys/syscall.h>

#include "check.inc"

static _Atomic unsigned asked;

/* As libfaketime does it: the first time by names, each time with memory of its own. */
static void use_memory(const char *name) {
    asked++;
    if (dlsym(RTLD_NEXT, name) == NULL)
        abort();
    char *copy = strdup(name);
    if (copy == NULL)
        abort();
    free(copy);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    use_memory("clock_gettime");
    return (int)syscall(SYS_clock_gettime, clock, now);
}

pid_t getpid(void) {
    use_memory("getpid");
    return (pid_t)syscall(SYS_getpid);
}

static void *work(void *arg) {
    void *blocks[500];
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < COUNT_OF(blocks); i++) {
            size_t bytes = 16 + i * i % 9000;
            blocks[i] = malloc(bytes);
            REQUIRE(blocks[i] != NULL, "expected %zu bytes", bytes);
            memset(blocks[i], round, bytes);
        }
        for (size_t i = 0; i < COUNT_OF(blocks); i++) {
            EXPECT(*(unsigned char *)blocks[i] == round, "block %zu lost its contents", i);
            free(blocks[i]);
        }
        free(malloc(3 << 20));
    }
    return arg;
}

static void allocation_with_a_clock_that_allocates_comes_to_an_end(void) {
    pthread_t threads[8];
    (void)work(NULL);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        REQUIRE(pthread_create(&threads[i], NULL, work, NULL) == 0, "expected a thread");
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        REQUIRE(pthread_join(threads[i], NULL) == 0, "expected its end");
    EXPECT(asked == 0, "expected the allocator to ask the kernel, not the program, found %u calls",
           asked);
}

static const struct check checks[] = {
    {"allocation_with_a_clock_that_allocates_comes_to_an_end",
     allocation_with_a_clock_that_allocates_comes_to_an_end, 0},
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
