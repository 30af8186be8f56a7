# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module against real servers, looked at and tried out through an independent client."""

from __future__ import annotations

import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._sql import (
    quoting,
    scram,
)

from .conftest import INSTALLED

PERMISSION_DENIED = "42501"
POOLER = "pgbouncer_auth"
PSQL = max(Path("/usr/lib/postgresql").glob("*/bin/psql"))


STATEMENTS_LIBRARY = "pg_stat_statements"
# Not every build of Postgres on a machine comes with the library.
MAJORS_WITH_STATEMENTS = [
    major
    for major, bindir in INSTALLED.items()
    if any(bindir.parent.rglob(f"{STATEMENTS_LIBRARY}.so"))
]


def role(name, kind, **more):
    return {"name": name, "kind": kind, **more}


def model(**more):
    """One database with a role of each kind."""
    return [
        {
            "name": "mydb",
            "roles": [
                role("app_user", "user", password="user's secret", connection_limit=20),
                role("app_reader", "reader", password="reader's secret"),
                role("app_migrator", "migrator", password="migrator's secret"),
                role("app_admin", "admin", password="admin's secret"),
            ],
            **more,
        }
    ]


def statements(result):
    return [item["statement"] for item in result["statements"]]


def test_new_server_is_predicted_without_one(clean_server, run_module, settled):
    args = {"databases": model(), "pooler_role": POOLER, "login_unix_socket": "/nowhere"}
    assumed = run_module(
        "postgres_access",
        {**args, "assume_new": True, "assume_version": clean_server.major},
        check=True,
    )
    result = settled(model(), pooler_role=POOLER)
    assert assumed["statements"] == result["statements"]
    assert assumed["diff"] == result["diff"]
    assert result["databases"] == assumed["databases"]


def test_no_server_is_an_error_unless_assumed(run_module):
    args = {"databases": model(), "login_unix_socket": "/nowhere"}
    for check, options in ((True, {}), (False, {"assume_new": True, "assume_version": 15})):
        result = run_module("postgres_access", {**args, **options}, check=check)
        assert result["failed"]
        assert result["msg"].startswith("can't connect to the server: ")


MIGRATION = """
CREATE TABLE with_serial (id serial PRIMARY KEY, note text);
CREATE TABLE with_identity (id bigint GENERATED ALWAYS AS IDENTITY, note text);
CREATE TABLE parent (id int, note text) PARTITION BY RANGE (id);
CREATE TABLE child PARTITION OF parent FOR VALUES FROM (0) TO (10);
CREATE VIEW seen AS SELECT note FROM with_serial;
CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one;
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN small AS int CHECK (VALUE < 10);
CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42';
CREATE PROCEDURE proceed(IN a int, INOUT b int) LANGUAGE plpgsql AS 'BEGIN b := a; END';
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
CREATE TABLE secret (id int, owner text);
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secret USING (owner = current_user);
INSERT INTO secret VALUES (1, 'app_user'), (2, 'somebody');
"""
USER_MAY = (
    "INSERT INTO with_serial (note) VALUES ('x')",
    "INSERT INTO with_identity (note) VALUES ('x')",
    "INSERT INTO parent VALUES (1, 'x')",
    "UPDATE with_serial SET note = 'y'",
    "DELETE FROM with_serial",
    "SELECT * FROM child",
    "SELECT * FROM seen",
    "SELECT * FROM kept",
    "SELECT nextval('with_serial_id_seq')",
    "SELECT answer(), 'good'::mood, 3::small",
    "SELECT total(id) FROM with_serial",
    "CALL proceed(1, 2)",
)
USER_MAY_NOT = (
    "CREATE TABLE t (i int)",
    "CREATE TEMPORARY TABLE t (i int)",
    "CREATE SCHEMA s",
    "ALTER TABLE with_serial ADD COLUMN c int",
    "DROP TABLE with_serial",
    "TRUNCATE with_serial",
    "SELECT setval('with_serial_id_seq', 5)",
    "CREATE ROLE r",
    "CREATE DATABASE d",
    "ALTER ROLE app_user BYPASSRLS",
    "SELECT * FROM pg_authid",
)
READER_MAY = (
    "SELECT * FROM with_serial",
    "SELECT * FROM parent",
    "SELECT * FROM seen",
    "SELECT last_value FROM with_serial_id_seq",
)
READER_MAY_NOT = (
    "INSERT INTO with_serial (note) VALUES ('x')",
    "UPDATE with_serial SET note = 'y'",
    "DELETE FROM with_serial",
    "SELECT nextval('with_serial_id_seq')",
    "SELECT answer()",
    "CREATE TABLE t (i int)",
    "TRUNCATE with_serial",
)


@pytest.mark.parametrize("backfill", [False, True], ids=["migrated later", "existed before"])
def test_each_kind_may_do_what_it_shall_and_nothing_else(clean_server, settled, backfill):
    if backfill:
        clean_server.sql("CREATE ROLE app_migrator LOGIN; CREATE ROLE app_user LOGIN")
        clean_server.sql("CREATE DATABASE mydb")
        clean_server.sql("GRANT CREATE ON SCHEMA public TO app_migrator", "mydb")
        clean_server.sql(MIGRATION, "mydb", "app_migrator")
    settled(model())
    if not backfill:
        clean_server.sql(MIGRATION, "mydb", "app_migrator")
        settled(model())
    for statement in USER_MAY:
        assert clean_server.refusal(statement, "mydb", "app_user") == "", statement
        assert clean_server.refusal(statement, "mydb", "app_admin") == "", statement
    for statement in USER_MAY_NOT:
        refusal = clean_server.refusal(statement, "mydb", "app_user")
        assert refusal == PERMISSION_DENIED, statement
        refusal = clean_server.refusal(statement, "mydb", "app_admin")
        assert refusal == PERMISSION_DENIED, statement
    for statement in READER_MAY:
        assert clean_server.refusal(statement, "mydb", "app_reader") == "", statement
    for statement in READER_MAY_NOT:
        if backfill and statement == "SELECT answer()":
            continue  # What PUBLIC may execute since before is not the model's to take.
        refusal = clean_server.refusal(statement, "mydb", "app_reader")
        assert refusal == PERMISSION_DENIED, statement
    assert clean_server.sql("SELECT id FROM secret", "mydb", "app_user") == [(1,)]
    assert clean_server.sql("SELECT id FROM secret", "mydb", "app_admin") == [(1,), (2,)]


def test_roles_of_one_database_stay_out_of_the_other(clean_server, settled):
    databases = [
        {"name": "one", "roles": [role("one_user", "user")]},
        {"name": "two", "roles": [role("two_user", "user"), role("two_migrator", "migrator")]},
    ]
    settled(databases)
    assert clean_server.refusal("SELECT 1", "one", "one_user") == ""
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        clean_server.connect("two", "one_user")
    clean_server.sql('GRANT CONNECT ON DATABASE "two" TO one_user')
    assert statements(settled(databases)) == ["REVOKE CONNECT ON DATABASE two FROM one_user"]


def test_settings_and_limits_hold_in_sessions(clean_server, settled):
    settled(model())
    for user, expected in (
        ("app_user", ("off", "30s", "1min", "5s")),
        ("app_reader", ("off", "30s", "1min", "5s")),
        ("app_migrator", ("off", "0", "0", "5s")),
        ("app_admin", ("off", "0", "10min", "5s")),
    ):
        names = (
            "jit",
            "statement_timeout",
            "idle_in_transaction_session_timeout",
            "lock_timeout",
        )
        columns = ", ".join(f"current_setting('{name}')" for name in names)
        assert clean_server.sql(f"SELECT {columns}", "mydb", user) == [expected]
    limits = "SELECT rolname, rolconnlimit FROM pg_roles WHERE rolconnlimit > 0"
    assert clean_server.sql(limits) == [("app_user", 20)]


