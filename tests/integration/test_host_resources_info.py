# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module on this machine, and on machines of which only the files are told."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import ini
from ansible_collections.pooled.postgres.plugins.modules import host_resources_info as module

GIB = 2**30
MEMINFO = (
    "MemTotal:       67108864 kB\nCommitLimit:    40000000 kB\nHugePages_Total:    1024\n"
    "HugePages_Free:     1000\nHugePages_Rsvd:        0\nHugepagesize:       2048 kB\n"
)
V2 = "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:29 /engine/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
    "32 23 0:32 /engine/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
    "33 23 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
V1_FIRST = "9:name=systemd:/engine/abc/init.scope\n4:memory:/engine/abc\n1:cpu:/engine/abc\n0::/\n"
SERVICE = "/system.slice/system-postgresql.slice/postgresql@17-main.service"
IN_FORCE = {"Id": "postgresql@17-main.service", "Slice": "system-postgresql.slice"}
HOST = {"proc/meminfo": MEMINFO, "proc/self/mountinfo": V2, "proc/1/cgroup": "0::/init.scope\n"}
SESSION = {
    "proc/self/cgroup": "0::/user.slice/session-3.scope\n",
    "sys/fs/cgroup/user.slice/memory.max": str(GIB),
    "sys/fs/cgroup/user.slice/session-3.scope/memory.max": str(GIB),
    "sys/fs/cgroup/user.slice/session-3.scope/cpu.max": "10000 100000",
    "sys/fs/cgroup/init.scope/memory.max": str(GIB),
}
CONTAINER = {
    "proc/meminfo": MEMINFO,
    "proc/self/mountinfo": V1,
    "proc/1/cgroup": V1_FIRST,
    "sys/fs/cgroup/memory/memory.limit_in_bytes": str(GIB),
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
}
DROP_IN = "etc/systemd/system/postgresql@.service.d/limits.conf"
NOT_YET = "postgresql@17-main.service (not in force yet)"

