# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pgbouncer_config says: its actions, diffs, warnings and result."""

from __future__ import annotations

from typing import Any, Iterable, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    defaults,
    hba,
    ini,
    os_user,
    secrets,
    takeover,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.clients import Client
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.differences import (
    Difference,
    differences,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.files import FileKind
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.group import (
    GroupState,
    ProcessGroup,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import version_text
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.plan import (
    Action,
    CreateUser,
    PgBouncerPlan,
    ReloadProcess,
    ReloadUnits,
    RemoveFile,
    RestartProcess,
    StartProcess,
    StopService,
    WriteFile,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.read import FileState
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.request import Request
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.wanted import Wanted


def action_text(action: Action) -> str:
    """An action as a line."""
    if isinstance(action, CreateUser):
        return f"create the OS user {action.name}"
    if isinstance(action, WriteFile):
        return f"write {action.path}"
    if isinstance(action, RemoveFile):
        return f"remove {action.path}"
    if isinstance(action, StopService):
        return f"stop ({action.service})"
    if isinstance(action, ReloadUnits):
        return "systemctl daemon-reload"
    if isinstance(action, StartProcess):
        text = "start"
    elif isinstance(action, RestartProcess):
        text = f"restart for {', '.join(action.reasons)}"
    elif isinstance(action, ReloadProcess):
        text = "RELOAD"
    else:
        text = "RECONNECT"
    return f"{text} ({action.beside})" if action.beside else text


def action_lines(plan: PgBouncerPlan) -> list[str]:
    """Each action as a line, in order."""
    return [action_text(action) for action in plan.actions]


def diffs(
    files: Iterable[FileState], plan: PgBouncerPlan, group: ProcessGroup, state: GroupState
) -> list[dict[str, str]]:
    """Diffs of the files that change, without secrets, and of what runs otherwise than they say."""
    found = [_file_diff(one) for one in files if one.changes]
    for member, now, planned in zip(group.members, state.processes, plan.processes):
        others = [
            one
            for one in differences(now.desired, now.running)
            if one.name not in planned.held_back
        ]
        if others and not plan.changes(member.process.config_file):
            name = "" if member is group.first else f" {member.name}"
            found.append(_running_diff(others, name))
    return found


def _file_diff(state: FileState) -> dict[str, str]:
    old, new = state.before, state.file.wanted
    before, after = old.content or "", new.content or ""
    if state.file.kind is FileKind.AUTH_FILE:
        before, after = ini.masked_userlists(before, after)
    elif state.file.kind is FileKind.CONFIG:
        before, after = ini.without_digests(before, after)
    old_mode, new_mode = (
        f"# {one.owner}:{one.group} {one.mode:04o}\n" if one.content is not None else ""
        for one in (old, new)
    )
    return {
        "before_header": new.path,
        "after_header": new.path,
        "before": old_mode + before,
        "after": new_mode + after,
    }


def _running_diff(found: Sequence[Difference], process: str) -> dict[str, str]:
    return {
        "before_header": f"running PgBouncer{process}",
        "after_header": f"running PgBouncer{process}",
        "before": "".join(f"{one.name} = {one.running}\n" for one in found),
        "after": "".join(f"{one.name} = {one.wanted}\n" for one in found),
    }


def held_back(wanted: Wanted, group: ProcessGroup, plan: PgBouncerPlan) -> list[str]:
    """What waits for a restart that the policy forbids."""
    found = list(plan.held_back)
    if len(group.members) != wanted.processes:
        found.append("processes")
    if wanted.os_user != wanted.os_user_then:
        found.append("os_user")
    return found


def warnings(request: Request, wanted: Wanted) -> list[str]:
    """Warnings about what was asked for."""
    return [
        *wanted.warnings,
        *defaults.risks(wanted.options, wanted.version),
        *secrets.names_taken(request.databases, request.auth, request.auth_role),
    ]


def takeover_warning(
    unmanaged: takeover.Unmanaged | None, losses: Sequence[str], plan: PgBouncerPlan
) -> list[str]:
    """A warning about what an unmanaged PgBouncer loses."""
    if unmanaged is None or not losses:
        return []
    return [takeover.warning(unmanaged, losses, plan.copies)]


def missing_verifier_warning(role: str) -> str:
    """A warning about a role that a userlist can't have."""
    return (
        f"Role {role!r} has no SCRAM verifier on the server, so PgBouncer can't let it in;"
        " give it a password in the model"
    )


def shut_out_warning(access: hba.Access, clients: Iterable[Client]) -> list[str]:
    """A warning about clients that are connected and could not log in again."""
    refused = hba.refused(access.rules, clients)
    if not refused:
        return []
    return [
        "Clients are connected that can't log in again, because the rules for logins do not"
        f" let them in: {hba.listing(refused)}. If they should be, add their networks to"
        " pgbouncer_client_networks, let them use TLS where it is required, or add their"
        " roles to the model"
    ]


def superuser_warning(request: Request, user: str) -> list[str]:
    """A warning about a PgBouncer that runs as the superuser's OS user."""
    if request.backend_host or not os_user.is_superuser_unasked(request.os_user, user):
        return []
    return [
        f"PgBouncer runs as {user}, whom Postgres on this host lets in as the superuser, so anyone"
        " who takes over PgBouncer controls the whole server. An OS user of its own takes one"
        f" restart of it: set pgbouncer_os_user to {os_user.OWN}"
    ]


def held_back_warning(request: Request, waiting: Sequence[str]) -> list[str]:
    """A warning about what waits for a restart."""
    if not waiting:
        return []
    return [
        f"These wait for a restart of {request.service}, which restart={request.restart} forbids:"
        f" {', '.join(waiting)}"
    ]


def result(
    wanted: Wanted, group: ProcessGroup, plan: PgBouncerPlan, waiting: Sequence[str]
) -> dict[str, Any]:
    """What the module returns, but for the diff."""
    return {
        "changed": bool(plan.actions),
        "actions": action_lines(plan),
        "version": version_text(wanted.version),
        "options": group.first.desired.options,
        "limit_nofile": group.first.desired.descriptors,
        "os_user": wanted.os_user,
        "processes": [
            {
                "service": one.name,
                "unix_socket_dir": one.process.options["unix_socket_dir"],
            }
            for one in group.members
        ],
        "restart_pending": list(waiting),
    }
