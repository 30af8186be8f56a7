# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit against real servers, whose mistakes are made by hand and then undone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    processes,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql import scram

from . import raw_login
from .poolers import PASSWORD, ROLE, SERVICE

ROOT = Path(__file__).resolve().parents[2]
GIB = 1024**3
# A database as it should be, made without the collection.
GOOD = """
CREATE ROLE shop_migrator LOGIN;
CREATE ROLE shop_user LOGIN;
ALTER ROLE shop_user SET statement_timeout = '30s';
ALTER ROLE shop_user SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE shop_user SET lock_timeout = '5s';
CREATE DATABASE shop;
REVOKE ALL ON DATABASE shop FROM PUBLIC;
GRANT CONNECT ON DATABASE shop TO shop_user, shop_migrator;
"""
GOOD_INSIDE = """
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO shop_migrator;
GRANT USAGE ON SCHEMA public TO shop_user;
SET ROLE shop_migrator;
ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO shop_user;
CREATE TABLE orders (id int);
CREATE TABLE parts (id int);
CREATE TABLE persons (id int);
"""
GOOD_CONF = """
fsync = on
shared_buffers = 128MB
max_connections = 20
work_mem = 4MB
max_prepared_transactions = 0
listen_addresses = '127.0.0.1'
password_encryption = 'scram-sha-256'
shared_preload_libraries = ''
"""

# What makes each mistake, what undoes it, and what the finding says. A mistake may bring others.
MISTAKES = {
    "application-owns-tables": (
        "ALTER TABLE orders OWNER TO shop_user",
        "ALTER TABLE orders OWNER TO shop_migrator; GRANT ALL ON orders TO shop_user",
        "application role 'shop_user' owns 1 tables in 'shop'",
    ),
    "application-superuser": (
        "CREATE ROLE boss LOGIN SUPERUSER; ALTER TABLE parts OWNER TO boss",
        "ALTER TABLE parts OWNER TO shop_migrator; DROP ROLE boss",
        "'boss' is a superuser, and owns tables in 'shop'",
    ),
    "application-attributes": (
        "ALTER ROLE shop_user CREATEROLE BYPASSRLS",
        "ALTER ROLE shop_user NOCREATEROLE NOBYPASSRLS",
        "'shop_user' has CREATEROLE BYPASSRLS",
    ),
    "no-statement-timeout": (
        "ALTER ROLE shop_user RESET statement_timeout",
        "ALTER ROLE shop_user SET statement_timeout = '30s'",
        "sessions of 'shop_user' in shop start with statement_timeout = 0",
    ),
    "no-idle-transaction-timeout": (
        "ALTER ROLE shop_user IN DATABASE shop SET idle_in_transaction_session_timeout = 0",
        "ALTER ROLE shop_user IN DATABASE shop RESET ALL",
        "sessions of 'shop_user' in shop start with idle_in_transaction_session_timeout = 0",
    ),
    "no-lock-timeout": (
        "ALTER ROLE shop_user RESET lock_timeout",
        "ALTER ROLE shop_user SET lock_timeout = '5s'",
        "sessions of 'shop_user' in shop start with lock_timeout = 0",
    ),
    "default-privileges-missing": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE shop_migrator REVOKE SELECT ON TABLES FROM shop_user",
        "ALTER DEFAULT PRIVILEGES FOR ROLE shop_migrator GRANT SELECT ON TABLES TO shop_user",
        "tables that 'shop_migrator' creates in 'shop', schema 'public', are out of reach of"
        " 'shop_user'; it reads 3 of the 3 there are",
    ),
    "objects-unreachable": (
        "REVOKE SELECT ON orders FROM shop_user",
        "GRANT SELECT ON orders TO shop_user",
        "'shop_user' can't read 1 of 3 tables in 'shop', schema 'public': orders",
    ),
    "public-create": (
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        "in 'shop' PUBLIC may create objects in schema public",
    ),
    "public-connect": (
        "GRANT TEMPORARY ON DATABASE shop TO PUBLIC",
        "REVOKE TEMPORARY ON DATABASE shop FROM PUBLIC",
        "PUBLIC has TEMPORARY on database 'shop'",
    ),
    "public-tables": (
        "GRANT INSERT ON parts TO PUBLIC",
        "REVOKE INSERT ON parts FROM PUBLIC",
        "PUBLIC has rights on 1 tables in 'shop', schema 'public'",
    ),
    "md5-passwords": (
        "SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'x' IN ROLE pg_monitor",
        "DROP ROLE old",
        "md5 passwords are stored for old",
    ),
    "password-encryption-md5": (
        "ALTER SYSTEM SET password_encryption = 'md5'; SELECT pg_reload_conf()",
        "ALTER SYSTEM RESET password_encryption; SELECT pg_reload_conf()",
        "password_encryption is md5",
    ),
    "auto-conf-overrides": (
        "ALTER SYSTEM SET work_mem = '5MB'; SELECT pg_reload_conf()",
        "ALTER SYSTEM RESET work_mem; SELECT pg_reload_conf()",
        "postgresql.auto.conf sets work_mem = 5MB, over 4MB in {data}/postgresql.conf line {line}",
    ),
    "pending-restart": (
        "ALTER SYSTEM SET max_prepared_transactions = 7; SELECT pg_reload_conf()",
        "ALTER SYSTEM RESET max_prepared_transactions; SELECT pg_reload_conf()",
        "waiting for a restart: max_prepared_transactions",
    ),
    "durability-off": (
        "ALTER SYSTEM SET full_page_writes = off; SELECT pg_reload_conf()",
        "ALTER SYSTEM RESET full_page_writes; SELECT pg_reload_conf()",
        "full_page_writes is off",
    ),
    "autovacuum-off": (
        "ALTER SYSTEM SET autovacuum = off; SELECT pg_reload_conf()",
        "ALTER SYSTEM RESET autovacuum; SELECT pg_reload_conf()",
        "autovacuum is off",
    ),
    "memory-overcommitted": (
        "ALTER SYSTEM SET maintenance_work_mem = '1GB'; SELECT pg_reload_conf()",
        "ALTER SYSTEM RESET maintenance_work_mem; SELECT pg_reload_conf()",
        None,
    ),
    "unused-slot": (
        "SELECT pg_create_physical_replication_slot('left', true)",
        "SELECT pg_drop_replication_slot('left')",
        None,
    ),
    "invalid-index": (
        "CREATE INDEX broken ON parts (id);"
        " UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass",
        "DROP INDEX broken",
        "index public.broken in 'shop' is invalid",
    ),
}


