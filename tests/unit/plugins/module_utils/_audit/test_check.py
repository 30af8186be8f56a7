# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each rule of the audit fires on its mistake, stays silent on a good server, and says what it
could not see."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._audit.check import (
    SEVERITIES,
    Acceptance,
    audit,
    parse_accepted,
)
from ansible_collections.pooled.postgres.plugins.module_utils._audit.page import page
from ansible_collections.pooled.postgres.plugins.module_utils._audit.report import summary_lines
from ansible_collections.pooled.postgres.plugins.module_utils._audit.rules.all import RULES
from ansible_collections.pooled.postgres.plugins.module_utils._audit.snapshot import (
    DatabaseState,
    FileSetting,
    Grants,
    HbaRule,
    LoginRole,
    Pool,
    PoolDatabase,
    PooledLogin,
    PoolerState,
    Session,
    Setting,
    Slot,
    Snapshot,
    Unreachable,
    network_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections.budget import (
    connection_budget,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    hba as pgbouncer_hba,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.login import Taken

ROOT = Path(__file__).resolve().parents[5]
GIB = 1024**3
TIMEOUTS = {
    "statement_timeout": "30s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
}
POOLED = {
    "statement_timeout": "30000",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "60000",
}
MODEL = [
    {
        "name": "shop",
        "roles": [
            {"name": "app_user", "kind": "user"},
            {"name": "app_migrator", "kind": "migrator"},
        ],
        "clients": [
            {"name": "api", "role": "app_user", "replicas": 2, "workers": 2, "pool_size": 10,
             "max_overflow": 0, "via": "pgbouncer"},
        ],
    }
]  # fmt: skip
GOOD_SETTINGS = {
    "autovacuum": Setting("on"),
    "autovacuum_freeze_max_age": Setting("200000000"),
    "autovacuum_max_workers": Setting("3"),
    "autovacuum_multixact_freeze_max_age": Setting("400000000"),
    "autovacuum_work_mem": Setting("-1", "kB"),
    "data_checksums": Setting("on"),
    "fsync": Setting("on"),
    "full_page_writes": Setting("on"),
    "hash_mem_multiplier": Setting("2"),
    "idle_in_transaction_session_timeout": Setting("0", "ms"),
    "listen_addresses": Setting("*"),
    "lock_timeout": Setting("0", "ms"),
    "maintenance_work_mem": Setting("65536", "kB"),
    "max_connections": Setting("60"),
    "password_encryption": Setting("scram-sha-256"),
    "shared_buffers": Setting("524288", "8kB"),
    "shared_preload_libraries": Setting("pg_stat_statements"),
    "ssl": Setting("on"),
    "statement_timeout": Setting("0", "ms"),
    "superuser_reserved_connections": Setting("3"),
    "tcp_keepalives_idle": Setting("60", "s"),
    "track_counts": Setting("on"),
    "work_mem": Setting("4096", "kB"),
}
GOOD_ROLES = {
    "postgres": LoginRole("postgres", superuser=True, bootstrap=True),
    "app_user": LoginRole("app_user", settings={"": TIMEOUTS}),
    "app_migrator": LoginRole("app_migrator"),
}
GOOD_DATABASE = DatabaseState(
    "shop",
    age=100_000,
    multixact_age=1,
    tables={("public", "app_migrator"): 10},
    grants=(Grants("public", "app_migrator", "app_user", 10),),
    defaults=frozenset({("app_migrator", "public", "app_user")}),
)
GOOD_POOLER = PoolerState(
    (1, 24, 1),
    {
        "listen_addr": "0.0.0.0",  # noqa: S104
        "tcp_keepalive": "1",
        "tcp_keepidle": "60",
        "client_tls_sslmode": "require",
        "auth_type": "hba",
        "auth_hba_file": "/etc/pgbouncer/pooled_hba.conf",
        "auth_file": "/etc/pgbouncer/userlist.txt",
        "auth_user": "pgbouncer_auth",
        "auth_query": "SELECT username, password FROM pgbouncer.get_auth($1)",
        "ignore_startup_parameters": "extra_float_digits,options",
    },
    (PoolDatabase("shop", "shop", "", 25, 5),),
    (Pool("shop", "app_user", 0, 0.0, 4, 2),),
    ("pgbouncer", "pgbouncer_auth"),
    login_rules=pgbouncer_hba.parsed(
        "local shop app_user scram-sha-256\nhost shop app_user 127.0.0.1/32 scram-sha-256\n"
        "hostssl shop app_user 10.0.0.0/8 scram-sha-256\n"
    ),
)
GOOD = Snapshot(
    major=17,
    settings=GOOD_SETTINGS,
    roles=GOOD_ROLES,
    password_kinds={"app_user": "scram", "app_migrator": "scram"},
    hba=(
        HbaRule(1, "local", ("all",), ("postgres",), "", "peer"),
        HbaRule(2, "host", ("shop",), ("app_user",), "10.0.0.0/8", "scram-sha-256"),
        HbaRule(3, "host", ("all",), ("all",), "127.0.0.1/32", "scram-sha-256"),
    ),
    files=(FileSetting("/etc/postgresql/17/main/postgresql.conf", 1, "work_mem", "4MB"),),
    sessions=(Session(7, "shop", "app_user", "api", "idle", "10.0.0.7", 4000.0),),
    slots=(Slot("standby", True, 99 * GIB),),
    databases=(GOOD_DATABASE,),
    invalid_databases=(),
    pooler=GOOD_POOLER,
    pooled_logins=(PooledLogin("shop", "app_user", POOLED),),
    taken_guesses=(),
    model=parse_databases(MODEL),
    budget=connection_budget(MODEL),
    pooler_role="pgbouncer_auth",
    memory_bytes=16 * GIB,
)


def setting(name, value, **more):
    """The good server with another setting."""
    changed = replace(GOOD_SETTINGS.get(name, Setting("")), value=value, **more)
    return replace(GOOD, settings={**GOOD_SETTINGS, name: changed})


def role(name, **more):
    """The good server with a changed role."""
    before = GOOD_ROLES.get(name, LoginRole(name))
    return replace(GOOD, roles={**GOOD_ROLES, name: replace(before, **more)})


def database(**more):
    """The good server with a changed database."""
    return replace(GOOD, databases=(replace(GOOD_DATABASE, **more),))


def pooler(**more):
    """The good server behind a changed PgBouncer."""
    return replace(GOOD, pooler=replace(GOOD_POOLER, **more))


def pooler_config(version=(1, 24, 1), **config):
    """The same, with changed options."""
    return pooler(version=version, config={**GOOD_POOLER.config, **config})


def login_rules(text, **config):
    """The same, with other rules for logins."""
    changed = pooler_config(**config).pooler
    return replace(GOOD, pooler=replace(changed, login_rules=pgbouncer_hba.parsed(text)))


def hba(*fields, **more):
    """The good server with another line of pg_hba.conf."""
    return replace(GOOD, hba=(*GOOD.hba, HbaRule(4, *fields, **more)))


def without(role_name, name):
    left = {key: value for key, value in TIMEOUTS.items() if key != name}
    return role(role_name, settings={"": left})


def session(**more):
    return replace(GOOD, sessions=(replace(GOOD.sessions[0], **more),))


def no_model(snapshot):
    return replace(snapshot, model=(), budget=None)


# Of each rule, servers that have the mistake, with what is seen: severity, object and evidence.
FIRES = [
    ("application-superuser", role("app_user", superuser=True), "critical", "app_user",
     "'app_user' is a superuser, and is a role of the model, has a pool for 'shop' in PgBouncer,"
     " api is connected as it"),
    ("application-superuser", session(role="postgres", application=""), "critical", "postgres",
     "'postgres' is a superuser, and a program without a name is connected as it"),
    ("application-superuser",
     replace(database(tables={("public", "boss"): 1}),
             roles={**GOOD_ROLES, "boss": LoginRole("boss", superuser=True)}),
     "critical", "boss", "'boss' is a superuser, and owns tables in 'shop'"),
    ("application-attributes", role("app_user", bypassrls=True, createdb=True), "warning",
     "app_user", "'app_user' has CREATEDB BYPASSRLS"),
    ("application-owns-tables", database(tables={("public", "app_user"): 2, ("x", "app_user"): 1}),
     "warning", "shop: app_user", "application role 'app_user' owns 3 tables in 'shop'"),
    ("no-statement-timeout", without("app_user", "statement_timeout"), "warning", "app_user",
     "sessions of 'app_user' in shop start with statement_timeout = 0"),
    ("no-statement-timeout",
     role("app_user", settings={"": TIMEOUTS, "shop": {"statement_timeout": "0ms"}}),
     "warning", "app_user", "sessions of 'app_user' in shop start with statement_timeout = 0"),
    ("no-statement-timeout",
     no_model(replace(GOOD, roles={**GOOD_ROLES, "other": LoginRole("other")})), "warning",
     "other", "sessions of 'other' in shop start with statement_timeout = 0"),
    ("no-idle-transaction-timeout", without("app_user", "idle_in_transaction_session_timeout"),
     "warning", "app_user",
     "sessions of 'app_user' in shop start with idle_in_transaction_session_timeout = 0"),
    ("no-lock-timeout", without("app_user", "lock_timeout"), "info", "app_user",
     "sessions of 'app_user' in shop start with lock_timeout = 0"),
    ("public-tables", database(public_defaults=(("app_migrator", "", "tables"),)), "warning",
     "shop: tables of app_migrator",
     "PUBLIC gets rights on all tables that 'app_migrator' creates in 'shop'"),
    ("public-tables", database(public_defaults=(("o'x", "a b", "sequences"),)), "warning",
     "shop: sequences of o'x",
     "PUBLIC gets rights on all sequences that \"o'x\" creates in 'shop', schema 'a b'"),
    ("default-privileges-missing", database(defaults=frozenset()), "warning",
     "shop: app_migrator to app_user",
     "tables that 'app_migrator' creates in 'shop', schema 'public', are out of reach of"
     " 'app_user'; it reads 10 of the 10 there are"),
    ("default-privileges-missing", database(defaults=frozenset(), grants=(), tables={}), "warning",
     "shop: app_migrator to app_user",
     "tables that 'app_migrator' creates in 'shop', schema 'public', are out of reach of"
     " 'app_user'"),
    ("objects-unreachable",
     database(unreachable=(Unreachable("public", "app_user", 1, 10, "orders"),)), "warning",
     "shop: app_user",
     "'app_user' can't read 1 of 10 tables in 'shop', schema 'public': orders"),
    ("public-create", database(public_create=("public", "x")), "warning", "shop",
     "in 'shop' PUBLIC may create objects in schema public, x"),
    ("public-connect", database(public_connect=True, public_temporary=True), "info", "shop",
     "PUBLIC has CONNECT, TEMPORARY on database 'shop'"),
    ("public-tables", database(grants=(*GOOD_DATABASE.grants,
                                       Grants("public", "app_migrator", "", 2))),
     "warning", "shop: public", "PUBLIC has rights on 2 tables in 'shop', schema 'public'"),
    ("hba-trust", hba("host", ("shop",), ("app_user",), "10.0.0.0/8", "trust"), "critical",
     "host shop app_user 10.0.0.0/8 trust",
     "line 4 of pg_hba.conf: host shop app_user 10.0.0.0/8 trust"),
    ("hba-trust", hba("local", ("all",), ("all",), "", "trust"), "warning", "local all all trust",
     "line 4 of pg_hba.conf: local all all trust"),
    ("hba-weak-method", hba("host", ("shop",), ("app_user",), "10.0.0.0/8", "md5"), "warning",
     "host shop app_user 10.0.0.0/8 md5",
     "line 4 of pg_hba.conf: host shop app_user 10.0.0.0/8 md5"),
    ("hba-broken-line", hba("", (), (), "", "", error="invalid connection type \"hots\""),
     "warning", "line 4", 'line 4 of pg_hba.conf: invalid connection type "hots"'),
    ("md5-passwords", replace(GOOD, password_kinds={"b": "md5", "a": "md5", "c": "scram"}),
     "warning", "server", "md5 passwords are stored for a, b"),
    ("password-encryption-md5", setting("password_encryption", "md5"), "warning", "server",
     "password_encryption is md5"),
    ("superuser-remote",
     replace(hba("hostssl", ("all",), ("all",), "0.0.0.0/0", "scram-sha-256"),
             password_kinds={"postgres": "scram"}),
     "warning", "hostssl all all 0.0.0.0/0 scram-sha-256",
     "line 4 of pg_hba.conf lets superuser postgres in from 0.0.0.0/0: hostssl all all 0.0.0.0/0"
     " scram-sha-256"),
    ("model-missing", replace(GOOD, databases=(replace(GOOD_DATABASE, name="other"),)), "warning",
     "shop", "database 'shop' of the model does not exist"),
    ("model-missing", replace(GOOD, roles={"postgres": GOOD_ROLES["postgres"],
                                           "app_user": GOOD_ROLES["app_user"]}),
     "warning", "app_migrator", "role 'app_migrator' of the model does not exist"),
    ("shared-buffers-default", setting("shared_buffers", "16384"), "warning", "server",
     "shared_buffers is 128 MB of 16 GB of memory"),
    ("memory-overcommitted", setting("work_mem", str(256 * 1024)), "critical", "server",
     "shared_buffers 4 GB + work_mem 30 GB + autovacuum 192 MB + backends 300 MB = 34.5 GB,"
     " 18.5 GB more than the 16 GB there are"),
    ("max-connections-too-low", setting("max_connections", "20"), "critical", "server",
     "{needed} connections are needed by the pools, direct clients, monitoring and reserve, and"
     " max_connections is 20"),
    ("max-connections-too-low", no_model(setting("max_connections", "20")), "critical", "server",
     "1 pools of PgBouncer may open 30 connections, 3 are reserved, and max_connections is 20"),
    ("max-connections-too-low", replace(GOOD, budget=None, budget_problem="Role x ..."),
     "critical", "pools", "Role x ..."),
    ("connections-near-limit", replace(GOOD, sessions=GOOD.sessions * 52), "warning", "server",
     "52 of 57 connections are in use"),
    ("no-keepalives", setting("tcp_keepalives_idle", "0"), "warning", "server",
     "tcp_keepalives_idle is 0: a client that vanished is noticed after the system's 2 hours"),
    ("no-keepalives", setting("tcp_keepalives_idle", "7200"), "warning", "server",
     "tcp_keepalives_idle is 7200: a client that vanished is noticed after 7200 seconds"),
    ("pending-restart", setting("max_connections", "60", pending_restart=True), "warning",
     "server", "waiting for a restart: max_connections"),
    ("auto-conf-overrides",
     replace(GOOD, files=(*GOOD.files, FileSetting("/d/postgresql.auto.conf", 3, "work_mem",
                                                   "1GB"))),
     "warning", "work_mem", "postgresql.auto.conf sets work_mem = 1GB, over 4MB in"
     " /etc/postgresql/17/main/postgresql.conf line 1"),
    ("auto-conf-overrides",
     replace(GOOD, files=(FileSetting("/d/x.conf", 2, "primary_conninfo", "password=a"),
                          FileSetting("/d/postgresql.auto.conf", 3, "primary_conninfo",
                                      "password=b"))),
     "warning", "primary_conninfo", "postgresql.auto.conf sets primary_conninfo = (not shown), over"
     " (not shown) in /d/x.conf line 2"),
    ("durability-off", setting("fsync", "off"), "critical", "fsync", "fsync is off"),
    ("durability-off", setting("full_page_writes", "off"), "critical", "full_page_writes",
     "full_page_writes is off"),
    ("autovacuum-off", setting("autovacuum", "off"), "critical", "autovacuum",
     "autovacuum is off"),
    ("wraparound", database(age=500_000_000), "warning", "shop",
     "the oldest transaction of 'shop' is 500,000,000 old, autovacuum_freeze_max_age is"
     " 200,000,000, and the server stops at about 2,147,000,000"),
    ("wraparound", database(multixact_age=1_600_000_000), "critical", "shop",
     "the oldest multixact of 'shop' is 1,600,000,000 old, autovacuum_multixact_freeze_max_age is"
     " 400,000,000, and the server stops at about 2,147,000,000"),
    ("unused-slot", replace(GOOD, slots=(Slot("gone", False, GIB),)), "warning", "gone",
     "nobody uses replication slot 'gone', which keeps 1 GB of WAL"),
    ("unused-slot", replace(GOOD, slots=(Slot("gone", False, 20 * GIB),)), "critical", "gone",
     "nobody uses replication slot 'gone', which keeps 20 GB of WAL"),
    ("invalid-database", replace(GOOD, invalid_databases=("half gone",)), "warning", "half gone",
     "database 'half gone' is invalid: DROP DATABASE was interrupted, and nobody can enter it"),
    ("invalid-index", database(invalid_indexes=("public.broken",)), "warning",
     "shop: public.broken", "index public.broken in 'shop' is invalid"),
    ("long-idle-transaction", session(state="idle in transaction (aborted)", in_state_s=61.0),
     "warning", "app_user: api", "session 7 of 'app_user' (api) in 'shop' is idle in transaction"
     " (aborted) for 61 s"),
    ("no-checksums", setting("data_checksums", "off"), "info", "server", "data_checksums is off"),
    ("no-statement-statistics", setting("shared_preload_libraries", "x"), "info", "server",
     "shared_preload_libraries is 'x'"),
    ("listens-without-tls", setting("ssl", "off"), "warning", "server",
     "listen_addresses is '*' and ssl is off"),
    ("timeouts-not-pooled",
     replace(GOOD, pooled_logins=(PooledLogin("shop", "app_user",
                                              {**POOLED, "statement_timeout": "0"}),)),
     "warning", "shop: app_user",
     "through the pool, for 'app_user' in 'shop', statement_timeout is 0 ms instead of 30000 ms"),
    ("timeouts-not-pooled", pooler(databases=(PoolDatabase("shop", "shop", "web"),)), "warning",
     "shop: app_user", "statement_timeout, lock_timeout, idle_in_transaction_session_timeout of"
     " 'app_user' have no effect: PgBouncer's database 'shop' logs everybody in as 'web'"),
    ("pooler-known-holes", pooler_config(ignore_startup_parameters="jit"), "critical",
     "CVE-2026-107349", "PgBouncer 1.24.1 with ignore_startup_parameters = jit: anyone who can"
     " connect can make it spin (CVE-2026-107349)"),
    ("pooler-known-holes", pooler(listed_users=("pgbouncer_auth", "app_user")), "critical",
     "CVE-2026-107350", "PgBouncer 1.24.1 with app_user in its auth_file: anyone who knows one of"
     " their passwords can log in as any user (CVE-2026-107350)"),
    ("pooler-known-holes",
     pooler_config(auth_query="SELECT usename, passwd FROM pg_shadow WHERE usename=$1"),
     "critical", "CVE-2025-2291", "auth_query accepts expired passwords too (CVE-2025-2291): SELECT"
     " usename, passwd FROM pg_shadow WHERE usename=$1"),
    ("pooler-no-keepalives", pooler_config(tcp_keepidle="0"), "warning", "PgBouncer",
     "tcp_keepalive is 1 and tcp_keepidle 0"),
    ("pooler-open", pooler_config(auth_type="any"), "critical", "PgBouncer",
     "auth_type is any, which lets everybody in as one user"),
    ("pooler-open", pooler_config(auth_type="plain"), "warning", "PgBouncer",
     "auth_type is plain, which makes clients send readable passwords"),
    ("pooler-open", login_rules("host all all 10.0.0.0/8 trust"), "critical",
     "host all all 10.0.0.0/8 trust", "a rule in auth_hba_file has method trust, which lets"
     " everybody in without a password: host all all 10.0.0.0/8 trust"),
    ("pooler-open", login_rules("local all all password"), "warning", "local all all password",
     "a rule in auth_hba_file has method password, which makes clients send readable passwords:"
     " local all all password"),
    ("pooler-listens-without-tls",
     pooler_config(client_tls_sslmode="disable", auth_type="scram-sha-256"), "info", "PgBouncer",
     "client_tls_sslmode is disable, and PgBouncer listens on 0.0.0.0"),
    ("pooler-listens-without-tls", login_rules("host all all 10.0.0.0/8 md5",
     client_tls_sslmode="prefer", listen_addr="127.0.0.1, 10.0.0.3"), "info", "PgBouncer",
     "client_tls_sslmode is prefer, and PgBouncer listens on 127.0.0.1, 10.0.0.3"),
    ("pooler-listens-without-tls",
     replace(pooler_config(client_tls_sslmode="allow", auth_type="md5"),
             hba=(HbaRule(1, "hostssl", ("shop",), ("all",), "10.0.0.0/8", "scram-sha-256"),)),
     "warning", "PgBouncer", "client_tls_sslmode is allow, and PgBouncer listens on 0.0.0.0, while"
     " pg_hba.conf requires TLS from other hosts"),
    ("pooler-listens-without-tls",
     replace(hba("hostnossl", ("shop",), ("app_user",), "all", "reject"),
             pooler=pooler_config(client_tls_sslmode="", auth_type="md5").pooler),
     "warning", "PgBouncer", "client_tls_sslmode is disable, and PgBouncer listens on 0.0.0.0,"
     " while pg_hba.conf requires TLS from other hosts"),
    ("pooler-open-networks", pooler_config(auth_type="scram-sha-256"), "warning", "PgBouncer",
     "PgBouncer on 0.0.0.0 accepts logins from every address, and pg_hba.conf from 10.0.0.0/8"
     " only"),
    ("pooler-open-networks", login_rules("hostssl shop app_user ::/0 scram-sha-256"), "warning",
     "PgBouncer",
     "PgBouncer on 0.0.0.0 accepts logins from every address, and pg_hba.conf from 10.0.0.0/8"
     " only"),
    ("pooler-open-networks",
     replace(pooler_config(auth_type="md5"), hba=(
         HbaRule(1, "local", ("all",), ("postgres",), "", "peer"),
         HbaRule(2, "host", ("shop",), ("pgbouncer_auth",), "10.0.0.3/32", "scram-sha-256"))),
     "info", "PgBouncer", "PgBouncer on 0.0.0.0 accepts logins from every address"),
    ("pooler-runs-as-superuser", pooler(os_user="postgres"), "warning", "PgBouncer",
     "PgBouncer runs as the OS user postgres, whom line 1 of pg_hba.conf (local all postgres peer)"
     " lets in as the superuser postgres"),
    ("pooler-login-without-password",
     replace(GOOD, taken_guesses=(Taken("shop", "pgbouncer_auth", ""),
                                  Taken("blog", "pgbouncer_auth", "md5"))),
     "critical", "pgbouncer_auth",
     "PgBouncer accepts 'pgbouncer_auth' with an empty password in 'shop', the password 'md5' in"
     " 'blog'"),
    ("pooler-login-without-password", replace(GOOD, taken_guesses=(Taken("shop", "web", "md5"),)),
     "critical", "web", "PgBouncer accepts 'web' with the password 'md5' in 'shop'"),
    ("pooler-lost-parameters", pooler_config(ignore_startup_parameters="jit,options"), "warning",
     "jit", "PgBouncer ignores jit when clients send it, and app_user do not set it themselves"),
    ("pooler-clients-waiting", pooler(pools=(Pool("shop", "app_user", 9, 3.4, 20, 25),)),
     "warning", "shop: app_user", "9 clients of 'app_user' wait for 'shop', the first for 3 s; 25"
     " server connections are open"),
]  # fmt: skip

# Servers that are near a mistake, but have none.
SILENT = {
    "a person with psql": session(role="postgres", application="psql"),
    "a PgBouncer of its own": pooler(os_user="pgbouncer"),
    "a PgBouncer that no rule lets in": replace(
        pooler(os_user="postgres"),
        hba=(HbaRule(1, "local", ("all",), ("postgres",), "", "scram-sha-256"),),
    ),
    "an admin over PgBouncer's console": pooler(
        pools=(*GOOD_POOLER.pools, Pool("pgbouncer", "postgres")),
        databases=(*GOOD_POOLER.databases, PoolDatabase("pgbouncer", "pgbouncer", "pgbouncer")),
    ),
    "a migrator without a model": no_model(GOOD),
    "a timeout for all": replace(
        setting("statement_timeout", "30000"),
        roles=without("app_user", "statement_timeout").roles,
        pooled_logins=(PooledLogin("shop", "app_user", POOLED),),
    ),
    "a timeout of the database": replace(
        without("app_user", "statement_timeout"),
        databases=(replace(GOOD_DATABASE, settings={"statement_timeout": "30s"}),),
    ),
    "a default of all schemas": database(defaults=frozenset({("app_migrator", "", "app_user")})),
    "a pooler for its own host alone": pooler_config(
        listen_addr="127.0.0.1,::1", client_tls_sslmode="disable", auth_type="scram-sha-256"
    ),
    "a pooler whose rules demand TLS": pooler_config(client_tls_sslmode="prefer"),
    "a server that is as open as its pooler": replace(
        hba("host", ("shop",), ("app_user",), "0.0.0.0/0", "scram-sha-256"),
        pooler=pooler_config(auth_type="scram-sha-256").pooler,
    ),
    "a rule of the pooler that rejects everybody": login_rules("host all all 0.0.0.0/0 reject"),
    "a role that reads few tables": database(
        grants=(*GOOD_DATABASE.grants, Grants("public", "app_migrator", "report", 2))
    ),
    "loopback without TLS and keepalives": replace(
        GOOD,
        settings={
            **GOOD_SETTINGS,
            "listen_addresses": Setting("localhost"),
            "ssl": Setting("off"),
            "tcp_keepalives_idle": Setting("0", "s"),
        },
    ),
    "a small server with the default": replace(
        setting("shared_buffers", "16384"), memory_bytes=2 * GIB
    ),
    "a cache that is small on purpose": setting("shared_buffers", "32768"),
    "an auth_query that heeds expiry": pooler_config(
        auth_query="SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END"
        " FROM pg_authid WHERE rolname=$1"
    ),
    "superusers without a password": hba("host", ("all",), ("all",), "0.0.0.0/0", "scram-sha-256"),
    "superusers are refused": replace(
        hba("host", ("all",), ("postgres",), "0.0.0.0/0", "reject"),
        password_kinds={"postgres": "scram"},
    ),
    "replication over the network": replace(
        hba("host", ("replication",), ("all",), "10.0.0.0/8", "scram-sha-256"),
        password_kinds={"postgres": "scram"},
    ),
    "the same in both files": replace(
        GOOD, files=(*GOOD.files, FileSetting("/d/postgresql.auto.conf", 3, "work_mem", "4MB"))
    ),
    "a short idle transaction": session(state="idle in transaction", in_state_s=59.0),
    "a patched PgBouncer": replace(
        pooler_config((1, 26, 1), ignore_startup_parameters="extra_float_digits"),
    ),
    "the pooler's own settings": replace(
        GOOD, roles={**GOOD_ROLES, "pgbouncer_auth": LoginRole("pgbouncer_auth")}
    ),
    "clients that wait a moment": pooler(pools=(Pool("shop", "app_user", 9, 0.2, 20, 25),)),
    "a pool of an attempt to log in": pooler(pools=(*GOOD_POOLER.pools, Pool("shop", "postgres"))),
    "an old PgBouncer that ignores nothing": pooler_config((1, 18, 0)),
    "an ignored parameter that roles set": replace(
        pooler_config(ignore_startup_parameters="jit,options"),
        roles=role("app_user", settings={"": {**TIMEOUTS, "jit": "off"}}).roles,
    ),
}

# What can't be seen, and the rules that then are not checked.
BLIND = {
    "password_kinds": {"md5-passwords", "superuser-remote"},
    "hba": {"hba-trust", "hba-weak-method", "hba-broken-line", "superuser-remote"},
    "files": {"auto-conf-overrides"},
    "sessions": {"application-superuser", "connections-near-limit", "long-idle-transaction"},
    "slots": {"unused-slot"},
    "memory_bytes": {"shared-buffers-default", "memory-overcommitted"},
    "pooled_logins": {"timeouts-not-pooled"},
    "taken_guesses": {"pooler-login-without-password"},
    "pooler": {
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
    },
}


def look(snapshot, accepted=()):
    return audit(RULES, snapshot, accepted)


def test_good_server():
    done = look(GOOD)
    assert done.findings == ()
    assert done.not_checked == ()
    assert done.checked == tuple(rule.id for rule in RULES)


@pytest.mark.parametrize(
    ("rule", "snapshot", "severity", "subject", "evidence"),
    FIRES,
    ids=[f"{rule}: {evidence[:40]}" for rule, _snapshot, _severity, _object, evidence in FIRES],
)
def test_fires(rule, snapshot, severity, subject, evidence):
    seen = [one for one in look(snapshot).findings if one.id == rule]
    expected = evidence.format(needed=GOOD.budget.needed) if rule.startswith("max") else evidence
    assert (severity, subject, expected) in [
        (one.severity, one.object, one.evidence) for one in seen
    ]
    assert all(one.fix and one.why and one.variable for one in seen)


@pytest.mark.parametrize("case", SILENT)
def test_silent(case):
    assert look(SILENT[case]).findings == ()


def test_the_fix_for_too_much_memory_is_the_work_mem_that_fits():
    (found,) = [
        one
        for one in look(setting("work_mem", str(256 * 1024))).findings
        if one.id == "memory-overcommitted"
    ]
    # 16 GB - 4 GB - 192 MB - 300 MB are left for what now are 30 GB, or 120 times 256 MB.
    assert found.fix == "ALTER SYSTEM SET work_mem = '100608kB';"


def test_who_is_logged_in_as_itself_keeps_its_timeouts():
    forced = look(pooler(databases=(PoolDatabase("shop", "shop", "app_user"),)))
    assert not [one for one in forced.findings if one.id == "timeouts-not-pooled"]


@pytest.mark.parametrize(
    ("application", "by_tool"),
    [("Patroni - heartbeat", True), ("psql", True), ("pg_dump", True), ("api", False), ("", False)],
)
def test_what_a_session_s_name_tells(application, by_tool):
    assert replace(GOOD.sessions[0], application=application).by_tool is by_tool


def test_every_rule_has_a_case():
    assert {rule.id for rule in RULES} == {case[0] for case in FIRES}


def test_a_pooler_whose_rules_can_not_be_read_does_not_pass():
    done = look(pooler(login_rules=None))
    unread = {one.id: one.reason for one in done.not_checked}
    assert set(unread) == {"pooler-open", "pooler-open-networks"}
    assert set(unread.values()) == {"the rules in /etc/pgbouncer/pooled_hba.conf can't be read"}
    plain = pooler(login_rules=None, config={**GOOD_POOLER.config, "client_tls_sslmode": "prefer"})
    assert "pooler-listens-without-tls" in {one.id for one in look(plain).not_checked}


@pytest.mark.parametrize("what", BLIND)
def test_what_is_not_seen_does_not_pass(what):
    snapshot = replace(GOOD, **{what: None}, unreadable={what: "permission denied"})
    done = look(snapshot)
    assert done.findings == ()
    assert {one.id for one in done.not_checked} == BLIND[what]
    assert {one.reason for one in done.not_checked} == {"permission denied"}
    assert not BLIND[what] & set(done.checked)


@pytest.mark.parametrize("name", sorted(GOOD_SETTINGS))
def test_settings_that_are_not_shown_do_not_pass(name):
    settings = {key: value for key, value in GOOD_SETTINGS.items() if key != name}
    bare = replace(without("app_user", name) if name in TIMEOUTS else GOOD, settings=settings)
    done = look(bare)
    assert done.findings == ()
    assert f"'postgres' may not see the setting {name}" in {one.reason for one in done.not_checked}


def test_databases_that_let_nobody_in():
    shut = replace(GOOD_DATABASE, name="shut", unreadable="no pg_hba.conf entry")
    done = look(replace(GOOD, databases=(GOOD_DATABASE, shut)))
    assert done.findings == ()
    assert {one.reason for one in done.not_checked} == {"database 'shut': no pg_hba.conf entry"}
    assert {one.id for one in done.not_checked} == {rule.id for rule in RULES if rule.inside}


def test_without_a_model_roles_are_told_apart_by_what_is_in_all_databases():
    shut = replace(GOOD_DATABASE, name="shut", unreadable="no pg_hba.conf entry")
    done = look(no_model(replace(GOOD, databases=(GOOD_DATABASE, shut))))
    assert done.findings == ()
    missed = {one.id: one.reason for one in done.not_checked}
    assert missed["no-statement-timeout"] == (
        "it can't be determined which roles are the application's: database 'shut': no pg_hba.conf"
        " entry"
    )


def test_what_was_seen_before_something_unreadable_counts():
    snapshot = replace(role("app_user", superuser=True), sessions=None)
    done = look(snapshot)
    assert "application-superuser" in {one.id for one in done.findings}
    assert "application-superuser" in {one.id for one in done.not_checked}


def test_a_session_of_the_auditor_does_not_count_as_the_servers():
    hidden = setting("statement_timeout", "1000", source="user", default="0")
    assert hidden.setting("statement_timeout").value == "0"


@pytest.mark.parametrize(
    ("address", "netmask", "text", "remote"),
    [
        ("127.0.0.1", "255.255.255.255", "127.0.0.1/32", False),
        ("127.0.0.0", "255.0.0.0", "127.0.0.0/8", False),
        ("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::1/128", False),
        ("0.0.0.0", "0.0.0.0", "0.0.0.0/0", True),  # noqa: S104
        ("10.1.0.0", "255.255.0.0", "10.1.0.0/16", True),
        ("samehost", "", "samehost", False),
        ("samenet", "", "samenet", True),
        ("db.example.com", "", "db.example.com", True),
    ],
)
def test_networks(address, netmask, text, remote):
    assert network_text(address, netmask) == text
    assert HbaRule(1, "host", (), (), text, "md5").remote is remote


def test_accepted_findings_are_shown_and_not_counted():
    snapshot = replace(GOOD, slots=(Slot("one", False, 1), Slot("two", False, 1)))
    assert parse_accepted((), RULES) == ()
    accepted = parse_accepted(
        [
            {"id": "unused-slot", "object": "one", "reason": "moving house"},
            {"id": "no-checksums", "reason": "old cluster"},
        ],
        RULES,
    )
    done = look(snapshot, accepted)
    assert [(one.object, one.accepted) for one in done.findings] == [("two", "")]
    assert [(one.object, one.accepted) for one in done.accepted] == [("one", "moving house")]
    assert done.unused == (Acceptance("no-checksums", "old cluster"),)
    assert done.counts["warning"] == done.counts["accepted"] == 1


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("x", "accepted: give a list, not str"),
        (["x"], "accepted[0]: give a dictionary, not str"),
        (
            [{"id": "hba-trust", "why": "x"}],
            "accepted[0]: unknown key why; allowed are id, reason, object",
        ),
        (
            [{"id": "hba-trst", "reason": "x"}],
            "accepted[0].id: there is no rule 'hba-trst'; did you mean 'hba-trust'?",
        ),
        (
            [{"id": "hba-trust", "reason": " "}],
            "accepted[0].reason: give the reason why 'hba-trust' is accepted",
        ),
    ],
)
def test_bad_acceptances(raw, message):
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        parse_accepted(raw, RULES)


