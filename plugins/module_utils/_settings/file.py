# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The managed file of settings, and the files of which it is one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Iterable

from ansible_collections.pooled.postgres.plugins.module_utils._host import conf_file
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    list_element,
    names_of_libraries,
)

# The setting in a candidate file whose presence proves that the server reads that file.
MARKER = "pooled.candidate"
_INCLUDE = re.compile(
    r"""(?P<indent>\s*)(?P<kind>include|include_if_exists|include_dir)(?:\s*=\s*|\s+)
    (?:'(?P<quoted>(?:[^']|'')*)'|(?P<plain>[^\s'\#=]+))\s*(?:\#.*)?\Z""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class FileRow:
    """A row of pg_file_settings: an entry of a file on disk, in the order of reading."""

    path: str
    line: int
    name: str
    value: str
    applied: bool
    error: str | None = None


@dataclass(frozen=True)
class DropIn:
    """The managed file: its path, its text (empty when there is none), and where it is included.

    C(main) is the path of postgresql.conf, C(line) the number of its line that includes the file.
    """

    path: str
    text: str
    main: str
    line: int

    def settings(self) -> dict[str, str]:
        """What it sets, by lower-case name; nothing when it can't be read."""
        try:
            return dict(conf_file.parse(self.text))
        except ValueError:
            return {}

    def precedes(self, row: FileRow) -> bool:
        """Whether an entry elsewhere is read later and so wins."""
        if row.path == self.main:
            return row.line > self.line
        directory, name = self.path.rsplit("/", 1)
        other_directory, other_name = row.path.rsplit("/", 1)
        return other_directory == directory and other_name.encode() > name.encode()


def last_good_text(wanted: str, before: str, waiting: Iterable[str]) -> str:
    """The managed file with which a server runs while settings wait for its restart.

    Args:
        wanted: the file as it is now, all of which the server has read.
        before: the file that it last started with.
        waiting: settings of which it still has the value from before.
    """
    settings = dict(conf_file.parse(wanted))
    try:
        old = dict(conf_file.parse(before))
    except ValueError:
        old = {}
    for name in (name.lower() for name in waiting):
        settings.pop(name, None)
        if name in old:
            settings[name] = old[name]
    return conf_file.render(settings)


def with_candidate(
    main_text: str, main: str, drop_in: str, candidate: str, files_in: Callable[[str], list[str]]
) -> tuple[str, int]:
    """The main configuration file with the candidate read in the drop-in's place.

    Every include is written out with absolute paths, so that the result can be read from anywhere
    and means the same.

    Args:
        main_text: text of postgresql.conf.
        main: its path.
        drop_in: path of the managed file, which need not exist.
        candidate: path of the file to read instead.
        files_in: the names in a directory; empty when there is none.

    Returns:
        The text, and the number of the line in the original that includes the drop-in; 0 for none.
    """
    directory, drop_in_name = drop_in.rsplit("/", 1)
    result = []
    included_at = 0
    for number, line in enumerate(main_text.splitlines(), 1):
        found = _INCLUDE.match(line)
        if not found:
            result.append(line)
            continue
        given = found.group("plain") or found.group("quoted").replace("''", "'")
        target = given if given.startswith("/") else f"{main.rpartition('/')[0]}/{given}"
        kind = found.group("kind").lower()
        targets = [target]
        if kind == "include_dir":
            base = target.rstrip("/")
            names = {name for name in files_in(base) if name.endswith(".conf") and name[0] != "."}
            if directory == base:
                names.add(drop_in_name)
            targets = [f"{base}/{name}" for name in sorted(names, key=str.encode)]
        directive = "include_if_exists" if kind == "include_if_exists" else "include"
        for path in targets:
            if path == drop_in:
                included_at = number
            read = candidate if path == drop_in else path
            result.append(f"{directive} {conf_file.quoted(read)}")
    return "\n".join(result) + "\n", included_at


def preloaded_libraries(
    wanted: Iterable[str], rows: Iterable[FileRow], drop_in: str = "", unwanted: Iterable[str] = ()
) -> str:
    """A value of shared_preload_libraries: what any file already preloads, then what is wanted.

    Args:
        wanted: libraries.
        rows: pg_file_settings.
        drop_in: path of the managed file.
        unwanted: libraries that it has from an earlier run, and that are to go.
    """
    names: list[str] = []
    gone = frozenset(unwanted)
    for row in rows:
        if row.name.lower() == "shared_preload_libraries":
            found = names_of_libraries(row.value)
            names += [name for name in found if row.path != drop_in or name not in gone]
    names += wanted
    return ", ".join(list_element(name) for name in dict.fromkeys(names))
