# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on files with no more rights than their place calls for, and replace them in one step.

Root who opens a path below a directory of somebody else does what that somebody has put there: a
symbolic or hard link, or a directory that is swapped in between two calls. So work on a path is
done as root only where nobody but root can change what the path leads to: each directory on the
way is root's, and only root may write to it. Links on that way are an administrator's, and are
followed. From the first entry on that others may change, the work is done with the rights of the
service's OS user (seteuid, with its own groups): then the kernel refuses whatever that user may not
do, and no link, hard link or race reaches more. Paths that a server names, such as hba_file, may
name anything; there the service's user does all of the work. A process that isn't root works with
its own rights everywhere.
"""

from __future__ import annotations

import enum
import grp
import hashlib
import os
import pwd
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Iterator

from ansible_collections.pooled.postgres.plugins.module_utils._host.identity import (
    acting_as,
    entry_of,
)

# What is kept where there was no file.
_NOTHING = "# pooled.postgres: there was no such file before\n"
# As many as the kernel follows.
_MOST_LINKS = 40


@dataclass(frozen=True)
class Rights:
    """With whose rights files are read and written.

    C(user) is the OS user of the service that the files belong to. It does the work where others
    than root may change what a path leads to, or C(everywhere) for paths that the operator did not
    name.
    """

    user: str
    everywhere: bool = False


@dataclass(frozen=True)
class ManagedFile:
    """A file as it is, or as it is to be. C(content) is None where there is no file."""

    path: str
    content: str | None
    owner: str
    group: str
    mode: int


@dataclass(frozen=True)
class Owner:
    """Names of a user and a group."""

    user: str
    group: str


def owner_of(user: str) -> Owner:
    """An OS user and its own group; one that a package will make has a group of its own name."""
    entry = entry_of(user)
    return Owner(user, group_name(entry.pw_gid) if entry else user)


class Ground(enum.Enum):
    """Who can change what an entry of a directory is."""

    OURS = "root alone"
    SHARED = "a directory in which others may add entries but not replace root's"
    THEIRS = "others"


def ground_of(parent: Ground, uid: int, gid: int, mode: int) -> Ground:
    """Who can change what is at or below an entry of a directory, root being the owner it trusts.

    Args:
        parent: the same of the directory.
        uid: the entry's owner.
        gid: its group.
        mode: its type and mode, as lstat says them.
    """
    if parent is Ground.THEIRS:
        return Ground.THEIRS
    if not stat.S_ISDIR(mode):
        # In a shared directory, a file or link of root's may be another name of one elsewhere.
        ours = parent is Ground.OURS and (uid == 0 or not stat.S_ISLNK(mode))
        return Ground.OURS if ours else Ground.THEIRS
    if uid != 0:
        return Ground.THEIRS
    if not mode & stat.S_IWOTH and not (mode & stat.S_IWGRP and gid != 0):
        return Ground.OURS
    return Ground.SHARED if mode & stat.S_ISVTX else Ground.THEIRS


@dataclass(frozen=True)
class Walk:
    """How far root alone decides what a path leads to.

    C(path) is the path without the links on that way, and C(unsafe) the first entry that others
    may change, or the directory that they may add to; empty when there is none.
    """

    path: str
    unsafe: str


def walk(path: str) -> Walk:
    """Follow a path as far as root alone decides what it leads to.

    Raises:
        OSError: when that can't be found out.
    """
    place = [("", ground_of(Ground.OURS, *_owner_and_mode("/")))]
    todo = path.split("/")[::-1]
    links = 0
    while todo:
        name = todo.pop()
        directory, ground = place[-1]
        if name in ("", "."):
            continue
        if name == "..":
            place = place[:-1] or place
            continue
        here = f"{directory}/{name}"
        rest = "/".join([here, *todo[::-1]])
        try:
            found = _owner_and_mode(here)
        except (FileNotFoundError, NotADirectoryError):
            return Walk(rest, "" if ground is Ground.OURS else directory or "/")
        ground = ground_of(ground, *found)
        if ground is Ground.THEIRS:
            return Walk(rest, here)
        if stat.S_ISLNK(found[2]):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(f"{path} has too many symbolic links in it")
            target = os.readlink(here)
            place = place[:1] if target.startswith("/") else place
            todo += target.split("/")[::-1]
        else:
            place.append((here, ground))
    directory, ground = place[-1]
    return Walk(directory or "/", "" if ground is Ground.OURS else directory or "/")


def _owner_and_mode(path: str) -> tuple[int, int, int]:
    status = os.lstat(path)
    mode = status.st_mode
    if mode & stat.S_IWGRP and _has_acl(path):
        # The group's bits are then the most that anybody has whom the list names.
        mode |= stat.S_IWOTH
    return status.st_uid, status.st_gid, mode


def _has_acl(path: str) -> bool:
    try:
        return bool(os.getxattr(path, "system.posix_acl_access", follow_symlinks=False))
    except OSError:
        return False


@dataclass(frozen=True)
class _Place:
    """What a path leads to, and who works on it: None for this process as it is."""

    path: str
    user: pwd.struct_passwd | None


def _worker(path: str, rights: Rights) -> _Place:
    path = os.path.join(os.getcwd(), path)
    if os.geteuid() != 0:
        return _Place(path, None)
    unsafe = path
    if not rights.everywhere:
        way = walk(path)
        if not way.unsafe:
            return _Place(way.path, None)
        path, unsafe = way.path, way.unsafe
    user = entry_of(rights.user)
    if user is None or user.pw_uid == 0:
        what = "is root itself" if user else "does not exist"
        raise PermissionError(
            f"users other than root can change {unsafe}, so root does nothing there itself, and"
            f" the OS user {rights.user!r}, who would do it instead, {what}; name the OS user that"
            " the service runs as"
        )
    return _Place(path, user)


def service_user(directory: str, login_os_user: str) -> str:
    """Whom a server's files belong to, but never root: the owner of its directory.

    Args:
        directory: where the operator has its configuration.
        login_os_user: whom the operator logs in to the server as, and who is believed when others
            than a service of that directory could have made that owner up.
    """
    if os.geteuid() != 0:
        return user_name(os.geteuid())
    given = login_os_user if login_os_user not in ("", "root") else "postgres"
    try:
        unsafe = walk(directory).unsafe
        owners = [user_name(_owner_and_mode(path)[0]) for path in (directory, unsafe) if path]
    except OSError:
        return given
    return owners[0] if owners[0] in owners[1:] and owners[0] != "root" else given


@contextmanager
def reached(path: str, rights: Rights) -> Iterator[_Place]:
    """Work on what a path leads to, with the rights that it calls for.

    Raises:
        PermissionError: from inside, when the service's user may not do it, saying what is in the
            way.
    """
    worker = _worker(path, rights)
    try:
        with acting_as(worker.user):
            yield replace(worker, path=os.path.realpath(worker.path))
    except PermissionError as error:
        if worker.user is None:
            raise
        with acting_as(worker.user):
            raise PermissionError(_refusal(path, worker.user.pw_name)) from error


def _refusal(path: str, user: str) -> str:
    """Why a service's user may not do what is asked, and what to do about it."""
    parts = path.rstrip("/").split("/")
    links = [one for one in ("/".join(parts[:end]) for end in range(2, len(parts) + 1))
             if os.path.islink(one)]  # fmt: skip
    not_of_root = [one for one in links if os.lstat(one).st_uid != 0]
    if links:
        link = (not_of_root or links)[0]
        owner = user_name(os.lstat(link).st_uid)
        fact = f"{link} is a symbolic link of {owner} to {os.readlink(link)}"
        advice = (
            f"make it a real file or directory of {user} again, or if you keep it elsewhere on"
            f" purpose, give {user} the right to read it and to write to its directory"
        )
    else:
        fact, advice = _obstacle(path, user)
    return (
        f"{path} can't be read or changed as {user}: {fact}. Where users other than root decide"
        f" what a path leads to, only the rights of {user} are used on it. To go on, {advice}"
    )


