# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of [databases] and [users]."""

from __future__ import annotations

import re

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import entries

from .examples import ALIASES, NEW, OLD, model, parsed, with_pools


def described(version=NEW, names=("mydb",), **overrides):
    return entries.database_entries(
        model(*names), version, host="/run/pg", port=5433, overrides=overrides
    )


def test_database_entries():
    assert described(mydb={"pool_size": 7, "reserve_pool_size": 1, "pool_mode": None}) == {
        "mydb": {
            "host": "/run/pg",
            "port": "5433",
            "dbname": "mydb",
            "pool_size": "7",
            "reserve_pool_size": "1",
        }
    }


def test_an_old_version_has_its_own_name_for_the_reserve():
    assert described(OLD, mydb={"reserve_pool_size": 1})["mydb"]["reserve_pool"] == "1"


BAD_ENTRIES = [
    (("my db",), {}, "database 'my db': PgBouncer's configuration can't carry this name; it takes"),
    (("größe",), {}, "can't carry this name"),
    (("a*",), {}, "can't carry this name"),
    (
        ("mydb",),
        {"other": {}},
        "database_options: 'other' is not a database of pgbouncer_databases;",
    ),
    (("mydb",), {"mydb": 5}, "database_options.mydb: give a dictionary of options"),
    (
        ("mydb",),
        {"mydb": {"pool": 5}},
        "database_options.mydb.pool: PgBouncer 1.24.1 has no option",
    ),
    (("mydb",), {"mydb": {"user": "x"}}, "mydb.user: this option can't be set here: a forced user"),
    (
        ("mydb",),
        {"mydb": {"timezone": ""}},
        "mydb.timezone: PgBouncer does not accept an empty value here",
    ),
    (
        ("mydb",),
        {"mydb": {"query_wait_timeout": 5}},
        "query_wait_timeout exists since PgBouncer 1.26",
    ),
]


@pytest.mark.parametrize(("names", "overrides", "message"), BAD_ENTRIES)
def test_database_entries_refuses(names, overrides, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        described(names=names, **overrides)


def test_user_entries():
    options = {"app_user": {"pool_size": 3, "pool_mode": "session"}}
    assert entries.user_entries(model(), options, NEW) == {
        "app_user": {"pool_size": "3", "pool_mode": "session"}
    }
    with pytest.raises(
        ValueError, match=r"user_options.app_user.pool_size: .* since PgBouncer 1.23"
    ):
        entries.user_entries(model(), options, OLD)
    with pytest.raises(ValueError, match="'stranger' is not a role of pgbouncer_databases"):
        entries.user_entries(model(), {"stranger": {}}, NEW)


def test_a_role_that_is_kept_out_has_no_entry_and_no_options():
    roles = [
        {"name": "app_user", "kind": "user"},
        {"name": "batch", "kind": "user", "pooled": False},
    ]
    databases = parse_databases([{"name": "mydb", "roles": roles}])
    assert entries.user_entries(databases, {}, NEW) == {"app_user": {}}
    with pytest.raises(ValueError, match=r"^user_options: role 'batch' may not log in through"):
        entries.user_entries(databases, {"batch": {"pool_size": 3}}, NEW)


def test_user_entries_hold_the_auth_role_to_what_the_budget_counts():
    two = model("one", "two")
    assert entries.user_entries(two, {}, OLD, auth_role="pgbouncer_auth") == {
        "pgbouncer_auth": {"max_user_connections": "4"}
    }
    assert entries.user_entries((), {}, OLD, auth_role="pgbouncer_auth") == {}


def served(version=NEW, overrides=None, **more):
    return entries.database_entries(
        parsed(**more), version, host="/run/pg", port=5432, overrides=overrides or {}
    )


def test_aliases_are_served_beside_their_database():
    here = {"host": "/run/pg", "port": "5432", "dbname": "mydb"}
    there = {"host": "r1,r2", "port": "5433", "dbname": "mydb"}
    session = {**here, "pool_mode": "session", "pool_size": "4"}
    assert served(aliases=ALIASES) == {
        "mydb": here,
        "mydb_session": session,
        "mydb_ro": {**there, "auth_dbname": "mydb"},
    }
    assert served(OLD, aliases=ALIASES)["mydb_ro"] == there


def test_variables_win_over_the_models_pools():
    pools = {"pool_size": 9, "reserve_pool_size": 2, "timezone": "UTC"}
    overrides = {"mydb": {"pool_size": 3, "timezone": None}, "mydb_session": {"pool_size": 1}}
    entries = served(OLD, overrides, pools=pools, aliases=ALIASES)
    assert entries["mydb"]["pool_size"] == "3"
    assert entries["mydb"]["reserve_pool"] == "2"
    assert "timezone" not in entries["mydb"]
    assert entries["mydb_session"]["pool_size"] == "1"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"pools": {"pool_siz": 3}},
         "database 'mydb': pools.pool_siz: PgBouncer 1.18.0 has no option 'pool_siz'; did"),
        ({"pools": {"server_lifetime": 3}},
         "database 'mydb': pools.server_lifetime: option server_lifetime exists since PgBouncer 1"),
        ({"aliases": [{"name": "x", "pool_mode": "sesion"}]},
         "database 'mydb': alias 'x': pool_mode: 'sesion' is not allowed; give one of session,"),
        ({"aliases": [{"name": "my db"}]},
         "database 'my db': PgBouncer's configuration can't carry this name; it takes letters"),
        ({"aliases": [{"name": "x", "user": "root"}]},
         "database 'mydb': alias 'x': user: this option can't be set here: a forced user takes"),
    ],
)  # fmt: skip
def test_aliases_and_pools_that_are_refused(more, message):
    with pytest.raises(ValueError) as caught:
        served(OLD, **more)
    assert str(caught.value).startswith(message)


