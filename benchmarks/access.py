#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the rights on a large database with postgres_access and with community.postgresql's modules.

A throw-away server gets a database of many schemas, tables and roles. Each way is run by
ansible-playbook three times: a first grant on that database, a run with nothing to do, and a run
after one table has lost its rights. Both ways see the same objects and grant the same rights, which
is checked through has_table_privilege.

Usage: tools/env benchmarks/access.py [--quick | --whole] [--major 17]

The modules of community.postgresql work on one schema at a time, so with all 200 schemas their
runs take most of an hour. Without --whole they manage two small parts of the schemas, of which
their time for all is computed: it grows by the same for each schema. With --quick everything is
small and nothing is computed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.integration.clusters import (  # noqa: E402
    INSTALLED,
    Cluster,
    new_cluster,
    reachable_bindir,
)

DATABASE, TEMPLATE = "benchmark", "benchmark_template"
PASSWORD = "benchmark-Xk29"  # noqa: S105 - of roles in a throw-away server
DRIFT = "REVOKE SELECT ON schema_001.table_0001 FROM user_01"


@dataclass(frozen=True)
class Size:
    """How much there is, and how many schemas community.postgresql manages in each of its parts."""

    schemas: int
    tables_per_schema: int
    users: int
    readers: int
    migrators: int
    admins: int
    parts: tuple[int, ...]

    def names(self, kind: str) -> list[str]:
        """The roles of a kind."""
        return [f"{kind}_{number:02}" for number in range(1, getattr(self, kind + "s") + 1)]


QUICK = Size(2, 100, 3, 1, 1, 1, parts=())
LARGE = Size(200, 50, 30, 10, 2, 8, parts=(2, 6))
KINDS = ("user", "reader", "migrator", "admin")


def schema_names(number: int) -> list[str]:
    """The first schemas."""
    return [f"schema_{index:03}" for index in range(1, number + 1)]


def template_script(size: Size) -> str:
    """Everything that is there before the first grant, owned by the first migrator."""
    return f"""
    DO $$ BEGIN
      FOR s IN 1..{size.schemas} LOOP
        EXECUTE format('CREATE SCHEMA schema_%s', lpad(s::text, 3, '0'));
        EXECUTE format('GRANT ALL ON SCHEMA schema_%s TO migrator_01', lpad(s::text, 3, '0'));
        EXECUTE format('SET LOCAL search_path = schema_%s', lpad(s::text, 3, '0'));
        SET LOCAL ROLE migrator_01;
        FOR t IN 1..{size.tables_per_schema} LOOP
          EXECUTE format('CREATE TABLE table_%s (id int, note text)', lpad(t::text, 4, '0'));
        END LOOP;
        CREATE SEQUENCE numbers;
        CREATE FUNCTION answer() RETURNS int LANGUAGE sql AS 'SELECT 42';
        CREATE TYPE mood AS ENUM ('good', 'bad');
        RESET ROLE;
      END LOOP;
    END $$;
    """


def our_play(size: Size, _schemas: int) -> list[dict[str, Any]]:
    """One call for everything."""
    roles = [
        {"name": name, "kind": kind, "password": PASSWORD}
        for kind in KINDS
        for name in size.names(kind)
    ]
    model = [{"name": DATABASE, "schemas": schema_names(size.schemas), "roles": roles}]
    return [
        {
            "name": "Access",
            "pooled.postgres.postgres_access": {
                "login_unix_socket": "{{ socket }}",
                "login_port": "{{ port }}",
                "login_os_user": "{{ os_user }}",
                "databases": model,
            },
        }
    ]


