# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of the playbook plan: a machine in words, and the table that people read."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.filter.memory_budget import memory_budget
from ansible_collections.pooled.postgres.plugins.filter.plan_lines import (
    FilterModule as Lines,
    plan_lines,
)
from ansible_collections.pooled.postgres.plugins.filter.plan_machine import (
    FilterModule as Machine,
    plan_machine,
)

DEFAULTS = {
    "postgres_workload": "web",
    "postgres_max_connections": "auto",
    "postgres_version": None,
    "postgres_memory_share": 1.0,
    "postgres_memory_reserved": "0",
    "postgres_settings": {},
}
RELEASES = {"12": 15, "13": 17}


def described(asked: dict[str, Any], variables: dict[str, Any] | None = None) -> dict[str, Any]:
    return plan_machine({"memory": "64GB", **asked}, variables or {}, DEFAULTS, RELEASES)


def test_filters_by_name() -> None:
    assert Lines().filters() == {"plan_lines": plan_lines}
    assert Machine().filters() == {"plan_machine": plan_machine}


def test_machine_with_nothing_but_memory() -> None:
    machine = described({})
    assert machine["host"]["resources"] == {
        "memory_bytes": 64 * 2**30,
        "memory_bound_by": "given",
        "cpus": 4,
        "cpus_bound_by": "not given, so a usual number",
    }
    assert machine["host"]["postgres"] == {"installed": False, "majors": [17], "clusters": []}
    assert machine["host"]["distribution"] == {"id": "debian", "release": "13"}
    expected = {**DEFAULTS, "postgres_version": 17}
    assert {name: machine["variables"][name] for name in expected} == expected


# What -e and files of variables make of it, and what the role gets.
SAID = [
    ("workload", "oltp", "postgres_workload", "oltp"),
    ("max_connections", "300", "postgres_max_connections", "300"),
    ("max_connections", 300, "postgres_max_connections", "300"),
    ("max_connections", "auto", "postgres_max_connections", "auto"),
    ("version", "15", "postgres_version", 15),
    ("share", "0.5", "postgres_memory_share", 0.5),
    ("reserved", "2GB", "postgres_memory_reserved", "2GB"),
    ("settings", {"work_mem": "8MB"}, "postgres_settings", {"work_mem": "8MB"}),
    ("settings", '{"work_mem": "8MB"}', "postgres_settings", {"work_mem": "8MB"}),
    ("huge_pages", "on", "postgres_settings", {"huge_pages": "on"}),
    ("huge_pages", False, "postgres_settings", {"huge_pages": "off"}),
    ("workload", "", "postgres_workload", "web"),
    ("workload", None, "postgres_workload", "web"),
]


@pytest.mark.parametrize(("name", "value", "variable", "expected"), SAID)
def test_said(name: str, value: Any, variable: str, expected: Any) -> None:
    assert described({name: value})["variables"][variable] == expected


def test_cpus() -> None:
    resources = described({"cpus": "16"})["host"]["resources"]
    assert (resources["cpus"], resources["cpus_bound_by"]) == (16, "given")


def test_variables_of_the_role_hold_where_nothing_is_said() -> None:
    variables = {"postgres_workload": "dw", "postgres_version": 15, "postgres_settings": None}
    machine = described({"huge_pages": "on"}, variables)
    assert machine["variables"]["postgres_workload"] == "dw"
    assert machine["variables"]["postgres_version"] == 15
    assert machine["variables"]["postgres_settings"] == {"huge_pages": "on"}
    assert machine["host"]["postgres"]["majors"] == [15]
    # The same said twice is no contradiction.
    assert described({"workload": "dw"}, variables)["variables"]["postgres_workload"] == "dw"


UNIT = "give a number with a unit"
REFUSED = [
    (
        {"memory": "64gigs"},
        f"memory: '64gigs' is not a valid amount of memory; {UNIT}, such as 512MB or 2GB",
    ),
    ({"memory": "64"}, f"memory: 64 is less than 64 MB; {UNIT}, such as 64GB"),
    ({"memory": "1MB"}, f"memory: 1MB is less than 64 MB; {UNIT}, such as 64GB"),
    (
        {"reserved": "some"},
        f"reserved: 'some' is not a valid amount of memory; {UNIT}, such as 512MB or 2GB",
    ),
    ({"cpus": "0"}, "cpus: 0 is not a whole number from 1 to 8192"),
    ({"cpus": "1.5"}, "cpus: 1.5 is not a whole number from 1 to 8192"),
    ({"cpus": True}, "cpus: True is not a whole number from 1 to 8192"),
    (
        {"workload": "webb"},
        "workload: webb is not allowed; choose one of web, oltp, dw, mixed, desktop",
    ),
    (
        {"version": "12"},
        "version: Postgres 12 is not supported; supported are majors 13 to 18",
    ),
    ({"version": "17.2"}, "version: 17.2 is not a whole number from 1 to 999"),
    ({"max_connections": "many"}, "max_connections: many is not a whole number from 1 to 262143"),
    ({"share": "0"}, "share: 0 is not a valid share; give a number above 0 and up to 1"),
    ({"share": "half"}, "share: half is not a valid share; give a number above 0 and up to 1"),
    ({"huge_pages": "yes"}, "huge_pages: yes is not allowed; choose one of try, on, off"),
    (
        {"settings": "work_mem=8MB"},
        'settings: give a dictionary, such as -e \'{"settings": {"work_mem": "64MB"}}\'',
    ),
    (
        {"memory": None},
        "memory: it is missing; give the memory of the machine, such as -e memory=64GB, or an"
        " inventory with a Postgres host",
    ),
    (
        {"memory": None, "cpus": 4, "workload": "dw"},
        "memory: it is missing; give the memory of the machine, such as -e memory=64GB, or an"
        " inventory with a Postgres host, and postgres_workload for workload",
    ),
]


