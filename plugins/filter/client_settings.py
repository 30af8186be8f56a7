# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: how applications connect to what was deployed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Iterable, Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils import _client_settings

DOCUMENTATION = r"""
name: client_settings
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: How SQLAlchemy and Alembic connect to what was deployed
description:
  - For each client of the model, and each role that no client uses, gives the URL and the engine
    arguments for SQLAlchemy with asyncpg and psycopg. Roles of kind V(user) and V(reader) connect
    through PgBouncer where there is one, all others to Postgres itself.
  - There are no passwords in it. Both drivers take them from E(PGPASSWORD) or a password file.
positional: server, poolers
options:
  _input:
    description: The databases with their roles and clients; usually the variable C(pooled_databases).
    type: list
    elements: dict
    required: true
  server:
    description:
      - Postgres as clients see it, with C(host) and, where they are needed, C(port) (5432), C(ssl_mode) (as libpq's
        C(sslmode)), and C(ca_cert), the path of the certificate authorities on the clients' hosts.
    type: dict
    required: true
  poolers:
    description:
      - The PgBouncer hosts in the same way (C(port) is 6432), each also with C(version), C(max_prepared_statements) when it is
        set, C(default_pool_size), C(processes), and C(databases) and C(users) as P(pooled.postgres.poolers#filter) gives them, which decide about
        warnings.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Show how applications connect
  ansible.builtin.debug:
    msg: "{{ pooled_databases | pooled.postgres.client_settings({'host': 'db1'}, [{'host': 'pool1', 'version': '1.24.1'}]) }}"
"""

RETURN = r"""
_value:
  description:
    - A list with an entry for each client, with C(database), C(role), C(kind), C(client) (its name) and C(via) (V(pgbouncer) or
      V(direct)). A client with an alias connects to that.
    - C(urls), without passwords, and C(engine_arguments) and C(code) by driver, V(asyncpg) and V(psycopg). C(code) is Python; for
      a migrator it is a fragment of Alembic's C(env.py). C(urls.libpq) is for C(psql).
    - C(warnings), where a client's own pool contradicts what was deployed.
  type: list
  elements: dict
"""


def client_settings(
    databases: Any,
    server: Mapping[str, Any],
    poolers: Iterable[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """The settings as plain data."""
    try:
        entries = _client_settings.client_settings(databases, server, poolers)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    return [{**asdict(entry), "warnings": list(entry.warnings)} for entry in entries]


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"client_settings": client_settings}
