# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules for logins: what follows from the model, what people may add, and whose lines are whose."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from ansible_collections.pooled.postgres.plugins.module_utils._model.databases import (
    parse_databases,
)
from ansible_collections.pooled.postgres.plugins.module_utils._server import hba
from ansible_collections.pooled.postgres.plugins.module_utils._server.hba import (
    BLOCK_BEGIN,
    BLOCK_END,
    FILE_HEADER,
    Rule,
)

MODEL = parse_databases(
    [
        {
            "name": "mydb",
            "roles": [
                {"name": "app_user", "kind": "user"},
                {"name": "app_migrator", "kind": "migrator"},
            ],
        },
        {"name": "empty"},
        {"name": "all", "roles": [{"name": "Reporting, x", "kind": "reader"}]},
    ]
)

PACKAGED = """# PostgreSQL Client Authentication Configuration File
# DO NOT DISABLE!
local   all             postgres                                peer

# TYPE  DATABASE        USER            ADDRESS                 METHOD

local   all             all                                     peer
host    all             all             127.0.0.1/32            scram-sha-256
host    all             all             ::1/128                 scram-sha-256
local   replication     all                                     peer
host    replication     all             127.0.0.1/32            scram-sha-256
host    replication     all             ::1/128                 scram-sha-256
"""


def words(rules: tuple[Rule, ...]) -> list[str]:
    return [" ".join(hba.tokens(rule.line())) for rule in rules]


def test_model_rules() -> None:
    rules = hba.model_rules(
        MODEL,
        major=17,
        client_networks=["10.0.0.0/8"],
        pooler_role="pgbouncer_auth",
        pooler_networks=["10.9.0.4/32"],
    )
    model, odd = "mydb app_user,app_migrator", '"all" "Reporting, x"'
    networks = ["127.0.0.1/32", "::1/128", "10.0.0.0/8", "10.9.0.4/32"]
    assert words(rules) == [
        "local all postgres peer",
        "local replication postgres peer",
        "local mydb pgbouncer_auth peer map=pooled",
        'local "all" pgbouncer_auth peer map=pooled',
        f"local {model} scram-sha-256",
        f"local {odd} scram-sha-256",
        *(f"host {model} {network} scram-sha-256" for network in networks),
        *(f"host {odd} {network} scram-sha-256" for network in networks),
        "host mydb pgbouncer_auth 10.9.0.4/32 scram-sha-256",
        'host "all" pgbouncer_auth 10.9.0.4/32 scram-sha-256',
    ]


def test_with_tls_required_nobody_comes_without_it_from_elsewhere() -> None:
    rules = hba.model_rules(
        MODEL[:1],
        major=17,
        client_networks=["10.0.0.0/8"],
        pooler_role="pgbouncer_auth",
        pooler_networks=["10.9.0.4/32"],
        require_tls=True,
    )
    model = "mydb app_user,app_migrator"
    assert words(rules)[4:] == [
        f"host {model} 127.0.0.1/32 scram-sha-256",
        f"host {model} ::1/128 scram-sha-256",
        f"hostssl {model} 10.0.0.0/8 scram-sha-256",
        f"hostssl {model} 10.9.0.4/32 scram-sha-256",
        "hostssl mydb pgbouncer_auth 10.9.0.4/32 scram-sha-256",
        f"hostnossl {model},pgbouncer_auth all reject",
    ]
    here_too = hba.model_rules(MODEL[:1], major=17, require_tls=True, require_tls_on_loopback=True)
    assert words(here_too)[3:] == [
        f"hostssl {model} 127.0.0.1/32 scram-sha-256",
        f"hostssl {model} ::1/128 scram-sha-256",
        f"hostnossl {model} all reject",
    ]
    # Alone it asks for nothing.
    assert hba.model_rules(MODEL[:1], major=17, require_tls_on_loopback=True) == hba.model_rules(
        MODEL[:1], major=17
    )
    alone = hba.model_rules(MODEL[:1], major=17, require_tls=True)
    assert words(alone)[-1] == f"hostnossl {model} all reject"


