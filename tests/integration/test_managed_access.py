# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access kept over TCP by a login that is not a superuser, as managed services give out.

The login of RDS, Cloud SQL and Azure is in effect CREATEROLE CREATEDB and a member of a few of the
server's own roles; whether it owns the database depends on who made it. What they patch beyond
that is not played here.
"""

from __future__ import annotations

import psycopg
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._access.plan import (
    delegated_login,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql import scram

MASTER = "master"
SECRET = "master's secret"
ADMIN_OPTION_MAJOR = 16
PUBLIC_SCHEMA_CLOSED_MAJOR = 15
ROLES = ("app_user", "app_reader", "app_migrator", "app_admin")

NO_BYPASSRLS = (
    "role 'app_admin' stays without BYPASSRLS, because 'master' may not give it: row-level security"
    " hides rows from this admin"
)
# Until 14 schema public is its maker's, not the database owner's.
PUBLIC_IS_NOT_OURS = (
    "database 'mydb', schema 'public' belongs to 'postgres', so 'master' may not change rights on"
    " it: PUBLIC keeps CREATE; fix it with ALTER SCHEMA public OWNER TO master"
)
MIGRATION = """
CREATE TABLE orders (id serial PRIMARY KEY, note text);
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42';
"""


def model(**more):
    return [
        {
            "name": "mydb",
            "roles": [
                {"name": "app_user", "kind": "user", "password": "user's", "connection_limit": 20},
                {"name": "app_reader", "kind": "reader", "password": "reader's"},
                {"name": "app_migrator", "kind": "migrator", "password": "migrator's"},
                {"name": "app_admin", "kind": "admin", "password": "admin's"},
            ],
            **more,
        }
    ]


def statements(result):
    return [item["statement"] for item in result["statements"]]


@pytest.fixture
def managed(clean_server):
    """A server that is looked after by a login without superuser."""
    clean_server.sql(f"CREATE ROLE {MASTER} LOGIN CREATEROLE CREATEDB PASSWORD 'x'")
    verifier = scram.make_verifier(SECRET)
    clean_server.sql(f"ALTER ROLE {MASTER} PASSWORD '{verifier}'; GRANT pg_monitor TO {MASTER}")
    return clean_server


@pytest.fixture
def run(managed, run_module):
    """Run the module over TCP as that login, in check mode and then for real, to the same end."""

    def run(databases, fails=False, check_too=True, **options):
        args = {
            "login_host": "127.0.0.1",
            "login_port": managed.port,
            "login_user": MASTER,
            "login_password": SECRET,
            "databases": databases,
            **options,
        }
        predicted = run_module("postgres_access", args, check=True) if check_too else None
        result = run_module("postgres_access", args)
        assert bool(result.get("failed")) == fails, result.get("msg")
        if predicted:
            for key in ("changed", "statements", "diff", "databases", "warnings", "msg"):
                assert predicted.get(key) == result.get(key), key
        return result

    return run


@pytest.fixture
def settled(run, managed):
    """Run, then again: the second run changes nothing, and no temporary membership is left."""

    def settle(databases, **options):
        before = memberships(managed)
        result = run(databases, **options)
        kept = {item for item in memberships(managed) if item not in before}
        # What CREATE ROLE itself gives from 16 on: the right to alter and grant, no right to use.
        automatic = {(role, "postgres", True) for role in ROLES}
        assert kept <= (automatic if managed.major >= ADMIN_OPTION_MAJOR else set())
        again = run(databases, **options)
        assert statements(again) == []
        assert not again["changed"]
        return result

    return settle


def memberships(server):
    query = (
        "SELECT roleid::regrole::text, grantor::regrole::text, admin_option FROM pg_auth_members"
        f" WHERE member = '{MASTER}'::regrole AND roleid::regrole::text <> 'pg_monitor'"
    )
    return set(server.sql(query))


def use(server, statement, user, dbname="mydb"):
    """SQLSTATE of what a role's statement ends in; empty when it succeeds."""
    return server.refusal(statement, dbname, user)


def assert_roles_work(server):
    assert use(server, "INSERT INTO orders (note) VALUES ('x')", "app_user") == ""
    assert use(server, "SELECT answer(), 'good'::mood", "app_user") == ""
    assert use(server, "TRUNCATE orders", "app_user") == "42501"
    assert use(server, "SELECT * FROM orders", "app_reader") == ""
    assert use(server, "DELETE FROM orders", "app_reader") == "42501"
    assert use(server, "UPDATE orders SET note = 'y'", "app_admin") == ""


