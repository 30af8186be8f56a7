# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each alert fires when what it is for lasts long enough, not before, and ends with it.

promtool evaluates the rules as the role installs them, over all that real exporters of each
release answered, with what a case changes. No other alert fires beside it.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from . import prometheus
from .prometheus import EXPORTERS, RELEASES, ROOT, Series

# The minute in which what a case changes begins.
BEGIN = 6
GONE = None

# All that can go wrong was going wrong on the servers of the scrapes. A healthy one says this.
HEALTHY: list[tuple[str, dict[str, str], Any]] = [
    ("pooled_pending_restart_setting", {}, GONE),
    ("pooled_superuser_connections", {}, GONE),
    *(
        (metric, {}, value)
        for metric, value in {
            "pg_exporter_last_scrape_error": 0,
            "pg_scrape_collector_success": 1,
            "pooled_activity_longest_state_seconds": 0,
            "pooled_activity_longest_transaction_seconds": 0,
            "pooled_database_checksum_failures_total": 0,
            "pooled_database_mxid_age": 0,
            "pooled_database_xid_age": 1000,
            "pooled_locks_longest_wait_seconds": 0,
            "pooled_replication_lag_bytes": 0,
            "pooled_replication_lag_seconds": 0,
            "pooled_server_connections": 10,
            "pooled_server_freeze_max_age": 200000000,
            "pooled_server_max_connections": 100,
            "pooled_server_oldest_prepared_seconds": 0,
            "pooled_server_replay_delay_seconds": 0,
            "pooled_server_reserved_connections": 3,
            "pooled_server_standbys": 1,
            "pooled_slot_active": 1,
            "pooled_slot_retained_bytes": 0,
            "pg_stat_user_tables_n_dead_tup": 0,
            "pg_stat_user_tables_n_live_tup": 1000,
            "pgbouncer_config_max_client_connections": 1000,
            "pgbouncer_databases_disabled": 0,
            "pgbouncer_databases_paused": 0,
            "pgbouncer_pools_client_maxwait_seconds": 0,
            "pgbouncer_pools_client_waiting_connections": 0,
            "pgbouncer_process_max_fds": 2000,
            "pgbouncer_process_open_fds": 20,
            "pgbouncer_used_clients": 10,
        }.items()
    ),
]


@dataclass(frozen=True)
class Case:
    """An alert, what brings it about, and what is just not enough.

    A change is a metric, labels and a value: a number, None when the series is gone, or "+N" for
    a counter that rises by N each minute. It is made to all series with these labels, or to a
    new one that has them, when there is none.
    """

    alert: str
    bad: list[tuple[str, dict[str, str], Any]]
    good: list[tuple[str, dict[str, str], Any]]
    # Minutes from the beginning until the expression is true, where it needs some.
    counts: int = 0
    # What fires as well, because it has to.
    also: tuple[str, ...] = ()


# A label of the targets, which alerts have to keep.
CLUSTER = "orders"
IDLE = {
    "datname": "mydb",
    "usename": "app_user",
    "application_name": "api",
    "state": "idle in transaction",
}
ABORTED = {**IDLE, "state": "idle in transaction (aborted)"}
ACTIVE = {**IDLE, "state": "active"}
SUPERUSER = {"datname": "mydb", "usename": "postgres", "application_name": "api"}
POOL = {"database": "mydb", "user": "app_user"}
CONSOLE = {"database": "pgbouncer", "user": "pgbouncer"}
MYDB = {"datname": "mydb"}
TABLE = {"datname": "mydb", "schemaname": "public", "relname": "orders"}

