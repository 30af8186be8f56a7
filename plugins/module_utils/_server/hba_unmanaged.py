# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of C(pg_hba.conf) that are not ours: which may stay, and what they allow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    Database,
    absent_roles,
    model_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_file import (
    is_include,
    tokens,
    without_block,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import (
    INSECURE_METHODS,
    KEYWORDS,
    METHODS_FOR_ALL,
    PLAIN_NAME,
    TYPES,
)


@dataclass(frozen=True)
class IncludedRule:
    """A rule of another file, as the server has read it; C(error) is empty when it could."""

    file: str
    line: int
    type: str
    databases: tuple[str, ...]
    users: tuple[str, ...]
    method: str
    error: str = ""

    def __str__(self) -> str:
        words = (self.type, ",".join(self.databases), ",".join(self.users), "...", self.method)
        return f"{self.file} line {self.line}: {self.error or ' '.join(words)}"


def decided_by_the_model(
    included: Iterable[IncludedRule], databases: Iterable[str], roles: Iterable[str]
) -> tuple[IncludedRule, ...]:
    """Rules of other files that a managed file can't have below ours, with the same condition.

    Args:
        included: what the included files say.
        databases: databases that the model does not know.
        roles: roles that the model does not know.
    """
    theirs, users = frozenset(databases), frozenset(roles)
    return tuple(
        rule
        for rule in included
        if rule.error
        or not _plain(rule.databases) <= theirs
        or not (
            rule.method in METHODS_FOR_ALL
            if rule.users == ("all",)
            else _plain(rule.users) <= users
        )
    )


def _plain(names: Iterable[str]) -> frozenset[str]:
    """Names as the server shows them, without quotes; an empty one for what may be more."""
    return frozenset(
        "" if name in KEYWORDS or name[:1] in ("+", "/", "@") else name for name in names
    )


def unmanaged_lines(
    existing: str, databases: Iterable[str], roles: Iterable[str]
) -> tuple[str, ...]:
    """Lines outside our block that let just unmanaged roles into just unmanaged databases.

    Lines that bring other files' are among them: see decided_by_the_model().

    Each database has to be named. Each role has to be, too, unless the method asks everybody for a
    password, with which a line may let all users into those databases.

    Args:
        existing: the file as it is.
        databases: databases that the model does not know.
        roles: roles that the model does not know.
    """
    theirs = frozenset(databases), frozenset(roles)
    return tuple(
        line
        for line in without_block("pg_hba.conf", existing).splitlines()
        if is_include(line) or _is_unmanaged(line, *theirs)
    )


def _is_unmanaged(line: str, databases: frozenset[str], roles: frozenset[str]) -> bool:
    fields = _fields(line)
    if len(fields) < 4 or fields[0] not in TYPES or line.endswith("\\"):
        return False
    if not _names(fields[1]) <= databases:
        return False
    if fields[2] == "all":
        method = fields[3 if fields[0] == "local" else 4 : 5]
        return bool(method) and method[0] in METHODS_FOR_ALL
    return _names(fields[2]) <= roles


def _fields(line: str) -> list[str]:
    """The tokens of a line, with lists that have blanks after their commas joined."""
    fields: list[str] = []
    for word in tokens(line):
        if fields and fields[-1].endswith(","):
            fields[-1] += word
        else:
            fields.append(word)
    return fields


def _names(field: str) -> frozenset[str]:
    """The names in a list; an empty one, which nothing has, for what is not just a name."""
    names = []
    items = re.findall(r'("(?:[^"]|"")*"|[^,"]+)(?:,|\Z)', field)
    if ",".join(items) != field:
        return frozenset([""])
    for item in items:
        if re.match(r'"(?:[^"]|"")+"\Z', item):
            name = item[1:-1].replace('""', '"')
            names.append("" if name.startswith("/") else name)
        else:
            names.append(item if PLAIN_NAME.match(item) and item not in KEYWORDS else "")
    return frozenset(names)


def named_by_unmanaged_lines(existing: str) -> tuple[frozenset[str], frozenset[str]]:
    """Databases and roles that lines outside our block name."""
    databases: set[str] = set()
    roles: set[str] = set()
    for line in without_block("pg_hba.conf", existing).splitlines():
        fields = _fields(line)
        if len(fields) >= 4 and fields[0] in TYPES:
            databases |= _names(fields[1])
            roles |= _names(fields[2])
    return frozenset(databases - {""}), frozenset(roles - {""})


def unsafe_lines(text: str) -> tuple[str, ...]:
    """What kept unmanaged lines allow that nobody should, for a warning each."""
    found: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = tokens(line)
        if words and words[0] in TYPES:
            found.extend(
                f"line {number} has method {method}, which {reason}: {' '.join(words)}"
                for method, reason in INSECURE_METHODS.items()
                if method in words[3:]
            )
    return tuple(found)


def unmanaged_names(
    databases: Sequence[Database], names: Iterable[str], more: Iterable[str]
) -> list[str]:
    """Names on the server that are neither the model's nor among some more."""
    ours = {role.name for role in model_roles(databases)}
    ours.update(role.name for role in absent_roles(databases))
    ours.update(database.name for database in databases)
    ours.update(more)
    return sorted(name for name in names if name not in ours)
