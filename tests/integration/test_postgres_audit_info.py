# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit against real servers, whose mistakes are made by hand and then undone."""

from __future__ import annotations

import time

import pytest

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
        "'shop_user' does not reach 1 of 3 tables in 'shop', schema 'public': orders",
    ),
    "public-create": (
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        "in 'shop' everybody may create objects in schema public",
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


def eventually(look, wanted):
    """What is found, as soon as it is as wanted: a reload takes a moment."""
    for _attempt in range(20):
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
        "pooler-lost-parameters",
        "pooler-clients-waiting",
    }
    assert result["server"]["pooler"] == ""
    assert result["memory"]["available_bytes"] == 2 * GIB
    assert result["summary"]["critical"] == 0


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
