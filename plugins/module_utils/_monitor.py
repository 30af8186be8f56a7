# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role that an exporter logs in as: what it must be, and which statements make it so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._quote import quote_ident

GROUP = "pg_monitor"
# Attributes of a role as the catalog calls them, with the word that takes each away.
POWERS = {
    "rolsuper": "NOSUPERUSER",
    "rolcreaterole": "NOCREATEROLE",
    "rolcreatedb": "NOCREATEDB",
    "rolreplication": "NOREPLICATION",
    "rolbypassrls": "NOBYPASSRLS",
}


@dataclass(frozen=True)
class MonitorRole:
    """A role of the server; C(powers) are those of POWERS that it has."""

    login: bool
    inherits: bool
    powers: tuple[str, ...]
    member_of: tuple[str, ...]


@dataclass(frozen=True)
class MonitorState:
    """What the server has.

    C(connects) says of each existing database whether the role may connect to it by name, and
    C(extensions) of each available one whether it is created.
    """

    role: MonitorRole | None
    connects: Mapping[str, bool]
    extensions: Mapping[str, bool]


@dataclass(frozen=True)
class MonitorChange:
    """A statement, and what it changes for a diff."""

    statement: str
    what: str
    before: str
    after: str


def nothing_yet() -> MonitorState:
    """A server that a run will create."""
    return MonitorState(None, {}, {})


def monitor_changes(
    name: str,
    databases: tuple[str, ...],
    extensions: tuple[str, ...],
    state: MonitorState,
) -> tuple[MonitorChange, ...]:
    """What makes the role able to read the statistics, and nothing more.

    Args:
        name: the role.
        databases: those that it connects to.
        extensions: those of the database that the statistics are read in.
        state: what there is.
    """
    return (
        *_role_changes(name, state.role),
        *(
            MonitorChange(
                f"GRANT CONNECT ON DATABASE {quote_ident(database)} TO {quote_ident(name)}",
                f"database {database}",
                "",
                "CONNECT",
            )
            for database in databases
            if not state.connects.get(database, False)
        ),
        *(
            MonitorChange(
                f"CREATE EXTENSION {quote_ident(extension)}", f"extension {extension}", "", "yes"
            )
            for extension in extensions
            if not state.extensions.get(extension, False)
        ),
    )


def _role_changes(name: str, role: MonitorRole | None) -> Iterator[MonitorChange]:
    ident = quote_ident(name)
    if role is None:
        yield MonitorChange(f"CREATE ROLE {ident} LOGIN", "role", "", "LOGIN")
        yield MonitorChange(f"GRANT {GROUP} TO {ident}", "member of", "", GROUP)
        return
    words = [] if role.login else ["LOGIN"]
    words += [] if role.inherits else ["INHERIT"]
    words += [word for power, word in POWERS.items() if power in role.powers]
    if words:
        text = " ".join(words)
        had = ", ".join(power[3:] for power in POWERS if power in role.powers)
        yield MonitorChange(f"ALTER ROLE {ident} {text}", "role", had, text)
    others = sorted(set(role.member_of) - {GROUP})
    if others:
        groups = ", ".join(quote_ident(other) for other in others)
        yield MonitorChange(f"REVOKE {groups} FROM {ident}", "member of", groups, "")
    if GROUP not in role.member_of:
        yield MonitorChange(f"GRANT {GROUP} TO {ident}", "member of", "", GROUP)


def shown(changes: tuple[MonitorChange, ...], *, after: bool) -> str:
    """One side of a diff."""
    lines = [
        f"{change.what}: {change.after if after else change.before}"
        for change in changes
        if (change.after if after else change.before)
    ]
    return "".join(f"{line}\n" for line in lines)
