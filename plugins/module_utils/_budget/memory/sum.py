# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sum of what a server can use, and the sizes with which it fits into what the server may use.

docs/sizing.md explains the terms and the constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Callable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.request import (
    DEFAULT_HUGE_PAGE_BYTES,
    GIB,
    JITTER_BYTES,
    KIB,
    MIB,
    HugePages,
    Machine,
    Request,
    check_processes,
    reserved_connections,
    setting_bytes,
)

LEAST_WORK_MEM_BYTES = 1 * MIB
MAINTENANCE_SESSIONS = 1
BUFFER_OVERHEAD = 1.03
# Sorts and hashes that one busy backend runs at the same time.
_NODES = {"web": 1, "oltp": 1, "desktop": 1, "mixed": 2, "dw": 4}
_BACKEND_BYTES = 5 * MIB
_SHARED_BASE_BYTES = 48 * MIB
_SHARED_PER_PROCESS_KIB = 48
# What a process of Postgres 18 needs besides for its asynchronous reads.
_SHARED_PER_READER_KIB = 8
_SHARED_PER_LOCK_KIB = 0.42
_PAGE_TABLE_SHARE = 512
_PAGE_TABLE_SHARE_HUGE = 262144
_PLENTY_WORK_MEM_BYTES = 2 * MIB
_LARGEST_MEMORY_BYTES = 2**60
_MOST_AUTO_CONNECTIONS = 100
_LEAST_SHARED_BUFFERS_BYTES = 128 * KIB
_MOST_SHARED_BUFFERS_BYTES = 1073741823 * 8 * KIB
_MOST_WORK_MEM_BYTES = 2147483647 * KIB

# Bytes for each unit of a setting that the user may raise, beyond what the base has room for.
_MORE_SHARED: tuple[tuple[str, float, float], ...] = (
    ("min_dynamic_shared_memory", MIB, 0),
    *(
        (f"{name}_buffers", 1.33 * 8 * KIB, 0)
        for name in (
            "commit_timestamp",
            "multixact_member",
            "multixact_offset",
            "notify",
            "serializable",
            "subtransaction",
            "transaction",
        )
    ),
    ("max_replication_slots", 0.45 * KIB, 10),
    ("max_logical_replication_workers", 0.25 * KIB, 4),
    ("max_active_replication_origins", 72, 10),
    ("pg_stat_statements.max", 640, 5000),
)
# The same for each process, of which the server has some that no setting counts.
_MORE_PER_PROCESS: tuple[tuple[str, float, float], ...] = (
    ("max_pred_locks_per_transaction", 0.3 * KIB, 64),
    ("track_activity_query_size", 1, 1024),
)
_UNCOUNTED_PROCESSES = 48

# How the sizes are rounded down: leading bits that are kept, and the least step in bytes.
_STEPS = {
    "shared_buffers": (3, 8 * MIB),
    "effective_cache_size": (4, 8 * MIB),
    "maintenance_work_mem": (4, MIB),
    "autovacuum_work_mem": (4, MIB),
    "work_mem": (4, 64 * KIB),
    "max_wal_size": (3, 16 * MIB),
}
_LEAST_BYTES = {
    "shared_buffers": _LEAST_SHARED_BUFFERS_BYTES,
    "maintenance_work_mem": MIB,
    "autovacuum_work_mem": MIB,
    "work_mem": LEAST_WORK_MEM_BYTES,
}
# Sizes of the sum that may stay as they run, the one that gives way first being the first.
_STEADY = ("work_mem", "autovacuum_work_mem", "maintenance_work_mem", "shared_buffers")


@dataclass(frozen=True)
class Part:
    """One part of the sum."""

    name: str
    size_bytes: float
    formula: str


