# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A standby among the servers is refused by the first look at it, before anything changes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml

ROLE = Path(__file__).resolve().parents[2] / "roles" / "postgres"
TASK = "Refuse a standby"
CLUSTER = {"major": 17, "name": "main", "port": 5432, "data_directory": "/data"}
HOSTS = {
    "standby": [{**CLUSTER, "standby": True}],
    "primary": [{**CLUSTER, "standby": False}],
    "another": [{**CLUSTER, "name": "other", "standby": True}],
    "empty": [],
}


def preflight() -> list[dict[str, object]]:
    tasks: list[dict[str, object]] = yaml.safe_load(
        (ROLE / "tasks" / "preflight.yml").read_text(encoding="utf-8")
    )
    return tasks


def test_a_standby_is_refused_by_name(tmp_path: Path) -> None:
    (task,) = [one for one in preflight() if one["name"] == TASK]
    inventory = {
        "all": {
            "hosts": {
                name: {"__postgres_host": {"postgres": {"clusters": clusters}}}
                for name, clusters in HOSTS.items()
            },
            "vars": {"postgres_version": 17, "postgres_cluster": "main"},
        }
    }
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "tasks": [{"include_vars": str(ROLE / "vars" / "main.yml")}, task],
        }
    ]
    (tmp_path / "inventory.json").write_text(json.dumps(inventory))
    (tmp_path / "play.json").write_text(json.dumps(play))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "inventory.json", "play.json"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8",
             "ANSIBLE_STDOUT_CALLBACK": "json"},
    )  # fmt: skip
    (ended,) = json.loads(done.stdout[done.stdout.index("{") :])["plays"]
    results = ended["tasks"][-1]["hosts"]
    assert {name for name, one in results.items() if one.get("failed")} == {"standby"}
    assert results["standby"]["msg"].startswith(
        "standby: cluster 17/main is a standby or in recovery (/data has standby.signal or"
        " recovery.signal), which this role does not manage, so nothing was changed; take the host"
    )


def test_it_is_refused_before_anything_is_checked_that_asks_the_server() -> None:
    names = [str(task["name"]) for task in preflight()]
    assert names.index("Look at the host once") < names.index(TASK)
    main = yaml.safe_load((ROLE / "tasks" / "main.yml").read_text(encoding="utf-8"))
    assert "preflight.yml" in str(main[0])
