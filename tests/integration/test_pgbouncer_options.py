# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of each PgBouncer, changed and taken back one by one.

What a change needs is known from PgBouncer itself: its console tells whether an option reloads.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    options as pgbouncer_options,
)

from .poolers import PROGRAMS, ROLE, Pooler

# Another value than the one that an option has anyhow; {etc} and the like are directories.
VALUES: dict[str, Any] = {
    "admin_users": "somebody",
    "application_name_add_host": 1,
    "auth_dbname": "mydb",
    "auth_file": "{etc}/other.txt",
    "auth_hba_file": "{etc}/hba",
    "auth_ident_file": "{etc}/ident",
    "auth_ldap_options": "ldapserver=localhost",
    "auth_query": "SELECT 'a', 'b' WHERE $1 = ''",
    "auth_type": "md5",
    "auth_user": "another",
    "client_tls_ca_file": "{etc}/server.crt",
    "client_tls_cert_file": "{etc}/server.crt",
    "client_tls_ciphers": "HIGH:!aNULL",
    "client_tls_dheparams": "none",
    "client_tls_ecdhcurve": "prime256v1",
    "client_tls_key_file": "{etc}/server.key",
    "client_tls_protocols": "tlsv1.2,tlsv1.3",
    "client_tls_sslmode": "allow",
    "client_tls13_ciphers": "TLS_AES_256_GCM_SHA384",
    "ignore_startup_parameters": "extra_float_digits,options",
    "job_name": "another",
    "listen_addr": "127.0.0.1,127.0.0.2",
    "logfile": "{run}/other.log",
    "login_notify_message": "hello",
    "max_packet_size": 1000000,
    "pidfile": "{run}/other.pid",
    "pkt_buf": 8192,
    "pool_mode": "session",
    "resolv_conf": "{etc}/resolv.conf",
    "scram_iterations": 5000,
    "server_check_query": "select 2",
    "server_reset_query": "DISCARD PLANS",
    "server_tls_ca_file": "{etc}/server.crt",
    "server_tls_cert_file": "{etc}/server.crt",
    "server_tls_ciphers": "HIGH:!aNULL",
    "server_tls_key_file": "{etc}/server.key",
    "server_tls_protocols": "tlsv1.2,tlsv1.3",
    "server_tls_sslmode": "require",
    "server_tls13_ciphers": "TLS_AES_256_GCM_SHA384",
    "stats_users": "somebody",
    "syslog_facility": "local0",
    "syslog_ident": "another",
    "track_extra_parameters": "IntervalStyle,search_path",
    "unix_socket_dir": "{other}",
    "unix_socket_group": "{group}",
    "unix_socket_mode": "0770",
    "user": "{user}",
}
# A reload leaves them as they were, because they have no default of their own.
STICKY = {
    "auth_dbname",
    "auth_ident_file",
    "auth_ldap_options",
    "client_tls13_ciphers",
    "server_tls13_ciphers",
    "user",
}
# The unit says what PgBouncer may write to.
OF_THE_UNIT = {"unix_socket_dir"}
# A PgBouncer that has read a name from the auth file lets it in by that until it ends.
AND_BACK = {"auth_user": ["restart for users of the old auth file"]}
# Refused; tried in test_pgbouncer_config.py; of the command line as much as of the file.
UNTRIED = ("disable_pqexec", "listen_port", "verbose")
KEY_PAIR = {"cert_file": "{etc}/server.crt", "key_file": "{etc}/server.key"}


def existing(pooler: Pooler, table: dict[str, Any]) -> list[str]:
    """The options of a table that the pooler's version has."""
    return [name for name in table if pgbouncer_options.exists(table[name], pooler.program.version)]


def sampled(pooler: Pooler) -> list[str]:
    """The options that its version alone has, and its share of those that each version has."""
    options = pgbouncer_options.OPTIONS
    versions = [program.version for program in PROGRAMS]
    if os.environ.get("POOLED_EXHAUSTIVE"):
        return existing(pooler, options)
    shared = [
        name
        for name in options
        if all(pgbouncer_options.exists(options[name], version) for version in versions)
    ]
    mine = shared[versions.index(pooler.program.version) :: len(versions)]
    return [name for name in existing(pooler, options) if name in mine or name not in shared]


