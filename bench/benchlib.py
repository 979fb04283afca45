"""benchlib.py -- what bench/compare, bench/memory and bench/syscalls share.

Finds the allocators, builds the programs, runs one program under one allocator and returns what it
used.  Allocators are chosen by LD_PRELOAD alone; "glibc" is the run without one.  A peer that Debian
does not package comes in through the environment: PEERS="NAME=/path/lib.so NAME2=...".
"""
import glob
import os
import signal
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.path.join(ROOT, "out", "release")
OUT = os.path.join(ROOT, "out", "bench")
SUBJECT = "hakmem"
SUBJECT_LIB = os.path.join(BIN, "libhakmem.so")
DEBIAN_PEERS = (
    ("mimalloc", "libmimalloc.so.2.0"),
    ("jemalloc", "libjemalloc.so.2"),
    ("tcmalloc", "libtcmalloc_minimal.so.4"),
    ("tbbmalloc", "libtbbmalloc_proxy.so.2"),
)
SCUDO = "/usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.scudo_standalone-%s.so"
NOT_PRELOADED = "cannot be preloaded"  # the loader's words; it goes on without the library


def note(text):
    print("note: " + text, file=sys.stderr)


def die(text):
    print("%s: %s" % (os.path.basename(sys.argv[0]), text), file=sys.stderr)
    sys.exit(2)


def find_allocators(only=None):
    """{name: preload path, "" for none}, the subject first; what is missing is noted and left out."""
    found = {}
    if os.path.exists(SUBJECT_LIB):
        found[SUBJECT] = SUBJECT_LIB
    else:
        note("%s does not exist: hakmem is left out (make release)" % os.path.relpath(SUBJECT_LIB, ROOT))
    found["glibc"] = ""
    for name, library in DEBIAN_PEERS:
        paths = sorted(glob.glob("/usr/lib/*-linux-gnu/" + library))
        if paths:
            found[name] = paths[0]
        else:
            note("no %s on this machine: %s is left out" % (library, name))
    scudo = SCUDO % os.uname().machine
    if os.path.exists(scudo):
        found["scudo"] = scudo
    for word in os.environ.get("PEERS", "").split():
        name, equals, path = word.partition("=")
        if not equals or not name or name in found:
            die("PEERS wants new names as NAME=/path/lib.so, not '%s'" % word)
        if not os.path.exists(path):
            die("PEERS: %s does not exist" % path)
        found[name] = os.path.abspath(path)
    if only:
        for name in only:
            if name not in found and name != SUBJECT:
                die("no allocator named '%s' here; there are: %s" % (name, " ".join(found)))
        found = {name: path for name, path in found.items() if name in only}
    return found


def need_programs(names):
    """Builds those programs of bench/ that are missing or older than their source."""
    stale = []
    common = os.path.getmtime(os.path.join(ROOT, "bench", "common.h"))
    for name in sorted(set(names) | {"measure"}):
        source = os.path.join(ROOT, "bench", name + ".c")
        if not os.path.exists(source):
            continue  # a command of the system
        program = os.path.join(BIN, name)
        newest = max(os.path.getmtime(source), common)
        if not os.path.exists(program) or os.path.getmtime(program) < newest:
            stale.append(name)
    if stale:
        done = subprocess.run([os.path.join(ROOT, "build.sh")] + stale, stdout=subprocess.DEVNULL)
        if done.returncode != 0:
            die("./build.sh %s failed" % " ".join(stale))


def command(argv):
    """The command line of a row, with a program of bench/ at its place."""
    program = os.path.join(BIN, argv[0])
    return [program if os.path.exists(program) else argv[0]] + list(argv[1:])


def parse_line(text):
    """The fields of a benchmark's line, numbers as numbers."""
    fields = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals:
            continue
        if key == "checksum":
            fields[key] = value
            continue
        try:
            fields[key] = float(value)
        except ValueError:
            pass
    return fields


def run(argv, preload, timeout=120.0):
    """Runs a program once.  A dict of wall, cpu (s), rss (KiB, peak), faults, and the fields of its
    line; or {"error": why}."""
    with tempfile.NamedTemporaryFile(mode="r", prefix="measure.") as usage:
        process = subprocess.Popen(
            [os.path.join(BIN, "measure"), usage.name, preload] + command(argv),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace", start_new_session=True)
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: measure and its one child
            process.communicate()
            return {"error": "did not end in %g s" % timeout}
        words = usage.read().split()
    if len(words) != 6:
        return {"error": "not measured: " + errors.strip()[:200]}
    if NOT_PRELOADED in errors:
        return {"error": errors.strip()[:200]}
    status = int(words[5])
    if status != 0:
        how = "signal %d" % (status & 127) if status & 127 else "exit %d" % (status >> 8)
        return {"error": (how + " " + errors.strip())[:200]}
    result = parse_line(output)
    result.update(wall=float(words[0]), cpu=float(words[1]), rss=float(words[2]),
                  faults=float(words[3]))
    return result


def table(rows, head):
    """Lines of a text table: the first column to the left, the others to the right."""
    grid = [[str(cell) for cell in row] for row in [head] + rows]
    widths = [max(len(row[i]) for row in grid) for i in range(len(head))]
    lines = []
    for row in grid:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def machine():
    """One line on what was measured on."""
    model = "unknown CPU"
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
            for line in info:
                if line.startswith("model name"):
                    model = line.split(":", 1)[1].strip()
                    break
    except OSError:
        pass
    name = os.uname()
    return "%s, %d CPUs, %s %s %s" % (model, os.cpu_count() or 0, name.sysname, name.release, name.machine)
