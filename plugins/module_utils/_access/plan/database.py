# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes inside one database: schemas, extensions, rights, default rights."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterator, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    UTF8,
    Actual,
    ActualDatabase,
    DefaultRights,
    Schema,
    extension_homes,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import (
    Change,
    Difference,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import (
    GRANT,
    REVOKE,
    ChangeDefaultRights,
    CreateDatabase,
    Need,
    OnDatabase,
    OnSchemas,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.delegated_login import (
    permitted,
    reachable_part,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.objects import (
    rights_on_columns,
    rights_on_large_objects,
    rights_on_objects,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.public import (
    public_changes,
    public_on_objects,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.rights import (
    RoleRights,
    change_for,
    rights_by_default,
    rights_by_role,
    rights_change,
    rights_needs,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._access.warnings.database import (
    reports,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import EXTENSIONS_SCHEMA
from ansible_collections.pooled.postgres.plugins.module_utils._model.role_kinds import (
    EXTENSION_SCHEMA,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    LARGE_OBJECTS,
    OBJECT_CLASSES,
    PUBLIC,
    SCHEMAS,
    held,
    owner_grants,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.extensions import (
    OWN,
    Surroundings,
    creation,
    in_order,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.operations import (
    CreateExtension,
    CreateSchema,
    MoveExtension,
    Operation,
)

# From this major on there are default privileges for large objects.
DEFAULT_LARGE_OBJECTS_MAJOR = 18


def create_database(database: Database, actual: Actual) -> Iterator[Change]:
    """The database itself, when it is missing."""
    if actual.databases[database.name].exists:
        return
    template = "template0" if actual.template_encoding != UTF8 else ""
    operation = CreateDatabase(database.name, UTF8, template)
    difference = Difference((f"database {database.name}", "exists"), "", "yes")
    yield Change(None, operation, f"database {database.name!r}", (difference,))


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
    for name in extension_homes(database, state):
        grants = owner_grants(actual.login_user, ("USAGE", "CREATE"))
        home = state.schemas.get(name) or Schema(name, actual.login_user, grants)
        all_schemas[name] = replace(home, kind=EXTENSION_SCHEMA)
    state, schemas, warnings, problems = reachable_part(
        database, state, all_schemas, rights, wanted, actual
    )
    kept, about_objects = public_on_objects(database, state, wanted, actual)
    # Before the rights of the model's roles, from which PUBLIC may have its own.
    public, about_public, state, schemas = public_changes(database, state, schemas, wanted, actual)
    changes = [
        *_create_schemas(database, state),
        *_create_extensions(database, state, actual, problems),
        *_move_extensions(database, state),
        *public,
        *_rights_on_database(database, state, rights, wanted),
        *_rights_on_schemas(database, schemas, rights, wanted),
        *_default_rights(database, state, wanted, actual),
        *rights_on_objects(database, state, rights, kept, wanted),
        *rights_on_columns(database, state, rights, wanted),
        *rights_on_large_objects(database, state, rights, wanted, actual),
    ]
    warnings.extend([*about_public, *about_objects])
    warnings.extend(reports(database, wanted, actual))
    changes, more_warnings, more_problems = permitted(database, changes, wanted, actual)
    return changes, [*warnings, *more_warnings], [*problems, *more_problems]


def _create_schemas(database: Database, state: ActualDatabase) -> Iterator[Change]:
    for name in (*database.schemas, *extension_homes(database, state)):
        if name not in state.schemas:
            difference = _appears(database, f"schema {name}")
            yield Change(database.name, CreateSchema(name), f"schema {name!r}", (difference,))


def _create_extensions(
    database: Database, state: ActualDatabase, actual: Actual, problems: list[str]
) -> Iterator[Change]:
    usual = "public" if "public" in {*database.schemas, *state.schemas} else database.schemas[0]
    given = dict(database.extension_schemas)
    around = state.surroundings
    for name in in_order(database.extensions, actual.extensions):
        if name in state.extensions:
            continue
        home = given.get(name, EXTENSIONS_SCHEMA if name in OWN else usual)
        extension = actual.extensions.get(name)
        shown_schema = home if home in (given.get(name), EXTENSIONS_SCHEMA) else ""
        if around is None or extension is None:
            operations: tuple[Operation, ...] = (CreateExtension(name, shown_schema),)
        else:
            # Without a superuser's rights only trusted ones, and those that a service lets through.
            alone = Surroundings(around.present) if actual.login is not None else around
            try:
                operations = creation(name, home, extension, alone, not state.exists, shown_schema)
            except ValueError as error:
                problems.append(f"database {database.name!r}: {error}")
                continue
            around = replace(around, present={**around.present, name: extension.schema or home})
        for operation in operations:
            created = isinstance(operation, CreateExtension)
            differences = (_appears(database, f"extension {name}"),) if created else ()
            yield Change(database.name, operation, f"extension {name!r}", differences)


def _move_extensions(database: Database, state: ActualDatabase) -> Iterator[Change]:
    for name, home in database.extension_schemas:
        before = state.extension_schemas.get(name, home)
        if before != home:
            where = (f"database {database.name}", f"extension {name}", "schema")
            difference = Difference(where, before, home)
            operation = MoveExtension(name, home)
            yield Change(database.name, operation, f"extension {name!r}", (difference,))


def _appears(database: Database, what: str) -> Difference:
    return Difference((f"database {database.name}", what, "exists"), "", "yes")


def _rights_on_database(
    database: Database, state: ActualDatabase, rights: Mapping[str, RoleRights], wanted: Wanted
) -> Iterator[Change]:
    target = OnDatabase(database.name)
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
        exact, exclusive = rights, wanted.exclusive
        if schema.name == EXTENSIONS_SCHEMA:
            # Its extensions find by bare names what is in it, so nobody creates there.
            makers = {grant.grantee for grant in schema.grants if grant.privilege == "CREATE"}
            more = {name: {schema.kind: _usage(schema, name)} for name in makers - {*rights}}
            exact, exclusive = {**rights, **more}, True
        for need in rights_needs(schema.kind, schema.owner, schema.grants, exact, exclusive):
            grouped.setdefault(need, []).append(schema)
    for need, items in grouped.items():
        names = tuple(item.name for item in items)
        label = f"on schema {', '.join(names)}"
        owners = {item.owner for item in items}
        yield rights_change(database, need, OnSchemas(names), label, owners=owners)


def _usage(schema: Schema, name: str) -> tuple[str, ...]:
    return tuple(held(schema.grants, name) & {"USAGE"})


def _default_rights(
    database: Database,
    state: ActualDatabase,
    wanted: Wanted,
    actual: Actual,
) -> Iterator[Change]:
    """What each migrator gives of what it will create: to the model's roles, and nobody else."""
    everybody = rights_by_default(database, state, wanted, actual)
    creators = [role.name for role in database.roles if role.kind == "migrator"]
    current = {(item.creator, item.schema, item.kind): item for item in state.default_rights}
    # By schemas and everywhere are two things, even where they need the same.
    grouped: dict[tuple[str, Need, str, bool], list[str]] = {}
    for kind in OBJECT_CLASSES:
        for creator in creators:
            for schema in database.schemas:
                item = current.get((creator, schema, kind))
                grants = item.grants if item else ()
                for need in rights_needs(kind, creator, grants, everybody, wanted.exclusive):
                    grouped.setdefault((kind, need, creator, False), []).append(schema)
            everywhere = current.get((creator, "", kind))
            for need in _too_much_everywhere(everywhere, everybody, wanted):
                grouped.setdefault((kind, need, creator, True), [])
    for creator in creators:
        for need in _too_much_everywhere(current.get((creator, "", SCHEMAS)), everybody, wanted):
            grouped.setdefault((SCHEMAS, need, creator, True), [])
    if actual.major >= DEFAULT_LARGE_OBJECTS_MAJOR:
        for creator in creators:
            item = current.get((creator, "", LARGE_OBJECTS))
            grants = item.grants if item else ()
            for need in rights_needs(LARGE_OBJECTS, creator, grants, everybody, wanted.exclusive):
                grouped.setdefault((LARGE_OBJECTS, need, creator, True), [])
    merged: dict[tuple[str, Need, tuple[str, ...]], list[str]] = {}
    for (kind, need, creator, _everywhere), schemas in grouped.items():
        merged.setdefault((kind, need, tuple(schemas)), []).append(creator)
    for (kind, need, in_schemas), for_roles in merged.items():
        yield _default_change(database, kind, need, in_schemas, for_roles)
    open_to_all = [
        creator for creator in creators if _routines_open(current.get((creator, "", "routines")))
    ]
    if open_to_all:
        need = Need(REVOKE, ("EXECUTE",), (PUBLIC,), "")
        yield _default_change(database, "routines", need, (), open_to_all)


def _too_much_everywhere(
    item: DefaultRights | None, rights: Mapping[str, RoleRights], wanted: Wanted
) -> Iterator[Need]:
    """Rights beyond a role's kind on what a migrator creates in any schema."""
    if item and item.kind == "routines":
        # Everybody's by default, so that is looked at where there are no default privileges too.
        rights = {name: by_kind for name, by_kind in rights.items() if name != PUBLIC}
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
    place = f" in {', '.join(in_schemas)}" if in_schemas else ""
    label = f"by default on {kind} of {', '.join(for_roles)}{place}"
    operation = ChangeDefaultRights(need, kind, tuple(for_roles), in_schemas)
    return change_for(database, operation, need, label, owners=for_roles)
