# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings that a machine leads to, each with how it came about and what bound it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.request import (
    GIB,
    KIB,
    MIB,
    SHARED_BY_CLUSTER,
    Machine,
    Request,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.sum import (
    Sizes,
    Solution,
    most_autovacuum_bytes,
    parts,
    running_bytes,
    shared_buffers_wish,
    steady,
    truncated,
)

_JIT = {"web": "off", "oltp": "off", "desktop": "off", "mixed": "on", "dw": "on"}
_MAX_WAL_BYTES = {
    "web": 4 * GIB,
    "oltp": 8 * GIB,
    "dw": 16 * GIB,
    "mixed": 4 * GIB,
    "desktop": 2 * GIB,
}
_WAL_SHARE = 0.2
# Postgres wants two segments of 16 MB.
_LEAST_WAL_BYTES = 32 * MIB
_MOST_EFFECTIVE_CACHE_BYTES = 2147483647 * 8 * KIB
_STORAGE = {
    "ssd": ("1.1", "200", "solid state disks"),
    "hdd": ("4", "2", "rotating disks"),
}
_SHM = "/dev/shm"  # noqa: S108 - its size is what matters
# What a process of a parallel query needs of /dev/shm for its queues.
_QUEUE_BYTES = MIB
# /dev/shm is half of MemTotal, which differs a little from one boot to the next.
_SHM_JITTER_BYTES = 8 * MIB


class DoesNotFitError(ValueError):
    """The machine is too small for what is asked; the text says what would help."""


@dataclass(frozen=True)
class Row:
    """One setting: its value, how it came about, and what bound it."""

    name: str
    value: str
    formula: str
    bound_by: str


@dataclass(frozen=True)
class Parallel:
    """How many workers may run, and what speaks against more."""

    per_query: int
    maintenance: int
    per_query_bound_by: str
    maintenance_bound_by: str
    warnings: tuple[str, ...] = ()


def memory_text(size_bytes: float) -> str:
    """An amount of memory for people: three significant digits and a unit."""
    for unit, factor in (("TB", 1024 * GIB), ("GB", GIB), ("MB", MIB)):
        if size_bytes >= factor:
            amount = size_bytes / factor
            digits = 0 if amount >= 100 else 1
            text = f"{amount:.{digits}f}"
            return f"{text[:-2] if text.endswith('.0') else text} {unit}"
    return f"{size_bytes / KIB:.0f} kB"


def setting_memory(size_bytes: float) -> str:
    """An amount of memory as Postgres reads it, in the largest unit that is exact."""
    kilobytes = int(size_bytes) // KIB
    for factor, unit in ((MIB, "GB"), (KIB, "MB")):
        if kilobytes and kilobytes % factor == 0:
            return f"{kilobytes // factor}{unit}"
    return f"{kilobytes}kB"


def busy_text(sizes: Sizes) -> str:
    """How often work_mem may be in use at the same time, in words."""
    if sizes.working > sizes.active:
        return f"{sizes.connections} connections x {sizes.workers_per_query + 1} processes"
    return f"{sizes.active} backends"


