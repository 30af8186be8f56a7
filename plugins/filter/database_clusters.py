# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: which servers and PgBouncer hosts of an inventory belong together."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model import (
    database_clusters as clusters,
)

DOCUMENTATION = r"""
name: database_clusters
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: Which servers and PgBouncer hosts of an inventory belong together
description:
  - Reads C(pooled_cluster) of the hosts of two groups.
  - A server without it is a cluster of its own, with the server's name.
  - A host with PgBouncer and a server belongs to that server. A host with PgBouncer alone belongs to the cluster that it
    names, or else to the only one there is.
  - Where there are several, C(pgbouncer_backend_host) or C(pgbouncer_postgres_group) of such a host says which one is meant.
    A host before a Postgres elsewhere is then a cluster of its own.
  - C(hostvars) has what inventories, C(group_vars), C(host_vars) and C(-e) say, and nothing that a play or a role says in
    its C(vars).
positional: hostvars, servers, poolers
options:
  _input:
    description: Ansible's C(groups).
    type: dict
    required: true
  hostvars:
    description: Ansible's C(hostvars).
    type: dict
    required: true
  servers:
    description: Name of the group of the hosts with Postgres, which may be missing.
    type: str
    default: postgres
  poolers:
    description: Name of the group of the hosts with PgBouncer, which may be missing.
    type: str
    default: pgbouncer
"""

EXAMPLES = r"""
- name: Show which hosts belong together
  ansible.builtin.debug:
    msg: "{{ (groups | pooled.postgres.database_clusters(hostvars)).clusters }}"
"""

RETURN = r"""
_value:
  description:
    - C(clusters), a list with C(name), C(servers) and C(poolers) of each.
    - C(problems), by host what is wrong with what the inventory says of it. A host that can't be placed is in no cluster.
  type: dict
"""


def database_clusters(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    servers: str = "postgres",
    poolers: str = "pgbouncer",
) -> dict[str, Any]:
    """The clusters as plain data."""
    found = clusters.database_clusters(
        groups.get(servers) or (), groups.get(poolers) or (), hostvars, groups
    )
    return {
        "clusters": [
            {"name": one.name, "servers": list(one.servers), "poolers": list(one.poolers)}
            for one in found.clusters
        ],
        "problems": dict(found.problems),
    }


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"database_clusters": database_clusters}
