# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pools of PgBouncer hosts: how large each can get, and the file descriptors that takes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Database,
    model_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.defaults import DEFAULTS
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.descriptors import (
    descriptor_limit,
    descriptors_needed,
)

_POOLER_KEYS = (
    "name",
    "default_pool_size",
    "reserve_pool_size",
    "max_client_conn",
    "processes",
    "limit_nofile",
    "databases",
    "users",
)
# What sizes the pools of single databases and of single users. Of C(*), which stands for all that
# have no limit of their own, just the limit is taken.
POOL_OPTIONS = {
    "databases": ("pool_size", "reserve_pool_size", "max_db_connections"),
    "users": ("pool_size", "reserve_pool_size", "max_user_connections"),
}
ALL_NAMES = "*"
_POOL_VARIABLES = {"databases": "pgbouncer_database_options", "users": "pgbouncer_user_options"}

# More descriptors than any host gives a service, for a limit that no host is asked about.
_MOST_DESCRIPTORS = 2**30


@dataclass(frozen=True)
class Descriptors:
    """File descriptors of a PgBouncer process: those it may need, and those it may have."""

    needed: int
    limit: int
    clients: int


@dataclass(frozen=True)
class Pooler:
    """The pools of one PgBouncer host."""

    name: str
    default_pool_size: int
    reserve_pool_size: int
    max_client_conn: int
    databases: Mapping[str, Mapping[str, int]]
    users: Mapping[str, Mapping[str, int]]
    processes: int = 1  # each has pools and clients of its own
    limit_nofile: int | None = None  # None to derive it

    @property
    def most_clients(self) -> int:
        """How many clients all its processes take together."""
        return self.processes * self.max_client_conn

    def pool(self, database: str, role: str) -> tuple[str, int]:
        """How large one pool can get: in words, and with its reserve.

        As PgBouncer does it, a user's sizes win over a database's, and these over the defaults; a
        limit of 0 is none, and leaves the one for all in force.

        Raises:
            ValueError: when nothing limits it.
        """
        pool, where = self._size("pool_size", database, role)
        reserve, _where = self._size("reserve_pool_size", database, role)
        text, connections = f"(pool {pool} + reserve {reserve})", pool + reserve
        limits = {
            "max_db_connections": self.database_limit(database),
            "max_user_connections": _limit(self.users, role, "max_user_connections"),
        }
        limited = False
        for option, limit in limits.items():
            if limit and (limit < connections or (pool == 0 and not limited)):
                text, connections, limited = f"{option} {limit}", limit, True
        if pool == 0 and not limited:
            raise ValueError(
                f"{self.name}: {where}: 0 means no limit, which no budget can hold; give at least"
                " 1, or a max_db_connections or max_user_connections"
            )
        return text, connections

    def database_limit(self, database: str) -> int:
        """The most connections of all pools of a database; 0 for no limit."""
        return _limit(self.databases, database, "max_db_connections")

    def usual_pool(self, database: str, role: str) -> int:
        """How large a pool is without its reserve; 0 for no limit."""
        sizes = [
            self._size("pool_size", database, role)[0],
            self.database_limit(database),
            _limit(self.users, role, "max_user_connections"),
        ]
        return min((size for size in sizes if size), default=0)

    def descriptors(self, databases: tuple[Database, ...]) -> Descriptors:
        """What one of its processes has open with every pool and every client slot full."""
        options = {
            "max_client_conn": str(self.max_client_conn),
            "default_pool_size": str(self.default_pool_size),
            "reserve_pool_size": str(self.reserve_pool_size),
        }
        names = [
            name
            for database in databases
            for name in (database.name, *(alias.name for alias in database.aliases))
        ]
        entries = {name: _texts(self.databases.get(name, {})) for name in names}
        users = {name: _texts(sizes) for name, sizes in self.users.items()}
        needed = descriptors_needed(options, databases, entries, users, self.processes)
        wanted = "auto" if self.limit_nofile is None else str(max(self.limit_nofile, needed))
        limit = descriptor_limit(needed, wanted, _MOST_DESCRIPTORS)
        return Descriptors(
            needed, limit if self.limit_nofile is None else self.limit_nofile, self.max_client_conn
        )

    def _size(self, option: str, database: str, role: str) -> tuple[int, str]:
        for kind, name in (("users", role), ("databases", database)):
            size = getattr(self, kind).get(name, {}).get(option)
            if size is not None:
                return size, f"{_POOL_VARIABLES[kind]}.{name}.{option}"
        if option == "pool_size":
            return self.default_pool_size, "pgbouncer_default_pool_size"
        return self.reserve_pool_size, "pgbouncer_reserve_pool_size"


