# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""URLs are read by SQLAlchemy, and the code is run, with only the engine's connecting left out."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from hypothesis import given, strategies as st
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from ansible_collections.pooled.postgres.plugins.module_utils._client_settings import (
    DRIVERS,
    ClientSettings,
    client_settings,
)

SERVER = {"host": "db1", "port": 5433}
OLD = {"host": "pool1", "version": "1.18.0", "default_pool_size": 25}
NEW = {"host": "pool2", "port": 6433, "version": "1.24.1", "default_pool_size": 25}
DIALECTS = {"asyncpg": PGDialect_asyncpg, "psycopg": PGDialect_psycopg}
ROLES = [
    {"name": "app_user", "kind": "user"},
    {"name": "app_reader", "kind": "reader"},
    {"name": "app_migrator", "kind": "migrator"},
    {"name": "app_admin", "kind": "admin"},
]


def settings(
    client: dict[str, Any] | None = None, poolers: Any = (NEW,), server: Any = None
) -> dict[str, ClientSettings]:
    server = SERVER if server is None else server
    clients = [{"name": "api", "role": "app_user", **client}] if client else []
    model = [{"name": "mydb", "roles": ROLES, "clients": clients}]
    return {entry.client: entry for entry in client_settings(model, server, poolers)}


def executed(entry: ClientSettings, driver: str) -> Any:
    """What the code gives to create_engine() or create_async_engine()."""
    place = "sqlalchemy.ext.asyncio.create_async_engine"
    with mock.patch(place if driver == "asyncpg" else "sqlalchemy.create_engine") as create:
        exec(entry.code[driver].partition("def run_migrations")[0].replace(  # noqa: S102
            "from alembic import context\n", ""), {})  # fmt: skip
    return create.call_args


@pytest.mark.parametrize(
    ("role", "via", "where"),
    [
        ("app_user", "pgbouncer", ("pool2", 6433)),
        ("app_reader", "pgbouncer", ("pool2", 6433)),
        ("app_migrator", "direct", ("db1", 5433)),
        ("app_admin", "direct", ("db1", 5433)),
    ],
)
@pytest.mark.parametrize("driver", DRIVERS)
def test_each_kind_goes_its_way(role: str, via: str, where: tuple[str, int], driver: str) -> None:
    entry = settings()[role]
    url = make_url(entry.urls[driver])
    assert entry.via == via
    assert (url.host, url.port, url.username, url.database) == (*where, role, "mydb")
    assert url.password is None
    assert url.drivername == f"postgresql+{driver}"


def test_a_role_that_is_kept_out_of_the_pool_goes_to_postgres() -> None:
    roles = [{"name": name, "kind": "user", "pooled": False} for name in ("batch", "idle")]
    clients = [{"name": "nightly", "role": "batch", "via": "direct"}]
    model = [{"name": "mydb", "roles": roles, "clients": clients}]
    entries = client_settings(model, SERVER, (NEW,))
    assert [(entry.client, entry.via, entry.warnings) for entry in entries] == [
        ("nightly", "direct", ()),
        ("idle", "direct", ()),
    ]
    assert "db1:5433" in entries[1].urls["libpq"]


def test_without_a_pooler_everybody_goes_to_postgres() -> None:
    assert {entry.via for entry in settings(poolers=()).values()} == {"direct"}


@pytest.mark.parametrize("driver", DRIVERS)
def test_several_poolers_are_one_url(driver: str) -> None:
    six = {**NEW, "host": "fd00::1"}
    url = make_url(settings(poolers=(OLD, six))["app_user"].urls[driver])
    _nothing, arguments = DIALECTS[driver]().create_connect_args(url)
    hosts, ports = arguments["host"], arguments["port"]
    if driver == "asyncpg":
        assert (hosts, ports) == (["pool1", "fd00::1"], [6432, 6433])
    else:
        assert (hosts, ports) == ("pool1,fd00::1", "6432,6433")


@given(
    role=st.text(
        st.characters(exclude_categories=["C"], exclude_characters="\x7f"), min_size=1, max_size=15
    )
)
def test_names_survive_the_url(role: str) -> None:
    if role in ("public", "none") or role.startswith("pg_"):
        return
    model = [{"name": f"db {role}"[:15], "roles": [{"name": role, "kind": "user"}]}]
    (entry,) = client_settings(model, SERVER)
    for driver, name in (("asyncpg", "database"), ("psycopg", "dbname")):
        _nothing, found = DIALECTS[driver]().create_connect_args(make_url(entry.urls[driver]))
        assert (found["user"], found[name]) == (role, model[0]["name"])
        assert (found["host"], found["port"]) == ("db1", 5433)


@pytest.mark.parametrize("poolers", [(OLD,), (NEW,)])
def test_through_pgbouncer_nothing_is_prepared_by_name(poolers: Any) -> None:
    entry = settings(poolers=poolers)["app_user"]
    asyncpg = executed(entry, "asyncpg").kwargs["connect_args"]
    assert asyncpg.pop("prepared_statement_name_func")() == ""
    assert asyncpg == {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "server_settings": {"application_name": "app_user"},
    }
    psycopg = executed(entry, "psycopg").kwargs["connect_args"]
    assert psycopg["prepare_threshold"] is None


