#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the dashboard of the role monitoring, roles/monitoring/files/pooled.json, from this table.

Grafana's JSON repeats for each panel what all have in common; here is what is its own.

Usage: tools/env tools/generate/dashboard.py
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
DASHBOARD = ROOT / "roles" / "monitoring" / "files" / "pooled.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
# How series of a limit are drawn: a dashed line over what is stacked.
LIMIT = "limit"

PG = 'instance=~"$server"'
DB = f'{PG}, datname=~"$database"'
PGB = 'instance=~"$pooler"'
POOL = f'{PGB}, database=~"$database", database!="pgbouncer"'
RATE = "[$__rate_interval]"
APPLICATION = "{{usename}} {{application_name}}"
TEXT = f"* on (instance, server, queryid) group_left (query) pg_stat_statements_query_id{{{PG}}}"
TABLE = "{{datname}} {{schemaname}}.{{relname}}"


@dataclass(frozen=True)
class Panel:
    """A panel: what it says, its queries by legend, and how they are shown."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    description: str = ""
    # A number from which on a value is yellow, and one for red.
    thresholds: tuple[float, float] | None = None
    # Below the thresholds is bad, instead of above.
    falling: bool = False
    top: float | None = None
    mappings: dict[str, str] = field(default_factory=dict)
    # Of a table: the name of the column with the value.
    column: str = "Value"


@dataclass(frozen=True)
class Row:
    title: str
    panels: list[Panel]
    height: int = 7


UP = {"0": "down", "1": "up"}

ROWS = [
    Row(
        "At a glance",
        [
            Panel(
                "Postgres",
                {"{{instance}}": f"min by (instance) (pg_up{{{PG}}})"},
                kind="stat",
                width=3,
                mappings=UP,
                thresholds=(0.5, 1),
                falling=True,
            ),
            Panel(
                "PgBouncer",
                {"{{instance}}": f"min by (instance) (pgbouncer_up{{{PGB}}})"},
                kind="stat",
                width=3,
                mappings=UP,
                thresholds=(0.5, 1),
                falling=True,
            ),
            Panel(
                "Connections in use",
                {
                    "{{instance}}": f"max by (instance) (pooled_server_connections{{{PG}}}"
                    f" / (pooled_server_max_connections{{{PG}}}"
                    f" - pooled_server_reserved_connections{{{PG}}}))"
                },
                unit="percentunit",
                kind="stat",
                width=3,
                thresholds=(0.8, 0.95),
                description="Of those that ordinary roles may have.",
            ),
            Panel(
                "Clients waiting",
                {"": f"sum(pgbouncer_pools_client_waiting_connections{{{POOL}}})"},
                kind="stat",
                width=3,
                thresholds=(1, 10),
                description="For a server connection of PgBouncer.",
            ),
            Panel(
                "Sessions blocked",
                {"": f"sum(pooled_locks_blocked_sessions{{{PG}}})"},
                kind="stat",
                width=3,
                thresholds=(1, 10),
            ),
            Panel(
                "Longest idle transaction",
                {
                    "": f"max(pooled_activity_longest_state_seconds{{{PG},"
                    ' state=~"idle in transaction.*"}) or vector(0)'
                },
                unit="s",
                kind="stat",
                width=3,
                thresholds=(60, 300),
            ),
            Panel(
                "Settings that wait for a restart",
                {"": f"sum(pooled_server_pending_restart{{{PG}}})"},
                kind="stat",
                width=3,
                thresholds=(1, 100),
            ),
            Panel(
                "Alerts",
                {
                    "": 'count(ALERTS{alertstate="firing",'
                    ' alertname=~"Postgres.*|Pgbouncer.*"}) or vector(0)'
                },
                kind="stat",
                width=3,
                thresholds=(1, 10),
            ),
        ],
        height=4,
    ),
    Row(
        "Connections to Postgres",
        [
            Panel(
                "Connections by state",
                {
                    "{{state}}": f"sum by (state) (pooled_activity_connections{{{DB}}})",
                    LIMIT: f"sum(pooled_server_max_connections{{{PG}}}"
                    f" - pooled_server_reserved_connections{{{PG}}})",
                },
                stacked=True,
            ),
            Panel(
                "Connections by role and application",
                {
                    APPLICATION: "sum by (usename, application_name)"
                    f" (pooled_activity_connections{{{DB}}})"
                },
                stacked=True,
            ),
            Panel(
                "Oldest transaction by application",
                {
                    APPLICATION: "max by (usename, application_name)"
                    f" (pooled_activity_longest_transaction_seconds{{{DB}}})"
                },
                unit="s",
            ),
        ],
    ),
    Row(
        "Pools of PgBouncer",
        [
            Panel(
                "Clients",
                {
                    "{{database}} {{user}} active": "sum by (database, user)"
                    f" (pgbouncer_pools_client_active_connections{{{POOL}}})",
                    "{{database}} {{user}} waiting": "sum by (database, user)"
                    f" (pgbouncer_pools_client_waiting_connections{{{POOL}}})",
                },
                stacked=True,
            ),
            Panel(
                "Server connections",
                {
                    "active": f"sum(pgbouncer_pools_server_active_connections{{{POOL}}})",
                    "idle": f"sum(pgbouncer_pools_server_idle_connections{{{POOL}}})",
                    "used": f"sum(pgbouncer_pools_server_used_connections{{{POOL}}})",
                    "login": f"sum(pgbouncer_pools_server_login_connections{{{POOL}}})",
                },
                stacked=True,
                description="Used ones are idle, and checked before they are given to a client.",
            ),
            Panel(
                "Longest wait for a server connection",
                {
                    "{{database}} {{user}}": "max by (database, user)"
                    f" (pgbouncer_pools_client_maxwait_seconds{{{POOL}}})"
                },
                unit="s",
                description="Of the client that is first in the queue.",
            ),
            Panel(
                "Share of time that clients wait",
                {
                    "{{database}}": "sum by (database)"
                    f" (rate(pgbouncer_stats_client_wait_seconds_total{{{POOL}}}{RATE}))"
                },
                unit="s",
                description="Seconds in which clients waited, each second, over all of them.",
            ),
            Panel(
                "Queries and transactions per second",
                {
                    "{{database}} queries": "sum by (database)"
                    f" (rate(pgbouncer_stats_queries_pooled_total{{{POOL}}}{RATE}))",
                    "{{database}} transactions": "sum by (database)"
                    f" (rate(pgbouncer_stats_sql_transactions_pooled_total{{{POOL}}}{RATE}))",
                },
                unit="ops",
            ),
            Panel(
                "Mean time of a query and of a transaction",
                {
                    "{{database}} query": "sum by (database)"
                    f" (rate(pgbouncer_stats_queries_duration_seconds_total{{{POOL}}}{RATE}))"
                    " / sum by (database)"
                    f" (rate(pgbouncer_stats_queries_pooled_total{{{POOL}}}{RATE}))",
                    "{{database}} transaction": "sum by (database)"
                    f" (rate(pgbouncer_stats_server_in_transaction_seconds_total{{{POOL}}}{RATE}))"
                    " / sum by (database)"
                    f" (rate(pgbouncer_stats_sql_transactions_pooled_total{{{POOL}}}{RATE}))",
                },
                unit="s",
            ),
            Panel(
                "Clients against max_client_conn",
                {
                    "{{instance}}": f"sum by (instance) (pgbouncer_used_clients{{{PGB}}})",
                    LIMIT: f"sum(pgbouncer_config_max_client_connections{{{PGB}}})",
                },
                width=12,
            ),
            Panel(
                "Network",
                {
                    "{{database}} received": "sum by (database)"
                    f" (rate(pgbouncer_stats_received_bytes_total{{{POOL}}}{RATE}))",
                    "{{database}} sent": "sum by (database)"
                    f" (rate(pgbouncer_stats_sent_bytes_total{{{POOL}}}{RATE}))",
                },
                unit="Bps",
                width=12,
            ),
        ],
    ),
    Row(
        "Work",
        [
            Panel(
                "Transactions per second",
                {
                    "{{datname}} committed": "sum by (datname)"
                    f" (rate(pg_stat_database_xact_commit{{{DB}}}{RATE}))",
                    "{{datname}} rolled back": "sum by (datname)"
                    f" (rate(pg_stat_database_xact_rollback{{{DB}}}{RATE}))",
                },
                unit="ops",
            ),
            Panel(
                "Blocks found in shared_buffers",
                {
                    "{{datname}}": "sum by (datname)"
                    f" (rate(pg_stat_database_blks_hit{{{DB}}}{RATE})) / (sum by (datname)"
                    f" (rate(pg_stat_database_blks_hit{{{DB}}}{RATE})) + sum by (datname)"
                    f" (rate(pg_stat_database_blks_read{{{DB}}}{RATE})))"
                },
                unit="percentunit",
                top=1,
                description="The others came from the system's page cache or the disk.",
            ),
            Panel(
                "Temporary files",
                {
                    "{{datname}}": "sum by (datname)"
                    f" (rate(pg_stat_database_temp_bytes{{{DB}}}{RATE}))"
                },
                unit="Bps",
                description="Sorts and hashes that did not fit into work_mem.",
            ),
            Panel(
                "Rows written per second",
                {
                    f"{{{{datname}}}} {word}": "sum by (datname)"
                    f" (rate(pg_stat_database_tup_{word}{{{DB}}}{RATE}))"
                    for word in ("inserted", "updated", "deleted")
                },
                unit="ops",
            ),
            Panel(
                "Checkpoints in an hour",
                {
                    "on time": f"sum(increase(pooled_checkpoints_timed_total{{{PG}}}[1h]))",
                    "WAL full": f"sum(increase(pooled_checkpoints_requested_total{{{PG}}}[1h]))",
                },
                stacked=True,
            ),
            Panel(
                "Deadlocks in an hour",
                {
                    "{{datname}}": "sum by (datname)"
                    f" (increase(pg_stat_database_deadlocks{{{DB}}}[1h]))"
                },
            ),
        ],
    ),
    Row(
        "Statements",
        [
            Panel(
                "Slowest statements",
                {
                    "": "topk(20, max by (datname, user, query, queryid)"
                    f" (pg_stat_statements_seconds_total{{{DB}}}"
                    f" / pg_stat_statements_calls_total{{{DB}}} {TEXT}))"
                },
                unit="s",
                kind="table",
                width=12,
                column="Mean time",
                description="By mean time since the statistics were reset.",
            ),
            Panel(
                "Statements that take the most time",
                {
                    "{{datname}} {{query}}": "topk(10, sum by (datname, query, queryid)"
                    f" (rate(pg_stat_statements_seconds_total{{{DB}}}{RATE}) {TEXT}))"
                },
                unit="s",
                width=12,
                description="Seconds of work each second, over all sessions.",
            ),
            Panel(
                "Statements with the most blocks from outside shared_buffers",
                {
                    "{{datname}} {{query}}": "topk(10, sum by (datname, query, queryid)"
                    f" (rate(pooled_statement_blocks_read_total{{{DB}}}{RATE}) {TEXT}))"
                },
                unit="ops",
                width=12,
            ),
            Panel(
                "Statements with the most temporary blocks",
                {
                    "{{datname}} {{query}}": "topk(10, sum by (datname, query, queryid)"
                    f" (rate(pooled_statement_temp_blocks_written_total{{{DB}}}{RATE}) {TEXT}))"
                },
                unit="ops",
                width=12,
            ),
        ],
        height=8,
    ),
    Row(
        "Locks",
        [
            Panel(
                "Sessions that wait, and those that they wait for",
                {
                    "{{datname}} blocked": "sum by (datname)"
                    f" (pooled_locks_blocked_sessions{{{DB}}})",
                    "{{datname}} blocking": "sum by (datname)"
                    f" (pooled_locks_blocking_sessions{{{DB}}})",
                },
            ),
            Panel(
                "Longest wait for a lock",
                {"{{datname}}": f"max by (datname) (pooled_locks_longest_wait_seconds{{{DB}}})"},
                unit="s",
            ),
            Panel(
                "Locks by mode",
                {"{{mode}}": f"sum by (mode) (pg_locks_count{{{DB}}})"},
                stacked=True,
            ),
        ],
    ),
    Row(
        "Replication",
        [
            Panel(
                "Lag in time",
                {
                    "{{application_name}} {{client_addr}}": "max by (application_name, client_addr)"
                    f" (pooled_replication_lag_seconds{{{PG}}})"
                },
                unit="s",
            ),
            Panel(
                "WAL still to replay",
                {
                    "{{application_name}} {{client_addr}}": "max by (application_name, client_addr)"
                    f" (pooled_replication_lag_bytes{{{PG}}})"
                },
                unit="bytes",
            ),
            Panel(
                "WAL kept for slots",
                {
                    "{{slot_name}}": "max by (instance, slot_name)"
                    f" (pooled_slot_retained_bytes{{{PG}}})"
                },
                unit="bytes",
            ),
        ],
    ),
    Row(
        "Tables",
        [
            Panel(
                "Rows read by scans of whole tables",
                {
                    TABLE: "topk(10, sum by (datname, schemaname, relname)"
                    f" (rate(pg_stat_user_tables_seq_tup_read{{{DB}}}{RATE})))"
                },
                unit="ops",
            ),
            Panel(
                "Dead rows",
                {
                    TABLE: "topk(10, max by (datname, schemaname, relname)"
                    f" (pg_stat_user_tables_n_dead_tup{{{DB}}}))"
                },
            ),
            Panel(
                "Largest tables",
                {
                    TABLE: "topk(10, max by (datname, schemaname, relname)"
                    f" (pg_stat_user_tables_table_size_bytes{{{DB}}}))"
                },
                unit="bytes",
                description="As of the last VACUUM or ANALYZE.",
            ),
        ],
    ),
    Row(
        "Indexes",
        [
            Panel(
                "Indexes that were never used",
                {
                    "": "topk(20, max by (datname, schemaname, relname, indexrelname)"
                    f' (pooled_index_size_bytes{{{DB}, kind="plain"}}'
                    " and on (instance, datname, schemaname, relname, indexrelname)"
                    f" pg_stat_user_indexes_idx_scan{{{DB}}} == 0))"
                },
                unit="bytes",
                kind="table",
                width=12,
                column="Size",
                description="Since the statistics were reset, on this server. Standbys may use"
                " them. Those of primary keys and unique constraints are not among them.",
            ),
            Panel(
                "Scans per second of the most used indexes",
                {
                    "{{datname}} {{indexrelname}}": "topk(10, sum by (datname, schemaname,"
                    f" indexrelname) (rate(pg_stat_user_indexes_idx_scan{{{DB}}}{RATE})))"
                },
                unit="ops",
                width=12,
            ),
        ],
    ),
    Row(
        "Age and size",
        [
            Panel(
                "Age of the oldest transaction",
                {
                    "{{datname}}": f"max by (datname) (pooled_database_xid_age{{{DB}}})",
                    LIMIT: f"max(pooled_server_freeze_max_age{{{PG}}})",
                },
                width=12,
                description="autovacuum_freeze_max_age is the limit from which on autovacuum"
                " freezes, whatever else; at 2.1 billion the server stops.",
            ),
            Panel(
                "Size of the databases",
                {"{{datname}}": f"max by (instance, datname) (pg_database_size_bytes{{{DB}}})"},
                unit="bytes",
                width=12,
            ),
        ],
    ),
]


def thresholds(panel: Panel) -> dict[str, Any]:
    if panel.thresholds is None:
        return {"mode": "absolute", "steps": [{"color": "green", "value": None}]}
    first, second = panel.thresholds
    colors = ("red", "yellow", "green") if panel.falling else ("green", "yellow", "red")
    return {
        "mode": "absolute",
        "steps": [
            {"color": color, "value": value} for color, value in zip(colors, (None, first, second))
        ],
    }


def field_config(panel: Panel) -> dict[str, Any]:
    """Grafana's fieldConfig: units, colours, lines."""
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": thresholds(panel),
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "mappings": [
            {"type": "value", "options": {key: {"text": text}}}
            for key, text in panel.mappings.items()
        ],
    }
    overrides: list[dict[str, Any]] = []
    if panel.kind == "timeseries":
        defaults["min"] = 0
        if panel.top is not None:
            defaults["max"] = panel.top
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 25 if panel.stacked else 0,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    if LIMIT in panel.queries:
        drawn = {
            "custom.stacking": {"mode": "none", "group": "B"},
            "custom.fillOpacity": 0,
            "custom.lineStyle": {"fill": "dash", "dash": [10, 10]},
            "color": {"mode": "fixed", "fixedColor": "red"},
        }
        overrides.append(
            {
                "matcher": {"id": "byName", "options": LIMIT},
                "properties": [{"id": key, "value": value} for key, value in drawn.items()],
            }
        )
    return {"defaults": defaults, "overrides": overrides}


