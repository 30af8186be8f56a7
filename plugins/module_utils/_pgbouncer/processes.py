# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several PgBouncer processes on one host, which share a port and know each other.

The first is the package's own service. The others are instances of a template beside it, each with
a file of its own; PgBouncer's C(%include) does not help there, because a section that begins again
forgets what the included file has set.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._host.units import (
    hardening,
    network_lines,
    quoted,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.options import version_text
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.os_user import (
    LAYOUT,
    log_directory,
    runtime_directory,
)

# Since when requests to cancel a query find the process that runs it, whichever gets them.
SINCE = (1, 21, 0)
# Each takes up to a whole CPU. More than this is a mistake.
MOST = 64

HEADER = (
    "# Managed by Ansible, collection pooled.postgres: changes made here by hand are replaced.\n"
)
_DROP_IN = """\
{about}[Service]
{own}
LimitNOFILE={limit}
Restart=on-failure
{mode}RestartSec=1
"""
# Restarts that nobody has asked for leave the other processes alone; those that somebody asks for
# reach them all.
_MODE_OF_FIRST = "RestartMode=direct\n"
# An address that comes late must not find that systemd has given up.
_NETWORK_LIMIT = "StartLimitIntervalSec=0"
_TEMPLATE = """\
[Unit]
Description=connection pooler for PostgreSQL, process %i
Documentation=man:pgbouncer(1)
After=network.target
{about}PartOf={service}.service
ReloadPropagatedFrom={service}.service

[Service]
Type=notify
{own}
ExecStart={binary} {stem}-%i.ini
ExecReload=/bin/kill -HUP $MAINPID
KillSignal=SIGINT
LimitNOFILE={limit}
Restart=on-failure
RestartSec=1
"""

_ROTATION = """\
{directory}/*.log {{
    weekly
    rotate 10
    copytruncate
    delaycompress
    compress
    notifempty
    missingok
    su {user} {group}
}}
"""

# What tells a process from the others, or lets them share a port.
_OWN = ("peer_id", "so_reuseport")


@dataclass(frozen=True)
class Process:
    """One process: its number from 1, its service, its file and all options in there."""

    number: int
    service: str
    config_file: str
    options: Mapping[str, str]

    @property
    def log(self) -> str:
        """Path of its log; empty for the journal."""
        return self.options.get("logfile", "")


def checked_count(
    wanted: int,
    version: tuple[int, int, int],
    given: Mapping[str, Any],
    listen_addr: str,
    where: str = "processes",
    settings: str = "options",
) -> int:
    """How many processes are to run.

    Args:
        wanted: what was asked for.
        version: the PgBouncer that will run.
        given: options that the user gives.
        listen_addr: the option in effect.
        where: the variable of the count, for error messages.
        settings: that of the options.

    Raises:
        ValueError: naming the variable, its value, and what to do.
    """
    if not 1 <= wanted <= MOST:
        raise ValueError(f"{where}: {wanted} is not allowed; give a whole number from 1 to {MOST}")
    if wanted == 1:
        return 1
    if version < SINCE:
        raise ValueError(
            f"{where}: {wanted} processes need PgBouncer {SINCE[0]}.{SINCE[1]} or newer, because"
            " before it requests to cancel a query get lost between them, and this host has"
            f" {version_text(version)}; leave it at 1 and use more PgBouncer hosts, or a newer"
            " release of the distribution"
        )
    for name in _OWN:
        if given.get(name) is not None:
            raise ValueError(
                f"{settings}.{name}: {where} sets it for each process; leave it out, or leave"
                f" {where} at 1"
            )
    if not listen_addr:
        raise ValueError(
            f"{where}: {wanted} processes share a TCP port, and listen_addr is empty; give it an"
            f" address, or leave {where} at 1"
        )
    return wanted


def processes(
    count: int,
    options: Mapping[str, str],
    *,
    service: str,
    config_file: str,
    runtime_directory: str,
) -> tuple[Process, ...]:
    """The processes in the order of their numbers; the only one has just the given options.

    The first has the usual unix socket, log and pid file, and each of the others its own.
    """
    if count == 1:
        return (Process(1, service, config_file, options),)
    shared = {**options, "so_reuseport": "1"}
    found = [Process(1, service, config_file, {**shared, "peer_id": "1"})]
    for number in range(2, count + 1):
        directory = f"{runtime_directory}/{service}-{number}"
        own = {**shared, "peer_id": str(number), "unix_socket_dir": directory}
        if own.get("pidfile"):
            own["pidfile"] = f"{directory}/pgbouncer.pid"
        if own.get("logfile"):
            stem, suffix = os.path.splitext(own["logfile"])
            own["logfile"] = f"{stem}-{number}{suffix}"
        found.append(
            Process(number, instance(service, number), file_of_process(config_file, number), own)
        )
    return tuple(found)


def peers(members: Sequence[Process]) -> dict[str, dict[str, str]]:
    """The entries of [peers], by which each process reaches the others; none for a single one."""
    if len(members) == 1:
        return {}
    return {
        member.options["peer_id"]: {
            "host": member.options["unix_socket_dir"],
            "port": member.options["listen_port"],
        }
        for member in members
    }


def instance(service: str, number: int) -> str:
    """Name of the service of a process beside the first."""
    return f"{service}@{number}"


def file_of_process(config_file: str, number: int) -> str:
    """Path of the file of a process beside the first."""
    stem, suffix = os.path.splitext(config_file)
    return f"{stem}-{number}{suffix}"


def files_of_processes(names: Iterable[str], config_file: str) -> list[tuple[int, str]]:
    """Those names that files of processes beside the first have, with the process's number.

    With a dot before it, it is what a run that was killed has left.
    """
    stem, suffix = os.path.splitext(os.path.basename(config_file))
    pattern = re.compile(
        rf"{re.escape(stem)}-([1-9][0-9]?){re.escape(suffix)}\Z"
        rf"|\.{re.escape(stem)}-([1-9][0-9]?){re.escape(suffix)}\.(?:last-good|new)\Z"
    )
    found = []
    for name in sorted(names):
        match = pattern.match(name)
        number = int(match.group(1) or match.group(2)) if match else 1
        if number > 1:
            found.append((number, name))
    return found


def rotation(options: Mapping[str, str], service: str, user: str, group: str) -> str | None:
    """How the service's own logs are rotated: by the user, because the directory is the user's.

    Returns:
        None where the logs are elsewhere, as in the package's directory, which has its own.
    """
    directory = log_directory(service)
    if os.path.dirname(options.get("logfile", "")) != directory:
        return None
    return HEADER + _ROTATION.format(directory=directory, user=user, group=group)


def drop_in(
    limit: int,
    members: Sequence[Process],
    *,
    user: str,
    group: str,
    sandbox: str,
    hosts: Iterable[str],
) -> str:
    """The drop-in of the first process's service.

    Args:
        limit: how many file descriptors it may open.
        members: all processes.
        user: OS user that they run as.
        group: its group.
        sandbox: what systemd can keep from them, one of _units.SANDBOXES.
        hosts: where the servers are; among them directories of unix sockets.
    """
    first, others = members[0], members[1:]
    own = _own(members[:1], user, group, sandbox, hosts)
    directory = runtime_directory(first.service)
    if first.options["unix_socket_dir"] == directory:
        own.append(_link(directory, first.options["listen_port"]))
    about = _network(first)
    if others:
        about.insert(0, f"Wants={' '.join(f'{other.service}.service' for other in others)}")
    return HEADER + _DROP_IN.format(
        about="\n".join(["[Unit]", *about, "", ""]) if about else "",
        own="\n".join(own),
        limit=limit,
        mode=_MODE_OF_FIRST if others else "",
    )


def template(
    limit: int,
    members: Sequence[Process],
    *,
    user: str,
    group: str,
    sandbox: str,
    hosts: Iterable[str],
    binary: str,
) -> str:
    """The unit of the processes beside the first; the arguments are those of drop_in()."""
    first, others = members[0], members[1:]
    own = _own(others, user, group, sandbox, hosts)
    own.append(f"RuntimeDirectory={first.service}-%i")
    stem = os.path.splitext(first.config_file)[0]
    return HEADER + _TEMPLATE.format(
        about="".join(f"{line}\n" for line in _network(first)),
        own="\n".join(own),
        limit=limit,
        service=first.service,
        stem=stem,
        binary=binary,
    )


def _network(process: Process) -> list[str]:
    """Lines of [Unit] for a process that listens where the network has to be up."""
    lines = network_lines(process.options.get("listen_addr", ""))
    return [*lines, _NETWORK_LIMIT] if lines else []


def _own(
    members: Sequence[Process], user: str, group: str, sandbox: str, hosts: Iterable[str]
) -> list[str]:
    """Lines of [Service] about who runs these processes, and what they may reach."""
    service = members[0].service.partition("@")[0]
    made = {
        "LogsDirectory": log_directory(service),
        "RuntimeDirectory": runtime_directory(service),
    }
    used = {
        os.path.dirname(options.get(name, ""))
        for options in (member.options for member in members)
        for name in ("logfile", "pidfile")
    } | {member.options["unix_socket_dir"] for member in members}
    # systemd makes that of each further process, and lets it write there.
    theirs = {member.options["unix_socket_dir"] for member in members if member.service != service}
    lines = [f"User={user}", f"Group={group}"]
    lines += [f"{name}={service}" for name, path in made.items() if path in used]
    writable = sorted(path for path in used - theirs - set(made.values()) if path.startswith("/"))
    paths = [
        *(value for member in members for value in member.options.values()),
        *(part.strip() for host in hosts for part in host.split(",")),
    ]
    return lines + hardening(
        sandbox, writable=writable, paths=[path for path in paths if path.startswith("/")]
    )


def _link(directory: str, port: str) -> str:
    """Where clients look for the socket, it is found too; that the link is not there is no failure.

    The directory belongs to somebody else: with C(-T), nothing that is there is followed.
    """
    name = f".s.PGSQL.{port}"
    words = (f"{directory}/{name}", f"{LAYOUT['unix_socket_dir']}/{name}")
    return f"ExecStartPost=-+/usr/bin/ln -sfT {' '.join(map(quoted, words))}"


def count_for_now(wanted: int, found: Sequence[int], active: bool, may_restart: bool) -> int:
    """How many processes this run is to leave, as far as no restart is forbidden.

    One process alone has its port for itself and must restart to share it; and one that goes drops
    its clients, as a restart does.

    Args:
        wanted: how many there are to be.
        found: numbers of those beside the first that there are.
        active: whether the first one runs.
        may_restart: whether a running process may be restarted.
    """
    there = max(found, default=1)
    if may_restart or wanted == there or (there == 1 and not active):
        return wanted
    return wanted if 1 < there < wanted else there
