# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection budget: the fleet of 400, every way it can fail, and sums that add up."""

from __future__ import annotations

import copy
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections.budget import (
    LEAST_AUTO_CONNECTIONS,
    ConnectionBudget,
    connection_budget,
)
from ansible_collections.pooled.postgres.plugins.module_utils._budget.connections.demand import (
    DIRECT_SESSIONS,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.defaults import (
    AUTH_QUERY_SESSIONS,
    DEFAULTS,
)

POOLERS = [{"name": "pool1"}]


def fleet(via: str = "pgbouncer", limit: int = -1, **more: Any) -> list[dict[str, Any]]:
    """4 workers x 5 replicas x 20 connections."""
    client = {
        "name": "api",
        "role": "app_user",
        "replicas": 5,
        "workers": 4,
        "pool_size": 10,
        "max_overflow": 10,
        "via": via,
        **more,
    }
    roles = [
        {"name": "app_user", "kind": "user", "connection_limit": limit},
        {"name": "app_migrator", "kind": "migrator"},
        {"name": "app_admin", "kind": "admin"},
    ]
    return [{"name": "mydb", "roles": roles, "clients": [client]}]


def test_a_server_that_few_need_has_the_least_number() -> None:
    few = [{"name": "mydb", "roles": [{"name": "app_user", "kind": "user", "connection_limit": 2}]}]
    budget = connection_budget(few, [], "auto")
    assert budget.needed < LEAST_AUTO_CONNECTIONS
    assert budget.max_connections == LEAST_AUTO_CONNECTIONS == 20


def test_400_clients_fit_through_pgbouncer() -> None:
    budget = connection_budget(fleet(), POOLERS, 100)
    assert budget.table == (
        "Connections to Postgres",
        "  mydb: app_user from pool1          30  1 x (pool 25 + reserve 5)",
        "  mydb: auth_query from pool1         2  1 x 2",
        "  mydb: app_migrator directly         2  allowance for a role of kind migrator",
        "  mydb: app_admin directly            2  allowance for a role of kind admin",
        "  monitoring                          3",
        "  superuser_reserved_connections      3",
        "  -------------------------------------",
        "  needed                             42",
        "  max_connections                   100  as set",
        "  free                               58",
        "Clients of PgBouncer",
        "  mydb: api as app_user             400  5 replicas x 4 workers x (10 + 10)",
        "  -------------------------------------",
        "  needed                            400",
        "  max_client_conn                 10000  10000 on pool1",
        "  free                             9600",
        "File descriptors of a PgBouncer process",
        "  needed on pool1                 10184  10000 clients + 184 for pools and itself",
        "  LimitNOFILE                     16384  auto",
    )
    assert budget.warnings == ()


def test_a_role_that_is_kept_out_of_the_pool_has_none_there() -> None:
    model = fleet()
    model[0]["roles"].append({"name": "batch", "kind": "user", "pooled": False})
    model[0]["roles"].append({"name": "report", "kind": "reader", "pooled": False})
    model[0]["clients"].append(
        {"name": "nightly", "role": "batch", "pool_size": 3, "max_overflow": 0, "via": "direct"}
    )
    budget = connection_budget(model, POOLERS, 100)
    rows = {row.role: (row.kind, row.connections, row.formula) for row in budget.rows}
    assert rows["batch"] == ("direct", 3, "1 replicas x 1 workers x (3 + 0)")
    assert rows["report"] == ("allowance", 2, "allowance for a role with pooled: false")
    plain = connection_budget(fleet(), POOLERS, 100)
    assert budget.needed == plain.needed + 5
    assert budget.descriptors == plain.descriptors


def test_what_is_kept_out_of_the_pool_is_not_sent_there() -> None:
    model = fleet("direct")
    model[0]["roles"][0]["pooled"] = False
    with pytest.raises(ValueError) as refusal:
        connection_budget(model, POOLERS, 100)
    assert (
        "Through PgBouncer: all listed clients go through it already, except clients of roles with"
        " pooled: false."
    ) in str(refusal.value)


def test_400_clients_do_not_fit_directly() -> None:
    with pytest.raises(ValueError) as refusal:
        connection_budget(fleet("direct"), POOLERS, 100)
    assert str(refusal.value).splitlines() == [
        "The connections do not fit.",
        "Connections to Postgres",
        "  mydb: app_user from pool1         30  1 x (pool 25 + reserve 5)",
        "  mydb: auth_query from pool1        2  1 x 2",
        "  mydb: api as app_user directly   400  5 replicas x 4 workers x (10 + 10)",
        "  mydb: app_migrator directly        2  allowance for a role of kind migrator",
        "  mydb: app_admin directly           2  allowance for a role of kind admin",
        "  monitoring                         3",
        "  superuser_reserved_connections     3",
        "  ------------------------------------",
        "  needed                           442",
        "  max_connections                  100  as set",
        "  free                            -342",
        "442 connections are needed, 342 more than max_connections = 100 allows. Remedies:",
        "  1. Raise postgres_max_connections to 450: the host then needs at least 7.5 GB of memory,"
        " 5.8 GB more than for 100.",
        "  2. Let api connect through PgBouncer (via: pgbouncer): with pools of 25 + 5, 42"
        " connections are needed, which fits.",
        "  3. Shrink the pools: to pool_size + max_overflow of at most 2 in each of the 20"
        " processes that connect directly.",
    ]


def test_the_ways_out_are_true() -> None:
    connection_budget(fleet("direct"), POOLERS, 450)
    connection_budget(fleet("pgbouncer"), POOLERS, 100)
    connection_budget(fleet("direct", pool_size=1, max_overflow=1), POOLERS, 100)
    with pytest.raises(ValueError, match="102 connections are needed"):
        connection_budget(fleet("direct", pool_size=2, max_overflow=1), POOLERS, 100)


# databases, poolers, max_connections, and the lines that say what is wrong.
REFUSALS = [
    pytest.param(
        fleet("direct"),
        [],
        20,
        [
            "410 connections are needed, 390 more than max_connections = 20 allows. Remedies:",
            "  1. Raise postgres_max_connections to 410: the host then needs at least 6.9 GB of"
            " memory, 6.4 GB more than for 20.",
            "  2. Let api connect through PgBouncer (via: pgbouncer): with pools of 25 + 5, 42"
            " connections are needed, still 22 too many.",
            "  3. Shrink the pools: that is not enough: 20 processes connect directly, and 10"
            " connections are left for them.",
        ],
        id="nothing-but-more-connections-helps",
    ),
    pytest.param(
        fleet(),
        [{"name": "pool1"}, {"name": "pool2"}],
        50,
        [
            "74 connections are needed, 24 more than max_connections = 50 allows. Remedies:",
            "  1. Raise postgres_max_connections to 80: the host then needs at least 1.2 GB of"
            " memory, 373 MB more than for 50.",
            "  2. Through PgBouncer: all listed clients go through it already.",
            "  3. Shrink the pools: to pgbouncer_default_pool_size of at most 13, for 2 pools of"
            " PgBouncer.",
        ],
        id="pools-too-large",
    ),
    pytest.param(
        fleet(),
        [{"name": "pool1"}, {"name": "pool2"}],
        20,
        [
            "74 connections are needed, 54 more than max_connections = 20 allows. Remedies:",
            "  1. Raise postgres_max_connections to 80: the host then needs at least 1.2 GB of"
            " memory, 714 MB more than for 20.",
            "  2. Through PgBouncer: all listed clients go through it already.",
            "  3. Shrink the pools: that is not enough: 0 connections are left for the 2 pools of"
            " PgBouncer beside their reserves.",
        ],
        id="pools-far-too-large",
    ),
    pytest.param(
        fleet(),
        [{"name": "pool1", "max_client_conn": 150}, {"name": "pool2", "max_client_conn": "150"}],
        "auto",
        [
            "400 clients connect to PgBouncer, 100 more than max_client_conn allows: raise"
            " pgbouncer_max_client_conn to 200, or shrink the clients' pools.",
        ],
        id="clients-of-pgbouncer",
    ),
    pytest.param(
        fleet(limit=29),
        POOLERS,
        "auto",
        [
            "Role app_user has connection_limit 29, but its pools and clients need 30"
            " (mydb: app_user from pool1: 30): raise connection_limit to 30, or shrink its pools.",
        ],
        id="connection-limit",
    ),
    pytest.param(
        fleet(),
        POOLERS,
        3,
        [
            "42 connections are needed, 39 more than max_connections = 3 allows. Remedies:",
            "  1. Raise postgres_max_connections to 50: the host then needs at least 856 MB of"
            " memory.",
            "  2. Through PgBouncer: all listed clients go through it already.",
            "  3. Shrink the pools: that is not enough: 0 connections are left for the 1 pool of"
            " PgBouncer beside their reserves.",
        ],
        id="no-server-starts-with-so-few",
    ),
    pytest.param(
        fleet("direct", replicas=65535, workers=4, pool_size=1, max_overflow=0),
        POOLERS,
        400,
        [
            "262182 connections are needed, 261782 more than max_connections = 400 allows."
            " Remedies:",
            "  1. max_connections can't be raised to 262182: Postgres takes 262143.",
            "  2. Let api connect through PgBouncer (via: pgbouncer): with pools of 25 + 5, 42"
            " connections are needed, which fits, but: 262140 clients connect to PgBouncer, 252140"
            " more than max_client_conn allows: raise pgbouncer_max_client_conn to 262140, or"
            " shrink the clients' pools.",
            "  3. Shrink the pools: that is not enough: 262140 processes connect directly, and 358"
            " connections are left for them.",
        ],
        id="more-than-can-be-raised",
    ),
    pytest.param(
        fleet("direct", replicas=65520, workers=4, pool_size=1, max_overflow=0),
        POOLERS,
        400,
        [
            "262122 connections are needed, 261722 more than max_connections = 400 allows."
            " Remedies:",
            "  1. max_connections can't be raised to 262130: no server runs so many processes.",
        ],
        id="more-than-processes",
    ),
    pytest.param(
        fleet(),
        [{"name": "pool1", "default_pool_size": 300000}],
        "auto",
        ["Postgres allows at most 262143 connections."],
        id="more-than-postgres-takes",
    ),
]


@pytest.mark.parametrize(("databases", "poolers", "allowed", "lines"), REFUSALS)
def test_refusal(databases: Any, poolers: Any, allowed: Any, lines: list[str]) -> None:
    with pytest.raises(ValueError) as refusal:
        connection_budget(databases, poolers, allowed)
    told = str(refusal.value).splitlines()
    start = told.index(lines[0])
    assert told[start : start + len(lines)] == lines


def test_shrinking_the_pools_as_told_fits() -> None:
    poolers = [{"name": name, "default_pool_size": 13} for name in ("pool1", "pool2")]
    assert connection_budget(fleet(), poolers, 50).needed == 50
    with pytest.raises(ValueError, match="52 connections are needed"):
        connection_budget(fleet(), [{**pooler, "default_pool_size": 14} for pooler in poolers], 50)


AUTO = [
    (fleet(), POOLERS, 50),
    (fleet(), [{"name": "pool1", "default_pool_size": 1, "reserve_pool_size": 0}], 20),
    (fleet("direct"), [], 410),
    ([], [], 100),
    ([{"name": "mydb"}], POOLERS, 100),
]


@pytest.mark.parametrize(("databases", "poolers", "expected"), AUTO)
def test_auto(databases: Any, poolers: Any, expected: int) -> None:
    assert connection_budget(databases, poolers).max_connections == expected


WARNINGS = [
    (
        fleet(),
        [],
        "api: connects through PgBouncer, but no PgBouncer host is known; one with the collection's"
        " defaults is assumed",
    ),
    (
        fleet(role="app_migrator"),
        POOLERS,
        "api: runs as migrator app_migrator through PgBouncer, where session features that"
        " migrations need, such as advisory locks, do not work; connect it directly (via: direct)",
    ),
]


@pytest.mark.parametrize(("databases", "poolers", "message"), WARNINGS)
def test_warnings(databases: Any, poolers: Any, message: str) -> None:
    assert connection_budget(databases, poolers).warnings == (message,)


def kinds(budget: ConnectionBudget) -> dict[tuple[str, str], int]:
    return {(row.kind, row.role): row.connections for row in budget.rows}


def test_who_has_a_pool() -> None:
    databases = fleet(role="app_admin")
    databases[0]["roles"].append({"name": "app_reader", "kind": "reader"})
    counted = kinds(connection_budget(databases, POOLERS))
    assert counted["pool", "app_user"] == counted["pool", "app_reader"] == 30
    assert counted["pool", "app_admin"] == 30
    assert ("pool", "app_migrator") not in counted
    assert counted["allowance", "app_admin"] == 2


def test_direct_clients_replace_the_allowance() -> None:
    databases = fleet("direct", role="app_migrator", replicas=1, workers=1)
    counted = kinds(connection_budget(databases, POOLERS))
    assert counted["direct", "app_migrator"] == 20
    assert ("allowance", "app_migrator") not in counted


def test_allowance_respects_the_roles_limit() -> None:
    databases = fleet()
    databases[0]["roles"][1]["connection_limit"] = 1
    assert kinds(connection_budget(databases, POOLERS))["allowance", "app_migrator"] == 1


def test_hosts_with_different_pools_have_rows_of_their_own() -> None:
    poolers = [{"name": "a"}, {"name": "b", "default_pool_size": 10}, {"name": "c"}]
    rows = connection_budget(fleet(), poolers).rows
    assert [(row.what, row.formula, row.connections) for row in rows[:3]] == [
        ("mydb: app_user from 2 PgBouncer hosts", "2 x (pool 25 + reserve 5)", 60),
        ("mydb: app_user from b", "1 x (pool 10 + reserve 5)", 15),
        ("mydb: auth_query from 3 PgBouncer hosts", "3 x 2", 6),
    ]


# The options of one host beside its name, and the rows of its pools for app_user and app_reader.
POOLS = [
    pytest.param(
        {"databases": {"mydb": {"pool_size": 100}}},
        ["1 x (pool 100 + reserve 5)", "1 x (pool 100 + reserve 5)"],
        [105, 105],
        id="database",
    ),
    pytest.param(
        {"databases": {"mydb": {"reserve_pool_size": 0}, "other": {"pool_size": 1}}},
        ["1 x (pool 25 + reserve 0)", "1 x (pool 25 + reserve 0)"],
        [25, 25],
        id="reserve-of-the-database",
    ),
    pytest.param(
        {
            "databases": {"mydb": {"pool_size": 100, "reserve_pool_size": 9}},
            "users": {"app_user": {"pool_size": "3", "reserve_pool_size": 1}},
        },
        ["1 x (pool 3 + reserve 1)", "1 x (pool 100 + reserve 9)"],
        [4, 109],
        id="the-users-win-over-the-databases",
    ),
    pytest.param(
        {"users": {"app_user": {"max_user_connections": 8}}},
        ["1 x max_user_connections 8", "1 x (pool 25 + reserve 5)"],
        [8, 30],
        id="limit-of-the-user",
    ),
    pytest.param(
        {"users": {"*": {"max_user_connections": 8}, "app_user": {"max_user_connections": 0}}},
        ["1 x max_user_connections 8", "1 x max_user_connections 8"],
        [8, 8],
        id="limit-of-all-users-holds-where-there-is-none-of-its-own",
    ),
    pytest.param(
        {"databases": {"mydb": {"max_db_connections": 28}}},
        ["1 x max_db_connections 28", "1 x max_db_connections 28", "1 x (28 + 28 - 28)"],
        [28, 28, -28],
        id="limit-of-the-database-holds-for-all-its-roles",
    ),
    pytest.param(
        {"databases": {"*": {"max_db_connections": 40}}},
        [
            "1 x (pool 25 + reserve 5)",
            "1 x (pool 25 + reserve 5)",
            "1 x (30 + 30 - 40)",
        ],
        [30, 30, -20],
        id="limit-of-all-databases",
    ),
    pytest.param(
        {"databases": {"*": {"max_db_connections": 60}, "mydb": {"max_db_connections": 70}}},
        ["1 x (pool 25 + reserve 5)", "1 x (pool 25 + reserve 5)"],
        [30, 30],
        id="limit-that-is-not-reached",
    ),
    pytest.param(
        {"default_pool_size": 0, "users": {"*": {"max_user_connections": 8}}},
        ["1 x max_user_connections 8", "1 x max_user_connections 8"],
        [8, 8],
        id="no-limit-of-the-pool-but-of-the-user",
    ),
    pytest.param(
        {"default_pool_size": 0, "databases": {"mydb": {"pool_size": 4}}},
        ["1 x (pool 4 + reserve 5)", "1 x (pool 4 + reserve 5)"],
        [9, 9],
        id="no-limit-that-no-pool-has",
    ),
]


@pytest.mark.parametrize(("options", "formulas", "connections"), POOLS)
def test_pools_of_single_databases_and_users(
    options: dict[str, Any], formulas: list[str], connections: list[int]
) -> None:
    databases = fleet()
    databases[0]["roles"].append({"name": "app_reader", "kind": "reader"})
    budget = connection_budget(databases, [{"name": "pool1", **options}])
    rows = [row for row in budget.rows if row.kind in ("pool", "limit")]
    assert [row.formula for row in rows] == formulas
    assert [row.connections for row in rows] == connections
    for row in rows:
        assert any(row.what in line and row.formula in line for line in budget.table)


def test_pools_of_their_own_need_descriptors() -> None:
    plain, larger = (
        connection_budget(fleet(), [{"name": "pool1", **more}], "auto").table
        for more in ({}, {"databases": {"mydb": {"pool_size": 200}}})
    )
    needed = [
        int(line.split()[3])
        for table in (plain, larger)
        for line in table
        if line.startswith("  needed on pool1")
    ]
    assert needed[1] >= needed[0] + 175, "200 in place of 25"


def test_no_pool_is_told_to_be_smaller_than_nothing() -> None:
    with pytest.raises(ValueError, match="to at most 0 connections in all, for 1 pool"):
        connection_budget(fleet(), [{"name": "a", "databases": {"mydb": {"pool_size": 200}}}], 5)


def test_the_way_out_of_pools_with_sizes_of_their_own() -> None:
    with pytest.raises(ValueError) as refusal:
        connection_budget(fleet(), [{"name": "a", "databases": {"mydb": {"pool_size": 200}}}], 100)
    assert str(refusal.value).splitlines()[-1] == (
        "  3. Shrink the pools: to at most 88 connections in all, for 1 pool of PgBouncer;"
        " databases and users have sizes or limits of their own."
    )


BAD_INPUTS = [
    (
        {"max_connections": "lots"},
        "postgres_max_connections: 'lots' is not a whole number of at least 1",
    ),
    ({"max_connections": 0}, "postgres_max_connections: 0 is not a whole number of at least 1"),
    ({"exporters": -1}, "exporters: -1 is not a whole number of at least 0"),
    ({"poolers": "pool1"}, "poolers: give a list, not str"),
    ({"poolers": ["pool1"]}, "poolers[0]: give a dictionary, not str"),
    ({"poolers": [{}]}, "poolers[0].name: None is not a valid host name"),
    (
        {"poolers": [{"name": "a", "pool_size": 3}]},
        "poolers[0]: unknown key pool_size; allowed are name, default_pool_size,"
        " reserve_pool_size, max_client_conn, processes, limit_nofile, databases, users",
    ),
    (
        {"poolers": [{"name": "a", "databases": []}]},
        "a: pgbouncer_database_options: give a dictionary, not list",
    ),
    (
        {"poolers": [{"name": "a", "users": {"app_user": {"pool_mode": "session"}}}]},
        "a: pgbouncer_user_options.app_user: unknown key pool_mode; allowed are pool_size,"
        " reserve_pool_size, max_user_connections",
    ),
    (
        {"poolers": [{"name": "a", "databases": {"mydb": {"pool_size": "many"}}}]},
        "a: pgbouncer_database_options.mydb.pool_size: 'many' is not a whole number of at least 0",
    ),
    (
        {"poolers": [{"name": "a", "databases": {"*": {"max_db_connections": -1}}}]},
        "a: pgbouncer_settings.max_db_connections: -1 is not a whole number of at least 0",
    ),
    (
        {"poolers": [{"name": "a", "databases": {"mydb": {"pool_size": 0}}}]},
        "a: pgbouncer_database_options.mydb.pool_size: 0 means no limit, which no budget can hold;"
        " give at least 1, or a max_db_connections or max_user_connections",
    ),
    (
        {"poolers": [{"name": "a", "default_pool_size": 0}]},
        "a: pgbouncer_default_pool_size: 0 means no limit, which no budget can hold; give at least"
        " 1, or a max_db_connections or max_user_connections",
    ),
    (
        {"poolers": [{"name": "a", "limit_nofile": "few"}]},
        "a: pgbouncer_limit_nofile: 'few' is neither 'auto' nor a whole number of at least 1",
    ),
    (
        {"poolers": [{"name": "a", "reserve_pool_size": "x"}]},
        "a: pgbouncer_reserve_pool_size: 'x' is not a whole number of at least 0",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUTS)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        connection_budget(**{"databases": fleet(), "poolers": POOLERS, **arguments})
    assert str(error.value) == message


def database(index: int, clients: list[dict[str, Any]]) -> dict[str, Any]:
    roles = [
        {"name": "app", "kind": "user"},
        {"name": "report", "kind": "reader"},
        {"name": "deploy", "kind": "migrator"},
        {"name": "boss", "kind": "admin"},
    ]
    named = [{**client, "name": f"client{index}{place}"} for place, client in enumerate(clients)]
    return {"name": f"db{index}", "roles": roles, "clients": named}


client_entries = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["app", "report", "deploy", "boss"]),
        "replicas": st.integers(0, 20),
        "surge": st.one_of(st.none(), st.integers(0, 5), st.sampled_from(["25%", "100%"])),
        "workers": st.integers(1, 16),
        "pool_size": st.integers(1, 50),
        "max_overflow": st.integers(0, 50),
        "via": st.sampled_from(["pgbouncer", "direct"]),
    }
)
models = st.lists(st.lists(client_entries, max_size=4), min_size=1, max_size=4).map(
    lambda lists: [database(index, listed) for index, listed in enumerate(lists)]
)
pooler_lists = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["a", "b", "c"])},
        optional={
            "default_pool_size": st.integers(1, 100),
            "reserve_pool_size": st.integers(0, 20),
            "max_client_conn": st.just(10**6),
            "processes": st.integers(1, 4),
        },
    ),
    min_size=1,
    max_size=3,
)


