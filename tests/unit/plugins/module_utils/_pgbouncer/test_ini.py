# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer's file formats, read back the way PgBouncer's own parsers read them."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import ini

KEY = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=20)
LINE = st.text(string.ascii_letters + string.punctuation + " \u00a0\u2028ä€\U0001f418", max_size=40)
VALUE = LINE.filter(bool)
OPTION = LINE.map(str.strip)


def read_ini(text: str) -> dict[str, dict[str, str]]:
    """lib/usual/cfparser.c: comments have lines of their own, and keys few characters."""
    key_characters = set(string.ascii_letters + string.digits + "_.-*")
    sections: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in text.split("\n"):
        stripped = line.strip(" \t\v\f\r")
        if not stripped or stripped[0] in "#;":
            continue
        if stripped[0] == "[":
            current = sections.setdefault(stripped[1 : stripped.index("]")], {})
            continue
        key, equals, value = stripped.partition("=")
        assert equals
        assert set(key.rstrip(" \t")) <= key_characters
        assert key.rstrip(" \t") not in current
        current[key.rstrip(" \t")] = value.strip(" \t\v\f\r")
    return sections


def read_connection_string(text: str) -> dict[str, str]:
    """src/loader.c: key=value pairs; a quote in a quoted value is written twice."""
    found: dict[str, str] = {}
    rest = text.lstrip(" ")
    while rest:
        key, equals, rest = rest.partition("=")
        assert equals
        value = ""
        if rest.startswith("'"):
            rest = rest[1:]
            while True:
                assert rest, "the quote is not closed"
                if rest[0] == "'" and rest[:2] != "''":
                    rest = rest[1:]
                    break
                value += rest[0]
                rest = rest[2:] if rest[:2] == "''" else rest[1:]
        else:
            value, _space, rest = rest.partition(" ")
        assert value, "PgBouncer takes no empty value"
        found[key] = value
        rest = rest.lstrip(" ")
    return found


def read_userlist(text: str) -> dict[str, str]:
    """src/loader.c: two quoted words on a line; a quote in a word is written twice."""
    found = {}
    for line in text.split("\n")[:-1]:
        words, rest = [], line
        while '"' in rest:
            rest = rest[rest.index('"') + 1 :]
            word = ""
            while rest[:1] != '"' or rest[:2] == '""':
                word += rest[0]
                rest = rest[2:] if rest[:2] == '""' else rest[1:]
            words.append(word)
            rest = rest[1:]
        name, secret = words
        found[name] = secret
    return found


def test_render_ini():
    assert ini.render_ini(
        {"pool_mode": "transaction", "listen_addr": "", "auth_query": "SELECT $1"},
        {"mydb": {"host": "/run/x y", "dbname": "mydb"}},
        {"app_reader": {"pool_mode": "session"}},
        ["app_user: jit=off"],
    ) == (
        "; Managed by Ansible, collection pooled.postgres: changes made here by hand are replaced."
        "\n"
        "; Settings that server connections carry from their roles; a change opens them anew:\n"
        ";   app_user: jit=off\n"
        "\n[databases]\nmydb = host='/run/x y' dbname=mydb\n"
        "\n[users]\napp_reader = pool_mode=session\n"
        "\n[pgbouncer]\nauth_query = SELECT $1\nlisten_addr =\npool_mode = transaction\n"
    )


@given(
    st.dictionaries(KEY, OPTION),
    st.dictionaries(KEY, st.dictionaries(KEY, VALUE, min_size=1)),
    st.lists(LINE),
)
def test_pgbouncer_reads_what_was_rendered(options, databases, notes):
    text = ini.render_ini(options, databases, {}, notes)
    sections = read_ini(text)
    assert set(sections) == {"databases", "pgbouncer"}
    assert sections["pgbouncer"] == options
    assert {
        name: read_connection_string(line) for name, line in sections["databases"].items()
    } == databases
    assert ini.role_settings_in(text) == notes


@pytest.mark.parametrize(
    "text",
    ["", "[pgbouncer]\n", ";   app_user: jit=off\n[pgbouncer]\n", "[databases]\n; Settings that\n"],
)
def test_a_foreign_file_notes_no_role_settings(text):
    assert ini.role_settings_in(text) == []


@given(st.dictionaries(VALUE, LINE))
def test_pgbouncer_reads_the_userlist(secrets):
    assert read_userlist(ini.render_userlist(secrets)) == secrets


@given(
    st.dictionaries(VALUE, st.just("s3cret-s3cret")), st.dictionaries(VALUE, st.just("0ther-0ther"))
)
def test_masked_userlists_show_users_and_no_secrets(before, after):
    shown = ini.masked_userlists(ini.render_userlist(before), ini.render_userlist(after))
    assert "s3cret-s3cret" not in shown[0]
    assert "0ther-0ther" not in shown[1]
    assert shown[0].count("\n") == len(before)
    assert shown[1].count(" ; new secret\n") == len(after)


def test_masked_userlists_tell_new_secrets_from_old_ones():
    before, after = '"a" "1"\n"b" "2"\n', '"a" "1"\n"b" "3"\n"c" "4"\n'
    assert ini.masked_userlists(before, after) == (
        '"a" "********"\n"b" "********"\n',
        '"a" "********"\n"b" "********" ; new secret\n"c" "********" ; new secret\n',
    )


SCRAM = "SCRAM-SHA-256$4096:c2FsdA==$a:b"


def test_secrets_can_be_read_again():
    secrets = {"a": "x", 'b "c"': 'y"z', "d": "", "e": "SCRAM-SHA-256$4096:x$y:z"}
    assert ini.secrets_in(ini.render_userlist(secrets)) == secrets
    assert ini.secrets_in('; "x" "y"\n"u"   "v" trailing\nnonsense\n') == {"u": "v"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[pgbouncer]\nauth_user = bouncer\n", "bouncer"),
        ("auth_user=a\n  auth_user\t=  b c \n", "b c"),
        ("; auth_user = a\nmy_auth_user = b\nauth_user_x = c\n", ""),
        ("auth_user =\nauth_query = x", ""),
        ("", ""),
    ],
)
def test_an_option_can_be_read_again(text, value):
    assert ini.option_in(text, "auth_user") == value


ENTRIES = {
    "mydb": {"host": "/run/pg", "dbname": "mydb", "connect_query": "SET x = 'it''s'"},
    "b-2": {"host": "r1,r2", "timezone": "Asia/Tokyo"},
}


def test_entries_can_be_read_again():
    text = ini.render_ini({"listen_port": "6432"}, ENTRIES, {"a": {"pool_size": "1"}}, ["a: x=1"])
    assert ini.database_entries_in(text) == ENTRIES
    assert ini.database_entries_in("; nothing\n") == {}


def test_notes_about_files_and_about_roles_are_told_apart():
    text = ini.render_ini({}, {}, {}, ["a: jit=off"], ["client_tls_cert_file 12ab"])
    assert ini.role_settings_in(text) == ["a: jit=off"]
    assert ";   client_tls_cert_file 12ab\n" in text
    assert ini.role_settings_in(ini.render_ini({}, {}, {}, [], ["x 1"])) == []


def test_an_entry_may_be_empty():
    assert "\n[users]\napp_user =\n" in ini.render_ini({}, {}, {"app_user": {}}, [])
