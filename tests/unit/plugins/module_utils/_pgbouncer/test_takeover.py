# Copyright: (c) 2026, pooled.postgres contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an unmanaged PgBouncer would lose."""

from __future__ import annotations

import json

import pytest

from ansible_collections.pooled.postgres.plugins.module_utils._pgbouncer import (
    defaults,
    ini,
    secrets,
    takeover,
)

PATH = "/etc/pgbouncer/pgbouncer.ini"
USERLIST = "/etc/pgbouncer/userlist.txt"
VERSION = (1, 24, 1)
# What is not a comment in the file of Debian's packages of 1.18 and 1.24.
PACKAGED = """\
;; database name = connect string
[databases]
;foodb =
;* = host=testserver
[users]
;user1 = pool_mode=transaction max_user_connections=10
[pgbouncer]
logfile = /var/log/postgresql/pgbouncer.log
pidfile = /var/run/postgresql/pgbouncer.pid
listen_addr = localhost
listen_port = 6432
unix_socket_dir = /var/run/postgresql
;auth_type = trust
auth_type = md5
auth_file = /etc/pgbouncer/userlist.txt
;%include filename
"""
# Of every kind, with secrets that must not be shown.
USED = """\
%include extra.ini
[databases]
legacydb = host=10.1.2.3 port=5433 user=batch password='s3cret one'
mydb = host=localhost dbname=mydb pool_size=5 reserve_pool=2 connect_query='SET app.key=s3cret2'
* = host=10.1.2.3
%include /etc/pgbouncer/more-databases.ini
%include /etc/pgbouncer/unreadable.ini
[users]
batch = pool_mode=session
app_user = max_user_connections=7
[peers]
2 = host=/run/pgbouncer-2
[pgbouncer]
listen_addr = *
listen_port=6432
auth_type = hba
auth_hba_file = /etc/pgbouncer/hba.conf
auth_file = /etc/pgbouncer/users.txt
auth_ldap_options = ldapserver=x ldapbindpasswd=s3cret3
admin_users = dba
server_reset_query = DISCARD ALL
"""
OTHERS = {
    "extra.ini": "[pgbouncer]\nquery_timeout = 9\n",
    "/etc/pgbouncer/more-databases.ini": "included = host=localhost\n",
    "/etc/pgbouncer/unreadable.ini": None,
    "/etc/pgbouncer/users.txt": '"dba" "s3cret4"\n"app_user" "md5s3cret5"\n"pgbouncer" "x"\n',
    USERLIST: "",
}
DATABASES = {"mydb": {"host": "/var/run/postgresql", "port": "5432", "dbname": "mydb"}}


def found(text: str) -> takeover.Unmanaged | None:
    return takeover.found(PATH, text, OTHERS.get, USERLIST)


def lost(
    unmanaged: takeover.Unmanaged,
    databases: dict[str, dict[str, str]] | None = None,
    **options: str | None,
) -> list[str]:
    return takeover.losses(
        unmanaged,
        options=defaults.effective_options(
            options, VERSION, [], auth="query", auth_role="pgbouncer_auth"
        ),
        databases=DATABASES if databases is None else databases,
        users={"app_user": {}},
        roles=["app_user"],
        auth_role="pgbouncer_auth",
        version=VERSION,
    )


LOST = [
    "file extra.ini, which it includes",
    "file /etc/pgbouncer/more-databases.ini, which it includes",
    "file /etc/pgbouncer/unreadable.ini, which it includes",
    "file /etc/pgbouncer/unreadable.ini, which can't be read",
    "database legacydb",
    "database mydb: pool_size 5",
    "database mydb: reserve_pool_size 2",
    "database mydb: connect_query",
    "database *, which is every database that has no entry of its own",
    "database included",
    "user batch with pool_mode",
    "user app_user: max_user_connections 7",
    "peer 2",
    "option admin_users dba",
    "option auth_hba_file /etc/pgbouncer/hba.conf",
    "option auth_ldap_options",
    "option auth_type hba (becomes scram-sha-256)",
    "option listen_addr * (becomes 0.0.0.0)",
    "option pool_mode session (becomes transaction)",
    "option query_timeout 9",
    "user dba of /etc/pgbouncer/users.txt",
]


def test_everything_that_would_go_is_named_and_no_secret():
    unmanaged = found(USED)
    assert unmanaged is not None
    assert not unmanaged.is_bare
    lines = lost(unmanaged)
    assert lines == LOST
    texts = (
        json.dumps(unmanaged.as_fact()),
        takeover.refusal(unmanaged, lines),
        takeover.warning(unmanaged, lines, [f"{PATH}.before-pooled"]),
    )
    for text in texts:
        assert "s3cret" not in text
        assert "legacydb" in text
    again = takeover.from_fact(json.loads(texts[0]))
    assert again == unmanaged
    assert lost(again) == LOST


