# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A memory budget for one Postgres server, whose sum fits into what the server may use.

docs/sizing.md explains the terms and the constants.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._model import setting_text

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

WORKLOADS = ("web", "oltp", "dw", "mixed", "desktop")
OLDEST_MAJOR = 13
NEWEST_MAJOR = 18
MOST_CONNECTIONS = 262143

# Sorts and hashes that one busy backend runs at the same time.
_NODES = {"web": 1, "oltp": 1, "desktop": 1, "mixed": 2, "dw": 4}
_JIT = {"web": "off", "oltp": "off", "desktop": "off", "mixed": "on", "dw": "on"}
_MAX_WAL_BYTES = {
    "web": 4 * GIB,
    "oltp": 8 * GIB,
    "dw": 16 * GIB,
    "mixed": 4 * GIB,
    "desktop": 2 * GIB,
}
_MAINTENANCE_SESSIONS = 1
_BACKEND_BYTES = 5 * MIB
_SHARED_BASE_BYTES = 48 * MIB
_SHARED_PER_PROCESS_BYTES = 48 * KIB
_SHARED_PER_LOCK_BYTES = 0.42 * KIB
_BUFFER_OVERHEAD = 1.03
_PAGE_TABLE_SHARE = 512
_PAGE_TABLE_SHARE_HUGE = 262144
_LEAST_WORK_MEM_BYTES = 1 * MIB
_PLENTY_WORK_MEM_BYTES = 2 * MIB
_LARGEST_MEMORY_BYTES = 2**60
_MOST_AUTO_CONNECTIONS = 100
_MOST_SHARED_BUFFERS_BYTES = 1073741823 * 8 * KIB
_MOST_EFFECTIVE_CACHE_BYTES = 2147483647 * 8 * KIB
_MOST_WORK_MEM_BYTES = 2147483647 * KIB

_UNIT_BYTES = {"B": 1, "kB": KIB, "MB": MIB, "GB": GIB, "TB": 1024 * GIB}
_AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)\s*\Z")
_LOOSE_UNITS = {
    "": 1,
    "B": 1,
    "K": KIB,
    "KB": KIB,
    "KIB": KIB,
    "M": MIB,
    "MB": MIB,
    "MIB": MIB,
    "G": GIB,
    "GB": GIB,
    "GIB": GIB,
    "T": 1024 * GIB,
    "TB": 1024 * GIB,
    "TIB": 1024 * GIB,
}

# Settings that take part in the sum: the unit of a bare number in bytes, and the server's default.
_MEMORY_SETTINGS: dict[str, tuple[int, str]] = {
    "shared_buffers": (8 * KIB, "128MB"),
    "effective_cache_size": (8 * KIB, "4GB"),
    "work_mem": (KIB, "4MB"),
    "maintenance_work_mem": (KIB, "64MB"),
    "autovacuum_work_mem": (KIB, "-1"),
    "wal_buffers": (8 * KIB, "-1"),
    "temp_buffers": (8 * KIB, "8MB"),
    "logical_decoding_work_mem": (KIB, "64MB"),
}
_NUMBER_SETTINGS: dict[str, str] = {
    "max_connections": "100",
    "max_worker_processes": "8",
    "max_parallel_workers": "8",
    "max_wal_senders": "10",
    "autovacuum_max_workers": "3",
    "autovacuum_worker_slots": "16",
    "max_locks_per_transaction": "64",
    "max_prepared_transactions": "0",
}


@dataclass(frozen=True)
class Budget:
    """What a server may use, and what it was decided to use it for."""

    settings: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    parts: tuple[Part, ...]
    table: tuple[str, ...]
    budget_bytes: int
    cost_bytes: int


@dataclass(frozen=True)
class Row:
    """One setting: its value, how it came about, and what bound it."""

    name: str
    value: str
    formula: str
    bound_by: str


@dataclass(frozen=True)
class Part:
    """One part of the sum."""

    name: str
    size_bytes: float
    formula: str


class DoesNotFitError(ValueError):
    """No work_mem is left; the text says what would help."""


@dataclass(frozen=True)
class _Machine:
    memory_bytes: int
    memory_bound_by: str
    in_cgroup: bool
    cpus: int
    commit_limit_bytes: int | None


@dataclass(frozen=True)
class _Request:
    workload: str
    max_connections: int
    major: int
    share: float
    reserved_bytes: int
    settings: dict[str, str | None]


