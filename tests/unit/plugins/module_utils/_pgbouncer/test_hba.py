# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PgBouncer's rules for logins: when there are any, whom they let in, what does not go together."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._model.parse import parse_databases
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    hba,
)
from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer.clients import Client

PATH = "/etc/pgbouncer/pooled_hba.conf"
OPTIONS = {"auth_type": "scram-sha-256", "listen_addr": "0.0.0.0"}  # noqa: S104
TLS = {**OPTIONS, "client_tls_sslmode": "require"}
MODEL = [
    {
        "name": "shop",
        "roles": [
            {"name": "app_user", "kind": "user"},
            {"name": 'the "other", all', "kind": "reader"},
            {"name": "batch", "kind": "user", "pooled": False},
        ],
        "aliases": [{"name": "shop_ro"}],
    },
    {"name": "books", "roles": [{"name": "batch", "kind": "user", "pooled": False}]},
    {"name": "empty"},
]


def access(options=None, model=None, **more):
    databases = parse_databases(MODEL if model is None else model)
    return hba.access(OPTIONS if options is None else options, databases, path=PATH, **more)


def all_pooled():
    roles = [role for role in MODEL[0]["roles"] if role.get("pooled", True)]
    return [{**MODEL[0], "roles": roles}]


def test_without_a_reason_pgbouncer_keeps_its_options_and_has_no_rules():
    found = access(model=all_pooled())
    assert (found.options, found.rules, found.text) == (OPTIONS, (), "")


@pytest.mark.parametrize(
    "reason",
    [
        {"client_networks": ["10.0.0.0/8"]},
        {"require_tls": True, "options": TLS},
        {"model": MODEL},
    ],
)
def test_each_reason_makes_pgbouncer_read_the_rules(reason):
    found = access(**{"model": all_pooled(), **reason})
    options = reason.get("options", OPTIONS)
    assert found.options == {**options, "auth_type": "hba", "auth_hba_file": PATH}
    assert hba.is_ours(found.text)


def test_the_file():
    found = access(TLS, client_networks=["10.0.0.0/8", "127.0.0.1/32", "2001:db8::/32"],
                   require_tls=True)  # fmt: skip
    assert [re.sub(" +", " ", line) for line in found.text.splitlines()[1:]] == [
        'local shop,shop_ro app_user,"the ""other"", all" scram-sha-256',
        'host shop,shop_ro app_user,"the ""other"", all" 127.0.0.1/32 scram-sha-256',
        'host shop,shop_ro app_user,"the ""other"", all" ::1/128 scram-sha-256',
        'hostssl shop,shop_ro app_user,"the ""other"", all" 10.0.0.0/8 scram-sha-256',
        'hostssl shop,shop_ro app_user,"the ""other"", all" 2001:db8::/32 scram-sha-256',
    ]


def test_without_networks_the_whole_network_may_come_in_words_that_1_18_knows():
    addresses = {rule.address for rule in access().rules}
    assert addresses == {"", "127.0.0.1/32", "::1/128", "0.0.0.0/0", "::/0"}


def test_users_of_the_console_may_use_it_on_its_host():
    found = access({**OPTIONS, "admin_users": "root, dba", "stats_users": "dba,watch er"},
                   client_networks=["10.0.0.0/8"])  # fmt: skip
    console = [rule for rule in found.rules if rule.databases == ("pgbouncer",)]
    assert {rule.users for rule in console} == {("root", "dba", '"watch er"')}
    assert [rule.address for rule in console] == ["", "127.0.0.1/32", "::1/128"]


@pytest.mark.parametrize(
    ("auth_type", "method"), [("md5", "md5"), ("plain", "password"), ("cert", "cert")]
)
def test_rules_ask_for_what_auth_type_asks_for(auth_type, method):
    options = {**OPTIONS, "auth_type": auth_type, "client_tls_sslmode": "verify-full"}
    rules = access(options).rules
    assert {rule.method for rule in rules} == {method}
    if method == "cert":  # who has no TLS, or no network, has no certificate
        assert {rule.type for rule in rules} == {"hostssl"}


