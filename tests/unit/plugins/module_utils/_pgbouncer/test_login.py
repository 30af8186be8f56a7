# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tries passwords, against servers that say this and that."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import struct
import threading
import time
from contextlib import suppress

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    login,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.login import (
    Taken,
    is_taken,
    scram_answer,
    taken_guesses,
)
from ansible_collections.pooled.postgres.plugins.module_utils._sql import scram as sql_scram


def test_the_proof_is_the_one_of_rfc_7677():
    said = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    answer = scram_answer(said, "n=user,r=rOprNGfwEbeRWgbNEkqO", b"pencil")
    assert answer == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )


@pytest.mark.parametrize(
    "said",
    ["", "r=x", "r=x,s=!,i=1", "r=x,s=AAAA,i=many", "r=x,s=AAAA,i=0", "r=x,s=AAAA,i=999999999"],
)
def test_nonsense_and_endless_work_are_refused(said):
    with pytest.raises(OSError, match="PgBouncer asks for"):
        scram_answer(said, "n=,r=x", b"")


def test_nothing_matches_the_unmatchable_verifier():
    assert sql_scram.is_verifier(sql_scram.UNMATCHABLE)
    for password in ("", "md5", "null", sql_scram.UNMATCHABLE[:10]):
        assert not sql_scram.password_matches(password, sql_scram.UNMATCHABLE)


class Server:
    """A PgBouncer of one connection at a time, which answers as a function says."""

    def __init__(self, talk):
        self.talk = talk
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        self.after = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _address = self.socket.accept()
            except OSError:
                return
            with connection:
                assert connection.recv(8) == struct.pack("!ii", 8, 80877103)
                connection.sendall(b"N")
                (size,) = struct.unpack("!i", connection.recv(4))
                connection.recv(size - 4)
                with suppress(ConnectionError):
                    self.talk(connection, self.after)


def message(code, body=b"", kind=b"R"):
    payload = struct.pack("!i", code) + body if kind == b"R" else body
    return kind + struct.pack("!i", len(payload) + 4) + payload


def answer(connection):
    kind, size = struct.unpack("!ci", connection.recv(5))
    assert kind == b"p"
    return connection.recv(size - 4)


def rest(connection):
    """What the client still says before it closes the connection."""
    try:
        return connection.recv(100)
    except ConnectionError:
        return b""


def scram(password):
    """Talks as a server that has this password."""

    def talk(connection, after):
        connection.sendall(message(10, b"SCRAM-SHA-256\0\0"))
        bare = answer(connection).split(b"n,,", 1)[1].decode()
        nonce = bare.split("r=", 1)[1] + "more"
        said = f"r={nonce},s={base64.b64encode(b'salt').decode()},i=10"
        connection.sendall(message(11, said.encode()))
        final, proof = answer(connection).decode().split(",p=")
        verifier = sql_scram.parse_verifier(sql_scram.make_verifier(password, 10, b"salt"))
        stored = base64.b64decode(verifier.stored_key)
        signature = hmac.digest(stored, f"{bare},{said},{final}".encode(), "sha256")
        key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        if hashlib.sha256(key).digest() == stored:
            connection.sendall(message(12, b"v=x") + message(0) + message(0, b"I", b"Z"))
            after.append(rest(connection))
        else:
            connection.sendall(message(0, b"SFATAL\0\0", b"E"))

    return talk


def clear(password):
    def talk(connection, after):
        connection.sendall(message(3))
        right = answer(connection) == password.encode() + b"\0"
        connection.sendall(message(0) if right else message(0, b"\0", b"E"))
        after.append(rest(connection))

    return talk


@pytest.mark.parametrize("talk", [scram, clear])
def test_taken_and_nothing_is_sent_after_it(talk):
    server = Server(talk("md5"))
    assert taken_guesses(server.address, ["d"], ["u", "v"]) == (
        Taken("d", "u", "md5"),
        Taken("d", "v", "md5"),
    )
    assert set(server.after) <= {b""}
    assert taken_guesses(Server(talk("a good one")).address, ["d"], ["u"]) == ()


def test_a_closed_connection_is_a_refusal():
    assert taken_guesses(Server(lambda *_: None).address, ["d"], ["u"]) == ()


def silence(connection, _after):
    connection.settimeout(60)
    connection.recv(1)  # ends when the client goes


def small_talk(connection, _after):
    for _notice in range(1200):  # fails when the client goes
        connection.sendall(message(0, b"x", b"N"))
        time.sleep(0.05)


@pytest.mark.parametrize("talk", [silence, small_talk])
def test_who_does_not_come_to_the_point_is_not_waited_for(talk, monkeypatch):
    monkeypatch.setattr(login, "TIME_S", 0.3)
    with pytest.raises(OSError, match=r"timed out|did not answer within"):
        taken_guesses(Server(talk).address, ["d"], ["u"])


def test_another_protocol_is_told():
    def talk(connection, after):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        rest(connection)

    with pytest.raises(OSError, match="does not speak Postgres's protocol"):
        is_taken(Server(talk).address, Taken("d", "u", ""), time.monotonic() + 60)


def test_only_so_many_are_tried():
    seen = []
    server = Server(lambda *_: seen.append(1))
    taken_guesses(server.address, ["a", "b"], [str(number) for number in range(50)])
    assert len(seen) == login.MOST_GUESSES
