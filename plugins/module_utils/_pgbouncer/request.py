# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pgbouncer_config is asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._model.argument_spec import (
    given_databases,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Database
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import os_user

AUTH_QUERY = "query"


@dataclass(frozen=True)
class Request:
    """The arguments of pgbouncer_config, by their names, with the model read."""

    databases: tuple[Database, ...]
    check_mode: bool
    options: Mapping[str, Any]
    database_options: Mapping[str, Any]
    user_options: Mapping[str, Any]
    auth: str
    auth_role: str
    auth_password: str | None
    client_networks: Sequence[str]
    require_tls: bool
    backend_host: str
    backend_port: int
    backend_socket_dir: str
    limit_nofile: str
    processes: int
    runtime_directory: str
    reconnect: bool
    restart: str
    takeover: bool
    config_file: str
    binary: str
    service: str
    unit_directory: str
    os_user: str
    sandbox: str
    logrotate_directory: str
    assume_new: bool
    assume_version: str | None
    assume_user: bool
    assume_files: Sequence[str]

    @property
    def asks_server(self) -> bool:
        """Whether PgBouncer asks the server for verifiers."""
        return self.auth == AUTH_QUERY

    @property
    def asking_role(self) -> str:
        """The role that it asks the server as; empty when it does not ask."""
        return self.auth_role if self.asks_server else ""

    @property
    def assumed_files(self) -> Sequence[str]:
        """Files that a check takes for granted."""
        return self.assume_files if self.check_mode else ()

    @property
    def assumes_user(self) -> bool:
        """Whether a check takes the OS user for granted."""
        return self.check_mode and self.assume_user

    def local_login(self, role: str, user: str, password: str | None = None) -> dict[str, Any]:
        """How to log in to the server on this host, but for what console.LOGIN says.

        Args:
            role: whom to log in as.
            user: with whose rights, an OS user.
            password: the role's password.
        """
        return {
            "login_unix_socket": self.backend_socket_dir,
            "login_port": self.backend_port,
            "login_user": role,
            "login_password": password,
            "login_os_user": user,
        }


def parsed_request(params: Mapping[str, Any], check_mode: bool) -> Request:
    """What a module's arguments ask for.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """
    os_user.checked(params["os_user"])
    databases = parse_databases(
        given_databases(params["databases"], params["passwords"]), "databases"
    )
    names = {field.name for field in fields(Request)} - {"databases", "check_mode"}
    return Request(databases, check_mode, **{name: params[name] for name in names})
