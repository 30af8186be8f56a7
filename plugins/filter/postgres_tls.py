# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: what TLS brings to a Postgres server."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._certificates import (
    pooled_tls,
)

DOCUMENTATION = r"""
name: postgres_tls
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: What TLS brings to a Postgres server
description:
  - Decides from a host's variables whether its server has a certificate of the collection's authority, and which settings that takes.
  - A certificate that C(postgres_settings) names wins, and is never completed or replaced.
options:
  _input:
    description: Variables of the host, of which C(postgres_tls) or else C(pooled_tls), and C(postgres_settings), are read.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the settings
  ansible.builtin.debug:
    msg: "{{ ({'pooled_tls': true} | pooled.postgres.postgres_tls).settings }}"
"""

RETURN = r"""
_value:
  description:
    - C(settings), which C(postgres_settings) may still change.
    - C(certificate), whether the server has one of the collection's authority.
  type: dict
"""


def postgres_tls(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, and whether the certificate is ours."""
    return pooled_tls.of_postgres(variables)


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"postgres_tls": postgres_tls}