# What a mistake brings with it.
COME_ALONG = {
    "password-encryption-md5": ["auto-conf-overrides"],
    "pending-restart": ["auto-conf-overrides"],
}


@pytest.fixture(scope="module")
def good(major, make_cluster):
    """A server with nothing wrong but what tests need: trust over the socket, no checksums."""
    cluster = make_cluster(major)
    with (cluster.data / "postgresql.conf").open("a") as conf:
        conf.write(GOOD_CONF)
    cluster.restart()
    for statement in GOOD.strip().splitlines():
        cluster.sql(statement)
    cluster.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    cluster.sql(GOOD_INSIDE, "shop")
    yield cluster
    cluster.stop()


@pytest.fixture
def look(good, run_module):
    def look(**options):
        arguments = {"databases": [], "resources": {"memory_bytes": 2 * GIB}, **options}
        result = run_module("postgres_audit_info", {**good.login, **arguments})
        assert not result.get("failed"), result["msg"]
        assert result["changed"] is False
        return result

    return look


def found(result):
    return {one["id"]: one["evidence"] for one in result["findings"]}


def test_default_privileges_for_everybody_are_seen(good, look):
    grant = "ALTER DEFAULT PRIVILEGES FOR ROLE shop_migrator IN SCHEMA public {} ALL ON TABLES {}"
    good.sql(grant.format("GRANT", "TO PUBLIC"), "shop")
    try:
        (seen,) = [one for one in look()["findings"] if one["id"] == "public-tables"]
    finally:
        good.sql(grant.format("REVOKE", "FROM PUBLIC"), "shop")
    assert seen["evidence"] == (
        "PUBLIC gets rights on all tables that 'shop_migrator' creates in 'shop', schema 'public'"
    )
    place, statement = seen["fix"].split(": ", 1)
    assert place == "in 'shop'"
    good.sql(grant.format("GRANT", "TO PUBLIC"), "shop")
    good.sql(statement, "shop")
    assert "public-tables" not in found(look())


