#!/usr/bin/env bash
# gate-soak.sh -- the stress programs in turn in one process leave no slot in use; and one block that is lost
# is seen (make soak runs the same for hours).
set -euo pipefail
cd "$(dirname "$0")/.."

out=${OUT:-out}
env -u MAKEFLAGS -u MFLAGS "${MAKE:-make}" -s --no-print-directory OUT="$out" "$out/release-noise/stress/soak_all"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export STRESS_SECONDS=0.1 STRESS_QUIET=1 SEED=1 SOAK_FOLDER=$folder SOAK_HOURS=0.001
"$out/release-noise/stress/soak_all" >"$folder/log" 2>&1 || { tail -n 20 "$folder/log"; exit 1; }
tail -n 3 "$folder/log"
if (SOAK_LEAK=0.1 "$out/release-noise/stress/soak_all") >"$folder/log" 2>&1; then
    echo 'gate-soak: a lost block was not seen'
    exit 1
fi
grep -q 'FAILED: leak: after' "$folder/log" || { tail -n 20 "$folder/log"; exit 1; }
