# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host really lets Postgres have, read out of /proc, cgroup files and systemctl's output."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._host import (
    conf_file,
    debian,
)

# Where Debian's postgresql@.service puts its instances.
DEFAULT_SLICE = "system-postgresql.slice"
UNIT_PROPERTIES = (
    "Id",
    "Slice",
    "ControlGroup",
    "MemoryMax",
    "MemoryHigh",
    "MemoryLimit",
    "CPUQuotaPerSecUSec",
    "AllowedCPUs",
    "CPUAffinity",
)
# Where systemd looks for units and their drop-ins, what wins first.
UNIT_DIRECTORIES = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
)

_OCTAL = re.compile(r"\\([0-7]{3})")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_SIZES = {"": 1, **{unit: 1024**power for power, unit in enumerate("BKMGTPE")}}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([BKMGTPE]?)\s*")
_DURATION = re.compile(r"([0-9.]+)(us|ms|min|s|h)\Z")
_PUBLIC = ("password_encryption",)
_SECRET_NAME = re.compile(r"conninfo|pass(word|phrase|wd)|secret|token|credential|_command\Z")
_SECRET_VALUE = re.compile(r"password\s*=|://[^/@\s]*:[^/@\s]*@", re.IGNORECASE)
_SETTING = re.compile(r"\s*([A-Za-z_]+)\s*(?:=|\s)\s*('(?:[^']|'')*'|[^\s#]+)")


@dataclass(frozen=True)
class Mount:
    """A mounted cgroup hierarchy; C(root) is the cgroup that is visible at C(path)."""

    version: int
    controllers: tuple[str, ...]
    root: str
    path: str


@dataclass(frozen=True)
class Limit:
    """An upper limit, and who sets it. Bytes, or CPUs."""

    amount: float
    by: str


@dataclass(frozen=True)
class CpuSet:
    """The CPUs that somebody allows, and who."""

    cpus: frozenset[int]
    by: str


def meminfo_bytes(text: str) -> dict[str, int]:
    """The amounts in /proc/meminfo."""
    amounts = {}
    for line in text.splitlines():
        match = re.match(r"([^:]+):\s+([0-9]+) kB", line)
        if match:
            amounts[match.group(1)] = int(match.group(2)) * 1024
    return amounts


def huge_pages(meminfo: str) -> dict[str, int]:
    """Huge pages of the default size out of /proc/meminfo: how many, and how many nobody has."""
    numbers = dict(re.findall(r"^(\w+):\s+([0-9]+)", meminfo, re.MULTILINE))

    def number(name: str) -> int:
        return int(numbers.get(name, 0))

    return {
        "page_bytes": number("Hugepagesize") * 1024,
        "total": number("HugePages_Total"),
        # Pages that somebody has reserved count as free until they are touched.
        "free": max(number("HugePages_Free") - number("HugePages_Rsvd"), 0),
    }


