# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer's console: connections to it, and what it shows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.clients import (
    CONSOLE,
    Client,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.running import (
    Running,
    ShownOption,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql import connection

# How PgBouncer lets its own OS user in: over its unix socket, without a password.
LOGIN: dict[str, Any] = {
    "login_host": "",
    "login_user": CONSOLE,
    "login_password": None,
    "login_db": CONSOLE,
    "ssl_mode": "disable",
    "ca_cert": None,
    "ssl_cert": None,
    "ssl_key": None,
    "connect_params": {},
}


class ConsoleError(Exception):
    """The console took no connection or no command; the text is PgBouncer's or libpq's own."""


class Console:
    """A connection to a console.

    Raises:
        ConsoleError: from each method that sends a command, when it is refused or the connection
            breaks.
    """

    def __init__(self, session: connection.Connection) -> None:
        self._session = session

    def rows(self, command: str) -> list[dict[str, Any]]:
        """The rows that a command shows; none where it shows none."""
        try:
            return connection.console_rows(self._session, command)
        except connection.psycopg2.Error as error:
            raise ConsoleError(connection.server_message(error)) from error

    def running(self, descriptors: int | None) -> Running:
        """What the process says about itself.

        Args:
            descriptors: how many file descriptors it may open; None where that is not known.
        """
        config = {
            str(row["key"]): ShownOption(
                row["value"] or "", row["default"] or "", row["changeable"] == "yes"
            )
            for row in self.rows("SHOW CONFIG")
        }
        databases = {str(row["name"]): row for row in self.rows("SHOW DATABASES")}
        users = {str(row["name"]): row for row in self.rows("SHOW USERS")}
        peers = {}
        if "peer_id" in config:
            peers = {str(row["peer_id"]): row for row in self.rows("SHOW PEERS")}
        return Running(True, config, databases, users, descriptors, peers=peers)

    def clients(self) -> list[Client]:
        """Who is connected, but for those on the console."""
        return [
            Client(
                str(row["database"]),
                str(row["user"]),
                "" if str(row["addr"]).startswith("unix") else str(row["addr"]),
                bool(row["tls"]),
            )
            for row in self.rows("SHOW CLIENTS")
            if row["database"] != CONSOLE
        ]

    def close(self) -> None:
        """End the connection."""
        self._session.close()


def connected(directory: str, port: int, os_user: str) -> Console:
    """A new connection to a console.

    Args:
        directory: where its unix socket is.
        port: the port in the socket's name.
        os_user: OS user that PgBouncer runs as.

    Raises:
        ConsoleError: with libpq's message.
    """
    place = {"login_unix_socket": directory, "login_port": port, "login_os_user": os_user}
    try:
        return Console(connection.connect_console({**LOGIN, **place}))
    except connection.ConnectionFailed as error:
        raise ConsoleError(str(error)) from error


@contextmanager
def opened(directory: str, port: int, os_user: str) -> Iterator[Console]:
    """A connection to a console that is closed at the end; the arguments are connected()'s."""
    console = connected(directory, port, os_user)
    try:
        yield console
    finally:
        console.close()
