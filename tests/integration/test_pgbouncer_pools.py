# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools of single databases, aliases and roles, and what a reload of PgBouncer keeps of them."""

from __future__ import annotations

import os
from typing import Any

import psycopg
import pytest

from .poolers import PASSWORD, ROLE, Pooler
from .test_pgbouncer_options import version

OLD = version() < (1, 23, 0)
SESSION = {"name": "mydb_session", "pool_mode": "session", "pool_size": 3}


def model(role: dict[str, Any] | None = None, **more: Any) -> list[dict[str, Any]]:
    return [{"name": "mydb", "roles": [{**ROLE, **(role or {})}], **more}]


def connect(pooler: Pooler, dbname: str = "mydb") -> psycopg.Connection[Any]:
    return psycopg.connect(
        host="127.0.0.1", port=pooler.port, user="app_user", password=PASSWORD, dbname=dbname,
        autocommit=True, prepare_threshold=None,
    )  # fmt: skip


def value(connection: psycopg.Connection[Any], statement: str) -> Any:
    row = connection.execute(statement.encode()).fetchone()
    return row[0] if row else None


def shown(pooler: Pooler, command: str, name: str) -> dict[str, Any]:
    """The row of a console's table that has this name."""
    with pooler.console() as cursor:
        rows = cursor.execute(command.encode()).fetchall()
        columns = [column.name for column in cursor.description or ()]
    return next(dict(zip(columns, row, strict=True)) for row in rows if row[0] == name)


def test_an_alias_gives_sessions_to_those_who_need_them(pooler):
    pooler.configure()
    databases = model(aliases=[SESSION])
    assert pooler.predicted_and_done(databases=databases) == ["RELOAD"]
    with connect(pooler, "mydb_session") as session:
        session.execute("SET statement_timeout = '77s'")
        session.execute("CREATE TEMP TABLE mine AS SELECT 1 AS one")
        first = value(session, "SELECT pg_backend_pid()")
        with connect(pooler) as other:
            assert value(other, "SHOW statement_timeout") == "30s"
        assert value(session, "SHOW statement_timeout") == "77s"
        assert value(session, "SELECT one FROM mine") == 1
        assert value(session, "SELECT pg_backend_pid()") == first
    assert shown(pooler, "SHOW DATABASES", "mydb_session")["pool_size"] == 3
    assert pooler.predicted_and_done() == ["RELOAD"]
    with pytest.raises(psycopg.OperationalError):
        connect(pooler, "mydb_session")


def test_a_database_holds_its_pools_to_its_limit(pooler):
    databases = model(pools={"pool_size": 5, "max_db_connections": 2, "reserve_pool_size": 0})
    pooler.configure()
    assert pooler.predicted_and_done(databases=databases) == ["RELOAD"]
    row = shown(pooler, "SHOW DATABASES", "mydb")
    assert (row["pool_size"], row["max_connections"]) == (5, 2)


# What a server connection has of an entry: (option, value, statement, what it says, what happens)
OF_THE_ENTRY = [
    ("connect_query", "SET work_mem = '7MB'", "SHOW work_mem", "7MB", ["RELOAD"]),
    # Of these PgBouncer itself keeps server connections that were opened with other ones.
    ("application_name", "named", "SHOW application_name", "named", ["RELOAD", "RECONNECT"]),
    ("timezone", "Asia/Tokyo", "SHOW timezone", "Asia/Tokyo", ["RELOAD", "RECONNECT"]),
]


@pytest.mark.parametrize(("option", "setting", "statement", "answer", "actions"), OF_THE_ENTRY)
def test_what_an_entry_says_of_its_connections_holds_and_can_be_taken_back(
    pooler, option, setting, statement, answer, actions
):
    pooler.configure()
    usual = pooler.query(statement)
    assert usual != answer
    assert pooler.predicted_and_done(databases=model(pools={option: setting})) == actions
    assert pooler.query(statement) == answer
    assert pooler.predicted_and_done() == actions
    assert pooler.query(statement) == usual


ALLOWED = {"auth": "userlist"} if OLD else {}


def test_a_role_has_options_of_its_own_and_can_lose_them_again(pooler):
    pooler.configure(**ALLOWED)
    databases = model({"pools": {"pool_mode": "session", "max_user_connections": 2}})
    assert pooler.predicted_and_done(databases=databases, **ALLOWED) == ["RELOAD"]
    with connect(pooler) as session:
        session.execute("SET statement_timeout = '77s'")
        assert value(session, "SHOW statement_timeout") == "77s"
    assert shown(pooler, "SHOW USERS", "app_user")["pool_mode"] == "session"
    # PgBouncer would keep them if the entry had just gone.
    assert pooler.predicted_and_done(**ALLOWED) == ["RELOAD"]
    assert shown(pooler, "SHOW USERS", "app_user")["pool_mode"] is None
    assert pooler.query("SELECT 1") == 1


def test_options_that_a_role_was_given_by_hand_are_taken_back(pooler):
    pooler.configure(**ALLOWED)
    good = pooler.ini.read_text()
    pooler.ini.write_text(good.replace("app_user =", "app_user = pool_mode=session"))
    with pooler.console() as cursor:
        cursor.execute("RELOAD")
    pooler.ini.write_text(good)
    assert shown(pooler, "SHOW USERS", "app_user")["pool_mode"] == "session"
    assert pooler.predicted_and_done(**ALLOWED) == ["RELOAD"]
    assert shown(pooler, "SHOW USERS", "app_user")["pool_mode"] is None


@pytest.mark.skipif(not OLD, reason="later ones look such roles up")
def test_an_old_pgbouncer_does_not_let_roles_with_options_in(pooler):
    """Why pgbouncer_config refuses what this writes by hand."""
    pooler.configure()
    assert pooler.query("SELECT 1") == 1
    text = pooler.ini.read_text()
    pooler.ini.write_text(text.replace("[users]", "[users]\napp_user = pool_mode=session"))
    pooler.systemctl("restart pooled-test")
    with pytest.raises(psycopg.OperationalError, match="SASL authentication failed"):
        pooler.query("SELECT 1")
    result = pooler.configure(databases=model({"pools": {"pool_mode": "session"}}))
    assert result["msg"].startswith("role 'app_user': pools.pool_mode: PgBouncer 1.18.0 lets no")


@pytest.mark.skipif(OLD, reason="before 1.19 it logs in as its own role, with a password")
def test_an_alias_elsewhere_asks_the_database_for_verifiers(pooler):
    """PgBouncer's own role has no password here, and so no way in over TCP."""
    there = {"name": "mydb_ro", "host": "127.0.0.1", "port": pooler.cluster.port}
    pooler.predicted_and_done(databases=model(aliases=[there]))
    assert os.path.getsize(pooler.userlist) == 0
    with connect(pooler, "mydb_ro") as connection:
        assert value(connection, "SELECT inet_server_addr()::text") == "127.0.0.1/32"
