# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to Postgres and to PgBouncer's console. The only file that imports psycopg2."""

from __future__ import annotations

import re
import secrets
import select
import time
import traceback
from contextlib import contextmanager
from typing import Any, Iterator, Mapping, Protocol, Sequence

from ansible.module_utils.basic import missing_required_lib
from ansible.module_utils.common.respawn import (
    has_respawned,
    probe_interpreters_for_module,
    respawn_module,
)

from ansible_collections.pooled.postgres.plugins.module_utils._host import identity
from ansible_collections.pooled.postgres.plugins.module_utils._sql import (
    login_guard,
)

PSYCOPG2_IMPORT_ERROR: str | None
try:
    import psycopg2
    import psycopg2.extensions
    import psycopg2.extras
    from psycopg2 import sql
except ImportError:
    PSYCOPG2_IMPORT_ERROR = traceback.format_exc()
else:
    PSYCOPG2_IMPORT_ERROR = None

CONNECT_TIMEOUT_S = 10
# How long a statement may wait for what somebody else has locked.
LOCK_TIMEOUT_S = 30
# What a session with a server starts with. Options of the connection win over ALTER ROLE ... SET,
# ALTER DATABASE ... SET and the configuration, and hold from the first statement on: no function,
# operator, cast, type or relation that somebody else has created is found by its bare name, no
# policy runs, texts mean the same everywhere, and a transaction may take as long as it needs to,
# whether or not a standby answers. Any role may set all of these, on any server.
SESSION = {
    "role": "none",
    "search_path": "pg_catalog",
    "row_security": "off",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "bytea_output": "hex",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "client_min_messages": "warning",
    "exit_on_error": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "synchronous_commit": "local",
    "local_preload_libraries": "",
    "jit": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": f"{LOCK_TIMEOUT_S}s",
}
# The same for what servers know from a major on, and for what a superuser alone may set: among the
# options of a connection these would end it elsewhere, so its first statement sets them.
SESSION_SINCE = {"idle_session_timeout": (14, "0"), "transaction_timeout": (17, "0")}
SUPERUSER_SESSION = {"lc_messages": "C"}
READ_ONLY = {"default_transaction_read_only": "on"}
# The prepared transactions that hold what row l of pg_locks waits for: these say nothing of a gid,
# but each transaction holds a lock on its own id.
PREPARED_HOLDERS = """
SELECT x.gid, x.owner, x.database, x.prepared
  FROM pg_catalog.pg_locks h
  JOIN pg_catalog.pg_locks own ON own.pid IS NULL AND own.locktype = 'transactionid'
       AND own.virtualtransaction = h.virtualtransaction
  JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = own.transactionid
 WHERE h.pid IS NULL AND h.granted
   AND (h.locktype, h.database, h.relation, h.page, h.tuple, h.virtualxid, h.transactionid,
        h.classid, h.objid, h.objsubid)
       IS NOT DISTINCT FROM
       (l.locktype, l.database, l.relation, l.page, l.tuple, l.virtualxid, l.transactionid,
        l.classid, l.objid, l.objsubid)
"""
# The database that is PgBouncer's console.
CONSOLE = "pgbouncer"
# What PgBouncer says of options in a connection, before its version 1.20 and since.
_POOLER_REFUSES = "unsupported startup parameter"
_OTHER_PORT = "PgBouncer answered: give the port of the server itself"
# Where the distribution's package python3-psycopg2 can be imported.
SYSTEM_PYTHON = "/usr/bin/python3"


class Connection(Protocol):
    """A connection as psycopg2 makes it, as far as it is used here."""

    # The class of what the server and libpq refuse, with pgcode and diag.
    Error: Any
    autocommit: bool
    closed: int
    info: Any
    notices: list[str]
    server_version: int

    def cursor(self, name: str | None = None, cursor_factory: Any = None) -> Any:
        """A cursor, which is a context manager."""

    def commit(self) -> None:
        """End the transaction."""

    def rollback(self) -> None:
        """Take the transaction back."""

    def close(self) -> None:
        """End the session."""

    def poll(self) -> int:
        """Go on with connecting, and say what is waited for."""

    def fileno(self) -> int:
        """The descriptor of its socket."""

    def get_parameter_status(self, parameter: str) -> str | None:
        """A setting that the server has reported by itself."""


