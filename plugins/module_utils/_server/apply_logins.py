# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a server its files for logins, let it check and load them, or put the old ones back."""

from __future__ import annotations

from ansible_collections.pooled.postgres.plugins.module_utils._host import files
from ansible_collections.pooled.postgres.plugins.module_utils._server.errors import Refused
from ansible_collections.pooled.postgres.plugins.module_utils._server.login_plan import LoginPlan
from ansible_collections.pooled.postgres.plugins.module_utils._server.login_server import (
    LoginServer,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    ConnectionFailed,
)


def apply(server: LoginServer, plan: LoginPlan) -> None:
    """Carry out a plan.

    Raises:
        Refused: when the server does not take the files.
        OSError: when backups can't be removed.
    """
    if plan.reload:
        _replace_files(server, plan)
    for change in plan.changes:
        change.backup.discard()


def _replace_files(server: LoginServer, plan: LoginPlan) -> None:
    try:
        for change in plan.changes:
            if change.differs:
                change.backup.keep()
                files.write_file(change.wanted, server.rights(change.wanted.path))
        errors = server.errors()
        if errors:
            raise Refused("; ".join(errors))
        server.reload()
    except (Refused, OSError, ConnectionFailed) as error:
        unwritten = isinstance(error, OSError)
        what = "The new files can't be written" if unwritten else "The server refuses the new files"
        back = [change.backup.restore() for change in plan.changes]
        if not any(back):
            raise Refused(f"{what}, and no file was changed: {error}") from error
        try:
            server.reload()
        except (Refused, ConnectionFailed) as again:
            raise Refused(
                f"{what}: {error}; the old ones are back, but it does not load them: {again}"
            ) from error
        raise Refused(f"{what}, and the old ones are back: {error}") from error
