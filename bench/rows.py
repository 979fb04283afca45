"""rows.py -- what bench/compare measures: programs of bench/, applications, traces.

A row's time is what one operation takes:
  mops   the program's own seconds by operation (the wall clock, around the work alone)
  cpu    CPU time of the whole process with its children, or of the server: applications, start-up
`checked`: what the program prints (its checksum) must be the same under every allocator.
"""
import collections
import glob
import os

import benchlib

Row = collections.namedtuple("Row", "name group argv metric quick checked")

# name, arguments (of bench/<first word>.c), and of "quick", "timed" (no two runs do the same work)
PROGRAMS = """
random_mixed            random_mixed 10000000 4096 42                  quick
random_mixed_8192       random_mixed 10000000 8192 42                  quick
random_mixed_512        random_mixed 10000000 512 42
random_mixed_200k       random_mixed 5000000 200000 42
random_8                mid_large_mt 8 300000 10000 42 16 4000
mid_large_1             mid_large_mt 1 4000000 2048 42 8K 32K
mid_large_mt            mid_large_mt 2 3000000 2048 42 8K 32K          quick
mid_large_4             mid_large_mt 4 1000000 2048 42 8K 32K
mid_large_16            mid_large_mt 16 200000 512 42 8K 32K
mid_1_32k               mid_large_mt 1 4000000 2048 42 1K 32K
mid_64k_1               mid_large_mt 1 2000000 512 42 32K 64K
mid_64k_mt              mid_large_mt 2 1000000 512 42 32K 64K          quick
larson_1                larson 1 1 1 1000 100 10000 42                 quick timed
larson                  larson 2 1 8 1000 1000 10000 42                quick timed
larson_4                larson 4 1 8 1000 1000 10000 42                timed
larson_16               larson 16 1 8 1000 500 10000 42                timed
larson_64               larson 64 1 8 1000 300 10000 42                timed
bulk_100_16             bulk 100 16 order 20000000
bulk_1k_32              bulk 1000 32 order 20000000                    quick
bulk_1k_32_reverse      bulk 1000 32 reverse 20000000
bulk_1k_256_shuffle     bulk 1000 256 shuffle 15000000
bulk_10k_64             bulk 10000 64 order 10000000                   quick
bulk_10k_64_shuffle     bulk 10000 64 shuffle 10000000
bulk_100k_64            bulk 100000 64 order 10000000                  quick
bulk_100k_64_reverse    bulk 100000 64 reverse 10000000
bulk_100k_64_shuffle    bulk 100000 64 shuffle 10000000                quick
bulk_1m_16              bulk 1000000 16 order 6000000
bulk_1m_64              bulk 1000000 64 order 5000000
bulk_1m_64_shuffle      bulk 1000000 64 shuffle 5000000                quick
bulk_10k_1k             bulk 10000 1024 order 3000000
bulk_10k_4k_shuffle     bulk 10000 4096 shuffle 1500000
bulk_1k_16k             bulk 1000 16384 order 3000000
bulk_2                  bulk 1000 2048 order 4000000 42 2              quick
bulk_2_16k              bulk 1000 16384 order 1500000 42 2
bulk_4                  bulk 1000 2048 shuffle 2000000 42 4
bulk_4_64               bulk 10000 64 order 4000000 42 4
growth_96m              bulk 1000000 96 order 1000000                  quick
growth_400m             bulk 100000 4096 order 100000
prodcons                prodcons 1 3000000                             quick
prodcons_4              prodcons 4 600000
prodcons_32             prodcons 32 60000
messages                messages 2 1000000
messages_16k            messages 2 300000 16K 128K 128
messages_8              messages 8 400000 64 4K
swap                    swap 2 1500000
swap_8                  swap 8 400000 4096 16 8000 10
calloc_heavy            calloc_heavy 1500000                           quick
grow_vectors            grow vectors 15                                quick
grow_giant              grow giant 1 1 1 1G                            quick
strings                 strings 10000000                               quick
large_buffers           large_buffers 300                              quick
large_sparse_touch      large_buffers 20000 16 64K 32M 1
lifo                    lifo 12000000                                  quick
pareto                  pareto 8000000                                 quick
pareto_2                pareto 4000000 256K 110 60 2
pareto_4                pareto 1500000 256K 110 60 4
server_1                server 1 10 60000
server                  server 4 20 20000                              quick
server_16               server 16 10 10000
server_64               server 64 10 3000
aligned                 aligned 2000000                                quick
false_sharing_active    false_sharing active 2 20000                   quick
false_sharing_passive   false_sharing passive 2 20000                  quick
false_sharing_4         false_sharing passive 4 10000
thread_churn            thread_churn 4000                              quick
thread_churn_64         thread_churn 4000 64
pair_32                 pair 30000000 32                               quick
pair_1k                 pair 30000000 1024
pair_5k                 pair 10000000 5000
pair_12k                pair 10000000 12000
pair_32k                pair 10000000 32768
pair_32_mt              pair 30000000 32 2
pair_32_16              pair 3000000 32 16
"""

APPS_QUICK = ("sqlite3", "lua")
TRACES_QUICK = ("redis", "g++", "ruby")
TRACE_REPETITIONS = 10
# Which argument says how much work a program does; bench-quick does a third of it.
WORK = {"random_mixed": 1, "mid_large_mt": 2, "bulk": 4, "prodcons": 2, "messages": 2, "swap": 2, "calloc_heavy": 1, "grow": 2,
        "strings": 1, "large_buffers": 1, "lifo": 1, "pareto": 1, "server": 2, "aligned": 1, "false_sharing": 3, "thread_churn": 1,
        "pair": 1, "replay": 2}
QUICK_PART = 3


def programs():
    rows = []
    for line in PROGRAMS.strip().splitlines():
        words = line.split()
        marks = [word for word in words if word in ("quick", "timed")]
        argv = [word for word in words[1:] if word not in marks]
        rows.append(Row(words[0], "program", argv, "mops", "quick" in marks, "timed" not in marks))
    # `true` never allocates: what the loader does with the library; `pair 1` starts the allocator up.
    rows.append(Row("start_true", "start", ["true"], "cpu", True, False))
    rows.append(Row("start_pair", "start", ["pair", "1"], "cpu", False, False))
    return rows


def apps():
    names = [os.path.basename(path) for path in glob.glob(os.path.join(benchlib.ROOT, "bench", "apps", "*"))]
    return [Row("app_" + name, "app", [name], "cpu", name in APPS_QUICK, name not in benchlib.SERVERS)
            for name in sorted(names) if not name.endswith(".inc")]


def traces():
    rows = []
    for path in sorted(glob.glob(os.path.join(benchlib.ROOT, "bench", "traces", "*.trc.xz"))):
        name = os.path.basename(path)[:-len(".trc.xz")]
        rows.append(Row("trace_" + name, "trace", ["replay", benchlib.trace_path(name), str(TRACE_REPETITIONS)],
                        "mops", name in TRACES_QUICK, True))
    return rows


def all_rows():
    return programs() + apps() + traces()


def shortened(row):
    """The row as bench-quick runs it."""
    place = WORK.get(row.argv[0])
    if row.metric != "mops" or place is None or not row.argv[place].isdigit():
        return row
    argv = list(row.argv)
    if argv[0] != "bulk" or int(argv[4]) > int(argv[1]):  # not a row that builds its blocks just once
        argv[place] = str(max(1, int(argv[place]) // QUICK_PART))
    return row._replace(argv=argv)
