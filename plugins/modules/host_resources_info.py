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
      - Without it, what binds any cluster of that name counts.
    type: str
    default: ''
  cluster:
    description: Name of the cluster that is meant.
    type: str
    default: main
  locale:
    description: The locale that a new cluster is to have, to find out whether the host has it.
    type: str
    default: ''
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
      description:
        - The least of the host's memory, the limits of the service's cgroup and of all cgroups
          around it, and the limits that its unit and slices ask for.
        - Files of the unit that systemd has not read yet count too, also before the server is
          installed. The limits of the session that asks do not.
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
      description: CPUs that may be used, by affinity, sets of CPUs and quota.
      type: int
      sample: 2
    cpus_bound_by:
      description: Which of them.
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
    - Whether a server is installed, its majors, and its clusters with C(major), C(name), C(port),
      C(data_directory), C(socket_directories), and what its C(start.conf) says (C(start)).
    - C(standby) is whether a cluster is, or will start as, a standby or recovers from a backup, which takes no changes.
    - C(running_connections) is the C(max_connections) that a cluster was last started with, 0 when
      that is not known.
    - C(managed_settings) is what C(conf.d/zz-pooled.conf) of a cluster sets, without settings that
      may hold secrets. It is empty when there is no such file, or when it can't be read.
  returned: always
  type: dict
  sample:
    installed: true
    majors: [15]
    clusters:
      - major: 15
        name: main
        port: 5432
        data_directory: /var/lib/postgresql/15/main
        standby: false
        socket_directories: /var/run/postgresql
        start: auto
        running_connections: 80
        managed_settings: {work_mem: 16MB}