# Files, what systemctl shows, then memory and what bound it, CPUs of 8 and what bound them.
MACHINES = [
    pytest.param(HOST, (), (64 * GIB, "MemTotal", 8, "CPU affinity"), id="host"),
    pytest.param({**HOST, **SESSION}, (), (64 * GIB, "MemTotal", 8, "CPU affinity"), id="session"),
    pytest.param(
        {
            **HOST,
            **SESSION,
            f"sys/fs/cgroup{SERVICE}/memory.max": str(8 * GIB),
            "sys/fs/cgroup/system.slice/memory.high": str(4 * GIB),
            "sys/fs/cgroup/system.slice/cpu.max": "250000 100000",
            f"sys/fs/cgroup{SERVICE}/cpuset.cpus.effective": "0-3\n",
        },
        ({**IN_FORCE, "ControlGroup": SERVICE},),
        (
            4 * GIB,
            "memory.high of /sys/fs/cgroup/system.slice",
            3,
            "cpu.max of /sys/fs/cgroup/system.slice",
        ),
        id="slice around the service",
    ),
    pytest.param(
        {**HOST, f"sys/fs/cgroup{SERVICE}/cpuset.cpus.effective": "0-3\n"},
        ({**IN_FORCE, "ControlGroup": SERVICE, "MemoryMax": str(64 * GIB)},),
        (64 * GIB, "MemTotal", 4, f"cpuset.cpus.effective of /sys/fs/cgroup{SERVICE}"),
        id="limit as high as the host",
    ),
    pytest.param(
        {**HOST, "proc/1/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": str(2 * GIB)},
        (),
        (2 * GIB, "memory.max of /sys/fs/cgroup", 8, "CPU affinity"),
        id="container of version 2",
    ),
    pytest.param(
        CONTAINER,
        (),
        (
            GIB,
            "memory.limit_in_bytes of /sys/fs/cgroup/memory",
            2,
            "cpu.cfs_quota_us of /sys/fs/cgroup/cpu",
        ),
        id="container of version 1",
    ),
    pytest.param(
        {
            **CONTAINER,
            "sys/fs/cgroup/memory/memory.stat": f"rss 0\nhierarchical_memory_limit {GIB // 2}\n",
        },
        (),
        (
            GIB // 2,
            "memory.limit_in_bytes above /sys/fs/cgroup/memory",
            2,
            "cpu.cfs_quota_us of /sys/fs/cgroup/cpu",
        ),
        id="limit around a container of version 1",
    ),
    pytest.param(
        HOST,
        (
            IN_FORCE,
            {"Id": "system.slice", "MemoryMax": str(3 * GIB), "CPUQuotaPerSecUSec": "500ms"},
        ),
        (3 * GIB, "MemoryMax of system.slice", 1, "CPUQuota of system.slice"),
        id="service that is stopped",
    ),
    pytest.param(
        {**HOST, DROP_IN: "[Service]\nMemoryMax=25%\nAllowedCPUs=0-1\n"},
        (),
        (16 * GIB, f"MemoryMax of {NOT_YET}", 2, f"AllowedCPUs of {NOT_YET}"),
        id="drop-in before the package",
    ),
    pytest.param(
        {
            **HOST,
            DROP_IN: "[Service]\nSlice=db-pg.slice\n",
            "etc/systemd/system/db.slice.d/limits.conf": "[Slice]\nMemoryMax=5G\n",
        },
        (),
        (5 * GIB, "MemoryMax of db.slice (not in force yet)", 8, "CPU affinity"),
        id="drop-in of the slice around a slice to come",
    ),
    pytest.param(
        {**HOST, DROP_IN: "[Service]\nMemoryMax=1G\n"},
        ({**IN_FORCE, "MemoryMax": str(2 * GIB)},),
        (GIB, f"MemoryMax of {NOT_YET}", 8, "CPU affinity"),
        id="lowered and not in force yet",
    ),
    pytest.param(
        {**HOST, DROP_IN: "[Service]\nMemoryMax=3G\n"},
        ({**IN_FORCE, "MemoryMax": str(2 * GIB)},),
        (2 * GIB, "MemoryMax of postgresql@17-main.service", 8, "CPU affinity"),
        id="raised and not in force yet",
    ),
    pytest.param(
        {
            **HOST,
            DROP_IN: "[Service]\nMemoryMax=1G\n",
            "etc/systemd/system/postgresql@17-main.service.d/limits.conf": "[Service]\n",
            "usr/lib/systemd/system/postgresql@.service": "[Service]\nMemoryMax=6G\n",
        },
        (),
        (6 * GIB, f"MemoryMax of {NOT_YET}", 8, "CPU affinity"),
        id="drop-in hidden by the instance's of the same name",
    ),
]


@pytest.fixture
def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]]
) -> Callable[..., dict[str, Any]]:
    """Run the module on a machine with these files, on which systemctl shows these units."""

    def run(files: dict[str, str], units: tuple[dict[str, str], ...] = ()) -> dict[str, Any]:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        read = module.text_of

        def text_of(path: str) -> str:
            return read(path if path.startswith(str(tmp_path)) else f"{tmp_path}{path}")

        def shown_units(_module: Any, names: Any) -> tuple[dict[str, str], ...]:
            return tuple(unit for unit in units if unit["Id"] in names)

        directories = tuple(f"{tmp_path}{path}" for path in module.DIRECTORIES)
        monkeypatch.setattr(module, "text_of", text_of)
        monkeypatch.setattr(module, "shown_units", shown_units)
        monkeypatch.setattr(module, "DIRECTORIES", directories)
        monkeypatch.setattr(module, "affinity", lambda: set(range(8)))
        monkeypatch.setattr(module, "clusters_configured", lambda _module: [])
        found: dict[str, Any] = run_module("host_resources_info", {"version": "17"})["resources"]
        return found

    return run


