# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where clients find what was deployed, and the file that says so."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from ansible_collections.pooled.postgres.plugins.filter.client_endpoints import client_endpoints
from ansible_collections.pooled.postgres.plugins.filter.client_settings import client_settings
from ansible_collections.pooled.postgres.plugins.filter.client_settings_text import (
    client_settings_text,
)

MODEL = [
    {
        "name": "mydb",
        "aliases": [{"name": "mydb_session", "pool_mode": "session", "pool_size": 5}],
        "roles": [
            {"name": "app_user", "kind": "user"},
            {"name": "app_migrator", "kind": "migrator"},
        ],
        "clients": [
            {"name": "api", "role": "app_user", "pool_size": 20, "max_overflow": 10},
            {"name": "lock", "role": "app_user", "alias": "mydb_session", "pool_size": 2,
             "max_overflow": 0},
        ],
    }
]  # fmt: skip


def pooler(variables: dict[str, Any], **sizes: Any) -> dict[str, Any]:
    (found,) = client_endpoints([{"name": "p", **sizes}], {"p": variables})["poolers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {"host": "p", "port": 6432}),
        ({"ansible_host": "10.0.0.1"}, {"host": "10.0.0.1"}),
        ({"ansible_host": "10.0.0.1", "pgbouncer_client_address": "pool"}, {"host": "pool"}),
        ({"pgbouncer_listen_port": 7000}, {"port": 7000}),
        (
            {"pgbouncer_listen_port": 7000, "pgbouncer_settings": {"listen_port": 7001}},
            {"port": 7001},
        ),
        ({"__pgbouncer_host": {"pgbouncer": {"version": "1.18.0"}}}, {"version": "1.18.0"}),
        (
            {
                "__pgbouncer_configuration": {"version": "1.24.1"},
                "__pgbouncer_host": {"pgbouncer": {"installed": False}},
                "pgbouncer_settings": {"max_prepared_statements": 0},
            },
            {"version": "1.24.1", "max_prepared_statements": 0},
        ),
        ({"pgbouncer_client_tls_sslmode": "require"}, {"ssl_mode": "require"}),
        ({"pgbouncer_client_tls_sslmode": "prefer"}, {"ssl_mode": None}),
        (
            {"pgbouncer_client_tls_sslmode": "require", "pgbouncer_client_ca_cert": "/ca"},
            {"ssl_mode": "verify-full", "ca_cert": "/ca"},
        ),
    ],
)
def test_a_pooler_is_found(variables: dict[str, Any], expected: dict[str, Any]) -> None:
    found = pooler(variables)
    assert {key: found.get(key) for key in expected} == expected


def test_a_certificate_that_nobody_shows_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="p: pgbouncer_client_ca_cert: PgBouncer has no"):
        pooler({"pgbouncer_client_ca_cert": "/ca"})


@pytest.mark.parametrize(
    ("hosts", "variables", "expected"),
    [
        (["db"], {"db": {}}, {"host": "db", "port": 5432}),
        (
            ["db"],
            {"db": {"postgres_port": 5433, "__postgres_configuration": {"port": 5432}}},
            {"host": "db", "port": 5432},
        ),
        (
            ["db"],
            {"db": {"postgres_client_address": "x", "postgres_client_ca_cert": "/ca"}},
            {"host": "x", "port": 5432, "ssl_mode": "verify-full", "ca_cert": "/ca"},
        ),
        ([], {"p": {"pgbouncer_backend_host": "rds"}}, {"host": "rds", "port": 5432}),
        ([], {"p": {}}, {"host": "p", "port": 5432}),
    ],
)
def test_the_server_is_found(
    hosts: list[str], variables: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert client_endpoints([{"name": "p"}], {"p": {}, **variables}, hosts)["server"] == expected


def test_the_text_is_yaml_with_readable_code() -> None:
    found = client_endpoints([{"name": "p"}], {"p": {}, "db": {}}, ["db"])
    settings = client_settings(MODEL, found["server"], found["poolers"])
    text = client_settings_text(settings)
    assert isinstance(text, str)
    read = yaml.safe_load(text)
    assert [entry["client"] for entry in read] == ["api", "lock", "app_migrator"]
    assert read[2]["code"]["asyncpg"] == settings[2]["code"]["asyncpg"]
    assert "      from alembic import context\n" in text
    assert text == client_settings_text(settings)


def test_a_client_of_an_alias_connects_there_and_is_measured_by_its_pool() -> None:
    found = client_endpoints([{"name": "p"}], {"p": {}, "db": {}}, ["db"])
    lines = client_settings_text(client_settings(MODEL, found["server"], found["poolers"]), True)
    assert lines == [
        "  api           as app_user      postgresql://app_user@p:6432/mydb",
        "    Warning: each process of api may hold 30 connections, and PgBouncer serves app_user"
        " through 25: more than 25 transactions at once wait there; lower pool_size +"
        " max_overflow, or raise the pool",
        "  lock          as app_user      postgresql://app_user@p:6432/mydb_session",
        "  app_migrator  as app_migrator  postgresql://app_migrator@db:5432/mydb",
    ]


VERIFIED = {"ssl_mode": "verify-full", "ca_cert": "/etc/ssl/certs/pooled-clients.crt"}
OWN = {"pgbouncer_client_tls_cert_file": "/x.crt", "pgbouncer_client_tls_key_file": "/x.key"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, VERIFIED),
        ({"pooled_tls_require": False}, VERIFIED),
        ({"pooled_tls_client_ca_cert": "/ca"}, {"ssl_mode": "verify-full", "ca_cert": "/ca"}),
        ({"pgbouncer_client_ca_cert": "/own"}, {"ssl_mode": "verify-full", "ca_cert": "/own"}),
        (OWN, {"ssl_mode": "require"}),
        ({**OWN, "pooled_tls_require": False}, {}),
        ({**OWN, "pgbouncer_client_ca_cert": "/own"},
         {"ssl_mode": "verify-full", "ca_cert": "/own"}),
        ({"pgbouncer_client_tls_sslmode": "disable"}, {}),
        ({"pgbouncer_tls": False}, {}),
    ],
)  # fmt: skip
def test_clients_verify_the_certificates_that_pooled_tls_makes(
    variables: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = pooler({"pooled_tls": True, **variables})
    assert {key: found[key] for key in ("ssl_mode", "ca_cert") if key in found} == expected


def test_clients_verify_a_server_by_the_authority_of_its_certificate() -> None:
    def server(**variables: Any) -> dict[str, Any]:
        hostvars = {"p": {}, "db": {"pooled_tls": True, **variables}}
        found = client_endpoints([{"name": "p"}], hostvars, ["db"])["server"]
        return {key: found[key] for key in ("ssl_mode", "ca_cert") if key in found}

    assert server() == VERIFIED
    assert server(postgres_settings={"ssl_cert_file": "/x.crt", "ssl_key_file": "/x.key"}) == {}
    assert server(postgres_client_ca_cert="/own")["ca_cert"] == "/own"
    assert server(postgres_tls=False) == {}
