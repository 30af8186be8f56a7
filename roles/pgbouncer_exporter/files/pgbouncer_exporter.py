# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics of PgBouncer for Prometheus, where the distribution's exporter does not work.

Debian 12 packages an exporter that does not start with Debian 12's PgBouncer. This one gives the
metrics of Debian 13's exporter (prometheus-community's, 0.10) under the same names. It logs in to
the console over the unix socket as the user of the process, anew for each request, so that it
survives restarts of PgBouncer.

usage: pgbouncer_exporter.py ADDRESS:PORT SOCKET_DIRECTORY PGBOUNCER_PORT
"""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Row = Mapping[str, Any]
# Rows of a console command, such as SHOW POOLS.
Ask = Callable[[str], list[dict[str, Any]]]

TIMEOUT_S = 5
MICROSECONDS = 1e-6
# Of SHOW STATS: column, metric, factor.
STATS = (
    ("total_xact_count", "sql_transactions_pooled_total", 1),
    ("total_query_count", "queries_pooled_total", 1),
    ("total_received", "received_bytes_total", 1),
    ("total_sent", "sent_bytes_total", 1),
    ("total_xact_time", "server_in_transaction_seconds_total", MICROSECONDS),
    ("total_query_time", "queries_duration_seconds_total", MICROSECONDS),
    ("total_wait_time", "client_wait_seconds_total", MICROSECONDS),
)
# Of SHOW POOLS: column, metric.
POOLS = (
    ("cl_active", "client_active_connections"),
    ("cl_waiting", "client_waiting_connections"),
    ("cl_active_cancel_req", "client_active_cancel_connections"),
    ("cl_waiting_cancel_req", "client_waiting_cancel_connections"),
    ("sv_active", "server_active_connections"),
    ("sv_active_cancel", "server_active_cancel_connections"),
    ("sv_being_canceled", "server_being_canceled_connections"),
    ("sv_idle", "server_idle_connections"),
    ("sv_used", "server_used_connections"),
    ("sv_tested", "server_testing_connections"),
    ("sv_login", "server_login_connections"),
)
# Of SHOW DATABASES: column, metric; and the columns that are labels.
DATABASES = (
    ("pool_size", "pool_size"),
    ("max_connections", "max_connections"),
    ("current_connections", "current_connections"),
    ("paused", "paused"),
    ("disabled", "disabled"),
)
DATABASE_LABELS = ("database", "force_user", "host", "name", "pool_mode", "port")
# Of SHOW LISTS: list, metric.
LISTS = (
    ("databases", "databases"),
    ("users", "users"),
    ("pools", "pools"),
    ("free_clients", "free_clients"),
    ("used_clients", "used_clients"),
    ("login_clients", "login_clients"),
    ("free_servers", "free_servers"),
    ("used_servers", "used_servers"),
    ("dns_names", "cached_dns_names"),
    ("dns_zones", "cached_dns_zones"),
    ("dns_queries", "in_flight_dns_queries"),
)
# Of SHOW CONFIG: option, metric.
CONFIG = (
    ("max_client_conn", "config_max_client_connections"),
    ("max_user_connections", "config_max_user_connections"),
)


def line(name: str, value: float, labels: Mapping[str, Any] | None = None) -> str:
    """One sample."""
    shown = ",".join(f'{key}="{escaped(text)}"' for key, text in (labels or {}).items())
    return f"pgbouncer_{name}{'{' + shown + '}' if shown else ''} {float(value):.16g}"


def escaped(value: Any) -> str:
    """The text of a label."""
    text = "" if value is None else str(value)
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def samples(ask: Ask) -> Iterable[str]:
    """The metrics, as Prometheus reads them."""
    for name, rows in families(ask).items():
        yield f"# TYPE pgbouncer_{name} {'counter' if name.endswith('_total') else 'gauge'}"
        yield from rows


def families(ask: Ask) -> dict[str, list[str]]:
    """The samples by metric; a column that this version of PgBouncer lacks gives none."""
    found: dict[str, list[str]] = {}

    def add(name: str, value: float, labels: Mapping[str, Any] | None = None) -> None:
        found.setdefault(name, []).append(line(name, value, labels))

    add("up", 1)
    for row in ask("SHOW VERSION"):
        add("version_info", 1, {"version": next(iter(row.values()))})
    for row in ask("SHOW STATS"):
        for column, metric, factor in STATS:
            if column in row:
                add(f"stats_{metric}", float(row[column]) * factor, {"database": row["database"]})
    for row in ask("SHOW POOLS"):
        labels = {"database": row["database"], "user": row["user"]}
        for column, metric in POOLS:
            if column in row:
                add(f"pools_{metric}", row[column], labels)
        seconds = float(row["maxwait"]) + float(row["maxwait_us"]) * MICROSECONDS
        add("pools_client_maxwait_seconds", seconds, labels)
    for row in ask("SHOW DATABASES"):
        place = {label: row.get(label) for label in DATABASE_LABELS}
        for column, metric in DATABASES:
            if column in row:
                add(f"databases_{metric}", row[column], place)
    numbers = {row["list"]: row["items"] for row in ask("SHOW LISTS")}
    for key, metric in LISTS:
        if key in numbers:
            add(metric, numbers[key])
    options = {row["key"]: row["value"] for row in ask("SHOW CONFIG")}
    for key, metric in CONFIG:
        if key in options:
            add(metric, float(options[key]))
    return found


def descriptors(pid: int, proc: str = "/proc") -> list[str]:
    """How many file descriptors a process has open, and how many it may have."""
    opened = len(os.listdir(f"{proc}/{pid}/fd"))
    with open(f"{proc}/{pid}/limits", encoding="ascii") as handle:
        limit = re.search(r"^Max open files\s+(\d+)", handle.read(), re.MULTILINE)
    found = {"process_open_fds": opened, "process_max_fds": int(limit[1]) if limit else 0}
    return [
        text
        for name, value in found.items()
        for text in (f"# TYPE pgbouncer_{name} gauge", line(name, value))
    ]


def peer_pid(file_descriptor: int) -> int:
    """The process at the other end of a unix socket."""
    with socket.socket(fileno=os.dup(file_descriptor)) as peer:
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


def page(connect: Callable[[], Any]) -> str:
    """The answer to a request, also when PgBouncer does not answer."""
    try:
        connection = connect()
        try:
            with connection.cursor() as cursor:

                def ask(command: str) -> list[dict[str, Any]]:
                    cursor.execute(command)
                    names = [column.name for column in cursor.description]
                    return [dict(zip(names, row)) for row in cursor.fetchall()]

                lines = [*samples(ask), *descriptors(peer_pid(connection.fileno()))]
        finally:
            connection.close()
    except Exception as error:  # whatever it is, Prometheus shall be told
        print(f"PgBouncer can't be read: {error}", file=sys.stderr, flush=True)
        lines = ["# TYPE pgbouncer_up gauge", line("up", 0)]
    return "".join(f"{text}\n" for text in lines)


def handler(connect: Callable[[], Any]) -> type[BaseHTTPRequestHandler]:
    """What answers requests."""

    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT_S

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404)
                return
            content = page(connect).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: Any) -> None:
            """Requests are not worth a line each."""

    return Handler


def console(directory: str, port: int) -> Any:
    """A connection to the console, which takes no transactions."""
    import psycopg2  # noqa: PLC0415 # the rest works, and is tested, without it

    connection = psycopg2.connect(
        host=directory,
        port=port,
        user="pgbouncer",
        dbname="pgbouncer",
        connect_timeout=TIMEOUT_S,
        application_name="pgbouncer_exporter",
    )
    connection.autocommit = True
    return connection


def main() -> None:
    address, directory, port = sys.argv[1:]
    host, _colon, number = address.rpartition(":")
    host = host.strip("[]")

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True

    with Server((host, int(number)), handler(lambda: console(directory, int(port)))) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
