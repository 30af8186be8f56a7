# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: why a cluster can't be set up or managed."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._host import debian

DOCUMENTATION = r"""
name: cluster_problems
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: Why a cluster can't be set up or managed
description:
  - Checks what Debian's tools and systemd would make of a cluster before anything changes, and that all who connect find it.
options:
  _input:
    description: What M(pooled.postgres.host_resources_info) returned.
    type: dict
    required: true
  name:
    description: Name of the cluster.
    type: str
    required: true
  major:
    description: Its major version.
    type: int
    required: true
  port:
    description: Port at which everything connects.
    type: int
    default: 5432
  listen_addresses:
    description: Addresses on which it is to listen; null leaves that to the settings.
    type: str
  settings:
    description: Checked settings, with null values.
    type: dict
    default: {}
  new_options:
    description: What is asked of a new cluster, as in C(createcluster.conf).
    type: dict
    default: {}
  new_locale:
    description: The locale of a new cluster, which the host was asked about; empty where other options decide.
    type: str
    default: ''
seealso:
  - plugin: pooled.postgres.checked_settings
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Refuse a cluster that can't be managed
  ansible.builtin.assert:
    that: problems == []
    fail_msg: "{{ problems | join('; ') }}"
  vars:
    problems: "{{ found | pooled.postgres.cluster_problems('main', 17) }}"
"""

RETURN = r"""
_value:
  description: The problems in words; empty when there are none.
  type: list
  elements: str
"""


def cluster_problems(
    host: Mapping[str, Any],
    name: str,
    major: int | str,
    port: int | str = 5432,
    listen_addresses: str | None = None,
    settings: Mapping[str, str | None] | None = None,
    new_options: Mapping[str, str] | None = None,
    new_locale: str = "",
) -> list[str]:
    """The problems in words."""
    return debian.cluster_problems(
        name,
        int(major),
        int(port),
        listen_addresses,
        settings or {},
        host["postgres"]["clusters"],
        host["createcluster"],
        new_options or {},
        new_locale,
        host["locale_encoding"],
    )


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"cluster_problems": cluster_problems}
