# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the application's sessions run with, seen through the pool."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from .result import Result

# What the collection gives roles of kind `user`, in the server's own words.
WANTED = {
    "jit": "off",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "1min",
    "lock_timeout": "5s",
}

RAISED = {"statement_timeout": "5min", "work_mem": "77MB"}

# PgBouncer hands out the server connection that was used last, so that the first try finds it
# on a quiet server; on a busy one it takes some.
TRIES = 100


async def settings(engine: AsyncEngine) -> Result:
    """The session's settings; then SET LOCAL in one transaction, beside it and after it."""
    async with engine.connect() as connection:
        session = await _read(connection)

    async with engine.begin() as connection, engine.connect() as other:
        for name, value in RAISED.items():
            await connection.execute(text(f"SET LOCAL {name} = '{value}'"))
        inside = await _read(connection)
        beside = await _read(other)

    for _attempt in range(TRIES):
        async with engine.connect() as connection:
            after = await _read(connection)
        if after["process"] == inside["process"]:
            break
    else:
        after = dict.fromkeys(after, "server connection not met again")

    rows = [
        {"where": where, "setting": name, "value": seen[name], "wanted": value}
        for where, seen, wanted in (
            ("session", session, WANTED),
            ("in a transaction with SET LOCAL", inside, RAISED),
            ("beside it", beside, {name: session[name] for name in RAISED}),
            ("after it, same server connection", after, {name: session[name] for name in RAISED}),
        )
        for name, value in wanted.items()
    ]
    wrong = [row for row in rows if row["value"] != row["wanted"]]
    summary = f"{len(wrong)} of {len(rows)} are not as wanted" if wrong else "all as wanted"
    return Result(not wrong, str(engine.url), summary, rows)


async def _read(connection: AsyncConnection) -> dict[str, str]:
    """The settings in this transaction, and the server process that runs it."""
    answer = await connection.execute(
        text(
            "SELECT 'process' AS name, CAST(pg_backend_pid() AS text) AS value UNION ALL"
            " SELECT name, current_setting(name) FROM unnest(CAST(:names AS text[])) AS name"
        ),
        {"names": [*WANTED, "work_mem"]},
    )
    return {row.name: row.value for row in answer}
