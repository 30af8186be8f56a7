# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory budget: orientation, what bounds which value, and refusals word by word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory import (
    sum as memory_sum,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.budget import (
    GIB,
    KIB,
    MIB,
    Budget,
    DoesNotFitError,
    memory_amount_bytes,
    memory_budget,
    memory_needed_bytes,
    memory_text,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.request import (
    setting_bytes,
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
    (2, 2, 100, {}, 448, 1.75),
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


def documented() -> list[list[str]]:
    """Rows of the table in docs/sizing.md: memory, CPUs, connections and what they lead to."""
    text = (Path(__file__).resolve().parents[6] / "docs" / "sizing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([0-9.]+ GB.*) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows]


@pytest.mark.parametrize("row", documented(), ids=" ".join)
def test_the_documented_table(row: list[str]) -> None:
    memory, _comma, more = row[0].partition(", ")
    gigabytes = float(memory.split()[0])
    on = {"huge_pages": "on"} if "huge_pages" in more else {}
    here = machine(gigabytes * GIB, int(row[1]))
    if row[3].startswith("refused"):
        with pytest.raises(DoesNotFitError) as refusal:
            memory_budget(here, "web", int(row[2]))
        assert f"fits is {row[3].split()[1]}." in str(refusal.value)
        return
    budget = memory_budget(here, "web", int(row[2]), settings=on)
    assert [memory_text(size(budget, name)) for name in ("shared_buffers", "work_mem")] == row[3:]


def test_auto_takes_fewer_connections_rather_than_a_useless_work_mem() -> None:
    budget = memory_budget(machine(GIB // 2, 1), max_connections="auto")
    assert dict(budget.settings)["max_connections"] == "16"
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
        "enable_parallel_hash": "off",
        "max_parallel_maintenance_workers": "2",
        "max_wal_size": "4GB",
        "min_wal_size": "1GB",
        "checkpoint_completion_target": "0.9",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "200",
        "jit": "off",
    }


@pytest.mark.parametrize(
    ("workload", "maintenance", "formula", "temp_buffers"),
    [
        ("web", "896MB", "budget / 16, up to 8 GB", "800kB"),
        ("mixed", "896MB", "budget / 16, up to 8 GB", "800kB"),
        ("dw", "1792MB", "budget / 8, up to 8 GB", "8MB"),
    ],
)
def test_analytics_get_more_for_maintenance_and_temporary_tables(
    workload: str, maintenance: str, formula: str, temp_buffers: str
) -> None:
    budget = memory_budget(machine(16 * GIB), workload, 50)
    rows = {row.name: row for row in budget.rows}
    row = rows["maintenance_work_mem"]
    assert (row.value, row.formula) == (maintenance, formula)
    assert rows["temp_buffers"].value == temp_buffers


@pytest.mark.parametrize(
    ("workload", "cpus", "workers"),
    [("web", 64, 4), ("mixed", 10, 4), ("oltp", 8, 4), ("web", 7, 3), ("dw", 64, 32), ("dw", 2, 1)],
)
def test_workers_of_a_query_are_half_of_the_cpus_and_four_but_for_analytics(
    workload: str, cpus: int, workers: int
) -> None:
    budget = memory_budget(machine(64 * GIB, cpus), workload, 50, 17)
    assert dict(budget.settings)["max_parallel_workers_per_gather"] == str(workers)


REFUSALS = [
    (
        {"resources": machine(GIB // 2, 1), "max_connections": 50},
        "max_connections = 50 does not fit into the 352 MB that Postgres may use here (512 MB"
        " MemTotal): not even 1 MB of work_mem is left for each backend. The largest number that"
        " fits is 20. 50 connections need 846 MB of memory. Usually the remedy is PgBouncer:"
        " clients that connect through it share few server connections.",
    ),
    (
        {
            "resources": machine(4 * GIB),
            "max_connections": 100,
            "settings": {"work_mem": "64MB"},
        },
        "max_connections = 100 does not fit into the 3.6 GB that Postgres may use here (4 GB"
        " MemTotal): with work_mem = 64MB in postgres_settings everything together takes 15 GB. The"
        " largest number that fits is 14. 100 connections need 26.3 GB of memory. Usually the"
        " remedy is PgBouncer: clients that connect through it share few server connections.",
    ),
    (
        {"resources": machine(4 * GIB), "reserved": "4GB"},
        "max_connections = 60 does not fit into the 0 kB that Postgres may use here (4 GB"
        " MemTotal): not even 1 MB of work_mem is left for each backend. No number of connections"
        " fits: give the host more memory, or lower postgres_memory_reserved and what"
        " postgres_settings sets. 60 connections need 5.3 GB of memory.",
    ),
    (
        {"resources": machine(24 * GIB), "settings": {"shared_buffers": "900GB"}},
        "postgres_settings: shared_buffers = 900GB alone is more than the 21.6 GB that Postgres may"
        " use here (24 GB MemTotal). Lower it or leave it out, or give the host 1 TB of memory.",
    ),
    (
        {"resources": machine(4 * GIB), "settings": {"maintenance_work_mem": "3GB"}},
        "postgres_settings: maintenance_work_mem = 3GB does not fit into the 3.6 GB that Postgres"
        " may use here (4 GB MemTotal), with 60 connections. Lower it or leave it out, or give the"
        " host 6.1 GB of memory.",
    ),
    (
        {
            "resources": machine(4 * GIB),
            "settings": {"maintenance_work_mem": "1GB", "shared_buffers": "2GB"},
        },
        "postgres_settings: shared_buffers = 2GB and maintenance_work_mem = 1GB do not fit together"
        " into the 3.6 GB that Postgres may use here (4 GB MemTotal), with 60 connections. Lower"
        " them or leave them out, or give the host 4.6 GB of memory.",
    ),
    (
        {
            "resources": machine(4 * GIB),
            "settings": {"maintenance_work_mem": "5GB", "shared_buffers": "6GB", "jit": "on"},
        },
        "postgres_settings: shared_buffers = 6GB and maintenance_work_mem = 5GB do not fit together"
        " into the 3.6 GB that Postgres may use here (4 GB MemTotal), with 60 connections. Lower"
        " them or leave them out, or give the host 14.8 GB of memory.",
    ),
    (
        {
            "resources": machine(4 * GIB),
            "max_connections": 100,
            "settings": {"work_mem": "64MB", "shared_buffers": "1GB"},
        },
        "max_connections = 100 does not fit into the 3.6 GB that Postgres may use here (4 GB"
        " MemTotal): with work_mem = 64MB in postgres_settings everything together takes 15.1 GB."
        " The largest number that fits is 13. 100 connections need 18.6 GB of memory. Usually the"
        " remedy is PgBouncer: clients that connect through it share few server connections.",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS)
def test_refusal(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DoesNotFitError) as refusal:
        memory_budget(**arguments)
    assert str(refusal.value) == message


def test_the_numbers_in_a_refusal_are_true() -> None:
    small = machine(GIB // 2, 1)
    memory_budget(small, max_connections=20)
    with pytest.raises(DoesNotFitError):
        memory_budget(small, max_connections=21)
    needed = memory_needed_bytes(50, cpus=1)
    assert memory_text(needed) == "846 MB"
    memory_budget(machine(needed, 1), max_connections=50)
    with pytest.raises(DoesNotFitError):
        memory_budget(machine(needed - MIB, 1), max_connections=50)


BAD_INPUTS = [
    (
        {"workload": "oltpp"},
        "postgres_workload: 'oltpp' is not a valid workload; choose one of web, oltp, dw, mixed,"
        " desktop",
    ),
    (
        {"max_connections": "many"},
        "postgres_max_connections: 'many' is not a whole number from 1 to 262143",
    ),
    ({"max_connections": 0}, "postgres_max_connections: 0 is not a whole number from 1 to 262143"),
    (
        {"max_connections": True},
        "postgres_max_connections: True is not a whole number from 1 to 262143",
    ),
    ({"major": 12}, "postgres_version: 12 is not a whole number from 13 to 18"),
    (
        {"share": 1.5},
        "postgres_memory_share: 1.5 is not a valid share; give a number above 0 and up to 1",
    ),
    (
        {"share": "half"},
        "postgres_memory_share: 'half' is not a valid share; give a number above 0 and up to 1",
    ),
    (
        {"reserved": "2 gigs"},
        "postgres_memory_reserved: '2 gigs' is not a valid amount of memory; give a number with a"
        " unit, such as 512MB or 2GB",
    ),
    (
        {"settings": {"work_mem": "4mb"}},
        "postgres_settings.work_mem: '4mb' has no valid unit; valid are B, kB, MB, GB, TB (capitals"
        " matter)",
    ),
    (
        {"settings": {"max_worker_processes": "8x"}},
        "postgres_settings.max_worker_processes: '8x' is not a valid number; this setting takes no"
        " unit",
    ),
    (
        {"settings": {"hash_mem_multiplier": 0}},
        "postgres_settings.hash_mem_multiplier: '0' is outside the range 1 .. 1000",
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
        "  work_mem                    610 MB  61 backends x 1 x 2 x 5 MB",
        "  not assigned                 57 MB  left to the page cache",
        "  budget                     1843 MB",
    )
    assert budget.table[13] == (
        "  shared_buffers                     448MB"
        "  25 % of the budget, rounded down; bound by MemTotal"
    )


def test_rounding_keeps_order() -> None:
    rounded = [
        memory_sum.truncated(size_bytes, "shared_buffers") for size_bytes in range(0, 2**31, 2**20)
    ]
    assert rounded == sorted(rounded)


@pytest.mark.parametrize("mebibytes", range(2400, 3000, 100))
def test_many_vacuum_workers_fit_with_the_least_that_each_of_them_takes(mebibytes: int) -> None:
    """A sixteenth of the budget, shared out to them, is less, and Postgres takes no less."""
    many = {"autovacuum_max_workers": 200}
    try:
        budget = memory_budget(machine(mebibytes * MIB), "web", 20, settings=many)
    except DoesNotFitError:
        assert mebibytes < 2500
        return
    assert dict(budget.settings)["autovacuum_work_mem"] == "1MB"
    assert parts_of(budget)["autovacuum_work_mem"] == 200 * MIB
    assert budget.cost_bytes <= budget.budget_bytes


# (setting, value, what it is in the sum, its size): all that the server takes, as it rounds it.
COUNTED = [
    ("shared_buffers", "0.1GB", "shared_buffers", 1.03 * 102 * MIB),
    ("shared_buffers", 16384, "shared_buffers", 1.03 * 128 * MIB),
    ("shared_buffers", None, "shared_buffers", 1.03 * 128 * MIB),
    ("temp_buffers", "1.5MB", "temp_buffers", 60 * 1.5 * MIB),
    ("temp_buffers", 200, "temp_buffers", 60 * 200 * 8 * KIB),
    ("work_mem", "1048576B", "work_mem", 62 * 2 * MIB),
    ("work_mem", "1e3", "work_mem", 62 * 2 * 1000 * KIB),
    ("WORK_MEM", "0x400", "work_mem", 62 * 2 * MIB),
    ("maintenance_work_mem", "0.001TB", "maintenance_work_mem", 1024 * MIB),
    ("autovacuum_work_mem", "-1", "autovacuum_work_mem", 3 * 896 * MIB),
    ("wal_buffers", "2000MB", "wal_buffers", 2000 * MIB),
    ("wal_level", "LOGICAL", "logical decoding", 10 * 64 * MIB),
    ("hash_mem_multiplier", "1.0", "backends", 65 * 5 * MIB),
    ("min_dynamic_shared_memory", "1GB", "more shared memory", GIB),
    ("transaction_buffers", "8MB", "more shared memory", 1.33 * 8 * MIB),
    ("track_activity_query_size", "2kB", "more shared memory", (82 + 48) * KIB),
    ("max_replication_slots", 1010, "more shared memory", 450 * KIB),
    ("io_max_concurrency", 64, "more shared memory", (95 + 48) * 64 * 550),
    ("pg_stat_statements.max", 15000, "more shared memory", 10000 * 640),
]


@pytest.mark.parametrize(("name", "value", "part", "expected"), COUNTED)
def test_what_the_user_says_counts(name: str, value: Any, part: str, expected: float) -> None:
    major = 18 if name.startswith("io_") else 17
    budget = memory_budget(machine(16 * GIB), major=major, settings={name: value})
    assert {part.name: part.size_bytes for part in budget.parts}[part] == pytest.approx(
        expected, rel=1e-6
    )
    assert name.lower() not in dict(budget.settings)


def test_wal_buffers_of_nothing_are_not_those_that_postgres_chooses() -> None:
    """It makes 4 pages of 0."""
    budget = memory_budget(machine(16 * GIB), settings={"wal_buffers": 0})
    assert parts_of(budget)["wal_buffers"] <= 32 * KIB
    chosen = memory_budget(machine(16 * GIB), settings={"wal_buffers": -1})
    assert parts_of(chosen)["wal_buffers"] == 16 * MIB


@pytest.mark.parametrize(
    ("name", "major", "text", "expected"),
    [
        ("work_mem", 17, "4MB", 4 * MIB),
        ("work_mem", 17, None, 4 * MIB),
        ("transaction_buffers", 17, "8MB", 8 * MIB),
        ("autovacuum_work_mem", 17, "-1", -1),
        # Which came with 17.
        ("transaction_buffers", 13, "8MB", 0),
    ],
)
def test_bytes_of_a_setting(name: str, major: int, text: str | None, expected: int) -> None:
    assert setting_bytes(name, major, text) == expected


def test_servers_that_cannot_start_are_refused() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"max_connections": 3},
            "max_connections = 3: Postgres needs more than the 3 of superuser_reserved_connections"
            " and reserved_connections; raise it, or lower these",
        ),
        (
            {"resources": machine(24 * 1024 * GIB), "max_connections": 262140},
            "max_connections = 262140: makes 262164 processes together with workers, senders and"
            " autovacuum, and Postgres allows at most 262143; lower it",
        ),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError) as error:
            memory_budget(**{"resources": machine(16 * GIB), **arguments})
        assert str(error.value) == message


def test_auto_never_takes_fewer_connections_than_a_server_starts_with() -> None:
    settings = {"superuser_reserved_connections": 8, "reserved_connections": 8}
    for mebibytes in range(330, 560, 20):
        try:
            budget = memory_budget(
                machine(mebibytes * MIB), "web", "auto", 17, settings={**settings}
            )
        except DoesNotFitError:
            continue
        assert int(dict(budget.settings)["max_connections"]) > 16


# (MB more or less than the host had, connections without a server, connections of one with 16)
NEAR = [(-60, 12, 12), (-16, 15, 16), (-8, 15, 16), (0, 16, 16), (16, 17, 16), (60, 20, 20)]


@pytest.mark.parametrize(("more", "fresh", "kept"), NEAR)
def test_a_little_memory_does_not_change_the_connections_of_a_server_that_runs(
    more: int, fresh: int, kept: int
) -> None:
    here = machine(GIB // 2 + more * MIB, 1)
    running = {"max_connections": "16"}

    def connections(**given: Any) -> int:
        return int(dict(memory_budget(here, "web", "auto", **given).settings)["max_connections"])

    assert connections() == fresh
    assert connections(running=running) == kept
    # Servers of a cluster must come to the same number, and don't know what runs on the others.
    assert connections(running=running, cluster=[here]) == fresh


def pages(total: int, free: int) -> dict[str, Any]:
    return {"huge_pages": {"page_bytes": 2 * MIB, "total": total, "free": free}}


def parts_of(budget: Budget) -> dict[str, float]:
    return {part.name: part.size_bytes for part in budget.parts}


# (machine, settings, whether the sum counts on huge pages, shared_buffers)
HUGE_PAGES = [
    pytest.param({}, {}, False, "7GB", id="unknown"),
    pytest.param(pages(0, 0), {}, False, "7GB", id="none"),
    pytest.param(pages(7985, 7985), {}, True, "15GB", id="enough"),
    pytest.param(pages(7680, 7680), {}, False, "5GB", id="enough-for-shared-buffers-alone"),
    pytest.param(pages(9000, 7000), {}, False, "4608MB", id="others-have-them"),
    pytest.param(pages(7985, 7985), {"huge_pages": "off"}, False, "5GB", id="switched-off"),
    pytest.param(pages(7985, 7985), {"huge_page_size": "1GB"}, False, "5GB", id="other-pages"),
    pytest.param({}, {"huge_pages": "on"}, True, "15GB", id="on"),
    pytest.param({}, {"huge_pages": True}, True, "15GB", id="on-as-boolean"),
]


@pytest.mark.parametrize(("more", "settings", "used", "buffers"), HUGE_PAGES)
def test_huge_pages(
    more: dict[str, Any], settings: dict[str, Any], used: bool, buffers: str
) -> None:
    budget = memory_budget(machine(64 * GIB, 16, **more), "web", 1000, 18, settings=settings)
    assert (budget.huge_pages, dict(budget.settings)["shared_buffers"]) == (used, buffers)
    assert budget.huge_pages_needed == (32 if "huge_page_size" in settings else 7985) or not used
    share = 262144 if used else 512
    shared = size(budget, "shared_buffers")
    assert parts_of(budget)["page tables"] == pytest.approx(1008 * shared / share, abs=1)


def test_locked_pages_that_postgres_does_not_use_are_not_its_memory() -> None:
    plain = memory_budget(machine(64 * GIB, 16), "web", 100)
    for total, free in ((4096, 4096), (4096, 0)):
        locked = memory_budget(machine(64 * GIB, 16, **pages(total, free)), "web", 100)
        assert plain.budget_bytes - locked.budget_bytes == 8 * GIB
        assert "less 8 GB of huge pages that Postgres does not use" in locked.table[0]
    used = memory_budget(machine(64 * GIB, 16, **pages(16384, 12288)), "web", 100)
    assert used.huge_pages
    assert plain.budget_bytes - used.budget_bytes == 8 * GIB
    shared = sum(
        parts_of(used)[name]
        for name in ("shared_buffers", "wal_buffers", "other shared memory", "unused huge pages")
    )
    assert shared == pytest.approx(12288 * 2 * MIB, abs=4)


@pytest.mark.parametrize(("total", "cache"), [(9000, "44GB"), (16384, "38GB")])
def test_huge_pages_that_nobody_uses_cache_no_files(total: int, cache: str) -> None:
    """75 % of the budget, or what processes and those pages leave of it."""
    budget = memory_budget(machine(64 * GIB, 16, **pages(total, total)), "web", 1000, 18)
    assert budget.huge_pages
    assert dict(budget.settings)["effective_cache_size"] == cache
    kept = ("unused huge pages", "other shared memory", "backends", "page tables", "wal_buffers")
    others = sum(parts_of(budget).get(name, 0) for name in kept)
    assert size(budget, "effective_cache_size") <= budget.budget_bytes - others


def test_a_cgroup_does_not_count_huge_pages() -> None:
    here = machine(4 * GIB, in_cgroup=True)
    elsewhere = machine(4 * GIB, in_cgroup=True, **pages(4096, 0))
    assert memory_budget(here).settings == memory_budget(elsewhere).settings


def test_pages_that_the_server_holds_are_its_own() -> None:
    first = memory_budget(machine(64 * GIB, 16, **pages(8000, 8000)), "web", 1000, 18)
    taken = machine(64 * GIB, 16, **pages(8000, 8000 - 7800))
    again = memory_budget(taken, "web", 1000, 18, running=dict(first.settings))
    assert again.huge_pages
    assert again.settings == first.settings
    # Without a server that runs so they are somebody else's.
    assert not memory_budget(taken, "web", 1000, 18).huge_pages


@pytest.mark.parametrize(
    ("there", "ends"),
    [(pages(2000, 1500), " (of 2 MB) would be needed, and 1500 of 2000 are free"), ({}, " needed")],
)
def test_huge_pages_that_are_too_few_are_counted(there: dict[str, Any], ends: str) -> None:
    (line,) = [
        line
        for line in memory_budget(machine(64 * GIB, 16, **there), "web", 40).table
        if line.startswith("  huge pages: not used")
    ]
    assert line.endswith(ends)


def test_huge_pages_that_must_be_and_are_not_there() -> None:
    budget = memory_budget(
        machine(64 * GIB, 16, **pages(2000, 1500)), "web", 40, settings={"huge_pages": "on"}
    )
    needed = budget.huge_pages_needed
    assert budget.warnings == (
        f"huge_pages = on needs up to {needed} huge pages of 2 MB, and 1500 are free; with fewer"
        " than it asks for the server does not start: set vm.nr_hugepages to at least"
        f" {500 + needed}",
    )
    assert budget.table[-1] == f"  warning: {budget.warnings[0]}"


# (size of the filesystem, workload, settings, max_wal_size, min_wal_size)
WAL = [
    (None, "web", {}, "4GB", "1GB"),
    (100 * GIB, "dw", {}, "16GB", "4GB"),
    (20 * GIB, "web", {}, "4GB", "1GB"),
    (3 * GIB, "web", {}, "576MB", "144MB"),
    (160 * MIB, "web", {}, "32MB", "32MB"),
    (3 * GIB, "web", {"max_wal_size": "64MB"}, None, "32MB"),
    (3 * GIB, "web", {"min_wal_size": "80MB"}, "576MB", None),
]


@pytest.mark.parametrize(("wal_bytes", "workload", "settings", "most", "least"), WAL)
def test_wal_leaves_its_filesystem_room(
    wal_bytes: int | None, workload: str, settings: dict[str, Any], most: str, least: str
) -> None:
    found = {"wal_filesystem": {"path": "/wal", "size_bytes": wal_bytes}} if wal_bytes else {}
    budget = memory_budget(machine(64 * GIB, **found), workload, settings=settings)
    values = dict(budget.settings)
    assert (values.get("max_wal_size"), values.get("min_wal_size")) == (most, least)


def test_a_filesystem_too_small_for_wal() -> None:
    tiny = machine(GIB, wal_filesystem={"path": "/wal", "size_bytes": 100 * MIB})
    with pytest.raises(DoesNotFitError) as refusal:
        memory_budget(tiny, max_connections=20)
    assert str(refusal.value) == (
        "max_wal_size: a fifth of the WAL filesystem /wal is 20 MB, and Postgres takes nothing"
        " below 32 MB; give it a filesystem of at least 160 MB, or set max_wal_size in"
        " postgres_settings"
    )
    budget = memory_budget(tiny, max_connections=20, settings={"max_wal_size": "48MB"})
    assert budget.warnings == (
        "max_wal_size = 48MB in postgres_settings is more than a fifth of the WAL filesystem /wal,"
        " which has 100 MB",
    )


WORKERS = (
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "max_parallel_maintenance_workers",
)
# (/dev/shm, settings, workers in all, for a query, for maintenance, number of warnings)
SHM = [
    (None, {}, ("4", "4", "4"), 0),
    (32 * GIB, {}, ("4", "4", "4"), 0),
    # 200 x (up to 44 MB of work_mem + 5 MB for queues)
    (10 * GIB, {"maintenance_work_mem": "64MB"}, ("4", "4", "4"), 0),
    (int(7.5 * GIB), {"maintenance_work_mem": "64MB"}, ("4", "0", "4"), 1),
    (8 * GIB, {}, ("4", "0", "4"), 1),
    (2 * GIB, {}, ("4", "0", "0"), 2),
    (64 * MIB, {}, ("4", "0", "0"), 2),
    (0, {}, ("4", "0", "0"), 2),
    (0, {"dynamic_shared_memory_type": "mmap"}, ("4", "4", "4"), 0),
    # A session plans for workers, and takes their memory, also when there are none.
    (64 * MIB, {"max_parallel_workers": 0}, (None, "0", "0"), 2),
    (64 * MIB, {"max_parallel_workers_per_gather": 0}, ("4", None, "0"), 1),
    (64 * MIB, {"max_parallel_workers_per_gather": 2}, ("4", None, "0"), 2),
    (2 * GIB, {"work_mem": "1MB"}, ("4", "4", "0"), 1),
]


@pytest.mark.parametrize(("shm_bytes", "settings", "workers", "warnings"), SHM)
def test_parallel_workers_have_room_in_shm(
    shm_bytes: int | None,
    settings: dict[str, Any],
    workers: tuple[str | None, ...],
    warnings: int,
) -> None:
    found = {} if shm_bytes is None else {"shm_bytes": shm_bytes}
    budget = memory_budget(machine(32 * GIB, 8, **found), "web", 200, settings=settings)
    values = dict(budget.settings)
    assert tuple(values.get(name) for name in WORKERS) == workers
    assert len(budget.warnings) == warnings
    assert list(budget.table[len(budget.table) - warnings :]) == [
        f"  warning: {warning}" for warning in budget.warnings
    ]


def test_what_is_said_about_a_small_shm() -> None:
    small = machine(32 * GIB, 8, shm_bytes=256 * MIB)
    budget = memory_budget(small, "web", 200)
    assert budget.warnings == (
        "/dev/shm of 256 MB has no room for a parallel vacuum, which remembers up to 1.8 GB of dead"
        " rows there",
        "/dev/shm of 256 MB has no room for parallel queries: 200 connections may need 7.6 GB"
        " there; enlarge it (in a container: --shm-size), or lower work_mem",
    )
    bounds = {row.name: row.bound_by for row in budget.rows}
    assert [bounds[name] for name in WORKERS] == ["8 CPUs", "/dev/shm", "/dev/shm"]


# (settings, what work_mem is shared out to)
SHARED_TABLES = [
    ({}, "204 backends x 1 x 2"),
    ({"enable_parallel_hash": False}, "204 backends x 1 x 2"),
    ({"enable_parallel_hash": True}, "200 connections x 5 processes x 1 x 2"),
    ({"enable_parallel_hash": None}, "200 connections x 5 processes x 1 x 2"),
    (
        {"enable_parallel_hash": "yes", "max_parallel_workers_per_gather": 0},
        "204 backends x 1 x 2",
    ),
]


@pytest.mark.parametrize(("settings", "users"), SHARED_TABLES)
def test_hash_tables_of_planned_workers_count(settings: dict[str, Any], users: str) -> None:
    budget = memory_budget(machine(32 * GIB, 8), "web", 200, settings=settings)
    (row,) = [row for row in budget.rows if row.name == "work_mem"]
    assert row.formula == f"what is left / ({users})"
    assert budget.cost_bytes <= budget.budget_bytes
    chosen = dict(budget.settings).get("enable_parallel_hash")
    assert chosen == (None if settings else "off")


@pytest.mark.parametrize(
    ("storage", "cost", "concurrency"), [("ssd", "1.1", "200"), ("hdd", "4", "2")]
)
def test_storage(storage: str, cost: str, concurrency: str) -> None:
    values = dict(memory_budget(machine(GIB), max_connections=20, storage=storage).settings)
    assert (values["random_page_cost"], values["effective_io_concurrency"]) == (cost, concurrency)


SHARED = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
)


@pytest.mark.parametrize("connections", ["auto", 20])
def test_p8_a_cluster_shares_what_a_standby_needs(connections: int | str) -> None:
    machines = [machine(GIB, 2), machine(64 * GIB, 32), machine(2 * GIB, 12)]
    shared = []
    for own in machines:
        others = [other for other in machines if other is not own]
        budget = memory_budget(own, "web", connections, cluster=others)
        shared.append([dict(budget.settings)[name] for name in SHARED])
    # The smallest machine decides how many connections there are, the largest how many workers.
    alone = memory_budget(machines[0], "web", connections, settings={"max_worker_processes": 32})
    expected = [dict(alone.settings)["max_connections"], "32", "10", "0", "64"]
    assert shared == [expected] * 3


def test_p8_the_rest_is_each_machines_own() -> None:
    small, large = machine(GIB, 2), machine(64 * GIB, 32)
    alone = dict(memory_budget(large, "web", 20).settings)
    together = dict(memory_budget(large, "web", 20, cluster=[small]).settings)
    assert {name: together[name] for name in alone} == alone


def test_a_value_from_long_ago_does_not_stay() -> None:
    running = {"shared_buffers": "8GB", "work_mem": "1GB", "maintenance_work_mem": "nonsense"}
    fresh = memory_budget(machine(16 * GIB), "web", 100)
    assert memory_budget(machine(16 * GIB), "web", 100, running=running).settings == fresh.settings


def test_a_value_one_step_off_stays_and_says_so() -> None:
    fresh = dict(memory_budget(machine(16 * GIB), "web", 100).settings)
    running = {**fresh, "shared_buffers": "3328MB", "work_mem": "34MB"}
    budget = memory_budget(machine(16 * GIB), "web", 100, running=running)
    assert dict(budget.settings) == running
    row = {row.name: row for row in budget.rows}["shared_buffers"]
    assert (row.value, row.formula) == ("3328MB", "as it runs, one step from 3584MB")


@pytest.mark.parametrize(
    "change",
    [
        {"workload": "dw"},
        {"max_connections": 200},
        {"share": 0.5},
        {"reserved": "4GB"},
        {"resources": machine(64 * GIB)},
        {"settings": {"maintenance_work_mem": "4GB"}},
    ],
)
def test_changes_arrive_whatever_runs(change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"resources": machine(16 * GIB), "max_connections": 100}
    running = dict(memory_budget(**arguments).settings)
    fresh = memory_budget(**{**arguments, **change})
    again = memory_budget(**{**arguments, **change}, running=running)
    for name in ("shared_buffers", "work_mem"):
        wanted, got = size(fresh, name), size(again, name)
        assert abs(wanted - got) <= memory_sum.quantum(max(wanted, got), name)
