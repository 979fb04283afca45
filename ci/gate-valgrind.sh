#!/usr/bin/env bash
# ci/gate-valgrind.sh -- memcheck under the preloaded debug library reports what a program does wrong, at the
# program's own line, and nothing about one that does nothing wrong.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${OUT:-out}
library=$(readlink -f "$out/debug/libhakmem-debug.so")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/wrong.c" <<'END'
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **words) {
    volatile char *p = malloc(100), *q;
    (void)count;
    switch (words[1][0]) {
    case 'o': p[100] = 1; break; /* line 7: overrun */
    case 'u': p[-1] = 1; break; /* line 8: underrun */
    case 'd': free((void *)p); p[5] = 1; return 0; /* line 9: dead */
    case 'i': if (p[3] != 0) puts("x"); break; /* line 10: not initialised */
    case 'l': free(malloc(777)); q = malloc(777); q[0] = 1; q = malloc(10); free((void *)q); break; /* line 11 */
    case 'c': q = calloc(10, 10); if (q[50] != 0) puts("y"); free((void *)q); break; /* fine */
    }
    free((void *)p);
    return 0;
}
END
gcc -g -O0 -fno-builtin -w -o "$work/wrong" "$work/wrong.c"
failed=0
run() { # run LETTER: what memcheck says
    timeout 60 env LD_PRELOAD="$library" valgrind -q --leak-check=full \
        --soname-synonyms=somalloc=nouserintercepts "$work/wrong" "$1" 2>&1 || true
}
expect() { # expect LETTER PATTERN LINE
    local said
    said=$(run "$1")
    if ! grep -q "$2" <<<"$said" || ! grep -q "wrong.c:$3)" <<<"$said"; then
        echo "gate-valgrind: case $1: expected '$2' at wrong.c:$3, found:"
        head -n 20 <<<"$said"
        failed=1
    fi
}
expect o 'Invalid write of size 1' 7
expect u 'Invalid write of size 1' 8
expect d 'Invalid write of size 1' 9
expect i 'depends on uninitialised' 10
expect l '777 bytes in 1 blocks are .* lost' 11
clean=$(run c)
if [[ -n $clean ]]; then
    echo "gate-valgrind: a program without errors: $clean"
    failed=1
fi
exit "$failed"