def test_roles_that_are_kept_out_of_the_pool_do_not_come_from_its_hosts():
    roles = [{"name": "app", "kind": "user"}, {"name": "batch", "kind": "user", "pooled": False}]
    model = parse_databases(
        [{"name": "shop", "roles": roles}, {"name": "books", "roles": roles[1:]}]
    )
    networks = {"client_networks": ["10.0.0.0/8", "10.9.0.2/32"],
                "pooler_networks": ["10.9.0.1/32", "10.9.0.2/32"]}  # fmt: skip
    rules = hba.model_rules(model, major=17, **networks)
    let_in = {
        (rule.databases[0], rule.address): rule.users for rule in rules if rule.type == "host"
    }
    both = ("app", "batch")
    assert let_in == {
        ("shop", "127.0.0.1/32"): both,
        ("shop", "::1/128"): both,
        ("shop", "10.0.0.0/8"): both,
        ("shop", "10.9.0.1/32"): ("app",),
        ("shop", "10.9.0.2/32"): both,
        ("books", "127.0.0.1/32"): ("batch",),
        ("books", "::1/128"): ("batch",),
        ("books", "10.0.0.0/8"): ("batch",),
        ("books", "10.9.0.2/32"): ("batch",),
    }


def test_without_a_pooler_nobody_else_logs_in() -> None:
    rules = hba.model_rules(MODEL[:1], major=15)
    assert words(rules) == [
        "local all postgres peer",
        "local replication postgres peer",
        "local mydb app_user,app_migrator scram-sha-256",
        "host mydb app_user,app_migrator 127.0.0.1/32 scram-sha-256",
        "host mydb app_user,app_migrator ::1/128 scram-sha-256",
    ]


def test_another_owner_of_the_server_needs_the_map() -> None:
    owner = {"superuser": "postgres", "superuser_os_user": "pg"}
    assert words(hba.model_rules((), major=15, **owner)) == [
        "local all postgres peer map=pooled",
        "local replication postgres peer map=pooled",
    ]
    lines = hba.ident_lines(pooler_role="pgbouncer_auth", pooler_os_user="bouncer", **owner)
    assert [" ".join(line.line().split()) for line in lines] == [
        "pooled pg postgres",
        "pooled bouncer pgbouncer_auth",
        # Who is the superuser anyway: so PgBouncer can get another OS user while it is in use.
        "pooled pg pgbouncer_auth",
    ]


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
    assert hba.quoted(name, major) == expected


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=63))
def test_a_quoted_name_is_one_token(name: str) -> None:
    assert hba.tokens(f"local  {hba.quoted(name)}  peer # c") == [
        "local",
        hba.quoted(name),
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
    (rule,) = hba.checked([entry]).rules
    assert words((rule,)) == [expected]


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
        hba.checked(rules)
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
        hba.checked([], networks)
    assert str(error.value) == message


def test_networks_once_and_in_normal_form() -> None:
    checked = hba.checked([], ["10.0.0.5", "10.0.0.5/32", "2001:DB8::/32"], ["10.1.0.0/16"])
    assert checked.client_networks == ("10.0.0.5/32", "2001:db8::/32")
    assert checked.pooler_networks == ("10.1.0.0/16",)


def test_warnings() -> None:
    checked = hba.checked([{**HOST, "method": "md5"}], ["0.0.0.0/0"])
    assert checked.warnings == (
        "postgres_client_networks: 0.0.0.0/0 is every address there is; name the networks of the"
        " clients",
        "postgres_hba[0]: method md5 also takes passwords that are stored as MD5 hashes, which"
        " Postgres has deprecated; scram-sha-256 does not",
    )


ONE = (Rule("local", ("mydb",), ("app_user",), "", "scram-sha-256"),)
LINE = ONE[0].line()
BLOCK = f"{BLOCK_BEGIN}\n{LINE}\n{BLOCK_END}\n"
WHOLE = f"{FILE_HEADER}\n{BLOCK}"
OTHERS = "# theirs\nhost  legacy  legacy  10.0.0.0/8  md5\n"

TEXTS = [
    pytest.param(PACKAGED, True, WHOLE, id="whole-over-packaged"),
    pytest.param(WHOLE + "host all all all trust\n", True, WHOLE, id="whole-mends-additions"),
    pytest.param(WHOLE, True, WHOLE, id="whole-is-stable"),
    pytest.param(OTHERS, False, BLOCK + OTHERS, id="block-before-others"),
    pytest.param(BLOCK + OTHERS, False, BLOCK + OTHERS, id="block-is-stable"),
    pytest.param(
        f"{OTHERS}{BLOCK_BEGIN}\nlocal all all trust\n{BLOCK_END}\n",
        False,
        BLOCK + OTHERS,
        id="block-mended-and-moved-up",
    ),
    pytest.param(WHOLE, False, BLOCK, id="whole-given-up"),
    pytest.param(
        f"{WHOLE}{hba.KEPT_HEADER}\n{OTHERS}", False, BLOCK + OTHERS, id="whole-with-kept-given-up"
    ),
    pytest.param(BLOCK_END + "\n" + OTHERS, False, BLOCK + OTHERS, id="stray-end"),
    pytest.param("", False, BLOCK, id="no-file"),
]


@pytest.mark.parametrize(("existing", "whole", "expected"), TEXTS)
def test_hba_text(existing: str, whole: bool, expected: str) -> None:
    assert hba.hba_text(existing, ONE, whole) == expected


def test_a_block_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError) as error:
        hba.hba_text(f"{OTHERS}{BLOCK_BEGIN}\n{LINE}\n", ONE, False)
    assert str(error.value) == (
        "pg_hba.conf: line 3 says '# BEGIN pooled.postgres', but no line below it says"
        " '# END pooled.postgres', so that managed lines can't be told from unmanaged ones; put"
        " that line back below the managed ones"
    )


