# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What binds a host, read out of recorded files of cgroup v1 and v2 and of systemctl."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._host import resources
from ansible_collections.pooled.postgres.plugins.module_utils._host.resources import (
    CpuSet,
    Limit,
    Mount,
)

GIB = 2**30
PLUGINS = Path(__file__).resolve().parents[5] / "plugins"

V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1_IN_CONTAINER = (
    "460 459 0:29 /libpod/abc /sys/fs/cgroup/cpu ro,nosuid - cgroup cgroup rw,cpu\n"
    "463 459 0:32 /libpod/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n"
    "459 448 0:178 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755"
)

MOUNTS = [
    pytest.param(V2, (Mount(2, (), "/", "/sys/fs/cgroup"),), id="v2"),
    pytest.param(
        V1_IN_CONTAINER,
        (
            Mount(1, ("rw", "cpu"), "/libpod/abc", "/sys/fs/cgroup/cpu"),
            Mount(1, ("rw", "memory"), "/libpod/abc", "/sys/fs/cgroup/memory"),
        ),
        id="v1",
    ),
    pytest.param(
        r"30 23 0:26 / /mnt/a\040b rw - cgroup2 none rw",
        (Mount(2, (), "/", "/mnt/a b"),),
        id="escaped",
    ),
    pytest.param("garbage\n\n1 2 3 - cgroup2", (), id="garbage"),
]


@pytest.mark.parametrize(("mountinfo", "expected"), MOUNTS)
def test_cgroup_mounts(mountinfo: str, expected: tuple[Mount, ...]) -> None:
    assert resources.cgroup_mounts(mountinfo) == expected


MEMORY_V1 = Mount(1, ("rw", "memory"), "/libpod/abc", "/sys/fs/cgroup/memory")
HOST_V2 = Mount(2, (), "/", "/sys/fs/cgroup")
OUTER_CGROUPS = [
    # A container's first process is in its cgroup, or systemd has gone beside the services.
    ("0::/user.slice/x.scope\n", HOST_V2, "/user.slice/x.scope"),
    ("5:devices:/x\n4:memory:/libpod/abc/init.scope\n0::/y\n", MEMORY_V1, "/libpod/abc"),
    ("0::/init.scope\n", HOST_V2, "/"),
    ("4:cpu,memory:/a:b\n", MEMORY_V1, "/a:b"),
    ("4:cpu:/a\n", MEMORY_V1, "/"),
    ("", HOST_V2, "/"),
]


@pytest.mark.parametrize(("text", "mount", "expected"), OUTER_CGROUPS)
def test_outer_cgroup(text: str, mount: Mount, expected: str) -> None:
    assert resources.outer_cgroup(text, mount) == expected


DIRECTORIES = [
    (
        HOST_V2,
        "/system.slice/system-postgresql.slice/postgresql@15-main.service",
        (
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/system.slice",
            "/sys/fs/cgroup/system.slice/system-postgresql.slice",
            "/sys/fs/cgroup/system.slice/system-postgresql.slice/postgresql@15-main.service",
        ),
    ),
    (
        MEMORY_V1,
        "/libpod/abc/system.slice",
        ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/system.slice"),
    ),
    (MEMORY_V1, "/libpod/abc", ("/sys/fs/cgroup/memory",)),
    (
        MEMORY_V1,
        "/libpod/abcd",
        (
            "/sys/fs/cgroup/memory",
            "/sys/fs/cgroup/memory/libpod",
            "/sys/fs/cgroup/memory/libpod/abcd",
        ),
    ),
    (Mount(2, (), "/..", "/sys/fs/cgroup"), "/../x", ("/sys/fs/cgroup", "/sys/fs/cgroup/x")),
]


@pytest.mark.parametrize(("mount", "cgroup", "expected"), DIRECTORIES)
def test_cgroup_directories(mount: Mount, cgroup: str, expected: tuple[str, ...]) -> None:
    assert resources.cgroup_directories(mount, cgroup) == expected


