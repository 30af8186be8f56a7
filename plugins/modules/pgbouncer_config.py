#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: PgBouncer's configuration, from files to what the running pooler says."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbouncer_config
short_description: Configure PgBouncer with the least disturbance, and verify it
version_added: 0.1.0
author: ["pooled.postgres contributors (@pooled)"]
description:
  - Owns PgBouncer's C(pgbouncer.ini), its auth file and a drop-in of its systemd service, and makes the running pooler do what they say.
  - Compares the files and the running pooler (its console's C(SHOW CONFIG) and C(SHOW DATABASES), its file descriptor limit) with what is asked,
    and does the least that works, which is nothing, C(RELOAD), C(RECONNECT) or a restart.
  - Options are checked against the installed version before anything is written, and a new file is proved by a trial start beside the running pooler.
  - Verifies afterwards that the pooler runs with every value asked for. When it does not, the previous files are put back and the module fails
    with PgBouncer's own words.
  - Every database of the model gets an entry of its own; there is no C(*) entry.
  - With O(client_networks), O(require_tls) or a role that has O(databases[].roles[].pooled=false), it also owns a file with rules for logins
    (C(auth_hba_file)), C(pooled_hba.conf) beside O(config_file). They let in the roles of the model, each to its databases and their aliases, and
    nobody else. On the host itself, over the unix socket and loopback addresses, all of them can log in.
  - With O(processes) it owns a file and a service for each further process, and treats all of them as one pooler. What must restart
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
      - V(fresh) only restarts a pooler whose file is still the package's own.
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
      - V(auto) is C(pgbouncer) for a pooler that is new or as its package installed it, and else the user that it runs as. Debian's package runs
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


import grp
import os
import pwd
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Iterator, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._host import (
    files as _files,
    units as _units,
)
from ansible_collections.pooled.postgres.plugins.module_utils._model import (
    argument_spec as _model_options,
    databases as _model,
)
from ansible_collections.pooled.postgres.plugins.module_utils._module import PooledModule
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    defaults as _pgbouncer,
    entries as _pgbouncer_entries,
    hba as _pgbouncer_hba,
    ini as _ini,
    options as _pgbouncer_options,
    os_user as _pgbouncer_user,
    plan as _pgbouncer_plan,
    processes as _pgbouncer_processes,
    secrets as _pgbouncer_secrets,
    service as _pooler,
    takeover as _pgbouncer_takeover,
    takeover_files as _pooler_takeover,
    tls_files as _pooler_tls,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server import hba as _hba
from ansible_collections.pooled.postgres.plugins.module_utils._sql import (
    connection as _postgres,
    scram as _scram,
)

UNFINISHED = "A run of pooled.postgres was interrupted here; the next one finishes its work:"


def argument_spec() -> dict[str, Any]:
    """The module's arguments."""
    return {
        **_model_options.databases_argument_spec(),
        **_model_options.passwords_argument_spec(),
        "options": {"type": "dict", "default": {}},
        "database_options": {"type": "dict", "default": {}},
        "user_options": {"type": "dict", "default": {}},
        "auth": {"type": "str", "choices": list(_pgbouncer.AUTH_MODES), "default": "query"},
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
            "choices": list(_pgbouncer.RESTART_POLICIES),
            "default": "always",
        },
        "takeover": {"type": "bool", "default": False},
        "config_file": {"type": "path", "default": "/etc/pgbouncer/pgbouncer.ini"},
        "binary": {"type": "path", "default": "/usr/sbin/pgbouncer"},
        "service": {"type": "str", "default": "pgbouncer"},
        "unit_directory": {"type": "path", "default": "/etc/systemd/system"},
        "os_user": {"type": "str", "default": _pgbouncer_user.AUTO},
        "sandbox": {"type": "str", "choices": list(_units.SANDBOXES), "default": "full"},
        "logrotate_directory": {"type": "path", "default": "/etc/logrotate.d"},
        "assume_new": {"type": "bool", "default": False},
        "assume_version": {"type": "str"},
        "assume_files": {"type": "list", "elements": "path", "default": []},
        "assume_user": {"type": "bool", "default": False},
    }


def wanted_secrets(
    module: PooledModule,
    databases: tuple[_model.Database, ...],
    version: tuple[int, int, int],
    installed: bool,
) -> dict[str, str]:
    """Secrets that somebody logs in with, by user."""
    params = module.params
    if params["auth"] == "query":
        alias = _pgbouncer_entries.needs_own_password(databases, version, params["auth_role"])
        if alias and not params["auth_password"]:
            raise ValueError(
                f"auth_password: alias {alias!r} is on another server, and PgBouncer"
                f" {_pgbouncer_options.version_text(version)} has to log in there as its own role"
                f" {params['auth_role']!r}; give its password, as pgbouncer_auth_password in the"
                " inventory"
            )
        if not params["backend_host"] and not alias:
            return {}
        if not params["auth_password"]:
            raise ValueError(
                f"auth_password: Postgres is on another host ({params['backend_host']}), so PgBouncer"
                f" needs the password of its own role {params['auth_role']!r}; give it, as"
                " pgbouncer_auth_password in the inventory"
            )
        return {params["auth_role"]: params["auth_password"]}
    roles = _model.pooled_roles(databases)
    given = {role.name: role.password or "" for role in roles}
    if params["backend_host"]:
        for name, password in given.items():
            if _scram.parse_verifier(password) is None:
                raise ValueError(
                    f"auth: with 'userlist' and Postgres on another host, the password of role {name!r}"
                    " has to be given as the SCRAM verifier that the server has; or use auth 'query'"
                )
        return given
    if not installed:
        return given
    return local_verifiers(module, given)