def with_surge(client: dict[str, Any]) -> int:
    surge = client["surge"] or 0
    if isinstance(surge, str):
        surge = math.ceil(client["replicas"] * int(surge[:-1]) / 100)
    return int(client["replicas"] + surge)


def oracle(databases: list[dict[str, Any]], poolers: list[dict[str, Any]]) -> int:
    """The sum once more, written as plainly as can be."""
    processes = sum(pooler.get("processes", 1) for pooler in poolers)
    pool = sum(
        pooler.get("processes", 1)
        * (
            pooler.get("default_pool_size", DEFAULTS["default_pool_size"])
            + pooler.get("reserve_pool_size", DEFAULTS["reserve_pool_size"])
        )
        for pooler in poolers
    )
    total = 3 + 3
    for entry in databases:
        direct = [client for client in entry["clients"] if client["via"] == "direct"]
        pooled = {client["role"] for client in entry["clients"] if client["via"] == "pgbouncer"}
        total += len(pooled | {"app", "report"}) * pool + AUTH_QUERY_SESSIONS * processes
        for client in direct:
            size = client["pool_size"] + client["max_overflow"]
            total += with_surge(client) * client["workers"] * size
        for role, kind in (("deploy", "migrator"), ("boss", "admin")):
            if role not in {client["role"] for client in direct}:
                total += DIRECT_SESSIONS[kind]
    return total


