/* invalid_pointer.c -- free of a pointer that is not the start of a block is caught, and the report
 * says what the pointer is: the interior of a block, stack, static data or code, mapped by someone
 * else, or nothing at all.
 */
#include "misuse.inc"

#include <fcntl.h>
#include <sys/stat.h>

static char static_data[256] = "static data";
static char static_zero[65536];

static void *offset(void *block, ptrdiff_t by) { return (char *)block + by; }

static void interior_1(void) { free(culprit(offset(take(200), 1))); }
static void interior_8(void) { free(culprit(offset(take(200), 8))); }
static void interior_16(void) { free(culprit(offset(take(200), 16))); }
static void interior_64(void) { free(culprit(offset(take(200), 64))); }
static void interior_of_large(void) { free(culprit(offset(take(5 << 20), 4096))); }
static void interior_of_large_far(void) { free(culprit(offset(take(5 << 20), 3 << 20))); }
static void interior_of_large_by_16(void) { free(culprit(offset(take(5 << 20), 16))); }
static void interior_of_100_kib(void) { free(culprit(offset(take(100 * 1024), 65536))); }
static void interior_of_20_kib(void) { free(culprit(offset(take(20 * 1024), 4096))); }

static void interior_of_aligned(void) {
    free(culprit(offset(hide(aligned_alloc(4096, 8192)), 4096)));
}

static void last_byte(void) {
    void *block = take(200);
    free(culprit(offset(block, (ptrdiff_t)malloc_usable_size(block) - 1)));
}

static void last_byte_of_large(void) {
    void *block = take(2 << 20);
    free(culprit(offset(block, (ptrdiff_t)malloc_usable_size(block) - 1)));
}

static void one_before_the_start(void) { free(culprit(offset(take(5000), -1))); }
static void sixteen_before_the_start(void) { free(culprit(offset(take(5000), -16))); }

static void *interior_in_thread(void *block) {
    free(culprit(offset(block, 32)));
    return NULL;
}

static void interior_by_another_thread(void) { in_thread(interior_in_thread, take(200)); }

/* One block of an unusual size: what follows it has never been handed out. */
static void past_the_end(void) {
    void *block = take(5000);
    free(culprit(offset(block, (ptrdiff_t)malloc_usable_size(block))));
}

static void interior_of_a_dead_block(void) {
    void *block = take(5000);
    free(block);
    free(culprit(offset(block, 48)));
}

static void stack(void) {
    char local[200];
    memset(local, 1, sizeof local);
    free(culprit((void *)(((uintptr_t)local + 15) & ~(uintptr_t)15)));
}

static void stack_far_up(void) {
    char local[100000];
    memset(local, 1, sizeof local);
    free(culprit((void *)(((uintptr_t)(local + 90000)) & ~(uintptr_t)15)));
}

static void *own_thread_stack(void *argument) {
    char local[200];
    memset(local, 1, sizeof local);
    free(culprit((void *)(((uintptr_t)local + 15) & ~(uintptr_t)15)));
    return argument;
}

static void stack_of_the_calling_thread(void) { in_thread(own_thread_stack, NULL); }

/* As the head of one of glibc's chunks with a mapping of its own. */
static void *disguised_on_own_stack(void *argument) {
    char local[16384];
    memset(local, 0, sizeof local);
    size_t *words = (size_t *)(((uintptr_t)local + 4095) & ~(uintptr_t)4095);
    words[1] = 4096 | 2;
    free(culprit(words + 2));
    return argument;
}

static void stack_disguised(void) { (void)disguised_on_own_stack(NULL); }
static void thread_stack_disguised(void) { in_thread(disguised_on_own_stack, NULL); }

static void *lend_stack(void *argument) {
    char local[200];
    memset(local, 1, sizeof local);
    __atomic_store_n((void **)argument, (void *)(((uintptr_t)local + 15) & ~(uintptr_t)15),
                     __ATOMIC_RELEASE);
    for (;;)
        pause();
    return NULL;
}

static void stack_of_another_thread(void) {
    pthread_t thread;
    void *lent = NULL, *found;
    if (pthread_create(&thread, NULL, lend_stack, &lent) != 0)
        give_up("pthread_create");
    while ((found = __atomic_load_n(&lent, __ATOMIC_ACQUIRE)) == NULL)
        usleep(1000);
    free(culprit(found));
}

static void static_variable(void) { free(culprit(static_data + 16)); }
static void zeroed_variable(void) { free(culprit(static_zero + 32768)); }
static void code_of_the_program(void) {
    void (*function)(void) = code_of_the_program;
    void *address;
    memcpy(&address, &function, sizeof address);
    free(culprit((void *)((uintptr_t)address & ~(uintptr_t)15)));
}