CLIENTS = {
    Client("shop", "app_user", "", False): True,
    Client("shop", "app_user", "127.0.0.1", False): True,
    Client("shop_ro", 'the "other", all', "::1", False): True,
    Client("shop", "app_user", "10.255.0.1", True): True,
    Client("shop", "app_user", "2001:db8::7", True): True,
    Client("shop", "app_user", "10.255.0.1", False): False,
    Client("shop", "app_user", "11.0.0.1", True): False,
    Client("shop", "app_user", "2001:db9::7", True): False,
    Client("shop", "app_user", "127.0.0.2", True): False,
    Client("shop", "batch", "10.0.0.1", True): False,
    Client("books", "batch", "", False): False,
    Client("books", "app_user", "", False): False,
    Client("shop", "all", "10.0.0.1", True): False,
    Client("shop", "other", "10.0.0.1", True): False,
    Client("pgbouncer", "app_user", "127.0.0.1", False): False,
}


@pytest.mark.parametrize(("client", "expected"), CLIENTS.items(), ids=str)
def test_admits(client, expected):
    rules = access(TLS, client_networks=["10.0.0.0/8", "2001:db8::/32"], require_tls=True).rules
    assert hba.admits(rules, client) is expected
    text = "\n".join(rule.line() for rule in rules)
    assert hba.admits(hba.parsed(text), client) is expected


def test_who_is_refused_is_named_once():
    rules = access(client_networks=["10.0.0.0/8"]).rules
    clients = [*CLIENTS, *CLIENTS]
    assert hba.refused(rules, clients)[:3] == [
        "'all' in 'shop' from 10.0.0.1",
        "'app_user' in 'books' from the unix socket",
        "'app_user' in 'pgbouncer' from 127.0.0.1 without TLS",
    ]


names = st.text(st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f"),
                min_size=1, max_size=15)  # fmt: skip


@given(mine=names, other=names)
def test_no_name_lets_in_another(mine, other):
    if mine.startswith("pg_") or mine in ("public", "none"):
        return
    model = [{"name": "shop", "roles": [{"name": mine, "kind": "user"}]}]
    found = access(model=model, client_networks=["10.0.0.0/8"])
    for rules in (found.rules, hba.parsed(found.text)):
        client = Client("shop", mine, "10.0.0.1", False)
        assert hba.admits(rules, client)
        assert hba.admits(rules, replace(client, user=other)) is (mine == other)


def test_every_line_lets_in_so_that_a_dropped_one_opens_nothing():
    rules = access(TLS, client_networks=["10.0.0.0/8"], require_tls=True).rules
    assert {rule.method for rule in rules} == {"scram-sha-256"}
    for index in range(len(rules)):
        less = rules[:index] + rules[index + 1 :]
        for client in CLIENTS:
            assert hba.admits(less, client) <= hba.admits(rules, client)


WRONG = [
    (
        {**OPTIONS, "auth_type": "hba", "auth_hba_file": "/etc/mine"},
        {"client_networks": ["10.0.0.0/8"]},
        "pgbouncer_auth_type: 'hba' does not go together with rules that this collection writes,"
        " with which networks, TLS and roles of the model hold through PgBouncer; choose one of"
        " scram-sha-256, md5, plain, cert, or do without them: pgbouncer_client_networks: []",
    ),
    (
        {**OPTIONS, "auth_type": "pam"},
        {"model": MODEL},
        "pgbouncer_auth_type: 'pam' does not go together with rules that this collection writes,"
        " with which networks, TLS and roles of the model hold through PgBouncer; choose one of"
        " scram-sha-256, md5, plain, cert, or do without them: no role with pooled: false",
    ),
    (
        {**TLS, "auth_hba_file": "/etc/mine"},
        {"require_tls": True, "client_networks": ["10.0.0.0/8"]},
        "pgbouncer_settings.auth_hba_file: '/etc/mine' would take the place of the rules that this"
        " collection writes, with which networks, TLS and roles of the model hold through"
        " PgBouncer; remove it, or do without them: pgbouncer_client_networks: [],"
        " pgbouncer_require_tls: false",
    ),
    (
        OPTIONS,
        {"require_tls": True},
        "pgbouncer_client_tls_sslmode: it is 'disable', and clients on other hosts need TLS"
        " (postgres_require_tls, pgbouncer_require_tls), so that none of them could log in; set it"
        " to 'require', with pgbouncer_client_tls_cert_file and pgbouncer_client_tls_key_file. Or"
        " let PgBouncer listen on this host alone (pgbouncer_listen_addr: 127.0.0.1, and now it is"
        " 0.0.0.0), or let clients come without TLS (pgbouncer_require_tls: false)",
    ),
    (
        {**TLS, "auth_type": "cert"},
        {"client_networks": ["10.0.0.0/8"]},
        "pgbouncer_client_tls_sslmode: auth_type 'cert' needs 'verify-full', and it is 'require'",
    ),
]


