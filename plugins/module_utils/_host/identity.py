# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work with the rights of another OS user for a while, where this process is root."""

from __future__ import annotations

import os
import pwd
from contextlib import contextmanager
from typing import Iterator


def entry_of(user: str) -> pwd.struct_passwd | None:
    """The OS user of that name; None when there is none."""
    try:
        return pwd.getpwnam(user) if user else None
    except KeyError:
        return None


@contextmanager
def acting_as(entry: pwd.struct_passwd | None) -> Iterator[None]:
    """Have no other rights than an OS user: neither root's, nor those of root's groups.

    The kernel then refuses what that user may not do, whatever a path leads to and whoever changes
    it meanwhile. The user can't touch this process, whose real uid stays 0. Does nothing unless
    the process is root and the user another one. Modules of Python that are not loaded yet may be
    out of reach inside.
    """
    if entry is None or entry.pw_uid == 0 or os.geteuid() != 0:
        yield
        return
    gid, groups = os.getegid(), os.getgroups()
    try:
        os.setgroups(os.getgrouplist(entry.pw_name, entry.pw_gid))
        os.setegid(entry.pw_gid)
        os.seteuid(entry.pw_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def words_before(entry: pwd.struct_passwd | None) -> list[str]:
    """What to put before a command so that it runs as an OS user, where this process is root."""
    if entry is None or os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups"]