def test_rules_are_whole_and_their_ids_unique():
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    for rule in RULES:
        assert re.match(r"[a-z0-9]+(-[a-z0-9]+)*\Z", rule.id)
        assert rule.severity in SEVERITIES
        assert rule.why.endswith(".")


def test_documented_rules_are_the_rules():
    text = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    rows = [
        f"| `{rule.id}` | {rule.severity} | {rule.title} | {rule.why} | {rule.variable} |"
        for rule in RULES
    ]
    found = [line for line in text.splitlines() if line.startswith("| `") and " | " in line]
    documented = [line for line in found if line.count("|") == 6]
    assert documented == rows, "paste it into docs/audit.md:\n" + "\n".join(rows)


def result(snapshot, accepted=()):
    """What the module returns of a snapshot."""
    done = look(snapshot, accepted)
    return {
        "available": True,
        "findings": [vars(one) for one in done.findings],
        "accepted": [vars(one) for one in done.accepted],
        "unused": [vars(one) for one in done.unused],
        "not_checked": [vars(one) for one in done.not_checked],
        "summary": done.counts,
        "server": {"version": "17.6", "pooler": "1.24.1"},
        "memory": {
            "available_bytes": GIB,
            "parts": [{"name": "work_mem", "bytes": 3 * GIB, "formula": "many x much"}],
        },
        "connections": {
            "max_connections": 100,
            "needed": 400,
            "parts": [{"name": "api", "kind": "direct", "connections": 400}],
        },
        "sessions": [
            {"database": "shop", "role": "app_user", "application": "api", "state": "idle",
             "count": 3},
        ],
        "pools": [{"database": "shop", "user": "app_user", "clients": 1, "waiting": 0,
                   "servers": 1}],
    }  # fmt: skip


