# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what runs is what was asked for, and whether it could be."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import sockets
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    hba,
    trial,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.console import LOGIN
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.differences import (
    Desired,
    described,
    differences,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.group import (
    Member,
    ProcessGroup,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.plan import (
    PgBouncerPlan,
    ProcessPlan,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.request import Request
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.service import (
    START_TIMEOUT_S,
    PgBouncer,
    PgBouncerError,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.tls_files import (
    without_missing_files,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql import connection


def check_trial(request: Request, desired: Desired, trial_user: str, rules: str) -> None:
    """Check that PgBouncer takes the configuration, by a trial start beside the one that runs.

    Args:
        request: what was asked for.
        desired: what is to run.
        trial_user: an OS user that exists.
        rules: the file with rules for logins; empty where this collection writes none.

    Raises:
        PgBouncerError: with its words.
        OSError: when the trial is not possible.
    """
    options = without_missing_files(desired.os_user, desired.options, request.assumed_files)
    trial.try_out(request.binary, replace(desired, options=options), trial_user, rules)


def check_addresses(group: ProcessGroup) -> None:
    """Check that a PgBouncer that starts anew could listen where it should.

    Raises:
        ValueError: saying why not.
    """
    options = group.first.desired.options
    everyone = [*(one.pgbouncer for one in group.members), *group.leaving]
    running = [one for one in everyone if one.service().active]
    ours = {port for one in running for _address, port in one.listens_on()}
    reason = sockets.why_not_listen(options["listen_addr"], int(options["listen_port"]), ours)
    if reason:
        raise ValueError(f"listen_addr: PgBouncer can't listen on {reason}. Nothing was changed")


def check_login_as(request: Request, user: str) -> None:
    """Check that the server on this host lets an OS user in as the role that asks for verifiers,
    without whom nobody could log in any more.

    Raises:
        ValueError: with the server's words.
    """
    if not request.asks_server or request.backend_host:
        return
    login = {**LOGIN, **request.local_login(request.auth_role, user, request.auth_password)}
    for database in request.databases:
        if not database.roles:
            continue
        try:
            connection.connect(login, database.name, read_only=True).close()
        except connection.ConnectionFailed as error:
            raise ValueError(
                f"os_user: Postgres does not let the OS user {user!r} in as {request.auth_role!r},"
                f" so that nobody could log in through PgBouncer any more: {error}. Run the role"
                " postgres with the same pgbouncer_os_user first, as the playbook site does, or"
                " add that user to the map of pg_ident.conf"
            ) from error


def check_member(member: Member, desired: Desired, plan: ProcessPlan) -> None:
    """Check that what was asked for is what runs.

    Args:
        member: a process.
        desired: what it should run now.
        plan: what was done to it.

    Raises:
        PgBouncerError: saying what does not.
    """
    service = member.pgbouncer.service()
    if not service.active:
        raise PgBouncerError("the service is not active")
    running = member.pgbouncer.running(service, START_TIMEOUT_S)
    if not running.answers:
        raise PgBouncerError("its console does not answer")
    found = [one for one in differences(desired, running) if one.name not in plan.held_back]
    if found:
        raise PgBouncerError(described(found))
    if plan.starts_anew:
        _check_listening(member.pgbouncer, desired)


def _check_listening(pgbouncer: PgBouncer, desired: Desired) -> None:
    """Check that it listens where it should: it may start without some of its addresses.

    Raises:
        PgBouncerError: naming an address where it does not listen.
    """
    port = int(desired.options["listen_port"])
    listening = {address for address, at_port in pgbouncer.listens_on() if at_port == port}
    for wanted in (part.strip() for part in desired.options["listen_addr"].split(",")):
        try:
            family = socket.AF_INET6 if ":" in wanted else socket.AF_INET
            missing = socket.inet_ntop(family, socket.inet_pton(family, wanted)) not in listening
        except OSError:  # a name, or * for all addresses
            missing = bool(wanted) and not listening
        if missing:
            raise PgBouncerError(f"it does not listen on {wanted} port {port}")


def check_rules(
    group: ProcessGroup,
    plan: PgBouncerPlan,
    log_sizes: Sequence[int],
    since: float,
    own_files: Sequence[str],
) -> None:
    """Check that the processes have taken the rules for logins as they are written.

    Args:
        group: the processes.
        plan: what was done.
        log_sizes: how long their logs were before it, in their order.
        since: when it was begun.
        own_files: files with rules that somebody else writes.

    Raises:
        PgBouncerError: with what PgBouncer logged about those that it dropped.
    """
    for member, one, size in zip(group.members, plan.processes, log_sizes):
        if one.reads_files:
            log = member.process.log
            dropped = member.pgbouncer.rule_complaints(log, size, since)
            if dropped:
                with group.named(member):
                    raise PgBouncerError(hba.dropped(dropped, own_files))
