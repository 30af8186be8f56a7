# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PgBouncer before a real server, for tests of pgbouncer_config.

Only systemd is played: a systemctl that starts and stops the real program with the limits of the
unit's drop-in, and forgets nothing that systemd would remember.

Fixtures:
    pgbouncer: the program of each version in turn, but for those outside of the test's marker
        C(pgbouncer(since=..., before=...)).
    pooled_server: a server with the databases and roles of a small model, shared by a file's tests.
    pooler: a PgBouncer before it, as its package would have left it.

POOLED_TEST_PGBOUNCER names other programs than those of C(tools/setup/pgbouncer), separated by
colons.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import (
    parse_version,
    version_text,
)

from .clusters import INSTALLED, may_execute

BROUGHT = Path(__file__).resolve().parents[2] / ".cache" / "pgbouncer"
SERVICE = "pooled-test"
PASSWORD = "tr0ub4dor&3"
ROLE = {"name": "app_user", "kind": "user", "password": PASSWORD}

SYSTEMCTL = """\
    #!/usr/bin/env python3
    import json, os, pathlib, re, signal, subprocess, sys, time

    home = pathlib.Path({home!r})
    state_file = home / "systemd.json"
    state = {{"loaded": {{}}, "pids": {{}}}}
    if state_file.exists():
        state = json.loads(state_file.read_text())

    def number(name):
        return name.partition("@")[2]

    def unit(name):
        if number(name):
            return home / "units" / "{service}@.service"
        return home / "units" / "{service}.service.d" / "pooled.conf"

    def on_disk(name):
        return unit(name).read_text() if unit(name).exists() else ""

    def loaded(name):
        return state["loaded"].get(str(unit(name)), "")

    def alive(name):
        try:
            pid = state["pids"].get(name, 0)
            return pathlib.Path(f"/proc/{{pid}}/stat").read_text().split()[2] != "Z"
        except FileNotFoundError:
            return False

    def stop(name):
        if alive(name):
            os.kill(state["pids"][name], signal.SIGINT)
            while alive(name):
                time.sleep(0.01)
        state["pids"].pop(name, None)

    def start(name):
        limit = re.search(r"^LimitNOFILE=(\\d+)", loaded(name), re.M)
        soft = limit.group(1) if limit else "1024"
        ini = {ini!r}
        if number(name):
            if not loaded(name):
                sys.exit(f"Failed to start {{name}}.service: Unit {{name}}.service not found.")
            ini = ini.replace(".ini", f"-{{number(name)}}.ini")
            runtime = home / "run" / f"{service}-{{number(name)}}"
            runtime.mkdir(exist_ok=True)
            os.chown(runtime, (home / "run").stat().st_uid, (home / "run").stat().st_gid)
        command = ["prlimit", f"--nofile={{soft}}:{{soft}}", *{identity!r}, {program!r}, ini]
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        log = home / "run" / f"pgbouncer{{name.replace('@', '-')[len('{service}'):]}}.log"
        size = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen(command, start_new_session=True, cwd="/", **quiet)
        for _ in range(6000):
            if log.exists() and b"process up" in log.read_bytes()[size:]:
                state["pids"][name] = process.pid
                return
            if process.poll() is not None:
                break
            time.sleep(0.01)
        save()
        sys.exit(f"Job for {{name}}.service failed.\\nSee the journal.")

    def save():
        state_file.write_text(json.dumps(state))

    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    command, name = words[0], words[1] if len(words) > 1 else ""
    if command == "show" and len(words) > 2 and "-p" not in words:
        for one, pid in state["pids"].items():
            state_now = "active" if alive(one) else "failed"
            print(f"Id={{one}}.service\\nActiveState={{state_now}}\\nMainPID={{pid}}\\n")
    elif command == "show":
        if name == "-p":
            print("DefaultLimitNOFILESoft=1024")
        else:
            there = not number(name) or loaded(name) or on_disk(name)
            print("LoadState=" + ("loaded" if there else "not-found"))
            print("ActiveState=" + ("active" if alive(name) else "failed"))
            print(f"MainPID={{state['pids'][name] if alive(name) else 0}}")
            print("NeedDaemonReload=" + ("no" if loaded(name) == on_disk(name) else "yes"))
            user = re.search(r"^User=(.*)$", loaded(name), re.M)
            print("User=" + (user.group(1) if user else {user!r}))
    elif command == "daemon-reload":
        state["loaded"] = {{str(unit(one)): on_disk(one) for one in ("{service}", "{service}@0")}}
    elif command in ("restart", "start", "stop"):
        concerned = [name]
        if command != "start" and not number(name) and words == sys.argv[1:]:
            concerned += [one for one in state["pids"] if number(one)]
        for one in concerned:
            if command != "start":
                stop(one)
            if command != "stop":
                start(one)
    save()
"""


@dataclass(frozen=True)
class Program:
    """A program of PgBouncer that runs on this machine."""

    path: Path
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return version_text(self.version)


def _programs() -> list[Program]:
    named = os.environ.get("POOLED_TEST_PGBOUNCER", "")
    paths = [Path(one) for one in named.split(":") if one] or BROUGHT.glob("*/pgbouncer")
    found = []
    for path in paths:
        shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
        found.append(Program(path, parse_version(shown.stdout)))
    return sorted(found, key=lambda program: program.version)


PROGRAMS = _programs()


