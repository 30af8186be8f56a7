# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_hba.conf and pg_ident.conf of a server must be, and which of its lines stay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import files
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import IDENT_MAP
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_file import (
    INCLUDES_MAJOR,
    PACKAGE_RULES,
    has_includes,
    hba_text,
    ident_text,
    include_lines,
    is_as_packaged,
    is_ours,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_from_model import (
    ident_lines,
    model_rules,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import (
    CheckedRules,
    LoginRule,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_unmanaged import (
    decided_by_the_model,
    unmanaged_lines,
    unsafe_lines,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.login_server import (
    FILE_MODE,
    LoginServer,
)


@dataclass(frozen=True)
class FileChange:
    """A file as it is, as it must be, and the last one that the server ran with."""

    actual: files.ManagedFile
    wanted: files.ManagedFile
    backup: files.Backup

    @property
    def differs(self) -> bool:
        """Whether it has to be written."""
        return files.differs(self.actual, self.wanted)


@dataclass(frozen=True)
class LoginPlan:
    """What to do about logins.

    C(whole) says whether all of pg_hba.conf is managed, C(rules) are the managed ones. C(reload) is
    true when the server has not loaded what is wanted.
    """

    pg_hba: FileChange
    pg_ident: FileChange
    whole: bool
    rules: tuple[LoginRule, ...]
    reload: bool
    warnings: tuple[str, ...]

    @property
    def changes(self) -> tuple[FileChange, FileChange]:
        """Both files."""
        return self.pg_hba, self.pg_ident


def plan(
    server: LoginServer,
    databases: Sequence[Database],
    params: dict[str, Any],
    checked: CheckedRules,
) -> LoginPlan:
    """Compare the server's files with what the model and further rules make of them.

    Args:
        server: the server.
        databases: the model.
        params: the options of postgreshba.
        checked: further rules and networks, checked.

    Raises:
        ValueError: when other files decide what the model does.
        Refused: when the server does not answer a question.
    """
    owner = {"superuser": params["login_user"], "superuser_os_user": params["login_os_user"]}
    pg_hba = server.file(server.hba_file, "".join(f"{line}\n" for line in PACKAGE_RULES))
    ident = server.file(server.ident_file, "")
    text = pg_hba.content or ""
    whole = _wants_whole_file(server, text, databases)
    gone = _check_included(server, text, ident.content or "", databases, whole)
    kept = _kept_lines(server, text, databases)
    rules = (
        *model_rules(
            databases,
            major=server.major,
            client_networks=checked.client_networks,
            pooler_role=params["pooler_role"],
            pooler_networks=checked.pooler_networks,
            require_tls=params["require_tls"],
            require_tls_on_loopback=params["require_tls_on_loopback"],
            **owner,
        ),
        *checked.rules,
    )
    lines = ident_lines(
        pooler_role=params["pooler_role"], pooler_os_user=params["pooler_os_user"], **owner
    )
    contents = (
        (pg_hba, hba_text(text, rules, whole, kept)),
        (ident, ident_text(ident.content or "", lines)),
    )
    pairs = [(actual, _wanted_file(server, actual, content)) for actual, content in contents]
    changes = [
        FileChange(actual, wanted, files.Backup(actual, server.rights(actual.path)))
        for actual, wanted in pairs
    ]
    # A run that was killed may have left files that the server has not taken.
    pending = any(change.differs or change.backup.exists for change in changes)
    reload = pending or not server.has_loaded(server.hba_file, server.ident_file)
    warnings = _warnings(server, changes[0], checked, whole, gone, kept)
    return LoginPlan(changes[0], changes[1], whole, rules, reload, warnings)


def _warnings(
    server: LoginServer,
    pg_hba: FileChange,
    checked: CheckedRules,
    whole: bool,
    gone: Sequence[str],
    kept: Sequence[str],
) -> tuple[str, ...]:
    path = server.hba_file
    return (
        *checked.warnings,
        *(
            f"{path}: {line!r} is removed, because exclusive is 'yes', and with it all"
            " rules of other files"
            for line in gone
        ),
        *(
            f"{path}: kept an unmanaged line, for what the model does not know: {line}"
            f"{'; it is unsafe' if unsafe_lines(line) else ''}"
            for line in kept
        ),
        *(
            f"{path}: {warning}"
            for warning in (() if whole else unsafe_lines(pg_hba.wanted.content or ""))
        ),
    )


def _wants_whole_file(server: LoginServer, text: str, databases: Sequence[Database]) -> bool:
    """Whether pg_hba.conf is ours alone."""
    choice = server.params["exclusive"]
    if choice != "auto":
        return bool(choice == "yes")
    if is_ours(text):
        return True
    return (
        is_as_packaged(text)
        and not server.unmanaged_databases(databases, text)
        and not server.unmanaged_roles(databases, text)
    )


def _kept_lines(server: LoginServer, text: str, databases: Sequence[Database]) -> tuple[str, ...]:
    """Lines in a file that is ours which others need for what they have added since."""
    if server.params["exclusive"] != "auto" or not is_ours(text):
        return ()
    return unmanaged_lines(
        text,
        server.unmanaged_databases(databases, text),
        server.unmanaged_roles(databases, text),
    )


def _check_included(
    server: LoginServer, text: str, ident: str, databases: Sequence[Database], whole: bool
) -> tuple[str, ...]:
    """Refuse what other files say of what the model decides; of a file that is ours alone, name
    the lines that bring them and go.

    Raises:
        ValueError: naming each rule.
    """
    # Of a file that it can't read, the server knows no maps either.
    asked = server.connection is not None and server.major >= INCLUDES_MAJOR
    if asked and has_includes(ident):
        maps = server.included_maps()
        if maps:
            places = ", ".join(f"{row.file_name} line {row.line_number}" for row in maps)
            raise ValueError(
                f"{server.ident_file} includes lines of map {IDENT_MAP!r}, which says who may"
                f" be PgBouncer's role or the superuser: {places}; remove them"
            )
    lines = include_lines(text) if whole else ()
    if not lines or server.params["exclusive"] == "yes":
        return lines
    found = decided_by_the_model(
        server.included(),
        server.unmanaged_databases(databases, text),
        server.unmanaged_roles(databases, text),
    )
    if found:
        raise ValueError(
            f"{server.hba_file} is managed, and {', '.join(map(repr, lines))} in it would bring"
            f" rules for what the model decides: {'; '.join(map(str, found))}; name only databases"
            " and roles outside the model there, or move the rules to postgres_hba; with exclusive:"
            " 'yes' the line is removed"
        )
    return ()


def _wanted_file(server: LoginServer, actual: files.ManagedFile, content: str) -> files.ManagedFile:
    """The file with the wanted content, where the server can read it and nobody else.

    Raises:
        PermissionError: when it has to change and can't.
    """
    owner, rights = server.owner, server.rights(actual.path)
    wanted = files.ManagedFile(actual.path, content, owner.user, owner.group, FILE_MODE)
    if actual.content is not None and server.keeps(actual):
        kept = replace(actual, content=content, mode=actual.mode & FILE_MODE)
        # What the server's OS user writes belongs to it.
        if kept == actual or owner.user == actual.owner or not files.worker_of(actual.path, rights):
            wanted = kept
    if files.differs(actual, wanted) and (server.exists or server.connection):
        files.check_changeable(actual.path, rights)
    return wanted
