-- A checksum of each table's rows, and where the sequences are.
SELECT format('SELECT %L, count(*), md5(string_agg(t::text, E''\n'' ORDER BY t::text)) FROM ONLY %s t;', c.oid::regclass, c.oid::regclass)
  FROM pg_class c WHERE relkind IN ('r', 'm') AND relnamespace::regnamespace::text !~ '^(pg_|information)' ORDER BY c.oid
\gexec
SELECT format('SELECT %L, last_value, is_called FROM %s;', c.oid::regclass, c.oid::regclass)
  FROM pg_class c WHERE relkind = 'S' ORDER BY c.oid
\gexec
SELECT 'started', pg_postmaster_start_time();