static void code_of_libc(void) {
    free(culprit((void *)((uintptr_t)dlsym(RTLD_DEFAULT, "strtoul") & ~(uintptr_t)15)));
}

static void data_of_libc(void) { free(culprit(dlsym(RTLD_DEFAULT, "_IO_2_1_stdout_"))); }

static void string_literal(void) {
    static const char *const literal = "a literal that is long enough to hold an aligned address";
    free(culprit((void *)(((uintptr_t)literal + 15) & ~(uintptr_t)15)));
}

static void *map(size_t bytes, int protection) {
    void *fixed = (void *)(uintptr_t)0x200000000000;
    void *found = mmap(fixed, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED)
        give_up("mmap");
    return found;
}

static void mapped_start(void) { free(culprit(map(1 << 20, PROT_READ | PROT_WRITE))); }
static void mapped_middle(void) {
    free(culprit(offset(map(1 << 20, PROT_READ | PROT_WRITE), 300 * 1024 + 16)));
}
static void mapped_no_access(void) { free(culprit(offset(map(1 << 20, PROT_NONE), 65536))); }
static void mapped_read_only(void) { free(culprit(offset(map(1 << 20, PROT_READ), 65536 + 16))); }

/* What stands before the pointer looks like the header of one of glibc's chunks. */
static void mapped_and_disguised_as_a_glibc_chunk(void) {
    size_t *words = map(1 << 20, PROT_READ | PROT_WRITE);
    words[0] = 0;
    words[1] = 0x21;
    words[5] = 0x21;
    free(culprit(words + 2));
}

static void mapped_file(void) {
    int file = open("/proc/self/exe", O_RDONLY);
    char *text = file < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
    if (text == MAP_FAILED)
        give_up("mmap of a file");
    free(culprit(text + 1024));
}

/* Its path is longer than what a line of /proc/self/maps is read into. */
static void mapped_file_of_a_long_path(void) {
    enum { DEPTH = 8, LENGTH = 200 };
    char top[] = "/tmp/hkm-misuse-XXXXXX", folder[LENGTH + 1] = "";
    memset(folder, 'd', LENGTH);
    int staged = mkdtemp(top) != NULL && chdir(top) == 0;
    for (int i = 0; i < DEPTH && staged; i++)
        staged = mkdir(folder, 0700) == 0 && chdir(folder) == 0;
    int file = staged ? open("file", O_RDWR | O_CREAT, 0600) : -1;
    char *text = file < 0 || ftruncate(file, 4096) != 0
                     ? MAP_FAILED
                     : mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
    unlink("file");
    for (int i = 0; i < DEPTH && staged; i++)
        staged = chdir("..") == 0 && rmdir(folder) == 0;
    if (text == MAP_FAILED || !staged || rmdir(top) != 0)
        give_up("mmap of a file with a long path");
    free(culprit(text + 1024));
}

static void unmapped_again(void) {
    void *gone = map(1 << 20, PROT_READ | PROT_WRITE);
    munmap(gone, 1 << 20);
    free(culprit(offset(gone, 4096)));
}

static void wild_0x10(void) { free(culprit((void *)(uintptr_t)0x10)); }
static void wild_1(void) { free(culprit((void *)(uintptr_t)1)); }
static void wild_deadbeef(void) { free(culprit((void *)(uintptr_t)0xdeadbeef000)); }
static void wild_not_canonical(void) { free(culprit((void *)(uintptr_t)0x8000000000001230)); }
static void wild_hole(void) { free(culprit((void *)(uintptr_t)0x0001000000000000)); }
static void wild_all_ones(void) { free(culprit((void *)UINTPTR_MAX)); }
static void wild_text(void) { free(culprit((void *)(uintptr_t)0x4141414141414140)); }

static void environment_string(void) {
    char *text = getenv("PATH");
    if (text == NULL)
        give_up("no PATH");
    free(culprit(text));
}

static void argument_string(void) { free(culprit(program_arguments[0])); }

static void wild_in_the_reserve(void) {
    /* far from any block, yet perhaps within the range the allocator has reserved */
    void *block = take(100);
    free(culprit(offset(block, (ptrdiff_t)1 << 31)));
}

/* Between two blocks at multiples of 1 GiB. */
static void in_a_part_that_alignment_left_out(void) {
    char *one = hide(aligned_alloc(1 << 30, 1 << 21));
    char *two = hide(aligned_alloc(1 << 30, 1 << 21));
    free(culprit((one > two ? one : two) - (1 << 29)));
}

