# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions as tables for a terminal."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._sessions.sessions import (
    PREPARED,
    shortened,
)
from ansible_collections.pooled.postgres.plugins.module_utils._text import printable

_MOST_ROWS = 20
_MOST_WORD = 30
_MOST_QUERY = 80
_WHO = ("database", "role", "application")


def duration_text(seconds: float | None) -> str:
    """A length of time, to two units; empty when it is not known."""
    if seconds is None:
        return ""
    whole = max(int(seconds), 0)
    for size, unit, part, part_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {part_unit}" if rest else "")
    return f"{whole} s"


def number_of(count: int, what: str) -> str:
    """A number and its noun."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Rows below their head, in columns; numbers to the right, and no column without a word."""
    shown = rows[:_MOST_ROWS]
    used = [place for place in range(len(head)) if any(str(row[place]) for row in shown)]
    head = [head[place] for place in used]
    shown = [[row[place] for place in used] for row in shown]
    right = [all(isinstance(row[place], int) for row in shown) for place in range(len(head))]
    cells = [list(head)] + [[str(cell) for cell in row] for row in shown]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [
        "  "
        + "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right)
        ).rstrip()
        for row in cells
    ]
    if len(rows) > _MOST_ROWS:
        lines.append(f"  and {len(rows) - _MOST_ROWS} more")
    return lines


def info_lines(result: Mapping[str, Any], idle_age: str, query_age: str) -> list[str]:
    """What postgres_sessions_info found, for people.

    Args:
        result: what it returns.
        idle_age: from when on an idle transaction is long, in the user's words.
        query_age: the same for a query.
    """
    lines: list[str] = []
    if result["sessions"] is not None:
        lines += _server_lines(result, idle_age, query_age)
    if result["pools"] is not None:
        lines += _pool_lines(result["pools"])
    return [*lines, *(f"not shown: {reason}" for reason in result["not_shown"])]


def _server_lines(result: Mapping[str, Any], idle_age: str, query_age: str) -> list[str]:
    connections = result["connections"]
    sessions = sum(row["count"] for row in result["sessions"])
    lines = [f"{number_of(sessions, 'session')}; max_connections is {connections['max']}"]
    if result["sessions"]:
        rows = [
            [*_who(row), row["state"], row["count"], duration_text(row["longest_seconds"])]
            for row in result["sessions"]
        ]
        lines += table([*_WHO, "state", "count", "longest"], rows)
    lines += _listed(f"idle transactions of {idle_age} and more", result["idle_transactions"])
    lines += _listed(f"queries of {query_age} and more", result["long_queries"])
    return lines + _blocking_lines(result["blocking"])


def _who(row: Mapping[str, Any]) -> list[str]:
    return [_word(row[name]) for name in _WHO]


def _word(text: str) -> str:
    return shortened(printable(text), _MOST_WORD)


def _query(row: Mapping[str, Any]) -> str:
    return shortened(row["query"] or "", _MOST_QUERY)


def _listed(what: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{what}: {len(rows) or 'none'}", *session_table(rows)]


def session_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sessions in columns; no line at all when there are none."""
    if not rows:
        return []
    cells = [
        [row["pid"], *_who(row), row["client_address"], row["state"],
         duration_text(row["seconds"]), _query(row)]
        for row in rows
    ]  # fmt: skip
    return table(["pid", *_WHO, "client", "state", "for", "query"], cells)


def _blocking_lines(tree: Sequence[Mapping[str, Any]]) -> list[str]:
    waiting = sum(1 for row in tree if row["blocked_by"])
    lines = [f"blocked: {waiting or 'none'}"]
    if not tree:
        return lines
    rows = []
    for row in tree:
        pid = "prepared" if row["pid"] == PREPARED else str(row["pid"])
        how = f"{row['state']} for {duration_text(row['seconds'])}" if row["state"] else ""
        if row["blocked_by"]:
            how = f"waits {duration_text(row['waiting_seconds'])} for {row['lock']}"
        rows.append(["  " * row["depth"] + pid, *_who(row), how, _query(row)])
    return lines + table(["pid", *_WHO, "how", "query"], rows)


def _pool_lines(pools: Sequence[Mapping[str, Any]]) -> list[str]:
    waiting = sum(row["cl_waiting"] for row in pools)
    lines = [f"{number_of(len(pools), 'pool')} of PgBouncer; clients waiting: {waiting or 'none'}"]
    if not pools:
        return lines
    several = len({row["console"] for row in pools}) > 1
    numbers = ("cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_used")
    head = [*(["console"] if several else []), "database", "user", "mode", *numbers, "maxwait"]
    rows = [
        [*([row["console"]] if several else []), _word(row["database"]), _word(row["user"]),
         row["pool_mode"], *(row[name] for name in numbers), f"{row['maxwait']:.1f} s"]
        for row in pools
    ]  # fmt: skip
    return lines + table(head, rows)


def ended_lines(result: Mapping[str, Any], mode: str, check: bool) -> list[str]:
    """What postgres_sessions did, for people."""
    done = {"terminate": "ended", "cancel": "cancelled"}[mode]
    verb = {"terminate": "end", "cancel": "cancel"}[mode]
    what = f"would {verb}" if check else done
    lines = [f"{what}: {len(result['ended']) or 'none'}", *session_table(result["ended"])]
    if result["spared"]:
        lines.append(f"no longer to be {done}: {len(result['spared'])}")
        lines += session_table(result["spared"])
    if result["not_ended"]:
        lines.append(f"could not be {done}: {len(result['not_ended'])}")
        lines += session_table(result["not_ended"])
        reasons: dict[str, list[str]] = {}
        for row in result["not_ended"]:
            reasons.setdefault(row["reason"], []).append(str(row["pid"]))
        lines += [f"  pid {', '.join(pids)}: {reason}" for reason, pids in reasons.items()]
    return lines


def failure_text(result: Mapping[str, Any], check: bool) -> str:
    """Why a run that could not end everything fails."""
    missed: Sequence[Mapping[str, Any]] = result["not_ended"]
    first = missed[0]
    total = len(missed) + len(result["ended"])
    who = f"pid {first['pid']} of {first['role']!r}"
    return (
        f"{len(missed)} of {number_of(total, 'session')} {'can' if check else 'could'} not be"
        f" ended: {who}: {first['reason']}" + (" (and others)" if len(missed) > 1 else "")
    )
