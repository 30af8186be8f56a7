# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The function in each database that PgBouncer asks for its clients' verifiers."""

from __future__ import annotations

from typing import Iterable, Iterator

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    Actual,
    ActualDatabase,
    PoolerFunction,
    Schema,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import (
    Change,
    Difference,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import (
    CreateFunction,
    DropFunction,
    OnFunction,
    OnSchemas,
    Target,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.objects import summary
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.rights import (
    RoleRights,
    rights_change,
    rights_needs,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import (
    POOLER_FUNCTION,
    POOLER_SCHEMA,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    PUBLIC,
    Grant,
    owner_grants,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.operations import (
    CreateSchema,
    DropSchema,
    Operation,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.scram import UNMATCHABLE

RESULT = "TABLE(username text, password text)"
ARGUMENTS = "p_usename text"
# Who may not log in here, and superusers: whoever takes over PgBouncer must not become one. They
# get a verifier that no password matches, because PgBouncer has a way in for what else there could
# be: NULL becomes the password md5, and without a row PgBouncer from 1.23 on takes an empty one
# from everybody whom it knows. Names that no role has get no row, so that nobody can make
# PgBouncer remember names without end. Nothing in it depends on search_path.
BODY = f"""
  SELECT r.rolname::pg_catalog.text,
         CASE WHEN r.rolcanlogin
               AND NOT r.rolsuper
               AND r.rolname OPERATOR(pg_catalog.<>) SESSION_USER
               AND (r.rolvaliduntil IS NULL
                    OR r.rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())
               AND pg_catalog.has_database_privilege(
                     r.oid, pg_catalog.current_database(), 'CONNECT')
              THEN COALESCE(r.rolpassword, '{UNMATCHABLE}')
              ELSE '{UNMATCHABLE}' END
    FROM pg_catalog.pg_authid AS r
   WHERE r.rolname OPERATOR(pg_catalog.=) p_usename
"""  # noqa: S608 - made of constants
# Language, volatility, security definer, strict, settings, body: as the catalog holds them.
DEFINITION = ("sql", "s", "true", "false", 'search_path=""', BODY)

_NAME = f"{POOLER_SCHEMA}.{POOLER_FUNCTION}"
_SIGNATURE = f"{_NAME}(text)"
_SCHEMA_LABEL = f"schema {POOLER_SCHEMA}"
_FUNCTION_LABEL = f"function {_SIGNATURE}"


def pooler_problems(wanted: Wanted, actual: Actual) -> Iterator[str]:
    """Schemas with PgBouncer's name that somebody else has made and uses."""
    for database in wanted.databases if wanted.pooler_role else ():
        state = actual.databases[database.name]
        home, function = state.pooler_schema, state.pooler_function
        if home and not home.owner_is_superuser and home.other_objects:
            yield (
                f"database {database.name!r}: schema {POOLER_SCHEMA!r} is where PgBouncer's"
                f" function must be, but belongs to {state.schemas[POOLER_SCHEMA].owner!r} and"
                f" holds other things ({summary(home.other_objects)}); move what is needed to"
                f" another schema and drop the rest, or run ALTER SCHEMA {POOLER_SCHEMA} RENAME TO"
                " ..."
            )
        elif function and function.needed_by and _must_go(function, state):
            yield (
                f"database {database.name!r}: function {_SIGNATURE} must be created again, but"
                f" others depend on it ({summary(function.needed_by)}); drop those"
            )


def pooler_warnings(wanted: Wanted, actual: Actual) -> Iterator[str]:
    """What is in PgBouncer's schema besides the function."""
    for database in wanted.databases if wanted.pooler_role else ():
        home = actual.databases[database.name].pooler_schema
        if home and home.owner_is_superuser and home.other_objects:
            yield (
                f"database {database.name!r}: schema {POOLER_SCHEMA!r} is PgBouncer's own, and"
                f" holds more than its function: {summary(home.other_objects)}; drop it, or move"
                " it to another schema"
            )


def pooler_changes(database: Database, wanted: Wanted, actual: Actual) -> Iterator[Change]:
    """Make schema and function exactly what they must be, for PgBouncer's role alone.

    What belongs to somebody who is not a superuser is dropped and created again: then
    nothing that its owner has set up, or does meanwhile, stays.
    """
    if not wanted.pooler_role:
        return
    state = actual.databases[database.name]
    schema, function = state.schemas.get(POOLER_SCHEMA), state.pooler_function
    if schema and not _is_superusers(state):
        if function:
            dropped = DropFunction(_SIGNATURE)
            yield _change(database, dropped, _FUNCTION_LABEL, "owner", before=function.owner)
        gone = DropSchema(POOLER_SCHEMA)
        yield _change(database, gone, _SCHEMA_LABEL, "owner", before=schema.owner)
        schema, function = None, None
    if schema is None:
        created = CreateSchema(POOLER_SCHEMA)
        yield _change(database, created, _SCHEMA_LABEL, "owner", after=actual.login_user)
        schema = Schema(
            POOLER_SCHEMA, actual.login_user, owner_grants(actual.login_user, ("USAGE", "CREATE"))
        )
    on = OnSchemas((POOLER_SCHEMA,))
    yield from _rights(
        database, wanted, "schema", "USAGE", schema.owner, schema.grants, on, _SCHEMA_LABEL
    )
    yield from _function(database, wanted, actual, state, function)


def _is_superusers(state: ActualDatabase) -> bool:
    return state.pooler_schema is not None and state.pooler_schema.owner_is_superuser


def _must_go(function: PoolerFunction, state: ActualDatabase) -> bool:
    """Whether a function can't become ours where it is."""
    differs = (function.result, function.arguments) != (RESULT, ARGUMENTS)
    return differs or not function.owner_is_superuser or not _is_superusers(state)


def _function(
    database: Database,
    wanted: Wanted,
    actual: Actual,
    state: ActualDatabase,
    function: PoolerFunction | None,
) -> Iterator[Change]:
    label = _FUNCTION_LABEL
    if function and _must_go(function, state):
        dropped = DropFunction(_SIGNATURE)
        yield _change(database, dropped, label, "owner", before=function.owner)
        function = None
    if function is None:
        created = CreateFunction(_definition_sql())
        yield _change(database, created, label, "owner", after=actual.login_user)
    elif function.definition != DEFINITION:
        replaced = CreateFunction(_definition_sql(), replace=True)
        yield _change(database, replaced, label, "definition", before="another one", after="ours")
    owner, on = function.owner if function else actual.login_user, OnFunction(_SIGNATURE)
    grants = function.grants if function else _created_grants(owner, state)
    yield from _rights(database, wanted, "routines", "EXECUTE", owner, grants, on, label)


def _created_grants(creator: str, state: ActualDatabase) -> tuple[Grant, ...]:
    """Who may execute a function that was just created, by the creator's default privileges."""
    own = {
        item.schema: item.grants
        for item in state.default_rights
        if item.creator == creator and item.kind == "routines"
    }
    everybody = (Grant(PUBLIC, "EXECUTE", False, creator), *owner_grants(creator, ("EXECUTE",)))
    inside = own.get(POOLER_SCHEMA, ()) if _is_superusers(state) else ()
    return (*own.get("", everybody), *inside)


def _rights(
    database: Database,
    wanted: Wanted,
    kind: str,
    privilege: str,
    owner: str,
    grants: Iterable[Grant],
    on: Target,
    label: str,
) -> Iterator[Change]:
    """Leave the right to the owner and to PgBouncer's role, and to nobody else."""
    held = tuple(grants)
    holders = sorted({grant.grantee for grant in held} - {owner, wanted.pooler_role})
    rights: dict[str, RoleRights] = {
        **{name: {kind: ()} for name in holders},
        wanted.pooler_role: {kind: (privilege,)},
    }
    for need in rights_needs(kind, owner, held, rights, exclusive=True):
        yield rights_change(database, need, on, label)


def _definition_sql() -> str:
    return (
        f"{_NAME}({ARGUMENTS})\n"
        f"  RETURNS {RESULT}\n"
        "  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''\n"
        f"AS $pooled${BODY}$pooled$"
    )


def _change(
    database: Database,
    operation: Operation,
    label: str,
    what: str = "exists",
    *,
    before: str = "",
    after: str = "",
) -> Change:
    where = (f"database {database.name}", label, what)
    return Change(database.name, operation, label, (Difference(where, before, after),))