@pytest.mark.parametrize(("files", "units", "expected"), MACHINES)
def test_what_binds(
    files: dict[str, str],
    units: tuple[dict[str, str], ...],
    expected: tuple[int, str, int, str],
    told: Callable[..., dict[str, Any]],
) -> None:
    found = told(files, units)
    names = ("memory_bytes", "memory_bound_by", "cpus", "cpus_bound_by")
    assert tuple(found[name] for name in names) == expected
    assert found["in_cgroup"] == (found["memory_bytes"] < 64 * GIB)


def test_percent_is_of_a_container_of_version_2(told: Callable[..., dict[str, Any]]) -> None:
    container = {**HOST, "proc/1/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": str(2 * GIB)}
    found = told({**container, DROP_IN: "[Service]\nMemoryMax=50%\n"})
    assert found["memory_bytes"] == GIB


def test_huge_pages_and_their_cgroup(told: Callable[..., dict[str, Any]]) -> None:
    assert told(HOST)["huge_pages"] == {"page_bytes": 2097152, "total": 1024, "free": 1000}
    found = told({"sys/fs/cgroup/hugetlb.2MB.max": str(GIB)})
    assert found["huge_pages"] == {"page_bytes": 2097152, "total": 512, "free": 512}


def test_commit_limit(told: Callable[..., dict[str, Any]]) -> None:
    found = told({**HOST, "proc/sys/vm/overcommit_memory": "2\n"})
    assert (found["commit_limit_bytes"], found["overcommit_memory"]) == (40000000 * 1024, 2)


def meminfo_number(name: str) -> int:
    """A number of /proc/meminfo, read by other means."""
    command = ["sed", "-n", rf"s/^{name}: *\([0-9]*\).*/\1/p", "/proc/meminfo"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_this_machine(run_module: Callable[..., dict[str, Any]]) -> None:
    result = run_module("host_resources_info", {})
    found = result["resources"]
    assert not result["changed"]
    assert 0 < found["memory_bytes"] <= 1024 * meminfo_number("MemTotal")
    assert 1 <= found["cpus"] <= (os.cpu_count() or 1)
    assert found["shm_bytes"] == shutil.disk_usage("/dev/shm").total
    assert found["commit_limit_bytes"] == 1024 * meminfo_number("CommitLimit")
    assert found["huge_pages"]["total"] <= meminfo_number("HugePages_Total")
    assert found["huge_pages"]["page_bytes"] == 1024 * meminfo_number("Hugepagesize")


def test_a_locale_is_one_that_the_host_has(run_module: Callable[..., dict[str, Any]]) -> None:
    for name, encoding in (("C.UTF-8", "UTF-8"), ("xx_XX.UTF-8", ""), ("", "")):
        result = run_module("host_resources_info", {"locale": name})
        assert (result["locale_encoding"], result["asked"]["locale"]) == (encoding, name)
    assert run_module("host_resources_info", {"locale": "C"})["locale_encoding"] not in (
        "",
        "UTF-8",
    )


def test_files_that_somebody_else_wrote_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]]
) -> None:
    texts = {
        "ours": "# Managed by Ansible (pooled.postgres)\n[Unit]\n",
        "theirs": "[Service]\nEnvironment=PASSWORD=x\n",
        "empty": "",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    paths = tuple(str(tmp_path / name) for name in (*texts, "missing"))
    monkeypatch.setattr(module, "WHOLE_FILES", paths)
    assert run_module("host_resources_info", {})["unmanaged_files"] == [str(tmp_path / "theirs")]


def test_what_a_pgbouncer_has_that_others_set_up_is_told_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]]
) -> None:
    path = tmp_path / "pgbouncer.ini"
    monkeypatch.setattr(module, "PGBOUNCER_CONFIG", str(path))

    def unmanaged(text: str) -> Any:
        path.write_text(text)
        return run_module("host_resources_info", {})["pgbouncer"]["unmanaged"]

    assert run_module("host_resources_info", {})["pgbouncer"]["unmanaged"] is None
    assert unmanaged("[databases]\n[pgbouncer]\nlisten_addr = localhost\n") is None
    found = unmanaged("[databases]\nlegacydb = host=h password=hunter2\n")
    assert found["databases"] == {"legacydb": {"host": "h", "password": "********"}}
    assert unmanaged(ini.render_ini({}, {"legacydb": {"host": "h"}}, {}, [])) is None


