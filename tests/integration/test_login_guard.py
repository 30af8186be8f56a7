# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody who answers in the server's place gets no password, and the server's own logins work.

Each with libpq as it is, which refuses by itself, and as if it were the one of Debian 12, which
does not: the same library then does what it is told by the relay alone.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._sql import (
    connection as sql_connection,
)

from .certificates import Authority
from .clusters import INSTALLED, PATIENCE_S, Cluster

PASSWORD = "hunter2 of the test"
OK = b"R" + struct.pack("!ii", 8, 0)
CLEAR = b"R" + struct.pack("!ii", 8, 3)
MD5 = b"R" + struct.pack("!ii4s", 12, 5, b"salt")
SCRAM = b"R" + struct.pack("!ii", 23, 10) + b"SCRAM-SHA-256\0\0"
READY = b"K" + struct.pack("!iii", 12, 1, 2) + b"Z" + struct.pack("!ic", 5, b"I")


@pytest.fixture(params=[True, False], ids=["own libpq", "libpq 15"])
def old_libpq(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(sql_connection.psycopg2.extensions, "libpq_version", lambda: 150014)
    return not request.param


def params(port: int, **more: Any) -> dict[str, Any]:
    return {
        "login_host": "127.0.0.1",
        "login_unix_socket": "",
        "login_port": port,
        "login_user": "admin",
        "login_password": PASSWORD,
        "login_os_user": "",
        "login_db": "postgres",
        "ssl_mode": "prefer",
        "ca_cert": None,
        "ssl_cert": None,
        "ssl_key": None,
        "connect_params": {},
        **more,
    }


@contextmanager
def impostor(answers: bytes, certificate: tuple[str, str] | None = None) -> Iterator[Any]:
    """A server that answers so to whoever logs in; yields its port and what it was sent."""
    sent = bytearray()

    def serve(client: socket.socket) -> None:
        with suppress(OSError), client:
            client.settimeout(5)
            first = client.recv(65536)
            if first[4:8] == struct.pack("!i", 80877103):
                if certificate:
                    client.sendall(b"S")
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(*certificate)
                    client = context.wrap_socket(client, server_side=True)
                else:
                    client.sendall(b"N")
                client.recv(65536)
            client.sendall(answers)
            while data := client.recv(65536):
                sent.extend(data)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], sent
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("guard") / "ca")
    made.issue("server")
    return made


# What somebody in the server's place asks for, and what is said of it.
ASKED = [
    (CLEAR, "asked for the password in clear text"),
    (MD5, "asked for an MD5 hash of the password"),
    (OK + READY, "let us in without asking for the password"),
    (SCRAM + CLEAR, "asked for the password in clear text"),
]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(("asked", "said"), ASKED, ids=["clear", "md5", "ok", "scram+clear"])
def test_an_impostor_gets_nothing(
    old_libpq: bool, authority: Authority, asked: bytes, said: str, tls: bool
) -> None:
    folder = authority.directory
    pair = (str(folder / "server.crt"), str(folder / "server.key")) if tls else None
    mode = "require" if tls else "prefer"
    with impostor(asked, pair) as (port, sent):
        arguments = params(port, ssl_mode=mode, connect_params={"connect_timeout": 2})
        with pytest.raises(sql_connection.ConnectionFailed, match=said):
            sql_connection.connect(arguments)
        assert sql_connection.password_works(arguments, "app_user", PASSWORD, "mydb") is not True
        assert b"hunter2" not in sent
        assert b"md5" not in sent


# Ways to the network, or to a password, that are not login_host and login_password.
def other_ways(passfile: Path) -> dict[str, dict[str, Any]]:
    passfile.write_text(f"*:*:*:*:{PASSWORD}\n")
    passfile.chmod(0o600)
    found = {"login_password": None, "connect_params": {"passfile": str(passfile)}}
    socket_only = {"login_host": "", "login_unix_socket": "/nowhere"}
    return {
        "passfile": found,
        "hostaddr": {**socket_only, "connect_params": {"hostaddr": "127.0.0.1"}},
        "both": {**socket_only, **found,
                 "connect_params": {"hostaddr": "127.0.0.1", "passfile": str(passfile)}},
        "several": {"login_host": "/nowhere,127.0.0.1"},
    }  # fmt: skip


@pytest.mark.parametrize("way", ["passfile", "hostaddr", "both", "several"])
@pytest.mark.parametrize("asked", [CLEAR, MD5], ids=["clear", "md5"])
def test_no_other_way_leads_around_it(
    old_libpq: bool, tmp_path: Path, asked: bytes, way: str
) -> None:
    with impostor(asked) as (port, sent):
        arguments = params(port, **other_ways(tmp_path / "passfile")[way])
        with pytest.raises(sql_connection.ConnectionFailed):
            sql_connection.connect(arguments)
        time.sleep(0.1)
        assert b"hunter2" not in sent
        assert b"md5" not in sent


