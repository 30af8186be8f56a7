# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Extensions: their order, their schemas, and what a template brings."""

from __future__ import annotations

import pytest

from .test_postgres_access import PERMISSION_DENIED, model, statements

WHERE = "SELECT extname::text, extnamespace::regnamespace::text FROM pg_extension ORDER BY 1"
OWN = "pg_stat_statements"
OWN_SCHEMA = "pooled_extensions"


def extensions_of(server, dbname="mydb"):
    found = dict(server.sql(WHERE, dbname))
    assert found.pop("plpgsql") == "pg_catalog"
    return found


@pytest.mark.parametrize("listed", [["earthdistance", "cube"], ["cube", "earthdistance"]])
def test_an_extension_comes_after_those_that_it_requires(clean_server, settled, listed):
    result = settled(model(extensions=listed))
    created = [text for text in statements(result) if text.startswith("CREATE EXTENSION")]
    assert created == ["CREATE EXTENSION cube", "CREATE EXTENSION earthdistance"]
    assert extensions_of(clean_server) == {"cube": "public", "earthdistance": "public"}


def test_what_an_extension_requires_has_to_be_listed(fails):
    assert fails(model(extensions=["earthdistance"])) == (
        "pooled_databases: extension 'earthdistance' of database 'mydb' requires 'cube', which the"
        " database does not have, and nothing is created that the model does not list; add it to"
        " extensions"
    )


def test_what_is_there_need_not_be_listed(clean_server, settled):
    clean_server.sql("CREATE DATABASE mydb")
    clean_server.sql("CREATE SCHEMA geo; CREATE EXTENSION cube SCHEMA geo", "mydb")
    settled(model(extensions=["earthdistance"]))
    assert extensions_of(clean_server) == {"cube": "geo", "earthdistance": "public"}


def test_order_and_schemas_are_foreseen_before_there_is_a_server(clean_server, run_module, settled):
    listed = ["earthdistance", {"name": "cube"}, OWN, {"name": "hstore", "schema": "Ex t"}]
    assumed = run_module(
        "postgres_access",
        {
            "databases": model(extensions=listed),
            "login_unix_socket": "/nowhere",
            "assume_new": True,
            "assume_version": clean_server.major,
        },
        check=True,
    )
    result = settled(model(extensions=listed))
    assert assumed["statements"] == result["statements"]
    assert assumed["diff"] == result["diff"]


def test_an_extension_goes_to_the_schema_that_the_model_says(clean_server, settled):
    databases = model(extensions=[{"name": "hstore", "schema": "ext"}, "citext"])
    settled(databases)
    assert extensions_of(clean_server) == {"hstore": "ext", "citext": "public"}
    for role in ("app_user", "app_reader", "app_migrator", "app_admin"):
        use = "SELECT ext.exist('a=>1'::ext.hstore, 'a')"
        assert clean_server.refusal(use, "mydb", role) == "", role
        refusal = clean_server.refusal("CREATE TABLE ext.t (i int)", "mydb", role)
        assert refusal == PERMISSION_DENIED, role
    refusal = clean_server.refusal(
        "CREATE FUNCTION ext.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "mydb", "app_migrator"
    )
    assert refusal == PERMISSION_DENIED
    # It is no schema for the roles to work in: rights that are too much go, and no warning says
    # that it should be one.
    clean_server.sql("GRANT CREATE ON SCHEMA ext TO app_migrator, PUBLIC", "mydb")
    result = settled(databases)
    assert sorted(statements(result)) == [
        "REVOKE CREATE ON SCHEMA ext FROM PUBLIC",
        "REVOKE CREATE ON SCHEMA ext FROM app_migrator",
    ]
    assert "warnings" not in result or result["warnings"] == []


