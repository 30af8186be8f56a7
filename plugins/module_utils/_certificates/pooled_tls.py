# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What C(pooled_tls: true) means for hosts: who gets a certificate, and who requires TLS of whom.

What somebody has given always wins, and is never completed by half: a certificate that was given is
used with the key that was given.
"""

from __future__ import annotations

import os
from typing import Any, Iterable, Mapping

from ansible_collections.pooled.postgres.plugins.module_utils._certificates.plan import (
    AUTHORITY,
    CERTIFICATE,
    DIRECTORY,
    KEY,
)

_OPTIONS = ("sslmode", "ca_file", "cert_file", "key_file")
_ENCRYPTING = ("prefer", "require", "verify-ca", "verify-full")
_VERIFYING = ("verify-ca", "verify-full")
_TRUE = ("true", "yes", "on", "1", "y", "t")


def path_of(service: str, file: str) -> str:
    """Path of a service's file on its host."""
    return os.path.join(DIRECTORY, service, file)


def is_on(value: Any) -> bool:
    """Whether a variable says yes, also as text of the command line."""
    return value is True or str(value).strip().lower() in _TRUE


def uses_tls(variables: Mapping[str, Any], own: str) -> bool:
    """Whether a host's variables ask for TLS: its role's own one, or else pooled_tls."""
    value = variables.get(own)
    return is_on(variables.get("pooled_tls") if value is None else value)


def of_postgres(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What TLS brings to a server.

    Args:
        variables: C(postgres_tls) or C(pooled_tls) of its host, and C(postgres_settings).

    Returns:
        C(settings), which postgres_settings may still change, and whether C(certificate) is ours.
    """
    if not uses_tls(variables, "postgres_tls"):
        return {"settings": {}, "certificate": False}
    if {"ssl_cert_file", "ssl_key_file"} & set(_mapping(variables.get("postgres_settings"))):
        return {"settings": {"ssl": True}, "certificate": False}
    return {
        "settings": {
            "ssl": True,
            "ssl_cert_file": path_of("postgres", CERTIFICATE),
            "ssl_key_file": path_of("postgres", KEY),
        },
        "certificate": True,
    }


def of_pgbouncer(
    given: Mapping[str, Any],
    *,
    required: bool = True,
    backend: str = "",
    server: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What TLS brings to a PgBouncer that is to have it.

    Args:
        given: its options for TLS by name, as the variables and pgbouncer_settings have them.
        required: whether clients must use TLS.
        backend: where Postgres is; empty is this host, over the unix socket.
        server: variables of the inventory's host that Postgres is on, None for one elsewhere.

    Returns:
        C(options), those that were given among them, whether C(certificate) is ours, and whether
        Postgres is verified by our C(authority).
    """
    asked = {name: value for name, value in given.items() if "_tls_" in name}
    options: dict[str, Any] = {}
    certificate = False
    if asked.get("client_tls_sslmode", "require") not in (None, "disable"):
        options["client_tls_sslmode"] = "require" if required else "prefer"
        certificate = not {"client_tls_cert_file", "client_tls_key_file"} & set(asked)
    if certificate:
        options["client_tls_cert_file"] = path_of("pgbouncer", CERTIFICATE)
        options["client_tls_key_file"] = path_of("pgbouncer", KEY)
    if backend:
        options.update(_to_postgres(asked, server))
    options.update(asked)
    ours = path_of("pgbouncer", AUTHORITY)
    return {
        "options": options,
        "certificate": certificate,
        "authority": options.get("server_tls_ca_file") == ours,
    }


def _to_postgres(asked: Mapping[str, Any], server: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is missing of the options for a Postgres on another host."""
    if "server_tls_ca_file" in asked:
        return {"server_tls_sslmode": "verify-full"}
    ours = server is not None and of_postgres(server)["certificate"]
    if ours and asked.get("server_tls_sslmode", "verify-full") in _VERIFYING:
        return {
            "server_tls_sslmode": "verify-full",
            "server_tls_ca_file": path_of("pgbouncer", AUTHORITY),
        }
    return {"server_tls_sslmode": "require"}


def pgbouncer_options_of(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The options for TLS that a host's variables give its PgBouncer; settings win."""
    names = [f"{side}_tls_{name}" for side in ("client", "server") for name in _OPTIONS]
    found = {name: variables.get(f"pgbouncer_{name}") for name in names}
    settings = _mapping(variables.get("pgbouncer_settings"))
    return {
        **{name: value for name, value in found.items() if value},
        **{name: value for name, value in settings.items() if "_tls_" in name},
    }


def plain_poolers(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """PgBouncer hosts that the inventory does not give TLS to a Postgres elsewhere."""
    return [host for host in hosts if not _encrypts_to_postgres(hostvars[host])]


def _encrypts_to_postgres(variables: Mapping[str, Any]) -> bool:
    given = pgbouncer_options_of(variables)
    if "server_tls_sslmode" in given:
        return given["server_tls_sslmode"] in _ENCRYPTING
    return uses_tls(variables, "pgbouncer_tls")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
