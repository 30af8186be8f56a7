# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: check access rules and networks before anything changes."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import check_rules

DOCUMENTATION = r"""
name: checked_hba
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: Check access rules and networks before anything changes
description:
  - Checks extra rules of C(pg_hba.conf), and networks in CIDR notation.
  - Fails naming the variable, the entry and what is allowed.
positional: client_networks, pooler_networks
options:
  _input:
    description: Extra rules, C(postgres_hba), as O(pooled.postgres.postgres_hba#module:rules) takes
      them.
    type: list
    elements: dict
    required: true
  client_networks:
    description: Networks from which the model's roles may log in, C(postgres_client_networks).
    type: list
    elements: str
    default: []
  pooler_networks:
    description: Networks of PgBouncer hosts, C(postgres_pooler_networks).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Refuse networks that are none
  ansible.builtin.assert:
    that: (postgres_hba | pooled.postgres.checked_hba(postgres_client_networks)).warnings | length == 0
"""

RETURN = r"""
_value:
  description:
    - C(rules), each rule as the line that the file gets.
    - C(client_networks) and C(pooler_networks), each once and in normal form.
    - C(warnings), what is allowed and unwise.
  type: dict
"""


def checked_hba(
    rules: Any, client_networks: Any = (), pooler_networks: Any = ()
) -> dict[str, list[str]]:
    """The rules and networks, checked."""
    try:
        checked = check_rules(
            rules, client_networks, pooler_networks, poolers_variable="postgres_pooler_networks"
        )
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    return {
        "rules": [rule.line() for rule in checked.rules],
        "client_networks": list(checked.client_networks),
        "pooler_networks": list(checked.pooler_networks),
        "warnings": list(checked.warnings),
    }


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"checked_hba": checked_hba}