def test_of_an_invalid_database_only_dropping_it_is_advised(good, look):
    """As an interrupted DROP DATABASE leaves it, with what else would be said of it."""
    good.sql('CREATE DATABASE "half gone"')
    good.sql('GRANT ALL ON DATABASE "half gone" TO PUBLIC')
    good.sql("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half gone'")
    try:
        result = look()
        about = [one for one in result["findings"] if "half gone" in str(one)]
        assert [(one["id"], one["fix"]) for one in about] == [
            ("invalid-database", 'DROP DATABASE "half gone";')
        ]
        assert "half gone" not in str(result["not_checked"])
    finally:
        good.sql('DROP DATABASE "half gone"')
    assert "invalid-database" not in found(look())


def eventually(look, wanted):
    """What is found, as soon as it is as wanted: a reload takes a moment."""
    for _attempt in range(600):
        seen = found(look())
        if wanted(set(seen)):
            break
        time.sleep(0.1)
    return seen


BASE = {"hba-trust", "no-checksums", "no-statement-statistics"}
BASE_18 = BASE - {"no-checksums"}


def base(cluster):
    return BASE_18 if cluster.major >= 18 else BASE


def test_a_good_server(good, look):
    result = look()
    assert set(found(result)) == base(good), result["lines"]
    assert {one["id"] for one in result["not_checked"]} == {
        "max-connections-too-low",
        "model-missing",
        "timeouts-not-pooled",
        "pooler-known-holes",
        "pooler-no-keepalives",
        "pooler-open",
        "pooler-listens-without-tls",
        "pooler-open-networks",
        "pooler-runs-as-superuser",
        "pooler-login-without-password",
        "pooler-lost-parameters",
        "pooler-clients-waiting",
    }
    assert result["server"]["pooler"] == ""
    assert result["memory"]["available_bytes"] == 2 * GIB
    assert result["summary"]["critical"] == 0


def test_the_maintenance_database_is_looked_into(good, look, run_module):
    """Where anybody may create in it, and where the model has it, though it is empty."""
    arguments = {**good.login, "databases": [{"name": "postgres", "roles": []}]}
    result = run_module("postgres_audit_info", arguments)
    assert "model-missing" not in found(result), result["lines"]
    good.sql("GRANT CREATE ON SCHEMA public TO PUBLIC")
    try:
        seen = found(look())
    finally:
        good.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    assert set(seen) - base(good) == {"public-create"}
    assert seen["public-create"] == "in 'postgres' PUBLIC may create objects in schema public"


@pytest.mark.parametrize("rule", MISTAKES)
def test_mistake_is_found_and_gone_when_undone(good, look, rule):
    mistake, undo, evidence = MISTAKES[rule]
    with good.connect("shop", application_name="psql") as connection:
        try:
            for statement in mistake.split("; "):
                connection.execute(statement)
            seen = eventually(look, lambda ids: rule in ids)
        finally:
            for statement in undo.split("; "):
                connection.execute(statement)
    assert set(seen) - base(good) == {rule, *COME_ALONG.get(rule, ())}
    if evidence:
        lines = (good.data / "postgresql.conf").read_text().splitlines()
        line = max(n for n, text in enumerate(lines, 1) if text.startswith("work_mem"))
        assert seen[rule] == evidence.format(data=good.data, line=line)
    assert set(eventually(look, lambda ids: ids == base(good))) == base(good)


