# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From any state of a real server one run reaches the model, and nobody outside it notices.

POOLED_PROPERTY_EXAMPLES is the number of random states for each major. When it is not set, the
states are few and always the same, and fewer on the majors between the oldest and the newest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings, strategies as st
from psycopg.rows import tuple_row

from ansible_collections.pooled.postgres.plugins.module_utils._model import role_kinds

from .clusters import INSTALLED

EXAMPLES = os.environ.get("POOLED_PROPERTY_EXAMPLES")
# What differs from major to major is there in the oldest or in the newest.
ENDS = (min(INSTALLED, default=0), max(INSTALLED, default=0))

USER, READER, MIGRATOR, ADMIN = "App User", 'reader"s', "select", "admin;--"
MIGRATOR_2, POOLER = "migrätor", "pgbouncer_auth"
OTHERS = ("other", "Ot'her", "nobody here")
GROUPS = ("grp", 'Gr"p')
MODEL_ROLES = (USER, READER, MIGRATOR, ADMIN, MIGRATOR_2, POOLER)
OUTSIDE = (*OTHERS, *GROUPS)
EVERY_ROLE = (*MODEL_ROLES, *OUTSIDE)
ONE, TWO, NOT_OURS, TEMPLATE = "one", 'Two "2"', "not ours", "pooled_template"
PUBLIC = "PUBLIC"

KINDS = {
    ONE: {USER: "user", READER: "reader", MIGRATOR: "migrator"},
    TWO: {USER: "user", ADMIN: "admin", MIGRATOR: "migrator", MIGRATOR_2: "migrator"},
}
SCHEMAS = {ONE: ("public", "S 1"), TWO: ("S 1", 'new "s"')}
MODEL = [
    {
        "name": name,
        "schemas": list(SCHEMAS[name]),
        "roles": [
            {
                "name": role,
                "kind": kind,
                "connection_limit": 7 if role == USER else -1,
                "member_of": ["grp"] if role == READER else [],
                "settings": {"work_mem": "8MB"} if role == ADMIN else {},
            }
            for role, kind in roles.items()
        ],
    }
    for name, roles in KINDS.items()
]
# Written down once more, on purpose: what each kind holds by name on what is in the model.
TABLE_WRITER = {"SELECT", "INSERT", "UPDATE", "DELETE"}
HELD = {
    "user": {
        "database": {"CONNECT"},
        "schema": {"USAGE"},
        "r": TABLE_WRITER,
        "S": {"SELECT", "USAGE"},
        "f": {"EXECUTE"},
        "T": {"USAGE"},
    },
    "reader": {
        "database": {"CONNECT"},
        "schema": {"USAGE"},
        "r": {"SELECT"},
        "S": {"SELECT"},
        "f": set(),
        "T": set(),
    },
    "migrator": {"database": {"CONNECT", "CREATE", "TEMPORARY"}, "schema": {"USAGE", "CREATE"}},
    "pooler": {"database": {"CONNECT"}},
    "none": {},
}
HELD["admin"] = HELD["user"]

# In each schema of the template; random statements then change owners and rights.
OBJECTS = """
CREATE TABLE {s}."Tab le" (id serial, "Col x" text);
CREATE TABLE {s}.parent (id int) PARTITION BY RANGE (id);
CREATE TABLE {s}.child PARTITION OF {s}.parent FOR VALUES FROM (0) TO (9);
CREATE VIEW {s}.v AS SELECT 1 AS id;
CREATE MATERIALIZED VIEW {s}.kept AS SELECT 1 AS id;
CREATE SEQUENCE {s}."Seq";
CREATE FUNCTION {s}.f(int, text[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE {s}.p() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE {s}.agg(int) (SFUNC = int4pl, STYPE = int);
CREATE TYPE {s}.enum AS ENUM ('a');
CREATE DOMAIN {s}."Do main" AS int;
"""
IN_TEMPLATE = ("public", "S 1", "private")