def bound_huge_pages(pages: Mapping[str, int], limits: Iterable[Limit]) -> dict[str, int]:
    """The same, at most as many as the cgroups allow."""
    page_bytes = pages["page_bytes"]
    most = min((int(limit.amount) // page_bytes for limit in limits), default=pages["total"])
    return {
        "page_bytes": page_bytes,
        "total": min(pages["total"], most),
        "free": min(pages["free"], most),
    }


def cgroup_mounts(mountinfo: str) -> tuple[Mount, ...]:
    """The cgroup hierarchies in /proc/self/mountinfo."""
    mounts = []
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if not separator or len(fields) < 5 or len(tail) < 3:
            continue
        root, path = (_unescaped(field) for field in fields[3:5])
        if tail[0] == "cgroup2":
            mounts.append(Mount(2, (), root, path))
        elif tail[0] == "cgroup":
            mounts.append(Mount(1, tuple(tail[2].split(",")), root, path))
    return tuple(mounts)


def _unescaped(field: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), field)


def outer_cgroup(text: str, mount: Mount) -> str:
    """The cgroup that all services are in, out of /proc/1/cgroup; / when it is not there.

    That is the first process's own, where systemd has not put itself into one beside the services.
    """
    for line in text.splitlines():
        _number, _separator, rest = line.partition(":")
        controllers, _separator, path = rest.partition(":")
        if (mount.version == 2 and not controllers) or (
            mount.version == 1 and set(mount.controllers) & set(controllers.split(","))
        ):
            return path[: -len("/init.scope")] or "/" if path.endswith("/init.scope") else path
    return "/"


def cgroup_directories(mount: Mount, cgroup: str) -> tuple[str, ...]:
    """The directories of a cgroup and all its ancestors that the mount shows, the root first.

    A container often sees only its own part of the hierarchy, below a path that names the whole.
    """
    root = mount.root.rstrip("/")
    if root and (cgroup == root or cgroup.startswith(root + "/")):
        cgroup = cgroup[len(root) :]
    directories = [mount.path]
    for part in cgroup.split("/"):
        if part and part != "..":
            directories.append(f"{directories[-1].rstrip('/')}/{part}")
    return tuple(directories)


def limit_files(mount: Mount, page_bytes: int) -> tuple[str, ...]:
    """Names of the files in a cgroup's directory that limit memory, huge pages or CPUs."""
    if mount.version == 2:
        huge = _huge_page_files(page_bytes)[:1]
        return ("memory.max", "memory.high", "cpu.max", "cpuset.cpus.effective", *huge)
    files: tuple[str, ...] = ()
    if "memory" in mount.controllers:
        files += ("memory.limit_in_bytes", "memory.stat")
    if "cpu" in mount.controllers:
        files += ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    if "cpuset" in mount.controllers:
        files += ("cpuset.effective_cpus",)
    if "hugetlb" in mount.controllers:
        files += _huge_page_files(page_bytes)[1:]
    return files


def _huge_page_files(page_bytes: int) -> tuple[str, str]:
    """Names in cgroup v2 and v1 of the file that limits huge pages of that size."""
    kilobytes = page_bytes // 1024
    size = f"{kilobytes}KB"
    for unit, factor in (("MB", 1024), ("GB", 1024**2)):
        if kilobytes >= factor:
            size = f"{kilobytes // factor}{unit}"
    return f"hugetlb.{size}.max", f"hugetlb.{size}.limit_in_bytes"


def memory_limits(
    directory: str, contents: Mapping[str, str], total_bytes: int
) -> tuple[Limit, ...]:
    """Limits of memory out of a cgroup's files; what is at or above the host's memory is none."""
    limits = []
    for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
        text = contents.get(name, "max").strip()
        if text.isdigit() and int(text) < total_bytes:
            limits.append(Limit(int(text), f"{name} of {directory}"))
    # Version 1 tells the least of all cgroups around it, also of those that are out of sight.
    above = re.search(
        r"^hierarchical_memory_limit ([0-9]+)$", contents.get("memory.stat", ""), re.MULTILINE
    )
    if above and int(above.group(1)) < total_bytes:
        limits.append(Limit(int(above.group(1)), f"memory.limit_in_bytes above {directory}"))
    return tuple(limits)


def huge_page_limits(
    directory: str, contents: Mapping[str, str], page_bytes: int
) -> tuple[Limit, ...]:
    """Limits of the memory in huge pages out of a cgroup's files."""
    return tuple(
        Limit(int(contents[name]), f"{name} of {directory}")
        for name in _huge_page_files(page_bytes)
        if contents.get(name, "max").strip().isdigit()
    )


def cpu_sets(directory: str, contents: Mapping[str, str]) -> tuple[CpuSet, ...]:
    """The CPUs that a cgroup's files allow."""
    return tuple(
        CpuSet(cpu_numbers(contents[name]), f"{name} of {directory}")
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus")
        if name in contents
    )


def cpu_numbers(text: str) -> frozenset[int]:
    """The CPUs in a list such as 0-3,8, with commas or spaces."""
    numbers: set[int] = set()
    for part in re.split(r"[\s,]+", text.strip()):
        first, _separator, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def cpu_limits(directory: str, contents: Mapping[str, str]) -> tuple[Limit, ...]:
    """The quota of CPUs out of a cgroup's files."""
    if "cpu.max" in contents:
        quota, _separator, period = contents["cpu.max"].strip().partition(" ")
        name = "cpu.max"
    else:
        quota = contents.get("cpu.cfs_quota_us", "-1").strip()
        period = contents.get("cpu.cfs_period_us", "").strip()
        name = "cpu.cfs_quota_us"
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return ()
    return (Limit(int(quota) / int(period), f"{name} of {directory}"),)


def units(systemctl_show: str) -> tuple[dict[str, str], ...]:
    """The properties of each unit in the output of C(systemctl show)."""
    blocks = []
    for block in systemctl_show.strip().split("\n\n"):
        pairs = [line.partition("=") for line in block.splitlines() if "=" in line]
        if pairs:
            blocks.append({name: value for name, _separator, value in pairs})
    return tuple(blocks)


def slices(unit: Mapping[str, str]) -> tuple[str, ...]:
    """A unit's slice and those around it: C(a-b.slice) is in C(a.slice), and all in C(-.slice)."""
    name = unit.get("Slice") or DEFAULT_SLICE
    parts = name[: -len(".slice")].split("-") if name != "-.slice" else []
    around = ["-".join(parts[: count + 1]) + ".slice" for count in range(len(parts))]
    return ("-.slice", *around)


def fragment_names(unit: str) -> tuple[str, ...]:
    """Names of the file that describes a unit: its own and its template's."""
    stem, _separator, kind = unit.rpartition(".")
    template, separator, _instance = stem.partition("@")
    return (unit, f"{template}@.{kind}") if separator else (unit,)


def drop_in_names(unit: str) -> tuple[str, ...]:
    """Names of the directories that systemd reads a unit's drop-ins from, what wins first."""
    stem, _separator, kind = unit.rpartition(".")
    parts = stem.partition("@")[0].split("-")
    shorter = ["-".join(parts[:count]) + f"-.{kind}" for count in range(len(parts) - 1, 0, -1)]
    return tuple(f"{name}.d" for name in (*fragment_names(unit), *shorter, kind))


def configured_unit(unit: str, texts: Iterable[str], memory_bytes: int) -> dict[str, str]:
    """What a unit's files say, in the form in which C(systemctl show) tells what is in force.

    Args:
        unit: its name.
        texts: its files, in the order in which systemd reads them.
        memory_bytes: the memory that a limit in percent is a part of.
    """
    values: dict[str, str] = {}
    for text in texts:
        values.update(_unit_values(text))
    said = {"Id": f"{unit} (not in force yet)"}
    for name in ("MemoryMax", "MemoryHigh", "MemoryLimit"):
        size = _unit_size_bytes(values.get(name, ""), memory_bytes)
        if size is not None:
            said[name] = str(size)
    quota = re.match(r"([0-9]+(?:\.[0-9]+)?)%\Z", values.get("CPUQuota", ""))
    if quota:
        said["CPUQuotaPerSecUSec"] = f"{float(quota.group(1)) / 100:.6f}s"
    for name in ("Slice", "AllowedCPUs", "CPUAffinity"):
        if values.get(name):
            said[name] = values[name]
    return said


def _unit_values(text: str) -> dict[str, str]:
    """What a unit's file sets in [Service] or [Slice]; the last of a name counts."""
    values = {}
    section = ""
    for line in map(str.strip, text.replace("\\\n", " ").splitlines()):
        if line.startswith("["):
            section = line
        name, separator, value = line.partition("=")
        if separator and section in ("[Service]", "[Slice]"):
            values[name.strip()] = value.strip()
    return values


def _unit_size_bytes(text: str, memory_bytes: int) -> int | None:
    """A limit as a unit's file writes it: bytes, sums such as 1G 512M, or percent."""
    percent = re.match(r"([0-9]+(?:\.[0-9]+)?)%\Z", text)
    if percent:
        return int(memory_bytes * float(percent.group(1)) / 100)
    if not re.match(rf"(?:{_SIZE.pattern})+\Z", text):
        return None
    return int(sum(float(size) * _SIZES[unit] for size, unit in _SIZE.findall(text)))


def unit_memory_limits(unit: Mapping[str, str], total_bytes: int) -> tuple[Limit, ...]:
    """Limits of memory that a unit or slice asks for, whether or not it runs."""
    limits = []
    for name in ("MemoryMax", "MemoryHigh", "MemoryLimit"):
        text = unit.get(name, "")
        if text.isdigit() and int(text) < total_bytes:
            limits.append(Limit(int(text), f"{name} of {unit.get('Id', 'the unit')}"))
    return tuple(limits)


def unit_cpu_limits(unit: Mapping[str, str]) -> tuple[Limit, ...]:
    """The quota of CPUs that a unit or slice asks for; systemd prints 1.5 CPUs as C(1.500s)."""
    text = unit.get("CPUQuotaPerSecUSec", "")
    seconds = 0.0
    for part in text.split():
        match = _DURATION.match(part)
        if not match:
            return ()
        seconds += float(match.group(1)) * _SECONDS[match.group(2)]
    return (Limit(seconds, f"CPUQuota of {unit.get('Id', 'the unit')}"),) if seconds else ()


def bound_memory(total_bytes: int, limits: Iterable[Limit]) -> tuple[int, str, bool]:
    """The memory that binds, what bound it, and whether that is a cgroup."""
    least = min(limits, key=lambda limit: limit.amount, default=None)
    if least is None or least.amount >= total_bytes:
        return total_bytes, "MemTotal", False
    return int(least.amount), least.by, True


def unit_cpu_sets(unit: Mapping[str, str]) -> tuple[CpuSet, ...]:
    """The CPUs that a unit or slice allows."""
    return tuple(
        CpuSet(cpu_numbers(unit[name]), f"{name} of {unit.get('Id', 'the unit')}")
        for name in ("AllowedCPUs", "CPUAffinity")
        if unit.get(name)
    )


def bound_cpus(
    affinity: Iterable[int], sets: Iterable[CpuSet], limits: Iterable[Limit]
) -> tuple[int, str]:
    """The CPUs that may really be used, at least one, and what bound them."""
    allowed, by = frozenset(affinity), "CPU affinity"
    for allows in sets:
        both = allowed & allows.cpus
        # A set of CPUs that are not there is ignored by the kernel too.
        if both and both != allowed:
            allowed, by = both, allows.by
    least = min(limits, key=lambda limit: limit.amount, default=None)
    if least is None or least.amount >= len(allowed):
        return max(len(allowed), 1), by
    return max(math.ceil(least.amount), 1), least.by


def os_release(text: str) -> dict[str, str]:
    """Id, release and codename of the distribution out of /etc/os-release."""
    values = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator:
            values[name.strip()] = value.strip().strip("\"'")
    return {
        "id": values.get("ID", ""),
        "release": values.get("VERSION_ID", ""),
        "codename": values.get("VERSION_CODENAME", ""),
    }


def configured(text: str, names: Iterable[str]) -> dict[str, str]:
    """Values of some settings in a postgresql.conf; the last one counts, as for the server."""
    wanted = set(names)
    values = {}
    for line in text.splitlines():
        match = _SETTING.match(line)
        if match and match.group(1).lower() in wanted:
            value = match.group(2)
            if value.startswith("'"):
                value = value[1:-1].replace("''", "'")
            values[match.group(1).lower()] = value
    return values


def managed_settings(drop_in: str) -> dict[str, str]:
    """What the managed file sets, without what may hold a secret; nothing when it is broken."""
    try:
        entries = dict(conf_file.parse(drop_in))
    except ValueError:
        return {}
    return {
        name: value
        for name, value in entries.items()
        if name in _PUBLIC or not (_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))
    }


