#!/usr/bin/env python3
"""counts.py -- instructions of the release library in the scripts of bench/scripts.c, by callgrind.

Holds them against ci/counts.txt: a script that needs more than 0.5 % more fails, with what each function
had and has.  --update writes the file; an intended change updates it in the same commit (`make counts`).
Counted is what the library executes below `script` and `script_of_taker`, not libc's memset and memcpy, whose
choice is the CPU's.
Exit code 77: not comparable here (another compiler, no valgrind).
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RELEASE = os.path.join(ROOT, os.environ.get("OUT") or "out", "release")
LIBRARY = os.path.realpath(os.path.join(RELEASE, "libhakmem.so"))
FILE = os.path.join(ROOT, "ci", "counts.txt")
TOLERANCE = 0.005
SCRIPTS = ("first", "pair_32", "mixed", "bulk_small", "bulk", "bulk_shuffled", "zeroed", "resized", "aligned", "mid",
           "large", "sent_small", "sent_mid")
TWICE = ("mixed", "large", "sent_mid")  # run two times: the counts must be the same to the last instruction
FUNCTIONS_KEPT = 0.002  # functions below this share of a script are one line, "(others)"


def compiler():
    """What the library was compiled with, as its objects say."""
    text = subprocess.run(["readelf", "-p", ".comment", LIBRARY], stdout=subprocess.PIPE, text=True, check=True).stdout
    found = sorted(set(re.findall(r"\]\s+(.*\S)", text)))
    return "; ".join(found)


def count(script):
    """{function: instructions} of one script."""
    with tempfile.TemporaryDirectory(prefix="counts.") as folder:
        out = os.path.join(folder, "out")
        environment = {"PATH": os.environ["PATH"], "LD_PRELOAD": LIBRARY}
        if script != "first":  # which ends before faults are known to be dear; and it counts what options cost
            environment["HAKMEM_OPTIONS"] = "prefault=off"
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out, "--toggle-collect=script*",
             "--compress-strings=no", "--compress-pos=no", os.path.join(RELEASE, "scripts"), script],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=300)
        if done.returncode != 0 or not os.path.exists(out):
            sys.exit("gate-counts: valgrind failed on %s: %s" % (script, done.stderr.strip()[-500:]))
        counts, inside, function, skip = {}, False, "", False
        with open(out, encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("ob="):
                    inside = os.path.realpath(line[3:].strip()) == LIBRARY
                elif line.startswith("fn="):
                    function = line[3:].strip()
                elif line.startswith("calls="):
                    skip = True  # the next line is the callee's cost, inclusive
                elif line[:1].isdigit() or line[:1] in "+-*":
                    if inside and not skip:
                        counts[function] = counts.get(function, 0) + int(line.split()[1])
                    skip = False
        if not counts:
            sys.exit("gate-counts: nothing of %s was executed in %s" % (LIBRARY, script))
        return counts


def condense(counts):
    total = sum(counts.values())
    kept = {name: value for name, value in counts.items() if value >= total * FUNCTIONS_KEPT}
    rest = total - sum(kept.values())
    if rest:
        kept["(others)"] = rest
    return total, dict(sorted(kept.items(), key=lambda item: -item[1]))


def write(results):
    with open(FILE + ".new", "w", encoding="utf-8") as out:
        out.write("# Instructions of libhakmem.so in the scripts of bench/scripts.c, by callgrind; written by `make counts`.\n")
        out.write("# compiler: %s\n" % compiler())
        for script in SCRIPTS:
            total, functions = condense(results[script])
            out.write("%s %d\n" % (script, total))
            for name, value in functions.items():
                out.write("    %s %d\n" % (name, value))
    os.rename(FILE + ".new", FILE)


def read():
    """(compiler, {script: total}, {script: {function: instructions}})"""
    made_by, totals, functions, script = "", {}, {}, ""
    with open(FILE, encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("# compiler: "):
                made_by = line[len("# compiler: "):].strip()
            elif line.startswith(" "):
                name, value = line.rsplit(None, 1)
                functions[script][name.strip()] = int(value)
            elif not line.startswith("#"):
                script, value = line.split()
                totals[script] = int(value)
                functions[script] = {}
    return made_by, totals, functions


def explain(script, before, now):
    """What each function had and has, those that changed most first."""
    now = dict(now)
    listed = set(before) | set(condense(now)[1])
    now["(others)"] = sum(value for name, value in now.items() if name not in listed)
    changes = [(now.get(name, 0) - before.get(name, 0), name) for name in listed]
    for change, name in sorted(changes, reverse=True, key=lambda item: abs(item[0]))[:12]:
        if change:
            print("    %-12s %-36s %10d -> %10d  %+d" % (script, name, before.get(name, 0), now.get(name, 0), change))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        print("no valgrind")
        return 77
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = list(SCRIPTS) + list(TWICE)
        runs = list(pool.map(count, jobs))
    results = dict(zip(SCRIPTS, runs))
    failed = False
    for script, again in zip(TWICE, runs[len(SCRIPTS):]):
        if again != results[script]:
            print("gate-counts: two runs of %s differ:" % script)
            explain(script, condense(results[script])[1], again)
            failed = True
    if options.update:
        write(results)
        print("%s: %d scripts" % (os.path.relpath(FILE, ROOT), len(results)))
        return int(failed)
    made_by, totals, functions = read()
    if made_by != compiler():
        print("counts are of %s, the library of %s" % (made_by, compiler()))
        return 77
    for script in SCRIPTS:
        total = sum(results[script].values())
        if script not in totals:
            print("gate-counts: %s is not in ci/counts.txt (make counts)" % script)
            failed = True
            continue
        change = total / totals[script] - 1
        verdict = "FAILED" if change > TOLERANCE else "fewer: make counts keeps it" if change < -TOLERANCE else "ok"
        print("%-14s %10d, was %10d  %+.2f %%  %s" % (script, total, totals[script], change * 100, verdict))
        if abs(change) > TOLERANCE:
            explain(script, functions[script], results[script])
        failed = failed or change > TOLERANCE
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
