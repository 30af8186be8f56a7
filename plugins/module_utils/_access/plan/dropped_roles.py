# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles to drop: what stands against it, who gets what they own, and the server afterwards.

The rest of the plan is made for the server as it will be once they have given away what they own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Iterable, Iterator, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    Actual,
    ActualDatabase,
    Belongings,
    RoleToDrop,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import (
    Change,
    Difference,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import (
    DropOwned,
    DropRole,
    ReassignOwned,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    absent_roles,
    model_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import Grant
from ansible_collections.pooled.postgres.plugins.module_utils._sql.operations import Operation
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import (
    name_list,
    quote_ident,
)

_MODEL = "pooled_databases"


def dropped_roles(wanted: Wanted, actual: Actual) -> dict[str, str]:
    """The roles that this run drops, each with who gets what it owns."""
    return {
        role.name: role.reassign_owned_to
        for role in absent_roles(wanted.databases)
        if role.name in actual.roles_to_drop and role.reassign_owned_to
    }


def absence_problems(wanted: Wanted) -> Iterator[str]:
    """What is wrong, on any server, with what the model says of roles to drop."""
    absent = absent_roles(wanted.databases)
    names = {role.name for role in absent}
    for role in absent:
        if role.name == wanted.pooler_role:
            yield f"{_model_role(role.name)} is PgBouncer's own role, so it can't be absent"
        if role.reassign_owned_to in names:
            yield (
                f"{_model_role(role.name)}: reassign_owned_to names {role.reassign_owned_to!r},"
                " which must be absent itself; name a role that stays"
            )
    for present in model_roles(wanted.databases):
        for group in present.member_of:
            if group in names:
                yield (
                    f"{_model_role(present.name)}: member_of names {group!r}, which must be"
                    " absent; take it out"
                )


def drop_problems(wanted: Wanted, actual: Actual) -> Iterator[str]:
    """Why a role can't be dropped on this server now."""
    modelled = {role.name for role in model_roles(wanted.databases)}
    known = actual.role_names | modelled
    for role in absent_roles(wanted.databases):
        role_to_drop = actual.roles_to_drop.get(role.name)
        if role_to_drop is None or not role.reassign_owned_to:
            continue
        if role.reassign_owned_to not in known:
            yield (
                f"{_model_role(role.name)}: reassign_owned_to: there is no role"
                f" {role.reassign_owned_to!r} on the server or in the model"
            )
        heir = actual.server_roles.get(role.reassign_owned_to)
        owns = any(
            state.belongings.get(role.name, Belongings()).owned
            for state in actual.databases.values()
        )
        # A role of the model is none any more when it gets them.
        if heir and heir.superuser and heir.name not in modelled and owns:
            yield (
                f"{_model_role(role.name)}: reassign_owned_to names superuser {heir.name!r}, with"
                " whose rights the functions, views and tables' expressions that the role has made"
                " would run; name a role without such rights"
            )
        for obstacle in _obstacles(role_to_drop, actual):
            yield f"{_model_role(role.name)} can't be dropped: {obstacle}"


def drop_warnings(wanted: Wanted, actual: Actual) -> Iterator[str]:
    """What a role to drop owns and holds, while nobody is named to get it."""
    for role in absent_roles(wanted.databases):
        role_to_drop = actual.roles_to_drop.get(role.name)
        if role_to_drop is None or role.reassign_owned_to:
            continue
        facts = [
            f"in database {database.name!r} it {_belongings_text(found)}"
            for database in wanted.databases
            for found in [actual.databases[database.name].belongings.get(role.name)]
            if found and (found.owned or found.rights)
        ]
        facts.extend(_obstacles(role_to_drop, actual))
        yield (
            f"role {role.name!r} must be absent, but stays until reassign_owned_to names the role"
            f" that gets what it owns: {'; '.join(facts) or 'it owns and holds nothing'}"
        )


def give_away(wanted: Wanted, actual: Actual, database: str) -> Iterator[Change]:
    """Within a database: everything of the roles that go to their heirs, and their rights away."""
    for name, heir in dropped_roles(wanted, actual).items():
        found = actual.databases[database].belongings.get(name, Belongings())
        shared = actual.roles_to_drop[name].shared and database == _home(name, wanted, actual)
        if not (found.owned or found.rights or shared):
            continue
        place = f"database {database}"
        gets = [
            difference
            for kind, count, names in found.owned
            for text in [_names_text(count, names)]
            for difference in (
                Difference((place, f"owned by {name}", kind), text, ""),
                Difference((place, f"owned by {heir}", kind), "", text),
            )
        ]
        loses = Difference((place, f"role {name}", "rights"), f"on {found.rights} objects", "")
        steps: tuple[tuple[Operation, tuple[Difference, ...]], ...] = (
            (ReassignOwned(name, heir), tuple(gets)),
            (DropOwned(name), (loses,) if found.rights else ()),
        )
        for operation, differences in steps:
            yield Change(
                database,
                operation,
                f"what role {name!r} owns and holds",
                differences,
                acts_for=frozenset({name, heir}),
            )


def drop_roles(wanted: Wanted, actual: Actual) -> Iterator[Change]:
    """The roles themselves, once they own and hold nothing."""
    for name in dropped_roles(wanted, actual):
        difference = Difference((f"role {name}", "exists"), "yes", "")
        acts_for = frozenset({name})
        yield Change(None, DropRole(name), f"role {name!r}", (difference,), acts_for=acts_for)


def once_given_away(wanted: Wanted, actual: Actual) -> Actual:
    """The server as it is once the roles that go have given away what they own."""
    heirs = dropped_roles(wanted, actual)
    if not heirs:
        return actual
    return replace(
        actual,
        databases={name: _database_after(state, heirs) for name, state in actual.databases.items()},
    )


def _model_role(name: str) -> str:
    return f"{_MODEL}: role {name!r}"


def _obstacles(role_to_drop: RoleToDrop, actual: Actual) -> Iterator[str]:
    name = quote_ident(role_to_drop.name)
    if role_to_drop.name == actual.login_user:
        yield "it is the user that this run logs in as"
    if role_to_drop.name == actual.bootstrap_superuser:
        yield "it is the server's first superuser"
    if role_to_drop.sessions:
        where = ", ".join(
            f"{count} in database {place!r}" for place, count in role_to_drop.sessions
        )
        yield f"it has sessions ({where}); stop what logs in as it first"
    if role_to_drop.prepared:
        count = role_to_drop.prepared
        yield f"it has {count} prepared transaction(s); commit or roll them back first"
    if role_to_drop.members:
        yield (
            f"{name_list(role_to_drop.members)} would lose what it may do, as members of it; run"
            f" REVOKE {name} FROM each of them first"
        )
    for group, member in role_to_drop.granted_memberships:
        yield (
            f"{member!r} would lose its membership in {group!r}, which comes from it; run"
            f" GRANT {quote_ident(group)} TO {quote_ident(member)} as another role first"
        )
    for place, count in role_to_drop.elsewhere:
        yield (
            f"it owns or has rights on {count} object(s) in database {place!r}, which is not in"
            f" the model; run REASSIGN OWNED BY {name} and DROP OWNED BY {name} there first"
        )
    for place, state in actual.databases.items():
        found = state.belongings.get(role_to_drop.name, Belongings())
        for policy in found.policies:
            yield (
                f"in database {place!r}, policy {policy} is for it alone and would be dropped; run"
                " ALTER POLICY ... TO another role first"
            )
        for right in found.passed_on:
            yield (
                f"in database {place!r}, others would lose what they have from it: {right}; grant"
                " it to them as the owner, and revoke it from this role with CASCADE first"
            )


def _home(name: str, wanted: Wanted, actual: Actual) -> str:
    """The database in which what belongs to the whole server is given away."""
    places = [database.name for database in wanted.databases]
    with_something = [place for place in places if name in actual.databases[place].belongings]
    return (with_something or places)[0]


def _belongings_text(found: Belongings) -> str:
    parts = []
    if found.owned:
        owned = ", ".join(
            f"{count} {kind}(s) ({_names_text(count, names)})" for kind, count, names in found.owned
        )
        parts.append(f"owns {owned}")
    if found.rights:
        parts.append(f"has rights on {found.rights} object(s)")
    return " and ".join(parts)


def _names_text(count: int, names: Iterable[str]) -> str:
    shown = tuple(names)
    more = count - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _database_after(state: ActualDatabase, heirs: Mapping[str, str]) -> ActualDatabase:
    # Many objects share one list, and equal lists must stay one object.
    cache: dict[tuple[str, int], tuple[Grant, ...]] = {}

    def grants_of(owner: str, grants: tuple[Grant, ...]) -> tuple[Grant, ...]:
        key = (owner, id(grants))
        if key not in cache:
            cache[key] = _grants_after(owner, grants, heirs)
        return cache[key]

    return replace(
        state,
        owner=heirs.get(state.owner, state.owner),
        grants=grants_of(state.owner, state.grants),
        schemas={
            name: replace(
                schema,
                owner=heirs.get(schema.owner, schema.owner),
                grants=grants_of(schema.owner, schema.grants),
            )
            for name, schema in state.schemas.items()
        },
        objects=tuple(
            replace(
                item,
                owner=heirs.get(item.owner, item.owner),
                grants=grants_of(item.owner, item.grants),
            )
            for item in state.objects
        ),
        large_objects=tuple(
            replace(
                item,
                owner=heirs.get(item.owner, item.owner),
                grants=grants_of(item.owner, item.grants),
            )
            for item in state.large_objects
        ),
        columns=tuple(
            replace(
                column,
                owner=heirs.get(column.owner, column.owner),
                grants=grants_of(column.owner, column.grants),
            )
            for column in state.columns
        ),
        default_rights=tuple(
            replace(item, grants=grants_of(item.creator, item.grants))
            for item in state.default_rights
            if item.creator not in heirs
        ),
    )


def _grants_after(
    owner: str, grants: tuple[Grant, ...], heirs: Mapping[str, str]
) -> tuple[Grant, ...]:
    """An access control list after its owner has changed and the roles that go hold nothing."""
    if not any(grant.grantee in heirs or grant.grantor in heirs for grant in grants):
        return grants
    heir = heirs.get(owner)

    def after(name: str) -> str:
        return heir if heir is not None and name == owner else name

    moved = [
        replace(grant, grantee=after(grant.grantee), grantor=after(grant.grantor))
        for grant in grants
    ]
    return tuple(dict.fromkeys(grant for grant in moved if grant.grantee not in heirs))
