# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a server for what lies outside the model and bears upon it."""

from __future__ import annotations

from typing import Any, Iterable

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    ADMIN_OPTION_MAJOR,
    Link,
    ServerRole,
    UnmanagedRight,
    UnmanagedSchema,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import POOLER_SCHEMA
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import in_order
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    Connection,
    fetch,
    server_major,
)

_SERVER_ROLES = "SELECT rolname, rolcanlogin, rolsuper, rolbypassrls FROM pg_roles"
_LINKS = """
SELECT DISTINCT m.rolname AS member, g.rolname AS granted, {inherits} AS inherits,
       {may_set} AS may_set
  FROM pg_auth_members a
  JOIN pg_roles g ON g.oid = a.roleid
  JOIN pg_roles m ON m.oid = a.member
 ORDER BY 1, 2, 3, 4
"""
_WHAT_MEMBERS_HAVE = {"inherits": "a.inherit_option", "may_set": "a.set_option"}
# Before 16 each role says for itself whether it inherits, and the model's roles must.
_WHAT_MEMBERS_HAD = {"inherits": "(m.rolinherit OR m.rolname = ANY(%(names)s))", "may_set": "true"}
# From this major on a role can be allowed to set what only superusers set.
_PARAMETER_RIGHTS_MAJOR = 15
_TABLESPACE_RIGHTS = """
SELECT r.rolname, 'tablespace' AS kind, '' AS place, t.spcname AS name, a.privilege_type
  FROM pg_tablespace t
 CROSS JOIN LATERAL aclexplode(t.spcacl) AS a
  JOIN pg_roles r ON r.oid = a.grantee
 WHERE r.rolname = ANY(%(names)s) AND a.grantee <> t.spcowner
"""
_PARAMETER_RIGHTS = """
SELECT r.rolname, 'parameter' AS kind, '' AS place, p.parname AS name, a.privilege_type
  FROM pg_parameter_acl p
 CROSS JOIN LATERAL aclexplode(p.paracl) AS a
  JOIN pg_roles r ON r.oid = a.grantee
 WHERE r.rolname = ANY(%(names)s)
"""
_UNMANAGED_DATABASES = """
SELECT d.datname, r.rolname, count(*)::int AS count
  FROM pg_shdepend s
  JOIN pg_roles r ON s.refclassid = 'pg_authid'::regclass AND r.oid = s.refobjid
  JOIN pg_database d
    ON d.oid = s.dbid OR s.dbid = 0 AND s.classid = 'pg_database'::regclass AND d.oid = s.objid
 WHERE r.rolname = ANY(%(names)s) AND d.datname <> ALL(%(databases)s)
 GROUP BY 1, 2 ORDER BY 1, 2
"""
_UNMANAGED_SCHEMAS = """
SELECT n.nspname, o.rolname AS owner, coalesce(tables.count, 0)::int AS tables
  FROM pg_namespace n
  JOIN pg_roles o ON o.oid = n.nspowner
  LEFT JOIN (SELECT c.relnamespace, count(*)
               FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
              WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND r.rolname = ANY(%(migrators)s)
              GROUP BY 1) AS tables ON tables.relnamespace = n.oid
 WHERE n.nspname <> ALL(%(known)s) AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND (o.rolname = ANY(%(migrators)s) OR tables.count > 0)
   AND NOT EXISTS (SELECT FROM pg_depend e
                    WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid
                      AND e.deptype = 'e')
 ORDER BY 1
"""
_UNMANAGED_RIGHTS = """
WITH elsewhere AS (SELECT oid, nspname FROM pg_namespace WHERE nspname <> ALL(%(known)s)),
lists AS (
  SELECT 'schema' AS kind, '' AS place, nspname AS name, nspowner AS owner, nspacl AS acl
    FROM pg_namespace WHERE nspname <> ALL(%(known)s)
  UNION ALL
  SELECT CASE c.relkind WHEN 'S' THEN 'sequences' ELSE 'tables' END, e.nspname, c.relname,
         c.relowner, c.relacl
    FROM pg_class c JOIN elsewhere e ON e.oid = c.relnamespace WHERE c.relacl IS NOT NULL
  UNION ALL
  SELECT 'columns', e.nspname, c.relname || '.' || a.attname, c.relowner, a.attacl
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    JOIN elsewhere e ON e.oid = c.relnamespace
   WHERE a.attacl IS NOT NULL
  UNION ALL
  SELECT 'routines', e.nspname, p.proname, p.proowner, p.proacl
    FROM pg_proc p JOIN elsewhere e ON e.oid = p.pronamespace WHERE p.proacl IS NOT NULL
  UNION ALL
  SELECT 'types', e.nspname, t.typname, t.typowner, t.typacl
    FROM pg_type t JOIN elsewhere e ON e.oid = t.typnamespace WHERE t.typacl IS NOT NULL
  UNION ALL
  SELECT 'language', '', lanname, lanowner, lanacl FROM pg_language
  UNION ALL
  SELECT 'foreign data wrapper', '', fdwname, fdwowner, fdwacl FROM pg_foreign_data_wrapper
  UNION ALL
  SELECT 'foreign server', '', srvname, srvowner, srvacl FROM pg_foreign_server
)
SELECT r.rolname, l.kind, l.place, l.name, a.privilege_type
  FROM lists l
 CROSS JOIN LATERAL aclexplode(l.acl) AS a
  JOIN pg_roles r ON r.oid = a.grantee
 WHERE r.rolname = ANY(%(names)s) AND a.grantee <> l.owner
"""
_DEFINERS_OF_ALL = """
SELECT DISTINCT n.nspname, p.proname
  FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace
 CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
 WHERE n.nspname = ANY(%(schemas)s) AND p.prosecdef AND a.grantee = 0
   AND NOT EXISTS (SELECT FROM pg_depend e
                    WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
 ORDER BY 1, 2
"""
_SHOWN_NAMES = 5