POPULAR_CONF = """
fsync = on
shared_buffers = 128MB
max_connections = 100
listen_addresses = '*'
password_encryption = md5
"""
POPULAR_HBA = """\
local all all trust
host all all 0.0.0.0/0 md5
"""
# What is in a server that was set up as most roles and guides do it.
POPULAR = {
    "application-superuser": "'app' is a superuser, and is a role of the model, owns tables in"
    " 'mydb', api is connected as it",
    "application-owns-tables": "application role 'app' owns 1 tables in 'mydb'",
    "max-connections-too-low": "406 connections are needed by the pools, direct clients, monitoring"
    " and reserve, and max_connections is 100",
    "no-statement-timeout": "sessions of 'app' in mydb start with statement_timeout = 0",
    "no-idle-transaction-timeout": "sessions of 'app' in mydb start with"
    " idle_in_transaction_session_timeout = 0",
    "no-lock-timeout": "sessions of 'app' in mydb start with lock_timeout = 0",
    "no-keepalives": "tcp_keepalives_idle is 0: a client that vanished is noticed after the"
    " system's 2 hours",
    "shared-buffers-default": "shared_buffers is 128 MB of 16 GB of memory",
    "hba-trust": "line 1 of pg_hba.conf: local all all trust",
    "hba-weak-method": "line 2 of pg_hba.conf: host all all 0.0.0.0/0 md5",
    "superuser-remote": "line 2 of pg_hba.conf lets superuser app in from 0.0.0.0/0: host all all"
    " 0.0.0.0/0 md5",
    "md5-passwords": "md5 passwords are stored for app",
    "password-encryption-md5": "password_encryption is md5",
    "listens-without-tls": "listen_addresses is '*' and ssl is off",
    "long-idle-transaction": None,
    "public-connect": "PUBLIC has CONNECT, TEMPORARY on database 'mydb'",
    "no-statement-statistics": "shared_preload_libraries is ''",
}
FLEET = {"name": "api", "role": "app", "replicas": 5, "workers": 4, "pool_size": 10,
         "max_overflow": 10, "via": "direct"}  # fmt: skip
MODEL = [{"name": "mydb", "roles": [{"name": "app", "kind": "user"}], "clients": [FLEET]}]


def set_up(cluster, conf, hba=""):
    with (cluster.data / "postgresql.conf").open("a") as file:
        file.write(conf)
    if hba:
        (cluster.data / "pg_hba.conf").write_text(hba)
    cluster.restart()
    return cluster


def test_the_popular_way(major, make_cluster, run_module):
    cluster = set_up(make_cluster(major), POPULAR_CONF, POPULAR_HBA)
    cluster.sql("CREATE ROLE app LOGIN SUPERUSER PASSWORD 'secret'")
    cluster.sql("CREATE DATABASE mydb OWNER app")
    cluster.sql("CREATE TABLE orders (id int)", "mydb", "app")
    with cluster.connect(
        "mydb", "app", host="127.0.0.1", password="secret", application_name="api"
    ) as application:
        application.execute("BEGIN")
        result = run_module(
            "postgres_audit_info",
            {
                **cluster.login,
                "databases": MODEL,
                "resources": {"memory_bytes": 16 * GIB},
                "idle_transaction_seconds": 0,
            },
        )
    cluster.stop()
    more = {"public-create"} if major < 15 else set()
    more |= {"no-checksums"} if major < 18 else set()
    seen = found(result)
    assert set(seen) == set(POPULAR) | more, result["lines"]
    for rule, evidence in POPULAR.items():
        assert evidence in (None, seen[rule])
    assert "is idle in transaction for 0 s" in seen["long-idle-transaction"]
    assert result["sessions"] == [
        {"database": "mydb", "role": "app", "application": "api",
         "state": "idle in transaction", "count": 1}
    ]  # fmt: skip
    assert result["connections"]["needed"] == 406


def test_the_distributions_default(major, make_cluster, run_module):
    hba = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
    conf = "fsync = on\nshared_buffers = 128MB\nmax_connections = 100\n"
    cluster = set_up(make_cluster(major), conf, hba)
    result = run_module(
        "postgres_audit_info",
        {**cluster.login, "databases": [], "resources": {"memory_bytes": 16 * GIB}},
    )
    cluster.stop()
    expected = {"hba-trust", "shared-buffers-default", "no-statement-statistics"}
    # Also in postgres, where superusers log in.
    expected |= {"public-create"} if major < 15 else set()
    expected |= {"no-checksums"} if major < 18 else set()
    assert set(found(result)) == expected


def test_a_login_that_may_see_little(good, run_module):
    good.sql(f"CREATE ROLE visitor LOGIN PASSWORD '{scram.make_verifier('come-in')}'")
    try:
        result = run_module(
            "postgres_audit_info",
            {
                "login_host": "127.0.0.1",
                "login_port": good.port,
                "login_user": "visitor",
                "login_password": "come-in",
                "databases": [],
            },
        )
    finally:
        good.sql("DROP ROLE visitor")
    assert set(found(result)) == base(good) - {"hba-trust", "no-statement-statistics"}
    missed = {one["id"]: one["reason"] for one in result["not_checked"]}
    view = "permission denied for view"
    assert missed["hba-trust"] == f"{view} pg_hba_file_rules"
    assert missed["auto-conf-overrides"] == f"{view} pg_file_settings"
    assert missed["md5-passwords"] == "permission denied for table pg_authid"
    assert missed["long-idle-transaction"].endswith(
        "pg_read_all_stats can see other roles' sessions"
    )
    assert 'permission denied for database "shop"' in missed["invalid-index"]
    assert missed["no-lock-timeout"].startswith(
        "it can't be determined which roles are the application's: "
    )
    assert missed["no-statement-statistics"] == (
        "'visitor' may not see the setting shared_preload_libraries"
    )
    assert not set(missed) & set(result["checked"])


