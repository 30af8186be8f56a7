# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a process does not run as it should, and whether a reload can change that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import (
    OPTIONS,
    canonical_option,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.running import Running

# What SHOW USERS tells of an entry's keys, in those versions that have the column.
_USER_COLUMNS = (
    "pool_size",
    "reserve_pool_size",
    "pool_mode",
    "max_user_connections",
    "max_user_client_connections",
)


@dataclass(frozen=True)
class Desired:
    """What is to run."""

    options: Mapping[str, str]
    databases: Mapping[str, Mapping[str, str]]
    users: Mapping[str, Mapping[str, str]]
    descriptors: int
    certificate: str = ""  # digest of the one to serve; empty without TLS for clients
    peers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    os_user: str = ""


@dataclass(frozen=True)
class Difference:
    """Something that does not run as it should, and whether a reload can change it."""

    name: str
    running: str
    wanted: str
    reloads: bool


def differences(desired: Desired, running: Running) -> list[Difference]:
    """Where what runs is not what is desired, in a stable order."""
    if running.config is None:
        return []
    found: list[Difference] = []
    for name, setting in sorted(running.config.items()):
        if name not in OPTIONS and name not in desired.options:
            continue
        wanted = desired.options.get(name, setting.default)
        if canonical_option(name, wanted) == canonical_option(name, setting.value):
            continue
        taken_back = (
            name not in desired.options and name in OPTIONS and OPTIONS[name].default is None
        )
        if taken_back and name == "verbose":
            continue  # how it was started, not what the file says
        found.append(Difference(name, setting.value, wanted, setting.reloads and not taken_back))
    found.extend(_database_differences(desired, running))
    found.extend(_user_differences(desired, running))
    found.extend(_peer_differences(desired, running))
    if desired.certificate and running.certificate not in ("", desired.certificate):
        found.append(
            Difference(
                "served certificate",
                _short(running.certificate),
                _short(desired.certificate),
                True,
            )
        )
    if running.descriptors is not None and running.descriptors < desired.descriptors:
        found.append(
            Difference("LimitNOFILE", str(running.descriptors), str(desired.descriptors), False)
        )
    if desired.os_user and running.os_user not in ("", desired.os_user):
        found.append(Difference("os_user", running.os_user, desired.os_user, False))
    return found


def described(found: Iterable[Difference]) -> str:
    """Differences as a list in a sentence."""
    return ", ".join(f"{one.name} is {one.running!r} instead of {one.wanted!r}" for one in found)


def _database_differences(desired: Desired, running: Running) -> Iterable[Difference]:
    for name in sorted(set(running.databases) - set(desired.databases) - {"pgbouncer"}):
        yield Difference(f"database {name}", "present", "absent", True)
    for name, entry in desired.databases.items():
        row = running.databases.get(name)
        if row is None:
            yield Difference(f"database {name}", "absent", "present", True)
            continue
        if row.get("force_user"):
            # PgBouncer does not let go of a forced user on RELOAD.
            yield Difference(f"database {name} user", str(row["force_user"]), "", False)
        for column, wanted in _database_row(entry, desired.options, row).items():
            shown = "" if row[column] is None else str(row[column])
            if shown != wanted:
                yield Difference(f"database {name} {column}", shown, wanted, True)


def _user_differences(desired: Desired, running: Running) -> Iterable[Difference]:
    carried_over = set(_carried_over(running.users))
    for name, entry in desired.users.items():
        row = running.users.get(name)
        if row is None:
            if entry:
                yield Difference(f"user {name}", "absent", "present", True)
            continue
        for column in _USER_COLUMNS:
            if column not in row:
                continue
            shown = "" if row[column] is None else str(row[column]).strip()
            wanted = entry.get(column, "")
            if column in OPTIONS and column.startswith("max_"):
                wanted = entry.get(column, desired.options.get(column, "0"))
            if shown != wanted and (wanted or (name, column) not in carried_over):
                yield Difference(f"user {name} {column}", shown, wanted, True)


def _carried_over(users: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    """Name and column where SHOW USERS may show the number of the row before.

    PgBouncer 1.23 to 1.25 do not empty these columns for a user who has none.
    """
    before: Mapping[str, Any] = {}
    for name, row in users.items():
        for column in ("pool_size", "reserve_pool_size"):
            if row.get(column) and row[column] == before.get(column):
                yield name, column
        before = row


def _peer_differences(desired: Desired, running: Running) -> Iterable[Difference]:
    for number in sorted({*desired.peers, *running.peers}, key=int):
        entry, row = desired.peers.get(number), running.peers.get(number)
        shown = "absent" if row is None else f"{row['host']}:{row['port']}"
        wanted = "absent" if entry is None else f"{entry['host']}:{entry['port']}"
        if shown != wanted:
            yield Difference(f"peer {number}", shown, wanted, True)


def _short(digest: str) -> str:
    return digest[:16] or "none"


def _database_row(
    entry: Mapping[str, str], options: Mapping[str, str], row: Mapping[str, Any]
) -> dict[str, str]:
    """What SHOW DATABASES shows for an entry, in those columns that this version has."""

    def inherited(key: str, option: str) -> str:
        return entry.get(key, options.get(option, OPTIONS[option].default or ""))

    wanted = {
        "host": entry["host"],
        "port": entry["port"],
        "database": entry["dbname"],
        "pool_size": inherited("pool_size", "default_pool_size"),
        "min_pool_size": inherited("min_pool_size", "min_pool_size"),
        "reserve_pool": inherited("reserve_pool", "reserve_pool_size"),
        "reserve_pool_size": inherited("reserve_pool_size", "reserve_pool_size"),
        "pool_mode": entry.get("pool_mode", ""),
        "max_connections": inherited("max_db_connections", "max_db_connections"),
        "max_client_connections": inherited(
            "max_db_client_connections", "max_db_client_connections"
        ),
        # Without a fraction, whatever the file says.
        "server_lifetime": str(int(float(inherited("server_lifetime", "server_lifetime")))),
        # Only of an entry with several hosts.
        "load_balance_hosts": (
            entry.get("load_balance_hosts", "round-robin") if "," in entry["host"] else ""
        ),
    }
    return {column: value for column, value in wanted.items() if column in row}
