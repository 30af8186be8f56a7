# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away Postgres servers of several majors, and modules run against them for real.

Fixtures:
    server: a running Cluster of each major in turn, shared by the whole session.
    clean_server: the same, without the databases and roles that earlier tests left.
    make_cluster: makes a Cluster of the test's own, for tests that stop or reconfigure it.
    run_module: runs one of the collection's modules in a process of its own; returns its JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator, NoReturn

import psycopg
import pytest
from ansible.module_utils import basic

from .poolers import pooled_server, pooler  # noqa: F401 - fixtures of every test here

ROOT = Path(__file__).resolve().parents[2]
MODULES = "ansible_collections.pooled.postgres.plugins.modules"
LEAST_MAJORS = 2
START_TIMEOUT_S = 30
MISSING = (
    f"integration tests need servers of at least {LEAST_MAJORS} majors: run make servers, or name"
    " directories in POOLED_TEST_BINDIRS"
)


def _bin_directories() -> Iterator[Path]:
    """Where server binaries may be, the preferred first."""
    for name in filter(None, os.environ.get("POOLED_TEST_BINDIRS", "").split(os.pathsep)):
        yield Path(name)
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    yield from sorted((ROOT / ".cache" / "servers").glob("*/bin"))


def _installed() -> dict[int, Path]:
    """The directory of binaries of each major on this machine."""
    found: dict[int, Path] = {}
    for directory in _bin_directories():
        if not (directory / "initdb").exists():
            continue
        version = subprocess.run(
            [directory / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout
        match = re.search(r"\) (\d+)", version)
        assert match, version
        found.setdefault(int(match.group(1)), directory)
    return dict(sorted(found.items()))


INSTALLED = _installed()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "major" in metafunc.fixturenames:
        majors = list(INSTALLED) if len(INSTALLED) >= LEAST_MAJORS else [0]
        metafunc.parametrize(
            "major", majors, scope="session", ids=[f"pg{major}" for major in majors]
        )


def _server_user() -> pwd.struct_passwd | None:
    """The OS user that servers run as: Postgres refuses root. None for this process's own."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.fail("no unprivileged OS user to run servers as: neither postgres nor nobody exists")


def _demoted(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """Arguments for subprocess to run as that user."""
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Cluster:
    """A throw-away server; any role may log in over its private unix socket without a password."""

    major: int
    bindir: Path
    directory: Path
    port: int
    user: pwd.struct_passwd | None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def socket_directory(self) -> Path:
        return self.directory / "socket"

    @property
    def os_user(self) -> str:
        """Name of the OS user that the server runs as."""
        return self.user.pw_name if self.user else pwd.getpwuid(os.geteuid()).pw_name

    @property
    def login(self) -> dict[str, Any]:
        """Connection options for modules."""
        return {
            "login_unix_socket": str(self.socket_directory),
            "login_port": self.port,
            "login_os_user": self.os_user,
        }

    def initialise(self) -> None:
        for path in (self.data, self.socket_directory):
            path.mkdir(mode=0o700)
            if self.user:
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-E", "UTF8", "--locale=C",
                  "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync")  # fmt: skip
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\n"
                f"unix_socket_directories = '{self.socket_directory}'\n"
                "fsync = off\nshared_buffers = 16MB\nmax_connections = 40\n"
                "log_statement = 'all'\nlog_min_duration_statement = 0\n"
            )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        assert self.process is None, "the server runs already"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [self.bindir / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                start_new_session=True, **_demoted(self.user),
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop(signal.SIGQUIT)
                    pytest.fail(f"server {self.major} did not start:\n{self.log()[-3000:]}")
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT is a fast shutdown, SIGQUIT a crash."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(timeout=START_TIMEOUT_S)
        self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def log_path(self) -> Path:
        return self.directory / "server.log"

    def log(self) -> str:
        """All that the server has logged."""
        return self.log_path.read_text(errors="replace")

    def connect(self, dbname: str = "postgres", user: str = "postgres", **more: Any) -> Any:
        """A connection of an independent client, in autocommit mode."""
        arguments = {"host": str(self.socket_directory), "port": self.port, **more}
        return psycopg.connect(dbname=dbname, user=user, autocommit=True, **arguments)

    def sql(self, statement: str, dbname: str = "postgres", user: str = "postgres") -> list[Any]:
        """Rows of a statement run by an independent client."""
        with self.connect(dbname, user) as connection:
            cursor = connection.execute(statement.encode())
            while cursor.nextset():
                pass
            return list(cursor.fetchall()) if cursor.description else []

    def refusal(self, statement: str, dbname: str = "postgres", user: str = "postgres") -> str:
        """SQLSTATE of the error that a statement ends in; empty when it succeeds."""
        try:
            self.sql(statement, dbname, user)
        except psycopg.Error as error:
            return error.sqlstate or "connection"
        return ""

    def can_log_in(self, user: str, password: str, dbname: str = "postgres") -> bool:
        """Whether the server takes that password over TCP, where it asks for SCRAM."""
        try:
            self.connect(dbname, user, host="127.0.0.1", password=password).close()
        except psycopg.OperationalError:
            return False
        return True

    def clean(self) -> None:
        """Drop the databases and roles that tests made."""
        with self.connect() as connection:
            databases = connection.execute(
                "SELECT quote_ident(datname) FROM pg_database WHERE datname NOT IN"
                " ('postgres', 'template0', 'template1')"
            ).fetchall()
            for (name,) in databases:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            roles = connection.execute(
                "SELECT quote_ident(rolname) FROM pg_roles"
                " WHERE rolname <> 'postgres' AND rolname NOT LIKE 'pg\\_%'"
            ).fetchall()
            for (name,) in roles:
                connection.execute(f"DROP OWNED BY {name} CASCADE")
            for (name,) in roles:
                connection.execute(f"DROP ROLE {name}")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.bindir / program, *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, check=True,
            cwd="/", **_demoted(self.user),
        )  # fmt: skip


@pytest.fixture(scope="session")
def _workplace() -> Iterator[Path]:
    """A short path that the servers' OS user may enter: a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="pooled-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="session")
def _bindir(_workplace: Path) -> Callable[[int], Path]:
    """Binaries that the servers' OS user may execute: copied when the checkout is private."""
    user = _server_user()

    def for_major(major: int) -> Path:
        original = INSTALLED[major]
        reachable = subprocess.run(
            ["/usr/bin/test", "-x", original / "postgres"], check=False, cwd="/", **_demoted(user)
        )
        if reachable.returncode == 0:
            return original
        copy = _workplace / f"binaries-{major}"
        if not copy.exists():
            shutil.copytree(original.parent, copy, symlinks=True)
        return copy / original.name

    return for_major


@pytest.fixture(scope="session")
def make_cluster(
    _workplace: Path, _bindir: Callable[[int], Path]
) -> Iterator[Callable[[int], Cluster]]:
    """Make and start a cluster of a major; stopped at the end of the session."""
    made: list[Cluster] = []

    def make(major: int) -> Cluster:
        if major not in INSTALLED:
            pytest.fail(MISSING)
        directory = _workplace / f"{major}-{len(made)}"
        directory.mkdir()
        cluster = Cluster(major, _bindir(major), directory, _free_port(), _server_user())
        made.append(cluster)
        cluster.initialise()
        cluster.start()
        return cluster

    yield make
    for cluster in made:
        cluster.stop()


@pytest.fixture(scope="session")
def server(major: int, make_cluster: Callable[[int], Cluster]) -> Iterator[Cluster]:
    """A running server of each major on this machine in turn."""
    cluster = make_cluster(major)
    yield cluster
    cluster.stop()


@pytest.fixture
def clean_server(server: Cluster) -> Cluster:
    """The session's server without what earlier tests made in it."""
    server.clean()
    return server


@pytest.fixture(scope="session")
def run_module() -> Callable[..., dict[str, Any]]:
    """Run a module as Ansible would, in a process of its own.

    Returns what the module printed, with warnings as plain text. A module that fails has C(failed)
    in it.
    """

    def run(
        name: str, args: dict[str, Any], check: bool = False, diff: bool = True
    ) -> dict[str, Any]:
        arguments = {**args, "_ansible_check_mode": check, "_ansible_diff": diff}
        text = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
        module = importlib.import_module(f"{MODULES}.{name}")
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            child = os.fork()
            if child == 0:
                _be_module(module, text, stdout.fileno(), stderr.fileno())
            os.waitpid(child, 0)
            stdout.seek(0)
            stderr.seek(0)
            printed, complaints = stdout.read(), stderr.read()
        try:
            result: dict[str, Any] = json.loads(printed)
        except ValueError:
            pytest.fail(f"{name} printed no JSON:\n{printed}\n{complaints}")
        if "warnings" in result:
            result["warnings"] = [_warning_text(warning) for warning in result["warnings"]]
        return result

    return run


def _be_module(module: Any, text: str, stdout: int, stderr: int) -> NoReturn:
    """What a forked child does: run the module's main() and end."""
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    basic._ANSIBLE_ARGS = text.encode()
    basic._ANSIBLE_PROFILE = "legacy"
    try:
        module.main()
    except SystemExit:
        pass
    except BaseException:  # the parent shows it
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _warning_text(warning: Any) -> str:
    """A warning's text; newer versions of ansible-core wrap it."""
    return warning if isinstance(warning, str) else str(warning["event"]["msg"])
