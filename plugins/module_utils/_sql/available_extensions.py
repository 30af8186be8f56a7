# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a server which extensions it could create, and a database what their scripts would find."""

from __future__ import annotations

from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    Connection,
    fetch,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.extensions import (
    Extension,
    Surroundings,
)

_AVAILABLE = """
SELECT e.name, coalesce(v.schema, '') AS schema, v.relocatable, v.trusted,
       coalesce(v.requires, '{}')::text[] AS requires
  FROM pg_catalog.pg_available_extensions e
  JOIN pg_catalog.pg_available_extension_versions v
    ON v.name = e.name AND v.version = e.default_version
 WHERE e.name = ANY(%(extensions)s)
"""
_PRESENT = """
SELECT e.extname, n.nspname
  FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
"""
# Functions and operators are what a script can be made to call; what extensions have brought is
# theirs whoever created them.
_OPEN = """
WITH code AS (
  SELECT p.pronamespace AS schema, p.proowner AS owner, 'pg_proc'::regclass AS classid, p.oid
    FROM pg_catalog.pg_proc p
  UNION ALL
  SELECT o.oprnamespace, o.oprowner, 'pg_operator'::regclass, o.oid FROM pg_catalog.pg_operator o
)
SELECT n.nspname AS name,
       EXISTS (SELECT FROM code c JOIN pg_catalog.pg_roles r ON r.oid = c.owner
                WHERE c.schema = n.oid AND NOT r.rolsuper
                  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
                                   WHERE e.classid = c.classid AND e.objid = c.oid
                                     AND e.deptype = 'e')) AS holds_code,
       EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
                 LEFT JOIN pg_catalog.pg_roles r
                   ON r.oid = CASE a.grantee WHEN d.owners THEN d.datdba ELSE a.grantee END
                WHERE a.privilege_type = 'CREATE'
                  AND (a.grantee = 0 OR (NOT r.rolsuper AND r.rolname <> current_user)))
         AS creatable
  FROM pg_catalog.pg_namespace n
 CROSS JOIN (SELECT datdba, coalesce((SELECT oid FROM pg_catalog.pg_roles
                                       WHERE rolname = 'pg_database_owner'), 0) AS owners
               FROM pg_catalog.pg_database WHERE datname = current_database()) AS d
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""


def read_available(connection: Connection, names: list[str]) -> dict[str, Extension]:
    """Those of the named extensions that the server could create."""
    if not names:
        return {}
    return {
        row.name: Extension(row.schema, row.relocatable, row.trusted, tuple(row.requires))
        for row in fetch(connection, _AVAILABLE, {"extensions": names})
    }


def read_surroundings(connection: Connection) -> Surroundings:
    """What of the connected database bears on scripts of extensions."""
    rows = fetch(connection, _OPEN)
    return Surroundings(
        present={row.extname: row.nspname for row in fetch(connection, _PRESENT)},
        creatable=frozenset(row.name for row in rows if row.creatable),
        holding=frozenset(row.name for row in rows if row.holds_code),
        schemas=frozenset(row.name for row in rows),
    )
