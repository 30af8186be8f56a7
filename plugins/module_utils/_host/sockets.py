# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets that processes of this host listen on, and addresses that one could listen on."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import sys
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, Container

from ansible_collections.pooled.postgres.plugins.module_utils._host.identity import (
    acting_as,
    entry_of,
)

_LISTENS = 0x10000  # among the flags of a unix socket
_NAME = re.compile(r"/\.s\.PGSQL\.[0-9]{1,5}\Z")


def postgres_sockets(pid: int, os_user: str) -> list[tuple[str, int]]:
    """Directory and port of each unix socket of Postgres's protocol that a process listens on."""
    held = _sockets(pid, os_user)
    paths: dict[str, list[str]] = {}
    for inode, path in _listening_unix_sockets():
        if inode in held and _NAME.search(path):
            paths.setdefault(inode, []).append(path)
    found = []
    for named in paths.values():
        # A socket has one path. The table has names as they are, so that anybody can put a row into
        # it, by a name with a line break.
        genuine = named if len(named) == 1 else [one for one in named if _is_of(one, os_user)]
        for path in genuine:
            directory, _slash, name = path.rpartition("/")
            found.append((directory, int(name.rsplit(".", 1)[1])))
    return found


def listening_unix_sockets() -> list[str]:
    """Paths of the unix sockets that processes of this host listen on."""
    return [path for _inode, path in _listening_unix_sockets()]


def tcp_sockets(pid: int, os_user: str) -> set[tuple[str, int]]:
    """Address and port of each TCP socket that a process listens on."""
    held = _sockets(pid, os_user)
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for row in map(str.split, _proc_net(table)):
            if row[3] == "0A" and row[9] in held:
                address, port = row[1].split(":")
                found.add((socket.inet_ntop(family, _network_order(address)), int(port, 16)))
    return found


def why_not_listen(listen_addr: str, port: int, ours: Container[int] = ()) -> str:
    """Why a program would not get an address to listen on; empty when it would get all.

    Of a name, or C(*), one address is enough: PgBouncer goes on without the others.

    Args:
        listen_addr: addresses and names with commas between them.
        port: where on each of them.
        ours: ports where the program itself listens, which it leaves before it listens anew.
    """
    for wanted in filter(None, (part.strip() for part in listen_addr.split(","))):
        try:
            found = socket.getaddrinfo(
                None if wanted == "*" else wanted,
                port,
                type=socket.SOCK_STREAM,
                flags=socket.AI_PASSIVE,
            )
        except (socket.gaierror, UnicodeError):
            return f"{wanted}: it is neither an address nor a name that this host knows"
        errors = [_bind_error(family, address) for family, _type, _proto, _name, address in found]
        if all(errors) and not (port in ours and errno.EADDRINUSE in errors):
            reason = {
                errno.EADDRINUSE: "another program listens there; ss -ltnp shows which",
                errno.EADDRNOTAVAIL: "this host does not have the address",
            }.get(errors[0], os.strerror(errors[0]))
            return f"{wanted} port {port}: {reason}"
    return ""


def _bind_error(family: int, address: Any) -> int:
    """Number of the error when a socket is bound to an address; 0 for none."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def _listening_unix_sockets() -> list[tuple[str, str]]:
    """Inode and path of each unix socket with a path that a process listens on."""
    rows = [line.split(None, 7) for line in _proc_net("unix")]
    listening = (row for row in rows if len(row) > 7 and _number(row[3]) & _LISTENS)
    return list(dict.fromkeys((row[6], row[7]) for row in listening))


def _number(hexadecimal: str) -> int:
    """A number of a table; 0 for what is none, as in a row that somebody's name has made."""
    try:
        return int(hexadecimal, 16)
    except ValueError:
        return 0


def _is_of(path: str, os_user: str) -> bool:
    """Whether there is a socket that nobody but an OS user or root can have made or replaced."""
    entry = entry_of(os_user)
    owners = {0, os.geteuid() if entry is None else entry.pw_uid}
    try:
        above = [os.lstat(one) for one in PurePosixPath(path).parents]
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and all(one.st_uid in owners for one in (found, *above))


def _sockets(pid: int, os_user: str) -> set[str]:
    """Inodes of the sockets that a process has open."""
    names = set()
    try:
        # In a container root may lack the right to look into other users' processes.
        with acting_as(entry_of(os_user)):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                # A busy process closes some between the listing and this.
                with suppress(FileNotFoundError):
                    names.add(os.readlink(entry.path))
    except OSError:
        return set()
    return {name[len("socket:[") : -1] for name in names if name.startswith("socket:[")}


def _proc_net(name: str) -> list[str]:
    """The rows of a table in /proc/net.

    The kernel gives them out page by page, and leaves some out when others go in between: what
    either of two readings shows is there.
    """
    rows: dict[str, None] = {}
    for _reading in range(2):
        try:
            with open(f"/proc/net/{name}", encoding="utf-8", errors="replace") as handle:
                rows.update(dict.fromkeys(handle.read().splitlines()[1:]))
        except FileNotFoundError:  # no IPv6
            return []
    return list(rows)


def _network_order(address: str) -> bytes:
    """An address out of /proc/net: words of four bytes in the host's order."""
    words = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
    return b"".join(word.to_bytes(4, sys.byteorder) for word in words)