def pgbouncer_version(text: str) -> str | None:
    """The version out of C(pgbouncer --version), such as 1.24.1."""
    match = re.search(r"PgBouncer (?:version )?([0-9]+(?:\.[0-9]+)+)", text)
    return match.group(1) if match else None


def is_plain_pooler(version: str, ini: str) -> bool:
    """Whether a PgBouncer with this file may come to a server without TLS that offers it.

    Before 1.20 its default is not to ask for it.
    """
    said = re.findall(r"^\s*server_tls_sslmode\s*=\s*([a-z-]+)\s*$", ini, re.MULTILINE)
    numbers = [int(number) for number in re.findall(r"[0-9]+", version)]
    return (said[-1] in ("disable", "allow")) if said else numbers < [1, 20]


def running_connections(controldata: str) -> int:
    """C(max_connections) of the running server out of pg_controldata's report; 0 when unknown."""
    found = re.search(r"^max_connections setting:\s+([0-9]+)$", controldata, re.MULTILINE)
    return int(found.group(1)) if found else 0


def cluster(major: int, name: str, texts: Iterable[str]) -> dict[str, Any]:
    """A cluster by its configuration files, in the order in which the server reads them."""
    values: dict[str, str] = {}
    for text in texts:
        values.update(configured(text, ("port", "data_directory", "unix_socket_directories")))
    return {
        "major": major,
        "name": name,
        "port": int(values["port"]) if values.get("port", "").isdigit() else 5432,
        "data_directory": values.get("data_directory", f"/var/lib/postgresql/{major}/{name}"),
        "socket_directories": values.get("unix_socket_directories", debian.SOCKET_DIRECTORY),
    }


