/* new_delete.cc -- every operator new and delete, plain, array, nothrow, sized, aligned, in all
 * combinations; what the new-handler and std::bad_alloc do when there is no memory.
 */
#include "check.inc"

#include <new>

static const size_t impossible = static_cast<size_t>(PTRDIFF_MAX) - 100000;
static void *reserve;
static int handler_calls;

static void handler_that_gives_up(void) {
    handler_calls++;
    std::set_new_handler(nullptr);
}

static void handler_that_throws(void) {
    handler_calls++;
    throw std::bad_alloc();
}

static void handler_that_frees_the_reserve(void) {
    handler_calls++;
    free(reserve);
    reserve = nullptr;
}

static void expect_block(const char *form, void *block, size_t bytes, size_t alignment) {
    EXPECT(block != nullptr, "%s of %zu: expected a block", form, bytes);
    EXPECT(reinterpret_cast<uintptr_t>(block) % alignment == 0, "%s of %zu: %p is not %zu-aligned",
           form, bytes, block, alignment);
    EXPECT(malloc_usable_size(block) >= bytes, "%s of %zu: usable size %zu", form, bytes,
           malloc_usable_size(block));
    memset(block, 0x5a, bytes);
}

static void all_plain_forms_allocate_and_free(void) {
    for (size_t bytes = 0; bytes < 3 * MIB; bytes = bytes < 600 ? bytes + 1 : bytes * 2 - 7) {
        void *block = ::operator new(bytes);
        expect_block("new", block, bytes, 16);
        ::operator delete(block);
        block = ::operator new(bytes);
        ::operator delete(block, bytes);
        block = ::operator new[](bytes);
        expect_block("new[]", block, bytes, 16);
        ::operator delete[](block);
        block = ::operator new[](bytes);
        ::operator delete[](block, bytes);
        block = ::operator new(bytes, std::nothrow);
        expect_block("new(nothrow)", block, bytes, 16);
        ::operator delete(block, std::nothrow);
        block = ::operator new[](bytes, std::nothrow);
        expect_block("new[](nothrow)", block, bytes, 16);
        ::operator delete[](block, std::nothrow);
        free(hide(::operator new(bytes))); /* one heap behind both */
    }
}

static void all_aligned_forms_allocate_and_free(void) {
    for (size_t power = 16; power <= 65536; power *= 2)
        for (size_t bytes = 1; bytes < 200000; bytes = bytes * 5 + 3) {
            std::align_val_t alignment = static_cast<std::align_val_t>(power);
            void *block = ::operator new(bytes, alignment);
            expect_block("new(align)", block, bytes, power);
            ::operator delete(block, alignment);
            block = ::operator new(bytes, alignment);
            ::operator delete(block, bytes, alignment);
            block = ::operator new[](bytes, alignment);
            expect_block("new[](align)", block, bytes, power);
            ::operator delete[](block, alignment);
            block = ::operator new[](bytes, alignment);
            ::operator delete[](block, bytes, alignment);
            block = ::operator new(bytes, alignment, std::nothrow);
            expect_block("new(align, nothrow)", block, bytes, power);
            ::operator delete(block, alignment, std::nothrow);
            block = ::operator new[](bytes, alignment, std::nothrow);
            expect_block("new[](align, nothrow)", block, bytes, power);
            ::operator delete[](block, alignment, std::nothrow);
        }
    ::operator delete(nullptr);
    ::operator delete[](nullptr);
    ::operator delete(nullptr, static_cast<size_t>(8));
    ::operator delete(nullptr, std::align_val_t(64));
}

