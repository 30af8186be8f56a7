# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an access control list needs so that each role of the model has exactly its rights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._access_state import (
    Change,
    Difference,
    Wanted,
)
from ansible_collections.pooled.postgres.plugins.module_utils._acl import (
    KIND_RIGHTS,
    POOLER,
    STRANGER_RIGHTS,
    Grant,
    in_order,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model import Database, model_roles
from ansible_collections.pooled.postgres.plugins.module_utils._quote import quote_ident

GRANT = "GRANT"
REVOKE_OPTION = "REVOKE GRANT OPTION FOR"
REVOKE = "REVOKE"
VERBS = (GRANT, REVOKE_OPTION, REVOKE)

RoleRights = Mapping[str, "tuple[str, ...]"]


@dataclass(frozen=True)
class Need:
    """What must happen to one access control list, for roles that need the same."""

    verb: str
    privileges: tuple[str, ...]
    grantees: tuple[str, ...]
    as_role: str


def rights_needs(
    kind: str,
    owner: str,
    grants: tuple[Grant, ...],
    rights: Mapping[str, RoleRights],
    exclusive: bool,
) -> tuple[Need, ...]:
    """What an access control list needs so that each role has exactly its rights.

    Args:
        kind: C(database), C(schema) or one of OBJECT_CLASSES.
        owner: the object's owner, from whom nothing is revoked.
        grants: the list.
        rights: per role, the privileges it shall have for each kind; a kind that is not in there
            is not looked at.
        exclusive: whether to revoke what is beyond those.
    """
    by_grantee: dict[str, list[Grant]] = {}
    for grant in grants:
        by_grantee.setdefault(grant.grantee, []).append(grant)
    found: dict[tuple[str, tuple[str, ...], str], list[str]] = {}

    def note(verb: str, privileges: Iterable[str], as_role: str, role: str) -> None:
        ordered = in_order(privileges)
        if ordered:
            found.setdefault((verb, ordered, as_role), []).append(role)

    for role, by_kind in rights.items():
        if kind not in by_kind:
            continue
        current = by_grantee.get(role, [])
        should = set(by_kind[kind])
        note(GRANT, should - {grant.privilege for grant in current}, "", role)
        if not exclusive or role == owner:
            continue
        for grantor in sorted({grant.grantor for grant in current}):
            theirs = [grant for grant in current if grant.grantor == grantor]
            beyond = {grant.privilege for grant in theirs} - should
            passed_on = {
                grant.privilege
                for grant in theirs
                if grant.grantable and grant.privilege not in beyond
            }
            as_role = "" if grantor == owner else grantor
            note(REVOKE_OPTION, passed_on, as_role, role)
            note(REVOKE, beyond, as_role, role)
    return tuple(
        Need(verb, privileges, tuple(roles), as_role)
        for (verb, privileges, as_role), roles in sorted(
            found.items(), key=lambda item: (VERBS.index(item[0][0]), item[0][2], item[1])
        )
    )


def rights_by_role(database: Database, wanted: Wanted) -> dict[str, RoleRights]:
    """What each role of the model may do in a database, whether listed there or not."""
    listed = {role.name: role.kind for role in database.roles}
    rights: dict[str, RoleRights] = {}
    for role in model_roles(wanted.databases):
        kind = listed.get(role.name)
        rights[role.name] = KIND_RIGHTS[kind] if kind else STRANGER_RIGHTS
    if wanted.pooler_role:
        rights[wanted.pooler_role] = KIND_RIGHTS[POOLER]
    return rights


def rights_change(
    database: Database,
    need: Need,
    target: str,
    label: str,
    detail: str = "",
    owners: Iterable[str] = (),
) -> Change:
    """The change that meets a need on what a target names.

    Args:
        database: where.
        need: what is needed.
        target: what follows ON, as SQL.
        label: the same for the reader.
        detail: which of many objects, for the reader.
        owners: whose objects they are.
    """
    return change_for(database, action(need, target), need, label, detail, owners)


def change_for(
    database: Database,
    sql: str,
    need: Need,
    label: str,
    detail: str = "",
    owners: Iterable[str] = (),
) -> Change:
    """A statement that meets a need, with a line of the diff for each role."""
    privileges = ", ".join(need.privileges)
    if need.verb == GRANT:
        before, after = "", privileges
    elif need.verb == REVOKE:
        before, after = privileges, ""
    else:
        before, after = f"{privileges} with grant option", privileges
    return Change(
        database=database.name,
        sql=sql,
        text=f"{sql} -- as {quote_ident(need.as_role)}" if need.as_role else sql,
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


def action(need: Need, target: str) -> str:
    """GRANT or REVOKE as SQL."""
    preposition = "TO" if need.verb == GRANT else "FROM"
    return (
        f"{need.verb} {', '.join(need.privileges)} ON {target}"
        f" {preposition} {grantee_list(need.grantees)}"
    )


def grantee_list(names: Iterable[str]) -> str:
    """Roles as SQL, PUBLIC among them."""
    return ", ".join(quote_ident(name) if name else "PUBLIC" for name in names)
