# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to rights on what is in a database: objects in schemas, columns, large objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Iterator, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.rights import (
    GRANT,
    VERBS,
    Need,
    RoleRights,
    action,
    change_for,
    rights_change,
    rights_needs,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.state import (
    Actual,
    ActualDatabase,
    Change,
    DatabaseObject,
    Wanted,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    LARGE_OBJECTS,
    OBJECT_CLASSES,
    PUBLIC,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import (
    join_idents,
    quote_ident,
)

_KEYWORD = {
    "tables": "TABLE",
    "sequences": "SEQUENCE",
    "routines": "ROUTINE",
    "types": "TYPE",
    LARGE_OBJECTS: "LARGE OBJECT",
}
# How many names the reader sees of a statement that may have thousands.
_SHOWN_IN_STATEMENT = 20
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
        everything = f"ALL {kind.upper()} IN SCHEMA {quote_ident(schema)}" if whole else ""
        yield _on_many(database, need, items, f"on {kind} in {schema}", everything)


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
        target = f"{quote_ident(schema)}.{quote_ident(table)}"
        columns = f" ({join_idents(names)})"
        privileges = ", ".join(privilege + columns for privilege in need.privileges)
        sql = action(replace(need, privileges=(privileges,)), f"TABLE {target}")
        label = f"on column {', '.join(names)} of {schema}.{table}"
        yield change_for(database, sql, need, label, owners=(owner,))


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
        yield _on_many(database, need, items, "on large objects", "")


def summary(names: Sequence[str], shown: int = _SHOWN_IN_DIFF) -> str:
    """The first names of many, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def _on_many(
    database: Database, need: Need, items: Sequence[DatabaseObject], label: str, everything: str
) -> Change:
    keyword = _KEYWORD[items[0].kind]
    target = everything or f"{keyword} {', '.join(_object_sql(item) for item in items)}"
    owners = {item.owner for item in items}
    names = [item.name for item in items]
    change = rights_change(database, need, target, label, summary(names), owners)
    more = len(items) - _SHOWN_IN_STATEMENT
    if more > 0 and not everything:
        shown = ", ".join(_object_sql(item) for item in items[:_SHOWN_IN_STATEMENT])
        shortened = f"{keyword} {shown} /* and {more} more */"
        change = replace(change, text=change.text.replace(target, shortened))
    return replace(change, objects=len(items))


def _object_sql(item: DatabaseObject) -> str:
    if item.kind == LARGE_OBJECTS:
        return item.name
    name = f"{quote_ident(item.schema)}.{quote_ident(item.name)}"
    return f"{name}({item.arguments})" if item.kind == "routines" else name
