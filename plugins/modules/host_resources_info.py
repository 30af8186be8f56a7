#!/usr/bin/python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module: what a host lets Postgres have, and what is installed on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_resources_info
short_description: What a host lets Postgres have, and what is installed on it
version_added: 0.1.0
description:
  - Finds the memory and the CPUs that really bind a Postgres server, which in containers and under
    limits of systemd are not those that the kernel reports.
  - Finds which servers and which PgBouncer are installed.
  - Needs no facts, and nothing installed but Python. As root it sees all that binds; other users
    may miss limits that they can't read.
options:
  version:
    description:
      - Major version of the server that is meant, to ask systemd for the limits of its unit.
      - The units of all clusters that exist are asked anyway.
    type: str
    default: ''
  cluster:
    description: Name of the cluster that is meant.
    type: str
    default: main
extends_documentation_fragment:
  - pooled.postgres.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Changes nothing.
  idempotent:
    support: full
author:
  - pooled.postgres contributors (@pooled)
"""

EXAMPLES = r"""
- name: Find out what the host has
  pooled.postgres.host_resources_info:
  register: host

- name: Show what a server there would get
  ansible.builtin.debug:
    msg: "{{ (host.resources | pooled.postgres.memory_budget(max_connections=60)).table }}"
"""

RETURN = r"""
resources:
  description: What Postgres may have.
  returned: always
  type: dict
  contains:
    memory_bytes:
      description: The least of the host's memory, the limits of the service's cgroup and of all
        cgroups around it, and the limits that its unit and slices ask for.
      type: int
      sample: 536870912
    memory_bound_by:
      description: What that is.
      type: str
      sample: memory.max of /sys/fs/cgroup
    in_cgroup:
      description: Whether it is a limit rather than the host's memory.
      type: bool
    cpus:
      description: CPUs that may be used, by affinity and quota.
      type: int
      sample: 2
    cpus_bound_by:
      description: Which of the two.
      type: str
      sample: CPU affinity
    shm_bytes:
      description: Size of C(/dev/shm), which parallel queries use; 0 when there is none.
      type: int
      sample: 67108864
    commit_limit_bytes:
      description: The kernel's C(CommitLimit), which binds only when
        RV(resources.overcommit_memory) is 2.
      type: int
    overcommit_memory:
      description: The kernel's C(vm.overcommit_memory).
      type: int
      sample: 0
    huge_pages:
      description: Huge pages of the default size, with C(page_bytes), C(total), and C(free), those
        that nobody uses or has reserved.
      type: dict
      sample: {page_bytes: 2097152, total: 0, free: 0}
    wal_filesystem:
      description:
        - The filesystem that the cluster's C(pg_wal) is on, or will be, with C(size_bytes) and
          C(path), the part of its path that exists. A C(pg_wal) that is a link is followed.
        - Without O(version), the smallest one of all clusters of that name.
      type: dict
      sample: {path: /var/lib/postgresql/15/main/pg_wal, size_bytes: 107374182400}
distribution:
  description: The distribution.
  returned: always
  type: dict
  sample: {id: debian, release: '12', codename: bookworm}
postgres:
  description:
    - Whether a server is installed, its majors, and its clusters with C(major), C(name), C(port)
      and C(data_directory).
    - C(running_connections) is the C(max_connections) that a cluster was last started with, 0 when
      that is not known.
    - C(managed_settings) is what C(conf.d/zz-pooled.conf) of a cluster sets, without settings that
      may hold secrets. It is empty when there is no such file, or when it can't be read.
  returned: always
  type: dict
  sample: {installed: true, majors: [15], clusters: [{major: 15, name: main, port: 5432, data_directory: /var/lib/postgresql/15/main, running_connections: 80, managed_settings: {work_mem: 16MB}}]}
pgbouncer:
  description: Whether PgBouncer is installed, and its version.
  returned: always
  type: dict
  sample: {installed: true, version: 1.18.0}
