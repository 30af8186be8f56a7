# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that the collection owns for PgBouncer, as they should be."""

from __future__ import annotations

import enum
import grp
import os
import pwd
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host.files import (
    ManagedFile,
    Rights,
    check_only_ours,
    read_file,
    worker_of,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    hba,
    ini,
    pooled_sessions,
    processes,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.differences import Desired
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.request import Request


class FileKind(enum.Enum):
    """What a file is for."""

    UNIT = "systemd"
    AUTH_FILE = "users and their secrets"
    CONFIG = "pgbouncer.ini of a process"
    RULES = "rules for logins"
    ROTATION = "logrotate"


@dataclass(frozen=True)
class OwnedFile:
    """A file as it should be.

    C(process) is the number of the process that it is for, and 0 when it is for all of them or
    none. C(removed) is one that should not be there.
    """

    kind: FileKind
    wanted: ManagedFile
    process: int = 0

    @property
    def path(self) -> str:
        """Where it is."""
        return self.wanted.path

    @property
    def removed(self) -> bool:
        """Whether it should not be there."""
        return self.wanted.content is None

    def is_read_by(self, process: int) -> bool:
        """Whether a process reads it."""
        if self.removed:
            return False
        if self.kind is FileKind.CONFIG:
            return self.process == process
        return self.kind in (FileKind.AUTH_FILE, FileKind.RULES)


def primary_group(user: str) -> str:
    """Name of a user's own group; a user that is yet to be made has one of its own name."""
    try:
        return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    except KeyError:
        return user


def wanted_files(
    request: Request,
    members: Sequence[processes.Process],
    desired: Desired,
    secrets: Mapping[str, str],
    read_files: Sequence[str],
    found: Iterable[int],
    rights: Rights,
) -> list[OwnedFile]:
    """The files, in the order in which they are written, but for the rules().

    The processes can read what is theirs, and change nothing.

    Args:
        request: what was asked for.
        members: the processes.
        desired: what all of them are to run.
        secrets: what the auth file is to hold, by user.
        read_files: what to remember about other files that PgBouncer reads.
        found: numbers of the processes beside the first that there are now.
        rights: with whose rights to work on the files.

    Raises:
        ValueError: when users other than root can change what is to run with root's rights.
    """
    user = desired.os_user
    group = primary_group(user)
    first, others = members[0], members[1:]
    service = request.service
    who: dict[str, Any] = {
        "user": user,
        "group": group,
        "sandbox": request.sandbox,
        "hosts": [entry["host"] for entry in desired.databases.values()],
    }
    limit = desired.descriptors
    drop_in = OwnedFile(
        FileKind.UNIT,
        _root_file(
            "unit_directory",
            drop_in_path(request),
            processes.drop_in(limit, members, **who),
        ),
        first.number,
    )
    auth_file = OwnedFile(
        FileKind.AUTH_FILE,
        _readable_file(first.options["auth_file"], ini.render_userlist(secrets), user, rights),
    )
    configs = [
        OwnedFile(
            FileKind.CONFIG,
            _readable_file(
                member.config_file,
                _config_text(member, desired, request.databases, read_files),
                user,
                rights,
            ),
            member.number,
        )
        for member in members
    ]
    rotation = OwnedFile(
        FileKind.ROTATION,
        _root_file(
            "logrotate_directory",
            os.path.join(request.logrotate_directory, f"pooled-{service}.conf"),
            processes.rotation(first.options, service, user, group),
        ),
    )
    beside = list(found)
    if not others and not beside:
        return [drop_in, auth_file, *configs, rotation]
    template = OwnedFile(
        FileKind.UNIT,
        _root_file(
            "unit_directory",
            template_path(request),
            processes.template(limit, members, binary=request.binary, **who) if others else None,
        ),
    )
    leaving = [
        OwnedFile(
            FileKind.CONFIG,
            no_file(processes.file_of_process(request.config_file, number)),
            number,
        )
        for number in beside
        if number > len(members)
    ]
    return [drop_in, auth_file, configs[0], template, *configs[1:], *leaving, rotation]


def rules(path: str, access: hba.Access, user: str, rights: Rights) -> list[OwnedFile]:
    """The file with the rules for logins, which is not there when nobody needs it.

    One that somebody else has made, or wants PgBouncer to read, is left alone.
    """
    if access.text:
        return [OwnedFile(FileKind.RULES, _readable_file(path, access.text, user, rights))]
    found = read_file(path, rights).content
    unmanaged = found is not None and not hba.is_ours(found)
    if unmanaged or access.options.get("auth_hba_file") == path:
        return []
    return [OwnedFile(FileKind.RULES, no_file(path))]


def drop_in_path(request: Request) -> str:
    """The drop-in of the first process's service."""
    return os.path.join(request.unit_directory, f"{request.service}.service.d/pooled.conf")


def template_path(request: Request) -> str:
    """The unit of the processes beside the first."""
    return os.path.join(request.unit_directory, f"{request.service}@.service")


def no_file(path: str) -> ManagedFile:
    """That there is no file at a path."""
    return ManagedFile(path, None, "", "", 0)


def _config_text(
    member: processes.Process,
    desired: Desired,
    databases: Sequence[Database],
    read_files: Sequence[str],
) -> str:
    return ini.render_ini(
        member.options,
        desired.databases,
        desired.users,
        pooled_sessions.role_settings_lines(databases),
        read_files,
        desired.peers,
    )


def _readable_file(path: str, content: str, user: str, rights: Rights) -> ManagedFile:
    """A file that PgBouncer's OS user can read and not change."""
    # In a directory of the user's own, only the user can make it.
    owner = worker_of(path, rights) or _own_name()
    return ManagedFile(path, content, owner, primary_group(user), 0o640)


def _root_file(variable: str, path: str, content: str | None) -> ManagedFile:
    """A file of the system's, whose content runs with root's rights."""
    check_only_ours(variable, path)
    return ManagedFile(path, content, _own_name(), primary_group(_own_name()), 0o644)


def _own_name() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name
