# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers and PgBouncer hosts belong together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._model.database_clusters import (
    DatabaseCluster,
    DatabaseClusters,
    database_clusters,
    heading,
)

Variables = dict[str, dict[str, Any]]
ONE_OF_SEVERAL = (
    "pooled_cluster: p has PgBouncer and no server, and the inventory has several clusters: {}. Set"
    " it to the one that p belongs to, best in group_vars of a group for each cluster"
)


def found(
    servers: list[str], poolers: list[str], variables: Variables, **groups: list[str]
) -> DatabaseClusters:
    hosts: Variables = {host: {} for host in (*servers, *poolers)}
    return database_clusters(servers, poolers, {**hosts, **variables}, groups)


def shown(clusters: DatabaseClusters) -> dict[str, tuple[str, str]]:
    return {one.name: (" ".join(one.servers), " ".join(one.poolers)) for one in clusters.clusters}


@pytest.mark.parametrize(
    ("servers", "poolers", "variables", "expected"),
    [
        # One server needs no name.
        (["a"], [], {}, {"a": ("a", "")}),
        (["a"], ["a"], {}, {"a": ("a", "a")}),
        (["a"], ["a", "p", "q"], {}, {"a": ("a", "a p q")}),
        (["a"], ["p"], {"a": {"pooled_cluster": "x"}}, {"x": ("a", "p")}),
        (["a"], ["p"], {"a": {"pooled_cluster": ""}}, {"a": ("a", "p")}),
        (["a"], ["p"], {"a": {"pooled_cluster": None}}, {"a": ("a", "p")}),
        # Also where PgBouncer says that it is before another one.
        (["a"], ["p"], {"p": {"pgbouncer_backend_host": "rds"}}, {"a": ("a", "p")}),
        # Independent servers, with PgBouncer on the same host or without.
        (["a", "b", "c"], ["b", "a"], {}, {"a": ("a", "a"), "b": ("b", "b"), "c": ("c", "")}),
        # By name, which may be that of a server.
        (
            ["a", "b"],
            ["p", "q", "b"],
            {"p": {"pooled_cluster": "b"}, "q": {"pooled_cluster": "a"}},
            {"a": ("a", "q"), "b": ("b", "p b")},
        ),
        (
            ["a", "b"],
            ["q", "p"],
            {
                "a": {"pooled_cluster": "orders"},
                "b": {"pooled_cluster": 7},
                "p": {"pooled_cluster": "orders"},
                "q": {"pooled_cluster": "7"},
            },
            {"orders": ("a", "p"), "7": ("b", "q")},
        ),
        # By what PgBouncer is told of its server.
        (
            ["a", "b"],
            ["p", "q", "r"],
            {
                "b": {"ansible_host": "10.0.0.2"},
                "p": {"pgbouncer_backend_host": "10.0.0.2"},
                "q": {"pgbouncer_backend_host": "b"},
                "r": {"pgbouncer_backend_host": "rds"},
            },
            {"a": ("a", ""), "b": ("b", "p q"), "r": ("", "r")},
        ),
        (
            ["a", "b"],
            ["p"],
            {"b": {"pooled_cluster": "orders"}, "p": {"pgbouncer_backend_host": "b"}},
            {"a": ("a", ""), "orders": ("b", "p")},
        ),
        # The name wins over that.
        (
            ["a", "b"],
            ["p"],
            {"p": {"pgbouncer_backend_host": "b", "pooled_cluster": "a"}},
            {"a": ("a", "p"), "b": ("b", "")},
        ),
        # Without any server.
        ([], [], {}, {}),
        ([], ["p", "q"], {}, {"p": ("", "p q")}),
        ([], ["p", "q"], {"q": {"pooled_cluster": "x"}}, {"x": ("", "p q")}),
        (
            [],
            ["p", "q"],
            {"p": {"pooled_cluster": "x"}, "q": {"pooled_cluster": "y"}},
            {"x": ("", "p"), "y": ("", "q")},
        ),
        # Before a Postgres elsewhere, beside clusters with a server.
        (
            ["a"],
            ["a", "p"],
            {"p": {"pooled_cluster": "x", "pgbouncer_backend_host": "rds"}},
            {"a": ("a", "a"), "x": ("", "p")},
        ),
    ],
)
def test_hosts_that_belong_together(
    servers: list[str],
    poolers: list[str],
    variables: Variables,
    expected: dict[str, tuple[str, str]],
) -> None:
    clusters = found(servers, poolers, variables)
    assert shown(clusters) == expected
    assert clusters.problems == {}


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (["b", "a"], {"a": ("a", ""), "b": ("b", "p")}),
        (["elsewhere", "b"], {"a": ("a", ""), "b": ("b", ""), "p": ("", "p")}),
        (["elsewhere"], {"a": ("a", ""), "b": ("b", ""), "p": ("", "p")}),
        ([], {"a": ("a", ""), "b": ("b", ""), "p": ("", "p")}),
    ],
)
def test_a_group_of_its_own_says_which_server_is_meant(
    group: list[str], expected: dict[str, tuple[str, str]]
) -> None:
    own = {"p": {"pgbouncer_postgres_group": "own"}}
    clusters = found(["a", "b"], ["p"], own, own=group)
    assert shown(clusters) == expected
    assert clusters.problems == {}


