#!/usr/bin/env python3
"""footprint.py -- system calls, page faults and resident memory of fixed programs, against ci/ceilings.txt.

For each line of that file the program runs under the release library: counted are its system calls for
memory and its futex calls (strace), its page faults, and its peak RSS over the peak of the bytes that were
live, as hakmem-run --trace finds them, or what remains of it (KiB) after a multiple of the live bytes that the
run itself reports.  The least of RUNS runs counts: what another program of the machine adds is not the
library's.  --measure prints what is, in the form of the file, with the slack that it needs.
"""
import argparse
import math
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "bench"))
import benchlib  # noqa: E402

FILE = os.path.join(ROOT, "ci", "ceilings.txt")
RUNS = 3
COLUMNS = ("calls", "futex", "faults", "rss")
# For --measure.  Repeated runs of a program with one thread differ by 0.3 % at most; with more threads it
# depends on how they meet (futex is "-" in those lines).
SLACK = {"calls": 1.1, "futex": 1.0, "faults": 1.04, "rss": 1.04}
SLACK_THREADS = 1.4


def argv_of(command):
    """What to run; words in front with a "=" are options of the library, else as where faults are cheap."""
    words = command.split()
    os.environ["HAKMEM_OPTIONS"] = "prefault=off"
    while "=" in words[0]:
        os.environ["HAKMEM_OPTIONS"] = words.pop(0)
    if words[0] == "trace":
        benchlib.need_traces([words[1]])
        return ["replay", benchlib.trace_path(words[1])]
    return words


def count_calls(argv):
    with tempfile.NamedTemporaryFile(mode="r", prefix="strace.") as counted:
        done = subprocess.run(["strace", "-f", "--seccomp-bpf", "-qq", "-c", "-o", counted.name, "-e",
                               "trace=%memory,futex", "-E", "LD_PRELOAD=" + benchlib.SUBJECT_LIB]
                              + benchlib.command(argv), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              timeout=120)
        if done.returncode != 0:
            sys.exit("gate-footprint: strace of %s: %s" % (" ".join(argv), done.stderr.strip()[-300:]))
        counts = {}
        for text in counted.read().splitlines():
            words = text.split()
            if len(words) >= 5 and words[3].isdigit() and words[-1] not in ("total", "syscall"):
                counts[words[-1]] = int(words[3])
        futex = counts.pop("futex", 0)
        return sum(counts.values()), futex


def live_kib(argv):
    with tempfile.NamedTemporaryFile(prefix="live.") as trace:
        subprocess.run([os.path.join(benchlib.BIN, "hakmem-run"), "--trace=" + trace.name] + benchlib.command(argv),
                       stdout=subprocess.DEVNULL, check=True, timeout=120)
        info = subprocess.run([os.path.join(benchlib.BIN, "replay"), "--info", trace.name], stdout=subprocess.PIPE,
                              text=True, check=True, timeout=120)
        return benchlib.parse_line(info.stdout)["live_peak_kib"]


def figures(command, multiple):
    argv = argv_of(command)
    found = {"calls": math.inf, "futex": math.inf, "faults": math.inf, "rss": math.inf}
    for _ in range(RUNS):
        result = benchlib.run(argv, benchlib.SUBJECT_LIB)
        if "error" in result:
            sys.exit("gate-footprint: %s: %s" % (command, result["error"]))
        calls, futex = count_calls(argv)
        found["calls"] = min(found["calls"], calls)
        found["futex"] = min(found["futex"], futex)
        found["faults"] = min(found["faults"], int(result["faults"]))
        found["rss"] = min(found["rss"], result["rss"] - (multiple or 0) * result.get("live_kib", 0))
    if multiple is None:
        live = result["live_mib"] * 1024 if argv[0] == "replay" else live_kib(argv)
        found["rss"] = found["rss"] / live
    return found


def ceilings():
    """[({column: ceiling or None}, None or by what the live bytes count that are taken off, command)]"""
    lines = []
    with open(FILE, encoding="utf-8") as source:
        for line in source:
            if line.strip() and not line.startswith("#"):
                words = line.split(None, len(COLUMNS))
                rss, _, multiple = words[3].partition("K+")
                limits = {name: None if word == "-" else float(word) for name, word in zip(COLUMNS, words[:3] + [rss])}
                lines.append((limits, float(multiple) if multiple else None, words[-1].strip()))
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--measure", action="store_true")
    options = parser.parse_args()
    lines = ceilings()
    benchlib.need_programs([argv_of(command)[0] for _, _, command in lines] + ["replay"])
    failed = False
    for limits, multiple, command in lines:
        found = figures(command, multiple)
        if options.measure:
            more = SLACK_THREADS if limits["futex"] is None else 1.0
            cells = ["-" if limits[name] is None
                     else "%dK+%g" % (math.ceil(found[name] * SLACK[name] * more), multiple)
                     if name == "rss" and multiple is not None
                     else "%.2f" % (found[name] * SLACK[name] * more) if name == "rss"
                     else "%d" % math.ceil(found[name] * SLACK[name] * more) for name in COLUMNS]
            print("%7s %5s %7s %6s   %s" % (*cells, command))
            continue
        over = [name for name in COLUMNS if limits[name] is not None and found[name] > limits[name]]
        print("%-44s %s%s" % (command, "  ".join(
            "%s %.4g of %s" % (name, found[name], "-" if limits[name] is None else "%.4g" % limits[name])
            for name in COLUMNS), "  OVER: " + " ".join(over) if over else ""))
        failed = failed or bool(over)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
