# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pooler on this host: its service, its console, its log, and trial starts beside it."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Callable, Container, Iterator, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import (
    files as _files,
    identity,
)
from ansible_collections.pooled.postgres.plugins.module_utils._host.files import Rights
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    hba,
    ini as _ini,
    options as _pgbouncer_options,
    plan,
    tls_files,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql import connection as _postgres

# How long a pooler may take to answer on its console after a start.
START_TIMEOUT_S = 20
CAP_SYS_RESOURCE = 24
# Where any user may make a directory that is its own, with a path short enough for a socket.
# TMPDIR may be root's alone.
_TRIAL_PLACE = "/tmp"  # noqa: S108 - the directory's name is random, and its mode 0700

CONSOLE: dict[str, Any] = {
    "login_host": "",
    "login_user": "pgbouncer",
    "login_password": None,
    "login_db": "pgbouncer",
    "ssl_mode": "disable",
    "ca_cert": None,
    "ssl_cert": None,
    "ssl_key": None,
    "connect_params": {},
}


RunCommand = Callable[[Sequence[str]], "tuple[int, str, str]"]


class PoolerError(Exception):
    """The pooler does not run as it shall; the text says why."""


@dataclass(frozen=True)
class Service:
    """What systemd and the kernel say about the service."""

    exists: bool
    active: bool
    pid: int
    reload_needed: bool
    descriptors: int | None
    default_descriptors: int
    os_user: str = ""  # whom the process belongs to; empty where there is none
    unit_user: str = ""


