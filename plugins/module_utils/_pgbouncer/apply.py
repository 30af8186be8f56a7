# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Doing what was planned, verifying it, and going back when it does not work."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import files
from ansible_collections.pooled.postgres.plugins.module_utils._host.files import (
    ManagedFile,
    Rights,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.console import ConsoleError
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.files import (
    FileKind,
    OwnedFile,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.group import (
    Member,
    ProcessGroup,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.plan import PgBouncerPlan
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.read import FileState
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.service import (
    PgBouncerError,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.verify import (
    check_member,
    check_rules,
)

_TROUBLE = (PgBouncerError, ConsoleError, OSError)


class NotApplied(Exception):
    """What was planned did not work, and was taken back; the text says both."""


@dataclass(frozen=True)
class Work:
    """What is to be done, to which processes and files.

    Attributes:
        group: the processes.
        plan: what is to be done to them.
        files: the files.
        copies: copies of unmanaged files to be made.
        note: the note about an interrupted run, which is there as long as this one is at work.
        noted: whether an earlier run has left one.
        rights: with whose rights to work on files.
        own_rules: files with rules for logins that somebody else writes.
    """

    group: ProcessGroup
    plan: PgBouncerPlan
    files: tuple[FileState, ...]
    copies: tuple[ManagedFile, ...]
    note: ManagedFile
    noted: bool
    rights: Rights
    own_rules: tuple[str, ...]


def apply(work: Work) -> None:
    """Do what was planned, one process after the other, and verify it.

    Raises:
        NotApplied: when a process does not run as desired, and what there was is back.
    """
    try:
        log_sizes = [
            files.size_of(one.process.log, work.rights) if one.process.log else 0
            for one in work.group.members
        ]
        files.write_file(work.note, work.rights)
        for copy in work.copies:
            files.write_file(copy, work.rights)
    except OSError as error:
        _remove_copies(work)
        if not work.noted:
            with suppress(OSError):
                files.remove(work.note.path, work.rights)
        raise NotApplied(
            f"{work.note.path} or a copy can't be written, and nothing was changed: {error}"
        ) from error
    reached: list[Member] = []
    since = time.time()
    try:
        _carry_out(work, reached)
        check_rules(work.group, work.plan, log_sizes, since, work.own_rules)
    except _TROUBLE as error:
        # The last one that was reached is where it went wrong.
        index = max(len(reached) - 1, 0)
        failed = work.group.members[index]
        words = failed.pgbouncer.complaints(failed.process.log, log_sizes[index])
        outcome = _restore(work, reached)
        # Those that they were made of are back.
        _remove_copies(work)
        files.remove(work.note.path, work.rights)
        raise NotApplied(
            f"PgBouncer did not take the new configuration: {error}. PgBouncer says:"
            f" {words or 'nothing'}. {outcome}"
        ) from error
    for state in work.files:
        state.last_good.discard()
    files.remove(work.note.path, work.rights)


def _carry_out(work: Work, reached: list[Member]) -> None:
    """Do what was planned, and verify it.

    Args:
        work: what is to be done.
        reached: gets the processes that may have read the new files.
    """
    group, plan = work.group, work.plan
    for name in plan.stop:
        group.first.pgbouncer.systemctl("stop", name)
    # The rules are there before a file names them, and as long as one does.
    for state in sorted(work.files, key=lambda state: not _is_named_by_others(state.file)):
        if state.changes:
            files.make_directory_of(state.file.path, work.rights)
            state.last_good.keep()
            files.write_file(state.file.wanted, work.rights)
    if plan.reload_units:
        group.first.pgbouncer.systemctl("daemon-reload")
    planned = list(zip(group.members, plan.processes))
    for member, one in planned:
        reached.append(member)
        with group.named(member):
            if one.starts_anew:
                group.restart(member)
                if member is not group.members[-1]:
                    # Before the next one restarts. A port that all share doesn't say yet which
                    # of them shows a certificate.
                    check_member(member, replace(member.desired, certificate=""), one)
            elif one.reload:
                member.pgbouncer.command("RELOAD")
    for member, one in planned:
        with group.named(member):
            check_member(member, member.desired, one)
    for member, one in planned:
        if one.reconnect:
            member.pgbouncer.command("RECONNECT")


def _is_named_by_others(file: OwnedFile) -> bool:
    return file.kind is FileKind.RULES and not file.removed


def _restore(work: Work, reached: Sequence[Member]) -> str:
    """Restore the previous files and have PgBouncer run with them; says how that went.

    Args:
        work: what was to be done.
        reached: the processes that may have read the new files.
    """
    group, plan = work.group, work.plan
    first = group.first
    others = [
        (member, one) for member, one in zip(group.others, plan.processes[1:]) if member in reached
    ]
    # While these share the port, the first may not get it for itself again.
    for member, one in others:
        if one.start:
            with suppress(PgBouncerError):
                member.pgbouncer.systemctl("stop", member.name)
    for state in work.files:
        state.last_good.restore()
    outcome = "The previous files are back, and PgBouncer runs with them."
    try:
        if plan.reload_units:
            first.pgbouncer.systemctl("daemon-reload")
        if plan.first.start:
            first.pgbouncer.systemctl("stop", first.name)
            outcome = "The previous files are back, and PgBouncer is stopped as it was before."
        elif plan.first.restart:
            first.pgbouncer.systemctl("reset-failed", first.name)
            group.restart(first)
        else:
            first.pgbouncer.command("RELOAD")
        for member, one in others:
            if one.restart:
                member.pgbouncer.systemctl("reset-failed", member.name)
                group.restart(member)
            elif not one.start:
                member.pgbouncer.command("RELOAD")
        for name in plan.stop:
            first.pgbouncer.systemctl("start", name)
    except (PgBouncerError, ConsoleError) as error:
        return f"The previous files are back, but PgBouncer does not run with them: {error}"
    return outcome


def _remove_copies(work: Work) -> None:
    """Remove the copies as far as that can be done."""
    for copy in work.copies:
        with suppress(OSError):
            files.remove(copy.path, work.rights)
