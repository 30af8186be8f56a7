# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a server for what lies outside the model and bears upon it."""

from __future__ import annotations

from typing import Any, Iterable

from ansible_collections.pooled.postgres.plugins.module_utils._access_state import (
    ADMIN_OPTION_MAJOR,
    Link,
    OtherRole,
)
from ansible_collections.pooled.postgres.plugins.module_utils._postgres import (
    fetch,
    server_major,
)

_OTHERS = "SELECT rolname, rolcanlogin, rolsuper, rolbypassrls FROM pg_roles"
_LINKS = """
SELECT DISTINCT m.rolname AS member, g.rolname AS granted, {inherits} AS inherits,
       {may_set} AS may_set
  FROM pg_auth_members a
  JOIN pg_roles g ON g.oid = a.roleid
  JOIN pg_roles m ON m.oid = a.member
 ORDER BY 1, 2, 3, 4
"""
_WHAT_MEMBERS_HAVE = {"inherits": "a.inherit_option", "may_set": "a.set_option"}
# Before 16 each role says for itself whether it inherits, and the model's roles shall.
_WHAT_MEMBERS_HAD = {"inherits": "(m.rolinherit OR m.rolname = ANY(%(names)s))", "may_set": "true"}


def read_role_graph(
    connection: Any, names: Iterable[str]
) -> tuple[dict[str, OtherRole], tuple[Link, ...]]:
    """Every role of the server, and every membership.

    Args:
        connection: to any database.
        names: the roles of the model.
    """
    others = {
        row.rolname: OtherRole(row.rolname, row.rolcanlogin, row.rolsuper, row.rolbypassrls)
        for row in fetch(connection, _OTHERS)
    }
    kept_apart = server_major(connection) >= ADMIN_OPTION_MAJOR
    query = _LINKS.format(**(_WHAT_MEMBERS_HAVE if kept_apart else _WHAT_MEMBERS_HAD))
    links = tuple(
        Link(row.member, row.granted, row.inherits, row.may_set)
        for row in fetch(connection, query, {"names": list(names)})
    )
    return others, links