class Pooler:
    """A PgBouncer that systemd runs.

    Args:
        run: runs a command; returns its exit code, output and errors.
        service: name of the systemd service.
        os_user: OS user that the service runs as, or is to run as.
        binary: path of the program.
    """

    def __init__(self, run: RunCommand, service: str, os_user: str, binary: str) -> None:
        self.run = run
        self.name = service
        self.os_user = os_user
        self.binary = binary

    def version(self) -> tuple[int, int, int] | None:
        """The installed version."""
        if not os.path.exists(self.binary):
            return None
        _rc, out, err = self.run([self.binary, "--version"])
        return _pgbouncer_options.parse_version(out or err)

    def service(self) -> Service:
        """The service's state."""
        names = "LoadState,ActiveState,MainPID,NeedDaemonReload,User"
        shown = self._show(self.name, names)
        pid = int(shown.get("MainPID") or 0)
        default = self._show("", "DefaultLimitNOFILESoft").get("DefaultLimitNOFILESoft", "")
        return Service(
            shown.get("LoadState") == "loaded",
            shown.get("ActiveState") == "active",
            pid,
            shown.get("NeedDaemonReload") == "yes",
            _open_files_limits(pid)[0] if pid else None,
            int(default) if default.isdigit() else 1024,
            owner(pid) if pid else "",
            shown.get("User", ""),
        )

    def systemctl(self, *arguments: str) -> None:
        """Run systemctl.

        Raises:
            PoolerError: when it fails.
        """
        rc, out, err = self.run(["systemctl", *arguments])
        if rc != 0:
            reason = (err or out).strip().split("\n")[0].rstrip(".")
            raise PoolerError("systemctl {} failed: {}".format(" ".join(arguments), reason))

    def running(self, service: Service, patience_s: float = 2) -> plan.Running:
        """What the running pooler says about itself."""
        if not service.active:
            return plan.Running(False, None, {}, {}, None)
        deadline = time.monotonic() + patience_s
        while True:
            for directory, port in console_sockets(service.pid, service.os_user):
                try:
                    with self.console(directory, port, service.os_user) as console:
                        found = _state(console, service.descriptors)
                    return replace(
                        found,
                        certificate=self._served_certificate(found),
                        os_user=service.os_user,
                    )
                except (_postgres.ConnectionFailed, _postgres.psycopg2.Error):
                    continue
            if time.monotonic() > deadline:
                return plan.Running(
                    True, None, {}, {}, service.descriptors, os_user=service.os_user
                )
            time.sleep(0.1)

    @contextmanager
    def console(self, directory: str, port: int, os_user: str) -> Iterator[Any]:
        """A connection to a console: PgBouncer lets its own OS user in without a password."""
        where = {"login_unix_socket": directory, "login_port": port}
        params = {**CONSOLE, **where, "login_os_user": os_user}
        connection = _postgres.connect_console(params)
        try:
            yield connection
        finally:
            connection.close()

    def _served_certificate(self, found: plan.Running) -> str:
        mode = (found.config or {}).get("client_tls_sslmode")
        if mode is None or mode.value == "disable":
            return ""
        return tls_files.served_certificate(self.listens_on())

    def listens_on(self) -> set[tuple[str, int]]:
        """Address and port of each TCP socket that the service listens on."""
        service = self.service()
        return _tcp_sockets(service.pid, service.os_user)

    def command(self, command: str) -> None:
        """Run a command on the console of the running pooler.

        Raises:
            PoolerError: with PgBouncer's answer, or when there is none.
        """
        service = self.service()
        for directory, port in console_sockets(service.pid, service.os_user):
            with self.console(directory, port, service.os_user) as console:
                try:
                    _postgres.console_rows(console, command)
                except Exception as error:
                    raise PoolerError(f"{command}: {_postgres.server_message(error)}") from error
                return
        raise PoolerError(f"{command}: no console to send it to")

    def clients(self) -> list[hba.Client]:
        """Who is connected, but for those on the console."""
        service = self.service()
        for directory, port in console_sockets(service.pid, service.os_user):
            with self.console(directory, port, service.os_user) as console:
                return [
                    hba.Client(
                        str(row["database"]),
                        str(row["user"]),
                        "" if str(row["addr"]).startswith("unix") else str(row["addr"]),
                        bool(row["tls"]),
                    )
                    for row in _postgres.console_rows(console, "SHOW CLIENTS")
                    if row["database"] != hba.CONSOLE
                ]
        return []

    def rule_complaints(
        self, logfile: str, offset: int, since: float, os_user: str = ""
    ) -> list[str]:
        """What the pooler has logged about rules for logins that it does not take as written.

        Args:
            logfile: its log; empty for the journal.
            offset: where to begin in the log.
            since: when to begin in the journal, in seconds.
            os_user: whom the log belongs to; the service's user when empty.
        """
        if logfile:
            rights = Rights(os_user or self.os_user, everywhere=True)
            return hba.complaints(_log(logfile, rights, offset))
        journal = ["journalctl", "-u", self.name, f"--since=@{int(since)}"]
        _rc, out, _err = self.run([*journal, "--no-pager", "-o", "cat"])
        return hba.complaints(out)

    def try_out(self, desired: plan.Desired, os_user: str, rules: str = "") -> None:
        """Start a pooler of its own, beside the running one, with what is desired; then stop it.

        It listens on nothing but a socket in a private directory and has no users. It runs as
        C(os_user), since the one that is desired may be yet to be created.

        Args:
            desired: what shall run.
            rules: the file with rules for logins, where it is not there yet.

        Raises:
            PoolerError: when it does not come up, understands a value otherwise, or drops a rule.
        """
        user = pwd.getpwnam(os_user)
        # All of it is that user's own, made with its rights: root never touches what is in there.
        with identity.acting_as(user):
            directory = tempfile.mkdtemp(prefix="pgbouncer-", dir=_TRIAL_PLACE)
        process = None
        try:
            place = {name: os.path.join(directory, name) for name in ("logfile", "pidfile")}
            place["auth_file"] = os.path.join(directory, "userlist.txt")
            place["unix_socket_dir"] = directory
            if rules:
                place["auth_hba_file"] = os.path.join(directory, hba.FILE_NAME)
            options = {**desired.options, **place, "listen_addr": ""}
            for name in ("unix_socket_mode", "user"):
                options.pop(name, None)
            trial = replace(desired, options=options, descriptors=0, certificate="", os_user="")
            ini = os.path.join(directory, "pgbouncer.ini")
            for path, content in (
                (place["auth_file"], ""),
                *([(place["auth_hba_file"], rules)] if rules else []),
                (
                    ini,
                    _ini.render_ini(options, trial.databases, trial.users, [], peers=trial.peers),
                ),
            ):
                with identity.acting_as(user):
                    Path(path).write_bytes(content.encode("utf-8"))
            with tempfile.TemporaryFile("w+b") as printed:
                process = _spawn([self.binary, ini], user, printed)
                port = int(desired.options["listen_port"])
                found = self._trial_state(process, directory, port, os_user)
                words = _complaints(_log(place["logfile"], Rights(os_user, everywhere=True)))
                if found is None:
                    # What happens before it opens its log is only printed.
                    printed.seek(0)
                    words = words or _complaints(printed.read().decode("utf-8", "replace"))
                    raise PoolerError(
                        f"PgBouncer does not start with it: {words or _ended(process.poll())}"
                    )
            dropped = self.rule_complaints(place["logfile"], 0, 0, os_user)
            if dropped:
                files = [] if rules else hba.own_files(desired.options)
                raise PoolerError(hba.dropped(dropped, files))
            wrong = plan.differences(trial, found)
            if wrong:
                raise PoolerError(f"PgBouncer understands it otherwise: {listed(wrong)}. {words}")
        finally:
            if process is not None:
                process.send_signal(signal.SIGQUIT)
                process.wait()
            with identity.acting_as(user):
                # Somebody may have put something else there; that stays.
                shutil.rmtree(directory, ignore_errors=True)

    def complaints(self, logfile: str, offset: int) -> str:
        """What the pooler has logged since, about failures."""
        words = _complaints(_log(logfile, Rights(self.os_user), offset)) if logfile else ""
        if words:
            return words
        _rc, out, _err = self.run(
            ["journalctl", "-u", self.name, "-n", "5", "--no-pager", "-o", "cat"]
        )
        return " | ".join(out.strip().splitlines())

    def _show(self, unit: str, names: str) -> dict[str, str]:
        _rc, out, _err = self.run(["systemctl", "show", *([unit] if unit else []), "-p", names])
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def _trial_state(
        self, process: subprocess.Popen[bytes], directory: str, port: int, os_user: str
    ) -> plan.Running | None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            try:
                with self.console(directory, port, os_user) as console:
                    return _state(console, None)
            except (_postgres.ConnectionFailed, _postgres.psycopg2.Error):
                time.sleep(0.05)
        return None


