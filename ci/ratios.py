#!/usr/bin/env python3
"""ratios.py -- CPU time against Debian's mimalloc, in interleaved rounds, against the limits below.

Each round runs a row under both, straight after each other, first one first and then the other.  A
round's ratio is hakmem's CPU time by operation (the whole process) over mimalloc's; the median over the rounds is
held against the row's limit.  CPU time and not the clock's: another program on the machine takes away time, but
only a little of the speed, and both have the same share of it.
Rounds end early when the row is clearly within its limit: its 95 % interval by bootstrap is below it.  After
ROUNDS_MOST a row fails when the whole interval is above: so noise widens the interval, and does not fail.
--measure N repeats the whole and prints how the medians spread (docs/PERFORMANCE.md has the figures).
Exit code 77: no mimalloc here.
"""
import argparse
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "bench"))
import benchlib  # noqa: E402
import stats  # noqa: E402

PEER = "mimalloc"
ROUNDS_LEAST, ROUNDS_MOST = 5, 15
# row, limit of the ratio, command; long enough for the faults at its start, the same for all, to be a small part
# where one takes 20 us
ROWS = (
    ("random_mixed", 1.10, "random_mixed 3000000 4096 42"),
    ("random_mixed_8192", 1.10, "random_mixed 3000000 8192 42"),
    ("mid_large_1", 0.70, "mid_large_mt 1 2400000 1024 42 8K 64K"),
    ("mid_large_mt", 0.75, "mid_large_mt 2 1200000 1024 42 8K 64K"),
    ("larson_1", 0.85, "larson 1 1 1 1000 100 10000 42 400"),
    ("larson", 0.75, "larson 2 1 8 1000 1000 10000 42 200"),
    ("bulk_1k_32", 1.55, "bulk 1000 32 order 6000000"),
    ("bulk_100k_64", 1.60, "bulk 100000 64 order 3000000"),
    ("bulk_100k_64_shuffle", 1.85, "bulk 100000 64 shuffle 1500000"),
    ("prodcons", 0.80, "prodcons 1 1500000"),
)


def cost(argv, library):
    """CPU seconds by operation."""
    result = benchlib.run(argv, library)
    if "error" in result:
        sys.exit("gate-ratios: %s: %s" % (" ".join(argv), result["error"]))
    return result["cpu"] / result["ops"]


def ratio(limit, command, peer):
    """(median, interval, rounds) of the rounds' ratios."""
    argv = command.split()
    ours, theirs = [], []
    while True:
        if len(ours) % 2:
            ours.append(cost(argv, benchlib.SUBJECT_LIB))
            theirs.append(cost(argv, peer))
        else:
            theirs.append(cost(argv, peer))
            ours.append(cost(argv, benchlib.SUBJECT_LIB))
        ratios = [a / b for a, b in zip(ours, theirs)]
        if len(ratios) >= ROUNDS_LEAST:
            interval = stats.bootstrap(ratios, [1.0] * len(ratios))
            if interval[1] <= limit or len(ratios) >= ROUNDS_MOST:
                return stats.median(ratios), interval, len(ratios)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--measure", type=int, metavar="N", help="repeat N times; print how the medians spread")
    parser.add_argument("--rows", help="a,b,c")
    options = parser.parse_args()
    peer = benchlib.find_allocators([PEER]).get(PEER)
    if not peer:
        print("no %s on this machine" % PEER)
        return 77
    rows = [row for row in ROWS if not options.rows or row[0] in options.rows.split(",")]
    benchlib.need_programs([command.split()[0] for _, _, command in rows])
    failed = False
    medians = {name: [] for name, _, _ in rows}
    for _ in range(options.measure or 1):
        for name, limit, command in rows:
            middle, interval, rounds = ratio(limit, command, peer)
            medians[name].append(middle)
            if not options.measure:
                over = interval[0] > limit
                print("%-22s %.3f [%.3f %.3f] of %s's, %.2f allowed, %d rounds%s"
                      % (name, middle, *interval, PEER, limit, rounds, "  OVER" if over else ""), flush=True)
                failed = failed or over
    for name, values in medians.items() if options.measure else ():
        print("%-22s median %.3f, least %.3f, most %.3f of %d" % (name, stats.median(values), min(values), max(values),
                                                                len(values)))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