def their_play(size: Size, schemas: int) -> list[dict[str, Any]]:
    """The same as a careful user keeps it: few tasks, each for all that a module takes."""
    users = ",".join([*size.names("user"), *size.names("admin")])
    readers, migrators = (",".join(size.names(kind)) for kind in ("reader", "migrator"))
    names = schema_names(schemas)
    timeouts = {"jit": "off", "lock_timeout": "5s"}
    app = {**timeouts, "statement_timeout": "30s", "idle_in_transaction_session_timeout": "60s"}
    settings = {
        "user": app,
        "reader": app,
        "migrator": timeouts,
        "admin": {**timeouts, "idle_in_transaction_session_timeout": "10min"},
    }
    tasks: list[dict[str, Any]] = [
        {
            "name": f"Roles of kind {kind}",
            "community.postgresql.postgresql_user": {
                "name": "{{ item }}",
                "password": PASSWORD,
                "role_attr_flags": "LOGIN,NOSUPERUSER,NOCREATEDB,NOCREATEROLE"
                + (",BYPASSRLS" if kind == "admin" else ""),
                "conn_limit": -1,
                "configuration": settings[kind],
            },
            "loop": size.names(kind),
        }
        for kind in KINDS
    ]

    def privs(name: str, loop: list[str] | None = None, **options: Any) -> None:
        task: dict[str, Any] = {"name": name, "community.postgresql.postgresql_privs": options}
        if loop:
            task["loop"] = loop
        tasks.append(task)

    privs("Database", type="database", objs=DATABASE, privs="CONNECT",
          roles=f"{users},{readers}")  # fmt: skip
    privs("Database for migrations", type="database", objs=DATABASE,
          privs="CONNECT,CREATE,TEMPORARY", roles=migrators)  # fmt: skip
    privs("Database for nobody else", type="database", objs=DATABASE, privs="CONNECT,TEMPORARY",
          roles="PUBLIC", state="absent")  # fmt: skip
    privs("Schemas", type="schema", objs=",".join(names), privs="USAGE",
          roles=f"{users},{readers}")  # fmt: skip
    privs("Schemas for migrations", type="schema", objs=",".join(names), privs="USAGE,CREATE",
          roles=migrators)  # fmt: skip
    crud = "SELECT,INSERT,UPDATE,DELETE"
    for kind, words, roles in (
        ("table", crud, users),
        ("table", "SELECT", readers),
        ("sequence", "USAGE,SELECT", users),
        ("sequence", "SELECT", readers),
        ("function", "EXECUTE", users),
    ):
        privs(f"Rights on each {kind}", names, type=kind, schema="{{ item }}",
              objs="ALL_IN_SCHEMA", privs=words, roles=roles)  # fmt: skip
    for kind, words, roles in (
        ("TABLES", crud, users),
        ("TABLES", "SELECT", readers),
        ("SEQUENCES", "USAGE,SELECT", users),
        ("SEQUENCES", "SELECT", readers),
        ("FUNCTIONS", "EXECUTE", users),
        ("TYPES", "USAGE", users),
    ):
        privs(f"Rights on {kind.lower()} to come", names, type="default_privs", objs=kind,
              schema="{{ item }}", privs=words, roles=roles, target_roles=migrators)  # fmt: skip
    privs("Functions to come are not everybody's", type="default_privs", objs="FUNCTIONS",
          schema="not-specified", privs="EXECUTE", roles="PUBLIC", target_roles=migrators,
          state="absent")  # fmt: skip
    return tasks


def playbook(tasks: list[dict[str, Any]], cluster: Cluster) -> str:
    """A playbook on this machine, as JSON, which is YAML."""
    login = {
        "login_unix_socket": "{{ socket }}",
        "login_port": "{{ port }}",
        "login_user": "postgres",
        "login_db": DATABASE,
    }
    play = {
        "name": "Benchmark",
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {
            "ansible_python_interpreter": sys.executable,
            "socket": str(cluster.socket_directory),
            "port": cluster.port,
            "os_user": cluster.os_user,
        },
        "module_defaults": {
            f"community.postgresql.postgresql_{name}": login for name in ("user", "privs")
        },
        "tasks": tasks,
    }
    return json.dumps([play])


