/* soak.h -- the stress programs as functions of one process; see soak.c.
 * Their sources are compiled once more with main renamed to NAME_main.
 */
#ifndef HAKMEM_SOAK_H
#define HAKMEM_SOAK_H

#define SOAK_PROGRAMS(X) \
    X(dlopen_storm)      \
    X(exchange)          \
    X(fork_storm)        \
    X(large_across)      \
    X(larson)            \
    X(many_threads)      \
    X(orphans)           \
    X(producers_consumers) \
    X(realloc_across)    \
    X(signals)           \
    X(thread_churn)      \
    X(tiny_stacks)       \
    X(trim_against)

#define SOAK_DECLARE(name) int name##_main(int argc, char **argv);
SOAK_PROGRAMS(SOAK_DECLARE)

#endif
