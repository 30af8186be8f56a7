# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads of a memory budget: the sum, the settings, and refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Iterable, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.request import (
    MIB,
    Machine,
    Request,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.settings import (
    Row,
    busy_text,
    memory_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.sum import (
    BUFFER_OVERHEAD,
    MAINTENANCE_SESSIONS,
    Part,
    Sizes,
    Solution,
    cost_bytes,
    memory_needed,
    most_connections,
    parts,
    solve,
)

# Settings of sizes; of work_mem the refusal speaks with the number of connections.
_SIZES = (
    "shared_buffers",
    "maintenance_work_mem",
    "autovacuum_work_mem",
    "temp_buffers",
    "logical_decoding_work_mem",
    "wal_buffers",
)


def worded_parts(sizes: Sizes) -> tuple[Part, ...]:
    """The parts of the sum in whole bytes, with their formulas."""
    buffers = memory_text(sizes.shared_buffers)
    formulas = {
        "shared_buffers": f"{BUFFER_OVERHEAD} x {buffers}",
        "wal_buffers": "shared_buffers / 32, up to 16 MB",
        "other shared memory": f"48 MB + {sizes.processes} processes"
        f" x {sizes.per_process / 1024:.1f} kB",
        "more shared memory": f"for {', '.join(sizes.more_shared_for)}",
        "unused huge pages": "locked for this server, beyond its shared memory",
        "page tables": f"{sizes.active} backends x shared_buffers / {sizes.page_table_share}",
        "backends": f"{sizes.active + sizes.vacuum_slots} processes x 5 MB",
        "temp_buffers": f"{sizes.connections} connections x {memory_text(sizes.temp_buffers)}",
        "maintenance_work_mem": f"{MAINTENANCE_SESSIONS} x"
        f" {memory_text(sizes.maintenance_work_mem)}",
        "autovacuum_work_mem": f"{sizes.vacuums} workers x"
        f" {memory_text(sizes.autovacuum_work_mem)}",
        "logical decoding": f"{sizes.decoders} senders x {memory_text(sizes.decoding)}",
        "work_mem": f"{busy_text(sizes)} x {sizes.nodes} x {sizes.hash_multiplier:g}"
        f" x {memory_text(sizes.work_mem)}",
    }
    return tuple(
        Part(part.name, math.ceil(part.size_bytes), formulas[part.name]) for part in parts(sizes)
    )


def table(
    machine: Machine,
    request: Request,
    sizes: Sizes,
    rows: tuple[Row, ...],
    pages_needed: int,
    warnings: Iterable[str],
) -> tuple[str, ...]:
    """The sum in MB, then the settings. The shown numbers add up exactly to the shown budget."""
    worded = worded_parts(sizes)
    budget = int(sizes.budget)
    spare = Part(
        "not assigned", budget - sum(part.size_bytes for part in worded), "left to the page cache"
    )
    shown = [part for part in (*worded, spare) if part.size_bytes]
    width = max(len(part.name) for part in shown)
    lost = (
        f", less {memory_text(sizes.lost_bytes)} of huge pages that Postgres does not use"
        if sizes.lost_bytes
        else ""
    )
    lines = [
        f"{memory_text(machine.memory_bytes)} {machine.memory_bound_by}{lost}, of which Postgres"
        f" may use {memory_text(budget)}: {request.workload}, PostgreSQL {request.major}"
    ]
    running = 0.0
    for part in shown:
        before = round(running / MIB)
        running += part.size_bytes
        amount = round(running / MIB) - before
        lines.append(f"  {part.name:<{width}}  {amount:>9} MB  {part.formula}")
    lines.append(f"  {'budget':<{width}}  {round(budget / MIB):>9} MB")
    names = max(len(row.name) for row in rows)
    values = max(len(row.value) for row in rows)
    lines.extend(
        f"  {row.name:<{names}}  {row.value:>{values}}  {row.formula}; bound by {row.bound_by}"
        for row in rows
    )
    lines.append(f"  huge pages: {_huge_pages(machine, sizes, pages_needed)}")
    lines.extend(f"  warning: {warning}" for warning in warnings)
    return tuple(lines)


def _huge_pages(machine: Machine, sizes: Sizes, needed: int) -> str:
    page = memory_text(sizes.page_bytes)
    found = machine.huge_pages
    if sizes.huge:
        there = f" of {sizes.pool_bytes // sizes.page_bytes}" if sizes.pool_bytes else ""
        return f"used, {needed}{there} of {page}, so that page tables stay small"
    have = f", and {found.free} of {found.total} are free" if found else ""
    return f"not used; vm.nr_hugepages = {needed} (of {page}) would be needed{have}"


def pages_warning(machine: Machine, request: Request, sizes: Sizes, needed: int) -> tuple[str, ...]:
    """A server that must have huge pages does not start without them."""
    found = machine.huge_pages
    if request.text("huge_pages") != "on" or found is None or machine.in_cgroup:
        return ()
    if sizes.page_bytes != found.page_bytes or sizes.pool_bytes >= sizes.shared_bytes:
        return ()
    return (
        f"huge_pages = on needs up to {needed} huge pages of {memory_text(sizes.page_bytes)}, and"
        f" {sizes.pool_bytes // sizes.page_bytes} are free; with fewer than it asks for the server"
        f" does not start: set vm.nr_hugepages to at least"
        f" {found.total - sizes.pool_bytes // sizes.page_bytes + needed}",
    )


def refusal(machine: Machine, request: Request, solution: Solution) -> str:
    """Why it does not fit, and what would."""
    exact = solution.exact
    budget = memory_text(exact.budget)
    asked = request.max_connections
    blamed = _blamed(machine, request, exact)
    if blamed:
        return _refusal_of_settings(machine, request, exact, blamed)
    if request.user_sets("work_mem"):
        why = (
            f"with work_mem = {request.settings['work_mem'] or 'the default'} in postgres_settings"
            f" everything together takes {memory_text(cost_bytes(exact) + exact.slack)}"
        )
    else:
        why = "not even 1 MB of work_mem is left for each backend"
    lost = exact.lost_bytes + exact.unused_pages_bytes
    locked = (
        f" Huge pages that Postgres does not use lock {memory_text(lost)}."
        if lost > MIB * 2
        else ""
    )
    first = (
        f"max_connections = {asked} does not fit into the {budget} that Postgres may use here"
        f" ({memory_text(machine.memory_bytes)} {machine.memory_bound_by}): {why}.{locked}"
    )
    most = most_connections(machine, _without_own(request), asked - 1)
    largest = (
        f" The largest number that fits is {most}."
        if most
        else " No number of connections fits: give the host more memory,"
        " or lower postgres_memory_reserved and what postgres_settings sets."
    )
    needed = memory_needed(machine, request)
    memory = f" {asked} connections need {memory_text(needed)} of memory." if needed else ""
    pooler = (
        " Usually the remedy is PgBouncer: clients that connect through it share few server"
        " connections."
        if most
        else ""
    )
    return first + largest + memory + pooler


def _refusal_of_settings(
    machine: Machine, request: Request, exact: Sizes, blamed: Sequence[str]
) -> str:
    """The same where the user's own settings are the reason, and not how many connect."""
    said = " and ".join(f"{name} = {request.settings[name]}" for name in blamed)
    room = (
        f"the {memory_text(exact.budget)} that Postgres may use here"
        f" ({memory_text(machine.memory_bytes)} {machine.memory_bound_by})"
    )
    if len(blamed) > 1:
        what = f"{said} do not fit together into {room}, with {request.max_connections} connections"
    elif request.size(blamed[0]) > exact.budget:
        what = f"{said} alone is more than {room}"
    else:
        what = f"{said} does not fit into {room}, with {request.max_connections} connections"
    needed = memory_needed(machine, request)
    memory = f", or give the host {memory_text(needed)} of memory" if needed else ""
    them = "them" if len(blamed) > 1 else "it"
    return f"postgres_settings: {what}. Lower {them} or leave {them} out{memory}."


def _blamed(machine: Machine, request: Request, exact: Sizes) -> list[str]:
    """The user's settings of sizes without any one of which, or at least all, it would fit."""
    own = [name for name in _SIZES if request.settings.get(name) is not None]

    def tried(names: Sequence[str]) -> Solution:
        return solve(machine, _without(request, names), {})

    alone = [name for name in own if tried([name]).fits]
    if alone or not tried(own).fits:
        return alone

    def missing(sizes: Sizes) -> float:
        # What does not fit, its own work_mem lacks, unless that is the user's.
        return cost_bytes(sizes) - sizes.work_mem

    return [name for name in own if missing(tried([name]).exact) < missing(exact)]


def _without_own(request: Request) -> Request:
    """The request without the user's own max_connections, to try others."""
    return _without(request, ["max_connections"])


def _without(request: Request, names: Sequence[str]) -> Request:
    others = {name: text for name, text in request.settings.items() if name not in names}
    return replace(request, settings=others)
