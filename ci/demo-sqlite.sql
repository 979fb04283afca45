-- An in-memory database for `make run`: inserts, an index, joins, updates, deletions.
PRAGMA temp_store = MEMORY;
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, note TEXT, amount INTEGER);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
INSERT INTO item SELECT i, 'name ' || (i * 7919 % 200000), substr('abcdefghijklmnopqrstuvwxyz0123456789', 1, 1 + i % 36),
                        i * 31 % 1000 FROM n;
CREATE INDEX item_name ON item (name);
CREATE TABLE total AS SELECT amount, count(*) AS n, group_concat(note, ',') AS notes FROM item GROUP BY amount;
SELECT count(*), sum(length(notes)) FROM total;
SELECT count(*) FROM item a JOIN item b ON a.name = 'name ' || b.id;
UPDATE item SET note = note || ' and ' || name WHERE amount < 300;
DELETE FROM item WHERE amount > 900;
SELECT count(*), sum(length(note)), max(name) FROM item;
SELECT count(DISTINCT upper(name) || note) FROM item;