def expected_warnings(server):
    closed = server.major >= PUBLIC_SCHEMA_CLOSED_MAJOR
    return [NO_BYPASSRLS] if closed else [NO_BYPASSRLS, PUBLIC_IS_NOT_OURS]


def test_it_makes_all_it_may_and_names_the_rest(managed, settled, run):
    result = settled(model())
    assert result["warnings"] == expected_warnings(managed)
    managed.sql(MIGRATION, "mydb", "app_migrator")
    assert_roles_work(managed)
    for role in ROLES:
        assert managed.can_log_in(role, f"{role[4:]}'s", "mydb")
    granted = [text for text in statements(result) if "app_migrator TO master" in text]
    inherit = " WITH INHERIT TRUE" if managed.major >= ADMIN_OPTION_MAJOR else ""
    assert granted == [f"GRANT app_migrator TO master{inherit}"]
    assert statements(result)[-1] == "REVOKE app_migrator FROM master"
    # The second run, too, needs the migrator's rights to mend what is the migrator's.
    managed.sql("REVOKE SELECT ON orders FROM app_user", "mydb", "app_migrator")
    mended = settled(model())
    assert statements(mended)[1:-1] == ["GRANT SELECT ON TABLE public.orders TO app_user"]
    assert_roles_work(managed)


def test_objects_that_were_there_before(managed, settled):
    managed.sql("CREATE ROLE app_migrator LOGIN", user=MASTER)
    managed.sql("CREATE DATABASE mydb", user=MASTER)
    managed.sql("GRANT CREATE ON DATABASE mydb TO app_migrator", user=MASTER)
    managed.sql("GRANT CREATE ON SCHEMA public TO app_migrator", "mydb")
    managed.sql(MIGRATION, "mydb", "app_migrator")
    managed.sql("CREATE SCHEMA later; CREATE TABLE later.t (i int)", "mydb", "app_migrator")
    managed.sql("CREATE TABLE foreigner (i int); CREATE VIEW alien AS SELECT 1 AS i", "mydb")
    result = settled(model(schemas=["public", "later"]))
    assert_roles_work(managed)
    assert use(managed, "SELECT * FROM later.t", "app_reader") == ""
    assert use(managed, "SELECT * FROM foreigner", "app_user") == "42501"
    left = [text for text in result["warnings"] if "foreigner" in text and "get no" in text]
    assert left == [
        "database 'mydb', schema 'public': tables of 'postgres' (alien, foreigner), whose rights"
        " 'master' has not: 'app_reader' get no SELECT on them; fix it with ALTER ... OWNER TO a"
        " migrator",
        "database 'mydb', schema 'public': tables of 'postgres' (alien, foreigner), whose rights"
        " 'master' has not: 'app_user', 'app_admin' get no SELECT, INSERT, UPDATE, DELETE on them;"
        " fix it with ALTER ... OWNER TO a migrator",
    ]


def test_database_that_the_migrator_owns(managed, settled):
    managed.sql("CREATE ROLE app_migrator LOGIN", user=MASTER)
    managed.sql("CREATE DATABASE mydb OWNER app_migrator")
    settled(model())
    managed.sql(MIGRATION, "mydb", "app_migrator")
    assert_roles_work(managed)
    settled(model())


def test_database_of_somebody_else_is_refused_before_anything_changes(managed, run):
    managed.sql("CREATE DATABASE mydb")
    result = run(model(schemas=["public", "app"]), fails=True)
    assert not result["changed"]
    lines = result["msg"].splitlines()
    assert lines[0] == (
        "database 'mydb' belongs to 'postgres', so 'master' may not change rights on it:"
        " 'app_migrator' would lack CREATE; fix it with ALTER DATABASE mydb OWNER TO master"
    )
    assert lines[-1] == (
        "database 'mydb' has no schema 'app', and 'master' may not create it there; as 'postgres'"
        " run GRANT CREATE ON DATABASE mydb TO master"
    )
    assert managed.sql("SELECT 1 FROM pg_roles WHERE rolname LIKE 'app%'") == []
    # What the message says is what it takes.
    managed.sql("ALTER DATABASE mydb OWNER TO master")
    assert not run(model(schemas=["public", "app"])).get("failed")


