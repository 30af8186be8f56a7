# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection budget: whether all clients, pools and reserves fit what they connect to."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._memory import (
    memory_needed_bytes,
    memory_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model import (
    Client,
    Database,
    Role,
    model_roles,
    parse_databases,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    AUTH_QUERY_SESSIONS,
    DEFAULTS,
)

# Sessions that a person or a deployment opens directly, for each migrator and each admin role of
# a database for which no direct client is listed: the work itself and one psql beside it.
DIRECT_SESSIONS = {"migrator": 2, "admin": 2}
EXPORTER_SESSIONS = 3
# What postgres_max_connections: auto never goes below, and what it is when the model has no
# roles, so that nothing is known about the clients.
LEAST_AUTO_CONNECTIONS = 20
UNKNOWN_AUTO_CONNECTIONS = 100
MOST_CONNECTIONS = 262143

_POOLED_KINDS = ("user", "reader")
_POOLER_KEYS = (
    "name",
    "default_pool_size",
    "reserve_pool_size",
    "max_client_conn",
    "processes",
    "databases",
    "users",
)
# What sizes the pools of single databases and of single users. Of C(*), which stands for all that
# have no limit of their own, just the limit is taken.
POOL_OPTIONS = {
    "databases": ("pool_size", "reserve_pool_size", "max_db_connections"),
    "users": ("pool_size", "reserve_pool_size", "max_user_connections"),
}
ALL_NAMES = "*"
_POOL_VARIABLES = {"databases": "pgbouncer_database_options", "users": "pgbouncer_user_options"}


@dataclass(frozen=True)
class Pooler:
    """The pools of one PgBouncer host."""

    name: str
    default_pool_size: int
    reserve_pool_size: int
    max_client_conn: int
    databases: Mapping[str, Mapping[str, int]]
    users: Mapping[str, Mapping[str, int]]
    processes: int = 1  # each has pools and clients of its own

    def pool(self, database: str, role: str) -> tuple[str, int]:
        """How large one pool can get: in words, and with its reserve.

        As PgBouncer does it, a user's sizes win over a database's, and these over the defaults; a
        limit of 0 is none, and leaves the one for all in force.

        Raises:
            ValueError: when nothing limits it.
        """
        pool, where = self._size("pool_size", database, role)
        reserve, _where = self._size("reserve_pool_size", database, role)
        text, connections = f"(pool {pool} + reserve {reserve})", pool + reserve
        limits = {
            "max_db_connections": self.database_limit(database),
            "max_user_connections": _limit(self.users, role, "max_user_connections"),
        }
        limited = False
        for option, limit in limits.items():
            if limit and (limit < connections or (pool == 0 and not limited)):
                text, connections, limited = f"{option} {limit}", limit, True
        if pool == 0 and not limited:
            raise ValueError(
                f"{self.name}: {where}: 0 means no limit, which no budget can hold; give at least"
                " 1, or a max_db_connections or max_user_connections"
            )
        return text, connections

    def database_limit(self, database: str) -> int:
        """The most connections of all pools of a database; 0 for no limit."""
        return _limit(self.databases, database, "max_db_connections")

    def _size(self, option: str, database: str, role: str) -> tuple[int, str]:
        for kind, name in (("users", role), ("databases", database)):
            size = getattr(self, kind).get(name, {}).get(option)
            if size is not None:
                return size, f"{_POOL_VARIABLES[kind]}.{name}.{option}"
        if option == "pool_size":
            return self.default_pool_size, "pgbouncer_default_pool_size"
        return self.reserve_pool_size, "pgbouncer_reserve_pool_size"


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
class ConnectionBudget:
    """What everything together needs, and what there is."""

    max_connections: int
    needed: int
    rows: tuple[Row, ...]
    client_rows: tuple[Row, ...]
    client_connections: int
    max_client_connections: int
    warnings: tuple[str, ...]
    table: tuple[str, ...]


@dataclass(frozen=True)
class _Request:
    databases: tuple[Database, ...]
    poolers: tuple[Pooler, ...]
    max_connections: int | None
    superuser_reserved: int
    reserved: int
    exporters: int
    warnings: tuple[str, ...]


