#!/usr/bin/env bash
# compilers.sh -- gcc and g++ compile something sizeable; the assembler output is the same.
. "$(dirname "$0")/common.inc"
need gcc g++ python3
python3 - <<'END'
with open("big.c", "w") as f:
    f.write("#include <stdio.h>\n#include <string.h>\n")
    for i in range(160):
        f.write(f"static int f{i}(int x, const char *s) {{ int r = {i}; for (int i = 0; i < x; i++) "
                f"{{ r = r * 31 + s[i % 7]; switch (r % 5) {{ case 0: r += {i * 3}; break; case 1: r ^= x; "
                f"break; case 2: if (x > {i}) r -= (int)strlen(s); break; default: r <<= 1; }} }} return r; }}\n")
    f.write("int main(void) { int r = 0;\n")
    for i in range(160):
        f.write(f"r += f{i}(r & 15, \"text{i}\");\n")
    f.write("printf(\"%d\\n\", r); return 0; }\n")
with open("big.cc", "w") as f:
    f.write("#include <algorithm>\n#include <functional>\n#include <iostream>\n#include <map>\n#include <regex>\n"
            "#include <string>\n#include <tuple>\n#include <unordered_map>\n#include <vector>\n"
            "template <int N> struct fib { static constexpr long value = fib<N-1>::value + fib<N-2>::value; };\n"
            "template <> struct fib<0> { static constexpr long value = 0; };\n"
            "template <> struct fib<1> { static constexpr long value = 1; };\n"
            "template <int N> struct tag { std::map<std::string, std::vector<std::tuple<int, tag<N-1>*>>> m; "
            "std::function<int(int)> f = [](int x) { return x + N; }; };\n"
            "template <> struct tag<0> { int m = 0; };\n"
            "int main() { long r = fib<80>::value;\n")
    for i in range(1, 14):
        f.write(f"{{ tag<{i}> t; t.m[\"k{i}\"].emplace_back({i}, nullptr); r += t.f((int)t.m.size()); }}\n")
    f.write("std::cout << r << '\\n'; return std::regex_match(\"abc\", std::regex(\"a.*\")) ? 0 : 1; }\n")
END
cat >compile.sh <<'END'
set -e
gcc -O2 -S -o - big.c
g++ -O1 -std=c++17 -S -o - big.cc
END
preload_works gcc -c -x c -o /dev/null /dev/null
same "gcc and g++" bash compile.sh
under g++ -O0 -std=c++17 big.cc -o program || fail "compile and link"
./program >/dev/null || fail "the program compiled under the library does not work"
