# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS of a real server from settings, and rules that demand it, judged by who can log in."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import asyncpg
import psycopg
import pytest

from .certificates import Authority

PASSWORD = "a-password-of-the-test"
# Stands for another host: the rules for loopback name one address.
ELSEWHERE = "127.0.0.2"
MODEL = [{"name": "mydb", "roles": [{"name": "app_user", "kind": "user"}]}]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("tls") / "ca")
    made.issue("server")
    return made


@pytest.fixture(scope="module")
def cluster(major: int, make_cluster: Callable[[int], Any]) -> Iterator[Any]:
    made = make_cluster(major)
    (made.data / "conf.d").mkdir(mode=0o700)
    if made.user:
        os.chown(made.data / "conf.d", made.user.pw_uid, made.user.pw_gid)
    with (made.data / "postgresql.conf").open("a") as conf:
        conf.write("include_dir = 'conf.d'\n")
    with made.connect() as connection:
        connection.execute("SET password_encryption = 'scram-sha-256'")
        for role in ("app_user", "outsider"):
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("CREATE DATABASE mydb")
    yield made
    made.stop()


@contextmanager
def relay(port: int, source: str) -> Iterator[int]:
    """A port whose one connection goes on to another port, and comes there from an address."""

    def copy(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def serve() -> None:
        client = listener.accept()[0]
        server = socket.create_connection(("127.0.0.1", port), source_address=(source, 0))
        back = threading.Thread(target=copy, args=(server, client))
        back.start()
        copy(client, server)
        back.join()
        client.close()
        server.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


class Server:
    """The modules for the server, and a client of it."""

    def __init__(self, cluster: Any, run_module: Callable[..., dict[str, Any]]) -> None:
        self.cluster = cluster
        self.run_module = run_module

    def settings(self, **settings: Any) -> dict[str, Any]:
        return self.run_module(
            "postgres_settings",
            {
                "settings": settings,
                "version": self.cluster.major,
                "config_directory": str(self.cluster.data),
                "binary_directory": str(self.cluster.bindir),
                "log_file": str(self.cluster.log_path),
                "login_os_user": self.cluster.os_user,
            },
        )

    def hba(self, check: bool = False, **more: Any) -> dict[str, Any]:
        arguments = {"databases": MODEL, "exclusive": "yes", "client_networks": ["127.0.0.0/8"]}
        return self.run_module(
            "postgres_hba", {**self.cluster.login, **arguments, **more}, check=check
        )

    def enters(
        self, sslmode: str, user: str = "app_user", source: str = ELSEWHERE, **more: Any
    ) -> Any:
        """Whether a login went encrypted; what the server says when it refuses."""
        with relay(self.cluster.port, source) as port:
            try:
                with psycopg.connect(
                    host="localhost", hostaddr="127.0.0.1", port=port, user=user,
                    password=PASSWORD, dbname="mydb", sslmode=sslmode, **more,
                ) as connection:  # fmt: skip
                    return bool(connection.pgconn.ssl_in_use)
            except psycopg.OperationalError as error:
                return str(error)


@pytest.fixture
def server(
    cluster: Any, authority: Authority, run_module: Callable[..., dict[str, Any]]
) -> Iterator[Server]:
    """A server that has TLS by its settings."""
    made = Server(cluster, run_module)
    certificate, key = authority.hand_over("server", cluster.data / "own", cluster.user)
    result = made.settings(ssl=True, ssl_cert_file=certificate, ssl_key_file=key)
    assert not result.get("failed"), result["msg"]
    yield made
    (cluster.data / "pg_hba.conf").write_text("local all all trust\n")
    cluster.process.send_signal(signal.SIGHUP)


def test_clients_verify_the_server_whose_certificate_the_settings_name(server, authority):
    server.hba()
    assert server.enters("verify-full", sslrootcert=authority.certificate) is True
    assert server.enters("disable") is False


def test_roles_of_the_model_need_tls_from_elsewhere(server):
    predicted = server.hba(check=True, require_tls=True)
    done = server.hba(require_tls=True)
    assert (predicted["rules"], predicted["diff"]) == (done["rules"], done["diff"])
    assert server.hba(require_tls=True)["changed"] is False
    assert server.enters("require") is True
    refusal = server.enters("disable")
    assert "pg_hba.conf rejects connection for host" in refusal
    # On this host nobody is in between.
    assert server.enters("disable", source="127.0.0.1") is False
    server.hba(require_tls=True, require_tls_on_loopback=True)
    assert server.enters("require", source="127.0.0.1") is True
    assert "rejects connection" in server.enters("disable", source="127.0.0.1")


def test_who_comes_without_tls_gets_the_code_of_a_login_that_is_not_allowed(server):
    server.hba(require_tls=True)
    with relay(server.cluster.port, ELSEWHERE) as port:
        login = {"user": "app_user", "password": PASSWORD, "database": "mydb", "ssl": False}
        with pytest.raises(asyncpg.PostgresError) as refusal:
            asyncio.run(asyncpg.connect(host="127.0.0.1", port=port, **login))
    assert refusal.value.sqlstate == "28000"


def test_no_other_line_lets_the_models_roles_in_without_tls(server):
    everybody = {"database": "all", "user": "all", "address": "all"}
    server.hba(require_tls=True, rules=[everybody])
    assert "pg_hba.conf rejects" in server.enters("disable")
    assert server.enters("disable", user="outsider") is False
    server.hba(rules=[everybody])
    assert server.enters("disable") is False


def test_tls_can_not_be_required_of_a_server_that_has_none(server):
    server.hba()
    before = (server.cluster.data / "pg_hba.conf").read_text()
    server.settings(ssl=False)
    result = server.hba(require_tls=True)
    assert result["msg"] == (
        "require_tls: the server has ssl turned off, so nobody could log in from elsewhere; turn it"
        " on, with postgres_settings: {ssl: true, ssl_cert_file: ..., ssl_key_file: ...}"
    )
    assert (server.cluster.data / "pg_hba.conf").read_text() == before
    assert server.hba(require_tls=True, check=True)["changed"] is True
