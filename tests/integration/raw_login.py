# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A login over a bare socket, for passwords that libpq refuses to send, such as an empty one.

It answers whatever it is asked for (SCRAM, md5, clear text), or sends an answer that nobody asked
for, and stops where the server lets it in: it never runs a statement.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct
from typing import Any

TIMEOUT_S = 20
PROTOCOL = 196608
SSL_REQUEST = struct.pack("!ii", 8, 80877103)

REFUSED = "refused"  # before the password was taken
TAKEN = "taken"  # PgBouncer took the password, and the server behind it let nobody in
IN = "in"
SILENT = "silent"  # no answer in time


def login(
    address: tuple[str, int] | str,
    user: str,
    password: str,
    dbname: str,
    tls: bool = False,
    unasked: str = "",
    timeout_s: float = TIMEOUT_S,
) -> str:
    """How far a login gets.

    Args:
        address: host and port, or the path of a unix socket.
        user: name to log in as.
        password: sent as it is, without SASLprep.
        dbname: database.
        tls: whether to ask for TLS first; the certificate is not looked at.
        unasked: C(clear) or C(md5), the kind of password to answer a request for SCRAM with.
        timeout_s: how long an answer may take.
    """
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as plain:
        plain.settimeout(timeout_s)
        plain.connect(address)
        connection = _tls(plain) if tls else plain
        try:
            return _talk(connection, user, password.encode(), dbname, unasked)
        except ConnectionError:
            return REFUSED
        except TimeoutError:
            return SILENT
        finally:
            connection.close()


def _talk(connection: Any, user: str, password: bytes, dbname: str, unasked: str) -> str:
    pairs = b"".join(
        key + b"\0" + value.encode() + b"\0"
        for key, value in ((b"user", user), (b"database", dbname))
    )
    body = struct.pack("!i", PROTOCOL) + pairs + b"\0"
    connection.sendall(struct.pack("!i", len(body) + 4) + body)
    nonce = base64.b64encode(os.urandom(18)).decode()
    bare = f"n=,r={nonce}"
    reached = REFUSED
    while True:
        kind, payload = _receive(connection)
        code = struct.unpack("!i", payload[:4])[0] if kind == b"R" else -1
        if kind == b"E":
            return reached
        if kind == b"Z" or code == 0:
            reached = IN if kind == b"Z" else TAKEN
            if kind == b"Z":
                return reached
        elif code == 3 or (code == 10 and unasked == "clear"):
            _send(connection, password + b"\0")
        elif code == 5 or (code == 10 and unasked == "md5"):
            salt = payload[4:8] if code == 5 else b"salt"
            inner = _md5(password + user.encode())
            _send(connection, b"md5" + _md5(inner + salt) + b"\0")
        elif code == 10:
            first = f"n,,{bare}".encode()
            _send(connection, b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
        elif code == 11:
            _send(connection, _proof(payload[4:].decode(), bare, password))
        elif code == 12:
            reached = TAKEN


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data).hexdigest().encode()  # noqa: S324 - the protocol's own


def _proof(said: str, bare: str, password: bytes) -> bytes:
    parts = dict(part.split("=", 1) for part in said.split(","))
    salt = base64.b64decode(parts["s"])
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, int(parts["i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    final = f"c=biws,r={parts['r']}"
    signed = f"{bare},{said},{final}".encode()
    mask = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
    proof = bytes(left ^ right for left, right in zip(key, mask, strict=True))
    return f"{final},p={base64.b64encode(proof).decode()}".encode()


def _tls(plain: socket.socket) -> ssl.SSLSocket:
    plain.sendall(SSL_REQUEST)
    assert plain.recv(1) == b"S", "no TLS here"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def _send(connection: Any, body: bytes) -> None:
    connection.sendall(b"p" + struct.pack("!i", len(body) + 4) + body)


def _receive(connection: Any) -> tuple[bytes, bytes]:
    head = _exactly(connection, 5)
    return head[:1], _exactly(connection, struct.unpack("!i", head[1:])[0] - 4)


def _exactly(connection: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("closed")
        data += more
    return data
