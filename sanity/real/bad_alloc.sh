#!/usr/bin/env bash
# bad_alloc.sh -- a C++ program meets std::bad_alloc: for impossible sizes, and under a limit of address space.
. "$(dirname "$0")/common.inc"
need g++
cat >program.cc <<'END'
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <sys/resource.h>
#include <unistd.h>
#include <vector>
static int impossible() {
    int caught = 0;
    for (size_t bytes : {~size_t(0), ~size_t(0) / 2, ~size_t(0) / 2 - 4096})
        try {
            char *volatile p = static_cast<char *>(::operator new(bytes));
            std::printf("a block: %d\n", p != nullptr);
        } catch (const std::bad_alloc &e) {
            std::printf("caught %s\n", e.what());
            caught++;
        }
    return caught == 3 ? 0 : 1;
}
int main(int argc, char **argv) {
    if (argc == 1) {
        if (impossible())
            return 1;
        struct rlimit limit = {400 << 20, 400 << 20};
        setrlimit(RLIMIT_AS, &limit);
        execl(argv[0], argv[0], "limited", nullptr);
        return 2;
    }
    for (int round = 0; round < 3; round++) {
        std::vector<std::unique_ptr<std::string>> held;
        bool caught = false;
        try {
            for (int i = 0; i < 100000; i++)
                held.emplace_back(new std::string(100000, 'x'));
        } catch (const std::bad_alloc &) {
            caught = true;
        }
        size_t count = held.size(), wrong = 0;
        for (auto &s : held)
            wrong += s && (s->size() != 100000 || (*s)[99999] != 'x');
        std::printf("round %d: caught %d, enough %d, wrong %zu\n", round, caught, count > 1000, wrong);
    }
}
END
plain g++ -O1 -std=c++17 program.cc -o program || fail "g++"
preload_works ./program
# The second half has no address space for the debug library's records: it says so, in one line.
if [[ $HAKMEM_TEST_BUILD == debug ]]; then
    may_say='^hakmem: no address space for a record of each block: .* of .* have one, the rest is checked as in the release library$'
fi
same "bad_alloc" ./program
