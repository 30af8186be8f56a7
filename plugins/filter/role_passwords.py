# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the model's passwords alone, for a module's option that is known to hold secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: role_passwords
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: The passwords of the model's roles
description:
  - Takes the passwords out of C(pooled_databases), for the option O(pooled.postgres.postgres_access#module:passwords) of modules that need them.
    The rest of the model is given by P(pooled.postgres.without_passwords#filter).
  - Fails when the entries of a role in several databases have different passwords.
options:
  _input:
    description: The model, as O(pooled.postgres.postgres_access#module:databases) takes it.
    type: list
    elements: dict
    required: true
seealso:
  - plugin: pooled.postgres.without_passwords
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Give the model's roles their rights
  pooled.postgres.postgres_access:
    databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
    passwords: "{{ pooled_databases | pooled.postgres.role_passwords }}"
  become: true
"""

RETURN = r"""
_value:
  description: The password of each role that has one, by the role's name.
  type: dict
"""


def role_passwords(databases: Any) -> dict[str, Any]:
    """The password of each role that has one."""
    passwords: dict[str, Any] = {}
    for role in _roles(databases):
        name, password = role.get("name"), role.get("password")
        if password is None or not isinstance(name, str):
            continue
        if passwords.setdefault(name, password) != password:
            raise AnsibleFilterError(
                f"pooled_databases: role {name!r} is one role of the whole server, but its entries"
                " in several databases differ in password; make them equal"
            )
    return passwords


def _roles(databases: Any) -> Iterator[Mapping[str, Any]]:
    """The entries of roles; what is not one is left to the reader of the rest of the model."""
    for database in databases if isinstance(databases, (list, tuple)) else ():
        roles = database.get("roles") if isinstance(database, Mapping) else None
        for role in roles if isinstance(roles, (list, tuple)) else ():
            if isinstance(role, Mapping):
                yield role


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"role_passwords": role_passwords}
