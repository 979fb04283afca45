#!/usr/bin/env bash
# memcached.sh -- memcached with 4 threads under memslap's successor memcslap (where it is installed) and a
# client that knows what every answer must be.
. "$(dirname "$0")/common.inc"
need memcached memcached python3 python3

socket=$work/memcached.sock
serve memcached -u root -s "$socket" -t 4 -m 64 -o slab_automove=1
until_ready test -S "$socket"
has_library "$server"
if command -v memcslap >/dev/null; then
    timeout $((seconds + 60)) memcslap --servers="$socket" --concurrency=16 --execute-number=2000 \
        >"$work/memcslap.log" 2>&1 || fail "memcslap"
fi
timeout $((seconds + 60)) python3 - "$socket" "$seconds" <<'PY' || fail "an answer is wrong"
import random, socket, sys, threading, time

path, seconds = sys.argv[1], float(sys.argv[2])
end = time.monotonic() + seconds
counts = [0] * 8
errors = []


def value(key, version):
    size = (key * 7919 + version * 104729) % 9000
    return (b"%d:%d:" % (key, version) + b"abcdefghij" * (size // 10 + 1))[: size + 16]


def client(number):
    rng = random.Random(number)
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    f = s.makefile("rwb")
    versions = {}

    def line():
        return f.readline().rstrip()

    try:
        while time.monotonic() < end:
            for _ in range(50):
                key = rng.randrange(600)
                name = b"k%d:%d" % (number, key)
                choice = rng.randrange(10)
                if choice < 4:
                    version = versions[key] = versions.get(key, 0) + 1
                    data = value(key, version)
                    f.write(b"set %s 0 0 %d\r\n%s\r\n" % (name, len(data), data))
                    f.flush()
                    assert line() == b"STORED"
                elif choice < 9:
                    f.write(b"get %s\r\n" % name)
                    f.flush()
                    head = line()
                    if head != b"END":  # a miss is allowed: the cache may evict
                        size = int(head.split()[3])
                        data = f.read(size + 2)[:-2]
                        assert line() == b"END" and key in versions
                        assert data == value(key, versions[key]), (key, data[:40])
                else:
                    f.write(b"delete %s\r\n" % name)
                    f.flush()
                    assert line() in (b"DELETED", b"NOT_FOUND")
                    versions.pop(key, None)
                counts[number] += 1
    except Exception as error:
        errors.append((number, repr(error)))


threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
if errors:
    sys.exit(f"memcached: {errors[0]}")
print(f"memcached: {sum(counts)} checked answers")
assert sum(counts) > 100
PY
used=$(rss_mib "$server")
stop TERM
echo "memcached: peak RSS $used MiB"
