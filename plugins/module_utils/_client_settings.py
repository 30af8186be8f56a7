# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How SQLAlchemy and Alembic connect to what was deployed: URLs, engine arguments, warnings."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping
from urllib.parse import quote

from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections.pools import (
    Pooler,
    parse_poolers,
    with_model,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model import keepalives
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Client,
    Database,
    Role,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases

DRIVERS = ("asyncpg", "psycopg")
POOLED_KINDS = ("user", "reader")
# In front of a server that keeps prepared statements per client, every way to connect works.
PREPARED_STATEMENTS_VERSION = (1, 21)
PREPARED_STATEMENTS_DEFAULT_VERSION = (1, 24)
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_POOL_RECYCLE_S = 300
_DATABASE_ARGUMENT = {"asyncpg": "database", "psycopg": "dbname"}
_RUN = """

def run_migrations(connection) -> None:
    context.configure(connection=connection, target_metadata=target_metadata)
    with context.begin_transaction():
        context.run_migrations()


with engine.connect() as connection:
    run_migrations(connection)
""".splitlines()
_RUN_ASYNC = """

def run_migrations(connection) -> None:
    context.configure(connection=connection, target_metadata=target_metadata)
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    async with engine.connect() as connection:
        await connection.run_sync(run_migrations)


asyncio.run(main())
""".splitlines()
# The server's own, from the client's side: docs/operating.md.
_KEEPALIVES = {
    "keepalives_idle": keepalives.IDLE_S,
    "keepalives_interval": keepalives.INTERVAL_S,
    "keepalives_count": keepalives.COUNT,
}


@dataclass(frozen=True)
class Address:
    """Where to connect to, as clients see it. C(ca_cert) is a path on the clients' hosts."""

    host: str
    port: int
    ssl_mode: str = ""
    ca_cert: str = ""


@dataclass(frozen=True)
class PoolerAddress:
    """A PgBouncer host: its address, and what decides how clients must use it."""

    address: Address
    keeps_prepared_statements: bool
    pools: Pooler | None  # None when nobody says how large they are

    def pool_size(self, database: str, role: str) -> int:
        """Connections with which it serves a role; 0 when that is not known."""
        if self.pools is None:
            return 0
        return self.pools.processes * self.pools.usual_pool(database, role)


@dataclass(frozen=True)
class ClientSettings:
    """How one client, or one role that no client of the model uses, connects.

    C(urls) have no passwords: drivers take them from PGPASSWORD or a password file.
    C(engine_arguments) are those of create_async_engine() or create_engine() as plain data.
    C(code) is Python with them and with what plain data can't hold; for a migrator it is a fragment
    of Alembic's env.py.
    """

    database: str
    role: str
    kind: str
    client: str
    via: str
    urls: Mapping[str, str]
    engine_arguments: Mapping[str, Mapping[str, Any]]
    code: Mapping[str, str]
    warnings: tuple[str, ...]


def client_settings(
    databases: Any,
    server: Mapping[str, Any],
    poolers: Iterable[Mapping[str, Any]] = (),
) -> tuple[ClientSettings, ...]:
    """How each client of the model connects, in the model's order.

    Args:
        databases: the model, as pooled_databases.
        server: C(host), C(port), C(ssl_mode) and C(ca_cert) of Postgres as clients see it.
        poolers: the same for each PgBouncer host, and C(version), C(max_prepared_statements),
            C(default_pool_size), C(processes), and C(databases) and C(users) as the connection
            budget has them.

    Raises:
        ValueError: for bad input, naming it.
    """
    direct = _address("server", server, 5432)
    model = parse_databases(databases)
    pooled = tuple(
        _pooler(f"poolers[{number}]", entry, model) for number, entry in enumerate(poolers)
    )
    return tuple(
        _settings(database, role, client, direct, pooled)
        for database in model
        for role in database.roles
        for client in _clients_of(database, role)
    )


def path_of_cluster(path: str, cluster: str, others: Iterable[str | None]) -> str:
    """Where the settings of a cluster are written: a path that others have too gets its name."""
    if os.path.normpath(path) not in {os.path.normpath(other) for other in others if other}:
        return path
    stem, ending = os.path.splitext(path)
    # Clusters without a name of their own have that of a host, which may be an address.
    return f"{stem}-{re.sub('[^A-Za-z0-9._-]', '_', cluster)}{ending}"


def _clients_of(database: Database, role: Role) -> list[Client | None]:
    clients: list[Client | None] = [
        client for client in database.clients if client.role == role.name
    ]
    return clients or [None]


def _settings(
    database: Database,
    role: Role,
    client: Client | None,
    direct: Address,
    poolers: tuple[PoolerAddress, ...],
) -> ClientSettings:
    pooled = role.pooled and role.kind in POOLED_KINDS
    wish = client.via if client else ("pgbouncer" if pooled else "direct")
    via = wish if poolers else "direct"
    addresses = tuple(pooler.address for pooler in poolers) if via == "pgbouncer" else (direct,)
    name = client.name if client else role.name
    served = client.alias if client and client.alias and via == "pgbouncer" else database.name
    urls = {
        "libpq": _libpq_url(addresses, role.name, served),
        **{driver: _url(driver, addresses, role.name, served) for driver in DRIVERS},
    }
    arguments = {
        driver: _engine_arguments(driver, role, client, via, name, addresses[0])
        for driver in DRIVERS
    }
    return ClientSettings(
        database.name,
        role.name,
        role.kind,
        name,
        via,
        urls,
        arguments,
        {
            driver: _code(driver, role, via, urls[driver], arguments[driver], addresses[0])
            for driver in DRIVERS
        },
        tuple(_warnings(database, role, client, via, poolers)),
    )


def _engine_arguments(
    driver: str, role: Role, client: Client | None, via: str, name: str, address: Address
) -> dict[str, Any]:
    """Arguments of create_engine(), without those that plain data can't hold.

    Through PgBouncer nothing is prepared by name: that works with any version, and a migration
    can't leave a pooled connection with a plan of what no longer is.
    """
    connect: dict[str, Any] = {}
    if driver == "asyncpg":
        if via == "pgbouncer":
            connect = {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
        connect["server_settings"] = {"application_name": name}
        if address.ssl_mode and not address.ca_cert:
            connect["ssl"] = address.ssl_mode
    else:
        connect = {"application_name": name, **_KEEPALIVES}
        if via == "pgbouncer":
            connect["prepare_threshold"] = None
        if address.ssl_mode:
            connect["sslmode"] = address.ssl_mode
        if address.ca_cert:
            connect["sslrootcert"] = address.ca_cert
    if role.kind == "migrator" or (role.kind == "admin" and client is None):
        return {"connect_args": connect}
    return {
        "pool_size": client.pool_size if client else 10,
        "max_overflow": client.max_overflow if client else 10,
        "pool_pre_ping": True,
        "pool_recycle": _POOL_RECYCLE_S,
        "connect_args": connect,
    }


def _warnings(
    database: Database,
    role: Role,
    client: Client | None,
    via: str,
    poolers: tuple[PoolerAddress, ...],
) -> Iterable[str]:
    if client and via == "pgbouncer":
        served = client.alias or database.name
        of_process = client.pool_size + client.max_overflow
        of_pooler = min(pooler.pool_size(served, role.name) for pooler in poolers)
        if of_process > of_pooler > 0:
            yield (
                f"each process of {client.name} may hold {of_process} connections, and PgBouncer"
                f" serves {role.name} through {of_pooler}: more than {of_pooler} transactions at"
                " once wait there; lower pool_size + max_overflow, or raise the pool"
            )
        sessions = any(one.gives_sessions for one in database.aliases if one.name == client.alias)
        if role.kind == "migrator" and not sessions:
            yield (
                f"{client.name} runs migrations through PgBouncer, where session locks, SET and"
                " temporary tables do not last beyond a transaction; connect it with via: direct"
            )
    if client and client.via == "direct" and poolers and role.pooled and role.kind in POOLED_KINDS:
        yield (
            f"{client.name} connects directly, not through PgBouncer: each of its"
            f" {client.connections} connections is one of the server's"
        )
    if client and client.via == "pgbouncer" and not poolers:
        yield (
            f"{client.name} has via: pgbouncer, but there is no PgBouncer host: it connects to"
            " Postgres directly"
        )
    if via == "pgbouncer" and not all(pooler.keeps_prepared_statements for pooler in poolers):
        yield (
            f"PgBouncer does not track prepared statements here: without exactly these arguments"
            f" {client.name if client else role.name} meets statements of other clients"
        )


def _code(
    driver: str, role: Role, via: str, url: str, arguments: Mapping[str, Any], address: Address
) -> str:
    """Python that makes the engine; for a migrator, as Alembic's env.py wants it."""
    alembic, is_async = role.kind == "migrator", driver == "asyncpg"
    unpooled = "pool_size" not in arguments
    function = "create_async_engine" if is_async else "create_engine"
    context = is_async and bool(address.ca_cert)
    connect = [f"{_python(key)}: {_python(value)}" for key, value in _connect_args(arguments)]
    if is_async and via == "pgbouncer":
        # asyncpg up to 0.30 gives statements names even when it keeps none.
        connect.append('"prepared_statement_name_func": lambda: ""')
    if context:
        connect.append('"ssl": tls')
    engine = [
        f"engine = {function}(",
        f"    {_python(url)},",
        *(["    poolclass=NullPool,"] if unpooled else []),
        *(
            f"    {name}={_python(value)},"
            for name, value in arguments.items()
            if name != "connect_args"
        ),
        "    connect_args={",
        *(f"        {line}," for line in connect),
        "    },",
        ")",
    ]
    imports = [
        *(["import asyncio"] if alembic and is_async else []),
        *(["import ssl"] if context else []),
        "",
        *(["from alembic import context"] if alembic else []),
        f"from sqlalchemy{'.ext.asyncio' if is_async else ''} import {function}",
        *(["from sqlalchemy.pool import NullPool"] if unpooled else []),
        "",
    ]
    tls = [
        f"tls = ssl.create_default_context(cafile={_python(address.ca_cert)})",
        *(["tls.check_hostname = False"] if address.ssl_mode == "verify-ca" else []),
    ]
    lines = [*imports, *(tls if context else []), *engine]
    if alembic:
        lines += _RUN_ASYNC if is_async else _RUN
    return "\n".join(lines).lstrip("\n") + "\n"


def _connect_args(arguments: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    connect: Mapping[str, Any] = arguments["connect_args"]
    return connect.items()


def _url(driver: str, addresses: tuple[Address, ...], role: str, database: str) -> str:
    """A URL for SQLAlchemy."""
    query = []
    where = ""
    if len(addresses) == 1:
        where = _host_port(addresses[0])
    else:
        # The only form with several hosts in which one may be an IPv6 address.
        query.append("host=" + ",".join(quote(address.host, safe=":") for address in addresses))
        query.append("port=" + ",".join(str(address.port) for address in addresses))
    name = database
    if quote(database, safe="") != database:
        # Versions of SQLAlchemy differ in whether they decode a path, and agree on the query.
        name = ""
        query.append(f"{_DATABASE_ARGUMENT[driver]}={quote(database, safe='')}")
    url = f"postgresql+{driver}://{quote(role, safe='')}@{where}/{name}"
    return f"{url}?{'&'.join(query)}" if query else url


def _libpq_url(addresses: tuple[Address, ...], role: str, database: str) -> str:
    hosts = ",".join(_host_port(address) for address in addresses)
    options = {"sslmode": addresses[0].ssl_mode, "sslrootcert": addresses[0].ca_cert}
    query = "&".join(f"{name}={quote(value)}" for name, value in options.items() if value)
    url = f"postgresql://{quote(role, safe='')}@{hosts}/{quote(database, safe='')}"
    return f"{url}?{query}" if query else url


def _host_port(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"


def _python(value: Any) -> str:
    """Python source of plain data, with double quotes as formatters write them."""
    if isinstance(value, str):
        text = repr(value)
        return '"' + text[1:-1] + '"' if text[0] == "'" and '"' not in text else text
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_python(k)}: {_python(v)}" for k, v in value.items()) + "}"
    return repr(value)


def _pooler(where: str, entry: Any, databases: tuple[Database, ...]) -> PoolerAddress:
    address = _address(where, entry, 6432)
    # Nobody is warned of a version that is not known yet.
    keeps = True
    if entry.get("version"):
        version = tuple(int(part) for part in str(entry["version"]).split(".")[:2])
        kept = entry.get("max_prepared_statements")
        if kept is None:
            kept = 200 if version >= PREPARED_STATEMENTS_DEFAULT_VERSION else 0
        keeps = version >= PREPARED_STATEMENTS_VERSION and int(kept) > 0
    pools = None
    if entry.get("default_pool_size") is not None:
        sizes = {
            key: entry[key]
            for key in ("default_pool_size", "processes", "databases", "users")
            if key in entry
        }
        (parsed,) = parse_poolers([{"name": where, **sizes}])
        pools = with_model(parsed, databases)
    return PoolerAddress(address, keeps, pools)


def _address(where: str, entry: Any, port: int) -> Address:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: give a dictionary, not {type(entry).__name__}")
    host = entry.get("host")
    if not isinstance(host, str) or not host or any(sign in host for sign in " /@?#,"):
        raise ValueError(f"{where}.host: {host!r} is not a valid host name or address for clients")
    mode = str(entry.get("ssl_mode") or "")
    if mode and mode not in SSL_MODES:
        raise ValueError(
            f"{where}.ssl_mode: {mode!r} is not a valid TLS mode; choose one of"
            f" {', '.join(SSL_MODES)}"
        )
    ca_cert = str(entry.get("ca_cert") or "")
    if ca_cert and mode not in ("verify-ca", "verify-full"):
        raise ValueError(f"{where}.ca_cert: it is only used with ssl_mode verify-ca or verify-full")
    number = _whole(f"{where}.port", entry.get("port", port), 1)
    if number > 65535:
        raise ValueError(f"{where}.port: {number} is not a valid port; give at most 65535")
    return Address(host, number, mode, ca_cert)


def _whole(where: str, value: Any, least: int) -> int:
    text = "" if isinstance(value, bool) else str(value).strip()
    if not text.isdigit() or int(text) < least:
        raise ValueError(f"{where}: {value!r} is not a whole number of at least {least}")
    return int(text)


def short_lines(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each client, and its warnings."""
    rows = [
        (entry["client"], entry["role"], entry["urls"]["libpq"], entry["warnings"])
        for entry in entries
    ]
    names = max((len(row[0]) for row in rows), default=0)
    roles = max((len(row[1]) for row in rows), default=0)
    lines = []
    for client, role, url, warnings in rows:
        lines.append(f"  {client:<{names}}  as {role:<{roles}}  {url}")
        lines.extend(f"    Warning: {warning}" for warning in warnings)
    return lines