def _obstacle(path: str, user: str) -> tuple[str, str]:
    place = path
    while True:
        try:
            status = os.lstat(place)
            break
        except OSError:
            place = os.path.dirname(place)
    names = (
        f" and has {status.st_nlink} names (hard links)"
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1
        else ""
    )
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    fact = f"{place} belongs to {user_name(status.st_uid)} with mode {mode}"
    if names:
        return fact + names, "find out where it comes from, and remove this link to it"
    return fact, f"find out what it is, and if it is as intended, give {user} the right to it"


def check_changeable(path: str, rights: Rights) -> None:
    """Check that a file can be replaced, or made, with the rights that its path calls for.

    Raises:
        PermissionError: when not.
    """
    with reached(path, rights) as place:
        directory = os.path.dirname(place.path)
        while not os.path.lexists(directory):
            directory = os.path.dirname(directory)
        if place.user and not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(directory)


def check_only_ours(variable: str, path: str) -> None:
    """Check that nobody but root can change what is at a path, because it runs with root's rights.

    Raises:
        ValueError: when others can.
    """
    unsafe = walk(path).unsafe if os.geteuid() == 0 else ""
    if unsafe:
        raise ValueError(
            f"{variable}: users other than root can change {unsafe}, and what is in {path} runs"
            " with root's rights; give a directory that belongs to root and that nobody else may"
            " write to; the same holds for all directories above it"
        )


