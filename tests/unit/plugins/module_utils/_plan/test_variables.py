# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each variable by itself: what is not valid hides nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._plan.problems import Problems
from ansible_collections.pooled.postgres.plugins.module_utils._plan.variables import (
    checked_variables,
)

OPTIONS: dict[str, dict[str, Any]] = {
    "my_port": {"type": "int", "default": "{{ nothing }}"},
    "my_rules": {"type": "list", "elements": "dict"},
    "my_profile": {"type": "str", "choices": ["standard", "cis"]},
    "my_tls": {"type": "bool"},
    "my_version": {"type": "int"},
}
DEFAULTS: dict[str, Any] = {
    "my_port": 5432,
    "my_rules": [],
    "my_profile": "{{ other | default('standard') }}",
    "my_tls": "{{ other_tls | default(false) }}",
    "my_version": None,
}
RIGHT: dict[str, Any] = {
    "my_port": "5433",
    "my_rules": [{"type": "local"}],
    "my_profile": "cis",
    "my_tls": "false",
    "my_version": None,
}


def checked(**changes: Any) -> tuple[dict[str, Any], list[str]]:
    problems = Problems()
    return checked_variables(problems, OPTIONS, DEFAULTS, {**RIGHT, **changes}), problems


def test_values_get_their_types() -> None:
    values, problems = checked()
    assert problems == []
    assert values == {**RIGHT, "my_port": 5433, "my_tls": False}


@pytest.mark.parametrize(
    ("name", "value", "instead", "words"),
    [
        ("my_port", "abc", 5432, "'my_port' is of type"),
        ("my_port", None, 5432, "my_port: null is not a valid value; leave it out for the default,"
         " 5432"),
        ("my_rules", "x", [], "my_rules"),
        ("my_rules", None, [], "my_rules: null is not a valid value"),
        ("my_profile", "paranoid", "standard", "my_profile must be one of: standard, cis"),
        ("my_tls", "perhaps", False, "'my_tls' is of type"),
        ("my_tls", None, False, "my_tls: null is not a valid value; leave it out for the default"),
        ("my_version", "seventeen", None, "'my_version' is of type"),
    ],
)  # fmt: skip
def test_what_is_not_valid_is_named_and_replaced(
    name: str, value: Any, instead: Any, words: str
) -> None:
    values, problems = checked(**{name: value})
    assert len(problems) == 1
    assert words in problems[0]
    assert values == {**checked()[0], name: instead}


def test_each_is_named() -> None:
    _values, problems = checked(my_port="abc", my_rules=None, my_profile="paranoid")
    assert len(problems) == 3
