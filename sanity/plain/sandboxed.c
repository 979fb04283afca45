/* sandboxed.c -- allocation under a seccomp filter that kills for every call of the system that
 * glibc's malloc does not make either, as the one of sshd's unprivileged half does.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "check.inc"

#define CONFINED "--confined"
#define SERVICE "--service"

/* sshd's list, without what a test needs not. */
static const int allowed[] = {
    SYS_brk,          SYS_clock_gettime, SYS_exit_group, SYS_futex,          SYS_getpid,
    SYS_getrandom,    SYS_gettid,        SYS_mmap,       SYS_mprotect,       SYS_mremap,
    SYS_munmap,       SYS_nanosleep,     SYS_rt_sigprocmask, SYS_write,      SYS_rt_sigreturn,
};

static bool load(struct sock_filter *filter, unsigned short used) {
    struct sock_fprog program = {.len = used, .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* Lets no call pass that is not on the list, nor any advice but the one that gives memory back. */
static bool confine(void) {
    struct sock_filter filter[2 * COUNT_OF(allowed) + 6];
    unsigned short used = 0;
    filter[used++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                                  offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < COUNT_OF(allowed); i++) {
        filter[used++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i], 0, 1);
        filter[used++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    filter[used++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3);
    filter[used++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                                  offsetof(struct seccomp_data, args[2]));
    filter[used++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_DONTNEED, 0, 1);
    filter[used++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[used++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL);
    return load(filter, used);
}

/* Lets pass what systemd's @system-service does, of what matters here. */
static bool confine_as_a_service(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mincore, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    return load(filter, COUNT_OF(filter));
}

/* Each of a few thousand places holds a block of its own, now and then resized; then some that
 * are large. */
static void work(size_t most) {
    static char *blocks[4000];
    uint64_t random = 1;
    for (int i = 0; i < 300000; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        char **at = &blocks[(random >> 33) % COUNT_OF(blocks)];
        size_t bytes = (random >> 40) % (random >> 60 == 3 ? most * 50 : most) + 1;
        free(*at);
        *at = malloc(bytes);
        if (*at == NULL)
            _exit(2);
        memset(*at, 1, bytes < 200 ? bytes : 200);
        if (random % 64 == 0 && (*at = realloc(*at, bytes * 2)) == NULL)
            _exit(3);
    }
    char *large = NULL;
    for (size_t bytes = 1 << 20; bytes < (size_t)100 << 20; bytes *= 2) {
        large = realloc(large, bytes);
        if (large == NULL)
            _exit(4);
        memset(large, 1, bytes);
    }
    free(large);
    (void)malloc_trim(0);
}

/* The program again, which is told what to do: it has its options from the start. */
static void in_a_child(const char *what, const char *most, const char *options) {
    pid_t child = fork();
    if (child == 0) {
        (void)setenv("HAKMEM_OPTIONS", options, 1);
        if (strcmp(what, SERVICE) == 0 && !confine_as_a_service())
            _exit(77);
        execl("/proc/self/exe", "sandboxed", what, most, (char *)NULL);
        _exit(1);
    }
    int status = 0;
    REQUIRE(child > 0 && waitpid(child, &status, 0) == child, "expected a child");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        return; /* no seccomp here */
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0,
           "%s, blocks of up to %s bytes, %s: expected the child to exit with 0, found status 0x%x",
           what, most, options, (unsigned)status);
}

static void allocation_under_a_filter_makes_only_common_calls(void) {
    in_a_child(CONFINED, "100", "");
    in_a_child(CONFINED, "1000", "");
    in_a_child(CONFINED, "10000", "");
    in_a_child(CONFINED, "1000", "prefault=on");
    in_a_child(CONFINED, "1000", "prefault=on,large_pages=on,purge_delay_ms=1");
}

static void a_service_may_be_started_under_a_filter(void) {
    in_a_child(SERVICE, "1000", "");
    in_a_child(SERVICE, "10000", "prefault=on");
}

static const struct check checks[] = {
    {"allocation_under_a_filter_makes_only_common_calls",
     allocation_under_a_filter_makes_only_common_calls, 0},
    {"a_service_may_be_started_under_a_filter", a_service_may_be_started_under_a_filter, 0},
};

int main(int argc, char **argv) {
    bool confined = argc > 2 && strcmp(argv[1], CONFINED) == 0;
    if (!confined && (argc < 3 || strcmp(argv[1], SERVICE) != 0))
        return run_checks(checks, COUNT_OF(checks), argc, argv);
    free(malloc(100));
    if (confined && !confine())
        return 77;
    work(strtoul(argv[2], NULL, 10));
    return 0;
}
