# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection budget at its edge: what the table allows connects, and one more is refused.

The server has exactly the max_connections that the table needs, and PgBouncer the max_client_conn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections.budget import (
    connection_budget,
)

from .clusters import INSTALLED
from .poolers import PASSWORD, Pooler

MAJORS = sorted({min(INSTALLED, default=0), max(INSTALLED, default=0)})
MONITOR = "monitor"
MODEL: list[dict[str, Any]] = [
    {
        "name": "mydb",
        "aliases": [
            {"name": "mydb_session", "pool_mode": "session", "pool_size": 1, "reserve_pool_size": 0}
        ],
        "roles": [
            {"name": "app_user", "kind": "user", "password": PASSWORD},
            {"name": "app_reader", "kind": "reader", "password": PASSWORD},
            {"name": "app_migrator", "kind": "migrator", "password": PASSWORD},
        ],
        "clients": [
            {"name": "api", "role": "app_user", "replicas": 2, "surge": "50%", "workers": 2,
             "pool_size": 2, "max_overflow": 1},
            {"name": "report", "role": "app_reader", "pool_size": 4, "max_overflow": 0},
            {"name": "lock", "role": "app_user", "alias": "mydb_session", "pool_size": 1,
             "max_overflow": 0},
            {"name": "read", "role": "app_reader", "alias": "mydb_session", "pool_size": 1,
             "max_overflow": 0},
            {"name": "batch", "role": "app_reader", "via": "direct", "pool_size": 2,
             "max_overflow": 1},
        ],
    }
]  # fmt: skip
SIZES = {"default_pool_size": 2, "reserve_pool_size": 1}
BUDGET = connection_budget(MODEL, [{"name": "pool1", **SIZES}])
ROWS = {row.what: row.connections for row in BUDGET.rows}


@pytest.fixture(scope="module", params=MAJORS, ids=[f"pg{major}" for major in MAJORS])
def pooled_server(
    request: pytest.FixtureRequest, make_cluster: Callable[[int], Any]
) -> Iterator[Any]:
    """A server that takes as many connections as the table needs, and not one more."""
    made = make_cluster(request.param)
    for role in ("app_user", "app_reader", "app_migrator", "pgbouncer_auth", MONITOR):
        limit = BUDGET.role_connections.get(role, -1)
        # In 13 the server itself would still make md5 of it.
        made.sql(
            "SET password_encryption = 'scram-sha-256';"
            f" CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT {limit}"
        )
    made.sql("CREATE DATABASE mydb")
    for statement in (
        "CREATE SCHEMA pgbouncer",
        """CREATE FUNCTION pgbouncer.get_auth(text) RETURNS TABLE (username name, password text)
        LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
        AS 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 AND NOT rolsuper'""",
        "GRANT USAGE ON SCHEMA pgbouncer TO pgbouncer_auth",
    ):
        made.sql(statement, "mydb")
    with (made.data / "postgresql.conf").open("a") as conf:
        conf.write(f"max_connections = {BUDGET.needed}\n")
    made.restart()
    yield made
    made.stop()


class Fleet:
    """Everybody in the table, connected at once until the end."""

    def __init__(self, pooler: Pooler, held: ExitStack) -> None:
        self.pooler = pooler
        self.server = pooler.cluster
        self.held = held

    def direct(self, role: str, database: str = "mydb") -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] = self.server.connect(database, role)
        self.held.callback(connection.close)
        return connection

    def pooled(self, role: str, database: str = "mydb") -> psycopg.Connection[Any]:
        connection = psycopg.connect(
            host="127.0.0.1", port=self.pooler.port, user=role, password=PASSWORD, dbname=database,
            prepare_threshold=None,
        )  # fmt: skip
        self.held.callback(connection.close)
        return connection

    def fill(self, role: str, database: str, clients: int, pool: int) -> list[Any]:
        """So many clients, of which as many as the pool takes are in a transaction."""
        connections = [self.pooled(role, database) for _client in range(clients)]
        for connection in connections[:pool]:
            connection.execute("SELECT 1")
        return connections

    def sessions(self) -> dict[str, int]:
        """How many sessions each role has, counted over one of the superuser's slots."""
        rows = self.server.sql(
            "SELECT usename::text, count(*) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND usename <> 'postgres' GROUP BY 1"
        )
        return dict(rows)


def refusal(connect: Callable[[], Any]) -> str:
    with pytest.raises(psycopg.OperationalError) as error:
        connect()
    return str(error.value)


def test_the_largest_fleet_connects_and_one_more_is_refused(pooler: Pooler) -> None:
    configured = pooler.configure(
        databases=MODEL,
        options={
            **SIZES,
            "reserve_pool_timeout": 1,
            "query_wait_timeout": 3,
            "max_client_conn": BUDGET.client_connections,
        },
    )
    assert not configured.get("failed"), configured
    with ExitStack() as held:
        fleet = Fleet(pooler, held)
        for _session in range(ROWS["mydb: batch as app_reader directly"]):
            fleet.direct("app_reader")
        for _session in range(ROWS["mydb: app_migrator directly"]):
            fleet.direct("app_migrator")
        monitors = [fleet.direct(MONITOR) for _session in range(ROWS["monitoring"])]
        api = fleet.fill("app_user", "mydb", 18, ROWS["mydb: app_user from pool1"])
        fleet.fill("app_reader", "mydb", 4, ROWS["mydb: app_reader from pool1"])
        for role in ("app_user", "app_reader"):
            fleet.fill(role, "mydb_session", 1, ROWS[f"mydb_session: {role} from pool1"])

        # Each role has exactly the sessions of its rows.
        sessions = fleet.sessions()
        looking_up = sessions.pop("pgbouncer_auth")
        assert sessions == {**BUDGET.role_connections, MONITOR: ROWS["monitoring"]}
        assert 1 <= looking_up <= ROWS["mydb: auth_query from pool1"]

        # PgBouncer takes as many clients as it was told, and no pool grows beyond its row.
        assert "no more connections allowed (max_client_conn)" in refusal(
            lambda: fleet.pooled("app_user")
        )
        assert "query_wait_timeout" in refusal(lambda: api[-1].execute("SELECT 1"))
        assert fleet.sessions()["app_user"] == BUDGET.role_connections["app_user"]

        # Stand-ins for the look-ups that PgBouncer does not make right now: then every slot is
        # taken but those of superusers.
        for _session in range(ROWS["mydb: auth_query from pool1"] - looking_up):
            fleet.direct("pgbouncer_auth")
        assert sum(fleet.sessions().values()) == BUDGET.needed - 3
        assert "remaining connection slots are reserved" in refusal(lambda: fleet.direct(MONITOR))
        for _session in range(ROWS["superuser_reserved_connections"]):
            fleet.direct("postgres")
        assert "too many clients already" in refusal(lambda: fleet.direct("postgres"))

        # With slots to spare, a role is held to its limit, the least that the budget takes.
        for connection in monitors:
            connection.close()
        for role in ("app_user", "app_reader"):
            assert f'too many connections for role "{role}"' in refusal(
                lambda role=role: fleet.direct(role)
            )


def test_a_server_with_one_slot_less_is_refused_before() -> None:
    with pytest.raises(ValueError, match=f"{BUDGET.needed} connections are needed, 1 more than"):
        connection_budget(MODEL, [{"name": "pool1", **SIZES}], BUDGET.needed - 1)
    clients = BUDGET.client_connections
    with pytest.raises(ValueError, match=f"{clients} clients connect to PgBouncer, 1 more than"):
        connection_budget(MODEL, [{"name": "pool1", **SIZES, "max_client_conn": clients - 1}])