def connection_argument_spec() -> dict[str, Any]:
    """Argument spec of the C(connection) documentation fragment."""
    return {
        "login_user": {"type": "str", "default": "postgres", "aliases": ["login"]},
        "login_password": {"type": "str", "no_log": True},
        "login_host": {"type": "str", "default": "", "aliases": ["host"]},
        "login_unix_socket": {
            "type": "str",
            "default": "/var/run/postgresql",
            "aliases": ["unix_socket"],
        },
        "login_port": {"type": "int", "default": 5432, "aliases": ["port"]},
        "login_db": {"type": "str", "default": "postgres"},
        "login_os_user": {"type": "str", "default": "postgres"},
        "ssl_mode": {
            "type": "str",
            "default": "prefer",
            "choices": ["allow", "disable", "prefer", "require", "verify-ca", "verify-full"],
        },
        "ca_cert": {"type": "path", "aliases": ["ssl_rootcert"]},
        "ssl_cert": {"type": "path"},
        "ssl_key": {"type": "path"},
        "connect_params": {"type": "dict", "default": {}},
    }


def require_psycopg2(module: Any) -> None:
    """Have psycopg2: run the module again in the distribution's Python if that has it.

    Returns only in a Python that has it; else the module fails.
    """
    if PSYCOPG2_IMPORT_ERROR is None:
        return
    if not has_respawned():
        interpreter = probe_interpreters_for_module([SYSTEM_PYTHON], "psycopg2")
        if interpreter:
            respawn_module(interpreter)
    module.fail_json(msg=missing_required_lib("psycopg2"), exception=PSYCOPG2_IMPORT_ERROR)


