# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading C(pooled_databases), and refusing what is not a valid model."""

from __future__ import annotations

import re
from typing import Any, Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    CLIENT_VIA,
    STATES,
    AbsentRole,
    Alias,
    Client,
    Database,
    Role,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import (
    EXTENSIONS_SCHEMA,
    POOLER_SCHEMA,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.role_kinds import KINDS
from ansible_collections.pooled.postgres.plugins.module_utils._model.setting_text import (
    setting_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.scram import check_password

_DATABASE_KEYS = ("name", "schemas", "extensions", "roles", "clients", "pools", "aliases")
_EXTENSION_KEYS = ("name", "schema")
_ROLE_KEYS = (
    "name",
    "kind",
    "password",
    "connection_limit",
    "settings",
    "member_of",
    "pools",
    "pooled",
    "state",
    "reassign_owned_to",
)
_CLIENT_KEYS = (
    "name",
    "role",
    "replicas",
    "surge",
    "workers",
    "pool_size",
    "max_overflow",
    "via",
    "alias",
)
_NAME_BYTES = 63
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)*\Z")
_RESERVED_ROLES = ("public", "none")
_RESERVED_DATABASES = ("template0", "template1", "pgbouncer")


def parse_databases(raw: Any, variable: str = "pooled_databases") -> tuple[Database, ...]:
    """The model, checked.

    Args:
        raw: the variable's value, a list of dicts.
        variable: its name, for error messages.

    Raises:
        ValueError: naming the entry, its value (never a password), what is allowed.
    """
    databases: list[Database] = []
    for where, entry in _entries(raw, variable, _DATABASE_KEYS):
        database = _database(where, entry)
        if database.name in [other.name for other in databases]:
            raise ValueError(f"{where}.name: database {database.name!r} is listed twice")
        databases.append(database)
    _same_role_everywhere(databases, variable)
    _no_alias_twice(databases, variable)
    return tuple(databases)


def check_name(where: str, value: Any, what: str) -> str:
    """An identifier that Postgres can hold and a configuration file can carry.

    Raises:
        ValueError: when it can't.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(
            f"{where}: {value!r} is not a valid name for a {what}: give a non-empty string"
        )
    if _CONTROL.search(value):
        raise ValueError(
            f"{where}: {value!r} is not a valid name for a {what}: control characters such as line"
            " breaks are not allowed"
        )
    if len(value.encode("utf-8")) > _NAME_BYTES:
        raise ValueError(
            f"{where}: {value!r} is too long for a {what} name: Postgres keeps {_NAME_BYTES} bytes"
        )
    return value


def _entries(
    raw: Any, where: str, keys: tuple[str, ...]
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    if not isinstance(raw, (list, tuple)):
        raise ValueError(f"{where}: give a list, not {type(raw).__name__}")
    for index, entry in enumerate(raw):
        here = f"{where}[{index}]"
        if not isinstance(entry, Mapping):
            raise ValueError(f"{here}: give a dictionary, not {type(entry).__name__}")
        _known_keys(here, entry, keys)
        yield here, entry


def _known_keys(where: str, entry: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    unknown = sorted(str(key) for key in entry if key not in keys)
    if unknown:
        raise ValueError(
            "{}: unknown key {}; allowed are {}".format(where, ", ".join(unknown), ", ".join(keys))
        )


def _database(where: str, entry: Mapping[str, Any]) -> Database:
    name = check_name(where + ".name", entry.get("name"), "database")
    if name in _RESERVED_DATABASES:
        raise ValueError(f"{where}.name: {name!r} is reserved; choose another name")
    schemas = _names(where + ".schemas", entry.get("schemas"), "schema", ("public",))
    if not schemas:
        raise ValueError(f"{where}.schemas: give at least one schema")
    for schema in schemas:
        _check_schema(where + ".schemas", schema)
        if schema == EXTENSIONS_SCHEMA:
            raise ValueError(
                f"{where}.schemas: {schema!r} is where extensions of this collection's own are, so"
                " that no role creates in it; choose another name"
            )
    extensions = _extensions(where + ".extensions", entry.get("extensions"))
    extension_schemas = tuple((name, schema) for name, schema in extensions.items() if schema)
    roles: list[Role] = []
    absent: list[AbsentRole] = []
    for here, role_entry in _entries(_or_empty(entry.get("roles")), where + ".roles", _ROLE_KEYS):
        role = _any_role(here, role_entry)
        if role.name in [*(other.name for other in roles), *(other.name for other in absent)]:
            raise ValueError(
                f"{here}.name: role {role.name!r} is listed twice in database {name!r}"
            )
        if isinstance(role, Role):
            roles.append(role)
        else:
            absent.append(role)
    aliases = _aliases(where + ".aliases", entry.get("aliases"))
    clients: list[Client] = []
    for here, client_entry in _entries(
        _or_empty(entry.get("clients")), where + ".clients", _CLIENT_KEYS
    ):
        client = _client(here, client_entry, roles, aliases)
        if client.name in [other.name for other in clients]:
            raise ValueError(
                f"{here}.name: client {client.name!r} is listed twice in database {name!r}"
            )
        clients.append(client)
    return Database(
        name,
        schemas,
        tuple(extensions),
        tuple(roles),
        tuple(clients),
        tuple(absent),
        _options(where + ".pools", entry.get("pools")),
        aliases,
        extension_schemas,
    )


def _any_role(where: str, entry: Mapping[str, Any]) -> Role | AbsentRole:
    name = check_name(where + ".name", entry.get("name"), "role")
    if name in _RESERVED_ROLES or name.startswith("pg_"):
        raise ValueError(f"{where}.name: {name!r} is reserved by Postgres; choose another name")
    state = entry.get("state", "present")
    if state not in STATES:
        raise ValueError(
            "{}.state: {!r} is not a valid state of a role; choose one of {}".format(
                where, state, ", ".join(STATES)
            )
        )
    new_owner = entry.get("reassign_owned_to")
    if state == "present":
        if new_owner is not None:
            raise ValueError(
                f"{where}.reassign_owned_to of role {name!r}: only a role that is to go gives away"
                " what it owns; add state: absent, or leave the key out"
            )
        return _role(where, name, entry)
    if new_owner is None:
        return AbsentRole(name, "")
    check_name(where + ".reassign_owned_to", new_owner, "role")
    if new_owner == name:
        raise ValueError(
            f"{where}.reassign_owned_to: role {name!r} can't be given its own objects; name another"
            " role"
        )
    return AbsentRole(name, new_owner)


def _role(where: str, name: str, entry: Mapping[str, Any]) -> Role:
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            "{}.kind: {!r} is not a valid kind of role; choose one of {}".format(
                where, kind, ", ".join(KINDS)
            )
        )
    password = entry.get("password")
    if password is not None and (not isinstance(password, str) or not password or "\0" in password):
        raise ValueError(
            f"{where}.password of role {name!r}: give non-empty text, or leave the key out to"
            " keep the password as it is"
        )
    if password is not None:
        check_password(f"{where}.password of role {name!r}", password)
    limit = _number(where + ".connection_limit", entry.get("connection_limit"), -1, -1)
    member_of = _names(where + ".member_of", entry.get("member_of"), "role", ())
    if name in member_of:
        raise ValueError(f"{where}.member_of: role {name!r} can't be a member of itself")
    settings = _settings(where + ".settings", kind, entry.get("settings"))
    pools = _options(where + ".pools", entry.get("pools"))
    pooled = entry.get("pooled", True)
    if not isinstance(pooled, bool):
        raise ValueError(f"{where}.pooled: {pooled!r} is not allowed; give true or false")
    if pools and not pooled:
        raise ValueError(
            f"{where}.pools: role {name!r} may not log in through PgBouncer (pooled: false), so it"
            " has no pools there; remove one of the two keys"
        )
    return Role(name, kind, password, limit, settings, member_of, pools, pooled)


def _options(where: str, given: Any) -> tuple[tuple[str, Any], ...]:
    """Options of PgBouncer as pairs; those without a value are left to PgBouncer."""
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(
            f"{where}: give a dictionary of PgBouncer's options, such as {{pool_size: 40}}, not"
            f" {type(given).__name__}"
        )
    return tuple(
        (str(key), tuple(value) if isinstance(value, list) else value)
        for key, value in (given or {}).items()
        if value is not None
    )


def _aliases(where: str, given: Any) -> tuple[Alias, ...]:
    if given is not None and not isinstance(given, (list, tuple)):
        raise ValueError(f"{where}: give a list of aliases, not {type(given).__name__}")
    aliases = []
    for index, entry in enumerate(given or ()):
        here = f"{where}[{index}]"
        options = dict(_options(here, entry))
        name = check_name(here + ".name", options.pop("name", None), "database")
        if name in _RESERVED_DATABASES:
            raise ValueError(f"{here}.name: {name!r} is reserved; choose another name")
        aliases.append(Alias(name, tuple(options.items())))
    return tuple(aliases)


def _no_alias_twice(databases: list[Database], variable: str) -> None:
    """PgBouncer serves each name once."""
    taken = {database.name: f"database {database.name!r}" for database in databases}
    for database in databases:
        for alias in database.aliases:
            if alias.name in taken:
                raise ValueError(
                    f"{variable}: alias {alias.name!r} of database {database.name!r} is also the"
                    f" name of {taken[alias.name]}; choose another name"
                )
            taken[alias.name] = f"an alias of database {database.name!r}"


def _settings(where: str, kind: str, given: Any) -> tuple[tuple[str, str], ...]:
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"{where}: give a dictionary, not {type(given).__name__}")
    merged: dict[str, str] = dict(KINDS[kind].settings)
    for name, value in (given or {}).items():
        if not isinstance(name, str) or not _SETTING_NAME.match(name):
            raise ValueError(f"{where}: {name!r} is not a valid name of a setting")
        if value is None:
            merged.pop(name.lower(), None)
        else:
            merged[name.lower()] = setting_text(f"{where}.{name}", value)
    return tuple(sorted(merged.items()))


def _client(
    where: str, entry: Mapping[str, Any], roles: list[Role], aliases: tuple[Alias, ...]
) -> Client:
    name = check_name(where + ".name", entry.get("name"), "client")
    role = entry.get("role")
    pooled = {known.name: known.pooled for known in roles}
    if role not in pooled:
        raise ValueError(
            "{}.role: {!r} is not a role of this database; its roles are {}".format(
                where, role, ", ".join(pooled) or "none"
            )
        )
    via = entry.get("via", "pgbouncer")
    if via not in CLIENT_VIA:
        raise ValueError(
            "{}.via: {!r} is not a valid way to connect; choose one of {}".format(
                where, via, ", ".join(CLIENT_VIA)
            )
        )
    if via == "pgbouncer" and not pooled[role]:
        raise ValueError(
            f"{where}.via: client {name!r} connects through PgBouncer, where its role {role!r} may"
            " not log in (pooled: false); set via: direct, or remove pooled: false from the role"
        )
    pool_size = _number(where + ".pool_size", entry.get("pool_size"), 5, 0)
    if pool_size == 0:
        raise ValueError(
            f"{where}.pool_size: 0 means no limit in SQLAlchemy, which no budget can hold;"
            " give at least 1"
            " (for NullPool, the most concurrent transactions of a process)"
        )
    max_overflow = _number(where + ".max_overflow", entry.get("max_overflow"), 10, -1)
    if max_overflow == -1:
        raise ValueError(
            f"{where}.max_overflow: -1 means no limit in SQLAlchemy, which no budget can hold;"
            " give at least 0"
        )
    alias = entry.get("alias")
    if alias is not None and via == "direct":
        raise ValueError(
            f"{where}.alias: {alias!r} is a name of PgBouncer's, and this client connects directly;"
            " leave it out, or set via: pgbouncer"
        )
    if alias is not None and alias not in [known.name for known in aliases]:
        raise ValueError(
            "{}.alias: {!r} is not an alias of this database; its aliases are {}".format(
                where, alias, ", ".join(known.name for known in aliases) or "none"
            )
        )
    replicas = _number(where + ".replicas", entry.get("replicas"), 1, 0)
    return Client(
        name,
        role,
        replicas,
        _number(where + ".workers", entry.get("workers"), 1, 1),
        pool_size,
        max_overflow,
        via,
        _surge(where + ".surge", entry.get("surge"), replicas),
        alias or "",
    )


def _surge(where: str, value: Any, replicas: int) -> int:
    """Further replicas: a number of them, or a share of the replicas, rounded up."""
    share = re.match(r"([0-9]{1,4})%\Z", value) if isinstance(value, str) else None
    if share:
        return -(-replicas * int(share.group(1)) // 100)
    try:
        return _number(where, value, 0, 0)
    except ValueError:
        raise ValueError(
            f"{where}: {value!r} is neither a number of replicas nor a share of them, such as '25%'"
        ) from None


def _number(where: str, value: Any, default: int, least: int) -> int:
    if value is None:
        return default
    if isinstance(value, str) and re.match(r"-?[0-9]+\Z", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{where}: {value!r} is not a whole number of at least {least}")
    return value


def _names(where: str, value: Any, what: str, default: tuple[str, ...]) -> tuple[str, ...]:
    if value is None:
        return default
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{where}: give a list of names, not {type(value).__name__}")
    names = tuple(check_name(f"{where}[{index}]", name, what) for index, name in enumerate(value))
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: {name!r} is listed twice")
    return names


def _extensions(where: str, value: Any) -> dict[str, str]:
    """The schema of each extension, empty where the model does not say."""
    if not isinstance(value, (list, tuple, type(None))):
        raise ValueError(f"{where}: give a list, not {type(value).__name__}")
    found: dict[str, str] = {}
    for index, entry in enumerate(value or ()):
        here, name, schema = f"{where}[{index}]", entry, ""
        if isinstance(entry, Mapping):
            _known_keys(here, entry, _EXTENSION_KEYS)
            name = entry.get("name")
            if entry.get("schema") is not None:
                schema = check_name(f"{here}.schema", entry["schema"], "schema")
                _check_schema(f"{here}.schema", schema)
                if schema == POOLER_SCHEMA:
                    raise ValueError(
                        f"{here}.schema: {schema!r} is where PgBouncer's function lives; choose"
                        " another name"
                    )
        name = check_name(here, name, "extension")
        if name in found:
            raise ValueError(f"{where}: {name!r} is listed twice")
        found[name] = schema
    return found


def _check_schema(where: str, name: str) -> None:
    if name.startswith("pg_") or name == "information_schema":
        raise ValueError(f"{where}: {name!r} belongs to the server itself")


def _or_empty(value: Any) -> Any:
    return [] if value is None else value


def _same_role_everywhere(databases: list[Database], variable: str) -> None:
    seen: dict[str, tuple[str, Role | AbsentRole]] = {}
    for database in databases:
        roles: tuple[Role | AbsentRole, ...] = (*database.roles, *database.absent)
        for role in roles:
            first, other = seen.setdefault(role.name, (database.name, role))
            if other == role:
                continue
            raise ValueError(
                "{}: role {!r} is one role of the whole server, but its entries in databases"
                " {!r} and {!r}"
                " differ in {}; make them equal".format(
                    variable, role.name, first, database.name, ", ".join(_different(other, role))
                )
            )


def _different(left: Role | AbsentRole, right: Role | AbsentRole) -> list[str]:
    if type(left) is not type(right):
        return ["state"]
    return [key for key in _ROLE_KEYS if getattr(left, key, None) != getattr(right, key, None)]
