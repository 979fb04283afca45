#!/usr/bin/env bash
# bad_alloc_in_plugin.sh -- a program in C loads C++ code, as interpreters do: std::bad_alloc and the
# new-handler are found there, too, with libstdc++ outside the global scope, in it, and in the plugin.
. "$(dirname "$0")/common.inc"
need g++
cat >plugin.cc <<'END'
#include <cstdio>
#include <new>
static int calls;
static void handler() {
    if (++calls == 2)
        std::set_new_handler(nullptr);
}
template <typename F> static void attempt(const char *form, F make) {
    for (int with = 0; with < 2; with++) {
        calls = 0;
        std::set_new_handler(with ? handler : nullptr);
        try {
            void *volatile block = make();
            std::printf("%s: NULL is %d, %d calls of the handler\n", form, block == nullptr, calls);
        } catch (const std::bad_alloc &) {
            std::printf("%s: caught, %d calls of the handler\n", form, calls);
        }
    }
}
extern "C" void run() {
    volatile size_t huge = ~size_t(0) / 4;
    std::align_val_t a{64};
    attempt("new", [&] { return ::operator new(huge); });
    attempt("new[]", [&] { return ::operator new[](huge); });
    attempt("new aligned", [&] { return ::operator new(huge, a); });
    attempt("new[] aligned", [&] { return ::operator new[](huge, a); });
    attempt("new nothrow", [&] { return ::operator new(huge, std::nothrow); });
    attempt("new[] nothrow", [&] { return ::operator new[](huge, std::nothrow); });
    attempt("new aligned nothrow", [&] { return ::operator new(huge, a, std::nothrow); });
    attempt("new[] aligned nothrow", [&] { return ::operator new[](huge, a, std::nothrow); });
}
END
cat >host.c <<'END'
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv) {
    void *plugin = dlopen(argv[1], argc > 2 ? RTLD_NOW | RTLD_GLOBAL : RTLD_NOW);
    if (plugin == NULL)
        return 2;
    ((void (*)(void))dlsym(plugin, "run"))();
    return dlclose(plugin);
}
END
plain g++ -O1 -std=c++17 -shared -fPIC plugin.cc -o plugin.so || fail "g++"
plain g++ -O1 -std=c++17 -shared -fPIC -static-libstdc++ plugin.cc -o whole.so || fail "g++ -static-libstdc++"
plain gcc -w host.c -o host -ldl || fail "gcc"
preload_works ./host
same "libstdc++ outside the global scope" ./host ./plugin.so
same "libstdc++ in the global scope" ./host ./plugin.so global
same "libstdc++ in the plugin" ./host ./whole.so
