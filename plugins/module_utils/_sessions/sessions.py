# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions of a server: which ones are meant, who waits for whom, what of a query is shown."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import check_name
from ansible_collections.pooled.postgres.plugins.module_utils._text import printable

# What people ask for, as states of the server. An open transaction that has failed is open too.
STATES: dict[str, tuple[str, ...]] = {
    "active": ("active", "fastpath function call"),
    "idle": ("idle",),
    "idle_in_transaction": ("idle in transaction", "idle in transaction (aborted)"),
    "idle_in_transaction_aborted": ("idle in transaction (aborted)",),
}
RUNNING = STATES["active"]
OPEN_AND_IDLE = STATES["idle_in_transaction"]
MODES = ("terminate", "cancel")
CLIENT = "client backend"
# The pid that Postgres gives for a lock of a prepared transaction, which no session holds.
PREPARED = 0

_UNITS_S = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)\s*\Z")
# Words beside which a statement may hold a secret, and a URI with a password.
_SECRET = re.compile(
    r"(pass(?:word|phrase|wd)|secret|token|credential)|scram-sha-256\$|\bmd5[0-9a-f]{32}"
    r"|://[^\s/@]*:[^\s@]*@",
    re.I,
)
_FIRST_WORD = re.compile(r"\s*([A-Za-z]+)\b")
_CUT = "…"


@dataclass(frozen=True)
class Session:
    """A process of the server. C(seen) is whether the login may see what it does."""

    pid: int
    started: str
    database: str
    role: str
    application: str
    address: str
    state: str
    kind: str
    leader: int | None
    wait: str
    seconds: float  # since the statement began when it runs, else since the state began
    statement: str  # when the last statement began, as the server writes it
    transaction_s: float | None
    query: str
    seen: bool = True

    @property
    def client(self) -> bool:
        """Whether a client is behind it, as far as one may see."""
        return self.kind == CLIENT or (not self.seen and bool(self.role and self.database))


@dataclass(frozen=True)
class Wait:
    """A lock that a process waits for, and the processes before it.

    C(relation) is the oid of the table or index that it is on, if any, in a database.
    """

    pid: int
    blockers: tuple[int, ...]
    lock: str
    seconds: float | None
    database: str = ""
    relation: int = 0

    def named(self, relation: str) -> Wait:
        """The same with the relation's name."""
        lock = f"{self.lock} of {relation}"
        return replace(self, lock=lock.replace(" on relation of ", " on "))


@dataclass(frozen=True)
class Node:
    """A process in the tree of those that wait. C(depth) is 0 for one that waits for nobody."""

    pid: int
    depth: int
    blocked_by: tuple[int, ...]
    blocks: int  # below it in the tree
    lock: str = ""
    waiting_s: float | None = None


@dataclass(frozen=True)
class Wanted:
    """Which sessions are to be ended, and how."""

    roles: tuple[str, ...]
    databases: tuple[str, ...]
    applications: tuple[str, ...]
    states: tuple[str, ...]  # the server's
    older_than_s: float
    mode: str
    timeout_s: float


def duration_s(where: str, text: str) -> float:
    """A length of time such as C(10min), in seconds.

    Raises:
        ValueError: when it is none.
    """
    match = _DURATION.match(text)
    if not match:
        raise ValueError(
            f"{where}: {text!r} is not a valid duration; give a number with one of"
            f" {', '.join(_UNITS_S)}, such as 10min"
        )
    return float(match.group(1)) * _UNITS_S[match.group(2)]


def parse_wanted(
    roles: Sequence[str],
    databases: Sequence[str],
    applications: Sequence[str],
    states: Sequence[str],
    older_than: str,
    mode: str,
    timeout: str,
) -> Wanted:
    """What is asked for.

    Raises:
        ValueError: when that names nobody, or can't be done.
    """
    if not roles:
        raise ValueError(
            "roles: the list is empty, and only sessions of listed roles are ended; list the"
            " roles of the application"
        )
    if not states:
        raise ValueError(f"states: the list is empty; choose from {', '.join(STATES)}")
    for state in states:
        if state not in STATES:
            raise ValueError(
                f"states: {state!r} is not a valid state of a session; choose from"
                f" {', '.join(STATES)}"
            )
    useless = [state for state in states if state != "active"]
    if mode == "cancel" and useless:
        raise ValueError(
            f"mode: cancel ends running statements, and {useless[0]} has none; take it out of"
            " states, or use mode=terminate"
        )
    for where, names, what in (("roles", roles, "role"), ("databases", databases, "database")):
        for number, name in enumerate(names):
            check_name(f"{where}[{number}]", name, what)
    return Wanted(
        tuple(roles),
        tuple(databases),
        tuple(applications),
        tuple(sorted({one for state in states for one in STATES[state]})),
        duration_s("older_than", older_than),
        mode,
        duration_s("timeout", timeout),
    )


def matches(session: Session, wanted: Wanted) -> bool:
    """Whether a session is one of those that are meant; the server is asked the same again."""
    return (
        session.kind == CLIENT
        and session.role in wanted.roles
        and (not wanted.databases or session.database in wanted.databases)
        and (not wanted.applications or session.application in wanted.applications)
        and session.state in wanted.states
        and session.seconds >= wanted.older_than_s
    )


def hidden_from(session: Session, wanted: Wanted) -> bool:
    """Whether it may be one of those that are meant, but its state can't be seen."""
    return (
        not session.seen
        and session.client
        and session.role in wanted.roles
        and (not wanted.databases or session.database in wanted.databases)
        and (not wanted.applications or session.application in wanted.applications)
    )


