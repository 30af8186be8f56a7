# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory budget: orientation, refusals word by word, and properties over hostile inputs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils import _memory
from ansible_collections.pooled.postgres.plugins.module_utils._memory import (
    GIB,
    KIB,
    MIB,
    WORKLOADS,
    Budget,
    DoesNotFitError,
    memory_amount_bytes,
    memory_budget,
    memory_needed_bytes,
    memory_text,
)

UNITS = {"kB": KIB, "MB": MIB, "GB": GIB}


def machine(memory: float, cpus: int = 4, **more: Any) -> dict[str, Any]:
    return {"memory_bytes": int(memory), "cpus": cpus, "memory_bound_by": "MemTotal", **more}


def size(budget: Budget, name: str) -> int:
    """Bytes of a setting, read independently of the code under test."""
    match = re.fullmatch(r"([0-9]+)(kB|MB|GB)", dict(budget.settings)[name])
    assert match, dict(budget.settings)[name]
    return int(match.group(1)) * UNITS[match.group(2)]


# docs/sizing.md's orientation: memory in GB, CPUs, connections, settings, shared_buffers and
# work_mem in MB.
ORIENTATION = [
    (2, 2, 100, {}, 448, 1.9),
    (16, 4, 200, {}, 3.5 * 1024, 16),
    (64, 16, 1000, {}, 7 * 1024, 13),
    (64, 16, 1000, {"huge_pages": "on"}, 15 * 1024, 15.5),
    (0.5, 1, "auto", {}, 48, 2.1),
]


@pytest.mark.parametrize(
    ("memory", "cpus", "connections", "given_settings", "shared", "work"), ORIENTATION
)
def test_orientation(
    memory: float,
    cpus: int,
    connections: int | str,
    given_settings: dict[str, Any],
    shared: float,
    work: float,
) -> None:
    budget = memory_budget(machine(memory * GIB, cpus), "web", connections, settings=given_settings)
    assert size(budget, "shared_buffers") == shared * MIB
    assert size(budget, "work_mem") / MIB == pytest.approx(work, rel=0.05)


