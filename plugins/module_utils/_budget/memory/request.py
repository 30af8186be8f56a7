# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a memory budget starts from: the machine, what is asked for, and the user's settings."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, replace
from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._settings.check import (
    check_settings_and_nulls,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    known_definition,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    canonical_setting,
)

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

WORKLOADS = ("web", "oltp", "dw", "mixed", "desktop")
STORAGES = ("ssd", "hdd")
OLDEST_MAJOR = 13
NEWEST_MAJOR = 18
# MAX_BACKENDS of the server: all its processes together.
MOST_PROCESSES = 262143
MOST_CONNECTIONS = MOST_PROCESSES
# By so much the kernel's MemTotal differs from one boot to the next.
JITTER_BYTES = 16 * MIB
DEFAULT_HUGE_PAGE_BYTES = 2 * MIB
# Settings that a standby must not have lower than its primary.
SHARED_BY_CLUSTER = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)

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
_BASE_UNITS = {"B": 1, "kB": KIB, "8kB": 8 * KIB, "MB": MIB}
# initdb writes this into postgresql.conf; the default that the oldest servers report is lower.
_INITDB_DEFAULTS = {"shared_buffers": "128MB"}


@dataclass(frozen=True)
class HugePages:
    """The kernel's huge pages of its default size."""

    page_bytes: int
    total: int
    free: int


@dataclass(frozen=True)
class Machine:
    """What host_resources_info found; None is unknown."""

    memory_bytes: int
    memory_bound_by: str
    in_cgroup: bool
    cpus: int
    commit_limit_bytes: int | None = None
    shm_bytes: int | None = None
    huge_pages: HugePages | None = None
    wal_bytes: int | None = None
    wal_path: str = ""

    def with_more(self, more_bytes: int) -> Machine:
        """The same machine with more memory, or with less."""
        limit = self.commit_limit_bytes
        return replace(
            self,
            memory_bytes=max(self.memory_bytes + more_bytes, 1),
            commit_limit_bytes=None if limit is None else max(limit + more_bytes, 1),
        )


@dataclass(frozen=True)
class Request:
    """What is asked for; a setting that is None stays at the server's default."""

    workload: str
    max_connections: int
    major: int
    share: float
    reserved_bytes: int
    storage: str
    settings: Mapping[str, str | None]
    # Of the machines of all servers that replicate each other, this one among them.
    servers: int = 1
    most_cpus: int = 1

    def user_sets(self, name: str) -> bool:
        """Whether the user decides a setting."""
        return name in self.settings

    def text(self, name: str) -> str:
        """A word as the server reads it, or its default."""
        definition = known_definition(name, self.major)
        if definition is None:
            return ""
        given = self.settings.get(name)
        return canonical_setting(definition, definition.default if given is None else given)

    def number(self, name: str) -> float:
        """A setting's value in its base unit; 0 where that major has no such setting."""
        return _number(name, self.major, self.settings.get(name))

    def whole(self, name: str) -> int:
        """The same as a whole number."""
        return int(self.number(name))

    def size(self, name: str) -> int:
        """A setting's value in bytes; -1 stays -1."""
        return setting_bytes(name, self.major, self.settings.get(name))


@functools.lru_cache(maxsize=4096)
def _number(name: str, major: int, text: str | None) -> float:
    """What the server makes of a value, or its default."""
    definition = known_definition(name, major)
    if definition is None:
        return 0.0
    if text is None:
        text = _INITDB_DEFAULTS.get(name, definition.default)
    return float(canonical_setting(definition, text))


def setting_bytes(name: str, major: int, text: str | None) -> int:
    """Bytes of a setting's value as the server rounds it; -1 stays -1.

    Raises:
        ValueError: when the server would refuse the value.
    """
    number = int(_number(name, major, text))
    definition = known_definition(name, major)
    return number * _BASE_UNITS[definition.unit] if definition and number >= 0 else number


