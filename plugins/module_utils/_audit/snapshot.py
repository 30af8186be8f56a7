# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit looks at: a server, its databases and its PgBouncer, as they were found."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections.budget import (
    ConnectionBudget,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Database,
    Role,
    model_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.login import Taken
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import LoginRule
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    known_definition,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.plan import HIDDEN_SOURCES
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    canonical_setting,
)

# Programs with which people and tools connect, not applications.
TOOLS = (
    "ansible",
    "barman",
    "DataGrip",
    "DBeaver",
    "Patroni",
    "pg_",
    "pgAdmin",
    "pgBackRest",
    "pooled.postgres",
    "postgres_exporter",
    "psql",
    "repmgr",
)
# Settings that may hold a password.
_SECRET = re.compile(r"conninfo|pass(word|phrase|wd)|secret|token|credential|_command\Z")
# Logins with which providers look after their servers.
_PROVIDERS = ("rdsadmin", "cloudsqladmin", "azuresu")
_THIS_MACHINE = ("localhost", "samehost")
_BYTES = {"B": 1, "kB": 1024, "8kB": 8192, "MB": 1024**2}


class NotReadable(Exception):
    """Something that a rule needs is not known; the text says why."""


# The database that superusers and their tools log in to by default.
MAINTENANCE = "postgres"


@dataclass(frozen=True)
class Setting:
    """A row of pg_settings, in base units."""

    value: str
    unit: str = ""
    default: str = ""
    source: str = "default"
    pending_restart: bool = False


@dataclass(frozen=True)
class FileSetting:
    """A row of pg_file_settings, in the order in which the server reads them."""

    path: str
    line: int
    name: str
    value: str

    @property
    def shown(self) -> str:
        """The value, unless it may hold a secret."""
        secret = _SECRET.search(self.name) or _SECRET.search(self.value)
        return "(not shown)" if secret else self.value

    @property
    def automatic(self) -> bool:
        """Whether ALTER SYSTEM wrote it."""
        return self.path.rpartition("/")[2] == "postgresql.auto.conf"


@dataclass(frozen=True)
class LoginRole:
    """A role; C(settings) are its own, by database, with the empty name for all of them."""

    name: str
    superuser: bool = False
    login: bool = True
    bootstrap: bool = False
    bypassrls: bool = False
    createrole: bool = False
    createdb: bool = False
    replication: bool = False
    member_of: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class HbaRule:
    """A line of pg_hba.conf."""

    line: int
    kind: str
    databases: tuple[str, ...]
    users: tuple[str, ...]
    address: str
    method: str
    error: str = ""

    @property
    def remote(self) -> bool:
        """Whether it lets in anybody from another machine."""
        if self.kind == "local" or self.address in _THIS_MACHINE:
            return False
        try:
            return not ipaddress.ip_network(self.address).is_loopback
        except ValueError:
            return True

    @property
    def text(self) -> str:
        """The line, for people."""
        words = [self.kind, ",".join(self.databases), ",".join(self.users), self.address]
        return " ".join(word for word in [*words, self.method] if word)


@dataclass(frozen=True)
class Session:
    """A client backend. C(address) is empty over the unix socket."""

    pid: int
    database: str
    role: str
    application: str
    state: str
    address: str
    in_state_s: float = 0.0

    @property
    def by_tool(self) -> bool:
        """Whether a person or a tool is behind it, as far as its name tells."""
        return self.application.startswith(TOOLS)


@dataclass(frozen=True)
class Slot:
    """A replication slot and the bytes of WAL that it keeps."""

    name: str
    active: bool
    kept_bytes: int


@dataclass(frozen=True)
class Grants:
    """Of how many tables of an owner in a schema a role has SELECT, or PUBLIC any right."""

    schema: str
    owner: str
    grantee: str  # empty for PUBLIC
    tables: int


@dataclass(frozen=True)
class Unreachable:
    """Tables of a schema that a role can't read, a few of them by name."""

    schema: str
    role: str
    tables: int
    of: int
    examples: str


