# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a server what roles to drop own, hold and do."""

from __future__ import annotations

from typing import Any, Iterable

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    ADMIN_OPTION_MAJOR,
    Belongings,
    RoleToDrop,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    Connection,
    fetch,
    server_major,
)

_EXISTING = "SELECT rolname FROM pg_roles WHERE rolname = ANY(%(names)s) ORDER BY 1"
_SESSIONS = """
SELECT usename AS name, coalesce(datname, '') AS place, count(*)::int AS count
  FROM pg_stat_activity
 WHERE usename = ANY(%(names)s)
 GROUP BY 1, 2 ORDER BY 1, 2
"""
_PREPARED = """
SELECT owner AS name, count(*)::int AS count
  FROM pg_prepared_xacts WHERE owner = ANY(%(names)s) GROUP BY 1
"""
_MEMBERS = """
SELECT g.rolname AS name, m.rolname AS member
  FROM pg_auth_members a
  JOIN pg_roles g ON g.oid = a.roleid
  JOIN pg_roles m ON m.oid = a.member
 WHERE g.rolname = ANY(%(names)s) AND m.rolname <> ALL(%(names)s)
   AND m.rolname <> current_user AND NOT m.rolsuper
 GROUP BY 1, 2 ORDER BY 1, 2
"""
_GRANTED_MEMBERSHIPS = """
SELECT r.rolname AS name, g.rolname AS granted, m.rolname AS member
  FROM pg_auth_members a
  JOIN pg_roles r ON r.oid = a.grantor
  JOIN pg_roles g ON g.oid = a.roleid
  JOIN pg_roles m ON m.oid = a.member
 WHERE r.rolname = ANY(%(names)s)
   AND g.rolname <> ALL(%(names)s) AND m.rolname <> ALL(%(names)s)
 ORDER BY 1, 2, 3
"""
# Objects within another database, and that database itself.
_ELSEWHERE = """
SELECT r.rolname AS name, d.datname AS place, count(*)::int AS count
  FROM pg_shdepend s
  JOIN pg_roles r ON s.refclassid = 'pg_authid'::regclass AND r.oid = s.refobjid
  JOIN pg_database d
    ON d.oid = s.dbid OR s.dbid = 0 AND s.classid = 'pg_database'::regclass AND d.oid = s.objid
 WHERE r.rolname = ANY(%(names)s) AND d.datname <> ALL(%(databases)s)
 GROUP BY 1, 2 ORDER BY 1, 2
"""
_SHARED = """
SELECT DISTINCT r.rolname AS name
  FROM pg_shdepend s
  JOIN pg_roles r ON s.refclassid = 'pg_authid'::regclass AND r.oid = s.refobjid
 WHERE r.rolname = ANY(%(names)s) AND s.dbid = 0
"""

