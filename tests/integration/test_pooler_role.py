# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer's own role, schema and function: exact, whoever was there before or changed them."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from .clusters import INSTALLED

POOLER = "pgbouncer_auth"
MODEL = [
    {
        "name": "mydb",
        "roles": [
            {"name": "app_user", "kind": "user", "password": "user's secret"},
            {"name": "app_reader", "kind": "reader"},
            {"name": "app_migrator", "kind": "migrator", "password": "migrator's secret"},
        ],
    }
]
SETTINGS = [
    "default_transaction_read_only=on",
    "idle_in_transaction_session_timeout=10s",
    "lock_timeout=5s",
    "search_path=pg_catalog",
    "statement_timeout=10s",
    "temp_file_limit=0",
]
# Everything that says who may do what with role, schema and function.
STATE = """
SELECT to_jsonb(r) - '{oid,rolvaliduntil}'::text[] AS role,
       r.rolpassword IS NULL AS without_password,
       coalesce(r.rolvaliduntil, 'infinity') = 'infinity' AS lasts,
       ARRAY(SELECT item FROM pg_db_role_setting s, unnest(s.setconfig) item
              WHERE s.setrole = r.oid ORDER BY 1) AS settings,
       ARRAY(SELECT roleid::regrole::text || member::regrole::text FROM pg_auth_members
              WHERE r.oid IN (roleid, member)) AS memberships,
       n.nspowner::regrole::text AS schema_owner,
       ARRAY(SELECT item::text FROM unnest(n.nspacl) item ORDER BY 1) AS schema_rights,
       p.proowner::regrole::text AS function_owner,
       ARRAY(SELECT item::text FROM unnest(p.proacl) item ORDER BY 1) AS function_rights,
       pg_get_functiondef(p.oid) AS definition,
       ARRAY(SELECT d::text FROM pg_default_acl d WHERE d.defaclnamespace = n.oid) AS defaults,
       ARRAY(SELECT proname FROM pg_proc WHERE pronamespace = n.oid) AS functions
  FROM pg_authid r
  LEFT JOIN pg_namespace n ON n.nspname = 'pgbouncer'
  LEFT JOIN pg_proc p ON p.pronamespace = n.oid AND p.proname = 'get_auth'
 WHERE r.rolname = 'pgbouncer_auth'
"""


@pytest.fixture
def run(clean_server, run_module):
    """Run the module, in check mode and for real, and then once more for nothing."""

    def run(**options):
        args = {**clean_server.login, "databases": MODEL, "pooler_role": POOLER, **options}
        predicted = run_module("postgres_access", args, check=True)
        result = run_module("postgres_access", args)
        assert not result.get("failed"), result["msg"]
        for key in ("changed", "statements", "diff", "warnings"):
            assert predicted.get(key) == result.get(key), key
        again = run_module("postgres_access", args)
        assert (again.get("msg"), again["statements"]) == (None, [])
        return result

    return run