# Each drift with the statements that mend it; a group is drifted together and mended in one run.
ROLE_DRIFT = [
    ("ALTER ROLE app_user SUPERUSER CREATEDB", ["ALTER ROLE app_user NOSUPERUSER NOCREATEDB"]),
    ("ALTER ROLE app_admin NOBYPASSRLS", ["ALTER ROLE app_admin BYPASSRLS"]),
    ("ALTER ROLE app_reader NOLOGIN", ["ALTER ROLE app_reader LOGIN"]),
    ("ALTER ROLE app_migrator CONNECTION LIMIT 3", ["ALTER ROLE app_migrator CONNECTION LIMIT -1"]),
    (
        "ALTER ROLE app_user SET statement_timeout = '7s'",
        ["ALTER ROLE app_user SET statement_timeout = '30s'"],
    ),
    ("ALTER ROLE app_reader SET statement_timeout = '30000'", []),
    ("ALTER ROLE app_reader SET jit = 'false'", []),
    ("ALTER ROLE app_user SET work_mem = '1GB'", ["ALTER ROLE app_user RESET work_mem"]),
    ("ALTER ROLE app_user SET TimeZone = 'UTC'", ["ALTER ROLE app_user RESET timezone"]),
    (
        "ALTER ROLE app_user IN DATABASE mydb SET lock_timeout = 0",
        ["ALTER ROLE app_user IN DATABASE mydb RESET lock_timeout"],
    ),
    ("GRANT pg_signal_backend TO app_reader", ["REVOKE pg_signal_backend FROM app_reader"]),
    ("GRANT app_migrator TO app_user", ["REVOKE app_migrator FROM app_user"]),
    ("ALTER ROLE app_user PASSWORD NULL", ["ALTER ROLE app_user PASSWORD '********'"]),
    ("ALTER ROLE app_admin PASSWORD 'other'", ["ALTER ROLE app_admin PASSWORD '********'"]),
]
DATABASE_DRIFT = [
    (
        "GRANT CREATE ON DATABASE mydb TO app_user",
        ["REVOKE CREATE ON DATABASE mydb FROM app_user"],
    ),
    (
        "REVOKE CONNECT ON DATABASE mydb FROM app_reader",
        ["GRANT CONNECT ON DATABASE mydb TO app_reader"],
    ),
    (
        "GRANT CONNECT ON DATABASE mydb TO PUBLIC",
        ["REVOKE CONNECT ON DATABASE mydb FROM PUBLIC"],
    ),
    (
        "GRANT CREATE ON SCHEMA public TO app_user, PUBLIC",
        [
            "REVOKE CREATE ON SCHEMA public FROM app_user",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        ],
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE app_migrator IN SCHEMA public"
        " GRANT TRUNCATE ON TABLES TO app_user",
        [
            "ALTER DEFAULT PRIVILEGES FOR ROLE app_migrator IN SCHEMA public"
            " REVOKE TRUNCATE ON TABLES FROM app_user"
        ],
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE app_migrator GRANT DELETE ON TABLES TO app_reader",
        ["ALTER DEFAULT PRIVILEGES FOR ROLE app_migrator REVOKE DELETE ON TABLES FROM app_reader"],
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE app_migrator IN SCHEMA public"
        " REVOKE SELECT ON SEQUENCES FROM app_reader",
        [
            "ALTER DEFAULT PRIVILEGES FOR ROLE app_migrator IN SCHEMA public"
            " GRANT SELECT ON SEQUENCES TO app_reader"
        ],
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE app_migrator GRANT EXECUTE ON ROUTINES TO PUBLIC",
        ["ALTER DEFAULT PRIVILEGES FOR ROLE app_migrator REVOKE EXECUTE ON ROUTINES FROM PUBLIC"],
    ),
]
OBJECT_DRIFT = [
    (
        "GRANT TRUNCATE ON t1 TO app_user, app_reader",
        ["REVOKE TRUNCATE ON TABLE public.t1 FROM app_user, app_reader"],
    ),
    (
        "REVOKE SELECT ON t1, t2 FROM app_user",
        ["GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_user"],
    ),
    (
        "REVOKE INSERT ON t2 FROM app_admin",
        ["GRANT INSERT ON TABLE public.t2 TO app_admin"],
    ),
    (
        "GRANT UPDATE ON t1 TO app_user WITH GRANT OPTION",
        ["REVOKE GRANT OPTION FOR UPDATE ON TABLE public.t1 FROM app_user"],
    ),
    (
        "GRANT UPDATE (i) ON t1 TO app_reader",
        ["REVOKE UPDATE (i) ON TABLE public.t1 FROM app_reader"],
    ),
    ("GRANT SELECT (i) ON t1 TO app_reader", []),
    ("GRANT REFERENCES ON t1 TO app_migrator", []),
    (
        "GRANT UPDATE ON SEQUENCE s1 TO app_user",
        ["REVOKE UPDATE ON SEQUENCE public.s1 FROM app_user"],
    ),
    (
        "REVOKE EXECUTE ON FUNCTION f1(int) FROM app_user",
        ["GRANT EXECUTE ON ROUTINE public.f1(integer) TO app_user"],
    ),
    ("REVOKE USAGE ON TYPE e1 FROM app_user", ["GRANT USAGE ON TYPE public.e1 TO app_user"]),
]


def test_drift_is_mended_by_the_least_statements(clean_server, settled):
    settled(model())
    clean_server.sql(
        "CREATE TABLE t1 (i int); CREATE TABLE t2 (i int); CREATE SEQUENCE s1;"
        " CREATE FUNCTION f1(int) RETURNS int LANGUAGE sql AS 'SELECT 1';"
        " CREATE TYPE e1 AS ENUM ('x')",
        "mydb",
        "app_migrator",
    )
    assert statements(settled(model())) == []
    for group in (ROLE_DRIFT, DATABASE_DRIFT, OBJECT_DRIFT):
        for drift, _mended in group:
            clean_server.sql(drift, "mydb")
        expected = [statement for _drift, mended in group for statement in mended]
        assert sorted(statements(settled(model()))) == sorted(expected)


def test_extra_rights_stay_when_not_exclusive(clean_server, settled):
    settled(model())
    clean_server.sql("CREATE TABLE t1 (i int)", "mydb", "app_migrator")
    clean_server.sql("GRANT TRUNCATE ON t1 TO app_user", "mydb")
    clean_server.sql("GRANT pg_signal_backend TO app_reader", "mydb")
    assert statements(settled(model(), exclusive=False)) == []
    assert clean_server.refusal("TRUNCATE t1", "mydb", "app_user") == ""


def test_right_granted_by_somebody_else_is_revoked(clean_server, settled):
    settled(model())
    clean_server.sql("CREATE TABLE t1 (i int)", "mydb", "app_migrator")
    clean_server.sql("CREATE ROLE lender; GRANT USAGE ON SCHEMA public TO lender", "mydb")
    clean_server.sql("GRANT TRUNCATE ON t1 TO lender WITH GRANT OPTION", "mydb")
    clean_server.sql("SET ROLE lender; GRANT TRUNCATE ON t1 TO app_user", "mydb")
    assert statements(settled(model())) == [
        "REVOKE TRUNCATE ON TABLE public.t1 FROM app_user -- as lender"
    ]
    assert clean_server.refusal("TRUNCATE t1", "mydb", "app_user") == PERMISSION_DENIED


HOSTILE = (
    'quote"d',
    "semi;colon -- '",
    "sp ace",
    "Ünïcode 名",
    "CamelCase",
    "select",
    "user",
    "back\\slash",
    "dollar$pooled$",
    "per%cent %s %(x)s",
    "{brace}",
    "='/,=",
    "x" * 63,
)


def test_names_are_exact(clean_server, settled):
    databases = [
        {
            "name": f"d{name}"[:63],
            "schemas": ["public", f"s{name}"[:63]],
            "roles": [
                role(name, "user", password=name, member_of=["the group"]),
                role(f"m{name}"[:63], "migrator"),
            ],
        }
        for name in HOSTILE[:-1]
    ] + [{"name": HOSTILE[-1], "roles": [role(HOSTILE[-1], "user")]}]
    clean_server.sql('CREATE ROLE "the group"')
    settled(databases, pooler_role=POOLER)
    names = {row[0] for row in clean_server.sql("SELECT rolname FROM pg_roles")}
    assert set(HOSTILE) <= names
    for name in HOSTILE[:-1]:
        database, schema = f"d{name}"[:63], f"s{name}"[:63]
        quoted = '"' + schema.replace('"', '""') + '"'
        table = quoted + "." + '"' + name.replace('"', '""') + '"'
        clean_server.sql(f"CREATE TABLE {table} (i int)", database)
        clean_server.sql(
            f"CREATE FUNCTION {table}({quoted}.{table.split('.')[1]}) RETURNS int"
            " LANGUAGE sql AS 'SELECT 1'",
            database,
        )
    settled(databases, pooler_role=POOLER)
    for name in HOSTILE[:-1]:
        database, schema = f"d{name}"[:63], f"s{name}"[:63]
        quoted = '"' + schema.replace('"', '""') + '"'
        table = quoted + "." + '"' + name.replace('"', '""') + '"'
        assert clean_server.refusal(f"INSERT INTO {table} VALUES (1)", database, name) == ""
        assert clean_server.refusal("CREATE TABLE public.x ()", database, name) == PERMISSION_DENIED
        found = clean_server.sql(
            "SELECT username FROM pgbouncer.get_auth("
            + "$$" + name + "$$)", database, POOLER,
        ) if "$" not in name else [(name,)]  # fmt: skip
        assert found == [(name,)]


PASSWORDS = (
    "simple",
    "quote's \" \\ ; -- $$",
    "Müller\u00adß",
    "\u00a0no-break\u2003em",
    "ﬁ ligature Ⅸ",
    "\u0627\u0644\u0639",
    "\u0627mixed",
    "\u0007bell",
    "日本語パスワード",
    "\U0001f600 emoji",
    "\u200b",
    "\u1806x",
    " leading and trailing ",
    "p" * 200,
)


def test_passwords_log_in_and_equal_those_of_libpq(clean_server, settled, access):
    names = [f"r{index}" for index in range(len(PASSWORDS))]
    databases = [
        {
            "name": "mydb",
            "roles": [
                role(name, "user", password=password) for name, password in zip(names, PASSWORDS)
            ],
        }
    ]
    settled(databases)
    for name, password in zip(names, PASSWORDS):
        assert clean_server.can_log_in(name, password, "mydb"), password
        assert not clean_server.can_log_in(name, password + "x", "mydb"), password
    with clean_server.connect() as connection:
        for name, password in zip(names, PASSWORDS):
            by_libpq = connection.pgconn.encrypt_password(
                password.encode(), name.encode(), b"scram-sha-256"
            ).decode()
            assert scram.password_matches(password, by_libpq), password
            assert not scram.password_matches(password + "x", by_libpq), password
            connection.execute(f"ALTER ROLE {name} PASSWORD '{by_libpq}'")
    assert statements(access(databases)) == []


def test_verifier_is_stored_as_given(clean_server, settled):
    verifier = scram.make_verifier("hidden", 5000)
    databases = [{"name": "mydb", "roles": [role("app_user", "user", password=verifier)]}]
    settled(databases)
    stored = clean_server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app_user'")
    assert stored == [(verifier,)]
    databases[0]["roles"][0]["password"] = "hidden"
    assert statements(settled(databases)) == []
    assert clean_server.can_log_in("app_user", "hidden", "mydb")