def q(name: str) -> str:
    """A role or another name as SQL."""
    return name if name == PUBLIC else '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Statement:
    """A statement of the prior state; what the server refuses is no part of it."""

    database: str
    sql: str
    as_role: str = ""


# What can be granted on what: for GRANT, for ALTER ... OWNER, and the privileges.
TABLE = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN")
IN_SCHEMA = (
    ('TABLE {s}."Tab le"', 'TABLE {s}."Tab le"', TABLE),
    ("TABLE {s}.parent", "TABLE {s}.parent", TABLE),
    ("TABLE {s}.child", "TABLE {s}.child", TABLE),
    ("TABLE {s}.v", "VIEW {s}.v", TABLE),
    ("TABLE {s}.kept", "MATERIALIZED VIEW {s}.kept", TABLE),
    ('SEQUENCE {s}."Seq"', 'SEQUENCE {s}."Seq"', ("SELECT", "USAGE", "UPDATE")),
    ("FUNCTION {s}.f(int, text[])", "FUNCTION {s}.f(int, text[])", ("EXECUTE",)),
    ("PROCEDURE {s}.p()", "PROCEDURE {s}.p()", ("EXECUTE",)),
    ("FUNCTION {s}.agg(int)", "AGGREGATE {s}.agg(int)", ("EXECUTE",)),
    ("TYPE {s}.enum", "TYPE {s}.enum", ("USAGE",)),
    ('DOMAIN {s}."Do main"', 'DOMAIN {s}."Do main"', ("USAGE",)),
    ("SCHEMA {s}", "SCHEMA {s}", ("USAGE", "CREATE")),
    ("LARGE OBJECT 77", "LARGE OBJECT 77", ("SELECT", "UPDATE")),
)
COLUMN = ('TABLE {s}."Tab le"', '("Col x")', ("SELECT", "INSERT", "UPDATE", "REFERENCES"))
DATABASE = ("CONNECT", "TEMPORARY", "CREATE")
DEFAULTS = {
    "TABLES": TABLE[:7],
    "SEQUENCES": ("SELECT", "USAGE", "UPDATE"),
    "FUNCTIONS": ("EXECUTE",),
    "TYPES": ("USAGE",),
    "SCHEMAS": ("USAGE", "CREATE"),
}
ROLE_WORDS = (
    "SUPERUSER", "NOINHERIT", "CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS", "NOLOGIN",
    "CONNECTION LIMIT 3", "VALID UNTIL '2020-01-01'", "VALID UNTIL 'infinity'",
    "SET statement_timeout = '7s'", "SET jit = off", "SET search_path = '$user', \"S 1\"",
    "IN DATABASE one SET lock_timeout = 3", "SET \"my.own\" = 'a''b'",
)  # fmt: skip

a_role = st.sampled_from(EVERY_ROLE)
a_grantee = st.sampled_from((*EVERY_ROLE, *EVERY_ROLE, PUBLIC))
a_database = st.sampled_from((ONE, TWO, NOT_OURS))
a_schema = st.sampled_from(IN_TEMPLATE)
# Who grants: mostly the owner, through the superuser, else somebody with a grant option.
a_grantor = st.sampled_from(("", "", "", *EVERY_ROLE))


def _some(words: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(words), min_size=1, max_size=len(words), unique=True)


@st.composite
def _grant(draw: Any) -> Statement:
    database = draw(a_database)
    if draw(st.integers(0, 4)) == 0:
        target, words = f"DATABASE {q(database)}", draw(_some(DATABASE))
    elif draw(st.integers(0, 4)) == 0:
        name, columns, all_words = COLUMN
        target = name.format(s=q(draw(a_schema)))
        words = [f"{word} {columns}" for word in draw(_some(all_words))]
    else:
        name, _owned, all_words = draw(st.sampled_from(IN_SCHEMA))
        target, words = name.format(s=q(draw(a_schema))), draw(_some(all_words))
    grantee = draw(a_grantee)
    privileges = f"{', '.join(words)} ON {target}"
    verb = draw(st.sampled_from(("GRANT", "GRANT", "OPTION", "OPTION", "REVOKE")))
    sql = {
        "GRANT": f"GRANT {privileges} TO {q(grantee)}",
        "OPTION": f"GRANT {privileges} TO {q(grantee)} WITH GRANT OPTION",
        "REVOKE": f"REVOKE {privileges} FROM {q(grantee)} CASCADE",
    }[verb]
    return Statement(database, sql, draw(a_grantor))