CATALOGS = ("pg_class", "pg_authid", "pg_database", "pg_proc", "pg_default_acl", "pg_namespace",
            "pg_db_role_setting", "pg_index", "pg_attribute")  # fmt: skip
WRITTEN = """
SELECT sum(tup_inserted + tup_updated + tup_deleted)::bigint
FROM pg_stat_database WHERE datname = 'shop'
"""


def state(cluster):
    """Everything that an audit must leave alone."""
    files = {
        path.name: path.read_bytes() for path in cluster.data.glob("*") if path.suffix == ".conf"
    }
    catalogs = {
        name: cluster.sql(
            f"SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM {name} t",
            "shop",
        )
        for name in CATALOGS
    }
    return files, catalogs, cluster.sql(WRITTEN)


def test_writes_nothing(good, look):
    before = state(good)
    start = len(good.log())
    look()
    logged = good.log()[start:]
    assert state(good) == before
    statements = [
        line.split("statement: ", 1)[1] for line in logged.splitlines() if "statement: " in line
    ]
    assert statements
    words = {statement.split()[0] for statement in statements if statement.strip()}
    assert words <= {"BEGIN", "SET", "SELECT", "WITH", "SAVEPOINT", "ROLLBACK"}
    # The sessions themselves are read-only, so no transaction says that it is not.
    begun = {statement for statement in statements if statement.startswith("BEGIN")}
    assert begun == {"BEGIN"}


def test_ten_thousand_tables(good, look):
    if good.major < 18:
        pytest.skip("the newest is enough: it takes the time to make the tables")
    good.sql("CREATE DATABASE many")
    good.sql(
        "DO $$ BEGIN FOR i IN 1..10000 LOOP"
        " EXECUTE format('CREATE TABLE t%s (id int)', i);"
        " EXECUTE format('GRANT SELECT ON t%s TO shop_user', i);"
        " IF i % 500 = 0 THEN COMMIT; END IF; END LOOP; END $$",
        "many",
    )
    good.sql("REVOKE SELECT ON t77 FROM shop_user", "many")
    try:
        result = look()
        seen = {one["object"]: one["evidence"] for one in result["findings"]}
        assert seen["many: shop_user"] == (
            "'shop_user' can't read 1 of 10000 tables in 'many', schema 'public': t77"
        )
        assert result["seconds"] < 10
    finally:
        good.sql("DROP DATABASE many")


def test_names_are_exact(good, look):
    name = 'o\'Neil "<b>" ; %s'
    quoted = '"' + name.replace('"', '""') + '"'
    with good.connect("shop", application_name="psql") as connection:
        for statement in (
            f"CREATE ROLE {quoted} LOGIN",
            f"CREATE SCHEMA {quoted}",
            f"CREATE TABLE {quoted}.{quoted} ()",
            f"ALTER TABLE {quoted}.{quoted} OWNER TO {quoted}",
        ):
            connection.execute(statement.encode())
        try:
            (owner,) = [one for one in look()["findings"] if one["id"] == "application-owns-tables"]
        finally:
            connection.execute(f"DROP OWNED BY {quoted}".encode())
            connection.execute(f"DROP SCHEMA {quoted}; DROP ROLE {quoted}".encode())
    assert owner["object"] == f"shop: {name}"
    assert owner["fix"].startswith(f"in 'shop': REASSIGN OWNED BY {quoted} TO")


def test_nobody_answers(good, run_module):
    nowhere = {**good.login, "login_port": 1, "databases": []}
    failed = run_module("postgres_audit_info", nowhere)
    assert failed["msg"].startswith("can't connect to the server: ")
    assert run_module("postgres_audit_info", {**nowhere, "assume_new": True})["failed"]
    foreseen = run_module("postgres_audit_info", {**nowhere, "assume_new": True}, check=True)
    assert (foreseen["available"], foreseen["findings"]) == (False, [])


