# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._sql import scram

SALT = b"0123456789abcdef"

# (password, bytes that the verifier is made of)
PREPARED = [
    ("pencil", b"pencil"),
    ("", b""),
    ("I\u00adX", b"IX"),
    ("\u00aa", b"a"),
    ("\u2168", b"IX"),
    ("a\u00a0b", b"a b"),
    ("a\u200bb", b"a b"),
    ("e\u0301", "é".encode()),
    ("\u00ad", "\u00ad".encode()),  # nothing would be left
    ("\u0007ascii control", b"\x07ascii control"),
    ("é\u0007", "é\u0007".encode()),  # forbidden, so taken as it is
    ("\u0627\u0031", "\u06271".encode()),  # right to left must end right to left
    ("\u0627\u0644", "\u0627\u0644".encode()),
    ("\u0627\u2168\u0627", "\u0627\u2168\u0627".encode()),
    ("\u2168\u0627", "\u2168\u0627".encode()),
    ("\u0221", "\u0221".encode()),  # unassigned in Unicode 3.2
    ("\U0001f600", "\U0001f600".encode()),
    ("\udcff", b"\xff"),  # a byte that is no UTF-8, as Python carries it
]

BROKEN = [
    "SCRAM-SHA-256$",
    "SCRAM-SHA-256$4096:salt",
    "SCRAM-SHA-256$4096:c2FsdA==$a2V5:a2V5",
    "SCRAM-SHA-256$0:c2FsdA==$" + "A" * 43 + "=:" + "A" * 43 + "=",
    "SCRAM-SHA-256$x:c2FsdA==$" + "A" * 43 + "=:" + "A" * 43 + "=",
    "SCRAM-SHA-256$4096:c2Fsd$" + "A" * 43 + "=:" + "A" * 43 + "=",
    "SCRAM-SHA-256$4096:c2FsdA==$" + "A" * 43 + "=:" + "A" * 43 + "= ",
]


@pytest.mark.parametrize(("password", "expected"), PREPARED)
def test_saslprep(password, expected):
    assert scram.saslprep(password) == expected


def test_make_verifier_is_what_the_rfc_says():
    # RFC 7677, section 3: user "user", password "pencil".
    text = scram.make_verifier("pencil", 4096, b"[m\x99h\x9d\x125\x8e\xec\xa0K\x14\x126\xfa\x81")
    assert text == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_salt_is_random():
    assert scram.make_verifier("x", 1) != scram.make_verifier("x", 1)


@pytest.mark.parametrize("text", [*BROKEN, "", None, "pencil", "md5" + "0" * 32])
def test_parse_verifier_takes_nothing_else(text):
    assert scram.parse_verifier(text) is None


@settings(max_examples=50)
@given(password=st.text(min_size=1), other=st.text(min_size=1), iterations=st.integers(1, 3))
def test_password_matches_its_own_verifier_only(password, other, iterations):
    verifier = scram.make_verifier(password, iterations, SALT)
    assert scram.password_matches(password, verifier)
    same = scram.saslprep(password) == scram.saslprep(other)
    assert scram.password_matches(other, verifier) == same


@pytest.mark.parametrize("stored", [None, "", "md5" + "0" * 32, "plain", *BROKEN])
def test_plain_text_does_not_match_what_is_no_verifier(stored):
    assert not scram.password_matches("plain", stored)


def test_given_verifier_is_compared_and_sent_as_it_is():
    verifier = scram.make_verifier("x", 1, SALT)
    assert scram.password_matches(verifier, verifier)
    assert not scram.password_matches(verifier, scram.make_verifier("x", 2, SALT))
    assert not scram.password_matches(verifier, None)
    assert scram.verifier_to_send(verifier) == verifier


def test_plain_text_is_never_sent():
    sent = scram.verifier_to_send("plain", 7)
    assert scram.parse_verifier(sent).iterations == 7
    assert scram.password_matches("plain", sent)


def test_md5_is_refused():
    with pytest.raises(ValueError) as caught:
        scram.check_password("here", "md5" + "0123456789abcdef" * 2)
    assert str(caught.value) == (
        "here: an md5 hash can't be used for SCRAM logins;"
        " give the plain text or a SCRAM-SHA-256 verifier"
    )


@pytest.mark.parametrize("text", BROKEN)
def test_broken_verifier_is_refused_without_quoting_it(text):
    with pytest.raises(ValueError) as caught:
        scram.check_password("here", text)
    assert str(caught.value) == (
        "here: starts like a SCRAM-SHA-256 verifier but is not a valid one; its form is"
        " SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>"
    )


@pytest.mark.parametrize("text", ["md5", "md5" + "x" * 32, "SCRAM", "plain", "é"])
def test_other_text_is_a_password(text):
    assert scram.check_password("here", text) == text
