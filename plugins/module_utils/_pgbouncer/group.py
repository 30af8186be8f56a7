# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of a PgBouncer on this host, each with what it is to run."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Iterator, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host.process import RunCommand
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import processes
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.clients import Client
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.console import ConsoleError
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.differences import Desired
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.plan import ProcessState
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.processes import Process
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.running import (
    STOPPED,
    Running,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.service import (
    PgBouncer,
    PgBouncerError,
    Service,
)


@dataclass(frozen=True)
class Member:
    """A process: what it is, the PgBouncer that runs it, and what it is to run."""

    process: Process
    pgbouncer: PgBouncer
    desired: Desired

    @property
    def name(self) -> str:
        """Name of its service."""
        return self.pgbouncer.name


@dataclass(frozen=True)
class ProcessGroup:
    """The processes in the order of their numbers, and those that C(leaving) removes."""

    members: tuple[Member, ...]
    leaving: tuple[PgBouncer, ...] = ()

    @property
    def first(self) -> Member:
        """The process that is there in any case."""
        return self.members[0]

    @property
    def others(self) -> tuple[Member, ...]:
        """The processes beside the first."""
        return self.members[1:]

    @property
    def is_several(self) -> bool:
        """Whether there are, or were, processes beside the first."""
        return len(self.members) + len(self.leaving) > 1

    def restart(self, member: Member) -> None:
        """Restart one process, and not those beside it.

        Raises:
            PgBouncerError: when it does not come up.
        """
        alone = member is self.first and self.is_several
        options = ["--job-mode=ignore-dependencies"] if alone else []
        member.pgbouncer.systemctl("restart", *options, member.name)

    @contextmanager
    def named(self, member: Member) -> Iterator[None]:
        """Say of which process an error is, when there are several."""
        try:
            yield
        except PgBouncerError as error:
            if not self.is_several:
                raise
            raise PgBouncerError(f"{member.name}: {error}") from error


def group_of(
    run: RunCommand,
    desired: Desired,
    members: Sequence[Process],
    found: Sequence[int],
    service: str,
) -> ProcessGroup:
    """The processes with what each of them is to run.

    Args:
        run: runs a command.
        desired: what all of them are to run.
        members: the processes.
        found: numbers of the processes beside the first that there are now.
        service: name of the first one's service.
    """
    shared = replace(desired, peers=processes.peers(members))
    return ProcessGroup(
        tuple(
            Member(
                one,
                PgBouncer(run, one.service, desired.os_user),
                replace(shared, options=one.options),
            )
            for one in members
        ),
        tuple(
            PgBouncer(run, processes.instance(service, number), desired.os_user)
            for number in found
            if number > len(members)
        ),
    )


@dataclass(frozen=True)
class GroupState:
    """What the processes run, in their order, and services that are to be stopped first.

    C(units_unread) says that systemd has not read the files of one of them.
    """

    processes: tuple[ProcessState, ...]
    stop: tuple[str, ...]
    units_unread: bool


def read_group(group: ProcessGroup, service: Service, first: Running) -> GroupState:
    """What the processes run.

    Args:
        group: the processes.
        service: the first one's service.
        first: what the first one runs.
    """
    desired = group.first.desired
    services = {one.name: one.pgbouncer.service() for one in group.others}
    # Processes of several users can't share a port, so these may not run when the first one starts.
    of_other_users = [
        name for name, one in services.items() if one.os_user not in ("", desired.os_user)
    ]
    running = [
        first,
        *(
            STOPPED if one.name in of_other_users else one.pgbouncer.running(services[one.name])
            for one in group.others
        ),
    ]
    if desired.certificate:
        # Whichever process was asked for it: they share the port.
        shown = {one.certificate for one in running} - {"", desired.certificate}
        running = [
            replace(one, certificate=min(shown)) if shown and one.active else one for one in running
        ]
    return GroupState(
        tuple(
            ProcessState(member.process.number, member.name, member.desired, one)
            for member, one in zip(group.members, running)
        ),
        (*(one.name for one in group.leaving if one.service().active), *of_other_users),
        service.reload_needed or any(one.reload_needed for one in services.values()),
    )


def clients_of(group: ProcessGroup, state: GroupState) -> list[Client]:
    """Who is connected to the processes that answer."""
    found: list[Client] = []
    for member, now in zip(group.members, state.processes):
        if now.running.answers:
            # It is only for a warning.
            with suppress(ConsoleError):
                found.extend(member.pgbouncer.clients())
    return found
