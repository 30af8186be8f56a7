# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._sql import quoting


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("app_user", "app_user"),
        ("_x1", "_x1"),
        ("public", "public"),
        ("user", '"user"'),
        ("select", '"select"'),
        ("json_table", '"json_table"'),
        ("App", '"App"'),
        ("1a", '"1a"'),
        ("a-b", '"a-b"'),
        ("a$b", '"a$b"'),
        ('a"b', '"a""b"'),
        ("é", '"é"'),
        ("a\n", '"a\n"'),
        ("", '""'),
        ('"; DROP TABLE x; --', '"""; DROP TABLE x; --"'),
    ],
)
def test_quote_ident(name, quoted):
    assert quoting.quote_ident(name) == quoted


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        ("", "''"),
        ("it's", "'it''s'"),
        ("a\\b", " E'a\\\\b'"),
        ("\\'", " E'\\\\'''"),
        ('"', "'\"'"),
    ],
)
def test_quote_literal(value, quoted):
    assert quoting.quote_literal(value) == quoted


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("  ", ()),
        ("public", ("public",)),
        ('"$user", Public ,"A ""b"""', ("$user", "public", 'A "b"')),
        ("$user", ("$user",)),
        ('""', ("",)),
    ],
)
def test_split_identifiers(text, names):
    assert quoting.split_identifiers(text) == names


@pytest.mark.parametrize("text", ["a b", "a,", ",a", 'a"b', '"a', "a,,b"])
def test_split_identifiers_refuses(text):
    with pytest.raises(ValueError) as caught:
        quoting.split_identifiers(text)
    assert str(caught.value) == f"{text!r} is not a valid list of names separated by commas"


@given(st.lists(st.text(), min_size=1))
def test_what_is_joined_is_split_again(names):
    assert quoting.split_identifiers(quoting.join_idents(names)) == tuple(names)