def test_passwords_and_verifiers_are_never_logged(clean_server, settled):
    databases = model()
    for entry in databases[0]["roles"]:
        entry["password"] = f"LEAK-{entry['name']}"
    result = settled(databases, pooler_role=POOLER, pooler_password="LEAK-pooler")
    assert "LEAK" not in str(result)
    log = clean_server.log()
    assert "CREATE ROLE app_user" in log, "the server logs statements"
    assert "LEAK" not in log
    stored = clean_server.sql("SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL")
    assert len(stored) == 5
    for (verifier,) in stored:
        assert verifier.startswith("SCRAM-SHA-256$")
        assert verifier not in log
    assert clean_server.can_log_in(POOLER, "LEAK-pooler", "mydb")


def test_who_watches_all_sessions_sees_no_verifier(clean_server, access):
    """As an exporter's role does. A statement that waits can be seen for long."""
    databases = model()
    access(databases)
    databases[0]["roles"][0]["password"] = "another"
    watched = """
        SELECT query, EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted)
          FROM pg_stat_activity a WHERE pid <> pg_backend_pid()
    """
    seen, waited = [], False
    with ThreadPoolExecutor(1) as pool, clean_server.connect() as watcher:
        with clean_server.connect() as holder, holder.transaction():
            holder.execute("ALTER ROLE app_user CONNECTION LIMIT 20")
            run = pool.submit(access, databases, check_too=False)
            for _look in range(2400):
                rows = watcher.execute(watched).fetchall()
                seen += [query for query, _waits in rows if "SCRAM-SHA-256$" in query]
                waited = waited or any(waits for _query, waits in rows)
                if seen or waited:
                    break
                time.sleep(0.05)
        run.result()
    assert waited
    assert seen == []


@pytest.mark.parametrize("with_statements", MAJORS_WITH_STATEMENTS or [0])
def test_password_is_not_in_pg_stat_statements(make_cluster, with_statements, run_module):
    name = STATEMENTS_LIBRARY
    assert with_statements, f"no server on this machine has {name}: apt install postgresql"
    cluster = make_cluster(with_statements)
    with (cluster.data / "postgresql.conf").open("a") as conf:
        conf.write(f"shared_preload_libraries = '{name}'\npg_stat_statements.track = 'all'\n")
    cluster.restart()
    databases = model(extensions=[name])
    result = run_module("postgres_access", {**cluster.login, "databases": databases})
    home = "pooled_extensions"
    assert f"CREATE EXTENSION {name} SCHEMA {home}" in statements(result)
    queries = [row[0] for row in cluster.sql(f"SELECT query FROM {home}.{name}", "mydb")]
    assert any("CREATE ROLE" in query for query in queries)
    assert not [query for query in queries if "SCRAM" in query or "secret" in query]
    cluster.stop()


def test_public_is_shut_out_unless_somebody_else_needs_it(clean_server, settled):
    clean_server.sql("CREATE DATABASE mydb")
    clean_server.sql("CREATE ROLE legacy LOGIN; CREATE ROLE dba SUPERUSER")
    clean_server.sql("GRANT CREATE ON SCHEMA public TO PUBLIC", "mydb")
    result = settled(model())
    assert result["warnings"] == [
        f"database 'mydb': PUBLIC keeps {privilege} on {place}, because roles outside the model"
        " have it only that way: 'legacy'; grant it to them by name, or set revoke_public to true"
        for privilege, place in (
            ("CONNECT", "the database"),
            ("TEMPORARY", "the database"),
            ("CREATE", "schema public"),
        )
    ]
    assert clean_server.refusal("CREATE TEMPORARY TABLE t ()", "mydb", "legacy") == ""
    assert clean_server.refusal("CREATE TABLE of_legacy ()", "mydb", "legacy") == ""
    # Granted by name, PUBLIC's right is not needed any more.
    clean_server.sql("GRANT CONNECT, TEMPORARY ON DATABASE mydb TO legacy", "mydb")
    clean_server.sql("GRANT CREATE, USAGE ON SCHEMA public TO legacy", "mydb")
    result = settled(model())
    assert not [text for text in result["warnings"] if "PUBLIC" in text]
    assert [statement for statement in statements(result) if "PUBLIC" in statement] == [
        "REVOKE CONNECT, TEMPORARY ON DATABASE mydb FROM PUBLIC",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    ]
    assert clean_server.refusal("CREATE TEMPORARY TABLE t ()", "mydb", "legacy") == ""
    assert clean_server.refusal("CREATE TABLE more_of_legacy ()", "mydb", "legacy") == ""
    with pytest.raises(psycopg.OperationalError):
        clean_server.sql("CREATE ROLE stranger LOGIN")
        clean_server.connect("mydb", "stranger")


@pytest.fixture
def reopened(clean_server):
    """Afterwards, PUBLIC has what initdb gives it."""
    yield clean_server
    clean_server.sql(
        "GRANT CONNECT, TEMPORARY ON DATABASE postgres TO PUBLIC;"
        "GRANT CONNECT ON DATABASE template1 TO PUBLIC;"
        "ALTER ROLE postgres CONNECTION LIMIT -1"
    )
    for name in ("postgres", "template1"):
        clean_server.sql("GRANT USAGE ON SCHEMA public TO PUBLIC", name)
        if clean_server.major < 15:
            clean_server.sql("GRANT CREATE ON SCHEMA public TO PUBLIC", name)


def test_cis_shuts_public_out_of_every_database(reopened, settled, run_module):
    server = reopened
    options = {"hardening": "cis", "pooler_role": POOLER, "pooler_connection_limit": 11}
    args = {"databases": model(), "login_unix_socket": "/nowhere", **options}
    more = {"assume_new": True, "assume_version": server.major}
    assumed = run_module("postgres_access", {**args, **more}, check=True)
    result = settled(model(), **options)
    assert assumed["statements"] == result["statements"]
    server.sql("CREATE ROLE stranger LOGIN")
    for name in ("mydb", "postgres", "template1"):
        assert server.refusal("SELECT 1", name, "stranger") == "connection"
        acl = "SELECT 1 FROM pg_namespace n, aclexplode(n.nspacl) a WHERE nspname = 'public'"
        assert server.sql(f"{acl} AND a.grantee = 0", name) == []
    limits = dict(server.sql("SELECT rolname, rolconnlimit FROM pg_roles"))
    assert (limits["postgres"], limits[POOLER]) == (10, 11)
    # The model's roles work as before.
    assert server.refusal("SELECT 1", "mydb", "app_user") == ""
    assert server.refusal("CREATE TABLE t ()", "mydb", "app_migrator") == ""
    assert server.refusal("SELECT FROM t", "mydb", "app_user") == ""
    # A database made later is as closed.
    server.sql("CREATE DATABASE later")
    assert server.sql(f"{acl} AND a.grantee = 0", "later") == []


def test_cis_leaves_what_a_role_outside_the_model_needs(reopened, settled):
    server = reopened
    server.sql("CREATE ROLE legacy LOGIN; CREATE ROLE prometheus LOGIN")
    result = settled(model(), hardening="cis", monitor_role="prometheus")
    kept = [text for text in result["warnings"] if "PUBLIC keeps" in text]
    assert {text.split(":")[0] for text in kept} == {"database 'postgres'", "database 'template1'"}
    assert all("way: 'legacy';" in text for text in kept)
    assert server.refusal("SELECT 1", "postgres", "legacy") == ""
    server.sql("DROP ROLE legacy")
    settled(model(), hardening="cis", monitor_role="prometheus")
    assert server.refusal("SELECT 1", "postgres", "prometheus") == "connection"


def test_member_of_a_model_role_does_not_need_public(clean_server, settled):
    clean_server.sql("CREATE DATABASE mydb")
    clean_server.sql("CREATE ROLE app_user; CREATE ROLE batch LOGIN")
    clean_server.sql("GRANT app_user TO batch")
    result = settled(model())
    assert "REVOKE CONNECT ON DATABASE mydb FROM PUBLIC" in statements(result)
    assert clean_server.refusal("SELECT 1", "mydb", "batch") == ""


def test_public_goes_when_told(clean_server, settled):
    clean_server.sql("CREATE DATABASE mydb")
    clean_server.sql("CREATE ROLE legacy LOGIN")
    result = settled(model(), revoke_public=True)
    assert "REVOKE CONNECT, TEMPORARY ON DATABASE mydb FROM PUBLIC" in statements(result)
    assert "warnings" not in result


def test_objects_of_others_are_covered_and_reported(clean_server, settled):
    clean_server.sql("CREATE DATABASE mydb")
    clean_server.sql("CREATE TABLE orders (i serial); CREATE VIEW v AS SELECT 1 AS i", "mydb")
    result = settled(model())
    assert result["warnings"] == [
        "database 'mydb', schema 'public': 2 table(s) belong to 'postgres', no migrator of the"
        " model (orders, v): 'app_migrator' can't alter them; fix it with"
        " ALTER TABLE ... OWNER TO app_migrator"
    ]
    assert clean_server.refusal("INSERT INTO orders DEFAULT VALUES", "mydb", "app_user") == ""
    assert result["databases"] == [
        {
            "name": "mydb",
            "exists": True,
            "owner": "postgres",
            "objects": {"tables": 2, "sequences": 1, "routines": 0, "types": 0},
        }
    ]


def test_application_role_that_owns_is_named(clean_server, settled):
    clean_server.sql("CREATE ROLE app_user LOGIN")
    clean_server.sql("CREATE DATABASE mydb OWNER app_user")
    clean_server.sql("GRANT CREATE ON SCHEMA public TO app_user", "mydb")
    clean_server.sql("CREATE TABLE mine (i int)", "mydb", "app_user")
    assert settled(model())["warnings"] == [
        "database 'mydb' belongs to role 'app_user' of kind user, which may therefore do"
        " anything with it; fix it with ALTER DATABASE mydb OWNER TO another role",
        "database 'mydb', schema 'public': 1 table(s) belong to 'app_user', no migrator of the"
        " model (mine): role 'app_user' of kind user may alter them and row-level security does not"
        " bind it; fix it with ALTER TABLE ... OWNER TO app_migrator",
    ]


