#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_access
short_description: Databases, roles and exactly their rights, in one declarative call
version_added: 0.1.0
author:
  - pooled.postgres contributors (@pooled)
description:
  - Compares the whole model, O(databases), with the server's catalogs and fixes what differs, with one transaction for all roles and one for each
    database. A failure leaves the database in which it happened as it was.
  - Each role is of a V(user), V(reader), V(migrator) or V(admin) kind, which says what it may do. Default privileges are set for each migrator, so that
    what migrations create is usable at once; what exists already is granted object by object where a right is missing.
  - Passwords are sent as SCRAM verifiers only, and kept out of the server's log.
  - A login that is not a superuser does what it may. What it may not give fails the run before anything is changed, and what it may not take away stays and is
    named. Rights of migrators that it needs it grants to itself for the length of a transaction.
  - Waits at most 30 seconds for what another session has locked, and then says who that is.
  - Roles, objects and rights outside the model are not touched. What among them defeats the model is reported in warnings.
extends_documentation_fragment:
  - pooled.postgres.attributes
  - pooled.postgres.connection
  - pooled.postgres.model
  - pooled.postgres.model.passwords
attributes:
  check_mode:
    support: full
    details:
      - Reads the catalogs and predicts the exact statements; executes none of them.
      - Where there is no server yet, see O(assume_new).
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  pooler_role:
    description:
      - Role that PgBouncer logs in as to look up its clients' verifiers, usually C(pgbouncer_auth). It gets the function C(pgbouncer.get_auth) in each
        database and may do nothing else.
      - Its attributes, settings, memberships and members are exact whatever O(exclusive) says, and so are owner and rights of schema C(pgbouncer) and
        the function. A schema of that name which a role without superuser owns is dropped and created again, or refused when there is more in it.
      - Empty means none.
    type: str
    default: ''
  pooler_password:
    description:
      - Password of O(pooler_role), plain text or a SCRAM verifier, for PgBouncer on other hosts.
      - A pooler on the same host logs in over the unix socket by C(peer) and needs none. When it is not given, the role has no password, and loses
        one that it has.
    type: str
  exclusive:
    description:
      - Whether rights and memberships of the model's roles beyond their kind are revoked, in the model's databases and schemas.
      - So are default privileges of its migrators for C(PUBLIC) and unmanaged roles, and C(PUBLIC)'s rights on their tables and sequences, of which
        each stays where an unmanaged role depends on it, unless O(revoke_public) is V(true).
      - When V(false), all of this stays and is reported.
    type: bool
    default: true
  revoke_public:
    description:
      - Whether C(PUBLIC) loses C(CONNECT) and C(TEMPORARY) on the databases, C(CREATE) on the schemas, and what it has on migrators' tables and
        sequences, in any case.
      - When V(false), it loses each where no role outside the model depends on it; where one does, the right stays and a warning names the roles.
    type: bool
    default: false
  hardening:
    description:
      - Hardening profile.
      - With V(cis), C(PUBLIC) also loses C(USAGE) on the schemas, and all of this in the databases C(postgres) and C(template1) too, under the
        same condition. The superuser that initdb made gets a connection limit, which the server does not enforce.
      - Going back to V(standard) gives C(PUBLIC) nothing back.
    type: str
    choices: [standard, cis]
    default: standard
  pooler_connection_limit:
    description: Connection limit of O(pooler_role); V(-1) for none.
    type: int
    default: -1
  monitor_role:
    description:
      - Role that the module M(pooled.postgres.postgres_monitor) grants what it needs by name, so that it needs nothing of C(PUBLIC)'s.
      - Empty means none.
    type: str
    default: ''
  assume_new:
    description:
      - In check mode only, where no server answers because none is installed yet, predict against a freshly made one of version O(assume_version).
      - Has no effect when a server answers, nor outside check mode.
    type: bool
    default: false
  assume_version:
    description: Major version for O(assume_new).
    type: int
seealso:
  - module: community.postgresql.postgresql_privs
