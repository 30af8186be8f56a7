# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each kind of operation as the SQL that the server gets, and as people see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._access import operations
from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import DatabaseObject
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import Change
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import Need
from ansible_collections.pooled.postgres.plugins.module_utils._sql import operations as ddl

NEED = Need("GRANT", ("SELECT", "UPDATE"), ("app_user", ""), "")
TAKEN = Need("REVOKE", ("USAGE",), ("A b",), "", cascade=True)


def table(name: str) -> DatabaseObject:
    return DatabaseObject("tables", "public", name, "", "owner", ())


ROUTINE = DatabaseObject("routines", "S", "f", "integer, text", "owner", ())
LARGE = DatabaseObject("large objects", "", "4711", "", "owner", ())
MANY = tuple(table(f"t{number}") for number in range(22))

SQL = [
    (ddl.CreateSchema("A b"), 'CREATE SCHEMA "A b"'),
    (ddl.DropSchema("x"), "DROP SCHEMA x"),
    (ddl.CreateExtension("uuid-ossp", "x"), 'CREATE EXTENSION "uuid-ossp" SCHEMA x'),
    (ddl.MoveExtension("x", "Y"), 'ALTER EXTENSION x SET SCHEMA "Y"'),
    (operations.CreateRole("x", ()), "CREATE ROLE x"),
    (operations.CreateRole("A b", ("LOGIN",)), 'CREATE ROLE "A b" LOGIN'),
    (operations.AlterRole("x", ("NOLOGIN", "CONNECTION LIMIT 5")),
     "ALTER ROLE x NOLOGIN CONNECTION LIMIT 5"),
    (operations.DropRole("x"), "DROP ROLE x"),
    (operations.SetRoleSetting("x", "work_mem", "5MB"), "ALTER ROLE x SET work_mem = '5MB'"),
    (operations.SetRoleSetting("x", "a.B", "\\"), "ALTER ROLE x SET a.\"B\" = E'\\\\'"),
    (operations.SetRoleSetting("x", "search_path", 'a, "B c"'),
     "ALTER ROLE x SET search_path = 'a', 'B c'"),
    (operations.SetRoleSetting("x", "search_path", ""), "ALTER ROLE x SET search_path = ''"),
    (operations.ResetRoleSetting("x", "work_mem"), "ALTER ROLE x RESET work_mem"),
    (operations.ResetRoleSetting("x", "work_mem", "D"),
     'ALTER ROLE x IN DATABASE "D" RESET work_mem'),
    (operations.SetPassword("x", "SCRAM"), "ALTER ROLE x PASSWORD 'SCRAM'"),
    (operations.RemovePassword("x"), "ALTER ROLE x PASSWORD NULL"),
    (operations.GrantMembership("g", "m"), "GRANT g TO m"),
    (operations.GrantMembership("g", "m", with_inherit=True), "GRANT g TO m WITH INHERIT TRUE"),
    (operations.RevokeMembership("g", "m"), "REVOKE g FROM m"),
    (operations.RevokeMembership("g", "m", "ADMIN", "A b"),
     'REVOKE ADMIN OPTION FOR g FROM m GRANTED BY "A b"'),
    (operations.CreateDatabase("D", "UTF8"), "CREATE DATABASE \"D\" ENCODING 'UTF8'"),
    (operations.CreateDatabase("d", "UTF8", "template0"),
     "CREATE DATABASE d ENCODING 'UTF8' TEMPLATE template0"),
    (operations.ReassignOwned("x", "A b"), 'REASSIGN OWNED BY x TO "A b"'),
    (operations.DropOwned("x"), "DROP OWNED BY x"),
    (operations.CreateFunction("f() AS $$$$"), "CREATE FUNCTION f() AS $$$$"),
    (operations.CreateFunction("f()", replace=True), "CREATE OR REPLACE FUNCTION f()"),
    (operations.DropFunction("f(text)"), "DROP FUNCTION f(text)"),
    (operations.ChangeRights(NEED, operations.OnDatabase("D")),
     'GRANT SELECT, UPDATE ON DATABASE "D" TO app_user, PUBLIC'),
    (operations.ChangeRights(TAKEN, operations.OnSchemas(("a", "B"))),
     'REVOKE USAGE ON SCHEMA a, "B" FROM "A b" CASCADE'),
    (operations.ChangeRights(replace(NEED, grantable=True), operations.OnFunction("f(text)")),
     "GRANT SELECT, UPDATE ON FUNCTION f(text) TO app_user, PUBLIC WITH GRANT OPTION"),
    (operations.ChangeRights(NEED, operations.OnAllInSchema("tables", "S")),
     'GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA "S" TO app_user, PUBLIC'),
    (operations.ChangeRights(NEED, operations.OnObjects((table("t"), table("U")))),
     'GRANT SELECT, UPDATE ON TABLE public.t, public."U" TO app_user, PUBLIC'),
    (operations.ChangeRights(TAKEN, operations.OnObjects((ROUTINE,))),
     'REVOKE USAGE ON ROUTINE "S".f(integer, text) FROM "A b" CASCADE'),
    (operations.ChangeRights(TAKEN, operations.OnObjects((LARGE,))),
     'REVOKE USAGE ON LARGE OBJECT 4711 FROM "A b" CASCADE'),
    (operations.ChangeRights(NEED, operations.OnColumns("s", "t", ("a", "B"))),
     'GRANT SELECT (a, "B"), UPDATE (a, "B") ON TABLE s.t TO app_user, PUBLIC'),
    (operations.ChangeDefaultRights(TAKEN, "tables", ("m",), ()),
     'ALTER DEFAULT PRIVILEGES FOR ROLE m REVOKE USAGE ON TABLES FROM "A b" CASCADE'),
    (operations.ChangeDefaultRights(NEED, "large objects", ("m", "N"), ("s",)),
     'ALTER DEFAULT PRIVILEGES FOR ROLE m, "N" IN SCHEMA s GRANT SELECT, UPDATE ON LARGE OBJECTS'
     " TO app_user, PUBLIC"),
]  # fmt: skip


