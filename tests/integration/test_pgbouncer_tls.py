# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS on both sides of PgBouncer, with certificates of an authority made here."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from .certificates import Authority
from .poolers import PASSWORD, Pooler


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "stranger")


def client_tls(pooler: Pooler, authority: Authority, mode: str = "require") -> dict[str, str]:
    """Options with which PgBouncer shows clients a certificate of the authority."""
    authority.issue("server")
    certificate, key = authority.hand_over(
        "server", pooler.home / "etc" / "server", pooler.cluster.user
    )
    readable = pooler.home / "etc" / "ca.crt"
    readable.write_text(Path(authority.certificate).read_text())
    return {
        "client_tls_sslmode": mode,
        "client_tls_cert_file": certificate,
        "client_tls_key_file": key,
        "client_tls_ca_file": str(readable),
    }


def ask(pooler: Pooler, statement: str = "SELECT 1", **more: Any) -> Any:
    """A value that a client of the pool gets over TCP, with TLS options of its own."""
    with psycopg.connect(
        host="localhost", hostaddr="127.0.0.1", port=pooler.port, user="app_user",
        password=PASSWORD, dbname="mydb", prepare_threshold=None, **more,
    ) as connection:  # fmt: skip
        return connection.execute(statement.encode()).fetchone()[0]


