# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: PgBouncer hosts that would come to Postgres without TLS."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._certificates import (
    pooled_tls,
)

DOCUMENTATION = r"""
name: plain_poolers
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: PgBouncer hosts that would come to Postgres without TLS
description:
  - Picks those hosts of whom the inventory does not say that they use TLS to a Postgres on another host, by C(pgbouncer_server_tls_sslmode),
    C(pgbouncer_settings), C(pgbouncer_tls) or C(pooled_tls).
positional: hostvars
options:
  _input:
    description: Names of PgBouncer hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description: Ansible's C(hostvars).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show who has no TLS
  ansible.builtin.debug:
    msg: "{{ groups['pgbouncer'] | pooled.postgres.plain_poolers(hostvars) }}"
"""

RETURN = r"""
_value:
  description: The names, in order.
  type: list
  elements: str
"""


def plain_poolers(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Their names."""
    return pooled_tls.plain_poolers(hosts, hostvars)


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"plain_poolers": plain_poolers}
