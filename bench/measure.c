/* measure.c -- runs one program and reports what it used.
 * Purpose     the runners under bench/ start every program through this one.  Linux counts a
 *             process's peak RSS from before its exec as well, so a child of python3 never shows
 *             less than python3's own; a child of this small process shows its own.
 *             Before that, memory is touched and given back: a virtual machine reports pages that
 *             have been free for two seconds to its host, which takes them; who touches them first
 *             then waits for the host (a huge page 4 ms instead of 0.2).  So whoever ran first in a
 *             row would pay for all, above all an allocator that asks for huge pages.
 * Usage       measure OUTFILE PRELOAD WARM_MIB PROGRAM [ARGUMENT ...]     PRELOAD "" for none
 * Output      to OUTFILE: wall and CPU seconds, peak RSS in KiB, minor faults, major faults, and
 *             the program's wait status, on one line.  The program's own output goes where ours
 *             would.
 */
#include "common.h"

#include <sys/mman.h>
#include <sys/wait.h>

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

/* Touches each page in a process of its own, whose peak is not counted as ours. */
static void warm(size_t bytes)
{
    pid_t child = fork();
    if (child < 0) bench_die(3, "measure: fork failed");
    if (child == 0) {
        char *pages = bench_map(bytes);
        (void)madvise(pages, bytes, MADV_HUGEPAGE);
        for (size_t at = 0; at < bytes; at += 4096) pages[at] = 1;
        _exit(0);
    }
    int status;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) bench_die(3, "measure: waitpid failed");
    }
}

int main(int argc, char **argv)
{
    if (argc < 5) bench_die(2, "usage: measure OUTFILE PRELOAD WARM_MIB PROGRAM [ARGUMENT ...]");
    int out = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (out < 0) bench_die(2, "measure: can not write OUTFILE");
    size_t warm_mib = strtoul(argv[3], NULL, 10);
    if (warm_mib != 0) warm(warm_mib << 20);
    if (argv[2][0] != '\0') setenv("LD_PRELOAD", argv[2], 1);

    double start = bench_now();
    pid_t child = fork();
    if (child < 0) bench_die(3, "measure: fork failed");
    if (child == 0) {
        execvp(argv[4], argv + 4);
        bench_die(127, "measure: can not run PROGRAM");
    }
    int status = 0;
    struct rusage usage;
    while (wait4(child, &status, 0, &usage) < 0) {
        if (errno != EINTR) bench_die(3, "measure: wait4 failed");
    }
    double wall = bench_now() - start;
    bench_print(out, "%.6f %.6f %ld %ld %ld %d\n", wall,
                seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime), usage.ru_maxrss,
                usage.ru_minflt, usage.ru_majflt, status);
    return 0;
}
