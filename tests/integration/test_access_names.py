# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and passwords chosen to break quoting: exact, or refused before anything changes."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._sql import (
    connection as sql_connection,
    scram,
)

# What Postgres lets anybody call an object in a schema, whether or not the model may say it.
OBJECT_NAMES = (
    'quote"d',
    '"',
    "single'quote",
    "semi;colon -- ' /*",
    "new\nline\r\n\ttab",
    "bell\x07esc\x1b[31m",
    "per%cent %s %(name)s %%",
    "back\\slash \\' E'\\\\",
    "$1 $$ $pooled$",
    "{brace} {0}",
    "'; DROP TABLE kept; --",
    'U&"\\0041"',
    "Ünïcode 名 \U0001f600",
    "e\u0301 \u200b \u202e",
    "a=b/c,d(e)",
    "public.t",
    "ALL TABLES",
    "select",
    "Camel",
    " ",
    "x" * 63,
)
NAMES_FOR_MODEL = [name for name in OBJECT_NAMES if name.isprintable() or "\u200b" in name]
REFUSED = ["new\nline", "tab\t", "nul\x00", "esc\x1b", "", "x" * 64, "é" * 32]


def ident(name):
    return '"' + name.replace('"', '""') + '"'


def databases(schemas):
    return [
        {
            "name": "my%s \"db' ;",
            "schemas": schemas,
            "roles": [
                {"name": "app_user", "kind": "user"},
                {"name": "app_reader", "kind": "reader"},
                {"name": "app_migrator", "kind": "migrator"},
            ],
        }
    ]


def assert_settled(server, run_module, model, **more):
    args = {**server.login, "databases": model, **more}
    predicted = run_module("postgres_access", args, check=True)
    result = run_module("postgres_access", args)
    assert not result.get("failed"), result.get("msg")
    assert predicted["statements"] == result["statements"]
    again = run_module("postgres_access", args)
    assert again["statements"] == []
    return result


def test_objects_with_any_name_in_schemas_with_any_name(clean_server, run_module):
    model = databases(NAMES_FOR_MODEL)
    name = model[0]["name"]
    clean_server.sql("CREATE ROLE app_migrator LOGIN; CREATE ROLE app_reader LOGIN")
    clean_server.sql(f"CREATE DATABASE {ident(name)}")
    clean_server.sql(f"GRANT CREATE ON DATABASE {ident(name)} TO app_migrator")
    with clean_server.connect(name, "app_migrator") as connection:
        for schema in NAMES_FOR_MODEL:
            here = ident(schema)
            connection.execute(f"CREATE SCHEMA {here}".encode())
            connection.execute(f"CREATE TABLE {here}.kept (i int)".encode())
        here = ident(NAMES_FOR_MODEL[0])
        for index, odd in enumerate(OBJECT_NAMES):
            it = f"{here}.{ident(odd)}"
            seq, typ = f"s{index}", ident((f"t{index}" + odd)[:40])
            for statement in (
                f"CREATE TABLE {it} ({ident(odd)} int)",
                f"GRANT UPDATE ({ident(odd)}), TRUNCATE ON {it} TO app_reader",
                f"CREATE SEQUENCE {here}.{ident((seq + odd)[:40])}",
                f"CREATE TYPE {here}.{typ} AS ENUM ({literal(odd)})",
                f"CREATE FUNCTION {it}({it}, {ident(odd)} {here}.{typ}[]) RETURNS int"
                " LANGUAGE sql AS 'SELECT 1'",
            ):
                connection.execute(statement.encode())
    result = assert_settled(clean_server, run_module, model)
    assert len(result["statements"]) > len(NAMES_FOR_MODEL)
    for odd in OBJECT_NAMES:
        it = f"{here}.{ident(odd)}"
        assert clean_server.refusal(f"INSERT INTO {it} VALUES (1)", name, "app_user") == ""
        assert clean_server.refusal(f"SELECT {it}(NULL, NULL)", name, "app_user") == ""
        assert clean_server.refusal(f"SELECT * FROM {it}", name, "app_reader") == ""
        assert clean_server.refusal(f"TRUNCATE {it}", name, "app_reader") == "42501"
        assert clean_server.refusal(f"UPDATE {it} SET {ident(odd)} = 1", name, "app_reader")
    for schema in NAMES_FOR_MODEL:
        assert clean_server.refusal(f"TABLE {ident(schema)}.kept", name, "app_reader") == ""


