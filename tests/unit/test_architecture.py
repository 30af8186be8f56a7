# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page about the architecture against the code: rooms, who imports whom, what to open."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = "ansible_collections.pooled.postgres.plugins"
HOUSE = ROOT / "plugins" / "module_utils"
TESTS = ROOT / "tests" / "unit" / "plugins" / "module_utils"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The cells of each row of the table below a heading."""
    (section,) = re.findall(rf"^## {heading}.*?$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\|(.+)\|$", section, re.MULTILINE)[2:]
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


ALLOWED = {named(room)[0]: named(known) for room, _about, known in table("Rooms")}
PATHS = [path for _to_change, cell in table("To change") for path in named(cell)]


def room_of(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imported(source: str) -> Iterator[str]:
    """What of our own plugins a source imports, such as module_utils._host.files."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PLUGINS):
            inside = str(node.module)[len(PLUGINS) + 1 :]
            for name in node.names:
                yield f"{inside}.{name.name}"


def forbidden(room: str, source: str) -> set[str]:
    """What a file of a room imports and may not."""
    found = set()
    for name in imported(source):
        kind, other, *_rest = name.split(".")
        if kind != "module_utils" or other not in (room, *ALLOWED[room]):
            found.add(name)
    return found


def test_each_room_is_on_the_page() -> None:
    rooms = {room_of(path) for path in HOUSE.rglob("*.py")}
    assert rooms == set(ALLOWED)


def test_a_room_imports_from_rooms_above_it_in_the_table_alone() -> None:
    """So there is no way round."""
    rooms = list(ALLOWED)
    for number, (room, known) in enumerate(ALLOWED.items()):
        assert set(known) <= set(rooms[:number]), room


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_go_where_the_page_says(room: str) -> None:
    used = set()
    for path in HOUSE.rglob("*.py"):
        if room_of(path) == room:
            source = path.read_text(encoding="utf-8")
            assert forbidden(room, source) == set(), path
            used |= {name.split(".")[1] for name in imported(source)} - {room}
    assert used == set(ALLOWED[room]), "the page allows more than there is"


def test_a_forbidden_import_is_found() -> None:
    upwards = f"def late():\n    from {PLUGINS}.module_utils._audit.rules import server\n"
    assert forbidden("_host", upwards) == {"module_utils._audit.rules.server"}
    assert forbidden("_text", f"from {PLUGINS}.modules import postgres_hba\n")
    assert forbidden("_sql", f"from {PLUGINS}.module_utils._host import files\n") == set()


@pytest.mark.parametrize("path", PATHS)
def test_what_to_open_is_there(path: str) -> None:
    assert (HOUSE / path).is_file() or (ROOT / path).is_file()


def test_tests_are_where_what_they_test_is() -> None:
    for path in TESTS.rglob("test_*.py"):
        room = path.relative_to(TESTS).parts[0]
        if room == path.name:
            room = path.stem.removeprefix("test")
            assert (HOUSE / f"{room}.py").is_file(), path
        else:
            assert (HOUSE / path.relative_to(TESTS).parent).is_dir(), path


def test_the_tables_are_read() -> None:
    assert len(ALLOWED) > 10
    assert len(PATHS) > 30
