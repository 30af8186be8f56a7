# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads sessions of a server and pools of PgBouncer, and ends sessions."""

from __future__ import annotations

import os
import pwd
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, Callable, Iterator, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import sockets
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    os_user,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sessions.sessions import (
    RUNNING,
    Session,
    Wait,
    Wanted,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql import (
    connection as sql_connection,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    PREPARED_HOLDERS,
    Connection,
    ConnectionFailed,
    connect_console,
    console_rows,
    fetch,
    server_major,
    server_message,
)

# Locks of others must not be waited for.
_SETTINGS = "SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '30s'"
# How long a session has been in its state, or its statement has been running. Queries come as
# bytes: a database in another encoding than the connection's may hold any.
_SECONDS = """
coalesce(extract(epoch FROM clock_timestamp()
  - CASE WHEN a.state = ANY(%(running)s) THEN a.query_start ELSE a.state_change END), 0)::float
"""
_SESSIONS = f"""
SELECT a.pid, a.backend_start::text AS started, coalesce(a.datname, '') AS database,
       coalesce(a.usename, '') AS role, coalesce(a.application_name, '') AS application,
       coalesce(host(a.client_addr), '') AS address, coalesce(a.state, '') AS state,
       coalesce(a.backend_type, '') AS kind, a.leader_pid AS leader,
       coalesce(a.wait_event_type || ' ' || a.wait_event, '') AS wait,
       {_SECONDS} AS seconds, coalesce(a.query_start::text, '') AS statement,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float AS transaction_s,
       textsend(coalesce(a.query, '')) AS query, a.backend_type IS NOT NULL AS seen
FROM pg_stat_activity a WHERE a.pid <> pg_backend_pid() ORDER BY a.pid
"""  # noqa: S608
# pg_locks says since 14 since when somebody waits; before, it is since the statement at most.
_WAITS = """
SELECT l.pid, pg_blocking_pids(l.pid) AS blockers, l.mode || ' on ' || l.locktype AS lock,
       extract(epoch FROM clock_timestamp()
         - coalesce(l.waitstart, a.query_start))::float AS seconds,
       coalesce(d.datname, '') AS database, coalesce(l.relation, 0)::bigint AS relation
FROM (SELECT pid, mode, locktype, database, relation, {column} FROM pg_locks WHERE NOT granted) l
JOIN pg_stat_activity a USING (pid) LEFT JOIN pg_database d ON d.oid = l.database
"""
_PREPARED = f"""
SELECT DISTINCT p.gid, p.owner AS role, p.database
FROM pg_locks l CROSS JOIN LATERAL ({PREPARED_HOLDERS}) AS p WHERE NOT l.granted ORDER BY p.gid
"""  # noqa: S608
_RELATIONS = (
    "SELECT oid, oid::regclass::text AS name FROM pg_class WHERE oid = ANY(%(oids)s::oid[])"
)
_SEES_ALL = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS answer"
_LOGIN = "SELECT current_user AS name"
_MAX = "SELECT setting::int AS most FROM pg_settings WHERE name = 'max_connections'"
_ROLES = "SELECT rolname, rolsuper FROM pg_roles WHERE rolname = ANY(%(names)s)"
_DATABASES = "SELECT datname FROM pg_database WHERE datname = ANY(%(names)s)"
_MAY_END = """
SELECT a.pid FROM pg_stat_activity a
WHERE a.pid = ANY(%(pids)s) AND (pg_has_role(a.usesysid, 'USAGE')
      OR pg_has_role('pg_signal_backend', 'USAGE'))
"""
# One statement finds out whether the process is still the session that was meant, and ends it. A
# pid may belong to somebody else by now, and a session may have gone on by itself.
_END = f"""
SELECT {{function}}(a.pid) AS sent
FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
WHERE a.pid = %(pid)s AND a.backend_start = %(started)s::timestamptz
  AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() AND NOT r.rolsuper
  AND r.rolname = ANY(%(roles)s) AND a.state = ANY(%(states)s)
  AND (cardinality(%(databases)s::text[]) = 0 OR a.datname = ANY(%(databases)s::text[]))
  AND (cardinality(%(applications)s::text[]) = 0
       OR a.application_name = ANY(%(applications)s::text[]))
  AND {_SECONDS} >= %(older_than_s)s
"""  # noqa: S608
_LEFT = """
SELECT pid, backend_start::text AS started, coalesce(query_start::text, '') AS statement,
       coalesce(state, '') AS state
FROM pg_stat_activity WHERE pid = ANY(%(pids)s)
"""
_FUNCTIONS = {"terminate": "pg_terminate_backend", "cancel": "pg_cancel_backend"}
_POLL_S = 0.05
_POOL_COUNTS = (
    "cl_active",
    "cl_waiting",
    "sv_active",
    "sv_idle",
    "sv_used",
    "sv_tested",
    "sv_login",
)
_DEFAULT_DIRECTORY = "/var/run/postgresql"
# What initdb makes has smaller ones.
_FIRST_OWN_OID = 16384


@contextmanager
def reading(connection: Connection) -> Iterator[None]:
    """A transaction that writes nothing and leaves nothing; it sees sessions at one moment."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(_SETTINGS)
        yield
    finally:
        connection.rollback()


def read_sessions(connection: Connection) -> list[Session]:
    """All processes of the server but this session's own; within reading()."""
    return [
        Session(**{**row._asdict(), "query": bytes(row.query).decode("utf-8", "replace")})
        for row in fetch(connection, _SESSIONS, {"running": list(RUNNING)})
    ]


def read_waits(connection: Connection) -> list[Wait]:
    """The locks that are waited for; within reading()."""
    has_wait_start = server_major(connection) >= 14
    query = _WAITS.format(
        column="waitstart" if has_wait_start else "NULL::timestamptz AS waitstart"
    )
    return [
        Wait(row.pid, tuple(row.blockers), row.lock, row.seconds, row.database, row.relation)
        for row in fetch(connection, query)
    ]


def read_prepared(connection: Connection) -> list[Any]:
    """Prepared transactions that others wait for, with gid, role and database; within reading()."""
    return fetch(connection, _PREPARED)


def with_relations(waits: Sequence[Wait], opener: Callable[[str], Any]) -> list[Wait]:
    """The same, with the names of relations where they can be looked up.

    Args:
        waits: the locks that are waited for.
        opener: connects to a database. Only that knows the names of what is in it.
    """
    names: dict[tuple[str, int], str] = {}
    asked: dict[str, list[int]] = {}
    for one in waits:
        if one.database and one.relation:
            asked.setdefault(one.database, []).append(one.relation)
    for database, oids in sorted(asked.items()):
        # Where a catalog is locked, logging in may wait for it.
        if min(oids) < _FIRST_OWN_OID:
            continue
        try:
            connection = opener(database)
        except ConnectionFailed:
            continue
        try:
            with reading(connection):
                rows = fetch(connection, _RELATIONS, {"oids": oids})
            names.update({(database, int(row.oid)): row.name for row in rows})
        except sql_connection.psycopg2.Error:
            continue
        finally:
            connection.close()
    keys = [(one.database, one.relation) for one in waits]
    return [one.named(names[key]) if key in names else one for one, key in zip(waits, keys)]


def max_connections(connection: Connection) -> int:
    """The server's limit; within reading()."""
    return int(fetch(connection, _MAX)[0].most)


def blindness(connection: Connection, sessions: Sequence[Session]) -> str:
    """What of the sessions the login may not see; empty when it is nothing. Within reading()."""
    hidden = sum(1 for one in sessions if one.client and not one.seen)
    if not hidden or fetch(connection, _SEES_ALL)[0].answer:
        return ""
    return (
        f"state and query of {hidden} sessions: {login(connection)!r} sees those of its own roles"
        " only; GRANT pg_monitor (or pg_read_all_stats) to it"
    )


def login(connection: Connection) -> str:
    """The role that is logged in; within reading()."""
    return str(fetch(connection, _LOGIN)[0].name)


def roles_there(connection: Connection, names: Sequence[str]) -> dict[str, bool]:
    """Of those names the server's roles, and whether each is a superuser; within reading()."""
    rows = fetch(connection, _ROLES, {"names": list(names)})
    return {row.rolname: row.rolsuper for row in rows}


def databases_there(connection: Connection, names: Sequence[str]) -> set[str]:
    """Those names that are databases of the server; within reading()."""
    return {row.datname for row in fetch(connection, _DATABASES, {"names": list(names)})}


def may_end(connection: Connection, pids: Sequence[int]) -> set[int]:
    """Those processes that the login may send signals to; within reading()."""
    return {row.pid for row in fetch(connection, _MAY_END, {"pids": list(pids)})}


def send(connection: Connection, session: Session, wanted: Wanted) -> str | None:
    """Ask a session to end.

    Returns:
        The server's words when it refuses, an empty text when it was asked, and None when it is no
        longer what was meant.
    """
    values = {
        **asdict(wanted),
        "pid": session.pid,
        "started": session.started,
        "running": list(RUNNING),
    }
    lists = ("roles", "databases", "applications", "states")
    values.update({name: list(values[name]) for name in lists})
    query = _END.format(function=_FUNCTIONS[wanted.mode])
    with reading(connection):
        try:
            rows = fetch(connection, query, values)
        except sql_connection.psycopg2.Error as error:
            return server_message(error)
    # It says no of a process that has ended just now.
    return "" if rows and rows[0].sent else None


def wait_until_done(
    connection: Connection, sessions: Sequence[Session], wanted: Wanted
) -> tuple[set[int], dict[int, str]]:
    """Wait for sessions that were asked to end.

    Returns:
        Those that are not done in time, and the states of all that are still there: with mode
        cancel, a session outlives its statement.
    """
    statements = {one.pid: one.statement for one in sessions}
    deadline = time.monotonic() + wanted.timeout_s
    while True:
        left = _left(connection, sessions)
        busy = {
            pid
            for pid, (statement, state) in left.items()
            if wanted.mode == "terminate" or (state in RUNNING and statement == statements[pid])
        }
        if not busy or time.monotonic() > deadline:
            return busy, {pid: state for pid, (_statement, state) in left.items()}
        time.sleep(_POLL_S)


def _left(connection: Connection, sessions: Sequence[Session]) -> dict[int, tuple[str, str]]:
    """Statement and state of those sessions that are still there."""
    known = {(one.pid, one.started) for one in sessions}
    with reading(connection):
        rows = fetch(connection, _LEFT, {"pids": [one.pid for one in sessions]})
    return {row.pid: (row.statement, row.state) for row in rows if (row.pid, row.started) in known}


def pooler_params(params: Mapping[str, Any], directory: str) -> dict[str, Any]:
    """How PgBouncer's console is reached."""
    return {
        **params,
        "login_host": params["pooler_host"],
        "login_unix_socket": directory,
        "login_port": params["pooler_port"],
        "login_user": params["pooler_user"],
        "login_password": params["pooler_password"],
        "login_os_user": os_user.of_socket(
            params["pooler_os_user"], directory, params["pooler_port"]
        ),
        "connect_params": {},
    }


def console_directories(params: Mapping[str, Any]) -> list[str]:
    """Directories of the unix sockets of all PgBouncer processes that serve the port here."""
    if params["pooler_host"] or params["pooler_unix_socket"]:
        return [params["pooler_unix_socket"]]
    owners = {0, os.geteuid()}
    for user in os_user.possible(params["pooler_os_user"]):
        with suppress(KeyError):
            owners.add(pwd.getpwnam(user).pw_uid)
    found = {
        os.path.dirname(path)
        for path in sockets.listening_unix_sockets()
        if os.path.basename(path) == f".s.PGSQL.{params['pooler_port']}"
        and owner_of(path) in owners
    }
    return sorted(found) or [_DEFAULT_DIRECTORY]


def owner_of(path: str) -> int | None:
    """Who owns a file: anybody may listen on a socket of that name somewhere."""
    try:
        return os.lstat(path).st_uid
    except OSError:
        return None


def read_pools(
    params: Mapping[str, Any], note: Callable[[str], None]
) -> list[dict[str, Any]] | None:
    """The pools of each PgBouncer process; what does not answer is noted, and None if none does."""
    found: list[dict[str, Any]] | None = None
    for directory in console_directories(params):
        where = params["pooler_host"] or directory
        try:
            console = connect_console(pooler_params(params, directory))
        except ConnectionFailed as error:
            note(f"pools of PgBouncer in {where}: {' '.join(str(error).split())}")
            continue
        try:
            rows = console_rows(console, "SHOW POOLS")
        except sql_connection.psycopg2.Error as error:
            note(f"pools of PgBouncer in {where}: {server_message(error)}")
            continue
        finally:
            console.close()
        pools = [_pool(row, where) for row in rows if row["database"] != "pgbouncer"]
        found = (found or []) + pools
    return found


def _pool(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    waited_s = float(row["maxwait"]) + float(row.get("maxwait_us") or 0) / 1e6
    return {
        "console": where,
        "database": str(row["database"]),
        "user": str(row["user"]),
        "pool_mode": str(row["pool_mode"]),
        **{name: int(row[name]) for name in _POOL_COUNTS},
        "maxwait": round(waited_s, 3),
    }
