# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements with secrets, which the server is to write to none of its logs."""

from __future__ import annotations

from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    Connection,
    fetch,
)

# In statements of their own: in one string with the secret the server would log it all first.
_DO_NOT_LOG = {
    "log_statement": "'none'",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_min_error_statement": "'panic'",
    "pg_stat_statements.track_utility": "off",
    # What pg_stat_activity shows to members of pg_monitor, such as an exporter.
    "track_activities": "off",
}
# From this major on somebody who is not a superuser may be allowed to set one of them.
_DELEGATED_SETTINGS_MAJOR = 15

_LOGIN = """
SELECT rolsuper AS superuser, current_setting('server_version_num')::int / 10000 AS major
  FROM pg_roles WHERE rolname = current_user
"""
_MAY_SET = """
SELECT name FROM pg_settings
 WHERE name = ANY(%s) AND has_parameter_privilege(name, 'SET')
"""


def keep_from_logs(connection: Connection) -> None:
    """Keep what follows in this transaction out of logs and statistics, as far as the login may."""
    settable = _settable(connection)
    with connection.cursor() as cursor:
        for name in settable:
            cursor.execute(f"SET LOCAL {name} = {_DO_NOT_LOG[name]}")


def _settable(connection: Connection) -> list[str]:
    (login,) = fetch(connection, _LOGIN)
    if login.superuser:
        return list(_DO_NOT_LOG)
    if login.major < _DELEGATED_SETTINGS_MAJOR:
        return []
    return [row.name for row in fetch(connection, _MAY_SET, (list(_DO_NOT_LOG),))]
