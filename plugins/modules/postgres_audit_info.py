#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_audit_info
short_description: Common mistakes on a Postgres server and the PgBouncer before it
version_added: 0.1.0
author:
  - pooled.postgres contributors (@pooled)
description:
  - Checks any server of the majors 13 to 18, no matter who set it up, against the rules that C(docs/audit.md) of the collection lists.
  - Each finding has a stable id, a severity, what was seen, why it matters, and both the variable of this collection and the SQL or line of a file
    that fixes it.
  - What the login may not read is returned in RV(not_checked), and never counts as passed.
  - Never writes. Reads in short transactions that are read-only, wait at most a second for a lock, and at most half a minute for an answer.
  - With the model in O(databases), what is expected is known and not guessed. Application roles are then its users and readers; without it, they are the
    roles that log in, apart from superusers, monitoring, replication, and owners of tables that others work with.
extends_documentation_fragment:
  - pooled.postgres.attributes
  - pooled.postgres.connection
  - pooled.postgres.model
  - pooled.postgres.model.passwords
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
  resources:
    description:
      - What M(pooled.postgres.host_resources_info) returns as RV(pooled.postgres.host_resources_info#module:resources), for the rules about memory.
        Only C(memory_bytes) is used.
    type: dict
  memory_share:
    description: Part of that memory that is the server's.
    type: float
    default: 1.0
  memory_reserved:
    description: Memory for what else lives on the host, such as V(2GB).
    type: str
    default: '0'
  poolers:
    description:
      - The PgBouncer hosts before the server, as P(pooled.postgres.poolers#filter) returns them, for the connection budget.
      - When there are none, the one whose console answers counts.
    type: list
    elements: dict
    default: []
  pooler_port:
    description: Port of the PgBouncer before the server; V(0) for none.
    type: int
    default: 0
  pooler_host:
    description: Its host. Empty asks its console over the unix socket in O(pooler_unix_socket), and its pools over loopback.
    type: str
    default: ''
  pooler_unix_socket:
    description: Directory of its unix socket. The other processes that share its port are asked too.
    type: str
    default: /var/run/postgresql
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
  pooler_role:
    description: Role that PgBouncer itself logs in as.
    type: str
    default: pgbouncer_auth
  idle_transaction_seconds:
    description: From when on a transaction that is open and idle is a finding.
    type: float
    default: 60
  accepted:
    description: Findings that are known, and shown apart without being counted.
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: Id of the rule.
        type: str
        required: true
      reason:
        description: Why it is accepted.
        type: str
        required: true
      object:
        description: Whose finding it is, as RV(findings) says in C(object). All of the rule when left out.
        type: str
  assume_new:
    description:
      - In check mode only, where no server answers because none is installed yet, return RV(available=false) instead of failing.
    type: bool
    default: false
notes:
  - A role of the model with a plain-text password is used to log in through the pool, to see the timeouts that its sessions really get.
  - With O(pooler_port), at most 30 logins are tried over a bare connection, within 5 seconds, as PgBouncer's own users and as roles without a
    password, with the passwords that PgBouncer takes for a missing one. None runs a statement; PgBouncer logs each as failed.
"""

EXAMPLES = r"""
- name: Audit the server on this host
  pooled.postgres.postgres_audit_info:
    databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
    pooler_port: 6432
  become: true
  register: audit

- name: Audit a managed server, as far as the login may look
  pooled.postgres.postgres_audit_info:
    databases: []
    login_host: db.example.com
    login_user: master
    login_password: "{{ vault_master }}"
    ssl_mode: verify-full
    accepted:
      - id: public-connect
        reason: one tenant
  delegate_to: localhost
"""

RETURN = r"""
available:
  description: Whether there was a server to look at.
  returned: always
  type: bool
findings:
  description: What was found, worst first.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: Id of the rule.
      type: str
    severity:
      description: V(critical), V(warning) or V(info).
      type: str
    title:
      description: The mistake.
      type: str
    object:
      description: Whose it is, such as a role.
      type: str
    evidence:
      description: What was seen, with numbers and names.
      type: str
    why:
      description: Why it matters.
      type: str
    variable:
      description: The variable of this collection that fixes it.
      type: str
    fix:
      description: The SQL or the line of a file that fixes it by hand.
      type: str
    accepted:
      description: Why it is accepted; empty here.
      type: str
accepted:
  description: The same, of findings that are accepted.
  returned: always
  type: list
  elements: dict
unused:
  description: Entries of O(accepted) that no finding needs any more.
  returned: always
  type: list
  elements: dict
checked:
  description: Ids of the rules that were checked wholly.
  returned: always
  type: list
  elements: str
not_checked:
  description: Ids of rules that were not, or not wholly, checked, with the reason.
  returned: always
  type: list
  elements: dict
summary:
  description: How many findings there are of each severity, how many are accepted, and how many rules were checked or not.
  returned: always
  type: dict
  sample: {critical: 1, warning: 3, info: 0, accepted: 0, checked: 39, not_checked: 2}
lines:
  description: All of it for people to read.
  returned: always
  type: list
  elements: str
server:
  description: Version of the server, and of PgBouncer where one answered.
  returned: when there was a server
  type: dict
  sample: {version: '17.6', pooler: 1.24.1}
memory:
  description: The most memory that the server may come to use, C(parts) in bytes, and what there is, C(available_bytes), V(null) when not known.
  returned: when there was a server
  type: dict
connections:
  description:
    - C(max_connections), the C(parts) that need them and C(needed), their sum.
  returned: when there was a server
  type: dict
sessions:
  description: Numbers of sessions by database, role, application and state; V(null) when they can't be seen.
  returned: when there was a server
  type: list
  elements: dict
pools:
  description: PgBouncer's pools, with C(clients), C(waiting) and C(servers); V(null) without PgBouncer.
  returned: when there was a server
  type: list
  elements: dict
seconds:
  description: How long it took.
  returned: when there was a server
  type: float
"""

import time
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

from ansible_collections.pooled.postgres.plugins.module_utils._audit import read
from ansible_collections.pooled.postgres.plugins.module_utils._audit.check import (
    Audit,
    audit,
    parse_accepted,
)
from ansible_collections.pooled.postgres.plugins.module_utils._audit.report import summary_lines
from ansible_collections.pooled.postgres.plugins.module_utils._audit.rules.all import RULES
from ansible_collections.pooled.postgres.plugins.module_utils._audit.rules.server import (
    memory_parts,
)
from ansible_collections.pooled.postgres.plugins.module_utils._audit.snapshot import (
    NotReadable,
    Snapshot,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections.budget import (
    connection_budget,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.budget import (
    memory_amount_bytes,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.argument_spec import (
    databases_argument_spec,
    given_databases,
    passwords_argument_spec,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._module import PooledModule
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    os_user,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import (
    version_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    PSYCOPG2_IMPORT_ERROR,
    ConnectionFailed,
    connect,
    connection_argument_spec,
    require_psycopg2,
    server_major,
    server_message,
)

# Without a password, of which each is tried with a few guesses.
_TRIED_ROLES = 5
_POOL_SIZES = ("default_pool_size", "reserve_pool_size", "max_client_conn")


def main() -> None:
    module = PooledModule(_argument_spec())
    params = module.params
    try:
        given = given_databases(params["databases"], params["passwords"])
        model = parse_databases(given, "databases")
        accepted = parse_accepted(params["accepted"], RULES)
        memory = _memory_bytes(params)
    except ValueError as error:
        module.fail_json(msg=str(error))
    started = time.monotonic()
    connection = _connection(module)
    unreadable = {
        "memory_bytes": "the memory of the server's host was not given",
        "pooler": "no PgBouncer was given",
        "pooled_logins": "no role of the model has a plain-text password to log in with",
    }
    try:
        found = read.read_server(
            connection, lambda name: connect(params, name, read_only=True), model, unreadable
        )
    except connection.Error as error:
        module.fail_json(msg=f"the server's catalogs could not be read: {server_message(error)}")
    version = connection.info.parameter_status("server_version")
    if params["pooler_port"]:
        found["pooler"] = read.read_pooler(_pooler_params(params), unreadable)
        if found["pooler"] and params["login_host"]:
            # Whose PgBouncer is here means nothing to a server elsewhere.
            found["pooler"] = replace(found["pooler"], os_user="")
        if found["pooler"]:
            logins = {**_pooler_params(params), "login_host": params["pooler_host"] or "127.0.0.1"}
            found["pooled_logins"] = read.read_pooled_logins(logins, model)
            found["taken_guesses"] = read.read_taken_guesses(
                _pooler_params(params),
                found["pooler"],
                _without_password(params["pooler_role"], found),
                unreadable,
            )
    if given:
        found.update(_budget(given, params["poolers"] or _poolers(found.get("pooler")), found))
    snapshot = Snapshot(
        major=server_major(connection),
        login=params["login_user"],
        model=model,
        pooler_role=params["pooler_role"],
        memory_bytes=memory,
        idle_transaction_s=params["idle_transaction_seconds"],
        unreadable=unreadable,
        **found,
    )
    connection.close()
    result = _result(audit(RULES, snapshot, accepted))
    pooler = snapshot.pooler
    result.update(
        available=True,
        server={"version": version, "pooler": version_text(pooler.version) if pooler else ""},
        memory=_memory(snapshot),
        connections=_connections(snapshot),
        sessions=_sessions(snapshot),
        pools=[asdict(pool) for pool in pooler.pools] if pooler else None,
        seconds=round(time.monotonic() - started, 2),
    )
    module.exit_json(changed=False, lines=summary_lines("server", result), **result)


def _connection(module: PooledModule) -> Any:
    assume = module.check_mode and module.params["assume_new"]
    if not (assume and PSYCOPG2_IMPORT_ERROR):
        require_psycopg2(module)
        try:
            return connect(module.params, read_only=True)
        except ConnectionFailed as error:
            if not assume:
                module.fail_json(msg=f"can't connect to the server: {error}")
    result = _result(Audit((), (), (), (), ()))
    lines = ["there is no server to audit yet"]
    return module.exit_json(changed=False, available=False, lines=lines, **result)


def _memory_bytes(params: dict[str, Any]) -> int | None:
    resources = params["resources"] or {}
    if not resources.get("memory_bytes"):
        return None
    reserved = memory_amount_bytes("memory_reserved", params["memory_reserved"])
    return int((int(resources["memory_bytes"]) - reserved) * params["memory_share"])


def _pooler_params(params: dict[str, Any]) -> dict[str, Any]:
    """How PgBouncer is reached."""
    return {
        **params,
        "login_host": params["pooler_host"],
        "login_unix_socket": params["pooler_unix_socket"],
        "login_port": params["pooler_port"],
        "login_user": params["pooler_user"],
        "login_password": params["pooler_password"],
        "login_os_user": os_user.of_socket(
            params["pooler_os_user"], params["pooler_unix_socket"], params["pooler_port"]
        ),
        "connect_params": {},
    }


def _without_password(pooler_role: str, found: dict[str, Any]) -> list[str]:
    """PgBouncer's own role, and those that may log in and have no password to log in with."""
    kinds = found.get("password_kinds")
    roles = found.get("roles") or {}
    bare = (
        []
        if kinds is None
        else [name for name, role in sorted(roles.items()) if role.login and name not in kinds]
    )
    return [pooler_role, *bare[:_TRIED_ROLES]]


def _poolers(pooler: Any) -> list[dict[str, Any]]:
    """The PgBouncer that answered, as the connection budget takes it."""
    if not pooler:
        return []
    sizes = {name: int(pooler.config[name]) for name in _POOL_SIZES if name in pooler.config}
    return [{"name": "pgbouncer", "processes": 1 + len(pooler.peers), **sizes}]


def _budget(given: Any, poolers: Any, found: dict[str, Any]) -> dict[str, Any]:
    settings = found["settings"]
    reserved = [
        int(settings[name].value) if name in settings else 0
        for name in ("superuser_reserved_connections", "reserved_connections")
    ]
    try:
        return {"budget": connection_budget(given, poolers, "auto", *reserved)}
    except ValueError as error:
        return {"budget_problem": str(error).splitlines()[-1].strip()}


def _result(done: Audit) -> dict[str, Any]:
    return {
        "findings": [asdict(one) for one in done.findings],
        "accepted": [asdict(one) for one in done.accepted],
        "unused": [asdict(one) for one in done.unused],
        "checked": list(done.checked),
        "not_checked": [asdict(one) for one in done.not_checked],
        "summary": done.counts,
    }


def _memory(snapshot: Snapshot) -> dict[str, Any]:
    try:
        parts = memory_parts(snapshot)
    except NotReadable:
        parts = ()
    return {
        "available_bytes": snapshot.memory_bytes,
        "parts": [
            {"name": part.name, "bytes": part.size_bytes, "formula": part.formula} for part in parts
        ],
    }


def _connections(snapshot: Snapshot) -> dict[str, Any]:
    rows = snapshot.budget.rows if snapshot.budget else ()
    parts = [{"name": row.what, "kind": row.kind, "connections": row.connections} for row in rows]
    return {
        "max_connections": int(snapshot.settings["max_connections"].value),
        "needed": snapshot.budget.needed if snapshot.budget else None,
        "parts": parts,
    }


def _sessions(snapshot: Snapshot) -> list[dict[str, Any]] | None:
    if snapshot.sessions is None:
        return None
    keys = ("database", "role", "application", "state")
    counted = Counter(tuple(getattr(session, key) for key in keys) for session in snapshot.sessions)
    return [{**dict(zip(keys, key)), "count": number} for key, number in sorted(counted.items())]


def _argument_spec() -> dict[str, Any]:
    entry = {
        "id": {"type": "str", "required": True},
        "reason": {"type": "str", "required": True},
        "object": {"type": "str"},
    }
    return {
        **connection_argument_spec(),
        **databases_argument_spec(),
        **passwords_argument_spec(),
        "resources": {"type": "dict"},
        "memory_share": {"type": "float", "default": 1.0},
        "memory_reserved": {"type": "str", "default": "0"},
        "poolers": {"type": "list", "elements": "dict", "default": []},
        "pooler_port": {"type": "int", "default": 0},
        "pooler_host": {"type": "str", "default": ""},
        "pooler_unix_socket": {"type": "str", "default": "/var/run/postgresql"},
        "pooler_user": {"type": "str", "default": "pgbouncer"},
        "pooler_password": {"type": "str", "no_log": True},
        "pooler_os_user": {"type": "str", "default": os_user.AUTO},
        "pooler_role": {"type": "str", "default": "pgbouncer_auth"},
        "idle_transaction_seconds": {"type": "float", "default": 60},
        "accepted": {"type": "list", "elements": "dict", "default": [], "options": entry},
        "assume_new": {"type": "bool", "default": False},
    }


if __name__ == "__main__":
    main()
