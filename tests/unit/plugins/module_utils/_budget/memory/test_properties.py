# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every memory budget, over machines and settings of all kinds.

POOLED_EXAMPLES sets how many inputs each property gets. With --hypothesis-show-statistics the
run says how many of them were refused.
"""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from hypothesis import assume, event, given, settings, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.budget import (
    GIB,
    KIB,
    MIB,
    WORKLOADS,
    Budget,
    DoesNotFitError,
    memory_budget,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.check import (
    check_settings,
    check_settings_and_nulls,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    known_definition,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.values import (
    canonical_setting,
)

EXAMPLES = int(os.environ.get("POOLED_EXAMPLES", "50"))
BASE_UNITS = {"kB": KIB, "8kB": 8 * KIB, "MB": MIB}
TEXT_UNITS = {"kB": KIB, "MB": MIB, "GB": GIB}

properties = settings(max_examples=EXAMPLES)


def size(budget: Budget, name: str) -> int:
    """Bytes of a setting, read independently of the code under test."""
    match = re.fullmatch(r"([0-9]+)(kB|MB|GB)", dict(budget.settings)[name])
    assert match, dict(budget.settings)[name]
    return int(match.group(1)) * TEXT_UNITS[match.group(2)]


def machine(
    mebibytes: int, cpus: int, in_cgroup: bool, bytes_off: int = 0, **more: Any
) -> dict[str, Any]:
    return {
        "memory_bytes": mebibytes * MIB + bytes_off,
        "memory_bound_by": "MemTotal",
        "cpus": cpus,
        "in_cgroup": in_cgroup,
        **more,
    }


def with_pages(resources: dict[str, Any], locked: float, free: float) -> dict[str, Any]:
    total = int(resources["memory_bytes"] * locked) // (2 * MIB)
    pages = {"page_bytes": 2 * MIB, "total": total, "free": int(total * free)}
    return {**resources, "huge_pages": pages}


memories = st.one_of(
    st.integers(256, 2048), st.integers(2048, 65536), st.integers(65536, 24 * 1024 * 1024)
)
bare_hosts = st.builds(
    machine, memories, st.integers(1, 512), st.booleans(), bytes_off=st.integers(0, MIB - 1)
)
hosts = st.one_of(
    bare_hosts,
    st.builds(with_pages, bare_hosts, st.floats(0, 0.9), st.floats(0, 1)),
    st.builds(
        lambda resources, more: {**resources, **more},
        bare_hosts,
        st.fixed_dictionaries(
            {},
            optional={
                "shm_bytes": st.one_of(st.just(0), st.integers(MIB, 64 * GIB)),
                "wal_filesystem": st.builds(
                    lambda size_bytes: {"path": "/wal", "size_bytes": size_bytes},
                    st.integers(MIB, 1024 * GIB),
                ),
                "overcommit_memory": st.sampled_from([0, 1, 2]),
                "commit_limit_bytes": st.integers(128 * MIB, 64 * GIB),
            },
        ),
    ),
)
# Values as people write them, in all units, fractions among them; null is the server's default.
explicit = st.fixed_dictionaries(
    {},
    optional={
        "shared_buffers": st.one_of(
            st.none(),
            st.integers(16, 4 * GIB // 8192),
            st.sampled_from(["128kB", "0.1GB", "1.5MB", "7.5TB", "104857600B"]),
        ),
        "work_mem": st.sampled_from([None, "64kB", "0.5MB", 4096, "4MB", "256MB", "2047GB"]),
        "maintenance_work_mem": st.sampled_from([None, "1MB", "2GB", 1024, "1e5"]),
        "autovacuum_work_mem": st.sampled_from([None, "-1", -1, "1GB", "64kB"]),
        "effective_cache_size": st.sampled_from([None, "8kB", "1GB", "1TB"]),
        "temp_buffers": st.sampled_from([None, "800kB", "64MB"]),
        "wal_buffers": st.sampled_from([None, "-1", "64MB", "2000MB", 8]),
        "logical_decoding_work_mem": st.sampled_from([None, "64kB", "1GB"]),
        "max_connections": st.integers(4, 12000),
        "max_worker_processes": st.integers(0, 5000),
        "max_parallel_workers": st.integers(0, 1024),
        "max_parallel_workers_per_gather": st.integers(0, 64),
        "enable_parallel_hash": st.sampled_from([True, False, "on", None]),
        "max_wal_senders": st.integers(0, 1000),
        "max_prepared_transactions": st.integers(0, 5000),
        "max_locks_per_transaction": st.one_of(st.none(), st.integers(10, 10000)),
        "max_pred_locks_per_transaction": st.integers(10, 10000),
        "max_replication_slots": st.integers(0, 10000),
        "track_activity_query_size": st.sampled_from([None, 100, "1MB", "16kB"]),
        "autovacuum_max_workers": st.integers(1, 200),
        "hash_mem_multiplier": st.sampled_from([None, 1, 2.0, "8", "1e3"]),
        "huge_pages": st.sampled_from(["on", "off", "try", True, None]),
        "wal_level": st.sampled_from(["replica", "logical", "LOGICAL"]),
        "max_wal_size": st.sampled_from([None, "32MB", "1TB"]),
        "min_wal_size": st.sampled_from([None, "32MB", "1GB"]),
        "dynamic_shared_memory_type": st.sampled_from(["posix", "mmap"]),
        "superuser_reserved_connections": st.integers(0, 9),
    },
)
sensible = st.fixed_dictionaries(
    {},
    optional={
        "work_mem": st.sampled_from([None, "4MB", "1MB"]),
        "shared_buffers": st.sampled_from(["64MB", "0.5GB"]),
        "max_wal_size": st.sampled_from([None, "1GB"]),
        "huge_pages": st.sampled_from(["on", "off"]),
    },
)
connections = st.one_of(st.integers(10, 200), st.integers(200, 12000), st.just("auto"))
requests = st.fixed_dictionaries(
    {
        "resources": hosts,
        "workload": st.sampled_from(WORKLOADS),
        "max_connections": connections,
        "major": st.integers(13, 18),
    },
    optional={
        "share": st.floats(0.05, 1.0),
        "reserved": st.sampled_from(["0", "100MB", "0.5 GB", "8GB"]),
        "settings": st.one_of(explicit, sensible),
        "storage": st.sampled_from(["ssd", "hdd"]),
        "cluster": st.lists(bare_hosts, max_size=2),
    },
)
# Without the user's settings, for what is said of the formula's own values.
plain = st.fixed_dictionaries(
    {
        "resources": bare_hosts,
        "workload": st.sampled_from(WORKLOADS),
        "max_connections": st.one_of(st.integers(10, 200), st.integers(200, 12000)),
        "major": st.integers(13, 18),
        "share": st.floats(0.05, 1.0),
    }
)


def result(arguments: dict[str, Any]) -> Budget | None:
    """The budget, or None; counted."""
    budget = sized(arguments)
    event("sized" if budget else "refused")
    return budget


def sized(arguments: dict[str, Any]) -> Budget | None:
    """The budget; None when it was refused in so many words."""
    try:
        budget = memory_budget(**arguments)
    except DoesNotFitError as refusal:
        assert re.search(
            "(does|do) not fit|alone is more than|max_wal_size: a fifth of", str(refusal)
        )
        return None
    except ValueError as refusal:
        # A server with so many processes does not start, whatever its memory.
        assert re.match("max_connections = [0-9]+: (Postgres needs|makes)", str(refusal))
        return None
    return budget


@properties
@given(requests)
def test_p1_refused_or_within_the_budget(arguments: dict[str, Any]) -> None:
    budget = result(arguments)
    if budget is None:
        return
    assert budget.cost_bytes <= budget.budget_bytes
    assert budget.cost_bytes == sum(part.size_bytes for part in budget.parts)
    assert budget.budget_bytes <= arguments["resources"]["memory_bytes"]
    assert all(part.size_bytes >= 0 for part in budget.parts)


@properties
@given(requests)
def test_p1_the_sum_is_that_of_the_settings(arguments: dict[str, Any]) -> None:
    """Made again out of the settings by the formula in docs/sizing.md."""
    budget = result(arguments)
    assume(budget is not None)
    assert budget is not None
    major, workload = arguments["major"], arguments["workload"]

    def value(name: str) -> float:
        text = {**given_texts(arguments), **dict(budget.settings)}.get(name)
        definition = known_definition(name, major)
        assert definition
        default = "128MB" if name == "shared_buffers" else definition.default
        number = float(canonical_setting(definition, default if text is None else text))
        return number * BASE_UNITS.get(definition.unit, 1) if number >= 0 else number

    parallel = arguments.get("settings", {}).get("max_parallel_workers")
    if parallel is None:
        cpus = min(arguments["resources"]["cpus"], 1024)
        parallel = cpus if workload in ("dw", "mixed") else (cpus + 1) // 2
    active = value("max_connections") + parallel
    working = active
    if shares_hash_tables(arguments):
        working = max(active, value("max_connections") * (planned_workers(arguments) + 1))
    workers = value("autovacuum_max_workers")
    slots = value("autovacuum_worker_slots") if major >= 18 else workers
    processes = (
        value("max_connections")
        + value("max_worker_processes")
        + value("max_wal_senders")
        + 1
        + slots
        + value("max_prepared_transactions")
    )
    buffers = value("shared_buffers")
    wal = value("wal_buffers")
    wal = min(max(buffers / 32, 64 * KIB), 16 * MIB) if wal < 0 else wal
    vacuum = value("autovacuum_work_mem")
    vacuum = value("maintenance_work_mem") if vacuum < 0 else vacuum
    nodes = {"mixed": 2, "dw": 4}.get(workload, 1)
    hashes = value("hash_mem_multiplier")
    decoders = value("max_wal_senders") if is_logical(arguments) else 0
    per_process = 48 * KIB + 0.42 * KIB * value("max_locks_per_transaction")
    per_process += 8 * KIB if major >= 18 else 0
    cost = (
        1.03 * buffers
        + wal
        + 48 * MIB
        + processes * per_process
        + active * buffers / (262144 if budget.huge_pages else 512)
        + (active + slots) * 5 * MIB
        + value("max_connections") * value("temp_buffers")
        + value("maintenance_work_mem")
        + vacuum * workers
        + value("logical_decoding_work_mem") * decoders
        + working * nodes * hashes * value("work_mem")
    )
    others = ("more shared memory", "unused huge pages")
    more = sum(part.size_bytes for part in budget.parts if part.name in others)
    assert budget.cost_bytes == pytest.approx(cost + more, rel=1e-6)


def shares_hash_tables(arguments: dict[str, Any]) -> bool:
    """Whether the user asks for them; null is the server's default, which is on."""
    name = "enable_parallel_hash"
    return name in arguments.get("settings", {}) and given_texts(arguments)[name] in (None, "on")


