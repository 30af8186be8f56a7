# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pgbouncer_config against a real PgBouncer before a real server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import psycopg
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host import sockets
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    console,
    ini,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql import connection
from ansible_collections.pooled.postgres.plugins.modules import pgbouncer_config

from . import faults
from .poolers import PASSWORD, ROLE, SERVICE, free_port

# Users of PgBouncer itself, as whom nobody may log in.
OWN = ["pgbouncer", "pgbouncer_auth"]


def test_clients_log_in_and_have_their_roles_settings(pooler):
    actions = pooler.predicted_and_done()
    assert actions == ["systemctl daemon-reload", "RELOAD", "RECONNECT"]
    assert pooler.query("SHOW statement_timeout") == "30s"
    assert sorted(pooler.listed) == OWN
    assert pooler.shows("pool_mode") == "transaction"
    assert pooler.shows("auth_type") == "scram-sha-256"
    with pytest.raises(psycopg.OperationalError):
        pooler.query("SELECT 1", password="wrong")


# (what is asked for, what happens)
CHANGES = [
    ({"options": {"default_pool_size": 3}}, ["RELOAD"]),
    ({"options": {"query_timeout": 1.5, "unix_socket_mode": "0777"}}, ["RELOAD"]),
    ({"options": {"max_client_conn": 2000}},
     ["systemctl daemon-reload", "restart for LimitNOFILE"]),
    ({"options": {"pkt_buf": 8192}}, ["restart for pkt_buf"]),
    ({"database_options": {"mydb": {"pool_size": 2}}}, ["RELOAD"]),
    ({"databases": [{"name": "mydb", "roles": [ROLE]}, {"name": "b"}]}, ["RELOAD"]),
    ({"databases": [{"name": "mydb", "roles": [{**ROLE, "settings": {"lock_timeout": "1s"}}]}]},
     ["RELOAD", "RECONNECT"]),
    ({"reconnect": True}, ["RECONNECT"]),
    ({}, []),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "actions"), CHANGES)
def test_each_change_does_the_least_that_works(pooler, arguments, actions):
    pooler.configure()
    before = pooler.pid
    assert pooler.predicted_and_done(**arguments) == actions
    restarted = any("restart" in action for action in actions)
    assert (pooler.pid != before) == restarted
    assert pooler.query("SELECT 1") == 1


@pytest.mark.parametrize("name", ["users", "users.conf", "users.ini"])
def test_the_auth_files_secrets_are_in_no_diff(pooler, name):
    path = pooler.userlist.with_name(name)
    result = pooler.configure(options={"auth_file": str(path)})
    secrets = ini.secrets_in(path.read_text())
    assert sorted(secrets) == OWN
    assert not any(secret in str(result) for secret in secrets.values())
    (shown,) = [one["after"] for one in result["diff"] if one["after_header"] == str(path)]
    assert '"pgbouncer" "********"' in shown


@pytest.mark.parametrize("read_only", [False, True])
def test_no_session_of_ours_runs_through_it_with_what_others_have_set(pooler, read_only):
    """From 1.20 on it is told to ignore options, for a hole in it, and then drops them silently."""
    pooler.configure()
    given = {"login_host": "127.0.0.1", "login_port": pooler.port, "login_user": ROLE["name"],
             "login_password": PASSWORD, "ssl_mode": "prefer"}  # fmt: skip
    with pytest.raises(connection.ConnectionFailed, match="give the port of the server itself"):
        connection.connect({**console.LOGIN, **given}, "mydb", read_only=read_only).close()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('echo "2026-11-27 09:00:00.000 UTC [7] FATAL nope" >&2; exit 1', "FATAL nope"),
        ("exit 3", "it ended with exit code 3 and no message"),
    ],
)
def test_a_program_that_ends_before_it_opens_its_log_is_heard(pooler, body, told):
    pooler.configure()
    before = (pooler.pid, pooler.files())
    broken = pooler.home / "pgbouncer"
    version = ".".join(str(part) for part in pooler.program.version)
    broken.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "PgBouncer {version}" && exit\n{body}\n'
    )
    broken.chmod(0o755)
    pooler.program = replace(pooler.program, path=broken)
    result = pooler.configure(options={"default_pool_size": 7})
    assert result["msg"].endswith(f"PgBouncer does not start with it: {told}")
    assert (pooler.pid, pooler.files()) == before


