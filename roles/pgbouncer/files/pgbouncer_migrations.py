# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See when a migration has changed types, and have pools and clients forget what they were.

A session of the server keeps plans of prepared statements and of functions, and PgBouncer hands
sessions and statements from client to client. After ALTER TABLE ... ALTER ... TYPE, or when a type
was dropped and made again, such a statement fails for everybody until its session ends. And in a
new session, a client that goes on with the types it was told before reads values wrongly, or sends
wrong ones. So for each database behind PgBouncer this

1. reads the catalogs up to ten times a second, for relations, types and functions that are not as
   they were; what is new or only dropped needs nothing;
2. disconnects the clients that have prepared statements, each between two of its transactions;
3. opens the pools' sessions anew (RECONNECT): those in a transaction end after it.

It asks PgBouncer's console where the databases are, and logs in to them as PgBouncer itself does.

usage: pgbouncer_migrations.py STATE_DIRECTORY PORT SOCKET_DIRECTORY...

with PgBouncer's port, and the directory of the unix socket of each of its processes.
"""

from __future__ import annotations

import json
import os
import re
import select
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg2
import psycopg2.extensions

Row = Mapping[str, Any]

# How often the databases are looked at: at most and at least, and in between so that it takes this
# part of the time.
INTERVAL_S = 0.1
SHARE = 0.05
MOST_INTERVAL_S = 5.0
# Between two times that the clients of a database are disconnected.
GAP_S = 3.0
# How long clients may finish their transactions before their pools' sessions are opened anew.
GRACE_S = 0.3
# How often to look for the end of the transactions that take longer.
LATE_S = 0.1
# How often PgBouncer is asked for its databases, and how long one that fails is left alone.
TARGETS_S = 30.0
RETRY_S = 15.0
# Objects that are gone and still remembered, because they may come back with another shape.
MOST_GONE = 20000

# What a client may have been told of the shape of a statement's parameters and results: each named
# object, and its shape. Nothing temporary, and nothing of the server's own.
OBJECTS = """
SELECT 'relation ' || n.nspname || '.' || c.relname AS name,
       pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.concat_ws(
         ' ', a.attnum, a.attname, a.atttypid, a.atttypmod), 0))::text AS shape
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND c.relpersistence <> 't'
   AND c.oid >= 16384 AND n.nspname !~ '^pg_' AND a.attnum > 0 AND NOT a.attisdropped
 GROUP BY n.nspname, c.relname
UNION ALL
SELECT 'type ' || n.nspname || '.' || t.typname,
       pg_catalog.concat_ws(' ', t.oid, t.typtype, t.typbasetype, t.typtypmod)
  FROM pg_catalog.pg_type AS t
  JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_class AS c ON c.oid = t.typrelid
 WHERE t.oid >= 16384 AND n.nspname !~ '^pg_' AND t.typcategory <> 'A'
   AND (c.oid IS NULL OR c.relkind = 'c')
UNION ALL
SELECT 'function ' || n.nspname || '.' || p.proname || '(' || p.proargtypes::text || ')',
       pg_catalog.concat_ws(' ', p.prorettype, p.proretset, p.proallargtypes::text,
                            p.proargmodes::text, p.proargnames::text)
  FROM pg_catalog.pg_proc AS p
  JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
 WHERE p.oid >= 16384 AND n.nspname !~ '^pg_'
"""
DIGEST = f"""
SELECT pg_catalog.count(*)::text || ' ' || COALESCE(pg_catalog.sum(
         pg_catalog.hashtextextended(o.name || ' ' || o.shape, 0)), 0)::text
  FROM ({OBJECTS}) AS o
"""  # noqa: S608 - made of constants
# The role has limits of its own, and reads only; this is what it does not say.
SESSION = {
    "search_path": "pg_catalog",
    "work_mem": "32MB",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "statement_timeout": "10s",
    "default_transaction_read_only": "on",
}


@dataclass(frozen=True)
class Target:
    """A database of a server."""

    host: str
    port: int
    dbname: str

    def __str__(self) -> str:
        return f"{self.dbname} on {self.host}:{self.port}"


def targets(rows: Iterable[Row]) -> dict[Target, list[str]]:
    """The databases behind PgBouncer, each with the names that clients know it by.

    Args:
        rows: of the console's SHOW DATABASES, of all processes.
    """
    found: dict[Target, list[str]] = {}
    for row in rows:
        if row["name"] == "pgbouncer" or not row["host"]:
            continue
        names = found.setdefault(
            Target(str(row["host"]), int(row["port"]), str(row["database"])), []
        )
        if row["name"] not in names:
            names.append(str(row["name"]))
    return found


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Objects that have another shape than before; those that came or went are not among them."""
    return sorted(name for name in after.keys() & before.keys() if before[name] != after[name])


