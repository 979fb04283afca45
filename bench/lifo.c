/* lifo.c -- short-lived blocks in nearly last-in first-out order, as an interpreter makes them.
 * Pattern     a recursive evaluator: each call allocates a frame, evaluates its operands into
 *             boxes, makes a box for the result, frees the operands' boxes and the frame, and
 *             returns. Known from reference-counted languages; most blocks die microseconds after
 *             birth.
 * Arguments   steps (evaluations), depth of the deepest expression, seed
 * An op       is one evaluation: a frame and a box allocated, and both freed in the end.
 * Checksum    the sum of the results of all expressions.
 */
#include "common.h"

struct box {
    uint64_t kind;
    uint64_t value;
    uint64_t references;
};

struct machine {
    struct bench_rng rng;
    uint64_t evaluations;
};

/* Evaluates a random expression of at most `depth` levels; the caller frees the box. */
static struct box *evaluate(struct machine *machine, unsigned depth)
{
    uint64_t random = bench_rng_next(&machine->rng);
    size_t locals = 8 + (random >> 60); /* 8..23 words */
    uint64_t *frame = bench_need(malloc((locals + 6) * sizeof *frame));
    frame[0] = random;
    frame[locals - 1] = depth;
    machine->evaluations++;

    uint64_t value = random >> 40;
    unsigned operands = depth == 0 ? 0 : (unsigned)((random >> 8) & 3u);
    for (unsigned i = 0; i < operands; i++) {
        struct box *operand = evaluate(machine, depth - 1);
        value = value * 3 + operand->value;
        free(operand);
    }
    /* Boxes come in three kinds of different size: number, long number, string. */
    size_t tail = (random & 1u) * 16 + (random & 2u) * 24;
    struct box *result = bench_need(malloc(sizeof *result + tail));
    *result = (struct box){ random & 3u, value + frame[locals - 1], 1 };
    free(frame);
    return result;
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("lifo", argc, argv);
    uint64_t steps = bench_arg(&args, "steps", 20000000, 1, UINT64_C(1) << 40);
    unsigned depth = (unsigned)bench_arg(&args, "depth", 24, 0, 200);
    uint64_t seed = bench_arg(&args, "seed", 42, 0, UINT64_MAX);
    bench_args_end(&args);

    struct machine machine = { bench_rng_seed(seed, 0), 0 };
    uint64_t checksum = 0;
    double start = bench_now();
    while (machine.evaluations < steps) {
        struct box *result = evaluate(&machine, depth);
        checksum += result->value;
        free(result);
    }
    double seconds = bench_now() - start;
    bench_report("lifo", machine.evaluations, seconds, checksum, "");
    return 0;
}