def parse_poolers(raw: Any) -> tuple[Pooler, ...]:
    """The PgBouncer hosts, checked.

    Raises:
        ValueError: naming the entry, its value, what is allowed.
    """
    if not isinstance(raw, (list, tuple)):
        raise ValueError(f"poolers: give a list, not {type(raw).__name__}")
    return tuple(_pooler(f"poolers[{index}]", entry) for index, entry in enumerate(raw))


def usual_pooler() -> Pooler:
    """A PgBouncer host that nobody knows yet, with the collection's defaults."""
    return _pooler("poolers[0]", {"name": "one PgBouncer host"})


def _pooler(where: str, entry: Any) -> Pooler:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where}: give a dictionary, not {type(entry).__name__}")
    unknown = sorted(str(key) for key in entry if key not in _POOLER_KEYS)
    if unknown:
        raise ValueError(
            f"{where}: unknown key {', '.join(unknown)}; allowed are {', '.join(_POOLER_KEYS)}"
        )
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}.name: {name!r} is not a valid host name")

    def size(option: str, least: int) -> int:
        value = entry.get(option)
        return count(
            f"{name}: pgbouncer_{option}", DEFAULTS[option] if value is None else value, least
        )

    return Pooler(
        name,
        size("default_pool_size", 0),
        size("reserve_pool_size", 0),
        size("max_client_conn", 1),
        _pool_options(name, "databases", entry.get("databases")),
        _pool_options(name, "users", entry.get("users")),
        count(f"{name}: pgbouncer_processes", entry.get("processes") or 1, 1),
        _limit_nofile(name, entry.get("limit_nofile")),
    )


def _limit_nofile(name: str, value: Any) -> int | None:
    if value is None or str(value).strip() == "auto":
        return None
    try:
        return count("", value, 1)
    except ValueError:
        raise ValueError(
            f"{name}: pgbouncer_limit_nofile: {value!r} is neither 'auto' nor a whole number of at"
            " least 1"
        ) from None


def with_model(pooler: Pooler, databases: tuple[Database, ...]) -> Pooler:
    """The PgBouncer host with what the model says of pools, where its own variables say nothing."""
    modelled: dict[str, dict[str, tuple[tuple[str, Any], ...]]] = {
        "databases": {
            name: options
            for database in databases
            for name, options in [
                (database.name, database.pools),
                *((alias.name, alias.options) for alias in database.aliases),
            ]
        },
        "users": {role.name: role.pools for role in model_roles(databases)},
    }
    merged: dict[str, dict[str, Mapping[str, int]]] = {}
    for kind, entries in modelled.items():
        merged[kind] = dict(getattr(pooler, kind))
        for name, options in entries.items():
            sizes = {
                key: count(f"pools of {name!r}: {key}", value)
                for key, value in options
                if key in POOL_OPTIONS[kind]
            }
            if sizes:
                merged[kind][name] = {**sizes, **merged[kind].get(name, {})}
    return replace(pooler, databases=merged["databases"], users=merged["users"])


def served_here(database: Database) -> list[tuple[str, tuple[tuple[str, Any], ...]]]:
    """The names under which PgBouncer leads to the database on this server, and their options."""
    here = [(alias.name, alias.options) for alias in database.aliases if not alias.elsewhere]
    return [(database.name, database.pools), *here]


def _pool_options(host: str, kind: str, given: Any) -> dict[str, dict[str, int]]:
    variable = f"{host}: {_POOL_VARIABLES[kind]}"
    options: dict[str, dict[str, int]] = {}
    for name, entry in _mapping(variable, given).items():
        where = f"{host}: pgbouncer_settings" if name == ALL_NAMES else f"{variable}.{name}"
        allowed = POOL_OPTIONS[kind][2:] if name == ALL_NAMES else POOL_OPTIONS[kind]
        values = _mapping(where, entry)
        unknown = sorted(str(key) for key in values if key not in allowed)
        if unknown:
            raise ValueError(
                f"{where}: unknown key {', '.join(unknown)}; allowed are {', '.join(allowed)}"
            )
        options[str(name)] = {
            key: count(f"{where}.{key}", value)
            for key, value in values.items()
            if value is not None
        }
    return options


def _mapping(where: str, value: Any) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: give a dictionary, not {type(value).__name__}")
    return value


def _limit(options: Mapping[str, Mapping[str, int]], name: str, option: str) -> int:
    own = options.get(name, {}).get(option, 0)
    return own or options.get(ALL_NAMES, {}).get(option, 0)


def count(where: str, value: Any, least: int = 0) -> int:
    """A whole number, also one in words.

    Raises:
        ValueError: when it is none, or too small.
    """
    text = "" if isinstance(value, bool) else str(value).strip()
    if not re.match(r"[0-9]{1,9}\Z", text) or int(text) < least:
        raise ValueError(f"{where}: {value!r} is not a whole number of at least {least}")
    return int(text)


def _texts(options: Mapping[str, int]) -> dict[str, str]:
    return {name: str(value) for name, value in options.items()}