CASES = [
    Case(
        "PostgresExporterDown",
        [("up", {"job": "postgres"}, 0)],
        [("up", {"job": "postgres"}, 1)],
    ),
    Case("PostgresMetricsMissing", [("up", {"job": "postgres"}, GONE)], []),
    Case(
        "PostgresMetricsIncomplete",
        [("pg_exporter_last_scrape_error", {}, 1)],
        [],
    ),
    Case(
        "PostgresMetricsIncomplete",
        [("pg_scrape_collector_success", {"collector": "database"}, 0)],
        [],
    ),
    Case(
        "PostgresMetricsIncomplete",
        [("pooled_server_max_connections", {}, GONE)],
        # A server that is down has its own alert.
        [],
    ),
    Case("PostgresDown", [("pg_up", {}, 0), ("pg_exporter_last_scrape_error", {}, 1)], []),
    Case(
        "PostgresConnectionsNearLimit",
        [("pooled_server_connections", {}, 78)],
        [("pooled_server_connections", {}, 77)],
    ),
    Case(
        "PostgresConnectionsExhausted",
        [("pooled_server_connections", {}, 93)],
        [],
        also=("PostgresConnectionsNearLimit",),
    ),
    Case("PostgresSuperuserClient", [("pooled_superuser_connections", SUPERUSER, 1)], []),
    Case(
        "PostgresLongIdleTransaction",
        [("pooled_activity_longest_state_seconds", IDLE, 121)],
        [
            ("pooled_activity_longest_state_seconds", IDLE, 120),
            # Idle sessions without a transaction may stay as long as they want.
            ("pooled_activity_longest_state_seconds", {**IDLE, "state": "idle"}, 90000),
        ],
    ),
    Case(
        "PostgresLongIdleTransaction",
        [("pooled_activity_longest_state_seconds", ABORTED, 121)],
        [("pooled_activity_longest_state_seconds", ABORTED, 120)],
    ),
    Case(
        "PostgresLongTransaction",
        [("pooled_activity_longest_transaction_seconds", ACTIVE, 3601)],
        [("pooled_activity_longest_transaction_seconds", ACTIVE, 3600)],
    ),
    Case(
        "PostgresPreparedTransaction",
        [("pooled_server_oldest_prepared_seconds", {}, 3601)],
        [("pooled_server_oldest_prepared_seconds", {}, 3600)],
    ),
    Case(
        "PostgresSessionsBlocked",
        [("pooled_locks_longest_wait_seconds", MYDB, 31)],
        [("pooled_locks_longest_wait_seconds", MYDB, 30)],
    ),
    Case(
        "PostgresDeadlocks",
        [("pg_stat_database_deadlocks", MYDB, "+1")],
        [("pg_stat_database_deadlocks", MYDB, 0)],
        counts=1,
    ),
    Case(
        "PostgresReplicationLag",
        [("pooled_replication_lag_seconds", {}, 61)],
        [("pooled_replication_lag_seconds", {}, 60)],
    ),
    Case(
        "PostgresReplicationLag",
        [("pooled_server_replay_delay_seconds", {}, 61)],
        [("pooled_server_replay_delay_seconds", {}, 60)],
    ),
    Case(
        "PostgresReplicationBacklog",
        [("pooled_replication_lag_bytes", {}, 2**30 + 1)],
        [("pooled_replication_lag_bytes", {}, 2**30)],
    ),
    Case(
        "PostgresStandbyLost",
        [("pooled_server_standbys", {}, 0)],
        [("pooled_server_standbys", {}, 2)],
    ),
    Case("PostgresSlotInactive", [("pooled_slot_active", {}, 0)], []),
    Case(
        "PostgresSlotRetainsWal",
        [("pooled_slot_retained_bytes", {}, 5 * 2**30 + 1)],
        [("pooled_slot_retained_bytes", {}, 5 * 2**30)],
    ),
    Case("PostgresArchiveFailing", [("pg_stat_archiver_failed_count", {}, "+1")], [], counts=1),
    Case(
        "PostgresPendingRestart",
        [("pooled_pending_restart_setting", {"name": "max_connections"}, 1)],
        [],
    ),
    Case(
        "PostgresFreezeOverdue",
        [("pooled_database_xid_age", MYDB, 300000001)],
        [("pooled_database_xid_age", MYDB, 300000000)],
    ),
    Case(
        "PostgresWraparound",
        [("pooled_database_xid_age", MYDB, 1200000001), ("pooled_server_freeze_max_age", {}, 1e9)],
        [("pooled_database_xid_age", MYDB, 1200000000), ("pooled_server_freeze_max_age", {}, 1e9)],
    ),
    Case(
        "PostgresWraparound",
        [("pooled_database_mxid_age", MYDB, 1200000001)],
        [("pooled_database_mxid_age", MYDB, 1200000000)],
    ),
    Case(
        "PostgresDeadRows",
        [
            ("pg_stat_user_tables_n_dead_tup", TABLE, 100001),
            ("pg_stat_user_tables_n_live_tup", TABLE, 200000),
        ],
        [
            ("pg_stat_user_tables_n_dead_tup", TABLE, 100000),
            ("pg_stat_user_tables_n_live_tup", TABLE, 200000),
        ],
    ),
    Case(
        "PostgresDeadRows",
        [
            ("pg_stat_user_tables_n_dead_tup", TABLE, 300001),
            ("pg_stat_user_tables_n_live_tup", TABLE, 600000),
        ],
        [
            ("pg_stat_user_tables_n_dead_tup", TABLE, 300000),
            ("pg_stat_user_tables_n_live_tup", TABLE, 700000),
        ],
    ),
    Case(
        "PostgresCheckpointsRequested",
        [("pooled_checkpoints_requested_total", {}, "+1")],
        # More come in time.
        [
            ("pooled_checkpoints_requested_total", {}, "+1"),
            ("pooled_checkpoints_timed_total", {}, "+2"),
        ],
        counts=6,
    ),
    Case(
        "PostgresTemporaryFiles",
        [("pg_stat_database_temp_bytes", MYDB, f"+{11 * 2**20 * 60}")],
        [("pg_stat_database_temp_bytes", MYDB, f"+{9 * 2**20 * 60}")],
        counts=15,
    ),
    Case(
        "PostgresCacheMisses",
        [
            ("pg_stat_database_blks_hit", MYDB, "+540000"),
            ("pg_stat_database_blks_read", MYDB, "+66000"),
        ],
        # A share that is better, and little reading: 900 blocks a second.
        [
            ("pg_stat_database_blks_hit", MYDB, "+660000"),
            ("pg_stat_database_blks_read", MYDB, "+66000"),
            ("pg_stat_database_blks_hit", {"datname": "postgres"}, 0),
            ("pg_stat_database_blks_read", {"datname": "postgres"}, "+54000"),
        ],
        counts=15,
    ),
    Case(
        "PostgresChecksumFailures",
        [("pooled_database_checksum_failures_total", MYDB, 1)],
        [("pooled_database_checksum_failures_total", MYDB, 0)],
    ),
    Case(
        "PgbouncerExporterDown",
        [("up", {"job": "pgbouncer"}, 0)],
        [("up", {"job": "pgbouncer"}, 1)],
    ),
    Case("PgbouncerMetricsMissing", [("up", {"job": "pgbouncer"}, GONE)], []),
    Case("PgbouncerDown", [("pgbouncer_up", {}, 0)], [("pgbouncer_up", {}, 1)]),
    Case(
        "PgbouncerClientsWaiting",
        [("pgbouncer_pools_client_waiting_connections", POOL, 1)],
        [("pgbouncer_pools_client_waiting_connections", CONSOLE, 1)],
    ),
    Case(
        "PgbouncerWaitLong",
        [("pgbouncer_pools_client_maxwait_seconds", POOL, 5.1)],
        [
            ("pgbouncer_pools_client_maxwait_seconds", POOL, 5),
            ("pgbouncer_pools_client_maxwait_seconds", CONSOLE, 60),
        ],
    ),
    Case(
        "PgbouncerClientsNearLimit",
        [
            ("pgbouncer_used_clients", {}, 8001),
            ("pgbouncer_config_max_client_connections", {}, 1e4),
        ],
        [
            ("pgbouncer_used_clients", {}, 8000),
            ("pgbouncer_config_max_client_connections", {}, 1e4),
        ],
    ),
    Case(
        "PgbouncerDescriptorsNearLimit",
        [("pgbouncer_process_open_fds", {}, 801), ("pgbouncer_process_max_fds", {}, 1000)],
        [("pgbouncer_process_open_fds", {}, 800), ("pgbouncer_process_max_fds", {}, 1000)],
    ),
    Case(
        "PgbouncerDatabasePaused",
        [("pgbouncer_databases_paused", {"name": "mydb"}, 1)],
        [("pgbouncer_databases_paused", {"name": "pgbouncer"}, 1)],
    ),
    Case(
        "PgbouncerDatabasePaused",
        [("pgbouncer_databases_disabled", {"name": "mydb"}, 1)],
        [("pgbouncer_databases_disabled", {"name": "pgbouncer"}, 1)],
    ),
]
IDS = [f"{case.alert}-{case.bad[0][0]}-{number}" for number, case in enumerate(CASES)]


