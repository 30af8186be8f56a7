# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what systemd keeps from a service, as lines of its unit."""

from __future__ import annotations

from typing import Any, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils._host import units

DOCUMENTATION = r"""
name: unit_hardening
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: What systemd keeps from a service, as lines of its unit
description:
  - For services that read and write no files. The exporters' units have them.
positional: paths
options:
  _input:
    description: What systemd can do on the host, RV(pooled.postgres.host_resources_info#module:sandbox).
    type: str
    required: true
  paths:
    description: What the service is given to use, such as directories of unix sockets. When one is below C(/tmp), the service sees the real one.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show what an exporter's unit has in [Service]
  ansible.builtin.debug:
    msg: "{{ host.sandbox | pooled.postgres.unit_hardening(['/var/run/postgresql']) | join('\n') }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


def unit_hardening(sandbox: str, paths: Sequence[str] = ()) -> list[str]:
    """The lines."""
    try:
        return units.hardening(sandbox, paths=paths, home="yes")
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"unit_hardening": unit_hardening}
