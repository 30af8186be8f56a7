# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a login that is not a superuser may do, as on managed servers: found out before it is tried.

What the model needs and the login may not give fails the run before anything is changed. What it
may not take away stays, and is named. A superuser passes through all of this untouched.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Iterable, Iterator, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    ADMIN_OPTION_MAJOR,
    Actual,
    ActualDatabase,
    DatabaseObject,
    Schema,
    extension_homes,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import Change
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import (
    GRANT,
    GrantMembership,
    RevokeMembership,
    RoleOperation,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.public import closed
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.rights import (
    RoleRights,
    rights_needs,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.roles import wanted_roles
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database
from ansible_collections.pooled.postgres.plugins.module_utils._model.role_kinds import ALL_KINDS
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    PUBLIC,
    Grant,
    held,
    in_order,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.operations import Operation
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import (
    name_list,
    quote_ident,
)

_DATABASE_OWNER = "pg_database_owner"
_SHOWN_NAMES = 5


def holds_rights_of(role: str, wanted: Wanted, actual: Actual) -> bool:
    """Whether the login has a role's rights without doing anything for it."""
    login = actual.login
    if login is None or role in login.holds:
        return True
    created = role not in actual.role_names and role in _names(wanted)
    return created and login.holds_created_roles


def reaches(role: str, wanted: Wanted, actual: Actual) -> bool:
    """Whether the login has a role's rights, or may grant itself those of a role of the model."""
    if holds_rights_of(role, wanted, actual):
        return True
    return role in _names(wanted) and _may_join(role, actual)


def role_problems(wanted: Wanted, actual: Actual, changes: Iterable[Change]) -> Iterator[str]:
    """Roles that the model needs otherwise than the login may make them."""
    login = actual.login
    if login is None:
        return
    me = repr(actual.login_user)
    needed: dict[str, list[Change]] = {}
    for change in changes:
        for name in change.acts_for if change.database is None else ():
            needed.setdefault(name, []).append(change)
    for role in wanted_roles(wanted):
        existing = actual.roles.get(role.name)
        if existing is None:
            if "CREATEROLE" not in login.attributes:
                yield f"there is no role {role.name!r}, and {me} may not create it: no CREATEROLE"
            continue
        fixed = [
            word
            for word in in_order(existing.attributes - ALL_KINDS[role.kind].attributes)
            if not _may_change_attribute(word, actual)
        ]
        if fixed:
            yield (
                f"role {role.name!r} has {', '.join(fixed)}, which {me} may not take away; as a"
                f" superuser run ALTER ROLE {quote_ident(role.name)}"
                f" {' '.join('NO' + word for word in fixed)}"
            )
    if "CREATEDB" not in login.attributes:
        for database, state in actual.databases.items():
            if not state.exists:
                yield f"there is no database {database!r}, and {me} may not create it: no CREATEDB"
    for name, theirs in needed.items():
        alters = any(_alters(change.operation, name) for change in theirs)
        may = name in login.administers and ("CREATEROLE" in login.attributes or not alters)
        if may or name not in actual.role_names:
            continue
        statements = "; ".join(change.text for change in theirs)
        yield (
            f"{me} may not do this with role {name!r}: {statements}. As a role that may, run GRANT"
            f" {quote_ident(name)} TO {quote_ident(actual.login_user)} WITH ADMIN OPTION"
            if "CREATEROLE" in login.attributes
            else f"{me} may not do this with role {name!r}, because it has no CREATEROLE:"
            f" {statements}"
        )


def permitted(
    database: Database, changes: list[Change], wanted: Wanted, actual: Actual
) -> tuple[list[Change], list[str], list[str]]:
    """The changes that the login may make, warnings and problems about the others."""
    if actual.login is None:
        return changes, [], []
    me = repr(actual.login_user)
    state = actual.databases[database.name]
    kept: list[Change] = []
    warnings: list[str] = []
    blocked: set[str] = set()
    for change in changes:
        roles = _real_owners(change.acts_for, state)
        if change.as_role and change.as_role not in actual.login.becomes:
            warnings.append(
                f"database {database.name!r}: {change.subject}: this stays undone, because"
                f" {change.as_role!r} granted it and {me} may not act for it: {change.text}"
            )
        elif all(reaches(role, wanted, actual) for role in roles):
            kept.append(replace(change, acts_for=roles))
        elif state.owner not in roles:
            blocked |= {role for role in roles if not reaches(role, wanted, actual)}
    problems = [
        f"database {database.name!r}: default privileges of migrator {role!r} can't be set, because"
        f" {me} does not have its rights and can't grant them to itself; as a role that may, run"
        f" GRANT {quote_ident(role)} TO {quote_ident(actual.login_user)}"
        for role in sorted(blocked)
    ]
    named = (*database.schemas, *extension_homes(database, state))
    missing = [name for name in named if name not in state.schemas]
    creators = {grant.grantee for grant in state.grants if grant.privilege == "CREATE"}
    if missing and not any(
        role == PUBLIC or holds_rights_of(role, wanted, actual) for role in {*creators, state.owner}
    ):
        problems.append(
            f"database {database.name!r} has no schema {name_list(missing)}, and {me} may not"
            f" create it there; as {state.owner!r} run GRANT CREATE ON DATABASE"
            f" {quote_ident(database.name)} TO {quote_ident(actual.login_user)}"
        )
    return kept, warnings, problems


def reachable_part(
    database: Database,
    state: ActualDatabase,
    schemas: Mapping[str, Schema],
    rights: Mapping[str, RoleRights],
    wanted: Wanted,
    actual: Actual,
) -> tuple[ActualDatabase, dict[str, Schema], list[str], list[str]]:
    """A database without what the login may not change, warnings and problems about the rest.

    Returns:
        The database, the model's schemas in it, what stays as it is, what the model lacks.
    """
    if actual.login is None:
        return state, dict(schemas), [], []
    warnings: list[str] = []
    problems: list[str] = []

    def reached(owner: str) -> bool:
        return all(reaches(role, wanted, actual) for role in _real_owners({owner}, state))

    kept_schemas = {name: item for name, item in schemas.items() if reached(item.owner)}
    targets = [] if reached(state.owner) else [("database", "", state.owner, state.grants)]
    targets += [
        (schema.kind, schema.name, schema.owner, schema.grants)
        for schema in schemas.values()
        if schema.name not in kept_schemas
    ]
    for kind, name, owner, grants in targets:
        lacks, stays = _out_of_reach(kind, owner, grants, rights, wanted)
        place = f"database {database.name!r}" + (f", schema {name!r}" if name else "")
        target = f"SCHEMA {quote_ident(name)}" if name else f"DATABASE {quote_ident(database.name)}"
        why = f"{place} belongs to {owner!r}, so {actual.login_user!r} may not change rights on it"
        fix = f"fix it with ALTER {target} OWNER TO {quote_ident(actual.login_user)}"
        if lacks:
            problems.append(f"{why}: {'; '.join(lacks)}; {fix}")
        elif stays:
            warnings.append(f"{why}: {'; '.join(stays)}; {fix}")
    left: dict[tuple[str, str, str], list[DatabaseObject]] = {}
    objects = []
    for item in state.objects:
        if reached(item.owner):
            objects.append(item)
        else:
            left.setdefault((item.schema, item.kind, item.owner), []).append(item)
    for (schema, kind, owner), items in sorted(left.items()):
        if schema in database.schemas:
            warnings.extend(
                _objects_left(database, schema, kind, owner, items, rights, wanted, actual)
            )
    reduced = replace(
        state,
        objects=tuple(objects),
        columns=tuple(column for column in state.columns if reached(column.owner)),
        mixed=state.mixed | {(schema, kind) for schema, kind, _owner in left},
    )
    return reduced, kept_schemas, warnings, problems


def with_temporary_membership(
    changes: list[Change], wanted: Wanted, actual: Actual
) -> list[Change]:
    """Changes of one transaction between statements that grant the login the roles that they need.

    The memberships last as long as the transaction, so that nothing of them is left behind.
    """
    login = actual.login
    if login is None:
        return changes
    needed = {role for change in changes for role in change.acts_for}
    roles = sorted(role for role in needed if not holds_rights_of(role, wanted, actual))
    if not roles:
        return changes
    database = changes[0].database
    before: list[Change] = []
    after: list[Change] = []
    for role in roles:
        was_member = role in login.granted_to_itself
        granted = GrantMembership(
            role, actual.login_user, with_inherit=actual.major >= ADMIN_OPTION_MAJOR
        )
        revoked = RevokeMembership(role, actual.login_user, "INHERIT" if was_member else "")
        subject = f"role {role!r}, temporarily granted to {actual.login_user!r}"
        before.append(Change(database, granted, subject, ()))
        after.append(Change(database, revoked, subject, ()))
    return [*before, *changes, *reversed(after)]


def _alters(operation: Operation, role: str) -> bool:
    """Whether an operation is about the role itself, and not about who is its member."""
    return isinstance(operation, RoleOperation) and operation.role == role


def _names(wanted: Wanted) -> set[str]:
    return {role.name for role in wanted_roles(wanted)}


def _real_owners(roles: Iterable[str], state: ActualDatabase) -> frozenset[str]:
    return frozenset(state.owner if role == _DATABASE_OWNER else role for role in roles)


def _may_join(role: str, actual: Actual) -> bool:
    login = actual.login
    if login is None:
        return True
    if actual.major < ADMIN_OPTION_MAJOR and "INHERIT" not in login.attributes:
        return False
    return role not in actual.role_names or role in login.administers


def _may_change_attribute(word: str, actual: Actual) -> bool:
    login = actual.login
    if login is None:
        return True
    if actual.major >= ADMIN_OPTION_MAJOR:
        return word in login.attributes
    return word in ("CREATEROLE", "CREATEDB") and "CREATEROLE" in login.attributes


def _out_of_reach(
    kind: str,
    owner: str,
    grants: tuple[Grant, ...],
    rights: Mapping[str, RoleRights],
    wanted: Wanted,
) -> tuple[list[str], list[str]]:
    """What roles lack on a database or schema, and what stays though it should go."""
    by_public = held(grants, PUBLIC)
    lacks: list[str] = []
    stays: list[str] = []
    for need in rights_needs(kind, owner, grants, rights, wanted.exclusive):
        privileges = set(need.privileges)
        if need.verb != GRANT:
            stays.append(f"{name_list(need.grantees)} keeps {', '.join(need.privileges)}")
        elif privileges - by_public:
            missing = in_order(privileges - by_public)
            lacks.append(f"{name_list(need.grantees)} would lack {', '.join(missing)}")
    open_to_all = in_order(by_public & set(closed(wanted)[kind]))
    if open_to_all:
        stays.append(f"PUBLIC keeps {', '.join(open_to_all)}")
    return lacks, stays


def _objects_left(
    database: Database,
    schema: str,
    kind: str,
    owner: str,
    items: list[DatabaseObject],
    rights: Mapping[str, RoleRights],
    wanted: Wanted,
    actual: Actual,
) -> Iterator[str]:
    lacking: dict[tuple[bool, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for item in items:
        for need in rights_needs(kind, owner, item.grants, rights, wanted.exclusive):
            missing = set(need.privileges)
            if need.verb == GRANT:
                missing -= held(item.grants, PUBLIC)
            if missing:
                key = (need.verb == GRANT, in_order(missing), need.grantees)
                lacking.setdefault(key, []).append(item.name)
    for (lacks, privileges, grantees), names in sorted(lacking.items(), key=lambda i: not i[0][0]):
        shown = ", ".join(names[:_SHOWN_NAMES])
        more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
        verb = "get no" if lacks else "keep"
        yield (
            f"database {database.name!r}, schema {schema!r}: {kind} of {owner!r} ({shown}{more}),"
            f" whose rights {actual.login_user!r} has not: {name_list(grantees)} {verb}"
            f" {', '.join(privileges)} on them; fix it with ALTER ... OWNER TO a migrator"
        )