def other_value(name: str, option: Any, shown: str) -> Any:
    """A value that an option does not have."""
    if name in VALUES:
        return VALUES[name]
    if option.kind == "flag":
        return 1 - int(shown)
    return float(shown or 0) + 7 if option.kind == "time" else int(shown or 0) + 7


def filled_in(pooler: Pooler, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    user = pooler.cluster.os_user
    group = subprocess.run(["id", "-gn", user], capture_output=True, text=True, check=True).stdout
    places = {
        "{etc}": str(pooler.home / "etc"),
        "{run}": str(pooler.home / "run"),
        "{other}": str(pooler.home / "other"),
        "{user}": user,
        "{group}": group.strip(),
    }
    return re.sub(r"\{\w+\}", lambda match: places[match.group(0)], value)


@pytest.fixture
def furnished(pooler: Pooler) -> Iterator[Pooler]:
    """A configured pooler with files that options can name."""
    etc = pooler.home / "etc"
    (pooler.home / "other").mkdir()
    (etc / "hba").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
    (etc / "ident").write_text("pooled someone app_user\n")
    (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "30", "-subj", "/CN=localhost", "-keyout", str(etc / "server.key"),
         "-out", str(etc / "server.crt")], capture_output=True, check=True,
    )  # fmt: skip
    user = pooler.cluster.user
    for path in (pooler.home / "other", etc / "server.key"):
        if user:
            os.chown(path, user.pw_uid, user.pw_gid)
    yield pooler


def config(pooler: Pooler, directory: str = "run") -> dict[str, tuple[str, str]]:
    """Value and changeability of each option, from the console."""
    with pooler.console(directory) as cursor:
        rows = cursor.execute("SHOW CONFIG").fetchall()
    return {row[0]: (row[1] or "", row[-1]) for row in rows}


def test_the_table_has_the_options_that_pgbouncer_has(pooler):
    shown = set(config(pooler)) - {"conffile", "service_name"}
    assert shown == set(existing(pooler, pgbouncer_options.OPTIONS))


def test_every_option_lands_in_its_class_and_can_be_taken_back(furnished):
    pooler = furnished
    pooler.configure()
    base = config(pooler)
    wrong: list[str] = []
    for name in sampled(pooler):
        if name in UNTRIED:
            continue
        value = other_value(name, pgbouncer_options.OPTIONS[name], base[name][0])
        given = {name: value}
        side, tls, kind = name.partition("_tls_")
        if tls and kind in ("sslmode", *KEY_PAIR):
            given = {**{f"{side}_tls_{key}": path for key, path in KEY_PAIR.items()}, **given}
        given = {key: filled_in(pooler, one) for key, one in given.items()}
        changeable = base[name][1] == "yes"
        forth = ["RELOAD"] if changeable else [f"restart for {name}"]
        back = ["RELOAD"] if changeable and name not in STICKY else [f"restart for {name}"]
        unit = ["systemctl daemon-reload"] if name in OF_THE_UNIT else []
        back = AND_BACK.get(name, back)
        for options, expected in ((given, [*unit, *forth]), ({}, [*unit, *back])):
            pid = pooler.pid
            result = pooler.configure(options=options)
            if result.get("failed"):
                wrong.append(f"{name} {options}: {result['msg']}")
                break
            actions = [one for one in result["actions"] if not one.startswith("write ")]
            directory = "other" if name == "unix_socket_dir" and options else "run"
            shown = config(pooler, directory)[name][0]
            wanted = str(options.get(name, base[name][0]))
            same = pgbouncer_options.canonical_option(
                name, shown
            ) == pgbouncer_options.canonical_option(name, wanted)
            restarted = pooler.pid != pid
            if actions != expected or not same or restarted != ("restart" in expected[-1]):
                wrong.append(f"{name} {options}: {actions} {shown!r} restarted={restarted}")
    assert wrong == []