@pytest.fixture(scope="session")
def rules(install_monitoring) -> Path:
    """The file of rules as the role installs it by default."""
    return install_monitoring({}) / "rules" / "pooled.yml"


def by_alert(rules: Path) -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(rules.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def everything(release: str) -> list[Series]:
    """All series as Prometheus has them, of a healthy server and pooler."""
    found = []
    for exporter in EXPORTERS:
        target = {"job": exporter, "instance": f"db1:{exporter}", "cluster": CLUSTER}
        found.append(Series("up", target, "1"))
        found += [
            Series(series.name, {**series.labels, **target}, series.value)
            for series in prometheus.read_scrape(release, exporter)
            if series.value != "NaN"
        ]
    return found


def changed(base: dict[str, Any], series: list[Series], changes: list[Any]) -> dict[str, Any]:
    """Values by series, after the changes."""
    values = dict(base)
    for metric, labels, value in changes:
        same_metric = [one for one in series if one.name == metric]
        assert same_metric, f"the exporters have no {metric}"
        found = [one for one in same_metric if one.has(labels)]
        new = Series(metric, {**same_metric[0].labels, **labels}, "0")
        for one in found or [new]:
            values[str(one)] = value
    return values


def samples(before: Any, during: Any, minutes: int, after: int) -> str:
    """A series in promtool's notation: before BEGIN, for some minutes, and afterwards."""
    if isinstance(during, str) and during.startswith("+"):
        step = int(during)
        start = float(before or 0)
        end = start + step * minutes
        return f"{start:g}x{BEGIN - 1} {start + step:.0f}+{step}x{minutes - 1} {end:.0f}x{after}"

    def part(value: Any, count: int, last: Any = None) -> str:
        if value is None:
            # Prometheus marks the end of a series, which else lasts for five minutes.
            return f"_x{count}" if last is None else f"stale _x{count}"
        return f"{value}x{count - 1}"

    return f"{part(before, BEGIN)} {part(during, minutes, before)} {part(before, after, during)}"


def firing(minute: int, alerts: list[str], severity: dict[str, str]) -> dict[str, Any]:
    """What promtool is to find firing in a minute, and nothing else."""
    return {
        "expr": 'count by (alertname, severity, cluster) (ALERTS{alertstate="firing"})',
        "eval_time": f"{minute}m",
        "exp_samples": [
            {
                # What is missing has no labels.
                "labels": f'{{alertname="{name}", severity="{severity[name]}"'
                + ("}" if name.endswith("MetricsMissing") else f', cluster="{CLUSTER}"}}'),
                "value": 1,
            }
            for name in sorted(alerts)
        ],
    }


def promtool(folder: Path, rules: Path, tests: list[dict[str, Any]]) -> str:
    """promtool's complaints about tests of the rules; empty for none."""
    path = folder / "test.yml"
    # Each key once: YAML's anchors are not for promtool.
    content = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}
    path.write_text(json.dumps(content), encoding="utf-8")
    done = subprocess.run(
        [prometheus.program("promtool"), "test", "rules", str(path)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == ("SUCCESS" in done.stdout)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_promtool_accepts_the_rules(rules):
    done = subprocess.run(
        [prometheus.program("promtool"), "check", "rules", "--lint-fatal", str(rules)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(by_alert(rules))} rules found" in done.stdout


def test_every_alert_has_a_case_is_documented_and_can_be_disabled(rules):
    specs = yaml.safe_load((ROOT / "roles/monitoring/meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    assert set(by_alert(rules)) == {case.alert for case in CASES}
    assert options["monitoring_disabled_alerts"]["choices"] == list(by_alert(rules))
    guide = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(P\w+)` \| (\w+) \|", guide, re.MULTILINE)
    assert rows == [(name, rule["labels"]["severity"]) for name, rule in by_alert(rules).items()]


def test_every_alert_says_what_to_do(rules):
    for name, rule in by_alert(rules).items():
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, name
        assert all(rule["annotations"].values()), name
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, name


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_alert_fires_and_ends(case, rules, tmp_path):
    known = by_alert(rules)
    text = rules.read_text(encoding="utf-8")
    severity = {name: rule["labels"]["severity"] for name, rule in known.items()}
    lasts = int(known[case.alert]["for"].rstrip("s"))
    longest = max(int(known[name]["for"].rstrip("s")) for name in (case.alert, *case.also))
    # Evaluation is once a minute: what begins has lasted for a minute at the next one.
    pending = BEGIN + -(-lasts // 60) - 1
    fires = BEGIN + case.counts + -(-longest // 60) + 1
    minutes = fires - BEGIN + 1
    windows = [int(found) for found in re.findall(r"\[(\d+)s\]", known[case.alert]["expr"])]
    end = BEGIN + minutes + max([60, *windows]) // 60 + 1
    tests = []
    for release in RELEASES:
        # What no rule reads only takes time.
        series = [one for one in everything(release) if re.search(rf"\b{one.name}\b", text)]
        base = changed({str(one): one.value for one in series}, series, HEALTHY)
        for changes, fired in ((case.bad, [case.alert, *case.also]), (case.good, [])):
            during = changed(base, series, changes)
            moments = [firing(BEGIN - 1, [], severity), firing(fires, fired, severity)]
            if lasts >= 60 and not case.also:
                moments.append(firing(pending, [], severity))
            moments.append(firing(end, [], severity))
            tests.append(
                {
                    "name": f"Debian {release}, {'bad' if fired else 'good'}",
                    "interval": "1m",
                    "input_series": [
                        {
                            "series": key,
                            "values": samples(base.get(key), during[key], minutes, end),
                        }
                        for key in during
                    ],
                    "promql_expr_test": moments,
                }
            )
    complaints = promtool(tmp_path, rules, tests)
    assert not complaints, complaints