def served(pooler: Pooler) -> str:
    """Serial number of the certificate that PgBouncer shows."""
    shown = subprocess.run(
        ["openssl", "s_client", "-starttls", "postgres", "-connect", f"127.0.0.1:{pooler.port}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    return serial(shown)


def serial(pem: str) -> str:
    return subprocess.run(
        ["openssl", "x509", "-noout", "-serial"],
        input=pem, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


def test_clients_can_verify_pgbouncer_and_plain_ones_are_refused(pooler, authority, stranger):
    pooler.configure()
    before = pooler.pid
    options = client_tls(pooler, authority)
    assert pooler.predicted_and_done(options=options) == ["RELOAD"]
    assert pooler.pid == before
    verified = {"sslmode": "verify-full", "sslrootcert": authority.certificate}
    assert ask(pooler, **verified) == 1
    with pytest.raises(psycopg.OperationalError, match="SSL required"):
        ask(pooler, sslmode="disable")
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        ask(pooler, sslmode="verify-full", sslrootcert=stranger.certificate)
    assert pooler.predicted_and_done() == ["RELOAD"]
    assert ask(pooler, sslmode="disable") == 1


def test_clients_without_a_certificate_can_be_refused(pooler, authority, stranger):
    options = client_tls(pooler, authority, "verify-ca")
    pooler.predicted_and_done(options=options)
    verified = {"sslmode": "verify-full", "sslrootcert": authority.certificate}
    for made_by in (authority, stranger):
        made_by.issue("client", subject="app_user")
    own = {kind: str(authority.directory / f"client.{end}") for kind, end in PAIR}
    others = {kind: str(stranger.directory / f"client.{end}") for kind, end in PAIR}
    assert ask(pooler, **verified, **own) == 1
    with pytest.raises(psycopg.OperationalError):
        ask(pooler, **verified)
    with pytest.raises(psycopg.OperationalError):
        ask(pooler, **verified, **others)


PAIR = (("sslcert", "crt"), ("sslkey", "key"))


def test_a_renewed_certificate_is_reloaded_and_seen_to_be_served(pooler, authority):
    options = client_tls(pooler, authority)
    pooler.configure(options=options)
    before, pid = served(pooler), pooler.pid
    options = client_tls(pooler, authority)
    assert pooler.predicted_and_done(options=options) == ["RELOAD"]
    renewed = serial((pooler.home / "etc" / "server.crt").read_text())
    assert before != served(pooler) == renewed
    assert pooler.pid == pid
    assert ask(pooler, sslmode="verify-full", sslrootcert=authority.certificate) == 1


def test_a_certificate_that_was_not_taken_over_is_noticed(pooler, authority):
    options = client_tls(pooler, authority)
    pooler.configure(options=options)
    good = served(pooler)
    # Somebody's RELOAD while the files did not belong together left the old one in force.
    note = pooler.ini.read_text()
    authority.issue("other")
    authority.hand_over("other", pooler.home / "etc" / "other", pooler.cluster.user)
    pooler.ini.write_text(note.replace("etc/server.", "etc/other."))
    with pooler.console() as cursor:
        cursor.execute("RELOAD")
    assert served(pooler) != good
    pooler.ini.write_text(note)
    (pooler.home / "etc" / "server.key").rename(pooler.home / "etc" / "away.key")
    # Newer ones tell that it failed.
    with pooler.console() as cursor, suppress(psycopg.Error):
        cursor.execute("RELOAD")
    assert served(pooler) != good
    (pooler.home / "etc" / "away.key").rename(pooler.home / "etc" / "server.key")
    assert pooler.shows("client_tls_cert_file").endswith("/server.crt")
    assert pooler.predicted_and_done(options=options) == ["RELOAD"]
    assert served(pooler) == good


def broken_files(
    authority: Authority,
) -> Iterator[tuple[Callable[[Path, dict[str, str]], Any], str]]:
    """What somebody does to the files, and what the run says."""

    def unreadable(etc: Path, options: dict[str, str]) -> None:
        os.chown(etc / "server.key", 0, 0)

    def other_key(etc: Path, options: dict[str, str]) -> None:
        authority.issue("other")
        (etc / "server.key").write_bytes((authority.directory / "other.key").read_bytes())

    def expired(etc: Path, options: dict[str, str]) -> None:
        authority.issue("server", days=-1)
        authority.hand_over("server", etc / "server", None)
        for name in ("server.crt", "server.key"):
            (etc / name).chmod(0o644)

    def not_pem(etc: Path, options: dict[str, str]) -> None:
        (etc / "server.crt").write_text("hello\n")

    def no_authority(etc: Path, options: dict[str, str]) -> None:
        (etc / "ca.crt").write_text("hello\n")

    def locked(etc: Path, options: dict[str, str]) -> None:
        authority.openssl("ec", "-in", "server.key", "-aes256", "-passout", "pass:x", "-out",
                          "locked.key")  # fmt: skip
        (etc / "server.key").write_bytes((authority.directory / "locked.key").read_bytes())

    def missing(etc: Path, options: dict[str, str]) -> None:
        (etc / "server.crt").unlink()

    if os.geteuid() == 0:
        yield unreadable, r"client_tls_key_file: \S+/server.key can't be read by \w+, as whom"
    yield (
        other_key,
        r"client_tls_cert_file: \S+/server.crt does not belong to the key \S+/server.key$",
    )
    yield expired, r"client_tls_cert_file: \S+/server.crt can't be used: certificate has expired$"
    yield not_pem, r"client_tls_cert_file: \S+/server.crt and \S+ are not a valid pair of PEM files"
    yield no_authority, r"client_tls_ca_file: \S+/ca.crt has no certificate in it \(PEM,"
    yield locked, r"client_tls_cert_file: \S+/server.crt needs a key without a password, and \S+"
    yield missing, r"client_tls_cert_file: \S+/server.crt does not exist$"


def test_files_that_do_not_work_are_refused_before_anything_changes(pooler, authority):
    pooler.configure()
    for spoil, message in broken_files(authority):
        options = client_tls(pooler, authority)
        spoil(pooler.home / "etc", options)
        before = (pooler.ini.read_bytes(), pooler.pid)
        for check in (True, False):
            result = pooler.configure(check=check, options=options)
            assert result.get("failed"), message
            assert re.match(message, result["msg"]), result["msg"]
        assert (pooler.ini.read_bytes(), pooler.pid) == before


def test_a_certificate_that_expires_soon_is_warned_of(pooler, authority):
    options = client_tls(pooler, authority)
    authority.issue("server", days=5)
    authority.hand_over("server", pooler.home / "etc" / "server", pooler.cluster.user)
    (warning,) = pooler.configure(options=options)["warnings"]
    assert re.match(r"client_tls_cert_file: \S+/server.crt expires in 5 days; renew it$", warning)


@pytest.fixture
def tls_server(pooler: Pooler, authority: Authority) -> Iterator[Pooler]:
    """The pooler before a server that takes TCP clients only with TLS."""
    server = pooler.cluster
    authority.issue("postgres")
    authority.hand_over("postgres", server.data / "server", server.user)
    hba = server.data / "pg_hba.conf"
    rules = hba.read_text()
    hba.write_text(re.sub(r"(?m)^host\b", "hostssl", rules))
    server.sql("ALTER SYSTEM SET ssl = on")
    server.sql("SELECT pg_reload_conf()")
    server.sql("ALTER ROLE pgbouncer_auth PASSWORD 'bouncers-own'")
    yield pooler
    hba.write_text(rules)
    server.sql("ALTER SYSTEM RESET ssl")
    server.sql("SELECT pg_reload_conf()")


def server_tls(pooler: Pooler, authority: Authority, mode: str) -> dict[str, Any]:
    readable = pooler.home / "etc" / "ca.crt"
    readable.write_text(Path(authority.certificate).read_text())
    return {
        "backend_host": "127.0.0.1",
        "auth_password": "bouncers-own",
        "options": {"server_tls_sslmode": mode, "server_tls_ca_file": str(readable)},
    }


ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


def test_pgbouncer_verifies_postgres(tls_server, authority, stranger):
    pooler = tls_server
    pooler.configure()
    assert "RELOAD" in pooler.predicted_and_done(**server_tls(pooler, authority, "verify-full"))
    assert ask(pooler, ENCRYPTED) is True
    before = (pooler.files(), pooler.pid)
    result = pooler.configure(**server_tls(pooler, stranger, "verify-full"))
    assert result["failed"]
    assert result["msg"].startswith(
        "server_tls_sslmode: 'verify-full' would cut the pools off, because Postgres at 127.0.0.1"
    )
    assert result["msg"].endswith("not accepted: unable to get local issuer certificate")
    (pooler.home / "etc" / "ca.crt").write_text(Path(authority.certificate).read_text())
    assert (pooler.files(), pooler.pid) == before
    assert ask(pooler, ENCRYPTED) is True


def test_a_server_without_tls_is_noticed_before_the_pools_are_cut_off(pooler, authority):
    pooler.cluster.sql("ALTER ROLE pgbouncer_auth PASSWORD 'bouncers-own'")
    result = pooler.configure(**server_tls(pooler, authority, "require"))
    assert result["failed"]
    assert re.search(r"because Postgres at 127.0.0.1 port \d+ does not offer TLS$", result["msg"])


def test_both_sides_at_once(tls_server, authority):
    pooler = tls_server
    arguments = server_tls(pooler, authority, "verify-full")
    arguments["options"].update(client_tls(pooler, authority))
    pooler.predicted_and_done(**arguments)
    assert ask(pooler, ENCRYPTED, sslmode="verify-full", sslrootcert=authority.certificate) is True


@pytest.fixture
def demanding_server(tls_server: Pooler, authority: Authority) -> Iterator[Pooler]:
    """The pooler before a server that takes TCP clients only with a certificate."""
    server = tls_server.cluster
    known = server.data / "known.crt"
    known.write_text(Path(authority.certificate).read_text())
    known.chmod(0o644)
    hba = server.data / "pg_hba.conf"
    hba.write_text(re.sub(r"(?m)^(hostssl\b.*)$", r"\1 clientcert=verify-ca", hba.read_text()))
    server.sql(f"ALTER SYSTEM SET ssl_ca_file = '{known}'")
    server.sql("SELECT pg_reload_conf()")
    yield tls_server
    server.sql("ALTER SYSTEM RESET ssl_ca_file")


SERIAL = "SELECT client_serial::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


def test_pgbouncer_shows_postgres_a_certificate(demanding_server, authority, stranger):
    pooler = demanding_server

    def shown_to_postgres(made_by: Authority) -> dict[str, Any]:
        made_by.issue("pooler", subject="pooler")
        place = pooler.home / "etc" / "pooler"
        certificate, key = made_by.hand_over("pooler", place, pooler.cluster.user)
        arguments = server_tls(pooler, authority, "verify-full")
        arguments["options"].update(server_tls_cert_file=certificate, server_tls_key_file=key)
        return arguments

    pooler.configure()
    assert "RELOAD" in pooler.predicted_and_done(**shown_to_postgres(authority))
    first, pid = ask(pooler, SERIAL), pooler.pid
    assert first
    assert pooler.predicted_and_done(**shown_to_postgres(authority), reconnect=True) == [
        "RELOAD",
        "RECONNECT",
    ]
    assert ask(pooler, SERIAL) != first
    result = pooler.configure(**shown_to_postgres(stranger))
    assert result["failed"]
    assert re.search(r"Postgres at 127.0.0.1 port \d+ refuses the client cert", result["msg"])
    assert pooler.pid == pid
    assert ask(pooler, "SELECT 1") == 1
