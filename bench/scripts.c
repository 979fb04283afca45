/* scripts.c -- short scripts whose instructions are counted, not timed.
 * Pattern     each exercises one path of an allocator, the same operations in every run, so that
 *             the instructions of the allocator are the same in every run too: of the two threads
 *             that some have, one runs at a time.  ci/gate-counts.sh runs them under callgrind and
 *             counts what happens below `script` and `script_of_taker`; ci/gate-footprint.sh
 *             counts their system calls.
 * Arguments   script, repetitions in per cent
 * An op       is one malloc with its free.
 * Checksum    the sum of words read from blocks before they are freed.
 */
#include "common.h"

#include <errno.h>
#include <semaphore.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLOTS_MAX 20000u

/* The clock that the allocator sees stands still: how long a run takes must not show in its counts.
 * Under valgrind there is no vDSO to ask, so it makes system calls, and these two alone. A program's
 * own function comes before libc's. */
long syscall(long number, ...)
{
    if (number == SYS_getpid) return getpid();
    va_list arguments;
    va_start(arguments, number);
    (void)va_arg(arguments, long);
    struct timespec *now = va_arg(arguments, struct timespec *);
    va_end(arguments);
    if (number == SYS_clock_gettime) {
        *now = (struct timespec){ 1000, 0 };
        return 0;
    }
    errno = ENOSYS;
    return -1;
}

static void *slots[SLOTS_MAX];
static uint64_t checksum;
static uint64_t ops;

static void *block_new(size_t bytes, uint64_t word)
{
    void *block = bench_need(malloc(bytes));
    bench_put(block, 0, word);
    ops++;
    return block;
}

static void block_drop(void *block)
{
    if (block == NULL) return;
    checksum += bench_get(block, 0);
    free(block);
}

static void drop_all(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        block_drop(slots[i]);
        slots[i] = NULL;
    }
}

/* The pair that everything hangs on. */
static void pair(uint64_t count)
{
    for (uint64_t i = 0; i < count * 200; i++) block_drop(block_new(32, i));
}

static void replace(uint64_t steps, size_t working_set, size_t min, size_t max)
{
    struct bench_rng rng = bench_rng_seed(42, 0);
    for (uint64_t step = 0; step < steps; step++) {
        uint64_t random = bench_rng_next(&rng);
        void **slot = &slots[bench_pick(random, working_set)];
        block_drop(*slot);
        *slot = block_new(min + bench_pick_low(random, max - min + 1), step);
    }
    drop_all(working_set);
}

static void mixed(uint64_t count) { replace(count * 200, 1000, 16, 1040); }
static void mid(uint64_t count) { replace(count * 40, 200, 2048, 65536); }
static void large(uint64_t count) { replace(count * 2, 20, 300u << 10, 3u << 20); }

static void bulk_of(uint64_t turns, size_t blocks, size_t bytes)
{
    for (uint64_t turn = 0; turn < turns; turn++) {
        for (size_t i = 0; i < blocks; i++) slots[i] = block_new(bytes, i);
        drop_all(blocks);
    }
}

static void bulk_small(uint64_t count) { bulk_of(count / 5, 1000, 32); }
static void bulk(uint64_t count) { bulk_of(count / 50, 20000, 64); }

static void bulk_shuffled(uint64_t count)
{
    struct bench_rng rng = bench_rng_seed(7, 0);
    for (uint64_t turn = 0; turn < count / 50; turn++) {
        for (size_t i = 0; i < SLOTS_MAX; i++) slots[i] = block_new(64, i);
        for (size_t i = SLOTS_MAX - 1; i > 0; i--) {
            size_t j = bench_pick(bench_rng_next(&rng), i + 1);
            void *swap = slots[i];
            slots[i] = slots[j];
            slots[j] = swap;
        }
        drop_all(SLOTS_MAX);
    }
}

static void zeroed(uint64_t count)
{
    struct bench_rng rng = bench_rng_seed(42, 1);
    for (uint64_t step = 0; step < count * 40; step++) {
        uint64_t random = bench_rng_next(&rng);
        void **slot = &slots[bench_pick(random, 300)];
        block_drop(*slot);
        *slot = bench_need(calloc(1, 8 + bench_pick_low(random, 2000)));
        ops++;
    }
    drop_all(300);
}