def test_a_new_port_moves_the_pooler(pooler):
    pooler.configure()
    port = free_port()
    assert pooler.predicted_and_done(options={"listen_port": port}) == ["restart for listen_port"]
    pooler.port = port
    assert pooler.query("SELECT 1") == 1


def test_a_forbidden_restart_is_reported_on_every_run(pooler):
    pooler.configure()
    before = pooler.pid
    arguments = {"options": {"listen_backlog": 64, "query_timeout": 9}, "restart": "never"}
    assert pooler.predicted_and_done(**arguments) == ["RELOAD"]
    again = pooler.configure(**arguments)
    assert (again["changed"], again["restart_pending"]) == (False, ["listen_backlog"])
    assert again["warnings"] == [
        f"These wait for a restart of {SERVICE}, which restart=never forbids: listen_backlog"
    ]
    assert pooler.pid == before
    assert pooler.shows("query_timeout") == "9"


def test_drift_of_files_and_of_what_runs_is_mended(pooler):
    pooler.configure()
    good = pooler.ini.read_text()
    pooler.ini.write_text(good.replace("default_pool_size = 25", "default_pool_size = 4"))
    with pooler.console() as cursor:
        cursor.execute("RELOAD")
    pooler.ini.write_text(good)
    assert pooler.shows("default_pool_size") == "4"
    assert pooler.predicted_and_done() == ["RELOAD"]
    assert pooler.shows("default_pool_size") == "25"
    pooler.ini.write_text(good + "nonsense")
    pooler.userlist.chmod(0o666)
    assert pooler.predicted_and_done() == ["RELOAD"]
    assert pooler.ini.read_text() == good


def test_a_pooler_that_is_down_over_a_broken_file_comes_back(pooler):
    pooler.configure()
    pooler.ini.write_text("[nonsense")
    pooler.systemctl(f"stop {SERVICE}")
    assert pooler.pid == 0
    assert pooler.predicted_and_done() == ["start"]
    assert pooler.query("SELECT 1") == 1


REFUSED = [
    ({"options": {"defalt_pool_size": 3}},
     "options.defalt_pool_size: PgBouncer VERSION has no option 'defalt_pool_size';"
     " did you mean default_pool_size?"),
    ({"databases": [{"name": "my db"}]}, "database 'my db': PgBouncer's configuration can't carry"),
    ({"databases": [{"name": "x", "roles": [{"name": "public", "kind": "user"}]}]},
     "databases[0].roles[0].name: 'public' is reserved by Postgres; choose another name"),
    ({"options": {"auth_type": "trust"}}, "options.auth_type: 'trust' is not allowed, because it"),
    ({"limit_nofile": "10"}, "limit_nofile: 10 is less than the 224 file descriptors"),
    ({"backend_host": "db.internal"}, "auth_password: Postgres is on another host (db.internal)"),
    ({"backend_host": "db.internal", "auth": "userlist"},
     "auth: with 'userlist' and Postgres on another host, the password of role 'app_user' must"),
    ({"options": {"unix_socket_group": "no-such-group"}},
     "PgBouncer refuses this configuration, and nothing was changed: PgBouncer does not start"),
]  # fmt: skip


def test_mistakes_are_refused_before_anything_changes(pooler):
    version = pooler.configure()["version"]
    before = (pooler.files(), pooler.pid)
    for arguments, message in REFUSED:
        for check in (True, False):
            result = pooler.configure(check=check, **arguments)
            assert result.get("failed"), arguments
            assert result["msg"].startswith(message.replace("VERSION", version))
            assert PASSWORD not in str(result)
            assert (pooler.files(), pooler.pid) == before


def test_a_pooler_that_does_not_come_up_gets_its_files_back(pooler, monkeypatch):
    pooler.configure()
    before = pooler.files()
    # The other program comes after the look for it.
    monkeypatch.setattr(sockets, "why_not_listen", lambda *_: "")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = pooler.configure(options={"listen_port": port})
    assert result["failed"]
    assert "Address already in use" in result["msg"]
    assert result["msg"].endswith("The previous files are back, and PgBouncer runs with them.")
    assert pooler.files() == before
    assert pooler.query("SELECT 1") == 1
    assert pooler.configure()["changed"] is False


