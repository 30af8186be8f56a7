# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pgbouncer_config against a real PgBouncer before a real server.

Only systemd is played: a systemctl that starts and stops the real program with the limits of the
unit's drop-in, and forgets nothing that systemd would remember.
"""

from __future__ import annotations

import os
import shutil
import socket
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
SERVICE = "pooled-test"
PASSWORD = "tr0ub4dor&3"
ROLE = {"name": "app_user", "kind": "user", "password": PASSWORD}

SYSTEMCTL = """\
    #!/usr/bin/env python3
    import json, os, pathlib, re, signal, subprocess, sys, time

    home = pathlib.Path({home!r})
    state_file = home / "systemd.json"
    state = {{"loaded": "", "pid": 0}}
    if state_file.exists():
        state = json.loads(state_file.read_text())
    dropin = home / "units" / "{service}.service.d" / "pooled.conf"
    on_disk = dropin.read_text() if dropin.exists() else ""

    def alive():
        try:
            return pathlib.Path(f"/proc/{{state['pid']}}/stat").read_text().split()[2] != "Z"
        except FileNotFoundError:
            return False

    def stop():
        if alive():
            os.kill(state["pid"], signal.SIGINT)
            while alive():
                time.sleep(0.01)
        state["pid"] = 0

    def start():
        limit = re.search(r"^LimitNOFILE=(\\d+)", state["loaded"], re.M)
        soft = limit.group(1) if limit else "1024"
        command = ["prlimit", f"--nofile={{soft}}:{{soft}}", *{identity!r}, {program!r}, {ini!r}]
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        log = home / "run" / "pgbouncer.log"
        size = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen(command, start_new_session=True, cwd="/", **quiet)
        for _ in range(500):
            if log.exists() and b"process up" in log.read_bytes()[size:]:
                state["pid"] = process.pid
                return
            if process.poll() is not None:
                break
            time.sleep(0.01)
        save()
        sys.exit("Job for {service}.service failed.\\nSee the journal.")

    def save():
        state_file.write_text(json.dumps(state))

    words = sys.argv[1:]
    if words[0] == "show":
        if words[1] == "-p":
            print("DefaultLimitNOFILESoft=1024")
        else:
            print("LoadState=loaded")
            print("ActiveState=" + ("active" if alive() else "failed"))
            print(f"MainPID={{state['pid'] if alive() else 0}}")
            print("NeedDaemonReload=" + ("no" if state["loaded"] == on_disk else "yes"))
    elif words[0] == "daemon-reload":
        state["loaded"] = on_disk
    elif words[0] == "restart":
        stop()
        start()
    elif words[0] == "stop":
        stop()
    save()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Pooler:
    """A PgBouncer and its pretended service, which the module looks after."""

    home: Path
    cluster: Any
    port: int
    run_module: Callable[..., dict[str, Any]]

    @property
    def ini(self) -> Path:
        return self.home / "etc" / "pgbouncer.ini"

    @property
    def userlist(self) -> Path:
        return self.home / "etc" / "userlist.txt"

    @property
    def pid(self) -> int:
        shown = os.popen(f"{self.home}/bin/systemctl show {SERVICE}").read()  # noqa: S605
        return int(dict(line.split("=") for line in shown.split())["MainPID"])

    def systemctl(self, command: str) -> None:
        assert os.system(f"{self.home}/bin/systemctl {command}") == 0  # noqa: S605

    def configure(
        self, check: bool = False, options: dict[str, Any] | None = None, **more: Any
    ) -> dict[str, Any]:
        run = self.home / "run"
        return self.run_module(
            "pgbouncer_config",
            {
                "databases": [{"name": "mydb", "roles": [ROLE]}],
                "backend_socket_dir": str(self.cluster.socket_directory),
                "backend_port": self.cluster.port,
                "config_file": str(self.ini),
                "binary": PGBOUNCER,
                "service": SERVICE,
                "unit_directory": str(self.home / "units"),
                "os_user": self.cluster.os_user,
                "options": {
                    "listen_addr": "127.0.0.1",
                    "listen_port": self.port,
                    "max_client_conn": 100,
                    "auth_file": str(self.userlist),
                    "unix_socket_dir": str(run),
                    "logfile": str(run / "pgbouncer.log"),
                    "pidfile": str(run / "pgbouncer.pid"),
                    **(options or {}),
                },
                **more,
            },
            check=check,
        )

    def predicted_and_done(self, **arguments: Any) -> list[str]:
        """What check mode says and the run then does; after that there is nothing to do."""
        before = self.files()
        predicted = self.configure(check=True, **arguments)
        assert self.files() == before
        done = self.configure(**arguments)
        assert not done.get("failed"), done["msg"]
        assert predicted["actions"] == done["actions"]
        assert [one["after"] for one in predicted["diff"]] == [one["after"] for one in done["diff"]]
        reconnect = arguments.pop("reconnect", False)
        again = self.configure(**arguments)
        assert (again["changed"], again["actions"], again["diff"]) == (False, [], [])
        assert done["changed"] or not (done["actions"] or reconnect)
        return [action.split("/")[0] for action in done["actions"] if "write" not in action]

    def files(self) -> dict[str, bytes]:
        places = [self.home / "etc", self.home / "units"]
        return {
            str(path): path.read_bytes()
            for place in places
            for path in place.rglob("*")
            if path.is_file()
        }

    @contextmanager
    def console(self) -> Iterator[psycopg.Cursor[Any]]:
        """The console, as the OS user that PgBouncer lets in."""
        user = self.cluster.user
        if user:
            os.seteuid(user.pw_uid)
        try:
            connection = psycopg.connect(
                host=str(self.home / "run"), port=self.port, user="pgbouncer", dbname="pgbouncer",
                autocommit=True, cursor_factory=psycopg.ClientCursor,
            )  # fmt: skip
        finally:
            if user:
                os.seteuid(0)
        with connection:
            yield connection.cursor()

    def shows(self, name: str) -> str:
        with self.console() as cursor:
            rows = cursor.execute("SHOW CONFIG").fetchall()
        return {row[0]: row[1] for row in rows}[name]

    def query(self, statement: str, password: str = PASSWORD) -> Any:
        """A value that a client of the pool gets over TCP."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="app_user", password=password, dbname="mydb",
            prepare_threshold=None,
        ) as connection:  # fmt: skip
            return connection.execute(statement.encode()).fetchone()[0]


@pytest.fixture(scope="module")
def cluster(make_cluster: Callable[[int], Any]) -> Iterator[Any]:
    from .conftest import INSTALLED

    made = make_cluster(max(INSTALLED, default=0))
    for statement in (
        f"CREATE ROLE app_user LOGIN PASSWORD '{PASSWORD}'",
        "ALTER ROLE app_user SET statement_timeout = '30s'",
        "CREATE ROLE pgbouncer_auth LOGIN",
        "CREATE DATABASE mydb",
    ):
        made.sql(statement)
    for statement in (
        "CREATE SCHEMA pgbouncer",
        """CREATE FUNCTION pgbouncer.get_auth(text) RETURNS TABLE (username name, password text)
        LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
        AS 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 AND NOT rolsuper'""",
        "GRANT USAGE ON SCHEMA pgbouncer TO pgbouncer_auth",
    ):
        made.sql(statement, "mydb")
    yield made
    made.stop()