driver:
  description: Whether the distribution's Python has psycopg2, with which the other modules ask the server.
  returned: always
  type: bool
asked:
  description: The O(version) and O(cluster) that this is about.
  returned: always
  type: dict
  sample: {version: '17', cluster: main}
package_lists:
  description: Whether apt has lists of packages, so that it can resolve names in check mode.
  returned: always
  type: bool
"""

import glob
import os
import re
from typing import Any, Collection, Iterable

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pooled.postgres.plugins.module_utils import _resources

PGBOUNCER = "/usr/sbin/pgbouncer"
DRIVER = "/usr/lib/python3/dist-packages/psycopg2/__init__.py"


def text_of(path: str) -> str:
    """A file's text, or nothing when it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def majors_installed() -> list[int]:
    """Majors whose server binary is there."""
    paths = glob.glob("/usr/lib/postgresql/*/bin/postgres")
    names = [path.split("/")[4] for path in paths]
    return sorted(int(name) for name in names if name.isdigit())


def clusters_configured(module: AnsibleModule) -> list[dict[str, Any]]:
    """Clusters of postgresql-common."""
    clusters = []
    for path in sorted(glob.glob("/etc/postgresql/*/*/postgresql.conf")):
        major, name = path.split("/")[3:5]
        if not re.match(r"[0-9]+\Z", major):
            continue
        parts = sorted(glob.glob(os.path.join(os.path.dirname(path), "conf.d", "*.conf")))
        texts = [text_of(part) for part in (path, *parts)]
        cluster = _resources.cluster(int(major), name, texts)
        program = f"/usr/lib/postgresql/{major}/bin/pg_controldata"
        report = ""
        if os.path.exists(program):
            command = [program, "-D", cluster["data_directory"]]
            _code, report, _err = module.run_command(command, environ_update={"LC_ALL": "C"})
        drop_in = os.path.join(os.path.dirname(path), "conf.d", "zz-pooled.conf")
        clusters.append(
            {
                **cluster,
                "running_connections": _resources.running_connections(report),
                "managed_settings": _resources.managed_settings(text_of(drop_in)),
            }
        )
    return clusters


def shown_units(module: AnsibleModule, names: Collection[str]) -> tuple[dict[str, str], ...]:
    """Properties of systemd's units; none where systemd does not run."""
    if not names or not os.path.isdir("/run/systemd/system"):
        return ()
    command = ["systemctl", "show", "--property", ",".join(_resources.UNIT_PROPERTIES), "--"]
    code, out, _err = module.run_command(command + sorted(names))
    return _resources.units(out) if code == 0 else ()


def service_units(
    module: AnsibleModule, clusters: list[dict[str, Any]]
) -> tuple[tuple[dict[str, str], ...], tuple[dict[str, str], ...]]:
    """The units of the clusters, and the slices around them."""
    wanted = {f"postgresql@{cluster['major']}-{cluster['name']}.service" for cluster in clusters}
    if module.params["version"]:
        wanted.add("postgresql@{version}-{cluster}.service".format(**module.params))
    services = shown_units(module, wanted) or ({},)
    around = {name for service in services for name in _resources.slices(service)}
    return services, shown_units(module, around)


def limits_of_cgroups(
    mounts: Iterable[_resources.Mount], cgroups: Iterable[str], total_bytes: int
) -> tuple[list[_resources.Limit], list[_resources.Limit]]:
    """Limits of memory and of CPUs of cgroups and of all cgroups around them."""
    memory: list[_resources.Limit] = []
    cpus: list[_resources.Limit] = []
    seen: set[str] = set()
    for mount in mounts:
        names = _resources.limit_files(mount)
        if not names:
            continue
        for cgroup in (*cgroups, _resources.own_cgroup(text_of("/proc/1/cgroup"), mount)):
            for directory in _resources.cgroup_directories(mount, cgroup):
                if directory in seen:
                    continue
                seen.add(directory)
                texts = {name: text_of(os.path.join(directory, name)) for name in names}
                contents = {name: text for name, text in texts.items() if text}
                memory.extend(_resources.memory_limits(directory, contents, total_bytes))
                cpus.extend(_resources.cpu_limits(directory, contents))
    return memory, cpus


