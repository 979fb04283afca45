/* fuzz_ops.c -- the operations harness as a libFuzzer target (AFL++'s and OSS-Fuzz's too). */
#include "harness.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Start options are not taken from inputs here: all of them play in one process. */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    harness_start(NULL, 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    harness_run(data, size);
    return 0;
}
