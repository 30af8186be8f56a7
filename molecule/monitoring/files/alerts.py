# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do what each alert is about, see it fire in Prometheus on every host, undo it, see it end.

usage: alerts.py PROMETHEUS_URL DASHBOARD PROMETHEUS_CONTAINER CONTAINER=POOLER_ADDRESS...

APP_USER_PASSWORD is the password of app_user. Prometheus names a target after its container's last
part: the container pooled-x-db12 is db12.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

FILES = Path(__file__).resolve().parent
PATIENCE_S = 240
CLIENTS = 24
BUSY_CLIENTS = 4

# What all hosts do at once, in these steps; each fires on each host unless it is about all of them.
LOAD = {
    "PostgresConnectionsNearLimit",
    "PostgresConnectionsExhausted",
    "PostgresSuperuserClient",
    "PostgresLongIdleTransaction",
    "PostgresLongTransaction",
    "PostgresPreparedTransaction",
    "PostgresSessionsBlocked",
    "PostgresDeadlocks",
    "PostgresReplicationLag",
    "PostgresReplicationBacklog",
    "PostgresArchiveFailing",
    "PostgresPendingRestart",
    "PostgresFreezeOverdue",
    "PostgresWraparound",
    "PostgresDeadRows",
    "PostgresCheckpointsRequested",
    "PostgresTemporaryFiles",
    "PostgresCacheMisses",
    "PostgresChecksumFailures",
    "PgbouncerClientsWaiting",
    "PgbouncerWaitLong",
    "PgbouncerClientsNearLimit",
    "PgbouncerDescriptorsNearLimit",
}
AWAY = {
    "PostgresStandbyLost",
    "PostgresSlotInactive",
    "PostgresSlotRetainsWal",
    "PostgresMetricsIncomplete",
    "PgbouncerDatabasePaused",
}
DOWN = {"PostgresDown", "PgbouncerDown"}
BLIND = {"PostgresExporterDown", "PgbouncerExporterDown"}
NO_JOBS = {"PostgresMetricsMissing", "PgbouncerMetricsMissing"}

# Samples that must have come from each host while it was busy: a view that R13 names, in each.
VIEWS = (
    'pooled_activity_connections{state="idle in transaction"}',
    'pg_stat_statements_calls_total{datname="mydb"}',
    'pg_stat_user_tables_n_dead_tup{datname="mydb",relname="provoked"}',
    'pooled_index_size_bytes{datname="mydb",indexrelname="provoked_pkey"}',
    'pooled_replication_lag_bytes{state="streaming"}',
    'pg_locks_count{datname="mydb",mode="accessexclusivelock"} > 0',
    'pooled_locks_blocking_sessions{datname="mydb"} > 0',
)

STANDBY = """
v=$(ls /etc/postgresql)
runuser -u postgres -- pg_basebackup -D /var/lib/postgresql/standby -R -C -S standby -c fast
systemd-run -q --unit=standby --uid=postgres /usr/lib/postgresql/$v/bin/postgres \
  -D /var/lib/postgresql/standby -c config_file=/etc/postgresql/$v/main/postgresql.conf \
  -c data_directory=/var/lib/postgresql/standby -c port=5433 \
  -c external_pid_file=/var/lib/postgresql/standby.pid -c listen_addresses= -c shared_buffers=16MB
until runuser -u postgres -- psql -XAtqc 'SELECT pg_wal_replay_pause()' -p 5433; do sleep 1; done
"""
SQL = "runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1"
CONSOLE = f"{SQL} -p 6432 -U pgbouncer pgbouncer".replace("-u postgres", "-u pgbouncer")
FEW_DESCRIPTORS = """
pid=$(systemctl show -p MainPID --value pgbouncer)
runuser -u pgbouncer -- prlimit --pid "$pid" --nofile=60:1024
"""
# It would start again within a second.
GO_DOWN = """
systemctl stop postgresql
mkdir -p /run/systemd/system/pgbouncer.service.d
printf '[Service]\\nRestart=no\\n' > /run/systemd/system/pgbouncer.service.d/zz-down.conf
systemctl daemon-reload
kill -KILL "$(systemctl show -p MainPID --value pgbouncer)"
"""
COME_UP = """
rm /run/systemd/system/pgbouncer.service.d/zz-down.conf
systemctl daemon-reload
systemctl start postgresql pgbouncer prometheus-pgbouncer-exporter
"""
GO_AWAY = f"""
systemctl stop standby
{SQL} -c 'DROP EXTENSION pg_stat_statements'
{SQL} mydb -c 'UPDATE busy SET content = content || repeat(content, 20)'
{CONSOLE} -c 'DISABLE mydb'
"""  # noqa: S608 # nothing in it comes from elsewhere
COME_BACK = f"""
{SQL} -c 'CREATE EXTENSION pg_stat_statements SCHEMA pooled_extensions'
{SQL} -c "SELECT pg_drop_replication_slot('standby')"
{CONSOLE} -c 'ENABLE mydb'
"""