def planned_workers(arguments: dict[str, Any]) -> int:
    """Workers for one query that the CPUs allow, or the user."""
    said = arguments.get("settings", {}).get("max_parallel_workers_per_gather")
    if said is not None:
        return int(said)
    half = min(arguments["resources"]["cpus"], 1024) // 2
    return half if arguments["workload"] == "dw" else min(half, 4)


def given_texts(arguments: dict[str, Any]) -> dict[str, str | None]:
    checked = check_settings_and_nulls(arguments.get("settings", {}), arguments["major"])
    return dict(checked)


def is_logical(arguments: dict[str, Any]) -> bool:
    return str(arguments.get("settings", {}).get("wal_level", "")).lower() == "logical"


@properties
@given(requests)
def test_p2_every_value_is_valid_for_the_major(arguments: dict[str, Any]) -> None:
    """By the catalog; tests/integration asks the servers."""
    budget = result(arguments)
    assume(budget is not None)
    assert budget is not None
    chosen = dict(budget.settings)
    assert check_settings(chosen, arguments["major"]) == chosen
    if "max_wal_size" in chosen:
        assert size(budget, "max_wal_size") >= 32 * MIB
    if "min_wal_size" in chosen:
        assert size(budget, "min_wal_size") >= 32 * MIB


@properties
@given(requests)
def test_p4_the_users_word_wins_and_counts(arguments: dict[str, Any]) -> None:
    budget = result(arguments)
    assume(budget is not None)
    assert budget is not None
    given_settings = given_texts(arguments)
    assert not set(dict(budget.settings)) & set(given_settings)
    rows = {row.name: row.value for row in budget.rows}
    for name in set(given_settings) & set(rows):
        text = given_settings[name]
        assert rows[name] == ("server's default" if text is None else text)
    if "shared_buffers" not in given_settings:
        assert size(budget, "shared_buffers") <= max(0.4 * budget.budget_bytes, 128 * KIB)
        if "effective_cache_size" not in given_settings:
            assert size(budget, "shared_buffers") <= size(budget, "effective_cache_size")