def options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "background",
            "graphMode": "none",
            "textMode": "auto",
            "orientation": "auto",
            "justifyMode": "auto",
        }
    if panel.kind == "table":
        return {"showHeader": True, "cellHeight": "sm"}
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def render(panel: Panel, number: int, x: int, y: int, height: int) -> dict[str, Any]:
    """A panel as Grafana has it."""
    at_once = panel.kind != "timeseries"
    found: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": height},
        "fieldConfig": field_config(panel),
        "options": options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": expr,
                "legendFormat": legend,
                "instant": at_once,
                "range": not at_once,
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for index, (legend, expr) in enumerate(panel.queries.items())
        ],
    }
    if panel.kind == "table":
        found["transformations"] = [
            {
                "id": "organize",
                "options": {
                    "excludeByName": dict.fromkeys(("Time", "queryid"), True),
                    "renameByName": {"Value": panel.column},
                },
            },
            {
                "id": "sortBy",
                "options": {"sort": [{"field": panel.column, "desc": True}]},
            },
        ]
    return found


def panels() -> list[dict[str, Any]]:
    """Rows and their panels, from left to right and from above."""
    found: list[dict[str, Any]] = []
    y = 0
    for row in ROWS:
        found.append(
            {
                "id": len(found) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
                "panels": [],
            }
        )
        y += 1
        x = 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x = 0
                y += row.height
            found.append(render(panel, len(found) + 1, x, y, row.height))
            x += panel.width
        y += row.height
    return found


