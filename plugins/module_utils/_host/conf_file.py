# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The format of postgresql.conf and of the files that it includes."""

from __future__ import annotations

import re
from typing import Iterable, Mapping

HEADER = """\
# Managed by Ansible (pooled.postgres): edits by hand are undone by the next run.
# Set values in the inventory, in postgres_settings. A setting that is removed there goes back to
# what the rest of the configuration says.
"""
_ENTRY = re.compile(
    r"""\s*(?P<name>[A-Za-z_][\w$]*(?:\.[A-Za-z_][\w$]*)*)(?:\s*=\s*|\s+)
    (?:'(?P<quoted>(?:[^'\\\n]|\\.|'')*)'|(?P<plain>[^\s'\#=]+))\s*(?:\#.*)?\Z""",
    re.VERBOSE,
)
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def parse(text: str) -> list[tuple[str, str]]:
    """Names and values of a drop-in, in order; the server takes the last of a name.

    Raises:
        ValueError: naming the line that is not a valid setting.
    """
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _ENTRY.match(line)
        if not found:
            raise ValueError(f"line {number} is not a valid setting: {line.strip()!r}")
        quoted = found.group("quoted")
        value = found.group("plain") if quoted is None else _unquoted(quoted)
        entries.append((found.group("name").lower(), value))
    return entries


def _unquoted(text: str) -> str:
    def plain(found: re.Match[str]) -> str:
        escape = found.group(1)
        if escape is None:
            return "'"
        if re.match(r"[0-7]+\Z", escape):
            return chr(int(escape, 8) & 0xFF)
        return _ESCAPES.get(escape, escape)

    return re.sub(r"''|\\([0-7]{1,3}|.)", plain, text)


def without(text: str, names: Iterable[str]) -> str:
    """A file's text without the lines that set these."""
    gone = {name.lower() for name in names}
    lines = text.splitlines(keepends=True)
    matches = [_ENTRY.match(line) for line in lines]
    return "".join(
        line
        for line, found in zip(lines, matches)
        if not (found and found.group("name").lower() in gone)
    )


def is_part_of(text: str, whole: str) -> bool:
    """Whether a file sets nothing that another one does not set likewise."""
    try:
        return set(parse(text)) <= set(parse(whole))
    except ValueError:
        return False


def render(settings: Mapping[str, str]) -> str:
    """The drop-in that holds these settings, sorted by name."""
    lines = [f"{name} = {quoted(settings[name])}\n" for name in sorted(settings, key=str.lower)]
    return HEADER + "".join(lines)


def quoted(text: str) -> str:
    """A value as a string of the file."""
    return "'{}'".format(text.replace("\\", "\\\\").replace("'", "''"))