def remembered(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """What to compare with the next time: also what is gone, unless that is too much."""
    gone = len(before.keys() - after.keys())
    return {**before, **after} if gone <= MOST_GONE else dict(after)


def secret_of(user: str, auth_file: str) -> str | None:
    """A user's secret in the text of PgBouncer's auth file."""
    for name, secret in re.findall(
        r'^\s*"((?:[^"]|"")*)"\s+"((?:[^"]|"")*)"', auth_file, re.MULTILINE
    ):
        if name.replace('""', '"') == user:
            return str(secret.replace('""', '"'))
    return None


def with_statements(clients: Iterable[Row], names: Sequence[str]) -> set[int]:
    """Clients of these databases that have prepared statements, by their number.

    Args:
        clients: rows of the console's SHOW CLIENTS.
        names: the databases, as clients know them.
    """
    return {
        int(row["id"])
        for row in clients
        if row["database"] in names and int(row.get("prepared_statements") or 0) > 0
    }


def busy(clients: Iterable[Row], among: set[int]) -> set[int]:
    """Those of the clients that are in a transaction."""
    return {int(row["id"]) for row in clients if int(row["id"]) in among and row["link"]}


def pause(costs: Iterable[float]) -> float:
    """How long to wait until the next look at each database.

    Args:
        costs: how long the last look at each of them took.
    """
    return min(max(INTERVAL_S, sum(costs) / SHARE), MOST_INTERVAL_S)


def log(text: str) -> None:
    """A line for the journal, whatever somebody has named things."""
    print(text.encode("unicode_escape").decode("ascii"), flush=True)


class Console:
    """The console of a process, connected while it is needed."""

    def __init__(self, directory: str, port: int) -> None:
        self.directory = directory
        self.port = port
        self.connection: Any = None

    def rows(self, command: str) -> list[dict[str, Any]]:
        """What a command answers."""
        try:
            if self.connection is None:
                self.connection = psycopg2.connect(
                    host=self.directory, port=self.port, user="pgbouncer", dbname="pgbouncer",
                    connect_timeout=5, client_encoding="UTF8",
                )  # fmt: skip
                self.connection.autocommit = True
            with self.connection.cursor() as cursor:
                cursor.execute(command)
                if cursor.description is None:
                    return []
                names = [column.name for column in cursor.description]
                return [dict(zip(names, row)) for row in cursor.fetchall()]
        except psycopg2.OperationalError:
            self.close()
            raise

    def close(self) -> None:
        """Leave it alone until it is needed again."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def disconnect(console: Console, clients: Iterable[int]) -> None:
    """End clients; some may be gone."""
    for number in sorted(clients):
        try:
            console.rows(f"KILL_CLIENT {number}")
        except psycopg2.OperationalError:
            raise
        except psycopg2.Error:
            continue


def tracks_without_numbers(console: Console, clients: Sequence[Row]) -> bool:
    """Whether it keeps clients' statements and can't end single clients: from 1.21 to 1.23."""
    if not clients or "id" in clients[0]:
        return False
    config = {row["key"]: row["value"] for row in console.rows("SHOW CONFIG")}
    return int(config.get("max_prepared_statements") or 0) > 0


@dataclass
class Refresh:
    """One process that is to forget what it knows of a database."""

    console: Console
    names: Sequence[str]
    clients: set[int] = field(default_factory=set)
    ended: int = 0

    def begin(self) -> None:
        """Note who has prepared statements until now; the numbers of later clients are higher."""
        rows = self.console.rows("SHOW CLIENTS")
        if tracks_without_numbers(self.console, rows):
            for name in self.names:
                self.console.rows(f"KILL {quoted(name)}")
                self.console.rows(f"RESUME {quoted(name)}")
        elif rows and "id" in rows[0]:
            self.clients = with_statements(rows, self.names)

    def step(self) -> bool:
        """End those that are in no transaction; whether some still are."""
        if self.clients:
            rows = self.console.rows("SHOW CLIENTS")
            there = self.clients & {int(row["id"]) for row in rows}
            working = busy(rows, there)
            disconnect(self.console, there - working)
            self.ended += len(there - working)
            self.clients = working
        return bool(self.clients)

    def reconnect(self) -> None:
        """Open the pools' sessions anew.

        One that is just logging in would end too, and PgBouncer takes that for a failed login:
        for server_login_retry, nobody gets a new session. So first let them come in.
        """
        deadline = time.monotonic() + GRACE_S
        while any(
            int(row["sv_login"])
            for row in self.console.rows("SHOW POOLS")
            if row["database"] in self.names
        ):
            if time.monotonic() > deadline:
                break
            time.sleep(0.005)
        for name in self.names:
            self.console.rows(f"RECONNECT {quoted(name)}")


def quoted(name: str) -> str:
    """A name for a command of the console."""
    return '"' + name.replace('"', '""') + '"'


class Watch:
    """A database that is looked at."""

    def __init__(self, target: Target, objects: Mapping[str, str] | None) -> None:
        self.target = target
        self.objects = objects
        self.names: list[str] = []
        self.digest = ""
        self.connection: Any = None
        self.cost = 0.0
        self.not_before = 0.0
        self.failed = False
        self.acted = float("-inf")

    def look(self, login: Mapping[str, Any]) -> list[str]:
        """What has changed since the last look.

        Raises:
            psycopg2.Error: when the server does not answer.
        """
        if self.connection is None:
            self.connection = psycopg2.connect(
                host=self.target.host, port=self.target.port, dbname=self.target.dbname, **login
            )
            self.connection.autocommit = True
        begun = time.monotonic()
        with self.connection.cursor() as cursor:
            cursor.execute(DIGEST)
            ((digest,),) = cursor.fetchall()
            self.cost = time.monotonic() - begun
            if digest == self.digest:
                return []
            cursor.execute(OBJECTS)
            after = dict(cursor.fetchall())
        self.digest = digest
        before = after if self.objects is None else self.objects
        self.objects = remembered(before, after)
        return changed(before, after)

    def close(self) -> None:
        """Be connected no more."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Service:
    """All databases and all processes."""

    def __init__(self, state: str, port: int, directories: Sequence[str]) -> None:
        self.state = os.path.join(state, "objects.json")
        self.consoles = [Console(directory, port) for directory in directories]
        self.watches: dict[Target, Watch] = {}
        self.kept = self._kept()
        self.login: dict[str, Any] = {}
        self.asked = float("-inf")
        self.late: list[Refresh] = []
        self.changed: dict[Target, list[str]] = {}

    def _kept(self) -> dict[str, dict[str, str]]:
        """What the databases were when the service last ran, since the host's start."""
        try:
            with open(self.state, encoding="utf-8") as handle:
                return dict(json.load(handle))
        except (OSError, ValueError):
            return {}

    def _keep(self) -> None:
        found = {str(one.target): one.objects for one in self.watches.values() if one.objects}
        self.kept.update(found)  # type: ignore[arg-type]
        try:
            with open(f"{self.state}.new", "w", encoding="utf-8") as handle:
                json.dump(self.kept, handle)
            os.replace(f"{self.state}.new", self.state)
        except OSError as error:
            # To end for it would be to disconnect the same clients again after each start.
            log(f"what the databases are can't be kept: {error}")

    def find_targets(self) -> None:
        """Ask PgBouncer for its databases, and how it logs in to them."""
        rows: list[Row] = []
        for console in self.consoles:
            try:
                rows += console.rows("SHOW DATABASES")
                config = {row["key"]: row["value"] for row in console.rows("SHOW CONFIG")}
                self.login = login_of(config)
            except (OSError, psycopg2.Error) as error:
                log(f"PgBouncer's console in {console.directory}: {error}")
            finally:
                if not any(one.console is console for one in self.late):
                    console.close()
        found = targets(rows) if self.login.get("user") else {}
        for target in self.watches.keys() - found.keys() if rows else ():
            self.watches.pop(target).close()
        for target, names in found.items():
            if target not in self.watches:
                self.watches[target] = Watch(target, self.kept.get(str(target)))
            self.watches[target].names = names

    def look(self, now: float) -> None:
        """Look at each database that is due."""
        for watch in self.watches.values():
            if now < watch.not_before:
                continue
            known = watch.digest
            try:
                found = watch.look(self.login)
            except psycopg2.Error as error:
                watch.close()
                if not watch.failed:
                    log(f"{watch.target}: {error}")
                watch.failed = True
                watch.not_before = time.monotonic() + RETRY_S
                continue
            if watch.failed:
                log(f"{watch.target}: answers again")
                watch.failed = False
            if found:
                self.changed.setdefault(watch.target, []).extend(found)
            elif watch.digest != known and not self.changed:
                self._keep()
        for target in [one for one in self.changed if one in self.watches]:
            watch = self.watches[target]
            if time.monotonic() - watch.acted >= GAP_S:
                self.act(watch, sorted(set(self.changed.pop(target))))

    def act(self, watch: Watch, objects: Sequence[str]) -> None:
        """Have all processes forget what they know of a database."""
        shown = ", ".join(objects[:5]) + (f" and {len(objects) - 5} more" if objects[5:] else "")
        log(f"{watch.target}: changed: {shown}")
        refreshes = [Refresh(console, watch.names) for console in self.consoles]
        for one in list(refreshes):
            self._attempt(one, one.begin, refreshes)
        deadline = time.monotonic() + GRACE_S
        working = True
        while working:
            more = [self._attempt(one, one.step, refreshes) for one in list(refreshes)]
            working = any(more) and time.monotonic() < deadline
            time.sleep(0.01 if working else 0)
        for one in list(refreshes):
            self._attempt(one, one.reconnect, refreshes)
        watch.acted = time.monotonic()
        self._keep()
        ended = sum(one.ended for one in refreshes)
        left = sum(len(one.clients) for one in refreshes)
        log(
            f"{watch.target}: the pools reconnect; disconnected {ended} clients with prepared"
            f" statements, and {left} more when their transactions end"
        )
        self.late += [one for one in refreshes if one.clients]
        self._rest()

    def _attempt(self, one: Refresh, step: Any, among: list[Refresh]) -> bool:
        """Take a step; whether there is more to do. A process that is gone knows nothing more."""
        try:
            return bool(step())
        except (OSError, psycopg2.Error) as error:
            log(f"PgBouncer's console in {one.console.directory}: {error}")
            one.console.close()
            among.remove(one)
            return False

    def end_late(self) -> None:
        """Disconnect those whose transactions have ended by now."""
        for one in list(self.late):
            if not self._attempt(one, one.step, self.late) and one in self.late:
                self.late.remove(one)
        self._rest()

    def _rest(self) -> None:
        for console in self.consoles:
            if not any(one.console is console for one in self.late):
                console.close()

    def run(self) -> None:
        """Go on for ever."""
        due = 0.0
        while True:
            now = time.monotonic()
            if now - self.asked >= TARGETS_S:
                self.find_targets()
                # Right after PgBouncer's start it may not answer yet.
                self.asked = now if self.watches else now - TARGETS_S + 1
            if now >= due:
                self.look(now)
                due = time.monotonic() + pause(one.cost for one in self.watches.values())
            if self.late:
                self.end_late()
            wait = min(due - time.monotonic(), LATE_S if self.late else MOST_INTERVAL_S)
            select.select([], [], [], max(wait, 0.01))


def login_of(config: Mapping[str, str | None]) -> dict[str, Any]:
    """How PgBouncer itself logs in to servers, in libpq's words.

    Args:
        config: what the console's SHOW CONFIG says.
    """
    user = config.get("auth_user") or ""
    login: dict[str, Any] = {
        "user": user,
        "application_name": "pgbouncer-migrations",
        "client_encoding": "UTF8",
        "connect_timeout": 10,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20000,
        "options": " ".join(f"-c {name}={value}" for name, value in SESSION.items()),
    }
    try:
        with open(config.get("auth_file") or "", encoding="utf-8") as handle:
            password = secret_of(user, handle.read())
    except OSError:
        password = None
    if password:
        login["password"] = password
    if psycopg2.extensions.libpq_version() >= 160000:
        login["require_auth"] = "scram-sha-256,none"
    for name, parameter in (
        ("server_tls_sslmode", "sslmode"),
        ("server_tls_ca_file", "sslrootcert"),
        ("server_tls_cert_file", "sslcert"),
        ("server_tls_key_file", "sslkey"),
    ):
        if config.get(name):
            login[parameter] = config[name]
    return login


def main(arguments: Sequence[str]) -> None:
    """Run as the command line says."""
    state, port, *directories = arguments
    Service(state, int(port), directories).run()


if __name__ == "__main__":
    main(sys.argv[1:])
