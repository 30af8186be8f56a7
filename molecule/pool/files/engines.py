#!/usr/bin/env python
# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines of SQLAlchemy through a pooler, each in two processes at once: errors out of how many.

usage: engines.py HOST:PORT CLIENT_SETTINGS.json

CLIENT_SETTINGS.json is what the filter client_settings says. The processes prepare different
statements under the same names; each answer is compared with what it must be. Prints JSON.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import functools
import json
import multiprocessing
import runpy
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

PROCESSES = 2
TASKS = 8
ROUNDS = 12
STATEMENTS = 7  # different ones in each process

DOCUMENTED: dict[str, Any] = {
    "pool_size": 10,
    "max_overflow": 10,
    "pool_pre_ping": True,
    "pool_recycle": 300,
    "connect_args": {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "server_settings": {"jit": "off"},
    },
}
NO_POOL = {"poolclass": NullPool, "connect_args": DOCUMENTED["connect_args"]}
AUTOCOMMIT = {**DOCUMENTED, "isolation_level": "AUTOCOMMIT"}
UNPREPARED = {"connect_args": {"prepare_threshold": None}}

MOODS = [(n, ("calm", "hasty")[n % 2]) for n in range(40)]
READ_MOODS = "SELECT n, mood FROM moods ORDER BY n"


class WrongAnswerError(Exception):
    """The statement of another client was executed."""


def statement(process: int, number: int) -> tuple[str, tuple[Any, ...]]:
    """A statement of this process, and its answer for :value 1000; each has other columns."""
    own = process * 100 + number
    more = f", '{process}'" * process
    return f"SELECT CAST(:value AS int) + {own}{more}", (1000 + own, *([str(process)] * process))


def check(answer: Any, expected: Any) -> None:
    if answer != expected:
        raise WrongAnswerError(f"{answer} instead of {expected}")


async def ask(engine: AsyncEngine, process: int, number: int) -> None:
    """Two statements in a transaction; with AUTOCOMMIT in none."""
    async with engine.connect() as connection:
        for this in (number, number + 1):
            sql, expected = statement(process, this % STATEMENTS)
            check(tuple((await connection.execute(text(sql), {"value": 1000})).one()), expected)
        await connection.commit()


async def stream(engine: AsyncEngine, process: int, number: int) -> None:
    """A server-side cursor over an enum that a new connection has not met."""
    del process, number
    async with engine.connect() as connection:
        rows = await connection.stream(text(READ_MOODS).execution_options(yield_per=10))
        check([tuple(row) async for row in rows], MOODS)
    await engine.dispose()


async def ask_and_read(engine: AsyncEngine, process: int, number: int) -> None:
    """The same, and what migrations made."""
    await ask(engine, process, number)
    async with engine.connect() as connection:
        check([tuple(row) for row in await connection.execute(text(READ_MOODS))], MOODS)


def ask_and_read_psycopg(engine: Engine, process: int, number: int) -> None:
    ask_psycopg(engine, process, number)
    with engine.connect() as connection:
        check([tuple(row) for row in connection.execute(text(READ_MOODS))], MOODS)


def ask_psycopg(engine: Engine, process: int, number: int) -> None:
    with engine.connect() as connection:
        for this in (number, number + 1):
            sql, expected = statement(process, this % STATEMENTS)
            check(tuple(connection.execute(text(sql), {"value": 1000}).one()), expected)
        connection.commit()


def name(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return type(cause.__cause__ or cause).__name__


async def in_tasks(make: Callable[[], AsyncEngine], work: Any, process: int) -> list[str]:
    """The errors of all rounds. Work that disposes of its engine gets one for each task."""
    errors: list[str] = []
    shared = make()

    async def task(number: int) -> None:
        engine = make() if work is stream else shared
        for round_number in range(ROUNDS):
            try:
                await work(engine, process, number + round_number)
            except Exception as error:
                errors.append(name(error))
        await engine.dispose()

    await asyncio.gather(*(task(number) for number in range(TASKS)))
    return errors


def in_threads(engine: Engine, work: Any, process: int) -> list[str]:
    errors: list[str] = []

    def task(number: int) -> None:
        for round_number in range(ROUNDS):
            try:
                work(engine, process, number + round_number)
            except Exception as error:
                errors.append(name(error))

    with concurrent.futures.ThreadPoolExecutor(TASKS) as pool:
        for done in [pool.submit(task, number) for number in range(TASKS)]:
            done.result()
    engine.dispose()
    return errors


def from_code(code: str) -> Any:
    """The engine that generated code makes."""
    with tempfile.NamedTemporaryFile("w", suffix=".py", encoding="utf-8") as stream_:
        stream_.write(code)
        stream_.flush()
        return runpy.run_path(stream_.name)["engine"]


def run(variant: str, address: str, settings: dict[str, Any], process: int) -> list[str]:
    asyncpg_url = f"postgresql+asyncpg://app_user@{address}/mydb"
    psycopg_url = f"postgresql+psycopg://app_user@{address}/mydb"
    if variant == "client_settings, psycopg":
        return in_threads(from_code(settings["code"]["psycopg"]), ask_and_read_psycopg, process)
    if variant == "client_settings, asyncpg":
        code = settings["code"]["asyncpg"]
        return asyncio.run(in_tasks(lambda: from_code(code), ask_and_read, process))
    if variant.startswith("psycopg"):
        arguments = UNPREPARED if variant == "psycopg, prepare_threshold=None" else {}
        return in_threads(create_engine(psycopg_url, **arguments), ask_psycopg, process)
    arguments = {
        "asyncpg, plain defaults": {},
        "documented": DOCUMENTED,
        "documented, NullPool": NO_POOL,
        "documented, AUTOCOMMIT": AUTOCOMMIT,
        "documented, server-side cursors over an enum": DOCUMENTED,
    }[variant]
    work = stream if "cursors" in variant else ask
    make = functools.partial(create_async_engine, asyncpg_url, **arguments)
    return asyncio.run(in_tasks(make, work, process))


VARIANTS = (
    "documented",
    "documented, NullPool",
    "documented, AUTOCOMMIT",
    "documented, server-side cursors over an enum",
    "client_settings, asyncpg",
    "client_settings, psycopg",
    "psycopg, prepare_threshold=None",
    "psycopg, plain defaults",
    "asyncpg, plain defaults",
)


def main(address: str, settings_file: str) -> int:
    with open(settings_file, encoding="utf-8") as stream_:
        settings = next(entry for entry in json.load(stream_) if entry["role"] == "app_user")
    found = {}
    for variant in VARIANTS:
        # Processes of their own, that start at the same number of their statements' names.
        with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
            errors = pool.starmap(
                run, [(variant, address, settings, process) for process in range(PROCESSES)]
            )
        both = [error for of_process in errors for error in of_process]
        found[variant] = {
            "tried": PROCESSES * TASKS * ROUNDS,
            "failed": len(both),
            "wrong_answers": both.count("WrongAnswerError"),
            "errors": collections.Counter(both),
        }
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