def meant(
    clusters: Iterable[Mapping[str, Any]], version: str, name: str
) -> tuple[Mapping[str, Any], ...]:
    """The cluster that is meant; all of that name when the major is not known."""
    return tuple(
        cluster
        for cluster in clusters
        if cluster["name"] == name and version in ("", str(cluster["major"]))
    )


def wal_directories(
    clusters: Iterable[Mapping[str, Any]], version: str, name: str
) -> tuple[str, ...]:
    """Where the WAL of the cluster that is meant is or will be."""
    found = meant(clusters, version, name)
    paths = [f"{cluster['data_directory'].rstrip('/')}/pg_wal" for cluster in found]
    return tuple(paths) or (f"/var/lib/postgresql/{version}/{name}/pg_wal",)


def service_names(
    clusters: Iterable[Mapping[str, Any]], version: str, name: str
) -> tuple[str, ...]:
    """The unit of the cluster that is meant, also of one to come."""
    majors = [str(cluster["major"]) for cluster in meant(clusters, version, name)]
    # Before a first server of the distribution's own version, only the template has a name.
    instances = [f"{major}-{name}" for major in majors or [version] if major]
    return tuple(f"postgresql@{instance}.service" for instance in instances or [""])


def systemd_memory_bytes(total_bytes: int, outer: Iterable[Limit]) -> int:
    """The memory that systemd takes percent of: the host's, or its container's of version 2."""
    amounts = [limit.amount for limit in outer if limit.by.startswith("memory.max ")]
    return int(min([total_bytes, *amounts]))