@pytest.fixture
def pooler(
    cluster: Any,
    tmp_path_factory: pytest.TempPathFactory,
    run_module: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Pooler]:
    """A pooler as a package would have left it: running, with a file of its own."""
    assert PGBOUNCER, "these tests need PgBouncer: apt install pgbouncer"
    home = Path(cluster.directory) / tmp_path_factory.mktemp("pooler").name
    made = Pooler(home, cluster, free_port(), run_module)
    for name in ("", "etc", "units", "bin", "run"):
        (home / name).mkdir(mode=0o755)
    made.ini.write_text(
        f"[databases]\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {made.port}\n"
        f"unix_socket_dir = {home}/run\nlogfile = {home}/run/pgbouncer.log\n"
        f"pidfile = {home}/run/pgbouncer.pid\nauth_file = {home}/etc/userlist.txt\n"
    )
    made.userlist.touch()
    identity = []
    if cluster.user:
        for path in (home / "run", made.ini, made.userlist):
            os.chown(path, cluster.user.pw_uid, cluster.user.pw_gid)
        identity = ["setpriv", f"--reuid={cluster.user.pw_uid}", f"--regid={cluster.user.pw_gid}",
                    "--clear-groups"]  # fmt: skip
    made.ini.chmod(0o640)
    made.userlist.chmod(0o640)
    script = home / "bin" / "systemctl"
    script.write_text(
        textwrap.dedent(SYSTEMCTL).format(
            home=str(home),
            service=SERVICE,
            identity=identity,
            program=PGBOUNCER,
            ini=str(made.ini),
        )
    )
    journal = home / "bin" / "journalctl"
    journal.write_text("#!/bin/sh\necho nothing here\n")
    for program in (script, journal):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{os.environ['PATH']}")
    made.systemctl(f"restart {SERVICE}")
    yield made
    made.systemctl(f"stop {SERVICE}")


