#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_sessions_info
short_description: Who holds connections to a Postgres server, for how long, and who waits for whom
version_added: 0.1.0
author:
  - pooled.postgres contributors (@pooled)
description:
  - Counts the sessions of clients by database, role, application and state, lists transactions that have been open and idle for long and statements that
    have been running for long, and shows which sessions wait for locks of which others.
  - Lists PgBouncer's pools with their clients and servers, where its console is reachable.
  - Never writes. Reads in short transactions that are read-only.
  - What the login may not see is returned in RV(not_shown).
  - Behind PgBouncer, C(client_address) is the pooler's; the application's name tells who it is, and with PgBouncer's C(application_name_add_host) from where.
extends_documentation_fragment:
  - pooled.postgres.attributes
  - pooled.postgres.connection
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details:
      - Changes nothing.
  idempotent:
    support: full
options:
  server:
    description: Whether to ask the server. V(false) is for hosts that have only a PgBouncer, whose pools are then shown.
    type: bool
    default: true
  idle_transaction_age:
    description: From which age on a transaction that is open and idle is listed, such as V(90s) or V(10min). Units are C(ms), C(s), C(min), C(h) and C(d).
    type: str
    default: 1min
  query_age:
    description: From which age on a statement that runs is listed.
    type: str
    default: 1min
  show_queries:
    description:
      - Whether to return the text of queries. It may hold what the application has written into it.
      - The text of a statement in which a password, secret, token or credential is mentioned, or which holds a password's verifier or a URI with a password,
        is never returned.
    type: bool
    default: true
  query_length:
    description: Most characters of a query that are returned.
    type: int
    default: 200
  pooler_port:
    description: Port of the PgBouncer before the server; V(0) for none.
    type: int
    default: 0
  pooler_host:
    description: Its host. Empty asks its console over the unix socket.
    type: str
    default: ''
  pooler_unix_socket:
    description:
      - Directory of its unix socket. Empty asks every process that listens on a unix socket of O(pooler_port) on this host, and whose socket belongs to
        O(pooler_os_user) or root; with V(auto), to C(pgbouncer), C(postgres) or root.
    type: str
    default: ''
  pooler_user:
    description: User for its console, who must be among its C(stats_users) or C(admin_users); V(pgbouncer) needs no password over the unix socket.
    type: str
    default: pgbouncer
  pooler_password:
    description: Password of O(pooler_user).
    type: str
  pooler_os_user:
    description:
      - OS user that PgBouncer runs as, whose identity the connection over the unix socket carries when the module runs as root.
      - V(auto) is whom the socket belongs to.
    type: str
    default: auto
seealso:
  - module: pooled.postgres.postgres_sessions
"""

EXAMPLES = r"""
- name: Look at the sessions and pools of this host
  pooled.postgres.postgres_sessions_info:
    pooler_port: 6432
    idle_transaction_age: 5min
  become: true
  register: found

- name: Show them
  ansible.builtin.debug:
    msg: "{{ found.lines }}"

- name: Fail while clients wait for a connection for long
  ansible.builtin.assert:
    that: found.pools | map(attribute='maxwait') | max < 5
"""

RETURN = r"""
sessions:
  description: Numbers of client sessions by database, role, application and state, the most first; V(null) without a server.
  returned: success
  type: list
  elements: dict
  contains:
    database:
      description: Database.
      type: str
    role:
      description: Role.
      type: str
    application:
      description: What the client calls itself.
      type: str
    state:
      description: State as the server calls it, such as V(idle in transaction (aborted)); V(not shown) when the login may not see it.
      type: str
    count:
      description: How many.
      type: int
    longest_seconds:
      description: How long one of them has been in that state at most.
      type: float
  sample: [{database: mydb, role: app_user, application: api, state: idle in transaction, count: 2, longest_seconds: 754.2}]
connections:
  description: The server's limit as C(max), and how many sessions of clients there are as C(used), without this one; V(null) without a server.
  returned: success
  type: dict
