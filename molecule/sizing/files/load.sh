#!/bin/sh
# Has every session that the server gives to ordinary users work at the same time, each for so many transactions, and
# says as JSON how many were asked for and done, and what the kernel said before and after.
set -eu
rounds=$1
cd "$(dirname "$0")"
sql() { runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 "$@"; }

if [ -z "$(sql -c "SELECT 1 FROM pg_database WHERE datname = 'load'")" ]; then
  sql -c 'CREATE DATABASE load'
  sql -d load <load_data.sql
fi
sessions=$(sql -c "
  SELECT sum(CASE name WHEN 'max_connections' THEN 1 ELSE -1 END * setting::int) FROM pg_settings
  WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')")
before=$(sh memory_state.sh)
cp load.sql /tmp/load.sql
# It fails when sessions are cut off; that is for the reader to judge.
runuser -u postgres -- /usr/lib/postgresql/*/bin/pgbench -n -c "$sessions" -j 2 -t "$rounds" -f /tmp/load.sql load \
  >load.log 2>&1 || true
finished=$(sed -n 's,^number of transactions actually processed: \([0-9]*\).*,\1,p' load.log)
printf '{"asked": %d, "sessions": %d, "done": %d, "before": %s, "after": %s}\n' \
  $((sessions * rounds)) "$sessions" "${finished:-0}" "$before" "$(sh memory_state.sh)"
sed -n '/error\|WARNING\|FATAL/p' load.log | head -n 5 >&2