def read_role_graph(
    connection: Connection, names: Iterable[str]
) -> tuple[dict[str, ServerRole], tuple[Link, ...]]:
    """Every role of the server, and every membership.

    Args:
        connection: to any database.
        names: the roles of the model.
    """
    server_roles = {
        row.rolname: ServerRole(row.rolname, row.rolcanlogin, row.rolsuper, row.rolbypassrls)
        for row in fetch(connection, _SERVER_ROLES)
    }
    kept_apart = server_major(connection) >= ADMIN_OPTION_MAJOR
    query = _LINKS.format(**(_WHAT_MEMBERS_HAVE if kept_apart else _WHAT_MEMBERS_HAD))
    links = tuple(
        Link(row.member, row.granted, row.inherits, row.may_set)
        for row in fetch(connection, query, {"names": list(names)})
    )
    return server_roles, links


def read_unmanaged_rights(
    connection: Connection, names: Iterable[str], databases: Iterable[str]
) -> tuple[tuple[UnmanagedRight, ...], tuple[tuple[str, str, int], ...]]:
    """What roles of the model hold that is the whole server's, and in databases outside it.

    Returns:
        Rights on tablespaces and parameters; database, role and number of objects that it owns or
        has rights on there.
    """
    values = {"names": list(names), "databases": list(databases)}
    rows = fetch(connection, _TABLESPACE_RIGHTS, values)
    if server_major(connection) >= _PARAMETER_RIGHTS_MAJOR:
        rows.extend(fetch(connection, _PARAMETER_RIGHTS, values))
    found = fetch(connection, _UNMANAGED_DATABASES, values)
    return _rights(rows), tuple((row.datname, row.rolname, row.count) for row in found)


def read_unmanaged_schemas(
    connection: Connection,
    schemas: Iterable[str],
    of_extensions: Iterable[str],
    migrators: Iterable[str],
    names: Iterable[str],
) -> dict[str, Any]:
    """What a database holds outside the model's schemas and bears upon the model.

    Args:
        connection: to the database.
        schemas: the model's schemas.
        of_extensions: those that hold nothing but extensions.
        migrators: its roles of that kind.
        names: its other roles.

    Returns:
        Fields of ActualDatabase.
    """
    values = {
        "schemas": list(schemas),
        "known": [*schemas, *of_extensions, POOLER_SCHEMA],
        "migrators": list(migrators),
        "names": list(names),
    }
    return {
        "unmanaged_schemas": tuple(
            UnmanagedSchema(row.nspname, row.owner, row.tables)
            for row in fetch(connection, _UNMANAGED_SCHEMAS, values)
        ),
        "unmanaged_rights": _rights(fetch(connection, _UNMANAGED_RIGHTS, values)),
        "definers_of_all": tuple(
            (row.nspname, row.proname) for row in fetch(connection, _DEFINERS_OF_ALL, values)
        ),
    }


def _rights(rows: Iterable[Any]) -> tuple[UnmanagedRight, ...]:
    privileges: dict[tuple[str, str, str, str], set[str]] = {}
    names: dict[tuple[str, str, str, str], set[str]] = {}
    for row in rows:
        alone = "" if row.place else row.name
        key = (row.rolname, row.kind, row.place, alone)
        privileges.setdefault(key, set()).add(row.privilege_type)
        names.setdefault(key, set()).add(row.name)
    return tuple(
        UnmanagedRight(
            role,
            in_order(privileges[key]),
            kind,
            place,
            len(names[key]),
            tuple(sorted(names[key])[:_SHOWN_NAMES]),
        )
        for key in sorted(privileges)
        for role, kind, place, _alone in [key]
    )
