#!/usr/bin/env bash
# ci/gate-warnings.sh -- release and debug build without a warning, with gcc and with clang.
# Built below $OUT/gate-warnings and kept there: what did not change is not built again.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${OUT:-out}
status=0
for compiler in gcc clang-19; do
    cxx=g++
    if [[ $compiler == clang* ]]; then cxx=clang++-19; fi
    env -u MAKEFLAGS -u MFLAGS -u CFLAGS "${MAKE:-make}" -s -k --no-print-directory \
        CC="$compiler" CXX="$cxx" WERROR=1 OUT="$out/gate-warnings/$compiler" all || {
        echo "gate-warnings: $compiler warns"
        status=1
    }
done

# The public header on its own, as strictly as a user may compile it.
header='#include <hakmem/hakmem.h>'
for command in 'gcc -std=c99 -xc' 'gcc -std=c11 -xc' 'clang-19 -std=c17 -xc' 'g++ -std=c++11 -xc++' 'g++ -std=c++20 -xc++' \
    'clang++-19 -std=c++17 -xc++'; do
    # shellcheck disable=SC2086  # a command of several words
    echo "$header" | $command -Wall -Wextra -Wpedantic -Wconversion -Wundef -Werror -Iinclude -fsyntax-only - || {
        echo "gate-warnings: the public header does not pass: $command"
        status=1
    }
done
exit "$status"
