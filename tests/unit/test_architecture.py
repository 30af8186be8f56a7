# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page about the architecture against the code: rooms, who imports whom, what to open."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tools.generate import architecture

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


def closed(arrows: Mapping[str, Iterable[str]]) -> set[tuple[str, str]]:
    """The arrows, and those that follow from them."""
    found = {(start, end) for start, ends in arrows.items() for end in ends}
    while True:
        more = {(start, end) for start, via in found for again, end in found if via == again}
        if more <= found:
            return found
        found |= more


def test_the_drawing_is_current() -> None:
    rooms = architecture.between_rooms(architecture.sources(HOUSE))
    assert architecture.renewed(PAGE, rooms) == PAGE, "run: make docs"


def test_the_drawing_says_what_the_table_says() -> None:
    names = dict(re.findall(r'^ +(\w+)\["(\w+)"\]$', PAGE, re.MULTILINE))
    assert list(names.values()) == list(reversed(ALLOWED))
    drawn = {
        names[start]: [names[end] for end in ends.split(" & ")]
        for start, ends in re.findall(r"^ +(\w+) --> (.+)$", PAGE, re.MULTILINE)
    }
    assert closed(drawn) == closed(ALLOWED)
    without = {start: set(ends) for start, ends in drawn.items()}
    for start, ends in drawn.items():
        for end in ends:
            rest = {**without, start: without[start] - {end}}
            assert (start, end) not in closed(rest), "an arrow follows from others"


def test_no_arrow_goes_upwards_and_nothing_goes_round() -> None:
    files = architecture.sources(HOUSE)
    rooms = architecture.between_rooms(files)
    assert rooms == {room: set(known) for room, known in ALLOWED.items()}
    assert architecture.rooms_of(PAGE) == list(ALLOWED)
    assert architecture.upwards(rooms, list(ALLOWED)) == []
    assert (
        architecture.cycles(rooms) == architecture.cycles(architecture.between_files(files)) == []
    )


ABSOLUTE = f"{PLUGINS}.module_utils."


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (f"from {ABSOLUTE}_low import a", {"_low.a"}),
        (f"from {ABSOLUTE}_low.a import X, Y", {"_low.a.X", "_low.a.Y"}),
        (f"def late():\n    import {ABSOLUTE}_low.a as a", {"_low.a"}),
        ("from . import b", {"_high.plan.b"}),
        ("from .b import X", {"_high.plan.b.X"}),
        ("from ..._low.a import X", {"_low.a.X"}),
        (
            f"import os\nfrom {PLUGINS}.modules import x\nfrom ansible.module_utils import basic",
            set(),
        ),
    ],
)
def test_imports_in_all_their_forms(source: str, expected: set[str]) -> None:
    assert set(architecture.imported("_high.plan.a", source)) == expected


@pytest.mark.parametrize(
    ("files", "printed", "errors"),
    [
        (
            {"_low/a.py": "", "_high/b.py": f"from {ABSOLUTE}_low import a"},
            "2 rooms, 2 files, 1 arrow between rooms, 0 upwards; 0 cycles of rooms, 0 of files\n",
            "",
        ),
        (
            {"_low/a.py": "", "_low/c.py": f"from {ABSOLUTE}_high import b", "_high/b.py": ""},
            "2 rooms, 3 files, 1 arrow between rooms, 1 upwards; 0 cycles of rooms, 0 of files\n",
            "upwards: _low imports from _high\n",
        ),
        (
            {
                "_low/a.py": "",
                "_low/c.py": f"from {ABSOLUTE}_high import b",
                "_high/b.py": f"from {ABSOLUTE}_low import a",
            },
            "2 rooms, 3 files, 2 arrows between rooms, 1 upwards; 1 cycle of rooms, 0 of files\n",
            "upwards: _low imports from _high\ncycle: _high, _low\n",
        ),
        (
            {
                "_low/a.py": "from .c import X",
                "_low/c.py": "from .d import X",
                "_low/d.py": "from .a import X",
                "_high/b.py": "from .._low import a",
            },
            "2 rooms, 4 files, 1 arrow between rooms, 0 upwards; 0 cycles of rooms, 1 of files\n",
            "cycle: _low.a, _low.c, _low.d\n",
        ),
        (
            {"_low/a.py": "", "_new.py": ""},
            "",
            "only in the code or only on the page: _high, _new\n",
        ),
    ],
)
def test_what_is_counted_and_refused(
    files: dict[str, str],
    printed: str,
    errors: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = tmp_path / "page.md"
    rows = "| room |\n|---|\n| `_low` |\n| `_high` |\n"
    text = (
        f"# Page\n\n## Rooms\n\n{rows}\n{architecture.BEGIN}\nold\n{architecture.END}\n\n## End\n"
    )
    page.write_text(text)
    for name, source in files.items():
        (tmp_path / "house" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "house" / name).write_text(source)
    monkeypatch.setattr(architecture, "PAGE", page)
    monkeypatch.setattr(architecture, "HOUSE", tmp_path / "house")
    assert architecture.main() == (1 if errors else 0)
    assert tuple(capsys.readouterr()) == (printed, errors)
    assert ("high --> low" in page.read_text()) is not bool(errors)
    assert errors == "" or page.read_text() == text


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="has no lines <!-- BEGIN generated: rooms -->"):
        architecture.renewed("# Page\n", {})


def test_what_writes_a_file_is_there() -> None:
    named_there = {
        script
        for path in HOUSE.rglob("*.py")
        for script in re.findall(
            r"^Generated by (\S+\.py)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert len(named_there) > 1
    assert all((ROOT / script).is_file() for script in named_there)


def test_make_docs_runs_all_that_need_no_server() -> None:
    scripts = {path.name for path in ROOT.glob("tools/generate/*.py")} - {"guc_catalog.py"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^docs: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert set(re.findall(r"tools/generate/(\S+)", recipe)) == scripts