@dataclass(frozen=True)
class Host:
    """A server with its pooler."""

    container: str
    pooler: str

    @property
    def name(self) -> str:
        return self.container.rpartition("-")[2]

    def run(self, script: str) -> str:
        return in_container(self.container, script)


def in_container(container: str, script: str) -> str:
    """Run a shell script; what it printed."""
    done = subprocess.run(
        ["podman", "exec", "-i", container, "sh", "-euc", script],
        stdin=subprocess.DEVNULL,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{container}: {done.stderr or done.stdout}\n{script}")
    return done.stdout


def everywhere(hosts: list[Host], work: Callable[[Host], Any]) -> None:
    """Do the same on all hosts at once."""
    failed: list[BaseException] = []

    def attempt(host: Host) -> None:
        try:
            work(host)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=attempt, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in failed:
        raise error


class Prometheus:
    """Its API."""

    def __init__(self, url: str, hosts: list[Host]) -> None:
        self.url = url
        self.hosts = hosts
        self.begin = self.since = time.monotonic()

    def get(self, path: str, **values: str) -> Any:
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(values)}"
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 # our own
            return json.load(answer)["data"]

    def rules(self) -> set[str]:
        return {rule["name"] for group in self.get("rules")["groups"] for rule in group["rules"]}

    def samples(self, query: str) -> list[dict[str, str]]:
        return [result["metric"] for result in self.get("query", query=query)["result"]]

    def alerts(self, query: str) -> set[tuple[str, str]]:
        """Alerts with the hosts that they are about, none for those about all hosts."""
        return {
            (labels["alertname"], labels.get("instance", "").partition(":")[0])
            for labels in self.samples(query)
        }

    def say(self, text: str) -> None:
        self.since = time.monotonic()
        print(f"{self.since - self.begin:4.0f} s  {text}", flush=True)

    def wanted(self, names: set[str]) -> set[tuple[str, str]]:
        about_all = names & NO_JOBS
        return {(name, host.name) for name in names - about_all for host in self.hosts} | {
            (name, "") for name in about_all
        }

    def wait_until_fired(self, names: set[str]) -> None:
        """Until each has fired on each host since the last wait; it may come and go."""
        missing = self.wanted(names)
        deadline = time.monotonic() + PATIENCE_S
        while missing:
            if time.monotonic() > deadline:
                raise SystemExit(f"never fired: {sorted(missing)}")
            time.sleep(1)
            seconds = int(time.monotonic() - self.since) + 1
            query = f'max_over_time(ALERTS{{alertstate="firing"}}[{seconds}s])'
            missing -= self.alerts(query)
        self.say(f"fired on each host: {', '.join(sorted(names))}")

    def wait_until_ended(self, names: set[str]) -> None:
        """Until none of them is there any more, firing or about to."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            left = self.alerts('ALERTS{datname!~"template.*|postgres"}')
            left &= self.wanted(names)
            if not left:
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"did not end: {sorted(left)}")
            time.sleep(1)
        self.say(f"ended: {', '.join(sorted(names))}")


@contextlib.contextmanager
def clients(host: Host) -> Iterator[None]:
    """More clients than the pooler should have, and more at work than the pool has connections."""
    address, _colon, port = host.pooler.rpartition(":")
    connections = []
    try:
        for _number in range(CLIENTS):
            connections.append(
                psycopg.connect(
                    host=address,
                    port=port,
                    user="app_user",
                    dbname="mydb",
                    password=os.environ["APP_USER_PASSWORD"],
                    application_name="clients",
                    autocommit=True,
                    prepare_threshold=None,
                )
            )
        for connection in connections[:BUSY_CLIENTS]:
            threading.Thread(target=sleep, args=(connection,), daemon=True).start()
        yield
    finally:
        for connection in connections:
            connection.close()


def sleep(connection: Any) -> None:
    """Be at work, as long as the role's statement_timeout lets it, again and again."""
    with contextlib.suppress(psycopg.Error):
        while True:
            connection.execute("SELECT pg_sleep(10)")


