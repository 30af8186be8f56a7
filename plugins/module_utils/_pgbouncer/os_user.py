# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OS user that PgBouncer runs as.

Debian's package runs it as C(postgres), whom the server lets in as the superuser.
"""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import re
import stat
from typing import Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._host import (
    files,
    identity,
)
from ansible_collections.pooled.postgres.plugins.module_utils._host.process import RunCommand

AUTO = "auto"
OWN = "pgbouncer"
PACKAGED = "postgres"

_NOBODY = 65534
_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")

# Where Debian's package keeps the rest, and where everybody looks for the unix socket.
LAYOUT: dict[str, str] = {
    "logfile": "/var/log/postgresql/pgbouncer.log",
    "pidfile": "/var/run/postgresql/pgbouncer.pid",
    "unix_socket_dir": "/var/run/postgresql",
}


def layout(os_user: str, service: str = "pgbouncer") -> dict[str, str]:
    """Where the rest is kept for an OS user: the package's directories belong to postgres."""
    if os_user == PACKAGED:
        return LAYOUT
    return {
        "logfile": f"{log_directory(service)}/pgbouncer.log",
        "pidfile": f"{runtime_directory(service)}/pgbouncer.pid",
        "unix_socket_dir": runtime_directory(service),
    }


def log_directory(service: str) -> str:
    """The service's own directory of logs, which systemd makes as its C(LogsDirectory)."""
    return f"/var/log/{service}"


def runtime_directory(service: str) -> str:
    """The service's own directory of sockets, which systemd makes as its C(RuntimeDirectory)."""
    return f"/run/{service}"


def checked(user: str, where: str = "os_user") -> str:
    """The user as it was asked for.

    Args:
        user: a name, or AUTO.
        where: the variable, for error messages.

    Raises:
        ValueError: naming the variable, its value and what is allowed.
    """
    if user == "root":
        raise ValueError(
            f"{where}: 'root' is not allowed, because PgBouncer refuses to run as root; leave it"
            f" out, or give {OWN!r}"
        )
    if not _NAME.match(user):
        raise ValueError(
            f"{where}: {user!r} is not a valid name of an OS user; give lower-case letters from a"
            f" to z, digits, _ and -, such as {OWN!r}, or {AUTO!r}"
        )
    return user


def chosen(asked: str, *, installed: bool, as_packaged: bool, unit_user: str) -> str:
    """The user that PgBouncer is to run as.

    One that is in use keeps its user by default: changing it takes a restart.

    Args:
        asked: a name, or AUTO.
        installed: whether PgBouncer is installed.
        as_packaged: whether its package's configuration is still in place.
        unit_user: the user that its unit says; empty where it says none.
    """
    if asked != AUTO:
        return asked
    if not installed or as_packaged:
        return OWN
    return unit_user or PACKAGED


def unit_user(texts: Iterable[str]) -> str:
    """The user that the files of a unit say, in the order in which systemd reads them."""
    user = ""
    for text in texts:
        for value in re.findall(r"^[ \t]*User[ \t]*=(.*)$", text, re.MULTILINE):
            user = value.strip()
    return user


def possible(asked: str) -> tuple[str, ...]:
    """The users whom a PgBouncer on this host may belong to."""
    return (OWN, PACKAGED) if asked == AUTO else (asked,)


def of_socket(asked: str, directory: str, port: int) -> str:
    """The user whom PgBouncer behind a unix socket lets in: its own, who made the socket.

    A link of root's in its place, such as the one of our unit, is followed; one of somebody else
    would say for itself whose socket is behind it.

    Args:
        asked: a name, or AUTO.
        directory: where the socket is.
        port: the port in its name.
    """
    if asked != AUTO:
        return asked
    try:
        path = os.path.join(directory, f".s.PGSQL.{port}")
        status = os.lstat(path)
        is_roots_link = stat.S_ISLNK(status.st_mode) and status.st_uid == 0
        owner = os.stat(path).st_uid if is_roots_link else status.st_uid
        return pwd.getpwuid(owner).pw_name if owner else PACKAGED
    except (OSError, KeyError):
        return PACKAGED


def is_superuser_unasked(asked: str, user: str) -> bool:
    """Whether it is the superuser's OS user, and nobody has said so."""
    return asked == AUTO and user == PACKAGED


def check_options(options: Mapping[str, str], user: str) -> None:
    """Check that no option makes PgBouncer become somebody else.

    Raises:
        ValueError: naming the option.
    """
    if options.get("user", user) != user:
        raise ValueError(
            f"options.user: {options['user']!r} is not the OS user that the service runs as, which"
            f" is {user!r}; leave it out, and say it in pgbouncer_os_user"
        )


def check_places(run: RunCommand, options: Mapping[str, str], user: str, service: str) -> None:
    """Check that the user can write where options say, other than in its usual directories.

    Raises:
        ValueError: naming the option and the directory.
    """
    usual = layout(user, service)
    for name in ("unix_socket_dir", "pidfile", "logfile"):
        path = options.get(name, "")
        if not path or path == usual[name]:
            continue
        directory = path if name == "unix_socket_dir" else os.path.dirname(path)
        if may(run, user, "-w", directory) or (name == "logfile" and may(run, user, "-w", path)):
            continue
        if may(run, user, "-d", directory):
            raise ValueError(
                f"{name}: {directory} can't be written by {user}, as whom PgBouncer runs; leave it"
                f" out for {usual[name]}, or give that user the right to write there"
            )


def exists(user: str) -> bool:
    """Whether there is such a user."""
    return identity.entry_of(user) is not None


def may(run: RunCommand, user: str, how: str, path: str) -> bool:
    """Whether a user may do something with a path; one that does not exist yet is like any other.

    Args:
        run: runs a command; returns its exit code, output and errors.
        user: name of the user.
        how: what is asked of C(test), such as C(-r).
        path: a file or directory.
    """
    entry = identity.entry_of(user)
    words = identity.words_before(entry)
    if entry is None and os.geteuid() == 0:
        words = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    rc, _out, _err = run([*words, "test", how, path])
    return rc == 0


def command_to_create(user: str) -> list[str]:
    """What creates it: a system user with a group of its own, who can't log in."""
    try:
        grp.getgrnam(user)
        group = ["--gid", user]
    except KeyError:
        group = ["--user-group"]
    return [
        *("useradd", "--system", *group, "--no-create-home", "--home-dir", "/nonexistent"),
        *("--shell", "/usr/sbin/nologin", "--comment", "PgBouncer", "--", user),
    ]


def is_package_file(run: RunCommand, path: str) -> bool:
    """Whether a configuration file is still as its package has installed it."""
    rc, out, _err = run(["dpkg-query", "-W", "-f", "${Conffiles}\n", "pgbouncer"])
    if rc != 0:
        return False
    try:
        content = files.read_bytes(path, files.Rights(PACKAGED))
    except OSError:
        return False
    digest = hashlib.md5(content).hexdigest()  # noqa: S324 - dpkg's own choice
    return [path, digest] in [line.split()[:2] for line in out.splitlines()]
