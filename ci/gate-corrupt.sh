#!/usr/bin/env bash
# gate-corrupt -- single-bit flips in the metadata of a running process: the checked build reports
# them, or knows why nothing can come of them (fuzz/corrupt.c; a few of each field).
set -eu
cd "$(dirname "$0")/.."
out=${OUT:-out}
env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL "${MAKE:-make}" -s --no-print-directory OUT="$out" "$out/debug/fuzz/corrupt"
"$out/debug/fuzz/corrupt" -n 6
