#!/usr/bin/env bash
# os_calls_that_fail -- a kernel that refuses mremap and madvise, once in a while or always: programs
# run all the same, since blocks are then copied and memory is kept. From outside, by strace, so that
# it holds for the release build too (the checked build's own sweep: sanity/faults).
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$(dirname "$0")/common.inc"
need strace
program=$HAKMEM_OUT/test/plain/realloc_contents
[[ -x $program ]] || env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL "${MAKE:-make}" -s -C "$root" OUT="$HAKMEM_OUT" "$program" || exit 1
failures=0
for inject in mremap:error=ENOSYS mremap:error=ENOMEM:when=2+3 madvise:error=EINVAL \
    madvise:error=EAGAIN:when=1+2 mremap,madvise:error=EPERM; do
    log=$TMPDIR/strace
    SANITY_SCALE=0.2 strace -f -qq -o "$log" -e trace=mremap,madvise -e inject="$inject" \
        -E LD_PRELOAD="$HAKMEM_LIB" "$program" >"$TMPDIR/said" 2>&1
    status=$?
    injected=$(grep -c INJECTED "$log")
    echo "$inject: exit code $status, $injected calls failed"
    if ((status != 0 || injected == 0)); then
        tail -n 5 "$TMPDIR/said"
        failures=$((failures + 1))
    fi
done
exit $((failures > 0))