@st.composite
def _passed_on(draw: Any) -> tuple[Statement, Statement]:
    """A right with the option to grant it, and somebody who got it that way."""
    database = draw(a_database)
    in_schema = st.sampled_from(IN_SCHEMA).map(lambda entry: (entry[0], entry[2]))
    choices = st.one_of(in_schema, st.just(("DATABASE " + q(database), DATABASE)))
    name, words = draw(choices)
    target = name.format(s=q(draw(a_schema))) if "{s}" in name else name
    first, second = draw(a_role), draw(a_grantee)
    option = draw(st.sampled_from(("", " WITH GRANT OPTION")))
    privilege = draw(st.sampled_from(words))
    sql = f"GRANT {privilege} ON {target} TO "
    return (
        Statement(database, f"{sql}{q(first)} WITH GRANT OPTION"),
        Statement(database, f"{sql}{q(second)}{option}", first),
    )


@st.composite
def _default(draw: Any) -> Statement:
    kind = draw(st.sampled_from(tuple(DEFAULTS)))
    privileges = ", ".join(draw(_some(DEFAULTS[kind])))
    where = draw(st.sampled_from(("", *(f" IN SCHEMA {q(schema)}" for schema in IN_TEMPLATE))))
    option = draw(st.sampled_from(("", " WITH GRANT OPTION")))
    grantee = q(draw(a_grantee))
    action = draw(
        st.sampled_from(
            (
                f"GRANT {privileges} ON {kind} TO {grantee}{option}",
                f"REVOKE {privileges} ON {kind} FROM {grantee}",
            )
        )
    )
    creator = q(draw(st.sampled_from((*EVERY_ROLE, MIGRATOR, MIGRATOR_2))))
    sql = f"ALTER DEFAULT PRIVILEGES FOR ROLE {creator}{where} {action}"
    return Statement(draw(a_database), sql)


@st.composite
def _owner(draw: Any) -> Statement:
    database = draw(a_database)
    owned = st.sampled_from([owned for _name, owned, _words in IN_SCHEMA])
    target = draw(st.one_of(owned, st.just(f"DATABASE {q(database)}")))
    role = draw(a_role)
    return Statement(database, f"ALTER {target.format(s=q(draw(a_schema)))} OWNER TO {q(role)}")


@st.composite
def _membership(draw: Any) -> Statement:
    # A role outside the model that is a member of one in it follows that one: that is no state in
    # which nothing may change for it.
    group = draw(st.sampled_from((*EVERY_ROLE, *GROUPS, "pg_monitor", "pg_read_all_settings")))
    member = draw(st.sampled_from(MODEL_ROLES if group in MODEL_ROLES else EVERY_ROLE))
    more = draw(
        st.sampled_from(
            (
                "",
                " WITH ADMIN OPTION",
                " WITH ADMIN OPTION",
                " WITH INHERIT FALSE",
                " WITH SET FALSE",
            )
        )
    )
    return Statement("postgres", f"GRANT {q(group)} TO {q(member)}{more}", draw(a_grantor))


@st.composite
def _role(draw: Any) -> Statement:
    sql = f"ALTER ROLE {q(draw(a_role))} {draw(st.sampled_from(ROLE_WORDS))}"
    return Statement("postgres", sql)


@dataclass(frozen=True)
class State:
    """What is there before the run."""

    missing_roles: frozenset[str]
    missing_databases: frozenset[str]
    statements: tuple[Statement, ...]


