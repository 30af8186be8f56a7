# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A memory budget for one Postgres server, whose sum fits into what the server may use.

The pieces: request checks what is given, sum has the sum and the sizes that solve it, settings
derives the settings, report words them. docs/sizing.md explains the terms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory import (
    report,
    request as inputs,
    sum as memory_sum,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.request import (
    GIB,
    KIB,
    MIB,
    MOST_CONNECTIONS,
    NEWEST_MAJOR,
    OLDEST_MAJOR,
    WORKLOADS,
    memory_amount_bytes,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.settings import (
    DoesNotFitError,
    Row,
    all_rows,
    memory_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.sum import Part

__all__ = [
    "GIB",
    "KIB",
    "MIB",
    "MOST_CONNECTIONS",
    "NEWEST_MAJOR",
    "OLDEST_MAJOR",
    "WORKLOADS",
    "Budget",
    "DoesNotFitError",
    "Part",
    "Row",
    "memory_amount_bytes",
    "memory_budget",
    "memory_budget_until_restart",
    "memory_needed_bytes",
    "memory_text",
]


@dataclass(frozen=True)
class Budget:
    """What a server may use, and what it was decided to use it for.

    C(parts) add up to C(cost_bytes), of which C(shared_bytes) is shared memory, all of it upper
    bounds. C(huge_pages_needed) pages of C(huge_page_bytes) are sure to hold the shared memory;
    C(huge_pages) is whether the sum counts on them.
    """

    settings: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    parts: tuple[Part, ...]
    table: tuple[str, ...]
    budget_bytes: int
    cost_bytes: int
    shared_bytes: int
    huge_pages: bool
    huge_page_bytes: int
    huge_pages_needed: int
    warnings: tuple[str, ...]


def memory_budget(
    resources: Mapping[str, Any],
    workload: str = "web",
    max_connections: int | str = 60,
    major: int | str = 17,
    share: float | str = 1.0,
    reserved: int | str = "0",
    settings: Mapping[str, Any] | None = None,
    running: Mapping[str, Any] | None = None,
    cluster: Sequence[Mapping[str, Any]] | None = None,
    storage: str = "ssd",
) -> Budget:
    """Size a server so that everything it may use together fits into what it may have.

    Args:
        resources: what host_resources_info returns as C(resources); only C(memory_bytes) and
            C(cpus) are required.
        workload: one of WORKLOADS.
        max_connections: the number the connection budget came to, or C(auto) for the largest
            up to 100 that leaves a useful work_mem.
        major: major version of the server.
        share: part of the budget that is Postgres's.
        reserved: what else lives on the host, as an amount of memory.
        settings: what the user sets explicitly; counted in the sum and never decided here.
        running: what the managed file sets now. A size there that is one step from the one that
            would be chosen stays, when everything still fits.
        cluster: C(resources) of the other servers that replicate with this one. Settings that a
            standby must not have lower than its primary are the same for all of them.
        storage: C(ssd) or C(hdd).

    Raises:
        DoesNotFitError: when no work_mem of at least 1 MB is left; says which number would fit.
        ValueError: for bad input.
    """
    machine = inputs.machine(resources)
    machines = (machine, *(inputs.machine(other) for other in cluster or ()))
    runs = {str(name).lower(): str(value) for name, value in (running or {}).items()}
    automatic = str(max_connections).strip().lower() == "auto"
    request = inputs.request(
        workload,
        1 if automatic else max_connections,
        major,
        share,
        reserved,
        storage,
        settings,
        machines,
    )
    automatic = automatic and request.settings.get("max_connections") is None
    if automatic:
        number = memory_sum.automatic_connections(machines, request, runs)
        request = replace(request, max_connections=number)
    solution = memory_sum.solve(machine, request, runs)
    if not solution.fits:
        raise DoesNotFitError(report.refusal(machine, request, solution))
    sizes = solution.sizes
    parts = report.worded_parts(sizes)
    rows, warnings = all_rows(machine, request, solution, runs, automatic)
    needed = memory_sum.huge_pages_needed(machine, request, runs)
    warnings += report.pages_warning(machine, request, sizes, needed)
    return Budget(
        settings=tuple((row.name, row.value) for row in rows if not request.user_sets(row.name)),
        rows=rows,
        parts=parts,
        table=report.table(machine, request, sizes, rows, needed, warnings),
        budget_bytes=int(sizes.budget),
        cost_bytes=memory_sum.cost_bytes(sizes),
        shared_bytes=int(sizes.shared_bytes),
        huge_pages=sizes.huge,
        huge_page_bytes=sizes.page_bytes,
        huge_pages_needed=needed,
        warnings=warnings,
    )


def memory_budget_until_restart(
    running_connections: int, resources: Mapping[str, Any], **request: Any
) -> Budget:
    """The budget of a server that may go on with more connections than it is to have.

    A lower max_connections waits for a restart, but work_mem changes at once: sized for the lower
    number, the sum of what all the sessions may use would be more than there is.

    Args:
        running_connections: max_connections of the running server; 0 when it does not count.
        resources: as for memory_budget(), whose other arguments C(request) holds by name.

    Raises:
        ValueError: as memory_budget(), for the number that is to be; what can't be had for the
            running one is not a reason to refuse a lower one.
    """
    budget = memory_budget(resources, **request)
    wanted = {row.name: row.value for row in budget.rows}["max_connections"]
    # A null value leaves the number to the server.
    if not wanted.isdigit() or running_connections <= int(wanted):
        return budget
    settings = dict(request.get("settings") or {})
    settings.pop("max_connections", None)
    sized = {**request, "settings": settings, "max_connections": running_connections}
    try:
        budget = memory_budget(resources, **sized)
    except DoesNotFitError:
        return budget
    line = f"  sized for the {running_connections} connections it takes until it is restarted"
    return replace(budget, table=(*budget.table, line))


def as_data(budget: Budget) -> dict[str, Any]:
    """The budget in dictionaries and lists, as Ansible keeps it."""
    return {
        "settings": dict(budget.settings),
        "rows": [
            {
                "name": row.name,
                "value": row.value,
                "formula": row.formula,
                "bound_by": row.bound_by,
            }
            for row in budget.rows
        ],
        "parts": [
            {"name": part.name, "bytes": part.size_bytes, "formula": part.formula}
            for part in budget.parts
        ],
        "table": list(budget.table),
        "budget_bytes": budget.budget_bytes,
        "cost_bytes": budget.cost_bytes,
        "shared_bytes": budget.shared_bytes,
        "huge_pages": {
            "used": budget.huge_pages,
            "page_bytes": budget.huge_page_bytes,
            "needed": budget.huge_pages_needed,
        },
        "warnings": list(budget.warnings),
    }


def memory_needed_bytes(
    max_connections: int,
    workload: str = "web",
    major: int = 17,
    in_cgroup: bool = False,
    cpus: int = 4,
) -> int:
    """The least memory, in whole MiB, of a host on which so many connections fit."""
    machine = inputs.machine(
        {"memory_bytes": 1, "cpus": cpus, "in_cgroup": in_cgroup, "memory_bound_by": "MemTotal"}
    )
    request = inputs.request(workload, max_connections, major, 1.0, 0, "ssd", None, (machine,))
    return memory_sum.memory_needed(machine, request) or 0
