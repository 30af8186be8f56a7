#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: all settings of a server in one file, validated by the server before they are used."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_settings
author: ["pooled.postgres contributors (@pooled)"]
version_added: 0.1.0
short_description: Keep a Postgres server's settings
description:
  - Keeps all given settings in one file, C(conf.d/zz-pooled.conf), which is read last.
  - Compares values, not text, by the server's own rules, so that C(1GB) and C(1024MB) are the same.
  - The server's own binary reads the whole new configuration before anything is written. What it refuses changes nothing.
  - Reloads the server and waits until it confirms each value. What only a restart can apply is named, and restarted as O(restart) allows.
  - A server that shows another certificate than C(ssl_cert_file) has by now, because the file was renewed, is reloaded.
  - A server that is stopped is started, and its C(start.conf) is set to C(auto), so that it comes back after a reboot. One whose C(start.conf)
    says C(disabled) is refused.
  - When the server does not come back, puts the last good files back, starts it again and fails with the server's own words.
  - Files that this run has not changed stay when the server does not start with them; the message says so.
  - While a server restarts, clients of a PgBouncer on its host wait and do not fail. Its pools are paused before, when open transactions have
    ended or after O(pause_timeout), and resumed afterwards, also when the restart fails or the module is killed.
  - A server that is still starting after O(restart_timeout) is left to it. The run fails, and the next one carries on.
  - A setting that is no longer given goes back to what the rest of the configuration says.
  - Entries of C(postgresql.auto.conf) (C(ALTER SYSTEM)) for given settings would win over any file; they are reset.
options:
  settings:
    description:
      - Settings and their values. A value is text, a number, a boolean, or a list for settings that are lists of names.
      - A setting whose value is null is not managed.
    type: dict
    required: true
  preload_libraries:
    description:
      - Libraries to have in C(shared_preload_libraries) besides those that the server's files preload already.
      - Not used when O(settings) has C(shared_preload_libraries).
    type: list
    elements: str
    default: []
  unwanted_libraries:
    description:
      - Libraries that only the managed file preloads, from an earlier run, and that are to go.
      - Those in O(preload_libraries) stay.
    type: list
    elements: str
    default: []
  assume_libraries:
    description: In check mode, libraries that a run has installed by the time it gets here.
    type: list
    elements: str
    default: []
  version:
    description: Major version of the cluster.
    type: int
    required: true
  cluster:
    description: Name of the cluster.
    type: str
    default: main
  restart:
    description:
      - When to restart the server for what only a restart can apply.
      - V(never) leaves it to you. RV(pending_restart) and a warning name what waits.
      - >-
        V(fresh) restarts a server that nobody uses yet: it has no databases, tables or login roles but those it was created with,
        no replication, and nobody else is connected.
      - V(always) restarts whenever a setting needs it.
    type: str
    choices: [never, fresh, always]
    default: fresh
  restart_timeout:
    description: How many seconds a restarted server may take until it answers.
    type: int
    default: 120
  pause_timeout:
    description:
      - How many seconds a restart waits for open transactions of PgBouncer's clients, while all others wait already. It then cuts those that are
        left, and a warning names them.
      - V(0) does not pause pools.
    type: int
    default: 10
  pooler_service:
    description:
      - PgBouncer's systemd service on the server's host. Its further processes are instances of it, such as C(pgbouncer@2).
      - Only those of its databases that lead to this server are paused, and none that somebody else has paused already.
    type: str
    default: pgbouncer
  assume_new:
    description:
      - In check mode, when there is no such cluster, predict what a run does after the package has created it.
      - Otherwise a missing cluster is an error.
    type: bool
    default: false
  new_cluster:
    description:
      - What a cluster that this run has created was asked to be; one that is not so is refused before it is used.
      - Not checked when it is not given.
    type: dict
    suboptions:
      data_checksums:
        description: Whether its data pages must have checksums.
        type: bool
        default: false
      locale:
        description: Its locale.
        type: str
  assume_files:
    description: Files that a run would have written by now. Check mode takes for granted that those among the settings' files are new and usable.
    type: list
    elements: path
    default: []
  config_directory:
    description: Directory of C(postgresql.conf). By default C(/etc/postgresql/<version>/<cluster>).
    type: path
  binary_directory:
    description: Directory of the server's programs. By default C(/usr/lib/postgresql/<version>/bin).
    type: path
  service:
    description: The cluster's systemd unit. By default C(postgresql@<version>-<cluster>).
    type: str
  log_file:
    description: Where the server logs while it starts. By default C(/var/log/postgresql/postgresql-<version>-<cluster>.log).
    type: path
notes:
  - Runs on the server's host, as root.
  - Over the unix socket, port and directory are those of the running server, whatever O(login_port) and O(login_unix_socket) say.
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
seealso:
  - module: pooled.postgres.pgbouncer_pause
  - module: pooled.postgres.postgres_hba
  - plugin: pooled.postgres.checked_settings
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Keep settings, and restart only a server that nobody uses yet
  pooled.postgres.postgres_settings:
    version: 17
    settings:
      shared_buffers: 4GB
      work_mem: 16MB
      log_min_duration_statement: 1s
  become: true