def test_migrator_that_owns_the_database_is_fine(clean_server, settled):
    clean_server.sql("CREATE ROLE app_migrator LOGIN")
    clean_server.sql("CREATE DATABASE mydb OWNER app_migrator")
    result = settled(model())
    assert "warnings" not in result
    assert clean_server.refusal("CREATE TABLE t ()", "mydb", "app_migrator") == ""


def test_objects_of_extensions_are_left_alone(clean_server, settled):
    available = clean_server.sql(
        "SELECT name FROM pg_available_extensions WHERE name IN ('vector', 'hstore') ORDER BY 1"
    )
    name = available[0][0]
    databases = model(extensions=[name])
    result = settled(databases)
    assert f"CREATE EXTENSION {name}" in statements(result)
    where = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = "
    assert clean_server.sql(f"{where}'{name}'", "mydb") == [("public",)]
    clean_server.sql("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "mydb")
    clean_server.sql("CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 1'", "mydb")
    assert statements(settled(databases)) == [
        "GRANT EXECUTE ON ROUTINE public.f(), public.g() TO app_user, app_admin"
    ]


def test_schemas_are_made_and_served(clean_server, settled):
    databases = model(schemas=["app", "audit"])
    settled(databases)
    clean_server.sql("CREATE TABLE app.t (i int)", "mydb", "app_migrator")
    assert clean_server.refusal("SELECT * FROM app.t", "mydb", "app_user") == ""
    owners = "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname IN ('app', 'audit')"
    assert clean_server.sql(owners, "mydb") == [("postgres",), ("postgres",)]
    # A schema that a migration made later is covered as soon as it is listed.
    clean_server.sql("CREATE SCHEMA later; CREATE TABLE later.t (i int)", "mydb", "app_migrator")
    settled(model(schemas=["app", "audit", "later"]))
    assert clean_server.refusal("SELECT * FROM later.t", "mydb", "app_user") == ""


def test_members_and_other_settings(clean_server, settled):
    clean_server.sql("CREATE ROLE reports; CREATE ROLE other")
    databases = model()
    databases[0]["roles"][0] |= {
        "member_of": ["reports", "app_reader"],
        "settings": {
            "search_path": '"$user", app, public',
            "statement_timeout": None,
            "work_mem": "16384kB",
            "log_min_duration_statement": "250ms",
            "app.tenant": "it's \\ here",
        },
    }
    settled(databases)
    clean_server.sql("GRANT other TO app_user; GRANT reports TO app_user WITH ADMIN OPTION")
    clean_server.sql("ALTER ROLE app_user SET work_mem = '16MB'")
    assert statements(settled(databases)) == [
        "REVOKE other FROM app_user",
        "REVOKE ADMIN OPTION FOR reports FROM app_user",
    ]
    names = ("search_path", "statement_timeout", "work_mem", "app.tenant")
    columns = ", ".join(f"current_setting('{name}')" for name in names)
    assert clean_server.sql(f"SELECT {columns}", "mydb", "app_user") == [
        ('"$user", app, public', "0", "16MB", "it's \\ here")
    ]


def test_membership_granted_by_somebody_else_is_revoked(clean_server, settled):
    clean_server.sql("CREATE ROLE reports; CREATE ROLE lender; CREATE ROLE app_user LOGIN")
    clean_server.sql("GRANT reports TO lender WITH ADMIN OPTION")
    clean_server.sql("SET ROLE lender; GRANT reports TO app_user")
    settled(model())
    members = "SELECT 1 FROM pg_auth_members WHERE member = 'app_user'::regrole"
    assert clean_server.sql(members) == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "statement_timeout",
            "7x",
            'invalid value for parameter "statement_timeout": "7x" HINT: Valid units for this'
            ' parameter are "us", "ms", "s", "min", "h", and "d".',
        ),
        (
            "statment_timeout",
            "7s",
            'unrecognized configuration parameter "statment_timeout"',
        ),
        (
            "shared_buffers",
            "1GB",
            'parameter "shared_buffers" cannot be changed without restarting the server',
        ),
        ("jit", "maybe", 'parameter "jit" requires a Boolean value'),
    ],
)
def test_bad_settings_are_refused_before_anything_changes(fails, name, value, message):
    databases = model()
    databases[0]["roles"][0]["settings"] = {name: value}
    assert fails(databases) == (
        f"pooled_databases: settings.{name} of role 'app_user': {value!r} is refused: {message}"
    )


def test_a_timeout_that_is_tried_out_does_not_take_effect(settled):
    databases = model()
    databases[0]["roles"][0]["settings"] = {
        "statement_timeout": "1ms",
        "lock_timeout": 1,
        "idle_in_transaction_session_timeout": 1,
    }
    settled(databases)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {"extensions": ["no_such"]},
            {},
            "pooled_databases: extension 'no_such' of database 'mydb' is not available on the"
            " server; install the package that brings it, or take it out of extensions",
        ),
        (
            {"roles": [role("app_user", "user", member_of=["nobody"])]},
            {},
            "pooled_databases: member_of of role 'app_user': there is no role 'nobody' on the"
            " server or in the model",
        ),
        (
            {"roles": [role("postgres", "admin")]},
            {},
            "pooled_databases: role 'postgres' is the user that this run logs in as, so the model"
            " can't hold it; use another role",
        ),
        (
            {"schemas": ["pgbouncer"]},
            {"pooler_role": POOLER},
            "pooled_databases: schema 'pgbouncer' of database 'mydb' is where PgBouncer's function"
            " lives; choose another name",
        ),
        (
            {"roles": [role("app_user", "user", password="md5" + "0" * 32)]},
            {},
            "pooled_databases[0].roles[0].password of role 'app_user': an md5 hash can't be used"
            " for SCRAM logins; give the plain text or a SCRAM-SHA-256 verifier",
        ),
    ],
)
def test_what_this_server_cannot_give_is_refused(fails, change, options, message):
    assert fails(model(**change), **options) == message


def test_failure_leaves_its_database_as_it_was(clean_server, run_module):
    clean_server.sql("CREATE DATABASE first")
    clean_server.sql("CREATE DATABASE second")
    clean_server.sql(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE 'not today'; END$$;"
        " CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN"
        " ('ALTER DEFAULT PRIVILEGES') EXECUTE FUNCTION refuse()",
        "second",
    )
    databases = [
        {"name": name, "schemas": ["app"], "roles": model()[0]["roles"]}
        for name in ("first", "second")
    ]
    # Its settings are mended before the failure; sessions of roles that are new have no old ones.
    clean_server.sql("CREATE ROLE app_user LOGIN; ALTER ROLE app_user SET statement_timeout = '7s'")
    result = run_module("postgres_access", {**clean_server.login, "databases": databases})
    assert result["failed"]
    assert result["changed"]
    assert result["outdated_roles"] == ["app_user"]
    assert result["msg"] == (
        "database 'second': rights by default on tables of app_migrator in app: not today;"
        " nothing was changed there"
    )
    assert {item["database"] for item in result["statements"]} == {"", "first"}
    schemas = "SELECT 1 FROM pg_namespace WHERE nspname = 'app'"
    assert len(clean_server.sql(schemas, "first")) == 1
    assert clean_server.sql(schemas, "second") == []
    clean_server.sql("DROP EVENT TRIGGER refuse", "second")
    again = run_module("postgres_access", {**clean_server.login, "databases": databases})
    assert {item["database"] for item in again["statements"]} == {"second"}
    assert again["outdated_roles"] == []


def test_roles_that_a_failure_left_as_they_were_are_not_outdated(clean_server, run_module):
    run_module("postgres_access", {**clean_server.login, "databases": model()})
    databases = model()
    databases[0]["roles"][0]["settings"] = {"statement_timeout": "10s"}
    # Members of each other: the server refuses it after the setting, in the same transaction.
    databases[0]["roles"][1]["member_of"] = ["app_user"]
    databases[0]["roles"][0]["member_of"] = ["app_reader"]
    result = run_module("postgres_access", {**clean_server.login, "databases": databases})
    assert result["failed"]
    assert "member" in result["msg"]
    assert not result["changed"]
    assert result["outdated_roles"] == []
    setting = clean_server.sql("SHOW statement_timeout", "mydb", "app_user")
    assert setting == [("30s",)]


@pytest.mark.parametrize("exclusive", [True, False])
def test_expired_roles_are_let_in_again(clean_server, settled, exclusive):
    settled(model())
    clean_server.sql("SET timezone = 'UTC'; ALTER ROLE app_user VALID UNTIL '2020-02-03 04:05'")
    clean_server.sql("ALTER ROLE app_admin VALID UNTIL '2999-01-01 00:00:00 UTC' CREATEDB")
    clean_server.sql("ALTER ROLE app_reader VALID UNTIL 'infinity'")
    clean_server.sql("ALTER ROLE app_migrator VALID UNTIL '-infinity'")
    assert not clean_server.can_log_in("app_user", "user's secret", "mydb")
    result = settled(model(), exclusive=exclusive)
    assert statements(result) == [
        "ALTER ROLE app_user VALID UNTIL 'infinity'",
        "ALTER ROLE app_migrator VALID UNTIL 'infinity'",
        "ALTER ROLE app_admin NOCREATEDB VALID UNTIL 'infinity'",
    ]
    assert result["diff"]["before"] == (
        "role app_admin:\n"
        "  attributes: INHERIT CREATEDB LOGIN BYPASSRLS\n"
        '  valid until: "2999-01-01 00:00:00 UTC"\n'
        "role app_migrator:\n"
        '  valid until: "-infinity"\n'
        "role app_user:\n"
        '  valid until: "2020-02-03 04:05:00 UTC"\n'
    )
    assert result["diff"]["after"] == (
        "role app_admin:\n"
        "  attributes: INHERIT LOGIN BYPASSRLS\n"
        "  valid until: infinity\n"
        "role app_migrator:\n"
        "  valid until: infinity\n"
        "role app_user:\n"
        "  valid until: infinity\n"
    )
    assert clean_server.can_log_in("app_user", "user's secret", "mydb")