def test_summary():
    accepted = parse_accepted([{"id": "no-checksums", "reason": "old"}], RULES)
    snapshot = replace(setting("fsync", "off"), slots=(Slot("a", False, GIB),), hba=None)
    assert summary_lines("db1", result(snapshot, accepted)) == [
        f"db1: 1 critical, 1 warning; {len(RULES) - 4} rules checked; 4 not or not wholly checked",
        "  critical  durability-off  fsync is off",
        "                            by hand: ALTER SYSTEM SET fsync = on; SELECT"
        " pg_reload_conf();",
        "                            variable: postgres_settings: without fsync and"
        " full_page_writes",
        "                            why: A crash of the machine destroys the data beyond repair.",
        "  warning   unused-slot     nobody uses replication slot 'a', which keeps 1 GB of WAL",
        "                            by hand: SELECT pg_drop_replication_slot('a');",
        "                            variable: postgres_settings: {max_slot_wal_keep_size: 10GB}"
        " limits it",
        "                            why: It keeps WAL until the disk is full, and vacuum from"
        " cleaning up.",
        "  accepted, but not found: no-checksums",
        "  not checked: hba-trust, hba-weak-method, hba-broken-line, superuser-remote: hba were"
        " not looked at",
    ]


def test_summary_of_a_good_server():
    assert summary_lines("db1", result(GOOD)) == [f"db1: no findings; {len(RULES)} rules checked"]


