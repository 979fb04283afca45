#!/usr/bin/env bash
# ci/gate-counts.sh -- instruction counts of the release library, against ci/counts.txt (see ci/counts.py).
# `--update` writes that file (make counts).
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-out} ./build.sh scripts >/dev/null
exec python3 -B ci/counts.py "$@"