def test_an_interrupted_run_is_finished(pooler):
    pooler.configure()
    marker = pooler.ini.with_name(".pooled-unfinished")
    marker.write_text("write it\nRELOAD\n")
    # A RECONNECT that nobody planned could cut clients with an old password off.
    assert pooler.predicted_and_done() == ["RELOAD"]
    marker.write_text("write it\nRELOAD\nRECONNECT\n")
    assert pooler.predicted_and_done() == ["RELOAD", "RECONNECT"]
    marker.write_text("write it\nrestart for listen_port\n")
    assert pooler.predicted_and_done() == ["restart for an interrupted restart"]
    assert not marker.exists()


def test_a_userlist_holds_the_servers_verifiers_and_can_be_left_again(pooler):
    pooler.configure()
    pooler.predicted_and_done(auth="userlist")
    verifier = pooler.cluster.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app_user'")
    assert pooler.listed["app_user"] == verifier[0][0]
    assert sorted(pooler.listed) == ["app_user", *OWN]
    assert pooler.query("SELECT 1") == 1
    result = pooler.configure(check=True)
    assert verifier[0][0] not in str(result)
    # A reload would keep app_user as a user without a password.
    assert pooler.predicted_and_done() == ["restart for users of the old auth file"]
    assert pooler.query("SELECT 1") == 1


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which another program listens, on one loopback address."""
    with socket.socket() as other:
        other.bind(("127.0.0.3", 0))
        other.listen()
        yield int(other.getsockname()[1])


# Where it is to listen, whether at the port of another program, and why it can't.
UNREACHABLE = [
    ("127.0.0.3", True, "127.0.0.3 port {}: another program listens there; ss -ltnp shows which"),
    ("127.0.0.1,192.0.2.77", False, "192.0.2.77 port {}: this host does not have the address"),
    ("nowhere.invalid", False, "nowhere.invalid: it is neither an address nor a name that this"),
]


@pytest.mark.pgbouncer(since=(1, 24))
def test_where_it_could_not_listen_it_is_not_restarted(pooler, taken):
    pooler.configure()
    before = (pooler.files(), pooler.pid)
    for listen, others, reason in UNREACHABLE:
        port = taken if others else pooler.port
        for check in (True, False):
            options = {"listen_addr": listen, "listen_port": port}
            result = pooler.configure(check=check, options=options)
            assert result["failed"]
            told = f"listen_addr: PgBouncer can't listen on {reason.format(port)}"
            assert result["msg"].startswith(told)
            assert result["msg"].endswith(". Nothing was changed")
            assert (pooler.files(), pooler.pid) == before
    assert pooler.query("SELECT 1") == 1


@pytest.mark.pgbouncer(since=(1, 24))
def test_it_listens_where_its_own_socket_is_in_the_way(pooler):
    pooler.configure()
    for listen in ("*", "127.0.0.1, ::1"):
        done = pooler.configure(options={"listen_addr": listen})
        assert not done.get("failed"), done["msg"]
        assert done["actions"][-1] == "restart for listen_addr"
        assert pooler.query("SELECT 1") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"backend_host": "127.0.0.1", "auth_password": "bouncers-own"},
        {"auth": "userlist"},
    ],
    ids=["query", "query elsewhere", "userlist"],
)
def test_the_roles_passwords_are_not_needed(pooler, arguments):
    pooler.cluster.sql("ALTER ROLE pgbouncer_auth PASSWORD 'bouncers-own'")
    pooler.configure(**arguments)
    before = (pooler.files(), pooler.pid)
    bare = {"name": "app_user", "kind": "user"}
    for role in (bare, {**bare, "password": None}):
        databases = [{"name": "mydb", "roles": [role]}]
        # Without them the files are the same, so nothing is done.
        assert pooler.predicted_and_done(databases=databases, **arguments) == []
        assert (pooler.files(), pooler.pid) == before
    assert pooler.query("SELECT 1") == 1


def test_a_pooler_elsewhere_logs_in_with_the_given_password(pooler):
    pooler.configure()
    elsewhere = {"backend_host": "127.0.0.1", "auth_password": "bouncers-own"}
    result = pooler.configure(**elsewhere)
    assert sorted(pooler.listed) == OWN
    assert pooler.listed["pgbouncer_auth"] == "bouncers-own"
    assert "bouncers-own" not in str(result)
    pooler.cluster.sql("ALTER ROLE pgbouncer_auth PASSWORD 'bouncers-own'")
    assert pooler.query("SELECT 1") == 1


# Two states, which differ in what a reload and what only a restart changes.
EVEN = {"options": {"query_timeout": 5}}
ODD = {
    "options": {"query_timeout": 6, "pkt_buf": 8192},
    "auth": "userlist",
    "databases": [{"name": "mydb", "roles": [{**ROLE, "settings": {"lock_timeout": "1s"}}],
                   "aliases": [{"name": "mydb_session", "pool_mode": "session"}]}],
    "client_networks": ["10.0.0.0/8"],
}  # fmt: skip


def left_over(pooler):
    return sorted(path.name for path in (pooler.home / "etc").glob(".*"))


@pytest.mark.parametrize(
    "states",
    [(EVEN, {**ODD, "options": {"query_timeout": 6}}), (EVEN, ODD)],
    ids=["reload", "restart"],
)
def test_a_run_that_is_killed_at_any_step_is_finished_by_the_next(pooler, states, monkeypatch):
    pooler.configure(**states[0])
    step, ended = 1 - faults.STRIDE, None
    while not ended:
        step += faults.STRIDE
        wanted = states[step % 2]
        with monkeypatch.context() as patch:
            patch.setattr(pgbouncer_config, "main", faults.killed_at(step, pgbouncer_config.main))
            try:
                ended = pooler.configure(**wanted)
            except pytest.fail.Exception:
                ended = None
        if not ended:
            result = pooler.configure(**wanted)
            assert not result.get("failed"), (step, result["msg"])
        again = pooler.configure(**wanted)
        assert (again["changed"], left_over(pooler)) == (False, []), (step, again["actions"])
        assert pooler.shows("query_timeout") == str(wanted["options"]["query_timeout"]), step
        assert pooler.query("SELECT 1") == 1, step
    print(f"{step // faults.STRIDE} kill points, and after each the next run converged")
    assert step > 40


def test_a_disk_that_is_full_from_any_step_on_changes_nothing(pooler, monkeypatch):
    pooler.configure(**EVEN)
    before, step = pooler.files(), 0
    wanted = {**ODD, "options": {"query_timeout": 6}, "auth": "query"}
    while True:
        step += 1
        with monkeypatch.context() as patch:
            patch.setattr(pgbouncer_config, "main", faults.full_from(step, pgbouncer_config.main))
            result = pooler.configure(**wanted)
        if not result.get("failed"):
            break
        assert "No space left on device" in result["msg"], (step, result)
        assert (pooler.files(), left_over(pooler)) == (before, []), step
        assert pooler.configure(**EVEN)["changed"] is False, step
    assert step > 4
    assert pooler.configure(**wanted)["changed"] is False


def test_what_a_broken_file_half_applied_is_mended(pooler):
    """PgBouncer 1.18 and 1.24 answer such a RELOAD as if it had gone well."""
    pooler.configure()
    good = pooler.ini.read_text()
    broken = good.replace("max_client_conn = 100", "max_client_conn = 777")
    pooler.ini.write_text(broken.replace("pool_mode = transaction", "pool_mode = nonsense"))
    with pooler.console() as cursor, suppress(psycopg.Error):
        cursor.execute("RELOAD")
    assert pooler.shows("max_client_conn") == "777"
    pooler.ini.write_text(good)
    assert pooler.predicted_and_done() == ["RELOAD"]
    assert pooler.shows("max_client_conn") == "100"


def test_a_verifier_of_the_same_length_is_read_within_the_same_second(pooler):
    """PgBouncer reads the auth file only when its inode, size or second has changed."""
    pooler.configure(auth="userlist")
    old = pooler.userlist.stat()
    try:
        pooler.cluster.sql("ALTER ROLE app_user PASSWORD 'another one'")
        role = {"name": "app_user", "kind": "user"}
        databases = [{"name": "mydb", "roles": [role]}]
        assert pooler.predicted_and_done(auth="userlist", databases=databases) == ["RELOAD"]
        new = pooler.userlist.stat()
        assert new.st_ino != old.st_ino
        assert new.st_size == old.st_size
        assert pooler.query("SELECT 1", password="another one") == 1
    finally:
        pooler.cluster.sql(f"ALTER ROLE app_user PASSWORD '{PASSWORD}'")
