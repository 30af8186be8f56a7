# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plugin for pytest that has SQLAlchemy's own tests connect with the documented engine.

URLs can't hold all of its arguments, and tests make engines of their own, so the arguments become
the drivers' defaults.

Usage: PYTHONPATH=BENCHMARKS pytest -p pooled_engine ...
"""

from __future__ import annotations

from functools import partial, partialmethod
from unittest import mock

import asyncpg
import psycopg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi


def pytest_configure() -> None:
    """Before the first connection."""
    bare, adapted = asyncpg.connect, AsyncAdapt_asyncpg_dbapi.connect
    arguments = {"statement_cache_size": 0, "server_settings": {"jit": "off"}}
    for place, function in (
        (asyncpg, partial(bare, **arguments)),
        (psycopg, partial(psycopg.connect, prepare_threshold=None)),
        (AsyncAdapt_asyncpg_dbapi, partialmethod(adapted, prepared_statement_cache_size=0)),
    ):
        mock.patch.object(place, "connect", function).start()
