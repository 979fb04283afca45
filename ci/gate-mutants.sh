#!/usr/bin/env bash
# gate-mutants -- the seeded bugs' texts still match src, each once; and a few of the bugs, of
# different modules and kinds, are still caught by the tests that caught them (ci/mutants --sample).
set -eu
cd "$(dirname "$0")/.."
fuzz/mutants/generate --check
ci/mutants --sample
