# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the drop-in with which a service waits for the addresses that it listens on."""

from __future__ import annotations

from typing import Any

from ansible_collections.pooled.postgres.plugins.module_utils._host import units

DOCUMENTATION = r"""
name: network_drop_in
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: The drop-in with which a service waits for the addresses that it listens on
description:
  - Postgres does without an address that the host does not have yet when it starts, and never looks for it again.
  - On loopback addresses, and on all at once, a service can listen before the network is up.
options:
  _input:
    description: Addresses and names with commas between them, as in C(listen_addresses).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what the unit of a server needs
  ansible.builtin.debug:
    msg: "{{ 'localhost, 10.0.0.5' | pooled.postgres.network_drop_in }}"
"""

RETURN = r"""
_value:
  description: The file's text; empty when nothing has to be waited for.
  type: str
"""


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"network_drop_in": units.network_drop_in}
