/* replaced_operators.cc -- a program with operators new and delete of its own, plain and aligned: what
 * it does not replace does what the standard says of it, by those. Its blocks begin behind a header,
 * so that none of them is one of malloc's.
 */
#include "check.inc"

#include <new>

enum { HEADER = 64 };
struct header {
    void *block;
    size_t magic;
};

static const size_t live_magic = 0x6c697665;
static int plain_news, plain_deletes, aligned_news, aligned_deletes;
static bool fail;

static void *allocate(size_t bytes, size_t alignment) {
    char *block = static_cast<char *>(malloc(bytes + alignment + HEADER));
    if (block == nullptr || fail) {
        free(block);
        throw std::bad_alloc();
    }
    uintptr_t at = (reinterpret_cast<uintptr_t>(block) + HEADER + alignment - 1) & ~(alignment - 1);
    header *head = reinterpret_cast<header *>(at) - 1;
    head->block = block;
    head->magic = live_magic;
    return reinterpret_cast<void *>(at);
}

static void release(const char *form, void *pointer) {
    if (pointer == nullptr)
        return;
    header *head = static_cast<header *>(pointer) - 1;
    EXPECT(head->magic == live_magic, "%s of %p: not a block of the program's new", form, pointer);
    head->magic = 0;
    free(head->block);
}

void *operator new(size_t bytes) {
    plain_news++;
    return allocate(bytes, 16);
}
void operator delete(void *pointer) noexcept {
    plain_deletes++;
    release("delete", pointer);
}
void *operator new(size_t bytes, std::align_val_t alignment) {
    aligned_news++;
    return allocate(bytes, static_cast<size_t>(alignment));
}
void operator delete(void *pointer, std::align_val_t) noexcept {
    aligned_deletes++;
    release("aligned delete", pointer);
}

static void expect_calls(const char *form, int news, int deletes, int more_news, int more_deletes) {
    EXPECT(plain_news == news && plain_deletes == deletes && aligned_news == more_news &&
               aligned_deletes == more_deletes,
           "%s: expected %d %d %d %d calls of the program's new, delete and aligned ones, found %d "
           "%d %d %d",
           form, news, deletes, more_news, more_deletes, plain_news, plain_deletes, aligned_news,
           aligned_deletes);
    plain_news = plain_deletes = aligned_news = aligned_deletes = 0;
}

static void use(const char *form, void *pointer, size_t bytes, size_t alignment) {
    EXPECT(pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % alignment == 0,
           "%s: expected a block at a multiple of %zu, found %p", form, alignment, pointer);
    if (pointer != nullptr)
        memset(pointer, 0x55, bytes);
}

static void plain_forms_reach_the_programs_own(void) {
    static const size_t sizes[] = {1, 24, 300, 5000, 100000, 3 * MIB};
    expect_calls("before", plain_news, plain_deletes, aligned_news, aligned_deletes);
    for (size_t bytes : sizes) {
        void *one = ::operator new(bytes), *two = ::operator new(bytes);
        use("new", one, bytes, 16);
        ::operator delete(one, bytes);
        ::operator delete(two, std::nothrow);
        expect_calls("delete with a size and nothrow", 2, 2, 0, 0);
        one = ::operator new[](bytes), two = ::operator new[](bytes);
        use("new[]", one, bytes, 16);
        ::operator delete[](one);
        ::operator delete[](two, bytes);
        expect_calls("new[], delete[] without and with a size", 2, 2, 0, 0);
        one = ::operator new(bytes, std::nothrow), two = ::operator new[](bytes, std::nothrow);
        use("nothrow new", one, bytes, 16);
        use("nothrow new[]", two, bytes, 16);
        ::operator delete(one);
        ::operator delete[](two, std::nothrow);
        expect_calls("nothrow forms", 2, 2, 0, 0);
    }
}

static void aligned_forms_reach_the_programs_own(void) {
    for (size_t power = 32; power <= 8192; power *= 2) {
        const std::align_val_t alignment = static_cast<std::align_val_t>(power);
        void *one = ::operator new(100, alignment), *two = ::operator new(100, alignment);
        use("aligned new", one, 100, power);
        ::operator delete(one, 100, alignment);
        ::operator delete(two, alignment, std::nothrow);
        expect_calls("aligned delete with a size and nothrow", 0, 0, 2, 2);
        one = ::operator new[](100, alignment), two = ::operator new[](100, alignment);
        use("aligned new[]", one, 100, power);
        ::operator delete[](one, alignment);
        ::operator delete[](two, 100, alignment);
        expect_calls("aligned new[] and delete[]", 0, 0, 2, 2);
        one = ::operator new(100, alignment, std::nothrow);
        two = ::operator new[](100, alignment, std::nothrow);
        use("aligned nothrow new", one, 100, power);
        use("aligned nothrow new[]", two, 100, power);
        ::operator delete(one, alignment);
        ::operator delete[](two, alignment, std::nothrow);
        expect_calls("aligned nothrow forms", 0, 0, 2, 2);
    }
}

static void nothrow_forms_give_null_where_the_programs_own_throw(void) {
    fail = true;
    EXPECT(::operator new(100, std::nothrow) == nullptr, "expected NULL");
    EXPECT(::operator new[](100, std::nothrow) == nullptr, "expected NULL of new[]");
    EXPECT(::operator new(100, std::align_val_t(64), std::nothrow) == nullptr,
           "expected NULL of an aligned new");
    EXPECT(::operator new[](100, std::align_val_t(64), std::nothrow) == nullptr,
           "expected NULL of an aligned new[]");
    bool thrown = false;
    try {
        (void)hide(::operator new[](100));
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    EXPECT(thrown, "expected bad_alloc of new[]");
    fail = false;
    expect_calls("forms that fail", 3, 0, 2, 0);
}

struct item {
    ~item() { text[0] = 1; }
    char text[100];
};
struct alignas(128) wide_item {
    ~wide_item() { text[0] = 1; }
    char text[100];
};

static void expressions_work(void) {
    for (int i = 0; i < 1000; i++) {
        item *one = new item, *many = new item[7];
        wide_item *wide = new wide_item, *more = new wide_item[3];
        use("new item", one, sizeof *one, 1);
        use("new item[]", many, 7 * sizeof *many, 1);
        use("new wide_item", wide, sizeof *wide, 128);
        use("new wide_item[]", more, 3 * sizeof *more, 128);
        delete one;
        delete[] many;
        delete wide;
        delete[] more;
    }
    expect_calls("expressions", 2000, 2000, 2000, 2000);
}

static const struct check checks[] = {
#define CHECK(name)                                                                                \
    { #name, name, 0 }
    CHECK(plain_forms_reach_the_programs_own),
    CHECK(aligned_forms_reach_the_programs_own),
    CHECK(nothrow_forms_give_null_where_the_programs_own_throw),
    CHECK(expressions_work),
};

int main(int argc, char **argv) { return run_checks(checks, COUNT_OF(checks), argc, argv); }