def roomy(poolers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"max_client_conn": 10**6, **pooler} for pooler in poolers]


@settings(max_examples=100)
@given(models, pooler_lists)
def test_auto_always_fits_and_the_table_adds_up(
    databases: list[dict[str, Any]], poolers: list[dict[str, Any]]
) -> None:
    budget = connection_budget(databases, roomy(poolers))
    assert budget.needed == oracle(databases, poolers)
    assert budget.needed <= budget.max_connections
    assert budget.max_connections >= LEAST_AUTO_CONNECTIONS
    assert budget.max_connections % 10 == 0
    server = budget.table[1 : next(i for i, line in enumerate(budget.table) if "---" in line)]
    numbers = [int(re.split(r"  +", line.strip())[1]) for line in server]
    assert sum(numbers) == budget.needed
    assert connection_budget(databases, roomy(poolers), budget.needed).needed == budget.needed
    with pytest.raises(ValueError, match="1 more than max_connections"):
        connection_budget(databases, roomy(poolers), budget.needed - 1)


@settings(max_examples=100)
@given(models, pooler_lists, st.integers(1, 5000))
def test_what_exceeds_never_passes(
    databases: list[dict[str, Any]], poolers: list[dict[str, Any]], allowed: int
) -> None:
    fits = oracle(databases, poolers) <= allowed
    try:
        connection_budget(databases, roomy(poolers), allowed)
    except ValueError:
        assert not fits
    else:
        assert fits


