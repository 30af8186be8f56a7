# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules for logins are refused, and what they look like."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_file import (
    tokens,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba_rules import (
    check_rules,
    quoted,
)

QUOTED = [
    ("app_user", 15, "app_user"),
    ("App.User-1", 15, "App.User-1"),
    ("all", 15, '"all"'),
    ("sameuser", 15, '"sameuser"'),
    ("replication", 15, '"replication"'),
    ("samenet", 15, '"samenet"'),
    ("a b", 15, '"a b"'),
    ("a,b", 15, '"a,b"'),
    ('a"b', 15, '"a""b"'),
    ("a#b", 15, '"a#b"'),
    ("+group", 15, '"+group"'),
    ("@file", 15, '"@file"'),
    ("ünï", 15, '"ünï"'),
    ("/a.b", 15, '"/a.b"'),
    ("/a.b", 16, '"/^\\/a\\.b$"'),
]


@pytest.mark.parametrize(("name", "major", "expected"), QUOTED)
def test_quoted(name: str, major: int, expected: str) -> None:
    assert quoted(name, major) == expected


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=63))
def test_a_quoted_name_is_one_token(name: str) -> None:
    assert tokens(f"local  {quoted(name)}  peer # c") == [
        "local",
        quoted(name),
        "peer",
    ]


RULES = [
    (
        {"type": "hostssl", "database": "replication", "user": "backup", "address": "10.20.3.7"},
        "hostssl replication backup 10.20.3.7/32 scram-sha-256",
    ),
    (
        {
            "database": ["all", "x y"],
            "user": ["+staff", "/^app_"],
            "address": "samenet",
            "method": "reject",
        },
        'host all,"x y" +staff,"/^app_" samenet reject',
    ),
    (
        {
            "database": "all",
            "user": "all",
            "address": ".example.com",
            "method": "ldap",
            "options": {"ldapserver": "a b", "ldaptls": True, "ldapport": 389},
        },
        'host all all .example.com ldap "ldapserver=a b" ldaptls=1 ldapport=389',
    ),
    (
        {"type": "local", "database": "all", "user": "prometheus", "method": "peer"},
        "local all prometheus peer",
    ),
    (
        {
            "type": "local",
            "database": "x",
            "user": "y",
            "method": "trust",
            "insecure": True,
        },
        "local x y trust",
    ),
    (
        {"database": "x", "user": "y", "address": "fd00::/8"},
        "host x y fd00::/8 scram-sha-256",
    ),
    (
        {"database": ["a,b"], "user": ['a"b', "@c"], "address": "my_app.internal"},
        'host "a,b" "a""b","@c" my_app.internal scram-sha-256',
    ),
    (
        {"database": "/^a{1,2}$", "user": "+staff", "address": "all"},
        'host "/^a{1,2}$" +staff all scram-sha-256',
    ),
]


@pytest.mark.parametrize(("entry", "expected"), RULES)
def test_rules_people_add(entry: dict[str, Any], expected: str) -> None:
    (rule,) = check_rules([entry]).rules
    assert " ".join(tokens(rule.line())) == expected


