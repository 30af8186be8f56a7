# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what PgBouncer is asked for, checked on the controller before any host changes."""

from __future__ import annotations

from typing import Any, Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils._model import databases as _model
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    defaults as _pgbouncer,
    entries as _pgbouncer_entries,
    hba as _pgbouncer_hba,
    options as _pgbouncer_options,
    processes as _pgbouncer_processes,
    takeover as _pgbouncer_takeover,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server import hba as _hba

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
_CONFIG_FILE = "/etc/pgbouncer/pgbouncer.ini"


def checked_pgbouncer_options(
    options: Mapping[str, Any],
    version: str,
    databases: Any = (),
    database_options: Mapping[str, Any] | None = None,
    user_options: Mapping[str, Any] | None = None,
    auth: str = "query",
    auth_role: str = "pgbouncer_auth",
    processes: int = 1,
    client_networks: Any = (),
    require_tls: bool = False,
    backend_host: str = "",
    backend_port: int = 5432,
    unmanaged: Mapping[str, Any] | None = None,
    takeover: bool = False,
) -> dict[str, str]:
    """The options as the file would hold them."""
    try:
        model = _model.parse_databases(list(databases), "pgbouncer_databases")
        parsed = _pgbouncer_options.parse_version(version)
        entries = _pgbouncer_entries.database_entries(
            model,
            parsed,
            host=backend_host,
            port=int(backend_port),
            overrides=database_options or {},
            where="pgbouncer_database_options",
        )
        users = _pgbouncer_entries.user_entries(
            model,
            user_options or {},
            parsed,
            "pgbouncer_user_options",
            auth_role if auth == "query" else "",
        )
        effective = _pgbouncer.effective_options(
            options, parsed, model, auth=auth, auth_role=auth_role, where="pgbouncer_settings"
        )
        _pgbouncer_processes.checked_count(
            int(processes),
            parsed,
            options,
            effective.get("listen_addr", ""),
            "pgbouncer_processes",
            "pgbouncer_settings",
        )
        networks = _hba.checked((), client_networks, clients_variable="pgbouncer_client_networks")
        access = _pgbouncer_hba.access(
            effective,
            model,
            path=_pgbouncer_hba.path_beside(_CONFIG_FILE),
            client_networks=networks.client_networks,
            require_tls=bool(require_tls),
            where="pgbouncer_settings",
        )
        if unmanaged and not takeover:
            found = _pgbouncer_takeover.from_fact(unmanaged)
            losses = _pgbouncer_takeover.losses(
                found,
                options=effective,
                databases=entries,
                users=users,
                roles=[role.name for role in _model.pooled_roles(model)],
                auth_role=auth_role,
                version=parsed,
            )
            if losses:
                raise ValueError(_pgbouncer_takeover.refusal(found, losses, "pgbouncer_takeover"))
        return dict(access.options)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"checked_pgbouncer_options": checked_pgbouncer_options}
