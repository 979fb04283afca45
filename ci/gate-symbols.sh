#!/usr/bin/env bash
# ci/gate-symbols.sh -- what the libraries export and need, against ci/symbols.list.
# `--update` writes that list from the release library.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

out=${OUT:-out}
list=ci/symbols.list
tls_bytes_max=64 # below it, so that dlopen finds room in the static TLS surplus
failed=0
complain() {
    echo "gate-symbols: $*"
    failed=1
}

exports() { # exports LIBRARY: its dynamic symbols, without the version's own
    nm -D --defined-only "$1" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u
}
# globals ARCHIVE: what an archive adds to the name space of a program
globals() { nm -g --defined-only "$1" | awk 'NF == 3 { print $3 }' | sort -u; }

if [[ ${1:-} == --update ]]; then
    {
        echo '# What libhakmem.so exports; written by ci/gate-symbols.sh --update.'
        exports "$out/release/libhakmem.so"
    } >"$list.new"
    mv "$list.new" "$list"
    echo "$list: $(grep -vc '^#' "$list") symbols"
    exit 0
fi

check_exports() { # check_exports LIBRARY
    local wrong
    wrong=$(diff <(grep -v '^#' "$list") <(exports "$1") | grep '^[<>]' || true)
    if [[ -n $wrong ]]; then
        complain "$1 against $list (< missing, > not in the list; --update when it is meant):"
        echo "$wrong"
    fi
}

check_library() { # check_library LIBRARY SONAME
    local needed soname tls dynamic segments
    needed=$(readelf -dW "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    while read -r name; do
        case $name in
        '' | libc.so.6 | ld-linux*) ;;
        *) complain "$1 needs $name" ;;
        esac
    done <<<"$needed"
    soname=$(readelf -dW "$1" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')
    [[ $soname == "$2" ]] || complain "$1 has the soname '$soname', not $2"
    tls=$(readelf -lW "$1" | awk '$1 == "TLS" { print $6 }')
    ((${tls:-0} < tls_bytes_max)) || complain "$1 has $((tls)) bytes of TLS; fewer than $tls_bytes_max allowed"
    # A program asks for malloc@GLIBC_2.2.5; a malloc@@OURS_1 would not be taken for it, silently.
    if [[ $(readelf -VW "$1") == *'Version definition'* ]]; then
        complain "$1 defines symbol versions; the version script must be anonymous, or nothing interposes"
    fi
    dynamic=$(readelf -dW "$1")
    segments=$(readelf -lW "$1")
    [[ $dynamic != *TEXTREL* ]] || complain "$1 has text relocations"
    [[ $dynamic == *BIND_NOW* ]] || complain "$1 is not linked with -z now"
    [[ $segments == *GNU_RELRO* ]] || complain "$1 is not linked with -z relro"
    [[ ! $segments =~ GNU_STACK[^$'\n']*RWE ]] || complain "$1 asks for an executable stack"
}

release=$out/release/libhakmem.so
debug=$out/debug/libhakmem-debug.so
if [[ -f $list ]]; then
    check_exports "$release"
    check_exports "$debug"
else
    complain "no $list; write it with ci/gate-symbols.sh --update and look it through"
fi
check_library "$release" libhakmem.so.1
check_library "$debug" libhakmem-debug.so.1

# And it does interpose.
bindings=$(LD_PRELOAD=$(readlink -f "$release") LD_DEBUG=bindings ls / 2>&1 >/dev/null)
[[ $bindings =~ 'binding file ls '[^$'\n']*libhakmem.so[^$'\n']*'symbol `malloc'\' ]] ||
    complain "under LD_PRELOAD of $release, malloc of ls is not bound to it"

# The archives as they are installed must add no names but the exported ones to a program.
"${MAKE:-make}" -s --no-print-directory OUT="$out" "$out/release/dist/libhkm.a" "$out/release/libhakmem.a"
stray=$(globals "$out/release/dist/libhkm.a" | grep -v '^hkm_' || true)
[[ -z $stray ]] || complain "libhkm.a defines names without the prefix: $stray"
stray=$(comm -13 <(exports "$release") <(globals "$out/release/libhakmem.a"))
[[ -z $stray ]] || complain "libhakmem.a defines names that libhakmem.so does not export: $stray"
exit "$failed"
