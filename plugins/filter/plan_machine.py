# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: a machine in words, as the role postgres finds a real one."""

from __future__ import annotations

from typing import Any, Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils._budget import what_if

DOCUMENTATION = r"""
name: plan_machine
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: A machine in words, as the role postgres finds a real one
description:
  - Lets the role P(pooled.postgres.postgres#role) plan for a machine that is not there. The playbook
    C(pooled.postgres.plan) uses it.
positional: variables, defaults, default_versions
options:
  _input:
    description:
      - What is said of the machine; V(null) where nothing is.
      - C(memory), such as V(64GB), is required; C(cpus) is 4 when not given.
      - C(workload), C(max_connections), C(version), C(share), C(reserved), C(storage) and
        C(settings) are the role's variables; C(huge_pages) is the server's setting.
    type: dict
    required: true
  variables:
    description: Variables of the role that are given besides; V(null) where nothing is.
    type: dict
    required: true
  defaults:
    description: The role's defaults.
    type: dict
    required: true
  default_versions:
    description: The server's major by release of the distribution, the newest last.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Describe a machine
  ansible.builtin.debug:
    msg: "{{ {'memory': '64GB', 'cpus': 16} | pooled.postgres.plan_machine({}, defaults, {'13': 17}) }}"
"""

RETURN = r"""
_value:
  description:
    - C(host), what M(pooled.postgres.host_resources_info) would return of it, but for C(asked).
    - C(variables), the variables of the role that follow.
  type: dict
"""


def plan_machine(
    asked: Mapping[str, Any],
    variables: Mapping[str, Any],
    defaults: Mapping[str, Any],
    default_versions: Mapping[str, int],
) -> dict[str, Any]:
    """The machine as plain data."""
    try:
        return what_if.machine(asked, variables, defaults, default_versions)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"plan_machine": plan_machine}
