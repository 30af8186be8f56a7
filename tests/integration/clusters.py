# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away Postgres servers of the majors on this machine, for tests and benchmarks."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

import psycopg

ROOT = Path(__file__).resolve().parents[2]
# How long tests wait for an event that must come: as long as a busy machine may take.
PATIENCE_S = 120
# What is in these only is in the one before or after them too. POOLED_EXHAUSTIVE=1 takes them as
# well, and so does naming their directory in POOLED_TEST_BINDIRS.
LEFT_OUT = () if os.environ.get("POOLED_EXHAUSTIVE") else (14, 16, 17)


def _bin_directories() -> Iterator[Path]:
    """Where server binaries may be, the preferred first."""
    for name in filter(None, os.environ.get("POOLED_TEST_BINDIRS", "").split(os.pathsep)):
        yield Path(name)
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    yield from sorted((ROOT / ".cache" / "servers").glob("*/bin"))


def _installed() -> dict[int, Path]:
    """The directory of binaries of each major to test on."""
    found: dict[int, Path] = {}
    for directory in _bin_directories():
        if not (directory / "initdb").exists():
            continue
        version = subprocess.run(
            [directory / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout
        match = re.search(r"\) (\d+)", version)
        assert match, version
        major = int(match.group(1))
        if major not in LEFT_OUT or str(directory) in os.environ.get("POOLED_TEST_BINDIRS", ""):
            found.setdefault(major, directory)
    return dict(sorted(found.items()))


INSTALLED = _installed()


def server_user() -> pwd.struct_passwd | None:
    """The OS user that servers run as: Postgres refuses root. None for this process's own."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("no OS user to run servers as: neither postgres nor nobody exists")


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

    def initialise(self, encoding: str = "UTF8") -> None:
        for path in (self.data, self.socket_directory):
            path.mkdir(mode=0o700)
            if self.user:
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-E", encoding, "--locale=C",
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
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop(signal.SIGQUIT)
                    message = f"server {self.major} did not start:\n{self.log()[-3000:]}"
                    raise RuntimeError(message) from error
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT is a fast shutdown, SIGQUIT a crash."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(timeout=PATIENCE_S)
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


def new_cluster(major: int, bindir: Path, directory: Path) -> Cluster:
    """A cluster in a directory of its own, not yet initialised."""
    return Cluster(major, bindir, directory, _free_port(), server_user())


def may_execute(program: Path) -> bool:
    """Whether the servers' OS user may execute this program."""
    reachable = subprocess.run(
        ["/usr/bin/test", "-x", program], check=False, cwd="/", **_demoted(server_user())
    )
    return reachable.returncode == 0


def reachable_bindir(major: int, workplace: Path) -> Path:
    """Binaries that the servers' OS user may execute: copied when the checkout is private."""
    original = INSTALLED[major]
    if may_execute(original / "postgres"):
        return original
    copy = workplace / f"binaries-{major}"
    if not copy.exists():
        shutil.copytree(original.parent, copy, symlinks=True)
    return copy / original.name
