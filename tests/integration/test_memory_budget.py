# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of every major judge the memory budget: they take its settings, and need no more.

Nothing here needs the memory that it is about. POOLED_EXAMPLES sets how many configurations each
major gets besides the fixed ones; -s shows the smallest margins.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
from typing import Any, Callable

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._budget.memory.budget import (
    GIB,
    MIB,
    WORKLOADS,
    Budget,
    memory_budget,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.check import check_settings
from ansible_collections.pooled.postgres.plugins.module_utils._settings.definitions import (
    known_definition,
)

from .clusters import Cluster

EXAMPLES = int(os.environ.get("POOLED_EXAMPLES", "20"))
MEMORIES = (400 * MIB, 2 * GIB, 64 * GIB, 24 * 1024 * GIB)
CONNECTIONS = (10, 100, 1000, 12000)
# What users may set that takes shared memory, each with hostile values.
HOSTILE: dict[str, list[Any]] = {
    "shared_buffers": ["128kB", "1.5MB", "0.1GB", "3GB", None],
    "wal_buffers": ["-1", "64kB", "2047MB"],
    "max_worker_processes": [0, 8, 5000],
    "max_wal_senders": [0, 1000],
    "max_prepared_transactions": [0, 300, 10000],
    "max_locks_per_transaction": [10, 65, 1100, 10000],
    "max_pred_locks_per_transaction": [10, 65, 1100, 5000],
    "max_replication_slots": [0, 50000],
    "max_logical_replication_workers": [0, 50000],
    "track_activity_query_size": [100, 2000, "1MB"],
    "autovacuum_max_workers": [1, 300],
    "autovacuum_worker_slots": [1, 2000],
    "min_dynamic_shared_memory": ["1GB"],
    "transaction_buffers": ["128kB", "1GB"],
    "subtransaction_buffers": ["1GB"],
    "multixact_member_buffers": ["1GB"],
    "notify_buffers": ["1GB"],
    "serializable_buffers": ["100MB"],
    "commit_timestamp_buffers": ["200MB"],
    "io_max_concurrency": [-1, 1, 200, 1024],
    "io_max_combine_limit": ["8kB", "1MB"],
    "max_active_replication_origins": [0, 100000],
    "pg_stat_statements.max": [100, 2000000],
    "work_mem": ["64kB", "0.5MB"],
    "effective_cache_size": ["8kB", "1GB"],
    "maintenance_work_mem": ["1MB", "1e5"],
    "max_wal_size": ["32MB", "1TB"],
    "huge_pages": ["on", "off"],
}


def configurations(major: int) -> list[dict[str, Any]]:
    """Machines of all sizes with every workload, then with settings of all kinds."""
    workloads = itertools.cycle(WORKLOADS)
    found: list[dict[str, Any]] = [
        {"memory": memory, "max_connections": connections, "workload": next(workloads)}
        for memory, connections in itertools.product(MEMORIES, CONNECTIONS)
    ]
    found.append({"memory": 400 * MIB, "max_connections": "auto"})
    found.append({"memory": GIB, "max_connections": 20, "wal_bytes": 160 * MIB})
    known = {name: values for name, values in HOSTILE.items() if knows(major, name)}
    for name, values in known.items():
        found.append({"memory": 2**40, "max_connections": 1000, "settings": {name: values[-1]}})
    dice = random.Random(major)  # noqa: S311
    while len(found) < len(known) + len(MEMORIES) * len(CONNECTIONS) + 2 + EXAMPLES:
        names = dice.sample(sorted(known), dice.randint(0, 8))
        found.append(
            {
                "memory": int(GIB * 2 ** dice.uniform(-1.5, 14)),
                "max_connections": dice.choice([10, "auto", int(10 ** dice.uniform(1, 4.1))]),
                "workload": dice.choice(WORKLOADS),
                "cpus": dice.choice([1, 2, 7, 64, 512]),
                "settings": {name: dice.choice(known[name]) for name in names},
            }
        )
    return found


def knows(major: int, name: str) -> bool:
    return "." in name or known_definition(name, major) is not None


def sized(major: int, configuration: dict[str, Any]) -> Budget | None:
    wal_bytes = configuration.get("wal_bytes")
    resources: dict[str, Any] = {
        "memory_bytes": configuration["memory"],
        "cpus": configuration.get("cpus", 4),
    }
    if wal_bytes:
        resources["wal_filesystem"] = {"path": "/wal", "size_bytes": wal_bytes}
    try:
        return memory_budget(
            resources,
            configuration.get("workload", "web"),
            configuration["max_connections"],
            major,
            settings=configuration.get("settings"),
        )
    except ValueError:
        return None


@pytest.fixture
def stopped(major: int, make_cluster: Callable[[int], Cluster]) -> Cluster:
    """A cluster whose server does not run, with nothing in its postgresql.conf."""
    cluster = make_cluster(major)
    cluster.stop()
    (cluster.data / "postgresql.conf").write_text(
        f"listen_addresses = ''\nunix_socket_directories = '{cluster.socket_directory}'\n"
        "include_if_exists = 'budget.conf'\n"
    )
    return cluster


def settled(cluster: Cluster, configuration: dict[str, Any], budget: Budget) -> None:
    """Give the cluster what was chosen, and what the user said."""
    user = check_settings(configuration.get("settings") or {}, cluster.major)
    texts = {**user, **dict(budget.settings), "shared_preload_libraries": "pg_stat_statements"}
    path = cluster.data / "budget.conf"
    path.write_text("".join(f"{name} = '{text}'\n" for name, text in texts.items()))


def run(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    user = cluster.user
    demoted: dict[str, Any] = (
        {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    )
    return subprocess.run(
        [cluster.bindir / "postgres", "-D", cluster.data, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        cwd="/",
        text=True,
        timeout=30,
        **demoted,
    )


def requested_bytes(cluster: Cluster) -> int:
    """The shared memory that a starting server asks for, whatever its major.

    It has accepted all of its settings by then. It does not get the memory, because there are no
    huge pages, and says in bytes what it asked for, which it rounds to whole pages.
    """
    started = run(cluster, "-c", "huge_pages=on", "-c", "log_min_messages=fatal")
    found = re.search(r"currently ([0-9]+) bytes", started.stderr)
    assert found, started.stderr
    return int(found.group(1))


@pytest.fixture(autouse=True)
def _no_huge_pages() -> None:
    """The servers here must not get what they ask for."""
    with open("/proc/meminfo", encoding="ascii") as handle:
        free = re.search(r"HugePages_Free:\s+([0-9]+)", handle.read())
    if free and int(free.group(1)):
        pytest.skip("this machine has huge pages, which the servers would get")


def test_p2_p3_servers_take_the_settings_and_need_no_more(stopped: Cluster) -> None:
    major = stopped.major
    margins: list[tuple[int, str]] = []
    refused = 0
    for configuration in configurations(major):
        budget = sized(major, configuration)
        if budget is None:
            refused += 1
            continue
        settled(stopped, configuration, budget)
        needs = requested_bytes(stopped)
        name = "shared_memory_size" if major >= 15 else "shared_buffers"
        asked = run(stopped, "-C", name)
        assert asked.returncode == 0, (configuration, asked.stderr)
        if major >= 15:
            # One MB for rounding up to whole ones, and two for a huge page.
            assert abs(int(asked.stdout) * MIB - needs) <= 3 * MIB, configuration
            needs = int(asked.stdout) * MIB
        margins.append((budget.shared_bytes - needs, str(configuration)))
    least = min(margins)
    print(
        f"\nPostgres {major}: {len(margins)} taken, {refused} refused before,"
        f" smallest margin {least[0] / MIB:.1f} MB with {least[1]}"
    )
    assert least[0] >= 0, least
    assert len(margins) >= 30
