# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel says about a process: whom it belongs to, and how many files it may open."""

from __future__ import annotations

import pwd
from typing import Callable, Sequence

CAP_SYS_RESOURCE = 24

# Runs a command; returns its exit code, output and errors.
RunCommand = Callable[[Sequence[str]], "tuple[int, str, str]"]


def owner(pid: int) -> str:
    """Name of the OS user that a process runs as; its number where it has no name."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as handle:
            uid = int(next(line for line in handle if line.startswith("Uid:")).split()[2])
    except (OSError, StopIteration):
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def open_files_limits(pid: int) -> tuple[int, int]:
    """Soft and hard limit of a process's open files."""
    try:
        with open(f"/proc/{pid}/limits", encoding="utf-8") as handle:
            words = next(line for line in handle if line.startswith("Max open files")).split()
    except (OSError, StopIteration):
        return 0, 0
    return int(words[3]), int(words[4])


def most_descriptors() -> int:
    """How many descriptors systemd can give a service on this host."""
    with open("/proc/sys/fs/nr_open", encoding="utf-8") as handle:
        most = int(handle.read())
    with open("/proc/1/status", encoding="utf-8") as handle:
        capabilities = [line.split()[1] for line in handle if line.startswith("CapEff:")]
    if capabilities and int(capabilities[0], 16) >> CAP_SYS_RESOURCE & 1:
        return most
    return min(most, open_files_limits(1)[1])
