#!/bin/sh
# build.sh -- builds the benchmark programs of bench/ into out/release/.
# Usage       ./build.sh NAME ...         plain: the allocator is chosen by LD_PRELOAD, else libc's
#             ./build.sh NAME_hakmem ...  linked with out/release/libhakmem.a (made when needed)
#             ./build.sh all | all_hakmem | list
# Environment CC (cc), CFLAGS (added last)
# malloc and its kin must not be builtins: compilers drop a malloc/free pair that they see through.
set -eu
cd "$(dirname "$0")"

CC=${CC:-cc}
out=${OUT:-out}/release
names=$(cd bench && ls ./*.c | sed 's,^\./,,; s,\.c$,,')
flags="-std=c11 -O2 -g -Wall -Wextra -Wundef -Wconversion -Wshadow -Wstrict-prototypes
       -fno-builtin-malloc -fno-builtin-calloc -fno-builtin-realloc -fno-builtin-free
       -fno-builtin-aligned_alloc -pthread"

usage() {
    echo "usage: ./build.sh NAME[_hakmem] ... | all | all_hakmem | list" >&2
    echo "names:" $names >&2
    exit 2
}

build() { # NAME, and "" or "_hakmem"
    [ -f "bench/$1.c" ] || { echo "build.sh: no benchmark named '$1'" >&2; usage; }
    mkdir -p "$out"
    archive=
    if [ -n "$2" ]; then
        archive=$out/libhakmem.a
        make -s "$archive" || { echo "build.sh: can not make $archive" >&2; exit 1; }
    fi
    # shellcheck disable=SC2086  # flags are words
    $CC $flags ${CFLAGS:-} -o "$out/$1$2.$$" "bench/$1.c" $archive -lm
    mv -f "$out/$1$2.$$" "$out/$1$2" # whole or not at all, for a runner that is under way
    echo "$out/$1$2"
}

[ $# -gt 0 ] || usage
for word in "$@"; do
    case $word in
    -h | --help) usage ;;
    list) for name in $names; do echo "$name"; done ;;
    all) for name in $names; do build "$name" ""; done ;;
    all_hakmem) for name in $names; do [ "$name" = measure ] || build "$name" _hakmem; done ;;
    *_hakmem) build "${word%_hakmem}" _hakmem ;;
    *) build "$word" "" ;;
    esac
done
