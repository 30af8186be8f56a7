# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restarts of a server while applications write through PgBouncer: they wait, and do not fail."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._server import running
from tests.integration.clusters import PATIENCE_S
from tests.integration.poolers import PASSWORD, ROLE, SERVICE, Pooler
from tests.integration.test_postgres_settings import SYSTEMCTL

# Which of the two it is for: PgBouncer's, or the server's.
DISPATCH = """#!/bin/sh
case "$*" in *{service}* | daemon-reload) exec {pooler} "$@" ;; esac
exec {server} "$@"
"""
# What the module has started besides the program that runs this.
KILL_SIBLINGS = """\
for pid in $(cat /proc/$PPID/task/*/children); do
    [ "$pid" = $$ ] || kill -9 "$pid" && echo "$pid" >> "$STUB_CALLS.killed"
done
"""
# A writer for each; of the longer ones, some are always under way.
TRANSACTIONS_S = (0, 0, 0.3, 0.3, 0.3)
# What a pool takes to serve again after whoever held it is gone.
SECONDS = 5


class Application:
    """Threads that write and log in all the time, and what came of it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.stopped = threading.Event()
        self.good = {"write": 0, "login": 0}
        self.failed: list[str] = []
        self.slowest = 0.0

    def connect(self) -> Any:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="app_user", password=PASSWORD, dbname="mydb",
            prepare_threshold=None, connect_timeout=30,
        )  # fmt: skip

    def note(self, kind: str, begun: float, error: Exception | None = None) -> None:
        self.slowest = max(self.slowest, time.monotonic() - begun)
        if error is None:
            self.good[kind] += 1
        else:
            self.failed.append(f"{kind}: {error}")
            time.sleep(0.05)

    def write(self, seconds: float) -> None:
        """Write in transactions that take so long."""
        connection = None
        while not self.stopped.is_set():
            begun = time.monotonic()
            try:
                connection = connection or self.connect()
                with connection.transaction():
                    connection.execute("INSERT INTO written SELECT 1 FROM pg_sleep(%s)", [seconds])
                self.note("write", begun)
            except psycopg.Error as error:
                self.note("write", begun, error)
                connection = None
            time.sleep(0.002)

    def log_in(self) -> None:
        while not self.stopped.is_set():
            begun = time.monotonic()
            try:
                with self.connect() as connection:
                    connection.execute("SELECT 1")
                self.note("login", begun)
            except psycopg.Error as error:
                self.note("login", begun, error)
            time.sleep(0.02)

    @contextmanager
    def works(self) -> Iterator[None]:
        """While it works, it does so from the beginning to the end."""
        threads = [threading.Thread(target=self.write, args=[one]) for one in TRANSACTIONS_S]
        threads.append(threading.Thread(target=self.log_in))
        for thread in threads:
            thread.start()
        try:
            self.goes_on()
            yield
            self.goes_on()
        finally:
            self.stopped.set()
            for thread in threads:
                thread.join()

    def goes_on(self) -> None:
        before = dict(self.good)
        deadline = time.monotonic() + PATIENCE_S
        while any(self.good[kind] < before[kind] + 20 for kind in before):
            assert time.monotonic() < deadline, (self.good, self.failed)
            time.sleep(0.02)


class Stack:
    """A managed server behind a PgBouncer."""

    def __init__(self, pooler: Pooler, run_module: Callable[..., dict[str, Any]]) -> None:
        self.pooler = pooler
        self.cluster = pooler.cluster
        self._run_module = run_module

    def run(self, settings: dict[str, Any], check: bool = False, **more: Any) -> dict[str, Any]:
        cluster = self.cluster
        arguments = {
            "settings": settings,
            "version": cluster.major,
            "config_directory": str(cluster.data),
            "binary_directory": str(cluster.bindir),
            "log_file": str(cluster.log_path),
            "service": "the-service",
            "pooler_service": SERVICE,
            "restart": "always",
            "restart_timeout": 20,
            "login_os_user": cluster.os_user,
            **more,
        }
        return self._run_module("postgres_settings", arguments, check=check)

    def another(self) -> dict[str, Any]:
        """Settings that take a restart."""
        now = int(self.show("max_worker_processes"))
        return {"max_worker_processes": now + 1}

    def show(self, name: str) -> str:
        return str(self.cluster.sql(f"SHOW {name}")[0][0])

    def started(self) -> Any:
        return self.cluster.sql("SELECT pg_postmaster_start_time()")[0][0]

    def paused(self, directory: str = "run") -> list[str]:
        with self.pooler.console(directory) as cursor:
            rows = cursor.execute("SHOW DATABASES").fetchall()
            column = [one.name for one in cursor.description or ()].index("paused")
        return [row[0] for row in rows if row[column]]

    def pauses(self) -> int:
        """How often PgBouncer was told to pause something."""
        return (self.pooler.home / "run" / "pgbouncer.log").read_text().count("PAUSE ")

    def tell(self, command: str) -> None:
        with self.pooler.console() as cursor:
            cursor.execute(command.encode())

    def resumes(self, within_s: float = SECONDS) -> None:
        """See that nothing stays paused."""
        deadline = time.monotonic() + within_s
        while self.paused():
            assert time.monotonic() < deadline, f"paused: {self.paused()}"
            time.sleep(0.05)
        assert self.pooler.query("SELECT 1") == 1

    def stop_server(self) -> None:
        """End whichever server runs, so that the fixture's own may start."""
        with suppress(FileNotFoundError):
            os.kill(int((self.cluster.data / "postmaster.pid").read_text().split()[0]), 2)
        while (self.cluster.data / "postmaster.pid").exists():
            time.sleep(0.05)
        if self.cluster.process:
            self.cluster.process.wait()
            self.cluster.process = None


