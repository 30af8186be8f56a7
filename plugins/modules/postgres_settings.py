#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: all settings of a server in one file, proved by the server before they are used."""

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
  description: The settings that were not as they shall be, as the server shows them.
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

from dataclasses import replace
from typing import Any, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import (
    conf_file as _conf_file,
    debian as _debian,
)
from ansible_collections.pooled.postgres.plugins.module_utils._host.files import (
    Backup,
    ManagedFile,
    check_changeable,
    differs,
    read_file,
    service_user,
    write_file,
)
from ansible_collections.pooled.postgres.plugins.module_utils._module import PooledModule
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    hold as _pooler_pause,
    pause as _pause,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.cluster import (
    RELOAD_TIMEOUT_S,
    Cluster,
    Refused,
    RunningServer,
    ServerBinary,
    StillStarting,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.tls_files import (
    check_tls_files,
    renewed_certificate,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings import settings as _guc
from ansible_collections.pooled.postgres.plugins.module_utils._sql import connection as _postgres

NEW_CLUSTER = """
SELECT current_setting('data_checksums') AS checksums, datcollate AS locale,
       pg_encoding_to_char(encoding) AS encoding
FROM pg_database WHERE datname = 'template1'
"""
MODE = 0o640
# What stopping a server may take.
HOLD_MORE_S = 60
# No server takes that, as it takes no file that it can't read.
UNREADABLE = "This file was not readable for the server's OS user\n"


def drop_in_file(cluster: Cluster) -> ManagedFile:
    """The managed file as it is.

    It is ours alone, so that one which the server's OS user may not read needs no reading either:
    that user may replace it.

    Raises:
        PermissionError: when it may not.
    """
    try:
        return read_file(cluster.drop_in, cluster.rights)
    except PermissionError:
        check_changeable(cluster.drop_in, cluster.rights)
        return ManagedFile(cluster.drop_in, UNREADABLE, "", "", 0)


def check_files(cluster: Cluster, before: ManagedFile, write: bool) -> None:
    """See in check mode too that a run can work on what it has to, and on what runs have left.

    Raises:
        PermissionError: when it can't.
    """
    if write:
        check_changeable(cluster.drop_in, cluster.rights)
    reported = cluster.rights_for_reported
    Backup(before, cluster.rights)
    Backup(read_file(cluster.auto_conf, reported), reported)


def predict(module: PooledModule, cluster: Cluster, wanted: dict[str, str]) -> dict[str, Any]:
    """What a run does on a host where the package creates the cluster first."""
    drop_in = _guc.DropIn(cluster.drop_in, "", cluster.main_file, 0)
    plan = _guc.plan(
        with_libraries(module, wanted, [], cluster.drop_in),
        drop_in,
        _guc.new_cluster(cluster.major),
        [],
        libraries=_guc.libraries_catalog_of(cluster.major),
    )
    restart = bool(plan.waiting) and module.params["restart"] != "never"
    before = ManagedFile(cluster.drop_in, None, "", "", 0)
    after = ManagedFile(cluster.drop_in, plan.content, cluster.os_user, cluster.os_group, MODE)
    pending = [] if restart else list(plan.waiting)
    actions = actions_of(cluster, plan, True, restart)
    return {
        **report(plan, before, after, actions, pending),
        "port": int(wanted.get("port", 5432)),
        "restarts": restart,
        "addresses": _pooler_pause.own_addresses(),
        "started": False,
    }


def converge(module: PooledModule, cluster: Cluster, wanted: dict[str, str]) -> dict[str, Any]:
    """Compare with the server, prove the new configuration, and unless in check mode, apply it."""
    server = RunningServer(cluster, module.params)
    runs = server.runs()
    start = read_file(cluster.start_conf, cluster.rights)
    if _debian.start_mode(start.content) == "disabled":
        raise ValueError(
            f"{start.path} says disabled, so that nothing starts this server; write auto there if"
            " it is to run"
        )
    starts = _debian.start_mode(start.content) == "auto"
    if runs:
        check_new(cluster, server)
    before = drop_in_file(cluster)
    current = ServerBinary(cluster, before.content or "")
    live, rows = (server.live(), server.files()) if runs else current.at_rest(wanted)
    wanted = with_libraries(module, wanted, rows, cluster.drop_in)
    assumed = module.params["assume_libraries"] if module.check_mode else []
    check_installed(server if runs else None, wanted, live, assumed)
    drop_in = _guc.DropIn(
        cluster.drop_in, before.content or "", cluster.main_file, current.included_at
    )

    def normalise(definition: _guc.Definition, text: str) -> str:
        value = _guc.canonical(definition, text)
        row = live.get(definition.name.lower())
        if row is None or row.setting == value:
            return value
        try:
            if "." in definition.name:
                return server.canonical(definition, text)
            return ServerBinary(cluster, "").effective_value(
                definition.name, {definition.name: text}
            )
        except (Refused, ValueError) as error:
            raise ValueError(f"settings.{definition.name}: {error}") from error

    libraries = _guc.libraries_catalog_of(cluster.major)
    plan = _guc.plan(wanted, drop_in, live, rows, normalise, libraries)
    after = ManagedFile(cluster.drop_in, plan.content, cluster.os_user, cluster.os_group, MODE)
    at_work = {name: row.setting for name, row in live.items()}
    foreseen = module.params["assume_files"] if module.check_mode else []
    for warning in check_tls_files(cluster, wanted, at_work, foreseen):
        module.warn(warning)
    renewed = renewed_certificate(cluster, wanted, at_work, foreseen) if runs else ""
    if renewed:
        plan = replace(plan, reload=True)
    write = differs(before, after)
    check_files(cluster, before, write)
    if not starts:
        check_changeable(start.path, cluster.rights)
    broken = any(row.error and not row.name for row in rows)
    if write or broken or not runs:
        ServerBinary(cluster, plan.content).validate()
    for override in plan.overrides:
        module.warn(override)
    waiting = waiting_for_restart(plan, drop_in, live, wanted) if runs else set()
    policy = module.params["restart"]
    restart = bool(waiting) and (policy == "always" or (policy == "fresh" and server.is_fresh()))
    logins = kept_logins(cluster, current, live if runs else {}) if restart or not runs else []
    if restart and not logins:
        server.check_logins()
    pools = pools_before(module, cluster, live) if restart else []
    actions = actions_of(cluster, plan, write, restart, runs, logins, pools)
    actions = actions if starts else [f"write auto into {start.path}", *actions]
    if not starts and not module.check_mode:
        text = _debian.with_start(start.content)
        write_file(replace(start, content=text), cluster.rights)
        module.run_command(["systemctl", "daemon-reload"], handle_exceptions=False)
    if actions and not module.check_mode:
        good = last_good(cluster, before, after, _guc.running(wanted, live) if runs else {})
        hold = hold_of(module, pools)
        try:
            waiting = apply(server, plan, good, before, after, restart, logins, hold)
        finally:
            for warning in hold.release():
                module.warn(warning)
        check_served(cluster, wanted, server)
        check_new(cluster, server)
    elif restart:
        waiting = set()
    elif not module.check_mode:
        settle(server, plan, before)
    if waiting:
        module.warn(waiting_text(cluster, policy, _guc.waiting_lines(waiting, live, rows, plan)))
    running = cluster.running_at()
    result = report(plan, before, after, actions, sorted(waiting))
    if renewed:
        result["diff"]["after"] += f"{renewed}: read anew\n"
    if not starts:
        result["diff"]["before"] += f"{start.path}: {_debian.start_mode(start.content)}\n"
        result["diff"]["after"] += f"{start.path}: auto\n"
    return {
        **result,
        "port": running[1] if running else int(wanted.get("port", module.params["login_port"])),
        "restarts": restart,
        "addresses": _pooler_pause.own_addresses(),
        "started": not runs,
    }


def pools_before(
    module: PooledModule, cluster: Cluster, live: dict[str, _guc.Live]
) -> list[_pooler_pause.Pools]:
    """The pools of PgBouncer on this host that lead to the running server."""
    running = cluster.running_at()
    service = module.params["pooler_service"]
    if running is None or not service or not module.params["pause_timeout"]:
        return []
    places = live["unix_socket_directories"].setting.split(",")
    directories = [running[0], *(place.strip(' "') for place in places)]
    here = _pause.Server(
        frozenset(_pooler_pause.NAMES.real_path(place) for place in directories if place),
        running[1],
        _pooler_pause.is_own_address,
    )

    def run(command: Sequence[str]) -> tuple[int, str, str]:
        code, out, err = module.run_command(list(command), handle_exceptions=False)
        return int(code), str(out), str(err)

    return _pooler_pause.find(run, service, here, module.warn)


def hold_of(module: PooledModule, pools: list[_pooler_pause.Pools]) -> _pooler_pause.Hold:
    """What pauses them; a module that hangs does not keep them for longer than all of it may take."""
    pause_s, restart_s = module.params["pause_timeout"], module.params["restart_timeout"]
    # It may be restarted twice: with the new settings, and with those before.
    return _pooler_pause.Hold(pools, pause_s, pause_s + 2 * restart_s + HOLD_MORE_S)


def check_new(cluster: Cluster, server: RunningServer) -> None:
    """See that a cluster that this run has created is what it was asked to be.

    Raises:
        ValueError: when not.
    """
    asked = server.params["new_cluster"]
    row = server.rows(NEW_CLUSTER)[0] if asked else None
    problems = (
        _debian.new_cluster_problems(asked, row.checksums == "on", row.locale, row.encoding)
        if row
        else []
    )
    if problems:
        version, _separator, name = cluster.service.partition("@")[2].partition("-")
        raise ValueError(
            f"the new cluster is not as it was asked for: {'; '.join(problems)}. What this host has"
            f" in {_debian.CREATECLUSTER_FILE}, or postgres_initdb_options, say otherwise. It is"
            f" empty: put that right, remove it with pg_dropcluster --stop {version} {name}, and"
            " run again"
        )


def check_served(cluster: Cluster, wanted: dict[str, str], server: RunningServer) -> None:
    """See that the server shows the certificate that its settings name.

    Raises:
        Refused: when it goes on with an old one.
    """
    at_work = {name: row.setting for name, row in server.live().items()}
    path = renewed_certificate(cluster, wanted, at_work, (), RELOAD_TIMEOUT_S)
    if path:
        raise Refused(
            f"it goes on with another certificate than {path}, although it has read its files anew;"
            f" {cluster.log_file} says why"
        )


def waiting_text(cluster: Cluster, policy: str, lines: list[str]) -> str:
    """What to say of settings that wait: what runs, what is wanted, why, and what to do."""
    reason = {
        "never": "restart=never leaves it to you",
        "fresh": "restart=fresh restarts only a server that nobody uses yet",
        "always": "somebody changed them while this run went on",
    }[policy]
    return (
        f"{cluster.service} runs on with older values until it is restarted: {'; '.join(lines)}."
        f" It was not restarted, because {reason}. To apply them when its connections may be cut:"
        f" run again with restart=always (postgres_restart=always for the role), or"
        f" systemctl restart {cluster.service}"
    )


def kept_logins(
    cluster: Cluster, current: ServerBinary, live: dict[str, _guc.Live]
) -> list[Backup]:
    """pg_hba.conf and pg_ident.conf as last confirmed, of a run that was killed over new ones."""
    kept = []
    for name in ("hba_file", "ident_file"):
        path = live[name].setting if name in live else current.effective_value(name)
        rights = cluster.rights_for(path)
        good = Backup(read_file(path, rights), rights)
        kept += [good] if good.exists else []
    return kept


def last_good(
    cluster: Cluster, before: ManagedFile, after: ManagedFile, running: dict[str, str]
) -> Backup:
    """What to go back to: the file as it is, or what runs when an edit by hand has broken the file."""
    good = Backup(before, cluster.rights)
    if running and before.content is not None and not good.exists and differs(before, after):
        try:
            ServerBinary(cluster, before.content).effective_value(_guc.MARKER)
        except Refused:
            good.keep_instead(replace(after, content=_conf_file.render(running)))
    return good


def settle(server: RunningServer, plan: _guc.Plan, before: ManagedFile) -> None:
    """Forget the last good files when the server runs with these, and what killed runs have left."""
    if not plan.waiting:
        Backup(before, server.cluster.rights).discard()
    reported = server.cluster.rights_for_reported
    Backup(read_file(server.cluster.auto_conf, reported), reported).discard()


def waiting_for_restart(
    plan: _guc.Plan, drop_in: _guc.DropIn, live: dict[str, _guc.Live], wanted: dict[str, str]
) -> set[str]:
    """Settings that only a restart applies: those of the plan, and what others have left."""
    ours = {name.lower() for name in wanted} | set(drop_in.settings())
    ours |= set(dict(_conf_file.parse(plan.content)))
    others = {row.definition.name for key, row in live.items() if row.pending_restart} - {
        live[key].definition.name for key in ours if key in live
    }
    return set(plan.waiting) | others


def with_libraries(
    module: PooledModule, wanted: dict[str, str], rows: list[_guc.FileRow], drop_in: str
) -> dict[str, str]:
    """The settings with the libraries to preload, unless they say themselves what to preload."""
    libraries = module.params["preload_libraries"]
    if not libraries or "shared_preload_libraries" in module.params["settings"]:
        return wanted
    return {
        **wanted,
        "shared_preload_libraries": _guc.with_libraries(
            libraries, rows, drop_in, module.params["unwanted_libraries"]
        ),
    }


def check_installed(
    server: RunningServer | None,
    wanted: dict[str, str],
    live: dict[str, _guc.Live],
    assumed: Sequence[str],
) -> None:
    """Refuse what the catalog of the major has and the installed server has not.

    Args:
        server: the server, when it runs.
        wanted: checked settings.
        live: pg_settings by lower-case name.
        assumed: libraries that are taken to be there.

    Raises:
        ValueError: naming the setting.
    """
    for name, text in wanted.items():
        row = live.get(name.lower())
        if row:
            _guc.check_value(f"settings.{name}", row.definition, text)
        elif "." not in name:
            raise ValueError(f"settings.{name}: the installed server has no such setting")
    for name in ("shared_preload_libraries", "session_preload_libraries"):
        for library in _guc.names_of_libraries(wanted.get(name, "")):
            if server and library not in assumed and not server.has_library(library):
                raise ValueError(
                    f"settings.{name}: library {library!r} is not installed on the server;"
                    " install its package first"
                )


def apply(
    server: RunningServer,
    plan: _guc.Plan,
    good: Backup,
    before: ManagedFile,
    after: ManagedFile,
    restart: bool,
    logins: list[Backup],
    hold: _pooler_pause.Hold,
) -> set[str]:
    """Carry out the plan; on failure put everything back. A stopped server is started.

    Args:
        good: what to go back to.
        before: the file as it is.
        after: the file as it shall be.
        restart: whether to restart a running server.
        logins: last good files for logins, to put back before it starts.
        hold: what pauses the pools before it restarts.

    Returns:
        The settings that wait for a restart.

    Raises:
        Refused: with the server's own words.
    """
    cluster = server.cluster
    runs, pid = server.runs(), cluster.pid()
    reported = cluster.rights_for_reported
    auto_conf = read_file(cluster.auto_conf, reported)
    good_auto_conf = Backup(auto_conf, reported)
    try:
        for login in logins:
            login.restore()
        if differs(before, after):
            good.keep()
            write_file(after, cluster.rights)
        if plan.resets:
            good_auto_conf.keep()
        if runs:
            server.reset(plan.resets)
            if plan.reload:
                server.reload(plan.changes)
        elif plan.resets:
            text = _conf_file.without(auto_conf.content or "", plan.resets)
            write_file(replace(auto_conf, content=text), reported)
        if restart or not runs:
            for warning in hold.begin():
                cluster.module.warn(warning)
            server.restart(server.params["restart_timeout"])
            server.confirm(plan.changes)
        waiting = server.waiting()
        if good.exists and waiting & set(plan.waiting):
            text = _guc.last_good(plan.content, good.content, waiting)
            good.keep_instead(replace(after, content=text))
    except StillStarting as error:
        # Another restart would only begin again; the next run goes back if this one does not end well.
        raise Refused(
            f"{error}; the files stay as they are now; run again when it answers"
        ) from error
    except (Refused, OSError, _postgres.ConnectionFailed) as error:
        back = good.restore()
        if _conf_file.is_part_of(
            read_file(cluster.auto_conf, reported).content or "", good_auto_conf.content
        ):
            back = good_auto_conf.restore() or back
        outcome = (
            after_rollback(server, pid) if back else f"no file was changed, and {state(server)}"
        )
        raise Refused(f"{error}; {outcome}") from error
    good_auto_conf.discard()
    if not waiting & set(plan.waiting):
        good.discard()
    return waiting


def after_rollback(server: RunningServer, pid: int) -> str:
    """Let the server have the old files again, and say how that went.

    Args:
        pid: the process that ran before; one that still runs has not started with the new files.
    """
    try:
        if pid and server.cluster.pid() == pid:
            server.reload(())
            return "the files are as they were"
        server.restart(server.params["restart_timeout"])
    except StillStarting as again:
        return f"the last good files are back: {again}"
    except (Refused, _postgres.ConnectionFailed) as again:
        return f"the last good files are back, but {state(server)}: {again}"
    return "the last good files are back, and the server runs with them"


def state(server: RunningServer) -> str:
    """Whether the server runs, in words."""
    return f"the server {'runs' if server.runs() else 'does not run'}"


def actions_of(
    cluster: Cluster,
    plan: _guc.Plan,
    write: bool,
    restart: bool,
    runs: bool = True,
    logins: Sequence[Backup] = (),
    pools: Sequence[_pooler_pause.Pools] = (),
) -> list[str]:
    """The plan as lines to read, in the order in which it is carried out."""
    actions = [f"put back {login.path}, which a run that was killed replaced" for login in logins]
    actions += [f"write {cluster.drop_in}"] if write else []
    actions += [f"reset {name} in postgresql.auto.conf" for name in plan.resets]
    if not runs:
        return [*actions, f"start {cluster.service}"]
    if plan.reload:
        actions.append("reload")
    if restart:
        actions += [_pause.action("pause", one.unit, one.databases) for one in pools]
        actions.append(f"restart {cluster.service}")
        actions += [_pause.action("resume", one.unit, one.databases) for one in pools]
    return actions


def report(
    plan: _guc.Plan,
    before: ManagedFile,
    after: ManagedFile,
    actions: list[str],
    pending: list[str],
) -> dict[str, Any]:
    """The module's result."""
    changes = [
        {
            "name": change.name,
            "before": change.before,
            "after": change.after,
            "restart": change.restart,
        }
        for change in plan.changes
    ]
    lines = (
        _guc.diff_lines(plan.changes, before.content or "", plan.content) if actions else ([], [])
    )
    for side, managed in zip(lines, (before, after)):
        if actions and differs(before, after) and managed.content is not None:
            side.append(f"{managed.path}: {managed.owner}:{managed.group} {managed.mode:04o}")
    return {
        "changed": bool(actions),
        "actions": actions,
        "settings": changes,
        "pending_restart": pending,
        "diff": {
            "before": "".join(line + "\n" for line in lines[0]),
            "after": "".join(line + "\n" for line in lines[1]),
        },
    }


def main() -> None:
    """Entry point."""
    module = PooledModule(
        {
            **_postgres.connection_argument_spec(),
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
    )
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
        _pause.check_timeout(params["pause_timeout"])
        wanted = _guc.check_settings(params["settings"], major, "settings")
        if not cluster.installed:
            if module.check_mode and params["assume_new"]:
                module.exit_json(**predict(module, cluster, wanted))
            module.fail_json(
                msg=f"there is no cluster {major}/{name} on this host: {cluster.main_file} or"
                f" {cluster.binary_directory}/postgres is missing; install postgresql-{major},"
                f" or create the cluster with pg_createcluster {major} {name}"
            )
        _postgres.require_psycopg2(module)
        module.exit_json(**converge(module, cluster, wanted))
    except (ValueError, OSError) as error:
        module.fail_json(msg=str(error))
    except Refused as error:
        module.fail_json(msg=f"the server refuses the configuration: {error}")
    except _postgres.ConnectionFailed as error:
        what = "does not let this module in" if error.refused else "does not answer"
        module.fail_json(msg=f"cluster {major}/{name} is installed but {what}: {error}")


if __name__ == "__main__":
    main()
