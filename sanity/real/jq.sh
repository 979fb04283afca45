#!/usr/bin/env bash
# jq.sh -- jq: a large array made, grouped, sorted and printed.
. "$(dirname "$0")/common.inc"
need jq
preload_works jq -n 1
same "jq" jq -n -c '[range(40000) | {k: (. * 7919 % 997), s: ("x" * (. % 20 + 1)), a: [., . + 1]}] | group_by(.k) |
    map({k: .[0].k, n: length, t: (map(.s | length) | add), last: .[-1].a}) | .[]'