LIMIT_FILES = [
    (
        HOST_V2,
        ("memory.max", "memory.high", "cpu.max", "cpuset.cpus.effective", "hugetlb.2MB.max"),
    ),
    (MEMORY_V1, ("memory.limit_in_bytes", "memory.stat")),
    (Mount(1, ("rw", "cpu", "cpuacct"), "/", "/x"), ("cpu.cfs_quota_us", "cpu.cfs_period_us")),
    (Mount(1, ("rw", "cpuset"), "/", "/x"), ("cpuset.effective_cpus",)),
    (Mount(1, ("rw", "hugetlb"), "/", "/x"), ("hugetlb.2MB.limit_in_bytes",)),
    (Mount(1, ("rw", "pids"), "/", "/x"), ()),
    # The version 2 side of a hybrid hierarchy has no controllers, hence none of these files.
    (Mount(1, ("rw", "name=systemd"), "/", "/x"), ()),
]


@pytest.mark.parametrize(("mount", "expected"), LIMIT_FILES)
def test_limit_files(mount: Mount, expected: tuple[str, ...]) -> None:
    assert resources.limit_files(mount, 2048 * 1024) == expected


HUGE_PAGE_NAMES = [
    (64 * 1024, "hugetlb.64KB.max"),
    (2**21, "hugetlb.2MB.max"),
    (2**30, "hugetlb.1GB.max"),
]


@pytest.mark.parametrize(("page_bytes", "name"), HUGE_PAGE_NAMES)
def test_limit_files_by_page_size(page_bytes: int, name: str) -> None:
    assert name in resources.limit_files(HOST_V2, page_bytes)


