# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the model without its passwords, for hosts and modules that need none."""

from __future__ import annotations

from collections.abc import Mapping
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


def without_passwords(databases: Any) -> Any:
    """The model, with all keys but the roles' passwords.

    What is not a model stays as it is, for its reader to report what is wrong with it.
    """
    if not isinstance(databases, (list, tuple)):
        return databases
    return [_database(entry) if isinstance(entry, Mapping) else entry for entry in databases]


def _database(entry: Mapping[str, Any]) -> dict[str, Any]:
    roles = entry.get("roles") or []
    if not isinstance(roles, (list, tuple)):
        return dict(entry)
    return {
        **entry,
        "roles": [_role(role) if isinstance(role, Mapping) else role for role in roles],
    }


def _role(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "password"}


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"without_passwords": without_passwords}
