# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Misspelt variables end a run of each playbook and role before it reaches a host."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
SECRET = "korrekt-horse-1"  # of nobody
# By host: what is wrong there, and what was meant. Ten on five hosts.
WRONG: dict[str, dict[str, str]] = {
    "orders": {
        "postgres_setings": "postgres_settings",
        "postgres_listen_address": "postgres_listen_addresses",
    },
    "billing": {
        "pooled_databses": "pooled_databases",
        "postgres_connections_max": "postgres_max_connections",
        "postgres_hbaa": "postgres_hba",
    },
    "reports": {"monitoring_dead_row": "monitoring_dead_rows"},
    "pool1": {
        "pgbouncr_listen_port": "pgbouncer_listen_port",
        "pgbouncer_auth_pasword": "pgbouncer_auth_password",
    },
    "pool2": {
        "pgbouncer_pool_moed": "pgbouncer_pool_mode",
        "pooled_tls_requier": "pooled_tls_require",
    },
}
FINE = {
    "postgres_password": SECRET,
    "postgres_settings": {},
    "_postgres_settings": 1,
    "postgres_access": True,
}


def inventory(wrong: dict[str, dict[str, str]], **more: Any) -> dict[str, Any]:
    """Hosts that nobody could reach, with variables whose values can't be evaluated."""
    hosts = {
        host: {**FINE, **dict.fromkeys(names, f"{SECRET} {{{{ nowhere }}}}")}
        for host, names in wrong.items()
    }
    pools = [host for host in hosts if host.startswith("pool")]
    return {
        "all": {
            "vars": {"ansible_connection": "ssh", "ansible_host": "192.0.2.1",
                     "ansible_ssh_executable": "/bin/false", **more},
            "children": {
                "postgres": {"hosts": {host: hosts[host] for host in hosts if host not in pools}},
                "pgbouncer": {"hosts": {host: hosts[host] for host in pools}},
            },
        }
    }  # fmt: skip


def run(
    folder: Path, playbook: str, wrong: dict[str, dict[str, str]], *arguments: str, **more: Any
) -> subprocess.CompletedProcess[str]:
    (folder / "inventory.json").write_text(json.dumps(inventory(wrong, **more)))
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", "inventory.json", playbook]
    return subprocess.run(
        [*command, *arguments],
        env={
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
            "ANSIBLE_STDOUT_CALLBACK": "json",
            "ANSIBLE_TIMEOUT": "5",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin:/bin",
        },
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )


def run_task(
    folder: Path,
    task: dict[str, Any],
    wrong: dict[str, dict[str, str]],
    *arguments: str,
    **more: Any,
) -> subprocess.CompletedProcess[str]:
    play = [{"hosts": "orders", "gather_facts": False, "tasks": [task]}]
    (folder / "play.json").write_text(json.dumps(play))
    return run(folder, "play.json", wrong, *arguments, **more)


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def messages(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """By host, what the first task says."""
    (play,) = report(done)["plays"]
    task = play["tasks"][0]
    assert all(result.get("failed") for result in task["hosts"].values())
    return {host: result["msg"] for host, result in task["hosts"].items()}


def pairs(message: str) -> dict[str, str]:
    """What each line names, and what it proposes."""
    *lines, last = message.split("\n")
    assert last == "If a name is meant for something else, list it in pooled_ignored_variables."
    found = {}
    for line in lines:
        shape = r"(\w+): nothing reads a variable of this name; did you mean (\w+)\?"
        match = re.fullmatch(shape, line)
        assert match, line
        found[match[1]] = match[2]
    return found


def test_one_run_names_ten_on_five_hosts(tmp_path: Path) -> None:
    assert (len(WRONG), sum(map(len, WRONG.values()))) == (5, 10)
    done = run(tmp_path, "pooled.postgres.site", WRONG)
    assert done.returncode != 0
    assert {host: pairs(message) for host, message in messages(done).items()} == WRONG
    assert all(counts["changed"] == 0 for counts in report(done)["stats"].values())
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_word_on_the_command_line_ends_each_playbook(tmp_path: Path, playbook: str) -> None:
    hosts: dict[str, dict[str, str]] = {"orders": {}}
    done = run(tmp_path, f"pooled.postgres.{playbook}", hosts, "-e", "sessions_idle=5s")
    assert done.returncode != 0
    assert {host: pairs(message) for host, message in messages(done).items()} == {
        "orders": {"sessions_idle": "sessions_idle_transaction_age"}
    }


@pytest.mark.parametrize("role", ROLES)
def test_a_single_role_sees_it_too(tmp_path: Path, role: str) -> None:
    included = {"name": f"pooled.postgres.{role}", "tasks_from": "preflight.yml"}
    done = run_task(
        tmp_path, {"include_role": included}, {"orders": {"pooled_databses": "pooled_databases"}}
    )
    assert done.returncode != 0
    (ended,) = report(done)["plays"]
    last = ended["tasks"][-1]["hosts"]["orders"]
    assert pairs(last["msg"]) == {"pooled_databses": "pooled_databases"}
    assert len(ended["tasks"]) <= 3, "the include, and at most the version of Ansible, come before"


def only_names(folder: Path, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    wrong = {"orders": {"postgres_database": "postgres_databases"}}
    return run_task(folder, {"pooled.postgres.validate_variables": {}}, wrong, *arguments, **more)


def test_what_is_meant_for_something_else_is_left_alone(tmp_path: Path) -> None:
    reported = pairs(messages(only_names(tmp_path))["orders"])
    assert reported == {"postgres_database": "postgres_databases"}
    done = only_names(tmp_path, pooled_ignored_variables="{{ [own] }}", own="postgres_database")
    assert done.returncode == 0, done.stdout


def test_a_wrong_list_of_those_is_refused(tmp_path: Path) -> None:
    said = messages(only_names(tmp_path, "-e", "pooled_ignored_variables=postgres_database"))
    assert "pooled_ignored_variables: it must be a list of names of variables" in said["orders"]


def test_values_are_validated_too(tmp_path: Path) -> None:
    spec = {"argument_spec": {"postgres_port": {"type": "int"}}}
    task = {"pooled.postgres.validate_variables": spec}
    done = run_task(tmp_path, task, {"orders": {}}, postgres_port="many")
    assert messages(done)["orders"].startswith("Validation of arguments failed:\n")
    assert "postgres_port" in messages(done)["orders"]
    assert run_task(tmp_path, task, {"orders": {}}, postgres_port=1).returncode == 0
