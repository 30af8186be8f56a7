# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what TLS brings to a PgBouncer."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._certificates import (
    pooled_tls,
)

DOCUMENTATION = r"""
name: pgbouncer_tls
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: What TLS brings to a PgBouncer
description:
  - Completes the options for TLS of a PgBouncer that is to have it. What was given wins, and a certificate that was given is never
    completed or replaced.
  - A Postgres on another host of the inventory that has a certificate of the collection's authority is verified by it. Of any other,
    TLS is required, and verified when C(server_tls_ca_file) is given.
positional: required, backend, server
options:
  _input:
    description: Options by name, such as C(client_tls_sslmode). Those that are not about TLS are left out.
    type: dict
    required: true
  required:
    description: Whether clients must use TLS.
    type: bool
    default: true
  backend:
    description: Where Postgres is. Empty is the same host, over the unix socket.
    type: str
    default: ''
  server:
    description: Variables of the host of the inventory that Postgres is on; nothing for one elsewhere.
    type: dict
"""

EXAMPLES = r"""
- name: Show the options
  ansible.builtin.debug:
    msg: "{{ ({} | pooled.postgres.pgbouncer_tls(true, 'db1', {'pooled_tls': true})).options }}"
"""

RETURN = r"""
_value:
  description:
    - C(options), the given ones among them.
    - C(certificate), whether PgBouncer has one of the collection's authority.
    - C(authority), whether it verifies Postgres by that authority.
  type: dict
"""


def pgbouncer_tls(
    given: Mapping[str, Any],
    required: bool = True,
    backend: str = "",
    server: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The options, and what of ours they need."""
    return pooled_tls.of_pgbouncer(given, required=required, backend=backend, server=server)


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"pgbouncer_tls": pgbouncer_tls}
