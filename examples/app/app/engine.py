# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two ways into the database. Their URLs, with passwords, come from the environment only."""

from __future__ import annotations

import os

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

APP_VARIABLE = "APP_DATABASE_URL"
MIGRATION_VARIABLE = "MIGRATION_DATABASE_URL"

_EXAMPLES = {
    APP_VARIABLE: "postgresql+asyncpg://app_user:PASSWORD@HOST:6432/mydb",
    MIGRATION_VARIABLE: "postgresql+asyncpg://app_migrator:PASSWORD@HOST:5432/mydb",
}


class UrlError(Exception):
    """The environment has no URL that we could use."""


def database_url(variable: str) -> URL:
    """The URL in an environment variable.

    Raises:
        UrlError: when it is missing or not one for asyncpg. Never with its text: in a URL that
            can't be parsed, any part may be the password.
    """
    try:
        url = make_url(os.environ.get(variable, ""))
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.drivername != "postgresql+asyncpg":
        raise UrlError(f"{variable}: set it to a URL such as {_EXAMPLES[variable]}")
    return url


def app_engine(url: URL) -> AsyncEngine:
    """The application's engine, to PgBouncer in transaction mode."""
    return create_async_engine(
        url,
        pool_size=10,
        max_overflow=10,
        pool_pre_ping=True,
        pool_recycle=300,
        connect_args={
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "server_settings": {"jit": "off"},
        },
    )


def plain_engine(url: URL) -> AsyncEngine:
    """SQLAlchemy's defaults, which need PgBouncer 1.21 or newer with max_prepared_statements."""
    return create_async_engine(url)


def migration_engine(url: URL) -> AsyncEngine:
    """One connection for Alembic, to Postgres itself: migrations need a session of their own."""
    return create_async_engine(url, poolclass=NullPool)
