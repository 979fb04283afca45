/* dlopen_storm.c -- libraries that are loaded and unloaded while everyone allocates.
 * Purpose     some threads load a plugin (stress/plugin/plugin.c, under several names), have it allocate
 *             and free, and unload it; the plugin's constructor and destructor allocate too, it has
 *             thread-local variables of its own, and blocks that it made outlive it. Threads that
 *             end while plugins come and go, and threads that only exchange blocks.
 * Oracle      every block's contents, by whoever takes it; what the plugin's constructor made is
 *             whole in its destructor; as many loads as unloads; counts.
 */
#include <dlfcn.h>

#include "stress.h"

#define CELLS 4096u
#define PLUGINS 4u

static stress_cell cells[CELLS];
static char paths[PLUGINS][512];
static _Atomic(uint64_t) loads;

__attribute__((visibility("default"))) extern _Atomic(unsigned) dlopen_storm_lock;
_Atomic(unsigned) dlopen_storm_lock; /* stands for the dynamic linker's, see plugin.c */

/* What a plugin calls: its blocks are the program's. */
struct plugin_calls {
    void *(*allocate)(size_t);
    void (*free)(void *);
};
typedef uint64_t plugin_enter(const struct plugin_calls *calls, uint64_t value);

static void exchange(struct stress_thread *t) {
    stress_cell *cell = &cells[stress_pick(t, CELLS)];
    uint64_t word = 0;
    if (stress_one_in(t, 2))
        word = stress_make(t, stress_size(t, stress_one_in(t, 256) ? KIB(300) : 4096));
    if (word != 0)
        stress_replace(t, cell, word);
    else if ((word = stress_take(cell)) != 0)
        stress_drop(t, word);
    stress_noise(t);
}

/* Through the plugin's own code, and with its thread-local variables. */
static void use(struct stress_thread *t, void *handle) {
    static const struct plugin_calls calls = {hkm_malloc, hkm_free};
    void *symbol = dlsym(handle, "plugin_enter");
    STRESS_REQUIRE(symbol != NULL, "dlsym: %s", dlerror());
    plugin_enter *enter;
    memcpy(&enter, &symbol, sizeof enter);
    uint64_t value = stress_random(t);
    bool memory = stress.tiny_arena;
    uint64_t answer = enter(&calls, value);
    STRESS_REQUIRE(answer == value + 1 || (memory && answer == 0),
                   "the plugin answered %llx for %llx", (unsigned long long)answer,
                   (unsigned long long)value);
    stress_op(t);
}

static void load_and_unload(struct stress_thread *t) {
    const char *path = paths[stress_pick(t, PLUGINS)];
    void *handle = dlopen(path, stress_one_in(t, 2) ? RTLD_NOW : RTLD_LAZY);
    STRESS_REQUIRE(handle != NULL, "dlopen: %s", dlerror());
    atomic_fetch_add_explicit(&loads, 1, memory_order_relaxed);
    size_t turns = stress_pick(t, 30);
    for (size_t i = 0; i < turns; i++) {
        exchange(t);
        if (stress_one_in(t, 8))
            use(t, handle);
    }
    STRESS_REQUIRE(dlclose(handle) == 0, "dlclose: %s", dlerror());
}

static void *short_life(void *argument) {
    struct stress_thread *t = argument;
    for (unsigned i = 0; i < 4; i++)
        load_and_unload(t);
    return NULL;
}

static void body(struct stress_thread *t) {
    while (!stress_stopped()) {
        if (t->index % 4 == 0) {
            load_and_unload(t);
        } else if (t->index % 4 == 1) { /* its record is the short life's meanwhile */
            pthread_t id;
            int error = pthread_create(&id, NULL, short_life, t);
            STRESS_REQUIRE(error == 0, "pthread_create: %s", strerror(error));
            (void)pthread_join(id, NULL);
        } else {
            exchange(t);
        }
    }
}

int main(int argc, char **argv) {
    stress_begin("dlopen_storm", argc, argv, "");
    const char *slash = strrchr(argv[0], '/');
    int length = slash == NULL ? 1 : (int)(slash - argv[0]);
    for (unsigned i = 0; i < PLUGINS; i++)
        (void)snprintf(paths[i], sizeof paths[i], "%.*s/plugin%u.so", length,
                       slash == NULL ? "." : argv[0], i);
    stress.at_once = stress.threads * 2;
    stress_run(1.0, stress.threads, body);
    stress_drop_all(&stress_threads[0], cells, CELLS);
    printf("dlopen_storm: %llu loads\n",
           (unsigned long long)atomic_load_explicit(&loads, memory_order_relaxed));
    return stress_end();
}