"""

EXAMPLES = r"""
- name: Give an application its database and roles
  pooled.postgres.postgres_access:
    databases:
      - name: mydb
        extensions: [pg_stat_statements]
        roles:
          - name: app_user
            kind: user
            password: "{{ vault_app_user }}"
            connection_limit: 200
            settings:
              statement_timeout: 10s
          - name: app_migrator
            kind: migrator
            password: "{{ vault_app_migrator }}"
  become: true

- name: Keep rights that were granted by hand, on a server reached over TCP
  pooled.postgres.postgres_access:
    databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
    passwords: "{{ pooled_databases | pooled.postgres.role_passwords }}"
    exclusive: false
    login_host: db.example.com
    login_user: postgres
    login_password: "{{ vault_postgres }}"
    ssl_mode: verify-full
  delegate_to: localhost
"""

RETURN = r"""
statements:
  description: What was executed, or in check mode would be, in order. Passwords are masked.
  returned: always
  type: list
  elements: dict
  contains:
    database:
      description: Database in which the statement runs; empty for what belongs to the whole server.
      type: str
    statement:
      description: The statement. Of the names of more than 20 objects it shows the first 20.
      type: str
    objects:
      description: Number of objects in the schemas, or of large objects, whose rights it changes; V(0) for statements about anything else.
      type: int
  sample:
    - database: ''
      statement: CREATE ROLE app_user LOGIN CONNECTION LIMIT 200
      objects: 0
    - database: mydb
      statement: GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_user
      objects: 120
outdated_roles:
  description:
    - Roles whose settings changed. Sessions that are open, such as PgBouncer's, go on with the old ones until they are reopened.
    - After a failure, those whose settings had been changed before it.
  returned: always
  type: list
  elements: str
databases:
  description: What was found, before any change.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the database.
      type: str
    exists:
      description: Whether it was there.
      type: bool
    owner:
      description: Its owner, also of one that is created.
      type: str
    objects:
      description: Number of tables, sequences, routines and types in the model's schemas, without those of extensions.
      type: dict
"""

from dataclasses import replace
from typing import Any, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._access.actual import (
    Actual,
    new_cluster,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.apply import (
    Failed,
    apply,
    read,
    wait_for_other_runs,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.changes import Change
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.access import (
    nested_text,
    plan,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.plan.roles import (
    NO_LIMIT,
    wanted_roles,
)
from ansible_collections.pooled.postgres.plugins.module_utils._access.read.server import TEMPLATE
from ansible_collections.pooled.postgres.plugins.module_utils._access.wanted import Wanted
from ansible_collections.pooled.postgres.plugins.module_utils._model.argument_spec import (
    databases_argument_spec,
    given_databases,
    passwords_argument_spec,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import Role
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._module import PooledModule
from ansible_collections.pooled.postgres.plugins.module_utils._settings.profiles import (
    PROFILES,
    STANDARD,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import OBJECT_CLASSES
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    PSYCOPG2_IMPORT_ERROR,
    ConnectionFailed,
    connect,
    connection_argument_spec,
    password_works,
    require_psycopg2,
    server_message,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.scram import is_verifier


def main() -> None:
    module = PooledModule(_argument_spec())
    try:
        wanted = Wanted(
            databases=parse_databases(
                given_databases(module.params["databases"], module.params["passwords"])
            ),
            pooler_role=module.params["pooler_role"],
            pooler_password=module.params["pooler_password"] or None,
            exclusive=module.params["exclusive"],
            revoke_public=module.params["revoke_public"],
            hardening=module.params["hardening"],
            pooler_connection_limit=module.params["pooler_connection_limit"],
            monitor_role=module.params["monitor_role"],
        )
    except ValueError as error:
        module.fail_json(msg=str(error))
    connection = _connection(module)
    done: list[Change] = []

    def opener(name: str) -> Any:
        return _connect(module, name)

    try:
        if connection is None:
            names = tuple(database.name for database in wanted.databases)
            version = module.params["assume_version"]
            actual = new_cluster(version, module.params["login_user"], names, wanted.hardening)
        else:
            if not module.check_mode:
                wait_for_other_runs(connection)
            actual = read(wanted, connection, opener)
            actual = replace(actual, passwords_tried=_try_passwords(module.params, wanted, actual))
        planned = plan(wanted, actual)
        for warning in planned.warnings:
            module.warn(warning)
        if not module.check_mode:
            apply(connection, opener, actual, planned.changes, done)
    except (ValueError, ConnectionFailed, Failed) as error:
        module.fail_json(msg=str(error), **_executed(done))
    except Exception as error:
        if connection is None or not isinstance(error, connection.Error):
            raise
        message = f"the server's catalogs could not be read: {server_message(error)}"
        module.fail_json(msg=message, **_executed(done))
    module.exit_json(
        **_executed(planned.changes),
        databases=_found(wanted, actual),
        diff={
            "before_header": "access as it is",
            "after_header": "access as the model says",
            "before": nested_text(planned.changes, after=False),
            "after": nested_text(planned.changes, after=True),
        },
    )


def _connection(module: PooledModule) -> Any:
    """A connection for what belongs to the whole server; None where a new one is assumed."""
    assume = module.check_mode and module.params["assume_new"]
    if assume and PSYCOPG2_IMPORT_ERROR is not None:
        return None
    require_psycopg2(module)
    try:
        return _connect(module)
    except ConnectionFailed as error:
        if assume:
            return None
        module.fail_json(msg=f"can't connect to the server: {error}")


def _connect(module: PooledModule, name: str | None = None) -> Any:
    """A connection, in which check mode can't change anything."""
    return connect(module.params, name, read_only=module.check_mode)


