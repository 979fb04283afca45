#!/usr/bin/env bash
# python.sh -- a python program with 8 threads and child processes, every result checked; its own arenas
# are off (PYTHONMALLOC=malloc), so that each object is a block of the library's.
. "$(dirname "$0")/common.inc"
need python3 python3

timeout $((seconds + 120)) env LD_PRELOAD="$library" PYTHONMALLOC=malloc python3 - "$seconds" "$library" \
    >"$work/python.log" 2>&1 <<'PY' || fail "python"
import hashlib, json, os, queue, random, re, sys, threading, time, zlib

seconds, library = float(sys.argv[1]), sys.argv[2]
assert library in open("/proc/self/maps").read()
end = time.monotonic() + seconds
handed = queue.Queue(200)
counts, errors = [0] * 8, []


def document(rng):
    return {"id": rng.random(), "names": ["n%d" % rng.randrange(10**6) for _ in range(rng.randrange(80))],
            "text": "word " * rng.randrange(2000), "deep": [[i] * (i % 7) for i in range(rng.randrange(60))]}


def work(number):
    rng = random.Random(number)
    try:
        while time.monotonic() < end:
            made = document(rng)
            text = json.dumps(made)
            assert json.loads(text) == made
            packed = zlib.compress(text.encode(), rng.randrange(1, 7))
            try:
                handed.put_nowait((packed, hashlib.sha256(text.encode()).digest()))
                other, digest = handed.get_nowait()  # made by another thread, freed here
                assert hashlib.sha256(zlib.decompress(other)).digest() == digest
            except (queue.Full, queue.Empty):
                pass
            table = {str(i): bytes(rng.randrange(300)) for i in range(500)}
            assert sum(len(v) for v in table.values()) == sum(map(len, table.values()))
            assert len(re.findall(r"word", made["text"])) * 5 == len(made["text"])
            if rng.randrange(40) == 0:
                child = os.fork()
                if child == 0:
                    os._exit(0 if json.loads(text) == made and zlib.decompress(packed) == text.encode() else 3)
                assert os.waitpid(child, 0)[1] == 0
            counts[number] += 1
    except BaseException as error:
        errors.append(repr(error))


threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
if errors or sum(counts) == 0:
    sys.exit(f"errors: {errors[:2]}")
print(f"python: {sum(counts)} rounds")
PY
grep '^python:' "$work/python.log" || fail "no closing line"
