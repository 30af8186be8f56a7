# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools of PgBouncer on this host that wait while the server behind them restarts.

A database that is paused stays so until somebody says RESUME, whatever becomes of who paused it. So
the pausing and resuming is done by a process of its own, which resumes on request, when the
module has ended in whatever way, and after a time limit. For a server on another host, it outlives
the module that has started it, and the time limit is short.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Mapping, NoReturn, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import (
    process,
    resources,
    sockets,
)
from ansible_collections.pooled.postgres.plugins.module_utils._host.process import RunCommand
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    console,
    pause,
)

SHOW_DATABASES = "SHOW DATABASES"
POLL_S = 0.05
# How long PgBouncer may take until all its PAUSEs have arrived, and longer than a failed login.
ARRIVAL_S = 5
ANSWER_S = 15
# How long to go on trying to resume pools whose console does not answer.
RESUME_S = 300
RETRY_S = 0.2


@dataclass
class Pools:
    """The databases of one PgBouncer process that are to wait."""

    unit: str
    pid: int
    os_user: str
    directory: str
    port: int
    databases: list[str]

    def console(self) -> console.Console:
        """A new connection to its console."""
        return console.connected(self.directory, self.port, self.os_user)


def is_own_address(address: str) -> bool:
    """Whether an address is one of this host: only then does what goes there come from it too."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Nothing is sent.
            probe.connect((address, 9))
            return bool(probe.getsockname()[0] == address)
    except OSError:
        return False


def addresses_of(host: str) -> list[str]:
    """The addresses of a host's name; none where it has none."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None)})
    except (OSError, UnicodeError):
        return []


def own_addresses() -> list[str]:
    """This host's addresses but those of its loopback."""
    texts = []
    for name in ("fib_trie", "if_inet6"):
        try:
            with open(f"/proc/net/{name}", encoding="utf-8") as handle:
                texts.append(handle.read())
        except OSError:
            texts.append("")
    return pause.own_addresses(*texts)


NAMES = pause.Names(os.path.realpath, addresses_of)


def find(
    run: RunCommand, service: str, server: pause.Server, warn: Callable[[str], None]
) -> list[Pools]:
    """The pools before a server, of each running process of a PgBouncer that systemd runs here.

    Args:
        run: runs a command.
        service: name of PgBouncer's systemd service; processes beside the first are its instances.
        server: the server.
        warn: gets a warning about each that can't be asked.
    """
    shown = ["systemctl", "show", "--property=Id,ActiveState,MainPID"]
    try:
        _rc, out, _err = run([*shown, f"{service}.service", f"{service}@*.service"])
    except OSError:  # no systemd
        return []
    found = []
    for unit in resources.units(out):
        pid, name = int(unit.get("MainPID") or 0), unit.get("Id", "").rpartition(".")[0]
        if unit.get("ActiveState") != "active" or not pid:
            continue
        os_user = process.owner(pid)
        reason = "it has no unix socket for its console"
        for directory, port in sockets.postgres_sockets(pid, os_user):
            pools = Pools(name, pid, os_user, directory, port, [])
            try:
                with closing(pools.console()) as its_console:
                    rows = its_console.rows("SHOW CONFIG")
                    config = {str(row["key"]): str(row["value"] or "") for row in rows}
                    pools.databases = pause.databases_of(
                        its_console.rows(SHOW_DATABASES),
                        server,
                        NAMES,
                        config.get("unix_socket_dir", ""),
                    )
            except console.ConsoleError as error:
                reason = str(error)
                continue
            if pools.databases:
                found.append(pools)
            break
        else:
            warn(pause.not_paused(name, reason))
    return found