def test_auto_takes_fewer_connections_rather_than_a_useless_work_mem() -> None:
    budget = memory_budget(machine(GIB // 2, 1), max_connections="auto")
    assert dict(budget.settings)["max_connections"] == "17"
    assert memory_budget(machine(64 * GIB), max_connections="auto").settings[0] == (
        "max_connections",
        "100",
    )


def test_settings_of_a_middling_server() -> None:
    budget = memory_budget(machine(16 * GIB), "web", 100, 17)
    assert dict(budget.settings) == {
        "max_connections": "100",
        "shared_buffers": "3584MB",
        "effective_cache_size": "10752MB",
        "work_mem": "36MB",
        "maintenance_work_mem": "896MB",
        "autovacuum_work_mem": "304MB",
        "wal_buffers": "16MB",
        "temp_buffers": "800kB",
        "max_worker_processes": "8",
        "max_parallel_workers": "2",
        "max_parallel_workers_per_gather": "2",
        "max_parallel_maintenance_workers": "2",
        "max_wal_size": "4GB",
        "min_wal_size": "1GB",
        "checkpoint_completion_target": "0.9",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "200",
        "jit": "off",
    }


REFUSALS = [
    (
        {"resources": machine(GIB // 2, 1), "max_connections": 50},
        "max_connections = 50 does not fit into the 352 MB that Postgres may use here (512 MB"
        " MemTotal): not even 1 MB of work_mem is left for each backend. The largest number that"
        " fits is 22. 50 connections need 823 MB of memory. Usually the answer is a pooler:"
        " clients that go through PgBouncer share few server connections.",
    ),
    (
        {
            "resources": machine(4 * GIB),
            "max_connections": 100,
            "settings": {"work_mem": "64MB"},
        },
        "max_connections = 100 does not fit into the 3.6 GB that Postgres may use here (4 GB"
        " MemTotal): with work_mem = 64MB in postgres_settings everything together takes 15 GB. The"
        " largest number that fits is 14. 100 connections need 26.2 GB of memory. Usually the"
        " answer is a pooler: clients that go through PgBouncer share few server connections.",
    ),
    (
        {"resources": machine(4 * GIB), "reserved": "4GB"},
        "max_connections = 60 does not fit into the 0 kB that Postgres may use here (4 GB"
        " MemTotal): not even 1 MB of work_mem is left for each backend. No number of connections"
        " fits: give the host more memory, or lower postgres_memory_reserved and what"
        " postgres_settings sets. 60 connections need 5.3 GB of memory.",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS)
def test_refusal(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DoesNotFitError) as refusal:
        memory_budget(**arguments)
    assert str(refusal.value) == message


def test_the_numbers_in_a_refusal_are_true() -> None:
    small = machine(GIB // 2, 1)
    memory_budget(small, max_connections=22)
    with pytest.raises(DoesNotFitError):
        memory_budget(small, max_connections=23)
    needed = memory_needed_bytes(50, cpus=1)
    assert memory_text(needed) == "823 MB"
    memory_budget(machine(needed, 1), max_connections=50)
    with pytest.raises(DoesNotFitError):
        memory_budget(machine(needed - MIB, 1), max_connections=50)


BAD_INPUTS = [
    (
        {"workload": "oltpp"},
        "postgres_workload: 'oltpp' is no workload; choose one of web, oltp, dw, mixed, desktop",
    ),
    (
        {"max_connections": "many"},
        "postgres_max_connections: 'many' is no whole number from 1 to 262143",
    ),
    ({"max_connections": 0}, "postgres_max_connections: 0 is no whole number from 1 to 262143"),
    (
        {"max_connections": True},
        "postgres_max_connections: True is no whole number from 1 to 262143",
    ),
    ({"major": 12}, "postgres_version: 12 is no whole number from 13 to 18"),
    ({"share": 1.5}, "postgres_memory_share: 1.5 is no share; give a number above 0 and up to 1"),
    (
        {"share": "half"},
        "postgres_memory_share: 'half' is no share; give a number above 0 and up to 1",
    ),
    (
        {"reserved": "2 gigs"},
        "postgres_memory_reserved: '2 gigs' is no amount of memory; give a number with a unit, such"
        " as 512MB or 2GB",
    ),
    (
        {"settings": {"work_mem": "4mb"}},
        "postgres_settings.work_mem: '4mb' is no amount of memory for Postgres; give a number with"
        " one of the units B, kB, MB, GB, TB",
    ),
    (
        {"settings": {"max_worker_processes": "8x"}},
        "postgres_settings.max_worker_processes: '8x' is no whole number from 0 to 262143",
    ),
    (
        {"settings": {"hash_mem_multiplier": 0}},
        "postgres_settings.hash_mem_multiplier: '0' is no number from 1 to 1000",
    ),
    ({"resources": {"cpus": 2}}, "memory_budget: memory_bytes is None, not a number of bytes"),
    (
        {"resources": {"memory_bytes": GIB}},
        "memory_budget: cpus is None, not a number of at least 1",
    ),
    (
        {"resources": 4},
        "memory_budget: give what host_resources_info returns as resources, not int",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUTS)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        memory_budget(**{"resources": machine(16 * GIB), **arguments})
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("512MB", 512 * MIB), ("2 GB", 2 * GIB), ("1.5g", 3 * GIB // 2), (1024, 1024)],
)
def test_amounts(text: Any, expected: int) -> None:
    assert memory_amount_bytes("x", text) == expected


def test_commit_limit_binds_only_without_overcommit() -> None:
    free = memory_budget(machine(16 * GIB, commit_limit_bytes=4 * GIB, overcommit_memory=0))
    bound = memory_budget(machine(16 * GIB, commit_limit_bytes=4 * GIB, overcommit_memory=2))
    assert free.budget_bytes == 16 * GIB - int(1.6 * GIB)
    assert bound.budget_bytes == 4 * GIB


def test_null_leaves_the_servers_default_and_counts_it() -> None:
    budget = memory_budget(machine(2 * GIB), max_connections=30, settings={"temp_buffers": None})
    assert "temp_buffers" not in dict(budget.settings)
    parts = {part.name: part.size_bytes for part in budget.parts}
    assert parts["temp_buffers"] == 30 * 8 * MIB


def test_units_of_bare_numbers() -> None:
    given_settings = {"shared_buffers": 32768, "work_mem": 8192}
    budget = memory_budget(machine(16 * GIB), settings=given_settings)
    parts = {part.name: part.size_bytes for part in budget.parts}
    assert parts["shared_buffers"] == pytest.approx(1.03 * 256 * MIB)
    assert parts["work_mem"] == (60 + 2) * 2 * 8 * MIB


def test_max_connections_in_settings_wins() -> None:
    budget = memory_budget(machine(16 * GIB), max_connections=60, settings={"max_connections": 80})
    assert "max_connections" not in dict(budget.settings)
    assert "80 connections x 800 kB" in [part.formula for part in budget.parts]


hosts = st.builds(
    machine,
    st.one_of(st.integers(256, 65536), st.integers(65536, 24 * 1024 * 1024)).map(
        lambda mebibytes: mebibytes * MIB
    ),
    st.integers(1, 512),
    in_cgroup=st.booleans(),
)
explicit = st.fixed_dictionaries(
    {},
    optional={
        "shared_buffers": st.integers(16, 4 * GIB // 8192),
        "work_mem": st.sampled_from(["64kB", "4MB", "256MB"]),
        "maintenance_work_mem": st.sampled_from(["1MB", "2GB"]),
        "autovacuum_work_mem": st.sampled_from(["-1", "1GB"]),
        "effective_cache_size": st.sampled_from(["8kB", "1GB", "1TB"]),
        "temp_buffers": st.sampled_from(["800kB", "64MB"]),
        "wal_buffers": st.sampled_from(["-1", "64MB"]),
        "max_worker_processes": st.integers(0, 128),
        "max_parallel_workers": st.integers(0, 128),
        "autovacuum_max_workers": st.integers(1, 50),
        "hash_mem_multiplier": st.sampled_from([1, 2.0, 8]),
        "huge_pages": st.sampled_from(["on", "off", "try"]),
        "wal_level": st.sampled_from(["replica", "logical"]),
    },
)
requests = st.fixed_dictionaries(
    {
        "resources": hosts,
        "workload": st.sampled_from(WORKLOADS),
        "max_connections": st.integers(10, 12000),
        "major": st.integers(13, 18),
    },
    optional={
        "share": st.floats(0.05, 1.0),
        "reserved": st.sampled_from(["0", "100MB", "8GB"]),
        "settings": explicit,
    },
)


def result(arguments: dict[str, Any]) -> Budget | None:
    try:
        return memory_budget(**arguments)
    except DoesNotFitError:
        return None


@settings(max_examples=200, deadline=None)
@given(requests)
def test_p1_refused_or_within_the_budget(arguments: dict[str, Any]) -> None:
    budget = result(arguments)
    if budget is not None:
        assert budget.cost_bytes <= budget.budget_bytes + 1
        assert budget.cost_bytes == pytest.approx(
            sum(part.size_bytes for part in budget.parts), abs=1
        )
        assert budget.budget_bytes <= arguments["resources"]["memory_bytes"]


@settings(max_examples=200, deadline=None)
@given(requests)
def test_p4_the_users_word_wins_and_counts(arguments: dict[str, Any]) -> None:
    budget = result(arguments)
    assume(budget is not None)
    assert budget is not None
    given_settings = arguments.get("settings", {})
    assert not set(dict(budget.settings)) & set(given_settings)
    rows = {row.name: row.value for row in budget.rows}
    for name in set(given_settings) & set(rows):
        assert rows[name] == str(given_settings[name])
    if "shared_buffers" not in given_settings:
        assert size(budget, "shared_buffers") <= max(0.4 * budget.budget_bytes, 128 * KIB)
        if "effective_cache_size" not in given_settings:
            assert size(budget, "shared_buffers") <= size(budget, "effective_cache_size")


@settings(max_examples=100, deadline=None)
@given(requests, st.integers(1, 64))
def test_p5_only_the_limit_matters(arguments: dict[str, Any], larger: int) -> None:
    here = {**arguments["resources"], "in_cgroup": True}
    elsewhere = {**here, "commit_limit_bytes": larger * GIB, "overcommit_memory": 0}
    assert result({**arguments, "resources": here}) == result({**arguments, "resources": elsewhere})


SIZES = ("shared_buffers", "work_mem", "maintenance_work_mem")


def sizes(budget: Budget | None, names: tuple[str, ...]) -> list[int]:
    return [0 if budget is None else size(budget, name) for name in names]


plain = st.fixed_dictionaries(
    {
        "resources": hosts,
        "workload": st.sampled_from(WORKLOADS),
        "max_connections": st.integers(10, 12000),
        "major": st.integers(13, 18),
    }
)


@settings(max_examples=200, deadline=None)
@given(plain, st.integers(1, 4096))
def test_p6_more_memory_lowers_nothing(arguments: dict[str, Any], more: int) -> None:
    here = arguments["resources"]
    memory = here["memory_bytes"] + more * MIB
    bigger = {**arguments, "resources": {**here, "memory_bytes": memory}}
    less, much = sizes(result(arguments), SIZES), sizes(result(bigger), SIZES)
    assert all(first <= second for first, second in zip(less, much))


@pytest.mark.parametrize("workload", WORKLOADS)
def test_p6_where_the_share_of_shared_buffers_changes(workload: str) -> None:
    last = [0, 0, 0]
    for mebibytes in range(900, 2000, 3):
        here = sizes(
            result(
                {"resources": machine(mebibytes * MIB), "workload": workload, "max_connections": 20}
            ),
            SIZES,
        )
        assert all(first <= second for first, second in zip(last, here)), mebibytes
        last = here


@settings(max_examples=200, deadline=None)
@given(plain, st.integers(1, 500))
def test_p6_more_connections_raise_nothing(arguments: dict[str, Any], more: int) -> None:
    busier = {**arguments, "max_connections": arguments["max_connections"] + more}
    few, many = sizes(result(arguments), SIZES[:2]), sizes(result(busier), SIZES[:2])
    assert all(first >= second for first, second in zip(few, many))


@settings(max_examples=200, deadline=None)
@given(plain, st.integers(1, 4096))
def test_p6_more_tenants_raise_nothing(arguments: dict[str, Any], more: int) -> None:
    crowded = {**arguments, "reserved": f"{more}MB"}
    alone, among = sizes(result(arguments), SIZES), sizes(result(crowded), SIZES)
    assert all(first >= second for first, second in zip(alone, among))


@settings(max_examples=200, deadline=None)
@given(requests)
def test_the_table_adds_up(arguments: dict[str, Any]) -> None:
    budget = result(arguments)
    assume(budget is not None)
    assert budget is not None
    amounts = [
        int(match.group(1))
        for match in (re.match(r"  [a-z_ ]+ +(-?[0-9]+) MB", line) for line in budget.table)
        if match
    ]
    assert sum(amounts[:-1]) == amounts[-1] == round(budget.budget_bytes / MIB)


def test_table_for_people() -> None:
    budget = memory_budget(machine(2 * GIB, 2), "web", 60, 15)
    assert budget.table[:12] == (
        "2 GB MemTotal, of which Postgres may use 1.8 GB: web, PostgreSQL 15",
        "  shared_buffers              461 MB  1.03 x 448 MB",
        "  wal_buffers                  14 MB  shared_buffers / 32, up to 16 MB",
        "  other shared memory          54 MB  48 MB + 82 processes x 74.9 kB",
        "  page tables                  54 MB  61 backends x shared_buffers / 512",
        "  backends                    320 MB  64 processes x 5 MB",
        "  temp_buffers                 47 MB  60 connections x 800 kB",
        "  maintenance_work_mem        112 MB  1 x 112 MB",
        "  autovacuum_work_mem         114 MB  3 workers x 38 MB",
        "  work_mem                    640 MB  61 backends x 1 x 2 x 5.2 MB",
        "  not assigned                 27 MB  left to the page cache",
        "  budget                     1843 MB",
    )
    assert budget.table[13] == (
        "  shared_buffers                     448MB"
        "  25 % of the budget, rounded down; bound by MemTotal"
    )


def test_rounding_keeps_order() -> None:
    rounded = [_memory._truncated(size_bytes, 3, 8 * MIB) for size_bytes in range(0, 2**31, 2**20)]
    assert rounded == sorted(rounded)
