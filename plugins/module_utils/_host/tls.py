# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates: whether files hold what a TLS connection needs, and which one a server shows."""

from __future__ import annotations

import hashlib
import pwd
import re
import socket
import ssl
import struct
import time
from typing import Any

from ansible_collections.pooled.postgres.plugins.module_utils._host import identity

# What a client sends to ask for TLS, in Postgres's protocol.
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
# Trust a certificate itself, without the chain above it (ssl.VERIFY_X509_PARTIAL_CHAIN).
_PARTIAL_CHAIN = 0x80000
_TIMEOUT_S = 5
_REFUSAL_S = 0.5  # a refusal is on its way when the handshake ends
_DAY_S = 86400


class TlsError(Exception):
    """What is wrong with a file or a server; the text completes a sentence about it."""


def digest(pem: str) -> str:
    """SHA-256 of the first certificate in a PEM file, as the one that a server shows.

    Raises:
        TlsError: when there is none.
    """
    match = _CERTIFICATE.search(pem)
    if not match:
        raise TlsError("has no certificate in it (PEM, '-----BEGIN CERTIFICATE-----')")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(match.group(0))).hexdigest()


def check_pair(
    certificate: str, key: str, *, serves: bool, reader: pwd.struct_passwd | None
) -> float:
    """Check that a certificate and its key work, by a handshake in memory.

    Args:
        certificate: path of the certificate, with its chain.
        key: path of the private key.
        serves: whether a server shows it, or else a client.
        reader: the OS user that reads them; None for this process's own.

    Returns:
        Days until it expires.

    Raises:
        TlsError: saying what is wrong with them.
    """
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if serves else ssl.PROTOCOL_TLS_CLIENT)
    server = own if serves else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        with identity.acting_as(reader):
            for context in (own,) if serves else (own, server):
                context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        raise TlsError(_pair_problem(error, key, reader)) from error
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if serves else own
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    judge = client if serves else server
    judge.verify_mode = ssl.CERT_REQUIRED
    judge.verify_flags |= _PARTIAL_CHAIN
    with identity.acting_as(reader):
        judge.load_verify_locations(certificate)
    try:
        sides = _shake_hands(client, server)
    except ssl.SSLCertVerificationError as error:
        raise TlsError(f"can't be used: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise TlsError(f"can't be used: {error.reason or error}") from error
    shown: Any = sides[0 if serves else 1].getpeercert()
    return (ssl.cert_time_to_seconds(shown["notAfter"]) - time.time()) / _DAY_S


def check_authority(path: str, reader: pwd.struct_passwd | None) -> None:
    """Check that a file has certificates of authorities in it.

    Raises:
        TlsError: when it has none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        with identity.acting_as(reader):
            context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise TlsError("has no certificate in it (PEM, '-----BEGIN CERTIFICATE-----')") from error


def served_digest(host: str, port: int) -> str:
    """SHA-256 of the certificate that a server shows; empty when it shows none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _wrapped(context, host, port) as connection:
            return hashlib.sha256(connection.getpeercert(True) or b"").hexdigest()
    except (TlsError, OSError):
        return ""


def client_context(
    mode: str, authority: str, certificate: str, key: str, reader: pwd.struct_passwd | None
) -> ssl.SSLContext:
    """What a client connects with under a mode of server_tls_sslmode.

    Raises:
        OSError: when a file can't be read, or is not what it is named as.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify-full"
    context.verify_mode = ssl.CERT_REQUIRED if mode.startswith("verify") else ssl.CERT_NONE
    with identity.acting_as(reader):
        if authority:
            context.load_verify_locations(authority)
        if certificate:
            context.load_cert_chain(certificate, key)
    return context


def check_server(host: str, port: int, context: ssl.SSLContext, *, shows: bool) -> None:
    """Check that a server's TLS is what a client asks for.

    A server that can't be reached says nothing about its TLS.

    Args:
        host: the server.
        port: its port.
        context: what the client connects with.
        shows: whether the client has a certificate to show.

    Raises:
        TlsError: when it is not.
    """
    try:
        with _wrapped(context, host, port) as secured:
            if shows:
                _wait_for_refusal(secured)
    except ssl.SSLCertVerificationError as error:
        raise TlsError(
            f"presents a certificate that is not accepted: {error.verify_message}"
        ) from error
    except ssl.SSLError as error:
        raise TlsError(f"fails the TLS handshake: {error.reason or error}") from error
    except OSError:
        return


def _wrapped(context: ssl.SSLContext, host: str, port: int) -> ssl.SSLSocket:
    plain = socket.create_connection((host, port), _TIMEOUT_S)
    try:
        plain.sendall(_SSL_REQUEST)
        if plain.recv(1) != b"S":
            raise TlsError("does not offer TLS")
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _wait_for_refusal(secured: ssl.SSLSocket) -> None:
    """Check whether the server takes the client's certificate, which TLS 1.3 tells afterwards.

    Raises:
        TlsError: when it does not.
    """
    secured.settimeout(_REFUSAL_S)
    try:
        secured.recv(1)
    except ssl.SSLError as error:
        raise TlsError(f"refuses the client certificate: {error.reason or error}") from error
    except OSError:
        return  # it waits for what the client has to say


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> list[ssl.SSLObject]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(sides)
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    return sides


def _pair_problem(error: ssl.SSLError, key: str, reader: pwd.struct_passwd | None) -> str:
    reason = error.reason or ""
    if "KEY_VALUES_MISMATCH" in reason or "KEY_TYPE_MISMATCH" in reason:
        return f"does not belong to the key {key}"
    with identity.acting_as(reader), open(key, "rb") as handle:
        if b"ENCRYPTED" in handle.read():
            return f"needs a key without a password, and {key} has one"
    return f"and {key} are not a valid pair of PEM files: {reason or error}"
