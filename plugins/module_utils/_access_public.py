# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take from PUBLIC what only the model's roles shall have, where nobody else needs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._access_rights import (
    RoleRights,
    rights_by_role,
    rights_change,
    rights_needs,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access_state import (
    Actual,
    ActualDatabase,
    Change,
    Outsider,
    Schema,
    Wanted,
)
from ansible_collections.pooled.postgres.plugins.module_utils._acl import PUBLIC, Grant, held
from ansible_collections.pooled.postgres.plugins.module_utils._hardening import CIS, STANDARD
from ansible_collections.pooled.postgres.plugins.module_utils._model import Database
from ansible_collections.pooled.postgres.plugins.module_utils._quote import name_list, quote_ident

# What PUBLIC shall not have, as a new database or an old schema gives it.
_CLOSED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    STANDARD: {"database": ("CONNECT", "TEMPORARY"), "schema": ("CREATE",)},
    CIS: {"database": ("CONNECT", "TEMPORARY"), "schema": ("USAGE", "CREATE")},
}
_DATABASE_OWNER = "pg_database_owner"


def closed(wanted: Wanted) -> Mapping[str, tuple[str, ...]]:
    """The privileges that PUBLIC shall not have, on the database and on its schemas."""
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
    sql: str
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
    itself = _Target(
        "database",
        database.name,
        "the database",
        f"DATABASE {quote_ident(database.name)}",
        state.owner,
        state.grants,
    )
    inside = [
        _Target(
            "schema",
            schema.name,
            f"schema {schema.name}",
            f"SCHEMA {quote_ident(schema.name)}",
            schema.owner,
            schema.grants,
        )
        for schema in schemas.values()
    ]
    rights = rights_by_role(database, wanted)
    # Nobody depends yet on a database that this run creates.
    outsiders = actual.outsiders if state.exists and not wanted.revoke_public else ()
    connecting = [
        outsider
        for outsider in outsiders
        if outsider.login
        and (
            "CONNECT" in held(state.grants, PUBLIC)
            or not _only_by_public(outsider, "CONNECT", itself, state.owner, rights, wanted)
        )
    ]
    # Whoever connects may go on as another role, but only a login needs to connect.
    names = {outsider.name for outsider in connecting}
    working = [
        outsider for outsider in outsiders if outsider in connecting or outsider.used_by & names
    ]
    changes: list[Change] = []
    warnings: list[str] = []
    left_schemas = dict(schemas)
    for target in (itself, *inside):
        closing = closed(wanted)[target.kind]
        kept = set(held(target.grants, PUBLIC)) - set(closing)
        for privilege in closing:
            needy = [
                outsider.name
                for outsider in (connecting if privilege == "CONNECT" else working)
                if privilege in held(target.grants, PUBLIC)
                and _only_by_public(outsider, privilege, target, state.owner, rights, wanted)
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
            change = rights_change(database, need, target.sql, f"on {target.label}")
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


def _only_by_public(
    outsider: Outsider,
    privilege: str,
    target: _Target,
    database_owner: str,
    rights: Mapping[str, RoleRights],
    wanted: Wanted,
) -> bool:
    """Whether a role will have a privilege in no other way once the run is done."""
    owner = database_owner if target.owner == _DATABASE_OWNER else target.owner
    if owner in outsider.holds:
        return False
    named = {
        database_owner if grant.grantee == _DATABASE_OWNER else grant.grantee
        for grant in target.grants
        if grant.privilege == privilege
    }
    if wanted.exclusive:
        named -= set(rights)
    named |= {role for role, by_kind in rights.items() if privilege in by_kind[target.kind]}
    return not named & outsider.holds