def test_every_role_has_an_entry_that_takes_options_back():
    assert entries.user_entries(parsed(), {}, NEW, auth_role="auth") == {
        "auth": {"max_user_connections": "2"},
        "app_user": {},
    }
    # Before 1.23 a user with an entry is not looked up, and can't log in.
    assert entries.user_entries(parsed(), {}, OLD, auth_role="auth") == {
        "auth": {"max_user_connections": "2"}
    }
    assert entries.user_entries(parsed(), {}, OLD) == {"app_user": {}}


def test_a_roles_pools():
    databases = with_pools("app_user", pool_size=3, pool_mode="session")
    assert entries.user_entries(
        databases, {"app_user": {"pool_size": 5, "pool_mode": None}}, NEW
    ) == {"app_user": {"pool_size": "5"}}
    for broken, version, role, message in (
        (databases, OLD, "", "role 'app_user': pools.pool_size: option pool_size exists since"),
        (with_pools("app_user", pool_mode="session"), OLD, "auth",
         "role 'app_user': pools.pool_mode: PgBouncer 1.18.0 lets no role with options of its own"
         " log in by auth_query; give the database an alias with these options, set"
         " pgbouncer_auth: userlist, or install PgBouncer 1.23 or newer"),
        (with_pools("Größe", pool_size=3), NEW, "",
         "role 'Größe': pools.pool_size: PgBouncer's configuration can't carry the name 'Größe';"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(message)):
            entries.user_entries(broken, {}, version, auth_role=role)


@pytest.mark.parametrize(
    ("version", "aliases", "auth_role", "expected"),
    [
        (OLD, ALIASES, "auth", "mydb_ro"),
        (OLD, ALIASES[:1], "auth", ""),
        (OLD, ALIASES, "", ""),
        (NEW, ALIASES, "auth", ""),
    ],
)
def test_needs_own_password(version, aliases, auth_role, expected):
    databases = parsed(aliases=aliases)
    assert entries.needs_own_password(databases, version, auth_role) == expected