def test_pgbouncer_alone_has_to_say_which_of_several_is_meant() -> None:
    clusters = found(["a", "b"], ["p", "a"], {"b": {"pooled_cluster": "orders"}})
    assert clusters.problems == {"p": ONE_OF_SEVERAL.format("a, orders")}
    assert clusters.of("p") is None
    # Nobody else has to do with it.
    assert shown(clusters) == {"a": ("a", "a"), "orders": ("b", "")}


def test_one_of_several_may_be_before_a_postgres_elsewhere() -> None:
    said = {"q": {"pooled_cluster": "x", "pgbouncer_backend_host": "rds"}}
    assert found(["a"], ["p", "q"], said).problems == {"p": ONE_OF_SEVERAL.format("a, x")}


def test_a_cluster_without_a_server_is_most_likely_a_wrong_name() -> None:
    clusters = found(
        ["a"], ["p"], {"a": {"pooled_cluster": "orders"}, "p": {"pooled_cluster": "x"}}
    )
    assert clusters.problems == {
        "p": "pooled_cluster: p is to be in the cluster x, which has no server; the clusters are"
        " orders. Set it to one of them, or set pgbouncer_backend_host as well where Postgres is"
        " not in this inventory"
    }
    assert shown(clusters) == {"orders": ("a", "")}


def test_several_servers_of_a_cluster_are_refused_on_all_its_hosts() -> None:
    said = {host: {"pooled_cluster": "orders"} for host in ("a", "b", "p")}
    clusters = found(["a", "b", "c"], ["p", "c"], said)
    assert set(clusters.problems) == {"a", "b", "p"}
    assert set(clusters.problems.values()) == {
        "pooled_cluster: the servers a, b are all in the cluster orders, and only one server in a"
        " cluster is supported. Give each server a cluster of its own, or leave it out of the group"
        " of servers"
    }
    assert shown(clusters) == {"orders": ("a b", "p"), "c": ("c", "c")}


@pytest.mark.parametrize(
    "value", ["../x", "a b", "-a", ".a", "a\n", "x" * 64, True, ["a"], {"a": 1}, 1.5e300]
)
def test_a_name_that_is_not_valid_is_refused(value: Any) -> None:
    clusters = found(["a", "b"], ["p"], {"a": {"pooled_cluster": value}})
    problem = clusters.problems["a"]
    assert problem.startswith(f"pooled_cluster: {value!r} of a is not a valid name of a cluster;")
    bad = found(["a", "b"], ["p"], {"p": {"pooled_cluster": value}})
    assert bad.problems["p"].startswith(f"pooled_cluster: {value!r} of p is not a valid name")


def placed(clusters: DatabaseClusters, host: str, name: Any = "", *, pooler: bool = False) -> Any:
    cluster, problem = clusters.of_role(host, name, pooler=pooler)
    return cluster.servers, cluster.poolers, problem


def test_a_role_runs_on_a_host_of_the_groups() -> None:
    clusters = found(["a", "b"], ["p", "q"], {"q": {"pooled_cluster": "b"}})
    assert placed(clusters, "a") == (("a",), (), "")
    assert placed(clusters, "q", pooler=True) == (("b",), ("q",), "")
    assert placed(clusters, "p", pooler=True) == ((), ("p",), ONE_OF_SEVERAL.format("a, b"))