def _state(console: Any, descriptors: int | None) -> plan.Running:
    config = {
        str(row["key"]): plan.Setting(
            row["value"] or "", row["default"] or "", row["changeable"] == "yes"
        )
        for row in _postgres.console_rows(console, "SHOW CONFIG")
    }
    databases = {str(row["name"]): row for row in _postgres.console_rows(console, "SHOW DATABASES")}
    users = {str(row["name"]): row for row in _postgres.console_rows(console, "SHOW USERS")}
    peers = {}
    if "peer_id" in config:
        peers = {str(row["peer_id"]): row for row in _postgres.console_rows(console, "SHOW PEERS")}
    return plan.Running(True, config, databases, users, descriptors, peers=peers)


def owner(pid: int) -> str:
    """Name of the OS user that a process runs as; its number where it has no name."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as handle:
            uid = int(next(line for line in handle if line.startswith("Uid:")).split()[2])
    except (OSError, StopIteration):
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _sockets(pid: int, os_user: str) -> set[str]:
    """Inodes of the sockets that a process has open."""
    try:
        # In a container root may lack the right to look into other users' processes.
        with _postgres.os_identity(os_user):
            names = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
    except OSError:
        return set()
    return {name[len("socket:[") : -1] for name in names if name.startswith("socket:[")}


def _proc_net(name: str) -> list[list[str]]:
    """The rows of a table in /proc/net, as words."""
    try:
        with open(f"/proc/net/{name}", encoding="utf-8", errors="replace") as handle:
            return [line.split() for line in handle.readlines()[1:]]
    except FileNotFoundError:  # no IPv6
        return []


def console_sockets(pid: int, os_user: str) -> list[tuple[str, int]]:
    """Directory and port of each unix socket that a process listens on."""
    held = _sockets(pid, os_user)
    found = []
    for row in _proc_net("unix"):
        listens = len(row) > 7 and int(row[3], 16) & 0x10000
        if listens and row[6] in held and ".s.PGSQL." in row[7]:
            directory, _slash, name = row[7].rpartition("/")
            found.append((directory, int(name.rsplit(".", 1)[1])))
    return found


def why_not_listen(listen_addr: str, port: int, ours: Container[int] = ()) -> str:
    """Why PgBouncer would not get an address to listen on; empty when it would get all.

    Of a name, or C(*), one address is enough: PgBouncer goes on without the others.

    Args:
        listen_addr: addresses and names with commas between them.
        port: where on each of them.
        ours: ports where PgBouncer itself listens, which it leaves before it listens anew.
    """
    for wanted in filter(None, (part.strip() for part in listen_addr.split(","))):
        try:
            found = socket.getaddrinfo(
                None if wanted == "*" else wanted,
                port,
                type=socket.SOCK_STREAM,
                flags=socket.AI_PASSIVE,
            )
        except (socket.gaierror, UnicodeError):
            return f"{wanted}: it is neither an address nor a name that this host knows"
        errors = [_bind_error(family, address) for family, _type, _proto, _name, address in found]
        if all(errors) and not (port in ours and errno.EADDRINUSE in errors):
            reason = {
                errno.EADDRINUSE: "another program listens there; ss -ltnp shows which",
                errno.EADDRNOTAVAIL: "this host does not have the address",
            }.get(errors[0], os.strerror(errors[0]))
            return f"{wanted} port {port}: {reason}"
    return ""


def _bind_error(family: int, address: Any) -> int:
    """Number of the error when a socket is bound to an address; 0 for none."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def _tcp_sockets(pid: int, os_user: str) -> set[tuple[str, int]]:
    """Address and port of each TCP socket that a process listens on."""
    held = _sockets(pid, os_user)
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for row in _proc_net(table):
            if row[3] == "0A" and row[9] in held:
                address, port = row[1].split(":")
                found.add((socket.inet_ntop(family, _network_order(address)), int(port, 16)))
    return found