def shown_query(query: str, length: int) -> str:
    """A query for people: in one line, of bounded length, and not at all if it may hold secrets."""
    text = " ".join(query.split())
    found = _SECRET.search(text)
    if found:
        word = _FIRST_WORD.match(text)
        start = f"{word.group(1).upper()} " if word else ""
        what = f"mentions {found.group(1).lower()!r}" if found.group(1) else "holds a password"
        return f"{start}(not shown: it {what})"
    return shortened(printable(text), length)


def shortened(text: str, length: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= length else text[: max(length - 1, 0)] + _CUT


def check_query_length(show: bool, length: int) -> int:
    """How many characters of a query are shown; 0 for none at all.

    Raises:
        ValueError: when the length is none.
    """
    if length < 1:
        raise ValueError(
            f"query_length: {length} is not a valid length; give at least 1, or show_queries=false"
            " to leave queries out"
        )
    return length if show else 0


def session_row(session: Session, query_length: int) -> dict[str, Any]:
    """A session as results have it; without its query when that has no length."""
    transaction_s = session.transaction_s
    return {
        "pid": session.pid,
        "database": session.database,
        "role": session.role,
        "application": session.application,
        "client_address": session.address,
        "state": session.state,
        "seconds": round(session.seconds, 1),
        "transaction_seconds": None if transaction_s is None else round(transaction_s, 1),
        "wait": session.wait,
        "query": shown_query(session.query, query_length) if query_length else None,
    }


def counts(sessions: Iterable[Session]) -> list[dict[str, Any]]:
    """Numbers of client sessions, the most first."""
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for one in sessions:
        if one.client:
            key = (one.database, one.role, one.application, one.state if one.seen else "not shown")
            found.setdefault(key, []).append(one.seconds)
    names = ("database", "role", "application", "state")
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        {**dict(zip(names, key)), "count": len(ages), "longest_seconds": round(max(ages), 1)}
        for key, ages in ordered
    ]


def blocking_tree(waits: Sequence[Wait], leaders: Mapping[int, int]) -> list[Node]:
    """Who waits for whom: each process is followed by those that wait for it, one deeper.

    A process that waits for several is below the one that is nearest to a root.

    Args:
        waits: the locks that are waited for.
        leaders: of parallel workers, the process that they work for.
    """
    waiting: dict[int, Wait] = {}
    for one in waits:
        pid = leaders.get(one.pid, one.pid)
        before = waiting.get(pid)
        blockers = {leaders.get(other, other) for other in one.blockers} - {pid}
        if before:
            blockers |= set(before.blockers)
        longer = before if before and (before.seconds or 0) >= (one.seconds or 0) else one
        waiting[pid] = Wait(pid, tuple(sorted(blockers)), longer.lock, longer.seconds)
    waiting = {pid: one for pid, one in waiting.items() if one.blockers}
    children: dict[int, list[int]] = {}
    for pid, one in waiting.items():
        for blocker in one.blockers:
            children.setdefault(blocker, []).append(pid)
    # In a deadlock that the server has not resolved yet, everybody waits.
    roots = sorted(set(children) - set(waiting))
    parents: dict[int, int | None] = dict.fromkeys(roots)
    _grow(parents, children)
    for pid in sorted(waiting):
        if pid not in parents:
            parents[pid] = None
            _grow(parents, children, [pid])
    below: dict[int | None, list[int]] = {}
    for pid, parent in parents.items():
        below.setdefault(parent, []).append(pid)
    return _in_order(below, waiting)


def _grow(
    parents: dict[int, int | None],
    children: Mapping[int, Sequence[int]],
    start: Iterable[int] | None = None,
) -> None:
    """Give everybody who is reached from the start a parent, the nearest first."""
    queue = deque(parents if start is None else start)
    while queue:
        pid = queue.popleft()
        for child in sorted(children.get(pid, ())):
            if child not in parents:
                parents[child] = pid
                queue.append(child)


def _in_order(below: Mapping[int | None, Sequence[int]], waiting: Mapping[int, Wait]) -> list[Node]:
    """The tree's nodes, those that most others wait for first, then by how long they wait."""
    order: list[tuple[int, int]] = []
    stack = [(pid, 0) for pid in below.get(None, ())]
    while stack:
        pid, depth = stack.pop()
        order.append((pid, depth))
        stack.extend((child, depth + 1) for child in below.get(pid, ()))
    sizes: dict[int, int] = {}
    for pid, _depth in reversed(order):  # a child comes after its parent
        sizes[pid] = sum(1 + sizes[child] for child in below.get(pid, ()))

    def first(pid: int) -> tuple[float, ...]:
        seconds = waiting[pid].seconds if pid in waiting else None
        return (-sizes[pid], -(seconds or 0), pid)

    nodes = []
    stack = [(pid, 0) for pid in sorted(below.get(None, ()), key=first, reverse=True)]
    while stack:
        pid, depth = stack.pop()
        one = waiting.get(pid)
        if one:
            nodes.append(Node(pid, depth, one.blockers, sizes[pid], one.lock, one.seconds))
        else:
            nodes.append(Node(pid, depth, (), sizes[pid]))
        children = sorted(below.get(pid, ()), key=first, reverse=True)
        stack.extend((child, depth + 1) for child in children)
    return nodes
