#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run pgbench through PgBouncer and directly, with few clients and with ten thousand at once.

For each Debian release, the site playbook sets up Postgres and PgBouncer in a container. In every
round, each release in its turn serves 25 clients directly, 25 through PgBouncer, and 10,000 through
PgBouncer, with 25 server connections. Clients log in with SCRAM and 4096 iterations, over TCP.

Usage: tools/env benchmarks/pooling.py [--quick] [--clients 10000] [--release 12|13]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
POOL = 25
FEW = 25
PASSWORD = secrets.token_hex(12)
DIRECT, POOLED = "5432", "6432"
VERSIONS = {"12": "1.18", "13": "1.24"}
LIMIT_SECONDS = 600

PLAYBOOK = """
- ansible.builtin.import_playbook: pooled.postgres.site
"""

# A second connection would wait in vain for a place, so the looking connection is opened first.
WATCH = """
import json, select, sys, psycopg2, psycopg2.extras
console = psycopg2.connect(
    host="/var/run/postgresql", port=6432, user="pgbouncer", dbname="pgbouncer"
)
console.autocommit = True
server = psycopg2.connect(host="/var/run/postgresql", dbname="postgres")
server.autocommit = True
most = dict.fromkeys(("clients", "active", "waiting", "pooled", "sessions"), 0)
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.2)[0]:
    with console.cursor(cursor_factory=psycopg2.extras.DictCursor) as cursor:
        cursor.execute("SHOW POOLS")
        pools = [pool for pool in cursor if pool["user"] == "app_user"]
    with server.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_user'"
        )
        seen = {"sessions": cursor.fetchone()[0]}
    seen["active"] = sum(pool["cl_active"] for pool in pools)
    seen["waiting"] = sum(pool["cl_waiting"] for pool in pools)
    seen["clients"] = seen["active"] + seen["waiting"]
    seen["pooled"] = sum(
        pool[key] for pool in pools for key in ("sv_active", "sv_idle", "sv_used", "sv_login")
    )
    most = {key: max(most[key], seen[key]) for key in most}
print(json.dumps(most))
"""


class BenchmarkError(Exception):
    """What went wrong, for the person at the terminal."""


@dataclass(frozen=True)
class Workload:
    """What pgbench does in each transaction."""

    title: str
    arguments: str


SELECT = Workload("one SELECT", "-S")
PREPARED = Workload("one SELECT, prepared", "-S -M prepared")
WORKLOADS = (
    SELECT,
    Workload("TPC-B", "-b tpcb-like"),
    PREPARED,
    Workload("log in, one SELECT, leave", "-S -C"),
)


@dataclass(frozen=True)
class Run:
    """What one run of pgbench did, and the processor time that PgBouncer took for it."""

    tps: float
    transactions: int
    failed: int
    login_seconds: float
    pooler_seconds: float

    @property
    def microseconds(self) -> float:
        """Of PgBouncer's processor time for each transaction."""
        return self.pooler_seconds * 1e6 / self.transactions


@dataclass
class Measured:
    """What was seen of one release."""

    versions: str = ""
    direct: dict[str, list[Run]] = field(default_factory=dict)
    pooled: dict[str, list[Run]] = field(default_factory=dict)
    many: list[Run] = field(default_factory=list)
    most: dict[str, int] = field(default_factory=dict)
    memory_kb: int = 0


def run(*argv: str, text: str = "", check: bool = True) -> str:
    """Both outputs of a command.

    Raises:
        BenchmarkError: it failed.
    """
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise BenchmarkError(f"{' '.join(argv[:4])} ... failed:\n{said}")
    return done.stdout + done.stderr


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what goes on, and how long it took."""
    print(f"  {title:<66}", end="", flush=True)
    start = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed")
        raise
    print(f"{time.monotonic() - start:5.0f} s", flush=True)


def workloads(release: str) -> list[Workload]:
    """Those that work: PgBouncer 1.18 keeps no prepared statements."""
    return [one for one in WORKLOADS if one is not PREPARED or release != "12"]


def name_of(release: str) -> str:
    return f"pooled-benchmark-{os.getpid()}-{release}"


def inside(release: str, script: str, text: str = "", check: bool = True) -> str:
    """Run a shell script in a release's container, as root."""
    command = ("podman", "exec", "-i", name_of(release), "sh", "-euc", script)
    return run(*command, text=text, check=check)


