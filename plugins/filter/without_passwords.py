# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the model without its passwords, for hosts and modules that need none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: without_passwords
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: The model of databases and roles without its passwords
description:
  - Leaves the passwords out of C(pooled_databases), for what needs to know the roles but not their secrets.
options:
  _input:
    description: The model, as O(pooled.postgres.postgres_access#module:databases) takes it.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Let the model's roles log in
  pooled.postgres.postgres_hba:
    version: 17
    databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
  become: true
"""

RETURN = r"""
_value:
  description: The same databases, whose roles have no C(password).
  type: list
  elements: dict
"""


def without_passwords(databases: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The model, with all keys but the roles' passwords."""
    return [
        {
            **database,
            "roles": [
                {key: value for key, value in role.items() if key != "password"}
                for role in database.get("roles") or []
            ],
        }
        for database in databases
    ]


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"without_passwords": without_passwords}
