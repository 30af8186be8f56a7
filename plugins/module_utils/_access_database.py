# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes inside one database: schemas, extensions, rights, default rights."""

from __future__ import annotations

from typing import Iterator, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._access_login import (
    permitted,
    within_reach,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access_public import public_changes
from ansible_collections.pooled.postgres.plugins.module_utils._access_rights import (
    GRANT,
    REVOKE,
    VERBS,
    Need,
    RoleRights,
    action,
    change_for,
    grantee_list,
    rights_by_role,
    rights_change,
    rights_needs,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access_state import (
    Actual,
    ActualDatabase,
    Change,
    DefaultRights,
    Difference,
    Schema,
    Securable,
    Wanted,
)
from ansible_collections.pooled.postgres.plugins.module_utils._acl import (
    OBJECT_CLASSES,
    PUBLIC,
    held,
    owner_grants,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model import Database
from ansible_collections.pooled.postgres.plugins.module_utils._quote import (
    join_idents,
    name_list,
    quote_ident,
)

_KEYWORD = {"tables": "TABLE", "sequences": "SEQUENCE", "routines": "ROUTINE", "types": "TYPE"}
_SHOWN_NAMES = 5


def create_database(database: Database, actual: Actual) -> Iterator[Change]:
    """The database itself, when it is missing."""
    if actual.databases[database.name].exists:
        return
    sql = f"CREATE DATABASE {quote_ident(database.name)} ENCODING 'UTF8'"
    if actual.template_encoding != "UTF8":
        sql += " TEMPLATE template0"
    difference = Difference((f"database {database.name}", "exists"), "", "yes")
    yield Change(
        None, sql, sql, f"database {database.name!r}", (difference,), creates=database.name
    )


def database_changes(
    database: Database, wanted: Wanted, actual: Actual
) -> tuple[list[Change], list[str], list[str]]:
    """Changes inside a database, in order, warnings, and what the login may not give."""
    state = actual.databases[database.name]
    rights = rights_by_role(database, wanted)
    all_schemas = {
        name: state.schemas.get(name)
        or Schema(name, actual.login_user, owner_grants(actual.login_user, ("USAGE", "CREATE")))
        for name in database.schemas
    }
    state, schemas, warnings, problems = within_reach(
        database, state, all_schemas, rights, wanted, actual
    )
    public, about_public = public_changes(database, state, schemas, wanted, actual)
    changes = [
        *_create_schemas(database, state),
        *_create_extensions(database, state),
        *_rights_on_database(database, state, rights, wanted),
        *_rights_on_schemas(database, schemas, rights, wanted),
        *public,
        *_default_rights(database, state, rights, wanted),
        *_rights_on_objects(database, state, rights, wanted),
        *_rights_on_columns(database, state, rights, wanted),
    ]
    warnings.extend(about_public)
    warnings.extend(_owner_warnings(database, actual.databases[database.name]))
    changes, more_warnings, more_problems = permitted(database, changes, wanted, actual)
    return changes, [*warnings, *more_warnings], [*problems, *more_problems]


def _create_schemas(database: Database, state: ActualDatabase) -> Iterator[Change]:
    for name in database.schemas:
        if name not in state.schemas:
            sql = f"CREATE SCHEMA {quote_ident(name)}"
            yield Change(
                database.name, sql, sql, f"schema {name!r}", (_appears(database, f"schema {name}"),)
            )


def _create_extensions(database: Database, state: ActualDatabase) -> Iterator[Change]:
    home = "public" if "public" in {*database.schemas, *state.schemas} else database.schemas[0]
    for name in database.extensions:
        if name not in state.extensions:
            sql = f"CREATE EXTENSION {quote_ident(name)}"
            subject = f"extension {name!r}"
            appears = _appears(database, f"extension {name}")
            yield Change(database.name, sql, sql, subject, (appears,), search_path=home)


def _appears(database: Database, what: str) -> Difference:
    return Difference((f"database {database.name}", what, "exists"), "", "yes")


def _rights_on_database(
    database: Database, state: ActualDatabase, rights: Mapping[str, RoleRights], wanted: Wanted
) -> Iterator[Change]:
    target = f"DATABASE {quote_ident(database.name)}"
    for need in rights_needs("database", state.owner, state.grants, rights, wanted.exclusive):
        yield rights_change(database, need, target, "on the database", owners=(state.owner,))


def _rights_on_schemas(
    database: Database,
    schemas: Mapping[str, Schema],
    rights: Mapping[str, RoleRights],
    wanted: Wanted,
) -> Iterator[Change]:
    grouped: dict[Need, list[Schema]] = {}
    for schema in schemas.values():
        for need in rights_needs("schema", schema.owner, schema.grants, rights, wanted.exclusive):
            grouped.setdefault(need, []).append(schema)
    for need, items in grouped.items():
        names = [item.name for item in items]
        label = f"on schema {', '.join(names)}"
        owners = {item.owner for item in items}
        yield rights_change(database, need, f"SCHEMA {join_idents(names)}", label, owners=owners)


def _default_rights(
    database: Database, state: ActualDatabase, rights: Mapping[str, RoleRights], wanted: Wanted
) -> Iterator[Change]:
    creators = [role.name for role in database.roles if role.kind == "migrator"]
    current = {(item.creator, item.schema, item.kind): item for item in state.default_rights}
    grouped: dict[tuple[str, Need, str], list[str]] = {}
    for kind in OBJECT_CLASSES:
        for creator in creators:
            for schema in database.schemas:
                item = current.get((creator, schema, kind))
                grants = item.grants if item else ()
                for need in rights_needs(kind, creator, grants, rights, wanted.exclusive):
                    grouped.setdefault((kind, need, creator), []).append(schema)
            everywhere = current.get((creator, "", kind))
            for need in _too_much_everywhere(everywhere, rights, wanted):
                grouped.setdefault((kind, need, creator), [])
    merged: dict[tuple[str, Need, tuple[str, ...]], list[str]] = {}
    for (kind, need, creator), schemas in grouped.items():
        merged.setdefault((kind, need, tuple(schemas)), []).append(creator)
    for (kind, need, in_schemas), for_roles in merged.items():
        yield _default_change(database, kind, need, in_schemas, for_roles)
    open_to_all = [
        creator for creator in creators if _routines_open(current.get((creator, "", "routines")))
    ]
    if open_to_all:
        everybody = Need(REVOKE, ("EXECUTE",), (PUBLIC,), "")
        yield _default_change(database, "routines", everybody, (), open_to_all)


def _too_much_everywhere(
    item: DefaultRights | None, rights: Mapping[str, RoleRights], wanted: Wanted
) -> Iterator[Need]:
    """Rights beyond a role's kind on what a migrator creates in any schema."""
    if item:
        for need in rights_needs(item.kind, item.creator, item.grants, rights, wanted.exclusive):
            if need.verb != GRANT:
                yield need


def _routines_open(item: DefaultRights | None) -> bool:
    return item is None or "EXECUTE" in held(item.grants, PUBLIC)


def _default_change(
    database: Database,
    kind: str,
    need: Need,
    in_schemas: tuple[str, ...],
    for_roles: list[str],
) -> Change:
    where = f" IN SCHEMA {join_idents(in_schemas)}" if in_schemas else ""
    prefix = f"ALTER DEFAULT PRIVILEGES FOR ROLE {join_idents(for_roles)}{where}"
    place = f" in {', '.join(in_schemas)}" if in_schemas else ""
    label = f"by default on {kind} of {', '.join(for_roles)}{place}"
    sql = f"{prefix} {action(need, kind.upper())}"
    return change_for(database, sql, need, label, owners=for_roles)


def _rights_on_objects(
    database: Database, state: ActualDatabase, rights: Mapping[str, RoleRights], wanted: Wanted
) -> Iterator[Change]:
    cache: dict[tuple[str, str, int], tuple[Need, ...]] = {}
    grouped: dict[tuple[int, int, Need], list[Securable]] = {}
    total: dict[tuple[str, str], int] = {}
    for item in state.securables:
        if item.schema not in database.schemas:
            continue
        total[item.schema, item.kind] = total.get((item.schema, item.kind), 0) + 1
        # Many objects share one list, and equal lists are one object: see parse_acl.
        key = (item.kind, item.owner, id(item.grants))
        if key not in cache:
            cache[key] = rights_needs(item.kind, item.owner, item.grants, rights, wanted.exclusive)
        for need in cache[key]:
            place = (database.schemas.index(item.schema), OBJECT_CLASSES.index(item.kind))
            grouped.setdefault((*place, need), []).append(item)
    ordered = sorted(
        grouped.items(),
        key=lambda entry: (
            entry[0][0],
            entry[0][1],
            VERBS.index(entry[0][2].verb),
            entry[0][2].grantees,
            entry[0][2].privileges,
        ),
    )
    for (_schema, _kind, need), items in ordered:
        schema, kind = items[0].schema, items[0].kind
        whole = (
            1 < len(items) == total[schema, kind]
            and (schema, kind) not in state.mixed
            and kind != "types"
        )
        if whole:
            target = f"ALL {kind.upper()} IN SCHEMA {quote_ident(schema)}"
        else:
            names = ", ".join(_object_sql(item) for item in items)
            target = f"{_KEYWORD[kind]} {names}"
        label = f"on {kind} in {schema}"
        owners = {item.owner for item in items}
        yield rights_change(database, need, target, label, _summary(items), owners)


def _rights_on_columns(
    database: Database, state: ActualDatabase, rights: Mapping[str, RoleRights], wanted: Wanted
) -> Iterator[Change]:
    for column in state.columns:
        if column.schema not in database.schemas:
            continue
        table = f"{quote_ident(column.schema)}.{quote_ident(column.table)}"
        for need in rights_needs("tables", column.owner, column.grants, rights, wanted.exclusive):
            if need.verb == GRANT:
                continue
            columns = f" ({quote_ident(column.name)})"
            privileges = ", ".join(privilege + columns for privilege in need.privileges)
            sql = f"{need.verb} {privileges} ON TABLE {table} FROM {grantee_list(need.grantees)}"
            label = f"on column {column.name} of {column.schema}.{column.table}"
            yield change_for(database, sql, need, label, owners=(column.owner,))


def _owner_warnings(database: Database, state: ActualDatabase) -> Iterator[str]:
    kinds = {role.name: role.kind for role in database.roles}
    if kinds.get(state.owner, "migrator") != "migrator":
        yield (
            f"database {database.name!r} belongs to role {state.owner!r} of kind"
            f" {kinds[state.owner]}, which may therefore do anything with it; mend it with"
            f" ALTER DATABASE {quote_ident(database.name)} OWNER TO another role"
        )
    migrators = [name for name, kind in kinds.items() if kind == "migrator"]
    if not migrators:
        return
    foreign: dict[tuple[str, str], list[Securable]] = {}
    for item in state.securables:
        ours = item.kind == "tables" and item.schema in database.schemas
        if ours and item.owner not in migrators:
            foreign.setdefault((item.schema, item.owner), []).append(item)
    for (schema, owner), items in sorted(foreign.items()):
        kind = kinds.get(owner)
        consequence = (
            f"role {owner!r} of kind {kind} may alter them and row-level security does not bind it"
            if kind
            else f"{name_list(migrators)} can't alter them"
        )
        yield (
            f"database {database.name!r}, schema {schema!r}: {len(items)} table(s) belong to"
            f" {owner!r}, no migrator of the model ({_summary(items)}): {consequence}; mend it with"
            f" ALTER TABLE ... OWNER TO {quote_ident(migrators[0])}"
        )


def _object_sql(item: Securable) -> str:
    name = f"{quote_ident(item.schema)}.{quote_ident(item.name)}"
    return f"{name}({item.arguments})" if item.kind == "routines" else name


def _summary(items: list[Securable]) -> str:
    shown = ", ".join(item.name for item in items[:_SHOWN_NAMES])
    more = len(items) - _SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
