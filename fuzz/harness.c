/* harness.c -- the interpreter, its threads, and the end of a run; see harness.h.
 * Threads     each thread of an input is a real one, but only the holder of the baton runs: the
 *             others wait at their semaphore. So an input is one sequence of calls, whoever makes
 *             them. The holder plays records as long as they are for itself.
 */
#include "harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "oracle.h"

#define RUN_BLOCKS 8000u                 /* blocks allocated, resized and freed in a run */
#define RUN_TOUCHED ((uint64_t)24 << 20) /* bytes of contents written and read */
#define RUN_FORKS 1u
#define LIVE_MAX ((uint64_t)192 << 20)
#define STACK_BYTES ((size_t)512 << 10)

bool harness_verbose;
struct harness_counts harness_counts;
struct play play;

static sem_t batons[FUZZ_THREADS];
static pthread_t threads[FUZZ_THREADS];
static bool alive[FUZZ_THREADS] = {true}; /* thread 0 is the engine's own */
static unsigned to_join;                  /* a thread that has passed the baton for the last time */
static bool started;

/* ---- starting the process ---- */

static void set_start_options(const struct record *r) {
    static const char *const ARENA[8] = {"1048576", "8", "16", "64", "512", "65536", "10", "40"};
    static const char *const FAST_CAP[4] = {"1024", "2", "1024", "16"};
    static const char *const PREWARM[4] = {"0", "1", "3", "0"};
    (void)setenv("HAKMEM_ARENA_MIB", ARENA[r->detail % 8], 1);
    (void)setenv("HAKMEM_FAST_CAP", FAST_CAP[r->detail / 1024 % 4], 1);
    (void)setenv("HAKMEM_PREWARM", PREWARM[r->detail / 8 % 4], 1);
    play.live_max = r->detail / 128 % 8 == 0 ? (uint64_t)3 << 30 : LIVE_MAX;
    (void)setenv("HAKMEM_LARGE_PAGES", r->detail / 32 % 4 == 1 ? "on" : "off", 1);
    if (r->detail / 32 % 4 == 2)
        (void)setenv("HAKMEM_PREFAULT", "on", 1);
}

void harness_start(const uint8_t *data, size_t size) {
    if (started)
        return;
    started = true;
    play.live_max = LIVE_MAX;
    (void)setenv("HAKMEM_PREFAULT", "off", 1); /* not by what a fault takes here */
    if (size >= RECORD_BYTES) {
        struct record r;
        grammar_decode(data, &r);
        if (r.op == OP_START)
            set_start_options(&r);
    }
    for (unsigned i = 0; i < FUZZ_THREADS; i++)
        (void)sem_init(&batons[i], 0, 0);
    model_clear();
    oracle_start();
    const char *session = getenv("FUZZ_SESSION");
    if (session != NULL)
        harness_record_to(session);
}

/* ---- the recorder ---- */

#define SESSION_BYTES ((size_t)8 << 20)
static uint8_t *session;
static size_t session_used;

void harness_record_to(const char *path) {
    if (session != NULL)
        (void)munmap(session, SESSION_BYTES);
    session = NULL;
    session_used = 0;
    if (path == NULL)
        return;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, (off_t)SESSION_BYTES) != 0)
        return;
    void *at = mmap(NULL, SESSION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (at != MAP_FAILED)
        session = at;
}

/* A file that is full starts anew: what is needed to repeat a failure is rarely far behind it. */
static void record_input(const uint8_t *data, size_t size) {
    size -= size % RECORD_BYTES;
    if (session == NULL || size + RECORD_BYTES > SESSION_BYTES)
        return;
    if (session_used + size + RECORD_BYTES > SESSION_BYTES) {
        memset(session, OP_VERIFY, session_used);
        session_used = 0;
    }
    memcpy(session + session_used, data, size);
    session_used += size;
    memset(session + session_used, 0, RECORD_BYTES);
    session[session_used] = OP_END_RUN;
    session_used += RECORD_BYTES;
}