MEMORY = [
    pytest.param({"memory.max": "max\n", "memory.high": "max\n"}, (), id="v2-unlimited"),
    pytest.param(
        {"memory.max": "1073741824\n", "memory.high": "536870912\n"},
        (Limit(GIB, "memory.max of /d"), Limit(GIB // 2, "memory.high of /d")),
        id="v2-both",
    ),
    pytest.param({}, (), id="files-absent"),
    pytest.param({"memory.limit_in_bytes": "9223372036854771712\n"}, (), id="v1-unlimited"),
    pytest.param(
        {"memory.limit_in_bytes": "536870912\n"},
        (Limit(GIB // 2, "memory.limit_in_bytes of /d"),),
        id="v1",
    ),
    pytest.param({"memory.max": str(8 * GIB)}, (), id="as-much-as-there-is"),
    pytest.param(
        {
            "memory.limit_in_bytes": "9223372036854771712\n",
            "memory.stat": "cache 0\nhierarchical_memory_limit 536870912\nrss 0\n",
        },
        (Limit(GIB // 2, "memory.limit_in_bytes above /d"),),
        id="v1-out-of-sight",
    ),
    pytest.param(
        {"memory.stat": "hierarchical_memory_limit 9223372036854771712\n"},
        (),
        id="v1-none-out-of-sight",
    ),
]


@pytest.mark.parametrize(("contents", "expected"), MEMORY)
def test_memory_limits(contents: dict[str, str], expected: tuple[Limit, ...]) -> None:
    assert resources.memory_limits("/d", contents, 8 * GIB) == expected


CPUS = [
    ({"cpu.max": "max 100000\n"}, ()),
    ({"cpu.max": "150000 100000\n"}, (Limit(1.5, "cpu.max of /d"),)),
    ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, ()),
    (
        {"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n"},
        (Limit(0.5, "cpu.cfs_quota_us of /d"),),
    ),
    ({"cpu.cfs_quota_us": "50000\n"}, ()),
    ({}, ()),
]


@pytest.mark.parametrize(("contents", "expected"), CPUS)
def test_cpu_limits(contents: dict[str, str], expected: tuple[Limit, ...]) -> None:
    assert resources.cpu_limits("/d", contents) == expected


def test_cpu_sets() -> None:
    contents = {"cpuset.cpus.effective": "0-1,3\n", "cpu.max": "max 100000"}
    assert resources.cpu_sets("/d", contents) == (
        CpuSet(frozenset({0, 1, 3}), "cpuset.cpus.effective of /d"),
    )
    assert resources.cpu_sets("/d", {}) == ()


CPU_NUMBERS = [
    ("0-3,8\n", {0, 1, 2, 3, 8}),
    ("0 2-3", {0, 2, 3}),
    ("5", {5}),
    ("", set()),
    ("numa", set()),
]


@pytest.mark.parametrize(("text", "expected"), CPU_NUMBERS)
def test_cpu_numbers(text: str, expected: set[int]) -> None:
    assert resources.cpu_numbers(text) == expected


def test_huge_page_limits() -> None:
    limits = resources.huge_page_limits("/d", {"hugetlb.2MB.max": "1073741824\n"}, 2**21)
    assert limits == (Limit(GIB, "hugetlb.2MB.max of /d"),)
    assert resources.huge_page_limits("/d", {"hugetlb.2MB.max": "max\n"}, 2**21) == ()
    pages = {"page_bytes": 2**21, "total": 1024, "free": 100}
    assert resources.bound_huge_pages(pages, limits) == {**pages, "total": 512}
    assert resources.bound_huge_pages(pages, [Limit(0, "x")]) == {**pages, "total": 0, "free": 0}
    assert resources.bound_huge_pages(pages, []) == pages


SYSTEMCTL = """Slice=system-postgresql.slice
ControlGroup=/system.slice/system-postgresql.slice/postgresql@15-main.service
CPUQuotaPerSecUSec=1.500s
MemoryHigh=infinity
MemoryMax=2147483648
Id=postgresql@15-main.service

Slice=
ControlGroup=
CPUQuotaPerSecUSec=infinity
MemoryHigh=infinity
MemoryMax=infinity
Id=-.slice
"""


def test_units() -> None:
    service, root = resources.units(SYSTEMCTL)
    assert service["Slice"] == "system-postgresql.slice"
    assert resources.unit_memory_limits(service, 8 * GIB) == (
        Limit(2 * GIB, "MemoryMax of postgresql@15-main.service"),
    )
    assert resources.unit_memory_limits(service, GIB) == ()
    assert resources.unit_cpu_limits(service) == (
        Limit(1.5, "CPUQuota of postgresql@15-main.service"),
    )
    assert resources.unit_memory_limits(root, 8 * GIB) == ()
    assert resources.unit_cpu_limits(root) == ()
    assert resources.units("") == ()


@pytest.mark.parametrize(
    ("text", "expected"), [("1min 30s", 90.0), ("500ms", 0.5), ("250us", 0.00025), ("", None)]
)
def test_quota_texts(text: str, expected: float | None) -> None:
    limits = resources.unit_cpu_limits({"CPUQuotaPerSecUSec": text})
    assert [limit.amount for limit in limits] == ([] if expected is None else [expected])


UNIT_FILE_NAMES = [
    (
        "postgresql@17-main.service",
        ("postgresql@17-main.service", "postgresql@.service"),
        ("postgresql@17-main.service.d", "postgresql@.service.d", "service.d"),
    ),
    (
        "a-b-c.slice",
        ("a-b-c.slice",),
        ("a-b-c.slice.d", "a-b-.slice.d", "a-.slice.d", "slice.d"),
    ),
]


@pytest.mark.parametrize(("unit", "fragments", "drop_ins"), UNIT_FILE_NAMES)
def test_names_of_unit_files(
    unit: str, fragments: tuple[str, ...], drop_ins: tuple[str, ...]
) -> None:
    assert resources.fragment_names(unit) == fragments
    assert resources.drop_in_names(unit) == drop_ins


UNIT_FILES = [
    pytest.param(["[Service]\nMemoryMax=300M\n"], {"MemoryMax": str(300 * 2**20)}, id="unit"),
    pytest.param(["[Slice]\nMemoryMax = 1.5G 200M\n"], {"MemoryMax": "1820327936"}, id="sum"),
    pytest.param(["[Slice]\nMemoryHigh=4096\n"], {"MemoryHigh": "4096"}, id="bytes"),
    pytest.param(["[Slice]\nMemoryMax=12.5%\n"], {"MemoryMax": str(GIB)}, id="percent"),
    pytest.param(["[Service]\nMemoryMax=infinity\n"], {}, id="infinity"),
    pytest.param(["[Service]\nMemoryMax=1X\nCPUQuota=many\n"], {}, id="garbage"),
    pytest.param(
        ["[Service]\nMemoryMax=1G\n", "[Service]\nMemoryMax=2G\n"],
        {"MemoryMax": str(2 * GIB)},
        id="last",
    ),
    pytest.param(["[Service]\nMemoryMax=1G\nMemoryMax=\n"], {}, id="taken-back"),
    pytest.param(
        ["[Unit]\nMemoryMax=1G\n[Service]\n# MemoryMax=1G\n;MemoryMax=1G\n"], {}, id="not-there"
    ),
    pytest.param(
        ["[Service]\nCPUQuota=150%\nSlice=db.slice\nAllowedCPUs=0 \\\n 1\nCPUAffinity=1\n"],
        {
            "CPUQuotaPerSecUSec": "1.500000s",
            "Slice": "db.slice",
            "AllowedCPUs": "0   1",
            "CPUAffinity": "1",
        },
        id="cpus",
    ),
]


@pytest.mark.parametrize(("texts", "expected"), UNIT_FILES)
def test_configured_unit(texts: list[str], expected: dict[str, str]) -> None:
    assert resources.configured_unit("x.service", texts, 8 * GIB) == {
        "Id": "x.service (not in force yet)",
        **expected,
    }


def test_configured_units_limit_like_those_in_force() -> None:
    text = "[Service]\nMemoryMax=1G\nCPUQuota=150%\nAllowedCPUs=0-1\n"
    unit = resources.configured_unit("x.service", [text], 8 * GIB)
    assert resources.unit_memory_limits(unit, 8 * GIB) == (
        Limit(GIB, "MemoryMax of x.service (not in force yet)"),
    )
    assert resources.unit_cpu_limits(unit) == (
        Limit(1.5, "CPUQuota of x.service (not in force yet)"),
    )
    assert resources.unit_cpu_sets(unit) == (
        CpuSet(frozenset({0, 1}), "AllowedCPUs of x.service (not in force yet)"),
    )


def test_systemd_memory_bytes() -> None:
    v1 = Limit(GIB, "memory.limit_in_bytes of /sys/fs/cgroup/memory")
    v2 = Limit(2 * GIB, "memory.max of /sys/fs/cgroup")
    assert resources.systemd_memory_bytes(8 * GIB, [v1]) == 8 * GIB
    assert resources.systemd_memory_bytes(8 * GIB, [v1, v2]) == 2 * GIB


SERVICES = [
    ("", "main", ("postgresql@15-main.service", "postgresql@17-main.service")),
    ("17", "main", ("postgresql@17-main.service",)),
    ("16", "main", ("postgresql@16-main.service",)),
    ("", "other", ("postgresql@.service",)),
]


@pytest.mark.parametrize(("version", "name", "expected"), SERVICES)
def test_service_names(version: str, name: str, expected: tuple[str, ...]) -> None:
    clusters = [{"major": 15, "name": "main"}, {"major": 17, "name": "main"}]
    assert resources.service_names(clusters, version, name) == expected


SLICES = [
    ({"Slice": "system-postgresql.slice"}, ("-.slice", "system.slice", "system-postgresql.slice")),
    ({"Slice": ""}, ("-.slice", "system.slice", "system-postgresql.slice")),
    ({"Slice": "-.slice"}, ("-.slice",)),
    ({"Slice": "db.slice"}, ("-.slice", "db.slice")),
]


@pytest.mark.parametrize(("unit", "expected"), SLICES)
def test_slices(unit: dict[str, str], expected: tuple[str, ...]) -> None:
    assert resources.slices(unit) == expected


BOUND_MEMORY = [
    ([], (8 * GIB, "MemTotal", False)),
    ([Limit(9 * GIB, "x")], (8 * GIB, "MemTotal", False)),
    ([Limit(2 * GIB, "far"), Limit(GIB, "near"), Limit(3 * GIB, "y")], (GIB, "near", True)),
]


@pytest.mark.parametrize(("limits", "expected"), BOUND_MEMORY)
def test_bound_memory(limits: list[Limit], expected: tuple[int, str, bool]) -> None:
    assert resources.bound_memory(8 * GIB, limits) == expected


def cpu_set(by: str, *cpus: int) -> CpuSet:
    return CpuSet(frozenset(cpus), by)


BOUND_CPUS = [
    ([], [], (4, "CPU affinity")),
    ([], [Limit(4.0, "x")], (4, "CPU affinity")),
    ([], [Limit(1.5, "quota")], (2, "quota")),
    ([], [Limit(2.0, "quota"), Limit(3.0, "y")], (2, "quota")),
    ([], [Limit(0.1, "quota")], (1, "quota")),
    ([cpu_set("a", 0, 1, 2), cpu_set("b", 2, 3)], [], (1, "b")),
    ([cpu_set("a", 0, 1), cpu_set("all", 0, 1, 2, 3)], [], (2, "a")),
    ([cpu_set("a", 0, 1)], [Limit(3.0, "quota")], (2, "a")),
    ([cpu_set("a", 0, 1)], [Limit(0.5, "quota")], (1, "quota")),
    ([cpu_set("not there", 64, 65)], [], (4, "CPU affinity")),
]


@pytest.mark.parametrize(("sets", "limits", "expected"), BOUND_CPUS)
def test_bound_cpus(sets: list[CpuSet], limits: list[Limit], expected: tuple[int, str]) -> None:
    assert resources.bound_cpus({0, 1, 2, 3}, sets, limits) == expected


def test_meminfo_bytes() -> None:
    text = "MemTotal:       24684084 kB\nHugePages_Total:       0\nCommitLimit:    12342040 kB\n"
    assert resources.meminfo_bytes(text) == {
        "MemTotal": 24684084 * 1024,
        "CommitLimit": 12342040 * 1024,
    }


OS_RELEASES = [
    (
        'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\n'
        "VERSION_CODENAME=bookworm\nID=debian\n",
        {"id": "debian", "release": "12", "codename": "bookworm"},
    ),
    ("ID='alpine'\n# comment\n", {"id": "alpine", "release": "", "codename": ""}),
]


@pytest.mark.parametrize(("text", "expected"), OS_RELEASES)
def test_os_release(text: str, expected: dict[str, str]) -> None:
    assert resources.os_release(text) == expected


VERSIONS = [
    ("PgBouncer 1.18.0\nlibevent 2.1.12-stable\nadns: c-ares 1.18.1\n", "1.18.0"),
    ("PgBouncer 1.24.1\n", "1.24.1"),
    ("", None),
]


@pytest.mark.parametrize(("text", "expected"), VERSIONS)
def test_pgbouncer_version(text: str, expected: str | None) -> None:
    assert resources.pgbouncer_version(text) == expected


CLUSTERS = [
    (
        [
            "data_directory = '/var/lib/postgresql/15/main'\t\t# use data in another directory\n"
            "port = 5432\t\t\t\t# (change requires restart)\n#port = 1\n",
            "port 5433\n",
        ],
        {"port": 5433, "data_directory": "/var/lib/postgresql/15/main"},
    ),
    (["data_directory='/srv/it''s'\n"], {"port": 5432, "data_directory": "/srv/it's"}),
    ([""], {"port": 5432, "data_directory": "/var/lib/postgresql/15/main"}),
    (
        ["unix_socket_directories = '/tmp'\n", "unix_socket_directories = '/tmp, /x'\n"],
        {
            "port": 5432,
            "data_directory": "/var/lib/postgresql/15/main",
            "socket_directories": "/tmp, /x",
        },
    ),
]


@pytest.mark.parametrize(("texts", "expected"), CLUSTERS)
def test_cluster(texts: list[str], expected: dict[str, object]) -> None:
    assert resources.cluster(15, "main", texts) == {
        "major": 15,
        "name": "main",
        "socket_directories": "/var/run/postgresql",
        **expected,
    }


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("wal_level setting:   replica\nmax_connections setting:              80\n", 80),
        ("pg_controldata: error: could not open file", 0),
        ("", 0),
    ],
)
def test_running_connections(report: str, expected: int) -> None:
    assert resources.running_connections(report) == expected


HUGE_PAGES = [
    (
        "HugePages_Total:     512\nHugePages_Free:      500\nHugePages_Rsvd:       20\n"
        "Hugepagesize:       2048 kB\nHugetlb:         1048576 kB\n",
        {"page_bytes": 2097152, "total": 512, "free": 480},
    ),
    ("MemTotal:       24684084 kB\n", {"page_bytes": 0, "total": 0, "free": 0}),
]


@pytest.mark.parametrize(("meminfo", "expected"), HUGE_PAGES)
def test_huge_pages(meminfo: str, expected: dict[str, int]) -> None:
    assert resources.huge_pages(meminfo) == expected


MANAGED = [
    pytest.param("", {}, id="absent"),
    pytest.param("# heading\nwork_mem = '4MB'\nWork_Mem = 5MB\n", {"work_mem": "5MB"}, id="last"),
    pytest.param("work_mem = '4MB'\n)(\n", {}, id="broken"),
    pytest.param(
        "primary_conninfo = 'host=a'\nssl_passphrase_command = 'echo x'\n"
        "archive_command = 'cp %p s3://key@x'\nrestore_command = 'x'\n"
        "my.db_password = 'x'\nmy.secret = 'x'\nmy.api_token = 'x'\n"
        "my.url = 'postgres://a:b@c/d'\nmy.dsn = 'user=a password = b'\n"
        "password_encryption = 'scram-sha-256'\narchive_mode = on\n",
        {"password_encryption": "scram-sha-256", "archive_mode": "on"},
        id="secrets",
    ),
]


@pytest.mark.parametrize(("drop_in", "expected"), MANAGED)
def test_managed_settings(drop_in: str, expected: dict[str, str]) -> None:
    assert resources.managed_settings(drop_in) == expected


DIRECTORIES_OF_WAL = [
    ("", "main", ("/srv/15/pg_wal", "/srv/17/pg_wal")),
    ("17", "main", ("/srv/17/pg_wal",)),
    ("17", "other", ("/var/lib/postgresql/17/other/pg_wal",)),
    ("16", "main", ("/var/lib/postgresql/16/main/pg_wal",)),
]


@pytest.mark.parametrize(("version", "name", "expected"), DIRECTORIES_OF_WAL)
def test_wal_directories(version: str, name: str, expected: tuple[str, ...]) -> None:
    clusters = [
        {"major": 15, "name": "main", "data_directory": "/srv/15"},
        {"major": 17, "name": "main", "data_directory": "/srv/17/"},
    ]
    assert resources.wal_directories(clusters, version, name) == expected


def test_what_is_read_of_units_is_asked_for() -> None:
    """The fakes of these tests have every property; systemctl shows those that it is asked for."""
    sources = ("modules/host_resources_info.py", "module_utils/_host/resources.py")
    read = {
        name
        for source in sources
        for name in re.findall(
            r'unit(?:\.get\(|\[)"(\w+)"', (PLUGINS / source).read_text(encoding="utf-8")
        )
    }
    assert {"ControlGroup", "Slice"} <= read
    assert read <= set(resources.UNIT_PROPERTIES)
