#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw the rooms of plugins/module_utils into docs/architecture.md, from the code's own imports.

What is between these two lines of the page is written; the rest is left alone:

    <!-- BEGIN generated: rooms -->
    <!-- END generated -->

Also counts rooms, files and arrows, and fails where an arrow goes upwards, which is to a room that
comes later in the page's table of rooms, or where imports go round in a cycle.

Usage: tools/env tools/generate/architecture.py
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HOUSE = ROOT / "plugins" / "module_utils"
PAGE = ROOT / "docs" / "architecture.md"
PREFIX = "ansible_collections.pooled.postgres.plugins.module_utils."
BEGIN = "<!-- BEGIN generated: rooms -->"
END = "<!-- END generated -->"

# What each room or file imports, by name.
Graph = Mapping[str, set[str]]


def imported(name: str, source: str) -> Iterator[str]:
    """What of the house a file imports: files, or names in them, such as _host.files.replace."""
    for node in ast.walk(ast.parse(source)):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = f"{PREFIX}{name}".split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found = [f"{base}.{alias.name}" for alias in node.names]
        yield from (one.removeprefix(PREFIX) for one in found if one.startswith(PREFIX))


def sources(house: Path) -> dict[str, str]:
    """The text of each file, by its name for imports, such as _host.files."""
    return {
        ".".join(path.relative_to(house).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in sorted(house.rglob("*.py"))
    }


def between_rooms(files: Mapping[str, str]) -> dict[str, set[str]]:
    """Which other rooms each room imports from."""
    found: dict[str, set[str]] = {}
    for name, source in files.items():
        room = name.split(".")[0]
        others = {one.split(".")[0] for one in imported(name, source)}
        found.setdefault(room, set()).update(others - {room})
    return found


def between_files(files: Mapping[str, str]) -> dict[str, set[str]]:
    """Which files each file imports from."""
    found: dict[str, set[str]] = {}
    for name, source in files.items():
        names = set(imported(name, source))
        names |= {one.rpartition(".")[0] for one in names}
        found[name] = names & set(files)
    return found


def reached(graph: Graph, start: Iterable[str]) -> set[str]:
    """All that can be got to along arrows, with the start."""
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(graph.get(one, ()))
    return found


def cycles(graph: Graph) -> list[list[str]]:
    """Sets of rooms or files, each of which imports itself by way of all others in its set."""
    after = {one: reached(graph, others) for one, others in graph.items()}
    found = {
        tuple(sorted(other for other in after[one] if one in after.get(other, ())))
        for one in graph
        if one in after[one]
    }
    return [list(names) for names in sorted(found)]


def upwards(graph: Graph, order: list[str]) -> list[tuple[str, str]]:
    """Arrows to a room that does not come before the one that they start from."""
    return sorted(
        (room, other)
        for room, others in graph.items()
        for other in others
        if order.index(other) >= order.index(room)
    )


def rooms_of(page: str) -> list[str]:
    """The rooms in the order of the page's table, which starts with the lowest."""
    section = page.partition("\n## Rooms\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def drawing(graph: Graph, order: list[str]) -> str:
    """The rooms from top to bottom, for Mermaid."""
    lines = []
    for room in reversed(order):
        lines.append(f'    {room.strip("_")}["{room}"]')
        # With all arrows nobody would see anything.
        kept = {
            other for other in graph[room] if other not in reached(graph, graph[room] - {other})
        }
        targets = [other.strip("_") for other in reversed(order) if other in kept]
        if targets:
            lines.append(f"    {room.strip('_')} --> {' & '.join(targets)}")
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"])


def renewed(page: str, graph: Graph) -> str:
    """The page with its drawing made anew.

    Raises:
        ValueError: the two markers are not there.
    """
    before, found, rest = page.partition(BEGIN)
    _old, closed, after = rest.partition(END)
    if not (found and closed):
        raise ValueError(f"docs/architecture.md has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{drawing(graph, rooms_of(page))}\n{END}{after}"


def counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    files = sources(HOUSE)
    rooms, order = between_rooms(files), rooms_of(page)
    if unlisted := sorted(set(rooms) ^ set(order)):
        print(f"only in the code or only on the page: {', '.join(unlisted)}", file=sys.stderr)
        return 1
    wrong = upwards(rooms, order)
    of_rooms, of_files = cycles(rooms), cycles(between_files(files))
    print(
        f"{counted(len(rooms), 'room')}, {counted(len(files), 'file')}, "
        f"{counted(sum(map(len, rooms.values())), 'arrow')} between rooms, {len(wrong)} upwards; "
        f"{counted(len(of_rooms), 'cycle')} of rooms, {len(of_files)} of files"
    )
    for room, other in wrong:
        print(f"upwards: {room} imports from {other}", file=sys.stderr)
    for names in [*of_rooms, *of_files]:
        print(f"cycle: {', '.join(names)}", file=sys.stderr)
    if wrong or of_rooms or of_files:
        return 1
    PAGE.write_text(renewed(page, rooms), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
