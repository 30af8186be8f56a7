# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server as far as logins to it go: its files, what it has loaded, and what it says of them."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Iterable, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import files
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database
from ansible_collections.pooled.postgres.plugins.module_utils._model.names import IDENT_MAP
from ansible_collections.pooled.postgres.plugins.module_utils._server.errors import Refused
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_file import INCLUDES_MAJOR
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_unmanaged import (
    IncludedRule,
    named_by_unmanaged_lines,
    unmanaged_names,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    Connection,
    ConnectionFailed,
    connect,
    fetch,
    server_major,
    server_message,
)

RELOAD_TIMEOUT_S = 15
FILE_MODE = 0o640
FILES = """
SELECT current_setting('hba_file') AS hba, current_setting('ident_file') AS ident
"""
RELOAD = "SELECT pg_catalog.pg_reload_conf()"
LOGIN_ROLES = """
SELECT rolname AS name FROM pg_catalog.pg_roles WHERE rolcanlogin AND oid <> 10
"""
DATABASES = """
SELECT datname AS name FROM pg_catalog.pg_database WHERE NOT datistemplate AND datname <> 'postgres'
"""

HBA_ERRORS = """
SELECT line_number, error FROM pg_catalog.pg_hba_file_rules WHERE error IS NOT NULL
"""
INCLUDED = """
SELECT file_name, line_number, coalesce(type, '') AS type, coalesce(database, '{}') AS databases,
       coalesce(user_name, '{}') AS users, coalesce(auth_method, '') AS method,
       coalesce(error, '') AS error
  FROM pg_catalog.pg_hba_file_rules WHERE file_name <> current_setting('hba_file')
 ORDER BY rule_number, file_name, line_number
"""
INCLUDED_MAPS = """
SELECT file_name, line_number FROM pg_catalog.pg_ident_file_mappings
 WHERE file_name <> current_setting('ident_file') AND map_name = %s
 ORDER BY map_number
"""
IDENT_ERRORS = """
SELECT line_number, error FROM pg_catalog.pg_ident_file_mappings WHERE error IS NOT NULL
"""


