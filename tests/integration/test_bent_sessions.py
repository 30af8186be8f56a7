# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever server, database and login say about sessions, ours do what they are for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]
# When a run that waits for what never comes is freed: it has to end long before.
FREED_AFTER_S = 120
OURS = "-c synchronous_commit=local -c default_transaction_read_only=off -c role=none"
OURS += " -c statement_timeout=0 -c lock_timeout=0 -c exit_on_error=off -c search_path=public"
MODEL = [
    {
        "name": "mydb",
        "extensions": ["hstore"],
        "roles": [
            # A value that SQL has to quote, and one that only a real interval can carry.
            {"name": "app_user", "kind": "user", "settings": {"my.path": "a\\b 'c'"}},
            {"name": "app_migrator", "kind": "migrator"},
        ],
    }
]
# What anybody might have set, and from which major on it can be.
BENDING = {
    "synchronous_commit": ("remote_apply", 13),
    "statement_timeout": ("1ms", 13),
    "lock_timeout": ("1ms", 13),
    "idle_in_transaction_session_timeout": ("1ms", 13),
    "idle_session_timeout": ("300ms", 14),
    "transaction_timeout": ("200ms", 17),
    "default_transaction_read_only": ("on", 13),
    "default_transaction_deferrable": ("on", 13),
    "default_transaction_isolation": ("serializable", 13),
    "standard_conforming_strings": ("off", 13),
    "exit_on_error": ("on", 13),
    "DateStyle": ("German", 13),
    "IntervalStyle": ("sql_standard", 13),
    "TimeZone": ("Asia/Kathmandu", 13),
    "bytea_output": ("escape", 13),
    "row_security": ("on", 13),
    "quote_all_identifiers": ("on", 13),
    "transform_null_equals": ("on", 13),
    "client_min_messages": ("debug5", 13),
    "search_path": ("nowhere", 13),
    "jit": ("on", 13),
}
# Who says it, with what takes it back; a role can say who a session is, too.
SAYERS = {
    "server": ("ALTER SYSTEM", "ALTER SYSTEM RESET ALL"),
    "database": ("ALTER DATABASE {db}", "ALTER DATABASE {db} RESET ALL"),
    "login": ("ALTER ROLE postgres", "ALTER ROLE postgres RESET ALL"),
}


@pytest.fixture(scope="module")
def bent(major: int, make_cluster: Callable[[int], Any]) -> Iterator[Any]:
    """A server whose commits wait for a standby that isn't there."""
    cluster = make_cluster(major)
    with cluster.connect(options=OURS) as connection:
        connection.execute('ALTER SYSTEM SET synchronous_standby_names = \'ANY 1 ("pg-2","pg-3")\'')
        connection.execute("SELECT pg_reload_conf()")
    yield cluster
    cluster.stop()


def run(cluster: Any, statement: str, dbname: str = "postgres") -> list[Any]:
    """Rows of a statement in a session that waits for nobody."""
    with cluster.connect(dbname, options=OURS) as connection:
        cursor = connection.execute(statement.encode())
        return list(cursor.fetchall()) if cursor.description else []


@contextmanager
def freed(cluster: Any, after_s: float = 15) -> Iterator[list[int]]:
    """Free what waits for the standby after a while; yields the processes that had to be."""
    found: list[int] = []
    over = threading.Event()

    def free() -> None:
        while not over.wait(0.5):
            for (pid,) in run(
                cluster,
                "SELECT pid FROM pg_stat_activity WHERE CASE WHEN wait_event = 'SyncRep' AND"
                f" clock_timestamp() - query_start > interval '{after_s} s'"
                " THEN pg_cancel_backend(pid) END",
            ):
                found.append(pid)

    thread = threading.Thread(target=free)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


@contextmanager
def bending(cluster: Any, sayer: str) -> Iterator[None]:
    """Say all of it, in the words of one who may; take it back with sessions that nothing bends."""
    says, takes_back = SAYERS[sayer]
    places = ("postgres", "mydb") if sayer == "database" else ("",)
    settings = dict(BENDING)
    if sayer == "login":
        settings["role"] = ("bystander", 13)
    with cluster.connect(options=OURS) as admin:
        try:
            for place in places:
                for name, (value, since) in settings.items():
                    if cluster.major >= since:
                        verb = says.format(db=place)
                        admin.execute(f"{verb} SET {name} = '{value}'".encode())
            loaded = "SELECT extract(epoch FROM pg_conf_load_time())::text"
            ((before,),) = run(cluster, loaded)
            admin.execute("SELECT pg_reload_conf()")
            while run(cluster, loaded) == [(before,)]:
                time.sleep(0.02)
            yield
        finally:
            # The session's own options keep it as it is, but for a timeout between statements.
            with cluster.connect(options=OURS) as last:
                for place in places:
                    last.execute(takes_back.format(db=place).encode())
                if sayer == "server":
                    last.execute(
                        'ALTER SYSTEM SET synchronous_standby_names = \'ANY 1 ("pg-2","pg-3")\''
                    )
                last.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("sayer", list(SAYERS))
