#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application that writes through several poolers while things happen to them.

usage: writer.py run FOLDER POOLER=HOST:PORT...   until there is FOLDER/stop
       writer.py phase FOLDER NAME                what happens from now on belongs to this phase
       writer.py settle FOLDER                    wait until every pooler serves writes and logins
       writer.py report FOLDER                    what the client saw, phase by phase, as JSON
       writer.py compare FOLDER TABLE             acknowledged writes against the table's keys

Each attempt becomes a line of FOLDER/attempts.jsonl; a write has no error there only when its
commit was acknowledged. FOLDER/passwords.json has the passwords that are valid now or were just
before, the newest first: a login tries them in turn, as applications do during a rotation, and then
the newest again, because the change may come while the older one is tried.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Awaitable
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

TASKS = 4  # that write through each pooler
PAUSE_SECONDS = 0.1  # after each write and each login
PAUSE_AFTER_FAILURE_SECONDS = 0.2
ATTEMPT_SECONDS = 40  # longer than PgBouncer's query_wait_timeout
REFUSED = "authentication failed"  # PgBouncer: SASL ..., Postgres: password ...
SETTLED = 10  # writes and logins
SETTLE_SECONDS = 90


class Writer:
    """Writes, logs in, and writes down what came of it."""

    def __init__(self, folder: pathlib.Path, poolers: dict[str, tuple[str, int]]) -> None:
        self.folder = folder
        self.poolers = poolers
        self.lines = (folder / "attempts.jsonl").open("a", buffering=1, encoding="utf-8")

    def stopped(self) -> bool:
        return (self.folder / "stop").exists()

    async def login(self, **arguments: Any) -> tuple[asyncpg.Connection, int]:
        """A connection, and how many passwords were refused before the one that was taken."""
        passwords = json.loads((self.folder / "passwords.json").read_text(encoding="utf-8"))
        if len(passwords) > 1:
            passwords.append(passwords[0])
        for refused, password in enumerate(passwords):
            try:
                return await asyncpg.connect(**arguments, password=password), refused
            except asyncpg.PostgresError as error:
                # PgBouncer has no code of its own for it.
                if REFUSED not in str(error) or refused + 1 == len(passwords):
                    raise
        raise ValueError("passwords.json is empty")

    def engine(self, pooler: str) -> AsyncEngine:
        """The documented engine, whose passwords rotate."""

        async def connect(**arguments: Any) -> asyncpg.Connection:
            return (await self.login(**arguments))[0]

        host, port = self.poolers[pooler]
        return create_async_engine(
            f"postgresql+asyncpg://app_user@{host}:{port}/mydb",
            pool_size=10,
            max_overflow=10,
            pool_pre_ping=True,
            pool_recycle=300,
            connect_args={
                "statement_cache_size": 0,
                "prepared_statement_cache_size": 0,
                "server_settings": {"jit": "off"},
                "async_creator_fn": connect,
            },
        )

    async def attempt(
        self, kind: str, pooler: str, task: int, key: str, doing: Awaitable[int]
    ) -> None:
        """One line: what was tried, when, how long it took and what came of it."""
        began = time.time()
        line: dict[str, Any] = {"began": began, "kind": kind, "pooler": pooler}
        line |= {"task": task, "key": key}
        try:
            line["refused"] = await asyncio.wait_for(doing, ATTEMPT_SECONDS)
            pause = PAUSE_SECONDS
        except Exception as error:  # whatever the application would see
            cause = getattr(error, "orig", None) or error
            cause = cause.__cause__ or cause
            line["error"] = type(cause).__name__
            line["text"] = str(cause).splitlines()[0][:160] if str(cause) else ""
            pause = PAUSE_AFTER_FAILURE_SECONDS
        line["ended"] = time.time()
        self.lines.write(json.dumps(line) + "\n")
        await asyncio.sleep(pause)

    async def write_on(self, pooler: str, engine: AsyncEngine, task: int) -> None:
        while not self.stopped():
            key = f"{pooler}-{task}-{time.time_ns()}"
            await self.attempt("write", pooler, task, key, self.write(engine, key))

    async def write(self, engine: AsyncEngine, key: str) -> int:
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO written (key) VALUES (:key)"), {"key": key})
        return 0

    async def log_in_again_and_again(self, pooler: str) -> None:
        for number in itertools.count():
            if self.stopped():
                return
            await self.attempt("login", pooler, 0, str(number), self.log_in(pooler))

    async def log_in(self, pooler: str) -> int:
        host, port = self.poolers[pooler]
        connection, refused = await self.login(
            host=host,
            port=port,
            user="app_user",
            database="mydb",
            statement_cache_size=0,
            server_settings={"jit": "off"},
        )
        try:
            await connection.execute("SELECT 1")
        finally:
            await connection.close(timeout=5)
        return refused

    async def run(self) -> None:
        engines = {pooler: self.engine(pooler) for pooler in self.poolers}
        await asyncio.gather(
            *(
                self.write_on(pooler, engine, task)
                for pooler, engine in engines.items()
                for task in range(TASKS)
            ),
            *(self.log_in_again_and_again(pooler) for pooler in self.poolers),
        )
        for engine in engines.values():
            await engine.dispose()