def _try_passwords(params: dict[str, Any], wanted: Wanted, actual: Actual) -> dict[str, bool]:
    """Of roles whose verifiers can't be read, whether they log in with the model's passwords."""
    tried: dict[str, bool] = {}
    if actual.reads_passwords:
        return tried
    for role in wanted_roles(wanted):
        if role.password is None or role.name not in actual.roles or is_verifier(role.password):
            continue
        works = password_works(params, role.name, role.password, _home(role, wanted, actual))
        if works is not None:
            tried[role.name] = works
    return tried


def _home(role: Role, wanted: Wanted, actual: Actual) -> str:
    """A database where a role of the model may log in."""
    for database in wanted.databases:
        if role in database.roles and actual.databases[database.name].exists:
            return database.name
    return TEMPLATE


def _executed(changes: Sequence[Change]) -> dict[str, Any]:
    """What the result says about changes, all of them or those that held before a failure."""
    return {
        "changed": bool(changes),
        "statements": [
            {
                "database": change.database or "",
                "statement": change.text,
                "objects": change.objects,
            }
            for change in changes
        ],
        "outdated_roles": sorted({change.outdates for change in changes} - {""}),
    }


def _found(wanted: Wanted, actual: Actual) -> list[dict[str, Any]]:
    found = []
    for database in wanted.databases:
        state = actual.databases[database.name]
        counts = dict.fromkeys(OBJECT_CLASSES, 0)
        schemas = set(database.schemas)
        for item in state.objects:
            if item.schema in schemas:
                counts[item.kind] += 1
        found.append(
            {
                "name": database.name,
                "exists": state.exists,
                "owner": state.owner,
                "objects": counts,
            }
        )
    return found


def _argument_spec() -> dict[str, Any]:
    return {
        **connection_argument_spec(),
        **databases_argument_spec(),
        **passwords_argument_spec(),
        "pooler_role": {"type": "str", "default": ""},
        "pooler_password": {"type": "str", "no_log": True},
        "exclusive": {"type": "bool", "default": True},
        "revoke_public": {"type": "bool", "default": False},
        "hardening": {"type": "str", "choices": list(PROFILES), "default": STANDARD},
        "pooler_connection_limit": {"type": "int", "default": NO_LIMIT},
        "monitor_role": {"type": "str", "default": ""},
        "assume_new": {"type": "bool", "default": False},
        "assume_version": {"type": "int"},
    }


if __name__ == "__main__":
    main()
