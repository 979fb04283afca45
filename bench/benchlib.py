"""benchlib.py -- what bench/compare, bench/memory, bench/syscalls and ci/gate-ratios.sh share.

Finds the allocators, builds the programs, runs one program under one allocator and returns what it
used.  Allocators are chosen by LD_PRELOAD alone; "glibc" is the run without one.  A peer that Debian
does not package comes in through the environment: PEERS="NAME=/path/lib.so NAME2=...".
"""
import glob
import hashlib
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILDS = os.path.join(ROOT, os.environ.get("OUT") or "out")
BIN = os.path.join(BUILDS, "release")
OUT = os.path.join(BUILDS, "bench")
WARM_MIB = 256  # touched before a run; measure.c says why
SERVERS = ("redis", "memcached")  # applications that answer a load generator; their script has the figures
SUBJECT = "hakmem"
SUBJECT_LIB = os.path.join(BIN, "libhakmem.so")
DEBIAN_PEERS = (
    ("mimalloc", "libmimalloc.so.[23]*"),
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
        done = subprocess.run([os.path.join(ROOT, "build.sh")] + stale, stdout=subprocess.DEVNULL,
                              env=dict(os.environ, OUT=BUILDS))
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


def trace_path(name):
    """The trace of bench/traces/, unpacked."""
    return os.path.join(OUT, "traces", name + ".trc")


def need_traces(names):
    for name in names:
        packed = os.path.join(ROOT, "bench", "traces", name + ".trc.xz")
        plain = trace_path(name)
        if os.path.exists(plain) and os.path.getmtime(plain) > os.path.getmtime(packed):
            continue
        os.makedirs(os.path.dirname(plain), exist_ok=True)
        with lzma.open(packed) as source, open(plain + ".%d" % os.getpid(), "wb") as target:
            shutil.copyfileobj(source, target)
        os.rename(plain + ".%d" % os.getpid(), plain)


def app_script(name):
    return os.path.join(ROOT, "bench", "apps", name)


def need_app(name):
    """Generates an application's input; False, with a note, when a program is missing."""
    needs = subprocess.run([app_script(name), "needs"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    missing = [program for program in needs if not shutil.which(program)]
    if missing:
        note("no %s here: the application %s is left out (ci/setup --bench)" % (" ".join(missing), name))
        return False
    folder = os.path.join(OUT, "input", name)
    done = os.path.join(folder, ".done")
    newest = max(os.path.getmtime(app_script(name)), os.path.getmtime(app_script("common.inc")))
    if not os.path.exists(done) or os.path.getmtime(done) < newest:
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        made = subprocess.run([app_script(name), "prepare"], env=dict(os.environ, APP_INPUT=folder),
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if made.returncode != 0:
            note("bench/apps/%s prepare failed: %s" % (name, made.stderr.strip()[:300]))
            return False
        with open(done, "w", encoding="ascii"):
            pass
    return True


def run_process(line, environment, folder, timeout):
    """(output, errors, timed out) of a command in a session of its own, so that all of it can be ended."""
    process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, errors="replace", start_new_session=True, env=environment, cwd=folder)
    try:
        output, errors = process.communicate(timeout=timeout)
        return output, errors, False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return "", "", True


def measured(line, preload, warm, environment, folder, timeout):
    """Runs a command line under measure: (its output, {wall, cpu, rss, peak, faults} or {"error": why})."""
    with tempfile.NamedTemporaryFile(mode="r", prefix="measure.") as usage:
        output, errors, late = run_process([os.path.join(BIN, "measure"), usage.name, preload, "%d" % warm] + line,
                                           environment, folder, timeout)
        if late:
            return "", {"error": "did not end in %g s" % timeout}
        words = usage.read().split()
    if len(words) != 6:
        return "", {"error": "not measured: " + errors.strip()[:200]}
    if NOT_PRELOADED in errors:
        return "", {"error": errors.strip()[:200]}
    status = int(words[5])
    if status != 0:
        how = "signal %d" % (status & 127) if status & 127 else "exit %d" % (status >> 8)
        return "", {"error": (how + " " + errors.strip())[:200]}
    return output, {"wall": float(words[0]), "cpu": float(words[1]), "rss": float(words[2]), "peak": float(words[2]),
                    "faults": float(words[3])}


def run(argv, preload, timeout=120.0, warm=WARM_MIB):
    """Runs a program once, after `warm` MiB were touched.  A dict of wall, cpu (s), rss, peak (KiB; rss
    apart from a replay's own), faults, and the fields of its line; or {"error": why}."""
    output, figures = measured(command(argv), preload, warm, None, None, timeout)
    if "error" in figures:
        return figures
    result = parse_line(output)
    result.update(figures)
    if "rss_mib" in result and "live_mib" in result:  # a replay: memory apart from its own
        result["rss"] = result["rss_mib"] * 1024
    return result


def run_app(name, preload, timeout=120.0, idle=None, warm=WARM_MIB):
    """Runs an application once, as run does; what it printed counts as its checksum."""
    environment = dict(os.environ, APP_PRELOAD=preload, APP_INPUT=os.path.join(OUT, "input", name))
    if idle:
        environment["APP_IDLE"] = str(idle)
    with tempfile.TemporaryDirectory(prefix="app.") as folder:
        output, figures = measured([app_script(name), "run"], "", warm, environment, folder, timeout)
    if "error" in figures:
        return figures
    result = {"checksum": hashlib.sha1(output.encode("utf-8", "replace")).hexdigest()[:16]}
    result.update(figures)
    if name in SERVERS:
        served = parse_line(output)
        for key in ("cpu", "rss", "faults"):
            if "server_" + key not in served:
                return {"error": "no figures of the server: " + output[:200]}
            result[key] = served["server_" + key]
        if "rss_idle" in served:
            result["rss_idle"] = served["rss_idle"]
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
