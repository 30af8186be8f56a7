# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an access control list needs so that each role of the model has exactly its rights."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    Actual,
    ActualDatabase,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import (
    Change,
    Difference,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import (
    GRANT,
    REVOKE,
    REVOKE_OPTION,
    VERBS,
    ChangeRights,
    Need,
    Target,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Database,
    absent_roles,
    model_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.role_kinds import (
    ALL_KINDS,
    NO_DEFAULTS,
    POOLER,
    PUBLIC_DEFAULTS,
    UNLISTED_RIGHTS,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    PUBLIC,
    SCHEMAS,
    Grant,
    in_order,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.operations import Operation

RoleRights = Mapping[str, "tuple[str, ...]"]


def rights_needs(
    kind: str,
    owner: str,
    grants: tuple[Grant, ...],
    rights: Mapping[str, RoleRights],
    exclusive: bool,
) -> tuple[Need, ...]:
    """What an access control list needs so that each role has exactly its rights.

    Args:
        kind: C(database), C(schema), one of OBJECT_CLASSES or LARGE_OBJECTS.
        owner: the object's owner, from whom nothing is revoked.
        grants: the list.
        rights: per role, the privileges it must have for each kind; a kind that is not in there
            is not looked at.
        exclusive: whether to revoke what is beyond those.
    """
    bound = {role for role, by_kind in rights.items() if kind in by_kind and role != owner}
    losing = {
        (grant.grantee, grant.privilege)
        for grant in grants
        if exclusive and grant.grantable and grant.grantee in bound
    }
    passed_on = [grant for grant in grants if (grant.grantor, grant.privilege) in losing]
    passing = {(grant.grantor, grant.privilege) for grant in passed_on}
    by_grantee: dict[str, list[Grant]] = {}
    for grant in grants:
        if (grant.grantor, grant.privilege) not in losing:
            by_grantee.setdefault(grant.grantee, []).append(grant)
    found: dict[Need, list[str]] = {}

    def note(role: str, verb: str, privileges: Iterable[str], as_role: str = "") -> None:
        ordered = in_order(privileges)
        if ordered:
            cascade = verb != GRANT and any((role, name) in passing for name in ordered)
            found.setdefault(Need(verb, ordered, (), as_role, cascade=cascade), []).append(role)

    for grant in passed_on:
        kept = by_grantee.get(grant.grantee, ())
        enough = [
            other
            for other in kept
            if other.privilege == grant.privilege and other.grantable >= grant.grantable
        ]
        if grant.grantee not in bound and not enough:
            need = Need(GRANT, (grant.privilege,), (), "", True, grant.grantable)
            if grant.grantee not in found.setdefault(need, []):
                found[need].append(grant.grantee)
    for role, by_kind in rights.items():
        if kind not in by_kind:
            continue
        current = by_grantee.get(role, [])
        should = set(by_kind[kind])
        note(role, GRANT, should - {grant.privilege for grant in current})
        if not exclusive or role == owner:
            continue
        for grantor in sorted({grant.grantor for grant in current}):
            theirs = [grant for grant in current if grant.grantor == grantor]
            beyond = {grant.privilege for grant in theirs} - should
            options = {
                grant.privilege
                for grant in theirs
                if grant.grantable and grant.privilege not in beyond
            }
            as_role = "" if grantor == owner else grantor
            note(role, REVOKE_OPTION, options, as_role)
            note(role, REVOKE, beyond, as_role)
    needs = [replace(need, grantees=tuple(roles)) for need, roles in found.items()]
    return tuple(
        sorted(
            needs,
            key=lambda need: (VERBS.index(need.verb), need.again, need.as_role, need.grantees),
        )
    )


def rights_by_role(database: Database, wanted: Wanted) -> dict[str, RoleRights]:
    """What each role of the model may do in a database, whether listed there or not."""
    listed = {role.name: role.kind for role in database.roles}
    rights: dict[str, RoleRights] = {}
    for role in model_roles(wanted.databases):
        kind = listed.get(role.name)
        rights[role.name] = ALL_KINDS[kind].rights if kind else UNLISTED_RIGHTS
    if wanted.pooler_role:
        rights[wanted.pooler_role] = ALL_KINDS[POOLER].rights
    return rights


def rights_by_default(
    database: Database, state: ActualDatabase, wanted: Wanted, actual: Actual
) -> dict[str, RoleRights]:
    """What anybody may get by default of what migrators create, which they alone decide."""
    rights: dict[str, RoleRights] = {
        name: {**by_kind, SCHEMAS: by_kind["schema"]}
        for name, by_kind in rights_by_role(database, wanted).items()
    }
    rights[PUBLIC] = PUBLIC_DEFAULTS
    creators = {role.name for role in database.roles if role.kind == "migrator"}
    # Roles that are to go are given nothing more by who drops them.
    absent = {role.name for role in absent_roles(wanted.databases)}
    known = {*rights, *absent, wanted.monitor_role, actual.login_user}
    unmanaged = {
        grant.grantee
        for item in state.default_rights
        if item.creator in creators
        for grant in item.grants
    } - known
    return {**rights, **dict.fromkeys(sorted(unmanaged), NO_DEFAULTS)}


def rights_change(
    database: Database,
    need: Need,
    target: Target,
    label: str,
    detail: str = "",
    owners: Iterable[str] = (),
) -> Change:
    """The change that meets a need on a target.

    Args:
        database: where.
        need: what is needed.
        target: what the rights are on.
        label: the same for the reader.
        detail: which of many objects, for the reader.
        owners: whose objects they are.
    """
    return change_for(database, ChangeRights(need, target), need, label, detail, owners)


def change_for(
    database: Database,
    operation: Operation,
    need: Need,
    label: str,
    detail: str = "",
    owners: Iterable[str] = (),
) -> Change:
    """A statement that meets a need, with a line of the diff for each role."""
    privileges = ", ".join(need.privileges)
    if need.again:
        before, after = f"{privileges} by way of a role of the model", privileges
    elif need.verb == GRANT:
        before, after = "", privileges
    elif need.verb == REVOKE:
        before, after = privileges, ""
    else:
        before, after = f"{privileges} with grant option", privileges
    return Change(
        database=database.name,
        operation=operation,
        subject=f"rights {label}",
        differences=tuple(
            Difference(
                (
                    f"database {database.name}",
                    f"role {grantee}" if grantee else "PUBLIC",
                    label,
                    *((detail,) if detail else ()),
                ),
                before,
                after,
            )
            for grantee in need.grantees
        ),
        as_role=need.as_role,
        acts_for=frozenset(() if need.as_role else owners),
        takes_from=frozenset(need.grantees) if need.verb == REVOKE else frozenset(),
    )
