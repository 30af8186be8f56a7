# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the application's role must not be able to do."""

from __future__ import annotations

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from .engine import app_engine
from .result import Result, error_name, sqlstate

STATEMENTS = {
    "CREATE TABLE": "CREATE TABLE public.refused ()",
    "CREATE TEMP TABLE": "CREATE TEMP TABLE refused ()",
    "ALTER TABLE": "ALTER TABLE customers ADD COLUMN refused text",
    "DISABLE ROW LEVEL SECURITY": "ALTER TABLE customers DISABLE ROW LEVEL SECURITY",
    "DROP TABLE": "DROP TABLE orders CASCADE",
    "TRUNCATE": "TRUNCATE orders",
    "CREATE SCHEMA": "CREATE SCHEMA refused",
    "CREATE ROLE": "CREATE ROLE refused",
    "SET ROLE app_migrator": "SET ROLE app_migrator",
    "COPY TO PROGRAM": "COPY (SELECT 1) TO PROGRAM 'true'",
    "read pg_authid": "SELECT rolpassword FROM pg_authid",
}
OTHER_DATABASE = "postgres"

INSUFFICIENT_PRIVILEGE = "42501"
# PgBouncer's refusals are protocol violations; Postgres knows no such database, or pg_hba.conf has
# no line for it, or the role has no CONNECT.
NO_CONNECTION = ("08P01", "3D000", "28000", INSUFFICIENT_PRIVILEGE)


async def refusals(engine: AsyncEngine) -> Result:
    """Tries each statement, in a transaction that is rolled back if it was allowed after all."""
    rows = []
    async with engine.connect() as connection:
        for operation, statement in STATEMENTS.items():
            error = await _try(connection, statement)
            rows.append(_row(operation, error, (INSUFFICIENT_PRIVILEGE,)))
    other = app_engine(engine.url.set(database=OTHER_DATABASE))
    rows.append(_row(f"connect to {OTHER_DATABASE}", await _try_to_connect(other), NO_CONNECTION))

    refused = sum(row["outcome"] == "refused" for row in rows)
    summary = f"{refused} of {len(rows)} refused"
    return Result(refused == len(rows), str(engine.url), summary, rows)


def _row(operation: str, error: Exception | None, refusing: tuple[str, ...]) -> dict[str, str]:
    if error is None:
        return {"operation": operation, "sqlstate": "00000", "outcome": "ALLOWED"}
    state = sqlstate(error)
    outcome = "refused" if state in refusing else f"failed otherwise: {error_name(error)}"
    return {"operation": operation, "sqlstate": state, "outcome": outcome}


async def _try(connection: AsyncConnection, statement: str) -> DBAPIError | None:
    try:
        await connection.execute(text(statement))
    except DBAPIError as error:
        return error
    finally:
        await connection.rollback()
    return None


async def _try_to_connect(engine: AsyncEngine) -> Exception | None:
    try:
        async with engine.connect():
            return None
    except (DBAPIError, asyncpg.PostgresError) as error:
        return error
    finally:
        await engine.dispose()