def connection_budget(
    databases: Any,
    poolers: Any = (),
    max_connections: int | str = "auto",
    superuser_reserved_connections: int | str = 3,
    reserved_connections: int | str = 0,
    exporters: int | str = EXPORTER_SESSIONS,
) -> ConnectionBudget:
    """Add up who connects, and compare it with what they connect to.

    Args:
        databases: the model, pooled_databases.
        poolers: the PgBouncer hosts, each with a name and the sizes that differ from the
            collection's defaults, also those of single databases and users.
        max_connections: the server's, or C(auto) to derive it.
        superuser_reserved_connections: the server's setting.
        reserved_connections: the server's setting, which Postgres 16 brought.
        exporters: sessions of monitoring.

    Raises:
        ValueError: for bad input, or with the table and the ways out when it does not fit.
    """
    request = _request(
        parse_databases(databases),
        poolers,
        max_connections,
        _count("superuser_reserved_connections", superuser_reserved_connections),
        _count("reserved_connections", reserved_connections),
        _count("exporters", exporters),
    )
    rows = _server_rows(request)
    needed = _total(rows)
    if request.max_connections is not None:
        allowed = request.max_connections
    elif any(database.roles for database in request.databases):
        allowed = max(_up_to_tens(needed), LEAST_AUTO_CONNECTIONS)
    else:
        allowed = max(_up_to_tens(needed), UNKNOWN_AUTO_CONNECTIONS)
    clients = _client_rows(request)
    budget = ConnectionBudget(
        max_connections=allowed,
        needed=needed,
        rows=rows,
        client_rows=clients,
        client_connections=_total(clients),
        max_client_connections=sum(
            pooler.processes * pooler.max_client_conn for pooler in request.poolers
        ),
        warnings=request.warnings,
        table=(),
    )
    budget = replace(budget, table=_table(request, budget))
    problems = [
        *_server_problems(request, budget),
        *_pooler_problems(request, budget),
        *_role_problems(request, rows),
    ]
    if problems:
        raise ValueError(
            "\n".join(["The connections do not fit.", *budget.table, *problems]).rstrip()
        )
    return budget


def _request(
    databases: tuple[Database, ...],
    poolers: Any,
    max_connections: int | str,
    superuser_reserved: int,
    reserved: int,
    exporters: int,
) -> _Request:
    hosts = _poolers(poolers)
    warnings = []
    pooled = [
        client.name
        for database in databases
        for client in database.clients
        if client.via == "pgbouncer"
    ]
    if pooled and not hosts:
        hosts = (_pooler("poolers[0]", {"name": "one PgBouncer host"}),)
        warnings.append(
            f"{', '.join(pooled)}: connects through PgBouncer, but no PgBouncer host is known;"
            " one with the collection's defaults is assumed"
        )
    kinds = {role.name: role.kind for role in model_roles(databases)}
    warnings.extend(
        f"{client.name}: runs as migrator {client.role} through PgBouncer, where session features"
        " that migrations need, such as advisory locks, break; connect it directly (via: direct)"
        for database in databases
        for client in database.clients
        if client.via == "pgbouncer" and kinds[client.role] == "migrator"
    )
    automatic = str(max_connections).strip().lower() == "auto"
    return _Request(
        databases,
        tuple(_with_model(pooler, databases) for pooler in hosts),
        None if automatic else _count("postgres_max_connections", max_connections, 1),
        superuser_reserved,
        reserved,
        exporters,
        tuple(warnings),
    )


def _poolers(raw: Any) -> tuple[Pooler, ...]:
    if not isinstance(raw, (list, tuple)):
        raise ValueError(f"poolers: give a list, not {type(raw).__name__}")
    return tuple(_pooler(f"poolers[{index}]", entry) for index, entry in enumerate(raw))


def _pooler(where: str, entry: Any) -> Pooler:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: give a dictionary, not {type(entry).__name__}")
    unknown = sorted(str(key) for key in entry if key not in _POOLER_KEYS)
    if unknown:
        raise ValueError(
            f"{where}: unknown key {', '.join(unknown)}; allowed are {', '.join(_POOLER_KEYS)}"
        )
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}.name: {name!r} is no name of a host")

    def size(option: str, least: int) -> int:
        value = entry.get(option)
        return _count(
            f"{name}: pgbouncer_{option}", DEFAULTS[option] if value is None else value, least
        )

    return Pooler(
        name,
        size("default_pool_size", 0),
        size("reserve_pool_size", 0),
        size("max_client_conn", 1),
        _pool_options(name, "databases", entry.get("databases")),
        _pool_options(name, "users", entry.get("users")),
        _count(f"{name}: pgbouncer_processes", entry.get("processes") or 1, 1),
    )


