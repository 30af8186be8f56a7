# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrations that change types, under applications with their drivers' defaults behind PgBouncer.

What follows migrations runs as its unit runs it, beside real PgBouncers, on tables that Alembic
changes. Clients are asyncpg, SQLAlchemy and psycopg.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    processes as pgbouncer_processes,
)

from .clusters import PATIENCE_S
from .poolers import PASSWORD, ROLE, SERVICE, Pooler

PROGRAM = (
    Path(__file__).resolve().parents[2]
    / "roles"
    / "pgbouncer"
    / "files"
    / "pgbouncer_migrations.py"
)
# The interpreter of the tests may be out of the servers' OS user's reach once it has started.
RUN = """\
import codecs, importlib.util, os, sys
codecs.lookup("unicode_escape")
uid, gid, path, *arguments = sys.argv[1:]
spec = importlib.util.spec_from_file_location("pgbouncer_migrations", path)
module = sys.modules["pgbouncer_migrations"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid))
module.main(arguments)
"""
ENV = """\
from alembic import context
from sqlalchemy import create_engine
with create_engine({url!r}).connect() as connection:
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
"""
REVISION = """\
import sqlalchemy
from alembic import op
revision, down_revision = "0001", None
def upgrade():
    op.alter_column("t", "v", type_=sqlalchemy.BigInteger())
    op.execute("ALTER TABLE t ALTER mood TYPE text")
    op.execute("DROP TYPE mood")
    op.execute("CREATE TYPE mood AS ENUM ('calm', 'hasty', 'new')")
    op.execute("ALTER TABLE t ALTER mood TYPE mood USING mood::mood")
"""
tracking = pytest.mark.pgbouncer(since=pgbouncer_processes.SINCE)
QUERY = "SELECT id, v, mood FROM t WHERE v = $1"
ROW = (5, 5, "calm")
OPENED: list[Any] = []


@pytest.fixture
def tables(pooled_server: Any) -> Any:
    """Tables, a type and a function of a migrator's, and the application's rights."""
    if not pooled_server.sql("SELECT 1 FROM pg_roles WHERE rolname = 'app_migrator'"):
        pooled_server.sql("CREATE ROLE app_migrator LOGIN")
    pooled_server.sql(
        "SET lock_timeout = '10s'; DROP SCHEMA public CASCADE;"
        " CREATE SCHEMA public AUTHORIZATION app_migrator;"
        " GRANT USAGE ON SCHEMA public TO app_user; SET ROLE app_migrator;"
        " CREATE TYPE mood AS ENUM ('calm', 'hasty');"
        " CREATE TABLE t (id int PRIMARY KEY, v int, mood mood);"
        " INSERT INTO t SELECT n, n, 'calm' FROM generate_series(1, 100) AS n;"
        " CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS"
        " $$ DECLARE r record; m mood; BEGIN SELECT * INTO r FROM t WHERE id = 5; m := r.mood;"
        " RETURN m::text || (r.v + 1)::text; END $$;"
        " ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO app_user; GRANT ALL ON t TO app_user;",
        "mydb",
    )
    return pooled_server


@dataclass(frozen=True)
class Follower:
    """What follows migrations, while it runs, and its log."""

    process: subprocess.Popen[bytes]
    path: Path

    @property
    def log(self) -> str:
        return self.path.read_text()

    def reconnected(self) -> int:
        """How often the pools had to reconnect."""
        return self.log.count("the pools reconnect")

    def wait(self, times: int, seconds: float = PATIENCE_S) -> None:
        """Wait until they had to so often."""
        deadline = time.monotonic() + seconds
        while self.reconnected() != times:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)


@contextmanager
def following(pooler: Pooler, *directories: str) -> Iterator[Follower]:
    """What follows migrations, from when it knows what there is."""
    user = pooler.cluster.user
    program, state, output = (pooler.home / name for name in ("m.py", "state", "m.log"))
    program.write_bytes(PROGRAM.read_bytes())
    state.mkdir(exist_ok=True)
    ids = (user.pw_uid, user.pw_gid) if user else (os.geteuid(), os.getegid())
    os.chown(state, *ids)
    sockets = [str(pooler.home / name) for name in directories or ("run",)]
    with output.open("a") as handle:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", RUN, *map(str, ids), program, state, str(pooler.port),
             *sockets],
            stdout=handle, stderr=handle, stdin=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
    try:
        wait_for(lambda: (state / "objects.json").exists() or process.poll() is not None)
        # The rest of a first look of one that has been here before.
        time.sleep(0.5)
        assert process.poll() is None, output.read_text()
        yield Follower(process, output)
        assert process.poll() is None, output.read_text()
    finally:
        process.terminate()
        process.wait()


