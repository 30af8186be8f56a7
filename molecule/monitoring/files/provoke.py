# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything at once that the alerts about a server are about, until told to stop.

Runs as the OS user postgres on the server's host. SIGTERM ends it, and what it did.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2

STOPPED = threading.Event()
WAITS = "max_locks_per_transaction"
SETTINGS = {WAITS: "100", "archive_command": "/bin/false"}
XIDS = 6000
FILL = 0.93


def connect(**more: Any) -> Any:
    given = {"host": "/var/run/postgresql", "dbname": "mydb", "application_name": "provoke", **more}
    return psycopg2.connect(**given)


def run(*statements: str, dbname: str = "mydb") -> None:
    """Statements outside of transactions."""
    connection = connect(dbname=dbname, application_name="provoke once")
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def hold(*statements: str) -> Any:
    """A session whose transaction stays open."""
    connection = connect()
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    return connection


def again_and_again(work: Callable[[], None], pause_s: float = 1) -> None:
    """A thread that does the same until the end, whatever comes of it."""

    def loop() -> None:
        while not STOPPED.wait(pause_s):
            with contextlib.suppress(psycopg2.Error):
                work()

    threading.Thread(target=loop, daemon=True).start()


def deadlock() -> None:
    """Two transactions that lock two rows in different orders."""
    barrier = threading.Barrier(2, timeout=10)

    def lock(first: int, second: int) -> None:
        connection = connect()
        with contextlib.suppress(psycopg2.Error, threading.BrokenBarrierError):
            cursor = connection.cursor()
            cursor.execute("UPDATE quarrel SET n = n + 1 WHERE id = %s", (first,))
            barrier.wait()
            cursor.execute("UPDATE quarrel SET n = n + 1 WHERE id = %s", (second,))
        connection.close()

    threads = [threading.Thread(target=lock, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def write() -> None:
    """WAL, full files of it, and checkpoints."""
    run("UPDATE busy SET content = md5(content)", "CHECKPOINT", "SELECT pg_switch_wal()")


def read() -> None:
    """Blocks that are not in memory, because they were just written anew."""
    run("VACUUM FULL cold", "SELECT sum(length(content)) FROM cold")


def spill() -> None:
    """Temporary files."""
    run(
        "SET work_mem = '64kB'",
        "SELECT count(*) FROM (SELECT n FROM generate_series(1, 50000) AS n ORDER BY -n OFFSET 1)"
        " AS sorted",
    )


def damage() -> None:
    """A page that is not what was written; it is not in memory, so that it is read."""
    run(
        "CREATE TABLE damaged AS SELECT n FROM generate_series(1, 1000) AS n",
        "VACUUM FULL damaged",
        "CHECKPOINT",
    )
    connection = connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('data_directory'), pg_relation_filepath('damaged')")
        path = Path(*cursor.fetchone())
    connection.close()
    with path.open("r+b") as file:
        file.seek(8192 + 4000)
        file.write(b"not what was written")
    with contextlib.suppress(psycopg2.Error):
        run("SELECT sum(n) FROM damaged")


def superuser_over_tcp() -> Any:
    """An application that connects as superuser."""
    password = secrets.token_hex(16)
    run(f"CREATE ROLE careless SUPERUSER LOGIN PASSWORD '{password}'")
    return connect(host="127.0.0.1", user="careless", password=password)


def fill() -> Iterator[Any]:
    """Sessions until the server is nearly full."""
    while True:
        connection = connect()
        yield connection
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT (SELECT count(*) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend')"
                " >= %s * (current_setting('max_connections')::int"
                " - current_setting('superuser_reserved_connections')::int)",
                (FILL,),
            )
            if cursor.fetchone()[0]:
                return


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_arguments: STOPPED.set())
    run(
        "CREATE TABLE provoked (id int PRIMARY KEY, content text) WITH (autovacuum_enabled = off)",
        "INSERT INTO provoked SELECT n, n FROM generate_series(1, 2000) AS n",
        "UPDATE provoked SET content = 'x'",
        "CREATE TABLE busy AS SELECT md5(n::text) AS content FROM generate_series(1, 5000) AS n",
        "CREATE TABLE cold AS SELECT * FROM busy",
        "CREATE INDEX unused ON busy (content)",
        "CREATE TABLE quarrel AS SELECT id, 0 AS n FROM generate_series(1, 2) AS id",
        f"DO $$BEGIN FOR i IN 1..{XIDS} LOOP PERFORM txid_current(); COMMIT; END LOOP; END$$",
        *(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in SETTINGS.items()),
        "SELECT pg_reload_conf()",
    )
    damage()
    hold("SELECT 1 AS prepared", "CREATE TABLE later ()", "PREPARE TRANSACTION 'forgotten'").close()
    held = [superuser_over_tcp(), hold("SELECT 1 AS idle", "LOCK TABLE provoked")]
    for statement in ("SELECT pg_sleep(3600)", "SELECT count(*) FROM provoked"):
        threading.Thread(target=lambda text=statement: quietly(text), daemon=True).start()
    again_and_again(deadlock, 2)
    for work in (write, read, spill):
        again_and_again(work)
    held += fill()
    print("ready", flush=True)
    STOPPED.wait()

    connection = connect()
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {WAITS}")
        running = cursor.fetchone()[0]
    connection.close()
    run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'provoke'",
        "ROLLBACK PREPARED 'forgotten'",
        # A session forgets that a setting waits only when the file says again what the server runs
        # with, and reads the file with its next statement: the exporter's with the next scrape.
        f"ALTER SYSTEM SET {WAITS} = {running}",
        "ALTER SYSTEM RESET archive_command",
        "SELECT pg_reload_conf()",
        "SELECT pg_sleep(8)",
        f"ALTER SYSTEM RESET {WAITS}",
        "SELECT pg_reload_conf()",
        "DROP TABLE damaged",
        "DROP ROLE careless",
        "VACUUM (FREEZE)",
        "SELECT pg_stat_reset()",
        "ANALYZE provoked",
    )


def quietly(statement: str) -> None:
    """A statement that is ended from outside."""
    with contextlib.suppress(psycopg2.Error):
        hold(statement)


if __name__ == "__main__":
    main()