def test_our_sessions_are_bent_by_nobody(bent: Any, run_module: Run, sayer: str) -> None:
    for name in ("mydb",):
        run(bent, f"DROP DATABASE IF EXISTS {name}")
    for name in ("app_user", "app_migrator", "bystander"):
        run(bent, f"DROP ROLE IF EXISTS {name}")
    run(bent, "CREATE ROLE bystander")
    run(bent, "CREATE DATABASE mydb")
    args = {**bent.login, "databases": MODEL}
    with freed(bent) as waited, bending(bent, sayer):
        predicted = run_module("postgres_access", args, check=True)
        result = run_module("postgres_access", args)
        again = run_module("postgres_access", args)
        audit = run_module("postgres_audit_info", {**bent.login, "databases": MODEL})
    assert waited == [], "a COMMIT of ours waited for a standby"
    for ended in (predicted, result, again, audit):
        assert not ended.get("failed"), ended["msg"]
    assert predicted["statements"] == result["statements"] != []
    assert again["statements"] == []
    found = run(bent, "SELECT rolconfig FROM pg_roles WHERE rolname = 'app_user'")
    assert "my.path=a\\b 'c'" in found[0][0]
    run(bent, "CREATE TABLE t (i int); ALTER TABLE t OWNER TO app_migrator", "mydb")
    assert run(bent, "SELECT has_schema_privilege('app_user', 'public', 'USAGE')", "mydb")[0][0]


def test_a_run_that_lacks_a_standby_is_named_at_once(bent: Any, run_module: Run) -> None:
    """As one of an earlier version, or anybody's who takes its lock, may do."""
    args = {**bent.login, "databases": MODEL}
    over = threading.Event()

    def first() -> None:
        with bent.connect(options="-c synchronous_commit=on") as connection:
            connection.execute("SET application_name = 'first'")
            connection.execute("SELECT pg_advisory_lock(1886349164, 1)")
            over.set()
            connection.execute("CREATE ROLE waits_for_standby")

    with freed(bent, after_s=FREED_AFTER_S):
        thread = threading.Thread(target=first)
        thread.start()
        assert over.wait(10)
        started = time.monotonic()
        result = run_module("postgres_access", args)
        took = time.monotonic() - started
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        ((pid,),) = run(bent, waiting)
        run(bent, f"SELECT pg_cancel_backend({pid})")
        thread.join()
    assert result["failed"]
    assert result["msg"].startswith(
        "another run against this server waits for a synchronous standby to confirm its COMMIT: a"
        f" lock of type advisory is held by pid {pid} (role 'postgres', application 'first', active"
    )
    assert "waiting for SyncRep" in result["msg"]
    assert f"SELECT pg_cancel_backend({pid})" in result["msg"]
    assert 9 < took < FREED_AFTER_S
    run(bent, "DROP ROLE waits_for_standby")


def test_a_prepared_transaction_that_holds_a_lock_is_named(
    make_cluster: Callable[[int], Any], major: int, run_module: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.pooled.postgres.plugins.module_utils._access import (
        apply,
    )
    from ansible_collections.pooled.postgres.plugins.module_utils._sql import (
        connection as sql_connection,
    )

    cluster = make_cluster(major)
    cluster.sql("ALTER SYSTEM SET max_prepared_transactions = 5")
    cluster.restart()
    args = {**cluster.login, "databases": MODEL}
    assert not run_module("postgres_access", args).get("failed")
    cluster.sql("CREATE TABLE t (i int)", "mydb", "app_migrator")
    cluster.sql("REVOKE SELECT ON t FROM app_user", "mydb")
    wait_s = 3
    monkeypatch.setattr(apply, "LOCK_TIMEOUT_S", wait_s)
    monkeypatch.setitem(sql_connection.SESSION, "lock_timeout", f"{wait_s}s")
    # One that a catalog can't be read for, and one whose row can't be changed.
    for gid, statement in (
        ("an app's", "LOCK TABLE pg_largeobject_metadata"),
        ("x", "ALTER TABLE t ADD c int"),
    ):
        quoted = gid.replace("'", "''")
        cluster.sql(f"BEGIN; {statement}; PREPARE TRANSACTION '{quoted}'", "mydb", "postgres")
        for _restarted in range(2):
            result = run_module("postgres_access", args)
            assert result["failed"]
            expected = f"held by prepared transaction {gid!r} (role 'postgres', prepared for"
            assert expected in result["msg"]
            assert "ROLLBACK PREPARED ends in database 'mydb'" in result["msg"]
            cluster.restart()
        cluster.sql(f"ROLLBACK PREPARED '{quoted}'", "mydb")
    assert not run_module("postgres_access", args).get("failed")
    assert cluster.sql("SELECT has_table_privilege('app_user', 't', 'SELECT')", "mydb") == [(True,)]
    cluster.stop()