IDENT = hba.ident_lines(pooler_role="pgbouncer_auth")
IDENT_BLOCK = f"{BLOCK_BEGIN}\n{IDENT[0].line()}\n{BLOCK_END}\n"
IDENT_TEXTS = [
    ("# comment\n", "# comment\n" + IDENT_BLOCK),
    ("mymap  a  b", "mymap  a  b\n" + IDENT_BLOCK),
    (IDENT_BLOCK + "mymap a b\n", "mymap a b\n" + IDENT_BLOCK),
    ("pooled  evil  pgbouncer_auth\n", IDENT_BLOCK),
    ('"pooled"  evil  pgbouncer_auth\n', IDENT_BLOCK),
]


@pytest.mark.parametrize(("existing", "expected"), IDENT_TEXTS)
def test_ident_text(existing: str, expected: str) -> None:
    assert hba.ident_text(existing, IDENT) == expected
    assert hba.ident_text(expected, IDENT) == expected


def test_ident_text_without_a_pooler() -> None:
    assert hba.ident_text("mymap a b\n" + IDENT_BLOCK, ()) == "mymap a b\n"


def test_as_packaged() -> None:
    assert hba.is_as_packaged(PACKAGED)
    assert hba.is_as_packaged(PACKAGED.replace("scram-sha-256", "md5"))
    assert not hba.is_as_packaged(PACKAGED + "host all all 10.0.0.0/8 scram-sha-256\n")
    assert not hba.is_as_packaged("")
    assert hba.is_ours(WHOLE)
    assert not hba.is_ours(BLOCK)


def test_shown_change() -> None:
    assert hba.shown_change(PACKAGED, WHOLE) == {
        "before": "\n".join(hba.PACKAGE_RULES) + "\n",
        "after": WHOLE,
    }
    assert hba.shown_change("# only comments\n", "# only comments\n" + IDENT_BLOCK) == {
        "before": "",
        "after": IDENT_BLOCK,
    }
    assert hba.shown_change(OTHERS, BLOCK + OTHERS) == {"before": OTHERS, "after": BLOCK + OTHERS}