@properties
@given(requests, st.integers(1, 4096))
def test_p4_what_runs_stays_within_the_same_bound(
    arguments: dict[str, Any], running_mebibytes: int
) -> None:
    running = {"shared_buffers": f"{running_mebibytes}MB", "max_connections": "20"}
    budget = result({**arguments, "running": running})
    assume(budget is not None)
    assert budget is not None
    if "shared_buffers" not in given_texts(arguments):
        assert size(budget, "shared_buffers") <= max(0.4 * budget.budget_bytes, 128 * KIB)


@properties
@given(requests, st.integers(1, 64), st.booleans())
def test_p5_only_the_limit_matters(arguments: dict[str, Any], larger: int, pages: bool) -> None:
    bare = ("memory_bytes", "memory_bound_by", "cpus", "shm_bytes", "wal_filesystem")
    here = {name: arguments["resources"][name] for name in bare if name in arguments["resources"]}
    here["in_cgroup"] = True
    elsewhere = {**here, "commit_limit_bytes": larger * GIB, "overcommit_memory": 0}
    if pages:
        # They are the host's, and none of them is free.
        elsewhere["huge_pages"] = {"page_bytes": 2 * MIB, "total": larger * 512, "free": 0}
    first = result({**arguments, "resources": here})
    second = result({**arguments, "resources": elsewhere})
    assert (first is None) == (second is None)
    if first and second:
        assert (first.settings, first.parts) == (second.settings, second.parts)


