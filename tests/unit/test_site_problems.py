# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with five hosts is all in the end of one run of site, which has changed nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# What a look at a host would have found.
LOOK = {
    "asked": {
        "version": "",
        "cluster": "main",
        "locale": "{{ postgres_locale | default('C.UTF-8') }}",
    },
    "distribution": {"id": "debian", "release": "13", "codename": "trixie"},
    "resources": {"memory_bytes": 8 << 30, "memory_bound_by": "MemTotal", "cpus": 2},
    "postgres": {"installed": False, "majors": [], "clusters": []},
    "pgbouncer": {
        "installed": False, "version": None, "plain": False, "os_user": "postgres",
        "os_users": [], "unit_user": "postgres", "fresh": True, "unmanaged": None,
        "pid_file": "/run/postgresql/pgbouncer.pid",
    },
    "sandbox": "full",
    "exporters": [],
    "unmanaged_files": [],
    "libraries": {},
    "umask_file": False,
    "driver": False,
    "certificates": {},
    "createcluster": {"included": True, "later": {}},
    "locale_encoding": "UTF-8",
    "network_drop_ins": {},
    "packages": [],
    "services": [],
    "files": {},
    "package_lists": True,
}  # fmt: skip
# In two words, since no file of the tree has such a name.
MISSPELT = "_".join(("postgres", "restrat"))
WRONG: dict[str, dict[str, Any]] = {
    "db1": {"postgres_settings": {"work_mem": "12 bananas", "no_such_setting": 1}},
    "db2": {"postgres_hba": [{"type": "pigeon"}], "postgres_locale": "it's"},
    "db6": {"postgres_restart_timeout": "soon", "postgres_preload_libraries": None,
            "postgres_settings": {"work_mem": "12 bananas"}},
    "db7": {"pooled_databases": []},
    "db3": {"pgbouncer_settings": {"query_timeout": "soon", "no_such_option": 1}},
    "db4": {
        MISSPELT: "always",
        "postgres_restart_pause_timeout": -1,
        "pgbouncer_user_options": {"app_user": {"pool_mode": "never"}},
    },
    "db5": {
        "pooled_databases": [
            {"name": "mydb", "roles": [
                {"name": "app_user", "kind": "user", "settings": {"work_mem": "much"}},
            ]},
        ],
        "pgbouncer_listen_port": 70000,
    },
}  # fmt: skip
NAMED = {
    "db1": ["postgres_settings.work_mem: ", "postgres_settings.no_such_setting: "],
    "db2": ["postgres_locale, postgres_initdb_options: ", "postgres_hba[0].type: "],
    "db6": [
        "postgres_preload_libraries: null is not a valid value",
        "argument 'postgres_restart_timeout' is of type",
        "postgres_settings.work_mem: ",
    ],
    "db7": ["pooled_databases: there is none for db7"],
    "db3": ["pgbouncer_settings.query_timeout: ", "pgbouncer_settings.no_such_option: "],
    "db4": [
        f"{MISSPELT}: nothing reads a variable of this name; did you mean postgres_restart?",
        "If a name is meant for something else, list it in pooled_ignored_variables.",
        "postgres_restart_pause_timeout: ",
        "pgbouncer_user_options.app_user.pool_mode: ",
    ],
    "db5": ["pooled_databases: role 'app_user': settings.work_mem: ", "pgbouncer_listen_port: "],
}


def run(
    tmp_path: Path, hosts: dict[str, dict[str, Any]], playbook: str = "pooled.postgres.site"
) -> tuple[int, dict[str, Any]]:
    """The exit code, and what came of each task."""
    model = [{"name": "mydb", "roles": [{"name": "app_user", "kind": "user"}]}]
    together = {
        "pooled_databases": model,
        "__postgres_host": LOOK,
        "ansible_connection": "local",
        # Whatever would reach a host fails.
        "ansible_python_interpreter": "/nonexistent",
        "ansible_become": False,
    }
    each = {name: {"postgres_poolers": [{"name": name}], **given} for name, given in hosts.items()}
    inventory = {
        "all": {
            "vars": together,
            "children": {"postgres": {"hosts": each}, "pgbouncer": {"hosts": dict.fromkeys(each)}},
        }
    }
    (tmp_path / "inventory.json").write_text(json.dumps(inventory), encoding="utf-8")
    done = subprocess.run(
        ["ansible-playbook", "-i", "inventory.json", playbook],
        env={
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
            "ANSIBLE_HOME": str(ROOT / ".ansible" / "home"),
            "ANSIBLE_STDOUT_CALLBACK": "json",
            "LC_ALL": "C.UTF-8",
            "PATH": f"{ROOT / '.venv' / 'bin'}:/usr/bin:/bin",
        },
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    ended: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return done.returncode, ended


def test_one_run_names_all_that_is_wrong(tmp_path: Path) -> None:
    code, ended = run(tmp_path, WRONG)
    assert code != 0
    assert len(ended["plays"]) == 1
    last = ended["plays"][0]["tasks"][-1]
    assert last["task"]["name"] == "Check that nothing was found"
    for host, starts in NAMED.items():
        lines = last["hosts"][host]["msg"].splitlines()
        assert len(lines) == len(starts), lines
        for line, start in zip(lines, starts):
            assert line.startswith(start), line
    assert all(
        not result.get("changed")
        for task in ended["plays"][0]["tasks"]
        for result in task["hosts"].values()
    )


def test_a_host_that_is_right_is_stopped_by_one_that_is_wrong(tmp_path: Path) -> None:
    code, ended = run(tmp_path, {"db1": WRONG["db1"], "right": {}})
    assert code != 0
    assert len(ended["plays"]) == 1
    assert not ended["plays"][0]["tasks"][-1]["hosts"]["right"].get("failed")


def test_a_host_that_is_not_reached_stops_the_others(tmp_path: Path) -> None:
    gone = {
        "__postgres_host": {},
        "ansible_connection": "ssh",
        "ansible_ssh_executable": "/bin/false",
        "ansible_host": "192.0.2.1",
    }
    code, ended = run(tmp_path, {"right": {}, "gone": gone})
    assert code != 0
    assert len(ended["plays"]) == 1
    assert ended["plays"][0]["tasks"][-1]["hosts"]["right"]["msg"] == (
        "gone: could not be checked, so nothing is changed on any host"
    )


def test_secrets_in_settings_go_to_the_server_alone(tmp_path: Path) -> None:
    """Whatever a callback stores of the plan."""
    secret = "it's S3cret %p"
    play = [
        {
            "hosts": "db1",
            "gather_facts": False,
            "tasks": [
                {
                    "include_role": {
                        "name": "pooled.postgres.postgres",
                        "tasks_from": "preflight.yml",
                        "public": True,
                    }
                },
                {
                    "assert": {
                        "that": [
                            "__postgres_settings.archive_command == wanted",
                            "__postgres_settings.work_mem == '8MB'",
                            "__postgres_settings.keys() | map('lower') | unique | length"
                            " == __postgres_settings | length",
                        ]
                    },
                    "vars": {"wanted": "{{ postgres_settings.Archive_Command }}"},
                },
            ],
        }
    ]
    (tmp_path / "play.json").write_text(json.dumps(play), encoding="utf-8")
    settings = {"Archive_Command": f"curl --password={secret}", "work_mem": "8MB"}
    code, ended = run(tmp_path, {"db1": {"postgres_settings": settings}}, "play.json")
    assert code == 0, ended
    assert len(ended["plays"][0]["tasks"]) > 3
    assert "S3cret" not in json.dumps(ended)
