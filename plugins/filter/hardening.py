# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what a hardening profile brings to a server."""

from __future__ import annotations

from typing import Any, Collection

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils._settings.hardening import (
    as_data,
    hardening_for,
)

DOCUMENTATION = r"""
name: hardening
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: What a hardening profile brings to a server
description:
  - Returns the settings and libraries of a profile, with the reason for each and the point of the CIS Benchmark that asks for it.
  - V(standard) has what costs nothing. V(cis) has what the CIS Benchmark for PostgreSQL asks and a role can bring.
positional: major, cluster
options:
  _input:
    description: The profile.
    type: str
    choices: [standard, cis]
    required: true
  major:
    description: Major version of the server, 13 to 18.
    type: int
    required: true
  cluster:
    description: Name of the cluster, as Debian names it.
    type: str
    default: main
  installed:
    description: Libraries that are installed, of those that come in packages of their own.
    type: list
    elements: str
    default: []
  packaged:
    description: Whether there are packages of these for that major.
    type: bool
    default: true
  private_socket:
    description: Whether only the server's own OS user needs the unix socket.
    type: bool
    default: true
  before:
    description: The profile that the server's managed file names in C(pooled.hardening); empty when it names none.
    type: str
    default: ''
  variable:
    description: The variable that has the profile, for error messages.
    type: str
    default: pooled_hardening
"""

EXAMPLES = r"""
- name: Show what the profile cis sets on Postgres 17
  ansible.builtin.debug:
    msg: "{{ ('cis' | pooled.postgres.hardening(17)).settings }}"
"""

RETURN = r"""
_value:
  description:
    - C(settings), name and value of each setting; C(libraries) to preload; C(reasons), for each setting why, and the point.
    - C(packages) to install, and those of the libraries that they bring, C(new); C(unwanted), libraries of an earlier profile.
    - C(left_out), what the profile has and this server does not get, and why.
  type: dict
"""


def hardening(
    profile: Any,
    major: int | str,
    cluster: str = "main",
    installed: Collection[str] = (),
    packaged: bool = True,
    private_socket: bool = True,
    before: str = "",
    variable: str = "pooled_hardening",
) -> dict[str, Any]:
    """The profile as plain data."""
    try:
        found = hardening_for(
            profile,
            int(major),
            cluster,
            installed=installed,
            packaged=packaged,
            private_socket=private_socket,
            before=before,
            variable=variable,
        )
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    return as_data(found)


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"hardening": hardening}
