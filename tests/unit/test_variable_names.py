# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of known variables is that of the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.generate import role_docs, variable_names

ROOT = Path(__file__).resolve().parents[2]


def test_the_file_is_current() -> None:
    found = variable_names.TARGET.read_text(encoding="utf-8")
    assert found == variable_names.text(), "run: make docs"


@pytest.mark.parametrize("role", role_docs.roles())
def test_the_table_of_each_role_is_known(role: str) -> None:
    table = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `([a-z_]+)`", table, re.MULTILINE)
    assert documented
    assert set(documented) <= set(variable_names.names())


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"when": "postgres_tls and not x.pooled_a"}, {"postgres_tls", "x", "pooled_a"}),
        ({"vars": {"a": "{{ postgres_port | default(1) }}"}}, {"postgres_port"}),
        ([{"that": ["audit_a == 'audit_b'", "{{ audit_c }}"]}], {"audit_a", "audit_c"}),
        # Text, keys and modules are not variables.
        ({"name": "postgres_tls", "pooled.postgres.postgres_hba": {"postgres_a": "b"}}, set()),
        ({"msg": "{{ x | pooled.postgres.audit_page }}"}, {"x"}),
    ],
)
def test_names_in_yaml(document: object, expected: set[str]) -> None:
    found = set()
    for template in variable_names.templates(document):
        found |= variable_names.used(template)
    assert found == expected


def test_names_in_plugins() -> None:
    source = (
        'variables.get("pooled_a"); own(variables, "pooled_b"); other("pooled_c")\n'
        'settings.get("pooled_d"); variables.get(name)\n'
    )
    assert set(variable_names.read_by_plugin(source)) == {"pooled_a", "pooled_b"}
