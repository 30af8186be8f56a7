# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule's scenarios know nothing of each other: what several use is in molecule/shared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path.name for path in (ROOT / "molecule").iterdir() if path.is_dir())
SHARED = "shared"


def folders_used(folder: Path) -> set[str]:
    """Folders beside this one that its files and links name in paths."""
    found: set[str] = set()
    for path in folder.rglob("*"):
        if path.is_symlink():
            text = str(path.resolve())
        elif path.is_file() and path.suffix != ".pyc":
            text = path.read_text(encoding="utf-8")
        else:
            continue
        found |= set(re.findall(r"(?:\.\.|molecule)/(\w+)/", text))
    return found & set(FOLDERS)


def test_each_folder_is_a_scenario_or_shared() -> None:
    scenarios = {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")}
    assert {*FOLDERS} == {SHARED, *scenarios}


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_of_another_scenario_are_not_used(folder: str) -> None:
    assert folders_used(ROOT / "molecule" / folder) <= {folder, SHARED}


def test_what_is_shared_is_found() -> None:
    users = {name for name in FOLDERS if SHARED in folders_used(ROOT / "molecule" / name)}
    assert {"default", "takeover", "update"} <= users
