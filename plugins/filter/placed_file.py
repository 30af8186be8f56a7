# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what a look at a host says of a file that is as it is to be."""

from __future__ import annotations

from typing import Any

from ansible_collections.pooled.postgres.plugins.module_utils._host import files

DOCUMENTATION = r"""
name: placed_file
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: What a look at a host says of a file that is as it is to be
description:
  - A role need not come to the host for a file that RV(pooled.postgres.host_resources_info#module:files) says is there already.
options:
  _input:
    description: Text of the file.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Write the unit where it is not there yet
  ansible.builtin.template:
    src: my.service.j2
    dest: /etc/systemd/system/my.service
    owner: root
    group: root
    mode: "0644"
  when: host.files['/etc/systemd/system/my.service'] | default({}) != lookup('ansible.builtin.template', 'my.service.j2') | pooled.postgres.placed_file
"""

RETURN = r"""
_value:
  description: The C(checksum) of a file with this text, and C(owner), C(group) and C(mode), which are C(root), C(root) and C(0644).
  type: dict
"""


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"placed_file": files.placed}
