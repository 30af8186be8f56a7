# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter: the PgBouncer hosts as the connection budget wants them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections.pools import (
    ALL_NAMES,
    POOL_OPTIONS,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import OPTIONS

DOCUMENTATION = r"""
name: poolers
author: pooled.postgres contributors (@pooled)
version_added: 0.1.0
short_description: The pools of PgBouncer hosts, for the connection budget
description:
  - Picks the variables that size a PgBouncer host's pools out of the variables of those hosts.
  - C(pgbouncer_settings) wins over the variables C(pgbouncer_default_pool_size),
    C(pgbouncer_reserve_pool_size) and C(pgbouncer_max_client_conn), and V(null) there means
    PgBouncer's own default, as in the role C(pgbouncer).
  - What a host does not set is left out, and the connection budget takes the collection's default.
  - C(hostvars) has what inventories, C(group_vars), C(host_vars) and C(-e) say, and nothing that a
    play or a role says in its C(vars). Who sizes pools there also gives the role C(postgres) its
    C(postgres_poolers).
positional: hostvars
options:
  _input:
    description: Names of the PgBouncer hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description: Ansible's C(hostvars).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Size a server for the pools of two PgBouncer hosts
  ansible.builtin.include_role:
    name: pooled.postgres.postgres
  vars:
    postgres_poolers: "{{ groups['pgbouncer'] | pooled.postgres.poolers(hostvars) }}"
"""

RETURN = r"""
_value:
  description:
    - One dictionary for each host, with its C(name) and, where set, C(default_pool_size),
      C(reserve_pool_size), C(max_client_conn), C(processes) and C(limit_nofile).
    - C(databases) and C(users), where set, have what C(pgbouncer_database_options) and
      C(pgbouncer_user_options) say of pools. There, the name C(*) has C(max_db_connections) and
      C(max_user_connections) of C(pgbouncer_settings).
  type: list
  elements: dict
"""

_SIZES = {"default_pool_size": 0, "reserve_pool_size": 0, "max_client_conn": 1}  # and the least
_BY_NAME = {
    "databases": ("pgbouncer_database_options", "max_db_connections"),
    "users": ("pgbouncer_user_options", "max_user_connections"),
}


def poolers(
    hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The pools' sizes, host by host."""
    return [_pooler(host, hostvars[host]) for host in hosts]


def _pooler(host: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    settings = _mapping(f"{host}: pgbouncer_settings", variables.get("pgbouncer_settings"))
    entry: dict[str, Any] = {"name": host}
    for option, least in _SIZES.items():
        where = f"{host}: pgbouncer_{option}"
        if settings.get(option) is not None:
            entry[option] = _whole(where, settings[option], least)
        elif option in settings:
            entry[option] = int(OPTIONS[option].default or 0)
        elif f"pgbouncer_{option}" in variables:
            entry[option] = _whole(where, variables[f"pgbouncer_{option}"], least)
    if "pgbouncer_processes" in variables:
        where = f"{host}: pgbouncer_processes"
        entry["processes"] = _whole(where, variables["pgbouncer_processes"], 1)
    if variables.get("pgbouncer_limit_nofile", "auto") != "auto":
        where = f"{host}: pgbouncer_limit_nofile"
        entry["limit_nofile"] = _whole(where, variables["pgbouncer_limit_nofile"], 1)
    for key, (variable, limit) in _BY_NAME.items():
        options: dict[str, dict[str, Any]] = {}
        if settings.get(limit) is not None:
            options[ALL_NAMES] = {limit: settings[limit]}
        for name, given in _mapping(f"{host}: {variable}", variables.get(variable)).items():
            values = _mapping(f"{host}: {variable}.{name}", given)
            sizes = {
                option: values[option]
                for option in POOL_OPTIONS[key]
                if values.get(option) is not None
            }
            if sizes and name != ALL_NAMES:
                options[name] = sizes
        if options:
            entry[key] = options
    return entry


def _whole(where: str, value: Any, least: int) -> int:
    text = "" if isinstance(value, bool) else str(value).strip()
    if not re.match(r"[0-9]{1,9}\Z", text) or int(text) < least:
        raise AnsibleFilterError(f"{where}: {value!r} is not a whole number of at least {least}")
    return int(text)


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise AnsibleFilterError(f"{where}: give a dictionary, not {type(value).__name__}")
    return value


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Any]:
        """Its name."""
        return {"poolers": poolers}
