# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what PgBouncer is asked for, checked on the controller before any host changes."""

from __future__ import annotations

from typing import Any, Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils._plan.pgbouncer import (
    pgbouncer_options,
)

DOCUMENTATION = r"""
name: checked_pgbouncer_options
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: Check options for a version of PgBouncer
description:
  - Checks names and values of options, and whether the given version of PgBouncer has them.
  - Adds what the collection asks of that version where nothing is given. Fails on the first mistake, and names the variable, the value and what is allowed.
positional: version
options:
  _input:
    description: Options of C([pgbouncer]) by name; V(null) leaves an option to PgBouncer's own default.
    type: dict
    required: true
  version:
    description: The version that will read them, such as C(1.24.1).
    type: str
    required: true
  databases:
    description: The model, C(pooled_databases).
    type: list
    elements: dict
    default: []
  database_options:
    description: Options of single databases, by name.
    type: dict
    default: {}
  user_options:
    description: Options of single roles, by name.
    type: dict
    default: {}
  auth:
    description: Where PgBouncer learns its clients' verifiers.
    type: str
    choices: [query, userlist]
    default: query
  auth_role:
    description: The role that PgBouncer logs in as to look them up.
    type: str
    default: pgbouncer_auth
  processes:
    description: How many processes share the port.
    type: int
    default: 1
  client_networks:
    description: Networks from which clients may log in, C(pgbouncer_client_networks).
    type: list
    elements: str
    default: []
  require_tls:
    description: Whether clients on other hosts need TLS, C(pgbouncer_require_tls).
    type: bool
    default: false
  backend_host:
    description: Where Postgres is, a host or the directory of its unix socket.
    type: str
    default: ''
  backend_port:
    description: Postgres's port.
    type: int
    default: 5432
  unmanaged:
    description: RV(pooled.postgres.host_resources_info#module:pgbouncer.unmanaged) of the host.
    type: dict
  takeover:
    description: Whether it may lose what the options do not have, C(pgbouncer_takeover).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show what PgBouncer 1.18 would be asked for
  ansible.builtin.debug:
    msg: "{{ {'default_pool_size': 40} | pooled.postgres.checked_pgbouncer_options('1.18.0') }}"
"""

RETURN = r"""
_value:
  description: Every option that the file would hold, as the text it would hold.
  type: dict
"""


# Where the role has PgBouncer's own file.
def checked_pgbouncer_options(
    options: Mapping[str, Any], version: str, *args: Any, **kwargs: Any
) -> dict[str, str]:
    """The options as the file would hold them."""
    try:
        return pgbouncer_options(options, version, *args, **kwargs)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"checked_pgbouncer_options": checked_pgbouncer_options}