def test_schema_of_somebody_else_is_refused_or_named(managed, run, settled):
    managed.sql("CREATE DATABASE mydb", user=MASTER)
    managed.sql("CREATE SCHEMA theirs", "mydb")
    result = run(model(schemas=["theirs"]), fails=True)
    assert not result["changed"]
    assert result["msg"] == (
        "database 'mydb', schema 'theirs' belongs to 'postgres', so 'master' may not change rights"
        " on it: 'app_migrator' would lack USAGE, CREATE;"
        " 'app_user', 'app_reader', 'app_admin' would lack USAGE;"
        " fix it with ALTER SCHEMA theirs OWNER TO master"
    )
    managed.sql("GRANT USAGE, CREATE ON SCHEMA theirs TO PUBLIC", "mydb")
    assert settled(model(schemas=["theirs"]))["warnings"] == [
        NO_BYPASSRLS,
        "database 'mydb', schema 'theirs' belongs to 'postgres', so 'master' may not change rights"
        " on it: PUBLIC keeps CREATE; fix it with ALTER SCHEMA theirs OWNER TO master",
    ]


def test_roles_of_somebody_else(managed, run, settled):
    managed.sql("CREATE ROLE app_user LOGIN PASSWORD 'x'; CREATE ROLE app_migrator LOGIN")
    if managed.major < ADMIN_OPTION_MAJOR:
        settled(model())
        return
    result = run(model(), fails=True)
    assert not result["changed"]
    lines = result["msg"].splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(
        "'master' may not do this with role 'app_user': ALTER ROLE app_user CONNECTION LIMIT 20;"
        " ALTER ROLE app_user SET idle_in_transaction_session_timeout = '60s'; "
    )
    assert lines[0].endswith(
        "ALTER ROLE app_user PASSWORD '********'. As a role that may, run GRANT app_user TO master"
        " WITH ADMIN OPTION"
    )
    assert "'app_migrator': ALTER ROLE app_migrator SET jit" in lines[1]
    assert lines[2] == (
        "database 'mydb': default privileges of migrator 'app_migrator' can't be set, because"
        " 'master' does not have its rights and can't grant them to itself; as a role that may, run"
        " GRANT app_migrator TO master"
    )
    assert managed.sql("SELECT 1 FROM pg_database WHERE datname = 'mydb'") == []
    managed.sql("GRANT app_user, app_migrator TO master WITH ADMIN OPTION")
    settled(model())


@pytest.mark.parametrize(
    ("drift", "words"),
    [("SUPERUSER", "SUPERUSER"), ("BYPASSRLS REPLICATION", "BYPASSRLS, REPLICATION")],
)
def test_attributes_that_it_may_not_take_away(managed, settled, run, drift, words):
    settled(model())
    managed.sql(f"ALTER ROLE app_user {drift}")
    result = run(model(), fails=True)
    assert result["msg"].splitlines()[0] == (
        f"role 'app_user' has {words}, which 'master' may not take away; as a superuser run"
        f" ALTER ROLE app_user {' '.join('NO' + word for word in words.split(', '))}"
    )
    assert not result["changed"]


def test_bypassrls_is_given_where_the_server_lets_it(managed, settled):
    managed.sql("ALTER ROLE master BYPASSRLS")
    result = settled(model())
    bypasses = managed.sql("SELECT rolbypassrls FROM pg_roles WHERE rolname = 'app_admin'")
    if managed.major >= ADMIN_OPTION_MAJOR:
        assert bypasses == [(True,)]
        assert "warnings" not in result
    else:
        assert bypasses == [(False,)]
        assert NO_BYPASSRLS in result["warnings"]


@pytest.mark.parametrize("word", ["CREATEROLE", "CREATEDB"])
def test_what_the_login_itself_lacks(managed, run, word):
    managed.sql(f"ALTER ROLE master NO{word}")
    result = run(model(), fails=True)
    expected = [f"there is no database 'mydb', and 'master' may not create it: no {word}"]
    if word == "CREATEROLE":
        expected = [
            f"there is no role {role!r}, and 'master' may not create it: no {word}"
            for role in ROLES
        ]
    assert result["msg"].splitlines()[: len(expected)] == expected
    assert not result["changed"]


def test_pooler_function_is_refused_with_the_way_there(run):
    result = run(model(), fails=True, pooler_role="pgbouncer_auth")
    assert result["msg"] == (
        "pooler_role: 'master' is not a superuser, so it can't make a function that reads"
        " verifiers;"
        " leave pooler_role empty and use pgbouncer_auth: userlist"
    )