def ways_out(databases: Any, poolers: Any, allowed: int) -> list[str]:
    with pytest.raises(ValueError) as refusal:
        connection_budget(databases, poolers, allowed)
    lines = str(refusal.value).splitlines()
    start = next(place for place, line in enumerate(lines) if line.endswith("Remedies:"))
    return lines[start + 1 : start + 4]


def through_pgbouncer(databases: Any, names: list[str]) -> Any:
    changed = copy.deepcopy(databases)
    for entry in changed:
        for client in entry["clients"]:
            if client["name"] in names:
                client["via"] = "pgbouncer"
    return changed


def capped(databases: Any, most: int) -> Any:
    """No direct process has more than so many connections."""
    changed = copy.deepcopy(databases)
    for entry in changed:
        for client in entry["clients"]:
            if client["via"] == "direct":
                client["pool_size"] = min(client["pool_size"], most)
                client["max_overflow"] = min(client["max_overflow"], most - client["pool_size"])
    return changed


def number(pattern: str, line: str) -> int | None:
    found = re.search(pattern, line)
    return int(found.group(1)) if found else None


@settings(max_examples=100)
@given(models, pooler_lists, st.integers(1, 400))
def test_the_ways_out_fit_and_are_the_best(
    databases: list[dict[str, Any]], poolers: list[dict[str, Any]], allowed: int
) -> None:
    poolers = roomy(poolers)
    if oracle(databases, poolers) <= allowed:
        return
    more, pooled, smaller = ways_out(databases, poolers, allowed)

    enough = number(r"postgres_max_connections to (\d+):", more)
    assert enough is not None
    connection_budget(databases, poolers, enough)

    names = re.match(r"  2\. Let (.*) connect through PgBouncer", pooled)
    if names:
        moved = through_pgbouncer(databases, names.group(1).split(", "))
        needed = number(r", (\d+) connections are needed", pooled)
        assert needed == oracle(moved, poolers)
        assert pooled.endswith("which fits.") == (needed <= allowed)
        if needed <= allowed:
            connection_budget(moved, poolers, allowed)

    most = number(r"pool_size \+ max_overflow of at most (\d+)", smaller)
    size = number(r"pgbouncer_default_pool_size of at most (\d+)", smaller)
    if most is not None:
        connection_budget(capped(databases, most), poolers, allowed)
        with pytest.raises(ValueError, match="more than max_connections"):
            connection_budget(capped(databases, most + 1), poolers, allowed)
    elif size is not None:
        sized = [{**pooler, "default_pool_size": size} for pooler in poolers]
        connection_budget(databases, sized, allowed)
        sized = [{**pooler, "default_pool_size": size + 1} for pooler in poolers]
        with pytest.raises(ValueError, match="more than max_connections"):
            connection_budget(databases, sized, allowed)
    else:
        assert "that is not enough" in smaller
        least = [{**pooler, "default_pool_size": 1} for pooler in poolers]
        direct = any(
            client["via"] == "direct" and with_surge(client)
            for entry in databases
            for client in entry["clients"]
        )
        with pytest.raises(ValueError, match="more than max_connections"):
            connection_budget(capped(databases, 1), poolers if direct else least, allowed)


