# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace configuration files atomically, and put the last good ones back."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from contextlib import suppress
from dataclasses import dataclass, replace

# What is kept where there was no file.
_NOTHING = "# pooled.postgres: there was no such file before\n"


@dataclass(frozen=True)
class ManagedFile:
    """A file as it is, or as it shall be. C(content) is None where there is no file."""

    path: str
    content: str | None
    owner: str
    group: str
    mode: int


@dataclass(frozen=True)
class Owner:
    """Names of a user and a group; their numbers where they have none."""

    user: str
    group: str


def owner_of(path: str) -> Owner:
    """Whom a file or directory belongs to."""
    status = os.stat(path)
    return Owner(_user(status.st_uid), _group(status.st_gid))


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
    temporary = _temporary(wanted.path)
    _unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            _write(descriptor, wanted.content.encode("utf-8"))
            os.fchown(descriptor, _uid(wanted.owner), _gid(wanted.group))
            os.fchmod(descriptor, wanted.mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
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

    It outlives a run that is killed: the next one can go back to it. Going back needs no space on
    the disk.
    """

    def __init__(self, before: ManagedFile) -> None:
        directory, name = os.path.split(before.path)
        self._before = before
        self._path = os.path.join(directory, f".{name}.last-good")
        self._kept = read_file(self._path)

    @property
    def path(self) -> str:
        """Path of the managed file."""
        return self._before.path

    @property
    def exists(self) -> bool:
        """Whether a file is kept, by this run or by one before it."""
        return self._kept.content is not None

    @property
    def content(self) -> str:
        """Text of the kept file, or else of the managed one; empty where there was none."""
        kept = self._kept if self.exists else self._before
        return "" if kept.content in (None, _NOTHING) else str(kept.content)

    def keep(self) -> None:
        """Keep the file as it is, unless a run that was killed has kept an earlier one."""
        if self.exists:
            return
        kept = replace(self._before, path=self._path)
        if kept.content is None:
            kept = ManagedFile(self._path, _NOTHING, str(os.geteuid()), str(os.getegid()), 0o600)
        write_file(kept)
        self._kept = kept

    def keep_instead(self, good: ManagedFile) -> None:
        """Keep this one, with which the server is known to run, if the disk has room for it."""
        good = replace(good, path=self._path)
        if differs(self._kept, good):
            with suppress(OSError):
                write_file(good)
                self._kept = good

    def put_back(self) -> bool:
        """Make the last good file the managed one again.

        Returns:
            Whether the managed file was another one.
        """
        # As it is on disk: keeping it may have failed half-way.
        self._kept = read_file(self._path)
        if not self.exists:
            self.forget()
            return False
        path = self._before.path
        good = replace(self._kept, path=path)
        if good.content == _NOTHING:
            good = replace(good, content=None)
        back = differs(read_file(path), good)
        if back and good.content is not None:
            os.rename(self._path, path)
        elif back:
            _unlink(path)
        self.forget()
        return back

    def forget(self) -> None:
        """Take the managed file for good, and remove what runs that were killed have left."""
        for path in (self._path, _temporary(self._path), _temporary(self._before.path)):
            _unlink(path)
        # The files are right already; that they last is all that can fail.
        with suppress(OSError):
            _sync_directory(os.path.dirname(self._path))
        self._kept = replace(self._kept, content=None)


def _temporary(path: str) -> str:
    """Where a file is written first: always the same name, so that nothing is left for long."""
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.new")


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


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