# Default privileges and user mappings are recorded as owned, but are a role's like its rights.
_BELONGINGS = """
WITH here AS (
  SELECT r.rolname, s.deptype = 'o' AND s.classid NOT IN
           ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass) AS owned,
         i.type, i.identity
    FROM pg_shdepend s
    JOIN pg_roles r ON s.refclassid = 'pg_authid'::regclass AND r.oid = s.refobjid
    JOIN pg_database me ON me.datname = current_database()
   CROSS JOIN LATERAL pg_identify_object(s.classid, s.objid, s.objsubid) AS i
   WHERE r.rolname = ANY(%(names)s)
     AND (s.dbid = me.oid
          OR s.dbid = 0 AND s.classid = 'pg_database'::regclass AND s.objid = me.oid)
)
SELECT rolname AS name, owned, CASE WHEN owned THEN type ELSE '' END AS type,
       count(DISTINCT identity)::int AS count,
       (array_agg(DISTINCT identity ORDER BY identity))[1:5] AS identities
  FROM here
 GROUP BY 1, 2, 3
 ORDER BY 1, 2, 3
"""
_POLICIES = """
SELECT r.rolname AS name, p.polname || ' on ' || p.polrelid::regclass AS policy
  FROM pg_policy p
  JOIN pg_roles r ON p.polroles = ARRAY[r.oid]
 WHERE r.rolname = ANY(%(names)s)
 ORDER BY 1, 2
"""
_PASSED_ON = """
WITH lists AS (
  SELECT 'pg_class'::regclass AS classid, oid, 0 AS part, relowner AS owner, relacl AS acl
    FROM pg_class
  UNION ALL
  SELECT 'pg_class'::regclass, c.oid, a.attnum, c.relowner, a.attacl
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  UNION ALL SELECT 'pg_proc'::regclass, oid, 0, proowner, proacl FROM pg_proc
  UNION ALL SELECT 'pg_type'::regclass, oid, 0, typowner, typacl FROM pg_type
  UNION ALL SELECT 'pg_namespace'::regclass, oid, 0, nspowner, nspacl FROM pg_namespace
  UNION ALL SELECT 'pg_language'::regclass, oid, 0, lanowner, lanacl FROM pg_language
  UNION ALL
  SELECT 'pg_foreign_data_wrapper'::regclass, oid, 0, fdwowner, fdwacl FROM pg_foreign_data_wrapper
  UNION ALL
  SELECT 'pg_foreign_server'::regclass, oid, 0, srvowner, srvacl FROM pg_foreign_server
  UNION ALL
  SELECT 'pg_largeobject'::regclass, oid, 0, lomowner, lomacl FROM pg_largeobject_metadata
  UNION ALL SELECT 'pg_tablespace'::regclass, oid, 0, spcowner, spcacl FROM pg_tablespace
  UNION ALL
  SELECT 'pg_database'::regclass, oid, 0, datdba, datacl
    FROM pg_database WHERE datname = current_database()
)
SELECT DISTINCT r.rolname AS name,
       format('%%s on %%s %%s to %%s', a.privilege_type, i.type, i.identity,
              coalesce(quote_ident(g.rolname), 'PUBLIC')) AS what
  FROM lists l
 CROSS JOIN LATERAL aclexplode(l.acl) AS a
  JOIN pg_roles r ON r.oid = a.grantor
  LEFT JOIN pg_roles g ON g.oid = a.grantee
 CROSS JOIN LATERAL pg_identify_object(l.classid, l.oid, l.part) AS i
 WHERE l.acl IS NOT NULL AND r.rolname = ANY(%(names)s) AND l.owner <> a.grantor
   AND a.grantee <> a.grantor AND coalesce(g.rolname <> ALL(%(names)s), true)
 ORDER BY 1, 2
"""


def read_roles_to_drop(
    connection: Connection, names: Iterable[str], databases: Iterable[str]
) -> dict[str, RoleToDrop]:
    """The roles to drop that are there, with what of them is the whole server's.

    Args:
        connection: to any database.
        names: roles to drop.
        databases: those of the model.
    """
    values = {"names": list(names), "databases": list(databases)}
    if not values["names"]:
        return {}

    def rows(query: str, name: str) -> list[Any]:
        return [row for row in fetch(connection, query, values) if row.name == name]

    # Before 16 the grantor of a membership is only a note.
    granted = _GRANTED_MEMBERSHIPS if server_major(connection) >= ADMIN_OPTION_MAJOR else None
    return {
        name: RoleToDrop(
            name=name,
            sessions=tuple((row.place, row.count) for row in rows(_SESSIONS, name)),
            prepared=sum(row.count for row in rows(_PREPARED, name)),
            members=tuple(row.member for row in rows(_MEMBERS, name)),
            granted_memberships=tuple(
                (row.granted, row.member) for row in (rows(granted, name) if granted else ())
            ),
            elsewhere=tuple((row.place, row.count) for row in rows(_ELSEWHERE, name)),
            shared=bool(rows(_SHARED, name)),
        )
        for name in [row.rolname for row in fetch(connection, _EXISTING, values)]
    }


def read_belongings(connection: Connection, names: Iterable[str]) -> dict[str, Belongings]:
    """What roles to drop own and hold in one database, those that do so at all."""
    values = {"names": list(names)}
    if not values["names"]:
        return {}
    owned: dict[str, list[tuple[str, int, tuple[str, ...]]]] = {}
    rights: dict[str, int] = {}
    for row in fetch(connection, _BELONGINGS, values):
        owned.setdefault(row.name, [])
        if row.owned:
            owned[row.name].append((row.type, row.count, tuple(row.identities)))
        else:
            rights[row.name] = row.count
    policies = fetch(connection, _POLICIES, values)
    passed_on = fetch(connection, _PASSED_ON, values)
    return {
        name: Belongings(
            owned=tuple(owned.get(name, ())),
            rights=rights.get(name, 0),
            policies=tuple(row.policy for row in policies if row.name == name),
            passed_on=tuple(row.what for row in passed_on if row.name == name),
        )
        for name in sorted({*owned, *(row.name for row in passed_on)})
    }