def literal(text):
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# Routines by everything that can stand between their brackets, each with a call.
ROUTINES = [
    ("CREATE FUNCTION odd.f() RETURNS int {}", "SELECT odd.f()"),
    ("CREATE FUNCTION odd.f(int, OUT a int, OUT b text) {}", "SELECT odd.f(1)"),
    ("CREATE FUNCTION odd.f(VARIADIC int[]) RETURNS int {}", "SELECT odd.f(1, 2, 3)"),
    ("CREATE FUNCTION odd.f(INOUT a text, b int DEFAULT 3) {}", "SELECT odd.f('x')"),
    ('CREATE FUNCTION odd.f("odd, ""types"."it\'s; a (type)") RETURNS int {}', ""),
    ('CREATE FUNCTION odd.f("odd, ""types"."it\'s; a (type)"[]) RETURNS int {}', ""),
    ('CREATE FUNCTION odd.f("odd, ""types"."per%s") RETURNS int {}', ""),
    ("CREATE FUNCTION odd.f(timestamp(3) with time zone, numeric(5, 2)) RETURNS int {}", ""),
    ('CREATE FUNCTION odd.f("char", varchar(3), bit varying, interval) RETURNS int {}', ""),
    (
        "CREATE FUNCTION odd.f(anyelement, anyarray) RETURNS anyelement {}",
        "SELECT odd.f(1.5, ARRAY[1.5])",
    ),
    ("CREATE PROCEDURE odd.p(int) {}", "CALL odd.p(1)"),
    ("CREATE PROCEDURE odd.q(INOUT a int, INOUT b text) {}", "CALL odd.q(1, 'x')"),
]  # fmt: skip
OUT_PROCEDURE_MAJOR = 14


def test_routines_with_any_arguments(clean_server, run_module):
    clean_server.sql("CREATE ROLE app_migrator LOGIN")
    clean_server.sql("CREATE DATABASE mydb")
    clean_server.sql("GRANT CREATE ON DATABASE mydb TO app_migrator")
    model = [{**databases(["odd", 'odd, "types'])[0], "name": "mydb"}]
    routines = list(ROUTINES)
    if clean_server.major >= OUT_PROCEDURE_MAJOR:
        routines.append(("CREATE PROCEDURE odd.r(IN a int, OUT b text) {}", "CALL odd.r(1, NULL)"))
    with clean_server.connect("mydb", "app_migrator") as connection:
        for statement in (
            'CREATE SCHEMA odd; CREATE SCHEMA "odd, ""types"',
            'CREATE TYPE "odd, ""types"."it\'s; a (type)" AS ENUM (\'x\')',
            'CREATE DOMAIN "odd, ""types"."per%s" AS int',
            'CREATE TYPE "odd, ""types"."Row, of" AS (a int)',
            'CREATE TYPE "odd, ""types"."Range" AS RANGE (SUBTYPE = float8)',
            "CREATE AGGREGATE odd.total(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0')",
            "CREATE AGGREGATE odd.total(int) (SFUNC = int4pl, STYPE = int)",
            "CREATE AGGREGATE odd.middle(float8 ORDER BY anyelement) (SFUNC ="
            " ordered_set_transition, STYPE = internal,"
            " FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA)",
        ):
            try:
                connection.execute(statement.encode())
            except psycopg.Error as error:
                # Only a superuser makes aggregates of internal state.
                assert "internal" in str(error), statement
        connection.execute("SET check_function_bodies = off")
        for create, _call in routines:
            plpgsql = "LANGUAGE plpgsql AS 'BEGIN RETURN; END'"
            connection.execute(create.replace("{}", plpgsql).encode())
    assert_settled(clean_server, run_module, model)
    query = "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'odd'::regnamespace"
    for role, allowed in (("app_user", True), ("app_reader", True)):
        check = f"{query} AND has_function_privilege('{role}', oid, 'EXECUTE') <> {allowed}"
        assert clean_server.sql(check, "mydb") == []
    # The migrator's own default now keeps later ones from everybody else.
    clean_server.sql("REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA odd FROM PUBLIC", "mydb")
    again = run_module("postgres_access", {**clean_server.login, "databases": model})
    assert again["statements"] == []
    clean_server.sql("REVOKE EXECUTE ON ROUTINE odd.f(int) FROM app_user", "mydb")
    clean_server.sql("REVOKE EXECUTE ON ROUTINE odd.p(int) FROM app_user", "mydb")
    result = assert_settled(clean_server, run_module, model)
    assert [item["statement"] for item in result["statements"]] == [
        "GRANT EXECUTE ON ROUTINE odd.f(integer), odd.p(integer) TO app_user"
    ]
    for _create, call in routines:
        if call:
            assert clean_server.refusal(call, "mydb", "app_user") != "42501", call
            assert clean_server.refusal(call, "mydb", "app_reader") == "42501", call


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
@pytest.mark.parametrize("place", ["database", "schema", "role", "member_of"])
def test_names_that_are_refused(clean_server, run_module, place, name):
    role = {"name": "app_user", "kind": "user"}
    entry = {"name": "mydb", "roles": [role]}
    if place == "database":
        entry["name"] = name
    elif place == "schema":
        entry["schemas"] = [name]
    elif place == "role":
        role["name"] = name
    else:
        role["member_of"] = [name]
    result = run_module("postgres_access", {**clean_server.login, "databases": [entry]})
    assert result["failed"]
    assert result["msg"].startswith("pooled_databases[0]"), result["msg"]
    assert clean_server.sql("SELECT 1 FROM pg_database WHERE datname = 'mydb'") == []


