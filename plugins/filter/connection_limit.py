# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: a connection limit for a role that nobody gave one."""

from __future__ import annotations

from typing import Any

from ansible_collections.pooled.postgres.plugins.module_utils._settings.role_limits import (
    connection_limit,
)

DOCUMENTATION = r"""
name: connection_limit
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: A connection limit for a role that nobody gave one
description:
  - Twice the connections that the connection budget counts for the role, and at least 10. The hardening profile V(cis) uses it.
options:
  _input:
    description: Connections that are counted for the role.
    type: int
    required: true
seealso:
  - plugin: pooled.postgres.with_connection_limits
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the limit of a role with 25 connections
  ansible.builtin.debug:
    msg: "{{ 25 | pooled.postgres.connection_limit }}"
"""

RETURN = r"""
_value:
  description: The limit.
  type: int
"""


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"connection_limit": lambda counted: connection_limit(int(counted))}
