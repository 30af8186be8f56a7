# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the connection budget adds up: a row for everybody who connects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections.pools import (
    Pooler,
    served_here,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Client,
    Database,
    Role,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.defaults import (
    AUTH_QUERY_SESSIONS,
)

# Sessions that a person or a deployment opens directly, for each migrator and each admin role of
# a database for which no direct client is listed: the work itself and one psql beside it.
DIRECT_SESSIONS = {"migrator": 2, "admin": 2}
# The same for a role of another kind that may not log in through PgBouncer.
UNPOOLED_SESSIONS = 2

_POOLED_KINDS = ("user", "reader")


@dataclass(frozen=True)
class Row:
    """One line of the sum.

    C(kind) is pool, limit, auth_query, direct, allowance, exporter or reserved. A limit is less
    than 0: what the pools of a database can't have all at once.
    """

    kind: str
    database: str
    role: str
    what: str
    formula: str
    connections: int


@dataclass(frozen=True)
class Request:
    """What is asked of the budget. C(max_connections) is None to derive it."""

    databases: tuple[Database, ...]
    poolers: tuple[Pooler, ...]
    max_connections: int | None
    superuser_reserved: int
    reserved: int
    exporters: int
    warnings: tuple[str, ...]


def server_rows(request: Request) -> tuple[Row, ...]:
    """The connections to Postgres."""
    rows: list[Row] = []
    for database in request.databases:
        pooled = [role for role in database.roles if _is_pooled(database, role)]
        for role in pooled:
            rows.extend(_pool_rows(request, database, role))
        rows.extend(_limit_rows(request, database, pooled))
        rows.extend(_auth_query_rows(request, database))
        rows.extend(
            _client_row("direct", database, client)
            for client in database.clients
            if client.via == "direct"
        )
        rows.extend(
            _allowance_row(database, role)
            for role in database.roles
            if _needs_direct_sessions(role) and not _has_direct_client(database, role)
        )
    rows.append(Row("exporter", "", "", "monitoring", "", request.exporters))
    rows.append(
        Row("reserved", "", "", "superuser_reserved_connections", "", request.superuser_reserved)
    )
    rows.append(Row("reserved", "", "", "reserved_connections", "", request.reserved))
    return tuple(row for row in rows if row.connections)


def _is_pooled(database: Database, role: Role) -> bool:
    if not role.pooled:
        return False
    return role.kind in _POOLED_KINDS or any(
        client.role == role.name and client.via == "pgbouncer" for client in database.clients
    )


def _needs_direct_sessions(role: Role) -> bool:
    return role.kind in DIRECT_SESSIONS or not role.pooled


def _has_direct_client(database: Database, role: Role) -> bool:
    return any(client.role == role.name and client.via == "direct" for client in database.clients)


def _pool_rows(request: Request, database: Database, role: Role) -> list[Row]:
    """One row for all hosts whose pools have the same size, for the database and each alias."""
    rows = []
    for served, _options in served_here(database):
        sizes: dict[tuple[str, int, int], list[str]] = {}
        for pooler in request.poolers:
            pool = (*pooler.pool(served, role.name), pooler.processes)
            sizes.setdefault(pool, []).append(pooler.name)
        rows += [
            Row(
                "pool",
                served,
                role.name,
                f"{served}: {role.name} from {hosts_text(names)}",
                f"{_times(names, processes)} x {text}",
                len(names) * processes * connections,
            )
            for (text, connections, processes), names in sizes.items()
        ]
    return rows


def _limit_rows(request: Request, database: Database, pooled: list[Role]) -> list[Row]:
    """What the pools of a database can't have all at once, for hosts that limit them together."""
    rows = []
    for served, _options in served_here(database):
        sizes: dict[tuple[tuple[int, ...], int, int], list[str]] = {}
        for pooler in request.poolers:
            limit = pooler.database_limit(served)
            pools = tuple(pooler.pool(served, role.name)[1] for role in pooled)
            if 0 < limit < sum(pools):
                sizes.setdefault((pools, limit, pooler.processes), []).append(pooler.name)
        rows += [
            Row(
                "limit",
                served,
                "",
                f"{served}: beyond max_db_connections of {hosts_text(names)}",
                f"{_times(names, processes)} x ({' + '.join(map(str, pools))} - {limit})",
                -len(names) * processes * (sum(pools) - limit),
            )
            for (pools, limit, processes), names in sizes.items()
        ]
    return rows


def _auth_query_rows(request: Request, database: Database) -> list[Row]:
    hosts = [pooler.name for pooler in request.poolers]
    if not hosts:
        return []
    processes = sum(pooler.processes for pooler in request.poolers)
    sessions = AUTH_QUERY_SESSIONS * (1 + len(database.aliases))
    return [
        Row(
            "auth_query",
            database.name,
            "",
            f"{database.name}: auth_query from {hosts_text(hosts)}",
            f"{processes} x {sessions}",
            processes * sessions,
        )
    ]


def _times(names: list[str], processes: int) -> str:
    return f"{len(names)} x {processes} processes" if processes > 1 else str(len(names))


def hosts_text(names: list[str]) -> str:
    """PgBouncer hosts in a few words."""
    return names[0] if len(names) == 1 else f"{len(names)} PgBouncer hosts"


def _client_row(kind: str, database: Database, client: Client) -> Row:
    return Row(
        kind,
        database.name,
        client.role,
        f"{client.alias or database.name}: {client.name} as {client.role}"
        + (" directly" if kind == "direct" else ""),
        f"{_replicas(client)} replicas x {client.workers} workers"
        f" x ({client.pool_size} + {client.max_overflow})",
        client.connections,
    )


def _replicas(client: Client) -> str:
    return f"({client.replicas} + {client.surge})" if client.surge else str(client.replicas)


def _allowance_row(database: Database, role: Role) -> Row:
    sessions = DIRECT_SESSIONS.get(role.kind, UNPOOLED_SESSIONS)
    why = f"of kind {role.kind}" if role.kind in DIRECT_SESSIONS else "with pooled: false"
    if role.connection_limit >= 0:
        sessions = min(sessions, role.connection_limit)
    return Row(
        "allowance",
        database.name,
        role.name,
        f"{database.name}: {role.name} directly",
        f"allowance for a role {why}",
        sessions,
    )


def client_rows(request: Request) -> tuple[Row, ...]:
    """The clients of PgBouncer."""
    return tuple(
        _client_row("client", database, client)
        for database in request.databases
        for client in database.clients
        if client.via == "pgbouncer"
    )


def total(rows: Iterable[Row]) -> int:
    """The sum."""
    return sum(row.connections for row in rows)
