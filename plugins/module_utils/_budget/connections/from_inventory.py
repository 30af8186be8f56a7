# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pools of PgBouncer hosts, out of the variables of an inventory."""

from __future__ import annotations

import re
from typing import Any, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections.pools import (
    ALL_NAMES,
    POOL_OPTIONS,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import OPTIONS

_SIZES = {"default_pool_size": 0, "reserve_pool_size": 0, "max_client_conn": 1}  # and the least
_BY_NAME = {
    "databases": ("pgbouncer_database_options", "max_db_connections"),
    "users": ("pgbouncer_user_options", "max_user_connections"),
}


def pooler_of(host: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """What the connection budget must know of a PgBouncer host.

    What the host does not set is left out.

    Args:
        host: its name in the inventory.
        variables: its variables, as the role C(pgbouncer) knows them.

    Raises:
        ValueError: naming the host, the variable, its value and what is allowed.
    """
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
        raise ValueError(f"{where}: {value!r} is not a whole number of at least {least}")
    return int(text)


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: give a dictionary, not {type(value).__name__}")
    return value