def test_a_role_runs_on_a_host_outside_the_groups() -> None:
    none, one = found([], [], {}), found(["a"], ["a", "q"], {})
    several = found(["a", "b"], ["a", "q"], {"q": {"pooled_cluster": "b"}})
    assert placed(none, "x") == (("x",), (), "")
    assert placed(one, "x") == (("x",), ("a", "q"), "")
    assert placed(several, "x") == (("x",), (), "")
    assert placed(several, "x", "b") == (("x",), ("q",), "")
    assert placed(none, "p", pooler=True) == ((), ("p",), "")
    assert placed(one, "p", pooler=True) == (("a",), ("a", "q"), "")
    assert placed(several, "p", "b", pooler=True) == (("b",), ("q",), "")
    assert placed(several, "p", pooler=True) == ((), ("p",), ONE_OF_SEVERAL.format("a, b"))
    _servers, _poolers, problem = placed(several, "p", "c", pooler=True)
    assert problem.startswith("pooled_cluster: p is to be in the cluster c, which has no server;")


def test_a_line_about_a_cluster() -> None:
    assert heading(DatabaseCluster("x", ("a",), ())) == "cluster x: server a"
    assert heading(DatabaseCluster("x", (), ("p", "q"))) == "cluster x: PgBouncer on p, q"
    both = DatabaseCluster("x", ("a",), ("a", "p"))
    assert heading(both) == "cluster x: server a; PgBouncer on a, p"
    assert both.hosts == ("a", "p")


HOSTS = [f"h{number}" for number in range(6)]
SAID = st.fixed_dictionaries(
    {},
    optional={
        "pooled_cluster": st.sampled_from(["x", "y", "h0", "h1", "", "not valid"]),
        "pgbouncer_backend_host": st.sampled_from(["h0", "h1", "rds", ""]),
        "pgbouncer_postgres_group": st.sampled_from(["g", "missing"]),
    },
)
SOME = st.lists(st.sampled_from(HOSTS), unique=True)
INVENTORY = st.tuples(SOME, SOME, st.fixed_dictionaries(dict.fromkeys(HOSTS, SAID)), SOME)


@given(INVENTORY)
def test_each_host_is_in_one_cluster_or_has_a_problem(inventory: Any) -> None:
    servers, poolers, variables, group = inventory
    clusters = database_clusters(servers, poolers, variables, {"g": group})
    assert len({one.name for one in clusters.clusters}) == len(clusters.clusters)
    for host in {*servers, *poolers}:
        homes = [one for one in clusters.clusters if host in one.hosts]
        assert len(homes) == 1 or (not homes and host in clusters.problems)
        # With a server of its own, PgBouncer is before that one.
        if host in servers:
            assert host in homes[0].servers
            assert (host in poolers) == (host in homes[0].poolers)
    for one in clusters.clusters:
        assert one.hosts
        if len(one.servers) > 1:
            assert set(one.hosts) <= set(clusters.problems)


@given(INVENTORY, st.randoms(use_true_random=False))
def test_the_order_of_hosts_decides_nothing_where_servers_are_named(
    inventory: Any, random: Any
) -> None:
    servers, poolers, variables, group = inventory
    # Without any server, the first PgBouncer host gives its name to all.
    if not servers:
        return
    before = database_clusters(servers, poolers, variables, {"g": group})
    mixed = random.sample(servers, len(servers)), random.sample(poolers, len(poolers))
    after = database_clusters(*mixed, variables, {"g": group})
    assert {one.name: set(one.hosts) for one in before.clusters} == {
        one.name: set(one.hosts) for one in after.clusters
    }
    assert set(before.problems) == set(after.problems)


@given(INVENTORY)
def test_what_other_clusters_say_of_themselves_changes_nothing_here(inventory: Any) -> None:
    """A new cluster beside a named one takes nothing from it."""
    servers, poolers, variables, group = inventory
    named = {
        host: {**said, "pooled_cluster": said.get("pooled_cluster") or "x"}
        for host, said in variables.items()
    }
    before = database_clusters(servers, poolers, named, {"g": group})
    new = {"new": {"pooled_cluster": "new"}}
    after = database_clusters([*servers, "new"], [*poolers, "new"], {**named, **new}, {"g": group})
    kept = [one for one in before.clusters if one.servers]
    assert [one for one in after.clusters if one.servers and one.name != "new"] == kept