def test_an_extension_is_moved_only_when_the_model_says_where(clean_server, settled):
    settled(model(extensions=["hstore"]))
    clean_server.sql("CREATE SCHEMA elsewhere; ALTER EXTENSION hstore SET SCHEMA elsewhere", "mydb")
    assert statements(settled(model(extensions=["hstore"]))) == []
    result = settled(model(extensions=[{"name": "hstore", "schema": "public"}]))
    assert statements(result) == ["ALTER EXTENSION hstore SET SCHEMA public"]
    assert extensions_of(clean_server) == {"hstore": "public"}


def test_what_cannot_be_moved_is_refused(fails):
    assert fails(model(extensions=[{"name": "plpgsql", "schema": "ext"}])) == (
        "pooled_databases: extension 'plpgsql' of database 'mydb' is in schema 'pg_catalog' and"
        " can't be moved to 'ext'; leave its schema out, or give 'pg_catalog'"
    )


def test_the_collection_s_own_go_to_a_schema_where_nobody_else_creates(clean_server, settled):
    settled(model(extensions=[OWN]))
    assert extensions_of(clean_server) == {OWN: OWN_SCHEMA}
    found = clean_server.sql("SELECT count(*) FROM pg_views WHERE schemaname = 'public'", "mydb")
    assert found == [(0,)]
    for role in ("app_user", "app_migrator"):
        refusal = clean_server.refusal(f"CREATE TABLE {OWN_SCHEMA}.t (i int)", "mydb", role)
        assert refusal == PERMISSION_DENIED
    clean_server.sql("CREATE ROLE stranger")
    clean_server.sql(
        f"GRANT USAGE, CREATE ON SCHEMA {OWN_SCHEMA} TO stranger, app_migrator;"
        f" GRANT CREATE ON SCHEMA {OWN_SCHEMA} TO PUBLIC",
        "mydb",
    )
    # Whatever exclusive says.
    settled(model(extensions=[OWN]), exclusive=False)
    creates = f"SELECT has_schema_privilege('{{}}', '{OWN_SCHEMA}', '{{}}')"
    for role in ("stranger", "app_migrator"):
        assert clean_server.sql(creates.format(role, "CREATE"), "mydb") == [(False,)]
        assert clean_server.sql(creates.format(role, "USAGE"), "mydb") == [(True,)]


def test_where_the_collection_s_own_are_already_they_stay(clean_server, settled):
    clean_server.sql("CREATE DATABASE mydb")
    clean_server.sql(f"CREATE EXTENSION {OWN} SCHEMA public", "mydb")
    settled(model(extensions=[OWN]))
    assert extensions_of(clean_server) == {OWN: "public"}
    assert clean_server.sql(f"SELECT to_regnamespace('{OWN_SCHEMA}') IS NULL", "mydb") == [(True,)]
    told = [{"name": OWN, "schema": OWN_SCHEMA}]
    settled(model(extensions=told))
    assert extensions_of(clean_server) == {OWN: OWN_SCHEMA}


def test_a_schema_of_that_name_that_a_migrator_has_made_is_refused(
    clean_server, settled, run_module
):
    settled(model())
    clean_server.sql(f"CREATE SCHEMA {OWN_SCHEMA}", "mydb", "app_migrator")
    args = {**clean_server.login, "databases": model(extensions=[OWN])}
    for check in (True, False):
        result = run_module("postgres_access", args, check=check)
        assert result["msg"] == (
            f"database 'mydb': schema '{OWN_SCHEMA}' is where extensions of this collection's own"
            " are, but belongs to 'app_migrator', who may create in it; drop it, or run ALTER"
            f" SCHEMA {OWN_SCHEMA} OWNER TO postgres"
        )
        assert result["statements"] == []
    assert extensions_of(clean_server) == {}
    monitor = {**clean_server.login, "login_db": "mydb", "name": "watching"}
    result = run_module("postgres_monitor", monitor)
    assert f"schema '{OWN_SCHEMA}' is where extensions of this collection's own" in result["msg"]
    assert clean_server.sql("SELECT 1 FROM pg_roles WHERE rolname = 'watching'") == []


