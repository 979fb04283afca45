/* cancellation.c -- malloc and its family are no cancellation points, whatever they call inside:
 * a thread with a cancellation pending returns from them, holds no lock afterwards, and is
 * cancelled at the next point that is one.
 */
#include "check.inc"

enum { CHILD_SECONDS = 20 };

typedef void *malloc_function(size_t);

/* A block that the allocator has to ask the system about: /proc/self/maps is read. */
static void *block_of_glibc(size_t bytes) {
    malloc_function *function = malloc;
    void *entry = dlsym(RTLD_DEFAULT, "__libc_malloc");
    if (entry != NULL)
        memcpy(&function, &entry, sizeof function);
    void *block = function(bytes);
    REQUIRE(block != NULL, "__libc_malloc(%zu)", bytes);
    memset(block, 7, bytes);
    return block;
}

struct call {
    const char *name;
    void (*make)(void *block);
    void *block;
    int returned;
};

static void *call_with_a_pending_cancel(void *argument) {
    struct call *call = argument;
    int state = -1;
    REQUIRE(pthread_cancel(pthread_self()) == 0, "pthread_cancel");
    call->make(call->block);
    call->returned = 1;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    EXPECT(state == PTHREAD_CANCEL_ENABLE, "%s: expected cancellation enabled as before",
           call->name);
    pthread_setcancelstate(state, NULL);
    pthread_testcancel();
    return NULL;
}

static void *call_with_cancellation_disabled(void *argument) {
    struct call *call = argument;
    int state = -1;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    REQUIRE(pthread_cancel(pthread_self()) == 0, "pthread_cancel");
    call->make(call->block);
    call->returned = 1;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    EXPECT(state == PTHREAD_CANCEL_DISABLE, "%s: expected cancellation disabled as before",
           call->name);
    return NULL;
}

static void *run_thread(void *(*run)(void *), void *argument) {
    pthread_t thread;
    void *result = NULL;
    REQUIRE(pthread_create(&thread, NULL, run, argument) == 0, "pthread_create");
    pthread_join(thread, &result);
    return result;
}

static void expect_no_cancellation_point(const char *name, void (*make)(void *)) {
    struct call call = {name, make, NULL, 0};
    call.block = block_of_glibc(100);
    void *result = run_thread(call_with_a_pending_cancel, &call);
    EXPECT(call.returned, "%s: expected it to return, found its thread cancelled inside", name);
    EXPECT(result == PTHREAD_CANCELED, "%s: expected the thread cancelled afterwards", name);
    call.block = block_of_glibc(100);
    call.returned = 0;
    result = run_thread(call_with_cancellation_disabled, &call);
    EXPECT(call.returned && result == NULL, "%s: expected its thread to end by itself", name);
}

/* ---- one call ---- */

static void make_free(void *block) { free(block); }

static void make_realloc(void *block) {
    unsigned char *larger = realloc(block, 3000);
    EXPECT(larger != NULL && larger[0] == 7 && larger[99] == 7, "realloc lost the contents");
    free(larger);
}

static void make_usable_size(void *block) {
    EXPECT(malloc_usable_size(block) >= 100, "malloc_usable_size of 100 bytes: found %zu",
           malloc_usable_size(block));
}

static void free_of_a_block_of_glibc_is_no_cancellation_point(void) {
    expect_no_cancellation_point("free", make_free);
}

static void realloc_of_a_block_of_glibc_is_no_cancellation_point(void) {
    expect_no_cancellation_point("realloc", make_realloc);
}

static void malloc_usable_size_of_a_block_of_glibc_is_no_cancellation_point(void) {
    expect_no_cancellation_point("malloc_usable_size", make_usable_size);
}

/* ---- many calls ---- */

/* Enough memory that the allocator looks at what the system says of huge pages, once. */
static void fill_many_runs(void *unused) {
    enum { BYTES = 30000 };
    static char *blocks[4000];
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        blocks[i] = malloc(BYTES);
        REQUIRE(blocks[i] != NULL, "malloc(%d)", BYTES);
        for (size_t at = 0; at < BYTES; at += 4096)
            blocks[i][at] = 1;
    }
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        free(blocks[i]);
}

static void run_many_runs(void) {
    struct call call = {"malloc", fill_many_runs, NULL, 0};
    void *result = run_thread(call_with_a_pending_cancel, &call);
    EXPECT(call.returned, "expected every malloc to return, found the thread cancelled inside");
    EXPECT(result == PTHREAD_CANCELED, "expected the thread cancelled afterwards");
    run_thread(call_with_cancellation_disabled, &call);
}

static void malloc_of_many_runs_is_no_cancellation_point(void) {
    in_child(run_many_runs, CHILD_SECONDS);
}

/* ---- waiting ---- */

enum { TRIMMERS = 2, WAIT_SECONDS = 2 };

static int stop;

/* malloc_trim takes every heap's lock, and holds it for as long as there is something to drain. */
static void *trim(void *argument) {
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
        malloc_trim(0);
    return argument;
}

/* Leaves something to drain, and waits for whoever drains it. */
static void allocate_beside_the_trimmers(void *unused) {
    void *blocks[1000];
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        blocks[i] = malloc(16 + i % 40 * 50);
    for (size_t i = 0; i < COUNT_OF(blocks); i++)
        free(blocks[i]);
}

static void run_beside_trimmers(void) {
    pthread_t trimmers[TRIMMERS];
    for (size_t i = 0; i < TRIMMERS; i++)
        REQUIRE(pthread_create(&trimmers[i], NULL, trim, NULL) == 0, "pthread_create");
    time_t end = time(NULL) + WAIT_SECONDS;
    for (size_t round = 0; round < scaled(200) && time(NULL) < end; round++) {
        struct call call = {"malloc", allocate_beside_the_trimmers, NULL, 0};
        void *result = run_thread(call_with_a_pending_cancel, &call);
        REQUIRE(call.returned, "expected it to wait, found its thread cancelled meanwhile");
        EXPECT(result == PTHREAD_CANCELED, "expected the thread cancelled afterwards");
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    for (size_t i = 0; i < TRIMMERS; i++)
        pthread_join(trimmers[i], NULL);
}

static void waiting_for_a_heap_is_no_cancellation_point(void) {
    in_child(run_beside_trimmers, CHILD_SECONDS);
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(malloc_of_many_runs_is_no_cancellation_point, 0), /* is about what is done once */
    CHECK(free_of_a_block_of_glibc_is_no_cancellation_point, 0),
    CHECK(realloc_of_a_block_of_glibc_is_no_cancellation_point, 0),
    CHECK(malloc_usable_size_of_a_block_of_glibc_is_no_cancellation_point, 0),
    CHECK(waiting_for_a_heap_is_no_cancellation_point, 0),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