def wait_for(holds: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run clients; then nobody stays connected."""

    async def bounded() -> None:
        try:
            await asyncio.wait_for(work, 4 * PATIENCE_S)
        finally:
            for connection in OPENED:
                connection.terminate()
            OPENED.clear()

    asyncio.run(bounded())


def migrate(server: Any, folder: Path) -> None:
    """Alembic's upgrade, past PgBouncer."""
    (folder / "versions").mkdir()
    (folder / "versions" / "0001.py").write_text(REVISION)
    url = (
        f"postgresql+psycopg://app_migrator@/mydb?host={server.socket_directory}&port={server.port}"
    )
    (folder / "env.py").write_text(ENV.format(url=url))
    (folder / "alembic.ini").write_text(f"[alembic]\nscript_location = {folder}\n")
    subprocess.run(
        [sys.executable, "-m", "alembic", "-c", folder / "alembic.ini", "upgrade", "head"],
        check=True, timeout=PATIENCE_S,
    )  # fmt: skip


async def client(pooler: Pooler, **more: Any) -> Any:
    """A connection as asyncpg makes it by default."""
    connection = await asyncpg.connect(
        host="127.0.0.1", port=pooler.port, user="app_user", password=PASSWORD, database="mydb",
        timeout=PATIENCE_S, **more,
    )  # fmt: skip
    OPENED.append(connection)
    return connection


async def closed(connection: Any) -> None:
    """Wait until PgBouncer has ended a connection."""
    await asyncio.to_thread(wait_for, connection.is_closed)


async def outcome(connection: Any, query: str = QUERY, *values: Any) -> str:
    """The rows of a query, or what went wrong, as text."""
    try:
        return str([tuple(row) for row in await connection.fetch(query, *(values or (5,)))])
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        return type(error).__name__


@tracking
def test_what_happens_when_nothing_follows_migrations(pooler, tables, tmp_path):
    """The fault itself, and that RECONNECT alone makes old clients read what is not there."""
    pooler.configure()

    async def main() -> None:
        seen, idle = await client(pooler), await client(pooler)
        assert await outcome(seen) == await outcome(idle) == str([ROW])
        await asyncio.to_thread(migrate, tables, tmp_path)
        for one in (seen, seen, await client(pooler)):
            assert await outcome(one) in ("InvalidCachedStatementError", "InternalServerError")
        with pooler.console() as console:
            console.execute("RECONNECT mydb")
        assert await outcome(await client(pooler)) == str([ROW])
        for _attempt in range(3):
            assert await outcome(idle) == "ProtocolViolationError"
        tables.sql("ALTER TABLE t ALTER v TYPE int", "mydb")
        late = await client(pooler)
        query = "SELECT v FROM t WHERE id = $1"
        assert await outcome(late, query) == "[(5,)]"
        tables.sql("ALTER TABLE t ALTER v TYPE real", "mydb")
        with pooler.console() as console:
            console.execute("RECONNECT mydb")
        assert await outcome(late, query) == "[(1084227584,)]"  # the bytes of 5.0

    run(main())


class Application:
    """Tasks that ask again and again; what they saw, and when they failed."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.failures: list[tuple[float, str]] = []
        self.streak = 0
        self.over = False

    def goes_on(self) -> None:
        """Wait until each has 20 more right answers."""
        before = Counter(self.seen)
        names = [
            f"{kind} {number}: right" for kind in ("asyncpg", "sqlalchemy") for number in (0, 1)
        ]
        wait_for(lambda: all(self.seen[name] >= before[name] + 20 for name in names))

    async def ask(self, name: str, query: Callable[[], Awaitable[Any]]) -> None:
        """Ask until it is over."""
        failed = 0
        while not self.over:
            try:
                found = tuple(await query())
                assert found == ROW, found
                self.seen[f"{name}: right"] += 1
                failed = 0
            except AssertionError:
                self.seen[f"{name}: wrong values"] += 1
            except Exception as error:  # whatever the driver makes of it
                failed += 1
                self.streak = max(self.streak, failed)
                self.seen[f"{name}: {type(error).__name__}"] += 1
                self.failures.append((time.monotonic(), name))
            await asyncio.sleep(0.1)


@tracking
@pytest.mark.parametrize("processes", [1, 2])
def test_applications_work_again_within_seconds(pooler, tables, tmp_path, processes):
    pooler.configure(processes=processes, options={"default_pool_size": 3})
    directories = ["run", f"run/{SERVICE}-2"][:processes]
    url = f"postgresql+asyncpg://app_user@127.0.0.1:{pooler.port}/mydb"

    async def main(follower: Follower) -> None:
        application = Application()
        pools = [
            await asyncpg.create_pool(
                host="127.0.0.1", port=pooler.port, user="app_user", password=PASSWORD,
                database="mydb", min_size=2, max_size=4,
            )
            for _process in range(2)
        ]  # fmt: skip
        engines = [
            create_async_engine(url, connect_args={"password": PASSWORD}) for _engine in range(2)
        ]
        statement = sqlalchemy.text("SELECT id, v, mood::text FROM t WHERE v = :v")

        async def by_asyncpg(pool: Any) -> Any:
            return await pool.fetchrow(QUERY, 5)

        async def by_sqlalchemy(engine: Any) -> Any:
            async with engine.begin() as connection:
                return (await connection.execute(statement, {"v": 5})).one()

        tasks = [
            asyncio.create_task(application.ask(f"{name} {number}", lambda o=one, a=ask: a(o)))
            for name, ask, ones in (
                ("asyncpg", by_asyncpg, pools),
                ("sqlalchemy", by_sqlalchemy, engines),
            )
            for number, one in enumerate(ones)
            for _worker in range(2)
        ]
        idle = [await client(pooler) for _client in range(8)]
        bare = [await client(pooler, statement_cache_size=0) for _client in range(4)]
        for one in (*idle, *bare):
            assert await outcome(one) == str([ROW])
        await asyncio.sleep(0.5)
        assert not application.failures
        await asyncio.to_thread(migrate, tables, tmp_path)
        await asyncio.to_thread(follower.wait, 1)
        await asyncio.to_thread(application.goes_on)
        application.over = True
        await asyncio.gather(*tasks)
        times = [at for at, _name in application.failures]
        outage = max(times, default=0.0) - min(times, default=0.0)
        print(f"{outage:.2f} s", application.streak, application.seen)
        assert outage < 6
        assert not [name for name in application.seen if "wrong" in name], application.seen
        # Who was not asked meanwhile has to log in again, and who prepares nothing has not.
        assert [one.is_closed() for one in idle] == [True] * len(idle)
        for one in (*bare, await client(pooler)):
            assert await outcome(one) == str([ROW])
        for pool in pools:
            await pool.close()
        for engine in engines:
            await engine.dispose()

    with following(pooler, *directories) as follower:
        run(main(follower))
        assert follower.reconnected() == 1


def test_functions_work_again_for_clients_that_prepare_nothing(pooler, tables, tmp_path):
    """The server's sessions keep plans of functions too, behind any PgBouncer."""
    pooler.configure(options={"default_pool_size": 1})
    login: dict[str, Any] = {"host": "127.0.0.1", "port": pooler.port, "user": "app_user"}
    login.update(dbname="mydb", password=PASSWORD, prepare_threshold=None, autocommit=True)
    with following(pooler) as follower, psycopg.connect(**login) as connection:
        assert connection.execute("SELECT f()").fetchone() == ("calm6",)
        follower.process.send_signal(signal.SIGSTOP)
        try:
            migrate(tables, tmp_path)
            for _attempt in range(3):
                with pytest.raises(psycopg.Error):
                    connection.execute("SELECT f()")
        finally:
            follower.process.send_signal(signal.SIGCONT)
        follower.wait(1)
        assert connection.execute("SELECT f()").fetchone() == ("calm6",)


@tracking
def test_a_transaction_is_left_to_end(pooler, tables):
    pooler.configure()
    tables.sql("CREATE TABLE other AS SELECT 1 AS i", "mydb")

    async def main(follower: Follower) -> None:
        working = await client(pooler)
        assert await outcome(working) == str([ROW])
        transaction = working.transaction()
        await transaction.start()
        await working.execute("CREATE TEMPORARY TABLE mine ON COMMIT DROP AS SELECT 1 AS i")
        await asyncio.to_thread(tables.sql, "ALTER TABLE other ALTER i TYPE bigint", "mydb")
        await asyncio.to_thread(follower.wait, 1)
        await asyncio.sleep(0.5)
        assert await working.fetchval("SELECT i FROM mine") == 1
        await working.execute("UPDATE t SET v = 77 WHERE id = 7")
        await transaction.commit()
        assert tables.sql("SELECT v FROM t WHERE id = 7", "mydb") == [(77,)]
        await closed(working)

    with following(pooler) as follower:
        run(main(follower))
        assert "disconnected 0 clients with prepared statements, and 1 more" in follower.log


HARMLESS = [
    "CREATE TABLE fresh (i int); CREATE TYPE feeling AS ENUM ('x')",
    "CREATE INDEX ON t (v); GRANT SELECT ON fresh TO app_user; COMMENT ON TABLE t IS 'x'",
    "CREATE TEMPORARY TABLE t (v text); ALTER TABLE pg_temp.t ALTER v TYPE int USING v::int",
    "ALTER TYPE feeling ADD VALUE 'y'; ANALYZE t; TRUNCATE fresh",
    "DROP TABLE fresh; CREATE TABLE fresh (i int); DROP TABLE fresh",
    "DROP FUNCTION f(); CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT NULL::text'",
    "DROP TYPE feeling",
]
CHANGES = [
    "CREATE TABLE fresh (i text)",
    "CREATE TYPE feeling AS ENUM ('x')",
    "ALTER TABLE t ADD extra int",
    "DROP FUNCTION f(); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
]


@tracking
def test_only_what_changes_shapes_disconnects(pooler, tables):
    pooler.configure()

    async def main(follower: Follower) -> None:
        calm = await client(pooler)
        assert await outcome(calm) == str([ROW])
        for statement in HARMLESS:
            await asyncio.to_thread(tables.sql, statement, "mydb")
            await asyncio.sleep(0.8)
        assert (await outcome(calm), follower.reconnected()) == (str([ROW]), 0)
        for number, statement in enumerate(CHANGES, 1):
            one = await client(pooler)
            assert await outcome(one, "SELECT $1::int") == "[(5,)]"
            await asyncio.to_thread(tables.sql, statement, "mydb")
            await asyncio.to_thread(follower.wait, number)
            await closed(one)
        await closed(calm)

    with following(pooler) as follower:
        run(main(follower))


@tracking
def test_what_happened_while_it_was_away_is_seen(pooler, tables):
    pooler.configure()

    async def main() -> None:
        one = await client(pooler)
        assert await outcome(one) == str([ROW])
        with following(pooler) as follower:
            assert (follower.reconnected(), one.is_closed()) == (0, False)
        tables.sql("ALTER TABLE t ALTER v TYPE bigint", "mydb")
        with following(pooler) as follower:
            await asyncio.to_thread(follower.wait, 1)
            await closed(one)
        # The server's restart is no reason, and it finds its way back.
        with following(pooler) as follower:
            two = await client(pooler)
            assert await outcome(two, "SELECT $1::int") == "[(5,)]"
            await asyncio.to_thread(tables.restart)
            await asyncio.sleep(1)
            assert follower.reconnected() == 1
            tables.sql("ALTER TABLE t ALTER v TYPE int", "mydb")
            await asyncio.to_thread(follower.wait, 2)
            await closed(two)

    run(main())


def test_it_logs_in_as_pgbouncer_does(pooler, tables):
    """Over TCP with the password of PgBouncer's role, to each database once, alias or not."""
    tables.sql("ALTER ROLE pgbouncer_auth PASSWORD 'of poolers'")
    try:
        database = {"name": "mydb", "roles": [ROLE], "aliases": [{"name": "my-alias"}]}
        pooler.configure(databases=[database], backend_host="127.0.0.1", auth_password="of poolers")
        sessions = (
            "SELECT datname, usename, client_addr::text FROM pg_stat_activity"
            " WHERE application_name = 'pgbouncer-migrations'"
        )
        with following(pooler) as follower:
            assert tables.sql(sessions) == [("mydb", "pgbouncer_auth", "127.0.0.1/32")]
            tables.sql("ALTER TABLE t ALTER v TYPE bigint", "mydb")
            follower.wait(1)
            commands = (pooler.home / "run" / "pgbouncer.log").read_text()
            assert "RECONNECT 'mydb' command issued" in commands
            assert "RECONNECT 'my-alias' command issued" in commands
            assert "of poolers" not in follower.log
    finally:
        tables.sql("ALTER ROLE pgbouncer_auth PASSWORD NULL")
