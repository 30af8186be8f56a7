# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer's file formats: its ini dialect, connection strings in it, and the auth file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._secrets import MASK

_HEADER = (
    "Managed by Ansible, collection pooled.postgres: changes made here by hand are replaced.",
)
_SETTINGS_TITLE = (
    "Settings that server connections carry from their roles; a change opens them anew:"
)
_FILES_TITLE = "Other files that were read; when one changes, PgBouncer reads all again:"
_NOTE_MARK = ";   "
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_./:,*@%+-]+\Z")
_PARAMETER = re.compile(r"(\w+)\s*=\s*('(?:[^']|'')*'|[^\s']\S*)")
_INCLUDE = re.compile(r"%include[ \t]+(.*)\Z")
_SECTION = re.compile(r"\[([^\]]*)\]")
_ENTRY = re.compile(r'("(?:[^"]|"")*"|[A-Za-z0-9_.*-]+)\s*=\s*(.*)\Z')
# As many files within files as PgBouncer reads.
_DEEPEST = 10
_USERLIST_LINE = re.compile(r'^("(?:[^"]|"")*")\s*"((?:[^"]|"")*)"', re.MULTILINE)


@dataclass(frozen=True)
class Parsed:
    """Somebody's pgbouncer.ini: the values in each section by name, and the files that it includes.

    C(unread) are those among these that can't be read.
    """

    sections: Mapping[str, Mapping[str, str]]
    included: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def render_ini(
    options: Mapping[str, str],
    databases: Mapping[str, Mapping[str, str]],
    users: Mapping[str, Mapping[str, str]],
    role_settings: Sequence[str],
    read_files: Sequence[str] = (),
    peers: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """The whole pgbouncer.ini; options in the order of their names, entries as given.

    Args:
        options: [pgbouncer].
        databases: [databases], the connection parameters of each by name.
        users: [users], likewise.
        role_settings: what to remember about the roles' own settings, a line each.
        read_files: what to remember about other files that PgBouncer reads, a line each.
        peers: [peers], the connection parameters of each process by its number.
    """
    lines = [f"; {line}" for line in _HEADER]
    for title, notes in ((_FILES_TITLE, read_files), (_SETTINGS_TITLE, role_settings)):
        if notes:
            lines += [f"; {title}", *(_NOTE_MARK + note for note in notes)]
    lines += ["", "[databases]", *_entries(databases)]
    if users:
        lines += ["", "[users]", *_entries(users)]
    if peers:
        lines += ["", "[peers]", *_entries(peers)]
    lines += [
        "",
        "[pgbouncer]",
        *(f"{name} = {options[name]}".rstrip() for name in sorted(options)),
    ]
    return "\n".join(lines) + "\n"


def is_managed(text: str) -> bool:
    """Whether render_ini() has made a file, which somebody may have written above since."""
    return f"; {_HEADER[0]}" in f"\n{text}".split("\n[", 1)[0].split("\n")


def parsed(text: str, read: Callable[[str], str | None]) -> Parsed:
    """What PgBouncer makes of a file, without the lines that it can't read.

    Args:
        text: the file.
        read: the text of an included file; none when it can't be read.
    """
    sections: dict[str, dict[str, str]] = {}
    included: dict[str, bool] = {}
    current: dict[str, str] = {}

    def take(lines: str, depth: int) -> None:
        nonlocal current
        for line in map(str.strip, lines.split("\n")):
            include, section, entry = _INCLUDE.match(line), _SECTION.match(line), _ENTRY.match(line)
            if include and include.group(1):
                path = include.group(1)
                content = read(path) if depth < _DEEPEST else None
                included[path] = content is not None
                # An included file goes on in the section that it is included in.
                take(content or "", depth + 1)
            elif section:
                current = sections.setdefault(section.group(1), {})
            elif entry:
                name, value = entry.groups()
                current[name[1:-1].replace('""', '"') if name.startswith('"') else name] = value

    take(text, 0)
    return Parsed(
        sections,
        tuple(included),
        tuple(path for path, was_read in included.items() if not was_read),
    )


def parameters_in(connection_string: str) -> dict[str, str]:
    """The parameters of a connection string, by name."""
    return {
        key: value[1:-1].replace("''", "'") if value.startswith("'") else value
        for key, value in _PARAMETER.findall(connection_string)
    }


def role_settings_in(text: str) -> list[str]:
    """The lines about the roles' own settings in a file that render_ini() made."""
    lines = text.split("\n[", 1)[0].split("\n")
    title = f"; {_SETTINGS_TITLE}"
    if title not in lines:
        return []
    notes = []
    for line in lines[lines.index(title) + 1 :]:
        if not line.startswith(_NOTE_MARK):
            break
        notes.append(line[len(_NOTE_MARK) :])
    return notes


def without_digests(before: str, after: str) -> tuple[str, str]:
    """Two versions of a file, with words in place of the digests of other files.

    Nobody could foresee the digest of a certificate that is still to be made.
    """
    old, new = _digests(before), _digests(after)
    for line, (name, digest) in new.items():
        said = name if (name, digest) in old.values() else f"{name} (new)"
        after = after.replace(line, f"{_NOTE_MARK}{said}", 1)
    for line, (name, _digest) in old.items():
        before = before.replace(line, f"{_NOTE_MARK}{name}", 1)
    return before, after


def _digests(text: str) -> dict[str, tuple[str, str]]:
    """What is remembered of other files, by its line: an option and a digest."""
    _head, title, rest = text.split("\n[", 1)[0].partition(f"; {_FILES_TITLE}\n")
    if not title:
        return {}
    found = {}
    for line in rest.split("\n"):
        name, space, digest = line[len(_NOTE_MARK) :].partition(" ")
        if not line.startswith(_NOTE_MARK) or not space:
            break
        found[line] = (name, digest)
    return found


def database_entries_in(text: str) -> dict[str, dict[str, str]]:
    """The entries of [databases] in a file that render_ini() made."""
    section = text.partition("\n[databases]\n")[2].partition("\n[")[0]
    entries: dict[str, dict[str, str]] = {}
    for line in section.splitlines():
        name, equals, parameters = line.partition(" = ")
        if equals:
            entries[name] = parameters_in(parameters)
    return entries


def connection_string(parameters: Mapping[str, str]) -> str:
    """Parameters as key=value pairs, quoted where PgBouncer wants it."""
    return " ".join(f"{key}={_quoted(value)}" for key, value in parameters.items())


def render_userlist(secrets: Mapping[str, str]) -> str:
    """The auth file: a line for each user, with a verifier or a password."""
    return "".join(
        f"{_double_quoted(user)} {_double_quoted(secrets[user])}\n" for user in sorted(secrets)
    )


def secrets_in(userlist: str) -> dict[str, str]:
    """The secret of each user in an auth file."""
    return {
        name[1:-1].replace('""', '"'): secret.replace('""', '"')
        for name, secret in _secrets(userlist).items()
    }


def option_in(text: str, name: str) -> str:
    """The value of an option in somebody's pgbouncer.ini; empty when it is not there."""
    found = re.findall(rf"^[ \t]*{re.escape(name)}[ \t]*=[ \t]*(.*?)[ \t]*$", text, re.MULTILINE)
    return found[-1] if found else ""


def masked_userlists(before: str, after: str) -> tuple[str, str]:
    """Two versions of an auth file without their secrets, to be compared by people."""
    old = _secrets(before)
    new = _secrets(after)
    return (
        "".join(f'{user} "{MASK}"\n' for user in old),
        "".join(
            f'{user} "{MASK}"{"" if old.get(user) == secret else " ; new secret"}\n'
            for user, secret in new.items()
        ),
    )


def _secrets(userlist: str) -> dict[str, str]:
    """The secret of each user in an auth file, as it is written there, the names with quotes."""
    return dict(_USERLIST_LINE.findall(userlist))


def _entries(entries: Mapping[str, Mapping[str, str]]) -> Iterable[str]:
    return (f"{name} = {connection_string(entry)}".rstrip() for name, entry in entries.items())


def _quoted(value: str) -> str:
    if _PLAIN_VALUE.match(value):
        return value
    return "'{}'".format(value.replace("'", "''"))


def _double_quoted(value: str) -> str:
    return '"{}"'.format(value.replace('"', '""'))
