#!/usr/bin/env bash
# ci/gate-ratios.sh -- CPU time of the main patterns against mimalloc's, side by side (see ci/ratios.py).
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 -B ci/ratios.py "$@"