def usable(server, name, user=POOLER):
    """Whether the verifier that PgBouncer gets is the role's own."""
    query = f"SELECT password FROM pgbouncer.get_auth('{name}')"
    own = server.sql(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{name}'")
    return server.sql(query, "mydb", user) == own != [(None,)]


def test_a_role_without_a_password_gets_a_verifier_that_nothing_matches(clean_server, run):
    run()
    clean_server.sql("CREATE ROLE of_others LOGIN; GRANT CONNECT ON DATABASE mydb TO of_others")
    assert usable(clean_server, "app_user")
    for name in ("app_reader", "of_others", POOLER):
        query = f"SELECT username, password FROM pgbouncer.get_auth('{name}')"
        ((_name, verifier),) = clean_server.sql(query, "mydb", POOLER)
        assert re.fullmatch(r"SCRAM-SHA-256\$4096:[A=]{24}\$[A=]{44}:[A=]{44}", verifier)
    clean_server.sql("ALTER ROLE pgbouncer_auth PASSWORD 'x'; ALTER ROLE of_others PASSWORD 'x'")
    assert usable(clean_server, "of_others")
    assert not usable(clean_server, POOLER)
    clean_server.sql("ALTER ROLE app_user PASSWORD NULL")
    assert not usable(clean_server, "app_user")


def test_the_role_can_do_little(clean_server, run):
    run()
    ((role, bare, _lasts, settings, *_rest),) = clean_server.sql(STATE, "mydb")
    assert (role["rolsuper"], role["rolcreaterole"], bare) == (False, False, True)
    assert settings == SETTINGS
    for statement, code in (
        ("CREATE TEMPORARY TABLE t (i int)", "25006"),
        ("SET TRANSACTION READ WRITE; CREATE TEMPORARY TABLE t (i int)", "42501"),
        ("SET TRANSACTION READ WRITE; CREATE TABLE pgbouncer.t (i int)", "42501"),
        ("SET temp_file_limit = -1", "42501"),
        ("SET work_mem = '64kB'; SELECT count(*) FROM"
         " (SELECT i FROM generate_series(1, 200000) i ORDER BY -i OFFSET 0) AS s", "53400"),
        ("SET statement_timeout = '50ms'; SELECT pg_sleep(1)", "57014"),
    ):  # fmt: skip
        assert clean_server.refusal(statement, "mydb", POOLER) == code, statement


def test_its_password_is_the_given_one_or_none(clean_server, run):
    run(pooler_password="for poolers elsewhere")
    assert clean_server.can_log_in(POOLER, "for poolers elsewhere", "mydb")
    result = run()
    assert [one["statement"] for one in result["statements"]] == [
        "ALTER ROLE pgbouncer_auth PASSWORD NULL"
    ]
    assert not clean_server.can_log_in(POOLER, "for poolers elsewhere", "mydb")
    clean_server.sql("ALTER ROLE pgbouncer_auth PASSWORD 'mine'")
    run()
    assert not clean_server.can_log_in(POOLER, "mine", "mydb")


DRIFT = [
    "ALTER ROLE pgbouncer_auth PASSWORD 'mine'",
    "ALTER ROLE pgbouncer_auth SET local_preload_libraries = 'nothere'",
    "ALTER ROLE pgbouncer_auth SET statement_timeout = 0",
    "ALTER ROLE pgbouncer_auth IN DATABASE mydb SET search_path = public",
    "ALTER ROLE pgbouncer_auth RESET ALL",
    "ALTER ROLE pgbouncer_auth CREATEROLE CREATEDB CONNECTION LIMIT 3 VALID UNTIL '2001-01-01'",
    "ALTER ROLE pgbouncer_auth NOLOGIN NOINHERIT",
    "GRANT app_migrator TO pgbouncer_auth",
    "GRANT pgbouncer_auth TO app_user WITH ADMIN OPTION",
    "CREATE ROLE other LOGIN; GRANT pgbouncer_auth TO other",
    "GRANT pgbouncer_auth TO app_migrator WITH ADMIN OPTION; SET ROLE app_migrator;"
    " GRANT pgbouncer_auth TO app_user",
    "ALTER SCHEMA pgbouncer OWNER TO app_migrator",
    "ALTER SCHEMA pgbouncer OWNER TO pgbouncer_auth",
    "GRANT ALL ON SCHEMA pgbouncer TO app_migrator, PUBLIC",
    "GRANT USAGE ON SCHEMA pgbouncer TO pgbouncer_auth WITH GRANT OPTION",
    "GRANT ALL ON SCHEMA pgbouncer TO app_migrator WITH GRANT OPTION; SET ROLE app_migrator;"
    " GRANT USAGE ON SCHEMA pgbouncer TO app_user",
    "REVOKE ALL ON SCHEMA pgbouncer FROM pgbouncer_auth",
    "GRANT USAGE ON SCHEMA pgbouncer TO app_user;"
    " GRANT EXECUTE ON FUNCTION pgbouncer.get_auth TO app_user WITH GRANT OPTION;"
    " SET ROLE app_user; GRANT EXECUTE ON FUNCTION pgbouncer.get_auth(text) TO app_reader",
    "GRANT EXECUTE ON FUNCTION pgbouncer.get_auth TO pgbouncer_auth WITH GRANT OPTION",
    "GRANT EXECUTE ON FUNCTION pgbouncer.get_auth TO PUBLIC",
    "ALTER FUNCTION pgbouncer.get_auth OWNER TO app_migrator",
    "DROP FUNCTION pgbouncer.get_auth; ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO"
    " app_user; ALTER DEFAULT PRIVILEGES IN SCHEMA pgbouncer GRANT EXECUTE ON FUNCTIONS TO"
    " app_reader",
    "DROP SCHEMA pgbouncer CASCADE",
]  # fmt: skip


# Each major takes others of them, so that all are taken.
STRIDE = 1 if os.environ.get("POOLED_EXHAUSTIVE") else len(INSTALLED)


def test_what_anybody_changed_is_undone(clean_server, run):
    run()
    good = clean_server.sql(STATE, "mydb")
    first = list(INSTALLED).index(clean_server.major) % STRIDE
    for number, drift in enumerate(DRIFT[first::STRIDE]):
        clean_server.sql(drift, "mydb")
        assert run(exclusive=number % 2 == 0)["changed"], drift
        clean_server.sql(
            "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM app_user;"
            " ALTER DEFAULT PRIVILEGES IN SCHEMA pgbouncer REVOKE EXECUTE ON FUNCTIONS FROM"
            " app_reader",
            "mydb",
        )
        assert clean_server.sql(STATE, "mydb") == good, drift


BACK_DOOR = """
CREATE FUNCTION pgbouncer.get_auth(p_usename text) RETURNS TABLE(username text, password text)
LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT p_usename, ''a verifier of mine'''
"""


def before_us(server, *statements):
    """A server on which a migrator comes first."""
    server.sql("CREATE ROLE app_migrator LOGIN")
    server.sql("CREATE DATABASE mydb")
    server.sql("GRANT CREATE ON DATABASE mydb TO app_migrator")
    for statement in statements:
        server.sql(statement, "mydb", "app_migrator")


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE SCHEMA pgbouncer"],
        ["CREATE SCHEMA pgbouncer", BACK_DOOR],
        [
            "CREATE SCHEMA pgbouncer",
            BACK_DOOR,
            "GRANT ALL ON SCHEMA pgbouncer TO PUBLIC",
            "GRANT ALL ON FUNCTION pgbouncer.get_auth TO app_migrator WITH GRANT OPTION",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA pgbouncer GRANT ALL ON FUNCTIONS TO PUBLIC",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA pgbouncer GRANT ALL ON TABLES TO PUBLIC",
        ],
    ],
    ids=["empty", "with a function", "with rights"],
)
def test_a_migrators_schema_is_taken_over_whole(clean_server, run, statements):
    before_us(clean_server, *statements)
    run()
    taken = clean_server.sql(STATE, "mydb")
    clean_server.sql("DROP SCHEMA pgbouncer CASCADE", "mydb")
    run()
    assert clean_server.sql(STATE, "mydb") == taken
    for statement in (
        BACK_DOOR.replace("CREATE", "CREATE OR REPLACE"),
        "ALTER FUNCTION pgbouncer.get_auth(text) SECURITY INVOKER",
        "DROP FUNCTION pgbouncer.get_auth(text)",
        "ALTER SCHEMA pgbouncer RENAME TO mine",
        "DROP SCHEMA pgbouncer CASCADE",
        "CREATE TABLE pgbouncer.t (i int)",
        "GRANT USAGE ON SCHEMA pgbouncer TO app_reader",
        "SELECT pgbouncer.get_auth('app_user')",
    ):
        assert clean_server.refusal(statement, "mydb", "app_migrator") == "42501", statement
    assert usable(clean_server, "app_user")