def variable(name: str, label: str, query: str) -> dict[str, Any]:
    """A choice of several values of a label, at first all."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": SOURCE,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "hide": 0,
        "regex": "",
        "skipUrlSync": False,
    }


def dashboard() -> dict[str, Any]:
    return {
        "uid": "pooled-postgres",
        "title": "Postgres behind PgBouncer",
        "description": "For the metrics of the exporters that pooled.postgres installs.",
        "tags": ["postgresql", "pgbouncer"],
        "schemaVersion": 39,
        "version": 1,
        "id": None,
        "editable": True,
        "graphTooltip": 1,
        "fiscalYearStartMonth": 0,
        "links": [],
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timepicker": {},
        "timezone": "",
        "weekStart": "",
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "enable": True,
                    "hide": False,
                    "iconColor": "red",
                    "datasource": SOURCE,
                    "expr": 'ALERTS{alertstate="firing", alertname=~"Postgres.*|Pgbouncer.*"}',
                    "titleFormat": "{{alertname}}",
                    "textFormat": "{{instance}}",
                    "step": "60s",
                }
            ]
        },
        "templating": {
            "list": [
                {
                    "type": "datasource",
                    "name": "datasource",
                    "label": "Prometheus",
                    "query": "prometheus",
                    "current": {},
                    "options": [],
                    "refresh": 1,
                    "regex": "",
                    "hide": 0,
                    "includeAll": False,
                    "multi": False,
                    "skipUrlSync": False,
                },
                variable("server", "Postgres", "label_values(pg_up, instance)"),
                variable("pooler", "PgBouncer", "label_values(pgbouncer_up, instance)"),
                variable(
                    "database",
                    "Database",
                    'label_values(pooled_database_xid_age{instance=~"$server"}, datname)',
                ),
            ]
        },
        "panels": panels(),
    }


def text() -> str:
    return json.dumps(dashboard(), indent=2) + "\n"


def main() -> int:
    DASHBOARD.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