@pytest.fixture
def stack(
    pooler: Pooler,
    run_module: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stack]:
    cluster, home = pooler.cluster, pooler.home
    made = Stack(pooler, run_module)
    conf_d = cluster.data / "conf.d"
    if not conf_d.exists():
        conf_d.mkdir(mode=0o700)
        if cluster.user:
            os.chown(conf_d, cluster.user.pw_uid, cluster.user.pw_gid)
        with (cluster.data / "postgresql.conf").open("a") as conf:
            conf.write("include_dir = 'conf.d'\n")
        cluster.sql("CREATE TABLE written (id int)", "mydb")
        cluster.sql("GRANT INSERT ON written TO app_user", "mydb")
    front = home / "front"
    front.mkdir(mode=0o755)
    stub = front / "server"
    stub.write_text(SYSTEMCTL)
    dispatcher = front / "systemctl"
    dispatcher.write_text(
        DISPATCH.format(service=SERVICE, pooler=home / "bin" / "systemctl", server=stub)
    )
    for program in (stub, dispatcher):
        program.chmod(0o755)
    for name, value in {
        "PATH": f"{front}:{os.environ['PATH']}",
        "STUB_CALLS": home / "calls",
        "STUB_DATA": cluster.data,
        "STUB_DOWN": "0.7",
        "STUB_DEMOTE": f"runuser -u {cluster.os_user} --" if cluster.user else "",
        "STUB_KILL": "",
        "STUB_LOG": cluster.log_path,
        "STUB_POSTGRES": cluster.bindir / "postgres",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(running, "SETTLE_S", 0.1)
    configured = pooler.configure()
    assert not configured.get("failed"), configured["msg"]
    yield made
    made.stop_server()
    for path in conf_d.iterdir():
        path.unlink()
    cluster.start()


def test_clients_wait_while_the_server_restarts(stack):
    settings = stack.another()
    predicted = stack.run(settings, check=True)
    application = Application(stack.pooler.port)
    with application.works():
        before = stack.started()
        done = stack.run(settings)
        assert not done.get("failed"), done["msg"]
        assert stack.started() > before
    assert application.failed == []
    assert done["actions"] == predicted["actions"]
    assert done["actions"][-3:] == [
        f"pause mydb of {SERVICE}",
        "restart the-service",
        f"resume mydb of {SERVICE}",
    ]
    assert done.get("warnings", []) == []
    stack.resumes(0)
    # Nothing to do, nothing paused; and a change that a reload applies pauses nothing either.
    pauses = stack.pauses()
    assert stack.run(settings)["actions"] == []
    assert not stack.run({**settings, "work_mem": "5MB"}).get("failed")
    assert stack.pauses() == pauses == 1
    # And without, as a proof that the application would have noticed.
    careless = Application(stack.pooler.port)
    with careless.works():
        done = stack.run(stack.another(), pause_timeout=0)
    assert careless.failed != []
    assert "restart the-service" in done["actions"]
    assert not [action for action in done["actions"] if action.startswith(("pause", "resume"))]
    assert stack.pauses() == pauses
    print(
        f"\nwith: {application.good}, slowest {application.slowest:.2f} s; "
        f"without: {careless.good}, failed {len(careless.failed)}"
    )


def test_a_transaction_that_stays_open_is_cut_and_named(stack):
    idle = psycopg.connect(
        host="127.0.0.1", port=stack.pooler.port, user="app_user", password=PASSWORD,
        dbname="mydb", prepare_threshold=None,
    )  # fmt: skip
    idle.execute("SELECT 1")
    application = Application(stack.pooler.port)
    with application.works():
        begun = time.monotonic()
        done = stack.run(stack.another(), pause_timeout=2)
        took = time.monotonic() - begun
    assert not done.get("failed"), done["msg"]
    assert 2 < took < 60
    assert done["warnings"] == [
        f"{SERVICE}: after 2 s (pause_timeout) transactions were still open, 1 of app_user in mydb;"
        " the restart cuts these, and all other clients wait"
    ]
    assert application.failed == []
    with pytest.raises(psycopg.OperationalError):
        idle.execute("SELECT 1")
    stack.resumes(0)


@pytest.mark.parametrize("when", ["before", "stopped"])
def test_a_module_that_is_killed_leaves_no_pool_paused(stack, monkeypatch, when):
    """Killed with the pools paused, before the server has stopped and after."""
    monkeypatch.setenv("STUB_KILL", when)
    with pytest.raises(pytest.fail.Exception):
        stack.run(stack.another())
    assert stack.pauses() == 1
    if when == "stopped":
        stack.cluster.process = None
        stack.cluster.start()
    stack.resumes()


def children() -> set[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


def test_a_module_that_is_killed_while_it_waits_leaves_no_pool_paused(stack):
    idle = psycopg.connect(
        host="127.0.0.1", port=stack.pooler.port, user="app_user", password=PASSWORD,
        dbname="mydb", prepare_threshold=None,
    )  # fmt: skip
    idle.execute("SELECT 1")
    before, started = children(), stack.started()

    ended = []

    def run() -> None:
        with suppress(pytest.fail.Exception):
            ended.append(stack.run(stack.another(), pause_timeout=60))

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while stack.paused() != ["mydb"]:
        assert time.monotonic() < deadline, ended
        time.sleep(0.02)
    (module,) = children() - before
    os.kill(module, signal.SIGKILL)
    thread.join()
    stack.resumes()
    assert idle.execute("SELECT 2").fetchone() == (2,)
    assert stack.started() == started


@pytest.mark.pgbouncer(since=(1, 21))
def test_a_holder_that_is_killed_leaves_no_pool_paused(stack, monkeypatch):
    """The module itself resumes then."""
    stub = stack.pooler.home / "front" / "server"
    stub.write_text(stub.read_text().replace("trap ", f"{KILL_SIBLINGS}trap ", 1))
    done = stack.run(stack.another())
    assert not done.get("failed"), done["msg"]
    assert (stack.pooler.home / "calls.killed").read_text().strip()
    assert done.get("warnings", []) == []
    stack.resumes(0)


@pytest.mark.pgbouncer(since=(1, 21))
def test_pools_go_on_when_the_server_does_not_start_with_the_settings(stack):
    before = stack.show("shared_buffers")
    application = Application(stack.pooler.port)
    with application.works():
        done = stack.run({"shared_buffers": "7TB"})
    assert "could not map anonymous shared memory" in done["msg"]
    assert "the last good files are back, and the server runs with them" in done["msg"]
    assert stack.show("shared_buffers") == before
    assert application.failed == []
    stack.resumes(0)


def test_what_somebody_has_paused_stays_so(stack):
    roles = {"roles": [ROLE]}
    assert not stack.pooler.configure(
        databases=[{"name": "mydb", **roles}, {"name": "theirs", **roles}]
    ).get("failed")
    stack.tell('PAUSE "theirs"')
    settings = stack.another()
    predicted = stack.run(settings, check=True)
    done = stack.run(settings)
    assert not done.get("failed"), done["msg"]
    assert predicted["actions"] == done["actions"]
    assert done["actions"][-1] == f"resume mydb of {SERVICE}"
    assert stack.paused() == ["theirs"]
    stack.tell('RESUME "theirs"')
    stack.tell("PAUSE")
    done = stack.run(stack.another())
    assert (done.get("failed"), done.get("warnings", [])) == (None, [])
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        psycopg.connect(
            host="127.0.0.1", port=stack.pooler.port, user="app_user", password=PASSWORD,
            dbname="mydb", connect_timeout=2,
        )  # fmt: skip
    stack.tell("RESUME")
    stack.resumes(0)


def test_only_databases_of_this_server_are_paused(stack):
    pooler, port = stack.pooler, stack.cluster.port
    lines = [
        f"By-name = host=localhost port={port} dbname=mydb",
        f"by_address = host={socket.gethostbyname(socket.gethostname())} port={port} dbname=mydb",
        f"by_list = host=192.0.2.7,127.0.0.1 port={port} dbname=mydb",
        f"elsewhere = host=192.0.2.7 port={port} dbname=mydb",
        f"other_port = host=127.0.0.1 port={port + 1} dbname=mydb",
        "other_socket = host=/tmp dbname=mydb",
        f"own_socket = port={port} dbname=mydb",
    ]
    text = pooler.ini.read_text()
    pooler.ini.write_text(text.replace("[databases]\n", "\n".join(["[databases]", *lines, ""]), 1))
    stack.tell("RELOAD")
    predicted = stack.run(stack.another(), check=True)
    assert predicted["actions"][-3:] == [
        f"pause By-name, by_address, by_list, mydb of {SERVICE}",
        "restart the-service",
        f"resume By-name, by_address, by_list, mydb of {SERVICE}",
    ]
    done = stack.run(stack.another())
    assert predicted["actions"] == done["actions"]
    assert done.get("warnings", []) == []
    assert stack.paused() == []
    log = (pooler.home / "run" / "pgbouncer.log").read_text()
    assert log.count("PAUSE '") == log.count("RESUME '") == 4


@pytest.mark.pgbouncer(since=(1, 21))
def test_all_processes_wait(stack):
    configured = stack.pooler.configure(processes=3)
    assert not configured.get("failed"), configured["msg"]
    application = Application(stack.pooler.port)
    with application.works():
        done = stack.run(stack.another())
    assert application.failed == []
    assert [line for line in done["actions"] if line.startswith("pause")] == [
        f"pause mydb of {unit}" for unit in (SERVICE, f"{SERVICE}@2", f"{SERVICE}@3")
    ]
    for directory in ("run", f"run/{SERVICE}-2", f"run/{SERVICE}-3"):
        assert stack.paused(directory) == []


def test_pools_that_are_kept_filled_wait_too(stack):
    assert not stack.pooler.configure(database_options={"mydb": {"min_pool_size": 5}}).get("failed")
    application = Application(stack.pooler.port)
    with application.works():
        done = stack.run(stack.another())
    assert (application.failed, done.get("warnings", [])) == ([], [])


@pytest.mark.pgbouncer(since=(1, 21))
def test_a_pooler_that_is_stopped_or_mute_does_not_matter(stack):
    os.kill(stack.pooler.pid, signal.SIGSTOP)
    try:
        done = stack.run(stack.another())
    finally:
        os.kill(stack.pooler.pid, signal.SIGCONT)
    assert not done.get("failed"), done["msg"]
    assert [warning.partition(": ")[2].partition(": ")[0] for warning in done["warnings"]] == [
        "its clients do not wait while the server restarts"
    ]
    stack.pooler.systemctl(f"stop {SERVICE}")
    done = stack.run(stack.another())
    assert (done.get("failed"), done.get("warnings", [])) == (None, [])
    assert done["actions"][-1] == "restart the-service"


@pytest.mark.pgbouncer(since=(1, 21))
def test_a_negative_time_is_refused(stack):
    before = stack.started()
    assert stack.run(stack.another(), pause_timeout=-1)["msg"] == (
        "pause_timeout: -1 is not a valid number of seconds; give 0 to leave the pools alone, or"
        " how long to wait for open transactions"
    )
    assert stack.started() == before


class Elsewhere:
    """A PgBouncer whose server is on another host, as far as addresses say."""

    def __init__(self, stack: Stack, run_module: Callable[..., dict[str, Any]]) -> None:
        self.stack = stack
        self.run_module = run_module
        port = stack.cluster.port
        ini = stack.pooler.ini
        line = f"[databases]\ntcp = host=localhost port={port} dbname=mydb\n"
        ini.write_text(ini.read_text().replace("[databases]\n", line, 1))
        stack.tell("RELOAD")

    def pause(self, check: bool = False, **more: Any) -> dict[str, Any]:
        arguments = {
            "state": "paused",
            "server_addresses": ["10.9.8.7", "127.0.0.1"],
            "server_port": self.stack.cluster.port,
            "service": SERVICE,
            **more,
        }
        return self.run_module("pgbouncer_pause", arguments, check=check)

    def resume(self, held: dict[str, Any], check: bool = False) -> dict[str, Any]:
        return self.run_module("pgbouncer_pause", {"state": "resumed", "held": held}, check=check)


@pytest.fixture
def elsewhere(stack: Stack, run_module: Callable[..., dict[str, Any]]) -> Elsewhere:
    return Elsewhere(stack, run_module)


def test_pools_of_a_server_elsewhere_wait_from_one_call_to_the_other(elsewhere):
    predicted = elsewhere.pause(check=True)
    assert elsewhere.stack.paused() == []
    done = elsewhere.pause()
    assert done["actions"] == predicted["actions"] == [f"pause tcp of {SERVICE}"]
    assert (done["changed"], done.get("warnings", [])) == (True, [])
    assert elsewhere.stack.paused() == ["tcp"]
    elsewhere.resume(predicted["held"], check=True)
    assert elsewhere.stack.paused() == ["tcp"]
    ended = elsewhere.resume(done["held"])
    assert (ended["actions"], ended.get("warnings", [])) == ([f"resume tcp of {SERVICE}"], [])
    assert elsewhere.stack.paused() == []
    assert not elsewhere.resume(done["held"]).get("failed")
    for none in ({"server_addresses": ["10.9.8.7"]}, {"server_port": 1}, {"timeout": 0}):
        done = elsewhere.pause(**none)
        assert (done["changed"], done["actions"]) == (False, [])
    assert elsewhere.stack.pauses() == 1


@pytest.mark.pgbouncer(since=(1, 21))
def test_pools_that_nobody_resumes_go_on_by_themselves(elsewhere):
    assert elsewhere.pause(limit=2)["changed"]
    assert elsewhere.stack.paused() == ["tcp"]
    elsewhere.stack.resumes(2 + SECONDS)


@pytest.mark.pgbouncer(since=(1, 21))
def test_pools_are_resumed_also_without_who_held_them(elsewhere):
    held = elsewhere.pause()["held"]
    os.kill(held["pid"], signal.SIGKILL)
    assert elsewhere.stack.paused() == ["tcp"]
    assert elsewhere.resume(held).get("warnings", []) == []
    assert elsewhere.stack.paused() == []
