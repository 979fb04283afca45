/* signals.c -- threads that are interrupted all the time, inside the allocator too.
 * Purpose     one thread sends signals to all others; the handler does not allocate. It uses a good
 *             piece of the stack, sleeps at times with the interrupted thread's locks held, and
 *             changes errno as a handler must not be heard to.
 * Oracle      every block's contents; counts; errno as free found it (stress_drop).
 */
#include <signal.h>

#include "stress.h"

#define CELLS 8192u

static stress_cell cells[CELLS];
static _Atomic(uint64_t) handled;
static _Atomic(unsigned) ready;

static void on_signal(int number) {
    int saved = errno;
    volatile unsigned char stack[3000];
    for (size_t i = 0; i < sizeof stack; i += 64)
        stack[i] = (unsigned char)number;
    uint64_t before = atomic_fetch_add_explicit(&handled, 1, memory_order_relaxed);
    if (before % 64 == 0)
        stress_nap_us(100);
    errno = EBADF;
    errno = saved;
}

static void body(struct stress_thread *t) {
    if (t->index == 0) {
        while (atomic_load_explicit(&ready, memory_order_acquire) + 1 < stress.threads)
            stress_nap_us(1000);
        while (!stress_stopped()) {
            unsigned to = 1 + (unsigned)stress_pick(t, stress.threads - 1);
            (void)pthread_kill(stress_threads[to].id, SIGUSR1);
            stress_op(t);
            stress_nap_us((unsigned)stress_pick(t, 60));
        }
        /* no thread may end before the last signal was sent to it */
        atomic_fetch_add_explicit(&ready, 1, memory_order_release);
        return;
    }
    t->id = pthread_self();
    atomic_fetch_add_explicit(&ready, 1, memory_order_release);
    while (!stress_stopped() ||
           atomic_load_explicit(&ready, memory_order_relaxed) < stress.threads) {
        stress_cell *cell = &cells[stress_pick(t, CELLS)];
        uint64_t word = stress_take(cell);
        if (word == 0)
            word = stress_make(t, stress_size(t, stress_one_in(t, 256) ? MIB(1) : 4096));
        else if (stress_one_in(t, 2))
            word = stress_resize(t, word, stress_size(t, 8192));
        else {
            stress_drop(t, word);
            word = 0;
        }
        if (word != 0)
            stress_replace(t, &cells[stress_pick(t, CELLS)], word);
        stress_noise(t);
    }
}

int main(int argc, char **argv) {
    stress_begin("signals", argc, argv, "");
    if (stress.threads < 2)
        stress.threads = 2;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGUSR1, &action, NULL);
    atomic_store_explicit(&ready, 0, memory_order_relaxed);
    stress_run(1.0, stress.threads, body);
    stress_drop_all(&stress_threads[0], cells, CELLS);
    printf("signals: %llu handled\n", (unsigned long long)handled);
    return stress_end();
}