REFUSED = [
    (
        ["CREATE SCHEMA pgbouncer", BACK_DOOR, "CREATE TABLE pgbouncer.t (i int)"],
        "database 'mydb': schema 'pgbouncer' is where PgBouncer's function must be, but belongs to"
        " 'app_migrator' and holds other things (table pgbouncer.t); move what is needed to"
        " another schema and drop the rest, or run ALTER SCHEMA pgbouncer RENAME TO ...",
    ),
    (
        [
            "CREATE SCHEMA pgbouncer",
            "CREATE FUNCTION pgbouncer.get_auth(name) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE TYPE pgbouncer.e AS ENUM ()",
        ],
        "database 'mydb': schema 'pgbouncer' is where PgBouncer's function must be, but belongs to"
        " 'app_migrator' and holds other things (function pgbouncer.get_auth(name), type"
        " pgbouncer.e); move what is needed to another schema and drop the rest, or run ALTER"
        " SCHEMA pgbouncer RENAME TO ...",
    ),
    (
        [
            "CREATE SCHEMA pgbouncer",
            BACK_DOOR,
            "CREATE SCHEMA mine",
            "CREATE VIEW mine.v AS SELECT * FROM pgbouncer.get_auth('x')",
        ],
        "database 'mydb': function pgbouncer.get_auth(text) must be created again, but others"
        " depend"
        " on it (rule _RETURN on view mine.v); drop those",
    ),
]


