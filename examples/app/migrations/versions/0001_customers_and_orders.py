# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Customers and orders

No GRANT here: the server's default privileges for what app_migrator creates give every role its
rights, and the row policies decide about rows.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

STATUS = postgresql.ENUM("new", "paid", "shipped", name="order_status", create_type=False)
CURRENT_TENANT = sa.text("current_setting('app.tenant', true)")


def upgrade() -> None:
    STATUS.create(op.get_bind())
    op.create_table(
        "customers",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False, server_default=CURRENT_TENANT),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.UniqueConstraint("tenant", "id", name="customers_tenant_id_key"),
        sa.UniqueConstraint("tenant", "email", name="customers_tenant_email_key"),
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.Integer, primary_key=True),  # serial
        sa.Column("tenant", sa.Text, nullable=False, server_default=CURRENT_TENANT),
        sa.Column("customer_id", sa.BigInteger, nullable=False),
        sa.Column("status", STATUS, nullable=False, server_default="new"),
        sa.Column("amount", sa.Numeric(12, 2), nullable=False),
        sa.Column(
            "placed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "customer_id"],
            ["customers.tenant", "customers.id"],
            name="orders_customer_fkey",
            ondelete="CASCADE",
        ),
    )
    op.create_index("orders_customer_idx", "orders", ["tenant", "customer_id", "placed_at"])
    # Without a tenant current_setting gives NULL, or '' on a connection where one was set before.
    # With NULL for both, no row is visible and none can be written.
    for table in ("customers", "orders"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY {table}_of_tenant ON {table}"
            " USING (tenant = nullif(current_setting('app.tenant', true), ''))"
        )


def downgrade() -> None:
    op.drop_table("orders")
    op.drop_table("customers")
    STATUS.drop(op.get_bind())
