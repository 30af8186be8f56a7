# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a server's catalogs for what is in one database, with queries that take it as a whole."""

from __future__ import annotations

from typing import Any, Iterable

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    ActualDatabase,
    Column,
    DatabaseObject,
    DefaultRights,
    PoolerFunction,
    PoolerSchema,
    Schema,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import (
    EXTENSIONS_SCHEMA,
    POOLER_FUNCTION,
    POOLER_SCHEMA,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import (
    LARGE_OBJECTS,
    SCHEMAS,
    Grant,
    parse_acl,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    Connection,
    fetch,
)

_KIND_OF_DEFAULT = {
    "r": "tables",
    "S": "sequences",
    "f": "routines",
    "T": "types",
    "L": LARGE_OBJECTS,
    "n": SCHEMAS,
}

_SCHEMAS = """
SELECT nspname, pg_get_userbyid(nspowner) AS owner,
       coalesce(nspacl, acldefault('n', nspowner))::text[] AS acl
  FROM pg_namespace
 WHERE nspname = ANY(%(schemas)s)
"""
_EXTENSIONS = """
SELECT e.extname, n.nspname, e.extrelocatable
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
"""
_OBJECTS = """
WITH wanted AS (SELECT oid, nspname FROM pg_namespace WHERE nspname = ANY(%(schemas)s)),
objects AS (
  SELECT CASE c.relkind WHEN 'S' THEN 'sequences' ELSE 'tables' END AS kind,
         w.nspname, c.relname AS name, '' AS arguments, c.relowner AS owner,
         coalesce(c.relacl,
                  acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))
           AS acl,
         'pg_class'::regclass AS classid, c.oid
    FROM pg_class c
    JOIN wanted w ON w.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  UNION ALL
  SELECT 'routines', w.nspname, p.proname, oidvectortypes(p.proargtypes), p.proowner,
         coalesce(p.proacl, acldefault('f', p.proowner)), 'pg_proc'::regclass, p.oid
    FROM pg_proc p
    JOIN wanted w ON w.oid = p.pronamespace
  UNION ALL
  SELECT 'types', w.nspname, t.typname, '', t.typowner,
         coalesce(t.typacl, acldefault('T', t.typowner)), 'pg_type'::regclass, t.oid
    FROM pg_type t
    JOIN wanted w ON w.oid = t.typnamespace
    LEFT JOIN pg_class c ON c.oid = t.typrelid
   WHERE (t.typtype IN ('b', 'e', 'd', 'r') OR c.relkind = 'c')
     AND NOT EXISTS (SELECT FROM pg_type element WHERE element.typarray = t.oid)
)
SELECT o.kind, o.nspname, o.name, o.arguments, pg_get_userbyid(o.owner) AS owner,
       o.acl::text[] AS acl, e.objid IS NOT NULL AS of_extension
  FROM objects o
  LEFT JOIN pg_depend e ON e.classid = o.classid AND e.objid = o.oid AND e.objsubid = 0
        AND e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e'
 ORDER BY o.nspname, o.kind, o.name, o.arguments
"""
_COLUMNS = """
SELECT n.nspname, c.relname, a.attname, pg_get_userbyid(c.relowner) AS owner,
       a.attacl::text[] AS acl
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY(%(schemas)s) AND a.attacl IS NOT NULL AND NOT a.attisdropped
   AND NOT EXISTS (SELECT FROM pg_depend e
                    WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.objsubid = 0
                      AND e.deptype = 'e')
 ORDER BY 1, 2, 3
"""
_DEFAULT_RIGHTS = """
SELECT pg_get_userbyid(d.defaclrole) AS creator, coalesce(n.nspname, '') AS nspname,
       d.defaclobjtype AS letter, d.defaclacl::text[] AS acl
  FROM pg_default_acl d
  LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
 ORDER BY 1, 2, 3
"""
# An application may have millions of its own, of which nothing needs to be known.
_LARGE_OBJECTS = """
SELECT m.oid::text AS name, r.rolname AS owner,
       coalesce(m.lomacl, acldefault('L', m.lomowner))::text[] AS acl
  FROM pg_largeobject_metadata m
  JOIN pg_roles r ON r.oid = m.lomowner
 WHERE r.rolname = ANY(%(makers)s) OR m.lomacl IS NOT NULL
 ORDER BY m.oid
"""
_POOLER_FUNCTION = """
SELECT pg_get_function_result(p.oid) AS result, pg_get_function_arguments(p.oid) AS arguments,
       ARRAY[l.lanname::text, p.provolatile::text, p.prosecdef::text, p.proisstrict::text,
             array_to_string(p.proconfig, ' '), p.prosrc] AS definition,
       r.rolname AS owner, r.rolsuper AS owner_is_superuser,
       coalesce(p.proacl, acldefault('f', p.proowner))::text[] AS acl,
       ARRAY(SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0)
               FROM pg_depend d
              WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid
              ORDER BY 1) AS needed_by
  FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_language l ON l.oid = p.prolang
  JOIN pg_roles r ON r.oid = p.proowner
 WHERE n.nspname = %(schema)s AND p.proname = %(function)s AND p.pronargs = 1
   AND p.proargtypes[0] = 'text'::regtype
"""
# An extension that the schema belongs to is one of the other objects too: it could drop it.
_POOLER_SCHEMA = """
SELECT r.rolsuper AS owner_is_superuser,
       ARRAY(SELECT pg_describe_object(d.classid, d.objid, 0)
               FROM pg_depend d
              WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
                AND NOT (d.classid = 'pg_proc'::regclass AND d.objid IN (
                  SELECT p.oid FROM pg_proc p
                   WHERE p.pronamespace = n.oid AND p.proname = %(function)s AND p.pronargs = 1
                     AND p.proargtypes[0] = 'text'::regtype))
                AND d.classid <> 'pg_default_acl'::regclass
              UNION
             SELECT pg_describe_object(d.refclassid, d.refobjid, 0)
               FROM pg_depend d
              WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e'
              ORDER BY 1) AS other_objects
  FROM pg_namespace n
  JOIN pg_roles r ON r.oid = n.nspowner
 WHERE n.nspname = %(schema)s
"""


def read_schemas(connection: Connection, names: Iterable[str]) -> dict[str, Schema]:
    """Those of the schemas that are there."""
    return {
        row.nspname: Schema(row.nspname, row.owner, _acl(row.acl))
        for row in fetch(connection, _SCHEMAS, {"schemas": list(names)})
    }


def read_database(
    connection: Connection, database: Database, names: Iterable[str]
) -> ActualDatabase:
    """A database, or the template of one that is missing, as far as the model reaches.

    Args:
        connection: to it, prepared.
        database: what the model says of it.
        names: all roles of the model.
    """
    schemas = database.schemas
    migrators = [role.name for role in database.roles if role.kind == "migrator"]
    values = {
        "schemas": list(schemas),
        "makers": [*migrators, *(role.name for role in database.absent)],
        "names": list(names),
        "schema": POOLER_SCHEMA,
        "function": POOLER_FUNCTION,
    }
    rows = fetch(connection, _OBJECTS, values)
    functions = fetch(connection, _POOLER_FUNCTION, values)
    homes = fetch(connection, _POOLER_SCHEMA, values)
    extensions = fetch(connection, _EXTENSIONS)
    of_extensions = [EXTENSIONS_SCHEMA, *dict(database.extension_schemas).values()]
    return ActualDatabase(
        name="",
        exists=True,
        owner="",
        grants=(),
        schemas=read_schemas(connection, [*schemas, POOLER_SCHEMA, *of_extensions]),
        extensions=frozenset(row.extname for row in extensions),
        extension_schemas={row.extname: row.nspname for row in extensions},
        immovable=frozenset(row.extname for row in extensions if not row.extrelocatable),
        objects=tuple(
            DatabaseObject(row.kind, row.nspname, row.name, row.arguments, row.owner, _acl(row.acl))
            for row in rows
            if not row.of_extension
        ),
        columns=tuple(
            Column(row.nspname, row.relname, row.attname, row.owner, _acl(row.acl))
            for row in fetch(connection, _COLUMNS, values)
        ),
        large_objects=tuple(
            DatabaseObject(LARGE_OBJECTS, "", row.name, "", row.owner, _acl(row.acl))
            for row in fetch(connection, _LARGE_OBJECTS, values)
        ),
        default_rights=tuple(
            DefaultRights(row.creator, row.nspname, _KIND_OF_DEFAULT[row.letter], _acl(row.acl))
            for row in fetch(connection, _DEFAULT_RIGHTS)
        ),
        mixed=frozenset((row.nspname, row.kind) for row in rows if row.of_extension),
        pooler_function=_pooler_function(functions[0]) if functions else None,
        pooler_schema=(
            PoolerSchema(homes[0].owner_is_superuser, tuple(homes[0].other_objects))
            if homes
            else None
        ),
    )


def _pooler_function(row: Any) -> PoolerFunction:
    return PoolerFunction(
        result=row.result,
        arguments=row.arguments,
        definition=tuple(text or "" for text in row.definition),
        owner=row.owner,
        owner_is_superuser=row.owner_is_superuser,
        needed_by=tuple(row.needed_by),
        grants=_acl(row.acl),
    )


def _acl(items: Iterable[str]) -> tuple[Grant, ...]:
    return parse_acl(tuple(items))