class Page(HTMLParser):
    """Elements of a page, and the text in them."""

    VOID = ("meta",)

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.words, self.links = [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("href", "src")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)


HOSTILE = "<script>alert('1')</script>&\"'"


@given(st.text(min_size=1, max_size=30).filter(str.strip))
def test_names_on_the_page_stay_text(name):
    hostile = name + HOSTILE
    found = result(
        replace(
            GOOD,
            slots=(Slot(hostile, False, 1),),
            sessions=None,
            unreadable={"sessions": hostile},
        ),
        (Acceptance("unused-slot", hostile, "no such"),),
    )
    found["sessions"][0].update(role=hostile, application=hostile, state=hostile)
    found["pools"][0].update(database=hostile)
    found["memory"]["parts"][0].update(name=hostile, formula=hostile)
    found["connections"]["parts"][0].update(name=hostile)
    read = Page(page({hostile: found, "other": result(GOOD)}, ["gone" + hostile], when=hostile))
    assert "script" not in read.tags
    assert "".join(read.words).count("alert('1')") >= 10
    assert all(link.startswith("#host") for link in read.links)


def test_page_needs_nothing_else():
    html = page({"db1": result(GOOD)}, ["db1", "db2"], when="2026-11-22 12:00")
    assert not re.search(r"https?://|url\(|@import|<script|<link|<img", html)
    assert "no findings" in html
    assert "output: db2</p>" in html
    # What there is is a quarter of what is needed, and marked there.
    assert 'style="left:25.00%">max_connections 100' in html
    assert 'style="left:33.33%">1 GB there' in html


def test_page_of_a_host_without_a_model():
    found = result(no_model(GOOD))
    found["connections"].update(needed=None, parts=[])
    html = page({"db1": found})
    assert "Who needs how many is known from the model" in html
    assert "Who needs how many" not in page({"db1": result(GOOD)})


def test_page_of_a_host_without_a_server():
    html = page({"db1": {"available": False, "summary": look(GOOD).counts}})
    assert "There is no server to audit yet." in html
