# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The least that makes PgBouncer run as desired, as typed actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Sequence, Union

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.differences import (
    Desired,
    differences,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.files import (
    FileKind,
    OwnedFile,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.running import Running


@dataclass(frozen=True)
class CreateUser:
    """Create an OS user."""

    name: str


@dataclass(frozen=True)
class WriteFile:
    """Write a file."""

    path: str


@dataclass(frozen=True)
class RemoveFile:
    """Remove a file."""

    path: str


@dataclass(frozen=True)
class StopService:
    """Stop the service of a process."""

    service: str


@dataclass(frozen=True)
class ReloadUnits:
    """Have systemd read its files."""


@dataclass(frozen=True)
class StartProcess:
    """Start a process; C(beside) is its service when it is not the first."""

    beside: str = ""


@dataclass(frozen=True)
class RestartProcess:
    """Restart a process for reasons; C(beside) is its service when it is not the first."""

    reasons: tuple[str, ...]
    beside: str = ""


@dataclass(frozen=True)
class ReloadProcess:
    """Have a process read its files; C(beside) is its service when it is not the first."""

    beside: str = ""


@dataclass(frozen=True)
class ReconnectPools:
    """Have a process open its server connections anew; C(beside) is as in StartProcess."""

    beside: str = ""


ProcessAction = Union[StartProcess, RestartProcess, ReloadProcess, ReconnectPools]
FileAction = Union[WriteFile, RemoveFile]
Action = Union[CreateUser, FileAction, StopService, ReloadUnits, ProcessAction]


@dataclass(frozen=True)
class ProcessPlan:
    """What one process takes; C(held_back) needs a restart that the policy forbids."""

    start: bool = False
    restart: tuple[str, ...] = ()
    reload: bool = False
    reconnect: bool = False
    held_back: tuple[str, ...] = ()

    @property
    def starts_anew(self) -> bool:
        """Whether it starts, again or for the first time."""
        return self.start or bool(self.restart)

    @property
    def reads_files(self) -> bool:
        """Whether it reads its files."""
        return self.starts_anew or self.reload


@dataclass(frozen=True)
class ProcessState:
    """One process: what it should run, and what it runs."""

    number: int
    service: str
    desired: Desired
    running: Running


@dataclass(frozen=True)
class PgBouncerPlan:
    """What to do, in this order: C(processes) are in the order of their numbers.

    C(copies) are paths of copies of unmanaged files, and C(stop) are services to end first.
    """

    services: tuple[str, ...]
    processes: tuple[ProcessPlan, ...]
    create_user: str = ""
    copies: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    files: tuple[FileAction, ...] = ()
    reload_units: bool = False

    @property
    def first(self) -> ProcessPlan:
        """What the first process takes."""
        return self.processes[0]

    @property
    def held_back(self) -> tuple[str, ...]:
        """What waits for a restart that the policy forbids."""
        return tuple(dict.fromkeys(name for one in self.processes for name in one.held_back))

    @property
    def actions(self) -> tuple[Action, ...]:
        """Everything that is done, in order."""
        found: list[Action] = [CreateUser(self.create_user)] if self.create_user else []
        found += [WriteFile(path) for path in self.copies]
        found += [StopService(service) for service in self.stop]
        found += self.files
        if self.reload_units:
            found.append(ReloadUnits())
        named = [
            ("" if index == 0 else service, one)
            for index, (service, one) in enumerate(zip(self.services, self.processes))
        ]
        for beside, one in named:
            if one.start:
                found.append(StartProcess(beside))
            if one.restart:
                found.append(RestartProcess(one.restart, beside))
            if one.reload:
                found.append(ReloadProcess(beside))
        found += [ReconnectPools(beside) for beside, one in named if one.reconnect]
        return tuple(found)

    def changes(self, path: str) -> bool:
        """Whether a file is written or removed."""
        return any(file.path == path for file in self.files)


def plan_process(
    desired: Desired,
    running: Running,
    *,
    files_changed: bool,
    unfinished: bool,
    stale: Iterable[str],
    reconnect: bool,
    may_restart: bool,
) -> ProcessPlan:
    """The least that makes a process run as desired.

    Args:
        desired: what is to run.
        running: what runs.
        files_changed: whether a file that it reads has another content, owner or mode than desired.
        unfinished: whether an earlier run was interrupted, so that nobody knows what was read.
        stale: what else a running process only forgets when it restarts.
        reconnect: whether server connections are to be opened anew.
        may_restart: whether a running process may be restarted.
    """
    if not running.active:
        return ProcessPlan(start=True)
    found = differences(desired, running)
    restart = (*(one.name for one in found if not one.reloads), *stale)
    if not running.answers:
        restart = ("a console that does not answer",)
    if restart and may_restart:
        return ProcessPlan(restart=restart)
    return ProcessPlan(
        reload=files_changed or unfinished or any(one.reloads for one in found),
        reconnect=reconnect,
        held_back=restart,
    )


def plan_pgbouncer(
    states: Sequence[ProcessState],
    changed: Sequence[OwnedFile],
    *,
    stop: Iterable[str] = (),
    create_user: str = "",
    copies: Iterable[str] = (),
    units_unread: bool,
    unfinished: bool,
    stale: Sequence[str],
    reconnect: bool,
    may_restart: bool,
) -> PgBouncerPlan:
    """The least that makes all processes run as desired.

    Args:
        states: the processes.
        changed: the files that are not as they should be.
        stop: services to end first.
        create_user: the OS user to be created; empty for none.
        copies: paths of copies of unmanaged files, to be made.
        units_unread: whether systemd says that it has not read its files.
        unfinished: as in plan_process(), like the others.
        stale: likewise.
        reconnect: likewise.
        may_restart: likewise.
    """
    return PgBouncerPlan(
        services=tuple(one.service for one in states),
        processes=tuple(
            plan_process(
                one.desired,
                one.running,
                files_changed=any(file.is_read_by(one.number) for file in changed),
                unfinished=unfinished,
                stale=stale,
                reconnect=reconnect,
                may_restart=may_restart,
            )
            for one in states
        ),
        create_user=create_user,
        copies=tuple(copies),
        stop=tuple(stop),
        files=tuple(
            RemoveFile(file.path) if file.wanted.content is None else WriteFile(file.path)
            for file in changed
        ),
        reload_units=units_unread or any(file.kind is FileKind.UNIT for file in changed),
    )
