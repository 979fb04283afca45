#!/usr/bin/env bash
# redis.sh -- redis-server, built with its own jemalloc replaced by libc's malloc where Debian does so, serves
# redis-benchmark, saves in the background by fork, expires, answers the same, and reloads what it saved.
. "$(dirname "$0")/common.inc"
need redis-server redis-benchmark redis-cli
socket=$work/redis.sock
cli() { timeout 20 redis-cli -s "$socket" "$@"; }

start() { # start under|plain
    if [[ $1 == under ]]; then
        LD_PRELOAD=$HAKMEM_LIB redis-server --port 0 --unixsocket "$socket" --dir "$work" --save '' \
            --appendonly no --daemonize no >server.log 2>&1 &
    else
        redis-server --port 0 --unixsocket "$socket" --dir "$work" --save '' >server.log 2>&1 &
    fi
    server=$!
    for _ in {1..200}; do
        [[ $(cli ping 2>/dev/null) == PONG ]] && return
        sleep 0.05
    done
    fail "redis-server does not answer: $(tail -n 5 server.log)"
}

stop() {
    cli shutdown nosave 2>/dev/null
    local status=0
    wait "$server" || status=$?
    server=
    ((status == 0)) || fail "redis-server ended with $status: $(tail -n 20 server.log)"
}

load() { # the same data each time, and what the server says about it
    seq 1 20000 | awk '{ printf "SET key:%d %s%d\r\nLPUSH list:%d v%d\r\nHSET hash:%d f%d %d\r\nZADD z %d m%d\r\n",
        $1, substr("abcdefghijklmnopqrstuvwxyz", 1, $1 % 26), $1, $1 % 50, $1, $1 % 100, $1, $1, $1 * 7 % 1000, $1 }' |
        timeout 60 redis-cli -s "$socket" --pipe | tail -n 1
    cli eval 'for i=1,5000 do redis.call("APPEND","key:"..i,string.rep("y",i%300)) end
              for i=1,20000,3 do redis.call("DEL","key:"..i) end return redis.call("DBSIZE")' 0
    cli zrange z 0 50 withscores
    cli debug digest 2>/dev/null
    cli strlen key:4998
}

start plain
load >plain.txt
stop
start under
grep -q hakmem "/proc/$server/maps" || fail "the library is not in the server's maps"
load >under.txt
same_file "answers" plain.txt under.txt
cli bgsave >/dev/null || fail "bgsave"
timeout 60 redis-benchmark -s "$socket" -q -n 5000 -c 20 -P 4 -d 200 \
    -t set,get,incr,lpush,lpop,sadd,hset,spop,zadd,mset >bench.txt 2>&1 || fail "redis-benchmark: $(tail -n 3 bench.txt)"
grep -q 'requests per second' bench.txt || fail "redis-benchmark printed no figures: $(tail -c 300 bench.txt)"
for _ in {1..200}; do
    cli info persistence | grep 'rdb_bgsave_in_progress:0' >/dev/null && break
    sleep 0.05
done
cli info persistence | grep 'rdb_last_bgsave_status:ok' >/dev/null || fail "the background save failed"
cli flushall >/dev/null
[[ $(cli dbsize) == 0 ]] || fail "flushall left keys"
stop
start under
[[ $(cli strlen key:4998) == "$(tail -n 1 plain.txt)" ]] || fail "the saved data did not come back"
stop
echo "redis: ok"
