# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: where clients find what was deployed."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils._plan import (
    client_endpoints as endpoints,
)

DOCUMENTATION = r"""
name: client_endpoints
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: Where clients find Postgres and PgBouncer
description:
  - Picks addresses, ports, TLS and versions out of the variables of hosts, for
    P(pooled.postgres.client_settings#filter).
  - The address of a host is its C(postgres_client_address) or C(pgbouncer_client_address), its
    C(ansible_host), or its name.
  - C(postgres_client_ca_cert) and C(pgbouncer_client_ca_cert) are paths on the clients' hosts of the
    authorities of the certificates. With them clients verify whom they talk to.
  - Where C(pooled_tls) gives a host its certificate, clients verify it by C(pooled_tls_client_ca_cert), or else
    C(/etc/ssl/certs/pooled-clients.crt).
positional: hostvars, postgres_hosts
options:
  _input:
    description: The PgBouncer hosts, as P(pooled.postgres.poolers#filter) gives them.
    type: list
    elements: dict
    required: true
  hostvars:
    description: Ansible's C(hostvars).
    type: dict
    required: true
  postgres_hosts:
    description:
      - Names of the Postgres hosts, of which the first is meant. Without any it is
        C(pgbouncer_backend_host) of the first PgBouncer host.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show how applications connect
  ansible.builtin.debug:
    msg: "{{ pooled_databases | pooled.postgres.client_settings(found.server, found.poolers) }}"
  vars:
    found: >-
      {{ groups['pgbouncer'] | pooled.postgres.poolers(hostvars)
      | pooled.postgres.client_endpoints(hostvars, groups['postgres']) }}
"""

RETURN = r"""
_value:
  description: C(server) and C(poolers), as P(pooled.postgres.client_settings#filter) takes them.
  type: dict
"""


def client_endpoints(
    poolers: Sequence[Mapping[str, Any]],
    hostvars: Mapping[str, Mapping[str, Any]],
    postgres_hosts: Sequence[str] = (),
) -> dict[str, Any]:
    """The addresses."""
    try:
        return endpoints.client_endpoints(poolers, hostvars, postgres_hosts)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"client_endpoints": client_endpoints}
