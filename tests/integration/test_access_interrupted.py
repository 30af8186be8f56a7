# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""postgres_access killed in the middle, in two processes at once, and behind others' locks."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._access import apply
from ansible_collections.pooled.postgres.plugins.module_utils._sql import (
    connection as sql_connection,
)

from . import faults
from .clusters import INSTALLED

POOLER = "pgbouncer_auth"
WAIT_S = 3
TABLES = """
CREATE TABLE t1 (i serial); CREATE TABLE t2 (i int); CREATE FUNCTION f() RETURNS int LANGUAGE sql
AS 'SELECT 1'; CREATE TYPE mood AS ENUM ('good'); GRANT TRUNCATE ON t1 TO app_user;
"""
INSIDE = """
SELECT relname::text, relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT proname::text, proacl::text FROM pg_proc
           WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT 'default ' || defaclobjtype::text || defaclrole::regrole::text, defaclacl::text
            FROM pg_default_acl
UNION ALL SELECT 'schema', nspacl::text FROM pg_namespace WHERE nspname = 'public'
UNION ALL SELECT 'database', datacl::text FROM pg_database WHERE datname = current_database()
"""
ROLES = """
UNION ALL SELECT rolname::text, setconfig::text FROM pg_db_role_setting
            JOIN pg_roles r ON r.oid = setrole
UNION ALL SELECT rolname::text, concat(rolcanlogin, rolbypassrls, rolconnlimit) FROM pg_roles
           WHERE rolname LIKE 'app%'
"""
ORDER = " ORDER BY 1, 2"


def role(name, kind, **more):
    return {"name": name, "kind": kind, **more}


def model(name="mydb", **more):
    return {
        "name": name,
        "roles": [
            role("app_user", "user", password="user's secret", connection_limit=20),
            role("app_migrator", "migrator", password="migrator's secret"),
            role("app_admin", "admin"),
        ],
        **more,
    }


def arguments(server, *databases, **more):
    return {**server.login, "databases": list(databases), "pooler_role": POOLER, **more}


def kill_at(monkeypatch, point, after):
    """Let the module's process die at its nth statement: before the server has it, or after."""
    execute = apply.execute
    count = 0

    def dying(connection, statement):
        nonlocal count
        count += 1
        if count == point and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        execute(connection, statement)
        if count == point and after:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(apply, "execute", dying)
    return execute


def run_to_its_death(run_module, args):
    """Whether the module was killed: then it has printed nothing."""
    try:
        result = run_module("postgres_access", args)
    except pytest.fail.Exception as failure:
        assert "printed no JSON:\n\n" in str(failure)
        return True
    assert not result.get("failed"), result.get("msg")
    return False


def prepare_drift(server):
    """A server with something of everything to do: roles, a database to make, one to mend."""
    server.clean()
    server.sql("CREATE ROLE app_migrator LOGIN; CREATE ROLE app_user LOGIN CREATEDB")
    server.sql("CREATE DATABASE mydb")
    server.sql("GRANT CREATE ON SCHEMA public TO app_migrator", "mydb")
    server.sql(TABLES, "mydb", "app_migrator")


def test_killed_at_each_statement(clean_server, run_module, monkeypatch):
    args = arguments(clean_server, model(), model("other", schemas=["app"]))
    prepare_drift(clean_server)
    untouched = clean_server.sql(INSIDE + ORDER, "mydb")
    whole = run_module("postgres_access", args)
    assert not whole.get("failed"), whole.get("msg")
    expected = [clean_server.sql(INSIDE + ROLES + ORDER, name) for name in ("mydb", "other")]
    mended = clean_server.sql(INSIDE + ORDER, "mydb")
    assert mended != untouched
    original = apply.execute
    killed = 0
    # After one statement and before the next are the same place; a commit lies between some.
    step = faults.STRIDE if clean_server.major == max(INSTALLED) else 5
    for point in range(1, 1000, step):
        prepare_drift(clean_server)
        kill_at(monkeypatch, point, after=point % 2 == 0)
        died = run_to_its_death(run_module, args)
        monkeypatch.setattr(apply, "execute", original)
        if not died:
            break
        killed += 1
        assert clean_server.sql(INSIDE + ORDER, "mydb") in (untouched, mended), point
        result = run_module("postgres_access", args)
        assert not result.get("failed"), (point, result.get("msg"))
        again = run_module("postgres_access", args)
        assert again["statements"] == [], point
        found = [clean_server.sql(INSIDE + ROLES + ORDER, name) for name in ("mydb", "other")]
        assert found == expected, point
    assert killed > len(whole["statements"]) / step