def local_verifiers(module: PooledModule, given: Mapping[str, str]) -> dict[str, str]:
    """The verifiers that the server on this host has, for the roles that can use them."""
    params = module.params
    socket_dir = {
        "login_unix_socket": params["backend_socket_dir"],
        "login_port": params["backend_port"],
    }
    login = {"login_user": "postgres", "login_db": "postgres", "login_os_user": "postgres"}
    connection = _postgres.connect({**_pooler.CONSOLE, **socket_dir, **login}, read_only=True)
    try:
        rows = _postgres.fetch(
            connection,
            "SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = ANY (%s)",
            (list(given),),
        )
    finally:
        connection.close()
    stored = {row.rolname: row.rolpassword for row in rows}
    secrets = {}
    for name, password in given.items():
        if (
            module.check_mode
            and password
            and not _scram.password_matches(password, stored.get(name))
        ):
            secrets[name] = ""  # the run sets it on the server before it reads it
        elif _scram.parse_verifier(stored.get(name)) is not None:
            secrets[name] = stored[name]
        else:
            module.warn(
                f"Role {name!r} has no SCRAM verifier on the server, so PgBouncer can't let it in;"
                " give it a password in the model"
            )
    return secrets


def check_login_as(
    params: Mapping[str, Any], user: str, databases: tuple[_model.Database, ...]
) -> None:
    """See that the server on this host lets an OS user in as PgBouncer's own role, without whom
    nobody could log in any more.

    Raises:
        ValueError: with the server's words.
    """
    if params["auth"] != "query" or params["backend_host"]:
        return
    login = {
        "login_unix_socket": params["backend_socket_dir"],
        "login_port": params["backend_port"],
        "login_user": params["auth_role"],
        "login_password": params["auth_password"],
        "login_os_user": user,
    }
    for database in databases:
        if not database.roles:
            continue
        try:
            _postgres.connect({**_pooler.CONSOLE, **login}, database.name, read_only=True).close()
        except _postgres.ConnectionFailed as error:
            raise ValueError(
                f"os_user: Postgres does not let the OS user {user!r} in as {params['auth_role']!r},"
                f" so that nobody could log in through PgBouncer any more: {error}. Run the role"
                " postgres with the same pgbouncer_os_user first, as the playbook site does, or"
                " add that user to the map of pg_ident.conf"
            ) from error


def held_secrets(params: Mapping[str, Any], path: str, rights: _files.Rights) -> dict[str, str]:
    """Users that the running pooler may know from its files, with their secrets.

    Those of a run that was killed count too, and of another auth file that it has read.
    """
    ini = _files.Backup(_files.read_file(params["config_file"], rights), rights).content
    held = {_ini.option_in(ini, "auth_user"): ""}
    with suppress(OSError, ValueError):
        # Whoever could write its name there shall not have more read than they may read.
        other = _files.read_file(_ini.option_in(ini, "auth_file"), replace(rights, everywhere=True))
        held.update(_ini.secrets_in(other.content or ""))
    file = _files.read_file(path, rights)
    held.update(_ini.secrets_in(_files.Backup(file, rights).content))
    held.update(_ini.secrets_in(file.content or ""))
    held.pop("", None)
    return held


def primary_group(user: str) -> str:
    """Name of a user's own group; a user that is yet to be made has one of its own name."""
    try:
        return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    except KeyError:
        return user


def readable_file(path: str, content: str, user: str, rights: _files.Rights) -> _files.ManagedFile:
    """A file that the pooler's OS user can read and not change."""
    # In a directory of the user's own, only the user can make it.
    owner = _files.worker_of(path, rights) or pwd.getpwuid(os.geteuid()).pw_name
    return _files.ManagedFile(path, content, owner, primary_group(user), 0o640)


