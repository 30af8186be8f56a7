# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The entries of PgBouncer's [databases] and [users]."""

from __future__ import annotations

import re
from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Database,
    model_roles,
    pooled_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.defaults import (
    AUTH_QUERY_SESSIONS,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import (
    DATABASE_OPTIONS,
    USER_OPTIONS,
    known,
    value_text,
    version_text,
)

_FORCED_USER = (
    "a forced user takes away each role's own rights and settings, and needs a password in plain"
    " text on the host; let clients log in as their own roles"
)
_REFUSED_DATABASE_OPTIONS = {
    "user": _FORCED_USER,
    "password": _FORCED_USER,
    "reserve_pool": "use reserve_pool_size, which is written as the installed version spells it",
}

_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")

# Since when an entry can name the database in which verifiers are looked up.
_ASKS_ELSEWHERE = (1, 19, 0)
# Since when a user who is in [users] and not in the auth file is looked up.
_USERS_AND_AUTH_QUERY = (1, 23, 0)


def database_entries(
    databases: Sequence[Database],
    version: tuple[int, int, int],
    *,
    host: str,
    port: int,
    overrides: Mapping[str, Mapping[str, Any]],
    where: str = "database_options",
) -> dict[str, dict[str, str]]:
    """The keys of each entry in [databases], by name: the databases and their aliases.

    Args:
        databases: the model.
        version: the PgBouncer that will read them.
        host: where Postgres is: a name, an address or a socket's directory.
        port: Postgres's port.
        overrides: options of single databases and aliases, by name; they win over the model's.
        where: the variable that holds the overrides, for error messages.

    Raises:
        ValueError: naming the variable, its value, and what is allowed.
    """
    names = [name for name, _database, _options in served_names(databases)]
    for name in names:
        if not _NAME.match(name):
            raise ValueError(
                f"database {name!r}: PgBouncer's configuration can't carry this name; it takes"
                " letters (A-Z, a-z), digits, '_', '-' and '.'. Rename the database, or leave it"
                " out of pgbouncer_databases and let its clients connect directly"
            )
    _check_names(where, overrides, names, "database of pgbouncer_databases")
    entries: dict[str, dict[str, str]] = {}
    for name, database, options in served_names(databases):
        entry = {"host": host, "port": str(port), "dbname": database.name}
        elsewhere = {"host", "port"} & set(dict(options))
        if name != database.name and elsewhere and version >= _ASKS_ELSEWHERE:
            # A client's verifier is the same there, but PgBouncer's own role may have no way in.
            entry["auth_dbname"] = database.name
        mine = {f"database {name!r}: pools.{key}": (key, value) for key, value in options}
        if name != database.name:
            mine = {
                f"database {database.name!r}: alias {name!r}: {key}": (key, value)
                for key, value in options
            }
        given = overrides.get(name) or {}
        mine.update({f"{where}.{name}.{key}": (str(key), given[key]) for key in given})
        for here, (key, value) in mine.items():
            option = known(here, key, DATABASE_OPTIONS, _REFUSED_DATABASE_OPTIONS, version)
            spelling = (
                "reserve_pool" if version < (1, 24, 0) and key == "reserve_pool_size" else key
            )
            if value is None:
                if spelling not in ("host", "port", "dbname"):
                    entry.pop(spelling, None)
                continue
            text = value_text(here, option, value)
            if not text:
                raise ValueError(
                    f"{here}: PgBouncer does not accept an empty value here; leave the key out"
                )
            entry[spelling] = text
        entries[name] = entry
    return entries


def user_entries(
    databases: Sequence[Database],
    overrides: Mapping[str, Mapping[str, Any]],
    version: tuple[int, int, int],
    where: str = "user_options",
    auth_role: str = "",
) -> dict[str, dict[str, str]]:
    """The keys of each entry in [users], by name.

    Every role that may have an entry has one: a reload takes options back from an empty entry,
    and leaves a user whose entry is gone with the options that it had.

    Args:
        databases: the model.
        overrides: options of single roles; they win over the model's.
        version: PgBouncer's.
        where: the variable of the overrides, for error messages.
        auth_role: PgBouncer's own role under auth_query. When many clients log in at once it would
            open connections up to the pool's size, which the connection budget does not count.

    Raises:
        ValueError: naming the variable, its value, and what is allowed.
    """
    roles = {role.name: role for role in pooled_roles(databases)}
    for role in model_roles(databases):
        if role.name in overrides and not role.pooled:
            raise ValueError(
                f"{where}: role {role.name!r} may not log in through PgBouncer (pooled: false), so"
                " it has no options there; remove one of the two"
            )
    _check_names(where, overrides, list(roles), "role of pgbouncer_databases")
    entries: dict[str, dict[str, str]] = {}
    if auth_role and databases:
        most = AUTH_QUERY_SESSIONS * len(served_names(databases))
        entries[auth_role] = {"max_user_connections": str(most)}
    for name in sorted(roles):
        mine = {f"role {name!r}: pools.{key}": (key, value) for key, value in roles[name].pools}
        given = overrides.get(name) or {}
        mine.update({f"{where}.{name}.{key}": (str(key), given[key]) for key in given})
        entry: dict[str, str] = {}
        for here, (key, value) in mine.items():
            option = known(here, key, USER_OPTIONS, {}, version)
            if value is None:
                entry.pop(key, None)
                continue
            if auth_role and version < _USERS_AND_AUTH_QUERY:
                raise ValueError(
                    f"{here}: PgBouncer {version_text(version)} lets no role with options of its"
                    " own log in by auth_query; give the database an alias with these options, set"
                    " pgbouncer_auth: userlist, or install PgBouncer 1.23 or newer"
                )
            entry[key] = value_text(here, option, value)
        if entry and not _NAME.match(name):
            raise ValueError(
                f"{next(iter(mine))}: PgBouncer's configuration can't carry the name {name!r}; it"
                " takes letters (A-Z, a-z), digits, '_', '-' and '.'"
            )
        if _NAME.match(name) and not (auth_role and version < _USERS_AND_AUTH_QUERY):
            entries[name] = entry
    return entries


def needs_own_password(
    databases: Sequence[Database], version: tuple[int, int, int], auth_role: str
) -> str:
    """An alias on a server that PgBouncer itself has to log in to; empty for none."""
    if not auth_role or version >= _ASKS_ELSEWHERE:
        return ""
    return next(
        (alias.name for database in databases for alias in database.aliases if alias.elsewhere), ""
    )


def _check_names(where: str, given: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for name, options in given.items():
        if name not in known:
            raise ValueError(
                "{}: {!r} is not a {}; those are {}".format(
                    where, name, what, ", ".join(known) or "none"
                )
            )
        if options is not None and not isinstance(options, Mapping):
            raise ValueError(f"{where}.{name}: give a dictionary of options")


def served_names(
    databases: Sequence[Database],
) -> list[tuple[str, Database, tuple[tuple[str, Any], ...]]]:
    """Each name that PgBouncer serves, with its database and what the model says of its pools."""
    return [
        served
        for database in databases
        for served in (
            (database.name, database, database.pools),
            *((alias.name, database, alias.options) for alias in database.aliases),
        )
    ]