@dataclass
class Hold:
    """Pools that are paused from C(begin) to C(release), or to the end of this process.

    Args:
        pools: what to pause; nothing may be in here.
        timeout_s: how long to wait for open transactions.
        limit_s: when to resume at the latest, in seconds from C(begin).
        detached: whether, once they are paused, it goes on without this process, until C(end).
    """

    pools: Sequence[Pools]
    timeout_s: int
    limit_s: float
    detached: bool = False
    _to_holder: int = field(default=-1, init=False)
    _from_holder: int = field(default=-1, init=False)
    _holder: int = field(default=0, init=False)

    def begin(self) -> list[str]:
        """Pause them; returns warnings about those that could not be, and who holds them up."""
        if not self.pools:
            return []
        try:
            ended, self._to_holder = os.pipe()
            self._from_holder, answer = os.pipe()
            self._holder = os.fork()
        except OSError as error:
            return [pause.not_paused(one.unit, str(error)) for one in self.pools]
        if not self._holder:
            _hold(self, _Ended(ended), answer)
        os.close(ended)
        os.close(answer)
        warnings = self._holders_answer(self.timeout_s + ARRIVAL_S + ANSWER_S)
        if warnings is None:
            return [pause.not_paused(one.unit, "nothing has paused them") for one in self.pools]
        return warnings

    def detach(self) -> dict[str, Any]:
        """What C(end) needs to know, in another process."""
        return {
            "pid": self._holder,
            "started": _started(self._holder),
            "pools": [asdict(one) for one in self.pools],
        }

    def release(self) -> list[str]:
        """Let all clients go on; returns warnings about those that can't."""
        if not self._holder:
            return []
        os.close(self._to_holder)
        warnings = self._holders_answer(ANSWER_S)
        os.close(self._from_holder)
        if warnings is not None:
            os.waitpid(self._holder, 0)
        self._holder = 0
        # Whoever has ended the holder has not ended the pause.
        return resume_pools(self.pools, ANSWER_S) if warnings is None else warnings

    def _holders_answer(self, patience_s: float) -> list[str] | None:
        """The holder's next answer; None when it has none in time, or has ended."""
        text = b""
        deadline = time.monotonic() + patience_s
        while not text.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._from_holder], [], [], left)[0]:
                return None
            part = os.read(self._from_holder, 65536)
            if not part:
                return None
            text += part
        return list(json.loads(text))


def end(held: Mapping[str, Any]) -> list[str]:
    """Let clients of a detached hold go on; returns warnings about those that can't."""
    pid, started = int(held["pid"]), str(held["started"])
    deadline = time.monotonic() + ANSWER_S
    if pid and _started(pid) == started:
        os.kill(pid, signal.SIGTERM)
    while pid and _started(pid) == started and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return resume_pools([Pools(**one) for one in held["pools"]], ANSWER_S)


def _started(pid: int) -> str:
    """When a process was started, which tells it from a later one; empty when it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as handle:
            words = handle.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if words[0] == "Z" else words[19]


class _Ended:
    """Whether the other end of a pipe is closed, as it is when its process has ended."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def within(self, seconds: float) -> bool:
        """Wait for it, but no longer."""
        return bool(select.select([self.descriptor], [], [], max(seconds, 0))[0])


def _hold(hold: Hold, ended: _Ended, answer: int) -> NoReturn:
    """What the process that holds the pools does, all its life."""
    status = 1
    try:
        # Whoever has run the module may end it and all that belongs to it, but not this.
        os.setsid()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        # Ansible waits until nobody has these open any more.
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        kept = sorted((ended.descriptor, answer))
        for low, high in zip((2, *kept), (*kept, os.sysconf("SC_OPEN_MAX"))):
            os.closerange(low + 1, high)
        limit = time.monotonic() + hold.limit_s
        try:
            warnings = pause_pools(hold.pools, hold.timeout_s, ended)
            _answer(answer, warnings)
            left_s = max(limit - time.monotonic(), 0)
            if hold.detached:
                signal.sigtimedwait([signal.SIGTERM], left_s)
            else:
                ended.within(left_s)
        finally:
            left = resume_pools(hold.pools, RESUME_S)
        _answer(answer, left)
        status = 0
    finally:
        os._exit(status)