def test_two_models_for_one_database_at_once(clean_server, run_module):
    """Each wants something else of the same roles and database: one after the other, both whole."""
    first = arguments(clean_server, model())
    second = arguments(clean_server, model())
    second["databases"][0]["roles"][0] |= {"connection_limit": 7, "password": "another secret"}
    second["databases"][0]["roles"].append(role("app_reader", "reader"))
    run_module("postgres_access", first)
    clean_server.sql(TABLES, "mydb", "app_migrator")
    for _attempt in range(3):
        with ThreadPoolExecutor() as pool:
            results = list(
                pool.map(lambda args: run_module("postgres_access", args), [first, second])
            )
        assert [result.get("msg") for result in results] == [None, None]
        limits = clean_server.sql("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'app_user'")
        secret = {20: "user's secret", 7: "another secret"}[limits[0][0]]
        assert clean_server.can_log_in("app_user", secret, "mydb")
    assert run_module("postgres_access", second).get("msg") is None
    assert run_module("postgres_access", second)["statements"] == []


@pytest.fixture
def impatient(monkeypatch):
    """Waits that are worth a test's time."""
    monkeypatch.setattr(apply, "LOCK_TIMEOUT_S", WAIT_S)
    monkeypatch.setitem(sql_connection.SESSION, "lock_timeout", f"{WAIT_S}s")
    monkeypatch.setattr(apply, "OTHER_RUN_TIMEOUT_S", WAIT_S)
    monkeypatch.setattr(apply, "LOOK_AFTER_S", 0.3)


def test_run_that_does_not_end_is_named(clean_server, run_module, impatient):
    with clean_server.connect(application_name="an endless run") as other:
        other.execute("SELECT pg_advisory_lock(1886349164, 1)")
        pid = other.info.backend_pid
        result = run_module("postgres_access", arguments(clean_server, model()))
    assert result["failed"]
    assert result["msg"] == (
        f"another run against this server has not ended for {WAIT_S} s: a lock of type advisory is"
        f" held by pid {pid} (role 'postgres', application 'an endless run', idle);"
        " run again when it has"
    )
    assert clean_server.sql("SELECT 1 FROM pg_roles WHERE rolname = 'app_user'") == []


def test_somebody_else_with_the_lock_is_not_waited_for(clean_server, run_module):
    """Anybody can take an advisory lock; only a role that could run this is taken for a run."""
    clean_server.sql('CREATE ROLE "red\x1b[31m" LOGIN')
    with clean_server.connect(user="red\x1b[31m", application_name="x") as other:
        other.execute("SELECT pg_advisory_lock(1886349164, 1)")
        pid = other.info.backend_pid
        started = time.monotonic()
        result = run_module("postgres_access", arguments(clean_server, model()))
    assert time.monotonic() - started < apply.OTHER_RUN_TIMEOUT_S
    assert result["failed"]
    assert result["msg"] == (
        "the lock that keeps runs apart is not held by a run: a lock of type advisory is held by"
        f" pid {pid} (role 'red\\x1b[31m', application 'x', idle), which may make no roles;"
        " end that session, and find out why it takes pg_advisory_lock(1886349164, 1)"
    )


