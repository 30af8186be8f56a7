# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose the key of PgBouncer's certificate is: the user's that it will run as after this run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROLE = Path(__file__).resolve().parents[2] / "roles" / "pgbouncer"
NEW = {"os_user": "pgbouncer", "unit_user": "postgres", "fresh": True, "os_users": ["postgres"]}
OLD = {**NEW, "os_user": "postgres", "fresh": False}
OWN = {**OLD, "os_user": "pgbouncer", "unit_user": "pgbouncer",
       "os_users": ["pgbouncer", "postgres"]}  # fmt: skip
# What the host has, what is asked for, when it may restart, the user, whether that is to be made.
CASES = [
    (NEW, "auto", "always", "pgbouncer", True),
    (NEW, "auto", "fresh", "pgbouncer", True),
    (NEW, "auto", "never", "postgres", False),
    (NEW, "postgres", "fresh", "postgres", False),
    (OLD, "auto", "always", "postgres", False),
    (OLD, "pgbouncer", "always", "pgbouncer", True),
    # Who goes on running must be able to read the key, and again after a crash.
    (OLD, "pgbouncer", "fresh", "postgres", False),
    (OLD, "pgbouncer", "never", "postgres", False),
    (OWN, "auto", "never", "pgbouncer", False),
    (OWN, "postgres", "never", "pgbouncer", False),
]
TASKS = [
    {"include_vars": str(ROLE / "vars" / "main.yml")},
    {
        "debug": {"msg": ["{{ __pgbouncer_os_user }}", "{{ __pgbouncer_creates_os_user }}"]},
        "vars": {
            "__pgbouncer_host": {"pgbouncer": "{{ item[0] }}"},
            "pgbouncer_os_user": "{{ item[1] }}",
            "pgbouncer_restart": "{{ item[2] }}",
        },
        "loop": CASES,
    },
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[list[object]]:
    home = tmp_path_factory.mktemp("user")
    defaults = home / "roles" / "defaults" / "defaults"
    defaults.mkdir(parents=True)
    (defaults / "main.yml").write_text((ROLE / "defaults" / "main.yml").read_text())
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False,
             "roles": ["defaults"], "tasks": TASKS}]  # fmt: skip
    (home / "play.json").write_text(json.dumps(play))
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "play.json"],
        cwd=home, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "LC_ALL": "C.UTF-8",
             "ANSIBLE_STDOUT_CALLBACK": "json"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads(done.stdout[done.stdout.index("{") :])["plays"]
    return [one["msg"] for one in result["tasks"][-1]["hosts"]["localhost"]["results"]]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_whose_the_key_is(answers, number):
    assert answers[number] == list(CASES[number][3:])