def test_a_session_with_fewer_cpus_does_not_count(
    run_module: Callable[..., dict[str, Any]],
) -> None:
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.fail("this test needs two CPUs")
    found = run_module("host_resources_info", {})["resources"]["cpus"]
    try:
        os.sched_setaffinity(0, {min(before)})
        assert run_module("host_resources_info", {})["resources"]["cpus"] == found
    finally:
        os.sched_setaffinity(0, before)


# Where pg_wal is: a directory, a link, a link to what is not there yet, or nowhere yet.
WAL = [
    ("directory", "data/pg_wal", "data/pg_wal"),
    ("link", "wal", "wal"),
    ("dangling", "far/away", ""),
    ("nothing", "", ""),
]


@pytest.mark.parametrize(("kind", "target", "expected"), WAL)
def test_filesystem_of_wal(
    kind: str,
    target: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_module: Callable[..., dict[str, Any]],
) -> None:
    data = tmp_path / "data"
    if kind == "directory":
        (tmp_path / target).mkdir(parents=True)
    elif target:
        data.mkdir()
        (data / "pg_wal").symlink_to(tmp_path / target)
        if expected:
            (tmp_path / target).mkdir()
    cluster = {"major": 17, "name": "main", "port": 5432, "data_directory": str(data)}
    monkeypatch.setattr(module, "clusters_configured", lambda _module: [cluster])
    found = run_module("host_resources_info", {"version": "17"})["resources"]["wal_filesystem"]
    assert found == {
        "path": str(tmp_path / expected),
        "size_bytes": shutil.disk_usage(tmp_path).total,
    }


def test_the_smallest_filesystem_counts_where_the_major_is_not_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_module: Callable[..., dict[str, Any]],
) -> None:
    sizes = {str(tmp_path / "17"): 10, str(tmp_path / "15"): 5}
    for path in sizes:
        (Path(path) / "pg_wal").mkdir(parents=True)
    clusters = [
        {"major": int(Path(path).name), "name": "main", "port": 5432, "data_directory": path}
        for path in sizes
    ]
    monkeypatch.setattr(module, "clusters_configured", lambda _module: clusters)
    monkeypatch.setattr(module, "filesystem_bytes", lambda path: sizes.get(path[:-7], 0))
    found = run_module("host_resources_info", {})["resources"]["wal_filesystem"]
    assert found == {"path": str(tmp_path / "15" / "pg_wal"), "size_bytes": 5}


@pytest.mark.parametrize("signal", ["", "standby.signal", "recovery.signal"])
def test_a_standby_is_told_from_its_files(
    signal: str, monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]]
) -> None:
    # Where the clusters' owner, as whom the module looks, may enter.
    with tempfile.TemporaryDirectory(prefix="pooled-", dir="/tmp") as home:
        main, data = Path(home) / "etc" / "17" / "main", Path(home) / "data"
        main.mkdir(parents=True)
        data.mkdir()
        (main / "postgresql.conf").write_text(f"data_directory = '{data}'\n")
        if signal:
            (data / signal).touch()
        Path(home).chmod(0o755)
        monkeypatch.setattr(module, "CLUSTERS", str(Path(home) / "etc"))
        (found,) = run_module("host_resources_info", {})["postgres"]["clusters"]
    assert (found["data_directory"], found["standby"]) == (str(data), bool(signal))
