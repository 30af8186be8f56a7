# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace configuration files atomically, and put the last good ones back."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import tempfile
from dataclasses import dataclass


@dataclass(frozen=True)
class ManagedFile:
    """A file as it is, or as it shall be. C(content) is None where there is no file."""

    path: str
    content: str | None
    owner: str
    group: str
    mode: int


def read_file(path: str) -> ManagedFile:
    """The file as it is on disk.

    Raises:
        OSError: when it exists and can't be read.
        ValueError: when it is not UTF-8 text.
    """
    try:
        with open(path, "rb") as handle:
            raw = handle.read()
            status = os.fstat(handle.fileno())
    except FileNotFoundError:
        return ManagedFile(path, None, "", "", 0)
    try:
        content = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    return ManagedFile(
        path, content, _user(status.st_uid), _group(status.st_gid), stat.S_IMODE(status.st_mode)
    )


def write_file(wanted: ManagedFile) -> None:
    """Make the disk hold the wanted file, in one step: readers see the old or the new, whole.

    The bytes reach the disk before the name does, so that a crash leaves one of the two.
    """
    directory = os.path.dirname(wanted.path)
    if wanted.content is None:
        try:
            os.unlink(wanted.path)
        except FileNotFoundError:
            return
        _sync_directory(directory)
        return
    descriptor, temporary = tempfile.mkstemp(
        prefix=f".{os.path.basename(wanted.path)}.", dir=directory
    )
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(wanted.content.encode("utf-8"))
            handle.flush()
            os.fchown(handle.fileno(), _uid(wanted.owner), _gid(wanted.group))
            os.fchmod(handle.fileno(), wanted.mode)
            os.fsync(handle.fileno())
        os.rename(temporary, wanted.path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_directory(directory)


def differs(actual: ManagedFile, wanted: ManagedFile) -> bool:
    """Whether the file on disk is not the wanted one, in content, owner, group or mode."""
    if wanted.content is None:
        return actual.content is not None
    return actual != wanted


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _uid(owner: str) -> int:
    return int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid


def _gid(group: str) -> int:
    return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