def test_unsafe_lines() -> None:
    text = "# host all all all trust\nhost all all all trust\nlocal trust trust peer\n"
    assert hba.unsafe_lines("include a b trust\n") == ()
    assert hba.unsafe_lines(text + "host a b 10.0.0.0/8 password x=1\n") == (
        "line 2 has method trust, which lets everybody in without a password:"
        " host all all all trust",
        "line 4 has method password, which sends passwords in plain text:"
        " host a b 10.0.0.0/8 password x=1",
    )


# A line below our block, and whether it stays when database theirs and roles their and "+x y" are
# those of others.
KEPT = [
    ("host theirs their 10.0.0.0/8 scram-sha-256", True),
    ("hostssl  theirs\ttheir  all  trust  # a comment", True),
    ('host "theirs" "+x y",their 10.0.0.0/8 md5', True),
    ("host theirs, theirs their, their 10.0.0.0/8 md5", True),
    ("local theirs their peer", True),
    ("host theirs all 10.0.0.0/8 scram-sha-256", True),
    ("host theirs all 10.0.0.0/8 reject", True),
    ("local theirs all scram-sha-256", True),
    ("host theirs all 10.0.0.0/8 trust", False),
    ("host theirs their,all 10.0.0.0 255.0.0.0 password", False),
    ("local theirs all peer", False),
    ('host theirs "all" 10.0.0.0/8 scram-sha-256', False),
    ("host all all 0.0.0.0/0 trust", False),
    ("host all their 10.0.0.0/8 scram-sha-256", False),
    ("host mydb their 10.0.0.0/8 scram-sha-256", False),
    ("host theirs,mydb their 10.0.0.0/8 scram-sha-256", False),
    ("host theirs app_user 10.0.0.0/8 scram-sha-256", False),
    ("host theirs +their 10.0.0.0/8 scram-sha-256", False),
    ("host theirs /their 10.0.0.0/8 scram-sha-256", False),
    ("host replication their 10.0.0.0/8 scram-sha-256", False),
    ("host sameuser their 10.0.0.0/8 scram-sha-256", False),
    ("host theirs their 10.0.0.0/8 \\", False),
    ("host @theirs their 10.0.0.0/8 md5", False),
    ("host theirs", False),
    ('host theirs their"their" 10.0.0.0/8 md5', False),
    ("host theirs ,their 10.0.0.0/8 md5", False),
    ("host theirs their, 10.0.0.0/8 md5", False),
    # What it brings is judged by what the server reads: see below.
    ("include theirs", True),
    ("  include_dir hba.d  # theirs", True),
    ("include_if_exists theirs", True),
    ("included theirs", False),
    ('"include" theirs', False),
    ("# host theirs their 10.0.0.0/8 md5", False),
]


@pytest.mark.parametrize(("line", "kept"), KEPT)
def test_lines_for_what_only_others_have(line: str, kept: bool) -> None:
    lines = hba.unmanaged_lines(WHOLE + line + "\n", ["theirs", "/x"], ["their", "+x y"])
    assert lines == ((line,) if kept else ())
    text = hba.hba_text(WHOLE, ONE, True, lines)
    assert text.startswith(WHOLE)
    assert text.splitlines()[len(WHOLE.splitlines()) :] == ([hba.KEPT_HEADER, line] if kept else [])
    again = hba.unmanaged_lines(text, ["theirs"], ["their", "+x y"])
    assert hba.hba_text(text, ONE, True, again) == text
    assert hba.unmanaged_lines(text, [], []) == hba.include_lines(text)


def test_others() -> None:
    names = ["app_user", "mydb", "legacy", "pgbouncer_auth"]
    assert hba.unmanaged(MODEL, names, ["pgbouncer_auth"]) == ["legacy"]


