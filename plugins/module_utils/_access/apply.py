# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Execute planned changes: all or nothing in each place, and never waiting for others for ever."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import Actual
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import Change
from ansible_collections.pooled.postgres.plugins.module_utils._access.operations import (
    CreateDatabase,
    DropRole,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.read.server import (
    read_server,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    LOCK_TIMEOUT_S,
    PREPARED_HOLDERS,
    Connection,
    ConnectionFailed,
    fetch,
    server_message,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import quote_ident
from ansible_collections.pooled.postgres.plugins.module_utils._sql.unlogged import keep_from_logs

# How long a run waits for another one, which may have much to do.
OTHER_RUN_TIMEOUT_S = 300
OTHER_RUN_POLL_S = 0.2
# How long a run may wait for a standby. This version's own don't wait for any.
STANDBY_PATIENCE_S = 10
# How long a statement waits before somebody looks at what for.
LOOK_AFTER_S = 1.0
ATTEMPTS = 5
PAUSE_S = 0.2

# Two runs at once would plan against a server that the other one is changing.
_RUN_LOCK = "SELECT pg_catalog.pg_try_advisory_lock(1886349164, 1) AS taken"
# Anybody who may connect can take the same lock. A run needs a role that makes roles, or the one
# that this run has; it is not waited for anybody else.
_LOCK_HOLDERS = """
SELECT l.locktype, '' AS relation, a.pid, a.usename, a.application_name, a.state, a.wait_event,
       extract(epoch FROM clock_timestamp() - a.xact_start)::int AS seconds,
       NULL AS gid,
       coalesce(a.wait_event = 'SyncRep'
                AND clock_timestamp() - a.query_start > %(patience)s * interval '1 second', false)
         AS lacks_standby,
       coalesce(r.rolsuper OR r.rolcreaterole OR r.rolname = current_user, false) AS may_run
  FROM pg_locks l
  JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
  LEFT JOIN pg_stat_activity a ON a.pid = l.pid
  LEFT JOIN pg_roles r ON r.oid = a.usesysid
 WHERE l.locktype = 'advisory' AND l.classid = 1886349164 AND l.objid = 1 AND l.objsubid = 2
   AND l.granted
"""
_DEADLOCK = "40P01"
_LOCK_NOT_AVAILABLE = "55P03"
_NOT_IN_REPERTOIRE = "22021"
_INTERNAL = "XX000"
# Says the server, never translated, of a catalog's row that another transaction has just changed.
_CHANGED_MEANWHILE = "tuple concurrently "

_WAITS_FOR = f"""
SELECT DISTINCT l.locktype, coalesce(l.relation::regclass::text, '') AS relation,
       a.pid, coalesce(a.usename, p.owner) AS usename, a.application_name, a.state, a.wait_event,
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::int AS seconds,
       p.gid, p.database
  FROM pg_locks l
 CROSS JOIN LATERAL unnest(pg_blocking_pids(l.pid)) AS blocking(pid)
  LEFT JOIN pg_stat_activity a ON a.pid = blocking.pid
  LEFT JOIN LATERAL ({PREPARED_HOLDERS}) AS p ON blocking.pid = 0
 WHERE l.pid = ANY(%s) AND NOT l.granted
 ORDER BY a.pid, p.gid
"""  # noqa: S608 - made of constants

Opener = Callable[[str], Connection]


class Failed(Exception):
    """A statement that the server refused, with what it was about."""


def wait_for_other_runs(connection: Connection) -> None:
    """Let runs against one server take turns; the connection's end gives the turn away.

    Raises:
        Failed: when another one does not come to its end, or when what holds the lock is not a run.
    """
    deadline = time.monotonic() + OTHER_RUN_TIMEOUT_S
    while not fetch(connection, _RUN_LOCK)[0].taken:
        holders = fetch(connection, _LOCK_HOLDERS, {"patience": STANDBY_PATIENCE_S})
        connection.commit()
        for row in holders:
            if row.lacks_standby:
                raise Failed(
                    "another run against this server waits for a synchronous standby to confirm"
                    f" its COMMIT: {_blocker(row)}; start a standby that synchronous_standby_names"
                    f" names, or end that wait with SELECT pg_cancel_backend({row.pid}), after"
                    " which its changes stand on this server"
                )
            if not row.may_run:
                raise Failed(
                    f"the lock that keeps runs apart is not held by a run: {_blocker(row)}, which"
                    " may make no roles; end that session, and find out why it takes"
                    " pg_advisory_lock(1886349164, 1)"
                )
        if time.monotonic() > deadline:
            who = f": {', '.join(_blocker(row) for row in holders)}" if holders else ""
            raise Failed(
                f"another run against this server has not ended for {OTHER_RUN_TIMEOUT_S} s{who};"
                " run again when it has"
            )
        time.sleep(OTHER_RUN_POLL_S)
    connection.commit()


def read(wanted: Wanted, connection: Connection, opener: Opener) -> Actual:
    """What read_server() says, also of what keeps it waiting.

    Raises:
        Failed: when somebody else has locked the catalogs for too long.
        ValueError: when the server can't be managed at all.
    """
    place = ["the server"]
    with _watched(connection, opener) as (watched_opener, blockers):

        def noted_opener(name: str) -> Connection:
            place[:] = [f"database {name!r}"]
            return watched_opener(name)

        try:
            return read_server(wanted, noted_opener, connection)
        except connection.Error as error:
            if error.pgcode == _NOT_IN_REPERTOIRE:
                raise Failed(
                    f"{place[0]} holds a name that is not valid UTF-8, which encoding SQL_ASCII"
                    " lets in and no statement here can say; rename what has it"
                ) from error
            message = _lock_message(error, blockers) or server_message(error)
            raise Failed(f"the server's catalogs could not be read: {message}") from error


def apply(
    connection: Connection,
    opener: Opener,
    actual: Actual,
    changes: Sequence[Change],
    done: list[Change],
) -> None:
    """Execute the changes, and keep in done those that hold.

    Args:
        connection: one to any database, for what belongs to the whole cluster.
        opener: makes a connection to a database.
        actual: what the changes were planned for.
        changes: in order.
        done: grows with each transaction that is committed.

    Raises:
        Failed: with the place, what the statement was about and the server's message.
    """
    roles = [
        change
        for change in changes
        if change.database is None and not isinstance(change.operation, (CreateDatabase, DropRole))
    ]
    _transaction(connection, opener, roles, "roles", actual, done)
    connection.autocommit = True
    for change in changes:
        if isinstance(change.operation, CreateDatabase):
            place = f"database {change.operation.database!r}"
            _transaction(connection, opener, [change], place, actual, done)
    connection.autocommit = False
    for name in (*actual.databases, *actual.maintenance):
        inside = [change for change in changes if change.database == name]
        if inside:
            other = opener(name)
            try:
                _transaction(other, opener, inside, f"database {name!r}", actual, done)
            finally:
                other.close()
    drops = [change for change in changes if isinstance(change.operation, DropRole)]
    _transaction(connection, opener, drops, "roles", actual, done)


def execute(connection: Connection, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _transaction(
    connection: Connection,
    opener: Opener,
    changes: Sequence[Change],
    place: str,
    actual: Actual,
    done: list[Change],
) -> None:
    if not changes:
        return
    with _watched(connection, opener) as (_opener, blockers):
        for attempt in range(1, ATTEMPTS + 1):
            about = [place]
            try:
                _execute_all(connection, changes, actual, about)
                break
            except connection.Error as error:
                if not connection.autocommit and not connection.closed:
                    connection.rollback()
                if attempt < ATTEMPTS and _may_pass(error):
                    time.sleep(PAUSE_S * attempt)
                    continue
                message = _lock_message(error, blockers) or server_message(error)
                text = ": ".join([*about, message])
                raise Failed(f"{text}; nothing was changed there") from error
    done.extend(changes)


def _execute_all(
    connection: Connection, changes: Sequence[Change], actual: Actual, about: list[str]
) -> None:
    place = about[0]
    silent = False
    for change in changes:
        creates = isinstance(change.operation, CreateDatabase)
        about[:] = [place] if creates else [place, change.subject]
        if change.operation.secret and not silent:
            silent = True
            keep_from_logs(connection)
        if change.as_role:
            execute(connection, f"SET LOCAL ROLE {quote_ident(change.as_role)}")
        connection.notices.clear()
        execute(connection, change.sql)
        if connection.notices and actual.login is not None and change.acts_for:
            connection.rollback()
            said = " ".join(line.strip() for line in connection.notices)
            raise Failed(f"{': '.join(about)}: {said}; nothing was changed there")
        if change.as_role:
            execute(connection, "RESET ROLE")
    about[:] = [place]
    if not connection.autocommit:
        connection.commit()


def _may_pass(error: Any) -> bool:
    """Whether the same may work in a moment, because somebody else was in the way."""
    if error.pgcode == _INTERNAL:
        return server_message(error).startswith(_CHANGED_MEANWHILE)
    return bool(error.pgcode == _DEADLOCK)


def _lock_message(error: Any, blockers: list[str]) -> str:
    if error.pgcode != _LOCK_NOT_AVAILABLE:
        return ""
    held = f": {', '.join(blockers)}" if blockers else " that another session holds"
    return (
        f"gave up after {LOCK_TIMEOUT_S} s of waiting for a lock{held};"
        " run again when that session is done, or end it"
    )


@contextmanager
def _watched(connection: Connection, opener: Opener) -> Iterator[tuple[Opener, list[str]]]:
    """Note, from a connection of its own, whom others wait for when they wait for long.

    Yields:
        An opener whose connections are watched as well, and the list of whom they wait for.
    """
    seen: list[str] = []
    pids = [connection.info.backend_pid]

    def watched_opener(name: str) -> Connection:
        other = opener(name)
        pids.append(other.info.backend_pid)
        return other

    over = threading.Event()
    arguments = (pids, connection.info.dbname, opener, over, seen)
    watcher = threading.Thread(target=_watch, args=arguments, daemon=True)
    watcher.start()
    try:
        yield watched_opener, seen
    finally:
        over.set()
        watcher.join()


def _watch(
    pids: list[int], dbname: str, opener: Opener, over: threading.Event, seen: list[str]
) -> None:
    connection = None
    try:
        while not over.wait(LOOK_AFTER_S):
            if connection is None:
                connection = opener(dbname)
                connection.autocommit = True
            blockers = [_blocker(row) for row in fetch(connection, _WAITS_FOR, (pids,))]
            if blockers:
                seen[:] = blockers
    except ConnectionFailed:
        return
    except Exception as error:
        # What it would have reported is welcome, and not worth a failure.
        if connection is None or not isinstance(error, connection.Error):
            raise
    finally:
        if connection is not None:
            connection.close()


def _blocker(row: Any) -> str:
    what = f"{row.relation} is" if row.relation else f"a lock of type {row.locktype} is"
    if row.pid is None:
        if row.gid is None:
            return f"{what} held by a prepared transaction"
        return (
            f"{what} held by prepared transaction {row.gid!r} (role {row.usename!r}, prepared for"
            f" {row.seconds} s), which COMMIT PREPARED or ROLLBACK PREPARED ends in database"
            f" {row.database!r}"
        )
    details = [f"role {row.usename!r}"]
    if row.application_name:
        details.append(f"application {row.application_name!r}")
    if row.state:
        since = f" for {row.seconds} s" if row.seconds is not None else ""
        details.append(f"{row.state}{since}")
    if row.wait_event and row.state == "active":
        details.append(f"waiting for {row.wait_event}")
    return f"{what} held by pid {row.pid} ({', '.join(details)})"