idle_transactions:
  description: Transactions that are open and idle, also failed ones, for at least O(idle_transaction_age), the oldest first; V(null) without a server.
  returned: success
  type: list
  elements: dict
  contains:
    pid:
      description: Process on the server.
      type: int
    database:
      description: Database.
      type: str
    role:
      description: Role.
      type: str
    application:
      description: What the client calls itself.
      type: str
    client_address:
      description: Where it connects from; empty over the unix socket.
      type: str
    state:
      description: V(idle in transaction) or V(idle in transaction (aborted)).
      type: str
    seconds:
      description: How long it has been in that state.
      type: float
    transaction_seconds:
      description: How long the transaction has been open; V(null) when it has failed.
      type: float
    wait:
      description: What the process waits for, as the server calls it.
      type: str
    query:
      description: The last statement, as O(query_length) and O(show_queries) allow.
      type: str
long_queries:
  description: Statements that have been running for at least O(query_age), the oldest first; C(seconds) is since the statement began.
  returned: success
  type: list
  elements: dict
blocking:
  description:
    - Who waits for whom, as a tree in a list. Each process is followed by those that wait for it, whose C(depth) is one more.
    - A process that waits for several is listed once, below the one that is nearest to the root.
  returned: success
  type: list
  elements: dict
  contains:
    pid:
      description: Process on the server; V(0) stands for prepared transactions, which no session holds, and whose gids C(query) names.
      type: int
    depth:
      description: V(0) for one that others wait for and that waits for nobody.
      type: int
    blocked_by:
      description: All processes that it waits for.
      type: list
      elements: int
    blocks:
      description: How many processes are below it.
      type: int
    lock:
      description:
        - The lock that it waits for, such as V(AccessExclusiveLock on public.orders) or V(ShareLock on transactionid); the latter is for a row that another
          transaction has changed.
        - Names of tables and indexes are looked up in their database, where the login can connect to it.
      type: str
    waiting_seconds:
      description: How long it has been waiting; on Postgres 13, which does not say, how long its statement has been running.
      type: float
    database:
      description: Database. The other keys of RV(idle_transactions) are there too.
      type: str
pools:
  description: PgBouncer's pools without that of its console; V(null) when none was asked for or none answered.
  returned: success
  type: list
  elements: dict
  contains:
    console:
      description: Which PgBouncer process says so, by host or directory of its socket.
      type: str
    database:
      description: Database.
      type: str
    user:
      description: Role.
      type: str
    pool_mode:
      description: Pool mode.
      type: str
    cl_active:
      description: Clients that have a server connection or need none. There are also C(sv_active), C(sv_idle), C(sv_used), C(sv_tested) and C(sv_login).
      type: int
    cl_waiting:
      description: Clients that wait for a server connection.
      type: int
    maxwait:
      description: How long the first of them has been waiting, in seconds.
      type: float
not_shown:
  description: What could not be seen, and why.
  returned: success
  type: list
  elements: str
lines:
  description: The same as tables for a terminal.
  returned: success
  type: list
  elements: str