def wanted_files(
    params: Mapping[str, Any],
    fleet: Fleet,
    databases: tuple[_model.Database, ...],
    secrets: Mapping[str, str],
    read_files: list[str],
    found: list[int],
    rights: _files.Rights,
) -> list[_files.ManagedFile]:
    """The files, in the order in which they are written.

    The first process's drop-in, the auth file and its own file come first; then those of the other
    processes, of which there are the ones that were C(found) and shall go, and logrotate's. The
    processes can read what is theirs, and change nothing.
    """
    user = fleet.desired.os_user
    group = primary_group(user)
    me = pwd.getpwuid(os.geteuid()).pw_name
    first, others = fleet.members[0], fleet.members[1:]
    service, config_file = params["service"], params["config_file"]

    def system_file(variable: str, name: str, content: str | None) -> _files.ManagedFile:
        path = os.path.join(params[variable], name)
        _files.check_only_ours(variable, path)
        return _files.ManagedFile(path, content, me, primary_group(me), 0o644)

    def unit(name: str, content: str | None) -> _files.ManagedFile:
        return system_file("unit_directory", name, content)

    def ini(member: _pgbouncer_processes.Process) -> _files.ManagedFile:
        content = _ini.render_ini(
            member.options,
            fleet.desired.databases,
            fleet.desired.users,
            _pgbouncer_plan.role_settings_lines(databases),
            read_files,
            fleet.desired.peers,
        )
        return readable_file(member.config_file, content, user, rights)

    limit = fleet.desired.descriptors
    who: dict[str, Any] = {
        "user": user,
        "group": group,
        "sandbox": params["sandbox"],
        "hosts": [entry["host"] for entry in fleet.desired.databases.values()],
    }
    drop_in = _pgbouncer_processes.drop_in(limit, fleet.members, **who)
    rotation = system_file(
        "logrotate_directory",
        f"pooled-{service}.conf",
        _pgbouncer_processes.rotation(first.options, service, user, group),
    )
    files = [
        unit(f"{service}.service.d/pooled.conf", drop_in),
        readable_file(first.options["auth_file"], _ini.render_userlist(secrets), user, rights),
        ini(first),
    ]
    if not others and not found:
        return [*files, rotation]
    template = (
        _pgbouncer_processes.template(limit, fleet.members, binary=params["binary"], **who)
        if others
        else None
    )
    gone = [number for number in found if number > len(fleet.members)]
    paths = [_pgbouncer_processes.file_of_process(config_file, number) for number in gone]
    return [
        *files,
        unit(f"{service}@.service", template),
        *(ini(member) for member in others),
        *(_files.ManagedFile(path, None, "", "", 0) for path in paths),
        rotation,
    ]


def rules_files(
    path: str, access: _pgbouncer_hba.Access, user: str, rights: _files.Rights
) -> list[_files.ManagedFile]:
    """The file with the rules for logins, which is not there when nobody needs it.

    One that somebody else has made, or wants PgBouncer to read, is left alone.
    """
    if access.text:
        return [readable_file(path, access.text, user, rights)]
    found = _files.read_file(path, rights).content
    foreign = found is not None and not _pgbouncer_hba.is_ours(found)
    if foreign or access.options.get("auth_hba_file") == path:
        return []
    return [_files.ManagedFile(path, None, "", "", 0)]


def copies_of_unmanaged(
    unmanaged: _pgbouncer_takeover.Unmanaged | None,
    params: Mapping[str, Any],
    access: _pgbouncer_hba.Access,
    rights: _files.Rights,
    as_packaged: bool,
) -> list[_files.ManagedFile]:
    """Copies to be made of files that somebody else wrote and that are replaced.

    Args:
        unmanaged: the configuration, if this collection did not write it.
        params: the module's.
        access: the rules for logins to come.
        rights: with whose rights to work on the files.
        as_packaged: whether the configuration file is as its package has installed it.
    """
    paths = []
    if unmanaged is not None and not unmanaged.is_bare:
        ini = _pooler_takeover.last_read(params["config_file"], rights)
        if not as_packaged and not _ini.is_managed(ini.content or ""):
            paths.append(params["config_file"])
        listed = _pooler_takeover.last_read(access.options["auth_file"], rights).content or ""
        if not _pgbouncer_secrets.is_ours(_ini.secrets_in(listed)):
            paths.append(access.options["auth_file"])
    rules = _pgbouncer_hba.path_beside(params["config_file"])
    if access.text and not _pgbouncer_hba.is_ours(
        _pooler_takeover.last_read(rules, rights).content or ""
    ):
        paths.append(rules)
    return _pooler_takeover.missing_copies(paths, rights)


def check_rules(
    fleet: Fleet,
    steps: _pgbouncer_processes.Steps,
    logs: list[tuple[str, int]],
    since: float,
    own_files: list[str],
) -> None:
    """See that the processes have taken the rules for logins as they are written.

    Raises:
        PoolerError: with what PgBouncer logged about those that it dropped.
    """
    for index, (pooler, plan) in enumerate(zip(fleet.poolers, steps.plans)):
        if plan.start or plan.restart or plan.reload:
            dropped = pooler.rule_complaints(*logs[index], since)
            if dropped:
                with named(fleet, index):
                    raise _pooler.PoolerError(_pgbouncer_hba.dropped(dropped, own_files))


def reads_rules(running: _pgbouncer_plan.Running) -> bool:
    """Whether a pooler already lets clients in by rules."""
    setting = (running.config or {}).get("auth_type")
    return setting is not None and setting.value == "hba"


def shut_out(
    access: _pgbouncer_hba.Access,
    poolers: tuple[_pooler.Pooler, ...],
    run_now: list[_pgbouncer_plan.Running],
) -> list[str]:
    """Clients that are connected and could not log in again, in words."""
    clients: list[_pgbouncer_hba.Client] = []
    for pooler, running in zip(poolers, run_now):
        if running.active and running.config is not None:
            # It is only for a warning.
            with suppress(_postgres.ConnectionFailed, _postgres.psycopg2.Error):
                clients.extend(pooler.clients())
    return _pgbouncer_hba.refused(access.rules, clients)


