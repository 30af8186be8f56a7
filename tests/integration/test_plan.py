# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook plan as people run it: with nothing but ansible-core and the collection."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = "-e memory=64GB -e cpus=16 -e workload=oltp -e max_connections=300 -e version=17"
NO_INVENTORY = [
    "[WARNING]: No inventory was parsed, only implicit localhost is available",
    "[WARNING]: provided hosts list is empty, only localhost is available. Note that the implicit"
    " localhost does not match 'all'",
]


def plan(
    arguments: str | list[str], directory: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run it in a directory without any configuration."""
    given = arguments.split() if isinstance(arguments, str) else arguments
    return subprocess.run(
        ["ansible-playbook", "pooled.postgres.plan", *given],
        env={
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
            "ANSIBLE_HOME": str(ROOT / ".ansible" / "home"),
            "COLUMNS": "300",
            "LC_ALL": "C.UTF-8",
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
            **environment,
        },
        cwd=directory,
        check=False,
        capture_output=True,
        text=True,
    )


def shown_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of the plan."""
    assert done.returncode == 0, done.stdout + done.stderr
    _before, _separator, after = done.stdout.partition('    "msg": ')
    lines: list[str] = json.JSONDecoder().raw_decode(after)[0]
    return lines


def documented_lines() -> list[str]:
    """The output in docs/sizing.md."""
    text = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")
    _before, _separator, after = text.partition(
        f"ansible-playbook pooled.postgres.plan {EXAMPLE}\n"
    )
    return after.split("```")[2].strip("\n").split("\n")


def test_documented_example_without_any_inventory(tmp_path: Path) -> None:
    done = plan(EXAMPLE, tmp_path)
    assert shown_lines(done) == documented_lines()
    assert done.stderr.splitlines() == NO_INVENTORY
    # Nothing ran but what runs on the controller anyway, and nothing changed.
    assert "changed=0 " in done.stdout
    assert "TASK [pooled.postgres.postgres : Look at the host]" not in done.stdout


def test_the_same_text_under_yaml(tmp_path: Path) -> None:
    done = plan(EXAMPLE, tmp_path, ANSIBLE_CALLBACK_RESULT_FORMAT="yaml")
    block = done.stdout.partition("    msg: |-\n")[2].partition("\n\nPLAY RECAP")[0]
    lines = [line[8:].rstrip() for line in block.split("\n")]
    assert lines == documented_lines()


def test_an_explicit_localhost_is_no_machine_to_look_at(tmp_path: Path) -> None:
    done = plan(f"-i localhost, {EXAMPLE} -e postgres_cluster=other", tmp_path)
    assert shown_lines(done) == documented_lines()
    assert done.stderr == ""
    assert "TASK [pooled.postgres.postgres : Look at the host]" not in done.stdout


def test_model_and_other_variables_from_a_file(tmp_path: Path) -> None:
    model: dict[str, Any] = {
        "pooled_databases": [
            {
                "name": "mydb",
                "roles": [{"name": "app_user", "kind": "user", "password": "not shown"}],
                "clients": [{"name": "api", "role": "app_user", "replicas": 5, "workers": 4,
                             "pool_size": 10, "max_overflow": 10, "via": "pgbouncer"}],
            }
        ],
        "postgres_settings": {"work_mem": "12MB"},
        "postgres_workload": "mixed",
    }  # fmt: skip
    (tmp_path / "all.yml").write_text(json.dumps(model))
    done = plan(["-e", "memory=16GB", "-e", "@all.yml", "-e", "storage=hdd"], tmp_path)
    lines = shown_lines(done)
    rows = {line.split()[0]: line.split() for line in lines if line.startswith("  ")}
    assert "mixed, PostgreSQL 17" in lines[0]
    assert ["max_connections", "40", "connection", "budget"] in [line.split()[:4] for line in lines]
    assert rows["work_mem"][1:3] == ["12MB", "as"]
    assert rows["random_page_cost"][1] == "4"
    assert any("5 replicas x 4 workers x (10 + 10)" in line for line in lines)
    assert "not shown" not in done.stdout + done.stderr


def test_huge_pages_and_settings(tmp_path: Path) -> None:
    settings = json.dumps({"settings": {"work_mem": "8MB"}})
    done = plan(["-e", "memory=64GB", "-e", "huge_pages=on", "-e", settings], tmp_path)
    lines = shown_lines(done)
    assert any(line.split()[:2] == ["work_mem", "8MB"] for line in lines)
    assert any(line.split()[:2] == ["huge_pages", "on"] for line in lines)


REFUSED = [
    (
        "-e memory=64gigs",
        "memory: '64gigs' is not a valid amount of memory; give a number with a unit, such as"
        " 512MB or 2GB",
    ),
    ("-e memory=8GB -e cpus=0", "cpus: 0 is not a whole number from 1 to 8192"),
    (
        "-e memory=8GB -e workload=webb",
        "workload: webb is not allowed; choose one of web, oltp, dw, mixed, desktop",
    ),
    (
        "-e memory=8GB -e version=12",
        "version: Postgres 12 is not supported; supported are majors 13 to 18",
    ),
    (
        "-e memory=1GB -e cpus=2 -e max_connections=3000",
        "Usually the remedy is PgBouncer: clients that connect through it share few server"
        " connections.",
    ),
    (
        "-e workload=oltp",
        "memory: it is missing; give the memory of the machine, such as -e memory=64GB, or an"
        " inventory with a Postgres host, and postgres_workload for workload",
    ),
    (
        "",
        "memory: it is missing; give the memory of the machine, such as -e memory=64GB, or an"
        " inventory with a Postgres host",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_refusals(arguments: str, message: str, tmp_path: Path) -> None:
    done = plan(arguments, tmp_path)
    assert done.returncode == 2
    told = (done.stdout + done.stderr).splitlines()
    error = next(line for line in told if line.startswith("[ERROR]"))
    assert error.endswith(f" {message}")
