# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is on the host before anything is decided: PgBouncer, its files, its users."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import files
from ansible_collections.pooled.postgres.plugins.module_utils._host.files import (
    Backup,
    ManagedFile,
    Rights,
)
from ansible_collections.pooled.postgres.plugins.module_utils._host.process import RunCommand
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    ini,
    os_user,
    processes,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.console import LOGIN
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.files import (
    FileKind,
    OwnedFile,
    drop_in_path,
    no_file,
    template_path,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.interruption import (
    Interruption,
    note_path,
    parsed,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.request import Request
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.service import (
    PgBouncer,
    Service,
    installed_version,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql import connection


@dataclass(frozen=True)
class Installation:
    """The PgBouncer on this host; C(version) is None where there is none.

    C(drop_in) is the text of the collection's drop-in, None where there is none; C(as_packaged)
    says that the configuration file is as its package has installed it.
    """

    version: tuple[int, int, int] | None
    service: Service
    rights: Rights
    interruption: Interruption
    as_packaged: bool
    drop_in: str | None

    @property
    def installed(self) -> bool:
        """Whether there is a PgBouncer."""
        return self.version is not None


def installation(run: RunCommand, request: Request) -> Installation:
    """The PgBouncer on this host.

    Raises:
        OSError: when one of its files can't be read.
        ValueError: when one of its files is not text.
    """
    version = installed_version(run, request.binary)
    service = PgBouncer(run, request.service, "").service()
    # Where only root may write, as below /etc, that user does not come into it.
    rights = Rights(service.os_user or service.unit_user or os_user.PACKAGED)
    note = note_path(request.config_file)
    interruption = Interruption()
    if files.exists(note, rights):
        interruption = parsed(files.read_file(note, rights).content or "")
    return Installation(
        version=version,
        service=service,
        rights=rights,
        interruption=interruption,
        as_packaged=version is not None and os_user.is_package_file(run, request.config_file),
        drop_in=files.read_file(drop_in_path(request), rights).content,
    )


def held_secrets(request: Request, auth_file: str, rights: Rights) -> dict[str, str]:
    """Users that the running PgBouncer may know from its files, with their secrets.

    Those of a run that was killed count too, and of another auth file that it has read.

    Args:
        request: what was asked for.
        auth_file: the auth file to come.
        rights: with whose rights to work on the files.
    """
    config = Backup(files.read_file(request.config_file, rights), rights).content
    held = {ini.option_in(config, "auth_user"): ""}
    with suppress(OSError, ValueError):
        # Whoever could write its name there must not have more read than they may read.
        everywhere = replace(rights, everywhere=True)
        other = files.read_file(ini.option_in(config, "auth_file"), everywhere)
        held.update(ini.secrets_in(other.content or ""))
    file = files.read_file(auth_file, rights)
    held.update(ini.secrets_in(Backup(file, rights).content))
    held.update(ini.secrets_in(file.content or ""))
    held.pop("", None)
    return held


def stored_verifiers(request: Request, roles: Sequence[str]) -> dict[str, str | None]:
    """What the server on this host has as the passwords of roles that it has.

    Raises:
        ConnectionFailed: with the server's words.
    """
    login = {**LOGIN, **request.local_login("postgres", "postgres")}
    session = connection.connect(login, "postgres", read_only=True)
    try:
        rows = connection.fetch(
            session,
            "SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = ANY (%s)",
            (list(roles),),
        )
    finally:
        session.close()
    return {row.rolname: row.rolpassword for row in rows}


def other_processes(request: Request, rights: Rights) -> list[int]:
    """Numbers of the processes beside the first that an earlier run has made.

    Raises:
        ValueError: when somebody else has made files of the names that they would have.
    """
    directory = os.path.dirname(request.config_file)
    template = template_path(request)
    content = files.read_file(template, rights).content or ""
    ours = content.startswith(processes.HEADER)
    unmanaged = [template] if content and not ours else []
    found = []
    for number, name in processes.files_of_processes(
        files.names_in(directory, rights), request.config_file
    ):
        path = os.path.join(directory, name)
        if (
            ours
            or name.startswith(".")
            or ini.is_managed(files.read_file(path, rights).content or "")
        ):
            found.append(number)
        elif number <= request.processes:
            unmanaged.append(path)
    if unmanaged and request.processes > 1:
        raise ValueError(
            f"processes: {unmanaged[0]} is not this collection's; remove what it belongs to, or"
            " leave processes at 1"
        )
    return sorted(set(found))


@dataclass(frozen=True)
class FileState:
    """A file as it should be and as it is, and what the running PgBouncer has read of it."""

    file: OwnedFile
    before: ManagedFile
    last_good: Backup

    @property
    def changes(self) -> bool:
        """Whether it has to be written or removed."""
        return files.differs(self.before, self.file.wanted)


def file_states(
    owned: Sequence[OwnedFile], rights: Rights, installed: bool
) -> tuple[FileState, ...]:
    """The files as they are; where PgBouncer is not installed, as its package will bring them.

    Raises:
        OSError: when one can't be read, or can't be changed and has to be.
        ValueError: when one is not text.
    """
    found = []
    for file in owned:
        before = files.read_file(file.path, rights)
        if files.differs(before, file.wanted):
            files.check_changeable(file.path, rights)
        if not installed:
            before = _as_packaged(file, before)
        # What PgBouncer has read, also when a run was killed after it wrote new files.
        found.append(FileState(file, before, Backup(before, rights)))
    return tuple(found)


def _as_packaged(file: OwnedFile, before: ManagedFile) -> ManagedFile:
    """A file as the package will bring it."""
    if file.process == 1 and file.kind is FileKind.UNIT:
        return no_file(file.path)
    if file.kind is FileKind.AUTH_FILE or (file.kind is FileKind.CONFIG and file.process == 1):
        return replace(file.wanted, content="")
    return before


def of_first_process(states: Sequence[FileState], kind: FileKind) -> FileState:
    """The file of a kind that is for the first process alone."""
    return next(one for one in states if one.file.kind is kind and one.file.process == 1)
