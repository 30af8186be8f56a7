# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory budget as plain data."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.filter.memory_budget import (
    FilterModule,
    memory_budget,
)

MACHINE = {"memory_bytes": 16 * 2**30, "cpus": 4, "memory_bound_by": "MemTotal"}


def test_result_is_plain_data() -> None:
    budget = memory_budget(MACHINE, "web", "60", "17", settings={"work_mem": "8MB"})
    assert json.loads(json.dumps(budget)) == budget
    assert sorted(budget) == [
        "budget_bytes",
        "cost_bytes",
        "huge_pages",
        "parts",
        "rows",
        "settings",
        "shared_bytes",
        "table",
        "warnings",
    ]
    assert sum(part["bytes"] for part in budget["parts"]) == budget["cost_bytes"]
    assert budget["parts"][0] == {
        "name": "shared_buffers",
        "bytes": 3870839276,
        "formula": "1.03 x 3.5 GB",
    }
    assert sum(part["bytes"] for part in budget["parts"][:4]) - 2 <= budget["shared_bytes"]
    assert budget["huge_pages"] == {"used": False, "page_bytes": 2 * 2**20, "needed": 1881}
    assert budget["warnings"] == []
    assert budget["settings"]["shared_buffers"] == "3584MB"
    assert "work_mem" not in budget["settings"]
    assert budget["rows"][3] == {
        "name": "work_mem",
        "value": "8MB",
        "formula": "as postgres_settings says",
        "bound_by": "postgres_settings",
    }


def test_error() -> None:
    with pytest.raises(AnsibleFilterError) as error:
        memory_budget(MACHINE, "weeb")
    assert "postgres_workload: 'weeb' is not a valid workload" in str(error.value)


@pytest.mark.parametrize(
    ("wanted", "running", "sized"),
    [(60, 0, 60), (60, 60, 60), (60, 40, 60), (60, 300, 300), (60, 100000, 60)],
)
def test_memory_is_sized_for_what_runs_until_a_restart(
    wanted: int, running: int, sized: int
) -> None:
    until = memory_budget(MACHINE, "web", wanted, 17, running_connections=running)
    plain = memory_budget(MACHINE, "web", sized, 17)
    assert until["settings"]["work_mem"] == plain["settings"]["work_mem"]
    told = "sized for the 300 connections it takes until it is restarted" in until["table"][-1]
    assert told == (sized == 300)


def test_the_users_own_number_waits_for_a_restart_too() -> None:
    settings = {"max_connections": 60}
    until = memory_budget(MACHINE, "web", 60, 17, settings=settings, running_connections=300)
    assert (
        until["settings"]["work_mem"] == memory_budget(MACHINE, "web", 300)["settings"]["work_mem"]
    )


def test_until_a_restart_auto_counts_too() -> None:
    until = memory_budget(MACHINE, "web", "auto", 17, running_connections=300)
    assert "sized for the 300 connections" in until["table"][-1]


def test_what_runs_what_else_is_in_the_cluster_and_storage_are_passed_on() -> None:
    plain = memory_budget(MACHINE, "web", 60, 17)["settings"]
    more = memory_budget(
        MACHINE,
        "web",
        60,
        17,
        running={"shared_buffers": "3328MB"},
        cluster=[{**MACHINE, "cpus": 32}],
        storage="hdd",
    )["settings"]
    changed = {name: more[name] for name in plain if more[name] != plain[name]}
    assert changed == {
        "shared_buffers": "3328MB",
        "max_worker_processes": "32",
        "random_page_cost": "4",
        "effective_io_concurrency": "2",
    }


def test_name() -> None:
    assert FilterModule().filters() == {"memory_budget": memory_budget}
