# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools of single databases, aliases and roles, and what a reload of PgBouncer keeps of them."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import psycopg
import pytest

from .poolers import PASSWORD, ROLE, Pooler

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
    assert pooler.row_of("SHOW DATABASES", "mydb_session")["pool_size"] == 3
    assert pooler.predicted_and_done() == ["RELOAD"]
    with pytest.raises(psycopg.OperationalError):
        connect(pooler, "mydb_session")


def test_a_setting_meets_other_clients_until_the_pools_reconnect(pooler):
    """Not what PgBouncer keeps apart itself, nor SET LOCAL, nor of an alias for sessions."""
    pooler.configure(databases=model(aliases=[SESSION]), options={"default_pool_size": 1})
    usual, zone = (pooler.query(f"SHOW {name}") for name in ("search_path", "timezone"))
    with connect(pooler, "mydb_session") as session:
        session.execute("SET search_path = theirs")
    with connect(pooler, "mydb_session") as session:
        assert value(session, "SHOW search_path") == usual
    with connect(pooler) as polite, polite.transaction():
        polite.execute("SET LOCAL search_path = theirs")
        assert value(polite, "SHOW search_path") == "theirs"
    assert pooler.query("SHOW search_path") == usual
    with connect(pooler) as setting, connect(pooler) as there:
        setting.execute("SET search_path = theirs; SET timezone = 'Asia/Tokyo'")
        assert value(setting, "SHOW timezone") == "Asia/Tokyo"
        assert value(there, "SHOW timezone") == zone
        assert value(there, "SHOW search_path") == "theirs"
    assert pooler.query("SHOW search_path") == "theirs"
    with pooler.console() as console:
        console.execute("RECONNECT")
    assert pooler.query("SHOW search_path") == usual


def test_a_database_holds_its_pools_to_its_limit(pooler):
    databases = model(pools={"pool_size": 5, "max_db_connections": 2, "reserve_pool_size": 0})
    pooler.configure()
    assert pooler.predicted_and_done(databases=databases) == ["RELOAD"]
    row = pooler.row_of("SHOW DATABASES", "mydb")
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


@pytest.fixture
def allowed(pooler: Pooler) -> dict[str, str]:
    """With this a role may have options: before 1.23 it could not log in otherwise."""
    return {"auth": "userlist"} if pooler.program.version < (1, 23) else {}


def test_a_role_has_options_of_its_own_and_can_lose_them_again(pooler, allowed):
    pooler.configure(**allowed)
    databases = model({"pools": {"pool_mode": "session", "max_user_connections": 2}})
    assert pooler.predicted_and_done(databases=databases, **allowed) == ["RELOAD"]
    with connect(pooler) as session:
        session.execute("SET statement_timeout = '77s'")
        assert value(session, "SHOW statement_timeout") == "77s"
    assert pooler.row_of("SHOW USERS", "app_user")["pool_mode"] == "session"
    # PgBouncer would keep them if the entry had just gone.
    assert pooler.predicted_and_done(**allowed) == ["RELOAD"]
    assert pooler.row_of("SHOW USERS", "app_user")["pool_mode"] is None
    assert pooler.query("SELECT 1") == 1


def test_options_that_a_role_was_given_by_hand_are_taken_back(pooler, allowed):
    pooler.configure(**allowed)
    good = pooler.ini.read_text()
    pooler.ini.write_text(good.replace("app_user =", "app_user = pool_mode=session"))
    with pooler.console() as cursor:
        cursor.execute("RELOAD")
    pooler.ini.write_text(good)
    assert pooler.row_of("SHOW USERS", "app_user")["pool_mode"] == "session"
    assert pooler.predicted_and_done(**allowed) == ["RELOAD"]
    assert pooler.row_of("SHOW USERS", "app_user")["pool_mode"] is None


@pytest.mark.pgbouncer(since=(1, 23))
def test_a_roles_pool_has_its_own_size(pooler):
    """Up to 1.25, SHOW USERS shows the next user, who has no size, with this one's."""
    roles = [{**ROLE, "pools": {"pool_size": 1}}, {"name": "zoe", "kind": "reader"}]
    pooler.configure()
    databases = [{"name": "mydb", "roles": roles}]
    assert pooler.predicted_and_done(databases=databases) == ["RELOAD"]
    with connect(pooler) as first, connect(pooler) as second:
        first.execute("BEGIN")
        waiting = threading.Thread(target=second.execute, args=("SELECT 1",))
        waiting.start()
        try:
            for _try in range(2400):
                pool = pooler.row_of("SHOW POOLS", "mydb")
                if pool["cl_waiting"]:
                    break
                time.sleep(0.05)
            assert (pool["cl_active"], pool["cl_waiting"], pool["sv_active"]) == (1, 1, 1)
        finally:
            first.execute("ROLLBACK")
            waiting.join()
    assert pooler.predicted_and_done() == ["RELOAD"]


@pytest.mark.pgbouncer(before=(1, 23))
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
    assert result["msg"].startswith(
        f"role 'app_user': pools.pool_mode: PgBouncer {pooler.program} lets no role"
    )


@pytest.mark.pgbouncer(since=(1, 19))
def test_an_alias_elsewhere_asks_the_database_for_verifiers(pooler):
    """The auth file names nobody but PgBouncer's own roles, whom no server knows by a password."""
    there = {"name": "mydb_ro", "host": "127.0.0.1", "port": pooler.cluster.port}
    pooler.predicted_and_done(databases=model(aliases=[there]))
    named = re.findall(r'^"([^"]+)"', pooler.userlist.read_text(), re.MULTILINE)
    assert named == ["pgbouncer", "pgbouncer_auth"]
    with connect(pooler, "mydb_ro") as connection:
        assert value(connection, "SELECT inet_server_addr()::text") == "127.0.0.1/32"


@pytest.mark.pgbouncer(since=(1, 24))
def test_the_choice_among_several_hosts_can_be_changed_and_taken_back(pooler):
    """PgBouncer shows it only of an entry that has several hosts."""
    pooler.configure()
    several = {"host": "127.0.0.1,localhost"}
    for options, shown in (
        ({"load_balance_hosts": "disable"}, None),
        (several, "round-robin"),
        ({**several, "load_balance_hosts": "disable"}, "disable"),
        (several, "round-robin"),
        ({}, None),
    ):
        assert pooler.predicted_and_done(database_options={"mydb": options}) == ["RELOAD"]
        assert pooler.row_of("SHOW DATABASES", "mydb")["load_balance_hosts"] == shown
    assert pooler.query("SELECT 1") == 1