@settings(max_examples=50)
@given(
    models,
    pooler_lists,
    st.sampled_from(["replicas", "workers", "pool_size", "max_overflow", "surge"]),
    st.integers(1, 9),
)
def test_more_of_anything_never_needs_less(
    databases: list[dict[str, Any]], poolers: list[dict[str, Any]], key: str, more: int
) -> None:
    before = connection_budget(databases, roomy(poolers))
    larger = copy.deepcopy(databases)
    for entry in larger:
        for client in entry["clients"]:
            value = with_surge(client) - client["replicas"] if key == "surge" else client[key]
            client[key] = value + more
    pools = [
        {**pooler, "default_pool_size": pooler.get("default_pool_size", 25) + more}
        for pooler in roomy(poolers)
    ]
    hosts = [*roomy(poolers), {"name": "one more", "max_client_conn": 10**6}]
    for after in (
        connection_budget(larger, roomy(poolers)),
        connection_budget(databases, pools),
        connection_budget(databases, hosts),
    ):
        assert after.needed >= before.needed
        assert after.max_connections >= before.max_connections
        assert after.client_connections >= before.client_connections
        for role, least in before.role_connections.items():
            assert after.role_connections[role] >= least


@settings(max_examples=50)
@given(models, pooler_lists)
def test_the_least_limit_of_a_role_is_told(
    databases: list[dict[str, Any]], poolers: list[dict[str, Any]]
) -> None:
    """A role whose direct client is limited has no allowance, so the limits of these don't bind."""
    least = connection_budget(databases, roomy(poolers)).role_connections
    for role in ("app", "report"):
        for limit in (least[role], least[role] - 1):
            limited = copy.deepcopy(databases)
            for entry in limited:
                for other in entry["roles"]:
                    if other["name"] == role:
                        other["connection_limit"] = limit
            if limit == least[role]:
                connection_budget(limited, roomy(poolers))
            else:
                with pytest.raises(ValueError, match=f"raise connection_limit to {least[role]},"):
                    connection_budget(limited, roomy(poolers))


