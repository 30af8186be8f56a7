# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the file with the client settings of a cluster."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils import _client_settings

DOCUMENTATION = r"""
name: client_settings_path
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: The file with the client settings of a cluster
description:
  - A path that no other cluster has is taken as it is. One that several clusters have gets the cluster's name, before the
    ending of the file's name.
positional: found, cluster, hostvars
options:
  _input:
    description: C(pooled_client_settings_file) of the cluster.
    type: str
    required: true
  found:
    description: What P(pooled.postgres.database_clusters#filter) returns.
    type: dict
    required: true
  cluster:
    description: The name of the cluster.
    type: str
    required: true
  hostvars:
    description: Ansible's C(hostvars), for the paths of the other clusters.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show where the client settings of the cluster orders are
  ansible.builtin.debug:
    msg: >-
      {{ 'clients.yml' | pooled.postgres.client_settings_path(
        groups | pooled.postgres.database_clusters(hostvars), 'orders', hostvars) }}
"""

RETURN = r"""
_value:
  description: The path.
  type: str
"""


def client_settings_path(
    path: str, found: Mapping[str, Any], cluster: str, hostvars: Mapping[str, Mapping[str, Any]]
) -> str:
    """The path."""
    others = [
        hostvars[(one["servers"] + one["poolers"])[0]].get("pooled_client_settings_file")
        for one in found["clusters"]
        if one["name"] != cluster
    ]
    return _client_settings.path_of_cluster(path, cluster, others)


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"client_settings_path": client_settings_path}
