# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter audit_summary."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._audit import report
from ansible_collections.pooled.postgres.plugins.module_utils._text import printable_lines

DOCUMENTATION = r"""
name: audit_summary
short_description: An audit as lines for a terminal
version_added: 0.1.0
author: pooled.postgres contributors (@pooled)
description:
  - What was found, worst first, in columns; then what is accepted, and what could not be checked.
positional: _input, name
options:
  _input:
    description: What M(pooled.postgres.postgres_audit_info) returned.
    type: dict
    required: true
  name:
    description: Name of the server, for the first line.
    type: str
    required: true
  brief:
    description: Whether to leave out what was not checked.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the audit
  ansible.builtin.debug:
    msg: "{{ audit | pooled.postgres.audit_summary(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


def audit_summary(result: Mapping[str, Any], name: str, brief: bool = False) -> list[str]:
    """The lines."""
    lines: list[str] = printable_lines(report.summary_lines(name, result, brief))
    return lines


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"audit_summary": audit_summary}