@pytest.mark.parametrize("driver", DRIVERS)
def test_code_and_data_say_the_same(driver: str) -> None:
    for entry in settings({"pool_size": 7, "max_overflow": 3}).values():
        call = executed(entry, driver)
        assert call.args == (entry.urls[driver],)
        given_by_code = dict(call.kwargs)
        pool = given_by_code.pop("poolclass", None)
        assert (pool is NullPool) == (entry.kind in ("migrator", "admin"))
        given_by_code["connect_args"].pop("prepared_statement_name_func", None)
        assert given_by_code == entry.engine_arguments[driver]


def test_a_clients_own_pool_is_taken() -> None:
    entry = settings({"pool_size": 7, "max_overflow": 3})["api"]
    for driver in DRIVERS:
        arguments = entry.engine_arguments[driver]
        assert (arguments["pool_size"], arguments["max_overflow"]) == (7, 3)
        assert arguments["pool_pre_ping"] is True
    assert entry.engine_arguments["psycopg"]["connect_args"]["application_name"] == "api"


TLS = {**NEW, "ssl_mode": "verify-full", "ca_cert": "/etc/ssl/our ca.pem"}


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca"])
def test_certificates_are_verified_by_both_drivers(mode: str) -> None:
    entry = settings(poolers=({**TLS, "ssl_mode": mode},))["app_user"]
    with mock.patch("ssl.create_default_context") as create:
        create.return_value.check_hostname = True
        context = executed(entry, "asyncpg").kwargs["connect_args"]["ssl"]
    create.assert_called_once_with(cafile="/etc/ssl/our ca.pem")
    assert context.check_hostname is (mode == "verify-full")
    psycopg = executed(entry, "psycopg").kwargs["connect_args"]
    assert (psycopg["sslmode"], psycopg["sslrootcert"]) == (mode, "/etc/ssl/our ca.pem")
    assert "sslmode=" + mode in entry.urls["libpq"]


def test_tls_without_an_authority_of_ones_own_is_a_word() -> None:
    entry = settings(poolers=({**NEW, "ssl_mode": "require"},))["app_user"]
    assert executed(entry, "asyncpg").kwargs["connect_args"]["ssl"] == "require"


def test_alembics_code_is_python() -> None:
    for driver in DRIVERS:
        code = settings()["app_migrator"].code[driver]
        compile(code, "env.py", "exec")
        assert "context.run_migrations()" in code


PREPARED = (
    "PgBouncer does not track prepared statements here: without exactly these arguments api meets"
    " statements of other clients"
)


@pytest.mark.parametrize(
    ("client", "poolers", "warnings"),
    [
        ({"pool_size": 10, "max_overflow": 10}, (NEW,), ()),
        ({"pool_size": 10, "max_overflow": 10}, (OLD,), (PREPARED,)),
        ({}, ({**NEW, "max_prepared_statements": 0},), (PREPARED,)),
        ({}, ({**OLD, "version": "1.21.0", "max_prepared_statements": 50},), ()),
        ({}, ({**OLD, "version": "1.22.1"},), (PREPARED,)),
        (
            {"pool_size": 20, "max_overflow": 6},
            (NEW,),
            (
                "each process of api may hold 26 connections, and PgBouncer serves app_user through"
                " 25: more than 25 transactions at once wait there; lower pool_size + max_overflow,"
                " or raise the pool",
            ),
        ),
        (
            {"role": "app_migrator"},
            (NEW,),
            (
                "api runs migrations through PgBouncer, where session locks, SET and temporary"
                " tables do not last beyond a transaction; connect it with via: direct",
            ),
        ),
        (
            {"via": "direct", "replicas": 2, "workers": 2, "pool_size": 5, "max_overflow": 0},
            (NEW,),
            (
                "api connects directly, not through PgBouncer: each of its 20 connections is one of"
                " the server's",
            ),
        ),
        (
            {},
            (),
            (
                "api has via: pgbouncer, but there is no PgBouncer host: it connects to Postgres"
                " directly",
            ),
        ),
    ],
)
def test_a_client_that_contradicts_what_was_deployed_is_warned(
    client: dict[str, Any], poolers: Any, warnings: tuple[str, ...]
) -> None:
    assert settings({"name": "api", **client}, poolers)["api"].warnings == warnings


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("db1", "server: give a dictionary, not str"),
        ({"host": ""}, "server.host: '' is not a valid host name or address for clients"),
        ({"host": "a b"}, "server.host: 'a b' is not a valid host name or address for clients"),
        ({"host": "db1", "port": 0}, "server.port: 0 is not a whole number of at least 1"),
        (
            {"host": "db1", "port": 65536},
            "server.port: 65536 is not a valid port; give at most 65535",
        ),
        (
            {"host": "db1", "ssl_mode": "verify"},
            "server.ssl_mode: 'verify' is not a valid TLS mode; choose one of disable, allow,"
            " prefer, require, verify-ca, verify-full",
        ),
        (
            {"host": "db1", "ssl_mode": "require", "ca_cert": "/ca"},
            "server.ca_cert: it is only used with ssl_mode verify-ca or verify-full",
        ),
    ],
)
def test_bad_addresses_are_refused_by_name(server: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        settings(server=server)
    assert str(caught.value) == message