_alone = st.one_of(_grant(), _grant(), _owner(), _default(), _membership(), _role())
_some_statements = st.one_of(_alone.map(lambda one: (one,)), _passed_on())
states = st.builds(
    State,
    st.frozensets(st.sampled_from(MODEL_ROLES), max_size=3),
    st.frozensets(st.sampled_from((ONE, TWO)), max_size=1),
    # Lists of a drawn length: left to itself, hypothesis makes short ones, which interfere less.
    st.integers(1, 40)
    .flatmap(lambda length: st.lists(_some_statements, min_size=length, max_size=length))
    .map(lambda groups: tuple(statement for group in groups for statement in group)),
)


@pytest.fixture(scope="module")
def stage(server):
    """A server with a database to copy, which holds one of everything."""
    server.clean()
    server.sql(f"CREATE DATABASE {TEMPLATE}")
    with server.connect(TEMPLATE) as connection:
        for schema in IN_TEMPLATE:
            if schema != "public":
                connection.execute(f"CREATE SCHEMA {q(schema)}".encode())
            connection.execute(OBJECTS.format(s=q(schema)).encode())
        connection.execute(b"CREATE EXTENSION hstore SCHEMA public")
        connection.execute(b"SELECT lo_create(77)")
    yield server
    server.clean()


def make_state(server: Any, state: State) -> None:
    """Bring a server into a state, from whatever the last example left."""
    with server.connect() as connection:
        for name in (ONE, TWO, NOT_OURS):
            connection.execute(f"DROP DATABASE IF EXISTS {q(name)} WITH (FORCE)".encode())
        found = connection.execute(
            r"SELECT rolname FROM pg_roles WHERE rolname <> 'postgres' AND rolname NOT LIKE 'pg\_%'"
        ).fetchall()
        names = ", ".join(q(name) for (name,) in found)
        if names:
            connection.execute(f"DROP OWNED BY {names} CASCADE".encode())
            connection.execute(f"DROP ROLE {names}".encode())
        for role in EVERY_ROLE:
            if role not in state.missing_roles:
                login = "NOLOGIN" if role in GROUPS else "LOGIN"
                connection.execute(f"CREATE ROLE {q(role)} {login}".encode())
        for name in {ONE, TWO, NOT_OURS} - state.missing_databases:
            connection.execute(f"CREATE DATABASE {q(name)} TEMPLATE {TEMPLATE}".encode())
    connections = {"postgres": server.connect()}
    applied = 0
    try:
        for statement in state.statements:
            name = statement.database
            if name in state.missing_databases:
                continue
            if name not in connections:
                connections[name] = server.connect(name)
            client = connections[name]
            try:
                if statement.as_role:
                    client.execute(f"SET ROLE {q(statement.as_role)}".encode())
                client.execute(statement.sql.encode())
                applied += 1
            except psycopg.Error:
                pass
            client.execute("RESET ROLE")
    finally:
        for client in connections.values():
            client.close()
    event(f"statements taken: {applied // 10}0s")


# Everything that has rights, with what each role that can act here can do with it.
EFFECTIVE = """
WITH actors AS (
  SELECT DISTINCT l.rolname AS login, r.oid, r.rolname AS actor
    FROM pg_roles l JOIN pg_roles r ON pg_has_role(l.oid, r.oid, 'MEMBER')
   WHERE l.rolname = ANY(%(outside)s) AND l.rolcanlogin
     AND has_database_privilege(l.oid, current_database(), 'CONNECT')
     AND (l.oid = r.oid OR NOT (l.rolsuper OR r.rolsuper))
  UNION
  SELECT rolname, oid, rolname FROM pg_roles WHERE rolname = ANY(%(outside)s) AND %(idle)s
),
with_option AS (SELECT word || option AS word FROM unnest(%(words)s::text[]) word,
                (VALUES (''), (' WITH GRANT OPTION')) o(option))
SELECT a.login, a.actor, x.what, w.word
  FROM actors a, with_option w, LATERAL ({objects}) x
 WHERE x.has
"""
ON_DATABASE = ("SELECT 'database' AS what,"
               " has_database_privilege(a.oid, current_database(), w.word) AS has",
               DATABASE, False)  # fmt: skip