def worker_of(path: str, rights: Rights) -> str:
    """Name of the OS user that works on a path; empty for this process as it is."""
    user = _worker(path, rights).user
    return user.pw_name if user else ""


def exists(path: str, rights: Rights) -> bool:
    """Whether there is something at a path."""
    with reached(path, rights) as place:
        return os.path.exists(place.path)


def names_in(path: str, rights: Rights) -> list[str]:
    """Names in a directory; none when there is no such directory."""
    with reached(path, rights) as place:
        try:
            return os.listdir(place.path)
        except (FileNotFoundError, NotADirectoryError):
            return []


def size_of(path: str, rights: Rights) -> int:
    """Size of a file; 0 when there is none."""
    with reached(path, rights) as place:
        try:
            return os.stat(place.path).st_size
        except FileNotFoundError:
            return 0


def written_at(path: str, rights: Rights) -> float:
    """When a file was last written, in seconds since 1970; 0 when there is none."""
    with reached(path, rights) as place:
        try:
            return os.stat(place.path).st_mtime
        except FileNotFoundError:
            return 0.0


def read_bytes(path: str, rights: Rights, offset: int = 0) -> bytes:
    """What a file has from there on.

    Raises:
        OSError: when it can't be read.
    """
    with reached(path, rights) as place:
        descriptor = _opened(place)
    with open(descriptor, "rb") as handle:
        handle.seek(offset)
        return handle.read()


def read_text(path: str, rights: Rights, errors: str = "replace") -> str:
    """A file's text.

    Raises:
        OSError: when it can't be read.
    """
    return read_bytes(path, rights).decode("utf-8", errors)


def read_file(path: str, rights: Rights) -> ManagedFile:
    """The file as it is on disk.

    Raises:
        OSError: when it exists and can't be read.
        ValueError: when it is not UTF-8 text.
    """
    try:
        with reached(path, rights) as place:
            descriptor = _opened(place)
    except FileNotFoundError:
        return ManagedFile(path, None, "", "", 0)
    with open(descriptor, "rb") as handle:
        raw = handle.read()
        status = os.fstat(handle.fileno())
    try:
        content = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    return ManagedFile(
        path,
        content,
        user_name(status.st_uid),
        group_name(status.st_gid),
        stat.S_IMODE(status.st_mode),
    )


