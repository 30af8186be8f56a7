# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: whether all clients and pools fit what they connect to."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections import (
    budget,
)

DOCUMENTATION = r"""
name: connection_budget
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: Add up connections, and fail when they do not fit
description:
  - Adds up the pools of PgBouncer, the clients that connect directly, monitoring and the reserved
    slots, and compares the sum with C(max_connections).
  - Compares the clients of PgBouncer with C(max_client_conn), each role's C(connection_limit) with
    what its pools and clients need, and C(LimitNOFILE) with what a process of PgBouncer opens.
  - Fails with the table and the remedies when something does not fit.
positional: poolers, max_connections
options:
  _input:
    description: The model, C(pooled_databases).
    type: list
    elements: dict
    required: true
  poolers:
    description:
      - The PgBouncer hosts, each with C(name) and, where they differ from the collection's
        defaults, C(default_pool_size), C(reserve_pool_size), C(max_client_conn), C(processes) and
        C(limit_nofile).
      - C(databases) of a host has C(pool_size), C(reserve_pool_size) and C(max_db_connections) by
        name of a database, and C(users) has C(pool_size), C(reserve_pool_size) and
        C(max_user_connections) by name of a role. The name C(*) has the limit of all databases or
        users without one of their own, and nothing else.
      - As PgBouncer does it, the sizes of a user win over those of a database, and these over the
        host's. A size of 0 means no limit, and is refused where no other limit holds.
      - P(pooled.postgres.poolers#filter) builds it from the inventory.
    type: list
    elements: dict
    default: []
  max_connections:
    description:
      - The server's setting, or V(auto) to derive it.
      - V(auto) is the sum, rounded up to tens, at least 20; and 100 when the model has no roles.
    type: str
    default: auto
  superuser_reserved_connections:
    description: The server's setting.
    type: int
    default: 3
  reserved_connections:
    description: The server's setting, 0 before Postgres 16.
    type: int
    default: 0
  exporters:
    description: Sessions of monitoring.
    type: int
    default: 3
notes:
  - Each role of kind C(user) or C(reader), and each role that a client uses through PgBouncer, has
    a pool on each PgBouncer host in each of its databases.
  - C(max_user_connections) limits each pool of a role, and C(max_db_connections) also all pools of
    a database together. That a role's pools in several databases share its limit is not counted.
  - PgBouncer looks up verifiers with 2 connections for each database on each of its hosts.
  - Each role of kind C(migrator) or C(admin) without a direct client is allowed 2 direct sessions
    in each of its databases.
"""

EXAMPLES = r"""
- name: Show the connection budget
  ansible.builtin.debug:
    msg: "{{ (pooled_databases | pooled.postgres.connection_budget([{'name': 'pool1'}], 100)).table }}"
"""

RETURN = r"""
_value:
  description:
    - C(max_connections), as given or derived; C(needed), the sum.
    - C(rows), the parts of the sum, with C(kind), C(database), C(role), C(what), C(formula),
      C(connections).
    - C(client_rows), the clients of PgBouncer likewise; C(client_connections), their sum;
      C(max_client_connections), what PgBouncer takes.
    - C(role_connections), by role the sum of its rows, which is the least C(connection_limit) for it.
    - C(descriptors), a list of what a process of PgBouncer may have open, C(needed), and its C(limit), by C(hosts).
    - C(warnings), and C(table), lines for people to read.
  type: dict
"""


def connection_budget(
    databases: Any,
    poolers: Any = (),
    max_connections: int | str = "auto",
    superuser_reserved_connections: int | str = 3,
    reserved_connections: int | str = 0,
    exporters: int | str = budget.EXPORTER_SESSIONS,
) -> dict[str, Any]:
    """The budget as plain data."""
    try:
        found = budget.connection_budget(
            databases,
            poolers,
            max_connections,
            superuser_reserved_connections,
            reserved_connections,
            exporters,
        )
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    return budget.as_data(found)


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"connection_budget": connection_budget}