static void resized(uint64_t count)
{
    for (uint64_t turn = 0; turn < count / 2; turn++) {
        size_t bytes = 8;
        void *block = block_new(bytes, turn);
        for (; bytes < 100000; bytes += bytes / 2 + 8) block = bench_need(realloc(block, bytes));
        for (; bytes > 100; bytes /= 3) block = bench_need(realloc(block, bytes));
        block_drop(block);
    }
}

static void aligned(uint64_t count)
{
    struct bench_rng rng = bench_rng_seed(42, 2);
    for (uint64_t step = 0; step < count * 40; step++) {
        uint64_t random = bench_rng_next(&rng);
        void **slot = &slots[bench_pick(random, 300)];
        block_drop(*slot);
        size_t alignment = (size_t)32 << (random & 7u);
        if (posix_memalign(slot, alignment, 32 + bench_pick_low(random, 3000)) != 0) {
            bench_die(3, "allocation failed");
        }
        bench_put(*slot, 0, step);
        ops++;
    }
    drop_all(300);
}

/* A second thread frees what the first has allocated, in turn with it. */
static struct {
    sem_t filled, taken;
    uint64_t turns;
    size_t blocks;
} taker;

__attribute__((noinline)) static void script_of_taker(void)
{
    for (uint64_t turn = 0; turn < taker.turns; turn++) {
        while (sem_wait(&taker.filled) != 0) {
        }
        drop_all(taker.blocks);
        (void)sem_post(&taker.taken);
    }
    __asm__ volatile("" : : : "memory");
}

static void *run_taker(void *argument)
{
    script_of_taker();
    return argument;
}

static void send(uint64_t turns, size_t blocks, size_t min, size_t max)
{
    struct bench_rng rng = bench_rng_seed(42, 3);
    pthread_t thread;
    taker.turns = turns;
    taker.blocks = blocks;
    if (sem_init(&taker.filled, 0, 0) != 0 || sem_init(&taker.taken, 0, 0) != 0 ||
        pthread_create(&thread, NULL, run_taker, NULL) != 0) {
        bench_die(3, "no second thread");
    }
    for (uint64_t turn = 0; turn < turns; turn++) {
        for (size_t i = 0; i < blocks; i++)
            slots[i] = block_new(min + bench_pick_low(bench_rng_next(&rng), max - min + 1), i);
        (void)sem_post(&taker.filled);
        while (sem_wait(&taker.taken) != 0) {
        }
    }
    (void)pthread_join(thread, NULL);
}

static void sent_small(uint64_t count) { send(count / 5, 1000, 16, 1024); }
static void sent_mid(uint64_t count) { send(count / 2, 200, 1025, 65536); }

static void first(uint64_t count)
{
    (void)count;
    block_drop(block_new(100, 1)); /* starts the allocator */
}

static const struct {
    const char *name;
    void (*run)(uint64_t count);
} scripts[] = {
    { "first", first },
    { "pair_32", pair },
    { "mixed", mixed },
    { "bulk_small", bulk_small },
    { "bulk", bulk },
    { "bulk_shuffled", bulk_shuffled },
    { "zeroed", zeroed },
    { "resized", resized },
    { "aligned", aligned },
    { "mid", mid },
    { "large", large },
    { "sent_small", sent_small },
    { "sent_mid", sent_mid },
};
#define SCRIPTS (sizeof scripts / sizeof scripts[0])

__attribute__((noinline)) static void script(size_t index, uint64_t count)
{
    scripts[index].run(count);
    __asm__ volatile("" : : : "memory"); /* no tail call: callgrind sees the function's end */
}

int main(int argc, char **argv)
{
    struct bench_args args = bench_args_begin("scripts", argc, argv);
    unsigned index = bench_arg_word(&args, "script",
                                    "first|pair_32|mixed|bulk_small|bulk|bulk_shuffled|zeroed|"
                                    "resized|aligned|mid|large|sent_small|sent_mid");
    uint64_t count = bench_arg(&args, "count", 100, 1, 1u << 20);
    bench_args_end(&args);
    if (index >= SCRIPTS) bench_die(2, "no such script");

    script(index, count);
    bench_report(scripts[index].name, ops, 0.0, checksum, "");
    return 0;
}