def _answer(descriptor: int, lines: Sequence[str]) -> None:
    # Nobody may be there to read it.
    with suppress(OSError):
        os.write(descriptor, json.dumps(lines).encode() + b"\n")


def pause_pools(pools: Sequence[Pools], timeout_s: float, ended: _Ended) -> list[str]:
    """Pause databases, and wait for their open transactions.

    PgBouncer answers PAUSE only when they are over, but holds all others up at once. So each is
    said on a connection of its own that nobody waits for.
    """
    warnings = []
    asked: list[tuple[Pools, console.Console]] = []
    with ExitStack() as stack:
        for one in pools:
            answers: list[str] = []
            wanted, one.databases = one.databases, []
            try:
                its_console = stack.enter_context(closing(one.console()))
                theirs = pause.paused(its_console.rows(SHOW_DATABASES), wanted)
                one.databases = [name for name in wanted if name not in theirs]
                for name in one.databases:
                    _say_pause(one, name, answers)
                _wait_for_arrival(one, its_console, answers)
            except console.ConsoleError as error:
                answers.append(str(error))
            else:
                asked.append((one, its_console))
            warnings += [
                pause.not_paused(one.unit, answer)
                for answer in answers
                if pause.ALL_PAUSED not in answer
            ]
        deadline = time.monotonic() + timeout_s
        while asked:
            # Those that have ended meanwhile, and their pause with them.
            states = [(*pair, _still_used(*pair)) for pair in asked]
            asked = [(one, its_console) for one, its_console, used in states if used]
            if ended.within(POLL_S) or time.monotonic() > deadline:
                break
        for one, its_console in asked:
            with suppress(console.ConsoleError):
                clients = its_console.rows("SHOW CLIENTS")
                who = pause.holders(clients, one.databases)
                warnings += [pause.held_up(one.unit, who, round(timeout_s))] if who else []
    return warnings


def _say_pause(one: Pools, name: str, refusals: list[str]) -> None:
    its_console = one.console()

    def say() -> None:
        try:
            its_console.rows(f"PAUSE {pause.quoted(name)}")
        except console.ConsoleError as error:
            refusals.append(f"{name}: {error}")

    threading.Thread(target=say, daemon=True).start()


def _wait_for_arrival(one: Pools, its_console: console.Console, refusals: Sequence[str]) -> None:
    """A PAUSE that arrives after the RESUME would stay."""
    deadline = time.monotonic() + ARRIVAL_S
    while time.monotonic() < deadline:
        rows = its_console.rows(SHOW_DATABASES)
        if len(pause.paused(rows, one.databases)) + len(refusals) >= len(one.databases):
            return
        time.sleep(POLL_S / 5)


def _still_used(one: Pools, its_console: console.Console) -> bool:
    try:
        rows = its_console.rows(SHOW_DATABASES)
    except console.ConsoleError:
        return False
    return not pause.drained(rows, one.databases)


def resume_pools(pools: Sequence[Pools], patience_s: float) -> list[str]:
    """Resume databases; returns warnings about those that stay paused."""
    left = list(pools)
    deadline = time.monotonic() + patience_s
    while left and time.monotonic() < deadline:
        left = [one for one in left if not _resumed(one)]
        if left:
            time.sleep(RETRY_S)
    return [pause.not_resumed(one.unit, one.databases) for one in left]


def _resumed(one: Pools) -> bool:
    """Whether none of them is paused any more; what a process has paused ends with it."""
    try:
        with closing(one.console()) as its_console:
            rows = its_console.rows(SHOW_DATABASES)
            for name in pause.paused(rows, one.databases):
                with suppress(console.ConsoleError):
                    its_console.rows(f"RESUME {pause.quoted(name)}")
            rows = its_console.rows(SHOW_DATABASES)
            return not pause.paused(rows, one.databases)
    except console.ConsoleError:
        return not os.path.exists(f"/proc/{one.pid}")