def lookup(server, name, dbname="mydb"):
    query = f"SELECT username, password FROM pgbouncer.get_auth('{name}')"
    return server.sql(query, dbname, POOLER)


def test_pooler_sees_who_may_log_in_and_nobody_else(clean_server, settled):
    clean_server.sql(
        "CREATE ROLE boss LOGIN SUPERUSER PASSWORD 'x'; CREATE ROLE group_only PASSWORD 'x';"
        " CREATE ROLE stranger LOGIN PASSWORD 'x'"
    )
    settled(model(), pooler_role=POOLER)
    ((name, verifier),) = lookup(clean_server, "app_user")
    assert name == "app_user"
    assert scram.password_matches("user's secret", verifier)
    for absent in ("nobody_there", "", "x" * 80):
        assert lookup(clean_server, absent) == []
    for hidden in ("boss", "group_only", "stranger", "postgres", POOLER):
        assert lookup(clean_server, hidden) == [(hidden, scram.UNMATCHABLE)]
    clean_server.sql("ALTER ROLE app_user VALID UNTIL '2001-01-01'")
    assert lookup(clean_server, "app_user") == [("app_user", scram.UNMATCHABLE)]
    clean_server.sql("ALTER ROLE app_user VALID UNTIL 'infinity'")
    assert lookup(clean_server, "app_user") == [("app_user", verifier)]
    for user in ("app_user", "app_migrator", "app_admin"):
        refusal = clean_server.refusal("SELECT pgbouncer.get_auth('x')", "mydb", user)
        assert refusal == PERMISSION_DENIED
    for statement in ("CREATE TABLE public.t ()", "CREATE TABLE pgbouncer.t ()", "TABLE pg_authid"):
        writing = f"SET TRANSACTION READ WRITE; {statement}"
        assert clean_server.refusal(writing, "mydb", POOLER) == PERMISSION_DENIED


POOLER_DRIFT = [
    "GRANT EXECUTE ON FUNCTION pgbouncer.get_auth(text) TO PUBLIC",
    "GRANT EXECUTE ON FUNCTION pgbouncer.get_auth(text) TO app_user",
    "REVOKE EXECUTE ON FUNCTION pgbouncer.get_auth(text) FROM pgbouncer_auth",
    "REVOKE USAGE ON SCHEMA pgbouncer FROM pgbouncer_auth",
    "ALTER FUNCTION pgbouncer.get_auth(text) SECURITY INVOKER",
    "ALTER FUNCTION pgbouncer.get_auth(text) RESET search_path",
    "ALTER FUNCTION pgbouncer.get_auth(text) OWNER TO app_migrator",
    "DROP FUNCTION pgbouncer.get_auth(text)",
    "DROP FUNCTION pgbouncer.get_auth(text); CREATE FUNCTION pgbouncer.get_auth(text)"
    " RETURNS SETOF text LANGUAGE sql AS 'SELECT $1'",
    "CREATE OR REPLACE FUNCTION pgbouncer.get_auth(p_usename text)"
    " RETURNS TABLE(username text, password text) LANGUAGE sql SECURITY DEFINER"
    " AS 'SELECT rolname::text, rolpassword FROM pg_authid'",
    "GRANT CREATE ON SCHEMA public TO pgbouncer_auth",
    "ALTER ROLE pgbouncer_auth SUPERUSER",
]


def test_pooler_function_is_mended(clean_server, settled, access):
    settled(model(), pooler_role=POOLER)
    for drift in POOLER_DRIFT:
        clean_server.sql(drift, "mydb")
        assert access(model(), check_too=False, pooler_role=POOLER)["changed"], drift
        again = access(model(), check_too=False, pooler_role=POOLER)
        assert statements(again) == [], drift
        assert len(lookup(clean_server, "app_user")) == 1
        refusal = clean_server.refusal("SELECT pgbouncer.get_auth('x')", "mydb", "app_user")
        assert refusal == PERMISSION_DENIED


def test_diff_says_what_changes_role_by_role(clean_server, settled):
    settled(model())
    clean_server.sql("CREATE TABLE t1 (i int); CREATE TABLE t2 (i int)", "mydb", "app_migrator")
    clean_server.sql("GRANT TRUNCATE ON t1 TO app_user", "mydb")
    clean_server.sql("ALTER ROLE app_user CREATEDB CONNECTION LIMIT 5 PASSWORD 'other'")
    clean_server.sql("ALTER ROLE app_user SET statement_timeout = '7s'")
    assert settled(model())["diff"] == {
        "before_header": "access as it is",
        "after_header": "access as the model says",
        "before": (
            "database mydb:\n"
            "  role app_user:\n"
            "    on tables in public:\n"
            "      t1: TRUNCATE\n"
            "role app_user:\n"
            "  attributes: INHERIT CREATEDB LOGIN\n"
            "  connection limit: 5\n"
            "  password: set\n"
            "  settings:\n"
            "    statement_timeout: 7s\n"
        ),
        "after": (
            "role app_user:\n"
            "  attributes: INHERIT LOGIN\n"
            "  connection limit: 20\n"
            "  password: changed\n"
            "  settings:\n"
            "    statement_timeout: 30s\n"
        ),
    }


def test_roles_with_new_settings_are_named(clean_server, settled):
    assert settled(model())["outdated_roles"] == []
    databases = model()
    databases[0]["roles"][0]["settings"] = {"statement_timeout": "10s"}
    assert settled(databases)["outdated_roles"] == ["app_user"]


def test_two_runs_at_once_both_end_well(clean_server, run_module):
    args = {**clean_server.login, "databases": model(), "pooler_role": POOLER}
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda _: run_module("postgres_access", args), range(2)))
    assert [result.get("msg") for result in results] == [None, None]
    assert sorted(result["changed"] for result in results) == [False, True]


def test_nobody_else_can_do_more_or_less(clean_server, settled):
    """What roles outside the model may do is the same before and after."""
    clean_server.sql(
        "CREATE ROLE legacy LOGIN; CREATE ROLE analysts; CREATE ROLE anna LOGIN;"
        " GRANT analysts TO anna"
    )
    clean_server.sql("CREATE DATABASE mydb OWNER legacy")
    clean_server.sql("CREATE DATABASE other")
    clean_server.sql(
        "CREATE TABLE of_legacy (i int); GRANT SELECT ON of_legacy TO analysts;"
        " CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE SCHEMA odd;"
        " GRANT CREATE, USAGE ON SCHEMA odd TO PUBLIC; GRANT USAGE ON SCHEMA odd TO anna",
        "mydb",
    )
    question = """
        SELECT r.rolname, has_database_privilege(r.oid, d.oid, p.p)
          FROM pg_roles r, pg_database d, unnest('{CONNECT,TEMPORARY,CREATE}'::text[]) p(p)
         WHERE r.rolcanlogin AND r.rolname IN ('legacy', 'anna')
         UNION ALL
        SELECT r.rolname, has_table_privilege(r.oid, 'of_legacy', 'SELECT')
          FROM pg_roles r WHERE r.rolname IN ('legacy', 'anna')
         UNION ALL
        SELECT r.rolname, has_schema_privilege(r.oid, n.oid, p.p)
          FROM pg_roles r, pg_namespace n, unnest('{USAGE,CREATE}'::text[]) p(p)
         WHERE r.rolname IN ('legacy', 'anna') AND n.nspname IN ('odd', 'public')
         ORDER BY 1, 2
    """
    clean_server.sql("SELECT 1", "mydb")
    before = clean_server.sql(question, "mydb")
    settled(model(schemas=["public", "odd"]), pooler_role=POOLER)
    assert clean_server.sql(question, "mydb") == before


def test_keywords_are_the_server_s(server):
    rows = server.sql("SELECT word FROM pg_get_keywords() WHERE catcode <> 'U'")
    assert {word for (word,) in rows} <= quoting.KEYWORDS
    names = [*HOSTILE, *sorted(quoting.KEYWORDS), "plain_1", "1digit", "_x", "public"]
    with server.connect() as connection:
        for name in names:
            (back,) = connection.execute(f"SELECT 1 AS {quoting.quote_ident(name)}").description
            assert back.name == name
            (value,) = connection.execute(
                f"SELECT {quoting.quote_literal(name)}".encode()
            ).fetchone()
            assert value == name


