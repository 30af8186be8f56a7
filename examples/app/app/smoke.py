# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that the migrations made, used once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from . import orders
from .models import OrderStatus
from .result import Result, error_text, sqlstate


async def smoke(engine: AsyncEngine) -> Result:
    """Works through all steps, up to the first that fails."""
    rows: list[dict[str, Any]] = []
    ok = True
    try:
        async for step, seen, expected in _steps(engine, f"smoke-{uuid4().hex[:8]}"):
            ok = seen == expected
            rows.append({"step": step, "result": "ok" if ok else f"{seen!s:.60}, not {expected}"})
            if not ok:
                break
    except DBAPIError as error:
        ok = False
        rows.append({"step": "failed with", "result": error_text(error)})
    return Result(ok, str(engine.url), "everything works" if ok else "FAILED", rows)


async def _steps(engine: AsyncEngine, tenant: str) -> AsyncIterator[tuple[str, Any, Any]]:
    """What was done, what came of it, and what should have; each step a transaction."""
    async with orders.tenant_session(engine, tenant) as session:
        customer = await orders.add_customer(session, "ada@example.org")
    yield "insert with an identity key", customer > 0, True

    async with orders.tenant_session(engine, tenant) as session:
        first = await orders.place_order(session, customer, Decimal("12.50"))
        second = await orders.place_order(session, customer, Decimal("30.00"))
    yield "insert with a serial key", second > first, True

    async with orders.tenant_session(engine, tenant) as session:
        await orders.set_status(session, first, OrderStatus.PAID)
    async with orders.tenant_session(engine, tenant) as session:
        order = await orders.find_order(session, first)
    yield "update and select an enum", order and order.status, OrderStatus.PAID

    async with orders.tenant_session(engine, tenant) as session:
        total = await orders.customer_total(session, customer)
    yield "call a function", total, Decimal("42.50")

    async with orders.tenant_session(engine, tenant) as session:
        totals = await orders.totals(session)
    yield "read a view", totals, {customer: (2, Decimal("42.50"))}

    async with orders.tenant_session(engine, f"{tenant}-other") as session:
        seen = (await orders.count_customers(session), await orders.totals(session))
        deleted = await orders.delete_customer(session, customer)
    yield "another tenant sees no row", seen, (0, {})
    yield "another tenant deletes no row", deleted, 0

    try:
        async with AsyncSession(engine) as session:
            await orders.add_customer(session, "nobody@example.org")
        state = None
    except DBAPIError as error:
        state = sqlstate(error)
    yield "no tenant, no insert", state, "42501"

    async with orders.tenant_session(engine, tenant) as session:
        deleted = await orders.delete_customer(session, customer)
        left = await orders.totals(session)
    yield "delete, with what depends on it", (deleted, left), (1, {})
