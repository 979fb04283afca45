#!/usr/bin/env bash
# postgres.sh -- a postgres cluster (a process a connection, parallel workers, vacuum) under pgbench; the
# sums that pgbench's transactions keep equal are equal, and a dump can be restored.
. "$(dirname "$0")/common.inc"
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
need "${bin:-/usr/lib/postgresql/bin}/initdb" postgresql "${bin:-/usr/lib/postgresql/bin}/pgbench" postgresql runuser util-linux

as_user=()
if ((EUID == 0)); then
    as_user=(runuser -u nobody --)
    chown nobody "$work"
fi
cd "$work" || fail "cd"
"${as_user[@]}" "$bin/initdb" -D "$work/data" -A trust -U test --no-sync >"$work/initdb.log" 2>&1 || fail "initdb"
# The preload reaches postgres through runuser by env, so that runuser itself does without.
"${as_user[@]}" env LD_PRELOAD="$library" "$bin/postgres" -D "$work/data" -k "$work" -h '' -c fsync=off \
    -c shared_buffers=32MB -c max_parallel_workers_per_gather=2 -c min_parallel_table_scan_size=0 \
    -c parallel_setup_cost=0 -c autovacuum_naptime=1s >"$work/server.log" 2>&1 &
server=$!
sql() { timeout 120 "$bin/psql" -h "$work" -U test -d postgres -Atq -v ON_ERROR_STOP=1 -c "$1"; }
until_ready sql 'select 1'
postmaster=$(head -n 1 "$work/data/postmaster.pid")
has_library "$postmaster"
"$bin/pgbench" -h "$work" -U test -i -s 2 -q postgres >"$work/init.log" 2>&1 || fail "pgbench -i"
timeout $((seconds + 120)) "$bin/pgbench" -h "$work" -U test -c 8 -j 2 -T "$seconds" postgres >"$work/pgbench.log" 2>&1 ||
    fail "pgbench"
grep -q 'number of failed transactions: 0 ' "$work/pgbench.log" || fail "transactions failed"
sums=$(sql "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)
    and (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)
    and (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history)")
[[ $sums == t ]] || fail "the sums differ"
answer=$(sql "with t as (select g, md5(g::text) m from generate_series(1, 200000) g)
    select count(distinct m), sum(length(m)), (select string_agg(m, '') from (select m from t order by m limit 3) x) from t")
[[ $answer == "200000|6400000|"* ]] || fail "a large sort and aggregate answers $answer"
"$bin/pg_dump" -h "$work" -U test postgres >"$work/dump.sql" || fail "pg_dump"
sql 'create database again' && timeout 120 "$bin/psql" -h "$work" -U test -d again -q -f "$work/dump.sql" >"$work/restore.log" 2>&1
count=$(timeout 60 "$bin/psql" -h "$work" -U test -d again -Atqc 'select count(*) from pgbench_accounts')
[[ $count == 200000 ]] || fail "the restored table has $count rows"
done_count=$(sed -n 's/^number of transactions actually processed: //p' "$work/pgbench.log")
kill -INT "$postmaster"
wait "$server" || fail "postgres ended with status $?"
server=
if grep -qE 'hakmem:|PANIC|terminated by signal' "$work/server.log"; then fail "postgres or the library reports"; fi
echo "postgres: $done_count transactions"