pgbouncer:
  description:
    - Whether PgBouncer is installed, its version, and whether it may come to a Postgres elsewhere without TLS (C(plain)).
    - C(os_user) is the OS user that V(auto) means as O(pooled.postgres.pgbouncer_config#module:os_user) on this host, and C(os_users) are those
      of its usual users that there are.
    - C(unit_user) is the one that it keeps while no restart is allowed, C(pid_file) where it then has its pid file by default, and C(fresh) says
      whether it is still as its package has installed it, or would.
    - C(unmanaged) is what a configuration has that neither this collection nor the package wrote, without secrets. It is there before PgBouncer is
      installed, too, where an earlier package left it, and none where there is no such configuration.
  returned: always
  type: dict
  sample: {installed: true, version: 1.18.0, plain: true, os_user: pgbouncer, os_users: [pgbouncer, postgres], unit_user: postgres,
    pid_file: /var/run/postgresql/pgbouncer.pid, fresh: true, unmanaged: null}
sandbox:
  description:
    - How much systemd can keep from a service on this host, found out by starting C(true) as one. V(full) where all works; V(mounts) without filters
      of system calls, which some containers do not allow; V(none) without mounts of the service's own either.
    - V(full) where systemd does not run, and where the module is not root.
  returned: always
  type: str
  sample: full
exporters:
  description: Programs of exporters of metrics that are installed, those of the distribution and this collection's own.
  returned: always
  type: list
  elements: str
  sample: [/usr/bin/prometheus-postgres-exporter]
unmanaged_files:
  description: Files that roles of this collection write whole, under names that others use too, and that somebody else has written.
  returned: always
  type: list
  elements: str
  sample: [/etc/systemd/system/prometheus-pgbouncer-exporter.service]
libraries:
  description: Of the libraries C(pgaudit) and C(set_user), by name, the majors of Postgres that have it.
  returned: always
  type: dict
  sample: {pgaudit: [17], set_user: []}
umask_file:
  description: Whether C(/etc/profile.d) has the file with which the role P(pooled.postgres.postgres#role) sets the umask of logins of C(postgres).
  returned: always
  type: bool
driver:
  description: Whether the distribution's Python has psycopg2, with which the other modules ask the server.
  returned: always
  type: bool
certificates:
  description:
    - What M(pooled.postgres.tls_certificate) keeps on the host, by service, as its O(pooled.postgres.tls_certificate#module:seen) wants it.
    - C(certificate) and C(authority) are PEM; of the C(key) only its C(owner), C(mode), and whether it belongs to the certificate (C(usable)).
  returned: always
  type: dict
asked:
  description: The O(version), O(cluster) and O(locale) that this is about.
  returned: always
  type: dict
  sample: {version: '17', cluster: main, locale: C.UTF-8}
locale_encoding:
  description: Encoding of the O(locale), as the C library calls it; empty when the host does not have it, or none was asked for.
  returned: always
  type: str
  sample: UTF-8
createcluster:
  description:
    - Whether C(/etc/postgresql-common/createcluster.conf) includes the directory C(createcluster.d) (C(included)), and what is read after
      C(pooled.conf) there (C(later)), by name, with C(value) and C(file).
  returned: always
  type: dict
  sample: {included: true, later: {}}
network_drop_ins:
  description: Text of the files with which units of Postgres wait for the network, by unit, as the role C(postgres) writes them.
  returned: always
  type: dict
  sample: {}
packages:
  description: Names of the packages that are installed whole. Empty where dpkg is not the distribution's.
  returned: always
  type: list
  elements: str
  sample: [postgresql-15, python3-psycopg2]
services:
  description: Of the services that roles of this collection look after, those that run as their units say and start with the host.
  returned: always
  type: list
  elements: str
  sample: [pgbouncer, postgresql]
files:
  description:
    - Of the files that roles of this collection write whole, those that are there, by path, with C(checksum) (SHA-1), C(owner), C(group) and C(mode), so
      that a role need not come to the host for what is there already.
    - The checksum is empty where there is no regular file, such as a link.
  returned: always
  type: dict
  sample:
    /etc/systemd/system/pgbouncer-migrations.service:
      {checksum: da39a3ee5e6b4b0d3255bfef95601890afd80709, owner: root, group: root, mode: '0644'}
package_lists:
  description: Whether apt has lists of packages, so that it can resolve names in check mode.
  returned: always
  type: bool
"""

import glob
import hashlib
import locale
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Collection, Iterable

from ansible_collections.pooled.postgres.plugins.module_utils._certificates import (
    files as certificate_files,
    plan as certificate_plan,
)
from ansible_collections.pooled.postgres.plugins.module_utils._host import (
    debian,
    files,
    identity,
    resources as host_resources,
)
from ansible_collections.pooled.postgres.plugins.module_utils._host.units import (
    KEPT_PROPERTIES,
    NETWORK_FILE,
    SANDBOXES,
    is_kept_running,
    probe,
)
from ansible_collections.pooled.postgres.plugins.module_utils._module import PooledModule
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    os_user,
    takeover_files,
)
from ansible_collections.pooled.postgres.plugins.module_utils._settings.profiles import LIBRARIES

PGBOUNCER = "/usr/sbin/pgbouncer"
PGBOUNCER_CONFIG = "/etc/pgbouncer/pgbouncer.ini"
PGBOUNCER_DROP_IN = "/etc/systemd/system/pgbouncer.service.d/pooled.conf"
EXPORTERS = (
    "/usr/bin/prometheus-postgres-exporter",
    "/usr/bin/prometheus-pgbouncer-exporter",
    "/usr/local/lib/pooled_pgbouncer_exporter.py",
)
WHOLE_FILES = (
    "/etc/prometheus-postgres-exporter-queries.yml",
    "/etc/systemd/system/prometheus-pgbouncer-exporter.service",
    "/etc/systemd/system/prometheus-pgbouncer-exporter@.service",
)
UMASK_FILE = "/etc/profile.d/pooled-postgres-umask.sh"
# Others that roles write whole, under names that nobody else uses.
OWN_FILES = (
    UMASK_FILE,
    "/usr/local/lib/pooled_pgbouncer_migrations.py",
    "/usr/local/lib/pooled_pgbouncer_exporter.py",
    "/etc/systemd/system/pgbouncer-migrations.service",
    "/etc/systemd/system/prometheus-postgres-exporter.service.d/pooled.conf",
    "/etc/systemd/system/prometheus-pgbouncer-exporter.service.d/pooled.conf",
)
SERVICES = (
    "postgresql",
    "pgbouncer",
    "pgbouncer-migrations",
    "prometheus-postgres-exporter",
    "prometheus-pgbouncer-exporter",
)
DPKG_STATUS = "/var/lib/dpkg/status"
HEADER = "# Managed by Ansible (pooled.postgres)"
# Files of a data directory with which a server follows another one, or recovers from a backup.
STANDBY_SIGNALS = ("standby.signal", "recovery.signal")
# Whose clusters of postgresql-common are, and whose rights are enough to look at them.
OWNER = "postgres"
CLUSTERS = "/etc/postgresql"
DIRECTORIES = host_resources.UNIT_DIRECTORIES
PACKAGED_LIBRARIES = tuple(item.name for item in LIBRARIES if item.package)
DRIVER = "/usr/lib/python3/dist-packages/psycopg2/__init__.py"


def text_of(path: str) -> str:
    """A file's text, or nothing when it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def text_of_cluster(path: str) -> str:
    """Text of a cluster's file, as its owner reads it, or nothing when that can't read it."""
    try:
        return files.read_text(path, files.Rights(OWNER, everywhere=True))
    except OSError:
        return ""


def majors_with(part: str) -> list[int]:
    """Majors that have a part of the server's package, by its path."""
    paths = glob.glob(f"/usr/lib/postgresql/*/{part}")
    names = [path.split("/")[4] for path in paths]
    return sorted(int(name) for name in names if name.isdigit())


def clusters_configured(module: PooledModule) -> list[dict[str, Any]]:
    """Clusters of postgresql-common."""
    clusters = []
    owner = identity.entry_of(OWNER)
    with identity.acting_as(owner):
        paths = glob.glob(f"{CLUSTERS}/*/*/postgresql.conf")
    for path in sorted(paths):
        major, name = path.split("/")[-3:-1]
        if not re.match(r"[0-9]+\Z", major):
            continue
        with identity.acting_as(owner):
            parts = sorted(glob.glob(os.path.join(os.path.dirname(path), "conf.d", "*.conf")))
        texts = [text_of_cluster(part) for part in (path, *parts)]
        cluster = host_resources.cluster(int(major), name, texts)
        program = f"/usr/lib/postgresql/{major}/bin/pg_controldata"
        report = ""
        if os.path.exists(program):
            command = [*identity.words_before(owner), program, "-D", cluster["data_directory"]]
            _code, report, _err = module.run_command(command, environ_update={"LC_ALL": "C"})
        signals = [os.path.join(cluster["data_directory"], name) for name in STANDBY_SIGNALS]
        with identity.acting_as(owner):
            standby = any(os.path.exists(signal) for signal in signals)
        drop_in = os.path.join(os.path.dirname(path), "conf.d", "zz-pooled.conf")
        start_conf = os.path.join(os.path.dirname(path), "start.conf")
        clusters.append(
            {
                **cluster,
                "standby": standby,
                "start": debian.start_mode(text_of_cluster(start_conf)),
                "running_connections": host_resources.running_connections(report),
                "managed_settings": host_resources.managed_settings(text_of_cluster(drop_in)),
            }
        )
    return clusters


def unmanaged_files() -> list[str]:
    """Those of the files that are written whole that somebody else has written."""
    texts = {path: text_of(path) for path in WHOLE_FILES}
    return [path for path, text in texts.items() if text and HEADER not in text]


def placed_files() -> dict[str, dict[str, str]]:
    """Of the files that are written whole, those that are there, as a role would compare them."""
    found = {}
    for path in (*WHOLE_FILES, *OWN_FILES):
        content = b""
        try:
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                # Whoever may put files there can't have another one read.
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                with open(descriptor, "rb") as handle:
                    content = handle.read()
        except OSError:
            continue
        found[path] = {
            # What Ansible compares files by.
            "checksum": hashlib.sha1(content).hexdigest() if content else "",  # noqa: S324
            "owner": files.user_name(status.st_uid),
            "group": files.group_name(status.st_gid),
            "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        }
    return found


def kept_services(module: PooledModule) -> list[str]:
    """Of the services that roles look after, those that run and start with the host."""
    if not os.path.isdir("/run/systemd/system"):
        return []
    command = ["systemctl", "show", "--property", ",".join(KEPT_PROPERTIES), "--"]
    _code, out, _err = module.run_command([*command, *(f"{name}.service" for name in SERVICES)])
    kept = {unit.get("Id") for unit in host_resources.units(out) if is_kept_running(unit)}
    return sorted(name for name in SERVICES if f"{name}.service" in kept)


def createcluster() -> dict[str, Any]:
    """What the host says of new clusters."""
    path, directory = debian.CREATECLUSTER_FILE, debian.CREATECLUSTER_DIRECTORY
    text = text_of(path) if os.path.exists(path) else None
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return debian.createcluster_entries(text, names, text_of)


def locale_encoding(name: str) -> str:
    """The encoding of a locale; empty when the host does not have it."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, name)
        return locale.nl_langinfo(locale.CODESET)
    except locale.Error:
        return ""
    finally:
        locale.setlocale(locale.LC_ALL, before)


def network_drop_ins() -> dict[str, str]:
    """Text of the files with which units of Postgres wait for the network."""
    found = glob.glob(f"/etc/systemd/system/postgresql@*.service.d/{NETWORK_FILE}")
    return {path.split("/")[4][: -len(".service.d")]: text_of(path) for path in sorted(found)}


def shown_units(module: PooledModule, names: Collection[str]) -> tuple[dict[str, str], ...]:
    """Properties of systemd's units as they are in force; none where systemd does not run."""
    if not names or not os.path.isdir("/run/systemd/system"):
        return ()
    command = ["systemctl", "show", "--property", ",".join(host_resources.UNIT_PROPERTIES), "--"]
    code, out, _err = module.run_command(command + sorted(names))
    return host_resources.units(out) if code == 0 else ()


def unit_texts(unit: str) -> list[str]:
    """The files of a unit in the order in which systemd reads them."""
    places = [
        (where, name) for name in host_resources.fragment_names(unit) for where in DIRECTORIES
    ]
    fragments = [os.path.join(*place) for place in places if os.path.exists(os.path.join(*place))]
    drop_ins: dict[str, str] = {}
    for name in host_resources.drop_in_names(unit):
        for where in DIRECTORIES:
            for path in glob.glob(os.path.join(where, name, "*.conf")):
                drop_ins.setdefault(os.path.basename(path), path)
    return [
        text_of(path) for path in (*fragments[:1], *(drop_ins[key] for key in sorted(drop_ins)))
    ]


def described_units(names: Iterable[str], memory_bytes: int) -> tuple[dict[str, str], ...]:
    """The same as their files say: those of a server to come, and changes not yet in force."""
    return tuple(
        host_resources.configured_unit(name, unit_texts(name), memory_bytes)
        for name in sorted(names)
    )


def binding_units(
    module: PooledModule, clusters: list[dict[str, Any]], memory_bytes: int
) -> list[dict[str, str]]:
    """The cluster's unit and the slices around it, both in force and as their files say."""
    names = host_resources.service_names(
        clusters, module.params["version"], module.params["cluster"]
    )
    services = [*shown_units(module, names), *described_units(names, memory_bytes)]
    around = {name for service in services for name in host_resources.slices(service)}
    return [*services, *shown_units(module, around), *described_units(around, memory_bytes)]


@dataclass
class Limits:
    """What was found that limits."""

    memory: list[host_resources.Limit] = field(default_factory=list)
    huge_pages: list[host_resources.Limit] = field(default_factory=list)
    cpus: list[host_resources.Limit] = field(default_factory=list)
    cpu_sets: list[host_resources.CpuSet] = field(default_factory=list)


def limits_of_cgroups(cgroups: Collection[str], total_bytes: int, page_bytes: int) -> Limits:
    """Limits of the cgroup that all services are in, of these, and of all cgroups around them."""
    limits = Limits()
    seen: set[str] = set()
    for mount in host_resources.cgroup_mounts(text_of("/proc/self/mountinfo")):
        names = host_resources.limit_files(mount, page_bytes)
        outer = host_resources.outer_cgroup(text_of("/proc/1/cgroup"), mount)
        for cgroup in (outer, *cgroups) if names else ():
            for directory in host_resources.cgroup_directories(mount, cgroup):
                if directory in seen:
                    continue
                seen.add(directory)
                texts = {name: text_of(os.path.join(directory, name)) for name in names}
                contents = {name: text for name, text in texts.items() if text}
                limits.memory += host_resources.memory_limits(directory, contents, total_bytes)
                limits.huge_pages += host_resources.huge_page_limits(
                    directory, contents, page_bytes
                )
                limits.cpus += host_resources.cpu_limits(directory, contents)
                limits.cpu_sets += host_resources.cpu_sets(directory, contents)
    return limits


def affinity() -> set[int]:
    """CPUs that services inherit, which a session may have fewer of."""
    try:
        return os.sched_getaffinity(1)
    except OSError:
        return os.sched_getaffinity(0)


def resources(module: PooledModule, clusters: list[dict[str, Any]]) -> dict[str, Any]:
    """What Postgres may have."""
    meminfo = text_of("/proc/meminfo")
    amounts = host_resources.meminfo_bytes(meminfo)
    total = amounts.get("MemTotal", 0)
    if not total:
        module.fail_json(msg="/proc/meminfo does not say how much memory there is")
    pages = host_resources.huge_pages(meminfo)
    outer = limits_of_cgroups((), total, pages["page_bytes"])
    units = binding_units(
        module, clusters, host_resources.systemd_memory_bytes(total, outer.memory)
    )
    cgroups = [unit["ControlGroup"] for unit in units if unit.get("ControlGroup")]
    limits = limits_of_cgroups(cgroups, total, pages["page_bytes"])
    for unit in units:
        limits.memory += host_resources.unit_memory_limits(unit, total)
        limits.cpus += host_resources.unit_cpu_limits(unit)
        limits.cpu_sets += host_resources.unit_cpu_sets(unit)
    memory_bytes, memory_bound_by, in_cgroup = host_resources.bound_memory(total, limits.memory)
    count, cpus_bound_by = host_resources.bound_cpus(affinity(), limits.cpu_sets, limits.cpus)
    overcommit = text_of("/proc/sys/vm/overcommit_memory").strip()
    return {
        "memory_bytes": memory_bytes,
        "memory_bound_by": memory_bound_by,
        "in_cgroup": in_cgroup,
        "cpus": count,
        "cpus_bound_by": cpus_bound_by,
        "shm_bytes": filesystem_bytes("/dev/shm"),  # noqa: S108 - its size is what is asked
        "huge_pages": host_resources.bound_huge_pages(pages, limits.huge_pages),
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


def wal_filesystem(module: PooledModule, clusters: list[dict[str, Any]]) -> dict[str, Any]:
    """Where the cluster's WAL is or will be, as far as that exists, and how large that is."""
    asked = module.params
    paths = host_resources.wal_directories(clusters, asked["version"], asked["cluster"])
    found = []
    for path in paths:
        with files.reached(path, files.Rights(OWNER)) as reached:
            place = reached.path
            while not os.path.exists(place):
                place = os.path.dirname(place)
            found.append({"path": place, "size_bytes": filesystem_bytes(place)})
    return min(found, key=lambda place: place["size_bytes"])


def pgbouncer(module: PooledModule) -> dict[str, Any]:
    """Whether PgBouncer is there, its version, how it comes to servers, and its OS user."""
    installed = os.path.exists(PGBOUNCER)
    version, as_packaged, plain = None, False, False
    if installed:
        _code, out, _err = module.run_command([PGBOUNCER, "--version"])
        version = host_resources.pgbouncer_version(out)
        as_packaged = not os.path.exists(PGBOUNCER_DROP_IN) and os_user.is_package_file(
            module.run_command, PGBOUNCER_CONFIG
        )
        ini = ""
        with suppress(OSError):
            ini = files.read_text(PGBOUNCER_CONFIG, files.Rights(OWNER))
        plain = host_resources.is_plain_pooler(version or "", ini)
    unit_user = os_user.unit_user(unit_texts("pgbouncer.service"))
    user = os_user.chosen(
        os_user.AUTO,
        installed=installed,
        as_packaged=as_packaged,
        unit_user=unit_user,
    )
    usual = {*os_user.possible(os_user.AUTO), user}
    unmanaged = None
    with suppress(OSError, ValueError):
        unmanaged = takeover_files.unmanaged(
            PGBOUNCER_CONFIG, files.Rights(unit_user or OWNER), as_packaged=as_packaged
        )
    return {
        "installed": installed,
        "version": version,
        "plain": plain,
        "os_user": user,
        "os_users": sorted(filter(os_user.exists, usual)),
        "unit_user": unit_user or os_user.PACKAGED,
        "pid_file": os_user.layout(unit_user or os_user.PACKAGED)["pidfile"],
        "fresh": as_packaged or not installed,
        "unmanaged": unmanaged.as_fact() if unmanaged and not unmanaged.is_bare else None,
    }


def sandbox(module: PooledModule) -> str:
    """The most that systemd can keep from a service that is not root's."""
    if os.geteuid() != 0 or not os.path.isdir("/run/systemd/system"):
        return SANDBOXES[0]
    name = f"pooled-look-{os.getpid()}"
    run = ["timeout", "20", "systemd-run", "--quiet", "--wait", "--collect", "--unit", name]
    for one in SANDBOXES[:-1]:
        code, _out, _err = module.run_command([*run, *probe(one), "/usr/bin/true"])
        if code == 0:
            return one
    return SANDBOXES[-1]


def main() -> None:
    module = PooledModule(
        {
            "version": {"type": "str", "default": ""},
            "cluster": {"type": "str", "default": "main"},
            "locale": {"type": "str", "default": ""},
        }
    )
    majors = majors_with("bin/postgres")
    clusters = clusters_configured(module)
    module.exit_json(
        changed=False,
        resources=resources(module, clusters),
        distribution=host_resources.os_release(text_of("/etc/os-release")),
        postgres={"installed": bool(majors), "majors": majors, "clusters": clusters},
        pgbouncer=pgbouncer(module),
        sandbox=sandbox(module),
        exporters=[path for path in EXPORTERS if os.path.exists(path)],
        unmanaged_files=unmanaged_files(),
        libraries={name: majors_with(f"lib/{name}.so") for name in PACKAGED_LIBRARIES},
        umask_file=os.path.exists(UMASK_FILE),
        driver=os.path.exists(DRIVER),
        certificates=certificate_files.look_all(certificate_plan.DIRECTORY),
        asked=dict(module.params),
        locale_encoding=locale_encoding(module.params["locale"]) if module.params["locale"] else "",
        createcluster=createcluster(),
        network_drop_ins=network_drop_ins(),
        packages=debian.installed_packages(text_of(DPKG_STATUS)),
        services=kept_services(module),
        files=placed_files(),
        package_lists=bool(glob.glob("/var/lib/apt/lists/*_Packages*")),
    )


if __name__ == "__main__":
    main()
