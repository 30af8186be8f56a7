# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the model with a connection limit for each of its roles."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils._settings import role_limits

DOCUMENTATION = r"""
name: with_connection_limits
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: The model with a connection limit for each of its roles
description:
  - Gives each role of the model that has no C(connection_limit) twice the connections that the connection budget counts for
    it, and at least 10. The hardening profile V(cis) uses it.
positional: counted
options:
  _input:
    description: The model, as in C(pooled_databases).
    type: list
    elements: dict
    required: true
  counted:
    description:
      - Connections by role, as C(role_connections) of P(pooled.postgres.connection_budget#filter).
      - V(null) when there is no budget. Then a role without a limit is an error.
    type: dict
"""

EXAMPLES = r"""
- name: Show which limits the profile cis would set
  ansible.builtin.debug:
    msg: "{{ pooled_databases | pooled.postgres.without_passwords | pooled.postgres.with_connection_limits(budget.role_connections) }}"
  vars:
    budget: "{{ pooled_databases | pooled.postgres.connection_budget }}"
"""

RETURN = r"""
_value:
  description: The model, with C(connection_limit) in each role that is to be there.
  type: list
  elements: dict
"""


def with_connection_limits(
    databases: Sequence[Mapping[str, Any]], counted: Mapping[str, int] | None = None
) -> list[Any]:
    """The model."""
    try:
        return role_limits.with_connection_limits(databases, counted)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"with_connection_limits": with_connection_limits}