SIZES = ("shared_buffers", "work_mem", "maintenance_work_mem")


def sizes(budget: Budget | None, names: tuple[str, ...]) -> list[int]:
    return [0 if budget is None else size(budget, name) for name in names]


@properties
@given(plain, st.one_of(st.integers(1, MIB), st.integers(MIB, 4 * GIB)))
def test_p6_more_memory_lowers_nothing(arguments: dict[str, Any], more: int) -> None:
    here = arguments["resources"]
    bigger = {**arguments, "resources": {**here, "memory_bytes": here["memory_bytes"] + more}}
    less, much = sizes(result(arguments), SIZES), sizes(result(bigger), SIZES)
    assert all(first <= second for first, second in zip(less, much))


@pytest.mark.parametrize("workload", WORKLOADS)
def test_p6_where_the_share_of_shared_buffers_changes(workload: str) -> None:
    last = [0, 0, 0]
    for mebibytes in range(900, 2000, 3):
        arguments = {"resources": machine(mebibytes, 4, False), "workload": workload}
        here = sizes(sized({**arguments, "max_connections": 20}), SIZES)
        assert all(first <= second for first, second in zip(last, here)), mebibytes
        last = here


@properties
@given(plain, st.integers(1, 500))
def test_p6_more_connections_raise_nothing(arguments: dict[str, Any], more: int) -> None:
    busier = {**arguments, "max_connections": arguments["max_connections"] + more}
    few, many = sizes(result(arguments), SIZES[:2]), sizes(result(busier), SIZES[:2])
    assert all(first >= second for first, second in zip(few, many))