- name: Preload a library, restarting the server if need be
  pooled.postgres.postgres_settings:
    version: 17
    settings: {}
    preload_libraries: [pg_stat_statements]
    restart: always
  become: true
"""

RETURN = r"""
actions:
  description: What was done, or would be done, in order.
  returned: always
  type: list
  elements: str
  sample: ["write /etc/postgresql/17/main/conf.d/zz-pooled.conf", "reload", "pause mydb of pgbouncer", "restart postgresql@17-main", "resume mydb of pgbouncer"]
settings:
  description: The settings that were not as they must be, as the server shows them.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The setting.
      type: str
    before:
      description: Its value before.
      type: str
    after:
      description: Its value after.
      type: str
    restart:
      description: Whether only a restart applies it.
      type: bool
pending_restart:
  description: Settings that wait for a restart after this run, also those that others changed.
  returned: always
  type: list
  elements: str
port:
  description: Port at which the server answers after this run. It differs from the setting while that waits for a restart.
  returned: always
  type: int
  sample: 5432
restarts:
  description: Whether a server that runs is restarted by this run, or would be in check mode.
  returned: always
  type: bool
addresses:
  description: Addresses of the server's host but those of its loopback, for M(pooled.postgres.pgbouncer_pause) on other hosts.
  returned: always
  type: list
  elements: str
  sample: [10.0.0.5]
started:
  description: Whether the server was stopped and is started by this run, or would be in check mode.
  returned: always
  type: bool
"""

from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import debian
from ansible_collections.pooled.postgres.plugins.module_utils._host.files import (
    ManagedFile,
    service_user,
)
from ansible_collections.pooled.postgres.plugins.module_utils._module import PooledModule
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import hold, pause
from ansible_collections.pooled.postgres.plugins.module_utils._server.apply_settings import (
    apply,
    settle,
    start_by_itself,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.cluster import Cluster
from ansible_collections.pooled.postgres.plugins.module_utils._server.errors import Refused
from ansible_collections.pooled.postgres.plugins.module_utils._server.running import RunningServer
from ansible_collections.pooled.postgres.plugins.module_utils._server.settings_plan import (
    MODE,
    plan,
    with_libraries,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.settings_report import (
    actions_of,
    report,
    waiting_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.check import check_settings
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    libraries_catalog_of,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.file import DropIn
from ansible_collections.pooled.postgres.plugins.module_utils._settings.plan import (
    LiveSetting,
    new_cluster,
    plan_drop_in,
    waiting_lines,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    ConnectionFailed,
    connection_argument_spec,
    require_psycopg2,
)

# What stopping a server may take.
HOLD_MORE_S = 60


def argument_spec() -> dict[str, Any]:
    """The module's options."""
    return {
        **connection_argument_spec(),
        "settings": {"type": "dict", "required": True},
        "preload_libraries": {"type": "list", "elements": "str", "default": []},
        "unwanted_libraries": {"type": "list", "elements": "str", "default": []},
        "assume_libraries": {"type": "list", "elements": "str", "default": []},
        "version": {"type": "int", "required": True},
        "cluster": {"type": "str", "default": "main"},
        "restart": {
            "type": "str",
            "choices": ["never", "fresh", "always"],
            "default": "fresh",
        },
        "restart_timeout": {"type": "int", "default": 120},
        "pause_timeout": {"type": "int", "default": 10},
        "pooler_service": {"type": "str", "default": "pgbouncer"},
        "assume_new": {"type": "bool", "default": False},
        "new_cluster": {
            "type": "dict",
            "options": {
                "data_checksums": {"type": "bool", "default": False},
                "locale": {"type": "str"},
            },
        },
        "assume_files": {"type": "list", "elements": "path", "default": []},
        "config_directory": {"type": "path"},
        "binary_directory": {"type": "path"},
        "service": {"type": "str"},
        "log_file": {"type": "path"},
    }


def predict(module: PooledModule, cluster: Cluster, wanted: dict[str, str]) -> dict[str, Any]:
    """What a run does on a host where the package creates the cluster first."""
    drop_in = DropIn(cluster.drop_in, "", cluster.main_file, 0)
    planned = plan_drop_in(
        with_libraries(module.params, wanted, [], cluster.drop_in),
        drop_in,
        new_cluster(cluster.major),
        [],
        libraries=libraries_catalog_of(cluster.major),
    )
    restart = bool(planned.waiting) and module.params["restart"] != "never"
    before = ManagedFile(cluster.drop_in, None, "", "", 0)
    after = ManagedFile(cluster.drop_in, planned.content, cluster.os_user, cluster.os_group, MODE)
    pending = [] if restart else list(planned.waiting)
    actions = actions_of(cluster, planned, True, restart)
    return {
        **report(planned, before, after, actions, pending),
        "port": int(wanted.get("port", 5432)),
        "restarts": restart,
        "addresses": hold.own_addresses(),
        "started": False,
    }