static const struct misuse cases[] = {
    {"free_of_interior_by_1", interior_1, INTERIOR},
    {"free_of_interior_by_8", interior_8, INTERIOR},
    {"free_of_interior_by_16", interior_16, INTERIOR},
    {"free_of_interior_by_64", interior_64, INTERIOR},
    {"free_of_interior_of_20_kib", interior_of_20_kib, INTERIOR},
    {"free_of_interior_of_100_kib", interior_of_100_kib, INTERIOR},
    {"free_of_interior_of_large_by_16", interior_of_large_by_16, INTERIOR},
    {"free_of_interior_of_large_by_a_page", interior_of_large, INTERIOR},
    {"free_of_interior_of_large_by_3_mib", interior_of_large_far, INTERIOR},
    {"free_of_interior_of_aligned", interior_of_aligned, INTERIOR},
    {"free_of_interior_by_another_thread", interior_by_another_thread, INTERIOR},
    {"free_of_last_byte", last_byte, INTERIOR},
    {"free_of_last_byte_of_large", last_byte_of_large, INTERIOR},
    {"free_of_one_before_the_start", one_before_the_start, INVALID},
    {"free_of_sixteen_before_the_start", sixteen_before_the_start, INVALID},
    {"free_of_what_follows_a_block", past_the_end, DEAD},
    {"free_of_interior_of_a_dead_block", interior_of_a_dead_block, DEAD},
    {"free_of_stack", stack, INVALID_STACK},
    {"free_of_stack_far_up", stack_far_up, INVALID_STACK},
    {"free_of_stack_of_the_calling_thread", stack_of_the_calling_thread,
     "^hakmem: invalid " OF_FREE ".*(stack|mapped, but not by malloc)"},
    {"free_of_stack_of_another_thread", stack_of_another_thread,
     "^hakmem: invalid " OF_FREE ".*(stack|mapped, but not by malloc)"},
    {"free_of_stack_disguised_as_glibc_chunk", stack_disguised, INVALID_STACK},
    {"free_of_thread_stack_disguised_as_glibc_chunk", thread_stack_disguised, INVALID_STACK},
    {"free_of_static_variable", static_variable, INVALID_STATIC},
    {"free_of_zeroed_variable", zeroed_variable, INVALID_STATIC},
    {"free_of_code_of_the_program", code_of_the_program, INVALID_STATIC},
    {"free_of_code_of_libc", code_of_libc, INVALID_STATIC},
    {"free_of_data_of_libc", data_of_libc, INVALID_STATIC},
    {"free_of_string_literal", string_literal, INVALID_STATIC},
    {"free_of_mapped_start", mapped_start, INVALID_MAPPED},
    {"free_of_mapped_middle", mapped_middle, INVALID_MAPPED},
    {"free_of_mapped_without_access", mapped_no_access, INVALID_MAPPED},
    {"free_of_mapped_read_only", mapped_read_only, INVALID_MAPPED},
    {"free_of_mapped_disguised_as_glibc_chunk", mapped_and_disguised_as_a_glibc_chunk,
     INVALID_MAPPED},
    {"free_of_mapped_file", mapped_file,
     "^hakmem: invalid " OF_FREE ".*(mapped, but not by malloc|static data or code)"},
    {"free_of_mapped_file_of_a_long_path", mapped_file_of_a_long_path,
     "^hakmem: invalid " OF_FREE ".*(mapped, but not by malloc|static data or code)"},
    {"free_of_unmapped_again", unmapped_again, INVALID_UNMAPPED},
    {"free_of_wild_0x10", wild_0x10, INVALID_UNMAPPED},
    {"free_of_wild_1", wild_1, "^hakmem: invalid free of 0x1"},
    {"free_of_wild_0xdeadbeef000", wild_deadbeef, INVALID_UNMAPPED},
    {"free_of_wild_not_canonical", wild_not_canonical, INVALID_UNMAPPED},
    {"free_of_wild_hole", wild_hole, INVALID_UNMAPPED},
    {"free_of_wild_all_ones", wild_all_ones, "^hakmem: invalid free of 0xffffffffffffffff"},
    {"free_of_wild_text", wild_text, INVALID_UNMAPPED},
    {"free_of_wild_in_the_reserve", wild_in_the_reserve, INVALID_ANY},
    {"free_in_a_part_that_alignment_left_out", in_a_part_that_alignment_left_out,
     "^hakmem: invalid " OF_FREE ".*in a part of the arena that was never in use"},
    {"free_of_environment_string", environment_string, INVALID_ANY},
    {"free_of_argument_string", argument_string, INVALID_ANY},
};

int main(int argc, char **argv) {
    return misuse_main(cases, sizeof cases / sizeof cases[0], argc, argv);
}