@pytest.mark.parametrize(("asked", "message"), REFUSED)
def test_refusals(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError) as refused:
        described(asked)
    assert str(refused.value) == message


def test_contradiction() -> None:
    # Of variables given by -e, the role's own would win.
    message = "workload: dw, but postgres_workload is given as web; leave one of them out"
    with pytest.raises(AnsibleFilterError) as refused:
        described({"workload": "dw"}, {"postgres_workload": "web"})
    assert str(refused.value) == message


MEMORY = {
    "table": ["1 GB given", "  shared_buffers  600 MB  x", "  budget  1000 MB", "1", "2", "3"],
    "rows": [
        {
            "name": "max_connections",
            "value": "60",
            "formula": "connection budget",
            "bound_by": "clients",
        },
        {"name": "shared_buffers", "value": "600MB", "formula": "x", "bound_by": "given"},
        {"name": "jit", "value": "on", "formula": "by workload", "bound_by": "workload dw"},
    ],
}
CONNECTIONS = {"table": ["Connections", "  needed  60"], "warnings": ["few are left"]}


def test_lines() -> None:
    memory = {**MEMORY, "table": [*MEMORY["table"][:3], "a", "b", "c", "  huge pages: not used"]}
    settings = {
        "max_connections": "60", "shared_buffers": "600MB", "jit": "off", "port": "5432",
        "log_checkpoints": "on", "deadlock_timeout": "2s",
    }  # fmt: skip
    lines = plan_lines(
        {"cpus": 2, "cpus_bound_by": "CPU affinity"},
        memory,
        settings,
        {"jit": "off", "deadlock_timeout": "2s", "log_connections": None},
        "auto",
        ["pg_stat_statements"],
        CONNECTIONS,
    )
    preloaded = "as postgres_preload_libraries says, after what the server preloads already"
    assert lines == [
        "1 GB given",
        "  shared_buffers  600 MB  x",
        "  budget  1000 MB",
        "  huge pages: not used",
        "",
        "Settings by size, with 2 CPUs (CPU affinity)",
        "  setting          value  how                bound by",
        "  max_connections     60  connection budget  clients",
        "  shared_buffers   600MB  x                  given",
        "  jit                off  by workload        workload dw",
        "",
        "Other settings",
        "  setting                   value               how",
        "  deadlock_timeout          2s                  as postgres_settings says",
        "  log_checkpoints           on                  for any server",
        "  log_connections           server's default    as postgres_settings says",
        "  port                      5432                as postgres_port says",
        f"  shared_preload_libraries  pg_stat_statements  {preloaded}",
        "",
        "Connections",
        "  needed  60",
        "Warning: few are left",
    ]


def test_lines_without_clients() -> None:
    settings = {row["name"]: row["value"] for row in MEMORY["rows"]}
    lines = plan_lines({"cpus": 1, "cpus_bound_by": "given"}, MEMORY, settings, {}, 60)
    assert "Settings by size, with 1 CPU (given)" in lines
    assert lines[-1] == "  setting  value  how"
    number = next(line for line in lines if line.startswith("  max_connections"))
    assert number.split()[2:] == [
        "as",
        "postgres_max_connections",
        "says",
        "postgres_max_connections",
    ]


def test_user_decides_about_libraries() -> None:
    given = {"shared_preload_libraries": "auto_explain"}
    settings = {row["name"]: row["value"] for row in MEMORY["rows"]}
    lines = plan_lines(
        {"cpus": 1, "cpus_bound_by": "given"}, MEMORY, {**settings, **given}, given,
        preload_libraries=["pg_stat_statements"],
    )  # fmt: skip
    assert [line.split()[1] for line in lines if "preload" in line] == ["auto_explain"]


@given(
    memory=st.integers(64, 4096),
    cpus=st.integers(1, 64),
    workload=st.sampled_from(["web", "oltp", "dw", "mixed", "desktop"]),
    major=st.integers(13, 18),
)
def test_every_setting_is_shown_once_in_columns(
    memory: int, cpus: int, workload: str, major: int
) -> None:
    asked = {"memory": f"{memory}GB", "cpus": cpus, "workload": workload, "version": major}
    machine = plan_machine(asked, {}, DEFAULTS, RELEASES)
    resources = machine["host"]["resources"]
    budget = memory_budget(resources, workload, 20, major)
    settings = {**budget["settings"], "max_connections": "20", "port": "5432"}
    lines = plan_lines(resources, budget, settings, {})
    start = lines.index("Other settings")
    heading = next(line for line in lines if line.startswith("  setting "))
    rows = lines[lines.index(heading) + 1 : start - 1]
    assert sorted([row.split()[0] for row in rows] + ["port"]) == sorted(settings)
    # Columns begin where their headings do.
    assert {row[heading.index("bound by") - 1] for row in rows} == {" "}
    assert " " not in {row[heading.index("bound by")] for row in rows}
    assert all(not row.endswith(" ") for row in rows)
