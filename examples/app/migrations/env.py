# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alembic's environment: connects as the migrator, straight to Postgres."""

from __future__ import annotations

import asyncio

from alembic import context
from app.engine import MIGRATION_VARIABLE, database_url, migration_engine
from app.models import Base
from sqlalchemy import Connection


def run_migrations(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=Base.metadata, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    engine = migration_engine(database_url(MIGRATION_VARIABLE))
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run_migrations)
    finally:
        await engine.dispose()


asyncio.run(main())