def _network_order(address: str) -> bytes:
    """An address out of /proc/net: words of four bytes in the host's order."""
    words = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
    return b"".join(word.to_bytes(4, sys.byteorder) for word in words)


def _open_files_limits(pid: int) -> tuple[int, int]:
    """Soft and hard limit of a process's open files."""
    try:
        with open(f"/proc/{pid}/limits", encoding="utf-8") as handle:
            words = next(line for line in handle if line.startswith("Max open files")).split()
    except (OSError, StopIteration):
        return 0, 0
    return int(words[3]), int(words[4])


def most_descriptors() -> int:
    """How many descriptors systemd can give a service on this host."""
    with open("/proc/sys/fs/nr_open", encoding="utf-8") as handle:
        most = int(handle.read())
    with open("/proc/1/status", encoding="utf-8") as handle:
        capabilities = [line.split()[1] for line in handle if line.startswith("CapEff:")]
    if capabilities and int(capabilities[0], 16) >> CAP_SYS_RESOURCE & 1:
        return most
    return min(most, _open_files_limits(1)[1])


def _ended(code: int | None) -> str:
    """What became of a pooler that said nothing."""
    if code is None:
        return f"it did not answer on its console within {START_TIMEOUT_S} s"
    return f"it ended with exit code {code} and no message"


def _spawn(
    command: list[str], user: pwd.struct_passwd, output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a program as a user, for half a minute at most even if this process is killed."""
    return subprocess.Popen(
        [*identity.words_before(user), "timeout", "30", *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd="/",
    )


def _log(logfile: str, rights: Rights, offset: int = 0) -> str:
    """What a log says from there on; nothing when it can't be read."""
    try:
        return _files.read_bytes(logfile, rights, offset).decode("utf-8", "replace")
    except OSError:
        return ""


def _complaints(log: str) -> str:
    """Lines of a log that tell of trouble, without their time and process."""
    words = [
        line.split("] ", 1)[-1]
        for line in log.splitlines()
        if any(level in line for level in (" FATAL ", " ERROR ", " WARNING "))
    ]
    return " | ".join(words[-5:])


def listed(found: Sequence[plan.Difference]) -> str:
    return ", ".join(f"{one.name} is {one.running!r} instead of {one.wanted!r}" for one in found)
