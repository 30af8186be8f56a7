#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run pgbench against one server with three configurations, in a container with little memory.

The configurations are the distribution's defaults, what pgtune's published rules lead to, and what
the role pooled.postgres.postgres writes. All three run in every round, so that what else happens on
the machine meets all of them. Then each gets every session that it allows, sorting and hashing at
the same time, and the kernel says how many processes it had to kill.

Usage: tools/env benchmarks/pgbench_sizing.py [--quick] [--memory 2g] [--connections 60]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = f"pooled-benchmark-{os.getpid()}"
LOAD = ROOT / "molecule" / "sizing" / "files"
MIB = 1024 * 1024

PLAYBOOK = """
- hosts: all
  gather_facts: false
  roles:
    - role: pooled.postgres.postgres
"""

# Reports over some weeks of orders: hash joins, hash aggregates, and sorts of a few megabytes.
ANALYTIC_DATA = """
CREATE TABLE customers AS
  SELECT i AS customer, md5(i::text) AS name, i % 50 AS region FROM generate_series(1, 20000) AS i;
CREATE TABLE orders AS
  SELECT i AS number, (i * 7919) % 20000 + 1 AS customer, i % 60 AS day, (i * 31) % 1000 AS amount
  FROM generate_series(1, 200000) AS i;
"""
ANALYTIC = """
SELECT count(*), max(total) FROM (
  SELECT c.name, c.region, sum(o.amount) AS total,
         rank() OVER (PARTITION BY c.region ORDER BY sum(o.amount) DESC) AS place
  FROM orders AS o JOIN customers AS c USING (customer) GROUP BY c.customer, c.name, c.region
) AS ranked WHERE place <= 10;
SELECT count(*) FROM (
  SELECT row_number() OVER (PARTITION BY customer ORDER BY day, amount DESC, number) AS n
  FROM orders
) AS ordered WHERE n = 1;
"""


SHOWN = (
    "max_connections",
    "shared_buffers",
    "effective_cache_size",
    "work_mem",
    "maintenance_work_mem",
    "max_parallel_workers_per_gather",
    "max_wal_size",
    "jit",
)


class BenchmarkError(Exception):
    """What went wrong, for the person at the terminal."""


@dataclass(frozen=True)
class Plan:
    """How much is measured, and how long."""

    scale: int
    seconds: int
    rounds: int
    most_seconds_of_overload: int


@dataclass(frozen=True)
class Workload:
    """What pgbench does, with how many clients."""

    title: str
    arguments: tuple[str, ...]
    clients: int


@dataclass
class Measured:
    """What was seen of one configuration."""

    tps: dict[str, list[float]] = field(default_factory=dict)
    asked: int = 0
    done: int = 0
    kills: int = 0
    words: str = ""


WORKLOADS = (
    Workload("TPC-B", ("--builtin=tpcb-like",), 8),
    Workload("select only", ("--builtin=select-only",), 8),
    Workload("sorts and hashes", ("--file=/tmp/analytic.sql",), 4),
)