def test_memberships_and_settings_of_somebody_else_stay_and_are_named(managed, settled):
    managed.sql("CREATE ROLE reports", user=MASTER)
    databases = model()
    databases[0]["roles"][0]["member_of"] = ["reports"]
    settled(databases)
    managed.sql("GRANT pg_monitor TO app_user; ALTER ROLE app_user SET log_statement = 'all'")
    managed.sql("ALTER ROLE app_user IN DATABASE mydb SET log_statement = 'ddl'")
    result = settled(databases)
    kept = [text for text in result["warnings"] if text.startswith("role 'app_user'")]
    resets = [
        f"role 'app_user' keeps log_statement = {value!r}, which 'master' may not reset; as a"
        f" superuser run ALTER ROLE app_user{inside} RESET log_statement"
        for value, inside in (("all", ""), ("ddl", " IN DATABASE mydb"))
    ]
    if managed.major >= ADMIN_OPTION_MAJOR:
        assert kept == [
            *resets,
            "role 'app_user' stays member of 'pg_monitor', because 'postgres' granted it and"
            " 'master' may not take it back",
        ]
    else:
        assert kept == resets
    # Wanted as it is, it needs nobody to set it.
    databases[0]["roles"][0]["settings"] = {"log_statement": "all"}
    settled(databases)


def test_group_that_it_may_not_grant_is_refused(managed, run, settled):
    databases = model()
    databases[0]["roles"][1]["member_of"] = ["pg_read_all_settings"]
    if managed.major < ADMIN_OPTION_MAJOR:
        settled(databases)
        return
    result = run(databases, fails=True)
    assert result["msg"] == (
        "'master' may not do this with role 'pg_read_all_settings': GRANT pg_read_all_settings TO"
        " app_reader. As a role that may, run GRANT pg_read_all_settings TO master WITH ADMIN"
        " OPTION"
    )
    assert not result["changed"]


def test_right_that_somebody_else_granted_stays_and_is_named(managed, settled):
    settled(model())
    managed.sql(MIGRATION, "mydb", "app_migrator")
    managed.sql("CREATE ROLE lender LOGIN")
    managed.sql("GRANT TRUNCATE ON orders TO lender WITH GRANT OPTION", "mydb", "app_migrator")
    managed.sql("GRANT CONNECT ON DATABASE mydb TO lender")
    managed.sql("GRANT TRUNCATE ON orders TO app_user", "mydb", "lender")
    if managed.major < ADMIN_OPTION_MAJOR:
        managed.sql("GRANT lender TO master")
        return
    result = settled(model())
    assert [text for text in result["warnings"] if "lender" in text] == [
        "database 'mydb': rights on tables in public: this stays undone, because 'lender' granted"
        " it and 'master' may not act for it: REVOKE TRUNCATE ON TABLE public.orders FROM app_user"
        " -- as lender"
    ]


def test_lending_restores_a_membership_that_was_there(managed, settled):
    if managed.major < ADMIN_OPTION_MAJOR:
        return
    settled(model())
    managed.sql("GRANT app_migrator TO master WITH INHERIT FALSE, SET TRUE", user=MASTER)
    query = (
        "SELECT grantor::regrole::text, admin_option, inherit_option, set_option"
        " FROM pg_auth_members WHERE member = 'master'::regrole"
        " AND roleid = 'app_migrator'::regrole ORDER BY 1"
    )
    before = managed.sql(query)
    managed.sql(MIGRATION, "mydb", "app_migrator")
    managed.sql("REVOKE SELECT ON orders FROM app_user", "mydb", "app_migrator")
    result = settled(model())
    assert statements(result) == [
        "GRANT app_migrator TO master WITH INHERIT TRUE",
        "GRANT SELECT ON TABLE public.orders TO app_user",
        "REVOKE INHERIT OPTION FOR app_migrator FROM master",
    ]
    assert managed.sql(query) == before


def test_member_with_rights_lends_itself_nothing(managed, run):
    if managed.major >= ADMIN_OPTION_MAJOR:
        managed.sql("ALTER ROLE master SET createrole_self_grant = 'set, inherit'")
    else:
        managed.sql("CREATE ROLE app_migrator LOGIN; GRANT app_migrator TO master")
    result = run(model())
    assert not [text for text in statements(result) if "app_migrator TO master" in text]
    before = memberships(managed)
    assert statements(run(model())) == []
    assert memberships(managed) == before


