# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connection limits of roles that the model gives none, for a hardening profile."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._settings.profiles import LEAST_LIMIT

_LIMIT_FACTOR = 2


def connection_limit(counted: int) -> int:
    """A limit for a role that the model gives none: twice what the connection budget counts."""
    return max(_LIMIT_FACTOR * counted, LEAST_LIMIT)


def with_connection_limits(
    databases: Sequence[Mapping[str, Any]], counted: Mapping[str, int] | None
) -> list[Any]:
    """The model with a limit for each of its roles.

    Args:
        databases: the model.
        counted: connections of each role in the connection budget; None when there is none.

    Raises:
        ValueError: naming the roles that have no limit, when there is no budget.
    """
    missing: list[str] = []

    def limited(role: Any) -> Any:
        if not isinstance(role, Mapping) or role.get("connection_limit") is not None:
            return role
        if role.get("state", "present") == "absent":
            return role
        name = str(role.get("name", ""))
        if counted is None:
            missing.append(name)
            return role
        return {**role, "connection_limit": connection_limit(int(counted.get(name, 0)))}

    result = [
        {**database, "roles": [limited(role) for role in database["roles"]]}
        if isinstance(database, Mapping) and isinstance(database.get("roles"), Sequence)
        else database
        for database in databases
    ]
    if missing:
        raise ValueError(
            "pooled_databases: with the hardening profile cis each role needs a limit, and there is"
            f" no connection budget to derive one from: {', '.join(dict.fromkeys(missing))}; give"
            " each a connection_limit, or run the role postgres before, as the playbook site does"
        )
    return result