def test_what_is_asked_for_is_sent_when_it_is_allowed(old_libpq: bool) -> None:
    """The impostor works: without the guard it gets the password."""
    with impostor(CLEAR + OK + READY) as (port, sent):
        arguments = params(port, connect_params={"require_auth": "password", "connect_timeout": 2})
        with suppress(sql_connection.ConnectionFailed, sql_connection.psycopg2.Error):
            sql_connection.connect(arguments).close()
        deadline = time.monotonic() + PATIENCE_S
        while b"hunter2" not in sent and time.monotonic() < deadline:
            time.sleep(0.02)
        assert b"hunter2" in sent


@pytest.fixture(scope="module")
def server(make_cluster: Callable[[int], Cluster], authority: Authority) -> Iterator[Cluster]:
    cluster = make_cluster(max(INSTALLED))
    target = cluster.data / "server"
    authority.hand_over("server", target, cluster.user)
    with (cluster.data / "postgresql.conf").open("a") as conf:
        conf.write("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n")
    rules = cluster.data / "pg_hba.conf"
    rules.write_text(
        "local all all trust\nhost all trusted all trust\nhostssl all plain all password\n"
        "hostnossl all no_tls all scram-sha-256\nhost all no_tls all reject\n"
        "host all old all md5\nhost all all all scram-sha-256\n"
    )
    cluster.restart()
    with cluster.connect() as connection:
        for name in ("admin", "app_user", "trusted", "plain", "no_tls"):
            connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("SET password_encryption = 'md5'")
        connection.execute(f"CREATE ROLE old LOGIN PASSWORD '{PASSWORD}'")
    yield cluster
    cluster.stop()


def encrypted(connection: Any) -> bool:
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    return bool(sql_connection.fetch(connection, query)[0].ssl)


@pytest.mark.parametrize(
    ("mode", "tls"), [("disable", False), ("allow", None), ("prefer", True), ("require", True)]
)
def test_a_server_that_asks_with_scram(
    old_libpq: bool, server: Cluster, mode: str, tls: bool | None
) -> None:
    arguments = params(server.port, ssl_mode=mode)
    connection = sql_connection.connect(arguments)
    try:
        assert tls is None or encrypted(connection) is tls
        # More than fits into what lies between, both ways at once.
        text = "x" * 3_000_000
        query = "SELECT %(text)s AS text, repeat('y', 3000000) AS more FROM generate_series(1, 3)"
        rows = sql_connection.fetch(connection, query, {"text": text})
        assert [(len(row.text), len(row.more)) for row in rows] == [(3_000_000, 3_000_000)] * 3
    finally:
        connection.close()
    assert sql_connection.password_works(arguments, "app_user", PASSWORD, "postgres") is True
    assert sql_connection.password_works(arguments, "app_user", "another", "postgres") is False
    with pytest.raises(sql_connection.ConnectionFailed, match="password authentication failed"):
        sql_connection.connect({**arguments, "login_password": "another"})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"login_user": "old"},
            r"role 'old' a SCRAM password .*{require_auth: 'scram-sha-256,md5'",
        ),
        ({"login_user": "plain"}, "Set ssl_mode to verify-full"),
        ({"login_user": "trusted"}, "Leave login_password out"),
        (
            {"connect_params": {"require_auth": "scram"}},
            "is not a list of gss, md5, none, password",
        ),
        ({"login_port": 1}, "refused"),
        ({"ssl_mode": "verify-full", "ca_cert": "/nowhere"}, "root certificate file"),
    ],
    ids=["md5", "clear", "trust", "nonsense", "nobody", "unverified"],
)
def test_what_is_refused_says_what_to_set(
    old_libpq: bool, server: Cluster, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(sql_connection.ConnectionFailed, match=said) as error:
        sql_connection.connect({**params(server.port), **more})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("user", "more"),
    [
        ("old", {"connect_params": {"require_auth": "scram-sha-256,md5"}}),
        ("plain", {"ssl_mode": "verify-full"}),
        ("plain", {"ssl_mode": "require"}),
        ("trusted", {"login_password": None}),
        ("trusted", {"connect_params": {"require_auth": "none"}}),
        ("no_tls", {"ssl_mode": "disable"}),
    ],
)
def test_what_is_allowed_works(
    old_libpq: bool, server: Cluster, authority: Authority, user: str, more: dict[str, Any]
) -> None:
    verifies = {"ca_cert": authority.certificate} if "ssl_mode" in more else {}
    arguments = {**params(server.port), "login_user": user, "login_host": "localhost"}
    connection = sql_connection.connect({**arguments, **verifies, **more})
    assert sql_connection.fetch(connection, "SELECT current_user AS me")[0].me == user
    connection.close()


def test_nothing_is_left_behind(
    old_libpq: bool, server: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    connection = sql_connection.connect(params(server.port))
    assert os.listdir(tmp_path) == []
    connection.close()
    with pytest.raises(sql_connection.ConnectionFailed):
        sql_connection.connect(params(server.port, login_user="old"))
    with pytest.raises(sql_connection.ConnectionFailed):
        sql_connection.connect(params(server.port, connect_params={"no_such_parameter": "x"}))
    assert os.listdir(tmp_path) == []
