# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import struct
from typing import Any

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._sql.login_guard import (
    AuthenticationFilter,
    Guard,
    NotAllowed,
    allowed_methods,
    required_methods,
)

REMOTE = {"host": "db", "port": 5432, "password": "x", "sslmode": "prefer"}


def request(code: int, body: bytes = b"") -> bytes:
    return b"R" + struct.pack("!ii", 8 + len(body), code) + body


OK = request(0)
CLEAR = request(3)
MD5 = request(5, b"salt")
SCRAM = request(10, b"SCRAM-SHA-256\0\0") + request(11, b"first") + request(12, b"final")
ERROR = b"E" + struct.pack("!i", 9) + b"SFATAL"[:5]
NOTICE = b"N" + struct.pack("!i", 5) + b"\0"
AFTER = b"Z" + struct.pack("!i", 5) + b"I" + b"any\0thing"

# (libpq's parameters beyond REMOTE, what the server may ask for)
REQUIRED = [
    ({}, "scram-sha-256"),
    ({"sslmode": "require"}, "scram-sha-256"),
    ({"sslmode": "require", "sslrootcert": "ca"}, ""),
    ({"sslmode": "verify-ca"}, ""),
    ({"sslmode": "verify-full"}, ""),
    ({"sslcert": "mine"}, "scram-sha-256,none"),
    ({"password": None}, "!password,!md5"),
    ({"password": None, "sslmode": "verify-full"}, ""),
    ({"host": "/run/postgresql"}, ""),
    ({"host": "/run/postgresql", "password": None}, ""),
    ({"host": "@abstract"}, ""),
    ({"host": "/run/postgresql", "hostaddr": "10.0.0.9"}, "scram-sha-256"),
    ({"host": "/run/postgresql,db"}, "scram-sha-256"),
    ({"host": ""}, ""),
    ({"require_auth": "md5"}, "md5"),
    ({"require_auth": "md5", "sslmode": "verify-full"}, "md5"),
]


@pytest.mark.parametrize(("more", "required"), REQUIRED)
def test_what_a_server_may_ask_for(more: dict[str, Any], required: str) -> None:
    assert required_methods({**REMOTE, **more}) == required


def test_a_list_of_methods() -> None:
    assert allowed_methods("scram-sha-256, none") == {"scram-sha-256", "none"}
    assert allowed_methods("!password,!md5") == {"scram-sha-256", "none", "gss", "sspi"}
    for wrong in ("", "scram", "password,!md5", "krb5"):
        with pytest.raises(ValueError, match="is not a list of"):
            allowed_methods(wrong)


def fed(parts: list[bytes], *allowed: str) -> bytes:
    one = AuthenticationFilter(frozenset(allowed or ("scram-sha-256",)))
    return b"".join(one.feed(part) for part in parts)


# (what the server says, what may be asked for, the method that is refused)
REFUSED = [
    (CLEAR, (), "password"),
    (MD5, (), "md5"),
    (OK, (), "none"),
    (NOTICE + CLEAR, (), "password"),
    (SCRAM + CLEAR, (), "password"),
    (request(10, b"SCRAM-SHA-256\0\0") + OK, (), "unknown"),
    (request(7), (), "gss"),
    (request(99), (), "unknown"),
    (b"R" + struct.pack("!i", 4), (), "unknown"),
    (b"D" + struct.pack("!i", 4), (), "unknown"),
    (b"R" + struct.pack("!i", 1 << 30), (), "unknown"),
    (b"R" + struct.pack("!i", -1), (), "unknown"),
    (SCRAM, ("md5",), "scram-sha-256"),
]


@pytest.mark.parametrize(("said", "allowed", "method"), REFUSED)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_what_is_refused_is_not_passed_on(
    said: bytes, allowed: tuple[str, ...], method: str, step: int
) -> None:
    one = AuthenticationFilter(frozenset(allowed or ("scram-sha-256",)))
    passed = b""
    with pytest.raises(NotAllowed, match=f"^{method}$"):
        for start in range(0, len(said), step):
            passed += one.feed(said[start : start + step])
    assert CLEAR not in passed
    assert MD5 not in passed
    assert not one.let_in


# (what the server says, what may be asked for)
PASSED = [
    (SCRAM + OK + AFTER, ()),
    (NOTICE + SCRAM + OK + AFTER, ()),
    (ERROR, ()),
    (OK + AFTER, ("none",)),
    (MD5 + OK + AFTER, ("scram-sha-256", "md5")),
    (CLEAR + OK + AFTER, ("password",)),
]


@pytest.mark.parametrize(("said", "allowed"), PASSED)
def test_what_is_allowed_is_passed_on_however_it_comes(
    said: bytes, allowed: tuple[str, ...]
) -> None:
    for cut in range(len(said)):
        assert fed([said[:cut], said[cut:]], *allowed) == said
    for size in (1, 2, 3, 10):
        parts = [said[start : start + size] for start in range(0, len(said), size)]
        assert fed(parts, *allowed) == said


def test_channel_binding_is_not_offered_where_libpq_has_no_tls() -> None:
    both = request(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
    assert fed([both]) == request(10, b"SCRAM-SHA-256\0\0")


def test_which_libpq_is_told_what() -> None:
    assert Guard(REMOTE, 160001).arguments == {**REMOTE, "require_auth": "scram-sha-256"}
    verified = {**REMOTE, "sslmode": "verify-full"}
    assert Guard(verified, 150004).arguments == verified
    bound = {**REMOTE, "sslmode": "require", "channel_binding": "require"}
    assert Guard(bound, 150004).arguments == bound
    untold = {**REMOTE, "password": None}
    assert Guard(untold, 160001).arguments == {**untold, "require_auth": "!password,!md5"}
    assert Guard(untold, 150004).arguments == untold
    for odd in (
        {"hostaddr": "::1"},
        {"host": "a,b"},
        {"service": "x"},
        {"passfile": "x", "password": None},
        {"hostaddr": "::1", "host": "/run/postgresql"},
    ):
        with pytest.raises(ValueError, match="set ssl_mode to verify-full"):
            Guard({**REMOTE, **odd}, 150004)
    # None of them keeps a newer one from anything.
    assert Guard({**REMOTE, "host": "a,b"}, 170000).arguments["require_auth"] == "scram-sha-256"