def other_processes(params: Mapping[str, Any], rights: _files.Rights) -> list[int]:
    """Numbers of the processes beside the first that an earlier run has made.

    Raises:
        ValueError: when somebody else has made files of the names that they would have.
    """
    config_file, wanted = params["config_file"], params["processes"]
    directory = os.path.dirname(config_file)
    template = os.path.join(params["unit_directory"], f"{params['service']}@.service")
    content = _files.read_file(template, rights).content or ""
    ours = content.startswith(_pgbouncer_processes.HEADER)
    foreign = [template] if content and not ours else []
    found = []
    for number, name in _pgbouncer_processes.files_of_processes(
        _files.names_in(directory, rights), config_file
    ):
        path = os.path.join(directory, name)
        if (
            ours
            or name.startswith(".")
            or _ini.is_managed(_files.read_file(path, rights).content or "")
        ):
            found.append(number)
        elif number <= wanted:
            foreign.append(path)
    if foreign and wanted > 1:
        raise ValueError(
            f"processes: {foreign[0]} is not this collection's; remove what it belongs to, or leave"
            " processes at 1"
        )
    return sorted(set(found))


def file_diffs(
    before: list[_files.ManagedFile], after: list[_files.ManagedFile], auth_file: str
) -> list[dict[str, str]]:
    """Diffs of the files that change, without secrets."""
    diffs = []
    for old, new in zip(before, after):
        if not _files.differs(old, new):
            continue
        texts = [old.content or "", new.content or ""]
        if new.path == auth_file:
            texts = list(_ini.masked_userlists(*texts))
        elif new.path.endswith(".ini"):
            texts = list(_ini.without_digests(*texts))
        modes = [
            f"# {one.owner}:{one.group} {one.mode:04o}\n" if one.content is not None else ""
            for one in (old, new)
        ]
        diffs.append(
            {
                "before_header": new.path,
                "after_header": new.path,
                "before": modes[0] + texts[0],
                "after": modes[1] + texts[1],
            }
        )
    return diffs


def running_diff(found: list[_pgbouncer_plan.Difference], process: str = "") -> dict[str, str]:
    """What runs otherwise than the files say."""
    return {
        "before_header": f"running pooler{process}",
        "after_header": f"running pooler{process}",
        "before": "".join(f"{one.name} = {one.running}\n" for one in found),
        "after": "".join(f"{one.name} = {one.wanted}\n" for one in found),
    }


def log_of(options: Mapping[str, str], rights: _files.Rights) -> tuple[str, int]:
    """A process's log, and how long it is now."""
    path = options.get("logfile", "")
    return path, _files.size_of(path, rights) if path else 0


def check_listening(pooler: _pooler.Pooler, options: Mapping[str, str]) -> None:
    """See that the pooler listens where it shall: it may start without some of its addresses.

    Raises:
        PoolerError: naming an address where it does not listen.
    """
    port = int(options["listen_port"])
    listening = {address for address, at_port in pooler.listens_on() if at_port == port}
    for wanted in (part.strip() for part in options["listen_addr"].split(",")):
        try:
            family = socket.AF_INET6 if ":" in wanted else socket.AF_INET
            missing = socket.inet_ntop(family, socket.inet_pton(family, wanted)) not in listening
        except OSError:  # a name, or * for all addresses
            missing = bool(wanted) and not listening
        if missing:
            raise _pooler.PoolerError(f"it does not listen on {wanted} port {port}")


@dataclass(frozen=True)
class Fleet:
    """The processes, each with its pooler, in the order of their numbers.

    C(desired) is what all shall run, and C(leaving) are those that shall be no more.
    """

    members: tuple[_pgbouncer_processes.Process, ...]
    poolers: tuple[_pooler.Pooler, ...]
    desired: _pgbouncer_plan.Desired
    leaving: tuple[_pooler.Pooler, ...]

    def desired_of(self, index: int) -> _pgbouncer_plan.Desired:
        """What one process shall run."""
        return replace(self.desired, options=self.members[index].options)

    def restart(self, index: int) -> None:
        """Restart one process, and not those beside it.

        Raises:
            PoolerError: when it does not come up.
        """
        alone = ["--job-mode=ignore-dependencies"] if index == 0 and self.is_several else []
        self.poolers[index].systemctl("restart", *alone, self.poolers[index].name)

    @property
    def is_several(self) -> bool:
        """Whether there are, or were, processes beside the first."""
        return len(self.poolers) + len(self.leaving) > 1


def check_addresses(fleet: Fleet, options: Mapping[str, str]) -> str:
    """Why a pooler that starts anew could not listen where it shall; empty when it could."""
    running = [one for one in (*fleet.poolers, *fleet.leaving) if one.service().active]
    ours = {port for one in running for _address, port in one.listens_on()}
    return _pooler.why_not_listen(options["listen_addr"], int(options["listen_port"]), ours)