def _with_model(pooler: Pooler, databases: tuple[Database, ...]) -> Pooler:
    """The pooler with what the model says of pools, where its own variables say nothing."""
    modelled: dict[str, dict[str, tuple[tuple[str, Any], ...]]] = {
        "databases": {
            name: options for database in databases for name, options in _served(database)
        },
        "users": {role.name: role.pools for role in model_roles(databases)},
    }
    merged: dict[str, dict[str, Mapping[str, int]]] = {}
    for kind, entries in modelled.items():
        merged[kind] = dict(getattr(pooler, kind))
        for name, options in entries.items():
            sizes = {
                key: _count(f"pools of {name!r}: {key}", value)
                for key, value in options
                if key in POOL_OPTIONS[kind]
            }
            if sizes:
                merged[kind][name] = {**sizes, **merged[kind].get(name, {})}
    return replace(pooler, databases=merged["databases"], users=merged["users"])


def _served(database: Database) -> list[tuple[str, tuple[tuple[str, Any], ...]]]:
    """The names under which PgBouncer leads to the database on this server, and their options."""
    here = [(alias.name, alias.options) for alias in database.aliases if not alias.elsewhere]
    return [(database.name, database.pools), *here]


def _pool_options(host: str, kind: str, given: Any) -> dict[str, dict[str, int]]:
    variable = f"{host}: {_POOL_VARIABLES[kind]}"
    options: dict[str, dict[str, int]] = {}
    for name, entry in _mapping(variable, given).items():
        where = f"{host}: pgbouncer_settings" if name == ALL_NAMES else f"{variable}.{name}"
        allowed = POOL_OPTIONS[kind][2:] if name == ALL_NAMES else POOL_OPTIONS[kind]
        values = _mapping(where, entry)
        unknown = sorted(str(key) for key in values if key not in allowed)
        if unknown:
            raise ValueError(
                f"{where}: unknown key {', '.join(unknown)}; allowed are {', '.join(allowed)}"
            )
        options[str(name)] = {
            key: _count(f"{where}.{key}", value)
            for key, value in values.items()
            if value is not None
        }
    return options


def _mapping(where: str, value: Any) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: give a dictionary, not {type(value).__name__}")
    return value


def _limit(options: Mapping[str, Mapping[str, int]], name: str, option: str) -> int:
    own = options.get(name, {}).get(option, 0)
    return own or options.get(ALL_NAMES, {}).get(option, 0)


def _count(where: str, value: Any, least: int = 0) -> int:
    text = "" if isinstance(value, bool) else str(value).strip()
    if not re.match(r"[0-9]{1,9}\Z", text) or int(text) < least:
        raise ValueError(f"{where}: {value!r} is no whole number of at least {least}")
    return int(text)


def _server_rows(request: _Request) -> tuple[Row, ...]:
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
            if role.kind in DIRECT_SESSIONS and not _has_direct_client(database, role)
        )
    rows.append(Row("exporter", "", "", "monitoring", "", request.exporters))
    rows.append(
        Row("reserved", "", "", "superuser_reserved_connections", "", request.superuser_reserved)
    )
    rows.append(Row("reserved", "", "", "reserved_connections", "", request.reserved))
    return tuple(row for row in rows if row.connections)


def _is_pooled(database: Database, role: Role) -> bool:
    return role.kind in _POOLED_KINDS or any(
        client.role == role.name and client.via == "pgbouncer" for client in database.clients
    )


def _has_direct_client(database: Database, role: Role) -> bool:
    return any(client.role == role.name and client.via == "direct" for client in database.clients)


def _pool_rows(request: _Request, database: Database, role: Role) -> list[Row]:
    """One row for all hosts whose pools have the same size, for the database and each alias."""
    rows = []
    for served, _options in _served(database):
        sizes: dict[tuple[str, int, int], list[str]] = {}
        for pooler in request.poolers:
            pool = (*pooler.pool(served, role.name), pooler.processes)
            sizes.setdefault(pool, []).append(pooler.name)
        rows += [
            Row(
                "pool",
                served,
                role.name,
                f"{served}: {role.name} from {_hosts(names)}",
                f"{_times(names, processes)} x {text}",
                len(names) * processes * connections,
            )
            for (text, connections, processes), names in sizes.items()
        ]
    return rows


def _limit_rows(request: _Request, database: Database, pooled: list[Role]) -> list[Row]:
    """What the pools of a database can't have all at once, for hosts that limit them together."""
    rows = []
    for served, _options in _served(database):
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
                f"{served}: beyond max_db_connections of {_hosts(names)}",
                f"{_times(names, processes)} x ({' + '.join(map(str, pools))} - {limit})",
                -len(names) * processes * (sum(pools) - limit),
            )
            for (pools, limit, processes), names in sizes.items()
        ]
    return rows


