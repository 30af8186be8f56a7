# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A password changes under load: through a real PgBouncer no client is dropped or refused."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field

import asyncpg
import psycopg
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._model.names import AUTH_QUERY

from .clusters import PATIENCE_S
from .poolers import free_port

BOUNCER = "pgbouncer_auth"
BOUNCER_SECRET = "bouncers own"
OLD, NEW = "old \u00e4 secret", "new 100% \u00aa secret"
HELD_CLIENTS = 10
LOGIN_THREADS = 3
POOL_SIZE = 5
PHASE_S = 1.5
LEAST_QUERIES = 200
LEAST_LOGINS = 30


def databases(password):
    role = {"name": "app_user", "kind": "user", "password": password}
    return [{"name": "mydb", "roles": [role]}]


@pytest.fixture
def pooler(clean_server, pgbouncer):
    """The port of a PgBouncer before the server, which asks auth_query for verifiers."""
    home = clean_server.directory / "pgbouncer"
    home.mkdir(exist_ok=True)
    port = free_port()
    (home / "userlist.txt").write_text(f'"{BOUNCER}" "{BOUNCER_SECRET}"\n')
    (home / "pgbouncer.ini").write_text(
        f"""
[databases]
mydb = host=127.0.0.1 port={clean_server.port} dbname=mydb
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {home}/userlist.txt
auth_user = {BOUNCER}
auth_query = {AUTH_QUERY}
admin_users = {BOUNCER}
pool_mode = transaction
default_pool_size = {POOL_SIZE}
max_client_conn = 100
logfile = {home}/pgbouncer.log
"""
    )
    user = clean_server.user
    demoted = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    if user:
        for path in (home, *home.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)
    process = subprocess.Popen(
        [pgbouncer.path, home / "pgbouncer.ini"], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
        **demoted,
    )  # fmt: skip
    yield port
    process.send_signal(signal.SIGINT)
    process.wait(timeout=PATIENCE_S)


def wait_for(port):
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user=BOUNCER, password=BOUNCER_SECRET,
                            dbname="pgbouncer", autocommit=True).close()  # fmt: skip
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@dataclass
class Load:
    """What clients did and what went wrong."""

    port: int
    queries: int = 0
    logins: int = 0
    errors: list = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    async def hold(self):
        connection = await asyncpg.connect(
            host="127.0.0.1", port=self.port, user="app_user", password=OLD, database="mydb",
            statement_cache_size=0,
        )  # fmt: skip
        while not self.stop.is_set():
            try:
                async with connection.transaction():
                    await connection.fetchval("SELECT $1::int + pg_backend_pid()", 1)
                self.queries += 1
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                self.errors.append(repr(error))
                return
            await asyncio.sleep(0.005)
        await connection.close()

    def hold_all(self):
        async def together():
            await asyncio.gather(*(self.hold() for _number in range(HELD_CLIENTS)))

        asyncio.run(together())

    def log_in_again_and_again(self, password, until):
        while not until.is_set():
            try:
                with psycopg.connect(
                    host="127.0.0.1", port=self.port, user="app_user", password=password,
                    dbname="mydb", prepare_threshold=None,
                ) as connection:  # fmt: skip
                    connection.execute("SELECT 1")
                self.logins += 1
                self.queries += 1
            except psycopg.Error as error:
                self.errors.append(repr(error))

    def log_in_for_a_while(self, password, then=lambda: None):
        until = threading.Event()
        threads = [
            threading.Thread(target=self.log_in_again_and_again, args=(password, until))
            for _number in range(LOGIN_THREADS)
        ]
        for thread in threads:
            thread.start()
        time.sleep(PHASE_S)
        then()
        time.sleep(PHASE_S / 2)
        until.set()
        for thread in threads:
            thread.join()


def server_pids(server):
    query = "SELECT pid FROM pg_stat_activity WHERE usename = 'app_user'"
    return {pid for (pid,) in server.sql(query)}


def test_rotation_under_load_loses_nothing(clean_server, run_module, pooler):
    args = {
        **clean_server.login,
        "pooler_role": BOUNCER,
        "pooler_password": BOUNCER_SECRET,
    }
    first = run_module("postgres_access", {**args, "databases": databases(OLD)})
    assert not first.get("failed"), first.get("msg")
    wait_for(pooler)
    load = Load(pooler)
    holding = threading.Thread(target=load.hold_all)
    holding.start()
    load.log_in_for_a_while(OLD)
    before = server_pids(clean_server)
    logins_before = load.logins
    result = run_module("postgres_access", {**args, "databases": databases(NEW)})
    # Nothing to RECONNECT for: until somebody logs in with the new password, PgBouncer could not.
    assert [item["statement"] for item in result["statements"]] == [
        "ALTER ROLE app_user PASSWORD '********'"
    ]
    assert result["outdated_roles"] == []
    queries_before = load.queries
    time.sleep(PHASE_S)
    assert load.queries > queries_before
    assert server_pids(clean_server) >= before

    def reconnect():
        with psycopg.connect(host="127.0.0.1", port=pooler, user=BOUNCER, password=BOUNCER_SECRET,
                             dbname="pgbouncer", autocommit=True) as console:  # fmt: skip
            console.execute("RECONNECT")

    load.log_in_for_a_while(NEW, then=reconnect)
    load.stop.set()
    holding.join()
    print(f"{load.queries} queries, {load.logins} logins, {len(load.errors)} errors")
    assert load.errors == []
    assert not server_pids(clean_server) & before
    assert load.queries >= LEAST_QUERIES
    assert min(logins_before, load.logins - logins_before) >= LEAST_LOGINS
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(host="127.0.0.1", port=pooler, user="app_user", password=OLD, dbname="mydb")
    again = run_module("postgres_access", {**args, "databases": databases(NEW)})
    assert again["statements"] == []
