#!/usr/bin/env bash
# ci/gate-footprint.sh -- system calls, page faults, RSS of fixed programs (see ci/footprint.py, ci/ceilings.txt).
set -euo pipefail
cd "$(dirname "$0")/.."
command -v strace >/dev/null || { echo "no strace" && exit 77; }
exec python3 -B ci/footprint.py "$@"