@dataclass(frozen=True)
class _Sizes:
    """What the sum consists of; bytes where it is memory."""

    budget: float
    active: int
    processes: int
    vacuums: int
    vacuum_slots: int
    parallel: int
    worker_processes: int
    locks: int
    page_table_share: int
    shared_buffers: float
    wal_buffers: float
    temp_buffers: int
    maintenance: float
    autovacuum: float
    decoding: int
    decoders: int
    nodes: int
    hash_multiplier: float
    work_mem: float


def memory_budget(
    resources: Mapping[str, Any],
    workload: str = "web",
    max_connections: int | str = 60,
    major: int | str = 17,
    share: float | str = 1.0,
    reserved: int | str = "0",
    settings: Mapping[str, Any] | None = None,
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

    Raises:
        DoesNotFitError: when no work_mem of at least 1 MB is left; says which number would fit.
        ValueError: for bad input.
    """
    machine = _machine(resources)
    automatic = str(max_connections).strip().lower() == "auto"
    request = _request(
        workload, 1 if automatic else max_connections, major, share, reserved, settings
    )
    if automatic and request.settings.get("max_connections") is None:
        request = replace(request, max_connections=_automatic_connections(machine, request))
    exact = _exact_sizes(machine, request)
    if not _fits(exact, request):
        raise DoesNotFitError(_refusal(machine, request, exact))
    sizes = _rounded_sizes(exact, request)
    parts = _parts(sizes, request)
    rows = _rows(machine, request, sizes)
    return Budget(
        tuple((row.name, row.value) for row in rows if row.name not in request.settings),
        rows,
        parts,
        _table(machine, request, sizes, parts, rows),
        int(sizes.budget),
        math.ceil(_cost(parts)),
    )


def memory_budget_until_restart(
    running_connections: int, resources: Mapping[str, Any], **request: Any
) -> Budget:
    """The budget of a server that may go on with more connections than it shall have.

    A lower max_connections waits for a restart, but work_mem changes at once: sized for the lower
    number, the sum of what all the sessions may use would be more than there is.

    Args:
        running_connections: max_connections of the running server; 0 when it does not count.
        resources: as for memory_budget(), whose other arguments C(request) holds by name.

    Raises:
        ValueError: as memory_budget(), for the number that shall be; what can't be had for the
            running one is no reason to refuse a lower one.
    """
    budget = memory_budget(resources, **request)
    settings = dict(request.get("settings") or {})
    wanted = settings.pop("max_connections", None) or request["max_connections"]
    if running_connections <= int(wanted):
        return budget
    sized = {**request, "settings": settings, "max_connections": running_connections}
    try:
        budget = memory_budget(resources, **sized)
    except DoesNotFitError:
        return budget
    line = f"  sized for the {running_connections} connections it takes until it is restarted"
    return replace(budget, table=(*budget.table, line))


def memory_needed_bytes(
    max_connections: int,
    workload: str = "web",
    major: int = 17,
    in_cgroup: bool = False,
    cpus: int = 4,
) -> int:
    """The least memory, in whole MiB, of a host on which so many connections fit."""
    machine = _Machine(0, "", in_cgroup, cpus, None)
    request = _request(workload, max_connections, major, 1.0, 0, None)
    return _memory_needed(machine, request) or 0


def memory_amount_bytes(where: str, value: Any) -> int:
    """Bytes of an amount of memory that a person wrote, such as C(512MB) or C(2 GB).

    Raises:
        ValueError: naming the variable, when it is none.
    """
    match = None if isinstance(value, bool) else _AMOUNT.match(str(value))
    factor = _LOOSE_UNITS.get(match.group(2).upper()) if match else None
    if match is None or factor is None:
        raise ValueError(
            f"{where}: {value!r} is no amount of memory; give a number with a unit,"
            " such as 512MB or 2GB"
        )
    return int(float(match.group(1)) * factor)


def memory_text(size_bytes: float) -> str:
    """An amount of memory for people: three significant digits and a unit."""
    for unit in ("TB", "GB", "MB"):
        if size_bytes >= _UNIT_BYTES[unit]:
            amount = size_bytes / _UNIT_BYTES[unit]
            digits = 0 if amount >= 100 else 1
            text = f"{amount:.{digits}f}"
            return f"{text[:-2] if text.endswith('.0') else text} {unit}"
    return f"{size_bytes / KIB:.0f} kB"


def _machine(resources: Mapping[str, Any]) -> _Machine:
    if not isinstance(resources, Mapping):
        raise ValueError(
            "memory_budget: give what host_resources_info returns as resources,"
            f" not {type(resources).__name__}"
        )
    memory = resources.get("memory_bytes")
    cpus = resources.get("cpus")
    if isinstance(memory, bool) or not isinstance(memory, int) or memory <= 0:
        raise ValueError(f"memory_budget: memory_bytes is {memory!r}, not a number of bytes")
    if isinstance(cpus, bool) or not isinstance(cpus, int) or cpus < 1:
        raise ValueError(f"memory_budget: cpus is {cpus!r}, not a number of at least 1")
    limited = int(resources.get("overcommit_memory") or 0) == 2
    commit_limit = resources.get("commit_limit_bytes") if limited else None
    return _Machine(
        memory,
        str(resources.get("memory_bound_by") or "given"),
        bool(resources.get("in_cgroup", False)),
        cpus,
        commit_limit,
    )


def _request(
    workload: str,
    max_connections: int | str,
    major: int | str,
    share: float | str,
    reserved: int | str,
    settings: Mapping[str, Any] | None,
) -> _Request:
    if workload not in WORKLOADS:
        raise ValueError(
            f"postgres_workload: {workload!r} is no workload; choose one of {', '.join(WORKLOADS)}"
        )
    number = _whole("postgres_version", major, OLDEST_MAJOR, NEWEST_MAJOR)
    try:
        part = float(share)
    except (TypeError, ValueError):
        part = math.nan
    if not 0 < part <= 1:
        raise ValueError(
            f"postgres_memory_share: {share!r} is no share; give a number above 0 and up to 1"
        )
    given = {str(name).lower(): value for name, value in (settings or {}).items()}
    texts = {
        name: None if value is None else setting_text(f"postgres_settings.{name}", value)
        for name, value in given.items()
    }
    connections = _whole("postgres_max_connections", max_connections, 1, MOST_CONNECTIONS)
    if "max_connections" in texts:
        connections = int(_number(texts, "max_connections"))
    return _Request(
        workload,
        connections,
        number,
        part,
        memory_amount_bytes("postgres_memory_reserved", reserved),
        texts,
    )


def _whole(where: str, value: Any, least: int, most: int) -> int:
    text = "" if isinstance(value, bool) else str(value).strip()
    if not re.match(r"[0-9]{1,9}\Z", text) or not least <= int(text) <= most:
        raise ValueError(f"{where}: {value!r} is no whole number from {least} to {most}")
    return int(text)


def _memory_setting(settings: Mapping[str, str | None], name: str) -> int | None:
    """Bytes of a setting that the user gave; None where it is ours; -1 where the user said -1."""
    if name not in settings:
        return None
    unit, default = _MEMORY_SETTINGS[name]
    text = default if settings[name] is None else str(settings[name])
    if text.strip() == "-1" and default == "-1":
        return -1
    match = _AMOUNT.match(text)
    suffix = match.group(2) if match else ""
    if match is None or (suffix and suffix not in _UNIT_BYTES):
        raise ValueError(
            f"postgres_settings.{name}: {text!r} is no amount of memory for Postgres;"
            " give a number with one of the units B, kB, MB, GB, TB"
        )
    return int(float(match.group(1)) * (_UNIT_BYTES[suffix] if suffix else unit))


def _number(settings: Mapping[str, str | None], name: str) -> int:
    text = settings.get(name)
    text = _NUMBER_SETTINGS[name] if text is None else text
    return _whole(f"postgres_settings.{name}", text, 0, MOST_CONNECTIONS)


def _hash_multiplier(request: _Request) -> float:
    text = request.settings.get("hash_mem_multiplier")
    if text is None:
        return 2.0 if request.major >= 15 else 1.0
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value <= 1000:
        raise ValueError(
            f"postgres_settings.hash_mem_multiplier: {text!r} is no number from 1 to 1000"
        )
    return value


def _truncated(size: float, bits: int, least: int) -> int:
    """A multiple of a power of two that keeps so many leading bits; never more than was given."""
    quantum = float(least)
    while quantum * 2 ** (bits + 1) <= size:
        quantum *= 2
    return int(size // quantum * quantum)


def _system_reserve(machine: _Machine) -> int:
    if machine.in_cgroup:
        return int(min(max(machine.memory_bytes * 0.05, 32 * MIB), 512 * MIB))
    return int(min(max(machine.memory_bytes * 0.10, 160 * MIB), 4 * GIB))


def _shared_buffers_wish(budget: float, workload: str) -> float:
    """A quarter of the budget, and less below 1.5 GiB, where the fixed costs weigh more."""
    if workload == "desktop":
        return budget / 16
    if budget <= GIB:
        return budget * 0.15
    return min(budget * 0.25, 0.15 * GIB + (budget - GIB) * 0.45)


def _exact_sizes(machine: _Machine, request: _Request) -> _Sizes:
    """The sizes before they are rounded down.

    work_mem follows from these, not from the rounded ones: when another size drops to the next
    round number, work_mem must not jump up. More memory or fewer connections then never lower it.
    """
    settings = request.settings
    reserve = _system_reserve(machine)
    budget = max(machine.memory_bytes - reserve - request.reserved_bytes, 0) * request.share
    if machine.commit_limit_bytes is not None:
        budget = min(budget, machine.commit_limit_bytes)

    parallel = _parallel_workers(machine, request)
    worker_processes = _own_number(request, "max_worker_processes", max(8, min(machine.cpus, 1024)))
    active = request.max_connections + parallel
    vacuums = _number(settings, "autovacuum_max_workers")
    slots = _number(settings, "autovacuum_worker_slots") if request.major >= 18 else vacuums
    senders = _number(settings, "max_wal_senders")
    logical = (settings.get("wal_level") or "").strip().lower() == "logical"
    huge_pages = (settings.get("huge_pages") or "").strip().lower() == "on"
    page_table_share = _PAGE_TABLE_SHARE_HUGE if huge_pages else _PAGE_TABLE_SHARE

    buffers: float | None = _memory_setting(settings, "shared_buffers")
    if buffers is None:
        most: list[float] = [
            _shared_buffers_wish(budget, request.workload),
            0.35 * budget / (_BUFFER_OVERHEAD + active / page_table_share),
            0.4 * budget,
            _MOST_SHARED_BUFFERS_BYTES,
        ]
        cache = _memory_setting(settings, "effective_cache_size")
        buffers = max(min(most if cache is None else [*most, cache]), 128 * KIB)
    wal: float | None = _memory_setting(settings, "wal_buffers")
    if wal is None or wal == -1:
        wal = min(max(buffers / 32, 64 * KIB), 16 * MIB)
    temp = _memory_setting(settings, "temp_buffers")
    if temp is None:
        temp = 8 * MIB if request.workload == "dw" else 800 * KIB
    maintenance: float | None = _memory_setting(settings, "maintenance_work_mem")
    if maintenance is None:
        part = budget / (8 if request.workload == "dw" else 16)
        maintenance = min(max(part / _MAINTENANCE_SESSIONS, MIB), 8 * GIB)
    autovacuum: float | None = _memory_setting(settings, "autovacuum_work_mem")
    if autovacuum is None:
        most = [maintenance, budget / (16 * max(vacuums, 1)), _most_autovacuum_bytes(request.major)]
        autovacuum = max(min(most), MIB)
    elif autovacuum == -1:
        autovacuum = maintenance
    decoding = _memory_setting(settings, "logical_decoding_work_mem")
    sizes = _Sizes(
        budget=budget,
        active=active,
        processes=request.max_connections
        + worker_processes
        + senders
        + 1
        + slots
        + _number(settings, "max_prepared_transactions"),
        vacuums=vacuums,
        vacuum_slots=slots,
        parallel=parallel,
        worker_processes=worker_processes,
        locks=_number(settings, "max_locks_per_transaction"),
        page_table_share=page_table_share,
        shared_buffers=buffers,
        wal_buffers=wal,
        temp_buffers=int(temp),
        maintenance=maintenance,
        autovacuum=autovacuum,
        decoding=int(64 * MIB if decoding is None else decoding),
        decoders=senders if logical else 0,
        nodes=_NODES[request.workload],
        hash_multiplier=_hash_multiplier(request),
        work_mem=0,
    )
    work_mem: float | None = _memory_setting(settings, "work_mem")
    if work_mem is None:
        left = budget - _cost(_parts(sizes, request))
        share = active * sizes.nodes * sizes.hash_multiplier
        work_mem = min(left / share, _MOST_WORK_MEM_BYTES)
    return replace(sizes, work_mem=work_mem)


def _rounded_sizes(sizes: _Sizes, request: _Request) -> _Sizes:
    """Round numbers, each at most the exact one; what the user set stays as it is."""

    def rounded(name: str, size: float, bits: int, quantum: int, least: int) -> float:
        given = _memory_setting(request.settings, name)
        if given is None:
            return max(_truncated(size, bits, quantum), least)
        return size

    buffers = rounded("shared_buffers", sizes.shared_buffers, 3, 8 * MIB, 128 * KIB)
    maintenance = rounded("maintenance_work_mem", sizes.maintenance, 4, MIB, MIB)
    autovacuum = rounded("autovacuum_work_mem", sizes.autovacuum, 4, MIB, MIB)
    if _memory_setting(request.settings, "autovacuum_work_mem") == -1:
        autovacuum = maintenance
    wal = sizes.wal_buffers
    if _memory_setting(request.settings, "wal_buffers") in (None, -1):
        wal = min(max(int(buffers / 32) // (64 * KIB), 1) * 64 * KIB, 16 * MIB)
    return replace(
        sizes,
        shared_buffers=buffers,
        wal_buffers=wal,
        maintenance=maintenance,
        autovacuum=autovacuum,
        work_mem=rounded("work_mem", sizes.work_mem, 4, 64 * KIB, MIB),
    )


def _own_number(request: _Request, name: str, ours: int) -> int:
    return _number(request.settings, name) if name in request.settings else ours


def _parallel_workers(machine: _Machine, request: _Request) -> int:
    cpus = min(machine.cpus, 1024)
    wide = request.workload in ("dw", "mixed")
    return _own_number(request, "max_parallel_workers", cpus if wide else (cpus + 1) // 2)


def _workers_per_query(machine: _Machine, request: _Request) -> int:
    half = min(machine.cpus, 1024) // 2
    return half if request.workload == "dw" else min(half, 4)


def _most_autovacuum_bytes(major: int) -> int:
    return 2 * GIB if major >= 17 else 1 * GIB


def _parts(sizes: _Sizes, request: _Request) -> tuple[Part, ...]:
    buffers = sizes.shared_buffers
    queries = sizes.active * sizes.nodes
    return (
        Part(
            "shared_buffers",
            _BUFFER_OVERHEAD * buffers,
            f"{_BUFFER_OVERHEAD} x {memory_text(buffers)}",
        ),
        Part("wal_buffers", sizes.wal_buffers, "shared_buffers / 32, up to 16 MB"),
        Part(
            "other shared memory",
            _SHARED_BASE_BYTES
            + sizes.processes * (_SHARED_PER_PROCESS_BYTES + _SHARED_PER_LOCK_BYTES * sizes.locks),
            f"48 MB + {sizes.processes} processes x {48 + 0.42 * sizes.locks:.1f} kB",
        ),
        Part(
            "page tables",
            sizes.active * buffers / sizes.page_table_share,
            f"{sizes.active} backends x shared_buffers / {sizes.page_table_share}",
        ),
        Part(
            "backends",
            (sizes.active + sizes.vacuum_slots) * _BACKEND_BYTES,
            f"{sizes.active + sizes.vacuum_slots} processes x 5 MB",
        ),
        Part(
            "temp_buffers",
            request.max_connections * sizes.temp_buffers,
            f"{request.max_connections} connections x {memory_text(sizes.temp_buffers)}",
        ),
        Part(
            "maintenance_work_mem",
            sizes.maintenance * _MAINTENANCE_SESSIONS,
            f"{_MAINTENANCE_SESSIONS} x {memory_text(sizes.maintenance)}",
        ),
        Part(
            "autovacuum_work_mem",
            sizes.autovacuum * sizes.vacuums,
            f"{sizes.vacuums} workers x {memory_text(sizes.autovacuum)}",
        ),
        Part(
            "logical decoding",
            sizes.decoding * sizes.decoders,
            f"{sizes.decoders} senders x {memory_text(sizes.decoding)}",
        ),
        Part(
            "work_mem",
            queries * sizes.hash_multiplier * sizes.work_mem,
            f"{sizes.active} backends x {sizes.nodes} x {sizes.hash_multiplier:g}"
            f" x {memory_text(sizes.work_mem)}",
        ),
    )


def _cost(parts: tuple[Part, ...]) -> float:
    return sum(part.size_bytes for part in parts)


def _fits(sizes: _Sizes, request: _Request) -> bool:
    if _memory_setting(request.settings, "work_mem") is None:
        return sizes.work_mem >= _LEAST_WORK_MEM_BYTES
    return _cost(_parts(sizes, request)) <= sizes.budget


def _most_connections(
    machine: _Machine, request: _Request, most: int, least_work_mem: float = 0
) -> int:
    """The largest number of connections up to most that fits; 0 when not even one does."""
    fitting, too_many = 0, most + 1
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        tried = replace(request, max_connections=middle)
        sizes = _exact_sizes(machine, tried)
        if _fits(sizes, tried) and sizes.work_mem >= least_work_mem:
            fitting = middle
        else:
            too_many = middle
    return fitting


def _automatic_connections(machine: _Machine, request: _Request) -> int:
    least = 0 if "work_mem" in request.settings else _PLENTY_WORK_MEM_BYTES
    return max(_most_connections(machine, request, _MOST_AUTO_CONNECTIONS, least), 1)


def _memory_needed(machine: _Machine, request: _Request) -> int | None:
    """The least memory, in whole MiB, with which the request fits; None when none does."""

    def fits(memory: int) -> bool:
        tried = replace(machine, memory_bytes=memory, commit_limit_bytes=None)
        return _fits(_exact_sizes(tried, request), request)

    enough = 64 * MIB
    while not fits(enough):
        enough *= 2
        if enough > _LARGEST_MEMORY_BYTES:
            return None
    too_little = 0
    while enough - too_little > MIB:
        middle = (enough + too_little) // 2 // MIB * MIB
        if fits(middle):
            enough = middle
        else:
            too_little = middle
    return enough


def _refusal(machine: _Machine, request: _Request, sizes: _Sizes) -> str:
    budget = memory_text(sizes.budget)
    asked = request.max_connections
    if "work_mem" in request.settings:
        cost = memory_text(_cost(_parts(sizes, request)))
        why = (
            f"with work_mem = {request.settings['work_mem']} in postgres_settings"
            f" everything together takes {cost}"
        )
    else:
        why = "not even 1 MB of work_mem is left for each backend"
    first = (
        f"max_connections = {asked} does not fit into the {budget} that Postgres may use here"
        f" ({memory_text(machine.memory_bytes)} {machine.memory_bound_by}): {why}."
    )
    most = _most_connections(machine, request, asked - 1)
    largest = (
        f" The largest number that fits is {most}."
        if most
        else " No number of connections fits: give the host more memory,"
        " or lower postgres_memory_reserved and what postgres_settings sets."
    )
    needed = _memory_needed(machine, request)
    memory = f" {asked} connections need {memory_text(needed)} of memory." if needed else ""
    pooler = (
        " Usually the answer is a pooler: clients that go through PgBouncer share few server"
        " connections."
        if most
        else ""
    )
    return first + largest + memory + pooler


def _setting_memory(size_bytes: float) -> str:
    """An amount of memory as Postgres reads it, in the largest unit that is exact."""
    kilobytes = int(size_bytes) // KIB
    for factor, unit in ((MIB, "GB"), (KIB, "MB")):
        if kilobytes and kilobytes % factor == 0:
            return f"{kilobytes // factor}{unit}"
    return f"{kilobytes}kB"


def _rows(machine: _Machine, request: _Request, sizes: _Sizes) -> tuple[Row, ...]:
    bound = machine.memory_bound_by
    cpus = f"{machine.cpus} CPUs"
    workload = f"workload {request.workload}"
    per_query = _workers_per_query(machine, request)
    ours = (
        Row("max_connections", str(request.max_connections), "connection budget", "clients"),
        Row(
            "shared_buffers",
            _setting_memory(sizes.shared_buffers),
            *_buffers_reason(request, sizes, bound),
        ),
        Row(
            "effective_cache_size",
            _setting_memory(_effective_cache(request, sizes)),
            "75 % of the budget, at most what is left for caches",
            bound,
        ),
        Row(
            "work_mem",
            _setting_memory(sizes.work_mem),
            f"what is left / ({sizes.active} backends x {sizes.nodes} x {sizes.hash_multiplier:g})",
            f"{bound}, max_connections",
        ),
        Row(
            "maintenance_work_mem",
            _setting_memory(sizes.maintenance),
            f"budget / {8 if request.workload == 'dw' else 16}, up to 8 GB",
            bound,
        ),
        Row(
            "autovacuum_work_mem",
            _setting_memory(sizes.autovacuum),
            f"budget / (16 x {sizes.vacuums} workers),"
            f" up to {memory_text(_most_autovacuum_bytes(request.major))}",
            bound,
        ),
        Row(
            "wal_buffers",
            _setting_memory(sizes.wal_buffers),
            "shared_buffers / 32, up to 16 MB",
            "shared_buffers",
        ),
        Row("temp_buffers", _setting_memory(sizes.temp_buffers), "by workload", workload),
        Row(
            "max_worker_processes",
            str(sizes.worker_processes),
            "one for each CPU, at least 8",
            cpus,
        ),
        Row(
            "max_parallel_workers",
            str(sizes.parallel),
            "one for each CPU"
            if request.workload in ("dw", "mixed")
            else "one for each second CPU",
            cpus,
        ),
        Row(
            "max_parallel_workers_per_gather",
            str(per_query),
            "half the CPUs" if request.workload == "dw" else "half the CPUs, up to 4",
            cpus,
        ),
        Row(
            "max_parallel_maintenance_workers",
            str(min(per_query, 4)),
            "half the CPUs, up to 4",
            cpus,
        ),
        Row(
            "max_wal_size",
            _setting_memory(_MAX_WAL_BYTES[request.workload]),
            "by workload",
            workload,
        ),
        Row(
            "min_wal_size",
            _setting_memory(_MAX_WAL_BYTES[request.workload] / 4),
            "a quarter of max_wal_size",
            workload,
        ),
        Row("checkpoint_completion_target", "0.9", "writes spread over the interval", "constant"),
        Row("random_page_cost", "1.1", "solid state disks", "constant"),
        Row("effective_io_concurrency", "200", "solid state disks", "constant"),
        Row("jit", _JIT[request.workload], "by workload", workload),
    )
    return tuple(
        Row(row.name, _given(request, row.name), "as postgres_settings says", "postgres_settings")
        if row.name in request.settings
        else row
        for row in ours
    )


def _given(request: _Request, name: str) -> str:
    text = request.settings[name]
    return "server's default" if text is None else text


def _buffers_reason(request: _Request, sizes: _Sizes, bound: str) -> tuple[str, str]:
    wish = _shared_buffers_wish(sizes.budget, request.workload)
    if sizes.shared_buffers >= _truncated(wish, 3, 8 * MIB):
        return f"{100 * wish / max(sizes.budget, 1):.0f} % of the budget, rounded down", bound
    return (
        f"less than {memory_text(wish)}, for the page tables of {sizes.active} backends",
        "max_connections",
    )


def _effective_cache(request: _Request, sizes: _Sizes) -> float:
    """What the planner may count on: the server's own buffers and the page cache."""
    lasting = sum(
        part.size_bytes
        for part in _parts(sizes, request)
        if part.name in ("wal_buffers", "other shared memory", "page tables", "backends")
    )
    cache = min(0.75 * sizes.budget, sizes.budget - lasting, _MOST_EFFECTIVE_CACHE_BYTES)
    return max(_truncated(cache, 4, 8 * MIB), sizes.shared_buffers)


def _table(
    machine: _Machine,
    request: _Request,
    sizes: _Sizes,
    parts: tuple[Part, ...],
    rows: tuple[Row, ...],
) -> tuple[str, ...]:
    """The sum in MB, then the settings. The shown numbers add up exactly to the shown budget."""
    total = round(sizes.budget / MIB)
    spare = Part("not assigned", sizes.budget - _cost(parts), "left to the page cache")
    shown = [part for part in (*parts, spare) if part.size_bytes]
    width = max(len(part.name) for part in shown)
    lines = [
        f"{memory_text(machine.memory_bytes)} {machine.memory_bound_by}, of which Postgres may use"
        f" {memory_text(sizes.budget)}: {request.workload}, PostgreSQL {request.major}"
    ]
    running = 0.0
    for part in shown:
        before = round(running / MIB)
        running += part.size_bytes
        amount = round(running / MIB) - before
        lines.append(f"  {part.name:<{width}}  {amount:>9} MB  {part.formula}")
    lines.append(f"  {'budget':<{width}}  {total:>9} MB")
    names = max(len(row.name) for row in rows)
    values = max(len(row.value) for row in rows)
    lines.extend(
        f"  {row.name:<{names}}  {row.value:>{values}}  {row.formula}; bound by {row.bound_by}"
        for row in rows
    )
    return tuple(lines)