@pytest.mark.parametrize(
    ("fail_on", "code"), [("none", 0), ("critical", 0), ("warning", 2), ("fatal", 2)]
)
def test_playbook(good, tmp_path, fail_on, code):
    if good.major < 18:
        pytest.skip("one server is enough for the playbook")
    inventory = tmp_path / "inventory.json"
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "audit_login_host": str(good.socket_directory),
        "audit_login_port": good.port,
        "audit_memory": "2GB",
        "audit_accepted": [{"id": "no-statement-statistics", "reason": "a test"}],
    }
    inventory.write_text(json.dumps({"postgres": {"hosts": {"db1": host}}}))
    report = tmp_path / "audit.html"
    asked = [f"audit_report={report}", f"audit_fail_on={fail_on}"]
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("-i", inventory, "pooled.postgres.audit"),
            *(word for one in asked for word in ("-e", one)),
        ],
        env={
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
            "ANSIBLE_HOME": str(ROOT / ".ansible" / "home"),
            "LC_ALL": "C.UTF-8",
            "PATH": "/usr/bin:/bin",
        },
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    if fail_on == "fatal":
        assert "audit_fail_on: fatal is not a valid severity; choose one of none, " in done.stdout
        return
    assert "db1: 2 warning; " in done.stdout
    assert "accepted: no-statement-statistics: shared_preload_libraries is" in done.stdout
    assert "hba-trust" in report.read_text()
    assert report.stat().st_mode & 0o777 == 0o600
    assert "changed=0" in done.stdout


