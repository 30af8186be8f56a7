# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many transactions at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from time import monotonic
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from . import orders
from .models import OrderStatus
from .result import Result, error_name


class WrongAnswerError(Exception):
    """The database answered something else than what had been written."""


async def load(engine: AsyncEngine, tasks: int, rounds: int) -> Result:
    """Each task lives through `rounds` orders; the engine's pool bounds the transactions at once.

    An error ends the round that it happened in, not the task.
    """
    transactions = 0
    errors: Counter[str] = Counter()
    run = uuid4().hex[:8]

    async def work(number: int) -> None:
        nonlocal transactions
        for round_number in range(rounds):
            tenant = f"load-{run}-{number}-{round_number}"
            amount = Decimal(number) + Decimal(round_number) / 100
            try:
                async for done in _life_of_an_order(engine, tenant, amount):
                    transactions += done
            except Exception as error:
                errors[error_name(error)] += 1

    async with engine.connect():
        pass  # without any way in, one error says it better than one per task
    start = monotonic()
    await asyncio.gather(*(work(number) for number in range(tasks)))
    seconds = monotonic() - start
    failed = sum(errors.values())
    return Result(
        ok=failed == 0,
        database=str(engine.url),
        summary=f"{tasks} tasks, {transactions} transactions, {failed} errors, {seconds:.1f} s",
        rows=[{"error": name, "times": times} for name, times in errors.most_common()],
        figures={
            "tasks": tasks,
            "transactions": transactions,
            "errors": failed,
            "seconds": round(seconds, 3),
        },
    )


async def _life_of_an_order(
    engine: AsyncEngine, tenant: str, amount: Decimal
) -> AsyncIterator[int]:
    """Four transactions; yields 1 after each."""
    async with orders.tenant_session(engine, tenant) as session:
        customer = await orders.add_customer(session, "ada@example.org")
        order_id = await orders.place_order(session, customer, amount)
    yield 1
    async with orders.tenant_session(engine, tenant) as session:
        await orders.set_status(session, order_id, OrderStatus.SHIPPED)
    yield 1
    async with orders.tenant_session(engine, tenant) as session:
        order = await orders.find_order(session, order_id)
        answer = order and (order.status, order.amount, await orders.totals(session))
    if answer != (OrderStatus.SHIPPED, amount, {customer: (1, amount)}):
        raise WrongAnswerError
    yield 1
    async with orders.tenant_session(engine, tenant) as session:
        if await orders.delete_customer(session, customer) != 1:
            raise WrongAnswerError
    yield 1