def test_a_role_that_shall_go_may_log_in_nowhere_and_is_nobody_else_s() -> None:
    roles = [{"name": "app_user", "kind": "user"}, {"name": "legacy", "state": "absent"}]
    databases = parse_databases([{"name": "mydb", "roles": roles}])
    assert "legacy" not in " ".join(words(hba.model_rules(databases, major=15)))
    assert hba.unmanaged(databases, ["app_user", "legacy", "mydb"], []) == []


def test_columns_are_as_wide_as_they_need_to_be_but_for_very_long_lists() -> None:
    many = tuple(f"application_{number}" for number in range(6))
    rules = (
        Rule("local", ("mydb",), ("a", "somewhat_longer"), "", "peer", ("map=pooled",)),
        Rule("host", ("mydb",), ("a",), "10.0.0.0/8", "scram-sha-256"),
        Rule("host", ("mydb",), many, "10.0.0.0/8", "scram-sha-256"),
    )
    assert hba.aligned(rules) == [
        "local mydb a,somewhat_longer            peer map=pooled",
        "host  mydb a                 10.0.0.0/8 scram-sha-256",
        f"host  mydb {','.join(many)} 10.0.0.0/8 scram-sha-256",
    ]


def test_shown_change_leaves_out_what_is_only_aligned_otherwise() -> None:
    before = "host mydb a 10.0.0.0/8 scram-sha-256\nhost mydb b 10.0.0.0/8 scram-sha-256\n"
    after = (
        "host mydb   a   10.0.0.0/8 scram-sha-256\nhost mydb   longer 10.0.0.0/8 scram-sha-256\n"
    )
    shown = hba.shown_change(before, after)
    assert shown == {
        "before": after.splitlines(keepends=True)[0] + before.splitlines(keepends=True)[1],
        "after": after,
    }
    spaced = before.replace(" ", "  ")
    assert hba.shown_change(before, spaced) == {"before": before, "after": spaced}


def test_what_others_lines_name() -> None:
    text = f"{WHOLE}host one,two  a,+group 10.0.0.0/8 md5\nlocal all b peer\nnonsense\n"
    databases, roles = hba.named_by_unmanaged_lines(text)
    assert (sorted(databases), sorted(roles)) == (["one", "two"], ["a", "b"])


# (what an included rule lets in, whether a managed file can have it)
INCLUDED = [
    (("theirs",), ("their",), "trust", "", True),
    (("theirs",), ("all",), "scram-sha-256", "", True),
    (("theirs",), ("all",), "reject", "", True),
    (("theirs",), ("all",), "trust", "", False),
    (("theirs",), ("all", "their"), "scram-sha-256", "", False),
    (("theirs", "mydb"), ("their",), "scram-sha-256", "", False),
    (("theirs",), ("their", "app_user"), "scram-sha-256", "", False),
    (("all",), ("their",), "scram-sha-256", "", False),
    (("theirs",), ("+their",), "scram-sha-256", "", False),
    (("/^their",), ("their",), "scram-sha-256", "", False),
    (("@file",), ("their",), "scram-sha-256", "", False),
    (("replication",), ("their",), "scram-sha-256", "", False),
    ((), (), "", "authentication option not allowed", False),
]


@pytest.mark.parametrize(("databases", "users", "method", "error", "kept"), INCLUDED)
def test_what_an_included_file_may_say(
    databases: tuple[str, ...], users: tuple[str, ...], method: str, error: str, kept: bool
) -> None:
    rule = hba.IncludedRule("/d/x.conf", 3, "host", databases, users, method, error)
    # Names that mean more than themselves do so whoever has them.
    names = ["theirs", "all", "+their", "/^their", "@file", "replication"]
    found = hba.decided_by_the_model([rule], names, ["their", "+their"])
    assert found == (() if kept else (rule,))
    assert str(rule).startswith("/d/x.conf line 3: ")
    assert str(rule).endswith(error or f" ... {method}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("pooled a b\n# include other\n", False),
        ("pooled include b\n", False),
        ("pooled a b\ninclude_if_exists other", True),
        ("  include_dir maps.d\n", True),
    ],
)
def test_files_of_others_are_noticed(text, expected):
    assert hba.has_includes(text) is expected
