#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_sessions
short_description: End sessions of named roles on a Postgres server
version_added: 0.1.0
author:
  - pooled.postgres contributors (@pooled)
description:
  - Ends sessions of clients of O(roles) that have been in one of O(states) for longer than O(older_than), and confirms that each is gone.
  - Never ends sessions of other roles, of superusers, or its own, and nothing but sessions of clients, so no replication, autovacuum or worker.
  - The statement that ends a session checks once more that it is the one that was found, and still in such a state for so long. A session that has gone on
    by itself is left alone, and so is another one that has got its process id.
  - Check mode is the dry run. It tells what would be ended and what the login has no right to end.
  - Fails when there are sessions that it should end and can't, after ending the others. What was ended is in the result then too.
  - Of a session that is ended, the client loses its connection and its transaction is rolled back. Through PgBouncer, the client of an open transaction loses
    its connection to PgBouncer; an idle connection of a pool is replaced without any client noticing.
extends_documentation_fragment:
  - pooled.postgres.attributes
  - pooled.postgres.connection
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details:
      - The sessions are in RV(ended).
  idempotent:
    support: partial
    details:
      - A second run ends what has grown old enough by then.
options:
  roles:
    description: The roles whose sessions may be ended. A superuser among them is refused.
    type: list
    elements: str
    required: true
  states:
    description:
      - The states in which sessions are ended.
      - V(idle_in_transaction) is an open transaction that waits for its client, also one that has failed; V(idle_in_transaction_aborted) is the latter only.
      - V(active) is a session with a statement that runs, V(idle) one without a transaction.
    type: list
    elements: str
    choices: [active, idle, idle_in_transaction, idle_in_transaction_aborted]
    default: [idle_in_transaction]
  older_than:
    description:
      - For how long a session must have been in its state, such as V(90s) or V(10min). Units are C(ms), C(s), C(min), C(h) and C(d).
      - For V(active) it is how long the statement has been running.
    type: str
    required: true
  databases:
    description: Only sessions in these databases; in all of them when empty.
    type: list
    elements: str
    default: []
  applications:
    description:
      - Only sessions whose C(application_name) is one of these, exactly; any when empty.
      - With PgBouncer's C(application_name_add_host), the client's address is part of it.
    type: list
    elements: str
    default: []
  mode:
    description:
      - V(terminate) ends the session.
      - V(cancel) ends only the statement that runs, so it is for O(states=active) alone. The session goes on; within a transaction, that has failed then.
    type: str
    choices: [terminate, cancel]
    default: terminate
  timeout:
    description: How long to wait for all of them to be gone.
    type: str
    default: 5s
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
notes:
  - Ending sessions of other roles takes the rights of their role or C(pg_signal_backend), and seeing their state the rights of their
    role or C(pg_read_all_stats).
seealso:
  - module: pooled.postgres.postgres_sessions_info
"""

EXAMPLES = r"""
- name: End transactions that have been forgotten
  pooled.postgres.postgres_sessions:
    roles: [app_user, app_reader]
    states: [idle_in_transaction]
    older_than: 10min
  become: true

- name: Cancel reports that have been running for more than an hour
  pooled.postgres.postgres_sessions:
    roles: [app_reader]
    states: [active]
    mode: cancel
    older_than: 1h
  become: true
"""

RETURN = r"""
ended:
  description: The sessions that were ended and are gone; in check mode those that would be ended.
  returned: always, unless the options are refused or the server does not answer
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
      description: What the client called itself.
      type: str
    client_address:
      description: Where it was connected from; empty over the unix socket.
      type: str
    state:
      description: State in which it was found, as the server calls it.
      type: str
    seconds:
      description: How long it had been in that state, or the statement running.
      type: float
    transaction_seconds:
      description: How long its transaction had been open; V(null) without one, or when it has failed.
      type: float
    wait:
      description: What the process waited for, as the server calls it.
      type: str
    query:
      description: The last statement, as O(query_length) and O(show_queries) allow.
      type: str
    state_after:
      description: With O(mode=cancel), the state in which the session went on; empty when it is gone.
      type: str
  sample:
    - pid: 4711
      database: mydb
      role: app_user
      application: api
      client_address: ''
      state: idle in transaction
      seconds: 754.2
      transaction_seconds: 760.0
      wait: Client ClientRead
      query: SELECT * FROM orders WHERE id = 7 FOR UPDATE
      state_after: ''
spared:
  description: Those that had gone on by themselves, or were gone, when it was their turn.
  returned: as RV(ended)
  type: list
  elements: dict
not_ended:
  description: Those that should be ended and are still there; C(reason) says why.
  returned: as RV(ended)
  type: list
  elements: dict
lines:
  description: The same as tables for a terminal.
  returned: as RV(ended)
  type: list
  elements: str
