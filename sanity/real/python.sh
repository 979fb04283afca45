#!/usr/bin/env bash
# python.sh -- CPython, every object through malloc: dicts, json, regular expressions, sorting, threads, fork.
. "$(dirname "$0")/common.inc"
python=/usr/bin/python3
[[ -x $python ]] || python=python3
need "$python"
cat >work.py <<'END'
import collections, hashlib, json, random, re, sys, threading, multiprocessing
random.seed(42)
table = {f"key{i}": [i, i * 0.5, "v" * (i % 50)] for i in range(60000)}
for i in range(0, 60000, 3):
    del table[f"key{i}"]
text = json.dumps(table)
back = json.loads(text)
assert back == table
print(len(text), hashlib.sha256(text.encode()).hexdigest())
words = re.findall(r"v+", text)
print(sorted(collections.Counter(len(w) for w in words).items())[:10])
numbers = [random.random() for _ in range(200000)]
numbers.sort()
print(hashlib.sha256(repr(numbers[::100]).encode()).hexdigest())
big = 1
for i in range(1, 3000):
    big *= i
print(hashlib.sha256(str(big % (10 ** 4000)).encode()).hexdigest())
buffers = [bytearray(i * 37) for i in range(2000)]
for i, b in enumerate(buffers):
    b[:] = bytes([i % 256]) * len(b)
    b.extend(b"x" * 1000)
print(sum(len(b) for b in buffers), sum(b[0] for b in buffers))
results = [None] * 8
def run(n):
    d = {}
    for i in range(15000):
        d[(n, i)] = str(i) * (i % 9)
        if i % 3 == 0:
            d.pop((n, i // 2), None)
    results[n] = (len(d), sum(len(v) for v in d.values()))
threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print(results)
def square(n):
    return sum(len(str(i)) for i in [n * n] * 1000)
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(4) as pool:
        print(pool.map(square, range(300))[:20])
END
preload_works "$python" -c 'print(1)'
same "python with malloc for every object" env PYTHONMALLOC=malloc PYTHONHASHSEED=0 "$python" work.py
same "python with its own small objects" env PYTHONHASHSEED=0 "$python" work.py