def start_load(host: Host) -> None:
    script = (FILES / "provoke.py").read_text(encoding="utf-8")
    subprocess.run(
        ["podman", "exec", "-i", host.container, "sh", "-c", "cat > /srv/provoke.py"],
        input=script,
        check=True,
        text=True,
    )
    host.run(STANDBY)
    host.run(FEW_DESCRIPTORS)
    host.run(
        "systemd-run -q --unit=provoke --uid=postgres -p TimeoutStopSec=60"
        " python3 /srv/provoke.py\n"
        "for second in $(seq 60); do\n"
        "  if journalctl -q -u provoke -o cat | grep -qx ready; then exit; fi\n"
        "  if ! systemctl -q is-active provoke; then break; fi\n"
        "  sleep 1\n"
        "done\n"
        "journalctl -q -u provoke -o cat >&2; exit 1"
    )


def main() -> None:
    url, dashboard, watch, *places = sys.argv[1:]
    hosts = [Host(*place.split("=")) for place in places]
    prometheus = Prometheus(url, hosts)
    known = prometheus.rules()
    provoked = LOAD | AWAY | DOWN | BLIND | NO_JOBS
    if known != provoked:
        raise SystemExit(f"only loaded or only provoked: {sorted(known ^ provoked)}")
    prometheus.wait_until_ended(known)

    with contextlib.ExitStack() as stack:
        for host in hosts:
            stack.enter_context(clients(host))
        everywhere(hosts, start_load)
        prometheus.say("all hosts are in trouble")
        prometheus.wait_until_fired(LOAD)
        for view in VIEWS:
            seen = {labels["instance"].partition(":")[0] for labels in prometheus.samples(view)}
            if seen != {host.name for host in hosts}:
                raise SystemExit(f"{view}: only from {sorted(seen)}")
        prometheus.say("each view arrives as metrics from each host")
        asked = [sys.executable, str(FILES / "dashboard_data.py"), url, dashboard]
        if subprocess.run(asked, check=False).returncode:
            raise SystemExit("the dashboard lacks data")
        prometheus.say("each panel of the dashboard has data")
    everywhere(hosts, lambda host: host.run(f"{SQL} -p 5433 -c 'SELECT pg_wal_replay_resume()'"))
    everywhere(hosts, lambda host: host.run("systemctl stop provoke"))
    prometheus.wait_until_ended(LOAD)

    everywhere(hosts, lambda host: host.run(GO_AWAY))
    prometheus.wait_until_fired(AWAY)
    everywhere(hosts, lambda host: host.run(COME_BACK))
    prometheus.wait_until_ended(AWAY - {"PostgresStandbyLost"})

    everywhere(hosts, lambda host: host.run(GO_DOWN))
    prometheus.wait_until_fired(DOWN)
    everywhere(hosts, lambda host: host.run(COME_UP))
    prometheus.wait_until_ended(DOWN)

    exporters = "prometheus-postgres-exporter prometheus-pgbouncer-exporter"
    everywhere(hosts, lambda host: host.run(f"systemctl stop {exporters}"))
    prometheus.wait_until_fired(BLIND)
    everywhere(hosts, lambda host: host.run(f"systemctl start {exporters}"))
    change = "sed -i 's/job_name: {}/job_name: {}/' /etc/prometheus/prometheus.yml; "
    reload = "systemctl reload prometheus"
    in_container(watch, f"{change.format('p', 'other-p')}{reload}")
    prometheus.wait_until_fired(NO_JOBS)
    in_container(watch, f"{change.format('other-p', 'p')}{reload}")
    prometheus.wait_until_ended(known)


if __name__ == "__main__":
    main()
