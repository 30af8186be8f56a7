#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try the PgBouncer processes that share a port on this host, as an application and as a fault do.

Usage: processes.py PROCESSES DSN, as root. Prints what it counted as JSON; fails when a claim does
not hold.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import psycopg2
import psycopg2.extensions

CLIENTS = 24
CANCELS = 12


def expect(holds: bool, *seen: object) -> None:
    if not holds:
        sys.exit(f"This does not hold: {seen}")


def pids(services: list[str]) -> list[int]:
    shown = subprocess.check_output(
        ["systemctl", "show", *services, "-p", "MainPID", "--value"], text=True
    )
    return [int(line) for line in shown.split()]


def console(directory: str, statement: str) -> list[list[str]]:
    """Rows of a process's console, which lets its own OS user in."""
    psql = ["psql", "-XAtw", "-F", "\t", "-h", directory, "-p", "6432", "-U", "pgbouncer"]
    out = subprocess.check_output(
        ["runuser", "-u", "pgbouncer", "--", *psql, "pgbouncer", "-c", statement], text=True
    )
    return [line.split("\t") for line in out.splitlines()]


def running() -> str:
    """What the server runs for the application."""
    query = "SELECT query FROM pg_stat_activity WHERE usename = 'app_user' AND state = 'active'"
    return subprocess.check_output(
        ["runuser", "-u", "postgres", "--", "psql", "-XAtwc", query], text=True
    )


def spread(directories: list[str], dsn: str) -> list[int]:
    """How many of some connections each process has."""
    held = [psycopg2.connect(dsn) for _number in range(CLIENTS)]
    counts = [
        sum(1 for row in console(directory, "SHOW CLIENTS") if row[1] == "app_user")
        for directory in directories
    ]
    for one in held:
        one.close()
    expect(sum(counts) == CLIENTS and all(counts), "all processes have clients", counts)
    return counts


def run(connection: psycopg2.extensions.connection, statement: str, outcome: list[str]) -> None:
    try:
        connection.cursor().execute(statement)
        outcome.append("slept")
    except psycopg2.extensions.QueryCanceledError:
        outcome.append("cancelled")


def cancelled(dsn: str) -> int:
    """How many running queries ended by a request to cancel, which any of the processes gets."""
    ended = 0
    for number in range(CANCELS):
        with_query = psycopg2.connect(dsn)
        with_query.autocommit = True
        statement = f"SELECT pg_sleep(20) /* {number} */"
        outcome: list[str] = []
        thread = threading.Thread(target=run, args=(with_query, statement, outcome))
        thread.start()
        # A request that comes before the query has a server connection is for nobody.
        deadline = time.monotonic() + 10
        while statement not in running():
            expect(time.monotonic() < deadline, "the query runs", statement)
        with_query.cancel()
        thread.join(5)
        expect(outcome == ["cancelled"], "the query is cancelled", outcome, ended)
        ended += 1
        with_query.close()
    return ended


def killed(services: list[str], index: int, dsn: str) -> dict[str, int]:
    """A process is killed: sessions of the others stay, new ones are served, and it comes back."""
    before = pids(services)
    # Enough that each process has some.
    sessions = [psycopg2.connect(dsn) for _number in range(CLIENTS)]
    for one in sessions:
        one.autocommit = True
    os.kill(before[index], signal.SIGKILL)
    alive = 0
    for one in sessions:
        try:
            one.cursor().execute("SELECT 1")
            alive += 1
        except psycopg2.Error:
            pass
    served = refused = 0
    deadline = time.monotonic() + 20
    while True:
        try:
            psycopg2.connect(dsn).close()
            served += 1
        except psycopg2.OperationalError:
            refused += 1
        now = pids(services)
        if now[index] not in (0, before[index]):
            break
        expect(time.monotonic() < deadline, "the process comes back", before, now)
    others = [pid for place, pid in enumerate(before) if place != index]
    left = [pid for place, pid in enumerate(now) if place != index]
    expect(left == others, "the other processes stay", before, now)
    expect(0 < alive < CLIENTS, "the others' sessions stay", alive)
    expect(served > 0, "new sessions are served", refused)
    return {"sessions kept": alive, "new sessions": served, "refused": refused}


def main() -> None:
    count, dsn = int(sys.argv[1]), sys.argv[2]
    numbers = range(2, count + 1)
    services = ["pgbouncer", *(f"pgbouncer@{number}" for number in numbers)]
    directories = ["/var/run/postgresql", *(f"/run/pgbouncer-{number}" for number in numbers)]
    for number, directory in enumerate(directories, 1):
        config = {row[0]: row[1] for row in console(directory, "SHOW CONFIG")}
        own = (config["peer_id"], config["so_reuseport"])
        expect(own == (str(number), "1"), "the process is one of several", own)
        expect(len(console(directory, "SHOW PEERS")) == count, "it knows its peers", number)
    result = {
        "spread": spread(directories, dsn),
        "cancelled": cancelled(dsn),
        "first killed": killed(services, 0, dsn),
        "last killed": killed(services, count - 1, dsn),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
