# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to rights on what is in a database: objects in schemas, columns, large objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Iterator, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    Actual,
    ActualDatabase,
    DatabaseObject,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import Change
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import (
    GRANT,
    VERBS,
    Need,
    OnAllInSchema,
    OnColumns,
    OnObjects,
    Target,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.rights import (
    RoleRights,
    rights_change,
    rights_needs,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    OBJECT_CLASSES,
    PUBLIC,
)

# How many names the reader sees of those that may be thousands.
_SHOWN_IN_DIFF = 5

# What PUBLIC keeps of an object; None where that is not for the model to say. Objects of one kind
# and owner with the same list of rights get the same answer.
Kept = Callable[[DatabaseObject], "tuple[str, ...] | None"]


def rights_on_objects(
    database: Database,
    state: ActualDatabase,
    rights: Mapping[str, RoleRights],
    kept: Kept,
    wanted: Wanted,
) -> Iterator[Change]:
    """One statement for all objects of a class in a schema that need the same."""
    cache: dict[tuple[str, str, int], tuple[Need, ...]] = {}
    grouped: dict[tuple[int, int, Need], list[DatabaseObject]] = {}
    total: dict[tuple[str, str], int] = {}
    places = {schema: index for index, schema in enumerate(database.schemas)}
    for item in state.objects:
        if item.schema not in places:
            continue
        total[item.schema, item.kind] = total.get((item.schema, item.kind), 0) + 1
        # Many objects share one list, and equal lists are one object: see parse_acl.
        key = (item.kind, item.owner, id(item.grants))
        if key not in cache:
            by_public = kept(item)
            exact = rights if by_public is None else {**rights, PUBLIC: {item.kind: by_public}}
            cache[key] = rights_needs(item.kind, item.owner, item.grants, exact, wanted.exclusive)
        for need in cache[key]:
            place = (places[item.schema], OBJECT_CLASSES.index(item.kind))
            grouped.setdefault((*place, need), []).append(item)
    ordered = sorted(
        grouped.items(),
        key=lambda entry: (
            entry[0][0],
            entry[0][1],
            VERBS.index(entry[0][2].verb),
            entry[0][2].grantees,
            entry[0][2].privileges,
            entry[0][2].as_role,
        ),
    )
    for (_schema, _kind, need), items in ordered:
        schema, kind = items[0].schema, items[0].kind
        whole = (
            1 < len(items) == total[schema, kind]
            and (schema, kind) not in state.mixed
            and kind != "types"
        )
        target = OnAllInSchema(kind, schema) if whole else OnObjects(tuple(items))
        yield _on_many(database, need, items, f"on {kind} in {schema}", target)


def rights_on_columns(
    database: Database, state: ActualDatabase, rights: Mapping[str, RoleRights], wanted: Wanted
) -> Iterator[Change]:
    """Rights on single columns that are beyond what a role may have on the table."""
    grouped: dict[tuple[str, str, str, Need], list[str]] = {}
    for column in state.columns:
        if column.schema not in database.schemas:
            continue
        for need in rights_needs("tables", column.owner, column.grants, rights, wanted.exclusive):
            if need.verb != GRANT or need.again:
                key = (column.schema, column.table, column.owner, need)
                grouped.setdefault(key, []).append(column.name)
    for (schema, table, owner, need), names in grouped.items():
        target = OnColumns(schema, table, tuple(names))
        label = f"on column {', '.join(names)} of {schema}.{table}"
        yield rights_change(database, need, target, label, owners=(owner,))


def rights_on_large_objects(
    database: Database,
    state: ActualDatabase,
    rights: Mapping[str, RoleRights],
    wanted: Wanted,
    actual: Actual,
) -> Iterator[Change]:
    """Rights on large objects of migrators, and of any owner those that are beyond a role's kind.

    What an application's role makes for itself is its own: no migration made it.
    """
    migrators = {role.name for role in database.roles if role.kind == "migrator"}
    grouped: dict[Need, list[DatabaseObject]] = {}
    for item in state.large_objects:
        of_migrator = item.owner in migrators
        if not of_migrator and actual.login is not None:
            continue
        for need in rights_needs(item.kind, item.owner, item.grants, rights, wanted.exclusive):
            if of_migrator or need.verb != GRANT or need.again:
                grouped.setdefault(need, []).append(item)
    for need, items in grouped.items():
        yield _on_many(database, need, items, "on large objects", OnObjects(tuple(items)))


def summary(names: Sequence[str], shown: int = _SHOWN_IN_DIFF) -> str:
    """The first names of many, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def _on_many(
    database: Database, need: Need, items: Sequence[DatabaseObject], label: str, target: Target
) -> Change:
    owners = {item.owner for item in items}
    names = summary([item.name for item in items])
    change = rights_change(database, need, target, label, names, owners)
    return replace(change, objects=len(items))