template <typename Form> static void expect_bad_alloc(const char *form, Form allocate) {
    bool thrown = false;
    try {
        void *block = hide(allocate());
        EXPECT(false, "%s: expected std::bad_alloc, found %p", form, block);
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    EXPECT(thrown, "%s: expected std::bad_alloc", form);
}

static void throwing_forms_throw_bad_alloc_on_impossible_sizes(void) {
    std::align_val_t alignment = static_cast<std::align_val_t>(256);
    const size_t sizes[] = {impossible, SIZE_MAX, static_cast<size_t>(PTRDIFF_MAX) + 1,
                            SIZE_MAX - 64};
    for (size_t bytes : sizes) {
        expect_bad_alloc("new", [=] { return ::operator new(hide_size(bytes)); });
        expect_bad_alloc("new[]", [=] { return ::operator new[](hide_size(bytes)); });
        if (bytes > SIZE_MAX / 2 + 1 && !under_hakmem())
            continue; /* libstdc++ rounds up to the alignment, and overflows */
        expect_bad_alloc("new(align)", [=] { return ::operator new(hide_size(bytes), alignment); });
        expect_bad_alloc("new[](align)",
                         [=] { return ::operator new[](hide_size(bytes), alignment); });
    }
    expect_bad_alloc("new int[n]",
                     [] { return static_cast<void *>(new int[hide_size(impossible / 4)]); });
}

static void nothrow_forms_give_null_on_impossible_sizes(void) {
    std::align_val_t alignment = static_cast<std::align_val_t>(256);
    size_t bytes = hide_size(impossible);
    EXPECT(::operator new(bytes, std::nothrow) == nullptr, "new(nothrow): expected nullptr");
    EXPECT(::operator new[](bytes, std::nothrow) == nullptr, "new[](nothrow): expected nullptr");
    EXPECT(::operator new(bytes, alignment, std::nothrow) == nullptr, "new(align, nothrow)");
    EXPECT(::operator new[](bytes, alignment, std::nothrow) == nullptr, "new[](align, nothrow)");
}

static void throwing_new_calls_the_handler_until_it_gives_up(void) {
    handler_calls = 0;
    std::set_new_handler(handler_that_gives_up);
    expect_bad_alloc("new with a handler", [] { return ::operator new(hide_size(impossible)); });
    EXPECT(handler_calls == 1, "new: expected 1 call of the handler, found %d", handler_calls);
    std::set_new_handler(handler_that_gives_up);
    expect_bad_alloc("new(align) with a handler",
                     [] { return ::operator new[](hide_size(impossible), std::align_val_t(64)); });
    EXPECT(handler_calls == 2, "new(align): expected 2 calls of the handler, found %d",
           handler_calls);
}

static void nothrow_new_gives_null_also_when_the_handler_throws(void) {
    size_t bytes = hide_size(impossible);
    handler_calls = 0;
    std::set_new_handler(handler_that_throws);
    EXPECT(::operator new(bytes, std::nothrow) == nullptr, "new(nothrow): expected nullptr");
    EXPECT(::operator new[](bytes, std::nothrow) == nullptr, "new[](nothrow): expected nullptr");
    EXPECT(::operator new(bytes, std::align_val_t(64), std::nothrow) == nullptr,
           "new(align, nothrow): expected nullptr");
    EXPECT(handler_calls == 3, "expected 3 calls of the handler, found %d", handler_calls);
    expect_bad_alloc("new with a throwing handler", [=] { return ::operator new(bytes); });
    EXPECT(handler_calls == 4, "expected 4 calls of the handler, found %d", handler_calls);
    std::set_new_handler(nullptr);
}

/* Runs in a process of its own that started with 512 MiB of address space. */
static int limited_child(void) {
    static void *blocks[100];
    reserve = malloc(64 * MIB);
    REQUIRE(reserve != nullptr, "malloc(64 MiB) under a limit of 512 MiB");
    handler_calls = 0;
    std::set_new_handler(handler_that_frees_the_reserve);
    size_t made = 0;
    try {
        while (made < COUNT_OF(blocks) && handler_calls == 0)
            blocks[made++] = ::operator new(8 * MIB);
    } catch (const std::bad_alloc &) {
        EXPECT(false, "block %zu: the handler freed 64 MiB, and yet new threw", made);
    }
    EXPECT(handler_calls == 1, "expected 1 call of the handler, found %d", handler_calls);
    EXPECT(reserve == nullptr, "expected the reserve freed");
    size_t least = under_debug_hakmem() ? 10 : 20;
    EXPECT(made > least, "expected more than %zu blocks of 8 MiB in 512 MiB, found %zu", least,
           made);
    for (void *block : blocks)
        ::operator delete(block);
    return check_failures > 0;
}

static void the_handler_frees_a_reserve_and_new_succeeds(void) {
    char self[] = "/proc/self/exe", word[] = "--limited";
    char *arguments[] = {self, word, nullptr};
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {512 * MIB, 512 * MIB};
        setrlimit(RLIMIT_AS, &limit);
        execv(self, arguments);
        _exit(99);
    }
    EXPECT_CHILD(child, 0, 30, "the program limited to 512 MiB");
}

static const struct check checks[] = {
#define CHECK(name, hakmem_only)                                                                   \
    { #name, name, hakmem_only }
    CHECK(all_plain_forms_allocate_and_free, 0),
    CHECK(all_aligned_forms_allocate_and_free, 0),
    CHECK(throwing_forms_throw_bad_alloc_on_impossible_sizes, 0),
    CHECK(nothrow_forms_give_null_on_impossible_sizes, 0),
    CHECK(throwing_new_calls_the_handler_until_it_gives_up, 0),
    CHECK(nothrow_new_gives_null_also_when_the_handler_throws, 0),
    CHECK(the_handler_frees_a_reserve_and_new_succeeds, 0),
};

int main(int argc, char **argv) {
    check_name = "the_handler_frees_a_reserve_and_new_succeeds";
    if (argc > 1 && strcmp(argv[1], "--limited") == 0)
        return limited_child();
    return run_checks(checks, COUNT_OF(checks), argc, argv);
}