def _auth_query_rows(request: _Request, database: Database) -> list[Row]:
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
            f"{database.name}: auth_query from {_hosts(hosts)}",
            f"{processes} x {sessions}",
            processes * sessions,
        )
    ]


def _times(names: list[str], processes: int) -> str:
    return f"{len(names)} x {processes} processes" if processes > 1 else str(len(names))


def _hosts(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} PgBouncer hosts"


def _client_row(kind: str, database: Database, client: Client) -> Row:
    return Row(
        kind,
        database.name,
        client.role,
        f"{database.name}: {client.name} as {client.role}"
        + (" directly" if kind == "direct" else ""),
        f"{client.replicas} replicas x {client.workers} workers"
        f" x ({client.pool_size} + {client.max_overflow})",
        client.connections,
    )


def _allowance_row(database: Database, role: Role) -> Row:
    sessions = DIRECT_SESSIONS[role.kind]
    if role.connection_limit >= 0:
        sessions = min(sessions, role.connection_limit)
    return Row(
        "allowance",
        database.name,
        role.name,
        f"{database.name}: {role.name} directly",
        f"allowance for a role of kind {role.kind}",
        sessions,
    )


def _client_rows(request: _Request) -> tuple[Row, ...]:
    return tuple(
        _client_row("client", database, client)
        for database in request.databases
        for client in database.clients
        if client.via == "pgbouncer"
    )


def _total(rows: tuple[Row, ...] | list[Row]) -> int:
    return sum(row.connections for row in rows)