"""

from typing import Any, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._module import PooledModule
from ansible_collections.pooled.postgres.plugins.module_utils._sessions import (
    read,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sessions.report import (
    ended_lines,
    failure_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sessions.sessions import (
    MODES,
    STATES,
    Session,
    Wanted,
    check_query_length,
    hidden_from,
    matches,
    parse_wanted,
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
    names = ("roles", "databases", "applications", "states", "older_than", "mode", "timeout")
    try:
        wanted = parse_wanted(*(params[name] for name in names))
        length = check_query_length(params["show_queries"], params["query_length"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    require_psycopg2(module)
    try:
        connection = connect(params, read_only=True)
    except ConnectionFailed as error:
        module.fail_json(msg=f"can't connect to the server: {error}")
    try:
        result = _run(module, connection, wanted, length)
    except connection.Error as error:
        module.fail_json(msg=f"the server does not answer: {server_message(error)}")
    connection.close()
    result["changed"] = bool(result["ended"])
    result["lines"] = ended_lines(result, wanted.mode, module.check_mode)
    if result["not_ended"]:
        module.fail_json(msg=failure_text(result, module.check_mode), **result)
    module.exit_json(**result)


def _run(
    module: PooledModule, connection: Connection, wanted: Wanted, length: int
) -> dict[str, Any]:
    with read.reading(connection):
        _check_names(module, connection, wanted)
        sessions = read.read_sessions(connection)
        found = [one for one in sessions if matches(one, wanted)]
        hidden = [one for one in sessions if hidden_from(one, wanted)]
        allowed = read.may_end(connection, [one.pid for one in found])
        login = read.login(connection)
    missed = [(one, _no_right(login, one)) for one in found if one.pid not in allowed]
    missed += [(one, _no_sight(login, one)) for one in hidden]
    meant = [one for one in found if one.pid in allowed]
    after: dict[int, str] = {}
    spared: list[Session] = []
    if not module.check_mode:
        meant, spared, refused, after = _end(connection, meant, wanted)
        late = f"it is still there {module.params['timeout']} after the request to end"
        missed += [(one, why or late) for one, why in refused]
    return {
        "ended": [
            {**session_row(one, length), "state_after": after.get(one.pid, "")} for one in meant
        ],
        "spared": [session_row(one, length) for one in spared],
        "not_ended": [{**session_row(one, length), "reason": why} for one, why in missed],
    }


def _check_names(module: PooledModule, connection: Connection, wanted: Wanted) -> None:
    roles = read.roles_there(connection, wanted.roles)
    for name in wanted.roles:
        if roles.get(name):
            module.fail_json(
                msg=f"roles: {name!r} is a superuser, whose sessions are never ended; leave it out"
            )
        if name not in roles:
            module.warn(f"roles: there is no role {name!r} on the server")
    databases = read.databases_there(connection, wanted.databases)
    for name in wanted.databases:
        if name not in databases:
            module.warn(f"databases: there is no database {name!r} on the server")


def _no_right(login: str, session: Session) -> str:
    return (
        f"{login!r} has neither the rights of role {session.role!r} nor those of"
        " pg_signal_backend; GRANT it one of them"
    )


def _no_sight(login: str, session: Session) -> str:
    return (
        f"{login!r} may not see its state; GRANT it pg_read_all_stats, or the rights of role"
        f" {session.role!r}"
    )


def _end(
    connection: Connection, sessions: Sequence[Session], wanted: Wanted
) -> tuple[list[Session], list[Session], list[tuple[Session, str]], dict[int, str]]:
    """Those that are ended, spared, and not ended, with what the server said; later states."""
    answers = {one.pid: read.send(connection, one, wanted) for one in sessions}
    spared = [one for one in sessions if answers[one.pid] is None]
    missed = [(one, answers[one.pid] or "") for one in sessions if answers[one.pid]]
    asked = [one for one in sessions if answers[one.pid] == ""]
    busy, after = read.wait_until_done(connection, asked, wanted)
    missed += [(one, "") for one in asked if one.pid in busy]
    return [one for one in asked if one.pid not in busy], spared, missed, after


def _argument_spec() -> dict[str, Any]:
    names = {"type": "list", "elements": "str"}
    return {
        **connection_argument_spec(),
        "roles": {**names, "required": True},
        "states": {**names, "choices": list(STATES), "default": ["idle_in_transaction"]},
        "older_than": {"type": "str", "required": True},
        "databases": {**names, "default": []},
        "applications": {**names, "default": []},
        "mode": {"type": "str", "choices": list(MODES), "default": "terminate"},
        "timeout": {"type": "str", "default": "5s"},
        "show_queries": {"type": "bool", "default": True},
        "query_length": {"type": "int", "default": 200},
    }


if __name__ == "__main__":
    main()
