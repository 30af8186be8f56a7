# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of kinds, against the one on the page about access."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._model.role_kinds import (
    ALL_KINDS,
    EXTENSION_SCHEMA,
    KINDS,
    POOLER,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    LARGE_OBJECTS,
    OBJECT_CLASSES,
)

PAGE = (Path(__file__).resolve().parents[5] / "docs" / "access.md").read_text(encoding="utf-8")
# What the page calls each class of objects, and what it says where a kind has no say in it.
ROWS = {
    "the database": "database",
    "its schemas": "schema",
    "tables, partitions, views": "tables",
    "sequences": "sequences",
    "routines": "routines",
    "types": "types",
    "large objects of migrators": LARGE_OBJECTS,
}
OWNED = "what it owns"


def table() -> list[list[str]]:
    """The cells of each row of the page's table, the line below its head left out."""
    section = PAGE.partition("\n## What each kind may do\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    return [rows[0], *rows[2:]]


KIND_NAMES = [cell.strip("`") for cell in table()[0][1:]]
CELLS = {
    (row[0], kind): cell
    for row in table()[1:]
    for kind, cell in zip(KIND_NAMES, row[1:], strict=True)
}


def said(row: str, kind: str) -> str:
    cell = CELLS[row, kind]
    return CELLS[row, cell[4:-1]] if cell.startswith("as `") else cell


def test_the_page_has_each_kind_in_order() -> None:
    assert list(KINDS) == KIND_NAMES


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", ROWS)
def test_rights_are_those_on_the_page(row: str, kind: str) -> None:
    rights = KINDS[kind].rights.get(ROWS[row])
    cell = said(row, kind)
    if rights is None:
        assert cell == OWNED
    else:
        assert set(cell.split(", ")) - {""} == set(rights)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_those_on_the_page(kind: str) -> None:
    shown = {row.strip("`"): cell for (row, of), cell in CELLS.items() if of == kind and "`" in row}
    assert {name: value for name, value in shown.items() if value} == dict(KINDS[kind].settings)


@pytest.mark.parametrize("kind", KINDS)
def test_row_level_security_is_as_on_the_page(kind: str) -> None:
    around = "BYPASSRLS" in KINDS[kind].attributes
    assert around == ("BYPASSRLS" in CELLS["row-level security", kind])
    assert KINDS[kind].attributes - {"BYPASSRLS"} == {"LOGIN", "INHERIT"}


def test_the_page_has_no_other_rows() -> None:
    named = {name for kind in KINDS.values() for name in kind.settings}
    assert {row for row, _kind in CELLS} == {
        *ROWS,
        "row-level security",
        *(f"`{name}`" for name in named),
    }


def test_each_kind_but_the_migrator_has_rights_on_each_class() -> None:
    classes = {"database", "schema", EXTENSION_SCHEMA, *OBJECT_CLASSES, LARGE_OBJECTS}
    for name, kind in ALL_KINDS.items():
        if name != "migrator":
            assert set(kind.rights) == classes


def test_reader_and_pooler_can_change_nothing() -> None:
    for name in ("reader", POOLER):
        rights = {right for rights in ALL_KINDS[name].rights.values() for right in rights}
        assert rights <= {"CONNECT", "USAGE", "SELECT"}
        assert "USAGE" not in ALL_KINDS[name].rights["sequences"]
