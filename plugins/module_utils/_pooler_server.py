# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server behind a pooler says of the settings that sessions get when they log in."""

from __future__ import annotations

import hashlib
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils import _pooler, _postgres
from ansible_collections.pooled.postgres.plugins.module_utils._model import Database, model_roles

# With the transaction that has written a row, a change and its way back are two changes: sessions
# may have been opened in between.
SETTINGS = """
SELECT r.rolname, d.datname, s.xmin::text AS changed_by, s.setconfig::text AS settings
FROM pg_catalog.pg_db_role_setting s
LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
"""
ROLES = "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY (%s)"


def login(
    params: Mapping[str, Any], options: Mapping[str, str], databases: Sequence[Database]
) -> dict[str, Any] | None:
    """How the module logs in to the server; None when it has no way in.

    Args:
        params: the parameters of pgbouncer_config.
        options: of [pgbouncer].
        databases: the model.
    """
    if not params["backend_host"]:
        return {
            **_pooler.CONSOLE,
            "login_unix_socket": params["backend_socket_dir"],
            "login_port": params["backend_port"],
            "login_user": "postgres",
            "login_db": "postgres",
            "login_os_user": "postgres",
        }
    if params["auth"] != "query" or not databases:
        return None
    return {
        **_pooler.CONSOLE,
        "login_host": params["backend_host"],
        "login_port": params["backend_port"],
        "login_user": params["auth_role"],
        "login_password": params["auth_password"],
        "login_db": databases[0].name,
        "ssl_mode": options.get("server_tls_sslmode") or "prefer",
        "ca_cert": options.get("server_tls_ca_file"),
        "ssl_cert": options.get("server_tls_cert_file"),
        "ssl_key": options.get("server_tls_key_file"),
    }


def settings_lines(
    way: Mapping[str, Any] | None, databases: Sequence[Database]
) -> list[str] | None:
    """A line for each role and database of the model, which changes with its settings.

    Returns:
        None when the server does not say.
    """
    if way is None:
        return None
    try:
        connection = _postgres.connect(way, autocommit=True)
    except _postgres.ConnectionFailed:
        return None
    try:
        rows = _postgres.fetch(connection, SETTINGS)
        names = sorted(role.name for role in model_roles(databases))
        known = {row.rolname for row in _postgres.fetch(connection, ROLES, (names,))}
    except _postgres.psycopg2.Error:
        return None
    finally:
        connection.close()
    return [
        *(
            f"role {name}: {_digest(row for row in rows if row.rolname == name)}"
            for name in names
            if name in known
        ),
        *(
            f"database {database.name}: "
            + _digest(
                row for row in rows if row.rolname is None and row.datname in (None, database.name)
            )
            for database in databases
        ),
    ]


def _digest(rows: Iterable[Any]) -> str:
    text = "\n".join(sorted(repr(tuple(row)) for row in rows))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
