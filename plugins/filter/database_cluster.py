# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the servers and PgBouncer hosts that a host belongs to."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._model import (
    database_clusters,
)

DOCUMENTATION = r"""
name: database_cluster
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: The servers and PgBouncer hosts that a host belongs to
description:
  - Picks the cluster of a host out of what P(pooled.postgres.database_clusters#filter) returns.
  - A host that is in none of the groups belongs to the cluster that it names, or else to the only one there is.
positional: host, given
options:
  _input:
    description: What P(pooled.postgres.database_clusters#filter) returns.
    type: dict
    required: true
  host:
    description: Name of the host in the inventory.
    type: str
    required: true
  given:
    description: C(pooled_cluster) of the host, for one that is in none of the groups.
    type: str
    default: ""
  pooler:
    description: Whether the host is one of PgBouncer, which needs a server.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show the PgBouncer hosts before this server
  ansible.builtin.debug:
    msg: "{{ (groups | pooled.postgres.database_clusters(hostvars) | pooled.postgres.database_cluster(inventory_hostname)).poolers }}"
"""

RETURN = r"""
_value:
  description:
    - C(name), C(servers) and C(poolers) of the cluster. The name is empty where it is not known which one is meant.
    - C(problem), what is wrong with what the inventory says of the host; empty when nothing is.
    - C(heading), a list with a line about the cluster for reports; empty where there is no other cluster.
  type: dict
"""


def database_cluster(
    found: Mapping[str, Any], host: str, given: Any = "", pooler: bool = False
) -> dict[str, Any]:
    """The cluster as plain data."""
    clusters = tuple(
        database_clusters.DatabaseCluster(one["name"], tuple(one["servers"]), tuple(one["poolers"]))
        for one in found["clusters"]
    )
    cluster, problem = database_clusters.DatabaseClusters(clusters, found["problems"]).of_role(
        host, given, pooler=pooler
    )
    several = len(clusters) > 1 and cluster in clusters
    return {
        "name": cluster.name,
        "servers": list(cluster.servers),
        "poolers": list(cluster.poolers),
        "problem": problem,
        "heading": [database_clusters.heading(cluster)] if several else [],
    }


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"database_cluster": database_cluster}
