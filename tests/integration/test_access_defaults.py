# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What migrators give of what they create to anybody but the model's roles, and what came of it."""

from __future__ import annotations

import pytest

from .test_postgres_access import PERMISSION_DENIED, model, role, statements

FOR = "ALTER DEFAULT PRIVILEGES FOR ROLE app_migrator"
LEAKS = f"""
{FOR} IN SCHEMA public GRANT ALL ON TABLES TO PUBLIC;
{FOR} GRANT ALL ON TABLES TO PUBLIC;
{FOR} GRANT ALL ON SEQUENCES TO PUBLIC;
{FOR} GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
{FOR} IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
{FOR} GRANT USAGE ON TYPES TO PUBLIC;
{FOR} GRANT CREATE, USAGE ON SCHEMAS TO PUBLIC;
{FOR} IN SCHEMA public GRANT SELECT ON TABLES TO unmanaged;
{FOR} GRANT INSERT ON TABLES TO unmanaged;
"""
TABLES = "CREATE TABLE {0} (id serial, v text); CREATE FUNCTION {0}_f() RETURNS int"
TABLES += " LANGUAGE sql AS 'SELECT 1'"
# Everything that a role other than the creator gets by default, and whether it is in the model.
GIVEN = """
SELECT coalesce(n.nspname, ''), d.defaclobjtype::text,
       CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END, x.privilege_type
  FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace,
       aclexplode(d.defaclacl) x
 WHERE x.grantee <> d.defaclrole AND x.grantee NOT IN
       (SELECT oid FROM pg_roles WHERE rolname LIKE 'app%')
"""


@pytest.fixture
def leaking(clean_server, settled):
    """A converged server whose migrator was then told to give to everybody."""
    clean_server.sql("CREATE ROLE unmanaged LOGIN")
    settled(model())
    clean_server.sql(LEAKS, "mydb")
    clean_server.sql(TABLES.format("leaked"), "mydb", "app_migrator")
    assert clean_server.refusal("INSERT INTO leaked VALUES (1)", "mydb", "app_reader") == ""
    return clean_server


def test_nobody_else_gets_rights_on_what_migrators_create(leaking, settled):
    result = settled(model())
    assert [text for text in result["warnings"] if "default privileges" in text] == [
        "database 'mydb': default privileges of 'app_migrator' give 'unmanaged' INSERT on tables;"
        " SELECT on tables in public, and it is not in the model: they are revoked, and what it has"
        " on objects that exist stays; set exclusive to false to keep such rights, or list the role"
        " with state: absent if it has left the model"
    ]
    # USAGE on types is everybody's by the server's own default.
    assert {row[1:] for row in leaking.sql(GIVEN, "mydb")} <= {("T", "PUBLIC", "USAGE")}
    leaking.sql(TABLES.format("later"), "mydb", "app_migrator")
    leaking.sql("CREATE SCHEMA new", "mydb", "app_migrator")
    for table in ("leaked", "later"):
        for statement in (
            f"INSERT INTO {table} VALUES (1)",
            f"UPDATE {table} SET v = ''",
            f"TRUNCATE {table}",
            f"SELECT nextval('{table}_id_seq')",
        ):
            assert leaking.refusal(statement, "mydb", "app_reader") == PERMISSION_DENIED, statement
        assert leaking.refusal(f"SELECT v FROM {table}", "mydb", "app_reader") == ""
        assert leaking.refusal(f"INSERT INTO {table} VALUES (1)", "mydb", "app_user") == ""
        assert leaking.refusal(f"SELECT {table}_f()", "mydb", "app_user") == ""
    assert leaking.refusal("SELECT later_f()", "mydb", "app_reader") == PERMISSION_DENIED
    refusal = leaking.refusal("CREATE TABLE new.t (i int)", "mydb", "app_reader")
    assert refusal == PERMISSION_DENIED
    # What an unmanaged role has by name on what exists is nobody else's to take.
    held = "SELECT has_table_privilege('unmanaged', '{}', 'SELECT')"
    assert leaking.sql(held.format("leaked"), "mydb") == [(True,)]
    assert leaking.sql(held.format("later"), "mydb") == [(False,)]


def test_they_are_reported_where_exclusive_is_off(leaking, settled):
    before = set(leaking.sql(GIVEN, "mydb"))
    result = settled(model(), exclusive=False)
    # Routines are closed in any case, as they always were, where everybody has them anywhere.
    assert before - set(leaking.sql(GIVEN, "mydb")) <= {("", "f", "PUBLIC", "EXECUTE")}
    told = [text for text in result["warnings"] if "default privileges of 'app_migrator'" in text]
    assert len(told) == 2
    everybody, unmanaged = told
    assert " give PUBLIC CREATE" not in everybody and " give PUBLIC " in everybody
    for what in (
        "EXECUTE on routines in public",
        "USAGE, CREATE on schemas",
        "on tables in public",
    ):
        assert what in everybody
    assert " give 'unmanaged' INSERT on tables; SELECT on tables in public" in unmanaged
    assert all("stay as they are" in text for text in told)
    assert any("PUBLIC has INSERT" in text and "(leaked)" in text for text in result["warnings"])


def test_tables_stay_open_for_an_unmanaged_role_that_works_with_them(
    clean_server,
    settled,
):
    clean_server.sql("CREATE ROLE app_migrator LOGIN; CREATE ROLE report LOGIN; CREATE ROLE idle")
    clean_server.sql("CREATE ROLE named LOGIN")
    clean_server.sql("CREATE DATABASE mydb")
    clean_server.sql("GRANT CREATE ON SCHEMA public TO app_migrator", "mydb")
    clean_server.sql(
        "CREATE TABLE a (i int); CREATE TABLE b (i int); CREATE TABLE c (i int);"
        " GRANT SELECT, INSERT ON a, b TO PUBLIC; GRANT SELECT ON a, b TO named, report;"
        " GRANT INSERT ON b TO report, named",
        "mydb",
        "app_migrator",
    )
    result = settled(model())
    assert [text for text in result["warnings"] if "PUBLIC keeps INSERT" in text] == [
        "database 'mydb', schema 'public': PUBLIC keeps INSERT on 1 of the tables (a), because"
        " roles outside the model have it only that way: 'named', 'report'; grant it to them by"
        " name, or set revoke_public to true"
    ]
    assert clean_server.refusal("INSERT INTO a VALUES (1)", "mydb", "report") == ""
    public = "SELECT relname::text, x.privilege_type FROM pg_class, aclexplode(relacl) x"
    public += " WHERE x.grantee = 0 AND relname IN ('a', 'b', 'c')"
    assert clean_server.sql(public, "mydb") == [("a", "INSERT")]
    assert statements(settled(model(), revoke_public=True))[:1] != []
    assert clean_server.sql(public, "mydb") == []


def test_a_migrator_of_another_database_and_other_schemas_are_not_touched(
    clean_server,
    settled,
):
    databases = model()
    databases.append({"name": "two", "roles": [role("two_migrator", "migrator")]})
    settled(databases)
    clean_server.sql("CREATE SCHEMA s", "mydb")
    theirs = (
        "ALTER DEFAULT PRIVILEGES FOR ROLE two_migrator GRANT ALL ON TABLES TO PUBLIC;"
        f"{FOR} IN SCHEMA s GRANT SELECT ON TABLES TO PUBLIC"
    )
    clean_server.sql(theirs, "mydb")
    before = clean_server.sql(GIVEN, "mydb")
    assert statements(settled(databases)) == []
    assert clean_server.sql(GIVEN, "mydb") == before