def test_a_release_counts_old_and_new_replicas() -> None:
    budget = connection_budget(fleet("direct", surge="25%"), POOLERS)
    (row,) = [row for row in budget.rows if row.kind == "direct"]
    assert (row.formula, row.connections) == ("(5 + 2) replicas x 4 workers x (10 + 10)", 560)
    budget = connection_budget(fleet(surge=1), POOLERS)
    assert budget.client_connections == 480


def test_a_client_of_an_alias_is_counted_there() -> None:
    model = fleet(alias="mydb_session", replicas=1, workers=1)
    model[0]["aliases"] = [
        {"name": "mydb_session", "pool_mode": "session", "pool_size": 4, "reserve_pool_size": 0}
    ]
    budget = connection_budget(model, POOLERS)
    assert budget.client_rows[0].what == "mydb_session: api as app_user"
    assert budget.warnings == (
        "api: mydb_session gives each of its 20 connections a session, and has 4 for app_user: the"
        " others wait until one disconnects; raise the alias's pool_size, or shrink the client's"
        " pools",
    )
    model[0]["aliases"][0]["pool_size"] = 20
    assert connection_budget(model, POOLERS).warnings == ()


def test_migrations_have_what_they_need_in_a_session() -> None:
    model = fleet(alias="mydb_session", role="app_migrator", replicas=1, workers=1)
    model[0]["aliases"] = [{"name": "mydb_session", "pool_mode": "session", "pool_size": 20}]
    assert connection_budget(model, POOLERS).warnings == ()