def programs_for(marker: pytest.Mark | None) -> list[Program]:
    """Those that a test with this marker is for."""
    bounds = marker.kwargs if marker else {}
    since, before = bounds.get("since", (0,)), bounds.get("before", (1000,))
    return [program for program in PROGRAMS if since <= program.version < before]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Pooler:
    """A PgBouncer and its pretended service, which the module looks after."""

    home: Path
    cluster: Any
    program: Program
    port: int
    run_module: Callable[..., dict[str, Any]]

    @property
    def ini(self) -> Path:
        return self.home / "etc" / "pgbouncer.ini"

    @property
    def userlist(self) -> Path:
        return self.home / "etc" / "userlist.txt"

    @property
    def listed(self) -> dict[str, str]:
        """Users of the auth file and their secrets."""
        return dict(re.findall(r'^"([^"]*)" "([^"]*)"$', self.userlist.read_text(), re.MULTILINE))

    @property
    def pid(self) -> int:
        return self.pid_of(SERVICE)

    def pid_of(self, service: str) -> int:
        shown = os.popen(f"{self.home}/bin/systemctl show {service}").read()  # noqa: S605
        return int(dict(line.split("=") for line in shown.split())["MainPID"])

    def systemctl(self, command: str) -> None:
        assert os.system(f"{self.home}/bin/systemctl {command}") == 0  # noqa: S605

    @property
    def places(self) -> dict[str, str]:
        """Arguments of the module that keep it from this machine's own files."""
        return {
            "config_file": str(self.ini),
            "binary": str(self.program.path),
            "unit_directory": str(self.home / "units"),
            "runtime_directory": str(self.home / "run"),
            "logrotate_directory": str(self.home / "logrotate"),
        }

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
                **self.places,
                "service": SERVICE,
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
        files = ("write ", "remove ")
        return [action for action in done["actions"] if not action.startswith(files)]

    def files(self) -> dict[str, bytes]:
        places = [self.home / "etc", self.home / "units", self.home / "logrotate"]
        return {
            str(path): path.read_bytes()
            for place in places
            for path in place.rglob("*")
            if path.is_file()
        }

    @contextmanager
    def console(self, directory: str = "run") -> Iterator[psycopg.Cursor[Any]]:
        """The console, as the OS user that PgBouncer lets in."""
        user = self.cluster.user
        if user:
            os.seteuid(user.pw_uid)
        try:
            connection = psycopg.connect(
                host=str(self.home / directory), port=self.port, user="pgbouncer",
                dbname="pgbouncer",
                autocommit=True, cursor_factory=psycopg.ClientCursor,
            )  # fmt: skip
        finally:
            if user:
                os.seteuid(0)
        with connection:
            yield connection.cursor()

    def shows(self, name: str, directory: str = "run") -> str:
        with self.console(directory) as cursor:
            rows = cursor.execute("SHOW CONFIG").fetchall()
        return {row[0]: row[1] for row in rows}[name]

    def row_of(self, command: str, name: str) -> dict[str, Any]:
        """What the console shows of a database or a user."""
        with self.console() as cursor:
            rows = cursor.execute(command.encode()).fetchall()
            columns = [column.name for column in cursor.description or ()]
        return next(dict(zip(columns, row, strict=True)) for row in rows if row[0] == name)

    def query(self, statement: str, password: str = PASSWORD) -> Any:
        """A value that a client of the pool gets over TCP."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="app_user", password=password, dbname="mydb",
            prepare_threshold=None,
        ) as connection:  # fmt: skip
            return connection.execute(statement.encode()).fetchone()[0]


@pytest.fixture(scope="session")
def pgbouncer(request: pytest.FixtureRequest, _workplace: Path) -> Program:
    """A program that the servers' OS user may execute: copied when the checkout is private."""
    program: Program = request.param
    if program is None:
        pytest.fail("these tests need PgBouncer: run make servers")
    if may_execute(program.path):
        return program
    copy = _workplace / f"pgbouncer-{program}"
    if not copy.exists():
        shutil.copytree(program.path.parent, copy, symlinks=True)
    return Program(copy / program.path.name, program.version)


@pytest.fixture(scope="module")
def pooled_server(make_cluster: Callable[[int], Any]) -> Iterator[Any]:
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
    pooled_server: Any,
    pgbouncer: Program,
    tmp_path_factory: pytest.TempPathFactory,
    run_module: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Pooler]:
    """A pooler as a package would have left it: running, with a file of its own."""
    home = Path(pooled_server.directory) / tmp_path_factory.mktemp("pooler").name
    made = Pooler(home, pooled_server, pgbouncer, free_port(), run_module)
    for name in ("", "etc", "units", "bin", "run", "logrotate"):
        (home / name).mkdir(mode=0o755)
    made.ini.write_text(
        f"[databases]\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {made.port}\n"
        f"unix_socket_dir = {home}/run\nlogfile = {home}/run/pgbouncer.log\n"
        f"pidfile = {home}/run/pgbouncer.pid\nauth_file = {home}/etc/userlist.txt\n"
    )
    made.userlist.touch()
    identity = []
    if pooled_server.user:
        for path in (home / "run", made.ini, made.userlist):
            os.chown(path, pooled_server.user.pw_uid, pooled_server.user.pw_gid)
        ids = [f"--reuid={pooled_server.user.pw_uid}", f"--regid={pooled_server.user.pw_gid}"]
        identity = ["setpriv", *ids, "--clear-groups"]
    made.ini.chmod(0o640)
    made.userlist.chmod(0o640)
    script = home / "bin" / "systemctl"
    script.write_text(
        textwrap.dedent(SYSTEMCTL).format(
            home=str(home),
            service=SERVICE,
            identity=identity,
            user=pooled_server.os_user,
            program=str(pgbouncer.path),
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
