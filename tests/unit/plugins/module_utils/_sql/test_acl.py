# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._sql import acl
from ansible_collections.pooled.postgres.plugins.module_utils._sql.acl import Grant


@pytest.mark.parametrize(
    ("items", "grants"),
    [
        ((), ()),
        (("=c/postgres",), (Grant("", "CONNECT", False, "postgres"),)),
        (
            ("app=r*w/boss",),
            (Grant("app", "SELECT", True, "boss"), Grant("app", "UPDATE", False, "boss")),
        ),
        (
            ('"a=b""/c"=X/"o w"',),
            (Grant('a=b"/c', "EXECUTE", False, "o w"),),
        ),
        (("é=m/ö",), (Grant("é", "MAINTAIN", False, "ö"),)),
        (("a=/b",), ()),
        (("a=Z/b",), (Grant("a", "Z", False, "b"),)),
    ],
)
def test_parse_acl(items, grants):
    assert acl.parse_acl(items) == grants


@pytest.mark.parametrize("item", ["", "a", "a=r", "a=1/b", '"a=r/b'])
def test_parse_acl_refuses(item):
    with pytest.raises(ValueError) as caught:
        acl.parse_acl((item,))
    assert str(caught.value) == f"{item!r} is not a valid item of an access control list"


@given(st.text(min_size=1), st.text(min_size=1))
def test_parse_acl_reads_any_quoted_name(grantee, grantor):
    def quoted(name):
        return '"' + name.replace('"', '""') + '"'

    item = f"{quoted(grantee)}=r/{quoted(grantor)}"
    assert acl.parse_acl((item,)) == (Grant(grantee, "SELECT", False, grantor),)


def test_in_order():
    assert acl.in_order(["UPDATE", "Z", "SELECT", "UPDATE"]) == ("SELECT", "UPDATE", "Z")
