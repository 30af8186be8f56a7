#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: the role that an exporter of metrics logs in as."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_monitor
short_description: The role that an exporter of metrics logs in as
version_added: 0.1.0
description:
  - Makes a role that logs in, reads the server's statistics as a member of C(pg_monitor), and may do nothing more.
  - The role gets no password. It logs in over the unix socket as the OS user of the same name, by a C(peer) rule
    that the module M(pooled.postgres.postgres_hba) can write.
  - Powers, memberships and settings that it has beyond that are taken away.
  - Its sessions find nothing but what is in C(pg_catalog) by a bare name (C(search_path)), are read-only, and end a
    statement after 30 seconds. So no function or operator that an application's migrations create is ever called by
    an exporter.
options:
  name:
    description: Name of the role, which is that of the exporter's OS user.
    type: str
    default: prometheus
  databases:
    description:
      - Databases that the exporter connects to, besides O(login_db). It is granted C(CONNECT) by name, so that it
        does not depend on what C(PUBLIC) may do.
    type: list
    elements: str
    default: []
  extensions:
    description:
      - Extensions to create in O(login_db), where the exporter reads what is the whole server's. The role is granted C(USAGE)
        by name on the schemas that they are in.
    type: list
    elements: str
    default: [pg_stat_statements]
  connection_limit:
    description: Connection limit of the role; V(-1) for none.
    type: int
    default: -1
  assume_new:
    description: In check mode, whether to predict against a new server where none answers because none is installed yet.
    type: bool
    default: false
extends_documentation_fragment:
  - pooled.postgres.attributes
  - pooled.postgres.connection
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
notes:
  - A standby has the role of its primary. There, the module changes nothing, and fails when something is missing.
author:
  - pooled.postgres contributors (@pooled)
"""

EXAMPLES = r"""
- name: Let the exporter read the statistics
  pooled.postgres.postgres_monitor:
    databases: [mydb]
"""

RETURN = r"""
statements:
  description: What was executed, or in check mode would be, in order.
  returned: always
  type: list
  elements: str
  sample: [CREATE ROLE prometheus LOGIN, GRANT pg_monitor TO prometheus]
extension_schemas:
  description: The schema of each of O(extensions), which queries must name because of C(search_path).
  returned: success
  type: dict
  sample: {pg_stat_statements: public}
"""

from typing import Any

from ansible_collections.pooled.postgres.plugins.module_utils._access import (
    monitor_role,
)
from ansible_collections.pooled.postgres.plugins.module_utils._module import PooledModule
from ansible_collections.pooled.postgres.plugins.module_utils._sql.available_extensions import (
    read_available,
    read_surroundings,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    PSYCOPG2_IMPORT_ERROR,
    Connection,
    ConnectionFailed,
    connect,
    connection_argument_spec,
    fetch,
    require_psycopg2,
    server_message,
)

STANDBY = "SELECT pg_catalog.pg_is_in_recovery() AS is_standby"
ROLE = """
SELECT rolconnlimit AS connection_limit, rolcanlogin AS login, rolinherit AS inherits, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,
       ARRAY(SELECT g.rolname::text FROM pg_catalog.pg_auth_members AS m JOIN pg_catalog.pg_roles AS g ON g.oid = m.roleid
              WHERE m.member = r.oid) AS member_of
  FROM pg_catalog.pg_roles AS r WHERE rolname = %s
"""
CONNECTS = """
SELECT d.datname AS name,
       EXISTS (SELECT FROM pg_catalog.aclexplode(d.datacl) AS a JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
                WHERE r.rolname = %s AND a.privilege_type = 'CONNECT') AS connects
  FROM pg_catalog.pg_database AS d WHERE d.datname = ANY (%s)
"""
SETTINGS = """
SELECT coalesce(d.datname, '') AS database, split_part(item, '=', 1) AS name,
       substr(item, strpos(item, '=') + 1) AS value
  FROM pg_catalog.pg_db_role_setting AS s
  JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole
  LEFT JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase
 CROSS JOIN LATERAL unnest(s.setconfig) AS item
 WHERE r.rolname = %s
 ORDER BY 1, 2
"""
EXTENSIONS = """
SELECT name, installed_version IS NOT NULL AS created FROM pg_catalog.pg_available_extensions WHERE name = ANY (%s)
"""
SCHEMAS = """
SELECT n.nspname AS name,
       EXISTS (SELECT FROM pg_catalog.aclexplode(n.nspacl) AS a JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
                WHERE r.rolname = %s AND a.privilege_type = 'USAGE') AS granted
  FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
 WHERE e.extname = ANY (%s) AND n.nspname <> 'pg_catalog'