@dataclass(frozen=True)
class Sizes:
    """What the sum consists of; bytes where it is memory.

    C(slack) of the budget is left free, so that everything still fits when the kernel counts a
    little less memory.
    """

    budget: float
    slack: float
    connections: int
    active: int
    processes: int
    vacuums: int
    vacuum_slots: int
    parallel: int
    worker_processes: int
    per_process: float
    more_shared: float
    more_shared_for: tuple[str, ...]
    huge: bool
    page_bytes: int
    pool_bytes: int
    lost_bytes: int
    shared_buffers: float
    wal_buffers: float
    temp_buffers: int
    maintenance_work_mem: float
    autovacuum_work_mem: float
    decoding: int
    decoders: int
    nodes: int
    hash_multiplier: float
    work_mem: float
    # What the planner counts on for one query, whether or not it then gets it; and how often
    # nodes x hash_multiplier x work_mem may be in use at the same time.
    workers_per_query: int
    parallel_hash: bool
    working: int

    @property
    def page_table_share(self) -> int:
        """A process that has touched all buffers has page tables of this part of them."""
        return _PAGE_TABLE_SHARE_HUGE if self.huge else _PAGE_TABLE_SHARE

    @property
    def processes_bytes(self) -> float:
        """Shared memory that does not depend on buffers."""
        return _SHARED_BASE_BYTES + self.processes * self.per_process

    @property
    def shared_bytes(self) -> float:
        """All shared memory, at most."""
        return (
            BUFFER_OVERHEAD * self.shared_buffers
            + self.wal_buffers
            + self.processes_bytes
            + self.more_shared
        )

    @property
    def unused_pages_bytes(self) -> float:
        """What is locked as huge pages for this server, and more than it takes."""
        if not self.huge:
            return 0
        whole_pages = math.ceil(self.shared_bytes / self.page_bytes) * self.page_bytes
        return max(whole_pages, self.pool_bytes) - self.shared_bytes


@dataclass(frozen=True)
class Solution:
    """The sizes decided on, what they were before they were rounded down, and whether they fit.

    C(kept) has the names of sizes that stay as they run, with what they would be otherwise;
    C(near) what exact sizes a machine with a MemTotal a little different would have.
    """

    exact: Sizes
    sizes: Sizes
    fits: bool
    kept: Mapping[str, float]
    steady: bool
    near: tuple[Sizes, ...] = ()


