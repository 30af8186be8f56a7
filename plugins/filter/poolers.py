# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the PgBouncer hosts as the connection budget wants them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: poolers
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: The pools of PgBouncer hosts, for the connection budget
description:
  - Picks the variables that size a PgBouncer host's pools out of the variables of those hosts.
  - What a host does not set is left out, and the connection budget takes the collection's default.
positional: hostvars
options:
  _input:
    description: Names of the PgBouncer hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description: Ansible's C(hostvars).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Size a server for the pools of two PgBouncer hosts
  ansible.builtin.include_role:
    name: pooled.postgres.postgres
  vars:
    postgres_poolers: "{{ groups['pgbouncer'] | pooled.postgres.poolers(hostvars) }}"
"""

RETURN = r"""
_value:
  description:
    - One dictionary for each host, with its C(name) and, where set, C(default_pool_size), C(reserve_pool_size) and C(max_client_conn).
  type: list
  elements: dict
"""

_OPTIONS = ("default_pool_size", "reserve_pool_size", "max_client_conn")


def poolers(
    hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The pools' sizes, host by host."""
    return [
        {
            "name": host,
            **{
                option: hostvars[host][f"pgbouncer_{option}"]
                for option in _OPTIONS
                if f"pgbouncer_{option}" in hostvars[host]
            },
        }
        for host in hosts
    ]


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"poolers": poolers}
