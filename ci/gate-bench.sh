#!/usr/bin/env bash
# ci/gate-bench.sh -- what `make bench` is made of works: every program of bench/ does the same under the
# library as without it, and a small comparison ends with all its results.
set -euo pipefail
cd "$(dirname "$0")/.."

out=$(readlink -f "${OUT:-out}")
library=$out/release/libhakmem.so
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0
complain() {
    echo "gate-bench: $*"
    failed=1
}

OUT=$out CFLAGS=-Werror ./build.sh all >"$scratch/log" 2>&1 || { cat "$scratch/log" && exit 1; }

# Little work of each; the checksum is of the operations and of what the blocks held.
runs=0
while read -r -a line; do
    without=$(timeout 60 "$out/release/${line[0]}" "${line[@]:1}") || complain "${line[*]} failed without the library"
    under=$(LD_PRELOAD=$library timeout 60 "$out/release/${line[0]}" "${line[@]:1}") || complain "${line[*]} failed under it"
    [[ $without =~ checksum=([0-9a-f]+) ]] || complain "${line[*]} printed no checksum"
    [[ $under == *checksum=${BASH_REMATCH[1]:-none}* ]] || complain "${line[*]}: $without, under the library $under"
    runs=$((runs + 1))
done <<'END'
random_mixed 50000
mid_large_mt 3 5000 100 42 8K 64K
bulk 1000 64 shuffle 20000
bulk 1000 64 reverse 20000
bulk 1000 2048 shuffle 20000 7 4
prodcons 2 5000
messages 3 5000 16 4K 64
swap 3 5000 500 16 8000 4
larson 3 1 8 1000 100 1000 42 20
calloc_heavy 20000
grow vectors 1
grow giant 1 1 1 4M
strings 50000
large_buffers 20
lifo 50000
pareto 50000 64K 110 60 2
server 4 3 500
aligned 20000
false_sharing active 2 100
false_sharing passive 2 100
thread_churn 50 8
pair 10000 100 2
idle_rss 4M 200 1
sparse_large 100
scripts mixed
scripts large
END
programs=$(find bench -maxdepth 1 -name '*.c' | wc -l)
((runs >= programs - 2)) || complain "only $runs lines here for $programs programs" # measure, replay

OUT=$out bench/compare --short --rounds 3 --rows trace_git,trace_sqlite3,bulk_100_16,start_true --allocators hakmem,glibc \
    --out smoke >"$scratch/said" 2>&1 || { tail -n 30 "$scratch/said" && complain 'bench/compare failed'; }
python3 - "$out/bench/smoke.json" "$out/bench/smoke.html" <<'END' || failed=1
import json, re, sys
summary = json.load(open(sys.argv[1]))["summary"]
page = re.sub(r"base64,[A-Za-z0-9+/=]+", "", open(sys.argv[2]).read())
wrong = []
for name in ("trace_git", "trace_sqlite3", "bulk_100_16", "start_true"):
    entry = summary[name]
    ratio = entry["ratios"].get("glibc", {})
    if entry["errors"] or not (0.001 < ratio.get("time", 0) < 1000) or not ratio.get("interval"):
        wrong.append(f"{name}: {entry['errors']} {ratio}")
    mine = entry["allocators"]["hakmem"]
    if name != "start_true" and (not mine.get("rss_idle") or mine.get("calls") is None):
        wrong.append(f"{name}: no idle memory or no count of calls: {mine}")
    if name not in page:
        wrong.append(f"{name} is not on the page")
if page.count("<img") < 2 or "</html>" not in page or "http" in page:
    wrong.append("the page lacks plots, is cut, or needs the network")
print("\n".join("gate-bench: " + one for one in wrong))
sys.exit(bool(wrong))
END
exit "$failed"
