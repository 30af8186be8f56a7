# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the migrations create, as SQLAlchemy sees it."""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    DateTime,
    Enum,
    ForeignKeyConstraint,
    Identity,
    Index,
    Numeric,
    Text,
    UniqueConstraint,
    column,
    func,
    table,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# Rows belong to the tenant of the transaction that writes them; see orders.tenant_session.
CURRENT_TENANT = text("current_setting('app.tenant', true)")


class Base(DeclarativeBase):
    """The tables that Alembic compares with the database."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy declares it without ClassVar
        str: Text,
        datetime: DateTime(timezone=True),
        Decimal: Numeric(12, 2),
    }


class OrderStatus(str, enum.Enum):
    """How far an order has come; the type C(order_status) in the database."""

    NEW = "new"
    PAID = "paid"
    SHIPPED = "shipped"


class Customer(Base):
    """Somebody who orders; the key is an identity column."""

    __tablename__ = "customers"
    __table_args__ = (
        UniqueConstraint("tenant", "id", name="customers_tenant_id_key"),
        UniqueConstraint("tenant", "email", name="customers_tenant_email_key"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    tenant: Mapped[str] = mapped_column(server_default=CURRENT_TENANT)
    email: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Order(Base):
    """What was ordered; the key is a serial column, with a sequence of its own."""

    __tablename__ = "orders"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant", "customer_id"],
            ["customers.tenant", "customers.id"],
            name="orders_customer_fkey",
            ondelete="CASCADE",
        ),
        Index("orders_customer_idx", "tenant", "customer_id", "placed_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(server_default=CURRENT_TENANT)
    customer_id: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[OrderStatus] = mapped_column(
        Enum(
            OrderStatus,
            name="order_status",
            values_callable=lambda statuses: [status.value for status in statuses],
        ),
        server_default=OrderStatus.NEW.value,
    )
    amount: Mapped[Decimal]
    placed_at: Mapped[datetime] = mapped_column(server_default=func.now())


# A view: no table of Base, so that Alembic does not take it for one.
order_totals = table("order_totals", column("customer_id"), column("orders"), column("amount"))