"""


def main() -> None:
    module = PooledModule(
        {
            **connection_argument_spec(),
            "name": {"type": "str", "default": "prometheus"},
            "databases": {"type": "list", "elements": "str", "default": []},
            "extensions": {"type": "list", "elements": "str", "default": ["pg_stat_statements"]},
            "connection_limit": {"type": "int", "default": monitor_role.NO_LIMIT},
            "assume_new": {"type": "bool", "default": False},
        }
    )
    params = module.params
    databases = tuple(dict.fromkeys((params["login_db"], *params["databases"])))
    extensions = tuple(dict.fromkeys(params["extensions"]))
    connection = _connection(module)
    done: list[str] = []
    try:
        state = monitor_role.nothing_yet() if connection is None else _state(connection, params)
        changes = monitor_role.monitor_changes(
            params["name"], databases, extensions, state, params["connection_limit"]
        )
        if connection is not None:
            _refuse_impossible(module, connection, state, databases, extensions, changes)
            if not module.check_mode:
                with connection.cursor() as cursor:
                    for change in changes:
                        cursor.execute(change.sql or change.statement)
                connection.commit()
        done = [change.statement for change in changes]
    except ValueError as error:
        module.fail_json(msg=f"extensions: {error}")
    except Exception as error:
        if connection is None or not isinstance(error, connection.Error):
            raise
        module.fail_json(
            msg=f"role {params['name']!r}, nothing is changed: {server_message(error)}"
        )
    module.exit_json(
        changed=bool(done),
        statements=done,
        extension_schemas=monitor_role.extension_schemas(extensions, state),
        diff={
            "before_header": f"role {params['name']}",
            "after_header": f"role {params['name']}",
            "before": monitor_role.shown(changes, after=False),
            "after": monitor_role.shown(changes, after=True),
        },
    )


def _connection(module: PooledModule) -> Any:
    """A connection; None where check mode assumes a new server."""
    assume = module.check_mode and module.params["assume_new"]
    if assume and PSYCOPG2_IMPORT_ERROR is not None:
        return None
    require_psycopg2(module)
    try:
        return connect(module.params, read_only=module.check_mode)
    except ConnectionFailed as error:
        if assume:
            return None
        module.fail_json(msg=f"can't connect to the server: {error}")


def _state(connection: Connection, params: dict[str, Any]) -> monitor_role.MonitorState:
    """What the server has of what is wanted."""
    role = None
    for row in fetch(connection, ROLE, (params["name"],)):
        powers = tuple(power for power in monitor_role.POWERS if getattr(row, power))
        settings = {
            (one.database, one.name): one.value
            for one in fetch(connection, SETTINGS, (params["name"],))
        }
        role = monitor_role.MonitorRole(
            row.login,
            row.inherits,
            powers,
            tuple(row.member_of),
            settings,
            row.connection_limit,
        )
    databases = [params["login_db"], *params["databases"]]
    connects = fetch(connection, CONNECTS, (params["name"], databases))
    extensions = fetch(connection, EXTENSIONS, (params["extensions"],))
    schemas = fetch(connection, SCHEMAS, (params["name"], params["extensions"]))
    return monitor_role.MonitorState(
        role,
        {row.name: row.connects for row in connects},
        {row.name: row.created for row in extensions},
        read_available(connection, params["extensions"]),
        read_surroundings(connection),
        {row.name: row.granted for row in schemas},
    )


def _refuse_impossible(
    module: PooledModule,
    connection: Connection,
    state: monitor_role.MonitorState,
    databases: tuple[str, ...],
    extensions: tuple[str, ...],
    changes: tuple[monitor_role.MonitorChange, ...],
) -> None:
    """Fail before anything is changed when a statement can't work.

    In check mode, a database that is not there yet may be one that the run makes.
    """
    absent = [name for name in databases if name not in state.connects]
    if absent and not module.check_mode:
        module.fail_json(msg=f"databases: there is no {', '.join(absent)} on the server")
    unavailable = [name for name in extensions if name not in state.extensions]
    if unavailable:
        module.fail_json(
            msg=f"extensions: {', '.join(unavailable)} can't be created; install the server's"
            " package of extensions (contrib), or leave them out"
        )
    if changes and fetch(connection, STANDBY)[0].is_standby:
        module.fail_json(
            msg="the server is a standby, which has its roles from its primary; run this there"
            f" first, where it will execute: {'; '.join(change.statement for change in changes)}"
        )


if __name__ == "__main__":
    main()
