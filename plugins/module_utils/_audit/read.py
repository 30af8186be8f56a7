# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a server and its PgBouncer for the audit. Every transaction is read-only and short."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._audit.snapshot import (
    MAINTENANCE,
    DatabaseState,
    FileSetting,
    Grants,
    HbaRule,
    LoginRole,
    Pool,
    PoolDatabase,
    PooledLogin,
    PoolerState,
    Session,
    Setting,
    Slot,
    Unreachable,
    merged_pools,
    network_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._host import files
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database, Role
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import POOLER_USER
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    hba,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.login import (
    Taken,
    taken_guesses,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import (
    parse_version,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import LoginRule
from ansible_collections.pooled.postgres.plugins.module_utils._sql import (
    connection as sql_connection,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    Connection,
    ConnectionFailed,
    connect_console,
    connect_pooled,
    console_rows,
    fetch,
    server_message,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.scram import is_verifier

# Logins are tried in the first of many databases only.
_TRIED_DATABASES = 2
# Locks of others must not be waited for.
_SESSION = """
SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '30s'; SET LOCAL jit = off
"""
# What SHOW hides over the unix socket, reset_val tells.
_SETTINGS = """
SELECT name, CASE WHEN name LIKE 'tcp\\_%' THEN reset_val ELSE setting END AS value,
       coalesce(unit, '') AS unit, coalesce(boot_val, '') AS boot, source, pending_restart
FROM pg_settings
"""
_ROLES = """
SELECT r.rolname, r.rolsuper, r.rolcanlogin, r.oid = 10 AS bootstrap, r.rolbypassrls,
       r.rolcreaterole, r.rolcreatedb, r.rolreplication,
       ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
             WHERE m.member = r.oid) AS member_of
FROM pg_roles r
"""
_ROLE_SETTINGS = """
SELECT coalesce(r.rolname, '') AS role, coalesce(d.datname, '') AS database, s.setconfig
FROM pg_db_role_setting s
LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase
"""
_PASSWORDS = """
SELECT rolname, CASE WHEN rolpassword LIKE 'md5%' THEN 'md5' ELSE 'scram' END AS kind
FROM pg_authid WHERE rolpassword IS NOT NULL
"""
_HBA = """
SELECT line_number, type, database, user_name, address, netmask, auth_method, error
FROM pg_hba_file_rules ORDER BY line_number
"""
_FILES = """
SELECT sourcefile, sourceline, name, setting FROM pg_file_settings
WHERE name IS NOT NULL ORDER BY seqno
"""
_SEES_SESSIONS = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"
_SESSIONS = """
SELECT pid, coalesce(datname, '') AS database, coalesce(usename, '') AS role,
       coalesce(application_name, '') AS application, coalesce(state, '') AS state,
       coalesce(host(client_addr), '') AS address,
       coalesce(extract(epoch FROM clock_timestamp() - state_change), 0)::float AS in_state
FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_SLOTS = """
SELECT slot_name, active, coalesce(pg_wal_lsn_diff(
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
       restart_lsn), 0)::bigint AS kept
FROM pg_replication_slots WHERE NOT temporary
"""
_DATABASES = """
SELECT datname, age(datfrozenxid) AS age, mxid_age(datminmxid) AS multixact_age,
       has_database_privilege('public', oid, 'CONNECT') AS public_connect,
       has_database_privilege('public', oid, 'TEMPORARY') AS public_temporary,
       -- What DROP DATABASE leaves when it is interrupted: nobody can enter it any more.
       datconnlimit = -2 AS invalid
FROM pg_database WHERE datallowconn AND NOT datistemplate
  -- Those of providers, which nobody else may enter.
  AND datname NOT IN ('rdsadmin', 'cloudsqladmin', 'azure_maintenance', 'azure_sys')
ORDER BY datname
"""
_TABLES = """
WITH member AS (
  SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e'
), relation AS (
  SELECT c.oid, c.relname, c.relnamespace, n.nspname, c.relowner, c.relacl, c.relkind
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_'
    AND n.nspname <> 'information_schema' AND c.oid NOT IN (SELECT objid FROM member)
)
"""
_OWNERS = (
    _TABLES
    + """
SELECT r.nspname, o.rolname AS owner, count(*) AS tables
FROM relation r JOIN pg_roles o ON o.oid = r.relowner GROUP BY 1, 2
"""
)
_GRANTS = (
    _TABLES
    + """
SELECT r.nspname, r.relnamespace AS schema_id, o.rolname AS owner, a.grantee AS grantee_id,
       coalesce(g.rolname, '') AS grantee, count(DISTINCT r.oid) AS tables
FROM relation r CROSS JOIN LATERAL aclexplode(r.relacl) a
JOIN pg_roles o ON o.oid = r.relowner LEFT JOIN pg_roles g ON g.oid = a.grantee
WHERE a.grantee <> r.relowner AND (a.privilege_type = 'SELECT' OR a.grantee = 0)
  AND (a.grantee = 0 OR g.oid IS NOT NULL)
GROUP BY 1, 2, 3, 4, 5
"""
)
_DEFAULTS = """
SELECT o.rolname AS owner, coalesce(n.nspname, '') AS schema, coalesce(g.rolname, '') AS grantee
FROM pg_default_acl d CROSS JOIN LATERAL aclexplode(d.defaclacl) a
JOIN pg_roles o ON o.oid = d.defaclrole LEFT JOIN pg_roles g ON g.oid = a.grantee
LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
WHERE d.defaclobjtype = 'r' AND a.privilege_type = 'SELECT'
"""
_PUBLIC_DEFAULTS = """
SELECT o.rolname AS owner, coalesce(n.nspname, '') AS schema,
       CASE d.defaclobjtype WHEN 'S' THEN 'sequences' ELSE 'tables' END AS kind
FROM pg_default_acl d JOIN pg_roles o ON o.oid = d.defaclrole
LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
WHERE d.defaclobjtype IN ('r', 'S')
  AND EXISTS (SELECT FROM aclexplode(d.defaclacl) a WHERE a.grantee = 0)
ORDER BY 1, 2, 3
"""
# Of pairs of a schema and a role; the whole right is SELECT, or for tables of the model's users
# all four.
_UNREACHABLE = "".join(
    (
        _TABLES,
        """
SELECT p.schema, p.role, count(*) FILTER (WHERE NOT reached) AS missing, count(*) AS total,
       coalesce(array_to_string((array_agg(relname ORDER BY relname)
                                 FILTER (WHERE NOT reached))[1:3], ', '), '') AS examples
FROM (
  SELECT p.schema, p.role, r.relname, has_table_privilege(p.role, r.oid, 'SELECT') AND (
           p.reads_only OR r.relkind NOT IN ('r', 'p') OR (
             has_table_privilege(p.role, r.oid, 'INSERT')
             AND has_table_privilege(p.role, r.oid, 'UPDATE')
             AND has_table_privilege(p.role, r.oid, 'DELETE'))) AS reached
  FROM unnest(%(schemas)s::text[], %(roles)s::name[], %(read)s::bool[])
         AS p (schema, role, reads_only)
  JOIN relation r ON r.nspname = p.schema
) p
GROUP BY p.schema, p.role HAVING count(*) FILTER (WHERE NOT reached) > 0
""",
    )
)
_INVALID = """
SELECT format('%I.%I', n.nspname, c.relname) AS name
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND c.relkind = 'i'
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
ORDER BY 1
"""
_PUBLIC_CREATE = """
SELECT nspname FROM pg_namespace
WHERE nspname !~ '^pg_' AND has_schema_privilege('public', oid, 'CREATE') ORDER BY 1
"""
# Through PgBouncer the role's own search_path holds.
_TIMEOUTS = """
SELECT name, setting FROM pg_catalog.pg_settings
WHERE name OPERATOR(pg_catalog.=) ANY (ARRAY['statement_timeout', 'lock_timeout',
      'idle_in_transaction_session_timeout'])
"""
_LISTED = re.compile(r'^\s*"((?:[^"]|"")*)"', re.M)
_MOST = 0.5

Opener = Callable[[str], Any]


@contextmanager
def _looking(connection: Connection) -> Iterator[None]:
    """A read-only transaction that neither waits nor leaves anything."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(_SESSION)
        yield
    finally:
        connection.rollback()


def _part(
    connection: Connection, query: str, unreadable: dict[str, str], what: str
) -> list[Any] | None:
    """Rows of a query; None, and the server's words noted, when it does not answer."""
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT part")
    try:
        return fetch(connection, query)
    except sql_connection.psycopg2.Error as error:
        unreadable[what] = server_message(error)
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK TO SAVEPOINT part")
        return None


def read_server(
    connection: Connection, opener: Opener, model: Sequence[Database], unreadable: dict[str, str]
) -> dict[str, Any]:
    """The server's part of a snapshot, by field; what can't be read is noted and left out."""
    with _looking(connection):
        found: dict[str, Any] = {
            "settings": {
                row.name: Setting(
                    row.value or "", row.unit, row.boot, row.source, bool(row.pending_restart)
                )
                for row in fetch(connection, _SETTINGS)
            }
        }
        settings = fetch(connection, _ROLE_SETTINGS)
        found["roles"] = _roles(fetch(connection, _ROLES), settings)
        databases = fetch(connection, _DATABASES)
        passwords = _part(connection, _PASSWORDS, unreadable, "password_kinds")
        if passwords is not None:
            found["password_kinds"] = {row.rolname: row.kind for row in passwords}
        hba_rows = _part(connection, _HBA, unreadable, "hba")
        if hba_rows is not None:
            found["hba"] = tuple(_hba_rule(row) for row in hba_rows)
        in_files = _part(connection, _FILES, unreadable, "files")
        if in_files is not None:
            found["files"] = tuple(
                FileSetting(row.sourcefile, row.sourceline, row.name, row.setting or "")
                for row in in_files
            )
        if fetch(connection, _SEES_SESSIONS)[0][0]:
            found["sessions"] = tuple(Session(*row) for row in fetch(connection, _SESSIONS))
        else:
            unreadable["sessions"] = (
                "only members of pg_read_all_stats can see other roles' sessions"
            )
        slots = _part(connection, _SLOTS, unreadable, "slots")
        if slots is not None:
            found["slots"] = tuple(Slot(*row) for row in slots)
    by_database = {row.database: _pairs(row.setconfig) for row in settings if not row.role}
    found["invalid_databases"] = tuple(row.datname for row in databases if row.invalid)
    states = (
        _database(row, opener, model, by_database, found["roles"])
        for row in databases
        if not row.invalid
    )
    used = {database.name for database in model}
    found["databases"] = tuple(
        state
        for state in states
        # Of no interest while nobody uses it and nobody could plant anything in it.
        if state.name != MAINTENANCE or state.name in used or state.tables or state.public_create
    )
    return found


def _roles(rows: Sequence[Any], settings: Sequence[Any]) -> dict[str, LoginRole]:
    own: dict[str, dict[str, Mapping[str, str]]] = {}
    for row in settings:
        own.setdefault(row.role, {})[row.database] = _pairs(row.setconfig)
    return {
        row.rolname: LoginRole(
            row.rolname,
            row.rolsuper,
            row.rolcanlogin,
            row.bootstrap,
            row.rolbypassrls,
            row.rolcreaterole,
            row.rolcreatedb,
            row.rolreplication,
            tuple(row.member_of),
            own.get(row.rolname, {}),
        )
        for row in rows
    }


def _pairs(config: Sequence[str] | None) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in config or ())


def _hba_rule(row: Any) -> HbaRule:
    return HbaRule(
        row.line_number,
        row.type or "",
        tuple(row.database or ()),
        tuple(row.user_name or ()),
        network_text(row.address or "", row.netmask or ""),
        row.auth_method or "",
        row.error or "",
    )


def _database(
    row: Any,
    opener: Opener,
    model: Sequence[Database],
    settings: Mapping[str, Mapping[str, str]],
    roles: Mapping[str, LoginRole],
) -> DatabaseState:
    outside: dict[str, Any] = {
        "name": row.datname,
        "age": row.age,
        "multixact_age": row.multixact_age,
        "settings": settings.get(row.datname, {}),
        "public_connect": row.public_connect,
        "public_temporary": row.public_temporary,
    }
    try:
        connection = opener(row.datname)
    except ConnectionFailed as error:
        return DatabaseState(unreadable=str(error), **outside)
    try:
        with _looking(connection):
            inside = _inside(connection, [one for one in model if one.name == row.datname], roles)
        return DatabaseState(**outside, **inside)
    except sql_connection.psycopg2.Error as error:
        return DatabaseState(unreadable=server_message(error), **outside)
    finally:
        connection.close()


def _inside(
    connection: Connection, models: Sequence[Database], roles: Mapping[str, LoginRole]
) -> dict[str, Any]:
    tables = {(row.nspname, row.owner): row.tables for row in fetch(connection, _OWNERS)}
    grants = fetch(connection, _GRANTS)
    pairs = _asked_pairs(tables, grants, models, roles)
    unreachable = []
    if pairs:
        values = {
            "schemas": [schema for schema, _role in pairs],
            "roles": [role for _schema, role in pairs],
            "read": list(pairs.values()),
        }
        unreachable = fetch(connection, _UNREACHABLE, values)
    return {
        "tables": tables,
        "grants": tuple(Grants(row.nspname, row.owner, row.grantee, row.tables) for row in grants),
        "public_defaults": tuple(tuple(row) for row in fetch(connection, _PUBLIC_DEFAULTS)),
        "defaults": frozenset(tuple(row) for row in fetch(connection, _DEFAULTS)),
        "unreachable": tuple(
            Unreachable(row.schema, row.role, row.missing, row.total, row.examples)
            for row in unreachable
        ),
        "invalid_indexes": tuple(row.name for row in fetch(connection, _INVALID)),
        "public_create": tuple(row.nspname for row in fetch(connection, _PUBLIC_CREATE)),
    }


def _asked_pairs(
    tables: Mapping[tuple[str, str], int],
    grants: Sequence[Any],
    models: Sequence[Database],
    roles: Mapping[str, LoginRole],
) -> dict[tuple[str, str], bool]:
    """Schemas and roles for which each table is asked about, and whether reading is all they need.

    They are the model's, and those that reach most tables of a schema, but not all.
    """
    totals: dict[str, int] = {}
    for (schema, _owner), number in tables.items():
        totals[schema] = totals.get(schema, 0) + number
    reached: dict[tuple[str, str], int] = {}
    for row in grants:
        if row.grantee:
            key = (row.nspname, row.grantee)
            reached[key] = reached.get(key, 0) + row.tables
    for (schema, owner), number in tables.items():
        if (schema, owner) in reached:
            reached[schema, owner] += number
    pairs = {
        (schema, role): True
        for (schema, role), number in reached.items()
        if totals[schema] * _MOST <= number < totals[schema] and not roles[role].superuser
    }
    for database in models:
        for role in database.roles:
            if role.kind in ("user", "reader") and role.name in roles:
                for schema in database.schemas:
                    pairs[schema, role.name] = role.kind == "reader"
    return pairs


def read_pooler(params: Mapping[str, Any], unreadable: dict[str, str]) -> PoolerState | None:
    """What PgBouncer's console says; None, and its words noted, when it does not answer.

    Of several processes, the pools are those of all of them, and the rest is the first one's.
    """
    where = "PgBouncer's console"
    try:
        found = _read_process(params)
        for directory, port in found.peers:
            where = f"PgBouncer's console in {directory}"
            there = {"login_unix_socket": directory, "login_port": port}
            peer = _read_process({**params, **there})
            found = replace(found, pools=(*found.pools, *peer.pools))
    except ConnectionFailed as error:
        unreadable["pooler"] = f"{where}: {error}"
    except (sql_connection.psycopg2.Error, ValueError, IndexError) as error:
        unreadable["pooler"] = f"{where}: {server_message(error)}"
    else:
        return replace(found, pools=merged_pools(found.pools))
    return None


def _read_process(params: Mapping[str, Any]) -> PoolerState:
    console = connect_console(params)
    try:
        version = parse_version(str(next(iter(console_rows(console, "SHOW VERSION")[0].values()))))
        config = {
            str(row["key"]): str(row["value"] or "") for row in console_rows(console, "SHOW CONFIG")
        }
        databases = tuple(
            PoolDatabase(
                str(row["name"]),
                str(row["database"]),
                str(row["force_user"] or ""),
                int(row["pool_size"]),
                int(row.get("reserve_pool_size", row.get("reserve_pool")) or 0),
            )
            for row in console_rows(console, "SHOW DATABASES")
        )
        pools = tuple(_pool(row) for row in console_rows(console, "SHOW POOLS"))
        # Elsewhere only the one that answers on the port can be asked.
        peers = () if params["login_host"] else _peers(console, config)
    finally:
        console.close()
    # Its paths and users are those of the host that it runs on.
    listed, rules, os_user = None, None, ""
    if not params["login_host"]:
        os_user = params["login_os_user"]
        listed = _listed_users(config.get("auth_file", ""), os_user)
        rules = _login_rules(config.get("auth_hba_file", ""), os_user)
    return PoolerState(version, config, databases, pools, listed, peers, rules, os_user)


def _peers(console: Any, config: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    """Directories and ports of the unix sockets of the other processes on this host."""
    own = config.get("peer_id", "0")
    if own == "0":
        return ()
    rows = console_rows(console, "SHOW PEERS")
    return tuple(
        (str(row["host"]), int(row["port"]))
        for row in rows
        if str(row["peer_id"]) != own and str(row["host"]).startswith("/")
    )


def _pool(row: Mapping[str, Any]) -> Pool:
    return Pool(
        str(row["database"]),
        str(row["user"]),
        int(row["cl_waiting"]),
        float(row["maxwait"]),
        int(row["cl_active"]),
        sum(int(row[key]) for key in ("sv_active", "sv_idle", "sv_used", "sv_login")),
    )


def _listed_users(path: str, os_user: str) -> tuple[str, ...] | None:
    """Names in the auth file, without their secrets; None when it can't be read."""
    if not path:
        return ()
    # PgBouncer says itself where that is.
    rights = files.Rights(os_user, everywhere=True)
    try:
        text = files.read_text(path, rights)
        return tuple(name.replace('""', '"') for name in _LISTED.findall(text))
    except FileNotFoundError:
        return () if files.exists(os.path.dirname(path), rights) else None
    except OSError:
        return None


def _login_rules(path: str, os_user: str) -> tuple[LoginRule, ...] | None:
    """The rules for logins in a file; None when it can't be read."""
    if not path:
        return None
    rights = files.Rights(os_user, everywhere=True)
    try:
        return hba.parsed(files.read_text(path, rights))
    except OSError:
        return None


def read_taken_guesses(
    params: Mapping[str, Any],
    pooler: PoolerState,
    names: Iterable[str],
    unreadable: dict[str, str],
) -> tuple[Taken, ...] | None:
    """Whom PgBouncer lets in with a password that nobody has set.

    Args:
        params: how its console was reached.
        pooler: what that said.
        names: roles that may have no password.
        unreadable: gets the reason when PgBouncer does not answer.
    """
    users = [pooler.config.get("auth_user", ""), POOLER_USER, *names]
    served = [one.name for one in pooler.databases if one.name != POOLER_USER]
    try:
        return taken_guesses(
            _client_address(params, pooler.config),
            served[:_TRIED_DATABASES],
            [name for name in dict.fromkeys(users) if name],
        )
    except OSError as error:
        unreadable["taken_guesses"] = f"logging in to PgBouncer could not be tried: {error}"
    return None


def _client_address(params: Mapping[str, Any], config: Mapping[str, str]) -> Any:
    """Where clients reach PgBouncer, as seen from the module's own place."""
    port = int(params["login_port"])
    if params["login_host"]:
        return params["login_host"], port
    listens = [one.strip() for one in config.get("listen_addr", "").split(",") if one.strip()]
    if not listens:
        return f"{params['login_unix_socket']}/.s.PGSQL.{port}"
    everywhere = {"*", "0.0.0.0", "127.0.0.1", "localhost"} & set(listens)  # noqa: S104 - read
    return "127.0.0.1" if everywhere else listens[0], port


def read_pooled_logins(
    params: Mapping[str, Any], model: Sequence[Database]
) -> tuple[PooledLogin, ...] | None:
    """What sessions through the pool start with, for roles whose password the model tells."""
    logins = [
        _pooled_login(params, database.name, role)
        for database in model
        for role in database.roles
        if role.pooled
        and role.kind in ("user", "reader")
        and role.password
        and not is_verifier(role.password)
    ]
    return tuple(logins) or None


def _pooled_login(params: Mapping[str, Any], database: str, role: Role) -> PooledLogin:
    given = {**params, "login_user": role.name, "login_password": role.password}
    try:
        connection = connect_pooled(given, database)
    except ConnectionFailed as error:
        return PooledLogin(database, role.name, failure=str(error))
    try:
        rows = fetch(connection, _TIMEOUTS)
        return PooledLogin(database, role.name, {row.name: row.setting for row in rows})
    except sql_connection.psycopg2.Error as error:
        return PooledLogin(database, role.name, failure=server_message(error))
    finally:
        connection.close()
