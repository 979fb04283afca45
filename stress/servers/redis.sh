#!/usr/bin/env bash
# redis.sh -- redis-server with background saves (forks of a busy process) under redis-benchmark; the data
# set has the same digest after a reload from what was saved, and redis-check-rdb finds no fault in it.
. "$(dirname "$0")/common.inc"
need redis-server redis-server redis-benchmark redis-tools redis-check-rdb redis-server

socket=$work/redis.sock
cli() { timeout 60 redis-cli -s "$socket" "$@"; }
start() {
    serve redis-server --port 0 --unixsocket "$socket" --dir "$work" --save '' --io-threads 2 \
        --enable-debug-command yes --activedefrag no --appendonly yes --appendfsync no \
        --auto-aof-rewrite-percentage 50 --auto-aof-rewrite-min-size 1mb
    until_ready cli ping
    has_library "$server"
}
start
end=$((SECONDS + seconds))
saves=0 rounds=0
while ((SECONDS < end)); do
    timeout 120 redis-benchmark -s "$socket" -q -n 5000 -c 32 -P 8 -r 20000 -d $((rounds % 5 * 150 + 3)) \
        -t set,get,incr,lpush,rpush,lpop,sadd,hset,zadd,mset >>"$work/benchmark.log" 2>&1 ||
        fail "redis-benchmark"
    cli eval 'for i = 1, 500 do redis.call("append", "log:" .. i, string.rep("x", i)) end' 0 >/dev/null
    cli bgsave >/dev/null && saves=$((saves + 1))
    rounds=$((rounds + 1))
    (($(cli llen mylist) < 200000)) || cli del mylist >/dev/null
done
grep -qiE 'error|failed' "$work/benchmark.log" && fail "redis-benchmark saw an error"
# Every value that a script of known result leaves.
for i in 1 250 500; do
    [[ $(cli strlen "log:$i") == $((i * rounds)) ]] || fail "log:$i has not the length of $rounds appends of $i"
done
for _ in {1..300}; do
    cli info persistence | grep 'rdb_bgsave_in_progress:0' >/dev/null && break
    sleep 0.1
done
cli info persistence | grep 'rdb_last_bgsave_status:ok' >/dev/null || fail "a background save failed"
cli save >/dev/null
redis-check-rdb "$work/dump.rdb" >"$work/check.log" 2>&1 || fail "redis-check-rdb"
before=$(cli debug digest)
cli debug reload >/dev/null
after=$(cli debug digest)
[[ -n $before && $before == "$after" ]] || fail "digest $before before a reload, $after after it"
cli memory purge >/dev/null
used=$(rss_mib "$server")
stop TERM
echo "redis: $rounds rounds of 50000 requests, $saves background saves, peak RSS $used MiB"
