/* afl.c -- AFL++'s persistent mode around the libFuzzer target.
 * Purpose     afl-fuzz hands inputs over in shared memory, a thousand to a process. Started by hand
 *             it plays the files that it is given, so that what afl-fuzz found can be repeated.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#if defined(__clang__) /* what AFL++'s macros become */
#pragma clang diagnostic ignored "-Wcast-qual"
#pragma clang diagnostic ignored "-Wshorten-64-to-32"
#endif

#define RUNS_TO_A_PROCESS 1000

__AFL_FUZZ_INIT();

static int play_files(int argc, char **argv) {
    static uint8_t buffer[1 << 20];
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rbe");
        if (file == NULL) {
            perror(argv[i]);
            return 1;
        }
        size_t size = fread(buffer, 1, sizeof buffer, file);
        (void)fclose(file);
        (void)LLVMFuzzerTestOneInput(buffer, size);
    }
    return 0;
}

int main(int argc, char **argv) {
    (void)LLVMFuzzerInitialize(&argc, &argv);
    if (argc > 1)
        return play_files(argc, argv);
    __AFL_INIT();
    const uint8_t *data = __AFL_FUZZ_TESTCASE_BUF;
    while (__AFL_LOOP(RUNS_TO_A_PROCESS))
        (void)LLVMFuzzerTestOneInput(data, (size_t)__AFL_FUZZ_TESTCASE_LEN);
    return 0;
}
