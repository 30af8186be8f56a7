# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What does not fit, and the remedies with their numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterable

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
    usual_pooler,
    with_model,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.budget import (
    MOST_CONNECTIONS,
    memory_needed_bytes,
    memory_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Client,
    model_roles,
)


def problems(request: Request, max_connections: int) -> list[str]:
    """Everything that does not fit, in words; nothing when all of it does."""
    rows = server_rows(request)
    return [
        *_server_problems(request, rows, max_connections),
        *_other_problems(request, rows),
    ]


def role_connections(rows: Iterable[Row]) -> dict[str, int]:
    """What the pools and direct clients of each role need: the least for its connection_limit."""
    needed: dict[str, int] = {}
    for row in rows:
        if row.role:
            needed[row.role] = needed.get(row.role, 0) + row.connections
    return needed


def _other_problems(request: Request, rows: tuple[Row, ...]) -> list[str]:
    return [
        *_pooler_problems(request),
        *_role_problems(request, rows),
        *_descriptor_problems(request),
    ]


def _server_problems(request: Request, rows: tuple[Row, ...], max_connections: int) -> list[str]:
    needed = total(rows)
    if max_connections > MOST_CONNECTIONS:
        return [f"Postgres allows at most {MOST_CONNECTIONS} connections."]
    over = needed - max_connections
    if over <= 0:
        return []
    return [
        f"{needed} connections are needed, {over} more than"
        f" max_connections = {max_connections} allows. Remedies:",
        f"  1. {_remedy_by_raising(needed, max_connections)}",
        f"  2. {_remedy_by_pooling(request, max_connections)}",
        f"  3. {_remedy_by_shrinking(request, rows, max_connections)}",
    ]