def test_database_whose_bytes_are_no_text(clean_server, run_module):
    """An SQL_ASCII database may hold names in no encoding at all."""
    clean_server.sql("CREATE DATABASE mydb ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C'")
    with clean_server.connect("mydb", client_encoding="sql_ascii") as connection:
        connection.execute(b'CREATE TABLE "caf\xe9" (i int)')
    args = {**clean_server.login, "databases": [{**databases(["public"])[0], "name": "mydb"}]}
    result = run_module("postgres_access", args)
    assert result["failed"]
    assert result["msg"] == (
        "database 'mydb' holds a name that is not valid UTF-8, which encoding SQL_ASCII lets in and"
        " no statement here can say; rename what has it"
    )
    assert clean_server.sql("SELECT 1 FROM pg_roles WHERE rolname = 'app_user'") == []


def test_latin1_database(clean_server, run_module):
    clean_server.sql("CREATE DATABASE mydb ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C'")
    clean_server.sql('CREATE TABLE "café" (i int)', "mydb")
    assert_settled(clean_server, run_module, [{**databases(["public"])[0], "name": "mydb"}])
    assert clean_server.refusal('TABLE "café"', "mydb", "app_reader") == ""


ODD = st.characters() | st.sampled_from(
    "\u00a0\u00ad\u200b\u2028\u3000\ufeff\ufdd0\u0627\u0628\u05d0\u0e31\u0340\u06dd\u070f"
    "\U000e0001\U0001d7d8\uff21\ufb01\u2168\u0221\u1e9e\ue000\ufffd\x07\x7f"
)


def test_passwords_are_prepared_as_libpq_does(server):
    """Any text: what PQencryptPasswordConn makes of it is what we take for the same password."""
    with server.connect() as connection:

        @settings(max_examples=150, database=None,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(password=st.text(ODD, min_size=1, max_size=8))
        def same(password):
            try:
                raw = password.encode()
            except UnicodeEncodeError:
                return
            if b"\0" in raw:
                return
            verifier = connection.pgconn.encrypt_password(raw, b"x", b"scram-sha-256").decode()
            assert scram.password_matches(password, verifier)

        same()


def test_failing_password_statement_is_not_logged(clean_server, run_module, monkeypatch):
    """Not even by way of the server's error about it."""
    args = {
        **clean_server.login,
        "databases": [
            {
                "name": "mydb",
                "roles": [{"name": "app_user", "kind": "user", "password": "LEAK-secret"}],
            }
        ],
    }
    assert not run_module("postgres_access", args).get("failed")
    before = len(clean_server.log())
    monkeypatch.setattr(
        "ansible_collections.pooled.postgres.plugins.module_utils._access.plan.roles.verifier_to_send",
        lambda *_: "SCRAM-SHA-256$LEAK-verifier",
    )
    args["databases"][0]["roles"][0]["password"] = "LEAK-other"
    with clean_server.connect() as other:
        other.execute("BEGIN; ALTER ROLE app_user CONNECTION LIMIT 5")
        monkeypatch.setitem(sql_connection.SESSION, "lock_timeout", "2s")
        result = run_module("postgres_access", args)
        other.execute("ROLLBACK")
    assert result["failed"]
    assert "LEAK" not in str(result)
    assert "LEAK" not in clean_server.log()[before:]