def test_migrations_are_not_sent_through_pgbouncer() -> None:
    way = ways_out(fleet("direct", role="app_migrator"), POOLERS, 100)[1]
    assert way == (
        "  2. Through PgBouncer: all listed clients go through it already, except migrations, which"
        " need sessions."
    )


def test_a_way_out_that_breaks_something_else_says_so() -> None:
    poolers = [{"name": "pool1", "max_client_conn": 300}]
    assert ways_out(fleet("direct"), poolers, 100)[1] == (
        "  2. Let api connect through PgBouncer (via: pgbouncer): with pools of 25 + 5, 42"
        " connections are needed, which fits, but: 400 clients connect to PgBouncer, 100 more than"
        " max_client_conn allows: raise pgbouncer_max_client_conn to 400, or shrink the clients'"
        " pools."
    )


def test_one_host_alone_is_too_small_for_all_clients() -> None:
    hosts = [
        {"name": "pool1", "max_client_conn": 300},
        {"name": "pool2", "max_client_conn": 200},
    ]
    assert connection_budget(fleet(), hosts).warnings == (
        "400 clients fit only all 2 PgBouncer hosts together; while pool1 is away, the others take"
        " 200, and clients that try the hosts in the same order fill one after the other",
    )
    hosts[0]["max_client_conn"] = hosts[1]["max_client_conn"] = 400
    assert connection_budget(fleet(), hosts).warnings == ()


