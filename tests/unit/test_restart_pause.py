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

import yaml

ROLE = Path(__file__).resolve().parents[2] / "roles" / "postgres"
REFUSES = "Check how long pools may take to pause"
FOUND = {"pgbouncer": {"installed": True}, "driver": True}
HOSTS: dict[str, dict[str, Any]] = {
    "db": {"__pgbouncer_host": FOUND},
    "met": {"__pgbouncer_host": FOUND},
    "bare": {"__pgbouncer_host": {**FOUND, "pgbouncer": {"installed": False}}},
    "driverless": {"__pgbouncer_host": {**FOUND, "driver": False}},
    "left-out": {},
}
POOLERS = [*HOSTS, "not-in-the-inventory"]


def played(tmp_path: Path, seconds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is refused with that time, and which poolers wait."""
    preflight = yaml.safe_load((ROLE / "tasks" / "preflight.yml").read_text(encoding="utf-8"))
    (refuses,) = [task for task in preflight if task["name"] == REFUSES]
    variables = {
        "postgres_restart_pause_timeout": seconds,
        "postgres_poolers": [{"name": name} for name in POOLERS],
    }
    shows = {"debug": {"var": "__postgres_pausable_poolers"}}
    tasks = [{"include_vars": str(ROLE / "vars" / "main.yml")}, shows, refuses]
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
    shown, refused = (task["hosts"]["db"] for task in ended["tasks"][-2:])
    return refused, shown["__postgres_pausable_poolers"]


def test_those_that_the_run_has_met_wait(tmp_path: Path) -> None:
    refused, waiting = played(tmp_path, 10)
    assert not refused.get("failed")
    assert waiting == ["met"]


def test_with_0_seconds_nobody_waits(tmp_path: Path) -> None:
    refused, waiting = played(tmp_path, 0)
    assert not refused.get("failed")
    assert waiting == []


def test_a_negative_time_is_refused(tmp_path: Path) -> None:
    refused, _waiting = played(tmp_path, -1)
    assert refused["msg"] == (
        "postgres_restart_pause_timeout: -1 is not a valid number of seconds; give 0 to leave the"
        " pools alone, or how long to wait for open transactions"
    )
