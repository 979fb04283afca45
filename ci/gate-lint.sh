#!/usr/bin/env bash
# ci/gate-lint.sh -- clang-tidy, cppcheck and the house rules; shellcheck for the scripts where it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

env -u MAKEFLAGS -u MFLAGS "${MAKE:-make}" -s -k --no-print-directory OUT="${OUT:-out}" lint
if command -v shellcheck >/dev/null 2>&1; then
    shellcheck --severity=warning .ci/run ci/setup ci/test ci/run-demo ci/*.sh \
        fuzz/run fuzz/coverage fuzz/afl-parallel fuzz/*.sh .clusterfuzzlite/build.sh
    shellcheck --severity=warning --shell=sh ci/hakmem-run.in
fi