def resources(module: AnsibleModule, clusters: list[dict[str, Any]]) -> dict[str, Any]:
    """What Postgres may have."""
    meminfo = text_of("/proc/meminfo")
    amounts = _resources.meminfo_bytes(meminfo)
    total = amounts.get("MemTotal", 0)
    if not total:
        module.fail_json(msg="/proc/meminfo does not say how much memory there is")
    services, slices = service_units(module, clusters)
    mounts = _resources.cgroup_mounts(text_of("/proc/self/mountinfo"))
    cgroups = [unit["ControlGroup"] for unit in (*services, *slices) if unit.get("ControlGroup")]
    memory, cpus = limits_of_cgroups(mounts, cgroups, total)
    for unit in (*services, *slices):
        memory.extend(_resources.unit_memory_limits(unit, total))
        cpus.extend(_resources.unit_cpu_limits(unit))
    memory_bytes, memory_bound_by, in_cgroup = _resources.bound_memory(total, memory)
    count, cpus_bound_by = _resources.bound_cpus(len(os.sched_getaffinity(0)), cpus)
    overcommit = text_of("/proc/sys/vm/overcommit_memory").strip()
    return {
        "memory_bytes": memory_bytes,
        "memory_bound_by": memory_bound_by,
        "in_cgroup": in_cgroup,
        "cpus": count,
        "cpus_bound_by": cpus_bound_by,
        "shm_bytes": filesystem_bytes("/dev/shm"),  # noqa: S108 - its size is what is asked
        "huge_pages": _resources.huge_pages(meminfo),
        "wal_filesystem": wal_filesystem(module, clusters),
        "commit_limit_bytes": amounts.get("CommitLimit"),
        "overcommit_memory": int(overcommit) if overcommit.isdigit() else 0,
    }


def filesystem_bytes(path: str) -> int:
    """Size of the filesystem that a path is on; 0 when there is no such path."""
    try:
        status = os.statvfs(path)
    except OSError:
        return 0
    return status.f_blocks * status.f_frsize


def wal_filesystem(module: AnsibleModule, clusters: list[dict[str, Any]]) -> dict[str, Any]:
    """Where the cluster's WAL is or will be, as far as that exists, and how large that is."""
    asked = module.params
    paths = _resources.wal_directories(clusters, asked["version"], asked["cluster"])
    found = []
    for path in paths:
        place = os.path.realpath(path)
        while not os.path.exists(place):
            place = os.path.dirname(place)
        found.append({"path": place, "size_bytes": filesystem_bytes(place)})
    return min(found, key=lambda place: place["size_bytes"])


def pgbouncer(module: AnsibleModule) -> dict[str, Any]:
    """Whether PgBouncer is there, and its version."""
    if not os.path.exists(PGBOUNCER):
        return {"installed": False, "version": None}
    _code, out, _err = module.run_command([PGBOUNCER, "--version"])
    return {"installed": True, "version": _resources.pgbouncer_version(out)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "default": ""},
            "cluster": {"type": "str", "default": "main"},
        },
        supports_check_mode=True,
    )
    majors = majors_installed()
    clusters = clusters_configured(module)
    module.exit_json(
        changed=False,
        resources=resources(module, clusters),
        distribution=_resources.os_release(text_of("/etc/os-release")),
        postgres={"installed": bool(majors), "majors": majors, "clusters": clusters},
        pgbouncer=pgbouncer(module),
        driver=os.path.exists(DRIVER),
        asked=dict(module.params),
        package_lists=bool(glob.glob("/var/lib/apt/lists/*_Packages*")),
    )


if __name__ == "__main__":
    main()