class ConnectionFailed(Exception):
    """The server did not take the connection; the text is the server's or libpq's own.

    C(refused) says that there is a server, whose pg_hba.conf does not let the login in.
    """

    def __init__(self, text: str, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


@contextmanager
def os_identity(user: str) -> Iterator[None]:
    """Have the rights of an OS user alone, so that peer authentication sees that user.

    Does nothing unless the process is root and the user exists and is another one.
    """
    with identity.acting_as(identity.entry_of(user)):
        yield


def connect(
    params: Mapping[str, Any],
    dbname: str | None = None,
    autocommit: bool = False,
    read_only: bool = False,
) -> Connection:
    """Connect to a server as the module's connection options say.

    Args:
        params: module parameters, with the keys of connection_argument_spec().
        dbname: database to connect to; O(login_db) when None.
        autocommit: whether each statement is its own transaction.
        read_only: whether all transactions are, from the first one on.

    Raises:
        ConnectionFailed: with libpq's message.
    """
    given = connection_arguments(params, dbname)
    pinned = {**SESSION, **(READ_ONLY if read_only else {})}
    given["options"] = " ".join(filter(None, (given.get("options"), session_options(pinned))))
    connection, _guard = _open(params, given)
    # A PgBouncer that is configured to ignore options takes them and does nothing with them.
    connection.autocommit = True
    try:
        lost = _lost(connection, pinned)
        if not lost:
            fetch(connection, *_first_statement(connection))
    except psycopg2.Error as error:
        connection.close()
        raise ConnectionFailed(server_message(error)) from error
    if lost:
        connection.close()
        raise ConnectionFailed(
            f"connection to server at {given['host']!r} failed: the session did not get its {lost}"
            f" from us; {_OTHER_PORT}"
        )
    connection.autocommit = autocommit
    return connection


def _lost(connection: Connection, pinned: Mapping[str, str]) -> str:
    """Name of a pinned setting that the session does not have; empty for none."""
    names = ("search_path", *READ_ONLY)
    query = "SELECT " + ", ".join(f"pg_catalog.current_setting('{name}')" for name in names)
    with connection.cursor() as cursor:
        cursor.execute(query)
        found = dict(zip(names, cursor.fetchone()))
    return next((name for name in names if found[name] != pinned.get(name, found[name])), "")


def _first_statement(connection: Connection) -> tuple[str, dict[str, list[str]]]:
    """What sets the rest of a session, for the server and the role that it is of."""
    major = server_major(connection)
    found = {name: value for name, (since, value) in SESSION_SINCE.items() if major >= since}
    if connection.get_parameter_status("is_superuser") == "on":
        found.update(SUPERUSER_SESSION)
    return (
        "SELECT set_config(name, value, false)"
        " FROM unnest(%(names)s::text[], %(values)s::text[]) AS given(name, value)",
        {"names": list(found), "values": list(found.values())},
    )


def connect_console(params: Mapping[str, Any]) -> Connection:
    """Connect to PgBouncer's console, which takes neither options nor transactions.

    Raises:
        ConnectionFailed: with libpq's message.
    """
    connection, _guard = _open(params, connection_arguments(params, CONSOLE))
    connection.autocommit = True
    return connection


def connect_pooled(params: Mapping[str, Any], dbname: str) -> Connection:
    """Connect to a server through PgBouncer, which takes no options: for reading only.

    Whatever the session's search_path says, so what is sent through it must be qualified.

    Raises:
        ConnectionFailed: with libpq's message.
    """
    connection, _guard = _open(params, connection_arguments(params, dbname))
    session: Any = connection
    session.set_session(readonly=True)
    return connection


def connection_arguments(params: Mapping[str, Any], dbname: str | None) -> dict[str, Any]:
    """What libpq is given, from the module's connection options."""
    arguments = {
        "host": params["login_host"] or params["login_unix_socket"],
        "port": params["login_port"],
        "user": params["login_user"],
        "password": params["login_password"],
        "dbname": dbname if dbname is not None else params["login_db"],
        "sslmode": params["ssl_mode"],
        "sslrootcert": params["ca_cert"],
        "sslcert": params["ssl_cert"],
        "sslkey": params["ssl_key"],
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": "pooled.postgres",
    }
    arguments.update(params["connect_params"])
    # Whatever the database holds. Python may not even find another codec with os_identity().
    arguments["client_encoding"] = "UTF8"
    return {key: value for key, value in arguments.items() if value is not None}


def session_options(settings: Mapping[str, str]) -> str:
    """Settings as the server's command line has them, for libpq's C(options)."""
    return " ".join(
        "-c {}={}".format(name, value.replace("\\", "\\\\").replace(" ", "\\ "))
        for name, value in settings.items()
    )


def _open(
    params: Mapping[str, Any], given: Mapping[str, Any], asynchronous: bool = False
) -> tuple[Connection, login_guard.Guard]:
    """The only place that opens connections; returns one with what guards its login.

    Raises:
        ConnectionFailed: with libpq's message.
    """
    host = str(given.get("host", ""))
    try:
        guard = login_guard.Guard(given, psycopg2.extensions.libpq_version())
    except (OSError, ValueError) as error:
        raise ConnectionFailed(f"connection to server at {host!r} failed: {error}") from error
    over_socket = host.startswith("/") and not asynchronous
    try:
        with os_identity(params["login_os_user"] if over_socket else ""):
            return psycopg2.connect(**guard.arguments, async_=asynchronous), guard
    except psycopg2.Error as error:
        guard.close()
        text = guard.explained(str(error).strip())
        if _POOLER_REFUSES in text:
            text += f"; {_OTHER_PORT}"
        to_server = over_socket and given.get("dbname") != CONSOLE
        advice = refusal(text, str(given["user"]), params["login_os_user"]) if to_server else ""
        raise ConnectionFailed(text + advice, bool(advice)) from error


def refusal(text: str, user: str, os_user: str) -> str:
    """What to do where a server lets nobody in over its unix socket; empty for all else.

    Args:
        text: what libpq says. The server's language is its own, but names are not translated.
        user: who logs in.
        os_user: as which OS user.
    """
    if not re.search(r"pg_hba\.conf|\b[Pp]eer\b|no password supplied", text):
        return ""
    mapped = "" if os_user == user else f", with a map that lets {os_user!r} be {user!r}"
    return (
        f"; the server answers, but its pg_hba.conf does not let OS user {os_user!r} log in as"
        f" {user!r} over the unix socket: put the line 'local all {user} peer' above all others"
        f" there{mapped}, and reload the server"
    )


def password_works(params: Mapping[str, Any], user: str, password: str, dbname: str) -> bool | None:
    """Whether a role can log in with a password, tried out as the module itself connects.

    Args:
        params: module parameters, with the keys of connection_argument_spec().
        user: the role.
        password: its password in plain text.
        dbname: an existing database.

    Returns:
        None when that can't be told, because the server asks for no password or fails otherwise.
    """
    worked, asked, message = _attempt(params, user, password, dbname)
    if worked or not asked:
        return True if worked and asked else None
    # In whatever language the server speaks, it says the same of a password that is surely wrong.
    _worked, asked, wrong = _attempt(params, user, secrets.token_hex(32), dbname)
    return False if asked and wrong == message else None


def _attempt(
    params: Mapping[str, Any], user: str, password: str, dbname: str
) -> tuple[bool, bool, str]:
    """Log in: whether it worked, whether the server asked for the password, what it said if not."""
    arguments = connection_arguments(params, dbname)
    arguments.update(user=user, password=password)
    connection, _guard = _open(params, arguments, asynchronous=True)
    deadline = time.monotonic() + CONNECT_TIMEOUT_S
    try:
        while True:
            state = connection.poll()
            if state == psycopg2.extensions.POLL_OK:
                return True, bool(connection.info.used_password), ""
            left = deadline - time.monotonic()
            readers = [connection] if state == psycopg2.extensions.POLL_READ else []
            writers = [] if readers else [connection]
            if left <= 0 or not any(select.select(readers, writers, [], left)):
                return False, False, "no answer in time"
    except psycopg2.OperationalError as error:
        return False, bool(connection.info.used_password), str(error).strip()
    finally:
        connection.close()


def fetch(
    connection: Connection, query: Any, values: Sequence[Any] | Mapping[str, Any] = ()
) -> list[Any]:
    """Rows of a query as named tuples."""
    with connection.cursor(cursor_factory=psycopg2.extras.NamedTupleCursor) as cursor:
        cursor.execute(query, values or None)
        return list(cursor.fetchall())


def server_major(connection: Connection) -> int:
    """Major version of the connected server, such as 17."""
    return int(connection.server_version) // 10000


def console_rows(connection: Connection, command: str) -> list[dict[str, Any]]:
    """Rows of a PgBouncer console command; the connection must be in autocommit mode."""
    with connection.cursor() as cursor:
        cursor.execute(command)
        if cursor.description is None:
            return []
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]


def server_message(error: Exception) -> str:
    """What the server said about a failed statement, without the statement itself."""
    diagnostics = getattr(error, "diag", None)
    primary = getattr(diagnostics, "message_primary", None)
    if not primary:
        return str(error).strip()
    parts = [str(primary)]
    for name, label in (("message_detail", "DETAIL"), ("message_hint", "HINT")):
        text = getattr(diagnostics, name, None)
        if text:
            parts.append(f"{label}: {text}")
    return " ".join(parts)


__all__ = [
    "LOCK_TIMEOUT_S",
    "PREPARED_HOLDERS",
    "PSYCOPG2_IMPORT_ERROR",
    "Connection",
    "ConnectionFailed",
    "connect",
    "connect_console",
    "connect_pooled",
    "connection_argument_spec",
    "connection_arguments",
    "console_rows",
    "fetch",
    "os_identity",
    "password_works",
    "psycopg2",
    "refusal",
    "require_psycopg2",
    "server_major",
    "server_message",
    "session_options",
    "sql",
]