@properties
@given(plain, st.integers(1, 4096))
def test_p6_more_tenants_raise_nothing(arguments: dict[str, Any], more: int) -> None:
    crowded = {**arguments, "reserved": f"{more}MB"}
    alone, among = sizes(result(arguments), SIZES), sizes(result(crowded), SIZES)
    assert all(first >= second for first, second in zip(alone, among))


@properties
@given(requests, st.integers(-16 * MIB, 16 * MIB))
def test_p7_a_memtotal_that_is_a_little_off_changes_nothing(
    arguments: dict[str, Any], off: int
) -> None:
    first = result(arguments)
    # Servers of a cluster must come to the same number, whatever runs on each.
    assume(arguments["max_connections"] != "auto" or not arguments.get("cluster"))
    assume(first is not None)
    assert first is not None
    resources = arguments["resources"]
    limit = resources.get("commit_limit_bytes")
    more = {} if limit is None else {"commit_limit_bytes": limit + off}
    memory = resources["memory_bytes"] + off
    other = {**arguments, "resources": {**resources, **more, "memory_bytes": memory}}
    # The managed file holds what the user decides too.
    texts = {name: text for name, text in given_texts(arguments).items() if text is not None}
    second = result({**other, "running": {**dict(first.settings), **texts}})
    assert second is not None
    assert second.settings == first.settings
    assert second.cost_bytes <= second.budget_bytes


@properties
@given(plain, st.lists(st.integers(-16 * MIB, 16 * MIB), min_size=1, max_size=8))
def test_p7_what_runs_does_not_wander_off(arguments: dict[str, Any], steps: list[int]) -> None:
    """However memory walks, each size is within one step of what it would be afresh."""
    running: dict[str, str] = {}
    resources = arguments["resources"]
    budget = fresh = None
    for step in [0, *steps]:
        resources = {**resources, "memory_bytes": resources["memory_bytes"] + step}
        fresh = result({**arguments, "resources": resources})
        budget = result({**arguments, "resources": resources, "running": running})
        if budget is None:
            return
        running = dict(budget.settings)
    assume(fresh is not None)
    assert budget is not None and fresh is not None
    assert budget.cost_bytes <= budget.budget_bytes
    near = [
        result({**arguments, "resources": {**resources, "memory_bytes": memory}})
        for memory in (
            resources["memory_bytes"] - 16 * MIB,
            resources["memory_bytes"] + 16 * MIB,
        )
    ]
    for name in ("shared_buffers", "work_mem", "maintenance_work_mem"):
        kept, wanted = size(budget, name), size(fresh, name)
        low = size(near[0], name) if near[0] else 0
        high = size(near[1], name) if near[1] else wanted
        # A step is at most an eighth of the size, and at least the smallest there is.
        least = {"shared_buffers": 8 * MIB, "work_mem": 64 * KIB}.get(name, MIB)
        step = max(max(kept, wanted) / 8, least)
        assert min(low, wanted - step) <= kept <= max(high, wanted + step)


@properties
@given(requests, st.dictionaries(st.sampled_from(SIZES), st.integers(64, 2**31 - 1)))
def test_p7_whatever_runs_the_sum_holds(arguments: dict[str, Any], running: dict[str, int]) -> None:
    texts = {name: f"{kibibytes}kB" for name, kibibytes in running.items()}
    budget = result({**arguments, "running": texts})
    if budget is not None:
        assert budget.cost_bytes <= budget.budget_bytes