@pytest.mark.parametrize(("statements", "message"), REFUSED)
def test_a_schema_that_somebody_uses_is_refused_by_name(
    clean_server, run_module, statements, message
):
    before_us(clean_server, *statements)
    before = clean_server.sql("SELECT count(*) FROM pg_roles")
    args = {**clean_server.login, "databases": MODEL, "pooler_role": POOLER}
    for check in (True, False):
        result = run_module("postgres_access", args, check=check)
        assert result.get("failed")
        assert result["msg"] == message
    assert clean_server.sql("SELECT count(*) FROM pg_roles") == before
    owner = "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'pgbouncer'"
    assert clean_server.sql(owner, "mydb") == [("app_migrator",)]


def test_what_else_is_in_our_schema_is_reported(clean_server, run):
    run()
    clean_server.sql("CREATE TABLE pgbouncer.of_the_dba (i int)", "mydb")
    result = run()
    assert not result["changed"]
    assert result["warnings"] == [
        "database 'mydb': schema 'pgbouncer' is PgBouncer's own, and holds more than its function:"
        " table pgbouncer.of_the_dba; drop it, or move it to another schema"
    ]


@pytest.mark.parametrize(
    ("everywhere", "of_pooler", "refused"),
    [("", "x", True), ("x", "", False), ("", "", False), ("x", "x", False)],
)
def test_a_pooler_elsewhere_does_not_lose_its_password(tmp_path, everywhere, of_pooler, refused):
    (tmp_path / "inventory").write_text(
        "[postgres]\ndb ansible_connection=local\n[pgbouncer]\ndb\npool ansible_connection=local"
        + f" pgbouncer_auth_password={of_pooler}" * bool(of_pooler)
        + "\n"
        + f"[all:vars]\npgbouncer_auth_password={everywhere}\n" * bool(everywhere)
    )
    (tmp_path / "play.yml").write_text(
        "- hosts: db\n  gather_facts: false\n  tasks:\n"
        "    - ansible.builtin.import_role:\n        name: pooled.postgres.postgres_access\n"
        "        tasks_from: preflight.yml\n"
    )
    done = subprocess.run(
        ["ansible-playbook", "-i", "inventory", "play.yml"],
        cwd=tmp_path, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode != 0) == refused, done.stdout + done.stderr
    if refused:
        said = " ".join(done.stdout.split())
        assert "pgbouncer_auth_password: PgBouncer on pool logs in to db as pgbouncer_auth" in said
