/* measure.c -- runs a program and writes down what it cost.
 *
 * usage: measure RESULT [NAME=VALUE...] -- PROGRAM [arguments]
 *
 * RESULT gets one line: wall seconds, CPU seconds, peak RSS in KiB, exit code.  The settings go into the
 * program's environment only.  A child's peak RSS never reads as less than that of the process that
 * forked it, so this has to be a small program and not a script.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + 1e-6 * (double)time.tv_usec;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

int main(int argc, char **argv)
{
    int at = 2;
    while (at < argc && strcmp(argv[at], "--") != 0)
        at++;
    if (at + 1 >= argc) {
        fputs("usage: measure RESULT [NAME=VALUE...] -- PROGRAM [arguments]\n", stderr);
        return 2;
    }

    double start = now();
    pid_t child = fork();
    if (child == 0) {
        for (int setting = 2; setting < at; setting++)
            putenv(argv[setting]);
        execvp(argv[at + 1], argv + at + 1);
        perror(argv[at + 1]);
        _exit(127);
    }

    int status;
    struct rusage usage;
    if (child < 0 || wait4(child, &status, 0, &usage) != child) {
        perror("measure");
        return 2;
    }
    double wall = now() - start;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);

    FILE *result = fopen(argv[1], "w");
    if (result == NULL) {
        perror(argv[1]);
        return 2;
    }
    fprintf(result, "%.3f %.3f %ld %d\n", wall, seconds(usage.ru_utime) + seconds(usage.ru_stime),
            usage.ru_maxrss, code);
    return fclose(result) == 0 ? code : 2;
}