def timed(path: Path) -> float:
    """Seconds that ansible-playbook takes."""
    environment = {**os.environ, "ANSIBLE_PIPELINING": "true", "ANSIBLE_LOCALHOST_WARNING": "false",
                   "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false"}  # fmt: skip
    start = time.monotonic()
    done = subprocess.run(
        ["ansible-playbook", path],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - start
    if done.returncode != 0:
        raise SystemExit(f"{path.name}: {done.stdout[-3000:]}\n{done.stderr[-2000:]}")
    return seconds


def make_database(cluster: Cluster, size: Size) -> None:
    """The database as it is before the first grant, without roles but the objects' owner."""
    cluster.sql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    rest = [name for kind in KINDS for name in size.names(kind) if name != "migrator_01"]
    cluster.sql(f"DROP ROLE IF EXISTS {', '.join(rest)}")
    cluster.sql("ALTER ROLE migrator_01 RESET ALL")
    cluster.sql(f"CREATE DATABASE {DATABASE} TEMPLATE {TEMPLATE}")


def check_rights(cluster: Cluster, size: Size, schemas: int) -> None:
    """See that a user, a reader and the first admin have on each table what they must."""
    names = "', '".join(schema_names(schemas))
    for role, words in (
        ("user_01", "SELECT,INSERT,UPDATE,DELETE"),
        (size.names("admin")[-1], "SELECT,INSERT,UPDATE,DELETE"),
        (size.names("reader")[-1], "SELECT"),
    ):
        held = " AND ".join(
            f"has_table_privilege('{role}', oid, '{word}')" for word in words.split(",")
        )
        query = (
            f"SELECT count(*) FILTER (WHERE {held}) FROM pg_class WHERE relkind = 'r'"  # noqa: S608
            f" AND relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('{names}'))"
        )
        found = cluster.sql(query, DATABASE)[0][0]
        if found != schemas * size.tables_per_schema:
            raise SystemExit(f"{role} has {words} on {found} tables only")


def measured(
    cluster: Cluster, size: Size, path: Path, tasks: list[dict[str, Any]], schemas: int
) -> dict[str, float]:
    """Seconds of the three runs over a number of schemas."""
    make_database(cluster, size)
    path.write_text(playbook(tasks, cluster), encoding="utf-8")
    seconds = {"first grant": timed(path)}
    check_rights(cluster, size, schemas)
    seconds["nothing to do"] = timed(path)
    cluster.sql(DRIFT, DATABASE)
    seconds["one table drifted"] = timed(path)
    check_rights(cluster, size, schemas)
    return seconds


def theirs(cluster: Cluster, size: Size, folder: Path, whole: bool) -> dict[str, float]:
    """Their seconds over all schemas: measured, or computed of two parts."""
    parts = (size.schemas,) if whole or not size.parts else size.parts
    runs = []
    for schemas in parts:
        path = folder / f"theirs-{schemas}.json"
        runs.append(measured(cluster, size, path, their_play(size, schemas), schemas))
        times = ", ".join(f"{name} {value:.1f} s" for name, value in runs[-1].items())
        print(f"  community.postgresql over {schemas} schemas: {times}", flush=True)
    if len(runs) == 1:
        return runs[0]
    few, more = parts
    return {
        name: value + (runs[1][name] - value) / (more - few) * (size.schemas - few)
        for name, value in runs[0].items()
    }


@contextmanager
def server(major: int, folder: Path) -> Iterator[Cluster]:
    """A throw-away server that is not slowed by what tests want logged."""
    cluster = new_cluster(major, reachable_bindir(major, folder), folder / "server")
    cluster.directory.mkdir()
    cluster.initialise()
    with (cluster.data / "postgresql.conf").open("a") as conf:
        conf.write("log_statement = none\nlog_min_duration_statement = -1\n")
        conf.write("shared_buffers = 128MB\nmax_locks_per_transaction = 1024\n")
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()


def main() -> int:
    """Measure both ways and print their times side by side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="200 tables, 2 schemas, 6 roles")
    parser.add_argument("--whole", action="store_true", help="all 200 schemas in both ways")
    parser.add_argument("--major", type=int, default=max(INSTALLED), choices=sorted(INSTALLED))
    options = parser.parse_args()
    size = QUICK if options.quick else LARGE
    with tempfile.TemporaryDirectory(prefix="pooled-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with server(options.major, folder) as cluster:
            cluster.sql("CREATE ROLE migrator_01 LOGIN")
            cluster.sql(f"CREATE DATABASE {TEMPLATE}")
            cluster.sql(template_script(size), TEMPLATE)
            roles = sum(len(size.names(kind)) for kind in KINDS)
            tables = size.schemas * size.tables_per_schema
            print(f"Postgres {options.major}: {tables:,} tables, {size.schemas} schemas,"
                  f" {roles} roles", flush=True)  # fmt: skip
            ours = measured(
                cluster, size, folder / "ours.json", our_play(size, size.schemas), size.schemas
            )
            other = theirs(cluster, size, folder, options.whole)
    computed = bool(size.parts) and not options.whole
    print(f"\n{'':20}{'postgres_access':>17}{'community.postgresql':>23}{'ratio':>8}")
    for run, seconds in ours.items():
        mark = " computed" if computed else ""
        print(
            f"{run:20}{seconds:>15.1f} s{other[run]:>12.1f} s{mark:9}{other[run] / seconds:>8.0f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
