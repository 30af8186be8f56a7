# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the hosts of several groups, as a play takes them."""

from __future__ import annotations

from typing import Any, Sequence

DOCUMENTATION = r"""
name: host_pattern
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: The hosts of several groups, as a play takes them
description:
  - Puts patterns of hosts together, each once.
  - Ansible resolves C(hosts) in its main process. So it loads the filters of this collection there, once, and not in the process of each task,
    which takes about a third of a second of CPU time each.
options:
  _input:
    description: Names of groups, or other patterns.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Do something on servers and on PgBouncer hosts
  hosts: "{{ ['postgres', 'pgbouncer'] | pooled.postgres.host_pattern }}"
"""

RETURN = r"""
_value:
  description: The pattern, such as C(postgres:pgbouncer).
  type: str
"""


def host_pattern(patterns: Sequence[str]) -> str:
    """The patterns with colons between them."""
    return ":".join(dict.fromkeys(patterns))


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"host_pattern": host_pattern}
