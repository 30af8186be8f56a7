# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The migrations, as app_migrator straight to Postgres."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from .engine import MIGRATION_VARIABLE, database_url, migration_engine
from .result import Result

ALEMBIC_INI = Path(__file__).parent.parent / "alembic.ini"


def migrate() -> Result:
    """Brings the database to the newest revision."""
    before = asyncio.run(_revision())
    command.upgrade(Config(ALEMBIC_INI), "head")
    after = asyncio.run(_revision())
    summary = f"at {after} already" if before == after else f"from {before or 'empty'} to {after}"
    return Result(
        ok=True,
        database=str(database_url(MIGRATION_VARIABLE)),
        summary=summary,
        figures={"before": before, "after": after},
    )


async def _revision() -> str | None:
    def read(connection: Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    engine = migration_engine(database_url(MIGRATION_VARIABLE))
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(read)
    finally:
        await engine.dispose()