class TestThroughThePool:
    """With a PgBouncer before the server."""

    @pytest.fixture
    def look(self, pooler, run_module):
        assert not pooler.configure().get("failed")
        pooler.cluster.sql("ALTER ROLE app_user SET jit = off")

        def look():
            result = run_module(
                "postgres_audit_info",
                {
                    **pooler.cluster.login,
                    "databases": [{"name": "mydb", "roles": [ROLE]}],
                    "pooler_port": pooler.port,
                    "pooler_unix_socket": str(pooler.home / "run"),
                    "pooler_os_user": pooler.cluster.os_user,
                },
            )
            assert not result.get("failed"), result["msg"]
            seen = found(result)
            result["pooled"] = {
                name: text
                for name, text in seen.items()
                if name.startswith("pooler-") or name == "timeouts-not-pooled"
            }
            return result

        return look

    def test_a_good_pooler(self, pooler, look):
        assert pooler.query("SHOW jit") == "off"
        result = look()
        assert result["pooled"] == {}
        missed = {one["id"] for one in result["not_checked"]}
        assert missed == {"shared-buffers-default", "memory-overcommitted"}
        assert result["server"]["pooler"]
        assert {"mydb"} <= {one["database"] for one in result["pools"]}

    def test_old_connections_keep_old_timeouts(self, pooler, look):
        assert pooler.query("SHOW statement_timeout") == "30s"
        pooler.cluster.sql("ALTER ROLE app_user SET statement_timeout = '10s'")
        try:
            assert look()["pooled"] == {
                "timeouts-not-pooled": "through the pool, for 'app_user' in 'mydb',"
                " statement_timeout is 30000 ms instead of 10000 ms"
            }
            with pooler.console() as console:
                console.execute("RECONNECT")
            assert look()["pooled"] == {}
        finally:
            pooler.cluster.sql("ALTER ROLE app_user SET statement_timeout = '30s'")

    @pytest.mark.parametrize(
        ("line", "rule"),
        [
            ("tcp_keepidle = 0", "pooler-no-keepalives"),
            ("auth_type = plain", "pooler-open"),
            ("ignore_startup_parameters = geqo,options", "pooler-lost-parameters"),
            ("auth_query = SELECT usename, passwd FROM pg_shadow WHERE usename=$1",
             "pooler-known-holes"),
        ],
    )  # fmt: skip
    def test_mistakes_in_its_file(self, pooler, look, line, rule):
        name = line.split(" = ")[0]
        lines = pooler.ini.read_text().splitlines()
        pooler.ini.write_text(
            "\n".join([one for one in lines if not one.startswith(f"{name} =")]).replace(
                "[pgbouncer]", f"[pgbouncer]\n{line}"
            )
            + "\n"
        )
        with pooler.console() as console:
            console.execute("RELOAD")
        assert set(look()["pooled"]) == {rule}

    @pytest.mark.pgbouncer(since=processes.SINCE)
    def test_all_its_processes_count(self, pooler, look):
        second = f"{SERVICE}-2"
        assert not pooler.configure(processes=2).get("failed")
        with ExitStack() as held:
            for directory, clients in (("run", 1), (f"run/{second}", 2)):
                for _client in range(clients):
                    connection = psycopg.connect(
                        host=str(pooler.home / directory), port=pooler.port, user="app_user",
                        password=PASSWORD, dbname="mydb", prepare_threshold=None,
                    )  # fmt: skip
                    held.enter_context(connection).execute("SELECT 1")
            result = look()
            (pool,) = [one for one in result["pools"] if one["user"] == "app_user"]
            assert (pool["database"], pool["clients"], pool["servers"]) == ("mydb", 3, 3)
        pooler.systemctl(f"stop {SERVICE}@2")
        missed = {one["id"]: one["reason"] for one in look()["not_checked"]}
        assert missed["pooler-open"].startswith(
            f"PgBouncer's console in {pooler.home}/run/{second}: "
        )

    def test_a_pooler_that_is_more_open_than_the_server(self, pooler, look):
        more = {"options": {"listen_addr": "*"}, "takeover": True}
        assert not pooler.configure(**more).get("failed")
        assert set(look()["pooled"]) == {"pooler-listens-without-tls", "pooler-open-networks"}
        pooler.configure(**more, client_networks=["10.0.0.0/8"])
        assert set(look()["pooled"]) == {"pooler-listens-without-tls"}
        rules = pooler.home / "etc" / "pooled_hba.conf"
        good = rules.read_text()
        rules.write_text(f"{good}host all all 0.0.0.0/0 trust\n")
        seen = look()["pooled"]
        assert "host all all 0.0.0.0/0 trust" in seen["pooler-open"]
        assert "accepts logins from every address" in seen["pooler-open-networks"]
        rules.unlink()
        missed = {one["id"]: one["reason"] for one in look()["not_checked"]}
        assert missed["pooler-open-networks"] == f"the rules in {rules} can't be read"

    @pytest.mark.parametrize(
        ("filter_", "listed", "since", "before"),
        [
            ("", False, (0,), (1000,)),
            # Its function answers with NULL, or with no row, for a role without a password.
            ("", True, (0,), (1, 23)),
            ("AND rolpassword IS NOT NULL", True, (1, 23), (1000,)),
        ],
        ids=["no secrets", "NULL", "no row"],
    )
    def test_logins_without_a_password(self, pooler, look, filter_, listed, since, before):
        if not listed:
            pooler.userlist.write_text("")
        else:
            pooler.cluster.sql("ALTER ROLE app_user PASSWORD NULL")
        definition = "SELECT pg_get_functiondef('pgbouncer.get_auth(text)'::regprocedure)"
        ((old,),) = pooler.cluster.sql(definition, "mydb")
        pooler.cluster.sql(old.replace("NOT rolsuper", f"NOT rolsuper {filter_}"), "mydb")
        pooler.systemctl(f"restart {SERVICE}")
        try:
            seen = {
                one["object"]
                for one in look()["findings"]
                if one["id"] == "pooler-login-without-password"
            }
            # The same through an independent client.
            taken = {
                name
                for name in ("pgbouncer", "pgbouncer_auth", "app_user", "ghost")
                for password in ("", "md5")
                if raw_login.login(("127.0.0.1", pooler.port), name, password, "mydb")
                != raw_login.REFUSED
            }
        finally:
            pooler.cluster.sql(old, "mydb")
            pooler.cluster.sql(f"ALTER ROLE app_user PASSWORD '{PASSWORD}'")
        is_open = since <= pooler.program.version < before
        assert seen == taken
        assert taken >= ({"app_user"} if listed else {"pgbouncer", "pgbouncer_auth"}) or not is_open

    def test_users_in_its_auth_file(self, pooler, look):
        pooler.userlist.write_text('"app_user" "x"\n')
        seen = look()["pooled"]
        assert "CVE-2026-107350" in seen["pooler-known-holes"]
        assert " app_user in its auth_file" in seen["pooler-known-holes"]
