# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What in a database defeats the model without being part of it: reported, never touched."""

from __future__ import annotations

from typing import Iterator

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    Actual,
    ActualDatabase,
    DatabaseObject,
    UnmanagedRight,
    UnmanagedSchema,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.memberships import (
    becoming_groups,
    holding_groups,
    reached,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import REVOKE
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.objects import summary
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.rights import (
    RoleRights,
    rights_by_default,
    rights_by_role,
    rights_needs,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Database,
    absent_roles,
    model_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.role_kinds import KINDS
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    OBJECT_CLASSES,
    PUBLIC,
    held,
    in_order,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import (
    join_idents,
    name_list,
    quote_ident,
)

_DATABASE_OWNER = "pg_database_owner"
# Databases that every server has.
MAINTENANCE = ("postgres", "template1")
# Classes of which an object's owner can do harm, and how its owner is changed.
_ALTERED_AS = {"routines": "ROUTINE", "types": "TYPE"}


def reports(database: Database, wanted: Wanted, actual: Actual) -> Iterator[str]:
    """What in a database keeps the model from holding, each with what to do about it."""
    state = actual.databases[database.name]
    yield from _maintenance(database)
    yield from _whole_database(database, state)
    yield from _owners(database, state, wanted, actual)
    yield from _creators(database, state, wanted, actual)
    yield from _default_rights(database, state, wanted, actual)
    yield from _open_to_all(database, state, wanted)
    yield from _unmanaged_schemas(database, state.unmanaged_schemas)
    if state.unmanaged_rights:
        yield (
            f"database {database.name!r}: roles of the model have rights outside its schemas, which"
            f" stay as they are: {rights_text(state.unmanaged_rights)}"
        )


def _unmanaged_schemas(database: Database, schemas: tuple[UnmanagedSchema, ...]) -> Iterator[str]:
    """One warning however many there are: some applications make one for each of their tenants."""
    if not schemas:
        return
    tables = sum(schema.tables for schema in schemas)
    what = f" with {tables} table(s) of migrators" if tables else ""
    if len(schemas) == 1:
        (schema,) = schemas
        them, are = "it", f"schema {schema.name!r} of {schema.owner!r}{what} is"
    else:
        by_tables = sorted(schemas, key=lambda schema: (-schema.tables, schema.name))
        names = summary([repr(schema.name) for schema in by_tables])
        them, are = "them", f"{len(schemas)} schemas{what} ({names}) are"
    yield (
        f"database {database.name!r}: {are} not in the model, so the model's roles get no rights"
        f" there; add {them} to schemas if they must have rights there"
    )


def _whole_database(database: Database, state: ActualDatabase) -> Iterator[str]:
    """What a database itself says, of which neither the model nor the connection budget knows."""
    if state.connection_limit >= 0:
        yield (
            f"database {database.name!r} takes {state.connection_limit} connection(s) at most,"
            " which the connection budget does not know: logins beyond it are refused; run ALTER"
            f" DATABASE {quote_ident(database.name)} CONNECTION LIMIT -1, and limit roles instead"
        )
    if state.collations:
        recorded, provided = state.collations
        yield (
            f"database {database.name!r} was made with version {recorded} of the operating"
            " system's collations, and now there is"
            f" {f'version {provided}' if provided else 'none'}: indexes"
            " on text may miss rows and let duplicates in until they are rebuilt; run REINDEX"
            f" DATABASE {quote_ident(database.name)} there, and then ALTER DATABASE"
            f" {quote_ident(database.name)} REFRESH COLLATION VERSION"
        )


def _maintenance(database: Database) -> Iterator[str]:
    migrators = [role.name for role in database.roles if role.kind == "migrator"]
    if database.name in MAINTENANCE and migrators:
        yield (
            f"database {database.name!r} is where superusers and their tools log in by default,"
            f" and {name_list(migrators)} may create functions and operators in it, which tools"
            " that do not set search_path call with a superuser's rights; give the application a"
            " database of its own"
        )


def rights_text(rights: tuple[UnmanagedRight, ...]) -> str:
    """Rights on what the model says nothing about, role by role."""
    by_role: dict[str, list[str]] = {}
    for right in rights:
        if right.place:
            names = ", ".join(right.names) + (", ..." if right.count > len(right.names) else "")
            what = f"{right.count} {right.kind} in {right.place} ({names})"
        else:
            what = f"{right.kind} {right.names[0]}"
        by_role.setdefault(right.role, []).append(f"{', '.join(right.privileges)} on {what}")
    return "; ".join(f"{role!r} has {' and '.join(texts)}" for role, texts in by_role.items())


def _owners(
    database: Database, state: ActualDatabase, wanted: Wanted, actual: Actual
) -> Iterator[str]:
    kinds = {role.name: role.kind for role in database.roles}
    migrators = [name for name, kind in kinds.items() if kind == "migrator"]
    heir = quote_ident(migrators[0]) if migrators else "another role"
    if kinds.get(state.owner, "migrator") != "migrator":
        yield (
            f"database {database.name!r} belongs to role {state.owner!r} of kind"
            f" {kinds[state.owner]}, which may therefore do anything with it; fix it with"
            f" ALTER DATABASE {quote_ident(database.name)} OWNER TO another role"
        )
    for name in database.schemas:
        schema = state.schemas.get(name)
        if schema and kinds.get(schema.owner, "migrator") != "migrator":
            yield (
                f"database {database.name!r}: schema {name!r} belongs to role {schema.owner!r} of"
                f" kind {kinds[schema.owner]}, which may therefore create in it and drop it; fix"
                f" it with ALTER SCHEMA {quote_ident(name)} OWNER TO {heir}"
            )
    holding = holding_groups(wanted, actual.links)
    schemas = set(database.schemas)
    owned: dict[tuple[str, str, str], list[DatabaseObject]] = {}
    for item in state.objects:
        if item.schema in schemas and item.kind != "sequences":
            owned.setdefault((item.schema, item.kind, item.owner), []).append(item)
    for (schema_name, kind, owner), items in sorted(owned.items()):
        of_kind = kinds.get(owner)
        names = summary([item.name for item in items])
        place = f"database {database.name!r}, schema {schema_name!r}: {len(items)}"
        if kind != "tables":
            if of_kind and of_kind != "migrator":
                yield (
                    f"{place} of the {kind} belong to role {owner!r} of kind {of_kind} ({names}),"
                    " which may therefore alter them; fix it with"
                    f" ALTER {_ALTERED_AS[kind]} ... OWNER TO {heir}"
                )
            continue
        if of_kind == "migrator" or not (migrators or of_kind):
            continue
        able = [name for name in migrators if owner in reached(name, holding)]
        if of_kind:
            consequence = (
                f"role {owner!r} of kind {of_kind} may alter them and row-level security does not"
                " bind it"
            )
        elif able:
            consequence = f"{name_list(able)} may alter them only as a member of {owner!r}"
        else:
            consequence = f"{name_list(migrators)} can't alter them"
        yield (
            f"{place} table(s) belong to {owner!r}, no migrator of the model ({names}):"
            f" {consequence}; fix it with ALTER TABLE ... OWNER TO {heir}"
        )


def _creators(
    database: Database, state: ActualDatabase, wanted: Wanted, actual: Actual
) -> Iterator[str]:
    """Roles that create objects which the model's roles don't get rights on at once."""
    ours = {role.name for role in model_roles(wanted.databases)} | {wanted.pooler_role}
    makers_of: dict[str, set[str]] = {}
    for item in state.objects:
        if item.kind == "tables":
            makers_of.setdefault(item.schema, set()).add(item.owner)
    found: dict[str, list[str]] = {}
    for name in database.schemas:
        schema = state.schemas.get(name)
        if schema is None:
            continue
        makers = {schema.owner}
        makers |= {grant.grantee for grant in schema.grants if grant.privilege == "CREATE"}
        makers |= makers_of.get(name, set())
        if _DATABASE_OWNER in makers:
            makers.add(state.owner)
        for maker in makers - ours - {PUBLIC, _DATABASE_OWNER, actual.login_user}:
            role = actual.server_roles.get(maker)
            if role and not role.superuser and _lacks_defaults(database, state, name, maker):
                found.setdefault(maker, []).append(name)
    becoming = becoming_groups(wanted, actual.links)
    served = [role.name for role in database.roles if role.kind != "migrator"]
    for maker, schemas in sorted(found.items()):
        by_way_of = [
            role.name
            for role in database.roles
            if role.kind == "migrator" and maker in reached(role.name, becoming)
        ]
        through = f", also through SET ROLE of {name_list(by_way_of)}" if by_way_of else ""
        yield (
            f"database {database.name!r}: {maker!r} may create objects in {name_list(schemas)}"
            f"{through}, and its default privileges do not give {name_list(served)} their rights"
            " on them: they get them with the next run only; let a migrator create them, or run"
            f" ALTER DEFAULT PRIVILEGES FOR ROLE {quote_ident(maker)} IN SCHEMA"
            f" {join_idents(schemas)} GRANT ..."
        )


def _lacks_defaults(database: Database, state: ActualDatabase, schema: str, maker: str) -> bool:
    """Whether a role of the model would get less than its rights on a new table of a maker's."""
    grants = [
        grant
        for item in state.default_rights
        if item.creator == maker and item.kind == "tables" and item.schema in ("", schema)
        for grant in item.grants
    ]
    return any(
        set(KINDS[role.kind].rights.get("tables", ())) - held(grants, role.name)
        for role in database.roles
    )


def _default_rights(
    database: Database, state: ActualDatabase, wanted: Wanted, actual: Actual
) -> Iterator[str]:
    """Default privileges between roles of the model and unmanaged ones."""
    ours = rights_by_role(database, wanted)
    rights = rights_by_default(database, state, wanted, actual)
    # What unmanaged roles let everybody do is theirs, unless it lets roles of the model do more.
    reader = {kind: KINDS["reader"].rights[kind] for kind in OBJECT_CLASSES[:2]}
    unmanaged: dict[str, RoleRights] = {**ours, PUBLIC: reader}
    migrators = {role.name for role in database.roles if role.kind == "migrator"}
    absent = {role.name for role in absent_roles(wanted.databases)}
    beyond: dict[tuple[str, bool, str], set[str]] = {}
    too_much: dict[tuple[str, str], set[str]] = {}
    for item in state.default_rights:
        if item.creator not in migrators and (item.creator in ours or item.creator in absent):
            continue
        exact = item.creator in migrators and item.schema in ("", *database.schemas)
        allowed = rights if item.creator in migrators else unmanaged
        if item.kind == "routines" and not item.schema:
            # PUBLIC executes them by default, and those of migrators are closed in any case.
            allowed = {name: by_kind for name, by_kind in allowed.items() if name != PUBLIC}
        for need in rights_needs(item.kind, item.creator, item.grants, allowed, True):
            what = f"{', '.join(need.privileges)} on {item.kind}"
            what += f" in {item.schema}" if item.schema else ""
            for role in need.grantees if need.verb == REVOKE else ():
                if item.creator not in migrators:
                    too_much.setdefault((item.creator, role), set()).add(what)
                elif role not in ours and not (role == PUBLIC and exact and wanted.exclusive):
                    key = (role, exact and wanted.exclusive, item.creator)
                    beyond.setdefault(key, set()).add(what)
    for (role, goes, creator), texts in sorted(beyond.items()):
        start = (
            f"database {database.name!r}: default privileges of {creator!r} give"
            f" {_who(role)} {'; '.join(sorted(texts))}"
        )
        if goes:
            yield (
                f"{start}, and it is not in the model: they are revoked, and what it has on objects"
                " that exist stays; set exclusive to false to keep such rights, or list the role"
                " with state: absent if it has left the model"
            )
        else:
            yield (
                f"{start}, which the model does not, and they stay as they are; fix it with ALTER"
                f" DEFAULT PRIVILEGES FOR ROLE {quote_ident(creator)} ... REVOKE"
            )
    for (creator, role), texts in sorted(too_much.items()):
        yield (
            f"database {database.name!r}: default privileges of {creator!r}, which is not in the"
            f" model, give {_who(role)} more than"
            f" {'the model does' if role == PUBLIC else 'its kind'}: {'; '.join(sorted(texts))};"
            f" fix it with ALTER DEFAULT PRIVILEGES FOR ROLE {quote_ident(creator)} ... REVOKE"
        )


def _who(role: str) -> str:
    return "PUBLIC" if role == PUBLIC else repr(role)


def _open_to_all(database: Database, state: ActualDatabase, wanted: Wanted) -> Iterator[str]:
    """What PUBLIC may do with objects, and with it roles of the model beyond their kind."""
    migrators = {role.name for role in database.roles if role.kind == "migrator"}
    exact = migrators if wanted.exclusive else set()
    kinds = {role.kind for role in database.roles} - {"migrator"}
    schemas = set(database.schemas)
    found: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for item in state.objects:
        if item.owner in exact or item.schema not in schemas:
            continue
        if item.kind in ("tables", "sequences"):
            public = held(item.grants, PUBLIC)
            beyond = {
                privilege
                for kind in kinds
                for privilege in public - set(KINDS[kind].rights[item.kind])
            }
            if beyond:
                key = (item.schema, item.kind, in_order(beyond))
                found.setdefault(key, []).append(item.name)
    for (schema, kind, privileges), names in sorted(found.items()):
        bound = [
            role.name
            for role in database.roles
            if set(privileges) - set(KINDS[role.kind].rights.get(kind, privileges))
        ]
        yield (
            f"database {database.name!r}, schema {schema!r}: PUBLIC has {', '.join(privileges)} on"
            f" {len(names)} of the {kind} ({summary(sorted(names))}), and so {name_list(bound)} may"
            " do more than its kind says; fix it with REVOKE ... FROM PUBLIC, once nobody else"
            " needs it"
        )
    readers = [role.name for role in database.roles if role.kind == "reader"]
    if readers and state.definers_of_all:
        names = [f"{schema}.{name}" for schema, name in state.definers_of_all]
        yield (
            f"database {database.name!r}: {len(names)} SECURITY DEFINER routine(s) may be executed"
            f" by PUBLIC ({summary(names)}), so {name_list(readers)} may do through them what their"
            " owners may; fix it with REVOKE EXECUTE ... FROM PUBLIC, once nobody else needs it"
        )