def up_to_tens(number: int) -> int:
    """The number, rounded up to the next ten."""
    return -(-number // 10) * 10


def _remedy_by_raising(needed: int, max_connections: int) -> str:
    enough = min(up_to_tens(needed), max(needed, MOST_CONNECTIONS))
    if enough > MOST_CONNECTIONS:
        return f"max_connections can't be raised to {enough}: Postgres takes {MOST_CONNECTIONS}."
    needs = _memory_needed(enough)
    if needs is None:
        return f"max_connections can't be raised to {enough}: no server runs so many processes."
    way = (
        f"Raise postgres_max_connections to {enough}: the host then needs at least"
        f" {memory_text(needs)} of memory"
    )
    now = _memory_needed(max_connections)
    if now is None:
        return f"{way}."
    return f"{way}, {memory_text(needs - now)} more than for {max_connections}."


def _memory_needed(max_connections: int) -> int | None:
    """None for what no server starts with."""
    try:
        return memory_needed_bytes(max_connections)
    except ValueError:
        return None


def _remedy_by_pooling(request: Request, max_connections: int) -> str:
    roles = {role.name: role for role in model_roles(request.databases)}
    direct = _direct_clients(request)
    # Migrations need what a session has.
    migrating = [client for client in direct if roles[client.role].kind == "migrator"]
    movable = [client for client in direct if client not in migrating and roles[client.role].pooled]
    if not movable:
        reasons = [
            *(["migrations, which need sessions"] if migrating else []),
            *(["clients of roles with pooled: false"] if len(direct) > len(migrating) else []),
        ]
        return (
            "Through PgBouncer: all listed clients go through it already"
            + (f", except {' and '.join(reasons)}" if reasons else "")
            + "."
        )
    pooled = replace(
        request,
        poolers=request.poolers or (with_model(usual_pooler(), request.databases),),
        databases=tuple(
            replace(
                database,
                clients=tuple(
                    replace(client, via="pgbouncer") if client in movable else client
                    for client in database.clients
                ),
            )
            for database in request.databases
        ),
    )
    try:
        rows = server_rows(pooled)
    except ValueError as error:
        return f"Through PgBouncer: {error}."
    pool = pooled.poolers[0]
    pools = (
        "their own sizes of pools"
        if _has_own_sizes(pooled)
        else f"pools of {pool.default_pool_size} + {pool.reserve_pool_size}"
    )
    needed = total(rows)
    others = _other_problems(pooled, rows)
    if needed > max_connections:
        verdict = f"still {needed - max_connections} too many."
    elif others:
        verdict = f"which fits, but: {others[0]}"
    else:
        verdict = "which fits."
    return (
        f"Let {', '.join(client.name for client in movable)} connect through PgBouncer"
        f" (via: pgbouncer): with {pools}, {needed} connections are needed, {verdict}"
    )


def _direct_clients(request: Request) -> list[Client]:
    return [
        client
        for database in request.databases
        for client in database.clients
        if client.via == "direct"
    ]


def _has_own_sizes(request: Request) -> bool:
    """Whether databases or users have pools that the defaults do not size."""
    return any(pooler.databases or pooler.users for pooler in request.poolers)


def _remedy_by_shrinking(request: Request, rows: tuple[Row, ...], max_connections: int) -> str:
    direct = [client for client in _direct_clients(request) if client.connections]
    pools = [row for row in rows if row.kind in ("pool", "limit")]
    if direct:
        way = _shrink_clients(direct, max_connections - total(rows))
    elif pools:
        way = _shrink_pools(request, pools, max_connections - total(rows))
    else:
        return "Shrink the pools: there are none to shrink."
    return f"Shrink the pools: {way}."


def _shrink_clients(direct: list[Client], free: int) -> str:
    """The largest pool that each process may have, when some have smaller ones already."""
    left = free + sum(client.connections for client in direct)
    processes = sum(client.processes for client in direct)
    if left < processes:
        return (
            f"that is not enough: {processes} processes connect directly, and {max(left, 0)}"
            " connections are left for them"
        )
    sizes = [(client.processes, client.pool_size + client.max_overflow) for client in direct]
    fits, too_many = 1, max(size for _count, size in sizes)
    while too_many - fits > 1:
        each = (fits + too_many) // 2
        if sum(count * min(size, each) for count, size in sizes) <= left:
            fits = each
        else:
            too_many = each
    return (
        f"to pool_size + max_overflow of at most {fits} in each of the {processes} processes that"
        " connect directly"
    )


def _shrink_pools(request: Request, pools: list[Row], free: int) -> str:
    each_process = len({(row.database, row.role) for row in pools if row.kind == "pool"})
    count = each_process * sum(pooler.processes for pooler in request.poolers)
    left = free + total(pools)
    pools_of = f"{count} {'pool' if count == 1 else 'pools'} of PgBouncer"
    if _has_own_sizes(request):
        return (
            f"to at most {max(left, 0)} connections in all, for {pools_of}; databases and users"
            " have sizes or limits of their own"
        )
    left -= each_process * sum(
        pooler.processes * pooler.reserve_pool_size for pooler in request.poolers
    )
    if left < count:
        return (
            f"that is not enough: {max(left, 0)} connections are left for the {pools_of} beside"
            " their reserves"
        )
    return f"to pgbouncer_default_pool_size of at most {left // count}, for {pools_of}"


def _pooler_problems(request: Request) -> list[str]:
    clients = total(client_rows(request))
    allowed = sum(pooler.most_clients for pooler in request.poolers)
    if clients <= allowed:
        return []
    each = -(-clients // sum(pooler.processes for pooler in request.poolers))
    return [
        f"{clients} clients connect to PgBouncer, {clients - allowed} more than max_client_conn"
        f" allows: raise pgbouncer_max_client_conn to {each}, or shrink the clients' pools."
    ]


def _role_problems(request: Request, rows: tuple[Row, ...]) -> list[str]:
    needed = role_connections(rows)
    found = []
    for role in model_roles(request.databases):
        if 0 <= role.connection_limit < needed.get(role.name, 0):
            parts = ", ".join(
                f"{row.what}: {row.connections}" for row in rows if row.role == role.name
            )
            found.append(
                f"Role {role.name} has connection_limit {role.connection_limit}, but its pools and"
                f" clients need {needed[role.name]} ({parts}): raise connection_limit to"
                f" {needed[role.name]}, or shrink its pools."
            )
    return found


def _descriptor_problems(request: Request) -> list[str]:
    found = []
    for pooler in request.poolers:
        files = pooler.descriptors(request.databases)
        if files.limit < files.needed:
            found.append(
                f"{pooler.name} has pgbouncer_limit_nofile {files.limit}, but {files.clients}"
                f" clients, their pools and what else PgBouncer opens need {files.needed} file"
                f" descriptors: raise it to {files.needed}, or leave it at auto."
            )
    return found


def descriptor_rows(request: Request) -> tuple[tuple[str, Descriptors], ...]:
    """What a process of each PgBouncer host has open at most; hosts alike are one row."""
    alike: dict[Descriptors, list[str]] = {}
    for pooler in request.poolers:
        alike.setdefault(pooler.descriptors(request.databases), []).append(pooler.name)
    return tuple((hosts_text(names), files) for files, names in alike.items())
