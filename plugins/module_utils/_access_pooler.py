# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The function in each database that PgBouncer asks for its clients' verifiers."""

from __future__ import annotations

from typing import Iterator

from ansible_collections.pooled.postgres.plugins.module_utils._access_state import (
    Actual,
    ActualDatabase,
    Change,
    Difference,
    PoolerFunction,
    Wanted,
)
from ansible_collections.pooled.postgres.plugins.module_utils._acl import PUBLIC, held
from ansible_collections.pooled.postgres.plugins.module_utils._model import Database
from ansible_collections.pooled.postgres.plugins.module_utils._names import (
    POOLER_FUNCTION,
    POOLER_SCHEMA,
)
from ansible_collections.pooled.postgres.plugins.module_utils._quote import join_idents, quote_ident

RESULT = "TABLE(username text, password text)"
ARGUMENTS = "p_usename text"
# Who may not log in here gets no verifier, and a superuser never does: whoever takes over the
# pooler must not become one. Nothing in it depends on search_path.
BODY = """
  SELECT r.rolname::pg_catalog.text, r.rolpassword
    FROM pg_catalog.pg_authid AS r
   WHERE r.rolname OPERATOR(pg_catalog.=) p_usename
     AND r.rolcanlogin
     AND NOT r.rolsuper
     AND (r.rolvaliduntil IS NULL OR r.rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now())
     AND pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT')
"""
# Language, volatility, security definer, strict, settings, body: as the catalog holds them.
DEFINITION = ("sql", "s", "true", "false", 'search_path=""', BODY)

_NAME = f"{POOLER_SCHEMA}.{POOLER_FUNCTION}"
_SIGNATURE = f"{_NAME}(text)"


def pooler_changes(database: Database, wanted: Wanted, actual: Actual) -> Iterator[Change]:
    """Make the function exactly what it must be, for PgBouncer's role alone."""
    if not wanted.pooler_role:
        return
    state = actual.databases[database.name]
    role = quote_ident(wanted.pooler_role)
    schema = state.schemas.get(POOLER_SCHEMA)
    label = f"schema {POOLER_SCHEMA}"
    if schema is None:
        yield _change(database, f"CREATE SCHEMA {POOLER_SCHEMA}", label, after="yes")
    if schema is None or "USAGE" not in held(schema.grants, wanted.pooler_role):
        sql = f"GRANT USAGE ON SCHEMA {POOLER_SCHEMA} TO {role}"
        yield _change(database, sql, label, f"role {wanted.pooler_role}", after="USAGE")
    yield from _function(database, state, wanted, actual)


def _function(
    database: Database, state: ActualDatabase, wanted: Wanted, actual: Actual
) -> Iterator[Change]:
    function = state.pooler_function
    label = f"function {_SIGNATURE}"
    if function and (function.result, function.arguments) != (RESULT, ARGUMENTS):
        sql = f"DROP FUNCTION {_SIGNATURE}"
        yield _change(database, sql, label, "signature", before="another one")
        function = None
    if function is None:
        yield _change(database, f"CREATE FUNCTION {_definition_sql()}", label, after="yes")
    elif function.definition != DEFINITION:
        sql = f"CREATE OR REPLACE FUNCTION {_definition_sql()}"
        yield _change(database, sql, label, "definition", before="another one", after="ours")
    if function and function.owner != actual.login_user and not function.owner_is_superuser:
        sql = f"ALTER FUNCTION {_SIGNATURE} OWNER TO {quote_ident(actual.login_user)}"
        yield _change(database, sql, label, "owner", before=function.owner, after=actual.login_user)
    yield from _function_rights(database, wanted, function, label)


def _function_rights(
    database: Database, wanted: Wanted, function: PoolerFunction | None, label: str
) -> Iterator[Change]:
    owner = function.owner if function else ""
    callers = {grant.grantee for grant in function.grants} if function else {PUBLIC}
    strangers = sorted(callers - {PUBLIC, wanted.pooler_role, owner})
    if PUBLIC in callers:
        sql = f"REVOKE EXECUTE ON FUNCTION {_SIGNATURE} FROM PUBLIC"
        yield _change(database, sql, label, "PUBLIC", before="EXECUTE")
    if strangers:
        sql = f"REVOKE EXECUTE ON FUNCTION {_SIGNATURE} FROM {join_idents(strangers)}"
        yield _change(database, sql, label, ", ".join(strangers), before="EXECUTE")
    if wanted.pooler_role not in callers:
        sql = f"GRANT EXECUTE ON FUNCTION {_SIGNATURE} TO {quote_ident(wanted.pooler_role)}"
        yield _change(database, sql, label, f"role {wanted.pooler_role}", after="EXECUTE")


def _definition_sql() -> str:
    return (
        f"{_NAME}({ARGUMENTS})\n"
        f"  RETURNS {RESULT}\n"
        "  LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''\n"
        f"AS $pooled${BODY}$pooled$"
    )


def _change(
    database: Database,
    sql: str,
    label: str,
    what: str = "exists",
    *,
    before: str = "",
    after: str = "",
) -> Change:
    where = (f"database {database.name}", label, what)
    return Change(database.name, sql, sql, label, (Difference(where, before, after),))