def _up_to_tens(number: int) -> int:
    return -(-number // 10) * 10


def _table(request: _Request, budget: ConnectionBudget) -> tuple[str, ...]:
    automatic = request.max_connections is None
    server = [(row.what, row.connections, row.formula) for row in budget.rows]
    server_totals = [
        ("needed", budget.needed, ""),
        ("max_connections", budget.max_connections, "auto" if automatic else "as set"),
        ("free", budget.max_connections - budget.needed, ""),
    ]
    clients = [(row.what, row.connections, row.formula) for row in budget.client_rows]
    client_totals = [
        ("needed", budget.client_connections, ""),
        (
            "max_client_conn",
            budget.max_client_connections,
            " + ".join(
                f"{pooler.processes} x {pooler.max_client_conn}"
                if pooler.processes > 1
                else str(pooler.max_client_conn)
                for pooler in request.poolers
            )
            + f" on {_hosts([pooler.name for pooler in request.poolers])}"
            if request.poolers
            else "",
        ),
        ("free", budget.max_client_connections - budget.client_connections, ""),
    ]
    shown = [*server, *server_totals, *(clients and [*clients, *client_totals])]
    width = max(len(what) for what, _count, _formula in shown)
    digits = max(len(str(count)) for _what, count, _formula in shown)

    def lines(entries: list[tuple[str, int, str]]) -> list[str]:
        return [
            f"  {what:<{width}}  {count:>{digits}}  {formula}".rstrip()
            for what, count, formula in entries
        ]

    rule = "  " + "-" * (width + 2 + digits)
    table = ["Connections to Postgres", *lines(server), rule, *lines(server_totals)]
    if clients:
        table += ["Clients of PgBouncer", *lines(clients), rule, *lines(client_totals)]
    return tuple(table)


def _server_problems(request: _Request, budget: ConnectionBudget) -> list[str]:
    if budget.max_connections > MOST_CONNECTIONS:
        return [f"Postgres takes at most {MOST_CONNECTIONS} connections."]
    over = budget.needed - budget.max_connections
    if over <= 0:
        return []
    return [
        f"{budget.needed} connections are needed, {over} more than"
        f" max_connections = {budget.max_connections} allows. Ways out:",
        f"  1. {_raise_way(budget)}",
        f"  2. {_pooler_way(request, budget)}",
        f"  3. {_shrink_way(request, budget)}",
    ]


def _raise_way(budget: ConnectionBudget) -> str:
    enough = _up_to_tens(budget.needed)
    if enough > MOST_CONNECTIONS:
        return f"max_connections can't be raised to {enough}: Postgres takes {MOST_CONNECTIONS}."
    needs = memory_needed_bytes(enough)
    more = needs - memory_needed_bytes(budget.max_connections)
    return (
        f"Raise postgres_max_connections to {enough}: the host then needs at least"
        f" {memory_text(needs)} of memory, {memory_text(more)} more than for"
        f" {budget.max_connections}."
    )


def _pooler_way(request: _Request, budget: ConnectionBudget) -> str:
    direct = [
        client.name
        for database in request.databases
        for client in database.clients
        if client.via == "direct"
    ]
    if not direct:
        return "Through PgBouncer: all listed clients go through it already."
    pooled = replace(
        request,
        poolers=request.poolers or (_pooler("poolers[0]", {"name": "one PgBouncer host"}),),
        databases=tuple(
            replace(
                database,
                clients=tuple(replace(client, via="pgbouncer") for client in database.clients),
            )
            for database in request.databases
        ),
    )
    try:
        needed = _total(_server_rows(pooled))
    except ValueError as error:
        return f"Through PgBouncer: {error}."
    pool = pooled.poolers[0]
    pools = (
        "their own sizes of pools"
        if _has_own_sizes(pooled)
        else f"pools of {pool.default_pool_size} + {pool.reserve_pool_size}"
    )
    verdict = (
        "which fits"
        if needed <= budget.max_connections
        else f"still {needed - budget.max_connections} too many"
    )
    return (
        f"Let {', '.join(direct)} connect through PgBouncer (via: pgbouncer): with {pools},"
        f" {needed} connections are needed, {verdict}."
    )


def _has_own_sizes(request: _Request) -> bool:
    """Whether databases or users have pools that the defaults do not size."""
    return any(pooler.databases or pooler.users for pooler in request.poolers)


def _shrink_way(request: _Request, budget: ConnectionBudget) -> str:
    ways = []
    direct = [
        client
        for database in request.databases
        for client in database.clients
        if client.via == "direct" and client.connections
    ]
    if direct:
        others = budget.needed - sum(client.connections for client in direct)
        processes = sum(client.replicas * client.workers for client in direct)
        each = (budget.max_connections - others) // processes
        ways.append(
            f"to pool_size + max_overflow of at most {each} in each of the {processes} processes"
            " that connect directly"
            if each > 0
            else f"in vain: {processes} processes connect directly, and"
            f" {max(budget.max_connections - others, 0)} connections are left for them"
        )
    pools = [row for row in budget.rows if row.kind in ("pool", "limit")]
    if pools and not direct:
        ways.append(_shrink_pools(request, budget, pools))
    if not ways:
        return "Shrink the pools: there are none to shrink."
    return f"Shrink the pools: {'; or '.join(ways)}."


def _shrink_pools(request: _Request, budget: ConnectionBudget, pools: list[Row]) -> str:
    each_host = len({(row.database, row.role) for row in pools if row.kind == "pool"})
    count = each_host * sum(pooler.processes for pooler in request.poolers)
    left = budget.max_connections - (budget.needed - _total(pools))
    pools_of = f"{count} {'pool' if count == 1 else 'pools'} of PgBouncer"
    if _has_own_sizes(request):
        return (
            f"to at most {max(left, 0)} connections in all, for {pools_of}; databases and users"
            " have sizes or limits of their own"
        )
    left -= each_host * sum(
        pooler.processes * pooler.reserve_pool_size for pooler in request.poolers
    )
    if left < count:
        return (
            f"in vain: {max(left, 0)} connections are left for the {pools_of} beside their reserves"
        )
    return f"to pgbouncer_default_pool_size of at most {left // count}, for {pools_of}"


def _pooler_problems(request: _Request, budget: ConnectionBudget) -> list[str]:
    if budget.client_connections <= budget.max_client_connections:
        return []
    each = -(-budget.client_connections // sum(pooler.processes for pooler in request.poolers))
    return [
        f"{budget.client_connections} clients connect to PgBouncer,"
        f" {budget.client_connections - budget.max_client_connections} more than max_client_conn"
        f" allows: raise pgbouncer_max_client_conn to {each}, or shrink the clients' pools."
    ]


def _role_problems(request: _Request, rows: tuple[Row, ...]) -> list[str]:
    problems = []
    for role in model_roles(request.databases):
        own = [row for row in rows if row.role == role.name]
        needed = _total(own)
        if 0 <= role.connection_limit < needed:
            parts = ", ".join(f"{row.what}: {row.connections}" for row in own)
            problems.append(
                f"Role {role.name} has connection_limit {role.connection_limit}, but its pools and"
                f" clients need {needed} ({parts}): raise connection_limit to {needed}, or shrink"
                " its pools."
            )
    return problems
