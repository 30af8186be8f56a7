# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What databases say of themselves, and their template, that keeps the model from holding."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._access.read import (
    server,
)

from .test_postgres_access import model

COLLATIONS_MAJOR = 15
RECORDED = "UPDATE pg_database SET datcollversion = {} WHERE datname = '{}'"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TEMPLATE_PATIENCE_S", 0.5)


@pytest.mark.usefixtures("impatient")
def test_nothing_is_begun_while_somebody_is_in_the_template(clean_server, fails):
    with clean_server.connect("template1", application_name="monitor") as other:
        pid = other.info.backend_pid
        assert fails(model()) == (
            "pooled_databases: 'mydb' can't be created from database template1, which others are"
            f" connected to: pid {pid} (role 'postgres', application 'monitor'); end that, and let"
            " tools connect to the database postgres instead"
        )


def test_who_leaves_the_template_in_time_is_waited_for(clean_server, settled):
    with clean_server.connect("template1") as other:
        leaving = threading.Timer(1, other.close)
        leaving.start()
        assert settled(model())["changed"]
        leaving.join()


def test_who_is_in_the_template_does_not_matter_when_nothing_is_created(clean_server, settled):
    settled(model())
    with clean_server.connect("template1"):
        assert not settled(model())["changed"]


@pytest.fixture
def old_collations(clean_server) -> Iterator[None]:
    """As after an upgrade of the operating system, where the server remembers collations."""
    if clean_server.major >= COLLATIONS_MAJOR:
        clean_server.sql(RECORDED.format("'1.0'", "template1"))
    yield
    if clean_server.major >= COLLATIONS_MAJOR:
        clean_server.sql(RECORDED.format("NULL", "template1"))


@pytest.mark.usefixtures("old_collations")
def test_nothing_is_begun_with_a_template_of_older_collations(clean_server, fails, settled):
    if clean_server.major < COLLATIONS_MAJOR:
        assert settled(model())["changed"]
        return
    assert clean_server.refusal("CREATE DATABASE x") == "XX000"
    assert fails(model()) == (
        "pooled_databases: 'mydb' can't be created from database template1, which was made with"
        " version 1.0 of the operating system's collations, and now there is none; run REINDEX"
        " DATABASE template1 there, and then ALTER DATABASE template1 REFRESH COLLATION VERSION"
    )


def test_a_database_of_older_collations_is_reported(clean_server, settled):
    assert "warnings" not in settled(model())
    if clean_server.major < COLLATIONS_MAJOR:
        return
    clean_server.sql(RECORDED.format("'1.0'", "mydb"))
    (told,) = settled(model())["warnings"]
    assert told.startswith("database 'mydb' was made with version 1.0 of the operating system's")
    assert told.endswith(
        "run REINDEX DATABASE mydb there, and then ALTER DATABASE mydb REFRESH COLLATION VERSION"
    )
    # Where the server knows of a version, that mends it; here it knows of none.
    clean_server.sql(RECORDED.format("NULL", "mydb"))
    assert "warnings" not in settled(model())


def test_a_limit_of_the_database_is_reported(clean_server, settled):
    clean_server.sql("CREATE DATABASE mydb CONNECTION LIMIT 0")
    (told,) = settled(model())["warnings"]
    assert told.startswith("database 'mydb' takes 0 connection(s) at most, which the connection")
    remedy = told.partition("; run ")[2].partition(",")[0]
    assert clean_server.refusal("SELECT 1", "postgres", "app_user") == ""
    clean_server.sql(remedy)
    assert "warnings" not in settled(model())
    assert clean_server.refusal("SELECT 1", "mydb", "app_user") == ""


# What somebody did to the database, what the message says, and what it says to run.
UNUSABLE = [
    (
        'CREATE DATABASE "my db" ALLOW_CONNECTIONS false',
        "database 'my db' does not accept connections",
        'ALTER DATABASE "my db" ALLOW_CONNECTIONS true',
    ),
    (
        'CREATE DATABASE "my db"; UPDATE pg_database SET datconnlimit = -2'
        " WHERE datname = 'my db'",
        "database 'my db' is invalid",
        'DROP DATABASE "my db"',
    ),
]


@pytest.mark.parametrize(("done", "message", "remedy"), UNUSABLE, ids=["closed", "invalid"])
def test_a_database_that_nobody_can_enter_is_refused_with_the_way_out(
    clean_server, fails, settled, done, message, remedy
):
    for statement in done.split("; "):
        clean_server.sql(statement)
    databases = model(name="my db")
    told = fails(databases)
    assert told.startswith(message)
    assert f"run {remedy}, " in told
    clean_server.sql(remedy)
    assert settled(databases)["changed"]