# Of [databases]: another value, and the column of SHOW DATABASES that tells it.
ENTRY: dict[str, tuple[Any, str]] = {
    "application_name": ("named", ""),
    "auth_dbname": ("mydb", ""),
    "auth_query": ("SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1", ""),
    "auth_user": ("another", ""),
    "client_encoding": ("LATIN1", ""),
    "connect_query": ("SELECT 1", ""),
    "datestyle": ("German", ""),
    "dbname": ("postgres", "database"),
    "host": ("127.0.0.1", "host"),
    "load_balance_hosts": ("disable", ""),
    "max_db_client_connections": (12, "max_client_connections"),
    "max_db_connections": (13, "max_connections"),
    "min_pool_size": (1, "min_pool_size"),
    "pool_mode": ("session", "pool_mode"),
    "pool_size": (14, "pool_size"),
    "port": (1, "port"),
    "query_wait_timeout": (15, ""),
    "reserve_pool_size": (2, "reserve_pool_size"),
    "server_lifetime": (1600, "server_lifetime"),
    "timezone": ("Asia/Tokyo", ""),
}
# Sessions that were opened without them are still in the pools after a reload.
OF_SESSIONS = {"application_name", "client_encoding", "datestyle", "timezone"}
# Of [users]: another value.
USER: dict[str, Any] = {
    "client_idle_timeout": 71,
    "idle_transaction_timeout": 72,
    "max_user_client_connections": 73,
    "max_user_connections": 74,
    "pool_mode": "session",
    "pool_size": 16,
    "query_timeout": 75,
    "query_wait_timeout": 76,
    "reserve_pool_size": 3,
    "transaction_timeout": 77,
}


def lasting(row: dict[str, Any]) -> dict[str, str]:
    """A row of SHOW DATABASES without what changes by itself."""
    return {name: str(value) for name, value in row.items() if not name.startswith("current_")}


def test_every_option_of_a_database_lands_in_its_class_and_can_be_taken_back(pooler):
    pooler.configure()
    base, pid, wrong = pooler.row_of("SHOW DATABASES", "mydb"), pooler.pid, []
    for name in existing(pooler, pgbouncer_options.DATABASE_OPTIONS):
        value, column = ENTRY[name]
        if column == "reserve_pool_size" and pooler.program.version < (1, 24):
            column = "reserve_pool"
        for given in ({name: value}, {}):
            actions = pooler.predicted_and_done(database_options={"mydb": given})
            expected = ["RELOAD", "RECONNECT"] if name in OF_SESSIONS else ["RELOAD"]
            shown = pooler.row_of("SHOW DATABASES", "mydb")
            wanted = {**base, column: given.get(name, base.get(column))} if column else base
            if actions != expected or lasting(shown) != lasting(wanted):
                wrong.append(f"{name} {given}: {actions} {shown}")
    assert wrong == []
    assert pooler.pid == pid
    assert pooler.query("SELECT 1") == 1


def test_every_option_of_a_role_lands_in_its_class_and_can_be_taken_back(pooler):
    # Before 1.23 a role with options could not log in otherwise.
    more = {"auth": "userlist"} if pooler.program.version < (1, 23) else {}
    pooler.configure(**more)
    base, pid, wrong = pooler.row_of("SHOW USERS", "app_user"), pooler.pid, []
    for name in existing(pooler, pgbouncer_options.USER_OPTIONS):
        for given in ({name: USER[name]}, {}):
            roles = [{**ROLE, **({"pools": given} if given else {})}]
            databases = [{"name": "mydb", "roles": roles}]
            actions = pooler.predicted_and_done(databases=databases, **more)
            shown = pooler.row_of("SHOW USERS", "app_user")
            seen = str(shown.get(name)).strip() == str({**base, **given}.get(name))
            if actions != ["RELOAD"] or (name in base and not seen):
                wrong.append(f"{name} {given}: {actions} {shown}")
    assert wrong == []
    assert pooler.pid == pid
    assert pooler.query("SELECT 1") == 1
