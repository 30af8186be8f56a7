-- What the load sorts and hashes: each sort or hash table takes about 30 MB, if it gets them.
CREATE TABLE facts (id int, content text);
INSERT INTO facts
SELECT i, md5(i::text) || repeat(md5((i * 7)::text), 12) FROM generate_series(1, 60000) AS i;
VACUUM ANALYZE facts;