@dataclass(frozen=True)
class DatabaseState:
    """A database. C(unreadable) says why its inside is not known; empty when it is."""

    name: str
    unreadable: str = ""
    age: int = 0
    multixact_age: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    public_connect: bool = False
    public_temporary: bool = False
    public_create: tuple[str, ...] = ()  # schemas
    tables: Mapping[tuple[str, str], int] = field(default_factory=dict)  # by schema and owner
    grants: tuple[Grants, ...] = ()
    defaults: frozenset[tuple[str, str, str]] = frozenset()  # owner, schema or "", grantee
    public_defaults: tuple[tuple[str, str, str], ...] = ()  # owner, schema or "", kind
    unreachable: tuple[Unreachable, ...] = ()
    invalid_indexes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pool:
    """A row of SHOW POOLS with its database's settings from SHOW DATABASES."""

    database: str
    user: str
    waiting: int = 0
    longest_wait_s: float = 0.0
    clients: int = 0
    servers: int = 0

    @property
    def is_used(self) -> bool:
        """Whether anybody has it; PgBouncer makes one for each attempt to log in, and keeps it."""
        return bool(self.waiting or self.clients or self.servers)


@dataclass(frozen=True)
class PoolDatabase:
    """A row of SHOW DATABASES."""

    name: str
    database: str
    force_user: str = ""
    pool_size: int = 0
    reserve: int = 0


@dataclass(frozen=True)
class PoolerState:
    """What PgBouncer's console says.

    C(listed_users) are those in its auth_file, C(login_rules) those in its auth_hba_file, and
    C(peers) the directories and ports of the unix sockets of the other processes that it works
    together with on its host. C(os_user) is the OS user that it runs as, on the host that was
    asked.
    """

    version: tuple[int, int, int]
    config: Mapping[str, str] = field(default_factory=dict)
    databases: tuple[PoolDatabase, ...] = ()
    pools: tuple[Pool, ...] = ()
    listed_users: tuple[str, ...] | None = None
    peers: tuple[tuple[str, int], ...] = ()
    login_rules: tuple[LoginRule, ...] | None = None
    os_user: str = ""


def merged_pools(pools: Iterable[Pool]) -> tuple[Pool, ...]:
    """The pools of several processes as if they were one's."""
    merged: dict[tuple[str, str], Pool] = {}
    for pool in pools:
        so_far = merged.get((pool.database, pool.user))
        merged[pool.database, pool.user] = pool if so_far is None else _added(so_far, pool)
    return tuple(merged.values())


def _added(one: Pool, other: Pool) -> Pool:
    return Pool(
        one.database,
        one.user,
        one.waiting + other.waiting,
        max(one.longest_wait_s, other.longest_wait_s),
        one.clients + other.clients,
        one.servers + other.servers,
    )


@dataclass(frozen=True)
class PooledLogin:
    """What a role's session through the pool got; C(failure) when it could not log in."""

    database: str
    role: str
    settings: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True)
