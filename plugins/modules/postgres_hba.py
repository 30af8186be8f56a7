#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: pg_hba.conf and pg_ident.conf of a server, from the model."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_hba
short_description: Who may log in to a Postgres server, and from where
version_added: 0.1.0
description:
  - Writes C(pg_hba.conf) and C(pg_ident.conf) from the model, with SCRAM for named roles from named
    networks, and peer for the superuser.
  - The server itself checks the new files before it loads them. When it finds an error, or no
    longer lets this module in after loading them, the old files are put back and the module fails
    with the server's words.
  - On a server whose file is still as the package creates it and which only the model uses, the
    whole file is managed. Elsewhere the rules go into a block at the top of the file, and unmanaged
    lines stay below it.
options:
  version:
    description: Major version of the server. Needed only to foresee, in check mode, what happens to
      the files of a server that is not installed yet or stopped.
    type: str
    default: ''
  cluster:
    description: Name of the cluster, for the same purpose.
    type: str
    default: main
  client_networks:
    description: Networks in CIDR notation from which the model's roles may log in with SCRAM.
      Loopback and the unix socket are always among them.
    type: list
    elements: str
    default: []
  rules:
    description: Further rules, which come after those of the model, in this order.
    type: list
    elements: dict
    default: []
    suboptions:
      type:
        description: Type of connection.
        type: str
        choices: [local, host, hostssl, hostnossl, hostgssenc, hostnogssenc]
        default: host
      database:
        description:
          - Name of a database, or a list of them; one with commas or quotes in it only in a list. C(all), C(sameuser), C(samerole) and
            C(replication) have their meaning in C(pg_hba.conf), and so has a regular expression
            that starts with a slash.
        type: raw
        required: true
      user:
        description: Name of a role, or a list of them; one with commas or quotes in it only in a list. C(all), C(+group) and a regular expression
          that starts with a slash have their meaning in C(pg_hba.conf).
        type: raw
        required: true
      address:
        description: Network in CIDR notation, name of a host, or C(all), C(samehost) or C(samenet).
          Not for O(rules[].type=local).
        type: str
      method:
        description: Method of authentication.
        type: str
        choices: [scram-sha-256, md5, password, trust, reject, peer, ident, cert, ldap, pam, gss, radius, oauth]
        default: scram-sha-256
      options:
        description: Options of the method, such as C(map).
        type: dict
      insecure:
        description: Must be V(true) for O(rules[].method=trust), which lets everybody in without a
          password, and O(rules[].method=password), which sends passwords in plain text.
        type: bool
        default: false
  pooler_role:
    description: Role that PgBouncer itself logs in as; empty for none.
    type: str
    default: ''
  pooler_networks:
    description: Networks in CIDR notation of PgBouncer on other hosts. From there its own role and
      the model's roles may log in with SCRAM.
    type: list
    elements: str
    default: []
  require_tls:
    description:
      - Whether the model's roles and O(pooler_role) must use TLS from everywhere but this host. Without it
        they are rejected, also where O(rules) or unmanaged lines would let them in.
      - Fails when the server has C(ssl) turned off. Check mode does not ask that, because a run may turn it on first.
    type: bool
    default: false
  require_tls_on_loopback:
    description: With O(require_tls), whether TLS is needed on loopback addresses too. The unix socket has none.
    type: bool
    default: false
  pooler_os_user:
    description: OS user that runs PgBouncer on the server's own host, where it logs in over the
      unix socket without a password.
    type: str
    default: postgres
  exclusive:
    description:
      - Whether the whole C(pg_hba.conf) is managed, so that unmanaged lines are removed.
      - V(auto) does so when the file is as the package creates it and only the model and the
        superuser have databases and roles on the server, or when the file is wholly managed
        already.
      - When others have added databases and roles to a server whose file is wholly managed already,
        V(auto) keeps their lines below the managed rules, and warns of each. Kept are lines that
        name only databases that the model does not know, and of users only roles that it does not
        know, or C(all) with the method C(scram-sha-256), C(md5) or C(reject). All other lines are
        removed, such as one for all databases.
      - An C(include), C(include_if_exists) or C(include_dir), from Postgres 16 on, is kept like them when all rules of the
        files that it brings meet the same condition. Otherwise V(auto) fails and names these rules, and V(yes) removes the
        line with a warning.
    type: str
    choices: [auto, 'yes', 'no']
    default: auto
  assume_new:
    description: In check mode, when no server is installed yet, foresee what will happen to the
      files that the package creates.
    type: bool
    default: false
  assume_started:
    description:
      - In check mode, do not ask the server, which is stopped and which a run would start first, but
        foresee what will happen from its files in O(config_directory) alone.
      - Outside of check mode it has no effect.
    type: bool
    default: false
  config_directory:
    description: Directory of the files of a server that is stopped or not installed yet. By default
      C(/etc/postgresql/<version>/<cluster>).
    type: path
extends_documentation_fragment:
  - pooled.postgres.attributes
  - pooled.postgres.connection
  - pooled.postgres.model
