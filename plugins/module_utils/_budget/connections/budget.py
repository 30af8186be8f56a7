# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection budget: whether all clients, pools and reserves fit what they connect to."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections.demand import (
    Request,
    Row,
    client_rows,
    hosts_text,
    server_rows,
    total,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections.pools import (
    Descriptors,
    count,
    parse_poolers,
    usual_pooler,
    with_model,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections.remedies import (
    descriptor_rows,
    problems,
    role_connections,
    up_to_tens,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Client,
    Database,
    model_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases

EXPORTER_SESSIONS = 3
# What postgres_max_connections: auto never goes below, and what it is when the model has no
# roles, so that nothing is known about the clients.
LEAST_AUTO_CONNECTIONS = 20
UNKNOWN_AUTO_CONNECTIONS = 100


@dataclass(frozen=True)
class ConnectionBudget:
    """What everything together needs, and what there is.

    C(descriptors) are those of a process, by hosts in words. C(role_connections) has the least
    connection_limit for each role.
    """

    max_connections: int
    needed: int
    rows: tuple[Row, ...]
    client_rows: tuple[Row, ...]
    client_connections: int
    max_client_connections: int
    descriptors: tuple[tuple[str, Descriptors], ...]
    role_connections: Mapping[str, int]
    warnings: tuple[str, ...]
    table: tuple[str, ...]


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
        ValueError: for bad input, or with the table and the remedies when it does not fit.
    """
    request = _request(
        parse_databases(databases),
        poolers,
        max_connections,
        count("superuser_reserved_connections", superuser_reserved_connections),
        count("reserved_connections", reserved_connections),
        count("exporters", exporters),
    )
    rows = server_rows(request)
    needed = total(rows)
    if request.max_connections is not None:
        allowed = request.max_connections
    elif any(database.roles for database in request.databases):
        allowed = max(up_to_tens(needed), LEAST_AUTO_CONNECTIONS)
    else:
        allowed = max(up_to_tens(needed), UNKNOWN_AUTO_CONNECTIONS)
    clients = client_rows(request)
    budget = ConnectionBudget(
        max_connections=allowed,
        needed=needed,
        rows=rows,
        client_rows=clients,
        client_connections=total(clients),
        max_client_connections=sum(pooler.most_clients for pooler in request.poolers),
        descriptors=descriptor_rows(request),
        role_connections=role_connections(rows),
        warnings=(*request.warnings, *_narrow_places(request, total(clients))),
        table=(),
    )
    budget = replace(budget, table=_table(request, budget))
    found = problems(request, allowed)
    if found:
        raise ValueError("\n".join(["The connections do not fit.", *budget.table, *found]))
    return budget


def as_data(budget: ConnectionBudget) -> dict[str, Any]:
    """The budget in dictionaries and lists, as Ansible keeps it."""
    return {
        **asdict(budget),
        "rows": [asdict(row) for row in budget.rows],
        "client_rows": [asdict(row) for row in budget.client_rows],
        "descriptors": [{"hosts": hosts, **asdict(files)} for hosts, files in budget.descriptors],
        "role_connections": dict(budget.role_connections),
        "warnings": list(budget.warnings),
        "table": list(budget.table),
    }


def _request(
    databases: tuple[Database, ...],
    poolers: Any,
    max_connections: int | str,
    superuser_reserved: int,
    reserved: int,
    exporters: int,
) -> Request:
    hosts = parse_poolers(poolers)
    warnings = []
    pooled = [
        client.name
        for database in databases
        for client in database.clients
        if client.via == "pgbouncer"
    ]
    if pooled and not hosts:
        hosts = (usual_pooler(),)
        warnings.append(
            f"{', '.join(pooled)}: connects through PgBouncer, but no PgBouncer host is known;"
            " one with the collection's defaults is assumed"
        )
    kinds = {role.name: role.kind for role in model_roles(databases)}
    warnings.extend(
        f"{client.name}: runs as migrator {client.role} through PgBouncer, where session features"
        " that migrations need, such as advisory locks, do not work; connect it directly"
        " (via: direct)"
        for database in databases
        for client in database.clients
        if client.via == "pgbouncer"
        and kinds[client.role] == "migrator"
        and not _has_sessions(database, client)
    )
    automatic = str(max_connections).strip().lower() == "auto"
    return Request(
        databases,
        tuple(with_model(pooler, databases) for pooler in hosts),
        None if automatic else count("postgres_max_connections", max_connections, 1),
        superuser_reserved,
        reserved,
        exporters,
        tuple(warnings),
    )


def _has_sessions(database: Database, client: Client) -> bool:
    return any(alias.gives_sessions for alias in database.aliases if alias.name == client.alias)


def _uneven_share(request: Request, clients: int) -> list[str]:
    """The processes that share a port, and may get more than their share of the clients."""
    several = [pooler for pooler in request.poolers if pooler.processes > 1]
    share = -(-clients // max(sum(pooler.processes for pooler in request.poolers), 1))
    # Four standard deviations of what chance gives one of many processes.
    enough = share + math.ceil(4 * math.sqrt(share))
    names = [pooler.name for pooler in several if share <= pooler.max_client_conn < enough]
    if not names:
        return []
    return [
        f"{clients} clients fit only while each process on {hosts_text(names)} gets no more than"
        " its share, and the kernel distributes them at random; raise pgbouncer_max_client_conn to"
        f" {enough}"
    ]


def _narrow_places(request: Request, clients: int) -> list[str]:
    """What fits as a sum, and yet makes clients wait or refuses them."""
    warnings = []
    biggest = max(request.poolers, key=lambda pooler: pooler.most_clients, default=None)
    if biggest and len(request.poolers) > 1:
        rest = sum(pooler.most_clients for pooler in request.poolers) - biggest.most_clients
        if clients > rest:
            warnings.append(
                f"{clients} clients fit only all {len(request.poolers)} PgBouncer hosts together;"
                f" while {biggest.name} is away, the others take {rest}, and clients that try the"
                " hosts in the same order fill one after the other"
            )
    warnings.extend(_uneven_share(request, clients))
    for database in request.databases:
        for client in database.clients:
            if client.via != "pgbouncer" or not _has_sessions(database, client):
                continue
            served = sum(
                pooler.processes * pooler.pool(client.alias, client.role)[1]
                for pooler in request.poolers
            )
            if client.connections > served:
                warnings.append(
                    f"{client.name}: {client.alias} gives each of its {client.connections}"
                    f" connections a session, and has {served} for {client.role}: the others wait"
                    " until one disconnects; raise the alias's pool_size, or shrink the client's"
                    " pools"
                )
    return warnings


def _table(request: Request, budget: ConnectionBudget) -> tuple[str, ...]:
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
            + f" on {hosts_text([pooler.name for pooler in request.poolers])}"
            if request.poolers
            else "",
        ),
        ("free", budget.max_client_connections - budget.client_connections, ""),
    ]
    files = [
        entry
        for hosts, descriptors in (budget.descriptors if clients else ())
        for entry in _descriptor_entries(request, hosts, descriptors)
    ]
    shown = [*server, *server_totals, *(clients and [*clients, *client_totals]), *files]
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
    if files:
        table += ["File descriptors of a PgBouncer process", *lines(files)]
    return tuple(table)


def _descriptor_entries(
    request: Request, hosts: str, files: Descriptors
) -> list[tuple[str, int, str]]:
    automatic = all(
        pooler.limit_nofile is None
        for pooler in request.poolers
        if pooler.descriptors(request.databases) == files
    )
    return [
        (
            f"needed on {hosts}",
            files.needed,
            f"{files.clients} clients + {files.needed - files.clients} for pools and itself",
        ),
        ("LimitNOFILE", files.limit, "auto" if automatic else "as set"),
    ]