class Snapshot:
    """Everything an audit knows. What is None could not be read; C(unreadable) says why."""

    major: int
    login: str = "postgres"
    settings: Mapping[str, Setting] = field(default_factory=dict)
    roles: Mapping[str, LoginRole] | None = None
    password_kinds: Mapping[str, str] | None = None  # md5 or scram, of roles that have one
    hba: tuple[HbaRule, ...] | None = None
    files: tuple[FileSetting, ...] | None = None
    sessions: tuple[Session, ...] | None = None
    slots: tuple[Slot, ...] | None = None
    databases: tuple[DatabaseState, ...] | None = None
    invalid_databases: tuple[str, ...] | None = None  # not among databases
    pooler: PoolerState | None = None
    pooled_logins: tuple[PooledLogin, ...] | None = None
    taken_guesses: tuple[Taken, ...] | None = None
    model: tuple[Database, ...] = ()
    budget: ConnectionBudget | None = None
    budget_problem: str = ""
    pooler_role: str = ""
    memory_bytes: int | None = None
    idle_transaction_s: float = 60.0
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def known(self, what: str) -> Any:
        """A part of the snapshot.

        Raises:
            NotReadable: when it could not be read.
        """
        found = getattr(self, what)
        if found is None:
            raise NotReadable(self.unreadable.get(what, f"{what} were not looked at"))
        return found

    def setting(self, name: str) -> Setting:
        """A setting of the server.

        Raises:
            NotReadable: when the server does not show it.
        """
        if name not in self.settings:
            raise NotReadable(f"{self.login!r} may not see the setting {name}")
        found = self.settings[name]
        if found.source in HIDDEN_SOURCES:
            return Setting(found.default, found.unit, found.default)
        return found

    def is_on(self, name: str) -> bool:
        """Whether a boolean setting of the server is on."""
        return self.setting(name).value == "on"

    def number(self, name: str) -> int:
        """A whole number among the server's settings."""
        return int(float(self.setting(name).value))

    def size_bytes(self, name: str) -> int:
        """An amount of memory among the server's settings."""
        return self.number(name) * _BYTES[self.setting(name).unit]

    def modelled(self, *kinds: str) -> tuple[Role, ...]:
        """The model's roles of some kinds that are on the server."""
        there = self.known("roles")
        return tuple(
            role for role in model_roles(self.model) if role.kind in kinds and role.name in there
        )

    def looked_into(self) -> tuple[DatabaseState, ...]:
        """The databases whose inside is known.

        Raises:
            NotReadable: when it is of none.
        """
        databases: tuple[DatabaseState, ...] = self.known("databases")
        found = tuple(one for one in databases if not one.unreadable)
        if databases and not found:
            raise NotReadable(databases[0].unreadable)
        return found

    def blind_spots(self) -> tuple[str, ...]:
        """Why databases could not be looked into, each with its name."""
        return tuple(
            f"database {one.name!r}: {one.unreadable}"
            for one in self.known("databases")
            if one.unreadable
        )

    def application_roles(self) -> tuple[LoginRole, ...]:
        """The roles with which applications work, superusers aside.

        With a model they are its users and readers. Without one, they are the roles that log in,
        but for those of monitoring, replication and PgBouncer, and for owners of tables on which
        another one of them has rights: migrations run as such.

        Raises:
            NotReadable: when there is no model, and a database that can't be looked into.
        """
        roles: Mapping[str, LoginRole] = self.known("roles")
        if self.model:
            return tuple(roles[role.name] for role in self.modelled("user", "reader"))
        blind = self.blind_spots()
        if blind:
            raise NotReadable(
                f"it can't be determined which roles are the application's: {blind[0]}"
            )
        busy = self._used_by_applications()
        candidates = {
            name: role
            for name, role in roles.items()
            if role.login
            and not role.superuser
            and not role.replication
            and name not in (self.login, self.pooler_role)
            and name not in _PROVIDERS
            and not name.startswith("pg_")
            and not {"pg_monitor", "pg_read_all_stats"} & set(role.member_of)
        }
        return tuple(
            role
            for name, role in sorted(candidates.items())
            if name in busy or not self._has_users(name, candidates)
        )

    def effective(self, role: LoginRole, database: str, name: str) -> str:
        """What a setting is, in base units, when a role's session in a database starts."""
        own = {one.name: one.settings for one in self.databases or ()}
        for settings in (
            role.settings.get(database, {}),
            role.settings.get("", {}),
            own.get(database, {}),
        ):
            if name in settings:
                return canonical(self.major, name, settings[name])
        return self.setting(name).value

    def _used_by_applications(self) -> set[str]:
        pools = self.pooler.pools if self.pooler else ()
        sessions = [one.role for one in self.sessions or () if not one.by_tool]
        return {*sessions, *(pool.user for pool in pools if pool.is_used)}

    def _has_users(self, owner: str, candidates: Mapping[str, LoginRole]) -> bool:
        """Whether another candidate has rights on tables of an owner, directly or by membership."""
        grantees = {
            grant.grantee
            for database in self.databases or ()
            for grant in database.grants
            if grant.owner == owner
        }
        return any(
            name != owner and ({name, *role.member_of} & grantees)
            for name, role in candidates.items()
        )


def network_text(address: str, netmask: str) -> str:
    """A network of pg_hba_file_rules as pg_hba.conf has it."""
    if not netmask:
        return address
    bits = bin(int(ipaddress.ip_address(netmask))).count("1")
    return f"{address}/{bits}"


def canonical(major: int, name: str, text: str) -> str:
    """A setting's value in base units, when the setting is known; else the text itself."""
    definition = known_definition(name, major)
    if definition is None:
        return text
    try:
        return canonical_setting(definition, text)
    except ValueError:
        return text
