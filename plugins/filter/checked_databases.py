# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the model, checked on the controller before any host changes."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.access import (
    model_problems,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import model_roles
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._settings.check import (
    check_role_settings,
)

DOCUMENTATION = r"""
name: checked_databases
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: Check the model of databases and roles before anything changes
description:
  - Checks names, kinds, limits, settings, clients and passwords of C(pooled_databases), as far as that needs no server.
  - Fails on mistakes, naming the entry, its value (never a password) and what is allowed.
positional: pooler_role
options:
  _input:
    description: The model, as O(pooled.postgres.postgres_access#module:databases) takes it.
    type: list
    elements: dict
    required: true
  pooler_role:
    description: The role that PgBouncer itself logs in as; empty for none.
    type: str
    default: ''
  pooler_password:
    description: Its password, if it has one.
    type: str
    default: ''
  major:
    description: Major version of the server, to check the roles' settings against; V(0) when it is not known.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Name the model's roles
  ansible.builtin.debug:
    msg: "{{ (pooled_databases | pooled.postgres.checked_databases).0.roles | map(attribute='name') }}"
"""

RETURN = r"""
_value:
  description:
    - For each database its C(name), C(schemas), C(extensions) and C(roles).
    - For each role its C(name), C(kind), C(connection_limit), all its C(settings) and C(member_of). Passwords are left out, and so
      are roles that must be absent.
  type: list
  elements: dict
"""


def checked_databases(
    databases: Any, pooler_role: str = "", pooler_password: str = "", major: int = 0
) -> list[dict[str, Any]]:
    """The model with its defaults and without its passwords."""
    try:
        model = parse_databases(databases)
        for role in model_roles(model) if int(major) else ():
            where = f"pooled_databases: role {role.name!r}: settings"
            check_role_settings(dict(role.settings), int(major), where)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    problems = list(model_problems(Wanted(model, pooler_role, pooler_password or None)))
    if problems:
        raise AnsibleFilterError("\n".join(problems))
    return [
        {
            "name": database.name,
            "schemas": list(database.schemas),
            "extensions": list(database.extensions),
            "roles": [
                {
                    "name": role.name,
                    "kind": role.kind,
                    "connection_limit": role.connection_limit,
                    "settings": dict(role.settings),
                    "member_of": list(role.member_of),
                }
                for role in database.roles
            ],
        }
        for database in model
    ]


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"checked_databases": checked_databases}
