# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is a secret, and what is left of a text without it."""

from __future__ import annotations

import ast
import json
import re
import shlex
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils import _secrets
from ansible_collections.pooled.postgres.plugins.module_utils._sql.quoting import quote_literal

SECRET_NAMES = [
    "password",
    "sslpassword",
    "ldapbindpasswd",
    "radiussecrets",
    "app.api_token",
    "app.API_KEY",
    "ssl_passphrase_command",
    "oauth_client_secret",
    "scram_client_key",
    "postgres_hba[0].options.ldapbindpasswd",
    "settings.app.secret",
]
OTHER_NAMES = [
    "password_encryption",
    "passfile",
    "sslkey",
    "ssl_key_file",
    "client_tls_key_file",
    "ssl_passphrase_command_supports_reload",
    "credcheck.password_min_length",
    "auth_query",
    "primary_key",
    "name",
    "app_user",
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_names_of_secrets(name: str) -> None:
    assert _secrets.is_secret_name(name)
    assert _secrets.shown_setting(name, "hush hush") == "********"
    assert "hush" not in _secrets.shown(name, "hush\nhush")


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_other_names(name: str) -> None:
    assert not _secrets.is_secret_name(name)
    assert _secrets.shown_setting(name, "scram-sha-256") == "scram-sha-256"
    assert _secrets.shown(name, "a\nb") == "'a\\nb'"


TEXTS = [
    ("x = host=h password=hush port=1", "x = host=h password=******** port=1"),
    ("x = password='hush ''hush' port=1", "x = password=******** port=1"),
    ("x = password = hush", "x = password = ********"),
    ("password_note = kept", "password_note = kept"),
    ("host all all ::/0 ldap ldapserver=a ldapbindpasswd=hush ldaptls=1",
     "host all all ::/0 ldap ldapserver=a ldapbindpasswd=******** ldaptls=1"),
    ('host a b ::/0 radius "radiussecrets=hu ""sh" radiusports=1',
     'host a b ::/0 radius "radiussecrets=********" radiusports=1'),
    ('ldapbindpasswd="hu ""sh" ldaptls=1', "ldapbindpasswd=******** ldaptls=1"),
    ("PGPASSWORD=hush AWS_SECRET_ACCESS_KEY=hush cp %p",
     "PGPASSWORD=******** AWS_SECRET_ACCESS_KEY=******** cp %p"),
    ("postgresql://app:hush@db/mydb and more", "postgresql://app:********@db/mydb and more"),
    ("postgresql://app@db:5432/mydb", "postgresql://app@db:5432/mydb"),
    ("PASSWORD 'SCRAM-SHA-256$4096:c2FsdA==$hush:hush='", "PASSWORD '********'"),
    ("md5" + "0123456789abcdef" * 2, "********"),
    ("passfile=/etc/pgpass sslkey=/etc/key", "passfile=/etc/pgpass sslkey=/etc/key"),
    ("password_encryption = scram-sha-256", "password_encryption = scram-sha-256"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_texts_without_secrets(text: str, expected: str) -> None:
    assert _secrets.masked_text(text) == expected
    assert _secrets.masked({"a": [text, 1], "b": (text,)}) == {"a": [expected, 1], "b": [expected]}
    assert _secrets.masked_text(expected) == expected


@pytest.mark.parametrize("text", [text for text, expected in TEXTS if text != expected])
def test_values_that_hold_secrets(text: str) -> None:
    assert _secrets.holds_secret(text)
    assert _secrets.shown_setting("restore_command", text) == "********"


NESTED = {
    "options": {"auth_type": "md5", "auth_ldap_options": "ldapserver=x ldapbindpasswd=one"},
    "rules": [{"method": "ldap", "options": {"ldapbindpasswd": "two", "ldaptls": True}}],
    "databases": [
        {"aliases": [{"name": "a", "password": 3333}], "roles": [{"settings": {"x.token": "four"}}]}
    ],
    "connect_params": {"keepalives": 1},
    "settings": {"credcheck.reveal_secret": "on", "app.password": None, "x.secret": ""},
}


def test_secrets_in_nested_data() -> None:
    assert sorted(_secrets.secrets_in(NESTED)) == [
        "3333",
        "four",
        "ldapserver=x ldapbindpasswd=one",
        "two",
    ]


@given(st.text(min_size=1, max_size=40))
def test_written_forms_are_what_others_write(secret: str) -> None:
    forms = _secrets.written_forms(secret)
    written = [
        repr([secret])[2:-2],
        json.dumps([secret])[2:-2],
        json.dumps([secret], ensure_ascii=False)[2:-2],
        shlex.join([secret]),
        quote_literal(secret).lstrip(" E")[1:-1],
    ]
    assert set(written) <= forms
    readers = [ast.literal_eval, json.loads, unquote]
    assert readers[0](repr(secret)) == readers[1](json.dumps(secret)) == secret
    assert any(unquote(form) == secret and re.fullmatch(r"[\w.~%-]*", form, re.A) for form in forms)


@given(st.text(max_size=400))
def test_masking_ends_and_is_done_once(text: str) -> None:
    once = _secrets.masked_text(text)
    assert _secrets.masked_text(once) == once


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a\n", "b\n", ("a\n", "b\n")),
        ("token=a\n", "token=b\n", ("token=********\n", "token=********\n(another secret)\n")),
        ("token=a\n", "token=a\n", ("token=********\n", "token=********\n")),
    ],
)
def test_diffs_tell_of_secrets_that_differ(
    before: str, after: str, expected: tuple[str, str]
) -> None:
    masked = _secrets.masked_diff([{"before": before, "after": after}])[0]
    assert (masked["before"], masked["after"]) == expected


def test_changes_of_settings_differ_when_their_values_do() -> None:
    assert _secrets.shown_change("work_mem", "4MB", "8MB") == ("4MB", "8MB")
    assert _secrets.shown_change("a.token", "one", "two") == ("********", "******** (another)")
    assert _secrets.shown_change("a.token", "", "two") == ("", "********")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"password": "hush"}, "connect_params.password: .*; give it as login_password"),
        ({"sslpassword": "hush"}, "connect_params.sslpassword: .* as ssl_key"),
        ({"scram_client_key": "hush"}, "connect_params.scram_client_key: .* passfile or service"),
        ({"dsn": "host=a password=hush"}, "connect_params.dsn: .* passfile or service"),
        ({"dsn": "postgresql://u:hush@h/d"}, "connect_params.dsn: "),
    ],
)
def test_secrets_among_connection_parameters_are_refused(
    params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        _secrets.check_connect_params("connect_params", {"keepalives": 1, **params})
    assert "hush" not in str(raised.value)


def test_other_connection_parameters_are_not() -> None:
    _secrets.check_connect_params("x", {"passfile": "/etc/pgpass", "service": "db", "port": 1})
