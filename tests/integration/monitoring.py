# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role monitoring, run on this machine into a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from .prometheus import ROOT, program

PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  roles:
    - role: pooled.postgres.monitoring
"""


def run_monitoring(
    folder: Path, variables: dict[str, Any], *options: str
) -> subprocess.CompletedProcess[str]:
    """Run the role, with its directories in a folder."""
    playbook = folder / "playbook.yml"
    playbook.write_text(PLAYBOOK, encoding="utf-8")
    own = {
        "ansible_python_interpreter": sys.executable,
        "monitoring_rules_directory": str(folder / "rules"),
        "monitoring_dashboards_directory": str(folder / "dashboards"),
        "monitoring_promtool": program("promtool"),
    }
    return subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            *("--inventory", "localhost,", "--connection", "local"),
            *("--extra-vars", json.dumps({**own, **variables})),
            *options,
            str(playbook),
        ],
        check=False,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
            "ANSIBLE_HOME": str(ROOT / ".ansible" / "home"),
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        },
    )


@pytest.fixture(scope="session")
def install_monitoring(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[dict[str, Any]], Path]:
    """Run the role with variables; returns the folder that has what it installed."""

    def install(variables: dict[str, Any]) -> Path:
        folder = tmp_path_factory.mktemp("monitoring")
        done = run_monitoring(folder, variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return folder

    return install
