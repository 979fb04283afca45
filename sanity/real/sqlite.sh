#!/usr/bin/env bash
# sqlite.sh -- the sqlite3 shell: 200,000 rows in memory, an index, joins and groups, text, a database on disk.
. "$(dirname "$0")/common.inc"
need sqlite3
cat >work.sql <<'END'
CREATE TABLE t(id INTEGER PRIMARY KEY, a INTEGER, b TEXT, c REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200000)
  INSERT INTO t SELECT i, (i*7919)%10007, substr('abcdefghijklmnopqrstuvwxyz', 1+i%20, i%13)||i, i*0.25 FROM n;
CREATE INDEX t_a ON t(a); CREATE INDEX t_b ON t(b);
SELECT count(*), sum(a), sum(length(b)), total(c) FROM t;
SELECT a%10, count(*), max(b) FROM t GROUP BY a%10 ORDER BY 1;
SELECT count(*) FROM t x JOIN t y ON x.a = y.a WHERE x.id < 3000;
UPDATE t SET b = b||'-changed' WHERE a%5=0; DELETE FROM t WHERE a%7=0;
SELECT count(*), sum(length(b)), group_concat(DISTINCT a%3) FROM t;
SELECT group_concat(b) FROM (SELECT b FROM t ORDER BY b DESC LIMIT 20);
PRAGMA integrity_check;
END
preload_works sqlite3 :memory: 'select 1'
input=work.sql
same "sqlite3 in memory" sqlite3 :memory:
plain sqlite3 plain.db <work.sql >/dev/null && under sqlite3 under.db <work.sql >/dev/null || fail "on disk"
plain sqlite3 plain.db .dump >plain.dump
plain sqlite3 under.db .dump >under.dump
same_file "sqlite3 on disk" plain.dump under.dump