"""

from typing import Any, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._module import PooledModule
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    os_user,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sessions import (
    read,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sessions.report import info_lines
from ansible_collections.pooled.postgres.plugins.module_utils._sessions.sessions import (
    OPEN_AND_IDLE,
    PREPARED,
    RUNNING,
    Session,
    Wait,
    blocking_tree,
    check_query_length,
    counts,
    duration_s,
    session_row,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    Connection,
    ConnectionFailed,
    connect,
    connection_argument_spec,
    require_psycopg2,
    server_message,
)


def main() -> None:
    module = PooledModule(_argument_spec())
    params = module.params
    try:
        idle_s = duration_s("idle_transaction_age", params["idle_transaction_age"])
        query_s = duration_s("query_age", params["query_age"])
        length = check_query_length(params["show_queries"], params["query_length"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    if not params["server"] and not params["pooler_port"]:
        module.fail_json(msg="pooler_port: with server=false there is nothing but PgBouncer to ask")
    require_psycopg2(module)
    names = ("sessions", "connections", "idle_transactions", "long_queries", "blocking", "pools")
    result: dict[str, Any] = dict.fromkeys(names)
    not_shown: list[str] = []
    if params["server"]:
        try:
            connection = connect(params, read_only=True)
        except ConnectionFailed as error:
            module.fail_json(msg=f"can't connect to the server: {error}")
        try:
            sessions, waits, prepared = _read(connection, result, not_shown)
        except connection.Error as error:
            module.fail_json(msg=f"the sessions could not be read: {server_message(error)}")
        connection.close()
        waits = read.with_relations(waits, lambda name: connect(params, name, read_only=True))
        result.update(_lists(sessions, idle_s, query_s, length))
        result["blocking"] = _tree(sessions, waits, prepared, length)
    if params["pooler_port"]:
        result["pools"] = read.read_pools(params, not_shown.append)
        if result["pools"] is None and not params["server"]:
            module.fail_json(msg=f"not shown: {not_shown[0]}")
    result["not_shown"] = not_shown
    lines = info_lines(result, params["idle_transaction_age"], params["query_age"])
    module.exit_json(changed=False, lines=lines, **result)


def _read(
    connection: Connection, result: dict[str, Any], not_shown: list[str]
) -> tuple[list[Session], list[Wait], list[Any]]:
    with read.reading(connection):
        sessions = read.read_sessions(connection)
        waits = read.read_waits(connection)
        prepared = read.read_prepared(connection)
        most = read.max_connections(connection)
        blind = read.blindness(connection, sessions)
    if blind:
        not_shown.append(blind)
    used = sum(1 for one in sessions if one.client)
    result["connections"] = {"max": most, "used": used}
    return sessions, waits, prepared


def _lists(
    sessions: Sequence[Session], idle_s: float, query_s: float, length: int
) -> dict[str, Any]:
    oldest = sorted((one for one in sessions if one.client), key=lambda one: -one.seconds)
    idle = [one for one in oldest if one.state in OPEN_AND_IDLE and one.seconds >= idle_s]
    long = [one for one in oldest if one.state in RUNNING and one.seconds >= query_s]
    return {
        "sessions": counts(sessions),
        "idle_transactions": [session_row(one, length) for one in idle],
        "long_queries": [session_row(one, length) for one in long],
    }


def _tree(
    sessions: Sequence[Session], waits: Sequence[Wait], prepared: Sequence[Any], length: int
) -> list[dict[str, Any]]:
    known = {one.pid: one for one in sessions}
    leaders = {one.pid: one.leader for one in sessions if one.leader}
    rows = []
    for node in blocking_tree(waits, leaders):
        # One that has come or gone while the server was asked.
        nobody = Session(node.pid, "", "", "", "", "", "", "", None, "", 0, "", None, "", False)
        row = session_row(known.get(node.pid, nobody), length)
        if node.pid == PREPARED:
            row["state"] = "prepared transaction"
            row["database"] = ", ".join(sorted({one.database for one in prepared}))
            row["role"] = ", ".join(sorted({one.role for one in prepared}))
            row["query"] = "; ".join(f"PREPARE TRANSACTION {one.gid!r}" for one in prepared)
        row.update(
            depth=node.depth,
            blocked_by=list(node.blocked_by),
            blocks=node.blocks,
            lock=node.lock,
            waiting_seconds=node.waiting_s if node.waiting_s is None else round(node.waiting_s, 1),
        )
        rows.append(row)
    return rows


def _argument_spec() -> dict[str, Any]:
    return {
        **connection_argument_spec(),
        "server": {"type": "bool", "default": True},
        "idle_transaction_age": {"type": "str", "default": "1min"},
        "query_age": {"type": "str", "default": "1min"},
        "show_queries": {"type": "bool", "default": True},
        "query_length": {"type": "int", "default": 200},
        "pooler_port": {"type": "int", "default": 0},
        "pooler_host": {"type": "str", "default": ""},
        "pooler_unix_socket": {"type": "str", "default": ""},
        "pooler_user": {"type": "str", "default": "pgbouncer"},
        "pooler_password": {"type": "str", "no_log": True},
        "pooler_os_user": {"type": "str", "default": os_user.AUTO},
    }


if __name__ == "__main__":
    main()