def kinds(base: type) -> Iterator[type]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


@pytest.mark.parametrize(("operation", "sql"), SQL)
def test_sql(operation: ddl.Operation, sql: str) -> None:
    assert operation.sql == sql


def test_each_kind_is_tested() -> None:
    tested = {type(operation) for operation, _sql in SQL}
    assert set(kinds(ddl.Operation)) - {operations.RoleOperation} == tested
    targets = {type(o.target) for o, _sql in SQL if isinstance(o, operations.ChangeRights)}
    assert set(kinds(operations.Target)) == targets


def test_what_people_see() -> None:
    assert ddl.CreateExtension("x", "public", "").shown == "CREATE EXTENSION x"
    assert ddl.CreateExtension("x", "", "cron").shown == "CREATE EXTENSION x SCHEMA cron"
    assert ddl.CreateExtension("x", "s").shown == "CREATE EXTENSION x SCHEMA s"
    many = operations.ChangeRights(NEED, operations.OnObjects(MANY))
    assert "public.t19 /* and 2 more */ TO" in many.shown
    assert "public.t20" not in many.shown
    assert "public.t21 TO" in many.sql
    change = Change("d", operations.DropOwned("x"), "", (), as_role="A b")
    assert change.text == 'DROP OWNED BY x -- as "A b"'
    assert change.sql == "DROP OWNED BY x"


def test_secrets_are_neither_shown_nor_logged() -> None:
    password = operations.SetPassword("x", "SCRAM-SHA-256$secret")
    assert password.secret
    assert "secret" not in password.shown + repr(password)
    setting = operations.SetRoleSetting("x", "app.password", "hidden")
    assert setting.secret
    assert "hidden" not in repr(setting)
    assert not operations.SetRoleSetting("x", "work_mem", "5MB").secret
