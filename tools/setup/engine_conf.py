#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a containers.conf for Podman where this host needs one, and none where it does not.

Podman's defaults expect a host with systemd, cgroups v2 alone, the right to raise limits, and
netavark. A machine that is itself a container, an old one, or one that was upgraded, may lack
some of these. What is missing is looked up, and only that is set. The file belongs to this
checkout (tools/env exports CONTAINERS_CONF); nothing outside of it changes.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
from pathlib import Path

CAP_SYS_RESOURCE = 24


def cgroups_v2_only() -> bool:
    """Whether the unified hierarchy is the only one; crun refuses a mixture."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def runs_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def may_raise_limits() -> bool:
    """Whether root here has CAP_SYS_RESOURCE. For others Podman finds fitting limits by itself."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            return effective == 0 or bool(effective >> CAP_SYS_RESOURCE & 1)
    return True


def hard_limit(which: int, most: int) -> int:
    hard = resource.getrlimit(which)[1]
    return most if hard == resource.RLIM_INFINITY else min(hard, most)


def network_backend() -> str:
    """What Podman uses; older versions stay with CNI where they find traces of it."""
    answer = subprocess.run(
        ["podman", "info", "--format", "{{.Host.NetworkBackend}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip()


def has_netavark() -> bool:
    return any(
        Path(folder, "netavark").exists()
        for folder in ("/usr/lib/podman", "/usr/libexec/podman", "/usr/local/libexec/podman")
    )


def needed_settings() -> dict[str, list[str]]:
    """The sections and lines of containers.conf that this host needs; empty on most."""
    engine: list[str] = []
    containers: list[str] = []
    network: list[str] = []
    if not cgroups_v2_only() and shutil.which("runc"):
        engine.append('runtime = "runc"')
    if not runs_systemd():
        engine += ['cgroup_manager = "cgroupfs"', 'events_logger = "file"']
    if not may_raise_limits():
        # Podman lowers its own limit of processes to pid_max first.
        pid_max = int(Path("/proc/sys/kernel/pid_max").read_text(encoding="utf-8"))
        files = hard_limit(resource.RLIMIT_NOFILE, 1048576)
        processes = hard_limit(resource.RLIMIT_NPROC, pid_max)
        containers.append(
            f'default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]'
        )
    if network_backend() == "cni" and has_netavark():
        network.append('network_backend = "netavark"')
    sections = {"containers": containers, "engine": engine, "network": network}
    return {name: lines for name, lines in sections.items() if lines}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", type=Path, help="the file to write, or to remove if not needed")
    target: Path = parser.parse_args().target

    settings = needed_settings()
    if not settings:
        target.unlink(missing_ok=True)
        return 0
    text = "# Written by tools/setup/engine_conf.py for this host.\n"
    for name, lines in settings.items():
        text += "\n".join([f"\n[{name}]", *lines]) + "\n"
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