def converge(module: PooledModule, cluster: Cluster, wanted: dict[str, str]) -> dict[str, Any]:
    """Compare with the server, and unless in check mode, apply what differs."""
    server = RunningServer(cluster, module.params)
    planned = plan(server, wanted, module.check_mode, module.warn)
    pools = pools_before(module, cluster, planned.live) if planned.restart else []
    actions = actions_of(
        cluster,
        planned.steps,
        planned.writes,
        planned.restart,
        planned.runs,
        planned.logins,
        [pause.action("pause", one.unit, one.databases) for one in pools],
        [pause.action("resume", one.unit, one.databases) for one in pools],
    )
    if not planned.starts:
        actions = [f"write auto into {planned.start.path}", *actions]
    waiting: set[str] = set(planned.waiting)
    if not module.check_mode:
        if not planned.starts:
            start_by_itself(cluster, planned)
        if actions:
            waiting = apply(server, planned, hold_of(module, pools))
        else:
            settle(server, planned)
    elif planned.restart:
        waiting = set()
    if waiting:
        lines = waiting_lines(waiting, planned.live, planned.rows, planned.steps)
        module.warn(waiting_text(cluster, module.params["restart"], lines))
    running = cluster.running_at()
    result = report(planned.steps, planned.before, planned.after, actions, sorted(waiting))
    if planned.renewed:
        result["diff"]["after"] += f"{planned.renewed}: read anew\n"
    if not planned.starts:
        start = planned.start
        result["diff"]["before"] += f"{start.path}: {debian.start_mode(start.content)}\n"
        result["diff"]["after"] += f"{start.path}: auto\n"
    default = int(planned.wanted.get("port", module.params["login_port"]))
    return {
        **result,
        "port": running[1] if running else default,
        "restarts": planned.restart,
        "addresses": hold.own_addresses(),
        "started": not planned.runs,
    }


def pools_before(
    module: PooledModule, cluster: Cluster, live: Mapping[str, LiveSetting]
) -> list[hold.Pools]:
    """The pools of PgBouncer on this host that lead to the running server."""
    running = cluster.running_at()
    service = module.params["pooler_service"]
    if running is None or not service or not module.params["pause_timeout"]:
        return []
    places = live["unix_socket_directories"].setting.split(",")
    directories = [running[0], *(place.strip(' "') for place in places)]
    here = pause.Server(
        frozenset(hold.NAMES.real_path(place) for place in directories if place),
        running[1],
        hold.is_own_address,
    )

    def run(command: Sequence[str]) -> tuple[int, str, str]:
        code, out, err = module.run_command(list(command), handle_exceptions=False)
        return int(code), str(out), str(err)

    return hold.find(run, service, here, module.warn)


def hold_of(module: PooledModule, pools: list[hold.Pools]) -> hold.Hold:
    """What pauses them; a module that hangs does not keep them for longer than all of it may take."""
    pause_s, restart_s = module.params["pause_timeout"], module.params["restart_timeout"]
    # It may be restarted twice: with the new settings, and with those before.
    return hold.Hold(pools, pause_s, pause_s + 2 * restart_s + HOLD_MORE_S)


def main() -> None:
    """Entry point."""
    module = PooledModule(argument_spec())
    params = module.params
    major, name = params["version"], params["cluster"]
    directory = params["config_directory"] or f"/etc/postgresql/{major}/{name}"
    cluster = Cluster(
        module=module,
        major=major,
        config_directory=directory,
        binary_directory=params["binary_directory"] or f"/usr/lib/postgresql/{major}/bin",
        os_user=service_user(directory, params["login_os_user"]),
        service=params["service"] or f"postgresql@{major}-{name}",
        log_file=params["log_file"] or f"/var/log/postgresql/postgresql-{major}-{name}.log",
    )
    try:
        pause.check_timeout(params["pause_timeout"])
        wanted = check_settings(params["settings"], major, "settings")
        if not cluster.installed:
            if module.check_mode and params["assume_new"]:
                module.exit_json(**predict(module, cluster, wanted))
            module.fail_json(
                msg=f"there is no cluster {major}/{name} on this host: {cluster.main_file} or"
                f" {cluster.binary_directory}/postgres is missing; install postgresql-{major},"
                f" or create the cluster with pg_createcluster {major} {name}"
            )
        require_psycopg2(module)
        module.exit_json(**converge(module, cluster, wanted))
    except (ValueError, OSError) as error:
        module.fail_json(msg=str(error))
    except Refused as error:
        module.fail_json(msg=f"the server refuses the configuration: {error}")
    except ConnectionFailed as error:
        what = "does not let this module in" if error.refused else "does not answer"
        module.fail_json(msg=f"cluster {major}/{name} is installed but {what}: {error}")


if __name__ == "__main__":
    main()