def truncated(size: float, name: str) -> int:
    """A round number for a setting: never more than was given."""
    step = quantum(size, name)
    return int(size // step * step)


def quantum(size: float, name: str) -> float:
    """The step between round numbers of such a size."""
    bits, least = _STEPS[name]
    step = float(least)
    while step * 2 ** (bits + 1) <= size:
        step *= 2
    return step


def system_reserve(machine: Machine) -> int:
    """What stays with the system and with processes other than Postgres."""
    if machine.in_cgroup:
        return int(min(max(machine.memory_bytes * 0.05, 32 * MIB), 512 * MIB))
    return int(min(max(machine.memory_bytes * 0.10, 160 * MIB), 4 * GIB))


def shared_buffers_wish(budget: float, workload: str) -> float:
    """A quarter of the budget, and less below 1.5 GiB, where the fixed costs weigh more."""
    if workload == "desktop":
        return budget / 16
    if budget <= GIB:
        return budget * 0.15
    return min(budget * 0.25, 0.15 * GIB + (budget - GIB) * 0.45)


def most_autovacuum_bytes(major: int) -> int:
    """From Postgres 17 on, vacuum makes use of more than 1 GB."""
    return 2 * GIB if major >= 17 else 1 * GIB


def most_parallel_workers(machine: Machine, request: Request) -> int:
    """max_parallel_workers as the CPUs allow, or as the user says."""
    if request.user_sets("max_parallel_workers"):
        return request.whole("max_parallel_workers")
    cpus = min(machine.cpus, 1024)
    return cpus if request.workload in ("dw", "mixed") else (cpus + 1) // 2


def workers_per_query(machine: Machine, request: Request) -> int:
    """max_parallel_workers_per_gather as the CPUs allow, or as the user says."""
    name = "max_parallel_workers_per_gather"
    if request.user_sets(name):
        return request.whole(name)
    half = min(machine.cpus, 1024) // 2
    return half if request.workload == "dw" else min(half, 4)


def _parallel_hash(request: Request) -> bool:
    """Whether hash joins may share a table, which only the user asks for.

    Such a table takes the memory of all the workers that were planned, also when none of them is
    free and the session is alone with it.
    """
    name = "enable_parallel_hash"
    return request.user_sets(name) and request.text(name) == "on"


def _worker_processes(request: Request) -> int:
    if request.user_sets("max_worker_processes"):
        return request.whole("max_worker_processes")
    return max(8, min(request.most_cpus, 1024))


def exact_sizes(machine: Machine, request: Request, huge: bool, own_pages: int = 0) -> Sizes:
    """The sizes before they are rounded down.

    work_mem follows from these, not from the rounded ones: when another size drops to the next
    round number, work_mem must not jump up. More memory or fewer connections then never lower it.
    """
    page_bytes, pool, lost = _locked_pages(machine, request, huge, own_pages)
    free = machine.memory_bytes - system_reserve(machine) - request.reserved_bytes - lost
    budget = max(free, 0) * request.share
    slack = JITTER_BYTES * request.share
    if machine.commit_limit_bytes is not None and machine.commit_limit_bytes < budget:
        budget, slack = machine.commit_limit_bytes, JITTER_BYTES

    parallel = most_parallel_workers(machine, request)
    worker_processes = _worker_processes(request)
    active = request.max_connections + parallel
    per_query, parallel_hash = workers_per_query(machine, request), _parallel_hash(request)
    working = active
    if parallel_hash:
        working = max(active, request.max_connections * (per_query + 1))
    vacuums = request.whole("autovacuum_max_workers")
    slots = request.whole("autovacuum_worker_slots") if request.major >= 18 else vacuums
    senders = request.whole("max_wal_senders")
    backends = request.max_connections + worker_processes + senders + 1 + slots
    check_processes(request, backends + 2)
    processes = backends + request.whole("max_prepared_transactions")
    page_table_share = _PAGE_TABLE_SHARE_HUGE if huge else _PAGE_TABLE_SHARE

    if request.user_sets("shared_buffers"):
        buffers: float = request.size("shared_buffers")
    else:
        most = [
            shared_buffers_wish(budget, request.workload),
            0.35 * budget / (BUFFER_OVERHEAD + active / page_table_share),
            0.4 * budget,
            _MOST_SHARED_BUFFERS_BYTES,
        ]
        if request.user_sets("effective_cache_size"):
            most.append(request.size("effective_cache_size"))
        buffers = max(min(most), _LEAST_SHARED_BUFFERS_BYTES)
    wal: float = request.size("wal_buffers")
    if wal < 0:
        wal = min(max(buffers / 32, 64 * KIB), 16 * MIB)
    temp = request.size("temp_buffers")
    if not request.user_sets("temp_buffers"):
        temp = 8 * MIB if request.workload == "dw" else 800 * KIB
    if request.user_sets("maintenance_work_mem"):
        maintenance: float = request.size("maintenance_work_mem")
    else:
        part = budget / (8 if request.workload == "dw" else 16)
        maintenance = min(max(part / MAINTENANCE_SESSIONS, MIB), 8 * GIB)
    autovacuum: float = request.size("autovacuum_work_mem")
    if not request.user_sets("autovacuum_work_mem"):
        each = budget / (16 * max(vacuums, 1))
        autovacuum = max(min(maintenance, each, most_autovacuum_bytes(request.major)), MIB)
    elif autovacuum < 0:
        autovacuum = maintenance
    more, more_for = _more_shared(request, processes)
    sizes = Sizes(
        budget=budget,
        slack=slack,
        connections=request.max_connections,
        active=active,
        processes=processes,
        vacuums=vacuums,
        vacuum_slots=slots,
        parallel=parallel,
        worker_processes=worker_processes,
        per_process=_per_process(request),
        more_shared=more,
        more_shared_for=more_for,
        huge=huge,
        page_bytes=page_bytes,
        pool_bytes=pool,
        lost_bytes=lost,
        shared_buffers=buffers,
        wal_buffers=wal,
        temp_buffers=temp,
        maintenance_work_mem=maintenance,
        autovacuum_work_mem=autovacuum,
        decoding=request.size("logical_decoding_work_mem"),
        decoders=senders if request.text("wal_level") == "logical" else 0,
        nodes=_NODES[request.workload],
        hash_multiplier=request.number("hash_mem_multiplier") or 1.0,
        work_mem=0,
        workers_per_query=per_query,
        parallel_hash=parallel_hash,
        working=working,
    )
    work_mem: float = request.size("work_mem")
    if not request.user_sets("work_mem"):
        left = budget - slack - sum(part.size_bytes for part in parts(sizes))
        share = working * sizes.nodes * sizes.hash_multiplier
        work_mem = min(left / share, _MOST_WORK_MEM_BYTES)
    return replace(sizes, work_mem=work_mem)


def _per_process(request: Request) -> float:
    kibibytes = _SHARED_PER_PROCESS_KIB + _SHARED_PER_LOCK_KIB * request.whole(
        "max_locks_per_transaction"
    )
    if request.major >= 18:
        kibibytes += _SHARED_PER_READER_KIB
    return kibibytes * KIB


def _more_shared(request: Request, processes: int) -> tuple[float, tuple[str, ...]]:
    """Shared memory that the user's settings add to that of an ordinary server, and which do."""
    total = 0.0
    names = []
    for table, times in ((_MORE_SHARED, 1), (_MORE_PER_PROCESS, processes + _UNCOUNTED_PROCESSES)):
        for name, each, included in table:
            if request.user_sets(name) and request.number(name) > included:
                total += (request.number(name) - included) * each * times
                names.append(name)
    reads = [
        name for name in ("io_max_concurrency", "io_max_combine_limit") if request.user_sets(name)
    ]
    if reads:
        concurrency = request.whole("io_max_concurrency")
        each = 150 + 25 * request.whole("io_max_combine_limit")
        slots = concurrency if concurrency >= 0 else 64
        total += (processes + _UNCOUNTED_PROCESSES) * slots * each
        names.extend(reads)
    return total, tuple(names)


def _locked_pages(
    machine: Machine, request: Request, huge: bool, own_pages: int
) -> tuple[int, int, int]:
    """The size of a huge page, and bytes of such pages: for this server, and lost to it.

    A cgroup's limit does not count huge pages, so that they take nothing from it.
    """
    found = machine.huge_pages
    wanted = request.whole("huge_page_size") * KIB
    page = wanted or (found.page_bytes if found else DEFAULT_HUGE_PAGE_BYTES)
    if found is None or machine.in_cgroup:
        return page, 0, 0
    if huge and page == found.page_bytes:
        pool = min(found.free + own_pages, found.total)
        return page, pool * page, (found.total - pool) * page
    return page, 0, found.total * found.page_bytes


def parts(sizes: Sizes) -> tuple[Part, ...]:
    """The sum's parts; the report words their formulas."""
    return (
        Part("shared_buffers", BUFFER_OVERHEAD * sizes.shared_buffers, ""),
        Part("wal_buffers", sizes.wal_buffers, ""),
        Part("other shared memory", sizes.processes_bytes, ""),
        Part("more shared memory", sizes.more_shared, ""),
        Part("unused huge pages", sizes.unused_pages_bytes, ""),
        Part("page tables", sizes.active * sizes.shared_buffers / sizes.page_table_share, ""),
        Part("backends", (sizes.active + sizes.vacuum_slots) * _BACKEND_BYTES, ""),
        Part("temp_buffers", sizes.connections * sizes.temp_buffers, ""),
        Part("maintenance_work_mem", sizes.maintenance_work_mem * MAINTENANCE_SESSIONS, ""),
        Part("autovacuum_work_mem", sizes.autovacuum_work_mem * sizes.vacuums, ""),
        Part("logical decoding", sizes.decoding * sizes.decoders, ""),
        Part("work_mem", sizes.working * sizes.nodes * sizes.hash_multiplier * sizes.work_mem, ""),
    )


def cost_bytes(sizes: Sizes) -> int:
    """The sum, each part in whole bytes."""
    return sum(math.ceil(part.size_bytes) for part in parts(sizes))


def rounded_sizes(exact: Sizes, request: Request) -> Sizes:
    """Round numbers, each at most the exact one; what the user set stays as it is."""
    chosen = {
        name: max(truncated(getattr(exact, name), name), _LEAST_BYTES[name])
        for name in _STEADY
        if not request.user_sets(name)
    }
    return _with(exact, request, chosen)


def _with(sizes: Sizes, request: Request, chosen: Mapping[str, Any]) -> Sizes:
    """Sizes with some of them changed, and with those that follow from them."""
    changed = replace(sizes, **chosen)
    if request.user_sets("autovacuum_work_mem") and request.size("autovacuum_work_mem") < 0:
        changed = replace(changed, autovacuum_work_mem=changed.maintenance_work_mem)
    if request.size("wal_buffers") < 0:
        wal = changed.shared_buffers / 32
        if not request.user_sets("wal_buffers"):
            wal = wal // (64 * KIB) * 64 * KIB
        changed = replace(changed, wal_buffers=min(max(wal, 64 * KIB), 16 * MIB))
    return changed


def _fits(exact: Sizes, request: Request) -> bool:
    if request.user_sets("work_mem"):
        return cost_bytes(exact) <= int(exact.budget - exact.slack)
    return exact.work_mem >= LEAST_WORK_MEM_BYTES


def running_bytes(running: Mapping[str, str], name: str, major: int) -> int | None:
    """What a setting runs with; None when that is not known, or no value."""
    if running.get(name) is None:
        return None
    try:
        return setting_bytes(name, major, str(running[name]))
    except ValueError:
        return None


def steady(runs: int | None, target: float, lower: float, upper: float, name: str) -> bool:
    """Whether a size may stay as it runs.

    It may when it is one step from what it would be, or what a machine with a MemTotal that is a
    little different would have. Always measured from the formula's own value, so that it can't
    wander off.
    """
    if runs is None or runs < _LEAST_BYTES.get(name, 0):
        return False
    step = quantum(max(target, runs), name)
    return min(lower, target - step) <= runs <= max(upper, target + step)


def _settled(
    machine: Machine, request: Request, huge: bool, own_pages: int, running: Mapping[str, str]
) -> Solution:
    """The sizes on huge pages or without, those that run staying where they may."""

    exact = exact_sizes(machine, request, huge, own_pages)
    target = rounded_sizes(exact, request)
    fits = _fits(exact, request)
    names = [name for name in _STEADY if not request.user_sets(name)]
    runs = {name: running_bytes(running, name, request.major) for name in names}
    if not running:
        return Solution(exact, target, fits, {}, False)
    near = tuple(
        exact_sizes(machine.with_more(more), request, huge, own_pages)
        for more in (-JITTER_BYTES, JITTER_BYTES)
    )
    less, more = (rounded_sizes(sizes, request) for sizes in near)
    kept: dict[str, float] = {}
    for name in names:
        target_size, *bounds = (getattr(sizes, name) for sizes in (target, less, more))
        if steady(runs[name], target_size, min(bounds), max(bounds), name):
            kept[name] = runs[name] or 0
    unchanged = len(kept) == len(names)
    for name in ("", *_STEADY):
        if name in kept and kept[name] > getattr(target, name):
            del kept[name]
        sizes = _with(target, request, kept)
        if cost_bytes(sizes) <= int(exact.budget):
            break
    # A server that is left as it is fits as long as its sum does.
    same_connections = str(running.get("max_connections", request.max_connections)) == str(
        request.max_connections
    )
    unchanged = unchanged and len(kept) == len(names) and same_connections
    if not fits and unchanged:
        fits = cost_bytes(sizes) <= int(exact.budget)
    others = {name: getattr(target, name) for name in kept if kept[name] != getattr(target, name)}
    return Solution(exact, sizes, fits, others, unchanged, near)


def solve(machine: Machine, request: Request, running: Mapping[str, str]) -> Solution:
    """The sizes for a machine, on huge pages where Postgres is sure to get them."""
    word = request.text("huge_pages")
    own_pages = _own_pages(machine, request, running)
    found = machine.huge_pages
    if word == "on":
        return _settled(machine, request, True, own_pages, running)
    plain = _settled(machine, request, False, own_pages, running)
    if word != "try" or not found or not found.total or not _default_pages(request, found):
        return plain
    others = _settled(machine, request, True, 0, running)
    free_enough = others.sizes.shared_bytes <= found.free * found.page_bytes
    if plain.steady or (others.steady and others.fits and free_enough):
        # What runs goes well with pages in use being somebody else's.
        own_pages = 0
    available = min(found.free + own_pages, found.total) * found.page_bytes
    huge = _settled(machine, request, True, own_pages, running)
    enough = huge.sizes.shared_bytes <= available
    if enough and running.get("shared_buffers") is not None and (plain.steady or not huge.steady):
        # A little more or less memory must not decide.
        near = exact_sizes(machine.with_more(JITTER_BYTES), request, True, own_pages)
        enough = rounded_sizes(near, request).shared_bytes <= available
    return huge if enough and huge.fits else plain


def _default_pages(request: Request, found: HugePages) -> bool:
    return request.whole("huge_page_size") * KIB in (0, found.page_bytes)


def _own_pages(machine: Machine, request: Request, running: Mapping[str, str]) -> int:
    """Huge pages that are in use, and by this server as far as their number tells."""
    found = machine.huge_pages
    buffers = running_bytes(running, "shared_buffers", request.major)
    if found is None or buffers is None or not _default_pages(request, found):
        return 0
    used = found.total - found.free
    sizes = exact_sizes(machine, request, True)
    most = 1.1 * replace(sizes, shared_buffers=buffers).shared_bytes
    return used if buffers <= used * found.page_bytes <= most else 0


def huge_pages_needed(machine: Machine, request: Request, running: Mapping[str, str]) -> int:
    """With so many huge pages the server is sure to get its shared memory from them."""
    sizes = _settled(machine, request, True, _own_pages(machine, request, running), running).sizes
    larger = rounded_sizes(exact_sizes(machine.with_more(JITTER_BYTES), request, True), request)
    return math.ceil(max(sizes.shared_bytes, larger.shared_bytes) / sizes.page_bytes)


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    fitting, too_many = 0, most + 1
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        if fits(middle):
            fitting = middle
        else:
            too_many = middle
    return fitting


def most_connections(machine: Machine, request: Request, most: int, work_mem: float = 0) -> int:
    """The largest number of connections up to most that fits; 0 when none does that Postgres takes.

    With so much work_mem for each, if that is given.
    """
    least = reserved_connections(request) + 1

    def fits(connections: int) -> bool:
        solution = solve(machine, replace(request, max_connections=max(connections, least)), {})
        return solution.fits and solution.exact.work_mem >= work_mem

    number = _largest(most, fits)
    return number if number >= least else 0


def automatic_connections(
    machines: tuple[Machine, ...], request: Request, running: Mapping[str, str]
) -> int:
    """The largest number up to 100 that leaves a useful work_mem on each of the machines.

    One that runs and that a little more or less memory would lead to stays, except in a cluster,
    whose servers do not know of each other what runs.
    """
    wanted = 0 if request.user_sets("work_mem") else _PLENTY_WORK_MEM_BYTES
    least = reserved_connections(request) + 1

    def number(more_bytes: int) -> int:
        return min(
            most_connections(
                machine.with_more(more_bytes),
                request,
                max(_MOST_AUTO_CONNECTIONS, least),
                wanted,
            )
            for machine in machines
        )

    best = max(number(0), least)
    runs = str(running.get("max_connections", ""))
    if len(machines) == 1 and runs.isdigit() and int(runs) != best:
        lower, upper = number(-JITTER_BYTES), number(JITTER_BYTES)
        if lower <= int(runs) <= upper and int(runs) >= least:
            return int(runs)
    return best


def memory_needed(machine: Machine, request: Request) -> int | None:
    """The least memory, in whole MiB, with which the request fits; None when none does."""

    def fits(memory: int) -> bool:
        tried = replace(machine, memory_bytes=memory, commit_limit_bytes=None)
        return solve(tried, request, {}).fits

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