def _opened(place: _Place) -> int:
    """Open a regular file for reading; what its own user has locked itself out of, too."""
    try:
        descriptor = os.open(place.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except PermissionError:
        if place.user is None:
            raise
        descriptor = _opened_as_owner(place.path, place.user)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{place.path} is not a regular file")
    return descriptor


def _opened_as_owner(path: str, user: pwd.struct_passwd) -> int:
    """Open a file that its owner may not read: the owner could give itself that right.

    Raises:
        PermissionError: when it is somebody else's.
    """
    parent = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    found = -1
    try:
        found = os.open(
            os.path.basename(path), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent
        )
        status = os.fstat(found)
        if status.st_uid != user.pw_uid or not stat.S_ISREG(status.st_mode):
            raise PermissionError(path)
        os.seteuid(0)
        try:
            return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.seteuid(user.pw_uid)
    finally:
        os.close(parent)
        if found >= 0:
            os.close(found)


def write_file(wanted: ManagedFile, rights: Rights) -> None:
    """Make the disk hold the wanted file, in one step: readers see the old or the new, whole.

    The bytes reach the disk before the name does, so that a crash leaves one of the two. A file
    that the service's user writes belongs to that user, and to the wanted group if the user is in
    it.
    """
    with reached(wanted.path, rights) as place:
        directory = os.path.dirname(place.path)
        if wanted.content is None:
            if _unlink(place.path):
                _sync_directory(directory)
            return
        temporary = _temporary(place.path)
        _unlink(temporary)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            try:
                _write(descriptor, wanted.content.encode("utf-8"))
                if place.user is None:
                    os.fchown(descriptor, _uid(wanted.owner), _gid(wanted.group))
                elif _gid(wanted.group) in {os.getegid(), *os.getgroups()}:
                    os.fchown(descriptor, -1, _gid(wanted.group))
                os.fchmod(descriptor, wanted.mode)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(temporary, place.path)
        except BaseException:
            _unlink(temporary)
            raise
        _sync_directory(directory)


def remove(path: str, rights: Rights) -> None:
    """Remove a file, if it is there."""
    with reached(path, rights) as place:
        _unlink(place.path)


def make_directory_of(path: str, rights: Rights) -> None:
    """Make the directory that a file is to be in, if it is not there."""
    with reached(os.path.dirname(path), rights) as place:
        os.makedirs(place.path, mode=0o755, exist_ok=True)


def differs(actual: ManagedFile, wanted: ManagedFile) -> bool:
    """Whether the file on disk is not the wanted one, in content, owner, group or mode."""
    if wanted.content is None:
        return actual.content is not None
    return actual != wanted


class Backup:
    """The file that a server last ran with, kept beside the new one until that is confirmed.

    It outlives a run that is killed: the next one can go back to it. Going back needs no space on
    the disk.
    """

    def __init__(self, before: ManagedFile, rights: Rights) -> None:
        self._before = before
        self._rights = rights
        with reached(before.path, rights) as place:
            self._real = place.path
        if place.user:
            # A link that others made may lead to where only root may write: not with root's rights.
            rights = self._rights = replace(rights, everywhere=True)
        directory, name = os.path.split(self._real)
        self._path = os.path.join(directory, f".{name}.last-good")
        self._kept = read_file(self._path, rights)

    @property
    def path(self) -> str:
        """Path of the managed file."""
        return self._before.path

    @property
    def exists(self) -> bool:
        """Whether a file is kept, by this run or by one before it."""
        return self._kept.content is not None

    @property
    def good(self) -> ManagedFile:
        """The file that the server last ran with, at the path of the managed one."""
        kept = self._kept if self.exists else self._before
        content = None if kept.content == _NOTHING else kept.content
        return replace(kept, path=self._before.path, content=content)

    @property
    def content(self) -> str:
        """Text of the kept file, or else of the managed one; empty where there was none."""
        return self.good.content or ""

    def keep(self) -> None:
        """Keep the file as it is, unless a run that was killed has kept an earlier one."""
        if self.exists:
            return
        kept = replace(self._before, path=self._path)
        if kept.content is None:
            kept = ManagedFile(self._path, _NOTHING, str(os.geteuid()), str(os.getegid()), 0o600)
        write_file(kept, self._rights)
        self._kept = kept

    def keep_instead(self, good: ManagedFile) -> None:
        """Keep this one, with which the server is known to run, if the disk has room for it."""
        good = replace(good, path=self._path)
        if differs(self._kept, good):
            with suppress(OSError):
                write_file(good, self._rights)
                self._kept = good

    def restore(self) -> bool:
        """Make the last good file the managed one again.

        Returns:
            Whether the managed file was another one.
        """
        # As it is on disk: keeping it may have failed half-way.
        self._kept = read_file(self._path, self._rights)
        if not self.exists:
            self.discard()
            return False
        good = replace(self._kept, path=self._real)
        if good.content == _NOTHING:
            good = replace(good, content=None)
        try:
            back = differs(read_file(self._real, self._rights), good)
        except PermissionError:
            # Whatever it is, going back takes the right to its directory alone.
            back = True
        with reached(self._real, self._rights):
            if back and good.content is not None:
                os.rename(self._path, self._real)
            elif back:
                _unlink(self._real)
        self.discard()
        return back

    def discard(self) -> None:
        """Take the managed file for good, and remove what runs that were killed have left."""
        with reached(self._real, self._rights):
            for path in (self._path, _temporary(self._path), _temporary(self._real)):
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


def placed(text: str) -> dict[str, str]:
    """What M(pooled.postgres.host_resources_info) says of a file of root's with this text."""
    checksum = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324 - what Ansible compares files by
    return {"checksum": checksum, "owner": "root", "group": "root", "mode": "0644"}


def user_name(uid: int) -> str:
    """Name of an OS user; its number when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Name of a group; its number when it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
