#!/usr/bin/env bash
# fuzz/build-oss-fuzz.sh -- builds the fuzz targets as OSS-Fuzz and ClusterFuzzLite want it.
#
# Reads $CC, $CXX, $CFLAGS, $CXXFLAGS, $LIB_FUZZING_ENGINE and $OUT (where the targets and their
# corpora go); the sources are where this script lies. The allocator is the checked source under the
# prefix hkm_, so that any sanitizer's own allocator stays in place.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
: "${CC:?}" "${CXX:?}" "${LIB_FUZZING_ENGINE:?}" "${OUT:?}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root"

common=(-std=c11 -D_GNU_SOURCE -DHKM_CHECK=2 -Iinclude -Isrc -Ifuzz -fno-builtin-malloc -pthread)
compile() { # compile SOURCE: with the engine's flags, which are words
    # shellcheck disable=SC2086
    "$CC" ${CFLAGS:-} "${common[@]}" -c "$1" -o "$work/$(echo "${1%.c}" | tr / _).o"
}
for source in src/*/*.c; do
    [[ $source == src/api/override* ]] || compile "$source"
done
for name in grammar model oracle oracle_state harness fuzz_ops fuzz_options; do
    compile "fuzz/$name.c"
done

# Of override.c, which would take the place of the fuzzer's own malloc, mallinfo2 alone.
compile src/api/override.c
objcopy --keep-global-symbol=mallinfo2 "$work/src_api_override.o" "$work/fuzz_mallinfo2.o"
rm "$work/src_api_override.o"

link() { # link TARGET OBJECTS...
    local target=$1
    shift
    # shellcheck disable=SC2086
    "$CXX" ${CXXFLAGS:-} -o "$OUT/$target" "$@" "$work"/src_*.o $LIB_FUZZING_ENGINE -pthread -ldl
}
link fuzz_ops "$work"/fuzz_{fuzz_ops,grammar,model,oracle,oracle_state,harness,mallinfo2}.o
link fuzz_options "$work/fuzz_fuzz_options.o"

corpus() { # corpus TARGET FOLDER
    python3 - "$OUT/$1_seed_corpus.zip" "corpus/$2" <<'END'
import pathlib, sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as zip:
    for path in sorted(pathlib.Path(sys.argv[2]).rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            zip.write(path, path.name)
END
}
corpus fuzz_ops ops
corpus fuzz_options options
printf '[libfuzzer]\nmax_len = 2048\ntimeout = 60\n' >"$OUT/fuzz_ops.options"
