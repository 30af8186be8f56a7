# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer on this host: its service, what its processes say, and its log."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Iterator

from ansible_collections.pooled.postgres.plugins.module_utils._host import (
    files,
    process,
    sockets,
)
from ansible_collections.pooled.postgres.plugins.module_utils._host.process import RunCommand
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    console,
    hba,
    tls_files,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.clients import Client
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import (
    parse_version,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.running import (
    STOPPED,
    Running,
)

# How long PgBouncer may take to answer on its console after a start.
START_TIMEOUT_S = 20
# What systemd gives a service that says nothing about it.
_DEFAULT_DESCRIPTORS = 1024


class PgBouncerError(Exception):
    """PgBouncer does not run as it should; the text says why."""


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


def installed_version(run: RunCommand, binary: str) -> tuple[int, int, int] | None:
    """The version of a program; None when there is no such program.

    Raises:
        ValueError: when the program does not say it.
    """
    if not os.path.exists(binary):
        return None
    _rc, out, err = run([binary, "--version"])
    return parse_version(out or err)


class PgBouncer:
    """A PgBouncer process that systemd runs.

    Args:
        run: runs a command; returns its exit code, output and errors.
        name: name of the systemd service.
        os_user: OS user that the service runs as, or is to run as.
    """

    def __init__(self, run: RunCommand, name: str, os_user: str) -> None:
        self.run = run
        self.name = name
        self.os_user = os_user

    def service(self) -> Service:
        """The service's state."""
        names = "LoadState,ActiveState,MainPID,NeedDaemonReload,User"
        shown = self._show(self.name, names)
        pid = int(shown.get("MainPID") or 0)
        default = self._show("", "DefaultLimitNOFILESoft").get("DefaultLimitNOFILESoft", "")
        return Service(
            exists=shown.get("LoadState") == "loaded",
            active=shown.get("ActiveState") == "active",
            pid=pid,
            reload_needed=shown.get("NeedDaemonReload") == "yes",
            descriptors=process.open_files_limits(pid)[0] if pid else None,
            default_descriptors=int(default) if default.isdigit() else _DEFAULT_DESCRIPTORS,
            os_user=process.owner(pid) if pid else "",
            unit_user=shown.get("User", ""),
        )

    def systemctl(self, *arguments: str) -> None:
        """Run systemctl.

        Raises:
            PgBouncerError: when it fails.
        """
        rc, out, err = self.run(["systemctl", *arguments])
        if rc != 0:
            reason = (err or out).strip().split("\n")[0].rstrip(".")
            raise PgBouncerError("systemctl {} failed: {}".format(" ".join(arguments), reason))

    def running(self, service: Service, patience_s: float = 2) -> Running:
        """What the process says about itself."""
        if not service.active:
            return STOPPED
        deadline = time.monotonic() + patience_s
        while True:
            for directory, port in sockets.postgres_sockets(service.pid, service.os_user):
                try:
                    with console.opened(directory, port, service.os_user) as its_console:
                        found = its_console.running(service.descriptors)
                    return replace(
                        found,
                        certificate=self._served_certificate(found),
                        os_user=service.os_user,
                    )
                except console.ConsoleError:
                    continue
            if time.monotonic() > deadline:
                return Running(
                    active=True, descriptors=service.descriptors, os_user=service.os_user
                )
            time.sleep(0.1)

    def _served_certificate(self, found: Running) -> str:
        mode = (found.config or {}).get("client_tls_sslmode")
        if mode is None or mode.value == "disable":
            return ""
        return tls_files.served_certificate(self.listens_on())

    def listens_on(self) -> set[tuple[str, int]]:
        """Address and port of each TCP socket that the service listens on."""
        service = self.service()
        return sockets.tcp_sockets(service.pid, service.os_user)

    def command(self, command: str) -> None:
        """Run a command on the console of the running process.

        Raises:
            PgBouncerError: with PgBouncer's answer, or when there is no console.
            ConsoleError: when the console takes no connection.
        """
        with self._console() as its_console:
            if its_console is None:
                raise PgBouncerError(f"{command}: no console to send it to")
            try:
                its_console.rows(command)
            except console.ConsoleError as error:
                raise PgBouncerError(f"{command}: {error}") from error

    def clients(self) -> list[Client]:
        """Who is connected, but for those on the console.

        Raises:
            ConsoleError: when the console does not answer.
        """
        with self._console() as its_console:
            return its_console.clients() if its_console else []

    @contextmanager
    def _console(self) -> Iterator[console.Console | None]:
        """The console of the running process; None when it listens on no unix socket."""
        service = self.service()
        for directory, port in sockets.postgres_sockets(service.pid, service.os_user):
            with console.opened(directory, port, service.os_user) as its_console:
                yield its_console
            return
        yield None

    def rule_complaints(self, logfile: str, offset: int, since: float) -> list[str]:
        """What PgBouncer has logged about rules for logins that it does not take as written.

        Args:
            logfile: its log; empty for the journal.
            offset: where to begin in the log.
            since: when to begin in the journal, in seconds.
        """
        if logfile:
            rights = files.Rights(self.os_user, everywhere=True)
            return hba.complaints(log_text(logfile, rights, offset))
        journal = ["journalctl", "-u", self.name, f"--since=@{int(since)}"]
        _rc, out, _err = self.run([*journal, "--no-pager", "-o", "cat"])
        return hba.complaints(out)

    def complaints(self, logfile: str, offset: int) -> str:
        """What PgBouncer has logged since, about failures."""
        words = complaints(log_text(logfile, files.Rights(self.os_user), offset)) if logfile else ""
        if words:
            return words
        _rc, out, _err = self.run(
            ["journalctl", "-u", self.name, "-n", "5", "--no-pager", "-o", "cat"]
        )
        return " | ".join(out.strip().splitlines())

    def _show(self, unit: str, names: str) -> dict[str, str]:
        _rc, out, _err = self.run(["systemctl", "show", *([unit] if unit else []), "-p", names])
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def log_text(logfile: str, rights: files.Rights, offset: int = 0) -> str:
    """What a log says from there on; nothing when it can't be read."""
    try:
        return files.read_bytes(logfile, rights, offset).decode("utf-8", "replace")
    except OSError:
        return ""


def complaints(log: str) -> str:
    """Lines of a log that tell of trouble, without their time and process."""
    words = [
        line.split("] ", 1)[-1]
        for line in log.splitlines()
        if any(level in line for level in (" FATAL ", " ERROR ", " WARNING "))
    ]
    return " | ".join(words[-5:])