def verify(
    pooler: _pooler.Pooler, desired: _pgbouncer_plan.Desired, steps: _pgbouncer_plan.Plan
) -> None:
    """See that what was asked for is what runs.

    Raises:
        PoolerError: saying what does not.
    """
    service = pooler.service()
    if not service.active:
        raise _pooler.PoolerError("the service is not active")
    running = pooler.running(service, _pooler.START_TIMEOUT_S)
    if running.config is None:
        raise _pooler.PoolerError("its console does not answer")
    found = [
        one
        for one in _pgbouncer_plan.differences(desired, running)
        if one.name not in steps.held_back
    ]
    if found:
        raise _pooler.PoolerError(_pooler.listed(found))
    if steps.start or steps.restart:
        check_listening(pooler, desired.options)


@contextmanager
def named(fleet: Fleet, index: int) -> Iterator[None]:
    """Say of which process an error is, when there are several."""
    try:
        yield
    except _pooler.PoolerError as error:
        if not fleet.is_several:
            raise
        raise _pooler.PoolerError(f"{fleet.poolers[index].name}: {error}") from error


def carry_out(
    fleet: Fleet,
    steps: _pgbouncer_processes.Steps,
    files: list[_files.ManagedFile],
    kept: list[_files.Backup],
    reached: list[str],
    rights: _files.Rights,
) -> None:
    """Do what was planned, one process after the other, and verify it.

    Args:
        fleet: the processes.
        steps: what was planned.
        files: the files as they shall be.
        kept: those that the processes have read.
        reached: gets the services of the processes that may have read the new ones.
        rights: with whose rights to work on the files.

    Raises:
        PoolerError: when a process does not run as desired.
    """
    for name in steps.stop:
        fleet.poolers[0].systemctl("stop", name)
    # The rules are there before a file names them.
    rules = fleet.members[0].options.get("auth_hba_file")
    for file, last_good in sorted(zip(files, kept), key=lambda pair: pair[0].path != rules):
        if file.path in steps.first.write:
            _files.make_directory_of(file.path, rights)
            last_good.keep()
            _files.write_file(file, rights)
    if steps.first.daemon_reload:
        fleet.poolers[0].systemctl("daemon-reload")
    for index, (pooler, plan) in enumerate(zip(fleet.poolers, steps.plans)):
        reached.append(pooler.name)
        with named(fleet, index):
            if plan.start or plan.restart:
                fleet.restart(index)
                if pooler is not fleet.poolers[-1]:
                    # Before the next one restarts. A port that all share doesn't say yet which
                    # of them shows a certificate.
                    verify(pooler, replace(fleet.desired_of(index), certificate=""), plan)
            elif plan.reload:
                pooler.command("RELOAD")
    for index, (pooler, plan) in enumerate(zip(fleet.poolers, steps.plans)):
        with named(fleet, index):
            verify(pooler, fleet.desired_of(index), plan)
    for pooler, plan in zip(fleet.poolers, steps.plans):
        if plan.reconnect:
            pooler.command("RECONNECT")


def put_back(
    fleet: Fleet,
    steps: _pgbouncer_processes.Steps,
    kept: list[_files.Backup],
    reached: int,
) -> str:
    """Put the previous files back and bring the pooler back; says how that went.

    Args:
        fleet: the processes.
        steps: what was planned.
        kept: the previous files.
        reached: how many processes may have read the new ones.
    """
    first = fleet.poolers[0]
    others = list(zip(fleet.poolers[1:reached], steps.plans[1:reached]))
    # While these share the port, the first may not get it for itself again.
    for pooler, plan in others:
        if plan.start:
            with suppress(_pooler.PoolerError):
                pooler.systemctl("stop", pooler.name)
    for last_good in kept:
        last_good.restore()
    outcome = "The previous files are back, and the pooler runs with them."
    try:
        if steps.first.daemon_reload:
            first.systemctl("daemon-reload")
        if steps.first.start:
            first.systemctl("stop", first.name)
            outcome = "The previous files are back, and the pooler is stopped as it was before."
        elif steps.first.restart:
            first.systemctl("reset-failed", first.name)
            fleet.restart(0)
        else:
            first.command("RELOAD")
        for index, (pooler, plan) in enumerate(others, 1):
            if plan.restart:
                pooler.systemctl("reset-failed", pooler.name)
                fleet.restart(index)
            elif not plan.start:
                pooler.command("RELOAD")
        for name in steps.stop:
            first.systemctl("start", name)
    except (_pooler.PoolerError, _postgres.ConnectionFailed) as error:
        return f"The previous files are back, but the pooler does not run with them: {error}"
    return outcome


def remove_files(paths: list[str], rights: _files.Rights) -> None:
    """Remove files as far as that can be done."""
    for path in paths:
        with suppress(OSError):
            _files.remove(path, rights)


