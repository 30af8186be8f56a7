# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take from PUBLIC what only the model's roles must have, where nobody else needs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    Actual,
    ActualDatabase,
    DatabaseObject,
    Schema,
    UnmanagedRole,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import Change
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import (
    OnDatabase,
    OnObjects,
    OnSchemas,
    Target,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.objects import (
    Kept,
    summary,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.rights import (
    RoleRights,
    rights_by_role,
    rights_change,
    rights_needs,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database
from ansible_collections.pooled.postgres.plugins.module_utils._model.role_kinds import (
    EXTENSION_SCHEMA,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.profiles import (
    CIS,
    STANDARD,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    OBJECT_CLASSES,
    PUBLIC,
    Grant,
    held,
    in_order,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import (
    name_list,
)

# What PUBLIC must not have, as a new database or an old schema gives it.
_CLOSED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    STANDARD: {
        "database": ("CONNECT", "TEMPORARY"),
        "schema": ("CREATE",),
        EXTENSION_SCHEMA: ("CREATE",),
    },
    CIS: {
        "database": ("CONNECT", "TEMPORARY"),
        "schema": ("USAGE", "CREATE"),
        EXTENSION_SCHEMA: ("USAGE", "CREATE"),
    },
}
_DATABASE_OWNER = "pg_database_owner"
_CLOSED_OBJECTS = OBJECT_CLASSES[:2]
# The server's own roles that have a privilege on all tables and sequences.
_READ_ALL, _WRITE_ALL = frozenset({"pg_read_all_data"}), frozenset({"pg_write_all_data"})
_HOLD_EVERYWHERE = {
    "SELECT": _READ_ALL,
    "INSERT": _WRITE_ALL,
    "UPDATE": _WRITE_ALL,
    "DELETE": _WRITE_ALL,
}


def closed(wanted: Wanted) -> Mapping[str, tuple[str, ...]]:
    """The privileges that PUBLIC must not have, on the database and on its schemas."""
    return _CLOSED[wanted.hardening]


def maintenance_changes(wanted: Wanted, actual: Actual) -> tuple[list[Change], list[str]]:
    """What PUBLIC loses in the databases that every server has, and warnings, likewise."""
    changes: list[Change] = []
    warnings: list[str] = []
    for name, state in actual.maintenance.items():
        if actual.login is not None:
            warnings.append(
                f"database {name!r}: PUBLIC keeps its rights, because {actual.login_user!r} is not"
                " a superuser"
            )
            continue
        database = Database(name, tuple(state.schemas), (), (), ())
        inside, more_warnings, _state, _schemas = public_changes(
            database, state, state.schemas, wanted, actual
        )
        changes.extend(inside)
        warnings.extend(more_warnings)
    return changes, warnings


@dataclass(frozen=True)
class _Target:
    """The database, or one of its schemas."""

    kind: str
    name: str
    label: str
    on: Target
    owner: str
    grants: tuple[Grant, ...]


def public_changes(
    database: Database,
    state: ActualDatabase,
    schemas: Mapping[str, Schema],
    wanted: Wanted,
    actual: Actual,
) -> tuple[list[Change], list[str], ActualDatabase, dict[str, Schema]]:
    """The revocations, a warning for each right that stays and the roles that need it, and the
    database and its schemas afterwards.
    """
    itself = _whole(database, state)
    inside = [
        _Target(
            schema.kind,
            schema.name,
            f"schema {schema.name}",
            OnSchemas((schema.name,)),
            schema.owner,
            schema.grants,
        )
        for schema in schemas.values()
    ]
    rights = rights_by_role(database, wanted)
    connecting, working = _in_need(database, state, rights, wanted, actual)
    changes: list[Change] = []
    warnings: list[str] = []
    left_schemas = dict(schemas)
    for target in (itself, *inside):
        closing = closed(wanted)[target.kind]
        kept = set(held(target.grants, PUBLIC)) - set(closing)
        for privilege in closing:
            needy = [
                unmanaged.name
                for unmanaged in (connecting if privilege == "CONNECT" else working)
                if privilege in held(target.grants, PUBLIC)
                and _only_by_public(unmanaged, privilege, target, state.owner, rights, wanted)
            ]
            if needy:
                kept.add(privilege)
                warnings.append(
                    f"database {database.name!r}: PUBLIC keeps {privilege} on {target.label},"
                    f" because roles outside the model have it only that way: {name_list(needy)};"
                    " grant it to them by name, or set revoke_public to true"
                )
        everybody = {PUBLIC: {target.kind: tuple(kept)}}
        for need in rights_needs(target.kind, target.owner, target.grants, everybody, True):
            change = rights_change(database, need, target.on, f"on {target.label}")
            changes.append(replace(change, acts_for=frozenset({target.owner})))
        gone = held(target.grants, PUBLIC) - kept
        left = tuple(
            grant
            for grant in target.grants
            if grant.grantee != PUBLIC or grant.privilege not in gone
        )
        if target is itself:
            state = replace(state, grants=left)
        else:
            left_schemas[target.name] = replace(left_schemas[target.name], grants=left)
    return changes, warnings, state, left_schemas


def public_on_objects(
    database: Database, state: ActualDatabase, wanted: Wanted, actual: Actual
) -> tuple[Kept, list[str]]:
    """What PUBLIC keeps of objects, and a warning for what roles outside the model need of it.

    It loses what it has on tables and sequences of migrators, mostly by their default privileges.
    Routines and types are everybody's by default, so nobody can tell who counts on them.
    """
    migrators = {role.name for role in database.roles if role.kind == "migrator"}
    rights = rights_by_role(database, wanted)
    _connecting, working = _in_need(database, state, rights, wanted, actual)
    cache: dict[tuple[str, str, int], Mapping[str, tuple[str, ...]]] = {}

    def needed(item: DatabaseObject) -> Mapping[str, tuple[str, ...]]:
        key = (item.kind, item.owner, id(item.grants))
        if key not in cache:
            by_privilege = {
                privilege: _needing(working, privilege, item, rights, wanted)
                for privilege in in_order(held(item.grants, PUBLIC))
            }
            cache[key] = {name: who for name, who in by_privilege.items() if who}
        return cache[key]

    def ours(item: DatabaseObject) -> bool:
        return wanted.exclusive and item.owner in migrators and item.kind in _CLOSED_OBJECTS

    def kept(item: DatabaseObject) -> tuple[str, ...] | None:
        return tuple(needed(item)) if ours(item) else None

    found: dict[tuple[str, str, str, tuple[str, ...]], list[str]] = {}
    for item in state.objects:
        if item.schema in database.schemas and ours(item):
            for privilege, who in needed(item).items():
                found.setdefault((item.schema, item.kind, privilege, who), []).append(item.name)
    merged: dict[tuple[str, str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for (schema, kind, privilege, who), objects in found.items():
        merged.setdefault((schema, kind, tuple(objects), who), []).append(privilege)
    return kept, [
        f"database {database.name!r}, schema {schema!r}: PUBLIC keeps"
        f" {', '.join(in_order(privileges))} on {len(names)} of the {kind} ({summary(names)}),"
        f" because roles outside the model have it only that way: {name_list(who)}; grant it to"
        " them by name, or set revoke_public to true"
        for (schema, kind, names, who), privileges in sorted(merged.items())
    ]


def _whole(database: Database, state: ActualDatabase) -> _Target:
    return _Target(
        "database",
        database.name,
        "the database",
        OnDatabase(database.name),
        state.owner,
        state.grants,
    )


def _in_need(
    database: Database,
    state: ActualDatabase,
    rights: Mapping[str, RoleRights],
    wanted: Wanted,
    actual: Actual,
) -> tuple[list[UnmanagedRole], list[UnmanagedRole]]:
    """Roles outside the model that connect to a database, and those that work in it."""
    # Nobody depends yet on a database that this run creates.
    unmanaged_roles = actual.unmanaged_roles if state.exists and not wanted.revoke_public else ()
    itself = _whole(database, state)
    connecting = [
        unmanaged
        for unmanaged in unmanaged_roles
        if unmanaged.login
        and (
            "CONNECT" in held(state.grants, PUBLIC)
            or not _only_by_public(unmanaged, "CONNECT", itself, state.owner, rights, wanted)
        )
    ]
    # Whoever connects may go on as another role, but only a login needs to connect.
    names = {unmanaged.name for unmanaged in connecting}
    return connecting, [
        unmanaged
        for unmanaged in unmanaged_roles
        if unmanaged in connecting or unmanaged.used_by & names
    ]


def _needing(
    working: Iterable[UnmanagedRole],
    privilege: str,
    item: DatabaseObject,
    rights: Mapping[str, RoleRights],
    wanted: Wanted,
) -> tuple[str, ...]:
    """Who of them has a privilege on an object as PUBLIC only."""
    # Nothing here belongs to the database's owner by that name.
    target = _Target(item.kind, item.name, "", OnObjects((item,)), item.owner, item.grants)
    return tuple(
        unmanaged.name
        for unmanaged in working
        if not unmanaged.holds & _HOLD_EVERYWHERE.get(privilege, frozenset())
        and _only_by_public(unmanaged, privilege, target, item.owner, rights, wanted)
    )


def _only_by_public(
    unmanaged: UnmanagedRole,
    privilege: str,
    target: _Target,
    database_owner: str,
    rights: Mapping[str, RoleRights],
    wanted: Wanted,
) -> bool:
    """Whether a role will have a privilege in no other way once the run is done."""
    owner = database_owner if target.owner == _DATABASE_OWNER else target.owner
    if owner in unmanaged.holds:
        return False
    named = {
        database_owner if grant.grantee == _DATABASE_OWNER else grant.grantee
        for grant in target.grants
        if grant.privilege == privilege
    }
    if wanted.exclusive:
        named -= set(rights)
    named |= {role for role, by_kind in rights.items() if privilege in by_kind.get(target.kind, ())}
    return not named & unmanaged.holds
