# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter audit_page."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._audit import page

DOCUMENTATION = r"""
name: audit_page
short_description: Audits as one self-contained page of HTML
version_added: 0.1.0
author: pooled.postgres contributors (@pooled)
description:
  - The findings, the memory and connection budgets as bars, and the sessions by state, of all hosts.
  - The page needs no network, no script and no other file. It is light or dark as the reader prefers, and good on a phone and on paper.
positional: _input, hosts
options:
  _input:
    description: What M(pooled.postgres.postgres_audit_info) returned, by host.
    type: dict
    required: true
  hosts:
    description: All hosts that were meant. Those without a result are named on the page.
    type: list
    elements: str
    default: []
  when:
    description: Time of the audit, as it is to be shown.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Write the page
  ansible.builtin.copy:
    content: "{{ {inventory_hostname: audit} | pooled.postgres.audit_page }}"
    dest: audit.html
    mode: "0600"
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""


def audit_page(
    results: Mapping[str, Mapping[str, Any]], hosts: Iterable[str] = (), when: str = ""
) -> str:
    """The page."""
    return page.page(results, hosts, when)


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"audit_page": audit_page}