def main() -> None:
    module = PooledModule(argument_spec())
    params = module.params

    def run(command: Any) -> tuple[int, str, str]:
        rc, out, err = module.run_command(list(command))
        return rc, out, err

    def pooler_of(service: str, os_user: str) -> _pooler.Pooler:
        return _pooler.Pooler(run, service, os_user, params["binary"])

    pooler = pooler_of(params["service"], "")
    try:
        asked_user = _pgbouncer_user.checked(params["os_user"])
        installed = pooler.version()
        if installed is None and not (module.check_mode and params["assume_new"]):
            module.fail_json(msg=f"PgBouncer is not installed: {params['binary']} is missing")
        if installed is not None:
            _postgres.require_psycopg2(module)
        version = installed or _pgbouncer_options.parse_version(params["assume_version"] or "")
        databases = _model.parse_databases(
            _model_options.given_databases(params["databases"], params["passwords"]), "databases"
        )
        service = pooler.service()
        marker = os.path.join(os.path.dirname(params["config_file"]), ".pooled-unfinished")
        # Where only root may write, as below /etc, that user does not come into it.
        rights = _files.Rights(service.os_user or service.unit_user or _pgbouncer_user.PACKAGED)
        found_rights = rights
        unfinished = _files.exists(marker, rights)
        interrupted = _files.read_file(marker, rights).content or ""
        interrupted_restart = "restart for" in interrupted
        as_packaged = installed is not None and _pgbouncer_user.is_package_file(
            run, params["config_file"]
        )
        fresh = installed is None or as_packaged or interrupted_restart
        policy = params["restart"]
        may_restart = policy == "always" or (policy == "fresh" and fresh)
        drop_in = _files.read_file(
            os.path.join(params["unit_directory"], f"{params['service']}.service.d/pooled.conf"),
            rights,
        )
        wanted_user = _pgbouncer_user.chosen(
            asked_user,
            installed=installed is not None,
            as_packaged=as_packaged and drop_in.content is None,
            unit_user=_pgbouncer_user.unit_user([drop_in.content or ""]) or service.unit_user,
        )
        # A process that goes on running must be able to read its files.
        user = wanted_user if may_restart else service.os_user or wanted_user
        user_exists = _pgbouncer_user.exists(user)
        rights = _files.Rights(user) if user_exists else rights
        options = _pgbouncer.effective_options(
            params["options"],
            version,
            databases,
            auth=params["auth"],
            auth_role=params["auth_role"],
            places=_pgbouncer_user.layout(user, params["service"]),
        )
        rules_path = _pgbouncer_hba.path_beside(params["config_file"])
        networks = _hba.checked((), params["client_networks"], clients_variable="client_networks")
        access = _pgbouncer_hba.access(
            options,
            databases,
            path=rules_path,
            client_networks=networks.client_networks,
            require_tls=params["require_tls"],
        )
        _pgbouncer_user.check_options(options, user)
        if installed is not None:
            _pgbouncer_user.check_places(run, options, user, params["service"])
        wanted = _pgbouncer_processes.checked_count(
            params["processes"], version, params["options"], options.get("listen_addr", "")
        )
        entries = _pgbouncer_entries.database_entries(
            databases,
            version,
            host=params["backend_host"] or params["backend_socket_dir"],
            port=params["backend_port"],
            overrides=params["database_options"],
        )
        users = _pgbouncer_entries.user_entries(
            databases,
            params["user_options"],
            version,
            auth_role=params["auth_role"] if params["auth"] == "query" else "",
        )
        desired = _pgbouncer_plan.Desired(
            options,
            entries,
            users,
            _pgbouncer_entries.descriptor_limit(
                _pgbouncer_entries.descriptors_needed(options, databases, entries, users, wanted),
                params["limit_nofile"],
                _pooler.most_descriptors(),
            ),
            os_user=user,
        )
        unmanaged = _pooler_takeover.unmanaged(
            params["config_file"], found_rights, options["auth_file"], as_packaged
        )
        losses = (
            _pgbouncer_takeover.losses(
                unmanaged,
                options=options,
                databases=entries,
                users=users,
                roles=[role.name for role in _model.pooled_roles(databases)],
                auth_role=params["auth_role"],
                version=version,
            )
            if unmanaged is not None
            else []
        )
        if unmanaged is not None and losses and not params["takeover"]:
            raise ValueError(_pgbouncer_takeover.refusal(unmanaged, losses))
        copies = copies_of_unmanaged(unmanaged, params, access, rights, as_packaged)
        given = wanted_secrets(module, databases, version, installed is not None)
        assumed = params["assume_files"] if module.check_mode else []
        # A check of a bare host can't know which files its run would have put there by now.
        foreseen = installed is None and bool(_pooler_tls.missing_files(user, options, assumed))
        if not foreseen:
            if installed is not None:
                for warning in _pooler_tls.check_files(run, user, options, assumed):
                    module.warn(warning)
            desired = replace(
                desired, certificate=_pooler_tls.wanted_certificate(user, options, assumed)
            )
        notes = [] if foreseen else _pooler_tls.read_files(user, options, assumed)
        found_processes = other_processes(params, rights)
        # What the pooler says may allow fewer or more of them than are wanted.
        auth_file = _pgbouncer_secrets.auth_file(
            given,
            held_secrets(params, options["auth_file"], rights),
            auth_role=params["auth_role"],
            users=users,
            asks_server=params["auth"] == "query",
            may_restart=may_restart,
        )
        count = _pgbouncer_processes.count_for_now(
            wanted,
            found_processes,
            service.active and installed is not None,
            may_restart,
        )
        members = _pgbouncer_processes.processes(
            count,
            access.options,
            service=params["service"],
            config_file=params["config_file"],
            runtime_directory=params["runtime_directory"],
        )
        fleet = Fleet(
            members,
            tuple(pooler_of(member.service, user) for member in members),
            replace(
                desired,
                options=members[0].options,
                peers=_pgbouncer_processes.peers(members),
            ),
            tuple(
                pooler_of(_pgbouncer_processes.instance(params["service"], number), user)
                for number in found_processes
                if number > count
            ),
        )
        desired = fleet.desired
        after = [
            *wanted_files(
                params, fleet, databases, auth_file.secrets, notes, found_processes, rights
            ),
            *rules_files(rules_path, access, user, rights),
        ]
        before = [_files.read_file(file.path, rights) for file in after]
        for old, new in zip(before, after):
            if _files.differs(old, new):
                _files.check_changeable(new.path, rights)
    except (ValueError, OSError) as error:
        module.fail_json(msg=str(error))
    except _postgres.ConnectionFailed as error:
        module.fail_json(
            msg=f"Postgres on this host does not say what the roles' verifiers are: {error}"
        )

    if installed is None:
        before[0] = _files.ManagedFile(after[0].path, None, "", "", 0)
        before[1:3] = [replace(file, content="") for file in after[1:3]]
        running = _pgbouncer_plan.package_state(version, service.default_descriptors)
    elif not service.exists:
        module.fail_json(msg=f"systemd has no service {params['service']!r}")
    else:
        running = pooler.running(service)
    if running.active and running.config is None and not may_restart:
        module.fail_json(
            msg=f"The console of {params['service']} does not answer, and restart={policy} forbids to"
            " restart it"
        )
    try:
        # What the pooler has read, also when a run was killed after it wrote new files.
        kept = [_files.Backup(file, rights) for file in before]
    except (ValueError, OSError) as error:
        module.fail_json(msg=str(error))
    stale = []
    if auth_file.stale:
        stale.append("users of the old auth file")
    if interrupted_restart:
        stale.append("an interrupted restart")
    noted = _ini.role_settings_in(kept[2].content)
    reconnect = (
        params["reconnect"]
        or "RECONNECT" in interrupted
        or _pgbouncer_plan.carries_old_settings(noted, databases)
        or _pgbouncer_plan.carries_old_parameters(
            _ini.database_entries_in(kept[2].content), desired.databases
        )
    )
    others = [(one, one.service()) for one in fleet.poolers[1:]]
    # Processes of several users can't share a port, so these may not run when the first one starts.
    other_users = [one.name for one, at in others if at.os_user not in ("", user)]
    stopped = _pgbouncer_plan.Running(False, None, {}, {}, None)
    run_now = [
        running,
        *(stopped if one.name in other_users else one.running(at) for one, at in others),
    ]
    if desired.certificate:
        # Whichever process was asked for it: they share the port.
        shown = {one.certificate for one in run_now} - {"", desired.certificate}
        run_now = [
            replace(one, certificate=min(shown)) if shown and one.active else one for one in run_now
        ]
    changed = [new.path for old, new in zip(before, after) if _files.differs(old, new)]
    units = [file.path for file in after if file.path.startswith(params["unit_directory"])]
    read_by_all = [after[1].path, *([rules_path] if access.text else [])]
    steps = _pgbouncer_processes.Steps(
        stop=(*(one.name for one in fleet.leaving if one.service().active), *other_users),
        remove=tuple(file.path for file in after if file.content is None),
        services=tuple(member.service for member in members),
        plans=tuple(
            _pgbouncer_plan.plan(
                fleet.desired_of(index),
                run_now[index],
                files=changed
                if index == 0
                else [path for path in changed if path in (*read_by_all, member.config_file)],
                unit=after[0].path,
                daemon_reload=index == 0
                and (
                    service.reload_needed
                    or any(at.reload_needed for _one, at in others)
                    or any(path in units for path in changed)
                ),
                unfinished=unfinished,
                stale=stale,
                reconnect=reconnect,
                may_restart=may_restart,
                unread=[
                    file.path
                    for file in after[3:]
                    if file.path not in (*read_by_all, member.config_file)
                ],
            )
            for index, member in enumerate(members)
        ),
    )
    held_back = list(steps.held_back)
    if count != wanted:
        held_back.append("processes")
    if user != wanted_user:
        held_back.append("os_user")
    assumed_user = module.check_mode and params["assume_user"]
    creates = [] if user_exists or assumed_user else [f"create the OS user {user}"]
    actions = [*creates, *(f"write {copy.path}" for copy in copies), *steps.actions]
    diffs = file_diffs(before, after, after[1].path)
    for index, member in enumerate(members):
        found = [
            one
            for one in _pgbouncer_plan.differences(fleet.desired_of(index), run_now[index])
            if one.name not in steps.plans[index].held_back
        ]
        if found and member.config_file not in steps.first.write:
            diffs.append(running_diff(found, "" if index == 0 else f" {member.service}"))
    if unmanaged is not None and losses:
        paths = [copy.path for copy in copies]
        module.warn(_pgbouncer_takeover.warning(unmanaged, losses, paths))
    for warning in (
        *networks.warnings,
        *_pgbouncer.risks(options, version),
        *_pgbouncer_secrets.names_taken(databases, params["auth"], params["auth_role"]),
    ):
        module.warn(warning)
    rules_change = rules_path in changed or not all(map(reads_rules, run_now))
    if access.text and rules_change and installed is not None:
        refused = shut_out(access, fleet.poolers, run_now)
        if refused:
            module.warn(
                "Clients are connected that can't log in again, because the rules for logins do not"
                f" let them in: {_pgbouncer_hba.listing(refused)}. If they should be, add their networks to"
                " pgbouncer_client_networks, let them use TLS where it is required, or add their"
                " roles to the model"
            )
    if _pgbouncer_user.is_superuser_unasked(asked_user, user) and not params["backend_host"]:
        module.warn(
            f"PgBouncer runs as {user}, whom Postgres on this host lets in as the superuser, so"
            " whoever takes over PgBouncer has the whole server. An OS user of its own takes one"
            f" restart of it: set pgbouncer_os_user to {_pgbouncer_user.OWN}"
        )
    if held_back:
        module.warn(
            "These wait for a restart of {}, which restart={} forbids: {}".format(
                params["service"], policy, ", ".join(held_back)
            )
        )
    result = {
        "changed": bool(actions),
        "actions": actions,
        "version": _pgbouncer_options.version_text(version),
        "options": desired.options,
        "limit_nofile": desired.descriptors,
        "os_user": user,
        "processes": [
            {"service": member.service, "unix_socket_dir": member.options["unix_socket_dir"]}
            for member in members
        ],
        "restart_pending": held_back,
        "diff": diffs,
    }
    new_rules = access.text and rules_path in steps.first.write
    # What somebody else writes may have been wrong before, too, which PgBouncer has only logged.
    own_files = [] if access.text else _pgbouncer_hba.own_files(options)
    if installed is not None and (
        params["config_file"] in steps.first.write or new_rules or unfinished or own_files
    ):
        try:
            trial_user = user if user_exists else service.os_user or "nobody"
            trial = _pooler_tls.without_missing_files(user, desired.options, assumed)
            pooler.try_out(replace(desired, options=trial), trial_user, access.text)
        except (_pooler.PoolerError, OSError) as error:
            module.fail_json(
                msg=f"PgBouncer refuses this configuration, and nothing was changed: {error}"
            )
    if installed is not None and (steps.first.start or steps.first.restart):
        reason = check_addresses(fleet, desired.options)
        if reason:
            module.fail_json(
                msg=f"listen_addr: PgBouncer can't listen on {reason}. Nothing was changed"
            )
    if module.check_mode or not actions:
        module.exit_json(**result)

    if params["config_file"] in steps.first.write:
        try:
            _pooler_tls.check_servers(user, options, entries.values())
        except ValueError as error:
            module.fail_json(msg=str(error))
    if not user_exists:
        rc, out, err = run(_pgbouncer_user.command_to_create(user))
        if rc != 0:
            module.fail_json(
                msg=f"The OS user {user!r} can't be created, and nothing was changed: {err or out}"
            )
    if service.os_user not in ("", user) and not as_packaged:
        try:
            check_login_as(params, user, databases)
        except ValueError as error:
            module.fail_json(msg=str(error))
    note = "\n".join([UNFINISHED, *actions, ""])
    try:
        logs = [log_of(member.options, rights) for member in members]
        _files.write_file(
            _files.ManagedFile(marker, note, after[0].owner, after[0].group, 0o644), rights
        )
        for copy in copies:
            _files.write_file(copy, rights)
    except OSError as error:
        remove_files([copy.path for copy in copies], rights)
        if not unfinished:
            remove_files([marker], rights)
        module.fail_json(
            msg=f"{marker} or a copy can't be written, and nothing was changed: {error}"
        )
    reached: list[str] = []
    since = time.time()
    try:
        carry_out(fleet, steps, after, kept, reached, rights)
        check_rules(fleet, steps, logs, since, own_files)
    except (_pooler.PoolerError, _postgres.ConnectionFailed, OSError) as error:
        # The last one that was reached is where it went wrong.
        last = max(len(reached) - 1, 0)
        words = fleet.poolers[last].complaints(*logs[last])
        outcome = put_back(fleet, steps, kept, len(reached))
        # Those that they were made of are back.
        remove_files([copy.path for copy in copies], rights)
        _files.remove(marker, rights)
        module.fail_json(
            msg=f"The pooler did not take the new configuration: {error}. PgBouncer says: {words or 'nothing'}."
            f" {outcome}"
        )
    for last_good in kept:
        last_good.discard()
    _files.remove(marker, rights)
    if after[1].path in steps.first.write:
        # With a new secret their way is closed, and those who are in stay in.
        clients = [client for one in fleet.poolers for client in one.clients()]
        for warning in _pgbouncer_secrets.intruders(clients, params["auth_role"]):
            module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