def start_container(release: str, memory: str) -> None:
    build = (ROOT / "molecule" / "shared" / "images" / "build", release)
    image = subprocess.run(build, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    options = ("--name", name_of(release), "--memory", memory, "--memory-swap", memory)
    run("podman", "run", "--detach", *options, "--systemd=always", image, "/sbin/init")
    deadline = time.monotonic() + 60
    while inside(release, "systemctl is-system-running --wait", check=False).strip() not in (
        "running",
        "degraded",
    ):
        if time.monotonic() > deadline:
            raise BenchmarkError(f"systemd does not come up in the container of Debian {release}")
        time.sleep(1)


def provision(release: str, clients: int) -> None:
    """Have the site playbook set everything up."""
    roles = [
        {"name": "app_user", "kind": "user", "password": PASSWORD},
        {"name": "app_migrator", "kind": "migrator", "password": PASSWORD},
    ]
    variables = {
        "ansible_connection": "containers.podman.podman",
        "ansible_python_interpreter": "/usr/bin/python3",
        "pooled_databases": [{"name": "bench", "roles": roles}],
        "postgres_client_networks": ["127.0.0.1/32"],
        "postgres_max_connections": 80,
        # And one that looks at the console.
        "pgbouncer_max_client_conn": clients + 1,
        "pgbouncer_default_pool_size": POOL,
        # So that it is these and no others, however long clients wait.
        "pgbouncer_reserve_pool_size": 0,
    }
    host = name_of(release)
    hosts: dict[str, dict[str, dict[str, str]]] = {"hosts": {host: {}}}
    inventory = {"all": {"children": {"postgres": hosts, "pgbouncer": hosts}}}
    with tempfile.TemporaryDirectory(prefix="pooled-") as folder:
        Path(folder, "playbook.yml").write_text(PLAYBOOK, encoding="utf-8")
        Path(folder, "hosts.json").write_text(json.dumps(inventory), encoding="utf-8")
        Path(folder, "variables.json").write_text(json.dumps(variables), encoding="utf-8")
        run(
            "ansible-playbook",
            f"--inventory={folder}/hosts.json",
            f"--extra-vars=@{folder}/variables.json",
            f"{folder}/playbook.yml",
        )


def pgbench(release: str, arguments: str, port: str, role: str = "app_user") -> str:
    program = f"timeout {LIMIT_SECONDS} /usr/lib/postgresql/*/bin/pgbench"
    there = f"-h 127.0.0.1 -p {port} -U {role}"
    return inside(
        release,
        # A socket for each client: runuser would put the limit back, by PAM.
        "ulimit -S -n $(ulimit -H -n); cd /tmp; export PGPASSWORD; read -r PGPASSWORD;"
        " exec setpriv --reuid=postgres --regid=postgres --init-groups"
        f" {program} {there} {arguments} bench",
        text=f"{PASSWORD}\n",
        check=False,
    )


def pooler_process(release: str) -> str:
    return inside(release, "systemctl show -p MainPID --value pgbouncer").strip()


def pooler_seconds(release: str) -> float:
    """Processor time that PgBouncer has taken so far."""
    fields = inside(release, f"cat /proc/{pooler_process(release)}/stat").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(release: str, workload: Workload, clients: int, port: str, amount: str) -> Run:
    """Runs pgbench.

    Raises:
        BenchmarkError: it did not get to the end, or a client was not served.
    """
    before = pooler_seconds(release)
    said = pgbench(
        release,
        f"--no-vacuum --client={clients} --jobs=2 {amount} {workload.arguments}",
        port,
    )
    took = pooler_seconds(release) - before
    tps = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
    done = re.search(r"transactions actually processed: (\d+)", said)
    failed = re.search(r"number of failed transactions: (\d+)", said)
    login = re.search(r"(?:initial|average) connection time = ([0-9.]+) ms", said)
    if tps is None or done is None or failed is None or login is None or "aborted" in said:
        raise BenchmarkError(f"{workload.title}, {clients} clients, port {port}:\n{said[-1500:]}")
    return Run(
        tps=float(tps.group(1)),
        transactions=int(done.group(1)),
        failed=int(failed.group(1)),
        login_seconds=float(login.group(1)) / 1000,
        pooler_seconds=took,
    )


def measure_many(release: str, clients: int, each: int, seen: Measured) -> None:
    """All clients at once, each with some transactions, while the console is looked at."""
    as_postgres = ("runuser", "-u", "postgres", "--", "python3", "-c", WATCH)
    with subprocess.Popen(
        ["podman", "exec", "-i", name_of(release), *as_postgres],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        try:
            if watching.stdout is None or watching.stdout.readline().strip() != "ready":
                raise BenchmarkError(f"PgBouncer's console does not answer on Debian {release}")
            done = measure(release, SELECT, clients, POOLED, f"--transactions={each}")
            status = inside(release, f"cat /proc/{pooler_process(release)}/status")
            answer = watching.communicate("enough\n", timeout=30)[0]
        finally:
            watching.kill()
    most = json.loads(answer)
    found = re.search(r"VmHWM:\s+(\d+)", status)
    seen.memory_kb = max(seen.memory_kb, int(found.group(1)) if found else 0)
    seen.most = {key: max(seen.most.get(key, 0), value) for key, value in most.items()}
    seen.many.append(done)
    if done.transactions != clients * each or done.failed:
        raise BenchmarkError(
            f"{done.transactions} of {clients * each} transactions were done, {done.failed} failed"
        )
    if most["clients"] < clients or most["sessions"] > POOL:
        raise BenchmarkError(
            f"{most['clients']} of {clients} clients were open at once, {most['sessions']} server"
            f" connections of {POOL}"
        )


def ratios(over: list[float], under: list[float]) -> str:
    """The middle of the ratios of each round, and how far they spread."""
    each = [a / b for a, b in zip(over, under, strict=True)]
    return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def middle(runs: list[Run], what: str) -> float:
    return float(statistics.median(getattr(run_, what) for run_ in runs))


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        _first, *rest = (text.rjust(width) for text, width in zip(row, widths, strict=True))
        print("  ".join(["", row[0].ljust(widths[0]), *rest]).rstrip())
    print()


def tps(runs: list[Run]) -> list[float]:
    return [run_.tps for run_ in runs]


def report(measured: dict[str, Measured], clients: int) -> None:
    for release, seen in measured.items():
        print(f"\nDebian {release}: {seen.versions}\n")
        table(
            (f"{FEW} clients, transactions a second", "direct", "PgBouncer", "PgBouncer / direct"),
            [
                (
                    workload.title,
                    f"{middle(seen.direct[workload.title], 'tps'):.0f}",
                    f"{middle(seen.pooled[workload.title], 'tps'):.0f}",
                    ratios(tps(seen.pooled[workload.title]), tps(seen.direct[workload.title])),
                )
                for workload in workloads(release)
            ],
        )
        few = seen.pooled[SELECT.title]
        each = [run_.microseconds for run_ in seen.many], [run_.microseconds for run_ in few]
        table(
            ("one SELECT through PgBouncer", f"{FEW} clients", f"{clients} clients", "ratio"),
            [
                (
                    "transactions a second",
                    f"{middle(few, 'tps'):.0f}",
                    f"{middle(seen.many, 'tps'):.0f}",
                    ratios(tps(seen.many), tps(few)),
                ),
                (
                    "PgBouncer's processor time for each, us (logins included)",
                    f"{statistics.median(each[1]):.0f}",
                    f"{statistics.median(each[0]):.0f}",
                    ratios(*each),
                ),
            ],
        )
        total = sum(run_.transactions for run_ in seen.many)
        print(
            f"  At most {seen.most['clients']} clients were open at once, {seen.most['waiting']} of"
            f" them waiting, before {seen.most['sessions']} server connections.\n"
            f"  {total} transactions, 0 failed, in {len(seen.many)} rounds;"
            f" {seen.many[0].transactions // clients} for each client and round.\n"
            f"  All logins took {middle(seen.many, 'login_seconds'):.0f} s;"
            f" PgBouncer's memory was {seen.memory_kb / 1024:.0f} MB at most."
        )


def benchmark(releases: list[str], clients: int, rounds: int, seconds: int, each: int) -> None:
    measured = {release: Measured() for release in releases}
    for release, seen in measured.items():
        with step(f"Debian {release}: Postgres and PgBouncer in a container"):
            start_container(release, "2g")
            provision(release, clients)
            said = pgbench(release, "--initialize --quiet --scale=5", DIRECT, "app_migrator")
            if "done in" not in said:
                raise BenchmarkError(f"pgbench --initialize:\n{said[-1500:]}")
            versions = inside(release, "pgbouncer --version; /usr/lib/postgresql/*/bin/postgres -V")
            seen.versions = ", ".join(line for line in versions.splitlines() if "P" in line[:1])
    for number in range(rounds):
        for release, seen in measured.items():
            for workload in workloads(release):
                with step(f"round {number + 1}, Debian {release}, {FEW} clients: {workload.title}"):
                    ways = [(DIRECT, seen.direct), (POOLED, seen.pooled)]
                    for port, into in ways if number % 2 == 0 else reversed(ways):
                        done = measure(release, workload, FEW, port, f"--time={seconds}")
                        into.setdefault(workload.title, []).append(done)
            with step(f"round {number + 1}, Debian {release}, {clients} clients: {SELECT.title}"):
                measure_many(release, clients, each, seen)
    report(measured, clients)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round, of seconds")
    parser.add_argument("--clients", type=int, default=10000, help="at once (default 10000)")
    parser.add_argument("--release", choices=tuple(VERSIONS), help="of Debian; both when not given")
    given = parser.parse_args()
    releases = [given.release] if given.release else list(VERSIONS)
    rounds, seconds, each = (1, 3, 3) if given.quick else (3, 5, 10)
    try:
        benchmark(releases, given.clients, rounds, seconds, each)
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        for release in releases:
            run("podman", "rm", "--force", "--time", "0", name_of(release), check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