def test_file_descriptors_are_counted_for_each_process() -> None:
    poolers = [{"name": "pool1", "processes": 3, "limit_nofile": 10233}, {"name": "pool2"}]
    with pytest.raises(ValueError) as refusal:
        connection_budget(fleet(), poolers)
    lines = str(refusal.value).splitlines()
    assert lines[-6:-1] == [
        "File descriptors of a PgBouncer process",
        # Each passes requests to cancel on to its two peers.
        "  needed on pool1                          10234  10000 clients + 234 for pools and"
        " itself",
        "  LimitNOFILE                              10233  as set",
        "  needed on pool2                          10184  10000 clients + 184 for pools and"
        " itself",
        "  LimitNOFILE                              16384  auto",
    ]
    assert lines[-1] == (
        "pool1 has pgbouncer_limit_nofile 10233, but 10000 clients, their pools and what else"
        " PgBouncer opens need 10234 file descriptors: raise it to 10234, or leave it at auto."
    )
    connection_budget(fleet(), [{**poolers[0], "limit_nofile": "10234"}, poolers[1]])


def test_processes_may_get_more_than_their_share_of_the_clients() -> None:
    poolers = [{"name": "pool1", "processes": 2, "max_client_conn": 256}]
    assert connection_budget(fleet(), poolers).warnings == (
        "400 clients fit only while each process on pool1 gets no more than its share, and the"
        " kernel distributes them at random; raise pgbouncer_max_client_conn to 257",
    )
    poolers[0]["max_client_conn"] = 257
    assert connection_budget(fleet(), poolers).warnings == ()
    one = {**poolers[0], "processes": 1, "max_client_conn": 400}
    assert connection_budget(fleet(), [one]).warnings == ()


def test_aliases_and_processes_have_pools_of_their_own() -> None:
    model = fleet()
    model[0]["pools"] = {"pool_size": 10, "pool_mode": "transaction"}
    model[0]["aliases"] = [
        {"name": "mydb_session", "pool_mode": "session", "pool_size": 4, "reserve_pool_size": 0},
        {"name": "mydb_ro", "host": "replica.internal"},
    ]
    two = [{"name": "pool1", "processes": 2}, {"name": "pool2", "processes": 2}]
    budget = connection_budget(model, two, 200)
    rows = {row.what: (row.connections, row.formula) for row in budget.rows}
    assert rows["mydb: app_user from 2 PgBouncer hosts"] == (
        60,
        "2 x 2 processes x (pool 10 + reserve 5)",
    )
    assert rows["mydb_session: app_user from 2 PgBouncer hosts"] == (
        16,
        "2 x 2 processes x (pool 4 + reserve 0)",
    )
    assert rows["mydb: auth_query from 2 PgBouncer hosts"] == (24, "4 x 6")
    assert budget.max_client_connections == 40000
    totals = next(line for line in budget.table if line.startswith("  max_client_conn"))
    assert totals.endswith("40000  2 x 10000 + 2 x 10000 on 2 PgBouncer hosts")


def test_the_models_pools_count_and_a_hosts_variables_win_over_them() -> None:
    model = fleet()
    model[0]["roles"][0]["pools"] = {"pool_size": 7, "reserve_pool_size": 0}
    assert connection_budget(model, POOLERS).rows[0].connections == 7
    own = [{**POOLERS[0], "users": {"app_user": {"pool_size": 9}}}]
    assert connection_budget(model, own).rows[0].connections == 9


def test_an_alias_has_a_limit_of_its_own() -> None:
    model = fleet()
    model[0]["roles"].append({"name": "app_reader", "kind": "reader"})
    model[0]["aliases"] = [{"name": "mydb_session", "max_db_connections": 40}]
    rows = {row.what: row.connections for row in connection_budget(model, POOLERS).rows}
    assert rows["mydb_session: app_user from pool1"] == 30
    assert rows["mydb_session: beyond max_db_connections of pool1"] == -20
    assert "mydb: beyond max_db_connections of pool1" not in rows