def test_the_exporter_s_extension_goes_there_too(clean_server, run_module):
    clean_server.sql("CREATE DATABASE mydb")
    monitor = {**clean_server.login, "login_db": "mydb", "name": "watching"}
    predicted = run_module("postgres_monitor", monitor, check=True)
    result = run_module("postgres_monitor", monitor)
    assert result["statements"] == predicted["statements"]
    assert result["extension_schemas"] == {OWN: OWN_SCHEMA}
    assert extensions_of(clean_server) == {OWN: OWN_SCHEMA}
    assert run_module("postgres_monitor", monitor)["statements"] == []
    usage = f"SELECT has_schema_privilege('watching', '{OWN_SCHEMA}', 'USAGE')"
    assert clean_server.sql(usage, "mydb") == [(True,)]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "UTF8"])
def test_a_new_database_is_planned_from_the_template_that_makes_it(
    major, make_cluster, run_module, encoding
):
    """With another encoding than UTF8 that is template0, whatever is in template1."""
    cluster = make_cluster(major, encoding)
    cluster.sql(
        "CREATE SCHEMA app; CREATE EXTENSION hstore; CREATE TABLE app.t (i int);"
        " REVOKE ALL ON SCHEMA public FROM PUBLIC",
        "template1",
    )
    databases = model(schemas=["app", "public"], extensions=["hstore"])
    args = {**cluster.login, "databases": databases}
    predicted = run_module("postgres_access", args, check=True)
    result = run_module("postgres_access", args)
    assert not result.get("failed"), result["msg"]
    assert predicted["statements"] == result["statements"]
    assert run_module("postgres_access", args)["statements"] == []
    assert extensions_of(cluster) == {"hstore": "public"}
    copied = cluster.sql("SELECT to_regclass('app.t') IS NOT NULL", "mydb") == [(True,)]
    assert copied == (encoding == "UTF8")
    encodings = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'mydb'"
    assert cluster.sql(encodings, "mydb") == [("UTF8",)]
    assert cluster.refusal("CREATE TABLE app.mine (i int)", "mydb", "app_migrator") == ""
    assert cluster.refusal("SELECT * FROM app.mine", "mydb", "app_user") == ""
    cluster.stop()


def test_a_locale_that_is_for_another_encoding_is_refused(major, make_cluster, run_module):
    """As of a server that was set up for ISO-8859-1; here there is no such locale."""
    cluster = make_cluster(major, "SQL_ASCII")
    cluster.sql("UPDATE pg_database SET datctype = 'de_DE.ISO-8859-1' WHERE datname = 'template0'")
    result = run_module("postgres_access", {**cluster.login, "databases": model()})
    assert result["msg"] == (
        "pooled_databases: database 'mydb' can't be created with encoding UTF8, because the"
        " server's locale 'de_DE.ISO-8859-1' is for another one; create it yourself with CREATE"
        " DATABASE mydb ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0"
    )
    assert cluster.sql("SELECT 1 FROM pg_roles WHERE rolname = 'app_user'") == []
    cluster.stop()


def test_a_login_that_is_no_superuser_gives_an_extension_its_schema(
    clean_server, run_module, settled
):
    """A trusted extension, as on managed services."""
    clean_server.sql("CREATE ROLE master LOGIN CREATEDB CREATEROLE BYPASSRLS")
    args = {
        **clean_server.login,
        "login_user": "master",
        "login_db": "postgres",
        "databases": [
            {
                "name": "mydb",
                "extensions": [{"name": "hstore", "schema": "ext"}],
                "roles": [{"name": "app_user", "kind": "user"}],
            }
        ],
    }
    result = run_module("postgres_access", args)
    assert "msg" not in result, result["msg"]
    assert run_module("postgres_access", args)["statements"] == []
    assert extensions_of(clean_server) == {"hstore": "ext"}
    assert clean_server.refusal("SELECT 'a=>1'::ext.hstore", "mydb", "app_user") == ""
    refusal = clean_server.refusal("CREATE TABLE ext.t (i int)", "mydb", "app_user")
    assert refusal == PERMISSION_DENIED
