# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to Postgres and to PgBouncer's console. The only file that imports psycopg2."""

from __future__ import annotations

import secrets
import select
import time
import traceback
from contextlib import contextmanager
from typing import Any, Iterator, Mapping, Sequence

from ansible.module_utils.basic import missing_required_lib
from ansible.module_utils.common.respawn import (
    has_respawned,
    probe_interpreters_for_module,
    respawn_module,
)

from ansible_collections.pooled.postgres.plugins.module_utils import _identity

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
# Where the distribution's package python3-psycopg2 can be imported.
SYSTEM_PYTHON = "/usr/bin/python3"


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
    """See that there is psycopg2: run the module again in the distribution's Python if that has it.

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
    """The server did not take the connection; the text is the server's or libpq's own."""


@contextmanager
def os_identity(user: str) -> Iterator[None]:
    """Have the rights of an OS user alone, so that peer authentication sees that user.

    Does nothing unless the process is root and the user exists and is another one.
    """
    with _identity.acting_as(_identity.entry_of(user)):
        yield


def connect(params: Mapping[str, Any], dbname: str | None = None, autocommit: bool = False) -> Any:
    """Connect as the module's connection options say.

    Args:
        params: module parameters, with the keys of connection_argument_spec().
        dbname: database to connect to; O(login_db) when None.
        autocommit: whether each statement is its own transaction; PgBouncer's console needs it.

    Raises:
        ConnectionFailed: with libpq's message.
    """
    given = connection_arguments(params, dbname)
    over_socket = str(given["host"]).startswith("/")
    try:
        with os_identity(params["login_os_user"] if over_socket else ""):
            connection = psycopg2.connect(**given)
    except psycopg2.OperationalError as error:
        raise ConnectionFailed(str(error).strip()) from error
    connection.autocommit = autocommit
    return connection


def connection_arguments(params: Mapping[str, Any], dbname: str | None) -> dict[str, Any]:
    """What libpq is told, from the module's connection options."""
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
        # Whatever the database holds. Python may not even find another codec with os_identity().
        "client_encoding": "UTF8",
    }
    arguments.update(params["connect_params"])
    return {key: value for key, value in arguments.items() if value is not None}


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
    connection = psycopg2.connect(**arguments, async_=True)
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


def fetch(connection: Any, query: Any, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
    """Rows of a query as named tuples."""
    with connection.cursor(cursor_factory=psycopg2.extras.NamedTupleCursor) as cursor:
        cursor.execute(query, values or None)
        return list(cursor.fetchall())


def server_major(connection: Any) -> int:
    """Major version of the connected server, such as 17."""
    return int(connection.server_version) // 10000


def console_rows(connection: Any, command: str) -> list[dict[str, Any]]:
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
    "PSYCOPG2_IMPORT_ERROR",
    "ConnectionFailed",
    "connect",
    "connection_argument_spec",
    "connection_arguments",
    "console_rows",
    "fetch",
    "os_identity",
    "password_works",
    "psycopg2",
    "require_psycopg2",
    "server_major",
    "server_message",
    "sql",
]