ON_WHAT = (
    ON_DATABASE,
    ("SELECT 'schema ' || nspname AS what, has_schema_privilege(a.oid, oid, w.word) AS has"
     " FROM pg_namespace WHERE nspname !~ '^(pg_|pgbouncer|new)'", ("USAGE", "CREATE"), False),
    ("SELECT 'r ' || c.oid::regclass::text AS what,"
     " has_table_privilege(a.oid, c.oid, w.word) AS has FROM pg_class c"
     " JOIN pg_namespace n ON n.oid = relnamespace"
     " WHERE relkind IN ('r','p','v','m','f') AND nspname !~ '^(pg_|information)'", TABLE, False),
    ("SELECT a.attrelid::regclass || '.' || attname AS what,"
     " has_column_privilege(actor_oid, attrelid, attnum, w.word) AS has"
     " FROM (SELECT a.oid AS actor_oid) o, pg_attribute a JOIN pg_class c ON c.oid = attrelid"
     " JOIN pg_namespace n ON n.oid = relnamespace"
     " WHERE attnum > 0 AND relname = 'Tab le'", COLUMN[2], False),
    ("SELECT c.oid::regclass::text AS what, has_sequence_privilege(a.oid, c.oid, w.word) AS has"
     " FROM pg_class c WHERE relkind = 'S'", ("SELECT", "USAGE", "UPDATE"), False),
    ("SELECT p.oid::regprocedure::text AS what,"
     " has_function_privilege(a.oid, p.oid, w.word) AS has FROM pg_proc p"
     " JOIN pg_namespace n ON n.oid = pronamespace"
     " WHERE nspname !~ '^(pg_|information|pgbouncer)'", ("EXECUTE",), True),
    ("SELECT t.oid::regtype::text AS what, has_type_privilege(a.oid, t.oid, w.word) AS has"
     " FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace"
     " WHERE nspname !~ '^(pg_|information)'", ("USAGE",), True),
)  # fmt: skip
ROLES = """
SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
       rolbypassrls, rolconnlimit, rolvaliduntil::text, rolconfig,
       ARRAY(SELECT g.rolname || pg_has_role(r.oid, g.oid, 'USAGE')
                    || pg_has_role(r.oid, g.oid, 'MEMBER WITH ADMIN OPTION')
               FROM pg_roles g WHERE pg_has_role(r.oid, g.oid, 'MEMBER')
                AND (NOT r.rolsuper OR g.oid = r.oid) ORDER BY 1)
  FROM pg_roles r WHERE rolname = ANY(%(outside)s)
"""
# What those who can't connect have by name; of what PUBLIC has they make no use.
BY_NAME = """
SELECT c.oid::regclass::text, x.grantee::regrole::text, x.privilege_type, x.is_grantable
  FROM pg_class c, aclexplode(c.relacl) x
 WHERE x.grantee <> 0 AND pg_get_userbyid(x.grantee) = ANY(%(outside)s)
UNION ALL
SELECT attrelid::regclass || '.' || attname, x.grantee::regrole::text, x.privilege_type,
       x.is_grantable
  FROM pg_attribute, aclexplode(attacl) x
 WHERE x.grantee <> 0 AND pg_get_userbyid(x.grantee) = ANY(%(outside)s)
"""
# What they will give to others, and what others will get from them, is no effect on the present;
# it is nobody else's to change all the same. What creators of the model give is the model's.
OTHERS_DEFAULTS = """
SELECT pg_get_userbyid(defaclrole), coalesce(nspname, ''), defaclobjtype, x.*::text
  FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = defaclnamespace,
       aclexplode(defaclacl) x
 WHERE pg_get_userbyid(defaclrole) = ANY(%(outside)s)
    OR (x.grantee <> 0 AND pg_get_userbyid(x.grantee) = ANY(%(outside)s)
        AND NOT (pg_get_userbyid(defaclrole) = ANY(%(creators)s)
                 AND (nspname IS NULL OR nspname = ANY(%(schemas)s))))
"""
# Before 18 no function tells it.
LARGE_OBJECTS = """
SELECT DISTINCT 'large object', x.grantee, x.privilege_type, x.is_grantable
  FROM pg_largeobject_metadata, aclexplode(coalesce(lomacl, acldefault('L', lomowner))) x
 WHERE x.grantee = 0 OR pg_get_userbyid(x.grantee) = ANY(%(outside)s)
"""
OWNERS = """
SELECT 'relation', oid::regclass::text, relowner::regrole::text FROM pg_class
 WHERE relnamespace >= 16384 OR relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'routine', oid::regprocedure::text, proowner::regrole::text FROM pg_proc
 WHERE (pronamespace >= 16384 OR pronamespace = 'public'::regnamespace) AND proname <> 'get_auth'
UNION ALL
SELECT 'schema', nspname, nspowner::regrole::text FROM pg_namespace
 WHERE nspname !~ '^(pgbouncer|new)'
"""


