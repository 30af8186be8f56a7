# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a role documents is what it does: argument specs, defaults and READMEs agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tools.generate import role_docs

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
TYPES = {
    "bool": bool,
    "dict": dict,
    "float": (int, float),
    "int": int,
    "list": list,
    "path": str,
    "str": str,
}

# (role, variable, its part of the spec)
OPTIONS = [(role, name, spec) for role in ROLES for name, spec in role_docs.options(role).items()]
IDS = [f"{role}-{name}" for role, name, _spec in OPTIONS]


def is_template(value: Any) -> bool:
    return isinstance(value, str) and "{{" in value


def all_options(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """An option and all that are nested in it."""
    inner = [found for nested in spec.get("options", {}).values() for found in all_options(nested)]
    return [spec, *inner]


def test_there_are_roles_and_options():
    assert {"pgbouncer", "postgres", "postgres_access"} <= set(ROLES)
    assert len(OPTIONS) > 20


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_spec_name_the_same_variables(role):
    defaults = set(role_docs.load(role, "defaults/main.yml"))
    spec = role_docs.options(role)
    required = {name for name, option in spec.items() if option.get("required")}
    assert defaults == set(spec) - required


@pytest.mark.parametrize(("role", "name", "spec"), OPTIONS, ids=IDS)
def test_default_is_the_same_in_spec_and_defaults(role, name, spec):
    defaults = role_docs.load(role, "defaults/main.yml")
    if name not in defaults:
        assert spec.get("required")
        return
    value = defaults[name]
    if is_template(value):
        assert spec.get("default", value) == value
        # Ansible prints a spec, filled in, when its check fails; the default would be in it.
        assert "default" not in spec or not re.search("pooled_databases|password", value)
    elif value is None:
        assert spec.get("default") is None
    else:
        assert spec.get("default") == value, f"defaults/main.yml says {value!r}"


@pytest.mark.parametrize(("role", "name", "spec"), OPTIONS, ids=IDS)
def test_default_has_the_type_of_the_spec(role, name, spec):
    value = role_docs.load(role, "defaults/main.yml").get(name)
    if value is None or is_template(value):
        return
    kind = spec.get("type", "str")
    if kind == "raw":
        return
    assert isinstance(value, TYPES[kind])
    assert kind == "bool" or not isinstance(value, bool)
    if "choices" in spec:
        assert set(value if kind == "list" else [value]) <= set(spec["choices"])


@pytest.mark.parametrize(("role", "name", "spec"), OPTIONS, ids=IDS)
def test_option_is_described_and_of_a_known_type(role, name, spec):
    assert name.startswith((f"{role}_", "pooled_")), f"{name} lacks its role's prefix"
    for option in all_options(spec):
        assert option.get("description")
        kind = option.get("type", "str")
        assert kind in {*TYPES, "raw"}
        assert (kind == "list") == ("elements" in option)
        # An error message shows the choices' offender, so no secret may have choices.
        assert not (option.get("no_log") and "choices" in option)


@pytest.mark.parametrize("role", ROLES)
def test_each_default_has_a_comment(role):
    lines = (ROOT / "roles" / role / "defaults" / "main.yml").read_text(encoding="utf-8")
    uncommented = [
        line
        for before, line in zip(lines.splitlines(), lines.splitlines()[1:])
        if re.match(r"[a-z]\w*:", line) and not before.startswith("#")
    ]
    assert uncommented == []


@pytest.mark.parametrize("role", ROLES)
def test_readme_has_the_current_table(role):
    text = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    assert role_docs.renewed(role, text) == text, "run: make docs"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Plain.", "Plain."),
        (["Two", "parts."], "Two parts."),
        ("O(a_b) and V(on) and C(SHOW x)", "`a_b` and `on` and `SHOW x`"),
        ("See RV(result) of M(pooled.postgres.x)", "See `result` of `pooled.postgres.x`"),
        ("C(f(x))", "`f(x)`"),
        ("O(pooled.postgres.x#module:rules)", "`rules` of `pooled.postgres.x`"),
        ("P(pooled.postgres.postgres_access#role)", "`pooled.postgres.postgres_access`"),
        ("B(never) a | b", "**never** a \\| b"),
    ],
)
def test_plain(text, expected):
    assert role_docs.plain(text) == expected


def test_renewed_refuses_a_readme_without_markers():
    with pytest.raises(ValueError, match="has no lines <!-- BEGIN generated: role postgres -->"):
        role_docs.renewed("postgres", "# postgres\n")