def parallel_workers(machine: Machine, request: Request, sizes: Sizes) -> Parallel:
    """Workers as the CPUs allow, and none for queries or maintenance without room in /dev/shm.

    A parallel query keeps there what its processes share, and a parallel vacuum what it remembers
    of dead rows. A session takes it for the workers that were planned, even when none is free.
    """
    per_query, maintenance = sizes.workers_per_query, min(min(machine.cpus, 1024) // 2, 4)
    cpus = f"{machine.cpus} CPUs"
    if machine.shm_bytes is None or request.text("dynamic_shared_memory_type") != "posix":
        return Parallel(per_query, maintenance, cpus, cpus)
    usable = machine.shm_bytes - min(_SHM_JITTER_BYTES, machine.shm_bytes // 16)
    shm = f"{_SHM} of {memory_text(machine.shm_bytes)}"
    warnings = []
    remembered = sizes.maintenance_work_mem
    if request.major < 17:
        remembered = min(remembered, GIB)
    if request.user_sets("max_parallel_maintenance_workers"):
        maintenance = request.whole("max_parallel_maintenance_workers")
    maintenance_bound, per_query_bound = cpus, cpus
    if maintenance and remembered > usable / 2:
        maintenance, maintenance_bound = 0, _SHM
        warnings.append(
            f"{shm} has no room for a parallel vacuum, which remembers up to"
            f" {memory_text(remembered)} of dead rows there"
        )
    elif maintenance:
        usable -= int(remembered)
    need = sizes.connections * _shared_by_query_bytes(sizes)
    if per_query and need > usable:
        per_query, per_query_bound = 0, _SHM
        warnings.append(
            f"{shm} has no room for parallel queries: {sizes.connections} connections may need"
            f" {memory_text(need)} there; enlarge it (in a container: --shm-size), or lower"
            " work_mem"
        )
    return Parallel(per_query, maintenance, per_query_bound, maintenance_bound, tuple(warnings))


def _shared_by_query_bytes(sizes: Sizes) -> float:
    """What a parallel query may keep in /dev/shm: bitmaps, queues, and hash tables if enabled."""
    processes = sizes.workers_per_query + 1
    each = sizes.work_mem
    if sizes.parallel_hash:
        each = max(each, sizes.hash_multiplier * sizes.work_mem * processes)
    return sizes.nodes * each + processes * _QUEUE_BYTES


def wal_rows(
    machine: Machine, request: Request, running: Mapping[str, str]
) -> tuple[Row, Row, tuple[str, ...]]:
    """max_wal_size and min_wal_size, which leave the filesystem its room, and what to mind.

    Raises:
        DoesNotFitError: when the filesystem is too small for any value that Postgres takes.
    """
    workload = f"workload {request.workload}"
    size: float = _MAX_WAL_BYTES[request.workload]
    formula, bound = "by workload", workload
    warnings: tuple[str, ...] = ()
    if machine.wal_bytes is not None:
        place = f"WAL filesystem {machine.wal_path}".rstrip()
        most = _WAL_SHARE * machine.wal_bytes
        if request.user_sets("max_wal_size"):
            if request.size("max_wal_size") > most:
                warnings = (
                    f"max_wal_size = {request.settings['max_wal_size'] or 'the default'} in"
                    f" postgres_settings is more than a fifth of the {place}, which has"
                    f" {memory_text(machine.wal_bytes)}",
                )
        elif most < _LEAST_WAL_BYTES:
            raise DoesNotFitError(
                f"max_wal_size: a fifth of the {place} is {memory_text(most)}, and Postgres takes"
                f" nothing below {memory_text(_LEAST_WAL_BYTES)}; give it a filesystem of at least"
                f" {memory_text(_LEAST_WAL_BYTES / _WAL_SHARE)}, or set max_wal_size in"
                " postgres_settings"
            )
        elif most < size:
            size, bound = max(truncated(most, "max_wal_size"), _LEAST_WAL_BYTES), place
            formula = f"a fifth of {memory_text(machine.wal_bytes)}, rounded down"
        runs = running_bytes(running, "max_wal_size", request.major)
        fits = runs is not None and _LEAST_WAL_BYTES <= runs <= most
        if runs and runs != size and fits and steady(runs, size, size, size, "max_wal_size"):
            formula = f"as it runs, one step from {setting_memory(size)}"
            size = runs
    if request.user_sets("max_wal_size"):
        size = min(size, request.size("max_wal_size"))
    least = max(size // 4 // MIB * MIB, _LEAST_WAL_BYTES)
    return (
        Row("max_wal_size", setting_memory(size), formula, bound),
        Row("min_wal_size", setting_memory(least), "a quarter of max_wal_size", "max_wal_size"),
        warnings,
    )


def all_rows(
    machine: Machine,
    request: Request,
    solution: Solution,
    running: Mapping[str, str],
    automatic: bool,
) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Every setting, those that the user decides too, and warnings."""
    sizes = solution.sizes
    bound = machine.memory_bound_by
    workload = f"workload {request.workload}"
    workers = parallel_workers(machine, request, sizes)
    max_wal, min_wal, wal_warnings = wal_rows(machine, request, running)
    page_cost, concurrency, disks = _STORAGE[request.storage]
    each_cpu = (
        "one for each CPU" if request.workload in ("dw", "mixed") else "half the CPUs, rounded up"
    )
    if request.servers > 1:
        most_cpus = f"one for each CPU of the largest of {request.servers} servers, at least 8"
    else:
        most_cpus = "one for each CPU, at least 8"
    ours: tuple[Row, ...] = (
        Row(
            "max_connections",
            str(request.max_connections),
            "the most that leave 2 MB of work_mem, up to 100" if automatic else "connection budget",
            "memory" if automatic else "clients",
        ),
        Row(
            "shared_buffers",
            setting_memory(sizes.shared_buffers),
            *_buffers_reason(request, sizes, bound),
        ),
        _effective_cache(request, solution, running, bound),
        Row(
            "work_mem",
            setting_memory(sizes.work_mem),
            f"what is left / ({busy_text(sizes)} x {sizes.nodes} x {sizes.hash_multiplier:g})",
            f"{bound}, max_connections",
        ),
        Row(
            "maintenance_work_mem",
            setting_memory(sizes.maintenance_work_mem),
            f"budget / {8 if request.workload == 'dw' else 16}, up to 8 GB",
            bound,
        ),
        Row(
            "autovacuum_work_mem",
            setting_memory(sizes.autovacuum_work_mem),
            f"budget / (16 x {sizes.vacuums} workers),"
            f" up to {memory_text(most_autovacuum_bytes(request.major))}",
            bound,
        ),
        Row(
            "wal_buffers",
            setting_memory(sizes.wal_buffers),
            "shared_buffers / 32, up to 16 MB",
            "shared_buffers",
        ),
        Row("temp_buffers", setting_memory(sizes.temp_buffers), "by workload", workload),
        Row(
            "max_worker_processes",
            str(sizes.worker_processes),
            most_cpus,
            f"{request.most_cpus} CPUs",
        ),
        Row(
            "max_parallel_workers",
            str(sizes.parallel),
            each_cpu,
            f"{machine.cpus} CPUs",
        ),
        Row(
            "max_parallel_workers_per_gather",
            str(workers.per_query),
            "half the CPUs" if request.workload == "dw" else "half the CPUs, up to 4",
            workers.per_query_bound_by,
        ),
        Row(
            "max_parallel_maintenance_workers",
            str(workers.maintenance),
            "half the CPUs, up to 4",
            workers.maintenance_bound_by,
        ),
        Row(
            "enable_parallel_hash",
            "off",
            "a shared table takes all planned workers' memory",
            "constant",
        ),
        max_wal,
        min_wal,
        Row("checkpoint_completion_target", "0.9", "writes spread over the interval", "constant"),
        Row("random_page_cost", page_cost, disks, "postgres_storage"),
        Row("effective_io_concurrency", concurrency, disks, "postgres_storage"),
        Row("jit", _JIT[request.workload], "by workload", workload),
    )
    if request.servers > 1:
        present = {row.name for row in ours}
        ours += tuple(
            Row(
                name,
                str(request.whole(name)),
                "the server's default, the same on all servers of the cluster",
                "postgres_cluster_hosts",
            )
            for name in SHARED_BY_CLUSTER
            if name not in present
        )
    return tuple(_final(request, solution, row) for row in ours), (
        *workers.warnings,
        *wal_warnings,
    )


def _final(request: Request, solution: Solution, row: Row) -> Row:
    """The row as it is when the user decides the value, or when the value stays as it runs."""
    if request.user_sets(row.name):
        text = request.settings[row.name]
        value = "server's default" if text is None else text
        return Row(row.name, value, "as postgres_settings says", "postgres_settings")
    if row.name in solution.kept:
        otherwise = setting_memory(solution.kept[row.name])
        return replace(row, formula=f"as it runs, one step from {otherwise}")
    return row


def _buffers_reason(request: Request, sizes: Sizes, bound: str) -> tuple[str, str]:
    wish = shared_buffers_wish(sizes.budget, request.workload)
    if sizes.shared_buffers >= truncated(wish, "shared_buffers"):
        return f"{100 * wish / max(sizes.budget, 1):.0f} % of the budget, rounded down", bound
    if request.user_sets("effective_cache_size"):
        return f"less than {memory_text(wish)}, at most effective_cache_size", "postgres_settings"
    return (
        f"less than {memory_text(wish)}, for the page tables of {sizes.active} backends",
        "max_connections",
    )


def _cache_bytes(sizes: Sizes) -> float:
    """What the planner may count on: the server's own buffers and the page cache."""
    lasting = sum(
        part.size_bytes
        for part in parts(sizes)
        if part.name
        in (
            "wal_buffers",
            "other shared memory",
            "more shared memory",
            "unused huge pages",
            "page tables",
            "backends",
        )
    )
    return min(0.75 * sizes.budget, sizes.budget - lasting, _MOST_EFFECTIVE_CACHE_BYTES)


def _effective_cache(
    request: Request, solution: Solution, running: Mapping[str, str], bound: str
) -> Row:
    name = "effective_cache_size"
    buffers = solution.sizes.shared_buffers

    def rounded(sizes: Sizes) -> float:
        return max(truncated(max(_cache_bytes(sizes), 0), name), buffers)

    size = rounded(solution.exact)
    formula = "75 % of the budget, at most what is left for caches"
    runs = running_bytes(running, name, request.major)
    if runs is not None and runs != size and runs >= buffers and solution.near:
        lower, upper = (rounded(sizes) for sizes in solution.near)
        if steady(runs, size, lower, upper, name):
            formula = f"as it runs, one step from {setting_memory(size)}"
            size = runs
    return Row(name, setting_memory(size), formula, bound)