def what_others_can_do(server: Any, databases: list[str]) -> set[tuple[Any, ...]]:
    """What roles outside the model can effectively do, down to logging in."""
    found: set[tuple[Any, ...]] = set()
    values: dict[str, Any] = {"outside": list(OUTSIDE)}
    with server.connect() as connection:
        found |= {("role", str(row)) for row in connection.execute(ROLES, values)}
    for database in databases:
        with server.connect(database, row_factory=tuple_row) as connection:
            for objects, words, idle in ON_WHAT:
                known = [word for word in words if word != "MAINTAIN" or server.major >= 17]
                query = EFFECTIVE.format(objects=objects)
                rows = connection.execute(query, {**values, "words": known, "idle": idle})
                found |= {(database, *row) for row in rows}
            found |= {(database, "by name", *row) for row in connection.execute(BY_NAME, values)}
            listed = KINDS.get(database, {})
            creators = [name for name, kind in listed.items() if kind == "migrator"]
            more = {"creators": creators, "schemas": list(SCHEMAS.get(database, ()))}
            rows = connection.execute(OTHERS_DEFAULTS, {**values, **more})
            found |= {(database, "by default", *row) for row in rows}
            rows = connection.execute(LARGE_OBJECTS, values)
            found |= {(database, *row) for row in rows}
            found |= {(database, "owner", *row) for row in connection.execute(OWNERS)}
        for role in OTHERS:
            try:
                server.connect(database, role).close()
            except psycopg.OperationalError:
                continue
            found.add((database, role, "logs in"))
    return found


ACLS = """
WITH ours AS (SELECT oid FROM pg_namespace WHERE nspname = ANY(%(schemas)s))
SELECT 'database' AS kind, datname AS what, pg_get_userbyid(datdba) AS owner, x.*
  FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) x
 WHERE datname = current_database()
UNION ALL
SELECT 'schema', nspname, pg_get_userbyid(nspowner), x.*
  FROM pg_namespace n, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) x
 WHERE nspname = ANY(%(schemas)s)
UNION ALL
SELECT CASE relkind WHEN 'S' THEN 'S' ELSE 'r' END, c.oid::regclass::text,
       pg_get_userbyid(relowner), x.*
  FROM pg_class c, aclexplode(coalesce(relacl,
         acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))) x
 WHERE relnamespace = ANY(ARRAY(SELECT oid FROM ours))
   AND relkind IN ('r','p','v','m','f','S')
UNION ALL
SELECT 'column', attrelid::regclass || '.' || attname, pg_get_userbyid(relowner), x.*
  FROM pg_attribute JOIN pg_class c ON c.oid = attrelid, aclexplode(attacl) x
 WHERE relnamespace = ANY(ARRAY(SELECT oid FROM ours))
UNION ALL
SELECT 'f', p.oid::regprocedure::text, pg_get_userbyid(proowner), x.*
  FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) x
 WHERE pronamespace = ANY(ARRAY(SELECT oid FROM ours))
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
UNION ALL
SELECT 'T', t.oid::regtype::text, pg_get_userbyid(typowner), x.*
  FROM pg_type t, aclexplode(coalesce(typacl, acldefault('T', typowner))) x
 WHERE typnamespace = ANY(ARRAY(SELECT oid FROM ours)) AND typtype IN ('e', 'd')
"""
DEFAULT_ACLS = """
SELECT c.rolname AS creator, coalesce(n.nspname, '') AS in_schema, d.defaclobjtype AS kind, x.*
  FROM pg_default_acl d JOIN pg_roles c ON c.oid = d.defaclrole
  LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace, aclexplode(d.defaclacl) x
"""
MODEL_STATE = """
SELECT r.rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
       rolbypassrls, rolconnlimit, coalesce(rolvaliduntil, 'infinity') = 'infinity' AS for_ever,
       ARRAY(SELECT g.rolname || m.admin_option FROM pg_auth_members m
               JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid) AS member_of,
       (SELECT json_object_agg(split_part(c, '=', 1), substr(c, strpos(c, '=') + 1))
          FROM pg_db_role_setting s, unnest(setconfig) c
         WHERE s.setrole = r.oid AND s.setdatabase = 0) AS settings,
       (SELECT count(*) FROM pg_db_role_setting s
         WHERE s.setrole = r.oid AND s.setdatabase <> 0) AS settings_in_databases
  FROM pg_roles r WHERE rolname = ANY(%s)
"""


