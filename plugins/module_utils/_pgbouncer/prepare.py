# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a request to a plan: what is there, what is to run, and what differs."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.pooled.postgres.plugins.module_utils._host import process
from ansible_collections.pooled.postgres.plugins.module_utils._host.files import (
    ManagedFile,
    Rights,
)
from ansible_collections.pooled.postgres.plugins.module_utils._host.process import RunCommand
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    files,
    hba,
    ini,
    os_user,
    pooled_sessions,
    processes,
    read,
    report,
    secrets,
    takeover,
    takeover_files,
    tls_files,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.differences import Desired
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.files import FileKind
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.group import (
    GroupState,
    ProcessGroup,
    group_of,
    read_group,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.plan import (
    PgBouncerPlan,
    plan_pgbouncer,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.request import Request
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.running import (
    Running,
    package_state,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.wanted import (
    Verifiers,
    Wanted,
    decide,
    given_secrets,
    losses_of,
    own_secret,
    verifiers,
)


@dataclass(frozen=True)
class Prepared:
    """All that is known before anything is changed.

    Attributes:
        wanted: what is to run.
        user_exists: whether its OS user is there.
        rights: with whose rights to work on files.
        unmanaged: the configuration, if this collection did not write it.
        losses: what that loses, in words.
        copies: copies of its files to be made.
        group: the processes.
        state: what they run.
        files: the files as they should be and as they are.
        plan: what is to be done.
        warnings: about files and roles.
    """

    wanted: Wanted
    user_exists: bool
    rights: Rights
    unmanaged: takeover.Unmanaged | None
    losses: list[str]
    copies: tuple[ManagedFile, ...]
    group: ProcessGroup
    state: GroupState
    files: tuple[read.FileState, ...]
    plan: PgBouncerPlan
    warnings: tuple[str, ...]

    @property
    def own_rules(self) -> tuple[str, ...]:
        """Files with rules for logins that somebody else writes.

        They may have been wrong before, too, which PgBouncer has only logged.
        """
        return () if self.wanted.access.text else tuple(hba.own_files(self.wanted.options))

    @property
    def rules_change(self) -> bool:
        """Whether clients will be let in by other rules for logins than now."""
        changed = self.plan.changes(self.wanted.rules_path)
        return bool(self.wanted.access.text) and (
            changed or not all(one.running.reads_rules for one in self.state.processes)
        )


def prepare(run: RunCommand, request: Request, found: read.Installation) -> Prepared:
    """From a request to a plan.

    Args:
        run: runs a command; returns its exit code, output and errors.
        request: what is asked for.
        found: the PgBouncer on this host.

    Raises:
        ValueError: when what is asked for can't be, or not here.
        OSError: when a file can't be read, or can't be changed and has to be.
        ConnectionFailed: when the server on this host does not say what its verifiers are.
    """
    target = decide(request, found, process.most_descriptors())
    user = target.os_user
    user_exists = os_user.exists(user)
    rights = Rights(user) if user_exists else found.rights
    if found.installed:
        os_user.check_places(run, target.options, user, request.service)
    auth_path = target.options["auth_file"]
    unmanaged = takeover_files.unmanaged(
        request.config_file, found.rights, auth_path, found.as_packaged
    )
    losses = losses_of(request, target, unmanaged)
    copies = takeover_files.copies(
        unmanaged, request.config_file, target.access, rights, found.as_packaged
    )
    known = _verifiers(request, target, found.installed)
    tls = _look_at_tls(run, request, target, found.installed)
    beside = read.other_processes(request, rights)
    auth_file = secrets.auth_file(
        known.secrets,
        read.held_secrets(request, auth_path, rights),
        auth_role=request.auth_role,
        users=target.users,
        asks_server=request.asks_server,
        may_restart=target.may_restart,
    )
    # What PgBouncer runs may allow fewer or more of them than are wanted.
    count = processes.count_for_now(
        target.processes, beside, found.service.active and found.installed, target.may_restart
    )
    members = processes.processes(
        count,
        target.access.options,
        service=request.service,
        config_file=request.config_file,
        runtime_directory=request.runtime_directory,
    )
    desired = Desired(
        target.options,
        target.databases,
        target.users,
        target.descriptors,
        certificate=tls.certificate,
        os_user=user,
    )
    group = group_of(run, desired, members, beside, request.service)
    states = read.file_states(
        [
            *files.wanted_files(
                request,
                members,
                group.first.desired,
                auth_file.secrets,
                tls.notes,
                beside,
                rights,
            ),
            *files.rules(target.rules_path, target.access, user, rights),
        ],
        rights,
        found.installed,
    )
    state = read_group(group, found.service, _first_running(request, target, found, group))
    last_read = read.of_first_process(states, FileKind.CONFIG).last_good.content
    stale = []
    if auth_file.stale:
        stale.append("users of the old auth file")
    if found.interruption.restarts:
        stale.append("an interrupted restart")
    plan = plan_pgbouncer(
        state.processes,
        [one.file for one in states if one.changes],
        stop=state.stop,
        create_user="" if user_exists or request.assumes_user else user,
        copies=[copy.path for copy in copies],
        units_unread=state.units_unread,
        unfinished=found.interruption.unfinished,
        stale=stale,
        reconnect=_must_reconnect(request, found, last_read, desired),
        may_restart=target.may_restart,
    )
    return Prepared(
        wanted=target,
        user_exists=user_exists,
        rights=rights,
        unmanaged=unmanaged,
        losses=losses,
        copies=tuple(copies),
        group=group,
        state=state,
        files=states,
        plan=plan,
        warnings=(*map(report.missing_verifier_warning, known.missing), *tls.warnings),
    )


def _verifiers(request: Request, target: Wanted, installed: bool) -> Verifiers:
    if request.asks_server:
        return Verifiers(own_secret(request, target.version))
    given = given_secrets(request)
    if request.backend_host or not installed:
        return Verifiers(given)
    stored = read.stored_verifiers(request, list(given))
    return verifiers(given, stored, request.check_mode)


@dataclass(frozen=True)
class _Tls:
    """The certificate to be served, what to remember about the files, and warnings."""

    certificate: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def _look_at_tls(run: RunCommand, request: Request, target: Wanted, installed: bool) -> _Tls:
    user, options, assumed = target.os_user, target.options, request.assumed_files
    # A check of a bare host can't know which files its run would have put there by now.
    if not installed and tls_files.missing_files(user, options, assumed):
        return _Tls()
    warnings = tls_files.check_files(run, user, options, assumed) if installed else []
    return _Tls(
        tls_files.wanted_certificate(user, options, assumed),
        tuple(tls_files.read_files(user, options, assumed)),
        tuple(warnings),
    )


def _first_running(
    request: Request,
    target: Wanted,
    found: read.Installation,
    group: ProcessGroup,
) -> Running:
    """What the first process runs.

    Raises:
        ValueError: when nobody can say, or may not change it.
    """
    if not found.installed:
        return package_state(target.version, found.service.default_descriptors)
    if not found.service.exists:
        raise ValueError(f"systemd has no service {request.service!r}")
    running = group.first.pgbouncer.running(found.service)
    if running.active and not running.answers and not target.may_restart:
        raise ValueError(
            f"The console of {request.service} does not answer, and restart={request.restart}"
            " forbids to restart it"
        )
    return running


def _must_reconnect(
    request: Request, found: read.Installation, last_read: str, desired: Desired
) -> bool:
    """Whether the pools are to open their server connections anew."""
    return (
        request.reconnect
        or found.interruption.reconnects
        or pooled_sessions.carries_old_settings(ini.role_settings_in(last_read), request.databases)
        or pooled_sessions.carries_old_parameters(
            ini.database_entries_in(last_read), desired.databases
        )
    )
