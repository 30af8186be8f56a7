# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what to everything a database holds: each cell is tried as that role, on each major.

A row is an operation on an object, and who may: u(ser), r(eader), m(igrator), a(dmin),
p(gBouncer's role) and o, a role outside the model. Everybody else must be refused. Rows with {o}
are tried on what the migrator created before the run (old) and after it (new).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator

import psycopg
import pytest

DENIED = "42501"
DIVISION_BY_ZERO = "22012"
NOT_YET_IN_SESSION = "55000"

# Names that need quoting, so that no cell passes by luck of spelling.
ROLES = {
    "u": "The User",
    "r": 'reader"s',
    "m": "select",
    "a": "ädmin",
    "p": "pgbouncer_auth",
    "o": "other",
}
EVERYBODY = "urmapo"
MODEL = [
    {
        "name": "The Matrix",
        "schemas": ["app", "public"],
        "roles": [
            {"name": ROLES["u"], "kind": "user"},
            {"name": ROLES["r"], "kind": "reader"},
            {"name": ROLES["m"], "kind": "migrator"},
            {"name": ROLES["a"], "kind": "admin"},
        ],
    },
    {"name": "second", "roles": [{"name": "second_user", "kind": "user"}]},
]
MATRIX = MODEL[0]["name"]

# What a server holds before the run: roles, an outsider's rights, extensions, a foreign server, and
# a table of each role's own in a schema outside the model.
BEFORE = """
CREATE SCHEMA app;
GRANT USAGE, CREATE ON SCHEMA app TO "select";
GRANT USAGE ON SCHEMA app TO other;
GRANT CONNECT, TEMPORARY ON DATABASE "The Matrix" TO other;
GRANT USAGE, CREATE ON SCHEMA public TO other;
CREATE EXTENSION hstore SCHEMA app;
CREATE EXTENSION pgstattuple SCHEMA app;
CREATE SCHEMA elsewhere AUTHORIZATION other;
CREATE TABLE elsewhere.theirs (id int);
ALTER TABLE elsewhere.theirs OWNER TO other;
CREATE SCHEMA behind;
CREATE TABLE behind.remote (id int, note text);
CREATE EXTENSION postgres_fdw SCHEMA public;
CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw
  OPTIONS (host '{socket}', port '{port}', dbname 'The Matrix');
CREATE USER MAPPING FOR PUBLIC SERVER loop OPTIONS (user 'postgres', password_required 'false');
GRANT USAGE ON FOREIGN SERVER loop TO "select";
"""
MIGRATION = """
CREATE TABLE {o}_table (id int PRIMARY KEY, note text);
CREATE TABLE {o}_parent (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);
CREATE TABLE {o}_partition PARTITION OF {o}_parent FOR VALUES FROM (0) TO (10);
CREATE VIEW {o}_view AS SELECT id, note FROM {o}_table;
CREATE MATERIALIZED VIEW {o}_kept AS SELECT 1 AS id;
CREATE FOREIGN TABLE {o}_foreign (id int, note text) SERVER loop
  OPTIONS (schema_name 'behind', table_name 'remote');
CREATE TABLE {o}_serial (id serial, note text);
CREATE TABLE {o}_identity (id int GENERATED ALWAYS AS IDENTITY, note text);
CREATE SEQUENCE {o}_sequence;
CREATE TABLE {o}_secret (id int, note text);
ALTER TABLE {o}_secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY shown ON {o}_secret USING (note = 'shown');
INSERT INTO {o}_secret VALUES (1, 'shown'), (2, 'hidden');
CREATE TABLE {o}_forced (id int, note text);
INSERT INTO {o}_forced VALUES (1, 'shown'), (2, 'hidden');
ALTER TABLE {o}_forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY shown ON {o}_forced USING (note = 'shown');
CREATE FUNCTION {o}_function(int) RETURNS int LANGUAGE sql AS 'SELECT 42';
CREATE PROCEDURE {o}_procedure(INOUT a int) LANGUAGE plpgsql AS 'BEGIN a := 1; END';
CREATE AGGREGATE {o}_aggregate(int) (SFUNC = int4pl, STYPE = int);
CREATE FUNCTION {o}_definer() RETURNS void LANGUAGE sql SECURITY DEFINER
  AS 'TRUNCATE app.{o}_table CASCADE';
CREATE TYPE {o}_enum AS ENUM ('good', 'bad');
CREATE DOMAIN {o}_domain AS int CHECK (VALUE < 10);
CREATE TYPE {o}_composite AS (a int, b int);
CREATE TYPE {o}_range AS RANGE (SUBTYPE = int);
SELECT lo_create({lo});
"""
# Odd rights on what is there: what the model's roles have too much goes, others' stay.
ODD_GRANTS = """
GRANT TRUNCATE, REFERENCES, TRIGGER ON old_table, old_parent TO "The User", "reader""s";
GRANT UPDATE (note) ON old_table TO "reader""s";
GRANT ALL ON SEQUENCE old_sequence TO "reader""s" WITH GRANT OPTION;
GRANT SELECT, TRUNCATE ON old_table TO other;
GRANT USAGE ON SEQUENCE old_sequence TO other;
"""


@dataclass(frozen=True)
class Row:
    """One operation on one object, and who may.

    C(refused) are the SQLSTATEs that mean no, C(passes) those that mean yes. C(alone) is for what
    no transaction can hold; C(least) and C(most) are the majors for which it holds.
    """

    what: str
    operation: str
    sql: str
    may: str
    refused: frozenset[str] = frozenset({DENIED})
    passes: frozenset[str] = frozenset({""})
    alone: bool = False
    least: int = 13
    most: int = 99


READ, WRITE, OWN = "urma", "uma", "m"
_RELATION = (
    ("select", "SELECT id FROM {r}", READ),
    ("insert", "INSERT INTO {r} (id) VALUES (7)", WRITE),
    ("update", "UPDATE {r} SET note = 'x'", WRITE),
    ("select for update", "SELECT id FROM {r} FOR UPDATE", WRITE),
    ("delete", "DELETE FROM {r}", WRITE),
    ("truncate", "TRUNCATE {r}", OWN),
    ("references", "ALTER TABLE desk.{me} ADD FOREIGN KEY (id) REFERENCES {r} (id)", OWN),
    ("trigger", "CREATE TRIGGER t AFTER UPDATE ON {r} EXECUTE FUNCTION tsvector_update_trigger()",
     OWN),
    ("index", "CREATE INDEX ON {r} (id)", OWN),
    ("reindex", "REINDEX TABLE {r}", OWN),
    ("lock for reading", "LOCK TABLE {r} IN ACCESS SHARE MODE", READ),
    ("lock", "LOCK TABLE {r} IN SHARE MODE", WRITE),
    ("alter", "ALTER TABLE {r} ADD COLUMN c int", OWN),
    ("rename", "ALTER TABLE {r} RENAME TO renamed", OWN),
    ("own", "ALTER TABLE {r} OWNER TO CURRENT_USER", OWN),
    ("policy", "CREATE POLICY p ON {r} USING (true)", OWN),
    ("comment", "COMMENT ON TABLE {r} IS 'x'", OWN),
    ("drop", "DROP TABLE {r} CASCADE", OWN),
)  # fmt: skip
# Which of those make sense on what; a view is told apart by the word.
_ON = {
    "table": ("{o}_table", "TABLE", ()),
    "partitioned table": ("{o}_parent", "TABLE", ("reindex",)),
    "partition": ("{o}_partition", "TABLE", ("alter",)),
    "table with serial": ("{o}_serial", "TABLE", ("references",)),
    "table with identity": ("{o}_identity", "TABLE", ("references",)),
    "view": ("{o}_view", "VIEW",
             ("truncate", "references", "trigger", "index", "reindex", "alter", "policy")),
    "materialised view": ("{o}_kept", "MATERIALIZED VIEW",
                          ("insert", "update", "select for update", "delete", "truncate",
                           "references", "trigger", "lock for reading", "lock", "alter",
                           "policy", "reindex")),
    "foreign table": ("{o}_foreign", "FOREIGN TABLE",
                      ("references", "index", "reindex", "policy", "lock for reading", "lock",
                       "select for update", "truncate")),
}  # fmt: skip
_STATEMENTS_BY_WORD = ("ALTER TABLE {r}", "COMMENT ON TABLE", "DROP TABLE")


def _relations() -> Iterator[Row]:
    for what, (name, word, without) in _ON.items():
        for operation, sql, may in _RELATION:
            if operation not in without:
                statement = sql
                if statement.startswith(_STATEMENTS_BY_WORD):
                    statement = statement.replace("TABLE", word, 1)
                if operation == "insert" and "with" in what:
                    statement = "INSERT INTO {r} (note) VALUES ('x')"
                yield Row(what, operation, statement.replace("{r}", "app." + name), may)


def _sequences() -> Iterator[Row]:
    sequences = {
        "sequence": ("app.{o}_sequence", "o"),
        "sequence of a serial": ("app.{o}_serial_id_seq", ""),
        "sequence of an identity": ("app.{o}_identity_id_seq", ""),
    }
    for what, (name, outsider) in sequences.items():
        # Only on the old one has the outsider rights of its own: see ODD_GRANTS.
        old = outsider and "old:o"
        yield Row(what, "currval", f"SELECT currval('{name}')", f"{READ} {old}",
                  passes=frozenset({"", NOT_YET_IN_SESSION}))  # fmt: skip
        yield Row(what, "nextval", f"SELECT nextval('{name}')", f"{WRITE} {old}")
        yield Row(what, "select", f"SELECT last_value FROM {name}", READ)
        yield Row(what, "setval", f"SELECT setval('{name}', 5)", OWN)
        yield Row(what, "alter", f"ALTER SEQUENCE {name} RESTART", OWN)
        yield Row(what, "comment", f"COMMENT ON SEQUENCE {name} IS 'x'", OWN)
    yield Row("sequence", "drop", "DROP SEQUENCE app.{o}_sequence", OWN)


# PUBLIC may execute what was created before the run, and that is not the model's to take.
_EXECUTE = "uma old:ro"
_ROUTINES = (
    ("function", "FUNCTION", "{o}_function(int)", "SELECT app.{o}_function(1)"),
    ("procedure", "PROCEDURE", "{o}_procedure(int)", "CALL app.{o}_procedure(1)"),
    ("aggregate", "AGGREGATE", "{o}_aggregate(int)", "SELECT app.{o}_aggregate(1)"),
    ("security definer function", "FUNCTION", "{o}_definer()", "SELECT app.{o}_definer()"),
)


def _routines() -> Iterator[Row]:
    for what, word, name, call in _ROUTINES:
        yield Row(what, "execute", call, _EXECUTE)
        yield Row(what, "alter", f"ALTER {word} app.{name} RENAME TO renamed", OWN)
        yield Row(what, "comment", f"COMMENT ON {word} app.{name} IS 'x'", OWN)
        yield Row(what, "own", f"ALTER {word} app.{name} OWNER TO CURRENT_USER", OWN)
        yield Row(what, "drop", f"DROP {word} app.{name}", OWN)
    yield Row("function", "replace",
              "CREATE OR REPLACE FUNCTION app.{o}_function(int) RETURNS int LANGUAGE sql"
              " AS 'SELECT 1'", OWN)  # fmt: skip


_TYPES = (
    ("enum", "TYPE", "{o}_enum", "'good'"),
    ("domain", "DOMAIN", "{o}_domain", "3"),
    ("composite type", "TYPE", "{o}_composite", "ROW(1, 2)"),
    ("range type", "TYPE", "{o}_range", "'[1,2]'"),
)


def _types() -> Iterator[Row]:
    for what, word, name, value in _TYPES:
        yield Row(what, "cast", f"SELECT {value}::app.{name}", "urmao")
        # For those who may have temporary tables at all.
        yield Row(what, "usage", f"CREATE TEMPORARY TABLE t (c app.{name})", "mo")
        yield Row(what, "alter", f"ALTER {word} app.{name} RENAME TO renamed", OWN)
        yield Row(what, "comment", f"COMMENT ON {word} app.{name} IS 'x'", OWN)
        yield Row(what, "drop", f"DROP {word} app.{name}", OWN)
    yield Row("enum", "add value", "ALTER TYPE app.{o}_enum ADD VALUE 'ugly'", OWN)


def _column(rows: str) -> str:
    """A query that divides by zero when a row is hidden."""
    return f"SELECT 1 / count(*) FROM app.{{o}}_{rows} WHERE note = 'hidden'"


_HIDDEN = frozenset({DENIED, DIVISION_BY_ZERO})
_GRANTED = "SELECT 1 / count(*) FROM pg_class, aclexplode(relacl) x WHERE relname = '{o}_table'"
_ON_OBJECTS = (
    *_relations(),
    Row("table", "cluster", "CLUSTER app.{o}_table USING {o}_table_pkey", OWN),
    Row("table", "grant", "GRANT SELECT ON app.{o}_table TO PUBLIC; " + _GRANTED
        + " AND x.grantee = 0", OWN, _HIDDEN),
    Row("table", "pass on", "GRANT SELECT ON app.{o}_table TO somebody; " + _GRANTED
        + " AND x.grantee = 'somebody'::regrole", OWN, _HIDDEN),
    Row("table", "merge", "MERGE INTO app.{o}_table t USING (SELECT 5 AS id) s ON t.id = s.id"
        " WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (5)", WRITE, least=15),
    Row("table", "upsert", "INSERT INTO app.{o}_table VALUES (1, 'x') ON CONFLICT (id)"
        " DO UPDATE SET note = 'y'", WRITE),
    Row("table", "select a column", "SELECT note FROM app.{o}_table", READ),
    Row("table", "update a column", "UPDATE app.{o}_table SET note = 'x'", WRITE),
    Row("table", "copy to program", "COPY app.{o}_table TO PROGRAM 'true'", ""),
    Row("table", "copy to file", "COPY app.{o}_table TO '/tmp/refused'", ""),
    Row("table", "copy from file", "COPY app.{o}_table FROM '/etc/passwd'", ""),
    Row("table", "disable triggers", "ALTER TABLE app.{o}_table DISABLE TRIGGER USER", OWN),
    Row("table", "statistics", "CREATE STATISTICS app.x ON id, note FROM app.{o}_table", OWN),
    Row("table", "rule", "CREATE RULE x AS ON DELETE TO app.{o}_table DO INSTEAD NOTHING", OWN),
    Row("table", "inherit", "CREATE TABLE app.x () INHERITS (app.{o}_table)", OWN),
    Row("partitioned table", "add a partition", "CREATE TABLE app.x PARTITION OF app.{o}_parent"
        " FOR VALUES FROM (20) TO (30)", OWN),
    Row("partition", "alter", "ALTER TABLE app.{o}_partition ALTER note SET NOT NULL", OWN),
    Row("partitioned table", "detach", "ALTER TABLE app.{o}_parent DETACH PARTITION"
        " app.{o}_partition", OWN),
    Row("view", "replace", "CREATE OR REPLACE VIEW app.{o}_view AS SELECT id, note"
        " FROM app.{o}_table", OWN),
    Row("materialised view", "refresh", "REFRESH MATERIALIZED VIEW app.{o}_kept", OWN),
    *_sequences(),
    *_routines(),
    *_types(),
    Row("row-level security", "see a shown row", _column("secret").replace("hidden", "shown"),
        READ),
    Row("row-level security", "see a hidden row", _column("secret"), "ma", _HIDDEN),
    Row("row-level security", "see a hidden row when forced", _column("forced"), "a", _HIDDEN),
    Row("row-level security", "insert a hidden row",
        "INSERT INTO app.{o}_secret VALUES (3, 'hidden')", "ma"),
    Row("row-level security", "insert a hidden row when forced",
        "INSERT INTO app.{o}_forced VALUES (3, 'hidden')", "a"),
    Row("row-level security", "hide a row",
        "UPDATE app.{o}_secret SET note = 'hidden' WHERE id = 1", "ma"),
    Row("row-level security", "alter a policy",
        "ALTER POLICY shown ON app.{o}_secret USING (true)", OWN),
    Row("row-level security", "drop a policy", "DROP POLICY shown ON app.{o}_secret", OWN),
    Row("row-level security", "disable", "ALTER TABLE app.{o}_secret DISABLE ROW LEVEL SECURITY",
        OWN),
    Row("row-level security", "do without", "SET row_security = off;"
        " SELECT FROM app.{o}_secret", "ma"),
    # From 18 on default rights cover large objects; before, the next run covers what is new.
    Row("large object", "read", "SELECT lo_get({lo})", "m old:ura", most=17),
    Row("large object", "read", "SELECT lo_get({lo})", READ, least=18),
    Row("large object", "write", "SELECT lo_put({lo}, 0, 'x')", "m old:ua", most=17),
    Row("large object", "write", "SELECT lo_put({lo}, 0, 'x')", WRITE, least=18),
    Row("large object", "drop", "SELECT lo_unlink({lo})", OWN),
    Row("large object", "comment", "COMMENT ON LARGE OBJECT {lo} IS 'x'", OWN),
    Row("large object", "own", "ALTER LARGE OBJECT {lo} OWNER TO CURRENT_USER", OWN),
)  # fmt: skip
_ON_DATABASE = (
    Row("large object", "create", "SELECT lo_create(0)", EVERYBODY),
    Row("large object", "import a file", "SELECT lo_import('/etc/passwd')", ""),
    Row("temporary table", "create", "CREATE TEMPORARY TABLE t (id int)", "mo"),
    Row("temporary table", "create by select", "SELECT 1 AS id INTO TEMPORARY t", "mo"),
    Row("temporary table", "create in pg_temp", "CREATE TABLE pg_temp.t (id int)", "mo"),
    Row("schema", "create a table", "CREATE TABLE app.t (id int)", OWN),
    Row("schema", "create a view", "CREATE VIEW app.t AS SELECT 1 AS id", OWN),
    Row("schema", "create a sequence", "CREATE SEQUENCE app.t", OWN),
    Row("schema", "create a function",
        "CREATE FUNCTION app.t() RETURNS int LANGUAGE sql AS 'SELECT 1'", OWN),
    Row("schema", "create a type", "CREATE TYPE app.t AS ENUM ('a')", OWN),
    Row("schema", "create a domain", "CREATE DOMAIN app.t AS int", OWN),
    Row("schema", "create a collation", "CREATE COLLATION app.t (LOCALE = 'C')", OWN),
    Row("schema", "create an operator",
        "CREATE OPERATOR app.### (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl)", OWN),
    Row("schema", "create by select", "SELECT 1 AS id INTO app.t", OWN),
    Row("schema", "create in public", "CREATE TABLE public.t (id int)", "mo"),
    Row("schema", "create in pg_catalog", "CREATE TABLE pg_catalog.t (id int)", ""),
    Row("schema", "create", "CREATE SCHEMA t", OWN),
    Row("schema", "rename", "ALTER SCHEMA app RENAME TO t", ""),
    Row("schema", "own", "ALTER SCHEMA app OWNER TO CURRENT_USER", ""),
    Row("schema", "comment", "COMMENT ON SCHEMA app IS 'x'", ""),
    Row("schema", "drop", "DROP SCHEMA app CASCADE", ""),
    Row("schema", "use one outside the model", "SELECT FROM elsewhere.theirs", "o"),
    Row("schema", "create in one outside the model", "CREATE TABLE elsewhere.t (id int)", "o"),
    Row("schema", "drop one outside the model", "DROP SCHEMA elsewhere CASCADE", "o"),
    Row("schema", "read behind the foreign table", "SELECT FROM behind.remote", ""),
    Row("database", "set", 'ALTER DATABASE "The Matrix" SET work_mem = \'1MB\'', ""),
    Row("database", "limit", 'ALTER DATABASE "The Matrix" CONNECTION LIMIT 1', ""),
    Row("database", "own", 'ALTER DATABASE "The Matrix" OWNER TO CURRENT_USER', ""),
    Row("database", "comment", 'COMMENT ON DATABASE "The Matrix" IS \'x\'', ""),
    Row("database", "drop", 'DROP DATABASE "The Matrix"', "", alone=True),
    Row("database", "drop another", "DROP DATABASE second", "", alone=True),
    Row("database", "create", "CREATE DATABASE t", "", alone=True),
    Row("database", "create an event trigger", "CREATE EVENT TRIGGER t ON ddl_command_start"
        " EXECUTE FUNCTION app.old_function()", "", refused=frozenset({DENIED, "42883"})),
    Row("database", "publish everything", "CREATE PUBLICATION t FOR ALL TABLES", ""),
    Row("database", "publish", "CREATE PUBLICATION t FOR TABLE app.old_table", OWN),
    Row("database", "create a cast", "CREATE CAST (text AS app.old_composite) WITH INOUT", OWN),
    Row("database", "create a language", "CREATE LANGUAGE t HANDLER plpgsql_call_handler", ""),
    Row("extension objects", "call what PUBLIC may", "SELECT app.hstore('a', 'b')", "urmao"),
    Row("extension objects", "call what PUBLIC may not",
        "SELECT * FROM app.pgstattuple('app.old_table')", ""),
    Row("extension objects", "cast", "SELECT 'a=>b'::app.hstore", "urmao"),
    Row("extension objects", "alter", "ALTER EXTENSION hstore SET SCHEMA public", ""),
    Row("extension objects", "drop", "DROP EXTENSION hstore CASCADE", ""),
    Row("extension objects", "create a trusted one", "CREATE EXTENSION tablefunc SCHEMA app",
        OWN),
    Row("extension objects", "create another", "CREATE EXTENSION file_fdw SCHEMA app", ""),
    Row("foreign server", "create", "CREATE SERVER t FOREIGN DATA WRAPPER postgres_fdw", ""),
    Row("foreign server", "alter", "ALTER SERVER loop OPTIONS (ADD fetch_size '1')", ""),
    Row("foreign server", "use", "CREATE FOREIGN TABLE app.t (id int) SERVER loop", OWN),
    Row("foreign server", "drop", "DROP SERVER loop CASCADE", ""),
    Row("PgBouncer's function", "execute", "SELECT pgbouncer.get_auth('other')", "p"),
    Row("PgBouncer's function", "replace", "CREATE OR REPLACE FUNCTION pgbouncer.get_auth(text)"
        " RETURNS int LANGUAGE sql AS 'SELECT 1'", ""),
    Row("PgBouncer's function", "drop", "DROP FUNCTION pgbouncer.get_auth(text)", ""),
    Row("PgBouncer's function", "create beside it", "CREATE TABLE pgbouncer.t (id int)", ""),
)  # fmt: skip
_ON_SERVER = (
    Row("role", "create", "CREATE ROLE t", ""),
    Row("role", "drop", "DROP ROLE somebody", ""),
    Row("role", "rename", "ALTER ROLE somebody RENAME TO t", ""),
    Row("role", "set another's password", "ALTER ROLE somebody PASSWORD 'x'", ""),
    Row("role", "set another's setting", "ALTER ROLE somebody SET work_mem = '1MB'", ""),
    Row("role", "set one's own setting", "ALTER ROLE CURRENT_USER SET work_mem = '1MB'",
        EVERYBODY),
    Row("role", "become superuser", "ALTER ROLE CURRENT_USER SUPERUSER", ""),
    Row("role", "get BYPASSRLS", "ALTER ROLE CURRENT_USER BYPASSRLS", ""),
    Row("role", "get CREATEDB", "ALTER ROLE CURRENT_USER CREATEDB", ""),
    Row("role", "lift one's limit", "ALTER ROLE CURRENT_USER CONNECTION LIMIT -1", ""),
    Row("role", "grant somebody", "GRANT somebody TO CURRENT_USER", ""),
    # Before 15 a role that has logged in is an administrator of itself.
    Row("role", "grant the migrator", 'GRANT "select" TO somebody', OWN, most=14),
    Row("role", "grant the migrator", 'GRANT "select" TO somebody', "", least=15),
    Row("role", "grant a predefined one", "GRANT pg_read_all_data TO CURRENT_USER", "",
        least=14),
    Row("role", "set role to a superuser", "SET ROLE postgres", ""),
    Row("role", "set role to the migrator", 'SET ROLE "select"', "m"),
    Row("role", "set role to the admin", 'SET ROLE "ädmin"', "a"),
    Row("role", "set role to a predefined one", "SET ROLE pg_monitor", ""),
    Row("role", "set session authorization", "SET SESSION AUTHORIZATION postgres", ""),
    Row("role", "default rights for the migrator",
        'ALTER DEFAULT PRIVILEGES FOR ROLE "select" GRANT ALL ON TABLES TO PUBLIC', "m"),
    Row("role", "reassign", 'REASSIGN OWNED BY "select" TO CURRENT_USER', "m"),
    Row("role", "drop owned", 'DROP OWNED BY "The User"', "u"),
    Row("server", "read verifiers", "SELECT FROM pg_authid", ""),
    Row("server", "read passwords", "SELECT FROM pg_shadow", ""),
    Row("server", "read rules", "SELECT FROM pg_hba_file_rules", ""),
    Row("server", "read a file", "SELECT pg_read_file('PG_VERSION')", ""),
    Row("server", "list a directory", "SELECT pg_ls_dir('.')", ""),
    Row("server", "reload", "SELECT pg_reload_conf()", ""),
    Row("server", "rotate the log", "SELECT pg_rotate_logfile()", ""),
    Row("server", "switch off logging", "SET log_statement = 'none'", ""),
    Row("server", "be a replica", "SET session_replication_role = replica", ""),
    Row("server", "alter system", "ALTER SYSTEM SET work_mem = '1MB'", "", alone=True),
    Row("server", "checkpoint", "CHECKPOINT", ""),
    Row("server", "create a tablespace", "CREATE TABLESPACE t LOCATION '/tmp'", "", alone=True),
    Row("server", "end another's session", "SELECT pg_terminate_backend(pid)"
        " FROM pg_stat_activity WHERE usename = 'postgres' AND datname = 'postgres'", ""),
    Row("server", "write a catalog", "DELETE FROM pg_class", ""),
)  # fmt: skip
ROWS = (*_ON_OBJECTS, *_ON_DATABASE, *_ON_SERVER)
AGES = {"old": "4711", "new": "4712"}
# Who gets into which database; the outsider has CONNECT on the matrix by name.
CONNECTS = {MATRIX: EVERYBODY, "second": "p", "postgres": EVERYBODY}


@dataclass(frozen=True)
class Cell:
    """A row, tried as one role."""

    label: str
    row: Row
    sql: str
    allowed: bool


def cells(letter: str, major: int) -> Iterator[Cell]:
    """What there is to try as a role."""
    for row in ROWS:
        if not row.least <= major <= row.most:
            continue
        ages = AGES if "{o}" in row.sql or "{lo}" in row.sql else {"": ""}
        words = row.may.split()
        for age, lo in ages.items():
            may = "".join(
                word.partition(":")[2] if ":" in word else word
                for word in words
                if ":" not in word or word.startswith(f"{age}:")
            )
            sql = row.sql.replace("{o}", age).replace("{lo}", lo).replace("{me}", letter)
            allowed = letter in may or _granted_by_hand(letter, row, age)
            yield Cell(f"{age} {row.what}, {row.operation}".strip(), row, sql, allowed)


def _granted_by_hand(letter: str, row: Row, age: str) -> bool:
    """What ODD_GRANTS gives a role outside the model, which stays."""
    operations = ("select", "select a column", "truncate", "lock", "lock for reading")
    return (letter, row.what, age) == ("o", "table", "old") and row.operation in operations


def sqlstate(connection: psycopg.Connection, cell: Cell) -> str:
    """How a cell ends; whatever it did is undone."""
    statement = cell.sql if cell.row.alone else f"BEGIN; {cell.sql}; ROLLBACK"
    try:
        cursor = connection.execute(statement.encode())
        while cursor.nextset():
            pass
    except psycopg.Error as error:
        connection.execute("ROLLBACK")
        return error.sqlstate or "connection"
    return ""


@pytest.fixture(scope="module")
def matrix(server, run_module):
    """A server with old objects, the run, and new objects."""
    server.clean()
    for letter, role in ROLES.items():
        if letter != "p":
            server.sql(f'CREATE ROLE "{role}" LOGIN'.replace('r"s', 'r""s'))
    server.sql("CREATE ROLE somebody")
    server.sql(f'CREATE DATABASE "{MATRIX}"')
    server.sql(BEFORE.format(socket=server.socket_directory, port=server.port), MATRIX)
    in_app = {"dbname": MATRIX, "user": ROLES["m"], "options": "-c search_path=app"}

    def migrate(script: str) -> None:
        with server.connect(**in_app) as connection:
            connection.execute(script.encode())

    migrate(MIGRATION.format(o="old", lo=AGES["old"]) + ODD_GRANTS)
    args = {**server.login, "databases": MODEL, "pooler_role": ROLES["p"]}
    result = run_module("postgres_access", args)
    assert not result.get("failed"), result["msg"]
    migrate(MIGRATION.format(o="new", lo=AGES["new"]))
    server.sql("CREATE SCHEMA desk; GRANT USAGE ON SCHEMA desk TO PUBLIC", MATRIX)
    for letter, role in ROLES.items():
        owner = role.replace('"', '""')
        server.sql(f'CREATE TABLE desk.{letter} (id int);'
                   f'ALTER TABLE desk.{letter} OWNER TO "{owner}"', MATRIX)  # fmt: skip
    return server


@pytest.mark.parametrize("letter", EVERYBODY)
def test_each_role_may_do_what_it_shall_and_nothing_else(matrix, letter):
    wrong = []
    tried = list(cells(letter, matrix.major))
    # PgBouncer's role reads only, until it says otherwise.
    silent = "-c client_min_messages=error -c default_transaction_read_only=off"
    # The first connection is the superuser's session that nobody may end.
    with matrix.connect(), matrix.connect(MATRIX, ROLES[letter], options=silent) as client:
        for cell in tried:
            found = sqlstate(client, cell)
            expected = cell.row.passes if cell.allowed else cell.row.refused
            if found not in expected:
                verb = "may" if cell.allowed else "may not"
                wrong.append(f"{ROLES[letter]} {verb}: {cell.label}: {cell.sql}: {found or 'done'}")
    assert not wrong, "\n".join(wrong)
    # A table that lost its rows proves nothing.
    assert len(tried) > 400


@pytest.mark.parametrize("database", CONNECTS)
def test_each_role_gets_into_its_databases_and_no_other(matrix, database):
    got_in = ""
    for letter, role in ROLES.items():
        try:
            matrix.connect(database, role).close()
        except psycopg.OperationalError as error:
            assert "permission denied for database" in str(error)
        else:
            got_in += letter
    assert got_in == CONNECTS[database]
