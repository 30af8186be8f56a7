# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SCRAM-SHA-256 verifiers: what Postgres stores instead of a password, made and compared here.

A verifier lets the server check a password without holding it, so only verifiers are ever sent.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import stringprep
import unicodedata
from dataclasses import dataclass

DEFAULT_ITERATIONS = 4096
_PREFIX = "SCRAM-SHA-256$"
_SALT_BYTES = 16
_KEY_BYTES = 32
_MD5 = re.compile(r"md5[0-9a-f]{32}\Z")
_PARTS = re.compile(
    r"SCRAM-SHA-256\$([0-9]+):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)\Z"
)
# A verifier that no password matches: nobody knows what SHA-256 makes 32 zero bytes of.
UNMATCHABLE = (
    f"{_PREFIX}{DEFAULT_ITERATIONS}:{base64.b64encode(bytes(_SALT_BYTES)).decode()}"
    f"${base64.b64encode(bytes(_KEY_BYTES)).decode()}:{base64.b64encode(bytes(_KEY_BYTES)).decode()}"
)
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


@dataclass(frozen=True)
class Verifier:
    """A parsed verifier; the keys are base64 as in its text."""

    iterations: int
    salt: bytes
    stored_key: str
    server_key: str


def check_password(where: str, value: str) -> str:
    """A password that may be given: plain text or a whole SCRAM verifier.

    Raises:
        ValueError: for an md5 hash or a broken verifier, without quoting it.
    """
    if _MD5.match(value):
        raise ValueError(
            f"{where}: an md5 hash can't be used for SCRAM logins;"
            " give the plain text or a SCRAM-SHA-256 verifier"
        )
    if value.startswith(_PREFIX) and parse_verifier(value) is None:
        raise ValueError(
            f"{where}: starts like a SCRAM-SHA-256 verifier but is not a valid one; its form is"
            " SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>"
        )
    return value


def parse_verifier(text: str | None) -> Verifier | None:
    """The parts of a verifier; None when the text is anything else."""
    match = _PARTS.match(text or "")
    if not match:
        return None
    try:
        salt, stored, server = (
            base64.b64decode(part, validate=True) for part in match.groups()[1:]
        )
    except (binascii.Error, ValueError):
        return None
    iterations = int(match.group(1))
    if iterations < 1 or len(stored) != _KEY_BYTES or len(server) != _KEY_BYTES:
        return None
    return Verifier(iterations, salt, match.group(3), match.group(4))


def is_verifier(text: str) -> bool:
    """Whether the text is a whole verifier, and so no plain text."""
    return parse_verifier(text) is not None


def make_verifier(
    password: str, iterations: int = DEFAULT_ITERATIONS, salt: bytes | None = None
) -> str:
    """The verifier of a plain-text password, as the server would have made it."""
    salt = os.urandom(_SALT_BYTES) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password), salt, iterations)
    client_key = hmac.new(salted, b"Client Key", "sha256").digest()
    server_key = hmac.new(salted, b"Server Key", "sha256").digest()
    stored_key = hashlib.sha256(client_key).digest()
    return f"{_PREFIX}{iterations}:{_base64(salt)}${_base64(stored_key)}:{_base64(server_key)}"


def password_matches(given: str, stored: str | None) -> bool:
    """Whether what the server stores is what was given, plain text or a verifier."""
    if parse_verifier(given) is not None:
        return stored is not None and hmac.compare_digest(given.encode(), stored.encode())
    parts = parse_verifier(stored)
    if parts is None or stored is None:
        return False
    recomputed = make_verifier(given, parts.iterations, parts.salt)
    return hmac.compare_digest(recomputed.encode(), stored.encode())


def verifier_to_send(given: str, iterations: int = DEFAULT_ITERATIONS) -> str:
    """What to store for a given password: never the plain text."""
    return given if parse_verifier(given) is not None else make_verifier(given, iterations)


def saslprep(password: str) -> bytes:
    """The password's bytes after RFC 4013, as Postgres does it.

    Like Postgres, a password that RFC 4013 forbids is taken byte by byte, and so is plain ASCII.
    """
    raw = password.encode("utf-8", "surrogateescape")
    if password.isascii() or any("\ud800" <= char <= "\udfff" for char in password):
        return raw
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char
        for char in password
        if stringprep.in_table_c12(char) or not stringprep.in_table_b1(char)
    )
    if not mapped or any(table(char) for char in mapped for table in _PROHIBITED):
        return raw
    if any(stringprep.in_table_d1(char) for char in mapped):
        bidi_broken = (
            any(stringprep.in_table_d2(char) for char in mapped)
            or not stringprep.in_table_d1(mapped[0])
            or not stringprep.in_table_d1(mapped[-1])
        )
        if bidi_broken:
            return raw
    return unicodedata.normalize("NFKC", mapped).encode("utf-8")


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
