# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must happen on a cluster for its server to have the wanted settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host import conf_file, debian
from ansible_collections.pooled.postgres.plugins.module_utils._host.files import (
    Backup,
    ManagedFile,
    check_changeable,
    differs,
    read_file,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.cluster import (
    Cluster,
    ServerBinary,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.errors import Refused
from ansible_collections.pooled.postgres.plugins.module_utils._server.running import RunningServer
from ansible_collections.pooled.postgres.plugins.module_utils._server.tls_files import (
    check_tls_files,
    renewed_certificate,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.check import check_value
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    Definition,
    libraries_catalog_of,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.file import (
    DropIn,
    FileRow,
    preloaded_libraries,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.plan import (
    DropInPlan,
    LiveSetting,
    plan_drop_in,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    canonical_setting,
    names_of_libraries,
)

NEW_CLUSTER = """
SELECT current_setting('data_checksums') AS checksums, datcollate AS locale,
       pg_encoding_to_char(encoding) AS encoding
FROM pg_database WHERE datname = 'template1'
"""
MODE = 0o640
# No server takes that, as it takes no file that it can't read.
UNREADABLE = "This file was not readable for the server's OS user\n"


@dataclass(frozen=True)
class SettingsPlan:
    """What there is, what is wanted, and what to do.

    C(live) and C(rows) are pg_settings and pg_file_settings. C(before) and C(after) are the managed
    file. C(start) is the file in which Debian has whether the server starts by itself, C(starts)
    whether it does. C(waiting) are settings that only a restart applies, C(restart) says whether
    this run restarts a running server. C(logins) are last good files for logins, which a killed run
    has left. C(renewed) is a certificate that the server has not read yet.
    """

    steps: DropInPlan
    wanted: Mapping[str, str]
    live: Mapping[str, LiveSetting]
    rows: Sequence[FileRow]
    runs: bool
    before: ManagedFile
    after: ManagedFile
    start: ManagedFile
    starts: bool
    waiting: frozenset[str]
    restart: bool
    logins: tuple[Backup, ...]
    renewed: str

    @property
    def writes(self) -> bool:
        """Whether the managed file changes."""
        return differs(self.before, self.after)


def plan(
    server: RunningServer, wanted: dict[str, str], check_mode: bool, warn: Callable[[str], None]
) -> SettingsPlan:
    """Compare with the server, and have its binary read the new configuration.

    Args:
        server: the server, which need not run.
        wanted: checked settings.
        check_mode: whether libraries and files may be missing that a run would bring.
        warn: takes each warning.

    Raises:
        ValueError: naming the setting, or what stands against it.
        Refused: when the server would not take the settings.
        OSError: when a file can't be read or replaced.
    """
    cluster, params = server.cluster, server.params
    runs = server.runs()
    start = read_file(cluster.start_conf, cluster.rights)
    if debian.start_mode(start.content) == "disabled":
        raise ValueError(
            f"{start.path} says disabled, so that nothing starts this server; write auto there if"
            " it is to run"
        )
    starts = debian.start_mode(start.content) == "auto"
    if runs:
        check_new(cluster, server)
    before = _drop_in_file(cluster)
    current = ServerBinary(cluster, before.content or "")
    live, rows = (server.live(), server.files()) if runs else current.at_rest(wanted)
    wanted = with_libraries(params, wanted, rows, cluster.drop_in)
    assumed = params["assume_libraries"] if check_mode else []
    _check_installed(server if runs else None, wanted, live, assumed)
    drop_in = DropIn(cluster.drop_in, before.content or "", cluster.main_file, current.included_at)

    def normalise(definition: Definition, text: str) -> str:
        value = canonical_setting(definition, text)
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

    libraries = libraries_catalog_of(cluster.major)
    planned = plan_drop_in(wanted, drop_in, live, rows, normalise, libraries)
    after = ManagedFile(cluster.drop_in, planned.content, cluster.os_user, cluster.os_group, MODE)
    at_work = {name: row.setting for name, row in live.items()}
    foreseen = params["assume_files"] if check_mode else []
    for warning in check_tls_files(cluster, wanted, at_work, foreseen):
        warn(warning)
    renewed = renewed_certificate(cluster, wanted, at_work, foreseen) if runs else ""
    if renewed:
        planned = replace(planned, reload=True)
    write = differs(before, after)
    _check_files(cluster, before, write)
    if not starts:
        check_changeable(start.path, cluster.rights)
    broken = any(row.error and not row.name for row in rows)
    if write or broken or not runs:
        ServerBinary(cluster, planned.content).validate()
    for override in planned.overrides:
        warn(override)
    waiting = _waiting_for_restart(planned, drop_in, live, wanted) if runs else set()
    policy = params["restart"]
    restart = bool(waiting) and (policy == "always" or (policy == "fresh" and server.is_fresh()))
    logins = _kept_logins(cluster, current, live if runs else {}) if restart or not runs else []
    if restart and not logins:
        server.check_logins()
    return SettingsPlan(
        steps=planned,
        wanted=wanted,
        live=live,
        rows=rows,
        runs=runs,
        before=before,
        after=after,
        start=start,
        starts=starts,
        waiting=frozenset(waiting),
        restart=restart,
        logins=tuple(logins),
        renewed=renewed,
    )


def _drop_in_file(cluster: Cluster) -> ManagedFile:
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


def _check_files(cluster: Cluster, before: ManagedFile, write: bool) -> None:
    """See in check mode too that a run can work on what it has to, and on what runs have left.

    Raises:
        PermissionError: when it can't.
    """
    if write:
        check_changeable(cluster.drop_in, cluster.rights)
    reported = cluster.rights_for_reported
    Backup(before, cluster.rights)
    Backup(read_file(cluster.auto_conf, reported), reported)


def with_libraries(
    params: Mapping[str, Any],
    wanted: dict[str, str],
    rows: Sequence[FileRow],
    drop_in: str,
) -> dict[str, str]:
    """The settings with the libraries to preload, unless they say themselves what to preload."""
    libraries = params["preload_libraries"]
    if not libraries or "shared_preload_libraries" in params["settings"]:
        return wanted
    return {
        **wanted,
        "shared_preload_libraries": preloaded_libraries(
            libraries, rows, drop_in, params["unwanted_libraries"]
        ),
    }


def _check_installed(
    server: RunningServer | None,
    wanted: dict[str, str],
    live: dict[str, LiveSetting],
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
            check_value(f"settings.{name}", row.definition, text)
        elif "." not in name:
            raise ValueError(f"settings.{name}: the installed server has no such setting")
    for name in ("shared_preload_libraries", "session_preload_libraries"):
        for library in names_of_libraries(wanted.get(name, "")):
            if server and library not in assumed and not server.has_library(library):
                raise ValueError(
                    f"settings.{name}: library {library!r} is not installed on the server;"
                    " install its package first"
                )


def _kept_logins(
    cluster: Cluster, current: ServerBinary, live: dict[str, LiveSetting]
) -> list[Backup]:
    """pg_hba.conf and pg_ident.conf as last confirmed, of a run that was killed over new ones."""
    kept = []
    for name in ("hba_file", "ident_file"):
        path = live[name].setting if name in live else current.effective_value(name)
        rights = cluster.rights_for(path)
        good = Backup(read_file(path, rights), rights)
        kept += [good] if good.exists else []
    return kept


def _waiting_for_restart(
    plan: DropInPlan,
    drop_in: DropIn,
    live: dict[str, LiveSetting],
    wanted: dict[str, str],
) -> set[str]:
    """Settings that only a restart applies: those of the plan, and what others have left."""
    ours = {name.lower() for name in wanted} | set(drop_in.settings())
    ours |= set(dict(conf_file.parse(plan.content)))
    others = {row.definition.name for key, row in live.items() if row.pending_restart} - {
        live[key].definition.name for key in ours if key in live
    }
    return set(plan.waiting) | others


def check_new(cluster: Cluster, server: RunningServer) -> None:
    """Check that a cluster that this run has created is what it was asked to be.

    Raises:
        ValueError: when not.
    """
    asked = server.params["new_cluster"]
    row = server.rows(NEW_CLUSTER)[0] if asked else None
    problems = (
        debian.new_cluster_problems(asked, row.checksums == "on", row.locale, row.encoding)
        if row
        else []
    )
    if problems:
        version, _separator, name = cluster.service.partition("@")[2].partition("-")
        raise ValueError(
            f"the new cluster is not as it was asked for: {'; '.join(problems)}. What this host has"
            f" in {debian.CREATECLUSTER_FILE}, or postgres_initdb_options, say otherwise. It is"
            f" empty: put that right, remove it with pg_dropcluster --stop {version} {name}, and"
            " run again"
        )