def test_psql_agrees(clean_server, settled):
    """The same through psql, as a person would look."""
    settled(model())
    psql = subprocess.run(
        [
            PSQL, "-XAt", "-h", clean_server.socket_directory,
            "-p", str(clean_server.port), "-U", "app_user", "-d", "mydb", "-v", "ON_ERROR_STOP=1",
            "-c", "SHOW statement_timeout", "-c", "SHOW jit",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert psql.stdout == "30s\noff\n"


def leaving(databases, heir=None):
    """The model with role C(former) going."""
    gone = {"name": "former", "state": "absent"}
    databases[0]["roles"].append(gone | ({"reassign_owned_to": heir} if heir else {}))
    return databases


FORMER = """
CREATE ROLE former LOGIN; CREATE ROLE friend;
GRANT CREATE, CONNECT ON DATABASE mydb TO former; GRANT friend TO former;
ALTER ROLE former IN DATABASE mydb SET work_mem = '1MB';
CREATE SCHEMA theirs AUTHORIZATION former;
GRANT CREATE, USAGE ON SCHEMA public TO former;
"""
BY_FORMER = """
CREATE TABLE orders (i serial); CREATE TABLE theirs.kept (i int); CREATE TYPE mood AS ENUM ('x');
GRANT SELECT ON orders TO app_user; INSERT INTO orders DEFAULT VALUES;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO app_user; SELECT lo_create(4711);
"""


def test_absent_role_tells_what_it_owns_and_stays_without_an_heir(clean_server, settled):
    settled(model())
    clean_server.sql(FORMER, "mydb")
    clean_server.sql(BY_FORMER, "mydb", "former")
    result = settled(leaving(model()))
    assert (
        "role 'former' must be absent, but stays until reassign_owned_to names the role that gets"
        " what it owns: in database 'mydb' it owns 1 large object(s) (4711), 1 schema(s) (theirs),"
        " 1 sequence(s) (public.orders_i_seq), 2 table(s) (public.orders, theirs.kept),"
        " 1 type(s) (public.mood) and has rights on 3 object(s)"
    ) in result["warnings"]
    assert clean_server.sql("SELECT 1 FROM pg_roles WHERE rolname = 'former'") == [(1,)]


def test_absent_role_with_an_heir_is_dropped_and_nothing_else(clean_server, settled):
    settled(model())
    clean_server.sql(FORMER, "mydb")
    clean_server.sql("ALTER DATABASE mydb OWNER TO former")
    clean_server.sql(BY_FORMER, "mydb", "former")
    result = settled(leaving(model(), "app_migrator"))
    assert statements(result)[:2] == [
        "REASSIGN OWNED BY former TO app_migrator",
        "DROP OWNED BY former",
    ]
    assert statements(result)[-1] == "DROP ROLE former"
    assert clean_server.sql("SELECT 1 FROM pg_roles WHERE rolname = 'former'") == []
    owners = "SELECT relowner::regrole::text FROM pg_class WHERE relname IN ('orders', 'kept')"
    assert set(clean_server.sql(owners, "mydb")) == {("app_migrator",)}
    assert clean_server.sql("SELECT count(*) FROM orders", "mydb", "app_user") == [(1,)]
    assert clean_server.refusal("INSERT INTO orders DEFAULT VALUES", "mydb", "app_user") == ""
    assert "former" in result["diff"]["before"]
    assert "owned by app_migrator" in result["diff"]["after"]
    # Gone is gone: also from the model's point of view.
    assert statements(settled(leaving(model()))) == []


# What stands against dropping a role: how it comes, in which database, how it goes, what is said.
OBSTACLES = [
    (
        "CREATE TABLE far (i int); ALTER TABLE far OWNER TO former",
        "other",
        "REASSIGN OWNED BY former TO postgres; DROP OWNED BY former",
        "it owns or has rights on 1 object(s) in database 'other', which is not in the model;"
        " run REASSIGN OWNED BY former and DROP OWNED BY former there first",
    ),
    (
        "GRANT TEMPORARY ON DATABASE other TO former",
        "other",
        "REVOKE TEMPORARY ON DATABASE other FROM former",
        "it owns or has rights on 1 object(s) in database 'other', which is not in the model;"
        " run REASSIGN OWNED BY former and DROP OWNED BY former there first",
    ),
    (
        "GRANT former TO friend",
        "mydb",
        "REVOKE former FROM friend",
        "'friend' would lose what it may do, as members of it; run REVOKE former FROM each of them"
        " first",
    ),
    (
        "CREATE POLICY his ON t TO former",
        "mydb",
        "DROP POLICY his ON t",
        "in database 'mydb', policy his on public.t is for it alone and would be dropped; run"
        " ALTER POLICY ... TO another role first",
    ),
    (
        "GRANT SELECT, TRIGGER ON t TO former WITH GRANT OPTION; SET ROLE former;"
        " GRANT SELECT ON t TO friend",
        "mydb",
        "REVOKE ALL ON t FROM former CASCADE",
        "in database 'mydb', others would lose what they have from it: SELECT on table public.t to"
        " friend; grant it to them as the owner, and revoke it from this role with CASCADE first",
    ),
    (
        "GRANT friend TO former WITH ADMIN OPTION; SET ROLE former; GRANT friend TO other_friend",
        "mydb",
        "REVOKE friend FROM former CASCADE",
        "'other_friend' would lose its membership in 'friend', which comes from it; run"
        " GRANT friend TO other_friend as another role first",
    ),
]


def test_absent_role_is_not_dropped_at_others_expense(clean_server, settled, run_module):
    settled(model())
    clean_server.sql("CREATE ROLE former LOGIN; CREATE ROLE friend; CREATE ROLE other_friend")
    clean_server.sql("CREATE DATABASE other")
    clean_server.sql("CREATE TABLE t (i int)", "mydb")
    args = {**clean_server.login, "databases": leaving(model(), "app_migrator")}
    for sql, place, undo, message in OBSTACLES:
        if "other_friend" in sql and clean_server.major < 16:
            continue  # Who granted a membership is only a note there.
        clean_server.sql(sql, place)
        for check in (True, False):
            result = run_module("postgres_access", args, check=check)
            assert result["failed"], sql
            assert result["msg"] == (f"pooled_databases: role 'former' can't be dropped: {message}")
            assert not result.get("changed")
        clean_server.sql(undo, place)
    clean_server.sql("GRANT CONNECT ON DATABASE mydb TO former")
    with clean_server.connect("mydb", "former"):
        result = run_module("postgres_access", args)
        assert result["msg"] == (
            "pooled_databases: role 'former' can't be dropped: it has sessions (1 in database"
            " 'mydb'); stop what logs in as it first"
        )
    assert statements(settled(leaving(model(), "app_migrator")))[-1] == "DROP ROLE former"


@pytest.mark.parametrize(
    ("heir", "message"),
    [
        ("nobody", "reassign_owned_to: there is no role 'nobody' on the server or in the model"),
        ("postgres", ""),
    ],
)
def test_heir_must_be_there(clean_server, settled, run_module, heir, message):
    settled(model())
    clean_server.sql("CREATE ROLE former LOGIN")
    args = {**clean_server.login, "databases": leaving(model(), heir)}
    result = run_module("postgres_access", args)
    assert result.get("msg", "") == (message and f"pooled_databases: role 'former': {message}")


def test_a_superuser_inherits_no_code(clean_server, settled, run_module):
    settled(model())
    clean_server.sql(FORMER, "mydb")
    clean_server.sql(BY_FORMER, "mydb", "former")
    args = {**clean_server.login, "databases": leaving(model(), "postgres")}
    owned = "SELECT count(*) FROM pg_class WHERE relowner = 'former'::regrole"
    before = clean_server.sql(owned, "mydb")
    result = run_module("postgres_access", args)
    assert result["msg"].startswith(
        "pooled_databases: role 'former': reassign_owned_to names superuser 'postgres', with whose"
        " rights the functions"
    )
    assert clean_server.sql(owned, "mydb") == before != [(0,)]


# Roles outside the model that may do something in hard ways: what makes them, and who of them is
# named as needing which right of PUBLIC's.
HARD_CASES = [
    (
        "login by way of a group that has the rights",
        "CREATE ROLE grp; CREATE ROLE anna LOGIN IN ROLE grp;"
        " GRANT CONNECT, TEMPORARY ON DATABASE mydb TO grp; GRANT CREATE ON SCHEMA public TO grp",
        {},
    ),
    (
        "login that inherits nothing from that group",
        "CREATE ROLE grp; CREATE ROLE anna LOGIN NOINHERIT IN ROLE grp;"
        " GRANT CONNECT, TEMPORARY ON DATABASE mydb TO grp; GRANT CREATE ON SCHEMA public TO grp",
        {"CONNECT": "'anna'", "TEMPORARY": "'anna'", "CREATE": "'anna'"},
    ),
    (
        "group without rights that a login with rights becomes",
        "CREATE ROLE grp; CREATE ROLE anna LOGIN NOINHERIT IN ROLE grp;"
        " GRANT CONNECT, TEMPORARY ON DATABASE mydb TO anna;"
        " GRANT CREATE ON SCHEMA public TO anna",
        {"TEMPORARY": "'grp'", "CREATE": "'grp'"},
    ),
    (
        "group whose only login can't connect",
        "CREATE ROLE grp; CREATE ROLE anna LOGIN IN ROLE grp;"
        " REVOKE CONNECT ON DATABASE mydb FROM PUBLIC",
        {},
    ),
    (
        "group that nobody is in",
        "CREATE ROLE grp",
        {},
    ),
    (
        "member of a model's role by way of a group that the run takes from it",
        "CREATE ROLE lender; CREATE ROLE app_user LOGIN IN ROLE lender;"
        " CREATE ROLE anna LOGIN IN ROLE app_user;"
        " GRANT TEMPORARY ON DATABASE mydb TO lender; GRANT CREATE ON SCHEMA public TO lender",
        {"TEMPORARY": "'anna'", "CREATE": "'anna'"},
    ),
    (
        "owner of the database",
        "CREATE ROLE anna LOGIN; ALTER DATABASE mydb OWNER TO anna;"
        " ALTER SCHEMA public OWNER TO anna",
        {},
    ),
    (
        "member of the owner",
        "CREATE ROLE boss; CREATE ROLE anna LOGIN IN ROLE boss; ALTER DATABASE mydb OWNER TO boss;"
        " ALTER SCHEMA public OWNER TO boss",
        {},
    ),
    (
        "member of the owner that inherits nothing",
        "CREATE ROLE boss; CREATE ROLE anna LOGIN NOINHERIT IN ROLE boss;"
        " ALTER DATABASE mydb OWNER TO boss; ALTER SCHEMA public OWNER TO boss",
        {"CONNECT": "'anna'", "TEMPORARY": "'anna'", "CREATE": "'anna'"},
    ),
    (
        "superuser",
        "CREATE ROLE anna LOGIN SUPERUSER",
        {},
    ),
]
EFFECTIVE = """
SELECT r.rolname, p.p,
       CASE p.p WHEN 'CREATE' THEN has_schema_privilege(r.oid, 'public', 'CREATE')
                ELSE has_database_privilege(r.oid, 'mydb', p.p) END AND
       (r.rolname <> 'anna' OR has_database_privilege(r.oid, 'mydb', 'CONNECT'))
  FROM pg_roles r, unnest('{CONNECT,TEMPORARY,CREATE}'::text[]) p(p)
 WHERE r.rolname IN ('anna', 'boss') OR r.rolname = 'grp' AND p.p <> 'CONNECT' AND EXISTS (
         SELECT FROM pg_auth_members m WHERE m.roleid = r.oid
            AND has_database_privilege(m.member, 'mydb', 'CONNECT'))
 ORDER BY 1, 2
"""


@pytest.mark.parametrize(
    ("before", "kept"), [case[1:] for case in HARD_CASES], ids=[case[0] for case in HARD_CASES]
)
def test_public_s_rights_stay_for_whoever_has_them_in_no_other_way(
    clean_server, settled, before, kept
):
    clean_server.sql("CREATE DATABASE mydb")
    clean_server.sql("GRANT CREATE ON SCHEMA public TO PUBLIC", "mydb")
    clean_server.sql(before, "mydb")
    could = clean_server.sql(EFFECTIVE, "mydb")
    result = settled(model())
    assert clean_server.sql(EFFECTIVE, "mydb") == could
    named = {
        text.split("PUBLIC keeps ")[1].split(" ")[0]: text.split("only that way: ")[1].split(";")[0]
        for text in result.get("warnings", ())
        if "PUBLIC keeps" in text
    }
    assert named == kept
    gone = {"CONNECT", "TEMPORARY", "CREATE"} - set(kept)
    taken = " ".join(text for text in statements(result) if text.endswith("FROM PUBLIC"))
    if "REVOKE CONNECT" in before:
        gone.discard("CONNECT")
    assert [privilege for privilege in sorted(gone) if privilege not in taken] == []


def test_large_objects_of_migrators_are_shared(clean_server, settled):
    settled(model())
    clean_server.sql("SELECT lo_create(101), lo_create(102)", "mydb", "app_migrator")
    clean_server.sql("SELECT lo_create(201)", "mydb", "app_user")
    clean_server.sql("SELECT lo_create(301)", "mydb")
    clean_server.sql("GRANT UPDATE ON LARGE OBJECT 101, 301 TO app_reader", "mydb")
    revoked = "REVOKE UPDATE ON LARGE OBJECT 101, 301 FROM app_reader"
    expected = [revoked]
    if clean_server.major < 18:  # Before, there were no default privileges for them.
        expected = [
            "GRANT SELECT, UPDATE ON LARGE OBJECT 101, 102 TO app_user, app_admin",
            "GRANT SELECT ON LARGE OBJECT 101, 102 TO app_reader",
            revoked,
        ]
    assert sorted(statements(settled(model()))) == sorted(expected)
    read, write = "SELECT lo_get(101)", "SELECT lo_put(101, 0, 'x')"
    for user in ("app_user", "app_admin"):
        assert clean_server.refusal(read, "mydb", user) == ""
        assert clean_server.refusal(write, "mydb", user) == ""
    # The functions themselves are everybody's.
    assert clean_server.refusal(read, "mydb", "app_reader") == ""
    assert clean_server.refusal(write, "mydb", "app_reader") == PERMISSION_DENIED
    for other in (201, 301):
        refusal = clean_server.refusal(f"SELECT lo_get({other})", "mydb", "app_reader")
        assert refusal == PERMISSION_DENIED


def test_statements_about_many_objects_stay_short(clean_server, settled):
    settled(model())
    clean_server.sql(
        "DO $$BEGIN FOR i IN 1..3000 LOOP EXECUTE format('CREATE TYPE t%s AS ENUM ()', i);"
        " END LOOP; END$$",
        "mydb",
    )
    result = settled(model())
    (item,) = result["statements"]
    assert item["objects"] == 3000
    assert item["statement"].endswith("public.t1015 /* and 2980 more */ TO app_user, app_admin")
    assert len(str(result["diff"])) < 1000
    held = "SELECT count(*) FROM pg_type WHERE typname ~ '^t[0-9]' AND typacl::text ~ 'app_user=U'"
    assert clean_server.sql(held, "mydb") == [(3000,)]


# What outside the model defeats it: how it comes about in database mydb, and what is said of it.
REPORTED = [
    (
        "CREATE ROLE app_owner; GRANT CREATE, USAGE ON SCHEMA public TO app_owner;"
        " GRANT app_owner TO app_migrator; SET ROLE app_owner; CREATE TABLE of_owner (i int)",
        {"member_of": ["app_owner"]},
        [
            "database 'mydb', schema 'public': 1 table(s) belong to 'app_owner', no migrator of the"
            " model (of_owner): 'app_migrator' may alter them only as a member of 'app_owner'; fix"
            " it with ALTER TABLE ... OWNER TO app_migrator",
            "database 'mydb': 'app_owner' may create objects in 'public', also through SET ROLE of"
            " 'app_migrator', and its default privileges do not give 'app_user', 'app_reader',"
            " 'app_admin' their rights on them: they get them with the next run only; let a"
            " migrator create them, or run ALTER DEFAULT PRIVILEGES FOR ROLE app_owner IN SCHEMA"
            " public GRANT ...",
        ],
    ),
    (
        "CREATE SCHEMA later AUTHORIZATION app_migrator; SET ROLE app_migrator;"
        " CREATE TABLE later.t (i int)",
        {},
        [
            "database 'mydb': schema 'later' of 'app_migrator' with 1 table(s) of migrators is not"
            " in the model, so the model's roles get no rights there; add it to schemas if they"
            " must have rights there"
        ],
    ),
    (
        "CREATE SCHEMA old; CREATE TABLE old.a (i int); CREATE TABLE old.b (i int);"
        " GRANT USAGE ON SCHEMA old TO app_reader; GRANT ALL ON ALL TABLES IN SCHEMA old TO"
        " app_user; GRANT UPDATE (i) ON old.a TO app_reader;"
        " GRANT SELECT ON pg_authid TO app_user;"
        " CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
        " GRANT USAGE ON FOREIGN SERVER s TO app_reader, app_migrator",
        {},
        [
            "database 'mydb': roles of the model have rights outside its schemas, which stay as"
            " they are: 'app_reader' has UPDATE on 1 columns in old (a.i) and USAGE on foreign"
            " server s and USAGE on schema old; 'app_user' has {all} on 2 tables in old (a, b) and"
            " SELECT on 1 tables in pg_catalog (pg_authid)"
        ],
    ),
    (
        "CREATE ROLE old_user; CREATE ROLE legacy; CREATE SCHEMA s;"
        " ALTER DEFAULT PRIVILEGES FOR ROLE app_migrator IN SCHEMA s"
        " GRANT SELECT ON TABLES TO old_user, PUBLIC;"
        " ALTER DEFAULT PRIVILEGES FOR ROLE legacy GRANT SELECT, INSERT ON TABLES TO app_reader,"
        " PUBLIC",
        {},
        [
            "database 'mydb': default privileges of 'app_migrator' give PUBLIC SELECT on tables in"
            " s, which the model does not, and they stay as they are; fix it with ALTER DEFAULT"
            " PRIVILEGES FOR ROLE app_migrator ... REVOKE",
            "database 'mydb': default privileges of 'app_migrator' give 'old_user' SELECT on tables"
            " in s, which the model does not, and they stay as they are; fix it with ALTER DEFAULT"
            " PRIVILEGES FOR ROLE app_migrator ... REVOKE",
            "database 'mydb': default privileges of 'legacy', which is not in the model, give"
            " PUBLIC more than the model does: INSERT on tables; fix it with ALTER DEFAULT"
            " PRIVILEGES FOR ROLE legacy ... REVOKE",
            "database 'mydb': default privileges of 'legacy', which is not in the model, give"
            " 'app_reader' more than its kind: INSERT on tables; fix it with ALTER DEFAULT"
            " PRIVILEGES FOR ROLE legacy ... REVOKE",
        ],
    ),
    (
        "SET ROLE app_migrator;"
        " CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';"
        " GRANT EXECUTE ON FUNCTION f() TO PUBLIC",
        {},
        [
            "database 'mydb': 1 SECURITY DEFINER routine(s) may be executed by PUBLIC (public.f),"
            " so 'app_reader' may do through them what their owners may; fix it with"
            " REVOKE EXECUTE ... FROM PUBLIC, once nobody else needs it",
        ],
    ),
    (
        "CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 1';"
        " ALTER FUNCTION g() OWNER TO app_user; CREATE TYPE e AS ENUM ();"
        " ALTER TYPE e OWNER TO app_reader; ALTER SCHEMA public OWNER TO app_user",
        {},
        [
            "database 'mydb': schema 'public' belongs to role 'app_user' of kind user, which may"
            " therefore create in it and drop it; fix it with ALTER SCHEMA public OWNER TO"
            " app_migrator",
            "database 'mydb', schema 'public': 1 of the routines belong to role 'app_user' of kind"
            " user (g), which may therefore alter them; fix it with ALTER ROUTINE ... OWNER TO"
            " app_migrator",
            "database 'mydb', schema 'public': 1 of the types belong to role 'app_reader' of kind"
            " reader (e), which may therefore alter them; fix it with ALTER TYPE ... OWNER TO"
            " app_migrator",
        ],
    ),
    (
        "CREATE ROLE boss SUPERUSER; CREATE ROLE grp IN ROLE boss",
        {"member_of": ["grp", "pg_execute_server_program"]},
        [
            "role 'app_migrator' of kind migrator is a member of 'boss', directly or through other"
            " roles, and so may become a superuser; take it out of member_of unless that is meant",
            "role 'app_migrator' of kind migrator is a member of 'pg_execute_server_program',"
            " directly or through other roles, and so may run programs on the server's host; take"
            " it out of member_of unless that is meant",
        ],
    ),
    (
        "GRANT CREATE ON TABLESPACE pg_default TO app_user;"
        " CREATE ROLE anna LOGIN IN ROLE app_user; CREATE TABLE t (i int);"
        " GRANT TRUNCATE ON t TO app_user",
        {},
        [
            "database 'mydb', schema 'public': 1 table(s) belong to 'postgres', no migrator of the"
            " model (t): 'app_migrator' can't alter them; fix it with ALTER TABLE ... OWNER TO"
            " app_migrator",
            "roles of the model have rights on what is the whole server's, which stay as they are:"
            " 'app_user' has CREATE on tablespace pg_default",
            "'anna' outside the model has, as a member, the rights of role 'app_user', and loses"
            " with it those that go beyond its kind",
        ],
    ),
]


@pytest.mark.parametrize(("before", "migrator", "warnings"), REPORTED)
def test_what_defeats_the_model_is_told_and_left(clean_server, settled, before, migrator, warnings):
    settled(model())
    clean_server.sql(before, "mydb")
    databases = model()
    databases[0]["roles"][2] |= migrator
    everything = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"
    everything += ", MAINTAIN" if clean_server.major >= 17 else ""
    result = settled(databases)
    assert result["warnings"] == [text.replace("{all}", everything) for text in warnings]
    clean_server.sql("REVOKE ALL ON TABLESPACE pg_default FROM app_user")


def test_many_schemas_outside_the_model_are_one_warning(clean_server, settled):
    settled(model())
    clean_server.sql(
        "DO $$ BEGIN FOR i IN 1..200 LOOP EXECUTE format('CREATE SCHEMA tenant_%s', i); END LOOP;"
        " END $$; CREATE TABLE tenant_77.t (i int)",
        "mydb",
        "app_migrator",
    )
    assert settled(model())["warnings"] == [
        "database 'mydb': 200 schemas with 1 table(s) of migrators ('tenant_77', 'tenant_1',"
        " 'tenant_10', 'tenant_100', 'tenant_101' and 195 more) are not in the model, so the"
        " model's roles get no rights there; add them to schemas if they must have rights there"
    ]


def test_databases_and_parameters_outside_the_model_are_told(clean_server, settled):
    settled(model())
    clean_server.sql("CREATE DATABASE other")
    clean_server.sql("GRANT TEMPORARY ON DATABASE other TO app_user")
    clean_server.sql("CREATE TABLE t (i int); ALTER TABLE t OWNER TO app_user", "other")
    expected = [
        "database 'other' is not in the model, and roles of the model own or have rights there,"
        " which stay as they are: 'app_user' on 2 object(s)"
    ]
    if clean_server.major >= 15:
        clean_server.sql("GRANT SET ON PARAMETER log_statement TO app_reader")
        expected.insert(
            0,
            "roles of the model have rights on what is the whole server's, which stay as they are:"
            " 'app_reader' has SET on parameter log_statement",
        )
    result = settled(model())
    assert result["warnings"] == expected
    assert statements(result) == []


READS = r"(BEGIN\Z|COMMIT|ROLLBACK|SAVEPOINT|ROLLBACK TO SAVEPOINT|SELECT|WITH|SET client_enc)"


def test_check_mode_executes_nothing(clean_server, run_module):
    """All that the server hears, of a server with everything to be mended, is reading."""
    clean_server.sql("CREATE ROLE app_user LOGIN SUPERUSER; CREATE ROLE former")
    clean_server.sql("CREATE DATABASE mydb OWNER former")
    clean_server.sql("CREATE TABLE t (i int); GRANT SELECT ON t TO former", "mydb")
    args = {**clean_server.login, "databases": leaving(model(), "app_user"), "pooler_role": POOLER}
    heard = len(clean_server.log())
    predicted = run_module("postgres_access", args, check=True)
    log = clean_server.log()[heard:]
    assert "msg" not in predicted, predicted["msg"]
    assert len(predicted["statements"]) > 10
    said = re.findall(r"LOG:  statement:\s+(.*)", log)
    assert len(said) > 20
    assert [line for line in said if not re.match(READS, line)] == []
    # Of a session that is read-only from its start.
    assert "BEGIN" in said
    assert statements(run_module("postgres_access", args)) == statements(predicted)


def test_rights_that_a_model_s_role_passed_on_stay(clean_server, settled):
    settled(model())
    clean_server.sql(
        "CREATE TABLE t (i int); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "mydb",
        "app_migrator",
    )
    clean_server.sql("CREATE ROLE legacy; CREATE ROLE more", "mydb")
    clean_server.sql(
        "GRANT SELECT, TRUNCATE ON t TO app_user WITH GRANT OPTION;"
        " GRANT UPDATE (i) ON t TO app_reader WITH GRANT OPTION;"
        " GRANT CREATE ON SCHEMA public TO app_user WITH GRANT OPTION;"
        " GRANT TEMPORARY ON DATABASE mydb TO app_reader WITH GRANT OPTION;"
        " SET ROLE app_user; GRANT SELECT, TRUNCATE ON t TO legacy WITH GRANT OPTION;"
        " GRANT CREATE ON SCHEMA public TO legacy;"
        " SET ROLE app_reader; GRANT UPDATE (i) ON t TO legacy;"
        " GRANT TEMPORARY ON DATABASE mydb TO legacy;"
        " SET ROLE legacy; GRANT TRUNCATE ON t TO more, app_reader",
        "mydb",
    )
    question = """
        SELECT r.rolname, has_table_privilege(r.oid, 't', 'SELECT WITH GRANT OPTION'),
               has_table_privilege(r.oid, 't', 'TRUNCATE WITH GRANT OPTION'),
               has_table_privilege(r.oid, 't', 'TRUNCATE'),
               has_column_privilege(r.oid, 't', 'i', 'UPDATE'),
               has_schema_privilege(r.oid, 'public', 'CREATE'),
               has_database_privilege(r.oid, 'mydb', 'TEMPORARY')
          FROM pg_roles r WHERE r.rolname IN ('legacy', 'more') ORDER BY 1
    """
    before = clean_server.sql(question, "mydb")
    assert before == [
        ("legacy", True, True, True, True, True, True),
        ("more", False, False, True, False, False, False),
    ]
    settled(model())
    assert clean_server.sql(question, "mydb") == before
    assert clean_server.refusal("TRUNCATE t", "mydb", "app_user") == PERMISSION_DENIED
    assert clean_server.refusal("UPDATE t SET i = 1", "mydb", "app_reader") == PERMISSION_DENIED


# Rights, memberships and default privileges beyond a role's kind, of every kind of object.
BEYOND = """
GRANT CREATE, TEMPORARY ON DATABASE mydb TO app_user;
GRANT CREATE ON SCHEMA public TO app_reader WITH GRANT OPTION;
GRANT TRUNCATE ON t TO app_user; GRANT UPDATE (i) ON t TO app_reader;
GRANT TRIGGER ON v TO app_user; GRANT UPDATE ON SEQUENCE s TO app_reader;
GRANT EXECUTE ON FUNCTION f() TO app_reader; GRANT EXECUTE ON PROCEDURE p() TO app_reader;
GRANT USAGE ON TYPE e, d TO app_reader; GRANT UPDATE ON LARGE OBJECT 7 TO app_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE app_migrator IN SCHEMA public GRANT ALL ON TABLES TO app_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE app_migrator IN SCHEMA public GRANT ALL ON SEQUENCES TO app_user;
ALTER DEFAULT PRIVILEGES FOR ROLE app_migrator GRANT EXECUTE ON ROUTINES TO app_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE app_migrator GRANT USAGE ON TYPES TO app_reader;
GRANT pg_monitor TO app_reader; GRANT pg_signal_backend TO app_user WITH ADMIN OPTION;
"""


def test_not_exclusive_takes_nothing_away_of_any_kind(clean_server, settled):
    settled(model())
    clean_server.sql(
        "CREATE TABLE t (i int); CREATE VIEW v AS SELECT 1; CREATE SEQUENCE s; CREATE FUNCTION f()"
        " RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1';"
        " CREATE TYPE e AS ENUM (); CREATE DOMAIN d AS int; SELECT lo_create(7)",
        "mydb",
        "app_migrator",
    )
    settled(model())
    clean_server.sql(BEYOND, "mydb")
    assert statements(settled(model(), exclusive=False)) == []
    taken = statements(settled(model()))
    assert len(taken) == 15
    assert [text for text in taken if "REVOKE" not in text] == []


def test_membership_without_the_group_s_rights_is_mended(clean_server, settled):
    if clean_server.major < 16:
        return  # There a role inherits from all its groups or from none, which is an attribute.
    clean_server.sql("CREATE ROLE reports; CREATE ROLE app_user LOGIN")
    clean_server.sql("GRANT reports TO app_user WITH INHERIT FALSE")
    databases = model()
    databases[0]["roles"][0]["member_of"] = ["reports"]
    result = settled(databases)
    assert "GRANT reports TO app_user WITH INHERIT TRUE" in statements(result)
    assert "reports: member without its rights" in result["diff"]["before"]
    assert clean_server.sql("SELECT pg_has_role('app_user', 'reports', 'USAGE')") == [(True,)]
