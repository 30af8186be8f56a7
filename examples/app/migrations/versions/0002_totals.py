# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Totals: a view and a function"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # security_invoker (Postgres 15): otherwise the view reads as its owner, whom the row policies
    # of the owner's own tables do not bind, and shows every tenant's rows.
    op.execute("""
        CREATE VIEW order_totals WITH (security_invoker = true) AS
        SELECT customer_id, count(*) AS orders, sum(amount) AS amount
        FROM orders
        GROUP BY customer_id
    """)
    op.execute("""
        CREATE FUNCTION customer_total(customer bigint) RETURNS numeric
        LANGUAGE sql STABLE
        RETURN (SELECT coalesce(sum(amount), 0) FROM orders WHERE customer_id = customer)
    """)


def downgrade() -> None:
    op.execute("DROP FUNCTION customer_total(bigint)")
    op.execute("DROP VIEW order_totals")
