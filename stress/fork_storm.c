/* fork_storm.c -- forks from a busy process, from several of its threads.
 * Purpose     workers allocate and exchange blocks; every fourth thread forks again and again. A
 *             child frees blocks that its parent had made, allocates, may start threads or fork
 *             itself, and exits with 0.
 * Oracle      every block's contents, in the child too; a child's exit code; a child that hangs.
 *             Under TSan the children start no threads, and TSan looks at the parent only.
 */
#include <signal.h>
#include <sys/wait.h>

#include "stress.h"

#define CELLS 4096u
#define CHILD_SECONDS 40u

static stress_cell cells[CELLS];
static _Atomic(uint64_t) forks;


static void churn(struct stress_thread *t) {
    stress_cell *cell = &cells[stress_pick(t, CELLS)];
    uint64_t word;
    if (stress_one_in(t, 3)) {
        word = stress_take(cell);
        if (word != 0 && stress_one_in(t, 3))
            stress_replace(t, cell, stress_resize(t, word, stress_size(t, 8192)));
        else if (word != 0)
            stress_drop(t, word);
    } else {
        word = stress_make(t, stress_size(t, stress_one_in(t, 256) ? KIB(512) : 4096));
        if (word != 0)
            stress_replace(t, cell, word);
    }
}

static void *child_thread(void *argument) {
    struct stress_thread *t = argument;
    for (unsigned i = 0; i < 500; i++)
        churn(t);
    return NULL;
}

static int wait_for(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return status;
}

/* Works for a while, at times with threads of its own. */
static void work(struct stress_thread *t) {
    size_t turns = stress_one_in(t, 8) ? 8000 : stress_pick(t, 600);
    for (size_t i = 0; i < turns; i++)
        churn(t);
    if (STRESS_TSAN || !stress_one_in(t, 4))
        return;
    pthread_t id[3];
    for (unsigned i = 0; i < COUNT_OF(id); i++) {
        struct stress_thread *other = &stress_threads[STRESS_THREADS_MAX - 1 - i];
        other->random ^= t->random + i + 1;
        int error = pthread_create(&id[i], NULL, child_thread, other);
        STRESS_REQUIRE(error == 0, "pthread_create: %s", strerror(error));
    }
    for (unsigned i = 0; i < turns; i++)
        churn(t);
    for (unsigned i = 0; i < COUNT_OF(id); i++)
        (void)pthread_join(id[i], NULL);
}

static void require_ended(pid_t child) {
    STRESS_REQUIRE(child > 0, "fork: %s", strerror(errno));
    int status = wait_for(child);
    STRESS_REQUIRE(status == 0, "a child ended with status %#x", (unsigned)status);
}

/* In the child, and in turn in a child of that; the thread record is a copy. */
static _Noreturn void live_as_child(struct stress_thread *t) {
    for (unsigned depth = 1;; depth++) {
        stress.child = true;
        (void)alarm(CHILD_SECONDS);
        t->random ^= (uint64_t)getpid() << 20 | 1;
        work(t);
        pid_t child = 1;
        if (depth < 3 && stress_one_in(t, 6) && (child = fork()) != 0)
            require_ended(child);
        if (child != 0)
            break;
    }
    if (stress_one_in(t, 2))
        stress_drop_all(t, cells, CELLS);
    if (stress_one_in(t, 16))
        (void)hkm_purge();
    _exit(0);
}

static void body(struct stress_thread *t) {
    for (unsigned turn = 0; !stress_stopped(); turn++) {
        churn(t);
        stress_noise(t);
        if (t->index % 4 != 0 || turn % 64 != 0) {
            if (turn % 256 == 0)
                stress_nap_us(300); /* forks need the address space's lock too */
            continue;
        }
        pid_t child = fork();
        if (child == 0)
            live_as_child(t);
        require_ended(child);
        atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
    }
}

int main(int argc, char **argv) {
    stress_begin("fork_storm", argc, argv, "");
    stress_run(1.0, stress.threads, body);
    stress_drop_all(&stress_threads[0], cells, CELLS);
    printf("fork_storm: %llu forks\n", (unsigned long long)forks);
    return stress_end();
}
