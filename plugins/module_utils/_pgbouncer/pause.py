# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which databases of a PgBouncer wait while their server restarts, and what is said about it."""

from __future__ import annotations

import collections
import ipaddress
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping, Sequence

# PgBouncer's console is among its databases.
_CONSOLE = "pgbouncer"
# What PgBouncer answers when somebody has said PAUSE without a name: clients wait anyway.
ALL_PAUSED = "already suspended/paused"


@dataclass(frozen=True)
class Server:
    """Where a server listens.

    Attributes:
        directories: of its unix sockets, without links.
        port: of all its sockets.
        has_address: whether an address, such as C(10.0.0.7), is one of the server's host.
    """

    directories: frozenset[str]
    port: int
    has_address: Callable[[str], bool]


@dataclass(frozen=True)
class Names:
    """How names are looked up: paths without links, and the addresses of a host."""

    real_path: Callable[[str], str]
    addresses: Callable[[str], Iterable[str]]


def check_timeout(seconds: int, where: str = "pause_timeout") -> int:
    """How long pools may take to pause.

    Raises:
        ValueError: when it is negative.
    """
    if seconds < 0:
        raise ValueError(
            f"{where}: {seconds} is not a valid number of seconds; give 0 to leave the pools alone,"
            " or how long to wait for open transactions"
        )
    return seconds


def databases_of(
    rows: Iterable[Mapping[str, Any]], server: Server, names: Names, own_directory: str
) -> list[str]:
    """The entries of [databases] that lead to a server, without those that are paused already.

    Args:
        rows: of the console's SHOW DATABASES.
        server: the server.
        names: how names are looked up.
        own_directory: where PgBouncer looks for the socket of an entry without a host.
    """
    return sorted(
        str(row["name"])
        for row in rows
        if row["name"] != _CONSOLE
        and not int(row["paused"])
        and int(row["port"]) == server.port
        and any(
            _leads_to(host.strip(), server, names)
            for host in str(row["host"] or own_directory).split(",")
        )
    )


def _leads_to(host: str, server: Server, names: Names) -> bool:
    if host.startswith("/"):
        return names.real_path(host) in server.directories
    return any(server.has_address(address) for address in names.addresses(host))


def quoted(name: str) -> str:
    """A name for a command of the console."""
    return '"' + name.replace('"', '""') + '"'


def drained(rows: Iterable[Mapping[str, Any]], among: Iterable[str]) -> bool:
    """Whether these databases have no connection to their server any more."""
    wanted = set(among)
    return not any(int(row["current_connections"]) for row in rows if row["name"] in wanted)


def paused(rows: Iterable[Mapping[str, Any]], among: Iterable[str]) -> list[str]:
    """Those of these databases that are paused."""
    wanted = set(among)
    return [str(row["name"]) for row in rows if row["name"] in wanted and int(row["paused"])]


def holders(clients: Iterable[Mapping[str, Any]], among: Iterable[str]) -> list[str]:
    """Who holds a connection to the server in these databases, as text, such as C(2 of app_user).

    Args:
        clients: rows of the console's SHOW CLIENTS.
        among: the databases.
    """
    wanted = set(among)
    counts = collections.Counter(
        (str(row["database"]), str(row["user"]))
        for row in clients
        if row["database"] in wanted and row["link"]
    )
    return [f"{count} of {user} in {name}" for (name, user), count in sorted(counts.items())]


def action(verb: str, unit: str, databases: Sequence[str]) -> str:
    """A line for the plan."""
    return f"{verb} {', '.join(databases)} of {unit}"


def held_up(unit: str, who: Sequence[str], timeout_s: int) -> str:
    """A warning about clients that did not finish in time."""
    return (
        f"{unit}: after {timeout_s} s (pause_timeout) transactions were still open,"
        f" {'; '.join(who)}; the restart cuts these, and all other clients wait"
    )


def not_paused(unit: str, reason: str) -> str:
    """A warning about a PgBouncer whose clients do not wait."""
    return f"{unit}: its clients do not wait while the server restarts: {' '.join(reason.split())}"


def not_resumed(unit: str, databases: Sequence[str]) -> str:
    """A warning about pools that stay paused."""
    commands = " ".join(f"RESUME {quoted(name)};" for name in databases)
    return (
        f"{unit}: its console has not taken it yet that clients go on; this is tried again for some"
        f" minutes. To do it by hand: {commands}"
    )


def own_addresses(fib_trie: str, if_inet6: str) -> list[str]:
    """A host's addresses without those of its loopback.

    Args:
        fib_trie: text of C(/proc/net/fib_trie).
        if_inet6: text of C(/proc/net/if_inet6).
    """
    found: dict[str, None] = {}
    address = ""
    for line in fib_trie.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            address = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"] and not address.startswith("127."):
            found[address] = None
    for line in if_inet6.splitlines():
        digits = line.split()[0]
        if len(digits) == 32 and int(digits, 16) != 1:
            found[str(ipaddress.IPv6Address(bytes.fromhex(digits)))] = None
    return list(found)
