#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: PgBouncer's configuration, from files to what runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbouncer_config
short_description: Configure PgBouncer with the least disturbance, and verify it
version_added: 0.1.0
author: ["pooled.postgres contributors (@pooled)"]
description:
  - Owns PgBouncer's C(pgbouncer.ini), its auth file and a drop-in of its systemd service, and makes the running PgBouncer do what they say.
  - Compares the files and what runs (its console's C(SHOW CONFIG) and C(SHOW DATABASES), its file descriptor limit) with what is asked,
    and does the least that works, which is nothing, C(RELOAD), C(RECONNECT) or a restart.
  - Options are checked against the installed version before anything is written, and a new file is tested by a trial start beside the running PgBouncer.
  - Verifies afterwards that PgBouncer runs with every value asked for. When it does not, the previous files are restored and the module fails
    with PgBouncer's own words.
  - Every database of the model gets an entry of its own; there is no C(*) entry.
  - With O(client_networks), O(require_tls) or a role that has O(databases[].roles[].pooled=false), it also owns a file with rules for logins
    (C(auth_hba_file)), C(pooled_hba.conf) beside O(config_file). They let in the roles of the model, each to its databases and their aliases, and
    nobody else. On the host itself, over the unix socket and loopback addresses, all of them can log in.
  - With O(processes) it owns a file and a service for each further process, and treats all of them as one PgBouncer. What must restart
    does so one process after the other.
  - Role settings are noted in the file as comments, because sessions in the pools keep the settings they have logged in with.
    When the note changes, the pools reconnect.
extends_documentation_fragment: [pooled.postgres.attributes, pooled.postgres.model, pooled.postgres.model.passwords]
attributes:
  check_mode:
    support: full
    details: A new file's trial start also happens in check mode; it uses a temporary directory and disturbs nothing.
  diff_mode:
    support: full
    details: Secrets are masked.
  idempotent:
    support: partial
    details: With O(reconnect=true) the pools reconnect each time.
options:
  options:
    description:
      - Options of C([pgbouncer]) by name; V(null) gives an option back to PgBouncer's own default.
      - What is not given has this collection's default, such as transaction pooling and SCRAM. See the collection's pooling guide.
    type: dict
    default: {}
  database_options:
    description: Options of single entries in C([databases]), such as C(pool_size), by the name of a database or alias. They win over the model's C(pools).
    type: dict
    default: {}
  user_options:
    description:
      - Options of single entries in C([users]), such as C(pool_size), by the role's name. They win over the model's C(pools).
      - Before 1.23, PgBouncer does not look up the verifiers of users with options, so they are refused there with O(auth=query).
    type: dict
    default: {}
  auth:
    description:
      - Where PgBouncer learns its clients' verifiers.
      - V(query) asks a function in Postgres, which M(pooled.postgres.postgres_access) makes; no password of an application is on this host.
      - In both cases the auth file has random secrets of PgBouncer's own users C(pgbouncer) and O(auth_role), without which everybody could log in
        as them. They are kept from run to run. Users that leave the file get one too, as long as PgBouncer still knows them.
      - V(userlist) keeps the roles' SCRAM verifiers in the auth file, read from the server where it is on this host, else taken from the model.
    type: str
    choices: [query, userlist]
    default: query
  auth_role:
    description: The role that PgBouncer itself logs in as, with O(auth=query). With V(userlist), nobody can log in as it.
    type: str
    default: pgbouncer_auth
  auth_password:
    description: Its password, needed with O(auth=query) when Postgres is on another host.
    type: str
  client_networks:
    description:
      - Networks in CIDR notation from which clients may log in; everywhere when it is empty.
      - Clients that are connected stay so when rules change. Those that could not log in again are named in a warning.
    type: list
    elements: str
    default: []
  require_tls:
    description: Whether clients on other hosts need TLS. Then the option C(client_tls_sslmode) must be V(allow) at least.
    type: bool
    default: false
  backend_host:
    description: Where Postgres is. Empty is this host, over the unix socket.
    type: str
    default: ''
  backend_port:
    description: Postgres's port.
    type: int
    default: 5432
  backend_socket_dir:
    description: Directory of Postgres's unix socket, when it is on this host.
    type: path
    default: /var/run/postgresql
  limit_nofile:
    description:
      - File descriptors that the service may open.
      - V(auto) follows from C(max_client_conn) and the pools. PgBouncer itself only logs that it has too few, and then lets clients hang.
    type: str
    default: auto
  processes:
    description:
      - How many PgBouncer processes share the port (C(so_reuseport)), each with pools and clients of its own. One process uses one CPU.
      - They know each other (C([peers])), so that a request to cancel a query finds the process that runs it.
      - The first is O(service), the others are C(@2), C(@3), … of it. More than one need PgBouncer 1.21 or newer.
    type: int
    default: 1
  runtime_directory:
    description: Where systemd makes the directories with the unix sockets of the processes beside the first.
    type: path
    default: /run
  reconnect:
    description:
      - Whether the pools open their server connections anew, each as soon as its transaction has ended.
      - Needed after roles' settings have changed on the server. Not after a change of passwords, when old clients would be cut off.
    type: bool
    default: false
  restart:
    description:
      - Whether a change that needs a restart gets one. A restart finishes running transactions and drops idle clients.
      - V(fresh) only restarts a PgBouncer whose file is still the package's own.
      - What has to wait is in RV(restart_pending) and a warning.
    type: str
    choices: [never, fresh, always]
    default: always
  takeover:
    description:
      - Whether a PgBouncer that somebody else has configured may lose what the options do not have, such as its databases, users and options.
      - Without it the module fails, names each thing that would go, and changes nothing. A file that is as its package installed it, or that this
        collection wrote, has nothing to lose.
      - Files that are replaced are kept as C(*.before-pooled) beside them, with their owner and mode, even where nothing goes. Nothing removes them.
    type: bool
    default: false
  config_file:
    description: PgBouncer's configuration file.
    type: path
    default: /etc/pgbouncer/pgbouncer.ini
  binary:
    description: PgBouncer's program.
    type: path
    default: /usr/sbin/pgbouncer
  service:
    description: Name of the systemd service.
    type: str
    default: pgbouncer
  unit_directory:
    description: Where systemd's drop-ins are.
    type: path
    default: /etc/systemd/system
  os_user:
    description:
      - OS user that the processes run as. When there is none of that name, a system user is created, with a group of its own and without a login.
        Its group may read the files, and nobody but root may change them.
      - V(auto) is C(pgbouncer) for a PgBouncer that is new or as its package installed it, and else the user that it runs as. Debian's package runs
        it as C(postgres), whom Postgres lets in as the superuser.
      - Changing it takes a restart. With O(processes), all of them stop for it.
    type: str
    default: auto
  sandbox:
    description:
      - How much systemd keeps from the processes, as RV(pooled.postgres.host_resources_info#module:sandbox) says that it can on this host.
      - It takes effect when a process next starts; a change of it restarts nothing.
    type: str
    choices: [full, mounts, none]
    default: full
  logrotate_directory:
    description: Where logrotate's files are. It gets one when the logs are in a directory of the service's own.
    type: path
    default: /etc/logrotate.d
  assume_new:
    description: In check mode, when PgBouncer is not installed, plan against what Debian's package starts.
    type: bool
    default: false
  assume_version:
    description: The version that O(assume_new) will install.
    type: str
  assume_user:
    description: Whether a run would have created the OS user by now. Check mode then takes it for granted.
    type: bool
    default: false
  assume_files:
    description: Files that a run would have written by now. Check mode takes for granted that those among the options' files are new and usable.
    type: list
    elements: path
    default: []
requirements:
  - systemd
  - psycopg2 2.8 or newer (Debian's C(python3-psycopg2)) on the host that runs the module
seealso:
  - module: pooled.postgres.postgres_access
"""

EXAMPLES = r"""
- name: Pool the databases of the model before a Postgres on the same host
  pooled.postgres.pgbouncer_config:
    databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
    options:
      default_pool_size: 40

- name: The same before a Postgres elsewhere, with a small pool for reports
  pooled.postgres.pgbouncer_config:
    databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
    backend_host: db.internal
    auth_password: "{{ vault_pgbouncer_auth }}"
    database_options:
      reports: {pool_size: 5}

- name: Let clients in from two networks, and only with TLS
  pooled.postgres.pgbouncer_config:
    databases: "{{ pooled_databases }}"
    client_networks: [10.0.1.0/24, 2001:db8::/64]
    require_tls: true
    options:
      client_tls_sslmode: require
      client_tls_cert_file: /etc/pgbouncer/server.crt
      client_tls_key_file: /etc/pgbouncer/server.key

- name: Use two CPUs, with half the pools in each process
  pooled.postgres.pgbouncer_config:
    databases: "{{ pooled_databases | pooled.postgres.without_passwords }}"
    processes: 2
    options:
      default_pool_size: 20
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, in this order.
  returned: always
  type: list
  elements: str
  sample: [write /etc/pgbouncer/pgbouncer.ini, RELOAD]
version:
  description: Version of PgBouncer.
  returned: always
  type: str
  sample: 1.24.1
options:
  description: Every option of C([pgbouncer]) that the file sets.
  returned: always
  type: dict
limit_nofile:
  description: File descriptors that the service may open, each process of it.
  returned: always
  type: int
os_user:
  description: OS user that the processes run as, and whom their consoles let in without a password.
  returned: always
  type: str
  sample: pgbouncer
processes:
  description: The processes, each with the service that runs it and the directory of its unix socket.
  returned: always
  type: list
  elements: dict
  sample:
    - {service: pgbouncer, unix_socket_dir: /run/pgbouncer}
    - {service: pgbouncer@2, unix_socket_dir: /run/pgbouncer-2}
restart_pending:
  description: Options, or C(processes) or C(os_user), that wait for a restart which O(restart) does not allow.
  returned: always
  type: list
  elements: str
"""

from typing import Any, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host.files import ManagedFile
from ansible_collections.pooled.postgres.plugins.module_utils._host.process import RunCommand
from ansible_collections.pooled.postgres.plugins.module_utils._host.units import SANDBOXES
from ansible_collections.pooled.postgres.plugins.module_utils._model import (
    argument_spec as model_arguments,
)
from ansible_collections.pooled.postgres.plugins.module_utils._module import PooledModule
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    interruption,
    os_user,
    read,
    report,
    secrets,
    tls_files,
    verify,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.apply import (
    NotApplied,
    Work,
    apply,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.defaults import (
    AUTH_MODES,
    RESTART_POLICIES,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.files import FileKind
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.group import clients_of
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.prepare import (
    Prepared,
    prepare,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.request import (
    Request,
    parsed_request,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.service import (
    PgBouncerError,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql import connection


def argument_spec() -> dict[str, Any]:
    """The module's arguments."""
    return {
        **model_arguments.databases_argument_spec(),
        **model_arguments.passwords_argument_spec(),
        "options": {"type": "dict", "default": {}},
        "database_options": {"type": "dict", "default": {}},
        "user_options": {"type": "dict", "default": {}},
        "auth": {"type": "str", "choices": list(AUTH_MODES), "default": "query"},
        "auth_role": {"type": "str", "default": "pgbouncer_auth"},
        "auth_password": {"type": "str", "no_log": True},
        "client_networks": {"type": "list", "elements": "str", "default": []},
        "require_tls": {"type": "bool", "default": False},
        "backend_host": {"type": "str", "default": ""},
        "backend_port": {"type": "int", "default": 5432},
        "backend_socket_dir": {"type": "path", "default": "/var/run/postgresql"},
        "limit_nofile": {"type": "str", "default": "auto"},
        "processes": {"type": "int", "default": 1},
        "runtime_directory": {"type": "path", "default": "/run"},
        "reconnect": {"type": "bool", "default": False},
        "restart": {
            "type": "str",
            "choices": list(RESTART_POLICIES),
            "default": "always",
        },
        "takeover": {"type": "bool", "default": False},
        "config_file": {"type": "path", "default": "/etc/pgbouncer/pgbouncer.ini"},
        "binary": {"type": "path", "default": "/usr/sbin/pgbouncer"},
        "service": {"type": "str", "default": "pgbouncer"},
        "unit_directory": {"type": "path", "default": "/etc/systemd/system"},
        "os_user": {"type": "str", "default": os_user.AUTO},
        "sandbox": {"type": "str", "choices": list(SANDBOXES), "default": "full"},
        "logrotate_directory": {"type": "path", "default": "/etc/logrotate.d"},
        "assume_new": {"type": "bool", "default": False},
        "assume_version": {"type": "str"},
        "assume_files": {"type": "list", "elements": "path", "default": []},
        "assume_user": {"type": "bool", "default": False},
    }


def check(request: Request, found: read.Installation, prepared: Prepared) -> None:
    """Check that the plan can be carried out, also in check mode: nothing is changed.

    Raises:
        ValueError: with PgBouncer's words, or saying where it can't listen.
    """
    wanted, plan = prepared.wanted, prepared.plan
    new_rules = bool(wanted.access.text) and plan.changes(wanted.rules_path)
    if (
        plan.changes(request.config_file)
        or new_rules
        or found.interruption.unfinished
        or prepared.own_rules
    ):
        user = wanted.os_user if prepared.user_exists else found.service.os_user or "nobody"
        try:
            verify.check_trial(request, prepared.group.first.desired, user, wanted.access.text)
        except (PgBouncerError, OSError) as error:
            raise ValueError(
                f"PgBouncer refuses this configuration, and nothing was changed: {error}"
            ) from error
    if plan.first.starts_anew:
        verify.check_addresses(prepared.group)


def make_ready(
    run: RunCommand, request: Request, found: read.Installation, prepared: Prepared
) -> None:
    """Check that servers and the OS user are as the plan needs them; create the user.

    Raises:
        ValueError: when they are not.
    """
    wanted = prepared.wanted
    if prepared.plan.changes(request.config_file):
        tls_files.check_servers(wanted.os_user, wanted.options, wanted.databases.values())
    if not prepared.user_exists:
        code, out, err = run(os_user.command_to_create(wanted.os_user))
        if code != 0:
            raise ValueError(
                f"The OS user {wanted.os_user!r} can't be created, and nothing was changed:"
                f" {err or out}"
            )
    if found.service.os_user not in ("", wanted.os_user) and not found.as_packaged:
        verify.check_login_as(request, wanted.os_user)


def work_of(request: Request, found: read.Installation, prepared: Prepared) -> Work:
    """What is to be done."""
    plan = prepared.plan
    drop_in = read.of_first_process(prepared.files, FileKind.UNIT).file.wanted
    return Work(
        group=prepared.group,
        plan=plan,
        files=prepared.files,
        copies=prepared.copies,
        note=ManagedFile(
            interruption.note_path(request.config_file),
            interruption.note(plan.actions, report.action_lines(plan)),
            drop_in.owner,
            drop_in.group,
            0o644,
        ),
        noted=found.interruption.unfinished,
        rights=prepared.rights,
        own_rules=prepared.own_rules,
    )


def main() -> None:
    """Entry point."""
    module = PooledModule(argument_spec())

    def run(command: Sequence[str]) -> tuple[int, str, str]:
        code, out, err = module.run_command(list(command))
        return int(code), str(out), str(err)

    try:
        request = parsed_request(module.params, module.check_mode)
        found = read.installation(run, request)
        if not found.installed and not (request.check_mode and request.assume_new):
            module.fail_json(msg=f"PgBouncer is not installed: {request.binary} is missing")
        if found.installed:
            connection.require_psycopg2(module)
        prepared = prepare(run, request, found)
    except (ValueError, OSError) as error:
        module.fail_json(msg=str(error))
    except connection.ConnectionFailed as error:
        module.fail_json(
            msg=f"Postgres on this host does not say what the roles' verifiers are: {error}"
        )
    wanted, plan, group = prepared.wanted, prepared.plan, prepared.group
    waiting = report.held_back(wanted, group, plan)
    clients = []
    if prepared.rules_change and found.installed:
        clients = clients_of(group, prepared.state)
    for warning in (
        *prepared.warnings,
        *report.takeover_warning(prepared.unmanaged, prepared.losses, plan),
        *report.warnings(request, wanted),
        *report.shut_out_warning(wanted.access, clients),
        *report.superuser_warning(request, wanted.os_user),
        *report.held_back_warning(request, waiting),
    ):
        module.warn(warning)
    result = {
        **report.result(wanted, group, plan, waiting),
        "diff": report.diffs(prepared.files, plan, group, prepared.state),
    }
    try:
        if found.installed:
            check(request, found, prepared)
        if module.check_mode or not plan.actions:
            module.exit_json(**result)
        make_ready(run, request, found, prepared)
    except ValueError as error:
        module.fail_json(msg=str(error))
    try:
        apply(work_of(request, found, prepared))
    except NotApplied as error:
        module.fail_json(msg=str(error))
    if plan.changes(wanted.options["auth_file"]):
        # With a new secret their way is closed, and those who are in stay in.
        clients = [client for one in group.members for client in one.pgbouncer.clients()]
        for warning in secrets.intruders(clients, request.auth_role):
            module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
