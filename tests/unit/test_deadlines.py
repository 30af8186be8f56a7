# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No property fails because the machine is slow: one profile sees to it, for all tests."""

from __future__ import annotations

import ast
from pathlib import Path

from hypothesis import given, settings, strategies as st

TESTS = Path(__file__).resolve().parents[1]


@settings(max_examples=1)
@given(st.none())
def example(_nothing: None) -> None:
    """A property that has settings of its own."""


def test_the_profile_is_in_force() -> None:
    assert settings.default is not None
    assert settings.default.deadline is None
    assert example._hypothesis_internal_use_settings.deadline is None  # type: ignore[attr-defined]


def test_no_test_has_a_deadline_of_its_own() -> None:
    found = [
        f"{path.relative_to(TESTS)}:{node.lineno}"
        for path in TESTS.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "deadline"
        if path != TESTS / "conftest.py"
    ]
    assert found == []


def test_only_one_file_loads_a_profile() -> None:
    loading = [
        path.name for path in TESTS.rglob("*.py") if "load_profile(" in path.read_text("utf-8")
    ]
    assert loading == ["conftest.py", Path(__file__).name]
