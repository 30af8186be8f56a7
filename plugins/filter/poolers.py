# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the PgBouncer hosts as the connection budget wants them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections.from_inventory import (
    pooler_of,
)

DOCUMENTATION = r"""
name: poolers
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: The pools of PgBouncer hosts, for the connection budget
description:
  - Picks the variables that size a PgBouncer host's pools out of the variables of those hosts.
  - C(pgbouncer_settings) wins over the variables C(pgbouncer_default_pool_size),
    C(pgbouncer_reserve_pool_size) and C(pgbouncer_max_client_conn), and V(null) there means
    PgBouncer's own default, as in the role C(pgbouncer).
  - What a host does not set is left out, and the connection budget takes the collection's default.
  - C(hostvars) has what inventories, C(group_vars), C(host_vars) and C(-e) say, and nothing that a
    play or a role says in its C(vars). Who sizes pools there also gives the role C(postgres) its
    C(postgres_poolers).
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
    - One dictionary for each host, with its C(name) and, where set, C(default_pool_size),
      C(reserve_pool_size), C(max_client_conn), C(processes) and C(limit_nofile).
    - C(databases) and C(users), where set, have what C(pgbouncer_database_options) and
      C(pgbouncer_user_options) say of pools. There, the name C(*) has C(max_db_connections) and
      C(max_user_connections) of C(pgbouncer_settings).
  type: list
  elements: dict
"""


def poolers(
    hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The pools' sizes, host by host."""
    try:
        return [pooler_of(host, hostvars[host]) for host in hosts]
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"poolers": poolers}
