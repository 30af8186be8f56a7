# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where clients find what was deployed, out of the variables of an inventory."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.pooled.postgres.plugins.module_utils._certificates import (
    pooled_tls,
)
from ansible_collections.pooled.postgres.plugins.module_utils._certificates.plan import (
    CLIENT_CA_CERT,
)


def client_endpoints(
    poolers: Sequence[Mapping[str, Any]],
    hostvars: Mapping[str, Mapping[str, Any]],
    postgres_hosts: Sequence[str] = (),
) -> dict[str, Any]:
    """Where clients find Postgres and PgBouncer: addresses, ports, TLS and versions.

    Args:
        poolers: the PgBouncer hosts, as the connection budget has them.
        hostvars: the variables of all hosts.
        postgres_hosts: names of the servers, of which the first is meant; without any it is the one
            behind the first PgBouncer.

    Raises:
        ValueError: when there is no host at all, or clients are to verify what has no certificate.
    """
    entries = [_pooler(pooler, hostvars[pooler["name"]]) for pooler in poolers]
    if postgres_hosts:
        server = _server(postgres_hosts[0], hostvars[postgres_hosts[0]])
    elif poolers:
        server = _server_behind(poolers[0]["name"], hostvars[poolers[0]["name"]])
    else:
        raise ValueError("client_endpoints: there is neither a Postgres nor a PgBouncer host")
    return {"server": server, "poolers": entries}


def _server(host: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    # Where it answers now: a new port may wait for a restart.
    found = variables.get("__postgres_configuration") or {}
    return {
        "host": _address(host, variables, "postgres_client_address"),
        "port": found.get("port") or variables.get("postgres_port") or 5432,
        **_verified(
            variables.get("postgres_client_ca_cert")
            or (pooled_tls.of_postgres(variables)["certificate"] and _authority(variables))
        ),
    }


def _server_behind(host: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The server of others behind a PgBouncer host."""
    address = variables.get("postgres_client_address") or variables.get("pgbouncer_backend_host")
    return {
        "host": address or _address(host, variables, "pgbouncer_client_address"),
        "port": variables.get("pgbouncer_backend_port") or 5432,
        **_verified(variables.get("postgres_client_ca_cert")),
    }


def _pooler(pooler: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    host = pooler["name"]
    settings = variables.get("pgbouncer_settings") or {}

    def option(name: str, default: Any) -> Any:
        value = settings.get(name)
        return value if value is not None else variables.get(f"pgbouncer_{name}", default)

    entry = {
        **{key: pooler[key] for key in ("processes", "databases", "users") if key in pooler},
        "default_pool_size": pooler.get("default_pool_size", 25),
        "host": _address(host, variables, "pgbouncer_client_address"),
        "port": option("listen_port", 6432),
    }
    version = _version(variables)
    if version:
        entry["version"] = version
        entry["max_prepared_statements"] = option("max_prepared_statements", 200)
    tls: Mapping[str, Any] = {"options": {}, "certificate": False}
    if pooled_tls.uses_tls(variables, "pgbouncer_tls"):
        tls = pooled_tls.of_pgbouncer(
            pooled_tls.pgbouncer_options_of(variables),
            required=pooled_tls.is_on(variables.get("pooled_tls_require", True)),
        )
    mode = option("client_tls_sslmode", "") or tls["options"].get("client_tls_sslmode") or ""
    authorities = variables.get("pgbouncer_client_ca_cert") or (
        tls["certificate"] and _authority(variables)
    )
    if authorities and mode in ("", "disable"):
        raise ValueError(
            f"{host}: pgbouncer_client_ca_cert: PgBouncer has no certificate to verify; set"
            " pgbouncer_client_tls_sslmode, or leave it out"
        )
    if authorities:
        entry.update(_verified(authorities))
    elif mode not in ("", "disable", "allow", "prefer"):
        entry["ssl_mode"] = "require"
    return entry


def _version(variables: Mapping[str, Any]) -> str:
    """That of the PgBouncer that a run has just set up or looked at; empty when none has."""
    configured = variables.get("__pgbouncer_configuration") or {}
    if configured.get("version"):
        return str(configured["version"])
    looked_at = (variables.get("__pgbouncer_host") or {}).get("pgbouncer") or {}
    return str(looked_at.get("version") or "")


def _authority(variables: Mapping[str, Any]) -> str:
    """Where clients have the certificate of our authority."""
    return str(variables.get("pooled_tls_client_ca_cert") or CLIENT_CA_CERT)


def _verified(authorities: Any) -> dict[str, str]:
    return {"ssl_mode": "verify-full", "ca_cert": str(authorities)} if authorities else {}


def _address(host: str, variables: Mapping[str, Any], own: str) -> str:
    return str(variables.get(own) or variables.get("ansible_host") or host)