def violations(server: Any) -> list[str]:
    """Where the server does not hold the model, asked in another way than the module asks."""
    wrong: list[str] = []
    kind_of = {**KINDS[ONE], **KINDS[TWO], POOLER: "pooler"}
    with server.connect() as connection:
        roles = connection.execute(MODEL_STATE, [list(MODEL_ROLES)]).fetchall()
    if {row[0] for row in roles} != set(MODEL_ROLES):
        wrong.append("roles are missing")
    for name, *flags, limit, for_ever, member_of, values, in_databases in roles:
        kind = kind_of[name]
        if flags != [False, True, False, False, True, False, kind == "admin"]:
            wrong.append(f"{name}: attributes {flags}")
        if (limit, for_ever, in_databases) != (7 if name == USER else -1, True, 0):
            wrong.append(f"{name}: {limit}, {for_ever}, {in_databases}")
        if member_of != (["grpfalse"] if name == READER else []):
            wrong.append(f"{name}: member of {member_of}")
        if kind != "pooler":
            expected = dict(role_kinds.KINDS[kind].settings)
            if name == ADMIN:
                expected["work_mem"] = "8MB"
            if set(values or {}) != set(expected):
                wrong.append(f"{name}: settings {values}")
    for database, listed in KINDS.items():
        with server.connect(database) as connection:
            wrong += _wrong_rights(connection, database, listed)
            wrong += _wrong_defaults(connection, database, listed)
    return wrong


def _wrong_rights(connection: Any, database: str, listed: dict[str, str]) -> list[str]:
    names = dict(connection.execute("SELECT oid, rolname FROM pg_roles").fetchall())
    rows = connection.execute(ACLS, {"schemas": list(SCHEMAS[database])}).fetchall()
    held: dict[tuple[str, str, str], set[str]] = {}
    objects = set()
    wrong = []
    for kind, what, owner, _grantor, grantee, privilege, grantable in rows:
        role = names.get(grantee, PUBLIC)
        objects.add((kind, what, owner))
        held.setdefault((kind, what, role), set()).add(privilege)
        counted = kind in HELD.get(listed.get(role, "none"), {}) or role not in listed
        if grantable and role in MODEL_ROLES and role != owner and counted:
            wrong.append(f"{database}: {role} may pass on {privilege} on {kind} {what}")
    for kind, what, owner in objects:
        for role in MODEL_ROLES:
            rights = HELD["pooler" if role == POOLER else listed.get(role, "none")]
            if role in listed and listed[role] == "migrator" and kind not in rights:
                continue
            if kind == "column":
                # What a role holds on the whole table it may hold on a column too.
                too_much = held.get((kind, what, role), set()) - rights.get("r", set())
                if too_much and role != owner:
                    wrong.append(f"{database}: {role} on column {what}: {too_much}")
                continue
            expected = rights.get(kind, set())
            found = held.get((kind, what, role), set())
            if found != expected and not (role == owner and found >= expected):
                wrong.append(f"{database}: {role} on {kind} {what}: {found}, not {expected}")
    return wrong