def test_clients_log_in_and_have_their_roles_settings(pooler):
    actions = pooler.predicted_and_done()
    assert actions == ["systemctl daemon-reload", "RELOAD", "RECONNECT"]
    assert pooler.query("SHOW statement_timeout") == "30s"
    assert pooler.userlist.read_bytes() == b""
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
    ({"databases": [{"name": "x", "roles": [{"name": "a", "kind": "usr"}]}]},
     "databases[0].roles[0].kind: 'usr' is no kind of role"),
    ({"options": {"auth_type": "trust"}}, "options.auth_type: 'trust' is not allowed, because it"),
    ({"limit_nofile": "10"}, "limit_nofile: 10 is less than the 224 file descriptors"),
    ({"backend_host": "db.internal"}, "auth_password: Postgres is on another host (db.internal)"),
    ({"backend_host": "db.internal", "auth": "userlist"},
     "auth: with 'userlist' and Postgres on another host, the password of role 'app_user' has to"),
    ({"options": {"client_tls_sslmode": "require", "client_tls_key_file": "/nowhere"}},
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


def test_a_pooler_that_does_not_come_up_gets_its_files_back(pooler):
    pooler.configure()
    before = pooler.files()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = pooler.configure(options={"listen_port": port})
    assert result["failed"]
    assert "Address already in use" in result["msg"]
    assert result["msg"].endswith("The previous files are back, and the pooler runs with them.")
    assert pooler.files() == before
    assert pooler.query("SELECT 1") == 1
    assert pooler.configure()["changed"] is False


def test_an_interrupted_run_is_finished(pooler):
    pooler.configure()
    marker = pooler.ini.with_name(".pooled-unfinished")
    marker.write_text("write it\nRELOAD\n")
    assert pooler.predicted_and_done() == ["RELOAD", "RECONNECT"]
    marker.write_text("write it\nrestart for listen_port\n")
    assert pooler.predicted_and_done() == ["restart for an interrupted restart"]
    assert not marker.exists()


def test_a_userlist_holds_the_servers_verifiers_and_can_be_left_again(pooler):
    pooler.configure()
    pooler.predicted_and_done(auth="userlist")
    verifier = pooler.cluster.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app_user'")
    assert pooler.userlist.read_text() == f'"app_user" "{verifier[0][0]}"\n'
    assert pooler.query("SELECT 1") == 1
    result = pooler.configure(check=True)
    assert verifier[0][0] not in str(result)
    # A reload would keep app_user as a user without a password.
    assert pooler.predicted_and_done() == ["restart for users of the old auth file"]
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


def test_the_role_of_a_pooler_elsewhere_is_the_only_one_in_its_userlist(pooler):
    pooler.configure()
    elsewhere = {"backend_host": "127.0.0.1", "auth_password": "bouncers-own"}
    result = pooler.configure(**elsewhere)
    assert pooler.userlist.read_text() == '"pgbouncer_auth" "bouncers-own"\n'
    assert "bouncers-own" not in str(result)
    pooler.cluster.sql("ALTER ROLE pgbouncer_auth PASSWORD 'bouncers-own'")
    assert pooler.query("SELECT 1") == 1
