# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd keeps from our services, and for what they and Postgres wait.

The services are PgBouncer, its further processes, and the exporters.

C(RemoveIPC) must not be among it: when a unit of the user C(postgres) stops, it also removes the
shared memory of the Postgres server, which then takes no connections any more.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Iterable, Mapping

# These work everywhere.
_ALWAYS = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "KeyringMode=private",
    "UMask=0027",
)
# These need mounts of the service's own. Where a container allows none, systemd ignores them, or
# can't start the service.
_MOUNTS = (
    "ProtectSystem=strict",
    "ProtectProc=invisible",
    "ProtectControlGroups=yes",
)
# These are filters of system calls. In a container whose systemd lacks CAP_SYS_ADMIN, some versions
# of it can't start a service that has them and a user of its own.
_FILTERS = (
    "PrivateDevices=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
)

# How much of it the host's systemd can do, the most first.
SANDBOXES = ("full", "mounts", "none")

# What tells whether a unit is kept running.
KEPT_PROPERTIES = ("Id", "ActiveState", "UnitFileState", "NeedDaemonReload")

# The unit of Postgres has no other drop-in of this collection's.
NETWORK_FILE = "pooled-network.conf"
_NETWORK_HEADER = """\
# Managed by Ansible (pooled.postgres): some of the addresses to listen on come with the network.
"""

_SHARED_DIRECTORIES = ("/tmp", "/var/tmp")  # noqa: S108 - whether somebody uses them is the question


def hardening(
    sandbox: str,
    *,
    writable: Iterable[str] = (),
    paths: Iterable[str] = (),
    home: str = "read-only",
) -> list[str]:
    """Lines for a unit's [Service].

    Args:
        sandbox: one of SANDBOXES.
        writable: directories that the service writes to; missing ones are not an error.
        paths: all that it is given to use. When some are below /tmp, it sees the real one.
        home: what it sees of users' directories, as C(ProtectHome) says.
    """
    if sandbox not in SANDBOXES:
        raise ValueError(
            f"sandbox: {sandbox!r} is not allowed; choose one of {', '.join(SANDBOXES)}"
        )
    lines = [*_ALWAYS]
    if sandbox == "none":
        return lines
    directories = sorted(set(writable))
    lines += [*_MOUNTS, f"ProtectHome={home}"]
    if not any(is_below(path, _SHARED_DIRECTORIES) for path in (*directories, *paths)):
        lines.append("PrivateTmp=yes")
    lines += [f"ReadWritePaths={quoted(f'-{path}')}" for path in directories]
    return [*lines, *_FILTERS] if sandbox == "full" else lines


def network_lines(listen: str) -> list[str]:
    """Lines for the [Unit] of a service, so that it starts when the host has its addresses.

    Postgres and PgBouncer do without an address that is not there yet, and never look again;
    PgBouncer ends when it has none at all, and systemd soon gives up starting it.

    Args:
        listen: addresses and names with commas between them.
    """
    if all(map(_is_there_at_once, listen.split(","))):
        return []
    return ["Wants=network-online.target", "After=network-online.target"]


def network_drop_in(listen: str) -> str:
    """The whole drop-in of a service that needs nothing else; empty when it needs none."""
    lines = network_lines(listen)
    return "\n".join([_NETWORK_HEADER + "[Unit]", *lines]) + "\n" if lines else ""


def _is_there_at_once(address: str) -> bool:
    """Whether one can listen there before the network is up: everywhere, and on loopback."""
    text = address.strip().strip('"').lower()
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return text in ("", "*", "localhost")
    return parsed.is_unspecified or parsed.is_loopback


def probe(sandbox: str) -> list[str]:
    """Arguments of systemd-run that start a service with all of it, and with another user."""
    properties = ["User=daemon", "PrivateTmp=yes", *hardening(sandbox)]
    return [argument for line in properties for argument in ("--property", line)]


def is_kept_running(unit: Mapping[str, str]) -> bool:
    """Whether a unit runs, as its files say, and starts with the host, out of C(systemctl show)."""
    return (
        unit.get("ActiveState") == "active"
        and unit.get("UnitFileState") == "enabled"
        and unit.get("NeedDaemonReload") == "no"
    )


def is_below(path: str, directories: Iterable[str]) -> bool:
    """Whether a path is one of the directories or in one."""
    return any(path == one or path.startswith(f"{one}/") for one in directories)


def quoted(word: str) -> str:
    """A word as a unit's file takes it: systemd expands C(%), and splits at blanks."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return text if re.match(r"[A-Za-z0-9_./:=@%+-]+\Z", text) else f'"{text}"'
