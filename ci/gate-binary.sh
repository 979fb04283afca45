#!/usr/bin/env bash
# ci/gate-binary.sh -- the release library as a file: size of its code, relocations, what the hot path calls.
# (Exported symbols: gate-symbols.)
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

library=${OUT:-out}/release/libhakmem.so
text_bytes_max=82500    # of .text and .text.rare
resident_bytes_max=12288 # of .data and .tdata together: what each process has for itself from the start
failed=0
complain() {
    echo "gate-binary: $*"
    failed=1
}

# ---- size ----

section_bytes() { # section_bytes NAME
    local size
    size=$(readelf -SW "$library" | sed 's/^ *\[ *[0-9]*\] *//' | awk -v name="$1" '$1 == name { print $5 }')
    echo $((16#${size:-0}))
}
text=$(($(section_bytes .text) + $(section_bytes .text.rare)))
((text > 0 && text <= text_bytes_max)) || complain "code has $text bytes; $text_bytes_max allowed"
data=$(($(section_bytes .data) + $(section_bytes .tdata)))
((data <= resident_bytes_max)) || complain ".data and .tdata have $data bytes; $resident_bytes_max allowed"

# ---- what every process runs ----
# One fault maps the 64 KiB around it: all that every process runs and reads is in the first 64 KiB of the
# file, which is loaded at a multiple of that (src/libhakmem.ld).

window=65536
end_of() { # end_of SECTION: the address behind it
    local start
    start=$(readelf -SW "$library" | sed 's/^ *\[ *[0-9]*\] *//' | awk -v name="$1" '$1 == name { print $3 }')
    echo $((16#${start:-fffffff} + $(section_bytes "$1")))
}
for section in .text .rodata; do
    end=$(end_of $section)
    ((end <= window)) || complain "$section ends at $end; $window allowed (what is rare goes into .text.rare)"
done
(($(section_bytes .text.rare) > 0)) || complain "no section .text.rare"
for array in .init_array .fini_array; do # what runs when a process starts and ends
    start=$(($(end_of $array) - $(section_bytes $array)))
    for ((at = start; at < start + $(section_bytes $array); at += 8)); do
        function=$(readelf -rW "$library" | awk -v at="$(printf %016x $at)" '$1 == at { print $NF }')
        ((16#${function:-fffffff} < window)) || complain "$array calls a function at ${function:-?}, beyond $window"
    done
done
# A page cache that holds the file in pieces of 128 KiB maps a whole piece, where it fits into the mapping.
mapped=$(readelf -lW "$library" | awk '$1 == "LOAD" { print $5; exit }')
((mapped <= 2 * window - 4096)) || complain "the code's segment has $((mapped)) bytes; $((2 * window - 4096)) allowed"
alignments=$(readelf -lW "$library" | awk '$1 == "LOAD" { print $NF }' | sort -u)
((alignments == window)) || complain "segments are aligned to $alignments, not to $window"

# ---- relocations ----
# What malloc and free read (.rodata, .data, .bss) must not be written by the loader: such a page is copied
# in every process. Allowed: crt's __dso_handle in .data, and in .tdata the pointer to the empty heap that
# every thread starts with.

relocated=$(python3 - "$library" <<'END'
import re, subprocess, sys
def run(*line): return subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout
sections = []
for line in run("readelf", "-SW", sys.argv[1]).splitlines():
    found = re.match(r"\s*\[\s*\d+\]\s+(\.\S+)\s+\S+\s+([0-9a-f]{16})\s+\S+\s+([0-9a-f]+)\s", line)
    if found:
        name, start, size = found.group(1), int(found.group(2), 16), int(found.group(3), 16)
        if start:
            sections.append((name, start, start + size))
counts = {}
for line in run("readelf", "-rW", sys.argv[1]).splitlines():
    found = re.match(r"([0-9a-f]{12,16})\s+[0-9a-f]+\s+R_", line)
    if found:
        at = int(found.group(1), 16)
        # .tbss takes no room in the file and overlaps what follows it
        name = next((name for name, start, end in sections if start <= at < end and name != ".tbss"), "?")
        counts[name] = counts.get(name, 0) + 1
print(" ".join(f"{name}={count}" for name, count in sorted(counts.items())))
END
)
for word in $relocated; do
    section=${word%=*} count=${word#*=}
    case $section in
    .got | .got.plt | .data.rel.ro | .init_array | .fini_array) ;;
    .data | .tdata) ((count <= 1)) || complain "$count relocations in $section; 1 allowed ($relocated)" ;;
    *) complain "$count relocations in $section ($relocated)" ;;
    esac
done
[[ $relocated == *.got=* ]] || complain "no relocation found at all: $relocated"

# ---- the hot path ----
# malloc, free and their like jump to the slow functions of core, and call nothing else: no function of
# another library, nothing by way of a table.

# front_broken reports and ends the process. A sized free also jumps to the program's own free, where there
# is one, by a table; new[] and delete[] are that jump and nothing else.
slow='[a-z_]+_slow|alloc_free_away|alloc_free_sized|front_broken|alloc_out_of_memory|new_throwing'
if [[ $(uname -m) == x86_64 ]]; then
    objdump -d --no-show-raw-insn "$library" >"${TMPDIR:-/tmp}/gate-binary.$$"
    trap 'rm -f "${TMPDIR:-/tmp}/gate-binary.$$"' EXIT
    for function in malloc free free_sized hkm_malloc hkm_free _Znwm _ZdlPv _ZdlPvm; do
        body=$(awk -v head="<$function>:" '$2 == head { on = 1; next } on && /^$/ { exit } on' "${TMPDIR:-/tmp}/gate-binary.$$")
        [[ -n $body ]] || complain "no function $function in the library"
        # jumps and calls that leave the function, and those through a register or memory
        strange=$(awk '{ sub(/.*:\t/, ""); sub(/^(bnd|notrack|addr32|cs|ds) /, "") }
            $1 ~ /^(call|jmp|j[a-z]+)$/ { print $1, $2, $3 }' <<<"$body" |
            grep -Ev "<$function(\+0x[0-9a-f]+)?>\$|<($function\.cold|($slow)(\.(cold|part|isra|constprop)[.0-9]*)*)>\$" || true)
        case $function in free_sized | _ZdlPvm) strange=$(sed '0,/^jmp \*0x[0-9a-f]*(%rip) #$/{//d}' <<<"$strange") ;; esac
        [[ -z $strange ]] || complain "$function leaves for: $strange"
        calls=$(grep -cE '\b(call|jmp|j[a-z]+)\b' <<<"$body" || true)
        ((calls > 0)) || complain "$function has no jump at all: the disassembly was not understood"
        if grep -q '\block \|\bxchg .*(' <<<"$body"; then complain "$function has an atomic read-modify-write"; fi
    done
    for function in _Znam _ZdaPv; do
        body=$(awk -v head="<$function>:" '$2 == head { on = 1; next } on && /^$/ { exit } on' "${TMPDIR:-/tmp}/gate-binary.$$")
        [[ ${body%%$'\n'*} =~ jmp\ +\*0x[0-9a-f]+\(%rip\) ]] || complain "$function does not begin with a jump by the table"
    done
    # glibc takes the caller of dlopen from the return address: src/api/override_dlopen.c
    body=$(awk -v head="<dlopen>:" '$2 == head { on = 1; next } on && /^$/ { exit } on' "${TMPDIR:-/tmp}/gate-binary.$$")
    grep -qE '\bjmp +\*%r' <<<"$body" || complain "dlopen does not jump to the next one"
    if grep -qE '\bcall +\*' <<<"$body"; then complain "dlopen calls the next one"; fi
fi
echo "code $text bytes; relocations: $relocated"
exit "$failed"