def machine(resources: Any) -> Machine:
    """The machine that host_resources_info describes.

    Raises:
        ValueError: when it is not a description.
    """
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
    shm = resources.get("shm_bytes")
    wal = resources.get("wal_filesystem") or {}
    return Machine(
        memory_bytes=memory,
        memory_bound_by=str(resources.get("memory_bound_by") or "given"),
        in_cgroup=bool(resources.get("in_cgroup", False)),
        cpus=cpus,
        commit_limit_bytes=resources.get("commit_limit_bytes") if limited else None,
        shm_bytes=None if shm is None else int(shm),
        huge_pages=_huge_pages(resources.get("huge_pages") or {}),
        wal_bytes=int(wal.get("size_bytes") or 0) or None,
        wal_path=str(wal.get("path") or ""),
    )


def _huge_pages(found: Mapping[str, Any]) -> HugePages | None:
    if not found.get("page_bytes"):
        return None
    total = int(found.get("total") or 0)
    return HugePages(int(found["page_bytes"]), total, min(int(found.get("free") or 0), total))


def request(
    workload: str,
    max_connections: int | str,
    major: int | str,
    share: float | str,
    reserved: int | str,
    storage: str,
    settings: Mapping[str, Any] | None,
    machines: Sequence[Machine],
) -> Request:
    """What is asked for, checked.

    Raises:
        ValueError: naming the variable, the value and what is allowed.
    """
    if workload not in WORKLOADS:
        raise ValueError(
            f"postgres_workload: {workload!r} is not a valid workload; choose one of"
            f" {', '.join(WORKLOADS)}"
        )
    if storage not in STORAGES:
        raise ValueError(
            f"postgres_storage: {storage!r} is not a valid kind of storage; choose one of"
            f" {', '.join(STORAGES)}"
        )
    number = _whole("postgres_version", major, OLDEST_MAJOR, NEWEST_MAJOR)
    try:
        part = float(share)
    except (TypeError, ValueError):
        part = math.nan
    if not 0 < part <= 1:
        raise ValueError(
            f"postgres_memory_share: {share!r} is not a valid share; give a number above 0 and up"
            " to 1"
        )
    texts = check_settings_and_nulls(settings or {}, number)
    connections = _whole("postgres_max_connections", max_connections, 1, MOST_CONNECTIONS)
    asked = Request(
        workload,
        connections,
        number,
        part,
        memory_amount_bytes("postgres_memory_reserved", reserved),
        storage,
        texts,
        len(machines),
        max(machine.cpus for machine in machines),
    )
    if asked.user_sets("max_connections"):
        return replace(asked, max_connections=asked.whole("max_connections"))
    return asked


def reserved_connections(asked: Request) -> int:
    """Connections that are not for everybody; the server needs more than these to start."""
    return asked.whole("superuser_reserved_connections") + asked.whole("reserved_connections")


def check_processes(asked: Request, processes: int) -> None:
    """Refuse what no server starts with, whatever its memory.

    Raises:
        ValueError: saying what to change.
    """
    reserved = reserved_connections(asked)
    if asked.max_connections <= reserved:
        raise ValueError(
            f"max_connections = {asked.max_connections}: Postgres needs more than the {reserved} of"
            " superuser_reserved_connections and reserved_connections; raise it, or lower these"
        )
    if processes > MOST_PROCESSES:
        raise ValueError(
            f"max_connections = {asked.max_connections}: makes {processes} processes together with"
            f" workers, senders and autovacuum, and Postgres allows at most {MOST_PROCESSES};"
            " lower it"
        )


def _whole(where: str, value: Any, least: int, most: int) -> int:
    text = "" if isinstance(value, bool) else str(value).strip()
    if not re.match(r"[0-9]{1,9}\Z", text) or not least <= int(text) <= most:
        raise ValueError(f"{where}: {value!r} is not a whole number from {least} to {most}")
    return int(text)


def memory_amount_bytes(where: str, value: Any) -> int:
    """Bytes of an amount of memory that a person wrote, such as C(512MB) or C(2 GB).

    Raises:
        ValueError: naming the variable, when it is none.
    """
    match = None if isinstance(value, bool) else _AMOUNT.match(str(value))
    factor = _LOOSE_UNITS.get(match.group(2).upper()) if match else None
    if match is None or factor is None:
        raise ValueError(
            f"{where}: {value!r} is not a valid amount of memory; give a number with a unit,"
            " such as 512MB or 2GB"
        )
    return int(float(match.group(1)) * factor)
