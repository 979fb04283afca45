#!/usr/bin/env bash
# ci/gate-invariants.sh -- the registry of invariants, its document, the code and the headers agree.
# (That each invariant can be made to fire: the group `negative` of ci/test.)
set -euo pipefail
cd "$(dirname "$0")/.."
ci/invariants --check
