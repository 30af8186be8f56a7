# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of C(pg_hba.conf) and C(pg_ident.conf)."""

from __future__ import annotations

import re
from typing import Iterable, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model.names import IDENT_MAP
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import (
    IdentLine,
    LoginRule,
)

FILE_HEADER = "# Managed by pooled.postgres: lines of others in this file are removed."
KEPT_HEADER = "# Lines of others, for databases and roles that the model does not know:"
BLOCK_BEGIN = "# BEGIN pooled.postgres"
BLOCK_END = "# END pooled.postgres"
# Words that bring another file's lines, from this major on.
INCLUDES = ("include", "include_if_exists", "include_dir")
INCLUDES_MAJOR = 16
# The rules of a server as Debian's package creates it.
PACKAGE_RULES = (
    "local all postgres peer",
    "local all all peer",
    "host all all 127.0.0.1/32 scram-sha-256",
    "host all all ::1/128 scram-sha-256",
    "local replication all peer",
    "host replication all 127.0.0.1/32 scram-sha-256",
    "host replication all ::1/128 scram-sha-256",
)
_TOKEN = re.compile(r'(?:"(?:[^"]|"")*"|[^\s"#])+')
# Wider fields stand out of their column, so that one long list does not push all others away.
_WIDEST = 48


def hba_text(
    existing: str, rules: Iterable[LoginRule], whole: bool, kept: Sequence[str] = ()
) -> str:
    """The wanted pg_hba.conf.

    Args:
        existing: the file as it is.
        rules: all our rules, in order.
        whole: whether the file is ours alone; otherwise unmanaged lines stay, below ours.
        kept: unmanaged lines to keep even in a file that is ours.
    """
    block = [BLOCK_BEGIN, *aligned(tuple(rules)), BLOCK_END]
    if whole:
        below = [KEPT_HEADER, *kept] if kept else []
        return "\n".join([FILE_HEADER, *block, *below]) + "\n"
    rest = without_block("pg_hba.conf", existing)
    return "\n".join(block) + "\n" + rest


def aligned(rules: Sequence[LoginRule]) -> list[str]:
    """The rules as lines, in columns."""
    fields = zip(*(rule.fields for rule in rules))
    widths = [
        max([len(text) for text in column if len(text) <= _WIDEST] or [0]) for column in fields
    ]
    return [rule.line(widths) for rule in rules]


def ident_text(existing: str, lines: Iterable[IdentLine]) -> str:
    """The wanted pg_ident.conf: lines of other maps stay, ours are in a block at the end."""
    kept = [
        line
        for line in without_block("pg_ident.conf", existing).splitlines(keepends=True)
        if tokens(line)[:1] not in ([IDENT_MAP], [f'"{IDENT_MAP}"'])
    ]
    text = "".join(kept)
    if text and not text.endswith("\n"):
        text += "\n"
    block = [line.line() for line in lines]
    if not block:
        return text
    return text + "\n".join([BLOCK_BEGIN, *block, BLOCK_END]) + "\n"


def include_lines(existing: str) -> tuple[str, ...]:
    """Lines outside our block that bring other files' lines."""
    lines = without_block("pg_hba.conf", existing).splitlines()
    return tuple(line for line in lines if is_include(line))


def has_includes(existing: str) -> bool:
    """Whether a file brings other files' lines."""
    return any(map(is_include, existing.splitlines()))


def is_include(line: str) -> bool:
    return tokens(line)[:1] in [[word] for word in INCLUDES]


def is_ours(text: str) -> bool:
    """Whether the whole file is ours already."""
    return text.startswith(FILE_HEADER)


def is_as_packaged(text: str) -> bool:
    """Whether the file holds just the rules that Debian's package creates."""
    return effective_rules(text.replace(" md5", " scram-sha-256")) == PACKAGE_RULES


def effective_rules(text: str) -> tuple[str, ...]:
    """The rules of a file without comments, blanks and alignment."""
    return tuple(" ".join(words) for words in map(tokens, text.splitlines()) if words)


def tokens(line: str) -> list[str]:
    """The tokens of a line, quotes kept; empty for a comment."""
    words: list[str] = []
    position = 0
    while position < len(line) and line[position] != "#":
        match = _TOKEN.match(line, position)
        if match:
            words.append(match.group())
            position = match.end()
        elif line[position] == '"':
            words.append(line[position:].strip())
            break
        else:
            position += 1
    return words


def shown_change(before: str, after: str) -> dict[str, str]:
    """A diff's two sides, without the comments of a file that is still as it was packaged.

    A rule that is the same but for its alignment is shown as it will be.
    """
    if not effective_rules(before) and after.startswith(before):
        return {"before": "", "after": after[len(before) :]}
    if is_as_packaged(before):
        before = "".join(f"{rule}\n" for rule in PACKAGE_RULES)
    shown = {" ".join(tokens(line)): line for line in after.splitlines(keepends=True)}
    lines = before.splitlines(keepends=True)
    same = "".join(
        shown.get(" ".join(tokens(line)), line) if tokens(line) else line for line in lines
    )
    return {"before": before if same == after else same, "after": after}


def without_block(name: str, text: str) -> str:
    """The unmanaged lines."""
    kept: list[str] = []
    inside = 0
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        bare = line.strip()
        if bare == BLOCK_BEGIN and not inside:
            inside = number
        elif bare == BLOCK_END and inside:
            inside = 0
        elif not inside and bare not in (FILE_HEADER, KEPT_HEADER, BLOCK_END):
            kept.append(line)
    if inside:
        raise ValueError(
            f"{name}: line {inside} says {BLOCK_BEGIN!r}, but no line below it says {BLOCK_END!r},"
            " so that managed lines can't be told from unmanaged ones; put that line back below"
            " the managed ones"
        )
    return "".join(kept)