HOST = {"database": "x", "user": "y", "address": "10.0.0.0/8"}
BAD_RULES = [
    ("x", "postgres_hba: give a list, not str"),
    (["x"], "postgres_hba[0]: give a dictionary, not str"),
    (
        [HOST, {**HOST, "adress": "x"}],
        "postgres_hba[1]: unknown key adress; allowed are type, database, user, address, method,"
        " options, insecure",
    ),
    (
        [{**HOST, "type": "tcp"}],
        "postgres_hba[0].type: 'tcp' is not a valid type; choose one of local, host, hostssl,"
        " hostnossl,"
        " hostgssenc, hostnogssenc",
    ),
    (
        [{**HOST, "method": "scram"}],
        "postgres_hba[0].method: 'scram' is not a valid method; choose one of scram-sha-256, md5,"
        " password,"
        " trust, reject, peer, ident, cert, ldap, pam, gss, radius, oauth",
    ),
    (
        [{**HOST, "method": "trust"}],
        "postgres_hba[0].method: trust lets everybody in without a password; use scram-sha-256, or"
        " peer for local, or add insecure: true to the rule if that is really meant",
    ),
    (
        [{**HOST, "method": "password"}],
        "postgres_hba[0].method: password sends passwords in plain text; use scram-sha-256, or peer"
        " for local, or add insecure: true to the rule if that is really meant",
    ),
    (
        [{**HOST, "method": "peer"}],
        "postgres_hba[0].method: peer works for type local only, not for host",
    ),
    (
        [{**HOST, "method": "cert"}],
        "postgres_hba[0].method: cert works for type hostssl only, not for host",
    ),
    (
        [{"type": "local", "database": "x", "user": "y", "method": "ident"}],
        "postgres_hba[0].method: ident does not work for type local",
    ),
    (
        [{**HOST, "type": "local", "method": "peer"}],
        "postgres_hba[0].address: '10.0.0.0/8': a rule of type local has no address",
    ),
    (
        [{"database": "x", "user": "y"}],
        "postgres_hba[0].address: a rule of type host needs an address, such as 10.0.0.0/8",
    ),
    (
        [{**HOST, "address": "10.0.0.256"}],
        "postgres_hba[0].address: '10.0.0.256' is not a valid network; give one such as 10.0.0.0/8"
        " or"
        " 2001:db8::/32",
    ),
    (
        [{**HOST, "address": "db example"}],
        "postgres_hba[0].address: 'db example' is neither a network nor the name of a host",
    ),
    *(
        (
            [{**HOST, key: text}],
            f"postgres_hba[0].{key}: {text!r} is written as in pg_hba.conf, and here it would be"
            " one name; give a list of names without quotes, such as [a, b]. If it is a name, give"
            " a list of just it",
        )
        for key, text in (
            ("database", "mydb,other"),
            ("user", "one, two"),
            ("user", '"app_user"'),
            ("database", "@databases"),
        )
    ),
    (
        [{**HOST, "user": []}],
        "postgres_hba[0].user: give at least one name, or all",
    ),
    (
        [{**HOST, "user": "a\nhost all all 0.0.0.0/0 trust"}],
        "postgres_hba[0].user: 'a\\nhost all all 0.0.0.0/0 trust' is not a valid name; give a"
        " name, a list"
        " of names, or all",
    ),
    (
        [{"user": "y", "address": "all"}],
        "postgres_hba[0].database: None is not a valid name; give a name, a list of names, or all",
    ),
    ([{**HOST, "options": "map=x"}], "postgres_hba[0].options: give a dictionary, not str"),
    (
        [{**HOST, "options": {"a b": 1}}],
        "postgres_hba[0].options: 'a b' is not a valid name of an option",
    ),
    (
        [{**HOST, "options": {"map": "a\nb"}}],
        "postgres_hba[0].options.map: control characters are not allowed",
    ),
]


@pytest.mark.parametrize(("rules", "message"), BAD_RULES)
def test_bad_rules(rules: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        check_rules(rules)
    assert str(error.value) == message


BAD_NETWORKS = [
    (
        ["10.0.0.5/8"],
        "postgres_client_networks[0]: '10.0.0.5/8' is an address with a prefix, not a network; the"
        " network is 10.0.0.0/8, the address alone 10.0.0.5/32",
    ),
    (
        ["10.0.0.0/8", "fd00::1/8"],
        "postgres_client_networks[1]: 'fd00::1/8' is an address with a prefix, not a network; the"
        " network is fd00::/8, the address alone fd00::1/128",
    ),
    (
        ["10.0.0.0/33"],
        "postgres_client_networks[0]: '10.0.0.0/33' is not a valid network; give one such as"
        " 10.0.0.0/8 or"
        " 2001:db8::/32",
    ),
    (
        ["office"],
        "postgres_client_networks[0]: 'office' is not a valid network; give one such as 10.0.0.0/8"
        " or"
        " 2001:db8::/32",
    ),
    ("10.0.0.0/8", "postgres_client_networks: give a list, not str"),
]


@pytest.mark.parametrize(("networks", "message"), BAD_NETWORKS)
def test_bad_networks(networks: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        check_rules([], networks)
    assert str(error.value) == message


def test_networks_once_and_in_normal_form() -> None:
    checked = check_rules([], ["10.0.0.5", "10.0.0.5/32", "2001:DB8::/32"], ["10.1.0.0/16"])
    assert checked.client_networks == ("10.0.0.5/32", "2001:db8::/32")
    assert checked.pooler_networks == ("10.1.0.0/16",)


def test_warnings() -> None:
    checked = check_rules([{**HOST, "method": "md5"}], ["0.0.0.0/0"])
    assert checked.warnings == (
        "postgres_client_networks: 0.0.0.0/0 is every address there is; name the networks of the"
        " clients",
        "postgres_hba[0]: method md5 also takes passwords that are stored as MD5 hashes, which"
        " Postgres has deprecated; scram-sha-256 does not",
    )
