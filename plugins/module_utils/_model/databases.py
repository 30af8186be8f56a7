# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The databases of the model, their roles and their clients, and who is among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable

CLIENT_VIA = ("pgbouncer", "direct")
STATES = ("present", "absent")


@dataclass(frozen=True)
class Role:
    """A role of the model.

    C(connection_limit) is -1 for no limit; C(password) is None to leave it as it is;
    C(settings) are the kind's defaults with the role's own merged over them, sorted by name;
    C(pooled) is whether it may log in through PgBouncer.
    """

    name: str
    kind: str
    password: str | None
    connection_limit: int
    settings: tuple[tuple[str, str], ...]
    member_of: tuple[str, ...]
    pools: tuple[tuple[str, Any], ...] = ()
    pooled: bool = True

    def __repr__(self) -> str:
        return f"Role(name={self.name!r}, kind={self.kind!r})"


@dataclass(frozen=True)
class AbsentRole:
    """A role that must not be there.

    It is dropped only when C(reassign_owned_to) names who gets what it owns; else it is reported.
    """

    name: str
    reassign_owned_to: str


@dataclass(frozen=True)
class Client:
    """Processes that connect: replicas x workers, each with a pool of its own.

    C(surge) are the replicas that run besides while a new release replaces the old one. C(alias)
    is the name under which PgBouncer serves the database to it; empty for the database's own.
    """

    name: str
    role: str
    replicas: int
    workers: int
    pool_size: int
    max_overflow: int
    via: str
    surge: int = 0
    alias: str = ""

    @property
    def processes(self) -> int:
        """The most processes that run at once."""
        return (self.replicas + self.surge) * self.workers

    @property
    def connections(self) -> int:
        """The most connections that all its processes open together."""
        return self.processes * (self.pool_size + self.max_overflow)


@dataclass(frozen=True)
class Alias:
    """Another name under which PgBouncer serves a database, with pools of its own.

    C(options) are PgBouncer's, unchecked: which there are depends on its version.
    """

    name: str
    options: tuple[tuple[str, Any], ...]

    @property
    def gives_sessions(self) -> bool:
        """Whether a client keeps its server connection until it disconnects."""
        return ("pool_mode", "session") in self.options

    @property
    def elsewhere(self) -> bool:
        """Whether it leads to another server than the database's own."""
        return any(key in ("host", "port") for key, _value in self.options)


@dataclass(frozen=True)
class Database:
    """A database of the model; C(roles) are those that must be there, C(absent) the others.

    C(extension_schemas) are those that the model says of its extensions. C(pools) are PgBouncer's
    options for it, unchecked as an alias's.
    """

    name: str
    schemas: tuple[str, ...]
    extensions: tuple[str, ...]
    roles: tuple[Role, ...]
    clients: tuple[Client, ...]
    absent: tuple[AbsentRole, ...] = ()
    pools: tuple[tuple[str, Any], ...] = ()
    aliases: tuple[Alias, ...] = ()
    extension_schemas: tuple[tuple[str, str], ...] = ()


def model_roles(databases: Iterable[Database]) -> tuple[Role, ...]:
    """Every role of the model once, in the order of the inventory."""
    return tuple({role.name: role for database in databases for role in database.roles}.values())


def absent_roles(databases: Iterable[Database]) -> tuple[AbsentRole, ...]:
    """Every role that must not be there once, in the order of the inventory."""
    return tuple({role.name: role for database in databases for role in database.absent}.values())


def pooled_roles(databases: Iterable[Database]) -> tuple[Role, ...]:
    """Every role that may log in through PgBouncer once, in the order of the inventory."""
    return tuple(role for role in model_roles(databases) if role.pooled)


def ignorable_startup_parameters(databases: Iterable[Database]) -> tuple[str, ...]:
    """Startup parameters that PgBouncer may ignore because the roles themselves set them.

    Only C(jit) qualifies: clients send it to say "off", which every role then says itself. A
    timeout that a client sends has a value of its own, so ignoring it would lose it.
    """
    roles = pooled_roles(databases)
    covered = bool(roles) and all(dict(role.settings).get("jit") == "off" for role in roles)
    return ("jit",) if covered else ()