attributes:
  check_mode:
    support: full
    details: The server checks files only once they are there, so that what only it refuses is not
      foreseen. Of a server that is stopped, databases and roles outside the model are known only as
      far as its C(pg_hba.conf) names them.
  diff_mode:
    support: full
    details: The comments of a file that is still as the package creates it are left out.
  idempotent:
    support: full
notes:
  - Runs on the server's own host, as a user who may write its files.
author:
  - pooled.postgres contributors (@pooled)
"""

EXAMPLES = r"""
- name: Let the model's roles in from the application's network
  pooled.postgres.postgres_hba:
    databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
    client_networks: [10.20.0.0/16]
    pooler_role: pgbouncer_auth

- name: The same, and only with TLS
  pooled.postgres.postgres_hba:
    databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
    client_networks: [10.20.0.0/16]
    require_tls: true

- name: Let a backup job in, too
  pooled.postgres.postgres_hba:
    databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
    rules:
      - {type: hostssl, database: replication, user: backup, address: 10.20.3.7/32}
"""

RETURN = r"""
hba_file:
  description: Path of C(pg_hba.conf).
  returned: always
  type: str
ident_file:
  description: Path of C(pg_ident.conf).
  returned: always
  type: str
exclusive:
  description: Whether the whole file is managed.
  returned: always
  type: bool
rules:
  description: The managed rules, in order.
  returned: always
  type: list
  elements: str
reloaded:
  description: Whether the server reloads its files, which it also does when they are newer than
    what it has loaded.
  returned: always
  type: bool
"""

from functools import partial
from typing import Any

from ansible_collections.pooled.postgres.plugins.module_utils._model.argument_spec import (
    databases_argument_spec,
    given_databases,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._module import PooledModule
from ansible_collections.pooled.postgres.plugins.module_utils._server.apply_logins import apply
from ansible_collections.pooled.postgres.plugins.module_utils._server.errors import Refused
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_file import shown_change
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import (
    METHODS,
    TYPES,
    check_rules,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.login_plan import plan
from ansible_collections.pooled.postgres.plugins.module_utils._server.login_server import (
    LoginServer,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    ConnectionFailed,
    connection_argument_spec,
    require_psycopg2,
)


def argument_spec() -> dict[str, Any]:
    """The module's options."""
    rule = {
        "type": {"type": "str", "choices": list(TYPES), "default": "host"},
        "database": {"type": "raw", "required": True},
        "user": {"type": "raw", "required": True},
        "address": {"type": "str"},
        "method": {"type": "str", "choices": list(METHODS), "default": "scram-sha-256"},
        "options": {"type": "dict"},
        "insecure": {"type": "bool", "default": False},
    }
    return {
        **connection_argument_spec(),
        "version": {"type": "str", "default": ""},
        "cluster": {"type": "str", "default": "main"},
        **databases_argument_spec(),
        "client_networks": {"type": "list", "elements": "str", "default": []},
        "rules": {"type": "list", "elements": "dict", "default": [], "options": rule},
        "pooler_role": {"type": "str", "default": ""},
        "pooler_networks": {"type": "list", "elements": "str", "default": []},
        "require_tls": {"type": "bool", "default": False},
        "require_tls_on_loopback": {"type": "bool", "default": False},
        "pooler_os_user": {"type": "str", "default": "postgres"},
        "exclusive": {"type": "str", "choices": ["auto", "yes", "no"], "default": "auto"},
        "assume_new": {"type": "bool", "default": False},
        "assume_started": {"type": "bool", "default": False},
        "config_directory": {"type": "path"},
    }


def main() -> None:
    """Entry point."""
    module = PooledModule(argument_spec())
    params = module.params
    try:
        databases = parse_databases(given_databases(params["databases"]), "databases")
        checked = check_rules(
            params["rules"],
            params["client_networks"],
            params["pooler_networks"],
            rules_variable="rules",
            clients_variable="client_networks",
        )
        server = LoginServer(params, module.check_mode, partial(require_psycopg2, module))
        if params["require_tls"] and not module.check_mode and not server.has_tls():
            raise ValueError(
                "require_tls: the server has ssl turned off, so nobody could log in from elsewhere;"
                " turn it on, with postgres_settings: {ssl: true, ssl_cert_file: ..., ssl_key_file: ...}"
            )
        planned = plan(server, databases, params, checked)
    except (ValueError, OSError, ConnectionFailed, Refused) as error:
        module.fail_json(msg=str(error))
    for warning in planned.warnings:
        module.warn(warning)
    if not module.check_mode:
        try:
            apply(server, planned)
        except (Refused, OSError) as error:
            module.fail_json(msg=str(error))
    module.exit_json(
        changed=planned.reload,
        hba_file=server.hba_file,
        ident_file=server.ident_file,
        exclusive=planned.whole,
        rules=[rule.line() for rule in planned.rules],
        reloaded=planned.reload,
        diff=[
            {
                "before_header": change.wanted.path,
                "after_header": change.wanted.path,
                **shown_change(change.actual.content or "", change.wanted.content or ""),
            }
            for change in planned.changes
            if change.differs
        ],
    )


if __name__ == "__main__":
    main()
