# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""postgres_monitor against the oldest and the newest server; what differs by major is nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.integration.conftest import INSTALLED

# Trusted, and in every build.
EXTENSION = "plpgsql"
SETTINGS = [
    "ALTER ROLE prometheus SET search_path = 'pg_catalog'",
    "ALTER ROLE prometheus SET default_transaction_read_only = 'on'",
    "ALTER ROLE prometheus SET statement_timeout = '30s'",
]
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module", params=sorted({min(INSTALLED), max(INSTALLED)}), ids=str)
def monitored(request: pytest.FixtureRequest, make_cluster: Callable[[int], Any]) -> Iterator[Any]:
    cluster = make_cluster(request.param)
    with cluster.connect() as connection:
        connection.execute("CREATE DATABASE mydb")
        connection.execute("REVOKE CONNECT ON DATABASE mydb FROM PUBLIC")
    yield cluster
    cluster.stop()


def options(cluster: Any, **more: Any) -> dict[str, Any]:
    return {**cluster.login, "databases": ["mydb"], "extensions": [EXTENSION], **more}


def test_from_nothing_to_the_role_and_back_from_drift(monitored: Any, run_module: Run) -> None:
    predicted = run_module("postgres_monitor", options(monitored), check=True)
    done = run_module("postgres_monitor", options(monitored))
    assert (
        done["statements"]
        == predicted["statements"]
        == [
            "CREATE ROLE prometheus LOGIN",
            "GRANT pg_monitor TO prometheus",
            *SETTINGS,
            "GRANT CONNECT ON DATABASE postgres TO prometheus",
            "GRANT CONNECT ON DATABASE mydb TO prometheus",
        ]
    )
    again = run_module("postgres_monitor", options(monitored))
    assert (again["changed"], again["statements"]) == (False, [])

    with monitored.connect("mydb", "prometheus") as connection:
        queries = connection.execute("SELECT query FROM pg_stat_activity WHERE pid <> 0").fetchall()
        assert all(query != ("<insufficient privilege>",) for query in queries)
        connection.execute("SELECT setting FROM pg_settings WHERE name = 'data_directory'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT rolpassword FROM pg_authid")
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE SCHEMA theirs")

    with monitored.connect() as connection:
        connection.execute("CREATE ROLE powerful")
        connection.execute("GRANT powerful TO prometheus")
        connection.execute("ALTER ROLE prometheus SUPERUSER CREATEDB")
        connection.execute("REVOKE CONNECT ON DATABASE mydb FROM prometheus")
    mended = run_module("postgres_monitor", options(monitored))
    assert mended["statements"] == [
        "ALTER ROLE prometheus NOSUPERUSER NOCREATEDB",
        "REVOKE powerful FROM prometheus",
        "GRANT CONNECT ON DATABASE mydb TO prometheus",
    ]
    assert not run_module("postgres_monitor", options(monitored))["changed"]


def test_settings_are_exact(monitored: Any, run_module: Run) -> None:
    """Whoever has changed them, also the role itself, and in one database."""
    run_module("postgres_monitor", options(monitored))
    with monitored.connect("mydb", "prometheus") as connection:
        assert connection.execute("SHOW search_path").fetchone() == ("pg_catalog",)
        assert connection.execute("SHOW statement_timeout").fetchone() == ("30s",)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TEMP TABLE t ()")
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("ALTER ROLE prometheus SET search_path = public")
        connection.execute("ALTER ROLE prometheus IN DATABASE mydb SET search_path = public")
    mended = run_module("postgres_monitor", options(monitored))
    assert mended["statements"] == [
        "ALTER ROLE prometheus IN DATABASE mydb RESET ALL",
        SETTINGS[0],
    ]
    assert "search_path=public" in mended["diff"]["before"]
    assert not run_module("postgres_monitor", options(monitored))["changed"]
    with monitored.connect() as connection:
        connection.execute("ALTER ROLE prometheus SET work_mem = '1GB'")
    mended = run_module("postgres_monitor", options(monitored))
    assert mended["statements"] == ["ALTER ROLE prometheus RESET ALL", *SETTINGS]
    assert not run_module("postgres_monitor", options(monitored))["changed"]


def test_what_is_not_there_changes_nothing(monitored: Any, run_module: Run) -> None:
    role = "other"
    failed = run_module("postgres_monitor", options(monitored, name=role, databases=["nowhere"]))
    assert failed["msg"] == "databases: there is no nowhere on the server"
    failed = run_module("postgres_monitor", options(monitored, name=role, extensions=["nothing"]))
    assert failed["msg"] == (
        "extensions: nothing can't be created; install the server's package of extensions"
        " (contrib), or leave them out"
    )
    with monitored.connect() as connection:
        query = "SELECT count(*) FROM pg_roles WHERE rolname = %s"
        assert connection.execute(query, (role,)).fetchone() == (0,)


def test_check_mode_foresees_a_server_that_is_not_there(run_module: Run) -> None:
    foreseen = run_module(
        "postgres_monitor",
        {"login_unix_socket": "/nowhere", "databases": ["mydb"], "assume_new": True},
        check=True,
    )
    assert foreseen["statements"] == [
        "CREATE ROLE prometheus LOGIN",
        "GRANT pg_monitor TO prometheus",
        *SETTINGS,
        "GRANT CONNECT ON DATABASE postgres TO prometheus",
        "GRANT CONNECT ON DATABASE mydb TO prometheus",
        "CREATE SCHEMA pooled_extensions",
        "CREATE EXTENSION pg_stat_statements SCHEMA pooled_extensions",
        "GRANT USAGE ON SCHEMA pooled_extensions TO prometheus",
    ]
    failed = run_module("postgres_monitor", {"login_unix_socket": "/nowhere"}, check=True)
    assert failed["msg"].startswith("can't connect to the server: ")