class LoginServer:
    """A running server and its files for logins, or in check mode one that is not there yet."""

    def __init__(
        self, params: dict[str, Any], check_mode: bool, require_driver: Callable[[], None]
    ) -> None:
        self.params = params
        self.read_only = check_mode
        self.connection: Connection | None = None
        version, cluster = self.params["version"], self.params["cluster"]
        directory = self.params["config_directory"] or f"/etc/postgresql/{version}/{cluster}"
        self.directory = os.path.normpath(directory)
        self.os_user = files.service_user(directory, self.params["login_os_user"])
        self.exists = files.exists(directory, files.Rights(self.os_user))
        foreseen = "assume_started" if self.exists else "assume_new"
        if check_mode and self.params[foreseen]:
            self.major = int(version) if version.isdigit() else 0
            self.hba_file = f"{directory}/pg_hba.conf"
            self.ident_file = f"{directory}/pg_ident.conf"
            return
        require_driver()
        self.connection = self.connect()
        self.major = server_major(self.connection)
        self.hba_file, self.ident_file = self.rows(FILES)[0]

    def rights(self, path: str) -> files.Rights:
        """With whose rights to work on a file that the server names.

        It may name anything. Only a file where the operator has the cluster can be an
        administrator's.
        """
        return files.Rights(self.os_user, everywhere=os.path.dirname(path) != self.directory)

    def connect(self) -> Connection:
        """A connection, in which check mode can't change anything."""
        return connect(self.params, autocommit=True, read_only=self.read_only)

    def rows(self, query: str, *values: str) -> list[Any]:
        """Rows of a query.

        Raises:
            Refused: with the server's words, such as when the user may not ask.
        """
        if self.connection is None:
            raise Refused("there is no server yet to ask")
        try:
            return fetch(self.connection, query, values)
        except self.connection.Error as error:
            raise Refused(server_message(error)) from error

    def has_tls(self) -> bool:
        """Whether the server takes TLS connections."""
        return bool(self.rows("SELECT current_setting('ssl')::bool AS enabled")[0].enabled)

    def file(self, path: str, packaged: str) -> files.ManagedFile:
        """A file as it is, or as the package will create it."""
        if not self.exists and self.connection is None:
            return files.ManagedFile(path, packaged, "postgres", "postgres", FILE_MODE)
        return files.read_file(path, self.rights(path))

    def unmanaged_databases(self, model: Sequence[Database], text: str) -> list[str]:
        """Databases that are neither the model's nor the server's own."""
        names = (
            [row.name for row in self.rows(DATABASES)]
            if self.connection
            else named_by_unmanaged_lines(text)[0]
        )
        return self._unmanaged(model, names)

    def unmanaged_roles(self, model: Sequence[Database], text: str) -> list[str]:
        """Roles that log in and are neither the model's nor the superuser."""
        names = (
            [row.name for row in self.rows(LOGIN_ROLES)]
            if self.connection
            else named_by_unmanaged_lines(text)[1]
        )
        return self._unmanaged(model, names)

    def _unmanaged(self, model: Sequence[Database], names: Iterable[str]) -> list[str]:
        return unmanaged_names(
            model, names, (self.params["pooler_role"], self.params["login_user"])
        )

    def included(self) -> tuple[IncludedRule, ...]:
        """Rules that pg_hba.conf brings from other files, as far as there is a server to say."""
        if self.connection is None or self.major < INCLUDES_MAJOR:
            return ()
        return tuple(
            IncludedRule(
                row.file_name,
                row.line_number,
                row.type,
                tuple(row.databases),
                tuple(row.users),
                row.method,
                row.error,
            )
            for row in self.rows(INCLUDED)
        )

    def included_maps(self) -> list[Any]:
        """Lines of PgBouncer's map that pg_ident.conf brings from other files."""
        return self.rows(INCLUDED_MAPS, IDENT_MAP)

    def keeps(self, file: files.ManagedFile) -> bool:
        """Whether a file may stay with its owner and group: the server's OS user may read it."""
        owner = self.owner
        if file.owner == owner.user:
            # Then the group's rights do not count.
            return bool(file.mode & 0o400)
        return file.group == owner.group and bool(file.mode & 0o040)

    @property
    def owner(self) -> files.Owner:
        """Who the server's files belong to."""
        return files.owner_of(self.os_user)

    def loaded_at(self) -> float:
        """When the server has loaded its files, as a new session sees it."""
        connection = self.connect()
        try:
            query = "SELECT extract(epoch FROM pg_catalog.pg_conf_load_time())::float8 AS at"
            return float(fetch(connection, query)[0].at)
        finally:
            connection.close()

    def has_loaded(self, *paths: str) -> bool:
        """Whether the server has loaded its files since they were last written."""
        if self.connection is None:
            return True
        written = [files.written_at(path, self.rights(path)) for path in paths]
        return self.loaded_at() >= max(written)

    def errors(self) -> list[str]:
        """What the server finds wrong with the files on disk, before it loads them."""
        queries = {"pg_hba.conf": HBA_ERRORS}
        if self.major >= 15:
            queries["pg_ident.conf"] = IDENT_ERRORS
        return [
            f"{name} line {row.line_number}: {row.error}"
            for name, query in queries.items()
            for row in self.rows(query)
        ]

    def reload(self) -> None:
        """Let the server load its files, and see that it has and that it still lets us in.

        Raises:
            Refused: when it does not.
        """
        before = self.loaded_at()
        self.rows(RELOAD)
        deadline = time.monotonic() + RELOAD_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                if self.loaded_at() > before:
                    return
            except ConnectionFailed as error:
                raise Refused(f"with the new rules this module can't log in: {error}") from error
            time.sleep(0.05)
        raise Refused(f"the server did not load the new files within {RELOAD_TIMEOUT_S} s")