@properties
@given(requests)
def test_p8_one_cluster_has_one_number(arguments: dict[str, Any]) -> None:
    """Whichever server of a cluster is asked, what they must share is the same."""
    machines = [arguments["resources"], *arguments.get("cluster", [])]
    names = ("max_connections", "max_worker_processes", "max_wal_senders")
    found = set()
    for index, own in enumerate(machines):
        others = machines[:index] + machines[index + 1 :]
        budget = result({**arguments, "resources": own, "cluster": others})
        if budget is not None:
            found.add(tuple(dict(budget.settings).get(name) for name in names))
    assert len(found) <= 1


@properties
@given(requests)
def test_p9_wal_and_shm_have_room(arguments: dict[str, Any]) -> None:
    budget = result(arguments)
    assume(budget is not None)
    assert budget is not None
    resources = arguments["resources"]
    wal = resources.get("wal_filesystem")
    if wal and "max_wal_size" in dict(budget.settings):
        assert size(budget, "max_wal_size") <= 0.2 * wal["size_bytes"]
    values = {**given_texts(arguments), **dict(budget.settings)}
    posix = values.get("dynamic_shared_memory_type", "posix") == "posix"
    if "shm_bytes" not in resources or not posix:
        return
    rows = {row.name: row.value for row in budget.rows}
    per_query, connections = (
        int(rows[name]) for name in ("max_parallel_workers_per_gather", "max_connections")
    )
    work_mem = next(part for part in budget.parts if part.name == "work_mem").size_bytes
    multiplier = float(values.get("hash_mem_multiplier") or (2 if arguments["major"] >= 15 else 1))
    users = connections + parallel_of(arguments)
    if shares_hash_tables(arguments):
        users = max(users, connections * (planned_workers(arguments) + 1))
    bitmaps = connections * work_mem / users / multiplier
    if per_query and bitmaps > resources["shm_bytes"]:
        # Only the user's own number, and not without a word.
        assert "max_parallel_workers_per_gather" in given_texts(arguments)
        assert any("/dev/shm" in warning for warning in budget.warnings)


def parallel_of(arguments: dict[str, Any]) -> int:
    """Workers that the CPUs allow, or the user."""
    said = arguments.get("settings", {}).get("max_parallel_workers")
    if said is not None:
        return int(said)
    cpus = arguments["resources"]["cpus"]
    return cpus if arguments["workload"] in ("dw", "mixed") else (cpus + 1) // 2


@properties
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


@properties
@given(requests)
def test_huge_pages_that_are_needed_are_enough(arguments: dict[str, Any]) -> None:
    """A host with as many as the budget says gets its shared memory from them."""
    budget = result(arguments)
    assume(budget is not None and "huge_pages" not in arguments.get("settings", {}))
    assert budget is not None
    assert budget.huge_pages_needed * budget.huge_page_bytes >= budget.shared_bytes or (
        not budget.huge_pages
    )
    found = arguments["resources"].get("huge_pages") or {"page_bytes": 2 * MIB, "total": 0}
    used = found["total"] - found.get("free", 0)
    pages = {
        "page_bytes": 2 * MIB,
        "total": used + budget.huge_pages_needed,
        "free": budget.huge_pages_needed,
    }
    rows = {row.name: row.value for row in budget.rows}
    same = {**arguments, "max_connections": rows["max_connections"]}
    again = result({**same, "resources": {**arguments["resources"], "huge_pages": pages}})
    if again is not None:
        assert again.huge_pages


@pytest.mark.parametrize("workload", WORKLOADS)
def test_p7_on_small_machines_where_a_few_megabytes_weigh(workload: str) -> None:
    for mebibytes in range(300, 2400, 100):
        for off in (-16, -3, 5, 16):
            arguments = {"workload": workload, "max_connections": 12, "major": 14}
            first = sized({**arguments, "resources": machine(mebibytes, 2, False)})
            if first is None:
                continue
            running = dict(first.settings)
            moved = machine(mebibytes + off, 2, False)
            second = sized({**arguments, "resources": moved, "running": running})
            assert second is not None and dict(second.settings) == running, (mebibytes, off)
            assert second.cost_bytes <= second.budget_bytes
