# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether PgBouncer takes a password that nobody has set, tried over a bare socket.

libpq refuses to send an empty password, and so never sees that one is taken. Nothing is run: the
connection is closed as soon as the password is taken or refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from typing import Any, Iterable

# What PgBouncer makes of a missing password, by version and by how it has learnt of it.
GUESSES = ("", "md5")
MOST_GUESSES = 30
TIME_S = 5.0

_PROTOCOL = 196608
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_MOST_BYTES = 65536
_MOST_ITERATIONS = 100000
_OK, _CLEAR, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12


@dataclass(frozen=True)
class Taken:
    """A password that was taken."""

    database: str
    user: str
    password: str


def taken_guesses(
    address: tuple[str, int] | str, databases: Iterable[str], users: Iterable[str]
) -> tuple[Taken, ...]:
    """Which users get in with a password that nobody has set, in a few seconds at most.

    Args:
        address: host and port of PgBouncer, or the path of its unix socket.
        databases: names to connect to.
        users: names to log in as, the most likely first.

    Raises:
        OSError: when PgBouncer does not answer, or not in time.
    """
    deadline = time.monotonic() + TIME_S
    attempts = [
        Taken(database, user, guess)
        for user in users
        for database in databases
        for guess in GUESSES
    ]
    return tuple(one for one in attempts[:MOST_GUESSES] if is_taken(address, one, deadline))


def is_taken(address: tuple[str, int] | str, guess: Taken, deadline: float) -> bool:
    """Whether PgBouncer takes a password, whatever the server behind it says then.

    Raises:
        OSError: when it does not answer, or not in time.
    """
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_UNSPEC
    with _connected(address, family, deadline) as plain:
        connection: socket.socket = plain
        if not isinstance(address, str):
            plain.sendall(_SSL_REQUEST)
            if plain.recv(1) == b"S":
                connection = _with_tls(plain)
        try:
            return _is_taken(connection, guess, deadline)
        except ConnectionError:  # of one that is refused, mostly with a word
            return False
        finally:
            connection.close()


def _connected(address: Any, family: int, deadline: float) -> socket.socket:
    left = max(deadline - time.monotonic(), 0.001)
    if family != socket.AF_UNIX:
        return socket.create_connection(address, timeout=left)
    plain = socket.socket(socket.AF_UNIX)
    plain.settimeout(left)
    try:
        plain.connect(address)
    except OSError:
        plain.close()
        raise
    return plain


def _with_tls(plain: socket.socket) -> ssl.SSLSocket:
    """The same with TLS. Nothing secret is sent, so whose certificate it is does not matter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def _is_taken(connection: socket.socket, guess: Taken, deadline: float) -> bool:
    password = guess.password.encode()
    fields = (b"user", guess.user.encode(), b"database", guess.database.encode())
    body = struct.pack("!i", _PROTOCOL) + b"".join(field + b"\0" for field in fields) + b"\0"
    connection.sendall(struct.pack("!i", len(body) + 4) + body)
    bare = f"n=,r={base64.b64encode(os.urandom(18)).decode()}"
    while True:
        kind, payload = _message(connection, deadline)
        if kind == b"E" or (kind == b"R" and len(payload) < 4):
            return False
        if kind != b"R":
            continue
        code = struct.unpack("!i", payload[:4])[0]
        if code in (_OK, _SASL_FINAL):
            return True
        if code == _CLEAR:
            answer = password + b"\0"
        elif code == _MD5:
            answer = _md5_answer(guess.user.encode(), password, payload[4:8])
        elif code == _SASL:
            first = f"n,,{bare}".encode()
            answer = b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first
        elif code == _SASL_CONTINUE:
            answer = scram_answer(payload[4:].decode("ascii", "replace"), bare, password)
        else:
            return False
        connection.sendall(b"p" + struct.pack("!i", len(answer) + 4) + answer)


def scram_answer(said: str, bare: str, password: bytes) -> bytes:
    """What proves a password to a server that has sent its salt (RFC 5802, client-final-message).

    Args:
        said: the server's first message.
        bare: the client's first message without its header.
        password: the password's bytes.

    Raises:
        OSError: when the server's message is not one, or asks for work without end.
    """
    parts = dict(part.partition("=")[::2] for part in said.split(","))
    try:
        salt, iterations = base64.b64decode(parts["s"], validate=True), int(parts["i"])
        nonce = parts["r"]
    except (KeyError, ValueError, binascii.Error) as error:
        raise OSError("PgBouncer asks for a password in an unknown way") from error
    if not 1 <= iterations <= _MOST_ITERATIONS:
        raise OSError(f"PgBouncer asks for {iterations} iterations")
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    client_key = hmac.new(salted, b"Client Key", "sha256").digest()
    final = f"c=biws,r={nonce}"
    signed = f"{bare},{said},{final}".encode()
    mask = hmac.new(hashlib.sha256(client_key).digest(), signed, "sha256").digest()
    proof = bytes(left ^ right for left, right in zip(client_key, mask))
    return f"{final},p={base64.b64encode(proof).decode()}".encode()


def _md5_answer(user: bytes, password: bytes, salt: bytes) -> bytes:
    inner = hashlib.md5(password + user).hexdigest().encode()  # noqa: S324 - the protocol's own
    outer = hashlib.md5(inner + salt).hexdigest().encode()  # noqa: S324
    return b"md5" + outer + b"\0"


def _message(connection: socket.socket, deadline: float) -> tuple[bytes, bytes]:
    head = _exactly(connection, 5, deadline)
    size = struct.unpack("!i", head[1:])[0] - 4
    if not 0 <= size <= _MOST_BYTES:
        raise OSError("what answers does not speak Postgres's protocol")
    return head[:1], _exactly(connection, size, deadline)


def _exactly(connection: socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise OSError(f"PgBouncer did not answer within {TIME_S:.0f} s")
        connection.settimeout(left)
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionResetError("PgBouncer closed the connection")
        data += more
    return data
