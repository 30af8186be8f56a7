#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-test's sanity tests on a copy of the tree, at the place ansible-test insists on.

Usage: tools/env tools/sanity.py [--test validate-modules] [plugins/modules/...]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from ansible_test._internal.python_requirements import get_venv_packages

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "ansible_collections" / "pooled" / "postgres"


def copy_tree() -> None:
    """Copy what git knows or would know: the tree without what tools leave in it."""
    shutil.rmtree(COPY, ignore_errors=True)
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listing.stdout.split("\0")):
        source, target = ROOT / name, COPY / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    # ansible-test asks git for the files, and the copy itself is ignored by the tree's own.
    subprocess.run(["git", "init", "--quiet"], cwd=COPY, check=True)


def provide_pip(python: str) -> None:
    """Spare ansible-test the download of its pip script, unless it has one already."""
    version = get_venv_packages(SimpleNamespace(version=python))["pip"].replace(".", "_")
    script = Path.home() / ".ansible" / "test" / "cache" / f"get_pip_{version}.py"
    if not script.exists():
        script.parent.mkdir(parents=True, exist_ok=True)
        part = script.with_suffix(f".{os.getpid()}")
        shutil.copy(ROOT / "tools" / "setup" / "get_pip.py", part)
        part.replace(script)


def main() -> int:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    copy_tree()
    provide_pip(python)
    command = ["ansible-test", "sanity", "--python", python, "--color", "no", *sys.argv[1:]]
    return subprocess.call(command, cwd=COPY)


if __name__ == "__main__":
    sys.exit(main())
