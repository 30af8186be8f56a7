# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which poolers on other hosts the role postgres lets wait, and for how long it waits for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROLE = Path(__file__).resolve().parents[2] / "roles" / "postgres"
FOUND = {"pgbouncer": {"installed": True}, "driver": True}
HOSTS: dict[str, dict[str, Any]] = {
    "db": {"__pgbouncer_host": FOUND},
    "met": {"__pgbouncer_host": FOUND},
    "bare": {"__pgbouncer_host": {**FOUND, "pgbouncer": {"installed": False}}},
    "driverless": {"__pgbouncer_host": {**FOUND, "driver": False}},
    "left-out": {},
}
POOLERS = [*HOSTS, "not-in-the-inventory"]


def waiting(tmp_path: Path, seconds: int) -> list[str]:
    """Which poolers wait with that time."""
    variables = {
        "postgres_restart_pause_timeout": seconds,
        "postgres_poolers": [{"name": name} for name in POOLERS],
    }
    shows = {"debug": {"var": "__postgres_pausable_poolers"}}
    tasks = [{"include_vars": str(ROLE / "vars" / "main.yml")}, shows]
    play = [{"hosts": "db", "gather_facts": False, "tasks": tasks}]
    inventory = {"all": {"hosts": HOSTS, "vars": variables}}
    (tmp_path / "inventory.json").write_text(json.dumps(inventory))
    (tmp_path / "play.json").write_text(json.dumps(play))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "inventory.json", "play.json"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8",
             "ANSIBLE_STDOUT_CALLBACK": "json"},
    )  # fmt: skip
    (ended,) = json.loads(done.stdout[done.stdout.index("{") :])["plays"]
    shown: list[str] = ended["tasks"][-1]["hosts"]["db"]["__postgres_pausable_poolers"]
    return shown


def test_those_that_the_run_has_met_wait(tmp_path: Path) -> None:
    assert waiting(tmp_path, 10) == ["met"]


def test_with_0_seconds_nobody_waits(tmp_path: Path) -> None:
    assert waiting(tmp_path, 0) == []