# What somebody else does in an open transaction, in which database, and what is waited for.
HELD = [
    ("ALTER TABLE t2 ADD COLUMN more int", "mydb", "rights on tables in public"),
    ("DROP TABLE t2", "mydb", "rights on tables in public"),
    (
        "LOCK TABLE pg_catalog.pg_default_acl",
        "mydb",
        "the server's catalogs could not be read",
    ),
    ("ALTER ROLE app_user CONNECTION LIMIT 3", "postgres", "role 'app_user'"),
]


@pytest.mark.parametrize(("statement", "dbname", "subject"), HELD, ids=[item[0] for item in HELD])
def test_locks_of_others_are_not_waited_for_for_ever(
    clean_server, run_module, impatient, statement, dbname, subject
):
    args = arguments(clean_server, model())
    prepare_drift(clean_server)
    with clean_server.connect(dbname, application_name="migration") as other:
        pid = other.info.backend_pid
        other.execute("BEGIN")
        other.execute(statement)
        result = run_module("postgres_access", args)
        assert result["failed"]
        assert not result["changed"] or {i["database"] for i in result["statements"]} == {""}
        assert f"{subject}: gave up after {WAIT_S} s of waiting for a lock: " in result["msg"]
        assert f"held by pid {pid} (role 'postgres', application 'migration'" in result["msg"]
        assert "; run again when that session is done, or end it" in result["msg"]
        other.execute("ROLLBACK")
    assert not run_module("postgres_access", args).get("failed")
    assert run_module("postgres_access", args)["statements"] == []


def test_exclusively_locked_table_of_a_migration(clean_server, run_module, impatient):
    """LOCK TABLE alone does not keep anybody from granting; if it does, the wait ends."""
    args = arguments(clean_server, model())
    prepare_drift(clean_server)
    with clean_server.connect("mydb", "app_migrator") as other:
        other.execute("BEGIN; LOCK TABLE t1, t2 IN ACCESS EXCLUSIVE MODE")
        result = run_module("postgres_access", args)
        other.execute("ROLLBACK")
    if result.get("failed"):
        assert "gave up after" in result["msg"]
        run_module("postgres_access", args)
    assert run_module("postgres_access", args)["statements"] == []


def test_migration_that_commits_meanwhile_does_no_harm(clean_server, run_module):
    """The row that was waited for has changed: the server refuses once, and the next try works."""
    args = arguments(clean_server, model())
    prepare_drift(clean_server)
    before = len(clean_server.log())
    with clean_server.connect("mydb", "app_migrator") as other:
        other.execute("BEGIN; ALTER TABLE t2 ADD COLUMN more int; ALTER TABLE t1 ADD c int")
        committer = threading.Timer(2.0, lambda: other.execute("COMMIT"))
        committer.start()
        result = run_module("postgres_access", args)
        committer.join()
    assert not result.get("failed"), result.get("msg")
    assert run_module("postgres_access", args)["statements"] == []
    assert clean_server.refusal("SELECT * FROM t2, t1", "mydb", "app_user") == ""
    assert "tuple concurrently updated" in clean_server.log()[before:]


def test_deadlock_is_tried_again(clean_server, run_module):
    """Somebody else takes the same rows in another order, and the run gives way."""
    args = arguments(clean_server, model())
    prepare_drift(clean_server)
    before = len(clean_server.log())
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
    with clean_server.connect("mydb", "app_migrator") as other, ThreadPoolExecutor() as pool:
        other.execute("BEGIN; GRANT EXECUTE ON FUNCTION f() TO PUBLIC")
        run = pool.submit(run_module, "postgres_access", args)
        while clean_server.sql(waiting) == [(0,)]:
            time.sleep(0.02)
        other.execute("GRANT SELECT ON t1 TO app_user")
        other.execute("COMMIT")
        result = run.result()
    assert "deadlock detected" in clean_server.log()[before:]
    assert not result.get("failed"), result.get("msg")
    assert run_module("postgres_access", args)["statements"] == []
