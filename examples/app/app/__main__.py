# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: python -m app COMMAND."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from .engine import APP_VARIABLE, UrlError, app_engine, database_url, plain_engine
from .load import load
from .migrate import migrate
from .refusals import refusals
from .result import Result, error_text
from .settings import settings
from .smoke import smoke

COMMANDS = {
    "migrate": "upgrade the database to the newest revision (MIGRATION_DATABASE_URL)",
    "smoke": "use everything that the migrations made, once",
    "load": "many transactions at once",
    "defaults": "the same with SQLAlchemy's plain defaults, for PgBouncer 1.21 or newer",
    "settings": "what the application's sessions run with",
    "refusals": "try what the application's role must not do",
}

# asyncpg's own errors come unwrapped while a connection is being made.
CONNECTION_ERRORS = (
    SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncio.TimeoutError,
    OSError,
)


def main() -> int:
    arguments = _arguments()
    try:
        result = _run(arguments)
    except UrlError as error:
        print(error, file=sys.stderr)
        return 2
    except CONNECTION_ERRORS as error:
        print(f"{arguments.command} failed with {error_text(error)}", file=sys.stderr)
        return 1
    print(result.as_json() if arguments.json else result.as_text())
    return 0 if result.ok else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app", description="An application on a pool.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="print JSON")
        if name in ("load", "defaults"):
            command.add_argument("--tasks", type=count, default=40, help="at once (default 40)")
            command.add_argument("--rounds", type=count, default=10, help="each (default 10)")
    return parser.parse_args()


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is too few; give at least 1")
    return number


def _run(arguments: argparse.Namespace) -> Result:
    if arguments.command == "migrate":
        return migrate()
    make_engine = plain_engine if arguments.command == "defaults" else app_engine
    return asyncio.run(_with_engine(make_engine, arguments))


async def _with_engine(
    make_engine: Callable[..., AsyncEngine], arguments: argparse.Namespace
) -> Result:
    engine = make_engine(database_url(APP_VARIABLE))
    try:
        if arguments.command in ("load", "defaults"):
            return await load(engine, arguments.tasks, arguments.rounds)
        command = {"smoke": smoke, "settings": settings, "refusals": refusals}[arguments.command]
        return await command(engine)
    finally:
        await engine.dispose()


sys.exit(main())
