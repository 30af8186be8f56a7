# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Customers and orders: each function runs in the transaction of the session it is given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

from sqlalchemy import BigInteger, delete, func, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from .models import Customer, Order, OrderStatus, order_totals


@asynccontextmanager
async def tenant_session(engine: AsyncEngine, tenant: str) -> AsyncIterator[AsyncSession]:
    """One transaction that sees and writes the rows of one tenant.

    The tenant is set for the transaction, not for the session: behind PgBouncer the next
    transaction may have another server connection, and this one another client.
    """
    async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
        await session.execute(
            text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": tenant}
        )
        yield session


async def add_customer(session: AsyncSession, email: str) -> int:
    customer = Customer(email=email)
    session.add(customer)
    await session.flush()
    return customer.id


async def place_order(session: AsyncSession, customer_id: int, amount: Decimal) -> int:
    order = Order(customer_id=customer_id, amount=amount)
    session.add(order)
    await session.flush()
    return order.id


async def set_status(session: AsyncSession, order_id: int, status: OrderStatus) -> None:
    await session.execute(update(Order).where(Order.id == order_id).values(status=status))


async def find_order(session: AsyncSession, order_id: int) -> Order | None:
    return await session.get(Order, order_id)


async def count_customers(session: AsyncSession) -> int:
    return (await session.execute(select(func.count()).select_from(Customer))).scalar_one()


async def delete_customer(session: AsyncSession, customer_id: int) -> int:
    """Deletes a customer with all orders; returns how many customers that were, 0 or 1."""
    result = await session.execute(
        delete(Customer).where(Customer.id == customer_id).returning(Customer.id)
    )
    return len(result.all())


async def customer_total(session: AsyncSession, customer_id: int) -> Decimal:
    """What a customer ordered for, from the function in the database."""
    query = select(func.customer_total(literal(customer_id, BigInteger)))
    total: Decimal = (await session.execute(query)).scalar_one()
    return total


async def totals(session: AsyncSession) -> dict[int, tuple[int, Decimal]]:
    """Number and amount of orders by customer, from the view."""
    rows = await session.execute(select(order_totals))
    return {row.customer_id: (row.orders, row.amount) for row in rows}