def attempts(folder: pathlib.Path) -> list[dict[str, Any]]:
    """All whole lines so far."""
    lines = (folder / "attempts.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def phases(folder: pathlib.Path) -> list[tuple[str, float]]:
    lines = (folder / "phases.txt").read_text(encoding="utf-8").splitlines()
    return [(name, float(start)) for name, start in (line.split() for line in lines)]


def settle(folder: pathlib.Path) -> int:
    """Wait until everything works again: each task of each pooler has written."""
    now = time.time()
    # The application may still be starting.
    while not (folder / "poolers.json").exists() or not (folder / "attempts.jsonl").exists():
        if time.time() > now + SETTLE_SECONDS:
            print(f"the application has not begun within {SETTLE_SECONDS} s")
            return 1
        time.sleep(0.5)
    poolers = json.loads((folder / "poolers.json").read_text(encoding="utf-8"))
    wanted = {("login", pooler, 0) for pooler in poolers} | {
        ("write", pooler, task) for pooler in poolers for task in range(TASKS)
    }
    while time.time() < now + SETTLE_SECONDS:
        done = collections.Counter(
            (line["kind"], line["pooler"], line["task"])
            for line in attempts(folder)
            if line["began"] >= now and "error" not in line
        )
        if all(done[one] >= SETTLED for one in wanted):
            return 0
        time.sleep(0.5)
    missing = [one for one in wanted if done[one] < SETTLED]
    print(f"not {SETTLED} of each after {SETTLE_SECONDS} s: {missing}")
    return 1


def report(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """What each phase did to each pooler's clients. An attempt belongs to the phase it ended in."""
    lines = attempts(folder)
    begun = phases(folder)
    ends = [start for _name, start in begun[1:]] + [float("inf")]
    found: dict[str, dict[str, Any]] = {}
    for (phase, start), end in zip(begun, ends):
        here = [line for line in lines if start <= line["ended"] < end]
        found.setdefault(phase, {})
        for pooler in sorted({line["pooler"] for line in lines}):
            of_pooler = [line for line in here if line["pooler"] == pooler]
            found[phase][pooler] = {
                kind: summary([line for line in of_pooler if line["kind"] == kind])
                for kind in ("write", "login")
            }
    return found


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What came of attempts of one kind through one pooler, in the order they ended in."""
    failed = [line for line in lines if "error" in line]
    good = [line for line in lines if "error" not in line]
    ends = [line["ended"] for line in good]
    gaps = [after - before for before, after in zip(ends, ends[1:])]
    older = [line["refused"] == 1 for line in good]
    return {
        "tried": len(lines),
        "failed": len(failed),
        "errors": collections.Counter(f"{line['error']}: {line['text']}" for line in failed),
        "longest_gap_seconds": round(max(gaps, default=0), 2),
        "slowest_seconds": round(max((x["ended"] - x["began"] for x in lines), default=0), 2),
        # During a rotation: logins that the older password served, and whether all of these came
        # before the first that the newest one served.
        "older_password": sum(older),
        "one_change": older == sorted(older, reverse=True),
    }


def compare(folder: pathlib.Path, table: str) -> dict[str, Any]:
    """Acknowledged writes that are not in the table, and rows that were not acknowledged."""
    lines = [line for line in attempts(folder) if line["kind"] == "write"]
    acknowledged = {line["key"] for line in lines if "error" not in line}
    failed = {line["key"] for line in lines if "error" in line}
    rows = set(pathlib.Path(table).read_text(encoding="utf-8").split())
    return {
        "acknowledged": len(acknowledged),
        "lost": sorted(acknowledged - rows),
        "failed": len(failed),
        "failed_but_written": len(failed & rows),
        "from_nowhere": sorted(rows - acknowledged - failed),
    }


def main(command: str, folder_name: str, *rest: str) -> int:
    folder = pathlib.Path(folder_name)
    if command == "run":
        addresses = {name: address.rsplit(":", 1) for name, address in (x.split("=") for x in rest)}
        poolers = {name: (host, int(port)) for name, (host, port) in addresses.items()}
        unfinished = folder / "poolers.json.new"
        unfinished.write_text(json.dumps(sorted(poolers)), encoding="utf-8")
        unfinished.replace(folder / "poolers.json")
        asyncio.run(Writer(folder, poolers).run())
    elif command == "phase":
        with (folder / "phases.txt").open("a", encoding="utf-8") as stream:
            stream.write(f"{rest[0]} {time.time()}\n")
    elif command == "settle":
        return settle(folder)
    elif command == "report":
        print(json.dumps(report(folder), indent=1))
    else:
        print(json.dumps(compare(folder, rest[0]), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
