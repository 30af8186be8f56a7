# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what would be chosen for a server, and why, for people to read."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._budget import what_if

DOCUMENTATION = r"""
name: plan_lines
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: What would be chosen for a server, and why, for people to read
description:
  - Renders the memory budget, all settings with what bound them, and the connection budget. The
    playbook C(pooled.postgres.plan) uses it.
positional: memory, settings, given, max_connections, preload_libraries, connections, hardening
options:
  _input:
    description: The machine, as RV(pooled.postgres.host_resources_info#module:resources) describes it.
    type: dict
    required: true
  memory:
    description: What P(pooled.postgres.memory_budget#filter) returns.
    type: dict
    required: true
  settings:
    description: All settings that the role P(pooled.postgres.postgres#role) writes.
    type: dict
    required: true
  given:
    description: Those that the user decides, as P(pooled.postgres.checked_settings#filter) returns them; V(null) for the server's default.
    type: dict
    required: true
  max_connections:
    description: The role's variable C(postgres_max_connections).
    type: str
    default: auto
  preload_libraries:
    description: The role's variable C(postgres_preload_libraries).
    type: list
    elements: str
    default: []
  connections:
    description: What P(pooled.postgres.connection_budget#filter) returns; V(null) where no client is known.
    type: dict
  hardening:
    description: What P(pooled.postgres.hardening#filter) returns.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show what the role would choose
  ansible.builtin.debug:
    msg: "{{ host.resources | pooled.postgres.plan_lines(memory, memory.settings, {}) }}"
  vars:
    memory: "{{ host.resources | pooled.postgres.memory_budget }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


def plan_lines(
    resources: Mapping[str, Any],
    memory: Mapping[str, Any],
    settings: Mapping[str, Any],
    given: Mapping[str, Any],
    max_connections: int | str = "auto",
    preload_libraries: Sequence[str] = (),
    connections: Mapping[str, Any] | None = None,
    hardening: Mapping[str, Any] | None = None,
) -> list[str]:
    """The lines."""
    return what_if.lines(
        resources,
        memory,
        settings,
        given,
        max_connections,
        preload_libraries,
        connections,
        hardening or {},
    )


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"plan_lines": plan_lines}
