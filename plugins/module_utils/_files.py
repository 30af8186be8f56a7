# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace configuration files atomically, and put the last good ones back."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from dataclasses import dataclass, replace


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
        if _unlink(wanted.path):
            _sync_directory(directory)
        return
    # Always the same name, so that what a killed run leaves is gone after the next.
    temporary = os.path.join(directory, f".{os.path.basename(wanted.path)}.new")
    _unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(wanted.content.encode("utf-8"))
            handle.flush()
            os.fchown(handle.fileno(), _uid(wanted.owner), _gid(wanted.group))
            os.fchmod(handle.fileno(), wanted.mode)
            os.fsync(handle.fileno())
        os.rename(temporary, wanted.path)
    except BaseException:
        _unlink(temporary)
        raise
    _sync_directory(directory)


def differs(actual: ManagedFile, wanted: ManagedFile) -> bool:
    """Whether the file on disk is not the wanted one, in content, owner, group or mode."""
    if wanted.content is None:
        return actual.content is not None
    return actual != wanted


class LastGood:
    """The file that a server last ran with, kept beside the new one until that is confirmed.

    It outlives a run that is killed: the next one that finds the server down can go back to it.
    """

    def __init__(self, before: ManagedFile) -> None:
        directory, name = os.path.split(before.path)
        self._before = before
        self._path = os.path.join(directory, f".{name}.last-good")
        self._kept = read_file(self._path)

    def keep(self) -> None:
        """Keep the file as it is, unless a run that was killed has kept an earlier one."""
        if self._kept.content is not None:
            return
        kept = replace(self._before, path=self._path)
        if kept.content is None:
            # An empty file says that there was none: the managed file itself has a heading.
            kept = ManagedFile(self._path, "", str(os.geteuid()), str(os.getegid()), 0o600)
        write_file(kept)
        self._kept = kept

    def put_back(self) -> bool:
        """Make the last good file the managed one again.

        Returns:
            Whether one was kept; else the managed file is left alone.
        """
        if self._kept.content is None:
            return False
        write_file(replace(self._kept, path=self._before.path, content=self._kept.content or None))
        self.forget()
        return True

    def forget(self) -> None:
        """Take the managed file for good."""
        write_file(replace(self._kept, path=self._path, content=None))


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


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