/* ---- the baton ---- */

static void wait_for_baton(unsigned me) {
    while (sem_wait(&batons[me]) != 0) {
    }
    if (to_join != 0) {
        (void)pthread_join(threads[to_join], NULL); /* its key destructors have run, too */
        to_join = 0;
    }
    play.thread = me;
}

static void give_baton(unsigned to) {
    harness_counts.switches++;
    (void)sem_post(&batons[to]);
}

static void play_records(unsigned me);

static void *thread_main(void *arg) {
    unsigned me = (unsigned)(uintptr_t)arg;
    wait_for_baton(me);
    play_records(me);
    if (play.late)
        oracle_leave_for_destructor(me);
    /* Thread 0 waits in pthread_join while the destructors run: they have the baton still. */
    to_join = me;
    give_baton(0);
    return NULL;
}

static void start_thread(unsigned number) {
    pthread_attr_t attributes;
    if (alive[number])
        return;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    alive[number] =
        pthread_create(&threads[number], &attributes, thread_main, (void *)(uintptr_t)number) == 0;
    (void)pthread_attr_destroy(&attributes);
}

/* In a forked child only the calling thread is there. */
void harness_only_this_thread(void) {
    for (unsigned i = 0; i < FUZZ_THREADS; i++)
        alive[i] = false;
    session = NULL;
}

/* ---- playing ---- */

/* Whose turn a record is: its thread, or 0 when that is not alive. */
static unsigned thread_of(const struct record *r) {
    unsigned thread = r->thread;
    if (r->op == OP_THREAD_END)
        thread = 1 + r->slot % (FUZZ_THREADS - 1);
    else if (r->op == OP_FORK)
        thread = r->thread;
    else if (r->op == OP_END_RUN)
        thread = 0;
    return alive[thread] ? thread : 0;
}

/* Ends every thread, in the order of their numbers. Played by thread 0. */
static void end_threads(void) {
    play.closing = true;
    for (unsigned i = 1; i < FUZZ_THREADS; i++) {
        if (!alive[i])
            continue;
        alive[i] = false;
        give_baton(i);
        wait_for_baton(0);
    }
    play.closing = false;
}

static void begin_run(void) {
    play.blocks_left = RUN_BLOCKS;
    play.forks_left = RUN_FORKS;
    play.touched_end = model_touched + RUN_TOUCHED;
    play.late = false;
    oracle_allow_walk();
}

static void end_run(void) {
    oracle_faults_off();
    end_threads();
    oracle_end_run();
    harness_counts.runs++;
    begin_run();
}

/* Plays records until the input ends, or this thread does. */
static void play_records(unsigned me) {
    while (!play.closing) {
        struct record r;
        unsigned who = 0;
        bool over = play.at + RECORD_BYTES > play.size;
        if (!over) {
            grammar_decode(play.data + play.at, &r);
            who = thread_of(&r);
        }
        if (who != me) {
            give_baton(who);
            wait_for_baton(me);
            continue;
        }
        if (over)
            return; /* thread 0 */
        play.record = r;
        play.at += RECORD_BYTES;
        harness_counts.operations++;
        if (harness_verbose)
            oracle_print_record();
        if (r.op == OP_THREAD_END && me != 0) {
            alive[me] = false;
            play.late = (r.flags & FLAG_LATE) != 0;
            return;
        }
        if (r.op == OP_THREAD_START)
            start_thread(1 + r.slot % (FUZZ_THREADS - 1));
        else if (r.op == OP_END_RUN)
            end_run();
        else
            oracle_perform(&r);
    }
}

void harness_run(const uint8_t *data, size_t size) {
    harness_start(data, size);
    record_input(data, size);
    play.data = data;
    play.size = size;
    play.at = 0;
    begin_run();
    play_records(0);
    end_run();
}
