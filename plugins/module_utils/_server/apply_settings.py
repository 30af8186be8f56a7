# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out a plan for a cluster's settings, and go back when its server does not take them."""

from __future__ import annotations

from dataclasses import replace
from typing import Mapping, Protocol

from ansible_collections.pooled.postgres.plugins.module_utils._host import conf_file, debian
from ansible_collections.pooled.postgres.plugins.module_utils._host.files import (
    Backup,
    ManagedFile,
    differs,
    read_file,
    write_file,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.cluster import (
    Cluster,
    ServerBinary,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.errors import Refused
from ansible_collections.pooled.postgres.plugins.module_utils._server.running import (
    RELOAD_TIMEOUT_S,
    RunningServer,
    StillStarting,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.settings_plan import (
    SettingsPlan,
    check_new,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.tls_files import (
    renewed_certificate,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.file import (
    MARKER,
    last_good_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.plan import running_values
from ansible_collections.pooled.postgres.plugins.module_utils._sql.connection import (
    ConnectionFailed,
)


class Hold(Protocol):
    """What keeps clients waiting while a server restarts."""

    def begin(self) -> list[str]:
        """Let them wait, and say what is wrong with that."""

    def release(self) -> list[str]:
        """Let them go on, and say what is wrong with that."""


def apply(server: RunningServer, plan: SettingsPlan, hold: Hold) -> set[str]:
    """Carry out the plan; on failure put everything back. A stopped server is started.

    Args:
        server: the server.
        plan: what to do, which is something.
        hold: what pauses the pools before it restarts.

    Returns:
        The settings that wait for a restart.

    Raises:
        Refused: with the server's own words.
        ValueError: when a new cluster is not what it was asked to be.
    """
    cluster = server.cluster
    running = running_values(plan.wanted, plan.live) if plan.runs else {}
    good = _last_good(cluster, plan.before, plan.after, running)
    try:
        waiting = _apply(server, plan, good, hold)
    finally:
        for warning in hold.release():
            cluster.module.warn(warning)
    _check_served(cluster, plan.wanted, server)
    check_new(cluster, server)
    return waiting


def start_by_itself(cluster: Cluster, plan: SettingsPlan) -> None:
    """Have the server start after a reboot, and now when it is asked to."""
    write_file(replace(plan.start, content=debian.with_start(plan.start.content)), cluster.rights)
    cluster.module.run_command(["systemctl", "daemon-reload"], handle_exceptions=False)


def settle(server: RunningServer, plan: SettingsPlan) -> None:
    """Discard the backups when the server runs with these files, and what killed runs have left."""
    if not plan.steps.waiting:
        Backup(plan.before, server.cluster.rights).discard()
    reported = server.cluster.rights_for_reported
    Backup(read_file(server.cluster.auto_conf, reported), reported).discard()


def _apply(server: RunningServer, plan: SettingsPlan, good: Backup, hold: Hold) -> set[str]:
    cluster = server.cluster
    runs, pid = server.runs(), cluster.pid()
    reported = cluster.rights_for_reported
    auto_conf = read_file(cluster.auto_conf, reported)
    good_auto_conf = Backup(auto_conf, reported)
    try:
        for login in plan.logins:
            login.restore()
        if plan.writes:
            good.keep()
            write_file(plan.after, cluster.rights)
        if plan.steps.resets:
            good_auto_conf.keep()
        if runs:
            server.reset(plan.steps.resets)
            if plan.steps.reload:
                server.reload(plan.steps.changes)
        elif plan.steps.resets:
            text = conf_file.without(auto_conf.content or "", plan.steps.resets)
            write_file(replace(auto_conf, content=text), reported)
        if plan.restart or not runs:
            for warning in hold.begin():
                cluster.module.warn(warning)
            server.restart(server.params["restart_timeout"])
            server.confirm(plan.steps.changes)
        waiting = server.waiting()
        if good.exists and waiting & set(plan.steps.waiting):
            text = last_good_text(plan.steps.content, good.content, waiting)
            good.keep_instead(replace(plan.after, content=text))
    except StillStarting as error:
        # Another restart would only begin again; the next run goes back if this one does not end
        # well.
        raise Refused(
            f"{error}; the files stay as they are now; run again when it answers"
        ) from error
    except (Refused, OSError, ConnectionFailed) as error:
        back = good.restore()
        if conf_file.is_part_of(
            read_file(cluster.auto_conf, reported).content or "", good_auto_conf.content
        ):
            back = good_auto_conf.restore() or back
        outcome = (
            _after_rollback(server, pid) if back else f"no file was changed, and {_state(server)}"
        )
        raise Refused(f"{error}; {outcome}") from error
    good_auto_conf.discard()
    if not waiting & set(plan.steps.waiting):
        good.discard()
    return waiting


def _last_good(
    cluster: Cluster, before: ManagedFile, after: ManagedFile, running: dict[str, str]
) -> Backup:
    """What to go back to: the file as it is, or what runs when an edit has broken the file."""
    good = Backup(before, cluster.rights)
    if running and before.content is not None and not good.exists and differs(before, after):
        try:
            ServerBinary(cluster, before.content).effective_value(MARKER)
        except Refused:
            good.keep_instead(replace(after, content=conf_file.render(running)))
    return good


def _after_rollback(server: RunningServer, pid: int) -> str:
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
    except (Refused, ConnectionFailed) as again:
        return f"the last good files are back, but {_state(server)}: {again}"
    return "the last good files are back, and the server runs with them"


def _state(server: RunningServer) -> str:
    """Whether the server runs, in words."""
    return f"the server {'runs' if server.runs() else 'does not run'}"


def _check_served(cluster: Cluster, wanted: Mapping[str, str], server: RunningServer) -> None:
    """Check that the server shows the certificate that its settings name.

    Raises:
        Refused: when it goes on with an old one.
    """
    at_work = {name: row.setting for name, row in server.live().items()}
    path = renewed_certificate(cluster, wanted, at_work, (), RELOAD_TIMEOUT_S)
    if path:
        raise Refused(
            f"it goes on with another certificate than {path}, although it has reloaded its files;"
            f" {cluster.log_file} says why"
        )