@pytest.mark.parametrize(("options", "more", "message"), WRONG)
def test_what_does_not_go_together_is_refused_by_name(options, more, message):
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        access(options, where="pgbouncer_settings", **{"model": all_pooled(), **more})


@pytest.mark.parametrize("listen_addr", ["", "127.0.0.1", "::1, localhost"])
def test_a_pooler_for_its_own_host_needs_no_tls(listen_addr):
    assert access({**OPTIONS, "listen_addr": listen_addr}, require_tls=True).rules


@pytest.mark.parametrize(
    ("listen_addr", "expected"),
    [("", False), ("127.0.0.1,::1", False), ("localhost", False), ("*", True),
     ("10.0.0.1", True), ("127.0.0.1, 10.0.0.1", True), ("pool.internal", True), ("::", True)],
)  # fmt: skip
def test_listens_to_others(listen_addr, expected):
    assert hba.listens_to_others(listen_addr) is expected


LOG = """\
2026-11-27 05:40:01.1 UTC [7] WARNING hba line 3: unsupported method: buf=nonsense
2026-11-27 05:40:01.1 UTC [7] WARNING could not parse hba config line 3
2026-11-27 05:40:01.1 UTC [7] ERROR could not open hba config file /x: No such file or directory
2026-11-27 05:40:01.1 UTC [7] WARNING address does not match mask in /x line #4: 10.0.0.1 / 255.0
2026-11-27 05:40:01.1 UTC [7] WARNING ident line 2: unsupported parameters
2026-11-27 05:40:01.1 UTC [7] WARNING could not parse ident config line 2
2026-11-27 05:40:01.1 UTC [7] LOG RELOAD command issued
2026-11-27 05:40:02.1 UTC [7] LOG C-0x1: shop/hba@10.0.0.1:5 login attempt: db=shop user=hba
"""


def test_complaints_are_those_about_rules():
    assert hba.complaints(LOG) == [
        "hba line 3: unsupported method: buf=nonsense",
        "could not parse hba config line 3",
        "could not open hba config file /x: No such file or directory",
        "address does not match mask in /x line #4: 10.0.0.1 / 255.0",
        "ident line 2: unsupported parameters",
        "could not parse ident config line 2",
    ]


def test_rules_that_are_dropped_are_told_with_the_files_to_correct():
    ours = {"auth_type": "md5", "auth_file": "/x"}
    assert hba.own_files(ours) == []
    files = hba.own_files({**ours, "auth_hba_file": "/h", "auth_ident_file": "/i"})
    assert hba.dropped(["hba line 3: bad"], files) == (
        "it drops rules for logins of /h and /i: hba line 3: bad. A line that it drops does not"
        " keep anybody out, so correct or remove each of these"
    )
    many = [f"hba line {number}: bad" for number in range(1, 8)]
    assert hba.dropped(many, []).endswith("; hba line 5: bad; and 2 more")


def test_parsed_reads_what_people_write():
    rules = hba.parsed(
        '# comment\n\nhost all, shop  app_user , "b" 10.0.0.0 255.0.0.0 md5\n'
        "host all c 10.0.0.0/8 reject bogus=1\nhost all c 10.0.0.0/8 allow\n"
        "host all all all reject # last\nnonsense\nhost shop\n"
    )
    assert [rule.line() for rule in rules] == [
        'host all,shop app_user,"b" 10.0.0.0/255.0.0.0 md5',
        "host all all all reject",
    ]
    assert hba.admits(rules, Client("shop", "b", "10.9.9.9", False))
    assert not hba.admits(rules, Client("shop", "c", "10.9.9.9", False))