@pytest.mark.parametrize(
    "text",
    [
        PACKAGED,
        "",
        "[nonsense",
        # What PgBouncer makes of it is the same.
        PACKAGED.replace(";", "#") + "\n\n[databases]\n",
    ],
)
def test_what_the_package_installs_has_nothing_to_lose(text):
    unmanaged = found(text)
    assert unmanaged is not None
    assert unmanaged.is_bare
    assert lost(unmanaged) == []


@pytest.mark.parametrize(
    ("line", "loss"),
    [
        ("max_client_conn = 300", "option max_client_conn 300 (becomes 10000)"),
        ("listen_addr = 127.0.0.1", "option listen_addr 127.0.0.1 (becomes 0.0.0.0)"),
        ("stats_users = watcher", "option stats_users watcher"),
    ],
)
def test_an_option_that_somebody_set_is_named_without_any_database(line, loss):
    unmanaged = found(PACKAGED + line + "\n")
    assert unmanaged is not None
    assert not unmanaged.is_bare
    assert lost(unmanaged) == [loss]


def test_what_is_in_use_changes_with_the_packages_values_too():
    unmanaged = found(PACKAGED.replace(";foodb =", "mydb = host=127.0.0.1"))
    assert unmanaged is not None
    assert lost(unmanaged) == [
        "option auth_type md5 (becomes scram-sha-256)",
        "option listen_addr localhost (becomes 0.0.0.0)",
        "option pool_mode session (becomes transaction)",
    ]
    kept = {"auth_type": "md5", "listen_addr": "localhost", "pool_mode": "session"}
    assert lost(unmanaged, **kept) == []


def test_what_the_inventory_has_is_not_lost():
    unmanaged = found(USED.replace("auth_ldap_options", ";").replace("%include", ";"))
    assert unmanaged is not None
    entry = {"host": "10.1.2.3", "port": "5433", "dbname": "legacydb"}
    mine = {**DATABASES["mydb"], "pool_size": "5", "reserve_pool": "2"}
    lines = lost(
        unmanaged,
        {"legacydb": entry, "mydb": mine},
        auth_type="hba",
        auth_hba_file="/etc/pgbouncer/hba.conf",
        auth_file="/etc/pgbouncer/users.txt",
        listen_addr="*",
        admin_users="dba",
        pool_mode="session",
    )
    assert lines == [
        "database legacydb: user batch",
        "database legacydb: password",
        "database mydb: connect_query",
        "database *, which is every database that has no entry of its own",
        "user batch with pool_mode",
        "user app_user: max_user_connections 7",
        "peer 2",
    ]


def test_files_of_this_collection_are_known_by_their_header():
    ours = ini.render_ini({"auth_file": USERLIST}, {"legacydb": {"host": "x"}}, {}, [])
    assert found(ours) is None
    assert found("# See the wiki before you touch this.\n" + ours) is None
    assert found(f"[databases]\n{ours}") is not None
    # One that is read for the first time may be somebody's.
    other = takeover.found(PATH, ours, OTHERS.get, "/etc/pgbouncer/users.txt")
    assert other is not None
    assert lost(other) == ["user dba of /etc/pgbouncer/users.txt"]
    # But not one that an earlier run wrote, with users that have left the model since.
    secret = secrets.random_secret()
    mine = ini.render_userlist({"pgbouncer": secret, "left": secret})
    assert lost(takeover.found(PATH, ours, lambda _path: mine, "/old.txt")) == []


def test_a_copy_has_a_name_of_its_own_beside_the_file():
    names = list(takeover.copy_names(PATH))
    assert names[:3] == [
        f"{PATH}.before-pooled",
        f"{PATH}.before-pooled-2",
        f"{PATH}.before-pooled-3",
    ]
    assert len(set(names)) == len(names)


def test_included_files_end_somewhere():
    parsed = ini.parsed("[databases]\n%include a\n", lambda _path: "%include a\nx = host=y\n")
    assert parsed.sections == {"databases": {"x": "host=y"}}
    assert parsed.included == ("a",)


def test_entries_are_read_as_pgbouncer_reads_them():
    text = "[databases]\n\"a \"\"b\" = host = h  password='it''s host=evil'\nc=\n; d = x\n"
    entries = ini.parsed(text, lambda _path: None).sections["databases"]
    assert {name: ini.parameters_in(value) for name, value in entries.items()} == {
        'a "b': {"host": "h", "password": "it's host=evil"},
        "c": {},
    }