def test_what_the_server_does_not_do_is_a_failure(managed, run_module, monkeypatch):
    """Where foresight fails, the server's WARNING that it did nothing is no success."""
    managed.sql("CREATE DATABASE mydb")
    managed.sql("GRANT CREATE ON DATABASE mydb TO master")
    monkeypatch.setattr(delegated_login, "reaches", lambda *_: True)
    args = {
        "login_host": "127.0.0.1",
        "login_port": managed.port,
        "login_user": MASTER,
        "login_password": SECRET,
        "databases": [{"name": "mydb", "roles": [{"name": "app_user", "kind": "user"}]}],
    }
    monkeypatch.setattr(delegated_login, "with_temporary_membership", lambda changes, *_: changes)
    monkeypatch.setattr(delegated_login, "holds_rights_of", lambda *_: True)
    result = run_module("postgres_access", args)
    assert result["failed"]
    assert result["msg"] == (
        "database 'mydb': rights on the database: WARNING:  no privileges were granted for"
        ' "mydb"; nothing was changed there'
    )


def rotated(databases, role, password):
    return [
        {
            **databases[0],
            "roles": [
                {**item, "password": password} if item["name"] == role else item
                for item in databases[0]["roles"]
            ],
        }
    ]


@pytest.mark.parametrize("password", ["new", "it's \\ 100% \u00e4\u00aa\U0001f600"])
def test_rotation_without_reading_verifiers(managed, settled, password):
    settled(model())
    databases = rotated(model(), "app_user", password)
    result = settled(databases)
    assert statements(result) == ["ALTER ROLE app_user PASSWORD '********'"]
    assert "password: changed" in result["diff"]["after"]
    assert managed.can_log_in("app_user", password, "mydb")
    assert not managed.can_log_in("app_user", "user's", "mydb")


def test_password_is_compared_whatever_keeps_the_role_out(managed, settled):
    settled(model())
    managed.sql("ALTER ROLE app_user CONNECTION LIMIT 1")
    with managed.connect("mydb", "app_user"):
        # The password is right, and yet no login succeeds.
        result = settled(model(roles=[{**model()[0]["roles"][0], "connection_limit": 1}]))
    assert statements(result) == []
    assert "does not tell whether it differs" in " ".join(result["warnings"])


def test_verifier_that_cannot_be_tried_is_left_and_named(managed, settled):
    settled(model())
    databases = rotated(model(), "app_user", scram.make_verifier("other"))
    result = settled(databases)
    assert statements(result) == []
    assert (
        "the password of role 'app_user' is left as it is, because 'master' may not read what the"
        " server stores, and nobody can log in with a verifier to try it; give the plain text"
    ) in result["warnings"]


def test_server_that_asks_for_no_password_tells_nothing(managed, settled, run):
    settled(model())
    socket = {"login_host": "", **managed.login}
    result = run(rotated(model(), "app_user", "other"), **socket)
    assert statements(result) == []
    assert (
        "the password of role 'app_user' is left as it is, because 'master' may not read what the"
        " server stores, and logging in as 'app_user' from here does not tell whether it differs:"
        " the server must ask for a password over the module's connection"
    ) in result["warnings"]


def test_plain_passwords_stay_out_of_the_log(managed, settled):
    """The login may not switch logging off: what remains there are verifiers."""
    before = len(managed.log())
    settled(model())
    settled(rotated(model(), "app_user", "Rotated-Secret"))
    log = managed.log()[before:]
    assert "ALTER ROLE app_user PASSWORD 'SCRAM-SHA-256$" in log
    for secret in ("Rotated-Secret", "user''s", "user's", "admin's", SECRET):
        assert secret not in log
    if managed.major >= PUBLIC_SCHEMA_CLOSED_MAJOR:
        names = "log_statement, log_min_duration_statement, log_min_error_statement"
        managed.sql(f"GRANT SET ON PARAMETER {names}, log_min_duration_sample TO master")
        before = len(managed.log())
        settled(rotated(model(), "app_user", "Rotated-Again"))
        assert "SCRAM-SHA-256$" not in managed.log()[before:]
        with managed.connect() as connection:
            connection.execute(
                f"REVOKE SET ON PARAMETER {names}, log_min_duration_sample FROM master"
            )
    with pytest.raises(psycopg.OperationalError):
        managed.connect("mydb", "app_user", host="127.0.0.1", password="user's")