def _wrong_defaults(connection: Any, database: str, listed: dict[str, str]) -> list[str]:
    names = dict(connection.execute("SELECT oid, rolname FROM pg_roles").fetchall())
    held: dict[tuple[str, ...], set[str]] = {}
    wrong = []
    globally = set()
    for creator, schema, kind, _grantor, grantee, privilege, grantable in connection.execute(
        DEFAULT_ACLS
    ):
        role = names.get(grantee, PUBLIC)
        held.setdefault((creator, schema, kind, role), set()).add(privilege)
        if not schema:
            globally.add((creator, kind))
        if grantable and creator != role and listed.get(role) in ("user", "reader", "admin"):
            ours = listed.get(creator) == "migrator" and schema in ("", *SCHEMAS[database])
            if ours:
                wrong.append(f"{database}: by default of {creator}, {role} may pass on {privilege}")
    for creator in (role for role, kind in listed.items() if kind == "migrator"):
        if PUBLIC in {key[3] for key in held if key[:3] == (creator, "", "f")}:
            wrong.append(f"{database}: routines of {creator} are everybody's")
        for (by, schema, letter, role), found in held.items():
            ours = by == creator and schema in ("", *SCHEMAS[database])
            if ours and role not in (by, *MODEL_ROLES) and (letter, found) != ("T", {"USAGE"}):
                wrong.append(f"{database}: by default of {by}, {role} gets {found} on {letter}")
        if (creator, "f") not in globally:
            wrong.append(f"{database}: routines of {creator} are everybody's by default")
        for role, kind in listed.items():
            for letter in "rSfT":
                if letter not in HELD[kind]:
                    continue
                for schema in SCHEMAS[database]:
                    found = held.get((creator, schema, letter, role), set())
                    if found != HELD[kind][letter]:
                        wrong.append(f"{database}: by default of {creator}, {role} gets {found} on"
                                     f" {letter} in {schema}")  # fmt: skip
                if held.get((creator, "", letter, role), set()) - HELD[kind][letter]:
                    wrong.append(f"{database}: by default of {creator}, {role} gets more anywhere")
    return wrong


def holds(server: Any, run_module: Any, state: State) -> None:
    """Run, and see that the model is reached, as predicted, at once, and by nobody else noticed."""
    args = {**server.login, "databases": MODEL, "pooler_role": POOLER}
    make_state(server, state)
    existing = [name for name in (ONE, TWO, NOT_OURS) if name not in state.missing_databases]
    before = what_others_can_do(server, existing)
    predicted = run_module("postgres_access", args, check=True)
    assert what_others_can_do(server, existing) == before, "check mode changed something"
    result = run_module("postgres_access", args)
    assert not result.get("failed"), result["msg"]
    for key in ("changed", "statements", "diff", "warnings"):
        assert predicted.get(key) == result.get(key), f"{key} predicted otherwise"
    after = what_others_can_do(server, existing)
    assert before - after == set(), "others lost"
    assert after - before == set(), "others gained"
    assert violations(server) == [], "the model is not reached"
    again = run_module("postgres_access", args)
    assert again["statements"] == [], "the next run is not idle"
    assert not again["changed"]


def test_one_run_reaches_the_model_and_nobody_else_notices(stage, run_module):
    limits = settings(
        max_examples=int(EXAMPLES or (25 if stage.major in ENDS else 8)),
        derandomize=EXAMPLES is None,
        database=None,
        print_blob=True,
        phases=[Phase.generate],  # shrinking real servers' states takes many minutes
        suppress_health_check=list(HealthCheck),
    )
    limits(given(states)(lambda state: holds(stage, run_module, state)))()