def pgtune(memory_bytes: int, cpus: int, connections: int, major: int) -> dict[str, str]:
    """Settings by pgtune's rules for a web application on Linux with SSDs, data of 1 to 3 x RAM.

    The rules are those of https://github.com/le0pard/pgtune at commit 7caef27 of July 2026
    (src/features/configuration/configurationSlice.js), in our own words.
    """
    memory = memory_bytes // 1024
    buffers = memory // 4
    wal = min(buffers * 3 // 100, 16384)
    wal = 16384 if wal > 14336 else max(wal, 32)
    workers = cpus if cpus >= 4 else 8
    settings = {
        "max_connections": str(connections),
        "shared_buffers": f"{buffers}kB",
        "effective_cache_size": f"{memory * 3 // 4}kB",
        "maintenance_work_mem": f"{min(memory // 16, 8 * MIB)}kB",
        "checkpoint_completion_target": "0.9",
        "wal_buffers": f"{wal}kB",
        "default_statistics_target": "100",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "200",
        "work_mem": f"{max((memory - buffers) // ((connections + workers) * 3), 4096)}kB",
        "huge_pages": "try" if buffers >= 2 * MIB else "off",
        "min_wal_size": "1GB",
        "max_wal_size": "4GB",
        "jit": "off",
        "wal_compression": "lz4" if major >= 15 else "on",
    }
    if cpus >= 4:
        half = str(min((cpus + 1) // 2, 4))
        settings |= {
            "max_worker_processes": str(cpus),
            "max_parallel_workers": str(cpus),
            "max_parallel_workers_per_gather": half,
            "max_parallel_maintenance_workers": half,
        }
    if cpus >= 16:
        settings["autovacuum_max_workers"] = "5" if cpus >= 32 else "4"
    return settings


def run(*argv: str, text: str = "", check: bool = True) -> str:
    """What a command prints.

    Raises:
        BenchmarkError: it failed.
    """
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise BenchmarkError(f"{' '.join(argv[:4])} ... failed:\n{said}")
    return done.stdout + done.stderr


def inside(script: str, text: str = "", check: bool = True) -> str:
    """Run a shell script in the container, as root."""
    return run("podman", "exec", "-i", NAME, "sh", "-euc", script, text=text, check=check)


def sql(query: str, database: str = "postgres") -> str:
    command = f"cd /tmp && runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d {database}"
    return inside(command, text=query).strip()


def pgbench(arguments: str, database: str = "bench", most_seconds: int = 600) -> str:
    """What pgbench prints, also when its sessions were cut off."""
    program = f"timeout {most_seconds} /usr/lib/postgresql/*/bin/pgbench"
    return inside(
        f"cd /tmp && runuser -u postgres -- sh -c '{program} {arguments} {database}'", check=False
    )


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what goes on, and how long it took."""
    print(f"  {title:<60}", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed")
        raise
    print(f"{time.monotonic() - start:5.0f} s", flush=True)


def start_container(release: str, memory: str) -> None:
    build = (ROOT / "molecule" / "shared" / "images" / "build", release)
    image = subprocess.run(build, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    options = ("--name", NAME, "--memory", memory, "--memory-swap", memory, "--systemd", "always")
    # As on a host, where it is half of the memory; engines give 64 MB.
    shm = f"--shm-size={bytes_of(memory) // 2}"
    run("podman", "run", "--detach", *options, shm, image, "/sbin/init")
    deadline = time.monotonic() + 60
    while True:
        state = inside("systemctl is-system-running --wait", check=False).strip()
        if state in ("running", "degraded"):
            return
        if time.monotonic() > deadline:
            raise BenchmarkError(f"systemd does not come up in the container: {state}")
        time.sleep(1)


def provision(connections: int) -> str:
    """Have the role set the server up; the settings it wrote."""
    variables = {
        "ansible_connection": "containers.podman.podman",
        "ansible_python_interpreter": "/usr/bin/python3",
        "pooled_databases": [],
        "postgres_max_connections": connections,
    }
    with tempfile.TemporaryDirectory(prefix="pooled-") as folder:
        playbook = Path(folder, "playbook.yml")
        playbook.write_text(PLAYBOOK, encoding="utf-8")
        extra = f"--extra-vars={json.dumps(variables)}"
        run("ansible-playbook", f"--inventory={NAME},", extra, str(playbook))
    return inside("cat /etc/postgresql/*/main/conf.d/zz-pooled.conf")


def fill(plan: Plan) -> None:
    """Make the databases, the same for all configurations."""
    sql("CREATE DATABASE bench")
    sql("CREATE DATABASE load")
    pgbench(f"--initialize --quiet --init-steps=dtgvp --scale={plan.scale}")
    sql(ANALYTIC_DATA, "bench")
    inside("cat > /tmp/analytic.sql", text=ANALYTIC)
    sql((LOAD / "load_data.sql").read_text(encoding="utf-8"), "load")
    inside("cat > /tmp/load.sql", text=(LOAD / "load.sql").read_text(encoding="utf-8"))
    sql("VACUUM ANALYZE", "bench")


def use(configuration: str) -> None:
    """Restart the server with a drop-in file of just these lines."""
    inside("cat > $(ls -d /etc/postgresql/*/main/conf.d)/zz-pooled.conf", text=configuration)
    inside("systemctl restart postgresql")
    deadline = time.monotonic() + 60
    while "1" not in inside("runuser -u postgres -- psql -XAtqc 'SELECT 1'", check=False).split():
        if time.monotonic() > deadline:
            raise BenchmarkError("the server does not come back")
        time.sleep(0.5)


def measure(workload: Workload, seconds: int) -> float:
    """Transactions a second; 0 when the sessions were cut off."""
    words = " ".join(workload.arguments)
    said = pgbench(f"--no-vacuum --client={workload.clients} --jobs=2 --time={seconds} {words}")
    found = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
    return 0.0 if found is None or "aborted" in said else float(found.group(1))


def oom_kills() -> int:
    state = inside("cat | sh", text=(LOAD / "memory_state.sh").read_text(encoding="utf-8"))
    return int(json.loads(state)["oom_kills"])


def overload(seen: Measured, most_seconds: int) -> None:
    """Every session that ordinary users can have does the heavy work once, all at the same time."""
    sessions = int(
        sql(
            "SELECT sum(CASE name WHEN 'max_connections' THEN 1 ELSE -1 END * setting::int)"
            " FROM pg_settings WHERE name IN"
            " ('max_connections', 'superuser_reserved_connections', 'reserved_connections')"
        )
    )
    before = oom_kills()
    inside("rm -rf /tmp/done && install -d -o postgres /tmp/done")
    often = "--log --log-prefix=/tmp/done/log --transactions=1"
    said = pgbench(f"-n -c {sessions} -j 2 {often} -f /tmp/load.sql", "load", most_seconds)
    seen.asked, seen.done = sessions, int(inside("cat /tmp/done/log* | wc -l"))
    seen.kills = oom_kills() - before
    errors = re.findall(r"(?:ERROR|FATAL):\s+(.*?)(?: \"/|$)|(backend died)", said, re.MULTILINE)
    words = sorted({first or second for first, second in errors})[:2]
    if seen.done < seen.asked and not words:
        words = [f"not done in {most_seconds} s"]
    seen.words = ", ".join(words)


def ratios(over: list[float], under: list[float]) -> str:
    """The middle of the ratios of each round, and how far they spread."""
    each = [a / b for a, b in zip(over, under, strict=True) if a and b]
    if not each:
        return "-"
    return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        first, *rest = (text.rjust(width) for text, width in zip(row, widths, strict=True))
        print("  ".join(["", row[0].ljust(widths[0]), *rest]).rstrip() if first else "")
    print()


def report(measured: dict[str, Measured], configured: dict[str, dict[str, str]]) -> None:
    names = tuple(measured)
    print()
    table(("setting", *names), [(key, *(configured[name][key] for name in names)) for key in SHOWN])
    middle = {
        name: {title: statistics.median(tps) for title, tps in seen.tps.items()}
        for name, seen in measured.items()
    }
    ours = measured["ours"].tps
    others = names[:-1]
    table(
        ("transactions a second, median", *names, *(f"ours / {name}" for name in others)),
        [
            (
                title,
                *(f"{middle[name][title]:.1f}" for name in names),
                *(ratios(ours[title], measured[name].tps[title]) for name in others),
            )
            for title in (workload.title for workload in WORKLOADS)
        ],
    )
    count: dict[str, Callable[[Measured], str]] = {
        "transactions asked": lambda seen: str(seen.asked),
        "done": lambda seen: str(seen.done),
        "OOM kills": lambda seen: str(seen.kills),
        "errors": lambda seen: seen.words or "none",
    }
    table(
        ("all sessions at once", *names),
        [(title, *(of(measured[name]) for name in names)) for title, of in count.items()],
    )


def settings_now() -> dict[str, str]:
    return dict(
        line.split("=", 1)
        for line in sql("SELECT name || '=' || current_setting(name) FROM pg_settings").splitlines()
        if "=" in line
    )


def benchmark(plan: Plan, release: str, memory: str, connections: int) -> None:
    with step(f"start Debian {release} with {memory} of memory"):
        start_container(release, memory)
    with step("set the server up with the role"):
        ours = provision(connections)
    limit, cpus = (int(number) for number in inside(f"echo {bytes_of(memory)} $(nproc)").split())
    major = int(sql("SHOW server_version_num")) // 10000
    tuned = pgtune(limit, cpus, connections, major)
    configurations = {
        "defaults": f"max_connections = {connections}\n",
        "pgtune": "".join(f"{name} = '{value}'\n" for name, value in tuned.items()),
        "ours": ours,
    }
    with step(f"fill the database, scale {plan.scale}"):
        fill(plan)
    measured = {name: Measured() for name in configurations}
    configured: dict[str, dict[str, str]] = {}
    for number in range(1, plan.rounds + 1):
        with step(f"round {number} of {plan.rounds}: {len(WORKLOADS)} x {len(measured)} runs"):
            # What a configuration leaves behind meets each of the others equally often.
            turn = number % len(measured)
            for name, seen in [*measured.items()][turn:] + [*measured.items()][:turn]:
                use(configurations[name])
                sql("VACUUM", "bench")
                configured[name] = settings_now()
                for workload in WORKLOADS:
                    measure(workload, 1)
                    sql("CHECKPOINT")
                    tps = measure(workload, plan.seconds)
                    seen.tps.setdefault(workload.title, []).append(tps)
    for name, seen in measured.items():
        with step(f"all sessions at once: {name}"):
            use(configurations[name])
            overload(seen, plan.most_seconds_of_overload)
    size = sql("SELECT pg_size_pretty(pg_database_size('bench'))")
    print(f"\nPostgres {major}, {memory} of memory, {cpus} CPUs, {size} of data")
    report(measured, configured)


def bytes_of(memory: str) -> int:
    """Bytes of what podman takes for --memory."""
    found = re.fullmatch(r"(\d+)([mg])", memory)
    if found is None:
        raise BenchmarkError(f"--memory: {memory!r} is none; say it as 512m or 2g")
    return int(found.group(1)) * MIB * (1024 if found.group(2) == "g" else 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short rounds, with little data")
    parser.add_argument("--memory", default="2g", help="of the container: 2g, 1g, 512m")
    parser.add_argument("--connections", type=int, default=60, help="max_connections of all three")
    parser.add_argument("--release", default="13", choices=("12", "13"), help="of Debian")
    given = parser.parse_args()
    plan = Plan(20, 3, 3, 60) if given.quick else Plan(60, 6, 6, 120)
    try:
        bytes_of(given.memory)
        benchmark(plan, given.release, given.memory, given.connections)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        run("podman", "rm", "--force", "--time", "0", NAME, check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
