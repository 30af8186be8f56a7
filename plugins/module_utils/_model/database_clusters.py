# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers and PgBouncer hosts of an inventory belong together: C(pooled_cluster).

A database cluster here is a server with the PgBouncer hosts before it. What Debian's tools call a
cluster, a server of some major on one host, is in C(_server/cluster.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VARIABLE = "pooled_cluster"
# Names are parts of files' names and values of labels.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


@dataclass(frozen=True)
class DatabaseCluster:
    """Hosts that belong together, in the order of their groups."""

    name: str
    servers: tuple[str, ...]
    poolers: tuple[str, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((*self.servers, *self.poolers)))


@dataclass(frozen=True)
class DatabaseClusters:
    """All clusters of an inventory, and by host what is wrong with what it says."""

    clusters: tuple[DatabaseCluster, ...]
    problems: Mapping[str, str]

    def of(self, host: str) -> DatabaseCluster | None:
        """That of a host, None when it has none."""
        return next((one for one in self.clusters if host in one.hosts), None)

    def of_role(self, host: str, given: Any, *, pooler: bool) -> tuple[DatabaseCluster, str]:
        """That of a host that a role runs on, and what is wrong with it; empty when nothing is.

        The host need not be in the groups: then it is in the cluster that it names, or in the only
        one there is. A server in neither is a cluster of its own.

        Args:
            host: its name in the inventory.
            given: C(pooled_cluster) of a host outside the groups.
            pooler: whether the role is PgBouncer's, which needs a server.
        """
        found, problem = self.of(host), self.problems.get(host, "")
        if found or problem:
            return found or DatabaseCluster("", (), (host,)), problem
        named = [one for one in self.clusters if one.name == str(given)] if given else self.clusters
        if len(named) == 1:
            (found,) = named
        if not pooler:
            # Its name is nobody's business but its own, and its PgBouncer hosts are known or not.
            return DatabaseCluster(host, (host,), found.poolers if found else ()), ""
        if found or not self.clusters:
            return found or DatabaseCluster(host, (), (host,)), ""
        names = [one.name for one in self.clusters]
        problem = _without_server(host, str(given), names) if given else _ambiguous(host, names)
        return DatabaseCluster("", (), (host,)), problem


def database_clusters(
    servers: Sequence[str],
    poolers: Sequence[str],
    variables: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
) -> DatabaseClusters:
    """Put the hosts of the two groups together.

    Args:
        servers: hosts with Postgres.
        poolers: hosts with PgBouncer; the same ones, others, or none.
        variables: those of each host. Of hosts with PgBouncer alone, what they say of the server
            behind them is read as well, where it decides.
        groups: the inventory's groups.
    """
    problems: dict[str, str] = {}
    said = {
        host: _said(host, variables[host], problems) for host in dict.fromkeys((*servers, *poolers))
    }
    members: dict[str, tuple[list[str], list[str]]] = {}
    for server in servers:
        members.setdefault(said[server] or server, ([], []))[0].append(server)
    of_servers = tuple(members)

    alone = [pooler for pooler in poolers if pooler not in servers]
    placed: dict[str, str] = {}
    for pooler in alone:
        name = said[pooler]
        if not name:
            continue
        if of_servers and name not in of_servers and not _names_a_server(variables[pooler]):
            problems[pooler] = _without_server(pooler, name, of_servers)
        else:
            placed[pooler] = name
    names = tuple(dict.fromkeys((*of_servers, *placed.values())))
    for pooler in alone:
        if said[pooler] or pooler in problems:
            continue
        if len(names) <= 1:
            # Without any server too: PgBouncer before a Postgres elsewhere.
            placed[pooler] = names[0] if names else alone[0]
        elif _names_a_server(variables[pooler]):
            behind = _server_behind(variables[pooler], servers, variables, groups)
            placed[pooler] = (said[behind] or behind) if behind else pooler
        else:
            problems[pooler] = _ambiguous(pooler, names)

    placed.update({server: said[server] or server for server in servers})
    for pooler in poolers:
        if pooler in placed:
            members.setdefault(placed[pooler], ([], []))[1].append(pooler)
    clusters = tuple(
        DatabaseCluster(name, tuple(some), tuple(others))
        for name, (some, others) in members.items()
    )
    for cluster in clusters:
        if len(cluster.servers) > 1:
            for host in cluster.hosts:
                problems.setdefault(host, _several_servers(cluster))
    return DatabaseClusters(clusters, problems)


def _ambiguous(pooler: str, names: Iterable[str]) -> str:
    return (
        f"{VARIABLE}: {pooler} has PgBouncer and no server, and the inventory has several clusters:"
        f" {', '.join(names)}. Set it to the one that {pooler} belongs to, best in group_vars of a"
        " group for each cluster"
    )


def _without_server(pooler: str, name: str, names: Iterable[str]) -> str:
    return (
        f"{VARIABLE}: {pooler} is to be in the cluster {name}, which has no server; the clusters"
        f" are {', '.join(names)}. Set it to one of them, or set pgbouncer_backend_host as well"
        " where Postgres is not in this inventory"
    )


def _several_servers(cluster: DatabaseCluster) -> str:
    return (
        f"{VARIABLE}: the servers {', '.join(cluster.servers)} are all in the cluster"
        f" {cluster.name}, and only one server in a cluster is supported. Give each server a"
        " cluster of its own, or leave it out of the group of servers"
    )


def _said(host: str, variables: Mapping[str, Any], problems: dict[str, str]) -> str:
    """The name that a host gives its cluster; empty for none and for one that is not valid."""
    value = variables.get(VARIABLE)
    if value is None or value == "":
        return ""
    text = "" if isinstance(value, (bool, Mapping, list, tuple)) else str(value)
    if not _NAME.match(text):
        problems[host] = (
            f"{VARIABLE}: {value!r} of {host} is not a valid name of a cluster; valid are up to 63"
            " letters, digits, dots, hyphens and underscores, the first one a letter or a digit"
        )
        return ""
    return text


def _names_a_server(variables: Mapping[str, Any]) -> bool:
    return "pgbouncer_backend_host" in variables or "pgbouncer_postgres_group" in variables


def _server_behind(
    pooler: Mapping[str, Any],
    servers: Sequence[str],
    variables: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
) -> str | None:
    """The server that the variables of a PgBouncer host name; None for one that is elsewhere."""
    if "pgbouncer_backend_host" in pooler:
        address = pooler["pgbouncer_backend_host"]
        return next(
            (one for one in servers if address in (one, variables[one].get("ansible_host"))), None
        )
    hosts = groups.get(pooler["pgbouncer_postgres_group"]) or ()
    return next((one for one in hosts[:1] if one in servers), None)


def heading(cluster: DatabaseCluster) -> str:
    """A cluster in a line, for reports about several."""
    parts = [
        f"{what} {', '.join(hosts)}"
        for what, hosts in (("server", cluster.servers), ("PgBouncer on", cluster.poolers))
        if hosts
    ]
    return f"cluster {cluster.name}: {'; '.join(parts)}"
