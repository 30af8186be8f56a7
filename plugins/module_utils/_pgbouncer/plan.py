# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pooler as it runs against what is desired, and the least that gets it there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Database,
    Role,
    model_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import (
    OPTIONS,
    canonical,
    default_of,
    exists,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.os_user import (
    LAYOUT,
    PACKAGED,
)

# What Debian's package starts with at its installation.
PACKAGE_OPTIONS: dict[str, str] = {
    **LAYOUT,
    "listen_addr": "localhost",
    "listen_port": "6432",
    "auth_type": "md5",
    "auth_file": "/etc/pgbouncer/userlist.txt",
}

# What an entry in [databases] says when a server connection is opened. PgBouncer lets connections
# go itself when the rest of an entry has changed.
_SESSION_PARAMETERS = ("application_name", "client_encoding", "datestyle", "timezone")

# What SHOW USERS tells of an entry's keys, in those versions that have the column.
_USER_COLUMNS = (
    "pool_size",
    "reserve_pool_size",
    "pool_mode",
    "max_user_connections",
    "max_user_client_connections",
)


@dataclass(frozen=True)
class Setting:
    """A row of SHOW CONFIG."""

    value: str
    default: str
    reloads: bool


@dataclass(frozen=True)
class Running:
    """The pooler as it runs. C(config) is None when its console does not answer."""

    active: bool
    config: Mapping[str, Setting] | None
    databases: Mapping[str, Mapping[str, Any]]
    users: Mapping[str, Mapping[str, Any]]
    descriptors: int | None
    certificate: str = ""  # digest of the one it serves; empty where that is not known
    peers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    os_user: str = ""  # whom its process belongs to; empty where that is not known


@dataclass(frozen=True)
class Desired:
    """What shall run."""

    options: Mapping[str, str]
    databases: Mapping[str, Mapping[str, str]]
    users: Mapping[str, Mapping[str, str]]
    descriptors: int
    certificate: str = ""  # digest of the one it shall serve; empty without TLS for clients
    peers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    os_user: str = ""


@dataclass(frozen=True)
class Difference:
    """Something that does not run as it shall, and whether a reload can change it."""

    name: str
    running: str
    wanted: str
    reloads: bool


@dataclass(frozen=True)
class Plan:
    """What to do, in this order; C(held_back) needs a restart that the policy forbids."""

    write: tuple[str, ...]
    daemon_reload: bool
    start: bool
    restart: tuple[str, ...]
    reload: bool
    reconnect: bool
    held_back: tuple[str, ...]

    @property
    def actions(self) -> list[str]:
        """Each step as a line of text."""
        steps = [f"write {path}" for path in self.write]
        if self.daemon_reload:
            steps.append("systemctl daemon-reload")
        return steps + self.own_actions

    @property
    def own_actions(self) -> list[str]:
        """Those steps that concern the pooler itself."""
        steps = []
        if self.start:
            steps.append("start")
        if self.restart:
            steps.append("restart for {}".format(", ".join(self.restart)))
        if self.reload:
            steps.append("RELOAD")
        if self.reconnect:
            steps.append("RECONNECT")
        return steps


def package_state(version: tuple[int, int, int], descriptors: int) -> Running:
    """The pooler as Debian's package starts it, for predictions before it is installed."""
    config = {
        name: Setting(
            PACKAGE_OPTIONS.get(name, default_of(option, version)),
            default_of(option, version),
            option.reloads,
        )
        for name, option in OPTIONS.items()
        if exists(option, version)
    }
    return Running(True, config, {}, {}, descriptors, os_user=PACKAGED)


def differences(desired: Desired, running: Running) -> list[Difference]:
    """Where the running pooler is not the desired one, in a stable order."""
    if running.config is None:
        return []
    found: list[Difference] = []
    for name, setting in sorted(running.config.items()):
        if name not in OPTIONS and name not in desired.options:
            continue
        wanted = desired.options.get(name, setting.default)
        if canonical(name, wanted) == canonical(name, setting.value):
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


def plan(
    desired: Desired,
    running: Running,
    *,
    files: Iterable[str],
    unit: str,
    daemon_reload: bool,
    unfinished: bool,
    stale: Iterable[str],
    reconnect: bool,
    may_restart: bool,
    unread: Iterable[str] = (),
) -> Plan:
    """The least that makes the desired pooler run.

    Args:
        desired: what shall run.
        running: what runs.
        files: paths whose content, owner or mode is not the desired one.
        unit: path of the service's drop-in, which may be among the files.
        daemon_reload: whether systemd says that it has not read its files.
        unfinished: whether an earlier run was interrupted, so that nobody knows what was read.
        stale: what else a running pooler only forgets when it restarts.
        reconnect: whether server connections shall be opened anew.
        may_restart: whether a running pooler may be restarted.
        unread: paths among the files that the pooler does not read either.
    """
    write = tuple(files)
    reads = tuple(path for path in write if path not in {unit, *unread})
    must_reload = daemon_reload or unit in write
    found = differences(desired, running)
    restart = (*(one.name for one in found if not one.reloads), *stale)
    if running.active and running.config is None:
        restart = ("a console that does not answer",)
    if not running.active:
        return Plan(write, must_reload, True, (), False, False, ())
    if restart and may_restart:
        return Plan(write, must_reload, False, restart, False, False, ())
    reload = bool(reads) or unfinished or any(one.reloads for one in found)
    return Plan(write, must_reload, False, (), reload, reconnect, restart)


def role_settings_lines(databases: Iterable[Database]) -> list[str]:
    """What pooled sessions carry from their roles, a line for each role.

    Written into the file as a comment: a session keeps the settings it logged in with, so a
    change of these lines means that the pools have to log in again.
    """
    return [
        _settings_line(role) for role in sorted(model_roles(databases), key=lambda role: role.name)
    ]


def carries_old_settings(noted: Sequence[str], databases: Iterable[Database]) -> bool:
    """Whether sessions may be in the pools that carry other settings than their roles have now.

    Args:
        noted: role_settings_lines() when the pools last logged in; empty when nobody noted it.
        databases: the model now. A role that nobody noted is new and has no sessions, and nobody
            logs in any more as one that is only noted.
    """
    roles = model_roles(databases)
    if not noted:
        return bool(roles)
    return any(
        _settings_line(role) not in noted
        and any(line.startswith(f"{role.name}:") for line in noted)
        for role in roles
    )


def carries_old_parameters(
    noted: Mapping[str, Mapping[str, str]], entries: Mapping[str, Mapping[str, str]]
) -> bool:
    """Whether sessions may be in the pools that were opened with other parameters than now.

    Args:
        noted: [databases] when the pools last logged in.
        entries: [databases] now.
    """
    return any(
        noted[name].get(key) != entry.get(key)
        for name, entry in entries.items()
        if name in noted
        for key in _SESSION_PARAMETERS
    )


def _settings_line(role: Role) -> str:
    return " ".join([f"{role.name}:", *(f"{name}={value}" for name, value in role.settings)])


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
